/** The request that handlers get: what is known of a connection.
 *
 *     request.address   the incoming address as fields       request.text    … as text
 *     request.peer      who connected: addr, port            request.facts   sni, alpn, …: what is known so far
 *     request:peek(n, timeout)   the client's first bytes      request:set_fact, set_peer    for converters
 *
 * A table that fills itself when its members are asked for: most handlers look at one or two. */
#ifndef LUA_REQUEST_H
#define LUA_REQUEST_H

#include "task.h"

/** Make the metatable. */
void request_open(lua_State *L);
/** Push the request of a task on its coroutine; nil if it has none. That of a newcomer has no facts, and no peek. */
void request_push(struct task *task);

#endif
