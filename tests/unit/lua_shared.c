#include "../../systems/lua/shared.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static struct shared_value number_of(double number)
{
	return (struct shared_value){.kind = SHARED_NUMBER, .number = number};
}

static void keep_number(const struct shared_value *value, void *arg)
{
	*(double *)arg = value->number;
}

/** The number there; -1: none. */
static double get(struct shared *shared, const char *key, uint64_t now)
{
	double number = -1;
	shared_read(shared, key, strlen(key), now, keep_number, &number);
	return number;
}

Test(lua_shared, one_store_for_an_id_as_long_as_somebody_has_it)
{
	struct shared *a = shared_get("a", 1 << 20), *same = shared_get("a", 1 << 20), *b = shared_get("b", 1 << 20);
	struct shared_value one = number_of(1);
	cr_expect_eq(a, same);
	cr_expect_neq(a, b);
	shared_set(a, "k", 1, &one, false, 1, 0);
	shared_put(a);
	cr_expect_eq(get(same, "k", 1), 1);
	cr_expect_eq(get(b, "k", 1), -1);
	shared_put(same);
	a = shared_get("a", 1 << 20);
	cr_expect_eq(get(a, "k", 1), -1, "a new store is empty");
	shared_put(a);
	shared_put(b);
}

Test(lua_shared, expires_at_its_time)
{
	struct shared *shared = shared_get("a", 1 << 20);
	struct shared_value one = number_of(1);
	shared_set(shared, "k", 1, &one, false, 100, 200);
	cr_expect_eq(get(shared, "k", 199), 1);
	cr_expect_eq(get(shared, "k", 200), -1);
	cr_expect_eq(shared_set(shared, "k", 1, &one, true, 200, 0), SHARED_OK, "what has expired can be added");
	cr_expect_eq(shared_set(shared, "k", 1, &one, true, 200, 0), SHARED_EXISTS);
	shared_put(shared);
}

Test(lua_shared, incr_keeps_the_first_expiry)
{
	struct shared *shared = shared_get("a", 1 << 20);
	double zero = 0, sum = 0;
	shared_add(shared, "k", 1, 1, &zero, 100, 200, &sum);
	shared_add(shared, "k", 1, 1, &zero, 150, 250, &sum);
	cr_expect_eq(sum, 2);
	shared_add(shared, "k", 1, 1, &zero, 200, 300, &sum);
	cr_expect_eq(sum, 1, "the window is over");
	shared_put(shared);
}

Test(lua_shared, memory_is_bounded_and_the_least_used_goes)
{
	enum { ROOM = 256 * 1024, KEYS = 20000 };
	struct shared *shared = shared_get("a", ROOM);
	struct shared_value one = number_of(1);
	char key[32];
	size_t left = 0;
	shared_set(shared, "used", 4, &one, false, 1, 0);
	for (int i = 0; i < KEYS; i++) {
		snprintf(key, sizeof(key), "key %d", i);
		cr_assert_eq(shared_set(shared, key, strlen(key), &one, false, 1, 0), SHARED_OK);
		cr_assert_eq(get(shared, "used", 1), 1, "what is used stays (%d)", i);
	}
	for (int i = 0; i < KEYS; i++) {
		snprintf(key, sizeof(key), "key %d", i);
		left += get(shared, key, 1) == 1;
	}
	cr_expect_gt(left, 500);
	cr_expect_lt(left, ROOM / 64);
	cr_expect_eq(get(shared, key, 1), 1, "the last one is there");
	shared_put(shared);
}

Test(lua_shared, too_large)
{
	struct shared *shared = shared_get("a", 64 * 1024);
	static char text[8192];
	struct shared_value value = {.kind = SHARED_STRING, .text = text, .length = sizeof(text)};
	cr_expect_eq(shared_set(shared, "k", 1, &value, false, 1, 0), SHARED_TOO_LARGE);
	shared_put(shared);
}

enum { THREADS = 4, TURNS = 20000 };

static void *count_up(void *arg)
{
	double zero = 0, sum;
	char key[16];
	for (int i = 0; i < TURNS; i++) {
		shared_add(arg, "all", 3, 1, &zero, 1, 0, &sum);
		snprintf(key, sizeof(key), "%d", i % 100);
		shared_add(arg, key, strlen(key), 1, &zero, 1, 0, &sum);
	}
	return NULL;
}

Test(lua_shared, threads_lose_no_count)
{
	struct shared *shared = shared_get("a", 1 << 20);
	pthread_t threads[THREADS];
	for (int i = 0; i < THREADS; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, count_up, shared), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	cr_expect_eq(get(shared, "all", 1), (double)THREADS * TURNS);
	cr_expect_eq(get(shared, "7", 1), (double)THREADS * TURNS / 100);
	shared_put(shared);
}
