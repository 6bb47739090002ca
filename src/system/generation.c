#include "system.h"

#include "../address/scope.h"
#include "../base/memory.h"
#include "../config/config.h"

#include <connpipe/log.h>

#include <stdio.h>
#include <stdlib.h>
#include <malloc.h>
#include <string.h>

enum { ARENA_FIRST = 8192 };

static const struct generation_hooks no_hooks;

/* ---- The object --------------------------------------------------------------------------------------------- */

void generation_push_system(struct generation *generation, struct cp_system *system)
{
	if (generation->system_count == generation->system_room) {
		generation->system_room = generation->system_room ? 2 * generation->system_room : 16;
		generation->systems = xreallocarray(generation->systems, generation->system_room, sizeof(*generation->systems));
	}
	generation->systems[generation->system_count++] = system;
}

void generation_push_claim(struct generation *generation, const struct claim *claim)
{
	if (generation->claim_count == generation->claim_room) {
		generation->claim_room = generation->claim_room ? 2 * generation->claim_room : 16;
		generation->claims = xreallocarray(generation->claims, generation->claim_room, sizeof(*generation->claims));
	}
	generation->claims[generation->claim_count++] = *claim;
}

static struct generation *generation_new(uint64_t number, const struct generation_source *source, struct config *config,
										 struct report *report)
{
	struct generation *generation = xcalloc(1, sizeof(*generation));
	generation->number = number;
	generation->mode = source->mode;
	generation->state = GENERATION_LOADING;
	generation->hooks = source->hooks ? source->hooks : &no_hooks;
	atomic_init(&generation->refs, 0);
	generation->config = config;
	generation->report = report;
	generation->directory = xstrdup(config_directory(config));
	generation->arena = cp_arena_new(ARENA_FIRST);
	generation->scope = scope_new(generation->directory);
	process_settings_read(config, &generation->settings);
	if (generation->hooks->settings)
		generation->hooks->settings(&generation->settings, report);
	/* The loops may be there already or be made after the number in these settings. */
	uint32_t loops = cp_worker_count();
	generation->worker_count = loops > generation->settings.workers ? loops : generation->settings.workers;
	generation->started = xcalloc(generation->worker_count + 1, sizeof(*generation->started));
	return generation;
}

static void free_addresses(const struct generation *generation)
{
	const struct cp_router *router;
	const char *system_id;
	for (size_t i = 0; (router = scope_router_at(generation->scope, i, &system_id)); i++) {
		struct cp_arena *addresses = ((const struct registered_router *)router)->addresses;
		if (addresses)
			cp_arena_free(addresses);
	}
}

void generation_free(struct generation *generation)
{
	free_addresses(generation);
	scope_free(generation->scope);
	cp_arena_free(generation->arena);
	process_settings_deinit(&generation->settings);
	free(generation->systems);
	free(generation->claims);
	free(generation->started);
	free(generation->directory);
	free(generation);
}

/* ---- Phases ------------------------------------------------------------------------------------------------- */

/** After a phase of one system: a failure without words gets some, so that no load fails silently. */
static void phase_ended(struct cp_system *system, const char *phase, int result, size_t errors_before)
{
	if (result == CP_OK)
		return;
	system->failed = true;
	if (report_errors(system->generation->report) == errors_before)
		cp_system_error(system, "%s failed: %s", phase, cp_err_text((enum cp_err)result));
}

static void load(struct cp_system *system)
{
	size_t errors = report_errors(system->generation->report);
	system->loaded = true;
	int result = system->def->load ? system->def->load(system, system->settings) : CP_OK;
	phase_ended(system, "loading", result, errors);
}

/** Load the systems that were added since `done`: the last call's end. Loading one may add more. */
static uint32_t load_from(struct generation *generation, uint32_t done)
{
	for (; done < generation->system_count; done++)
		load(generation->systems[done]);
	return done;
}

static void link_or_check(struct generation *generation, enum generation_state state)
{
	bool linking = state == GENERATION_LINKING;
	generation->state = state;
	for (uint32_t i = 0; i < generation->system_count; i++) {
		struct cp_system *system = generation->systems[i];
		int (*phase)(struct cp_system *) = linking ? system->def->link : system->def->check;
		if (system->failed || !phase)
			continue;
		size_t errors = report_errors(generation->report);
		phase_ended(system, linking ? "linking" : "checking", phase(system), errors);
	}
}

/* ---- From the configuration to systems ---------------------------------------------------------------------- */

static void report_unknown_type(const struct generation *generation, const struct cp_settings *value, const char *name)
{
	size_t count = 0;
	for (const struct type_entry *type = generation->types; type; type = type->next)
		count++;
	const char **names = xcalloc(count + 1, sizeof(*names));
	for (const struct type_entry *type = generation->types; type; type = type->next)
		names[--count] = type->name; /* in the order of registering */
	const char *near = cp_near_name(name, names);
	if (near)
		cp_settings_error(value, "there is no type \"%s\"; did you mean \"%s\"?", name, near);
	else if (names[0])
		cp_settings_error(value, "there is no type \"%s\"; one that there is: \"%s\"", name, names[0]);
	else
		cp_settings_error(value, "there is no type \"%s\"", name);
	free(names);
}

