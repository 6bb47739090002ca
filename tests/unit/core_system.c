/* The core system as a part of a generation: what it exports, and that it outlives its children. */
#include "core_fixture.h"

#include "system/generation.h"

#include <errno.h>
#include <signal.h>

static void on_plan_released(struct plan *plan)
{
	generation_release_plan(plan);
}

static const struct generation_hooks hooks = {.plan_released = on_plan_released};

static struct generation *generation;
static struct plan *plan;

static void start_generation(void)
{
	struct report report = {0};
	struct cp_error error = {0};
	fixture_start();
	struct generation_source source = {
		.directory = fixture.dir, .text = "", .name = "test", .mode = GENERATION_RUN, .hooks = &hooks};
	loop_set_main(fixture.loop);
	loop_set_workers(&fixture.loop, 1);
	generation = generation_load(1, &source, &report, &plan);
	report_print(&report, stderr, "");
	report_deinit(&report);
	cr_assert(generation);
	cr_assert_eq(generation_worker_start(generation, fixture.loop, &error), CP_OK);
}

static void on_retired(uint64_t number, void *arg)
{
	(void)number;
	*(bool *)arg = true;
	loop_stop(fixture.loop);
}

static void retire(void)
{
	bool gone = false;
	plan_unref(plan);
	generation_retire(generation, true, on_retired, &gone);
	run_until(&gone);
}

TestSuite(core_system, .init = start_generation, .fini = fixture_stop);

Test(core_system, exports_its_connectors)
{
	static const char *const names[] = {"tcp", "unix", "exec", "echo", "discard", "reject"};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct cp_error error = {0};
		char qualified[64];
		const char *alias;
		struct cp_connector *connector;
		snprintf(qualified, sizeof(qualified), "1e1001.connpipe.core.%s", names[i]);
		connector = scope_find_connector(generation->scope, names[i], strlen(names[i]), &alias, &error);
		cr_expect(connector, "%s", error.message);
		cr_expect_eq(scope_find_connector(generation->scope, qualified, strlen(qualified), &alias, &error), connector);
		cr_expect_str_eq(alias, names[i]);
	}
	retire();
}

Test(core_system, is_unloaded_when_its_children_have_ended)
{
	const struct cp_address *address = NULL;
	struct cp_error error = {0};
	struct connecting c;
	struct reader reader = {0};
	const char *text = "exec:sh -c 'echo $$; exec sleep 1000'";
	cr_assert_eq(cp_address_parse(generation->scope, fixture.arena, text, strlen(text), 0, &address, &error), CP_OK);
	cr_assert_eq(connect_start(&c, address, 0, NULL), CP_OK, "%s", c.open.error.message);
	do
		read_until(&reader, c.open.stream, reader.length + 1);
	while (!strchr(reader.got, '\n'));
	pid_t pid = atoi(reader.got);
	cp_stream_close(c.open.stream, CP_CAUSE_DONE);
	run_turns(2);
	cr_expect_eq(kill(pid, 0), 0, "an orderly close leaves it alone");
	retire();
	cr_expect(kill(pid, 0) < 0 && errno == ESRCH, "told to end, and reaped before the system went");
	free(reader.got);
}
