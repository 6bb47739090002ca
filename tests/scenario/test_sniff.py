"""Routes by what the client says first: with the programs that people use, and byte by byte.

Nothing of what was looked at may be lost, and who says something else, too little, too slowly or nothing at all gets the
route that is left."""

import os
import re
import unittest

from .harness import TOP, Scenario, client_hello, free_port, preamble
from .test_clients import Programs
from .tls_peers import Authority, TlsPeer, client_context

REQUEST = b"POST /api/x?q=1 HTTP/1.1\r\nHost: Web.Test:8080\r\nContent-Length: 4\r\n\r\nbody"


class Sniff(Scenario):
    def route(self, rules, sniff="", **options):
        """A proxy whose one address has these rules."""
        process = '[connpipe]\n%s\n' % options.pop("process", "")
        return self.connpipe('%s[t]\ntype = "table"\n[t.sniff]\n%s\n[t.routes]\n"tcp:$4:0" = %s\n'
                             % (process, sniff, rules), **options)

    def named(self, rule, sniff="", process=""):
        """A proxy, a server for connections of which `rule` holds, one for the others."""
        chosen, other = self.server(), self.server()
        proxy = self.route('[{ when = { %s }, to = "%s" }, { to = "%s" }]' % (rule, chosen.address, other.address), sniff,
                           process=process)
        return proxy, chosen, other


class Bytes(Sniff):
    def test_cut_at_every_byte(self):
        proxy, chosen, _ = self.named('sni = "*.test", alpn = "h2"')
        port = proxy.port()
        hello = client_hello("www.a.test", ["http/1.1", "h2"])
        for cut in range(1, len(hello)):
            client = self.client(port)
            client.send_pieces(hello + b"more", [cut])
            target = self.accept(chosen)
            target.expect(hello + b"more")
            client.close()
            target.close()

    def test_request_cut_at_every_byte(self):
        proxy, chosen, _ = self.named('host = "web.test", path = "/api/*", method = "POST"')
        port = proxy.port()
        for cut in range(1, len(REQUEST)):
            client = self.client(port)
            client.send_pieces(REQUEST, [cut])
            target = self.accept(chosen)
            target.expect(REQUEST)
            client.close()
            target.close()

    def test_byte_by_byte(self):
        proxy, chosen, _ = self.named('sni = "a.test"')
        hello = client_hello("a.test", ["h2"])
        client = self.client(proxy.port())
        client.send_pieces(hello, range(1, len(hello)))
        target = self.accept(chosen)
        target.expect(hello)
        target.send(b"answer")
        client.expect(b"answer")

    def test_several_records(self):
        proxy, chosen, _ = self.named('sni = "a.test"')
        for record in (1, 7, 40):
            hello = client_hello("a.test", ["h2"], record)
            self.client(proxy.port()).send(hello)
            self.accept(chosen).expect(hello)

    def test_much_behind_it(self):
        proxy, chosen, _ = self.named('sni = "a.test"')
        data = client_hello("a.test") + os.urandom(1 << 20)
        client = self.client(proxy.port())
        client.send(data)
        client.shutdown()
        target = self.accept(chosen)
        self.assertEqual(target.receive_all(), data)

    def test_other_bytes_get_the_other_route(self):
        proxy, _, other = self.named('sni = "a.test"')
        port = proxy.port()
        for data in (b"\0", b"\x16\x03\x02\x00\x05\x02", REQUEST, client_hello("b.test"), client_hello()):
            self.client(port).send(data)
            self.accept(other).expect(data)

    def test_longer_than_anything_looked_at(self):
        proxy, _, other = self.named('host = "web.test"')
        data = b"GET / HTTP/1.1\r\nX: " + b"x" * 20000
        self.client(proxy.port()).send(data)
        self.accept(other).expect(data)

    def test_end_in_the_middle(self):
        proxy, _, other = self.named('sni = "a.test"')
        part = client_hello("a.test")[:-1]
        client = self.client(proxy.port())
        client.send(part)
        client.shutdown()
        target = self.accept(other)
        target.expect(part)
        target.expect_end()
        target.send(b"bye")
        client.expect(b"bye")

    def test_reset_in_the_middle(self):
        proxy, _, _ = self.named('sni = "a.test"')
        client = self.client(proxy.port())
        client.send(client_hello("a.test")[:-1])
        client.wait_sent()
        client.reset()
        self.assertIn("client_gone", proxy.wait_closed())

    def test_behind_a_preamble(self):
        chosen = self.server()
        port = free_port()
        proxy = self.connpipe('[t]\ntype = "table"\n[t.routes]\n"tcp:$4:%d!x" = { when = { sni = "a.test" }, to = "%s" }\n'
                              % (port, chosen.address))
        data = preamble("x") + client_hello("a.test")
        for cut in (1, 18, 19, 60):
            self.client(port).send_pieces(data, [cut])
            self.accept(chosen).expect(client_hello("a.test"))
        self.assertEqual(proxy.counter("closed_no_route"), 0)


