/* Fuzz: bytes as the beginning of a connection with a PROXY header of version 1.
 *
 * What must hold for any bytes: the verdict is there at some length and stays the same for every longer one; a header
 * is as long as its line; what it says, written and read again, is the same. */
#include "../../systems/proxy/header.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition)                                                  \
	do {                                                                    \
		if (!(condition)) {                                                 \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                        \
		}                                                                   \
	} while (0)

static bool same_peer(const struct cp_peer *a, const struct cp_peer *b)
{
	return cp_ip_equal(&a->ip, &b->ip) && a->port == b->port;
}

static void check_found(const uint8_t *data, size_t size, const struct proxy_header *header)
{
	struct proxy_header again;
	uint8_t line[PROXY_V1_MOST];
	REQUIRE(header->length >= 15 && header->length <= PROXY_V1_MOST && header->length <= size);
	REQUIRE(memcmp(data + header->length - 2, "\r\n", 2) == 0);
	REQUIRE(!header->local && header->tlvs.length == 0);
	REQUIRE((header->source.ip.family == 0) == (header->transport == PROXY_UNKNOWN));
	size_t length = proxy_v1_write(&header->source, &header->destination, line);
	REQUIRE(proxy_v1_read(line, length, &again) == PROXY_FOUND && again.length == length);
	REQUIRE(same_peer(&header->source, &again.source) && same_peer(&header->destination, &again.destination));
}

/* In memory of just that size, so that a sanitizer sees what reads beyond. */
static enum proxy_verdict read_part(const uint8_t *data, size_t size, struct proxy_header *header)
{
	uint8_t *part = malloc(size ? size : 1);
	REQUIRE(part);
	memcpy(part, data, size);
	enum proxy_verdict verdict = proxy_v1_read(part, size, header);
	if (verdict == PROXY_FOUND)
		check_found(part, size, header);
	free(part);
	return verdict;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum proxy_verdict first = PROXY_MORE;
	struct proxy_header decided = {0}, header;
	size_t most = size < 2 * PROXY_V1_MOST ? size : 2 * PROXY_V1_MOST;
	for (size_t length = 0; length <= most; length++) {
		enum proxy_verdict verdict = read_part(data, length, &header);
		if (first == PROXY_MORE) {
			REQUIRE(verdict != PROXY_MORE || (length < PROXY_V1_MOST && header.length > length));
			first = verdict;
			decided = header;
		}
		REQUIRE(verdict == first && header.version == decided.version);
		REQUIRE(verdict != PROXY_FOUND || header.length == decided.length);
		REQUIRE(verdict != PROXY_MALFORMED || (header.reason == decided.reason && header.offset == decided.offset));
	}
	return 0;
}
