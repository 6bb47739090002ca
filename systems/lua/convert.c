#include "convert.h"

#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
	FIELDS_MOST = 32, /* of an address that a script builds */
	TEXT_MOST = 1024,
	DEPTH_MOST = 64, /* of nested tables in JSON */
};

/* ---- Values and fields -------------------------------------------------------------------------------------- */

void convert_push(lua_State *L, const struct cp_value *value)
{
	switch ((enum cp_kind)value->kind) {
	case CP_NULL:
		lua_pushnil(L);
		break;
	case CP_BOOL:
		lua_pushboolean(L, value->as.b);
		break;
	case CP_U8:
	case CP_U16:
	case CP_U32:
	case CP_U64:
		lua_pushnumber(L, (lua_Number)value->as.u);
		break;
	case CP_I8:
	case CP_I16:
	case CP_I32:
	case CP_I64:
		lua_pushnumber(L, (lua_Number)value->as.i);
		break;
	case CP_F32:
	case CP_F64:
		lua_pushnumber(L, value->as.f);
		break;
	case CP_STRING:
		lua_pushlstring(L, value->as.s, value->length);
		break;
	}
}

static void set_fields(lua_State *L, struct cp_fields fields)
{
	for (uint32_t i = 0; i < fields.count; i++) {
		convert_push(L, &fields.at[i].value);
		lua_setfield(L, -2, fields.at[i].name);
	}
}

void convert_push_fields(lua_State *L, struct cp_fields fields)
{
	lua_createtable(L, 0, (int)fields.count);
	set_fields(L, fields);
}

/** The connector's name as canonical text writes it, so that a table given back names the same one. */
static const char *connector_name(const struct cp_address *address)
{
	const struct cp_connector *connector = address->connector;
	for (size_t i = 0; connector->names && connector->def->aliases[i]; i++)
		if (strcmp(connector->def->aliases[i], address->alias) == 0)
			return connector->names[i];
	return address->alias;
}

void convert_push_address(lua_State *L, const struct cp_address *address)
{
	lua_createtable(L, 0, (int)address->fields.count + 1);
	lua_pushstring(L, connector_name(address));
	lua_setfield(L, -2, "connector");
	set_fields(L, address->fields);
}

void convert_push_peer(lua_State *L, const struct cp_peer *peer)
{
	char text[CP_IP_TEXT];
	lua_createtable(L, 0, 2);
	if (peer->ip.family == 0)
		return;
	lua_pushlstring(L, text, cp_ip_print(&peer->ip, text, sizeof(text)));
	lua_setfield(L, -2, "addr");
	lua_pushinteger(L, peer->port);
	lua_setfield(L, -2, "port");
}

void convert_push_text(lua_State *L, const struct cp_address *address)
{
	char text[TEXT_MOST];
	size_t length = cp_address_print(address, text, sizeof(text));
	if (length < sizeof(text)) {
		lua_pushlstring(L, text, length);
		return;
	}
	char *longer = lua_newuserdata(L, length + 1);
	cp_address_print(address, longer, length + 1);
	lua_pushlstring(L, longer, length);
	lua_remove(L, -2);
}

/* ---- Addresses from scripts --------------------------------------------------------------------------------- */

/** A whole number is an integer, so that as a string field it prints as one. */
static struct cp_value number_value(lua_Number number)
{
	struct cp_value value = cp_unsigned(CP_I64, 0);
	if (number == floor(number) && fabs(number) < 9007199254740992.0) {
		value.as.i = (int64_t)number;
		return value;
	}
	value.kind = CP_F64;
	value.as.f = number;
	return value;
}

/** Strings are copied: the table may be garbage before the address is used. */
bool convert_value(lua_State *L, int index, struct cp_arena *arena, struct cp_value *value)
{
	size_t length;
	const char *text;
	switch (lua_type(L, index)) {
	case LUA_TBOOLEAN:
		*value = cp_bool(lua_toboolean(L, index));
		return true;
	case LUA_TNUMBER:
		*value = number_value(lua_tonumber(L, index));
		return true;
	case LUA_TSTRING:
		text = lua_tolstring(L, index, &length);
		*value = cp_string(cp_arena_strndup(arena, text, length), length);
		return true;
	default:
		return false;
	}
}

/** The members of the table at `index` but `connector`. @return how many; -1 with `error` filled */
static int take_fields(lua_State *L, int index, struct cp_arena *arena, struct cp_field *fields, struct cp_error *error)
{
	int count = 0;
	for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
		const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL;
		if (name && strcmp(name, "connector") == 0)
			continue;
		if (!name || count == FIELDS_MOST || !convert_value(L, -1, arena, &fields[count].value)) {
			cp_error_set(error, CP_EINVAL, NULL, "an address has a field%s%s that is no text, number or boolean",
						 name ? " " : "", name ? name : "");
			lua_pop(L, 2);
			return -1;
		}
		fields[count++].name = cp_arena_strdup(arena, name);
	}
	return count;
}

static int from_table(lua_State *L, int index, const struct cp_scope *scope, struct cp_arena *arena,
					  const struct cp_address **out, struct cp_error *error)
{
	struct cp_field fields[FIELDS_MOST];
	lua_pushliteral(L, "connector");
	lua_rawget(L, index); /* raw: nothing of the script runs here, where an error would not be caught */
	const char *connector = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
	if (!connector) {
		lua_pop(L, 1);
		return cp_error_set(error, CP_EINVAL, NULL, "an address as a table names its `connector`; this one does not");
	}
	int count = take_fields(L, index, arena, fields, error);
	int result = CP_EINVAL;
	if (count >= 0)
		result =
			cp_address_from_fields(scope, arena, connector, (struct cp_fields){fields, (uint32_t)count}, out, error);
	lua_pop(L, 1);
	return result;
}

