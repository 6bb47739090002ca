#include "first_bytes.h"

#include "../base/memory.h"
#include "../loop/loop.h"
#include "../stream/preamble.h"
#include "worker.h"

#include <stdlib.h>
#include <string.h>

enum {
	FIRST_ROOM_LEAST = 4096,
	FIRST_ROOM_MOST = PREAMBLE_MOST + LOOP_BUFFER, /* of first bytes kept while the way is not open */
};

/** Where bytes behind the first ones go. @return room there, 0 when there is enough of them */
static size_t first_space(struct pipe *p, char **at)
{
	struct pipe_setup *s = p->setup;
	if (s->in_one_go) {
		*at = s->first = p->worker->loop->buffer;
		return s->first_length ? 0 : LOOP_BUFFER;
	}
	if (s->first_room < s->first_length + FIRST_ROOM_LEAST && s->first_room < FIRST_ROOM_MOST) {
		size_t room = s->first_length * 2 + FIRST_ROOM_LEAST;
		s->first_room = room < FIRST_ROOM_MOST ? room : FIRST_ROOM_MOST;
		s->first = xrealloc(s->first, s->first_room);
	}
	*at = s->first + s->first_length;
	return s->first_room - s->first_length;
}

/** Something has to be waited for: the loop's buffer is for others now. */
void first_keep(struct pipe *p)
{
	struct pipe_setup *s = p->setup;
	if (!s->in_one_go)
		return;
	char *copy = NULL;
	if (s->first_length) {
		copy = xmalloc(s->first_length);
		memcpy(copy, s->first, s->first_length);
	}
	s->in_one_go = false;
	s->first = copy;
	s->first_room = s->first_length;
}

/** Messages are not joined: what was read is the first one, or a further piece of it. */
static void note_message(struct pipe_setup *s, size_t length, unsigned hints)
{
	if (length == 0 && s->first_end)
		return;
	s->first_message = true;
	s->first_flags = (uint8_t)((s->first_flags & CP_WRITE_TEXT) | pump_write_flags(hints));
}

/** Read what the client has sent. @return false when the pipe was closed because the client is gone */
bool first_read(struct pipe *p)
{
	struct pipe_setup *s = p->setup;
	while (!first_complete(s)) {
		struct iovec vec;
		unsigned hints;
		vec.iov_len = first_space(p, (char **)&vec.iov_base);
		if (vec.iov_len == 0)
			return true; /* enough; the rest waits in the kernel until the way is open */
		ssize_t got = cp_stream_readv(p->end[0], &vec, 1, &hints);
		s->armed = got == CP_AGAIN || (got >= 0 && (hints & CP_READ_DRAINED));
		if (got == CP_AGAIN)
			return true;
		if (got < 0) {
			pipe_close(p, got == CP_EPROTO ? CP_CAUSE_CLIENT_PROTOCOL : CP_CAUSE_CLIENT_GONE, NULL);
			return false;
		}
		s->first_length += (size_t)got;
		s->first_end = hints & (CP_READ_END | CP_READ_OVER);
		if (p->end[0]->messages)
			note_message(s, (size_t)got, hints);
		if (s->armed || s->in_one_go)
			return true;
	}
	return true;
}

/** Have the client's stream call when there is more: not every stream says so by itself (CP_READ_DRAINED). */
void first_await(struct pipe *p)
{
	if (!p->setup->armed)
		cp_stream_await(p->end[0], CP_READABLE);
	p->setup->armed = true;
}

const char *first_bytes(const struct pipe_setup *s, size_t *length)
{
	*length = s->first_length - s->first_offset;
	return s->first ? s->first + s->first_offset : "";
}

bool first_complete(const struct pipe_setup *s)
{
	return s->first_end || (s->first_message && !(s->first_flags & CP_WRITE_MORE));
}

void first_show(struct pipe_setup *s)
{
	s->request.peeked = first_bytes(s, &s->request.peeked_length);
	/* Stays set: a router that was told so after a time-out must not be told otherwise, and wait again. */
	s->request.peeked_end |= first_complete(s) || s->first_length >= FIRST_ROOM_MOST;
}
