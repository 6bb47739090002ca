"""Datagrams through a websocket: udp → connpipe → ws, over a link that loses packets → connpipe → udp. Two network
namespaces with the link between them; netem makes it lossy where the kernel has that, else lossy_link.py. WireGuard runs
through it: the kernel's, or wireguard-go.

Needs root, and to be allowed to make namespaces and devices; skipped otherwise."""

import contextlib
import ctypes
import hashlib
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import unittest

from .harness import PATIENCE, Scenario, free_port, table, until

CLONE_NEWNET = 0x40000000
LINK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lossy_link.py")
LOSS, DELAY = 2, 5  # percent, milliseconds each way
LONG = bool(os.environ.get("CONNPIPE_TEST_LONG"))
MOST = 65507


def run(*words, check=True, **options):
    done = subprocess.run(words, capture_output=True, text=True, check=False, **options)
    assert not check or done.returncode == 0, "%s: %s" % (" ".join(words), done.stderr.strip())
    return done.returncode == 0


@contextlib.contextmanager
def inside(namespace):
    """What is started and bound by this thread meanwhile is in the namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open("/run/netns/" + namespace, os.O_RDONLY)
    try:
        assert libc.setns(there, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        yield
    finally:
        libc.setns(here, CLONE_NEWNET)
        os.close(here)
        os.close(there)


def udp(port=0):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, 8 << 20)
    sock.bind(("127.0.0.1", port))
    sock.settimeout(PATIENCE)
    return sock


class Tunnel(Scenario):
    def setUp(self):
        if os.geteuid() != 0 or not shutil.which("ip"):
            self.skipTest("needs root, and iproute2")
        self.near, self.far = ("connpipe-%d-%s" % (os.getpid(), name) for name in ("near", "far"))
        for name in (self.near, self.far):
            if not run("ip", "netns", "add", name, check=False):
                self.skipTest("namespaces cannot be made here")
            self.addCleanup(run, "ip", "netns", "del", name, check=False)
        self.make_link()
        for name, number in ((self.near, 1), (self.far, 2)):
            run("ip", "-n", name, "address", "add", "10.99.0.%d" % number, "peer", "10.99.0.%d" % (3 - number), "dev",
                "link")
            run("ip", "-n", name, "link", "set", "dev", "link", "up")
            run("ip", "-n", name, "link", "set", "dev", "lo", "up")

    def make_link(self):
        if run("ip", "-n", self.near, "link", "add", "name", "link", "type", "veth", "peer", "name", "link", "netns", self.far,
               check=False):
            netem = ["root", "netem", "loss", "%d%%" % LOSS, "delay", "%dms" % DELAY]
            if shutil.which("tc") and all(run("tc", "-n", name, "qdisc", "add", "dev", "link", *netem, check=False)
                                          for name in (self.near, self.far)):
                return
            run("ip", "-n", self.near, "link", "del", "dev", "link")
        if not os.access("/dev/net/tun", os.W_OK):
            self.skipTest("there is neither netem nor /dev/net/tun")
        process = subprocess.Popen([sys.executable, LINK, self.near, self.far, str(LOSS), str(DELAY)],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(process.wait)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stdin.close)
        if process.stdout.readline() != b"ready\n":
            self.skipTest("no devices can be made")

    def tunnel(self, target):
        """Both proxies, on the way to a port of the far side: the port on the near side."""
        with inside(self.far):
            middle = free_port("10.99.0.2")
            self.far_proxy = self.connpipe(table({"ws:10.99.0.2:%d/tunnel" % middle: "udp:127.0.0.1:%d" % target}))
        with inside(self.near):
            front = free_port()
            self.near_proxy = self.connpipe(table({"udp:127.0.0.1:%d" % front: "ws:10.99.0.2:%d/tunnel" % middle}))
        return front

    def echo(self):
        """A UDP server on the far side that answers each datagram with itself: its port"""
        with inside(self.far):
            server = udp()
        self.addCleanup(server.close)

        def answer():
            with contextlib.suppress(OSError):
                while True:
                    data, peer = server.recvfrom(65536)
                    server.sendto(data, peer)

        threading.Thread(target=answer, daemon=True).start()
        return server.getsockname()[1]

    def client(self, port):
        with inside(self.near):
            client = udp()
        client.connect(("127.0.0.1", port))
        return self.keep(client, client.close)

    def exchange(self, client, datagrams, window):
        """Each comes back, in order; so many are under way at most."""
        for at, expected in enumerate(datagrams):
            if at == 0:
                for data in datagrams[:window]:
                    client.send(data)
            got = client.recv(65536)
            self.assertEqual((at, len(got), hashlib.sha256(got).digest()),
                             (at, len(expected), hashlib.sha256(expected).digest()))
            if at + window < len(datagrams):
                client.send(datagrams[at + window])

    def test_datagrams(self):
        """As WireGuard sends them (handshakes of 148 and 92 bytes, data of up to 1,452), and the least and the most."""
        plan = random.Random(4)
        client = self.client(self.tunnel(self.echo()))
        sizes = [148, 92, 32] + [plan.choice([80, 96, 1452, 1452, 1452]) for _ in range(2000 if LONG else 300)]
        self.exchange(client, [plan.randbytes(size) for size in sizes], 16)
        self.exchange(client, [plan.randbytes(size) for size in (0, 1, 0, 0, 65535 - 28, MOST, 125, 126, 65000, 0)], 1)
        others = [self.client(client.getpeername()[1]) for _ in range(4)]
        for number, other in enumerate(others):  # each has a websocket of its own
            self.exchange(other, [b"%d" % number * 100] * 10, 4)

    def wireguard(self, namespace, name, number, port, peer_key, endpoint=None):
        """WireGuard in a namespace, whose keys are known."""
        words = ["wg", "set", name, "listen-port", str(port), "private-key", "/dev/stdin", "peer", peer_key,
                 "allowed-ips", "10.98.0.%d/32" % (3 - number), "persistent-keepalive", "1"]
        with inside(namespace):
            if not run("ip", "link", "add", "name", name, "type", "wireguard", check=False):
                if not shutil.which("wireguard-go"):
                    self.skipTest("there is neither WireGuard in the kernel nor wireguard-go")
                process = subprocess.Popen(["wireguard-go", "-f", name], stdin=subprocess.DEVNULL,
                                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                self.addCleanup(process.wait)
                self.addCleanup(process.terminate)
                until(lambda: os.path.exists("/run/wireguard/%s.sock" % name))
            run(*words, *(["endpoint", endpoint] if endpoint else []), input=self.keys[number])
            run("ip", "address", "add", "10.98.0.%d/24" % number, "dev", name)
            run("ip", "link", "set", "dev", name, "up")

    def make_keys(self):
        self.keys, public = {}, {}
        for number in (1, 2):
            self.keys[number] = subprocess.run(["wg", "genkey"], capture_output=True, text=True, check=True).stdout
            public[number] = subprocess.run(["wg", "pubkey"], input=self.keys[number], capture_output=True, text=True,
                                            check=True).stdout.strip()
        return public

    @unittest.skipUnless(shutil.which("wg"), "wireguard-tools are not installed")
    def test_wireguard(self):
        """TCP through WireGuard through the websocket."""
        public = self.make_keys()
        with inside(self.far):
            port = free_port()
        front = self.tunnel(port)
        self.wireguard(self.far, "cpw%d" % os.getpid(), 2, port, public[1])
        with inside(self.near):
            near_port = free_port()
        self.wireguard(self.near, "cpv%d" % os.getpid(), 1, near_port, public[2], "127.0.0.1:%d" % front)
        data = random.Random(5).randbytes((8 << 20) if LONG else (1 << 20))
        with inside(self.far):
            server = self.server(host="10.98.0.2")
        with inside(self.near):
            client = super().client(server.port, host="10.98.0.2")
        target = self.accept(server)
        for source, sink in ((client, target), (target, client)):
            thread = threading.Thread(target=lambda: (source.send(data), source.shutdown()))
            thread.start()
            self.assertEqual(hashlib.sha256(sink.receive_all()).digest(), hashlib.sha256(data).digest())
            thread.join()
