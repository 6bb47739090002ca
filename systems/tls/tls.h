/** TLS on OpenSSL, driven directly on streams.
 *
 *     profile      how to be a server and a client: certificates, authorities, versions (profile.h)
 *     worker       what the streams of one worker share (bio.h)
 *     stream       one TLS connection: a stream over a stream (stream.h), at first in its handshake (handshake.c)
 *
 * Start reading in handshake.c, then stream.c. */
#ifndef TLS_TLS_H
#define TLS_TLS_H

#include <connpipe/connpipe.h>
#include <connpipe/counter.h>

#include <openssl/ssl.h>
#include <pthread.h>

struct profile;
struct tls_worker;

#define TLS_ID "1e1001.connpipe.tls"

/** The built-in system of one generation: what cp_system_data() of it is. */
struct tls {
	struct cp_system *system;
	struct profile *profiles; /* those of the configuration; complete, and never changed again, from link on */
	uint32_t profile_count;   /* the built-in profile has the number after the last one */
	struct profile *builtin;  /* of a bare `tls` that connects */
	struct tls_worker **workers;
	uint32_t worker_count;
	pthread_mutex_t lock;      /* over what is made at first use: contexts for connecting, the system's authorities */
	X509_STORE *authorities;   /* the system's; NULL: nobody has asked */
	EVP_CIPHER *ticket_cipher; /* fetched once: looking it up for each ticket costs more than using it */
	BIO_METHOD *method;
	cp_counter accepted, connected, resumed, failed;
};

/** The profile of that id, or NULL. */
struct profile *tls_profile(const struct tls *tls, const char *id);
/** Which profile `argument` (may be NULL) means on the side that accepts. @return NULL with `error` filled */
struct profile *tls_profile_accepting(const struct tls *tls, const char *argument, struct cp_error *error);
/** … on the side that connects. */
struct profile *tls_profile_connecting(const struct tls *tls, const char *argument, struct cp_error *error);

/** handshake.c: cp_converter_def.accept, connect and cancel. */
int handshake_accept(const struct cp_converter *converter, struct cp_open *open);
int handshake_connect(const struct cp_converter *converter, struct cp_open *open);
void handshake_cancel(const struct cp_converter *converter, struct cp_open *open);

#endif
