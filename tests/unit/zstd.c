/* The compressing stream: every split of the bytes, frames of others, what is held, and what is given back. */
#include "../../systems/zstd/zstd.h"
#include "fake_bytes.h"

#include <connpipe/arena.h>

#include <criterion/criterion.h>
#include <criterion/parameterized.h>

enum { IDLE_MS = 20, WINDOW_LOG = 16, LIMIT_LOG = 18 };

static struct cp_loop *loop;
static struct zstd_worker *slots[1];
static struct zstd_shared shared;
static struct zstd_options options;
static struct zstd_worker *worker;
static struct fake_bytes below;
static struct cp_stream *stream;
static struct fake_user user;

static struct cp_stream *open_on(struct fake_bytes *fake)
{
	fake_init(fake, loop);
	return zstd_stream_new(worker, &options, &fake->stream, NULL);
}

static void start(void)
{
	struct cp_error error;
	loop = loop_new(0, &error);
	cr_assert(loop, "%s", error.message);
	options = (struct zstd_options){.level = 3, .window_log = WINDOW_LOG, .window_limit_log = LIMIT_LOG};
	shared = (struct zstd_shared){
		.workers = slots,
		.compressors = cp_counter_get("zstd_compressors", CP_GAUGE, "Contexts."),
		.decompressors = cp_counter_get("zstd_decompressors", CP_GAUGE, "Contexts."),
		.written = CP_COUNTER_NONE,
		.written_compressed = CP_COUNTER_NONE,
		.read = CP_COUNTER_NONE,
		.read_compressed = CP_COUNTER_NONE,
		.malformed = CP_COUNTER_NONE,
	};
	worker = zstd_worker_get(&shared, loop);
	stream = open_on(&below);
	fake_user_init(&user, stream);
}

static void stop(void)
{
	if (!below.closed)
		cp_stream_close(stream, CP_CAUSE_DONE);
	fake_turns(loop, 2);
	cr_assert_eq(cp_counter_sum(shared.compressors), 0, "a compressor was not given back");
	cr_assert_eq(cp_counter_sum(shared.decompressors), 0, "a decompressor was not given back");
	fake_deinit(&below);
	zstd_worker_free(&shared, loop);
	slots[0] = NULL;
	loop_free(loop);
}

TestSuite(zstd, .init = start, .fini = stop, .timeout = 120);

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

/** What zstd makes of the bytes that were written below; `length` of them are enough. */
static size_t decompress(const char *bytes, size_t length, char *out, size_t room, size_t *left)
{
	ZSTD_DCtx *context = ZSTD_createDCtx();
	ZSTD_inBuffer in = {bytes, length, 0};
	ZSTD_outBuffer to = {out, room, 0};
	*left = 1;
	while (in.pos < in.size) {
		*left = ZSTD_decompressStream(context, &to, &in);
		cr_assert_not(ZSTD_isError(*left), "%s", ZSTD_getErrorName(*left));
	}
	ZSTD_freeDCtx(context);
	return to.pos;
}

/** One frame of `bytes`. */
static size_t frame_of(const void *bytes, size_t length, char *out, size_t room)
{
	size_t made = ZSTD_compress(out, room, bytes, length, 3);
	cr_assert_not(ZSTD_isError(made));
	return made;
}

static void expect(const char *text, unsigned wanted)
{
	char got[256];
	unsigned hints;
	cr_assert_eq(read_into(got, sizeof(got), &hints), (ssize_t)strlen(text), "\"%s\"", text);
	cr_assert_arr_eq(got, text, strlen(text));
	cr_assert_eq(hints, wanted, "\"%s\": %#x", text, hints);
}

static void expect_error(int error)
{
	char byte;
	unsigned hints;
	cr_assert_eq(read_into(&byte, 1, &hints), error);
	cr_assert_eq(read_into(&byte, 1, &hints), error, "it stays so");
}

static void expect_nothing(void)
{
	char byte;
	unsigned hints;
	cr_assert_eq(read_into(&byte, 1, &hints), CP_AGAIN);
}

/** Letters with little order, the same ones each time. */
static char *letters(size_t length)
{
	uint64_t seed = 5;
	char *bytes = malloc(length);
	for (size_t i = 0; i < length; i++)
		bytes[i] = (char)('a' + fake_random(&seed, 20) * (i % 3));
	return bytes;
}

/* ---- Writing ------------------------------------------------------------------------------------------------ */

