/* Messages over bytes: every split of the bytes, what a write below takes, and what is held. */
#include "../../systems/frame/frame.h"
#include "fake_bytes.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <malloc.h>

static struct cp_loop *loop;
static struct fake_bytes below;
static struct cp_stream *stream;
static struct fake_user user;

static void start(void)
{
	struct cp_error error;
	loop = loop_new(0, &error);
	cr_assert(loop, "%s", error.message);
	fake_init(&below, loop);
	stream = frame_stream_new(&below.stream, NULL);
	cr_assert(stream && stream->messages);
	fake_user_init(&user, stream);
}

static void stop(void)
{
	if (!below.closed)
		cp_stream_close(stream, CP_CAUSE_DONE);
	fake_turns(loop, 2);
	fake_deinit(&below);
	loop_free(loop);
}

TestSuite(frame, .init = start, .fini = stop, .timeout = 60);

static ssize_t read_into(void *bytes, size_t room, unsigned *hints)
{
	struct iovec vec = {bytes, room};
	return fake_user_read(&user, stream, &vec, 1, hints);
}

static ssize_t write_from(const void *bytes, size_t length, unsigned flags)
{
	struct iovec vec = {(void *)bytes, length};
	return fake_user_write(&user, stream, &vec, 1, flags);
}

static void expect(const char *message, unsigned wanted)
{
	char got[64];
	unsigned hints;
	cr_assert_eq(read_into(got, sizeof(got), &hints), (ssize_t)strlen(message), "\"%s\"", message);
	cr_assert_arr_eq(got, message, strlen(message));
	cr_assert_eq(hints, wanted, "\"%s\": %#x", message, hints);
}

static void expect_nothing(void)
{
	char got[8];
	unsigned hints;
	cr_assert_eq(read_into(got, sizeof(got), &hints), CP_AGAIN);
}

/* ---- Reading ------------------------------------------------------------------------------------------------ */

static const char three[] = "\0\3abc\0\0\0\5defgh"; /* "abc", "", "defgh" */
enum { THREE = sizeof(three) - 1 };

Test(frame, messages_of_one_segment_cost_one_read)
{
	fake_arrive(&below, three, THREE);
	expect("abc", 0);
	expect("", 0);
	expect("defgh", CP_READ_DRAINED);
	cr_assert_eq(below.reads, 1);
	cr_assert_not(user.can_read);
	fake_arrive(&below, three, 5);
	cr_assert(user.can_read, "nobody was called");
	expect("abc", CP_READ_DRAINED);
	cr_assert_eq(below.reads, 2);
}

/** Every way to cut the bytes into three pieces, with a stream that says when it is drained, and one that does not. */
Test(frame, any_split_of_the_bytes)
{
	for (unsigned kind = 0; kind < 4; kind++) {
		for (size_t a = 0; a <= THREE; a++) {
			for (size_t b = a; b <= THREE; b++) {
				const size_t ends[] = {a, b, THREE};
				size_t from = 0, found = 0;
				static const char *const messages[] = {"abc", "", "defgh"};
				below.says_drained = kind & 1;
				below.read_most = kind & 2 ? 1 : 0;
				for (int i = 0; i < 3; i++) {
					fake_arrive(&below, three + from, ends[i] - from);
					from = ends[i];
					while (user.can_read) {
						char got[16];
						unsigned hints;
						ssize_t length = read_into(got, sizeof(got), &hints);
						if (length == CP_AGAIN)
							break;
						cr_assert_lt(found, 3);
						cr_assert_eq(length, (ssize_t)strlen(messages[found]), "cut at %zu and %zu", a, b);
						cr_assert_arr_eq(got, messages[found], (size_t)length);
						found++;
					}
				}
				cr_assert_eq(found, 3, "cut at %zu and %zu: %zu messages", a, b, found);
			}
		}
	}
}

