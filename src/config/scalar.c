/* Settings: scalars, and short ways to those of a table. See connpipe/settings.h. */
#include "describe.h"
#include "document.h"
#include "unit.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Report `expected <what>, found <the value>`. @return false */
static bool refuse(const struct cp_settings *value, const char *what)
{
	char found[DESCRIBE_TEXT];
	describe_value(found, sizeof found, value);
	cp_settings_error(value, "expected %s, found %s", what, found);
	return false;
}

static bool refuse_at(const struct cp_settings *value, size_t offset, const char *what)
{
	char found[DESCRIBE_TEXT];
	describe_value(found, sizeof found, value);
	cp_settings_error_at(value, offset, "expected %s, found %s", what, found);
	return false;
}

bool cp_settings_want(const struct cp_settings *value, enum cp_settings_kind kind)
{
	return toml_kind(value->node) == kind || refuse(value, describe_kind(kind));
}

/* ---- Strings ------------------------------------------------------------------------------------------------ */

/* The text of a string; who does not take the length gets no text that only seems to end. */
static bool read_string(const struct cp_settings *value, const char **text, size_t *length)
{
	size_t found;
	*text = toml_string(value->node, &found);
	if (length)
		*length = found;
	else if (memchr(*text, '\0', found))
		return refuse(value, "a string without zero bytes");
	return true;
}

static void read_time(const struct cp_settings *value, const char **text, size_t *length)
{
	char buffer[TOML_TIME_TEXT];
	toml_time(value->node, buffer);
	*text = cp_arena_strdup(value->document->config->arena, buffer);
	if (length)
		*length = strlen(buffer);
}

bool cp_settings_string(const struct cp_settings *value, const char **text, size_t *length)
{
	if (toml_kind(value->node) == CP_SETTINGS_TIME) {
		read_time(value, text, length);
		return true;
	}
	const char *found;
	if (!cp_settings_want(value, CP_SETTINGS_STRING) || !read_string(value, &found, length))
		return false;
	*text = found;
	return true;
}

/* `"a", "b" or "c"` */
static void list_words(char *buffer, size_t room, const char *const *words)
{
	size_t used = 0;
	buffer[0] = '\0';
	for (size_t i = 0; words[i] && used < room; i++) {
		const char *before = i == 0 ? "" : words[i + 1] ? ", " : " or ";
		used += (size_t)snprintf(buffer + used, room - used, "%s\"%s\"", before, words[i]);
	}
}

static bool refuse_word(const struct cp_settings *value, const char *const *words, const char *near)
{
	char list[512], found[DESCRIBE_TEXT];
	list_words(list, sizeof list, words);
	describe_value(found, sizeof found, value);
	if (near)
		cp_settings_error(value, "expected %s, found %s, did you mean \"%s\"?", list, found, near);
	else
		cp_settings_error(value, "expected %s, found %s", list, found);
	return false;
}

bool cp_settings_word(const struct cp_settings *value, const char *const *words, size_t *index)
{
	if (toml_kind(value->node) != CP_SETTINGS_STRING)
		return refuse_word(value, words, NULL);
	size_t length;
	const char *text = toml_string(value->node, &length);
	for (size_t i = 0; words[i]; i++) {
		if (strlen(words[i]) == length && memcmp(words[i], text, length) == 0) {
			*index = i;
			return true;
		}
	}
	return refuse_word(value, words, cp_near_name(text, words));
}

/* ---- Numbers ------------------------------------------------------------------------------------------------ */

static bool refuse_integer(const struct cp_settings *value, int64_t least, int64_t most)
{
	char what[96];
	if (least == INT64_MIN && most == INT64_MAX)
		snprintf(what, sizeof what, "an integer");
	else if (most == INT64_MAX)
		snprintf(what, sizeof what, "an integer of at least %" PRId64, least);
	else if (least == INT64_MIN)
		snprintf(what, sizeof what, "an integer of at most %" PRId64, most);
	else
		snprintf(what, sizeof what, "an integer from %" PRId64 " to %" PRId64, least, most);
	return refuse(value, what);
}

bool cp_settings_integer(const struct cp_settings *value, int64_t least, int64_t most, int64_t *number)
{
	if (toml_kind(value->node) != CP_SETTINGS_INTEGER)
		return refuse_integer(value, least, most);
	int64_t found = toml_integer(value->node);
	if (found < least || found > most)
		return refuse_integer(value, least, most);
	*number = found;
	return true;
}

