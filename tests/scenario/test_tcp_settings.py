"""[connpipe.tcp]: options of sockets, looked at in the running proxy, and changed by reloads. What each one does to a
socket is tested by unit_core (core_tcp_options, core_tcp_settings)."""

import contextlib
import ctypes
import os
import re
import socket
import unittest

from tests.scenario.harness import Scenario, table, until

PIDFD_OPEN, PIDFD_GETFD = 434, 438  # the same on all architectures
BULK, PIECE = 64 * 1024 * 1024, 1024 * 1024


def usual_congestion():
    with socket.socket() as probe:
        return probe.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).split(b"\0")[0].decode()


def another_congestion():
    """One that everybody may use, or that root may."""
    return "cubic" if usual_congestion() == "reno" else "reno"


class Settings(Scenario):
    ROUTES = {"tcp:$4:0": "echo:"}

    def config(self, settings, routes=None, process=""):
        return table(routes or self.ROUTES, process) + "[connpipe.tcp]\n" + settings + "\n"

    def sockets(self, proxy):
        """Copies of the TCP sockets of the proxy, as long as the test runs."""
        libc = ctypes.CDLL(None, use_errno=True)
        pidfd = libc.syscall(PIDFD_OPEN, proxy.process.pid, 0)
        self.assertGreaterEqual(pidfd, 0)
        found = []
        with open(pidfd, "rb", closefd=True):
            for name in os.listdir("/proc/%d/fd" % proxy.process.pid):
                fd = libc.syscall(PIDFD_GETFD, pidfd, int(name), 0)
                if fd < 0 and ctypes.get_errno() == 1:
                    self.skipTest("needs the right to look at another process (pidfd_getfd)")
                if fd < 0:
                    continue  # closed meanwhile
                try:
                    sock = socket.socket(fileno=fd)
                except OSError:
                    os.close(fd)
                    continue
                self.addCleanup(sock.close)
                if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM:
                    found.append(sock)
        return found

    def listeners(self, proxy):
        return [sock for sock in self.sockets(proxy) if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)]

    def connections(self, proxy, peer_port):
        """The proxy's sockets that are connected to this port."""
        found = []
        for sock in self.sockets(proxy):
            with contextlib.suppress(OSError):
                if sock.getpeername()[1] == peer_port:
                    found.append(sock)
        return found

    def tcp(self, sock, name):
        return sock.getsockopt(socket.IPPROTO_TCP, name)

    def congestion(self, sock):
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).split(b"\0")[0].decode()

    def keepalive(self, sock):
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)

    def echo(self, port):
        client = self.client(port)
        client.send(b"x")
        client.expect(b"x")
        return client


class Errors(Settings):
    def check(self, settings):
        directory = self.directory()
        with open(os.path.join(directory, "config.toml"), "w", encoding="utf-8") as file:
            file.write(settings)
        return self.program("--config", directory, "check")

    def expect(self, settings, *errors):
        result = self.check(settings)
        self.assertEqual(result.returncode, 1, result.stderr)
        for error in errors:
            self.assertIn("config.toml:" + error, result.stderr)
        self.assertEqual(result.stderr.count("config.toml:"), len(errors), result.stderr)

    def test_every_key_is_checked(self):
        self.expect(
            "[connpipe.tcp]\n"
            'congestion = "Reno!"\n'
            'keepalive = { idle = "0.5s", interval = 5 }\n'
            'user_timeuot = "5s"\n'
            "mark = 4294967296\n"
            '[connpipe.tcp.address."tcp:10.0.0.2"]\n'
            '[connpipe.tcp.address."unix:/x"]\n'
            '[connpipe.tcp.address."tcp:10.0.0.2:80"]\n'
            "backlog = 0\n",
            "2:15: ",
            '3:41: expected a duration from "1s" to "32767s", found an integer',
            '4:1: unknown key "user_timeuot", did you mean "user_timeout"?',
            "5:8: expected an integer from 0 to 4294967295",
            "6:36: ",
            '7:24: expected the address of a tcp socket, found one of the connector "unix"',
            "9:11: expected an integer from 1 to 2147483647, found the integer 0",
        )

    def test_the_table_is_a_table(self):
        self.expect("[connpipe]\ntcp = 5\n", "2:7: expected a table, found the integer 5")

    def test_a_name_near_tcp(self):
        self.expect("[connpipe]\ntpc = {}\n", '2:1: unknown key "tpc", did you mean "tcp"?')

    def test_all_keys_at_once_are_fine(self):
        keys = (
            'congestion = "reno"\nkeepalive = { idle = "1m", interval = "10s", count = 3 }\nuser_timeout = "30s"\n'
            'defer_accept = "5s"\nfast_open = 64\nsplice = "off"\nbacklog = 128\nmark = 0\n'
            'bind_source = ["127.0.0.1", "::1"]\n'
        )
        result = self.check('[connpipe.tcp]\n%s[connpipe.tcp.address."tcp:$4:80"]\n%s' % (keys, keys))
        self.assertEqual((result.returncode, result.stderr), (0, ""))

    def test_a_congestion_control_that_the_kernel_lacks_stops_the_start_but_no_check(self):
        config = self.config('congestion = "rena"')
        line = config.splitlines().index('congestion = "rena"') + 1
        self.assertEqual(self.check(config).returncode, 0)
        proxy = self.connpipe(config, wait=False)
        self.assertEqual(proxy.wait(), 1)
        self.assertRegex(proxy.log(), r'config.toml:%d:14: .*no "rena".*did you mean "reno"' % line)


