"""Websockets as users put them together: paths and routers, subports, stacks of layers, TLS, HTTP proxies, facts. What
goes over one websocket, and how it ends, is in test_ws_through.py."""

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import unittest

from . import harness, test_tcp_settings
from .harness import PATIENCE, free_port, preamble, table, until
from .test_layers import ENOUGH, in_background, some_bytes
from .tls_peers import Authority, TlsPeer, client_context, server_context
from .ws_raw import BINARY, TEXT, Client, Server as Answering
from .ws_sides import Websockets

LONG = bool(os.environ.get("CONNPIPE_TEST_LONG"))
Settings = test_tcp_settings.Settings
TLS = '[site]\ntype = "tls"\ncertificate = "%s"\n'


class Refused(Client):
    """What comes instead of an upgrade."""

    def check_answer(self):
        self.page = b""
        while piece := self.peer.receive():
            self.page += piece
        self.close()


class Addresses(Websockets):
    def refused(self, path, status, port=None, **options):
        answer = Refused(self.client(port or self.port), path, **options).answer
        self.assertEqual(answer.status, status, answer.text)

    def test_paths_of_one_socket_belong_to_several_routers(self):
        servers = [self.server() for _ in range(4)]
        port = free_port()
        tables = [{"/a": servers[0]}, {"/b": servers[1], "/b/c": servers[2]}, {"/caf%c3%a9": servers[3]}]
        text = "".join('[r%d]\ntype = "table"\n[r%d.routes]\n' % (i, i) + "".join(
            '"ws:$4:%d%s" = "%s"\n' % (port, path, server.address) for path, server in each.items())
                       for i, each in enumerate(tables))
        self.port = port
        proxy = self.connpipe(text)
        for path, server in (("/a", 0), ("/b", 1), ("/b/c", 2), ("/caf%C3%A9", 3), ("/%61", 0), ("/a?b=/c", 0)):
            with self.subTest(path=path):
                self.websocket(path).send(BINARY, path)
                self.accept(servers[server]).expect(path.encode())
        for path in ("/", "/c", "/A", "/a/", "/b%2Fc"):
            with self.subTest(path=path):
                self.refused(path, 404)
        proxy.wait_log(r"client_protocol: refused with 404: nothing is served under this path")

    def test_without_a_path_all_are_taken(self):
        server = self.server()
        proxy = self.front(server.address)
        self.websocket("/anything?at=all").send(BINARY, b"x")
        self.accept(server).expect(b"x")
        proxy.wait_log(r"opened: ws:127.0.0.1:%d/anything from" % self.port)

    def test_a_path_goes_before_none(self):
        one, rest = self.server(), self.server()
        self.port = free_port()
        self.connpipe(table({"ws:$4:%d/one" % self.port: one.address, "ws:$4:%d" % self.port: rest.address}))
        for path, server in (("/one", one), ("/two", rest), ("/one/two", rest)):
            self.websocket(path).send(BINARY, path)
            self.accept(server).expect(path.encode())

    def test_a_path_is_handed_on(self):
        server = self.server()
        self.front("ws:127.0.0.1:%d/{path}" % server.port)
        for sent, got in (("/a/b", "/a/b"), ("/a%2fb%3f", "/a%2Fb%3F"), ("/caf%C3%A9%20", "/caf%C3%A9%20"), ("/", "/")):
            with self.subTest(path=sent):
                self.websocket(sent)
                self.assertEqual(Answering(self.accept(server)).request.words[1], got)

    def test_names_of_the_connector(self):
        server = self.server()
        self.port = free_port()
        self.connpipe(table({"1e1001.connpipe.core.websocket:$4:%d" % self.port: server.address}))
        self.websocket().send(BINARY, b"x")
        self.accept(server).expect(b"x")

    def test_a_reload_brings_paths_and_takes_them_away(self):
        server = self.server()
        proxy = self.front(server.address, path="/old")
        old = self.websocket("/old")
        target = self.accept(server)
        self.refused("/new", 404)
        proxy.configure(table({"ws:$4:%d/new" % self.port: server.address}))
        proxy.signal(harness.SIGHUP)
        proxy.wait_generation()
        self.refused("/old", 404)
        self.websocket("/new").send(BINARY, b"new")
        self.accept(server).expect(b"new")
        old.send(BINARY, b"still there")
        target.expect(b"still there")

    def test_port_0_becomes_a_number(self):
        proxy = self.connpipe(table({"ws:$4:0/p": "echo:"}))
        self.port = int(proxy.wait_log(r"bound ws:127.0.0.1:(\d+)$")[1])
        client = self.websocket("/p")
        client.send(BINARY, b"there")
        client.expect(b"there")


