/* Settings of websockets: what they say about an address and a path, and what is wrong with them. */
#include "../../systems/ws/ws.h"
#include "base/report.h"
#include "route/plan.h"
#include "system/generation.h"

#include <connpipe/connpipe.h>

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static struct report report; /* of the last reading */
static struct plan *plan;
static struct generation *generation;
static struct cp_arena *arena;

static void start(void)
{
	arena = cp_arena_new(0);
}

static void unload(void)
{
	if (plan)
		plan_unref(plan);
	plan = NULL;
	generation = NULL;
	report_deinit(&report);
}

static void stop(void)
{
	unload();
	cp_arena_free(arena);
}

TestSuite(ws_settings, .init = start, .fini = stop, .timeout = 60);

/** Load a configuration, which is right or not. */
static void load(const char *text)
{
	struct generation_source source = {.directory = "/", .text = text, .name = "c.toml", .mode = GENERATION_CHECK};
	unload();
	generation = generation_load(1, &source, &report, &plan);
}

/** One that is right. */
static void set(const char *text)
{
	load(text);
	cr_assert(generation, "%s: %s", report.count ? report.entries[0].where : "",
			  report.count ? report.entries[0].message : "");
}

static const struct cp_address *address_of(const char *text)
{
	const struct cp_address *address = NULL;
	struct cp_error error = {0};
	int result = cp_address_parse(generation->scope, arena, text, strlen(text), 0, &address, &error);
	cr_assert_eq(result, CP_OK, "%s: %s: %s", text, error.where, error.message);
	return address;
}

/** What is set for an address and a path (NULL: none is asked for). */
static const struct ws_options *options_for(const char *address, const char *path)
{
	const struct ws_part *part = address_of("ws:$4:1")->connector->arg;
	return ws_settings_find(part->settings, address_of(address), path, path ? strlen(path) : 0);
}

static uint64_t ping_of(const char *address, const char *path)
{
	return options_for(address, path)->ping_ms;
}

static void expect_texts(const struct ws_texts *texts, const char *wanted)
{
	char all[512] = "";
	for (uint32_t i = 0; i < texts->count; i++)
		snprintf(all + strlen(all), sizeof(all) - strlen(all), "%s%s", i ? " " : "", texts->at[i]);
	cr_expect_str_eq(all, wanted, "%s", all);
}

/* ---- Which options an address has --------------------------------------------------------------------------- */

Test(ws_settings, without_settings)
{
	static const char *const texts[] = {"", "[connpipe.ws]", "[connpipe.ws.address]",
										"[connpipe.ws.address.\"ws:*4:81\"]\nping = \"1s\"\nheaders = { a = \"b\" }"};
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		set(texts[i]);
		const struct ws_options *options = options_for("ws:*4:80", "/");
		cr_expect_eq(options->ping_ms, 30000);
		cr_expect_eq(options->pong_ms, 20000);
		cr_expect_eq(options->message_most, 0);
		cr_expect_eq(options->trusted_count, 0);
		cr_expect(!options->no_half_close && !options->deflate && !options->headers && !options->host &&
				  !options->origin && !options->proxy && !options->proxy_authorization);
		cr_expect(!options->origins.count && !options->hosts.count && !options->subprotocols.count &&
				  !options->facts.count);
	}
}

