/* Scope: see scope.h.
 *
 * Connectors and converters are each in a hash table under two kinds of names: the alias (`tcp`) and the qualified
 * form (`system-id.alias`). An alias has no dot and a qualified form always has one, so that one table serves for
 * both. When a second system adds an alias, the alias's entry remembers it as its rival, and both are written
 * qualified from then on: canonical text finds that in the connector's `names` (the converter's `name`), which are
 * kept here, since an address does not know its scope. */
#include "scope.h"

#include "draft.h"
#include "near.h"
#include "rest.h"
#include "text.h"

#include "../base/memory.h"

#include <connpipe/system.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One name of a thing. */
struct entry {
	const char *name;
	size_t length;
	uint64_t hash;
	void *object;
	const char *own; /* the object's own text of its alias or id */
	const char *system_id;
	const struct entry *rival; /* the first of another system that has the name too; NULL: not vague */
};

/* Open addressing, at most half full. */
struct table {
	const char *kind; /* for errors: "connector", … */
	const char *hint; /* behind the error of an unknown name that is near to none; NULL: nothing */
	struct entry **slots;
	size_t slot_count; /* 0 or a power of two */
	struct entry **entries;
	size_t count;
};

/* For listing. */
struct list {
	struct listed {
		const void *object;
		const char *system_id;
	} * at;
	size_t count;
};

struct cp_scope {
	struct cp_arena *arena; /* entries and texts */
	const char *config_dir;
	struct table connectors, converters, routers;
	struct list connector_list, converter_list, router_list;
};

struct cp_scope *scope_new(const char *config_dir)
{
	struct cp_scope *scope = xcalloc(1, sizeof(*scope));

	scope->arena = cp_arena_new(0);
	scope->config_dir = cp_arena_strdup(scope->arena, config_dir);
	scope->connectors.kind = "connector";
	scope->connectors.hint = "; an address begins with one, as in tcp:host:port"; /* forgotten before a host */
	scope->converters.kind = "converter";
	scope->routers.kind = "router";
	return scope;
}

static void table_deinit(struct table *table)
{
	free(table->slots);
	free(table->entries);
}

void scope_free(struct cp_scope *scope)
{
	if (!scope)
		return;
	table_deinit(&scope->connectors);
	table_deinit(&scope->converters);
	table_deinit(&scope->routers);
	free(scope->connector_list.at);
	free(scope->converter_list.at);
	free(scope->router_list.at);
	cp_arena_free(scope->arena);
	free(scope);
}

const char *scope_config_dir(const struct cp_scope *scope)
{
	return scope->config_dir;
}

/* ---- Tables ------------------------------------------------------------------------------------------------- */

/* FNV-1a (Fowler, Noll, Vo): short names, nobody chooses them to collide. */
static uint64_t hash(const char *text, size_t length)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < length; i++)
		h = (h ^ (unsigned char)text[i]) * UINT64_C(0x100000001b3);
	return h;
}

/* The slot of a name, or the free one where it would be. */
static struct entry **find_slot(const struct table *table, const char *name, size_t length, uint64_t h)
{
	size_t mask = table->slot_count - 1;
	size_t i = (size_t)(h ^ h >> 32) & mask;

	for (; table->slots[i]; i = (i + 1) & mask) {
		const struct entry *entry = table->slots[i];

		if (entry->hash == h && entry->length == length && memcmp(entry->name, name, length) == 0)
			break;
	}
	return &table->slots[i];
}

static struct entry *find(const struct table *table, const char *name, size_t length)
{
	return table->slot_count ? *find_slot(table, name, length, hash(name, length)) : NULL;
}

static void grow(struct table *table)
{
	free(table->slots);
	table->slot_count = table->slot_count ? table->slot_count * 2 : 64;
	table->slots = xcalloc(table->slot_count, sizeof(*table->slots));
	table->entries = xreallocarray(table->entries, table->slot_count / 2, sizeof(*table->entries));
	for (size_t i = 0; i < table->count; i++) {
		struct entry *entry = table->entries[i];

		*find_slot(table, entry->name, entry->length, entry->hash) = entry;
	}
}

