"""TLS ends for scenario tests: certificates made on the spot, and peers that do each step as they are told."""

import datetime
import ipaddress
import os
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


def now():
    return datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)


def subject_of(name):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def alternative(name):
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class Authority:
    """Signs certificates, whose files are in `directory`: NAME.pem has the certificate, its chain and its key."""

    def __init__(self, directory, name="authority"):
        self.directory = directory
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self.build(name, self.key.public_key(), []).add_extension(
            x509.BasicConstraints(True, None), True).sign(self.key, hashes.SHA256())
        self.path = self.write(name + ".pem", self.pem(self.certificate))

    @staticmethod
    def pem(certificate):
        return certificate.public_bytes(serialization.Encoding.PEM)

    def write(self, name, data):
        path = os.path.join(self.directory, name)
        with open(path, "wb") as file:
            file.write(data)
        return path

    def build(self, subject, public_key, names, days=10):
        issuer = self.certificate.subject if hasattr(self, "certificate") else subject_of(subject)
        builder = x509.CertificateBuilder(issuer, subject_of(subject), public_key, x509.random_serial_number(),
                                          now() - 20 * DAY, now() + days * DAY)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([alternative(name) for name in names]), False)
        return builder

    def make(self, name, names=(), kind="ec", days=10, subject=None):
        """A certificate in NAME.pem. Returns the path; `self.last` is the certificate."""
        key = ec.generate_private_key(ec.SECP256R1()) if kind == "ec" else rsa.generate_private_key(65537, 2048)
        self.last = self.build(subject or name, key.public_key(), list(names), days).sign(self.key, hashes.SHA256())
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                    serialization.NoEncryption())
        return self.write(name + ".pem", self.pem(self.last) + self.pem(self.certificate) + private)

    def ocsp_response(self, certificate, name, ends=DAY):
        """The file of a response that says that `certificate` is good, for so long."""
        response = ocsp.OCSPResponseBuilder().add_response(
            certificate, self.certificate, hashes.SHA1(), ocsp.OCSPCertStatus.GOOD, now() - DAY, now() + ends, None,
            None).responder_id(ocsp.OCSPResponderEncoding.HASH, self.certificate).sign(self.key, hashes.SHA256())
        return self.write(name, response.public_bytes(serialization.Encoding.DER))


def client_context(authority=None, certificate=None, version=None, alpn=()):
    """`authority`: a path; None: nothing is verified."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = authority is not None
    context.verify_mode = ssl.CERT_REQUIRED if authority else ssl.CERT_NONE
    if authority:
        context.load_verify_locations(authority)
    if certificate:
        context.load_cert_chain(certificate)
    if version:
        context.minimum_version = context.maximum_version = version
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def server_context(certificate, authority=None, alpn=()):
    """`authority`: clients have to show a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    if authority:
        context.load_verify_locations(authority)
        context.verify_mode = ssl.CERT_REQUIRED
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


class TlsPeer:
    """TLS over a harness.Peer, whose halves end one by one."""

    def __init__(self, peer, context, name=None, server=False, session=None):
        self.peer = peer
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server, name, session)

    def flush(self):
        if self.outgoing.pending:
            self.peer.send(self.outgoing.read())

    def step(self, call, *arguments):
        """Do it, with as much of the wire as it takes."""
        while True:
            try:
                result = call(*arguments)
                self.flush()
                return result
            except ssl.SSLWantReadError:
                self.flush()
                data = self.peer.receive()
                self.incoming.write(data) if data else self.incoming.write_eof()
            except ssl.SSLError:
                self.flush()
                raise

    def handshake(self):
        self.step(self.tls.do_handshake)
        return self

    def send(self, data):
        for at in range(0, len(data), 65536):
            self.tls.write(data[at:at + 65536])
            self.flush()

    def receive(self, most=65536):
        """Bytes; none: close_notify."""
        try:
            return self.step(self.tls.read, most)
        except ssl.SSLZeroReturnError:
            return b""

    def expect(self, data):
        got = b""
        while len(got) < len(data):
            piece = self.receive(len(data) - len(got))
            assert piece, "close_notify after %r, expected %r" % (got[-80:], data[:80])
            got += piece
        assert got == data, "got %r, expected %r" % (got[:80], data[:80])

    def receive_all(self):
        pieces = []
        while piece := self.receive(1 << 20):
            pieces.append(piece)
        return b"".join(pieces)

    def expect_end(self):
        got = self.receive()
        assert got == b"", "got %r, expected close_notify" % got

    def shutdown(self):
        """close_notify; reading goes on."""
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        self.flush()

    def close(self):
        self.peer.close()

    @property
    def session(self):
        return self.tls.session

    def names(self):
        """Of the certificate that the peer has shown, with verification on."""
        return [value for _, value in self.tls.getpeercert().get("subjectAltName", ())]
