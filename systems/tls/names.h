/** Which certificates are shown for which server name: exact names before wildcards, which stand for one label (RFC
 * 6125, 6.4.3). Certificates of several kinds for one name are in one context: the client's algorithms decide. */
#ifndef TLS_NAMES_H
#define TLS_NAMES_H

#include "tls.h"

struct name_entry {
	const char *name; /* a certificate's */
	SSL_CTX *context;
};

struct names {
	struct name_entry *entries; /* sorted */
	size_t count;
	struct name_context *contexts; /* one for each set of certificates that some name has */
	size_t context_count;
};

/** Make the contexts of a profile whose certificates are there. Errors are reported at `table`. */
bool names_build(struct profile *profile, const struct cp_settings *table);
void names_deinit(struct names *names);

/** What a connection begins with, and keeps if its client names nothing that is known: that of the first certificate.
 */
SSL_CTX *names_default(const struct names *names);
/** The context for a server name, in any case; NULL: nothing fits. */
SSL_CTX *names_find(const struct names *names, const char *name);

#endif
