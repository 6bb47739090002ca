/* connpipe.stream(below, functions): the making of a stream whose data goes through a script. See filter.c. */
#include "filter.h"

#include <stdlib.h>
#include <string.h>

/** Push the member `key`; raw, so that nothing of the script runs and raises an error here. */
static void get(lua_State *L, const char *key)
{
	lua_pushstring(L, key);
	lua_rawget(L, 2);
}

static void check_keys(lua_State *L)
{
	static const char *const known[] = {"read", "write", "finish", "close", "messages", NULL};
	for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1)) {
		const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL;
		size_t i = 0;
		while (key && known[i] && strcmp(known[i], key) != 0)
			i++;
		if (!key || !known[i])
			luaL_error(L, "a stream has no `%s`: it has read, write, finish, close, messages", key ? key : "[…]");
	}
}

/** A reference to the member `key`, which is a function or nothing. */
static int take_function(lua_State *L, const char *key)
{
	get(L, key);
	if (lua_isfunction(L, -1))
		return luaL_ref(L, LUA_REGISTRYINDEX);
	lua_pop(L, 1);
	return LUA_NOREF;
}

static void check_functions(lua_State *L)
{
	static const char *const functions[] = {"read", "write", "finish", "close", NULL};
	for (size_t i = 0; functions[i]; i++) {
		get(L, functions[i]);
		if (!lua_isnil(L, -1) && !lua_isfunction(L, -1))
			luaL_error(L, "a stream's `%s` is a function, not %s", functions[i], luaL_typename(L, -1));
		lua_pop(L, 1);
	}
}

static void take_definition(lua_State *L, struct filter *f)
{
	f->on_read = take_function(L, "read");
	f->on_write = take_function(L, "write");
	f->on_finish = take_function(L, "finish");
	f->on_close = take_function(L, "close");
	lua_pushvalue(L, 1);
	f->handle = luaL_ref(L, LUA_REGISTRYINDEX);
}

/** What it carries: what is below, unless the script says otherwise. */
static bool take_messages(lua_State *L, const struct filter *f)
{
	get(L, "messages");
	bool messages = lua_isnil(L, -1) ? f->below->stream->messages : lua_toboolean(L, -1);
	lua_pop(L, 1);
	return messages;
}

/** connpipe.stream(below, { read = function(below), write = function(below, bytes), finish = function(below),
 * close = function(cause), messages }): a stream over `below`, which it takes. */
int filter_lua_new(lua_State *L)
{
	struct task *task = task_of(L);
	struct vm *vm = task->vm;
	luaL_checktype(L, 2, LUA_TTABLE);
	lua_settop(L, 2);
	check_keys(L);
	check_functions(L);
	if (!stream_is(L, 1))
		return luaL_argerror(L, 1, "a stream");
	struct filter *f = calloc(1, sizeof(*f));
	if (!f)
		abort();
	struct lua_stream *below = *(struct lua_stream **)lua_touserdata(L, 1);
	if (!below || below->owner != &task->own) {
		free(f);
		return luaL_argerror(L, 1, "a stream that is open, and the handler's own");
	}
	size_t limit = vm_lift_limit(vm); /* an error from here on would lose it */
	f->below = stream_give(L, 1, &f->own);
	take_definition(L, f);
	filter_start(f, vm);
	f->stream.messages = take_messages(L, f);
	stream_push(task, &f->stream);
	vm->limit = limit;
	return 1;
}
