"""TLS that ends here: certificates and names, resumption, ends and resets, targets behind TLS, other programs."""

import contextlib
import os
import shutil
import ssl
import subprocess
import tempfile
import threading
import time

from .harness import PATIENCE, SIGHUP, SIGTERM, Scenario, free_port, table, until
from .test_clients import listens
from .tls_peers import DAY, Authority, TlsPeer, client_context, server_context

STREAM = "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n"
BODY = bytes(range(256)) * 4096 * 4  # 4 MiB


@contextlib.contextmanager
def sending(peer, then=lambda: None):
    """Meanwhile `peer` sends BODY."""

    def run():
        peer.send(BODY)
        then()

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join()


class Tls(Scenario):
    @classmethod
    def setUpClass(cls):
        cls.files = tempfile.mkdtemp(prefix="connpipe-tls-")
        cls.addClassCleanup(shutil.rmtree, cls.files, ignore_errors=True)
        cls.authority = Authority(cls.files)
        cls.other = Authority(cls.files, "other")
        cls.site = cls.authority.make("site", ["site.test", "127.0.0.1"])
        cls.rsa = cls.authority.make("rsa", ["site.test"], "rsa")
        cls.wild = cls.authority.make("wild", ["*.wild.test"])
        cls.exact = cls.authority.make("exact", ["www.wild.test"])
        cls.person = cls.authority.make("person", subject="Jo, the client")
        cls.stranger = cls.other.make("stranger")

    def profile(self, settings="", certificate=None, name="site"):
        return '[%s]\ntype = "tls"\n%s\n%s\n' % (
            name, 'certificate = "%s"' % (certificate or self.site) if certificate != "" else "", settings)

    def front(self, settings="", target="echo:", process="", timeouts="", certificate=None, more="", key="tls"):
        """A proxy with one profile, and TLS on its one address."""
        return self.connpipe(table({key + "+tcp:$4:0": target}, process, timeouts) +
                             self.profile(settings, certificate) + more)

    def tls(self, port, name="site.test", context=None, session=None):
        """A client after its handshake."""
        peer = TlsPeer(self.client(port), context or client_context(self.authority.path), name, session=session)
        return peer.handshake()

    def refused_by_alert(self, port, alert, **options):
        """The handshake fails, or what comes behind it, by the proxy's alert."""
        with self.assertRaisesRegex(ssl.SSLError, alert):
            self.tls(port, **options).receive()

    def reporting(self, settings, facts, certificate=None):
        """A proxy that refuses each connection with the facts of it as the reason."""
        script = """
local connpipe = require "connpipe"
connpipe.router { id = "main", bind = { "tls+tcp:$4:0" }, route = function(request)
  local words = {}
  for name in (%r):gmatch("[^ ]+") do words[#words + 1] = name .. "=" .. tostring(request.facts[name]) end
  return nil, table.concat(words, " ")
end }
""" % facts
        return self.connpipe('[rules]\ntype = "lua"\npath = "main.lua"\n' + self.profile(settings, certificate),
                             files={"main.lua": script})


