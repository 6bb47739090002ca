"""Targets that refuse, and limits: what the client sees and what the log says."""

import contextlib
import unittest

from tests.scenario.harness import Scenario, free_port, table, until


class Refused(Scenario):
    def test_client_is_closed_and_the_log_names_target_and_cause(self):
        port = free_port()
        proxy = self.connpipe(table({"tcp:$4:0": "tcp:127.0.0.1:%d" % port}))
        self.refused(proxy.port())
        line = proxy.wait_closed()
        self.assertIn("tcp:127.0.0.1:%d" % port, line)
        self.assertIn("connect_refused", line)
        until(lambda: proxy.counter("closed_connect_refused") == 1)

    def test_next_target_is_tried(self):
        server = self.server()
        dead = "tcp:127.0.0.1:%d" % free_port()
        proxy = self.connpipe(table({"tcp:$4:0": [dead, server.address]}))
        client = self.client(proxy.port())
        client.send(b"kept while the first was tried")
        self.accept(server).expect(b"kept while the first was tried")
        proxy.wait_log(r"target %s failed, trying the next one: .*refused" % dead)

    def test_all_targets_fail(self):
        dead = ["tcp:127.0.0.1:%d" % free_port() for _ in range(2)]
        proxy = self.connpipe(table({"tcp:$4:0": dead}))
        self.refused(proxy.port())
        self.assertIn(dead[1], proxy.wait_closed())

    def test_reject_says_why_in_the_log(self):
        proxy = self.connpipe(table({"tcp:$4:0": "reject:closed for today"}))
        self.refused(proxy.port())
        self.assertIn("closed for today", proxy.wait_closed())

    def test_program_that_is_not_there(self):
        proxy = self.connpipe(table({"tcp:$4:0": "exec:/nonexistent/program"}))
        self.refused(proxy.port())
        self.assertIn("/nonexistent/program", proxy.wait_closed())


class Limits(Scenario):
    def start(self, limits):
        self.proxy = self.connpipe(table({"tcp:$4:0": "echo:"}, "workers = 1", limits=limits))
        return self.proxy.port()

    def served(self, client):
        client.send(b"x")
        client.expect(b"x")
        return client

    def test_connections(self):
        port = self.start("connections = 2")
        first, _ = (self.served(self.client(port)) for _ in range(2))
        self.refused(port)
        until(lambda: self.proxy.counter("closed_connection_limit") == 1)
        first.close()
        self.proxy.wait_log(r"closed: .* done")
        self.served(self.client(port))

    def test_connections_per_source(self):
        port = self.start("connections_per_source = 1")
        self.served(self.client(port))
        self.refused(port)
        until(lambda: self.proxy.counter("closed_source_limit") == 1)
        self.served(self.client(port, source="127.0.0.2"))

    def test_connect_rate_per_source(self):
        port = self.start("connect_rate_per_source = 1")
        first = self.served(self.client(port))
        for _ in range(10):
            with contextlib.suppress(ConnectionResetError):
                self.client(port)
        until(lambda: self.proxy.counter("closed_source_rate") > 0)
        self.served(first)


class Descriptors(Scenario):
    def test_running_out_pauses_and_resumes_accepting(self):
        config = table({"tcp:$4:0": "echo:"}, "workers = 1", limits="connections = 10000")
        proxy = self.connpipe(config, descriptors=64)
        port = proxy.port()
        clients = [self.client(port) for _ in range(80)]
        proxy.wait_log("out of file descriptors")
        clients[0].send(b"still served")
        clients[0].expect(b"still served")
        for client in clients[1:40]:
            client.close()
        for client in clients[40:]:
            client.send(b"waited")
            client.expect(b"waited")


if __name__ == "__main__":
    unittest.main()
