"""Systems in shared libraries: reloads, replacing a library under load, the examples built against an installation."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import unittest

from tests.scenario.harness import (PATIENCE, PROGRAM, SIGTERM, TOP, Connpipe, Peer, Scenario, client_hello, free_port,
                                    table, until)

sys.path.append("/usr/lib/python3/dist-packages")  # python3-zmq of Debian, also for a python3 from elsewhere
try:
    import zmq
except ImportError:
    zmq = None

BUILD = os.path.dirname(PROGRAM)
DYLIBS = os.path.join(BUILD, "tests", "dylib")
LONG = bool(os.environ.get("CONNPIPE_TEST_LONG"))
with open(PROGRAM, "rb") as program:
    SANITIZER = re.search(rb"__([at]san)_init", program.read())
    SANITIZER = SANITIZER and SANITIZER[1].decode()


@unittest.skipUnless(os.path.isdir(DYLIBS), "no test libraries beside the program")
class Library(Scenario):
    """The counting library of tests/dylib as lib/x.so. What is bound has its code in every stream (count+…) or in its
    listener (greet:…)."""

    def start(self, bind="count+tcp:$4:0", library="counting1", more=""):
        directory = self.directory()
        self.file = os.path.join(directory, "lib", "x.so")
        os.mkdir(os.path.dirname(self.file))
        self.put(library)
        text = '[counting]\ntype = "dylib"\npath = "lib/x.so"\nbind = "%s"\nto = "echo:"\n%s\n' % (bind, more)
        self.notes = os.path.join(directory, "notes")
        self.proxy = Connpipe(text, directory, environment={"COUNTING": self.notes})
        self.processes.append(self.proxy)
        self.keep(self.proxy, self.proxy.stop)
        self.proxy.wait_generation()
        return self.proxy

    def put(self, library):
        """Write over the file in place, as a careless copy does."""
        with open(os.path.join(DYLIBS, "lib%s.so" % library), "rb") as file:
            data = file.read()
        with open(self.file, "wb") as file:
            file.write(data)

    def connect(self, port, greeting=b""):
        peer = self.client(port)
        peer.expect(greeting)
        return self.talk(peer)

    def talk(self, peer):
        peer.send(b"hello")
        peer.expect(b"hello")
        return peer

    def reload(self):
        answer = self.proxy.ask("reload")
        self.assertTrue(answer["ok"], answer)

    def greeting_port(self):
        return int(re.search(r"bound greet:(\d+)", self.proxy.log())[1])

    def count(self, what):
        with open(self.notes, encoding="utf-8") as file:
            return len(re.findall(r"(?m)^v\d %s$" % what, file.read()))

    def stop(self, loads):
        """In the end everything that was mapped is unmapped, and everything that was loaded unloaded."""
        self.proxy.signal(SIGTERM)
        self.assertEqual(self.proxy.wait(), 0)
        counts = [self.count(what) for what in ("mapped", "load", "unload", "unmapped")]
        self.assertEqual(counts, [loads] * 4)


class Reload(Library):
    def test_next_reload_runs_the_new_code_and_open_streams_keep_the_old(self):
        proxy = self.start()
        port = proxy.port()
        old = self.connect(port)
        self.put("counting2")
        self.talk(old)
        self.assertEqual(self.count("mapped"), 1)
        self.reload()
        proxy.wait_log("v2 load")
        self.connect(port)
        self.talk(old)
        self.assertEqual(self.count("unmapped"), 0)
        old.close()
        proxy.wait_log("v1 unload$")
        proxy.wait_log("v1 unmapped")
        self.connect(port)
        self.stop(loads=2)

    def test_a_router_that_waits_for_first_bytes_keeps_its_code(self):
        hello = client_hello("a.test")
        proxy = self.start("tcp:$4:0", more="ask = true")
        client = self.client(proxy.port())
        client.send(hello[:20])
        proxy.wait_log("v1 asks")
        self.put("counting2")
        self.reload()
        client.send(hello[20:])
        client.expect(hello)
        proxy.wait_log("v1 sni=a.test")
        client.close()
        proxy.wait_log("v1 unmapped")
        client = self.client(proxy.port())
        client.send(b"no hello")
        client.expect(b"no hello")
        proxy.wait_log("v2 sni=$")
        self.stop(loads=2)

    def test_what_is_open_when_the_process_stops(self):
        port = self.start().port()
        peers = [self.connect(port) for _ in range(20)]
        self.put("counting2")
        self.reload()
        peers += [self.connect(port) for _ in range(20)]
        self.stop(loads=2)

    def test_broken_file_changes_nothing(self):
        proxy = self.start()
        port = proxy.port()
        with open(self.file, "r+b") as file:
            file.truncate(5000)
        answer = proxy.ask("reload")
        self.assertFalse(answer["ok"])
        self.assertRegex(answer["errors"][0], r"config\.toml:3:\d+: cannot load .*lib/x\.so: it is cut off")
        self.connect(port)
        self.put("counting2")
        self.reload()
        self.connect(port)
        self.stop(loads=2)

    def test_replaced_in_place_under_load(self):
        proxy = self.start()
        port = proxy.port()
        stop, served, errors = threading.Event(), [0], []

        def load():
            peer = Peer.connect(port)
            while not stop.is_set():
                try:
                    peer.send(b"x" * 1000)
                    peer.expect(b"x" * 1000)
                    other = Peer.connect(port)
                    other.send(b"y")
                    other.expect(b"y")
                    other.close()
                    served[0] += 1
                except (OSError, AssertionError) as error:
                    errors.append(error)
                    break
            peer.close()

        threads = [threading.Thread(target=load) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for i in range(20):
                self.put("counting%d" % (1 + i % 2))
                before = served[0]
                self.reload()
                until(lambda: served[0] >= before + 3 or errors)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.assertEqual(errors, [])
        self.stop(loads=21)

    def test_many_reloads_leave_nothing_behind(self):
        proxy = self.start()
        port = proxy.port()

        def settled(count):
            """Descriptors, and KiB of resident memory, when all but the last generation are gone."""
            until(lambda: self.count("unmapped") == count)
            with open("/proc/%d/status" % proxy.process.pid, encoding="utf-8") as file:
                resident = int(re.search(r"VmRSS:\s+(\d+)", file.read())[1])
            return len(os.listdir("/proc/%d/fd" % proxy.process.pid)), resident

        def reload(times):
            for i in range(times):
                self.reload()
                if i % 10 == 0:
                    self.connect(port).close()

        total = 10000 if LONG else 300
        first = total // 10
        reload(first)
        descriptors, resident = settled(first)
        reload(total - first)
        until(lambda: settled(total)[0] <= descriptors)  # the control socket's last client goes a little later
        if LONG and not SANITIZER:  # they keep freed memory for a while
            self.assertLess(settled(total)[1], resident + 2048)
        self.stop(loads=total + 1)


class Listener(Library):
    """An address that stays bound goes over to the new code with its socket."""

    def test_goes_over_to_the_new_code(self):
        proxy = self.start("greet:0")
        port = self.greeting_port()
        old = self.connect(port, b"v1\n")
        self.put("counting2")
        self.reload()
        proxy.wait_log("v2 adopted")
        # Streams over sockets are the program's own: nothing needs the old code any more.
        proxy.wait_log("v1 unmapped")
        self.talk(old)
        self.connect(port, b"v2\n")
        self.assertNotRegex(proxy.log(), "unbound")
        self.stop(loads=2)

    def test_no_connection_is_lost(self):
        self.start("greet:0")
        port = self.greeting_port()
        stop, served, errors = threading.Event(), [0], []

        def load():
            while not stop.is_set():
                try:
                    peer = Peer.connect(port)
                    self.assertIn(peer.receive(3), (b"v1\n", b"v2\n"))
                    peer.send(b"y")
                    peer.expect(b"y")
                    peer.close()
                    served[0] += 1
                except (OSError, AssertionError) as error:
                    errors.append(error)

        thread = threading.Thread(target=load)
        thread.start()
        try:
            for i in range(20):
                self.put("counting%d" % (1 + i % 2))
                before = served[0]
                self.reload()
                until(lambda: served[0] >= before + 3 or errors)
        finally:
            stop.set()
            thread.join()
        self.assertEqual(errors, [])
        self.stop(loads=21)

    def test_failed_reload_leaves_it_with_the_old_code(self):
        proxy = self.start("greet:0")
        port = self.greeting_port()
        self.put("counting2")
        with open(os.path.join(proxy.directory, "config.toml"), encoding="utf-8") as file:
            text = file.read()
        proxy.configure(text + '[t]\ntype = "table"\nroutes = { "%s" = "echo:" }\n' % self.server().address)
        self.assertFalse(proxy.ask("reload")["ok"])
        proxy.wait_log("v2 unmapped")
        self.connect(port, b"v1\n")
        self.stop(loads=2)

    def test_that_cannot_be_handed_over_stays_and_says_so(self):
        proxy = self.start("greet:0", library="counting_stays")
        port = self.greeting_port()
        self.reload()
        proxy.wait_log(r'WARN main\] greet:\S+ stays with the code of "counting" that was loaded before')
        self.connect(port, b"v3\n")
        self.assertEqual(self.count("unmapped"), 0)
        self.stop(loads=2)


WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-pedantic", "-Werror"]


def run(*words, **options):
    result = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **options)
    if result.returncode:
        raise AssertionError("%s:\n%s%s" % (" ".join(words), result.stdout, result.stderr))


def build_example(top, source):
    """Install into a directory of `top`, build the example against that. Returns the directory of its libraries."""
    prefix, build = os.path.join(top, "prefix"), os.path.join(top, "build")
    run("cmake", "--install", BUILD, "--prefix", prefix)
    run("cmake", "-S", os.path.join(TOP, "contrib", source), "-B", build, "-DCMAKE_PREFIX_PATH=" + prefix,
        "-DCMAKE_C_FLAGS=" + " ".join(WARNINGS))
    run("cmake", "--build", build)
    return build


@unittest.skipUnless(os.path.exists(os.path.join(BUILD, "CMakeCache.txt")), "the program is not in its build directory")
class Example(Scenario):
    """contrib/example-dylib, built as its README says: from an installation in a directory of its own."""

    def test_router_connector_and_converter(self):
        build = build_example(self.directory(), "example-dylib")
        name = "connpipe-test-%d" % os.getpid()
        servers = [self.server(), self.server()]
        down = free_port()
        process = self.connpipe("""
