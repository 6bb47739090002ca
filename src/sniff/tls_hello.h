/** TLS ClientHello, as far as routing asks for it: server name and application protocols.
 *
 * Sources: RFC 8446 sections 4.1.2, 4.2 and 5.1, RFC 5246 section 7.4.1.2, RFC 6066 section 3, RFC 7301 section 3.1.
 * Values that are reserved for greasing (RFC 8701), unknown extensions and keys of any size are skipped. The hello may
 * come in any number of records, and more may follow in its last one. Of an encrypted hello, the outer one is read. The
 * hello of SSL 2 is not known. */
#ifndef SNIFF_TLS_HELLO_H
#define SNIFF_TLS_HELLO_H

#include "verdict.h"

#include <connpipe/arena.h>

#include <stdbool.h>
#include <stddef.h>

enum { TLS_HELLO_MOST = 16 * 1024 }; /* of the handshake message, its header included */

struct tls_hello {
	const char *sni; /* in lower case, ASCII; a name that is none as RFC 6066 wants it (an IP address, a dot behind it,
						other characters than letters, digits, "-", "_" and "."): NULL; none at all: NULL, too */
	size_t sni_length;
	const char *alpn; /* as offered, separated by commas; a protocol whose name has a comma, a control character or
						 bytes that are not ASCII, or is reserved for greasing, is left out; NULL: none */
	size_t alpn_length;
};

/** Whether the bytes begin a ClientHello: certain from the sixth byte on (record type, version 3.0 to 3.4, length,
 * handshake type). */
enum verdict tls_hello_begins(const char *bytes, size_t length);

/** Read the whole of it. VERDICT_NO: malformed (an extension or a host name that comes twice counts as that), or longer
 * than TLS_HELLO_MOST. VERDICT_YES: `hello` is filled, with zero bytes behind its strings.
 * @param arena  for the result; nothing is allocated before the hello is complete */
enum verdict tls_hello_read(const char *bytes, size_t length, struct cp_arena *arena, struct tls_hello *hello);

#endif
