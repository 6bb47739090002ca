/* The stream over a socket.
 *
 * One persistent event watches for reading and for the peer's end of file; it is added when a read finds nothing more
 * (not before: the first bytes are often there at once). It has two modes:
 *
 *     level  at first. A read that gets less than it asked for has drained the socket, without another call that says
 *            EAGAIN: if an end or an error was there already, epoll reports it again.
 *       │    reported again although nobody waits for it (the user does not read: backpressure)
 *       ▼
 *     edge   for good: silent while nobody reads. But what was reported once is not reported again (a reset that came
 *            together with data, and libevent does not tell errors from data), so reads go on until EAGAIN.
 *
 * libevent gives EV_CLOSED when the peer has shut down its side (EPOLLRDHUP). It is kept: from then on reads go on
 * until the end of file. A short read is not proof of it: recv() also stops short at urgent bytes (tcp(7)), and what is
 * behind them would be lost.
 *
 * Behind the end of file the level event would report without end, so it goes; the user who wants to know about a reset
 * that comes later arms again, and gets an edge event.
 *
 * A second event for writing exists only while a write waits, and until the first wake-up that nobody waited for. */
#include <connpipe/stream.h>

#include "../base/memory.h"
#include "../loop/loop.h"
#include "store.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct fd_stream {
	struct cp_stream stream; /* first */
	struct event readable;
	struct event *writable; /* NULL: no write has waited */
	int fd;
	bool watching : 1;    /* `readable` is added */
	bool edge : 1;        /* … edge-triggered */
	bool armed : 1;       /* the user waits for it */
	bool wants_write : 1; /* a write waits */
	bool peer_closed : 1; /* the peer's end of file has arrived, maybe behind data */
	bool ended : 1;       /* and was read */
	bool written : 1;     /* something was written */
	bool reset : 1;         /* the error was taken from the socket already: it comes behind what can be read */
	bool tcp : 1;
	bool nodelay : 1; /* TCP_NODELAY is set */
};

static struct fd_stream *fd_stream(struct cp_stream *stream)
{
	return (struct fd_stream *)stream;
}

static void on_readable(evutil_socket_t fd, short what, void *arg);

static int watch(struct fd_stream *s)
{
	short mode = EV_READ | EV_CLOSED | EV_PERSIST | (s->edge ? EV_ET : 0);
	if (event_assign(&s->readable, s->stream.loop->base, s->fd, mode, on_readable, s) < 0 ||
		event_add(&s->readable, NULL) < 0)
		return CP_ENOMEM;
	s->watching = true;
	return CP_OK;
}

static void unwatch(struct fd_stream *s)
{
	if (s->watching)
		event_del(&s->readable);
	s->watching = false;
}

/** The user wants to be called. An event that is added reports what is there already, so nothing is missed. */
static int arm_read(struct fd_stream *s)
{
	s->armed = true;
	return s->watching ? CP_OK : watch(s);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	struct fd_stream *s = arg;
	if (what & EV_CLOSED)
		s->peer_closed = true;
	if (s->armed) {
		s->armed = false;
		cp_stream_notify(&s->stream, CP_READABLE);
	} else if (!s->edge) {
		s->edge = true;
		unwatch(s);
		watch(s); /* no memory: as with a stalled peer, time-outs end it */
	}
}

static void writable_free(struct fd_stream *s)
{
	if (!s->writable)
		return;
	event_free(s->writable);
	s->writable = NULL;
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	struct fd_stream *s = arg;
	if (!s->wants_write) {
		writable_free(s);
		return;
	}
	s->wants_write = false;
	cp_stream_notify(&s->stream, CP_WRITABLE);
}

static int watch_writable(struct fd_stream *s)
{
	s->wants_write = true;
	if (s->writable)
		return CP_OK;
	s->writable = event_new(s->stream.loop->base, s->fd, EV_WRITE | EV_ET | EV_PERSIST, on_writable, s);
	if (s->writable && event_add(s->writable, NULL) == 0)
		return CP_OK;
	writable_free(s);
	return CP_ENOMEM;
}

/* ---- Operations --------------------------------------------------------------------------------------------- */

/** The error that a socket has behind its end of file (a reset after a half close), or CP_OK. */
static int pending_error(struct fd_stream *s)
{
	int error = 0;
	socklen_t length = sizeof(error);
	if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0 || error == 0)
		return CP_OK;
	return error == EPIPE ? CP_ERESET : cp_err_from_errno(error);
}

static size_t vec_length(const struct iovec *vec, int count)
{
	size_t length = 0;
	for (int i = 0; i < count; i++)
		length += vec[i].iov_len;
	return length;
}

static ssize_t receive(const struct fd_stream *s, const struct iovec *vec, int count)
{
	ssize_t got;
	do
		got = count == 1 ? recv(s->fd, vec[0].iov_base, vec[0].iov_len, 0) : readv(s->fd, vec, count);
	while (got < 0 && errno == EINTR);
	return got;
}

