/* Balance: when a connection is handed over, to whom, and how many until the next look at the clocks. */
#include "task/balance.h"

#include <criterion/criterion.h>
#include <time.h>

enum { PERCENT = BALANCE_FULL / 100 };

static const uint64_t LOOK_NS = 100 * 1000000;

static bool uneven(struct balance_load own, struct balance_load other)
{
	return balance_is_uneven(&own, &other);
}

static struct balance_load busy(uint32_t percent, uint32_t pipes)
{
	return (struct balance_load){.busy = percent * PERCENT, .pipes = pipes};
}

/* ---- The decision ------------------------------------------------------------------------------------------- */

Test(task_balance, equal_loads_stay)
{
	cr_expect_not(uneven(busy(0, 0), busy(0, 0)));
	cr_expect_not(uneven(busy(100, 1000), busy(100, 1000)));
	cr_expect_not(uneven(busy(50, 10), busy(50, 10)));
}

Test(task_balance, the_busier_one_hands_over)
{
	cr_expect(uneven(busy(90, 10), busy(10, 10)));
	cr_expect(uneven(busy(46, 10), busy(30, 10)));
	cr_expect_not(uneven(busy(45, 10), busy(30, 10)), "a difference of 15 points is none");
	cr_expect_not(uneven(busy(10, 10), busy(90, 10)));
}

Test(task_balance, nobody_is_busy_below_30_percent)
{
	cr_expect_not(uneven(busy(29, 10), busy(0, 10)));
	cr_expect(uneven(busy(30, 10), busy(0, 10)));
}

Test(task_balance, work_counts_before_connections)
{
	cr_expect(uneven(busy(90, 10), busy(10, 5000)), "quiet connections keep nobody from working");
	cr_expect_not(uneven(busy(10, 5000), busy(90, 10)), "and are no reason to load who works");
}

Test(task_balance, connections_count_where_work_is_equal)
{
	cr_expect_not(uneven(busy(0, 16), busy(0, 0)), "that is chance");
	cr_expect(uneven(busy(0, 17), busy(0, 0)));
	cr_expect_not(uneven(busy(0, 1266), busy(0, 1000)));
	cr_expect(uneven(busy(0, 1267), busy(0, 1000)));
	cr_expect(uneven(busy(60, 100), busy(70, 10)), "10 points are equal");
	cr_expect_not(uneven(busy(0, 10), busy(0, 100)));
}

Test(task_balance, who_does_not_take_what_it_got_gets_no_more)
{
	struct balance_load stuck = {.busy = 0, .pipes = 64, .arriving = 64}, slow = {.pipes = 63, .arriving = 63};
	cr_expect_not(uneven(busy(100, 1000), stuck));
	cr_expect(uneven(busy(100, 1000), slow));
}

/* ---- Choosing ----------------------------------------------------------------------------------------------- */

/** Hand over what `own` accepts, as long as it should be, at most `most` connections. @return how many */
static uint32_t hand_over(struct balance *b, uint32_t own, uint32_t to, uint32_t most, bool arrive)
{
	uint32_t count = 0;
	while (count < most && balance_choose(b, own, 0) == to) {
		count++;
		balance_sent(b, own, to);
		if (arrive) {
			balance_arrived(b, to);
			balance_set_pipes(b, to, count, count);
		}
	}
	return count;
}

Test(task_balance, the_least_loaded_is_chosen)
{
	const uint64_t run_ns[4] = {LOOK_NS * 9 / 10, LOOK_NS / 2, LOOK_NS / 10, LOOK_NS / 10};
	struct balance *b = balance_new(4);
	balance_set_pipes(b, 2, 5, 5);
	balance_set_pipes(b, 3, 4, 4);
	balance_update(b, run_ns, LOOK_NS);
	cr_expect_eq(balance_choose(b, 0, 0), 3, "of two that are equally busy, the one with fewer connections");
	cr_expect_eq(balance_choose(b, 1, 0), 3);
	cr_expect_eq(balance_choose(b, 2, 0), 2, "one connection more is no reason");
	cr_expect_eq(balance_choose(b, 3, 0), 3);
	cr_expect_eq(balance_measured(b, 1), BALANCE_FULL / 2);
	cr_expect_eq(balance_measured_ms(b), 100);
	balance_free(b);
}

