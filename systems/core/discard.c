/* discard: a target that takes everything and says nothing, until its user has no more to write. */
#include "connectors.h"
#include "memory_stream.h"

#include <stdlib.h>

static ssize_t discard_read(struct cp_stream *stream, const struct iovec *vec, int count, unsigned *hints)
{
	(void)vec;
	(void)count;
	struct memory_stream *self = (struct memory_stream *)stream;
	if (self->write_shut) {
		*hints = CP_READ_END;
		return 0;
	}
	memory_stream_arm(self, CP_READABLE);
	return CP_AGAIN;
}

static ssize_t discard_write(struct cp_stream *stream, const struct iovec *vec, int count, unsigned flags)
{
	(void)flags;
	size_t length = 0;
	if (((struct memory_stream *)stream)->write_shut)
		return CP_ERESET;
	for (int i = 0; i < count; i++)
		length += vec[i].iov_len;
	return (ssize_t)length;
}

static int discard_shutdown_write(struct cp_stream *stream)
{
	struct memory_stream *self = (struct memory_stream *)stream;
	self->write_shut = true;
	memory_stream_wake(self, CP_READABLE);
	return CP_OK;
}

static void discard_await(struct cp_stream *stream, unsigned events)
{
	struct memory_stream *self = (struct memory_stream *)stream;
	memory_stream_arm(self, events);
	memory_stream_wake(self, CP_WRITABLE | (self->write_shut ? CP_READABLE : 0));
}

static void discard_destroy(struct memory_stream *self)
{
	free(self);
}

static const struct cp_stream_ops discard_ops = {
	.size = sizeof(struct cp_stream_ops),
	.name = "discard",
	.read = discard_read,
	.write = discard_write,
	.shutdown_write = discard_shutdown_write,
	.close = memory_stream_close,
	.await = discard_await,
};

static int discard_connect(struct cp_connector *connector, struct cp_open *open)
{
	return memory_stream_open(calloc(1, sizeof(struct memory_stream)), &discard_ops, connector->system, open,
							  discard_destroy);
}

static const char *const discard_aliases[] = {"discard", NULL};

const struct cp_connector_def discard_connector = {
	.size = sizeof(struct cp_connector_def),
	.aliases = discard_aliases,
	.flags = CP_CONNECTOR_ANY,
	.syntax = "discard:",
	.connect = discard_connect,
};
