/** What the tests of websocket streams share: an engine on the loop of the calling thread, a peer that is a bare socket
 * with frames written by hand, and a user who keeps a record of what it reads.
 *
 * Nothing waits for a time: tests run the loop until what they wait for has happened; a watchdog ends a test that waits
 * in vain. */
#ifndef TESTS_UNIT_WS_FIXTURE_H
#define TESTS_UNIT_WS_FIXTURE_H

#include "../../systems/ws/ws.h"
#include "loop/loop.h"

#include <connpipe/stream.h>

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WATCHDOG_MS = 30000, READS_MOST = 4096, IN_MOST = 4 << 20 };

enum {
	FIN = 0x80,
	RSV1 = 0x40,
	CONTINUED = 0,
	TEXT = 1,
	BINARY = 2,
	CLOSE = 8,
	PING = 9,
	PONG = 10,
};

/** One result of a read that got something, or the end, or an error. */
struct one_read {
	ssize_t result;
	unsigned hints;
	char *bytes; /* into user.bytes */
};

struct user {
	struct cp_stream *stream;
	bool reads;  /* when it can */
	size_t room; /* of its vectors; 0: much */
	struct one_read at[READS_MOST];
	unsigned count;
	char bytes[IN_MOST];
	size_t length;
	unsigned writable;                                           /* calls */
	void (*on_ready)(struct cp_stream *stream, unsigned events); /* instead of all that */
};

static struct cp_loop *loop;
static struct user *user;
static int peer = -1; /* the other end of the socket, non-blocking */
static struct cp_timer watchdog;
static struct ws_behaviour behaviour;

static const char key_text[] = "dGhlIHNhbXBsZSBub25jZQ==";
static const struct ws_text key = {key_text, WS_KEY_LENGTH};

static inline void on_watchdog(struct cp_timer *timer)
{
	(void)timer;
	cr_assert_fail("waited %d ms in vain", WATCHDOG_MS);
}

static inline void fixture_start(void)
{
	struct cp_error error = {0};
	loop = loop_new(0, &error);
	cr_assert(loop, "%s", error.message);
	loop_set_workers(&loop, 1);
	cr_assert_eq(ws_engines_start(NULL, &error), CP_OK, "%s", error.message);
	cr_assert_eq(ws_engine_use(loop, &error), CP_OK, "%s", error.message);
	user = calloc(1, sizeof(*user));
	user->reads = true;
	behaviour = (struct ws_behaviour){0};
	cp_timer_init(&watchdog, loop, on_watchdog);
	cp_timer_start(&watchdog, WATCHDOG_MS);
}

static inline void fixture_stop(void)
{
	cp_timer_stop(&watchdog);
	if (user->stream)
		cp_stream_close(user->stream, CP_CAUSE_KILLED);
	if (peer >= 0)
		close(peer);
	peer = -1;
	ws_engine_leave(loop);
	loop_set_workers(NULL, 0);
	loop_free(loop);
	free(user);
}

/* ---- The loop ----------------------------------------------------------------------------------------------- */

static inline void on_turn(struct cp_deferred *deferred)
{
	(void)deferred;
	loop_stop(loop);
}

/** One turn, which does not wait. */
static inline void turn(void)
{
	struct cp_deferred deferred = {0};
	cp_defer(loop, &deferred, on_turn);
	while (deferred.queued)
		loop_run(loop);
}

static inline void turns(int count)
{
	while (count-- > 0)
		turn();
}

static inline void on_tick(struct cp_timer *timer)
{
	(void)timer;
	loop_stop(loop);
}

/** Run the loop until the condition holds, which is looked at after every event, and at least every 20 ms. */
#define RUN_UNTIL(condition)                 \
	while (!(condition)) {                   \
		struct cp_timer tick;                \
		turn();                              \
		if (condition)                       \
			break;                           \
		cp_timer_init(&tick, loop, on_tick); \
		cp_timer_start(&tick, 1);            \
		loop_run(loop);                      \
		cp_timer_stop(&tick);                \
	}

/* ---- The user ----------------------------------------------------------------------------------------------- */

