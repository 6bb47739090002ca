/* Values: conversions without loss, printing, equality. */
#include <connpipe/value.h>

#include <criterion/criterion.h>

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static struct cp_value text(const char *text)
{
	return cp_string(text, strlen(text));
}

static struct cp_value integer(enum cp_kind kind, int64_t number)
{
	struct cp_value value = cp_unsigned(kind, 0);

	value.as.i = number;
	return value;
}

static struct cp_value floating(enum cp_kind kind, double number)
{
	struct cp_value value = cp_unsigned(kind, 0);

	value.as.f = number;
	return value;
}

static const char *print(struct cp_value value)
{
	static char buffer[2048];

	cp_value_print(&value, buffer, sizeof(buffer));
	return buffer;
}

/* Convert, and compare kind and text with what is expected; NULL: it has to fail, with words. */
static void expect(struct cp_value value, enum cp_kind kind, const char *expected)
{
	struct cp_arena *arena = cp_arena_new(0);
	struct cp_error error = {0};
	struct cp_value out = cp_bool(true);
	int result = cp_value_convert(&value, kind, arena, &out, &error);

	if (!expected) {
		cr_assert_eq(result, CP_EINVAL, "%s %s became %s", cp_kind_text(value.kind), print(value), cp_kind_text(kind));
		cr_assert_eq(error.code, CP_EINVAL);
		cr_assert(strstr(error.message, cp_kind_text(kind)), "%s", error.message);
	} else {
		cr_assert_eq(result, CP_OK, "%s %s to %s: %s", cp_kind_text(value.kind), print(value), cp_kind_text(kind),
					 error.message);
		cr_assert_eq(out.kind, kind);
		cr_assert_str_eq(print(out), expected);
	}
	cp_arena_free(arena);
}

static const struct {
	enum cp_kind kind;
	const char *below, *least, *most, *above;
} ranges[] = {
	{CP_U8, "-1", "0", "255", "256"},
	{CP_U16, "-1", "0", "65535", "65536"},
	{CP_U32, "-1", "0", "4294967295", "4294967296"},
	{CP_U64, "-1", "0", "18446744073709551615", "18446744073709551616"},
	{CP_I8, "-129", "-128", "127", "128"},
	{CP_I16, "-32769", "-32768", "32767", "32768"},
	{CP_I32, "-2147483649", "-2147483648", "2147483647", "2147483648"},
	{CP_I64, "-9223372036854775809", "-9223372036854775808", "9223372036854775807", "9223372036854775808"},
};
enum { RANGES = sizeof(ranges) / sizeof(ranges[0]) };

Test(value, text_to_integers_up_to_their_limits)
{
	for (int i = 0; i < RANGES; i++) {
		expect(text(ranges[i].least), ranges[i].kind, ranges[i].least);
		expect(text(ranges[i].most), ranges[i].kind, ranges[i].most);
		expect(text(ranges[i].below), ranges[i].kind, NULL);
		expect(text(ranges[i].above), ranges[i].kind, NULL);
		expect(text("184467440737095516150"), ranges[i].kind, NULL);
	}
}

/* The limits of every integer kind in every other: it fits exactly where its text does. */
Test(value, integers_between_all_widths)
{
	struct cp_arena *arena = cp_arena_new(0);

	for (int from = 0; from < RANGES; from++) {
		const char *limits[] = {ranges[from].least, ranges[from].most};

		for (int i = 0; i < 2; i++) {
			struct cp_value source = text(limits[i]), value;

			cr_assert_eq(cp_value_convert(&source, ranges[from].kind, arena, &value, NULL), CP_OK);
			for (int to = 0; to < RANGES; to++) {
				struct cp_value out;
				int by_text = cp_value_convert(&source, ranges[to].kind, arena, &out, NULL);

				expect(value, ranges[to].kind, by_text == CP_OK ? limits[i] : NULL);
			}
		}
	}
	cp_arena_free(arena);
}

