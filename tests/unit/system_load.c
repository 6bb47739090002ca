#include "system_fake.h"

#include "system/system.h"

#include <connpipe/system.h>

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static struct fake_load load;

static void teardown(void)
{
	report_deinit(&load.report);
	if (load.plan)
		plan_unref(load.plan); /* without a main task this retires the generation */
}

TestSuite(system_load, .fini = teardown);

/* ---- Order -------------------------------------------------------------------------------------------------- */

Test(system_load, phases_run_one_after_the_other_in_the_order_of_the_file)
{
	fake_load(&load, "[b]\ntype = 'fake'\n[a]\ntype = 'fake'\n", NULL);
	cr_assert_not_null(load.generation);
	cr_assert_str_eq(diary_take(), "load base, load b, load a, link b, link a, check b, check a");
	cr_assert_eq(load.generation->state, GENERATION_READY);
}

Test(system_load, unloads_in_reverse_order_with_its_last_plan)
{
	fake_load(&load, "[b]\ntype = 'fake'\n[a]\ntype = 'fake'\n", NULL);
	struct plan *second = generation_replan(load.generation, &load.report);
	diary_take();
	plan_unref(load.plan);
	cr_assert_str_eq(diary_take(), "");
	plan_unref(second);
	cr_assert_str_eq(diary_take(), "unload a, unload b, unload base");
	load.plan = NULL;
}

Test(system_load, child_is_loaded_after_its_parent_and_before_the_next_table)
{
	fake_load(&load, "[a]\ntype = 'fake'\nchild = 'c'\n[b]\ntype = 'fake'\n", NULL);
	cr_assert_not_null(load.generation);
	cr_assert_str_eq(diary_take(), "load base, load a, load c, load b, link a, link b, check a, check b");
}

static int extra_load(struct cp_system *self, const struct cp_settings *settings)
{
	cr_assert_null(settings);
	diary_note("load %s", cp_system_id(self));
	return CP_OK;
}

static const struct cp_system_def extra_system = {
	.abi = CP_ABI_VERSION, .size = sizeof(extra_system), .id = "extra", .load = extra_load};

Test(system_load, extra_systems_come_between_builtin_ones_and_tables)
{
	fake_load_extra(&load, "[a]\ntype = 'fake'\n", (const struct cp_system_def *const[]){&extra_system, NULL});
	cr_assert_not_null(load.generation);
	cr_assert_str_eq(diary_take(), "load base, load extra, load a, link a, check a");
}

/* ---- Phases that fail --------------------------------------------------------------------------------------- */

Test(system_load, failed_load_leaves_its_system_out_and_goes_on_with_the_others)
{
	fake_load(&load, "[a]\ntype = 'fake'\nfail = 'load'\n[b]\ntype = 'fake'\n", NULL);
	cr_assert_null(load.generation);
	cr_assert(fake_load_error(&load, "t:1:2", "system \"a\": does not like to load"));
	cr_assert_str_eq(diary_take(), "load base, load a, load b, link b, check b, unload b, unload a, unload base");
}

Test(system_load, failed_link_leaves_its_system_out_of_check)
{
	fake_load(&load, "[a]\ntype = 'fake'\nfail = 'link'\n[b]\ntype = 'fake'\nfail = 'check'\n", NULL);
	cr_assert_null(load.generation);
	cr_assert_eq(load.report.count, 2);
	cr_assert(fake_load_error(&load, "t:1:2", "does not like to link"));
	cr_assert(fake_load_error(&load, "t:4:2", "does not like to check"));
	cr_assert_str_eq(diary_take(),
					 "load base, load a, load b, link a, link b, check b, unload b, unload a, unload base");
}

Test(system_load, failure_without_words_gets_some)
{
	fake_load(&load, "[a]\ntype = 'fake'\nfail = 'check'\nsilent = true\n", NULL);
	cr_assert_null(load.generation);
	cr_assert(fake_load_error(&load, "t:1:2", "system \"a\": checking failed: input/output error"));
}

Test(system_load, errors_of_all_phases_are_reported_together)
{
	fake_load(&load,
			  "[a]\ntype = 'fake'\nbind = ['fake:h:1', 'fuke:h:2']\n"
			  "[b]\ntype = 'fake'\nbind = ['fake:h:1']\ncolour = 'red'\n"
			  "[c]\ntype = 'fake'\nfail = 'check'\n",
			  NULL);
	cr_assert_null(load.generation);
	cr_assert_eq(load.report.count, 4);
	cr_assert(fake_load_error(&load, "t:3:21", "fuke"));
	cr_assert(fake_load_error(&load, "t:6:9", "the routers \"a\" (first at t:3:9) and \"b\" both claim it"));
	cr_assert(fake_load_error(&load, "t:7:1", "colour"));
	cr_assert(fake_load_error(&load, "t:8:2", "does not like to check"));
}

Test(system_load, unknown_keys_of_a_system_that_gave_up_are_not_its_fault)
{
	fake_load(&load, "[a]\ntype = 'fake'\nfail = 'load'\ncolour = 'red'\n", NULL);
	cr_assert_eq(load.report.count, 1);
}

Test(system_load, configuration_that_cannot_be_parsed)
{
	fake_load(&load, "[a\n", NULL);
	cr_assert_null(load.generation);
	cr_assert_str_eq(diary_take(), "");
}

Test(system_load, key_outside_of_every_table)
{
	fake_load(&load, "colour = 'red'\n[a]\ntype = 'fake'\n", NULL);
	cr_assert_null(load.generation);
	cr_assert_eq(load.report.count, 1);
	cr_assert(fake_load_error(&load, "t:1:10", "expected a table"));
}

/* ---- Types -------------------------------------------------------------------------------------------------- */