/** @return what the read returned; it is noted, unless it was CP_AGAIN */
static inline ssize_t user_read(unsigned *hints)
{
	struct iovec vec = {user->bytes + user->length, user->room ? user->room : sizeof(user->bytes) - user->length};
	ssize_t got = cp_stream_readv(user->stream, &vec, 1, hints);
	if (got == CP_AGAIN)
		return got;
	cr_assert_lt(user->count, READS_MOST);
	user->at[user->count++] = (struct one_read){got, *hints, vec.iov_base};
	user->length += got > 0 ? (size_t)got : 0;
	return got;
}

static inline void user_read_all(void)
{
	unsigned hints;
	ssize_t got;
	do {
		got = user_read(&hints);
	} while (got >= 0 && !(hints & (CP_READ_DRAINED | CP_READ_END)));
}

static inline void on_user_ready(struct cp_stream *stream, unsigned events, void *arg)
{
	(void)arg;
	if (user->on_ready) {
		user->on_ready(stream, events);
		return;
	}
	if (events & CP_WRITABLE)
		user->writable++;
	if (events & CP_READABLE && user->reads)
		user_read_all();
}

static inline void user_has(struct cp_stream *stream)
{
	user->stream = stream;
	cp_stream_set_user(stream, on_user_ready, NULL);
	if (user->reads)
		user_read_all();
}

static inline void user_closes(enum cp_cause cause)
{
	cp_stream_close(user->stream, cause);
	user->stream = NULL;
}

static inline void user_expects(unsigned index, ssize_t result, unsigned hints, const char *bytes)
{
	RUN_UNTIL(user->count > index);
	const struct one_read *r = &user->at[index];
	cr_assert_eq(r->result, result, "read %u: %zd, not %zd", index, r->result, result);
	cr_assert_eq(r->hints & ~CP_READ_DRAINED, hints, "read %u: hints %#x, not %#x", index, r->hints, hints);
	if (bytes)
		cr_assert_arr_eq(r->bytes, bytes, (size_t)result);
}

static inline ssize_t user_writes(const void *bytes, size_t length, unsigned flags)
{
	struct iovec vec = {(void *)(uintptr_t)bytes, length};
	return cp_stream_writev(user->stream, &vec, 1, flags);
}

/* ---- The peer ----------------------------------------------------------------------------------------------- */

static inline void peer_sends(const void *bytes, size_t length)
{
	const char *at = bytes;
	while (length) {
		ssize_t put = send(peer, at, length, MSG_NOSIGNAL);
		if (put > 0) {
			at += put;
			length -= (size_t)put;
		} else {
			cr_assert(errno == EAGAIN, "the peer sends: %s", strerror(errno));
			turn();
		}
	}
}

/** Write a frame to `out`. @param first  FIN, RSV1 and opcode @return its length */
static inline size_t frame(unsigned char *out, unsigned first, bool masked, const void *bytes, size_t length)
{
	static const unsigned char mask[4] = {0x37, 0xfa, 0x21, 0x3d};
	unsigned char *at = out, bit = masked ? 0x80 : 0;
	*at++ = (unsigned char)first;
	if (length < 126) {
		*at++ = (unsigned char)(bit | length);
	} else if (length < 65536) {
		*at++ = bit | 126;
		*at++ = (unsigned char)(length >> 8);
		*at++ = (unsigned char)length;
	} else {
		*at++ = bit | 127;
		for (int i = 7; i >= 0; i--)
			*at++ = (unsigned char)((uint64_t)length >> (8 * i));
	}
	if (masked) {
		memcpy(at, mask, 4);
		at += 4;
	}
	for (size_t i = 0; i < length; i++)
		*at++ = ((const unsigned char *)bytes)[i] ^ (masked ? mask[i & 3] : 0);
	return (size_t)(at - out);
}

static inline void peer_says(unsigned first, bool masked, const void *bytes, size_t length)
{
	unsigned char *out = malloc(length + 14);
	peer_sends(out, frame(out, first, masked, bytes, length));
	free(out);
}

static inline void peer_says_close(unsigned code, bool masked, const char *reason)
{
	unsigned char bytes[125] = {(unsigned char)(code >> 8), (unsigned char)code};
	size_t length = strlen(reason);
	memcpy(bytes + 2, reason, length);
	peer_says(FIN | CLOSE, masked, bytes, code ? 2 + length : 0);
}

