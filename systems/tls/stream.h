/** A TLS connection: a stream over a stream. */
#ifndef TLS_STREAM_H
#define TLS_STREAM_H

#include "bio.h"

struct handshake;
struct session_slot;

/** X(name, meaning) */
#define TLS_STATES(X)                                                                      \
	X(TLS_HANDSHAKE, "not open yet; nobody uses it")                                       \
	X(TLS_OPEN, "in use")                                                                  \
	X(TLS_CLOSING, "its user has left; what was written is still on its way, for a while") \
	X(TLS_CLOSED, "the stream below is gone; freed when the call that is due has been made")

enum tls_state {
#define TLS_STATE_ENUM(name, meaning) name,
	TLS_STATES(TLS_STATE_ENUM)
#undef TLS_STATE_ENUM
};

/** Records that the stream below has not taken yet. There is one only while there is something in it. */
struct held {
	struct cp_timer timer; /* sends what is held back; while closing: gives up */
	struct tls_stream *stream;
	size_t start, length;
	char bytes[];
};

struct tls_stream {
	struct cp_stream stream; /* first */
	struct cp_stream *lower;
	struct tls_worker *worker;
	SSL *ssl;
	struct handshake *handshake; /* TLS_HANDSHAKE only */
	struct held *held;
	struct session_slot *slot; /* connecting: where a session is kept for the next time; or NULL */
	uint32_t slot_serial;
	uint8_t state;          /* enum tls_state */
	uint8_t cause;          /* enum cp_cause: CLOSING */
	uint8_t tell;           /* CP_READABLE and CP_WRITABLE: what the deferred call tells the user */
	int8_t read_error;      /* enum cp_err: what every further read returns */
	int8_t write_error;     /* … write */
	int8_t lower_error;     /* the stream below broke while reading */
	bool lower_drained : 1; /* the stream below has nothing now, and will call */
	bool lower_full : 1;    /* the stream below takes nothing now, and will call */
	bool lower_ended : 1;   /* its end of file was read */
	bool starved : 1;       /* OpenSSL has asked for more than there was since the stream below last called */
	bool ended : 1;         /* close_notify was read */
	bool shut : 1;          /* close_notify was written */
	bool shut_below : 1;    /* the stream below is to be shut down when nothing is held any more */
	bool offered : 1;       /* the handshake offered the session of the slot */
	bool wants_write : 1;   /* the user waits */
	bool write_blocked : 1; /* … for the rest of a message of the peer: nothing is encrypted before it is there */
	bool shut_blocked : 1;  /* close_notify waits for that */
	bool send : 1;          /* it is for what is held back */
	struct cp_deferred deferred;
};

/** A connection that has its handshake before it. Takes `lower` if it succeeds. @return NULL when out of memory */
struct tls_stream *stream_new(struct tls_worker *worker, SSL_CTX *context, struct cp_stream *lower);

/** Nobody uses it any more: what is held is delivered, then the stream below is closed for `cause`. Frees `t`. */
void stream_end(struct tls_stream *t, enum cp_cause cause);
/** Likewise, without delivering anything. */
void stream_drop(struct tls_stream *t, enum cp_cause cause);

/** Give the stream below what is held and what the work has; hold what it does not take. */
void stream_flush(struct tls_stream *t, struct tls_work *work, unsigned flags);

/** Hold back what the work has, so that it goes with the next write. @param ms  but no longer than this; 0: than this
 * turn of the loop. @return false when out of memory: then nothing has changed */
bool stream_hold_back(struct tls_stream *t, struct tls_work *work, uint64_t ms);

/** The stream below can be read or written again: note that, and write what is held. */
void stream_woken(struct tls_stream *t, unsigned events);

/** handshake.c: go on with the handshake, which may end the stream. */
void handshake_continue(struct tls_stream *t);

#endif
