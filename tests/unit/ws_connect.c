/* Websocket streams on the connecting side: the request, the server's answer, and giving up in every state. */
#include "ws_fixture.h"

#include <libwebsockets.h>

static struct ws_connecting *connecting;
static struct cp_error refusal;
static unsigned done_calls;
static struct ws_request request;

static void start(void)
{
	fixture_start();
	done_calls = 0;
	request = (struct ws_request){.path = "/chat?a=b", .host = "example.org:8080"};
}

TestSuite(ws_connect, .init = start, .fini = fixture_stop, .timeout = 60);

static void on_done(struct cp_stream *stream, const struct cp_error *error, void *arg)
{
	cr_assert_eq(arg, &done_calls);
	done_calls++;
	connecting = NULL;
	if (stream)
		user_has(stream);
	else
		refusal = *error;
}

static void begin(void)
{
	struct cp_error error = {0};
	int result = ws_connect(loop, make_pair(), &request, &behaviour, NULL, on_done, &done_calls, &connecting, &error);
	cr_assert_eq(result, CP_AGAIN, "%s", error.message);
}

/** The answer to the key of a request. */
static void accept_key(const char *head, char *out, size_t room)
{
	char text[128];
	unsigned char hash[20];
	const char *sent = strstr(head, "\r\nSec-WebSocket-Key: ");
	cr_assert(sent, "%s", head);
	snprintf(text, sizeof(text), "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", sent + 21);
	lws_SHA1((unsigned char *)text, strlen(text), hash);
	lws_b64_encode_string((char *)hash, sizeof(hash), out, (int)room);
}

/** Read the request, and answer it. @param more  lines, each with CRLF */
static void peer_accepts(char *head, size_t room, const char *more)
{
	char accept[64], answer[1024];
	peer_gets_head(head, room);
	accept_key(head, accept, sizeof(accept));
	int length = snprintf(answer, sizeof(answer),
						  "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
						  "Sec-WebSocket-Accept: %s\r\n%s\r\n",
						  accept, more);
	peer_sends(answer, (size_t)length);
}

static void connected(void)
{
	char head[2048];
	begin();
	peer_accepts(head, sizeof(head), "");
	RUN_UNTIL(done_calls);
	cr_assert(user->stream, "%s", refusal.message);
}

Test(ws_connect, the_request_is_what_was_asked_for)
{
	char head[2048];
	request.origin = "https://example.org";
	request.protocols = "connpipe, chat";
	request.headers = "X-One: 1\r\nCookie: two\r\n";
	begin();
	peer_accepts(head, sizeof(head), "Sec-WebSocket-Protocol: chat\r\n");
	RUN_UNTIL(done_calls);
	cr_assert(user->stream, "%s", refusal.message);
	cr_assert_eq(strncmp(head, "GET /chat?a=b HTTP/1.1\r\nHost: example.org:8080\r\n", 48), 0, "%s", head);
	cr_assert(strstr(head, "\r\nUpgrade: websocket\r\n"), "%s", head);
	cr_assert(strstr(head, "\r\nConnection: Upgrade\r\n"), "%s", head);
	cr_assert(strstr(head, "\r\nSec-WebSocket-Version: 13\r\n"), "%s", head);
	cr_assert(strstr(head, "\r\nOrigin: https://example.org\r\n"), "%s", head);
	cr_assert(strstr(head, "\r\nSec-WebSocket-Protocol: connpipe, chat\r\n"), "%s", head);
	cr_assert(strstr(head, "\r\nX-One: 1\r\nCookie: two\r\n"), "%s", head);
	cr_assert_not(strstr(head, "permessage-deflate"), "%s", head);
}

Test(ws_connect, messages_both_ways)
{
	connected();
	peer_says(FIN | TEXT, false, "Hello", 5);
	user_expects(0, 5, CP_READ_TEXT, "Hello");
	cr_assert_eq(user_writes("abc", 3, 0), 3);
	struct got_frame f = peer_gets_frame();
	cr_assert(f.masked);
	cr_assert_eq(f.first, FIN | BINARY);
	cr_assert_eq(f.length, 3);
	cr_assert_arr_eq(f.bytes, "abc", 3);
	free(f.bytes);
}

