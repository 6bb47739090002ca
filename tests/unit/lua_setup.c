#include "lua.h"

#include "loop/loop.h"
#include "system/system.h"

#include <connpipe/system.h>

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void write_script(const struct lua_test *test, const char *text)
{
	char path[64];
	snprintf(path, sizeof(path), "%s/main.lua", test->directory);
	FILE *file = fopen(path, "w");
	cr_assert(file);
	fprintf(file, "local connpipe = require 'connpipe'\n%s\n", text);
	fclose(file);
}

void lua_test_script(struct lua_test *test, const char *text)
{
	static const char config[] =
		"[script]\ntype = \"lua\"\npath = \"main.lua\"\nbudget = \"20ms\"\nmemory = \"2MiB\"\n";
	struct cp_error error = {0};
	*test = (struct lua_test){.directory = "/tmp/connpipe-lua-XXXXXX"};
	cr_assert(mkdtemp(test->directory));
	write_script(test, text);
	test->loop = loop_new(0, &error);
	cr_assert(test->loop, "%s", error.message);
	loop_set_workers(&test->loop, 1);
	struct generation_source source = {.directory = test->directory, .text = config, .name = "config.toml"};
	test->generation = generation_load(1, &source, &test->report, &test->plan);
	report_print(&test->report, stderr, "");
	cr_assert(test->generation, "it loads");
	cr_assert_eq(generation_worker_start(test->generation, test->loop, &error), CP_OK, "%s", error.message);
}

void lua_test_router(struct lua_test *test, const char *body)
{
	char *text;
	cr_assert(asprintf(&text, "connpipe.router { id = 'main', route = function(request)\n%s\nend }", body) > 0);
	lua_test_script(test, text);
	free(text);
}

/** Without a main task nobody stops the systems on the workers: done here. */
void lua_test_end(struct lua_test *test)
{
	char path[64];
	for (uint32_t i = test->generation->system_count; i-- > 0;) {
		const struct cp_system_def *def = test->generation->systems[i]->def;
		if (def->worker_stop)
			def->worker_stop(test->generation->systems[i], test->loop);
	}
	test->generation->started[0] = false;
	plan_unref(test->plan);
	loop_set_workers(NULL, 0);
	loop_free(test->loop);
	report_deinit(&test->report);
	snprintf(path, sizeof(path), "%s/main.lua", test->directory);
	unlink(path);
	rmdir(test->directory);
}

static void print_answer(struct lua_test *test, const struct routing *routing)
{
	size_t length = 0;
	if (routing->result != CP_OK) {
		snprintf(test->answer, sizeof(test->answer), "%s: %s", cp_cause_text(routing->cause), routing->error.message);
		return;
	}
	for (uint32_t i = 0; i < routing->answer.target_count; i++) {
		length += (size_t)snprintf(test->answer + length, sizeof(test->answer) - length, "%s", i ? ", " : "");
		length += cp_address_print(routing->answer.targets[i], test->answer + length, sizeof(test->answer) - length);
	}
}

static void no_change(struct routing *routing)
{
	(void)routing;
}

const char *lua_test_ask(struct lua_test *test, const char *router, const char *peer)
{
	static const char text[] = "tcp:127.0.0.1:7000";
	struct cp_arena *arena = cp_arena_new(0);
	const struct cp_address *address;
	struct cp_error error;
	struct cp_peer from = {.port = 1234};
	struct cp_request request = {0};
	struct routing routing = {0};
	cr_assert(cp_ip_parse(peer, strlen(peer), &from.ip));
	cr_assert_eq(cp_address_parse(test->generation->scope, arena, text, strlen(text), 0, &address, &error), CP_OK);
	request_init(&request, test->loop, test->generation->scope, address, &from);
	routing_start(&routing, &request, cp_scope_router(test->generation->scope, router), no_change, NULL);
	print_answer(test, &routing);
	request_deinit(&request);
	cp_arena_free(arena);
	return test->answer;
}
