/* A table: its life as a system, and its answers as a router. */
#include "table.h"

#include "parts.h"

#include <stdlib.h>

/* ---- Settings
 * -------------------------------------------------------------------------------------------- */

/** `bind` of the configuration wins over that of the file. */
static void read_bind(struct table *table, const struct cp_settings *settings, const struct cp_settings *file)
{
	table->bind = true;
	if (file)
		cp_settings_get_bool(file, "bind", &table->bind);
	cp_settings_get_bool(settings, "bind", &table->bind);
}

static const struct cp_settings *open_file(const struct cp_settings *path)
{
	const char *text;
	size_t length;
	return cp_settings_string(path, &text, &length) ? cp_settings_open(path, text) : NULL;
}

/** What says where the routes are. @return the table that has them, or NULL after an error was reported */
static const struct cp_settings *find_routes(const struct cp_settings *settings, const struct cp_settings **file)
{
	const struct cp_settings *path = cp_settings_get(settings, "path");
	const struct cp_settings *routes = cp_settings_get(settings, "routes");
	if (!path && !routes)
		cp_settings_error(settings, "expected `routes`, a table of addresses, or `path`, a file that has it");
	if (path && routes) {
		cp_settings_error(path, "expected `path` or `routes`, found both");
		return NULL;
	}
	if (!path)
		return routes;
	*file = open_file(path);
	if (!*file)
		return NULL;
	routes = cp_settings_get(*file, "routes");
	if (!routes)
		cp_settings_error(*file, "expected a table `routes` in this file");
	return routes;
}

/** `sniff` stands beside the routes, or in the configuration. */
static void read_sniff(struct table *table, const struct cp_settings *settings, const struct cp_settings *file)
{
	const struct cp_settings *in_file = file ? cp_settings_get(file, "sniff") : NULL;
	table->sniff = cp_settings_get(settings, "sniff");
	if (table->sniff && in_file)
		cp_settings_error(table->sniff, "expected `sniff` here or in the file, found both");
	if (in_file)
		table->sniff = in_file;
}

static void read_settings(struct table *table, const struct cp_settings *settings)
{
	const struct cp_settings *file = NULL, *routes = find_routes(settings, &file);
	read_bind(table, settings, file);
	read_sniff(table, settings, file);
	if (file)
		cp_settings_finish(file);
	if (routes && cp_settings_want(routes, CP_SETTINGS_TABLE))
		table->routes = routes;
}

/* ---- Life: what was reported fails the load at its end, so phases say CP_OK and go on, and all errors are seen - */

enum { FIRST_BLOCK = 4096 };

static int table_load(struct cp_system *self, const struct cp_settings *settings)
{
	if (!settings) {
		cp_system_error(self, "a table needs settings: `routes` or `path`");
		return CP_EINVAL;
	}
	struct cp_arena *arena = cp_arena_new(FIRST_BLOCK);
	struct table *table = cp_arena_alloc(arena, sizeof(*table));
	*table = (struct table){.system = self, .arena = arena};
	cp_system_set_data(self, table);
	read_settings(table, settings);
	return cp_register_router(self, &table_router_def, NULL, table, &table->router);
}

static int table_link(struct cp_system *self)
{
	struct table *table = cp_system_data(self);
	if (table->routes)
		table_reading_run(table);
	return CP_OK;
}

static int table_check(struct cp_system *self)
{
	struct table *table = cp_system_data(self);
	table_chain_check(table);
	table_carries_check(table);
	table->routes = table->sniff = NULL;
	return CP_OK;
}

static void table_unload(struct cp_system *self)
{
	struct table *table = cp_system_data(self);
	if (!table)
		return;
	table_keys_deinit(&table->keys);
	cp_arena_free(table->arena);
	cp_system_set_data(self, NULL);
}

/* ---- Answers
 * --- */

static void explain_key(const struct route *route, struct cp_request *request)
{
	if (!cp_request_explaining(request))
		return;
	if (route)
		cp_request_explain(request, "  key \"%s\" matches", table_keys_print(route, cp_request_arena(request)));
	else
		cp_request_explain(request, "  no key matches");
}

