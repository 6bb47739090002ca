/* A compressing stream over a byte stream.
 *
 *     user ── write ──▶ [ compressor ] ──▶ [ rest: what did not fit ] ──▶ the stream below
 *     user ◀─ read ──── [ decompressor ] ◀── [ ahead: what was read too much ] ◀── the stream below
 *
 * What a write gives is flushed, so that the peer can have all of it (unless more is announced). What is held is
 * bounded in both directions: nothing is compressed while `rest` is there, and nothing is read while there is something
 * that the user has not taken. So a few bytes that become gigabytes only make many reads.
 *
 * Frames: a direction is one frame or several, as zstd writes and reads them in files. One begins with the first write,
 * and ends with the end of the direction, or when nothing was written for a while: both contexts, this side's
 * compressor and the peer's decompressor, go back to those who share them, and an idle connection costs as much memory
 * as this file's structure. The next write begins another frame.
 *
 * The end: behind a frame. Everywhere else, at the very beginning too, the end of file is CP_ERESET: what has come was
 * right so far, and then the connection broke off; a direction without bytes is one empty frame. Bytes that are no
 * frame are CP_EPROTO, with zstd's words in the log. */
#include "zstd.h"

#include <connpipe/log.h>

#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <zstd_errors.h>

enum {
	READS_MOST = 16, /* of below in one call, while no byte comes out: empty blocks and frames, or data to skip */
	CLOSE_MS = 5000, /* for what was taken before a close */

	/* Buffers for the length of a call. On the stack, as a stream below may be one of these, too. */
	WRITE_ROOM = 66 << 10, /* what a piece of 64 KiB becomes at most, and some bytes for a frame's head */
	READ_ROOM = 32 << 10,
};

/** A frame without content. RFC 8878, section 3.1.1: magic number, descriptor (one segment, a size of one byte, which
 * is 0), and a last block, raw, of no bytes. */
static const char empty_frame[] = {0x28, (char)0xb5, 0x2f, (char)0xfd, 0x20, 0, 1, 0, 0};

/** What the compressor has not given out yet. */
enum owed { OWED_NOTHING, OWED_FLUSH, OWED_END };

/** Bytes that are kept: from `start` on, `length` of them. Memory only while there are some. */
struct kept {
	char *bytes;
	size_t start, length;
};

struct zstd_stream {
	struct cp_stream stream; /* first */
	struct cp_stream *lower;
	struct zstd_worker *worker;
	const struct zstd_options *options;
	ZSTD_CCtx *compressor;   /* in a frame */
	ZSTD_DCtx *decompressor; /* likewise */
	struct kept rest, ahead;
	struct cp_deferred deferred; /* tells the user that it can read; frees */
	struct cp_timer timer;       /* ends an idle frame; after a close: gives up */
	uint64_t last_write;
	int read_error, write_error;
	enum cp_cause cause; /* of the close */
	enum owed owed;
	bool begun;       /* some frame was begun: writing */
	bool inside;      /* a frame that is not over: reading */
	bool read_begun;  /* some frame was read, or its beginning */
	bool full;        /* the decompressor may have more for the user */
	bool drained;     /* below there was nothing more, and it has not called since */
	bool ended;       /* below has ended */
	bool end_told;    /* and the user knows */
	bool wants_write; /* the user waits for it */
	bool shut;        /* the end goes below, when nothing is owed */
	bool closed, dead;
};

static void on_deferred(struct cp_deferred *deferred);

