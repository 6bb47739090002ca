/* The stream over a socket.
 *
 * One persistent event watches for reading and for the peer's end of file; it is added when a read finds nothing more
 * (not before: the first bytes are often there at once). It has three modes:
 *
 *     fresh  edge-triggered, for a socket that may be connected again: it keeps its event over its connections, so that
 *       |    short ones cost no epoll_ctl(); and a socket that is not connected would be reported without end
 *       |
 *       |    data is read for the second time
 *       v
 *     level  all others begin here. A read that gets less than it asked for has drained the socket, without another
 *       |    call that says EAGAIN: if an end or an error was there already, epoll reports it again
 *       |
 *       |    reported again although nobody waits for it (the user does not read: backpressure), or a write waits
 *       v
 *     edge   for good: silent while nobody reads
 *
 * An edge is reported once, and libevent does not tell errors from data: a reset may have come together with data. So
 * with edges, reads go on until EAGAIN, and one that comes while nobody waits is kept (`missed`).
 *
 * libevent gives EV_CLOSED when the peer has shut down its side (EPOLLRDHUP). It is kept: from then on reads go on
 * until the end of file. A short read is not proof of it: recv() also stops short at urgent bytes (tcp(7)), and what is
 * behind them would be lost.
 *
 * A stream whose socket may be connected again (CP_FD_RECYCLE) becomes a spare one when it is closed after both ends
 * of file. Its event may still be on its way then, and arrive for the next connection: a call without reason.
 *
 * Behind the end of file the level event would report without end, so it goes; the user who wants to know about a reset
 * that comes later arms again, and gets an edge event.
 *
 * A second event for writing exists only while a write waits, and until the first wake-up that nobody waited for. It is
 * edge-triggered, and then libevent makes the whole descriptor so: therefore the other one changes to edges, too. */
#include <connpipe/stream.h>

#include "../base/memory.h"
#include "../loop/loop.h"
#include "store.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LATE_ENDS = 64 };

struct fd_stream {
	struct cp_stream stream; /* first */
	int fd;
	bool watching : 1;    /* `readable` is added */
	bool edge : 1;        /* … edge-triggered */
	bool fresh : 1;       /* … for now: data was read at most once */
	bool heard : 1;       /* data was read */
	bool missed : 1;      /* edge: an event came while nobody waited */
	bool spare : 1;       /* not connected: waits for cp_stream_recycled() */
	bool armed : 1;       /* the user waits for it */
	bool wants_write : 1; /* a write waits */
	bool peer_closed : 1; /* the peer's end of file has arrived, maybe behind data */
	bool ended : 1;       /* and was read */
	bool written : 1;     /* something was written */
	bool reset : 1;       /* the error was taken from the socket already: it comes behind what can be read */
	bool tcp : 1;
	bool no_splice : 1; /* never lent */
	bool nodelay : 1;   /* TCP_NODELAY is set */
	bool shut : 1;      /* we have shut down our side */
	bool recycle : 1;   /* can be connected again, as one of … */
	bool pooled : 1;    /* its memory is the loop's; otherwise it was made on another loop's thread */
	uint8_t kind;
	struct event *writable; /* NULL: no write has waited */
	struct event readable;  /* behind a cache line that is all a write needs */
};

static struct fd_stream *fd_stream(struct cp_stream *stream)
{
	return (struct fd_stream *)stream;
}

/** From the loop's pool, if this is its thread: an accepting worker makes streams for others, too. */
static struct fd_stream *fd_stream_new(struct cp_loop *loop)
{
	if (loop != cp_loop_current())
		return calloc(1, sizeof(struct fd_stream));
	struct pool *pool = &stream_store(loop)->pool;
	pool->bytes = sizeof(struct fd_stream);
	struct fd_stream *s = pool_take(pool);
	s->pooled = true;
	return s;
}

