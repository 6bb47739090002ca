/* Conditions and templates that look at the client's first bytes: what is waited for, what matches, what is told. */
#include "table.h"

#include <connpipe/sniff.h>

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#define WHEN(port, when) "\"byte:*4:" port "\" = { when = " when ", to = \"byte:a:1\" }\n"

/* ---- Clients ------------------------------------------------------------------------------------------------ */

static void put(char *at, size_t *length, const void *bytes, size_t count)
{
	memcpy(at + *length, bytes, count);
	*length += count;
}

static void put_number(char *at, size_t *length, size_t number, int bytes)
{
	while (bytes-- > 0)
		at[(*length)++] = (char)(number >> 8 * bytes);
}

/** An extension of a ClientHello: its body is a list of one entry behind `prefix`. */
static void put_extension(char *at, size_t *length, unsigned type, const char *prefix, size_t prefix_length,
						  const char *text, int text_length_bytes)
{
	size_t entry = prefix_length + (size_t)text_length_bytes + strlen(text);
	put_number(at, length, type, 2);
	put_number(at, length, entry + 2, 2);
	put_number(at, length, entry, 2);
	put(at, length, prefix, prefix_length);
	put_number(at, length, strlen(text), text_length_bytes);
	put(at, length, text, strlen(text));
}

/** A ClientHello (RFC 8446 section 4.1.2) with this server name and this one protocol; NULL: without. */
static struct table_client hello(char room[1024], const char *name, const char *protocol)
{
	char extensions[512], body[900];
	size_t extra = 0, length = 0, total = 0;
	if (name)
		put_extension(extensions, &extra, 0, "\0", 1, name, 2);
	if (protocol)
		put_extension(extensions, &extra, 16, "", 0, protocol, 1);
	put_number(body, &length, 0x0303, 2);
	memset(body + length, 7, 32);
	length += 32;
	put(body, &length, "\0\0\2\x13\1\1\0", 7); /* no session, one cipher suite, no compression */
	put_number(body, &length, extra, 2);
	put(body, &length, extensions, extra);
	put(room, &total, "\x16\3\1", 3);
	put_number(room, &total, length + 4, 2);
	put_number(room, &total, 1, 1);
	put_number(room, &total, length, 3);
	put(room, &total, body, length);
	return (struct table_client){.bytes = room, .length = total};
}

static struct table_client says(const char *text)
{
	return (struct table_client){.bytes = text, .length = strlen(text)};
}

static const char *ask(struct table_test *test, const char *address, struct table_client client)
{
	return table_test_ask_client(test, address, &client);
}

/** Of the client's bytes the first `length` have come, more will. */
static const char *ask_early(struct table_test *test, const char *address, struct table_client client, size_t length)
{
	client.length = length;
	client.more = true;
	return table_test_ask_client(test, address, &client);
}

/* ---- What matches ------------------------------------------------------------------------------------------- */

struct expected {
	const char *pattern, *value;
	bool holds;
};

/** Of a condition with each of these patterns, against the fact as a layer gives it. */
static void expect_matches(const char *name, const struct expected *cases, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct table_test test;
		char routes[512], facts[512];
		snprintf(routes, sizeof(routes), WHEN("1", "{ %s = [\"none.such\", \"%s\"] }"), name, cases[i].pattern);
		if (strcmp(name, "path") == 0)
			snprintf(routes, sizeof(routes), WHEN("1", "{ path = [\"/none\", \"%s\"] }"), cases[i].pattern);
		snprintf(facts, sizeof(facts), "sni= host= %s=%s", name, cases[i].value);
		table_test_routes(&test, routes);
		const char *answer = ask(&test, "byte:*4:1", (struct table_client){.facts = facts});
		cr_expect_str_eq(answer, cases[i].holds ? "byte:a:1" : "no_route", "%s \"%s\" against \"%s\": %s", name,
						 cases[i].pattern, cases[i].value, answer);
		table_test_end(&test);
	}
}
#define EXPECT(name, cases) expect_matches(name, cases, sizeof(cases) / sizeof((cases)[0]))

