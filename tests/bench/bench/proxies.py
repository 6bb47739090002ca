"""The contenders: how each is configured and started. All log warnings at most, no connections, and have no timeout
that could fire. Everything else is as they come, but for nginx's half_close: without it nginx drops what is still under
way in one direction when the other one ends, and the loads notice."""

import os
import re
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass

from . import system, tls

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
CONNPIPE = os.path.abspath(os.environ.get("CONNPIPE") or os.path.join(TOP, "build", "connpipe"))
TOOLS = os.path.join(os.path.dirname(CONNPIPE), "tests")
SUBPORT = "bench"
NGINX_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"


@dataclass(frozen=True)
class Way:
    """One port that a proxy relays, and what is behind it."""

    name: str
    port: int
    target: int


class Contender:
    """A way to relay. `variant_of`: runs beside that one, in loads that name it; `label` tells them apart."""

    name = ""
    variant_of = None
    label = ""
    subport = None
    tls = True
    silent_end = False  # ends a direction under TLS without close_notify

    def missing(self):
        """What has to be done before it can run, or None."""
        return None

    def version(self):
        return None

    def prepare(self, directory, ways, workers, descriptors, certificate):
        """Write the configuration; with a certificate, TLS ends here. Returns the command."""
        raise NotImplementedError


def run(*words):
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    return result.stdout + result.stderr


def write(directory, name, text):
    path = os.path.join(directory, name)
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
    return path


