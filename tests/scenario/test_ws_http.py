"""Websockets where they are HTTP: what is set for an address, who is let in, what a router is told, the way through an
HTTP proxy; and requests for something else, with curl. What a request may look like is tested by unit_ws and
test_ws_handshake."""

import base64
import contextlib
import os
import re
import select
import shutil
import socket
import ssl
import threading
import unittest

from .harness import PATIENCE, Scenario, free_port, table
from .test_clients import Programs
from .tls_peers import Authority
from .ws_raw import BINARY, Head, Server, Wire, request
from .ws_sides import Websockets

FACTS = """
    local connpipe = require "connpipe"
    connpipe.router { id = "main", bind = { "%s" }, route = function(request)
        local facts = {}
        for name, value in pairs(request.facts) do
            facts[#facts + 1] = name .. "=" .. tostring(value)
        end
        table.sort(facts)
        connpipe.log.info("facts: " .. request.peer.addr .. " " .. table.concat(facts, " "))
        return "echo:"
    end }"""


def settings(address, text):
    return '[connpipe.ws.address."%s"]\n%s\n' % (address, text)


# ---- Requests that are none ---------------------------------------------------------------------------------------


@unittest.skipUnless(shutil.which("curl"), "curl is not installed")
class Curl(Programs, Websockets):
    REFUSED = {
        # name: (words, status, field of the answer, reason)
        "a page": ([], 426, "Upgrade: websocket", "a plain request, not one for a websocket"),
        "its head": (["--head"], 426, "Upgrade: websocket", "a plain request, not one for a websocket"),
        "HTTP/1.0": (["--http1.0"], 426, "Upgrade: websocket", "HTTP/1.0, which has no upgrade to a websocket"),
        "h2c": (["--http2"], 426, "Upgrade: websocket", "an Upgrade to something else than websocket"),
        "a form": (["--data", "a=b"], 405, "Allow: GET", "another method than GET"),
        "a deletion": (["--request", "DELETE"], 405, "Allow: GET", "another method than GET"),
        "a body": (["--request", "GET", "--data", "a=b"], 400, None,
                   "a Content-Length: a request for a websocket has no body"),
        "no Host": (["--header", "Host:"], 400, None, "no Host"),
        "a long field": (["--header", "X-Long: " + 20000 * "x"], 431, None, "a head of more than 16 KiB"),
        "many fields": ([word for i in range(101) for word in ("--header", "X-%d: x" % i)], 431, None,
                        "more than 100 fields"),
        "a broken escape": (["--path-as-is", "--request-target", "/%zz"], 400, None, "a broken % in the path"),
        "a path that goes up": (["--path-as-is", "--request-target", "/a/%2e%2e/b"], 400, None,
                                '"." or ".." in the path'),
        "half of an upgrade": (["--header", "Upgrade: websocket"], 400, None, "no Upgrade in Connection"),
        "an old version": (["--header", "Upgrade: websocket", "--header", "Connection: Upgrade", "--header",
                            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "--header", "Sec-WebSocket-Version: 8"],
                           426, "Sec-WebSocket-Version: 13", "another Sec-WebSocket-Version than 13"),
    }

    def curl(self, *words):
        """@return head and body of the answer, which curl has taken for a whole one"""
        said = self.command("curl", "--silent", "--show-error", "--include", "--max-time", str(int(PATIENCE)), *words)
        head, _, body = said.replace("\r\n", "\n").partition("\n\n")
        return Head(head.replace("\n", "\r\n").encode()), body

    def test_refusals(self):
        proxy = self.front("echo:")
        for count, (name, (words, status, field, reason)) in enumerate(self.REFUSED.items(), 1):
            with self.subTest(name):
                head, body = self.curl("http://127.0.0.1:%d/" % self.port, *words)
                self.assertEqual(head.status, status, head.text)
                self.assertIn("close", head.tokens("Connection"))
                if field:
                    self.assertEqual(head.get(field.split(":")[0]), field.split(": ")[1])
                self.assertEqual(reason in body, "--head" not in words, body)
                self.assertIn("refused with %d: %s" % (status, reason), proxy.wait_closed(count))

    def test_a_large_body_does_not_cost_the_answer(self):
        """What is unread when a socket is closed resets the connection, and the answer is lost."""
        self.front("echo:")
        path = os.path.join(self.directory(), "body")
        with open(path, "wb") as file:
            file.write(bytes(200_000))
        head, body = self.curl("http://127.0.0.1:%d/" % self.port, "--header", "Expect:", "--data-binary", "@" + path)
        self.assertEqual(head.status, 405)
        self.assertIn("another method", body)

    def test_over_tls(self):
        authority = Authority(self.directory())
        config = '[tls]\ntype = "tls"\ncertificate = "%s"\n' % authority.make("site", ["site.test"])
        port = free_port()
        self.connpipe(config + table({"wss:$4:%d/a" % port: "echo:"}))
        words = ["--cacert", authority.path, "--resolve", "site.test:%d:127.0.0.1" % port]
        head, body = self.curl("https://site.test:%d/a" % port, *words)
        self.assertEqual((head.line, head.status), ("HTTP/1.1 426 Upgrade Required", 426))
        self.assertIn("</html>", body)

    def test_plain_http_for_one_that_speaks_tls(self):
        authority = Authority(self.directory())
        config = '[tls]\ntype = "tls"\ncertificate = "%s"\n' % authority.make("site", ["site.test"])
        port = free_port()
        proxy = self.connpipe(config + table({"wss:$4:%d/a" % port: "echo:"}))
        with contextlib.suppress(ConnectionResetError):
            peer = self.client(port)
            peer.send(b"GET / HTTP/1.1\r\n\r\n")
            peer.receive_all()
        self.assertIn("client_protocol", proxy.wait_closed())


