/* Chains: routers that ask each other without end.
 *
 * Every table follows its own references, through whatever routers can say where an address leads without a
 * connection. A loop through several tables would be found by each of them: the first one, by its id and then by the
 * address, reports it. */
#include "parts.h"

#include <string.h>

enum { STEPS_MAX = 64 };

/** A router that is asked about an address. */
struct step {
	struct cp_router *router;
	const struct cp_address *address;
};

struct chain {
	struct step steps[STEPS_MAX];
	uint32_t count;
	struct cp_arena *arena;
};

static bool same_address(const struct cp_address *a, const struct cp_address *b)
{
	bool same = a == b || (a->connector == b->connector && strcmp(a->alias, b->alias) == 0);
	for (uint32_t i = 0; a != b && same && i < a->fields.count; i++)
		same = cp_value_equal(&a->fields.at[i].value, &b->fields.at[i].value);
	return same;
}

static bool same_step(const struct step *a, const struct step *b)
{
	return a->router == b->router && same_address(a->address, b->address);
}

/** The reference that a table's route for the address is, or NULL. */
static const struct reference *step_reference(const struct step *step, bool *exact)
{
	if (step->router->def != &table_router_def)
		return NULL;
	const struct table *table = step->router->arg;
	const struct route *route = table_keys_find(&table->keys, step->address);
	if (!route || route->goal.kind != GOAL_REFERENCE)
		return NULL;
	*exact = table_keys_exact(route, step->address);
	return route->goal.as.reference;
}

/** Whether some table begins at this step and so comes to report the loop. */
static bool is_start(const struct step *step)
{
	bool exact;
	return step_reference(step, &exact) && exact;
}

static bool comes_before(const struct chain *chain, const struct step *a, const struct step *b)
{
	int order = strcmp(a->router->id, b->router->id);
	if (order == 0)
		order = strcmp(table_keys_address_text(a->address, chain->arena),
					   table_keys_address_text(b->address, chain->arena));
	return order < 0;
}

/** Whether the loop from step `first` on is for us, at step 0, to report. */
static bool is_ours(const struct chain *chain, uint32_t first)
{
	const struct step *best = NULL;
	for (uint32_t i = first; i < chain->count; i++) {
		const struct step *step = &chain->steps[i];
		if (is_start(step) && (!best || comes_before(chain, step, best)))
			best = step;
	}
	return !best || best == &chain->steps[0];
}

static const char *step_text(const struct chain *chain, const struct step *step)
{
	bool exact;
	const struct reference *reference = step_reference(step, &exact);
	if (!reference)
		return step->router->id;
	return cp_arena_printf(chain->arena, "%s (%s)", step->router->id, reference->where);
}

static void report_loop(const struct chain *chain, uint32_t first, const struct reference *reference)
{
	const char *text = "";
	for (uint32_t i = 0; i < chain->count; i++)
		text = cp_arena_printf(chain->arena, "%s%s → ", text, step_text(chain, &chain->steps[i]));
	cp_settings_error(reference->setting, "these routers ask each other without end: %s%s", text,
					  chain->steps[first].router->id);
}

/** Add the step that follows the last one. @return false if the chain ends there, or what follows depends */
static bool follow(struct chain *chain)
{
	const struct step *last = &chain->steps[chain->count - 1];
	const struct cp_router_def *def = last->router->def;
	struct cp_answer answer = {0};
	if (!def->follow || def->follow(last->router, last->address, &answer) != CP_OK || answer.kind != CP_ANSWER_ROUTER)
		return false;
	struct cp_router *next = cp_scope_router(cp_system_scope(chain->steps[0].router->system), answer.router);
	if (!next)
		return false;
	chain->steps[chain->count++] = (struct step){next, answer.address ? answer.address : last->address};
	return true;
}

/** @return the step that the last one repeats, or the last one itself */
static uint32_t repeated(const struct chain *chain)
{
	uint32_t i = 0;
	while (i < chain->count - 1 && !same_step(&chain->steps[i], &chain->steps[chain->count - 1]))
		i++;
	return i;
}

/** @return whether it ends */
static bool check_reference(const struct table *table, const struct reference *reference)
{
	struct chain chain = {.steps = {{table->router, reference->key}}, .count = 1, .arena = table->arena};
	while (chain.count < STEPS_MAX && follow(&chain)) {
		uint32_t first = repeated(&chain);
		if (first == chain.count - 1)
			continue;
		chain.count--;
		bool ours = is_ours(&chain, first);
		if (ours)
			report_loop(&chain, first, reference);
		return !ours;
	}
	if (chain.count < STEPS_MAX)
		return true;
	cp_settings_error(reference->setting, "more than %d routers are asked one after another from here", STEPS_MAX - 1);
	return false;
}

void table_chain_check(struct table *table)
{
	size_t loops = 0;
	for (const struct reference *reference = table->references; reference; reference = reference->next) {
		if (reference->key && loops < READING_ERRORS_MAX)
			loops += !check_reference(table, reference);
	}
}
