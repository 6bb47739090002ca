/** Certificates with their keys, from PEM files. Read-only once made. */
#ifndef TLS_CERTIFICATES_H
#define TLS_CERTIFICATES_H

#include "tls.h"

struct certificate {
	X509 *leaf;
	STACK_OF(X509) * chain; /* what is sent behind it */
	EVP_PKEY *key;
	char **names; /* in lower case; `*` may be the first label */
	size_t name_count;
	unsigned char *ocsp; /* the response that is stapled, DER; NULL: none */
	size_t ocsp_length;
	int64_t ocsp_until; /* its nextUpdate, seconds of the epoch */
};

/** Read the keys `certificate`, `key`, `names` and `ocsp` of `table`; errors are reported there, warnings (it has
 * expired) logged. @return whether it is complete; certificate_deinit() in any case */
bool certificate_read(struct certificate *certificate, const struct cp_settings *table);
void certificate_deinit(struct certificate *certificate);

/** The path that a string setting means. @return allocated with malloc; NULL after an error was reported */
char *certificates_path(const struct cp_settings *value);

#endif
