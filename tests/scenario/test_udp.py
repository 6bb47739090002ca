"""udp: sessions and targets, seen from plain sockets outside. What single calls do is tested by unit_core (core_udp*)."""

import contextlib
import ctypes
import os
import re
import shutil
import socket
import struct
import subprocess

from tests.scenario.harness import PATIENCE, Scenario, free_port, table, until

LONGEST = 65507
UDP_SEGMENT, UDP_GRO, SOL_UDP = 103, 104, 17
FRAMED_ECHO = "frame+echo:"
CLONE_NEWNET = 0x40000000


class Socket:
    """A plain udp socket."""

    def __init__(self, host="127.0.0.1", port=0):
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.socket.bind((host, port))
        self.socket.settimeout(PATIENCE)
        self.port = self.socket.getsockname()[1]
        self.address = "udp:%s:%d" % (host, self.port)

    def connect(self, port, host="127.0.0.1"):
        self.socket.connect((host, port))
        return self

    def send(self, data):
        self.socket.send(data)

    def send_segments(self, data, size):
        """Datagrams of `size` bytes, as one aggregate."""
        self.socket.sendmsg([data], [(SOL_UDP, UDP_SEGMENT, struct.pack("H", size))])

    def receive(self):
        return self.socket.recv(70000)

    def expect(self, data):
        got = self.receive()
        assert got == data, "got %d bytes %r, expected %d %r" % (len(got), got[:40], len(data), data[:40])

    def take(self, data):
        """Expect this from anybody. Returns who it was."""
        got, sender = self.socket.recvfrom(70000)
        assert got == data, "got %d bytes %r, expected %d %r" % (len(got), got[:40], len(data), data[:40])
        return sender

    def answer(self, data, to):
        self.socket.sendto(data, to)

    def expect_silence(self, seconds=0.1):
        self.socket.settimeout(seconds)
        with contextlib.suppress(TimeoutError):
            got = self.receive()
            raise AssertionError("got %r, expected nothing" % got[:40])
        self.socket.settimeout(PATIENCE)

    def close(self):
        self.socket.close()


class Udp(Scenario):
    def plain(self, **options):
        sock = Socket(**options)
        return self.keep(sock, sock.close)

    def proxy(self, target, address="udp:$4:0", settings="", **options):
        text = table({address: target}, **{key: options.pop(key) for key in ("process", "timeouts", "limits")
                                           if key in options})
        return self.connpipe(text + settings, **options)

    @staticmethod
    def port_of(proxy, host="127.0.0.1"):
        for listener in proxy.ask("status")["listeners"]:
            match = re.search(r"udp:%s:(\d+)$" % re.escape(host), listener["bound"])
            if match:
                return int(match[1])
        raise AssertionError("no udp address is bound on %s" % host)

    def client_of(self, proxy, **options):
        return self.plain(**options).connect(self.port_of(proxy))

    def through(self, **options):
        """(proxy, client, server, where the server has its answers go), with one datagram through."""
        server = self.plain()
        proxy = self.proxy(server.address, **options)
        client = self.client_of(proxy)
        client.send(b"first")
        return proxy, client, server, server.take(b"first")

    def reload(self, proxy, text):
        proxy.configure(text)
        proxy.ask("reload")
        proxy.wait_generation()


