/* UTF-8, escaping, parts and near names. */
#include "../../src/address/near.h"

#include <connpipe/address.h>
#include <connpipe/settings.h>

#include <criterion/criterion.h>

#include <stdio.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

/* ---- UTF-8 -------------------------------------------------------------------------------------------------- */

static const char *const valid[] = {
	"",
	"a",
	"\x7f",
	"\xc2\x80",
	"\xdf\xbf",
	"\xe0\xa0\x80",
	"\xec\xbf\xbf",
	"\xed\x80\x80",
	"\xed\x9f\xbf",
	"\xee\x80\x80",
	"\xef\xbf\xbd",
	"\xef\xbf\xbf",
	"\xf0\x90\x80\x80",
	"\xf3\xbf\xbf\xbf",
	"\xf4\x80\x80\x80",
	"\xf4\x8f\xbf\xbf",
	"Größe",
	"日本語",
	"🚀",
};

static const char *const invalid[] = {
	"\x80",
	"\xbf",
	"\xc0\x80",
	"\xc1\xbf",
	"\xc2",
	"\xc2\x7f",
	"\xc2\xc0",
	"\xdf",
	"\xe0\x80\x80",
	"\xe0\x9f\xbf",
	"\xe0\xa0",
	"\xe0\xa0\x7f",
	"\xe1\x80",
	"\xed\xa0\x80",
	"\xed\xbf\xbf",
	"\xed\xae\x80\xed\xb0\x80",
	"\xef\xbf",
	"\xf0\x80\x80\x80",
	"\xf0\x8f\xbf\xbf",
	"\xf0\x90\x80",
	"\xf0\x90\x80\x7f",
	"\xf4\x90\x80\x80",
	"\xf5\x80\x80\x80",
	"\xf8\x88\x80\x80\x80",
	"\xfc\x84\x80\x80\x80\x80",
	"\xfe",
	"\xff",
};

/* At every place within text of more than one machine word. */
static void assert_validity(const char *piece, bool expected)
{
	char text[64];

	for (size_t before = 0; before < 18; before++) {
		for (size_t after = 0; after < 18; after += 17) {
			size_t length = strlen(piece);

			memset(text, 'x', sizeof(text));
			memcpy(text + before, piece, length);
			cr_assert_eq(cp_utf8_valid(text, before + length + after), expected, "%s behind %zu, before %zu", piece,
						 before, after);
		}
	}
}

Test(address_text, utf8_is_that_of_rfc_3629)
{
	for (size_t i = 0; i < COUNT(valid); i++)
		assert_validity(valid[i], true);
	for (size_t i = 0; i < COUNT(invalid); i++)
		assert_validity(invalid[i], false);
	cr_assert(cp_utf8_valid("a\0b", 3));
	cr_assert_not(cp_utf8_valid("Größe", 3), "cut in the middle of a character");
}

/* ---- Escaping ----------------------------------------------------------------------------------------------- */

Test(address_text, escape)
{
	static const struct {
		const char *text, *special, *escaped;
	} cases[] = {
		{"", "", ""},
		{"plain", "", "plain"},
		{"100%", "", "100%25"},
		{"a!b", "", "a!b"},
		{"a!b)c", "!)", "a%21b%29c"},
		{"!", "!", "%21"},
		{"\t\n\x1b\x7f", "", "%09%0A%1B%7F"},
		{"\xc2\x80\xc2\x9f\xc2\xa0", "", "%C2%80%C2%9F\xc2\xa0"},
		{"ö", "", "ö"},
		{"a\xff\xc3z", "", "a%FF%C3z"},
		{"\xed\xa0\x80", "", "%ED%A0%80"},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		size_t needed = strlen(cases[i].escaped);
		char buffer[64];

		for (size_t room = 0; room <= needed + 1; room++) {
			memset(buffer, '#', sizeof(buffer));
			cr_assert_eq(cp_escape(cases[i].text, strlen(cases[i].text), cases[i].special, buffer, room), needed);
			cr_assert_eq(buffer[room], '#');
			if (room > 0)
				cr_assert(strlen(buffer) == room - 1 && memcmp(buffer, cases[i].escaped, room - 1) == 0, "%s",
						  cases[i].escaped);
		}
	}
	cr_assert_eq(cp_escape("a\0b", 3, "", NULL, 0), 5);
}

static struct cp_part part_of(const char *whole, size_t at, size_t length)
{
	return (struct cp_part){whole + at, length, at + 1, whole, strlen(whole), 0};
}

Test(address_text, unescape_undoes_escape_of_every_byte_pair)
{
	struct cp_arena *arena = cp_arena_new(0);

	for (unsigned a = 0; a < 256; a++) {
		for (unsigned b = 0; b < 256; b++) {
			char text[2] = {(char)a, (char)b}, escaped[8];
			size_t length = cp_escape(text, 2, "!", escaped, sizeof(escaped)), back_length;
			struct cp_part part = part_of(escaped, 0, length);
			char *back = cp_part_unescape(&part, arena, &back_length, NULL);

			cr_assert(cp_utf8_valid(escaped, length));
			cr_assert_eq(back != NULL, cp_utf8_valid(text, 2), "%02x %02x", a, b);
			cr_assert(!back || (back_length == 2 && memcmp(back, text, 2) == 0 && back[2] == '\0'), "%02x %02x", a, b);
		}
	}
	cp_arena_free(arena);
}

