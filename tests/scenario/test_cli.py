"""The command line: what is said about wrong words, wrong configurations, routes."""

import json
import os
import unittest

from tests.scenario.harness import Scenario, table


class Usage(Scenario):
    def refuse(self, *words):
        result = self.program(*words)
        self.assertEqual((result.returncode, result.stdout), (2, ""))
        self.assertRegex(result.stderr, r"^connpipe: .*\nusage: connpipe ")
        return result.stderr

    def test_unknown_command_has_a_near_name(self):
        self.assertIn('"chek", did you mean "check"?', self.refuse("chek"))

    def test_unknown_option_has_a_near_name(self):
        self.assertIn('"--confg", did you mean "--config"?', self.refuse("--confg", "x", "check"))

    def test_missing_words_are_named(self):
        self.assertIn("needs ADDRESS", self.refuse("route"))
        self.assertIn("needs FROM TO", self.refuse("pipe", "tcp:$4:1"))

    def test_too_many_words(self):
        self.assertIn('"more"', self.refuse("connect", "echo:", "more"))

    def test_option_of_another_command(self):
        self.assertIn("--json", self.refuse("check", "--json"))

    def test_config_without_directory(self):
        self.assertIn("--config needs", self.refuse("check", "--config"))

    def test_ctl_words(self):
        self.assertIn('did you mean "reload"?', self.refuse("ctl", "relod"))
        self.assertIn("takes ID", self.refuse("ctl", "kill"))
        self.assertIn("no number", self.refuse("ctl", "kill", "x"))
        self.assertIn('did you mean "debug"?', self.refuse("ctl", "log", "debugg"))

    def test_fact_without_value(self):
        self.assertIn("no name=value", self.refuse("route", "tcp:$4:0", "sni"))
        self.assertIn("no IP address", self.refuse("route", "tcp:$4:0", "from=example.org"))


class Help(Scenario):
    def test_help_lists_every_command_and_explains_each(self):
        text = self.program("help").stdout
        for command in "run check route pipe connect ctl systems help version".split():
            self.assertRegex(text, r"(?m)^  %s " % command)
            by_help = self.program("help", command)
            by_option = self.program(command, "--help")
            self.assertEqual((by_help.returncode, by_option.returncode), (0, 0))
            self.assertEqual(by_help.stdout, by_option.stdout)
            self.assertRegex(by_help.stdout, r"^usage: connpipe \[--config DIR\] %s" % command)
        self.assertEqual(self.program("--help").stdout, text)

    def test_version(self):
        self.assertRegex(self.program("--version").stdout, r"^connpipe \d+\.\d+\.\d+\n$")
        self.assertEqual(self.program("version").stdout, self.program("--version").stdout)

    def test_full_stdout_is_an_error(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            result = self.program("help", stdout=full, stderr=-1)
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, r"^connpipe: cannot write to stdout: ")


class Configured(Scenario):
    def configure(self, text):
        directory = self.directory()
        with open(os.path.join(directory, "config.toml"), "w", encoding="utf-8") as file:
            file.write(text)
        return directory


class Check(Configured):
    def test_a_right_configuration(self):
        directory = self.configure(table({"tcp:$4:1": "echo:", "tcp:$4:2": "echo:"}))
        result = self.program("check", "--config", directory)
        self.assertRegex(result.stdout, r"^configuration .*: ok \(\d+ systems, 2 addresses\)\n$")
        self.assertEqual((result.returncode, result.stderr), (0, ""))

    def test_directory_from_the_environment(self):
        directory = self.configure(table({"tcp:$4:1": "echo:"}))
        result = self.program("check", env={**os.environ, "CONFIG": directory})
        self.assertEqual(result.returncode, 0, result.stderr)
        result = self.program("--config", "/nonexistent", "check", env={**os.environ, "CONFIG": directory})
        self.assertEqual(result.returncode, 1)

    def test_all_errors_are_reported_with_their_places(self):
        directory = self.configure(
            '[connpipe]\nworkres = 1\n[t]\ntype = "table"\n[t.routes]\n"tpc:$4:1" = "echo:"\n"tcp:$4:2" = 7\n'
        )
        result = self.program("check", "--config", directory)
        self.assertEqual((result.returncode, result.stdout), (1, ""))
        self.assertRegex(result.stderr, r"config\.toml:2:1: .*workres.*workers")
        self.assertRegex(result.stderr, r"config\.toml:6:\d+: .*tpc.*tcp")
        self.assertRegex(result.stderr, r"config\.toml:7:\d+: ")
        self.assertRegex(result.stderr, r"(?m)^connpipe: configuration .*: 3 errors$")

    def test_a_name_cannot_be_bound(self):
        directory = self.configure(table({"tcp:db.example.org:1": "echo:", "tcp:localhost:1": "echo:"}))
        result = self.program("check", "--config", directory)
        self.assertRegex(result.stderr, r"config\.toml:6:1: tcp:db\.example\.org:1, .*: cannot bind to a name: give an IP")
        self.assertIn("1 error\n", result.stderr)

    def test_no_configuration(self):
        result = self.program("check", "--config", "/nonexistent/directory")
        self.assertEqual(result.returncode, 1)
        self.assertIn("/nonexistent/directory", result.stderr)

    def test_the_shipped_example(self):
        result = self.program("check", "--config", "config")
        self.assertEqual(result.returncode, 0, result.stderr)


