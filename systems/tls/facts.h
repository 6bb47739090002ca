/** What a handshake tells about the client, as facts of its request. */
#ifndef TLS_FACTS_H
#define TLS_FACTS_H

#include "tls.h"

/** Adds the facts:
 *     sni, alpn                     text, or null: none
 *     tls_version, tls_cipher       "1.3", "TLS_AES_128_GCM_SHA256"
 *     tls_resumed                   bool
 * and, where certificates of clients are asked for,
 *     tls_client_verified           bool
 *     tls_client_subject            RFC 2253; null: no certificate, as the next two
 *     tls_client_cn
 *     tls_client_fingerprint        SHA-256 of the certificate, in hexadecimal */
void facts_add(struct cp_request *request, SSL *ssl, bool asks_client);

#endif
