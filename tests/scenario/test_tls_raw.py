"""TLS from clients that do what they must not, or need not, do. The same bytes go to connpipe and to `openssl s_server`
with the same certificate: both have to say the same and to end, or go on, likewise. What the target of connpipe sees is
checked besides: the end of a connection is an end in order only after close_notify, else a reset."""

import contextlib
import itertools
import os

from .tls_raw import (
    ALERT, APPLICATION, CHANGE_CIPHER_SPEC, FINISHED, HANDSHAKE, HELLO_REQUEST, NEW_SESSION_TICKET, RECORD_MOST,
    SERVER_HELLO, alert, client_hello, key_update, message, record,
)
from .tls_sides import (
    CANCELED, CLOSE_NOTIFY, CLOSED, FATAL, GOES_ON, Both, Ours, carries, half_of_a_record, one_after_the_other, plain,
    sends, shuts_down, updates,
)


class After13(Both):
    """Records on an open connection of TLS 1.3."""

    def test_key_updates(self):
        wrong = [message(24, b"\x02"), message(24, b""), message(24, b"\x00\x00"), key_update() + key_update()]
        self.established("1.3", [
            ("not requested", updates(False), GOES_ON),
            ("requested", updates(True), "key_update", GOES_ON),
            ("several", updates(*[False] * 10), GOES_ON),
            ("many", updates(*[False] * 1000), GOES_ON),
            ("in pieces", one_after_the_other(
                sends(HANDSHAKE, key_update()[:1]), sends(HANDSHAKE, key_update()[1:]), lambda raw: raw.ours.update(),
            ), GOES_ON),
            ("of an unknown kind", sends(HANDSHAKE, wrong[0]), "fatal illegal_parameter", CLOSED),
            ("empty", sends(HANDSHAKE, wrong[1]), "fatal decode_error", CLOSED),
            ("too long", sends(HANDSHAKE, wrong[2]), "fatal illegal_parameter", CLOSED),
            ("two in a record", sends(HANDSHAKE, wrong[3]), "fatal unexpected_message", CLOSED),
            ("and the old key", one_after_the_other(sends(HANDSHAKE, key_update()), sends(APPLICATION, b"x")),
             "fatal bad_record_mac", CLOSED),
        ])

    def test_empty_records(self):
        self.established("1.3", [
            ("one", sends(APPLICATION), GOES_ON),
            ("31", sends(APPLICATION, times=31), GOES_ON),
            ("1000", sends(APPLICATION, times=1000), "fatal unexpected_message", CLOSED),
            ("padded", sends(APPLICATION, padding=1000), GOES_ON),
            ("of a handshake", sends(HANDSHAKE), "fatal unexpected_message", CLOSED),
            ("of alerts", sends(ALERT), "fatal unexpected_message", CLOSED),
            ("of no type", sends(None), "fatal bad_record_mac", CLOSED),
            ("of no type, padded", sends(None, padding=100), "fatal unexpected_message", CLOSED),
        ])

    def test_sizes(self):
        most = os.urandom(RECORD_MOST)
        self.established("1.3", [
            ("the most", carries(most), GOES_ON),
            ("the most, all padding", sends(APPLICATION, padding=RECORD_MOST), GOES_ON),
            ("one too many", sends(APPLICATION, most + b"x"), "fatal record_overflow", CLOSED),
            # RFC 8446 has no room for it, OpenSSL has.
            ("the most, and some padding", carries(most, padding=200), GOES_ON),
            ("the most, and too much padding", sends(APPLICATION, most, padding=300), "fatal record_overflow", CLOSED),
            ("the longest that can be told", plain(record(APPLICATION, length=65535)), "fatal record_overflow", CLOSED),
            ("shorter than a tag", plain(record(APPLICATION, bytes(15))), "fatal bad_record_mac", CLOSED),
            ("empty outside", plain(record(APPLICATION)), "fatal bad_record_mac", CLOSED),
        ])

    def test_alerts(self):
        self.established("1.3", [
            ("user_canceled", sends(ALERT, alert("user_canceled", 1)), GOES_ON),
            ("as a fatal one", sends(ALERT, alert("user_canceled", 2)), GOES_ON),
            ("many of them", sends(ALERT, alert("user_canceled", 1), times=40), "fatal unexpected_message", CLOSED),
            ("fatal", sends(ALERT, alert("internal_error")), CLOSED),
            ("fatal, called a warning", sends(ALERT, alert("handshake_failure", 1)), CLOSED),
            ("of an unknown description", sends(ALERT, alert(255)), CLOSED),
            ("of an unknown level", sends(ALERT, alert(255, 3)), CLOSED),
            ("half of one", sends(ALERT, b"\x01"), "fatal unexpected_message", CLOSED),
            ("two in a record", sends(ALERT, alert("close_notify", 1) * 2), "fatal unexpected_message", CLOSED),
            ("in plain", plain(record(ALERT, alert("close_notify", 1))), "fatal unexpected_message", CLOSED),
        ])

    def test_messages_that_do_not_belong_there(self):
        unexpected = ("fatal unexpected_message", CLOSED)
        cases = [("a handshake message of type %d" % kind, sends(HANDSHAKE, message(kind, bytes(32))), *unexpected)
                 for kind in (HELLO_REQUEST, SERVER_HELLO, NEW_SESSION_TICKET, 5, 8, 11, 13, 15, FINISHED, 254)]
        self.established("1.3", [
            *cases,
            ("ClientHello", sends(HANDSHAKE, client_hello()), *unexpected),
            ("a change of ciphers, encrypted", sends(CHANGE_CIPHER_SPEC, b"\x01"), *unexpected),
            ("a change of ciphers in plain", plain(record(CHANGE_CIPHER_SPEC, b"\x01")), *unexpected),
            ("an unknown type", sends(99, b"x"), *unexpected),
            ("an unknown type outside", plain(record(99, bytes(32))), *unexpected),
            ("application data in plain", plain(record(APPLICATION, b"in plain, but longer than a tag")),
             "fatal bad_record_mac", CLOSED),
            ("another type outside", sends(APPLICATION, b"x", outer=HANDSHAKE), *unexpected),
            ("a message that is too long", sends(HANDSHAKE, message(24, length=0xFFFFFF)),
             "fatal illegal_parameter", CLOSED),
        ])

    def test_damaged_records(self):
        def changed(raw):
            sealed = bytearray(raw.ours.seal(APPLICATION, b"damaged"))
            sealed[-1] ^= 1
            raw.send_bytes(sealed)

        def twice(raw):
            raw.send_bytes(raw.ours.seal(APPLICATION, b"") * 2)

        def header(raw):
            sealed = bytearray(raw.ours.seal(APPLICATION, b"damaged"))
            sealed[2] ^= 1
            raw.send_bytes(sealed)

        def skipped(raw):
            raw.ours.seal(APPLICATION, b"never sent")
            raw.send(APPLICATION, b"x")

        bad = ("fatal bad_record_mac", CLOSED)
        self.established("1.3", [
            ("a bit", changed, *bad),
            ("the same record again", twice, *bad),
            ("one is missing", skipped, *bad),
            ("the version", header, "fatal decode_error", CLOSED),
            ("another protocol", plain(b"GET / HTTP/1.1\r\n\r\n"), "fatal protocol_version", CLOSED),
        ])


