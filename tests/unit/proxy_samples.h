/** Headers of the PROXY protocol for tests: good ones with what they say, and bad ones with what is wrong. */
#ifndef TESTS_UNIT_PROXY_SAMPLES_H
#define TESTS_UNIT_PROXY_SAMPLES_H

#include "../../systems/proxy/header.h"

#include <stdlib.h>
#include <string.h>

struct sample {
	const char *name;
	const char *bytes;
	size_t length;
	uint8_t version;
	enum proxy_transport transport;
	bool local;
	const char *source, *destination; /* as cp_peer_print() writes them */
};

struct bad_sample {
	const char *bytes;
	size_t length;
	size_t shows; /* how many bytes it takes to see it */
	const char *reason;
	size_t offset;
};

#define BYTES(text) (text), sizeof(text) - 1
#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define IPV4           \
	"\xc0\x00\x02\x01" \
	"\xc6\x33\x64\x02" \
	"\xc8\x22\x01\xbb" /* 192.0.2.1:51234 to 198.51.100.2:443 */
#define DB8(last) "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0" last
#define MAPPED(ipv4) "\0\0\0\0\0\0\0\0\0\0\xff\xff" ipv4
#define ZEROS_18 "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
#define ZEROS_90 ZEROS_18 ZEROS_18 ZEROS_18 ZEROS_18 ZEROS_18

static const struct sample samples[] = {
	{"v1 over IPv4", BYTES("PROXY TCP4 192.0.2.1 198.51.100.2 51234 443\r\n"), 1, PROXY_TCP, false, "192.0.2.1:51234",
	 "198.51.100.2:443"},
	{"v1 over IPv6", BYTES("PROXY TCP6 2001:DB8::1 2001:db8:0:0:0:0:0:2 0 65535\r\n"), 1, PROXY_TCP, false,
	 "[2001:db8::1]:0", "[2001:db8::2]:65535"},
	{"v1 with an IPv4-mapped address", BYTES("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:c633:6402 51234 443\r\n"), 1,
	 PROXY_TCP, false, "192.0.2.1:51234", "198.51.100.2:443"},
	{"v1, unknown", BYTES("PROXY UNKNOWN\r\n"), 1, PROXY_UNKNOWN, false, "local", "local"},
	{"v1, unknown, with something", BYTES("PROXY UNKNOWN ff \0 what ever\r\n"), 1, PROXY_UNKNOWN, false, "local",
	 "local"},
	{"v2 over IPv4", BYTES(SIGNATURE "\x21\x11\x00\x0c" IPV4), 2, PROXY_TCP, false, "192.0.2.1:51234",
	 "198.51.100.2:443"},
	{"v2 over IPv4, UDP", BYTES(SIGNATURE "\x21\x12\x00\x0c" IPV4), 2, PROXY_UDP, false, "192.0.2.1:51234",
	 "198.51.100.2:443"},
	{"v2 over IPv4, no protocol", BYTES(SIGNATURE "\x21\x10\x00\x0c" IPV4), 2, PROXY_UNKNOWN, false, "local", "local"},
	{"v2 over IPv6", BYTES(SIGNATURE "\x21\x21\x00\x24" DB8("\x01") DB8("\x02") "\xc8\x22\x01\xbb"), 2, PROXY_TCP,
	 false, "[2001:db8::1]:51234", "[2001:db8::2]:443"},
	{"v2 with an IPv4-mapped address",
	 BYTES(SIGNATURE "\x21\x22\x00\x24" MAPPED("\xc0\x00\x02\x01") DB8("\x02") "\xc8\x22\x01\xbb"), 2, PROXY_UDP, false,
	 "192.0.2.1:51234", "[2001:db8::2]:443"},
	{"v2 of a unix socket",
	 BYTES(SIGNATURE "\x21\x31\x00\xd8"
					 "/run/source.sock\0\0" ZEROS_90 "\0abstract name\0\0\0\0" ZEROS_90),
	 2, PROXY_UNIX, false, "local", "local"},
	{"v2 of a unix datagram socket", BYTES(SIGNATURE "\x21\x32\x00\xd8" ZEROS_18 ZEROS_90 ZEROS_18 ZEROS_90), 2,
	 PROXY_UNIX_DATAGRAM, false, "local", "local"},
	{"v2, local", BYTES(SIGNATURE "\x20\x00\x00\x00"), 2, PROXY_UNKNOWN, true, "local", "local"},
	{"v2, local, with what does not count", BYTES(SIGNATURE "\x20\xff\x00\x05hello"), 2, PROXY_UNKNOWN, true, "local",
	 "local"},
	{"v2, unspecified", BYTES(SIGNATURE "\x21\x00\x00\x00"), 2, PROXY_UNKNOWN, false, "local", "local"},
	{"v2, unspecified, with a TLV", BYTES(SIGNATURE "\x21\x00\x00\x05\x01\x00\x02h2"), 2, PROXY_UNKNOWN, false, "local",
	 "local"},
	{"v2, unspecified, with addresses of some kind", BYTES(SIGNATURE "\x21\x00\x00\x07what?\xff\xff"), 2, PROXY_UNKNOWN,
	 false, "local", "local"},
	{"v2 with TLVs",
	 BYTES(SIGNATURE "\x21\x11\x00\x27" IPV4 "\x02\x00\x0b"
					 "example.org"
					 "\x01\x00\x02h2"
					 "\x04\x00\x00"
					 "\xe9\x00\x02"
					 "db"),
	 2, PROXY_TCP, false, "192.0.2.1:51234", "198.51.100.2:443"},
	{"v2 with a checksum",
	 BYTES(SIGNATURE "\x21\x11\x00\x18" IPV4 "\x03\x00\x04\x16\x28\x4a\x94"
					 "\x01\x00\x02h2"),
	 2, PROXY_TCP, false, "192.0.2.1:51234", "198.51.100.2:443"},
	{0},
};

