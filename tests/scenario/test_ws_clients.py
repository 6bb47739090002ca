"""Programs that speak websocket: node-ws, python3-websockets, Chromium, nginx, curl, and ssh through wss."""

import hashlib
import http.server
import json
import os
import shutil
import subprocess
import threading
import unittest

from .harness import PATIENCE, PROGRAM, free_port, table
from .test_clients import Programs
from .tls_peers import Authority
from .ws_raw import BINARY, TEXT
from .ws_sides import PYTHON, REFERENCE, Websockets, has_reference, shut

NODE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "ws_node.js")
NODE_PATH = "/usr/share/nodejs"
LONG = bool(os.environ.get("CONNPIPE_TEST_LONG"))
SIZES = ["0", "1", "125", "126", "65535", "65536", "300000"]
DEFLATED = "permessage-deflate"
DEFLATE = "[connpipe.ws]\ndeflate = true\n"


def needs(program):
    return unittest.skipUnless(shutil.which(program), "%s is not installed" % program)


class Peers(Programs, Websockets):
    """A program on each side, connpipe in between, with websockets on both its sides."""

    def node(self, *words, **options):
        return self.command("node", NODE, *words, env={**os.environ, "NODE_PATH": NODE_PATH, **options})

    def node_echo(self, *words):
        port = free_port()
        self.daemon(port, "node", NODE, "echo", str(port), *words, env={**os.environ, "NODE_PATH": NODE_PATH})
        return port

    def python_echo(self, *words):
        port = free_port()
        self.daemon(port, PYTHON, REFERENCE, "echo", str(port), *words)
        return port

    def try_clients(self, url, sizes=SIZES, **environment):
        if os.path.isdir(NODE_PATH + "/ws") and shutil.which("node"):
            self.assertRegex(self.node("ask", url, *sizes, **environment), "^ok 4321 bye")
        if has_reference():
            words = ["deflate=1"] + ["ca=" + path for path in environment.values()]
            self.assertRegex(self.command(PYTHON, REFERENCE, "ask", url, *sizes, *words), "^ok .*1000")

    @unittest.skipUnless(os.path.isdir(NODE_PATH + "/ws") and shutil.which("node"), "node-ws is not installed")
    def test_node_behind(self):
        for settings in ("", DEFLATE) if LONG else (DEFLATE,):
            with self.subTest(settings=settings):
                self.front("ws:127.0.0.1:%d/x" % self.node_echo(), settings=settings)
                self.try_clients("ws://127.0.0.1:%d/any" % self.port)

    @unittest.skipUnless(has_reference(), "python3-websockets is not installed")
    def test_python_behind(self):
        for settings in ("", DEFLATE) if LONG else ("",):
            with self.subTest(settings=settings):
                self.front("ws:127.0.0.1:%d/x" % self.python_echo("deflate=1"), settings=settings)
                self.try_clients("ws://127.0.0.1:%d/any" % self.port)

    def test_over_tls_on_both_sides(self):
        """wss to wss: node and python verify connpipe, connpipe verifies itself."""
        authority = Authority(self.directory())
        front, middle = free_port(), free_port()
        echo = self.node_echo() if shutil.which("node") else self.python_echo()
        self.connpipe('[tls]\ntype = "tls"\ncertificate = "%s"\n[there]\ntype = "tls"\nca = "%s"\n' % (
            authority.make("site", ["localhost"]), authority.path) + table({
                "wss:$4:%d/front" % front: "ws(/middle)+tls(there)+tcp:localhost:%d" % middle,
                "wss:$4:%d/middle" % middle: "ws:127.0.0.1:%d" % echo}))
        # No empty text: between two connpipes it is the end of a direction, so it arrives as an empty binary message.
        self.try_clients("wss://localhost:%d/front" % front, SIZES[1:], NODE_EXTRA_CA_CERTS=authority.path)


