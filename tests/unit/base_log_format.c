/* Lines of the log: the exact form, escapes, cutting, JSON. */
#include "base/log.h"
#include "base/log_format.h"
#include "base/utf8.h"

#include <criterion/criterion.h>

#include <jansson.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A zone with an offset that is no whole hour, so that a mistake shows. POSIX counts westward. */
static void in_a_zone(void)
{
	setenv("TZ", "XXX-5:45", 1);
	tzset();
}

TestSuite(log_format, .init = in_a_zone);

static const struct log_origin module = {.who = "config"}, task = {.who = "pipe", .is_task = true, .id = 42};

/* The line with a zero byte instead of its newline. */
static const char *format(bool json, const struct log_origin *origin, const char *message, size_t length)
{
	static char line[LOG_LINE_MAX];
	size_t size = log_format(line, json, CP_INFO, origin, message, length);

	cr_assert(size > 0 && size <= LOG_LINE_MAX);
	cr_assert_eq(line[size - 1], '\n');
	cr_assert_null(memchr(line, '\n', size - 1));
	line[size - 1] = '\0';
	return line;
}

/* The message as it stands in a line of text. */
static const char *escaped(const char *message, size_t length)
{
	return strstr(format(false, &module, message, length), "] ") + 2;
}

static json_t *parsed(const struct log_origin *origin, const char *message, size_t length)
{
	json_error_t error;
	const char *line = format(true, origin, message, length);
	json_t *object = json_loads(line, JSON_REJECT_DUPLICATES, &error);

	cr_assert(object, "%s: %s", error.text, line);
	return object;
}

static void assert_matches(const char *text, const char *pattern)
{
	regex_t regex;

	cr_assert_eq(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB), 0);
	cr_assert_eq(regexec(&regex, text, 0, NULL, 0), 0, "%s does not match %s", text, pattern);
	regfree(&regex);
}

#define STAMP "[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}"

Test(log_format, text)
{
	assert_matches(format(false, &module, "read", 4), "^\\[" STAMP " INFO config\\] read$");
	assert_matches(format(false, &task, "opened", 6), "^\\[" STAMP " INFO pipe/42\\] opened$");
	assert_matches(format(false, &task, "", 0), "^\\[" STAMP " INFO pipe/42\\] $");
}

Test(log_format, ids_of_any_size)
{
	struct log_origin origin = {.who = "pipe", .is_task = true, .id = 0};

	assert_matches(format(false, &origin, "m", 1), " INFO pipe/0\\] m$");
	origin.id = UINT64_MAX;
	assert_matches(format(false, &origin, "m", 1), " INFO pipe/18446744073709551615\\] m$");
	assert_matches(format(true, &origin, "m", 1), "\"id\":18446744073709551615,");
}

Test(log_format, levels_are_not_padded)
{
	static const char *const names[] = {"ERROR", "WARN", "INFO", "DEBUG", "TRACE"};
	char line[LOG_LINE_MAX], wanted[40];

	for (int level = CP_ERROR; level <= CP_TRACE; level++) {
		size_t length = log_format(line, false, (enum cp_level)level, &module, "m", 1);

		snprintf(wanted, sizeof(wanted), " %s config] m\n", names[level]);
		cr_assert_eq(strlen(wanted) + strlen("[2022-09-16 23:40:00.670"), length);
		cr_assert_eq(memcmp(line + length - strlen(wanted), wanted, strlen(wanted)), 0);
		cr_assert_str_eq(log_level_text((enum cp_level)level), names[level]);
	}
}

Test(log_format, levels_are_parsed_in_any_case)
{
	enum cp_level level = CP_TRACE;

	cr_assert(log_level_parse("error", &level) && level == CP_ERROR);
	cr_assert(log_level_parse("WARN", &level) && level == CP_WARN);
	cr_assert(log_level_parse("Debug", &level) && level == CP_DEBUG);
	cr_assert_not(log_level_parse("warning", &level));
	cr_assert_not(log_level_parse("", &level));
	cr_assert_eq(level, CP_DEBUG);
}

/* Between two looks at the clock lies the line's time, in local time: 5:45 ahead. */
Test(log_format, time_is_local)
{
	time_t before = time(NULL), after, written;
	struct tm tm = {0};
	char line[64];

	snprintf(line, sizeof(line), "%.40s", format(false, &module, "x", 1));
	after = time(NULL);
	cr_assert_not_null(strptime(line, "[%Y-%m-%d %H:%M:%S", &tm));
	written = timegm(&tm) - (5 * 60 + 45) * 60;
	cr_assert(written >= before && written <= after, "%s", line);
}

Test(log_format, json_of_a_task)
{
	json_t *object = parsed(&task, "opened", 6);

	cr_assert_eq(json_object_size(object), 5);
	assert_matches(json_string_value(json_object_get(object, "time")),
				   "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}\\+05:45$");
	cr_assert_str_eq(json_string_value(json_object_get(object, "level")), "INFO");
	cr_assert_str_eq(json_string_value(json_object_get(object, "type")), "pipe");
	cr_assert_eq(json_integer_value(json_object_get(object, "id")), 42);
	cr_assert_str_eq(json_string_value(json_object_get(object, "message")), "opened");
	json_decref(object);
}

Test(log_format, json_of_a_module)
{
	json_t *object = parsed(&module, "read \"a\" \\ b", 12);

	cr_assert_eq(json_object_size(object), 4);
	cr_assert_str_eq(json_string_value(json_object_get(object, "module")), "config");
	cr_assert_str_eq(json_string_value(json_object_get(object, "message")), "read \"a\" \\ b");
	json_decref(object);
}