/* Add a name that is not there yet. `name` is kept. */
static void insert(struct cp_scope *scope, struct table *table, const char *name, const struct entry *like)
{
	struct entry *entry = cp_arena_alloc(scope->arena, sizeof(*entry));

	if (table->count == table->slot_count / 2)
		grow(table);
	*entry = *like;
	entry->name = name;
	entry->length = strlen(name);
	entry->hash = hash(name, entry->length);
	table->entries[table->count++] = entry;
	*find_slot(table, name, entry->length, entry->hash) = entry;
}

static void list_add(struct list *list, const void *object, const char *system_id)
{
	if ((list->count & (list->count - 1)) == 0) /* full whenever it has reached a power of two */
		list->at = xreallocarray(list->at, list->count ? list->count * 2 : 1, sizeof(*list->at));
	list->at[list->count].object = object;
	list->at[list->count++].system_id = system_id;
}

static const void *list_at(const struct list *list, size_t index, const char **system_id)
{
	if (index >= list->count)
		return NULL;
	if (system_id)
		*system_id = list->at[index].system_id;
	return list->at[index].object;
}

/* ---- What may be added -------------------------------------------------------------------------------------- */

/* Names must stand in an address without escapes. */
static bool is_name(const char *name, bool dots)
{
	if (!name[0] || !cp_utf8_valid(name, strlen(name)))
		return false;
	for (; *name; name++) {
		if ((unsigned char)*name <= ' ' || *name == 0x7f || strchr(":/+()!%\"{}", *name) || (*name == '.' && !dots))
			return false;
	}
	return true;
}

static int check_names(const char *kind, const char *name, const char *system_id, struct cp_error *error)
{
	struct text_quoted quoted;

	if (!is_name(name, false))
		return cp_error_set(error, CP_EINVAL, NULL, "%s is not a name for a %s of system \"%s\"; expected a word",
							text_quote(&quoted, name, strlen(name)), kind, system_id);
	if (!is_name(system_id, true))
		return cp_error_set(error, CP_EINVAL, NULL, "%s is not an id for a system with a %s; expected a word",
							text_quote(&quoted, system_id, strlen(system_id)), kind);
	return CP_OK;
}

/* The kind that a field's role asks for. */
static bool role_fits(const struct cp_field_def *field)
{
	switch (field->role) {
	case CP_ROLE_HOST:
	case CP_ROLE_PATH:
	case CP_ROLE_MULTIPLEX:
		return field->kind == CP_STRING;
	case CP_ROLE_PORT:
		return field->kind == CP_U16;
	case CP_ROLE_OTHER:
		break;
	}
	return true;
}

static int check_field(const struct cp_connector_def *def, uint32_t index, struct cp_error *error)
{
	const struct cp_field_def *field = &def->fields[index];
	const char *alias = def->aliases[0];

	if (!role_fits(field))
		return cp_error_set(error, CP_EINVAL, NULL, "connector \"%s\": field \"%s\" of type %s does not fit its role",
							alias, field->name, cp_kind_text(field->kind));
	if (field->role == CP_ROLE_OTHER && (!def->parse || !def->format))
		return cp_error_set(error, CP_EINVAL, NULL, "connector \"%s\": field \"%s\" needs parse and format", alias,
							field->name);
	if (field->role != CP_ROLE_OTHER && rest_field(def, field->role) != (int)index)
		return cp_error_set(error, CP_EINVAL, NULL, "connector \"%s\": field \"%s\" has the role of another field",
							alias, field->name);
	return CP_OK;
}

static int check_connector(const struct cp_connector_def *def, const char *system_id, struct cp_error *error)
{
	int result = CP_OK;

	if (!def->aliases || !def->aliases[0])
		return cp_error_set(error, CP_EINVAL, NULL, "a connector of system \"%s\" has no alias", system_id);
	if (def->field_count > DRAFT_FIELDS)
		return cp_error_set(error, CP_EINVAL, NULL, "connector \"%s\" has %u fields, expected at most %d",
							def->aliases[0], def->field_count, DRAFT_FIELDS);
	for (uint32_t i = 0; i < def->field_count && result == CP_OK; i++)
		result = check_field(def, i, error);
	for (size_t i = 0; def->aliases[i] && result == CP_OK; i++)
		result = check_names("connector", def->aliases[i], system_id, error);
	return result;
}

