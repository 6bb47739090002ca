/* The request for an upgrade: what is taken, what is refused and how, whatever the split of the bytes. */
#include "../../systems/ws/ws.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(ws_upgrade, .timeout = 60);

#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define LINE "GET /chat HTTP/1.1\r\n"
#define UPGRADE "Upgrade: websocket\r\nConnection: Upgrade\r\n"
#define OFFER UPGRADE "Sec-WebSocket-Key: " KEY "\r\nSec-WebSocket-Version: 13\r\n"
#define HOST "Host: example.org\r\n"
#define HEAD_OF(more) LINE HOST OFFER more "\r\n"

static struct ws_upgrade upgrade;
static struct ws_refusal refusal;

/** From memory of just that size, so that a sanitizer sees what reads beyond. Texts of `upgrade` are gone then. */
static enum ws_head read_copy(const char *bytes, size_t length)
{
	char *copy = malloc(length ? length : 1);
	memcpy(copy, bytes, length);
	enum ws_head head = ws_upgrade_read(copy, length, &upgrade, &refusal);
	free(copy);
	return head;
}

/** Each prefix in turn: once it is decided, it stays decided, in the same way. @return what it comes to */
static enum ws_head read_every_split(const char *bytes, size_t length)
{
	enum ws_head decided = WS_HEAD_MORE;
	struct ws_refusal first = {0};
	for (size_t i = 0; i <= length; i++) {
		enum ws_head head = read_copy(bytes, i);
		if (decided != WS_HEAD_MORE) {
			cr_assert_eq(head, decided, "after %zu bytes", i);
			cr_assert_eq(refusal.status, first.status, "after %zu bytes", i);
			cr_assert_eq(refusal.reason, first.reason, "after %zu bytes: %s", i, refusal.reason);
		}
		decided = head;
		first = refusal;
	}
	return decided;
}

static void expect_refused_bytes(const char *bytes, size_t length, int status, const char *reason)
{
	cr_assert_eq(read_every_split(bytes, length), WS_HEAD_REFUSED, "taken: %s", bytes);
	cr_expect_eq(refusal.status, status, "%d for %s", refusal.status, bytes);
	cr_expect_str_eq(refusal.reason, reason, "\"%s\" for %s", refusal.reason, bytes);
}

static void expect_refused(const char *head, int status, const char *reason)
{
	expect_refused_bytes(head, strlen(head), status, reason);
}

static void expect_taken(const char *head)
{
	size_t length = strlen(head);
	cr_assert_eq(read_every_split(head, length), WS_HEAD_DONE, "%s: %s", refusal.reason, head);
	cr_assert_eq(ws_upgrade_read(head, length, &upgrade, &refusal), WS_HEAD_DONE);
	cr_expect_eq(upgrade.length, length);
}

static void expect_text(struct ws_text text, const char *wanted)
{
	if (!wanted) {
		cr_expect_null(text.at);
		return;
	}
	cr_assert(text.at, "not there: %s", wanted);
	cr_expect(text.length == strlen(wanted) && memcmp(text.at, wanted, text.length) == 0, "\"%.*s\", not \"%s\"",
			  (int)text.length, text.at, wanted);
}

/* ---- What is taken ------------------------------------------------------------------------------------------ */

Test(ws_upgrade, a_browsers_request)
{
	expect_taken("GET /chat/room%201?token=a/b?c HTTP/1.1\r\n"
				 "Host: Example.org:8080\r\n"
				 "Connection: keep-alive, Upgrade\r\n"
				 "Pragma: no-cache\r\n"
				 "User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n"
				 "Upgrade: websocket\r\n"
				 "Origin: https://example.org\r\n"
				 "Sec-WebSocket-Version: 13\r\n"
				 "X-Forwarded-For: 192.0.2.1\r\n"
				 "X-Forwarded-For: 198.51.100.7, 203.0.113.9\r\n"
				 "Sec-WebSocket-Key: " KEY "\r\n"
				 "Sec-WebSocket-Protocol: chat, superchat\r\n"
				 "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n");
	expect_text(upgrade.method, "GET");
	expect_text(upgrade.target, "/chat/room%201?token=a/b?c");
	expect_text(upgrade.path, "/chat/room%201");
	expect_text(upgrade.query, "token=a/b?c");
	expect_text(upgrade.host, "Example.org");
	expect_text(upgrade.origin, "https://example.org");
	expect_text(upgrade.forwarded_for, "198.51.100.7, 203.0.113.9");
	expect_text(upgrade.user_agent, "Mozilla/5.0 (X11; Linux x86_64)");
	expect_text(upgrade.key, KEY);
	expect_text(upgrade.protocols, "chat, superchat");
	cr_expect(upgrade.wants_deflate);
	expect_text(upgrade.extensions, "permessage-deflate; client_max_window_bits");
}

