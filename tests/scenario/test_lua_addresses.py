"""Addresses of connectors in Lua: their fields, parse and format; bind and accept."""

import os
import threading

from tests.scenario.harness import TOP, free_port, preamble, table, until
from tests.scenario.test_lua import Lua

SHARD = """
connpipe.connector {
    aliases = { "shard", "sh" },
    fields = { "name", "number:u16", "note?", "multiplex:string?" },
    parse = function(text, alias)
        local name, number, note, multiplex = text:match("^([^/!]+)/(%d+)/?([^!]*)!?(.*)$")
        if not name then return nil, "expected NAME/NUMBER" end
        return { name = connpipe.unescape(name), number = number, note = note ~= "" and connpipe.unescape(note) or nil,
                 multiplex = multiplex ~= "" and multiplex or nil }
    end,
    format = function(f, alias)
        return connpipe.escape(f.name) .. "/" .. f.number .. (f.note and "/" .. connpipe.escape(f.note) or "")
               .. (f.multiplex and "!" .. f.multiplex or "")
    end,
    connect = function(address)
        connpipe.log.info("asked for", address.connector, address.name, address.number, address.note)
        return "echo:"
    end,
}
"""


class Base(Lua):
    def files(self, script, routes, settings="", process=""):
        config = '[rules]\ntype = "lua"\npath = "lua/main.lua"\n%s\n' % settings
        return config + table(routes, process), {"lua/main.lua": 'local connpipe = require "connpipe"\n' + script}

    def start(self, script, routes, settings="", process="", **options):
        config, files = self.files(script, routes, settings, process)
        return self.connpipe(config, files=files, **options)

    def check(self, script, routes, *patterns):
        """`connpipe check` fails and says these; without patterns all is well."""
        config, files = self.files(script, routes)
        directory = self.directory()
        for name, text in {"config.toml": config, **files}.items():
            os.makedirs(os.path.dirname(os.path.join(directory, name)), exist_ok=True)
            with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
                file.write(text)
        result = self.program("check", "--config", directory)
        self.assertEqual(result.returncode, 1 if patterns else 0, result.stderr)
        for pattern in patterns:
            self.assertRegex(result.stderr, pattern)
        return directory


class Parsing(Base):
    def test_fields_reach_the_handler(self):
        proxy = self.start(SHARD, {"tcp:$4:0": "shard:or%2Fders/17/a%20note"})
        self.echoes(proxy)
        proxy.wait_log(r"asked for shard or/ders 17 a note")
        proxy.wait_log(r"opened: .* to shard:or%2Fders/17/a%20note")

    def test_canonical_text(self):
        directory = self.check(SHARD, {"tcp:$4:1000": "sh/a%41/7"})
        result = self.program("route", "--config", directory, "tcp:127.0.0.1:1000")
        self.assertIn("sh:aA/7", result.stdout)

    def test_address_from_fields(self):
        proxy = self.start(SHARD + """
            connpipe.router { id = "main", bind = { "tcp:$4:0" }, route = function()
                return { connector = "shard", name = "x y", number = 9 }
            end }""", {})
        self.echoes(proxy)
        proxy.wait_log("opened: .* to shard:x%20y/9")

    def test_text_from_a_handler(self):
        """Parsed in the worker's state, while a handler of the same state runs."""
        proxy = self.start(SHARD + """
            connpipe.connector { aliases = { "over" }, connect = function() return connpipe.connect("shard:in/3") end }
            """, {"tcp:$4:0": "over:x:1"})
        self.echoes(proxy)
        proxy.wait_log("asked for shard in 3")

    def test_wrong_text_from_a_handler_is_a_reason(self):
        proxy = self.start(SHARD + """
            connpipe.connector { aliases = { "over" }, connect = function()
                local s, err = connpipe.connect("shard:nothing") return nil, "so: " .. err end }
            """, {"tcp:$4:0": "over:x:1"})
        self.refused(proxy.port())
        self.assertRegex(proxy.wait_closed(), r'so: column 7 of "shard:nothing": expected NAME/NUMBER \(lua/main.lua:6\)')

    def test_template(self):
        proxy = self.start(SHARD, {"tcp:$4:0!*": "shard:{multiplex}/1"})
        client = self.client(proxy.port())
        client.send(preamble("a-b") + b"x")
        client.expect(b"x")
        proxy.wait_log("asked for shard a-b 1")
        proxy.wait_log("opened: .* to shard:a-b/1")

    def test_subport_of_a_target(self):
        proxy = self.start(SHARD, {"tcp:$4:0": "shard:x/1!deep"})
        client = self.client(proxy.port())
        client.expect(preamble("deep"))

    def test_many_workers(self):
        proxy = self.start(SHARD + """
            connpipe.router { id = "main", bind = { "tcp:$4:0" }, route = function(request)
                return "shard:w" .. connpipe.worker .. "/" .. request.peer.port
            end }""", {}, process="workers = 4")
        for _ in range(40):
            self.echoes(proxy)


