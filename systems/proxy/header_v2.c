/* Version 2: binary. See header.h. */
#include "header.h"

#include <string.h>

enum {
	SIGNATURE = 12,
	VERSION = 12, /* where it is, with the command */
	FAMILY = 13,  /* with the transport protocol */
	LENGTH = 14,
	TLV_FIXED = 3,
	SSL_FIXED = 5,
	SUM = 4,
};

/* Values of the header. */
enum { LOCAL, PROXY };
enum { UNSPEC, INET, INET6, UNIX, FAMILIES };
enum { STREAM = 1, DATAGRAM = 2 };

static const uint8_t signature[SIGNATURE] = "\r\n\r\n\0\r\nQUIT\n";
static const size_t address_lengths[FAMILIES] = {0, 12, 36, PROXY_V2_UNIX};

static enum proxy_verdict malformed(struct proxy_header *header, size_t offset, const char *reason)
{
	header->reason = reason;
	header->offset = offset;
	return PROXY_MALFORMED;
}

static size_t read_16(const uint8_t *bytes)
{
	return (size_t)bytes[0] << 8 | bytes[1];
}

static uint32_t read_32(const uint8_t *bytes)
{
	return (uint32_t)read_16(bytes) << 16 | (uint32_t)read_16(bytes + 2);
}

/* ---- TLVs --------------------------------------------------------------------------------------------------- */

bool proxy_tlv_next(struct proxy_bytes *tlvs, struct proxy_tlv *tlv)
{
	if (tlvs->length < TLV_FIXED)
		return false;
	size_t length = read_16(tlvs->at + 1);
	if (length > tlvs->length - TLV_FIXED)
		return false;
	*tlv = (struct proxy_tlv){tlvs->at[0], {tlvs->at + TLV_FIXED, length}};
	tlvs->at += TLV_FIXED + length;
	tlvs->length -= TLV_FIXED + length;
	return true;
}

bool proxy_ssl_read(struct proxy_bytes value, struct proxy_ssl *ssl)
{
	if (value.length < SSL_FIXED)
		return false;
	*ssl = (struct proxy_ssl){value.at[0], read_32(value.at + 1), {value.at + SSL_FIXED, value.length - SSL_FIXED}};
	return true;
}

/** The header's sum, counted with zeros in the place of the one that is in it. */
static bool is_sum_right(const uint8_t *bytes, size_t length, const uint8_t *sum)
{
	static const uint8_t zeros[SUM];
	uint32_t crc = proxy_crc32c(0, bytes, (size_t)(sum - bytes));
	crc = proxy_crc32c(crc, zeros, SUM);
	crc = proxy_crc32c(crc, sum + SUM, length - (size_t)(sum + SUM - bytes));
	return crc == read_32(sum);
}

/** The TLVs within a PROXY_TLV_SSL. @return what is wrong with them, or NULL */
static const char *check_ssl(struct proxy_bytes value)
{
	struct proxy_ssl ssl;
	struct proxy_tlv tlv;
	if (!proxy_ssl_read(value, &ssl))
		return "a TLV about TLS with less than 5 bytes";
	while (proxy_tlv_next(&ssl.tlvs, &tlv))
		;
	return ssl.tlvs.length > 0 ? "a TLV that is longer than the one about TLS that it is in" : NULL;
}

/** @param sum  set to the value of a checksum  @return what is wrong with this TLV, or NULL */
static const char *check_tlv(const struct proxy_tlv *tlv, const uint8_t **sum)
{
	switch (tlv->type) {
	case PROXY_TLV_SSL:
		return check_ssl(tlv->value);
	case PROXY_TLV_UNIQUE_ID:
		return tlv->value.length > PROXY_UNIQUE_ID_MOST ? "a unique id of more than 128 bytes" : NULL;
	case PROXY_TLV_CRC32C:
		if (tlv->value.length != SUM || *sum)
			return *sum ? "a second checksum" : "a checksum that has not 4 bytes";
		*sum = tlv->value.at;
		return NULL;
	default:
		return NULL;
	}
}

static enum proxy_verdict check_tlvs(const uint8_t *bytes, struct proxy_header *header)
{
	struct proxy_bytes left = header->tlvs;
	struct proxy_tlv tlv;
	const uint8_t *sum = NULL;
	for (const uint8_t *at = left.at; proxy_tlv_next(&left, &tlv); at = left.at) {
		const char *wrong = check_tlv(&tlv, &sum);
		if (wrong)
			return malformed(header, (size_t)(at - bytes), wrong);
	}
	if (left.length > 0)
		return malformed(header, (size_t)(left.at - bytes), "a TLV that is longer than the header");
	if (sum && !is_sum_right(bytes, header->length, sum))
		return malformed(header, (size_t)(sum - bytes), "the checksum is wrong");
	return PROXY_FOUND;
}

/* ---- Addresses ---------------------------------------------------------------------------------------------- */

/** @param width  4 or 16 bytes. IPv4-mapped addresses are IPv4, as everywhere (connpipe/address.h). */
static void read_ip(const uint8_t *bytes, size_t width, struct cp_ip *ip)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	bool is_mapped = width == 16 && memcmp(bytes, mapped, sizeof(mapped)) == 0;
	ip->family = width == 4 || is_mapped ? 4 : 6;
	memcpy(ip->bytes, is_mapped ? bytes + 12 : bytes, is_mapped ? 4 : width);
}

