"""What scenario tests are made of: the real program, and peers that do as they are told.

A test waits for what it expects (a log line, bytes, an end), never for a time; everything that waits gives up after
PATIENCE seconds. When a test fails, the logs of the processes that it ran are printed below its traceback.

    class Echo(Scenario):
        def test_says_it_back(self):
            proxy = self.connpipe('[t]\ntype = "table"\n[t.routes]\n"tcp:$4:0" = "echo:"\n')
            client = self.client(proxy.port())
            client.send(b"hello")
            client.expect(b"hello")
"""

import contextlib
import fcntl
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import termios
import threading
import time
import unittest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.path.abspath(os.environ.get("CONNPIPE") or os.path.join(TOP, "build", "connpipe"))
if not os.access(PROGRAM, os.X_OK):
    raise SystemExit("there is no program %s: build it, or say where it is by $CONNPIPE" % PROGRAM)
PATIENCE = float(os.environ.get("CONNPIPE_TEST_PATIENCE", "20"))
MAGIC = bytes.fromhex("893d1d4e4e4fc6862d1e10010d0a690a")


def preamble(name, length=None):
    """The preamble for subport `name`; `length` replaces the encoded length."""
    name = name.encode() if isinstance(name, str) else name
    if length is None:
        rest, length = len(name), b""
        while rest >= 0x80:
            length += bytes([rest & 0x7F | 0x80])
            rest >>= 7
        length += bytes([rest])
    return MAGIC + length + name


def client_hello(name=None, protocols=(), record=16384):
    """A TLS ClientHello (RFC 8446 section 4.1.2) with this server name and these protocols, in records of at most so
    many bytes."""

    def part(data, length_bytes):
        return len(data).to_bytes(length_bytes, "big") + data

    extensions = b""
    if name:
        extensions += b"\0\0" + part(part(b"\0" + part(name.encode(), 2), 2), 2)
    if protocols:
        extensions += b"\0\x10" + part(part(b"".join(part(p.encode(), 1) for p in protocols), 2), 2)
    body = b"\3\3" + bytes(32) + b"\0" + part(b"\x13\1", 2) + b"\1\0" + part(extensions, 2)
    message = b"\1" + part(body, 3)
    return b"".join(b"\x16\3\1" + part(message[i:i + record], 2) for i in range(0, len(message), record))


def table(routes, process="", timeouts="", limits=""):
    """Text of a configuration with one table `t` of `routes` (a dict: address to target or list of targets)."""
    text = "[connpipe]\n" + process + "\n"
    if timeouts:
        text += "timeouts = { %s }\n" % timeouts
    if limits:
        text += "limits = { %s }\n" % limits
    text += '[t]\ntype = "table"\n[t.routes]\n'
    return text + "".join("%s = %s\n" % (json.dumps(key), json.dumps(to)) for key, to in routes.items())


def until(condition):
    """Wait until `condition()` is true, for what cannot be waited for otherwise (a file, a counter)."""
    deadline = time.monotonic() + PATIENCE
    while not (result := condition()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.002)
    return result


