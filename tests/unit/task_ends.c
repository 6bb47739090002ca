/* Ends of streams that do not know one direction without the other, in all orders: held, passed on with their words, or
 * the end of both directions at once. */
#include "task_memo.h"

#include "task/pipe.h"

#include <sched.h>

#define ROUTES "[front]\ntype = \"table\"\n[front.routes]\n"

static const char routes[] = ROUTES "\"memo:front:1\" = \"memo:back:1\"";
static const char to_bytes[] = ROUTES "\"both:front:1\" = \"plain:back:1\"\n";
static const char patient[] = "timeouts.half_close = \"10m\"";
static const char hasty[] = "timeouts.half_close = \"20ms\"";
static const struct memo_manner whole = {.room = MEMO_ANY, .no_half_close = true};

static struct memo *client, *target;

/** A pipe that is open. @param manners  of client and target; NULL: with half close */
static void open_pipe(const char *process, const struct memo_manner *of_client, const struct memo_manner *of_target)
{
	if (of_target)
		memo_world.target_manner = *of_target;
	memo_start(process, routes, NULL);
	client = memo_new(of_client);
	memo_say(client, "hello", 0);
	memo_arrive(client, 1, "192.0.2.1");
	target = memo_target(0);
	memo_expect(target, "[hello]");
}

static void see_no_backlog(struct cp_loop *loop, void *arg)
{
	const struct pipe *p = memo_pipe(loop);
	*(bool *)arg = !p->flow[0].backlog && !p->flow[1].backlog;
}

static void see_read(struct cp_loop *loop, void *arg)
{
	struct memo **memo = arg;
	(void)loop;
	if ((*memo)->read == (*memo)->said)
		*memo = NULL;
}

/** Whether all that it has said was read. */
static bool is_read(struct memo *memo)
{
	call(cp_worker_loop(0), see_read, &memo);
	return memo == NULL;
}

TestSuite(task_ends, .timeout = 60);

/* ---- No half close ------------------------------------------------------------------------------------------ */

Test(task_ends, is_held_until_the_answer_ends)
{
	open_pipe(patient, NULL, &whole);
	memo_say(client, "", CP_READ_END);
	cr_assert_str_eq(memo_record(target), "[hello]");
	memo_say(target, "answer", 0);
	memo_expect(client, "[answer]");
	memo_say(target, "", CP_READ_END);
	memo_expect(client, "[answer]x done");
	memo_expect(target, "[hello]x done");
	memo_stop();
}

Test(task_ends, is_held_towards_a_client_as_well)
{
	open_pipe(patient, &whole, NULL);
	memo_say(target, "last", CP_READ_END);
	memo_expect(client, "[last]");
	memo_say(client, "more", 0);
	memo_expect(target, "[hello][more]");
	memo_say(client, "", CP_READ_END);
	memo_expect(client, "[last]x done");
	memo_expect(target, "[hello][more]x done");
	memo_stop();
}

/* What was held goes on as the end of both directions; the answer that is missing does not look complete. */
Test(task_ends, is_held_for_a_time)
{
	open_pipe(hasty, NULL, &whole);
	memo_say(client, "", CP_READ_END);
	memo_expect(target, "[hello]x done");
	memo_expect(client, "x half_close_timeout");
	cr_assert_eq(memo_counter("closed_half_close_timeout"), 1);
	memo_stop();
}

static void see_clock(struct cp_loop *loop, void *arg)
{
	*(uint64_t *)arg = cp_loop_now(loop);
}

/* It is no matter of being quiet: the time is that of the end. */
Test(task_ends, is_held_no_longer_because_the_answer_goes_on)
{
	uint64_t began, now;
	open_pipe("timeouts.half_close = \"100ms\"", NULL, &whole);
	call(cp_worker_loop(0), see_clock, &began);
	memo_say(client, "", CP_READ_END);
	for (uint64_t parts = 0; !strchr(memo_record(client), 'x');) {
		call(cp_worker_loop(0), see_clock, &now);
		for (; parts < (now - began) / 10; parts++)
			memo_say(target, ".", 0);
	}
	cr_assert_neq(strstr(memo_record(client), "[.]x half_close_timeout"), NULL, "%s", memo_record(client));
	memo_expect(target, "[hello]x done");
	memo_stop();
}

