/** Connectors and converters in Lua. */
#ifndef LUA_CONNECTOR_H
#define LUA_CONNECTOR_H

#include "vm.h"

/** Fill declared->def. @param path  its addresses may have a path @param messages  its streams keep boundaries */
void connector_define(struct declared *declared, bool path, bool messages);
void converter_define(struct declared *declared, bool accept, bool connect);

#endif