class After12(Both):
    """Records on an open connection of TLS 1.2."""

    def test_renegotiation(self):
        unexpected = ("fatal unexpected_message", CLOSED)
        self.established("1.2", [
            ("once", sends(HANDSHAKE, client_hello("1.2")), "warning no_renegotiation", GOES_ON),
            ("twice", sends(HANDSHAKE, client_hello("1.2"), times=2), *["warning no_renegotiation"] * 2, GOES_ON),
            ("a request for it, from the wrong side", sends(HANDSHAKE, message(HELLO_REQUEST)), *unexpected),
            ("the middle of a handshake", sends(HANDSHAKE, message(FINISHED, bytes(12))), *unexpected),
            ("a change of ciphers", sends(CHANGE_CIPHER_SPEC, b"\x01"), *unexpected),
        ])

    def test_records(self):
        self.established("1.2", [
            ("empty", sends(APPLICATION), GOES_ON),
            ("31 empty ones", sends(APPLICATION, times=31), GOES_ON),
            ("1000 empty ones", sends(APPLICATION, times=1000), "fatal unexpected_message", CLOSED),
            ("too long", sends(APPLICATION, bytes(RECORD_MOST + 1)), "fatal record_overflow", CLOSED),
            ("in plain", plain(record(APPLICATION, b"in plain, longer than a tag")), "fatal bad_record_mac", CLOSED),
            ("of an unknown type", sends(99, b"x"), "fatal unexpected_message", CLOSED),
            ("an empty handshake", sends(HANDSHAKE), GOES_ON),
        ])

    def test_alerts(self):
        self.established("1.2", [
            ("no_renegotiation", sends(ALERT, alert("no_renegotiation", 1)), "fatal handshake_failure", CLOSED),
            ("user_canceled", sends(ALERT, alert("user_canceled", 1)), GOES_ON),
            ("many warnings", sends(ALERT, alert("user_canceled", 1), times=40), "fatal unexpected_message", CLOSED),
            ("fatal", sends(ALERT, alert("internal_error")), CLOSED),
            ("in plain", plain(record(ALERT, alert("close_notify", 1))), "fatal bad_record_mac", CLOSED),
        ])


