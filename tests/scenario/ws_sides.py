"""What raw websockets are tried on: connpipe and python3-websockets (ws_reference.py), side by side, as servers and as
clients. There is TCP behind each of them: what it carries, and how it ends, is checked besides."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import unittest

from . import harness
from .harness import SIGTERM, Scenario, free_port, table, until
from .test_clients import listens
from .ws_raw import BINARY, Client, Server

REFERENCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "ws_reference.py")
PYTHON = "/usr/bin/python3"
REFERENCE_TOO = bool(os.environ.get("CONNPIPE_TEST_LONG"))  # it does not change


def has_reference():
    return os.access(PYTHON, os.X_OK) and subprocess.run(
        [PYTHON, "-c", "import websockets"], stderr=subprocess.DEVNULL, check=False).returncode == 0


def start_reference(mode, port, *words):
    """ws_reference.py as a server on `port`, when it listens."""
    process = subprocess.Popen([PYTHON, REFERENCE, mode, str(port), *map(str, words)], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: listens(port) or process.poll() is not None)
    assert process.poll() is None, "%s has ended" % REFERENCE
    return process


class Websockets(Scenario):
    """Proxies with one address."""

    def front(self, target, path="", settings="", connector="ws", **options):
        """A websocket in front of `target`. `self.port` is where it is."""
        self.port = free_port()
        self.address = "%s:$4:%d%s" % (connector, self.port, path)
        proxy = self.connpipe(table({self.address: target}, **options) + settings)
        return proxy

    def websocket(self, path="/", port=None, receive_buffer=None, **options):
        """A client that is connected."""
        client = Client(self.client(port or self.port, receive_buffer=receive_buffer), path, **options)
        return client

    def before_tcp(self, settings="", **options):
        """A websocket before a TCP server: (proxy, server)"""
        server = self.server()
        return self.front(server.address, settings=settings, **options), server

    def before_websocket(self, settings="", path="/", **options):
        """A websocket before a websocket server: (proxy, server)"""
        server = self.server()
        return self.front("ws:127.0.0.1:%d%s" % (server.port, path), settings=settings, **options), server

    def through(self, server, **options):
        """Connected through to a websocket server: (client, target)"""
        peer = self.client(self.port)
        client = Unanswered(peer, **options)
        target = Server(self.accept(server)).accept()
        client.finish_handshake()
        return client, target


class Unanswered(Client):
    """A client that has asked; finish_handshake() reads the answer."""

    def receive_head(self):
        return None

    def check_answer(self):
        pass

    def finish_handshake(self):
        self.answer = Client.receive_head(self)
        Client.check_answer(self)
        return self


# ---- The sides --------------------------------------------------------------------------------------------------


class Side:
    """Someone between websockets and TCP. `raw`: the websocket's end; `plain`: TCP's."""

    def __init__(self, scenario, accepting, server):
        self.scenario, self.accepting, self.server = scenario, accepting, server
        self.plain = None  # TCP's end of the connection that was made last

    def connect(self):
        """@return the websocket's end of a new connection"""
        if self.accepting:
            raw = Client(self.scenario.client(self.port))
            self.plain = self.scenario.accept(self.server)
        else:
            self.plain = self.scenario.client(self.port)
            raw = Server(self.scenario.accept(self.server)).accept()
        return raw

    def delivered(self, length):
        data = b""
        while len(data) < length:
            piece = self.plain.receive(length - len(data))
            assert piece, "the TCP connection has ended"
            data += piece
        return data

    def plain_end(self):
        """How the TCP connection ends, and what came before it."""
        try:
            data = self.plain.receive_all()
        except ConnectionResetError:
            return "reset"
        return "end after %r" % data if data else "end"


class Shared(Side):
    """One process for all tests of a module, whose connections have nothing to do with each other."""

    running = {}

    def __init__(self, scenario, accepting, *more):
        key = (type(self), accepting, *more)
        if key not in Shared.running:
            Shared.running[key] = self.start(accepting, *more)
            unittest.addModuleCleanup(Shared.stop, key)
        self.port, server, self.process = Shared.running[key]
        super().__init__(scenario, accepting, server)

    @staticmethod
    def stop(key):
        _, server, process = Shared.running.pop(key)
        server.close()
        key[0].stop_process(process)


class Ours(Shared):
    name = "connpipe"

    def __init__(self, scenario, accepting, settings=""):
        super().__init__(scenario, accepting, settings)
        scenario.processes.append(self.process)

    @staticmethod
    def start(accepting, settings):
        port, server = free_port(), harness.Server()
        bound, target = ("ws", "tcp") if accepting else ("tcp", "ws")
        routes = {"%s:$4:%d" % (bound, port): "%s:127.0.0.1:%d" % (target, server.port)}
        process = harness.Connpipe(table(routes) + settings, tempfile.mkdtemp(prefix="connpipe-"))
        process.wait_generation()
        return port, server, process

    @staticmethod
    def stop_process(process):
        process.signal(SIGTERM)
        code = process.wait()
        process.stop()
        shutil.rmtree(process.directory, ignore_errors=True)
        assert code == 0, "it ended with %d:\n%s" % (code, process.log())


