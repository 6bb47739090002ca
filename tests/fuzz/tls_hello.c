/* ClientHellos: an answer that is certain stays, however many bytes follow; what is read is what the interface
 * promises; records make no difference.
 *
 * The first byte of the input says what the rest is. 0: the bytes of a connection. Otherwise: extensions, put into a
 * hello whose other lengths are right, in records of at most so many bytes. */
#include "../unit/sniff_hello.h"
#include "check.h"
#include "sniff/tls_hello.h"

#include <ctype.h>
#include <string.h>

static bool is_name(const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (!islower((unsigned char)text[i]) && !isdigit((unsigned char)text[i]) && !memchr("-_.", text[i], 3))
			return false;
	return length > 0 && length <= 253 && text[length - 1] != '.';
}

static bool is_list(const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (!isprint((unsigned char)text[i]))
			return false;
	return length > 0 && text[0] != ',' && text[length - 1] != ',' && !strstr(text, ",,");
}

static void check_result(const struct tls_hello *hello)
{
	if (hello->sni)
		CHECK(hello->sni[hello->sni_length] == '\0' && is_name(hello->sni, hello->sni_length));
	if (hello->alpn)
		CHECK(hello->alpn[hello->alpn_length] == '\0' && is_list(hello->alpn, hello->alpn_length));
}

static void check_same_text(const char *a, size_t a_length, const char *b, size_t b_length)
{
	CHECK(!a == !b);
	CHECK(!a || (a_length == b_length && memcmp(a, b, a_length) == 0));
}

static void check_same(const struct tls_hello *a, const struct tls_hello *b)
{
	check_same_text(a->sni, a->sni_length, b->sni, b->sni_length);
	check_same_text(a->alpn, a->alpn_length, b->alpn, b->alpn_length);
}

/** From memory of just that length. @param before  verdicts for fewer bytes; updated */
static void check_prefix(const uint8_t *data, size_t length, struct cp_arena *arena, enum verdict *begins,
						 enum verdict *reads, struct tls_hello *hello)
{
	struct tls_hello again;
	char *bytes = malloc(length ? length : 1);
	memcpy(bytes, data, length);
	enum verdict begun = tls_hello_begins(bytes, length);
	enum verdict read = tls_hello_read(bytes, length, arena, &again);
	free(bytes);
	CHECK(*begins == VERDICT_MAYBE || begun == *begins);
	CHECK(*reads == VERDICT_MAYBE || read == *reads);
	CHECK(begun == VERDICT_YES || read == begun);
	CHECK(length < 6 || begun != VERDICT_MAYBE);
	if (read == VERDICT_YES && *reads == VERDICT_YES)
		check_same(hello, &again);
	if (read == VERDICT_YES) {
		check_result(&again);
		*hello = again;
	}
	*begins = begun;
	*reads = read;
}

/** @return the verdict for all of the bytes */
static enum verdict check_bytes(const uint8_t *data, size_t size, struct cp_arena *arena, struct tls_hello *hello)
{
	enum verdict begins = VERDICT_MAYBE, reads = VERDICT_MAYBE;
	for (size_t length = 0; length < size; length += 1 + length / 32) /* every one at first, then fewer */
		check_prefix(data, length, arena, &begins, &reads, hello);
	check_prefix(data, size, arena, &begins, &reads, hello);
	return reads;
}

static void check_extensions(const uint8_t *data, size_t size, size_t fragment, struct cp_arena *arena)
{
	static struct hello message;
	static uint8_t wire[RECORDS_ROOM];
	struct tls_hello whole, cut;
	if (size > TLS_HELLO_MOST)
		return;
	hello_begin(&message);
	hello_put(&message, data, size);
	hello_finish(&message);
	size_t length = hello_records(&message, 1 << 14, wire);
	enum verdict verdict = tls_hello_read((char *)wire, length, arena, &whole);
	CHECK(verdict != VERDICT_MAYBE);
	length = hello_records(&message, fragment, wire);
	CHECK(check_bytes(wire, length, arena, &cut) == verdict);
	if (verdict == VERDICT_YES)
		check_same(&whole, &cut);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tls_hello hello;
	if (size == 0)
		return 0;
	struct cp_arena *arena = cp_arena_new(0);
	if (data[0] == 0)
		check_bytes(data + 1, size - 1, arena, &hello);
	else
		check_extensions(data + 1, size - 1, data[0], arena);
	cp_arena_free(arena);
	return 0;
}