Test(system_load, unknown_type_with_a_near_name)
{
	fake_load(&load, "[a]\ntype = 'fak'\n", NULL);
	cr_assert(fake_load_error(&load, "t:2:8", "there is no type \"fak\"; did you mean \"fake\"?"));
}

Test(system_load, missing_type)
{
	fake_load(&load, "[a]\nbind = []\n", NULL);
	cr_assert_eq(load.report.count, 1);
	cr_assert(strstr(load.report.entries[0].message, "expected a key `type`"));
}

Test(system_load, type_of_the_wrong_kind)
{
	fake_load(&load, "[a]\ntype = 7\n", NULL);
	cr_assert(fake_load_error(&load, "t:2:8", "string"));
}

/* ---- Definitions that do not fit ---------------------------------------------------------------------------- */

static const struct cp_system_def foreign_system = {
	.abi = CP_ABI_VERSION + 7, .size = sizeof(foreign_system), .id = "foreign", .load = extra_load};
static const struct cp_system_def short_system = {.abi = CP_ABI_VERSION, .size = 8, .id = "short", .load = extra_load};

Test(system_load, other_interface_version_is_refused_with_both_numbers)
{
	fake_load_extra(&load, "", (const struct cp_system_def *const[]){&foreign_system, NULL});
	char words[128];
	snprintf(words, sizeof(words), "version %u of the interface, this program has version %u", CP_ABI_VERSION + 7,
			 CP_ABI_VERSION);
	cr_assert(fake_load_error(&load, "", words));
	cr_assert_eq(diary_count("load foreign"), 0);
}

Test(system_load, definition_that_is_too_short_is_refused_with_both_numbers)
{
	fake_load_extra(&load, "", (const struct cp_system_def *const[]){&short_system, NULL});
	char words[128];
	snprintf(words, sizeof(words), "has 8 bytes, this program needs %zu", sizeof(struct cp_system_def));
	cr_assert(fake_load_error(&load, "", words));
}

Test(system_load, id_that_no_address_could_name)
{
	fake_load(&load, "['a b']\ntype = 'fake'\n", NULL);
	cr_assert(fake_load_error(&load, "t:1:2", "its id contains a space"));
}

/* ---- One id, twice ------------------------------------------------------------------------------------------ */

Test(system_load, second_system_from_the_same_origin_is_dropped)
{
	fake_load(&load, "[a]\ntype = 'fake'\nchild = 'c'\ntwice = true\n[b]\ntype = 'fake'\nchild = 'c'\n", NULL);
	cr_assert_not_null(load.generation);
	cr_assert_eq(diary_count("load c"), 1);
}

Test(system_load, second_system_from_another_origin_names_both_places)
{
	fake_load(&load, "[a]\ntype = 'fake'\n[b]\ntype = 'fake'\nchild = 'a'\n", NULL);
	cr_assert_null(load.generation);
	cr_assert(fake_load_error(&load, "", "the id is taken by another system (t:1:2; this one: registered by \"b\")"));
}

Test(system_load, table_with_the_id_of_a_builtin_system)
{
	fake_load(&load, "[base]\ntype = 'fake'\n", NULL);
	cr_assert(fake_load_error(&load, "t:1:2", "taken by another system (compiled in; this one: t:1:2)"));
}

Test(system_load, two_routers_of_one_id_name_both_systems)
{
	fake_load(&load, "[a]\ntype = 'fake'\nbind = []\n[b]\ntype = 'fake'\nrouter = 'a'\nbind = []\n", NULL);
	cr_assert(fake_load_error(&load, "t:4:2", "a router \"a\" is there already, of the system \"a\" (t:1:2)"));
}

Test(system_load, registering_after_load_is_refused)
{
	fake_load(&load, "[a]\ntype = 'fake'\nlate = true\n", NULL);
	cr_assert(fake_load_error(&load, "t:1:2", "registers a router after its load"));
}

/* ---- What is there afterwards ------------------------------------------------------------------------------- */

Test(system_load, plan_has_what_routers_bound)
{
	fake_load(&load, "[a]\ntype = 'fake'\nbind = ['fake:h:1!x', 'fake:h:2']\n[b]\ntype = 'fake'\nbind = ['fake:h:1']\n",
			  NULL);
	cr_assert_not_null(load.generation);
	cr_assert_eq(load.plan->count, 2);
	struct binding *first = plan_find(load.plan, "fake:h:1");
	cr_assert_str_eq(binding_router(first, NULL, "x", 1)->id, "a");
	cr_assert_str_eq(binding_router(first, NULL, NULL, 0)->id, "b");
	cr_assert_eq(cp_scope_router(load.generation->scope, "b"), binding_router(first, NULL, NULL, 0));
	cr_assert_eq(binding_router(first, NULL, NULL, 0)->system, fake_system(&load, "b"));
}

Test(system_load, binding_after_loading_is_refused)
{
	fake_load(&load, "[a]\ntype = 'fake'\nbind = ['fake:h:1']\n", NULL);
	struct binding *binding = plan_find(load.plan, "fake:h:1");
	cr_assert_eq(cp_router_bind(binding->root.plain, binding->address, NULL), CP_EINVAL);
	cr_assert_eq(load.generation->claim_count, 1);
}

Test(system_load, a_pinned_system_stays_when_there_is_nothing_to_wait_with)
{
	static struct generation *left; /* keeps what stays reachable for leak checkers */
	fake_load(&load, "[a]\ntype = 'fake'\n[b]\ntype = 'fake'\n", NULL);
	left = load.generation;
	cp_system_pin(fake_system(&load, "a"));
	diary_take();
	plan_unref(load.plan);
	cr_assert_str_eq(diary_take(), "unload b, unload base");
	load.plan = NULL;
	cr_assert_not_null(left);
}
