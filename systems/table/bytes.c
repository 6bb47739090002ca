/* Patterns of bytes, as a table describes protocols that connpipe does not know: reading them. */
#include "parts.h"

#include <string.h>

enum { TIME_MOST = 60 * 60 * 1000 }; /* milliseconds */

/* ---- Hexadecimal digits ------------------------------------------------------------------------------------- */

static bool read_nibble(char c, unsigned *value, unsigned *mask)
{
	*mask = 0xf;
	if (c >= '0' && c <= '9')
		*value = (unsigned)(c - '0');
	else if (c >= 'a' && c <= 'f')
		*value = (unsigned)(c - 'a') + 10;
	else if (c >= 'A' && c <= 'F')
		*value = (unsigned)(c - 'A') + 10;
	else
		*value = *mask = 0;
	return *mask || c == '?';
}

/** Two digits, each of which may be `?`. @return how many of them are right */
static size_t read_byte(const char *text, uint8_t *byte, uint8_t *mask)
{
	unsigned high, high_mask, low, low_mask;
	if (!read_nibble(text[0], &high, &high_mask))
		return 0;
	if (!read_nibble(text[1], &low, &low_mask))
		return 1;
	*byte = (uint8_t)(high << 4 | low);
	*mask = (uint8_t)(high_mask << 4 | low_mask);
	return 2;
}

static bool read_hex(struct reading *reading, const struct cp_settings *setting, const char *text,
					 struct cp_sniff_pattern *pattern)
{
	uint8_t *bytes = cp_arena_alloc(reading->arena, strlen(text) / 2 + 1);
	uint8_t *mask = cp_arena_alloc(reading->arena, strlen(text) / 2 + 1), any = 0;
	for (const char *at = text; *(at += strspn(at, " \t\n")); at += 2) {
		size_t right = read_byte(at, &bytes[pattern->length], &mask[pattern->length]);
		if (right < 2)
			return table_reading_error_at(reading, setting, (size_t)(at - text) + right,
										  "expected bytes of two hexadecimal digits each, \"?\" for any digit, as "
										  "\"16 03 0?\"");
		any |= mask[pattern->length++];
	}
	pattern->bytes = bytes;
	pattern->mask = mask;
	return any || table_reading_error(reading, setting, "expected at least one digit that is no \"?\"");
}

/* ---- Parts of a pattern ------------------------------------------------------------------------------------- */

bool table_bytes_text(struct reading *reading, const struct cp_settings *setting, struct cp_sniff_pattern *pattern)
{
	const char *text;
	size_t length;
	if (cp_settings_kind(setting) != CP_SETTINGS_STRING)
		return table_reading_unexpected(reading, setting,
										"a text that clients begin with, or a table with `text`, `hex` or `silent`");
	if (!cp_settings_string(setting, &text, &length)) {
		reading->errors++;
		return false;
	}
	if (length == 0)
		return table_reading_error(reading, setting, "expected at least one character, found an empty string");
	if (length > CP_SNIFF_MOST)
		return table_reading_error(reading, setting, "at most %d bytes are looked at, these are %zu", CP_SNIFF_MOST,
								   length);
	pattern->bytes = (const uint8_t *)cp_arena_strndup(reading->arena, text, length);
	pattern->length = (uint32_t)length;
	return true;
}

static bool read_digits(struct reading *reading, const struct cp_settings *setting, struct cp_sniff_pattern *pattern)
{
	const char *text;
	if (cp_settings_kind(setting) != CP_SETTINGS_STRING)
		return table_reading_unexpected(reading, setting, "hexadecimal digits in a string, as \"16 03 0?\"");
	if (cp_settings_string(setting, &text, NULL))
		return read_hex(reading, setting, text, pattern);
	reading->errors++;
	return false;
}

bool table_bytes_time(struct reading *reading, const struct cp_settings *table, const char *key, uint64_t *milliseconds)
{
	const struct cp_settings *setting = cp_settings_get(table, key);
	uint64_t time;
	if (!setting)
		return true;
	if (!cp_settings_duration(setting, &time)) {
		reading->errors++;
		return false;
	}
	if (time == 0 || time > TIME_MOST)
		return table_reading_error(reading, setting, "expected a time from \"1ms\" to \"1h\"");
	*milliseconds = time;
	return true;
}

static bool read_offset(struct reading *reading, const struct cp_settings *table, struct cp_sniff_pattern *pattern)
{
	const struct cp_settings *setting = cp_settings_get(table, "offset");
	int64_t offset = 0;
	if (setting && !cp_settings_integer(setting, 0, CP_SNIFF_MOST - 1, &offset)) {
		reading->errors++;
		return false;
	}
	pattern->offset = (uint32_t)offset;
	if (offset + pattern->length <= CP_SNIFF_MOST)
		return true;
	return table_reading_error(reading, table, "at most %d bytes are looked at, these end behind %lld", CP_SNIFF_MOST,
							   (long long)offset + pattern->length);
}

/* ---- The whole ---------------------------------------------------------------------------------------------- */

/** What makes it a pattern: exactly one of these. @return which, or NULL after an error was reported */
static const struct cp_settings *find_kind(struct reading *reading, const struct cp_settings *table)
{
	static const char *const kinds[] = {"text", "hex", "silent"};
	const struct cp_settings *found = NULL;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		const struct cp_settings *setting = cp_settings_get(table, kinds[i]);
		if (setting && found) {
			table_reading_error(reading, setting, "expected one of `text`, `hex` and `silent`, found `%s` and `%s`",
								cp_settings_key(found), kinds[i]);
			return NULL;
		}
		found = setting ? setting : found;
	}
	if (!found)
		table_reading_error(reading, table, "expected one of `text`, `hex` and `silent`, found none of them");
	return found;
}

static bool read_silence(struct reading *reading, const struct cp_settings *table, struct cp_sniff_pattern *pattern)
{
	const struct cp_settings *offset = cp_settings_get(table, "offset"), *timeout = cp_settings_get(table, "timeout");
	bool good = table_bytes_time(reading, table, "silent", &pattern->timeout_ms);
	if (offset)
		good = table_reading_error(reading, offset, "`offset` is for `text` and `hex`: who says nothing has no bytes");
	if (timeout)
		good = table_reading_error(reading, timeout, "`timeout` is for `text` and `hex`: `silent` is a time already");
	return good;
}

bool table_bytes_read(struct reading *reading, const struct cp_settings *setting, struct cp_sniff_pattern *pattern)
{
	const struct cp_settings *kind = find_kind(reading, setting);
	bool good = kind;
	if (kind && strcmp(cp_settings_key(kind), "silent") == 0) {
		good = read_silence(reading, setting, pattern);
	} else {
		if (kind)
			good = strcmp(cp_settings_key(kind), "hex") == 0 ? read_digits(reading, kind, pattern)
															 : table_bytes_text(reading, kind, pattern);
		good = read_offset(reading, setting, pattern) && good;
		good = table_bytes_time(reading, setting, "timeout", &pattern->timeout_ms) && good;
	}
	cp_settings_finish(setting);
	return good;
}
