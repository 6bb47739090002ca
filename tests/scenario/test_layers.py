"""Layers over layers: what one connpipe puts on, another one takes off, and every byte, end and reset goes through.

    client ── bare ──▶ A ── layers ──▶ B ── bare ──▶ target

Where messages are carried (`frame`), the bare sides have the frames of `frame+tcp` on them."""

import os
import re
import shutil
import subprocess
import tempfile
import threading

from .harness import PATIENCE, TOP, Scenario, free_port, table, until
from .tls_peers import Authority

BULK = 4 << 20
ENOUGH = 100_000  # for every layer to have begun

# Layers and the wire below; whether messages are carried; whether a reset can be told from an end.
COMBINATIONS = [
    ("frame", "tcp", True, True),
    ("frame", "unix", True, False),
    ("zstd(5)", "tcp", False, True),
    ("zstd(keeps)", "unix", False, True),
    ("zstd(small)+zstd(-3)", "tcp", False, True),
    ("frame+zstd", "tcp", True, True),
    ("tls(site)", "unix", False, True),
    ("tls(site)+proxy", "tcp", False, True),
    ("proxy+tls(site)", "tcp", False, True),
    ("zstd+tls(site)", "tcp", False, True),
    ("frame+zstd+tls(site)", "tcp", True, True),
    ("frame+zstd(small)+tls(site)+proxy(v1)", "tcp", True, True),
    ("frame+proxy+zstd(keeps)", "unix", True, True),
]

# Over a unix socket a reset is seen as a frame that is cut, which an idle one, having ended, would not be.
PROFILES = '[small]\ntype = "zstd"\nlevel = 1\nwindow = "4KiB"\nchecksum = true\nidle = "20ms"\n' \
           '[keeps]\ntype = "zstd"\nlevel = 1\nidle = "0s"\n'


def frames(size, seed=1):
    """Messages of many lengths, in frames."""
    out, state, filling = bytearray(), seed, some_bytes(65536, seed)
    while len(out) < size:
        state = (state * 7919 + 12345) % 65536
        length = state if state % 50 == 0 else state % 3000
        out += length.to_bytes(2, "big") + filling[:length]
    return bytes(out)