Test(value, a_value_outside_its_own_kind_does_not_convert)
{
	expect(cp_unsigned(CP_U8, 300), CP_U8, NULL);
	expect(integer(CP_I8, -300), CP_I8, NULL);
}

Test(value, text_that_is_no_integer)
{
	static const char *const bad[] = {"",     "-",   "+1",  " 1",  "1 ", "01",       "-01", "00",
									  "0x10", "1.0", "1e3", "--1", "1-", "\xd9\xa1", "nan", "true"};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		expect(text(bad[i]), CP_U16, NULL);
		expect(text(bad[i]), CP_I64, NULL);
	}
	expect(cp_string("80\0", 3), CP_U16, NULL);
	expect(cp_string("8080", 2), CP_U16, "80");
	expect(text("-0"), CP_U8, "0");
}

Test(value, floats_that_are_whole_become_integers)
{
	expect(floating(CP_F64, 80), CP_U16, "80");
	expect(floating(CP_F64, 80.5), CP_U16, NULL);
	expect(floating(CP_F64, -0.0), CP_U8, "0");
	expect(floating(CP_F64, 65536), CP_U16, NULL);
	expect(floating(CP_F64, -1), CP_U16, NULL);
	expect(floating(CP_F64, -0x1p63), CP_I64, "-9223372036854775808");
	expect(floating(CP_F64, 0x1p63), CP_I64, NULL);
	expect(floating(CP_F64, 0x1p63), CP_U64, "9223372036854775808");
	expect(floating(CP_F64, 0x1p64), CP_U64, NULL);
	expect(floating(CP_F64, 1e300), CP_U64, NULL);
	expect(floating(CP_F64, INFINITY), CP_U64, NULL);
	expect(floating(CP_F32, NAN), CP_I64, NULL);
}

Test(value, integers_become_floats_only_exactly)
{
	expect(cp_unsigned(CP_U64, UINT64_C(1) << 53), CP_F64, "9007199254740992");
	expect(cp_unsigned(CP_U64, (UINT64_C(1) << 53) + 1), CP_F64, NULL);
	expect(cp_unsigned(CP_U64, UINT64_MAX), CP_F64, NULL);
	expect(cp_unsigned(CP_U32, (1u << 24) + 1), CP_F32, NULL);
	expect(cp_unsigned(CP_U32, 1u << 24), CP_F32, "16777216");
	expect(integer(CP_I64, INT64_MIN), CP_F32, "-9.223372e+18");
	expect(integer(CP_I64, INT64_MIN), CP_F64, "-9.223372036854776e+18");
	expect(integer(CP_I8, -7), CP_F32, "-7");
}

Test(value, floats_between_widths)
{
	expect(floating(CP_F64, 0.5), CP_F32, "0.5");
	expect(floating(CP_F64, 0.1), CP_F32, NULL);
	expect(floating(CP_F64, (double)0.1f), CP_F32, "0.1");
	expect(floating(CP_F32, (double)0.1f), CP_F64, "0.10000000149011612");
	expect(floating(CP_F64, DBL_MAX), CP_F32, NULL);
	expect(floating(CP_F64, -INFINITY), CP_F32, "-inf");
	expect(floating(CP_F64, NAN), CP_F32, "nan");
}

Test(value, floats_print_so_that_they_read_back)
{
	static const double numbers[] = {0,    -0.0,   0.1,    1.0 / 3, 5e-324, DBL_MIN, DBL_MAX,  -DBL_MAX,
									 1e21, 123456, 0x1p53, M_PI,    1e-5,   100,     INFINITY, -INFINITY};
	struct cp_arena *arena = cp_arena_new(0);

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		struct cp_value value = floating(CP_F64, numbers[i]), string, back;

		cr_assert_eq(cp_value_convert(&value, CP_STRING, arena, &string, NULL), CP_OK);
		cr_assert_eq(cp_value_convert(&string, CP_F64, arena, &back, NULL), CP_OK, "%s", string.as.s);
		cr_assert(memcmp(&back.as.f, &numbers[i], sizeof(double)) == 0, "%s", string.as.s);
	}
	cr_assert_str_eq(print(floating(CP_F64, 0.1)), "0.1");
	cr_assert_str_eq(print(floating(CP_F32, (double)0.1f)), "0.1");
	cr_assert_str_eq(print(floating(CP_F32, (double)FLT_MAX)), "3.4028235e+38");
	cp_arena_free(arena);
}

