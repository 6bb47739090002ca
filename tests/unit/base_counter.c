/* Counters: names, slots, sums. */
#include "base/counter.h"

#include <criterion/criterion.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Names that are refused are said on stderr, which is not what these tests are about. */
static void quiet(void)
{
	int fd = open("/dev/null", O_WRONLY);

	dup2(fd, STDERR_FILENO);
	close(fd);
}

Test(counter, a_name_is_one_counter)
{
	cp_counter first = cp_counter_get("connections_accepted", CP_COUNTER, "Connections accepted.");
	cp_counter other = cp_counter_get("connections_open", CP_GAUGE, "Connections open.");

	cr_assert_neq(first, CP_COUNTER_NONE);
	cr_assert_neq(first, other);
	cr_assert_eq(cp_counter_get("connections_accepted", CP_GAUGE, "other words"), first);
}

Test(counter, bad_names_are_none, .init = quiet)
{
	static const char *const bad[] = {"", "Accepted", "1st", "a-b", "a b", "_a", "é"};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_eq(cp_counter_get(bad[i], CP_COUNTER, ""), CP_COUNTER_NONE, "%s", bad[i]);
	cr_assert_neq(cp_counter_get("a2_b", CP_COUNTER, NULL), CP_COUNTER_NONE);
}

Test(counter, room_for_so_many, .init = quiet)
{
	int64_t *slots = counter_slots_new();
	char name[32];

	for (int i = 0; i < COUNTERS_MAX; i++) {
		snprintf(name, sizeof(name), "counter_%d", i);
		cr_assert_neq(cp_counter_get(name, CP_COUNTER, ""), CP_COUNTER_NONE);
	}
	cr_assert_eq(cp_counter_get("one_more", CP_COUNTER, ""), CP_COUNTER_NONE);
	cr_assert_neq(cp_counter_get("counter_0", CP_COUNTER, ""), CP_COUNTER_NONE);
	counter_add(slots, CP_COUNTER_NONE, 1);
	cr_assert_eq(cp_counter_sum(CP_COUNTER_NONE), 0);
	counter_slots_free(slots);
}

Test(counter, sums_outlive_the_slots)
{
	cp_counter grows = cp_counter_get("grows", CP_COUNTER, ""), gauge = cp_counter_get("gauge", CP_GAUGE, "");
	int64_t *a = counter_slots_new(), *b = counter_slots_new(), *c = counter_slots_new();

	counter_add(a, grows, 3);
	counter_add(b, grows, 4);
	counter_add(a, gauge, 2);
	counter_add(c, gauge, -1);
	cr_assert_eq(cp_counter_sum(grows), 7);
	cr_assert_eq(cp_counter_sum(gauge), 1);
	counter_slots_free(b);
	cr_assert_eq(cp_counter_sum(grows), 7);
	counter_slots_free(a);
	counter_slots_free(c);
	counter_slots_free(NULL);
	cr_assert_eq(cp_counter_sum(grows), 7);
	cr_assert_eq(cp_counter_sum(gauge), 1);
	b = counter_slots_new();
	counter_add(b, grows, 1);
	cr_assert_eq(cp_counter_sum(grows), 8);
	counter_slots_free(b);
}

static void note(const struct counter_info *info, void *arg)
{
	char *text = arg;

	cr_assert_eq(cp_counter_sum(cp_counter_get(info->name, info->kind, "")), info->sum);
	sprintf(text + strlen(text), "%s/%s/%d/%d ", info->name, info->help, info->kind, (int)info->sum);
}

Test(counter, each_in_order)
{
	cp_counter a = cp_counter_get("a", CP_COUNTER, "First."), b = cp_counter_get("b", CP_GAUGE, "Second.");
	int64_t *slots = counter_slots_new();
	char text[100] = "";

	counter_add(slots, b, 5);
	counter_add(slots, a, 9);
	counter_each(note, text);
	cr_assert_str_eq(text, "a/First./0/9 b/Second./1/5 ");
	counter_slots_free(slots);
}

enum { THREADS = 4, ROUNDS = 20000 };

static void *count_up(void *arg)
{
	int64_t *slots = counter_slots_new();
	cp_counter counter = cp_counter_get("shared", CP_COUNTER, "");

	(void)arg;
	for (int i = 0; i < ROUNDS; i++)
		counter_add(slots, counter, 1);
	counter_slots_free(slots);
	return NULL;
}

/* Sums are read while others count, come and go: they never fall, and nothing is lost. */
Test(counter, threads_at_once)
{
	cp_counter counter = cp_counter_get("shared", CP_COUNTER, "");
	pthread_t threads[THREADS];
	int64_t sum = 0, before;

	for (int i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, count_up, NULL);
	while (sum < THREADS * ROUNDS) {
		before = sum;
		sum = cp_counter_sum(counter);
		cr_assert_geq(sum, before);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	cr_assert_eq(cp_counter_sum(counter), THREADS * ROUNDS);
}
