/* A connection through an HTTP proxy: the request, every split of the answer, and each way to fail. */
#include "../../systems/ws/ws.h"
#include "fake_bytes.h"

#include <criterion/criterion.h>
#include <stdio.h>

static struct cp_loop *loop;
static struct fake_bytes proxy;
static struct ws_tunnel *tunnel;
static struct {
	int calls;
	struct cp_stream *stream;
	struct cp_error error;
} result;

static void start(void)
{
	struct cp_error error;
	loop = loop_new(0, &error);
	cr_assert(loop, "%s", error.message);
	memset(&result, 0, sizeof(result));
	fake_init(&proxy, loop);
}

static void stop(void)
{
	fake_turns(loop, 2);
	fake_deinit(&proxy);
	loop_free(loop);
}

TestSuite(ws_tunnel, .init = start, .fini = stop, .timeout = 60);

static void on_done(struct cp_stream *stream, const struct cp_error *error, void *arg)
{
	cr_assert_eq(arg, &result);
	result.calls++;
	result.stream = stream;
	if (!stream)
		result.error = *error;
}

static int ask(const char *host, uint16_t port, const char *authorization)
{
	return ws_tunnel_start(&proxy.stream, host, port, authorization, on_done, &result, &tunnel, &result.error);
}

static void begin(void)
{
	cr_assert_eq(ask("example.org", 443, NULL), CP_AGAIN, "%s", result.error.message);
	cr_assert_eq(result.calls, 0, "done from inside the start");
}

static void expect_request(const char *request)
{
	cr_expect_eq(proxy.out_length, strlen(request));
	cr_expect_arr_eq(proxy.out, request, proxy.out_length, "%.*s", (int)proxy.out_length, proxy.out);
}

static void expect_error(enum cp_err code, const char *message)
{
	cr_assert_eq(result.calls, 1, "%d calls for \"%s\"", result.calls, message);
	cr_expect_null(result.stream);
	cr_expect_eq(result.error.code, code, "%d", result.error.code);
	cr_expect_str_eq(result.error.message, message, "%s", result.error.message);
	cr_expect(proxy.closed);
	cr_expect_eq(proxy.cause, CP_CAUSE_CONNECT_FAILED);
}

/** All that can be read from the connection. */
static void expect_bytes(const char *wanted)
{
	char got[64];
	size_t length = 0;
	unsigned hints;
	cr_assert_eq(result.calls, 1);
	cr_assert(result.stream, "%s", result.error.message);
	for (;;) {
		struct iovec vec = {got + length, sizeof(got) - length};
		ssize_t piece = cp_stream_readv(result.stream, &vec, 1, &hints);
		if (piece <= 0)
			break;
		length += (size_t)piece;
	}
	cr_expect_eq(length, strlen(wanted), "%zu bytes", length);
	cr_expect_arr_eq(got, wanted, length);
}

/* ---- The request -------------------------------------------------------------------------------------------- */

Test(ws_tunnel, asks_for_a_name)
{
	begin();
	expect_request("CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n");
	ws_tunnel_cancel(tunnel);
}

Test(ws_tunnel, asks_for_an_ipv6_address_with_a_login)
{
	cr_assert_eq(ask("2001:db8::1", 80, "Basic YTpi"), CP_AGAIN);
	expect_request("CONNECT [2001:db8::1]:80 HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n"
				   "Proxy-Authorization: Basic YTpi\r\n\r\n");
	ws_tunnel_cancel(tunnel);
}

Test(ws_tunnel, what_would_end_a_line_is_never_sent)
{
	static const char *const hosts[] = {"", "a\r\nX: y", "a b"};
	for (int i = 0; i < 3; i++)
		cr_expect_eq(ask(hosts[i], 80, NULL), CP_EINVAL);
	cr_expect_eq(ask("a", 80, "x\r\ny"), CP_EINVAL);
	cr_expect_eq(proxy.out_length, 0);
	cr_expect_not(proxy.closed, "it is still the caller's");
}

Test(ws_tunnel, a_request_that_fits_piece_by_piece)
{
	fake_room(&proxy, 0);
	begin();
	for (int i = 0; i < 200 && proxy.out_length < 60; i++)
		fake_room(&proxy, 1);
	expect_request("CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n");
	fake_arrive(&proxy, "HTTP/1.1 200 OK\r\n\r\n", 19);
	cr_expect_eq(result.stream, &proxy.stream);
}