Test(ws_settings, a_path_goes_before_the_socket_and_the_socket_before_all)
{
	set("[connpipe.ws]\nping = \"1s\"\n"
		"[connpipe.ws.address.\"ws:*4:80\"]\nping = \"2s\"\n"
		"[connpipe.ws.address.\"ws:*4:80/chat\"]\nping = \"3s\"\n"
		"[connpipe.ws.address.\"ws:*4:82/chat\"]\nping = \"4s\"\n");
	cr_expect_eq(ping_of("ws:*4:81", "/chat"), 1000);
	cr_expect_eq(ping_of("ws:*4:80", NULL), 2000);
	cr_expect_eq(ping_of("ws:*4:80", "/other"), 2000);
	cr_expect_eq(ping_of("ws:*4:80", "/chat"), 3000);
	cr_expect_eq(ping_of("ws:*4:80/chat", "/chat"), 3000);
	cr_expect_eq(ping_of("ws:*4:80/chat", "/chat?x=1"), 3000);
	cr_expect_eq(ping_of("ws:*4:80!sub", "/chat"), 3000);
	cr_expect_eq(ping_of("ws:*4:80", "/chat/"), 2000);
	cr_expect_eq(ping_of("ws:*4:82", "/"), 1000);
	cr_expect_eq(ping_of("ws:*4:82", "/chat"), 4000);
	cr_expect_eq(ping_of("wss:*4:80", "/chat"), 1000);
	cr_expect_eq(ping_of("ws:$4:80", "/chat"), 1000);
	cr_expect_eq(ping_of("websocket/0.0.0.0:80", "/chat"), 3000);
}

Test(ws_settings, converters)
{
	set("[connpipe.ws.address.\"ws(/a)+proxy+tcp:*4:80\"]\nping = \"1s\"\n"
		"[connpipe.ws.address.\"ws+proxy+tcp:*4:80\"]\nping = \"2s\"\n"
		"[connpipe.ws.address.\"ws(/a)+unix:/x\"]\nping = \"3s\"\n"
		"[connpipe.ws.address.\"zstd+ws:h:80\"]\nping = \"4s\"\n");
	cr_expect_eq(ping_of("ws(/a)+proxy+tcp:*4:80", "/a"), 1000);
	cr_expect_eq(ping_of("ws+proxy+tcp:*4:80!sub", "/a"), 1000);
	cr_expect_eq(ping_of("ws(/b)+proxy+tcp:*4:80", "/b"), 2000);
	cr_expect_eq(ping_of("ws+proxy+tcp:*4:80", NULL), 2000);
	cr_expect_eq(ping_of("ws(/a)+tcp:*4:80", "/a"), 30000);
	cr_expect_eq(ping_of("ws(/a)+unix:/x", "/a"), 3000);
	cr_expect_eq(ping_of("ws(/a)+unix:/y", "/a"), 30000);
	cr_expect_eq(ping_of("zstd+ws:h:80", NULL), 4000);
	cr_expect_eq(ping_of("ws:h:80", NULL), 30000);
}

/** As a request that was read has it. */
Test(ws_settings, paths_are_compared_in_their_one_way_of_writing)
{
	set("[connpipe.ws.address.\"ws:*4:80/a%2520b%257E\"]\nping = \"1s\"\n"
		"[connpipe.ws.address.\"ws(/a%20b)+tcp:*4:80\"]\nping = \"2s\"\n");
	cr_expect_eq(ping_of("ws:*4:80", "/a b~"), 1000);
	cr_expect_eq(ping_of("ws+tcp:*4:80", "/a b"), 2000);
}

Test(ws_settings, every_address_of_many_is_found)
{
	static char text[300 * 80];
	size_t length = 0;
	for (int i = 0; i < 300; i++)
		length +=
			(size_t)snprintf(text + length, sizeof(text) - length,
							 "connpipe.ws.address.\"ws:10.0.%d.1:80/p%d\".ping = \"%dms\"\n", i % 10, i / 10, i + 1);
	set(text);
	for (int i = 0; i < 300; i++) {
		char address[64], path[16];
		snprintf(address, sizeof(address), "ws:10.0.%d.1:80", i % 10);
		snprintf(path, sizeof(path), "/p%d", i / 10);
		cr_assert_eq(ping_of(address, path), (uint64_t)i + 1, "%s%s", address, path);
	}
	cr_expect_eq(ping_of("ws:10.0.9.1:80", "/p30"), 30000);
}

