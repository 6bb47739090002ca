/* What a message is on its way through the pump: several at once where both ends can, pieces of one, and towards bytes.
 */
#include "task_memo.h"

static const struct memo_manner several = {.room = MEMO_ANY, .segments = true};
static struct memo *client, *target;

/** An open pipe between two kinds. */
static void open_pipe(const char *kinds[2], const struct memo_manner *of_client, const struct memo_manner *of_target)
{
	char routes[256];
	if (of_target)
		memo_world.target_manner = *of_target;
	snprintf(routes, sizeof(routes), "[front]\ntype = \"table\"\n[front.routes]\n\"%s:front:1\" = \"%s:back:1\"",
			 kinds[0], kinds[1]);
	memo_start("", routes, NULL);
	client = memo_new(of_client);
	memo_arrive(client, 1, "192.0.2.1");
	target = memo_target(0);
}

static const char *messages[] = {"memo", "memo"}, *from_both[] = {"both", "plain"}, *to_both[] = {"plain", "both"};

TestSuite(task_segments, .timeout = 60);

Test(task_segments, several_at_once)
{
	open_pipe(messages, &several, &several);
	memo_say(client, "aabbc", CP_SEGMENTS(2));
	memo_expect(target, "[aabbc/2]");
	memo_say(client, "one", 0);
	memo_expect(target, "[aabbc/2][one]");
	memo_say(target, "xxxyyy", CP_SEGMENTS(3) | CP_READ_DRAINED);
	memo_expect(client, "[xxxyyy/3]");
	cr_assert_eq(memo_counter("bytes_in"), 8);
	memo_stop();
}

Test(task_segments, are_kept_while_the_sink_has_no_room)
{
	open_pipe(messages, &several, &several);
	memo_set_room(target, 0);
	memo_say(client, "aabbc", CP_SEGMENTS(2));
	memo_say(client, "ddd", CP_SEGMENTS(1));
	cr_assert_str_eq(memo_record(target), "");
	memo_set_room(target, 1);
	memo_expect(target, "[aabbc/2]");
	memo_set_room(target, MEMO_ANY);
	memo_expect(target, "[aabbc/2][ddd/1]");
	memo_stop();
}

Test(task_segments, one_by_one_where_one_end_cannot)
{
	open_pipe(messages, &several, NULL);
	memo_say(client, "aabbc", CP_SEGMENTS(2));
	memo_expect(target, "[aa][bb][c]");
	memo_stop();
}

Test(task_segments, pieces_and_texts_stay_what_they_are)
{
	open_pipe(messages, NULL, NULL);
	memo_say(client, "begins", CP_READ_MORE | CP_READ_TEXT);
	memo_say(client, "ends", 0);
	memo_say(client, "", 0);
	memo_expect(target, "[\"begins+][ends][]");
	memo_stop();
}

/* A piece may be the last one for a long time: nothing may wait for the rest (MSG_MORE). */
Test(task_segments, pieces_become_bytes_at_once)
{
	open_pipe(from_both, NULL, NULL);
	memo_say(client, "begins", CP_READ_MORE | CP_READ_TEXT);
	memo_expect(target, "[begins]");
	memo_say(client, "", 0);
	memo_say(client, "next", 0);
	memo_expect(target, "[begins][next]");
	memo_set_room(target, 0);
	memo_say(client, "held", CP_READ_MORE);
	memo_record(target);
	memo_set_room(target, MEMO_ANY);
	memo_expect(target, "[begins][next][held]");
	memo_stop();
}

Test(task_segments, bytes_become_messages)
{
	open_pipe(to_both, NULL, NULL);
	memo_say(client, "bytes", 0);
	memo_expect(target, "[bytes]");
	memo_say(target, "part", CP_READ_MORE);
	memo_expect(client, "[part]");
	memo_say(target, "", 0);
	memo_say(client, "", CP_READ_END);
	memo_expect(target, "[bytes]|");
	cr_assert_str_eq(memo_record(client), "[part]");
	memo_stop();
}
