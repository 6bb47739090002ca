/* Heads of HTTP requests: what they say, when that is known, and what is too doubtful to be said. */
#include "sniff/http_head.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct cp_arena *arena;
static struct http_head found;

static void set_up(void)
{
	arena = cp_arena_new(0);
}

static void tear_down(void)
{
	cp_arena_free(arena);
}

TestSuite(sniff_http, .init = set_up, .fini = tear_down);

/* ---- Helpers ------------------------------------------------------------------------------------------------ */

/** From memory of just that length, so that a sanitizer sees what is read beyond it. */
static enum verdict begins(const char *bytes, size_t length)
{
	char *copy = malloc(length ? length : 1);
	memcpy(copy, bytes, length);
	enum verdict verdict = http_head_begins(copy, length);
	free(copy);
	return verdict;
}

static enum verdict read_some(const char *bytes, size_t length, struct cp_arena *where)
{
	char *copy = malloc(length ? length : 1);
	memcpy(copy, bytes, length);
	enum verdict verdict = http_head_read(copy, length, where, &found);
	free(copy);
	return verdict;
}

static enum verdict read_text(const char *text)
{
	return read_some(text, strlen(text), arena);
}

static void expect_text(const char *text, size_t length, const char *expected, const char *what, const char *head)
{
	if (!expected) {
		cr_assert_null(text, "%s is %s in %s", what, text, head);
		return;
	}
	cr_assert_not_null(text, "no %s in %s", what, head);
	cr_assert_str_eq(text, expected, "%s of %s", what, head);
	cr_assert_eq(length, strlen(expected), "%s of %s", what, head);
}

static void expect(const char *head, const char *method, const char *host, const char *path)
{
	cr_assert_eq(read_text(head), VERDICT_YES, "%s", head);
	expect_text(found.method, found.method_length, method, "method", head);
	expect_text(found.host, found.host_length, host, "host", head);
	expect_text(found.path, found.path_length, path, "path", head);
}

/** No beginning is more than possible, or takes memory; what stands behind it changes nothing. */
static void expect_every_beginning(const char *head)
{
	size_t length = strlen(head);
	for (size_t i = 0; i < length; i++) {
		cr_assert_neq(begins(head, i), VERDICT_NO, "%zu bytes of %s", i, head);
		cr_assert_eq(read_some(head, i, NULL), VERDICT_MAYBE, "%zu bytes of %s", i, head);
	}
	char more[4096];
	snprintf(more, sizeof(more), "%s\nHost: other\r\n\r\n", head);
	for (size_t i = length; i <= strlen(more); i++) {
		cr_assert_eq(begins(more, i), VERDICT_YES, "%zu bytes of %s", i, head);
		cr_assert_eq(read_some(more, i, arena), VERDICT_YES, "%zu bytes of %s", i, head);
	}
}

/** Undecided up to `certain` bytes, then `verdict` however much follows. */
static void expect_decided(const char *text, size_t certain, enum verdict verdict)
{
	for (size_t i = 0; i <= strlen(text); i++)
		cr_assert_eq(begins(text, i), i < certain ? VERDICT_MAYBE : verdict, "%zu bytes of %s", i, text);
}

/* ---- How it begins ------------------------------------------------------------------------------------------ */