Test(ws_settings, an_address_inherits_what_it_does_not_set_and_can_take_back_what_is_set)
{
	set("[connpipe.ws]\norigins = [\"null\"]\nhosts = [\"a\"]\nsubprotocols = [\"x\"]\nfacts = [\"cookie\"]\n"
		"half_close = false\nheaders = { A = \"b\" }\nhost = \"h\"\norigin = \"null\"\nproxy = \"tcp:p:1\"\n"
		"proxy_authorization = \"Bearer x\"\ntrusted = [\"10.0.0.0/8\"]\ndeflate = true\nping = \"5s\"\n"
		"pong_timeout = \"6s\"\nmessage_limit = \"1KiB\"\n"
		"[connpipe.ws.address.\"ws:a:1\"]\nping = \"off\"\n"
		"[connpipe.ws.address.\"ws:a:2\"]\norigins = []\nhosts = []\nsubprotocols = []\nfacts = []\nhalf_close = true\n"
		"headers = {}\nhost = \"\"\norigin = \"\"\nproxy = \"off\"\nproxy_authorization = \"\"\ntrusted = []\n"
		"deflate = false\nping = \"0s\"\npong_timeout = \"1ms\"\nmessage_limit = 0\n"
		"[connpipe.ws.address.\"ws:a:3\"]\nproxy_user = \"\"\n");
	const struct ws_options *one = options_for("ws:a:1", NULL), *two = options_for("ws:a:2", NULL);
	cr_expect_eq(one->ping_ms, 0);
	cr_expect_eq(one->pong_ms, 6000);
	cr_expect_eq(one->message_most, 1024);
	cr_expect_eq(one->trusted_count, 1);
	cr_expect(one->no_half_close && one->deflate && one->proxy);
	cr_expect_str_eq(one->headers, "A: b\r\n");
	cr_expect_str_eq(one->host, "h");
	cr_expect_str_eq(one->origin, "null");
	cr_expect_str_eq(one->proxy_authorization, "Bearer x");
	expect_texts(&one->origins, "null");
	expect_texts(&one->facts, "cookie");
	cr_expect(!two->no_half_close && !two->deflate && !two->proxy && !two->proxy_authorization && !two->host &&
			  !two->origin && !two->headers);
	cr_expect_eq(two->origins.count + two->hosts.count + two->subprotocols.count + two->facts.count, 0);
	cr_expect_eq(two->ping_ms + two->message_most + two->trusted_count, 0);
	cr_expect_eq(two->pong_ms, 1);
	cr_expect_null(options_for("ws:a:3", NULL)->proxy_authorization);
}

/* ---- Values ------------------------------------------------------------------------------------------------- */

Test(ws_settings, lists_are_in_the_form_that_requests_are_held_against)
{
	set("[connpipe.ws]\n"
		"origins = [\"HTTPS://Example.org\", \"https://a.org:443\", \"http://a.org:80\", \"http://a.org:443\", "
		"\"https://*.a.org:8443\", \"http://[::1]:81\", \"null\"]\n"
		"hosts = [\"Example.ORG\", \"*.a.org\", \"[::1]\", \"192.0.2.1\"]\n"
		"subprotocols = [\"v2.Chat\", \"v1.chat\"]\nfacts = [\"X-Api-Key\"]\n"
		"trusted = [\"10.0.0.0/8\", \"::1\"]\n");
	const struct ws_options *options = options_for("ws:a:1", NULL);
	expect_texts(&options->origins, "https://example.org https://a.org http://a.org http://a.org:443 "
									"https://*.a.org:8443 http://[::1]:81 null");
	expect_texts(&options->hosts, "example.org *.a.org [::1] 192.0.2.1");
	expect_texts(&options->subprotocols, "v2.Chat v1.chat");
	expect_texts(&options->facts, "x-api-key");
	cr_expect_eq(options->trusted_count, 2);
	cr_expect_eq(options->trusted[0].prefix, 8);
	cr_expect_eq(options->trusted[1].prefix, 128);
}

Test(ws_settings, extra_fields_are_lines)
{
	set("[connpipe.ws.headers]\nX-Via = \"connpipe\"\nSet-Cookie = [\"a=b\", \"c=d\"]\nX-Empty = \"\"\n");
	cr_expect_str_eq(options_for("ws:a:1", NULL)->headers,
					 "X-Via: connpipe\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nX-Empty: \r\n");
}

