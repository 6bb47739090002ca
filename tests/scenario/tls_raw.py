"""TLS by hand: handshakes are those of Python's ssl, over buffers; then its keys are taken out of it (the key log), and
records are made here. So everything can be sent that a peer must not send.

    raw = Client(peer, "1.3")
    raw.handshake()
    raw.send(HANDSHAKE, key_update(requested=True))
    raw.ours.update()
    raw.hear()                        "key_update"

`Target` is the other side of that. `Reference` is `openssl s_server`, to compare with: it gets the same bytes."""

import contextlib
import functools
import hmac
import os
import select
import socket
import ssl
import struct
import subprocess
import tempfile
import time

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .harness import PATIENCE, Peer, free_port, until

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION = 20, 21, 22, 23
HELLO_REQUEST, CLIENT_HELLO, SERVER_HELLO, NEW_SESSION_TICKET, KEY_UPDATE, FINISHED = 0, 1, 2, 4, 24, 20
RECORD_MOST = 16384
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
ALERTS = {
    0: "close_notify", 10: "unexpected_message", 20: "bad_record_mac", 22: "record_overflow", 40: "handshake_failure",
    42: "bad_certificate", 46: "certificate_unknown", 47: "illegal_parameter", 48: "unknown_ca", 50: "decode_error",
    51: "decrypt_error", 70: "protocol_version", 80: "internal_error", 86: "inappropriate_fallback",
    90: "user_canceled", 100: "no_renegotiation", 109: "missing_extension", 110: "unsupported_extension",
    112: "unrecognized_name", 116: "certificate_required", 120: "no_application_protocol",
}
ALERT_NUMBERS = {name: number for number, name in ALERTS.items()}
files = tempfile.TemporaryDirectory(prefix="connpipe-tls-")


@functools.lru_cache(maxsize=None)
def certificate(name="localhost"):
    """Paths of a certificate that has signed itself, for `name`, and of its key."""
    path, key = (os.path.join(files.name, name + ending) for ending in (".pem", ".key"))
    words = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=" + name, "-addext", "subjectAltName=DNS:" + name]
    subprocess.run(["openssl", "req", "-x509", *words, *names, "-out", path, "-keyout", key], check=True,
                   stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE)
    return path, key


# ---- Bytes ------------------------------------------------------------------------------------------------------


def prefixed(data, size):
    """`data` behind its length in `size` bytes."""
    return len(data).to_bytes(size, "big") + data


def message(kind, body=b"", length=None):
    """A handshake message; `length` replaces the right one."""
    return bytes([kind]) + (len(body) if length is None else length).to_bytes(3, "big") + body


def record(kind, payload=b"", version=0x0303, length=None):
    """A record as it is on the wire; `length` replaces the right one."""
    return struct.pack(">BHH", kind, version, len(payload) if length is None else length) + payload


def alert(description, level=2):
    number = ALERT_NUMBERS[description] if isinstance(description, str) else description
    return bytes([level, number])


def key_update(requested=False):
    return message(KEY_UPDATE, bytes([requested]))


def extension(number, body=b""):
    return struct.pack(">H", number) + prefixed(body, 2)


SUPPORTED_VERSIONS = {"1.3": extension(43, b"\x04\x03\x04\x03\x03"), "1.2": b""}
GROUPS = extension(10, b"\x00\x04\x00\x1d\x00\x17")
SIGNATURES = extension(13, prefixed(b"\x04\x03\x08\x04\x04\x01", 2))
KEY_SHARE = extension(51, prefixed(b"\x00\x1d" + prefixed(b"\x09" + bytes(31), 2), 2))
CIPHERS = b"\x13\x01\xc0\x2b\xc0\x2f\x00\xff"


def client_hello(version="1.3", legacy=0x0303, session=bytes(32), ciphers=CIPHERS, compression=b"\x00", extra=b"",
                 extensions=None):
    """A ClientHello made of parts: a handshake message. It is a right one unless told otherwise."""
    if extensions is None:
        extensions = SUPPORTED_VERSIONS[version] + GROUPS + SIGNATURES + KEY_SHARE + extra
    body = struct.pack(">H", legacy) + os.urandom(32) + prefixed(session, 1) + prefixed(ciphers, 2)
    return message(CLIENT_HELLO, body + prefixed(compression, 1) + prefixed(extensions, 2))


# ---- Keys -------------------------------------------------------------------------------------------------------


