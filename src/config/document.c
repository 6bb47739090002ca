/* Parsed files and the handles on their values. See document.h. */
#include "document.h"

#include "describe.h"
#include "source.h"
#include "../base/memory.h"

#include <stdlib.h>
#include <string.h>

/* More names than any table has settings. A table that is looked up in as data (by thousands of names) has no near
 * names to offer, and must not be slow for it. */
enum { ASKED_MAX = 64 };

/* ---- Files -------------------------------------------------------------------------------------------------- */

static void report_syntax_error(struct config *config, const char *name, const struct toml_error *error)
{
	const char *where = name;
	if (error->place.line)
		where = cp_arena_printf(config->arena, "%s:%u:%u", name, error->place.line, error->place.column);
	report_add(config->report, where, "%s", error->message);
}

struct document *document_parse(struct config *config, const char *name, const char *text, size_t length)
{
	struct toml_error error = {0};
	struct toml_document *tree = source_check(text, length, &error) ? toml_parse(text, length, &error) : NULL;
	if (!tree) {
		report_syntax_error(config, name, &error);
		return NULL;
	}
	struct document *document = xmalloc(sizeof *document);
	*document = (struct document){
		.config = config,
		.name = cp_arena_strdup(config->arena, name),
		.tree = tree,
		.root = {.node = toml_root(tree), .document = document, .known = true},
		.next = config->documents,
	};
	config->documents = document;
	return document;
}

void document_free_all(struct config *config)
{
	while (config->documents) {
		struct document *document = config->documents;
		config->documents = document->next;
		toml_free(document->tree);
		free(document);
	}
}

/* ---- Handles ------------------------------------------------------------------------------------------------ */

struct settings_extra *settings_extra(const struct cp_settings *settings)
{
	/* Handles are const for those who read settings, not for what keeps track of the reading. */
	struct cp_settings *self = (struct cp_settings *)settings;
	if (!self->extra) {
		self->extra = cp_arena_alloc(self->document->config->arena, sizeof *self->extra);
		*self->extra = (struct settings_extra){0};
	}
	return self->extra;
}

/* Keys are C strings for all who read them: one that goes on behind a zero byte would pass for a shorter one. */
static void check_key(const struct cp_settings *member)
{
	char shown[DESCRIBE_TEXT];
	size_t length;
	const char *text = toml_key_text(member->key, &length);
	if (!memchr(text, '\0', length))
		return;
	describe_text(shown, sizeof shown, text, length);
	report_add(member->document->config->report, cp_settings_where_key(member),
			   "expected a key without zero bytes, found %s", shown);
}

static void make_table_members(const struct cp_settings *table, struct cp_settings *members, size_t count)
{
	struct toml_member *found = xreallocarray(NULL, count, sizeof *found);
	toml_table_members(table->node, found);
	for (size_t i = 0; i < count; i++) {
		members[i] = (struct cp_settings){.node = found[i].node, .key = found[i].key, .document = table->document};
		check_key(&members[i]);
	}
	free(found);
}

static void make_array_members(const struct cp_settings *array, struct cp_settings *members, size_t count)
{
	for (size_t i = 0; i < count; i++)
		members[i] = (struct cp_settings){.node = toml_array_at(array->node, i), .document = array->document};
}

struct cp_settings *settings_members(const struct cp_settings *settings)
{
	size_t count = toml_count(settings->node);
	if (count == 0)
		return NULL;
	struct settings_extra *extra = settings_extra(settings);
	if (!extra->members) {
		extra->members = cp_arena_alloc(settings->document->config->arena, count * sizeof *extra->members);
		if (toml_kind(settings->node) == CP_SETTINGS_TABLE)
			make_table_members(settings, extra->members, count);
		else
			make_array_members(settings, extra->members, count);
	}
	return extra->members;
}

static bool place_before(struct toml_place a, struct toml_place b)
{
	return a.line != b.line ? a.line < b.line : a.column < b.column;
}

struct cp_settings *settings_find(const struct cp_settings *table, const char *key)
{
	struct toml_member found;
	if (toml_kind(table->node) != CP_SETTINGS_TABLE || !toml_table_find(table->node, key, strlen(key), &found))
		return NULL;
	/* The members are in the order of their places, and each has its own. */
	struct cp_settings *members = settings_members(table);
	size_t low = 0, high = toml_count(table->node) - 1;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (place_before(toml_key_place(members[middle].key), found.place))
			low = middle + 1;
		else
			high = middle;
	}
	return &members[low];
}

/* ---- Names that were asked for ------------------------------------------------------------------------------ */

static bool is_asked(const struct settings_extra *extra, const char *key)
{
	for (uint32_t i = 0; i < extra->asked_count; i++)
		if (strcmp(extra->asked[i], key) == 0)
			return true;
	return false;
}

void settings_asked(const struct cp_settings *table, const char *key)
{
	struct settings_extra *extra = settings_extra(table);
	struct cp_arena *arena = table->document->config->arena;
	if (extra->asked_count == ASKED_MAX || is_asked(extra, key))
		return;
	if (extra->asked_count == extra->asked_room) {
		uint32_t room = extra->asked_room ? extra->asked_room * 2 : 8;
		const char **more = cp_arena_alloc(arena, (room + 1) * sizeof *more);
		if (extra->asked_count)
			memcpy(more, extra->asked, extra->asked_count * sizeof *more);
		extra->asked = more;
		extra->asked_room = room;
	}
	extra->asked[extra->asked_count++] = cp_arena_strdup(arena, key);
	extra->asked[extra->asked_count] = NULL;
}
