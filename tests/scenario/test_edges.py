"""What comes together: the proxy is stopped while its peers act, so that it sees everything in one turn of its loop. And
the ways in which it can be told to stop."""

import contextlib
import signal
import socket

from .harness import SIGTERM, Scenario, table


class Together(Scenario):
    @contextlib.contextmanager
    def stopped(self, proxy):
        proxy.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            proxy.signal(signal.SIGCONT)

    def open(self, **options):
        proxy, _, client, target = self.pair(**options)
        client.send(b"x")
        target.expect(b"x")
        target.send(b"y")
        client.expect(b"y")
        return proxy, client, target

    def test_bytes_and_reset(self):
        proxy, client, target = self.open()
        with self.stopped(proxy):
            target.send(b"last words")
            target.wait_sent()
            target.reset()
        self.assertEqual(client.receive_until_reset(), b"last words")

    def test_bytes_end_and_reset(self):
        proxy, client, target = self.open()
        with self.stopped(proxy):
            client.send(b"last words")
            client.shutdown()
            client.wait_sent()
            client.reset()
        target.expect(b"last words")
        with contextlib.suppress(ConnectionResetError):
            target.expect_end()
        self.assertIn("client_reset", proxy.wait_closed())

    def test_end_and_reset_while_the_way_is_opened(self):
        server = self.server()
        proxy = self.connpipe(table({"tcp:$4:0": server.address}))
        port = proxy.port()
        with self.stopped(proxy):
            client = self.client(port)
            client.send(b"last words")
            client.shutdown()
            client.wait_sent()
            client.reset()
        self.assertRegex(proxy.wait_closed(), "client_reset|client_gone")

    def test_bytes_behind_urgent_ones(self):
        proxy, client, target = self.open()
        with self.stopped(proxy):
            client.send(b"ab")
            client.socket.send(b"!", socket.MSG_OOB)
            client.send(b"cd")
            client.wait_sent()
        target.expect(b"abcd")

    def test_bytes_behind_urgent_ones_and_the_end(self):
        proxy, client, target = self.open()
        with self.stopped(proxy):
            client.send(b"ab")
            client.socket.send(b"!", socket.MSG_OOB)
            client.send(b"cd")
            client.shutdown()
            client.wait_sent()
        target.expect(b"abcd")
        target.expect_end()


class Stopping(Scenario):
    def start(self, process, timeouts=""):
        proxy = self.connpipe(table({"tcp:$4:0": "echo:"}, process, timeouts))
        client = self.client(proxy.port())
        client.send(b"x")
        client.expect(b"x")
        return proxy, client

    def test_drain_ends_with_one_worker(self):
        proxy, client = self.start("workers = 1", 'drain = "100ms"')
        proxy.signal(SIGTERM)
        client.expect_reset()
        self.assertEqual(proxy.wait(), 0)

    def test_first_signal_while_draining_closes_what_is_left(self):
        proxy, client = self.start("workers = 1")
        proxy.ask("drain")
        proxy.wait_log("draining")
        proxy.signal(SIGTERM)
        client.expect_reset()
        self.assertEqual(proxy.wait(), 0)

    def test_reload_is_answered_where_the_control_socket_goes(self):
        proxy, client = self.start("")
        proxy.configure(table({"tcp:$4:0": "echo:"}, 'admin = "off"'))
        self.assertTrue(proxy.ask("reload")["ok"])
        client.send(b"goes on")
        client.expect(b"goes on")