def ports_to_give():
    """Port numbers in random order, each once, that the kernel does not give by itself to a socket that connects or is
    bound to port 0: one of those could be another server's, or a connection's own, before it is bound by its number."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as setting:
        first_given = int(setting.read().split()[0])
    numbers = range(10000, first_given) or range(10000, 65536)  # none are left on machines set up for many connections
    yield from random.SystemRandom().sample(numbers, len(numbers))


PORTS = ports_to_give()


def free_port(host="127.0.0.1"):
    """A port on which nothing listens, and which nobody gets who does not ask for this number. Never the same twice."""
    for port in PORTS:
        mark = socket.socket(socket.AF_UNIX)
        with socket.socket() as probe, contextlib.suppress(OSError):
            mark.bind("\0connpipe-test-port-%d" % port)
            probe.bind((host, port))
            mark.detach()  # bound as long as this process lives: so other test runs on this machine know
            return port
        mark.close()
    raise AssertionError("there is no port left")


class Peer:
    """One end of a TCP connection, or of a unix one."""

    def __init__(self, sock):
        self.socket = sock
        self.socket.settimeout(PATIENCE)

    @classmethod
    def connect(cls, port, host="127.0.0.1", receive_buffer=None, source=None):
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source:
            sock.bind((source, 0))
        sock.settimeout(PATIENCE)
        sock.connect((host, port))
        return cls(sock)

    def send(self, data):
        self.socket.sendall(data)

    def send_pieces(self, data, cuts):
        """Send `data` in segments that end at `cuts`; each is acknowledged before the next is sent."""
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for begin, end in zip([0, *cuts], [*cuts, len(data)]):
            self.socket.sendall(data[begin:end])
            self.wait_sent()

    def wait_sent(self):
        """Wait until the other kernel has acknowledged everything."""
        until(lambda: struct.unpack("i", fcntl.ioctl(self.socket, termios.TIOCOUTQ, bytes(4)))[0] == 0)

    def receive(self, most=65536):
        return self.socket.recv(most)

    def expect(self, data):
        """Exactly these bytes come next."""
        got = b""
        while len(got) < len(data):
            piece = self.socket.recv(len(data) - len(got))
            assert piece, "end of file after %r, expected %r" % (got[-80:], data[:80])
            got += piece
        assert got == data, "got %r, expected %r" % (got[:80], data[:80])

    def expect_end(self):
        """The end of file comes next."""
        got = self.socket.recv(1)
        assert got == b"", "got %r, expected the end of file" % got

    def expect_reset(self):
        """A reset comes next."""
        try:
            got = self.socket.recv(1)
        except ConnectionResetError:
            return
        raise AssertionError("got %s, expected a reset" % (repr(got) if got else "an end of file"))

    def expect_closed(self):
        """An end of file or a reset comes next: refused connections may end either way."""
        with contextlib.suppress(ConnectionResetError):
            got = self.socket.recv(1)
            assert got == b"", "got %r, expected the connection to be closed" % got

    def receive_all(self):
        """Everything up to the end of file."""
        pieces = []
        while piece := self.socket.recv(1 << 20):
            pieces.append(piece)
        return b"".join(pieces)

    def receive_until_reset(self):
        """Everything up to a reset; an end of file is a failure."""
        got = bytearray()
        while True:
            try:
                piece = self.socket.recv(1 << 20)
            except ConnectionResetError:
                return bytes(got)
            assert piece, "end of file after %d bytes, expected a reset" % len(got)
            got += piece

    def expect_silence(self, seconds):
        """Nothing comes. The one wait for a time: only where nothing is what must happen."""
        self.socket.settimeout(seconds)
        try:
            got = self.socket.recv(1)
            raise AssertionError("got %r, expected nothing" % got)
        except TimeoutError:
            pass
        finally:
            self.socket.settimeout(PATIENCE)

    def shutdown(self):
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self):
        self.socket.close()


class Server:
    """A listening socket whose connections the test takes by hand."""

    def __init__(self, port=0, host="127.0.0.1", receive_buffer=None):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.bind((host, port))
        self.socket.listen(64)
        self.socket.settimeout(PATIENCE)
        self.port = self.socket.getsockname()[1]
        self.address = "tcp:%s:%d" % (host, self.port)

    def accept(self):
        return Peer(self.socket.accept()[0])

    def close(self):
        self.socket.close()


class Process:
    """A running program whose stderr is read line by line."""

    def __init__(self, arguments, **options):
        self.lines = []
        self.changed = threading.Condition()
        self.ended = False
        self.arguments = arguments
        self.process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, **options)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stderr:
            with self.changed:
                self.lines.append(line.decode(errors="replace").rstrip("\n"))
                self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def log(self):
        with self.changed:
            return "\n".join(self.lines)

    def wait_log(self, pattern, count=1):
        """Wait for the `count`-th line that matches. Returns the match."""
        deadline = time.monotonic() + PATIENCE
        at = found = 0
        while True:
            with self.changed:
                while at == len(self.lines):
                    assert not self.ended, "the process ended without a log line that matches %r" % pattern
                    left = deadline - time.monotonic()
                    assert left > 0, "no log line matches %r" % pattern
                    self.changed.wait(left)
                line = self.lines[at]
            at += 1
            match = re.search(pattern, line)
            if match:
                found += 1
                if found == count:
                    return match

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self):
        """Wait for the end. Returns the exit code."""
        code = self.process.wait(PATIENCE)
        self.reader.join(PATIENCE)
        return code

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.reader.join(PATIENCE)
        self.process.stderr.close()


class Connpipe(Process):
    """`connpipe run` in a directory of its own."""

    def __init__(self, config, directory, files=(), descriptors=None, environment=None):
        self.directory = directory
        self.generation = 0
        for name, text in dict(files).items():
            path = os.path.join(directory, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        self.configure(config)

        def limit():
            if descriptors:
                resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

        super().__init__([PROGRAM, "--config", directory], preexec_fn=limit, env={**os.environ, **(environment or {})})

    def configure(self, text):
        with open(os.path.join(self.directory, "config.toml"), "w", encoding="utf-8") as file:
            file.write(text)

    def wait_generation(self):
        """Wait until the next generation is in use."""
        self.generation += 1
        self.wait_log(r"generation \d+ is in use", self.generation)

    def ask(self, command, **members):
        """Send a command to the control socket. Returns the answer as a dict."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE)
            # A temporary directory may be too deep for the 107 bytes of a unix address.
            directory = os.open(os.path.join(self.directory, "run"), os.O_RDONLY)
            try:
                sock.connect("/proc/self/fd/%d/admin.sock" % directory)
            finally:
                os.close(directory)
            sock.sendall(json.dumps({"command": command, **members}).encode() + b"\n")
            answer = b""
            while not answer.endswith(b"\n"):
                piece = sock.recv(65536)
                assert piece, "the control socket was closed after %r" % answer[-80:]
                answer += piece
        return json.loads(answer)

    def port(self, host="127.0.0.1"):
        """The port that is bound on `host`; where there are several, that of the first one in the status."""
        for listener in self.ask("status")["listeners"]:
            match = re.search(r"tcp:%s:(\d+)$" % re.escape(host), listener["bound"])
            if match:
                return int(match[1])
        raise AssertionError("nothing is bound on %s" % host)

    def counter(self, name):
        return self.ask("status")["counters"].get(name, 0)

    def wait_closed(self, count=1):
        """Wait for the line that a pipe logs when it closes. Returns its text and its cause."""
        match = self.wait_log(r"pipe/\d+\] closed: (.*)$", count)
        return match[1]


