/** The parts of `connpipe` that are files of their own. Each adds to the table on top of the stack. */
#ifndef LUA_API_H
#define LUA_API_H

#include "vm.h"

void api_shared_open(lua_State *L); /* shared */
void api_json_open(lua_State *L);   /* json */
void api_wait_open(lua_State *L);   /* sleep, resolve, connect, every: what waits */

#endif