# ---- Accepting ----------------------------------------------------------------------------------------------------


class Asked(Websockets):
    """Requests with some fields: `User_Agent="x"` is `User-Agent: x`."""

    def refusal(self, status, path="/", port=None, **changes):
        """@return the body of a refusal"""
        wire = Wire(self.client(port or self.port))
        wire.send_bytes(request(path, {name.replace("_", "-"): value for name, value in changes.items()}))
        head = wire.receive_head()
        self.assertEqual(head.status, status, head.text)
        body = bytes(wire.buffer) + wire.peer.receive_all()
        wire.close()
        return body.decode()

    def accepted(self, path="/", port=None, **changes):
        client = self.websocket(path, port, changes={name.replace("_", "-"): value for name, value in changes.items()})
        client.send(BINARY, b"hello")
        client.expect(b"hello")
        return client


class Accepting(Asked):
    def test_origins(self):
        proxy = self.front("echo:", settings='[connpipe.ws]\norigins = ["https://example.org", "https://*.example.org"]\n')
        for origin in ("https://example.org", "https://a.b.example.org", "HTTPS://EXAMPLE.ORG"):
            self.accepted(Origin=origin)
        for origin in ("http://example.org", "https://example.org.evil.test", "https://evil.test", "null", ""):
            self.assertIn("an Origin that is not allowed", self.refusal(403, Origin=origin))
        self.assertIn("no Origin", self.refusal(403))
        proxy.wait_log("closed: .*, client_protocol: refused with 403: an Origin that is not allowed", 5)

    def test_hosts(self):
        self.front("echo:", settings='[connpipe.ws]\nhosts = ["example.org", "*.example.net"]\n')
        for host in ("example.org", "EXAMPLE.org:8080", "www.example.net"):
            self.accepted(Host=host)
        for host in ("example.net", "127.0.0.1:%d" % self.port, "www.example.org"):
            self.refusal(404, Host=host)

    def test_each_path_has_its_options(self):
        port = free_port()
        routes = {"ws:$4:%d%s" % (port, path): "echo:" for path in ("/a", "/b", "/c", "/d")}
        text = settings("ws:$4:%d" % port, 'origins = ["https://all"]')
        text += settings("ws:$4:%d/a" % port, 'origins = ["https://a"]') + settings("ws:$4:%d/b" % port, "origins = []")
        self.connpipe(table(routes) + text)
        self.accepted("/a?x", port, Origin="https://a")
        self.accepted("/%61", port, Origin="https://a")
        self.refusal(403, "/a", port, Origin="https://all")
        self.accepted("/b", port)
        self.accepted("/c", port, Origin="https://all")
        self.refusal(403, "/d", port, Origin="https://a")
        self.refusal(404, "/e", port, Origin="https://all")

    def test_converters_have_options(self):
        port = free_port()
        address = "ws(/a)+proxy+tcp:$4:%d" % port
        self.connpipe(table({address: "echo:"}) + settings(address, 'origins = ["https://a"]'))
        for origin, status in (("https://a", 101), ("https://b", 403)):
            wire = Wire(self.client(port))
            wire.send_bytes(b"PROXY UNKNOWN\r\n" + request("/a", {"Origin": origin}))
            self.assertEqual(wire.receive_head().status, status)

    def test_subprotocols(self):
        self.front("echo:", settings='[connpipe.ws]\nsubprotocols = ["v2.chat", "v1.chat"]\n')
        for offered, chosen in (("v1.chat, v2.chat", "v2.chat"), ("v3.chat, v1.chat", "v1.chat"), ("V1.chat", None),
                                ("v1.chat, connpipe", "connpipe"), ("binary", None)):
            with self.subTest(offered):
                client = self.accepted(Sec_WebSocket_Protocol=offered)
                self.assertEqual(client.answer.get("Sec-WebSocket-Protocol"), chosen)

    def test_subprotocols_without_settings(self):
        self.front("echo:", settings="[connpipe.ws]\nhalf_close = false\n")
        for offered, chosen in (("connpipe", None), ("base64, binary", "binary"), ("chat", None)):
            with self.subTest(offered):
                client = self.accepted(Sec_WebSocket_Protocol=offered)
                self.assertEqual(client.answer.get("Sec-WebSocket-Protocol"), chosen)

    def test_more_fields_of_the_answer(self):
        self.front("echo:", settings='[connpipe.ws.headers]\nX-Via = "connpipe"\nSet-Cookie = ["a=b", "c=d"]\n')
        answer = self.accepted(Sec_WebSocket_Protocol="binary").answer
        self.assertEqual(answer.get("X-Via"), "connpipe")
        self.assertEqual(answer.all("Set-Cookie"), ["a=b", "c=d"])
        self.assertEqual(answer.get("Sec-WebSocket-Protocol"), "binary")


