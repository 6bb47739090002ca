/* A TLS connection in use.
 *
 *     read     OpenSSL reads from the stream below into a buffer of its own, decrypts it there, and copies to the user.
 *              The buffer exists only while there is something in it.
 *     write    records are collected in the worker's buffer and written below together. What is not taken there is
 *              held, at most one write's worth; until it is gone nothing more is encrypted.
 *
 * Ends: close_notify is the end of file, in each direction by itself (RFC 8446, 6.1). An end of file below without it
 * is a truncation, which travels as a reset. A close in order delivers what is held and close_notify; a reset delivers
 * what is held, and the peer sees that close_notify is missing.
 *
 * Halves: OpenSSL writes nothing while it has part of a message of the peer (KeyUpdate). Writes and close_notify wait
 * for the rest (`write_blocked`, `shut_blocked`).
 *
 * Wake-ups: the stream below is edge-triggered. `lower_drained` says that it will call; only then may the user be left
 * waiting. What OpenSSL has of a record that is not whole is no reason to call the user (`starved`). */
#include "stream.h"

#include "words.h"

#include <openssl/err.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum {
	HELD_MOST = WORK_OUT + 16384, /* a write, and answers to a peer that wants them but does not read them */
	CLOSE_MS = 5000,              /* for what is held when its user leaves */
	BEHIND_END = 16,              /* reads in a row of what comes behind the end, and is ignored */
};

static void on_deferred(struct cp_deferred *deferred);
static int shut_down(struct tls_stream *t);
static void on_held_timer(struct cp_timer *timer);

static struct tls_stream *tls_stream(struct cp_stream *stream)
{
	return (struct tls_stream *)stream;
}

/* ---- What is held ------------------------------------------------------------------------------------------- */

static void held_free(struct tls_stream *t)
{
	if (!t->held)
		return;
	cp_timer_stop(&t->held->timer);
	free(t->held);
	t->held = NULL;
}

/** Room for `more` bytes behind what is held. The timer must not run: it moves. */
static bool held_grow(struct tls_stream *t, size_t more)
{
	size_t length = t->held ? t->held->length : 0;
	if (length + more > HELD_MOST)
		return false;
	struct held *held = malloc(sizeof(*held) + length + more);
	if (!held)
		return false;
	cp_timer_init(&held->timer, t->stream.loop, on_held_timer);
	held->stream = t;
	held->start = 0;
	held->length = length;
	if (t->held)
		memcpy(held->bytes, t->held->bytes + t->held->start, length);
	held_free(t);
	t->held = held;
	return true;
}

static bool hold(struct tls_stream *t, const char *bytes, size_t length)
{
	if (length == 0)
		return true;
	if (!held_grow(t, length))
		return false;
	memcpy(t->held->bytes + t->held->length, bytes, length);
	t->held->length += length;
	return true;
}

/** Nothing more can be written. */
static void broken(struct tls_stream *t, struct tls_work *work, int error)
{
	t->write_error = (int8_t)error;
	held_free(t);
	if (work)
		work->length = 0;
}

/** So much was taken; hold the rest. */
static void taken(struct tls_stream *t, struct tls_work *work, size_t count)
{
	size_t of_held = 0, of_work = work ? work->length : 0;
	if (t->held) {
		of_held = count < t->held->length ? count : t->held->length;
		t->held->start += of_held;
		t->held->length -= of_held;
		if (t->held->length == 0)
			held_free(t);
	}
	size_t skip = count - of_held;
	if (work)
		work->length = 0;
	if (of_work > skip && !hold(t, work->out + skip, of_work - skip))
		broken(t, work, CP_ELIMIT);
}

void stream_flush(struct tls_stream *t, struct tls_work *work, unsigned flags)
{
	struct iovec vec[2];
	int count = 0;
	size_t total = 0;
	if (t->held) {
		cp_timer_stop(&t->held->timer);
		vec[count++] = (struct iovec){t->held->bytes + t->held->start, t->held->length};
		total += t->held->length;
	}
	if (work && work->length) {
		vec[count++] = (struct iovec){work->out, work->length};
		total += work->length;
	}
	if (count == 0)
		return;
	if (t->write_error) {
		broken(t, work, t->write_error);
		return;
	}
	ssize_t put = t->lower_full ? CP_AGAIN : cp_stream_writev(t->lower, vec, count, flags);
	if (put < 0 && put != CP_AGAIN) {
		broken(t, work, (int)put);
		return;
	}
	t->lower_full = put < (ssize_t)total;
	taken(t, work, put < 0 ? 0 : (size_t)put);
}

