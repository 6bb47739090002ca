"""permessage-deflate (RFC 7692), which is off unless `deflate = true`: what is agreed on, and what is sent then."""

import os
import random
import zlib

from .harness import free_port, table
from .test_ws_through import meanwhile, receive_bytes
from .ws_raw import BINARY, CONTINUATION, PING, RSV1, RSV2, TEXT, Deflate, Server
from .ws_sides import Unanswered, Websockets

DEFLATE = "[connpipe.ws]\ndeflate = true\n"
EXTENSIONS = "Sec-WebSocket-Extensions"
WORDS = random.Random(6).choices(["one ", "word ", "after ", "another ", "\n"], k=40000)
TEXTS = "".join(WORDS)


class Deflated(Websockets):
    def deflated(self, offer="permessage-deflate", **options):
        client = self.websocket(changes={EXTENSIONS: offer}, **options)
        self.assertTrue(client.inflater, client.answer.text)
        return client

    @staticmethod
    def send(wire, kind, text, sizes=()):
        """A compressed message, in fragments of these sizes and a rest."""
        data = wire.deflater.compress(text.encode())
        out, at = b"", 0
        for size in (*sizes, None):
            piece = data[at:] if size is None else data[at:at + size]
            out += wire.frame(CONTINUATION if out else kind, piece, fin=size is None, rsv=0 if out else RSV1)
            at += len(piece)
        wire.send_bytes(out)
        return len(data)