/* ---- Adding ------------------------------------------------------------------------------------------------- */

/* Canonical text of an object is to use its qualified name from now on. */
typedef void qualify(const struct entry *entry, const char *qualified);

static void qualify_connector(const struct entry *entry, const char *qualified)
{
	const struct cp_connector *connector = entry->object;
	const char **names = (const char **)connector->names; /* made here: see new_names() */

	for (size_t i = 0; connector->def->aliases[i]; i++) {
		if (connector->def->aliases[i] == entry->own)
			names[i] = qualified;
	}
}

static void qualify_converter(const struct entry *entry, const char *qualified)
{
	struct cp_converter *converter = entry->object;

	converter->name = qualified;
}

/* The qualified entry of a system's alias or id, or NULL. */
static const struct entry *find_qualified(const struct table *table, const char *system_id, const char *own)
{
	for (size_t i = 0; i < table->count; i++) {
		const struct entry *entry = table->entries[i];

		if (entry->name != entry->own && strcmp(entry->own, own) == 0 && strcmp(entry->system_id, system_id) == 0)
			return entry;
	}
	return NULL;
}

static int fail_twice(const struct table *table, const char *name, const char *system_id, struct cp_error *error)
{
	return cp_error_set(error, CP_EEXIST, NULL, "system \"%s\" has a %s \"%s\" already", system_id, table->kind, name);
}

/* Add `own` both as it is and qualified, and see to it that a vague one is written qualified. */
static void add_names(struct cp_scope *scope, struct table *table, void *object, const char *own, const char *system_id,
					  qualify *make_qualified)
{
	struct entry added = {.object = object, .own = own, .system_id = system_id};
	struct entry *first = find(table, own, strlen(own));
	const char *qualified = cp_arena_printf(scope->arena, "%s.%s", system_id, own);

	insert(scope, table, qualified, &added);
	if (!first) {
		insert(scope, table, own, &added);
		return;
	}
	make_qualified(&added, qualified);
	if (!first->rival) {
		make_qualified(first, find_qualified(table, first->system_id, first->own)->name);
		first->rival = find(table, qualified, strlen(qualified));
	}
}

/* As it is written while no alias is vague. */
static const char *const *new_names(struct cp_scope *scope, const char *const *aliases)
{
	size_t count = 0;
	const char **names;

	while (aliases[count])
		count++;
	names = cp_arena_alloc(scope->arena, count * sizeof(*names));
	memcpy(names, aliases, count * sizeof(*names));
	return names;
}

static bool is_repeated(const char *const *aliases, size_t index)
{
	for (size_t i = 0; i < index; i++) {
		if (strcmp(aliases[i], aliases[index]) == 0)
			return true;
	}
	return false;
}

int scope_add_connector(struct cp_scope *scope, struct cp_connector *connector, const char *system_id,
						struct cp_error *error)
{
	const char *const *aliases = connector->def->aliases;
	int result = check_connector(connector->def, system_id, error);

	if (result != CP_OK)
		return result;
	for (size_t i = 0; aliases[i]; i++) {
		if (is_repeated(aliases, i) || find_qualified(&scope->connectors, system_id, aliases[i]))
			return fail_twice(&scope->connectors, aliases[i], system_id, error);
	}
	system_id = cp_arena_strdup(scope->arena, system_id);
	connector->names = new_names(scope, aliases);
	for (size_t i = 0; aliases[i]; i++)
		add_names(scope, &scope->connectors, connector, aliases[i], system_id, qualify_connector);
	list_add(&scope->connector_list, connector, system_id);
	return CP_OK;
}

int scope_add_converter(struct cp_scope *scope, struct cp_converter *converter, const char *system_id,
						struct cp_error *error)
{
	const char *id = converter->def->id;
	int result = check_names("converter", id, system_id, error);

	if (result != CP_OK)
		return result;
	if (find_qualified(&scope->converters, system_id, id))
		return fail_twice(&scope->converters, id, system_id, error);
	system_id = cp_arena_strdup(scope->arena, system_id);
	converter->name = id;
	add_names(scope, &scope->converters, converter, id, system_id, qualify_converter);
	list_add(&scope->converter_list, converter, system_id);
	return CP_OK;
}

