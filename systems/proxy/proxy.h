/** The proxy system: its options, and what its files share.
 *
 *     proxy.c      registers; which options an address means
 *     options.c    reads them from the configuration
 *     accept.c     reads headers: the accepting side        header_v1.c, header_v2.c
 *     connect.c    writes headers: the connecting side      header_write.c
 *     facts.c      between facts and TLVs
 *
 * Options are written while loading and read-only from then on: any thread. */
#ifndef PROXY_PROXY_H
#define PROXY_PROXY_H

#include "header.h"

#include <connpipe/converter.h>
#include <connpipe/counter.h>
#include <connpipe/router.h>
#include <connpipe/settings.h>

/** X(name, word, meaning): what can stand in the key `tlvs`. */
#define PROXY_SENDS(X)                                                               \
	X(PROXY_SEND_AUTHORITY, "authority", "the name that the client asked for")       \
	X(PROXY_SEND_ALPN, "alpn", "the protocol that was agreed upon")                  \
	X(PROXY_SEND_SSL, "ssl", "version, cipher and client certificate of TLS")        \
	X(PROXY_SEND_UNIQUE_ID, "unique_id", "of the connection, received or made here") \
	X(PROXY_SEND_MULTIPLEX, "multiplex", "the subport that the client asked for")    \
	X(PROXY_SEND_CRC32C, "crc32c", "the checksum of the header")

enum proxy_send {
#define PROXY_SEND_ENUM(name, word, meaning) name,
	PROXY_SENDS(PROXY_SEND_ENUM)
#undef PROXY_SEND_ENUM
};

/** What one form of the converter does: `proxy+`, `proxy(v1)+`, `proxy(profile)+` … */
struct proxy_options {
	uint8_t version;  /**< read only headers of this version, write this one; 0: read both, write 2 */
	bool optional;    /**< trusted sources may send no header, others cannot send one */
	bool restricted;  /**< only those below are trusted; otherwise everybody is */
	bool trusts_unix; /**< who has no IP address */
	uint32_t trusted_count;
	const struct cp_cidr *trusted;
	uint32_t length;  /**< bytes that a header of version 2 may have */
	uint64_t wait_ms; /**< optional: how long a header is waited for; 0: for ever */
	uint32_t sends;   /**< bit set of enum proxy_send */
};

struct proxy_profile {
	struct proxy_profile *next;
	const char *id;
	struct proxy_options options;
};

struct proxy_counters {
	cp_counter read, absent, malformed, untrusted, written;
};

/** One load of the system. */
struct proxy {
	struct cp_arena *arena;                /**< holds this, and what profiles have */
	struct proxy_options all;              /**< `proxy+`, and what the others begin with */
	struct proxy_options v1, v2, optional; /**< `proxy(v1)+` … */
	struct proxy_profile *profiles;
	struct proxy_counters counters;
};

/** The options that an argument stands for, or NULL. */
const struct proxy_options *proxy_find(const struct proxy *proxy, const char *argument);

/** Read what a table says into `options`, which are those that it inherits. Errors are reported. */
void proxy_options_read(struct cp_arena *arena, const struct cp_settings *table, struct proxy_options *options);
/** Whether headers of this source are believed. @param peer  NULL: unknown */
bool proxy_options_trust(const struct proxy_options *options, const struct cp_peer *peer);

/** cp_converter_def; the converter's `arg` is a struct proxy. */
int proxy_accept(const struct cp_converter *converter, struct cp_open *open);
void proxy_accept_cancel(struct cp_open *open);
int proxy_connect(const struct cp_converter *converter, struct cp_open *open);
void proxy_connect_cancel(struct cp_open *open);

/** Both sides' openings that wait begin with this, so that one `cancel` can tell them apart. */
struct proxy_waiting {
	void (*cancel)(struct cp_open *open);
};

/** Facts of a header: peer and destination are not among them. */
void proxy_facts_set(struct cp_request *request, const struct proxy_header *header);
/** TLVs of the facts, as far as they are to be sent and are known. */
void proxy_facts_put(struct cp_request *request, uint32_t sends, struct proxy_writer *writer);

#endif