class Serving(Tls):
    def test_both_versions(self):
        proxy = self.front()
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            client = self.tls(proxy.port(), context=client_context(self.authority.path, version=version))
            client.send(b"hello")
            client.expect(b"hello")
            client.shutdown()
            client.expect_end()
        self.assertIn("done", proxy.wait_closed(2))
        self.assertEqual(proxy.counter("tls_accepted"), 2)

    def test_versions_are_limited(self):
        proxy = self.front('min_version = "1.3"')
        self.refused_by_alert(proxy.port(), "PROTOCOL_VERSION",
                              context=client_context(version=ssl.TLSVersion.TLSv1_2))
        self.assertIn("client_protocol: TLS with the client failed: unsupported protocol", proxy.wait_closed())

    def test_names_choose_certificates(self):
        proxy = self.front('certificates = [ { certificate = "%s" }, { certificate = "%s" }, { certificate = "%s" } ]'
                           % (self.site, self.wild, self.exact), certificate="")
        port = proxy.port()
        self.assertIn("site.test", self.tls(port, "site.test").names())
        self.assertEqual(self.tls(port, "a.wild.test").names(), ["*.wild.test"])
        self.assertEqual(self.tls(port, "A.Wild.TEST").names(), ["*.wild.test"])
        self.assertEqual(self.tls(port, "www.wild.test").names(), ["www.wild.test"])
        context = client_context(self.authority.path)
        context.check_hostname = False
        for name in ("a.b.wild.test", "wild.test", None):  # a star is one label; nothing fits: the first one
            self.assertIn("site.test", self.tls(port, name, context).names())

    def test_strict_names(self):
        proxy = self.front("strict_sni = true")
        self.refused_by_alert(proxy.port(), "UNRECOGNIZED_NAME", name="else.test", context=client_context())
        self.refused_by_alert(proxy.port(), "UNRECOGNIZED_NAME", name=None, context=client_context())
        self.tls(proxy.port())

    def test_rsa_beside_ecdsa(self):
        proxy = self.front('certificates = [ { certificate = "%s" }, { certificate = "%s" } ]' % (self.site, self.rsa),
                           certificate="")
        for algorithms, key in (("ECDSA+SHA256", "id-ecPublicKey"), ("RSA-PSS+SHA256", "rsaEncryption")):
            text = self.openssl_client(proxy.port(), "-sigalgs", algorithms)
            shown = subprocess.run(["openssl", "x509", "-noout", "-text"], input=text, capture_output=True, text=True,
                                   check=True).stdout
            self.assertIn(key, shown)

    def openssl_client(self, port, *options):
        done = subprocess.run(["openssl", "s_client", "-connect", "127.0.0.1:%d" % port, "-servername", "site.test",
                               *options], stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, text=True,
                              check=False)
        return done.stdout + done.stderr

    def test_alpn(self):
        proxy = self.front('alpn = ["h2", "http/1.1"]')
        for offered, agreed in ((["http/1.1", "h2"], "h2"), (["x", "http/1.1"], "http/1.1"), ([], None)):
            client = self.tls(proxy.port(), context=client_context(self.authority.path, alpn=offered))
            self.assertEqual(client.tls.selected_alpn_protocol(), agreed)
        self.refused_by_alert(proxy.port(), "(?i)no.application.protocol", context=client_context(alpn=["x"]))

    def test_ocsp_response_is_stapled(self):
        certificate = self.authority.make("stapled", ["site.test"])
        response = self.authority.ocsp_response(self.authority.last, "stapled.ocsp")
        proxy = self.front('ocsp = "%s"' % response, certificate=certificate)
        self.assertIn("Cert Status: good", self.openssl_client(proxy.port(), "-status"))

    def stapling(self, ends):
        """A proxy with a response that is good for so long: (it, how to ask for that)"""
        certificate = self.authority.make("stapled", ["site.test"])
        response = self.authority.ocsp_response(self.authority.last, "brief.ocsp", ends)
        proxy = self.front('ocsp = "%s"' % response, certificate=certificate)
        return proxy, lambda: self.openssl_client(proxy.port(), "-status")

    def test_an_old_ocsp_response_is_not_sent(self):
        proxy, ask = self.stapling(-DAY / 2)
        proxy.wait_log("WARN .*the OCSP response is out of date, and is not sent")
        self.assertIn("OCSP response: no response sent", ask())

    def test_an_ocsp_response_is_sent_until_its_end(self):
        _, ask = self.stapling(DAY / 43200)
        until(lambda: "OCSP response: no response sent" in ask())

    def test_alerts_of_the_client(self):
        proxy = self.front()
        self.assertRaises(ssl.SSLCertVerificationError, self.tls, proxy.port(), context=client_context(self.other.path))
        self.assertIn('client_protocol: the client sent the alert "unknown CA"', proxy.wait_closed())

    def test_facts(self):
        proxy = self.reporting('alpn = ["h2"]', "sni alpn tls_version tls_cipher tls_resumed tls_client_verified")
        self.tls(proxy.port(), "Site.Test", context=client_context(self.authority.path, alpn=["h2"]))
        self.assertIn("sni=site.test alpn=h2 tls_version=1.3 tls_cipher=TLS_AES_128_GCM_SHA256 tls_resumed=false "
                      "tls_client_verified=nil", proxy.wait_closed())
        self.tls(proxy.port(), None, context=client_context(version=ssl.TLSVersion.TLSv1_2))
        self.assertRegex(proxy.wait_closed(2), "sni=nil alpn=nil tls_version=1.2 tls_cipher=ECDHE-ECDSA-AES128-GCM")

    def test_the_peer_of_proxy_in_front(self):
        proxy = self.front(key="tls+proxy")
        peer = self.client(proxy.port())
        peer.send(b"PROXY TCP4 192.0.2.7 192.0.2.8 1234 443\r\n")
        client = TlsPeer(peer, client_context(self.authority.path), "site.test").handshake()
        client.send(b"x")
        client.expect(b"x")
        proxy.wait_log("opened: .* from 192.0.2.7:1234")

    def test_proxy_within_tls(self):
        proxy = self.front(key="proxy+tls")
        client = self.tls(proxy.port())
        client.send(b"PROXY TCP4 192.0.2.7 192.0.2.8 1234 443\r\nx")
        client.expect(b"x")
        proxy.wait_log("opened: .* from 192.0.2.7:1234")


