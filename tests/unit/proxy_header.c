/* Headers of the PROXY protocol from bytes and to bytes: systems/proxy/header.h. */
#include "proxy_samples.h"

#include <criterion/criterion.h>

enum { MOST = 4096 };

/* ---- Reading ------------------------------------------------------------------------------------------------ */

static void expect_peer(const struct cp_peer *peer, const char *text, const char *sample)
{
	char found[CP_PEER_TEXT];
	cp_peer_print(peer, found, sizeof(found));
	cr_expect_str_eq(found, text, "%s: %s", sample, found);
}

Test(proxy_header, each_sample_is_read)
{
	for (const struct sample *s = samples; s->name; s++) {
		struct proxy_header header;
		enum proxy_verdict verdict = proxy_header_read((const uint8_t *)s->bytes, s->length, MOST, &header);
		cr_assert_eq(verdict, PROXY_FOUND, "%s: %s", s->name, header.reason ? header.reason : "no reason");
		cr_expect_eq(header.length, s->length, "%s", s->name);
		cr_expect_eq(header.version, s->version, "%s", s->name);
		cr_expect_eq(header.transport, s->transport, "%s", s->name);
		cr_expect_eq(header.local, s->local, "%s", s->name);
		expect_peer(&header.source, s->source, s->name);
		expect_peer(&header.destination, s->destination, s->name);
	}
}

Test(proxy_header, no_part_of_a_sample_is_taken_for_the_whole)
{
	for (const struct sample *s = samples; s->name; s++) {
		for (size_t length = 0; length < s->length; length++) {
			struct proxy_header header;
			uint8_t *part = malloc(length + 1); /* a sanitizer sees what reads beyond */
			memcpy(part, s->bytes, length);
			part = realloc(part, length ? length : 1);
			enum proxy_verdict verdict = proxy_header_read(part, length, MOST, &header);
			cr_assert_eq(verdict, PROXY_MORE, "%s: %zu bytes of %zu", s->name, length, s->length);
			cr_assert_gt(header.length, length, "%s: it needs more than the %zu bytes there are", s->name, length);
			free(part);
		}
	}
}

Test(proxy_header, what_is_behind_is_not_looked_at)
{
	for (const struct sample *s = samples; s->name; s++) {
		struct proxy_header header;
		uint8_t bytes[1024];
		memcpy(bytes, s->bytes, s->length);
		memset(bytes + s->length, 0xff, sizeof(bytes) - s->length);
		cr_assert_eq(proxy_header_read(bytes, sizeof(bytes), MOST, &header), PROXY_FOUND, "%s", s->name);
		cr_expect_eq(header.length, s->length, "%s", s->name);
	}
}

/** The verdict is the same with every byte from `first` on, whatever follows, and no part before says otherwise. */
Test(proxy_header, malformed_ones_are_refused_as_soon_as_it_shows)
{
	for (const struct bad_sample *s = bad_samples; s->bytes; s++) {
		for (size_t length = 0; length <= s->length; length++) {
			struct proxy_header header;
			enum proxy_verdict verdict = proxy_header_read((const uint8_t *)s->bytes, length, MOST, &header);
			cr_assert_eq(verdict, length < s->shows ? PROXY_MORE : PROXY_MALFORMED, "%s: %zu bytes of %zu: %d",
						 s->reason, length, s->length, verdict);
			if (verdict != PROXY_MALFORMED)
				continue;
			cr_assert_str_eq(header.reason, s->reason, "%s, not %s", header.reason, s->reason);
			cr_assert_eq(header.offset, s->offset, "%s: at %zu", s->reason, header.offset);
		}
	}
}

Test(proxy_header, other_bytes_are_no_header)
{
	static const char *const others[] = {
		"GET / HTTP/1.1\r\n", "PROX", "PROXY", "PROXY ", "proxy ", "\r\n\r\n", "\x16\x03\x01\x02", "SSH-2.0-", "P",
		"\r\n\r\n \r\nQUIT\n"};
	static const size_t differ[] = {0, SIZE_MAX, SIZE_MAX, SIZE_MAX, 0, SIZE_MAX, 0, 0, SIZE_MAX, 4};
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		struct proxy_header header;
		for (size_t length = 0; length <= strlen(others[i]); length++) {
			enum proxy_verdict verdict = proxy_header_read((const uint8_t *)others[i], length, MOST, &header);
			cr_assert_eq(verdict, length > differ[i] ? PROXY_ABSENT : PROXY_MORE, "%s: %zu bytes", others[i], length);
		}
	}
}

