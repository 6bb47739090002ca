/* Durations and sizes as texts. */
#include "config/unit.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <string.h>

struct sample {
	const char *text;
	enum unit_result result;
	uint64_t value; /* UNIT_OK: the number; else the offset of the failure */
};

typedef enum unit_result parse(const char *text, size_t length, uint64_t *value, size_t *offset);

static void expect_samples(const struct sample *samples, size_t count, parse *read)
{
	for (const struct sample *s = samples; s < samples + count; s++) {
		uint64_t value = 4711;
		size_t offset = 0;
		cr_assert_eq(read(s->text, strlen(s->text), &value, &offset), s->result, "%s", s->text);
		if (s->result == UNIT_OK)
			cr_assert_eq(value, s->value, "%s is %" PRIu64, s->text, value);
		else
			cr_assert(offset == s->value && value == 4711, "%s at %zu", s->text, offset);
	}
}

Test(config_unit, durations)
{
	static const struct sample samples[] = {
		{"0s", UNIT_OK, 0},
		{"0d0ns", UNIT_OK, 0},
		{"5s", UNIT_OK, 5000},
		{"250ms", UNIT_OK, 250},
		{"2m", UNIT_OK, 120000},
		{"1h", UNIT_OK, 3600000},
		{"1d", UNIT_OK, 86400000},
		{"1m30s", UNIT_OK, 90000},
		{"30s1m", UNIT_OK, 90000},
		{"1d2h3m4s5ms", UNIT_OK, 93784005},
		{"1.5s", UNIT_OK, 1500},
		{"0.25h", UNIT_OK, 900000},
		{"0.000000001d", UNIT_OK, 1},
		{"1ns", UNIT_OK, 1},
		{"999999ns", UNIT_OK, 1},
		{"1000001ns", UNIT_OK, 2},
		{"1us", UNIT_OK, 1},
		{"0.5ns999999.5ns", UNIT_OK, 1}, /* rounded once, at the end */
		{"007s", UNIT_OK, 7000},
		{"36500d", UNIT_OK, 3153600000000},
		{"36499d24h", UNIT_OK, 3153600000000},
		{"3153600000000000000ns", UNIT_OK, 3153600000000},
		{"36500d1ns", UNIT_TOO_LARGE, 6},
		{"36500.000000001d", UNIT_TOO_LARGE, 0},
		{"1s18446744073709551615d", UNIT_TOO_LARGE, 2},
		{"18446744073709551616ns", UNIT_TOO_LARGE, 0},
		{"99999999999999999999999s", UNIT_TOO_LARGE, 0},
		{"5", UNIT_MISSING, 1},
		{"1m30", UNIT_MISSING, 4},
		{"", UNIT_MALFORMED, 0},
		{"s", UNIT_MALFORMED, 0},
		{"-5s", UNIT_MALFORMED, 0},
		{"+5s", UNIT_MALFORMED, 0},
		{".5s", UNIT_MALFORMED, 0},
		{"5.s", UNIT_MALFORMED, 2},
		{"5.", UNIT_MALFORMED, 2},
		{"1.0000000001s", UNIT_MALFORMED, 11},
		{"5 s", UNIT_MALFORMED, 1},
		{"5s ", UNIT_MALFORMED, 1},
		{"5S", UNIT_MALFORMED, 1},
		{"5sec", UNIT_MALFORMED, 1},
		{"1s5x", UNIT_MALFORMED, 3},
		{"1e3s", UNIT_MALFORMED, 1},
	};
	expect_samples(samples, sizeof samples / sizeof *samples, unit_parse_duration);
}

Test(config_unit, sizes)
{
	static const struct sample samples[] = {
		{"0B", UNIT_OK, 0},
		{"64KiB", UNIT_OK, 65536},
		{"64KB", UNIT_OK, 64000},
		{"1.5MiB", UNIT_OK, 1572864},
		{"2MB", UNIT_OK, 2000000},
		{"1GiB", UNIT_OK, 1073741824},
		{"1GB", UNIT_OK, 1000000000},
		{"0.1B", UNIT_OK, 1},
		{"9223372036854775807B", UNIT_OK, 9223372036854775807},
		{"9223372036854775807.1B", UNIT_TOO_LARGE, 0},
		{"8589934591GiB", UNIT_OK, 9223372035781033984},
		{"8589934592GiB", UNIT_TOO_LARGE, 0},
		{"64", UNIT_MISSING, 2},
		{"64K", UNIT_MALFORMED, 2},
		{"64kB", UNIT_MALFORMED, 2},
		{"64 KiB", UNIT_MALFORMED, 2},
		{"1GiB5B", UNIT_MALFORMED, 4},
		{"-1B", UNIT_MALFORMED, 0},
		{"", UNIT_MALFORMED, 0},
	};
	expect_samples(samples, sizeof samples / sizeof *samples, unit_parse_size);
}

Test(config_unit, a_zero_byte_is_no_end)
{
	uint64_t value;
	size_t offset;
	cr_assert_eq(unit_parse_duration("5s\0", 3, &value, &offset), UNIT_MALFORMED);
	cr_assert_eq(unit_parse_duration("5\0s", 3, &value, &offset), UNIT_MALFORMED);
}