class ClientCertificates(Tls):
    FACTS = "tls_client_verified tls_client_subject tls_client_cn tls_client_fingerprint"

    def certified(self, certificate):
        return client_context(self.authority.path, certificate)

    def test_required(self):
        proxy = self.reporting('client_ca = "%s"' % self.authority.path, self.FACTS)
        self.tls(proxy.port(), context=self.certified(self.person))
        self.assertRegex(proxy.wait_closed(), r"tls_client_verified=true tls_client_subject=CN=Jo\\+, the client "
                                              r"tls_client_cn=Jo, the client tls_client_fingerprint=[0-9a-f]{64}$")
        self.refused_by_alert(proxy.port(), "CERTIFICATE_REQUIRED", context=client_context())
        self.assertIn("peer did not return a certificate", proxy.wait_closed(2))

    def test_of_another_authority(self):
        proxy = self.front('client_ca = "%s"' % self.authority.path)
        self.refused_by_alert(proxy.port(), "UNKNOWN_CA", context=self.certified(self.stranger))
        self.assertRegex(proxy.wait_closed(), "the certificate of the client is refused: (unable to get local issuer|self-)")

    def test_optional(self):
        proxy = self.reporting('client_ca = "%s"\nclient_verify = "optional"' % self.authority.path, self.FACTS)
        self.tls(proxy.port())
        self.assertIn("tls_client_verified=false tls_client_subject=nil", proxy.wait_closed())
        self.tls(proxy.port(), context=self.certified(self.person))
        self.assertIn("tls_client_verified=true", proxy.wait_closed(2))
        self.refused_by_alert(proxy.port(), "UNKNOWN_CA", context=self.certified(self.stranger))

    def test_survive_resumption(self):
        proxy = self.front('client_ca = "%s"' % self.authority.path)
        context = self.certified(self.person)
        first = self.tls(proxy.port(), context=context)
        first.send(b"x")
        first.expect(b"x")
        second = self.tls(proxy.port(), context=context, session=first.session)
        self.assertTrue(second.tls.session_reused)
        second.send(b"x")
        second.expect(b"x")


class Resumption(Tls):
    def first(self, port, context):
        """A connection that has its ticket: that comes with the first bytes at the latest."""
        client = self.tls(port, context=context)
        client.send(b"x")
        client.expect(b"x")
        client.shutdown()
        client.expect_end()
        return client.session

    def resumes(self, port, context, session):
        return self.tls(port, context=context, session=session).tls.session_reused

    def test_on_every_worker_and_over_reloads(self):
        proxy = self.front(process="workers = 2")
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = client_context(self.authority.path, version=version)
            session = self.first(proxy.port(), context)
            for _ in range(8):
                self.assertTrue(self.resumes(proxy.port(), context, session))
            proxy.signal(SIGHUP)
            proxy.wait_generation()
            for _ in range(8):
                self.assertTrue(self.resumes(proxy.port(), context, session))

    def test_a_ticket_comes_to_who_only_listens(self):
        proxy = self.front()
        client = self.tls(proxy.port())
        client.incoming.write(client.peer.receive())  # nobody has written anything
        self.assertRaises(ssl.SSLWantReadError, client.tls.read, 1)
        self.assertTrue(self.resumes(proxy.port(), client.tls.context, client.session))

    def resumed_again_and_again(self, proxy, context):
        """Whether each connection could resume the session of the one before it."""
        session, begin = self.first(proxy.port(), context), time.monotonic()
        while time.monotonic() < begin + PATIENCE:
            client = self.tls(proxy.port(), context=context, session=session)
            client.send(b"x")
            client.expect(b"x")
            yield client.tls.session_reused
            session = client.session
            client.close()

    def test_has_an_end(self):
        """However often a session is resumed, it ends with the lifetime of a ticket."""
        proxy = self.front('tickets = "1s"')
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = client_context(self.authority.path, version=version)
            self.assertIn(False, self.resumed_again_and_again(proxy, context))

    def test_ends_with_the_clients_certificate(self):
        proxies = [(self.front(settings + 'client_ca = "%s"' % self.authority.path), version) for settings, version in (
            ("", ssl.TLSVersion.TLSv1_2), ("", ssl.TLSVersion.TLSv1_3),
            ("tickets = false\nsession_cache = 9\n", ssl.TLSVersion.TLSv1_2))]
        brief = self.authority.make("brief", days=3 / 86400)
        tries = [self.resumed_again_and_again(proxy, client_context(self.authority.path, brief, version))
                 for proxy, version in proxies]
        for each in tries:
            self.assertTrue(next(each))
        for each in tries:
            with self.assertRaisesRegex(ssl.SSLError, "CERTIFICATE_EXPIRED"):
                all(True for _ in each)

    def test_keys_from_files(self):
        keys = [self.authority.write("key%d" % i, os.urandom(80)) for i in range(2)]
        context = client_context(self.authority.path)
        session = self.first(self.front('ticket_keys = "%s"' % keys[0]).port(), context)
        self.assertTrue(self.resumes(self.front('ticket_keys = ["%s", "%s"]' % (keys[1], keys[0])).port(), context,
                                     session))
        self.assertFalse(self.resumes(self.front('ticket_keys = "%s"' % keys[1]).port(), context, session))

    def test_off(self):
        proxy = self.front("tickets = false")
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = client_context(self.authority.path, version=version)
            self.assertFalse(self.resumes(proxy.port(), context, self.first(proxy.port(), context)))

    def test_session_ids(self):
        proxy = self.front("tickets = false\nsession_cache = 100")
        context = client_context(self.authority.path, version=ssl.TLSVersion.TLSv1_2)
        self.assertTrue(self.resumes(proxy.port(), context, self.first(proxy.port(), context)))

    def test_not_in_another_profile(self):
        key = self.authority.write("shared", os.urandom(80))
        ports = [free_port(), free_port()]
        keys = 'ticket_keys = "%s"' % key
        self.connpipe(table({"tls(%s)+tcp:$4:%d" % way: "echo:" for way in zip(("site", "more"), ports)}) +
                      self.profile(keys) + self.profile(keys, name="more"))
        context = client_context(self.authority.path)
        session = self.first(ports[0], context)
        self.assertTrue(self.resumes(ports[0], context, session))
        self.assertFalse(self.resumes(ports[1], context, session))