class Connpipe(Contender):
    name = "connpipe"
    program = CONNPIPE
    key = "tcp:$4:%d"
    site = """[site]
type = "tls"
certificate = "%s"
key = "%s"
min_version = "1.2"
ciphers = "%s"
ciphersuites = "%s"
groups = "%s"
"""

    def missing(self):
        if not os.access(self.program, os.X_OK):
            return "there is no program %s: build it, or say where it is by $CONNPIPE" % self.program
        return None

    def version(self):
        return run(self.program, "version").strip().removeprefix("connpipe ")

    def prepare(self, directory, ways, workers, descriptors, certificate):
        key, site = self.key, ""
        if certificate:
            key = "tls(site)+" + key
            site = self.site % (certificate.path, certificate.key, certificate.cipher, tls.SUITE, tls.GROUP)
        routes = "".join('"%s" = "tcp:$4:%d"\n' % (key % way.port, way.target) for way in ways)
        write(
            directory,
            "config.toml",
            """[connpipe]
workers = %d
log = { level = "warn" }
admin = "off"
limits = { connections = %d }
%s[bench]
type = "table"
[bench.routes]
%s"""
            % (workers, descriptors // 2, site, routes),
        )
        return [self.program, "--config", directory]


class ConnpipeSubport(Connpipe):
    name = "connpipe!"
    variant_of = "connpipe"
    label = "(subport)"
    subport = SUBPORT
    key = "tcp:$4:%d!" + SUBPORT


class Before(Connpipe):
    """Another build of ours, to see what a change did."""

    name = "before"

    def __init__(self, program):
        self.program = os.path.abspath(program)


class HAProxy(Contender):
    name = "haproxy"
    descriptors_each = 2
    extra = ""

    def missing(self):
        return None if shutil.which("haproxy") else "there is no haproxy: install it (apt-get install haproxy)"

    def version(self):
        found = re.search(r"version (\S+)", run("haproxy", "-v"))
        return found and found[1]

    def bind(self, certificate):
        if not certificate:
            return ""
        words = (certificate.both, tls.GROUP, certificate.cipher, tls.SUITE)
        return " ssl crt %s curves %s ciphers %s ciphersuites %s ssl-min-ver TLSv1.2" % words

    def prepare(self, directory, ways, workers, descriptors, certificate):
        connections = (descriptors - 200) // self.descriptors_each
        listen = "listen %s\n  bind 127.0.0.1:%d%s\n  server s 127.0.0.1:%d\n"
        listens = "".join(listen % (way.name, way.port, self.bind(certificate), way.target) for way in ways)
        path = write(
            directory,
            "haproxy.cfg",
            """global
  nbthread %d
  maxconn %d
defaults
  mode tcp
  maxconn %d
  timeout connect 10s
  timeout client 1h
  timeout server 1h
%s
%s"""
            % (workers, connections, connections, self.extra, listens),
        )
        return [shutil.which("haproxy"), "-db", "-f", path]


class HAProxySplice(HAProxy):
    name = "haproxy+splice"
    variant_of = "haproxy"
    label = "(splice-auto)"
    descriptors_each = 6  # two pipes
    extra = "  option splice-auto\n"


class Nginx(Contender):
    name = "nginx"
    silent_end = True

    def missing(self):
        if shutil.which("nginx") and (os.path.exists(NGINX_MODULE) or "--with-stream " in run("nginx", "-V")):
            return None
        return "there is no nginx with streams: install it (apt-get install nginx-light libnginx-mod-stream)"

    def version(self):
        found = re.search(r"nginx/(\S+)", run("nginx", "-v"))
        return found and found[1]

    def settings(self, certificate):
        if not certificate:
            return ""
        words = (certificate.path, certificate.key, tls.GROUP, certificate.cipher, tls.SUITE)
        return """  ssl_certificate %s;
  ssl_certificate_key %s;
  ssl_ecdh_curve %s;
  ssl_ciphers %s;
  ssl_conf_command Ciphersuites %s;
  ssl_protocols TLSv1.2 TLSv1.3;
""" % words

    def prepare(self, directory, ways, workers, descriptors, certificate):
        server = "  server { listen 127.0.0.1:%d%s; proxy_pass 127.0.0.1:%d; }\n"
        servers = "".join(server % (way.port, " ssl" if certificate else "", way.target) for way in ways)
        module = "load_module %s;\n" % NGINX_MODULE if os.path.exists(NGINX_MODULE) else ""
        path = write(
            directory,
            "nginx.conf",
            module
            + """daemon off;
worker_processes %d;
worker_rlimit_nofile %d;
error_log stderr warn;
pid %s/nginx.pid;
events { worker_connections %d; }
stream {
  proxy_timeout 1h;
  proxy_connect_timeout 10s;
  proxy_half_close on;
%s%s}
"""
            % (workers, descriptors, directory, descriptors - 200, self.settings(certificate), servers),
        )
        return [shutil.which("nginx"), "-e", "stderr", "-p", directory, "-c", path]


class Floor(Contender):
    name = "floor"
    tls = False

    def missing(self):
        return None if os.access(os.path.join(TOOLS, "floor"), os.X_OK) else "there is no %s/floor: build it" % TOOLS

    def prepare(self, directory, ways, workers, descriptors, certificate):
        pairs = [str(number) for way in ways for number in (way.port, way.target)]
        return [os.path.join(TOOLS, "floor"), "-w", str(workers), *pairs]


CONTENDERS = {c.name: c for c in (Connpipe(), ConnpipeSubport(), HAProxy(), HAProxySplice(), Nginx(), Floor())}
MAIN = [name for name, contender in CONTENDERS.items() if not contender.variant_of]


class Running:
    """A contender that runs, in a directory of its own. A context: it ends with it."""

    def __init__(self, contender, directory, targets, workers, cpus, descriptors, certificate=None):
        self.contender = contender
        ports = system.free_ports(len(targets))
        self.ways = [Way(name, port, target) for (name, target), port in zip(targets.items(), ports)]
        self.log = os.path.join(directory, "log")
        words = contender.prepare(directory, self.ways, workers, descriptors, certificate)
        environment = {**os.environ, "OPENSSL_CONF": write(directory, "openssl.cnf", tls.OPENSSL_CONF)}
        with open(self.log, "wb") as log:
            options = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "env": environment}
            self.process = system.start(words, cpus, **options)

    def __enter__(self):
        try:
            for way in self.ways:
                self.wait(way.port)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        system.stop(self.process)

    def port(self, name):
        return next(way.port for way in self.ways if way.name == name)

    def pids(self):
        return system.family(self.process.pid)

    def wait(self, port, patience=10):
        """Until it accepts."""
        deadline = time.monotonic() + patience
        while True:
            if self.process.poll() is not None:
                raise system.Failure("%s ended: %s" % (self.contender.name, self.said()))
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise system.Failure("%s does not listen: %s" % (self.contender.name, self.said())) from None
                time.sleep(0.005)

    def said(self):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return log.read()[-2000:].strip() or "it said nothing"
