/* Getters: what they take, what they refuse, in which words and where. */
#include "config_fixture.h"

#include <math.h>

/* One value of each kind, and its description in errors. */
static const char kinds[] = "[t]\ntable = {}\narray = []\nstring = \"x\"\ninteger = -5\nfloat = 1.5\nbool = true\n"
							"time = 1979-05-27T07:32:00.5-08:30\n";
static const char *const found[] = {
	"c.toml:2:9: expected %s, found a table",
	"c.toml:3:9: expected %s, found an array",
	"c.toml:4:10: expected %s, found the string \"x\"",
	"c.toml:5:11: expected %s, found the integer -5",
	"c.toml:6:9: expected %s, found the float 1.5",
	"c.toml:7:8: expected %s, found the boolean true",
	"c.toml:8:8: expected %s, found the time 1979-05-27T07:32:00.5-08:30",
};

static void expect_refusal(struct fixture *f, enum cp_settings_kind kind, const char *expected)
{
	char error[512];
	snprintf(error, sizeof error, found[kind], expected);
	EXPECT_ERRORS(f, error);
}

/* A getter with the rest of its arguments. */
typedef bool getter(const struct cp_settings *value);

/* The getter takes values of `takes` (a bit for each kind), and refuses all others as `expected`. */
static void expect_kinds(getter *get, unsigned takes, const char *expected)
{
	struct fixture f;
	fixture_read(&f, kinds);
	const struct cp_settings *table = fixture_get(&f, "t");
	for (enum cp_settings_kind kind = CP_SETTINGS_TABLE; kind <= CP_SETTINGS_TIME; kind++) {
		const struct cp_settings *value = cp_settings_at(table, kind);
		cr_assert_eq(cp_settings_kind(value), kind);
		cr_assert_eq(get(value), (takes >> kind & 1) != 0, "kind %d", kind);
		if (takes >> kind & 1)
			EXPECT_NO_ERRORS(&f);
		else
			expect_refusal(&f, kind, expected);
	}
	fixture_end(&f);
}

static bool get_string(const struct cp_settings *value)
{
	const char *text;
	size_t length;
	return cp_settings_string(value, &text, &length);
}

static bool get_integer(const struct cp_settings *value)
{
	int64_t number;
	return cp_settings_integer(value, INT64_MIN, INT64_MAX, &number);
}

static bool get_float(const struct cp_settings *value)
{
	double number;
	return cp_settings_float(value, &number);
}

static bool get_bool(const struct cp_settings *value)
{
	bool truth;
	return cp_settings_bool(value, &truth);
}

static bool want_table(const struct cp_settings *value)
{
	return cp_settings_want(value, CP_SETTINGS_TABLE);
}

static bool want_time(const struct cp_settings *value)
{
	return cp_settings_want(value, CP_SETTINGS_TIME);
}

Test(config_scalar, each_getter_takes_its_kind_only)
{
	expect_kinds(get_string, 1u << CP_SETTINGS_STRING | 1u << CP_SETTINGS_TIME, "a string");
	expect_kinds(get_integer, 1u << CP_SETTINGS_INTEGER, "an integer");
	expect_kinds(get_float, 1u << CP_SETTINGS_INTEGER | 1u << CP_SETTINGS_FLOAT, "a number");
	expect_kinds(get_bool, 1u << CP_SETTINGS_BOOL, "true or false");
	expect_kinds(want_table, 1u << CP_SETTINGS_TABLE, "a table");
	expect_kinds(want_time, 1u << CP_SETTINGS_TIME, "a date or time");
}

Test(config_scalar, strings)
{
	struct fixture f;
	const char *text = NULL;
	size_t length = 0;
	fixture_read(&f, "[t]\na = \"h\\u00e9\\n\"\nb = ''\nzero = \"x\\u0000y\"\nday = 1979-05-27\nhour = 07:32:00\n"
					 "at = 1979-05-27 07:32:00Z\n");
	const struct cp_settings *table = fixture_get(&f, "t");
	cr_assert(cp_settings_string(cp_settings_get(table, "a"), &text, &length));
	cr_assert_str_eq(text, "hé\n");
	cr_assert_eq(length, 4);
	cr_assert(cp_settings_string(cp_settings_get(table, "b"), &text, NULL));
	cr_assert_str_eq(text, "");
	cr_assert(cp_settings_string(cp_settings_get(table, "zero"), &text, &length));
	cr_assert_eq(length, 3);
	cr_assert(cp_settings_string(cp_settings_get(table, "day"), &text, &length));
	cr_assert_str_eq(text, "1979-05-27");
	cr_assert_eq(length, 10);
	cr_assert(cp_settings_string(cp_settings_get(table, "hour"), &text, NULL));
	cr_assert_str_eq(text, "07:32:00");
	cr_assert(cp_settings_string(cp_settings_get(table, "at"), &text, NULL));
	cr_assert_str_eq(text, "1979-05-27T07:32:00Z");
	EXPECT_NO_ERRORS(&f);
	cr_assert(!cp_settings_string(cp_settings_get(table, "zero"), &text, NULL));
	cr_assert(!cp_settings_get_string(table, "zero", &text));
	cr_assert(!cp_settings_get_string(table, "day", &text), "short ways are for settings, which are no dates");
	cr_assert_str_eq(text, "1979-05-27T07:32:00Z", "left alone");
	EXPECT_ERRORS(&f, "c.toml:4:8: expected a string without zero bytes, found the string \"x\\u0000y\"",
				  "c.toml:4:8: expected a string without zero bytes, found the string \"x\\u0000y\"",
				  "c.toml:5:7: expected a string, found the time 1979-05-27");
	fixture_end(&f);
}