class Nginx(Programs, Websockets):
    def nginx(self, port, target):
        """nginx as a proxy for websockets."""
        directory = self.directory()
        path = os.path.join(directory, "nginx.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write("""daemon off; master_process off; pid %(d)s/pid; error_log %(d)s/log; worker_processes 1;
events { worker_connections 64; }
http {
  access_log off; client_body_temp_path %(d)s/a; proxy_temp_path %(d)s/b; fastcgi_temp_path %(d)s/c;
  uwsgi_temp_path %(d)s/d; scgi_temp_path %(d)s/e;
  server {
    listen 127.0.0.1:%(port)d;
    location / {
      proxy_pass http://127.0.0.1:%(target)d; proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade"; proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }
  }
}
""" % {"d": directory, "port": port, "target": target})
        self.daemon(port, "nginx", "-c", path, "-p", directory)

    @needs("nginx")
    def test_in_front(self):
        _, server = self.before_tcp()
        port = free_port()
        self.nginx(port, self.port)
        client, target = self.websocket("/x", port), self.accept(server)
        client.send(BINARY, b"question" * 20000)
        target.expect(b"question" * 20000)
        target.send(b"answer" * 20000)
        client.expect(b"answer" * 20000)
        target.shutdown()
        client.expect_heard("close 1000")
        client.send_close(1000)
        client.expect_end()

    @needs("nginx")
    def test_behind(self):
        server = self.server()
        port = free_port()
        self.nginx(port, server.port)
        self.front("ws:127.0.0.1:%d/x" % port)
        client, target = self.through(server)
        self.assertEqual(target.request.words[1], "/x")
        client.send(TEXT, "question")
        target.expect_message(TEXT, "question")
        target.send(TEXT, "answer")
        client.expect_message(TEXT, "answer")
        target.send_close(4000, "bye")
        self.assertEqual(client.hear(), "close 4000 bye")
        client.send_close(4000)
        target.expect_heard("close 4000 bye")
        shut(target.peer)
        client.expect_end()


class Others(Programs, Websockets):
    @needs("curl")
    def test_curl_gets_a_page(self):
        self.front("echo:")
        said = self.command("curl", "-sS", "--include", "http://127.0.0.1:%d/" % self.port)
        self.assertTrue(said.startswith("HTTP/1.1 426 "), said)
        self.assertIn("websocket", said.split("\n\n", 1)[-1])

    @needs("ssh")
    def test_ssh_over_wss(self):
        """The ProxyCommand is one connpipe, what it connects to another: TLS that is verified, a subport inside."""
        authority = Authority(self.directory())
        port, ssh = self.sshd()
        front = free_port()
        address = "wss:localhost:%d/secret" % front
        self.connpipe('[tls]\ntype = "tls"\ncertificate = "%s"\n' % authority.make("site", ["localhost"]) +
                      table({"wss:127.0.0.1:%d/secret!ssh" % front: "tcp:127.0.0.1:%d" % port}))
        command = "ProxyCommand=env SSL_CERT_FILE=%s %s connect '%s!ssh'" % (authority.path, PROGRAM, address)
        self.assertEqual(self.command(*ssh, "-o", command, "behind-wss", "head -c 3000000 /dev/zero | wc -c").strip(),
                         "3000000")
        sent = os.urandom(2_000_000)
        done = subprocess.run([*ssh, "-o", command, "behind-wss", "sha256sum"], input=sent, capture_output=True,
                              timeout=60, check=True)
        self.assertEqual(done.stdout.split()[0].decode(), hashlib.sha256(sent).hexdigest())


PAGE = """<!DOCTYPE html>
<meta charset="utf-8"><title>waiting</title>
<style>body { font: 16px monospace }</style>
<h1>Websockets through connpipe</h1><ul id="results"></ul>
<img src="/wait">
<script>
const urls = %s, results = [];
function note(text) {
  const item = document.createElement("li");
  item.textContent = text;
  document.getElementById("results").append(item);
  results.push(text);
}
function same(a, b) {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
async function run(url, protocols) {
  const sent = new Uint8Array(300000).map((_, i) => i * 7), words = "äöü €𝄞";
  const text = new TextEncoder().encode(words);
  const socket = new WebSocket(url, protocols);
  socket.binaryType = "arraybuffer";
  await new Promise((resolve, reject) => { socket.onopen = resolve; socket.onerror = () => reject("no connection"); });
  const closed = new Promise((resolve) => socket.onclose = resolve);
  const got = [];
  const all = new Promise((resolve) => socket.onmessage = (event) => {
    got.push(...new Uint8Array(event.data));
    if (got.length >= sent.length + text.length) resolve();
  });
  socket.send(words);
  socket.send(sent);
  await Promise.race([all, closed]);
  const expected = [...text, ...sent];
  socket.close(1000, "bye");
  const end = await closed;
  return `${same(got, expected) ? "echoed" : "damaged"} ${got.length}, closed ${end.code} ${end.wasClean}, ` +
    `protocol "${socket.protocol}", extension "${socket.extensions.split(";")[0]}"`;
}
(async () => {
  for (const [url, ...protocols] of urls) {
    try { note(await run(url, protocols)); } catch (error) { note(String(error)); }
  }
  document.title = "done";
  await fetch("/result", { method: "POST", body: JSON.stringify(results) });
})();
</script>
"""


class Pages(http.server.ThreadingHTTPServer):
    """Serves the page; its image is there when the page has sent its results, so that it counts as loaded then."""

    daemon_threads = True

    def __init__(self, port):
        self.results, self.page, self.arrived = None, "", threading.Event()
        super().__init__(("127.0.0.1", port), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/wait":
            self.server.arrived.wait(PATIENCE)
        found = self.path == "/"
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        if found:
            self.wfile.write(self.server.page.encode())

    def do_POST(self):
        self.server.results = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()
        self.server.arrived.set()

    def log_message(self, *_arguments):
        pass


class Browser(Programs, Websockets):
    def browse(self, url, *words):
        """Chromium, to its end: what it prints."""
        directory = self.directory()
        return self.command("chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
                            "--disable-dev-shm-usage", "--ignore-certificate-errors", "--user-data-dir=" + directory,
                            *words, url, env={**os.environ, "HOME": directory, "XDG_CONFIG_HOME": directory})

    @needs("chromium")
    def test_a_page_that_opens_websockets(self):
        """To a TCP echo: plain, with compression, over TLS, with a subprotocol and an Origin that are looked at."""
        authority = Authority(self.directory())
        plain, secure, web = free_port(), free_port(), free_port()
        pages = Pages(web)
        self.addCleanup(pages.server_close)
        self.addCleanup(pages.shutdown)
        origin = "http://127.0.0.1:%d" % web
        self.connpipe('[tls]\ntype = "tls"\ncertificate = "%s"\n' % authority.make("site", ["127.0.0.1"]) + table({
            "ws:$4:%d/plain" % plain: "echo:", "ws:$4:%d/deflate" % plain: "echo:", "ws:$4:%d/else" % plain: "echo:",
            "wss:$4:%d/secure" % secure: "echo:"}) + """
[connpipe.ws.address."ws:$4:%d/deflate"]
deflate = true
[connpipe.ws.address."ws:$4:%d/else"]
origins = ["http://elsewhere.test"]
[connpipe.ws.address."wss:$4:%d/secure"]
origins = ["%s"]
subprotocols = ["chat"]
""" % (plain, plain, secure, origin))
        pages.page = PAGE % json.dumps([
            ["ws://127.0.0.1:%d/plain" % plain], ["ws://127.0.0.1:%d/deflate" % plain],
            ["wss://127.0.0.1:%d/secure" % secure, "other", "chat"], ["ws://127.0.0.1:%d/else" % plain],
            ["ws://127.0.0.1:%d/nowhere" % plain]])
        keep = os.environ.get("CONNPIPE_TEST_KEEP")
        words = ["--screenshot=" + os.path.join(keep, "websockets.png"), "--window-size=1000,400"] if keep else []
        document = self.browse(origin + "/", *(words or ["--dump-dom"]))
        good = "echoed 300014, closed 1000 true, protocol \"%s\", extension \"%s\""
        self.assertEqual(pages.results, [good % ("", ""), good % ("", DEFLATED), good % ("chat", ""),
                                         "no connection", "no connection"])
        if not keep:
            self.assertIn("<title>done</title>", document)
