"""The loads: what clients do, and what is measured meanwhile."""

import contextlib
import json
import os
import select
import subprocess
import time
from dataclasses import dataclass, replace

from . import proxies, system, tls
from .tls import Tls

LOAD = os.path.join(proxies.TOOLS, "load")
MESSAGE = 64
GB = 1e9
IDLE_MOST = 9000
IDLE_TLS = 2000
IDLE_WS = 5000
SEGMENT = 1400  # bytes of a datagram in bulk: load.h
LONG = 65536  # a long message
WRONG = ("refused", "reset", "cut_short", "wrong_bytes", "wrong_tls", "wrong_ws", "other")
LOST_MOST, LOST_PART = 3, 1e-4  # datagrams that a round may lose: so many, or this part of them


OVER = {"tcp": [], "udp": ["-u"], "ws": ["-w"]}  # for `load`


@dataclass(frozen=True)
class Clients:
    """One `load` process: what it does, on how many connections, through which way."""

    mode: str
    connections: int
    way: str
    message: int = MESSAGE

    def words(self, over, port, seconds, subport):
        words = [LOAD, self.mode, str(port), "-c", str(self.connections), "-t", str(seconds), "-g", *OVER[over]]
        if self.mode in ("churn", "kept"):
            words += ["-b", str(self.message)] + (["-s", subport] if subport else [])
        return words + (["-e"] if self.way == "once" else [])


@dataclass(frozen=True)
class Load:
    """Something to measure. `figures` are the names of what comes out; the first one is what the load is about."""

    name: str
    about: str
    unit: str
    clients: tuple
    figures: tuple
    workers: int = 1
    variants: tuple = ()
    realtime: bool = False
    tls: Tls = None
    over: str = "tcp"
    idle: int = 0  # connections that are open beside and silent
    without: tuple = ()  # contenders that take no part


TIMES = ("p50_us", "p99_us", "p999_us")
SPEED = ("cpu", "total", "rate")


def pingpong(connections, workers=1, variants=()):
    return Load(
        "pingpong-%d" % connections + ("-2w" if workers == 2 else ""),
        "%d bytes there and back on %d kept connection%s" % (MESSAGE, connections, "s" if connections > 1 else ""),
        "exchange",
        (Clients("kept", connections, "echo"),),
        SPEED + TIMES,
        workers,
        variants,
    )


def connect(connections, workers=1, variants=(), server=False):
    return Load(
        "connect-%d" % connections + ("-server" if server else "") + ("-2w" if workers == 2 else ""),
        "connect, %d bytes there and back, close (the %s first); %d at a time"
        % (MESSAGE, "server" if server else "client", connections),
        "connection",
        (Clients("churn", connections, "once" if server else "echo"),),
        SPEED + TIMES,
        workers,
        variants,
    )


def bulk(mode, connections, workers=1):
    return Load(
        "%s-%d" % (mode, connections) + ("-2w" if workers == 2 else ""),
        "bulk data %s on %d connections" % ("to the server" if mode == "up" else "from the server", connections),
        "GB",
        (Clients(mode, connections, "bulk"),),
        SPEED,
        workers,
        ("haproxy+splice",),
    )


IDLE = Load(
    "idle",
    "connections that are silent, %d of them or as many as descriptors allow" % IDLE_MOST,
    "connection",
    (Clients("idle", IDLE_MOST, "echo"),),
    ("memory",),
)
TLS_IDLE = Load(
    "tls-idle",
    "connections under TLS 1.3 that are silent, %d of them" % IDLE_TLS,
    "connection",
    (Clients("idle", IDLE_TLS, "echo"),),
    ("memory",),
    tls=Tls(),
)
BESIDE = Load(
    "beside",
    "one ping-pong beside 25 connections of bulk data each way",
    "GB",
    (Clients("kept", 1, "echo"), Clients("up", 25, "bulk"), Clients("down", 25, "bulk")),
    ("p99_us", "p50_us", "p999_us", "rate"),  # processor time would be that of two kinds of work
    realtime=True,
)