Test(zstd, a_write_can_be_read_at_once)
{
	char out[64];
	size_t left;
	cr_assert_eq(write_from("hello ", 6, 0), 6);
	cr_assert_eq(decompress(below.out, below.out_length, out, sizeof(out), &left), 6);
	cr_assert_eq(write_from("world", 5, 0), 5);
	cr_assert_eq(below.writes, 2, "one write each");
	cr_assert_eq(decompress(below.out, below.out_length, out, sizeof(out), &left), 11);
	cr_assert_arr_eq(out, "hello world", 11);
	cr_assert_neq(left, 0, "the frame goes on");
}

Test(zstd, more_is_waited_for)
{
	char out[64];
	size_t left;
	struct iovec vec[] = {{"b", 1}, {"", 0}, {"c", 1}, {"", 0}};
	cr_assert_eq(write_from("a", 1, CP_WRITE_MORE), 1);
	cr_assert_eq(below.out_length, 0);
	cr_assert_eq(fake_user_write(&user, stream, vec, 4, 0), 2);
	cr_assert_eq(below.writes, 1);
	cr_assert_eq(decompress(below.out, below.out_length, out, sizeof(out), &left), 3);
	cr_assert_arr_eq(out, "abc", 3);
	cr_assert_eq(write_from("", 0, 0), 0);
	cr_assert_eq(below.writes, 1);
}

Test(zstd, the_end_of_writing_ends_the_frame)
{
	char out[64];
	size_t left;
	write_from("abc", 3, CP_WRITE_MORE);
	cr_assert_eq(cp_stream_shutdown_write(stream), CP_OK);
	cr_assert(below.shut);
	cr_assert_eq(decompress(below.out, below.out_length, out, sizeof(out), &left), 3);
	cr_assert_eq(left, 0);
	cr_assert_eq(cp_counter_sum(shared.compressors), 0);
}

Test(zstd, a_direction_without_bytes_is_an_empty_frame)
{
	char out[64];
	size_t left;
	cr_assert_eq(cp_stream_shutdown_write(stream), CP_OK);
	cr_assert(below.shut);
	cr_assert_eq(decompress(below.out, below.out_length, out, sizeof(out), &left), 0);
	cr_assert_eq(left, 0);
	cp_stream_close(stream, CP_CAUSE_DONE);
	cr_assert_eq(below.out_length, 9, "once");
}

Test(zstd, one_piece_is_held_where_nothing_fits)
{
	enum { LENGTH = 1 << 20 };
	char *bytes = letters(LENGTH), *out = malloc(LENGTH);
	size_t left, taken = 0;
	unsigned writes = 0;
	below.room = 0;
	ssize_t put = write_from(bytes, LENGTH, 0);
	cr_assert(put > 0 && put < LENGTH, "%zd", put);
	taken = (size_t)put;
	cr_assert_eq(write_from(bytes + taken, LENGTH - taken, 0), CP_AGAIN);
	while (taken < LENGTH) {
		cr_assert_lt(writes++, 100000, "it hangs");
		fake_room(&below, 10000);
		if (!user.can_write)
			continue;
		put = write_from(bytes + taken, LENGTH - taken, 0);
		taken += put > 0 ? (size_t)put : 0;
	}
	while (below.armed & CP_WRITABLE)
		fake_room(&below, 10000);
	cr_assert_eq(decompress(below.out, below.out_length, out, LENGTH, &left), LENGTH);
	cr_assert_arr_eq(out, bytes, LENGTH);
	free(bytes);
	free(out);
}

/** What was taken arrives, also if the rest never comes. */
Test(zstd, what_was_taken_does_not_wait_for_what_was_not)
{
	enum { LENGTH = 1 << 20 };
	char *bytes = letters(LENGTH), *out = malloc(LENGTH);
	struct iovec vec[] = {{bytes, LENGTH / 2}, {bytes + LENGTH / 2, LENGTH / 2}};
	size_t left;
	below.room = 10;
	ssize_t put = fake_user_write(&user, stream, vec, 2, CP_WRITE_MORE);
	cr_assert(put > 0 && put < LENGTH);
	while (below.armed & CP_WRITABLE)
		fake_room(&below, 5000);
	cr_assert_eq(decompress(below.out, below.out_length, out, LENGTH, &left), (size_t)put);
	cr_assert(user.can_write);
	free(bytes);
	free(out);
}

