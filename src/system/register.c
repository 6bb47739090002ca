#include "system.h"

#include "../address/scope.h"

#include <connpipe/log.h>

#include <stdio.h>
#include <string.h>

/* ---- Checks that are the same for all ----------------------------------------------------------------------- */

static bool may_register(struct cp_system *self, const char *what)
{
	if (self->generation->state == GENERATION_LOADING)
		return true;
	cp_system_error(self, "registers a %s after its load, when names may be in use already", what);
	return false;
}

/** A structure shorter than this program's was built against an interface that never was; longer ones are of a later
 * one, whose new members this program does not know and does not need. */
static bool is_whole(struct cp_system *self, const char *what, uint32_t size, size_t needed)
{
	if (size >= needed)
		return true;
	cp_system_error(self, "the definition of a %s has %u bytes, this program needs %zu of them", what, size, needed);
	return false;
}

/** Names stand in addresses and in `>router address`: nothing that ends them there may be inside. */
static const char *why_not_name(const char *name)
{
	if (!name || !name[0])
		return "is empty";
	for (const unsigned char *at = (const unsigned char *)name; *at; at++)
		if (*at <= ' ' || *at == 0x7f || strchr(":/+()!>", *at))
			return "contains a space, a control character or one of : / + ( ) ! >";
	return cp_utf8_valid(name, strlen(name)) ? NULL : "is not UTF-8";
}

static bool is_name(struct cp_system *self, const char *what, const char *name)
{
	const char *why = why_not_name(name);
	if (why)
		cp_system_error(self, "the name \"%s\" of a %s %s", name ? name : "", what, why);
	return !why;
}

/** The scope has the last word. */
static int added(struct cp_system *self, int result, const struct cp_error *error)
{
	if (result != CP_OK)
		cp_system_error(self, "%s", error->message);
	return result;
}

/* ---- Connectors, converters, routers ------------------------------------------------------------------------ */

static bool check_connector(struct cp_system *self, const struct cp_connector_def *def)
{
	if (!may_register(self, "connector") || !is_whole(self, "connector", def->size, sizeof(*def)))
		return false;
	if (!def->aliases || !def->aliases[0]) {
		cp_system_error(self, "registers a connector without an alias");
		return false;
	}
	for (size_t i = 0; def->aliases[i]; i++)
		if (!is_name(self, "connector", def->aliases[i]))
			return false;
	return true;
}

int cp_register_connector(struct cp_system *self, const struct cp_connector_def *def, void *arg,
						  struct cp_connector **out)
{
	if (!check_connector(self, def))
		return CP_EINVAL;
	struct cp_connector *connector = cp_arena_alloc(self->generation->arena, sizeof(*connector));
	*connector = (struct cp_connector){.def = def, .system = self, .arg = arg};
	struct cp_error error;
	int result = added(self, scope_add_connector(self->generation->scope, connector, self->id, &error), &error);
	if (result == CP_OK && out)
		*out = connector;
	return result;
}

int cp_register_converter(struct cp_system *self, const struct cp_converter_def *def, void *arg,
						  struct cp_converter **out)
{
	if (!may_register(self, "converter") || !is_whole(self, "converter", def->size, sizeof(*def)) ||
		!is_name(self, "converter", def->id))
		return CP_EINVAL;
	struct cp_converter *converter = cp_arena_alloc(self->generation->arena, sizeof(*converter));
	*converter = (struct cp_converter){.def = def, .system = self, .arg = arg};
	struct cp_error error;
	int result = added(self, scope_add_converter(self->generation->scope, converter, self->id, &error), &error);
	if (result == CP_OK && out)
		*out = converter;
	return result;
}

static bool check_router(struct cp_system *self, const struct cp_router_def *def, const char *id)
{
	if (!may_register(self, "router") || !is_whole(self, "router", def->size, sizeof(*def)) ||
		!is_name(self, "router", id))
		return false;
	if (!def->route) {
		cp_system_error(self, "the router \"%s\" has no function `route`", id);
		return false;
	}
	const struct cp_router *other = cp_scope_router(self->generation->scope, id);
	if (!other)
		return true;
	char place[192];
	cp_system_error(self, "a router \"%s\" is there already, of the system \"%s\" (%s)", id, other->system->id,
					system_place(other->system, place, sizeof(place)));
	return false;
}

int cp_register_router(struct cp_system *self, const struct cp_router_def *def, const char *id, void *arg,
					   struct cp_router **out)
{
	struct cp_arena *arena = self->generation->arena;
	if (!id)
		id = self->id;
	if (!check_router(self, def, id))
		return CP_EINVAL;
	struct registered_router *entry = cp_arena_alloc(arena, sizeof(*entry));
	entry->router = (struct cp_router){.def = def, .system = self, .id = cp_arena_strdup(arena, id), .arg = arg};
	entry->addresses = NULL;
	struct cp_error error;
	int result = added(self, scope_add_router(self->generation->scope, &entry->router, self->id, &error), &error);
	if (result == CP_OK && out)
		*out = &entry->router;
	return result;
}

/* ---- Systems and types -------------------------------------------------------------------------------------- */