Test(ws_tunnel, a_refusal_before_the_request_is_written)
{
	fake_room(&proxy, 3);
	begin();
	fake_arrive(&proxy, "HTTP/1.1 403 No\r\n\r\n", 19);
	expect_error(CP_EREFUSED, "the HTTP proxy answered \"403 No\"");
}

Test(ws_tunnel, the_proxy_cannot_be_written_to)
{
	proxy.write_error = CP_ERESET;
	cr_expect_eq(ask("a", 80, NULL), CP_ERESET);
	cr_expect_str_eq(result.error.message, "connection reset when the HTTP proxy was asked for a:80");
	cr_expect_not(proxy.closed);
}

Test(ws_tunnel, the_proxy_cannot_be_written_to_any_more)
{
	fake_room(&proxy, 3);
	begin();
	proxy.write_error = CP_ERESET;
	fake_room(&proxy, 1);
	expect_error(CP_ERESET, "connection reset while the HTTP proxy was asked for the connection");
}

/* ---- The answer --------------------------------------------------------------------------------------------- */

/** Any two cuts, with a stream that says when it is drained, and with one that does not. */
Test(ws_tunnel, any_split_of_the_answer_loses_nothing)
{
	static const char bytes[] =
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 Connection established\r\nVia: x\r\n\r\n\r\nSSH";
	const size_t length = sizeof(bytes) - 1;
	for (size_t a = 0; a <= length; a++) {
		for (unsigned kind = 0; kind < 4; kind++) {
			memset(&result, 0, sizeof(result));
			proxy.says_drained = kind & 1;
			proxy.read_most = kind & 2 ? 1 : 0;
			begin();
			fake_arrive(&proxy, bytes, a);
			fake_arrive(&proxy, bytes + a, length - a);
			expect_bytes("\r\nSSH");
			cp_stream_close(result.stream, CP_CAUSE_DONE);
			fake_turns(loop, 1);
			fake_deinit(&proxy);
			fake_init(&proxy, loop);
		}
	}
}

Test(ws_tunnel, any_2xx_is_a_connection_whatever_its_fields)
{
	static const char *const answers[] = {
		"HTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 200\r\n\r\n",
		"HTTP/1.0 299 Yes indeed\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 204 \nX: y\n\n",
		"HTTP/1.1 102 P\r\n\r\nHTTP/1.1 199 X\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
	};
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		memset(&result, 0, sizeof(result));
		begin();
		fake_arrive(&proxy, answers[i], strlen(answers[i]));
		cr_assert_eq(result.calls, 1, "%s", answers[i]);
		cr_expect_eq(result.stream, &proxy.stream, "%s: %s", answers[i], result.error.message);
		cr_expect_null(proxy.stream.ready, "the stream has another user now");
	}
}

static void answer(const char *text)
{
	begin();
	fake_arrive(&proxy, text, strlen(text));
}

#define REFUSES(name, text, message)          \
	Test(ws_tunnel, name)                     \
	{                                         \
		answer(text);                         \
		expect_error(CP_EREFUSED, (message)); \
	}

REFUSES(forbidden, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", "the HTTP proxy answered \"403 Forbidden\"")
REFUSES(
	who_are_you, "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n",
	"the HTTP proxy answered \"407 Proxy Authentication Required\": it wants proxy_user and proxy_password, or others")
REFUSES(no_words, "HTTP/1.1 502\r\n\r\n", "the HTTP proxy answered \"502\"")
REFUSES(elsewhere, "HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", "the HTTP proxy answered \"302 Found\"")
REFUSES(an_upgrade_that_nobody_asked_for, "HTTP/1.1 101 Switching Protocols\r\n\r\n",
		"the HTTP proxy answered \"101 Switching Protocols\"")

#define IS_NOT_HTTP(name, text)                                                  \
	Test(ws_tunnel, name)                                                        \
	{                                                                            \
		answer(text);                                                            \
		expect_error(CP_EPROTO, "what the HTTP proxy answered is not HTTP/1.1"); \
	}

