"""Subports: the preamble of `!name`, and the shipped configuration that shows them."""

import os
import re
import unittest

from tests.scenario.harness import MAGIC, TOP, Scenario, preamble, table

BOTH = {"tcp:$4:0!echo": "echo:", "tcp:$4:0": "exec:/bin/echo plain"}


class Shipped(Scenario):
    def setUp(self):
        with open(os.path.join(TOP, "config", "config.toml"), encoding="utf-8") as file:
            text = file.read()
        # As shipped, but on a port that nobody else has.
        self.proxy = self.connpipe(re.sub(r"(tcp:\$4):25565", r"\1:0", text))
        self.port = self.proxy.port()

    def connect(self, subport, text=""):
        return self.program("connect", "tcp:127.0.0.1:%d%s" % (self.port, subport), input=text)

    def test_three_services_behind_one_port(self):
        self.assertEqual(self.connect("!echo", "there and back").stdout, "there and back")
        self.assertEqual(self.connect("!hello").stdout, "Hello from connpipe!\n")
        self.assertRegex(self.connect("!date").stdout, r"\d\d:\d\d:\d\d")

    def test_without_a_subport(self):
        self.assertIn("Name a subport", self.connect("").stdout)

    def test_unknown_subport_is_refused(self):
        result = self.connect("!other")
        self.assertEqual(result.stdout, "")
        self.assertRegex(self.proxy.wait_closed(), r"!other.*no_route")


class Preamble(Scenario):
    def start(self, routes=None, **settings):
        self.proxy = self.connpipe(table(routes or BOTH, "workers = 1", **settings))
        return self.proxy.port()

    def test_split_anywhere(self):
        port = self.start({"tcp:$4:0!echo": "echo:"})
        data = preamble("echo") + b"data"
        for cut in range(1, len(data)):
            with self.subTest(cut=cut):
                client = self.client(port)
                client.send_pieces(data, [cut])
                client.expect(b"data")
                client.shutdown()
                client.expect_end()

    def test_one_byte_at_a_time(self):
        client = self.client(self.start())
        data = preamble("echo") + b"data"
        client.send_pieces(data, list(range(1, len(data))))
        client.expect(b"data")

    def test_what_differs_belongs_to_the_stream(self):
        server = self.server()
        port = self.start({"tcp:$4:0!echo": "echo:", "tcp:$4:0": server.address})
        for length in range(len(MAGIC)):
            with self.subTest(length=length):
                data = MAGIC[:length] + bytes([MAGIC[length] ^ 1]) + b"rest"
                client = self.client(port)
                client.send_pieces(data, [max(length, 1)])
                self.accept(server).expect(data)

    def test_end_within_the_magic_belongs_to_the_stream(self):
        server = self.server()
        port = self.start({"tcp:$4:0!echo": "echo:", "tcp:$4:0": server.address})
        client = self.client(port)
        client.send(MAGIC[:7])
        client.shutdown()
        target = self.accept(server)
        target.expect(MAGIC[:7])
        target.expect_end()

    def test_longest_name(self):
        name = "n" * 255
        client = self.client(self.start({"tcp:$4:0!" + name: "echo:"}))
        client.send(preamble(name) + b"x")
        client.expect(b"x")

    def test_malformed(self):
        port = self.start()
        cases = {
            "zero length": preamble("", b"\x00"),
            "over the limit": preamble("n" * 256),
            "longer encoding than needed": preamble("echo", b"\x84\x00"),
            "endless length": preamble("", b"\xff" * 12),
            "not UTF-8": preamble(b"\xff\xfe"),
        }
        for count, (what, data) in enumerate(cases.items(), 1):
            with self.subTest(what):
                client = self.client(port)
                client.send(data)
                client.expect_closed()
                self.assertIn("malformed_preamble", self.proxy.wait_closed(count))
        self.assertEqual(self.proxy.counter("closed_malformed_preamble"), len(cases))

    def test_silent_client_has_no_subport(self):
        client = self.client(self.start(timeouts='preamble = "100ms"'))
        client.expect(b"plain\n")

    def test_server_that_speaks_first_is_not_held_up(self):
        server = self.server()
        port = self.start({"tcp:$4:0": server.address}, timeouts='preamble = "10m"')
        client = self.client(port)
        target = self.accept(server)
        target.send(b"220 ready\r\n")
        client.expect(b"220 ready\r\n")

    def test_names_are_escaped_in_the_log(self):
        client = self.client(self.start())
        client.send(preamble("a\n[2000-01-01 00:00:00.000 ERROR main] forged"))
        client.expect_closed()
        self.proxy.wait_closed()
        self.assertNotRegex(self.proxy.log(), r"(?m)^\[2000-01-01")


if __name__ == "__main__":
    unittest.main()
