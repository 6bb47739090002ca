/* Cost of looking a route up in a table: with ten routes and with a million, on one socket and on as many sockets.
 *
 * Prints nanoseconds for a look-up (the router's answer to a request, in random order), least and median of ROUNDS; the
 * time to load, both in CPU time of the thread; and memory: before and after the load, and the peak. Few and many are
 * measured in turns, since the machine may have other things to do. */
#include "base/report.h"
#include "route/request.h"
#include "system/generation.h"

#include <connpipe/system.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FEW = 10, QUESTIONS = 1 << 20, ROUNDS = 11 };

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

/** A table, and questions to it. */
struct subject {
	struct generation *generation;
	struct plan *plan;
	struct cp_arena *arena;
	const struct cp_address **questions;
	double rounds[ROUNDS]; /* nanoseconds for a look-up */
};

static double measure(const struct subject *subject)
{
	struct cp_router *router = cp_scope_router(subject->generation->scope, "front");
	struct cp_peer peer = {0};
	struct cp_request request = {0};
	struct cp_error error;
	request_init(&request, NULL, subject->generation->scope, subject->questions[0], &peer);
	double began = now();
	for (size_t i = 0; i < QUESTIONS; i++) {
		struct cp_answer answer = {0};
		request.address = subject->questions[i];
		if (router->def->route(router, &request, &answer, &error) != CP_OK || answer.kind != CP_ANSWER_TARGETS)
			abort();
	}
	double nanoseconds = (now() - began) * 1e9 / QUESTIONS;
	request_deinit(&request);
	return nanoseconds;
}

/** From now on the peak is that of what follows (proc(5), clear_refs). */
static void forget_peak(void)
{
	FILE *file = fopen("/proc/self/clear_refs", "w");
	if (!file)
		return;
	fputs("5", file);
	fclose(file);
}

static void load(struct subject *subject, uint32_t count, bool sockets)
{
	char *text = make_text(count, sockets);
	struct report report = {0};
	struct generation_source source = {.directory = "/", .text = text, .name = "bench", .mode = GENERATION_CHECK};
	forget_peak();
	double before = memory("VmRSS"), began = now();
	subject->generation = generation_load(1, &source, &report, &subject->plan);
	double loaded = now() - began;
	report_print(&report, stderr, "");
	if (!subject->generation)
		exit(1);
	printf("%8u routes, %s: load %.2f s, RSS %.0f -> %.0f MiB, peak %.0f MiB\n", count,
		   sockets ? "a socket each" : "on one socket", loaded, before, memory("VmRSS"), memory("VmHWM"));
	free(text);
	report_deinit(&report);
	subject->arena = cp_arena_new(0);
	subject->questions = make_questions(subject->generation, subject->arena, count, sockets);
}

static void unload(struct subject *subject)
{
	plan_unref(subject->plan);
	cp_arena_free(subject->arena);
	free(subject->questions);
}

static int compare(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;
	return (left > right) - (left < right);
}

static void run(uint32_t many, bool sockets)
{
	struct subject few_routes, many_routes;
	load(&few_routes, FEW, sockets);
	load(&many_routes, many, sockets);
	for (size_t i = 0; i < ROUNDS; i++) {
		few_routes.rounds[i] = measure(&few_routes);
		many_routes.rounds[i] = measure(&many_routes);
	}
	qsort(few_routes.rounds, ROUNDS, sizeof(double), compare);
	qsort(many_routes.rounds, ROUNDS, sizeof(double), compare);
	double few_median = few_routes.rounds[ROUNDS / 2], many_median = many_routes.rounds[ROUNDS / 2];
	printf("a look-up among %u: least %.0f ns, median %.0f ns; among %u: least %.0f, median %.0f; more: %.0f, %.0f\n",
		   FEW, few_routes.rounds[0], few_median, many, many_routes.rounds[0], many_median,
		   many_routes.rounds[0] - few_routes.rounds[0], many_median - few_median);
	unload(&few_routes);
	unload(&many_routes);
}

int main(int count, char **arguments)
{
	uint32_t many = count > 1 ? (uint32_t)strtoul(arguments[1], NULL, 10) : 1000000;
	run(many, false);
	run(many, true);
	return 0;
}