Test(log_format, json_offset_west_of_greenwich)
{
	json_t *object;

	setenv("TZ", "XXX3:30", 1);
	tzset();
	object = parsed(&module, "", 0);
	assert_matches(json_string_value(json_object_get(object, "time")), "-03:30$");
	json_decref(object);
}

Test(log_format, escapes)
{
	static const struct {
		const char *message, *escaped;
	} cases[] = {
		{"plain \"quoted\" text", "plain \"quoted\" text"},
		{"forged\n[2022-09-16", "forged\\x0a[2022-09-16"},
		{"\t\r\x1b[31m\x7f", "\\x09\\x0d\\x1b[31m\\x7f"},
		{"h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"},
		{"c1 \xc2\x9b", "c1 \\xc2\\x9b"},
		{"first behind c1 \xc2\xa0", "first behind c1 \xc2\xa0"},
		{"stray \x80 lead \xc3", "stray \\x80 lead \\xc3"},
		{"long \xc0\xaf surrogate \xed\xa0\x80", "long \\xc0\\xaf surrogate \\xed\\xa0\\x80"},
		{"beyond \xf4\x90\x80\x80 \xff", "beyond \\xf4\\x90\\x80\\x80 \\xff"},
		{"C:\\new\\x", "C:\\new\\x"},
		{"\\x0a", "\\x5cx0a"},
		{"\\x0A \\xg0 \\x0", "\\x0A \\xg0 \\x0"},
		{"\\\n", "\\\\x0a"},
		{"\\\\x41", "\\\\x5cx41"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		cr_assert_str_eq(escaped(cases[i].message, strlen(cases[i].message)), cases[i].escaped);
	cr_assert_str_eq(escaped("a\0b", 3), "a\\x00b");
}

Test(log_format, who_is_escaped_and_cut)
{
	char name[1000];
	struct log_origin origin = {.who = "a\nb\xff"};

	assert_matches(format(false, &origin, "m", 1), " INFO a\\\\x0ab\\\\xff\\] m$");
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	origin.who = name;
	assert_matches(format(false, &origin, "m", 1), " INFO n{256}\\] m$");
	origin.who = NULL;
	assert_matches(format(false, &origin, "m", 1), " INFO \\] m$");
}

static bool is_hex(char c)
{
	return c && strchr("0123456789abcdef", c);
}

/* Undo the escapes. @return the length */
static size_t unescape(const char *text, char *out)
{
	char *at = out;
	unsigned byte;

	while (*text) {
		if (text[0] == '\\' && text[1] == 'x' && is_hex(text[2]) && is_hex(text[3])) {
			sscanf(text + 2, "%2x", &byte);
			*at++ = (char)byte;
			text += 4;
		} else {
			*at++ = *text++;
		}
	}
	return (size_t)(at - out);
}

/* Random bytes, drawn from those that mean something: each message can be told from its line, no control character and
 * nothing that is not UTF-8 is in it, and JSON says the same as text. */
Test(log_format, escapes_lose_nothing)
{
	static const char alphabet[] =
		"\\\\\\xxx0aAf\"\n\x01\x7f\xc2\x80\x9b\xa0\xc3\xa9\xe2\x82\xac\xed\xf0\x9f\x98\xf4\xff z";
	char message[24], text[LOG_LINE_MAX], back[LOG_LINE_MAX];

	srandom(1);
	for (int round = 0; round < 20000; round++) {
		size_t length = (size_t)random() % sizeof(message);
		json_t *object;

		for (size_t i = 0; i < length; i++)
			message[i] = alphabet[(size_t)random() % sizeof(alphabet)];
		strcpy(text, escaped(message, length));
		cr_assert_eq(unescape(text, back), length, "%s", text);
		cr_assert_eq(memcmp(back, message, length), 0, "%s", text);
		for (size_t i = 0; text[i]; i += utf8_character(text + i, strlen(text + i)))
			cr_assert(utf8_character(text + i, strlen(text + i)) && (unsigned char)text[i] >= ' ' && text[i] != 0x7f);
		object = parsed(&module, message, length);
		cr_assert_str_eq(json_string_value(json_object_get(object, "message")), text);
		json_decref(object);
	}
}

/* Around the limit every length and every kind of character: lines stay whole, valid, and say that they were cut. */
Test(log_format, long_messages_are_cut)
{
	static const char *const units[] = {"a", "\xc3\xa9", "\xf0\x9f\x98\x80", "\n", "\"", "\\", "\xc2\x9b", "\xff"};
	static char message[LOG_LINE_MAX + 64];

	for (size_t unit = 0; unit < sizeof(units) / sizeof(units[0]); unit++) {
		for (size_t shift = 0; shift < 12; shift++) {
			size_t length = shift, width = strlen(units[unit]);
			const char *cut, *text;
			json_t *object;

			memset(message, 'b', shift);
			for (; length + width <= sizeof(message); length += width)
				memcpy(message + length, units[unit], width);
			object = parsed(&task, message, length);
			text = json_string_value(json_object_get(object, "message"));
			cut = strstr(text, "…");
			cr_assert(cut && cut[strlen("…")] == '\0');
			json_decref(object);
			cr_assert_str_eq(strstr(escaped(message, length), "…"), "…");
		}
	}
}

Test(log_format, a_message_that_just_fits_is_whole)
{
	static char message[LOG_LINE_MAX];
	size_t head = strlen(format(false, &module, "", 0)), length = LOG_LINE_MAX - 8 - head;

	memset(message, 'a', sizeof(message));
	cr_assert_null(strstr(format(false, &module, message, length), "…"));
	cr_assert_not_null(strstr(format(false, &module, message, length + 1), "…"));
}
