/* permessage-deflate: the examples of RFC 7692, and messages between two of ours. */
#include "../../systems/ws/deflate.h"
#include "ws_fixture.h"

TestSuite(ws_stream_deflate, .init = fixture_start, .fini = fixture_stop, .timeout = 60);

static const struct ws_text offer = {"permessage-deflate", 18};

Test(ws_stream_deflate, who_did_not_offer_it_does_not_get_it)
{
	char head[1024];
	behaviour.deflate = true;
	user_has(accept_websocket(make_pair(), NULL, NULL));
	peer_gets_head(head, sizeof(head));
	cr_assert_not(strstr(head, "Extensions"), "%s", head);
	peer_says(FIN | RSV1 | TEXT, true, "\xf2\x48\xcd\xc9\xc9\x07\x00", 7);
	user_expects(0, CP_EPROTO, 0, NULL);
}

static void accepted_with_deflate(void)
{
	char head[1024];
	behaviour.deflate = true;
	user_has(accept_websocket(make_pair(), NULL, &offer));
	peer_gets_head(head, sizeof(head));
	cr_assert(strstr(head, "\r\nSec-WebSocket-Extensions: " DEFLATE_AGREEMENT "\r\n"), "%s", head);
}

/* RFC 7692, 7.2.3 */
Test(ws_stream_deflate, examples_of_the_rfc)
{
	static const struct {
		const char *bytes;
		size_t length;
	} hellos[] = {
		{"\xf2\x48\xcd\xc9\xc9\x07\x00", 7},                          /* one block */
		{"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", 11},         /* not compressed */
		{"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", 8},                      /* with BFINAL */
		{"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", 13}, /* two blocks */
	};
	accepted_with_deflate();
	for (size_t i = 0; i < sizeof(hellos) / sizeof(*hellos); i++) {
		user->count = 0;
		user->length = 0;
		peer_says(FIN | RSV1 | TEXT, true, hellos[i].bytes, hellos[i].length);
		RUN_UNTIL(user->count && !(user->at[user->count - 1].hints & CP_READ_MORE));
		cr_assert_eq(user->length, 5, "%zu", i);
		cr_assert_arr_eq(user->bytes, "Hello", 5);
		cr_assert(user->at[0].hints & CP_READ_TEXT);
	}
}

Test(ws_stream_deflate, fragments_and_messages_that_are_not_compressed)
{
	accepted_with_deflate();
	peer_says(RSV1 | TEXT, true, "\xf2\x48\xcd", 3);
	peer_says(FIN | PING, true, "p", 1);
	peer_says(FIN | CONTINUED, true, "\xc9\xc9\x07\x00", 4);
	peer_says(FIN | BINARY, true, "plain", 5);
	RUN_UNTIL(user->length == 10);
	cr_assert_arr_eq(user->bytes, "Helloplain", 10);
	peer_expects(FIN | PONG, "p", 1);
	cr_assert_eq(user_writes("short", 5, 0), 5);
	peer_expects(FIN | BINARY, "short", 5);
}

Test(ws_stream_deflate, byte_by_byte_to_a_user_who_takes_little)
{
	unsigned char bytes[64];
	size_t length = frame(bytes, FIN | RSV1 | TEXT, true, "\xf2\x48\xcd\xc9\xc9\x07\x00", 7);
	accepted_with_deflate();
	user->room = 2;
	for (size_t i = 0; i < length; i++) {
		peer_sends(bytes + i, 1);
		turns(2);
	}
	RUN_UNTIL(user->count && !(user->at[user->count - 1].hints & CP_READ_MORE));
	cr_assert_eq(user->length, 5);
	cr_assert_arr_eq(user->bytes, "Hello", 5);
}

Test(ws_stream_deflate, only_the_first_fragment_is_marked)
{
	accepted_with_deflate();
	peer_says(RSV1 | TEXT, true, "\xf2\x48\xcd", 3);
	peer_says(FIN | RSV1 | CONTINUED, true, "\xc9\xc9\x07\x00", 4);
	RUN_UNTIL(user->count && user->at[user->count - 1].result < 0);
	cr_assert_eq(user->at[user->count - 1].result, CP_EPROTO);
	peer_expects_close(1002);
}

Test(ws_stream_deflate, what_cannot_be_uncompressed)
{
	accepted_with_deflate();
	peer_says(FIN | RSV1 | TEXT, true, "\xff\xff\xff\xff", 4);
	user_expects(0, CP_EPROTO, 0, NULL);
	peer_expects_close(1007);
}

Test(ws_stream_deflate, text_that_is_not_utf8)
{
	accepted_with_deflate();
	peer_says(FIN | RSV1 | TEXT, true, "\x00\x01\x00\xfe\xff\xff\x00", 7);
	user_expects(0, CP_EPROTO, 0, NULL);
	peer_expects_close(1007);
}

Test(ws_stream_deflate, an_empty_text_is_the_end_also_if_compressed)
{
	behaviour.half_close = true;
	accepted_with_deflate();
	peer_says(FIN | RSV1 | TEXT, true, "\x00", 1);
	user_expects(0, 0, CP_READ_END, NULL);
}

/* ---- Two of ours ------------------------------------------------------------------------------------------------ */

static struct cp_stream *other; /* what the user's stream is connected to */

static void on_connected(struct cp_stream *stream, const struct cp_error *error, void *arg)
{
	(void)arg;
	cr_assert(stream, "%s", error->message);
	other = stream;
}

