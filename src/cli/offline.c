#include "offline.h"
#include "cli.h"

#include <stdio.h>
#include <string.h>

static int make_loop(struct offline *offline)
{
	struct cp_error error = {0};

	if (resolver_library_init(&error) != CP_OK)
		return cli_error("%s", error.message);
	offline->loop = loop_new(0, &error);
	if (!offline->loop)
		return cli_error("%s", error.message);
	loop_set_main(offline->loop);
	loop_set_workers(&offline->loop, 1);
	return CLI_OK;
}

static void free_loop(struct offline *offline)
{
	blocking_stop();
	if (offline->loop)
		loop_free(offline->loop);
	resolver_library_deinit();
}

/** Retiring is done by offline_close(). */
static void on_plan_released(struct plan *plan)
{
	generation_release_plan(plan);
}

static const struct generation_hooks hooks = {.plan_released = on_plan_released};

static int print_errors(const struct offline *offline, const char *directory)
{
	size_t count = offline->report.count + offline->report.dropped;

	report_print(&offline->report, stderr, "");
	return cli_error("configuration %s: %zu error%s", directory, count, count == 1 ? "" : "s");
}

int offline_open(struct offline *offline, const char *directory)
{
	struct generation_source source = {.directory = directory, .mode = GENERATION_CHECK, .hooks = &hooks};

	memset(offline, 0, sizeof(*offline));
	if (make_loop(offline) != CLI_OK)
		return CLI_FAILED;
	offline->generation = generation_load(1, &source, &offline->report, &offline->plan);
	if (!offline->generation) {
		print_errors(offline, directory);
		offline_close(offline);
		return CLI_FAILED;
	}
	return CLI_OK;
}

int offline_start(struct offline *offline)
{
	struct cp_error error = {0};

	offline->started = true;
	if (generation_worker_start(offline->generation, offline->loop, &error) == CP_OK)
		return CLI_OK;
	return cli_error("%s", error.message);
}

static void on_retired(uint64_t number, void *arg)
{
	struct offline *offline = arg;

	(void)number;
	offline->generation = NULL;
	loop_stop(offline->loop);
}

void offline_close(struct offline *offline)
{
	if (offline->generation) {
		plan_unref(offline->plan);
		generation_retire(offline->generation, offline->started, on_retired, offline);
		if (offline->generation)
			loop_run(offline->loop);
	}
	free_loop(offline);
	report_deinit(&offline->report);
}