bool stream_hold_back(struct tls_stream *t, struct tls_work *work, uint64_t ms)
{
	if (t->held || !hold(t, work->out, work->length))
		return false; /* goes the usual way */
	work->length = 0;
	if (t->held && ms) {
		cp_timer_start(&t->held->timer, ms);
	} else if (t->held) {
		t->send = true;
		cp_defer(t->stream.loop, &t->deferred, on_deferred);
	}
	return true;
}

/* ---- The end of it ------------------------------------------------------------------------------------------ */

static void stream_free(struct tls_stream *t)
{
	cp_stream_deinit(&t->stream);
	free(t);
}

/** Sessions stay good for the next connection, however this one has ended: OpenSSL takes them out of use when it frees
 * a connection that was not shut down. */
static void free_ssl(struct tls_stream *t)
{
	if (!t->ssl)
		return;
	if (t->read_error != CP_EPROTO)
		SSL_set_shutdown(t->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(t->ssl);
	t->ssl = NULL;
}

void stream_drop(struct tls_stream *t, enum cp_cause cause)
{
	held_free(t);
	free_ssl(t);
	cp_stream_close(t->lower, cause);
	t->lower = NULL;
	t->state = TLS_CLOSED;
	if (!t->deferred.queued)
		stream_free(t);
}

void stream_end(struct tls_stream *t, enum cp_cause cause)
{
	if (!t->held) {
		stream_drop(t, cause);
		return;
	}
	free_ssl(t);
	t->state = TLS_CLOSING;
	t->cause = (uint8_t)cause;
	t->shut_below = false;
	cp_timer_start(&t->held->timer, CLOSE_MS);
}

/** It was held back long enough; or, while closing, nobody takes it. */
static void on_held_timer(struct cp_timer *timer)
{
	struct tls_stream *t = ((struct held *)timer)->stream;
	if (t->state == TLS_CLOSING)
		stream_drop(t, t->cause == CP_CAUSE_DONE ? CP_CAUSE_IDLE_TIMEOUT : t->cause);
	else
		stream_flush(t, NULL, 0);
}

/* ---- Wake-ups ----------------------------------------------------------------------------------------------- */

static int shut_lower(struct tls_stream *t)
{
	t->shut_below = false;
	int result = cp_stream_shutdown_write(t->lower);
	return result == CP_EUNSUPPORTED ? CP_OK : result; /* close_notify tells it all the same */
}

static void on_deferred(struct cp_deferred *deferred)
{
	struct tls_stream *t = (struct tls_stream *)((char *)deferred - offsetof(struct tls_stream, deferred));
	if (t->state == TLS_CLOSED) {
		stream_free(t);
		return;
	}
	if (t->send && t->state == TLS_OPEN)
		stream_flush(t, NULL, 0);
	t->send = false;
	if (t->shut_blocked && t->state == TLS_OPEN)
		shut_down(t); /* if that fails, reading will tell */
	unsigned tell = t->state == TLS_OPEN ? t->tell : 0;
	t->tell = 0;
	if (tell)
		cp_stream_notify(&t->stream, tell);
}

void stream_woken(struct tls_stream *t, unsigned events)
{
	if (events & CP_RECALL)
		cp_stream_restore(t->lower);
	if (events & CP_READABLE)
		t->lower_drained = t->starved = false;
	if ((events & CP_READABLE) && t->shut_blocked)
		shut_down(t);
	if (!(events & CP_WRITABLE))
		return;
	t->lower_full = false;
	stream_flush(t, NULL, 0);
	if (!t->held && t->shut_below && !t->write_error)
		shut_lower(t); /* if that fails, reading will tell */
}

/** What the user is told when the stream below was ready for `events`. */
static unsigned news(struct tls_stream *t, unsigned events)
{
	unsigned tell = events & CP_READABLE;
	if ((events & CP_READABLE) && t->write_blocked) /* writing reads on by itself, whether the user reads or not */
		events |= CP_WRITABLE;
	if ((events & CP_WRITABLE) && t->wants_write && !t->held) {
		t->wants_write = t->write_blocked = false;
		tell |= CP_WRITABLE;
	}
	return tell;
}

static void on_lower_ready(struct cp_stream *lower, unsigned events, void *arg)
{
	struct tls_stream *t = arg;
	(void)lower;
	if (t->state == TLS_CLOSED)
		return;
	stream_woken(t, events);
	switch ((enum tls_state)t->state) {
	case TLS_HANDSHAKE:
		handshake_continue(t);
		break;
	case TLS_OPEN: {
		unsigned tell = news(t, events);
		if (tell)
			cp_stream_notify(&t->stream, tell);
		break;
	}
	case TLS_CLOSING:
		if (t->held)
			cp_timer_start(&t->held->timer, CLOSE_MS);
		else
			stream_drop(t, t->cause);
		break;
	case TLS_CLOSED:
		break;
	}
}

/** Tell the user at the end of this turn. @param events  that it may read, or write */
static void tell_later(struct tls_stream *t, unsigned events)
{
	t->tell |= (uint8_t)events;
	cp_defer(t->stream.loop, &t->deferred, on_deferred);
}

/* ---- Reading ------------------------------------------------------------------------------------------------ */

/** What a call of OpenSSL that has failed for good means; logs what was wrong. */
static int failure(struct tls_stream *t)
{
	struct cp_error error;
	int code = words_failure(t, SSL_is_server(t->ssl), &error);
	if (code == CP_EPROTO)
		cp_log(CP_INFO, TLS_ID, "a connection breaks: %s", error.message);
	return code;
}

/** SSL_read_ex() got nothing. @param total  bytes that were read before  @return what the read returns */
static ssize_t read_stopped(struct tls_stream *t, size_t total, unsigned *hints)
{
	int reason = SSL_get_error(t->ssl, 0);
	if (reason == SSL_ERROR_WANT_READ && !t->lower_drained) { /* enough for one turn */
		if (total == 0)
			tell_later(t, CP_READABLE);
		return total ? (ssize_t)total : CP_AGAIN;
	}
	if (reason == SSL_ERROR_WANT_READ) {
		t->starved = true;
		*hints = total ? CP_READ_DRAINED : 0;
		return total ? (ssize_t)total : CP_AGAIN;
	}
	if (reason == SSL_ERROR_ZERO_RETURN) {
		t->ended = true;
		*hints = CP_READ_END;
		return (ssize_t)total;
	}
	t->read_error = (int8_t)failure(t);
	return total ? (ssize_t)total : t->read_error;
}

/** Whether there is nothing to be had, and the stream below will call when there is. */
static bool is_waiting(const struct tls_stream *t)
{
	return t->lower_drained && (t->starved || !SSL_has_pending(t->ssl));
}

static ssize_t read_into(struct tls_stream *t, const struct iovec *vec, int count, unsigned *hints)
{
	size_t total = 0;
	for (int i = 0; i < count; i++) {
		for (size_t filled = 0, got; filled < vec[i].iov_len; filled += got) {
			if (!SSL_read_ex(t->ssl, (char *)vec[i].iov_base + filled, vec[i].iov_len - filled, &got))
				return read_stopped(t, total, hints);
			total += got;
			t->worker->work->reads_most = IDLE_READS + (unsigned)(total / (RECORD_PLAIN / 2));
			if (is_waiting(t)) { /* saves the call that would only say so */
				*hints = CP_READ_DRAINED;
				return (ssize_t)total;
			}
		}
	}
	return (ssize_t)total;
}

/** Behind close_notify everything is ignored (RFC 8446, 6.1), but for an error of the stream below. */
static ssize_t read_behind_end(struct tls_stream *t, unsigned *hints)
{
	char ignored[4096];
	struct iovec vec = {ignored, sizeof(ignored)};
	*hints = CP_READ_END;
	for (int i = 0; i < BEHIND_END; i++) {
		unsigned below;
		ssize_t got = cp_stream_readv(t->lower, &vec, 1, &below);
		if (got == CP_AGAIN || (got >= 0 && below & (CP_READ_DRAINED | CP_READ_END)))
			return 0;
		if (got < 0)
			return t->read_error = (int8_t)got;
	}
	tell_later(t, CP_READABLE);
	return 0;
}

/** A message that stood before what is to be written may be whole now. */
static void read_unblocks(struct tls_stream *t)
{
	if (SSL_in_init(t->ssl))
		return;
	if (t->write_blocked && t->wants_write)
		tell_later(t, CP_WRITABLE);
	if (t->shut_blocked)
		tell_later(t, 0);
	t->write_blocked = false;
}

static ssize_t tls_read(struct cp_stream *stream, const struct iovec *vec, int count, unsigned *hints)
{
	struct tls_stream *t = tls_stream(stream);
	if (t->read_error)
		return t->read_error;
	if (t->ended)
		return read_behind_end(t, hints);
	if (t->starved && t->lower_drained)
		return CP_AGAIN;
	if (!bio_enter(t))
		return CP_ENOMEM;
	ssize_t result = read_into(t, vec, count, hints);
	read_unblocks(t);
	bio_leave(t, 0); /* an alert, an answer to a KeyUpdate */
	if (t->write_error != CP_ELIMIT)
		return result;
	cp_log(CP_INFO, TLS_ID, "a connection breaks: its peer wants one answer after the other, and reads none");
	t->read_error = CP_EPROTO;
	*hints = 0; /* the error is there to be read */
	return result > 0 ? result : CP_EPROTO;
}

/* ---- Writing ------------------------------------------------------------------------------------------------ */

/** Where a write has got to in its vectors. */
struct cursor {
	const struct iovec *vec;
	int count;
	size_t offset; /* in the first one */
};

static void advance(struct cursor *c, size_t bytes)
{
	while (c->count > 0 && bytes >= c->vec->iov_len - c->offset) {
		bytes -= c->vec->iov_len - c->offset;
		c->vec++;
		c->count--;
		c->offset = 0;
	}
	c->offset += bytes;
}

/** The next record's bytes: where they are, or, if they are in several vectors, copied together. */
static struct iovec next_record(const struct cursor *c, struct tls_work *work)
{
	struct cursor at = *c;
	size_t length = c->vec->iov_len - c->offset;
	if (c->count == 1 || length >= RECORD_PLAIN)
		return (struct iovec){(char *)c->vec->iov_base + c->offset, length < RECORD_PLAIN ? length : RECORD_PLAIN};
	for (length = 0; at.count > 0 && length < RECORD_PLAIN;) {
		size_t left = at.vec->iov_len - at.offset, room = RECORD_PLAIN - length, piece = left < room ? left : room;
		memcpy(work->gathered + length, (char *)at.vec->iov_base + at.offset, piece);
		length += piece;
		advance(&at, piece);
	}
	return (struct iovec){work->gathered, length};
}

/** OpenSSL writes nothing while a message of the peer (KeyUpdate, NewSessionTicket) is not whole: it wants to read the
 * rest of it first. That is no failure. */
static void write_stopped(struct tls_stream *t)
{
	if (t->write_error)
		return;
	if (SSL_get_error(t->ssl, 0) != SSL_ERROR_WANT_READ) {
		t->write_error = (int8_t)failure(t);
		return;
	}
	t->write_blocked = true;
	if (!t->lower_drained)
		tell_later(t, CP_WRITABLE);
}

/** Encrypt as much as the stream below takes. @return bytes taken, or an error */
static ssize_t write_records(struct tls_stream *t, struct cursor *c, unsigned flags)
{
	struct tls_work *work = t->worker->work;
	size_t total = 0, put;
	advance(c, 0); /* empty vectors */
	while (c->count > 0 && !t->lower_full) {
		if (WORK_OUT - work->length < RECORD_MOST) {
			stream_flush(t, work, flags | CP_WRITE_MORE);
			continue;
		}
		struct iovec record = next_record(c, work);
		if (t->write_error || !SSL_write_ex(t->ssl, record.iov_base, record.iov_len, &put)) {
			write_stopped(t);
			break;
		}
		advance(c, put);
		total += put;
	}
	stream_flush(t, work, flags);
	if (t->write_error)
		return t->write_error;
	return total || !t->write_blocked ? (ssize_t)total : CP_AGAIN;
}

static ssize_t tls_write(struct cp_stream *stream, const struct iovec *vec, int count, unsigned flags)
{
	struct tls_stream *t = tls_stream(stream);
	struct cursor cursor = {vec, count, 0};
	if (t->write_error)
		return t->write_error;
	if (t->shut)
		return CP_ERESET;
	if (t->lower_full) {
		t->wants_write = true;
		return CP_AGAIN;
	}
	if (!bio_enter(t))
		return CP_ENOMEM;
	t->write_blocked = false;
	ssize_t result = write_records(t, &cursor, flags);
	bio_leave(t, flags);
	t->wants_write |= cursor.count > 0;
	return result;
}

/** close_notify, behind everything written. What comes at once is the end below: it goes with it.
 * @return false: a message of the peer that is not whole stands before it */
static bool write_close_notify(struct tls_stream *t)
{
	bool written = true;
	if (t->write_error || t->read_error == CP_EPROTO || !bio_enter(t))
		return true;
	if (SSL_in_init(t->ssl) && SSL_do_handshake(t->ssl) != 1) {
		written = SSL_get_error(t->ssl, -1) != SSL_ERROR_WANT_READ;
		if (written)
			t->write_error = (int8_t)failure(t);
	} else {
		SSL_shutdown(t->ssl);
	}
	bio_leave(t, written ? CP_WRITE_MORE : 0);
	return written;
}

/** The end of what we send, here and below; later, if something stands before it. */
static int shut_down(struct tls_stream *t)
{
	t->shut_blocked = !write_close_notify(t);
	if (t->shut_blocked && !t->lower_drained)
		tell_later(t, 0);
	if (t->write_error || t->shut_blocked)
		return t->write_error;
	t->shut_below = t->held;
	return t->held ? CP_OK : shut_lower(t);
}

static int tls_shutdown_write(struct cp_stream *stream)
{
	struct tls_stream *t = tls_stream(stream);
	if (t->shut)
		return CP_OK;
	t->shut = true;
	return shut_down(t);
}

static void tls_close(struct cp_stream *stream, enum cp_cause cause)
{
	struct tls_stream *t = tls_stream(stream);
	cp_stream_set_user(stream, NULL, NULL);
	if (!cp_cause_is_reset(cause) && (!t->shut || t->shut_blocked) && !write_close_notify(t))
		cp_log(CP_INFO, TLS_ID, "a connection ends without close_notify: its peer has sent part of a message only");
	else if (t->held && !t->lower_full)
		stream_flush(t, NULL, 0); /* it was held back */
	t->shut_blocked = false;
	stream_end(t, cause);
}

static void tls_await(struct cp_stream *stream, unsigned events)
{
	struct tls_stream *t = tls_stream(stream);
	if ((events & CP_READABLE) && t->ended)
		cp_stream_await(t->lower, CP_READABLE);
	else if ((events & CP_READABLE) && (t->read_error || !is_waiting(t)))
		tell_later(t, CP_READABLE);
	if (!(events & CP_WRITABLE))
		return;
	t->wants_write = true;
	if (!t->lower_full)
		cp_stream_await(t->lower, CP_WRITABLE);
}

static const struct cp_stream_ops tls_ops = {
	.size = sizeof(struct cp_stream_ops),
	.name = "tls",
	.read = tls_read,
	.write = tls_write,
	.shutdown_write = tls_shutdown_write,
	.close = tls_close,
	.await = tls_await,
};

struct tls_stream *stream_new(struct tls_worker *worker, SSL_CTX *context, struct cp_stream *lower)
{
	struct tls_stream *t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	t->ssl = SSL_new(context);
	if (!t->ssl) {
		ERR_clear_error();
		free(t);
		return NULL;
	}
	BIO_up_ref(worker->bio);
	SSL_set_bio(t->ssl, worker->bio, worker->bio);
	cp_stream_init(&t->stream, &tls_ops, lower->loop, worker->tls->system);
	t->worker = worker;
	t->lower = lower;
	cp_stream_set_user(lower, on_lower_ready, t);
	return t;
}
