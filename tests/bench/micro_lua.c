/* Decisions per second of a router in Lua on one worker, without the JIT; beside them a table that decides the same.
 *
 * The loop asks the router as the core does, and counts the request's setting up and resetting for both. Prints
 * nanoseconds of CPU time for a decision (least and median of ROUNDS) and decisions per second, and exits with 1 if a
 * router makes fewer than EXPECTED. */
#include "base/report.h"
#include "loop/loop.h"
#include "route/routing.h"
#include "system/generation.h"

#include <connpipe/system.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { QUESTIONS = 200000, ROUNDS = 11, EXPECTED = 200000 };

static const char *const routers[] = {"table", "text", "typical", "fields"};
enum { ROUTERS = sizeof(routers) / sizeof(*routers) };

static const char config[] = "[table]\ntype = \"table\"\nbind = false\n[table.routes]\n"
							 "\"tcp:127.0.0.1:25565!ssh\" = \"tcp:$4:22\"\n"
							 "[script]\ntype = \"lua\"\npath = \"main.lua\"\n";

static const char script[] = "local connpipe = require 'connpipe'\n"
							 "connpipe.router { id = 'text', route = function() return 'tcp:$4:22' end }\n"
							 "connpipe.router { id = 'typical', route = function(request)\n"
							 "  local a = request.address\n"
							 "  if request.peer.addr == '192.0.2.1' then return nil, 'banned' end\n"
							 "  if a.multiplex == 'ssh' then return 'tcp:$4:22' end\n"
							 "  return { 'tcp:10.0.0.2:80', 'tcp:10.0.0.3:80' }\n"
							 "end }\n"
							 "connpipe.router { id = 'fields', route = function(request)\n"
							 "  return { connector = 'tcp', addr = '127.0.0.1', port = request.address.port }\n"
							 "end }\n";

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void no_change(struct routing *routing)
{
	(void)routing;
}

static double measure(struct generation *generation, struct cp_loop *loop, const struct cp_address *address,
					  const char *name)
{
	struct cp_router *router = cp_scope_router(generation->scope, name);
	struct cp_peer peer = {.ip = {.family = 4, .bytes = {127, 0, 0, 1}}, .port = 1234};
	struct cp_request request = {0};
	struct routing routing = {0};
	double began = now();
	for (size_t i = 0; i < QUESTIONS; i++) {
		request_init(&request, loop, generation->scope, address, &peer);
		if (routing_start(&routing, &request, router, no_change, NULL) != CP_OK)
			abort();
		request_reset(&request);
	}
	double nanoseconds = (now() - began) * 1e9 / QUESTIONS;
	request_deinit(&request);
	return nanoseconds;
}

static int compare(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;
	return (left > right) - (left < right);
}

/** @return whether it decides as fast as expected */
static bool report_router(const char *name, double *rounds)
{
	qsort(rounds, ROUNDS, sizeof(double), compare);
	double median = rounds[ROUNDS / 2], rate = 1e9 / median;
	printf("%-8s least %5.0f ns, median %5.0f ns, %8.0f decisions a second\n", name, rounds[0], median, rate);
	return rate >= EXPECTED;
}

static bool run(struct generation *generation, struct cp_loop *loop)
{
	static const char text[] = "tcp:127.0.0.1:25565!ssh";
	double rounds[ROUTERS][ROUNDS];
	const struct cp_address *address;
	struct cp_error error;
	bool good = true;
	struct cp_arena *arena = cp_arena_new(0);
	if (cp_address_parse(generation->scope, arena, text, strlen(text), 0, &address, &error) != CP_OK)
		abort();
	for (size_t i = 0; i < ROUNDS; i++)
		for (size_t j = 0; j < ROUTERS; j++)
			rounds[j][i] = measure(generation, loop, address, routers[j]);
	for (size_t j = 0; j < ROUTERS; j++)
		good &= report_router(routers[j], rounds[j]);
	cp_arena_free(arena);
	return good;
}

static void write_script(const char *directory)
{
	char path[64];
	snprintf(path, sizeof(path), "%s/main.lua", directory);
	FILE *file = fopen(path, "w");
	if (!file || fputs(script, file) < 0 || fclose(file) != 0)
		abort();
}

static void remove_script(const char *directory)
{
	char path[64];
	snprintf(path, sizeof(path), "%s/main.lua", directory);
	unlink(path);
	rmdir(directory);
}

int main(void)
{
	char directory[] = "/tmp/connpipe-bench-XXXXXX";
	struct cp_error error = {0};
	struct report report = {0};
	struct plan *plan;
	struct cp_loop *loop = loop_new(0, &error);
	if (!loop || !mkdtemp(directory))
		return 1;
	loop_set_workers(&loop, 1);
	write_script(directory);
	struct generation_source source = {.directory = directory, .text = config, .name = "bench"};
	struct generation *generation = generation_load(1, &source, &report, &plan);
	report_print(&report, stderr, "");
	remove_script(directory);
	if (!generation || generation_worker_start(generation, loop, &error) != CP_OK)
		return 1;
	if (run(generation, loop))
		return 0;
	printf("expected: at least %d\n", EXPECTED);
	return 1;
}