class Facts(Asked):
    def facts(self, text=""):
        """A proxy that logs the facts of each connection."""
        self.port = free_port()
        config = '[rules]\ntype = "lua"\npath = "main.lua"\n' + text
        return self.connpipe(config, files={"main.lua": FACTS % ("ws:$4:%d/chat" % self.port)})

    def test_of_a_request(self):
        proxy = self.facts('[connpipe.ws]\nfacts = ["Cookie", "x-none"]\n')
        self.accepted("/chat?room=1", Host="Example.ORG:80", Origin="https://example.org", Cookie="a=b",
                      User_Agent="test", Sec_WebSocket_Protocol="binary", X_Forwarded_For="192.0.2.1")
        peer, *facts = proxy.wait_log("facts: (.*)$")[1].split()
        self.assertEqual(peer, "127.0.0.1", "nobody was trusted")
        self.assertEqual(facts, ["cookie=a=b", "host=example.org", "method=GET", "origin=https://example.org", "path=/chat",
                                 "query=room=1", "subprotocol=binary", "user_agent=test"])

    def test_the_path_that_is_allowed_is_the_one_that_is_asked_for(self):
        """However it is written: a condition and a template see the same path."""
        server = self.server()
        self.port = free_port()
        self.connpipe('[t]\ntype = "table"\n[t.routes]\n"ws:$4:%d" = [{ when = { path = "/public/*" }, '
                      'to = "ws:127.0.0.1:%d/{path}" }]\n' % (self.port, server.port))
        for path in ("/public/%2e%2e/admin", "/public/../admin", "/public/..%2fadmin"):
            self.assertIn('"." or ".." in the path', self.refusal(400, path))
        client = self.client(self.port)
        client.send(request("/%70ublic/a%20b"))
        self.assertEqual(Server(self.accept(server)).accept().request.words[1], "/public/a%20b")

    def test_who_the_client_is(self):
        """From the right, each who is trusted vouches for the one before."""
        proxy = self.facts('[connpipe.ws]\ntrusted = ["127.0.0.0/8", "10.0.0.0/8"]\n')
        cases = {"192.0.2.1": "192.0.2.1", "192.0.2.1, 198.51.100.7": "198.51.100.7",
                 "192.0.2.1, 198.51.100.7, 10.0.0.1": "198.51.100.7", "[2001:db8::1]:80, 10.1.1.1": "2001:db8::1",
                 "10.0.0.1": "10.0.0.1", "unknown": "127.0.0.1"}
        for count, (value, client) in enumerate(cases.items(), 1):
            with self.subTest(value):
                self.accepted("/chat", X_Forwarded_For=value)
                self.assertEqual(proxy.wait_log("facts: (\\S+)", count)[1], client)
                self.assertIn("forwarded_for=" + value, proxy.wait_log("facts: (.*)$", count)[1])


