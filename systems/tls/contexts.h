/** What OpenSSL makes connections of: contexts, made of profiles. */
#ifndef TLS_CONTEXTS_H
#define TLS_CONTEXTS_H

#include "tls.h"

enum { CONTEXT_CERTIFICATES = 6 }; /* RSA, RSA-PSS, ECDSA, Ed25519, Ed448, and room for one more */

/** A context for the side that accepts. @param set  numbers of the profile's certificates, no two with keys of one kind
 * @return NULL with `error` filled */
SSL_CTX *contexts_accepting(struct profile *profile, const size_t *set, size_t count, struct cp_error *error);

/** The context of the profile for connecting, which is the profile's; made when it is first asked for. Any thread.
 * @return NULL with `error` filled */
SSL_CTX *contexts_connecting(struct profile *profile, struct cp_error *error);

/** Whether OpenSSL takes what these settings say; errors are reported there. */
bool contexts_check(const struct profile *profile, const struct cp_settings *table);

#endif
