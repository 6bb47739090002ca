/* Settings: tables, arrays, places, errors. See connpipe/settings.h. */
#include "describe.h"
#include "document.h"
#include "../base/utf8.h"

#include <stdarg.h>
#include <string.h>

enum cp_settings_kind cp_settings_kind(const struct cp_settings *settings)
{
	return toml_kind(settings->node);
}

/* ---- Places ------------------------------------------------------------------------------------------------- */

static const char *place_text(const struct document *document, struct toml_place place)
{
	return cp_arena_printf(document->config->arena, "%s:%u:%u", document->name, place.line, place.column);
}

const char *cp_settings_where(const struct cp_settings *settings)
{
	struct settings_extra *extra = settings_extra(settings);
	if (!extra->where)
		extra->where = place_text(settings->document, toml_begin(settings->node));
	return extra->where;
}

const char *cp_settings_where_key(const struct cp_settings *settings)
{
	if (!settings->key)
		return cp_settings_where(settings);
	struct settings_extra *extra = settings_extra(settings);
	if (!extra->where_key)
		extra->where_key = place_text(settings->document, toml_key_place(settings->key));
	return extra->where_key;
}

const char *cp_settings_key(const struct cp_settings *settings)
{
	size_t length;
	return settings->key ? toml_key_text(settings->key, &length) : "";
}

/* Characters in the first `bytes` bytes of a text. */
static uint32_t count_characters(const char *text, size_t bytes)
{
	uint32_t count = 0;
	for (size_t i = 0; i < bytes; i++)
		count += !utf8_is_tail((unsigned char)text[i]);
	return count;
}

/* A text of one line that takes as many characters in the file as it has, and its quotes, has no escapes: there the
 * place inside is known; and a bare key takes as many as it has. Otherwise it is the place where the text begins. */
static struct toml_place place_inside(struct toml_place begin, struct toml_place end, const char *text, size_t length,
									  size_t offset)
{
	uint32_t characters = count_characters(text, length);
	uint32_t quotes = end.column - begin.column - characters;
	if (begin.line == end.line && (quotes == 0 || quotes == 2))
		begin.column += quotes / 2 + count_characters(text, offset < length ? offset : length);
	return begin;
}

static struct toml_place place_in_string(const struct toml_node *node, size_t offset)
{
	size_t length;
	if (toml_kind(node) != CP_SETTINGS_STRING)
		return toml_begin(node);
	const char *text = toml_string(node, &length);
	return place_inside(toml_begin(node), toml_end(node), text, length, offset);
}

static struct toml_place place_in_key(const struct toml_key *key, size_t offset)
{
	size_t length;
	const char *text = toml_key_text(key, &length);
	return place_inside(toml_key_place(key), toml_key_end(key), text, length, offset);
}

/* ---- Errors ------------------------------------------------------------------------------------------------- */

void cp_settings_error(const struct cp_settings *settings, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	report_vadd(settings->document->config->report, cp_settings_where(settings), format, arguments);
	va_end(arguments);
}

void cp_settings_error_at(const struct cp_settings *settings, size_t offset, const char *format, ...)
{
	const char *where = place_text(settings->document, place_in_string(settings->node, offset));
	va_list arguments;
	va_start(arguments, format);
	report_vadd(settings->document->config->report, where, format, arguments);
	va_end(arguments);
}

void cp_settings_error_key(const struct cp_settings *settings, size_t offset, const char *format, ...)
{
	const char *where = settings->key ? place_text(settings->document, place_in_key(settings->key, offset))
									  : cp_settings_where(settings);
	va_list arguments;
	va_start(arguments, format);
	report_vadd(settings->document->config->report, where, format, arguments);
	va_end(arguments);
}

/* ---- Tables and arrays -------------------------------------------------------------------------------------- */

const struct cp_settings *cp_settings_get(const struct cp_settings *table, const char *key)
{
	struct cp_settings *member = settings_find(table, key);
	settings_asked(table, key);
	if (member)
		member->known = true;
	return member;
}

size_t cp_settings_count(const struct cp_settings *settings)
{
	return toml_count(settings->node);
}

const struct cp_settings *cp_settings_at(const struct cp_settings *settings, size_t index)
{
	if (index >= toml_count(settings->node))
		return NULL;
	struct cp_settings *member = &settings_members(settings)[index];
	member->known = true;
	return member;
}

static void report_unknown(const struct cp_settings *table, const struct cp_settings *member)
{
	struct report *report = table->document->config->report;
	if (report->count == REPORT_MAX) { /* only counted: a million keys in a wrong place need no places and near names */
		report_add(report, "", "unknown key");
		return;
	}
	char shown[DESCRIBE_TEXT];
	size_t length;
	const char *key = toml_key_text(member->key, &length), *where = cp_settings_where_key(member);
	const char **asked = table->extra->asked, *near = asked ? cp_near_name(key, asked) : NULL;
	describe_text(shown, sizeof shown, key, length);
	if (near)
		report_add(report, where, "unknown key %s, did you mean \"%s\"?", shown, near);
	else
		report_add(report, where, "unknown key %s", shown);
}

void cp_settings_finish(const struct cp_settings *table)
{
	if (toml_kind(table->node) != CP_SETTINGS_TABLE)
		return;
	size_t count = toml_count(table->node);
	const struct cp_settings *members = settings_members(table);
	for (size_t i = 0; i < count; i++)
		if (!members[i].known)
			report_unknown(table, &members[i]);
}
