"""The PROXY protocol: headers read and written, with clients and servers of the tests' own, and with nginx, HAProxy and
curl on either side. What headers may look like, and every split of them, is tested by unit_proxy."""

import contextlib
import os
import re
import select
import shutil
import socket
import ssl
import struct
import subprocess
import unittest

from tests.scenario.harness import PATIENCE, PROGRAM, TOP, Process, Scenario, client_hello, free_port, preamble, table, until

V1 = b"PROXY TCP4 192.0.2.1 198.51.100.2 51234 443\r\n"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
PEER = r"192\.0\.2\.1:51234"


def v2(source="192.0.2.1", tlvs=b"", command=0x21, port=51234):
    """A header of version 2 from `source` to 198.51.100.2:443."""
    body = socket.inet_aton(source) + socket.inet_aton("198.51.100.2") + struct.pack("!HH", port, 443) + tlvs
    return SIGNATURE + struct.pack("!BBH", command, 0x11, len(body)) + body


def tlv(kind, value):
    return struct.pack("!BH", kind, len(value)) + value


def listens(port):
    """Whether anybody listens on 127.0.0.1:port; not by connecting, which is what the tests look at."""
    with open("/proc/net/tcp", encoding="ascii") as sockets:
        return any(line.split()[1] == "0100007F:%04X" % port and line.split()[3] == "0A" for line in sockets)