Test(table_facts, names)
{
	static const struct expected cases[] = {
		{"example.org", "example.org", true},
		{"Example.ORG", "example.org", true},
		{"example.org", "EXAMPLE.org", true},
		{"example.org.", "example.org", true},
		{"example.org", "example.org.", true},
		{"example.org", "www.example.org", false},
		{"example.org", "xexample.org", false},
		{"example.org", "example.or", false},
		{"*.example.org", "www.example.org", true},
		{"*.example.org", "a.b.Example.org.", true},
		{"*.example.org", "example.org", false},
		{"*.example.org", ".example.org", false},
		{"*.example.org", "wwwexample.org", false},
		{"*.example.org.", "www.example.org", true},
		{"*", "anything", true},
		{"*", "", false},
		{"example.org", "", false},
	};
	EXPECT("sni", cases);
	EXPECT("host", cases);
}

Test(table_facts, hosts_that_are_addresses)
{
	static const struct expected cases[] = {
		{"192.0.2.1", "192.0.2.1", true},
		{"[2001:DB8:0:0::1]", "[2001:db8::1]", true},
		{"[2001:db8::1]", "[2001:db8::2]", false},
		{"*", "[2001:db8::2]", true},
	};
	EXPECT("host", cases);
}

Test(table_facts, paths)
{
	static const struct expected cases[] = {
		{"/api", "/api", true},     {"/api", "/api/", false},
		{"/api", "/API", false},    {"/api", "/ap", false},
		{"/api/*", "/api/", true},  {"/api/*", "/api/x/y", true},
		{"/api/*", "/api", false},  {"/api*", "/apis", true},
		{"/*", "/", true},          {"*", "/x", true},
		{"*", "", false},           {"/a", "//a", false},
		{"/a%20b", "/a%20b", true}, {"/\xc3\xbc", "/\xc3\xbc", true},
	};
	EXPECT("path", cases);
}

Test(table_facts, protocols_of_tls)
{
	static const struct expected cases[] = {
		{"h2", "h2", true},
		{"h2", "h2,http/1.1", true},
		{"h2", "http/1.1,h2", true},
		{"h2", "h2c", false},
		{"h2", "a,h2c,xh2", false},
		{"http/1.1", "h2,http/1.1", true},
		{"*", "x", true},
		{"*", "", false},
		{"h", "h2", false},
	};
	EXPECT("alpn", cases);
}

Test(table_facts, methods)
{
	struct table_test test;
	table_test_routes(&test, WHEN("1", "{ method = [\"GET\", \"M-SEARCH\"] }"));
	cr_expect_str_eq(ask(&test, "byte:*4:1", (struct table_client){.facts = "method=GET host="}), "byte:a:1");
	cr_expect_str_eq(ask(&test, "byte:*4:1", (struct table_client){.facts = "method=M-SEARCH host="}), "byte:a:1");
	cr_expect_str_eq(ask(&test, "byte:*4:1", (struct table_client){.facts = "method=GETX host="}), "no_route");
	table_test_end(&test);
}

Test(table_facts, all_conditions_of_a_rule_hold_and_any_of_their_values)
{
	struct table_test test;
	char room[1024];
	table_test_routes(&test, "\"byte:*4:1\" = [\n"
							 "{ when = { sni = [\"a.test\", \"b.test\"], alpn = \"h2\" }, to = \"byte:both:1\" },\n"
							 "{ when = { sni = \"a.test\" }, to = \"byte:name:1\" },\n"
							 "{ when = { alpn = \"h2\" }, to = \"byte:h2:1\" }]\n");
	cr_expect_str_eq(ask(&test, "byte:*4:1", hello(room, "b.test", "h2")), "byte:both:1");
	cr_expect_str_eq(ask(&test, "byte:*4:1", hello(room, "a.test", "x")), "byte:name:1");
	cr_expect_str_eq(ask(&test, "byte:*4:1", hello(room, "b.test", "x")), "no_route");
	cr_expect_str_eq(ask(&test, "byte:*4:1", hello(room, NULL, "h2")), "byte:h2:1");
	cr_expect_str_eq(ask(&test, "byte:*4:1", hello(room, NULL, NULL)), "no_route");
	cr_expect_str_eq(ask(&test, "byte:*4:1", says("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")), "no_route");
	table_test_end(&test);
}

