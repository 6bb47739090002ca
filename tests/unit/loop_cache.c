/* The cache of names, with a clock of the test's own. */
#include <loop/resolver_cache.h>

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static struct cache cache;

static void tear_down(void)
{
	cache_clear(&cache);
	for (struct query_answer *next; cache.dropped; cache.dropped = next) {
		next = cache.dropped->next;
		free(cache.dropped);
	}
}

TestSuite(loop_cache, .fini = tear_down);

static struct cache_name *add_known(const char *text, uint64_t now)
{
	struct cache_name *name = cache_add(&cache, text, now);

	name->answer = calloc(1, sizeof(*name->answer));
	return name;
}

static void fill(const char *format, int count, uint64_t now)
{
	char text[32];

	for (int i = 0; i < count; i++) {
		snprintf(text, sizeof(text), format, i);
		add_known(text, now);
	}
}

Test(loop_cache, names_are_found_again)
{
	char text[32];

	fill("n%d", CACHE_NAMES, 1);
	for (int i = 0; i < CACHE_NAMES; i++) {
		snprintf(text, sizeof(text), "n%d", i);
		cr_assert_str_eq(cache_find(&cache, text)->text, text);
	}
	cr_assert_null(cache_find(&cache, "n"));
}

Test(loop_cache, unused_names_are_forgotten_and_used_ones_stay)
{
	struct cache_name *kept;

	add_known("a", 1000);
	kept = add_known("b", 1000);
	add_known("c", 2000);
	cache_touch(&cache, kept, 3000);
	cr_assert_eq(cache_sweep(&cache, 1000 + CACHE_UNUSED - 1), 1000 + CACHE_UNUSED);
	cr_assert_eq(cache.count, 3);
	cr_assert_eq(cache_sweep(&cache, 1000 + CACHE_UNUSED), 2000 + CACHE_UNUSED);
	cr_assert_null(cache_find(&cache, "a"));
	cr_assert_not_null(cache.dropped, "the answer is handed over");
	cr_assert_eq(cache_sweep(&cache, 2000 + CACHE_UNUSED), 3000 + CACHE_UNUSED);
	cr_assert_eq(cache_find(&cache, "b"), kept);
	cr_assert_eq(cache_sweep(&cache, 3000 + CACHE_UNUSED), 0);
	cr_assert_eq(cache.count, 0);
}

Test(loop_cache, a_name_that_is_looked_up_is_not_forgotten)
{
	struct cache_name *asking = cache_add(&cache, "a", 1000), *telling = cache_add(&cache, "b", 1000);

	asking->asking = true;
	telling->telling = true;
	add_known("c", 1000);
	cr_assert_gt(cache_sweep(&cache, 5000 + CACHE_UNUSED), 5000 + CACHE_UNUSED);
	cr_assert_eq(cache.count, 2);
	cr_assert_eq(cache_find(&cache, "a"), asking);
	cr_assert_eq(cache_find(&cache, "b"), telling);
}

Test(loop_cache, a_full_cache_forgets_failures_before_answers_and_the_longest_unused_first)
{
	add_known("old", 1);
	fill("n%d", CACHE_NAMES - 3, 2);
	cache_add(&cache, "failed-first", 3);
	cache_add(&cache, "failed-last", 4);
	cr_assert_eq(cache.count, CACHE_NAMES);
	add_known("new1", 5);
	cr_assert_null(cache_find(&cache, "failed-first"));
	cr_assert_not_null(cache_find(&cache, "failed-last"));
	add_known("new2", 6);
	cr_assert_null(cache_find(&cache, "failed-last"));
	cr_assert_not_null(cache_find(&cache, "old"));
	add_known("new3", 7);
	cr_assert_null(cache_find(&cache, "old"));
	cr_assert_not_null(cache_find(&cache, "n0"));
	cr_assert_eq(cache.count, CACHE_NAMES);
}

Test(loop_cache, a_cache_full_of_names_that_are_looked_up_takes_no_more)
{
	char text[32];
	struct cache_name *name = NULL;

	for (int i = 0; i < CACHE_NAMES; i++) {
		snprintf(text, sizeof(text), "n%d", i);
		name = cache_add(&cache, text, 1);
		name->asking = true;
	}
	cr_assert_null(cache_add(&cache, "one-more", 2));
	name->asking = false;
	cr_assert_not_null(cache_add(&cache, "one-more", 2));
}
