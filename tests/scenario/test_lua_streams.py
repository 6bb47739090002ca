"""Streams whose data goes through Lua: connpipe.stream, with backpressure, ends, resets, limits and errors."""

import contextlib
import hashlib
import os
import threading

from tests.scenario.harness import until
from tests.scenario.test_lua import ROUTER, Lua

XOR = """
local map = {}
for i = 0, 255 do map[string.char(i)] = string.char(require("bit").bxor(i, 0x5a)) end
local function xor(text) return (text:gsub(".", map)) end
local function wrap(stream)
    return connpipe.stream(stream, {
        read = function(below)
            local text, err = below:read()
            if not text then return nil, err end
            return xor(text)
        end,
        write = function(below, text) return below:write(xor(text)) end,
    })
end
connpipe.converter { id = "xor", accept = wrap, connect = wrap }
"""
# What is the same length goes through without touching each byte: for much data.
SAME = """
local function wrap(stream)
    return connpipe.stream(stream, {
        read = function(below) return below:read() end,
        write = function(below, text) return below:write(text) end,
    })
end
connpipe.converter { id = "same", accept = wrap, connect = wrap }
"""


def xor(data):
    return bytes(byte ^ 0x5A for byte in data)


class Base(Lua):
    def start(self, script, incoming, to, process="", settings="", timeouts="", wait=True):
        """A proxy with the script and one route."""
        return self.connpipe('[connpipe]\n%s\n%s\n[rules]\ntype = "lua"\npath = "lua/main.lua"\n%s\n'
                             '[t]\ntype = "table"\n[t.routes]\n"%s" = "%s"\n'
                             % (process, timeouts and "timeouts = { %s }" % timeouts, settings, incoming, to),
                             files={"lua/main.lua": 'local connpipe = require "connpipe"\n' + script}, wait=wait)

    def through(self, script, incoming="%s+tcp:$4:0", to="%s", converter="w", first=b"", **options):
        """A client and a target with the converter on the client's side: (proxy, client, target)."""
        server = self.server()
        proxy = self.start(script, incoming % converter, to % server.address, **options)
        client = self.client(proxy.port())
        client.send(first)
        return proxy, client, self.accept(server)

    def wrapped(self, functions, **options):
        """… with these functions over the client's stream."""
        return self.through("connpipe.converter { id = 'w', accept = function(stream)\nreturn connpipe.stream(stream, {\n"
                            "%s\n}) end }" % functions, **options)

    def exchange(self, sender, receiver, size):
        """Random bytes arrive as they were sent."""
        data = os.urandom(size)
        thread = threading.Thread(target=sender.send, args=(data,))
        thread.start()
        receiver.expect(data)
        thread.join()


