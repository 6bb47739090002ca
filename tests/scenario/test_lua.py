"""Systems in Lua: routing, limits, waiting, connectors, converters, the examples, reloads."""

import os
import socket
import threading
import time
import unittest

from tests.scenario.harness import PROGRAM, TOP, Scenario, client_hello, free_port, preamble, until

EXAMPLES = os.path.join(TOP, "lua", "examples")
MAIN = """
local connpipe = require "connpipe"
%s
"""
ROUTER = """
connpipe.router { id = "main", bind = { "tcp:$4:0" }, route = function(request)
%s
end }
"""


class Lua(Scenario):
    def script(self, text, settings="", process="", files=(), **options):
        config = '[connpipe]\n%s\n[rules]\ntype = "lua"\npath = "lua/main.lua"\n%s\n' % (process, settings)
        files = {"lua/main.lua": MAIN % text, **dict(files)}
        return self.connpipe(config, files=files, **options)

    def route(self, body, **options):
        """A proxy whose one router has this body."""
        return self.script(ROUTER % body, **options)

    def echoes(self, proxy, data=b"hello"):
        client = self.client(proxy.port())
        client.send(data)
        client.expect(data)
        return client

    @staticmethod
    def memory(proxy):
        with open("/proc/%d/statm" % proxy.process.pid, encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def example(self, name):
        with open(os.path.join(EXAMPLES, name + ".lua"), encoding="utf-8") as file:
            return file.read()


class Routing(Lua):
    def test_text(self):
        self.echoes(self.route('return "echo:"'))

    def test_fields(self):
        server = self.server()
        proxy = self.route('return { connector = "tcp", addr = "127.0.0.1", port = %d }' % server.port)
        self.client(proxy.port()).send(b"x")
        self.accept(server).expect(b"x")

    def test_list_is_tried_in_order(self):
        proxy = self.route('return { "tcp:127.0.0.1:%d", { connector = "echo" } }' % free_port())
        self.echoes(proxy)
        proxy.wait_log("failed, trying the next one")

    def test_another_router(self):
        proxy = self.script(ROUTER % 'return ">other"' +
                            'connpipe.router { id = "other", route = function() return "echo:" end }')
        self.echoes(proxy)
        proxy.wait_log("opened: .* by other to echo:")

    def test_refusal_with_a_reason(self):
        proxy = self.route('return nil, "banned"')
        self.refused(proxy.port())
        self.assertIn("refused_by_router: banned", proxy.wait_closed())

    def test_no_answer_is_no_route(self):
        proxy = self.route("")
        self.refused(proxy.port())
        self.assertIn("no_route", proxy.wait_closed())

    def test_request(self):
        body = """
            local a, p = request.address, request.peer
            return nil, table.concat({ a.connector, a.addr, tostring(a.port == %s), a.multiplex or "none", p.addr,
                type(p.port), type(request.facts), request.text:match("^tcp:127.0.0.1:%%d+!x$") and "text" or "" }, " ")
        """
        proxy = self.script('connpipe.router { id = "main", bind = { "tcp:$4:0!x" }, route = function(request) %s end }'
                            % (body % "a.port"))
        self.client(proxy.port()).send(preamble("x"))
        self.assertIn("tcp 127.0.0.1 true x 127.0.0.1 number table text", proxy.wait_closed())

    def test_peek_does_not_consume(self):
        proxy = self.route('if request:peek(4, 5) == "GET " then return "echo:" end return nil, "no"')
        client = self.client(proxy.port())
        client.send_pieces(b"GET /", [1, 3])
        client.expect(b"GET /")

    def test_peek_gives_up(self):
        proxy = self.route('return nil, "got <" .. request:peek(4, 0.05) .. ">"')
        client = self.client(proxy.port())
        client.send(b"ab")
        self.assertIn("got <ab>", proxy.wait_closed())

    def test_peek_after_waiting(self):
        proxy = self.route('connpipe.sleep(0.01) local b = request:peek(2, 5) connpipe.sleep(0.01) '
                           'if b == "ok" and request:peek(1) == "o" then return "echo:" end')
        self.echoes(proxy, b"ok")

    def test_client_leaves_while_the_handler_waits(self):
        proxy = self.route('connpipe.log.info("waiting") connpipe.sleep(3600) return "echo:"')
        client = self.client(proxy.port())
        proxy.wait_log("waiting")
        client.reset()
        client = self.client(proxy.port())
        client.close()

    def test_five_lines_of_the_readme(self):
        with open(os.path.join(TOP, "systems", "lua", "README.md"), encoding="utf-8") as file:
            text = file.read().split("```lua\n")[1].split("```")[0]
        port = free_port()
        proxy = self.connpipe('[rules]\ntype = "lua"\npath = "lua/main.lua"\n',
                              files={"lua/main.lua": text.replace("*4:8000", "$4:%d" % port)})
        client = self.client(port)
        client.send(b"hello")
        client.expect(b"hello")
        self.assertTrue(proxy.log())


class Errors(Lua):
    def refuses(self, text, *patterns, settings=""):
        """The process does not start, and says these."""
        proxy = self.script(text, settings, wait=False)
        self.assertEqual(proxy.wait(), 1)
        for pattern in patterns:
            self.assertRegex(proxy.log(), pattern)

    def test_syntax(self):
        self.refuses("x = = 1", r"lua/main\.lua:3: unexpected symbol")

    def test_raised_while_loading(self):
        self.refuses("local function f() error('no luck') end\nf()", r"lua/main\.lua:3: no luck \(.*main\.lua:4")

    def test_endless_while_loading_is_stopped_by_memory(self):
        self.refuses("local t = {} while true do t[#t + 1] = {} end", r"lua/main\.lua:3: not enough memory",
                     settings='memory = "2MiB"')

    def test_unknown_key(self):
        self.refuses("connpipe.router { rout = function() end }", r"main\.lua:3: a router has no `rout`.*`route`")

    def test_bad_address_to_bind(self):
        self.refuses('connpipe.router { bind = { "tpc:$4:0" }, route = print }', r"main\.lua:3.*tpc")

    def test_waiting_while_loading(self):
        self.refuses("connpipe.sleep(1)", r"main\.lua:3: nothing can be waited for while the script is loaded")

    def test_missing_file(self):
        proxy = self.connpipe('[rules]\ntype = "lua"\npath = "gone.lua"\n', wait=False)
        self.assertEqual(proxy.wait(), 1)
        self.assertRegex(proxy.log(), r"config\.toml:3:8: cannot open .*gone\.lua: No such file")

    def test_bytecode_is_refused(self):
        self.refuses("assert(loadstring('\\27LJ'))", r"main\.lua:3: .*mode")

    def test_dangerous_functions_are_not_there(self):
        self.refuses("error(tostring(os.exit or string.dump or newproxy or debug.sethook or io.popen or "
                     "package.loadlib or jit.on or pcall(require, 'ffi')))", r"main\.lua:3: false")

    def test_ffi_if_wanted(self):
        self.refuses("error(type(require('ffi').new))", r"main\.lua:3: function", settings="ffi = true")

    def test_compiler_if_wanted(self):
        self.refuses("error(type(jit.on))", r"main\.lua:3: function", settings="jit = true")

    def test_other_declarations_on_another_worker(self):
        self.refuses("connpipe.router { id = 'r' .. connpipe.worker, route = print }",
                     r"declares something else on worker 1", settings="")

    def test_raised_in_a_handler(self):
        proxy = self.route('local function f() return nil .. "x" end\nreturn f() .. "y"')
        self.refused(proxy.port())
        proxy.wait_log(r"ERROR rules\] lua/main\.lua:5: attempt to concatenate a nil value \(.*main\.lua:6\)")
        self.assertRegex(proxy.wait_closed(), "router_failed: .*lua/main.lua:5")

    def test_raised_after_waiting(self):
        proxy = self.route('connpipe.sleep(0.01) error("late")')
        self.refused(proxy.port())
        self.assertRegex(proxy.wait_closed(), "router_failed: .*lua/main.lua:5: late")

    def test_answer_that_is_none(self):
        proxy = self.route("return 5")
        self.refused(proxy.port())
        self.assertRegex(proxy.wait_closed(), "router_failed: .*an answer is a text, a table")

    def test_target_that_is_no_address(self):
        proxy = self.route('return "tpc:x:1"')
        self.refused(proxy.port())
        self.assertRegex(proxy.wait_closed(), "router_failed: .*tpc")

    def test_metamethods_of_an_answer_are_not_run(self):
        proxy = self.route('return setmetatable({}, { __index = function() error("oops") end })')
        self.refused(proxy.port())
        self.assertRegex(proxy.wait_closed(), "router_failed: .*a list of targets")

    def test_own_yield(self):
        proxy = self.route("coroutine.yield()")
        self.refused(proxy.port())
        self.assertRegex(proxy.wait_closed(), "router_failed: .*yielded by itself")

    def test_request_that_is_over(self):
        proxy = self.script("local last\n" + ROUTER % """
            if last then return nil, select(2, pcall(function() return last.peer end)) end
            last = request
            return "echo:" """, process="workers = 1")
        self.echoes(proxy)
        self.refused(proxy.port())
        proxy.wait_log("closed: .*this request is over")


class Limits(Lua):
    BAD = """
        local first = request:peek(4, 5)
        if first == "loop" then while true do end end
        if first == "call" then while true do pcall(function() while true do end end) end end
        if first == "xpcl" then while true do xpcall(function() while true do end end,
            function() while true do end end) end end
        if first == "mem " then local t = {} while true do t[#t + 1] = ("x"):rep(1000) .. #t end end
        if first == "memp" then
            while true do pcall(function() local t = {} while true do t[#t + 1] = {} end end) end
        end
        if first == "err " then error("no") end
        if first == "wait" then connpipe.sleep(10) end
        return "echo:" """

    def setUp(self):
        self.start("20ms")

    def start(self, budget):
        self.proxy = self.route(self.BAD, process="workers = 1", settings='memory = "4MiB"\nbudget = "%s"' % budget)
        self.port = self.proxy.port()

    def bad(self, what):
        client = self.client(self.port)
        client.send(what)
        client.expect_closed()

    def test_loops(self):
        for what in (b"loop", b"call", b"xpcl"):
            began = time.monotonic()
            self.bad(what)
            self.assertLess(time.monotonic() - began, 5)
        self.proxy.wait_log(r"ERROR rules\] lua/main\.lua:\d+: ran longer than its budget of 20 ms", 3)
        self.echoes(self.proxy, b"good")

    def test_memory(self):
        self.start("2s")  # sanitizers make allocating so slow that less is over first
        for _ in range(5):
            self.bad(b"mem ")
        self.proxy.wait_log(r"ERROR rules\] lua/main\.lua:11: not enough memory", 5)
        self.bad(b"memp")
        self.echoes(self.proxy, b"good")

    def test_others_go_on(self):
        waiting = self.client(self.port)
        waiting.send(b"wait")
        good = self.echoes(self.proxy, b"good")
        worst = 0
        for what in (b"loop", b"mem ", b"err ", b"call"):
            thread = threading.Thread(target=self.bad, args=(what,))
            thread.start()
            while thread.is_alive():
                began = time.monotonic()
                good.send(b"ping")
                good.expect(b"ping")
                worst = max(worst, time.monotonic() - began)
            thread.join()
        self.assertLess(worst, 1)  # the budget, on a machine that has other things to do too


class Nested(Lua):
    """A handler that uses what another script made: that runs within its own run."""

    OTHER = """
        connpipe.connector { aliases = { "other" }, fields = { "name" },
            parse = function(text) return { name = text } end,
            format = function(fields) return fields.name end,
            connect = function() return "echo:" end }
        connpipe.connector { aliases = { "plain" }, connect = function() return "echo:" end }"""

    def stopped(self, address):
        proxy = self.route('local s = connpipe.connect("%s") connpipe.log.info("back") while true do end' % address,
                           process="workers = 1",
                           settings='budget = "20ms"\n[other]\ntype = "lua"\npath = "lua/other.lua"',
                           files={"lua/other.lua": MAIN % self.OTHER})
        self.refused(proxy.port())
        proxy.wait_log("back")
        proxy.wait_log(r"ERROR rules\] lua/main\.lua:\d+: ran longer than its budget of 20 ms")

    def test_budget_holds_behind_a_connect(self):
        self.stopped("plain:x:1")

    def test_budget_holds_behind_a_parse(self):
        self.stopped("other:name")


@unittest.skipIf("san" in os.path.basename(os.path.dirname(PROGRAM)), "sanitizers keep freed memory")
class Kept(Lua):
    """Targets that were answered before are kept parsed: not without end."""

    def test_texts_that_are_no_addresses(self):
        proxy = self.script("local n = 0\n" + ROUTER % """
            n = n + 1
            return "tpc:" .. n .. ("x"):rep(16384)""", process="workers = 1")
        port = proxy.port()
        for _ in range(1200):
            self.refused(port)
        before = self.memory(proxy)
        for _ in range(1000):
            self.refused(port)
        self.assertLess(self.memory(proxy), before + (6 << 20))


class Functions(Lua):
    def answers(self, expression, expected, **options):
        """`expression`, evaluated in a handler, is `expected` as JSON."""
        proxy = self.route("return nil, connpipe.json.encode(%s)" % expression, **options)
        self.refused(proxy.port())
        self.assertIn("refused_by_router: " + expected, proxy.wait_closed())

    def test_config(self):
        self.answers("connpipe.config", '{"a":{"b":[1,2.5,true,"x"]},"path":"lua/main.lua","type":"lua"}',
                     settings='a = { b = [1, 2.5, true, "x"] }')

    def test_worker_and_directory(self):
        self.answers('{ connpipe.worker, connpipe.config_dir:sub(1, 1) }', '[0,"/"]', process="workers = 1")

    def test_json(self):
        self.answers('connpipe.json.decode(\'{"a": [1, null, []], "b": {"c": "\\\\u00e9"}}\')',
                     '{"a":[1,null,[]],"b":{"c":"é"}}')

    def test_json_error(self):
        self.answers('{ connpipe.json.decode("[1,") == nil, (select(2, connpipe.json.decode("[1,"))) }',
                     '[true,"line 1, column 3')

    def test_json_of_a_circle(self):
        self.answers('(function() local t = {} t.t = t return { pcall(connpipe.json.encode, t) } end)()',
                     '[false,"cannot be JSON: tables are nested too deeply')

    def test_resolve(self):
        self.answers('connpipe.resolve("127.0.0.1")', '["127.0.0.1"]')

    def test_resolve_of_a_name(self):
        self.answers('#connpipe.resolve("localhost") > 0', "true")

    def test_require_of_a_module(self):
        self.answers('{ require("lib.one"), require("two") }', '["one","two"]',
                     files={"lib/one.lua": 'return "one"', "lua/two.lua": 'return "two"'})

    def test_every(self):
        proxy = self.script('local n = 0\n'
                            'connpipe.every(0.01, function() n = n + 1 connpipe.log.info("tick", n) end)\n' + ROUTER % 'return "echo:"', process="workers = 1")
        proxy.wait_log(r"INFO rules\] tick 3")

    def test_every_that_fails_goes_on(self):
        proxy = self.script('connpipe.every(0.01, function() error("no") end)\n' + ROUTER % 'return "echo:"')
        proxy.wait_log(r"ERROR rules\] lua/main\.lua:3: no", 3)

    def test_print_and_escapes(self):
        proxy = self.script('print("a", 1, nil, "b\\nc")\n' + ROUTER % 'print("x", 1) return "echo:"')
        self.echoes(proxy)
        proxy.wait_log(r"INFO rules\] x\\x091")

    def test_shared(self):
        self.answers("""(function()
            local s, out = connpipe.shared, {}
            out[1] = s:get("k") == nil
            out[2] = s:set("k", "v")
            out[3] = s:get("k")
            out[4] = select(2, s:add("k", 1))
            out[5] = s:add("n", 5)
            out[6] = s:incr("n", 2)
            out[7] = select(2, s:incr("gone", 1))
            out[8] = s:incr("new", 1, 10)
            out[9] = select(2, s:incr("k", 1))
            s:set("short", true, 0.02)
            out[10] = s:get("short")
            connpipe.sleep(0.05)
            out[11] = s:get("short") == nil
            s:set("k", nil)
            out[12] = s:get("k") == nil
            out[13] = s:set("long", ("x"):rep(5000)) and #s:get("long")
            out[14] = select(2, s:set("huge", ("x"):rep(3e6)))
            return out
        end)()""", '[true,true,"v","exists",true,7,"not found",11,"not a number",true,true,true,5000,"too large"]',
                     settings='shared = "1MiB"\nmemory = "64MiB"')

    def test_shared_survives_a_reload(self):
        proxy = self.route('return nil, "count " .. connpipe.shared:incr("n", 1, 0)')
        port = proxy.port()
        self.refused(port)
        proxy.wait_log("count 1")
        answer = proxy.ask("reload")
        self.assertTrue(answer["ok"], answer)
        self.refused(proxy.port())
        proxy.wait_log("count 2")


class Streams(Lua):
    def connector(self, body, **options):
        return self.script('connpipe.connector { aliases = { "my" }, connect = function(address, request)\n%s\nend }\n'
                           % body + ROUTER % 'return "my:some.where:77"', **options)

    def test_address_instead(self):
        self.echoes(self.connector('return "echo:"'))

    def test_untouched_stream(self):
        server = self.server()
        proxy = self.connector('return connpipe.connect("%s")' % server.address)
        client = self.client(proxy.port())
        target = self.accept(server)
        data = os.urandom(1 << 20)
        thread = threading.Thread(target=client.send, args=(data,))
        thread.start()
        target.expect(data)
        thread.join()
        client.shutdown()
        target.expect_end()
        target.send(b"bye")
        target.close()
        self.assertEqual(client.receive_all(), b"bye")

    def test_read_ahead_is_not_lost(self):
        server = self.server()
        proxy = self.connector("""
            local s = connpipe.connect("%s")
            s:write(address.addr .. ":" .. address.port .. " " .. request.peer.addr .. "\\n")
            local line = s:read_line()
            local four = s:read(4)
            if line ~= "line" or four ~= "four" then return nil, line .. four end
            return s""" % server.address)
        client = self.client(proxy.port())
        target = self.accept(server)
        target.expect(b"some.where:77 127.0.0.1\n")
        target.send(b"line\r\nfourand more")
        client.expect(b"and more")
        client.send(b"up")
        target.expect(b"up")
        data = os.urandom(3 << 20)
        thread = threading.Thread(target=target.send, args=(data,))
        thread.start()
        client.expect(data)
        thread.join()
        target.close()
        client.expect_end()

    def test_end_of_file(self):
        server = self.server()
        proxy = self.connector("""
            local s = connpipe.connect("%s")
            s:shutdown()
            local all, none, why = s:read(100), s:read(1)
            none, why = s:read()
            return nil, all .. " " .. tostring(none) .. " " .. why""" % server.address)
        client = self.client(proxy.port())
        target = self.accept(server)
        target.expect_end()
        target.send(b"rest")
        target.close()
        client.expect_closed()
        self.assertIn("rest nil end of file", proxy.wait_closed())

    def test_large_write_waits(self):
        server = self.server(receive_buffer=65536)
        proxy = self.connector('local s = connpipe.connect("%s") s:write(("x"):rep(8000000)) return s' % server.address,
                               settings='budget = "2s"')  # sanitizers copy slowly
        client = self.client(proxy.port())
        target = self.accept(server)
        target.expect(b"x" * 8000000)
        client.send(b"y")
        target.expect(b"y")

    def test_refused_connect(self):
        proxy = self.connector('local s, err = connpipe.connect("tcp:127.0.0.1:%d") return s, "so: " .. err'
                               % free_port())
        self.refused(proxy.port())
        self.assertRegex(proxy.wait_closed(), "connect_refused: so: .*refused")

    def test_time_out(self):
        server = self.server()
        proxy = self.connector('local s = connpipe.connect("%s") return s:read(1) and s' % server.address,
                               process='timeouts = { connect = "50ms" }')
        client = self.client(proxy.port())
        target = self.accept(server)
        client.expect_closed()
        target.expect_closed()
        self.assertIn("connect_timeout", proxy.wait_closed())

    def test_client_leaves_while_connecting(self):
        server = self.server()
        proxy = self.connector('local s = connpipe.connect("%s") s:write("x") return s:read(1) and s' % server.address)
        client = self.client(proxy.port())
        target = self.accept(server)
        target.expect(b"x")
        client.reset()
        target.send(b"y")
        proxy.wait_log("closed:")

    def test_stream_of_another_handler(self):
        server = self.server()
        proxy = self.script("local kept\n" + ROUTER % """
            if kept then return nil, tostring(select(2, pcall(kept.read, kept, 1))) end
            kept = connpipe.connect("%s")
            return nil, "kept" """ % server.address, process="workers = 1")
        self.refused(proxy.port())
        self.accept(server).expect_closed()
        self.refused(proxy.port())
        proxy.wait_log("the stream is closed")

    LOGIN = """
        local s = connpipe.connect("%s")
        s:write("hello\\n")
        if s:read_line() ~= "ok" then return nil, "not ok" end
        %s
        return s"""

    def logged_in(self, between=""):
        server = self.server()
        proxy = self.connector(self.LOGIN % (server.address, between))
        client = self.client(proxy.port())
        target = self.accept(server)
        target.expect(b"hello\n")
        return proxy, client, target

    def test_end_together_with_the_line(self):
        _, client, target = self.logged_in()
        target.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)  # one segment has both
        target.send(b"ok\n")
        began = time.monotonic()
        target.shutdown()
        client.expect_end()
        self.assertLess(time.monotonic() - began, 5)

    def test_bytes_while_the_handler_sleeps(self):
        proxy, client, target = self.logged_in('connpipe.log.info("sleeps") connpipe.sleep(0.15)')
        target.send(b"ok\n")
        proxy.wait_log("sleeps")
        target.send(b"banner")
        client.expect(b"banner")

    def test_connector_that_connects_to_itself(self):
        proxy = self.connector('return connpipe.connect("my:again:1")', process='timeouts = { connect = "50ms" }')
        self.refused(proxy.port())
        proxy.wait_closed()
        self.assertIsNone(proxy.process.poll())

    def test_subport_through_a_connector(self):
        server = self.server()
        proxy = self.connector('return connpipe.connect("%s!name")' % server.address)
        self.client(proxy.port())
        self.accept(server).expect(preamble("name"))