class Listeners(Settings):
    def expect(self, proxy, count, is_set):
        listeners = self.listeners(proxy)
        self.assertEqual(len(listeners), count)
        for sock in listeners:
            self.assertEqual(self.keepalive(sock), is_set)
            self.assertEqual(self.tcp(sock, socket.TCP_DEFER_ACCEPT), 3 if is_set else 0)
            self.assertEqual(self.congestion(sock), another_congestion() if is_set else usual_congestion())

    def test_a_reload_sets_and_takes_back_on_sockets_that_stay(self):
        settings = 'keepalive = "60s"\ndefer_accept = "3s"\ncongestion = "%s"' % another_congestion()
        workers = "workers = 2"
        proxy = self.connpipe(self.config("", process=workers))
        port = proxy.port()
        kept = self.echo(port)
        self.expect(proxy, 2, False)

        proxy.configure(self.config(settings, process=workers))
        self.assertTrue(proxy.ask("reload")["ok"])
        self.assertEqual(proxy.port(), port)
        self.expect(proxy, 2, True)
        new = self.echo(port)
        (served,) = self.connections(proxy, new.socket.getsockname()[1])
        self.assertEqual(self.tcp(served, socket.TCP_KEEPIDLE), 60)
        self.assertEqual(self.keepalive(served), 1)

        proxy.configure(self.config("", process=workers))
        self.assertTrue(proxy.ask("reload")["ok"])
        self.expect(proxy, 2, False)
        new = self.echo(port)
        (served,) = self.connections(proxy, new.socket.getsockname()[1])
        self.assertEqual(self.keepalive(served), 0)
        kept.send(b"y")
        kept.expect(b"y")

    def test_a_refused_reload_changes_nothing(self):
        proxy = self.connpipe(self.config('keepalive = "60s"'))
        proxy.configure(self.config('keepalive = "off"\ncongestion = "rena"'))
        answer = proxy.ask("reload")
        self.assertFalse(answer["ok"])
        self.assertRegex(answer["errors"][0], r'config.toml:\d+:14: .*no "rena"')
        for sock in self.listeners(proxy):
            self.assertEqual(self.keepalive(sock), 1)
        self.echo(proxy.port())

    def test_a_reload_that_fails_later_changes_nothing(self):
        taken = self.server()
        proxy = self.connpipe(self.config(""))
        proxy.configure(self.config('keepalive = "60s"', {**self.ROUTES, taken.address: "echo:"}))
        self.assertFalse(proxy.ask("reload")["ok"])
        self.assertEqual([self.keepalive(sock) for sock in self.listeners(proxy)].count(1), 0)

    def test_one_address_has_its_own(self):
        routes = {"tcp:127.0.0.1:0": "echo:", "tcp:127.0.0.2:0": "echo:"}
        proxy = self.connpipe(self.config('[connpipe.tcp.address."tcp:127.0.0.2:0"]\nkeepalive = "60s"', routes))
        found = {sock.getsockname()[0]: self.keepalive(sock) for sock in self.listeners(proxy)}
        self.assertEqual(found, {"127.0.0.1": 0, "127.0.0.2": 1})

    def test_a_client_that_is_silent_is_not_accepted_yet(self):
        proxy = self.connpipe(self.config('defer_accept = "10s"'))
        silent = self.client(proxy.port())
        self.echo(proxy.port())
        self.assertEqual(len(proxy.ask("pipes")["pipes"]), 1)
        silent.send(b"z")
        silent.expect(b"z")
        self.assertEqual(len(proxy.ask("pipes")["pipes"]), 2)