static struct zstd_stream *zstd_of(struct cp_stream *stream)
{
	return (struct zstd_stream *)stream;
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

/** Keep a copy; there was nothing kept. */
static bool kept_set(struct kept *kept, const char *bytes, size_t length)
{
	kept->bytes = malloc(length);
	if (!kept->bytes)
		return false;
	memcpy(kept->bytes, bytes, length);
	kept->start = 0;
	kept->length = length;
	return true;
}

/* ---- Contexts ----------------------------------------------------------------------------------------------- */

static bool need_compressor(struct zstd_stream *z)
{
	if (z->compressor)
		return true;
	z->compressor = zstd_compressor_take(z->worker, z->options);
	z->begun |= z->compressor != NULL;
	if (z->compressor && z->options->idle_ms)
		cp_timer_start(&z->timer, z->options->idle_ms);
	return z->compressor;
}

static void drop_compressor(struct zstd_stream *z)
{
	if (z->compressor)
		zstd_compressor_give(z->worker, z->options, z->compressor);
	z->compressor = NULL;
	z->owed = OWED_NOTHING;
	if (!z->closed)
		cp_timer_stop(&z->timer);
}

static bool need_decompressor(struct zstd_stream *z)
{
	if (!z->decompressor)
		z->decompressor = zstd_decompressor_take(z->worker, z->options);
	return z->decompressor;
}

static void drop_decompressor(struct zstd_stream *z)
{
	if (z->decompressor)
		zstd_decompressor_give(z->worker, z->options, z->decompressor);
	z->decompressor = NULL;
}

/* ---- Writing ------------------------------------------------------------------------------------------------ */

static int write_failed(struct zstd_stream *z, int error)
{
	z->write_error = error;
	kept_drop(&z->rest, z->rest.length);
	drop_compressor(z);
	return error;
}

/** Give bytes to the stream below; keep what it does not take. */
static int write_below(struct zstd_stream *z, const char *bytes, size_t length, unsigned flags)
{
	struct iovec vec = {(char *)bytes, length};
	if (length == 0)
		return CP_OK;
	ssize_t put = cp_stream_writev(z->lower, &vec, 1, flags);
	if (put < 0 && put != CP_AGAIN)
		return write_failed(z, (int)put);
	size_t taken = put < 0 ? 0 : (size_t)put;
	if (taken < length && !kept_set(&z->rest, bytes + taken, length - taken))
		return write_failed(z, CP_ENOMEM);
	return taken < length ? CP_AGAIN : CP_OK;
}

static int write_rest(struct zstd_stream *z)
{
	struct iovec vec = {z->rest.bytes + z->rest.start, z->rest.length};
	ssize_t put = cp_stream_writev(z->lower, &vec, 1, 0);
	if (put < 0)
		return put == CP_AGAIN ? CP_AGAIN : write_failed(z, (int)put);
	kept_drop(&z->rest, (size_t)put);
	return z->rest.length ? CP_AGAIN : CP_OK;
}

/** One step of the compressor: it takes of `in` and gives out as much as fits into one buffer.
 * @return CP_OK; CP_AGAIN: the stream below is full; an error */
static int compress(struct zstd_stream *z, ZSTD_inBuffer *in, ZSTD_EndDirective directive)
{
	struct zstd_worker *worker = z->worker;
	char buffer[WRITE_ROOM];
	ZSTD_outBuffer out = {buffer, sizeof(buffer), 0};
	size_t before = in->pos, left = ZSTD_compressStream2(z->compressor, &out, in, directive);
	if (ZSTD_isError(left)) { /* memory, or a defect: there are no wrong bytes here */
		cp_log(CP_ERROR, "zstd", "cannot compress: %s", ZSTD_getErrorName(left));
		return write_failed(z, ZSTD_getErrorCode(left) == ZSTD_error_memory_allocation ? CP_ENOMEM : CP_EIO);
	}
	cp_count(worker->loop, worker->shared->written, (int64_t)(in->pos - before));
	cp_count(worker->loop, worker->shared->written_compressed, (int64_t)out.pos);
	z->owed = directive == ZSTD_e_end ? OWED_END : OWED_FLUSH;
	if (directive == ZSTD_e_continue || (left == 0 && in->pos == in->size))
		z->owed = OWED_NOTHING;
	if (directive == ZSTD_e_end && z->owed == OWED_NOTHING)
		drop_compressor(z);
	return write_below(z, buffer, out.pos, directive == ZSTD_e_continue ? CP_WRITE_MORE : 0);
}

/** Give out what is kept and owed. @return CP_OK: nothing is left; CP_AGAIN: below calls when it can go on */
static int drain(struct zstd_stream *z)
{
	int result = z->rest.length ? write_rest(z) : CP_OK;
	while (result == CP_OK && z->owed != OWED_NOTHING) {
		ZSTD_inBuffer nothing = {NULL, 0, 0};
		result = compress(z, &nothing, z->owed == OWED_END ? ZSTD_e_end : ZSTD_e_flush);
	}
	return result;
}

/** @param taken  how much of the vector; also if it fails @return as compress() */
static int write_vec(struct zstd_stream *z, const struct iovec *vec, ZSTD_EndDirective directive, size_t *taken)
{
	ZSTD_inBuffer in = {vec->iov_base, vec->iov_len, 0};
	int result;
	do
		result = compress(z, &in, directive);
	while (result == CP_OK && (in.pos < in.size || z->owed != OWED_NOTHING));
	*taken += in.pos;
	return result;
}

static size_t vec_length(const struct iovec *vec, int count)
{
	size_t length = 0;
	for (int i = 0; i < count; i++)
		length += vec[i].iov_len;
	return length;
}

static ssize_t zstd_write(struct cp_stream *stream, const struct iovec *vec, int count, unsigned flags)
{
	struct zstd_stream *z = zstd_of(stream);
	size_t offered = vec_length(vec, count), taken = 0;
	int result = CP_OK;
	if (z->write_error)
		return z->write_error;
	if (z->rest.length || z->owed != OWED_NOTHING) { /* below calls when it can go on */
		z->wants_write = true;
		return CP_AGAIN;
	}
	if (offered == 0)
		return 0;
	if (!need_compressor(z))
		return write_failed(z, CP_ENOMEM);
	z->last_write = cp_loop_now(stream->loop);
	for (int i = 0; i < count && taken < offered && result == CP_OK; i++) {
		bool last = taken + vec[i].iov_len == offered;
		result = write_vec(z, &vec[i], last && !(flags & CP_WRITE_MORE) ? ZSTD_e_flush : ZSTD_e_continue, &taken);
	}
	if (result != CP_OK && result != CP_AGAIN)
		return result;
	if (taken < offered) {
		z->wants_write = true;
		z->owed = OWED_FLUSH; /* what was taken must not wait for what was not */
	}
	return (ssize_t)taken;
}

/** No more writes: the frame ends, or, if there was none, an empty one tells so. */
static void end_frame(struct zstd_stream *z)
{
	if (z->compressor)
		z->owed = OWED_END;
	else if (!z->begun)
		write_below(z, empty_frame, sizeof(empty_frame), 0);
	z->begun = true;
}

static int zstd_shutdown(struct cp_stream *stream)
{
	struct zstd_stream *z = zstd_of(stream);
	if (!z->write_error)
		end_frame(z);
	int result = z->write_error ? z->write_error : drain(z);
	z->shut = result == CP_AGAIN;
	if (result == CP_OK)
		return cp_stream_shutdown_write(z->lower);
	return z->shut ? CP_OK : result;
}

/* ---- Reading ------------------------------------------------------------------------------------------------ */

static void decompress_failed(struct zstd_stream *z, size_t result)
{
	ZSTD_ErrorCode code = ZSTD_getErrorCode(result);
	if (code == ZSTD_error_memory_allocation) {
		z->read_error = CP_ENOMEM;
		return;
	}
	if (code == ZSTD_error_frameParameter_windowTooLarge)
		cp_log(CP_INFO, "zstd",
			   "cannot decompress: the peer's window is larger than the %" PRIu64
			   " KiB that are allowed: raise `window_limit` in a profile here, or lower `window` there",
			   (uint64_t)1 << z->options->window_limit_log >> 10);
	else
		cp_log(CP_INFO, "zstd", "cannot decompress: %s", ZSTD_getErrorName(result));
	cp_count(z->worker->loop, z->worker->shared->malformed, 1);
	z->read_error = CP_EPROTO;
}

/** Decompress into one vector until it is full or `in` is used up. @return how many bytes; z->read_error may be set */
static size_t decompress_vec(struct zstd_stream *z, ZSTD_inBuffer *in, const struct iovec *vec)
{
	ZSTD_outBuffer out = {vec->iov_base, vec->iov_len, 0};
	while (out.pos < out.size && (in->pos < in->size || z->full)) {
		size_t left = ZSTD_decompressStream(z->decompressor, &out, in);
		if (ZSTD_isError(left)) {
			z->full = false;
			decompress_failed(z, left);
			break;
		}
		z->inside = left != 0;
		z->full = left != 0 && out.pos == out.size;
	}
	return out.pos;
}

static size_t decompress(struct zstd_stream *z, ZSTD_inBuffer *in, const struct iovec *vec, int count)
{
	size_t before = in->pos, got = 0;
	if (!need_decompressor(z)) {
		z->read_error = CP_ENOMEM;
		return 0;
	}
	for (int i = 0; i < count && !z->read_error; i++)
		got += decompress_vec(z, in, &vec[i]);
	if ((!z->inside && in->pos == in->size) || z->read_error)
		drop_decompressor(z);
	cp_count(z->worker->loop, z->worker->shared->read, (int64_t)got);
	cp_count(z->worker->loop, z->worker->shared->read_compressed, (int64_t)(in->pos - before));
	return got;
}

/** Go on with what was read earlier. */
static size_t read_ahead(struct zstd_stream *z, const struct iovec *vec, int count)
{
	ZSTD_inBuffer in = {z->ahead.bytes, z->ahead.start + z->ahead.length, z->ahead.start};
	size_t got = decompress(z, &in, vec, count);
	kept_drop(&z->ahead, z->read_error ? z->ahead.length : in.pos - z->ahead.start);
	return got;
}

static size_t read_below(struct zstd_stream *z, const struct iovec *vec, int count)
{
	char buffer[READ_ROOM];
	struct iovec into = {buffer, sizeof(buffer)};
	unsigned below;
	ssize_t length = cp_stream_readv(z->lower, &into, 1, &below);
	z->drained = length == CP_AGAIN || below & CP_READ_DRAINED;
	z->ended = below & CP_READ_END;
	if (length < 0 && length != CP_AGAIN)
		z->read_error = (int)length;
	if (length <= 0)
		return 0;
	z->read_begun = true;
	ZSTD_inBuffer in = {buffer, (size_t)length, 0};
	size_t got = decompress(z, &in, vec, count);
	if (in.pos < in.size && !z->read_error && !kept_set(&z->ahead, buffer + in.pos, in.size - in.pos))
		z->read_error = CP_ENOMEM;
	return got;
}

/** Below has ended, and nothing is left to decompress. */
static ssize_t read_end(struct zstd_stream *z, unsigned *hints)
{
	char byte;
	unsigned ignored;
	struct iovec vec = {&byte, 1};
	if (z->inside || !z->read_begun) {
		cp_log(CP_INFO, "zstd", "the end of file came %s", z->inside ? "inside a frame" : "before any frame");
		drop_decompressor(z);
		return z->read_error = CP_ERESET;
	}
	ssize_t behind = z->end_told ? cp_stream_readv(z->lower, &vec, 1, &ignored) : 0;
	if (behind < 0 && behind != CP_AGAIN)
		return z->read_error = (int)behind;
	z->end_told = true;
	*hints = CP_READ_END;
	return 0;
}

/** What to say with the bytes of a read. Where something is left, that comes first. */
static unsigned read_hints(struct zstd_stream *z)
{
	if (z->full || z->ahead.length || z->read_error)
		return 0;
	if (!z->ended)
		return z->drained ? CP_READ_DRAINED : 0;
	z->end_told = !z->inside;
	return z->end_told ? CP_READ_END : 0;
}

static ssize_t zstd_read(struct cp_stream *stream, const struct iovec *vec, int count, unsigned *hints)
{
	struct zstd_stream *z = zstd_of(stream);
	size_t got = 0;
	*hints = 0;
	if (z->read_error)
		return z->read_error;
	if (vec_length(vec, count) == 0)
		return 0;
	if (z->ahead.length || z->full)
		got = read_ahead(z, vec, count);
	for (int reads = 0; !got && !z->drained && !z->ended && !z->read_error; reads++) {
		if (reads == READS_MOST) { /* others want their turn, too */
			cp_defer(stream->loop, &z->deferred, on_deferred);
			return CP_AGAIN;
		}
		got = read_below(z, vec, count);
	}
	if (got) {
		*hints = read_hints(z);
		return (ssize_t)got;
	}
	if (z->read_error)
		return z->read_error;
	return z->ended ? read_end(z, hints) : CP_AGAIN;
}

/* ---- Closing ------------------------------------------------------------------------------------------------ */

/** Close below; memory goes at the end of the turn. What is cut short must not look complete. */
static void end(struct zstd_stream *z)
{
	bool cut = z->rest.length || z->owed != OWED_NOTHING || z->write_error;
	cp_timer_stop(&z->timer);
	drop_compressor(z);
	kept_drop(&z->rest, z->rest.length);
	cp_stream_close(z->lower, cut && !cp_cause_is_reset(z->cause) ? CP_CAUSE_KILLED : z->cause);
	z->dead = true;
	cp_defer(z->stream.loop, &z->deferred, on_deferred);
}

static void zstd_close(struct cp_stream *stream, enum cp_cause cause)
{
	struct zstd_stream *z = zstd_of(stream);
	cp_stream_set_user(stream, NULL, NULL);
	drop_decompressor(z);
	kept_drop(&z->ahead, z->ahead.length);
	cp_timer_stop(&z->timer);
	z->closed = true;
	z->cause = cause;
	if (!cp_cause_is_reset(cause) && !z->write_error)
		end_frame(z);
	else if (z->compressor && z->owed == OWED_NOTHING)
		z->owed = OWED_FLUSH;
	if (!z->write_error && drain(z) == CP_AGAIN)
		cp_timer_start(&z->timer, CLOSE_MS);
	else
		end(z);
}

/* ---- Events ------------------------------------------------------------------------------------------------- */

static void on_timer(struct cp_timer *timer)
{
	struct zstd_stream *z = (struct zstd_stream *)((char *)timer - offsetof(struct zstd_stream, timer));
	if (z->closed) {
		end(z);
		return;
	}
	uint64_t quiet = cp_loop_now(z->stream.loop) - z->last_write, most = z->options->idle_ms;
	if (quiet < most || z->rest.length || z->owed != OWED_NOTHING) {
		cp_timer_start(timer, quiet < most ? most - quiet : most);
		return;
	}
	z->owed = OWED_END;
	drain(z); /* if that fails, the next write tells */
}

static void on_deferred(struct cp_deferred *deferred)
{
	struct zstd_stream *z = (struct zstd_stream *)((char *)deferred - offsetof(struct zstd_stream, deferred));
	if (!z->dead) {
		cp_stream_notify(&z->stream, CP_READABLE);
		return;
	}
	cp_stream_deinit(&z->stream);
	free(z);
}

/** Below takes more. @return whether the user can write again, or has to be told that it cannot */
static bool can_write(struct zstd_stream *z)
{
	int result = z->write_error ? z->write_error : drain(z);
	if (result == CP_AGAIN)
		return false;
	if (result == CP_OK && z->shut && !z->closed) {
		z->shut = false;
		z->write_error = cp_stream_shutdown_write(z->lower);
	}
	bool wanted = z->wants_write;
	z->wants_write = false;
	return wanted;
}

static void on_lower_ready(struct cp_stream *lower, unsigned events, void *arg)
{
	struct zstd_stream *z = arg;
	(void)lower;
	if (events & CP_READABLE)
		z->drained = false;
	if (events & CP_WRITABLE && !can_write(z))
		events &= ~(unsigned)CP_WRITABLE;
	if (z->closed && z->rest.length == 0 && (z->owed == OWED_NOTHING || z->write_error))
		end(z);
	else if (events)
		cp_stream_notify(&z->stream, events);
}

static void zstd_await(struct cp_stream *stream, unsigned events)
{
	struct zstd_stream *z = zstd_of(stream);
	unsigned below = events;
	if (events & CP_READABLE && (z->ahead.length || z->full || z->ended || z->read_error)) {
		cp_defer(stream->loop, &z->deferred, on_deferred);
		below &= ~(unsigned)CP_READABLE;
	}
	z->wants_write |= (events & CP_WRITABLE) != 0;
	if (z->rest.length)
		below &= ~(unsigned)CP_WRITABLE; /* it calls anyway */
	if (below)
		cp_stream_await(z->lower, below);
}

static const struct cp_stream_ops zstd_ops = {
	.size = sizeof(struct cp_stream_ops),
	.name = "zstd",
	.read = zstd_read,
	.write = zstd_write,
	.shutdown_write = zstd_shutdown,
	.close = zstd_close,
	.await = zstd_await,
};

struct cp_stream *zstd_stream_new(struct zstd_worker *worker, const struct zstd_options *options,
								  struct cp_stream *lower, struct cp_system *owner)
{
	struct zstd_stream *z = calloc(1, sizeof(*z));
	if (!z)
		return NULL;
	cp_stream_init(&z->stream, &zstd_ops, lower->loop, owner);
	z->lower = lower;
	z->worker = worker;
	z->options = options;
	cp_timer_init(&z->timer, lower->loop, on_timer);
	cp_stream_set_user(lower, on_lower_ready, z);
	return &z->stream;
}
