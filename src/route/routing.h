/** Routing: ask a router, and the routers that it names, until there are targets or a refusal.
 *
 *     start ──▶ route() ──┬─ targets ─────▶ done
 *                  ▲      ├─ refuse, none ▶ failed
 *                  │      ├─ router ──────▶ (next router, at most ROUTING_STEPS) ─┐
 *                  │      ├─ bytes, facts ▶ wanting bytes ── routing_bytes() ─────┤
 *                  │      └─ later ───────▶ waiting ── cp_request_answer() ───────┤
 *                  └──────────────────────────────────────────────────────────────┘
 * Used by the pipe task and by `connpipe route`. Allocates nothing of its own, so an answer that is there at once costs
 * the router's work and little more. When somebody listens (request->explain), every step is told.
 *
 * A router that names another one may say that the question is about another address: request->address is that one
 * from then on. Whoever logs the incoming address keeps its own pointer. */
#ifndef ROUTE_ROUTING_H
#define ROUTE_ROUTING_H

#include "request.h"

#include <connpipe/cause.h>

enum {
	ROUTING_STEPS = 16,   /* routers asked for one connection */
	ROUTING_REPEATS = 64, /* how often in a row a router may ask for bytes that are there, or that cannot come */
};

struct routing;
/** Called from the loop when a routing that returned CP_AGAIN goes on: look at `result` as after routing_start(). It
 * may end or start a routing, and free this one. */
typedef void routing_changed(struct routing *routing);

struct routing {
	struct cp_request *request;
	struct cp_router *router; /* asked last */
	struct cp_answer answer;  /* result CP_OK: the targets; CP_AGAIN and wanting_bytes: how many, how long */
	int result;               /* CP_OK, CP_AGAIN, or a failure with `cause` and `error` */
	bool wanting_bytes;       /* CP_AGAIN: for bytes; the caller reads and calls routing_bytes() or routing_timeout() */
	bool inside;              /* in route(): an answer that comes now is taken when it returns */
	bool answered;            /* … and it has come */
	uint32_t steps;           /* routers asked */
	uint32_t repeats;         /* the last one again, without new bytes */
	struct cp_router *asked[ROUTING_STEPS]; /* in order */
	enum cp_cause cause;
	struct cp_error error;
	routing_changed *changed;
	void *arg;
};

/** Start asking `router` about the request. @return result */
int routing_start(struct routing *routing, struct cp_request *request, struct cp_router *router,
				  routing_changed *changed, void *arg);
/** More bytes can be peeked at, or no more will come (request->peeked_end). The router is asked again only when it has
 * what it wanted. @return result */
int routing_bytes(struct routing *routing);
/** The time that the answer gave is over: likewise. For CP_ANSWER_FACTS it is only that of a step: `wanting_bytes` may
 * be set again, with a new time. @return result */
int routing_timeout(struct routing *routing);
/** Give up one that is under way (its result is CP_AGAIN): `changed` is not called any more. */
void routing_cancel(struct routing *routing);

#endif
