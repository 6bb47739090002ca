/** For tests of layers: a byte stream that is not there, and a user who keeps to the rules.
 *
 * The stream gives out what the test lets arrive, in reads as short as it likes, takes as much as the test makes room
 * for, and is as edge-triggered as stream.h allows: who was not told CP_AGAIN, or has got less than there is, is not
 * called. So a layer that forgets to read to the bottom hangs here, and not in production. */
#ifndef TESTS_UNIT_FAKE_BYTES_H
#define TESTS_UNIT_FAKE_BYTES_H

#include "loop/loop.h"

#include <connpipe/stream.h>

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

struct fake_bytes {
	struct cp_stream stream; /* first */
	char *in;                /* what the peer has sent */
	size_t in_length, in_at;
	bool ended; /* behind that */
	int error;  /* behind that, or behind the end */
	bool end_with_data, says_drained;
	size_t read_most; /* bytes of one read; 0: any number */
	unsigned reads;   /* calls */
	char *out;        /* what was written */
	size_t out_length, room;
	unsigned writes;
	int write_error;
	unsigned last_flags;
	bool shut, closed;
	enum cp_cause cause;
	unsigned armed, events; /* events: happened, and not told yet */
};

static inline struct fake_bytes *fake_of(struct cp_stream *stream)
{
	return (struct fake_bytes *)stream;
}

static inline ssize_t fake_read(struct cp_stream *stream, const struct iovec *vec, int count, unsigned *hints)
{
	struct fake_bytes *f = fake_of(stream);
	size_t got = 0, asked = 0;
	cr_assert_not(f->closed, "read behind the close");
	f->reads++;
	for (int i = 0; i < count; i++)
		asked += vec[i].iov_len;
	cr_assert_gt(asked, 0, "a read of nothing");
	size_t most = f->in_length - f->in_at;
	most = f->read_most && f->read_most < most ? f->read_most : most;
	for (int i = 0; i < count && got < most; i++) {
		size_t piece = vec[i].iov_len < most - got ? vec[i].iov_len : most - got;
		memcpy(vec[i].iov_base, f->in + f->in_at, piece);
		f->in_at += piece;
		got += piece;
	}
	bool empty = f->in_at == f->in_length;
	if (empty && f->ended && (got == 0 || f->end_with_data)) {
		if (got == 0 && f->error)
			return f->error;
		*hints |= CP_READ_END;
		return (ssize_t)got;
	}
	if (got == 0 && f->error)
		return f->error;
	if (got == 0 || (empty && got < asked && f->says_drained && !f->ended && !f->error)) {
		f->armed |= CP_READABLE;
		*hints |= got ? CP_READ_DRAINED : 0;
	}
	return got ? (ssize_t)got : CP_AGAIN;
}

static inline ssize_t fake_write(struct cp_stream *stream, const struct iovec *vec, int count, unsigned flags)
{
	struct fake_bytes *f = fake_of(stream);
	size_t put = 0, asked = 0;
	cr_assert_not(f->closed || f->shut, "write behind the end");
	f->writes++;
	f->last_flags = flags;
	if (f->write_error)
		return f->write_error;
	for (int i = 0; i < count; i++) {
		size_t piece = vec[i].iov_len < f->room ? vec[i].iov_len : f->room;
		if (piece) {
			f->out = realloc(f->out, f->out_length + piece);
			memcpy(f->out + f->out_length, vec[i].iov_base, piece);
		}
		f->out_length += piece;
		f->room -= piece;
		put += piece;
		asked += vec[i].iov_len;
	}
	if (put < asked)
		f->armed |= CP_WRITABLE;
	return put || !asked ? (ssize_t)put : CP_AGAIN;
}

static inline int fake_shutdown(struct cp_stream *stream)
{
	cr_assert_not(fake_of(stream)->shut, "the end, twice");
	fake_of(stream)->shut = true;
	return CP_OK;
}

static inline void fake_close(struct cp_stream *stream, enum cp_cause cause)
{
	struct fake_bytes *f = fake_of(stream);
	cr_assert_not(f->closed, "closed twice");
	f->closed = true;
	f->cause = cause;
	f->armed = f->events = 0;
}