class Verifying(Tls):
    """A session that is resumed is not verified again, so it must not outlive what it was verified by."""

    def use(self, port, context, session=None):
        client = self.tls(port, context=context, session=session)
        client.send(b"x")
        client.expect(b"x")
        return client

    def over_a_reload(self, before, change, resumes, certificate=None):
        """`change` is called with the path of a copy of the authority `before` (None: clients are not verified)."""
        path = os.path.join(self.directory(), "clients.pem")
        if before:
            shutil.copy(before, path)
        proxy = self.front('client_ca = "%s"' % path if before else "")
        contexts = [client_context(self.authority.path, certificate, version)
                    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)]
        sessions = [self.use(proxy.port(), context).session for context in contexts]
        change(proxy, path)
        proxy.signal(SIGHUP)
        proxy.wait_generation()
        for context, session in zip(contexts, sessions):
            if resumes:
                self.assertTrue(self.use(proxy.port(), context, session).tls.session_reused)
            else:
                self.refused_by_alert(proxy.port(), "HANDSHAKE_FAILURE|CERTIFICATE_REQUIRED|UNKNOWN_CA",
                                      context=context, session=session)

    def test_the_same_authority(self):
        self.over_a_reload(self.authority.path, lambda proxy, path: None, True, self.person)

    def test_another_authority(self):
        self.over_a_reload(self.authority.path, lambda proxy, path: shutil.copy(self.other.path, path), False,
                           self.person)

    def test_an_authority_where_there_was_none(self):
        verifying = table({"tls+tcp:$4:0": "echo:"}) + self.profile('client_ca = "%s"' % self.authority.path)
        self.over_a_reload(None, lambda proxy, path: proxy.configure(verifying), False)

    def test_a_directory(self):
        """Its certificates are looked up when they are needed: sessions are of one load."""
        directory = self.directory()
        shutil.copy(self.authority.path, directory)
        subprocess.run(["openssl", "rehash", directory], check=True, capture_output=True)
        proxy = self.front('client_ca = "%s"' % directory)
        context = client_context(self.authority.path, self.person)
        session = self.use(proxy.port(), context).session
        again = self.use(proxy.port(), context, session)
        self.assertTrue(again.tls.session_reused)
        self.refused_by_alert(proxy.port(), "UNKNOWN_CA", context=client_context(self.authority.path, self.stranger))
        proxy.signal(SIGHUP)
        proxy.wait_generation()
        self.assertFalse(self.use(proxy.port(), context, again.session).tls.session_reused)


class Reloading(Tls):
    def test_a_new_certificate(self):
        path = os.path.join(self.files, "changing.pem")
        shutil.copy(self.site, path)
        proxy = self.front(certificate=path)
        port = proxy.port()
        early = self.tls(port)
        shutil.copy(self.wild, path)
        proxy.signal(SIGHUP)
        proxy.wait_generation()
        self.assertEqual(self.tls(port, "a.wild.test").names(), ["*.wild.test"])
        early.send(b"still here")
        early.expect(b"still here")

    def test_a_bad_certificate_changes_nothing(self):
        path = os.path.join(self.files, "breaking.pem")
        shutil.copy(self.site, path)
        proxy = self.front(certificate=path)
        with open(path, "w", encoding="ascii") as file:
            file.write("nothing\n")
        proxy.signal(SIGHUP)
        proxy.wait_log("expected a file with a certificate in PEM: there is none in it")
        self.tls(proxy.port())