/* ---- What the server may answer ------------------------------------------------------------------------------- */

/** Read the request, and answer as given. @param accept_is_right  the %s in it is what it has to be */
static void peer_answers(const char *format)
{
	char head[2048], accept[64], answer[20000];
	peer_gets_head(head, sizeof(head));
	accept_key(head, accept, sizeof(accept));
	peer_sends(answer, (size_t)snprintf(answer, sizeof(answer), format, accept));
}

static void expect_refusal(enum cp_err code, const char *message)
{
	RUN_UNTIL(done_calls);
	cr_assert_not(user->stream);
	cr_assert_eq(refusal.code, code, "%s", refusal.message);
	if (message)
		cr_assert_str_eq(refusal.message, message);
	peer_expects_end();
	turns(5);
	cr_assert_eq(done_calls, 1);
}

#define SWITCHING "HTTP/1.1 101 Switching Protocols\r\n"
#define UPGRADE "Upgrade: websocket\r\n"
#define CONNECTION "Connection: Upgrade\r\n"
#define ACCEPT "Sec-WebSocket-Accept: %s\r\n"

Test(ws_connect, a_refusal_tells_what_the_server_answered)
{
	begin();
	peer_answers("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
	expect_refusal(CP_EREFUSED, "the server answered 403 Forbidden");
}

Test(ws_connect, a_redirect_is_not_followed)
{
	begin();
	peer_answers("HTTP/1.1 302 Found\r\nLocation: ws://other.example.org/\r\nContent-Length: 0\r\n\r\n");
	expect_refusal(CP_EREFUSED, "the server answered 302 Found");
}

Test(ws_connect, a_plain_answer_is_a_refusal)
{
	begin();
	peer_answers("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	expect_refusal(CP_EREFUSED, "the server answered 200 OK");
}

Test(ws_connect, authentication_that_is_asked_for)
{
	begin();
	peer_answers("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\n\r\n");
	expect_refusal(CP_EREFUSED, "the server answered 401 Unauthorized");
}

Test(ws_connect, an_answer_for_another_key)
{
	begin();
	peer_answers(SWITCHING UPGRADE CONNECTION "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
	expect_refusal(CP_EPROTO, NULL);
}

Test(ws_connect, an_answer_without_its_key)
{
	begin();
	peer_answers(SWITCHING UPGRADE CONNECTION "\r\n");
	expect_refusal(CP_EPROTO, NULL);
}

Test(ws_connect, an_answer_that_upgrades_to_something_else)
{
	begin();
	peer_answers(SWITCHING "Upgrade: h2c\r\n" CONNECTION ACCEPT "\r\n");
	expect_refusal(CP_EPROTO, NULL);
}

Test(ws_connect, an_answer_without_connection)
{
	begin();
	peer_answers(SWITCHING UPGRADE ACCEPT "\r\n");
	expect_refusal(CP_EPROTO, NULL);
}

Test(ws_connect, a_subprotocol_that_nobody_offered)
{
	request.protocols = "one, two";
	begin();
	peer_answers(SWITCHING UPGRADE CONNECTION ACCEPT "Sec-WebSocket-Protocol: three\r\n\r\n");
	expect_refusal(CP_EPROTO, NULL);
}

Test(ws_connect, an_extension_that_nobody_offered)
{
	begin();
	peer_answers(SWITCHING UPGRADE CONNECTION ACCEPT "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n");
	expect_refusal(CP_EPROTO, NULL);
}

Test(ws_connect, what_is_not_http)
{
	begin();
	peer_answers("SSH-2.0-OpenSSH_9.2\r\n\r\n");
	expect_refusal(CP_EPROTO, NULL);
}

Test(ws_connect, a_head_that_does_not_end)
{
	char head[2048];
	static char lines[40000];
	begin();
	peer_gets_head(head, sizeof(head));
	memcpy(lines, SWITCHING "X: ", sizeof(SWITCHING "X: ") - 1);
	memset(lines + sizeof(SWITCHING "X: ") - 1, 'x', sizeof(lines) - sizeof(SWITCHING "X: "));
	for (size_t at = 0; at < sizeof(lines) && !done_calls;) {
		ssize_t put = send(peer, lines + at, sizeof(lines) - at, MSG_NOSIGNAL);
		at += put > 0 ? (size_t)put : 0;
		turn();
	}
	RUN_UNTIL(done_calls);
	cr_assert_not(user->stream);
}

Test(ws_connect, the_end_without_an_answer)
{
	char head[2048];
	begin();
	peer_gets_head(head, sizeof(head));
	shutdown(peer, SHUT_WR);
	expect_refusal(CP_ERESET, "the server ended the connection without an answer");
}

Test(ws_connect, the_end_inside_the_answer)
{
	char head[2048];
	begin();
	peer_gets_head(head, sizeof(head));
	peer_sends(SWITCHING "Upg", sizeof(SWITCHING "Upg") - 1);
	turns(3);
	shutdown(peer, SHUT_WR);
	expect_refusal(CP_ERESET, NULL);
}

Test(ws_connect, a_connection_that_is_broken_already)
{
	struct cp_error error = {0};
	int fd = make_pair();
	close(peer);
	peer = -1;
	int result = ws_connect(loop, fd, &request, &behaviour, NULL, on_done, &done_calls, &connecting, &error);
	if (result == CP_AGAIN)
		RUN_UNTIL(done_calls);
	cr_assert_not(user->stream);
	cr_assert(result == CP_AGAIN ? refusal.message[0] : error.message[0]);
	cr_assert_leq(fcntl(fd, F_GETFD), 0);
}

Test(ws_connect, an_answer_byte_by_byte_with_a_frame_behind)
{
	char head[2048], accept[64], answer[512];
	begin();
	peer_gets_head(head, sizeof(head));
	accept_key(head, accept, sizeof(accept));
	size_t length = (size_t)snprintf(answer, sizeof(answer), SWITCHING UPGRADE CONNECTION ACCEPT "\r\n", accept);
	length += frame((unsigned char *)answer + length, FIN | TEXT, false, "early", 5);
	for (size_t i = 0; i < length; i++) {
		peer_sends(answer + i, 1);
		turns(2);
	}
	RUN_UNTIL(user->length == 5);
	cr_assert_arr_eq(user->bytes, "early", 5);
}

Test(ws_connect, a_frame_in_one_segment_with_the_answer)
{
	char head[2048], accept[64], answer[512];
	begin();
	peer_gets_head(head, sizeof(head));
	accept_key(head, accept, sizeof(accept));
	size_t length = (size_t)snprintf(answer, sizeof(answer), SWITCHING UPGRADE CONNECTION ACCEPT "\r\n", accept);
	length += frame((unsigned char *)answer + length, FIN | TEXT, false, "early", 5);
	length += frame((unsigned char *)answer + length, FIN | TEXT, false, "bird", 4);
	peer_sends(answer, length);
	user_expects(0, 5, CP_READ_TEXT, "early");
	user_expects(1, 4, CP_READ_TEXT, "bird");
}

Test(ws_connect, long_names_and_paths_are_sent_whole)
{
	char head[16384], path[8000], host[254];
	memset(path, 'p', sizeof(path) - 1);
	path[0] = '/';
	path[sizeof(path) - 1] = '\0';
	memset(host, 'h', sizeof(host) - 1);
	host[sizeof(host) - 1] = '\0';
	request.path = path;
	request.host = host;
	request.origin = host;
	begin();
	peer_accepts(head, sizeof(head), "");
	RUN_UNTIL(done_calls);
	cr_assert(user->stream, "%s", refusal.message);
	cr_assert(strstr(head, path));
	cr_assert_eq(strncmp(strstr(head, "\r\nHost: ") + 8, host, 253), 0);
	cr_assert_eq(strncmp(strstr(head, "\r\nOrigin: ") + 10, host, 253), 0);
}

/* ---- Giving up -------------------------------------------------------------------------------------------------- */

static void cancel(void)
{
	ws_connect_cancel(connecting);
	connecting = NULL;
	peer_expects_end();
	turns(5);
	cr_assert_eq(done_calls, 0);
}

Test(ws_connect, giving_up_at_once)
{
	char head[2048];
	begin();
	ws_connect_cancel(connecting);
	peer_gets_head(head, sizeof(head));
	peer_expects_end();
	cr_assert_eq(done_calls, 0);
}

Test(ws_connect, giving_up_while_the_server_thinks)
{
	char head[2048];
	begin();
	peer_gets_head(head, sizeof(head));
	cancel();
}

Test(ws_connect, giving_up_inside_the_answer)
{
	char head[2048];
	begin();
	peer_gets_head(head, sizeof(head));
	peer_sends(SWITCHING "Upg", sizeof(SWITCHING "Upg") - 1);
	turns(3);
	cancel();
}

Test(ws_connect, giving_up_when_the_answer_is_there_and_not_read)
{
	char head[2048];
	begin();
	peer_accepts(head, sizeof(head), "");
	if (!done_calls)
		cancel();
}

Test(ws_connect, an_engine_that_ends_meanwhile)
{
	char head[2048];
	begin();
	peer_gets_head(head, sizeof(head));
	ws_connect_cancel(connecting);
	/* and fixture_stop() before the loop has turned */
}

/* ---- The stream ------------------------------------------------------------------------------------------------- */

Test(ws_connect, half_close_only_if_the_server_agrees)
{
	char head[2048];
	behaviour.half_close = true;
	request.protocols = WS_HALF_CLOSE_PROTOCOL;
	begin();
	peer_accepts(head, sizeof(head), "");
	RUN_UNTIL(done_calls);
	cr_assert(user->stream, "%s", refusal.message);
	cr_assert_eq(cp_stream_shutdown_write(user->stream), CP_EUNSUPPORTED);
	peer_says(FIN | TEXT, false, "", 0);
	user_expects(0, 0, CP_READ_TEXT, NULL);
}

Test(ws_connect, half_close)
{
	char head[2048];
	behaviour.half_close = true;
	request.protocols = "chat, " WS_HALF_CLOSE_PROTOCOL;
	begin();
	peer_accepts(head, sizeof(head), "Sec-WebSocket-Protocol: " WS_HALF_CLOSE_PROTOCOL "\r\n");
	RUN_UNTIL(done_calls);
	cr_assert_eq(cp_stream_shutdown_write(user->stream), CP_OK);
	peer_expects(FIN | TEXT, "", 0);
	peer_says(FIN | BINARY, false, "a", 1);
	user_expects(0, 1, 0, "a");
	peer_says(FIN | TEXT, false, "", 0);
	user_expects(1, 0, CP_READ_END, NULL);
}

Test(ws_connect, fragments_and_pings)
{
	connected();
	peer_says(TEXT, false, "a\xc3", 2);
	peer_says(FIN | PING, false, "p", 1);
	peer_says(CONTINUED, false, "", 0);
	peer_says(FIN | CONTINUED, false, "\xa4", 1);
	user_expects(0, 2, CP_READ_TEXT | CP_READ_MORE, "a\xc3");
	user_expects(1, 1, CP_READ_TEXT, "\xa4");
	peer_expects(FIN | PONG, "p", 1);
}

Test(ws_connect, large_messages)
{
	enum { SIZE = 300000 };
	char *bytes = malloc(SIZE);
	for (size_t i = 0; i < SIZE; i++)
		bytes[i] = (char)(i * 11 + (i >> 9));
	connected();
	peer_says(FIN | BINARY, false, bytes, SIZE);
	RUN_UNTIL(user->length == SIZE);
	cr_assert(memcmp(user->bytes, bytes, SIZE) == 0);
	cr_assert_not(user->at[user->count - 1].hints & CP_READ_MORE);
	cr_assert_eq(user_writes(bytes, SIZE, 0), SIZE);
	peer_expects(FIN | BINARY, bytes, SIZE);
	free(bytes);
}

/** To a user who reads now and then. */
Test(ws_connect, many_messages_with_pauses)
{
	enum { MESSAGES = 2000 };
	unsigned char one[1100];
	size_t expected = 0;
	connected();
	for (unsigned i = 0; i < MESSAGES; i++) {
		char payload[1000];
		size_t size = (i * 37) % sizeof(payload);
		memset(payload, (int)(i & 0xff), size);
		size_t length = frame(one, FIN | BINARY, false, payload, size);
		expected += size;
		user->reads = i % 100 > 70;
		user->count = 0;
		if (user->reads)
			user_read_all();
		for (size_t at = 0; at < length;) {
			ssize_t put = send(peer, one + at, length - at, MSG_NOSIGNAL);
			at += put > 0 ? (size_t)put : 0;
			if (put < 0) {
				user->reads = true;
				user->count = 0;
				user_read_all();
				turn();
			}
		}
		if (i % 7 == 0)
			turn();
	}
	user->reads = true;
	user->count = 0;
	user_read_all();
	RUN_UNTIL(user->length == expected);
	size_t at = 0;
	for (unsigned i = 0; i < MESSAGES; i++) {
		size_t size = (i * 37) % 1000;
		if (size)
			cr_assert_eq((unsigned char)user->bytes[at + size - 1], (unsigned char)i, "message %u", i);
		at += size;
	}
}

Test(ws_connect, a_close_of_the_server)
{
	connected();
	peer_says_close(4000, false, "bye");
	user_expects(0, 0, CP_READ_END | CP_READ_OVER, NULL);
	cr_assert_eq(user->stream->ops->ending(user->stream)->code, 4000);
	peer_expects_close(4000);
	peer_expects_end();
}

Test(ws_connect, nothing_counts_behind_a_close)
{
	unsigned char bytes[64];
	size_t length = frame(bytes, FIN | CLOSE, false, "\x03\xe8", 2);
	length += frame(bytes + length, FIN | CLOSE, false, "\x03\xe9", 2);
	connected();
	peer_sends(bytes, length);
	user_expects(0, 0, CP_READ_END | CP_READ_OVER, NULL);
	cr_assert_eq(user->stream->ops->ending(user->stream)->code, 1000);
	peer_expects_close(1000);
	peer_expects_end();
}

Test(ws_connect, closing_in_order)
{
	connected();
	user_closes(CP_CAUSE_DONE);
	peer_expects_close(1000);
	peer_says(FIN | BINARY, false, "late", 4);
	peer_says_close(1000, false, "");
	peer_expects_end();
}

Test(ws_connect, closing_for_another_reason)
{
	connected();
	user_closes(CP_CAUSE_CLIENT_RESET);
	peer_expects_close(1011);
	peer_expects_end();
}

Test(ws_connect, the_end_without_a_close_is_a_reset)
{
	connected();
	close(peer);
	peer = -1;
	user_expects(0, CP_ERESET, 0, NULL);
}

Test(ws_connect, what_breaks_the_protocol)
{
	static const struct {
		const char *bytes;
		unsigned length, code;
	} wrongs[] = {
		{"\xc2\x01"
		 "a",
		 3, 1002},
		{"\x83\x01"
		 "a",
		 3, 1002},
		{"\x09\x00", 2, 1002},
		{"\x89\x7e\x00\x7e", 4, 1002},
		{"\x80\x01"
		 "a",
		 3, 1002},
		{"\x02\x01"
		 "a\x82\x01"
		 "a",
		 6, 1002},
		{"\x81\x01\xff", 3, 1007},
	};
	for (size_t i = 0; i < sizeof(wrongs) / sizeof(*wrongs); i++) {
		done_calls = user->count = 0;
		connected();
		peer_sends(wrongs[i].bytes, wrongs[i].length);
		RUN_UNTIL(user->count && user->at[user->count - 1].result < 0);
		cr_assert_eq(user->at[user->count - 1].result, CP_EPROTO, "%zu", i);
		peer_expects_close(wrongs[i].code);
		user_closes(CP_CAUSE_TARGET_PROTOCOL);
		close(peer);
		peer = -1;
	}
}

Test(ws_connect, a_quiet_server_is_pinged)
{
	behaviour.ping_ms = 20;
	behaviour.pong_ms = 20;
	connected();
	peer_expects(FIN | PING, "?", 1);
	user_expects(0, CP_ETIMEOUT, 0, NULL);
	peer_expects_end();
}
