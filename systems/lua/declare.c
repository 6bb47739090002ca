/* connpipe.router, connpipe.connector, connpipe.converter: what a script exports. The first vm's declarations are
 * registered with the core; those of the others only have to be the same. */
#include "connector.h"
#include "syntax.h"
#include "vm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Reading the table at 1 --------------------------------------------------------------------------------- */

static void check_loading(lua_State *L, const char *what)
{
	if (!vm_of(L)->loading)
		luaL_error(L, "a %s is declared while the script is loaded, not in a handler", what);
	luaL_checktype(L, 1, LUA_TTABLE);
}

static void check_keys(lua_State *L, const char *what, const char *const *known)
{
	for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1)) {
		const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL;
		size_t i = 0;
		while (key && known[i] && strcmp(known[i], key) != 0)
			i++;
		if (key && known[i])
			continue;
		const char *near = key ? cp_near_name(key, known) : NULL;
		luaL_error(L, "a %s has no `%s`%s%s%s", what, key ? key : "[…]", near ? "; did you mean `" : "",
				   near ? near : "", near ? "`?" : "");
	}
}

/** A reference to the function `key`, or LUA_NOREF. */
static int take_function(lua_State *L, const char *what, const char *key, bool needed)
{
	lua_getfield(L, 1, key);
	if (lua_isfunction(L, -1))
		return luaL_ref(L, LUA_REGISTRYINDEX);
	if (needed || !lua_isnil(L, -1))
		luaL_error(L, "a %s's `%s` is a function, not %s", what, key, luaL_typename(L, -1));
	lua_pop(L, 1);
	return LUA_NOREF;
}

static const char *take_id(lua_State *L, const char *what, bool needed)
{
	lua_getfield(L, 1, "id");
	if (lua_type(L, -1) == LUA_TSTRING)
		return lua_tostring(L, -1); /* the table keeps it */
	if (needed || !lua_isnil(L, -1))
		luaL_error(L, "a %s's `id` is a text, not %s", what, luaL_typename(L, -1));
	return NULL;
}

/** Where declarations are kept: of the first vm, which is alone, for as long as the script lives. Others come from all
 * workers at once, and need theirs only to be compared. */
static struct cp_arena *arena_for(struct vm *vm)
{
	return vm->script->signature ? vm->arena : vm->script->arena;
}

/** The list of texts `key`, copied; a single text is a list of one. @return ends with NULL */
static const char **take_texts(lua_State *L, const char *what, const char *key)
{
	struct cp_arena *arena = arena_for(vm_of(L));
	lua_getfield(L, 1, key);
	int kind = lua_type(L, -1);
	size_t count = kind == LUA_TTABLE ? lua_objlen(L, -1) : kind == LUA_TSTRING ? 1 : 0;
	const char **texts = cp_arena_alloc(arena, (count + 1) * sizeof(*texts));
	if (kind != LUA_TTABLE && kind != LUA_TSTRING && kind != LUA_TNIL)
		luaL_error(L, "a %s's `%s` is a list of texts, not %s", what, key, luaL_typename(L, -1));
	for (size_t i = 0; i < count; i++) {
		if (kind == LUA_TTABLE)
			lua_rawgeti(L, -1, (int)i + 1);
		if (lua_type(L, -1) != LUA_TSTRING)
			luaL_error(L, "a %s's `%s` is a list of texts; number %d is %s", what, key, (int)i + 1,
					   luaL_typename(L, -1));
		texts[i] = cp_arena_strdup(arena, lua_tostring(L, -1));
		if (kind == LUA_TTABLE)
			lua_pop(L, 1);
	}
	texts[count] = NULL;
	lua_pop(L, 1);
	return texts;
}

/* ---- Keeping ------------------------------------------------------------------------------------------------ */

static void sign(struct vm *vm, const char *what, const char *id, const char *const *names)
{
	fprintf(vm->signing, "%s %s", what, id ? id : "");
	for (; names && *names; names++)
		fprintf(vm->signing, " %s", *names);
	fputc(';', vm->signing);
}

static void keep_handlers(struct vm *vm, struct handlers handlers)
{
	vm->handlers = realloc(vm->handlers, (vm->handler_count + 1) * sizeof(*vm->handlers));
	if (!vm->handlers)
		abort();
	vm->handlers[vm->handler_count++] = handlers;
}

/** The first vm (it runs on the main task, when none is kept yet): remember what to register.
 * @return NULL in another vm */
static struct declared *keep_declared(lua_State *L, enum declared_kind kind, const char *id, const char **names)
{
	struct script *script = vm_of(L)->script;
	if (script->signature)
		return NULL;
	struct declared *declared = cp_arena_alloc(script->arena, sizeof(*declared));
	memset(declared, 0, sizeof(*declared));
	declared->script = script;
	declared->index = script->declared_count;
	declared->kind = kind;
	declared->id = id ? cp_arena_strdup(script->arena, id) : NULL;
	declared->names = names;
	luaL_where(L, 1);
	size_t length = strlen(lua_tostring(L, -1));
	snprintf(declared->where, sizeof(declared->where), "%.*s", length > 2 ? (int)length - 2 : 0, lua_tostring(L, -1));
	script->declared = realloc(script->declared, (script->declared_count + 1) * sizeof(struct declared *));
	if (!script->declared)
		abort();
	script->declared[script->declared_count++] = declared;
	return declared;
}

/* ---- The functions ------------------------------------------------------------------------------------------ */