def some_bytes(size, seed=1):
    """Half of it hardly compresses."""
    piece = bytes((i * i * seed >> 3) & 0xFF for i in range(5000)) + b"the same again " * 333
    return (piece * (size // len(piece) + 1))[:size]


def in_background(call, *arguments):
    thread = threading.Thread(target=call, args=arguments)
    thread.start()
    return thread


class Combinations(Scenario):
    @classmethod
    def setUpClass(cls):
        cls.files = tempfile.mkdtemp(prefix="connpipe-layers-")
        cls.addClassCleanup(shutil.rmtree, cls.files, ignore_errors=True)
        cls.authority = Authority(cls.files)
        cls.site = cls.authority.make("site", ["127.0.0.1"])

    def config(self, routes):
        tls = '[site]\ntype = "tls"\ncertificate = "%s"\nca = "%s"\nserver_name = "127.0.0.1"\n'
        return table(routes) + PROFILES + tls % (self.site, self.authority.path)

    def chains(self, server):
        """Two proxies with all combinations between them: (front, back, the port of each combination)."""
        routes, ports = ({}, {}), []
        for layers, wire, messages, _ in COMBINATIONS:
            bare = "frame+" if messages else ""
            between = "unix:%s/wire" % self.directory() if wire == "unix" else "tcp:$4:%d" % free_port()
            ports.append(free_port())
            routes[0]["%stcp:$4:%d" % (bare, ports[-1])] = "%s+%s" % (layers, between)
            routes[1]["%s+%s" % (layers, between)] = bare + server.address
        back = self.connpipe(self.config(routes[1]))
        return self.connpipe(self.config(routes[0])), back, ports

    def open(self, port, server, greeting):
        """A connection through both: (client, target). The target speaks first."""
        client = self.client(port)
        target = self.accept(server)
        target.send(greeting)
        client.expect(greeting)
        return client, target

    def half_close(self, port, server, data):
        client, target = self.open(port, server, data(50))
        asked, answered = data(3000, 3), data(2000, 5)
        client.send(asked)
        client.shutdown()
        self.assertEqual(target.receive_all(), asked)
        target.send(answered)
        target.close()
        self.assertEqual(client.receive_all(), answered)

    def bulk(self, port, server, data):
        client, target = self.open(port, server, data(10))
        up, down = data(BULK, 7), data(BULK, 11)

        def send(peer, what):
            peer.send(what)
            peer.shutdown()

        threads = [in_background(send, client, up), in_background(send, target, down)]
        got = []
        threads.append(in_background(lambda: got.append(target.receive_all())))
        received = client.receive_all()
        for thread in threads:
            thread.join()
        self.assertTrue(received == down, "%d bytes of %d came down" % (len(received), len(down)))
        self.assertTrue(got[0] == up, "%d bytes of %d went up" % (len(got[0]), len(up)))

    def resets(self, port, server, data, resets):
        for one, other in ((0, 1), (1, 0)):
            pair = self.open(port, server, data(10))
            what = data(ENOUGH, 13)
            sender = in_background(pair[one].send, what)
            pair[other].expect(what)  # a reset discards what its receiver has not read yet, the proxy included
            sender.join()
            pair[one].reset()
            pair[other].expect_reset() if resets else pair[other].expect_end()
            pair[other].close()

    def test_all(self):
        server = self.server()
        front, back, ports = self.chains(server)
        for (layers, wire, messages, resets), port in zip(COMBINATIONS, ports):
            with self.subTest(layers=layers, wire=wire):
                data, between = frames if messages else some_bytes, re.escape("%s+%s:" % (layers, wire))
                self.half_close(port, server, data)
                front.wait_log("closed: .* to %s.*, done$" % between)
                back.wait_log("closed: %s.*, done$" % between)
                self.bulk(port, server, data)
                self.resets(port, server, data, resets)


class Frame(Scenario):
    def test_queries_in_one_segment_are_answered_one_by_one(self):
        """As DNS over TCP pipelines them (RFC 7766, section 6.2.1.1)."""
        proxy = self.connpipe(table({"frame+tcp:$4:0": "frame+echo:"}))
        client = self.client(proxy.port())
        query = bytes.fromhex("abcd01000001000000000000") + b"\7example\3org\0\0\1\0\1"
        sent = b"".join(len(q).to_bytes(2, "big") + q for q in (query, b"", query + b"x" * 40000, b"?"))
        client.send_pieces(sent, [1, 2, 3, 60, 61])
        client.expect(sent)
        client.shutdown()
        client.expect_end()
        self.assertRegex(proxy.wait_closed(), r"\bdone\b")

    def test_an_end_inside_a_message_is_a_reset(self):
        server = self.server()
        proxy = self.connpipe(table({"frame+tcp:$4:0": "frame+" + server.address}))
        client = self.client(proxy.port())
        client.send(b"\0\2ok\0\5abc")
        client.shutdown()
        target = self.accept(server)
        target.expect(b"\0\2ok")
        target.expect_reset()
        proxy.wait_log("frame\\] the end of file came inside a message")
        self.assertRegex(proxy.wait_closed(), r"\bclient_reset\b")

    def test_a_subport_is_the_beginning_of_the_first_message(self):
        server = self.server()
        back = self.connpipe(table({"frame+tcp:$4:0!db": "frame+" + server.address}))
        front = self.connpipe(table({"frame+tcp:$4:0": "frame+tcp:$4:%d!db" % back.port()}))
        client = self.client(front.port())
        client.send(b"\0\3abc\0\1d")
        self.accept(server).expect(b"\0\3abc\0\1d")


class Zstd(Scenario):
    def zstd(self, *words, data):
        return subprocess.run(["zstd", *words], input=data, stdout=subprocess.PIPE, check=True, timeout=PATIENCE).stdout

    def setUp(self):
        if not shutil.which("zstd"):
            self.skipTest("the program zstd is not installed")

    def test_zstd_reads_what_was_written(self):
        server = self.server()
        proxy = self.connpipe(table({"tcp:$4:0": "zstd+" + server.address}))
        for pieces in ([], [b"a"], [b"one ", b"two ", some_bytes(300_000)]):
            client = self.client(proxy.port())
            target = self.accept(server)
            for piece in pieces:
                client.send(piece)
                client.wait_sent()
            client.shutdown()
            self.assertEqual(self.zstd("-dc", data=target.receive_all()), b"".join(pieces))

    def test_what_zstd_writes_is_read(self):
        server = self.server()
        proxy = self.connpipe(table({"zstd+tcp:$4:0": server.address}))
        data = some_bytes(300_000)
        for options in ("", "-1 --no-check", "-19 --zstd=wlog=20"):
            client = self.client(proxy.port())
            client.send(self.zstd("-c", *options.split(), data=data))
            client.send(self.zstd("-c", data=b"and a second frame"))
            client.shutdown()
            self.assertEqual(self.accept(server).receive_all(), data + b"and a second frame")

    def test_bytes_that_are_no_frame(self):
        server = self.server()
        proxy = self.connpipe(table({"zstd+tcp:$4:0": server.address}))
        client = self.client(proxy.port())
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        client.expect_reset()
        proxy.wait_log("zstd\\] cannot decompress: Unknown frame descriptor")
        self.assertRegex(proxy.wait_closed(), r"\bclient_protocol\b")
        self.assertEqual(proxy.counter("zstd_malformed"), 1)

    def test_a_window_that_is_too_large(self):
        server = self.server()
        proxy = self.connpipe(table({"zstd+tcp:$4:0": server.address}))
        client = self.client(proxy.port())
        client.send(self.zstd("-1c", "--zstd=wlog=25", data=b"a")[:100])
        proxy.wait_log(r"cannot decompress: the peer's window is larger than the 2048 KiB .* `window_limit`")
        client.expect_reset()

    def test_a_cut_stream_is_a_reset(self):
        server = self.server()
        proxy = self.connpipe(table({"zstd+tcp:$4:0": server.address}))
        client = self.client(proxy.port())
        whole = self.zstd("-1c", data=os.urandom(200_000))
        client.send(whole[:150_000])
        client.shutdown()
        target = self.accept(server)
        self.assertGreater(len(target.receive_until_reset()), 100_000)

    def test_idle_connections_hold_no_contexts(self):
        server = self.server()
        back = self.connpipe(table({"zstd(small)+tcp:$4:0": server.address}) + PROFILES)
        front = self.connpipe(table({"tcp:$4:0": "zstd(small)+tcp:$4:%d" % back.port()}) + PROFILES)
        pairs = []
        for _ in range(5):
            client = self.client(front.port())
            target = self.accept(server)
            pairs.append((client, target))
        for _ in range(2):
            for client, target in pairs:
                client.send(b"hello")
                target.expect(b"hello")
                target.send(b"world")
                client.expect(b"world")
            until(lambda: not any(process.counter("zstd_compressors") or process.counter("zstd_decompressors")
                                  for process in (front, back)))

    def test_a_reload_keeps_connections(self):
        """Their contexts belong to the generation that is left behind."""
        server = self.server()
        back = self.connpipe(table({"zstd+tcp:$4:0": server.address}))
        front = self.connpipe(table({"tcp:$4:0": "zstd(k)+tcp:$4:%d" % back.port()}) + '[k]\ntype = "zstd"\n')
        client = self.client(front.port())
        target = self.accept(server)
        for turn in range(3):
            client.send(b"%d" % turn)
            target.expect(b"%d" % turn)
            for process in (front, back):
                self.assertTrue(process.ask("reload").get("ok", True))
        client.shutdown()
        target.expect_end()


class Check(Scenario):
    def errors(self, routes, more=""):
        directory = self.directory()
        with open(os.path.join(directory, "config.toml"), "w", encoding="utf-8") as file:
            file.write(table(routes) + more)
        done = self.program("check", "--config", directory)
        self.assertEqual(done.returncode, 1, done.stderr)
        return done.stderr

    def test_messages_to_bytes(self):
        errors = self.errors({"frame+tcp:$4:5300": "tcp:$4:53"})
        self.assertRegex(errors, r'config.toml:\d+:\d+: "tcp:\$4:53" carries bytes, but the route\'s key '
                                 r'"frame\+tcp:127.0.0.1:5300" carries messages; "frame\+tcp:\$4:53" would')

    def test_bytes_to_messages(self):
        errors = self.errors({"tcp:$4:5300": ["echo:", "frame+zstd+tcp:$4:53"]})
        self.assertRegex(errors, r'"frame\+zstd\+tcp:\$4:53" carries messages, but the route\'s key '
                                 r'"tcp:127.0.0.1:5300" carries bytes; "frame\+tcp:127.0.0.1:5300" would')

    def test_bytes_over_messages(self):
        for layers, below in (("zstd+frame", "frame"), ("zstd+frame+zstd", "frame")):
            errors = self.errors({layers + "+tcp:$4:1": "discard:"})
            self.assertIn('the converter "zstd" works on bytes, but "%s" below it carries messages: converters apply '
                          'from right to left, so "frame" has to stand in front of "zstd"' % below, errors)
            self.assertIn('works on bytes, but "frame"', self.errors({"tcp:$4:1": layers + "+tcp:$4:2"}))

    def test_framed_twice(self):
        self.assertIn('the converter "frame" makes messages of bytes, but "frame" below it carries messages already',
                      self.errors({"frame+frame+tcp:$4:1": "discard:"}))

    def test_behind_other_tables(self):
        more = '[b]\ntype = "table"\nbind = false\n[b.routes]\n"tcp:$4:2" = ">c tcp:$4:3"\n' \
               '[c]\ntype = "table"\nbind = false\n[c.routes]\n' \
               '"tcp:$4:3" = [{ when = { proto = "ssh" }, to = "tcp:$4:22" }, { to = "discard:" }]\n'
        self.assertRegex(self.errors({"frame+tcp:$4:1": ">b tcp:$4:2"}, more),
                         r'config.toml:6:\d+: "frame\+tcp:127.0.0.1:1" carries messages, but the router "c", asked from '
                         r'here, leads to "tcp:127.0.0.1:22", which carries bytes')

    def test_a_router_in_between(self):
        """Only known when a connection comes: it is refused, and the reason logged."""
        script = 'require("connpipe").router { id = "main", bind = { "frame+tcp:$4:0" }, route = function() ' \
                 'return "tcp:$4:9" end }'
        proxy = self.connpipe('[rules]\ntype = "lua"\npath = "main.lua"\n', files={"main.lua": script})
        self.refused(proxy.port())
        self.assertRegex(proxy.wait_closed(), "it carries bytes, but the client's stream carries messages")

    def test_arguments(self):
        self.assertIn('expected a level from -7 (fastest) to 19 (smallest) or a system of type "zstd", found "20"',
                      self.errors({"zstd(20)+tcp:$4:1": "discard:"}))
        self.assertIn('did you mean "small"?', self.errors({"zstd(smal)+tcp:$4:1": "discard:"}, PROFILES))
        self.assertIn("frame", self.errors({"frame(x)+tcp:$4:1": "discard:"}))

    def test_profiles(self):
        errors = self.errors({"tcp:$4:1": "discard:"}, '[z]\ntype = "zstd"\nlevel = 99\nwindow = "3KiB"\n'
                             'window_limit = "1GiB"\nchecksun = true\nidle = "x"\n[7]\ntype = "zstd"\n')
        for words in ("from -7 to 19", "expected a power of two from \"1KiB\" to \"128MiB\", found 3072 bytes",
                      "found 1073741824 bytes", "checksum", "expected a duration", "zstd(7) means a level"):
            self.assertIn(words, errors)


class Readmes(Scenario):
    def test_what_they_show_is_a_configuration(self):
        for name, after in (("README.md", "\n### Messages and compression\n"), ("systems/frame/README.md", ""),
                            ("systems/zstd/README.md", "")):
            with self.subTest(name=name), open(os.path.join(TOP, name), encoding="utf-8") as file:
                text = file.read()
                block = text[text.index(after):].split("```toml\n")[1].split("```")[0]
                directory = self.directory()
                with open(os.path.join(directory, "config.toml"), "w", encoding="utf-8") as config:
                    config.write(block)
                done = self.program("check", "--config", directory)
                self.assertEqual(done.returncode, 0, done.stderr)