Test(ws_upgrade, the_least_request)
{
	expect_taken(HEAD_OF(""));
	expect_text(upgrade.query, NULL);
	expect_text(upgrade.origin, NULL);
	expect_text(upgrade.protocols, NULL);
	expect_text(upgrade.extensions, NULL);
	cr_expect_not(upgrade.wants_deflate);
}

Test(ws_upgrade, what_follows_the_head_is_not_looked_at)
{
	static const char bytes[] = HEAD_OF("") "\x81\x85\n\n\0\r";
	cr_assert_eq(read_every_split(bytes, sizeof(bytes) - 1), WS_HEAD_DONE);
	cr_expect_eq(upgrade.length, strlen(HEAD_OF("")));
}

Test(ws_upgrade, case_and_white_space_and_lists_as_http_has_them)
{
	expect_taken("\r\nGET / HTTP/1.9\r\nhOST:example.org\r\nUPGRADE: \t,WebSocket , h2c\t \r\n"
				 "connection: keep-alive\r\nConnection:,, uPGRADE\r\nX-Empty:\r\nX: a\x80\xff\tb\r\n"
				 "sec-websocket-key:\t" KEY "  \r\nSEC-WEBSOCKET-VERSION:13\r\nContent-Length: 0\r\n\r\n");
	expect_taken(LINE HOST "Upgrade: h2c\r\nUpgrade: foo/1, websocket\r\nConnection: x\r\nConnection: upgrade\r\n"
						   "Sec-WebSocket-Key: " KEY "\r\nSec-WebSocket-Version: 13\r\n\r\n");
}

Test(ws_upgrade, targets)
{
	static const struct {
		const char *target, *path, *query;
	} cases[] = {
		{"/", "/", NULL},
		{"/?", "/", ""},
		{"//a//", "//a//", NULL},
		{"/%7E%2f", "/%7E%2f", NULL},
		{"/?%", "/", "%"},
		{"/{\"x\"}|\\", "/{\"x\"}|\\", NULL},
		{"http://example.org", "/", NULL},
		{"HTTPS://EXAMPLE.org:443/a?b", "/a", "b"},
		{"ws://example.org?b", "/", "b"},
		{"wss://example.org/", "/", NULL},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char head[512];
		snprintf(head, sizeof(head), "GET %s HTTP/1.1\r\n" HOST OFFER "\r\n", cases[i].target);
		expect_taken(head);
		expect_text(upgrade.target, cases[i].target);
		expect_text(upgrade.path, cases[i].path);
		expect_text(upgrade.query, cases[i].query);
	}
}

Test(ws_upgrade, hosts)
{
	static const char *const cases[][2] = {
		{"a", "a"},         {"A_b-1.example.:", "A_b-1.example."}, {"192.0.2.1:65535", "192.0.2.1"},
		{"[::1]", "[::1]"}, {"[2001:db8::1]:80", "[2001:db8::1]"}, {"xn--bcher-kva.example:0", "xn--bcher-kva.example"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char head[512];
		snprintf(head, sizeof(head), LINE "Host: %s\r\n" OFFER "\r\n", cases[i][0]);
		expect_taken(head);
		expect_text(upgrade.host, cases[i][1]);
	}
}

Test(ws_upgrade, a_host_of_255_characters_and_not_one_more)
{
	char head[1024];
	snprintf(head, sizeof(head), LINE "Host: %0255d\r\n" OFFER "\r\n", 0);
	expect_taken(head);
	snprintf(head, sizeof(head), LINE "Host: %0256d\r\n" OFFER "\r\n", 0);
	expect_refused(head, 400, "a malformed Host");
}

Test(ws_upgrade, keys)
{
	static const char *const good[] = {
		"AAAAAAAAAAAAAAAAAAAAAA==", "/+/+/+/+/+/+/+/+/+/+/w==", "zzzzzzzzzzzzzzzzzzzzzQ==", "999999999999999999999g=="};
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		char head[512];
		snprintf(head, sizeof(head), LINE HOST UPGRADE "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n",
				 good[i]);
		expect_taken(head);
		expect_text(upgrade.key, good[i]);
	}
}

Test(ws_upgrade, any_field_can_be_asked_for)
{
	expect_taken(HEAD_OF("Cookie: a=b\r\nX-A:1\r\nX-AB: 2\r\nx-a:\r\nX-A: 3\r\n"));
	struct ws_text value = ws_upgrade_field(&upgrade, "x-A", NULL);
	expect_text(value, "1");
	value = ws_upgrade_field(&upgrade, "X-A", &value);
	expect_text(value, "");
	value = ws_upgrade_field(&upgrade, "X-A", &value);
	expect_text(value, "3");
	expect_text(ws_upgrade_field(&upgrade, "X-A", &value), NULL);
	expect_text(ws_upgrade_field(&upgrade, "cookie", NULL), "a=b");
	expect_text(ws_upgrade_field(&upgrade, "host", NULL), "example.org");
	expect_text(ws_upgrade_field(&upgrade, "X", NULL), NULL);
}