Test(task_balance, only_the_part_that_evens_out_is_handed_over)
{
	const uint64_t run_ns[2] = {LOOK_NS * 9 / 10, LOOK_NS / 10};
	struct balance *b = balance_new(2);
	balance_set_pipes(b, 0, 0, 100); /* a hundred short ones cost 0.9 % each */
	balance_update(b, run_ns, LOOK_NS);
	uint32_t count = hand_over(b, 0, 1, 1000, true);
	/* 90 - 0.9 n > 10 + 0.9 n + 15 */
	cr_expect_eq(count, 37, "%u", count);
	cr_expect_eq(balance_choose(b, 1, 0), 1, "nor does it come back");
	balance_free(b);
}

Test(task_balance, a_look_replaces_what_was_expected)
{
	uint64_t run_ns[2] = {LOOK_NS * 9 / 10, LOOK_NS / 10};
	struct balance *b = balance_new(2);
	balance_set_pipes(b, 0, 1, 1); /* one connection that costs 90 % */
	balance_update(b, run_ns, LOOK_NS);
	cr_expect_eq(hand_over(b, 0, 1, 10, true), 1, "the next one may cost as much");
	run_ns[0] += LOOK_NS * 9 / 10; /* it does not */
	run_ns[1] += LOOK_NS / 10;
	balance_update(b, run_ns, LOOK_NS);
	cr_expect_eq(balance_choose(b, 0, 0), 1);
	balance_free(b);
}

Test(task_balance, quiet_connections_are_spread)
{
	struct balance *b = balance_new(2);
	balance_set_pipes(b, 0, 100, 100);
	uint32_t count = hand_over(b, 0, 1, 1000, true);
	cr_expect_eq(count, 68, "%u: 100 is not more than 68 + 17 + 16", count);
	balance_free(b);
}

Test(task_balance, what_is_on_its_way_counts)
{
	struct balance *b = balance_new(2);
	balance_set_pipes(b, 0, 1000, 1000);
	uint32_t count = hand_over(b, 0, 1, 1000, false);
	cr_expect_eq(count, 64, "%u", count);
	balance_arrived(b, 1);
	cr_expect_eq(hand_over(b, 0, 1, 1000, false), 1);
	balance_free(b);
}

Test(task_balance, a_burst_between_two_looks_is_seen)
{
	for (uint32_t workers = 2; workers <= 64; workers *= 2) {
		struct balance *b = balance_new(workers);
		uint32_t accepted = 0;
		for (; balance_choose(b, 0, 0) == 0 && accepted < 1000; accepted++)
			balance_set_pipes(b, 0, accepted + 1, accepted + 1);
		cr_expect(accepted >= 17 && accepted <= 17 + 16, "%u with %u workers", accepted, workers);
		balance_free(b);
	}
}

/* ---- Measuring ---------------------------------------------------------------------------------------------- */

static uint64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

Test(task_balance, threads_are_measured)
{
	struct balance *b = balance_new(2);
	balance_set_clock(b, 0, CLOCK_THREAD_CPUTIME_ID);
	uint64_t began = now_ms();
	balance_look(b, began);
	while (now_ms() < began + 200) /* works */
		;
	balance_look(b, began + 50);
	uint32_t before = balance_measured_ms(b);
	cr_expect_lt(before, 100, "a look comes at most every 100 ms, this was %u ms", before);
	balance_look(b, now_ms());
	cr_expect_geq(balance_measured_ms(b), 100);
	cr_expect_gt(balance_measured(b, 0), 0);
	cr_expect(balance_measured(b, 0) <= BALANCE_FULL);
	cr_expect_eq(balance_measured(b, 1), 0, "this one has no thread");
	balance_free(b);
}