class Systems(Configured):
    def test_lists_what_is_exported(self):
        directory = self.configure(table({"tcp:$4:1!a": "echo:"}))
        text = self.program("systems", "--config", directory).stdout
        self.assertRegex(text, r"(?m)^1e1001\.connpipe\.core  \(compiled in\)$")
        self.assertRegex(text, r"(?m)^  connector +tcp +tcp:host:port!multiplex")
        self.assertRegex(text, r"(?m)^t  \(table, .*config\.toml:\d+:\d+\)$")
        self.assertRegex(text, r"(?m)^  router +t +tcp:127\.0\.0\.1:1!a")

    def test_json(self):
        directory = self.configure(table({"tcp:$4:1!a": "echo:"}))
        answer = json.loads(self.program("systems", "--json", "--config", directory).stdout)
        systems = {system["id"]: system for system in answer["systems"]}
        self.assertEqual(systems["t"]["type"], "table")
        self.assertEqual(systems["t"]["routers"], [{"id": "t", "addresses": ["tcp:127.0.0.1:1!a"]}])
        tcp = [c for c in systems["1e1001.connpipe.core"]["connectors"] if "tcp" in c["aliases"]]
        self.assertEqual([(c["bind"], c["connect"], c["carries"]) for c in tcp], [(True, True, "bytes")])