class Subports(Websockets):
    def test_a_subport_is_named_in_the_first_message(self):
        ssh, rest = self.server(), self.server()
        self.port = free_port()
        self.connpipe(table({"ws:$4:%d/p!ssh" % self.port: ssh.address, "ws:$4:%d/p" % self.port: rest.address}))
        client = self.websocket("/p")
        client.send(BINARY, preamble("ssh") + b"in one message")
        self.accept(ssh).expect(b"in one message")
        client = self.websocket("/p")
        client.send(BINARY, preamble("ssh"))
        client.send(BINARY, b"in two")
        self.accept(ssh).expect(b"in two")
        self.websocket("/p").send(BINARY, b"none")
        self.accept(rest).expect(b"none")

    def test_through_two(self):
        server, between = self.server(), free_port()
        self.connpipe(table({"ws:$4:%d/p!echo" % between: server.address}))
        entry = self.connpipe(table({"tcp:$4:0": "ws:127.0.0.1:%d/p!echo" % between}))
        client = self.client(entry.port())
        client.send(b"hello")
        target = self.accept(server)
        target.expect(b"hello")
        target.send(b"back")
        client.expect(b"back")

    def test_messages_behind_a_subport_keep_their_kind(self):
        server, between = self.server(), free_port()
        self.connpipe(table({"ws:$4:%d!sub" % between: "ws:127.0.0.1:%d/" % server.port}))
        self.front("ws:127.0.0.1:%d!sub" % between)
        client = self.websocket()
        client.send(TEXT, "words")
        target = Answering(self.accept(server)).accept()
        target.expect_message(TEXT, "words")
        client.send(BINARY, b"bytes")
        target.expect_message(BINARY, b"bytes")


