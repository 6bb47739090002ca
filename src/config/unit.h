/** Units: durations and sizes as people write them: `5s`, `1m30s`, `1.5h`, `64KiB`. */
#ifndef CONFIG_UNIT_H
#define CONFIG_UNIT_H

#include <stddef.h>
#include <stdint.h>

enum unit_result {
	UNIT_OK,
	UNIT_MALFORMED, /* at *offset */
	UNIT_MISSING,   /* a number without a unit ends at *offset */
	UNIT_TOO_LARGE, /* the number at *offset, or the sum up to it */
};

#define UNIT_DURATIONS "ns, us, ms, s, m, h, d"
#define UNIT_SIZES "B, KiB, MiB, GiB, KB, MB, GB"

/* A hundred years: far beyond any use, and its nanoseconds fit into 63 bits wherever they are added up. */
#define UNIT_DURATION_MOST "36500d"

/** Numbers (decimal, with at most 9 digits behind a point) and units, one after the other. In milliseconds: the exact
 * sum, rounded up. @param offset  set to where it fails, in bytes */
enum unit_result unit_parse_duration(const char *text, size_t length, uint64_t *milliseconds, size_t *offset);

/** One number and its unit. In bytes, rounded up, at most 2⁶³ - 1. */
enum unit_result unit_parse_size(const char *text, size_t length, uint64_t *bytes, size_t *offset);

#endif