def expand(secret, info, length, digest):
    """HKDF-Expand."""
    found, block = b"", b""
    while len(found) < length:
        block = hmac.digest(secret, block + info + bytes([len(found) // len(block) + 1 if block else 1]), digest)
        found += block
    return found[:length]


def expand_label(secret, label, length, digest):
    """HKDF-Expand-Label with an empty context: RFC 8446, 7.1."""
    return expand(secret, struct.pack(">H", length) + prefixed(b"tls13 " + label, 1) + b"\x00", length, digest)


class Keys13:
    """One direction of TLS 1.3."""

    def __init__(self, secret, digest, key_length):
        self.secret, self.digest, self.key_length = secret, digest, key_length
        self.derive()

    def derive(self):
        self.aead = AESGCM(expand_label(self.secret, b"key", self.key_length, self.digest))
        self.iv = int.from_bytes(expand_label(self.secret, b"iv", 12, self.digest), "big")
        self.sequence = 0

    def update(self):
        """After a KeyUpdate that was sent, or has come."""
        self.secret = expand_label(self.secret, b"traffic upd", len(self.secret), self.digest)
        self.derive()

    def nonce(self):
        self.sequence += 1
        return (self.iv ^ (self.sequence - 1)).to_bytes(12, "big")

    def seal(self, kind, payload, padding=0, outer=APPLICATION):
        inner = payload + (b"" if kind is None else bytes([kind])) + bytes(padding)
        header = record(outer, length=len(inner) + 16)
        return header + self.aead.encrypt(self.nonce(), inner, header)

    def open(self, kind, header, body):
        if kind == CHANGE_CIPHER_SPEC:
            return kind, body
        inner = self.aead.decrypt(self.nonce(), body, header).rstrip(b"\x00")
        return inner[-1], inner[:-1]


class Keys12:
    """One direction of TLS 1.2 with AES-GCM. The Finished was number 0."""

    def __init__(self, key, salt):
        self.aead, self.salt, self.sequence = AESGCM(key), salt, 1

    def additional(self, kind, length):
        self.sequence += 1
        return struct.pack(">QBHH", self.sequence - 1, kind, 0x0303, length)

    def seal(self, kind, payload):
        explicit = struct.pack(">Q", self.sequence)
        sealed = self.aead.encrypt(self.salt + explicit, payload, self.additional(kind, len(payload)))
        return record(kind, explicit + sealed)

    def open(self, kind, _header, body):
        additional = self.additional(kind, len(body) - 24)
        return kind, self.aead.decrypt(self.salt + body[:8], body[8:], additional)


def key_block(master, client_random, server_random, length, digest):
    """The PRF of TLS 1.2 with "key expansion"."""
    seed = b"key expansion" + server_random + client_random
    found, a = b"", seed
    while len(found) < length:
        a = hmac.digest(master, a, digest)
        found += hmac.digest(master, a + seed, digest)
    return found[:length]


# ---- Connections ------------------------------------------------------------------------------------------------


class Raw:
    """A TLS connection whose records are made here. `flight` and `take` are for handshakes in pieces."""

    OURS, THEIRS = "CLIENT", "SERVER"

    def __init__(self, peer, context):
        self.peer = peer
        self.peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = self.wrap(context)
        self.done = False
        self.ours = self.theirs = None
        self.client_random = self.server_random = b""
        self.carried = b""  # application data that is on its way
        self.messages = b""  # of a handshake message, what has come so far

    def wrap(self, context):
        return context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def flight(self):
        """What Python's TLS has to say next; nothing if it waits for more."""
        try:
            self.tls.do_handshake()
            self.done = True
        except ssl.SSLWantReadError:
            pass
        return self.look_at(self.outgoing.read())

    def look_at(self, data):
        """Note the randoms of the hellos."""
        if data[:1] == bytes([HANDSHAKE]) and data[5:6] == bytes([CLIENT_HELLO]):
            self.client_random = self.client_random or data[11:43]
        if data[:1] == bytes([HANDSHAKE]) and data[5:6] == bytes([SERVER_HELLO]):
            self.server_random = self.server_random or data[11:43]
        return data

    def take(self):
        """Give Python's TLS the next record."""
        header, body = self.receive_record()
        self.incoming.write(self.look_at(header + body))

    def handshake(self, answer=True):
        """To its end. `answer`: send the last flight too; otherwise it is returned."""
        while True:
            flight = self.flight()
            if self.done:
                self.ours, self.theirs = self.keys()
            if self.done and not answer:
                return flight
            if flight:
                self.peer.send(flight)
            if self.done:
                return b""
            self.take()

    def logged(self, label):
        """A secret of this connection."""
        with open(KEY_LOG, encoding="ascii") as log:
            for line in log:
                words = line.split()
                if words[:2] == [label, self.client_random.hex()]:
                    return bytes.fromhex(words[2])
        raise AssertionError("there is no %s for this connection" % label)

    def cipher(self):
        """(digest, length of a key)"""
        name = self.tls.cipher()[0]
        assert "GCM" in name, "%s is not spoken here" % name
        return ("sha384", 32) if name.endswith("SHA384") else ("sha256", 16)

    def keys_of(self, side, stage):
        """Keys of TLS 1.3: `stage` is "HANDSHAKE_TRAFFIC_SECRET" or "TRAFFIC_SECRET_0"."""
        return Keys13(self.logged("%s_%s" % (side, stage)), *self.cipher())

    def keys(self):
        if self.tls.version() == "TLSv1.3":
            return self.keys_of(self.OURS, "TRAFFIC_SECRET_0"), self.keys_of(self.THEIRS, "TRAFFIC_SECRET_0")
        digest, length = self.cipher()
        block = key_block(self.logged("CLIENT_RANDOM"), self.client_random, self.server_random, 2 * length + 8, digest)
        client = Keys12(block[:length], block[2 * length : 2 * length + 4])
        server = Keys12(block[length : 2 * length], block[2 * length + 4 :])
        return (client, server) if self.OURS == "CLIENT" else (server, client)

    def send(self, kind, payload=b"", **options):
        """A record under our keys."""
        self.send_bytes(self.ours.seal(kind, payload, **options))

    def send_bytes(self, data):
        """These, unless the other side has closed already: what it said before tells why."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.peer.send(data)

    def exactly(self, length):
        data = b""
        while len(data) < length:
            piece = self.peer.receive(length - len(data))
            if not piece:
                raise EOFError("in the middle of a record" if data else "")
            data += piece
        return data

    def receive_record(self):
        header = self.exactly(5)
        return header, self.exactly(int.from_bytes(header[3:], "big"))

    def hear(self):
        """What comes next, in words: "data …", "fatal …", "warning …", the name of a message, "end", "reset"."""
        while not (word := self.next_message()):
            try:
                header, body = self.receive_record()
            except EOFError as error:
                return "end" + (error.args[0] and " " + error.args[0])
            except ConnectionResetError:
                return "reset"
            word = self.understand(header, body)
            if word:
                return word
        return word

    def understand(self, header, body):
        kind = header[0]
        if self.theirs:
            try:
                kind, body = self.theirs.open(kind, header, body)
            except InvalidTag:
                return "undecipherable record of type %d" % kind
        if kind == APPLICATION:
            return "data " + body.decode("latin-1")
        if kind == ALERT:
            level = {1: "warning", 2: "fatal"}.get(body[0], str(body[0]))
            return "%s %s" % (level, ALERTS.get(body[1], body[1]))
        if kind == HANDSHAKE:
            self.messages += body
            return None
        return None if (kind, body) == (CHANGE_CIPHER_SPEC, b"\x01") else "record of type %d" % kind

    def next_message(self):
        length = 4 + int.from_bytes(self.messages[1:4], "big")
        if len(self.messages) < max(length, 4):
            return None
        kind, self.messages = self.messages[0], self.messages[length:]
        if kind == KEY_UPDATE and isinstance(self.theirs, Keys13):
            self.theirs.update()
        names = {HELLO_REQUEST: "hello_request", SERVER_HELLO: "server_hello", KEY_UPDATE: "key_update",
                 NEW_SESSION_TICKET: "new_session_ticket", FINISHED: "finished"}
        return names.get(kind, "message of type %d" % kind)

    def close(self):
        self.peer.close()


KEY_LOG = os.path.join(files.name, "keys")


@functools.lru_cache(maxsize=None)
def client_context(version):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = VERSIONS[version]
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ECDHE+AESGCM")
    context.keylog_filename = KEY_LOG
    return context


class Client(Raw):
    def __init__(self, peer, version="1.3"):
        super().__init__(peer, client_context(version))


class Target(Raw):
    """The side that accepts."""

    OURS, THEIRS = "SERVER", "CLIENT"

    def __init__(self, peer, version="1.3", name="localhost"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = context.maximum_version = VERSIONS[version]
        context.load_cert_chain(*certificate(name))
        context.num_tickets = 0  # they would be the first records under our keys
        context.keylog_filename = KEY_LOG
        super().__init__(peer, context)

    def wrap(self, context):
        return context.wrap_bio(self.incoming, self.outgoing, server_side=True)


# ---- What others do ---------------------------------------------------------------------------------------------


class Reference:
    """`openssl s_server`: one connection after the other. What it gets comes out of it, what goes in is the answer."""

    def __init__(self, *words):
        path, key = certificate()
        self.port = free_port()
        words = ["-quiet", "-accept", "127.0.0.1:%d" % self.port, "-cert", path, "-key", key, *words]
        self.process = subprocess.Popen(
            ["openssl", "s_server", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def running(self):
        return self.process.poll() is None

    def connect(self):
        """As soon as it listens."""

        def connected():
            assert self.running(), "s_server has ended"
            with contextlib.suppress(ConnectionRefusedError):
                return Peer.connect(self.port)

        return until(connected)

    def delivered(self, length):
        """The next bytes that it got, so many."""
        found = b""
        deadline = time.monotonic() + PATIENCE
        while len(found) < length:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.process.stdout], [], [], left)[0], "s_server delivers nothing"
            piece = os.read(self.process.stdout.fileno(), length - len(found))
            assert piece, "s_server has ended"
            found += piece
        return found

    def answer(self, data):
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def stop(self):
        self.process.kill()
        self.process.communicate()