class Floods(Both):
    """What has to be answered each time. Answers may be left out, but nothing else happens."""

    def flooded(self, version, act, answer):
        for side in self.sides():
            with self.subTest(side=side.name), contextlib.closing(self.opened(side, version)) as raw:
                act(raw)
                seen = self.exchange(raw, side, b"more")
                self.assertEqual(set(seen), {answer})
                self.assertLessEqual(len(seen), 1000)

    def test_key_updates(self):
        self.flooded("1.3", updates(*[True] * 1000), "key_update")

    def test_renegotiation(self):
        again = sends(HANDSHAKE, client_hello("1.2"), times=1000)
        self.flooded("1.2", again, "warning no_renegotiation")


class Halves(Both):
    """Part of a message: OpenSSL does not write before it is whole. Writing waits for the rest, and nothing is lost."""

    def half(self):
        """A connection that has sent part of a KeyUpdate."""
        side = Ours(self)
        raw = self.opened(side, "1.3")
        raw.send(HANDSHAKE, key_update()[:4])
        return side, raw

    def rest(self, raw):
        raw.send(HANDSHAKE, key_update()[4:])
        raw.ours.update()

    def test_bytes_wait_for_the_rest(self):
        side, raw = self.half()
        side.answer(b"answer")
        self.rest(raw)
        self.assertEqual(self.next(raw), "data answer")
        self.assertEqual(self.exchange(raw, side, b"more"), [])

    def test_much_waits_for_the_rest(self):
        side, raw = self.half()
        data = os.urandom(200000)
        side.answer(data)
        side.target.shutdown()
        self.rest(raw)
        got = []
        while (heard := self.next(raw)).startswith("data "):
            got.append(heard[5:])
        self.assertEqual("".join(got).encode("latin-1"), data)
        self.assertEqual(heard, "warning close_notify")

    def test_the_end_waits_for_the_rest(self):
        side, raw = self.half()
        side.target.shutdown()
        self.rest(raw)
        self.assertEqual(self.next(raw), "warning close_notify")
        raw.send(APPLICATION, b"still heard")
        self.assertEqual(side.delivered(11), b"still heard")

    def test_no_rest(self):
        """Neither bytes nor the end get through, and the end of the client is none in order."""
        side, raw = self.half()
        side.answer(b"never")
        raw.peer.wait_sent()
        raw.peer.shutdown()
        self.assertEqual(self.to_the_end(raw)[-1], CLOSED)
        self.assertEqual(side.target_end(), "reset")