static void expect_proxy(const char *value, const char *address)
{
	char text[256];
	snprintf(text, sizeof(text), "connpipe.ws.proxy = \"%s\"\n", value);
	set(text);
	const struct cp_address *proxy = options_for("ws:a:1", NULL)->proxy;
	cr_assert(proxy, "%s", value);
	cp_address_print(proxy, text, sizeof(text));
	cr_expect_str_eq(text, address, "%s", text);
}

Test(ws_settings, proxies)
{
	expect_proxy("tcp:proxy.local:3128", "tcp:proxy.local:3128");
	expect_proxy("http://proxy.local:3128", "tcp:proxy.local:3128");
	expect_proxy("http://proxy.local:3128/", "tcp:proxy.local:3128");
	expect_proxy("HTTP://proxy.local", "tcp:proxy.local:80");
	expect_proxy("http://[2001:db8::1]:1", "tcp:[2001:db8::1]:1");
	expect_proxy("https://proxy.local", "tls+tcp:proxy.local:443");
	expect_proxy("unix:/run/proxy", "unix:/run/proxy");
	expect_proxy("proxy+tcp:proxy.local:3128", "proxy+tcp:proxy.local:3128");
}

/** RFC 7617 has the first one; RFC 4648, 10, the ends of the others. */
Test(ws_settings, logins)
{
	static const char *const cases[][3] = {
		{"Aladdin", "open sesame", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="},
		{"a", "b", "Basic YTpi"},
		{"a", "", "Basic YTo="},
		{"a", "bc", "Basic YTpiYw=="},
		{"test", "123\302\243", "Basic dGVzdDoxMjPCow=="},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[256];
		snprintf(text, sizeof(text), "[connpipe.ws]\nproxy_user = \"%s\"\nproxy_password = \"%s\"\n", cases[i][0],
				 cases[i][1]);
		set(text);
		cr_expect_str_eq(options_for("ws:a:1", NULL)->proxy_authorization, cases[i][2]);
	}
}

/* ---- Errors ------------------------------------------------------------------------------------------------- */

/** One error of one line in [connpipe.ws], from its column on. */
static void expect_error(const char *line, const char *error)
{
	char text[2048], found[1024] = "", expected[1024];
	snprintf(text, sizeof(text), "[connpipe.ws]\n%s\n", line);
	load(text);
	cr_assert_null(generation, "%s: it loads", line);
	cr_assert_eq(report.count, 1, "%s: %zu errors: %s", line, report.count, report.entries[0].message);
	snprintf(found, sizeof(found), "%s: %s", report.entries[0].where, report.entries[0].message);
	snprintf(expected, sizeof(expected), "c.toml:2:%s", error);
	cr_expect_str_eq(found, expected);
}

Test(ws_settings, errors_of_lists)
{
	static const char origin[] = "expected an origin such as \"https://example.org\", "
								 "\"https://*.example.org:8443\" or \"null\", found";
	static const char *const origins[] = {
		"example.org", "https://",   "https://a/",      "https://a:x", "https://*",      "*", "://a", "https://a.*.b",
		"https://u@a", "https://*.", "https://*.[::1]", "ht tp://a",   "https://a:65536"};
	char line[256], error[512];
	for (size_t i = 0; i < sizeof(origins) / sizeof(origins[0]); i++) {
		snprintf(line, sizeof(line), "origins = [\"null\", \"%s\"]", origins[i]);
		snprintf(error, sizeof(error), "20: %s \"%s\"", origin, origins[i]);
		expect_error(line, error);
	}
	expect_error("origins = \"null\"", "11: expected an array, found the string \"null\"");
	expect_error("origins = [1]", "12: expected a string, found the integer 1");
	expect_error("origins = [\"https://a:443\", \"https://A\"]", "29: \"https://A\" is in the list twice");
	expect_error("hosts = [\"a:80\"]", "10: expected a host without a port such as \"example.org\", \"*.example.org\", "
									   "\"192.0.2.1\" or \"[2001:db8::1]\", found \"a:80\"");
	expect_error("subprotocols = [\"a b\"]", "17: expected the name of a subprotocol such as \"chat\" (letters, digits "
											 "and !#$%&'*+-.^_`|~), found \"a b\"");
	expect_error("subprotocols = [\"connpipe\"]",
				 "17: \"connpipe\" is not listed here: it is there unless half_close = false");
	expect_error("subprotocols = [\"a\", \"a\"]", "22: \"a\" is in the list twice");
	expect_error("facts = [\"a:\"]", "10: expected the name of a field such as \"cookie\", found \"a:\"");
	expect_error("facts = [\"Host\"]", "10: \"Host\" is not to be set: there is a fact of that name");
	expect_error("facts = [\"cookie\", \"User_Agent\"]",
				 "20: \"User_Agent\" is not to be set: there is a fact of that name");
	expect_error("facts = [\"forwarded_for\"]", "10: \"forwarded_for\" is not to be set: there is a fact of that name");
	expect_error("facts = [\"sni\"]", "10: \"sni\" is not to be set: there is a fact of that name");
	expect_error("facts = [\"tls_client_cn\"]", "10: \"tls_client_cn\" is not to be set: there is a fact of that name");
	expect_error("trusted = [\"10.0.0.1/8\"]",
				 "12: expected a block of IP addresses such as \"10.0.0.0/8\" (with zeros "
				 "behind the prefix) or an IP address, found \"10.0.0.1/8\"");
}

Test(ws_settings, errors_of_fields)
{
	static const char *const own[] = {"Connection",
									  "UPGRADE",
									  "Host",
									  "Origin",
									  "Content-Length",
									  "Date",
									  "Trailer",
									  "Transfer-Encoding",
									  "Sec-WebSocket-Key",
									  "sec-websocket-",
									  "Proxy-Authorization"};
	char line[256], error[512];
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		snprintf(line, sizeof(line), "headers = { %s = \"x\" }", own[i]);
		snprintf(error, sizeof(error), "13: \"%s\" is not to be set: the handshake has its own", own[i]);
		expect_error(line, error);
	}
	expect_error("headers = { \"a b\" = \"x\" }", "14: expected the name of a field such as \"X-Via\", found \"a b\"");
	expect_error("headers = { \"\" = \"x\" }", "14: expected the name of a field such as \"X-Via\", found \"\"");
	expect_error("headers = { a = \"x\\r\\nb: y\" }",
				 "17: a field has no control characters, such as the end of a line");
	expect_error("headers = { a = [\"x\", 1] }", "23: expected a string, found the integer 1");
	expect_error("headers = \"a: b\"", "11: expected a table, found the string \"a: b\"");
	expect_error("host = \"a b\"",
				 "8: expected a host such as \"example.org\" or \"[2001:db8::1]:8080\", or \"\" for that "
				 "of the address, found \"a b\"");
	expect_error("origin = \"https://*.a\"",
				 "10: expected an origin such as \"https://example.org\", \"null\", or \"\" for none, found "
				 "\"https://*.a\"");
}