[sticky]
type = "dylib"
path = "%s/librouter{dylib}"
bind = "tcp:$4:0"
targets = ["tcp:$4:%d", "%s"]
[local]
type = "dylib"
path = "%s/libconnector{dylib}"
[mask]
type = "dylib"
path = "%s/libconverter{dylib}"
[t]
type = "table"
[t.routes]
"mask(90)+tcp:127.0.0.2:0" = "mask(15)+local:%s"
""" % (build, down, servers[0].address, build, build, name))
        # The router: a target that is down is passed over; one that is up is the client's.
        self.client(process.port()).send(b"a")
        self.accept(servers[0]).expect(b"a")
        # The connector, between two layers of the converter.
        listening = socket.socket(socket.AF_UNIX)
        self.keep(listening, listening.close)
        listening.bind("\0" + name)
        listening.listen()
        data = bytes(range(256)) * 1000
        client = self.client(process.port("127.0.0.2"), host="127.0.0.2")
        target = self.keep(Peer(listening.accept()[0]), lambda: target.close())
        client.send(data)
        target.expect(bytes(b ^ 90 ^ 15 for b in data))
        target.send(data)
        client.expect(bytes(b ^ 90 ^ 15 for b in data))
        client.shutdown()
        target.expect_end()
        target.shutdown()
        client.expect_end()
        process.signal(SIGTERM)
        self.assertEqual(process.wait(), 0)

    def test_router_by_server_name(self):
        build = build_example(self.directory(), "example-dylib")
        servers = [self.server(), self.server()]
        process = self.connpipe('[sticky]\ntype = "dylib"\npath = "%s/librouter{dylib}"\nbind = "tcp:$4:0"\n'
                                'targets = ["%s", "%s"]\nby_name = true\n' % (build, *(s.address for s in servers)))
        for name in ("a.test", "b.test", "c.test", "d.test"):
            number = 2166136261
            for byte in name.encode():
                number = (number ^ byte) * 16777619 & 0xffffffff
            hello = client_hello(name)
            self.client(process.port()).send_pieces(hello, [7])
            self.accept(servers[number % 2]).expect(hello)

    def test_errors_of_the_examples(self):
        build = build_example(self.directory(), "example-dylib")
        directory = self.directory()
        with open(os.path.join(directory, "config.toml"), "w", encoding="utf-8") as file:
            file.write('[sticky]\ntype = "dylib"\npath = "%s/librouter.so"\nbind = "tcp:$4:0"\ntargets = ["tpc:h:1"]\n'
                       '[mask]\ntype = "dylib"\npath = "%s/libconverter.so"\n'
                       '[t]\ntype = "table"\nroutes = { "mask(256)+tcp:$4:1" = "echo:" }\n' % (build, build))
        result = self.program("--config", directory, "check")
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, r"config\.toml:5:\d+: .*tpc")
        self.assertRegex(result.stderr, r"config\.toml:11:\d+: .*mask\(1\) to mask\(255\)")

    def installed(self):
        """An installation; returns its top, and an environment in which pkg-config finds it."""
        top = self.directory()
        run("cmake", "--install", BUILD, "--prefix", top)
        found = [at for at, _, files in os.walk(top) if "connpipe.pc" in files]
        return top, {**os.environ, "PKG_CONFIG_PATH": found[0]}

    def answer(self, library, more):
        """What `connpipe route tcp:$4:1` says with a library as the system x, and more text in the configuration."""
        directory = self.directory()
        with open(os.path.join(directory, "config.toml"), "w", encoding="utf-8") as file:
            file.write('[x]\ntype = "dylib"\npath = "%s"\n%s\n' % (library, more))
        return self.program("--config", directory, "route", "tcp:$4:1")

    def test_command_of_the_readme(self):
        source = os.path.join(TOP, "contrib", "example-dylib")
        with open(os.path.join(source, "README.md"), encoding="utf-8") as file:
            command = re.search(r"`(cc -shared .*)`", file.read())[1]
        _, environment = self.installed()
        directory = self.directory()
        shutil.copy(os.path.join(source, "router.c"), directory)
        run("sh", "-c", command, cwd=directory, env=environment)
        result = self.answer(os.path.join(directory, "librouter.so"), 'bind = "tcp:$4:1"\ntargets = ["echo:"]')
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("echo:", result.stdout)

    def test_pkg_config(self):
        """Each header by itself: tests/check_headers.sh."""
        top, environment = self.installed()
        flags = subprocess.check_output(["pkg-config", "--cflags", "connpipe"], env=environment, text=True).split()
        headers = os.path.join(top, "include", "connpipe")
        self.assertEqual(sorted(os.listdir(headers)), sorted(os.listdir(os.path.join(TOP, "include", "connpipe"))))
        every = os.path.join(top, "every.h")
        with open(every, "w", encoding="utf-8") as file:
            file.writelines("#include <connpipe/%s>\n" % name for name in os.listdir(headers))
        for language, compiler in ("c", ["cc", "-std=c11"]), ("c++", ["c++", "-std=c++17"]):
            run(*compiler, "-x", language, "-fsyntax-only", *WARNINGS, *flags, every)

    def test_cplusplus(self):
        top, _ = self.installed()
        source = os.path.join(TOP, "tests", "dylib", "cplusplus.cpp")
        for compiler in filter(shutil.which, ("g++", "clang++")):
            library = os.path.join(top, "lib%s.so" % compiler)
            run(compiler, "-std=c++17", *WARNINGS, "-shared", "-fPIC", "-fvisibility=hidden",
                "-I" + os.path.join(top, "include"), "-o", library, source)
            result = self.answer(library, '[t]\ntype = "table"\nroutes = { "tcp:$4:1" = ">x" }')
            self.assertEqual(result.returncode, 1)
            self.assertIn("said in C++", result.stdout + result.stderr)


# ThreadSanitizer does not see how libzmq, which is not built with it, hands messages from thread to thread.
@unittest.skipIf(SANITIZER == "tsan", "the program is built with ThreadSanitizer, libzmq is not")
@unittest.skipUnless(zmq, "python3-zmq is not there")
@unittest.skipUnless(os.path.exists(os.path.join(BUILD, "CMakeCache.txt")), "the program is not in its build directory")
class Zmq(Scenario):
    """contrib/example-zmq, with ZeroMQ's own peers. Between two zmq addresses messages keep their boundaries."""

    @classmethod
    def setUpClass(cls):
        cls.top = tempfile.mkdtemp(prefix="connpipe-")
        cls.addClassCleanup(shutil.rmtree, cls.top, ignore_errors=True)
        cls.library = os.path.join(build_example(cls.top, "example-zmq"), "libzmq-connector.so")

    def setUp(self):
        self.context = zmq.Context()
        self.addCleanup(self.context.destroy, linger=0)

    def socket(self, kind, bind=False):
        sock = self.context.socket(kind)
        sock.setsockopt(zmq.RCVTIMEO, int(1000 * PATIENCE))
        sock.setsockopt(zmq.SNDTIMEO, int(1000 * PATIENCE))
        if bind:
            sock.bind_to_random_port("tcp://127.0.0.1")
        return sock

    def to(self, kind, sock):
        """The address that connects to a bound socket."""
        return "zmq:%s:%s" % (kind, sock.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode())

    def start(self, **routes):
        """Routes are bound address = target."""
        text = '[zmq]\ntype = "dylib"\npath = "%s"\n' % self.library
        return self.connpipe(text + table(routes))

    def bound(self, process):
        return re.search(r"bound zmq:\w+:(tcp://\S+)", process.log())[1]

    def stop(self, process):
        process.signal(SIGTERM)
        self.assertEqual(process.wait(), 0)

    def pass_on(self, count, send, receive):
        """Messages of many sizes, the large ones in pieces for the proxy, arrive whole and in order."""
        messages = [bytes([i % 256]) * (i * 997 % 200000) for i in range(1, count)]
        thread = threading.Thread(target=lambda: [send(message) for message in messages])
        thread.start()
        for message in messages:
            self.assertEqual(receive(), message)
        thread.join()

    def test_push_to_pull(self):
        pull = self.socket(zmq.PULL, bind=True)
        process = self.start(**{"zmq:pull:tcp://127.0.0.1:*": self.to("push", pull)})
        push = self.socket(zmq.PUSH)
        push.connect(self.bound(process))
        self.pass_on(500, push.send, pull.recv)
        self.stop(process)

    def test_frames_become_one_message(self):
        pull = self.socket(zmq.PULL, bind=True)
        process = self.start(**{"zmq:pull:tcp://127.0.0.1:*": self.to("push", pull)})
        push = self.socket(zmq.PUSH)
        push.connect(self.bound(process))
        push.send_multipart([b"one ", b"", b"two ", b"three"])
        self.assertEqual(pull.recv_multipart(), [b"one two three"])

    def test_publish_and_subscribe(self):
        publisher = self.socket(zmq.XPUB, bind=True)
        subscriber = self.socket(zmq.SUB)
        process = self.start(**{"zmq:pub:tcp://127.0.0.1:*": self.to("sub=b", publisher)})
        subscriber.setsockopt(zmq.SUBSCRIBE, b"")
        subscriber.connect(self.bound(process))
        self.assertEqual(publisher.recv(), b"\x01b")  # the proxy has subscribed

        def receive():
            # The subscription to the proxy's side is on its way for a moment: what comes meanwhile is not for it.
            while not subscriber.poll(20):
                publisher.send(b"a not this")
                publisher.send(b"b this")
            return subscriber.recv()

        self.assertEqual(receive(), b"b this")
        self.stop(process)

    def test_request_and_reply(self):
        reply = self.socket(zmq.REP, bind=True)
        process = self.start(**{"zmq:rep:tcp://127.0.0.1:*": self.to("req", reply)})
        request = self.socket(zmq.REQ)
        request.connect(self.bound(process))
        for i in range(100):
            request.send(b"question %d" % i)
            self.assertEqual(reply.recv(), b"question %d" % i)
            reply.send(b"answer %d" % i)
            self.assertEqual(request.recv(), b"answer %d" % i)
        self.stop(process)

    def test_dealers_through_a_router(self):
        router = self.socket(zmq.ROUTER, bind=True)
        process = self.start(**{"zmq:dealer:tcp://127.0.0.1:*": self.to("dealer", router)})
        dealer = self.socket(zmq.DEALER)
        dealer.connect(self.bound(process))
        dealer.send(b"hello")
        identity, message = router.recv_multipart()
        self.assertEqual(message, b"hello")
        router.send_multipart([identity, b"hello yourself"])
        self.assertEqual(dealer.recv(), b"hello yourself")
        self.stop(process)

    def test_router_names_its_peers(self):
        reply = self.socket(zmq.REP, bind=True)
        process = self.start(**{"zmq:router:tcp://127.0.0.1:*": self.to("req", reply)})
        dealers = []
        for name in b"red", b"blue":
            dealer = self.socket(zmq.DEALER)
            dealer.setsockopt(zmq.IDENTITY, name)
            dealer.connect(self.bound(process))
            dealers.append(dealer)
        for dealer in dealers:
            name = dealer.getsockopt(zmq.IDENTITY)
            dealer.send(b"from " + name)
            self.assertEqual(reply.recv(), bytes([len(name)]) + name + b"from " + name)
            reply.send(bytes([len(name)]) + name + b"to " + name)
            self.assertEqual(dealer.recv(), b"to " + name)
        self.stop(process)

    def test_tcp_client_of_a_zeromq_service(self):
        reply = self.socket(zmq.REP, bind=True)
        process = self.start(**{"tcp:$4:0": self.to("req", reply)})
        client = self.client(process.port())
        client.send(b"question")
        self.assertEqual(reply.recv(), b"question")
        reply.send(b"answer" * 30000)
        client.expect(b"answer" * 30000)
        self.stop(process)

    def test_reload_with_an_open_stream(self):
        pull = self.socket(zmq.PULL, bind=True)
        process = self.start(**{"zmq:pull:tcp://127.0.0.1:*": self.to("push", pull)})
        push = self.socket(zmq.PUSH)
        push.connect(self.bound(process))
        for i in range(3):
            push.send(b"%d" % i)
            self.assertEqual(pull.recv(), b"%d" % i)
            self.assertTrue(process.ask("reload")["ok"])
        self.stop(process)