class Datagrams(Udp):
    def test_both_ways_with_boundaries(self):
        _, client, server, proxy = self.through()
        sizes = [1, 0, 1400, 0, 9000, LONGEST, 0, 5]
        for i, size in enumerate(sizes):
            data = bytes([i]) * size
            client.send(data)
            self.assertEqual(server.take(data), proxy, "the port towards the target stays")
            server.answer(data, proxy)
            client.expect(data)

    def test_an_empty_datagram_comes_first(self):
        server = self.plain()
        client = self.client_of(self.proxy(server.address))
        client.send(b"")
        server.answer(b"", server.take(b""))
        client.expect(b"")

    def test_aggregates(self):
        """What a sender's kernel has put together stays single datagrams, whoever takes it."""
        _, client, server, proxy = self.through()
        for size, count in ((1, 60), (100, 33), (1200, 50)):
            data = [bytes([i]) * size for i in range(count)] + [b"t" * (size // 2 + 1)]
            client.send_segments(b"".join(data), size)
            for piece in data:
                self.assertEqual(server.take(piece), proxy)
            server.socket.connect(proxy)
            server.send_segments(b"".join(data), size)
            for piece in data:
                client.expect(piece)

    def test_aggregates_reach_those_who_take_them(self):
        _, client, server, _ = self.through()
        server.socket.setsockopt(SOL_UDP, UDP_GRO, 1)
        data = bytes(range(200)) * 50
        client.send_segments(data, 1000)
        self.assertEqual(server.receive(), data, "it went out as it came in")

    def test_aggregates_into_frames(self):
        proxy = self.proxy(FRAMED_ECHO)
        client = self.client_of(proxy)
        data = [bytes([i]) * 300 for i in range(40)]
        client.send_segments(b"".join(data), 300)
        for piece in data:
            client.expect(piece)

    def test_many_peers_at_once(self):
        proxy = self.proxy(FRAMED_ECHO, process="workers = 2")
        port = self.port_of(proxy)
        clients = [self.plain().connect(port) for _ in range(200)]
        for turn in range(3):
            for i, client in enumerate(clients):
                client.send(b"%d %d" % (turn, i))
            for i, client in enumerate(clients):
                client.expect(b"%d %d" % (turn, i))
        self.assertEqual(proxy.counter("connections_accepted"), 200, "each peer is one session, on one worker")

    def test_ipv6(self):
        server = self.plain(host="::1")
        proxy = self.proxy("udp:[::1]:%d" % server.port, address="udp:$6:0")
        client = self.plain(host="::1").connect(self.port_of(proxy, "[::1]"), "::1")
        client.send(b"six")
        server.answer(b"back", server.take(b"six")[:2])
        client.expect(b"back")

    def test_localhost_is_both(self):
        proxy = self.proxy(FRAMED_ECHO, address="udp:$n:0")
        port = self.port_of(proxy, "localhost")
        for host in ("127.0.0.1", "::1"):
            client = self.plain(host=host).connect(port, host)
            client.send(host.encode())
            client.expect(host.encode())


class Wildcard(Udp):
    def test_answers_come_from_the_address_that_was_asked(self):
        proxy = self.proxy(FRAMED_ECHO, address="udp:*4:0")
        port, client = self.port_of(proxy, "0.0.0.0"), self.plain(host="0.0.0.0")
        for host in ("127.0.0.1", "127.0.0.2", "127.3.2.1", "127.0.0.2"):
            client.answer(host.encode(), (host, port))
            self.assertEqual(client.take(host.encode()), (host, port))
        self.assertEqual(proxy.counter("connections_accepted"), 3, "a session for each address that was asked")


class Network(Udp):
    """In a network of its own, with several addresses: the test's thread and what it starts are in a namespace."""

    def setUp(self):
        libc = ctypes.CDLL(None, use_errno=True)
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self.addCleanup(os.close, here)
        if not shutil.which("ip") or libc.unshare(CLONE_NEWNET) != 0:
            self.skipTest("needs the right to make a network namespace, and ip(8)")
        self.addCleanup(libc.setns, here, CLONE_NEWNET)
        for words in ("link set dev lo up", "link add v0 type veth peer name v1", "address add 10.99.0.1/24 dev v0",
                      "address add 10.99.0.2/24 dev v0", "-6 address add fd00::1/64 dev v0 nodad",
                      "-6 address add fd00::2/64 dev v0 nodad", "-6 address add fd00::3/64 dev v0 nodad",
                      "link set dev v0 up"):
            if subprocess.run(["ip", *words.split()], capture_output=True, check=False).returncode != 0:
                self.skipTest("there is no such device or address here: " + words)
        with open("/proc/sys/net/ipv6/conf/v1/disable_ipv6", "w", encoding="ascii") as setting:
            setting.write("1")  # what leaves by v0 does not come in again
        subprocess.run(["ip", "link", "set", "dev", "v1", "up"], check=True)

    def test_answers_come_from_the_address_that_was_asked(self):
        for address, bound, own, asked in (("*6", "[::]", "fd00::3", ("fd00::1", "fd00::2", "fd00::1")),
                                           ("*4", "0.0.0.0", "127.0.0.1", ("10.99.0.1", "10.99.0.2", "10.99.0.1"))):
            proxy = self.proxy(FRAMED_ECHO, address="udp:%s:0" % address)
            port, client = self.port_of(proxy, bound), self.plain(host=own)
            for host in asked:
                client.answer(host.encode(), (host, port))
                self.assertEqual(client.take(host.encode())[:2], (host, port))
            self.assertEqual(proxy.counter("connections_accepted"), 2, "a session for each address that was asked")

    def test_what_is_sent_to_several_is_one_session(self):
        """Broadcast and multicast, which the kernel gives to the sockets of all workers."""
        for address, bound, own, to in (("*4", "0.0.0.0", "10.99.0.2", "10.99.0.255"),
                                        ("*4", "0.0.0.0", "10.99.0.2", "224.0.0.1"),
                                        ("10.99.0.255", "10.99.0.255", "10.99.0.2", "10.99.0.255"),
                                        ("224.0.0.1", "224.0.0.1", "10.99.0.2", "224.0.0.1"),
                                        ("*6", "[::]", "fd00::3", "ff02::1%v0")):
            with self.subTest(address=address, to=to):
                proxy = self.proxy(FRAMED_ECHO, address="udp:%s:0" % address, process="workers = 4")
                port, client = self.port_of(proxy, bound), self.plain(host=own)
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                if "." in own:
                    client.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(own))
                for data in (b"first", b"second"):
                    client.answer(data, socket.getaddrinfo(to, port, type=socket.SOCK_DGRAM)[0][4])
                    sender = client.take(data)
                    self.assertEqual(sender[1], port)
                    self.assertNotIn(sender[0], (to, "ff02::1"))
                client.expect_silence()
                self.assertEqual(proxy.counter("connections_accepted"), 1)
                self.assertEqual(proxy.counter("udp_datagrams_in"), 2)


class Ends(Udp):
    def test_responses(self):
        proxy, client, server, _ = self.through(settings="[connpipe.udp]\nresponses = 2\n")
        client.send(b"more")
        sender = server.take(b"more")
        server.answer(b"1", sender)
        client.expect(b"1")
        server.answer(b"2", sender)
        client.expect(b"2")
        self.assertRegex(proxy.wait_closed(), "9 bytes in, 2 bytes out, .*done")
        client.send(b"next")
        self.assertNotEqual(server.take(b"next"), sender, "another session has another port")

    def test_responses_of_one_address(self):
        port = free_port()
        server = self.plain()
        proxy = self.connpipe(table({"udp:$4:%d" % port: server.address, "udp:$4:0": FRAMED_ECHO}) +
                              '[connpipe.udp.address."udp:$4:%d"]\nresponses = 1\n' % port)
        client = self.plain().connect(port)
        client.send(b"A?")
        server.answer(b"A", server.take(b"A?"))
        client.expect(b"A")
        self.assertIn("done", proxy.wait_closed())

    def test_idle(self):
        proxy, client, server, first = self.through(timeouts='udp_idle = "100ms"')
        self.assertIn("idle_timeout", proxy.wait_closed())
        client.send(b"second")
        self.assertNotEqual(server.take(b"second"), first)

    def test_a_framed_target_that_ends(self):
        server = self.server()
        proxy = self.proxy("frame+" + server.address)
        client = self.client_of(proxy)
        client.send(b"x")
        target = self.accept(server)
        target.expect(b"\0\1x")
        target.send(b"\0\3end")
        target.close()
        client.expect(b"end")
        self.assertRegex(proxy.wait_closed(), "1 bytes in, 3 bytes out, .*done")
        client.send(b"y")
        self.accept(server).expect(b"\0\1y")

    def test_a_one_way_flow_survives_a_target_that_resets(self):
        server = self.server()
        client = self.client_of(proxy := self.proxy("frame+" + server.address))
        client.send(b"1")
        target = self.accept(server)
        target.expect(b"\0\x011")
        target.reset()
        self.assertIn("target_reset", proxy.wait_closed())
        client.send(b"2")
        self.accept(server).expect(b"\0\x012")
        self.assertEqual(proxy.counter("udp_refused"), 0)

    def test_kill(self):
        proxy, client, server, first = self.through()
        pipe = proxy.ask("pipes")["pipes"][0]
        proxy.ask("kill", id=pipe["id"])
        self.assertIn("killed", proxy.wait_closed())
        client.send(b"second")
        self.assertNotEqual(server.take(b"second"), first)


class Targets(Udp):
    def test_a_target_that_is_not_there_and_comes_alive(self):
        port = free_port()
        proxy = self.proxy("udp:127.0.0.1:%d" % port)
        client = self.client_of(proxy)
        for i in range(3):
            client.send(b"%d" % i)
            until(lambda: proxy.counter("udp_icmp_errors") > i)
        server = self.plain(port=port)
        client.send(b"now")
        server.answer(b"yes", server.take(b"now"))
        client.expect(b"yes")
        self.assertEqual(proxy.counter("connections_accepted"), 1)

    def test_no_way_to_the_first_of_two(self):
        server = self.plain()
        proxy = self.proxy(["udp:255.255.255.255:9", server.address])
        self.client_of(proxy).send(b"x")
        server.take(b"x")

    def test_frames_of_a_byte_stream(self):
        server = self.plain()
        proxy = self.connpipe(table({"frame+tcp:$4:0": server.address}))
        client = self.client(proxy.port())
        client.send(b"\0\5hello\0\0\0\3abc")
        sender = server.take(b"hello")
        server.take(b"")
        server.take(b"abc")
        for data in (b"one", b"", b"x" * 60000):
            server.answer(data, sender)
            client.expect(len(data).to_bytes(2, "big") + data)

    def test_two_proxies_with_frames_between(self):
        server = self.plain()
        back = self.connpipe(table({"frame+tcp:$4:0": server.address}))
        front = self.proxy("frame+tcp:$4:%d" % back.port())
        client = self.client_of(front)
        client.send(b"")
        sender = server.take(b"")
        for size in (0, 1, 1400, LONGEST):
            client.send(b"q" * size)
            server.take(b"q" * size)
            server.answer(b"a" * size, sender)
            client.expect(b"a" * size)

    def test_a_byte_stream_is_refused_with_a_hint(self):
        directory = self.directory()
        with open(directory + "/config.toml", "w", encoding="utf-8") as file:
            file.write(table({"udp:$4:5353": "tcp:$4:53"}))
        result = self.program("check", "--config", directory)
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, r"config.toml:\d+:\d+: .*carries bytes.*\"frame\+tcp:\$4:53\" would carry mess")

    def test_a_source_address(self):
        server = self.plain()
        proxy = self.proxy(server.address, settings='[connpipe.udp]\nbind_source = "127.0.0.9"\n')
        self.client_of(proxy).send(b"x")
        self.assertEqual(server.take(b"x")[0], "127.0.0.9")