Test(proxy_header, the_longest_lines)
{
	static const char v4[] = "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n";
	static const char v6[] =
		"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
		"65535 65535\r\n";
	static const char unknown[] = "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
								  "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
	struct proxy_header header;
	cr_assert_eq(strlen(unknown), PROXY_V1_MOST);
	cr_expect_eq(proxy_v1_read((const uint8_t *)v4, 56, &header), PROXY_FOUND);
	cr_expect_eq(proxy_v1_read((const uint8_t *)v6, 104, &header), PROXY_FOUND);
	cr_expect_eq(proxy_v1_read((const uint8_t *)unknown, PROXY_V1_MOST, &header), PROXY_FOUND);
	char longer[PROXY_V1_MOST + 2];
	memset(longer, 'x', sizeof(longer));
	memcpy(longer, unknown, PROXY_V1_MOST - 2);
	memcpy(longer + PROXY_V1_MOST - 1, "\r\n", 2);
	cr_expect_eq(proxy_v1_read((const uint8_t *)longer, PROXY_V1_MOST - 1, &header), PROXY_MORE);
	cr_expect_eq(proxy_v1_read((const uint8_t *)longer, PROXY_V1_MOST, &header), PROXY_MALFORMED);
}

Test(proxy_header, the_limit_of_version_2)
{
	uint8_t *bytes = calloc(1, PROXY_V2_MOST);
	struct proxy_header header;
	struct proxy_writer writer;
	struct cp_peer none = {0};
	proxy_v2_begin(&writer, bytes, PROXY_V2_MOST, false, &none, &none);
	uint8_t *padding = calloc(1, 65535);
	proxy_v2_put(&writer, PROXY_TLV_NOOP, padding, 65535 - 3);
	cr_assert_eq(proxy_v2_end(&writer, false), PROXY_V2_MOST);
	cr_expect_eq(proxy_v2_read(bytes, PROXY_V2_MOST, PROXY_V2_MOST, &header), PROXY_FOUND);
	cr_expect_eq(proxy_v2_read(bytes, PROXY_V2_FIXED, PROXY_V2_MOST, &header), PROXY_MORE);
	cr_expect_eq(header.length, PROXY_V2_MOST);
	cr_expect_eq(proxy_v2_read(bytes, PROXY_V2_FIXED, PROXY_V2_MOST - 1, &header), PROXY_MALFORMED);
	cr_expect_eq(proxy_v2_read(bytes, PROXY_V2_FIXED - 1, MOST, &header), PROXY_MORE);
	free(padding);
	free(bytes);
}

/* ---- TLVs --------------------------------------------------------------------------------------------------- */

Test(proxy_header, tlvs_come_in_their_order)
{
	static const uint8_t bytes[] = {1, 0, 2, 'h', '2', 4, 0, 0, 2, 0, 1, 'x'};
	struct proxy_bytes tlvs = {bytes, sizeof(bytes)};
	struct proxy_tlv tlv;
	cr_assert(proxy_tlv_next(&tlvs, &tlv));
	cr_expect_eq(tlv.type, PROXY_TLV_ALPN);
	cr_expect_eq(tlv.value.length, 2);
	cr_expect_eq(memcmp(tlv.value.at, "h2", 2), 0);
	cr_assert(proxy_tlv_next(&tlvs, &tlv));
	cr_expect_eq(tlv.type, PROXY_TLV_NOOP);
	cr_expect_eq(tlv.value.length, 0);
	cr_assert(proxy_tlv_next(&tlvs, &tlv));
	cr_expect_eq(tlv.type, PROXY_TLV_AUTHORITY);
	cr_expect_not(proxy_tlv_next(&tlvs, &tlv));
	cr_expect_eq(tlvs.length, 0);
}

Test(proxy_header, a_tlv_that_is_cut_is_none)
{
	static const uint8_t bytes[] = {1, 0, 2, 'h', '2'};
	for (size_t length = 0; length < sizeof(bytes); length++) {
		struct proxy_bytes tlvs = {bytes, length};
		struct proxy_tlv tlv;
		cr_expect_not(proxy_tlv_next(&tlvs, &tlv));
		cr_expect_eq(tlvs.length, length);
	}
}