class ParseErrors(Base):
    def test_message_and_line(self):
        self.check(SHARD, {"tcp:$4:1": "shard:orders"},
                   r"config.toml:\d+:\d+: expected NAME/NUMBER \(lua/main.lua:6\)")

    def test_place_in_the_text(self):
        self.check("connpipe.connector { aliases = { 'p' }, fields = { 'x' },\n"
                   "parse = function(text) return nil, 'a bad letter', (text:find('%d')) end,\n"
                   "format = function(f) return f.x end, connect = print }",
                   {"tcp:$4:1": "p:ab1c"}, r"config.toml:10:19: a bad letter \(lua/main.lua:3\)")

    def broken(self, parse, pattern, fields="'x', 'n:u8?'", format="return f.x"):
        self.check("connpipe.connector { aliases = { 'p' }, fields = { %s },\nparse = function(text)\n%s\nend,\n"
                   "format = function(f)\n%s\nend, connect = print }" % (fields, parse, format),
                   {"tcp:$4:1": "p:text"}, pattern)

    def test_raised(self):
        self.broken("local t = nil return t.x", r"config.toml:10:17: lua/main.lua:4: attempt to index")

    def test_nothing_returned(self):
        self.broken("", r"parse returned no table of fields, and no message \(lua/main.lua:3\)")

    def test_unknown_field(self):
        self.broken("return { x = 'a', y = 1 }", r"parse returned a member y that is none of the fields")

    def test_value_out_of_range(self):
        self.broken("return { x = 'a', n = 300 }", r"the field n: .*300")

    def test_missing_field(self):
        self.broken("return { n = 3 }", "x is missing", format="return 'a'")

    def test_round_trip(self):
        self.broken("return { x = text }", r'format writes it as "other", which parse reads as something else',
                    format="return 'other'")

    def test_format_that_parse_does_not_read(self):
        self.broken("if text ~= 'text' then return nil, 'strange' end return { x = text }",
                    r'format writes it as "other", which parse does not read: strange', format="return 'other'")

    def test_format_raises(self):
        self.broken("return { x = text }", r"lua/main.lua:7: oops", format="error('oops')")

    def test_format_returns_what_no_address_may_have(self):
        self.broken("return { x = text }", r"format returned a space or a control character", format="return 'a b'")

    def test_waiting(self):
        self.broken("connpipe.sleep(1)", r"lua/main.lua:4: nothing can be waited for here")

    def test_memory(self):
        self.broken("return { x = ('x'):rep(1e8) }", r"lua/main.lua:4: not enough memory")

    def test_budget(self):
        self.broken("while true do end", r"lua/main.lua:4: ran longer than its budget of 50 ms")

    def test_budget_and_memory_on_a_worker(self):
        proxy = self.start("""
            local loading = true
            connpipe.connector { aliases = { "p" }, fields = { "x" }, format = function(f) return f.x end,
                parse = function(text)
                    if text == "loop" then while true do end end
                    if text == "mem" then local t = {} while true do t[#t + 1] = {} end end
                    return { x = text }
                end, connect = function() return "echo:" end }
            connpipe.router { id = "main", bind = { "tcp:$4:0" }, route = function(request)
                return "p:" .. request:peek(4, 5):match("%w+")
            end }""", {}, settings='budget = "1s"\nmemory = "2MiB"', process="workers = 1")
        for word, message in ((b"loop", "ran longer than its budget"), (b"mem.", "not enough memory")):
            client = self.client(proxy.port())
            client.send(word)
            client.expect_closed()
            proxy.wait_log("router_failed: .*" + message)
        self.echoes(proxy, b"good")

    def test_declarations(self):
        for definition, pattern in (
                ("parse = print, connect = print", "`parse` and `format` go together"),
                ("fields = { 'x' }, connect = print", 'field "x" needs parse and format'),
                ("fields = { 'x:u7' }, parse = print, format = print, connect = print", "unknown kind"),
                ("fields = { 'port:string' }, parse = print, format = print, connect = print", "does not fit its role"),
                ("", "a `connect` or a `bind`"),
                ("connect = print, accept = print", "`accept` needs a `bind`"),
        ):
            with self.subTest(definition=definition):
                self.check("connpipe.connector { aliases = { 'p' }, %s }" % definition, {}, pattern)