/* ---- What is no head ---------------------------------------------------------------------------------------- */

Test(ws_upgrade, what_is_no_http_is_refused_at_its_first_byte)
{
	static const char *const cases[] = {"\x01", " GET", "\x80", "(", "{\"a\":1}", "\rG"};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		expect_refused(cases[i], 400, "no HTTP request");
	expect_refused("\x16\x03\x01", 400, "TLS, where a plain request was expected");
	expect_refused("SSH-2.0-x\r\n", 400, "a request line without method, target and version");
	expect_refused("G\xc3", 400, "a byte in the request line that is no visible character");
	expect_refused("GET /\t", 400, "a byte in the request line that is no visible character");
	expect_refused("GET /\rx", 400, "a byte in the request line that is no visible character");
	expect_refused_bytes("GET /\0", 6, 400, "a byte in the request line that is no visible character");
}

Test(ws_upgrade, request_lines)
{
	expect_refused("\r\n\r\n", 400, "a request line without method, target and version");
	expect_refused("GET\r\n", 400, "a request line without method, target and version");
	expect_refused("GET /\r\n", 400, "a request line without method, target and version");
	expect_refused("GET  / HTTP/1.1\r\n", 400, "a space too many in the request line");
	expect_refused("GET /  HTTP/1.1\r\n", 400, "a space too many in the request line");
	expect_refused("GET /a b HTTP/1.1\r\n", 400, "a space too many in the request line");
	expect_refused("GET  HTTP/1.1\r\n", 400, "a space too many in the request line");
	expect_refused("GET / HTTP/1.1 \r\n", 400, "a space too many in the request line");
	expect_refused("G(T / HTTP/1.1\r\n", 400, "a method that is no token");
	expect_refused("GET / http/1.1\r\n", 400, "a request line without a version of HTTP");
	expect_refused("GET / HTTP/1.10\r\n", 400, "a request line without a version of HTTP");
	expect_refused("GET / HTTP/x.1\r\n", 400, "a request line without a version of HTTP");
	expect_refused("GET / HTTP/1.1\n", 400, "a line that ends with a bare LF");
	expect_refused("\nGET / HTTP/1.1\r\n", 400, "a line that ends with a bare LF");
}

Test(ws_upgrade, lines_of_fields)
{
	expect_refused(LINE HOST "X: 1\nY: 2\r\n", 400, "a line that ends with a bare LF");
	expect_refused(LINE HOST "\n", 400, "a line that ends with a bare LF");
	expect_refused(LINE "X: 1\r\n 2\r\n" HOST OFFER "\r\n", 400, "a field that is folded over several lines");
	expect_refused(LINE "\t\r\n" HOST OFFER "\r\n", 400, "a field that is folded over several lines");
	expect_refused(LINE "X : 1\r\n" HOST OFFER "\r\n", 400, "white space between the name of a field and the colon");
	expect_refused(LINE "X\t: 1\r\n" HOST OFFER "\r\n", 400, "white space between the name of a field and the colon");
	expect_refused(LINE "X\r\n" HOST OFFER "\r\n", 400, "a line of the head without a colon");
	expect_refused(LINE ": 1\r\n" HOST OFFER "\r\n", 400, "a name of a field that is no token");
	expect_refused(LINE "X Y: 1\r\n" HOST OFFER "\r\n", 400, "a name of a field that is no token");
	expect_refused(LINE "X\x80: 1\r\n" HOST OFFER "\r\n", 400, "a name of a field that is no token");
	expect_refused(LINE "X: a\rb\r\n" HOST OFFER "\r\n", 400, "a control character in a field");
	expect_refused(LINE "X: a\r\r\n" HOST OFFER "\r\n", 400, "a control character in a field");
	expect_refused(LINE "X: \x7f\r\n" HOST OFFER "\r\n", 400, "a control character in a field");
	static const char zero[] = LINE HOST OFFER "X: \0\r\n\r\n";
	expect_refused_bytes(zero, sizeof(zero) - 1, 400, "a control character in a field");
}

static size_t add(char *head, size_t at, const char *text)
{
	return (size_t)stpcpy(head + at, text) - (size_t)head;
}

/** A head with as many fields. */
static size_t head_with_fields(char *head, unsigned fields)
{
	size_t at = add(head, 0, LINE HOST OFFER);
	for (unsigned i = 5; i < fields; i++)
		at = add(head, at, "X: y\r\n");
	return add(head, at, "\r\n");
}

Test(ws_upgrade, a_hundred_fields_and_not_one_more)
{
	static char head[2048];
	head_with_fields(head, 100);
	expect_taken(head);
	head_with_fields(head, 101);
	expect_refused(head, 431, "more than 100 fields");
}