class Routes(Udp):
    def test_lua_looks_at_the_first_datagram(self):
        script = """
local connpipe = require "connpipe"
connpipe.router { id = "main", bind = { "udp:$4:0" }, route = function(request)
  if request:peek(4, 5) == "echo" then return "frame+echo:" end
  return nil, "no"
end }
"""
        proxy = self.connpipe('[connpipe]\n[rules]\ntype = "lua"\npath = "main.lua"\n', files={"main.lua": script})
        client = self.client_of(proxy)
        client.send(b"echo this")
        client.expect(b"echo this")
        self.client_of(proxy).send(b"x")
        self.assertIn("refused_by_router: no", proxy.wait_closed())

    def test_a_refused_peer_is_refused_once(self):
        proxy = self.proxy("reject:busy")
        client, other = self.client_of(proxy), self.client_of(proxy)
        for _ in range(100):
            client.send(b"x")
        until(lambda: proxy.counter("udp_datagrams_in") == 100)
        accepted, refused = proxy.counter("connections_accepted"), proxy.counter("udp_refused")
        self.assertLess(accepted, 10)
        self.assertEqual(refused, 100 - accepted)
        other.send(b"x")
        until(lambda: proxy.counter("connections_accepted") > accepted)

    def test_the_limit_of_sessions(self):
        server = self.plain()
        proxy = self.proxy(server.address, limits="udp_sessions = 2")
        for i in range(2):
            self.client_of(proxy).send(b"%d" % i)
            server.take(b"%d" % i)
        late = self.client_of(proxy)
        late.send(b"x")
        self.assertIn("session_limit", proxy.wait_closed())
        port = self.port_of(proxy)
        for other in [self.plain() for _ in range(100)]:
            other.connect(port).send(b"y")
        until(lambda: proxy.counter("udp_datagrams_in") == 103)
        self.assertGreater(proxy.counter("udp_refused"), 50, "they did not become sessions to be refused, each")
        proxy.ask("kill", id=proxy.ask("pipes")["pipes"][0]["id"])
        until(lambda: late.send(b"z") or proxy.ask("status")["sessions"] == 2)
        server.take(b"z")


