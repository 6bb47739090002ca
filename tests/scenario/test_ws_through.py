"""What goes through websockets: bytes and messages of any size and number, how they end, and what is held meanwhile."""

import contextlib
import hashlib
import os
import random
import select
import threading

from .harness import free_port, table
from .ws_raw import BINARY, CONTINUATION, PING, TEXT, Server, frame
from .ws_sides import Websockets, shut

BLOB = random.Random(1).randbytes(1 << 20)
LONG = bool(os.environ.get("CONNPIPE_TEST_LONG"))


@contextlib.contextmanager
def meanwhile(act, *arguments):
    """In another thread, whose failure fails the test."""
    failures = []

    def run():
        try:
            act(*arguments)
        except BaseException as failure:  # pylint: disable=broad-except
            failures.append(failure)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    thread.join()
    if failures:
        raise failures[0]


def digest(data):
    return hashlib.sha256(data).hexdigest()


def receive_bytes(wire, length):
    """So many bytes of messages of any size."""
    got = bytearray()
    while len(got) < length:
        got += wire.receive_message()[1]
    return bytes(got)


class Bytes(Websockets):
    """A websocket on one side, TCP on the other."""

    def test_much_data_both_ways(self):
        """As few messages as possible, and as one; both at once."""
        _, server = self.before_tcp()
        data = BLOB * (20 if LONG else 3)
        for sizes in ([len(data)], [70000] * (len(data) // 70000 + 1)):
            with self.subTest(sizes=sizes[:2]):
                client, target = self.websocket(), self.accept(server)

                def send():
                    at = 0
                    for size in sizes:
                        client.send(BINARY, data[at:at + size])
                        at += size

                with meanwhile(send), meanwhile(target.send, data):
                    with meanwhile(lambda: self.assertEqual(digest(receive_bytes(client, len(data))), digest(data))):
                        got = b""
                        while len(got) < len(data):
                            got += target.receive(1 << 20)
                        self.assertEqual(digest(got), digest(data))
                client.finish()
                target.expect_end()

    def test_much_data_from_a_server(self):
        """connpipe as the client: answers come faster than they are read."""
        server = self.server()
        port = free_port()
        self.connpipe(table({"tcp:$4:%d" % port: "ws:127.0.0.1:%d" % server.port}))
        client = self.client(port)
        target = Server(self.accept(server)).accept()
        data = BLOB * (20 if LONG else 2)
        with meanwhile(client.send, data), meanwhile(target.send, BINARY, data):
            with meanwhile(lambda: self.assertEqual(digest(receive_bytes(target, len(data))), digest(data))):
                got = b""
                while len(got) < len(data):
                    got += client.receive(1 << 20)
        self.assertEqual(digest(got), digest(data))

    def test_thousands_of_messages_in_one_segment(self):
        _, server = self.before_tcp()
        client, target = self.websocket(), self.accept(server)
        words = [b"%d," % i for i in range(20000)]
        with meanwhile(client.send_bytes, b"".join(client.frame(i % 2 + 1, word) for i, word in enumerate(words))):
            target.expect(b"".join(words))

    def test_frames_cut_anywhere(self):
        _, server = self.before_tcp()
        client, target = self.websocket(), self.accept(server)
        plan = random.Random(2)
        for _ in range(6):
            data = plan.randbytes(plan.choice([1, 5, 130, 500]))
            out = client.frame(BINARY, data[:len(data) // 2], fin=False) + client.frame(PING, "p") + client.frame(
                CONTINUATION, data[len(data) // 2:])
            client.peer.send_pieces(out, sorted(plan.sample(range(1, len(out)), min(len(out) - 1, 20))))
            target.expect(data)
            client.expect_heard("pong p")

    def test_data_is_not_held_back(self):
        """Each piece is passed on although nothing comes behind it: from TCP, and of messages that are whole."""
        _, server = self.before_tcp()
        client, target = self.websocket(), self.accept(server)
        for i in range(50):
            client.send(BINARY, b"%d" % i)
            target.expect(b"%d" % i)
            target.send(b"answer %d" % i)
            client.expect(b"answer %d" % i)
        client.send(BINARY, b"a fragment", fin=False)
        target.expect(b"a fragment")


class Ends(Websockets):
    """DESIGN: a websocket has no half close; resets stay resets."""

    def test_end_of_the_target(self):
        """It closes the websocket, behind all data."""
        proxy, server = self.before_tcp()
        client, target = self.websocket(), self.accept(server)
        with meanwhile(lambda: (target.send(BLOB), target.shutdown())):
            self.assertEqual(receive_bytes(client, len(BLOB)), BLOB)
            client.expect_heard("close 1000")
        client.send_close(1000)
        client.expect_end()
        target.expect_end()
        self.assertIn("done", proxy.wait_closed())

    def test_end_of_the_client(self):
        """The target sees an end; what it still says is thrown away, and it is not reset for it."""
        proxy, server = self.before_tcp()
        client, target = self.websocket(), self.accept(server)
        client.send(BINARY, BLOB)
        client.send_close(1000, "bye")
        target.expect(BLOB)
        target.expect_end()
        client.expect_heard("close 1000 bye")
        client.expect_end()
        target.send(b"nobody reads this")
        target.close()
        self.assertIn("done", proxy.wait_closed())

    def test_resets(self):
        """TCP ends without Close (1006), or is reset: the target is reset. The target is reset: 1011."""
        proxy, server = self.before_tcp()
        for end in ("shutdown", "reset"):
            with self.subTest(end):
                client, target = self.websocket(), self.accept(server)
                client.send(BINARY, b"last words")
                client.peer.wait_sent()
                target.expect(b"last words")
                getattr(client.peer, end)()
                target.expect_reset()
        client, target = self.websocket(), self.accept(server)
        target.send(b"last words")
        target.wait_sent()
        client.expect(b"last words")
        target.reset()
        heard = client.hear()
        self.assertIn(heard.split(" ")[:2], (["close", "1011"], ["reset"]))
        proxy.wait_closed(3)

    def test_a_failure_that_is_told(self):
        """A Close with 1011 or the like is behind all data, and no end in order: a cut answer must not look complete."""
        proxy, server = self.before_tcp()
        client, target = self.websocket(), self.accept(server)
        client.send(BINARY, BLOB)
        client.send_close(1011, "broken")
        target.expect(BLOB)
        target.expect_reset()
        self.assertIn("client_reset", proxy.wait_closed())

    def test_a_reset_while_nothing_is_read(self):
        """Data of the client is still there, unread, when its reset is seen: it is one all the same."""
        proxy, server = self.before_tcp(timeouts='reset = "100ms"')
        client, target = self.websocket(receive_buffer=65536), self.accept(server)

        def answer():
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                target.send(BLOB * 12)

        with meanwhile(answer):
            client.peer.socket.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                while True:
                    client.peer.send(client.frame(BINARY, BLOB))
            client.peer.reset()
            self.assertIn("client_reset", proxy.wait_closed())

    def test_end_of_a_client_towards_a_websocket(self):
        """It is held until the target's answer ends."""
        server = self.server()
        port = free_port()
        proxy = self.connpipe(table({"tcp:$4:%d" % port: "ws:127.0.0.1:%d" % server.port}))
        client = self.client(port)
        target = Server(self.accept(server)).accept()
        client.send(BLOB)
        client.shutdown()
        self.assertEqual(receive_bytes(target, len(BLOB)), BLOB)
        for i in range(3):
            target.send(BINARY, b"answer %d" % i)
            client.expect(b"answer %d" % i)
        target.send_close(1000)
        client.expect_end()
        target.expect_heard("close 1000")
        shut(target.peer)
        target.expect_end()
        self.assertIn("done", proxy.wait_closed())

    def test_end_of_a_client_is_held_for_a_time(self):
        server = self.server()
        port = free_port()
        self.connpipe(table({"tcp:$4:%d" % port: "ws:127.0.0.1:%d" % server.port}, timeouts='half_close = "100ms"'))
        client = self.client(port)
        target = Server(self.accept(server)).accept()
        client.send(b"question")
        client.shutdown()
        target.expect(b"question")
        self.assertEqual(target.hear().split(" ")[:2], ["close", "1000"])
        target.send_close(1000)
        shut(target.peer)
        target.expect_end()

    def test_resets_towards_a_websocket(self):
        server = self.server()
        port = free_port()
        self.connpipe(table({"tcp:$4:%d" % port: "ws:127.0.0.1:%d" % server.port}))
        client = self.client(port)
        target = Server(self.accept(server)).accept()
        client.send(b"last words")
        target.expect(b"last words")
        client.reset()
        self.assertIn(target.hear().split(" ")[:2], (["close", "1011"], ["reset"]))
        for end in ("shutdown", "reset"):
            with self.subTest(end):
                client = self.client(port)
                target = Server(self.accept(server)).accept()
                target.send(BINARY, b"last words")
                client.expect(b"last words")
                getattr(target.peer, end)()
                client.expect_reset()


class HalfClose(Websockets):
    """The subprotocol `connpipe`: an empty text message ends one direction."""

    OFFER = {"Sec-WebSocket-Protocol": "chat, connpipe"}

    def test_as_a_server(self):
        proxy, server = self.before_tcp()
        client, target = self.websocket(changes=self.OFFER), self.accept(server)
        self.assertEqual(client.answer.get("Sec-WebSocket-Protocol"), "connpipe")
        client.send(BINARY, BLOB)
        client.send(TEXT)
        target.expect(BLOB)
        target.expect_end()
        target.send(b"answer")
        client.expect(b"answer")
        target.shutdown()
        self.expect_last_end(client)
        client.send_close(1000)
        client.expect_end()
        self.assertIn("done", proxy.wait_closed())

    def test_as_a_server_whose_target_ends_first(self):
        _, server = self.before_tcp()
        client, target = self.websocket(changes=self.OFFER), self.accept(server)
        target.shutdown()
        client.expect_message(TEXT, "")
        client.send(BINARY, b"still heard")
        target.expect(b"still heard")
        client.send(TEXT)
        target.expect_end()
        self.assertEqual(client.hear(), "close 1000")

    def expect_last_end(self, wire):
        """Where the other direction has ended, Close alone says it all."""
        heard = wire.hear()
        self.assertEqual(wire.hear() if heard == "text" else heard, "close 1000")

    def test_as_a_client(self):
        server = self.server()
        port = free_port()
        proxy = self.connpipe(table({"tcp:$4:%d" % port: "ws:127.0.0.1:%d" % server.port}))
        client = self.client(port)
        target = Server(self.accept(server))
        self.assertIn("connpipe", target.request.tokens("Sec-WebSocket-Protocol"))
        target.accept({"Sec-WebSocket-Protocol": "connpipe"})
        client.send(b"question")
        client.shutdown()
        target.expect_message(BINARY, "question")
        target.expect_message(TEXT, "")
        target.send(BINARY, b"answer")
        target.send(TEXT)
        client.expect(b"answer")
        client.expect_end()
        self.assertEqual(target.hear(), "close 1000")
        target.send_close(1000)
        shut(target.peer)
        target.expect_end()
        self.assertIn("done", proxy.wait_closed())

    def test_through_two(self):
        """TCP to websocket to TCP: the ends of both directions are exact."""
        server = self.server()
        front, middle = free_port(), free_port()
        self.connpipe(table({"tcp:$4:%d" % front: "ws:127.0.0.1:%d/x" % middle,
                             "ws:$4:%d/x" % middle: server.address}))
        client, target = self.client(front), self.accept(server)
        with meanwhile(lambda: (client.send(BLOB), client.shutdown())):
            self.assertEqual(target.receive_all(), BLOB)
        with meanwhile(lambda: (target.send(BLOB), target.shutdown())):
            self.assertEqual(client.receive_all(), BLOB)


class Messages(Websockets):
    """Websockets on both sides."""

    def test_kinds_and_boundaries(self):
        _, server = self.before_websocket()
        client, target = self.through(server)
        plan = random.Random(3)
        messages = [(plan.choice([TEXT, BINARY]), size) for size in
                    (0, 1, 125, 126, 65535, 65536, 65537, 16384, 100_000, 0, 0, 1 << 20)]
        messages = [(kind, "ä€".encode() * (size // 5) + b"x" * (size % 5)) for kind, size in messages]
        for source, sink in ((client, target), (target, client)):
            with meanwhile(lambda: [source.send(*message) for message in messages]):
                for kind, payload in messages:
                    sink.expect_message(kind, payload)

    def test_fragments_are_one_message(self):
        _, server = self.before_websocket()
        client, target = self.through(server)
        for source, sink in ((client, target), (target, client)):
            source.send_message(TEXT, "in two", [3])
            sink.expect_message(TEXT, "in two")
            source.send_message(BINARY, BLOB[:200_000], [0, 1, 65536, 0, 100_000])
            sink.expect_message(BINARY, BLOB[:200_000])
            source.send_message(BINARY, b"", [0, 0])
            sink.expect_message(BINARY, b"")

    def test_thousands_of_messages_in_one_segment(self):
        _, server = self.before_websocket()
        client, target = self.through(server)
        out = b"".join(client.frame(i % 2 + 1, b"%d" % i) for i in range(5000))
        with meanwhile(client.send_bytes, out):
            for i in range(5000):
                target.expect_message(i % 2 + 1, b"%d" % i)

    def test_control_frames_stay_on_their_side(self):
        """5.5: pings are answered by who gets them; they are no part of messages."""
        _, server = self.before_websocket()
        client, target = self.through(server)
        for source, sink in ((client, target), (target, client)):
            source.send(TEXT, "a", fin=False)
            source.send(PING, "here")
            source.expect_heard("pong here")
            source.send(CONTINUATION, "b")
            sink.expect_message(TEXT, "ab")

    def test_endings_are_passed_on(self):
        """7.1.5, 7.1.6: code and reason."""
        _, server = self.before_websocket()
        for code, reason in ((1000, ""), (1000, "bye"), (1001, "going"), (1008, "ä€"), (1011, "broken"), (3000, ""),
                             (4000, "r" * 123), (4999, "last")):
            for first in (0, 1):
                with self.subTest(code, reason=reason[:5], first="client" if first == 0 else "target"):
                    ends = self.through(server)
                    ends[first].send(BINARY, b"last words")
                    ends[first].send_close(code, reason)
                    ends[1 - first].expect_message(BINARY, "last words")
                    ends[1 - first].hear()
                    self.assertEqual(ends[1 - first].closed, (code, reason))
                    ends[1 - first].send_close(code)
                    self.assertEqual(ends[first].hear().split(" ")[:2], ["close", str(code)])
                    shut(ends[1].peer)
                    ends[1 - first].expect_end()
                    ends[first].expect_end()

    def test_an_ending_without_a_code(self):
        _, server = self.before_websocket()
        client, target = self.through(server)
        client.send_close()
        self.assertIn(target.hear(), ("close", "close 1000"))
        target.send_close()
        self.assertEqual(client.hear(), "close")

    def test_breaks_are_passed_on(self):
        _, server = self.before_websocket()
        for first in (0, 1):
            for end in ("shutdown", "reset"):
                with self.subTest(end, first=first):
                    ends = self.through(server)
                    getattr(ends[first].peer, end)()
                    self.assertIn(ends[1 - first].hear().split(" ")[:2], (["close", "1011"], ["reset"]))


class Held(Websockets):
    """What is held for a reader that does not read is bounded, and none of it is lost."""

    ROOM = 12 << 20  # of a process, beside what the kernel holds in its sockets

    @staticmethod
    def rss(proxy):
        with open("/proc/%d/statm" % proxy.process.pid, encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def fill(self, sock, data):
        """Send `data` over and over until nothing has been taken for a while: what was sent"""
        sock.setblocking(False)
        sent = 0
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        while poll.poll(200):
            self.assertLess(sent, 200 << 20, "it takes everything")
            sent += sock.send(data[sent % len(data):])
        sock.setblocking(True)
        return sent

    def try_stuck(self, proxy, sender, data, reader):
        """@param reader  called with how many bytes it has to have read"""
        before = self.rss(proxy)
        sent = self.fill(sender.socket, data)
        grown = self.rss(proxy) - before
        sanitized = "SANITIZE" in os.environ.get("CONNPIPE_BUILD", "").upper() or "asan" in proxy.arguments[0]
        if not sanitized:
            self.assertLess(grown, self.ROOM, "the process has grown by %d bytes of %d" % (grown, sent))
        rest = data[sent % len(data):] if sent % len(data) else b""
        with meanwhile(sender.socket.sendall, rest):
            reader(sent + len(rest))

    def test_a_target_that_does_not_read(self):
        proxy, server = self.before_tcp()
        client, target = self.websocket(), self.accept(server)
        data = frame(BINARY, BLOB, mask=bytes(4))

        def read(length):
            for _ in range(length // len(data)):
                target.expect(BLOB)

        self.try_stuck(proxy, client.peer, data, read)

    def test_small_messages_for_a_target_that_does_not_read(self):
        proxy, server = self.before_websocket()
        client, target = self.through(server)
        data = b"".join(frame(BINARY, b"%0200d" % i, mask=bytes(4)) for i in range(1000))

        def read(length):
            for i in range(length // len(data) * 1000):
                target.expect_message(BINARY, b"%0200d" % (i % 1000))

        self.try_stuck(proxy, client.peer, data, read)

    def test_a_client_that_does_not_read(self):
        proxy, server = self.before_tcp()
        client, target = self.websocket(receive_buffer=65536), self.accept(server)

        def read(length):
            self.assertEqual(digest(receive_bytes(client, length)), digest(BLOB * (length // len(BLOB))))

        self.try_stuck(proxy, target, BLOB, read)
