/* A ZeroMQ socket as a message stream.
 *
 *     ZMQ_FD readable ──▶ wake ◀── deferred ◀── after every use: is it ready for what somebody waits for?
 *                          │
 *                          └──▶ the user, for those of READABLE and WRITABLE that are armed and are so
 *
 * The descriptor is edge-triggered in ZeroMQ's own way: using the socket swallows what it would have told. So after
 * every use its state is asked (zmq_getsockopt(3), ZMQ_EVENTS), and what is ready is told at the end of the turn. */
#include "zmq.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

enum { MESSAGE_MOST = 64 << 20 };

struct zmq_stream {
	struct cp_stream base; /* first */
	struct endpoint *endpoint;
	struct cp_watch *watch;
	struct cp_deferred wake;
	unsigned armed; /* CP_READABLE, CP_WRITABLE: what the user waits for */
	bool closed;    /* freed by the deferred call */
	void (*gone)(void *arg);
	void *arg;
	char *in; /* the message being read, its frames joined; kept for the next */
	size_t in_length, in_room;
	size_t in_read; /* … that much of it is */
	bool has_message;
	char *out; /* of a message that is written in pieces: what came so far */
	size_t out_length;
};

static void destroy(struct zmq_stream *s)
{
	free(s->in);
	free(s->out);
	if (s->gone)
		s->gone(s->arg);
	endpoint_unref(s->endpoint);
	cp_stream_deinit(&s->base);
	free(s);
}

/** Tell the user what has become possible. Last: the user may close. */
static void wake(struct zmq_stream *s)
{
	unsigned events = endpoint_ready(s->endpoint);
	if (s->has_message)
		events |= CP_READABLE;
	events &= s->armed;
	s->armed &= ~events;
	if (events)
		cp_stream_notify(&s->base, events);
}

static void on_wake(struct cp_deferred *deferred)
{
	struct zmq_stream *s = (struct zmq_stream *)((char *)deferred - offsetof(struct zmq_stream, wake));
	if (s->closed)
		destroy(s);
	else
		wake(s);
}

static void on_descriptor(int fd, unsigned events, void *arg)
{
	(void)fd, (void)events;
	wake(arg);
}

/** The socket was used, or somebody waits from now on: see whether there is something to tell. */
static void used(struct zmq_stream *s, unsigned arm)
{
	s->armed |= arm;
	if (s->armed && (endpoint_ready(s->endpoint) & s->armed || (s->has_message && s->armed & CP_READABLE)))
		cp_defer(s->base.loop, &s->wake, on_wake);
}

/* ---- Reading ------------------------------------------------------------------------------------------------ */

/** Put bytes behind what there is of the message. */
static int join(struct zmq_stream *s, const void *bytes, size_t length)
{
	if (s->in_length + length > s->in_room) {
		size_t room = 2 * (s->in_length + length) + 64;
		char *in = realloc(s->in, room);
		if (!in)
			return CP_ENOMEM;
		s->in = in;
		s->in_room = room;
	}
	if (length > 0)
		memcpy(s->in + s->in_length, bytes, length);
	s->in_length += length;
	return CP_OK;
}

/** Receive one frame. @return CP_OK, CP_AGAIN or an error */
static int receive_frame(struct zmq_stream *s, bool *more)
{
	zmq_msg_t frame;
	zmq_msg_init(&frame);
	int result = CP_OK;
	if (zmq_msg_recv(&frame, s->endpoint->socket, ZMQ_DONTWAIT) < 0) {
		int errnum = zmq_errno();
		/* EFSM: a REQ that has not asked, a REP that has not answered: it is the other direction's turn. */
		result = errnum == EAGAIN || errnum == EFSM ? CP_AGAIN : (int)cp_err_from_errno(errnum);
	} else {
		unsigned char length = (unsigned char)zmq_msg_size(&frame);
		if (s->endpoint->type == ZMQ_ROUTER && s->in_length == 0) /* a ROUTER's first frame says who sent it */
			result = join(s, &length, 1);
		if (result == CP_OK)
			result = join(s, zmq_msg_data(&frame), zmq_msg_size(&frame));
		*more = zmq_msg_more(&frame);
	}
	zmq_msg_close(&frame);
	return result;
}

/** Receive the next message, unless there is one. All its frames arrive together. */
static int receive(struct zmq_stream *s)
{
	bool more = true;
	if (s->has_message)
		return CP_OK;
	s->in_length = s->in_read = 0;
	while (more) {
		int result = receive_frame(s, &more);
		if (result != CP_OK)
			return result;
	}
	s->has_message = true;
	return CP_OK;
}

static ssize_t stream_read(struct cp_stream *stream, const struct iovec *vec, int count, unsigned *hints)
{
	struct zmq_stream *s = (struct zmq_stream *)stream;
	size_t done = 0;
	if (!s->endpoint->reads)
		return CP_AGAIN;
	int result = receive(s);
	if (result != CP_OK) {
		if (result == CP_AGAIN)
			used(s, CP_READABLE);
		return result;
	}
	for (int i = 0; i < count; i++) {
		size_t left = s->in_length - s->in_read, here = left < vec[i].iov_len ? left : vec[i].iov_len;
		if (here > 0)
			memcpy(vec[i].iov_base, s->in + s->in_read, here);
		s->in_read += here;
		done += here;
	}
	s->has_message = s->in_read < s->in_length;
	if (s->has_message)
		*hints |= CP_READ_MORE;
	used(s, 0);
	return (ssize_t)done;
}

