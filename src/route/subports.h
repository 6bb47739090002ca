/** The named subports of one socket: name → router. Filled while a plan is made, read-only afterwards. */
#ifndef ROUTE_SUBPORTS_H
#define ROUTE_SUBPORTS_H

#include <connpipe/arena.h>

#include <stddef.h>

struct cp_router;
struct binding_subports;

/** Room for `count` names, in `arena`. */
struct binding_subports *subports_new(struct cp_arena *arena, size_t count);
/** Add a name, at most `count` of them in all; the text is copied into `arena`. A name that is there keeps its
 * router. */
void subports_add(struct binding_subports *subports, struct cp_arena *arena, const char *name, size_t length,
				  struct cp_router *router);
struct cp_router *subports_find(const struct binding_subports *subports, const char *name, size_t length);

#endif