def under_tls(load, spoken=Tls()):
    """The same load, and the proxy ends TLS."""
    return replace(load, name="tls-" + load.name, about=load.about + ", under TLS 1.3", variants=(), tls=spoken)


def handshake(what, spoken):
    name = "%s-%s" % ("tls" if spoken.version == "1.3" else "tls12", what)
    about = "connect, TLS %s handshake (%s, %s), %d bytes there and back, close; 50 at a time" % (
        spoken.version, spoken.key.upper(), "resumed" if spoken.resume else "full", MESSAGE)
    clients = (Clients("churn", 50, "echo"),)
    return Load(name, about, "connection", clients, SPEED + TIMES, tls=spoken)


def datagrams(load):
    """The same load with datagrams: of flows instead of connections, counted instead of weighed."""
    about = load.about.replace("connection", "flow").replace("bulk data", "aggregates of datagrams")
    unit = "datagram" if load.unit == "GB" else load.unit
    return replace(load, name="udp-" + load.name, about=about, unit=unit, variants=(), over="udp")


def websockets(load, name, what, **changes):
    return replace(load, name="ws-" + name, about=load.about + what, variants=(), over="ws", **changes)


WS_LONG = replace(pingpong(4), clients=(Clients("kept", 4, "echo", LONG),))
WS_LOADS = (
    websockets(pingpong(50), "pingpong-50", ", messages of websockets, %d silent ones beside" % IDLE_WS, idle=IDLE_WS),
    replace(websockets(WS_LONG, "64k-4", ""), about="messages of 64 KiB there and back on 4 websockets"),
    websockets(IDLE, "idle", ": websockets", clients=(Clients("idle", IDLE_WS, "echo"),)),
)
# What a process that has ended did is counted for nobody: websockify has one for each connection.
WS_CONNECT = websockets(connect(50), "connect-50", ": websockets", without=("websockify",))

# Connecting comes last: the sockets that it leaves in TIME_WAIT expire a minute later, which is work for the kernel.
LOADS = {
    load.name: load
    for load in (
        pingpong(1),
        pingpong(50, variants=("connpipe!",)),
        pingpong(1000),
        pingpong(50, workers=2),
        bulk("up", 4),
        bulk("down", 4),
        bulk("up", 32),
        bulk("down", 32),
        bulk("down", 32, workers=2),
        BESIDE,
        IDLE,
        under_tls(pingpong(1)),
        under_tls(pingpong(50)),
        under_tls(bulk("up", 4)),
        under_tls(bulk("down", 4)),
        TLS_IDLE,
        datagrams(pingpong(1)),
        datagrams(pingpong(50)),
        datagrams(bulk("up", 4)),
        datagrams(bulk("down", 4)),
        *WS_LOADS,
        connect(1),
        connect(50, variants=("connpipe!",)),
        connect(50, workers=2),
        connect(50, server=True),
        handshake("ecdsa", Tls()),
        handshake("rsa", Tls(key="rsa")),
        handshake("resumed", Tls(resume=True)),
        handshake("ecdsa", Tls("1.2")),
        handshake("rsa", Tls("1.2", key="rsa")),
        handshake("resumed", Tls("1.2", resume=True)),
        WS_CONNECT,
    )
}