/** A head of as many bytes. */
static void head_of_length(char *head, size_t length)
{
	size_t at = add(head, 0, LINE HOST OFFER "X: ");
	memset(head + at, 'y', length - at - 4);
	strcpy(head + length - 4, "\r\n\r\n");
}

Test(ws_upgrade, a_head_of_16_kib_and_not_one_byte_more)
{
	static char head[WS_HEAD_MOST + 8];
	head_of_length(head, WS_HEAD_MOST);
	cr_assert_eq(read_copy(head, WS_HEAD_MOST - 1), WS_HEAD_MORE);
	cr_assert_eq(read_copy(head, WS_HEAD_MOST), WS_HEAD_DONE);
	cr_assert_eq(upgrade.length, WS_HEAD_MOST);
	head_of_length(head, WS_HEAD_MOST + 1);
	cr_assert_eq(read_copy(head, WS_HEAD_MOST - 1), WS_HEAD_MORE);
	cr_assert_eq(read_copy(head, WS_HEAD_MOST), WS_HEAD_REFUSED);
	cr_assert_eq(read_copy(head, WS_HEAD_MOST + 1), WS_HEAD_REFUSED);
	cr_expect_eq(refusal.status, 431);
	cr_expect_str_eq(refusal.reason, "a head of more than 16 KiB");
}

Test(ws_upgrade, a_request_line_without_an_end)
{
	static char head[WS_HEAD_MOST];
	memset(head, 'A', sizeof(head));
	cr_assert_eq(read_copy(head, sizeof(head) - 1), WS_HEAD_MORE);
	cr_assert_eq(read_copy(head, sizeof(head)), WS_HEAD_REFUSED);
	cr_expect_eq(refusal.status, 431);
}

/* ---- What is no request for a websocket --------------------------------------------------------------------- */

Test(ws_upgrade, versions_of_http)
{
	expect_refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "another HTTP than HTTP/1.1");
	expect_refused("GET / HTTP/0.9\r\n\r\n", 505, "another HTTP than HTTP/1.1");
	expect_refused("GET / HTTP/1.0\r\n\r\n", 426, "HTTP/1.0, which has no upgrade to a websocket");
	expect_refused("GET / HTTP/1.0\r\n" HOST OFFER "\r\n", 426, "HTTP/1.0, which has no upgrade to a websocket");
}

Test(ws_upgrade, methods)
{
	static const char *const methods[] = {"POST", "OPTIONS", "CONNECT", "get", "PRI", "G"};
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		char head[512];
		snprintf(head, sizeof(head), "%s / HTTP/1.1\r\n" HOST OFFER "\r\n", methods[i]);
		expect_refused(head, 405, "another method than GET");
		cr_expect_not(refusal.no_body);
	}
	expect_refused("CONNECT example.org:443 HTTP/1.1\r\n" HOST "\r\n", 405, "another method than GET");
	expect_refused("OPTIONS * HTTP/1.1\r\n" HOST "\r\n", 405, "another method than GET");
	expect_refused("HEAD / HTTP/1.1\r\n" HOST OFFER "\r\n", 405, "another method than GET");
	cr_expect(refusal.no_body);
	expect_refused("HEAD / HTTP/1.1\r\n" HOST "\r\n", 426, "a plain request, not one for a websocket");
	cr_expect(refusal.no_body);
}

Test(ws_upgrade, targets_that_are_none)
{
	static const char *const targets[][2] = {
		{"*", "a target that is neither a path nor a URI"},
		{"example.org:80", "a target that is neither a path nor a URI"},
		{"ftp://example.org/", "a target that is neither a path nor a URI"},
		{"/a#b", "a target with a fragment"},
		{"/?#", "a target with a fragment"},
		{"/%", "a broken % in the path"},
		{"/%4", "a broken % in the path"},
		{"/%4g?x", "a broken % in the path"},
		{"/%%41", "a broken % in the path"},
		{"/..", "\".\" or \"..\" in the path"},
		{"/./a", "\".\" or \"..\" in the path"},
		{"/a/../b?x", "\".\" or \"..\" in the path"},
		{"/a/%2e%2E/b", "\".\" or \"..\" in the path"},
		{"/a/.%2e", "\".\" or \"..\" in the path"},
		{"/a/..%2fb", "\".\" or \"..\" in the path"},
		{"/a%2F%2e/b", "\".\" or \"..\" in the path"},
		{"/a%5C..%5cb", "\".\" or \"..\" in the path"},
		{"http://example.org/a/..", "\".\" or \"..\" in the path"},
		{"http:///a", "a malformed host in the target"},
		{"http://user@example.org/", "a malformed host in the target"},
		{"http://example.org:65536/", "a malformed host in the target"},
		{"http://example.com/", "a target with another host than Host"},
	};
	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		char head[512];
		snprintf(head, sizeof(head), "GET %s HTTP/1.1\r\n" HOST OFFER "\r\n", targets[i][0]);
		expect_refused(head, 400, targets[i][1]);
	}
}