static const struct bad_sample bad_samples[] = {
	{BYTES("PROXY \r\n"), 7, "expected TCP4, TCP6 or UNKNOWN, and a space", 6},
	{BYTES("PROXY tcp4 "), 7, "expected TCP4, TCP6 or UNKNOWN, and a space", 6},
	{BYTES("PROXY TCP5 "), 10, "expected TCP4, TCP6 or UNKNOWN, and a space", 6},
	{BYTES("PROXY TCP46 "), 11, "expected TCP4, TCP6 or UNKNOWN, and a space", 6},
	{BYTES("PROXY  TCP4 "), 7, "expected TCP4, TCP6 or UNKNOWN, and a space", 6},
	{BYTES("PROXY TCP4\r\n"), 11, "expected TCP4, TCP6 or UNKNOWN, and a space", 6},
	{BYTES("PROXY UNKNOWNS\r\n"), 14, "expected TCP4, TCP6 or UNKNOWN, and a space", 6},
	{BYTES("PROXY UNKNOWN\n"), 14, "expected TCP4, TCP6 or UNKNOWN, and a space", 6},
	{BYTES("PROXY UNKNOWN \n"), 15, "a line feed without a carriage return", 14},
	{BYTES("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n"), 35, "a line feed without a carriage return", 34},
	{BYTES("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\rx"), 36, "a carriage return without a line feed", 34},
	{BYTES("PROXY TCP4 \r\n"), 13, "the line ends before its addresses do", 11},
	{BYTES("PROXY TCP4 192.0.2.1\r\n"), 22, "the line ends before its addresses do", 20},
	{BYTES("PROXY TCP4 192.0.2.1 192.0.2.2\r\n"), 32, "the line ends before its addresses do", 30},
	{BYTES("PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n"), 34, "the line ends before its ports do", 32},
	{BYTES("PROXY TCP4 192.0.2.1 192.0.2.2 1 \r\n"), 35, "expected a port from 0 to 65535", 33},
	{BYTES("PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n"), 37, "expected an IPv4 address", 21},
	{BYTES("PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n"), 37, "expected an IPv4 address", 11},
	{BYTES("PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n"), 34, "expected an IPv4 address", 11},
	{BYTES("PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n"), 38, "expected an IPv4 address", 11},
	{BYTES("PROXY TCP4 ::1 192.0.2.2 1 2\r\n"), 30, "expected an IPv4 address", 11},
	{BYTES("PROXY TCP4 192.0.2.1 ::1 1 2\r\n"), 30, "expected an IPv4 address", 21},
	{BYTES("PROXY TCP6 192.0.2.1 ::1 1 2\r\n"), 30, "expected an IPv6 address", 11},
	{BYTES("PROXY TCP6 [::1] ::1 1 2\r\n"), 26, "expected an IPv6 address", 11},
	{BYTES("PROXY TCP6 fe80::1%lo ::1 1 2\r\n"), 31, "expected an IPv6 address", 11},
	{BYTES("PROXY TCP6 1:2:3:4:5:6:7:8:9 ::1 1 2\r\n"), 38, "expected an IPv6 address", 11},
	{BYTES("PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n"), 40, "expected a port from 0 to 65535", 31},
	{BYTES("PROXY TCP4 192.0.2.1 192.0.2.2 1 02\r\n"), 37, "expected a port from 0 to 65535", 33},
	{BYTES("PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n"), 37, "expected a port from 0 to 65535", 31},
	{BYTES("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n"), 37, "expected a port from 0 to 65535", 33},
	{BYTES("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n"), 38, "expected a port from 0 to 65535", 33},
	{BYTES("PROXY TCP4 192.0.2.1 192.0.2.2 1 999999\r\n"), 41, "expected a port from 0 to 65535", 33},
	{BYTES("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\0\r\n"), 37, "expected a port from 0 to 65535", 33},
	{BYTES("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535 "
		   "\r\n"),
	 107, "no end of the line within 107 bytes", 107},
	{BYTES(SIGNATURE "\x11"), 13, "the version is not 2", 12},
	{BYTES(SIGNATURE "\x31\x11\x00\x0c"), 13, "the version is not 2", 12},
	{BYTES(SIGNATURE "\x22\x11\x00\x0c"), 13, "the command is neither LOCAL nor PROXY", 12},
	{BYTES(SIGNATURE "\x21\x41\x00\x0c"), 14, "an address family or a transport protocol that there is not", 13},
	{BYTES(SIGNATURE "\x21\x13\x00\x0c"), 14, "an address family or a transport protocol that there is not", 13},
	{BYTES(SIGNATURE "\x21\x11\x00\x0b" IPV4), 16, "it is too short for its addresses", 14},
	{BYTES(SIGNATURE "\x21\x21\x00\x0c" IPV4), 16, "it is too short for its addresses", 14},
	{BYTES(SIGNATURE "\x21\x31\x00\xd7" IPV4), 16, "it is too short for its addresses", 14},
	{BYTES(SIGNATURE "\x21\x11\x0f\xf1" IPV4), 16, "it is longer than what is set as `length`", 14},
	{BYTES(SIGNATURE "\x20\x00\xff\xff"), 16, "it is longer than what is set as `length`", 14},
	{BYTES(SIGNATURE "\x21\x11\x00\x0d" IPV4 "\x01"), 29, "a TLV that is longer than the header", 28},
	{BYTES(SIGNATURE "\x21\x11\x00\x0f" IPV4 "\x01\x00\x01"), 31, "a TLV that is longer than the header", 28},
	{BYTES(SIGNATURE "\x21\x11\x00\x13" IPV4 "\x04\x00\x00\x01\xff\xff"
					 "a"),
	 35, "a TLV that is longer than the header", 31},
	{BYTES(SIGNATURE "\x21\x11\x00\x12" IPV4 "\x03\x00\x03"
					 "\0\0\0"),
	 34, "a checksum that has not 4 bytes", 28},
	{BYTES(SIGNATURE "\x21\x11\x00\x13" IPV4 "\x03\x00\x04"
					 "\0\0\0\0"),
	 35, "the checksum is wrong", 31},
	{BYTES(SIGNATURE "\x21\x11\x00\x1a" IPV4 "\x03\x00\x04"
					 "\0\0\0\0"
					 "\x03\x00\x04"
					 "\0\0\0\0"),
	 42, "a second checksum", 35},
	{BYTES(SIGNATURE "\x21\x00\x00\x07"
					 "\x03\x00\x04"
					 "\0\0\0\0"),
	 23, "the checksum is wrong", 19},
	{BYTES(SIGNATURE "\x21\x11\x00\x13" IPV4 "\x20\x00\x04"
					 "\x01\0\0\0"),
	 35, "a TLV about TLS with less than 5 bytes", 28},
	{BYTES(SIGNATURE "\x21\x11\x00\x17" IPV4 "\x20\x00\x08"
					 "\x01\0\0\0\0"
					 "\x22\x00\x01"),
	 39, "a TLV that is longer than the one about TLS that it is in", 28},
	{BYTES(SIGNATURE "\x21\x11\x00\x90" IPV4 "\x05\x00\x81" ZEROS_90 ZEROS_18 ZEROS_18 "\0\0\0"), 160,
	 "a unique id of more than 128 bytes", 28},
	{0},
};

static inline const struct sample *sample(const char *name)
{
	const struct sample *s = samples;
	while (s->name && strcmp(s->name, name) != 0)
		s++;
	if (!s->name)
		abort();
	return s;
}

#endif
