/* Websocket streams on the accepting side: how they end, in order and otherwise. */
#include "ws_fixture.h"

#include <criterion/parameterized.h>

TestSuite(ws_stream_end, .init = fixture_start, .fini = fixture_stop, .timeout = 60);

/* ---- The peer closes ---------------------------------------------------------------------------------------- */

Test(ws_stream_end, a_close_of_the_peer_is_the_end_with_its_words)
{
	accepted();
	peer_says(FIN | BINARY, true, "last", 4);
	peer_says_close(1001, true, "going away");
	user_expects(0, 4, 0, "last");
	user_expects(1, 0, CP_READ_END | CP_READ_OVER, NULL);
	const struct cp_ending *ending = user->stream->ops->ending(user->stream);
	cr_assert(ending);
	cr_assert_str_eq(ending->protocol, "websocket");
	cr_assert_eq(ending->code, 1001);
	cr_assert_eq(ending->length, 10);
	cr_assert_arr_eq(ending->reason, "going away", 10);
	peer_expects_close(1001);
	peer_expects_end();
	cr_assert_eq(user_writes("x", 1, 0), 1, "what is written then is gone, and no error");
}

Test(ws_stream_end, a_close_without_a_code)
{
	accepted();
	peer_says_close(0, true, "");
	user_expects(0, 0, CP_READ_END | CP_READ_OVER, NULL);
	cr_assert_eq(user->stream->ops->ending(user->stream)->code, 1005);
	peer_expects_close(0);
	peer_expects_end();
}

Test(ws_stream_end, codes_that_are_answered_with_themselves)
{
	static const unsigned codes[] = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999};
	for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++) {
		unsigned reads = user->count;
		accepted();
		peer_says_close(codes[i], true, "");
		user_expects(reads, 0, CP_READ_END | CP_READ_OVER, NULL);
		cr_assert_eq(user->stream->ops->ending(user->stream)->code, codes[i]);
		peer_expects_close(codes[i]);
		peer_expects_end();
		user_closes(CP_CAUSE_DONE);
		close(peer);
	}
}

Test(ws_stream_end, nothing_counts_behind_a_close)
{
	unsigned char bytes[256];
	size_t length = frame(bytes, FIN | CLOSE, true, "\x03\xe8", 2);
	accepted();
	memset(bytes + length, 0xff, 100);
	peer_sends(bytes, length + 100);
	user_expects(0, 0, CP_READ_END | CP_READ_OVER, NULL);
	peer_expects_close(1000);
	peer_expects_end();
	cr_assert_eq(user->count, 1);
}

Test(ws_stream_end, a_close_inside_a_message_is_no_end_of_it)
{
	accepted();
	peer_says(BINARY, true, "a", 1);
	peer_says_close(1000, true, "");
	user_expects(0, 1, CP_READ_MORE, "a");
	user_expects(1, CP_ERESET, 0, NULL);
}

Test(ws_stream_end, the_end_without_a_close_is_a_reset)
{
	accepted();
	peer_says(FIN | BINARY, true, "a", 1);
	close(peer);
	peer = -1;
	user_expects(0, 1, 0, "a");
	user_expects(1, CP_ERESET, 0, NULL);
	cr_assert_null(user->stream->ops->ending(user->stream));
	cr_assert_eq(user_writes("x", 1, 0), CP_ERESET);
}

/** What was not read yet comes first. */
Test(ws_stream_end, the_end_is_behind_what_was_not_read)
{
	accepted();
	user->reads = false;
	for (int i = 0; i < 10; i++)
		peer_says(FIN | BINARY, true, "abc", 3);
	peer_says_close(1000, true, "");
	turns(10);
	user->reads = true;
	user_read_all();
	for (unsigned i = 0; i < 10; i++)
		user_expects(i, 3, 0, "abc");
	user_expects(10, 0, CP_READ_END | CP_READ_OVER, NULL);
}

/* ---- We close ----------------------------------------------------------------------------------------------- */

