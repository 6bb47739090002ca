/* Messages over bytes: each behind its length, two bytes, most significant first.
 * Source: RFC 1035, section 4.2.2 (DNS over TCP); RFC 7766, section 8 (length and message in one segment).
 *
 *     user ◀── whole messages ── [ ahead: bytes read behind the last one ] ◀── bytes ── the stream below
 *     user ── messages ──▶ [ parts: one that comes in pieces ] ──▶ [ rest: what did not fit ] ──▶ the stream below
 *
 * Reading: below is read straight into the user's vectors; what turns out to be behind the message, or to be only the
 * beginning of one, is moved to `ahead`. So the messages of one segment cost one read below, and one that comes alone
 * is never copied. A message is handed out when all of it is there, or when the vectors are full.
 *
 * Writing: a message is taken when the first byte of it was taken below; `rest` keeps what was not, and until that is
 * gone nothing more is taken. So what is held is at most one message each way (and what came behind it in one read),
 * and nothing at rest.
 *
 * The end of file inside a message is CP_ERESET, not CP_EPROTO: what did come was right, and then the connection broke
 * off. For the user that is the same as if the peer had reset it: what it has is cut short, and not to be trusted. */
#include "frame.h"

#include <connpipe/log.h>

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum {
	HEAD = 2, /* bytes of the length */
	MESSAGE_MOST = 65535,
	VECS_MOST = 16,  /* vectors of a call that are passed on as they are */
	CLOSE_MS = 5000, /* for what was taken before a close */
};

/** Bytes that are kept: from `start` on, `length` of them. Memory only while there are some. */
struct kept {
	char *bytes;
	size_t start, length, room;
};

struct frame {
	struct cp_stream stream; /* first */
	struct cp_stream *lower;
	struct cp_deferred deferred; /* tells the user that it can read; frees */
	struct cp_timer timer;       /* after a close */
	struct kept ahead, parts, rest;
	size_t left; /* of a message that is handed out in pieces: how much is still to come */
	int read_error, write_error;
	enum cp_cause cause; /* of the close */
	bool drained;        /* below there was nothing more, and it has not called since */
	bool ended;          /* below has ended */
	bool end_told;       /* and the user knows */
	bool wants_write;    /* the user waits for it */
	bool shut;           /* the end goes below when `rest` is gone */
	bool closed, dead;
};

static void on_deferred(struct cp_deferred *deferred);

static struct frame *frame_of(struct cp_stream *stream)
{
	return (struct frame *)stream;
}

/* ---- Vectors and kept bytes --------------------------------------------------------------------------------- */

static size_t vec_length(const struct iovec *vec, int count)
{
	size_t length = 0;
	for (int i = 0; i < count; i++)
		length += vec[i].iov_len;
	return length;
}

/** The vectors without their first `skip` bytes. @return how many there are */
static int vec_skip(struct iovec *out, const struct iovec *vec, int count, size_t skip)
{
	int left = 0;
	for (int i = 0; i < count; i++) {
		size_t here = skip < vec[i].iov_len ? skip : vec[i].iov_len;
		skip -= here;
		if (here < vec[i].iov_len)
			out[left++] = (struct iovec){(char *)vec[i].iov_base + here, vec[i].iov_len - here};
	}
	return left;
}

/** Copy `length` bytes at `offset` of what the vectors are, to or from `flat`. */
static void vec_copy(const struct iovec *vec, int count, size_t offset, char *flat, size_t length, bool to_vec)
{
	for (int i = 0; i < count && length; i++) {
		if (offset >= vec[i].iov_len) {
			offset -= vec[i].iov_len;
			continue;
		}
		char *at = (char *)vec[i].iov_base + offset;
		size_t piece = vec[i].iov_len - offset < length ? vec[i].iov_len - offset : length;
		memcpy(to_vec ? at : flat, to_vec ? flat : at, piece);
		offset = 0;
		flat += piece;
		length -= piece;
	}
}