class Bytes(Base):
    def test_accepting(self):
        _, client, target = self.through(XOR, converter="xor")
        client.send(xor(b"hello"))
        target.expect(b"hello")
        target.send(b"world")
        client.expect(xor(b"world"))

    def test_connecting(self):
        server = self.server()
        proxy = self.start(XOR, "tcp:$4:0", "xor+" + server.address)
        client = self.client(proxy.port())
        client.send(b"hello")
        target = self.accept(server)
        target.expect(xor(b"hello"))
        target.send(xor(b"world"))
        client.expect(b"world")

    def test_one_over_the_other(self):
        _, client, target = self.through(XOR, incoming="xor+%s+tcp:$4:0", converter="xor")
        client.send(b"twice is nothing")
        target.expect(b"twice is nothing")
        target.send(b"back")
        client.expect(b"back")

    def test_much_both_ways(self):
        _, client, target = self.through(SAME, converter="same")
        for sender, receiver in ((client, target), (target, client)):
            self.exchange(sender, receiver, 4 << 20)

    def test_half_close_each_way(self):
        _, client, target = self.through(SAME, converter="same")
        client.send(b"question")
        client.shutdown()
        self.assertEqual(target.receive_all(), b"question")
        target.send(b"answer")
        target.close()
        self.assertEqual(client.receive_all(), b"answer")

    def test_reset_by_the_client(self):
        proxy, client, target = self.through(SAME, converter="same")
        client.send(b"x")
        target.expect(b"x")
        client.reset()
        target.expect_reset()
        self.assertIn("client_reset", proxy.wait_closed())

    def test_reset_by_the_target_comes_behind_the_data(self):
        _, client, target = self.through(SAME, converter="same")
        client.send(b"x")
        target.expect(b"x")
        target.send(b"y" * 200000)
        target.wait_sent()
        target.reset()
        self.assertEqual(client.receive_until_reset(), b"y" * 200000)

    def test_slow_reader_stops_the_writer(self):
        server = self.server(receive_buffer=65536)
        proxy = self.start(SAME, "tcp:$4:0", "same+" + server.address, process="workers = 1",
                           settings='memory = "4MiB"')
        client = self.client(proxy.port())
        target = self.accept(server)
        data = os.urandom(32 << 20)
        thread = threading.Thread(target=client.send, args=(data,))
        thread.start()
        before = self.memory(proxy)
        client.socket.settimeout(20)
        thread.join(0.5)
        self.assertTrue(thread.is_alive(), "the client was stopped")
        self.assertLess(self.memory(proxy), before + (12 << 20))
        got = hashlib.sha256()
        left = len(data)
        while left:
            piece = target.receive(1 << 20)
            got.update(piece)
            left -= len(piece)
        thread.join()
        self.assertEqual(got.hexdigest(), hashlib.sha256(data).hexdigest())

    def test_read_ahead_is_not_lost(self):
        _, client, target = self.through("""
            connpipe.converter { id = "w", accept = function(stream)
                if stream:read_line() ~= "hello" then return nil, "rude" end
                return connpipe.stream(stream, { read = function(below)
                    local text, err = below:read()
                    return text and text:upper(), err
                end })
            end }""", first=b"hello\nand more")
        target.expect(b"AND MORE")
        target.send(b"back")
        client.expect(b"back")

    def test_read_ahead_goes_past_where_there_is_no_read(self):
        _, client, target = self.through("""
            connpipe.converter { id = "w", accept = function(stream)
                if stream:read_line() ~= "hello" then return nil, "rude" end
                return connpipe.stream(stream, { write = function(below, text) return below:write(text:upper()) end })
            end }""", first=b"hello\nand more")
        target.expect(b"and more")
        self.exchange(client, target, 3 << 20)
        target.send(b"back")
        client.expect(b"BACK")
        client.shutdown()
        target.expect_end()

    def test_nothing_for_a_while(self):
        """read() may return the empty text: it is asked again."""
        _, client, target = self.wrapped("""
            read = function(below)
                local text, err = below:read(1)
                if text == "." then return "" end
                return text, err
            end""")
        client.send(b"a..b.")
        target.expect(b"ab")
        client.send(b".c")
        target.expect(b"c")

    def test_bytes_of_its_own_and_an_own_end(self):
        _, client, target = self.wrapped("""
            read = (function() local n = 0 return function(below)
                n = n + 1
                if n <= 3 then return "line " .. n .. "\\n" end
            end end)()""")
        self.assertEqual(target.receive_all(), b"line 1\nline 2\nline 3\n")
        target.send(b"x")
        client.expect(b"x")

    def test_finish_comes_before_the_end(self):
        _, client, target = self.wrapped("""
            write = function(below, text) connpipe.sleep(0.01) return below:write(text) end,
            finish = function(below) connpipe.sleep(0.01) below:write("bye") end""")
        target.send(b"data ")
        target.shutdown()
        self.assertEqual(client.receive_all(), b"data bye")

    def test_finish_comes_before_a_close(self):
        """The second direction to end is not shut down, it is closed."""
        _, client, target = self.wrapped("""
            write = function(below, text) return below:write(text) end,
            finish = function(below) connpipe.sleep(0.02) return below:write("bye") end""")
        client.shutdown()
        target.expect_end()
        target.send(b"data ")
        target.close()
        self.assertEqual(client.receive_all(), b"data bye")

    def test_finish_without_write_and_a_slow_reader(self):
        _, client, target = self.wrapped('finish = function(below) return below:write("bye") end')
        data = os.urandom(32 << 20)
        thread = threading.Thread(target=lambda: (target.send(data), target.shutdown()))
        thread.start()
        thread.join(0.2)
        self.assertTrue(thread.is_alive(), "the target was stopped")
        client.expect(data)
        client.expect(b"bye")
        client.expect_end()
        thread.join()

    def test_more_at_once_than_a_write_gets(self):
        """What came while the router looked at the first bytes is written in one piece."""
        server = self.server()
        proxy = self.script(SAME + ROUTER % """
            request:peek(1)
            connpipe.log.info("one byte")
            request:peek(65536, 5)
            return "same+%s" """ % server.address)
        client = self.client(proxy.port())
        data = os.urandom(200000)
        client.send(data[:1])
        proxy.wait_log("one byte")
        client.send(data[1:])
        self.accept(server).expect(data)

    def test_close_is_told_once(self):
        proxy, client, target = self.wrapped('close = function(cause) connpipe.log.info("closed by", cause) end, '
                                             'read = function(below) return below:read() end')
        client.close()
        target.expect_end()
        target.close()
        proxy.wait_log("closed by done")
        self.assertEqual(proxy.log().count("closed by"), 1)

    def test_connector(self):
        server = self.server()
        proxy = self.script("""
            connpipe.connector { aliases = { "loud" }, connect = function(address)
                local stream, err = connpipe.connect(("tcp:%s:%d"):format(address.addr, address.port))
                if not stream then return nil, err end
                return connpipe.stream(stream, { write = function(below, text) return below:write(text:upper()) end })
            end }""" + ROUTER % ('return "loud:127.0.0.1:%d"' % server.port))
        client = self.client(proxy.port())
        client.send(b"hello")
        target = self.accept(server)
        target.expect(b"HELLO")
        self.exchange(target, client, 1 << 20)

    def test_handler_uses_such_a_stream_itself(self):
        server = self.server()
        proxy = self.script(XOR + """
            connpipe.connector { aliases = { "my" }, connect = function(address)
                local s, err = connpipe.connect("xor+%s")
                if not s then return nil, err end
                s:write("login\\n")
                local line = s:read_line()
                if line ~= "ok" then return nil, "not ok: " .. tostring(line) end
                return s
            end }""" % server.address + ROUTER % 'return "my:x:1"')
        client = self.client(proxy.port())
        client.send(b"more")
        target = self.accept(server)
        target.expect(xor(b"login\n"))
        target.send(xor(b"ok\nthen this"))
        client.expect(b"then this")
        target.expect(xor(b"more"))

    def test_client_leaves_while_a_function_waits(self):
        proxy, client, target = self.wrapped('read = function(below) connpipe.log.info("waits") connpipe.sleep(3600) end')
        proxy.wait_log("waits")
        target.reset()
        client.expect_closed()
        proxy.wait_closed()
        proxy.signal(15)
        self.assertEqual(proxy.wait(), 0)


