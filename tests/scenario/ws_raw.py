"""Websockets (RFC 6455) by hand: handshakes of any lines, frames with any bit set, in any pieces.

    client = Client(peer, path="/chat")       the request is sent, the answer read and checked
    client.send(TEXT, "hello")                a frame; client.send(TEXT, "he", fin=False), … : a fragment
    client.hear()                             "text hello", "close 1000 bye", "end", "reset"
    client.receive_message()                  (TEXT, b"hello"), whatever its fragments were

What comes from the other side is held against what RFC 6455 wants of everybody who sends: bits, opcodes, masks, lengths,
the order of fragments, nothing behind Close. `peer` is anything with send(), receive() and close(): harness.Peer,
tls_peers.TlsPeer."""

import base64
import contextlib
import hashlib
import os
import zlib
from typing import NamedTuple, Optional

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
NAMES = {CONTINUATION: "continuation", TEXT: "text", BINARY: "binary", CLOSE: "close", PING: "ping", PONG: "pong"}
CONTROL_MOST = 125
RSV1, RSV2, RSV3 = 4, 2, 1
PATIENT_READ = 1 << 18
TAIL = b"\x00\x00\xff\xff"  # RFC 7692 7.2.1: not sent


def accept_of(key):
    return base64.b64encode(hashlib.sha1(key.encode("latin-1") + GUID).digest()).decode()


def new_key():
    return base64.b64encode(os.urandom(16)).decode()


def masked(data, mask):
    """RFC 6455 5.3: both ways."""
    if not data or not any(mask):
        return bytes(data)
    stream = (mask * (len(data) // 4 + 1))[:len(data)]
    return (int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(data), "big")


def frame(opcode, payload=b"", fin=True, mask=None, rsv=0, length=None, length_bytes=None):
    """A frame.

    mask          4 bytes, or None: not masked
    length        what the header says, instead of the truth
    length_bytes  0, 2 or 8 behind the first two bytes, instead of as few as possible"""
    payload = payload.encode() if isinstance(payload, str) else bytes(payload)
    length = len(payload) if length is None else length
    if length_bytes is None:
        length_bytes = 0 if length < 126 else 2 if length < 65536 else 8
    short = {0: length, 2: 126, 8: 127}[length_bytes]
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode, (0x80 if mask is not None else 0) | short])
    head += length.to_bytes(length_bytes, "big") if length_bytes else b""
    return head + (mask + masked(payload, mask) if mask is not None else payload)


def closing(code=None, reason=b""):
    """The payload of a Close frame."""
    reason = reason.encode() if isinstance(reason, str) else reason
    return b"" if code is None else code.to_bytes(2, "big") + reason


class Frame(NamedTuple):
    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0
    mask: Optional[bytes] = None

    def words(self):
        name = NAMES.get(self.opcode, "opcode %d" % self.opcode)
        if self.opcode == CLOSE and len(self.payload) >= 2:
            text = "%d %s" % (int.from_bytes(self.payload[:2], "big"), self.payload[2:].decode("latin-1"))
        else:
            text = self.payload.decode("latin-1")
        return (("" if self.fin else "unfinished ") + name + " " + text).rstrip(" ")


class Deflate:
    """permessage-deflate (RFC 7692), one direction of it each."""

    def __init__(self, bits=15, takeover=True):
        self.bits, self.takeover = bits, takeover
        self.compressor = self.decompressor = None

    def compress(self, data, level=6):
        if not self.compressor or not self.takeover:
            self.compressor = zlib.compressobj(level, zlib.DEFLATED, -self.bits)
        out = self.compressor.compress(data) + self.compressor.flush(zlib.Z_SYNC_FLUSH)
        assert out.endswith(TAIL)
        return out[:-4]

    def decompress(self, data):
        if not self.decompressor or not self.takeover:
            self.decompressor = zlib.decompressobj(-self.bits)
        return self.decompressor.decompress(data + TAIL)


class Head:
    """What comes first on a connection of HTTP/1.1: a line, and fields."""

    def __init__(self, text):
        self.text = text
        lines = text.decode("latin-1").split("\r\n")
        self.line = lines[0]
        self.words = lines[0].split(" ", 2)
        self.fields = [(name.strip().lower(), value.strip()) for name, _, value in
                       (line.partition(":") for line in lines[1:] if line)]

    def all(self, name):
        return [value for each, value in self.fields if each == name.lower()]

    def get(self, name):
        """The value of the one field of that name, or None."""
        found = self.all(name)
        assert len(found) <= 1, "%s is there %d times: %s" % (name, len(found), self.text)
        return found[0] if found else None

    def tokens(self, name):
        return [word.strip().lower() for value in self.all(name) for word in value.split(",")]

    @property
    def status(self):
        return int(self.words[1])


