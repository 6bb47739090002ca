/* Preambles: an answer other than "more" stays, however many bytes follow; what is found lies in the input and is
 * written again as it was; what is written is found.
 *
 * The first two bytes of the input are the limit on names (less one), the rest is the beginning of a connection, and a
 * name to be written. */
#include "check.h"
#include "stream/preamble.h"

#include <connpipe/address.h>

#include <string.h>

enum { LIMIT_BYTES = 2 };

static void check_found(const struct preamble *found, const char *bytes, size_t count, size_t name_most)
{
	CHECK(found->name_length >= 1 && found->name_length <= name_most);
	CHECK(found->length <= count && found->name + found->name_length == bytes + found->length);
	CHECK(cp_utf8_valid(found->name, found->name_length));
	char *again = malloc(PREAMBLE_MAGIC + 3 + found->name_length);
	CHECK(preamble_write(found->name, found->name_length, again) == found->length);
	CHECK(memcmp(again, bytes, found->length) == 0);
	free(again);
}

/** @param before  the result for fewer bytes; updated. @param end  of a preamble that was found; updated */
static void check_prefix(const uint8_t *data, size_t count, size_t name_most, enum preamble_result *before, size_t *end)
{
	struct preamble found = {0};
	char *bytes = malloc(count ? count : 1);
	memcpy(bytes, data, count);
	enum preamble_result result = preamble_read(bytes, count, name_most, &found);
	CHECK(*before == PREAMBLE_MORE || result == *before);
	CHECK(!preamble_begun(bytes, count) == (count < PREAMBLE_MAGIC || result == PREAMBLE_ABSENT));
	CHECK((result == PREAMBLE_MALFORMED) == (found.reason != NULL));
	if (result == PREAMBLE_FOUND) {
		check_found(&found, bytes, count, name_most);
		CHECK(*before == PREAMBLE_MORE || found.length == *end);
		*end = found.length;
	}
	free(bytes);
	*before = result;
}

static void check_bytes(const uint8_t *data, size_t size, size_t name_most)
{
	enum preamble_result result = PREAMBLE_MORE;
	size_t end = 0;
	for (size_t count = 0; count < size; count += 1 + count / 32) /* every one at first, then fewer */
		check_prefix(data, count, name_most, &result, &end);
	check_prefix(data, size, name_most, &result, &end);
}

/** Write the bytes as a name, and read that. */
static void check_name(const uint8_t *name, size_t length, size_t name_most)
{
	if (length == 0 || length > PREAMBLE_NAME_MOST)
		return;
	char *bytes = malloc(PREAMBLE_MAGIC + 3 + length);
	size_t count = preamble_write((const char *)name, length, bytes);
	struct preamble found = {0};
	enum preamble_result result = preamble_read(bytes, count, name_most, &found);
	bool good = length <= name_most && cp_utf8_valid((const char *)name, length);
	CHECK(result == (good ? PREAMBLE_FOUND : PREAMBLE_MALFORMED));
	if (good)
		CHECK(found.name_length == length && memcmp(found.name, name, length) == 0 && found.length == count);
	check_bytes((const uint8_t *)bytes, count, name_most);
	free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < LIMIT_BYTES)
		return 0;
	size_t name_most = ((size_t)data[0] << 8 | data[1]) + 1;
	name_most = name_most < PREAMBLE_NAME_MOST ? name_most : PREAMBLE_NAME_MOST;
	check_bytes(data + LIMIT_BYTES, size - LIMIT_BYTES, name_most);
	check_name(data + LIMIT_BYTES, size - LIMIT_BYTES, name_most);
	return 0;
}