Test(task_ends, is_held_as_long_as_it_is_not_idle_without_a_time)
{
	open_pipe("timeouts.half_close = \"0s\"\ntimeouts.idle = \"20ms\"", NULL, &whole);
	memo_say(client, "", CP_READ_END);
	memo_expect(client, "x idle_timeout");
	memo_expect(target, "[hello]x idle_timeout");
	memo_stop();
}

Test(task_ends, a_break_is_seen_while_the_end_is_held)
{
	open_pipe(patient, NULL, &whole);
	memo_say(client, "", CP_READ_END);
	memo_break(client, CP_ERESET);
	memo_expect(target, "[hello]x client_reset");
	memo_stop();
}

/* ---- The end of both directions ----------------------------------------------------------------------------- */

Test(task_ends, both_ways_with_words_towards_one_without_half_close)
{
	open_pipe(patient, NULL, &whole);
	memo_say(client, "bye", 0);
	memo_end(client, 4000);
	memo_expect(target, "[hello][bye]{4000}x done");
	memo_expect(client, "x done");
	memo_stop();
}

Test(task_ends, both_ways_is_passed_on_and_what_still_comes_thrown_away)
{
	open_pipe(patient, NULL, NULL);
	memo_end(target, 4001);
	memo_expect(client, "{4001}|");
	memo_say(client, "too late", 0);
	memo_say(client, "all of it", 0);
	cr_assert_str_eq(memo_record(target), "[hello]");
	memo_end(client, 4001);
	memo_expect(target, "[hello]x done");
	memo_expect(client, "{4001}|x done");
	cr_assert_eq(memo_counter("bytes_in"), 5, "what nobody got was counted");
	memo_stop();
}

Test(task_ends, the_other_end_has_a_time_to_end_too)
{
	open_pipe(hasty, NULL, NULL);
	memo_end(target, 4001);
	memo_expect(client, "{4001}|x done");
	cr_assert_eq(memo_counter("closed_done"), 1);
	memo_stop();
}

Test(task_ends, both_ways_comes_behind_everything_that_is_pending)
{
	open_pipe(patient, &(struct memo_manner){.room = 0}, NULL);
	memo_say(target, "one", 0);
	memo_say(target, "two", 0);
	memo_end(target, 4001);
	cr_assert_str_eq(memo_record(client), "");
	memo_set_room(client, 1);
	memo_expect(client, "[one]");
	memo_set_room(client, MEMO_ANY);
	memo_expect(client, "[one][two]{4001}|");
	memo_end(client, 4001);
	memo_expect(target, "[hello]x done");
	memo_stop();
}

/* Where nobody can say that something went wrong, an end must not look like one in order. */
Test(task_ends, a_failure_told_in_words_is_a_reset_for_bytes)
{
	memo_start(patient, to_bytes, NULL);
	for (uint32_t i = 0; i < 2; i++) {
		struct memo *one = memo_new(NULL);
		memo_say(one, "hello", 0);
		memo_arrive(one, 1, "192.0.2.1");
		struct memo *other = memo_target(i);
		memo_expect(other, "[hello]");
		memo_end(one, i == 0 ? MEMO_FAILED : MEMO_FAILED - 1);
		if (i == 0) {
			memo_expect(other, "[hello]x client_reset");
			continue;
		}
		memo_expect(other, "[hello]|");
		memo_say(other, "", CP_READ_END);
		memo_expect(other, "[hello]|x done");
	}
	memo_stop();
}

Test(task_ends, a_failure_is_told_in_words_where_there_are_some)
{
	open_pipe(patient, NULL, NULL);
	memo_end(target, MEMO_FAILED);
	memo_expect(client, "{9000}|");
	memo_end(client, MEMO_FAILED);
	memo_expect(client, "{9000}|x done");
	memo_stop();
}

