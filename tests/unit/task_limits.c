/* Limits: in all, per source, and rate per source, by one thread and by several at once. */
#include "task/limits.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static struct cp_ip ip(const char *text)
{
	struct cp_ip result = {0};
	cr_assert(cp_ip_parse(text, strlen(text), &result), "%s", text);
	return result;
}

static enum cp_cause enter(struct limits *limits, const char *source, uint32_t most, uint32_t rate, uint64_t now)
{
	struct cp_ip address = ip(source);
	return limits_source_enter(limits, &address, most, rate, now);
}

static void leave(struct limits *limits, const char *source)
{
	struct cp_ip address = ip(source);
	limits_source_leave(limits, &address);
}

Test(task_limits, in_all)
{
	struct limits *limits = limits_new();
	cr_assert(limits_enter(limits, LIMITS_CONNECTIONS, 2));
	cr_assert(limits_enter(limits, LIMITS_CONNECTIONS, 2));
	cr_assert_not(limits_enter(limits, LIMITS_CONNECTIONS, 2));
	cr_assert_eq(limits_open(limits, LIMITS_CONNECTIONS), 2, "the refused one is not counted");
	limits_leave(limits, LIMITS_CONNECTIONS);
	cr_assert(limits_enter(limits, LIMITS_CONNECTIONS, 2));
	limits_free(limits);
}

Test(task_limits, sessions_are_counted_for_themselves)
{
	struct limits *limits = limits_new();
	cr_assert(limits_enter(limits, LIMITS_CONNECTIONS, 1));
	cr_assert(limits_enter(limits, LIMITS_SESSIONS, 1));
	cr_assert_not(limits_enter(limits, LIMITS_SESSIONS, 1));
	limits_leave(limits, LIMITS_CONNECTIONS);
	cr_assert_not(limits_enter(limits, LIMITS_SESSIONS, 1));
	cr_assert(limits_enter(limits, LIMITS_SESSIONS, 0), "no limit");
	cr_assert_eq(limits_open(limits, LIMITS_SESSIONS), 2);
	cr_assert_eq(limits_open(limits, LIMITS_CONNECTIONS), 0);
	limits_free(limits);
}

Test(task_limits, each_source_has_its_own)
{
	struct limits *limits = limits_new();
	cr_assert_eq(enter(limits, "192.0.2.1", 2, 0, 1000), CP_CAUSE_NONE);
	cr_assert_eq(enter(limits, "192.0.2.1", 2, 0, 1000), CP_CAUSE_NONE);
	cr_assert_eq(enter(limits, "192.0.2.1", 2, 0, 1000), CP_CAUSE_SOURCE_LIMIT);
	cr_assert_eq(enter(limits, "192.0.2.2", 2, 0, 1000), CP_CAUSE_NONE);
	leave(limits, "192.0.2.1");
	cr_assert_eq(enter(limits, "192.0.2.1", 2, 0, 1000), CP_CAUSE_NONE);
	limits_free(limits);
}

Test(task_limits, a_network_of_64_bits_is_one_source)
{
	struct limits *limits = limits_new();
	cr_assert_eq(enter(limits, "2001:db8:0:1::1", 1, 0, 1000), CP_CAUSE_NONE);
	cr_assert_eq(enter(limits, "2001:db8:0:1:ffff::2", 1, 0, 1000), CP_CAUSE_SOURCE_LIMIT);
	cr_assert_eq(enter(limits, "2001:db8:0:2::1", 1, 0, 1000), CP_CAUSE_NONE);
	leave(limits, "2001:db8:0:1::abcd");
	cr_assert_eq(enter(limits, "2001:db8:0:1::1", 1, 0, 1000), CP_CAUSE_NONE);
	limits_free(limits);
}

Test(task_limits, bytes_behind_an_ipv4_address_do_not_matter)
{
	struct limits *limits = limits_new();
	struct cp_ip clean = ip("192.0.2.1"), dirty = clean;
	memset(dirty.bytes + 4, 0xa5, sizeof(dirty.bytes) - 4);
	cr_assert_eq(limits_source_enter(limits, &clean, 1, 0, 1000), CP_CAUSE_NONE);
	cr_assert_eq(limits_source_enter(limits, &dirty, 1, 0, 1000), CP_CAUSE_SOURCE_LIMIT);
	limits_source_leave(limits, &dirty);
	cr_assert_eq(limits_source_enter(limits, &clean, 1, 0, 1000), CP_CAUSE_NONE);
	limits_free(limits);
}

/** How many of `tries` connections are let in. */
static uint32_t let_in(struct limits *limits, uint32_t rate, uint64_t now, uint32_t tries)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < tries; i++)
		count += enter(limits, "192.0.2.1", 0, rate, now) == CP_CAUSE_NONE;
	return count;
}