class Facts(Websockets):
    def front_rules(self, rules, settings=""):
        self.port = free_port()
        text = '[t]\ntype = "table"\n[t.routes]\n"ws:$4:%d" = [\n%s\n]\n' % (self.port, ",\n".join(rules))
        return self.connpipe(text + settings)

    def test_conditions_do_not_wait_for_bytes(self):
        """The server speaks first, and timeouts.preamble is not what it waits for."""
        one, two, rest = (self.server() for _ in range(3))
        self.front_rules(['{ when = { host = "one.example" }, to = "%s" }' % one.address,
                          '{ when = { path = "/two/*", method = "GET" }, to = "%s" }' % two.address,
                          '{ to = "%s" }' % rest.address],
                         '[connpipe]\ntimeouts = { preamble = "10m" }\n')
        for host, path, server in (("one.example", "/", one), ("One.Example:8080", "/two/x", one),
                                   ("other.example", "/two/x", two), ("other.example", "/", rest)):
            with self.subTest(host=host, path=path):
                client = self.websocket(path, changes={"Host": host})
                self.accept(server).send(b"220 ready")
                client.expect(b"220 ready")

    def test_facts_in_templates(self):
        server = self.server()
        proxy = self.front_rules(['{ to = "ws:127.0.0.1:%d/{x-tenant}/{subprotocol}" }' % server.port],
                                 '[connpipe.ws]\nfacts = ["X-Tenant"]\nsubprotocols = ["chat"]\n')
        client = self.websocket(changes={"X-Tenant": "blue", "Sec-WebSocket-Protocol": "other, chat"})
        self.assertEqual(client.answer.get("Sec-WebSocket-Protocol"), "chat")
        self.assertEqual(Answering(self.accept(server)).request.words[1], "/blue/chat")
        self.assertNotIn("neither a field", proxy.log())

    def test_forwarded_by_a_trusted_proxy(self):
        inside, outside = self.server(), self.server()
        proxy = self.front_rules(['{ when = { from = "192.0.2.0/24" }, to = "%s" }' % inside.address,
                                  '{ to = "%s" }' % outside.address],
                                 '[connpipe.ws]\ntrusted = ["127.0.0.1", "10.0.0.0/8"]\n')
        for forwarded, server in (("198.51.100.1, 192.0.2.7, 10.0.0.1", inside), ("192.0.2.7, 198.51.100.1", outside)):
            with self.subTest(forwarded=forwarded):
                self.websocket(changes={"X-Forwarded-For": forwarded}).send(BINARY, b"x")
                self.accept(server).expect(b"x")
        proxy.wait_log(r"opened: .* from 192\.0\.2\.7")

    def test_forwarded_by_anybody(self):
        inside, outside = self.server(), self.server()
        self.front_rules(['{ when = { from = "192.0.2.0/24" }, to = "%s" }' % inside.address,
                          '{ to = "%s" }' % outside.address])
        self.websocket(changes={"X-Forwarded-For": "192.0.2.7"}).send(BINARY, b"x")
        self.accept(outside).expect(b"x")


