/** Plan: which sockets are bound, and which router answers for each subport of them. Made by the main task from what
 * routers asked for, read-only afterwards, shared by the workers.
 *
 * A connection keeps the plan that its worker had when it was accepted until its way is open; the plan keeps its
 * generation (generation_release_plan() lets go of it). A plan copies what it needs of the claimed addresses: they may
 * go when it is made. */
#ifndef ROUTE_PLAN_H
#define ROUTE_PLAN_H

#include "../base/report.h"

#include <connpipe/connector.h>
#include <connpipe/router.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct generation;
struct plan;
struct listener_entry; /* the main task's: a bound socket that outlives plans */

/** One router's wish to be asked about connections on an address. */
struct claim {
	struct cp_router *router;
	const struct cp_address *address;
	const char *where; /* place in the configuration, or NULL */
};

/** Who is asked about one path of a socket, or about all that are not claimed by themselves. */
struct binding_part {
	const char *path; /* NULL: any */
	size_t path_length;
	bool subports;                  /* some claim names a subport: the preamble is read */
	struct cp_router *plain;        /* connections without a subport; NULL: refused */
	struct cp_router *any;          /* subports that are not named; NULL: refused */
	struct cp_router *only;         /* every subport is this router's, or nobody's: it is asked about all of them and
									   itself says CP_ANSWER_NONE to those it did not claim. So a router may claim a
									   million of them and no table is made */
	struct binding_subports *named; /* else: by name; NULL: no claim names one */
};

/** One socket of a plan. */
struct binding {
	struct plan *plan;
	char *key; /* canonical text of the socket, without converters: what a listener is known by */
	const struct cp_address *address; /* as claimed first, without multiplex and path; its layers are the chain of this
										 socket */
	const char *text;                 /* canonical text of `address`, for logs */
	struct binding_part root;         /* claims without a path */
	const struct binding_part *paths; /* those with one, sorted */
	uint32_t path_count;
	struct listener_entry *listener;  /* set by the main task */
	bool tunable; /* likewise: the listener's code is that of `address`: it can take over what is set for it */
};

struct plan {
	atomic_uint refs;
	struct generation *generation; /* kept */
	struct binding *bindings;      /* sorted by key */
	uint32_t count;
	void (*released)(struct plan *plan); /* by the last plan_unref(), on any thread: hands it to the main task */
	struct cp_arena *arena;
};

/** Group claims by socket, check them against each other (two routers on one address, one router twice on the same, two
 * chains of converters on one socket, connectors and converters that cannot accept, converters that do not fit what is
 * below them). Addresses with the same text are one socket, port 0 included.
 * @param generation  noted, not used
 * @return with one reference, `released` still to be set; NULL after errors were reported */
struct plan *plan_new(struct generation *generation, const struct claim *claims, size_t count, struct report *report);
/** Frees the memory; what it kept was let go by the caller. */
void plan_free(struct plan *plan);

static inline void plan_ref(struct plan *plan)
{
	atomic_fetch_add_explicit(&plan->refs, 1, memory_order_relaxed);
}
static inline void plan_unref(struct plan *plan)
{
	if (atomic_fetch_sub_explicit(&plan->refs, 1, memory_order_acq_rel) == 1)
		plan->released(plan);
}

/** The binding of a socket by its key, or NULL. */
struct binding *plan_find(const struct plan *plan, const char *key);
/** Who claims that path by itself; NULL: nobody. */
const struct binding_part *binding_path(const struct binding *binding, const char *path, size_t length);
/** Whether the preamble is read. @param part  of the path asked for; NULL: no path, or one that nobody claims */
static inline bool binding_subports(const struct binding *binding, const struct binding_part *part)
{
	return binding->root.subports || (part && part->subports);
}
/** The router for a connection: exact subport, then `*`, then none; never the one without subport for one with. First
 * among the claims of the path, then among those without one.
 * @param part  as above  @param multiplex  NULL: no subport */
struct cp_router *binding_router(const struct binding *binding, const struct binding_part *part, const char *multiplex,
								 size_t length);
/** Likewise, for an incoming address. */
struct cp_router *binding_router_for(const struct binding *binding, const struct cp_address *address);
/** What the address asks for, where that is claimed by itself; NULL: no path, or one that nobody claims. */
const struct binding_part *binding_part_for(const struct binding *binding, const struct cp_address *address);

#endif