Test(zstd, a_broken_stream_below)
{
	below.write_error = CP_ERESET;
	cr_assert_eq(write_from("a", 1, 0), CP_ERESET);
	cr_assert_eq(write_from("a", 1, 0), CP_ERESET);
	cr_assert_eq(cp_stream_shutdown_write(stream), CP_ERESET);
	cp_stream_close(stream, CP_CAUSE_DONE);
	cr_assert(cp_cause_is_reset(below.cause));
}

/* ---- Reading ------------------------------------------------------------------------------------------------ */

Test(zstd, any_split_of_the_bytes)
{
	char frames[256], got[64];
	size_t length = frame_of("hello ", 6, frames, sizeof(frames));
	length += frame_of("", 0, frames + length, sizeof(frames) - length);
	memcpy(frames + length, "\x50\x2a\x4d\x18\3\0\0\0xyz", 11); /* to be skipped */
	length += 11;
	length += frame_of("world", 5, frames + length, sizeof(frames) - length);
	for (size_t cut = 0; cut <= length; cut++) {
		for (unsigned kind = 0; kind < 4; kind++) {
			struct fake_bytes fake;
			struct cp_stream *s = open_on(&fake);
			struct fake_user u;
			size_t have = 0;
			unsigned hints = 0;
			fake_user_init(&u, s);
			fake.read_most = kind & 1;
			fake.says_drained = fake.end_with_data = kind & 2;
			for (int part = 0; part < 2; part++) {
				fake_arrive(&fake, frames + (part ? cut : 0), part ? length - cut : cut);
				if (part)
					fake_end(&fake, 0);
				for (int turn = 0; turn < 10; turn++) { /* many reads without a byte take several turns */
					fake_turns(loop, 1);
					while (u.can_read && !(hints & CP_READ_END)) {
						struct iovec vec = {got + have, kind & 2 ? 1 : sizeof(got) - have};
						ssize_t n = fake_user_read(&u, s, &vec, 1, &hints);
						have += n > 0 ? (size_t)n : 0;
						cr_assert(n >= 0 || n == CP_AGAIN, "cut at %zu: %zd", cut, n);
					}
				}
			}
			cr_assert_eq(have, 11, "cut at %zu, kind %u: %zu bytes", cut, kind, have);
			cr_assert_arr_eq(got, "hello world", 11);
			cr_assert(hints & CP_READ_END);
			cp_stream_close(s, CP_CAUSE_DONE);
			fake_turns(loop, 1);
			fake_deinit(&fake);
		}
	}
}

Test(zstd, the_end_behind_a_frame)
{
	char frame[64];
	size_t length = frame_of("abc", 3, frame, sizeof(frame));
	unsigned hints;
	char byte;
	below.ended = below.end_with_data = true;
	fake_arrive(&below, frame, length);
	expect("abc", CP_READ_END);
	cr_assert_eq(cp_counter_sum(shared.decompressors), 0);
	cr_assert_eq(read_into(&byte, 1, &hints), 0);
	cr_assert_eq(hints, CP_READ_END);
	fake_end(&below, CP_ERESET);
	expect_error(CP_ERESET);
}

Test(zstd, the_end_anywhere_else_is_a_reset)
{
	char frame[64], got[8];
	size_t length = frame_of("abc", 3, frame, sizeof(frame));
	for (size_t cut = 0; cut < length; cut++) {
		struct fake_bytes fake;
		struct cp_stream *s = open_on(&fake);
		struct iovec vec = {got, sizeof(got)};
		unsigned hints;
		ssize_t n;
		fake_arrive(&fake, frame, cut);
		fake_end(&fake, 0);
		while ((n = cp_stream_readv(s, &vec, 1, &hints)) > 0)
			cr_assert_eq(hints, 0);
		cr_assert_eq(n, CP_ERESET, "cut at %zu: %zd", cut, n);
		cp_stream_close(s, CP_CAUSE_CLIENT_RESET);
		fake_deinit(&fake);
	}
	fake_turns(loop, 1);
}

Test(zstd, bytes_before_an_error_are_delivered)
{
	char frame[64];
	size_t length = frame_of("abc", 3, frame, sizeof(frame));
	memcpy(frame + length, "GET / HTTP/1.0", 14);
	fake_arrive(&below, frame, length + 14);
	expect("abc", 0);
	expect_error(CP_EPROTO);
}

