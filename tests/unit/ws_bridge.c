/* Bridges: bytes both ways, bounded, and every way in which one side can end before the other. */
#include "../../systems/ws/ws.h"
#include "fake_bytes.h"

#include <errno.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	TURNS_MOST = 100000,
	LARGE = 4 << 20,
	BOUND = 1 << 20, /* what the kernel and a bridge hold of one direction, generously */
};

static struct cp_loop *loop;
static struct fake_bytes below;
static int far;

static void start(void)
{
	struct cp_error error = {0};
	loop = loop_new(0, &error);
	cr_assert(loop, "%s", error.message);
	fake_init(&below, loop);
	far = -1;
}

static void stop(void)
{
	if (far >= 0)
		close(far);
	for (int i = 0; i < TURNS_MOST && !below.closed; i++) {
		fake_end(&below, 0);
		fake_turns(loop, 1);
	}
	fake_turns(loop, 2);
	fake_deinit(&below);
	loop_free(loop);
}

TestSuite(ws_bridge, .init = start, .fini = stop, .timeout = 60);

static void build(const char *first)
{
	struct cp_error error = {0};
	far = ws_bridge(&below.stream, first, strlen(first), NULL, &error);
	cr_assert_geq(far, 0, "%s", error.message);
}

static char *pattern(size_t length)
{
	uint64_t seed = 7;
	char *bytes = malloc(length);
	for (size_t i = 0; i < length; i++)
		bytes[i] = (char)fake_random(&seed, 256);
	return bytes;
}

/** Read what comes at the far end until `wanted` bytes, the end, or an error. @return the last result of read() */
static ssize_t far_read(char *bytes, size_t wanted, size_t *got)
{
	ssize_t result = -1;
	for (int i = 0; i < TURNS_MOST && *got < wanted; i++) {
		result = read(far, bytes + *got, wanted - *got);
		if (result == 0 || (result < 0 && errno != EAGAIN))
			return result;
		if (result > 0)
			*got += (size_t)result;
		else
			fake_turns(loop, 1);
	}
	return result;
}

static void far_expect(const char *text)
{
	char bytes[256];
	size_t got = 0;
	far_read(bytes, strlen(text), &got);
	cr_assert_eq(got, strlen(text), "%zu bytes came, not \"%s\"", got, text);
	cr_assert_arr_eq(bytes, text, got);
}

static void far_expect_end(void)
{
	char byte;
	size_t got = 0;
	cr_assert_eq(far_read(&byte, 1, &got), 0, "no end of file");
}

static void far_write(const char *text)
{
	cr_assert_eq(write(far, text, strlen(text)), (ssize_t)strlen(text));
}

static void far_close(void)
{
	close(far);
	far = -1;
}

/** Run the loop until `*flag`. */
static void turn_until(const bool *flag)
{
	for (int i = 0; i < TURNS_MOST && !*flag; i++)
		fake_turns(loop, 1);
	cr_assert(*flag, "it never came true");
}

static void below_expect(const char *text)
{
	for (int i = 0; i < TURNS_MOST && below.out_length < strlen(text); i++)
		fake_turns(loop, 1);
	cr_assert_eq(below.out_length, strlen(text));
	cr_assert_arr_eq(below.out, text, below.out_length);
}

/* ---- Bytes -------------------------------------------------------------------------------------------------- */

Test(ws_bridge, copies_both_ways)
{
	build("");
	fake_arrive(&below, "hello", 5);
	far_expect("hello");
	far_write("and back");
	below_expect("and back");
	fake_arrive(&below, "more", 4);
	far_expect("more");
}

Test(ws_bridge, what_was_read_ahead_comes_first)
{
	fake_arrive(&below, "behind", 6);
	build("ahead ");
	far_expect("ahead behind");
}

Test(ws_bridge, nobody_is_called_before_there_is_a_bridge)
{
	fake_arrive(&below, "early", 5);
	build("");
	cr_expect_eq(below.reads, 0);
	far_expect("early");
}

/** @param read_most  bytes of one read below  @param piece  of one read at the far end */
static void copies_much(size_t read_most, size_t piece)
{
	char *bytes = pattern(LARGE), *back = malloc(LARGE);
	size_t got = 0;
	build("");
	below.read_most = read_most;
	fake_arrive(&below, bytes, LARGE);
	while (got < LARGE) {
		size_t want = LARGE - got < piece ? LARGE : got + piece;
		cr_assert_gt(far_read(back, want, &got), 0);
	}
	cr_assert_eq(memcmp(bytes, back, LARGE), 0);
	free(bytes);
	free(back);
}

Test(ws_bridge, copies_much_in_large_pieces)
{
	copies_much(0, 1 << 20);
}

Test(ws_bridge, copies_much_in_odd_pieces)
{
	copies_much(4099, 3001);
}