class Proxy(Scenario):
    FACTS = """
        local connpipe = require "connpipe"
        connpipe.router { id = "main", bind = { "%s" }, route = function(request)
            local facts = {}
            for name, value in pairs(request.facts) do
                facts[#facts + 1] = name .. "=" .. tostring(value)
            end
            connpipe.log.info("facts: " .. request.peer.addr .. " " .. table.concat(facts, " "))
            return "%s"
        end }"""

    def echo(self, converters="proxy+", settings="", **options):
        """A proxy whose clients get back what they send."""
        return self.connpipe(table({converters + "tcp:$4:0": "echo:"}, **options) + settings)

    def facts(self, settings="", bind="proxy+tcp:$4:0", target="echo:"):
        """A proxy that logs the facts of each connection."""
        config = settings + '\n[rules]\ntype = "lua"\npath = "main.lua"\n'
        return self.connpipe(config, files={"main.lua": self.FACTS % (bind, target)})

    def wait_facts(self, proxy, count=1):
        """The peer's address and the facts of a connection, as `name=value`."""
        return set(proxy.wait_log("facts: (.*)$", count)[1].split())

    def certificate(self, directory, name):
        """Made by openssl: a key and a certificate in one file."""
        path = os.path.join(directory, name + ".pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                        "/CN=" + name, "-days", "2", "-keyout", path + ".key", "-out", path],
                       check=True, capture_output=True, stdin=subprocess.DEVNULL)
        with open(path + ".key", encoding="ascii") as key, open(path, "a", encoding="ascii") as file:
            file.write(key.read())
        return path

    def tls_hello(self, port, server, user):
        """Say hello over TLS as `user` (or as nobody), to be echoed."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(server)
        if user:
            context.load_cert_chain(user)
        context.set_alpn_protocols(["h2"])
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as plain:
            with context.wrap_socket(plain, server_hostname="example.org") as client:
                client.sendall(b"hello")
                self.assertEqual(client.recv(5), b"hello")

    def echoes(self, client, data=b"hello", first=b""):
        client.send(first + data)
        client.expect(data)
        return client


class Reading(Proxy):
    def test_header_and_data_in_one_segment(self):
        proxy = self.echo()
        for count, header in enumerate((V1, v2(), v2(tlvs=tlv(2, b"example.org"))), 1):
            self.echoes(self.client(proxy.port()), first=header)
            line = proxy.wait_log(r"opened: .*", count)[0]
            self.assertRegex(line, PEER)
        self.assertEqual(proxy.counter("proxy_headers_read"), 3)

    def test_byte_by_byte(self):
        proxy = self.echo()
        for count, header in enumerate((V1, v2(tlvs=tlv(4, bytes(7)))), 1):
            client = self.client(proxy.port())
            client.send_pieces(header + b"hello", range(1, len(header) + 5))
            client.expect(b"hello")
            self.assertRegex(proxy.wait_log(r"opened: .*", count)[0], PEER)

    def test_data_behind_it_is_whole(self):
        proxy = self.echo()
        data = os.urandom(300_000)
        for header in (V1, v2()):
            client = self.client(proxy.port())
            left, got = memoryview(header + data), b""
            while len(got) < len(data):
                wanted = [client.socket] if left else []
                readable, writable, _ = select.select([client.socket], wanted, [], PATIENCE)
                self.assertTrue(readable or writable, "nothing moves after %d bytes" % len(got))
                if writable:
                    left = left[client.socket.send(left[:4096]) :]
                if readable:
                    piece = client.receive()
                    self.assertTrue(piece, "end after %d bytes" % len(got))
                    got += piece
            self.assertEqual(got, data)

    def test_the_end_behind_it_is_an_end(self):
        proxy = self.echo()
        client = self.client(proxy.port())
        client.send(V1 + b"bye")
        client.shutdown()
        self.assertEqual(client.receive_all(), b"bye")
        self.assertRegex(proxy.wait_closed(), "done$")

    def test_a_server_that_speaks_first(self):
        server = self.server()
        proxy = self.connpipe(table({"proxy+tcp:$4:0": server.address}))
        client = self.client(proxy.port())
        client.send(v2())
        target = self.accept(server)
        target.send(b"220 ready")
        client.expect(b"220 ready")

    def test_a_subport_is_behind_it(self):
        proxy = self.connpipe(table({"proxy+tcp:$4:0!it": "echo:", "proxy+tcp:$4:0": "reject:without"}))
        client = self.client(proxy.port())
        self.echoes(client, first=v2() + preamble("it"))
        client = self.client(proxy.port())
        client.send_pieces(V1 + preamble("it") + b"hello", [len(V1) - 3, len(V1) + 5])
        client.expect(b"hello")

    def test_the_peer_in_conditions(self):
        config = '[t]\ntype = "table"\n[t.routes]\n"proxy+tcp:$4:0" = [\n'
        config += '{ when = { from = ["192.0.2.0/24"] }, to = "echo:" }, { to = "reject:from elsewhere" } ]\n'
        proxy = self.connpipe(config)
        self.echoes(self.client(proxy.port()), first=v2("192.0.2.77"))
        other = self.client(proxy.port())
        other.send(v2("203.0.113.1"))
        other.expect_closed()
        self.assertIn("from elsewhere", proxy.wait_closed())

    def test_the_peer_in_limits(self):
        proxy = self.echo(limits="connections_per_source = 1")
        first = self.echoes(self.client(proxy.port()), first=v2("192.0.2.1"))
        self.echoes(self.client(proxy.port()), first=v2("192.0.2.2"))
        more = self.client(proxy.port())
        more.send(v2("192.0.2.1", port=1))
        more.expect_closed()
        self.assertRegex(proxy.wait_closed(), "source_limit$")
        self.echoes(first)

    def test_a_local_header(self):
        proxy = self.facts()
        client = self.client(proxy.port())
        self.echoes(client, first=SIGNATURE + b"\x20\x00\x00\x03abc")
        facts = "127.0.0.1 proxy_local=true proxy_version=2 proxy_via=127.0.0.1:%d" % client.socket.getsockname()[1]
        self.assertEqual(self.wait_facts(proxy), set(facts.split()))

    def test_tlvs_are_facts(self):
        proxy = self.facts()
        tlvs = tlv(1, b"h2") + tlv(2, b"example.org") + tlv(5, b"\x01\x02") + tlv(0xE0, b"text")
        self.echoes(self.client(proxy.port()), first=v2(tlvs=tlvs))
        facts = self.wait_facts(proxy)
        self.assertEqual(1, len([fact for fact in facts if re.fullmatch(r"proxy_via=127\.0\.0\.1:\d+", fact)]), facts)
        for fact in ("192.0.2.1", "proxy_alpn=h2", "proxy_authority=example.org", "proxy_tlv_e0=text",
                     "proxy_unique_id=0x0102", "proxy_version=2"):
            self.assertIn(fact, facts)
        self.assertEqual(len(facts), 7)

    def test_over_a_unix_socket(self):
        proxy = self.connpipe(table({"proxy+unix:in.sock": "echo:"}))
        client = socket.socket(socket.AF_UNIX)
        self.addCleanup(client.close)
        client.settimeout(PATIENCE)
        client.connect(os.path.join(proxy.directory, "in.sock"))
        client.sendall(v2() + b"hello")
        self.assertEqual(client.recv(5), b"hello")
        self.assertRegex(proxy.wait_log("opened: .*")[0], PEER)


class Refusing(Proxy):
    def refuse(self, proxy, data, cause, **options):
        before = proxy.log().count("] closed: ")
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):  # while it connects or sends, maybe
            client = self.client(proxy.port(), **options)
            client.send(data)
            client.expect_closed()
        self.assertIn(cause, proxy.wait_closed(before + 1))

    def test_malformed_headers(self):
        proxy = self.echo()
        bad = {
            b"GET / HTTP/1.1\r\n\r\n": 'expected a PROXY header, found "GET / HTTP/1.1"',
            b"\x16\x03\x01\x00\x00": "expected a PROXY header, found the bytes 16 03 01 00 00",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n": "malformed PROXY v1 header at byte 34: expected a port",
            v2(command=0x2F): "malformed PROXY v2 header at byte 13: the command is neither LOCAL nor PROXY",
            v2(tlvs=tlv(3, b"\1\2\3\4")): "malformed PROXY v2 header at byte 32: the checksum is wrong",
            SIGNATURE + b"\x21\x11\xff\xff": "malformed PROXY v2 header at byte 15: it is longer than what is set as `length`",
        }
        for data, reason in bad.items():
            self.refuse(proxy, data, "client_protocol: " + reason)
        self.assertEqual(proxy.counter("closed_client_protocol"), len(bad))
        self.assertEqual(proxy.counter("proxy_headers_malformed"), len(bad))
        self.assertEqual(proxy.counter("proxy_headers_read"), 0)
        self.assertNotIn("] opened: ", proxy.log())

    def test_a_header_that_is_cut(self):
        proxy = self.echo()
        client = self.client(proxy.port())
        client.send(V1[:20])
        client.shutdown()
        client.expect_closed()
        self.assertIn("client_protocol: the PROXY header is cut short", proxy.wait_closed())

    def test_a_check_whether_somebody_listens(self):
        proxy = self.echo()
        self.client(proxy.port()).close()
        self.assertIn("client_gone: the client left before it sent a PROXY header", proxy.wait_closed())
        self.assertEqual(proxy.counter("proxy_headers_malformed"), 0)

    def test_a_silent_client(self):
        proxy = self.echo(timeouts='handshake = "100ms"')
        for count, data in enumerate((b"", V1[:-1], v2()[:-1]), 1):
            client = self.client(proxy.port())
            client.send(data)
            client.expect_closed()
            self.assertRegex(proxy.wait_log(r"\] closed: (.*)$", count)[1], "handshake_timeout$")
        self.assertEqual(proxy.counter("closed_handshake_timeout"), 3)

    def test_who_is_not_trusted(self):
        proxy = self.echo(settings='[connpipe.proxy]\ntrusted = ["127.0.0.2"]\n')
        self.refuse(proxy, V1, " is not trusted to send PROXY headers")
        self.echoes(self.client(proxy.port(), source="127.0.0.2"), first=V1)
        self.assertEqual(proxy.counter("proxy_headers_untrusted"), 1)

    def test_the_other_version(self):
        proxy = self.echo("proxy(v2)+")
        self.refuse(proxy, V1, "malformed PROXY v1 header at byte 1: expected version 2")
        self.echoes(self.client(proxy.port()), first=v2())

    def test_a_list_of_trusted_sources_can_be_reloaded(self):
        port = free_port()
        config = table({"proxy(edge)+tcp:$4:%d" % port: "echo:"}) + '[edge]\ntype = "proxy"\ntrusted = ["%s"]\n'
        proxy = self.connpipe(config % "127.0.0.1")
        kept = self.echoes(self.client(port), first=V1)
        proxy.configure(config % "127.0.0.2")
        self.assertTrue(proxy.ask("reload")["ok"])
        self.refuse(proxy, V1, "is not trusted")
        self.echoes(kept)


class Optional(Proxy):
    SETTINGS = '[connpipe.proxy]\ntrusted = ["127.0.0.2"]\nwait = "%s"\n'

    def optional(self, wait="10s", **options):
        return self.echo("proxy(optional)+", settings=self.SETTINGS % wait, **options)

    def test_from_a_trusted_source(self):
        proxy = self.optional()
        self.echoes(self.client(proxy.port(), source="127.0.0.2"), first=V1)
        self.assertRegex(proxy.wait_log("opened: .*")[0], PEER)

    def test_a_trusted_source_without_one(self):
        proxy = self.optional()
        client = self.client(proxy.port(), source="127.0.0.2")
        client.send_pieces(b"PROXYING", range(1, 8))
        client.expect(b"PROXYING")
        self.assertRegex(proxy.wait_log("opened: .*")[0], r"127\.0\.0\.2:\d+")
        self.assertEqual(proxy.counter("proxy_headers_absent"), 1)

    def test_from_another_source_it_is_data(self):
        proxy = self.optional()
        self.echoes(self.client(proxy.port()), V1)
        line = proxy.wait_log("opened: .*")[0]
        self.assertNotRegex(line, PEER)
        self.assertRegex(line, r"127\.0\.0\.1:\d+")

    def test_a_silent_trusted_source_gets_a_server_that_speaks_first(self):
        server = self.server()
        proxy = self.connpipe(table({"proxy(optional)+tcp:$4:0": server.address}) + self.SETTINGS % "50ms")
        client = self.client(proxy.port(), source="127.0.0.2")
        target = self.accept(server)
        target.send(b"220 ready")
        client.expect(b"220 ready")
        client.send(V1)  # too late to be one
        target.expect(V1)

    def test_it_needs_a_list(self):
        directory = self.directory()
        with open(os.path.join(directory, "config.toml"), "w", encoding="utf-8") as file:
            file.write(table({"proxy(optional)+tcp:$4:0": "echo:"}))
        result = self.program("--config", directory, "check")
        self.assertEqual(result.returncode, 1)
        self.assertIn("config.toml:6:8: ", result.stderr)
        self.assertIn('add trusted = ["10.0.0.0/8"] to [connpipe.proxy]', result.stderr)


class Writing(Proxy):
    def through(self, converters, first=b"", settings=""):
        """A connection through the proxy: its client and its target."""
        server = self.server()
        proxy = self.connpipe(table({"tcp:$4:0": converters + server.address}) + settings)
        client = self.client(proxy.port())
        client.send(first)
        return client, self.accept(server), proxy.port()

    def ports(self, client, port):
        return client.socket.getsockname()[1], port

    def test_version_1_without_waiting_for_the_client(self):
        client, target, port = self.through("proxy(v1)+")
        target.expect(b"PROXY TCP4 127.0.0.1 127.0.0.1 %d %d\r\n" % self.ports(client, port))
        client.send(b"hello")
        target.expect(b"hello")

    def test_version_2_without_waiting_for_the_client(self):
        client, target, port = self.through("proxy+")
        header = SIGNATURE + b"\x21\x11\x00\x0c" + 2 * bytes([127, 0, 0, 1])
        target.expect(header + struct.pack("!HH", *self.ports(client, port)))
        target.send(b"220 ready")
        client.expect(b"220 ready")

    def test_in_front_of_what_the_client_has_sent(self):
        client, target, port = self.through("proxy(v1)+", b"early")
        target.expect(b"PROXY TCP4 127.0.0.1 127.0.0.1 %d %d\r\nearly" % self.ports(client, port))

    def test_in_front_of_a_subport(self):
        server = self.server()
        proxy = self.connpipe(table({"tcp:$4:0": "proxy(v1)+%s!it" % server.address}))
        client = self.client(proxy.port())
        client.send(b"hello")
        line = b"PROXY TCP4 127.0.0.1 127.0.0.1 %d %d\r\n" % self.ports(client, proxy.port())
        self.accept(server).expect(line + preamble("it") + b"hello")

    def test_a_client_of_a_unix_socket(self):
        server = self.server()
        for mode, header in (("v1", b"PROXY UNKNOWN\r\n"), ("v2", SIGNATURE + b"\x20\0\0\0")):
            proxy = self.connpipe(table({"unix:in.sock": "proxy(%s)+%s" % (mode, server.address)}))
            client = socket.socket(socket.AF_UNIX)
            self.addCleanup(client.close)
            client.connect(os.path.join(proxy.directory, "in.sock"))
            self.accept(server).expect(header)

    def test_connect_has_no_client(self):
        server = self.server()
        process = subprocess.Popen([PROGRAM, "connect", "proxy+" + server.address],
                                   stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.stdin.close)
        self.addCleanup(process.kill)
        self.accept(server).expect(SIGNATURE + b"\x20\0\0\0")

    def test_what_one_reads_another_one_writes(self):
        """Through two of them: what the first has heard reaches the target."""
        server = self.server()
        sends = '[out]\ntype = "proxy"\ntlvs = ["authority", "alpn", "unique_id", "multiplex", "crc32c"]\n'
        second = self.connpipe(table({"proxy+tcp:$4:0": "proxy(out)+" + server.address}) + sends)
        first = self.connpipe(table({"proxy+tcp:$4:0!db": "proxy(out)+tcp:$4:%d" % second.port()}) + sends)
        tlvs = tlv(1, b"h2") + tlv(2, b"example.org")
        client = self.client(first.port())
        client.send(v2("192.0.2.1", tlvs) + preamble("db") + b"hello")
        target = self.accept(server)
        begin = v2("192.0.2.1", tlvs + tlv(5, bytes(16)) + tlv(0xE9, b"db") + tlv(3, bytes(4)))
        target.expect(begin[: 28 + len(tlvs) + 3])
        unique_id = target.socket.recv(16, socket.MSG_WAITALL)
        self.assertNotEqual(unique_id, bytes(16))
        target.expect(tlv(0xE9, b"db") + b"\x03\x00\x04")
        target.socket.recv(4, socket.MSG_WAITALL)
        target.expect(b"hello")

    def test_what_a_client_offers_was_not_agreed_upon(self):
        second = self.facts()
        first = self.connpipe('[out]\ntype = "proxy"\ntlvs = ["authority", "alpn"]\n[t]\ntype = "table"\n[t.routes]\n'
                              '"tcp:$4:0" = [{ when = { alpn = "h2" }, to = "proxy(out)+tcp:$4:%d" }]' % second.port())
        self.client(first.port()).send(client_hello("a.test", ["h2", "http/1.1"]))
        facts = self.wait_facts(second)
        self.assertIn("proxy_authority=a.test", facts)
        self.assertFalse([fact for fact in facts if fact.startswith("proxy_alpn")])

    def test_the_subport_is_the_clients(self):
        """Not that of an address that a router asks another one about."""
        second = self.facts()
        first = self.connpipe('[out]\ntype = "proxy"\ntlvs = ["authority", "multiplex"]\n'
                              '[t]\ntype = "table"\n[t.routes]\n"tcp:$4:0" = ">u tcp:$4:1!ssh"\n'
                              '[u]\ntype = "table"\nbind = false\n[u.routes]\n"tcp:$4:1!ssh" = "proxy(out)+tcp:$4:%d"\n'
                              % second.port())
        self.client(first.port()).send(b"x")
        self.assertFalse([fact for fact in self.wait_facts(second) if fact.startswith("proxy_multiplex")])
        first.wait_log("opened: tcp:127.0.0.1:0 from ")

    def test_tls_that_ends_here(self):
        directory = self.directory()
        server, user = self.certificate(directory, "server"), self.certificate(directory, "user")
        second = self.facts()
        settings = '[out]\ntype = "proxy"\ntlvs = ["authority", "alpn", "ssl", "crc32c"]\n[site]\ntype = "tls"\n'
        settings += 'certificate = "%s"\nkey = "%s.key"\nalpn = ["h2"]\n' % (server, server)
        settings += 'client_ca = "%s"\nclient_verify = "optional"\n' % user
        first = self.connpipe(table({"tls(site)+tcp:$4:0": "proxy(out)+tcp:$4:%d" % second.port()}) + settings)
        self.tls_hello(first.port(), server, user)
        self.tls_hello(first.port(), server, None)
        known, unknown = self.wait_facts(second), self.wait_facts(second, 2)
        for fact in ("proxy_authority=example.org", "proxy_alpn=h2", "proxy_ssl=true", "proxy_ssl_version=TLSv1.3"):
            self.assertIn(fact, known)
            self.assertIn(fact, unknown)
        self.assertLessEqual({"proxy_ssl_cn=user", "proxy_ssl_verified=true", "proxy_ssl_client=7"}, known)
        self.assertLessEqual({"proxy_ssl_verified=false", "proxy_ssl_client=1"}, unknown)


class Readme(Proxy):
    """What the READMEs show is a configuration."""

    def check(self, path, section=""):
        with open(os.path.join(TOP, path), encoding="utf-8") as file:
            text = file.read().split(section, 1)[1].split("\n### ")[0]
        block = re.search(r"(?s)```toml\n(.*?)```", text)[1]
        self.assertIn("proxy+tcp", block)
        directory = self.directory()
        with open(os.path.join(directory, "config.toml"), "w", encoding="utf-8") as file:
            file.write(block)
        result = self.program("--config", directory, "check")
        self.assertEqual((result.returncode, result.stderr), (0, ""))

    def test_of_the_project(self):
        self.check("README.md", "\n### PROXY protocol\n")

    def test_of_the_system(self):
        self.check("systems/proxy/README.md", "\n")


class Programs(Proxy):
    """nginx, HAProxy and curl."""

    def start(self, *words, ports=()):
        process = Process(list(words))
        self.processes.append(process)
        self.keep(process, process.stop)
        for port in ports:
            until(lambda port=port: listens(port) or process.ended)
        self.assertIsNone(process.process.poll(), process.log())
        return process

    def nginx(self, servers, ports):
        module = "/usr/lib/nginx/modules/ngx_stream_module.so"
        if not shutil.which("nginx") or not os.path.exists(module):
            self.skipTest("needs nginx and its stream module")
        directory = self.directory()
        path = os.path.join(directory, "nginx.conf")
        with open(path, "w", encoding="ascii") as file:
            file.write("load_module %s;\ndaemon off;\nmaster_process off;\npid %s/pid;\nerror_log stderr;\n"
                       "events { }\nstream { %s }\n" % (module, directory, servers))
        return self.start("nginx", "-p", directory, "-e", "stderr", "-c", path, ports=ports)

    def haproxy(self, text, ports):
        if not shutil.which("haproxy"):
            self.skipTest("needs haproxy")
        path = os.path.join(self.directory(), "haproxy.cfg")
        with open(path, "w", encoding="ascii") as file:
            file.write("global\n log stderr format raw local0\ndefaults\n timeout connect 20s\n timeout client 20s\n"
                       " timeout server 20s\n" + text)
        return self.start("haproxy", "-db", "-f", path, ports=ports)

    def own_port(self, client):
        return client.socket.getsockname()[1]

    def ask(self, port, request=b""):
        """What a server says to a client that says no more than `request`; and the client's port."""
        client = self.client(port)
        client.send(request)
        return client.receive_all().decode(), self.own_port(client)

    # ---- They are in front

    def test_behind_nginx(self):
        proxy = self.facts()
        port = free_port()
        self.nginx("server { listen 127.0.0.1:%d; proxy_pass 127.0.0.1:%d; proxy_protocol on; }" % (port, proxy.port()),
                   [port])
        client = self.echoes(self.client(port))
        self.assertIn("from 127.0.0.1:%d" % self.own_port(client), proxy.wait_log("opened: .*")[0])
        self.assertIn("proxy_version=1", self.wait_facts(proxy))

    def test_behind_haproxy(self):
        proxy = self.facts()
        ports = [free_port() for _ in range(3)]
        sends = ("send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id,ssl")
        text = "".join("listen l%d\n mode tcp\n bind 127.0.0.1:%d\n unique-id-format id-%d-%%cp\n server s 127.0.0.1:%d %s\n"
                       % (port, port, port, proxy.port(), send) for port, send in zip(ports, sends))
        self.haproxy(text, ports)
        for count, port in enumerate(ports, 1):
            client = self.echoes(self.client(port))
            self.assertIn("from 127.0.0.1:%d" % self.own_port(client), proxy.wait_log("opened: .*", count)[0])
            facts = self.wait_facts(proxy, count)
            self.assertIn("proxy_version=%d" % min(count, 2), facts)
        self.assertIn("proxy_unique_id=id-%d-%d" % (ports[2], self.own_port(client)), facts)
        self.assertIn("proxy_ssl=false", facts)

    def test_behind_haproxys_checks(self):
        """They are LOCAL headers, behind which nothing comes."""
        proxy = self.echo()
        port = free_port()
        self.haproxy("listen l\n mode tcp\n bind 127.0.0.1:%d\n server s 127.0.0.1:%d send-proxy-v2 check inter 50ms\n"
                     % (port, proxy.port()), [port])
        proxy.wait_log("opened: .*")
        self.assertEqual(proxy.counter("proxy_headers_malformed"), 0)

    def test_what_haproxy_says_about_tls(self):
        directory = self.directory()
        server, user = self.certificate(directory, "server"), self.certificate(directory, "user")
        proxy = self.facts()
        port = free_port()
        self.haproxy("listen l\n mode tcp\n bind 127.0.0.1:%d ssl crt %s ca-file %s verify required alpn h2,http/1.1\n"
                     " server s 127.0.0.1:%d send-proxy-v2 proxy-v2-options ssl,cert-cn,ssl-cipher,authority\n"
                     % (port, server, user, proxy.port()), [port])
        self.tls_hello(port, server, user)
        facts = self.wait_facts(proxy)
        for fact in ("proxy_authority=example.org", "proxy_ssl=true", "proxy_ssl_cn=user", "proxy_ssl_verified=true",
                     "proxy_ssl_version=TLSv1.3", "proxy_ssl_verify=0"):
            self.assertIn(fact, facts)
        self.assertTrue(any(fact.startswith("proxy_ssl_cipher=TLS_") for fact in facts), facts)

    def test_behind_curl(self):
        if not shutil.which("curl"):
            self.skipTest("needs curl")
        server = self.server()
        proxy = self.connpipe(table({"proxy+tcp:$4:0": server.address}))
        curl = subprocess.Popen(["curl", "-sS", "--haproxy-protocol", "http://127.0.0.1:%d/" % proxy.port()],
                                stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        self.addCleanup(curl.stdout.close)
        self.addCleanup(curl.kill)
        target = self.accept(server)
        self.assertRegex(target.receive(), b"^GET / HTTP/1.1\r\n")
        target.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        self.assertEqual(curl.stdout.read(), b"hello")
        self.assertEqual(curl.wait(PATIENCE), 0)
        self.assertEqual(proxy.counter("proxy_headers_read"), 1)

    # ---- They are behind

    def test_in_front_of_nginx(self):
        port, front = free_port(), "tcp:$4:%d" % free_port()
        self.nginx('server { listen 127.0.0.1:%d proxy_protocol; return "$proxy_protocol_addr $proxy_protocol_port '
                   '$proxy_protocol_server_addr $proxy_protocol_server_port"; }' % port, [port])
        for mode in ("v1", "v2"):
            proxy = self.connpipe(table({front: "proxy(%s)+tcp:$4:%d" % (mode, port)}))
            text, own = self.ask(proxy.port())
            self.assertEqual(text, "127.0.0.1 %d 127.0.0.1 %d" % (own, proxy.port()), mode)
            proxy.stop()

    def test_in_front_of_haproxy(self):
        port = free_port()
        self.haproxy("listen l\n mode http\n bind 127.0.0.1:%d accept-proxy\n http-request return status 200 content-type "
                     'text/plain lf-string "%%[src] %%[src_port] %%[dst] %%[dst_port] %%[fc_pp_authority] '
                     '%%[fc_pp_unique_id]."\n' % port, [port])
        tlvs = '[full]\ntype = "proxy"\ntlvs = ["authority", "alpn", "ssl", "unique_id", "multiplex", "crc32c"]\n'
        request = b"GET / HTTP/1.0\r\n\r\n"
        header = v2(tlvs=tlv(2, b"example.org") + tlv(5, b"an-id"))
        for mode, told in (("v1", "-? -?"), ("v2", "-? -?"), ("full", "example.org an-id")):
            proxy = self.connpipe(table({"proxy+tcp:$4:0": "proxy(%s)+tcp:$4:%d" % (mode, port)}) + tlvs)
            text, _ = self.ask(proxy.port(), header + request)
            self.assertRegex(text, r"\r\n192\.0\.2\.1 51234 198\.51\.100\.2 443 %s\.$" % told, mode)
            proxy.stop()

    def test_ipv6_in_front_of_both(self):
        nginx, haproxy = free_port(), free_port()
        self.nginx('server { listen 127.0.0.1:%d proxy_protocol; return "$proxy_protocol_addr"; }' % nginx, [nginx])
        self.haproxy("listen l\n mode http\n bind 127.0.0.1:%d accept-proxy\n http-request return status 200 content-type "
                     'text/plain lf-string "%%[src]"\n' % haproxy, [haproxy])
        line = b"PROXY TCP6 2001:db8::1 ::ffff:192.0.2.2 51234 443\r\n"
        for port, request in ((nginx, b""), (haproxy, b"GET / HTTP/1.0\r\n\r\n")):
            for mode in ("v1", "v2"):
                proxy = self.connpipe(table({"proxy+tcp:$4:0": "proxy(%s)+tcp:$4:%d" % (mode, port)}))
                text, _ = self.ask(proxy.port(), line + request)
                self.assertTrue(text.endswith("2001:db8::1"), text)
                proxy.stop()


if __name__ == "__main__":
    unittest.main()
