/* A stream in front of another one, with bytes that were read ahead. When they are gone, everything goes through. */
#include <connpipe/stream.h>

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

struct prefix {
	struct cp_stream stream; /* first */
	struct cp_stream *lower;
	struct cp_deferred deferred; /* says that the bytes can be read; frees */
	bool closed;
	bool drained; /* behind the bytes there was nothing for now, and the stream below has not called since */
	size_t start, length;
	char *bytes; /* freed when they are gone */
};

static struct prefix *prefix_of(struct cp_stream *stream)
{
	return (struct prefix *)stream;
}

static void on_lower_ready(struct cp_stream *lower, unsigned events, void *arg)
{
	struct prefix *p = prefix_of(arg);
	(void)lower;
	if (events & CP_READABLE)
		p->drained = false;
	cp_stream_notify(arg, events);
}

static void on_deferred(struct cp_deferred *deferred)
{
	struct prefix *p = (struct prefix *)((char *)deferred - offsetof(struct prefix, deferred));
	if (p->closed) {
		cp_stream_deinit(&p->stream);
		free(p->bytes);
		free(p);
		return;
	}
	cp_stream_notify(&p->stream, CP_READABLE);
}

static ssize_t prefix_read(struct cp_stream *stream, const struct iovec *vec, int count, unsigned *hints)
{
	struct prefix *p = prefix_of(stream);
	size_t copied = 0;
	if (p->start == p->length)
		return p->lower->ops->read(p->lower, vec, count, hints);
	for (int i = 0; i < count && p->start < p->length; i++) {
		size_t piece = p->length - p->start < vec[i].iov_len ? p->length - p->start : vec[i].iov_len;
		memcpy(vec[i].iov_base, p->bytes + p->start, piece);
		p->start += piece;
		copied += piece;
	}
	if (p->start == p->length) {
		free(p->bytes);
		p->bytes = NULL;
		*hints = p->drained ? CP_READ_DRAINED : 0;
	}
	return (ssize_t)copied;
}

static ssize_t prefix_write(struct cp_stream *stream, const struct iovec *vec, int count, unsigned flags)
{
	return cp_stream_writev(prefix_of(stream)->lower, vec, count, flags);
}

static int prefix_shutdown(struct cp_stream *stream)
{
	return cp_stream_shutdown_write(prefix_of(stream)->lower);
}

static void prefix_close(struct cp_stream *stream, enum cp_cause cause)
{
	struct prefix *p = prefix_of(stream);
	cp_stream_set_user(stream, NULL, NULL);
	cp_stream_close(p->lower, cause);
	p->closed = true;
	cp_defer(stream->loop, &p->deferred, on_deferred);
}

static void prefix_await(struct cp_stream *stream, unsigned events)
{
	struct prefix *p = prefix_of(stream);
	if ((events & CP_READABLE) && p->start < p->length) {
		cp_defer(stream->loop, &p->deferred, on_deferred);
		events &= ~(unsigned)CP_READABLE;
	}
	if (events)
		cp_stream_await(p->lower, events);
}

static int prefix_lend(struct cp_stream *stream, unsigned direction)
{
	struct prefix *p = prefix_of(stream);
	if ((direction & CP_READABLE) && p->start < p->length)
		return -1;
	return cp_stream_lend(p->lower, direction);
}

static void prefix_restore(struct cp_stream *stream)
{
	cp_stream_restore(prefix_of(stream)->lower);
}

static int prefix_detach(struct cp_stream *stream)
{
	struct prefix *p = prefix_of(stream);
	int fd = p->start < p->length ? -1 : cp_stream_detach(p->lower);
	if (fd < 0)
		return -1;
	cp_stream_set_user(stream, NULL, NULL);
	p->closed = true;
	cp_defer(stream->loop, &p->deferred, on_deferred);
	return fd;
}

static const struct cp_stream_ops prefix_ops = {
	.size = sizeof(struct cp_stream_ops),
	.name = "prefix",
	.read = prefix_read,
	.write = prefix_write,
	.shutdown_write = prefix_shutdown,
	.close = prefix_close,
	.await = prefix_await,
	.lend = prefix_lend,
	.restore = prefix_restore,
	.detach = prefix_detach,
};

struct cp_stream *cp_stream_with_prefix(struct cp_stream *lower, const void *bytes, size_t length, unsigned hints,
										struct cp_system *owner)
{
	struct prefix *p = calloc(1, sizeof(*p));
	char *copy = malloc(length ? length : 1);
	if (!p || !copy) {
		free(p);
		free(copy);
		return NULL;
	}
	cp_stream_init(&p->stream, &prefix_ops, lower->loop, owner);
	p->stream.messages = lower->messages;
	p->lower = lower;
	p->drained = hints & CP_READ_DRAINED;
	p->length = length;
	p->bytes = memcpy(copy, bytes, length);
	cp_stream_set_user(lower, on_lower_ready, &p->stream);
	return &p->stream;
}