Test(ws_bridge, a_slow_reader_of_the_far_end_stops_the_stream_below)
{
	char *bytes = pattern(LARGE), *back = malloc(LARGE);
	size_t got = 0;
	build("");
	fake_arrive(&below, bytes, LARGE);
	fake_turns(loop, 200);
	cr_assert_lt(below.in_at, (size_t)BOUND, "%zu bytes were read of it", below.in_at);
	unsigned reads = below.reads;
	fake_turns(loop, 50);
	cr_assert_eq(below.reads, reads, "it is read while nobody takes it");
	far_read(back, LARGE, &got);
	cr_assert_eq(got, (size_t)LARGE);
	cr_assert_eq(memcmp(bytes, back, LARGE), 0);
	free(bytes);
	free(back);
}

Test(ws_bridge, a_slow_reader_below_stops_the_far_end)
{
	char *bytes = pattern(LARGE);
	size_t put = 0;
	build("");
	below.room = 0;
	for (int i = 0; i < 300; i++) {
		ssize_t taken = write(far, bytes + put, LARGE - put);
		put += taken > 0 ? (size_t)taken : 0;
		fake_turns(loop, 1);
	}
	cr_assert_lt(put, (size_t)BOUND, "%zu bytes were taken", put);
	for (int i = 0; i < TURNS_MOST && below.out_length < LARGE; i++) {
		ssize_t taken = put < LARGE ? write(far, bytes + put, LARGE - put) : 0;
		put += taken > 0 ? (size_t)taken : 0;
		fake_room(&below, below.room + 5000);
		fake_turns(loop, 1);
	}
	cr_assert_eq(below.out_length, (size_t)LARGE);
	cr_assert_eq(memcmp(below.out, bytes, LARGE), 0);
	free(bytes);
}

Test(ws_bridge, a_stream_that_never_runs_dry_leaves_others_their_turn)
{
	char *bytes = pattern(LARGE);
	build("");
	below.says_drained = false;
	fake_arrive(&below, bytes, LARGE);
	far_write("me, too");
	for (int i = 0; i < 4 && below.out_length == 0; i++) {
		static char sink[LARGE];
		fake_turns(loop, 1);
		cr_assert_gt(read(far, sink, sizeof(sink)), 0);
	}
	cr_assert_eq(below.out_length, 7, "the other direction waits");
	free(bytes);
}

Test(ws_bridge, does_nothing_while_nothing_happens)
{
	build("");
	fake_turns(loop, 10);
	unsigned reads = below.reads, writes = below.writes;
	fake_turns(loop, 100);
	cr_expect_eq(below.reads, reads);
	cr_expect_eq(below.writes, writes);
}

/* ---- Ends --------------------------------------------------------------------------------------------------- */

Test(ws_bridge, the_end_below_comes_behind_its_bytes_and_the_other_direction_goes_on)
{
	build("");
	fake_arrive(&below, "last words", 10);
	fake_end(&below, 0);
	far_expect("last words");
	far_expect_end();
	far_write("answer");
	below_expect("answer");
	cr_expect_not(below.closed);
	far_close();
	turn_until(&below.closed);
	cr_expect(below.shut, "the far end has ended in order");
	cr_expect_eq(below.cause, CP_CAUSE_DONE);
}

Test(ws_bridge, the_end_that_comes_with_bytes_is_passed_on)
{
	build("");
	below.end_with_data = true;
	below.ended = true;
	fake_arrive(&below, "bye", 3);
	far_expect("bye");
	far_expect_end();
}

Test(ws_bridge, the_end_at_the_far_end_is_passed_on_and_the_other_direction_goes_on)
{
	build("");
	far_write("question");
	shutdown(far, SHUT_WR);
	turn_until(&below.shut);
	below_expect("question");
	fake_arrive(&below, "answer", 6);
	far_expect("answer");
	cr_expect_not(below.closed);
	fake_end(&below, 0);
	turn_until(&below.closed);
	cr_expect_eq(below.cause, CP_CAUSE_DONE);
	far_expect_end();
}

Test(ws_bridge, an_end_waits_for_what_is_kept)
{
	build("");
	below.room = 3;
	far_write("six by");
	shutdown(far, SHUT_WR);
	fake_turns(loop, 20);
	cr_expect_not(below.shut, "bytes are still to be written");
	fake_room(&below, 100);
	turn_until(&below.shut);
	below_expect("six by");
}

Test(ws_bridge, a_break_below_is_an_end_behind_its_bytes)
{
	build("");
	fake_arrive(&below, "torn", 4);
	fake_end(&below, CP_ERESET);
	turn_until(&below.closed);
	cr_expect(cp_cause_is_reset(below.cause));
	far_expect("torn");
	far_expect_end();
}