Test(ws_upgrade, hosts_that_are_none)
{
	static const char *const hosts[] = {"",        "a b",         "a,b",  "a/b",   "user@a", "a:b",
										"a:65536", ":80",         "[::1", "::1",   "[a]",    "[::1]x",
										"[]:80",   "[fe80::1%1]", ".a",   "a:1:2", "a:-1",   "[1.2.3.4]"};
	expect_refused(LINE OFFER "\r\n", 400, "no Host");
	expect_refused(LINE HOST HOST OFFER "\r\n", 400, "more than one Host");
	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
		char head[512];
		snprintf(head, sizeof(head), LINE "Host: %s\r\n" OFFER "\r\n", hosts[i]);
		expect_refused(head, 400, "a malformed Host");
	}
}

Test(ws_upgrade, bodies)
{
	static const char transfer[] = "a Transfer-Encoding: a request for a websocket has no body";
	static const char length[] = "a Content-Length: a request for a websocket has no body";
	expect_refused(HEAD_OF("Transfer-Encoding: chunked\r\n"), 400, transfer);
	expect_refused(HEAD_OF("Transfer-Encoding:\r\nContent-Length: 0\r\n"), 400, transfer);
	expect_refused(HEAD_OF("Content-Length: 1\r\n"), 400, length);
	expect_refused(HEAD_OF("Content-Length: 00\r\n"), 400, length);
	expect_refused(HEAD_OF("Content-Length:\r\n"), 400, length);
	expect_refused(HEAD_OF("Content-Length: 0\r\nContent-Length: 0\r\n"), 400, length);
}

Test(ws_upgrade, upgrades_that_are_none)
{
	expect_refused(LINE HOST "\r\n", 426, "a plain request, not one for a websocket");
	expect_refused(LINE HOST "Upgrade: h2c\r\nConnection: Upgrade\r\n\r\n", 426,
				   "an Upgrade to something else than websocket");
	expect_refused(LINE HOST "Upgrade: websocket/13\r\nConnection: Upgrade\r\n\r\n", 426,
				   "an Upgrade to something else than websocket");
	expect_refused(LINE HOST "Upgrade: websockets, xwebsocket\r\nConnection: Upgrade\r\n\r\n", 426,
				   "an Upgrade to something else than websocket");
	expect_refused(LINE HOST "Upgrade:\r\nConnection: Upgrade\r\n\r\n", 426,
				   "an Upgrade to something else than websocket");
	expect_refused(LINE HOST "Connection: close\r\nSec-WebSocket-Key: " KEY "\r\n\r\n", 426,
				   "no Upgrade, but a Sec-WebSocket-Key: a proxy on the way keeps upgrades back");
	expect_refused(LINE HOST "Upgrade: websocket\r\n\r\n", 400, "no Upgrade in Connection");
	expect_refused(LINE HOST "Upgrade: websocket\r\nConnection: keep-alive\r\nConnection: upgraded\r\n\r\n", 400,
				   "no Upgrade in Connection");
}

Test(ws_upgrade, versions_of_the_protocol)
{
	static const char *const versions[] = {"8", "12", "013", "13, 8", "", "14", "x"};
	for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
		char head[512];
		snprintf(head, sizeof(head),
				 LINE HOST UPGRADE "Sec-WebSocket-Key: " KEY "\r\nSec-WebSocket-Version: %s\r\n\r\n", versions[i]);
		expect_refused(head, 426, "another Sec-WebSocket-Version than 13");
	}
	expect_refused(LINE HOST UPGRADE "Sec-WebSocket-Key: " KEY "\r\n\r\n", 426, "no Sec-WebSocket-Version");
	expect_refused(HEAD_OF("Sec-WebSocket-Version: 13\r\n"), 400, "more than one Sec-WebSocket-Version");
}

Test(ws_upgrade, keys_that_are_none)
{
	static const char *const keys[] = {
		"",
		"dGhlIHNhbXBsZSBub25jZQ=",
		"dGhlIHNhbXBsZSBub25jZQ",
		"dGhlIHNhbXBsZSBub25jZQ===",
		"dGhlIHNhbXBsZSBub25jZR==", /* bits beyond the 16 bytes */
		"dGhlIHNhbXBsZSBub25jZ===", /* too few */
		"dGhlIHNhbXBsZSBub25jZQA=", /* 17 bytes */
		"dGhlIHNhbXBsZSBub25jZQ-_", /* another alphabet */
		"dGhlIHNhbXBs SBub25jZQ==",
		"dGhlIHNhbXBs=SBub25jZQ==",
		"\"dGhlIHNhbXBsZSBub25j\"==",
	};
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		char head[512];
		snprintf(head, sizeof(head), LINE HOST UPGRADE "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n",
				 keys[i]);
		expect_refused(head, 400, "a Sec-WebSocket-Key that is not 16 bytes in base64");
	}
	expect_refused(LINE HOST UPGRADE "Sec-WebSocket-Version: 13\r\n\r\n", 400, "no Sec-WebSocket-Key");
	expect_refused(HEAD_OF("Sec-WebSocket-Key: " KEY "\r\n"), 400, "more than one Sec-WebSocket-Key");
}

