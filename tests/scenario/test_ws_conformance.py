"""What RFC 6455 wants of both ends of an open websocket, section by section. The same frames go to connpipe and to
python3-websockets, as servers and as clients. systems/ws/CONFORMANCE.md has the list; where connpipe does otherwise than
the RFC says, the case's name begins with "deviation"."""

import os

from .ws_raw import BINARY, CLOSE, CONTINUATION, PING, PONG, RSV1, RSV2, RSV3, TEXT, closing
from .ws_sides import (
    CLOSED, GOES_ON, Both, Case, Ours, Websockets, byte_by_byte, carries, one_after_the_other, plainly, sends, together,
)

REFUSED = ("close 1002", CLOSED)
FROM_A_SERVER = {"connpipe_connecting": [GOES_ON], "websockets_connecting": REFUSED}
OPCODES = {CONTINUATION: "continuation", TEXT: "text", BINARY: "binary", CLOSE: "close", PING: "ping", PONG: "pong"}


class Framing(Both):
    """5.2, 5.3"""

    def test_5_2_lengths(self):
        data = os.urandom(70000)
        self.established(*[
            Case("%d bytes" % length, carries(BINARY, data[:length]), GOES_ON)
            for length in (0, 1, 2, 124, 125, 126, 127, 128, 16383, 16384, 16385, 65534, 65535, 65536, 65537, 70000)
        ])

    def test_5_2_lengths_that_need_not_be_so_long(self):
        self.established(
            Case("deviation: 0 in 2 bytes", carries(BINARY, b"", length_bytes=2), GOES_ON),
            Case("deviation: 125 in 2 bytes", carries(BINARY, bytes(125), length_bytes=2), GOES_ON),
            Case("deviation: 125 in 8 bytes", carries(BINARY, bytes(125), length_bytes=8), GOES_ON),
            Case("deviation: 65535 in 8 bytes", carries(BINARY, bytes(65535), length_bytes=8), GOES_ON),
        )

    def test_5_2_length_of_64_bits(self):
        self.established(
            Case("the highest bit", sends(BINARY, b"", length=1 << 63), *REFUSED, websockets=["close 1009", CLOSED]),
            Case("all bits", sends(BINARY, b"", length=(1 << 64) - 1), *REFUSED, websockets=["close 1009", CLOSED]),
        )

    def test_5_2_reserved_bits(self):
        self.established(*[
            Case("bit %d of %s" % (rsv, OPCODES[opcode]), sends(opcode, b"x", rsv=rsv), *REFUSED)
            for rsv in (RSV1, RSV2, RSV3, 7) for opcode in (TEXT, BINARY, PING, PONG)
        ], Case("of Close", sends(CLOSE, closing(1000), rsv=RSV1), *REFUSED),
           Case("of a continuation", one_after_the_other(
               sends(BINARY, b"x", fin=False), sends(CONTINUATION, b"y", rsv=RSV1)), *REFUSED))

    def test_5_2_reserved_opcodes(self):
        self.established(*[
            Case("opcode %d with %d bytes" % (opcode, length), sends(opcode, bytes(length)), *REFUSED)
            for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15) for length in (0, 3)
        ])

    def test_5_3_masks(self):
        """Of clients. What servers mask has to be an error (5.1): libwebsockets takes it, or what it makes of it."""
        self.established(
            Case("of zeros", carries(BINARY, b"as it is", mask=bytes(4)), GOES_ON, **FROM_A_SERVER),
            Case("of ones", carries(BINARY, b"upside down", mask=b"\xff" * 4), GOES_ON, **FROM_A_SERVER),
            Case("of an empty message", carries(BINARY, b"", mask=b"abcd"), GOES_ON, **FROM_A_SERVER),
        )


class Masked(Both):
    roles = (True,)

    def test_5_3_masks_that_change(self):
        self.established(
            Case("that begins with a zero", carries(BINARY, b"partly", mask=b"\0\1\2\3"), GOES_ON),
            Case("in each frame", one_after_the_other(
                carries(BINARY, b"one", mask=b"abcd"), sends(PING, b"x", mask=b"efgh")), "pong x", GOES_ON),
        )


class NotMasked(Both):
    roles = (True,)

    def test_5_1_frames_of_clients_are_masked(self):
        """The first frame of a connection is looked at; later ones libwebsockets takes as they are."""
        self.established(*[
            Case("deviation: %s of %d bytes" % (OPCODES[opcode], len(payload)), carries(opcode, payload, mask=None),
                 GOES_ON, websockets=REFUSED)
            for opcode, payload in ((TEXT, b"x"), (BINARY, b"x"), (BINARY, b""), (BINARY, bytes(70000)))
        ], Case("deviation: ping", sends(PING, b"x", mask=None), "pong x", GOES_ON, websockets=REFUSED),
           Case("deviation: pong", sends(PONG, b"x", mask=None), GOES_ON, websockets=REFUSED),
           Case("deviation: Close", sends(CLOSE, closing(1000), mask=None), "close 1000", CLOSED, websockets=REFUSED))