/** connpipe.router { id, bind, route } */
static int declare_router(lua_State *L)
{
	static const char *const known[] = {"id", "bind", "route", NULL};
	check_loading(L, "router");
	check_keys(L, "router", known);
	const char *id = take_id(L, "router", false), **bind = take_texts(L, "router", "bind");
	keep_handlers(vm_of(L), (struct handlers){.first = take_function(L, "router", "route", true),
											  .second = LUA_NOREF,
											  .parse = LUA_NOREF,
											  .format = LUA_NOREF,
											  .bind = LUA_NOREF});
	sign(vm_of(L), "router", id, bind);
	keep_declared(L, DECLARED_ROUTER, id, bind);
	return 0;
}

/** Where the function `key` is: `script:line`, kept as long as the script. */
static const char *place_of(lua_State *L, const char *key)
{
	lua_Debug where;
	lua_getfield(L, 1, key);
	lua_getinfo(L, ">S", &where);
	return cp_arena_printf(vm_of(L)->script->arena, "%s:%d", where.short_src, where.linedefined);
}

static bool take_flag(lua_State *L, const char *key)
{
	lua_getfield(L, 1, key);
	bool flag = lua_toboolean(L, -1);
	lua_pop(L, 1);
	return flag;
}

static struct handlers take_connector_functions(lua_State *L)
{
	struct handlers handlers = {.first = take_function(L, "connector", "accept", false),
								.second = take_function(L, "connector", "connect", false),
								.parse = take_function(L, "connector", "parse", false),
								.format = take_function(L, "connector", "format", false),
								.bind = take_function(L, "connector", "bind", false)};
	if (handlers.second == LUA_NOREF && handlers.bind == LUA_NOREF)
		luaL_error(L, "a connector has a `connect` or a `bind`, or both");
	if (handlers.first != LUA_NOREF && handlers.bind == LUA_NOREF)
		luaL_error(L, "a connector's `accept` needs a `bind`, which says where to accept");
	if ((handlers.parse == LUA_NOREF) != (handlers.format == LUA_NOREF))
		luaL_error(L, "a connector's `parse` and `format` go together: what one reads the other writes");
	return handlers;
}

/** What differs between connectors of one name, for the comparison of vms. */
static const char *describe_connector(lua_State *L, const struct handlers *handlers)
{
	return lua_pushfstring(L, "connector%s%s%s%s%s%s", handlers->second == LUA_NOREF ? "" : " connect",
						   handlers->bind == LUA_NOREF ? "" : " bind", handlers->first == LUA_NOREF ? "" : " accept",
						   handlers->parse == LUA_NOREF ? "" : " parse", take_flag(L, "path") ? " path" : "",
						   take_flag(L, "messages") ? " messages" : "");
}

/** connpipe.connector { aliases, fields, parse, format, path, messages, connect, bind, accept } */
static int declare_connector(lua_State *L)
{
	static const char *const known[] = {"aliases",  "fields",  "parse", "format", "path",
										"messages", "connect", "bind",  "accept", NULL};
	struct vm *vm = vm_of(L);
	struct cp_error error;
	check_loading(L, "connector");
	check_keys(L, "connector", known);
	const char **aliases = take_texts(L, "connector", "aliases"), **fields = take_texts(L, "connector", "fields");
	if (!aliases[0])
		return luaL_error(L, "a connector has at least one alias: `aliases = { \"name\" }`");
	struct handlers handlers = take_connector_functions(L);
	keep_handlers(vm, handlers);
	sign(vm, describe_connector(L, &handlers), NULL, aliases);
	sign(vm, "fields", NULL, fields);
	struct declared *declared = keep_declared(L, DECLARED_CONNECTOR, NULL, aliases);
	if (!declared)
		return 0;
	if (handlers.parse != LUA_NOREF)
		declared->parse_at = place_of(L, "parse");
	connector_define(declared, &handlers, take_flag(L, "messages"));
	if (syntax_define(declared, fields, take_flag(L, "path"), handlers.parse != LUA_NOREF, &error) != CP_OK)
		return luaL_error(L, "%s", error.message);
	return 0;
}

/** connpipe.converter { id, accept, connect, messages, frames } */
static int declare_converter(lua_State *L)
{
	static const char *const known[] = {"id", "accept", "connect", "messages", "frames", NULL};
	check_loading(L, "converter");
	check_keys(L, "converter", known);
	const char *id = take_id(L, "converter", true);
	int accept = take_function(L, "converter", "accept", false);
	int connect = take_function(L, "converter", "connect", false);
	if (accept == LUA_NOREF && connect == LUA_NOREF)
		return luaL_error(L, "the converter %s has neither `accept` nor `connect`", id);
	bool messages = take_flag(L, "messages"), frames = take_flag(L, "frames");
	if (messages && frames)
		return luaL_error(L, "the converter %s works on messages, or makes messages of bytes (frames), not both", id);
	struct handlers handlers = {accept, connect, LUA_NOREF, LUA_NOREF, LUA_NOREF};
	keep_handlers(vm_of(L), handlers);
	sign(vm_of(L),
		 lua_pushfstring(L, "converter%s%s%s%s", accept == LUA_NOREF ? "" : " accept",
						 connect == LUA_NOREF ? "" : " connect", messages ? " messages" : "", frames ? " frames" : ""),
		 id, NULL);
	struct declared *declared = keep_declared(L, DECLARED_CONVERTER, id, NULL);
	if (declared)
		converter_define(declared, &handlers, messages, frames);
	return 0;
}

void declare_open(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{"router", declare_router}, {"connector", declare_connector}, {"converter", declare_converter}, {NULL, NULL}};
	luaL_register(L, NULL, functions);
}