Test(ws_bridge, a_break_below_waits_for_a_slow_reader)
{
	char *bytes = pattern(LARGE), *back = malloc(LARGE);
	size_t got = 0;
	build("");
	fake_arrive(&below, bytes, LARGE);
	fake_end(&below, CP_ERESET);
	fake_turns(loop, 50);
	cr_expect_not(below.closed);
	far_read(back, LARGE, &got);
	cr_assert_eq(got, (size_t)LARGE);
	cr_assert_eq(memcmp(bytes, back, LARGE), 0);
	far_expect_end();
	turn_until(&below.closed);
	cr_expect(cp_cause_is_reset(below.cause));
	free(bytes);
	free(back);
}

Test(ws_bridge, who_closes_the_far_end_with_bytes_unread_breaks_it_off)
{
	build("");
	fake_arrive(&below, "unread", 6);
	fake_turns(loop, 20);
	far_close();
	turn_until(&below.closed);
	cr_expect(cp_cause_is_reset(below.cause));
}

Test(ws_bridge, behind_the_close_of_the_far_end_bytes_have_nowhere_to_go)
{
	build("");
	fake_turns(loop, 5);
	far_close();
	turn_until(&below.shut);
	cr_expect_not(below.closed, "the peer may still end in order");
	fake_arrive(&below, "too late", 8);
	turn_until(&below.closed);
	cr_expect_eq(below.cause, CP_CAUSE_DONE);
}

Test(ws_bridge, a_stream_that_takes_no_more_does_not_stop_what_it_has_sent)
{
	build("");
	below.write_error = CP_ERESET;
	far_write("lost");
	fake_turns(loop, 20);
	fake_arrive(&below, "its last words", 14);
	far_expect("its last words");
	fake_end(&below, CP_ERESET);
	turn_until(&below.closed);
	cr_expect(cp_cause_is_reset(below.cause));
}

/** Bytes from the far end are kept by the bridge, and nobody takes them. */
static void block(const char *text)
{
	below.room = 0;
	far_write(text);
	for (int i = 0; i < TURNS_MOST && below.writes == 0; i++)
		fake_turns(loop, 1);
	cr_assert_gt(below.writes, 0);
}

Test(ws_bridge, one_that_is_broken_off_waits_for_nobody)
{
	build("");
	block("stuck");
	int copy = dup(far);
	ws_bridge_break(copy); /* the same socket, whatever its number */
	close(copy);
	turn_until(&below.closed);
	cr_expect(cp_cause_is_reset(below.cause));
	far_expect_end();
}

Test(ws_bridge, one_that_is_broken_off_delivers_what_goes_at_once)
{
	build("");
	fake_turns(loop, 5);
	far_write("last words");
	ws_bridge_break(far);
	turn_until(&below.closed);
	below_expect("last words");
	cr_expect(cp_cause_is_reset(below.cause));
}

Test(ws_bridge, only_what_is_broken_off_is)
{
	int other[2];
	build("");
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, other), 0);
	ws_bridge_break(other[0]);
	ws_bridge_break(-1);
	fake_turns(loop, 5);
	cr_expect_not(below.closed);
	close(other[0]);
	close(other[1]);
	fake_arrive(&below, "goes on", 7);
	far_expect("goes on");
}

static void on_tick(struct cp_timer *timer)
{
	loop_stop(timer->loop);
}

/** Run the loop, which may wait, until the bridge has closed what is below. */
static void run_until_closed(void)
{
	while (!below.closed) {
		struct cp_timer tick;
		cp_timer_init(&tick, loop, on_tick);
		cp_timer_start(&tick, 20);
		loop_run(loop);
		cp_timer_stop(&tick);
	}
}

Test(ws_bridge, behind_both_ends_bytes_that_nobody_takes_are_given_up)
{
	build("");
	block("stuck");
	fake_end(&below, 0);
	far_expect_end();
	far_close();
	run_until_closed();
	cr_expect(cp_cause_is_reset(below.cause), "bytes are missing");
}

Test(ws_bridge, behind_the_close_of_the_far_end_a_slow_reader_gets_it_all)
{
	build("");
	block("slowly");
	far_close();
	for (size_t room = 1; room <= 6; room++) {
		fake_room(&below, room);
		fake_turns(loop, 5);
	}
	turn_until(&below.shut);
	below_expect("slowly");
	cr_expect_not(below.closed);
}

Test(ws_bridge, without_descriptors_the_stream_stays_the_callers)
{
	struct rlimit limit, none;
	struct cp_error error = {0};
	getrlimit(RLIMIT_NOFILE, &limit);
	none = limit;
	none.rlim_cur = 0;
	setrlimit(RLIMIT_NOFILE, &none);
	int fd = ws_bridge(&below.stream, "", 0, NULL, &error);
	setrlimit(RLIMIT_NOFILE, &limit);
	cr_assert_eq(fd, -1);
	cr_expect_eq(error.code, CP_EMFILE, "%s", error.message);
	cr_expect_not(below.closed);
	cp_stream_close(&below.stream, CP_CAUSE_DONE);
}
