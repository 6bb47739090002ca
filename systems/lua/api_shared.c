/* connpipe.shared, as scripts call it. */
#include "api.h"
#include "shared.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/** Milliseconds of the monotonic clock: the same for all workers, and there before a loop is. */
static uint64_t now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static struct shared *store(lua_State *L)
{
	luaL_argcheck(L, lua_istable(L, 1), 1, "call it with a colon: connpipe.shared:get(key)");
	return vm_of(L)->script->shared;
}

/** A time to live in seconds as a moment. 0 or nil: never. */
static uint64_t take_expiry(lua_State *L, int index, uint64_t now)
{
	lua_Number seconds = luaL_optnumber(L, index, 0);
	luaL_argcheck(L, seconds >= 0 && seconds < 1e10, index, "a time in seconds");
	return seconds > 0 ? now + (uint64_t)ceil(seconds * 1000) : 0;
}

static void take_value(lua_State *L, int index, struct shared_value *value)
{
	switch (lua_type(L, index)) {
	case LUA_TNUMBER:
		*value = (struct shared_value){.kind = SHARED_NUMBER, .number = lua_tonumber(L, index)};
		break;
	case LUA_TBOOLEAN:
		*value = (struct shared_value){.kind = SHARED_BOOL, .truth = lua_toboolean(L, index)};
		break;
	case LUA_TSTRING:
		*value = (struct shared_value){.kind = SHARED_STRING};
		value->text = lua_tolstring(L, index, &value->length);
		break;
	default:
		luaL_argerror(L, index, "a number, a boolean or a text");
	}
}

static int push_result(lua_State *L, enum shared_result result)
{
	static const char *const words[] = {
		[SHARED_EXISTS] = "exists",
		[SHARED_MISSING] = "not found",
		[SHARED_NO_NUMBER] = "not a number",
		[SHARED_TOO_LARGE] = "too large",
	};
	if (result == SHARED_OK) {
		lua_pushboolean(L, true);
		return 1;
	}
	lua_pushnil(L);
	lua_pushstring(L, words[result]);
	return 2;
}

/** A copy made under the shard's lock, where nothing of Lua may be called: it may raise an error. */
struct found {
	struct shared_value value;
	char small[256];
	char *large;
};

static void copy_value(const struct shared_value *value, void *arg)
{
	struct found *found = arg;
	found->value = *value;
	found->large = NULL;
	if (value->kind != SHARED_STRING)
		return;
	char *to = found->small;
	if (value->length > sizeof(found->small))
		to = found->large = malloc(value->length);
	if (!to)
		abort();
	memcpy(to, value->text, value->length);
	found->value.text = to;
}

static int push_string(lua_State *L)
{
	const struct shared_value *value = lua_touserdata(L, 1);
	lua_pushlstring(L, value->text, value->length);
	return 1;
}

/** shared:get(key): its value, or nil. */
static int shared_lua_get(lua_State *L)
{
	struct shared *shared = store(L);
	struct found found;
	size_t length;
	const char *key = luaL_checklstring(L, 2, &length);
	if (!shared_read(shared, key, length, now_ms(), copy_value, &found)) {
		lua_pushnil(L);
		return 1;
	}
	switch (found.value.kind) {
	case SHARED_NUMBER:
		lua_pushnumber(L, found.value.number);
		break;
	case SHARED_BOOL:
		lua_pushboolean(L, found.value.truth);
		break;
	case SHARED_STRING:
		if (!found.large) {
			lua_pushlstring(L, found.value.text, found.value.length);
			break;
		}
		lua_pushcfunction(L, push_string);
		lua_pushlightuserdata(L, &found.value);
		int result = lua_pcall(L, 1, 1, 0); /* it may be over the memory limit */
		free(found.large);
		if (result != 0)
			return lua_error(L);
		break;
	}
	return 1;
}

static int set(lua_State *L, bool add)
{
	struct shared *shared = store(L);
	struct shared_value value;
	uint64_t now = now_ms();
	size_t length;
	const char *key = luaL_checklstring(L, 2, &length);
	if (!add && lua_isnoneornil(L, 3)) {
		shared_delete(shared, key, length, now);
		return push_result(L, SHARED_OK);
	}
	take_value(L, 3, &value);
	return push_result(L, shared_set(shared, key, length, &value, add, now, take_expiry(L, 4, now)));
}

/** shared:set(key, value, ttl): nil removes it. */
static int shared_lua_set(lua_State *L)
{
	return set(L, false);
}

/** shared:add(key, value, ttl): only if it is not there; else nil and "exists". */
static int shared_lua_add(lua_State *L)
{
	return set(L, true);
}

/** shared:delete(key): whether it was there. */
static int shared_lua_delete(lua_State *L)
{
	struct shared *shared = store(L);
	size_t length;
	const char *key = luaL_checklstring(L, 2, &length);
	lua_pushboolean(L, shared_delete(shared, key, length, now_ms()));
	return 1;
}

/** shared:incr(key, delta, initial, ttl): the new number; without `initial` what is not there is nil, "not found". */
static int shared_lua_incr(lua_State *L)
{
	struct shared *shared = store(L);
	size_t length;
	const char *key = luaL_checklstring(L, 2, &length);
	double delta = luaL_optnumber(L, 3, 1), initial = luaL_optnumber(L, 4, 0), sum;
	uint64_t now = now_ms();
	enum shared_result result = shared_add(shared, key, length, delta, lua_isnoneornil(L, 4) ? NULL : &initial, now,
										   take_expiry(L, 5, now), &sum);
	if (result != SHARED_OK)
		return push_result(L, result);
	lua_pushnumber(L, sum);
	return 1;
}

void api_shared_open(lua_State *L)
{
	static const luaL_Reg methods[] = {{"get", shared_lua_get},   {"set", shared_lua_set},
									   {"add", shared_lua_add},   {"delete", shared_lua_delete},
									   {"incr", shared_lua_incr}, {NULL, NULL}};
	lua_newtable(L);
	luaL_register(L, NULL, methods);
	lua_setfield(L, -2, "shared");
}
