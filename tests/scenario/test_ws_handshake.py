"""The opening handshake of RFC 6455: section 4.2 as clients of connpipe see it, 4.1 as the servers do that it asks."""

import base64
import contextlib
import os
import socket

from .harness import free_port, table
from .tls_peers import Authority, TlsPeer, client_context
from .ws_raw import BINARY, PING, TEXT, Client, Server, Wire, accept_of, answer, new_key, request
from .ws_sides import Websockets

UPGRADES = {
    "in upper case": {"Upgrade": "WEBSOCKET", "Connection": "UPGRADE"},
    "mixed": {"Upgrade": "WebSocket", "Connection": "upgrade"},
    "in a list": {"Connection": "keep-alive, Upgrade"},
    "in a list without spaces": {"Connection": "keep-alive,Upgrade,te"},
    "in a list with gaps": {"Connection": ", ,Upgrade ,"},
    "several protocols": {"Upgrade": "h2c, websocket"},
    "spaces around": {"Upgrade": "  websocket \t", "Connection": "\tUpgrade  "},
    "no spaces": {"Host": None},
}
WRONG = {
    # name: (status, changes, options)
    "no Host": (400, {"Host": None}, {}),
    "two Hosts": (400, {}, {"more": ["Host: other"]}),
    "a Host that is none": (400, {"Host": "a b"}, {}),
    "no Upgrade": (426, {"Upgrade": None}, {}),
    "another Upgrade": (426, {"Upgrade": "h2c"}, {}),
    "nearly the Upgrade": (426, {"Upgrade": "websocket2"}, {}),
    "no Connection": (400, {"Connection": None}, {}),
    "another Connection": (400, {"Connection": "keep-alive"}, {}),
    "no key": (400, {"Sec-WebSocket-Key": None}, {}),
    "an empty key": (400, {"Sec-WebSocket-Key": ""}, {}),
    "a key of 15 bytes": (400, {"Sec-WebSocket-Key": base64.b64encode(bytes(15)).decode()}, {}),
    "a key of 17 bytes": (400, {"Sec-WebSocket-Key": base64.b64encode(bytes(17)).decode()}, {}),
    "a key of 16 characters": (400, {"Sec-WebSocket-Key": "x" * 16}, {}),
    "a key that is not base64": (400, {"Sec-WebSocket-Key": "!" * 22 + "=="}, {}),
    "two keys": (400, {}, {"more": ["Sec-WebSocket-Key: " + new_key()]}),
    "no version": (426, {"Sec-WebSocket-Version": None}, {}),
    "version 8": (426, {"Sec-WebSocket-Version": "8"}, {}),
    "version 14": (426, {"Sec-WebSocket-Version": "14"}, {}),
    "version 013": (426, {"Sec-WebSocket-Version": "013"}, {}),
    "two versions": (400, {}, {"more": ["Sec-WebSocket-Version: 13"]}),
    "POST": (405, {}, {"method": "POST"}),
    "CONNECT": (405, {}, {"method": "CONNECT"}),
    "HEAD": (405, {}, {"method": "HEAD"}),
    "get": (405, {}, {"method": "get"}),
    "HTTP/1.0": (426, {}, {"version": "HTTP/1.0"}),
    "HTTP/2.0": (505, {}, {"version": "HTTP/2.0"}),
    "HTTP/1.10": (400, {}, {"version": "HTTP/1.10"}),
    "no version of HTTP": (400, {}, {"version": ""}),
    "a target without a slash": (400, {}, {"path": "chat"}),
    "a target *": (400, {}, {"path": "*"}),
    "a fragment": (400, {}, {"path": "/#part"}),
    "a space in the target": (400, {}, {"path": "/a b"}),
    "a body": (400, {"Content-Length": "5"}, {}),
    "chunks": (400, {"Transfer-Encoding": "chunked"}, {}),
    "a space before the colon": (400, {}, {"more": ["X-Field : x"]}),
    "a folded line": (400, {}, {"more": ["X-Field: x", " y"]}),
    "a line without a colon": (400, {}, {"more": ["X-Field"]}),
    "a control character": (400, {}, {"more": ["X-Field: \x01"]}),
    "an empty subprotocol": (400, {"Sec-WebSocket-Protocol": ""}, {}),
    "a subprotocol twice": (400, {"Sec-WebSocket-Protocol": "a, b, a"}, {}),
    "a subprotocol of two words": (400, {"Sec-WebSocket-Protocol": "a b"}, {}),
    "malformed extensions": (400, {"Sec-WebSocket-Extensions": "a; =b"}, {}),
    "100 fields too many": (431, {}, {"more": ["X-%d: x" % i for i in range(200)]}),
    "a head of 20,000 bytes": (431, {}, {"more": ["X-Long: " + "x" * 20000]}),
}