class Ends(Tls):
    def through(self, **options):
        server = self.server()
        proxy = self.front(target=server.address, **options)
        client = self.tls(proxy.port())
        target = self.accept(server)
        proxy.wait_log("opened:")
        return proxy, client, target

    def test_half_close_from_the_client(self):
        proxy, client, target = self.through()
        client.send(b"question")
        client.shutdown()
        target.expect(b"question")
        target.expect_end()
        target.send(b"answer")
        client.expect(b"answer")
        target.close()
        client.expect_end()
        client.close()
        self.assertIn("done", proxy.wait_closed())

    def test_half_close_from_the_target(self):
        proxy, client, target = self.through()
        target.send(b"greeting")
        target.shutdown()
        client.expect(b"greeting")
        client.expect_end()
        client.send(b"reply")
        target.expect(b"reply")
        client.shutdown()
        target.expect_end()
        self.assertIn("done", proxy.wait_closed())

    def test_a_truncation_is_a_reset(self):
        proxy, client, target = self.through()
        client.send(b"all of it, it see")
        client.peer.shutdown()  # an end below without close_notify
        target.expect(b"all of it, it see")
        target.expect_reset()
        self.assertIn("client_reset", proxy.wait_closed())

    def test_a_reset_of_the_target(self):
        proxy, client, target = self.through()
        target.send(b"all of it, it see")
        target.wait_sent()
        target.reset()
        client.expect(b"all of it, it see")
        self.assertRaises((ConnectionResetError, ssl.SSLEOFError), client.receive)
        self.assertIn("target_reset", proxy.wait_closed())

    def test_much_each_way_with_a_slow_reader(self):
        proxy, client, target = self.through()
        for sender, receiver in ((target, client), (client, target)):
            with sending(sender):
                got = bytearray()
                while len(got) < len(BODY):  # small pieces: the proxy waits for us again and again
                    got += receiver.receive(5000)
            self.assertEqual(got, BODY)
        client.shutdown()
        target.expect_end()
        target.close()
        client.expect_end()
        self.assertIn("%d bytes in, %d bytes out" % (len(BODY), len(BODY)), proxy.wait_closed())

    def test_the_end_comes_behind_what_waits(self):
        _, client, target = self.through()
        with sending(target, target.close):
            self.assertEqual(client.receive_all(), BODY)

    def test_plain_http(self):
        proxy = self.front()
        client = self.client(proxy.port())
        client.send(b"GET / HTTP/1.1\r\nHost: site.test\r\n\r\n")
        client.receive_all()  # an alert in a record or none; an end, not a reset
        self.assertIn('does not speak TLS but plain HTTP: it begins with "GET / HTTP/1.1"', proxy.wait_closed())

    def test_noise(self):
        proxy = self.front()
        client = self.client(proxy.port())
        client.send(b"\x00\x01\x02\x03 noise")
        client.receive_all()
        self.assertIn('does not speak TLS: it begins with "00 01 02 03', proxy.wait_closed())

    def test_silence_is_given_up(self):
        proxy = self.front(timeouts='handshake = "100ms"')
        self.refused(proxy.port())
        self.assertIn("handshake_timeout", proxy.wait_closed())

    def test_a_client_that_leaves_in_the_handshake(self):
        proxy = self.front()
        self.client(proxy.port()).close()
        self.assertIn("client_gone: the client closed the connection in the handshake", proxy.wait_closed())
        self.assertEqual(proxy.counter("tls_failed"), 1)


