"""Workers share the work: what one accepts goes to another one that has clearly less to do."""

import contextlib
import os
import select
import socket
import threading

from .harness import SIGTERM, Peer, Scenario, free_port, table, until


class Balance(Scenario):
    def start(self, target="echo:", workers=2, address=None):
        """A proxy in front of `target`, on `self.port` or on another address."""
        self.port = free_port()
        routes = {address or "tcp:$4:%d" % self.port: target}
        return self.connpipe(table(routes, "workers = %d" % workers, timeouts='drain = "1m"'))

    def worker_of(self, proxy, client):
        """The worker that has a client's connection."""
        peer = "%s:%d" % client.socket.getsockname()
        return next(pipe["worker"] for pipe in proxy.ask("pipes")["pipes"] if pipe["peer"] == peer)

    def workers(self, proxy):
        return proxy.ask("status")["workers"]

    def echo(self, client):
        client.send(b"x")
        client.expect(b"x")

    def connected(self):
        client = self.client(self.port)
        self.echo(client)
        return client

    def overload(self, proxy):
        """Kept connections of worker 0, so many that it hands over what it accepts from now on: both workers get some,
        then those of worker 1 are closed."""
        kept, others = [], []
        while len(kept) < 40:
            client = self.connected()
            (others if self.worker_of(proxy, client) else kept).append(client)
        for client in others:
            client.close()
        until(lambda: self.workers(proxy)[1]["connections"] == 0)
        return kept


class Connections(Balance):
    def test_kept_ones_are_spread(self):
        proxy = self.start()
        kept = self.overload(proxy)
        before = self.workers(proxy)
        opened = [0]

        def handed_over():
            client = self.connected()
            opened[0] += 1
            if self.worker_of(proxy, client) == 0:
                kept.append(client)  # only if worker 1 happened to be busier
            else:
                client.close()
            return self.workers(proxy)[1]["received"] >= before[1]["received"] + 5

        until(handed_over)
        after = self.workers(proxy)
        for one, other in ((0, 1), (1, 0)):
            self.assertEqual(after[one]["handed_over"], after[other]["received"])
        self.assertEqual(sum(worker["accepted"] - old["accepted"] for worker, old in zip(after, before)), opened[0])
        self.assertEqual(after[0]["connections"], len(kept))
        self.assertEqual(proxy.counter("connections_handed_over"), sum(worker["handed_over"] for worker in after))
        for client in kept:
            self.echo(client)

    def test_as_a_table(self):
        proxy = self.start()
        kept = self.overload(proxy)
        kept += [self.connected() for _ in range(15)]
        one = self.workers(proxy)[0]
        shown = self.program("--config", proxy.directory, "ctl", "status").stdout
        self.assertRegex(shown, r"(?m)^workers \(load: of the last \S.*\)\n  WORKER +OPEN +ACCEPTED +HANDED OVER +"
                                r"RECEIVED +LOAD *\n  0 +%d +%d +%d +%d +\d+\.\d %%"
                         % (one["connections"], one["accepted"], one["handed_over"], one["received"]))

    def test_one_worker_keeps_all(self):
        proxy = self.start(workers=1)
        for client in [self.connected() for _ in range(50)]:
            self.echo(client)
        (only,) = self.workers(proxy)
        self.assertEqual((only["accepted"], only["handed_over"], only["received"]), (50, 0, 0))

    def test_of_a_unix_socket(self):
        """All workers accept from one socket. Those of one worker are kept, until it hands one over."""
        path = os.path.join(self.directory(), "s")
        proxy = self.start(address="unix:" + path)
        known = {}

        def handed_over():
            client = Peer(socket.socket(socket.AF_UNIX))
            self.addCleanup(client.close)
            client.socket.connect(path)
            self.echo(client)
            pipes = {pipe["id"]: pipe["worker"] for pipe in proxy.ask("pipes")["pipes"]}
            (new,) = set(pipes) - set(known)
            if any(worker["handed_over"] for worker in self.workers(proxy)):
                return client
            if pipes[new] == next(iter(known.values()), pipes[new]):
                known[new] = pipes[new]
            else:
                proxy.ask("kill", id=new)
            return None

        self.echo(until(handed_over))
        self.assertGreater(len(known), 16, "what chance may do is left alone")


BUSY = """
local connpipe = require "connpipe"
if connpipe.worker == 0 then
  connpipe.every(0.001, function() for _ = 1, 1000000 do end end)  -- in short pieces, most of the time
end
connpipe.router { id = "main", bind = { "tcp:$4:%d" }, route = function() return "echo:" end }
"""


class Work(Balance):
    def test_a_busy_worker_hands_over(self):
        """Short connections: too few at a time to be counted, so only the work can be the reason."""
        self.port = free_port()
        proxy = self.connpipe('[connpipe]\nworkers = 2\n[rules]\ntype = "lua"\npath = "main.lua"\n',
                              files={"main.lua": BUSY % self.port})

        def one_more():
            self.connected().close()
            busy, other = self.workers(proxy)
            self.assertEqual((busy["received"], other["handed_over"]), (0, 0))
            return busy["handed_over"] > 0 and busy["load"] > other["load"]

        until(one_more)


class Storm(Balance):
    """Hand-overs all the time while everything else changes: no connection is lost."""

    def test_reloads(self):
        proxy = self.start()
        kept = self.overload(proxy)
        stop, served, errors = threading.Event(), [0], []

        def load():
            while not stop.is_set():
                try:
                    with socket.create_connection(("127.0.0.1", self.port), timeout=20) as sock:
                        sock.sendall(b"x")
                        assert sock.recv(1) == b"x", "cut short"
                    served[0] += 1
                except (OSError, AssertionError) as error:
                    errors.append(error)

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(30):
                before, handed_over = served[0], proxy.counter("connections_handed_over")
                self.assertTrue(proxy.ask("reload")["ok"])
                until(lambda: errors or (served[0] > before
                                         and proxy.counter("connections_handed_over") > handed_over))
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.assertEqual(errors, [])
        for client in kept:
            self.echo(client)
            client.close()
        until(lambda: proxy.ask("status")["pinned"] == [])

    def burst(self, count):
        """Connections that are all established; nobody has sent anything."""
        socks = []
        for _ in range(count):
            sock = socket.socket()
            self.addCleanup(sock.close)
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect(("127.0.0.1", self.port))
            socks.append(sock)
        for sock in socks:
            _, writable, _ = select.select([], [sock], [], 20)
            self.assertTrue(writable)
            self.assertEqual(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), 0)
            sock.settimeout(20)
        return socks

    def test_draining(self):
        for _ in range(5):
            proxy = self.start()
            kept = self.overload(proxy)
            burst = self.burst(150)
            proxy.signal(SIGTERM)
            for sock in burst:
                sock.sendall(b"x")
                self.assertEqual(sock.recv(1), b"x")
            for client in kept:
                self.echo(client)
                client.close()
            for sock in burst:
                sock.sendall(b"y")
                self.assertEqual(sock.recv(1), b"y")
                sock.close()
            self.assertEqual(proxy.wait(), 0)
