/* The table `connpipe`: what `require "connpipe"` gives. */
#include "api.h"

#include "convert.h"
#include "request.h"
#include "stream.h"
#include "syntax.h"

#include <stdlib.h>
#include <string.h>

/* ---- Log ---------------------------------------------------------------------------------------------------- */

/** connpipe.log.info(…): its arguments, joined by spaces, as one line. */
static int log_line(lua_State *L)
{
	enum cp_level level = (enum cp_level)lua_tointeger(L, lua_upvalueindex(1));
	int count = lua_gettop(L);
	if (!cp_log_enabled(level))
		return 0;
	lua_getglobal(L, "tostring");
	for (int i = 1; i <= count; i++) {
		lua_pushvalue(L, count + 1);
		lua_pushvalue(L, i);
		lua_call(L, 1, 1);
		lua_replace(L, i);
	}
	lua_settop(L, count);
	for (int i = count; i > 1; i--) {
		lua_pushliteral(L, " ");
		lua_insert(L, i);
	}
	lua_concat(L, lua_gettop(L));
	cp_log(level, vm_of(L)->script->id, "%s", lua_tostring(L, -1));
	return 0;
}

static void open_log(lua_State *L)
{
	static const char *const names[] = {"error", "warn", "info", "debug", "trace"};
	lua_newtable(L);
	for (int level = CP_ERROR; level <= CP_TRACE; level++) {
		lua_pushinteger(L, level);
		lua_pushcclosure(L, log_line, 1);
		lua_setfield(L, -2, names[level]);
	}
	lua_setfield(L, -2, "log");
}

/* ---- JSON --------------------------------------------------------------------------------------------------- */

/** Protected, so that the tree is freed when the limit of memory is reached in between. */
static int push_tree(lua_State *L)
{
	convert_push_json(L, lua_touserdata(L, 1), false);
	return 1;
}

/** json.decode(text): the value, or nil and what is wrong with it. */
static int json_lua_decode(lua_State *L)
{
	size_t length;
	json_error_t error;
	const char *text = luaL_checklstring(L, 1, &length);
	json_t *value = json_loadb(text, length, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
	if (!value) {
		lua_pushnil(L);
		lua_pushfstring(L, "line %d, column %d: %s", error.line, error.column, error.text);
		return 2;
	}
	lua_pushcfunction(L, push_tree);
	lua_pushlightuserdata(L, value);
	int result = lua_pcall(L, 1, 1, 0);
	json_decref(value);
	return result == 0 ? 1 : lua_error(L);
}

static int push_text(lua_State *L)
{
	lua_pushstring(L, lua_touserdata(L, 1));
	return 1;
}

/** json.encode(value): the text; raises an error for what cannot be JSON. */
static int json_lua_encode(lua_State *L)
{
	const char *why = "";
	luaL_checkany(L, 1);
	json_t *value = convert_json(L, 1, &why);
	if (!value)
		return luaL_error(L, "cannot be JSON: %s", why);
	char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);
	json_decref(value);
	if (!text)
		return luaL_error(L, "cannot be JSON: out of memory");
	lua_pushcfunction(L, push_text);
	lua_pushlightuserdata(L, text);
	int result = lua_pcall(L, 1, 1, 0);
	free(text);
	return result == 0 ? 1 : lua_error(L);
}

void api_json_open(lua_State *L)
{
	static const luaL_Reg functions[] = {{"decode", json_lua_decode}, {"encode", json_lua_encode}, {NULL, NULL}};
	luaL_newmetatable(L, "connpipe.array");
	lua_pop(L, 1);
	lua_newtable(L);
	luaL_register(L, NULL, functions);
	lua_pushlightuserdata(L, NULL);
	lua_setfield(L, -2, "null");
	lua_setfield(L, -2, "json");
}

/* ---- The table ---------------------------------------------------------------------------------------------- */

void api_open(lua_State *L)
{
	struct vm *vm = vm_of(L);
	request_open(L);
	stream_open(L);
	lua_newtable(L);
	declare_open(L);
	syntax_open(L);
	open_log(L);
	api_json_open(L);
	api_shared_open(L);
	api_wait_open(L);
	convert_push_json(L, vm->script->config, true);
	lua_setfield(L, -2, "config");
	lua_pushstring(L, cp_system_config_dir(vm->script->system));
	lua_setfield(L, -2, "config_dir");
	lua_pushinteger(L, (lua_Integer)vm->worker);
	lua_setfield(L, -2, "worker");
	lua_getglobal(L, "package");
	lua_getfield(L, -1, "loaded");
	lua_pushvalue(L, -3);
	lua_setfield(L, -2, "connpipe");
	lua_pop(L, 2);
}
