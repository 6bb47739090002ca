"""Targets behind TLS that do what they must not: what the client of connpipe sees, and what the target is told."""

import os

from .harness import Scenario, table
from .tls_raw import (
    ALERT, APPLICATION, CHANGE_CIPHER_SPEC, HANDSHAKE, HELLO_REQUEST, NEW_SESSION_TICKET, RECORD_MOST, Target, alert,
    certificate, client_hello, key_update, message, record,
)
from .tls_sides import (
    CANCELED, CLOSE_NOTIFY, FATAL, half_of_a_record, one_after_the_other, plain, sends, shuts_down, updates,
)

PROFILE = """[back]
type = "tls"
ca = "%s"
server_name = "localhost"
"""


class Targets(Scenario):
    def front(self, *targets, timeouts="", name="localhost"):
        """A proxy before targets that speak TLS; their certificate has to be that of `name`."""
        routes = {"tcp:$4:0": ["tls(back)+" + target.address for target in targets]}
        return self.connpipe(table(routes, timeouts=timeouts) + PROFILE % certificate(name)[0])

    def opened(self, proxy, server, version):
        """(client, target), connected through."""
        client = self.client(proxy.port())
        target = Target(self.accept(server), version)
        target.handshake()
        client.send(b"ping")
        self.assertEqual(target.hear(), "data ping")
        target.send(APPLICATION, b"pong")
        client.expect(b"pong")
        return client, target

    def each(self, version, cases, check):
        server = self.server()
        proxy = self.front(server)
        for name, act, *expected in cases:
            with self.subTest(name, version=version):
                client, target = self.opened(proxy, server, version)
                act(target)
                check(client, target, *expected)
                client.close()
                target.close()

    def resets(self, version, cases):
        """What is done ends in a reset of the client; the target is told this."""

        def check(client, target, *expected):
            client.expect_reset()
            self.assertEqual(self.to_the_end(target), list(expected))

        self.each(version, cases, check)

    def goes_on(self, version, cases):
        """What is done changes nothing for the client; the target hears this before the next bytes."""

        def check(client, target, *expected):
            client.send(b"more")
            self.assertEqual([target.hear() for _ in expected], list(expected))
            self.assertEqual(target.hear(), "data more")
            target.send(APPLICATION, b"back")
            client.expect(b"back")

        self.each(version, cases, check)

    def to_the_end(self, raw):
        seen = []
        while not (heard := raw.hear()).startswith(("end", "reset")):
            seen.append(heard)
        return seen


def damaged(raw):
    sealed = bytearray(raw.ours.seal(APPLICATION, b"damaged"))
    sealed[-1] ^= 1
    raw.send_bytes(sealed)


class Ends(Targets):
    def test_in_order(self):
        def check(client, target):
            client.expect_end()
            client.send(b"still heard")
            self.assertEqual(target.hear(), "data still heard")
            client.shutdown()
            self.assertEqual(target.hear(), "warning close_notify")

        for version in ("1.3", "1.2"):
            self.each(version, [
                ("close_notify", CLOSE_NOTIFY),
                ("and more", one_after_the_other(CLOSE_NOTIFY, sends(APPLICATION, b"too late"))),
                ("user_canceled before", one_after_the_other(CANCELED, CLOSE_NOTIFY)),
            ], check)

    def test_cut_short(self):
        for version in ("1.3", "1.2"):
            self.resets(version, [
                ("nothing", shuts_down, "fatal decode_error"),
                ("half a header", one_after_the_other(plain(b"\x17\x03"), shuts_down), "fatal decode_error"),
                ("half a record", one_after_the_other(half_of_a_record, shuts_down), "fatal decode_error"),
                ("a fatal alert", FATAL),
            ])

    def test_reset(self):
        for version in ("1.3", "1.2"):
            server = self.server()
            client, target = self.opened(self.front(server), server, version)
            half_of_a_record(target)
            target.peer.reset()
            client.expect_reset()

    def test_what_came_before_is_delivered(self):
        """In one segment with the end."""
        data = os.urandom(2 * RECORD_MOST)

        def sends_all(*last):
            def act(raw):
                sealed = b"".join(raw.ours.seal(APPLICATION, data[at : at + RECORD_MOST]) for at in (0, RECORD_MOST))
                raw.peer.send(sealed + b"".join(raw.ours.seal(kind, payload) for kind, payload in last))
                shuts_down(raw)

            return act

        def check(client, _, in_order):
            self.assertEqual(client.receive_all() if in_order else client.receive_until_reset(), data)

        for version in ("1.3", "1.2"):
            self.each(version, [
                ("in order", sends_all((ALERT, alert("close_notify", 1))), True),
                ("cut short", sends_all(), False),
                ("an alert", sends_all((ALERT, alert("internal_error"))), False),
            ], check)


