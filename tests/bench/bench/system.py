"""What the kernel says: processor time, memory, limits; and children that end with us."""

import contextlib
import ctypes
import glob
import os
import random
import resource
import signal
import socket
import subprocess
import time

TICK = os.sysconf("SC_CLK_TCK")
PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None, use_errno=True)


def may_be_realtime():
    """Whether a process may run before others."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        return False
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return True


class Failure(Exception):
    """A round that could not be measured, and why."""


def raise_descriptor_limit():
    """The soft limit to the hard one. Returns it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def start(words, cpus=None, realtime=False, **options):
    """A child in a session of its own (Ctrl-C is ours to pass on) that the kernel ends if we die."""

    def before():
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if cpus:
            os.sched_setaffinity(0, cpus)
        if realtime:
            with contextlib.suppress(PermissionError):
                os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))

    return subprocess.Popen(words, preexec_fn=before, start_new_session=True, **options)


def stop(process):
    """End a child and reap it: asked first, then not."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe:
            with contextlib.suppress(OSError):
                pipe.close()


def family(pid):
    """A process and all below it."""
    found = [pid]
    for path in glob.glob("/proc/%d/task/*/children" % pid):
        with contextlib.suppress(OSError), open(path, encoding="ascii") as children:
            for child in children.read().split():
                found += family(int(child))
    return found


def processor_seconds(pid):
    """What the scheduler counted for all threads of a process; None if it is gone."""
    paths = glob.glob("/proc/%d/task/*/schedstat" % pid)
    total = 0
    try:
        for path in paths:
            with open(path, encoding="ascii") as schedstat:
                total += int(schedstat.read().split()[0])
    except (FileNotFoundError, ProcessLookupError):
        return None
    return total / 1e9 if paths else None


def private_bytes(pids):
    """Memory that is these processes' own. The kernel's (sockets) is the same for every relay."""
    total = 0
    for pid in pids:
        with open("/proc/%d/smaps_rollup" % pid, encoding="ascii") as rollup:
            for line in rollup:
                if line.startswith(("Private_Dirty:", "Private_Clean:")):
                    total += int(line.split()[1]) * 1024
    return total


def idle_seconds():
    """Time that the processors had nothing to do, or were not given to this machine, since it started."""
    with open("/proc/stat", encoding="ascii") as stat:
        fields = [int(word) for word in stat.readline().split()[1:]]
    idle, iowait, steal = fields[3], fields[4], fields[7]
    return (idle + iowait + steal) / TICK


class Stopwatch:
    """Processor time of some processes, and of the whole machine, between two moments. `may_end`: those that end
    meanwhile are left out; they are about to end when it begins."""

    def __init__(self, pids, may_end=False):
        self.may_end = may_end
        self.before = {pid: processor_seconds(pid) for pid in pids}
        self.began = (time.monotonic(), idle_seconds())

    def stop(self):
        """Returns (elapsed, of these processes, of the machine) in seconds. What the kernel says about idle time is in
        steps, and late: the machine did at least what these processes did."""
        own = sum(self.used(pid) for pid in self.before)
        elapsed = time.monotonic() - self.began[0]
        idle = idle_seconds() - self.began[1]
        return elapsed, own, max(elapsed * os.cpu_count() - idle, own)

    def used(self, pid):
        before, now = self.before[pid], processor_seconds(pid)
        if before is not None and now is not None:
            return now - before
        if not self.may_end:
            raise Failure("process %d is gone" % pid)
        return 0


def busy_part(seconds=0.5):
    """How much of the machine is in use now, from 0 to 1: before anything of ours runs."""
    watch = Stopwatch([])
    time.sleep(seconds)
    elapsed, _, total = watch.stop()
    return total / elapsed / os.cpu_count()


def free_ports(count):
    """Ports on which nothing listens, below those that the kernel gives to clients: there no client can be in the way,
    and most services are there (connpipe looks closer at a target whose port could be its own)."""
    lowest_local = int((setting("/proc/sys/net/ipv4/ip_local_port_range") or "32768").split()[0])
    found = []
    for port in random.sample(range(10000, max(lowest_local, 12000)), 1000):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise Failure("there are no %d free ports from 10000 on" % count)


def setting(path):
    with contextlib.suppress(OSError), open(path, encoding="ascii") as file:
        return file.read().strip()
    return None
