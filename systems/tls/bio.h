/** Between OpenSSL and the stream below.
 *
 * One BIO for all connections of a worker: it belongs to whichever is at work, so an idle connection has none of its
 * own. What OpenSSL writes is collected in the worker's buffer, and given to the stream below once, at the end of the
 * call: all records of a write, all messages of a handshake's flight are one segment. What OpenSSL reads goes from the
 * stream below into its own buffer directly.
 *
 * A connection is at work from bio_enter() to bio_leave(); TLS in TLS makes that nest. */
#ifndef TLS_BIO_H
#define TLS_BIO_H

#include "tls.h"

struct tls_stream;
struct session_cache;

enum {
	RECORD_PLAIN = 16384,              /* most bytes of a record: RFC 8446, 5.1 */
	RECORD_MOST = RECORD_PLAIN + 512,  /* … with header, padding and tag, of any version and cipher */
	WORK_OUT = 4 * RECORD_MOST + 1024, /* what the pump writes at once (64 KiB) is sent at once */
	IDLE_READS = 2,                    /* reads of the stream below that may bring nothing for the user */
};

/** A connection at work. */
struct tls_work {
	struct tls_work *below; /* the one that is interrupted by this, or the next spare one */
	struct tls_stream *stream;
	size_t length;
	unsigned reads, reads_most;  /* of the stream below: how often, and how often it may be */
	char out[WORK_OUT];          /* what OpenSSL has written */
	char gathered[RECORD_PLAIN]; /* small vectors, to be one record */
};

/** What the connections of one worker share. */
struct tls_worker {
	struct tls *tls;
	BIO *bio;
	struct tls_work *work, *spare;
	struct session_cache **sessions; /* for each profile; NULL: nothing kept yet (sessions.h) */
};

BIO_METHOD *bio_method_new(void);

struct tls_worker *bio_worker_new(struct tls *tls);
void bio_worker_free(struct tls_worker *worker);

/** @return false when out of memory */
bool bio_enter(struct tls_stream *t);
/** Ends the work; hands on what OpenSSL has written (stream_flush). @param flags  CP_WRITE_* for the stream below */
void bio_leave(struct tls_stream *t, unsigned flags);

/** The connection that `ssl` is of: the one at work. For callbacks of OpenSSL. */
struct tls_stream *bio_stream(const SSL *ssl);

#endif