class Binding(Base):
    BIND = """
        connpipe.connector { aliases = { "my" }, bind = function(address)
            if address.addr == "none" then return nil, "not this one" end
            return %s
        end, %s }"""

    def bound(self, to, extra="", route="echo:", **options):
        return self.start(self.BIND % (to, extra), {"my:name:7": route}, **options)

    def test_text(self):
        self.echoes(self.bound('"tcp:$4:0"'))

    def test_fields(self):
        self.echoes(self.bound('{ connector = "tcp", addr = "127.0.0.1", port = 0 }'))

    def test_several(self):
        first, second = free_port(), free_port()
        self.bound('{ "tcp:$4:%d", "tcp:$4:%d" }' % (first, second))
        for port in (first, second, first):
            client = self.client(port)
            client.send(b"x")
            client.expect(b"x")

    def test_router_sees_its_own_address(self):
        proxy = self.bound('"tcp:$4:0"', """
            connect = function(address, request) return nil, request.text .. " " .. request.peer.addr end """,
            route="my:target:9")
        self.refused(proxy.port())
        self.assertIn("my:name:7 127.0.0.1", proxy.wait_closed())

    def test_check_says_why_not(self):
        for to, pattern in (('"tcp:some.name:80"', "my:name:7.*cannot bind to a name"),
                            ('"exec:true"', "cannot be bound"),
                            ('"ws:$4:80"', 'address of "ws", which is more than a socket'),
                            ('"my:again:1"', "address of its own connector"),
                            ('{ "tcp:$4:80", "tcp:127.0.0.1:80" }', "twice"),
                            ("nil", "bind returned no address, and no reason"),
                            ("{}", "bind returned no address"),
                            ('"tpc:x:1"', "bind returned an address that is none.*tpc"),
                            ("nothing.x", r"lua/main.lua:5: attempt to index"),
                            ("connpipe.sleep(1)", "nothing can be waited for here")):
            with self.subTest(to=to):
                self.check(self.BIND % (to, ""), {"my:name:7": "echo:"}, pattern)
        self.check(self.BIND % ("1", ""), {"my:none:7": "echo:"}, "my:none:7.*not this one")

    def test_in_use(self):
        server = self.server()
        proxy = self.bound('"%s"' % server.address, wait=False)
        self.assertEqual(proxy.wait(), 1)
        self.assertRegex(proxy.log(), "cannot bind my:name:7: .*another socket has this address")

    def test_connections_of_all_workers(self):
        proxy = self.bound('"tcp:$4:0"', process="workers = 4")
        for _ in range(40):
            self.echoes(proxy)


class Accepting(Base):
    ACCEPT = """
        connpipe.connector { aliases = { "my" }, bind = function() return "tcp:$4:%d" end,
            accept = function(stream, request)
                %s
            end }
        connpipe.router { id = "main", bind = { "my:name:7" }, route = function(request)
            if request.peer.addr ~= "127.0.0.1" then return nil, "from " .. request.peer.addr end
            return "%s"
        end }"""
    HELLO = 'if stream:read_line() ~= "hello" then return nil, "rude" end return stream'

    def accepting(self, body, to="echo:", port=0, **options):
        return self.start(self.ACCEPT % (port, body, to), {}, **options)

    def test_handshake(self):
        proxy = self.accepting("stream:write('who?') " + self.HELLO)
        client = self.client(proxy.port())
        client.expect(b"who?")
        client.send_pieces(b"hello\nrest", [2])
        client.expect(b"rest")

    def test_untouched_stream_is_spliced_by_the_core(self):
        server = self.server()
        proxy = self.accepting(self.HELLO, server.address)
        client = self.client(proxy.port())
        client.send(b"hello\n")
        target = self.accept(server)
        data = os.urandom(2 << 20)
        thread = threading.Thread(target=client.send, args=(data,))
        thread.start()
        target.expect(data)
        thread.join()

    def test_refusal(self):
        proxy = self.accepting(self.HELLO)
        client = self.client(proxy.port())
        client.send(b"bye\n")
        client.expect_closed()
        proxy.wait_log(r"INFO rules\] my:name:7 refused 127\.0\.0\.1:\d+: rude")

    def test_error(self):
        proxy = self.accepting("stream:read(1) error('oops')")
        client = self.client(proxy.port())
        client.send(b"x")
        client.expect_closed()
        proxy.wait_log(r"ERROR rules\] lua/main\.lua:5: oops")

    def test_too_slow(self):
        proxy = self.accepting("stream:read(1) return stream", settings='handshake = "50ms"')
        self.refused(proxy.port())
        proxy.wait_log("refused .*: it took longer than `handshake`")

    def test_others_are_let_in_meanwhile(self):
        proxy = self.accepting(self.HELLO, process="workers = 1")
        slow = self.client(proxy.port())
        fast = self.client(proxy.port())
        fast.send(b"hello\nx")
        fast.expect(b"x")
        slow.send(b"hello\ny")
        slow.expect(b"y")

    def test_request(self):
        proxy = self.accepting("""
            connpipe.log.info("request:", request.text, request.peer.addr, request.address.port,
                              next(request.facts), pcall(request.peek, request, 1))
            request:set_peer("192.0.2.1", 7)
            return stream""")
        self.refused(proxy.port())
        proxy.wait_log("request: my:name:7 127.0.0.1 7 nil false .*`accept` can neither peek")
        self.assertIn("from 192.0.2.1", proxy.wait_closed())

    def test_stream_over_it(self):
        proxy = self.accepting("""return connpipe.stream(stream, {
            read = function(below) local text, err = below:read() return text and text:upper(), err end })""")
        client = self.client(proxy.port())
        client.send(b"loud")
        client.expect(b"LOUD")

    def test_more_than_there_may_be_wait_their_turn(self):
        proxy = self.accepting(self.HELLO, process="workers = 1", descriptors=4000)
        clients = [self.client(proxy.port()) for _ in range(1100)]
        for client in clients:
            client.send(b"hello\nx")
        for client in clients:
            client.expect(b"x")

    def test_stop_while_one_is_greeted(self):
        proxy = self.accepting("connpipe.log.info('greeting') stream:read(1) return stream")
        client = self.client(proxy.port())
        proxy.wait_log("greeting")
        proxy.signal(15)
        client.expect_closed()
        self.assertEqual(proxy.wait(), 0)