Test(frame, a_message_larger_than_the_vectors_comes_in_full_pieces)
{
	char one[2], two[3];
	struct iovec vec[] = {{one, 2}, {NULL, 0}, {two, 3}};
	unsigned hints;
	fake_arrive(&below,
				"\0\x0c"
				"abcd",
				6);
	cr_assert_eq(fake_user_read(&user, stream, vec, 3, &hints), CP_AGAIN, "less than the vectors take");
	fake_arrive(&below, "efghij", 6);
	cr_assert_eq(fake_user_read(&user, stream, vec, 3, &hints), 5);
	cr_assert_eq(hints, CP_READ_MORE);
	cr_assert_arr_eq(one, "ab", 2);
	cr_assert_arr_eq(two, "cde", 3);
	expect_nothing();
	fake_arrive(&below, "kl\0\1m", 5);
	expect("fghijkl", 0);
	expect("m", CP_READ_DRAINED);
}

Test(frame, who_waits_for_what_was_read_ahead_is_called)
{
	fake_arrive(&below, three, THREE);
	expect("abc", 0);
	user.can_read = false;
	cp_stream_await(stream, CP_READABLE);
	cr_assert_eq(user.called, 0, "called from inside");
	fake_turns(loop, 1);
	cr_assert(user.can_read);
	expect("", 0);
}

Test(frame, the_end_behind_a_message)
{
	unsigned hints;
	char byte;
	below.end_with_data = true;
	below.ended = true;
	fake_arrive(&below, three, THREE);
	expect("abc", 0);
	expect("", 0);
	expect("defgh", CP_READ_END);
	cr_assert_eq(read_into(&byte, 1, &hints), 0);
	cr_assert_eq(hints, CP_READ_END);
	fake_end(&below, CP_ERESET);
	cr_assert_eq(read_into(&byte, 1, &hints), CP_ERESET, "what comes behind a half close");
}

/** Length 0 with CP_READ_END would be the end alone. */
Test(frame, an_empty_message_and_then_the_end)
{
	unsigned hints;
	char byte;
	below.end_with_data = true;
	below.ended = true;
	fake_arrive(&below, "\0\0", 2);
	cr_assert_eq(read_into(&byte, 1, &hints), 0);
	cr_assert_eq(hints, 0, "%#x", hints);
	cr_assert_eq(read_into(&byte, 1, &hints), 0);
	cr_assert_eq(hints, CP_READ_END);
}

Test(frame, the_end_inside_a_message_is_a_reset)
{
	for (size_t cut = 1; cut < 5; cut++) {
		char got[8];
		unsigned hints;
		fake_arrive(&below, "\0\3abc", cut);
		fake_end(&below, 0);
		cr_assert_eq(read_into(got, sizeof(got), &hints), CP_ERESET, "cut at %zu", cut);
		cr_assert_eq(read_into(got, sizeof(got), &hints), CP_ERESET, "it stays so");
		cp_stream_close(stream, CP_CAUSE_CLIENT_RESET);
		fake_turns(loop, 1);
		fake_deinit(&below);
		fake_init(&below, loop);
		stream = frame_stream_new(&below.stream, NULL);
		fake_user_init(&user, stream);
	}
}

Test(frame, messages_before_an_error_are_delivered)
{
	char byte;
	unsigned hints;
	fake_arrive(&below, "\0\1a\0\1b\0", 7);
	fake_end(&below, CP_ERESET);
	expect("a", 0);
	expect("b", 0);
	cr_assert_eq(read_into(&byte, 1, &hints), CP_ERESET);
}

/** A peer that announces 64 KiB has to send them before they cost memory. */
Test(frame, memory_follows_what_has_come)
{
	struct mallinfo2 before = mallinfo2();
	fake_arrive(&below,
				"\xff\xff"
				"abc",
				5);
	expect_nothing();
	cr_assert_lt(mallinfo2().uordblks - before.uordblks, 1024);
}

/* ---- Writing ------------------------------------------------------------------------------------------------ */

static void expect_out(const char *bytes, size_t length)
{
	cr_assert_eq(below.out_length, length, "%zu bytes below", below.out_length);
	cr_assert_arr_eq(below.out, bytes, length);
}

