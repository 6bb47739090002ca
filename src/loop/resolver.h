/** The resolver of one loop: look-ups by name, their cache, and c-ares behind them. See cp_resolve_start() in
 * connpipe/loop.h.
 *
 *     resolver.c          who asks, who waits, which answer serves
 *     resolver_cache.c    names and their answers, and when they are forgotten
 *     resolver_query.c    c-ares: queries, its sockets and timeouts, its results
 *
 * Nothing is shared between loops. What c-ares reads itself (/etc/hosts, /etc/resolv.conf) it reads on the loop's
 * thread: small local files. */
#ifndef LOOP_RESOLVER_H
#define LOOP_RESOLVER_H

struct loop_resolver;

/** May be NULL. Look-ups under way end without a call. Before the wheel is freed. */
void resolver_free(struct loop_resolver *resolver);

#endif
