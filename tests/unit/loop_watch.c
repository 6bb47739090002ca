/* Descriptor watches. */
#include <connpipe/loop.h>
#include <loop/loop.h>

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct cp_loop *loop;
static struct cp_watch *watch;
static int ends[2]; /* a socket pair: the watch is on the first */
static unsigned calls, last_events;

static void set_up(void)
{
	calls = last_events = 0;
	loop = loop_new(0, NULL);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
}

static void tear_down(void)
{
	cp_watch_free(watch);
	watch = NULL;
	close(ends[0]);
	close(ends[1]);
	loop_free(loop);
}

TestSuite(loop_watch, .init = set_up, .fini = tear_down, .timeout = 20);

static void on_ready(int fd, unsigned events, void *arg)
{
	cr_assert_eq(fd, ends[0]);
	cr_assert_eq(arg, &calls);
	last_events = events;
	calls++;
}

static void watch_for(unsigned events)
{
	struct cp_error error = {0};

	watch = cp_watch_new(loop, ends[0], events, on_ready, &calls, &error);
	cr_assert_not_null(watch, "%s", error.message);
}

static unsigned turns_left;

static void count_turn(struct cp_deferred *deferred)
{
	if (--turns_left > 0)
		cp_defer(loop, deferred, count_turn);
	else
		loop_stop(loop);
}

/** Run that many turns, which do not wait. */
static unsigned calls_in_turns(unsigned count)
{
	struct cp_deferred deferred = {0};

	calls = last_events = 0;
	turns_left = count;
	cp_defer(loop, &deferred, count_turn);
	loop_run(loop);
	return calls;
}

static void make_readable(void)
{
	cr_assert_eq(write(ends[1], "x", 1), 1);
}

Test(loop_watch, level_reports_as_long_as_it_lasts)
{
	watch_for(CP_READABLE);
	cr_assert_eq(calls_in_turns(3), 0);
	make_readable();
	cr_assert_eq(calls_in_turns(3), 3);
	cr_assert_eq(last_events, CP_READABLE);
}

Test(loop_watch, edge_reports_each_change_once)
{
	watch_for(CP_READABLE | CP_EDGE);
	make_readable();
	cr_assert_eq(calls_in_turns(3), 1);
	make_readable();
	cr_assert_eq(calls_in_turns(3), 1);
}

Test(loop_watch, both_directions_come_in_one_call)
{
	watch_for(CP_READABLE | CP_WRITABLE);
	make_readable();
	cr_assert_eq(calls_in_turns(1), 1);
	cr_assert_eq(last_events, CP_READABLE | CP_WRITABLE);
}

Test(loop_watch, what_is_watched_can_be_changed_in_every_way)
{
	static const unsigned wanted[] = {
		0,
		CP_READABLE,
		CP_WRITABLE,
		CP_READABLE | CP_WRITABLE,
		CP_READABLE | CP_EDGE,
		CP_WRITABLE | CP_EDGE,
		CP_READABLE | CP_WRITABLE | CP_EDGE,
		CP_EDGE,
	};
	size_t count = sizeof(wanted) / sizeof(wanted[0]);

	watch_for(0);
	make_readable(); /* and it is writable */
	for (size_t from = 0; from < count; from++) {
		for (size_t to = 0; to < count; to++) {
			unsigned events = wanted[to] & (CP_READABLE | CP_WRITABLE);

			cr_assert_eq(cp_watch_set(watch, wanted[from]), CP_OK);
			calls_in_turns(2);
			cr_assert_eq(cp_watch_set(watch, wanted[to]), CP_OK);
			calls_in_turns(2);
			if (wanted[from] == wanted[to] && wanted[to] & CP_EDGE)
				continue; /* nothing has changed, so there is no edge */
			cr_assert_eq(last_events, events, "from %u to %u: %u", wanted[from], wanted[to], last_events);
			cr_assert_eq(calls, events == 0 ? 0u : wanted[to] & CP_EDGE ? 1u : 2u);
		}
	}
}

static void free_it(int fd, unsigned events, void *arg)
{
	(void)fd;
	(void)events;
	(void)arg;
	calls++;
	cp_watch_free(watch);
	watch = NULL;
}

Test(loop_watch, it_may_be_freed_in_its_own_call)
{
	watch = cp_watch_new(loop, ends[0], CP_READABLE | CP_WRITABLE, free_it, NULL, NULL);
	make_readable();
	cr_assert_eq(calls_in_turns(3), 1);
}

static struct cp_watch *pair[2];

static void free_other(int fd, unsigned events, void *arg)
{
	struct cp_watch **other = arg;

	(void)fd;
	(void)events;
	calls++;
	cp_watch_free(*other);
	*other = NULL;
}

Test(loop_watch, a_watch_freed_by_another_call_of_the_turn_is_not_called)
{
	pair[0] = cp_watch_new(loop, ends[0], CP_WRITABLE, free_other, &pair[1], NULL);
	pair[1] = cp_watch_new(loop, ends[1], CP_WRITABLE, free_other, &pair[0], NULL);
	cr_assert_eq(calls_in_turns(1), 1);
	cr_assert(!pair[0] != !pair[1], "one of the two is left");
	cp_watch_free(pair[0]);
	cp_watch_free(pair[1]);
}

Test(loop_watch, end_of_file_and_broken_pipe_are_reported)
{
	watch_for(CP_READABLE | CP_WRITABLE);
	close(ends[1]);
	ends[1] = -1;
	cr_assert_eq(calls_in_turns(1), 1);
	cr_assert_eq(last_events, CP_READABLE | CP_WRITABLE);
}

Test(loop_watch, what_cannot_be_watched_says_why)
{
	char name[] = "/tmp/unit_loop_XXXXXX";
	struct cp_error error = {0};
	int file = mkstemp(name);

	unlink(name);
	cr_assert_null(cp_watch_new(loop, file, CP_READABLE, on_ready, NULL, &error));
	cr_assert_eq(error.code, CP_EUNSUPPORTED);
	cr_assert_not_null(strstr(error.message, "file"), "%s", error.message);
	close(file);
	cr_assert_null(cp_watch_new(loop, file, CP_READABLE, on_ready, NULL, &error));
	cr_assert_not_null(strstr(error.message, strerror(EBADF)), "%s", error.message);
	cr_assert_null(cp_watch_new(loop, -1, CP_READABLE, on_ready, NULL, &error));
	cr_assert_eq(error.code, CP_EINVAL);
}