class Times(Sniff):
    def test_stops_in_the_middle(self):
        proxy, _, other = self.named('sni = "a.test"', 'tls = { timeout = "100ms" }',
                                     process='timeouts = { preamble = "1h" }')
        hello = client_hello("a.test")
        client = self.client(proxy.port())
        client.send(hello[:30])
        target = self.accept(other)
        target.expect(hello[:30])
        client.send(hello[30:])
        target.expect(hello[30:])

    def test_silent_client_gets_the_route_that_is_left(self):
        proxy, _, other = self.named('sni = "a.test"', 'tls = { timeout = "1h" }',
                                     process='timeouts = { preamble = "100ms" }')
        client = self.client(proxy.port())
        target = self.accept(other)
        target.send(b"220 welcome")
        client.expect(b"220 welcome")

    def test_server_that_speaks_first_by_silence(self):
        proxy, chosen, _ = self.named('proto = "mute"', 'mute = { silent = "50ms" }')
        client = self.client(proxy.port())
        target = self.accept(chosen)
        target.send(b"220 welcome")
        client.expect(b"220 welcome")
        client.send(b"EHLO")
        target.expect(b"EHLO")

    def test_silence_is_not_what_follows_a_slow_preamble(self):
        chosen, other = self.server(), self.server()
        port = free_port()
        self.connpipe('[t]\ntype = "table"\n[t.sniff]\nmute = { silent = "600ms" }\n[t.routes]\n'
                      '"tcp:$4:%d!x" = [{ when = { proto = "mute" }, to = "%s" }, { to = "%s" }]\n'
                      % (port, chosen.address, other.address))
        client = self.client(port)
        client.send(preamble("x")[:5])
        client.expect_silence(0.65)
        client.send(preamble("x")[5:])
        client.send(b"hello")
        self.accept(other).expect(b"hello")

    def test_condition_on_the_source_alone_waits_for_nothing(self):
        proxy, _, other = self.named('from = "192.0.2.0/24", sni = "a.test"', 'tls = { timeout = "1h" }',
                                     process='timeouts = { preamble = "0s" }')
        client = self.client(proxy.port())
        target = self.accept(other)
        target.send(b"220 welcome")
        client.expect(b"220 welcome")


class Routes(Sniff):
    def test_nothing_left_is_no_route(self):
        proxy = self.route('{ when = { sni = "a.test" }, to = "echo:" }')
        client = self.client(proxy.port())
        client.send(client_hello("b.test"))
        client.expect_closed()
        self.assertIn("no_route: no rule of the route holds", proxy.wait_closed())
        self.assertEqual(proxy.counter("closed_no_route"), 1)

    def test_patterns_of_ones_own(self):
        postgres, vpn, other = self.server(), self.server(), self.server()
        proxy = self.route('[{ when = { proto = "postgres" }, to = "%s" }, { when = { proto = "vpn" }, to = "%s" }, '
                           '{ to = "%s" }]' % (postgres.address, vpn.address, other.address),
                           'postgres = { hex = "00 00 00 08 04 d2 16 2f" }\nvpn = { hex = "00 ?? 38" }')
        port = proxy.port()
        for server, data in ((postgres, b"\0\0\0\x08\x04\xd2\x16\x2f"), (vpn, b"\0\x0e\x38abc"),
                             (other, b"\0\0\0\x09abc"), (other, b"\1")):
            self.client(port).send(data)
            self.accept(server).expect(data)

    def test_name_as_part_of_the_target(self):
        server = self.server()
        proxy = self.route('"%s!{sni}"' % server.address)
        hello = client_hello("a.test")
        self.client(proxy.port()).send_pieces(hello, [9])
        self.accept(server).expect(preamble("a.test") + hello)
        client = self.client(proxy.port())
        client.send(client_hello())
        client.expect_closed()
        self.assertIn("refused_by_router: %s!{sni}: this connection has no sni" % server.address, proxy.wait_closed())

    def test_subports_told_apart_from_the_rest(self):
        other, port = self.server(), free_port()
        proxy = self.connpipe('[t]\ntype = "table"\n[t.routes]\n"tcp:$4:0" = [\n'
                              '{ when = { proto = "connpipe" }, to = "tcp:$4:%d" },\n{ to = "%s" }]\n'
                              '"tcp:$4:%d!hello" = "exec:/bin/echo hello"\n' % (port, other.address, port))
        front = next(p for p in (int(m) for m in re.findall(r"bound tcp:127\.0\.0\.1:(\d+)", proxy.log())) if p != port)
        done = self.program("connect", "tcp:127.0.0.1:%d!hello" % front)
        self.assertEqual((done.returncode, done.stdout), (0, "hello\n"), done.stderr)
        self.client(front).send(b"hello")
        self.accept(other).expect(b"hello")