def framed(message):
    return len(message).to_bytes(4, "big") + message


class Messages(Base):
    FRAMES = """
        local function frames(stream)
            return connpipe.stream(stream, {
                messages = true,
                read = function(below)
                    local head, err = below:read(4)
                    if not head then return nil, err end
                    local a, b, c, d = head:byte(1, 4)
                    if not d then return nil, "a frame is cut short" end
                    local length = ((a * 256 + b) * 256 + c) * 256 + d
                    local body = length == 0 and "" or below:read(length)
                    if not body or #body < length then return nil, "a frame is cut short" end
                    return body, body:sub(1, 1) == "t"
                end,
                write = function(below, message)
                    local n = #message
                    return below:write(string.char(math.floor(n / 16777216), math.floor(n / 65536) % 256,
                                                   math.floor(n / 256) % 256, n % 256) .. message)
                end,
            })
        end
        connpipe.converter { id = "frames", frames = true, accept = frames, connect = frames }
        local function tag(stream)
            return connpipe.stream(stream, {
                read = function(below)
                    local message, is_text = below:read()
                    if not message then return nil, is_text end
                    return (is_text and "text " or "") .. message, is_text
                end,
                write = function(below, message, is_text)
                    return below:write((is_text and "text " or "") .. message, is_text)
                end,
            })
        end
        connpipe.converter { id = "tag", messages = true, accept = tag, connect = tag }
        connpipe.converter { id = "wrong", frames = true, accept = function(stream) return stream end }
    """

    def test_boundaries_are_kept(self):
        server = self.server()
        proxy = self.start(self.FRAMES, "frames+tcp:$4:0", "frames+" + server.address)
        client = self.client(proxy.port())
        large = os.urandom(300000)
        messages = [b"one", b"", b"two", large, b"", b"three"]
        for message in messages[:3]:
            client.send_pieces(framed(message), [3])
        target = self.accept(server)
        for message in messages[3:]:
            client.send(framed(message))
        for message in messages:
            target.expect(framed(message))
        client.shutdown()
        target.expect_end()
        target.send(framed(large) + framed(b"last"))
        target.close()
        client.expect(framed(large) + framed(b"last"))
        client.expect_end()

    def test_over_messages(self):
        server = self.server()
        proxy = self.start(self.FRAMES, "tag+frames+tcp:$4:0", "frames+" + server.address)
        client = self.client(proxy.port())
        client.send(framed(b"two") + framed(b"binary") + framed(b""))
        target = self.accept(server)
        target.expect(framed(b"text two") + framed(b"binary") + framed(b""))
        target.send(framed(b"tea"))
        client.expect(framed(b"text tea"))

    def test_cut_short(self):
        proxy = self.start(self.FRAMES, "frames+tcp:$4:0", "frames+" + self.server().address)
        client = self.client(proxy.port())
        client.send(framed(b"abc")[:5])
        client.shutdown()
        proxy.wait_log("read of a stream: a frame is cut short")
        self.assertIn("client_protocol", proxy.wait_closed())

    def test_bytes_where_messages_were_declared(self):
        proxy = self.start(self.FRAMES, "wrong+tcp:$4:0", "discard:")
        self.refused(proxy.port())
        self.assertIn("a stream of bytes was returned where one of messages was declared", proxy.wait_closed())

    def test_put_on_bytes_only_where_it_fits(self):
        proxy = self.start(XOR + self.FRAMES, "xor+frames+tcp:$4:0", "discard:", wait=False)
        self.assertEqual(proxy.wait(), 1)
        self.assertRegex(proxy.log(), 'the converter "xor" works on bytes, but "frames" below it carries messages')