Test(ws_settings, so_many_fields)
{
	static char line[8192], value[4096];
	memset(value, 'x', 4090);
	snprintf(line, sizeof(line), "[connpipe.ws]\nheaders = { a = \"%s\" }\n", value);
	load(line);
	cr_expect(generation, "4095 bytes");
	memset(value, 'x', 4092);
	snprintf(line, sizeof(line), "[connpipe.ws]\nheaders = { a = \"%s\" }\n", value);
	load(line);
	cr_assert_eq(report.count, 1);
	cr_expect_str_eq(report.entries[0].message, "expected at most 4096 bytes of fields, found 4097");
}

Test(ws_settings, errors_of_proxies)
{
	static const char proxy[] = "9: expected an HTTP proxy such as \"http://proxy.local:3128\" or "
								"\"tcp:proxy.local:3128\" (for a user there are "
								"proxy_user and proxy_password), or \"off\", found \"";
	static const char *const uris[] = {"ftp://a",    "http://u:p@a:1", "http://a/b",
									   "http://*.a", "http://",        "socks5://a:1"};
	char line[256], error[512];
	for (size_t i = 0; i < sizeof(uris) / sizeof(uris[0]); i++) {
		snprintf(line, sizeof(line), "proxy = \"%s\"", uris[i]);
		snprintf(error, sizeof(error), "%s%s\"", proxy, uris[i]);
		expect_error(line, error);
	}
	expect_error("proxy = \"tcp:a\"", "15: expected \":\" and a port, as in tcp:host:port!multiplex");
	expect_error("proxy = \"ws:a:1\"", "9: expected the address of an HTTP proxy: a websocket is none");
	expect_error("proxy = \"ws+tcp:a:1\"", "9: expected the address of an HTTP proxy: a websocket is none");
	expect_error("proxy = \"frame+tcp:a:1\"", "9: expected the address of an HTTP proxy: it carries messages");
	expect_error("proxy_password = \"x\"", "18: a password needs a `proxy_user` beside it");
	expect_error("proxy_user = \"a:b\"", "16: a user has no \":\" in it");
	expect_error("proxy_user = \"a\\n\"", "14: expected at most 1024 bytes without control characters");
	expect_error("proxy_authorization = \"a\\r\"", "23: expected at most 2048 bytes without control characters");
	expect_error("proxy_authorization = \"x\"\nproxy_user = \"a\"",
				 "1: either `proxy_authorization`, or `proxy_user` and `proxy_password`");
}

