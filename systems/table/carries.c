/* Messages and bytes behind references: what comes in at a key has to fit every target that the routers asked from
 * there may answer with. A table's own targets were held against its keys when they were read (target.c); here every
 * reference is followed through tables, whatever their conditions, and through other routers as far as they say
 * without a connection where an address leads. What depends on a connection is held against it when it comes. */
#include "parts.h"

enum { STEPS_MAX = 64 }; /* routers asked from one reference: conditions may lead to many, and back again */

struct walk {
	const struct table *table;
	const struct reference *from;
	bool messages; /* what comes in */
	uint32_t steps;
	bool failed; /* one error is enough for one reference */
};

static void visit(struct walk *walk, struct cp_router *router, const struct cp_address *address);

static void check_target(struct walk *walk, struct cp_router *router, const struct cp_address *target)
{
	bool messages, any;
	if (walk->failed || cp_address_carries(target, &messages, &any, NULL) != CP_OK || any || messages == walk->messages)
		return;
	walk->failed = true;
	cp_settings_error(walk->from->setting,
					  "\"%s\" carries %s, but the router \"%s\", asked from here, leads to \"%s\", which carries %s",
					  table_keys_address_text(walk->from->incoming, walk->table->arena),
					  walk->messages ? "messages" : "bytes", router->id,
					  table_keys_address_text(target, walk->table->arena), messages ? "messages" : "bytes");
}

static void visit_goal(struct walk *walk, struct cp_router *router, const struct cp_address *address,
					   const struct goal *goal)
{
	switch ((enum goal_kind)goal->kind) {
	case GOAL_TARGET:
		if (goal->as.target) /* its route has errors of its own otherwise */
			check_target(walk, router, goal->as.target);
		break;
	case GOAL_TARGETS:
		for (uint32_t i = 0; i < goal->count; i++)
			check_target(walk, router, goal->as.targets[i]);
		break;
	case GOAL_MIXED:
		for (uint32_t i = 0; i < goal->count; i++)
			check_target(walk, router, goal->as.mixed[i].address); /* templates do not change the layers */
		break;
	case GOAL_REFERENCE:
		if (!goal->as.reference->template)
			visit(walk, goal->as.reference->router,
				  goal->as.reference->address ? goal->as.reference->address : address);
		break;
	case GOAL_RULES:
		for (uint32_t i = 0; i < goal->as.rules->count; i++)
			visit_goal(walk, router, address, &goal->as.rules->at[i].goal);
		break;
	}
}

/** A router that is no table may say where it leads. */
static void visit_other(struct walk *walk, struct cp_router *router, const struct cp_address *address)
{
	struct cp_answer answer = {0};
	if (!router->def->follow || router->def->follow(router, address, &answer) != CP_OK)
		return;
	if (answer.kind == CP_ANSWER_TARGETS)
		for (uint32_t i = 0; i < answer.target_count; i++)
			check_target(walk, router, answer.targets[i]);
	if (answer.kind != CP_ANSWER_ROUTER)
		return;
	struct cp_router *next = cp_scope_router(cp_system_scope(walk->table->system), answer.router);
	if (next)
		visit(walk, next, answer.address ? answer.address : address);
}

static void visit(struct walk *walk, struct cp_router *router, const struct cp_address *address)
{
	if (walk->failed || walk->steps++ >= STEPS_MAX)
		return;
	if (router->def != &table_router_def) {
		visit_other(walk, router, address);
		return;
	}
	const struct table *table = router->arg;
	const struct route *route = table_keys_find(&table->keys, address);
	if (route)
		visit_goal(walk, router, address, &route->goal);
}

void table_carries_check(struct table *table)
{
	size_t errors = 0;
	if (!table->bind)
		return; /* what comes in here came in elsewhere */
	for (const struct reference *reference = table->references; reference; reference = reference->next) {
		struct walk walk = {.table = table, .from = reference};
		bool any;
		if (!reference->incoming || reference->template || errors == READING_ERRORS_MAX ||
			cp_address_carries(reference->incoming, &walk.messages, &any, NULL) != CP_OK || any)
			continue;
		visit(&walk, reference->router, reference->address ? reference->address : reference->incoming);
		errors += walk.failed;
	}
}
