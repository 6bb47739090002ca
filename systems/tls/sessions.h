/** Sessions with targets, for the next connection: a small cache for each profile on each worker, without locks. One
 * place for one server; servers that share a place take it from each other. */
#ifndef TLS_SESSIONS_H
#define TLS_SESSIONS_H

#include "tls.h"

struct tls_stream;
struct session_cache;

struct session_slot {
	char *key; /* who the session is with; NULL: free */
	SSL_SESSION *session;
	uint32_t serial;  /* of the key: a late session is for another one */
	uint16_t full;    /* so many connections offer no session */
	uint8_t refusals; /* handshakes in a row that failed with a session */
};

void sessions_free(struct session_cache *cache);

/** Connections of the context will keep their sessions. */
void sessions_use(SSL_CTX *context);

/** Begin a connection: resume a session with the same server, if there is one, and keep the next one.
 * @param name  that its certificate was or is checked for  @param address  where it is */
void sessions_begin(struct tls_stream *t, struct session_cache **cache, const char *name,
					const struct cp_address *address);

/** The handshake of a connection is over. Servers are to ignore a session that they do not like, but some break the
 * connection: after a handshake that failed with a session the next ones are full, twice as many each time. */
void sessions_end(struct tls_stream *t, bool succeeded);

#endif