class Targets(Tls):
    def route(self, target, settings, certificate=""):
        return self.connpipe(table({"tcp:$4:0": target}, "workers = 1") + self.profile(settings, certificate, "out"))

    def serve(self, settings, certificate=None, target=None, **options):
        """A proxy towards a TLS server of ours: (proxy, client, the server's end after its handshake)."""
        server = self.server()
        proxy = self.route((target or "tls(out)+tcp:127.0.0.1:%d") % server.port, settings)
        client = self.client(proxy.port())
        end = TlsPeer(self.accept(server), server_context(certificate or self.site, **options), server=True)
        return proxy, client, end

    def trusting(self):
        return 'ca = "%s"\n' % self.authority.path

    def test_an_address_is_checked(self):
        _, client, end = self.serve(self.trusting())
        end.handshake()
        client.send(b"there")
        end.expect(b"there")
        end.send(b"and back")
        client.expect(b"and back")
        end.shutdown()
        client.expect_end()

    def test_a_name_is_checked_and_sent(self):
        seen = []
        server = self.server()
        proxy = self.route("tls(out)+tcp:127.0.0.1:%d" % server.port,
                           self.trusting() + 'server_name = "a.wild.test"\nalpn = ["x", "y"]')
        client = self.client(proxy.port())
        context = server_context(self.wild, alpn=["y"])
        context.sni_callback = lambda tls, name, context: seen.append(name)
        end = TlsPeer(self.accept(server), context, server=True).handshake()
        self.assertEqual((seen, end.tls.selected_alpn_protocol()), (["a.wild.test"], "y"))
        client.send(b"x")
        end.expect(b"x")

    def test_a_dot_at_the_end_of_a_name(self):
        """It means the root of the DNS, and is in no certificate."""
        seen = []
        server = self.server()
        proxy = self.route("tls(out)+tcp:127.0.0.1:%d" % server.port, self.trusting() + 'server_name = "a.wild.test."')
        client = self.client(proxy.port())
        context = server_context(self.wild)
        context.sni_callback = lambda tls, name, context: seen.append(name)
        TlsPeer(self.accept(server), context, server=True).handshake().send(b"x")
        client.expect(b"x")
        self.assertEqual(seen, ["a.wild.test"])

    def test_a_directory_of_authorities(self):
        directory = self.directory()
        shutil.copy(self.authority.path, directory)
        subprocess.run(["openssl", "rehash", directory], check=True, capture_output=True)
        _, client, end = self.serve('ca = "%s"' % directory)
        end.handshake().send(b"x")
        client.expect(b"x")
        self.refused("self-signed certificate in certificate chain|unable to get local issuer certificate",
                     'ca = "%s"' % directory, certificate=self.stranger)

    def test_proxy_within_tls(self):
        _, client, end = self.serve(self.trusting(), target="proxy+tls(out)+tcp:127.0.0.1:%d")
        end.handshake()
        source = client.socket.getsockname()
        client.send(b"x")
        header = b""
        while not header.endswith(b"x"):
            header += end.receive()
        self.assertIn(source[1].to_bytes(2, "big") if header[:1] == b"\r" else b"%d" % source[1], header)

    def refused(self, words, settings, **options):
        proxy, client, end = self.serve(settings, **options)
        self.assertRaises(ssl.SSLError, lambda: end.handshake().receive())
        client.expect_closed()
        self.assertRegex(proxy.wait_closed(), "target_protocol: the certificate of the target is refused: " + words)

    def test_another_name_is_refused(self):
        self.refused('hostname mismatch: it is not one for "else.test"', self.trusting() + 'server_name = "else.test"')

    def test_another_address_is_refused(self):
        self.refused('IP address mismatch: it is not one for "127.0.0.1"', self.trusting(), certificate=self.wild)

    def test_an_unknown_authority_is_refused(self):
        self.refused("self-signed certificate in certificate chain", 'ca = "%s"' % self.other.path)

    def test_the_systems_authorities_do_not_know_it(self):
        self.refused("unable to get local issuer certificate|self-signed certificate in certificate chain", "",
                     target="tls+tcp:127.0.0.1:%d")

    def test_without_verification(self):
        _, client, end = self.serve("verify = false", certificate=self.wild)
        end.handshake().send(b"x")
        client.expect(b"x")

    def test_our_certificate(self):
        _, client, end = self.serve('verify = false\ncertificate = "%s"' % self.person, authority=self.authority.path)
        end.handshake().send(b"x")
        client.expect(b"x")
        self.assertIn("Jo, the client", str(end.tls.getpeercert()["subject"]))

    def test_no_certificate_where_one_is_wanted(self):
        proxy, client, end = self.serve("verify = false", authority=self.authority.path)
        self.assertRaises(ssl.SSLError, end.handshake)
        client.expect_closed()
        proxy.wait_closed()

    def test_plain_target(self):
        server = self.server()
        proxy = self.route("tls(out)+tcp:127.0.0.1:%d" % server.port, "verify = false")
        self.client(proxy.port())
        target = self.accept(server)
        target.send(b"220 hello\r\n")
        self.assertIn('the target does not speak TLS: it begins with "220 hello"', proxy.wait_closed())

    def test_sessions_are_resumed(self):
        inner = self.front()
        proxy = self.route("tls(out)+tcp:127.0.0.1:%d" % inner.port(), self.trusting())
        for _ in range(3):
            client = self.client(proxy.port())
            client.send(b"x")
            client.expect(b"x")
            client.shutdown()
            client.expect_end()
        self.assertIn("done", proxy.wait_closed(3))
        self.assertEqual(proxy.counter("tls_resumed"), 2)
        self.assertEqual(inner.counter("tls_resumed"), 2)

    def test_a_target_that_refuses_sessions(self):
        """It breaks the connection instead of ignoring the session: the next connections offer none."""
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            server, context = self.server(), server_context(self.site)
            context.minimum_version = context.maximum_version = version
            proxy = self.route("tls(out)+tcp:127.0.0.1:%d" % server.port, self.trusting())
            seen = []
            for _ in range(9):
                client = self.client(proxy.port())
                end = TlsPeer(self.accept(server), context, server=True)
                end.incoming.write(end.peer.receive())
                self.assertRaises(ssl.SSLWantReadError, end.tls.do_handshake)
                seen.append(end.tls.session_reused)
                if end.tls.session_reused:
                    end.peer.send(b"\x15\x03\x03\x00\x02\x02\x50")  # internal_error
                    end.close()
                    client.expect_closed()
                else:
                    end.handshake().send(b"x")
                    client.expect(b"x")  # and the ticket before it
                    client.close()
            self.assertEqual(seen, [False, True, False, False, True, False, False, False, False])

    def test_tls_in_tls(self):
        inner = self.front(key="tls+tls")
        proxy = self.route("tls(out)+tls(out)+tcp:127.0.0.1:%d" % inner.port(), self.trusting())
        client = self.client(proxy.port())
        with sending(client):
            client.expect(BODY)
        client.shutdown()
        client.expect_end()

    def test_the_next_target_is_tried(self):
        server = self.server()
        closed = free_port()
        proxy = self.connpipe(table({"tcp:$4:0": ["tls(out)+tcp:127.0.0.1:%d" % closed,
                                                  "tls(out)+tcp:127.0.0.1:%d" % server.port]}) +
                              self.profile("verify = false", "", "out"))
        client = self.client(proxy.port())
        TlsPeer(self.accept(server), server_context(self.site), server=True).handshake().send(b"x")
        client.expect(b"x")