static void fd_stream_free(struct fd_stream *s)
{
	struct cp_loop *loop = s->stream.loop;
	cp_stream_deinit(&s->stream);
	if (s->pooled)
		pool_give(&loop->streams->pool, s);
	else
		free(s);
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

/** From now on edge-triggered, for good. What is there already is reported once more. */
static int use_edges(struct fd_stream *s)
{
	bool change = s->watching && !s->edge;
	s->edge = true;
	s->fresh = false;
	if (!change)
		return CP_OK;
	unwatch(s);
	return watch(s);
}

/** The user wants to be called. An event that is added reports what is there already, so nothing is missed. */
static int arm_read(struct fd_stream *s)
{
	s->armed = true;
	if (s->missed)
		unwatch(s);
	s->missed = false;
	return s->watching ? CP_OK : watch(s);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	struct fd_stream *s = arg;
	if (s->spare)
		return;
	if (what & EV_CLOSED)
		s->peer_closed = true;
	if (s->armed) {
		s->armed = false;
		cp_stream_notify(&s->stream, CP_READABLE);
	} else if (s->edge) {
		s->missed = true;
	} else {
		use_edges(s); /* no memory: as with a stalled peer, time-outs end it */
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
	if (use_edges(s) < 0)
		return CP_ENOMEM;
	s->writable = event_new(s->stream.loop->base, s->fd, EV_WRITE | EV_ET | EV_PERSIST, on_writable, s);
	if (s->writable && event_add(s->writable, NULL) == 0)
		return CP_OK;
	writable_free(s);
	return CP_ENOMEM;
}

/** From now on level-triggered: more than one answer comes, so the reads that say EAGAIN add up. */
static int leave_fresh(struct fd_stream *s)
{
	s->fresh = s->edge = s->missed = s->peer_closed = false;
	if (!s->watching)
		return CP_OK;
	unwatch(s);
	return watch(s);
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

/** Data was read. */
static int heard(struct fd_stream *s)
{
	if (s->fresh && s->heard)
		return leave_fresh(s);
	s->heard = true;
	return CP_OK;
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
	if (got < 0) {
		s->missed = false;
		return arm_read(s) < 0 ? CP_ENOMEM : CP_AGAIN;
	}
	if (got == 0 && s->reset)
		return CP_ERESET;
	if (got > 0 && heard(s) < 0)
		return CP_ENOMEM;
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
	s->shut = true;
	if (shutdown(s->fd, SHUT_WR) == 0 || errno == ENOTCONN)
		return CP_OK; /* not connected any more: the read side tells why */
	return cp_err_from_errno(errno);
}

/** Whether the kernel is done with the connection (a TIME_WAIT that may remain is not the socket's): then the socket is
 * without one again. Disconnecting by AF_UNSPEC: connect(2). */
static bool disconnect(int fd)
{
	struct tcp_info info;
	socklen_t length = offsetof(struct tcp_info, tcpi_options);
	struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 && info.tcpi_state == TCP_CLOSE &&
		   connect(fd, &nowhere, sizeof(nowhere)) == 0;
}

/** The peer has ended first, and our end is still to be sent. The kernel is done when that is acknowledged: on one
 * machine at once, elsewhere too late for us. So who has waited in vain does not try for a while. */
static bool end_now(struct fd_stream *s)
{
	struct stream_store *store = stream_store(s->stream.loop);
	if (store->late_ends) {
		store->late_ends--;
		return false;
	}
	if (shutdown(s->fd, SHUT_WR) < 0)
		return false;
	store->late_ends = LATE_ENDS;
	return true;
}

static bool become_spare(struct fd_stream *s)
{
	if (!s->recycle || !s->ended || (!s->shut && !end_now(s)) || !disconnect(s->fd))
		return false;
	if (!s->shut)
		s->stream.loop->streams->late_ends = 0;
	s->shut = s->ended = false;
	s->spare = true;
	return spare_stream_put(&s->stream, s->kind);
}

static void fd_close(struct cp_stream *stream, enum cp_cause cause)
{
	struct fd_stream *s = fd_stream(stream);
	bool reset = cp_cause_is_reset(cause) && s->tcp;
	writable_free(s);
	if (!reset && become_spare(s))
		return;
	unwatch(s);
	if (reset)
		fd_linger_reset(s->stream.loop, s->fd);
	else
		close(s->fd);
	fd_stream_free(s);
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
	if (s->no_splice)
		return -1;
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

static void set_flags(struct fd_stream *s, unsigned flags)
{
	s->tcp = flags & CP_FD_TCP;
	s->nodelay |= (flags & CP_FD_NODELAY) != 0;
	s->written = flags & CP_FD_WRITTEN;
	s->reset = flags & CP_FD_RESET;
	s->no_splice = flags & CP_FD_NO_SPLICE;
	s->recycle = flags >> 8;
	s->kind = s->recycle ? (uint8_t)((flags >> 8) - 1) : 0;
	s->edge = s->fresh = s->recycle;
}

struct cp_stream *cp_stream_from_fd(struct cp_loop *loop, int fd, unsigned flags, struct cp_error *error)
{
	struct fd_stream *s = fd_stream_new(loop);
	if (!s) {
		cp_error_set(error, CP_ENOMEM, NULL, "no memory for a stream over descriptor %d", fd);
		return NULL;
	}
	cp_stream_init(&s->stream, &fd_ops, loop, NULL);
	s->fd = fd;
	set_flags(s, flags);
	return &s->stream;
}

/* ---- Sockets that are connected again ----------------------------------------------------------------------- */

struct cp_stream *cp_stream_recycled(struct cp_loop *loop, unsigned kind, int *fd)
{
	struct cp_stream *stream = spare_stream_get(loop, kind);
	if (stream)
		*fd = fd_stream(stream)->fd;
	return stream;
}

void cp_stream_renew(struct cp_stream *stream, unsigned flags)
{
	struct fd_stream *s = fd_stream(stream);
	cp_stream_init(stream, &fd_ops, stream->loop, NULL);
	s->spare = s->armed = s->wants_write = s->peer_closed = s->heard = s->missed = false;
	set_flags(s, flags);
}

void cp_stream_take_fd(struct cp_stream *stream)
{
	unwatch(fd_stream(stream));
	fd_stream_free(fd_stream(stream));
}