Test(ws_upgrade, a_second_origin)
{
	expect_refused(HEAD_OF("Origin: null\r\nOrigin: null\r\n"), 400, "more than one Origin");
}

/* ---- Offers ------------------------------------------------------------------------------------------------- */

Test(ws_upgrade, lists_of_subprotocols)
{
	expect_refused(HEAD_OF("Sec-WebSocket-Protocol:\r\n"), 400, "an empty Sec-WebSocket-Protocol");
	expect_refused(HEAD_OF("Sec-WebSocket-Protocol: ,,\r\n"), 400, "an empty Sec-WebSocket-Protocol");
	expect_refused(HEAD_OF("Sec-WebSocket-Protocol: a b\r\n"), 400,
				   "a name in Sec-WebSocket-Protocol that is no token");
	expect_refused(HEAD_OF("Sec-WebSocket-Protocol: a, b/c\r\n"), 400,
				   "a name in Sec-WebSocket-Protocol that is no token");
	expect_refused(HEAD_OF("Sec-WebSocket-Protocol: a, b, a\r\n"), 400, "a name in Sec-WebSocket-Protocol twice");
	expect_refused(HEAD_OF("Sec-WebSocket-Protocol: a\r\nX: y\r\nSec-WebSocket-Protocol: b, a\r\n"), 400,
				   "a name in Sec-WebSocket-Protocol twice");
	expect_taken(HEAD_OF("Sec-WebSocket-Protocol: a\r\nX: y\r\nSec-WebSocket-Protocol: A,, b\r\n"));
}

Test(ws_upgrade, so_many_subprotocols)
{
	char head[1024];
	size_t at = add(head, 0, LINE HOST OFFER "Sec-WebSocket-Protocol: p0");
	for (int i = 1; i < 64; i++)
		at += (size_t)sprintf(head + at, ", p%d", i);
	strcpy(head + at, "\r\n\r\n");
	expect_taken(head);
	strcpy(head + at, ", p64\r\n\r\n");
	expect_refused(head, 400, "more than 64 names in Sec-WebSocket-Protocol");
}

static const char *protocol_for(const char *fields, const struct ws_options *options)
{
	static char head[1024];
	snprintf(head, sizeof(head), LINE HOST OFFER "%s\r\n", fields);
	cr_assert_eq(ws_upgrade_read(head, strlen(head), &upgrade, &refusal), WS_HEAD_DONE, "%s", refusal.reason);
	return ws_upgrade_protocol(&upgrade, options);
}

Test(ws_upgrade, the_first_of_our_subprotocols_that_is_offered)
{
	const char *const ours[] = {"v2.chat", "v1.chat"};
	struct ws_options options = {.subprotocols = {ours, 2}}, none = {0};
	cr_expect_eq(protocol_for("Sec-WebSocket-Protocol: v1.chat, v2.chat\r\n", &options), ours[0]);
	cr_expect_eq(protocol_for("Sec-WebSocket-Protocol: x\r\nSec-WebSocket-Protocol: v1.chat\r\n", &options), ours[1]);
	cr_expect_null(protocol_for("Sec-WebSocket-Protocol: V1.chat, v1.chatter\r\n", &options));
	cr_expect_null(protocol_for("", &options));
	cr_expect_null(protocol_for("Sec-WebSocket-Protocol: v1.chat\r\n", &none));
	cr_expect_str_eq(protocol_for("Sec-WebSocket-Protocol: v2.chat, connpipe\r\n", &options), "connpipe");
	cr_expect_str_eq(protocol_for("Sec-WebSocket-Protocol: base64, binary\r\n", &none), "binary");
	cr_expect_null(protocol_for("Sec-WebSocket-Protocol: binary\r\n", &options));
	options.no_half_close = true;
	cr_expect_eq(protocol_for("Sec-WebSocket-Protocol: v2.chat, connpipe\r\n", &options), ours[0]);
}

Test(ws_upgrade, lists_of_extensions)
{
	static const char *const bad[] = {
		"a b",     "a;",   ";a",  "a;b c",   "a;b=",        "a;b=\"\"",    "a;b=\"c",    "a;b=\"c d\"",
		"a;b=c=d", "a;=c", "a/b", "a, b;;c", "a;b=\"c;d\"", "a;b=\"c,d\"", "a;b=\"\\c\""};
	expect_refused(HEAD_OF("Sec-WebSocket-Extensions: \r\n"), 400, "an empty Sec-WebSocket-Extensions");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char head[512];
		snprintf(head, sizeof(head), LINE HOST OFFER "Sec-WebSocket-Extensions: %s\r\n\r\n", bad[i]);
		expect_refused(head, 400, "a malformed Sec-WebSocket-Extensions");
	}
	expect_taken(HEAD_OF("Sec-WebSocket-Extensions: foo, bar; baz=2 ; qux=\"x\",\r\nSec-WebSocket-Extensions: x\r\n"));
	cr_expect_not(upgrade.wants_deflate);
}