def give_up(_number, _frame):
    raise TimeoutError("the test took far longer than CONNPIPE_TEST_PATIENCE")


class Scenario(unittest.TestCase):
    """Base of all tests: cleans up what it made, and shows logs of a failure."""

    maxDiff = None

    def run(self, result=None):
        self.processes = []
        result = result if result is not None else self.defaultTestResult()
        known = {id(entry) for entry in result.failures + result.errors}
        # What waits without giving up (a read from a pipe) is ended by this.
        signal.signal(signal.SIGALRM, give_up)
        signal.alarm(int(PATIENCE * (40 if os.environ.get("CONNPIPE_TEST_LONG") else 4)))
        try:
            super().run(result)
        finally:
            signal.alarm(0)
        logs = "\n".join("--- %s\n%s" % (" ".join(p.arguments), p.log()) for p in self.processes)
        for entries in (result.failures, result.errors):
            for i, entry in enumerate(entries):
                if id(entry) not in known and logs:
                    entries[i] = (entry[0], entry[1] + "\n" + logs + "\n")
        return result

    def directory(self):
        path = tempfile.mkdtemp(prefix="connpipe-")
        self.addCleanup(shutil.rmtree, path, ignore_errors=True)
        return path

    def keep(self, thing, end):
        self.addCleanup(end)
        return thing

    def connpipe(self, config, wait=True, **options):
        process = Connpipe(config, self.directory(), **options)
        self.processes.append(process)  # before it can fail: its log tells why
        self.keep(process, process.stop)
        if wait:
            process.wait_generation()
        return process

    def program(self, *words, **options):
        """Run connpipe with `words` to its end. Returns subprocess.CompletedProcess with text (or bytes)."""
        options.setdefault("text", True)
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        if not {"stdout", "stderr"} & set(options):
            options["capture_output"] = True
        return subprocess.run([PROGRAM, *words], timeout=PATIENCE, check=False, **options)

    def server(self, **options):
        server = Server(**options)
        return self.keep(server, server.close)

    def client(self, port, **options):
        peer = Peer.connect(port, **options)
        return self.keep(peer, peer.close)

    def refused(self, port, **options):
        """A client that connects to `port` is closed at once: while it connects, or right behind that."""
        with contextlib.suppress(ConnectionResetError):
            self.client(port, **options).expect_closed()

    def accept(self, server):
        peer = server.accept()
        return self.keep(peer, peer.close)

    def pair(self, process="", timeouts="", limits="", server=None):
        """A proxy in front of a server: (proxy, server, client, target), connected through."""
        server = server or self.server()
        proxy = self.connpipe(table({"tcp:$4:0": server.address}, process, timeouts, limits))
        client = self.client(proxy.port())
        target = self.accept(server)
        proxy.wait_log("opened:")  # the kernel accepts for the target before the proxy knows
        return proxy, server, client, target


SIGHUP, SIGTERM, SIGINT = signal.SIGHUP, signal.SIGTERM, signal.SIGINT