class Settings(Tls):
    def errors(self, text):
        directory = self.directory()
        with open(os.path.join(directory, "config.toml"), "w", encoding="utf-8") as file:
            file.write(text)
        with open(os.path.join(directory, "near.pem"), "wb") as file, open(self.site, "rb") as site:
            file.write(site.read())
        return self.program("check", "--config", directory)

    def refuses(self, words, settings, certificate=None):
        done = self.errors(self.profile(settings, certificate))
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn(words, done.stderr)

    def test_errors(self):
        rsa = self.rsa
        for words, settings in (
                ("did you mean \"min_version\"", 'min_versoin = "1.2"'),
                ("cannot read", 'key = "nowhere.pem"'),
                ("the key is not the one of the certificate", 'key = "%s"' % rsa),
                ("OpenSSL knows none of these", 'ciphers = "NONSENSE"'),
                ("expected names of cipher suites", 'ciphersuites = "NONSENSE"'),
                ("expected names of groups", 'groups = "NONSENSE"'),
                ("from `min_version` on", 'min_version = "1.3"\nmax_version = "1.2"'),
                ("expected a key `client_ca`", 'client_verify = "require"'),
                ("1 to 255 bytes", 'alpn = [""]'),
                ("expected a name such as", 'names = ["a.*.b"]'),
                ("expected either `certificates`", 'certificates = []'),
                ("OCSP response in DER", 'ocsp = "%s"' % rsa),
                ("keys of 80 random bytes", 'ticket_keys = "%s"' % rsa),
                ("config.toml:4:11: expected a duration", 'tickets = "8d"'),
                ("expected no `ca`", 'verify = false\nca = "%s"' % self.authority.path)):
            with self.subTest(words):
                self.refuses(words, settings)

    def test_encrypted_key(self):
        path = os.path.join(self.files, "locked.key")
        subprocess.run(["openssl", "pkey", "-in", self.site, "-aes128", "-passout", "pass:x", "-out", path],
                       check=True, capture_output=True)
        self.refuses("the key is encrypted", 'key = "%s"' % path)

    def test_which_profile(self):
        def refuses(words, routes, *profiles):
            done = self.errors(table(routes) + "".join(profiles))
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn(words, done.stderr)

        bound, target = {"tls+tcp:$4:0": "echo:"}, {"tcp:$4:0": "tls(sie)+tcp:a:1"}
        refuses("tls needs a certificate to accept", bound)
        refuses("tls needs a certificate to accept", bound, self.profile("", ""))
        refuses('one of "site", "more"', bound, self.profile(), self.profile(name="more"))
        refuses('did you mean "site"', target, self.profile())
        refuses("expected a table [sie]", target)
        refuses('"site" has no certificate', {"tls(site)+tcp:$4:0": "echo:"}, self.profile("", ""))
        refuses("no name is known", {"tcp:$4:0": "tls+unix:/x"})

    def test_paths_are_relative_to_the_configuration(self):
        done = self.errors(table({"tls+tcp:$4:0": "tls(site)+tcp:a:1"}) + self.profile("", "near.pem"))
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_expired_is_a_warning(self):
        proxy = self.front(certificate=self.authority.make("expired", ["site.test"], days=-1))
        proxy.wait_log("WARN .*config.toml:[0-9:]+: the certificate has expired on")


