/** Headers of the PROXY protocol, versions 1 (a line of text) and 2 (binary): pure functions from bytes and to bytes.
 *
 *     bytes so far ── proxy_header_read() ──▶ MORE | FOUND | ABSENT | MALFORMED
 *     addresses, TLVs ── proxy_v1_write(), proxy_v2_begin() … proxy_v2_end() ──▶ bytes
 *
 * Reading begins anew with each call, so it does not matter how the bytes were split. Nothing is copied: what the
 * result points to is in the bytes. Source: https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt */
#ifndef PROXY_HEADER_H
#define PROXY_HEADER_H

#include <connpipe/address.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	PROXY_V1_MOST = 107,        /**< the longest line, its CRLF included */
	PROXY_V2_FIXED = 16,        /**< what every header of version 2 begins with */
	PROXY_V2_UNIX = 216,        /**< the longest block of addresses */
	PROXY_V2_MOST = 16 + 65535, /**< the longest header of version 2 */
	PROXY_UNIQUE_ID_MOST = 128, /**< bytes */
};

/** Types of TLVs. */
enum {
	PROXY_TLV_ALPN = 0x01,
	PROXY_TLV_AUTHORITY = 0x02,
	PROXY_TLV_CRC32C = 0x03,
	PROXY_TLV_NOOP = 0x04,
	PROXY_TLV_UNIQUE_ID = 0x05,
	PROXY_TLV_SSL = 0x20,
	PROXY_TLV_SSL_VERSION = 0x21,
	PROXY_TLV_SSL_CN = 0x22,
	PROXY_TLV_SSL_CIPHER = 0x23,
	PROXY_TLV_SSL_SIG_ALG = 0x24,
	PROXY_TLV_SSL_KEY_ALG = 0x25,
	PROXY_TLV_NETNS = 0x30,
	PROXY_TLV_CUSTOM_FIRST = 0xe0, /**< for applications: these 16 */
	PROXY_TLV_MULTIPLEX = 0xe9,    /**< ours: the subport that the client asked for, UTF-8 */
	PROXY_TLV_CUSTOM_LAST = 0xef,
};

/** Bits in the first byte of PROXY_TLV_SSL. */
enum {
	PROXY_SSL_USED = 0x01,         /**< the client came over TLS */
	PROXY_SSL_CERT_CONN = 0x02,    /**< it showed a certificate in this connection */
	PROXY_SSL_CERT_SESSION = 0x04, /**< … or in an earlier one of the same TLS session */
};

/* ---- Reading ------------------------------------------------------------------------------------------------ */

enum proxy_verdict {
	PROXY_MORE,      /**< not decided: more bytes are needed */
	PROXY_FOUND,     /**< a whole header */
	PROXY_ABSENT,    /**< the bytes begin with the signature of neither version */
	PROXY_MALFORMED, /**< the signature is there, what follows is not right */
};

enum proxy_transport {
	PROXY_UNKNOWN, /**< of a connection that is no one else's (LOCAL), or not told (UNKNOWN, UNSPEC) */
	PROXY_TCP,
	PROXY_UDP,
	PROXY_UNIX,
	PROXY_UNIX_DATAGRAM,
};

struct proxy_bytes {
	const uint8_t *at;
	size_t length;
};

struct proxy_header {
	uint8_t version; /**< 1 or 2; 0 until the signature is whole */
	bool local;      /**< FOUND: made by the proxy itself (LOCAL), not on behalf of a client */
	enum proxy_transport transport;
	struct cp_peer source, destination;               /**< of family 0: none */
	struct proxy_bytes source_path, destination_path; /**< PROXY_UNIX; empty: unnamed. "\0name" is an abstract one */
	struct proxy_bytes tlvs;                          /**< FOUND: well-formed, of correct sum; may be empty */
	size_t length;      /**< FOUND: of the header. MORE: how long it can become, as far as is known by now */
	const char *reason; /**< MALFORMED: static text … */
	size_t offset;      /**< … and the byte that it is about, from 0 */
};

/** Look for a header of version 1, of version 2, or of either at the beginning of `bytes`.
 * @param most    how long a header of version 2 may be
 * @param header  filled as its members say */
enum proxy_verdict proxy_v1_read(const uint8_t *bytes, size_t length, struct proxy_header *header);
enum proxy_verdict proxy_v2_read(const uint8_t *bytes, size_t length, size_t most, struct proxy_header *header);
enum proxy_verdict proxy_header_read(const uint8_t *bytes, size_t length, size_t most, struct proxy_header *header);

struct proxy_tlv {
	uint8_t type;
	struct proxy_bytes value;
};

/** Take the first TLV off `tlvs`. @return false: none is left, or what is left is no TLV (then `tlvs` is not empty) */
bool proxy_tlv_next(struct proxy_bytes *tlvs, struct proxy_tlv *tlv);

struct proxy_ssl {
	uint8_t client;          /**< PROXY_SSL_* bits */
	uint32_t verify;         /**< 0: the client's certificate was verified */
	struct proxy_bytes tlvs; /**< PROXY_TLV_SSL_* */
};

/** Take the value of a PROXY_TLV_SSL apart. @return false: it is too short */
bool proxy_ssl_read(struct proxy_bytes value, struct proxy_ssl *ssl);

/** CRC-32C (RFC 4960, appendix B), to be called piece by piece. @param crc  0 at first, then what was returned */
uint32_t proxy_crc32c(uint32_t crc, const uint8_t *bytes, size_t length);

/* ---- Writing ------------------------------------------------------------------------------------------------ */

/** Write a line of version 1. An IPv4 address beside an IPv6 one is written as IPv4-mapped (RFC 4291, 2.5.5.2); a
 * destination of family 0 as the unspecified address.
 * @param source  of family 0: the line says UNKNOWN
 * @return its length */
size_t proxy_v1_write(const struct cp_peer *source, const struct cp_peer *destination, uint8_t line[PROXY_V1_MOST]);

/** A header of version 2 that is being written. What does not fit is counted, not written. */
struct proxy_writer {
	uint8_t *at;
	size_t room, length;
};

/** @param local   LOCAL: the connection is the proxy's own
 * @param source  of family 0: UNSPEC. Otherwise as for version 1 */
void proxy_v2_begin(struct proxy_writer *writer, uint8_t *buffer, size_t room, bool local, const struct cp_peer *source,
					const struct cp_peer *destination);
void proxy_v2_put(struct proxy_writer *writer, uint8_t type, const void *value, size_t length);

/** A TLV that has others inside: those between `open` and `close`.
 * @param value  what comes in front of them
 * @return for close */
size_t proxy_v2_open(struct proxy_writer *writer, uint8_t type, const void *value, size_t length);
void proxy_v2_close(struct proxy_writer *writer, size_t opened);

/** @param sum  append a CRC-32C of it all
 * @return the length; 0: it does not fit in the room, or in a header */
size_t proxy_v2_end(struct proxy_writer *writer, bool sum);

#endif