class BehindTls(Sniff):
    """Where TLS is taken off, the layer tells the names, and the bytes inside tell the rest."""

    def proxy(self, rules, process=""):
        directory = self.directory()
        authority = Authority(directory)
        self.context = client_context(authority.path)
        return self.connpipe('[connpipe]\n%s\n[site]\ntype = "tls"\ncertificate = "%s"\n[t]\ntype = "table"\n[t.routes]\n'
                             '"tls+tcp:$4:0" = %s\n' % (process, authority.make("site", ["a.test", "b.test"]), rules))

    def tls(self, proxy, name):
        return TlsPeer(self.client(proxy.port()), self.context, name).handshake()

    def test_names_of_tls_and_of_http_together(self):
        chosen, ssh, other = self.server(), self.server(), self.server()
        proxy = self.proxy('[{ when = { sni = "a.test", host = "web.test", path = "/api/*" }, to = "%s" }, '
                           '{ when = { sni = "a.test", proto = "ssh" }, to = "%s" }, { to = "%s" }]'
                           % (chosen.address, ssh.address, other.address))
        for server, name, data in ((chosen, "a.test", REQUEST), (other, "b.test", REQUEST), (ssh, "a.test", b"SSH-2.0-x"),
                                   (other, "b.test", b"SSH-2.0-x"), (other, "a.test", b"\0")):
            client = self.tls(proxy, name)
            client.send(data[:1])
            client.send(data[1:])
            self.accept(server).expect(data)

    def test_name_alone_waits_for_no_bytes(self):
        chosen = self.server()
        proxy = self.proxy('{ when = { sni = "a.test" }, to = "%s" }' % chosen.address,
                           'timeouts = { preamble = "0s" }')
        client = self.tls(proxy, "a.test")
        self.accept(chosen).send(b"220 welcome")
        client.expect(b"220 welcome")


    def test_route_knows_that_a_name_says_nothing_about_the_inside(self):
        proxy = self.proxy('[{ when = { sni = "a.test", proto = "http" }, to = "echo:" }, { to = "discard:" }]')
        for words, target in ((["sni=a.test"], "discard:"), (["sni=a.test", "path=/"], "echo:")):
            result = self.program("--config", proxy.directory, "route", "tcp:$4:0", *words)
            self.assertIn("\ntarget: %s\n" % target, result.stdout + result.stderr)


