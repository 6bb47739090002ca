#!/usr/bin/env python3
"""A link between two network namespaces that loses packets, for kernels without netem.

    lossy_link.py NAMESPACE NAMESPACE PERCENT MILLISECONDS

Makes a device `link` in each of them, and carries what one sends to the other, but for so many percent, after so many
milliseconds. Prints "ready"; ends when its stdin does."""

import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000


def device(namespace, number):
    """A tun device that has moved to the namespace: what it sends can be read."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    name = "cpt%d%d" % (os.getpid() % 1000000, number)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    subprocess.run(["ip", "link", "set", name, "netns", namespace, "name", "link"], check=True)
    return descriptor


class Link:
    def __init__(self, names, loss, delay):
        self.ends = [device(name, number) for number, name in enumerate(names)]
        self.loss, self.delay = loss, delay
        self.chance = random.Random(1)
        self.under_way = []  # (when, number, end, packet)
        self.count = 0

    def take(self, end):
        while True:
            try:
                packet = os.read(self.ends[end], 65536)
            except BlockingIOError:
                return
            self.count += 1
            if self.chance.random() >= self.loss:
                heapq.heappush(self.under_way, (time.monotonic() + self.delay, self.count, 1 - end, packet))

    def deliver(self):
        """@return milliseconds to wait for the next one"""
        while self.under_way and self.under_way[0][0] <= time.monotonic():
            _, _, end, packet = heapq.heappop(self.under_way)
            try:
                os.write(self.ends[end], packet)
            except OSError:
                pass  # the device is down, or full: one more that is lost
        return max((self.under_way[0][0] - time.monotonic()) * 1000, 0) if self.under_way else None

    def run(self):
        poll = select.poll()
        for descriptor in (*self.ends, sys.stdin.fileno()):
            poll.register(descriptor, select.POLLIN | select.POLLHUP)
        wait = None
        while True:
            for descriptor, events in poll.poll(wait):
                if descriptor not in self.ends:
                    return
                if events & select.POLLIN:
                    self.take(self.ends.index(descriptor))
            wait = self.deliver()


def main():
    first, second, percent, milliseconds = sys.argv[1:]
    link = Link([first, second], float(percent) / 100, float(milliseconds) / 1000)
    print("ready", flush=True)
    link.run()


if __name__ == "__main__":
    main()