int cp_register_system(struct cp_system *self, const struct cp_system_def *def, const char *id,
					   const struct cp_settings *settings)
{
	if (!may_register(self, "system"))
		return CP_EINVAL;
	return generation_add_system(self->generation, def, id ? id : def->id, settings, self);
}

const struct type_entry *generation_find_type(const struct generation *generation, const char *name)
{
	for (const struct type_entry *type = generation->types; type; type = type->next)
		if (strcmp(type->name, name) == 0)
			return type;
	return NULL;
}

int cp_register_type(struct cp_system *self, const char *name, const struct cp_system_def *def)
{
	struct generation *generation = self->generation;
	if (!may_register(self, "type") || !is_name(self, "type", name))
		return CP_EINVAL;
	const struct type_entry *other = generation_find_type(generation, name);
	if (other) {
		char place[192];
		cp_system_error(self, "the type \"%s\" is there already, of the system \"%s\" (%s)", name, other->system->id,
						system_place(other->system, place, sizeof(place)));
		return CP_EEXIST;
	}
	struct type_entry *type = cp_arena_alloc(generation->arena, sizeof(*type));
	*type = (struct type_entry){generation->types, cp_arena_strdup(generation->arena, name), def, self};
	generation->types = type;
	return CP_OK;
}

/** How to refer to a system that is only about to be: by its parent, else by its place. */
static void report_new(struct generation *generation, const char *where, const char *id, const char *words)
{
	report_add(generation->report, where, "system \"%s\": %s", id ? id : "", words);
}

/** Whether the definition fits this program. The version comes first: nothing else of a foreign one can be trusted. */
static bool check_definition(struct generation *generation, const struct cp_system_def *def, const char *id,
							 const char *where)
{
	char words[256];
	const char *bad_name = why_not_name(id);
	if (def->abi != CP_ABI_VERSION)
		snprintf(words, sizeof(words), "it was built for version %u of the interface, this program has version %u",
				 def->abi, CP_ABI_VERSION);
	else if (def->size < sizeof(*def))
		snprintf(words, sizeof(words), "its definition has %u bytes, this program needs %zu of them", def->size,
				 sizeof(*def));
	else if (bad_name)
		snprintf(words, sizeof(words), "its id %s", bad_name);
	else
		return true;
	report_new(generation, where, id, words);
	return false;
}

static const struct cp_system *find_system(const struct generation *generation, const char *id)
{
	for (uint32_t i = 0; i < generation->system_count; i++)
		if (strcmp(generation->systems[i]->id, id) == 0)
			return generation->systems[i];
	return NULL;
}

static bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

/** A second system of one id: dropped if it comes from where the first one came from. */
static int intern(struct generation *generation, const struct cp_system *first, const struct cp_system *second)
{
	if (first->def == second->def && same_text(first->where, second->where)) {
		cp_log(CP_INFO, "system", "\"%s\" is there already, from the same origin: the second one is dropped",
			   first->id);
		return CP_OK;
	}
	char place[192], other[192], words[512];
	snprintf(words, sizeof(words), "the id is taken by another system (%s; this one: %s)",
			 system_place(first, place, sizeof(place)), system_place(second, other, sizeof(other)));
	report_new(generation, second->where, second->id, words);
	return CP_EEXIST;
}

int generation_add_system(struct generation *generation, const struct cp_system_def *def, const char *id,
						  const struct cp_settings *settings, struct cp_system *parent)
{
	const char *where = settings ? cp_settings_where_key(settings) : NULL;
	if (!check_definition(generation, def, id, where))
		return CP_EINVAL;
	struct cp_system *system = cp_arena_alloc(generation->arena, sizeof(*system));
	*system = (struct cp_system){.def = def, .generation = generation, .parent = parent, .settings = settings};
	system->id = cp_arena_strdup(generation->arena, id);
	system->where = where ? cp_arena_strdup(generation->arena, where) : NULL;
	atomic_init(&system->pins, 0);

	const struct cp_system *first = find_system(generation, id);
	if (first)
		return intern(generation, first, system);
	generation_push_system(generation, system);
	return CP_OK;
}

int cp_system_become(struct cp_system *self, const struct cp_system_def *def, const struct cp_settings *settings,
					 void (*gone)(void *arg), void *arg)
{
	if (!may_register(self, "definition of itself") ||
		!check_definition(self->generation, def, self->id, self->where)) {
		if (gone)
			gone(arg);
		return CP_EINVAL;
	}
	self->def = def;
	self->data = NULL;
	self->gone = gone;
	self->gone_arg = arg;
	return def->load ? def->load(self, settings) : CP_OK;
}

/* ---- Binding ------------------------------------------------------------------------------------------------ */

int cp_router_bind(struct cp_router *router, const struct cp_address *address, const char *where)
{
	struct generation *generation = router->system->generation;
	switch (generation->state) {
	case GENERATION_LOADING:
	case GENERATION_LINKING:
	case GENERATION_CHECKING:
		generation_push_claim(generation, &(struct claim){router, address, where});
		return CP_OK;
	case GENERATION_READY:
	case GENERATION_RETIRING:
		break;
	}
	cp_system_error(router->system, "the router \"%s\" binds after loading, which only a rebind may", router->id);
	return CP_EINVAL;
}
