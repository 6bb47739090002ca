/* connpipe.router, connpipe.connector, connpipe.converter: what a script exports. The first vm's declarations are
 * registered with the core; those of the others only have to be the same. */
#include "connector.h"
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

/** The list of texts `key`, copied into the arena (which lives as long as the script); a single text is a list of one.
 * @return ends with NULL */
static const char **take_texts(lua_State *L, const char *what, const char *key)
{
	struct cp_arena *arena = vm_of(L)->script->arena;
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

static void keep_handlers(struct vm *vm, int first, int second)
{
	vm->handlers = realloc(vm->handlers, (vm->handler_count + 1) * sizeof(*vm->handlers));
	if (!vm->handlers)
		abort();
	vm->handlers[vm->handler_count++] = (struct handlers){first, second};
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
	keep_handlers(vm_of(L), take_function(L, "router", "route", true), LUA_NOREF);
	sign(vm_of(L), "router", id, bind);
	keep_declared(L, DECLARED_ROUTER, id, bind);
	return 0;
}

/** connpipe.connector { aliases, connect, path, messages } */
static int declare_connector(lua_State *L)
{
	static const char *const known[] = {"aliases", "connect", "path", "messages", NULL};
	check_loading(L, "connector");
	check_keys(L, "connector", known);
	const char **aliases = take_texts(L, "connector", "aliases");
	if (!aliases[0])
		return luaL_error(L, "a connector has at least one alias: `aliases = { \"name\" }`");
	keep_handlers(vm_of(L), LUA_NOREF, take_function(L, "connector", "connect", true));
	sign(vm_of(L), "connector", NULL, aliases);
	struct declared *declared = keep_declared(L, DECLARED_CONNECTOR, NULL, aliases);
	lua_getfield(L, 1, "path");
	lua_getfield(L, 1, "messages");
	if (declared)
		connector_define(declared, lua_toboolean(L, -2), lua_toboolean(L, -1));
	return 0;
}

/** connpipe.converter { id, accept, connect } */
static int declare_converter(lua_State *L)
{
	static const char *const known[] = {"id", "accept", "connect", NULL};
	check_loading(L, "converter");
	check_keys(L, "converter", known);
	const char *id = take_id(L, "converter", true);
	int accept = take_function(L, "converter", "accept", false);
	int connect = take_function(L, "converter", "connect", false);
	if (accept == LUA_NOREF && connect == LUA_NOREF)
		return luaL_error(L, "the converter %s has neither `accept` nor `connect`", id);
	keep_handlers(vm_of(L), accept, connect);
	sign(vm_of(L),
		 accept == LUA_NOREF    ? "connecting converter"
		 : connect == LUA_NOREF ? "accepting converter"
								: "converter",
		 id, NULL);
	struct declared *declared = keep_declared(L, DECLARED_CONVERTER, id, NULL);
	if (declared)
		converter_define(declared, accept != LUA_NOREF, connect != LUA_NOREF);
	return 0;
}

void declare_open(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{"router", declare_router}, {"connector", declare_connector}, {"converter", declare_converter}, {NULL, NULL}};
	luaL_register(L, NULL, functions);
}
