/* Writing headers, and the checksum of version 2. See header.h. */
#include "header.h"

#include <stdio.h>
#include <string.h>

/* ---- CRC-32C ------------------------------------------------------------------------------------------------ */

/** Four bits at a time: headers are short, and tables that are not in the cache cost more than they save. */
uint32_t proxy_crc32c(uint32_t crc, const uint8_t *bytes, size_t length)
{
	/* For i from 0 to 15: i, four times shifted right, with 0x82f63b78 added (without carry) for each 1 shifted out. */
	static const uint32_t table[16] = {
		0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
		0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
	};
	crc = ~crc;
	for (size_t i = 0; i < length; i++) {
		crc = table[(crc ^ bytes[i]) & 15] ^ crc >> 4;
		crc = table[(crc ^ bytes[i] >> 4) & 15] ^ crc >> 4;
	}
	return ~crc;
}

/* ---- Addresses ---------------------------------------------------------------------------------------------- */

/** Both as the family that has room for both. */
static bool both_ipv4(const struct cp_peer *source, const struct cp_peer *destination)
{
	return source->ip.family == 4 && destination->ip.family != 6;
}

/** @param bytes  4 or 16 of them; all zero for none */
static void put_ip(const struct cp_ip *ip, bool ipv4, uint8_t *bytes)
{
	memset(bytes, 0, ipv4 ? 4 : 16);
	if (ip->family == 6) {
		memcpy(bytes, ip->bytes, 16);
	} else if (ip->family == 4) {
		if (!ipv4)
			bytes[10] = bytes[11] = 0xff;
		memcpy(ipv4 ? bytes : bytes + 12, ip->bytes, 4);
	}
}

static void put_16(uint8_t *bytes, size_t number)
{
	bytes[0] = (uint8_t)(number >> 8);
	bytes[1] = (uint8_t)number;
}

/* ---- Version 1 ---------------------------------------------------------------------------------------------- */

/** In the only form that the protocol knows: IPv6 is groups of hexadecimal digits, also where it is IPv4-mapped. */
static void print_ip(const struct cp_ip *ip, bool ipv4, char text[CP_IP_TEXT])
{
	struct cp_ip plain = *ip;
	const uint8_t *b = ip->bytes;
	plain.zone = 0; /* means something on this machine only */
	if (ip->family == 0)
		snprintf(text, CP_IP_TEXT, "%s", ipv4 ? "0.0.0.0" : "::");
	else if (ip->family == 4 && !ipv4)
		snprintf(text, CP_IP_TEXT, "::ffff:%x:%x", b[0] << 8 | b[1], b[2] << 8 | b[3]);
	else
		cp_ip_print(&plain, text, CP_IP_TEXT);
}

size_t proxy_v1_write(const struct cp_peer *source, const struct cp_peer *destination, uint8_t line[PROXY_V1_MOST])
{
	char text[PROXY_V1_MOST + 1] = "PROXY UNKNOWN\r\n", from[CP_IP_TEXT], to[CP_IP_TEXT];
	bool ipv4 = both_ipv4(source, destination);
	if (source->ip.family) {
		print_ip(&source->ip, ipv4, from);
		print_ip(&destination->ip, ipv4, to);
		snprintf(text, sizeof(text), "PROXY TCP%d %.39s %.39s %u %u\r\n", ipv4 ? 4 : 6, from, to, source->port,
				 destination->port);
	}
	size_t length = strlen(text);
	memcpy(line, text, length);
	return length;
}

/* ---- Version 2 ---------------------------------------------------------------------------------------------- */

enum {
	COMMAND_LOCAL = 0x20,
	COMMAND_PROXY = 0x21,
	TCP_OVER_IPV4 = 0x11,
	TCP_OVER_IPV6 = 0x21,
	LENGTH = 14,
	SUM = 4,
};

static void put(struct proxy_writer *writer, const void *bytes, size_t length)
{
	if (length > 0 && writer->length + length <= writer->room)
		memcpy(writer->at + writer->length, bytes, length);
	writer->length += length;
}

static void put_addresses(struct proxy_writer *writer, const struct cp_peer *source, const struct cp_peer *destination)
{
	uint8_t block[36];
	bool ipv4 = both_ipv4(source, destination);
	size_t width = ipv4 ? 4 : 16;
	put_ip(&source->ip, ipv4, block);
	put_ip(&destination->ip, ipv4, block + width);
	put_16(block + 2 * width, source->port);
	put_16(block + 2 * width + 2, destination->port);
	put(writer, block, 2 * width + 4);
}

void proxy_v2_begin(struct proxy_writer *writer, uint8_t *buffer, size_t room, bool local, const struct cp_peer *source,
					const struct cp_peer *destination)
{
	uint8_t fixed[PROXY_V2_FIXED] = "\r\n\r\n\0\r\nQUIT\n";
	bool addresses = !local && source->ip.family;
	fixed[12] = local ? COMMAND_LOCAL : COMMAND_PROXY;
	if (addresses)
		fixed[13] = both_ipv4(source, destination) ? TCP_OVER_IPV4 : TCP_OVER_IPV6;
	*writer = (struct proxy_writer){.at = buffer, .room = room};
	put(writer, fixed, sizeof(fixed));
	if (addresses)
		put_addresses(writer, source, destination);
}

size_t proxy_v2_open(struct proxy_writer *writer, uint8_t type, const void *value, size_t length)
{
	uint8_t fixed[3] = {type};
	size_t opened = writer->length;
	put(writer, fixed, sizeof(fixed));
	put(writer, value, length);
	return opened;
}

void proxy_v2_close(struct proxy_writer *writer, size_t opened)
{
	if (writer->length <= writer->room)
		put_16(writer->at + opened + 1, writer->length - opened - 3);
}

void proxy_v2_put(struct proxy_writer *writer, uint8_t type, const void *value, size_t length)
{
	proxy_v2_close(writer, proxy_v2_open(writer, type, value, length));
}

/** The sum covers the whole header, its own place being zero. */
static void put_sum(struct proxy_writer *writer)
{
	static const uint8_t zeros[SUM];
	uint8_t *at = writer->at + writer->length - SUM;
	uint32_t crc = proxy_crc32c(0, writer->at, writer->length - SUM);
	crc = proxy_crc32c(crc, zeros, SUM);
	put_16(at, crc >> 16);
	put_16(at + 2, crc & 0xffff);
}

size_t proxy_v2_end(struct proxy_writer *writer, bool sum)
{
	static const uint8_t zeros[SUM];
	if (sum)
		proxy_v2_put(writer, PROXY_TLV_CRC32C, zeros, SUM);
	if (writer->length > writer->room || writer->length > PROXY_V2_MOST)
		return 0;
	put_16(writer->at + LENGTH, writer->length - PROXY_V2_FIXED);
	if (sum)
		put_sum(writer);
	return writer->length;
}