/* ---- Writing ------------------------------------------------------------------------------------------------ */

static size_t total(const struct iovec *vec, int count)
{
	size_t length = 0;
	for (int i = 0; i < count; i++)
		length += vec[i].iov_len;
	return length;
}

/** Put a piece behind those that came before. */
static int gather(struct zmq_stream *s, const struct iovec *vec, int count)
{
	size_t length = total(vec, count);
	if (s->out_length + length > MESSAGE_MOST)
		return CP_ELIMIT;
	char *out = realloc(s->out, s->out_length + length + 1);
	if (!out)
		return CP_ENOMEM;
	s->out = out;
	for (int i = 0; i < count; i++) {
		memcpy(s->out + s->out_length, vec[i].iov_base, vec[i].iov_len);
		s->out_length += vec[i].iov_len;
	}
	return CP_OK;
}

static int send_frame(struct zmq_stream *s, const char *bytes, size_t length, int flags)
{
	if (zmq_send(s->endpoint->socket, bytes, length, flags | ZMQ_DONTWAIT) >= 0)
		return CP_OK;
	int errnum = zmq_errno();
	if (errnum == EAGAIN || errnum == EFSM)
		return CP_AGAIN;
	return errnum == EHOSTUNREACH ? CP_EUNREACHABLE : (int)cp_err_from_errno(errnum);
}

/** What is gathered, as one message; a ROUTER's begins with the length of the identity, and the identity. */
static int send_gathered(struct zmq_stream *s)
{
	if (s->endpoint->type != ZMQ_ROUTER)
		return send_frame(s, s->out, s->out_length, 0);
	size_t identity = s->out_length > 0 ? (unsigned char)s->out[0] : 0;
	if (identity == 0 || identity + 1 > s->out_length)
		return CP_EPROTO;
	int result = send_frame(s, s->out + 1, identity, ZMQ_SNDMORE);
	return result == CP_OK ? send_frame(s, s->out + 1 + identity, s->out_length - identity - 1, 0) : result;
}

/** Whole or not at all: the last piece of a message that does not fit now is given back, and comes again. */
static ssize_t stream_write(struct cp_stream *stream, const struct iovec *vec, int count, unsigned flags)
{
	struct zmq_stream *s = (struct zmq_stream *)stream;
	size_t before = s->out_length;
	if (!s->endpoint->writes)
		return CP_EUNSUPPORTED;
	int result = gather(s, vec, count);
	if (result == CP_OK && !(flags & CP_WRITE_MORE)) {
		result = send_gathered(s);
		if (result == CP_OK) {
			free(s->out);
			s->out = NULL;
			s->out_length = 0;
		} else {
			s->out_length = before;
		}
	}
	used(s, result == CP_AGAIN ? CP_WRITABLE : 0);
	return result == CP_OK ? (ssize_t)total(vec, count) : result;
}

/* ---- The rest ----------------------------------------------------------------------------------------------- */

static int stream_shutdown_write(struct cp_stream *stream)
{
	(void)stream;
	return CP_EUNSUPPORTED; /* ZeroMQ has no end of a conversation */
}

static void stream_await(struct cp_stream *stream, unsigned events)
{
	used((struct zmq_stream *)stream, events);
}

static void stream_close(struct cp_stream *stream, enum cp_cause cause)
{
	struct zmq_stream *s = (struct zmq_stream *)stream;
	(void)cause;
	cp_watch_free(s->watch);
	s->closed = true;
	cp_defer(s->base.loop, &s->wake, on_wake);
}

static const struct cp_stream_ops ops = {
	.size = sizeof(ops),
	.name = "zmq",
	.read = stream_read,
	.write = stream_write,
	.shutdown_write = stream_shutdown_write,
	.close = stream_close,
	.await = stream_await,
};

struct cp_stream *zmq_stream_new(struct cp_loop *loop, struct cp_system *owner, struct endpoint *endpoint,
								 void (*closed)(void *arg), void *arg, struct cp_error *error)
{
	int fd = -1;
	size_t size = sizeof(fd);
	struct zmq_stream *s = calloc(1, sizeof(*s));
	if (!s || zmq_getsockopt(endpoint->socket, ZMQ_FD, &fd, &size) < 0 ||
		!(s->watch = cp_watch_new(loop, fd, CP_READABLE, on_descriptor, s, error))) {
		cp_error_set(error, CP_ENOMEM, NULL, "cannot watch a ZeroMQ socket");
		free(s);
		return NULL;
	}
	cp_stream_init(&s->base, &ops, loop, owner);
	s->base.messages = true;
	s->endpoint = endpoint;
	atomic_fetch_add(&endpoint->refs, 1);
	s->gone = closed;
	s->arg = arg;
	return &s->base;
}
