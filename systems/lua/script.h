/** The system 1e1001.connpipe.lua: registers the type "lua". */
#ifndef LUA_SCRIPT_H
#define LUA_SCRIPT_H

#include <connpipe/system.h>

extern const struct cp_system_def lua_type_system;

#endif
