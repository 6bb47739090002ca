"""Handshakes with clients that do what they must not, or need not, do; see test_tls_raw.py."""

import contextlib
import os
import select

from .harness import MAGIC
from .tls_raw import (
    ALERT, APPLICATION, CHANGE_CIPHER_SPEC, CIPHERS, CLIENT_HELLO, FINISHED, GROUPS, HANDSHAKE, HELLO_REQUEST,
    KEY_SHARE, RECORD_MOST, SERVER_HELLO, SIGNATURES, SUPPORTED_VERSIONS, Client, alert, client_hello, extension,
    key_update, message, prefixed, record,
)
from .tls_sides import ANSWERED, CLOSED, GOES_ON, Both, Ours, one_after_the_other, plain, shuts_down


def hello_of(raw):
    """The ClientHello of Python's TLS: a handshake message that a handshake can go on from."""
    return raw.flight()[5:]


def in_records(data, size, kind=HANDSHAKE, version=0x0301):
    return [record(kind, data[at : at + size], version) for at in range(0, len(data), size)]


def begins(cut):
    """A handshake whose ClientHello is sent as `cut` makes it of the message, then on to its end."""

    def act(raw):
        raw.peer.send(b"".join(cut(hello_of(raw))))
        raw.take()
        raw.handshake()

    return act


def in_segments(raw):
    """Each byte is acknowledged before the next one."""
    hello = raw.flight()
    raw.peer.send_pieces(hello, range(1, len(hello)))
    raw.take()
    raw.handshake()


def says(*messages, version=0x0301):
    """Handshake messages as the first record."""
    return plain(record(HANDSHAKE, b"".join(messages), version))