class Errors(Base):
    def test_raised_in_read(self):
        proxy, client, target = self.wrapped('read = function(below)\nlocal text = below:read()\nerror("no " .. text)\nend')
        client.send(b"luck")
        proxy.wait_log(r"ERROR rules\] lua/main\.lua:6: no luck")
        client.expect_reset()
        target.expect_reset()
        self.assertNotIn("closed: done", proxy.log())

    def test_raised_in_write(self):
        proxy, client, target = self.wrapped('write = function(below, text)\nerror("no " .. text)\nend')
        target.send(b"luck")
        proxy.wait_log(r"ERROR rules\] lua/main\.lua:5: no luck")
        client.expect_reset()
        target.expect_reset()

    def test_raised_after_waiting(self):
        proxy, client, target = self.wrapped('write = function(below, text) connpipe.sleep(0.01) error("late") end')
        target.send(b"x")
        proxy.wait_log("main.lua:4: late")
        client.expect_reset()

    def test_raised_in_finish_is_no_end_in_order(self):
        proxy, client, target = self.wrapped('write = function(below, text) return below:write(text) end,\n'
                                             'finish = function(below) error("no end") end')
        target.send(b"x")
        target.close()
        client.expect(b"x")
        proxy.wait_log("main.lua:5: no end")
        client.expect_reset()

    def test_raised_in_close_is_logged(self):
        proxy, client, target = self.wrapped('close = function() error("oops") end, '
                                             'read = function(below) return below:read() end')
        client.reset()
        target.expect_reset()
        proxy.wait_log("main.lua:4: oops")

    def test_reason_is_the_clients_protocol(self):
        proxy, client, target = self.wrapped('read = function(below) below:read() return nil, "bad frame" end')
        client.send(b"x")
        client.expect_closed()
        proxy.wait_log(r"INFO rules\] read of a stream: bad frame")
        self.assertIn("client_protocol", proxy.wait_closed())

    def test_returned_what_is_no_text(self):
        proxy, client, _ = self.wrapped('read = function(below) below:read() return {} end')
        client.send(b"x")
        proxy.wait_log("read of a stream returned a table")
        client.expect_reset()

    def test_others_go_on(self):
        server = self.server()
        proxy = self.start("""
            connpipe.converter { id = "w", accept = function(stream) return connpipe.stream(stream, {
                read = function(below)
                    local text, err = below:read()
                    if text == "bad" then error("bad") end
                    return text, err
                end }) end }""", "w+tcp:$4:0", server.address, process="workers = 1")
        good, bad = self.client(proxy.port()), self.client(proxy.port())
        targets = [self.accept(server) for _ in range(2)]
        bad.send(b"bad")
        bad.expect_reset()
        good.send(b"good")
        target = next(t for t in targets if self.receives(t))
        target.expect(b"good")

    @staticmethod
    def receives(peer):
        try:
            return peer.socket.recv(1, 2) != b""  # MSG_PEEK
        except ConnectionResetError:
            return False

    def test_wrong_use(self):
        for use, words in (
                ("connpipe.stream(stream, { raed = print })", "a stream has no `raed`"),
                ("connpipe.stream(stream, { read = 1 })", "a stream's `read` is a function"),
                ("connpipe.stream({}, {})", "a stream"),
                ("connpipe.stream(stream, {}) stream:read()", "belongs to another handler"),
                ("connpipe.stream(stream, { read = function(below) below:close() end }):read()", "ends with the one"),
                ("connpipe.stream(stream, { write = function(below) below:read() end }):write('x')", "given no `read`"),
                ("stream:close() connpipe.stream(stream, {})", "the handler's own"),
                ("('x'):gsub('x', function() connpipe.sleep(1) end)", "inside a function that Lua's library calls"),
        ):
            with self.subTest(use=use):
                proxy = self.start("connpipe.converter { id = 'w', accept = function(stream) %s connpipe.sleep(0.05) "
                                   "return stream end }" % use, "w+tcp:$4:0", "echo:")
                with contextlib.suppress(ConnectionResetError):
                    self.client(proxy.port()).send(b"x")
                proxy.wait_log(r"ERROR rules\] lua/main.lua:2: .*" + words)
                proxy.stop()