/** @param offer  the one to accept, NULL: none is */
static void expect_offer(const char *extensions, const char *offer)
{
	static char head[1024];
	snprintf(head, sizeof(head), LINE HOST OFFER "%s\r\n", extensions);
	expect_taken(head);
	cr_expect_eq(upgrade.wants_deflate, offer != NULL, "%s", extensions);
	expect_text(upgrade.extensions, offer);
}

Test(ws_upgrade, offers_of_compression)
{
#define EXTENSIONS "Sec-WebSocket-Extensions: "
#define DEFLATE "permessage-deflate"
	static const char *const good[] = {
		DEFLATE,
		DEFLATE "; client_max_window_bits",
		DEFLATE ";client_max_window_bits=8",
		DEFLATE "; client_max_window_bits=\"15\"",
		DEFLATE "; client_no_context_takeover",
		DEFLATE "; server_no_context_takeover ; client_no_context_takeover",
		DEFLATE "; client_no_context_takeover; client_max_window_bits=10; server_no_context_takeover",
	};
	static const char *const bad[] = {
		DEFLATE "; server_no_context_takeover",
		DEFLATE "; server_max_window_bits=15",
		DEFLATE "; server_max_window_bits",
		DEFLATE "; client_max_window_bits=7",
		DEFLATE "; client_max_window_bits=16",
		DEFLATE "; client_max_window_bits=08",
		DEFLATE "; client_max_window_bits; client_max_window_bits",
		DEFLATE "; client_no_context_takeover=1",
		DEFLATE "; client_no_context_takeover; client_no_context_takeover",
		DEFLATE "; client_no_context_takeover_2",
		DEFLATE ";\tclient_no_context_takeover",
		"Permessage-Deflate",
		"permessage-deflate-frame",
		"x-webkit-deflate-frame",
	};
	char line[512];
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		snprintf(line, sizeof(line), EXTENSIONS "%s\r\n", good[i]);
		expect_offer(line, good[i]);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(line, sizeof(line), EXTENSIONS "%s\r\n", bad[i]);
		expect_offer(line, NULL);
	}
	expect_offer(EXTENSIONS "foo, " DEFLATE "; server_max_window_bits=10 , " DEFLATE " , " DEFLATE "; x\r\n", DEFLATE);
	expect_offer(EXTENSIONS DEFLATE "; x\r\nX: y\r\n" EXTENSIONS DEFLATE "; client_max_window_bits\r\n",
				 DEFLATE "; client_max_window_bits");
}

Test(ws_upgrade, an_offer_that_is_too_long)
{
	char extensions[400] = EXTENSIONS DEFLATE;
	memset(extensions + strlen(extensions), ' ', 300);
	strcpy(extensions + 300, "; client_max_window_bits\r\n");
	expect_offer(extensions, NULL);
}

/* ---- What is set for an address ----------------------------------------------------------------------------- */

/** @param status  0: it may go on */
static void expect_allowed(const char *fields, const struct ws_options *options, int status, const char *reason)
{
	char head[1024];
	snprintf(head, sizeof(head), LINE "%s" OFFER "\r\n", fields);
	cr_assert_eq(ws_upgrade_read(head, strlen(head), &upgrade, &refusal), WS_HEAD_DONE, "%s", refusal.reason);
	cr_expect_eq(ws_upgrade_allowed(&upgrade, options, &refusal), status == 0, "%s", fields);
	cr_expect_eq(refusal.status, status, "%d for %s", refusal.status, fields);
	if (status)
		cr_expect_str_eq(refusal.reason, reason);
}

Test(ws_upgrade, origins)
{
	static const char other[] = "an Origin that is not allowed";
	const char *const list[] = {"https://example.org", "http://*.example.org:8080", "https://*.example.org", "null"};
	static const char *const allowed[] = {"https://example.org", "HTTPS://Example.ORG", "http://a.example.org:8080",
										  "https://a.b.example.org", "null"};
	static const char *const refused[] = {"http://example.org",
										  "https://example.org:443",
										  "https://example.org/",
										  "http://a.example.org",
										  "http://a.example.org:80",
										  "http://example.org:8080",
										  "https://aexample.org",
										  "https://.example.org",
										  "https://a/.example.org",
										  "https://u@a.example.org",
										  "https://a:1.example.org",
										  "https://a.example.org.",
										  "https://example.org.evil",
										  "file://",
										  "",
										  "https://*.example.org"};
	struct ws_options options = {.origins = {list, 4}}, none = {0};
	char fields[256];
	for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++) {
		snprintf(fields, sizeof(fields), HOST "Origin: %s\r\n", allowed[i]);
		expect_allowed(fields, &options, 0, NULL);
	}
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		snprintf(fields, sizeof(fields), HOST "Origin: %s\r\n", refused[i]);
		expect_allowed(fields, &options, 403, other);
		expect_allowed(fields, &none, 0, NULL);
	}
	expect_allowed(HOST, &options, 403, "no Origin, where one is needed");
	expect_allowed(HOST, &none, 0, NULL);
}