/** RFC 3720, B.4, and the check value of the usual catalogues. */
Test(proxy_header, the_checksum_is_that_of_the_rfc)
{
	uint8_t bytes[32];
	cr_expect_eq(proxy_crc32c(0, (const uint8_t *)"123456789", 9), 0xe3069283);
	memset(bytes, 0, sizeof(bytes));
	cr_expect_eq(proxy_crc32c(0, bytes, sizeof(bytes)), 0x8a9136aa);
	memset(bytes, 0xff, sizeof(bytes));
	cr_expect_eq(proxy_crc32c(0, bytes, sizeof(bytes)), 0x62a8ab43);
	for (uint8_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = i;
	cr_expect_eq(proxy_crc32c(0, bytes, sizeof(bytes)), 0x46dd794e);
	cr_expect_eq(proxy_crc32c(proxy_crc32c(0, bytes, 7), bytes + 7, sizeof(bytes) - 7), 0x46dd794e, "in pieces");
}

Test(proxy_header, a_header_with_a_changed_bit_is_refused)
{
	const struct sample *s = sample("v2 with a checksum");
	for (size_t at = PROXY_V2_FIXED; at < s->length; at++) {
		uint8_t bytes[256];
		if (at == PROXY_V2_FIXED + 12)
			continue; /* the type that makes it a checksum */
		struct proxy_header header;
		memcpy(bytes, s->bytes, s->length);
		bytes[at] ^= 1;
		cr_expect_eq(proxy_v2_read(bytes, s->length, MOST, &header), PROXY_MALFORMED, "byte %zu", at);
	}
}

/* ---- Writing ------------------------------------------------------------------------------------------------ */

static struct cp_peer peer(const char *ip, uint16_t port)
{
	struct cp_peer made = {.port = port};
	cr_assert(!*ip || cp_ip_parse(ip, strlen(ip), &made.ip), "%s", ip);
	return made;
}

struct pair {
	const char *source, *destination, *line;
};

static const struct pair pairs[] = {
	{"192.0.2.1", "198.51.100.2", "PROXY TCP4 192.0.2.1 198.51.100.2 51234 443\r\n"},
	{"255.255.255.255", "0.0.0.0", "PROXY TCP4 255.255.255.255 0.0.0.0 51234 443\r\n"},
	{"2001:db8::1", "2001:db8::2", "PROXY TCP6 2001:db8::1 2001:db8::2 51234 443\r\n"},
	{"192.0.2.1", "2001:db8::2", "PROXY TCP6 ::ffff:c000:201 2001:db8::2 51234 443\r\n"},
	{"2001:db8::1", "192.0.2.255", "PROXY TCP6 2001:db8::1 ::ffff:c000:2ff 51234 443\r\n"},
	{"192.0.2.1", "", "PROXY TCP4 192.0.2.1 0.0.0.0 51234 443\r\n"},
	{"2001:db8::1", "", "PROXY TCP6 2001:db8::1 :: 51234 443\r\n"},
	{"", "192.0.2.1", "PROXY UNKNOWN\r\n"},
	{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe",
	 "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe 51234 443\r\n"},
};

static void expect_same(const struct pair *pair, const struct proxy_header *header)
{
	struct cp_peer source = peer(pair->source, 51234), destination = peer(pair->destination, 443);
	if (!source.ip.family) {
		cr_expect_eq(header->transport, PROXY_UNKNOWN);
		return;
	}
	cr_expect(cp_ip_equal(&header->source.ip, &source.ip), "%s", pair->source);
	cr_expect(!destination.ip.family || cp_ip_equal(&header->destination.ip, &destination.ip), "%s", pair->destination);
	cr_expect_eq(header->source.port, 51234);
	cr_expect_eq(header->destination.port, 443);
}

Test(proxy_header, what_version_1_writes_is_read)
{
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		struct cp_peer source = peer(pairs[i].source, 51234), destination = peer(pairs[i].destination, 443);
		uint8_t line[PROXY_V1_MOST];
		struct proxy_header header;
		size_t length = proxy_v1_write(&source, &destination, line);
		cr_assert_eq(length, strlen(pairs[i].line), "%.*s", (int)length, (const char *)line);
		cr_expect_eq(memcmp(line, pairs[i].line, length), 0, "%.*s", (int)length, (const char *)line);
		cr_assert_eq(proxy_v1_read(line, length, &header), PROXY_FOUND, "%s", pairs[i].line);
		cr_expect_eq(header.length, length);
		expect_same(&pairs[i], &header);
	}
}

