/** Connectors and converters in Lua. */
#ifndef LUA_CONNECTOR_H
#define LUA_CONNECTOR_H

#include "vm.h"

/** Fill declared->def, but for a connector's fields. @param handlers  the functions that the script has for it
 * @param messages  it works on streams that keep message boundaries @param frames  it makes those of bytes */
void connector_define(struct declared *declared, const struct handlers *handlers, bool messages);
void converter_define(struct declared *declared, const struct handlers *handlers, bool messages, bool frames);

#endif
