"""[connpipe.ws] as the other side sees it: limits, pings, who may come, what is agreed on, proxies on the way."""

import base64
import contextlib

from .harness import free_port, preamble, table
from .ws_raw import BINARY, CONTINUATION, PING, PONG, TEXT, Client, Server, Wire, request
from .ws_sides import Websockets, shut


class Settings(Websockets):
    def settings(self, text):
        return "[connpipe.ws]\n%s\n" % text

    def status(self, **changes):
        """What is answered to a request with these fields."""
        wire = Wire(self.client(self.port))
        wire.send_bytes(request(changes={name.replace("_", "-"): value for name, value in changes.items()}))
        return wire.receive_head()


class Limits(Settings):
    def test_messages_that_are_too_long(self):
        """1009 as soon as it is known: by the length of a frame, or the sum of fragments (7.4.1)."""
        proxy, server = self.before_tcp(settings=self.settings('message_limit = "1KiB"'))
        client, target = self.websocket(), self.accept(server)
        client.send(BINARY, bytes(1024))
        target.expect(bytes(1024))
        client.send_message(BINARY, bytes(1024), [1000, 24])
        target.expect(bytes(1024))
        long = [lambda client: client.send(BINARY, bytes(1025)),
                lambda client: client.send(BINARY, b"", length=1 << 40),
                lambda client: client.send_message(TEXT, bytes(1025), [1000]),
                lambda client: client.send_message(BINARY, bytes(1 << 20), [1] * 100)]
        opened = []
        for act in long:
            opened.append((self.websocket(), self.accept(server)))
            act(opened[-1][0])
        opened[1][0].send_bytes(bytes(5))  # the length alone is no piece of a message
        for client, target in opened:
            self.assertEqual(client.hear().split(" ")[:2], ["close", "1009"])
            client.peer.shutdown()
            with contextlib.suppress(ConnectionResetError):
                target.receive_all()
                self.fail("an end in order")
        self.assertIn("client_protocol", proxy.wait_closed())

    def test_messages_of_a_server(self):
        server = self.server()
        port = free_port()
        self.connpipe(table({"tcp:$4:%d" % port: "ws:127.0.0.1:%d" % server.port}) +
                      self.settings('message_limit = "1KiB"'))
        client = self.client(port)
        target = Server(self.accept(server)).accept()
        target.send(BINARY, bytes(1024))
        client.expect(bytes(1024))
        target.send(BINARY, bytes(1025))
        self.assertEqual(target.hear().split(" ")[:2], ["close", "1009"])
        client.expect_reset()


class Pings(Settings):
    def test_an_idle_client_is_asked(self):
        """It answers: it stays. What it is asked is a ping of at most 125 bytes."""
        _, server = self.before_tcp(settings=self.settings('ping = "30ms"\npong_timeout = "5s"'))
        client, target = self.websocket(), self.accept(server)
        for _ in range(3):
            asked = client.receive_frame()
            self.assertEqual(asked.opcode, PING)
            client.send(PONG, asked.payload)
        client.send(BINARY, b"still here")
        target.expect(b"still here")

    def test_one_that_does_not_answer_is_let_go(self):
        proxy, server = self.before_tcp(settings=self.settings('ping = "30ms"\npong_timeout = "60ms"'))
        client, target = self.websocket(), self.accept(server)
        self.assertEqual(client.receive_frame().opcode, PING)
        target.expect_reset()
        while (heard := client.hear()).startswith("ping"):
            pass
        self.assertIn(heard.split(" ")[0], ("end", "reset", "close"))
        proxy.wait_closed()
        self.assertEqual(proxy.counter("ws_pings_unanswered"), 1)

    def test_what_comes_counts_as_an_answer(self):
        _, server = self.before_tcp(settings=self.settings('ping = "40ms"\npong_timeout = "200ms"'))
        client, target = self.websocket(), self.accept(server)
        for i in range(5):
            while client.receive_frame().opcode != PING:
                pass
            client.send(TEXT, "%d" % i)
            target.expect(b"%d" % i)

    def test_servers_are_asked_too(self):
        server = self.server()
        port = free_port()
        self.connpipe(table({"tcp:$4:%d" % port: "ws:127.0.0.1:%d" % server.port}) +
                      self.settings('ping = "30ms"\npong_timeout = "100ms"'))
        client = self.client(port)
        target = Server(self.accept(server)).accept()
        asked = target.receive_frame()
        self.assertEqual(asked.opcode, PING)
        target.send(PONG, asked.payload)
        target.send(BINARY, b"here", fin=False)
        target.send(CONTINUATION)
        client.expect(b"here")
        client.expect_reset()  # it says nothing more


class Counters(Settings):
    def test_what_is_counted(self):
        proxy, server = self.before_websocket(settings=self.settings('hosts = ["localhost"]'))
        for _ in range(2):
            self.through(server)
        self.assertEqual(self.status(Host="else.test").status, 404)
        self.assertEqual([proxy.counter("ws_" + name) for name in ("accepted", "connected", "refused",
                                                                  "pings_unanswered")], [2, 2, 1, 0])