Test(ws_stream_end, shutting_down_says_close_and_the_peer_may_finish)
{
	accepted();
	cr_assert_eq(user_writes("last", 4, 0), 4);
	cr_assert_eq(cp_stream_shutdown_write(user->stream), CP_OK);
	peer_expects(FIN | BINARY, "last", 4);
	peer_expects_close(1000);
	peer_says(TEXT, true, "on its", 6);
	peer_says(FIN | PING, true, "p", 1);
	peer_says(FIN | CONTINUED, true, " way", 4);
	user_expects(0, 6, CP_READ_TEXT | CP_READ_MORE, "on its");
	user_expects(1, 4, CP_READ_TEXT, " way");
	peer_expects(FIN | PONG, "p", 1);
	peer_says_close(1000, true, "");
	user_expects(2, 0, CP_READ_END | CP_READ_OVER, NULL);
	peer_expects_end(); /* no second close */
}

Test(ws_stream_end, a_shutdown_ends_with_the_words_that_were_passed_on)
{
	struct cp_ending ending = {.protocol = "websocket", .code = 4321, .length = 4, .reason = "why?"};
	accepted();
	user->stream->ops->set_ending(user->stream, &ending);
	cr_assert_eq(cp_stream_shutdown_write(user->stream), CP_OK);
	struct got_frame f = peer_gets_frame();
	cr_assert_eq(f.first, FIN | CLOSE);
	cr_assert_eq(f.length, 6);
	cr_assert_arr_eq(f.bytes, "\x10\xe1why?", 6);
	free(f.bytes);
}

Test(ws_stream_end, words_that_cannot_be_said_are_not)
{
	struct cp_ending ending = {.protocol = "websocket", .code = 1005};
	accepted();
	user->stream->ops->set_ending(user->stream, &ending);
	cr_assert_eq(cp_stream_shutdown_write(user->stream), CP_OK);
	peer_expects_close(0);
}

Test(ws_stream_end, a_long_reason_is_cut_between_two_characters)
{
	struct cp_ending ending = {.protocol = "websocket", .code = 1000, .length = 128};
	for (int i = 0; i < 128; i += 2)
		memcpy(ending.reason + i, "\xc3\xa4", 2);
	accepted();
	user->stream->ops->set_ending(user->stream, &ending);
	cr_assert_eq(cp_stream_shutdown_write(user->stream), CP_OK);
	struct got_frame f = peer_gets_frame();
	cr_assert_eq(f.length, 2 + 122);
	free(f.bytes);
}

Test(ws_stream_end, closing_in_order_says_close_and_waits_for_the_answer)
{
	accepted();
	cr_assert_eq(user_writes("last", 4, 0), 4);
	user_closes(CP_CAUSE_DONE);
	peer_expects(FIN | BINARY, "last", 4);
	peer_expects_close(1000);
	peer_says(FIN | BINARY, true, "nobody reads that", 17);
	peer_says_close(1000, true, "");
	peer_expects_end();
}

Test(ws_stream_end, closing_for_another_reason_says_1011)
{
	accepted();
	cr_assert_eq(user_writes("last", 4, 0), 4);
	user_closes(CP_CAUSE_TARGET_RESET);
	peer_expects(FIN | BINARY, "last", 4);
	peer_expects_close(1011);
	peer_expects_end(); /* also if it does not answer */
}

Test(ws_stream_end, what_was_accepted_before_a_close_is_delivered)
{
	char bytes[5000];
	unsigned written = 0;
	accepted();
	for (;; written++) {
		memset(bytes, (int)(written & 0xff), sizeof(bytes));
		if (user_writes(bytes, sizeof(bytes), 0) == CP_AGAIN)
			break;
	}
	user_closes(CP_CAUSE_DONE);
	turns(5);
	for (unsigned i = 0; i < written; i++) {
		memset(bytes, (int)(i & 0xff), sizeof(bytes));
		peer_expects(FIN | BINARY, bytes, sizeof(bytes));
	}
	peer_expects_close(1000);
	peer_says_close(1000, true, "");
	peer_expects_end();
}

Test(ws_stream_end, the_peer_need_not_answer_a_close_with_one)
{
	accepted();
	cr_assert_eq(cp_stream_shutdown_write(user->stream), CP_OK);
	peer_expects_close(1000);
	close(peer);
	peer = -1;
	user_expects(0, 0, CP_READ_END | CP_READ_OVER, NULL);
}

static void close_at_once(struct cp_stream *stream, unsigned events)
{
	(void)events;
	user->count++;
	user->stream = NULL;
	cp_stream_close(stream, CP_CAUSE_DONE);
}