Test(frame, head_and_message_go_in_one_write)
{
	struct iovec vec[] = {{"ab", 2}, {"", 0}, {"c", 1}};
	cr_assert_eq(fake_user_write(&user, stream, vec, 3, 0), 3);
	cr_assert_eq(below.writes, 1);
	cr_assert_eq(write_from("", 0, CP_WRITE_TEXT), 0);
	cr_assert_eq(write_from("defgh", 5, 0), 5);
	cr_assert_eq(below.writes, 3);
	expect_out(three, THREE);
}

Test(frame, nothing_is_taken_where_nothing_fits)
{
	below.room = 0;
	cr_assert_eq(write_from("abc", 3, 0), CP_AGAIN);
	cr_assert_eq(write_from("", 0, 0), CP_AGAIN);
	fake_room(&below, 100);
	cr_assert(user.can_write);
	cr_assert_eq(write_from("abc", 3, 0), 3);
	expect_out("\0\3abc", 5);
}

Test(frame, a_message_that_fits_in_part_is_taken)
{
	for (size_t room = 1; room < 5; room++) {
		size_t before = below.out_length;
		below.room = room;
		cr_assert_eq(write_from("abc", 3, 0), 3);
		cr_assert_eq(below.out_length - before, room);
		cr_assert_eq(write_from("d", 1, 0), CP_AGAIN, "more than one message is held");
		fake_room(&below, SIZE_MAX / 2);
		cr_assert(user.can_write);
		cr_assert_eq(below.out_length - before, 5);
		cr_assert_arr_eq(below.out + before, "\0\3abc", 5);
	}
}

/** The rest goes by itself, and nobody is called who does not wait. */
Test(frame, a_rest_byte_by_byte)
{
	below.room = 1;
	cr_assert_eq(write_from("abc", 3, 0), 3);
	for (size_t i = 2; i <= 5; i++) {
		fake_room(&below, 1);
		cr_assert_eq(below.out_length, i);
	}
	cr_assert_eq(user.called, 0);
	expect_out("\0\3abc", 5);
}

Test(frame, pieces_become_one_message)
{
	cr_assert_eq(write_from("ab", 2, CP_WRITE_MORE), 2);
	cr_assert_eq(write_from("", 0, CP_WRITE_MORE), 0);
	cr_assert_eq(write_from("c", 1, CP_WRITE_MORE), 1);
	cr_assert_eq(below.writes, 0);
	below.room = 0;
	cr_assert_eq(write_from("de", 2, 0), 2, "it is kept already, so it is taken");
	cr_assert_eq(write_from("f", 1, CP_WRITE_MORE), CP_AGAIN, "and that is all that is held");
	fake_room(&below, 100);
	expect_out("\0\5abcde", 7);
	cr_assert_eq(below.writes, 2);
}

Test(frame, many_vectors)
{
	struct iovec vec[64];
	for (int i = 0; i < 64; i++)
		vec[i] = (struct iovec){"x", 1};
	cr_assert_eq(fake_user_write(&user, stream, vec, 64, 0), 64);
	cr_assert_eq(below.writes, 1);
	cr_assert_eq(below.out_length, 66);
	cr_assert_eq(below.out[1], 64);
}

Test(frame, the_longest_message_and_one_byte_more)
{
	static char bytes[65536];
	cr_assert_eq(write_from(bytes, 65535, 0), 65535);
	cr_assert_eq(below.out_length, 65537);
	cr_assert_eq(write_from(bytes, 65536, 0), CP_ELIMIT);
	cr_assert_eq(write_from(bytes, 1, 0), CP_ELIMIT, "it stays so");
	cr_assert_eq(below.out_length, 65537, "nothing of it has gone");
}

Test(frame, pieces_beyond_the_longest_message)
{
	static char bytes[65535];
	cr_assert_eq(write_from(bytes, 65535, CP_WRITE_MORE), 65535);
	cr_assert_eq(write_from(bytes, 0, CP_WRITE_MORE), 0);
	cr_assert_eq(write_from(bytes, 1, 0), CP_ELIMIT);
	cp_stream_close(stream, CP_CAUSE_DONE);
	cr_assert(cp_cause_is_reset(below.cause), "half a message would look like nothing at all");
}