class Records(Targets):
    def test_that_go_on(self):
        self.goes_on("1.3", [
            ("KeyUpdate", updates(False)),
            ("KeyUpdate, requested", updates(True), "key_update"),
            ("many of them", updates(*[False] * 30)),
            ("an empty record", sends(APPLICATION)),
            ("a ticket", sends(HANDSHAKE, ticket(b"x" * 100))),
            ("many tickets", sends(HANDSHAKE, ticket(b"x" * 1000), times=100)),
            ("user_canceled", CANCELED),
        ])
        self.goes_on("1.2", [
            ("an empty record", sends(APPLICATION)),
            ("user_canceled", CANCELED),
            ("HelloRequest", sends(HANDSHAKE, message(HELLO_REQUEST)), "warning no_renegotiation"),
        ])

    def test_floods(self):
        """What has to be answered each time: answers may be left out, but nothing else happens."""
        server = self.server()
        client, target = self.opened(self.front(server), server, "1.3")
        updates(*[True] * 1000)(target)
        client.send(b"more")
        answers = 0
        while (heard := target.hear()) == "key_update":
            answers += 1
        self.assertEqual(heard, "data more")
        self.assertIn(answers, range(1, 1001))
        target.send(APPLICATION, b"back")
        client.expect(b"back")

    def test_that_break_it(self):
        unexpected = "fatal unexpected_message"
        self.resets("1.3", [
            ("damaged", damaged, "fatal bad_record_mac"),
            ("1000 empty ones", sends(APPLICATION, times=1000), unexpected),
            ("too long", sends(APPLICATION, bytes(RECORD_MOST + 1)), "fatal record_overflow"),
            ("ClientHello", sends(HANDSHAKE, client_hello()), unexpected),
            ("HelloRequest", sends(HANDSHAKE, message(HELLO_REQUEST)), unexpected),
            ("CertificateRequest", sends(HANDSHAKE, message(13, b"\x00\x00\x00")), unexpected),
            ("a ticket that is none", sends(HANDSHAKE, message(NEW_SESSION_TICKET, b"x")), "fatal decode_error"),
            ("many alerts", sends(ALERT, alert("user_canceled", 1), times=40), unexpected),
            ("KeyUpdate and the old key", one_after_the_other(
                sends(HANDSHAKE, key_update()), sends(APPLICATION, b"x")), "fatal bad_record_mac"),
            ("in plain", plain(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "fatal protocol_version"),
        ])
        self.resets("1.2", [
            ("damaged", damaged, "fatal bad_record_mac"),
            ("a change of ciphers", sends(CHANGE_CIPHER_SPEC, b"\x01"), unexpected),
            ("ClientHello", sends(HANDSHAKE, client_hello("1.2")), unexpected),
        ])


def ticket(identity):
    """NewSessionTicket of TLS 1.3: lifetime, age_add, nonce, ticket, no extensions."""
    body = (3600).to_bytes(4, "big") + bytes(4) + b"\x01\x00" + len(identity).to_bytes(2, "big") + identity
    return message(NEW_SESSION_TICKET, body + bytes(2))


class Handshakes(Targets):
    """That fail: the client is refused, or gets to the next target."""

    def refused(self, act, told, logged, name="localhost", known="localhost", timeouts=""):
        """A target with the certificate of `name`, where that of `known` would be trusted, if it is for localhost."""
        server = self.server()
        proxy = self.front(server, timeouts=timeouts, name=known)
        client = self.client(proxy.port())
        target = Target(self.accept(server), name=name)
        act(target)
        client.expect_closed()
        self.assertEqual(self.to_the_end(target), told)
        proxy.wait_log("closed: .*" + logged)

    def handshake(self, raw):
        """Ours, up to the answer to our certificate."""
        raw.flight()
        raw.take()
        raw.peer.send(raw.flight())
        raw.theirs = None

    def test_alert(self):
        self.refused(plain(record(ALERT, alert("handshake_failure"))), ["message of type 1"],
                     "target_protocol: the target sent the alert \"handshake failure\"")

    def test_another_protocol(self):
        self.refused(plain(b"SSH-2.0-OpenSSH_9.2\r\n"), ["message of type 1"], "target_protocol: ")

    def test_end(self):
        self.refused(shuts_down, ["message of type 1", "fatal decode_error"],
                     "connect_failed: the target closed the connection in the handshake")

    def test_silence(self):
        self.refused(lambda raw: None, ["message of type 1"], "connect_timeout", timeouts='connect = "200ms"')

    def test_a_certificate_that_nobody_knows(self):
        self.refused(self.handshake, ["fatal unknown_ca"], "target_protocol: .*self-signed", name="elsewhere")

    def test_a_certificate_of_another(self):
        self.refused(self.handshake, ["fatal bad_certificate"], "target_protocol: .*localhost",
                     "elsewhere", "elsewhere")

    def test_the_next_target(self):
        bad, good = self.server(), self.server()
        proxy = self.front(bad, good)
        client = self.client(proxy.port())
        plain(record(ALERT, alert("internal_error")))(Target(self.accept(bad)))
        target = Target(self.accept(good))
        target.handshake()
        client.send(b"found it")
        self.assertEqual(target.hear(), "data found it")
