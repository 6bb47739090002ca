/** A scope of made-up connectors, converters and routers for the tests of src/route. Nothing of it binds, connects or
 * is ever called, except the routers. */
#ifndef UNIT_ROUTE_FAKE_H
#define UNIT_ROUTE_FAKE_H

#include <connpipe/router.h>

#include "route/plan.h"
#include "route/routing.h"

/** A router that does what `script` says. */
struct fake_router {
	struct cp_router router; /* first: the router's address is the object's */
	int (*script)(struct fake_router *fake, struct cp_request *request, struct cp_answer *answer,
				  struct cp_error *error);
	const struct cp_address *targets[4];
	const char *next;          /* for scripts that name a router */
	unsigned asked, cancelled; /* how often */
};

enum { FAKE_LINES = 200 };

/** One request with everything around it. */
struct fake {
	struct cp_scope *scope;
	struct cp_arena *arena;
	struct cp_request request;
	struct routing routing;
	unsigned changed;
	struct report report;
	char lines[FAKE_LINES][512]; /* explained */
	unsigned line_count;
};

/** Connectors: fake (binds, connects), sink (only connects), door (only binds), msg (messages), any (both), web (with a
 * path). Converters: byte, both (fits messages too), frame (makes messages), front (only accepts), back (only
 * connects).
 */
void fake_init(struct fake *fake);
void fake_deinit(struct fake *fake);

/** Parse; the test fails if it is no address. */
const struct cp_address *fake_address(struct fake *fake, const char *text);
/** Register a router under that id. */
void fake_router_init(struct fake *fake, struct fake_router *router, const char *id,
					  int (*script)(struct fake_router *, struct cp_request *, struct cp_answer *, struct cp_error *));
/** Begin a request for that address, with somebody who listens to its explanations. */
void fake_request(struct fake *fake, const char *address);
/** Start routing it. */
int fake_start(struct fake *fake, struct fake_router *router);
/** Whether a line that was explained contains `text`. */
bool fake_explained(const struct fake *fake, const char *text);
/** Whether an error that was reported contains both texts. */
bool fake_reported(const struct fake *fake, const char *text, const char *also);

#endif
