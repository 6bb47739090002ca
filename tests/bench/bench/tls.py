"""TLS: what clients ask for, and the certificates that all proxies have.

Proxies speak 1.2 and 1.3 with one cipher for each kind of certificate, X25519, and tickets; a load's clients choose the
version, and refuse everything but what they asked for (load_wire.c)."""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass

from . import system

GROUP = "X25519"
SUITE = "TLS_AES_128_GCM_SHA256"
CIPHERS = {"ecdsa": "ECDHE-ECDSA-AES128-GCM-SHA256", "rsa": "ECDHE-RSA-AES128-GCM-SHA256"}
# OpenSSL's own settings, for the programs that have none for it: one ticket for each handshake, as connpipe gives.
OPENSSL_CONF = """openssl_conf = main
[main]
ssl_conf = ssl
[ssl]
system_default = tls
[tls]
NumTickets = 1
"""
KEYS = {"ecdsa": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"], "rsa": ["-newkey", "rsa:2048"]}


@dataclass(frozen=True)
class Tls:
    """What the clients of a load speak, and the kind of certificate they get."""

    version: str = "1.3"
    key: str = "ecdsa"
    resume: bool = False

    def words(self, certificate):
        """For `load`."""
        cipher = SUITE if self.version == "1.3" else CIPHERS[self.key]
        words = ["-T", self.version, "-C", cipher, "-A", certificate.path]
        return words + (["-R"] if self.resume else [])


@dataclass(frozen=True)
class Certificate:
    """Files: the certificate, its key, and both in one. `cipher` is that of TLS 1.2."""

    path: str
    key: str
    both: str
    cipher: str


class Certificates:
    """Made when they are asked for first. A context."""

    def __init__(self):
        self.directory = None
        self.made = {}

    def __enter__(self):
        self.directory = tempfile.mkdtemp(prefix="connpipe-bench-")
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.directory, ignore_errors=True)

    def get(self, kind):
        if kind not in self.made:
            self.made[kind] = self.make(kind)
        return self.made[kind]

    def make(self, kind):
        path, key, both = (os.path.join(self.directory, kind + ending) for ending in (".pem", ".key", ".all"))
        names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
        words = ["openssl", "req", "-x509", "-nodes", "-days", "30", *KEYS[kind], *names, "-out", path, "-keyout", key]
        result = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if result.returncode:
            raise system.Failure("openssl made no certificate: %s" % result.stderr.strip())
        with open(both, "w", encoding="ascii") as file:
            for part in (path, key):
                with open(part, encoding="ascii") as text:
                    file.write(text.read())
        return Certificate(path, key, both, CIPHERS[kind])


def missing():
    return None if shutil.which("openssl") else "there is no openssl: install it (apt-get install openssl)"


def check(load, results):
    """That handshakes were of the kind that the load is about, each of them. `load` itself has looked, but did it look
    for the right thing? And that all proxies do the same work: a ticket for each, but none to resume 1.2."""
    counts = {what: sum(result[what] for result in results) for what in ("ok", "full", "resumed", "tickets")}
    wanted, unwanted = ("resumed", "full") if load.tls.resume else ("full", "resumed")
    if counts[unwanted] or counts[wanted] < counts["ok"]:
        raise system.Failure("%(full)d full handshakes, %(resumed)d resumed, %(ok)d connections" % counts)
    tickets = 0 if load.tls.resume and load.tls.version == "1.2" else counts[wanted]
    if counts["tickets"] != tickets:
        raise system.Failure("%d tickets in %d handshakes" % (counts["tickets"], counts[wanted]))
