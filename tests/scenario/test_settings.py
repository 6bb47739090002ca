"""Settings of [connpipe]: each one takes effect, at the start and by a reload. What other files test is not here:
limits (test_targets), preamble (test_subports), idle and half_close (test_forward), drain and log files (test_life),
handshake (unit_task: it needs a layer)."""

import contextlib
import json
import os
import select
import socket
import unittest

from tests.scenario.harness import PATIENCE, SIGHUP, Scenario, preamble, table, until

SENT = 24 * 1024


class Limits(Scenario):
    def start(self, name, limits):
        self.proxy = self.connpipe(table({"tcp:$4:0!" + name: "echo:"}, limits=limits))
        return self.proxy.port()

    def subport(self, port, name):
        client = self.client(port)
        client.send(preamble(name) + b"x")
        return client

    def test_subport_length_lowers_the_limit(self):
        port = self.start("four", "subport_length = 4")
        self.subport(port, "four").expect(b"x")
        self.subport(port, "fours").expect_closed()
        self.assertIn("malformed_preamble", self.proxy.wait_closed())

    def test_subport_length_raises_the_limit(self):
        name = "n" * 3000
        self.subport(self.start(name, "subport_length = 3000"), name).expect(b"x")

    def test_reload_changes_limits(self):
        routes = {"tcp:$4:0": "echo:"}
        proxy = self.connpipe(table(routes, limits="connections = 1"))
        port = proxy.port()
        first = self.client(port)
        first.send(b"x")
        first.expect(b"x")
        self.refused(port)
        proxy.configure(table(routes, limits="connections = 2"))
        proxy.signal(SIGHUP)
        proxy.wait_generation()
        second = self.client(port)
        second.send(b"y")
        second.expect(b"y")


class Timeouts(Scenario):
    def deaf(self):
        """An address that takes no connection: a queue of one that is full, so the kernel drops SYNs."""
        server = self.keep(socket.create_server(("127.0.0.1", 0), backlog=0), lambda: server.close())
        port = server.getsockname()[1]
        for _ in range(2):
            client = self.keep(socket.socket(), lambda: None)
            self.addCleanup(client.close)
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        return "tcp:127.0.0.1:%d" % port

    def test_connect(self):
        deaf = self.deaf()
        proxy = self.connpipe(table({"tcp:$4:0": deaf}, timeouts='connect = "200ms"'))
        self.refused(proxy.port())
        line = proxy.wait_closed()
        self.assertIn(deaf, line)
        self.assertRegex(line, r"connect_timeout.*200 ms")

    def test_connect_is_for_each_target(self):
        proxy = self.connpipe(table({"tcp:$4:0": [self.deaf(), self.deaf(), "echo:"]}, timeouts='connect = "200ms"'))
        client = self.client(proxy.port())
        client.send(b"third")
        client.expect(b"third")

    def test_preamble_of_none_waits(self):
        proxy = self.connpipe(table({"tcp:$4:0!a": "echo:", "tcp:$4:0": "exec:echo plain"}, timeouts='preamble = "0s"'))
        client = self.client(proxy.port())
        client.expect_silence(0.3)
        client.send(b"\n")
        client.expect(b"plain\n")

    def test_reset_is_not_held_back_longer(self):
        server = self.server()
        proxy = self.connpipe(table({"tcp:$4:0": server.address}, timeouts='reset = "200ms"'))
        client = self.client(proxy.port(), receive_buffer=4096)
        target = self.accept(server)
        proxy.wait_log("opened:")  # the kernel accepts for the target before the proxy knows
        target.send(bytes(SENT))  # more than the client's kernel takes, less than the proxy's
        target.wait_sent()
        target.reset()
        self.assertIn("target_reset", proxy.wait_closed())
        poll = select.poll()
        poll.register(client.socket, 0)  # errors are always told, also to one that does not read
        self.assertTrue(poll.poll(PATIENCE * 1000))
        self.assertLess(len(client.receive_until_reset()), SENT)

    def test_reload_changes_the_idle_time_of_new_connections(self):
        routes = {"tcp:$4:0": "echo:"}
        proxy = self.connpipe(table(routes))
        port = proxy.port()
        proxy.configure(table(routes, timeouts='idle = "100ms"'))
        proxy.signal(SIGHUP)
        proxy.wait_generation()
        self.refused(port)
        self.assertIn("idle_timeout", proxy.wait_closed())


