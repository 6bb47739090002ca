#include <connpipe/stream.h>
#include <connpipe/system.h>

#include <stddef.h>

void cp_stream_init(struct cp_stream *stream, const struct cp_stream_ops *ops, struct cp_loop *loop,
					struct cp_system *owner)
{
	*stream = (struct cp_stream){.ops = ops, .loop = loop, .owner = owner};
	if (owner)
		cp_system_pin(owner);
}

void cp_stream_deinit(struct cp_stream *stream)
{
	if (stream->owner)
		cp_system_unpin(stream->owner);
}