class Examples(Lua):
    def start(self, name, table, to=None, extra=""):
        text = '[it]\ntype = "lua"\npath = "lua/it.lua"\n%s\n' % table
        if to:
            text += '[t]\ntype = "table"\n[t.routes]\n%s\n' % to
        return self.connpipe(text + extra, files={"lua/it.lua": self.example(name)})

    def test_socks5(self):
        server = self.server()
        proxy = self.start("socks5", 'proxy = "%s"' % server.address, '"tcp:$4:0" = "socks5:db.internal:5432"')
        client = self.client(proxy.port())
        client.send(b"early")
        socks = self.accept(server)
        socks.expect(b"\x05\x01\x00")
        socks.send(b"\x05\x00")
        socks.expect(b"\x05\x01\x00\x03\x0bdb.internal" + (5432).to_bytes(2, "big"))
        socks.send(b"\x05\x00\x00\x03\x04abcd\x00\x01greeting")
        socks.expect(b"early")
        client.expect(b"greeting")

    def test_socks5_refuses(self):
        server = self.server()
        proxy = self.start("socks5", 'proxy = "%s"' % server.address, '"tcp:$4:0" = "socks5:db.internal:5432"')
        client = self.client(proxy.port())
        socks = self.accept(server)
        socks.expect(b"\x05\x01\x00")
        socks.send(b"\x05\x00")
        socks.receive()
        socks.send(b"\x05\x05\x00\x01\0\0\0\0\0\0")
        client.expect_closed()
        self.assertIn("connect_refused: the proxy says: connection refused", proxy.wait_closed())

    def test_http_connect(self):
        server = self.server()
        proxy = self.start("http_connect", 'proxy = "%s"' % server.address, '"tcp:$4:0" = "via:[2001:db8::1]:80"')
        client = self.client(proxy.port())
        tunnel = self.accept(server)
        tunnel.expect(b"CONNECT [2001:db8::1]:80 HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n")
        tunnel.send(b"HTTP/1.1 200 OK\r\nVia: x\r\n\r\nhello")
        client.expect(b"hello")
        client.send(b"back")
        tunnel.expect(b"back")

    def test_http_connect_refuses(self):
        server = self.server()
        proxy = self.start("http_connect", 'proxy = "%s"' % server.address, '"tcp:$4:0" = "via:x:80"')
        client = self.client(proxy.port())
        tunnel = self.accept(server)
        tunnel.send(b"HTTP/1.1 403 Forbidden\r\n\r\n")
        client.expect_closed()
        self.assertIn("HTTP/1.1 403 Forbidden", proxy.wait_closed())

    def test_header(self):
        server = self.server()
        proxy = self.start("header", "", '"from+tcp:$4:0" = "from+%s"' % server.address)
        client = self.client(proxy.port())
        client.send_pieces(b"FROM 192.0.2.7 999\r\nhello", [3, 21])
        target = self.accept(server)
        target.expect(b"FROM 192.0.2.7 999\r\nhello")
        proxy.wait_log("opened: .* from 192.0.2.7:999 ")
        target.send(b"back")
        client.expect(b"back")

    def test_header_that_is_wrong(self):
        proxy = self.start("header", "", '"from+tcp:$4:0" = "echo:"')
        client = self.client(proxy.port())
        client.send(b"GET / HTTP/1.1\r\n")
        client.expect_closed()
        self.assertIn("client_protocol: the first line is no FROM line", proxy.wait_closed())

    def test_rate_limit(self):
        proxy = self.start("rate_limit", 'bind = "tcp:$4:0"\nto = "echo:"\nburst = 3\nseconds = 600')
        for _ in range(3):
            self.echoes(proxy)
        self.refused(proxy.port())
        proxy.wait_log("too many connections from 127.0.0.1")
        client = self.client(proxy.port(), source="127.0.0.2")
        client.send(b"x")
        client.expect(b"x")

    def test_canary(self):
        stable, canary = self.server(), self.server()
        proxy = self.start("canary", 'bind = "tcp:$4:0"\nstable = "%s"\ncanary = "%s"\npercent = 30'
                           % (stable.address, canary.address))
        port = proxy.port()
        for i in range(1, 51):
            client = self.client(port, source="127.0.1.%d" % i)
            client.send(b"x")
        proxy.wait_log("opened:", 50)
        share = proxy.log().count(" to %s" % canary.address)
        self.assertTrue(5 <= share <= 25, share)

    def test_first_bytes(self):
        tls, ssh, http = self.server(), self.server(), self.server()
        proxy = self.start("first_bytes", 'bind = "tcp:$4:0"\ntls = "%s"\nssh = "%s"\nhttp = "%s"'
                           % (tls.address, ssh.address, http.address))
        for server, data in ((tls, b"\x16\x03\x01\x02"), (ssh, b"SSH-2.0-x"), (http, b"GET / HTTP/1.1\r\n")):
            self.client(proxy.port()).send(data)
            self.accept(server).expect(data)
        self.client(proxy.port()).send(b"\0\0\0\0")
        proxy.wait_log("neither TLS nor SSH nor HTTP")


    def test_protocols(self):
        ssh, http, named, other = (self.server() for _ in range(4))
        proxy = self.start("protocols", 'bind = "tcp:$4:0"\nssh = "%s"\nhttp = "%s"\n[it.tls]\n"a.test" = "%s"\n'
                           'default = "%s"' % (ssh.address, http.address, named.address, other.address))
        for server, data in ((ssh, b"SSH-2.0-x\r\n"), (http, b"GET / HTTP/1.1\r\n\r\n"),
                             (named, client_hello("A.test")), (other, client_hello("b.test")), (other, client_hello())):
            self.client(proxy.port()).send(data)
            self.accept(server).expect(data)
        self.client(proxy.port()).send(b"\0\0\0\0")
        proxy.wait_log("neither TLS nor SSH nor HTTP")
        client = self.client(proxy.port())
        target = self.accept(ssh)  # which speaks first
        target.send(b"SSH-2.0-y\r\n")
        client.expect(b"SSH-2.0-y\r\n")


