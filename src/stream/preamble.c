#include "preamble.h"

#include <connpipe/address.h>

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static const unsigned char magic[PREAMBLE_MAGIC] = {0x89, 0x3d, 0x1d, 0x4e, 0x4e, 0x4f, 0xc6, 0x86,
													0x2d, 0x1e, 0x10, 0x01, 0x0d, 0x0a, 0x69, 0x0a};

enum { LEB128_MOST = 3 }; /* bytes that PREAMBLE_NAME_MOST takes */

static enum preamble_result malformed(struct preamble *out, const char *reason)
{
	out->reason = reason;
	return PREAMBLE_MALFORMED;
}

/** Read the length at `bytes`. @param used  set to the bytes it takes */
static enum preamble_result read_length(const unsigned char *bytes, size_t count, struct preamble *out, size_t *used)
{
	uint32_t value = 0;
	for (size_t i = 0; i < LEB128_MOST; i++) {
		if (i == count)
			return PREAMBLE_MORE;
		value |= (uint32_t)(bytes[i] & 0x7f) << (7 * i);
		if (bytes[i] & 0x80)
			continue;
		if (i > 0 && bytes[i] == 0)
			return malformed(out, "its length is not in the shortest form");
		out->name_length = value;
		*used = i + 1;
		return value == 0 ? malformed(out, "its length is zero") : PREAMBLE_FOUND;
	}
	return malformed(out, "its length is over the limit");
}

enum preamble_result preamble_read(const char *bytes, size_t count, size_t name_most, struct preamble *out)
{
	size_t compare = count < PREAMBLE_MAGIC ? count : PREAMBLE_MAGIC;
	if (memcmp(bytes, magic, compare) != 0)
		return PREAMBLE_ABSENT;
	if (count <= PREAMBLE_MAGIC)
		return PREAMBLE_MORE;
	size_t used = 0;
	enum preamble_result result =
		read_length((const unsigned char *)bytes + PREAMBLE_MAGIC, count - PREAMBLE_MAGIC, out, &used);
	if (result != PREAMBLE_FOUND)
		return result;
	if (out->name_length > name_most)
		return malformed(out, "its length is over the limit");
	out->name = bytes + PREAMBLE_MAGIC + used;
	out->length = PREAMBLE_MAGIC + used + out->name_length;
	if (count < out->length)
		return PREAMBLE_MORE;
	if (!cp_utf8_valid(out->name, out->name_length))
		return malformed(out, "its name is not UTF-8");
	return PREAMBLE_FOUND;
}

int preamble_begun(const char *bytes, size_t count)
{
	return count >= PREAMBLE_MAGIC && memcmp(bytes, magic, PREAMBLE_MAGIC) == 0;
}

size_t preamble_write(const char *name, size_t length, char *buffer)
{
	size_t at = PREAMBLE_MAGIC;
	memcpy(buffer, magic, PREAMBLE_MAGIC);
	for (size_t left = length;; left >>= 7) {
		bool more = left > 0x7f;
		buffer[at++] = (char)((left & 0x7f) | (more ? 0x80 : 0));
		if (!more)
			break;
	}
	memcpy(buffer + at, name, length);
	return at + length;
}
