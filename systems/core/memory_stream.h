/** Streams without a descriptor: what echo and discard share. Keeps what the user waits for and wakes it from the loop,
 * never from inside a call. */
#ifndef SYSTEMS_CORE_MEMORY_STREAM_H
#define SYSTEMS_CORE_MEMORY_STREAM_H

#include <connpipe/open.h>
#include <connpipe/stream.h>

struct memory_stream {
	struct cp_stream stream; /* first */
	struct cp_deferred deferred;
	unsigned armed;   /* CP_READABLE, CP_WRITABLE: the user waits for these */
	unsigned pending; /* of those, what `ready` is about to tell */
	bool write_shut;
	bool closed;                                 /* to be freed when the deferred call runs */
	void (*destroy)(struct memory_stream *self); /* frees it all */
};

/** @param self  zeroed, or NULL: then the opening fails for lack of memory
 * @return CP_OK with open->stream set, or CP_ENOMEM */
int memory_stream_open(struct memory_stream *self, const struct cp_stream_ops *ops, struct cp_system *owner,
					   struct cp_open *open, void (*destroy)(struct memory_stream *self));

/** The user waits for these events: `ready` comes when memory_stream_wake() says one of them. */
static inline void memory_stream_arm(struct memory_stream *self, unsigned events)
{
	self->armed |= events;
}
/** These events are there now. */
void memory_stream_wake(struct memory_stream *self, unsigned events);

/** cp_stream_ops.close. There is no peer, so nothing is delivered. */
void memory_stream_close(struct cp_stream *stream, enum cp_cause cause);

#endif