class RealClients(Programs):
    """nginx as servers, told apart by names; ssh beside them."""

    NGINX = """
daemon off;
error_log stderr error;
pid %(directory)s/pid;
events { worker_connections 64; }
http {
  access_log off;
  client_body_temp_path %(directory)s/body; proxy_temp_path %(directory)s/proxy; fastcgi_temp_path %(directory)s/fcgi;
  uwsgi_temp_path %(directory)s/uwsgi; scgi_temp_path %(directory)s/scgi;
  ssl_certificate %(directory)s/cert.pem; ssl_certificate_key %(directory)s/key.pem;
  server { listen 127.0.0.1:%(a)d ssl http2; return 200 "a $server_protocol $ssl_server_name"; }
  server { listen 127.0.0.1:%(b)d ssl; return 200 "b $server_protocol $ssl_server_name"; }
  server { listen 127.0.0.1:%(web)d; return 200 "web $request_uri"; }
  server { listen 127.0.0.1:%(api)d; return 200 "api $request_uri"; }
}
"""

    def nginx(self):
        directory = self.directory()
        ports = {name: free_port() for name in ("a", "b", "web", "api")}
        self.command("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                     "-subj", "/CN=a.test", "-keyout", os.path.join(directory, "key.pem"), "-out",
                     os.path.join(directory, "cert.pem"))
        with open(os.path.join(directory, "nginx.conf"), "w", encoding="utf-8") as file:
            file.write(self.NGINX % {"directory": directory, **ports})
        self.daemon(ports["api"], "nginx", "-p", directory, "-c", os.path.join(directory, "nginx.conf"))
        return ports

    def curl(self, port, url, *options):
        scheme, rest = url.split("://")
        host = rest.split("/")[0]
        return self.command("curl", "-sS", "--fail", "-k", "--max-time", "30", "--noproxy", "*", "--connect-to",
                            "%s:%d:127.0.0.1:%d" % (host, 443 if scheme == "https" else 80, port), *options, url)

    def test_one_port_for_everything(self):
        nginx = self.nginx()
        sshd, ssh = self.sshd()
        port = free_port()
        proxy = self.connpipe("""
[t]
type = "table"
[t.routes]
"tcp:$4:%d" = [
  { when = { proto = "ssh" }, to = "tcp:$4:%d" },
  { when = { sni = "*.a.test", alpn = "h2" }, to = "tcp:$4:%d" },
  { when = { proto = "tls" }, to = "tcp:$4:%d" },
  { when = { host = "web.test", path = ["/api", "/api/*"] }, to = "tcp:$4:%d" },
  { when = { host = "web.test" }, to = "tcp:$4:%d" },
]
""" % (port, sshd, nginx["a"], nginx["b"], nginx["api"], nginx["web"]))
        self.assertEqual(self.curl(port, "https://www.a.test/", "--http2"), "a HTTP/2.0 www.a.test")
        self.assertEqual(self.curl(port, "https://www.a.test/", "--http1.1"), "b HTTP/1.1 www.a.test")
        self.assertEqual(self.curl(port, "https://b.test/", "--tls-max", "1.2"), "b HTTP/1.1 b.test")
        self.assertEqual(self.curl(port, "http://web.test/"), "web /")
        self.assertEqual(self.curl(port, "http://web.test/api/x?y"), "api /api/x?y")
        self.assertEqual(self.curl(port, "http://web.test/apis"), "web /apis")
        self.assertEqual(self.command(*ssh, "-p", str(port), "127.0.0.1", "head -c 2000000 /dev/zero | wc -c").strip(),
                         "2000000")
        with self.assertRaises(AssertionError):
            self.curl(port, "http://other.test/")
        self.assertEqual(proxy.counter("closed_no_route"), 1)

    def test_example_of_the_readme(self):
        with open(os.path.join(TOP, "README.md"), encoding="utf-8") as file:
            text = re.search(r"(?s)One port for SSH.*?```toml\n(.*?)```", file.read())[1]
        nginx = self.nginx()
        sshd, ssh = self.sshd()
        vpn, port = self.server(), free_port()
        for old, new in (("tcp:*4:443", port), ("tcp:$4:22", sshd), ("tcp:10.0.0.1:443", nginx["a"]),
                         ("tcp:10.0.0.2:443", nginx["b"]), ("tcp:$4:1194", vpn.port), ("tcp:$4:80", nginx["web"])):
            self.assertIn('"%s"' % old, text)
            text = text.replace('"%s"' % old, '"tcp:$4:%d"' % new)
        self.connpipe(text)
        self.assertEqual(self.curl(port, "https://www.example.org/", "--http2"), "a HTTP/2.0 www.example.org")
        self.assertEqual(self.curl(port, "https://example.com/"), "b HTTP/1.1 example.com")
        self.assertEqual(self.curl(port, "http://example.com/x"), "web /x")
        self.assertEqual(self.command(*ssh, "-p", str(port), "127.0.0.1", "echo through").strip(), "through")
        hello = b"\x00\x0e\x38" + bytes(13)
        self.client(port).send(hello)
        self.accept(vpn).expect(hello)


if __name__ == "__main__":
    unittest.main()