Test(config_scalar, long_strings_are_cut_between_characters)
{
	struct fixture f;
	fixture_read(&f, "[t]\na = \"0123456789012345678901234567890123456789012345678901234567é89\"\n"
					 "b = \"01234567890123456789012345678901234567890123456789012345678é89\"\n");
	const struct cp_settings *table = fixture_get(&f, "t");
	cr_assert(!cp_settings_want(cp_settings_get(table, "a"), CP_SETTINGS_BOOL));
	cr_assert(!cp_settings_want(cp_settings_get(table, "b"), CP_SETTINGS_BOOL));
	EXPECT_ERRORS(&f,
				  "c.toml:2:5: expected a boolean, found the string "
				  "\"0123456789012345678901234567890123456789012345678901234567é…\"",
				  "c.toml:3:5: expected a boolean, found the string "
				  "\"01234567890123456789012345678901234567890123456789012345678…\"");
	fixture_end(&f);
}

Test(config_scalar, integers_have_a_range)
{
	struct fixture f;
	int64_t number = 0;
	fixture_read(&f, "[t]\na = 70000\nb = -1\nc = 0xff\n");
	const struct cp_settings *table = fixture_get(&f, "t");
	const struct cp_settings *a = cp_settings_get(table, "a"), *b = cp_settings_get(table, "b");
	cr_assert(cp_settings_integer(a, 70000, 70000, &number));
	cr_assert_eq(number, 70000);
	cr_assert(cp_settings_get_integer(table, "c", 0, 255, &number));
	cr_assert_eq(number, 255);
	EXPECT_NO_ERRORS(&f);
	cr_assert(!cp_settings_integer(a, 1, 65535, &number));
	cr_assert(!cp_settings_integer(b, 0, INT64_MAX, &number));
	cr_assert(!cp_settings_integer(b, INT64_MIN, -2, &number));
	cr_assert(!cp_settings_get_integer(table, "a", 1, 2, &number));
	cr_assert_eq(number, 255, "left alone");
	EXPECT_ERRORS(&f, "c.toml:2:5: expected an integer from 1 to 65535, found the integer 70000",
				  "c.toml:3:5: expected an integer of at least 0, found the integer -1",
				  "c.toml:3:5: expected an integer of at most -2, found the integer -1",
				  "c.toml:2:5: expected an integer from 1 to 2, found the integer 70000");
	fixture_end(&f);
}

Test(config_scalar, floats_are_finite)
{
	struct fixture f;
	double number = 0;
	fixture_read(&f, "[t]\na = -2.5e3\nb = 7\nc = inf\nd = nan\n");
	const struct cp_settings *table = fixture_get(&f, "t");
	cr_assert(cp_settings_float(cp_settings_get(table, "a"), &number));
	cr_assert(fabs(number + 2500) < 1e-9);
	cr_assert(cp_settings_float(cp_settings_get(table, "b"), &number));
	cr_assert(!cp_settings_float(cp_settings_get(table, "c"), &number));
	cr_assert(!cp_settings_float(cp_settings_get(table, "d"), &number));
	cr_assert(fabs(number - 7) < 1e-9, "left alone");
	EXPECT_ERRORS(&f, "c.toml:4:5: expected a finite number, found the float inf",
				  "c.toml:5:5: expected a finite number, found the float nan");
	fixture_end(&f);
}

Test(config_scalar, booleans)
{
	struct fixture f;
	bool truth = false;
	fixture_read(&f, "[t]\na = true\nb = \"yes\"\n");
	const struct cp_settings *table = fixture_get(&f, "t");
	cr_assert(cp_settings_get_bool(table, "a", &truth));
	cr_assert(truth);
	cr_assert(cp_settings_get_bool(table, "none", &truth));
	cr_assert(!cp_settings_get_bool(table, "b", &truth));
	cr_assert(truth, "left alone");
	EXPECT_ERRORS(&f, "c.toml:3:5: expected true or false, found the string \"yes\"");
	fixture_end(&f);
}