class Talker:
    """A `load` process: lines to it, lines from it."""

    def __init__(self, words, cpus, realtime=False):
        self.words = words
        self.process = system.start(
            words, cpus, realtime, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
        self.buffer = b""

    def close(self):
        system.stop(self.process)

    def tell(self, line="go"):
        try:
            self.process.stdin.write(line.encode() + b"\n")
        except BrokenPipeError:
            raise system.Failure(self.complaint()) from None

    def hear(self, patience):
        """The next line."""
        deadline = time.monotonic() + patience
        while b"\n" not in self.buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise system.Failure("%s says nothing" % " ".join(self.words[1:]))
            piece = self.process.stdout.read(65536)
            if not piece:
                raise system.Failure(self.complaint())
            self.buffer += piece
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.decode()

    def complaint(self):
        said = self.process.stderr.read().decode(errors="replace").strip()
        return "%s ended with %d: %s" % (" ".join(self.words[1:]), self.process.wait(), said or "it said nothing")

    def ready(self):
        if self.hear(60) != "ready":
            raise system.Failure("%s: not ready" % " ".join(self.words[1:]))

    def survived(self):
        """Have clients that were idle exchange once more, each of them."""
        self.process.stdin.close()
        self.result(60)

    def result(self, patience):
        """What a client counted; anything but success is a failure."""
        result = json.loads(self.hear(patience))
        wrong = {k: result[k] for k in WRONG if result[k]}
        if wrong or not result["ok"]:
            counts = ", ".join("%d %s" % (count, what.replace("_", " ")) for what, count in wrong.items())
            raise system.Failure("%s: %d ok, %s" % (" ".join(self.words[1:]), result["ok"], counts or "no failure"))
        lost, units = result.get("lost", 0), max(result["ok"], result["bytes"] // SEGMENT)
        if lost > max(LOST_MOST, units * LOST_PART):
            raise system.Failure("%s: %d of %d datagrams lost" % (" ".join(self.words[1:]), lost, units))
        return result


class Targets:
    """The servers behind the proxies. A context."""

    WORDS = {
        "tcp": {"echo": ["echo"], "once": ["echo", "-e", "-b", str(MESSAGE)], "bulk": ["bulk"]},
        "udp": {"echo": ["echo", "-u"], "bulk": ["bulk", "-u"]},
        "ws": {"echo": ["echo"]},
        "opaque ws": {"echo": ["echo", "-w"]},
    }

    def __init__(self):
        self.servers = {}
        self.family = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for server in self.servers.values():
            server.close()

    def start(self, name):
        if (self.family, name) in self.servers:
            self.servers[self.family, name].close()
        port = system.free_ports(1)[0]
        server = self.servers[self.family, name] = Talker([LOAD, *self.WORDS[self.family][name], "-p", str(port)], None)
        server.port = int(server.hear(10))

    def ports(self):
        return {name: self.servers[self.family, name].port for name in self.WORDS[self.family]}

    def place(self, load, contender, cpus):
        """Have those run that are behind this contender in this load, on these processors."""
        self.family = "opaque ws" if load.over == "ws" and contender.opaque else load.over
        for name in self.WORDS[self.family]:
            if (self.family, name) not in self.servers or self.servers[self.family, name].process.poll() is not None:
                self.start(name)
            pid = self.servers[self.family, name].process.pid
            fifo = load.realtime and name == "echo"
            os.sched_setaffinity(pid, cpus)
            with contextlib.suppress(PermissionError):
                policy = os.SCHED_FIFO if fifo else os.SCHED_OTHER
                os.sched_setscheduler(pid, policy, os.sched_param(1 if fifo else 0))

    def bulk_counts(self):
        """What the bulk server counted since it was asked before."""
        server = self.servers.get((self.family, "bulk"))
        if not server:
            return {"received": 0, "sent": 0, "failed": 0}
        server.tell()
        return json.loads(server.hear(10))


class Bench:
    """Measures a load through a running contender."""

    def __init__(self, targets, certificates, seconds, idle_connections):
        self.targets = targets
        self.certificates = certificates
        self.seconds = seconds
        self.idle_connections = idle_connections
        self.cpus = sorted(os.sched_getaffinity(0))

    def placement(self, load):
        """Processors of the proxy, and those of clients and servers."""
        if len(self.cpus) > load.workers:
            return self.cpus[: load.workers], self.cpus[load.workers :]
        return self.cpus, self.cpus

    def certificate(self, load):
        return self.certificates.get(load.tls.key) if load.tls else None

    def tls_words(self, load, contender):
        if not load.tls:
            return []
        return load.tls.words(self.certificate(load)) + (["-S"] if contender.silent_end else [])

    def measure(self, load, proxy):
        if load.figures == ("memory",):
            return self.memory(load, proxy)
        with contextlib.ExitStack() as stack:
            idle = stack.enter_context(self.idle(load, proxy, load.idle)) if load.idle else None
            self.run(load, proxy, min(0.2, self.seconds / 4))  # to warm up
            found = self.run(load, proxy, self.seconds)
            if idle:
                idle.survived()
            return found

    def clients(self, stack, load, proxy, seconds):
        started = []
        for i, clients in enumerate(load.clients):
            words = clients.words(load.over, proxy.port(clients.way), seconds, proxy.contender.subport)
            words += self.tls_words(load, proxy.contender)
            talker = Talker(words, self.placement(load)[1], load.realtime and i == 0)
            stack.callback(talker.close)
            started.append(talker)
        for talker in started:
            talker.ready()
        return started

    @contextlib.contextmanager
    def idle(self, load, proxy, connections):
        """Connections that have exchanged a message and are silent."""
        words = [LOAD, "idle", str(proxy.port("echo")), "-c", str(self.possible(connections, proxy)), *OVER[load.over]]
        words += self.tls_words(load, proxy.contender)
        with contextlib.closing(Talker(words, self.placement(load)[1])) as talker:
            talker.ready()
            yield talker

    def possible(self, connections, proxy):
        return min(connections, self.idle_connections, proxy.contender.idle_most or connections)

    def run(self, load, proxy, seconds):
        with contextlib.ExitStack() as stack:
            clients = self.clients(stack, load, proxy, seconds)
            self.targets.bulk_counts()
            watch = system.Stopwatch(proxy.pids(), proxy.contender.forks)
            for client in clients:
                client.tell()
            results = [client.result(seconds + 60) for client in clients]
            elapsed, own, total = watch.stop()
            self.compare(load, results)
        return figures(load, results, elapsed, own, total)

    def compare(self, load, results):
        """The servers saw exactly the bytes that the clients sent, and the other way round. Of datagrams some may be
        lost: then exactly those."""
        counts = self.targets.bulk_counts()
        moved = {"up": 0, "down": 0}
        for clients, result in zip(load.clients, results):
            moved[clients.mode] = moved.get(clients.mode, 0) + result["bytes"]
            if clients.mode == "down":
                moved["down"] += result.get("lost", 0) * SEGMENT
        for mode, counted in (("up", "received"), ("down", "sent")):
            if moved[mode] != counts[counted]:
                raise system.Failure("clients moved %d bytes %s, servers %d" % (moved[mode], mode, counts[counted]))
        if counts["failed"]:
            raise system.Failure("%d connections failed at the bulk server" % counts["failed"])

    def memory(self, load, proxy):
        before = system.private_bytes(proxy.pids())
        wanted = load.clients[0].connections
        with self.idle(load, proxy, wanted) as talker:
            after = system.private_bytes(proxy.pids())
            talker.survived()
        return {"memory": (after - before) / self.possible(wanted, proxy)}


def figures(load, results, elapsed, own, total):
    """CPU in microseconds an exchange, a connection or a datagram, in milliseconds a GB; rates a second."""
    moved = sum(result["bytes"] for result in results)
    if load.unit in ("GB", "datagram") and not moved:
        raise system.Failure("no bytes were moved")
    units, scale = {
        "GB": (moved / GB, 1e3),
        "datagram": (moved / SEGMENT, 1e6),
    }.get(load.unit, (results[0]["ok"], 1e6))
    values = {"cpu": own / units * scale, "total": total / units * scale, "rate": units / results[-1]["seconds"]}
    values.update({name: results[0][name] for name in TIMES})
    values["busy"] = own / elapsed
    if load.tls and load.unit == "connection":
        tls.check(load, results)
    return {name: values[name] for name in (*load.figures, "busy")}