class Ends(Both):
    """The end of what a client sends: in order after close_notify, otherwise cut short."""

    def in_order(self, version, *cases):
        heard = ("warning close_notify", CLOSED)  # at once: s_server keeps no connection that is half open
        self.established(version, [
            ("close_notify", one_after_the_other(CLOSE_NOTIFY, shuts_down), *heard),
            ("then more", one_after_the_other(CLOSE_NOTIFY, sends(APPLICATION, b"too late"), shuts_down), *heard),
            ("then another alert", one_after_the_other(CLOSE_NOTIFY, FATAL, shuts_down), *heard),
            ("then half a record", one_after_the_other(CLOSE_NOTIFY, half_of_a_record, shuts_down), *heard),
            ("then garbage", one_after_the_other(CLOSE_NOTIFY, plain(os.urandom(1000)), shuts_down), *heard),
            ("user_canceled before", one_after_the_other(CANCELED, CLOSE_NOTIFY, shuts_down), *heard),
            *[(name, act, *heard) for name, act in cases],
        ], target="end")

    def cut_short(self, version, *cases):
        heard = ("fatal decode_error", CLOSED)  # what OpenSSL says to an end that it did not expect
        half_message = sends(HANDSHAKE, message(254, b"", length=20))
        self.established(version, [
            ("nothing", shuts_down, *heard),
            ("half a header", one_after_the_other(plain(b"\x17\x03"), shuts_down), *heard),
            ("half a record", one_after_the_other(half_of_a_record, shuts_down), *heard),
            ("an alert that is no end", one_after_the_other(CANCELED, shuts_down), *heard),
            ("half a message", one_after_the_other(half_message, shuts_down), "fatal unexpected_message", CLOSED),
            *cases,
        ])

    def test_in_order_13(self):
        self.in_order("1.3", ("called fatal", one_after_the_other(sends(ALERT, alert("close_notify", 2)), shuts_down)))

    def test_in_order_12(self):
        self.in_order("1.2")

    def test_cut_short_13(self):
        self.cut_short("1.3")

    def test_cut_short_12(self):
        called_fatal = one_after_the_other(sends(ALERT, alert("close_notify", 2)), shuts_down)
        self.cut_short("1.2", ("close_notify, called fatal", called_fatal, CLOSED))

    def test_reset(self):
        """By the client: the target sees it, whatever was under way."""
        side = Ours(self)
        for version in ("1.3", "1.2"):
            for name, act in (("at rest", lambda raw: None), ("in a record", half_of_a_record)):
                with self.subTest(name, version=version):
                    raw = self.opened(side, version)
                    act(raw)
                    raw.peer.wait_sent()
                    raw.peer.reset()
                    self.assertEqual(side.target_end(), "reset")

    def test_what_came_before_is_delivered(self):
        """In one segment with the end."""
        data = os.urandom(40000)
        side = Ours(self)
        for version, end in itertools.product(("1.3", "1.2"), ("end", "reset")):
            with self.subTest(version=version, end=end):
                raw = self.opened(side, version)
                pieces = [data[at : at + RECORD_MOST] for at in range(0, len(data), RECORD_MOST)]
                sealed = b"".join(raw.ours.seal(APPLICATION, piece) for piece in pieces)
                raw.peer.send(sealed + (raw.ours.seal(ALERT, alert("close_notify", 1)) if end == "end" else b""))
                raw.peer.shutdown()
                got = side.target.receive_all() if end == "end" else side.target.receive_until_reset()
                self.assertEqual(got, data)

    def test_half_closed_by_the_client(self):
        side = Ours(self)
        for version in ("1.3", "1.2"):
            raw = self.opened(side, version)
            CLOSE_NOTIFY(raw)
            self.assertEqual(side.target.receive_all(), b"")
            side.answer(b"still heard")
            self.assertEqual(self.next(raw), "data still heard")
            side.target.shutdown()
            self.assertEqual(self.to_the_end(raw), ["warning close_notify", CLOSED])

    def test_half_closed_by_the_target(self):
        side = Ours(self)
        for version in ("1.3", "1.2"):
            raw = self.opened(side, version)
            side.target.shutdown()
            self.assertEqual(self.next(raw), "warning close_notify")
            raw.send(APPLICATION, b"still heard")
            self.assertEqual(side.delivered(11), b"still heard")
            CLOSE_NOTIFY(raw)
            raw.peer.shutdown()
            self.assertEqual(side.target.receive_all(), b"")

    def test_reset_by_the_target(self):
        """No close_notify that would make it look like an end in order."""
        side = Ours(self)
        for version in ("1.3", "1.2"):
            raw = self.opened(side, version)
            side.target.send(b"before")
            self.assertEqual(self.next(raw), "data before")
            side.target.reset()
            self.assertEqual(self.next(raw), "reset")