Test(proxy_header, a_zone_is_not_written)
{
	struct cp_peer source = peer("fe80::1", 1), destination = peer("fe80::2", 2);
	uint8_t line[PROXY_V1_MOST];
	source.ip.zone = 1;
	size_t length = proxy_v1_write(&source, &destination, line);
	cr_expect_eq(memcmp(line, "PROXY TCP6 fe80::1 fe80::2 1 2\r\n", length), 0, "%.*s", (int)length,
				 (const char *)line);
}

Test(proxy_header, what_version_2_writes_is_read)
{
	for (size_t i = 0; i < 2 * sizeof(pairs) / sizeof(pairs[0]); i++) {
		const struct pair *pair = &pairs[i / 2];
		struct cp_peer source = peer(pair->source, 51234), destination = peer(pair->destination, 443);
		uint8_t bytes[512];
		struct proxy_writer writer;
		struct proxy_header header;
		struct proxy_tlv tlv;
		proxy_v2_begin(&writer, bytes, sizeof(bytes), false, &source, &destination);
		proxy_v2_put(&writer, PROXY_TLV_AUTHORITY, "example.org", 11);
		size_t length = proxy_v2_end(&writer, i % 2);
		cr_assert_eq(proxy_v2_read(bytes, length, sizeof(bytes), &header), PROXY_FOUND, "%s: %s", pair->line,
					 header.reason ? header.reason : "");
		cr_expect_eq(header.length, length);
		expect_same(pair, &header);
		cr_assert(proxy_tlv_next(&header.tlvs, &tlv));
		cr_expect_eq(tlv.value.length, 11);
		cr_expect_eq(memcmp(tlv.value.at, "example.org", 11), 0);
	}
}

Test(proxy_header, a_local_header_has_no_addresses)
{
	struct cp_peer source = peer("192.0.2.1", 1), destination = peer("192.0.2.2", 2);
	uint8_t bytes[64];
	struct proxy_writer writer;
	struct proxy_header header;
	proxy_v2_begin(&writer, bytes, sizeof(bytes), true, &source, &destination);
	cr_assert_eq(proxy_v2_end(&writer, false), PROXY_V2_FIXED);
	cr_assert_eq(proxy_v2_read(bytes, PROXY_V2_FIXED, MOST, &header), PROXY_FOUND);
	cr_expect(header.local);
	cr_expect_eq(header.source.ip.family, 0);
}

Test(proxy_header, tlvs_within_tlvs)
{
	struct cp_peer none = {0};
	uint8_t bytes[256];
	struct proxy_writer writer;
	struct proxy_header header;
	struct proxy_tlv tlv;
	struct proxy_ssl ssl;
	proxy_v2_begin(&writer, bytes, sizeof(bytes), false, &none, &none);
	size_t opened = proxy_v2_open(&writer, PROXY_TLV_SSL, "\x07\x00\x00\x00\x12", 5);
	proxy_v2_put(&writer, PROXY_TLV_SSL_CN, "someone", 7);
	proxy_v2_close(&writer, opened);
	proxy_v2_put(&writer, PROXY_TLV_NOOP, "", 0);
	size_t length = proxy_v2_end(&writer, true);
	cr_assert_eq(proxy_v2_read(bytes, length, MOST, &header), PROXY_FOUND);
	cr_assert(proxy_tlv_next(&header.tlvs, &tlv));
	cr_assert(proxy_ssl_read(tlv.value, &ssl));
	cr_expect_eq(ssl.client, 7);
	cr_expect_eq(ssl.verify, 0x12);
	cr_assert(proxy_tlv_next(&ssl.tlvs, &tlv));
	cr_expect_eq(tlv.type, PROXY_TLV_SSL_CN);
	cr_expect_eq(memcmp(tlv.value.at, "someone", tlv.value.length), 0);
	cr_expect_eq(ssl.tlvs.length, 0);
}

Test(proxy_header, what_does_not_fit_is_not_written)
{
	struct cp_peer source = peer("192.0.2.1", 1), destination = peer("192.0.2.2", 2);
	for (size_t room = PROXY_V2_FIXED; room < 60; room++) {
		uint8_t *bytes = malloc(room);
		struct proxy_writer writer;
		proxy_v2_begin(&writer, bytes, room, false, &source, &destination);
		size_t opened = proxy_v2_open(&writer, PROXY_TLV_SSL, "12345", 5);
		proxy_v2_put(&writer, PROXY_TLV_SSL_CN, "cn", 2);
		proxy_v2_close(&writer, opened);
		cr_expect_eq(proxy_v2_end(&writer, true), room < 48 ? 0 : 48, "room for %zu", room);
		free(bytes);
	}
}
