/* Two layers: one that changes every byte, and one that lends the descriptor below it for a while. */
#include "streams.h"

#include <connpipe/stream.h>

#include <stdlib.h>

enum { MASK_CHUNK = 8 * 1024, LENT_TIMES = 40 };

struct layer {
	struct cp_stream stream; /* first */
	struct cp_stream *lower;
	uint64_t read, written; /* bytes so far: the mask depends on the place */
	int lent;
	bool recalled, given_back;
};

static struct layer *layer(struct cp_stream *stream)
{
	return (struct layer *)stream;
}

static void on_lower_ready(struct cp_stream *lower, unsigned events, void *arg)
{
	struct layer *l = arg;
	(void)lower;
	cp_stream_notify(&l->stream, events);
}

static void layer_close(struct cp_stream *stream, enum cp_cause cause)
{
	struct layer *l = layer(stream);
	cp_stream_close(l->lower, cause);
	cp_stream_deinit(stream);
	free(l);
}

static int layer_shutdown(struct cp_stream *stream)
{
	return cp_stream_shutdown_write(layer(stream)->lower);
}

static void layer_await(struct cp_stream *stream, unsigned events)
{
	cp_stream_await(layer(stream)->lower, events);
}

static struct cp_stream *layer_new(const struct cp_stream_ops *ops, struct cp_stream *lower, struct cp_system *owner)
{
	struct layer *l = calloc(1, sizeof(*l));
	cp_stream_init(&l->stream, ops, lower->loop, owner);
	l->lower = lower;
	cp_stream_set_user(lower, on_lower_ready, l);
	return &l->stream;
}

/* ---- mask --------------------------------------------------------------------------------------------------- */

static char masked(char byte, uint64_t place)
{
	return (char)(byte ^ (char)(place * 13 + place / 256));
}

static ssize_t mask_read(struct cp_stream *stream, const struct iovec *vec, int count, unsigned *hints)
{
	struct layer *l = layer(stream);
	ssize_t got = cp_stream_readv(l->lower, vec, count, hints);
	ssize_t left = got;
	for (int i = 0; i < count && left > 0; i++) {
		char *bytes = vec[i].iov_base;
		for (size_t k = 0; k < vec[i].iov_len && left > 0; k++, left--)
			bytes[k] = masked(bytes[k], l->read++);
	}
	return got;
}

static ssize_t mask_write(struct cp_stream *stream, const struct iovec *vec, int count, unsigned flags)
{
	struct layer *l = layer(stream);
	char chunk[MASK_CHUNK];
	ssize_t total = 0;
	for (int i = 0; i < count; i++) {
		for (size_t at = 0; at < vec[i].iov_len;) {
			size_t length = vec[i].iov_len - at < MASK_CHUNK ? vec[i].iov_len - at : MASK_CHUNK;
			struct iovec out = {chunk, length};
			for (size_t k = 0; k < length; k++)
				chunk[k] = masked(((const char *)vec[i].iov_base)[at + k], l->written + k);
			ssize_t put = cp_stream_writev(l->lower, &out, 1, flags);
			if (put < 0)
				return total ? total : put;
			l->written += (uint64_t)put;
			total += put;
			at += (size_t)put;
			if ((size_t)put < length)
				return total;
		}
	}
	return total;
}

static const struct cp_stream_ops mask_ops = {
	.size = sizeof(mask_ops),
	.name = "mask",
	.read = mask_read,
	.write = mask_write,
	.shutdown_write = layer_shutdown,
	.close = layer_close,
	.await = layer_await,
};

struct cp_stream *mask_stream_new(struct cp_stream *lower, struct cp_system *owner)
{
	return layer_new(&mask_ops, lower, owner);
}

/* ---- lender ------------------------------------------------------------------------------------------------- */

static ssize_t lender_read(struct cp_stream *stream, const struct iovec *vec, int count, unsigned *hints)
{
	return cp_stream_readv(layer(stream)->lower, vec, count, hints);
}

static ssize_t lender_write(struct cp_stream *stream, const struct iovec *vec, int count, unsigned flags)
{
	return cp_stream_writev(layer(stream)->lower, vec, count, flags);
}

static int lender_lend(struct cp_stream *stream, unsigned direction)
{
	struct layer *l = layer(stream);
	if (l->recalled)
		return -1;
	l->lent++;
	return cp_stream_lend(l->lower, direction);
}

static void lender_restore(struct cp_stream *stream)
{
	layer(stream)->given_back = true;
}

static void on_lender_ready(struct cp_stream *lower, unsigned events, void *arg)
{
	struct layer *l = arg;
	(void)lower;
	if (l->lent > LENT_TIMES && !l->recalled) {
		l->recalled = true;
		events |= CP_RECALL;
	}
	cp_stream_notify(&l->stream, events);
}

static void lender_close(struct cp_stream *stream, enum cp_cause cause)
{
	struct layer *l = layer(stream);
	if (l->recalled && !l->given_back)
		abort(); /* a user who was told CP_RECALL has to give it back before it returns */
	layer_close(stream, cause);
}

static const struct cp_stream_ops lender_ops = {
	.size = sizeof(lender_ops),
	.name = "lender",
	.read = lender_read,
	.write = lender_write,
	.shutdown_write = layer_shutdown,
	.close = lender_close,
	.await = layer_await,
	.lend = lender_lend,
	.restore = lender_restore,
};

struct cp_stream *lender_stream_new(struct cp_stream *lower, struct cp_system *owner)
{
	struct cp_stream *stream = layer_new(&lender_ops, lower, owner);
	cp_stream_set_user(lower, on_lender_ready, stream);
	return stream;
}