class Reloads(Udp):
    def start(self, settings=""):
        """A session through a proxy on a fixed port: (proxy, port, client, server, first sender)."""
        server, port = self.plain(), free_port()
        text = table({"udp:$4:%d" % port: server.address}) + settings
        proxy = self.connpipe(text)
        client = self.plain().connect(port)
        client.send(b"before")
        return proxy, port, client, server, server.take(b"before")

    def test_sessions_go_on_with_their_port(self):
        proxy, port, client, server, sender = self.start()
        other = self.plain()
        self.reload(proxy, table({"udp:$4:%d" % port: other.address}))
        client.send(b"after")
        self.assertEqual(server.take(b"after"), sender)
        server.answer(b"back", sender)
        client.expect(b"back")
        self.plain().connect(port).send(b"new")
        other.take(b"new")

    def test_sessions_are_routed_again_where_that_is_set(self):
        reroute = '[connpipe.udp]\non_reload = "reroute"\n'
        proxy, port, client, server, _ = self.start()
        other = self.plain()
        self.reload(proxy, table({"udp:$4:%d" % port: other.address}) + reroute)
        self.assertIn("rerouted", proxy.wait_closed())
        client.send(b"after")
        other.answer(b"back", other.take(b"after"))
        client.expect(b"back")
        server.expect_silence()

    def test_an_address_that_goes_and_comes_back(self):
        proxy, port, client, server, _ = self.start()
        self.reload(proxy, table({"tcp:$4:0": "echo:"}))
        self.assertIn("rerouted", proxy.wait_closed())
        proxy.wait_log("unbound udp:127.0.0.1:%d" % port)
        self.plain(port=port).close()
        self.reload(proxy, table({"udp:$4:%d" % port: server.address}))
        client.send(b"again")
        server.take(b"again")

    def test_settings_change(self):
        proxy, port, client, server, _ = self.start()
        self.reload(proxy, table({"udp:$4:%d" % port: server.address}) + "[connpipe.udp]\nresponses = 1\n")
        second = self.plain().connect(port)
        second.send(b"q")
        server.answer(b"a", server.take(b"q"))
        second.expect(b"a")
        self.assertIn("done", proxy.wait_closed())
        client.send(b"the old one goes on")
        server.take(b"the old one goes on")

    def test_errors_in_settings(self):
        proxy, port, client, server, sender = self.start()
        proxy.configure(table({"udp:$4:%d" % port: server.address}) + "[connpipe.udp]\nresponces = 1\n")
        answer = str(proxy.ask("reload"))
        self.assertIn('did you mean "responses"', answer)
        client.send(b"still")
        self.assertEqual(server.take(b"still"), sender)


