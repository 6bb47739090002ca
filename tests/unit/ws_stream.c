/* Websocket streams on the accepting side: what comes and what goes. Frames are those of RFC 6455, section 5. */
#include "ws_fixture.h"

#include <malloc.h>
#include <netinet/in.h>

TestSuite(ws_stream, .init = fixture_start, .fini = fixture_stop, .timeout = 60);

Test(ws_stream, the_answer_is_the_one_of_rfc_6455)
{
	char head[1024];
	user_has(accept_websocket(make_pair(), "Sec-WebSocket-Protocol: chat\r\nX-More: 1\r\n", NULL));
	peer_gets_head(head, sizeof(head));
	cr_assert_eq(strncmp(head, "HTTP/1.1 101 ", 13), 0, "%s", head);
	cr_assert(strstr(head, "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "%s", head);
	cr_assert(strstr(head, "\r\nUpgrade: WebSocket\r\n"), "%s", head);
	cr_assert(strstr(head, "\r\nConnection: Upgrade\r\n"), "%s", head);
	cr_assert(strstr(head, "\r\nSec-WebSocket-Protocol: chat\r\nX-More: 1\r\n\r\n"), "%s", head);
}

Test(ws_stream, messages_both_ways)
{
	accepted();
	peer_says(FIN | TEXT, true, "Hello", 5);
	user_expects(0, 5, CP_READ_TEXT, "Hello");
	peer_says(FIN | BINARY, true, "\0\1", 2);
	user_expects(1, 2, 0, "\0\1");
	cr_assert_eq(user_writes("abc", 3, 0), 3);
	peer_expects(FIN | BINARY, "abc", 3);
	cr_assert_eq(user_writes("def", 3, CP_WRITE_TEXT), 3);
	peer_expects(FIN | TEXT, "def", 3);
}

Test(ws_stream, a_frame_may_come_in_one_segment_with_the_request)
{
	int fd = make_pair();
	peer_says(FIN | TEXT, true, "early", 5);
	user_has(accept_websocket(fd, NULL, NULL));
	user_expects(0, 5, CP_READ_TEXT, "early");
}

/* ---- Reading ------------------------------------------------------------------------------------------------ */

Test(ws_stream, fragments_are_pieces_of_one_message)
{
	accepted();
	peer_says(TEXT, true, "Hel", 3);
	user_expects(0, 3, CP_READ_TEXT | CP_READ_MORE, "Hel");
	peer_says(CONTINUED, true, "l", 1);
	user_expects(1, 1, CP_READ_TEXT | CP_READ_MORE, "l");
	peer_says(FIN | CONTINUED, true, "o", 1);
	user_expects(2, 1, CP_READ_TEXT, "o");
	peer_says(FIN | BINARY, true, "next", 4);
	user_expects(3, 4, 0, "next");
}

Test(ws_stream, empty_messages_and_empty_fragments)
{
	accepted();
	peer_says(FIN | BINARY, true, "", 0);
	user_expects(0, 0, 0, NULL);
	peer_says(FIN | TEXT, true, "", 0);
	user_expects(1, 0, CP_READ_TEXT, NULL);
	peer_says(BINARY, true, "", 0); /* says nothing */
	peer_says(CONTINUED, true, "ab", 2);
	user_expects(2, 2, CP_READ_MORE, "ab");
	peer_says(FIN | CONTINUED, true, "", 0); /* says that it was all */
	user_expects(3, 0, 0, NULL);
}

Test(ws_stream, every_form_of_length)
{
	static const size_t lengths[] = {1, 125, 126, 127, 65535, 65536, 65537, 1000000};
	char *bytes = malloc(1000000);
	size_t before = 0;
	accepted();
	for (size_t i = 0; i < 1000000; i++)
		bytes[i] = (char)(i * 7 + (i >> 8));
	for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		unsigned last;
		peer_says(FIN | BINARY, true, bytes, lengths[i]);
		RUN_UNTIL(user->length == before + lengths[i]);
		last = user->count - 1;
		cr_assert_not(user->at[last].hints & CP_READ_MORE, "%zu", lengths[i]);
		cr_assert(memcmp(user->bytes + before, bytes, lengths[i]) == 0, "%zu", lengths[i]);
		before += lengths[i];
		cr_assert_eq(user_writes(bytes, lengths[i], 0), (ssize_t)lengths[i]);
		peer_expects(FIN | BINARY, bytes, lengths[i]);
	}
	free(bytes);
}

/** The same frames however they are cut into segments. */
static size_t mixed_frames(unsigned char *out)
{
	size_t length = frame(out, TEXT, true, "a\xc3", 2);
	length += frame(out + length, FIN | PING, true, "p", 1);
	length += frame(out + length, CONTINUED, true, "\xa4", 1);
	length += frame(out + length, FIN | PONG, true, "", 0);
	length += frame(out + length, FIN | CONTINUED, true, "b", 1);
	length += frame(out + length, FIN | BINARY, true, "", 0);
	length += frame(out + length, FIN | BINARY, true, "next", 4);
	return length;
}

/** Whole messages, in whatever pieces they come. */
static void expect_mixed(void)
{
	static const struct {
		const char *text;
		unsigned hints;
	} messages[] = {{"a\xc3\xa4"
					 "b",
					 CP_READ_TEXT},
					{"", 0},
					{"next", 0}};
	unsigned at = 0;
	for (unsigned i = 0; i < 3; i++) {
		char text[16] = "";
		for (bool more = true; more; at++) {
			RUN_UNTIL(user->count > at);
			cr_assert_geq(user->at[at].result, 0);
			strncat(text, user->at[at].bytes, (size_t)user->at[at].result);
			more = user->at[at].hints & CP_READ_MORE;
			cr_assert_eq(user->at[at].hints & CP_READ_TEXT, messages[i].hints);
		}
		cr_assert_str_eq(text, messages[i].text);
	}
	peer_expects(FIN | PONG, "p", 1);
}

Test(ws_stream, frames_in_one_segment)
{
	unsigned char bytes[256];
	accepted();
	peer_sends(bytes, mixed_frames(bytes));
	expect_mixed();
}

Test(ws_stream, frames_byte_by_byte)
{
	unsigned char bytes[256];
	size_t length = mixed_frames(bytes);
	accepted();
	for (size_t i = 0; i < length; i++) {
		peer_sends(bytes + i, 1);
		turns(2);
	}
	expect_mixed();
}

Test(ws_stream, who_takes_little_at_a_time_gets_all)
{
	accepted();
	user->room = 3;
	peer_says(FIN | TEXT, true, "abcdefgh", 8);
	user_expects(0, 3, CP_READ_TEXT | CP_READ_MORE, "abc");
	user_expects(1, 3, CP_READ_TEXT | CP_READ_MORE, "def");
	user_expects(2, 2, CP_READ_TEXT, "gh");
}

/** The user reads nothing: the peer can send until the buffers are full, and no more. Then it reads. */
Test(ws_stream, a_user_who_does_not_read_stops_the_peer)
{
	enum { PAYLOAD = 1000, FRAME = 1008, MOST = 2 << 20 };
	unsigned char one[FRAME + 8];
	unsigned char payload[PAYLOAD];
	unsigned sent = 0;
	size_t rest = 0;
	accepted();
	user->reads = false;
	while (rest == 0) {
		memset(payload, (int)(sent & 0xff), sizeof(payload));
		size_t length = frame(one, FIN | BINARY, true, payload, sizeof(payload));
		ssize_t put = send(peer, one, length, MSG_NOSIGNAL);
		if (put < 0) {
			turns(20);
			put = send(peer, one, length, MSG_NOSIGNAL);
			if (put < 0)
				break;
		}
		sent++;
		rest = length - (size_t)put;
		if (rest) {
			turns(20);
			peer_sends(one + put, 0);
			memmove(one, one + put, rest);
		}
		cr_assert_lt(sent, MOST / PAYLOAD, "nothing stops the peer");
	}
	cr_assert_leq(user->count, 1);
	user->reads = true;
	user_read_all();
	if (rest)
		peer_sends(one, rest);
	RUN_UNTIL(user->length == (size_t)sent * PAYLOAD);
	for (unsigned i = 0; i < sent; i++)
		cr_assert_eq((unsigned char)user->bytes[(size_t)i * PAYLOAD + i % PAYLOAD], (unsigned char)i, "message %u", i);
}

static uint32_t random_state = 1;

static uint32_t random_below(uint32_t most)
{
	random_state = random_state * 1103515245 + 12345;
	return (random_state >> 8) % most;
}

/** Frames of any size, cut anywhere, to a user who reads now and then, and little. */
Test(ws_stream, any_sizes_any_cuts_any_pauses)
{
	enum { MESSAGES = 600, MOST = 40000 };
	unsigned char *wire = malloc((size_t)MESSAGES * (MOST + 14)), *payload = malloc(MOST);
	char *sent = malloc((size_t)MESSAGES * MOST);
	size_t length = 0, sent_length = 0, at = 0;
	unsigned messages = 0;
	accepted();
	for (unsigned i = 0; i < MESSAGES; i++) {
		size_t size = random_below(4) ? random_below(300) : random_below(MOST);
		for (size_t k = 0; k < size; k++)
			payload[k] = (unsigned char)random_below(256);
		if (sent_length + size > 3 << 20)
			break;
		length += frame(wire + length, FIN | BINARY, true, payload, size);
		memcpy(sent + sent_length, payload, size);
		sent_length += size;
		messages++;
	}
	while (at < length || user->length < sent_length) {
		size_t piece = random_below(3) ? random_below(100) : random_below(100000);
		piece = piece < length - at ? piece : length - at;
		ssize_t put = send(peer, wire + at, piece, MSG_NOSIGNAL);
		at += put > 0 ? (size_t)put : 0;
		user->reads = random_below(3) == 0;
		user->room = random_below(2) ? 1 + random_below(70000) : 0;
		if (user->reads && user->count < READS_MOST - 200)
			user_read_all();
		else if (user->count >= READS_MOST - 200)
			user->count = 0;
		turn();
	}
	cr_assert_eq(user->length, sent_length);
	cr_assert(memcmp(user->bytes, sent, sent_length) == 0);
	free(wire);
	free(payload);
	free(sent);
}

/* ---- Writing ------------------------------------------------------------------------------------------------ */

Test(ws_stream, pieces_of_a_message_are_fragments)
{
	accepted();
	cr_assert_eq(user_writes("ab", 2, CP_WRITE_MORE | CP_WRITE_TEXT), 2);
	cr_assert_eq(user_writes("cd", 2, CP_WRITE_MORE | CP_WRITE_TEXT), 2);
	cr_assert_eq(user_writes("", 0, CP_WRITE_TEXT), 0);
	cr_assert_eq(user_writes("next", 4, 0), 4);
	peer_expects(TEXT, "ab", 2);
	peer_expects(CONTINUED, "cd", 2);
	peer_expects(FIN | CONTINUED, "", 0);
	peer_expects(FIN | BINARY, "next", 4);
}

Test(ws_stream, vectors_are_one_message)
{
	struct iovec vec[] = {{(char *)(uintptr_t) "ab", 2}, {NULL, 0}, {(char *)(uintptr_t) "cde", 3}};
	accepted();
	cr_assert_eq(cp_stream_writev(user->stream, vec, 3, 0), 5);
	peer_expects(FIN | BINARY, "abcde", 5);
}

/** The peer does not read: the user can write until the buffers are full; then it is called when there is room. */
Test(ws_stream, a_peer_that_does_not_read_stops_the_user)
{
	enum { SIZE = 5000 };
	char bytes[SIZE];
	unsigned written = 0;
	accepted();
	for (;;) {
		memset(bytes, (int)(written & 0xff), SIZE);
		ssize_t put = user_writes(bytes, SIZE, 0);
		if (put == CP_AGAIN)
			break;
		cr_assert_eq(put, SIZE, "a message is taken whole or not at all");
		cr_assert_lt(++written, 1000, "nothing stops the user");
	}
	turns(10);
	cr_assert_eq(user->writable, 0, "the user was called too early");
	cr_assert_eq(user_writes(bytes, SIZE, 0), CP_AGAIN);
	for (unsigned i = 0; i < written; i++) {
		memset(bytes, (int)(i & 0xff), SIZE);
		peer_expects(FIN | BINARY, bytes, SIZE);
	}
	RUN_UNTIL(user->writable);
	cr_assert_eq(user_writes("x", 1, 0), 1);
	peer_expects(FIN | BINARY, "x", 1);
}

Test(ws_stream, who_waits_for_writing_is_called)
{
	accepted();
	cp_stream_await(user->stream, CP_WRITABLE);
	RUN_UNTIL(user->writable);
}

static void echo(struct cp_stream *stream, unsigned events)
{
	static char bytes[65536];
	struct iovec vec = {bytes, sizeof(bytes)};
	unsigned hints;
	(void)events;
	for (;;) {
		vec.iov_len = sizeof(bytes);
		ssize_t got = cp_stream_readv(stream, &vec, 1, &hints);
		if (got < 0)
			return;
		vec.iov_len = (size_t)got;
		cr_assert_eq(
			cp_stream_writev(stream, &vec, 1,
							 (hints & CP_READ_MORE ? CP_WRITE_MORE : 0u) | (hints & CP_READ_TEXT ? CP_WRITE_TEXT : 0u)),
			got);
		user->count++;
	}
}

Test(ws_stream, writing_where_one_is_called_for_reading)
{
	accepted();
	user->on_ready = echo;
	for (int i = 0; i < 100; i++) {
		peer_says(TEXT, true, "ab", 2);
		peer_says(FIN | CONTINUED, true, "cd", 2);
		peer_says(FIN | BINARY, true, "e", 1);
		peer_expects(TEXT, "ab", 2);
		peer_expects(FIN | CONTINUED, "cd", 2);
		peer_expects(FIN | BINARY, "e", 1);
	}
}

/* ---- Pings -------------------------------------------------------------------------------------------------- */

Test(ws_stream, pings_are_answered_wherever_they_come)
{
	char most[125];
	memset(most, 'm', sizeof(most));
	accepted();
	peer_says(FIN | PING, true, "", 0);
	peer_expects(FIN | PONG, "", 0);
	peer_says(BINARY, true, "a", 1);
	peer_says(FIN | PING, true, most, sizeof(most));
	peer_expects(FIN | PONG, most, sizeof(most));
	peer_says(FIN | CONTINUED, true, "b", 1);
	user_expects(1, 1, 0, "b");
	cr_assert_eq(user_writes("c", 1, CP_WRITE_MORE), 1);
	peer_says(FIN | PING, true, "inside", 6);
	peer_expects(BINARY, "c", 1);
	peer_expects(FIN | PONG, "inside", 6);
	cr_assert_eq(user_writes("d", 1, 0), 1);
	peer_expects(FIN | CONTINUED, "d", 1);
}

Test(ws_stream, pongs_that_nobody_asked_for_are_nothing)
{
	accepted();
	peer_says(FIN | PONG, true, "x", 1);
	peer_says(FIN | PONG, true, "", 0);
	peer_says(FIN | BINARY, true, "a", 1);
	user_expects(0, 1, 0, "a");
}

Test(ws_stream, a_ping_while_the_peer_does_not_read_is_answered_behind)
{
	char bytes[5000] = {0};
	unsigned written = 0;
	accepted();
	while (user_writes(bytes, sizeof(bytes), 0) != CP_AGAIN)
		written++;
	peer_says(FIN | PING, true, "late", 4);
	turns(10);
	for (unsigned i = 0; i < written; i++)
		peer_expects(FIN | BINARY, bytes, sizeof(bytes));
	peer_expects(FIN | PONG, "late", 4);
}

Test(ws_stream, a_quiet_peer_is_pinged_and_stays_if_it_answers)
{
	behaviour.ping_ms = 40;
	behaviour.pong_ms = 20000;
	accepted();
	for (int i = 0; i < 3; i++) {
		struct got_frame f = peer_gets_frame();
		cr_assert_eq(f.first, FIN | PING);
		peer_says(FIN | PONG, true, f.bytes, f.length);
		free(f.bytes);
	}
	peer_says(FIN | BINARY, true, "a", 1);
	user_expects(0, 1, 0, "a");
}

Test(ws_stream, a_peer_that_does_not_answer_a_ping_is_gone)
{
	behaviour.ping_ms = 20;
	behaviour.pong_ms = 20;
	accepted();
	peer_expects(FIN | PING, "?", 1);
	user_expects(0, CP_ETIMEOUT, 0, NULL);
	peer_expects_end();
}

/** A download that takes longer than the patience with pings is no reason to break it. */
Test(ws_stream, a_peer_that_reads_slowly_lives)
{
	char bytes[5000] = {0};
	unsigned written = 0;
	behaviour.ping_ms = 20;
	behaviour.pong_ms = 40;
	accepted();
	while (user_writes(bytes, sizeof(bytes), 0) != CP_AGAIN)
		written++;
	for (unsigned i = 0; i < written && user->count == 0; i++) {
		struct got_frame f = peer_gets_frame();
		free(f.bytes);
		for (int k = 0; k < 2; k++) { /* some milliseconds */
			struct cp_timer tick;
			cp_timer_init(&tick, loop, on_tick);
			cp_timer_start(&tick, 1);
			loop_run(loop);
			cp_timer_stop(&tick);
		}
	}
	cr_assert_eq(user->count, 0, "it was broken: %zd", user->at[0].result);
}

static void run_for(unsigned ms)
{
	struct cp_timer tick;
	uint64_t until = cp_loop_now(loop) + ms;
	while (cp_loop_now(loop) < until) {
		cp_timer_init(&tick, loop, on_tick);
		cp_timer_start(&tick, 1);
		loop_run(loop);
		cp_timer_stop(&tick);
	}
}

/** As make_pair(), over TCP. */
static int make_tcp_pair(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	cr_assert_eq(listen(listener, 1), 0);
	cr_assert_eq(getsockname(listener, (struct sockaddr *)&address, &length), 0);
	peer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(connect(peer, (struct sockaddr *)&address, sizeof(address)), 0);
	cr_assert_eq(fcntl(peer, F_SETFL, O_NONBLOCK), 0);
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	cr_assert_geq(fd, 0);
	close(listener);
	return fd;
}

/** For much longer than a ping's answer may take. @param fd  the connection, whose other end is `peer` */
static void stalls(int fd)
{
	char bytes[5000] = {0}, head[1024];
	unsigned written = 0;
	behaviour.ping_ms = 20;
	behaviour.pong_ms = 20;
	user_has(accept_websocket(fd, NULL, NULL));
	peer_gets_head(head, sizeof(head));
	while (user_writes(bytes, sizeof(bytes), 0) != CP_AGAIN)
		written++;
	run_for(200);
	cr_assert_eq(user->count, 0, "it was broken: %zd", user->at[0].result);
	for (unsigned i = 0; i < written; i++)
		peer_expects(FIN | BINARY, bytes, sizeof(bytes));
}

Test(ws_stream, a_peer_that_stalls_over_tcp_loses_nothing)
{
	stalls(make_tcp_pair());
}

Test(ws_stream, a_peer_that_stalls_behind_a_bridge_loses_nothing)
{
	stalls(make_pair());
}

/** The ping arrives late, and is answered in time. */
Test(ws_stream, a_ping_that_waited_may_be_answered)
{
	behaviour.ping_ms = 20;
	behaviour.pong_ms = 300;
	accepted();
	run_for(340); /* it is unread for longer than an answer may take */
	peer_expects(FIN | PING, "?", 1);
	run_for(100);
	peer_says(FIN | PONG, true, "?", 1);
	peer_says(FIN | BINARY, true, "a", 1);
	user_expects(0, 1, 0, "a");
}

/** @return the opcode of the next frame that is no ping */
static unsigned peer_gets_no_ping(void)
{
	struct got_frame f;
	do {
		f = peer_gets_frame();
		free(f.bytes);
	} while (f.first == (FIN | PING));
	return f.first;
}

Test(ws_stream, who_does_not_read_says_that_it_is_there)
{
	behaviour.ping_ms = 20;
	user->reads = false;
	accepted();
	peer_says(FIN | BINARY, true, "a", 1);
	for (int i = 0; i < 3; i++)
		cr_assert_eq(peer_gets_no_ping(), FIN | PONG);
	user_read_all();
	user_expects(0, 1, 0, "a");
}

Test(ws_stream, who_reads_sends_no_pongs_of_its_own)
{
	behaviour.ping_ms = 20;
	accepted();
	peer_says(FIN | BINARY, true, "a", 1);
	user_expects(0, 1, 0, "a");
	for (int i = 0; i < 4; i++)
		peer_expects(FIN | PING, "?", 1);
}

Test(ws_stream, no_ping_goes_behind_a_close)
{
	behaviour.ping_ms = 20;
	accepted();
	cr_assert_eq(cp_stream_shutdown_write(user->stream), CP_OK);
	peer_expects_close(1000);
	run_for(80);
	peer_says_close(1000, true, "");
	peer_expects_end();
}

/* ---- Many ------------------------------------------------------------------------------------------------------- */

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

static size_t heap(void)
{
	struct mallinfo2 info = mallinfo2();
	return info.uordblks + info.hblkhd;
}

/** Ours and libwebsockets' parts of an idle websocket that has carried a message. */
Test(ws_stream, an_idle_websocket_is_small)
{
	enum { MANY = 500, MOST = 4096 };
	int peers[MANY];
	struct cp_stream *streams[MANY];
	behaviour = (struct ws_behaviour){.ping_ms = 30000, .pong_ms = 20000};
	size_t before = heap();
	for (int i = 0; i < MANY; i++) {
		user->count = 0;
		user->length = 0;
		accepted();
		peers[i] = peer;
		streams[i] = user->stream;
		peer_says(FIN | BINARY, true, "hello", 5);
		user_expects(0, 5, 0, "hello");
	}
	size_t each = (heap() - before) / MANY;
	cr_assert_lt(each, MOST, "%zu bytes", each);
	for (int i = 0; i < MANY; i++) {
		cp_stream_close(streams[i], CP_CAUSE_KILLED);
		close(peers[i]);
	}
	user->stream = NULL;
	peer = -1;
}

#endif