/** Why the rule with this number is the one that decides, and those before it are not. What has to be waited for is
 * explained when it is known. */
static void explain_rules(const struct rules *rules, uint32_t number, enum holding holding, struct cp_request *request)
{
	if (holding == HOLDS_OPEN) {
		cp_request_explain(request, "  rule %u needs to know what the client's first bytes tell", number);
		return;
	}
	if (rules->count == 1 && !rules->at[0].condition_count)
		return; /* a target alone */
	for (uint32_t i = 0; i < number; i++) {
		bool taken = i + 1 == number && holding == HOLDS;
		table_condition_explain(&rules->at[i], rules->sniff, request);
		cp_request_explain(request, "  rule %u %s", i + 1, taken ? "is taken" : "does not hold");
	}
}

/** Answer with the goal of the first rule that holds. */
static void choose(const struct rules *rules, struct cp_request *request, struct cp_answer *answer)
{
	enum holding holding = HOLDS_NOT;
	uint32_t i = 0;
	while (i < rules->count && holding == HOLDS_NOT)
		holding = table_condition_hold(&rules->at[i++], rules->sniff, request);
	if (cp_request_explaining(request))
		explain_rules(rules, i, holding, request);
	switch (holding) {
	case HOLDS:
		table_target_answer(&rules->at[i - 1].goal, request, answer);
		break;
	case HOLDS_OPEN:
		answer->kind = CP_ANSWER_FACTS;
		answer->sniff = rules->sniff;
		break;
	case HOLDS_NOT:
		answer->kind = CP_ANSWER_NONE;
		answer->reason = "no rule of the route holds";
		break;
	}
}

static int table_route(struct cp_router *router, struct cp_request *request, struct cp_answer *answer,
					   struct cp_error *error)
{
	(void)error;
	const struct table *table = router->arg;
	const struct cp_address *address = cp_request_address(request);
	const struct route *route = address ? table_keys_find(&table->keys, address) : NULL;
	explain_key(route, request);
	if (!route)
		answer->kind = CP_ANSWER_NONE;
	else if (route->goal.kind == GOAL_RULES)
		choose(route->goal.as.rules, request, answer);
	else
		table_target_answer(&route->goal, request, answer);
	return CP_OK;
}

static bool depends(const struct goal *goal)
{
	switch ((enum goal_kind)goal->kind) {
	case GOAL_TARGET:
	case GOAL_TARGETS:
		return false;
	case GOAL_REFERENCE:
		return goal->as.reference->template;
	case GOAL_MIXED:
	case GOAL_RULES:
		return true;
	}
	return true;
}

static int table_follow(struct cp_router *router, const struct cp_address *address, struct cp_answer *answer)
{
	const struct table *table = router->arg;
	const struct route *route = table_keys_find(&table->keys, address);
	if (!route) {
		answer->kind = CP_ANSWER_NONE;
		return CP_OK;
	}
	if (depends(&route->goal))
		return CP_AGAIN;
	table_target_answer(&route->goal, NULL, answer);
	return CP_OK;
}

const struct cp_router_def table_router_def = {
	.size = sizeof(struct cp_router_def),
	.route = table_route,
	.follow = table_follow,
};

/* ---- The type
 * -------------------------------------------------------------------------------------------- */

static const struct cp_system_def table_system = {
	.abi = CP_ABI_VERSION,
	.size = sizeof(struct cp_system_def),
	.load = table_load,
	.link = table_link,
	.check = table_check,
	.unload = table_unload,
};

static int type_load(struct cp_system *self, const struct cp_settings *settings)
{
	(void)settings;
	return cp_register_type(self, "table", &table_system);
}

const struct cp_system_def table_type_system = {
	.abi = CP_ABI_VERSION,
	.size = sizeof(struct cp_system_def),
	.id = "1e1001.connpipe.table",
	.load = type_load,
};