class Facts(Lua):
    def test_each_fact(self):
        proxy = self.route("""
            local words = {}
            for _, name in ipairs { "proto", "sni", "alpn", "host", "path", "method", "none" } do
                words[#words + 1] = name .. "=" .. tostring(request:fact(name))
            end
            return nil, table.concat(words, " ")""")
        self.client(proxy.port()).send(client_hello("a.test", ["h2", "http/1.1"]))
        self.assertIn("proto=tls sni=a.test alpn=h2,http/1.1 host=nil path=nil method=nil none=nil",
                      proxy.wait_closed())
        self.client(proxy.port()).send(b"PUT /x?y HTTP/1.1\r\nHost: B.test:80\r\n\r\n")
        self.assertIn("proto=http sni=nil alpn=nil host=b.test path=/x method=PUT none=nil", proxy.wait_closed(2))
        self.client(proxy.port()).send(b"\0\0")
        self.assertIn("proto=nil sni=nil alpn=nil host=nil path=nil method=nil none=nil", proxy.wait_closed(3))

    def test_waits_and_consumes_nothing(self):
        proxy = self.route('connpipe.sleep(0.01) if request:fact("sni") == "a.test" then return "echo:" end')
        hello = client_hello("a.test")
        client = self.client(proxy.port())
        client.send_pieces(hello, [1, 5, 50])
        client.expect(hello)

    def test_gives_up_on_the_silent_and_the_slow(self):
        proxy = self.route('return nil, tostring(request:fact("sni", 0.05)) .. tostring(request:fact("sni", 60))')
        self.client(proxy.port())
        self.assertIn("nilnil", proxy.wait_closed())
        self.client(proxy.port()).send(client_hello("a.test")[:-1])
        self.assertIn("nilnil", proxy.wait_closed(2))

    def test_client_leaves_while_the_handler_waits(self):
        proxy = self.route('connpipe.log.info("waiting") request:fact("host", 3600) return "echo:"')
        client = self.client(proxy.port())
        client.send(b"GET / HTTP")
        proxy.wait_log("waiting")
        client.reset()
        self.assertRegex(proxy.wait_closed(), "client_gone")

    def test_each_wait_has_its_own_time(self):
        for first in ('fact("proto", 3600)', "peek(2, 3600)"):
            with self.subTest(first=first):
                proxy = self.route('request:%s return nil, "got <" .. request:peek(100, 0.05) .. ">"' % first)
                client = self.client(proxy.port())
                client.send_pieces(b"hello", [1])
                self.assertIn("got <hello>", proxy.wait_closed())

    def test_a_fact_that_a_script_has_set(self):
        proxy = self.script("""
            connpipe.converter { id = "named", accept = function(s, argument, request)
                request:set_fact("sni", argument) return s end }
            connpipe.router { id = "main", bind = { "named(x.test)+tcp:$4:0" }, route = function(request)
                return nil, "name " .. request:fact("sni", 3600) end }""")
        self.refused(proxy.port())
        self.assertIn("name x.test", proxy.wait_closed())

    def test_where_nothing_can_be_waited_for(self):
        proxy = self.script("""
            connpipe.converter { id = "early", accept = function(s, argument, request)
                request:fact("sni") return s end }
            connpipe.router { id = "main", bind = { "early+tcp:$4:0" }, route = function() return "echo:" end }""")
        self.refused(proxy.port())
        proxy.wait_log("only a router's handler can wait for facts")