Test(ws_upgrade, hosts_that_are_served)
{
	const char *const list[] = {"example.org", "*.example.net", "[::1]"};
	struct ws_options options = {.hosts = {list, 3}};
	static const char *const served[] = {"example.org", "EXAMPLE.org.:80", "a.example.net", "a.b.example.net:1",
										 "[::1]:80"};
	static const char *const other[] = {"example.net", "aexample.net", "www.example.org", "127.0.0.1", "[::2]"};
	char fields[256];
	for (size_t i = 0; i < 5; i++) {
		snprintf(fields, sizeof(fields), "Host: %s\r\n", served[i]);
		expect_allowed(fields, &options, 0, NULL);
		snprintf(fields, sizeof(fields), "Host: %s\r\n", other[i]);
		expect_allowed(fields, &options, 404, "a Host that is not served here");
	}
}

/* ---- Answers ------------------------------------------------------------------------------------------------ */

/** Print it. @return the answer; `body` is set to its body */
static const char *print(int status, bool no_body, const char **body)
{
	static char buffer[WS_REFUSAL_ROOM];
	struct ws_refusal answer = {.status = status, .reason = "because of this", .no_body = no_body};
	size_t length = ws_refusal_print(&answer, buffer, sizeof(buffer));
	cr_assert_eq(length, strlen(buffer));
	*body = strstr(buffer, "\r\n\r\n");
	cr_assert(*body, "%s", buffer);
	*body += 4;
	return buffer;
}

static bool has_line(const char *answer, const char *line)
{
	char text[128];
	snprintf(text, sizeof(text), "\r\n%s\r\n", line);
	return strstr(answer, text);
}

Test(ws_upgrade, answers_are_whole)
{
	static const struct {
		int status;
		const char *line;
	} cases[] = {
		{400, "HTTP/1.1 400 Bad Request\r\n"},         {403, "HTTP/1.1 403 Forbidden\r\n"},
		{404, "HTTP/1.1 404 Not Found\r\n"},           {405, "HTTP/1.1 405 Method Not Allowed\r\n"},
		{426, "HTTP/1.1 426 Upgrade Required\r\n"},    {431, "HTTP/1.1 431 Request Header Fields Too Large\r\n"},
		{503, "HTTP/1.1 503 Service Unavailable\r\n"}, {505, "HTTP/1.1 505 HTTP Version Not Supported\r\n"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *body, *answer = print(cases[i].status, false, &body);
		char length[64];
		snprintf(length, sizeof(length), "Content-Length: %zu", strlen(body));
		cr_expect_eq(strncmp(answer, cases[i].line, strlen(cases[i].line)), 0, "%s", answer);
		cr_expect(has_line(answer, length), "%s", answer);
		cr_expect(strstr(body, "because of this"));
		cr_expect_eq(has_line(answer, "Connection: close"), cases[i].status != 426);
		cr_expect_eq(has_line(answer, "Connection: close, Upgrade"), cases[i].status == 426);
		cr_expect_eq(has_line(answer, "Upgrade: websocket"), cases[i].status == 426);
		cr_expect_eq(has_line(answer, "Sec-WebSocket-Version: 13"), cases[i].status == 426);
		cr_expect_eq(has_line(answer, "Content-Type: text/html; charset=utf-8"), cases[i].status == 426);
		cr_expect_eq(has_line(answer, "Allow: GET"), cases[i].status == 405);
	}
}

Test(ws_upgrade, an_answer_to_head_has_no_body_and_says_how_long_it_would_be)
{
	const char *body;
	char with[WS_REFUSAL_ROOM], line[64];
	strcpy(with, print(426, false, &body));
	snprintf(line, sizeof(line), "Content-Length: %zu", strlen(body));
	const char *without = print(426, true, &body);
	cr_expect_str_eq(body, "");
	cr_expect(has_line(without, line), "%s", without);
}

Test(ws_upgrade, an_answer_never_goes_beyond_its_room)
{
	char buffer[8] = "xxxxxxx";
	struct ws_refusal answer = {.status = 400, .reason = "x"};
	cr_expect_eq(ws_refusal_print(&answer, buffer, 4), 3);
	cr_expect_str_eq(buffer, "HTT");
	cr_expect_eq(buffer[4], 'x');
}