static char *kept_at(const struct kept *kept)
{
	return kept->bytes + kept->start;
}

static void kept_drop(struct kept *kept, size_t length)
{
	kept->start += length;
	kept->length -= length;
	if (kept->length)
		return;
	free(kept->bytes);
	*kept = (struct kept){0};
}

/** Make room for `length` more bytes behind those that are there. It grows with what has come, not with what a peer
 * says that will come. @return where; NULL: no memory */
static char *kept_add(struct kept *kept, size_t length)
{
	size_t needed = kept->length + length;
	if (kept->start) {
		memmove(kept->bytes, kept_at(kept), kept->length);
		kept->start = 0;
	}
	if (needed > kept->room) {
		size_t room = needed > 2 * kept->room ? needed : 2 * kept->room;
		char *bytes = realloc(kept->bytes, room);
		if (!bytes)
			return NULL;
		kept->bytes = bytes;
		kept->room = room;
	}
	kept->length = needed;
	return kept->bytes + needed - length;
}

static bool kept_add_vec(struct kept *kept, const struct iovec *vec, int count, size_t offset, size_t length)
{
	char *at = kept_add(kept, length);
	if (at)
		vec_copy(vec, count, offset, at, length, false);
	return at;
}

/* ---- Reading ------------------------------------------------------------------------------------------------ */

/** A read that is under way. */
struct reading {
	const struct iovec *vec;
	int count;
	size_t room; /* in the vectors */
	unsigned *hints;
	char head[HEAD]; /* of the message */
	size_t have;     /* so much of the head was read ahead, */
	size_t before;   /* and so much of the message itself */
};

static size_t head_length(const char *head)
{
	return (size_t)(unsigned char)head[0] << 8 | (unsigned char)head[1];
}

/** Whether a message, or the rest of one, is there as a whole. */
static bool is_ahead(const struct frame *f)
{
	if (f->left)
		return f->ahead.length >= f->left;
	return f->ahead.length >= HEAD && f->ahead.length - HEAD >= head_length(kept_at(&f->ahead));
}

static int read_failed(struct frame *f, int error)
{
	f->read_error = error;
	kept_drop(&f->ahead, f->ahead.length);
	return error;
}

/** `taken` of the `length` bytes that a message still had are in the vectors. An empty message is not handed out with
 * the end: that would be the end alone. */
static ssize_t handed_out(struct frame *f, const struct reading *r, size_t length, size_t taken)
{
	f->left = length - taken;
	if (f->left)
		*r->hints = CP_READ_MORE;
	else if (f->ended && f->ahead.length == 0 && taken)
		*r->hints = CP_READ_END;
	else if (f->drained && !is_ahead(f))
		*r->hints = CP_READ_DRAINED;
	f->end_told = *r->hints & CP_READ_END;
	return (ssize_t)taken;
}

/** Hand out what was read ahead, if it is enough. */
static ssize_t take_ahead(struct frame *f, const struct reading *r)
{
	size_t head = f->left ? 0 : HEAD;
	if (f->ahead.length < head)
		return CP_AGAIN;
	size_t length = f->left ? f->left : head_length(kept_at(&f->ahead));
	size_t wanted = length < r->room ? length : r->room;
	if (f->ahead.length - head < wanted)
		return CP_AGAIN;
	if (wanted)
		vec_copy(r->vec, r->count, 0, kept_at(&f->ahead) + head, wanted, true);
	kept_drop(&f->ahead, head + wanted);
	return handed_out(f, r, length, wanted);
}

/** Not enough: what was read is kept until there is more. */
static int keep_read(struct frame *f, const struct reading *r, size_t of_head, size_t of_message)
{
	char *at = of_head ? kept_add(&f->ahead, of_head) : NULL;
	if (at)
		memcpy(at, r->head + r->have, of_head);
	if ((of_head && !at) || (of_message && !kept_add_vec(&f->ahead, r->vec, r->count, r->before, of_message)))
		return read_failed(f, CP_ENOMEM);
	return CP_AGAIN;
}

