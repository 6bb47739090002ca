"""The bench: that it runs and measures everything, notices what is wrong, and leaves nothing behind. How fast
something is, is not tested here."""

import contextlib
import json
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading

from .harness import PATIENCE, PROGRAM, TOP, Scenario, until
from .tls_raw import certificate

TOOLS = os.path.join(os.path.dirname(PROGRAM), "tests")
LOAD = os.path.join(TOOLS, "load")
RUN = os.path.join(TOP, "tests", "bench", "run")
KINDS = ("refused", "reset", "cut_short", "wrong_bytes", "wrong_tls", "wrong_ws", "other")
LOADS = ["pingpong-50", "pingpong-50-2w", "up-4", "down-4", "beside", "idle", "connect-50"]


def descendants(pid):
    """Processes below this one."""
    found = []
    for task in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/children" % (pid, task), encoding="ascii") as children:
            for child in map(int, children.read().split()):
                found += [child, *descendants(child)]
    return found


class Run(Scenario):
    def bench(self, *words, **environment):
        process = subprocess.Popen(
            [sys.executable, RUN, *words],
            env={**os.environ, "CONNPIPE": PROGRAM, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Who runs the tests in the background may have had it ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.terminate)
        return process

    def test_every_figure(self):
        path = os.path.join(self.directory(), "result.json")
        words = ["--quick", "--rounds", "1", "--seconds", "0.2", "--with", "connpipe,floor", "--json", path]
        process = self.bench(*words, "--only", ",".join(LOADS))
        out, err = process.communicate(timeout=PATIENCE * 3)
        self.assertEqual(process.returncode, 0, out + err)
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
        self.assertEqual(list(found["results"]), list(found["rounds"]))
        self.assertEqual(sorted(found["results"]), sorted(LOADS))
        for load, result in found["results"].items():
            self.assertEqual(result["failed"], {}, load)
            names = {"connpipe", "floor"} | ({"connpipe!"} if load in ("pingpong-50", "connect-50") else set())
            self.assertEqual(set(result["median"]), names, load)
            self.figures(load, result)
            self.assertIn("| %s " % load, out)
        self.assertEqual(found["environment"]["rounds"], 1)

    def test_every_figure_of_tls(self):
        path = os.path.join(self.directory(), "result.json")
        loads = ["tls-pingpong-50", "tls-up-4", "tls-down-4", "tls-idle", "tls-ecdsa", "tls-rsa", "tls-resumed",
                 "tls12-ecdsa", "tls12-resumed"]
        words = ["--quick", "--rounds", "1", "--seconds", "0.1", "--with", "connpipe", "--json", path]
        process = self.bench(*words, "--only", ",".join(loads))
        out, err = process.communicate(timeout=PATIENCE * 3)
        self.assertEqual(process.returncode, 0, out + err)
        with open(path, encoding="utf-8") as file:
            results = json.load(file)["results"]
        self.assertEqual(sorted(results), sorted(loads))
        for load, result in results.items():
            self.assertEqual((result["failed"], set(result["median"])), ({}, {"connpipe"}), load)
            self.assertTrue(all(value > 0 for value in result["median"]["connpipe"].values()), (load, result))

    def test_every_figure_of_udp_and_websockets(self):
        path = os.path.join(self.directory(), "result.json")
        loads = ["udp-pingpong-50", "udp-up-4", "udp-down-4", "ws-pingpong-50", "ws-64k-4", "ws-idle", "ws-connect-50"]
        words = ["--quick", "--rounds", "1", "--seconds", "0.1", "--with", "connpipe,floor", "--json", path]
        process = self.bench(*words, "--only", ",".join(loads))
        out, err = process.communicate(timeout=PATIENCE * 3)
        self.assertEqual(process.returncode, 0, out + err)
        with open(path, encoding="utf-8") as file:
            results = json.load(file)["results"]
        self.assertEqual(sorted(results), sorted(loads))
        for load, result in results.items():
            names = {"connpipe", "floor"} if load.startswith("udp") else {"connpipe"}
            self.assertEqual((result["failed"], set(result["median"])), ({}, names), load)
            for medians in result["median"].values():
                self.assertTrue(all(value > 0 for value in medians.values()), (load, result))

    def figures(self, load, result):
        """Every contender has those that the load promises, and none is nothing."""
        expected = {"idle": {"memory"}, "beside": {"rate"}}.get(load, {"cpu", "total", "rate"})
        if load.startswith(("pingpong", "connect", "beside")):
            expected |= {"p50_us", "p99_us", "p999_us"}
        for name, medians in result["median"].items():
            self.assertEqual(set(medians), expected, load)
            for figure, value in medians.items():
                self.assertGreater(value, 0, "%s of %s through %s" % (figure, load, name))
        for figure in expected:
            self.assertGreater(result["ratio"]["connpipe"]["floor"][figure]["median"], 0)

    def test_what_is_missing_is_named(self):
        process = self.bench("--with", "connpipe,haproxy", PATH="/nowhere")
        _, err = process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, 2)
        self.assertIn("apt-get install haproxy", err)
        self.assertIn("--with", err)

    def test_what_nobody_needs_may_be_missing(self):
        """Neither HAProxy, which takes no part in this load, nor websockify, which is optional."""
        words = ["--only", "udp-pingpong-1", "--with", "connpipe,haproxy,websockify"]
        process = self.bench(*words, "--rounds", "1", "--seconds", "0.05", PATH="/nowhere")
        out, err = process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, 0, out + err)
        self.assertNotIn("haproxy", out + err)

    def test_nobody_for_it(self):
        process = self.bench("--only", "tls-ecdsa", "--with", "floor")
        _, err = process.communicate(timeout=PATIENCE)
        self.assertEqual((process.returncode, "none of these proxies" in err), (2, True), err)

    def test_a_wrong_name(self):
        process = self.bench("--only", "pongping")
        _, err = process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, 2)
        self.assertIn("pingpong-1", err)

    def test_interrupting_leaves_nothing(self):
        process = self.bench("--only", "pingpong-50", "--with", "connpipe", "--seconds", "60")
        names = {"load", os.path.basename(PROGRAM)[:15]}  # what the kernel keeps of it

        def all_run():
            found = {}
            for pid in descendants(process.pid):
                with open("/proc/%d/comm" % pid, encoding="ascii") as comm:
                    found.setdefault(comm.read().strip(), []).append(pid)
            return found if names <= set(found) and len(found["load"]) == 4 else None  # three servers, one client

        def look():
            try:
                return all_run()
            except (FileNotFoundError, ProcessLookupError):  # ended meanwhile
                return None

        running = until(look)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, 130)
        # One that was just being started is ended by the kernel, a moment after us.
        until(lambda: not any(os.path.exists("/proc/%d" % pid) for pid in sum(running.values(), [])))