Test(address_text, unescape_says_where_it_fails)
{
	static const struct {
		const char *text;
		size_t column;
	} cases[] = {
		{"ab%", 3},  {"ab%4", 3}, {"%41%4", 4},     {"%g0", 1},         {"%0g", 1},
		{"%%41", 1}, {"% 41", 1}, {"%41%ff%42", 4}, {"a%c3%b6%c3b", 8},
	};
	struct cp_arena *arena = cp_arena_new(0);

	for (size_t i = 0; i < COUNT(cases); i++) {
		char whole[32], expected[64];
		struct cp_part part;
		struct cp_error error;
		size_t length;

		snprintf(whole, sizeof(whole), "tcp:%s", cases[i].text);
		snprintf(expected, sizeof(expected), "column %zu of \"%s\"", cases[i].column + 4, whole);
		part = part_of(whole, 4, strlen(whole) - 4);
		cr_assert_null(cp_part_unescape(&part, arena, &length, &error), "%s", whole);
		cr_assert_str_eq(error.where, expected);
		cr_assert_eq(error.code, CP_EINVAL);
	}
	cp_arena_free(arena);
}

Test(address_text, part_error_returns_its_code)
{
	struct cp_part part = part_of("tcp:abc", 4, 3);
	struct cp_error error;

	cr_assert_eq(cp_part_error(&part, 1, CP_ELIMIT, &error, "%d and %s", 7, "x"), CP_ELIMIT);
	cr_assert_eq(error.code, CP_ELIMIT);
	cr_assert_str_eq(error.where, "column 6 of \"tcp:abc\"");
	cr_assert_str_eq(error.message, "7 and x");
	cr_assert_eq(cp_part_error(&part, 1, CP_EINVAL, NULL, "x"), CP_EINVAL);
}

/* ---- The shared parser -------------------------------------------------------------------------------------- */

static void assert_part(const struct cp_part *part, const char *expected, size_t column, const char *text)
{
	if (!expected) {
		cr_assert_null(part->at, "%s", text);
		return;
	}
	cr_assert(part->at && part->length == strlen(expected) && memcmp(part->at, expected, part->length) == 0, "%s: %s",
			  text, expected);
	cr_assert_eq(part->column, column, "%s: %s at column %zu", text, expected, part->column);
}

Test(address_text, rest_is_taken_apart)
{
	static const struct {
		const char *text, *host, *port, *path, *multiplex;
		size_t columns[4];
		bool bracketed;
	} cases[] = {
		{"x:", NULL, NULL, NULL, NULL, {0}, false},
		{"x:a", "a", NULL, NULL, NULL, {3}, false},
		{"x:a:1/p!m", "a", "1", "/p", "m", {3, 5, 6, 9}, false},
		{"x:a/p:q!m/n:o", "a", NULL, "/p:q", "m/n:o", {3, 0, 4, 9}, false},
		{"x:a!m", "a", NULL, NULL, "m", {3, 0, 0, 5}, false},
		{"x:[::1]:1", "::1", "1", NULL, NULL, {4, 9}, true},
		{"x:[]/", "", NULL, "/", NULL, {4, 0, 5}, true},
		{"x:$6:1", "::1", "1", NULL, NULL, {3, 6}, true},
		{"x:$4:1", "127.0.0.1", "1", NULL, NULL, {3, 6}, false},
		{"x:%24%36", "%24%36", NULL, NULL, NULL, {3}, false},
		{"x::1", NULL, "1", NULL, NULL, {0, 4}, false},
		{"x:!m", NULL, NULL, NULL, "m", {0, 0, 0, 4}, false},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct cp_part part = part_of(cases[i].text, 2, strlen(cases[i].text) - 2);
		struct cp_rest rest;

		cr_assert_eq(cp_rest_parse(&part, &rest, NULL), CP_OK, "%s", cases[i].text);
		assert_part(&rest.host, cases[i].host, cases[i].columns[0], cases[i].text);
		assert_part(&rest.port, cases[i].port, cases[i].columns[1], cases[i].text);
		assert_part(&rest.path, cases[i].path, cases[i].columns[2], cases[i].text);
		assert_part(&rest.multiplex, cases[i].multiplex, cases[i].columns[3], cases[i].text);
		cr_assert_eq(rest.bracketed, cases[i].bracketed, "%s", cases[i].text);
	}
}

/* ---- Near names --------------------------------------------------------------------------------------------- */

Test(address_text, near_names)
{
	static const char *const names[] = {"tcp", "udp", "ws", "wss", "websocket", "unix", "discard", NULL};
	static const struct {
		const char *word, *near;
	} cases[] = {
		{"tcp", "tcp"},
		{"TCP", "tcp"},
		{"tpc", "tcp"},
		{"tc", "tcp"},
		{"tcpp", "tcp"},
		{"tdp", "tcp"},
		{"ucp", "tcp"},
		{"wsss", "wss"},
		{"w", NULL},
		{"", NULL},
		{"websokcet", "websocket"},
		{"web-sockets", "websocket"},
		{"uinx", "unix"},
		{"disard", "discard"},
		{"discrad", "discard"},
		{"http", NULL},
		{"xyz", NULL},
		{"abcdefghi", NULL},
	};
	char big[1000];

	for (size_t i = 0; i < COUNT(cases); i++) {
		const char *near = cp_near_name(cases[i].word, names);

		cr_assert(near ? cases[i].near && strcmp(near, cases[i].near) == 0 : !cases[i].near, "%s: %s", cases[i].word,
				  near ? near : "none");
	}
	memset(big, 'a', sizeof(big));
	cr_assert_null(near_name(big, sizeof(big), names, 7));
	cr_assert_str_eq(near_name("tcpx", 3, (const char *const[]){NULL, "tcp"}, 2), "tcp");
}