/* ---- What is waited for ------------------------------------------------------------------------------------- */

static const char of_each[] = "\"byte:*4:1\" = [\n"
							  "{ when = { proto = \"ssh\" }, to = \"byte:ssh:1\" },\n"
							  "{ when = { sni = \"a.test\" }, to = \"byte:tls:1\" },\n"
							  "{ when = { host = \"a.test\", path = \"/x/*\" }, to = \"byte:http:1\" },\n"
							  "{ when = { proto = [\"tls\", \"http\"] }, to = \"byte:other:1\" },\n"
							  "{ to = \"byte:rest:1\" }]\n";
static const char request[] = "GET /x/y?z HTTP/1.1\r\nHost: A.test:80\r\n\r\n";

Test(table_facts, one_port_for_several_protocols)
{
	struct table_test test;
	char room[1024];
	table_test_routes(&test, of_each);
	cr_expect_str_eq(ask(&test, "byte:*4:1", says("SSH-2.0-x\r\n")), "byte:ssh:1");
	cr_expect_str_eq(ask(&test, "byte:*4:1", hello(room, "a.test", NULL)), "byte:tls:1");
	cr_expect_str_eq(ask(&test, "byte:*4:1", hello(room, "b.test", NULL)), "byte:other:1");
	cr_expect_str_eq(ask(&test, "byte:*4:1", says(request)), "byte:http:1");
	cr_expect_str_eq(ask(&test, "byte:*4:1", says("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")), "byte:other:1");
	cr_expect_str_eq(ask(&test, "byte:*4:1", says("EHLO\r\n")), "byte:rest:1");
	cr_expect_str_eq(ask(&test, "byte:*4:1", says("")), "byte:rest:1");
	table_test_end(&test);
}

Test(table_facts, bytes_are_waited_for_until_it_is_certain)
{
	struct table_test test;
	char room[1024];
	table_test_routes(&test, of_each);
	struct table_client tls = hello(room, "a.test", "h2"), http = says(request), ssh = says("SSH-2.0");
	for (size_t i = 0; i < tls.length; i++)
		cr_expect_str_eq(ask_early(&test, "byte:*4:1", tls, i), "wants bytes", "hello cut at %zu", i);
	for (size_t i = 0; i < http.length; i++)
		cr_expect_str_eq(ask_early(&test, "byte:*4:1", http, i), "wants bytes", "request cut at %zu", i);
	for (size_t i = 0; i < ssh.length; i++)
		cr_expect_str_eq(ask_early(&test, "byte:*4:1", ssh, i), i < 4 ? "wants bytes" : "byte:ssh:1");
	cr_expect_str_eq(ask_early(&test, "byte:*4:1", tls, tls.length), "byte:tls:1");
	cr_expect_str_eq(ask_early(&test, "byte:*4:1", http, http.length), "byte:http:1");
	cr_expect_str_eq(ask_early(&test, "byte:*4:1", says("220 "), 4), "byte:rest:1");
	table_test_end(&test);
}

Test(table_facts, only_what_is_asked_for_is_waited_for)
{
	struct table_test test;
	char room[1024];
	struct table_client nothing = {.more = true}, near = nothing;
	cr_assert(cp_ip_parse("10.0.0.1", 8, &near.peer.ip));
	table_test_routes(&test, "\"byte:*4:1\" = [{ when = { from = \"10.0.0.0/8\", sni = \"a\" }, to = \"byte:a:1\" },\n"
							 "{ to = \"byte:b:1\" }]\n"
							 "\"byte:*4:2\" = [{ when = { from = \"10.0.0.0/8\" }, to = \"byte:a:1\" },\n"
							 "{ when = { sni = \"a\" }, to = \"byte:b:1\" }]\n"
							 "\"byte:*4:3\" = \"byte:a:1\"\n"
							 "\"byte:*4:4\" = { when = { proto = \"tls\" }, to = \"byte:a:1\" }\n");
	cr_expect_str_eq(ask(&test, "byte:*4:1", nothing), "byte:b:1", "`from` does not hold: no bytes are wanted");
	cr_expect(strstr(test.explained, "  sni: not looked at\n  rule 1 does not hold\n"), "%s", test.explained);
	cr_expect_str_eq(ask(&test, "byte:*4:1", near), "wants bytes");
	cr_expect_str_eq(ask(&test, "byte:*4:2", near), "byte:a:1", "a rule before it holds");
	cr_expect_str_eq(ask(&test, "byte:*4:2", nothing), "wants bytes");
	cr_expect_str_eq(ask(&test, "byte:*4:3", nothing), "byte:a:1");
	cr_expect_str_eq(ask_early(&test, "byte:*4:4", hello(room, "a", NULL), 6), "byte:a:1",
					 "proto needs no whole hello");
	table_test_end(&test);
}