class Targets(Settings):
    def through(self, proxy, server, host="127.0.0.1"):
        client = self.client(proxy.port(host), host=host)
        target = self.accept(server)
        target.send(b"hello")  # it is there when the proxy's socket is connected and piped
        client.expect(b"hello")
        return client, target

    def target_socket(self, proxy, target):
        (sock,) = self.connections(proxy, target.socket.getsockname()[1])
        return sock

    def test_one_address_has_its_own(self):
        plain, special = self.server(), self.server()
        routes = {"tcp:127.0.0.1:0": plain.address, "tcp:127.0.0.2:0": special.address}
        settings = '[connpipe.tcp.address."%s"]\nuser_timeout = "4321ms"\n' % special.address
        proxy = self.connpipe(self.config(settings, routes))
        _, target = self.through(proxy, plain)
        self.assertEqual(self.tcp(self.target_socket(proxy, target), socket.TCP_USER_TIMEOUT), 0)
        _, target = self.through(proxy, special, "127.0.0.2")
        self.assertEqual(self.tcp(self.target_socket(proxy, target), socket.TCP_USER_TIMEOUT), 4321)

    def test_a_socket_with_options_serves_no_other_address(self):
        """Sockets are used again for other targets: not those that were given options."""
        plain, special = self.server(), self.server()
        routes = {"tcp:127.0.0.1:0": plain.address, "tcp:127.0.0.2:0": special.address}
        settings = '[connpipe.tcp.address."%s"]\nuser_timeout = "4321ms"\n' % special.address
        proxy = self.connpipe(self.config(settings, routes, "workers = 1"))
        for _ in range(3):
            client, target = self.through(proxy, special, "127.0.0.2")
            client.shutdown()
            target.expect_end()
            target.close()
            client.expect_end()
        proxy.wait_closed(3)
        _, target = self.through(proxy, plain)
        self.assertEqual(self.tcp(self.target_socket(proxy, target), socket.TCP_USER_TIMEOUT), 0)

    def test_bind_source(self):
        server = self.server()
        proxy = self.connpipe(self.config('bind_source = "127.0.0.77"', {"tcp:$4:0": server.address}))
        _, target = self.through(proxy, server)
        self.assertEqual(target.socket.getpeername()[0], "127.0.0.77")

    def test_a_source_that_is_not_there_says_so(self):
        server = self.server()
        proxy = self.connpipe(self.config('bind_source = "192.0.2.1"', {"tcp:$4:0": server.address}))
        self.refused(proxy.port())
        self.assertRegex(proxy.wait_closed(), "connect_failed: cannot bind to bind_source: .*192.0.2.1")

    def test_a_reload_changes_new_connections(self):
        server = self.server()
        routes = {"tcp:$4:0": server.address}
        proxy = self.connpipe(self.config("", routes))
        _, before = self.through(proxy, server)
        before = self.target_socket(proxy, before)
        proxy.configure(self.config('user_timeout = "9s"', routes))
        self.assertTrue(proxy.ask("reload")["ok"])
        _, after = self.through(proxy, server)
        found = {self.tcp(s, socket.TCP_USER_TIMEOUT) for s in self.connections(proxy, server.port)}
        self.assertEqual(found, {0, 9000})
        self.assertEqual(self.tcp(before, socket.TCP_USER_TIMEOUT), 0)


class Splice(Settings):
    def pipes(self, proxy):
        """Kernel pipes that the proxy has open."""
        found = set()
        directory = "/proc/%d/fd" % proxy.process.pid
        for name in os.listdir(directory):
            with contextlib.suppress(FileNotFoundError):
                link = os.readlink(os.path.join(directory, name))
                if re.match("pipe:", link):
                    found.add(link)
        return found

    def bulk(self, settings):
        """A client that does not read yet, and a target. Returns what the proxy has open when nothing was sent."""
        server = self.server()
        self.proxy = self.connpipe(self.config(settings, {"tcp:$4:0": server.address}))
        self.reader = self.client(self.proxy.port())
        self.target = self.accept(server)
        self.target.socket.setblocking(False)
        self.proxy.wait_log("opened:")
        return self.pipes(self.proxy)

    def send_some(self):
        """Returns how much the target's kernel took: 0 when all buffers on the way are full."""
        try:
            return self.target.socket.send(bytes(PIECE))
        except BlockingIOError:
            return 0

    def test_auto(self):
        before = self.bulk("")
        until(lambda: not self.send_some() and self.pipes(self.proxy) - before)

    def test_off(self):
        before = self.bulk('splice = "off"')
        sent = got = 0
        while got < BULK:
            taken = self.send_some() if sent < BULK else 0
            sent += taken
            if not taken:  # it is all stuck: the proxy has as much in its hands as it ever has
                got += len(self.reader.receive(PIECE))
            self.assertEqual(self.pipes(self.proxy), before)


if __name__ == "__main__":
    unittest.main()