class FirstFrame(Websockets):
    def test_5_1_a_client_that_does_not_mask(self):
        """As it is seen in its first frame."""
        proxy, server = self.before_tcp()
        frames = ((TEXT, b"x"), (BINARY, b""), (BINARY, bytes(70000)), (PING, b"x"), (CLOSE, b""))
        opened = [(self.websocket(), self.accept(server)) for _ in frames]
        for (client, _), (opcode, payload) in zip(opened, frames):
            client.send(opcode, payload, mask=None)
        for client, target in opened:
            self.assertEqual(client.hear().split(" ")[:2], ["close", "1002"])
            client.expect_end()
            target.expect_reset()
        self.assertIn("client_protocol", proxy.wait_closed(len(frames)))


class Fragments(Both):
    """5.4"""

    def test_5_4_fragments(self):
        text = "aäß€𝄞" * 20
        self.established(
            Case("two", carries(TEXT, "in two", 3), GOES_ON),
            Case("of one byte", carries(BINARY, b"one by one", *[1] * 9), GOES_ON),
            Case("the first is empty", carries(BINARY, b"x", 0), GOES_ON),
            Case("the last is empty", carries(BINARY, b"x", 1), GOES_ON),
            Case("one in the middle is empty", carries(BINARY, b"xy", 1, 0), GOES_ON),
            Case("all are empty", carries(BINARY, b"", 0, 0), GOES_ON),
            Case("many", carries(BINARY, bytes(1000), *[1] * 1000), GOES_ON),
            Case("large", carries(BINARY, os.urandom(200_000), 65536, 1, 65535), GOES_ON),
            Case("in the middle of characters", carries(TEXT, text, *[1] * (len(text.encode()) - 1)), GOES_ON),
        )

    def test_5_4_control_frames_between_fragments(self):
        start, end = sends(TEXT, "in ", fin=False), sends(CONTINUATION, "two")

        def between(act):
            def carried(raw):
                raw.carried += b"in two"
            return one_after_the_other(start, act, end, carried)

        self.established(
            Case("ping", between(sends(PING, "x")), "pong x", GOES_ON),
            Case("pong", between(sends(PONG, "x")), GOES_ON),
            Case("an empty ping", between(sends(PING)), "pong", GOES_ON),
            Case("Close, which cuts the message off", one_after_the_other(start, sends(CLOSE, closing(1000))),
                 "close 1000", CLOSED, plain="reset"),
        )

    def test_5_4_what_is_no_fragment(self):
        begun = sends(BINARY, b"begun", fin=False)
        self.established(
            Case("a continuation of nothing", sends(CONTINUATION, b"x"), *REFUSED),
            Case("an empty one", sends(CONTINUATION), *REFUSED),
            Case("one that goes on", sends(CONTINUATION, b"x", fin=False), *REFUSED),
            Case("behind a message", one_after_the_other(sends(TEXT, "x"), sends(CONTINUATION, b"x")), *REFUSED),
            Case("behind the last one", one_after_the_other(begun, sends(CONTINUATION, b"x"), sends(CONTINUATION)),
                 *REFUSED),
            Case("behind a ping", one_after_the_other(sends(PONG, "x"), sends(CONTINUATION, b"x")), *REFUSED),
        )

    def test_5_4_a_message_inside_another(self):
        begun = sends(BINARY, b"begun", fin=False)
        self.established(
            Case("binary", one_after_the_other(begun, sends(BINARY, b"x")), *REFUSED),
            Case("text", one_after_the_other(begun, sends(TEXT, b"x")), *REFUSED),
            Case("in fragments", one_after_the_other(begun, sends(TEXT, b"x", fin=False)), *REFUSED),
            Case("empty", one_after_the_other(begun, sends(BINARY)), *REFUSED),
            Case("later", one_after_the_other(begun, sends(CONTINUATION, b"x", fin=False), sends(BINARY)), *REFUSED),
            Case("behind a ping", one_after_the_other(begun, sends(PONG), sends(BINARY)), *REFUSED),
        )

    def test_5_4_fragments_of_control_frames(self):
        self.established(*[
            Case(OPCODES[opcode], sends(opcode, payload, fin=False), *REFUSED)
            for opcode, payload in ((PING, b"x"), (PING, b""), (PONG, b"x"), (CLOSE, closing(1000)))
        ])


