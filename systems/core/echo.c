/* echo: a target that gives back what is written to it, then the end of file. Holds at most ECHO_ROOM bytes: a user who
 * does not read cannot write either. */
#include "connectors.h"
#include "memory_stream.h"

#include <stdlib.h>
#include <string.h>

enum { ECHO_ROOM = 65536 };

struct echo {
	struct memory_stream memory; /* first */
	char *buffer;                /* a ring of ECHO_ROOM bytes; NULL while it holds nothing */
	size_t start, length;
};

static size_t lesser(size_t a, size_t b)
{
	return a < b ? a : b;
}

/** Bytes from `from` on that lie side by side in the ring. */
static size_t ring_run(size_t from, size_t length)
{
	return lesser(length, ECHO_ROOM - from);
}

static size_t ring_put(struct echo *echo, const char *bytes, size_t length)
{
	length = lesser(length, ECHO_ROOM - echo->length);
	size_t end = (echo->start + echo->length) % ECHO_ROOM;
	size_t first = ring_run(end, length);
	memcpy(echo->buffer + end, bytes, first);
	memcpy(echo->buffer, bytes + first, length - first);
	echo->length += length;
	return length;
}

static size_t ring_take(struct echo *echo, char *bytes, size_t length)
{
	length = lesser(length, echo->length);
	size_t first = ring_run(echo->start, length);
	memcpy(bytes, echo->buffer + echo->start, first);
	memcpy(bytes + first, echo->buffer, length - first);
	echo->start = (echo->start + length) % ECHO_ROOM;
	echo->length -= length;
	return length;
}

static ssize_t echo_read(struct cp_stream *stream, const struct iovec *vec, int count, unsigned *hints)
{
	struct echo *echo = (struct echo *)stream;
	size_t got = 0;
	for (int i = 0; i < count && echo->length > 0; i++)
		got += ring_take(echo, vec[i].iov_base, vec[i].iov_len);
	if (got > 0)
		memory_stream_wake(&echo->memory, CP_WRITABLE);
	if (echo->length > 0)
		return (ssize_t)got;
	free(echo->buffer);
	echo->buffer = NULL;
	if (echo->memory.write_shut) {
		*hints = CP_READ_END;
		return (ssize_t)got;
	}
	memory_stream_arm(&echo->memory, CP_READABLE);
	*hints = CP_READ_DRAINED;
	return got > 0 ? (ssize_t)got : CP_AGAIN;
}

static ssize_t echo_write(struct cp_stream *stream, const struct iovec *vec, int count, unsigned flags)
{
	(void)flags;
	struct echo *echo = (struct echo *)stream;
	size_t put = 0;
	bool whole = true;
	if (echo->memory.write_shut)
		return CP_ERESET;
	if (!echo->buffer && !(echo->buffer = malloc(ECHO_ROOM)))
		return CP_ENOMEM;
	for (int i = 0; i < count && whole; i++) {
		size_t taken = ring_put(echo, vec[i].iov_base, vec[i].iov_len);
		whole = taken == vec[i].iov_len;
		put += taken;
	}
	if (put > 0)
		memory_stream_wake(&echo->memory, CP_READABLE);
	if (!whole)
		memory_stream_arm(&echo->memory, CP_WRITABLE);
	return put > 0 || whole ? (ssize_t)put : CP_AGAIN;
}

static int echo_shutdown_write(struct cp_stream *stream)
{
	struct echo *echo = (struct echo *)stream;
	echo->memory.write_shut = true;
	memory_stream_wake(&echo->memory, CP_READABLE | CP_WRITABLE);
	return CP_OK;
}

static void echo_await(struct cp_stream *stream, unsigned events)
{
	struct echo *echo = (struct echo *)stream;
	bool ended = echo->memory.write_shut;
	memory_stream_arm(&echo->memory, events);
	if (echo->length > 0 || ended)
		memory_stream_wake(&echo->memory, CP_READABLE);
	if (echo->length < ECHO_ROOM || ended)
		memory_stream_wake(&echo->memory, CP_WRITABLE);
}

static void echo_destroy(struct memory_stream *memory)
{
	struct echo *echo = (struct echo *)memory;
	free(echo->buffer);
	free(echo);
}

static const struct cp_stream_ops echo_ops = {
	.size = sizeof(struct cp_stream_ops),
	.name = "echo",
	.read = echo_read,
	.write = echo_write,
	.shutdown_write = echo_shutdown_write,
	.close = memory_stream_close,
	.await = echo_await,
};

static int echo_connect(struct cp_connector *connector, struct cp_open *open)
{
	struct echo *echo = calloc(1, sizeof(*echo));
	return memory_stream_open(echo ? &echo->memory : NULL, &echo_ops, connector->system, open, echo_destroy);
}

static const char *const echo_aliases[] = {"echo", NULL};

const struct cp_connector_def echo_connector = {
	.size = sizeof(struct cp_connector_def),
	.aliases = echo_aliases,
	.syntax = "echo:",
	.connect = echo_connect,
};