int convert_address(lua_State *L, int index, const struct cp_scope *scope, struct cp_arena *arena,
					const struct cp_address **out, struct cp_error *error)
{
	size_t length;
	const char *text;
	if (index < 0)
		index = lua_gettop(L) + 1 + index;
	switch (lua_type(L, index)) {
	case LUA_TSTRING:
		text = lua_tolstring(L, index, &length);
		/* The address borrows from its text. */
		return cp_address_parse(scope, arena, cp_arena_strndup(arena, text, length), length, 0, out, error);
	case LUA_TTABLE:
		return from_table(L, index, scope, arena, out, error);
	default:
		return cp_error_set(error, CP_EINVAL, NULL, "an address is a text or a table of fields, not a %s",
							luaL_typename(L, index));
	}
}

/* ---- JSON --------------------------------------------------------------------------------------------------- */

void convert_push_json(lua_State *L, const json_t *value, bool null_is_nil)
{
	const char *key;
	json_t *member;
	size_t i;
	luaL_checkstack(L, 8, "JSON");
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		lua_createtable(L, 0, (int)json_object_size(value));
		json_object_foreach ((json_t *)value, key, member) {
			convert_push_json(L, member, null_is_nil);
			lua_setfield(L, -2, key);
		}
		break;
	case JSON_ARRAY:
		lua_createtable(L, (int)json_array_size(value), 0);
		json_array_foreach (value, i, member) {
			convert_push_json(L, member, null_is_nil);
			lua_rawseti(L, -2, (int)i + 1);
		}
		if (json_array_size(value) == 0) { /* so that it is an array again when it is encoded */
			luaL_getmetatable(L, "connpipe.array");
			lua_setmetatable(L, -2);
		}
		break;
	case JSON_STRING:
		lua_pushlstring(L, json_string_value(value), json_string_length(value));
		break;
	case JSON_INTEGER:
		lua_pushnumber(L, (lua_Number)json_integer_value(value));
		break;
	case JSON_REAL:
		lua_pushnumber(L, json_real_value(value));
		break;
	case JSON_TRUE:
	case JSON_FALSE:
		lua_pushboolean(L, json_is_true(value));
		break;
	case JSON_NULL:
		if (null_is_nil)
			lua_pushnil(L);
		else
			lua_pushlightuserdata(L, NULL);
		break;
	}
}

static json_t *to_json(lua_State *L, int index, int depth, const char **why);

static json_t *array_to_json(lua_State *L, int index, size_t count, int depth, const char **why)
{
	json_t *array = json_array();
	for (size_t i = 1; i <= count; i++) {
		lua_rawgeti(L, index, (int)i);
		json_t *member = to_json(L, lua_gettop(L), depth + 1, why);
		lua_pop(L, 1);
		if (!member || json_array_append_new(array, member) != 0) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

static json_t *object_to_json(lua_State *L, int index, int depth, const char **why)
{
	json_t *object = json_object();
	for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
		json_t *member = NULL;
		*why = "the keys of a table are all strings, or 1, 2, 3 …";
		if (lua_type(L, -2) == LUA_TSTRING)
			member = to_json(L, lua_gettop(L), depth + 1, why);
		if (!member || json_object_set_new(object, lua_tostring(L, -2), member) != 0) {
			lua_pop(L, 2);
			json_decref(object);
			return NULL;
		}
	}
	return object;
}

static bool is_marked_array(lua_State *L, int index)
{
	if (!lua_getmetatable(L, index))
		return false;
	luaL_getmetatable(L, "connpipe.array");
	bool marked = lua_rawequal(L, -1, -2);
	lua_pop(L, 2);
	return marked;
}

static json_t *number_to_json(lua_Number number, const char **why)
{
	*why = "JSON has no infinity and no NaN";
	if (number == floor(number) && fabs(number) < 9007199254740992.0)
		return json_integer((json_int_t)number);
	return json_real(number);
}

static json_t *string_to_json(lua_State *L, int index, const char **why)
{
	size_t length;
	const char *text = lua_tolstring(L, index, &length);
	*why = "a string is not UTF-8";
	return json_stringn(text, length);
}

static json_t *table_to_json(lua_State *L, int index, int depth, const char **why)
{
	size_t count = lua_objlen(L, index);
	*why = "tables are nested too deeply, or in a circle";
	if (depth == DEPTH_MOST || !lua_checkstack(L, 8))
		return NULL;
	if (count || is_marked_array(L, index))
		return array_to_json(L, index, count, depth, why);
	return object_to_json(L, index, depth, why);
}

static json_t *to_json(lua_State *L, int index, int depth, const char **why)
{
	switch (lua_type(L, index)) {
	case LUA_TBOOLEAN:
		return json_boolean(lua_toboolean(L, index));
	case LUA_TNUMBER:
		return number_to_json(lua_tonumber(L, index), why);
	case LUA_TSTRING:
		return string_to_json(L, index, why);
	case LUA_TTABLE:
		return table_to_json(L, index, depth, why);
	case LUA_TNIL:
		return json_null();
	case LUA_TLIGHTUSERDATA:
		if (lua_touserdata(L, index) == NULL)
			return json_null();
		break;
	default:
		break;
	}
	*why = "only tables, strings, numbers, booleans and null can be JSON";
	return NULL;
}

json_t *convert_json(lua_State *L, int index, const char **why)
{
	return to_json(L, index < 0 ? lua_gettop(L) + 1 + index : index, 0, why);
}
