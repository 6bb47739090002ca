/** ClientHellos to order, for tests and measurements: the handshake message is put together here and then cut into
 * records of any length. */
#ifndef UNIT_SNIFF_HELLO_H
#define UNIT_SNIFF_HELLO_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
	HELLO_ROOM = 80 * 1024,
	HELLO_EXTENSIONS = 4 + 2 + 32 + 1 + 32 + 2 + 8 + 2, /* where their length stands after hello_begin() */
	RECORDS_ROOM = 7 * HELLO_ROOM,
};

struct hello {
	uint8_t bytes[HELLO_ROOM]; /* the message, with its header */
	size_t length;
};

static inline void hello_put(struct hello *hello, const void *bytes, size_t length)
{
	if (length > HELLO_ROOM - hello->length)
		abort();
	memcpy(hello->bytes + hello->length, bytes, length);
	hello->length += length;
}

static inline void hello_number(struct hello *hello, size_t bytes, size_t number)
{
	for (size_t i = bytes; i > 0; i--)
		hello_put(hello, &(uint8_t){(uint8_t)(number >> 8 * (i - 1))}, 1);
}

static inline void hello_fill(struct hello *hello, size_t length, uint8_t byte)
{
	while (length-- > 0)
		hello_put(hello, &byte, 1);
}

static inline void hello_patch(struct hello *hello, size_t at, size_t bytes, size_t number)
{
	for (size_t i = 0; i < bytes; i++)
		hello->bytes[at + i] = (uint8_t)(number >> 8 * (bytes - 1 - i));
}

/** Everything up to the extensions, of which there are none so far: GREASE and three suites. */
static inline void hello_begin(struct hello *hello)
{
	static const uint8_t suites[] = {0x3a, 0x3a, 0x13, 0x01, 0x13, 0x02, 0xc0, 0x2f};
	hello->length = 0;
	hello_number(hello, 4, 1u << 24); /* client_hello; its length comes with hello_finish() */
	hello_number(hello, 2, 0x0303);
	hello_fill(hello, 32, 0xa5);
	hello_number(hello, 1, 32);
	hello_fill(hello, 32, 0x5a);
	hello_number(hello, 2, sizeof(suites));
	hello_put(hello, suites, sizeof(suites));
	hello_number(hello, 2, 0x0100); /* one compression method: none */
	hello_number(hello, 2, 0);
}

static inline void hello_extension(struct hello *hello, unsigned type, const void *content, size_t length)
{
	hello_number(hello, 2, type);
	hello_number(hello, 2, length);
	hello_put(hello, content, length);
}

/** One of so many bytes whose content means nothing here. */
static inline void hello_extension_of(struct hello *hello, unsigned type, size_t length)
{
	hello_number(hello, 2, type);
	hello_number(hello, 2, length);
	hello_fill(hello, length, 0xee);
}

static inline void hello_server_name(struct hello *hello, const char *name, size_t length)
{
	hello_number(hello, 2, 0);
	hello_number(hello, 2, length + 5);
	hello_number(hello, 2, length + 3);
	hello_number(hello, 1, 0);
	hello_number(hello, 2, length);
	hello_put(hello, name, length);
}

/** @param list  as on the wire, without the length of the whole */
static inline void hello_alpn(struct hello *hello, const char *list, size_t length)
{
	hello_number(hello, 2, 16);
	hello_number(hello, 2, length + 2);
	hello_number(hello, 2, length);
	hello_put(hello, list, length);
}

/** Set the lengths. More may be put behind it, and this be called again. */
static inline void hello_finish(struct hello *hello)
{
	if (hello->length >= HELLO_EXTENSIONS + 2)
		hello_patch(hello, HELLO_EXTENSIONS, 2, hello->length - HELLO_EXTENSIONS - 2);
	hello_patch(hello, 1, 3, hello->length - 4);
}

/** As a browser of today makes it: greasing, a key share of 1216 bytes (X25519MLKEM768), encrypted client hello. */
static inline void hello_browser(struct hello *hello, const char *name)
{
	static const uint8_t versions[] = {6, 0xda, 0xda, 0x03, 0x04, 0x03, 0x03};
	static const uint8_t groups[] = {0, 10, 0xba, 0xba, 0x11, 0xec, 0x00, 0x1d, 0x00, 0x17, 0x00, 0x18};
	hello_begin(hello);
	hello_extension_of(hello, 0x8a8a, 0);
	hello_extension_of(hello, 0x0017, 0);
	hello_extension(hello, 0x000a, groups, sizeof(groups));
	hello_number(hello, 4, 0x0033 << 16 | (2 + 5 + 4 + 1216 + 4 + 32)); /* key_share */
	hello_number(hello, 2, 5 + 4 + 1216 + 4 + 32);
	hello_put(hello, "\xba\xba\x00\x01\x00\x11\xec\x04\xc0", 9);
	hello_fill(hello, 1216, 0x77);
	hello_number(hello, 4, 0x001d << 16 | 32);
	hello_fill(hello, 32, 0x78);
	hello_extension_of(hello, 0xfe0d, 250);
	hello_alpn(hello, "\x02h2\x08http/1.1", 12);
	hello_extension_of(hello, 0x0023, 0);
	hello_extension_of(hello, 0x0005, 5);
	hello_extension_of(hello, 0x000d, 18);
	hello_server_name(hello, name, strlen(name));
	hello_extension_of(hello, 0x44cd, 5);
	hello_extension_of(hello, 0xff01, 1);
	hello_extension(hello, 0x002b, versions, sizeof(versions));
	hello_extension_of(hello, 0x002d, 2);
	hello_extension_of(hello, 0x000b, 2);
	hello_extension_of(hello, 0x0012, 0);
	hello_extension_of(hello, 0x001b, 3);
	hello_extension_of(hello, 0x1a1a, 1);
	hello_finish(hello);
}

/** As programs without new keys make it: padded so that its one record has 517 bytes (RFC 7685). */
static inline void hello_padded(struct hello *hello, const char *name)
{
	hello_begin(hello);
	hello_server_name(hello, name, strlen(name));
	hello_extension_of(hello, 0x000b, 4);
	hello_extension_of(hello, 0x000a, 12);
	hello_extension_of(hello, 0x0023, 0);
	hello_alpn(hello, "\x02h2\x08http/1.1", 12);
	hello_extension_of(hello, 0x0016, 0);
	hello_extension_of(hello, 0x0017, 0);
	hello_extension_of(hello, 0x000d, 42);
	hello_extension_of(hello, 0x002b, 5);
	hello_extension_of(hello, 0x002d, 2);
	hello_extension_of(hello, 0x0033, 38);
	hello_extension_of(hello, 0x0015, 512 - hello->length - 4);
	hello_finish(hello);
}

/** Cut a message into records of at most `fragment` bytes. @param out  RECORDS_ROOM bytes
 * @return how many there are */
static inline size_t hello_records(const struct hello *hello, size_t fragment, uint8_t *out)
{
	size_t length = 0;
	for (size_t at = 0, take; at < hello->length; at += take) {
		take = hello->length - at < fragment ? hello->length - at : fragment;
		memcpy(out + length, (uint8_t[]){22, 3, 1, (uint8_t)(take >> 8), (uint8_t)take}, 5);
		memcpy(out + length + 5, hello->bytes + at, take);
		length += 5 + take;
	}
	return length;
}

#endif
