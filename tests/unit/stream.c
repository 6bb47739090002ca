/* The preamble: every way in which its bytes can arrive, and every way in which they can be wrong. */
#include "stream/preamble.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static const char magic[] = "\x89\x3d\x1d\x4e\x4e\x4f\xc6\x86\x2d\x1e\x10\x01\x0d\x0a\x69\x0a";

enum { LIMIT = 255 };

static size_t build(char *buffer, const char *rest, size_t length)
{
	memcpy(buffer, magic, PREAMBLE_MAGIC);
	memcpy(buffer + PREAMBLE_MAGIC, rest, length);
	return PREAMBLE_MAGIC + length;
}

Test(preamble, what_is_written_is_read)
{
	static char name[PREAMBLE_NAME_MOST], buffer[PREAMBLE_MOST];
	static const size_t lengths[] = {1, 2, 126, 127, 128, 129, 255, 256, 16383, 16384, 16385, 65535};
	memset(name, 'n', sizeof(name));
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		struct preamble found = {0};
		size_t length = preamble_write(name, lengths[i], buffer);
		cr_assert_eq(preamble_read(buffer, length, PREAMBLE_NAME_MOST, &found), PREAMBLE_FOUND, "%zu", lengths[i]);
		cr_assert_eq(found.name_length, lengths[i]);
		cr_assert_eq(found.length, length);
		cr_assert_arr_eq(found.name, name, lengths[i]);
	}
}

Test(preamble, every_beginning_asks_for_more)
{
	char buffer[512];
	char name[200];
	memset(name, 'x', sizeof(name));
	size_t length = preamble_write(name, sizeof(name), buffer);
	for (size_t i = 0; i < length; i++) {
		struct preamble found = {0};
		cr_assert_eq(preamble_read(buffer, i, LIMIT, &found), PREAMBLE_MORE, "%zu bytes", i);
		cr_assert_eq(preamble_begun(buffer, i), i >= PREAMBLE_MAGIC);
	}
}

Test(preamble, bytes_behind_it_are_not_its_own)
{
	char buffer[512];
	struct preamble found = {0};
	size_t length = preamble_write("ssh", 3, buffer);
	memcpy(buffer + length, "SSH-2.0-x\r\n", 11);
	cr_assert_eq(preamble_read(buffer, length + 11, LIMIT, &found), PREAMBLE_FOUND);
	cr_assert_eq(found.length, length);
}

Test(preamble, the_first_wrong_byte_decides)
{
	for (size_t wrong = 0; wrong < PREAMBLE_MAGIC; wrong++) {
		char buffer[PREAMBLE_MAGIC];
		struct preamble found = {0};
		memcpy(buffer, magic, sizeof(buffer));
		buffer[wrong] ^= 1;
		for (size_t count = 0; count <= PREAMBLE_MAGIC; count++)
			cr_assert_eq(preamble_read(buffer, count, LIMIT, &found), count > wrong ? PREAMBLE_ABSENT : PREAMBLE_MORE,
						 "byte %zu of %zu", wrong, count);
	}
}

struct bad {
	const char *rest;
	size_t length, limit;
	const char *reason;
};

Test(preamble, malformed_ones_are_refused)
{
	static const struct bad bad[] = {
		{"\x00", 1, LIMIT, "its length is zero"},
		{"\x80\x00", 2, LIMIT, "its length is not in the shortest form"},
		{"\x83\x00" "ssh", 5, LIMIT, "its length is not in the shortest form"},
		{"\xff\x80\x00", 3, 65535, "its length is not in the shortest form"},
		{"\x80\x02", 2, LIMIT, "its length is over the limit"},
		{"\x80\x80\x04", 3, 65535, "its length is over the limit"},
		{"\xff\xff\xff", 3, 65535, "its length is over the limit"},
		{"\x04", 1, 3, "its length is over the limit"},
		{"\x02\xc3\x28", 3, LIMIT, "its name is not UTF-8"},
		{"\x01\xff", 2, LIMIT, "its name is not UTF-8"},
		{"\x03\xed\xa0\x80", 4, LIMIT, "its name is not UTF-8"},
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char buffer[64];
		struct preamble found = {0};
		size_t length = build(buffer, bad[i].rest, bad[i].length);
		cr_assert_eq(preamble_read(buffer, length, bad[i].limit, &found), PREAMBLE_MALFORMED, "case %zu", i);
		cr_assert_str_eq(found.reason, bad[i].reason, "case %zu", i);
	}
}

Test(preamble, the_longest_allowed_name_is_read)
{
	char name[256], buffer[512];
	struct preamble found = {0};
	memset(name, 'n', sizeof(name));
	size_t length = preamble_write(name, 255, buffer);
	cr_assert_eq(preamble_read(buffer, length, 255, &found), PREAMBLE_FOUND);
	length = preamble_write(name, 256, buffer);
	cr_assert_eq(preamble_read(buffer, length, 255, &found), PREAMBLE_MALFORMED);
}