Test(ws_stream_end, closing_where_one_is_called_for_reading)
{
	accepted();
	user->on_ready = close_at_once;
	peer_says(FIN | BINARY, true, "abc", 3);
	peer_says(FIN | BINARY, true, "def", 3);
	RUN_UNTIL(user->count);
	peer_expects_close(1000);
	peer_says_close(1000, true, "");
	peer_expects_end();
	cr_assert_eq(user->count, 1);
}

Test(ws_stream_end, closing_where_one_is_called_for_the_end)
{
	accepted();
	user->on_ready = close_at_once;
	peer_says_close(1000, true, "");
	RUN_UNTIL(user->count);
	peer_expects_close(1000);
	peer_expects_end();
}

Test(ws_stream_end, closing_where_one_is_called_for_the_break)
{
	accepted();
	user->on_ready = close_at_once;
	close(peer);
	peer = -1;
	RUN_UNTIL(user->count);
	turns(5);
	cr_assert_eq(user->count, 1);
}

Test(ws_stream_end, engines_end_with_what_is_still_open)
{
	struct cp_stream *first, *second;
	accepted();
	first = user->stream;
	close(peer);
	user->count = 0;
	accepted();
	second = user->stream;
	cp_stream_close(first, CP_CAUSE_KILLED);
	cp_stream_close(second, CP_CAUSE_DONE);
	user->stream = NULL; /* both still wait for their peers */
}

/* ---- Half close --------------------------------------------------------------------------------------------- */

Test(ws_stream_end, with_half_close_an_empty_text_ends_one_direction)
{
	behaviour.half_close = true;
	accepted();
	cr_assert_eq(user_writes("a", 1, 0), 1);
	cr_assert_eq(cp_stream_shutdown_write(user->stream), CP_OK);
	peer_expects(FIN | BINARY, "a", 1);
	peer_expects(FIN | TEXT, "", 0);
	peer_says(FIN | BINARY, true, "b", 1);
	user_expects(0, 1, 0, "b");
	peer_says(FIN | TEXT, true, "", 0);
	user_expects(1, 0, CP_READ_END, NULL);
	user_closes(CP_CAUSE_DONE);
	peer_expects_close(1000);
	peer_says_close(1000, true, "");
	peer_expects_end();
}

Test(ws_stream_end, with_half_close_the_other_direction_goes_on)
{
	behaviour.half_close = true;
	accepted();
	peer_says(FIN | TEXT, true, "", 0);
	user_expects(0, 0, CP_READ_END, NULL);
	for (int i = 0; i < 5; i++) {
		cr_assert_eq(user_writes("more", 4, 0), 4);
		peer_expects(FIN | BINARY, "more", 4);
	}
	peer_says(FIN | PING, true, "", 0);
	peer_expects(FIN | PONG, "", 0);
	close(peer);
	peer = -1;
	turns(5);
	unsigned hints;
	cr_assert_eq(user_read(&hints), CP_ERESET, "no close came");
}

Test(ws_stream_end, with_half_close_an_empty_text_of_the_user_is_not_the_end)
{
	behaviour.half_close = true;
	accepted();
	cr_assert_eq(user_writes("", 0, CP_WRITE_TEXT), 0);
	peer_expects(FIN | BINARY, "", 0);
}

Test(ws_stream_end, data_behind_the_end_is_wrong)
{
	behaviour.half_close = true;
	accepted();
	peer_says(FIN | TEXT, true, "", 0);
	peer_says(FIN | BINARY, true, "a", 1);
	user_expects(0, 0, CP_READ_END, NULL);
	peer_expects_close(1002);
}

/* ---- What is wrong ------------------------------------------------------------------------------------------ */

struct wrong {
	char name[40];
	unsigned char bytes[24];
	unsigned length, code;
};

