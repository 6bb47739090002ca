"""Every byte arrives, every end as what it was, at any size and speed, and nothing is left behind.

The cases are those of tests/bytes: `exchange` is clients and targets at once and compares what it sent with what came.
A case that failed can be run alone: by `-o number` with the seed that is told. $CONNPIPE_TEST_SEED chooses others;
$CONNPIPE_TEST_LONG set: full counts instead of reduced ones."""

import contextlib
import fcntl
import json
import os
import pwd
import signal
import subprocess
import tempfile

from .harness import PATIENCE, PROGRAM, Scenario, free_port, table, until

EXCHANGE = os.path.join(os.path.dirname(PROGRAM), "tests", "exchange")
LONG = bool(os.environ.get("CONNPIPE_TEST_LONG"))
SANITIZED = "san" in os.path.basename(os.path.dirname(PROGRAM))
SEED = int(os.environ.get("CONNPIPE_TEST_SEED", "1"))
NOBODY = pwd.getpwnam("nobody")


def count(normal, sanitized, long):
    return sanitized if SANITIZED else long if LONG else normal


def descriptors(pid, pipes=None):
    """How many the process has open; only those of kernel pipes, or only the others."""
    names = []
    for number in os.listdir("/proc/%d/fd" % pid):
        with contextlib.suppress(FileNotFoundError):
            names.append(os.readlink("/proc/%d/fd/%s" % (pid, number)).startswith("pipe:"))
    return len(names) if pipes is None else names.count(pipes)


def private_memory(pid):
    """Bytes of the process's own: anonymous memory that is resident."""
    with open("/proc/%d/status" % pid, encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon:")) * 1024


class KernelPipes:
    """Takes all that a user without privilege may have in kernel pipes (pipe(7), pipe-user-pages-soft), but `left`
    bytes; until it is ended. In a process of its own, because that has to be the same user as the proxy's."""

    def __init__(self, left=0):
        taken, control = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self.take(left)
                os.close(control[1])
                os.write(taken[1], b"x")
                os.read(control[0], 1)
            finally:
                os._exit(0)
        os.close(taken[1])
        os.close(control[0])
        self.control = control[1]
        with os.fdopen(taken[0], "rb") as file:
            assert file.read(1), "could not take the kernel pipes"

    def take(self, left):
        if os.geteuid() == 0:
            os.setgid(NOBODY.pw_gid)
            os.setuid(NOBODY.pw_uid)
        spare = os.pipe() if left else None
        if spare:
            fcntl.fcntl(spare[1], fcntl.F_SETPIPE_SZ, left)
        for size in (1 << 20, 1 << 16):
            with contextlib.suppress(PermissionError):
                while True:
                    fcntl.fcntl(os.pipe()[1], fcntl.F_SETPIPE_SZ, size)
        for end in spare or ():
            os.close(end)

    def end(self):
        os.close(self.control)
        os.waitpid(self.pid, 0)


class Exchange:
    """tests/exchange, with a proxy in front of its targets."""

    def __init__(self, scenario, lanes=120, process=""):
        self.scenario, self.lanes = scenario, lanes
        self.target, self.port = free_port("127.3.0.1"), free_port("127.1.0.1")
        routes = {}
        for lane in range(1, lanes + 3):
            to = "tcp:127.3.0.%d:%d" % (lane, self.target)
            routes["tcp:127.1.0.%d:%d" % (lane, self.port)] = to
            routes["tcp:127.2.0.%d:%d" % (lane, self.port)] = to
            routes["tcp:127.2.0.%d:%d!s" % (lane, self.port)] = to
        # What is late because this machine has much to do is not what is looked for here.
        timeouts = 'connect = "60s", half_close = "0s", reset = "60s", preamble = "20s"'
        process = 'workers = 2\nlog = { level = "warn" }\n' + process
        self.proxy = scenario.connpipe(table(routes, process, timeouts), wait=False)
        until(self.is_running)
        self.pid = self.proxy.process.pid
        self.before = descriptors(self.pid)
        self.pipes_before = descriptors(self.pid, pipes=True)

    def is_running(self):
        with contextlib.suppress(OSError):  # its control socket is not there yet, or is but does not listen
            return self.proxy.ask("status")["state"] == "running"

    def run(self, cases, *words):
        """Run so many cases and check that all went well. Returns the results."""
        words = ["-n", cases, "-s", SEED, "-l", self.lanes, "-p", self.target, "-w", int(PATIENCE), *words]
        with subprocess.Popen([EXCHANGE, *map(str, words), str(self.port)], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                line = process.stdout.readline()
                if line == "served\n":
                    until(lambda: self.proxy.ask("status")["connections"] == 0)
                out, errors = process.communicate()
            finally:
                process.kill()
        self.scenario.assertTrue(out or line.startswith("{"), errors)
        result = json.loads(out or line)
        self.scenario.assertEqual((result["failed"], errors), (0, ""), errors)
        self.scenario.assertEqual(result["cases"], cases)
        return result

    def pipes(self):
        """Kernel pipes that the proxy has for splicing."""
        return descriptors(self.pid, pipes=True) - self.pipes_before

    def expect_nothing_left(self):
        """Connections are gone; sockets and kernel pipes that are kept for the next ones go after a while."""
        until(lambda: descriptors(self.pid) <= self.before)


class Splicing(Scenario):
    """Kernel pipes are limited for a user, not for a process: one such test at a time on the machine."""

    def setUp(self):
        super().setUp()
        path = os.path.join(tempfile.gettempdir(), "connpipe-test-splicing-%d" % os.getuid())
        lock = open(path, "ab")  # pylint: disable=consider-using-with
        self.addCleanup(lock.close)
        left = signal.alarm(0)  # the other one's time is not this one's
        fcntl.flock(lock, fcntl.LOCK_EX)
        signal.alarm(left)


class Bytes(Splicing):
    def test_everything_and_many(self):
        """All kinds of cases; then short connections, so many that what one in a thousand leaves behind is seen."""
        exchange = Exchange(self)
        result = exchange.run(count(4000, 1500, 100000))
        self.assertGreater(exchange.pipes(), 0, "nothing was spliced")
        self.assertEqual(result["stuck_arrived"], result["stuck"])
        exchange.run(count(10000, 2000, 100000), "-m")
        memory = private_memory(exchange.pid)
        exchange.run(count(40000, 3000, 900000), "-m")
        if not SANITIZED:  # sanitizers keep freed memory
            self.assertLess(private_memory(exchange.pid), memory + 512 * 1024)
        exchange.expect_nothing_left()


class KernelPipeLimit(Splicing):
    """As a user without privilege, whose kernel pipes are limited."""

    def directory(self):
        path = super().directory()
        if os.geteuid() == 0:
            os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
        return path

    def run_cases(self, cases, left):
        """Returns how many kernel pipes the proxy had at the end, where all but `left` bytes of them were taken."""
        exchange = Exchange(self, process='user = "nobody"\n' if os.geteuid() == 0 else "")
        hog = KernelPipes(left)
        try:
            exchange.run(cases)
            return exchange.pipes()
        finally:
            hog.end()

    def test_none(self):
        """Bulk data is copied."""
        self.assertEqual(self.run_cases(count(1500, 500, 20000), 0), 0)

    def test_few(self):
        """A MiB for more than a hundred connections: directions go from copying to splicing and back."""
        self.assertIn(self.run_cases(count(1500, 500, 20000), 1 << 20), range(2, 33))
