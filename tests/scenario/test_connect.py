"""`connpipe connect` and `connpipe pipe`: without a configuration; every kind of stdin and stdout."""

import fcntl
import os
import pty
import socket
import subprocess
import termios
import unittest

from tests.scenario.harness import PATIENCE, PROGRAM, Peer, Process, Scenario, free_port, preamble

PAYLOAD = bytes(range(256)) * 8192  # 2 MiB


class Connect(Scenario):
    def start(self, address, **options):
        process = subprocess.Popen([PROGRAM, "connect", address], stderr=subprocess.PIPE, **options)

        def stop():
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    stream.close()

        return self.keep(process, stop)

    def ended(self, process, code=0):
        self.assertEqual((process.wait(PATIENCE), process.stderr.read()), (code, b""))

    def test_what_goes_in_comes_back(self):
        result = self.program("connect", "echo:", input=PAYLOAD, text=False)
        self.assertEqual((result.returncode, result.stderr, len(result.stdout)), (0, b"", len(PAYLOAD)))
        self.assertEqual(result.stdout, PAYLOAD)

    def test_a_program_as_target(self):
        result = self.program("connect", "exec:tr a-z A-Z", input="shout\n")
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, "SHOUT\n", ""))

    def test_refused(self):
        port = free_port()
        result = self.program("connect", "tcp:127.0.0.1:%d" % port)
        self.assertEqual((result.returncode, result.stdout), (1, ""))
        self.assertRegex(result.stderr, r"^connpipe: .*tcp:127\.0\.0\.1:%d.*refused\n$" % port)

    def test_not_an_address(self):
        result = self.program("connect", "tpc:127.0.0.1:1")
        self.assertEqual((result.returncode, result.stdout), (1, ""))
        self.assertRegex(result.stderr, r"tpc.*tcp")

    def test_an_address_of_messages(self):
        result = self.program("connect", "udp:127.0.0.1:9")
        self.assertEqual((result.returncode, result.stdout), (1, ""))
        self.assertRegex(result.stderr, r'"udp:127\.0\.0\.1:9" carries messages, .*"connpipe pipe" can bind')
        self.assertNotIn("frame+stdio", result.stderr)

    def test_an_address_that_would_break_the_configuration(self):
        result = self.program("connect", 'exec:/bin/echo "a\\\\b" \'"\'')
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, 'a\\b "\n', ""))

    def test_subport_is_said_first(self):
        server = self.server()
        process = self.start(server.address + "!some name", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        target = self.accept(server)
        target.expect(preamble("some name"))
        process.stdin.write(b"data")
        process.stdin.close()
        target.expect(b"data")
        target.expect_end()
        target.send(b"answer")
        target.close()
        self.assertEqual(process.stdout.read(), b"answer")
        self.ended(process)

    def test_answer_behind_the_end_of_stdin(self):
        server = self.server()
        process = self.start(server.address, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        target = self.accept(server)
        target.expect_end()
        target.send(PAYLOAD)
        target.close()
        self.assertEqual(process.stdout.read(), PAYLOAD)
        self.ended(process)

    def test_end_of_the_target_while_stdin_is_silent(self):
        server = self.server()
        process = self.start(server.address, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        target = self.accept(server)
        target.send(b"bye")
        target.shutdown()
        self.assertEqual(process.stdout.read(), b"bye")
        target.expect_end()
        self.ended(process)

    def test_stdin_goes_on_behind_the_end_of_the_target(self):
        server = self.server()
        process = self.start(server.address, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        target = self.accept(server)
        target.shutdown()
        self.assertEqual(process.stdout.read(), b"")
        process.stdin.write(b"still here")
        process.stdin.flush()
        target.expect(b"still here")
        process.stdin.close()
        target.expect_end()
        self.ended(process)

    def test_reset_is_an_error(self):
        server = self.server()
        process = self.start(server.address, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        target = self.accept(server)
        process.stdin.write(b"go")
        process.stdin.flush()
        target.expect(b"go")
        target.send(b"cut")
        target.wait_sent()
        target.reset()
        self.assertEqual(process.stdout.read(), b"cut")
        self.assertEqual(process.wait(PATIENCE), 1)
        self.assertRegex(process.stderr.read(), rb"^connpipe: .*reset.*\n$")

    def test_files(self):
        directory = self.directory()
        with open(os.path.join(directory, "in"), "wb+") as source, open(os.path.join(directory, "out"), "wb+") as sink:
            source.write(PAYLOAD)
            source.seek(3)  # who shares the file goes on where the reader before has stopped
            self.ended(self.start("echo:", stdin=source, stdout=sink))
            sink.seek(0)
            self.assertEqual(sink.read(), PAYLOAD[3:])

    def test_one_socket_for_both(self):
        mine, theirs = socket.socketpair()
        server = self.server()
        process = self.start(server.address, stdin=theirs, stdout=theirs)
        theirs.close()
        peer, target = Peer(mine), self.accept(server)
        self.addCleanup(peer.close)
        peer.send(b"question")
        peer.shutdown()
        target.expect(b"question")
        target.expect_end()
        target.send(b"answer")
        target.close()
        peer.expect(b"answer")
        peer.expect_end()
        self.ended(process)

    def test_half_close_on_one_socket_for_both(self):
        mine, theirs = socket.socketpair()
        server = self.server()
        process = self.start(server.address, stdin=theirs, stdout=theirs)
        peer, target = Peer(mine), self.accept(server)
        self.addCleanup(peer.close)
        target.shutdown()
        peer.expect_end()  # although `theirs` is still open here
        theirs.close()
        peer.send(b"later")
        target.expect(b"later")
        peer.close()
        target.expect_end()
        self.ended(process)

    def test_terminal(self):
        master, slave = pty.openpty()
        self.addCleanup(os.close, master)
        server = self.server()
        process = self.start(server.address, stdin=slave, stdout=slave)
        target = self.accept(server)
        attributes = termios.tcgetattr(slave)
        os.write(master, b"typed\n")
        target.expect(b"typed\n")
        target.send(b"shown")
        target.close()
        self.ended(process)  # at once: nobody has to press ^D
        self.assertEqual(fcntl.fcntl(slave, fcntl.F_GETFL) & os.O_NONBLOCK, 0)
        self.assertEqual(termios.tcgetattr(slave), attributes)
        os.close(slave)
        shown = b""
        while not shown.endswith(b"shown"):
            shown += os.read(master, 100)

    def test_descriptors_stay_blocking(self):
        ends = [*os.pipe(), *os.pipe(), *(s.detach() for s in socket.socketpair())]
        for end in ends:
            self.addCleanup(os.close, end)
        for stdin, stdout in ((ends[0], ends[3]), (ends[4], ends[4])):
            server = self.server()
            process = self.start(server.address, stdin=stdin, stdout=stdout)
            target = self.accept(server)
            target.send(b"x")
            self.assertEqual(os.read(ends[2] if stdout == ends[3] else ends[5], 1), b"x")
            for end in (stdin, stdout):
                self.assertEqual(fcntl.fcntl(end, fcntl.F_GETFL) & os.O_NONBLOCK, 0)
            process.kill()
            process.wait()

    def test_slow_reader_gets_everything(self):
        read_end, write_end = os.pipe()
        self.addCleanup(os.close, read_end)
        process = self.start("exec:head -c 1000000 /dev/zero", stdin=subprocess.DEVNULL, stdout=write_end)
        os.close(write_end)
        got = 0
        while piece := os.read(read_end, 1000):
            got += len(piece)
        self.assertEqual(got, 1000000)
        self.ended(process)

    def test_reader_that_leaves(self):
        read_end, write_end = os.pipe()
        process = self.start("exec:cat /dev/zero", stdin=subprocess.DEVNULL, stdout=write_end)
        os.close(write_end)
        os.read(read_end, 1)
        os.close(read_end)
        self.assertEqual(process.wait(PATIENCE), 1)

    def test_closed_stdin_and_stdout(self):
        result = subprocess.run(["sh", "-c", '"$0" connect echo: <&- >&-', PROGRAM], stderr=subprocess.PIPE,
                                timeout=PATIENCE, check=False)
        self.assertEqual((result.returncode, result.stderr), (0, b""))


class Pipe(Scenario):
    def test_forwards_until_it_is_stopped(self):
        server = self.server()
        process = Process([PROGRAM, "pipe", "tcp:$4:0", server.address])
        self.processes.append(process)
        self.keep(process, process.stop)
        port = int(process.wait_log(r"bound tcp:127\.0\.0\.1:(\d+)")[1])
        process.wait_log("generation 1 is in use")
        client = self.client(port)
        client.send(b"there")
        target = self.accept(server)
        target.expect(b"there")
        target.send(b"back")
        client.expect(b"back")
        process.signal(15)
        self.assertEqual(process.wait(), 0)

    def test_relative_path_is_in_the_working_directory(self):
        directory = self.directory()
        process = Process([PROGRAM, "pipe", "unix:echo.sock", "echo:"], cwd=directory)
        self.processes.append(process)
        self.keep(process, process.stop)
        process.wait_log("generation 1 is in use")
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(os.path.join(directory, "echo.sock"))
        peer = self.keep(Peer(sock), sock.close)
        peer.send(b"hello")
        peer.expect(b"hello")

    def test_address_in_use(self):
        server = self.server()
        result = self.program("pipe", server.address, "echo:")
        self.assertEqual(result.returncode, 1)
        self.assertIn(server.address, result.stderr)


if __name__ == "__main__":
    unittest.main()
