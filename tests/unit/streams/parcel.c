/* A layer that carries messages over bytes: one byte of flags and length, then so many bytes. Small ones only, so that
 * a write below is always taken whole. */
#include "streams.h"

#include <connpipe/stream.h>

#include <stdlib.h>
#include <string.h>

struct parcel {
	struct cp_stream stream; /* first */
	struct cp_stream *lower;
	unsigned char in[1 + PARCEL_MOST]; /* head and bytes of the message that is being read */
	size_t have;
};

static void on_lower_ready(struct cp_stream *lower, unsigned events, void *arg)
{
	struct parcel *p = arg;
	(void)lower;
	cp_stream_notify(&p->stream, events);
}

static size_t wanted(const struct parcel *p)
{
	return p->have == 0 ? 1 : 1 + (p->in[0] & PARCEL_MOST);
}

static ssize_t parcel_read(struct cp_stream *stream, const struct iovec *vec, int count, unsigned *hints)
{
	struct parcel *p = (struct parcel *)stream;
	(void)count;
	while (p->have == 0 || p->have < wanted(p)) {
		unsigned below;
		struct iovec into = {p->in + p->have, wanted(p) - p->have};
		ssize_t got = cp_stream_readv(p->lower, &into, 1, &below);
		if (got < 0)
			return got;
		p->have += (size_t)got;
		if (got == 0 && below & CP_READ_END) {
			*hints = CP_READ_END;
			return p->have ? CP_EPROTO : 0;
		}
	}
	size_t length = p->have - 1;
	memcpy(vec[0].iov_base, p->in + 1, length);
	*hints = (p->in[0] & PARCEL_MORE ? CP_READ_MORE : 0) | (p->in[0] & PARCEL_TEXT ? CP_READ_TEXT : 0);
	p->have = 0;
	return (ssize_t)length;
}

static ssize_t parcel_write(struct cp_stream *stream, const struct iovec *vec, int count, unsigned flags)
{
	struct parcel *p = (struct parcel *)stream;
	unsigned char out[1 + PARCEL_MOST];
	size_t length = 0;
	for (int i = 0; i < count; i++) {
		if (length + vec[i].iov_len > PARCEL_MOST)
			return CP_ELIMIT;
		memcpy(out + 1 + length, vec[i].iov_base, vec[i].iov_len);
		length += vec[i].iov_len;
	}
	out[0] =
		(unsigned char)(length | (flags & CP_WRITE_MORE ? PARCEL_MORE : 0) | (flags & CP_WRITE_TEXT ? PARCEL_TEXT : 0));
	struct iovec whole = {out, 1 + length};
	ssize_t put = cp_stream_writev(p->lower, &whole, 1, 0);
	return put < 0 ? put : (ssize_t)length;
}

static int parcel_shutdown(struct cp_stream *stream)
{
	return cp_stream_shutdown_write(((struct parcel *)stream)->lower);
}

static void parcel_close(struct cp_stream *stream, enum cp_cause cause)
{
	cp_stream_close(((struct parcel *)stream)->lower, cause);
	cp_stream_deinit(stream);
	free(stream);
}

static void parcel_await(struct cp_stream *stream, unsigned events)
{
	cp_stream_await(((struct parcel *)stream)->lower, events);
}

static const struct cp_stream_ops parcel_ops = {
	.size = sizeof(parcel_ops),
	.name = "parcel",
	.read = parcel_read,
	.write = parcel_write,
	.shutdown_write = parcel_shutdown,
	.close = parcel_close,
	.await = parcel_await,
};

struct cp_stream *parcel_stream_new(struct cp_stream *lower, struct cp_system *owner)
{
	struct parcel *p = calloc(1, sizeof(*p));
	cp_stream_init(&p->stream, &parcel_ops, lower->loop, owner);
	p->stream.messages = true;
	p->lower = lower;
	cp_stream_set_user(lower, on_lower_ready, p);
	return &p->stream;
}