class Reloading(Accepting):
    """The same, and nothing is lost when the script is loaded anew."""

    def test_greeting_goes_on_over_a_reload(self):
        proxy = self.accepting("connpipe.log.info('greeting') " + self.HELLO, process="workers = 2")
        port = proxy.port()
        client = self.client(port)
        proxy.wait_log("greeting")
        for _ in range(3):
            self.assertTrue(proxy.ask("reload")["ok"])
        client.send(b"hello\nx")
        client.expect(b"x")
        self.assertEqual(proxy.port(), port)

    def test_no_connection_is_lost_and_generations_go(self):
        for workers in (1, 3):
            with self.subTest(workers=workers):
                proxy = self.accepting(self.HELLO, process="workers = %d" % workers)
                port = proxy.port()
                for i in range(20):
                    clients = [self.client(port) for _ in range(5)]
                    self.assertTrue(proxy.ask("reload")["ok"])
                    self.assertEqual(proxy.port(), port)
                    for client in clients:
                        client.send(b"hello\nx")
                        client.expect(b"x")
                        client.close()
                until(lambda: len(proxy.ask("status").get("pinned", [])) == 0)
                self.assertNotIn("cannot be handed over", proxy.log())
                proxy.signal(15)
                self.assertEqual(proxy.wait(), 0)

    def test_reload_that_fails_keeps_the_sockets(self):
        proxy = self.accepting(self.HELLO)
        path = os.path.join(proxy.directory, "lua", "main.lua")
        with open(path, encoding="utf-8") as file:
            text = file.read()
        with open(path, "w", encoding="utf-8") as file: # the worker says something else: refused after binding
            file.write(text + "\nif connpipe.worker == 1 then connpipe.router { id = 'x', route = print } end")
        self.assertFalse(proxy.ask("reload")["ok"])
        client = self.client(proxy.port())
        client.send(b"hello\nx")
        client.expect(b"x")

    def test_address_that_goes_is_unbound(self):
        port = free_port()
        proxy = self.accepting(self.HELLO, port=port)
        self.client(port)
        path = os.path.join(proxy.directory, "lua", "main.lua")
        with open(path, "w", encoding="utf-8") as file:
            file.write("local connpipe = require 'connpipe' connpipe.router { id = 'main', route = print }")
        self.assertTrue(proxy.ask("reload")["ok"])
        self.server(port=port)


class Examples(Base):
    def test_service(self):
        server = self.server()
        text = self.example("service").replace('local connpipe = require "connpipe"', "", 1)
        port = free_port()
        settings = ('token = "sesame"\n[rules.services.orders]\nlisten = "tcp:$4:%d"\ninstances = ["echo:", "%s"]\n'
                    % (port, server.address))
        proxy = self.start(text, {"service:orders": "service:orders/2", "tcp:$4:0": "service:orders/1"}, settings)
        client = self.client(port)
        client.send(b"sesame\nhello")
        self.accept(server).expect(b"hello")
        client = self.client(port)
        client.send(b"wrong\n")
        client.expect_closed()
        proxy.wait_log("service:orders refused .*: wrong token")

    def test_service_that_is_wrong(self):
        with open(os.path.join(TOP, "lua", "examples", "service.lua"), encoding="utf-8") as file:
            text = file.read()
        self.check(text, {"tcp:$4:1": "service:orders/x", "service:orders": "echo:"},
                   r"expected NAME or NAME/INSTANCE", "no service orders")