#define DURATION_UNITS "(units: ns, us, ms, s, m, h, d)"

Test(config_scalar, durations)
{
	struct fixture f;
	uint64_t time = 0;
	fixture_read(&f, "[t]\na = \"1m30s\"\nb = 5\nc = \"5 parsecs\"\nd = \"1m30\"\ne = \"99999d\"\nf = 1.5\n"
					 "g = \"1s\\u0035x\"\n");
	const struct cp_settings *table = fixture_get(&f, "t");
	cr_assert(cp_settings_get_duration(table, "a", &time));
	cr_assert_eq(time, 90000);
	cr_assert(cp_settings_get_duration(table, "none", &time));
	for (const char *key = "b\0c\0d\0e\0f\0g\0"; *key; key += 2)
		cr_assert(!cp_settings_get_duration(table, key, &time));
	cr_assert_eq(time, 90000, "left alone");
	EXPECT_ERRORS(&f, "c.toml:3:5: expected a duration such as \"5s\", found the integer 5",
				  "c.toml:4:7: expected a duration such as \"5s\" " DURATION_UNITS ", found the string \"5 parsecs\"",
				  "c.toml:5:10: expected a duration with a unit, such as \"5s\" " DURATION_UNITS
				  ", found the string \"1m30\"",
				  "c.toml:6:6: expected a duration of at most \"36500d\", found the string \"99999d\"",
				  "c.toml:7:5: expected a duration such as \"5s\", found the float 1.5",
				  "c.toml:8:5: expected a duration such as \"5s\" " DURATION_UNITS ", found the string \"1s5x\"");
	fixture_end(&f);
}

#define SIZE_UNITS "(units: B, KiB, MiB, GiB, KB, MB, GB)"

Test(config_scalar, sizes)
{
	struct fixture f;
	uint64_t size = 0;
	fixture_read(&f, "[t]\na = \"64KiB\"\nb = 4096\nc = -1\nd = \"64\"\ne = \"1K\"\nf = \"9000000000GiB\"\ng = true\n");
	const struct cp_settings *table = fixture_get(&f, "t");
	cr_assert(cp_settings_get_size(table, "a", &size));
	cr_assert_eq(size, 65536);
	cr_assert(cp_settings_get_size(table, "b", &size));
	cr_assert_eq(size, 4096);
	cr_assert(cp_settings_get_size(table, "none", &size));
	for (const char *key = "c\0d\0e\0f\0g\0"; *key; key += 2)
		cr_assert(!cp_settings_get_size(table, key, &size));
	cr_assert_eq(size, 4096, "left alone");
	EXPECT_ERRORS(&f, "c.toml:4:5: expected a size such as \"64KiB\" or a number of bytes, found the integer -1",
				  "c.toml:5:8: expected a size with a unit, such as \"64KiB\" " SIZE_UNITS
				  ", or an integer, found the string \"64\"",
				  "c.toml:6:7: expected a size such as \"64KiB\" " SIZE_UNITS ", found the string \"1K\"",
				  "c.toml:7:6: expected a size of less than 8 EiB, found the string \"9000000000GiB\"",
				  "c.toml:8:5: expected a size such as \"64KiB\" or a number of bytes, found the boolean true");
	fixture_end(&f);
}

Test(config_scalar, words)
{
	static const char *const words[] = {"red", "green", "blue", NULL};
	struct fixture f;
	size_t index = 7;
	fixture_read(&f, "[t]\na = \"blue\"\nb = \"gren\"\nc = \"purple!\"\nd = 1\ne = \"red\\u0000\"\n");
	const struct cp_settings *table = fixture_get(&f, "t");
	cr_assert(cp_settings_word(cp_settings_get(table, "a"), words, &index));
	cr_assert_eq(index, 2);
	for (const char *key = "b\0c\0d\0"; *key; key += 2)
		cr_assert(!cp_settings_word(cp_settings_get(table, key), words, &index));
	cr_assert_eq(index, 2, "left alone");
	EXPECT_ERRORS(
		&f, "c.toml:3:5: expected \"red\", \"green\" or \"blue\", found the string \"gren\", did you mean \"green\"?",
		"c.toml:4:5: expected \"red\", \"green\" or \"blue\", found the string \"purple!\"",
		"c.toml:5:5: expected \"red\", \"green\" or \"blue\", found the integer 1");
	cr_assert(!cp_settings_word(cp_settings_get(table, "e"), words, &index));
	fixture_end(&f);
}

Test(config_scalar, own_errors_stand_at_the_value)
{
	struct fixture f;
	fixture_read(&f, "[t]\na = \"x\"\n");
	cp_settings_error(cp_settings_get(fixture_get(&f, "t"), "a"), "no user %s, %d known", "x", 3);
	EXPECT_ERRORS(&f, "c.toml:2:5: no user x, 3 known");
	fixture_end(&f);
}
