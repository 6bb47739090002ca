/** Keys of session tickets (RFC 5077; RFC 8446, 4.6.1): the server keeps nothing, clients bring their sessions along.
 *
 * Keys made here belong to a profile's id, for all workers and over reloads, and change with time: each encrypts for
 * the lifetime of a ticket and then decrypts for as long, so that no ticket is lost and no key stays. Keys from a file
 * are for fleets: their owner changes them. */
#ifndef TLS_TICKETS_H
#define TLS_TICKETS_H

#include "tls.h"

struct tickets;

/** The keys of the profile of that id. Any thread. @return NULL when out of memory or randomness */
struct tickets *tickets_join(const char *id, uint64_t lifetime_seconds);
/** Keys from files, the first one encrypts. @param value  a path, or an array of them @return NULL after an error */
struct tickets *tickets_read(const struct cp_settings *value);
void tickets_leave(struct tickets *tickets);

/** Connections of the context, which has its profile as its data, use the profile's tickets. */
void tickets_use(SSL_CTX *context);

#endif
