/** Between values of the core and values of Lua.
 *
 * Fields become the members of a table: numbers, strings, booleans; null is nil. An address becomes a table of its
 * fields with `connector` beside them. */
#ifndef LUA_CONVERT_H
#define LUA_CONVERT_H

#include <connpipe/connpipe.h>

#include <jansson.h>
#include <lua.h>

/** Push one value, a table of fields, an address as a table, a peer as a table. */
void convert_push(lua_State *L, const struct cp_value *value);
void convert_push_fields(lua_State *L, struct cp_fields fields);
void convert_push_address(lua_State *L, const struct cp_address *address);
void convert_push_peer(lua_State *L, const struct cp_peer *peer);
/** Push the canonical text of an address. */
void convert_push_text(lua_State *L, const struct cp_address *address);

/** The value at `index`; a whole number is an integer. Strings are copied into the arena.
 * @return false if it is no text, number or boolean */
bool convert_value(lua_State *L, int index, struct cp_arena *arena, struct cp_value *value);

/** The address at `index`: a text, or a table with `connector` and its fields.
 * @return CP_OK, or an error that is filled */
int convert_address(lua_State *L, int index, const struct cp_scope *scope, struct cp_arena *arena,
					const struct cp_address **out, struct cp_error *error);

/** Push a JSON value. null is connpipe.json.null, or nil with `null_is_nil`. */
void convert_push_json(lua_State *L, const json_t *value, bool null_is_nil);
/** The value at `index` as JSON. @return NULL with the reason in `why` (static text) if it cannot be */
json_t *convert_json(lua_State *L, int index, const char **why);

#endif