class Stacks(Websockets):
    """`ws(/path)` over other layers: fused with the socket, or bridged to it."""

    STACKS = ("ws(/p)", "ws(/p)+proxy", "ws(/p)+proxy(v1)", "ws(/p)+zstd", "ws(/p)+tls(site)", "ws(/p)+tls(site)+proxy",
              "zstd+ws(/p)", "proxy+ws(/p)", "tls(site)+ws(/p)", "ws(/outer)+ws(/p)", "frame+ws(/p)")
    UNIX = ("ws(/p)", "ws(/p)+zstd")

    @classmethod
    def setUpClass(cls):
        cls.authority = Authority(tempfile.mkdtemp(prefix="connpipe-ws-"))
        cls.addClassCleanup(shutil.rmtree, cls.authority.directory, ignore_errors=True)
        cls.site = '[site]\ntype = "tls"\ncertificate = "%s"\nca = "%s"\nserver_name = "127.0.0.1"\n' % (
            cls.authority.make("site", ["127.0.0.1"]), cls.authority.path)

    def chains(self, server, stacks, wire=lambda: "tcp:$4:%d" % free_port()):
        front, back, ports = {}, {}, []
        for stack in stacks:
            between, bare = "%s+%s" % (stack, wire()), "frame+" if stack.startswith("frame") else ""
            ports.append(free_port())
            front["%stcp:$4:%d" % (bare, ports[-1])] = between
            back[between] = bare + server.address
        self.back = self.connpipe(table(back) + self.site)
        return self.connpipe(table(front) + self.site), ports

    def through(self, stack, port, server):
        """Much, both ways at once, and the end of each; towards a websocket it waits for the answer, or is exact."""
        up, down = some_bytes(ENOUGH, 7), some_bytes(ENOUGH, 11)
        if stack.startswith("frame"):
            up = down = b"".join(len(m).to_bytes(2, "big") + m for m in (b"one", b"", b"three", bytes(5000)))
        client = self.client(port)
        sender = in_background(client.send, up)
        target = self.accept(server)
        answerer = in_background(target.send, down)
        target.expect(up)
        client.expect(down)
        sender.join()
        answerer.join()
        client.shutdown()
        target.expect_end()
        target.send(down[:100] if not stack.startswith("frame") else down)
        target.close()
        self.assertEqual(client.receive_all(), down[:100] if not stack.startswith("frame") else down)

    def test_all(self):
        server = self.server()
        _, ports = self.chains(server, self.STACKS)
        for stack, port in zip(self.STACKS, ports):
            with self.subTest(stack=stack):
                self.through(stack, port, server)

    def test_over_unix_sockets(self):
        server = self.server()
        _, ports = self.chains(server, self.UNIX, lambda: "unix:%s/wire" % self.directory())
        for stack, port in zip(self.UNIX, ports):
            with self.subTest(stack=stack):
                self.through(stack, port, server)

    def test_resets(self):
        server = self.server()
        stacks = ("ws(/p)", "ws(/p)+zstd", "ws(/p)+tls(site)")
        _, ports = self.chains(server, stacks)
        for stack, port in zip(stacks, ports):
            for sender in (0, 1):
                with self.subTest(stack=stack, sender=sender):
                    client = self.client(port)
                    client.send(b"hello")
                    target = self.accept(server)
                    target.expect(b"hello")
                    target.send(b"hello")
                    client.expect(b"hello")
                    (client, target)[sender].reset()
                    (target, client)[sender].expect_reset()

    def test_a_path_that_the_converter_does_not_have(self):
        self.port = free_port()
        proxy = self.connpipe(table({"ws(/p)+tcp:$4:%d" % self.port: "echo:"}))
        answer = Refused(self.client(self.port), "/q").answer
        self.assertEqual(answer.status, 404)
        proxy.wait_log("refused with 404")
        client = self.websocket("/%70")
        client.send(BINARY, b"x")
        client.expect(b"x")

    def test_behind_a_proxy_header(self):
        """The header, the request and the first frame in one segment."""
        server = self.server()
        self.port = free_port()
        proxy = self.connpipe(table({"ws(/p)+proxy+tcp:$4:%d" % self.port: server.address}))
        peer = self.client(self.port)
        header = b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n"
        real = peer.send
        peer.send = lambda data: (setattr(peer, "send", real), real(header + data))
        client = Client(peer, "/p", raw=b"\x82\x85\0\0\0\0hello")
        target = self.accept(server)
        target.expect(b"hello")
        target.send(b"back")
        client.expect(b"back")
        proxy.wait_log(r"opened: .* from 192\.0\.2\.1:1000")

    def test_messages_are_kept_over_a_bridge(self):
        server, between = self.server(), free_port()
        self.connpipe(table({"ws(/p)+zstd+tcp:$4:%d" % between: "ws:127.0.0.1:%d/" % server.port}))
        self.front("ws(/p)+zstd+tcp:127.0.0.1:%d" % between)
        client = self.websocket()
        client.send_message(TEXT, "in three pieces", (3, 6))
        target = Answering(self.accept(server)).accept()
        target.expect_message(TEXT, "in three pieces")
        target.send(BINARY, bytes(100000))
        client.expect_message(BINARY, bytes(100000))
        target.send_close(4001, "that is it")
        client.expect_heard("close 4001 that is it")


class Datagrams(Websockets):
    def test_through_two(self):
        """Each datagram is a message, whatever its length."""
        target, client = (self.keep(sock, sock.close) for sock in (socket.socket(type=socket.SOCK_DGRAM),
                                                                   socket.socket(type=socket.SOCK_DGRAM)))
        for sock in (target, client):
            sock.settimeout(PATIENCE)
        target.bind(("127.0.0.1", 0))
        entry, between = free_port(), free_port()
        self.connpipe(table({"ws:$4:%d/udp" % between: "udp:127.0.0.1:%d" % target.getsockname()[1]}))
        self.connpipe(table({"udp:$4:%d" % entry: "ws:127.0.0.1:%d/udp" % between}))
        client.connect(("127.0.0.1", entry))
        peer = None
        for sent in (b"first", b"", b"x" * 1400, b"y" * 65507):
            client.send(sent)
            got, peer = target.recvfrom(70000)
            self.assertEqual(got, sent)
        for sent in (b"z" * 65507, b"", b"back"):
            target.sendto(sent, peer)
            self.assertEqual(client.recv(70000), sent)