class Serving(Websockets):
    """4.2: connpipe is the server."""

    def refusal(self, data, port=None):
        """What is answered to these bytes, up to the end of the connection: (head, body)"""
        wire = Wire(self.client(port or self.port))
        wire.send_bytes(data)
        head = wire.receive_head()
        body = bytes(wire.buffer) + wire.peer.receive_all()
        length = head.get("Content-Length")
        self.assertIn("close", head.tokens("Connection"), head.text)
        if not data.startswith(b"HEAD"):
            self.assertEqual(int(length), len(body), head.text)
        return head, body

    def test_4_2_2_accept(self):
        """The key and the answer of the RFC's example (1.3)."""
        self.front("echo:")
        client = self.websocket(key="dGhlIHNhbXBsZSBub25jZQ==")
        self.assertEqual(client.answer.get("Sec-WebSocket-Accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        self.assertIsNone(client.answer.get("Sec-WebSocket-Protocol"))
        self.assertIsNone(client.answer.get("Sec-WebSocket-Extensions"))
        client.send(BINARY, b"hello")
        client.expect(b"hello")
        client.finish()

    def test_4_2_1_ways_to_ask(self):
        self.front("echo:")
        for name, changes in UPGRADES.items():
            with self.subTest(name):
                client = self.websocket(changes={**changes, "Host": "localhost"})
                client.send(BINARY, b"hello")
                client.expect(b"hello")

    def test_4_2_1_any_case_and_order_of_fields(self):
        self.front("echo:")
        key = new_key()
        wire = Wire(self.client(self.port))
        wire.send_bytes(("GET /?a=b HTTP/1.1\r\nsec-websocket-version:13\r\nSEC-WEBSOCKET-KEY: %s\r\nX-Other: x\r\n"
                         "CONNECTION: upgrade\r\nuPGRADE: websocket\r\nhost: [::1]:80\r\n\r\n" % key).encode())
        head = wire.receive_head()
        self.assertEqual((head.status, head.get("Sec-WebSocket-Accept")), (101, accept_of(key)))

    def test_4_2_1_refusals(self):
        proxy = self.front("echo:")
        for name, (status, changes, options) in WRONG.items():
            with self.subTest(name):
                head, body = self.refusal(request(changes=changes, **options))
                self.assertEqual(head.status, status, head.text + body)
                if status == 426:
                    self.assertEqual(head.get("Sec-WebSocket-Version"), "13")  # 4.4
                    self.assertEqual(head.get("Upgrade"), "websocket")
                if status == 405:
                    self.assertIn("GET", head.get("Allow"))
        self.websocket().finish()
        self.assertNotIn("Sanitizer", proxy.log())

    def test_4_2_1_what_is_no_request(self):
        self.front("echo:")
        for data in (b"\x16\x03\x01\x02\x00\x01\x00\x01", b"\x00\x01\x02", b"SSH-2.0-OpenSSH\r\n\r\n", b"\n\n",
                     b"GET / HTTP/1.1\nHost: x\n\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):
            with self.subTest(data):
                head, _ = self.refusal(data)
                self.assertEqual(head.status, 505 if data.startswith(b"PRI") else 400)

    def test_a_plain_get_is_helped(self):
        self.front("echo:")
        head, body = self.refusal(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertEqual(head.status, 426)
        self.assertTrue(head.get("Content-Type").startswith("text/html"))
        self.assertIn(b"websocket", body)
        self.assertNotIn(b"localhost", body)  # nothing of what was sent is sent back
        head, body = self.refusal(b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertEqual((head.status, body), (426, b""))

    def test_4_2_2_paths(self):
        port = free_port()
        servers = [self.server(), self.server()]
        self.connpipe(table({"ws:$4:%d/a" % port: servers[0].address, "ws:$4:%d/b/c" % port: servers[1].address}))
        for path, server in (("/a", servers[0]), ("/b/c", servers[1]), ("/a?token=x", servers[0]),
                             ("/%61", servers[0])):
            with self.subTest(path):
                client = self.websocket(path, port)
                client.send(TEXT, path)
                self.accept(server).expect(path.encode())
        for path in ("/", "/b", "/a/", "/A", "/a%2F", "/b/c/d"):
            with self.subTest(path):
                head, _ = self.refusal(request(path), port)
                self.assertEqual(head.status, 404)

    def test_4_2_2_bytes_that_come_with_the_request(self):
        """Frames in the segment of the request belong to the websocket: none is lost, none is taken for another."""
        _, server = self.before_tcp()
        frames = Wire(None)
        frames.MASKS = True
        data = os.urandom(3000)
        client = self.websocket(raw=frames.frame(BINARY, data[:1000]) + frames.frame(PING, "now") +
                                frames.frame(BINARY, data[1000:]))
        target = self.accept(server)
        target.expect(data)
        client.expect_heard("pong now")
        target.send(b"answer")
        client.expect(b"answer")

    def test_4_2_1_request_in_pieces(self):
        self.front("echo:")
        text = request(key="dGhlIHNhbXBsZSBub25jZQ==")
        for cuts in (range(1, len(text)), [len(text) - 1], [len(text) - 2], [len(text) - 4], [1]):
            peer = self.client(self.port)
            peer.send_pieces(text, cuts)
            wire = Wire(peer)
            head = wire.receive_head()
            self.assertEqual(head.get("Sec-WebSocket-Accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")

    def test_4_2_1_half_a_request(self):
        """Who goes away, or says nothing more, is let go."""
        proxy = self.front("echo:", timeouts='handshake = "200ms"')
        text = request()
        for length in (0, 1, 20, len(text) - 1):
            for end in ("shutdown", "reset", "wait"):
                with self.subTest("%s after %d bytes" % (end, length)):
                    peer = self.client(self.port)
                    peer.send(text[:length])
                    if end == "reset":
                        peer.reset()
                        continue
                    if end == "shutdown":
                        peer.shutdown()
                    with contextlib.suppress(ConnectionResetError):
                        said = peer.receive_all()
                        self.assertTrue(said in (b"",) or said.startswith(b"HTTP/1.1 4"), said)
        proxy.wait_closed(12)
        self.websocket().finish()

    def test_4_2_2_a_target_that_is_not_there(self):
        """The websocket is open before the way on is: so it is closed by an abnormal Close, or not opened at all."""
        nobody = socket.socket()
        self.addCleanup(nobody.close)
        nobody.bind(("127.0.0.1", 0))
        proxy = self.front("tcp:$4:%d" % nobody.getsockname()[1])
        wire = Wire(self.client(self.port))
        wire.MASKS = True
        wire.send_bytes(request())
        head = wire.receive_head()
        if head.status == 101:
            heard = wire.hear()
            self.assertTrue(heard in ("end", "reset") or heard.split(" ")[1] in ("1011", "1013", "1014"), heard)
        else:
            self.assertEqual(head.status, 503, head.text)
        self.assertIn("connect_refused", proxy.wait_closed())

    def test_over_tls(self):
        authority = Authority(self.directory())
        port = free_port()
        server = self.server()
        self.connpipe('[tls]\ntype = "tls"\ncertificate = "%s"\n' % authority.make("site", ["site.test"]) +
                      table({"wss:$4:%d/x" % port: server.address}))
        for changes in ({}, {"Origin": "https://site.test"}):
            peer = TlsPeer(self.client(port), client_context(authority.path), "site.test").handshake()
            client = Client(peer, "/x", changes)
            target = self.accept(server)
            client.send(BINARY, b"hello" * 10000)
            target.expect(b"hello" * 10000)
            target.send(b"answer" * 10000)
            client.expect(b"answer" * 10000)
            client.finish()
            target.expect_end()


REJECTED = {
    # name: (first line, changes, more)
    "200": ("HTTP/1.1 200 OK", {"Content-Length": "0"}, []),
    "301": ("HTTP/1.1 301 Moved Permanently", {"Location": "/other", "Content-Length": "0"}, []),
    "401": ("HTTP/1.1 401 Unauthorized", {"WWW-Authenticate": "Basic", "Content-Length": "0"}, []),
    "404": ("HTTP/1.1 404 Not Found", {"Content-Length": "0"}, []),
    "503": ("HTTP/1.1 503 Service Unavailable", {"Content-Length": "0"}, []),
    "no Upgrade": (None, {"Upgrade": None}, []),
    "another Upgrade": (None, {"Upgrade": "h2c"}, []),
    "no Connection": (None, {"Connection": None}, []),
    "another Connection": (None, {"Connection": "close"}, []),
    "no Accept": (None, {"Sec-WebSocket-Accept": None}, []),
    "an empty Accept": (None, {"Sec-WebSocket-Accept": ""}, []),
    "another Accept": (None, {"Sec-WebSocket-Accept": accept_of("x")}, []),
    "another case": (None, {"Sec-WebSocket-Accept": "swap"}, []),
    "a subprotocol nobody offered": (None, {"Sec-WebSocket-Protocol": "nobody-offered"}, []),
    "an extension nobody offered": (None, {"Sec-WebSocket-Extensions": "permessage-deflate"}, []),
    "an unknown extension": (None, {"Sec-WebSocket-Extensions": "x-unknown"}, []),
    "no HTTP": ("SSH-2.0-OpenSSH_9.2", {}, []),
}


class Asking(Websockets):
    """4.1: connpipe is the client."""

    def before(self, path="/", settings="", **options):
        """TCP in front of a websocket server: the server. `self.port`: where it is."""
        server = self.server()
        self.port = free_port()
        self.proxy = self.connpipe(
            table({"tcp:$4:%d" % self.port: "ws:127.0.0.1:%d%s" % (server.port, path)}, **options) + settings)
        return server

    def asked(self, server):
        """A new connection: its client, and the server's end, which has got the request."""
        client = self.client(self.port)
        return client, Server(self.accept(server))

    def test_4_1_request(self):
        server = self.before("/chat?room=1")
        keys = set()
        for _ in range(8):
            _, target = self.asked(server)
            asked = target.request
            self.assertEqual(asked.line, "GET /chat?room=1 HTTP/1.1")
            self.assertEqual(asked.get("Host"), "127.0.0.1:%d" % server.port)
            self.assertEqual(asked.get("Upgrade").lower(), "websocket")
            self.assertIn("upgrade", asked.tokens("Connection"))
            self.assertEqual(asked.get("Sec-WebSocket-Version"), "13")
            self.assertIsNone(asked.get("Origin"))
            self.assertIsNone(asked.get("Sec-WebSocket-Extensions"))
            self.assertEqual(asked.get("Sec-WebSocket-Protocol"), "binary, connpipe")
            self.assertFalse(target.buffer, "bytes behind the request, before it was answered")
            key = base64.b64decode(target.key, validate=True)
            self.assertEqual(len(key), 16)
            keys.add(key)
        self.assertEqual(len(keys), 8)

    def test_4_1_paths(self):
        for path, asked in (("", "/"), ("/a%20b", "/a%20b"), ("/ä", "/%C3%A4"), ("/?q=1&r=a/b", "/?q=1&r=a/b")):
            with self.subTest(path):
                _, target = self.asked(self.before(path))
                self.assertEqual(target.request.words[1], asked)

    def test_5_3_masks(self):
        """Each frame has a new mask that cannot be foretold (10.3)."""
        server = self.before()
        client, target = self.asked(server)
        target.accept()
        for i in range(64):
            client.send(b"x" * (i + 1))
            target.expect(b"x" * (i + 1))
        self.assertGreaterEqual(len(target.masks), 64)
        self.assertEqual(len(set(target.masks)), len(target.masks))
        for i in range(4):
            self.assertGreater(len({mask[i] for mask in target.masks}), 16)

    def test_4_1_answers_that_are_accepted(self):
        server = self.before()
        for name, changes in (("as they are", {}), ("in upper case", {"Upgrade": "WEBSOCKET", "Connection": "UPGRADE"}),
                              ("a list", {"Connection": "keep-alive, Upgrade"}), ("more", {"Server": "x"})):
            with self.subTest(name):
                client, target = self.asked(server)
                target.accept(changes)
                client.send(b"hello")
                target.expect(b"hello")
                target.send(BINARY, b"answer")
                client.expect(b"answer")

    def test_4_1_answers_that_are_rejected(self):
        server = self.before()
        for name, (first, changes, more) in REJECTED.items():
            with self.subTest(name):
                client, target = self.asked(server)
                if changes.get("Sec-WebSocket-Accept") == "swap":
                    changes = {"Sec-WebSocket-Accept": accept_of(target.key).swapcase()}
                client.send(b"early")
                target.send_bytes(answer(target.key, changes, more, **({"first": first} if first else {})))
                client.expect_closed()
                with contextlib.suppress(ConnectionResetError):
                    self.assertEqual(target.peer.receive_all(), b"", "data for a server that is none")
        self.assertRegex(self.proxy.wait_closed(), "connect_failed|connect_refused|target_protocol")

    def test_4_1_no_answer(self):
        server = self.before(timeouts='connect = "200ms"')
        client, target = self.asked(server)
        client.expect_closed()
        self.assertIn("connect_timeout", self.proxy.wait_closed())
        for said, end in (("", "shutdown"), ("HTTP/1.1 101 Switching", "shutdown"), ("", "reset"),
                          ("HTTP/1.1", "reset")):
            with self.subTest("%s after %r" % (end, said)):
                client, target = self.asked(server)
                target.send_bytes(said.encode())
                getattr(target.peer, end)()
                client.expect_closed()

    def test_4_1_answer_in_pieces(self):
        server = self.before()
        client, target = self.asked(server)
        text = answer(target.key)
        target.peer.send_pieces(text, range(1, len(text)))
        target.send(BINARY, b"hello")
        client.expect(b"hello")

    def test_4_1_frames_that_come_with_the_answer(self):
        server = self.before()
        client, target = self.asked(server)
        target.accept(raw=target.frame(BINARY, b"first") + target.frame(PING, "now") + target.frame(TEXT, "second"))
        client.expect(b"firstsecond")
        target.expect_heard("pong now")
        client.send(b"answer")
        target.expect(b"answer")

    def test_4_1_an_answer_that_is_too_long(self):
        server = self.before()
        client, target = self.asked(server)
        target.send_bytes(answer(target.key, more=["X-Long: " + "x" * 70000]))
        client.expect_closed()