Test(table_facts, what_layers_have_told_needs_no_bytes)
{
	struct table_test test;
	struct table_client client = {.more = true, .facts = "sni=a.test alpn=h2"};
	table_test_routes(&test, WHEN("1", "{ sni = \"*.test\", alpn = \"h2\" }") WHEN("2", "{ alpn = \"x\" }")
								 WHEN("3", "{ sni = \"a.test\", proto = \"http\" }") WHEN("4", "{ sni = \"a.test\" }"));
	cr_expect_str_eq(ask(&test, "byte:*4:1", client), "byte:a:1");
	cr_expect_str_eq(ask(&test, "byte:*4:2", client), "no_route");
	cr_expect_str_eq(ask(&test, "byte:*4:3", client), "wants bytes", "of what is inside TLS");
	client.facts = "sni= alpn=";
	cr_expect_str_eq(ask(&test, "byte:*4:4", client), "no_route", "known to be none");
	table_test_end(&test);
}

Test(table_facts, routers_asked_one_after_another_share_what_is_known)
{
	struct table_test test;
	char room[1024];
	table_test_load(&test, "/",
					"[front]\ntype = \"table\"\n[front.routes]\n"
					"\"byte:*4:1\" = [{ when = { proto = \"ssh\" }, to = \"byte:ssh:1\" }, { to = \">rules\" }]\n"
					"[rules]\ntype = \"table\"\nbind = false\n[rules.routes]\n"
					"\"byte:*4:1\" = [{ when = { proto = \"tls\" }, to = \">last\" }, { to = \"byte:no:1\" }]\n"
					"[last]\ntype = \"table\"\nbind = false\n[last.routes]\n"
					"\"byte:*4:1\" = { when = { sni = \"a.test\" }, to = \"byte:{sni}:1\" }\n");
	report_print(&test.report, stderr, "");
	cr_assert(test.generation);
	cr_expect_str_eq(ask(&test, "byte:*4:1", hello(room, "a.test", NULL)), "byte:a.test:1");
	cr_expect_str_eq(ask(&test, "byte:*4:1", says("x")), "byte:no:1");
	table_test_end(&test);
}

/* ---- Templates ---------------------------------------------------------------------------------------------- */

Test(table_facts, templates_ask_for_bytes)
{
	struct table_test test;
	char room[1024];
	struct table_client nothing = {.more = true};
	table_test_routes(&test, "\"byte:*4:1\" = \"byte:{sni}:443\"\n"
							 "\"byte:*4:2\" = [\"byte:{host}:80\", \"byte:b:1\"]\n"
							 "\"byte:*4:3\" = [{ when = { proto = \"tls\" }, to = \"byte:{sni}:1\" },\n"
							 "{ to = \"byte:{proto}.test:1\" }]\n"
							 "\"byte:*4:4!*\" = \">front byte:*4:1!{host}\"\n"
							 "\"byte:*4:1!*\" = \"byte:{multiplex}:9\"\n"
							 "\"web:*4:5\" = \"web:a:1/{path}\"\n"
							 "\"byte:*4:6\" = { to = \"byte:{sni}:1\" }\n");
	struct table_client tls = hello(room, "a.test", NULL), http = says(request);
	cr_expect_str_eq(ask(&test, "byte:*4:1", nothing), "wants bytes");
	cr_expect_str_eq(ask(&test, "byte:*4:1", tls), "byte:a.test:443");
	cr_expect_str_eq(ask(&test, "byte:*4:1", http), "refused_by_router: byte:{sni}:443: this connection has no sni");
	cr_expect_str_eq(ask(&test, "byte:*4:2", http), "byte:a.test:80, byte:b:1");
	cr_expect_str_eq(ask_early(&test, "byte:*4:3", tls, 10), "wants bytes");
	cr_expect_str_eq(ask(&test, "byte:*4:3", tls), "byte:a.test:1");
	cr_expect_str_eq(ask(&test, "byte:*4:3", http), "byte:http.test:1");
	cr_expect_str_eq(ask(&test, "byte:*4:4!x", http), "byte:a.test:9");
	cr_expect_str_eq(ask(&test, "web:*4:5/x", nothing), "web:a:1/x", "the connector's own path");
	cr_expect_str_eq(ask(&test, "byte:*4:6", tls), "byte:a.test:1");
	table_test_end(&test);
}