/** `user` has the accepting side, `other` is the connecting one. The peer passes the request on. */
static void two_of_ours(void)
{
	struct ws_request request = {.path = "/", .host = "x"};
	struct ws_connecting *connecting;
	struct cp_error error = {0};
	char head[2048], *found;
	int fd = make_pair();
	behaviour.deflate = true;
	cr_assert_eq(ws_connect(loop, fd, &request, &behaviour, NULL, on_connected, NULL, &connecting, &error), CP_AGAIN,
				 "%s", error.message);
	peer_gets_head(head, sizeof(head));
	cr_assert(strstr(head, "\r\nSec-WebSocket-Extensions: " DEFLATE_AGREEMENT "\r\n"), "%s", head);
	found = strstr(head, "Sec-WebSocket-Key: ");
	struct ws_text theirs = {found + 19, WS_KEY_LENGTH};
	struct cp_stream *accepting = ws_accept(loop, peer, &theirs, NULL, &offer, &behaviour, NULL, &error);
	peer = -1;
	cr_assert(accepting, "%s", error.message);
	user_has(accepting);
	RUN_UNTIL(other);
}

static void send_and_compare(char *bytes, size_t length, unsigned flags)
{
	struct iovec vec = {bytes, length};
	size_t before = user->length;
	user->count = 0;
	cr_assert_eq(cp_stream_writev(other, &vec, 1, flags), (ssize_t)length);
	RUN_UNTIL(user->length == before + length);
	cr_assert(memcmp(user->bytes + before, bytes, length) == 0);
	user->length = before;
}

Test(ws_stream_deflate, messages_of_any_size)
{
	static const size_t sizes[] = {63, 64, 1000, 65535, 65536, 300000};
	char *bytes = malloc(300000);
	two_of_ours();
	for (int kind = 0; kind < 2; kind++) {
		for (size_t i = 0; i < 300000; i++)
			bytes[i] = (char)(kind ? rand() : "compressible "[i % 13]);
		for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
			send_and_compare(bytes, sizes[i], 0);
	}
	cp_stream_close(other, CP_CAUSE_DONE);
	other = NULL;
	free(bytes);
}

Test(ws_stream_deflate, a_message_in_pieces_that_ends_with_nothing)
{
	char bytes[1000];
	memset(bytes, 'x', sizeof(bytes));
	two_of_ours();
	send_and_compare(bytes, sizeof(bytes), CP_WRITE_MORE | CP_WRITE_TEXT);
	send_and_compare(bytes, 10, CP_WRITE_MORE | CP_WRITE_TEXT);
	cr_assert(user->at[0].hints & CP_READ_MORE);
	struct iovec nothing = {NULL, 0};
	user->count = 0;
	cr_assert_eq(cp_stream_writev(other, &nothing, 1, CP_WRITE_TEXT), 0);
	RUN_UNTIL(user->count);
	cr_assert_eq(user->at[0].result, 0);
	cr_assert_eq(user->at[0].hints & ~CP_READ_DRAINED, CP_READ_TEXT);
	send_and_compare(bytes, sizeof(bytes), 0);
	cp_stream_close(other, CP_CAUSE_DONE);
	other = NULL;
}

Test(ws_stream_deflate, a_message_that_goes_on_is_finished_before_the_end)
{
	char bytes[1000];
	memset(bytes, 'x', sizeof(bytes));
	two_of_ours();
	send_and_compare(bytes, sizeof(bytes), CP_WRITE_MORE);
	cp_stream_close(other, CP_CAUSE_DONE);
	other = NULL;
	RUN_UNTIL(user->count && user->at[user->count - 1].hints & CP_READ_END);
	cr_assert_geq(user->count, 3);
	cr_assert_eq(user->at[user->count - 2].result, 0);
	cr_assert_eq(user->at[user->count - 2].hints & CP_READ_MORE, 0);
	cr_assert_eq(user->at[user->count - 1].result, 0);
}

/** A little that becomes a lot is not all uncompressed for a user who does not read. */
Test(ws_stream_deflate, a_bomb_waits_as_small_as_it_is)
{
	enum { SIZE = 3 << 20 };
	char *zeros = calloc(1, SIZE);
	struct iovec vec = {zeros, SIZE};
	two_of_ours();
	user->reads = false;
	user->room = 1000;
	cr_assert_eq(cp_stream_writev(other, &vec, 1, 0), SIZE);
	turns(20);
	for (int i = 0; i < 100; i++) {
		unsigned hints;
		cr_assert_eq(user_read(&hints), 1000);
		cr_assert(hints & CP_READ_MORE);
	}
	user->count = 0;
	user->room = 0;
	user->reads = true;
	user_read_all();
	RUN_UNTIL(user->length == SIZE);
	cp_stream_close(other, CP_CAUSE_DONE);
	other = NULL;
	free(zeros);
}

Test(ws_stream_deflate, a_message_that_gets_too_long)
{
	char bytes[5000] = {0};
	struct iovec vec = {bytes, sizeof(bytes)};
	behaviour.message_most = 4000;
	two_of_ours();
	cr_assert_eq(cp_stream_writev(other, &vec, 1, 0), (ssize_t)sizeof(bytes));
	RUN_UNTIL(user->count && user->at[user->count - 1].result < 0);
	cr_assert_eq(user->at[user->count - 1].result, CP_EPROTO);
	cp_stream_close(other, CP_CAUSE_DONE);
	other = NULL;
}