IS_NOT_HTTP(another_protocol_is_seen_at_its_first_byte, "S")
IS_NOT_HTTP(an_empty_line, "\r\n")
IS_NOT_HTTP(http_2, "HTTP/2 200 OK")
IS_NOT_HTTP(no_status, "HTTP/1.1 OK\r\n\r\n")
IS_NOT_HTTP(a_status_of_two_digits, "HTTP/1.1 20 OK\r\n\r\n")
IS_NOT_HTTP(a_status_of_four_digits, "HTTP/1.1 2000 OK\r\n\r\n")
IS_NOT_HTTP(a_status_out_of_range, "HTTP/1.1 600 OK\r\n\r\n")
IS_NOT_HTTP(a_status_that_is_no_number, "HTTP/1.1 2x0 OK\r\n\r\n")
IS_NOT_HTTP(no_space, "HTTP/1.1-200 OK\r\n\r\n")
IS_NOT_HTTP(a_line_that_is_short, "HTTP/1.\r\n\r\n")
IS_NOT_HTTP(something_else_behind_a_100, "HTTP/1.1 100 Continue\r\n\r\nSSH-2.0")

Test(ws_tunnel, a_head_without_an_end)
{
	static char bytes[WS_HEAD_MOST];
	memset(bytes, 'x', sizeof(bytes));
	memcpy(bytes, "HTTP/1.1 200 OK\r\nX: ", 20);
	begin();
	fake_arrive(&proxy, bytes, sizeof(bytes) - 1);
	cr_assert_eq(result.calls, 0);
	fake_arrive(&proxy, "x", 1);
	expect_error(CP_ELIMIT, "the HTTP proxy answered with more than 16 KiB of a head");
}

Test(ws_tunnel, answers_without_an_end)
{
	begin();
	for (int i = 0; i < WS_HEAD_MOST && !result.calls; i++)
		fake_arrive(&proxy, "HTTP/1.1 100 \r\n\r\n", 17);
	expect_error(CP_ELIMIT, "the HTTP proxy answered with more than 16 KiB of a head");
}

Test(ws_tunnel, the_proxy_leaves)
{
	begin();
	fake_end(&proxy, 0);
	expect_error(CP_EPROTO, "the HTTP proxy left without an answer");
}

Test(ws_tunnel, the_proxy_leaves_in_the_middle)
{
	begin();
	proxy.end_with_data = true;
	proxy.ended = true;
	fake_arrive(&proxy, "HTTP/1.1 200 OK\r\n", 17);
	expect_error(CP_EPROTO, "the HTTP proxy left in the middle of its answer");
}

Test(ws_tunnel, the_proxy_breaks)
{
	begin();
	fake_end(&proxy, CP_ERESET);
	expect_error(CP_ERESET, "connection reset while the HTTP proxy was asked for the connection");
}

/** The target may have ended at once: that is the connection's, and not the tunnel's. */
Test(ws_tunnel, an_end_right_behind_the_answer)
{
	begin();
	proxy.end_with_data = true;
	proxy.ended = true;
	fake_arrive(&proxy, "HTTP/1.1 200 OK\r\n\r\nbye", 22);
	expect_bytes("bye");
	cp_stream_close(result.stream, CP_CAUSE_DONE);
}

/** Or the user would ask the descriptor again, in vain. */
Test(ws_tunnel, bytes_behind_the_answer_may_be_all_for_now)
{
	char got[8];
	struct iovec vec = {got, sizeof(got)};
	unsigned hints;
	begin();
	fake_arrive(&proxy, "HTTP/1.1 200 OK\r\n\r\nSSH", 22);
	cr_assert(result.stream);
	cr_expect_eq(cp_stream_readv(result.stream, &vec, 1, &hints), 3);
	cr_expect_eq(hints, CP_READ_DRAINED);
	cp_stream_close(result.stream, CP_CAUSE_DONE);
}

/* ---- Giving up ---------------------------------------------------------------------------------------------- */

Test(ws_tunnel, cancelled_in_each_state)
{
	static const char bytes[] = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 2";
	for (size_t i = 0; i < sizeof(bytes); i++) {
		fake_room(&proxy, i % 3 ? SIZE_MAX / 2 : i);
		begin();
		fake_arrive(&proxy, bytes, i);
		ws_tunnel_cancel(tunnel);
		cr_assert(proxy.closed);
		cr_assert_eq(proxy.cause, CP_CAUSE_CONNECT_TIMEOUT);
		cr_assert_eq(result.calls, 0);
		fake_deinit(&proxy);
		fake_init(&proxy, loop);
	}
}