/** Read exactly so much. @return false: the connection has ended before that */
static inline bool peer_gets(void *bytes, size_t length)
{
	char *at = bytes;
	while (length) {
		ssize_t got = recv(peer, at, length, 0);
		if (got > 0) {
			at += got;
			length -= (size_t)got;
		} else if (got < 0 && errno == EAGAIN) {
			struct cp_timer tick;
			turn();
			cp_timer_init(&tick, loop, on_tick);
			cp_timer_start(&tick, 1);
			loop_run(loop);
			cp_timer_stop(&tick);
		} else {
			return false;
		}
	}
	return true;
}

struct got_frame {
	unsigned first; /* FIN, RSV, opcode */
	bool masked;
	size_t length;
	unsigned char *bytes; /* unmasked; free() */
};

static inline struct got_frame peer_gets_frame(void)
{
	unsigned char head[8], mask[4] = {0};
	struct got_frame f = {0};
	cr_assert(peer_gets(head, 2), "the connection ended where a frame was expected");
	f.first = head[0];
	f.masked = head[1] & 0x80;
	f.length = head[1] & 0x7f;
	if (f.length >= 126) {
		size_t more = f.length == 126 ? 2 : 8;
		cr_assert(peer_gets(head, more));
		f.length = 0;
		for (size_t i = 0; i < more; i++)
			f.length = f.length << 8 | head[i];
	}
	if (f.masked)
		cr_assert(peer_gets(mask, 4));
	f.bytes = malloc(f.length + 1);
	cr_assert(peer_gets(f.bytes, f.length));
	for (size_t i = 0; i < f.length; i++)
		f.bytes[i] ^= mask[i & 3];
	return f;
}

static inline void peer_expects(unsigned first, const void *bytes, size_t length)
{
	struct got_frame f = peer_gets_frame();
	cr_assert_eq(f.first, first, "a frame %#x of %zu bytes, not %#x", f.first, f.length, first);
	cr_assert_eq(f.length, length, "a frame of %zu bytes, not %zu", f.length, length);
	cr_assert_arr_eq(f.bytes, bytes, length);
	free(f.bytes);
}

/** @param code  0: none */
static inline void peer_expects_close(unsigned code)
{
	struct got_frame f = peer_gets_frame();
	cr_assert_eq(f.first, FIN | CLOSE, "a frame %#x, not a close", f.first);
	cr_assert_eq(f.length >= 2 ? (unsigned)(f.bytes[0] << 8 | f.bytes[1]) : 0, code, "close %u, not %u",
				 f.length >= 2 ? (unsigned)(f.bytes[0] << 8 | f.bytes[1]) : 0, code);
	free(f.bytes);
}

/** Nothing more comes: the connection ends. */
static inline void peer_expects_end(void)
{
	char byte;
	cr_assert_not(peer_gets(&byte, 1), "a byte %#x where the end was expected", byte);
}

/* ---- Both --------------------------------------------------------------------------------------------------- */

/** A connected pair of sockets: `peer`, and the one that is returned. */
static inline int make_pair(void)
{
	int ends[2];
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
	peer = ends[0];
	return ends[1];
}

/** Read an HTTP head, without a byte more. */
static inline void peer_gets_head(char *head, size_t room)
{
	size_t length = 0;
	while (length < 4 || memcmp(head + length - 4, "\r\n\r\n", 4) != 0) {
		cr_assert_lt(length + 1, room);
		cr_assert(peer_gets(head + length, 1), "the connection ended inside a head");
		length++;
	}
	head[length] = '\0';
}

static inline struct cp_stream *accept_websocket(int fd, const char *headers, const struct ws_text *extensions)
{
	struct cp_error error = {0};
	struct cp_stream *stream = ws_accept(loop, fd, &key, headers, extensions, &behaviour, NULL, &error);
	cr_assert(stream, "%s", error.message);
	return stream;
}

/** A websocket that was accepted: the user has it, and the peer has read the answer. */
static inline void accepted(void)
{
	char head[1024];
	user_has(accept_websocket(make_pair(), NULL, NULL));
	peer_gets_head(head, sizeof(head));
}

#endif