class Limits(Base):
    def limited(self, body, budget="20ms"):
        proxy, client, _ = self.wrapped("read = function(below)\nbelow:read()\n%s\nend" % body, process="workers = 1",
                                        settings='budget = "%s"\nmemory = "4MiB"' % budget)
        client.send(b"x")
        client.expect_closed()
        return proxy

    def test_budget(self):
        self.limited("while true do end").wait_log(r"lua/main\.lua:6: ran longer than its budget of 20 ms")

    def test_memory(self):
        proxy = self.limited("local t = {} while true do t[#t + 1] = {} end", budget="10s")
        proxy.wait_log(r"lua/main\.lua:6: not enough memory")

    def test_more_than_may_be_returned(self):
        self.limited('return ("x"):rep(1048577)').wait_log("returned 1048577 bytes at once")

    def test_budget_is_that_of_one_run(self):
        """Much data takes many runs, and together more than the budget."""
        _, client, target = self.through(XOR, converter="xor", settings='budget = "200ms"')
        data = os.urandom(6 << 20)
        thread = threading.Thread(target=client.send, args=(data,))
        thread.start()
        target.expect(xor(data))
        thread.join()

    def test_nothing_is_left(self):
        """References, tasks and streams of connections that are over are freed: under a small limit many fit."""
        server = self.server()
        proxy = self.start(XOR, "xor+tcp:$4:0", server.address, process="workers = 1", settings='memory = "2MiB"')
        port = proxy.port()
        for _ in range(500):
            client = self.client(port)
            client.send(xor(b"x"))
            target = self.accept(server)
            target.expect(b"x")
            target.close()
            client.expect_end()
            client.close()
        until(lambda: proxy.ask("status")["counters"].get("connections_open", 0) == 0)
        self.assertNotIn("not enough memory", proxy.log())


class Examples(Base):
    def example_proxy(self, name, incoming, to, settings=""):
        return self.start(self.example(name).replace('local connpipe = require "connpipe"', "", 1), incoming, to,
                          settings=settings)

    def test_redact(self):
        server = self.server()
        proxy = self.example_proxy("redact", "redact+tcp:$4:0", server.address, 'words = ["password", "token"]')
        client = self.client(proxy.port())
        client.send_pieces(b"user=x pass" b"word=secret token=1 ok\nlast password=2", [11, 20])
        target = self.accept(server)
        target.expect(b"user=x password=*** token=*** ok\n")
        client.shutdown()
        target.expect(b"last password=***")
        target.expect_end()
        target.send(b"a token=3\ntok")
        client.expect(b"a token=***\n")
        target.send(b"en=4")
        target.close()
        client.expect(b"token=***")
        client.expect_end()

    def test_tap(self):
        server = self.server()
        proxy = self.example_proxy("tap", "tap+tcp:$4:0", server.address)
        client = self.client(proxy.port())
        client.send_pieces(b"one\ntwo\nthree", [2, 6])
        target = self.accept(server)
        target.expect(b"one\ntwo\nthree")
        for line in ("one", "two"):
            proxy.wait_log(r"INFO rules\] 127.0.0.1 says %s$" % line)
        self.exchange(target, client, 1 << 20)
        target.close()
        client.close()
        proxy.wait_log(r"said 13 bytes: \w+")