class HalfClose(Websockets):
    def test_is_exact_between_two_connpipes(self):
        server, between = self.server(), free_port()
        self.connpipe(table({"ws:$4:%d" % between: server.address}))
        entry = self.connpipe(table({"tcp:$4:0": "ws:127.0.0.1:%d" % between}, timeouts='half_close = "10m"'))
        client = self.client(entry.port())
        client.send(b"question")
        client.shutdown()
        target = self.accept(server)
        self.assertEqual(target.receive_all(), b"question")
        target.send(b"answer")
        target.close()
        self.assertEqual(client.receive_all(), b"answer")

    def test_of_the_target_first(self):
        server, between = self.server(), free_port()
        self.connpipe(table({"ws:$4:%d" % between: server.address}))
        entry = self.connpipe(table({"tcp:$4:0": "ws:127.0.0.1:%d" % between}))
        client = self.client(entry.port())
        client.send(b"go")
        target = self.accept(server)
        target.expect(b"go")
        target.send(b"all of it")
        target.shutdown()
        self.assertEqual(client.receive_all(), b"all of it")
        client.close()
        target.expect_end()

    def test_is_an_empty_text_message(self):
        server = self.server()
        self.front(server.address)
        client = self.websocket(changes={"Sec-WebSocket-Protocol": "connpipe"})
        self.assertEqual(client.answer.get("Sec-WebSocket-Protocol"), "connpipe")
        client.send(BINARY, b"question")
        client.send(TEXT, b"")
        target = self.accept(server)
        self.assertEqual(target.receive_all(), b"question")
        target.send(b"answer")
        client.expect(b"answer")
        target.close()
        self.assertIn(client.hear(), ("text", "close 1000"))


