/* Durations and sizes. See unit.h. */
#include "unit.h"

#include <stdbool.h>
#include <string.h>

/* Sums are kept in billionths of the smallest unit, so that fractions are exact. What is allowed at most, 2⁶³ times
 * 10⁹, leaves a factor of 10¹⁰ in 128 bits. */
#define FRACTION 1000000000u
__extension__ typedef unsigned __int128 uint128;

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit durations[] = {
	{"ns", 1},
	{"us", 1000},
	{"ms", 1000000},
	{"s", 1000000000},
	{"m", 60 * 1000000000ull},
	{"h", 3600 * 1000000000ull},
	{"d", 86400 * 1000000000ull},
	{NULL, 0},
};

static const struct unit sizes[] = {
	{"B", 1},     {"KiB", 1ull << 10}, {"MiB", 1ull << 20}, {"GiB", 1ull << 30},
	{"KB", 1000}, {"MB", 1000000},     {"GB", 1000000000},  {NULL, 0},
};

struct number {
	uint64_t whole;
	uint64_t billionths;
};

static bool is_digit(const char *at, const char *end)
{
	return at < end && *at >= '0' && *at <= '9';
}

/* Digits, and perhaps a point and more digits. Moves *at behind it, or to where it fails. */
static enum unit_result read_number(const char **at, const char *end, struct number *number)
{
	const char *start = *at;
	*number = (struct number){0};
	if (!is_digit(*at, end))
		return UNIT_MALFORMED;
	for (; is_digit(*at, end); (*at)++) {
		if (__builtin_mul_overflow(number->whole, 10, &number->whole) ||
			__builtin_add_overflow(number->whole, (uint64_t)(**at - '0'), &number->whole)) {
			*at = start;
			return UNIT_TOO_LARGE;
		}
	}
	if (*at == end || **at != '.')
		return UNIT_OK;
	(*at)++;
	if (!is_digit(*at, end))
		return UNIT_MALFORMED;
	for (uint64_t place = FRACTION / 10; is_digit(*at, end); (*at)++, place /= 10) {
		if (place == 0)
			return UNIT_MALFORMED;
		number->billionths += (uint64_t)(**at - '0') * place;
	}
	return UNIT_OK;
}

/* The unit at `at`: all letters up to the next digit. */
static const struct unit *read_unit(const char **at, const char *end, const struct unit *units)
{
	const char *start = *at;
	while (*at < end && !is_digit(*at, end))
		(*at)++;
	size_t length = (size_t)(*at - start);
	for (; units->name; units++)
		if (strlen(units->name) == length && memcmp(units->name, start, length) == 0)
			return units;
	*at = start;
	return NULL;
}

/* One number with its unit, added to *sum. */
static enum unit_result read_part(const char **at, const char *end, const struct unit *units, uint64_t limit,
								  uint128 *sum)
{
	const char *start = *at;
	struct number number;
	enum unit_result result = read_number(at, end, &number);
	if (result != UNIT_OK)
		return result;
	if (*at == end)
		return UNIT_MISSING;
	const struct unit *unit = read_unit(at, end, units);
	if (!unit)
		return UNIT_MALFORMED;
	if (number.whole <= limit / unit->factor) {
		*sum += ((uint128)number.whole * FRACTION + number.billionths) * unit->factor;
		if (*sum <= (uint128)limit * FRACTION)
			return UNIT_OK;
	}
	*at = start;
	return UNIT_TOO_LARGE;
}

static uint64_t divide_up(uint128 dividend, uint64_t divisor)
{
	return (uint64_t)((dividend + divisor - 1) / divisor);
}

enum unit_result unit_parse_duration(const char *text, size_t length, uint64_t *milliseconds, size_t *offset)
{
	const uint64_t limit = 36500ull * 86400 * 1000000000;
	const char *at = text, *end = text + length;
	uint128 sum = 0;
	enum unit_result result;
	do
		result = read_part(&at, end, durations, limit, &sum);
	while (result == UNIT_OK && at < end);
	*offset = (size_t)(at - text);
	if (result == UNIT_OK)
		*milliseconds = divide_up(sum, FRACTION * 1000000ull);
	return result;
}

enum unit_result unit_parse_size(const char *text, size_t length, uint64_t *bytes, size_t *offset)
{
	const char *at = text, *end = text + length;
	uint128 sum = 0;
	enum unit_result result = read_part(&at, end, sizes, INT64_MAX, &sum);
	if (result == UNIT_OK && at < end)
		result = UNIT_MALFORMED;
	*offset = (size_t)(at - text);
	if (result == UNIT_OK)
		*bytes = divide_up(sum, FRACTION);
	return result;
}
