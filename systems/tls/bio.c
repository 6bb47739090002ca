#include "bio.h"

#include "handshake.h"
#include "sessions.h"
#include "stream.h"

#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

/* ---- The BIO ------------------------------------------------------------------------------------------------ */

static struct tls_work *work_of(BIO *bio)
{
	return ((struct tls_worker *)BIO_get_data(bio))->work;
}

static int again(BIO *bio)
{
	BIO_set_retry_read(bio);
	return -1;
}

static void note_beginning(struct handshake *h, const char *data, size_t length)
{
	for (size_t i = 0; i < length && h->first_length < FIRST_BYTES; i++)
		h->first[h->first_length++] = data[i];
}

/** Into OpenSSL's buffer. OpenSSL goes on reading until it has something for its user: a peer that sends nothing but
 * other messages (a KeyUpdate has 27 bytes, and costs a derivation of keys) would keep the worker to itself as long as
 * it likes. So there is a most of reads in one call, and `lower_drained` tells whether there may be more. @return 1; 0:
 * the end of file; -1: nothing now, or broken */
static int bio_read(BIO *bio, char *data, size_t length, size_t *got)
{
	struct tls_work *work = work_of(bio);
	struct tls_stream *t = work->stream;
	struct iovec vec = {data, length};
	unsigned hints;
	*got = 0;
	BIO_clear_retry_flags(bio);
	if (t->lower_ended)
		return 0;
	if (t->lower_drained || (t->state == TLS_OPEN && work->reads >= work->reads_most))
		return again(bio);
	work->reads++;
	ssize_t bytes = cp_stream_readv(t->lower, &vec, 1, &hints);
	if (bytes == CP_AGAIN) {
		t->lower_drained = true;
		return again(bio);
	}
	if (bytes < 0) {
		t->lower_error = (int8_t)bytes;
		return -1;
	}
	t->lower_ended = hints & CP_READ_END;
	t->lower_drained = hints & CP_READ_DRAINED;
	*got = (size_t)bytes;
	if (t->handshake)
		note_beginning(t->handshake, data, *got);
	return bytes > 0;
}

/** Never refuses: whoever has OpenSSL write looks at the room before. What comes by the way (an answer to a KeyUpdate,
 * an alert) is small. */
static int bio_write(BIO *bio, const char *data, size_t length, size_t *written)
{
	struct tls_work *work = work_of(bio);
	BIO_clear_retry_flags(bio);
	*written = 0;
	while (*written < length) {
		if (work->length == WORK_OUT)
			stream_flush(work->stream, work, CP_WRITE_MORE);
		size_t room = WORK_OUT - work->length, left = length - *written, piece = left < room ? left : room;
		memcpy(work->out + work->length, data + *written, piece);
		work->length += piece;
		*written += piece;
	}
	return 1;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
	(void)number, (void)pointer;
	switch (command) {
	case BIO_CTRL_FLUSH:
		return 1;
	case BIO_CTRL_EOF:
		return work_of(bio)->stream->lower_ended;
	default: /* OpenSSL's own enumeration, which grows */
		return 0;
	}
}

static int bio_create(BIO *bio)
{
	BIO_set_init(bio, 1);
	return 1;
}

BIO_METHOD *bio_method_new(void)
{
	/* No number of its own: those are used up by reloads, and nobody searches for this BIO. */
	BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "connpipe stream");
	if (method && BIO_meth_set_read_ex(method, bio_read) && BIO_meth_set_write_ex(method, bio_write) &&
		BIO_meth_set_ctrl(method, bio_ctrl) && BIO_meth_set_create(method, bio_create))
		return method;
	BIO_meth_free(method);
	return NULL;
}

/* ---- The worker --------------------------------------------------------------------------------------------- */

struct tls_worker *bio_worker_new(struct tls *tls)
{
	struct tls_worker *worker = calloc(1, sizeof(*worker));
	if (!worker)
		return NULL;
	worker->tls = tls;
	worker->bio = BIO_new(tls->method);
	worker->sessions = calloc(tls->profile_count + 1, sizeof(struct session_cache *));
	if (!worker->bio || !worker->sessions) {
		bio_worker_free(worker);
		return NULL;
	}
	BIO_set_data(worker->bio, worker);
	return worker;
}

void bio_worker_free(struct tls_worker *worker)
{
	while (worker->spare) {
		struct tls_work *work = worker->spare;
		worker->spare = work->below;
		free(work);
	}
	for (uint32_t i = 0; worker->sessions && i <= worker->tls->profile_count; i++)
		sessions_free(worker->sessions[i]);
	free(worker->sessions);
	BIO_free(worker->bio);
	free(worker);
}

/* ---- Work --------------------------------------------------------------------------------------------------- */

bool bio_enter(struct tls_stream *t)
{
	struct tls_worker *worker = t->worker;
	struct tls_work *work = worker->spare;
	if (work)
		worker->spare = work->below;
	else if (!(work = malloc(sizeof(*work))))
		return false;
	work->stream = t;
	work->length = 0;
	work->reads = 0;
	work->reads_most = IDLE_READS;
	work->below = worker->work;
	worker->work = work;
	if (ERR_peek_error())  /* clearing goes through all of the queue, looking does not */
		ERR_clear_error(); /* SSL_get_error() looks at whatever is there */
	return true;
}

void bio_leave(struct tls_stream *t, unsigned flags)
{
	struct tls_worker *worker = t->worker;
	struct tls_work *work = worker->work;
	if (work->length)
		stream_flush(t, work, flags);
	worker->work = work->below;
	work->below = worker->spare;
	worker->spare = work;
}

struct tls_stream *bio_stream(const SSL *ssl)
{
	return work_of(SSL_get_rbio(ssl))->stream;
}