/** `got` bytes were read: the rest of the head, and then into the vectors, where their first `before` bytes are left
 * free for what was read ahead. */
static ssize_t take_read(struct frame *f, const struct reading *r, size_t got)
{
	size_t of_head = got < HEAD - r->have ? got : HEAD - r->have;
	size_t filled = r->before + got - of_head;
	bool whole_head = r->have + of_head == HEAD;
	size_t length = f->left ? f->left : head_length(r->head);
	size_t wanted = length < r->room ? length : r->room;
	struct kept behind = {0};
	if (!whole_head || filled < wanted)
		return keep_read(f, r, of_head, got - of_head);
	if (filled > wanted && !kept_add_vec(&behind, r->vec, r->count, wanted, filled - wanted))
		return read_failed(f, CP_ENOMEM);
	if (r->before)
		vec_copy(r->vec, r->count, 0, kept_at(&f->ahead) + f->ahead.length - r->before, r->before, true);
	kept_drop(&f->ahead, f->ahead.length);
	f->ahead = behind;
	return handed_out(f, r, length, wanted);
}

/** Read what is missing, and what comes behind it.
 * @return as a read; CP_AGAIN also if it was not enough, and below there is more */
static ssize_t read_below(struct frame *f, struct reading *r)
{
	struct iovec vec[VECS_MOST + 1];
	int count = 0;
	r->have = f->left ? HEAD : f->ahead.length < HEAD ? f->ahead.length : HEAD;
	r->before = f->ahead.length - (f->left ? 0 : r->have);
	if (!f->left && r->have)
		memcpy(r->head, kept_at(&f->ahead), r->have);
	if (r->have < HEAD)
		vec[count++] = (struct iovec){r->head + r->have, HEAD - r->have};
	count += vec_skip(vec + count, r->vec, r->count, r->before);

	unsigned below;
	ssize_t got = cp_stream_readv(f->lower, vec, count, &below);
	f->drained = got == CP_AGAIN || below & CP_READ_DRAINED;
	f->ended = below & CP_READ_END;
	if (got <= 0)
		return got < 0 ? got : CP_AGAIN;
	return take_read(f, r, (size_t)got);
}

/** Below has ended, and there is no whole message left. */
static ssize_t read_end(struct frame *f, unsigned *hints)
{
	char byte;
	unsigned ignored;
	struct iovec vec = {&byte, 1};
	if (f->left || f->ahead.length) {
		cp_log(CP_INFO, "frame", "the end of file came inside a message");
		return read_failed(f, CP_ERESET);
	}
	ssize_t behind = f->end_told ? cp_stream_readv(f->lower, &vec, 1, &ignored) : 0;
	if (behind < 0 && behind != CP_AGAIN)
		return read_failed(f, (int)behind);
	f->end_told = true;
	*hints = CP_READ_END;
	return 0;
}

static ssize_t frame_read(struct cp_stream *stream, const struct iovec *vec, int count, unsigned *hints)
{
	struct frame *f = frame_of(stream);
	struct reading reading = {.vec = vec, .count = count < VECS_MOST ? count : VECS_MOST, .hints = hints};
	reading.room = vec_length(vec, reading.count);
	*hints = 0;
	if (f->read_error)
		return f->read_error;
	ssize_t got = take_ahead(f, &reading);
	while (got == CP_AGAIN && !f->drained && !f->ended)
		got = read_below(f, &reading);
	if (got == CP_AGAIN && f->ended)
		return read_end(f, hints);
	return got < 0 && got != CP_AGAIN ? read_failed(f, (int)got) : got;
}

/* ---- Writing ------------------------------------------------------------------------------------------------ */

static int write_failed(struct frame *f, int error)
{
	f->write_error = error;
	kept_drop(&f->rest, f->rest.length);
	return error;
}