class Control(Both):
    """5.5"""

    def test_5_5_payloads(self):
        self.established(
            Case("ping of 125 bytes", sends(PING, "p" * 125), "pong " + "p" * 125, GOES_ON),
            Case("pong of 125 bytes", sends(PONG, "p" * 125), GOES_ON),
            Case("ping of 126 bytes", sends(PING, "p" * 126), *REFUSED),
            Case("pong of 126 bytes", sends(PONG, "p" * 126), *REFUSED),
            Case("ping of 65536 bytes", sends(PING, bytes(65536)), *REFUSED),
            Case("Close of 126 bytes", sends(CLOSE, closing(1000, "r" * 124)), *REFUSED),
            Case("ping whose length is in 2 bytes", sends(PING, "p", length_bytes=2), *REFUSED,
                 websockets=["pong p", GOES_ON]),
        )

    def test_5_5_2_ping(self):
        self.established(
            Case("empty", sends(PING), "pong", GOES_ON),
            Case("with any bytes", sends(PING, bytes(range(256))[:125]),
                 "pong " + bytes(range(125)).decode("latin-1"), GOES_ON),
            Case("byte by byte", byte_by_byte(sends(PING, "slow")), "pong slow", GOES_ON),
        )

    def test_5_5_3_pings_in_a_row(self):
        """5.5.3: who has many to answer may answer the last one only. libwebsockets answers the first one, which
        does as well for peers that want to know whether somebody is there; those that count are told too little."""
        self.established(
            Case("deviation: ten at once", together(*[sends(PING, "%d" % i) for i in range(10)]), "pong 0", GOES_ON,
                 websockets=["pong %d" % i for i in range(10)] + [GOES_ON]),
        )

    def test_5_5_3_unasked_pongs(self):
        self.established(
            Case("empty", sends(PONG), GOES_ON),
            Case("with bytes", sends(PONG, "nobody asked"), GOES_ON),
            Case("many", sends(PONG, "nobody asked", times=1000), GOES_ON),
        )


def mirror(code):
    """TCP on the other side ends as it should, or, where the code tells of a failure, is reset."""
    plain = "end" if code in (1000, 1001) or code >= 3000 else "reset"
    return Case("%d" % code, sends(CLOSE, closing(code)), "close %d" % code, CLOSED, plain=plain)