/** The end of file was read. */
static void end_read(struct fd_stream *s)
{
	s->ended = true;
	if (!s->edge)
		unwatch(s);
	s->edge = true;
}

static ssize_t fd_read(struct cp_stream *stream, const struct iovec *vec, int count, unsigned *hints)
{
	struct fd_stream *s = fd_stream(stream);
	if (s->ended) {
		*hints = CP_READ_END;
		s->armed = true;
		return pending_error(s);
	}
	ssize_t got = receive(s, vec, count);
	if (got < 0 && errno != EAGAIN)
		return cp_err_from_errno(errno);
	if (got < 0)
		return arm_read(s) < 0 ? CP_ENOMEM : CP_AGAIN;
	if (got == 0 && s->reset)
		return CP_ERESET;
	if (got == 0) {
		end_read(s);
		*hints = CP_READ_END;
	} else if ((size_t)got < vec_length(vec, count) && !s->edge && !s->peer_closed) {
		*hints = CP_READ_DRAINED;
		if (arm_read(s) < 0)
			return CP_ENOMEM;
	}
	return got;
}

/** Nagle's algorithm is left on for the first write, so that it can leave with the handshake's last segment, and off
 * from the second on: what a client sends in pieces must not wait for acknowledgements. */
static void before_write(struct fd_stream *s)
{
	if (s->nodelay)
		return;
	if (s->tcp && s->written) {
		int one = 1;
		setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		s->nodelay = true;
	}
	s->written = true;
}

static ssize_t fd_write(struct cp_stream *stream, const struct iovec *vec, int count, unsigned flags)
{
	struct fd_stream *s = fd_stream(stream);
	int send_flags = MSG_NOSIGNAL | (flags & CP_WRITE_MORE ? MSG_MORE : 0);
	struct msghdr message = {.msg_iov = (struct iovec *)vec, .msg_iovlen = (size_t)count};
	before_write(s);
	ssize_t put;
	do
		put = count == 1 ? send(s->fd, vec[0].iov_base, vec[0].iov_len, send_flags)
						 : sendmsg(s->fd, &message, send_flags);
	while (put < 0 && errno == EINTR);
	if (put < 0 && errno != EAGAIN)
		return errno == EPIPE ? CP_ERESET : cp_err_from_errno(errno);
	if (put < 0 || (size_t)put < vec_length(vec, count)) {
		if (watch_writable(s) < 0)
			return CP_ENOMEM;
	}
	return put < 0 ? CP_AGAIN : put;
}

static int fd_shutdown_write(struct cp_stream *stream)
{
	struct fd_stream *s = fd_stream(stream);
	if (shutdown(s->fd, SHUT_WR) == 0 || errno == ENOTCONN)
		return CP_OK; /* not connected any more: the read side tells why */
	return cp_err_from_errno(errno);
}

static void fd_close(struct cp_stream *stream, enum cp_cause cause)
{
	struct fd_stream *s = fd_stream(stream);
	unwatch(s);
	writable_free(s);
	if (cp_cause_is_reset(cause) && s->tcp)
		fd_linger_reset(s->stream.loop, s->fd);
	else
		close(s->fd);
	cp_stream_deinit(stream);
	free(s);
}

static void fd_await(struct cp_stream *stream, unsigned events)
{
	struct fd_stream *s = fd_stream(stream);
	/* Out of memory here shows as a stalled direction, which the idle time-out ends: nothing better is left. */
	if (events & CP_READABLE)
		arm_read(s);
	if (events & CP_WRITABLE)
		watch_writable(s);
}

static int fd_lend(struct cp_stream *stream, unsigned direction)
{
	struct fd_stream *s = fd_stream(stream);
	if (direction & CP_WRITABLE)
		before_write(s);
	return s->fd;
}

static const struct cp_stream_ops fd_ops = {
	.size = sizeof(fd_ops),
	.name = "fd",
	.read = fd_read,
	.write = fd_write,
	.shutdown_write = fd_shutdown_write,
	.close = fd_close,
	.await = fd_await,
	.lend = fd_lend,
};

struct cp_stream *cp_stream_from_fd(struct cp_loop *loop, int fd, unsigned flags, struct cp_error *error)
{
	struct fd_stream *s = calloc(1, sizeof(*s));
	if (!s) {
		cp_error_set(error, CP_ENOMEM, NULL, "no memory for a stream over descriptor %d", fd);
		return NULL;
	}
	cp_stream_init(&s->stream, &fd_ops, loop, NULL);
	s->fd = fd;
	s->tcp = flags & CP_FD_TCP;
	s->nodelay = flags & CP_FD_NODELAY;
	s->written = flags & CP_FD_WRITTEN;
	s->reset = flags & CP_FD_RESET;
	return &s->stream;
}