static int too_long(struct frame *f, size_t length)
{
	cp_log(
		CP_INFO, "frame",
		"a message of %zu bytes or more is too long for the converter \"frame\", which carries at most %d: limit the "
		"messages where they come from, or lead them to a target that takes longer ones",
		length, MESSAGE_MOST);
	return write_failed(f, CP_ELIMIT);
}

/** Write what was taken earlier. @return CP_OK: all of it is below */
static int write_rest(struct frame *f)
{
	struct iovec vec = {kept_at(&f->rest), f->rest.length};
	ssize_t put = cp_stream_writev(f->lower, &vec, 1, 0);
	if (put == CP_AGAIN)
		return CP_AGAIN;
	if (put < 0)
		return write_failed(f, (int)put);
	kept_drop(&f->rest, (size_t)put);
	return f->rest.length ? CP_AGAIN : CP_OK;
}

/** Keep a piece of a message; the head's place is in front of the first one. */
static int collect(struct frame *f, const struct iovec *vec, int count, size_t length)
{
	if (!f->parts.length && !kept_add(&f->parts, HEAD))
		return write_failed(f, CP_ENOMEM);
	return kept_add_vec(&f->parts, vec, count, 0, length) ? CP_OK : write_failed(f, CP_ENOMEM);
}

static void put_head(char *head, size_t length)
{
	head[0] = (char)(length >> 8);
	head[1] = (char)length;
}

/** The message in `parts` is whole. It is kept already, so it is taken, whatever fits below. */
static ssize_t send_collected(struct frame *f, size_t last)
{
	put_head(kept_at(&f->parts), f->parts.length - HEAD);
	f->rest = f->parts;
	f->parts = (struct kept){0};
	int result = write_rest(f);
	return result == CP_OK || result == CP_AGAIN ? (ssize_t)last : result;
}

/** A message in one go: head and bytes in one write. */
static ssize_t send_whole(struct frame *f, const struct iovec *vec, int count, size_t length)
{
	char head[HEAD];
	struct iovec out[VECS_MOST + 1] = {{head, HEAD}};
	put_head(head, length);
	memcpy(out + 1, vec, (size_t)count * sizeof(*vec));
	ssize_t put = cp_stream_writev(f->lower, out, count + 1, 0);
	if (put == CP_AGAIN) {
		f->wants_write = true;
		return CP_AGAIN;
	}
	if (put < 0)
		return write_failed(f, (int)put);
	if ((size_t)put < HEAD + length &&
		!kept_add_vec(&f->rest, out, count + 1, (size_t)put, HEAD + length - (size_t)put))
		return write_failed(f, CP_ENOMEM);
	return (ssize_t)length;
}

static ssize_t frame_write(struct cp_stream *stream, const struct iovec *vec, int count, unsigned flags)
{
	struct frame *f = frame_of(stream);
	size_t length = vec_length(vec, count), before = f->parts.length ? f->parts.length - HEAD : 0;
	if (f->write_error)
		return f->write_error;
	if (before + length > MESSAGE_MOST)
		return too_long(f, before + length);
	if (f->rest.length) { /* below calls when it can go on */
		f->wants_write = true;
		return CP_AGAIN;
	}
	if (!f->parts.length && !(flags & CP_WRITE_MORE) && count <= VECS_MOST)
		return send_whole(f, vec, count, length);
	int result = collect(f, vec, count, length);
	if (result != CP_OK)
		return result;
	return flags & CP_WRITE_MORE ? (ssize_t)length : send_collected(f, length);
}

static int frame_shutdown(struct cp_stream *stream)
{
	struct frame *f = frame_of(stream);
	if (f->write_error)
		return f->write_error;
	if (f->parts.length)
		return write_failed(f, CP_EINVAL); /* in the middle of a message */
	f->shut = f->rest.length;
	return f->shut ? CP_OK : cp_stream_shutdown_write(f->lower);
}

