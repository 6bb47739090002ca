/** The resolver of one loop: look-ups by name, their cache, and c-ares behind them. See cp_resolve_start() in
 * connpipe/loop.h.
 *
 *     resolver.c          who asks, who waits, what answers last
 *     resolver_cache.c    names and their answers
 *     resolver_query.c    c-ares: one query, its sockets, its result */
#ifndef LOOP_RESOLVER_H
#define LOOP_RESOLVER_H

struct loop_resolver;

/** May be NULL. Look-ups under way end without a call. Before the wheel is freed. */
void resolver_free(struct loop_resolver *resolver);

#endif
