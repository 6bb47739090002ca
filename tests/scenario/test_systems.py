"""Systems of users: reloads without end, scripts that misbehave beside others, the README's route as it is printed.

$CONNPIPE_TEST_LONG set: 10,000 reloads instead of 300 (1,000 with a sanitizer)."""

import concurrent.futures
import os
import re
import shutil
import statistics
import unittest

from .harness import SIGTERM, TOP, Scenario, free_port, until
from .test_dylib import DYLIBS, SANITIZER
from .test_load import LoadScenario, failures

LONG = bool(os.environ.get("CONNPIPE_TEST_LONG"))


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


@unittest.skipUnless(os.path.isdir(DYLIBS), "no test libraries beside the program")
class Reload(LoadScenario):
    """A script and a library that need each other. Each connection passes the library's converter, the script's router
    (which waits for the first byte), the library's router, and the script's connector (which waits for the target)."""

    CONFIG = """
[connpipe]
workers = 2
log = { level = "warn" }
[counting]
type = "dylib"
path = "%s"
to = "far:away:1"
[rules]
type = "lua"
path = "lua/main.lua"
target = "tcp:$4:%s"
"""
    SCRIPT = """
local connpipe = require "connpipe"
local ballast = ("%d"):rep(100000)
connpipe.router { id = "main", bind = { "count+tcp:$4:0" }, route = function(request)
  connpipe.shared:incr("connections", 1, 0)
  if request:peek(1) ~= "" and ballast then return ">counting" end
end }
connpipe.connector { aliases = { "far" }, connect = function()
  return connpipe.connect(connpipe.config.target)
end }
connpipe.every(0.001, function() end)
"""

    def start(self):
        directory = self.directory()
        self.library, self.notes = os.path.join(directory, "x.so"), os.path.join(directory, "notes")
        self.put_library(0)
        self.proxy = self.connpipe(self.CONFIG % (self.library, self.load("echo").first_line), wait=False,
                                   files={"lua/main.lua": self.SCRIPT % 0}, environment={"COUNTING": self.notes})
        until(lambda: os.path.exists(os.path.join(self.proxy.directory, "run", "admin.sock")))
        until(lambda: self.proxy.ask("status")["state"] == "running")

    def put_library(self, number, length=None):
        """Write over the library in place; another one each time."""
        with open(os.path.join(DYLIBS, "libcounting%d.so" % (1 + number % 2)), "rb") as file:
            data = file.read(length)
        with open(self.library, "wb") as file:
            file.write(data)

    def put_script(self, number, more=""):
        write(os.path.join(self.proxy.directory, "lua", "main.lua"), self.SCRIPT % number + more)

    def noted(self, what):
        with open(self.notes, encoding="utf-8") as file:
            return len(re.findall(r"(?m)^v\d %s$" % what, file.read()))

    def reload(self, number):
        """Both are new each time; in every tenth reload the script raises in the end, in every tenth the library is cut
        off."""
        error = {3: r"main\.lua:\d+: broken", 7: r"x\.so: it is cut off"}.get(number % 10)
        self.put_script(number, "error 'broken'" if number % 10 == 3 else "")
        self.put_library(number, 5000 if number % 10 == 7 else None)
        answer = self.proxy.ask("reload")
        self.assertEqual(answer["ok"], error is None, answer)
        if error:
            self.assertRegex(answer["errors"][0], error)

    def reload_under_load(self, numbers):
        """Connections come and go, and others stay, through all of these reloads."""
        port = self.proxy.port()
        loads = [self.load("kept", port, "-c", 2), self.load("churn", port, "-c", 2)]
        for number in numbers:
            self.reload(number)
        for load in loads:
            result = load.finish()
            self.assertEqual(failures(result), {})
            self.assertGreater(result["ok"], len(numbers))

    def held(self):
        """When all connections and all old generations are gone: descriptors, timers of the kernel (one for each state
        of the script), KiB of resident memory."""
        until(lambda: self.proxy.ask("status")["connections"] == 0)
        until(lambda: self.proxy.ask("status")["pinned"] == [])
        until(lambda: self.noted("unmapped") == self.noted("mapped") - 1)
        process = "/proc/%d/" % self.proxy.process.pid
        with open(process + "timers", encoding="ascii") as timers, open(process + "status", encoding="ascii") as status:
            return (len(os.listdir(process + "fd")), len(re.findall(r"(?m)^ID:", timers.read())),
                    int(re.search(r"VmRSS:\s+(\d+)", status.read())[1]))

    def stop(self):
        """It exits with 0, which it does not if LeakSanitizer found something, and leaves nothing loaded."""
        self.proxy.signal(SIGTERM)
        self.assertEqual(self.proxy.wait(), 0)
        counts = [self.noted(what) for what in ("mapped", "load", "unload", "unmapped")]
        self.assertEqual(counts, [counts[0]] * 4)

    def test_many_leave_nothing_behind(self):
        total = 300 if not LONG else 1000 if SANITIZER else 10000
        self.start()
        self.reload_under_load(range(total // 10))
        before = self.held()
        self.reload_under_load(range(total // 10, total))
        # Behind an answer its connection to the control socket is open for a moment.
        after = until(lambda: (now := self.held())[0] <= before[0] and now[1] <= before[1] and now)
        figures = ", ".join("%s %d before, %d after" % figure for figure in zip(
            ("descriptors", "timers", "KiB of memory"), before, after))
        print("\n  %d reloads: %s" % (total, figures))
        if not SANITIZER:  # they keep freed memory for a while
            self.assertLess(after[2], before[2] + 4096)  # it goes up and down by as much as 1,300
        self.stop()


@unittest.skipUnless(SANITIZER == "asan", "the program is not built with AddressSanitizer")
class LeakCheck(Scenario):
    def test_lost_memory_is_an_exit_code(self):
        """What the tests rely on that stop a process and expect 0."""
        proxy = self.connpipe('[it]\ntype = "lua"\npath = "it.lua"\nffi = true\n', files={"it.lua": """
local ffi = require "ffi"
ffi.cdef "void *malloc(size_t size);"
for _ = 1, 100 do ffi.C.malloc(1000) end
"""})
        proxy.signal(SIGTERM)
        self.assertNotEqual(proxy.wait(), 0)
        self.assertRegex(proxy.log(), "LeakSanitizer: detected memory leaks")


# ThreadSanitizer delivers signals only where the program calls the library, which an endless loop never does.
@unittest.skipIf(SANITIZER == "tsan", "the program is built with ThreadSanitizer")
class Neighbours(Scenario):
    """Scripts that misbehave, and connections on the same worker that have nothing to do with them.

    How long a script holds the worker is counted in processor time of the worker, and how often in exchanges of the
    others: what else the machine does is no part of either."""

    SCRIPT = """
local connpipe = require "connpipe"
connpipe.router { id = "main", bind = { "tcp:$4:0" }, route = function(request)
  local first = request:peek(4)
  if first == "loop" then while true do end end
  if first == "heap" then local t = {} while true do t[#t + 1] = { #t } end end
  if first == "fail" then error("failed") end
  if first == "wait" then connpipe.log.info("waiting") connpipe.sleep(10) end
  return "echo:"
end }
"""
    BUDGET = 0.005
    # A run may last a quarter more, and until the kernel's clock ticks (twice, 4 to 10 ms). The rest is for hosts that
    # count what they take away from this machine as its own time.
    SLACK = 0.025
    RUNS = 20

    def start(self, budget):
        self.proxy = self.connpipe("""
[connpipe]
workers = 1
[rules]
type = "lua"
path = "lua/main.lua"
budget = "%dms"
memory = "4MiB"
[front]
type = "table"
routes = { "tcp:127.0.0.2:0" = "echo:" }
""" % (budget * 1000), files={"lua/main.lua": self.SCRIPT})
        self.port = self.proxy.port()
        self.other = self.client(self.proxy.port("127.0.0.2"), host="127.0.0.2")
        self.exchanges = []
        self.find_worker()
        self.exchange()

    def find_worker(self):
        tasks = "/proc/%d/task/" % self.proxy.process.pid
        for thread in os.listdir(tasks):
            with open(tasks + thread + "/comm", encoding="ascii") as name:
                if name.read().strip() == "worker/0":
                    self.schedstat = tasks + thread + "/schedstat"

    def worker_time(self):
        """Seconds that the worker has run so far."""
        with open(self.schedstat, encoding="ascii") as file:
            return int(file.read().split()[0]) / 1e9

    def exchange(self):
        """One question and answer of the neighbour; how much the worker ran meanwhile."""
        before = self.worker_time()
        self.other.send(b"ping")
        self.other.expect(b"ping")
        self.exchanges.append(self.worker_time() - before)

    def connect(self, first):
        client = self.client(self.port)
        client.send(first)
        return client

    def run_bad(self, first):
        """A connection whose script does not end well, and an exchange of the neighbour behind it. Returns how long the
        worker ran."""
        before = self.worker_time()
        client = self.connect(first)
        client.expect_closed()
        took = self.worker_time() - before
        count = len(self.exchanges)
        until(lambda: len(self.exchanges) > count)
        return took

    def beside(self, work):
        """The neighbour's exchanges while `work` is done. Returns its result, and how many exchanges were slow."""
        self.exchanges = []
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            future = pool.submit(work)
            while not future.done():
                self.exchange()
        return future.result(), self.slow()

    def slow(self):
        return sum(took > self.BUDGET + self.SLACK for took in self.exchanges)

    def none_slow(self, work):
        """Of three times at least one goes by without a slow exchange; what is slow by itself is so each time."""
        slow = [self.beside(work)[1] for _ in range(3)]
        self.assertIn(0, slow)

    def holds_the_worker_for_its_budget(self, first, line, error):
        self.start(self.BUDGET)
        took, slow = self.beside(lambda: [self.run_bad(first) for _ in range(self.RUNS)])
        self.proxy.wait_log(r"ERROR rules\] lua/main\.lua:%d: %s" % (line, error), self.RUNS)
        self.assertLess(statistics.median(took), self.BUDGET + self.SLACK)
        self.assertLessEqual(slow, self.RUNS)
        self.assertEqual(self.proxy.counter("closed_router_failed"), self.RUNS)

    def test_that_loops(self):
        self.holds_the_worker_for_its_budget(b"loop", 5, "ran longer than its budget of 5 ms")

    def test_that_allocates(self):
        self.holds_the_worker_for_its_budget(b"heap", 6, "(not enough memory|ran longer)")

    def test_that_raises(self):
        self.start(self.BUDGET)
        self.none_slow(lambda: [self.run_bad(b"fail") for _ in range(self.RUNS)])
        self.proxy.wait_log(r"ERROR rules\] lua/main\.lua:7: failed", 3 * self.RUNS)

    def test_that_waits(self):
        self.start(self.BUDGET)
        waiting = [self.connect(b"wait") for _ in range(self.RUNS)]
        self.proxy.wait_log("waiting", self.RUNS)
        self.none_slow(lambda: until(lambda: len(self.exchanges) > 100))
        for client in waiting:  # none of the exchanges had to wait for them
            client.socket.setblocking(False)
            self.assertRaises(BlockingIOError, client.receive)

    def test_all_of_them_beside_the_same_script(self):
        """Connections whose script does well are served, each, while others of the same script do not."""
        self.start(self.BUDGET)
        bad = (b"loop", b"heap", b"fail")
        waiting = [self.connect(b"wait") for _ in range(3)]
        self.proxy.wait_log("waiting", 3)
        with concurrent.futures.ThreadPoolExecutor(len(bad)) as pool:
            runs = [pool.submit(lambda first=first: [self.run_bad(first) for _ in range(self.RUNS)]) for first in bad]
            served = 0
            while not all(run.done() for run in runs):
                client = self.connect(b"good")
                client.expect(b"good")
                client.close()
                self.exchange()
                served += 1
            concurrent.futures.wait(runs)
        self.assertTrue(all(len(run.result()) == self.RUNS for run in runs))
        until(lambda: self.proxy.counter("closed_done") == served)
        until(lambda: self.proxy.counter("closed_router_failed") == len(bad) * self.RUNS)
        self.assertEqual(self.proxy.ask("status")["connections"], len(waiting) + 1)

    def test_the_measure_sees_what_is_held(self):
        """With a budget of 20 times as much there are slow exchanges."""
        self.start(20 * self.BUDGET)
        took, slow = self.beside(lambda: [self.run_bad(b"loop") for _ in range(3)])
        self.assertGreater(min(took), self.BUDGET + self.SLACK)
        self.assertGreater(slow, 0)


class Readme(Scenario):
    """What README.md says of scripts and libraries: its blocks are pasted into files."""

    def setUp(self):
        with open(os.path.join(TOP, "README.md"), encoding="utf-8") as file:
            section = file.read().split("\n### Lua scripts and shared libraries\n")[1].split("\n## ")[0]
        self.configs = re.findall(r"(?s)```toml\n(.*?)```", section)
        self.script, = re.findall(r"(?s)```lua\n(.*?)```", section)

    def paste(self):
        directory = self.directory()
        write(os.path.join(directory, "config.toml"), self.configs[0])
        write(os.path.join(directory, "lua", "main.lua"), self.script)
        return directory

    def route(self, directory, client):
        return self.program("--config", directory, "route", "tcp:0.0.0.0:25565", "from=" + client)

    def test_five_lines(self):
        self.assertEqual(len(self.script.splitlines()), 5)

    def test_check(self):
        result = self.program("--config", self.paste(), "check")
        self.assertEqual((result.returncode, result.stderr), (0, ""))

    def test_route(self):
        directory = self.paste()
        result = self.route(directory, "192.0.2.2")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(result.stdout, r"(?s)tcp:127\.0\.0\.1:8080.*echo:")
        result = self.route(directory, "192.0.2.1")
        self.assertEqual(result.returncode, 1)
        self.assertIn("banned", result.stdout + result.stderr)

    def test_connections(self):
        """Nothing but the two ports is another, since those of the README may be in use here."""
        front, behind = free_port(), free_port()
        script, count = re.subn(r"\*4:25565\b|127\.0\.0\.1:8080\b", lambda found: found[0].split(":")[0] + ":%d" % (
            front if "*4" in found[0] else behind), self.script)
        self.assertEqual(count, 2)
        proxy = self.connpipe(self.configs[0], files={"lua/main.lua": script})
        client = self.client(front)
        client.send(b"hello")
        client.expect(b"hello")
        proxy.wait_log("opened: .* by main to echo:")
        server = self.server(port=behind)
        self.client(front).send(b"hello")
        self.accept(server).expect(b"hello")

    @unittest.skipUnless(os.path.isdir(DYLIBS), "no test libraries beside the program")
    def test_library(self):
        directory = self.directory()
        write(os.path.join(directory, "config.toml"), self.configs[1])
        os.mkdir(os.path.join(directory, "dylib"))
        shutil.copy(os.path.join(DYLIBS, "libcounting1.so"), os.path.join(directory, "dylib", "libgeo.so"))
        result = self.program("--config", directory, "check")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(self.program("--config", directory, "systems").stdout, r"(?s)\bgeo\b.*\bcount\b")


if __name__ == "__main__":
    unittest.main()