class Bounds(Udp):
    def test_what_waits_for_a_slow_way_is_bounded(self):
        """While a router waits, a flood of one peer is kept up to a bound; the rest is dropped and counted."""
        script = """
local connpipe = require "connpipe"
connpipe.router { id = "main", bind = { "udp:$4:0" }, route = function(request)
  while not connpipe.shared:get("go") do connpipe.sleep(0.01) end
  return "frame+echo:"
end }
connpipe.router { id = "go", bind = { "tcp:$4:0" }, route = function(request)
  connpipe.shared:set("go", true)
  return "echo:"
end }
"""
        proxy = self.connpipe('[connpipe]\n[rules]\ntype = "lua"\npath = "main.lua"\n', files={"main.lua": script})
        client = self.client_of(proxy)
        for i in range(200):
            client.send(b"%d" % i)
            if i % 50 == 49:
                until(lambda: proxy.counter("udp_datagrams_in") == i + 1)
        dropped = proxy.counter("udp_dropped")
        self.assertEqual(dropped, 200 - 1 - 64)
        self.client(proxy.port()).send(b"go")
        for i in range(200 - dropped):
            client.expect(b"%d" % i)

    def test_peers_come_and_go_while_routes_do(self):
        """Sessions in every state, over two workers, while reloads take addresses away and bring them back."""
        server, ports = self.plain(), [free_port(), free_port()]
        routes = [{"udp:$4:%d" % ports[0]: server.address, "udp:*4:%d" % ports[1]: FRAMED_ECHO},
                  {"udp:$4:%d" % ports[0]: "reject:"},
                  {"udp:*4:%d" % ports[1]: ["udp:255.255.255.255:9", server.address]}]
        extra = '[connpipe.udp]\non_reload = "%s"\nresponses = %d\n'
        proxy = self.connpipe(table(routes[0], "workers = 2", 'udp_idle = "50ms"'))
        for turn in range(12):
            clients = [self.plain() for _ in range(40)]
            for i, client in enumerate(clients):
                for piece in range(turn % 3 + 1):
                    client.answer(b"%d" % piece * 600, ("127.0.0.1", ports[i % 2]))
                if i % 4 == 3:
                    client.close()
            server.socket.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    server.answer(b"answer", server.socket.recvfrom(70000)[1])
            settings = extra % (("keep", "reroute")[turn % 2], turn % 3)
            self.reload(proxy, table(routes[turn % 3], "workers = 2", 'udp_idle = "50ms"') + settings)
        until(lambda: proxy.ask("status").get("sessions", 0) == 0)
        proxy.signal(15)
        self.assertEqual(proxy.wait(), 0)

    def test_stop_is_clean(self):
        proxy, client, server, sender = self.through()
        proxy.signal(15)
        self.assertEqual(proxy.wait(), 0)
        self.assertIn("shutdown", proxy.wait_closed())