/* The end was seen before, and the failure behind it. */
Test(task_ends, a_failure_behind_a_half_close_is_a_reset_for_bytes)
{
	memo_start(patient, to_bytes, NULL);
	client = memo_new(NULL);
	memo_say(client, "hello", 0);
	memo_arrive(client, 1, "192.0.2.1");
	target = memo_target(0);
	memo_say(client, "", CP_READ_END);
	memo_expect(target, "[hello]|");
	memo_end(client, MEMO_FAILED);
	memo_expect(target, "[hello]|x client_reset");
	memo_stop();
}

/* What waited for room at the end that is over goes nowhere; its source is read again, for its end. */
Test(task_ends, what_waited_for_it_is_dropped)
{
	bool dropped = false;
	open_pipe(patient, NULL, NULL);
	memo_set_room(target, 0);
	memo_say(client, "waits", 0);
	memo_say(client, "unread", 0);
	memo_end(target, 4001);
	memo_expect(client, "{4001}|");
	call(cp_worker_loop(0), see_no_backlog, &dropped);
	cr_assert(dropped);
	memo_say(client, "", CP_READ_END);
	memo_expect(client, "{4001}|x done");
	memo_expect(target, "[hello]x done");
	memo_stop();
}

Test(task_ends, the_end_of_one_that_waited_for_it_counts)
{
	open_pipe(patient, NULL, NULL);
	memo_set_room(target, 0);
	memo_say(client, "waits", CP_READ_END);
	memo_end(target, 4001);
	memo_expect(client, "{4001}x done");
	memo_expect(target, "[hello]x done");
	memo_stop();
}

Test(task_ends, both_ways_behind_a_half_close)
{
	open_pipe("timeouts.half_close = \"10m\"", NULL, NULL);
	memo_say(client, "", CP_READ_END);
	memo_expect(target, "[hello]|");
	memo_end(client, 4002); /* seen when the half close lasts */
	while (!is_read(client))
		sched_yield();
	memo_say(target, "to nobody", 0);
	cr_assert_str_eq(memo_record(client), "");
	memo_say(target, "", CP_READ_END);
	memo_expect(target, "[hello]|{4002}x done");
	memo_expect(client, "x done");
	memo_stop();
}

Test(task_ends, both_ways_behind_an_end_that_is_held)
{
	open_pipe(patient, NULL, &whole);
	memo_say(client, "", CP_READ_END);
	cr_assert_str_eq(memo_record(target), "[hello]");
	memo_end(client, 4003);
	memo_expect(target, "[hello]{4003}x done");
	memo_expect(client, "x done");
	memo_stop();
}

Test(task_ends, both_ways_before_the_way_is_open)
{
	memo_world.target_manner = whole;
	memo_start(patient, routes, NULL);
	client = memo_new(NULL);
	memo_say(client, "fire", 0);
	memo_end(client, 4004);
	memo_arrive(client, 1, "192.0.2.1");
	target = memo_target(0);
	memo_expect(target, "[fire]{4004}x done");
	memo_expect(client, "x done");
	memo_stop();
}

Test(task_ends, both_sides_at_once)
{
	open_pipe(patient, NULL, NULL);
	memo_set_room(client, 0);
	memo_set_room(target, 0);
	memo_say(client, "a", 0);
	memo_say(target, "b", 0);
	memo_end(client, 4005);
	memo_set_room(client, MEMO_ANY); /* else its end would never be seen behind what is blocked */
	memo_end(target, 4006);
	memo_set_room(target, MEMO_ANY);
	memo_wait_pipes(0);
	cr_assert_neq(strstr(memo_record(client), "x done"), NULL, "%s", memo_record(client));
	cr_assert_neq(strstr(memo_record(target), "x done"), NULL, "%s", memo_record(target));
	memo_stop();
}

Test(task_ends, the_other_end_may_break_behind_it)
{
	open_pipe(patient, NULL, NULL);
	memo_end(target, 4001);
	memo_expect(client, "{4001}|");
	memo_break(client, CP_ERESET);
	memo_expect(target, "[hello]x client_reset");
	memo_stop();
}