class Middle:
    """A relay that is wrong: `spoil(direction, position, bytes)` gives the bytes to pass on, or None to end both."""

    def __init__(self, target, spoil):
        self.target, self.spoil = target, spoil
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.threads = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        try:
            while True:
                client = self.listener.accept()[0]
                target = socket.create_connection(("127.0.0.1", self.target))
                for direction, (a, b) in enumerate(((client, target), (target, client))):
                    threading.Thread(target=self.copy, args=(direction, a, b), daemon=True).start()
        except OSError:
            return

    def copy(self, direction, a, b):
        position = 0
        try:
            while piece := a.recv(65536):
                passed = self.spoil(direction, position, piece)
                position += len(piece)
                if passed is None:
                    raise ConnectionAbortedError
                b.sendall(passed)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            for end in (a, b):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class MiddleOfDatagrams:
    """A relay of datagrams that is wrong: `spoil(direction, count, bytes)` gives a list of those to pass on."""

    def __init__(self, target, spoil):
        self.target, self.spoil = target, spoil
        self.counts = [0, 0]
        self.listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.listener.bind(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.stop, self.stopped = os.pipe()
        self.flows = {}
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while self.stop not in (ready := select.select([self.stop, self.listener, *self.flows.values()], [], [])[0]):
            for sock in ready:
                with contextlib.suppress(ConnectionRefusedError):
                    self.pass_on(sock)

    def pass_on(self, sock):
        piece, peer = sock.recvfrom(65536)
        direction = int(sock is not self.listener)
        passed = self.spoil(direction, self.counts[direction], piece)
        self.counts[direction] += 1
        for each in passed:
            if direction:
                self.listener.sendto(each, next(peer for peer, flow in self.flows.items() if flow is sock))
            else:
                self.flow(peer).send(each)

    def flow(self, peer):
        if peer not in self.flows:
            self.flows[peer] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.flows[peer].connect(("127.0.0.1", self.target))
        return self.flows[peer]

    def close(self):
        os.close(self.stopped)
        self.thread.join()
        os.close(self.stop)
        for sock in (self.listener, *self.flows.values()):
            sock.close()


class Through(Scenario):
    """A client and a server of `load`, and a relay between them."""

    middle = Middle

    def through(self, server, client, spoil=lambda direction, position, piece: piece):
        target = subprocess.Popen([LOAD, *server], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(target.stdout.close)
        self.addCleanup(target.wait)
        self.addCleanup(target.stdin.close)
        middle = self.middle(int(target.stdout.readline()), spoil)
        self.addCleanup(middle.close)
        words = [LOAD, client[0], str(middle.port), *client[1:], "-t", "0.1"]
        # Its stdin stays open: the end of it would end the load.
        reader, writer = os.pipe()
        self.addCleanup(os.close, writer)
        with os.fdopen(reader) as nothing:
            options = {"capture_output": True, "text": True, "timeout": PATIENCE, "check": False}
            result = subprocess.run(words, stdin=nothing, **options)
        return result.returncode, json.loads(result.stdout.splitlines()[-1])


class Notices(Through):
    """The load generator tells wrong relays from right ones."""

    def test_a_right_one(self):
        for server, client in (
            (["echo"], ["kept", "-c", "3"]),
            (["echo"], ["churn", "-c", "3"]),
            (["echo", "-e"], ["churn", "-e", "-c", "3"]),
            (["bulk"], ["up", "-c", "3"]),
            (["bulk"], ["down", "-c", "3"]),
        ):
            code, result = self.through(server, client)
            self.assertEqual(code, 0, (client, result))
            self.assertGreater(result["ok"], 0)

    def test_a_changed_byte(self):
        def change(direction, position, piece):
            return piece if direction == 0 or position == 0 else bytes([piece[0] ^ 1]) + piece[1:]

        for server, client in ((["echo"], ["kept"]), (["bulk"], ["down"])):
            code, result = self.through(server, client, change)
            self.assertEqual((code, result["wrong_bytes"] > 0), (1, True), (client, result))

    def test_an_answer_twice(self):
        code, result = self.through(["echo"], ["kept"], lambda direction, _, piece: piece * (1 + direction))
        self.assertEqual((code, result["wrong_bytes"] > 0), (1, True), result)

    def test_lost_bulk_data(self):
        """A piece of 64 KiB, as buffers and pages lose them, on its way either way."""
        lost = [False, False]

        def lose(direction, position, piece):
            if position < 262144 or lost[direction]:
                return piece
            lost[direction] = len(piece) == 65536
            return b"" if lost[direction] else piece

        for mode, kinds in (("down", ("wrong_bytes",)), ("up", ("reset", "cut_short"))):
            code, result = self.through(["bulk"], [mode], lose)
            self.assertTrue(any(lost), "nothing was lost: no test")
            self.assertEqual((code, any(result[kind] for kind in kinds)), (1, True), (mode, result))

    def test_an_end_too_soon(self):
        def end(direction, position, piece):
            return None if direction and position else piece

        for server, client in ((["echo"], ["kept"]), (["bulk"], ["down"])):
            code, result = self.through(server, client, end)
            self.assertEqual(code, 1, (client, result))
            self.assertGreater(result["cut_short"] + result["reset"], 0, (client, result))


class NoticesWebsockets(Through):
    """What is no websocket, or not as it has to be."""

    def spoiled(self, spoil, what, *client):
        code, result = self.through(["echo", "-w"], [*(client or ["kept"]), "-w"], spoil)
        self.assertEqual((code, result[what] > 0), (0 if what == "ok" else 1, True), result)
        return result

    @staticmethod
    def answers(old, new):
        """In what the server says, once."""
        done = []

        def spoil(direction, _, piece):
            if not direction or done or old not in piece:
                return piece
            done.append(True)
            return piece.replace(old, new, 1)

        return spoil

    def test_right_ones(self):
        for client in (["kept", "-c", "3"], ["kept", "-b", "65536"], ["churn", "-c", "3"]):
            result = self.spoiled(lambda direction, position, piece: piece, "ok", *client)
            self.assertEqual(sum(result[kind] for kind in KINDS), 0)

    def test_in_pieces(self):
        """Every byte by itself, and the header of a frame too."""

        class Slow(Middle):
            def copy(self, direction, a, b):
                b.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with contextlib.suppress(OSError):
                    while piece := a.recv(1):
                        b.sendall(piece)
                    b.shutdown(socket.SHUT_WR)

        self.middle = Slow
        self.spoiled(None, "ok")

    def test_wrong_handshakes(self):
        for old, new in (
            (b"101 Switching", b"200 Switching"),
            (b"Accept: ", b"Accept: A"),
            (b"Upgrade: websocket", b"Upgrade: websockets"),
            (b"Connection: Upgrade", b"Connection: Upgraded"),
            (b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"),
            (b"\r\n\r\n", b"\r\n\r\n\x82\x00"),
        ):
            self.spoiled(self.answers(old, new), "wrong_ws")

    def test_wrong_frames(self):
        for new in (b"\x81\x40", b"\x82\xc0", b"\xc2\x40", b"\x09\x40"):  # text, masked, reserved, half a ping
            self.spoiled(self.answers(b"\x82\x40", new), "wrong_ws")

    def test_a_ping_is_answered(self):
        pongs = []

        def spoil(direction, position, piece):
            if not direction and pongs == [None] and piece[:2] == b"\x8a\x82":
                pongs[0] = bytes(a ^ b for a, b in zip(piece[2:4], piece[6:8]))
                return piece[8:]
            if not direction or pongs or piece[:1] != b"\x82":
                return piece
            pongs.append(None)
            return b"\x89\x02hi" + piece

        self.spoiled(spoil, "ok")
        self.assertEqual(pongs, [b"hi"])

    def test_an_end_without_close(self):
        self.spoiled(lambda direction, position, piece: None if piece[:1] == b"\x88" else piece, "cut_short", "churn")


class NoticesOfDatagrams(Through):
    """Datagrams that are lost are counted; what is wrong with others is a failure."""

    middle = MiddleOfDatagrams

    def flow(self, mode, spoil, what, lost=0):
        server = "echo" if mode == "kept" else "bulk"
        code, result = self.through([server, "-u"], [mode, "-u"], spoil)
        self.assertEqual((code, result[what] > 0), (0 if what == "ok" else 1, True), result)
        self.assertEqual(result["lost"], lost, result)

    @staticmethod
    def once(direction, change):
        """Do it to a bulk datagram, or a message that is not the first one."""
        done = []

        def spoil(way, count, piece):
            if way != direction or count < 5 or done or len(piece) < 64:
                return [piece]
            done.append(True)
            return change(piece)

        return spoil

    def test_right_ones(self):
        for mode in ("kept", "up", "down"):
            self.flow(mode, lambda direction, count, piece: [piece], "ok")

    def test_lost(self):
        for mode, direction in (("kept", 0), ("kept", 1), ("up", 0), ("down", 1)):
            self.flow(mode, self.once(direction, lambda piece: []), "ok", lost=1)

    def test_lost_at_the_end_of_a_batch(self):
        """Nobody acknowledges, until somebody asks."""
        for mode, direction in (("up", 0), ("down", 1)):
            data = []

            def spoil(way, _, piece):
                if way == direction and len(piece) == 1400:
                    data.append(None)
                return [] if len(data) == 44 and len(piece) == 1400 else [piece]

            self.flow(mode, spoil, "ok", lost=1)

    def test_lost_words(self):
        """The first of each kind has to be said again."""
        for mode in ("up", "down"):
            seen = set()

            def spoil(direction, _, piece):
                new = len(piece) < 64 and (direction, piece[0]) not in seen
                seen.add((direction, piece[0]))
                return [] if new else [piece]

            self.flow(mode, spoil, "ok")
            self.assertGreater(len(seen), 4)

    def test_late(self):
        """An answer that comes behind that to the repeated message."""
        held = []

        def spoil(direction, count, piece):
            if not direction or count not in (5, 6):
                return [piece]
            held.append(piece)
            return [] if count == 5 else held

        self.flow("kept", spoil, "ok", lost=1)
        self.assertEqual(held[0], held[1])

    def test_changed(self):
        for mode, direction in (("kept", 0), ("kept", 1), ("up", 0), ("down", 1)):
            self.flow(mode, self.once(direction, lambda piece: [piece[:30] + bytes([piece[30] ^ 1]) + piece[31:]]),
                      "wrong_bytes")

    def test_another_length(self):
        for mode, direction in (("kept", 1), ("up", 0), ("down", 1)):
            self.flow(mode, self.once(direction, lambda piece: [piece[:-1]]), "wrong_bytes")

    def test_twice(self):
        for mode, direction in (("kept", 1), ("up", 0), ("down", 1)):
            self.flow(mode, self.once(direction, lambda piece: [piece, piece]), "wrong_bytes")


class NoticesTls(Scenario):
    """Handshakes that are not what was asked for, and ends that are cut short."""

    def load(self, *words, server, **settings):
        """Run `load` against `server(connection)` under TLS. Returns its exit code and result."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate())
        for name, value in settings.items():
            setattr(context, name, value)
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)

        def accept():
            while True:
                with contextlib.suppress(OSError):
                    sock = listener.accept()[0]
                    threading.Thread(target=serve, args=(sock,), daemon=True).start()
                    continue
                return

        def serve(sock):
            with contextlib.suppress(OSError), sock:
                server(context.wrap_socket(sock, server_side=True))

        threading.Thread(target=accept, daemon=True).start()
        self.addCleanup(listener.shutdown, socket.SHUT_RDWR)
        reader, writer = os.pipe()
        self.addCleanup(os.close, writer)
        command = [LOAD, words[0], str(listener.getsockname()[1]), "-t", "0.1", *words[1:]]
        with os.fdopen(reader) as nothing:
            options = {"capture_output": True, "text": True, "timeout": PATIENCE, "check": False}
            result = subprocess.run(command, stdin=nothing, **options)
        return result.returncode, json.loads(result.stdout.splitlines()[-1])

    @staticmethod
    def echo(connection):
        while data := connection.recv(65536):
            connection.sendall(data)
        connection.unwrap()

    @staticmethod
    def cuts(connection):
        """Answers, and ends without close_notify."""
        connection.sendall(connection.recv(65536))
        socket.socket(fileno=connection.detach()).close()

    def expect(self, found, what):
        code, result = found
        self.assertEqual((code, result[what] > 0), (0 if what in ("ok", "resumed") else 1, True), result)
        return result

    def test_right_ones(self):
        for version in ("1.3", "1.2"):
            found = self.expect(self.load("churn", "-T", version, server=self.echo), "ok")
            self.assertEqual((found["full"], found["resumed"]), (found["ok"], 0))
            found = self.expect(self.load("churn", "-T", version, "-R", server=self.echo), "resumed")
            self.assertEqual((found["resumed"], found["full"]), (found["ok"], 0))

    def test_not_resumed(self):
        """A server without tickets."""
        found = self.expect(self.load("churn", "-T", "1.3", "-R", server=self.echo, num_tickets=0), "wrong_tls")
        self.assertEqual(found["resumed"], 0)

    def test_another_version(self):
        context = {"maximum_version": ssl.TLSVersion.TLSv1_2}
        self.expect(self.load("churn", "-T", "1.3", server=self.echo, **context), "wrong_tls")

    def test_another_cipher(self):
        self.expect(self.load("churn", "-T", "1.2", "-C", "ECDHE-RSA-AES128-GCM-SHA256", server=self.echo), "wrong_tls")

    def test_another_certificate(self):
        other = certificate("elsewhere")[0]
        self.expect(self.load("churn", "-T", "1.3", "-A", other, server=self.echo), "wrong_tls")

    def test_cut_short(self):
        self.expect(self.load("churn", "-e", "-T", "1.3", server=self.cuts), "cut_short")
        self.expect(self.load("churn", "-e", "-S", "-T", "1.3", server=self.cuts), "ok")
