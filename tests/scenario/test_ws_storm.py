"""A storm of websockets: thousands that open, stall, break and close in every state, many of them at once. Whatever they
do, those that keep the rules are served meanwhile, and nothing is left behind.

$CONNPIPE_TEST_SEED, $CONNPIPE_TEST_SECONDS   as for test_storm.py; without them 1.5, or 120"""

import contextlib
import os
import random
import socket
import threading
import time

from .harness import PATIENCE, SIGTERM, Peer, Server, free_port, table, until
from .tls_peers import Authority, TlsPeer, client_context
from .ws_raw import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Client, Wire, closing, request
from .ws_sides import Websockets

LONG = bool(os.environ.get("CONNPIPE_TEST_LONG"))
SECONDS = float(os.environ.get("CONNPIPE_TEST_SECONDS", "120" if LONG else "1.5"))
SEED = int(os.environ.get("CONNPIPE_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
LANES = 8
AT_ONCE = 24      # of a lane
KEPT = 100        # of a lane, that stall until the end of the storm
BLOB = random.Random(1).randbytes(1 << 18)
BROKEN = (ConnectionResetError, BrokenPipeError, EOFError, TimeoutError)


# ---- What a client does: generators, so that those of many take turns ------------------------------------------


def silent(_lane, _plan, _peer, _path):
    yield


def half_a_request(_lane, plan, peer, path):
    text = request(path)
    at = plan.randrange(len(text))
    peer.send(text[:at // 2])
    yield
    peer.send(text[at // 2:at])
    yield


def no_request(_lane, plan, peer, _path):
    peer.send(plan.choice([plan.randbytes(40), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n\r\n\r\n", b"x" * 20000,
                           request("/nowhere"), request("/echo", {"Sec-WebSocket-Version": "8"})]))
    yield


def opened(peer, path):
    return Client(peer, path)


def asks_and_does_not_listen(_lane, _plan, peer, path):
    peer.send(request(path))
    yield


def stays_open(_lane, _plan, peer, path):
    opened(peer, path)
    yield


def in_a_frame(_lane, plan, peer, path):
    client = opened(peer, path)
    yield
    out = client.frame(BINARY, BLOB[:plan.choice([1, 125, 126, 70000])])
    client.send_bytes(out[:plan.randrange(1, len(out))])
    yield


def in_a_message(_lane, plan, peer, path):
    client = opened(peer, path)
    client.send(TEXT, "begun", fin=False)
    yield
    for _ in range(plan.randrange(20)):
        client.send(CONTINUATION, "on", fin=False)
    client.send(PING, "and")
    yield


def pings(_lane, plan, peer, path):
    """Many, whose answers are not read."""
    client = opened(peer, path)
    for _ in range(plan.randrange(10)):
        client.send_bytes(client.frame(plan.choice([PING, PONG]), BLOB[:125]) * 20)
        yield


def floods(_lane, plan, peer, path):
    """What comes back is not read: so not more than fits is taken."""
    client = opened(peer, path)
    peer.socket.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        for _ in range(20):
            client.peer.send(client.frame(BINARY, BLOB))
            yield
    peer.socket.settimeout(PATIENCE)


def closes(_lane, plan, peer, path):
    """Close, and TCP stays open, or more is sent."""
    client = opened(peer, path)
    client.send_close(plan.choice([1000, 1001, 4000]))
    yield
    client.send(plan.choice([BINARY, PING, CLOSE]), closing(1000))
    yield


def breaks_the_rules(_lane, plan, peer, path):
    client = opened(peer, path)
    client.send(BINARY, BLOB[:1000])
    yield
    client.send_bytes(plan.choice([client.frame(3), client.frame(PING, BLOB[:126]), client.frame(CONTINUATION, b"x"),
                                   client.frame(BINARY, b"x", rsv=5), client.frame(TEXT, b"\xff"), b"\xff" * 64,
                                   client.frame(CLOSE, b"\x01"), client.frame(BINARY, b"x", mask=None)]))
    yield


def keeps_the_rules(lane, plan, peer, path):
    """Everything comes back, and the end is in order."""
    client = opened(peer, path)
    size = plan.choice([1, 100, 5000, 100_000])
    data = BLOB[:size]
    yield
    client.send_message(BINARY, data, [size // 2])
    yield
    client.send(PING, "here")
    got, pongs = b"", 0
    while len(got) < size or not pongs:
        frame = client.receive_frame()
        pongs += frame.opcode == PONG
        got += frame.payload if frame.opcode in (CONTINUATION, TEXT, BINARY) else b""
        yield
    assert got == data, "other bytes came back"
    client.finish(plan.choice([1000, 4321]))
    lane.served += 1


ROGUES = [silent, half_a_request, no_request, asks_and_does_not_listen, stays_open, in_a_frame, in_a_message, pings,
          floods, closes, breaks_the_rules]
STALL = [silent, half_a_request, stays_open, in_a_frame, in_a_message, closes, floods]


class Lane(threading.Thread):
    def __init__(self, storm, number):
        super().__init__(daemon=True)
        self.storm, self.number = storm, number
        self.plan = random.Random(SEED * 1000 + number)
        self.kept, self.under_way = [], []
        self.count = self.served = 0

    def connect(self, place):
        port, path, secure = place
        peer = Peer.connect(port)
        if secure:
            peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            raw, peer = peer, TlsPeer(peer, client_context())
            peer.socket = raw.socket
            peer.handshake()
        self.count += 1
        return peer, path

    def begin(self):
        """@return [what is done, the peer, whether it keeps the rules, whether it stalls at the end]"""
        plan = self.plan
        good = plan.random() < 0.4
        if good:
            peer, path = self.connect(plan.choice(self.storm.echoes))
            return [keeps_the_rules(self, plan, peer, path), peer, True, False]
        stalls = plan.random() < 0.2 and len(self.kept) < KEPT
        act = plan.choice(STALL if stalls else ROGUES)
        places = self.storm.places
        if (stalls or act is floods) and not LONG:  # over TLS it takes seconds until such a one is given up
            places = [place for place in places if not place[2]]
        place = plan.choice(places)
        peer, path = self.connect(place)
        return [act(self, plan, peer, path), peer, False, stalls]

    def end(self, peer):
        how = self.plan.choice(["close", "reset", "shutdown"])
        with contextlib.suppress(OSError):
            if how == "reset":
                Peer(peer.socket).reset()
            elif how == "shutdown":
                peer.socket.shutdown(socket.SHUT_WR)
        peer.close()

    def turn(self):
        """One step of one of those that are under way."""
        at = self.plan.randrange(len(self.under_way))
        act, peer, good, stalls = self.under_way[at]
        try:
            next(act)
            return
        except StopIteration:
            pass
        except BROKEN:
            if good:
                raise
        except AssertionError:
            if good:
                raise  # others are refused, or their target is not there
        del self.under_way[at]
        if stalls:
            self.kept.append(peer)
        else:
            self.end(peer)

    def run(self):
        try:
            while (more := time.monotonic() < self.storm.until and not self.storm.failures) or self.under_way:
                while more and len(self.under_way) < AT_ONCE:
                    self.under_way.append(self.begin())
                self.turn()
        except Exception as error:  # pylint: disable=broad-except
            self.storm.failures.append("lane %d, after %d connections: %s: %s" % (
                self.number, self.count, type(error).__name__, error))


class Rude(threading.Thread):
    """A TCP server and a websocket server whose connections end in every way, too."""

    def __init__(self, websocket):
        super().__init__(daemon=True)
        self.server, self.websocket = Server(), websocket
        self.plan = random.Random(SEED)

    def treat(self, peer):
        if self.websocket and self.plan.random() < 0.8:
            wire = Wire(peer)
            wire.receive_head()
            peer.send(self.plan.choice([b"HTTP/1.1 404 Not Found\r\n\r\n", b"HTTP/1.1 101", b"\r\n", b""]))
        elif self.plan.random() < 0.7:
            peer.socket.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                peer.send(BLOB[:self.plan.choice([0, 10, 100_000])])
        how = self.plan.choice(["reset", "shutdown", "close"])
        getattr(peer, how)()
        if how == "shutdown":
            peer.close()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                peer = self.server.accept()
                peer.socket.settimeout(1)
                with contextlib.suppress(OSError, EOFError):
                    self.treat(peer)


class Storm(Websockets):
    def configuration(self, rude):
        authority = Authority(self.directory())
        plain, secure = free_port(), free_port()
        nobody = socket.socket()
        self.addCleanup(nobody.close)
        nobody.bind(("127.0.0.1", 0))
        routes = {
            "ws:$4:%d/echo" % plain: "echo:", "ws:$4:%d/discard" % plain: "discard:",
            "ws:$4:%d/rude" % plain: rude[0].server.address,
            "ws:$4:%d/ws" % plain: "ws:127.0.0.1:%d/echo" % plain,
            "ws:$4:%d/wss" % plain: "ws(/echo)+tls(there)+tcp:127.0.0.1:%d" % secure,
            "ws:$4:%d/rudews" % plain: "ws:127.0.0.1:%d/" % rude[1].server.port,
            "ws:$4:%d/nobody" % plain: "tcp:$4:%d" % nobody.getsockname()[1],
            "wss:$4:%d/echo" % secure: "echo:", "wss:$4:%d/ws" % secure: "ws:127.0.0.1:%d/echo" % plain,
            "wss:$4:%d/rude" % secure: rude[0].server.address,
        }
        self.echoes = [(plain, "/echo", False), (plain, "/ws", False), (plain, "/wss", False), (secure, "/echo", True),
                       (secure, "/ws", True)]
        self.places = self.echoes + [(plain, path, False) for path in ("/discard", "/rude", "/rudews", "/nobody")] + [
            (secure, "/rude", True)]
        # A client that gets no turn for long would meet a ping where it expects its own bytes.
        return ('[connpipe.ws]\nping = "0s"\n[tls]\ntype = "tls"\ncertificate = "%s"\n[there]\ntype = "tls"\nverify = false\n' %
                authority.make("site", ["127.0.0.1"]) +
                table(routes, "workers = 2", timeouts='half_close = "1s", reset = "500ms"'))

    def run_lanes(self, proxy, config):
        lanes = [Lane(self, number) for number in range(LANES)]
        self.until = time.monotonic() + SECONDS
        for lane in lanes:
            lane.start()
        for fraction in range(1, 4):  # connections outlive the configuration that they came by
            lanes[0].join(SECONDS * fraction / 4 - (SECONDS - (self.until - time.monotonic())))
            proxy.configure(config)
            self.assertTrue(proxy.ask("reload")["ok"])
        for lane in lanes:
            lane.join(2 * PATIENCE)
        self.assertFalse(self.failures, "seed %d" % SEED)
        self.assertFalse(any(lane.is_alive() for lane in lanes), "a lane hangs; seed %d" % SEED)
        return lanes

    def check_counters(self, proxy):
        counters = proxy.ask("status")["counters"]
        closed = {name: count for name, count in counters.items() if name.startswith("closed_") and count}
        self.assertEqual(counters["connections_open"], 0)
        self.assertEqual(counters["connections_accepted"], sum(closed.values()), closed)
        return closed

    def test_every_state(self):
        self.failures = []
        rude = [Rude(False), Rude(True)]
        config = self.configuration(rude)
        for each in rude:
            self.addCleanup(each.server.close)
            each.start()
        proxy = self.connpipe(config)
        descriptors = "/proc/%d/fd" % proxy.process.pid
        before = len(os.listdir(descriptors))
        lanes = self.run_lanes(proxy, config)
        stalled = [peer for lane in lanes for peer in lane.kept]
        served = sum(lane.served for lane in lanes)
        for peer in stalled:
            lanes[0].end(peer)
        until(lambda: proxy.ask("status")["connections"] == 0)
        until(lambda: proxy.ask("status")["pinned"] == [])
        until(lambda: len(os.listdir(descriptors)) <= before)
        closed = self.check_counters(proxy)
        self.websocket("/echo", self.echoes[0][0]).finish()
        self.assertGreater(served, 20)
        proxy.signal(SIGTERM)
        self.assertEqual(proxy.wait(), 0)
        self.assertNotRegex(proxy.log(), "Sanitizer|runtime error")
        print("\n  seed %d: %d connections, %d in order, %d stalled; %s" % (
            SEED, sum(lane.count for lane in lanes), served, len(stalled), closed))