class Programs(Tls):
    """Other TLS implementations and proxies, in front of connpipe and behind it."""

    def daemon(self, port, *words):
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        until(lambda: listens(port) or self.assertIsNone(process.poll(), "%s ended" % words[0]))

    def write(self, text):
        path = os.path.join(self.directory(), "proxy.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def nginx(self, port, text):
        directory = self.directory()
        path = self.write("daemon off;\nmaster_process off;\npid %s/pid;\nerror_log stderr;\n"
                          "%sevents {}\n%s" % (directory, STREAM if text.startswith("stream") else "", text))
        self.daemon(port, "nginx", "-p", directory, "-c", path)

    def haproxy(self, port, text):
        self.daemon(port, "haproxy", "-q", "-f", self.write(
            "defaults\n mode tcp\n timeout connect 9s\n timeout client 9s\n timeout server 9s\n" + text))

    def exchange(self, client):
        with sending(client):
            client.expect(BODY)

    def needs(self, program):
        if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin"):
            self.skipTest("%s is not installed" % program)

    def test_haproxy(self):
        self.needs("haproxy")
        front, back = free_port(), free_port()
        echo = self.connpipe(table({"tcp:$4:0": "echo:"}))
        self.haproxy(back, "listen l\n bind 127.0.0.1:%d ssl crt %s\n server s 127.0.0.1:%d\n" %
                     (back, self.site, echo.port()))
        proxy = self.front('ca = "%s"' % self.authority.path, target="tls(site)+tcp:127.0.0.1:%d" % back)
        self.haproxy(front, "listen l\n bind 127.0.0.1:%d\n server s 127.0.0.1:%d ssl verify required ca-file %s\n" %
                     (front, proxy.port(), self.authority.path))
        self.exchange(self.client(front))

    def test_nginx(self):
        self.needs("nginx")
        front, back = free_port(), free_port()
        echo = self.connpipe(table({"tcp:$4:0": "echo:"}))
        self.nginx(back, "stream { server { listen 127.0.0.1:%d ssl; ssl_certificate %s; ssl_certificate_key %s; "
                         "proxy_pass 127.0.0.1:%d; } }" % (back, self.site, self.site, echo.port()))
        proxy = self.front('ca = "%s"' % self.authority.path, target="tls(site)+tcp:127.0.0.1:%d" % back)
        self.nginx(front, "stream { server { listen 127.0.0.1:%d; proxy_pass 127.0.0.1:%d; proxy_ssl on; "
                          "proxy_ssl_verify on; proxy_ssl_name site.test; proxy_ssl_server_name on; "
                          "proxy_ssl_trusted_certificate %s; } }" % (front, proxy.port(), self.authority.path))
        self.exchange(self.client(front))

    def test_curl_and_http2(self):
        self.needs("nginx")
        back = free_port()
        directory = self.directory()
        with open(os.path.join(directory, "body"), "wb") as file:
            file.write(BODY)
        os.chmod(directory, 0o755)
        self.nginx(back, "http { access_log off; server { listen 127.0.0.1:%d http2; root %s; } }" % (back, directory))
        proxy = self.front('alpn = ["h2"]', target="tcp:127.0.0.1:%d" % back)
        port = proxy.port()
        done = subprocess.run(["curl", "-sS", "--http2", "--cacert", self.authority.path, "--resolve",
                               "site.test:%d:127.0.0.1" % port, "-w", "%{stderr}%{http_version}",
                               "https://site.test:%d/body" % port], capture_output=True, timeout=PATIENCE, check=False)
        self.assertEqual((done.stderr, done.stdout == BODY), (b"2", True))


class Storm(Tls):
    def test_reloads_under_load(self):
        """Handshakes, full and resumed, data and ends of every kind on two workers, while generations come and go."""
        server = self.front(process="workers = 2")
        proxy = self.front('ca = "%s"' % self.authority.path, process="workers = 2",
                           target="tls(site)+tcp:127.0.0.1:%d" % server.port())
        port, failures = proxy.port(), []

        def client(number):
            context, session = client_context(self.authority.path), None
            try:
                for turn in range(12):
                    one = self.tls(port, context=context, session=session)
                    one.send(b"%d" % turn * 1000)
                    one.expect(b"%d" % turn * 1000)
                    session = one.session
                    if (turn + number) % 3:
                        one.shutdown()
                        one.expect_end()
                    elif (turn + number) % 2:
                        one.peer.reset()
            except Exception as error:  # pylint: disable=broad-except
                failures.append(error)

        threads = [threading.Thread(target=client, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for _ in range(4):
            proxy.signal(SIGHUP)
            proxy.wait_generation()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        for process in (proxy, server):
            process.signal(SIGTERM)
            self.assertEqual(process.wait(), 0)