class Serving(Deflated):
    def test_5_1_agreement(self):
        """What is accepted is something that was offered; libwebsockets cannot agree to a smaller window of the server,
        so such offers are declined (5: a server may)."""
        self.front("echo:", settings=DEFLATE)
        accepted = ["permessage-deflate", "permessage-deflate; client_max_window_bits",
                    "permessage-deflate; client_max_window_bits=10", "x-unknown, permessage-deflate",
                    "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
                    "permessage-deflate; client_no_context_takeover",
                    "permessage-deflate; server_max_window_bits=10, permessage-deflate"]
        declined = ["x-webkit-deflate-frame", "permessage-deflate; server_max_window_bits=10",
                    "permessage-deflate; unknown", "permessage-deflate; client_max_window_bits=16",
                    "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
                    "permessage-deflate; server_max_window_bits", "permessage-bzip2"]
        for offer in accepted:
            with self.subTest(offer):
                client = self.deflated(offer)
                for _ in range(3):
                    self.send(client, TEXT, TEXTS[:1000])
                    self.assertEqual(receive_bytes(client, 1000), TEXTS[:1000].encode())
        for offer in declined:
            with self.subTest(offer):
                client = self.websocket(changes={EXTENSIONS: offer})
                self.assertIsNone(client.answer.get(EXTENSIONS))
                client.send(BINARY, b"plain")
                client.expect(b"plain")

    def test_off_unless_asked_for(self):
        self.front("echo:")
        client = self.websocket(changes={EXTENSIONS: "permessage-deflate"})
        self.assertIsNone(client.answer.get(EXTENSIONS))
        client.send(BINARY, b"x", rsv=RSV1)
        self.assertEqual(client.hear().split(" ")[:2], ["close", "1002"])

    def test_7_2_both_ways(self):
        """Compressed here, plain there; larger than any buffer."""
        _, server = self.before_tcp(settings=DEFLATE)
        client, target = self.deflated(), self.accept(server)
        with meanwhile(self.send, client, TEXT, TEXTS):
            target.expect(TEXTS.encode())
        with meanwhile(target.send, TEXTS.encode()):
            self.assertEqual(receive_bytes(client, len(TEXTS)), TEXTS.encode())
        noise = os.urandom(300_000).hex()
        with meanwhile(self.send, client, BINARY, noise):
            target.expect(noise.encode())

    def test_7_2_it_saves_something(self):
        _, server = self.before_tcp(settings=DEFLATE)
        client, target = self.deflated(), self.accept(server)
        target.send(TEXTS[:10000].encode())
        sizes, got = 0, b""
        while len(got) < 10000:
            frame = client.receive_frame()
            sizes += len(frame.payload)
            got += client.inflater.decompress(frame.payload) if frame.rsv else frame.payload
        self.assertEqual(got, TEXTS[:10000].encode())
        self.assertLess(sizes, 5000)

    def test_6_1_fragments(self):
        """RSV1 is set on the first fragment only."""
        _, server = self.before_tcp(settings=DEFLATE)
        client, target = self.deflated(), self.accept(server)
        for sizes in ([1], [0], [0, 0, 1, 0], [1] * 50, [10, 100]):
            self.send(client, TEXT, TEXTS[:5000], sizes)
            target.expect(TEXTS[:5000].encode())
        whole = client.deflater.compress(b"with a ping inside")
        client.send(BINARY, whole[:3], fin=False, rsv=RSV1)
        client.send(PING, "x")
        client.send(CONTINUATION, whole[3:])
        target.expect(b"with a ping inside")
        client.expect_heard("pong x")

    def test_6_messages_that_are_not_compressed(self):
        """Each message may be, or not."""
        _, server = self.before_tcp(settings=DEFLATE)
        client, target = self.deflated(), self.accept(server)
        for i in range(20):
            if i % 2:
                client.send(TEXT, "plain %d" % i)
                target.expect(b"plain %d" % i)
            else:
                self.send(client, TEXT, "compressed %d" % i)
                target.expect(b"compressed %d" % i)

    def test_7_2_3_blocks(self):
        """Empty messages, stored blocks, several blocks, and ones that end the stream."""
        _, server = self.before_tcp(settings=DEFLATE)
        client, target = self.deflated("permessage-deflate; client_no_context_takeover; server_no_context_takeover"), \
            self.accept(server)
        stored = zlib.compressobj(0, zlib.DEFLATED, -15)
        stored_data = stored.compress(b"stored") + stored.flush(zlib.Z_SYNC_FLUSH)
        blocks = zlib.compressobj(9, zlib.DEFLATED, -15)
        several = b"".join(blocks.compress(word) + blocks.flush(zlib.Z_FULL_FLUSH) for word in (b"se", b"ver", b"al"))
        for data, text in ((b"\x00", b""), (stored_data[:-4], b"stored"), (several[:-4], b"several"),
                           (b"\xf2\x48\xcd\xc9\xc9\x07\x00", b"Hello"),  # 7.2.3.1
                           (b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", b"Hello"),  # 7.2.3.3
                           (b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", b"Hello"),  # 7.2.3.4
                           (b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", b"Hello")):  # 7.2.3.5
            with self.subTest(data.hex()):
                client.send(BINARY, data, rsv=RSV1)
                client.send(BINARY, b".")
                target.expect(text + b".")

    def test_6_wrong_bits(self):
        self.front("echo:", settings=DEFLATE)
        for name, frames in (("RSV2", lambda client: client.frame(TEXT, b"x", rsv=RSV1 | RSV2)),
                             ("a continuation", lambda client: client.frame(TEXT, b"x", fin=False) +
                              client.frame(CONTINUATION, b"y", rsv=RSV1))):
            with self.subTest(name):
                client = self.deflated()
                client.send_bytes(frames(client))
                heard = client.hear()
                while heard.startswith("binary"):  # the beginning of a message may have been on its way
                    heard = client.hear()
                self.assertEqual(heard.split(" ")[:2], ["close", "1002"])

    def test_6_deviation_a_ping_with_the_bit_of_compression(self):
        """It must be an error; libwebsockets does not look at the bit of control frames when there is an extension."""
        self.front("echo:", settings=DEFLATE)
        client = self.deflated()
        client.send(PING, "x", rsv=RSV1)
        client.expect_heard("pong x")

    def test_what_is_no_deflate(self):
        _, server = self.before_tcp(settings=DEFLATE)
        for data in (b"\xff" * 20, b"\x07", b"\x04\xff\xff\xff" * 50):
            with self.subTest(data[:4].hex()):
                client, target = self.deflated(), self.accept(server)
                client.send(BINARY, data, rsv=RSV1)
                heard = client.hear()
                self.assertIn(heard.split(" ")[:2], (["close", "1002"], ["close", "1007"], ["end"], ["reset"]))
                target.expect_reset()

    def test_text_is_looked_at_when_it_is_unpacked(self):
        self.front("echo:", settings=DEFLATE)
        client = self.deflated()
        client.send(TEXT, client.deflater.compress(b"ok \xff"), rsv=RSV1)
        self.assertEqual(client.hear().split(" ")[:2], ["close", "1007"])

    def test_a_small_message_that_unpacks_to_a_large_one(self):
        """32 KB that become 32 MiB: nobody holds them, they go on as the target takes them."""
        proxy, server = self.before_tcp(settings=DEFLATE)
        client, target = self.deflated(), self.accept(server)
        compressor = Deflate()
        data = compressor.compress(bytes(32 << 20), 9)
        self.assertLess(len(data), 70_000)
        before = rss(proxy)
        client.send(BINARY, data, rsv=RSV1)
        got = target.receive(1)
        self.assertLess(rss(proxy) - before, 12 << 20)
        length = len(got)
        while length < 32 << 20:
            length += len(target.receive(1 << 20))
        self.assertLess(rss(proxy) - before, 12 << 20)


def rss(proxy):
    with open("/proc/%d/statm" % proxy.process.pid, encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Asking(Deflated):
    def connected(self, agreed, settings=DEFLATE):
        """connpipe is the client: its own client, and the server's end"""
        server = self.server()
        port = free_port()
        self.connpipe(table({"tcp:$4:%d" % port: "ws:127.0.0.1:%d" % server.port}) + settings)
        client = self.client(port)
        target = Server(self.accept(server))
        offered = target.request.get(EXTENSIONS)
        if agreed is None:
            self.assertIsNone(offered)
        else:
            self.assertEqual(offered.split(";")[0], "permessage-deflate")
        target.accept({EXTENSIONS: agreed} if agreed else {})
        if agreed:
            target.deflater, target.inflater = Deflate(), Deflate()
        return client, target

    def test_5_1_not_offered(self):
        client, target = self.connected(None, "")
        client.send(b"plain")
        target.expect(b"plain")

    def test_5_1_offered_and_declined(self):
        client, target = self.connected("")
        client.send(b"plain")
        target.expect(b"plain")
        target.send(BINARY, b"x", rsv=RSV1)
        self.assertIn(target.hear().split(" ")[:2], (["close", "1002"], ["end"], ["reset"]))
        client.expect_reset()

    def test_7_2_both_ways(self):
        client, target = self.connected("permessage-deflate")
        with meanwhile(self.send, target, TEXT, TEXTS):
            client.expect(TEXTS.encode())
        with meanwhile(client.send, TEXTS.encode()):
            self.assertEqual(receive_bytes(target, len(TEXTS)), TEXTS.encode())
        self.send(target, BINARY, TEXTS[:5000], [1] * 50)
        client.expect(TEXTS[:5000].encode())
        target.send(BINARY, b"plain")
        client.expect(b"plain")

    def test_parameters_nobody_offered(self):
        server = self.server()
        port = free_port()
        self.connpipe(table({"tcp:$4:%d" % port: "ws:127.0.0.1:%d" % server.port}) + DEFLATE)
        for agreed in ("permessage-deflate; unknown", "permessage-bzip2"):
            with self.subTest(agreed):
                client = self.client(port)
                Server(self.accept(server)).accept({EXTENSIONS: agreed})
                client.expect_closed()


class Through(Deflated):
    def test_compressed_on_one_side_or_both(self):
        server = self.server()
        front = free_port()
        self.connpipe(table({"ws:$4:%d" % front: "ws:127.0.0.1:%d" % server.port}) + DEFLATE)
        self.port = front
        for here in (True, False):
            for there in (True, False):
                with self.subTest(here=here, there=there):
                    self.try_both(server, here, there)

    def try_both(self, server, here, there):
        client = Unanswered(self.client(self.port), changes={EXTENSIONS: "permessage-deflate"} if here else {})
        target = Server(self.accept(server)).accept({EXTENSIONS: "permessage-deflate"} if there else {})
        client.finish_handshake()
        if there:
            target.deflater, target.inflater = Deflate(), Deflate()
        for source, sink in ((client, target), (target, client)):
            for kind, text in ((TEXT, TEXTS), (BINARY, "x"), (TEXT, ""), (BINARY, TEXTS[:70000])):
                with meanwhile(lambda: self.send(source, kind, text) if source.deflater else source.send(kind, text)):
                    sink.expect_message(kind, text)
