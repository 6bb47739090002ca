/** Addresses of a script's connectors: their fields, and where the script says so, its own `parse` and `format`. */
#ifndef LUA_SYNTAX_H
#define LUA_SYNTAX_H

#include "vm.h"

/** Fill def->fields, field_count, parse, format, syntax of a connector's declaration.
 * @param fields  "name", "name:kind", "name:kind?", ends with NULL; NULL or none: addr, port, multiplex
 * @param path    without fields: path, too
 * @param parses  it has functions for it
 * @return CP_OK, or an error with words about `fields` */
int syntax_define(struct declared *declared, const char *const *fields, bool path, bool parses, struct cp_error *error);

/** connpipe.escape(text, special), connpipe.unescape(text): added to the table on top of the stack. */
void syntax_open(lua_State *L);

#endif