Test(frame, a_broken_stream_below)
{
	below.write_error = CP_ERESET;
	cr_assert_eq(write_from("a", 1, 0), CP_ERESET);
	below.write_error = 0;
	cr_assert_eq(write_from("a", 1, 0), CP_ERESET);
	fake_arrive(&below, three, THREE);
	expect("abc", 0);
}

Test(frame, a_rest_that_breaks_is_told)
{
	below.room = 1;
	cr_assert_eq(write_from("abc", 3, 0), 3);
	cr_assert_eq(write_from("def", 3, 0), CP_AGAIN);
	below.write_error = CP_ERESET;
	fake_room(&below, 1);
	cr_assert(user.can_write);
	cr_assert_eq(write_from("def", 3, 0), CP_ERESET);
}

/* ---- Ends --------------------------------------------------------------------------------------------------- */

Test(frame, the_end_goes_behind_the_rest)
{
	below.room = 3;
	cr_assert_eq(write_from("abc", 3, 0), 3);
	cr_assert_eq(cp_stream_shutdown_write(stream), CP_OK);
	cr_assert_not(below.shut);
	fake_room(&below, 100);
	cr_assert(below.shut);
	expect_out("\0\3abc", 5);
	fake_arrive(&below, three, THREE);
	expect("abc", 0);
}

Test(frame, an_end_inside_a_message_is_refused)
{
	cr_assert_eq(write_from("abc", 3, CP_WRITE_MORE), 3);
	cr_assert_eq(cp_stream_shutdown_write(stream), CP_EINVAL);
	cr_assert_not(below.shut);
	cp_stream_close(stream, CP_CAUSE_DONE);
	cr_assert(cp_cause_is_reset(below.cause));
}

struct closing {
	enum cp_cause cause;
	bool shut;
};

static struct closing closings[] = {
	{CP_CAUSE_DONE, false},
	{CP_CAUSE_DONE, true},
	{CP_CAUSE_CLIENT_RESET, false},
	{CP_CAUSE_CLIENT_RESET, true},
};

ParameterizedTestParameters(frame, a_close_delivers_what_was_taken)
{
	return cr_make_param_array(struct closing, closings, sizeof(closings) / sizeof(*closings));
}

ParameterizedTest(struct closing *c, frame, a_close_delivers_what_was_taken)
{
	below.room = 1;
	cr_assert_eq(write_from("abc", 3, 0), 3);
	if (c->shut)
		cp_stream_shutdown_write(stream);
	cp_stream_close(stream, c->cause);
	cr_assert_not(below.closed);
	fake_room(&below, 2);
	cr_assert_not(below.closed);
	fake_room(&below, 2);
	cr_assert(below.closed);
	cr_assert_eq(below.cause, c->cause);
	expect_out("\0\3abc", 5);
}

Test(frame, a_close_whose_rest_breaks_is_a_reset)
{
	below.room = 1;
	cr_assert_eq(write_from("abc", 3, 0), 3);
	cp_stream_close(stream, CP_CAUSE_DONE);
	below.write_error = CP_ERESET;
	fake_room(&below, 1);
	cr_assert(below.closed && cp_cause_is_reset(below.cause));
}

/* ---- At random ---------------------------------------------------------------------------------------------- */

enum { RUNS = 200, MESSAGES = 60, LONG = 70 };

struct random_run {
	uint64_t seed;
	struct fake_bytes wire[2]; /* below the writer; below the reader */
	struct cp_stream *end[2];
	struct fake_user user[2];
	size_t carried;          /* bytes that went from one wire to the other */
	unsigned sent, received; /* messages, and the place in each */
	size_t sent_at, received_at;
	bool end_seen;
};

static size_t length_of(unsigned message)
{
	return message % 7 == 3 ? 0 : message % 11 == 5 ? 20 * LONG : message * 31 % LONG;
}

static char byte_of(unsigned message, size_t at)
{
	return (char)(message * 17 + at * 3);
}