/* ---- Closing ------------------------------------------------------------------------------------------------ */

/** Close below; memory goes at the end of the turn. What is cut short must not look complete. */
static void end(struct frame *f)
{
	bool cut = f->parts.length || f->rest.length || f->write_error;
	cp_timer_stop(&f->timer);
	kept_drop(&f->parts, f->parts.length);
	kept_drop(&f->rest, f->rest.length);
	cp_stream_close(f->lower, cut && !cp_cause_is_reset(f->cause) ? CP_CAUSE_KILLED : f->cause);
	f->dead = true;
	cp_defer(f->stream.loop, &f->deferred, on_deferred);
}

static void on_timer(struct cp_timer *timer)
{
	end((struct frame *)((char *)timer - offsetof(struct frame, timer)));
}

static void frame_close(struct cp_stream *stream, enum cp_cause cause)
{
	struct frame *f = frame_of(stream);
	cp_stream_set_user(stream, NULL, NULL);
	kept_drop(&f->ahead, f->ahead.length);
	f->closed = true;
	f->cause = cause;
	if (f->rest.length)
		cp_timer_start(&f->timer, CLOSE_MS);
	else
		end(f);
}

/* ---- Events ------------------------------------------------------------------------------------------------- */

static void on_deferred(struct cp_deferred *deferred)
{
	struct frame *f = (struct frame *)((char *)deferred - offsetof(struct frame, deferred));
	if (!f->dead) {
		cp_stream_notify(&f->stream, CP_READABLE);
		return;
	}
	cp_stream_deinit(&f->stream);
	free(f);
}

/** Below takes more. @return whether the user can write again, or has to be told that it cannot */
static bool can_write(struct frame *f)
{
	int result = f->rest.length ? write_rest(f) : CP_OK;
	if (result == CP_AGAIN)
		return false;
	if (result == CP_OK && f->shut && !f->closed) {
		f->shut = false;
		f->write_error = cp_stream_shutdown_write(f->lower);
	}
	bool wanted = f->wants_write;
	f->wants_write = false;
	return wanted;
}

static void on_lower_ready(struct cp_stream *lower, unsigned events, void *arg)
{
	struct frame *f = arg;
	(void)lower;
	if (events & CP_READABLE)
		f->drained = false;
	if (events & CP_WRITABLE && !can_write(f))
		events &= ~(unsigned)CP_WRITABLE;
	if (f->closed && !f->dead && f->rest.length == 0)
		end(f);
	else if (events)
		cp_stream_notify(&f->stream, events);
}

static void frame_await(struct cp_stream *stream, unsigned events)
{
	struct frame *f = frame_of(stream);
	unsigned below = events;
	if (events & CP_READABLE && (is_ahead(f) || f->ended || f->read_error)) {
		cp_defer(stream->loop, &f->deferred, on_deferred);
		below &= ~(unsigned)CP_READABLE;
	}
	f->wants_write |= (events & CP_WRITABLE) != 0;
	if (f->rest.length)
		below &= ~(unsigned)CP_WRITABLE; /* it calls anyway */
	if (below)
		cp_stream_await(f->lower, below);
}

static const struct cp_stream_ops frame_ops = {
	.size = sizeof(struct cp_stream_ops),
	.name = "frame",
	.read = frame_read,
	.write = frame_write,
	.shutdown_write = frame_shutdown,
	.close = frame_close,
	.await = frame_await,
};

struct cp_stream *frame_stream_new(struct cp_stream *lower, struct cp_system *owner)
{
	struct frame *f = calloc(1, sizeof(*f));
	if (!f)
		return NULL;
	cp_stream_init(&f->stream, &frame_ops, lower->loop, owner);
	f->stream.messages = true;
	f->lower = lower;
	cp_timer_init(&f->timer, lower->loop, on_timer);
	cp_stream_set_user(lower, on_lower_ready, f);
	return &f->stream;
}