Test(value, text_to_floats)
{
	expect(text("1e3"), CP_F64, "1000");
	expect(text("-2.5E-1"), CP_F64, "-0.25");
	expect(text("0.1"), CP_F32, "0.1");
	expect(text("nan"), CP_F64, "nan");
	expect(text("-inf"), CP_F64, "-inf");
	expect(text("5e-324"), CP_F64, "4.94065645841247e-324");
	expect(text("1e400"), CP_F64, NULL);
	expect(text("1e39"), CP_F32, NULL);
	expect(text("1e-400"), CP_F64, NULL);
	expect(text("0e-400"), CP_F64, "0");
}

Test(value, text_that_is_no_float)
{
	static const char *const bad[] = {"",   "-",        " 1",  "1 ",     "+1",   "0x1p3", "1e", "1.5.2",
									  ".5", "infinity", "INF", "nan(1)", "-nan", "1,5",   "e5"};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		expect(text(bad[i]), CP_F64, NULL);
		expect(text(bad[i]), CP_F32, NULL);
	}
	expect(cp_string("1\0", 2), CP_F64, NULL);
}

Test(value, bool_null_and_text)
{
	expect(cp_bool(true), CP_STRING, "true");
	expect(cp_bool(false), CP_STRING, "false");
	expect(text("true"), CP_BOOL, "true");
	expect(text("false"), CP_BOOL, "false");
	expect(text("True"), CP_BOOL, NULL);
	expect(text(""), CP_BOOL, NULL);
	expect(cp_unsigned(CP_U8, 1), CP_BOOL, NULL);
	expect(cp_bool(true), CP_U8, NULL);
	expect(cp_bool(true), CP_F64, NULL);
	expect(cp_null(), CP_STRING, "");
	expect(cp_null(), CP_NULL, "");
	expect(text(""), CP_NULL, "");
	expect(text("null"), CP_NULL, NULL);
	expect(cp_unsigned(CP_U8, 0), CP_NULL, NULL);
	expect(cp_null(), CP_U8, NULL);
	expect(cp_null(), CP_BOOL, NULL);
	expect(cp_null(), CP_F64, NULL);
}

Test(value, a_kind_that_is_none_is_an_error)
{
	struct cp_value value = cp_null(), out;
	struct cp_error error;

	cr_assert_eq(cp_value_convert(&value, (enum cp_kind)99, NULL, &out, &error), CP_EINVAL);
	cr_assert(strstr(error.message, "99"));
}

Test(value, a_string_stays_where_it_is)
{
	struct cp_value value = cp_string("a\0b", 3), out;

	cr_assert_eq(cp_value_convert(&value, CP_STRING, NULL, &out, NULL), CP_OK);
	cr_assert_eq(out.as.s, value.as.s);
	cr_assert_eq(out.length, 3);
}

Test(value, converts_in_place)
{
	struct cp_value value = text("443");

	cr_assert_eq(cp_value_convert(&value, CP_U16, NULL, &value, NULL), CP_OK);
	cr_assert_eq(value.kind, CP_U16);
	cr_assert_eq(value.as.u, 443);
}

Test(value, errors_say_what_was_found_and_expected)
{
	struct cp_error error;
	struct cp_value value = text("70000"), out;

	cp_value_convert(&value, CP_U16, NULL, &out, &error);
	cr_assert_str_eq(error.message, "\"70000\" is out of range for u16 (0 to 65535)");
	value = cp_null();
	cp_value_convert(&value, CP_U16, NULL, &out, &error);
	cr_assert_str_eq(error.message, "null is not a value of type u16");
	value = floating(CP_F64, 0.1);
	cp_value_convert(&value, CP_F32, NULL, &out, &error);
	cr_assert_str_eq(error.message, "0.1 cannot be held exactly by f32");
}