def lines(first, fields, changes=None, more=()):
    """A head. `changes`: fields by name that are replaced, or left out (None); `more`: lines as they are."""
    fields = dict(fields)
    for name, value in (changes or {}).items():
        match = next((each for each in fields if each.lower() == name.lower()), name)
        fields[match] = value
    text = [first] + ["%s: %s" % item for item in fields.items() if item[1] is not None] + list(more)
    return "\r\n".join(text + ["", ""]).encode("latin-1")


def request(path="/", changes=None, more=(), method="GET", version="HTTP/1.1", key=None):
    """A request for an upgrade."""
    fields = {"Host": "localhost", "Upgrade": "websocket", "Connection": "Upgrade",
              "Sec-WebSocket-Key": key or new_key(), "Sec-WebSocket-Version": "13"}
    return lines("%s %s %s" % (method, path, version), fields, changes, more)


def answer(key, changes=None, more=(), first="HTTP/1.1 101 Switching Protocols"):
    """The answer to one whose Sec-WebSocket-Key was `key`."""
    fields = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": accept_of(key)}
    return lines(first, fields, changes, more)


class Wire:
    """One end of a websocket."""

    MASKS = False  # what we send

    def __init__(self, peer):
        self.peer = peer
        self.buffer = bytearray()
        self.carried = b""          # for those who count what was sent
        self.kind = None            # of the message that comes in, in fragments
        self.closed = None          # (code, reason) of the Close that came
        self.has_closed = False     # we have sent Close
        self.last = None            # the last frame that came
        self.masks = []             # that came
        self.inflater = self.deflater = None

    # ---- Sending

    def frame(self, opcode, payload=b"", **options):
        """A frame as this side has to send it, unless the options say otherwise."""
        if self.MASKS:
            options.setdefault("mask", os.urandom(4))
        self.has_closed = self.has_closed or opcode == CLOSE
        return frame(opcode, payload, **options)

    def send_bytes(self, data):
        """These, unless the other side has closed already: what it said before tells why."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.peer.send(data)

    def send(self, opcode, payload=b"", **options):
        self.send_bytes(self.frame(opcode, payload, **options))

    def send_message(self, opcode, payload, sizes=()):
        """A message in fragments of so many bytes, and one of the rest."""
        payload = payload.encode() if isinstance(payload, str) else payload
        out, at = b"", 0
        for size in sizes:
            out += self.frame(CONTINUATION if out else opcode, payload[at:at + size], fin=False)
            at += size
        self.send_bytes(out + self.frame(CONTINUATION if out else opcode, payload[at:]))

    def send_close(self, code=None, reason=b""):
        self.send(CLOSE, closing(code, reason))

    # ---- Receiving

    def more(self):
        """Read what is there. @return whether anything was"""
        piece = self.peer.receive(PATIENT_READ)
        self.buffer += piece
        return bool(piece)

    def exactly(self, length):
        while len(self.buffer) < length:
            if not self.more():
                raise EOFError("in the middle of a frame" if self.buffer else "")
        data = bytes(self.buffer[:length])
        del self.buffer[:length]
        return data

    def receive_head(self):
        while b"\r\n\r\n" not in self.buffer:
            if not self.more():
                raise EOFError("in a head: %r" % bytes(self.buffer))
        length = self.buffer.index(b"\r\n\r\n") + 4
        return Head(self.exactly(length)[:-2])

    def receive_header(self):
        """@return opcode, fin, rsv, length, mask"""
        while len(self.buffer) < 2 and self.more():
            pass
        if len(self.buffer) < 2:
            raise EOFError("in the middle of a frame" if self.buffer else "")
        first, second = self.buffer[:2]
        extended = {126: 2, 127: 8}.get(second & 0x7F, 0)
        head = self.exactly(2 + extended + (4 if second & 0x80 else 0))
        length = int.from_bytes(head[2:2 + extended], "big") if extended else second & 0x7F
        assert extended == (0 if length < 126 else 2 if length < 65536 else 8), "%d in %d bytes" % (length, extended)
        return first & 15, bool(first & 0x80), first >> 4 & 7, length, head[-4:] if second & 0x80 else None

    def receive_frame(self):
        opcode, fin, rsv, length, mask = self.receive_header()
        assert (mask is None) == self.MASKS, "masked by a server, or not masked by a client"
        assert not self.closed, "%s behind Close" % NAMES.get(opcode, opcode)
        if mask:
            self.masks.append(mask)
        payload = self.exactly(length)
        self.last = Frame(opcode, masked(payload, mask) if mask else payload, fin, rsv, mask)
        self.check(self.last)
        return self.last

    def check(self, got):
        """What everybody has to keep who sends a frame."""
        assert got.opcode in NAMES, "opcode %d" % got.opcode
        assert got.rsv in ((0, RSV1) if self.inflater and got.opcode in (TEXT, BINARY) else (0,)), "rsv %d" % got.rsv
        if got.opcode >= CLOSE:
            assert got.fin and len(got.payload) <= CONTROL_MOST, got.words()
            if got.opcode == CLOSE:
                self.check_close(got.payload)
            return
        assert (got.opcode == CONTINUATION) == (self.kind is not None), "%s in the wrong place" % got.words()[:80]
        self.kind = None if got.fin else self.kind or got.opcode

    def check_close(self, payload):
        code = int.from_bytes(payload[:2], "big") if payload else None
        assert len(payload) != 1, "Close with one byte"
        assert code is None or 1000 <= code <= 4999 and code not in (1004, 1005, 1006, 1015), "Close with %d" % code
        self.closed = (code, payload[2:].decode())

    def hear(self):
        """What comes next, in words."""
        try:
            return self.receive_frame().words()
        except EOFError as error:
            return ("end " + str(error)).strip()
        except ConnectionResetError:
            return "reset"

    def receive_message(self, control=None):
        """The next message: its opcode, and its bytes. `control` is called with frames that come in between; without it
        there must be none."""
        kind, compressed, pieces = None, False, []
        while True:
            got = self.receive_frame()
            if got.opcode >= CLOSE:
                assert control, "%s instead of a message" % got.words()
                control(got)
                continue
            if kind is None:
                kind, compressed = got.opcode, bool(got.rsv & RSV1)
            pieces.append(got.payload)
            if got.fin:
                data = b"".join(pieces)
                return kind, self.inflater.decompress(data) if compressed else data

    def expect(self, data, kind=BINARY):
        """These bytes come next, in any number of messages of that kind."""
        got = bytearray()
        while len(got) < len(data):
            opcode, payload = self.receive_message()
            assert opcode == kind, NAMES[opcode]
            got += payload
        assert got == data, "got %d bytes %r, expected %d %r" % (len(got), bytes(got[:80]), len(data), data[:80])

    def expect_message(self, kind, payload):
        payload = payload.encode() if isinstance(payload, str) else payload
        got = self.receive_message()
        assert got == (kind, payload), "got %s of %d bytes %r, expected %s of %d %r" % (
            NAMES[got[0]], len(got[1]), got[1][:80], NAMES[kind], len(payload), payload[:80])

    def expect_heard(self, *words):
        heard = [self.hear() for _ in words]
        assert heard == list(words), "heard %r, expected %r" % (heard, list(words))

    def expect_end(self):
        """The end of the connection comes next, in order or by a reset."""
        heard = self.hear()
        assert heard in ("end", "reset"), "heard %r, expected the end" % heard[:80]

    def finish(self, code=1000, reason=b""):
        """Close in order, as the first."""
        self.send_close(code, reason)
        assert self.hear().split(" ")[:2] == ["close", str(code)], self.last
        self.expect_end()

    def close(self):
        self.peer.close()


class Client(Wire):
    MASKS = True

    def __init__(self, peer, path="/", changes=None, more=(), **options):
        """Ask, and be answered. `raw`: bytes that follow the request in one segment."""
        super().__init__(peer)
        behind = options.pop("raw", b"")
        self.key = options.setdefault("key", new_key())
        self.send_bytes(request(path, changes, more, **options) + behind)
        self.answer = self.receive_head()
        self.check_answer()

    def check_answer(self):
        """RFC 6455 4.2.2"""
        assert self.answer.words[:2] == ["HTTP/1.1", "101"], self.answer.text + bytes(self.buffer)
        assert self.answer.get("Upgrade").lower() == "websocket", self.answer.text
        assert "upgrade" in self.answer.tokens("Connection"), self.answer.text
        assert self.answer.get("Sec-WebSocket-Accept") == accept_of(self.key), self.answer.text
        if extensions := self.answer.get("Sec-WebSocket-Extensions"):
            self.accept_extensions(extensions)

    def accept_extensions(self, text):
        words = [word.strip() for word in text.split(";")]
        assert words[0] == "permessage-deflate", text
        bits = dict(word.partition("=")[::2] for word in words[1:])
        self.deflater = Deflate(int(bits.get("client_max_window_bits") or 15), "client_no_context_takeover" not in bits)
        self.inflater = Deflate(int(bits.get("server_max_window_bits") or 15), "server_no_context_takeover" not in bits)


class Server(Wire):
    """The side that was connected to: a request comes, and is answered by accept() or send_bytes()."""

    def __init__(self, peer):
        super().__init__(peer)
        self.request = self.receive_head()
        self.key = self.request.get("Sec-WebSocket-Key")

    def accept(self, changes=None, more=(), raw=b"", **options):
        """`raw`: bytes that follow in one segment."""
        self.send_bytes(answer(self.key, changes, more, **options) + raw)
        return self
