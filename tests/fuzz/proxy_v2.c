/* Fuzz: bytes as the beginning of a connection with a PROXY header of version 2.
 *
 * What must hold for any bytes: the verdict is there at some length and stays the same for every longer one; TLVs lie
 * within the header; what it says, written and read again, is the same, with a checksum that is right. */
#include "../../systems/proxy/header.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST = 2048, STEPS = 400 /* more parts would cost time and find nothing */ };

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

static void check_ssl(struct proxy_bytes value)
{
	struct proxy_ssl ssl;
	struct proxy_tlv tlv;
	REQUIRE(proxy_ssl_read(value, &ssl));
	while (proxy_tlv_next(&ssl.tlvs, &tlv))
		REQUIRE(tlv.value.at + tlv.value.length <= value.at + value.length);
	REQUIRE(ssl.tlvs.length == 0);
}

/* Write the TLVs again, but for checksums. @return how many bytes they are */
static size_t copy_tlvs(struct proxy_bytes left, struct proxy_writer *writer)
{
	struct proxy_tlv tlv;
	size_t before = writer->length;
	while (proxy_tlv_next(&left, &tlv)) {
		if (tlv.type == PROXY_TLV_SSL)
			check_ssl(tlv.value);
		if (tlv.type != PROXY_TLV_CRC32C)
			proxy_v2_put(writer, tlv.type, tlv.value.at, tlv.value.length);
	}
	REQUIRE(left.length == 0);
	return writer->length - before;
}

static void check_again(const struct proxy_header *header)
{
	static uint8_t bytes[2 * MOST];
	struct proxy_writer writer;
	struct proxy_header again;
	proxy_v2_begin(&writer, bytes, sizeof(bytes), header->local, &header->source, &header->destination);
	size_t tlvs = copy_tlvs(header->tlvs, &writer);
	size_t length = proxy_v2_end(&writer, !header->local);
	REQUIRE(length > 0);
	REQUIRE(proxy_v2_read(bytes, length, sizeof(bytes), &again) == PROXY_FOUND && again.length == length);
	REQUIRE(same_peer(&header->source, &again.source));
	REQUIRE(header->source.ip.family == 0 || same_peer(&header->destination, &again.destination));
	REQUIRE(again.local == header->local && (header->local || again.tlvs.length == tlvs + 7));
}

static void check_found(const uint8_t *data, size_t size, const struct proxy_header *header)
{
	REQUIRE(header->length >= PROXY_V2_FIXED && header->length <= MOST && header->length <= size);
	REQUIRE(header->tlvs.length == 0 || header->tlvs.at + header->tlvs.length == data + header->length);
	REQUIRE(header->source_path.length <= 108 && header->destination_path.length <= 108);
	REQUIRE(!header->local || (header->transport == PROXY_UNKNOWN && header->tlvs.length == 0));
	check_again(header);
}

/* In memory of just that size, so that a sanitizer sees what reads beyond. */
static enum proxy_verdict read_part(const uint8_t *data, size_t size, struct proxy_header *header)
{
	uint8_t *part = malloc(size ? size : 1);
	REQUIRE(part);
	memcpy(part, data, size);
	enum proxy_verdict verdict = proxy_v2_read(part, size, MOST, header);
	if (verdict == PROXY_FOUND)
		check_found(part, size, header);
	free(part);
	return verdict;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum proxy_verdict first = PROXY_MORE;
	struct proxy_header decided = {0}, header;
	for (size_t length = 0; length <= size; length = length < STEPS || length == size ? length + 1 : size) {
		enum proxy_verdict verdict = read_part(data, length, &header);
		if (first == PROXY_MORE) {
			REQUIRE(verdict != PROXY_MORE || (length < MOST && header.length > length));
			first = verdict;
			decided = header;
		}
		REQUIRE(verdict == first && header.version == decided.version);
		REQUIRE(verdict != PROXY_FOUND || header.length == decided.length);
		REQUIRE(verdict != PROXY_MALFORMED || (header.reason == decided.reason && header.offset == decided.offset));
	}
	return 0;
}
