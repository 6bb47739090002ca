"""Programs that people put behind a proxy: they must not notice it, with and without a subport."""

import getpass
import os
import shutil
import subprocess

from .harness import PROGRAM, Scenario, free_port, table, until


def listens(port):
    """Whether anybody listens on 127.0.0.1:port. Not by connecting: iperf3 would take that for its one client."""
    with open("/proc/net/tcp", encoding="ascii") as sockets:
        return any(line.split()[1] == "0100007F:%04X" % port and line.split()[3] == "0A" for line in sockets)


class Programs(Scenario):
    """Starting clients and servers that are not ours."""

    def command(self, *words, **options):
        """Run a client to its end; its output, which must be a success."""
        done = subprocess.run(words, capture_output=True, timeout=60, text=True, stdin=subprocess.DEVNULL, check=False,
                              **options)
        self.assertEqual(done.returncode, 0, "%s: %s%s" % (" ".join(words), done.stdout, done.stderr))
        return done.stdout

    def daemon(self, port, *words, **options):
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, **options)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        until(lambda: listens(port) or self.assertIsNone(process.poll(), "%s ended" % words[0]))
        return process

    def sshd(self):
        """An SSH server for the user who runs the tests: its port, and the words of a client that may log in."""
        directory = self.directory()
        program = shutil.which("sshd") or "/usr/sbin/sshd"
        if getpass.getuser() == "root":
            os.makedirs("/run/sshd", exist_ok=True)
        for name in ("host", "user"):
            self.command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", os.path.join(directory, name))
        port = free_port()
        self.daemon(port, program, "-D", "-e", "-f", "/dev/null", "-p", str(port), "-h", os.path.join(directory, "host"),
                    "-o", "ListenAddress=127.0.0.1", "-o", "PidFile=none", "-o", "StrictModes=no", "-o", "UsePAM=no",
                    "-o", "PermitRootLogin=yes", "-o", "AuthorizedKeysFile=" + os.path.join(directory, "user.pub"))
        return port, ["ssh", "-F", "none", "-i", os.path.join(directory, "user"), "-o", "StrictHostKeyChecking=no", "-o",
                      "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"]


class Clients(Programs):
    def proxied(self, port):
        """A proxy before `port`: its own port, without a subport and with the subport `it`."""
        front = free_port()
        self.connpipe(table({"tcp:$4:%d" % front: "tcp:$4:%d" % port, "tcp:$4:%d!it" % front: "tcp:$4:%d" % port}))
        return front

    def through_subport(self, front):
        """A plain port whose connections reach the subport: `connpipe pipe` in between."""
        port = free_port()
        self.daemon(port, PROGRAM, "pipe", "tcp:$4:%d" % port, "tcp:$4:%d!it" % front)
        return port

    def test_curl(self):
        directory = self.directory()
        body = os.urandom(3_000_000)
        with open(os.path.join(directory, "body"), "wb") as file:
            file.write(body)
        port = free_port()
        self.daemon(port, "python3", "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", directory)
        front = self.proxied(port)
        for entry in (front, self.through_subport(front)):
            out = os.path.join(directory, "out")
            self.command("curl", "-sS", "--fail", "-o", out, "http://127.0.0.1:%d/body" % entry)
            with open(out, "rb") as file:
                self.assertEqual(file.read(), body)

    def test_redis(self):
        port = free_port()
        self.daemon(port, "redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly",
                    "no", cwd=self.directory())
        front = self.proxied(port)
        for entry in (front, self.through_subport(front)):
            self.assertEqual(self.command("redis-cli", "-p", str(entry), "set", "key", "value").strip(), "OK")
            self.assertEqual(self.command("redis-cli", "-p", str(entry), "get", "key").strip(), "value")
            self.command("redis-benchmark", "-p", str(entry), "-n", "5000", "-c", "20", "-P", "8", "-q", "-t",
                         "set,get,lrange_100")

    def test_iperf3(self):
        port = free_port()
        self.daemon(port, "iperf3", "-s", "-B", "127.0.0.1", "-p", str(port))
        front = self.proxied(port)
        for entry in (front, self.through_subport(front)):
            for more in ([], ["-R"], ["-P", "4"]):
                self.command("iperf3", "-c", "127.0.0.1", "-p", str(entry), "-n", "50M", *more)

    def test_openssl_on_both_sides(self):
        """TLS ends here and begins again towards the target; both are OpenSSL's programs, which verify."""
        certificate = os.path.join(self.directory(), "both.pem")
        self.command("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                     "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout",
                     certificate + ".key", "-out", certificate)
        port, front = free_port(), free_port()
        self.daemon(port, "openssl", "s_server", "-www", "-accept", "127.0.0.1:%d" % port, "-cert", certificate, "-key",
                    certificate + ".key", "-Verify", "1", "-CAfile", certificate)
        self.connpipe('[both]\ntype = "tls"\ncertificate = "%s"\nkey = "%s.key"\nca = "%s"\nclient_ca = "%s"\n'
                      % (certificate, certificate, certificate, certificate)
                      + table({"tls(both)+tcp:127.0.0.1:%d" % front: "tls(both)+tcp:localhost:%d" % port}))
        client = ("openssl", "s_client", "-connect", "127.0.0.1:%d" % front, "-servername", "localhost", "-CAfile",
                  certificate, "-verify_return_error", "-verify_hostname", "localhost", "-cert", certificate, "-key",
                  certificate + ".key", "-quiet")
        for version in ("-tls1_2", "-tls1_3"):
            done = subprocess.run([*client, version], input="GET / HTTP/1.0\r\n\r\n", capture_output=True, text=True,
                                  timeout=60, check=False)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("HTTP/1.0 200 ok", done.stdout)
            self.assertIn("Client certificate", done.stdout)  # what the server knows of its client: connpipe

    def test_ssh(self):
        port, ssh = self.sshd()
        front = self.proxied(port)
        self.assertEqual(self.command(*ssh, "-p", str(front), "127.0.0.1", "echo through").strip(), "through")
        proxy_command = "ProxyCommand=%s connect 'tcp:127.0.0.1:%d!it'" % (PROGRAM, front)
        self.assertEqual(self.command(*ssh, "-o", proxy_command, "behind-a-subport", "head -c 2000000 /dev/zero | wc -c")
                         .strip(), "2000000")
