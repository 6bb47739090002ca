"""What raw clients of TLS are tried on: connpipe and `openssl s_server`, side by side; and what they do."""

import contextlib
import unittest

from .harness import PATIENCE, Scenario
from .tls_raw import ALERT, APPLICATION, HANDSHAKE, Client, Reference, alert, certificate, key_update

CONFIG = """[connpipe]
timeouts = { %s }
[site]
type = "tls"
certificate = "%s"
key = "%s"
ciphers = "ECDHE+AESGCM"
ciphersuites = "TLS_AES_128_GCM_SHA256"
groups = "X25519:P-256"
[t]
type = "table"
[t.routes]
"tls(site)+tcp:$4:0" = "%s"
"""
REFERENCE = ["-cipher", "ECDHE+AESGCM", "-ciphersuites", "TLS_AES_128_GCM_SHA256", "-groups", "X25519:P-256",
             "-min_protocol", "TLSv1.2"]


class Theirs:
    """s_server, the same for all tests, started again when a case has ended it."""

    name = "s_server"
    reference = None

    def __init__(self, scenario):
        self.scenario = scenario

    def connect(self):
        if not Theirs.reference or not Theirs.reference.running():
            Theirs.reference = Reference(*REFERENCE)
            unittest.addModuleCleanup(Theirs.stop, Theirs.reference)
        peer = Theirs.reference.connect()
        return self.scenario.keep(peer, peer.close)

    @staticmethod
    def stop(reference):
        reference.stop()
        Theirs.reference = None

    def opened(self):
        pass

    def delivered(self, length):
        return self.reference.delivered(length)

    def answer(self, data):
        self.reference.answer(data)

    def target_end(self):
        return None


class Ours:
    name = "connpipe"

    def __init__(self, scenario, timeouts=""):
        self.scenario = scenario
        self.server = scenario.server()
        self.proxy = scenario.connpipe(CONFIG % (timeouts, *certificate(), self.server.address))
        self.port = self.proxy.port()
        self.target = None

    def connect(self):
        return self.scenario.client(self.port)

    def opened(self):
        """The handshake is over."""
        self.target = self.scenario.accept(self.server)

    def delivered(self, length):
        data = b""
        while len(data) < length:
            piece = self.target.receive(length - len(data))
            assert piece, "the target's connection has ended"
            data += piece
        return data

    def answer(self, data):
        self.target.send(data)

    def target_end(self):
        """How the target's connection ends, and what came before it."""
        try:
            data = self.target.receive_all()
        except ConnectionResetError:
            return "reset"
        self.target.shutdown()  # or connpipe would wait for it: connections can be half closed
        return "end after %r" % data if data else "end"

    def no_target(self):
        """Nothing was connected to the target."""
        self.server.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            self.server.socket.accept()
            raise AssertionError("a connection was made to the target")
        self.server.socket.settimeout(PATIENCE)


GOES_ON = "goes on"
ANSWERED = "server_hello"
CLOSED = "closed"


class Both(Scenario):
    def sides(self, **options):
        return Theirs(self), Ours(self, **options)

    def exchange(self, raw, side, word):
        """Bytes go through, both ways. Returns what was heard besides."""
        raw.send(APPLICATION, word)
        self.assertEqual(side.delivered(len(raw.carried + word)), raw.carried + word)
        raw.carried = b""
        side.answer(word)
        seen = []
        while (heard := raw.hear()) != "data " + word.decode():
            self.assertNotIn(heard, ("end", "reset"))
            if heard != "new_session_ticket":
                seen.append(heard)
        return seen

    def to_the_end(self, raw):
        seen = []
        while not (heard := raw.hear()).startswith(("end", "reset")):
            if heard != "new_session_ticket":
                seen.append(heard)
        return seen + [CLOSED]

    def next(self, raw):
        """What is heard, but for tickets."""
        while (heard := raw.hear()) == "new_session_ticket":
            continue
        return heard

    def outcome(self, raw, side, expected):
        if expected[-1] == GOES_ON:
            return self.exchange(raw, side, b"more") + [GOES_ON]
        if expected[-1] == ANSWERED:
            return [raw.hear()]
        return self.to_the_end(raw)

    def opened(self, side, version):
        """A connection that is in use."""
        raw = Client(side.connect(), version)
        raw.handshake()
        side.opened()
        self.exchange(raw, side, b"before")
        return raw

    def established(self, version, cases, target="reset"):
        """Each case is (name, what is done on a connection that is open, what is heard)."""
        for side in self.sides():
            for name, act, *expected in cases:
                with self.subTest(name, side=side.name):
                    with contextlib.closing(self.opened(side, version)) as raw:
                        act(raw)
                        if expected[-1] == CLOSED:
                            self.assertIn(side.target_end(), (None, target))
                        self.assertEqual(self.outcome(raw, side, expected), list(expected))

    def beginnings(self, cases, version="1.3"):
        """Each case is (name, what is done on a connection that is new, what is heard)."""
        for side in self.sides():
            for name, act, *expected in cases:
                with self.subTest(name, side=side.name):
                    with contextlib.closing(Client(side.connect(), version)) as raw:
                        act(raw)
                        if expected[-1] == GOES_ON:
                            side.opened()
                        self.assertEqual(self.outcome(raw, side, expected), list(expected))
            if side.name == "connpipe" and not any(expected[-1] == GOES_ON for _, _, *expected in cases):
                side.no_target()


# ---- What is done -----------------------------------------------------------------------------------------------


def sends(kind, payload=b"", times=1, **options):
    """A record, so many times, under the connection's keys."""

    def act(raw):
        raw.send_bytes(b"".join(raw.ours.seal(kind, payload, **options) for _ in range(times)))

    return act


def carries(payload, **options):
    """A record of bytes that are to arrive."""

    def act(raw):
        raw.carried += payload
        raw.send(APPLICATION, payload, **options)

    return act


def plain(*records):
    """Bytes as they are."""
    return lambda raw: raw.send_bytes(b"".join(records))


def updates(*requested):
    def act(raw):
        for word in requested:
            raw.send(HANDSHAKE, key_update(word))
            raw.ours.update()

    return act


def one_after_the_other(*acts):
    def act(raw):
        for each in acts:
            each(raw)

    return act


def shuts_down(raw):
    with contextlib.suppress(OSError):  # it may have been reset already
        raw.peer.shutdown()


def half_of_a_record(raw):
    sealed = raw.ours.seal(APPLICATION, b"never complete")
    raw.send_bytes(sealed[: len(sealed) // 2])


CLOSE_NOTIFY = sends(ALERT, alert("close_notify", 1))
CANCELED = sends(ALERT, alert("user_canceled", 1))
FATAL = sends(ALERT, alert("internal_error"))