Test(zstd, garbage_is_a_protocol_error)
{
	fake_arrive(&below, "SSH-2.0-x\r\n", 11);
	expect_error(CP_EPROTO);
}

Test(zstd, a_wrong_checksum_is_a_protocol_error)
{
	char frame[64];
	ZSTD_CCtx *context = ZSTD_createCCtx();
	ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
	size_t length = ZSTD_compress2(context, frame, sizeof(frame), "abc", 3);
	ZSTD_freeCCtx(context);
	frame[length - 1] ^= 1;
	fake_arrive(&below, frame, length);
	char got[8];
	unsigned hints;
	while (read_into(got, sizeof(got), &hints) > 0)
		;
	expect_error(CP_EPROTO);
}

/** A block is decompressed as a whole: its bytes wait inside, with nothing more to read below. */
Test(zstd, what_was_flushed_is_read_to_the_last_byte)
{
	enum { LENGTH = 5000, ROOM = 100 };
	char *bytes = letters(LENGTH), got[ROOM];
	size_t total = 0;
	unsigned hints;
	write_from(bytes, LENGTH, 0);
	fake_arrive(&below, below.out, below.out_length);
	while (user.can_read && total < LENGTH) {
		cr_assert_eq(read_into(got, ROOM, &hints), ROOM, "behind %zu bytes", total);
		cr_assert_arr_eq(got, bytes + total, ROOM);
		total += ROOM;
	}
	cr_assert_eq(total, LENGTH);
	cr_assert_eq(below.reads, 1);
	free(bytes);
}

/** Many MiB in a few bytes: each read fills what the user has, and nothing is read below meanwhile. */
Test(zstd, a_bomb_only_makes_many_reads)
{
	enum { LENGTH = 64 << 20, ROOM = 16384 };
	ZSTD_CCtx *context = ZSTD_createCCtx();
	ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, LIMIT_LOG);
	static char zeros[1 << 20], frame[1 << 16], got[ROOM];
	ZSTD_outBuffer out = {frame, sizeof(frame), 0};
	for (int i = 0; i < LENGTH >> 20; i++) {
		ZSTD_inBuffer in = {zeros, sizeof(zeros), 0};
		cr_assert_not(ZSTD_isError(ZSTD_compressStream2(context, &out, &in, ZSTD_e_continue)));
	}
	ZSTD_inBuffer nothing = {NULL, 0, 0};
	cr_assert_eq(ZSTD_compressStream2(context, &out, &nothing, ZSTD_e_end), 0);
	ZSTD_freeCCtx(context);
	fake_arrive(&below, frame, out.pos);
	size_t total = 0;
	unsigned hints;
	while (total < LENGTH) {
		ssize_t n = read_into(got, sizeof(got), &hints);
		cr_assert_gt(n, 0);
		total += (size_t)n;
		if (total <= LENGTH / 2)
			cr_assert_leq(below.reads, 1, "it reads on");
	}
	cr_assert_eq(total, LENGTH);
	expect_nothing();
	cr_assert_eq(cp_counter_sum(shared.decompressors), 0);
}

Test(zstd, a_window_over_the_limit_is_refused)
{
	char frame[256];
	for (int log = LIMIT_LOG; log <= LIMIT_LOG + 1; log++) {
		ZSTD_CCtx *context = ZSTD_createCCtx();
		ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, log);
		ZSTD_inBuffer in = {"abc", 3, 0};
		ZSTD_outBuffer out = {frame, sizeof(frame), 0};
		ZSTD_compressStream2(context, &out, &in, ZSTD_e_flush);
		ZSTD_freeCCtx(context);
		struct fake_bytes fake;
		struct cp_stream *s = open_on(&fake);
		struct iovec vec = {frame + 128, 128};
		unsigned hints;
		fake_arrive(&fake, frame, out.pos);
		cr_assert_eq(cp_stream_readv(s, &vec, 1, &hints), log > LIMIT_LOG ? CP_EPROTO : 3);
		cp_stream_close(s, CP_CAUSE_CLIENT_RESET);
		fake_turns(loop, 1);
		fake_deinit(&fake);
	}
}