/* A router's id is unique in the whole generation: its name is never qualified. */
int scope_add_router(struct cp_scope *scope, struct cp_router *router, const char *system_id, struct cp_error *error)
{
	struct entry *entry = find(&scope->routers, router->id, strlen(router->id));
	struct entry added = {.object = router, .own = router->id};

	if (entry && strcmp(entry->system_id, system_id) == 0)
		return fail_twice(&scope->routers, router->id, system_id, error);
	if (entry)
		return cp_error_set(error, CP_EEXIST, NULL, "systems \"%s\" and \"%s\" both have a router \"%s\"",
							entry->system_id, system_id, router->id);
	added.system_id = cp_arena_strdup(scope->arena, system_id);
	insert(scope, &scope->routers, router->id, &added);
	list_add(&scope->router_list, router, added.system_id);
	return CP_OK;
}

/* ---- Looking up --------------------------------------------------------------------------------------------- */

/* Near names are looked for among those of the same form. */
static int fail_unknown(const struct table *table, const char *name, size_t length, struct cp_error *error)
{
	bool qualified = memchr(name, '.', length);
	const char **names = xcalloc(table->count + 1, sizeof(*names)), *near;
	struct text_quoted quoted;
	int result;

	for (size_t i = 0; i < table->count; i++) {
		if (qualified == (strchr(table->entries[i]->name, '.') != NULL))
			names[i] = table->entries[i]->name;
	}
	near = near_name(name, length, names, table->count);
	text_quote(&quoted, name, length);
	if (near)
		result = cp_error_set(error, CP_ENOTFOUND, NULL, "unknown %s %s, did you mean \"%s\"?", table->kind,
							  quoted.text, near);
	else
		result = cp_error_set(error, CP_ENOTFOUND, NULL, "unknown %s %s%s", table->kind, quoted.text,
							  table->hint ? table->hint : "");
	free(names);
	return result;
}

static int fail_vague(const struct table *table, const struct entry *entry, struct cp_error *error)
{
	const char *first = entry->system_id, *second = entry->rival->system_id;

	return cp_error_set(error, CP_EINVAL, NULL,
						"%s \"%s\" is vague: systems \"%s\" and \"%s\" have it; write %s.%s or %s.%s", table->kind,
						entry->own, first, second, first, entry->own, second, entry->own);
}

static const struct entry *look_up(const struct table *table, const char *name, size_t length, struct cp_error *error)
{
	const struct entry *entry = find(table, name, length);

	if (entry && !entry->rival)
		return entry;
	if (entry)
		fail_vague(table, entry, error);
	else
		fail_unknown(table, name, length, error);
	return NULL;
}

struct cp_connector *scope_find_connector(const struct cp_scope *scope, const char *name, size_t length,
										  const char **alias, struct cp_error *error)
{
	const struct entry *entry = look_up(&scope->connectors, name, length, error);

	if (!entry)
		return NULL;
	*alias = entry->own;
	return entry->object;
}

const struct cp_converter *scope_find_converter(const struct cp_scope *scope, const char *name, size_t length,
												struct cp_error *error)
{
	const struct entry *entry = look_up(&scope->converters, name, length, error);

	return entry ? entry->object : NULL;
}

bool scope_is_vague(const struct cp_scope *scope, const char *alias)
{
	const struct entry *entry = find(&scope->connectors, alias, strlen(alias));

	return entry && entry->rival;
}

struct cp_router *cp_scope_router(const struct cp_scope *scope, const char *id)
{
	const struct entry *entry = find(&scope->routers, id, strlen(id));

	return entry ? entry->object : NULL;
}

const struct cp_connector *scope_connector_at(const struct cp_scope *scope, size_t index, const char **system_id)
{
	return list_at(&scope->connector_list, index, system_id);
}

const struct cp_converter *scope_converter_at(const struct cp_scope *scope, size_t index, const char **system_id)
{
	return list_at(&scope->converter_list, index, system_id);
}

const struct cp_router *scope_router_at(const struct cp_scope *scope, size_t index, const char **system_id)
{
	return list_at(&scope->router_list, index, system_id);
}

const struct cp_router *cp_scope_router_at(const struct cp_scope *scope, size_t index)
{
	return scope_router_at(scope, index, NULL);
}