class Reload(Lua):
    def test_new_text(self):
        proxy = self.route('return nil, "first"')
        self.refused(proxy.port())
        proxy.wait_log("first")
        path = os.path.join(proxy.directory, "lua", "main.lua")
        with open(path, "w", encoding="utf-8") as file:
            file.write(MAIN % (ROUTER % 'return nil, "second"'))
        self.assertTrue(proxy.ask("reload")["ok"])
        self.refused(proxy.port())
        proxy.wait_log("second")

    def test_error_keeps_the_old_one(self):
        proxy = self.route('return "echo:"')
        path = os.path.join(proxy.directory, "lua", "main.lua")
        with open(path, "w", encoding="utf-8") as file:
            file.write("local x = nil\nreturn x.y")
        answer = proxy.ask("reload")
        self.assertFalse(answer["ok"])
        self.assertRegex(str(answer["errors"]), r"lua/main\.lua:2: attempt to index")
        self.echoes(proxy)

    def test_waiting_handlers_keep_their_generation(self):
        proxy = self.route('connpipe.log.info("waiting") connpipe.sleep(0.3) return "echo:"')
        client = self.client(proxy.port())
        client.send(b"hello")
        proxy.wait_log("waiting")
        self.assertTrue(proxy.ask("reload")["ok"])
        client.expect(b"hello")

    def test_handlers_that_wait_for_each_other(self):
        """… end with their script, whichever is first."""
        proxy = self.script("""
            connpipe.connector { aliases = { "mine" }, connect = function()
                connpipe.log.info("mine waits")
                connpipe.sleep(3600)
            end }
            connpipe.every(0.01, function() connpipe.connect("mine:x:1") end)
            """ + ROUTER % 'return "echo:"', process="workers = 1")
        proxy.wait_log("mine waits")
        self.assertTrue(proxy.ask("reload")["ok"])
        proxy.wait_log("mine waits", 2)
        self.echoes(proxy)
        proxy.signal(15)
        self.assertEqual(proxy.wait(), 0)

    def test_many_leak_nothing(self):
        count = 10000 if os.environ.get("CONNPIPE_TEST_LONG") else 300
        proxy = self.script("connpipe.every(0.001, function() end)\nlocal ballast = ('x'):rep(1000000)\n" +
                            ROUTER % 'return ballast and "echo:"')
        before = None
        for i in range(count):
            self.assertTrue(proxy.ask("reload")["ok"])
            if i % 20 == 0:
                self.echoes(proxy).close()
            if i == 50:
                before = self.held(proxy)
        until(lambda: self.held(proxy)[0] <= before[0])
        until(lambda: self.held(proxy)[1] <= before[1])
        if not os.environ.get("ASAN_OPTIONS"):  # freed memory stays in its quarantine
            self.assertLess(self.held(proxy)[2], before[2] + (16 << 20))
        proxy.signal(15)
        self.assertEqual(proxy.wait(), 0)

    @staticmethod
    def held(proxy):
        """Descriptors, timers of the kernel (one for each budget), bytes of memory."""
        process = "/proc/%d/" % proxy.process.pid
        with open(process + "timers", encoding="ascii") as timers, open(process + "statm", encoding="ascii") as memory:
            return (len(os.listdir(process + "fd")), timers.read().count("ID:"),
                    int(memory.read().split()[1]) * os.sysconf("SC_PAGE_SIZE"))


if __name__ == "__main__":
    unittest.main()