static void random_write(struct random_run *r)
{
	char bytes[20 * LONG];
	size_t left = length_of(r->sent) - r->sent_at;
	size_t piece = fake_random(&r->seed, 3) ? left : fake_random(&r->seed, (uint32_t)left + 1);
	size_t first = fake_random(&r->seed, (uint32_t)piece + 1);
	for (size_t i = 0; i < piece; i++)
		bytes[i] = byte_of(r->sent, r->sent_at + i);
	struct iovec vec[] = {{bytes, first}, {bytes + first, piece - first}};
	ssize_t put = fake_user_write(&r->user[0], r->end[0], vec, 2, piece < left ? CP_WRITE_MORE : 0);
	if (put == CP_AGAIN)
		return;
	cr_assert_eq(put, (ssize_t)piece);
	r->sent_at += piece;
	if (piece == left) {
		r->sent++;
		r->sent_at = 0;
	}
	if (r->sent == MESSAGES)
		cr_assert_eq(cp_stream_shutdown_write(r->end[0]), CP_OK);
}

static void random_read(struct random_run *r)
{
	char bytes[40 * LONG];
	unsigned hints;
	size_t room = 1 + fake_random(&r->seed, fake_random(&r->seed, 2) ? sizeof(bytes) - 1 : 20);
	size_t first = fake_random(&r->seed, (uint32_t)room);
	struct iovec vec[] = {{bytes, first}, {bytes + first, room - first}};
	ssize_t got = fake_user_read(&r->user[1], r->end[1], vec, 2, &hints);
	if (got == CP_AGAIN)
		return;
	if (got == 0 && hints & CP_READ_END) {
		r->end_seen = true;
		return;
	}
	size_t left = length_of(r->received) - r->received_at;
	cr_assert_eq(got, (ssize_t)(left < room ? left : room), "message %u", r->received);
	cr_assert_eq(!!(hints & CP_READ_MORE), left > room);
	for (ssize_t i = 0; i < got; i++)
		cr_assert_eq(bytes[i], byte_of(r->received, r->received_at + (size_t)i));
	r->received_at += (size_t)got;
	if (!(hints & CP_READ_MORE)) {
		r->received++;
		r->received_at = 0;
	}
	r->end_seen = hints & CP_READ_END;
}

static void random_carry(struct random_run *r)
{
	size_t there = r->wire[0].out_length - r->carried;
	size_t piece = fake_random(&r->seed, (uint32_t)there + 1);
	if (piece)
		fake_arrive(&r->wire[1], r->wire[0].out + r->carried, piece);
	r->carried += piece;
	if (r->wire[0].shut && r->carried == r->wire[0].out_length && !r->wire[1].ended)
		fake_end(&r->wire[1], 0);
}

static void random_step(struct random_run *r)
{
	switch (fake_random(&r->seed, 6)) {
	case 0:
		if (r->user[0].can_write && r->sent < MESSAGES)
			random_write(r);
		break;
	case 1:
		if (r->user[1].can_read)
			random_read(r);
		break;
	case 2:
		random_carry(r);
		break;
	case 3:
		fake_room(&r->wire[0], fake_random(&r->seed, 3 * LONG));
		break;
	case 4:
		r->wire[1].read_most = fake_random(&r->seed, 2) * fake_random(&r->seed, LONG);
		r->wire[1].says_drained = fake_random(&r->seed, 2);
		break;
	default:
		fake_turns(loop, 1);
	}
}

Test(frame, any_order_of_events)
{
	for (uint64_t run = 1; run <= RUNS; run++) {
		struct random_run r = {.seed = run};
		for (int i = 0; i < 2; i++) {
			fake_init(&r.wire[i], loop);
			r.end[i] = frame_stream_new(&r.wire[i].stream, NULL);
			fake_user_init(&r.user[i], r.end[i]);
		}
		r.wire[1].end_with_data = run % 2;
		for (unsigned step = 0; !r.end_seen; step++) {
			random_step(&r);
			cr_assert_lt(step, 100000, "run %u hangs: %u sent, %u received", (unsigned)run, r.sent, r.received);
		}
		cr_assert_eq(r.received, MESSAGES);
		for (int i = 0; i < 2; i++) {
			cp_stream_close(r.end[i], CP_CAUSE_DONE);
			cr_assert(r.wire[i].closed);
			fake_deinit(&r.wire[i]);
		}
		fake_turns(loop, 1);
	}
}