/** A peer that sends frames without a byte in them must not keep the worker to itself. */
Test(zstd, empty_frames_take_turns)
{
	static char frames[9 * 10000];
	for (size_t i = 0; i < sizeof(frames); i += 9)
		memcpy(frames + i, "\x28\xb5\x2f\xfd\x20\0\1\0\0", 9);
	below.read_most = 90;
	fake_arrive(&below, frames, sizeof(frames));
	expect_nothing();
	cr_assert_lt(below.reads, 100);
	for (unsigned turns = 0; below.in_at < below.in_length; turns++) {
		cr_assert_lt(turns, 1000);
		fake_turns(loop, 1);
		cr_assert(user.can_read, "nobody was called");
		expect_nothing();
	}
}

Test(zstd, who_waits_for_what_was_read_ahead_is_called)
{
	char frame[64], byte;
	unsigned hints;
	fake_arrive(&below, frame, frame_of("abc", 3, frame, sizeof(frame)));
	cr_assert_eq(read_into(&byte, 1, &hints), 1);
	cr_assert_eq(hints, 0);
	user.can_read = false;
	cp_stream_await(stream, CP_READABLE);
	cr_assert_eq(user.called, 0);
	fake_turns(loop, 1);
	cr_assert(user.can_read);
	expect("bc", CP_READ_DRAINED);
}

/* ---- What an idle connection holds -------------------------------------------------------------------------- */

static void run_until_idle(void)
{
	while (cp_counter_sum(shared.compressors) > 0)
		fake_turns(loop, 1);
}

Test(zstd, an_idle_frame_ends_and_another_one_begins)
{
	char out[64], got[16];
	size_t left;
	unsigned hints;
	options.idle_ms = IDLE_MS;
	write_from("abc", 3, 0);
	cr_assert_eq(cp_counter_sum(shared.compressors), 1);
	run_until_idle();
	cr_assert_eq(decompress(below.out, below.out_length, out, sizeof(out), &left), 3);
	cr_assert_eq(left, 0, "the frame has ended");
	write_from("def", 3, 0);
	cr_assert_eq(cp_stream_shutdown_write(stream), CP_OK);
	fake_arrive(&below, below.out, below.out_length);
	fake_end(&below, 0);
	cr_assert_eq(read_into(got, 3, &hints), 3);
	cr_assert_eq(read_into(got + 3, 13, &hints), 3);
	cr_assert_arr_eq(got, "abcdef", 6);
	cr_assert_eq(read_into(got, 1, &hints), 0);
	cr_assert_eq(hints, CP_READ_END);
}

/** The end of an idle frame does not fit: whoever writes meanwhile has to wait. */
Test(zstd, an_idle_frame_whose_end_does_not_fit)
{
	char out[64];
	size_t left;
	options.idle_ms = IDLE_MS;
	write_from("abc", 3, 0);
	below.room = 1;
	run_until_idle();
	cr_assert_eq(write_from("d", 1, 0), CP_AGAIN);
	cr_assert_eq(user.called, 0);
	fake_room(&below, 1000);
	cr_assert(user.can_write);
	cr_assert_eq(write_from("d", 1, 0), 1);
	cp_stream_shutdown_write(stream);
	cr_assert_eq(decompress(below.out, below.out_length, out, sizeof(out), &left), 4);
	cr_assert_eq(left, 0);
}

Test(zstd, contexts_are_shared)
{
	struct fake_bytes fake[2];
	struct cp_stream *s[2];
	for (int i = 0; i < 2; i++)
		s[i] = open_on(&fake[i]);
	for (int i = 0; i < 2; i++) {
		struct iovec vec = {"abc", 3};
		cp_stream_writev(s[i], &vec, 1, 0);
	}
	cr_assert_eq(worker->pooled, 0);
	for (int i = 0; i < 2; i++)
		cp_stream_close(s[i], i ? CP_CAUSE_KILLED : CP_CAUSE_DONE);
	size_t two = worker->pooled;
	cr_assert_gt(two, 0);
	write_from("abc", 3, 0);
	cr_assert_lt(worker->pooled, two, "one of them is used again");
	for (int i = 0; i < 2; i++) {
		cr_assert(fake[i].closed);
		fake_deinit(&fake[i]);
	}
	fake_turns(loop, 1);
}

/* ---- Closing ------------------------------------------------------------------------------------------------ */

static enum cp_cause causes[] = {CP_CAUSE_DONE, CP_CAUSE_TARGET_RESET};

ParameterizedTestParameters(zstd, a_close_delivers_what_was_taken)
{
	return cr_make_param_array(enum cp_cause, causes, sizeof(causes) / sizeof(*causes));
}

