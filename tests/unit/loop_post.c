/* What crosses threads: posting, and blocking work. */
#include <connpipe/loop.h>
#include <loop/loop.h>

#include <criterion/criterion.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { POSTERS = 4, POSTS = 20000, POOL = 4 };

static struct cp_loop *loop;

static void set_up(void)
{
	loop = loop_new(0, NULL);
}

static void tear_down(void)
{
	blocking_stop();
	loop_free(loop);
}

TestSuite(loop_post, .init = set_up, .fini = tear_down, .timeout = 60);

/* ---- Posting ------------------------------------------------------------------------------------------------ */

static unsigned next_of[POSTERS], seen;

static void on_numbered(struct cp_loop *on, void *arg)
{
	unsigned poster = (unsigned)((uintptr_t)arg / POSTS), number = (unsigned)((uintptr_t)arg % POSTS);

	cr_assert_eq(on, loop);
	cr_assert_eq(cp_loop_current(), loop);
	cr_assert_eq(number, next_of[poster], "poster %u: %u came instead of %u", poster, number, next_of[poster]);
	next_of[poster]++;
	if (++seen == POSTERS * POSTS)
		loop_stop(loop);
}

static void *post_numbers(void *arg)
{
	uintptr_t poster = (uintptr_t)arg;

	for (uintptr_t i = 0; i < POSTS; i++)
		cr_assert(cp_post(loop, on_numbered, (void *)(poster * POSTS + i)));
	return NULL;
}

Test(loop_post, posts_of_each_thread_come_in_order_and_none_is_lost)
{
	pthread_t threads[POSTERS];

	for (uintptr_t i = 0; i < POSTERS; i++)
		pthread_create(&threads[i], NULL, post_numbers, (void *)i);
	loop_run(loop);
	for (int i = 0; i < POSTERS; i++)
		pthread_join(threads[i], NULL);
	cr_assert_eq(seen, POSTERS * POSTS);
}

static unsigned depth, left;

static void post_again(struct cp_loop *on, void *arg)
{
	cr_assert_eq(depth, 0, "it must not run inside the call that posts");
	depth++;
	if (--left > 0)
		cp_post(on, post_again, arg);
	else
		loop_stop(on);
	depth--;
}

Test(loop_post, a_loop_may_post_to_itself)
{
	left = 100;
	cp_post(loop, post_again, NULL);
	loop_run(loop);
	cr_assert_eq(left, 0);
}

static void never(struct cp_loop *on, void *arg)
{
	(void)on;
	(void)arg;
	cr_assert_fail("posted to a loop that has ended");
}

Test(loop_post, a_loop_that_has_ended_drops_what_was_posted_and_refuses_more)
{
	struct cp_loop *other = loop_new(1, NULL);

	cr_assert(cp_post(other, never, NULL));
	loop_free(other);
	cr_assert_not(cp_post(other, never, NULL));
}

static atomic_uint accepted;
static unsigned ran;

static void count_run(struct cp_loop *on, void *arg)
{
	(void)arg;
	if (++ran == 1000)
		loop_stop(on);
}

static void *post_until_refused(void *arg)
{
	while (cp_post(arg, count_run, NULL))
		atomic_fetch_add(&accepted, 1);
	return NULL;
}

static void *run_and_free(void *arg)
{
	loop_run(arg);
	loop_free(arg);
	return NULL;
}

Test(loop_post, threads_that_post_while_a_loop_ends_are_refused_from_then_on)
{
	struct cp_loop *other = loop_new(1, NULL);
	pthread_t threads[POSTERS], runner;

	for (int i = 0; i < POSTERS; i++)
		pthread_create(&threads[i], NULL, post_until_refused, other);
	pthread_create(&runner, NULL, run_and_free, other);
	for (int i = 0; i < POSTERS; i++)
		pthread_join(threads[i], NULL);
	pthread_join(runner, NULL);
	cr_assert_geq(ran, 1000);
	cr_assert_leq(ran, atomic_load(&accepted));
}

/* ---- Blocking work ------------------------------------------------------------------------------------------ */

static pthread_barrier_t barrier;
static atomic_uint at_work, most_at_work;
static unsigned done_count;

static void work_together(void *arg)
{
	unsigned now = atomic_fetch_add(&at_work, 1) + 1, most = atomic_load(&most_at_work);

	(void)arg;
	cr_assert_null(cp_loop_current());
	while (now > most && !atomic_compare_exchange_weak(&most_at_work, &most, now))
		;
	pthread_barrier_wait(&barrier); /* passes only when POOL jobs run at once */
	atomic_fetch_sub(&at_work, 1);
}

static void on_work_done(struct cp_loop *on, void *arg)
{
	cr_assert_eq(cp_loop_current(), loop);
	cr_assert_eq(on, loop);
	cr_assert_eq(arg, &done_count);
	if (++done_count == 3 * POOL)
		loop_stop(loop);
}

Test(loop_post, blocking_work_runs_beside_the_loop_on_four_threads_at_most)
{
	pthread_barrier_init(&barrier, NULL, POOL);
	for (int i = 0; i < 3 * POOL; i++)
		cr_assert(cp_blocking(loop, work_together, on_work_done, &done_count));
	loop_run(loop);
	cr_assert_eq(done_count, 3 * POOL);
	cr_assert_eq(atomic_load(&most_at_work), POOL);
}

static atomic_uint worked;

static void count_work(void *arg)
{
	(void)arg;
	atomic_fetch_add(&worked, 1);
}

static void count_done(struct cp_loop *on, void *arg)
{
	(void)arg;
	if (++done_count == 100)
		loop_stop(on);
}

Test(loop_post, a_pool_that_stops_does_what_it_accepted_and_refuses_more)
{
	for (int i = 0; i < 100; i++)
		cr_assert(cp_blocking(loop, count_work, count_done, NULL));
	blocking_stop();
	cr_assert_eq(atomic_load(&worked), 100);
	cr_assert_not(cp_blocking(loop, count_work, count_done, NULL));
	loop_run(loop);
	cr_assert_eq(done_count, 100);
	blocking_start();
	cr_assert(cp_blocking(loop, count_work, count_done, NULL));
	blocking_stop();
	cr_assert_eq(atomic_load(&worked), 101);
}

static sem_t go;

static void wait_for_go(void *arg)
{
	(void)arg;
	while (sem_wait(&go) < 0)
		;
}

static void never_work(void *arg)
{
	(void)arg;
	cr_assert_fail("work of a loop that has ended");
}

static void ignore(struct cp_loop *on, void *arg)
{
	(void)on;
	(void)arg;
}

Test(loop_post, work_of_a_loop_that_has_ended_is_dropped)
{
	struct cp_loop *other = loop_new(1, NULL);

	sem_init(&go, 0, 0);
	for (int i = 0; i < POOL - 1; i++)
		cr_assert(cp_blocking(loop, wait_for_go, ignore, NULL));
	cr_assert(cp_blocking(other, wait_for_go, never, NULL)); /* its `done` finds the loop gone */
	cr_assert(cp_blocking(other, never_work, never, NULL));
	loop_free(other);
	for (int i = 0; i < POOL; i++)
		sem_post(&go);
	blocking_stop();
}