class Who(Settings):
    def test_origins(self):
        self.front("echo:", settings=self.settings('origins = ["https://example.org", "https://*.example.com"]'))
        for origin, status in (("https://example.org", 101), ("https://EXAMPLE.org", 101),
                               ("https://a.example.com", 101),
                               ("https://a.b.example.com", 101), ("https://example.com", 403),
                               ("http://example.org", 403), ("https://example.org.evil.test", 403),
                               ("https://evilexample.com", 403), ("null", 403), (None, 403)):
            with self.subTest(origin):
                self.assertEqual(self.status(Origin=origin).status, status)

    def test_hosts(self):
        self.front("echo:", settings=self.settings('hosts = ["example.org", "*.example.com"]'))
        for host, status in (("example.org", 101), ("example.org:8080", 101), ("a.example.com", 101),
                             ("else.test", 404),
                             ("example.org.evil.test", 404)):
            with self.subTest(host):
                self.assertEqual(self.status(Host=host).status, status)

    def test_subprotocols(self):
        """4.2.2: one of those that were offered, ours the best first; else none."""
        self.front("echo:", settings=self.settings('subprotocols = ["v2.chat", "v1.chat"]'))
        for offered, chosen in (("v1.chat", "v1.chat"), ("v1.chat, v2.chat", "v2.chat"), ("other", None),
                                ("V1.chat", None), ("v1.chat, connpipe", "connpipe"), (None, None)):
            with self.subTest(offered):
                head = self.status(Sec_WebSocket_Protocol=offered)
                self.assertEqual((head.status, head.get("Sec-WebSocket-Protocol")), (101, chosen))

    def test_headers(self):
        self.front("echo:", settings=self.settings('headers = { X-Via = "connpipe", X-Two = ["1", "2"] }'))
        head = self.status()
        self.assertEqual(head.get("X-Via"), "connpipe")
        self.assertEqual(head.all("X-Two"), ["1", "2"])


class Asked(Settings):
    def request(self, text, path="/"):
        server = self.server()
        port = free_port()
        self.connpipe(table({"tcp:$4:%d" % port: "ws:127.0.0.1:%d%s" % (server.port, path)}) + self.settings(text))
        client = self.client(port)
        return client, Server(self.accept(server))

    def test_what_a_server_is_told(self):
        _, target = self.request('host = "example.org"\norigin = "https://example.org"\nsubprotocols = ["chat"]\n'
                                 'half_close = false\nheaders = { Authorization = "Bearer x" }')
        asked = target.request
        self.assertEqual(asked.get("Host"), "example.org")
        self.assertEqual(asked.get("Origin"), "https://example.org")
        self.assertEqual(asked.get("Sec-WebSocket-Protocol"), "chat")
        self.assertEqual(asked.get("Authorization"), "Bearer x")

    def test_through_a_proxy(self):
        """CONNECT (RFC 9110, 9.3.6), whose answer is the proxy's."""
        proxy, server = self.server(), self.server()
        port = free_port()
        self.connpipe(table({"tcp:$4:%d" % port: "ws:127.0.0.1:%d/x" % server.port}) + self.settings(
            'proxy = "http://127.0.0.1:%d"\nproxy_user = "u"\nproxy_password = "p"' % proxy.port))
        client = self.client(port)
        wire = Wire(self.accept(proxy))
        head = wire.receive_head()
        self.assertEqual(head.line, "CONNECT 127.0.0.1:%d HTTP/1.1" % server.port)
        self.assertEqual(head.get("Proxy-Authorization"), "Basic " + base64.b64encode(b"u:p").decode())
        wire.send_bytes(b"HTTP/1.1 200 Connection established\r\nX-Proxy: x\r\n\r\n")
        target = Server(wire.peer).accept()  # the rest of this connection is the target's
        self.assertEqual(target.request.words[1], "/x")
        client.send(b"hello")
        target.expect(b"hello")

    def test_a_proxy_that_refuses(self):
        proxy = self.server()
        port = free_port()
        ours = self.connpipe(table({"tcp:$4:%d" % port: "ws:127.0.0.1:9/x"}) + self.settings(
            'proxy = "http://127.0.0.1:%d"' % proxy.port))
        for answer in (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", b"HTTP/1.1 503 x\r\n\r\n",
                       b"SSH-2.0-x\r\n",
                       b""):
            with self.subTest(answer):
                client = self.client(port)
                wire = Wire(self.accept(proxy))
                wire.receive_head()
                wire.send_bytes(answer)
                shut(wire.peer)
                client.expect_closed()
        self.assertRegex(ours.wait_closed(), "connect_(refused|failed)|target_protocol")


class Multiplexed(Settings):
    def test_subports_inside(self):
        """The preamble is the first bytes of the first message: !name through websockets."""
        port = free_port()
        front = free_port()
        servers = {name: self.server() for name in ("one", "two")}
        self.connpipe(table({
            **{"ws:$4:%d/x!%s" % (port, name): server.address for name, server in servers.items()},
            **{"tcp:$4:%d!%s" % (front, name): "ws:127.0.0.1:%d/x!%s" % (port, name) for name in servers}}))
        for name, server in servers.items():
            client = self.client(front)
            client.send(preamble(name) + b"hello")
            target = self.accept(server)
            target.expect(b"hello")
            target.send(b"answer")
            client.expect(b"answer")
            direct = Client(self.client(port), "/x")
            direct.send_message(BINARY, preamble(name) + b"direct", [3, 20])
            target = self.accept(server)
            target.expect(b"direct")