static void add_table(struct generation *generation, const struct cp_settings *table)
{
	const struct cp_settings *value = cp_settings_get(table, "type");
	const char *name;
	size_t length;
	if (!value)
		cp_settings_error(table, "the table [%s] does not say what kind of system it is: expected a key `type`",
						  cp_settings_key(table));
	if (!value || !cp_settings_string(value, &name, &length))
		return;
	const struct type_entry *type = generation_find_type(generation, name);
	if (type)
		generation_add_system(generation, type->def, cp_settings_key(table), table, type->system);
	else
		report_unknown_type(generation, value, name);
}

/** The system itself is compiled in: its place is not that of its settings, so these are added behind. */
static void add_builtin(struct generation *generation, const struct builtin_system *builtin)
{
	const struct cp_system_def *def = builtin->def;
	if (generation_add_system(generation, def, def->id, NULL, NULL) == CP_OK && builtin->table)
		generation->systems[generation->system_count - 1]->settings =
			process_settings_table(generation->config, builtin->table);
}

static void add_extra(struct generation *generation, const struct cp_system_def *const *defs)
{
	for (; defs && *defs; defs++)
		generation_add_system(generation, *defs, (*defs)->id, NULL, NULL);
}

static void load_all(struct generation *generation, const struct generation_source *source)
{
	uint32_t done = 0;
	for (const struct builtin_system *builtin = builtin_systems; builtin->def; builtin++)
		add_builtin(generation, builtin);
	done = load_from(generation, done);
	add_extra(generation, source->extra);
	done = load_from(generation, done);
	const struct cp_settings *table;
	for (size_t i = 0; (table = config_system(generation->config, i)); i++) {
		add_table(generation, table);
		done = load_from(generation, done);
	}
}

/** Unknown keys: only now is it certain which keys were asked for. Not for a system that has failed: it may have given
 * up before it asked. Not for settings that a parent shares with its child: the parent's turn is enough. Not for
 * [connpipe] as a whole, which has had its turn; the core system finishes the tables in it that are its own. */
static void finish_settings(const struct generation *generation)
{
	const struct cp_settings *whole = process_settings_table(generation->config, "");
	for (uint32_t i = 0; i < generation->system_count; i++) {
		const struct cp_system *system = generation->systems[i];
		bool shared = system->parent && system->parent->settings == system->settings;
		if (system->settings && !system->failed && !shared && system->settings != whole)
			cp_settings_finish(system->settings);
	}
}

/** The settings end with the load; nothing may point into them afterwards. */
static void end_of_load(struct generation *generation)
{
	for (uint32_t i = 0; i < generation->system_count; i++)
		generation->systems[i]->settings = NULL;
	for (size_t i = 0; i < generation->claim_count; i++)
		generation->claims[i].where = NULL;
	config_free(generation->config);
	malloc_trim(0); /* the parse tree of a large table leaves large holes */
	generation->config = NULL;
	generation->report = NULL;
}

struct generation *generation_load(uint64_t number, const struct generation_source *source, struct report *report,
								   struct plan **plan)
{
	*plan = NULL;
	size_t errors = report_errors(report);
	struct config *config = config_read(source->directory, source->text, source->name, report);
	if (!config)
		return NULL;
	struct generation *generation = generation_new(number, source, config, report);
	load_all(generation, source);
	link_or_check(generation, GENERATION_LINKING);
	link_or_check(generation, GENERATION_CHECKING);
	finish_settings(generation);
	struct plan *first = generation_replan(generation, report);
	end_of_load(generation);
	if (report_errors(report) == errors) {
		generation->state = GENERATION_READY;
		*plan = first;
		return generation;
	}
	if (first)
		plan_free(first);
	retire_now(generation);
	return NULL;
}

/* ---- Plans -------------------------------------------------------------------------------------------------- */

/** For generations without a main task: nobody else looks after them. */
static void release_and_retire(struct plan *plan)
{
	struct generation *generation = plan->generation;
	if (generation_release_plan(plan))
		generation_retire(generation, true, NULL, NULL);
}

struct plan *generation_replan(struct generation *generation, struct report *report)
{
	struct plan *plan = plan_new(generation, generation->claims, generation->claim_count, report);
	if (!plan)
		return NULL;
	plan->released = generation->hooks->plan_released ? generation->hooks->plan_released : release_and_retire;
	atomic_fetch_add(&generation->refs, 1);
	return plan;
}

bool generation_release_plan(struct plan *plan)
{
	struct generation *generation = plan->generation;
	plan_free(plan);
	return atomic_fetch_sub(&generation->refs, 1) == 1;
}

/* ---- Workers ------------------------------------------------------------------------------------------------ */

static void stop_before(struct generation *generation, uint32_t failed, struct cp_loop *loop)
{
	for (uint32_t i = failed; i-- > 0;)
		if (generation->systems[i]->def->worker_stop)
			generation->systems[i]->def->worker_stop(generation->systems[i], loop);
}

int generation_worker_start(struct generation *generation, struct cp_loop *loop, struct cp_error *error)
{
	uint32_t index = cp_loop_index(loop);
	if (index >= generation->worker_count)
		return cp_error_set(error, CP_EINVAL, NULL, "worker %u is not one of the %u that there are", index,
							generation->worker_count);
	for (uint32_t i = 0; i < generation->system_count; i++) {
		struct cp_system *system = generation->systems[i];
		int result = system->def->worker_start ? system->def->worker_start(system, loop) : CP_OK;
		if (result == CP_OK)
			continue;
		stop_before(generation, i, loop);
		return cp_error_set(error, (enum cp_err)result, system->where, "system \"%s\" does not start on worker %u: %s",
							system->id, index, cp_err_text((enum cp_err)result));
	}
	atomic_store(&generation->started[index], true);
	return CP_OK;
}