/* ---- Patterns of one's own ---------------------------------------------------------------------------------- */

static void load_with_patterns(struct table_test *test, const char *patterns, const char *routes)
{
	char text[4096];
	snprintf(text, sizeof(text), "[front]\ntype = \"table\"\n[front.sniff]\n%s[front.routes]\n%s", patterns, routes);
	table_test_load(test, "/", text);
	report_print(&test->report, stderr, "");
	cr_assert(test->generation);
}

Test(table_facts, patterns_of_bytes)
{
	struct table_test test;
	load_with_patterns(
		&test,
		"postgres = { hex = \"00 00 00 08 04d2 162f\" }\nsmtp = \"EHLO \"\n"
		"vpn = { hex = \"?? ?? 38\" }\nmid = { text = \"mid\", offset = 2 }\nhalf = { hex = \"f? ?e\" }\n",
		"\"byte:*4:1\" = [{ when = { proto = [\"postgres\", \"smtp\", \"vpn\", \"mid\", \"half\", "
		"\"http\"] }, to = \"byte:{proto}:1\" }, { to = \"byte:rest:1\" }]\n");
	struct table_client postgres = {.bytes = "\0\0\0\10\4\xd2\x16\x2f", .length = 8};
	struct table_client vpn = {.bytes = "\0\x2a\x38\1", .length = 4}, half = {.bytes = "\xf1\x7e", .length = 2};
	cr_expect_str_eq(ask(&test, "byte:*4:1", postgres), "byte:postgres:1");
	cr_expect_str_eq(ask(&test, "byte:*4:1", says("EHLO x\r\n")), "byte:smtp:1");
	cr_expect_str_eq(ask(&test, "byte:*4:1", says("EHLO")), "byte:rest:1");
	cr_expect_str_eq(ask(&test, "byte:*4:1", vpn), "byte:vpn:1");
	cr_expect_str_eq(ask(&test, "byte:*4:1", says("xxmid")), "byte:mid:1");
	cr_expect_str_eq(ask(&test, "byte:*4:1", half), "byte:half:1");
	cr_expect_str_eq(ask(&test, "byte:*4:1", says("GET / HTTP/1.1\r\n\r\n")), "byte:http:1");
	cr_expect_str_eq(ask_early(&test, "byte:*4:1", postgres, 7), "wants bytes");
	table_test_end(&test);
}

Test(table_facts, of_two_patterns_the_first_in_the_file_wins)
{
	struct table_test test;
	load_with_patterns(&test, "z = \"ab\"\na = \"a\"\n",
					   "\"byte:*4:1\" = { when = { proto = [\"a\", \"z\"] }, to = \"byte:{proto}:1\" }\n"
					   "\"byte:*4:2\" = { when = { proto = \"a\" }, to = \"byte:{addr}:1\" }\n");
	cr_expect_str_eq(ask(&test, "byte:*4:1", says("abc")), "byte:z:1");
	cr_expect_str_eq(ask(&test, "byte:*4:1", says("ac")), "byte:a:1");
	cr_expect_str_eq(ask_early(&test, "byte:*4:1", says("a"), 1), "wants bytes");
	cr_expect_str_eq(ask(&test, "byte:*4:2", says("abc")), "byte:0.0.0.0:1", "the other is not asked for there");
	table_test_end(&test);
}