#define M "\x37\xfa\x21\x3d" /* the mask; 0 is sent as one of its bytes */
ParameterizedTestParameters(ws_stream_end, what_breaks_the_protocol)
{
	static struct wrong wrongs[] = {
		{"not masked", "\x82\x01xyz", 3, 1002},
		{"not masked, empty", "\x82\x00", 2, 1002},
		{"RSV1", "\xc2\x81" M "a", 7, 1002},
		{"RSV2", "\xa2\x81" M "a", 7, 1002},
		{"RSV3", "\x92\x81" M "a", 7, 1002},
		{"opcode 3", "\x83\x81" M "a", 7, 1002},
		{"opcode 7", "\x87\x81" M "a", 7, 1002},
		{"opcode 11", "\x8b\x81" M "a", 7, 1002},
		{"opcode 15", "\x8f\x80" M, 6, 1002},
		{"ping in fragments", "\x09\x81" M "a", 7, 1002},
		{"close in fragments", "\x08\x80" M, 6, 1002},
		{"ping too long", "\x89\xfe\x00\x7e" M, 8, 1002},
		{"ping of 64 bits", "\x89\xff\0\0\0\0\0\0\0\x01" M, 14, 1002},
		{"length with its highest bit", "\x82\xff\x80\0\0\0\0\0\0\x01" M, 14, 1002},
		{"goes on with nothing", "\x80\x81" M "a", 7, 1002},
		{"goes on with nothing, more", "\x00\x81" M "a", 7, 1002},
		{"a message inside one", "\x02\x81" M "a\x82\x81" M "a", 14, 1002},
		{"a text inside one", "\x01\x81" M "\x56\x81\x81" M "\x56", 14, 1002},
		{"close of one byte", "\x88\x81" M "a", 7, 1002},
		{"not UTF-8", "\x81\x81" M "\xc8", 7, 1007},
		{"UTF-8 that is cut", "\x81\x81" M "\xf4", 7, 1007},
		{"close whose reason is not UTF-8", "\x88\x83" M "\x34\x12\xde", 9, 1007},
	};
	return cr_make_param_array(struct wrong, wrongs, sizeof(wrongs) / sizeof(*wrongs));
}

static void skip_to_close(unsigned code, const char *name)
{
	struct got_frame f = peer_gets_frame();
	unsigned got = f.length >= 2 ? (unsigned)(f.bytes[0] << 8 | f.bytes[1]) : 0;
	cr_assert_eq(f.first, FIN | CLOSE, "%s: a frame %#x", name, f.first);
	cr_assert_eq(got, code, "%s: close %u, not %u", name, got, code);
	free(f.bytes);
}

ParameterizedTest(struct wrong *w, ws_stream_end, what_breaks_the_protocol)
{
	accepted();
	peer_sends(w->bytes, w->length);
	RUN_UNTIL(user->count && user->at[user->count - 1].result < 0);
	cr_assert_eq(user->at[user->count - 1].result, CP_EPROTO, "%s: %zd", w->name, user->at[user->count - 1].result);
	skip_to_close(w->code, w->name);
	user_closes(CP_CAUSE_CLIENT_PROTOCOL);
	peer_says_close(1002, true, "");
	peer_expects_end();
}

Test(ws_stream_end, text_that_is_cut_inside_characters_is_right)
{
	static const char text[] = "\xce\xba\xe1\xbd\xb9\xf0\x9f\x98\x80 \xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf";
	accepted();
	for (size_t i = 0; i < sizeof(text) - 1; i++)
		peer_says((i ? CONTINUED : TEXT) | (i == sizeof(text) - 2 ? FIN : 0), true, text + i, 1);
	RUN_UNTIL(user->length == sizeof(text) - 1);
	cr_assert_arr_eq(user->bytes, text, sizeof(text) - 1);
}

Test(ws_stream_end, a_message_that_is_too_long)
{
	behaviour.message_most = 10;
	accepted();
	peer_says(FIN | BINARY, true, "0123456789", 10);
	user_expects(0, 10, 0, "0123456789");
	peer_says(BINARY, true, "01234567", 8);
	user_expects(1, 8, CP_READ_MORE, "01234567");
	peer_says(FIN | CONTINUED, true, "890", 3);
	user_expects(2, CP_EPROTO, 0, NULL);
	peer_expects_close(1009);
}

/** Its beginning is enough: nobody waits for the rest. */
Test(ws_stream_end, a_frame_that_is_too_long)
{
	static const unsigned char head[] = "\x82\xff\0\0\0\x01\0\0\0\0" M "abc";
	behaviour.message_most = 1 << 20;
	accepted();
	peer_sends(head, sizeof(head) - 1);
	user_expects(0, CP_EPROTO, 0, NULL);
	peer_expects_close(1009);
}
