"""What has to hold under load: reloads that lose nothing, connections that cost little, readers that are stuck.

$CONNPIPE_TEST_LONG set: the full counts instead of reduced ones."""

import json
import os
import subprocess

from .harness import PROGRAM, SIGHUP, SIGTERM, Scenario, free_port, table, until

LOAD = os.path.join(os.path.dirname(PROGRAM), "tests", "load")
LONG = bool(os.environ.get("CONNPIPE_TEST_LONG"))
SANITIZED = "san" in os.path.basename(os.path.dirname(PROGRAM))


class Load:
    """A running tests/load."""

    def __init__(self, *words):
        self.process = subprocess.Popen([LOAD, *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.first_line = self.process.stdout.readline().strip()

    def finish(self):
        """End it. Returns what it counted."""
        out, _ = self.process.communicate()
        return json.loads(out.splitlines()[-1]) if out else None


def failures(result):
    return {k: v for k, v in result.items() if k in ("refused", "reset", "cut_short", "wrong_bytes", "other") and v}


def private_memory(pid):
    """Bytes of the process's own: anonymous memory that is resident."""
    with open("/proc/%d/status" % pid, encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon:")) * 1024


def processor_ticks(pid):
    with open("/proc/%d/stat" % pid, encoding="ascii") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def descriptors(pid):
    return len(os.listdir("/proc/%d/fd" % pid))


class LoadScenario(Scenario):
    def load(self, *words):
        load = Load(*words)
        self.addCleanup(load.process.stdout.close)
        self.addCleanup(load.process.wait)
        self.addCleanup(load.process.kill)
        return load

    def kernel_serves(self, count):
        """Connections that this machine's descriptor limit allows a proxy to relay."""
        import resource

        return min(count, (resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 200) // 2)


class Reload(LoadScenario):
    """Reloads, every third one broken, while connections come and go."""

    def test_nothing_is_lost(self):
        count = 1000 if LONG or not SANITIZED else 150
        echo = self.load("echo")
        target = "tcp:$4:" + echo.first_line
        ports = [free_port() for _ in range(2)]
        moving = [free_port() for _ in range(5)]

        def config(number):
            routes = {
                "tcp:$4:%d" % ports[0]: target,
                "tcp:$4:%d!echo" % ports[1]: target,
                "tcp:$4:%d" % moving[number % len(moving)]: target,
            }
            if number % 3 == 2:
                routes["tcp:$4:%d!broken" % ports[1]] = "nowhere:1:2"
            return table(routes, 'workers = 2\nlog = { level = "warn" }')

        proxy = self.connpipe(config(0), wait=False)
        until(lambda: os.path.exists(os.path.join(proxy.directory, "run", "admin.sock")))
        until(lambda: proxy.ask("status")["state"] == "running")
        before = descriptors(proxy.process.pid)
        kept = self.load("idle", ports[0], "-c", 50)
        self.assertEqual(kept.first_line, "ready")
        churning = [self.load("churn", ports[0], "-c", 20), self.load("churn", ports[1], "-s", "echo", "-c", 20)]
        memory = 0
        for number in range(1, count + 1):
            proxy.configure(config(number))
            answer = proxy.ask("reload")
            self.assertEqual(answer["ok"], number % 3 != 2, answer)
            if number == count // 3:
                memory = private_memory(proxy.process.pid)
        for load in churning:
            result = load.finish()
            self.assertEqual(failures(result), {})
            self.assertGreater(result["ok"], count)
        result = kept.finish()
        self.assertEqual((result["ok"], failures(result)), (50, {}))
        until(lambda: proxy.ask("status")["connections"] == 0)
        until(lambda: proxy.ask("status")["pinned"] == [])
        self.assertEqual(proxy.ask("status")["reloads"], {"ok": count - (count + 1) // 3, "failed": (count + 1) // 3,
                                                          "last_error": proxy.ask("status")["reloads"]["last_error"]})
        until(lambda: descriptors(proxy.process.pid) <= before)
        if not SANITIZED:  # sanitizers keep freed memory
            self.assertLess(private_memory(proxy.process.pid), memory + 512 * 1024)

    def test_by_signal(self):
        proxy, _, client, target = self.pair()
        for number in range(2, 6):
            proxy.signal(SIGHUP)
            proxy.wait_log(r"generation %d is in use" % number)
        client.send(b"still here")
        target.expect(b"still here")


class Memory(LoadScenario):
    def test_idle_connections(self):
        count = self.kernel_serves(8000)
        echo = self.load("echo")
        proxy = self.connpipe(table({"tcp:$4:0": "tcp:$4:" + echo.first_line}, 'log = { level = "warn" }'), wait=False)
        until(lambda: os.path.exists(os.path.join(proxy.directory, "run", "admin.sock")))
        until(lambda: proxy.ask("status")["state"] == "running")
        before = private_memory(proxy.process.pid)
        idle = self.load("idle", proxy.port(), "-c", count)
        self.assertEqual(idle.first_line, "ready")
        each = (private_memory(proxy.process.pid) - before) / count
        print("\n  %d idle connections: %.0f bytes each" % (count, each))
        if not SANITIZED:
            self.assertLess(each, 1024)
        result = idle.finish()
        self.assertEqual((result["ok"], failures(result)), (count, {}))

    def test_stuck_readers(self):
        source = self.load("source")
        proxy = self.connpipe(table({"tcp:$4:0": "tcp:$4:" + source.first_line}, 'log = { level = "warn" }'), wait=False)
        until(lambda: os.path.exists(os.path.join(proxy.directory, "run", "admin.sock")))
        until(lambda: proxy.ask("status")["state"] == "running")
        before = private_memory(proxy.process.pid)
        stuck = self.load("stuck", proxy.port(), "-c", 50)
        self.assertEqual(stuck.first_line, "ready")

        # At rest: no byte moves between two looks, and then none of the time is spent.
        def at_rest():
            moved = proxy.counter("bytes_out")
            ticks = processor_ticks(proxy.process.pid)
            for _ in range(20):
                if proxy.counter("bytes_out") != moved:
                    return False
            return moved > 0 and proxy.ask("status")["connections"] == 50 and (ticks, moved)

        until(at_rest)
        each = (private_memory(proxy.process.pid) - before) / 50
        print("\n  50 stuck readers: %.0f bytes each" % each)
        if not SANITIZED:
            self.assertLess(each, 256 * 1024)
        # Asking costs a little itself; 200 questions with 50 spinning pipes would cost far more than a tick each.
        ticks = processor_ticks(proxy.process.pid)
        for _ in range(200):
            proxy.ask("status")
        self.assertLess(processor_ticks(proxy.process.pid) - ticks, 100)
        stuck.finish()
        until(lambda: proxy.ask("status")["connections"] == 0)


class Descriptors(LoadScenario):
    def test_the_limit_pauses_and_resumes(self):
        """More clients than descriptors: those that fit are served, the others wait in the kernel, then are served."""
        echo = self.load("echo")
        proxy = self.connpipe(table({"tcp:$4:0": "tcp:$4:" + echo.first_line}, "workers = 1"), descriptors=100)
        port = proxy.port()
        first = [self.client(port) for _ in range(60)]
        for peer in first:
            peer.send(b"hello")
        proxy.wait_log("pauses accepting")
        self.assertGreater(proxy.ask("status")["connections"], 20)  # the control socket has a descriptor kept back
        served = 0
        for peer in first:
            peer.socket.settimeout(0.05)
            try:
                peer.expect(b"hello")
                served += 1
            except TimeoutError:
                break
        self.assertGreater(served, 20)
        for peer in first[:served]:
            peer.close()
        proxy.wait_log("accepts again")
        for peer in first[served:]:
            peer.socket.settimeout(20)
            peer.expect(b"hello")
        proxy.signal(SIGTERM)
        self.assertEqual(proxy.wait(), 0)