bool cp_settings_float(const struct cp_settings *value, double *number)
{
	double found;
	if (toml_kind(value->node) == CP_SETTINGS_INTEGER) /* 5 for 5.0: nobody means anything else by it */
		found = (double)toml_integer(value->node);
	else if (toml_kind(value->node) == CP_SETTINGS_FLOAT)
		found = toml_float(value->node);
	else
		return refuse(value, "a number");
	if (!isfinite(found))
		return refuse(value, "a finite number");
	*number = found;
	return true;
}

bool cp_settings_bool(const struct cp_settings *value, bool *truth)
{
	if (toml_kind(value->node) != CP_SETTINGS_BOOL)
		return refuse(value, "true or false");
	*truth = toml_bool(value->node);
	return true;
}

/* ---- Numbers with units ------------------------------------------------------------------------------------- */

/* What can be wrong with such a text, in words. */
struct unit_words {
	const char *malformed, *missing, *too_large;
};

static bool check_units(const struct cp_settings *value, enum unit_result result, size_t offset,
						const struct unit_words *words)
{
	switch (result) {
	case UNIT_OK:
		return true;
	case UNIT_MALFORMED:
		return refuse_at(value, offset, words->malformed);
	case UNIT_MISSING:
		return refuse_at(value, offset, words->missing);
	case UNIT_TOO_LARGE:
		return refuse_at(value, offset, words->too_large);
	}
	return false;
}

bool cp_settings_duration(const struct cp_settings *value, uint64_t *milliseconds)
{
	static const struct unit_words words = {
		.malformed = "a duration such as \"5s\" (units: " UNIT_DURATIONS ")",
		.missing = "a duration with a unit, such as \"5s\" (units: " UNIT_DURATIONS ")",
		.too_large = "a duration of at most \"" UNIT_DURATION_MOST "\"",
	};
	if (toml_kind(value->node) != CP_SETTINGS_STRING)
		return refuse(value, "a duration such as \"5s\"");
	size_t length, offset;
	const char *text = toml_string(value->node, &length);
	enum unit_result result = unit_parse_duration(text, length, milliseconds, &offset);
	return check_units(value, result, offset, &words);
}

bool cp_settings_size(const struct cp_settings *value, uint64_t *bytes)
{
	static const struct unit_words words = {
		.malformed = "a size such as \"64KiB\" (units: " UNIT_SIZES ")",
		.missing = "a size with a unit, such as \"64KiB\" (units: " UNIT_SIZES "), or an integer",
		.too_large = "a size of less than 8 EiB",
	};
	enum cp_settings_kind kind = toml_kind(value->node);
	if (kind == CP_SETTINGS_INTEGER && toml_integer(value->node) >= 0) {
		*bytes = (uint64_t)toml_integer(value->node);
		return true;
	}
	if (kind != CP_SETTINGS_STRING)
		return refuse(value, "a size such as \"64KiB\" or a number of bytes");
	size_t length, offset;
	const char *text = toml_string(value->node, &length);
	enum unit_result result = unit_parse_size(text, length, bytes, &offset);
	return check_units(value, result, offset, &words);
}

/* ---- Short ways for tables ---------------------------------------------------------------------------------- */

bool cp_settings_get_string(const struct cp_settings *table, const char *key, const char **out)
{
	const struct cp_settings *value = cp_settings_get(table, key);
	if (!value)
		return true;
	const char *found;
	if (!cp_settings_want(value, CP_SETTINGS_STRING) || !read_string(value, &found, NULL))
		return false;
	*out = found;
	return true;
}

bool cp_settings_get_integer(const struct cp_settings *table, const char *key, int64_t least, int64_t most,
							 int64_t *out)
{
	const struct cp_settings *value = cp_settings_get(table, key);
	return !value || cp_settings_integer(value, least, most, out);
}

bool cp_settings_get_bool(const struct cp_settings *table, const char *key, bool *out)
{
	const struct cp_settings *value = cp_settings_get(table, key);
	return !value || cp_settings_bool(value, out);
}

bool cp_settings_get_duration(const struct cp_settings *table, const char *key, uint64_t *milliseconds)
{
	const struct cp_settings *value = cp_settings_get(table, key);
	return !value || cp_settings_duration(value, milliseconds);
}

bool cp_settings_get_size(const struct cp_settings *table, const char *key, uint64_t *bytes)
{
	const struct cp_settings *value = cp_settings_get(table, key);
	return !value || cp_settings_size(value, bytes);
}