class Secure(Websockets):
    @classmethod
    def setUpClass(cls):
        cls.authority = Authority(tempfile.mkdtemp(prefix="connpipe-wss-"))
        cls.addClassCleanup(shutil.rmtree, cls.authority.directory, ignore_errors=True)
        cls.certificate = cls.authority.make("site", ["localhost", "127.0.0.1"])

    def secure(self, path="/", **options):
        context = client_context(self.authority.path)
        return Client(TlsPeer(self.client(self.port), context, "localhost").handshake(), path, **options)

    def test_both_ways(self):
        server = self.server()
        proxy = self.front(server.address, path="/p", connector="wss", settings=TLS % self.certificate)
        client = self.secure("/p")
        data = some_bytes(ENOUGH)
        sender = in_background(client.send, BINARY, data)
        target = self.accept(server)
        target.expect(data)
        sender.join()
        sender = in_background(target.send, data)
        client.expect(data)
        sender.join()
        target.close()
        client.expect_heard("close 1000")
        proxy.wait_log(r"opened: wss:127.0.0.1:%d/p from" % self.port)

    def stuck(self):
        """A client that reads nothing of much that is there: (process, client, its descriptors before)"""
        server = self.server()
        proxy = self.front(server.address, connector="wss", settings=TLS % self.certificate,
                           timeouts='reset = "100ms"')
        before = len(os.listdir("/proc/%d/fd" % proxy.process.pid))
        tls = TlsPeer(self.client(self.port, receive_buffer=4096), client_context(self.authority.path), "localhost")
        client = Client(tls.handshake())
        target = self.accept(server)
        target.socket.setblocking(False)
        while select.select([], [target.socket], [], 0.3)[1]:
            with contextlib.suppress(BlockingIOError):
                target.socket.send(bytes(1 << 20))
        return proxy, client, before

    def test_a_client_that_is_stuck_can_be_killed(self):
        proxy, _client, before = self.stuck()
        number = int(proxy.wait_log(r"pipe/(\d+)\] opened")[1])
        self.assertTrue(proxy.ask("kill", id=number)["ok"])
        until(lambda: len(os.listdir("/proc/%d/fd" % proxy.process.pid)) <= before + 1)  # TLS has some patience

    @unittest.skipUnless(LONG, "takes as long as TLS has patience")
    def test_a_client_that_is_stuck_does_not_keep_the_process(self):
        proxy, _client, _before = self.stuck()
        proxy.signal(signal.SIGTERM)
        self.assertEqual(proxy.wait(), 0)

    def test_refusals(self):
        self.front("echo:", path="/p", connector="wss", settings=TLS % self.certificate)
        context = client_context(self.authority.path)
        answer = Refused(TlsPeer(self.client(self.port), context, "localhost").handshake(), "/other").answer
        self.assertEqual(answer.status, 404)
        self.client(self.port).send(b"GET / HTTP/1.1\r\nHost: plain\r\n\r\n")

    def test_what_tls_told_is_known_beside_what_http_did(self):
        server = self.server()
        self.port = free_port()
        proxy = self.connpipe('[t]\ntype = "table"\n[t.routes]\n"wss:$4:%d" = '
                              '{ when = { sni = "localhost", host = "inside.example" }, to = "%s" }\n' %
                              (self.port, server.address) + TLS % self.certificate)
        self.secure(changes={"Host": "inside.example"}).send(BINARY, b"x")
        self.accept(server).expect(b"x")
        self.assertNotIn("never holds", proxy.log())

    def entry(self, server, trusted):
        environment = {"SSL_CERT_FILE": self.authority.path if trusted else "/dev/null", "SSL_CERT_DIR": "/nowhere"}
        return self.connpipe(table({"tcp:$4:0": "wss:localhost:%d/p" % server.port}), environment=environment)

    def test_a_target_that_the_system_trusts(self):
        server = self.server()
        entry = self.entry(server, True)
        client = self.client(entry.port())
        target = Answering(TlsPeer(self.accept(server), server_context(self.certificate), server=True).handshake())
        self.assertEqual(target.request.get("Host"), "localhost:%d" % server.port)
        target.accept()
        client.send(b"hello")
        target.expect(b"hello")
        target.send(BINARY, b"back")
        client.expect(b"back")

    def test_a_target_that_it_does_not_trust(self):
        server = self.server()
        entry = self.entry(server, False)
        client = self.client(entry.port())
        peer = TlsPeer(self.accept(server), server_context(self.certificate), server=True)
        try:
            Answering(peer.handshake())
            self.fail("the certificate was accepted")
        except (OSError, EOFError):  # ssl.SSLError is an OSError
            pass
        entry.wait_log(r"closed: .*certificate")
        client.expect_closed()