# ---- Connecting ---------------------------------------------------------------------------------------------------


class HttpProxy(threading.Thread):
    """An HTTP proxy for CONNECT that forwards one connection after the other to `target`. `heads`: what it was asked."""

    def __init__(self, target, answer=b"HTTP/1.1 200 Connection established\r\n\r\n", wrap=None):
        super().__init__(daemon=True)
        self.target, self.answer, self.heads = target, answer, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.wrap = wrap or (lambda client: client)
        self.start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                client = self.wrap(self.listener.accept()[0])
                client.settimeout(PATIENCE)
                with contextlib.suppress(OSError), client:
                    self.serve(client)

    def serve(self, client):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            piece = client.recv(1)
            if not piece:
                return
            head += piece
        self.heads.append(head)
        client.sendall(self.answer)
        if self.answer.startswith(b"HTTP/1.1 200") and self.answer.endswith(b"\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", self.target), PATIENCE) as target:
                self.forward(client, target)

    def forward(self, client, target):
        """Until one side ends."""
        other = {client: target, target: client}
        while True:
            for source in select.select(list(other), [], [], PATIENCE)[0]:
                piece = source.recv(65536)  # all of a record of TLS: nothing is left behind that select() does not see
                if not piece:
                    return
                other[source].sendall(piece)

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.join(PATIENCE)


