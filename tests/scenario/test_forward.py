"""What a pipe does with bytes and with ends: half close, resets, slow readers, time-outs."""

import hashlib
import random
import select
import threading
import unittest

from tests.scenario.harness import Scenario

SMALL = b"some bytes"
LARGE = random.Random(1).randbytes(8 << 20)


def send_all(peer, data):
    """Send in another thread, for what is larger than all buffers on the way."""
    thread = threading.Thread(target=peer.send, args=(data,), daemon=True)
    thread.start()
    return thread


class Bytes(Scenario):
    def test_both_ways_at_once(self):
        _, _, client, target = self.pair()
        threads = [send_all(client, LARGE), send_all(target, LARGE[::-1])]
        got = {}

        def receive(name, peer):
            got[name] = b""
            digest = hashlib.sha256()
            size = 0
            while size < len(LARGE):
                piece = peer.receive(1 << 20)
                size += len(piece)
                digest.update(piece)
            got[name] = digest.digest()

        threads += [threading.Thread(target=receive, args=pair) for pair in (("target", target), ("client", client))]
        for thread in threads[2:]:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(got["target"], hashlib.sha256(LARGE).digest())
        self.assertEqual(got["client"], hashlib.sha256(LARGE[::-1]).digest())

    def test_slow_reader_stops_its_writer(self):
        _, _, client, target = self.pair()
        target.socket.setblocking(False)
        block = bytes(65536)
        sent = 0
        # The writer is stopped when half a second brings no room; what is on the way then is bounded.
        while select.select([], [target.socket], [], 0.5)[1]:
            sent += target.socket.send(block)
            self.assertLess(sent, 64 << 20)
        client.socket.settimeout(20)
        received = 0
        while received < sent:
            received += len(client.receive(1 << 20))
        self.assertTrue(select.select([], [target.socket], [], 20)[1])

    def test_bytes_are_counted_in_the_log(self):
        proxy, _, client, target = self.pair()
        client.send(b"12345")
        target.expect(b"12345")
        target.send(b"123")
        client.expect(b"123")
        client.close()
        target.expect_end()
        target.close()
        self.assertRegex(proxy.wait_closed(), r"5 bytes in, 3 bytes out, .* done$")


class HalfClose(Scenario):
    def half_close(self, first, second):
        first.send(SMALL)
        first.shutdown()
        second.expect(SMALL)
        second.expect_end()
        second.send(LARGE[:100000])
        second.shutdown()
        first.expect(LARGE[:100000])
        first.expect_end()

    def test_client_first(self):
        proxy, _, client, target = self.pair()
        self.half_close(client, target)
        self.assertIn("done", proxy.wait_closed())

    def test_target_first(self):
        proxy, _, client, target = self.pair()
        self.half_close(target, client)
        self.assertIn("done", proxy.wait_closed())

    def test_end_travels_behind_all_bytes(self):
        proxy, _, client, target = self.pair()
        thread = threading.Thread(target=lambda: (client.send(LARGE), client.shutdown()), daemon=True)
        thread.start()
        self.assertTrue(target.receive_all() == LARGE)
        thread.join()
        target.shutdown()
        client.expect_end()
        self.assertIn("done", proxy.wait_closed())

    def test_idle_half_is_ended(self):
        proxy, _, client, target = self.pair(timeouts='half_close = "200ms"')
        client.shutdown()
        target.expect_end()
        client.expect_reset()
        self.assertIn("half_close_timeout", proxy.wait_closed())


class Reset(Scenario):
    """A reset comes out behind everything that was sent before it, and never as an end of file."""

    def cut(self, sender, receiver, data):
        sender.send(data)
        sender.wait_sent()
        sender.reset()
        got = receiver.receive_until_reset()
        self.assertEqual((len(got), got == data), (len(data), True))

    def test_from_the_target(self):
        proxy, _, client, target = self.pair()
        self.cut(target, client, SMALL)
        self.assertIn("target_reset", proxy.wait_closed())

    def test_from_the_client(self):
        proxy, _, client, target = self.pair()
        self.cut(client, target, SMALL)
        self.assertIn("client_reset", proxy.wait_closed())

    def test_behind_bytes_that_wait_for_a_slow_client(self):
        proxy, _, client, target = self.pair()
        self.cut(target, client, LARGE[:300000])
        self.assertIn("target_reset", proxy.wait_closed())

    def test_behind_bytes_that_wait_for_a_slow_target(self):
        proxy, _, client, target = self.pair()
        self.cut(client, target, LARGE[:300000])
        self.assertIn("client_reset", proxy.wait_closed())

    def test_behind_a_half_close(self):
        _, _, client, target = self.pair()
        client.shutdown()
        target.expect_end()
        self.cut(target, client, SMALL)

    def test_without_any_bytes(self):
        _, _, client, target = self.pair()
        target.reset()
        client.expect_reset()


class Timeouts(Scenario):
    def test_idle(self):
        proxy, _, client, target = self.pair(timeouts='idle = "300ms"')
        client.send(SMALL)
        target.expect(SMALL)
        client.expect_closed()
        target.expect_closed()
        self.assertIn("idle_timeout", proxy.wait_closed())

    def test_bytes_keep_it_open(self):
        proxy, _, client, target = self.pair(timeouts='idle = "1s"')
        # Each round waits a third of the time-out for nothing: five rounds are longer than it.
        for _ in range(5):
            client.send(b"x")
            target.expect(b"x")
            client.expect_silence(0.33)
        self.assertNotIn("idle_timeout", proxy.log())


if __name__ == "__main__":
    unittest.main()