Test(sniff_http, the_end_of_the_request_line_decides)
{
	static const char *const lines[] = {
		"GET / HTTP/1.1\r\n",
		"GET / HTTP/1.0\r\n",
		"GET / HTTP/1.9\r\n",
		"GET / HTTP/1.1\n",
		"\r\nGET / HTTP/1.1\r\n",
		"\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n",
		"OPTIONS * HTTP/1.1\r\n",
		"OPTIONS /x HTTP/1.1\r\n",
		"CONNECT example.org:443 HTTP/1.1\r\n",
		"CONNECT [2001:db8::1]:443 HTTP/1.1\r\n",
		"GET http://example.org HTTP/1.1\r\n",
		"POST HTTPS://example.org/x HTTP/1.1\r\n",
		"M-SEARCH /x HTTP/1.1\r\n",
		"RPC_IN_DATA /x HTTP/1.1\r\n",
		"X2 /x HTTP/1.1\r\n",
		"ABCDEFGHIJKLMNOPQRST /x HTTP/1.1\r\n",
		"GET /\xc3\xbc\xff HTTP/1.1\r\n",
		"GET /a?b|{}\"<>^`\\ HTTP/1.1\r\n",
		"PRI / HTTP/1.1\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	};
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		expect_decided(lines[i], strlen(lines[i]), VERDICT_YES);
	cr_assert_eq(begins("GET / HTTP/1.1\r\n\x00\xff", 18), VERDICT_YES);
}

struct junk {
	const char *text;
	size_t certain; /* bytes after which it is known that this is no HTTP */
};

Test(sniff_http, other_protocols_are_told_apart_early)
{
	static const struct junk junk[] = {
		{"EHLO mail.example.org\r\n", 6},
		{"HELO h\r\n", 7},
		{"USER a\r\n", 6},
		{"NICK joe\r\n", 6},
		{"HELP\r\n", 5},
		{"QUIT\n", 5},
		{"SSH-2.0-OpenSSH_9.2\r\n", 6},
		{"a", 1},
		{"get / http/1.1\r\n", 1},
		{"Get / HTTP/1.1\r\n", 2},
		{" GET / HTTP/1.1\r\n", 1},
		{"\tGET", 1},
		{"\nGET / HTTP/1.1\r\n", 1},
		{"\rGET", 2},
		{"\r\n\r\n\r\n\r\n\r\n", 9},
		{"\x16\x03\x01", 1},
		{"\xff", 1},
		{"1GET", 1},
		{"-GET", 1},
		{"G\x01", 2},
		{"GET\t/ HTTP/1.1\r\n", 4},
		{"GET  / HTTP/1.1\r\n", 5},
		{"GET /\r\n", 6},
		{"GET /\tHTTP/1.1\r\n", 6},
		{"GET /\x7f", 6},
		{"GET /  HTTP/1.1\r\n", 7},
		{"GET / http/1.1\r\n", 7},
		{"GET / HTTP/1.1 \r\n", 15},
		{"GET / HTTP/1.1\rX", 16},
		{"GET / HTTP/1.x\r\n", 14},
		{"GET / HTTP/1.10\r\n", 15},
		{"GET / HTTP/2.0\r\n", 12},
		{"GET /a b HTTP/1.1\r\n", 8},
		{"GET * HTTP/1.1\r\n", 5},
		{"OPTIONS *x HTTP/1.1\r\n", 10},
		{"OPTIONS rtsp://example.org/ RTSP/1.0\r\n", 9},
		{"OPTIONS http:/x HTTP/1.1\r\n", 15},
		{"OPTIONS http HTTP/1.1\r\n", 13},
		{"INVITE sip:joe@example.org SIP/2.0\r\n", 8},
		{"GET ftp://example.org/ HTTP/1.1\r\n", 5},
		{"GET example.org:80 HTTP/1.1\r\n", 5},
		{"CONNECT / HTTP/1.1\r\n", 9},
		{"CONNECT a@b:1 HTTP/1.1\r\n", 10},
		{"CONNECT  HTTP/1.1\r\n", 9},
		{"ABCDEFGHIJKLMNOPQRSTU / HTTP/1.1\r\n", 21},
		{"PRI * HTTP/1.1\r\n", 12},
		{"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", 19},
		{"\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 7},
	};
	for (size_t i = 0; i < sizeof(junk) / sizeof(junk[0]); i++) {
		expect_decided(junk[i].text, junk[i].certain, VERDICT_NO);
		cr_assert_eq(read_text(junk[i].text), VERDICT_NO, "%s", junk[i].text);
	}
	expect_decided("GET", 4, VERDICT_NO);
	cr_assert_eq(begins("GET /\0", 6), VERDICT_NO);
	cr_assert_eq(begins("CONNECT \0", 9), VERDICT_NO);
	cr_assert_eq(begins("\0", 1), VERDICT_NO);
}

/* ---- Whole heads -------------------------------------------------------------------------------------------- */

static const char browser[] =
	"GET /search?q=connpipe&x=%20 HTTP/1.1\r\n"
	"Host: www.Example.org\r\n"
	"Connection: keep-alive\r\n"
	"sec-ch-ua: \"Chromium\";v=\"124\", \"Not-A.Brand\";v=\"99\"\r\n"
	"sec-ch-ua-mobile: ?0\r\n"
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0 Safari/537.36\r\n"
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8\r\n"
	"Accept-Encoding: gzip, deflate, br, zstd\r\n"
	"Accept-Language: de,en;q=0.9\r\n"
	"Cookie: session=5a5a5a5a; consent=\r\n"
	"\r\n";

Test(sniff_http, browsers)
{
	expect(browser, "GET", "www.example.org", "/search");
	expect_every_beginning(browser);
}

Test(sniff_http, forms_of_the_target)
{
	expect("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "a", "/");
	expect("GET /a/b?c/d?e HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "a", "/a/b");
	expect("GET /%41/..//./b%2f HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "a", "/%41/..//./b%2f");
	expect("GET /? HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "a", "/");
	expect("GET //b/c HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "a", "//b/c");
	expect("GET /\xc3\xbc HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "a", "/\xc3\xbc");
	expect("GET /\xfc HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "a", NULL);
	expect("GET http://B/c?d HTTP/1.1\r\nHost: b\r\n\r\n", "GET", "b", "/c");
	expect("GET http://b/c HTTP/1.1\r\nHost: B.:80\r\n\r\n", "GET", "b", "/c");
	expect("GET http://b/c HTTP/1.1\r\nHost: a\r\n\r\n", "GET", NULL, "/c"); /* servers differ */
	expect("GET http://b/c HTTP/1.1\r\nHost: b@c\r\n\r\n", "GET", NULL, "/c");
	expect("GET HTTPS://B:1/c HTTP/1.1\r\nHost: b\r\n\r\n", "GET", "b", "/c");
	expect("GET http://b HTTP/1.1\r\nHost: b\r\n\r\n", "GET", "b", "/");
	expect("GET http://b?c/d HTTP/1.1\r\nHost: b\r\n\r\n", "GET", "b", "/");
	expect("GET http://b/://c HTTP/1.1\r\nHost: b\r\n\r\n", "GET", "b", "/://c");
	expect("GET http://joe@b/ HTTP/1.1\r\nHost: a\r\n\r\n", "GET", NULL, "/");
	expect("GET http://b\\@c/ HTTP/1.1\r\nHost: a\r\n\r\n", "GET", NULL, "/");
	expect("GET http:///c HTTP/1.1\r\nHost: a\r\n\r\n", "GET", NULL, "/c");
	expect("GET http://b/ HTTP/1.1\r\n\r\n", "GET", "b", "/");
	expect("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS", "a", NULL);
	expect("CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n", "CONNECT", "b", NULL);
	expect("CONNECT b:443 HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT", NULL, NULL);
	expect("CONNECT [2001:DB8::1]:443 HTTP/1.1\r\n\r\n", "CONNECT", "[2001:db8::1]", NULL);
	expect("CONNECT b:c HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT", NULL, NULL);
}

Test(sniff_http, beginnings_of_other_heads)
{
	expect_every_beginning("\r\n\r\nGET / HTTP/1.0\r\n\r\n");
	expect_every_beginning("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
	expect_every_beginning("CONNECT b:443 HTTP/1.1\r\nHost: a\r\n\r\n");
	expect_every_beginning("GET https://b/ HTTP/1.1\r\nX:\r\nHost:a\r\n\r\n");
	expect_every_beginning("PRI /x HTTP/1.1\r\nHost: a\r\n\r\n");
	expect_every_beginning("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
}

Test(sniff_http, http2_tells_nothing_more)
{
	expect("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", NULL, NULL, NULL);
}

Test(sniff_http, without_a_host)
{
	expect("GET / HTTP/1.0\r\n\r\n", "GET", NULL, "/");
	expect("GET / HTTP/1.1\r\nAccept: */*\r\n\r\n", "GET", NULL, "/");
	expect("GET / HTTP/1.1\r\nHost:\r\n\r\n", "GET", NULL, "/");
	expect("GET / HTTP/1.1\r\nHost: \t \r\n\r\n", "GET", NULL, "/");
	expect("GET / HTTP/1.1\r\nX-Host: a\r\nHosts: b\r\nHos: c\r\n\r\n", "GET", NULL, "/");
}

struct host {
	const char *value, *host;
};

#define LABEL "abcdefghijklmnopqrstuvwxyz0123456789-abcdefghijklmnopqrstuvwxyz" /* 63 */

Test(sniff_http, hosts)
{
	static const struct host hosts[] = {
		{"example.org", "example.org"},
		{" example.org", "example.org"},
		{"\t example.org \t", "example.org"},
		{"EXAMPLE.org:8080", "example.org"},
		{"example.org:", "example.org"},
		{"example.org.", "example.org"},
		{"example.org.:80", "example.org"},
		{"localhost", "localhost"},
		{"_a.b-c", "_a.b-c"},
		{LABEL ".org", LABEL ".org"},
		{"192.0.2.1", "192.0.2.1"},
		{"192.0.2.1:80", "192.0.2.1"},
		{"[2001:DB8:0:0::1]", "[2001:db8::1]"},
		{"[::1]:8080", "[::1]"},
		{"[::1]:", "[::1]"},
		{"[::ffff:192.0.2.1]:80", "192.0.2.1"},
		{"example.org:65535", "example.org"},
		{"example.org:65536", NULL},
		{"example.org:80a", NULL},
		{"example.org:-1", NULL},
		{"example.org:80:80", NULL},
		{"example.org:184467440737095516160", NULL},
		{"example.org..", NULL},
		{".", NULL},
		{".example.org", NULL},
		{":80", NULL},
		{"192.0.2.256", NULL},
		{"192.0.2", NULL},
		{"::1", NULL},
		{"2001:db8::1", NULL},
		{"[::1", NULL},
		{"[]", NULL},
		{"[", NULL},
		{"[::1]x", NULL},
		{"[::1]80", NULL},
		{"[fe80::1%lo]", NULL},
		{"[192.0.2.1]", NULL},
		{"[example.org]", NULL},
		{"[[::1]]", NULL},
		{"x" LABEL ".org", NULL},
		{"joe@example.org", NULL},
		{"a, b", NULL},
		{"a b", NULL},
		{"a,b", NULL},
		{"%61", NULL},
		{"a/b", NULL},
		{"*.example.org", NULL},
		{"b\xc3\xbc"
		 "cher.example",
		 NULL},
		{"$n", NULL},
		{"*4", NULL},
		{"{host}", NULL},
	};
	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
		char head[256];
		snprintf(head, sizeof(head), "GET / HTTP/1.1\r\nX: y\r\nhOST:%s\r\nZ:\r\n\r\n", hosts[i].value);
		expect(head, "GET", hosts[i].host, "/");
		snprintf(head, sizeof(head), "GET / HTTP/1.1\r\nX: y\r\nHost: %s\r\n\r\n", hosts[i].value);
		expect(head, "GET", hosts[i].host, "/");
	}
}

/* ---- Doubtful ones ------------------------------------------------------------------------------------------ */

Test(sniff_http, what_servers_could_understand_differently)
{
	static const char *const heads[] = {
		"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nHOST: a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost:\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost\t: a\r\n\r\n",
		"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\n\tb: c\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nb\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nB(c): d\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nB\x80: d\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nX: b\rHost: c\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\n\r\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n",
		"GET / HTTP/1.1\nHost: a\n\n",
		"GET / HTTP/1.1\nHost: a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\n\r\n",
		"GET / HTTP/1.1\r\nX: b\nHost: a\r\n\r\n",
		"GET / HTTP/1.1\r\n\nHost: a\r\n\r\n",
		"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET http://a#b/ HTTP/1.1\r\nHost: a\r\n\r\n",
	};
	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		cr_assert_eq(begins(heads[i], strlen(heads[i])), VERDICT_YES, "%s", heads[i]);
		cr_assert_eq(read_text(heads[i]), VERDICT_NO, "%s", heads[i]);
	}
	static const char zero[] = "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n";
	cr_assert_eq(read_some(zero, sizeof(zero) - 1, arena), VERDICT_NO);
}

Test(sniff_http, a_line_that_ends_in_lf_is_no_longer_waited_for)
{
	cr_assert_eq(read_some("GET / HTTP/1.1\n", 15, NULL), VERDICT_NO);
	cr_assert_eq(read_some("GET / HTTP/1.1\r\nHost: a\n", 24, NULL), VERDICT_NO);
	cr_assert_eq(read_some("GET / HTTP/1.1\r\n\n", 17, NULL), VERDICT_NO);
}

Test(sniff_http, values_may_have_tabs_and_any_other_bytes)
{
	expect("GET / HTTP/1.1\r\nX: a\tb\xff\xc3\xbc\r\nHost: a\r\n!#$%&'*+-.^_`|~09aZ: \r\n\r\n", "GET", "a", "/");
}

/* ---- Length ------------------------------------------------------------------------------------------------- */

/** A head of just that length: in its target, or in a field. */
static char *head_of_length(size_t length, bool in_target)
{
	static const char front[] = "GET /", middle[] = " HTTP/1.1\r\nHost: a\r\nX: ", back[] = "\r\n\r\n";
	char *head = malloc(length + 1);
	size_t fill = length - strlen(front) - strlen(middle) - strlen(back);
	char *at = stpcpy(head, front);
	if (in_target)
		at = (char *)memset(at, 'x', fill) + fill;
	at = stpcpy(at, middle);
	if (!in_target)
		at = (char *)memset(at, 'x', fill) + fill;
	stpcpy(at, back);
	return head;
}

Test(sniff_http, the_longest_is_read)
{
	for (int in_target = 0; in_target <= 1; in_target++) {
		char *head = head_of_length(HTTP_HEAD_MOST, in_target);
		cr_assert_eq(read_some(head, HTTP_HEAD_MOST - 1, NULL), VERDICT_MAYBE);
		cr_assert_eq(read_some(head, HTTP_HEAD_MOST, arena), VERDICT_YES);
		cr_assert_eq(begins(head, HTTP_HEAD_MOST), VERDICT_YES);
		free(head);
		head = head_of_length(HTTP_HEAD_MOST + 1, in_target);
		cr_assert_eq(read_some(head, HTTP_HEAD_MOST - 1, NULL), VERDICT_MAYBE);
		cr_assert_eq(read_some(head, HTTP_HEAD_MOST, NULL), VERDICT_NO);
		cr_assert_eq(read_some(head, HTTP_HEAD_MOST + 1, NULL), VERDICT_NO);
		cr_assert_eq(begins(head, HTTP_HEAD_MOST + 1), VERDICT_YES);
		free(head);
	}
}

Test(sniff_http, a_request_line_without_an_end)
{
	static char line[HTTP_HEAD_MOST + 100];
	memset(line, 'x', sizeof(line));
	memcpy(line, "GET /", 5);
	cr_assert_eq(begins(line, HTTP_HEAD_MOST - 1), VERDICT_MAYBE);
	cr_assert_eq(begins(line, HTTP_HEAD_MOST), VERDICT_NO);
	memcpy(line + sizeof(line) - 11, " HTTP/1.1\r\n", 11);
	cr_assert_eq(begins(line, sizeof(line)), VERDICT_NO);
	memcpy(line, "CONNECT x", 9);
	cr_assert_eq(begins(line, 200), VERDICT_MAYBE);
	cr_assert_eq(begins(line, 300), VERDICT_NO);
}