class Closing(Both):
    """5.5.1, 7"""

    def test_5_5_1_codes(self):
        self.established(*[mirror(code) for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999,
                                                     4000, 4999)])

    def test_7_4_1_codes_registered_since(self):
        self.established(*[
            Case("deviation: %d" % code, sends(CLOSE, closing(code)), "close 1002", CLOSED, plain="reset",
                 websockets=["close %d" % code, CLOSED])
            for code in (1012, 1013, 1014)
        ])

    def test_7_4_invalid_codes(self):
        self.established(*[
            Case("%d" % code, sends(CLOSE, closing(code)), *REFUSED, plain="reset")
            for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999)
        ])

    def test_7_4_codes_above_all_ranges(self):
        self.established(*[Case("%d" % code, sends(CLOSE, closing(code)), *REFUSED, plain="reset")
                           for code in (5000, 65535)])

    def test_5_5_1_close_without_a_code(self):
        self.established(Case("empty", sends(CLOSE), "close", CLOSED, plain="end", websockets=["close", CLOSED]))

    def test_5_5_1_close_with_half_a_code(self):
        self.established(Case("one byte", sends(CLOSE, b"\x03"), *REFUSED))

    def test_5_5_1_reasons(self):
        longest = "r" * 123
        self.established(
            Case("a reason", sends(CLOSE, closing(1000, "bye")), "close 1000", CLOSED),
            Case("the longest", sends(CLOSE, closing(1000, longest)), "close 1000", CLOSED),
            Case("not ASCII", sends(CLOSE, closing(1001, "ä€𝄞")), "close 1001", CLOSED, plain="end"),
        )

    def test_5_5_1_reasons_are_utf_8(self):
        self.established(*[
            Case(repr(reason), sends(CLOSE, closing(1000, reason)), "close 1007", CLOSED, plain="reset")
            for reason in (b"\xff", b"\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"ok\xf4\x90\x80\x80")
        ])

    def test_5_5_1_nothing_counts_behind_close(self):
        close = sends(CLOSE, closing(1000))
        self.established(
            Case("data", together(close, sends(BINARY, b"too late")), "close 1000", CLOSED),
            Case("ping", together(close, sends(PING, "too late")), "close 1000", CLOSED),
            Case("Close", together(close, sends(CLOSE, closing(1001))), "close 1000", CLOSED),
            Case("rubbish", together(close, plainly(b"\xff" * 100)), "close 1000", CLOSED),
            Case("data before it", together(sends(BINARY, b"in time"), close), "close 1000", CLOSED,
                 plain="end after b'in time'"),
            Case("byte by byte", byte_by_byte(close), "close 1000", CLOSED),
        )

    def test_7_1_1_the_server_ends_tcp(self):
        """Both have said Close: the server is the first to end the connection, and waits for nothing else."""
        raw = Ours(self, True).connect()
        raw.finish()

    def test_7_1_7_an_error_ends_tcp(self):
        """Whether Close is answered or not."""
        for answers in (True, False):
            raw = Ours(self, True).connect()
            raw.send(3)
            self.assertEqual(raw.hear().split(" ")[:2], ["close", "1002"])
            if answers:
                raw.send_close(1002)
            raw.expect_end()

    def test_7_1_7_nothing_counts_behind_an_error(self):
        wrong = sends(3)
        self.established(
            Case("data", together(wrong, sends(BINARY, b"too late")), *REFUSED),
            Case("Close", together(wrong, sends(CLOSE, closing(1000))), *REFUSED),
            Case("data before it", together(sends(BINARY, b"in time"), wrong), *REFUSED),
        )


VALID = ["", "plain", "κόσμε", "\u0080", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\ufffd", "\ufffe", "\uffff",
         "\U00010000", "\U0001ffff", "\U0010ffff", "a\0b", "ﷺ𝄞é" * 1000]
INVALID = {
    "a continuation byte": b"\x80", "two": b"\xbf\x80", "FE": b"\xfe", "FF": b"\xff", "a lonely start": b"\xc3 ",
    "cut after 1 of 2": b"\xc3", "cut after 1 of 3": b"\xe2", "cut after 2 of 3": b"\xe2\x82",
    "cut after 1 of 4": b"\xf0", "cut after 2 of 4": b"\xf0\x9d", "cut after 3 of 4": b"\xf0\x9d\x84",
    "overlong /": b"\xc0\xaf", "overlong / in 3": b"\xe0\x80\xaf", "overlong / in 4": b"\xf0\x80\x80\xaf",
    "the most of overlong 2": b"\xc1\xbf", "the most of overlong 3": b"\xe0\x9f\xbf",
    "the most of overlong 4": b"\xf0\x8f\xbf\xbf", "overlong zero": b"\xc0\x80", "a surrogate": b"\xed\xa0\x80",
    "the last surrogate": b"\xed\xbf\xbf", "a pair": b"\xed\xa0\x80\xed\xb0\x80", "above 10FFFF": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80", "six bytes": b"\xfc\x84\x80\x80\x80\x80",
}


class Text(Both):
    """8.1"""

    def test_8_1_valid(self):
        self.established(*[Case(ascii(text)[:20], carries(TEXT, text), GOES_ON) for text in VALID])

    def test_8_1_valid_byte_by_byte(self):
        text = "κόσμε ﷺ𝄞é\U0010ffff"
        self.established(
            Case("segments", byte_by_byte(carries(TEXT, text)), GOES_ON),
            Case("fragments", carries(TEXT, text, *[1] * (len(text.encode()) - 1)), GOES_ON),
            Case("around a ping", one_after_the_other(
                sends(TEXT, b"\xe2\x82", fin=False), sends(PING), sends(CONTINUATION, b"\xac"),
                lambda raw: setattr(raw, "carried", "€".encode())), "pong", GOES_ON),
        )

    def test_8_1_invalid(self):
        self.established(*[
            Case(name, sends(TEXT, text), "close 1007", CLOSED) for name, text in INVALID.items()
        ])

    def test_8_1_invalid_in_pieces(self):
        self.established(
            Case("fragments", carries(TEXT, b"\xed\xa0\x80", 1, 1), "close 1007", CLOSED),
            Case("cut at the last of them", carries(TEXT, b"x\xe2\x82", 1, 1), "close 1007", CLOSED),
            Case("the rest of a character in the next message", together(
                sends(TEXT, b"\xe2\x82"), sends(TEXT, b"\xac")), "close 1007", CLOSED),
            Case("behind something long", sends(TEXT, b"x" * 100_000 + b"\xff"), "close 1007", CLOSED),
        )

    def test_8_1_binary_is_not_looked_at(self):
        self.established(*[Case(name, carries(BINARY, text), GOES_ON) for name, text in INVALID.items()])