class Log(Scenario):
    ROUTES = {"tcp:$4:0": "echo:"}

    def test_level(self):
        proxy = self.connpipe(table(self.ROUTES, 'log = { level = "warn" }'), wait=False)
        until(lambda: os.path.exists(os.path.join(proxy.directory, "run", "admin.sock")))
        port = until(lambda: proxy.ask("status")["generation"] == 1 and proxy.port())
        self.client(port).close()
        until(lambda: proxy.counter("closed_done") == 1)
        proxy.ask("log", level="info")
        proxy.wait_log("log level is INFO now")  # lines keep their order: what was to come before is there
        self.assertEqual(len(proxy.log().splitlines()), 1)

    def test_more_detail(self):
        proxy = self.connpipe(table(self.ROUTES, 'log = { level = "debug" }'))
        self.client(proxy.port()).close()
        proxy.wait_log(r"DEBUG pipe/\d+\] .* -> piping")

    def test_reload_changes_format_level_and_file(self):
        proxy = self.connpipe(table(self.ROUTES))
        proxy.configure(table(self.ROUTES, 'log = { level = "debug", format = "json", file = "new.log" }'))
        self.assertTrue(proxy.ask("reload")["ok"])
        self.client(proxy.port()).close()

        def lines():
            with contextlib.suppress(FileNotFoundError):
                with open(os.path.join(proxy.directory, "new.log"), encoding="utf-8") as file:
                    return [json.loads(line) for line in file.read().split("\n")[:-1]]
            return []

        until(lambda: any(line["level"] == "DEBUG" for line in lines()))
        until(lambda: any("closed:" in line["message"] for line in lines()))
        self.assertNotIn("closed:", proxy.log())

    def test_file_that_cannot_be_opened_stops_the_start(self):
        proxy = self.connpipe(table(self.ROUTES, 'log = { file = "no/such/directory/log" }'), wait=False)
        self.assertEqual(proxy.wait(), 1)
        self.assertIn("no/such/directory/log", proxy.log())


class Admin(Scenario):
    ROUTES = {"tcp:$4:0": "echo:"}

    def ctl(self, proxy, **options):
        return self.program("--config", proxy.directory, "ctl", "status", **options)

    def test_off(self):
        proxy = self.connpipe(table(self.ROUTES, 'admin = "off"'))
        self.assertFalse(os.path.exists(os.path.join(proxy.directory, "run")))
        result = self.ctl(proxy)
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, r"\Aconnpipe: .*off.*\n\Z")

    def test_elsewhere_and_moved_by_a_reload(self):
        proxy = self.connpipe(table(self.ROUTES, 'admin = "unix:here.sock"'))
        here, there = (os.path.join(proxy.directory, name) for name in ("here.sock", "there/it.sock"))
        self.assertEqual(self.ctl(proxy).returncode, 0)
        os.mkdir(os.path.dirname(there))
        proxy.configure(table(self.ROUTES, 'admin = "unix:there/it.sock"'))
        proxy.signal(SIGHUP)
        proxy.wait_generation()
        self.assertEqual(self.ctl(proxy).returncode, 0)
        self.assertTrue(os.path.exists(there))
        self.assertFalse(os.path.exists(here))

    def test_turned_off_by_a_reload(self):
        proxy = self.connpipe(table(self.ROUTES))
        proxy.configure(table(self.ROUTES, 'admin = "off"'))
        self.assertTrue(proxy.ask("reload")["ok"])
        until(lambda: not os.path.exists(os.path.join(proxy.directory, "run", "admin.sock")))

    def test_directory_of_the_service_manager(self):
        directory = self.directory()
        environment = {"RUNTIME_DIRECTORY": directory}
        proxy = self.connpipe(table(self.ROUTES), environment=environment)
        self.assertTrue(os.path.exists(os.path.join(directory, "admin.sock")))
        self.assertEqual(self.ctl(proxy, env={**os.environ, **environment}).returncode, 0)

    def test_that_cannot_be_made_is_a_warning(self):
        proxy = self.connpipe(table(self.ROUTES, 'admin = "unix:config.toml/admin.sock"'))
        proxy.wait_log(r"WARN main\] no control socket: /.*/config.toml")


class Workers(Scenario):
    def test_number_and_a_change_that_needs_a_restart(self):
        routes = {"tcp:$4:0": "echo:"}
        proxy = self.connpipe(table(routes, "workers = 3"))
        self.assertEqual([worker["index"] for worker in proxy.ask("status")["workers"]], [0, 1, 2])
        names = []
        for task in os.listdir("/proc/%d/task" % proxy.process.pid):
            with open("/proc/%d/task/%s/comm" % (proxy.process.pid, task), encoding="utf-8") as file:
                names.append(file.read().strip())
        self.assertLessEqual({"worker/0", "worker/1", "worker/2"}, set(names))
        proxy.configure(table(routes, "workers = 2"))
        self.assertTrue(proxy.ask("reload")["ok"])
        proxy.wait_log(r"WARN main\] workers = 2 takes effect after a restart: there are 3 now")
        self.assertEqual(len(proxy.ask("status")["workers"]), 3)


if __name__ == "__main__":
    unittest.main()
