/* Errors, causes, the report. */
#include "base/report.h"

#include <connpipe/cause.h>
#include <connpipe/error.h>

#include <criterion/criterion.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Test(error, set_fills_everything_and_returns_the_code)
{
	struct cp_error error;

	cr_assert_eq(cp_error_set(&error, CP_EINVAL, "config.toml:3:5", "found %d, want %s", 7, "a string"), CP_EINVAL);
	cr_assert_eq(error.code, CP_EINVAL);
	cr_assert_str_eq(error.where, "config.toml:3:5");
	cr_assert_str_eq(error.message, "found 7, want a string");
	cr_assert_eq(cp_error_set(&error, CP_EIO, NULL, "x"), CP_EIO);
	cr_assert_str_eq(error.where, "");
	cr_assert_eq(cp_error_set(NULL, CP_ELIMIT, "here", "nobody reads this"), CP_ELIMIT);
}

Test(error, may_wrap_itself)
{
	struct cp_error error;

	cp_error_set(&error, CP_EREFUSED, "tcp:db:1", "connection refused");
	cp_error_set(&error, error.code, error.message, "%s: %s", error.where, error.message);
	cr_assert_str_eq(error.where, "connection refused");
	cr_assert_str_eq(error.message, "tcp:db:1: connection refused");
}

/* Text of `length` bytes that ends in a character of `tail` bytes. */
static char *long_text(size_t length, const char *tail)
{
	char *text = malloc(length + 1);

	memset(text, 'a', length);
	strcpy(text + length - strlen(tail), tail);
	return text;
}

Test(error, long_text_is_cut_between_characters)
{
	static const char *const tails[] = {"b", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
	struct cp_error error;

	for (size_t i = 0; i < 4; i++) {
		for (size_t length = sizeof(error.message) - 4; length < sizeof(error.message) + 8; length++) {
			char *text = long_text(length, tails[i]);
			size_t room = sizeof(error.message) - 1, before = length - strlen(tails[i]);

			/* The last character is whole or gone, whatever the place of the cut. */
			cp_error_set(&error, CP_EIO, text, "%s", text);
			cr_assert_eq(strlen(error.message), length <= room ? length : before < room ? before : room);
			cr_assert_eq(memcmp(error.message, text, strlen(error.message)), 0);
			cr_assert_eq(strlen(error.where), sizeof(error.where) - 1);
			free(text);
		}
	}
}

Test(error, text_that_is_not_utf8_is_cut_anywhere)
{
	struct cp_error error;
	char text[1000];

	memset(text, 0x80, sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	cp_error_set(&error, CP_EIO, text, "%s", text);
	cr_assert_eq(strlen(error.message), sizeof(error.message) - 1);
	cr_assert_eq(strlen(error.where), sizeof(error.where) - 1);
}

Test(error, every_code_has_a_text)
{
#define CHECK(name, value, text) cr_assert_str_eq(cp_err_text(name), text);
	CP_ERRORS(CHECK)
#undef CHECK
	cr_assert_str_eq(cp_err_text((enum cp_err) - 99), "unknown error");
}

Test(error, from_errno)
{
	static const struct {
		int errnum;
		enum cp_err code;
	} cases[] = {
		{0, CP_OK},
		{EAGAIN, CP_AGAIN},
		{EINPROGRESS, CP_AGAIN},
		{ENOMEM, CP_ENOMEM},
		{EMFILE, CP_EMFILE},
		{ENFILE, CP_EMFILE},
		{EACCES, CP_EPERM},
		{EADDRINUSE, CP_EADDRINUSE},
		{ECONNREFUSED, CP_EREFUSED},
		{EHOSTUNREACH, CP_EUNREACHABLE},
		{ETIMEDOUT, CP_ETIMEOUT},
		{EPIPE, CP_ERESET},
		{ECONNRESET, CP_ERESET},
		{ENOENT, CP_ENOTFOUND},
		{EEXIST, CP_EEXIST},
		{EAFNOSUPPORT, CP_EUNSUPPORTED},
		{ENOSPC, CP_ELIMIT},
		{EIO, CP_EIO},
		{ELOOP, CP_EIO},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		cr_assert_eq(cp_err_from_errno(cases[i].errnum), cases[i].code, "%s", strerror(cases[i].errnum));
}

Test(cause, every_cause_has_text_and_meaning)
{
	int seen = 0;

#define CHECK(name, text, meaning)                                \
	cr_assert_str_eq(cp_cause_text(name), text);                  \
	cr_assert_str_eq(cp_cause_meaning(name), meaning);            \
	cr_assert_eq(cp_cause_is_reset(name), name != CP_CAUSE_DONE); \
	seen++;
	CP_CAUSES(CHECK)
#undef CHECK
	cr_assert_eq(seen, CP_CAUSE_COUNT);
	cr_assert_str_eq(cp_cause_text(CP_CAUSE_COUNT), "unknown");
	cr_assert_str_eq(cp_cause_meaning(CP_CAUSE_COUNT), "not a cause");
}

/* What report_print() writes, for free(). */
static char *printed(const struct report *report, const char *prefix)
{
	char *text;
	size_t length;
	FILE *file = open_memstream(&text, &length);

	report_print(report, file, prefix);
	fclose(file);
	return text;
}

Test(report, prints_place_and_message_in_order)
{
	struct report report = {0};
	struct cp_error error;
	char *text;

	cp_error_set(&error, CP_EINVAL, "b.toml:2:1", "second");
	report_add(&report, "a.toml:1:1", "first %d", 1);
	report_add_error(&report, &error);
	report_add(&report, NULL, "third");
	text = printed(&report, "> ");
	cr_assert_str_eq(text, "> a.toml:1:1: first 1\n> b.toml:2:1: second\n> third\n");
	free(text);
	report_deinit(&report);
	cr_assert_eq(report.count, 0);
	text = printed(&report, "");
	cr_assert_str_eq(text, "");
	free(text);
	report_deinit(&report);
}

Test(report, counts_what_is_too_much)
{
	struct report report = {0};
	char *text;

	for (int i = 0; i < REPORT_MAX + 5; i++)
		report_add(&report, "x", "error %d", i);
	cr_assert_eq(report.count, REPORT_MAX);
	cr_assert_eq(report.dropped, 5);
	cr_assert_str_eq(report.entries[REPORT_MAX - 1].message, "error 999");
	text = printed(&report, "");
	cr_assert(strstr(text, "x: error 999\nand 5 more errors\n"));
	free(text);
	report_deinit(&report);
}
