/** Sniffing: what the first bytes of a client say about it, without consuming them.
 *
 * A router that wants to know answers CP_ANSWER_FACTS with a `struct cp_sniff`; it is asked again when that is settled:
 * the facts are those of the request then (cp_request_fact), for every router that is asked after it.
 *
 *     fact    of              value
 *     proto                   "tls", "ssh", "http", "connpipe", or the name of a pattern; null: none of those asked for
 *     sni     TLS             the server name of the ClientHello, in lower case; null: none
 *     alpn    TLS             the protocols that it offers, in its order, separated by commas; null: none
 *     host    HTTP/1          the host without its port, in lower case; null: none
 *     path    HTTP/1          the path without its query; null: none
 *     method  HTTP/1          as it stands; null: none
 *
 * A fact that is null is settled, too: the client speaks something else, was too slow, has ended, or what it sent is
 * malformed or can be understood in two ways (two Host fields, say). A fact that a layer has given (TLS that was
 * terminated tells sni and alpn; alpn is the one that was agreed on) is not looked for.
 *
 * Looking ends at the first certain answer. Patterns come before the protocols known here, and of two that could both
 * match the bytes so far the first one is waited for, so that the answer does not depend on how bytes were cut.
 *
 * Sources: RFC 8446 and RFC 5246 (ClientHello), RFC 6066 section 3 (server_name), RFC 7301 (ALPN), RFC 8701 (GREASE),
 * RFC 9112 (HTTP/1.1 request head), RFC 4253 section 4.2 (SSH). */
#ifndef CONNPIPE_SNIFF_H
#define CONNPIPE_SNIFF_H

#include <connpipe/router.h>

CP_BEGIN_DECLS

/** X(name, text, milliseconds): what can be recognised, and how long after the first wait it may take by default. */
#define CP_PROTOCOLS(X)              \
	X(CP_PROTO_CONNPIPE, "connpipe", 3000) \
	X(CP_PROTO_TLS, "tls", 5000)           \
	X(CP_PROTO_SSH, "ssh", 3000)           \
	X(CP_PROTO_HTTP, "http", 10000)

enum cp_protocol {
#define CP_PROTOCOL_ENUM(name, text, milliseconds) name,
	CP_PROTOCOLS(CP_PROTOCOL_ENUM)
#undef CP_PROTOCOL_ENUM
	CP_PROTO_COUNT
};

/** The word for it, as in the fact `proto`. */
CP_API const char *cp_protocol_text(enum cp_protocol protocol);

/** Bits of cp_sniff.facts: CP_SNIFF_PROTO(protocol) asks whether it is that one. */
#define CP_SNIFF_PROTO(protocol) (1u << (protocol))
enum {
	CP_SNIFF_TLS = 1u << 8,  /**< sni and alpn: the whole ClientHello */
	CP_SNIFF_HTTP = 1u << 9, /**< host, path and method: the whole head of the request */
};

/** Most bytes that are looked at: a ClientHello (all its records) or a request's head that is longer is not known. */
enum { CP_SNIFF_MOST = 16 * 1024 + 512 };

/** A protocol that a user describes: by bytes at the beginning, or by silence. */
struct cp_sniff_pattern {
	const char *name;     /**< what the fact `proto` becomes */
	const uint8_t *bytes; /**< NULL: a client that says nothing for `timeout_ms`, because its server speaks first */
	const uint8_t *mask;  /**< which bits count, one byte for each of `bytes`; NULL: all */
	uint32_t offset, length;
	uint64_t timeout_ms; /**< 0: timeouts.preamble */
};

/** Lives, and stays as it is, as long as the requests that it was given to: it is known by its address. */
struct cp_sniff {
	uint32_t size;  /**< sizeof(struct cp_sniff) */
	unsigned facts; /**< CP_SNIFF_* bits */
	const struct cp_sniff_pattern *patterns;
	uint32_t pattern_count;
	/** Since the first wait, for each protocol; 0: the default. A client that has sent nothing at all is waited for
	 * no longer than the shortest pattern of silence says, or timeouts.preamble if there is none. */
	uint64_t timeout_ms[CP_PROTO_COUNT];
};

/** Whether everything that `sniff` asks for is settled: by sniffing for this very `sniff`, or because all of its facts
 * are there. */
CP_API bool cp_request_sniffed(const struct cp_request *request, const struct cp_sniff *sniff);

CP_END_DECLS
#endif
