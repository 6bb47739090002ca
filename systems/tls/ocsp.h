/** OCSP stapling from files: somebody else fetches responses, a reload reads them anew (RFC 6960; RFC 6066, 8). */
#ifndef TLS_OCSP_H
#define TLS_OCSP_H

#include "certificates.h"

/** Read the response that the setting names. It has to be one for the certificate; one that is out of date is a
 * warning, and is not sent. */
void ocsp_read(struct certificate *certificate, const struct cp_settings *value);

/** Connections of the context send the responses of these certificates. */
struct profile;
void ocsp_use(SSL_CTX *context, struct profile *profile);

#endif