/** How long more bytes are waited for. */
static void expect_wait(struct table_test *test, const char *address, const char *bytes, uint64_t wait_ms)
{
	struct table_client client = {.bytes = bytes, .length = strlen(bytes), .more = true};
	cr_expect_str_eq(ask(test, address, client), "wants bytes");
	cr_expect_eq(test->wait_ms, wait_ms, "%s after \"%s\": %llu", address, bytes, (unsigned long long)test->wait_ms);
}

Test(table_facts, times)
{
	struct table_test test;
	load_with_patterns(&test,
					   "mute = { silent = \"300ms\" }\nlater = { silent = \"5s\" }\n"
					   "slow = { text = \"Sx\", timeout = \"700ms\" }\nssh = { timeout = \"2s\" }\nplain = \"Sy\"\n",
					   "\"byte:*4:1\" = { when = { proto = [\"mute\", \"later\", \"tls\"] }, to = \"byte:a:1\" }\n"
					   "\"byte:*4:2\" = { when = { proto = \"slow\" }, to = \"byte:a:1\" }\n"
					   "\"byte:*4:3\" = { when = { proto = \"ssh\" }, to = \"byte:a:1\" }\n"
					   "\"byte:*4:4\" = { when = { proto = [\"later\", \"tls\"] }, to = \"byte:a:1\" }\n"
					   "\"byte:*4:5\" = { when = { proto = [\"ssh\", \"tls\"] }, to = \"byte:a:1\" }\n"
					   "\"byte:*4:6\" = { when = { proto = [\"slow\", \"plain\", \"ssh\"] }, to = \"byte:a:1\" }\n");
	expect_wait(&test, "byte:*4:1", "", 300);
	expect_wait(&test, "byte:*4:2", "", 700);
	expect_wait(&test, "byte:*4:2", "S", 700);
	expect_wait(&test, "byte:*4:3", "", 2000);
	expect_wait(&test, "byte:*4:3", "S", 2000);
	expect_wait(&test, "byte:*4:4", "", 5000);
	expect_wait(&test, "byte:*4:4", "\x16", 5000);
	expect_wait(&test, "byte:*4:5", "", 3000);
	expect_wait(&test, "byte:*4:6", "S", 700);
	expect_wait(&test, "byte:*4:6", "", 3000);
	table_test_end(&test);
}

/* ---- Explaining --------------------------------------------------------------------------------------------- */

static void expect_lines(const struct table_test *test, const char *const *lines)
{
	const char *at = test->explained;
	for (; *lines && at; lines++) {
		at = strstr(at, *lines);
		cr_expect(at, "line \"%s\" in\n%s", *lines, test->explained);
	}
}

Test(table_facts, every_condition_is_explained)
{
	struct table_test test;
	char room[1024];
	table_test_routes(&test, "\"byte:*4:1\" = [\n"
							 "{ when = { from = \"10.0.0.0/8\", host = \"a\" }, to = \"byte:a:1\" },\n"
							 "{ when = { sni = [\"b.test\", \"c.test\"], alpn = \"h2\" }, to = \"byte:a:1\" },\n"
							 "{ when = { proto = \"ssh\" }, to = \"byte:a:1\" },\n"
							 "{ when = { sni = \"*.test\", proto = \"tls\" }, to = \"byte:a:1\" }]\n");
	ask(&test, "byte:*4:1", hello(room, "a.test", NULL));
	static const char *const lines[] = {
		"  rule 2 needs to know what the client's first bytes tell\n",
		"  rule 1 does not hold\n",
		"  sni: \"a.test\" does not match any of \"b.test\", \"c.test\"\n",
		"  alpn: not known\n",
		"  rule 2 does not hold\n",
		"  proto: \"tls\" does not match \"ssh\"\n",
		"  rule 3 does not hold\n",
		"  proto: \"tls\" matches \"tls\"\n",
		"  sni: \"a.test\" matches \"*.test\"\n",
		"  rule 4 is taken\n",
		NULL,
	};
	expect_lines(&test, lines);
	ask(&test, "byte:*4:1", (struct table_client){0});
	expect_lines(&test, (const char *const[]){"  proto: not known: there are no bytes of the client\n",
											  "  sni: not known: there are no bytes of the client\n",
											  "  rule 4 does not hold\n", NULL});
	table_test_end(&test);
}