class Route(Configured):
    ROUTES = """
[t]
type = "table"
[t.routes]
"tcp:$4:1!db" = ["tcp:10.0.0.1:5432", "tcp:10.0.0.2:5432"]
"tcp:$4:1!*" = "tcp:{multiplex}.svc.local:80"
"tcp:*4:2" = [
  { when = { from = ["192.0.2.0/24"] }, to = "tcp:10.0.0.3:1" },
  { when = { from = ["198.51.100.0/24", "2001:db8::/32"] }, to = "tcp:10.0.0.4:1" },
  { to = "tcp:10.0.0.5:1" },
]
"frame+tcp:$4:6" = "frame+tcp:10.0.0.10:1"
"tcp:$4:4" = [
  { when = { from = "192.0.2.0/24", sni = ["*.example.org", "example.org"] }, to = "tcp:{sni}:443" },
  { when = { proto = "ssh" }, to = "tcp:10.0.0.7:22" },
  { when = { host = "example.org", path = "/api/*" }, to = "tcp:10.0.0.8:80" },
  { when = { proto = ["tls", "http"] }, to = "tcp:{proto}:1" },
  { when = { alpn = "h2" }, to = "tcp:10.0.0.9:1" },
]
"""

    def route(self, *words):
        return self.program("--config", self.configure(self.ROUTES), "route", *words)

    def targets(self, *words):
        result = self.route(*words)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        return [line.removeprefix("target: ") for line in result.stdout.splitlines() if line.startswith("target: ")]

    def test_layers_need_not_be_typed(self):
        self.assertEqual(self.targets("tcp:$4:6"), ["frame+tcp:10.0.0.10:1"])

    def test_targets_in_their_order(self):
        self.assertEqual(self.targets("tcp:127.0.0.1:1!db"), ["tcp:10.0.0.1:5432", "tcp:10.0.0.2:5432"])

    def test_any_subport(self):
        self.assertEqual(self.targets("tcp:127.0.0.1:1!web"), ["tcp:web.svc.local:80"])

    def test_steps_name_router_and_key(self):
        lines = self.route("tcp:127.0.0.1:1!db").stdout
        self.assertRegex(lines, r'(?m)^  router "t" is asked about tcp:127\.0\.0\.1:1!db$')

    def test_without_a_subport_is_refused(self):
        result = self.route("tcp:127.0.0.1:1")
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stdout, r"(?m)^refused: no_route: ")

    def test_facts_decide(self):
        self.assertEqual(self.targets("tcp:*4:2", "from=192.0.2.9"), ["tcp:10.0.0.3:1"])
        self.assertEqual(self.targets("tcp:*4:2", "from=198.51.100.1", "name=value"), ["tcp:10.0.0.4:1"])
        self.assertEqual(self.targets("tcp:*4:2", "from=203.0.113.1"), ["tcp:10.0.0.5:1"])

    def test_what_the_first_bytes_would_tell(self):
        ask = "tcp:$4:4"
        self.assertEqual(self.targets(ask, "proto=ssh"), ["tcp:10.0.0.7:22"])
        self.assertEqual(self.targets(ask, "host=example.org", "path=/api/x"), ["tcp:10.0.0.8:80"])
        self.assertEqual(self.targets(ask, "host=example.org", "path=/api"), ["tcp:http:1"])
        self.assertEqual(self.targets(ask, "sni=www.example.org"), ["tcp:tls:1"])
        self.assertEqual(self.targets(ask, "sni="), ["tcp:tls:1"])
        self.assertEqual(self.targets(ask, "alpn=http/1.1,h2", "proto=quic"), ["tcp:10.0.0.9:1"])

    def test_steps_tell_each_condition(self):
        lines = self.route("tcp:$4:4", "from=192.0.2.1", "sni=www.example.net", "alpn=h2").stdout
        steps = lines[lines.index("  proto=tls"):]
        self.assertEqual(steps, """\
  proto=tls, since sni and alpn are TLS's
  bound as tcp:127.0.0.1:4
  router "t" is asked about tcp:127.0.0.1:4
    key "tcp:127.0.0.1:4" matches
    rule 3 needs to know what the client's first bytes tell
  there is no client here to send bytes: only facts that are given as name=value are known
  fact: proto is "tls"
  fact: sni is "www.example.net"
  fact: alpn is "h2"
  fact: host is not known
  fact: path is not known
  fact: method is not known
  router "t" is asked about tcp:127.0.0.1:4
    key "tcp:127.0.0.1:4" matches
    from: 192.0.2.1:0 is in 192.0.2.0/24
    sni: "www.example.net" does not match any of "*.example.org", "example.org"
    rule 1 does not hold
    proto: "tls" does not match "ssh"
    rule 2 does not hold
    host: not known: there are no bytes of the client
    path: not known: there are no bytes of the client
    rule 3 does not hold
    proto: "tls" matches "tls"
    rule 4 is taken
  router "t": target 1 of 1: tcp:tls:1
target: tcp:tls:1
""")

    def test_without_facts_no_rule_holds(self):
        result = self.route("tcp:$4:4", "from=198.51.100.1")
        self.assertEqual(result.returncode, 1)
        self.assertIn("\n    sni: not known: there are no bytes of the client\n    rule 1 does not hold\n", result.stdout)
        self.assertIn("\n    proto: not known: there are no bytes of the client\n", result.stdout)
        self.assertIn("\nrefused: no_route: no rule of the route holds\n", result.stdout)

    def test_an_address_that_the_wildcard_takes(self):
        self.assertEqual(self.targets("tcp:127.0.0.1:2", "from=192.0.2.9"), ["tcp:10.0.0.3:1"])

    def test_nothing_bound_there(self):
        result = self.route("tcp:127.0.0.1:3")
        self.assertEqual(result.returncode, 1)
        self.assertIn("nothing is bound on tcp:127.0.0.1:3", result.stderr)
        self.assertIn("tcp:127.0.0.1:1", result.stderr)

    def test_not_an_address(self):
        result = self.route("tpc:127.0.0.1:3")
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, r"^connpipe: .*tpc.*tcp")


if __name__ == "__main__":
    unittest.main()