class Connecting(Websockets):
    def before(self, target, text, timeouts="", **options):
        """TCP in front of a websocket target; `text`: settings."""
        self.port = free_port()
        return self.connpipe(table({"tcp:$4:%d" % self.port: target}, timeouts=timeouts) + text, **options)

    def http_proxy(self, server, **options):
        proxy = HttpProxy(server.port, **options)
        return self.keep(proxy, proxy.stop)

    def carries(self, server):
        """A client's bytes get to a websocket server, and back. @return the request that it has got"""
        client = self.client(self.port)
        target = Server(self.accept(server))
        target.accept()
        client.send(b"hello")
        target.expect(b"hello")
        target.send(BINARY, b"answer")
        client.expect(b"answer")
        return target.request

    def test_what_the_request_says(self):
        server = self.server()
        self.before("ws:127.0.0.1:%d/chat" % server.port,
                    settings("ws:127.0.0.1:%d/chat" % server.port,
                             'host = "example.org:81"\norigin = "https://example.org"\nsubprotocols = ["chat"]\n'
                             'half_close = false\nheaders = { Authorization = "Bearer x" }'))
        asked = self.carries(server)
        self.assertEqual(asked.get("Host"), "example.org:81")
        self.assertEqual(asked.get("Origin"), "https://example.org")
        self.assertEqual(asked.get("Sec-WebSocket-Protocol"), "chat")
        self.assertEqual(asked.get("Authorization"), "Bearer x")

    def test_the_environment_has_no_say(self):
        """libwebsockets takes proxies from there, for what it connects to: ourselves."""
        server = self.server()
        nowhere = "http://127.0.0.1:%d" % free_port()
        self.before("ws:127.0.0.1:%d" % server.port, "",
                    environment={"http_proxy": nowhere, "https_proxy": nowhere, "socks_proxy": nowhere[7:]})
        self.carries(server)

    def test_through_a_proxy(self):
        server = self.server()
        proxy = self.http_proxy(server)
        self.before("ws:far.test:81/chat?a", '[connpipe.ws]\nproxy = "http://127.0.0.1:%d"\nproxy_user = "me"\n'
                                             'proxy_password = "s:cret"\n' % proxy.port)
        asked = self.carries(server)
        self.assertEqual((asked.words[1], asked.get("Host")), ("/chat?a", "far.test:81"))
        head = Head(proxy.heads[0][:-2])
        self.assertEqual((head.line, head.get("Host")), ("CONNECT far.test:81 HTTP/1.1", "far.test:81"))
        self.assertEqual(head.get("Proxy-Authorization"), "Basic " + base64.b64encode(b"me:s:cret").decode())

    def test_an_address_goes_its_own_way(self):
        server = self.server()
        proxy = self.http_proxy(server)
        target = "ws:127.0.0.1:%d" % server.port
        self.before(target, '[connpipe.ws]\nproxy = "tcp:127.0.0.1:%d"\n' % proxy.port + settings(target, 'proxy = "off"'))
        self.carries(server)
        self.assertEqual(proxy.heads, [])

    def test_tls_to_the_proxy_and_through_it(self):
        authority = Authority(self.directory())
        server, far = self.server(), free_port()
        self.connpipe('[tls]\ntype = "tls"\ncertificate = "%s"\n' % authority.make("far", ["far.test"]) +
                      table({"wss:$4:%d/x" % far: server.address}))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority.make("proxy", ["127.0.0.1"]))
        proxy = HttpProxy(far, wrap=lambda client: context.wrap_socket(client, server_side=True))
        self.keep(proxy, proxy.stop)
        self.before("wss:far.test:443/x", '[connpipe.ws]\nproxy = "https://127.0.0.1:%d"\n' % proxy.port,
                    environment={"SSL_CERT_FILE": authority.path})
        client, data = self.client(self.port), os.urandom(300_000)
        target = self.accept(server)
        meanwhile = threading.Thread(target=client.send, args=[data], daemon=True)
        meanwhile.start()
        target.expect(data)
        meanwhile.join(PATIENCE)
        target.send(b"answer")
        client.expect(b"answer")
        self.assertEqual(Head(proxy.heads[0][:-2]).line, "CONNECT far.test:443 HTTP/1.1")

    def refused_because(self):
        """A client that gets nowhere. @return the line that its pipe ends with"""
        self.refused(self.port)
        return self.processes[-1].wait_closed()

    def test_a_proxy_that_refuses(self):
        server = self.server()
        cases = {
            b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n":
                'connect_refused: the HTTP proxy answered "407 Proxy Authentication Required"',
            b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n": 'the HTTP proxy answered "502 Bad Gateway"',
            b"SSH-2.0-OpenSSH\r\n": "what the HTTP proxy answered is not HTTP/1.1",
            b"": "the HTTP proxy left without an answer",
            b"HTTP/1.1 200 OK\r\n": "the HTTP proxy left in the middle of its answer",
        }
        for answer, reason in cases.items():
            with self.subTest(reason):
                proxy = self.http_proxy(server, answer=answer)
                self.before("ws:far.test:80", '[connpipe.ws]\nproxy = "http://127.0.0.1:%d"\n' % proxy.port)
                self.assertIn(reason, self.refused_because())

    def test_a_proxy_that_is_silent(self):
        silent = self.server()
        self.before("ws:far.test:80", '[connpipe.ws]\nproxy = "http://127.0.0.1:%d"\n' % silent.port,
                    timeouts='connect = "200ms"')
        self.assertIn("connect_timeout: no connection by the HTTP proxy within 200 ms", self.refused_because())

    def test_a_proxy_that_is_not_there(self):
        self.before("ws:far.test:80", '[connpipe.ws]\nproxy = "http://127.0.0.1:%d"\n' % free_port())
        self.assertIn("connect_refused", self.refused_because())


# ---- Mistakes -----------------------------------------------------------------------------------------------------


class Mistakes(Scenario):
    def test_check_says_all_of_them(self):
        directory = self.directory()
        with open(directory + "/config.toml", "w", encoding="utf-8") as file:
            file.write('[connpipe.ws]\norigins = ["example.org"]\nheaders = { Host = "x" }\nproxi = "x"\n'
                       '[connpipe.ws.address."ws:*4:80!x"]\npong_timeout = "0s"\n')
        result = self.program("check", "--config", directory)
        self.assertEqual(result.returncode, 1)
        places = re.findall(r"config\.toml:(\d+:\d+): ", result.stderr)
        self.assertEqual(places, ["2:12", "3:13", "5:23", "6:16", "4:1"], result.stderr)