Test(task_limits, rate_with_a_burst_of_a_second)
{
	struct limits *limits = limits_new();
	cr_assert_eq(let_in(limits, 10, 5000, 30), 10, "a burst");
	cr_assert_eq(let_in(limits, 10, 5099, 30), 0);
	cr_assert_eq(let_in(limits, 10, 5100, 30), 1, "one each 100 ms");
	cr_assert_eq(let_in(limits, 10, 5600, 30), 5);
	cr_assert_eq(let_in(limits, 10, 60000, 30), 10, "never more than the burst");
	limits_free(limits);
}

Test(task_limits, small_steps_of_time_add_up)
{
	struct limits *limits = limits_new();
	uint32_t count = 0;
	cr_assert_eq(let_in(limits, 3, 1000, 9), 3);
	for (uint64_t now = 1001; now <= 11000; now++)
		count += let_in(limits, 3, now, 1);
	cr_assert_eq(count, 30, "10 s at 3 a second: %u", count);
	limits_free(limits);
}

Test(task_limits, a_worker_with_an_earlier_clock_wins_nothing)
{
	struct limits *limits = limits_new();
	cr_assert_eq(let_in(limits, 10, 5000, 30), 10);
	cr_assert_eq(let_in(limits, 10, 4990, 30), 0, "time does not run backwards");
	cr_assert_eq(let_in(limits, 10, 5000, 30), 0, "nor is it counted twice");
	cr_assert_eq(let_in(limits, 10, 5100, 30), 1);
	limits_free(limits);
}

Test(task_limits, refused_by_one_limit_costs_nothing_of_the_other)
{
	struct limits *limits = limits_new();
	cr_assert_eq(enter(limits, "192.0.2.1", 1, 2, 1000), CP_CAUSE_NONE);
	cr_assert_eq(enter(limits, "192.0.2.1", 1, 2, 1000), CP_CAUSE_SOURCE_LIMIT);
	leave(limits, "192.0.2.1");
	cr_assert_eq(enter(limits, "192.0.2.1", 1, 2, 1000), CP_CAUSE_NONE, "the second of the burst is still there");
	leave(limits, "192.0.2.1");
	cr_assert_eq(enter(limits, "192.0.2.1", 1, 2, 1000), CP_CAUSE_SOURCE_RATE);
	cr_assert_eq(enter(limits, "192.0.2.1", 1, 0, 1000), CP_CAUSE_NONE, "it was not counted as open");
	limits_free(limits);
}

Test(task_limits, many_sources_come_and_go)
{
	enum { SOURCES = 20000 };
	struct limits *limits = limits_new();
	char text[32];
	for (int i = 0; i < SOURCES; i++) {
		snprintf(text, sizeof(text), "10.%d.%d.%d", i >> 16, i >> 8 & 255, i & 255);
		cr_assert_eq(enter(limits, text, 1, 0, 1000), CP_CAUSE_NONE, "%s", text);
	}
	for (int i = 0; i < SOURCES; i++) {
		snprintf(text, sizeof(text), "10.%d.%d.%d", i >> 16, i >> 8 & 255, i & 255);
		cr_assert_eq(enter(limits, text, 1, 0, 100000), CP_CAUSE_SOURCE_LIMIT, "%s is forgotten", text);
		leave(limits, text);
		cr_assert_eq(enter(limits, text, 1, 0, 200000), CP_CAUSE_NONE, "%s", text);
	}
	limits_free(limits);
}

/* ---- Several workers
 * ------------------------------------------------------------------------------------- */

enum { THREADS = 4, ROUNDS = 20000, MOST = 3 };

static void *come_and_go(void *arg)
{
	struct limits *limits = arg;
	uintptr_t refused = 0;
	struct cp_ip source = ip("192.0.2.1");
	for (int i = 0; i < ROUNDS; i++) {
		if (limits_source_enter(limits, &source, MOST, 0, 1000) != CP_CAUSE_NONE) {
			refused++;
			continue;
		}
		limits_enter(limits, LIMITS_CONNECTIONS, 0);
		limits_leave(limits, LIMITS_CONNECTIONS);
		limits_source_leave(limits, &source);
	}
	return (void *)refused;
}

Test(task_limits, nothing_drifts_between_threads)
{
	struct limits *limits = limits_new();
	pthread_t threads[THREADS];
	for (int i = 0; i < THREADS; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, come_and_go, limits), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	cr_assert_eq(limits_open(limits, LIMITS_CONNECTIONS), 0);
	for (int i = 0; i < MOST; i++)
		cr_assert_eq(enter(limits, "192.0.2.1", MOST, 0, 1000), CP_CAUSE_NONE);
	cr_assert_eq(enter(limits, "192.0.2.1", MOST, 0, 1000), CP_CAUSE_SOURCE_LIMIT);
	limits_free(limits);
}
