/* A stream over a bufferevent: bytes are buffered in both directions, nothing can be lent, and what was written is still
 * delivered after a close. */
#include "streams.h"

#include "loop/loop.h"

#include <connpipe/stream.h>

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFERED_MOST = 64 * 1024 };

struct bev_stream {
	struct cp_stream stream; /* first */
	struct bufferevent *bev;
	struct cp_deferred deferred;
	enum cp_err error;  /* of the socket: reported behind what was read */
	unsigned armed;     /* CP_READABLE, CP_WRITABLE: the user waits */
	unsigned announce;  /* to be told in the deferred call */
	bool ended, shut, closed, reset;
};

static struct bev_stream *bev_stream(struct cp_stream *stream)
{
	return (struct bev_stream *)stream;
}

static size_t pending(const struct bev_stream *s)
{
	return evbuffer_get_length(bufferevent_get_output(s->bev));
}

static void destroy(struct bev_stream *s)
{
	evutil_socket_t fd = bufferevent_getfd(s->bev);
	struct linger linger = {.l_onoff = 1, .l_linger = 0};
	if (s->reset)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	bufferevent_free(s->bev);
	close(fd);
	cp_stream_deinit(&s->stream);
	free(s);
}

/** End of the turn: tell the user, or free what was closed in the meantime. */
static void on_deferred(struct cp_deferred *deferred)
{
	struct bev_stream *s = (struct bev_stream *)((char *)deferred - offsetof(struct bev_stream, deferred));
	unsigned events = s->announce & s->armed;
	if (s->closed && (pending(s) == 0 || s->error != CP_OK)) {
		destroy(s);
		return;
	}
	s->announce = 0;
	s->armed &= ~events;
	if (events && !s->closed)
		cp_stream_notify(&s->stream, events);
}

static void announce(struct bev_stream *s, unsigned events)
{
	s->announce |= events;
	cp_defer(s->stream.loop, &s->deferred, on_deferred);
}

static void on_read(struct bufferevent *bev, void *arg)
{
	(void)bev;
	announce(arg, CP_READABLE);
}

static void on_written(struct bufferevent *bev, void *arg)
{
	struct bev_stream *s = arg;
	if (s->shut && pending(s) == 0)
		shutdown(bufferevent_getfd(bev), SHUT_WR);
	announce(s, CP_WRITABLE);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
	struct bev_stream *s = arg;
	(void)bev;
	if (what & BEV_EVENT_EOF)
		s->ended = true;
	if (what & BEV_EVENT_ERROR)
		s->error = cp_err_from_errno(EVUTIL_SOCKET_ERROR());
	announce(s, CP_READABLE | CP_WRITABLE);
}

static ssize_t bev_read(struct cp_stream *stream, const struct iovec *vec, int count, unsigned *hints)
{
	struct bev_stream *s = bev_stream(stream);
	ssize_t total = 0;
	for (int i = 0; i < count; i++) {
		int got = bufferevent_read(s->bev, vec[i].iov_base, vec[i].iov_len);
		total += got > 0 ? got : 0;
	}
	if (total > 0)
		return total;
	if (s->error != CP_OK)
		return s->error;
	if (s->ended) {
		*hints = CP_READ_END;
		return 0;
	}
	s->armed |= CP_READABLE;
	return CP_AGAIN;
}

static ssize_t bev_write(struct cp_stream *stream, const struct iovec *vec, int count, unsigned flags)
{
	struct bev_stream *s = bev_stream(stream);
	ssize_t total = 0;
	size_t asked = 0;
	(void)flags;
	if (s->error != CP_OK)
		return s->error;
	for (int i = 0; i < count; i++) {
		size_t room = BUFFERED_MOST - pending(s), length = vec[i].iov_len < room ? vec[i].iov_len : room;
		bufferevent_write(s->bev, vec[i].iov_base, length);
		total += (ssize_t)length;
		asked += vec[i].iov_len;
	}
	if ((size_t)total < asked)
		s->armed |= CP_WRITABLE;
	return total == 0 && asked ? CP_AGAIN : total;
}

static int bev_shutdown(struct cp_stream *stream)
{
	struct bev_stream *s = bev_stream(stream);
	s->shut = true;
	if (pending(s) == 0)
		shutdown(bufferevent_getfd(s->bev), SHUT_WR);
	return CP_OK;
}

static void bev_close(struct cp_stream *stream, enum cp_cause cause)
{
	struct bev_stream *s = bev_stream(stream);
	s->closed = true;
	s->reset = cp_cause_is_reset(cause);
	bufferevent_disable(s->bev, EV_READ);
	cp_defer(stream->loop, &s->deferred, on_deferred);
}

static void bev_await(struct cp_stream *stream, unsigned events)
{
	struct bev_stream *s = bev_stream(stream);
	s->armed |= events;
	if (evbuffer_get_length(bufferevent_get_input(s->bev)) || s->ended || s->error != CP_OK)
		announce(s, events & CP_READABLE);
	if (pending(s) < BUFFERED_MOST)
		announce(s, events & CP_WRITABLE);
}

static const struct cp_stream_ops bev_ops = {
	.size = sizeof(bev_ops),
	.name = "bev",
	.read = bev_read,
	.write = bev_write,
	.shutdown_write = bev_shutdown,
	.close = bev_close,
	.await = bev_await,
};

struct cp_stream *bev_stream_new(struct cp_loop *loop, int fd, struct cp_system *owner)
{
	struct bev_stream *s = calloc(1, sizeof(*s));
	cp_stream_init(&s->stream, &bev_ops, loop, owner);
	s->bev = bufferevent_socket_new(loop->base, fd, 0);
	bufferevent_setcb(s->bev, on_read, on_written, on_event, s);
	bufferevent_setwatermark(s->bev, EV_READ, 0, BUFFERED_MOST);
	bufferevent_setwatermark(s->bev, EV_WRITE, BUFFERED_MOST / 2, 0);
	bufferevent_enable(s->bev, EV_READ | EV_WRITE);
	return &s->stream;
}