static void read_ip_addresses(const uint8_t *block, size_t width, bool datagram, struct proxy_header *header)
{
	read_ip(block, width, &header->source.ip);
	read_ip(block + width, width, &header->destination.ip);
	header->source.port = (uint16_t)read_16(block + 2 * width);
	header->destination.port = (uint16_t)read_16(block + 2 * width + 2);
	header->transport = datagram ? PROXY_UDP : PROXY_TCP;
}

/** Up to the first zero byte; that of an abstract name begins with one, and has a zero behind it too. */
static struct proxy_bytes read_path(const uint8_t *field)
{
	size_t first = field[0] == 0, most = PROXY_V2_UNIX / 2 - first;
	size_t length = strnlen((const char *)field + first, most);
	return (struct proxy_bytes){field, length ? first + length : 0};
}

static void read_addresses(const uint8_t *block, int family, int protocol, struct proxy_header *header)
{
	if (protocol != STREAM && protocol != DATAGRAM)
		return; /* unspecified: the addresses are to be ignored */
	switch (family) {
	case INET:
		read_ip_addresses(block, 4, protocol == DATAGRAM, header);
		break;
	case INET6:
		read_ip_addresses(block, 16, protocol == DATAGRAM, header);
		break;
	case UNIX:
		header->source_path = read_path(block);
		header->destination_path = read_path(block + PROXY_V2_UNIX / 2);
		header->transport = protocol == DATAGRAM ? PROXY_UNIX_DATAGRAM : PROXY_UNIX;
		break;
	default:
		break;
	}
}

/* ---- The header --------------------------------------------------------------------------------------------- */

/** What the fixed part says, as soon as each byte of it is there. @return PROXY_FOUND: all is well so far */
static enum proxy_verdict check_fixed(const uint8_t *bytes, size_t length, size_t most, struct proxy_header *header)
{
	if (length <= VERSION)
		return PROXY_MORE;
	if (bytes[VERSION] >> 4 != 2)
		return malformed(header, VERSION, "the version is not 2");
	header->local = (bytes[VERSION] & 15) == LOCAL;
	if (!header->local && (bytes[VERSION] & 15) != PROXY)
		return malformed(header, VERSION, "the command is neither LOCAL nor PROXY");
	if (length <= FAMILY)
		return PROXY_MORE;
	if (!header->local && (bytes[FAMILY] >> 4 >= FAMILIES || (bytes[FAMILY] & 15) > DATAGRAM))
		return malformed(header, FAMILY, "an address family or a transport protocol that there is not");
	if (length < PROXY_V2_FIXED)
		return PROXY_MORE;
	header->length = PROXY_V2_FIXED + read_16(bytes + LENGTH);
	if (header->length > most)
		return malformed(header, LENGTH, "it is longer than what is set as `length`");
	if (!header->local && header->length < PROXY_V2_FIXED + address_lengths[bytes[FAMILY] >> 4])
		return malformed(header, LENGTH, "it is too short for its addresses");
	return PROXY_FOUND;
}

/** Behind addresses of no family there may be some of a length that nobody knows: what is no TLV then is no error. */
static enum proxy_verdict read_unspecified(const uint8_t *bytes, struct proxy_header *header)
{
	struct proxy_bytes left = header->tlvs;
	struct proxy_tlv tlv;
	while (proxy_tlv_next(&left, &tlv))
		;
	if (left.length == 0)
		return check_tlvs(bytes, header);
	header->tlvs.length = 0;
	return PROXY_FOUND;
}

enum proxy_verdict proxy_v2_read(const uint8_t *bytes, size_t length, size_t most, struct proxy_header *header)
{
	memset(header, 0, sizeof(*header));
	header->length = PROXY_V2_FIXED;
	if (memcmp(bytes, signature, length < SIGNATURE ? length : SIGNATURE) != 0)
		return PROXY_ABSENT;
	if (length < SIGNATURE)
		return PROXY_MORE;
	header->version = 2;
	enum proxy_verdict verdict = check_fixed(bytes, length, most, header);
	if (verdict != PROXY_FOUND)
		return verdict;
	if (length < header->length)
		return PROXY_MORE;
	if (header->local)
		return PROXY_FOUND; /* whatever is in it is to be skipped */
	int family = bytes[FAMILY] >> 4;
	const uint8_t *tlvs = bytes + PROXY_V2_FIXED + address_lengths[family];
	header->tlvs = (struct proxy_bytes){tlvs, header->length - (size_t)(tlvs - bytes)};
	if (family == UNSPEC)
		return read_unspecified(bytes, header);
	read_addresses(bytes + PROXY_V2_FIXED, family, bytes[FAMILY] & 15, header);
	return check_tlvs(bytes, header);
}

/* ---- Either version ----------------------------------------------------------------------------------------- */

enum proxy_verdict proxy_header_read(const uint8_t *bytes, size_t length, size_t most, struct proxy_header *header)
{
	if (length > 0 && bytes[0] == signature[0])
		return proxy_v2_read(bytes, length, most, header);
	return proxy_v1_read(bytes, length, header);
}
