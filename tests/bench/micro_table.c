/* Cost of looking a route up in a table: with ten routes and with a million, on one socket and on as many sockets.
 *
 * Prints nanoseconds for a look-up (the router's answer to a request, in random order), the time to load, both in CPU
 * time of the thread, and memory: before and after the load, after malloc_trim(), and the peak. Built by hand for now,
 * with the libraries of a release build in BUILD:
 *
 *     libs="$(pkg-config --libs libevent_core libevent_pthreads libcares jansson libsystemd) -lstdc++ -lm -pthread"
 *     cc -std=gnu11 -O2 -D_GNU_SOURCE -Iinclude -Isrc tests/bench/table_lookup.c -o table_lookup \
 *       -Wl,--start-group BUILD/libconnpipe_*.a -Wl,--end-group $libs */
#include "base/report.h"
#include "route/request.h"
#include "system/generation.h"

#include <connpipe/system.h>

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LOOKUPS = 2000000, QUESTIONS = 1 << 20 };

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/** A line of /proc/self/status, in MiB. */
static double memory(const char *name)
{
	char line[256];
	unsigned long kib = 0;
	FILE *file = fopen("/proc/self/status", "r");
	while (file && fgets(line, sizeof(line), file)) {
		if (strncmp(line, name, strlen(name)) == 0)
			sscanf(line + strlen(name), ": %lu", &kib);
	}
	if (file)
		fclose(file);
	return (double)kib / 1024;
}

static void key_text(char *text, size_t room, uint32_t i, bool sockets)
{
	if (sockets)
		snprintf(text, room, "tcp:10.%u.%u.%u:8080", i >> 16, (i >> 8) & 255, i & 255);
	else
		snprintf(text, room, "tcp:0.0.0.0:25565!service-%u", i);
}

static char *make_text(uint32_t count, bool sockets)
{
	char *text, key[64];
	size_t length;
	FILE *file = open_memstream(&text, &length);
	fprintf(file, "[front]\ntype = \"table\"\nbind = %s\n[front.routes]\n", sockets ? "false" : "true");
	for (uint32_t i = 0; i < count; i++) {
		key_text(key, sizeof(key), i, sockets);
		fprintf(file, "\"%s\" = \"tcp:10.%u.%u.%u:80\"\n", key, i >> 16, (i >> 8) & 255, i & 255);
	}
	fclose(file);
	return text;
}

static uint32_t next_random(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

/** Addresses as a worker has them: in memory of their own, in the order in which they are asked about. */
static const struct cp_address **make_questions(struct generation *generation, struct cp_arena *arena, uint32_t count,
												bool sockets)
{
	const struct cp_address **questions = malloc(QUESTIONS * sizeof(*questions));
	uint32_t state = 1;
	char key[64];
	for (size_t i = 0; i < QUESTIONS; i++) {
		struct cp_error error;
		key_text(key, sizeof(key), next_random(&state) % count, sockets);
		if (cp_address_parse(generation->scope, arena, key, strlen(key), 0, &questions[i], &error) != CP_OK)
			abort();
	}
	return questions;
}

static double measure(struct generation *generation, uint32_t count, bool sockets)
{
	struct cp_arena *arena = cp_arena_new(0);
	struct cp_router *router = cp_scope_router(generation->scope, "front");
	const struct cp_address **questions = make_questions(generation, arena, count, sockets);
	struct cp_peer peer = {0};
	struct cp_request request = {0};
	struct cp_error error;
	request_init(&request, NULL, generation->scope, questions[0], &peer);
	double began = now();
	for (size_t i = 0; i < LOOKUPS; i++) {
		struct cp_answer answer = {0};
		request.address = questions[i % QUESTIONS];
		if (router->def->route(router, &request, &answer, &error) != CP_OK || answer.kind != CP_ANSWER_TARGETS)
			abort();
	}
	double nanoseconds = (now() - began) * 1e9 / LOOKUPS;
	request_deinit(&request);
	cp_arena_free(arena);
	free(questions);
	return nanoseconds;
}

static double run(uint32_t count, bool sockets)
{
	char *text = make_text(count, sockets);
	struct report report = {0};
	struct plan *plan;
	struct generation_source source = {.directory = "/", .text = text, .name = "bench", .mode = GENERATION_CHECK};
	double before = memory("VmRSS"), began = now();
	struct generation *generation = generation_load(1, &source, &report, &plan);
	double loaded = now() - began;
	report_print(&report, stderr, "");
	if (!generation)
		exit(1);
	free(text);
	double after = memory("VmRSS");
	malloc_trim(0);
	double trimmed = memory("VmRSS");
	double nanoseconds = measure(generation, count, sockets);
	printf("%8u routes, %s: %6.1f ns a look-up, load %.3f s, RSS %.0f -> %.0f MiB (trimmed %.0f), peak %.0f MiB\n",
		   count, sockets ? "a socket each" : "on one socket", nanoseconds, loaded, before, after, trimmed,
		   memory("VmHWM"));
	plan_unref(plan);
	report_deinit(&report);
	return nanoseconds;
}

int main(int count, char **arguments)
{
	uint32_t many = count > 1 ? (uint32_t)strtoul(arguments[1], NULL, 10) : 1000000;
	double few_names = run(10, false), few_sockets = run(10, true);
	double names = run(many, false), sockets = run(many, true);
	printf("more than with ten: %.0f ns on one socket, %.0f ns on as many sockets\n", names - few_names,
		   sockets - few_sockets);
	return 0;
}