Test(ws_settings, so_long_a_password)
{
	char line[2048];
	snprintf(line, sizeof(line), "[connpipe.ws]\nproxy_user = \"a\"\nproxy_password = \"%01024d\"\n", 0);
	set(line);
	snprintf(line, sizeof(line), "proxy_password = \"%01025d\"\nproxy_user = \"a\"", 0);
	expect_error(line, "18: expected at most 1024 bytes without control characters");
}

Test(ws_settings, errors_of_times_and_sizes)
{
	expect_error("ping = 5", "8: expected a duration such as \"5s\", found the integer 5");
	expect_error("pong_timeout = \"0s\"",
				 "16: expected a duration from \"1ms\" on: without pings nothing is waited for (ping = \"off\")");
	expect_error("half_close = \"no\"", "14: expected true or false, found the string \"no\"");
	expect_error("deflate = 1", "11: expected true or false, found the integer 1");
	expect_error("pings = \"5s\"", "1: unknown key \"pings\", did you mean \"ping\"?");
	expect_error("proxy_pasword = \"\"", "1: unknown key \"proxy_pasword\", did you mean \"proxy_password\"?");
}

Test(ws_settings, errors_of_addresses)
{
	expect_error("address = 5", "11: expected a table, found the integer 5");
	expect_error("address.\"ws:$4:80\" = 5", "22: expected a table, found the integer 5");
	expect_error("address.\"ws:$4:80\" = { hoosts = [] }", "24: unknown key \"hoosts\", did you mean \"hosts\"?");
	expect_error(
		"address.\"tcp:$4:80\" = {}",
		"10: expected the address of a websocket, such as \"ws:*4:80/chat\" or \"ws(/chat)+tcp:*4:80\", found one "
		"of the connector \"tcp\"");
	expect_error("address.\"ws:$4:80!ssh\" = {}",
				 "10: expected the address of a websocket without a subport: all in one websocket share it");
	expect_error("address.\"ws:$4:80/a?b\" = {}",
				 "10: expected the address of a websocket without a query: the path alone says which options");
	expect_error("address.\"ws:$4\" = {}", "15: expected \":\" and a port, as in ws:host:port/path!multiplex");
	expect_error("address = { \"ws:$4:80/a\" = {}, \"websocket/127.0.0.1:80/%61\" = {} }",
				 "33: the same address as the key at c.toml:2:13");
}