class Hello(Both):
    """The first record of a connection, and what may be in it."""

    def test_in_pieces(self):
        for version in ("1.3", "1.2"):
            self.beginnings([
                ("records of 1 byte", begins(lambda hello: in_records(hello, 1)), GOES_ON),
                ("records of 4 bytes", begins(lambda hello: in_records(hello, 4)), GOES_ON),
                ("segments of 1 byte", in_segments, GOES_ON),
                ("an empty record first", begins(lambda hello: [record(HANDSHAKE)] + in_records(hello, 999)), GOES_ON),
                ("31 empty records first", begins(lambda hello: [record(HANDSHAKE)] * 31 + in_records(hello, 999)),
                 GOES_ON),
                ("empty records between", begins(
                    lambda hello: [record(HANDSHAKE) + each for each in in_records(hello, 50)]), GOES_ON),
            ], version)

    def test_together(self):
        """More in the record than belongs there. In 1.2 it is read when the server has answered."""
        flight = ["server_hello", *("message of type %d" % kind for kind in (11, 12, 14))]
        for version, answer in (("1.3", []), ("1.2", flight)):
            heard = (*answer, "fatal unexpected_message", CLOSED)
            hello = client_hello(version)
            self.beginnings([
                ("two of them", says(hello, hello), *heard),
                ("another message behind it", says(hello, message(FINISHED, bytes(32))), *heard),
                ("another record behind it", plain(record(HANDSHAKE, hello) * 2), ANSWERED),
            ])

    def test_empty_records(self):
        self.beginnings([
            ("many", plain(record(HANDSHAKE) * 40), "fatal unexpected_message", CLOSED),
            ("of alerts", plain(record(ALERT)), "fatal unexpected_message", CLOSED),
            ("of application data", plain(record(APPLICATION)), "fatal unexpected_message", CLOSED),
        ])

    def test_versions_of_records(self):
        hello = client_hello()
        good = [("%04x" % version, plain(record(HANDSHAKE, hello, version)), ANSWERED)
                for version in (0x0300, 0x0301, 0x0302, 0x0303, 0x0304, 0x03FF)]
        bad = [("%04x" % version, plain(record(HANDSHAKE, hello, version)), CLOSED)
               for version in (0x0000, 0x0200, 0x0400, 0xFEFD)]
        self.beginnings(good + bad)

    def test_versions(self):
        old = ("fatal protocol_version", CLOSED)
        without = {"extensions": GROUPS + SIGNATURES}
        only = extension(43, b"\x02\x03\x04")
        self.beginnings([
            ("SSL 3", says(client_hello(legacy=0x0300, **without)), "fatal handshake_failure", CLOSED),
            ("TLS 1.0", says(client_hello(legacy=0x0301, **without)), *old),
            ("TLS 1.1", says(client_hello(legacy=0x0302, **without)), *old),
            ("TLS 1.2", says(client_hello(legacy=0x0303, **without)), ANSWERED),
            ("one that does not exist", says(client_hello(legacy=0x0399, **without)), ANSWERED),
            ("only 1.3", says(client_hello(extensions=only + GROUPS + SIGNATURES + KEY_SHARE)), ANSWERED),
            ("only unknown ones", says(client_hello(extensions=extension(43, b"\x02\x7f\x1c") + GROUPS)), *old),
            ("no list of versions", says(client_hello(extensions=extension(43) + GROUPS)), *old),
            ("1.3 as legacy", says(client_hello(legacy=0x0304)), ANSWERED),
            ("SSL 3 as legacy, 1.3 in the list", says(client_hello(legacy=0x0300)),
             "fatal handshake_failure", CLOSED),
            ("fallback", says(client_hello("1.2", ciphers=CIPHERS + b"\x56\x00")),
             "fatal inappropriate_fallback", CLOSED),
        ])

    def test_hellos_of_ssl_2(self):
        def hello(version, kind=1, ciphers=b"\x00\x00\xff\x00\xc0\x2b\x00\xc0\x2f"):
            body = bytes([kind]) + version.to_bytes(2, "big")
            body += len(ciphers).to_bytes(2, "big") + bytes(2) + (32).to_bytes(2, "big") + ciphers + bytes(range(32))
            return plain((len(body) | 0x8000).to_bytes(2, "big") + body)

        self.beginnings([
            ("of SSL 2", hello(0x0002), "fatal protocol_version", CLOSED),
            ("of TLS 1.0", hello(0x0301), "fatal protocol_version", CLOSED),
            ("of TLS 1.2", hello(0x0303), "fatal handshake_failure", CLOSED),
            ("of another message", hello(0x0303, kind=4), CLOSED),
        ])

    def test_grease_and_the_unknown(self):
        """RFC 8701: what is not known is ignored."""
        values = b"\x0a\x0a\x1a\x1a\xfa\xfa"
        grease = extension(0x0A0A) + extension(0xFAFA, b"\x00")
        groups = extension(10, prefixed(b"\x2a\x2a\x00\x1d", 2))
        share = extension(51, prefixed(b"\x2a\x2a" + prefixed(b"\x00", 2) + KEY_SHARE[6:], 2))
        versions = extension(43, b"\x06\x3a\x3a\x03\x04\x03\x03")
        self.beginnings([
            ("ciphers", says(client_hello(ciphers=values + CIPHERS)), ANSWERED),
            ("extensions", says(client_hello(extra=grease)), ANSWERED),
            ("versions, groups, shares", says(client_hello(extensions=grease + versions + groups + SIGNATURES + share)),
             ANSWERED),
            ("a long extension", says(client_hello(extra=extension(0x1234, bytes(10000)))), ANSWERED),
            ("many extensions", says(client_hello(extra=b"".join(extension(40000 + i) for i in range(99)))), ANSWERED),
            ("protocols", says(client_hello(extra=extension(16, prefixed(b"\x02\x0a\x0a\x02h2", 2)))), ANSWERED),
            ("a name of another type", says(client_hello(extra=extension(0, prefixed(b"\x07\x00\x01x", 2)))),
             "fatal decode_error", CLOSED),
        ])

    def test_malformed(self):
        twice = extension(0x1234) * 2
        known_twice = GROUPS * 2
        lies = b"\x12\x34\xff\xff"
        decode, parameter = ("fatal decode_error", CLOSED), ("fatal illegal_parameter", CLOSED)
        self.beginnings([
            ("empty", says(message(CLIENT_HELLO)), *decode),
            ("only a version", says(message(CLIENT_HELLO, b"\x03\x03")), *decode),
            ("a long session", says(client_hello(session=bytes(33))), *decode),
            ("odd ciphers", says(client_hello(ciphers=CIPHERS + b"\x00")), *decode),
            ("no ciphers", says(client_hello(ciphers=b"")), *parameter),
            ("unknown ciphers only", says(client_hello(ciphers=b"\x12\x34")), "fatal handshake_failure", CLOSED),
            ("no compression", says(client_hello(compression=b"")), *decode),
            ("compression only", says(client_hello(compression=b"\x01")), *decode),
            ("compression too", says(client_hello(compression=b"\x00\x01")), *parameter),
            ("an extension twice", says(client_hello(extra=twice)), ANSWERED),
            ("a known extension twice", says(client_hello(extra=known_twice)), *parameter),
            ("an extension longer than all", says(client_hello(extra=lies)), *decode),
            ("bytes behind it", says(client_hello()[:1] + prefixed(client_hello()[4:] + b"\x00", 3)), *decode),
            ("renegotiation that never was", says(client_hello("1.2", extra=extension(0xFF01, b"\x01\x00"))),
             "fatal handshake_failure", CLOSED),
            ("an empty name", says(client_hello(extra=extension(0, prefixed(b"\x00\x00\x00", 2)))), ANSWERED),
            ("a name with a zero", says(client_hello(extra=extension(0, prefixed(b"\x00\x00\x03a\x00b", 2)))),
             "fatal unrecognized_name", CLOSED),
            ("no groups", says(client_hello(extensions=SUPPORTED_VERSIONS["1.3"] + SIGNATURES + KEY_SHARE)),
             "fatal missing_extension", CLOSED),
            ("no signatures", says(client_hello(extensions=SUPPORTED_VERSIONS["1.3"] + GROUPS + KEY_SHARE)),
             "fatal missing_extension", CLOSED),
            ("a share that is no point", says(client_hello(extensions=SUPPORTED_VERSIONS["1.3"] + GROUPS + SIGNATURES
                + extension(51, prefixed(b"\x00\x1d" + prefixed(bytes(31), 2), 2)))), *parameter),
            ("a key that is not the last", says(client_hello(extra=extension(41, bytes(50)) + extension(0x1234))),
             *parameter),
            ("a key that nobody has", says(client_hello(extra=extension(45, b"\x01\x01") + extension(
                41, prefixed(prefixed(b"unknown", 2) + bytes(4), 2) + prefixed(prefixed(bytes(32), 1), 2)))), ANSWERED),
        ])

    def test_sizes(self):
        def big(size):
            return b"".join(in_records(client_hello(extra=extension(21, bytes(size))), RECORD_MOST))

        self.beginnings([
            ("more than a record", plain(big(30000)), ANSWERED),
            ("as much as extensions can", plain(big(65000)), ANSWERED),
            ("more than OpenSSL takes", says(message(CLIENT_HELLO, bytes(100), length=200000)),
             "fatal illegal_parameter", CLOSED),
            ("the most that can be told", says(message(CLIENT_HELLO, length=0xFFFFFF)),
             "fatal illegal_parameter", CLOSED),
            ("a record that is too long", plain(record(HANDSHAKE, length=RECORD_MOST + 2000)), "fatal record_overflow",
             CLOSED),
            ("the longest record", plain(record(HANDSHAKE, length=65535)), "fatal record_overflow", CLOSED),
        ])

    def test_other_records_first(self):
        unexpected = ("fatal unexpected_message", CLOSED)
        self.beginnings([
            ("a fatal alert", plain(record(ALERT, alert("handshake_failure"))), *unexpected),
            ("close_notify", plain(record(ALERT, alert("close_notify", 1))), *unexpected),
            ("a warning", plain(record(ALERT, alert("user_canceled", 1)) + record(HANDSHAKE, client_hello())),
             *unexpected),
            ("half an alert", plain(record(ALERT, b"\x02")), *unexpected),
            ("a change of ciphers", plain(record(CHANGE_CIPHER_SPEC, b"\x01")), *unexpected),
            ("application data", plain(record(APPLICATION, b"x" * 32)), *unexpected),
            ("a type that does not exist", plain(record(99, b"x" * 32)), *unexpected),
            ("ServerHello", says(message(SERVER_HELLO, bytes(64))), *unexpected),
            ("HelloRequest", says(message(HELLO_REQUEST)), *unexpected),
        ])

    def test_other_protocols(self):
        self.beginnings([
            ("HTTP", plain(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"), CLOSED),
            ("HTTP, a tunnel", plain(b"CONNECT localhost:443 HTTP/1.1\r\n\r\n"), CLOSED),
            ("HTTP 2", plain(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), CLOSED),
            ("SSH", plain(b"SSH-2.0-OpenSSH_9.2\r\n"), CLOSED),
            ("PROXY", plain(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"), CLOSED),
            ("a preamble", plain(MAGIC + b"\x04test"), CLOSED),
            ("zeros", plain(bytes(100)), CLOSED),
            ("ones", plain(b"\xff" * 100), CLOSED),
            ("noise", plain(bytes(i * 73 + 29 & 255 for i in range(300))), CLOSED),
        ])

    def test_ends(self):
        cut = ("fatal decode_error", CLOSED)
        self.beginnings([
            ("at once", shuts_down, *cut),
            ("in the header", one_after_the_other(plain(b"\x16\x03"), shuts_down), *cut),
            ("in the record", one_after_the_other(plain(record(HANDSHAKE, client_hello())[:50]), shuts_down), *cut),
            ("between records", one_after_the_other(plain(*in_records(client_hello(), 100)[:1]), shuts_down), *cut),
            ("behind it", one_after_the_other(plain(record(HANDSHAKE, client_hello())), shuts_down), ANSWERED),
        ])


class Flight:
    """The last flight of a client in TLS 1.3, opened: Finished, and keys to send something else instead."""

    def __init__(self, raw):
        self.raw = raw
        self.sealed = raw.handshake(answer=False)
        self.keys = raw.keys_of("CLIENT", "HANDSHAKE_TRAFFIC_SECRET")
        self.change = record(CHANGE_CIPHER_SPEC, b"\x01")
        assert self.sealed.startswith(self.change)
        reading = raw.keys_of("CLIENT", "HANDSHAKE_TRAFFIC_SECRET")
        finished = self.sealed[len(self.change) :]
        kind, self.finished = reading.open(finished[0], finished[:5], finished[5:])
        assert kind == HANDSHAKE and self.finished[0] == FINISHED

    def seal(self, kind, payload):
        return self.keys.seal(kind, payload)


def instead(make):
    """`make` gives the bytes that are sent instead of the last flight."""

    def act(raw):
        flight = Flight(raw)
        raw.send_bytes(make(flight))

    return act


class LastFlight(Both):
    def test_13(self):
        unexpected = ("fatal unexpected_message", CLOSED)
        self.beginnings([
            ("as it is", instead(lambda f: f.sealed), GOES_ON),
            ("without the change of ciphers", instead(lambda f: f.seal(HANDSHAKE, f.finished)), GOES_ON),
            ("in records of 1 byte", instead(
                lambda f: b"".join(f.seal(HANDSHAKE, bytes([byte])) for byte in f.finished)), GOES_ON),
            ("two changes of ciphers", instead(lambda f: f.change * 2 + f.seal(HANDSHAKE, f.finished)), GOES_ON),
            ("many changes of ciphers", instead(lambda f: f.change * 100), *unexpected),
            ("another change of ciphers", instead(lambda f: record(CHANGE_CIPHER_SPEC, b"\x02")),
             "fatal illegal_parameter", CLOSED),
            ("user_canceled first", instead(
                lambda f: f.seal(ALERT, alert("user_canceled", 1)) + f.seal(HANDSHAKE, f.finished)), GOES_ON),
            ("an alert", instead(lambda f: f.seal(ALERT, alert("unknown_ca"))), CLOSED),
            ("an alert in plain", instead(lambda f: record(ALERT, alert("unknown_ca"))), CLOSED),
            ("wrong", instead(lambda f: f.seal(HANDSHAKE, message(FINISHED, bytes(32)))),
             "fatal decrypt_error", CLOSED),
            ("too short", instead(lambda f: f.seal(HANDSHAKE, message(FINISHED, bytes(31)))),
             "fatal decode_error", CLOSED),
            ("application data", instead(lambda f: f.seal(APPLICATION, b"too early")), *unexpected),
            ("KeyUpdate", instead(lambda f: f.seal(HANDSHAKE, key_update())), *unexpected),
            ("KeyUpdate behind it", instead(lambda f: f.seal(HANDSHAKE, f.finished + key_update())), *unexpected),
            ("ClientHello", instead(lambda f: f.seal(HANDSHAKE, client_hello())), *unexpected),
            ("an empty record", instead(lambda f: f.seal(HANDSHAKE, b"")), *unexpected),
            ("noise", instead(lambda f: record(APPLICATION, bytes(60))), "fatal bad_record_mac", CLOSED),
            ("another protocol", instead(lambda f: b"GET / HTTP/1.1\r\n\r\n"), "fatal protocol_version", CLOSED),
        ])

    def test_data_right_behind_it(self):
        """In one segment with the end of the handshake: OpenSSL has it before anybody asks for it."""

        def early(data):
            def act(raw):
                flight = raw.handshake(answer=False)
                raw.carried = data
                raw.peer.send(flight + raw.ours.seal(APPLICATION, data))

            return act

        self.beginnings([("a little", early(b"early"), GOES_ON), ("a lot", early(os.urandom(RECORD_MOST)), GOES_ON)])

    def test_everything_at_once(self):
        """Finished, data, close_notify and the end in one segment."""
        side = Ours(self)
        raw = Client(side.connect())
        flight = raw.handshake(answer=False)
        last = raw.ours.seal(APPLICATION, b"all there is") + raw.ours.seal(ALERT, alert("close_notify", 1))
        raw.peer.send(flight + last)
        raw.peer.shutdown()
        side.opened()
        self.assertEqual(side.target_end(), "end after b'all there is'")

    def test_half_a_record_behind_it(self):
        side = Ours(self)
        raw = Client(side.connect())
        flight = raw.handshake(answer=False)
        sealed = raw.ours.seal(APPLICATION, b"in two segments")
        raw.peer.send(flight + sealed[:9])
        side.opened()
        raw.peer.send(sealed[9:])
        self.assertEqual(side.delivered(15), b"in two segments")


class TimeOuts(Both):
    """Handshakes that never end: what comes meanwhile does not make them longer."""

    def setUp(self):
        self.side = Ours(self, timeouts='handshake = "300ms"')

    def silent(self, *first):
        raw = Client(self.side.connect())
        plain(*first)(raw)
        self.to_the_end(raw)
        self.side.no_target()

    def test_nothing(self):
        self.silent()

    def test_half_a_hello(self):
        self.silent(record(HANDSHAKE, client_hello())[:100])

    def test_no_finished(self):
        self.silent(record(HANDSHAKE, client_hello()))

    def test_no_finished_12(self):
        self.silent(record(HANDSHAKE, client_hello("1.2")))

    def test_a_byte_now_and_then(self):
        raw = Client(self.side.connect())
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, StopIteration):
            for byte in record(HANDSHAKE, client_hello(extra=extension(21, bytes(60000)))[:16000]):
                raw.peer.send(bytes([byte]))
                if select.select([raw.peer.socket], [], [], 0.005)[0]:
                    raise StopIteration  # it has said something, or closed
            self.fail("it was not closed")
        self.side.no_target()
