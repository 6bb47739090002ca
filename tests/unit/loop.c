/* Turns of a loop, deferred calls, its clock, the registry of loops, counting. */
#include <connpipe/counter.h>
#include <connpipe/loop.h>
#include <loop/loop.h>

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct cp_loop *loop;
static char trace[64]; /* one letter for each thing that happened */

static void note(char letter)
{
	size_t length = strlen(trace);

	cr_assert_lt(length + 1, sizeof(trace));
	trace[length] = letter;
	trace[length + 1] = '\0';
}

static void set_up(void)
{
	struct cp_error error;

	trace[0] = '\0';
	loop = loop_new(0, &error);
	cr_assert_not_null(loop, "%s", error.message);
}

static void tear_down(void)
{
	loop_free(loop);
}

TestSuite(loop, .init = set_up, .fini = tear_down, .timeout = 20);

static void stop(struct cp_deferred *deferred)
{
	(void)deferred;
	loop_stop(loop);
}

static void defer_a(struct cp_deferred *deferred)
{
	(void)deferred;
	note('a');
}

static void defer_b(struct cp_deferred *deferred)
{
	(void)deferred;
	note('b');
}

Test(loop, deferred_calls_run_in_order_and_once)
{
	struct cp_deferred a = {0}, b = {0}, end = {0};

	cp_defer(loop, &a, defer_a);
	cp_defer(loop, &b, defer_b);
	cp_defer(loop, &a, defer_a);
	cp_defer(loop, &end, stop);
	loop_run(loop);
	cr_assert_str_eq(trace, "ab");
}

static int rounds;

static void again(struct cp_deferred *deferred)
{
	note('d');
	if (++rounds < 3)
		cp_defer(loop, deferred, again);
	else
		loop_stop(loop);
}

static void on_readable(int fd, unsigned events, void *arg)
{
	(void)fd;
	(void)arg;
	cr_assert_eq(events, CP_READABLE);
	note('r');
}

Test(loop, descriptors_are_polled_between_rounds_of_deferred_calls)
{
	struct cp_deferred deferred = {0};
	struct cp_watch *watch;
	int ends[2];

	cr_assert_eq(pipe(ends), 0);
	cr_assert_eq(write(ends[1], "x", 1), 1);
	watch = cp_watch_new(loop, ends[0], CP_READABLE, on_readable, NULL, NULL);
	cp_defer(loop, &deferred, again);
	loop_run(loop);
	cr_assert_str_eq(trace, "rdrdrd");
	cp_watch_free(watch);
}

static void free_self(struct cp_deferred *deferred)
{
	free(deferred);
	note('f');
}

Test(loop, a_deferred_call_may_free_its_object)
{
	struct cp_deferred *object = calloc(1, sizeof(*object)), end = {0};

	cp_defer(loop, object, free_self);
	cp_defer(loop, &end, stop);
	loop_run(loop);
	cr_assert_str_eq(trace, "f");
}

Test(loop, deferred_calls_run_when_the_loop_is_freed)
{
	struct cp_error error;
	struct cp_loop *other = loop_new(1, &error);
	struct cp_deferred a = {0};

	cp_defer(other, &a, defer_a);
	loop_free(other);
	cr_assert_str_eq(trace, "a");
}

static void endless(struct cp_deferred *deferred)
{
	rounds++;
	cp_defer(loop, deferred, endless);
}

Test(loop, an_endless_deferred_call_does_not_keep_a_loop_from_being_freed)
{
	struct cp_deferred deferred = {0};

	cp_defer(loop, &deferred, endless);
	loop_free(loop);
	loop = NULL;
	cr_assert_gt(rounds, 1);
}

Test(loop, a_stop_before_the_run_ends_it_at_once_and_only_once)
{
	struct cp_deferred a = {0}, end = {0};

	loop_stop(loop);
	loop_run(loop);
	cp_defer(loop, &a, defer_a);
	cp_defer(loop, &end, stop);
	loop_run(loop);
	cr_assert_str_eq(trace, "a");
}

/* ---- The clock ---------------------------------------------------------------------------------------------- */

static uint64_t clock_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void let_time_pass(void)
{
	uint64_t begin = clock_ms();

	while (clock_ms() < begin + 2)
		;
}

static uint64_t seen;

static void look_again(struct cp_deferred *deferred)
{
	(void)deferred;
	cr_assert_gt(cp_loop_now(loop), seen, "a new turn has a new time");
	loop_stop(loop);
}

static void look(struct cp_deferred *deferred)
{
	seen = cp_loop_now(loop);
	cr_assert_leq(seen, clock_ms());
	let_time_pass();
	cr_assert_eq(cp_loop_now(loop), seen, "the time stands still within a turn");
	cp_defer(loop, deferred, look_again);
}

Test(loop, time_is_read_once_in_a_turn)
{
	struct cp_deferred deferred = {0};
	uint64_t before = cp_loop_now(loop);

	let_time_pass();
	cr_assert_gt(cp_loop_now(loop), before, "there are no turns before the run");
	cp_defer(loop, &deferred, look);
	loop_run(loop);
}

/* ---- The registry ------------------------------------------------------------------------------------------- */

Test(loop, loops_are_known_by_index_and_can_be_set_again)
{
	struct cp_loop *pair[2] = {loop, loop_new(1, NULL)};

	cr_assert_null(cp_loop_main());
	cr_assert_eq(cp_worker_count(), 0);
	cr_assert_null(cp_worker_loop(0));
	loop_set_workers(pair, 2);
	cr_assert_eq(cp_worker_count(), 2);
	cr_assert_eq(cp_worker_loop(1), pair[1]);
	cr_assert_null(cp_worker_loop(2));
	cr_assert_eq(cp_loop_index(cp_worker_loop(1)), 1);
	loop_set_main(loop);
	cr_assert_eq(cp_loop_main(), loop);
	loop_set_workers(pair + 1, 1);
	cr_assert_eq(cp_worker_loop(0), pair[1]);
	loop_set_workers(NULL, 0);
	loop_set_main(NULL);
	cr_assert_eq(cp_worker_count(), 0);
	cr_assert_null(cp_loop_main());
	loop_free(pair[1]);
}

static struct cp_loop *current_on_thread;

static void remember_current(struct cp_deferred *deferred)
{
	(void)deferred;
	current_on_thread = cp_loop_current();
	loop_stop(current_on_thread);
}

static void *run_on_thread(void *arg)
{
	struct cp_deferred deferred = {0};

	cr_assert_null(cp_loop_current());
	cp_defer(arg, &deferred, remember_current);
	loop_run(arg);
	return NULL;
}

Test(loop, the_current_loop_is_that_of_the_thread_that_runs_it)
{
	pthread_t thread;

	pthread_create(&thread, NULL, run_on_thread, loop);
	pthread_join(thread, NULL);
	cr_assert_eq(current_on_thread, loop);
	cr_assert_null(cp_loop_current());
}

Test(loop, counts_of_all_loops_add_up_and_outlive_them)
{
	cp_counter counter = cp_counter_get("unit_loop", CP_GAUGE, "For a test.");
	struct cp_loop *other = loop_new(1, NULL);

	cp_count(loop, counter, 5);
	cp_count(other, counter, 3);
	cp_count(other, counter, -1);
	cr_assert_eq(cp_counter_sum(counter), 7);
	loop_free(other);
	cr_assert_eq(cp_counter_sum(counter), 7);
	cp_count(loop, CP_COUNTER_NONE, 1);
}
