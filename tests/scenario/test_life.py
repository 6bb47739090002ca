"""The life of the process: start, reload, signals, control socket, log."""

import contextlib
import json
import os
import re
import socket
import stat
import threading
import unittest

from tests.scenario.harness import SIGHUP, SIGINT, SIGTERM, Peer, Scenario, table, until


class Start(Scenario):
    def test_error_is_fatal_before_any_connection(self):
        server = self.server()
        proxy = self.connpipe(table({"tcp:$4:0": "echo:", server.address: "echo:"}), wait=False)
        self.assertEqual(proxy.wait(), 1)
        self.assertIn(server.address, proxy.log())

    def test_broken_configuration(self):
        proxy = self.connpipe("[t]\ntype = 'tabel'\n", wait=False)
        self.assertEqual(proxy.wait(), 1)
        self.assertRegex(proxy.log(), r"config\.toml:2:\d+: .*tabel.*table")

    def test_second_process_on_the_same_address_is_refused(self):
        first = self.connpipe(table({"tcp:$4:0": "echo:"}))
        address = "tcp:127.0.0.1:%d" % first.port()
        second = self.connpipe(table({address: "echo:"}), wait=False)
        self.assertEqual(second.wait(), 1)
        self.assertRegex(second.log(), re.escape(address))


class Stop(Scenario):
    def start(self, drain):
        proxy = self.connpipe(table({"tcp:$4:0": "echo:"}, timeouts='drain = "%s"' % drain))
        port = proxy.port()
        client = self.client(port)
        client.send(b"x")
        client.expect(b"x")
        return proxy, port, client

    def test_without_drain_everything_is_closed_at_once(self):
        proxy, _, client = self.start("0s")
        proxy.signal(SIGTERM)
        client.expect_reset()
        self.assertEqual(proxy.wait(), 0)
        self.assertRegex(proxy.log(), r"closed: .* shutdown")

    def test_drain_lets_connections_end(self):
        proxy, port, client = self.start("10m")
        proxy.signal(SIGINT)
        until(lambda: not accepts(port))
        client.send(b"goes on")
        client.expect(b"goes on")
        client.shutdown()
        client.expect_end()
        self.assertEqual(proxy.wait(), 0)

    def test_drain_ends(self):
        proxy, _, client = self.start("200ms")
        proxy.signal(SIGTERM)
        client.expect_reset()
        self.assertEqual(proxy.wait(), 0)

    def test_second_signal_ends_at_once(self):
        proxy, port, client = self.start("10m")
        proxy.signal(SIGTERM)
        until(lambda: not accepts(port))
        proxy.signal(SIGTERM)
        client.expect_closed()
        proxy.wait()

    def test_drain_by_ctl(self):
        proxy, port, client = self.start("0s")
        self.assertEqual(self.program("--config", proxy.directory, "ctl", "drain").returncode, 0)
        until(lambda: not accepts(port))
        client.send(b"goes on")
        client.expect(b"goes on")
        client.close()
        self.assertEqual(proxy.wait(), 0)

    def test_socket_file_is_removed(self):
        proxy, _, _ = self.start("0s")
        path = os.path.join(proxy.directory, "run", "admin.sock")
        self.assertTrue(os.path.exists(path))
        proxy.signal(SIGTERM)
        proxy.wait()
        self.assertFalse(os.path.exists(path))


