/* echo, discard and reject. */
#include "core_fixture.h"

TestSuite(core_builtin, .init = fixture_start, .fini = fixture_stop);

Test(core_builtin, echo_gives_back_then_ends)
{
	struct cp_stream *stream = stream_to("echo:");
	struct reader reader = {0};
	write_all(stream, "hello, ");
	write_all(stream, "world");
	read_until(&reader, stream, 12);
	cr_expect_str_eq(reader.got, "hello, world");
	cr_expect_not(reader.end);
	write_all(stream, "!");
	cr_expect_eq(cp_stream_shutdown_write(stream), CP_OK);
	read_until(&reader, stream, 0);
	cr_expect_str_eq(reader.got, "hello, world!");
	cp_stream_close(stream, CP_CAUSE_DONE);
	free(reader.got);
	run_turns(1);
}

/** Sends a counted number of bytes, as fast as the stream takes them, and reads them back slowly. */
struct flood {
	size_t sent, got, total;
	bool done, filled;
};

static void flood_write(struct cp_stream *stream, struct flood *flood)
{
	char block[10007];
	while (flood->sent < flood->total) {
		size_t length = flood->total - flood->sent < sizeof(block) ? flood->total - flood->sent : sizeof(block);
		for (size_t i = 0; i < length; i++)
			block[i] = (char)((flood->sent + i) * 31);
		struct iovec vec[2] = {{block, length / 3}, {block + length / 3, length - length / 3}};
		ssize_t put = cp_stream_writev(stream, vec, 2, 0);
		if (put == CP_AGAIN) {
			flood->filled = true;
			return;
		}
		cr_assert_gt(put, 0);
		flood->sent += (size_t)put;
	}
	cp_stream_shutdown_write(stream);
}

static void flood_read(struct cp_stream *stream, struct flood *flood)
{
	char block[7001];
	struct iovec vec[2] = {{block, 1}, {block + 1, sizeof(block) - 1}};
	for (;;) {
		unsigned hints;
		ssize_t got = cp_stream_readv(stream, vec, 2, &hints);
		if (got == CP_AGAIN)
			return;
		cr_assert_geq(got, 0);
		for (size_t i = 0; i < (size_t)got; i++)
			cr_assert_eq(block[i], (char)((flood->got + i) * 31));
		flood->got += (size_t)got;
		if (hints & CP_READ_END) {
			flood->done = true;
			loop_stop(stream->loop);
			return;
		}
	}
}

static void flood_ready(struct cp_stream *stream, unsigned events, void *arg)
{
	if (events & CP_WRITABLE)
		flood_write(stream, arg);
	if (events & CP_READABLE)
		flood_read(stream, arg);
}

Test(core_builtin, echo_holds_at_most_64_kib)
{
	struct cp_stream *stream = stream_to("echo:");
	struct flood flood = {.total = 1000000};
	cp_stream_set_user(stream, flood_ready, &flood);
	flood_write(stream, &flood);
	cr_expect(flood.filled);
	cr_expect_eq(flood.sent, 65536);
	cp_stream_await(stream, CP_READABLE);
	run_until(&flood.done);
	cr_expect_eq(flood.got, flood.total);
	cp_stream_close(stream, CP_CAUSE_DONE);
	run_turns(1);
}

static void close_in_ready(struct cp_stream *stream, unsigned events, void *arg)
{
	(void)events;
	*(bool *)arg = true;
	cp_stream_close(stream, CP_CAUSE_KILLED);
	loop_stop(fixture.loop);
}

Test(core_builtin, echo_may_be_closed_when_it_is_ready)
{
	struct cp_stream *stream = stream_to("echo:");
	bool called = false;
	cp_stream_set_user(stream, close_in_ready, &called);
	cp_stream_await(stream, CP_READABLE);
	write_all(stream, "x");
	cr_expect_not(called, "ready from inside write");
	run_until(&called);
	run_turns(2);
}

Test(core_builtin, closing_forgets_a_call_that_is_due)
{
	struct cp_stream *stream = stream_to("echo:");
	bool called = false;
	cp_stream_set_user(stream, close_in_ready, &called);
	cp_stream_await(stream, CP_READABLE);
	write_all(stream, "x");
	cp_stream_close(stream, CP_CAUSE_DONE);
	run_turns(2);
	cr_expect_not(called);
}

Test(core_builtin, echo_refuses_writes_behind_the_end)
{
	struct cp_stream *stream = stream_to("echo:");
	struct iovec vec = {(char *)"x", 1};
	cp_stream_shutdown_write(stream);
	cr_expect_eq(cp_stream_writev(stream, &vec, 1, 0), CP_ERESET);
	cp_stream_close(stream, CP_CAUSE_DONE);
	run_turns(1);
}

Test(core_builtin, discard_takes_everything_and_ends_when_told)
{
	struct cp_stream *stream = stream_to("discard:");
	static char block[300000];
	struct iovec vec[2] = {{block, 100000}, {block + 100000, 200000}};
	struct reader reader = {.stream = stream};
	unsigned hints;
	cr_expect_eq(cp_stream_readv(stream, vec, 1, &hints), CP_AGAIN);
	cp_stream_set_user(stream, reader_ready, &reader);
	for (int i = 0; i < 10; i++)
		cr_expect_eq(cp_stream_writev(stream, vec, 2, 0), 300000);
	run_turns(3);
	cr_expect_not(reader.end);
	cr_expect_eq(cp_stream_shutdown_write(stream), CP_OK);
	cr_expect_not(reader.end, "ready from inside shutdown_write");
	run_until(&reader.done);
	cr_expect(reader.end);
	cr_expect_eq(reader.length, 0);
	cr_expect_eq(cp_stream_writev(stream, vec, 1, 0), CP_ERESET);
	cp_stream_close(stream, CP_CAUSE_DONE);
	free(reader.got);
	run_turns(1);
}

Test(core_builtin, reject_refuses_with_its_reason)
{
	struct connecting c;
	cr_expect_eq(connect_wait(&c, address_of("reject:closed for the %6eight"), 0), CP_EREFUSED);
	cr_expect_str_eq(c.open.error.message, "closed for the night");
	cr_expect_eq(connect_wait(&c, address_of("reject:"), 0), CP_EREFUSED);
	cr_expect_str_neq(c.open.error.message, "");
}

Test(core_builtin, cannot_be_bound)
{
	cr_expect_null(echo_connector.bind);
	cr_expect_null(discard_connector.bind);
	cr_expect_null(reject_connector.bind);
	cr_expect_null(exec_connector.bind);
}
