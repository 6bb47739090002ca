"""The bench: that it runs and measures everything, notices what is wrong, and leaves nothing behind. How fast
something is, is not tested here."""

import contextlib
import json
import os
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


class Notices(Scenario):
    """The load generator tells wrong relays from right ones."""

    def through(self, server, client, spoil=lambda direction, position, piece: piece):
        target = subprocess.Popen([LOAD, *server], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(target.stdout.close)
        self.addCleanup(target.wait)
        self.addCleanup(target.stdin.close)
        middle = Middle(int(target.stdout.readline()), spoil)
        self.addCleanup(middle.close)
        words = [LOAD, client[0], str(middle.port), *client[1:], "-t", "0.1"]
        # Its stdin stays open: the end of it would end the load.
        reader, writer = os.pipe()
        self.addCleanup(os.close, writer)
        with os.fdopen(reader) as nothing:
            options = {"capture_output": True, "text": True, "timeout": PATIENCE, "check": False}
            result = subprocess.run(words, stdin=nothing, **options)
        return result.returncode, json.loads(result.stdout.splitlines()[-1])

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