def accepts(port):
    # refused; or reset, when it came into the queue of a socket that was about to be closed
    with contextlib.suppress(ConnectionRefusedError, ConnectionResetError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


class Reload(Scenario):
    def setUp(self):
        self.old, self.new = self.server(), self.server()
        self.proxy = self.connpipe(self.to(self.old))
        self.port = self.proxy.port()

    def to(self, server, more=""):
        return table({"tcp:$4:0": server.address}) + more

    def ctl(self, *words):
        return self.program("--config", self.proxy.directory, "ctl", *words)

    def connect(self, server):
        client = self.client(self.port)
        target = self.accept(server)
        client.send(b"x")
        target.expect(b"x")
        return client, target

    def test_new_connections_go_the_new_way_old_ones_go_on(self):
        client, target = self.connect(self.old)
        self.proxy.configure(self.to(self.new))
        result = self.ctl("reload")
        self.assertEqual((result.returncode, result.stdout), (0, "ok: generation 2 is in use\n"))
        self.connect(self.new)
        target.send(b"still")
        client.expect(b"still")
        self.assertEqual(self.proxy.port(), self.port)

    def test_by_signal(self):
        self.proxy.configure(self.to(self.new))
        self.proxy.signal(SIGHUP)
        self.proxy.wait_generation()
        self.connect(self.new)

    def test_broken_configuration_changes_nothing(self):
        client, target = self.connect(self.old)
        self.proxy.configure(self.to(self.new, '"tpc:$4:1" = "echo:"\n"tcp:$4:2" = "ecco:"\n'))
        result = self.ctl("reload")
        self.assertEqual((result.returncode, result.stdout), (1, ""))
        self.assertRegex(result.stderr, r"(?m)^connpipe: .*config\.toml:\d+:\d+: .*tpc")
        self.assertRegex(result.stderr, r"(?m)^connpipe: .*config\.toml:\d+:\d+: .*ecco")
        self.proxy.wait_log(r"ERROR .*generation 1 stays in use")
        self.connect(self.old)
        target.send(b"still")
        client.expect(b"still")
        status = self.proxy.ask("status")
        self.assertEqual((status["generation"], status["reloads"]["failed"]), (1, 1))
        self.assertRegex(status["reloads"]["last_error"], "tpc")

    def test_configuration_that_is_gone(self):
        os.remove(os.path.join(self.proxy.directory, "config.toml"))
        self.assertEqual(self.ctl("reload").returncode, 1)
        self.assertEqual(self.ctl("status").returncode, 0)
        self.connect(self.old)

    def test_addresses_come_and_go(self):
        self.proxy.configure(table({"tcp:127.0.0.2:0": self.new.address}))
        self.assertEqual(self.ctl("reload").returncode, 0)
        until(lambda: not accepts(self.port))
        self.client(self.proxy.port("127.0.0.2"), host="127.0.0.2")
        self.accept(self.new)

    def test_address_that_cannot_be_bound_changes_nothing(self):
        self.proxy.configure(self.to(self.new, '"%s" = "echo:"\n' % self.old.address))
        result = self.ctl("reload")
        self.assertEqual(result.returncode, 1)
        self.assertIn(self.old.address, result.stderr)
        self.connect(self.old)

    def test_no_connection_is_lost_under_load(self):
        self.proxy.configure(table({"tcp:$4:0": "echo:"}))
        self.ctl("reload")
        stop, served, errors = threading.Event(), [0], []

        def load():
            while not stop.is_set():
                try:
                    peer = Peer.connect(self.port)
                    peer.send(b"x")
                    peer.expect(b"x")
                    peer.close()
                    served[0] += 1
                except (OSError, AssertionError) as error:
                    errors.append(error)

        thread = threading.Thread(target=load)
        thread.start()
        try:
            for _ in range(20):
                before = served[0]
                self.assertTrue(self.proxy.ask("reload")["ok"])
                until(lambda: served[0] > before or errors)
        finally:
            stop.set()
            thread.join()
        self.assertEqual(errors, [])

    def test_old_generations_go_away(self):
        self.connect(self.old)
        for _ in range(3):
            self.assertTrue(self.proxy.ask("reload")["ok"])
        until(lambda: self.proxy.ask("status").get("pinned") == [])


class Ctl(Scenario):
    def setUp(self):
        self.proxy = self.connpipe(table({"tcp:$4:0!a": "echo:", "tcp:$4:0": "echo:"}, "workers = 2"))
        self.client_end = self.client(self.proxy.port())
        self.client_end.send(b"hello")
        self.client_end.expect(b"hello")

    def ctl(self, *words):
        return self.program("--config", self.proxy.directory, "ctl", *words)

    def test_status(self):
        result = self.ctl("status")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        port = self.proxy.port()
        self.assertRegex(result.stdout, r"^connpipe \d.*, pid %d, up .*, generation 1, 1 connections open\n"
                         % self.proxy.process.pid)
        self.assertRegex(result.stdout, r"(?m)^  tcp:127\.0\.0\.1:0 +tcp:127\.0\.0\.1:%d  2 workers$" % port)

    def test_status_as_json(self):
        status = json.loads(self.ctl("status", "--json").stdout)
        self.assertEqual((status["ok"], status["generation"], status["connections"]), (True, 1, 1))
        self.assertEqual(len(status["workers"]), 2)

    def test_pipes_and_kill(self):
        pipes = json.loads(self.ctl("--json", "pipes").stdout)["pipes"]
        self.assertEqual([(p["target"], p["in_bytes"], p["out_bytes"], p["router"]) for p in pipes],
                         [("echo:", 5, 5, "t")])
        self.assertRegex(self.ctl("pipes").stdout, r"(?m)^ID .* TARGET\n%d .* 5 B +5 B .*echo:$" % pipes[0]["id"])
        self.assertEqual(self.ctl("kill", str(pipes[0]["id"])).returncode, 0)
        self.client_end.expect_reset()
        self.assertIn("killed", self.proxy.wait_closed())
        gone = self.ctl("kill", str(pipes[0]["id"]))
        self.assertEqual(gone.returncode, 1)
        self.assertRegex(gone.stderr, r"^connpipe: .*%d" % pipes[0]["id"])

    def test_log_level(self):
        self.assertRegex(self.ctl("log", "debug").stdout, r"(?i)^ok: log level debug\n$")
        self.client(self.proxy.port()).close()
        self.proxy.wait_log(r" DEBUG pipe/\d+\] ")
        self.assertEqual(self.ctl("log", "error").returncode, 0)
        before = self.proxy.log().count("opened:")
        silent = self.client(self.proxy.port())
        silent.send(b"x")
        silent.expect(b"x")
        self.assertEqual(self.ctl("log", "info").returncode, 0)
        loud = self.client(self.proxy.port())
        loud.send(b"x")
        self.proxy.wait_log(r"opened:", before + 1)
        self.assertEqual(self.proxy.log().count("opened:"), before + 1)

    def test_socket_is_for_its_user_only(self):
        path = os.path.join(self.proxy.directory, "run", "admin.sock")
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)

    def test_nothing_runs_there(self):
        directory = self.directory()
        result = self.program("--config", directory, "ctl", "status")
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, r"^connpipe: .*%s/run/admin\.sock.*\n$" % re.escape(directory))

    def test_second_process_does_not_take_the_socket(self):
        path = os.path.join(self.proxy.directory, "run", "admin.sock")
        other = self.connpipe(table({"tcp:$4:0": "echo:"}, 'admin = "unix:%s"' % path))
        other.wait_log("WARN .*control socket")
        self.assertEqual(self.proxy.ask("status")["pid"], self.proxy.process.pid)


class Log(Scenario):
    def test_hangup_opens_the_file_again(self):
        proxy = self.connpipe(table({"tcp:$4:0": "echo:"}, 'log = { file = "a.log" }'), wait=False)
        path = os.path.join(proxy.directory, "a.log")

        def text():
            with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as file:
                return file.read()
            return ""

        until(lambda: "generation 1 is in use" in text())
        os.rename(path, path + ".1")
        proxy.signal(SIGHUP)
        until(lambda: "generation 2 is in use" in text())

    def test_json_lines(self):
        proxy = self.connpipe(table({"tcp:$4:0": "echo:"}, 'log = { format = "json" }'))
        self.client(proxy.port()).close()
        proxy.wait_log("closed")
        for line in proxy.log().splitlines():
            self.assertIsInstance(json.loads(line), dict)


if __name__ == "__main__":
    unittest.main()