class Through(Websockets):
    """HTTP proxies before the target (RFC 9110 9.3.6)."""

    def entry(self, proxy, target, **options):
        settings = '[connpipe.ws]\nproxy = "http://127.0.0.1:%d"\n' % proxy.port
        return self.connpipe(table({"tcp:$4:0": target}, **options) + settings)

    def asked(self, proxy, line):
        peer = self.accept(proxy)
        head = b""
        while b"\r\n\r\n" not in head:
            head += peer.receive()
        self.assertEqual(head.split(b"\r\n")[0], line)
        return peer

    def test_a_connection_by_the_proxy(self):
        proxy = self.server()
        entry = self.entry(proxy, "ws:target.example:81/p")
        client = self.client(entry.port())
        peer = self.asked(proxy, b"CONNECT target.example:81 HTTP/1.1")
        peer.send(b"HTTP/1.1 200 Connected\r\nVia: 1.1 there\r\n\r\n")
        target = Answering(peer)
        self.assertEqual((target.request.line, target.request.get("Host")), ("GET /p HTTP/1.1", "target.example:81"))
        target.accept()
        client.send(b"hello")
        target.expect(b"hello")

    def test_a_refusal_by_the_proxy(self):
        proxy = self.server()
        entry = self.entry(proxy, "ws:target.example:81/p")
        client = self.client(entry.port())
        self.asked(proxy, b"CONNECT target.example:81 HTTP/1.1").send(
            b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        entry.wait_log(r"closed: .*403")
        client.expect_closed()

    def test_no_answer_by_the_proxy(self):
        proxy = self.server()
        entry = self.entry(proxy, "ws:target.example:81/p", timeouts='connect = "50ms"')
        client = self.client(entry.port())
        self.asked(proxy, b"CONNECT target.example:81 HTTP/1.1")
        entry.wait_log(r"closed: .*connect_timeout: no connection by the HTTP proxy within 50 ms")
        client.expect_closed()


class Targets(Websockets):
    def test_the_next_one_is_tried(self):
        """One refuses, one never answers, one answers wrongly, and the last one is there."""
        silent, wrong, right = (self.server() for _ in range(3))
        proxy = self.connpipe(table({"tcp:$4:0": ["ws:127.0.0.1:%d" % port for port in (
            free_port(), silent.port, wrong.port, right.port)]}, timeouts='connect = "100ms"'))
        client = self.client(proxy.port())
        client.send(b"hello")
        self.accept(silent)
        Answering(self.accept(wrong)).send_bytes(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        Answering(self.accept(right)).accept().expect(b"hello")
        proxy.wait_log(r"failed, trying the next one: .*refused")
        proxy.wait_log(r"failed, trying the next one: no answer to the request for a websocket within 100 ms")
        proxy.wait_log(r"failed, trying the next one: .*404")

    def test_what_is_asked_for_by_itself(self):
        server = self.server()
        proxy = self.connpipe(table({"tcp:$4:0": "ws:127.0.0.1:%d" % server.port}))
        self.client(proxy.port())
        request = Answering(self.accept(server)).request
        self.assertEqual(request.get("Host"), "127.0.0.1:%d" % server.port)
        self.assertEqual(request.tokens("Sec-WebSocket-Protocol"), ["binary", "connpipe"])


class Clients(Websockets):
    def test_who_leaves_while_asking(self):
        proxy = self.front("echo:")
        self.client(self.port).close()
        proxy.wait_log("client_gone: the client left before it asked for a websocket")
        peer = self.client(self.port)
        peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
        peer.shutdown()
        proxy.wait_log(r"client_protocol: the request is cut short: it ends behind byte 25")

    def test_who_takes_too_long(self):
        proxy = self.front("echo:", timeouts='handshake = "50ms"')
        peer = self.client(self.port)
        peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
        proxy.wait_log("handshake_timeout")
        peer.expect_closed()

    def test_who_is_refused_reads_the_answer_although_it_sends_more(self):
        proxy = self.front("echo:", path="/p")
        peer = self.client(self.port)
        peer.send(b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + bytes(100000))
        answer = b""
        while piece := peer.receive():
            answer += piece
        self.assertEqual(answer.split(b" ")[1], b"405", answer)
        peer.close()
        proxy.wait_log("refused with 405")


class Program(Websockets):
    def test_check_says_what_can_be_said(self):
        wrong = {
            "wss:$4:1": r"needs a certificate",
            "ws:example.org:1": r"cannot bind to a name",
            "ws:$4:1/p%3Fq": r"a path that is bound has no query",
            "ws:$4": r"port is missing|expected",
            "ws(p)+tcp:$4:1": r"expected a path that begins with",
            "ws+udp:$4:1": r"makes messages of bytes",
        }
        for address, words in wrong.items():
            with self.subTest(address=address):
                directory = self.directory()
                with open(os.path.join(directory, "config.toml"), "w", encoding="utf-8") as file:
                    file.write(table({address: "echo:"}))
                result = self.program("check", "--config", directory)
                self.assertEqual(result.returncode, 1)
                self.assertRegex(result.stderr, words)

    def test_check_allows_bytes_and_messages(self):
        directory = self.directory()
        routes = {"ws:$4:1/a": "tcp:$4:9", "ws:$4:1/b": "ws:$4:9", "ws:$4:1/c": "udp:$4:9", "udp:$4:1": "ws:$4:9",
                  "frame+tcp:$4:2": "ws:$4:9", "tcp:$4:3": "wss:example.org:9", "ws(/p)+tcp:$4:4": "udp:$4:9",
                  "ws(/p)+unix:/run/x": "tcp:$4:9"}
        with open(os.path.join(directory, "config.toml"), "w", encoding="utf-8") as file:
            file.write(table(routes))
        result = self.program("check", "--config", directory)
        self.assertEqual((result.returncode, result.stderr), (0, ""))

    def test_route_knows_paths(self):
        directory = self.directory()
        with open(os.path.join(directory, "config.toml"), "w", encoding="utf-8") as file:
            file.write(table({"ws:$4:1/a": "tcp:$4:9", "ws:$4:1/b!*": "tcp:{multiplex}.local:9"}))
        result = self.program("route", "--config", directory, "ws:$4:1/b!db")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("tcp:db.local:9", result.stdout)

    def test_connect_joins_stdin_and_stdout(self):
        server = self.server()
        self.front(server.address, path="/p!sub")
        program = subprocess.Popen([harness.PROGRAM, "connect", "ws:127.0.0.1:%d/p!sub" % self.port],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.keep(program, program.kill)
        program.stdin.write(b"question")
        program.stdin.close()
        target = self.accept(server)
        self.assertEqual(target.receive_all(), b"question")
        target.send(b"answer")
        target.close()
        self.assertEqual(program.stdout.read(), b"answer")
        self.assertEqual(program.wait(PATIENCE), 0, program.stderr.read())
        program.stdout.close()
        program.stderr.close()

    def test_connect_says_why_not(self):
        self.front("echo:", path="/p")
        result = self.program("connect", "ws:127.0.0.1:%d/other" % self.port)
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, r"404")

    def test_systems_lists_it(self):
        directory = self.directory()
        with open(os.path.join(directory, "config.toml"), "w", encoding="utf-8"):
            pass
        result = self.program("systems", "--config", directory)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(result.stdout, r"(?m)\bws\b.*\bwss\b.*\bwebsocket\b")


class TcpSettings(Websockets):
    """What is set for the tcp address holds for the websocket's socket, which is the same."""

    sockets, listeners, tcp = Settings.sockets, Settings.listeners, Settings.tcp

    def config(self, seconds):
        return table({self.address: "echo:"}) + '[connpipe.tcp.address."tcp:$4:%d"]\nkeepalive = "%ds"\n' % (
            self.port, seconds)

    def test_from_the_beginning_and_behind_a_reload(self):
        for name in ("ws:$4:%d/p", "wss:$4:%d"):
            self.port = free_port()
            self.address, tls = name % self.port, TLS % self.certificate if name.startswith("wss") else ""
            proxy = self.connpipe(self.config(77) + tls)
            self.assertEqual({self.tcp(sock, socket.TCP_KEEPIDLE) for sock in self.listeners(proxy)}, {77})
            proxy.configure(self.config(88) + tls)
            proxy.signal(harness.SIGHUP)
            proxy.wait_generation()
            self.assertEqual({self.tcp(sock, socket.TCP_KEEPIDLE) for sock in self.listeners(proxy)}, {88})

    @classmethod
    def setUpClass(cls):
        cls.authority = Authority(tempfile.mkdtemp(prefix="connpipe-wss-"))
        cls.addClassCleanup(shutil.rmtree, cls.authority.directory, ignore_errors=True)
        cls.certificate = cls.authority.make("site", ["localhost"])
