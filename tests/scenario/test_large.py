"""A table of a million routes: what it costs to load and to hold, and that each name leads to its own target.

$CONNPIPE_TEST_ROUTES: another number of routes. Under sanitizers, which make everything slow and large, it is 20,000."""

import os
import time
import unittest

from .harness import PROGRAM, SIGHUP, Scenario, free_port, preamble, until

SANITIZED = "san" in os.path.basename(os.path.dirname(PROGRAM))
ROUTES = int(os.environ.get("CONNPIPE_TEST_ROUTES") or (20000 if SANITIZED else 1000000))
LOAD_PATIENCE = 60  # seconds, on a machine with other things to do

CONFIG = """
[connpipe]
workers = 1
[large]
type = "table"
path = "routes.toml"
"""


def processor_seconds(pid):
    with open("/proc/%d/stat" % pid, encoding="ascii") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid, name):
    """MiB, by a line of /proc/PID/status."""
    with open("/proc/%d/status" % pid, encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name + ":")) / 1024


class Large(Scenario):
    def setUp(self):
        self.port = free_port()
        self.servers = {number: self.server() for number in (0, ROUTES // 2, ROUTES - 1)}

    def routes(self, block):
        """A route for each number. Those to the servers are the only ones that anybody asks for."""
        lines = ["[routes]\n"]
        for number in range(ROUTES):
            target = "tcp:%s.%d.%d.%d:80" % (block, number >> 16, number >> 8 & 255, number & 255)
            if number in self.servers:
                target = self.servers[number].address
            lines.append('"tcp:$4:%d!%d" = "%s"\n' % (self.port, number, target))
        return "".join(lines)

    def wait_generation(self, number):
        deadline = time.monotonic() + LOAD_PATIENCE
        while "generation %d is in use" % number not in self.proxy.log():
            self.assertFalse(self.proxy.ended, "the process ended")
            self.assertLess(time.monotonic(), deadline, "generation %d is not in use" % number)
            time.sleep(0.01)

    def start(self):
        self.proxy = self.connpipe(CONFIG, files={"routes.toml": self.routes("10")}, wait=False)
        self.wait_generation(1)
        return self.proxy.process.pid

    def through(self, number):
        """A connection to a subport, which ends at that number's server."""
        client = self.client(self.port)
        client.send(preamble(str(number)) + b"hello")
        target = self.accept(self.servers[number])
        target.expect(b"hello")
        return client, target

    def refuse(self, name):
        closed = self.proxy.counter("closed_no_route")
        client = self.client(self.port)
        client.send(preamble(name))
        client.expect_closed()
        until(lambda: self.proxy.counter("closed_no_route") == closed + 1)

    def test_load_and_look_up(self):
        pid = self.start()
        seconds = processor_seconds(pid)
        print("\n  %d routes: loaded in %.2f s of processor time, peak %.0f MiB, then %.0f MiB"
              % (ROUTES, seconds, memory(pid, "VmHWM"), memory(pid, "RssAnon")))
        for number in self.servers:
            self.through(number)
        for name in (str(ROUTES), "0%d" % (ROUTES - 1), "x", str(ROUTES - 1) + "\N{ARABIC-INDIC DIGIT ONE}"):
            self.refuse(name)
        if not SANITIZED:
            self.assertLess(seconds, 10 * ROUTES / 1e6)

    def test_reload_with_connections_open(self):
        pid = self.start()
        kept = [self.through(number) for number in self.servers]
        one_table = memory(pid, "RssAnon")
        self.servers[1] = self.server()  # a target that only the second generation knows
        with open(os.path.join(self.proxy.directory, "routes.toml"), "w", encoding="utf-8") as file:
            file.write(self.routes("11"))
        before = processor_seconds(pid)
        self.proxy.signal(SIGHUP)
        self.wait_generation(2)
        seconds = processor_seconds(pid) - before
        for client, target in kept:
            client.send(b"still here")
            target.expect(b"still here")
            target.send(b"so am I")
            client.expect(b"so am I")
        for number in self.servers:
            self.through(number)
        self.refuse(str(ROUTES))
        until(lambda: self.proxy.ask("status")["pinned"] == [])
        if not SANITIZED:  # sanitizers keep freed memory
            until(lambda: memory(pid, "RssAnon") < one_table * 1.3)
        print("\n  %d routes: loaded again in %.2f s of processor time, peak %.0f MiB, %.0f MiB before, then %.0f MiB"
              % (ROUTES, seconds, memory(pid, "VmHWM"), one_table, memory(pid, "RssAnon")))


if __name__ == "__main__":
    unittest.main()