static inline void fake_await(struct cp_stream *stream, unsigned events)
{
	fake_of(stream)->armed |= events;
}

static const struct cp_stream_ops fake_ops = {
	.size = sizeof(fake_ops),
	.name = "fake",
	.read = fake_read,
	.write = fake_write,
	.shutdown_write = fake_shutdown,
	.close = fake_close,
	.await = fake_await,
};

static inline void fake_init(struct fake_bytes *f, struct cp_loop *loop)
{
	*f = (struct fake_bytes){.room = SIZE_MAX / 2, .says_drained = true};
	cp_stream_init(&f->stream, &fake_ops, loop, NULL);
}

static inline void fake_deinit(struct fake_bytes *f)
{
	free(f->in);
	free(f->out);
}

/** The loop's turn: tell what has happened to who waits for it. What nobody waited for stays an edge until then. */
static inline void fake_tell(struct fake_bytes *f)
{
	unsigned events = f->events & f->armed;
	f->armed &= ~events;
	f->events &= ~events;
	if (events && !f->closed)
		cp_stream_notify(&f->stream, events);
}

static inline void fake_arrive(struct fake_bytes *f, const void *bytes, size_t length)
{
	if (length == 0)
		return;
	f->in = realloc(f->in, f->in_length + length);
	memcpy(f->in + f->in_length, bytes, length);
	f->in_length += length;
	f->events |= CP_READABLE;
	fake_tell(f);
}

static inline void fake_end(struct fake_bytes *f, int error)
{
	f->ended |= !error;
	f->error = error;
	f->events |= CP_READABLE;
	fake_tell(f);
}

static inline void fake_room(struct fake_bytes *f, size_t room)
{
	f->room = room;
	if (room)
		f->events |= CP_WRITABLE;
	fake_tell(f);
}

/* ---- The user ----------------------------------------------------------------------------------------------- */

/** A user of the layer who only tries when stream.h says that it may get something. */
struct fake_user {
	bool can_read, can_write;
	unsigned called;
};

static inline void fake_user_ready(struct cp_stream *stream, unsigned events, void *arg)
{
	struct fake_user *user = arg;
	(void)stream;
	user->called++;
	user->can_read |= (events & CP_READABLE) != 0;
	user->can_write |= (events & CP_WRITABLE) != 0;
}

static inline void fake_user_init(struct fake_user *user, struct cp_stream *stream)
{
	*user = (struct fake_user){.can_read = true, .can_write = true};
	cp_stream_set_user(stream, fake_user_ready, user);
}

static inline ssize_t fake_user_read(struct fake_user *user, struct cp_stream *stream, const struct iovec *vec,
									 int count, unsigned *hints)
{
	ssize_t got = cp_stream_readv(stream, vec, count, hints);
	user->can_read = got != CP_AGAIN && !(*hints & CP_READ_DRAINED);
	return got;
}

static inline ssize_t fake_user_write(struct fake_user *user, struct cp_stream *stream, const struct iovec *vec,
									  int count, unsigned flags)
{
	size_t length = 0;
	for (int i = 0; i < count; i++)
		length += vec[i].iov_len;
	ssize_t put = cp_stream_writev(stream, vec, count, flags);
	user->can_write = put >= 0 && (size_t)put == length;
	return put;
}

/* ---- The loop ----------------------------------------------------------------------------------------------- */

static inline void fake_stop(struct cp_deferred *deferred)
{
	(void)deferred;
	loop_stop(cp_loop_current());
}

/** Let everything happen that is there already. */
static inline void fake_turns(struct cp_loop *loop, int turns)
{
	while (turns-- > 0) {
		struct cp_deferred deferred = {0};
		cp_defer(loop, &deferred, fake_stop);
		while (deferred.queued)
			loop_run(loop);
	}
}

/** A random number below `most`: the same ones for the same seed everywhere. */
static inline uint32_t fake_random(uint64_t *seed, uint32_t most)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return most ? (uint32_t)(*seed >> 33) % most : 0;
}

#endif