class Theirs(Shared):
    name = "websockets"

    @staticmethod
    def start(accepting, *words):
        port, server = free_port(), harness.Server()
        mode, to = ("serve", server.port) if accepting else ("connect", "ws://127.0.0.1:%d/" % server.port)
        return port, server, start_reference(mode, port, to, *words)

    @staticmethod
    def stop_process(process):
        process.kill()
        process.wait()


GOES_ON = "goes on"
CLOSED = "closed"
ERRORS = (1002, 1007, 1009)


class Case:
    """What is done on an open websocket, and what is heard: of both sides, as servers and as clients, but for what is
    said of one of them. Close is heard with its code, and with its reason if that is expected.

    plain  how TCP ends behind connpipe; by itself "reset", or "end" where Close with 1000 is heard"""

    def __init__(self, name, act, *heard, **others):
        self.name, self.act, self.heard, self.others = name, act, heard, others

    def expected(self, side):
        role = "accepting" if side.accepting else "connecting"
        for key in ("%s_%s" % (side.name, role), side.name, role):
            if key in self.others:
                return list(self.others[key])
        return list(self.heard)

    def plain(self, expected):
        return self.others.get("plain") or ("end" if "close 1000" in " ".join(expected) else "reset")


def shut(peer):
    with contextlib.suppress(OSError):  # it may have been reset already
        peer.shutdown()


def shortened(heard, expected):
    """Without the reason of a Close, if none is expected."""
    return " ".join(heard.split(" ")[:2]) if heard.startswith("close") and heard not in expected else heard


class Both(Websockets):
    roles = (True, False)

    def sides(self, accepting):
        sides = [Ours(self, accepting)]
        if self.reference:
            sides.append(Theirs(self, accepting))
        return sides

    @classmethod
    def setUpClass(cls):
        cls.reference = REFERENCE_TOO and has_reference()

    def exchange(self, raw, side, word, expected=()):
        """Bytes go through, both ways. Returns what was heard besides."""
        raw.send(BINARY, word)
        self.assertEqual(side.delivered(len(raw.carried + word)), raw.carried + word)
        raw.carried = b""
        side.plain.send(word)
        seen = []
        while (heard := raw.hear()) != "binary " + word.decode():
            self.assertFalse(heard.startswith(("end", "reset")), "%s after %s" % (heard, seen))
            seen.append(shortened(heard, expected))
        return seen

    def to_the_end(self, raw, expected):
        """As a peer who keeps the rules: Close is answered, and the server is the first who closes TCP (7.1.1), unless
        something was wrong: then the others wait a moment for us."""
        seen = []
        while not (heard := raw.hear()).startswith(("end", "reset")):
            seen.append(shortened(heard, expected))
            if raw.closed and not raw.has_closed:
                raw.send_close(raw.closed[0])
            if raw.closed and (not raw.MASKS or raw.closed[0] in ERRORS):
                shut(raw.peer)
        return seen + [CLOSED]

    def outcome(self, raw, side, expected):
        if expected[-1] == GOES_ON:
            return self.exchange(raw, side, b"more", expected) + [GOES_ON]
        return self.to_the_end(raw, expected)

    def begin(self, side, case):
        """@return the websocket's end, TCP's"""
        raw = side.connect()
        self.addCleanup(raw.close)
        self.addCleanup(side.plain.close)
        self.exchange(raw, side, b"before")
        case.act(raw)
        return raw, side.plain

    def finish(self, side, case, raw, plain):
        side.plain = plain
        expected = case.expected(side)
        self.assertEqual(self.outcome(raw, side, expected), expected)
        if side.name == "connpipe" and expected[-1] == CLOSED:
            self.assertEqual(side.plain_end(), case.plain(expected))
        raw.close()
        plain.close()

    def established(self, *cases):
        """Each case on a connection of its own, all at once: some wait a moment for their end."""
        begun = [(side, case, *self.begin(side, case))
                 for accepting in self.roles for side in self.sides(accepting) for case in cases]
        for side, case, raw, plain in begun:
            with self.subTest(case.name, side=side.name, role="server" if side.accepting else "client"):
                self.finish(side, case, raw, plain)


# ---- What is done -----------------------------------------------------------------------------------------------


def sends(opcode, payload=b"", times=1, **options):
    """A frame, so many times, in one segment."""
    return lambda raw: raw.send_bytes(raw.frame(opcode, payload, **options) * times)


def carries(opcode, payload, *sizes, **options):
    """A message whose bytes are to arrive, in fragments of these sizes and a rest."""

    def act(raw):
        raw.carried += payload.encode() if isinstance(payload, str) else payload
        if options:
            raw.send(opcode, payload, **options)
        else:
            raw.send_message(opcode, payload, sizes)

    return act


def plainly(data):
    """Bytes as they are."""
    return lambda raw: raw.send_bytes(data)


def one_after_the_other(*acts):
    def act(raw):
        for each in acts:
            each(raw)

    return act


def together(*acts):
    """In one segment."""

    def act(raw):
        held, raw.send_bytes = [], None
        raw.send_bytes = held.append
        for each in acts:
            each(raw)
        del raw.send_bytes
        raw.send_bytes(b"".join(held))

    return act


def byte_by_byte(act):
    """In segments of one byte each."""

    def slowly(raw):
        held = []
        raw.send_bytes = held.append
        act(raw)
        del raw.send_bytes
        data = b"".join(held)
        raw.peer.send_pieces(data, range(1, len(data)))

    return slowly
