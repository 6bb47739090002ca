/** Keys of session tickets (RFC 5077; RFC 8446, 4.6.1): the server keeps nothing, clients bring their sessions along.
 *
 * Keys made here belong to a profile's id, for all workers and over reloads, and change with time: each encrypts for
 * the lifetime of a ticket and then decrypts for as long, so that no ticket is lost and no key stays. Keys from a file
 * are for fleets: their owner changes them. */
#ifndef TLS_TICKETS_H
#define TLS_TICKETS_H

#include "tls.h"

struct tickets;

/** In a file as here: a name that tickets begin with, a key for HMAC-SHA-256, one for AES-256. */
struct ticket_key {
	unsigned char name[16], mac[32], cipher[32];
};

/** The keys of the profile of that id. Any thread. @return NULL when out of memory or randomness */
struct tickets *tickets_join(const char *id);
/** Keys from files, the first one encrypts. @param value  a path, or an array of them @return NULL after an error */
struct tickets *tickets_read(const struct cp_settings *value);
void tickets_leave(struct tickets *tickets);

/** Seconds, for tickets_key(). */
uint64_t tickets_clock(void);

/** Copy a key. Any thread. Keys that were made here change now if they are due: by the lifetime of who uses them, so
 * that a generation that is refused changes nothing.
 * @param name  of the key; NULL: the one that encrypts @return its number, 0 for that one; -1: there is none */
int tickets_key(struct tickets *tickets, const unsigned char *name, uint64_t lifetime_seconds, uint64_t now,
				struct ticket_key *key);

/** Whether a session may still be resumed at `now` (seconds of the epoch): not if it began with a full handshake longer
 * than the lifetime ago, however often it was resumed since, nor if the client's certificate has expired.
 * @param began  the full handshake  @param certificate  the client's; may be NULL */
bool tickets_still_good(int64_t began, uint64_t lifetime_seconds, const X509 *certificate, int64_t now);

/** Connections of the context, which has its profile as its data, use the profile's tickets. */
void tickets_use(SSL_CTX *context);

#endif