/* Whatever its length, a quoted text fits and is cut between two characters. */
Test(value, errors_quote_long_text_in_part)
{
	char long_text[200];
	struct cp_error error;

	for (size_t length = 1; length < sizeof(long_text) / 2; length++) {
		struct cp_value value = cp_string(long_text, length * 2), out;

		for (size_t i = 0; i < length; i++)
			memcpy(long_text + 2 * i, "\xc3\xa9", 2);
		cr_assert_eq(cp_value_convert(&value, CP_U8, NULL, &out, &error), CP_EINVAL);
		cr_assert(strstr(error.message, "\" is not a value of type u8"), "%s", error.message);
		for (const char *at = error.message + 1; *at != '"'; at += *at == '\xc3' ? 2 : 3)
			cr_assert(strncmp(at, "\xc3\xa9", 2) == 0 || strncmp(at, "…\"", 4) == 0, "%s", error.message);
	}
}

Test(value, prints_as_snprintf_does)
{
	struct cp_value value = text("hello");
	char buffer[8] = "*******";

	cr_assert_eq(cp_value_print(&value, NULL, 0), 5);
	cr_assert_eq(cp_value_print(&value, buffer, 3), 5);
	cr_assert_str_eq(buffer, "he");
	cr_assert_eq(cp_value_print(&value, buffer, 6), 5);
	cr_assert_str_eq(buffer, "hello");
	value = cp_unsigned(CP_U16, 25565);
	cr_assert_eq(cp_value_print(&value, buffer, 1), 5);
	cr_assert_str_eq(buffer, "");
}

Test(value, equality)
{
	const struct cp_value u8 = cp_unsigned(CP_U8, 7), u64 = cp_unsigned(CP_U64, 7), i8 = integer(CP_I8, 7),
						  nan = floating(CP_F64, NAN), f32 = floating(CP_F32, 7), f64 = floating(CP_F64, 7),
						  abc = cp_string("abc", 3), abcd = cp_string("abcd", 4), nothing = cp_string(NULL, 0),
						  empty = text(""), null = cp_null(), yes = cp_bool(true), no = cp_bool(false);
	const struct cp_value abcd_cut = cp_string("abcd", 3);

	cr_assert(cp_value_equal(&u8, &u64));
	cr_assert_not(cp_value_equal(&u8, &i8));
	cr_assert_not(cp_value_equal(&f32, &f64));
	cr_assert_not(cp_value_equal(&u8, &f64));
	cr_assert(cp_value_equal(&nan, &nan));
	cr_assert(cp_value_equal(&abc, &abcd_cut));
	cr_assert_not(cp_value_equal(&abc, &abcd));
	cr_assert(cp_value_equal(&nothing, &empty));
	cr_assert(cp_value_equal(&null, &null));
	cr_assert_not(cp_value_equal(&null, &empty));
	cr_assert_not(cp_value_equal(&yes, &no));
	cr_assert(cp_value_equal(&yes, &yes));
}

Test(value, fields_by_name)
{
	const struct cp_field fields[] = {{"addr", text("db")}, {"port", cp_unsigned(CP_U16, 5432)}};
	const struct cp_fields list = {fields, 2};

	cr_assert_eq(cp_fields_get(list, "port"), &fields[1].value);
	cr_assert_null(cp_fields_get(list, "por"));
	cr_assert_null(cp_fields_get((struct cp_fields){NULL, 0}, "addr"));
}

Test(value, kinds_have_names)
{
	cr_assert_str_eq(cp_kind_text(CP_NULL), "null");
	cr_assert_str_eq(cp_kind_text(CP_F32), "f32");
	cr_assert_str_eq(cp_kind_text(CP_STRING), "string");
	cr_assert_str_eq(cp_kind_text((enum cp_kind)77), "unknown");
}
