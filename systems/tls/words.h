/** What went wrong, in words that say whose doing it was. */
#ifndef TLS_WORDS_H
#define TLS_WORDS_H

#include "tls.h"

struct tls_stream;

/** What a failed call of OpenSSL on a connection means; empties its queue of errors.
 * @param of_client  who is at the other end: a client or a target
 * @return CP_ERESET: the peer has left; CP_EPROTO; or what the stream below said. `error` is filled */
int words_failure(struct tls_stream *t, bool of_client, struct cp_error *error);

/** What OpenSSL says about the last thing that has failed, beside a connection; empties its queue. Good until the next
 * call on this thread. */
const char *words_reason(void);

#endif
