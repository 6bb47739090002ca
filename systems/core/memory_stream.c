/* Streams without a descriptor. */
#include "memory_stream.h"

static void run_deferred(struct cp_deferred *deferred)
{
	struct memory_stream *self = (struct memory_stream *)((char *)deferred - offsetof(struct memory_stream, deferred));
	if (self->closed) {
		cp_stream_deinit(&self->stream);
		self->destroy(self);
		return;
	}
	unsigned events = self->pending;
	self->pending = 0;
	self->armed &= ~events;
	cp_stream_notify(&self->stream, events);
}

int memory_stream_open(struct memory_stream *self, const struct cp_stream_ops *ops, struct cp_system *owner,
					   struct cp_open *open, void (*destroy)(struct memory_stream *self))
{
	if (!self)
		return cp_error_set(&open->error, CP_ENOMEM, NULL, "no memory for a stream");
	cp_stream_init(&self->stream, ops, open->loop, owner);
	self->destroy = destroy;
	open->stream = &self->stream;
	return CP_OK;
}

void memory_stream_wake(struct memory_stream *self, unsigned events)
{
	self->pending |= events & self->armed;
	if (self->pending)
		cp_defer(self->stream.loop, &self->deferred, run_deferred);
}

void memory_stream_close(struct cp_stream *stream, enum cp_cause cause)
{
	(void)cause;
	struct memory_stream *self = (struct memory_stream *)stream;
	self->closed = true;
	cp_defer(stream->loop, &self->deferred, run_deferred);
}
