"""A storm: many connections at once, each with two peers that do random things; in its second half the configuration is
reloaded and pipes are killed meanwhile. Whatever they do, every byte, every end of file and every reset has to come out
at the other side, and nothing may be left behind.

$CONNPIPE_TEST_SEED      the seed that a failure printed: the same plans again (their timing is not the same)
$CONNPIPE_TEST_SECONDS   how long new connections are begun; without it 4, or 240 if $CONNPIPE_TEST_LONG is set"""

import errno
import fcntl
import os
import random
import re
import select
import socket
import struct
import termios
import threading
import time

from .harness import PATIENCE, SIGTERM, Scenario, Server, free_port, preamble, table, until

LONG = bool(os.environ.get("CONNPIPE_TEST_LONG"))
SECONDS = float(os.environ.get("CONNPIPE_TEST_SECONDS", "240" if LONG else "4"))
SEED = int(os.environ.get("CONNPIPE_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
LANES = 16
SIZES = [0, 0, 1, 2, 15, 16, 17, 100, 1460, 4095, 4096, 65535, 65536, 65537, 131071, 131072, 131073, 262144, 262145,
         1 << 20, (1 << 20) + 1, 3 << 20]
WEIGHTS = [2] * 19 + [1, 1, 0.5]
BLOB = random.Random(1).randbytes(4 << 20)


PIPE = re.compile(r"pipe/\d+\] (\w+): tcp:127\.0\.0\.1:(\d+)\S* from 127\.0\.0\.1:(\d+)(.*)")


def key_of(match):
    return int(match[2]), int(match[3])


def unacknowledged(sock):
    return struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0]


class Party:
    """One end of a connection and what it is going to do there."""

    def __init__(self, plan, name):
        """Everything random is decided here, so that a seed gives the same plan whatever the timing."""
        self.name = name
        size = plan.choices(SIZES, WEIGHTS)[0]
        start = plan.randrange(len(BLOB) - size)
        self.data = memoryview(BLOB)[start:start + size]
        self.piece = plan.choice([1 << 20] * 4 + [65536, 1460, 1460, max(size // 50, 1)])
        self.reader = plan.choice(["fast"] * 6 + ["slow", "slow", "stuck"])
        self.stuck_for = plan.uniform(0.02, 0.4)
        # With less room than a segment of the loopback (64 KiB) bytes only come by the kernel's probes: a test of those.
        self.buffers = (plan.choice([0, 0, 0, 4096, 20000]), plan.choice([0, 0, 0, 70000, 150000]))
        self.reset_at = None
        self.reset_delay = plan.choice([0, 0, 0.005, 0.05])
        self.waits_acknowledged = plan.random() < 0.6
        self.ends_first = False
        self.waits_for_end = plan.random() < 0.3
        self.sock = self.other = self.began = None
        self.sent = self.received = 0
        self.shut = self.ended = self.was_reset = self.has_reset = self.send_broke = False
        self.complete_at = self.next_read = None

    def plan_reset(self, plan):
        self.reset_at = plan.choice([0, len(self.data), plan.randint(0, len(self.data))])
        self.ends_first = self.reset_at == len(self.data) and plan.random() < 0.4
        self.waits_for_end = False

    def describe(self):
        return "%s: %d bytes by %d, %s reader, buffers %s, reset at %s%s%s; sent %d, received %d%s%s%s%s" % (
            self.name, len(self.data), self.piece, self.reader, self.buffers, self.reset_at,
            " acknowledged" if self.waits_acknowledged else "", " after its end" if self.ends_first else "",
            self.sent, self.received, ", has shut" if self.shut else "", ", saw the end" if self.ended else "",
            ", was reset" if self.was_reset else "", ", has reset" if self.has_reset else "")

    def set_buffers(self, sock):
        for option, size in zip((socket.SO_SNDBUF, socket.SO_RCVBUF), self.buffers):
            if size:
                sock.setsockopt(socket.SOL_SOCKET, option, size)

    def attach(self, sock, now):
        self.sock = sock
        self.began = self.next_read = now
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    # -- what is to be done next

    def goal(self):
        """How many bytes it sends."""
        return len(self.data) if self.reset_at is None else self.reset_at

    def wants(self, now):
        events = 0
        if not self.ended and not self.was_reset and now >= self.next_read:
            if self.reader != "stuck" or now - self.began > self.stuck_for:
                events |= select.POLLIN
        if self.sent < self.goal() and not self.send_broke:
            events |= select.POLLOUT
        return events

    def over(self):
        return self.has_reset or self.was_reset or (self.ended and (self.shut or self.send_broke))

    # -- doing it

    def send(self):
        try:
            self.sent += self.sock.send(self.data[self.sent:min(self.sent + self.piece, self.goal())])
        except BlockingIOError:
            pass
        except OSError as error:
            assert error.errno in (errno.EPIPE, errno.ECONNRESET), error
            self.send_broke = True  # what was sent to it can still be read

    def read(self, now):
        most = 1 << 20
        if self.reader == "slow":
            most = max(len(self.other.data) // 30, 1)
            self.next_read = now + 0.01
        try:
            got = self.sock.recv(most)
        except BlockingIOError:
            return
        except ConnectionResetError:
            self.was_reset = True
            return
        if not got:
            # The error of a reset is told once, and a send may have been who heard it.
            self.ended, self.was_reset = not self.send_broke, self.send_broke
            return
        begin, self.received = self.received, self.received + len(got)
        assert self.other.data[begin:self.received] == got, "wrong bytes behind %d" % begin

    def finish_sending(self, now):
        """Everything that it sends is sent: end, reset."""
        if self.sent < self.goal() or self.send_broke or self.has_reset:
            return
        if self.reset_at is None:
            if not self.shut and (self.ended or not self.waits_for_end):
                self.shutdown()
            return
        if self.ends_first and not self.shut:
            self.shutdown()
        if self.waits_acknowledged and unacknowledged(self.sock):
            return
        self.complete_at = self.complete_at or now
        if now - self.complete_at >= self.reset_delay:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.sock.close()
            self.has_reset = True

    def shutdown(self):
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            assert error.errno == errno.ENOTCONN, error  # it was reset
        self.shut = True

    def step(self, events, now):
        if events & (select.POLLIN | select.POLLHUP | select.POLLERR) and self.wants(now) & select.POLLIN:
            self.read(now)
        if events & (select.POLLOUT | select.POLLERR) and self.wants(now) & select.POLLOUT:
            self.send()
        if self.ended and (events & select.POLLERR or (events & select.POLLHUP and not self.shut)):
            self.was_reset = True  # behind the end of file
        if not self.was_reset:
            self.finish_sending(now)

    def close(self):
        if self.sock:
            self.sock.close()


class Connection:
    """One connection: a client, a target, and one of the lane's addresses."""

    def __init__(self, lane, plan):
        self.lane = lane
        self.route = plan.choice(["plain", "plain", "plain", "named", "named", "almost", "failover", "refused"])
        self.client, self.target = Party(plan, "client"), Party(plan, "target")
        self.client.other, self.target.other = self.target, self.client
        if plan.random() < 0.4:
            plan.choice([self.client, self.target]).plan_reset(plan)
        if self.client.waits_for_end:
            self.target.waits_for_end = False
        self.head = self.make_head(plan)
        self.cuts = sorted(plan.randrange(len(self.head)) for _ in range(plan.randrange(4))) if self.head else []
        self.stop_at = plan.randrange(len(self.head)) if self.head and plan.random() < 0.1 else None

    def make_head(self, plan):
        """What the client sends first: a preamble, or nearly one."""
        if self.route == "named":
            return preamble("sub")
        if self.route == "almost":
            return preamble("sub")[:plan.randrange(16)] + b"?"
        return b""

    def describe(self):
        return "%s, head of %d bytes cut at %s%s\n  %s\n  %s" % (
            self.route, len(self.head), self.cuts, "" if self.stop_at is None else ", reset at %d" % self.stop_at,
            self.client.describe(), self.target.describe())

    # -- running

    def connect(self):
        """A connect() that waits may be woken after a reset: then it fails, and throws away what came before."""
        sock = socket.socket()
        sock.setblocking(False)
        self.client.set_buffers(sock)
        failure = sock.connect_ex(("127.0.0.1", self.lane.ports[self.route]))
        assert failure in (0, errno.EINPROGRESS), os.strerror(failure)
        self.key = (self.lane.ports[self.route], sock.getsockname()[1])
        self.client.attach(sock, time.monotonic())
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        assert poll.poll(PATIENCE * 1000), "it is not accepted"

    def send_head(self):
        """@return whether the connection goes on behind it"""
        begin = 0
        for cut in [*self.cuts, len(self.head)]:
            if self.stop_at is not None and cut > self.stop_at:
                self.client.goal = lambda: 0
                self.client.reset_at, self.client.waits_acknowledged, self.client.ends_first = 0, False, False
                return
            self.client.sock.sendall(self.head[begin:cut])
            begin = cut

    def accept(self):
        try:
            sock = self.lane.server.socket.accept()[0]
        except BlockingIOError:
            return
        self.target.set_buffers(sock)
        if self.route == "almost":  # the head belongs to the stream
            sock.settimeout(PATIENCE)
            try:
                got = b""
                while len(got) < len(self.head) and (more := sock.recv(len(self.head) - len(got))):
                    got += more
                assert self.head.startswith(got), "wrong head %r" % got
                self.target.ended = len(got) < len(self.head)
                assert not self.target.ended or self.client.has_reset or self.killed(), "a head that is cut"
            except ConnectionResetError:
                self.target.was_reset = True
        self.target.attach(sock, time.monotonic())

    def killed(self):
        return self.key in self.lane.storm.killed

    def turn(self, now):
        poll = select.poll()
        parties = {}
        for party in (self.client, self.target):
            if party.sock and not party.over():
                parties[party.sock.fileno()] = party
                poll.register(party.sock, party.wants(now))
        if not self.target.sock:
            poll.register(self.lane.server.socket, select.POLLIN)
        ready = dict(poll.poll(5))
        for number, party in parties.items():
            party.step(ready.get(number, 0), now)
        if not self.target.sock:
            self.accept()

    def run(self):
        deadline = time.monotonic() + PATIENCE
        self.connect()
        try:
            self.send_head()
        except (ConnectionResetError, BrokenPipeError):
            self.client.was_reset = True
        while True:
            now = time.monotonic()
            closed = self.lane.storm.closed.get(self.key)
            over = self.client.over() and (not self.target.sock or self.target.over())
            if over and (self.target.sock or closed):
                if not self.target.sock:
                    self.accept()
                if not self.target.sock or self.target.over():
                    break
            assert now < deadline, "it hangs; its pipe %s" % ("ended: " + closed if closed else "goes on")
            self.turn(now)
        self.client.close()
        self.target.close()
        closed = until(lambda: self.lane.storm.closed.pop(self.key, None))
        if not self.killed():
            self.check(closed)

    # -- what has to hold

    def check(self, closed):
        if self.route == "refused":
            assert not self.target.sock and "connect_refused" in closed or self.client.has_reset, closed
            return
        if self.client.has_reset or self.target.has_reset:
            broken = self.client if self.client.has_reset else self.target
            self.check_reset(broken, broken.other, closed)
            return
        for party in (self.client, self.target):
            assert party.ended and not party.send_broke, "%s saw no end: %s" % (party.name, closed)
            assert party.received == len(party.other.data), "%s has not got everything: %s" % (party.name, closed)
        assert closed.endswith("done"), closed

    def check_reset(self, broken, other, closed):
        if not other.sock:
            return
        if broken.waits_acknowledged and not broken.send_broke:
            assert other.received == broken.sent, "%s got %d of %d bytes before the reset: %s" % (
                other.name, other.received, broken.sent, closed)
        if not broken.shut:
            assert other.was_reset, "an end of file instead of a reset: %s" % closed


class Lane(threading.Thread):
    """Runs connections one after the other over addresses and a target of its own, so that it knows whose is whose."""

    def __init__(self, storm, number):
        super().__init__(daemon=True)
        self.storm, self.number = storm, number
        self.server = Server()
        self.server.socket.setblocking(False)
        numbers = [free_port() for _ in range(4)]
        self.ports = dict(zip(["plain", "named", "failover", "refused"], numbers))
        self.ports["almost"] = self.ports["named"]
        self.nobody = socket.socket()  # bound and not listening: connecting to it is refused, and nobody else gets it
        self.nobody.bind(("127.0.0.1", 0))
        nobody = "tcp:$4:%d" % self.nobody.getsockname()[1]
        self.routes = {
            "tcp:$4:%d" % numbers[0]: self.server.address,
            "tcp:$4:%d" % numbers[1]: self.server.address,
            "tcp:$4:%d!sub" % numbers[1]: self.server.address,
            "tcp:$4:%d" % numbers[2]: [nobody, nobody, self.server.address],
            "tcp:$4:%d" % numbers[3]: [nobody, nobody],
        }
        self.count = 0

    def run(self):
        plans = random.Random(SEED * 1000 + self.number)
        while time.monotonic() < self.storm.until and not self.storm.failures:
            connection = Connection(self, random.Random(plans.getrandbits(64)))
            try:
                connection.run()
                self.count += 1
            except Exception as error:  # pylint: disable=broad-except
                self.storm.failures.append("lane %d, connection %d: %s: %s\n%s" % (
                    self.number, self.count, type(error).__name__, error,
                    connection.describe() + "\n  log: " + "\n  log: ".join(self.storm.lines_of(connection))))


class Storm(Scenario):
    def watch_log(self, proxy):
        """Collect the line of each pipe that has closed, by the ports of its two ends."""
        at = 0
        while True:
            with proxy.changed:
                while at == len(proxy.lines) and not proxy.ended:
                    proxy.changed.wait()
                lines, at = proxy.lines[at:], len(proxy.lines)
                if not lines:
                    return
            for line in lines:
                match = PIPE.search(line)
                if match and match[1] == "closed":
                    self.closed[key_of(match)] = match[4]

    def lines_of(self, connection):
        return [line for line in self.processes[0].log().split("\n")
                if (match := PIPE.search(line)) and key_of(match) == getattr(connection, "key", None)]

    def config(self, lanes, number):
        routes = {key: to for lane in lanes for key, to in lane.routes.items()}
        routes["tcp:$4:%d" % self.moving[number % 2]] = "discard:"
        if number % 4 == 3:
            routes["tcp:$4:1!broken"] = "nowhere:1"
        return table(routes, "workers = 2", timeouts='preamble = "10s", reset = "20s", connect = "10s"')

    def disturb(self, proxy, lanes):
        """Reload and kill, until the time is over."""
        plan = random.Random(SEED)
        number = 0
        while time.monotonic() < self.until and not self.failures:
            number += 1
            proxy.configure(self.config(lanes, number))
            answer = proxy.ask("reload")
            if answer["ok"] != (number % 4 != 3):
                self.failures.append("reload: %s" % answer)
            for _ in range(plan.randrange(8)):
                pipes = proxy.ask("pipes")["pipes"]
                if pipes:
                    pipe = plan.choice(pipes)
                    match = PIPE.search("pipe/0] killed: %(incoming)s from %(peer)s" % pipe)
                    self.killed.add(key_of(match))
                    proxy.ask("kill", id=pipe["id"])

    def run_lanes(self, proxy, lanes):
        self.until = time.monotonic() + SECONDS
        for lane in lanes:
            lane.start()
        lanes[0].join(SECONDS / 2)
        self.disturb(proxy, lanes)
        for lane in lanes:
            lane.join(2 * PATIENCE)
        self.assertTrue(not self.failures, "seed %d\n%s" % (SEED, "\n".join(self.failures)))
        self.assertTrue(not any(lane.is_alive() for lane in lanes), "a lane hangs; seed %d" % SEED)

    def check_counters(self, proxy, lanes):
        """@return how often connections were closed for which cause"""
        counters = proxy.ask("status")["counters"]
        closed = {name: count for name, count in counters.items() if name.startswith("closed_") and count}
        self.assertEqual(counters["connections_open"], 0)
        self.assertEqual(counters["connections_accepted"], sum(closed.values()), closed)
        self.assertEqual(counters["connections_accepted"], sum(lane.count for lane in lanes))
        self.assertEqual(counters["log_lines_dropped"], 0)
        return closed

    def test_everything_arrives_and_nothing_is_left(self):
        self.closed, self.killed, self.failures = {}, set(), []
        self.moving = [free_port(), free_port()]
        lanes = [Lane(self, number) for number in range(LANES)]
        for lane in lanes:
            self.addCleanup(lane.server.close)
            self.addCleanup(lane.nobody.close)
        proxy = self.connpipe(self.config(lanes, 0))
        descriptors = "/proc/%d/fd" % proxy.process.pid
        before = len(os.listdir(descriptors))
        threading.Thread(target=self.watch_log, args=(proxy,), daemon=True).start()
        self.run_lanes(proxy, lanes)
        until(lambda: proxy.ask("status")["connections"] == 0)
        until(lambda: proxy.ask("status")["pinned"] == [])
        until(lambda: len(os.listdir(descriptors)) <= before)  # some are kept for a few seconds
        closed = self.check_counters(proxy, lanes)
        proxy.signal(SIGTERM)
        self.assertEqual(proxy.wait(), 0)
        self.assertNotRegex(proxy.log(), "Sanitizer|runtime error")
        print("\n  seed %d: %s" % (SEED, closed))
