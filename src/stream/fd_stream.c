/* The stream over a socket.
 *
 * One persistent event watches for reading and for the peer's end of file; it is added when a read finds nothing more
 * (not before: the first bytes are often there at once). It is edge-triggered: silent while nobody reads, and the
 * kernel does not look at the socket again after each event, which with many connections is what costs most after
 * sending.
 *
 * A read that gets less than it asked for is taken for the last one, without another call that says EAGAIN. That may
 * hide something, which no edge will tell of any more:
 *
 *     the end of file behind the data    libevent tells (EV_CLOSED): from then on reads go on until the end
 *     an error behind the data           libevent does not tell errors from data
 *     bytes behind urgent ones           recv() stops there (tcp(7))
 *
 * So a stream that relied on it is *unsure*, and when it has been quiet for UNSURE_MS its user is called without
 * reason: the next read tells. A busy stream never gets there, an idle one once.
 *
 * An edge is kept (`missed`) until somebody has read to the bottom: who waits without having done so is told again.
 *
 * A stream whose socket may be connected again (CP_FD_RECYCLE) becomes a spare one when it is closed after both ends
 * of file. It keeps its event, so that short connections cost no epoll_ctl(). An event may still be on its way then,
 * and arrive for the next connection: a call without reason.
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
#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	LATE_ENDS = 64,
	UNSURE_MS = 30,
};

struct fd_stream {
	struct cp_stream stream; /* first */
	int fd;
	bool watching : 1;    /* `readable` is added */
	bool missed : 1;      /* there was an edge, and nobody has read to the bottom since */
	bool unsure : 1;      /* in the list of those that are read once more */
	bool moved : 1;       /* … and something was read since it was last looked at */
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
	short mode = EV_READ | EV_CLOSED | EV_PERSIST | EV_ET;
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
	s->missed = true;
	if (!s->armed)
		return;
	s->armed = false;
	cp_stream_notify(&s->stream, CP_READABLE);
}

/* ---- Unsure streams ----------------------------------------------------------------------------------------- */

static void unsure_leave(struct fd_stream *s)
{
	if (!s->unsure)
		return;
	struct unsure_streams *list = &s->stream.loop->streams->unsure;
	struct cp_stream *last = list->at[--list->count];
	list->at[s->stream.place] = last;
	last->place = s->stream.place;
	s->unsure = false;
}

/** It was quiet: who waits for it reads once more. */
static void unsure_tell(struct fd_stream *s)
{
	unsure_leave(s);
	s->missed = true;
	if (!s->armed)
		return;
	s->armed = false;
	cp_stream_notify(&s->stream, CP_READABLE);
}

/** From the back: what a user does may take others out, so that one that was seen comes to the place of one that was
 * not, and is seen twice; or may add some, which are for the next time. */
static void on_unsure_timer(struct cp_timer *timer)
{
	struct unsure_streams *list = &timer->loop->streams->unsure;
	for (uint32_t i = list->count; i-- > 0;) {
		if (i >= list->count)
			continue;
		struct fd_stream *s = fd_stream(list->at[i]);
		if (!s->moved)
			unsure_tell(s);
		else
			s->moved = false;
	}
	if (list->count) {
		cp_timer_start(timer, UNSURE_MS);
		return;
	}
	free(list->at);
	list->at = NULL;
	list->room = 0;
}

/** A short read was taken for the last one. */
static void relied(struct fd_stream *s)
{
	s->moved = true;
	if (s->unsure)
		return;
	struct unsure_streams *list = &stream_store(s->stream.loop)->unsure;
	if (list->count == list->room) {
		list->room = list->room ? list->room * 2 : 64;
		list->at = xreallocarray(list->at, list->room, sizeof(struct cp_stream *));
	}
	s->unsure = true;
	s->stream.place = list->count;
	list->at[list->count++] = &s->stream;
	if (list->timer.loop && cp_timer_running(&list->timer))
		return;
	cp_timer_init(&list->timer, s->stream.loop, on_unsure_timer);
	cp_timer_start(&list->timer, UNSURE_MS);
}

/* ---- Writing ------------------------------------------------------------------------------------------------ */

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

/** Everything was read for now, as far as a short read tells. An event that is only added now tells of all there is. */
static int drained(struct fd_stream *s)
{
	s->missed = false;
	if (s->watching)
		relied(s);
	return arm_read(s);
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
		s->missed = s->peer_closed = false; /* neither data nor an end: whatever comes makes a new edge */
		return arm_read(s) < 0 ? CP_ENOMEM : CP_AGAIN;
	}
	if (got == 0 && s->reset)
		return CP_ERESET;
	if (got == 0) {
		s->ended = true;
		s->missed = true; /* an error may have come with the end, and its edge be gone: who waits now is told */
		*hints = CP_READ_END;
	} else if ((size_t)got < vec_length(vec, count) && !s->peer_closed) {
		*hints = CP_READ_DRAINED;
		if (drained(s) < 0)
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
	unsure_leave(s);
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
	if (direction & CP_READABLE)
		s->missed = false; /* the user reads until EAGAIN */
	return s->fd;
}

/** What the stream knows and the kernel does not (an end or an error that was read) would be lost. */
static int fd_detach(struct cp_stream *stream)
{
	struct fd_stream *s = fd_stream(stream);
	int fd = s->fd;
	if (s->ended || s->reset || s->shut)
		return -1;
	writable_free(s);
	unsure_leave(s);
	unwatch(s);
	fd_stream_free(s);
	return fd;
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
	.detach = fd_detach,
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
	s->spare = s->armed = s->wants_write = s->peer_closed = s->missed = false;
	set_flags(s, flags);
}

void cp_stream_take_fd(struct cp_stream *stream)
{
	unwatch(fd_stream(stream));
	fd_stream_free(fd_stream(stream));
}
