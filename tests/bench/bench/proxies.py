"""The contenders: how each is configured and started. All log warnings at most, no connections, and have no timeout
that could fire. Everything else is as they come, but for what the loads would notice: without half_close nginx drops
what is still under way in one direction when the other one ends, and without larger buffers for UDP ports all would
lose what four flows send at once."""

import contextlib
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
WEBSOCKIFY_IDLE = 100  # it forks for each websocket, and each process has 3 MB of its own
NGINX_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"


@dataclass(frozen=True)
class Way:
    """One port that a proxy relays, and what is behind it. `over`: "tcp", "udp", or "ws" (with TCP behind it, unless the
    proxy passes websockets on unread)."""

    name: str
    over: str
    port: int
    target: int


class Contender:
    """A way to relay. `variant_of`: runs beside that one, in loads that name it; `label` tells them apart."""

    name = ""
    variant_of = None
    label = ""
    over = ("tcp",)
    subport = None
    tls = True
    opaque = False  # passes websockets on unread: a server of websockets has to be behind it
    optional = False  # left out if it is missing
    forks = False  # for each connection
    idle_most = None  # connections that it can hold
    silent_end = False  # ends a direction under TLS without close_notify

    def takes(self, load):
        return load.over in self.over and (self.tls or not load.tls) and self.name not in load.without

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
    over = ("tcp", "udp", "ws")
    program = CONNPIPE
    key = "%s:$4:%d"
    udp = '[connpipe.udp]\nreceive_buffer = "4MiB"\n'
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
        route = '"%s" = "%s:$4:%d"\n'
        behind = {"tcp": "tcp", "udp": "udp", "ws": "tcp"}
        routes = "".join(route % (key % (way.over, way.port), behind[way.over], way.target) for way in ways)
        write(
            directory,
            "config.toml",
            """[connpipe]
workers = %d
log = { level = "warn" }
admin = "off"
limits = { connections = %d }
%s%s[bench]
type = "table"
[bench.routes]
%s"""
            % (workers, descriptors // 2, self.udp if ways[0].over == "udp" else "", site, routes),
        )
        return [self.program, "--config", directory]


class ConnpipeSubport(Connpipe):
    name = "connpipe!"
    variant_of = "connpipe"
    label = "(subport)"
    subport = SUBPORT
    key = "%s:$4:%d!" + SUBPORT


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


NGINX_STREAM = """stream {
  proxy_timeout %s;
  proxy_connect_timeout 10s;
  proxy_half_close on;
%s%s}
"""
# The directories are for what is never done here, but nginx makes them.
NGINX_HTTP = """http {
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  proxy_http_version 1.1;
  proxy_set_header Upgrade $http_upgrade;
  proxy_set_header Connection upgrade;
  proxy_read_timeout 1h;
  proxy_send_timeout 1h;
  proxy_connect_timeout 10s;
%s}
"""


class Nginx(Contender):
    name = "nginx"
    over = ("tcp", "udp", "ws")
    opaque = True
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

    def stream(self, ways, certificate):
        server = "  server { listen 127.0.0.1:%d%s; proxy_pass 127.0.0.1:%d; }\n"
        words = {"tcp": " ssl" if certificate else "", "udp": " udp rcvbuf=4m"}
        servers = "".join(server % (way.port, words[way.over], way.target) for way in ways)
        timeout = "30s" if ways[0].over == "udp" else "1h"
        return NGINX_STREAM % (timeout, self.settings(certificate), servers)

    def http(self, ways):
        server = "  server { listen 127.0.0.1:%d; location / { proxy_pass http://127.0.0.1:%d; } }\n"
        return NGINX_HTTP % "".join(server % (way.port, way.target) for way in ways)

    def prepare(self, directory, ways, workers, descriptors, certificate):
        module = "load_module %s;\n" % NGINX_MODULE if os.path.exists(NGINX_MODULE) else ""
        block = self.http(ways) if ways[0].over == "ws" else self.stream(ways, certificate)
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
%s"""
            % (workers, descriptors, directory, descriptors - 200, block),
        )
        return [shutil.which("nginx"), "-e", "stderr", "-p", directory, "-c", path]


class Websockify(Contender):
    name = "websockify"
    over = ("ws",)
    optional = True
    forks = True
    idle_most = WEBSOCKIFY_IDLE

    def missing(self):
        return None if shutil.which("websockify") else "there is no websockify: install it (apt-get install websockify)"

    def version(self):
        with contextlib.suppress(OSError), open(shutil.which("websockify"), encoding="utf-8") as script:
            found = re.search(r"websockify==([\w.]+)", script.read())
            return found and found[1]

    def prepare(self, directory, ways, workers, descriptors, certificate):
        [way] = ways
        return [shutil.which("websockify"), "127.0.0.1:%d" % way.port, "127.0.0.1:%d" % way.target]


class Floor(Contender):
    name = "floor"
    over = ("tcp", "udp")
    tls = False

    def missing(self):
        return None if os.access(os.path.join(TOOLS, "floor"), os.X_OK) else "there is no %s/floor: build it" % TOOLS

    def prepare(self, directory, ways, workers, descriptors, certificate):
        pairs = [str(number) for way in ways for number in (way.port, way.target)]
        kind = ["-u"] if ways[0].over == "udp" else ["-w", str(workers)]
        return [os.path.join(TOOLS, "floor"), *kind, *pairs]


ALL = (Connpipe(), ConnpipeSubport(), HAProxy(), HAProxySplice(), Nginx(), Websockify(), Floor())
CONTENDERS = {contender.name: contender for contender in ALL}
MAIN = [name for name, contender in CONTENDERS.items() if not contender.variant_of]


def accepts(port):
    socket.create_connection(("127.0.0.1", port), 1).close()


def answers(port):
    """All servers of `load` give back a datagram of one byte."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(1)
        client.connect(("127.0.0.1", port))
        client.send(b"?")
        client.recv(1)


class Running:
    """A contender that runs, in a directory of its own. A context: it ends with it."""

    def __init__(self, contender, directory, over, targets, workers, cpus, descriptors, certificate=None):
        self.contender = contender
        ports = system.free_ports(len(targets))
        self.ways = [Way(name, over, port, target) for (name, target), port in zip(targets.items(), ports)]
        self.log = os.path.join(directory, "log")
        words = contender.prepare(directory, self.ways, workers, descriptors, certificate)
        environment = {**os.environ, "OPENSSL_CONF": write(directory, "openssl.cnf", tls.OPENSSL_CONF)}
        with open(self.log, "wb") as log:
            options = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "env": environment}
            self.process = system.start(words, cpus, **options)

    def __enter__(self):
        try:
            for way in self.ways:
                self.wait(way)
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

    def wait(self, way, patience=10):
        """Until it relays."""
        deadline = time.monotonic() + patience
        while True:
            if self.process.poll() is not None:
                raise system.Failure("%s ended: %s" % (self.contender.name, self.said()))
            try:
                (answers if way.over == "udp" else accepts)(way.port)
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise system.Failure("%s does not listen: %s" % (self.contender.name, self.said())) from None
                time.sleep(0.005)

    def said(self):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return log.read()[-2000:].strip() or "it said nothing"