ParameterizedTest(enum cp_cause *cause, zstd, a_close_delivers_what_was_taken)
{
	char out[64];
	size_t left;
	below.room = 2;
	cr_assert_eq(write_from("abc", 3, CP_WRITE_MORE), 3);
	cp_stream_close(stream, *cause);
	for (int i = 0; i < 100 && !below.closed; i++)
		fake_room(&below, 1);
	cr_assert(below.closed);
	cr_assert_eq(below.cause, *cause);
	cr_assert_eq(decompress(below.out, below.out_length, out, sizeof(out), &left), 3);
	cr_assert_eq(left == 0, *cause == CP_CAUSE_DONE, "what is cut must not look complete");
}

/* ---- At random ---------------------------------------------------------------------------------------------- */

enum { RUNS = 60, TOTAL = 300000 };

struct random_run {
	uint64_t seed;
	struct fake_bytes wire[2]; /* below the writer; below the reader */
	struct cp_stream *end[2];
	struct fake_user user[2];
	const char *bytes;
	size_t sent, received, carried;
	bool end_seen;
};

static void random_write(struct random_run *r)
{
	uint32_t most = fake_random(&r->seed, 8) ? 300 : 90000;
	size_t left = TOTAL - r->sent, piece = 1 + fake_random(&r->seed, most);
	piece = piece < left ? piece : left;
	size_t first = fake_random(&r->seed, (uint32_t)piece);
	struct iovec vec[] = {{(char *)r->bytes + r->sent, first}, {(char *)r->bytes + r->sent + first, piece - first}};
	ssize_t put = fake_user_write(&r->user[0], r->end[0], vec, 2, fake_random(&r->seed, 3) ? 0 : CP_WRITE_MORE);
	if (put == CP_AGAIN)
		return;
	cr_assert(put > 0 && (size_t)put <= piece);
	r->sent += (size_t)put;
	if (r->sent == TOTAL)
		cr_assert_eq(cp_stream_shutdown_write(r->end[0]), CP_OK);
}

static void random_read(struct random_run *r)
{
	static char bytes[70000];
	unsigned hints;
	size_t room = 1 + fake_random(&r->seed, fake_random(&r->seed, 2) ? sizeof(bytes) - 1 : 500);
	size_t first = fake_random(&r->seed, (uint32_t)room);
	struct iovec vec[] = {{bytes, first}, {bytes + first, room - first}};
	ssize_t got = fake_user_read(&r->user[1], r->end[1], vec, 2, &hints);
	if (got == CP_AGAIN)
		return;
	cr_assert(got > 0 || (got == 0 && hints & CP_READ_END), "%zd", got);
	cr_assert_leq(r->received + (size_t)got, TOTAL);
	cr_assert_arr_eq(bytes, r->bytes + r->received, (size_t)got);
	r->received += (size_t)got;
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
		if (r->user[0].can_write && r->sent < TOTAL)
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
		fake_room(&r->wire[0], fake_random(&r->seed, 20000));
		break;
	case 4:
		r->wire[1].read_most = fake_random(&r->seed, 2) * fake_random(&r->seed, 3000);
		r->wire[1].says_drained = fake_random(&r->seed, 2);
		break;
	default:
		fake_turns(loop, 1);
	}
}

Test(zstd, any_order_of_events)
{
	char *bytes = letters(TOTAL);
	for (uint64_t run = 1; run <= RUNS; run++) {
		struct random_run r = {.seed = run, .bytes = bytes};
		options.idle_ms = run % 2; /* frames end all the time, or never */
		options.checksum = run % 3 == 0;
		for (int i = 0; i < 2; i++) {
			r.end[i] = open_on(&r.wire[i]);
			fake_user_init(&r.user[i], r.end[i]);
		}
		r.wire[1].end_with_data = run % 2;
		for (unsigned step = 0; !r.end_seen; step++) {
			random_step(&r);
			cr_assert_lt(step, 1000000, "run %u hangs: %zu sent, %zu received", (unsigned)run, r.sent, r.received);
		}
		cr_assert_eq(r.received, TOTAL);
		for (int i = 0; i < 2; i++)
			cp_stream_close(r.end[i], i ? CP_CAUSE_KILLED : CP_CAUSE_DONE);
		fake_turns(loop, 1);
		for (int i = 0; i < 2; i++) {
			cr_assert(r.wire[i].closed);
			fake_deinit(&r.wire[i]);
		}
	}
	free(bytes);
}
