/* The first message: read before the way is open, whole or in pieces, for a preamble or for a router that looks at it;
 * then passed on as the kind of the target has it. */
#include "task_memo.h"

#include <sched.h>

#define MAGIC "\x89\x3d\x1d\x4e\x4e\x4f\xc6\x86\x2d\x1e\x10\x01\x0d\x0a\x69\x0a"
#define PREAMBLE MAGIC "\x04name"
#define SHOWN ".=.NNO..-.....i..name" /* in a record */

static const char by_subport[] = "[front]\ntype = \"table\"\n[front.routes]\n"
								 "\"both:front:1!name\" = \"both:back:1\"\n\"both:front:1\" = \"both:other:1\"\n"
								 "\"both:front:2!name\" = \"plain:back:2\"\n\"both:front:3\" = \"both:back:3!name\"\n"
								 "\"both:front:4\" = \"plain:back:4!name\"\n";

static struct memo *client, *target;

/** The proxy, and a client that has not come yet. */
static void set_up(const char *routes)
{
	memo_start("timeouts.preamble = \"10m\"", routes, NULL);
	client = memo_new(NULL);
}

static void say_preamble(const char *rest, unsigned hints)
{
	static char bytes[64];
	int length = snprintf(bytes, sizeof(bytes), "%s%s", PREAMBLE, rest);
	memo_say_bytes(client, bytes, (size_t)length, hints);
}

static void arrive(uint16_t port)
{
	memo_arrive(client, port, "192.0.2.1");
}

TestSuite(task_first, .timeout = 60);

/* ---- Preambles ---------------------------------------------------------------------------------------------- */

Test(task_first, a_preamble_is_taken_off)
{
	set_up(by_subport);
	say_preamble("rest", 0);
	memo_say(client, "next", 0);
	arrive(1);
	memo_expect(target = memo_target(0), "[rest][next]");
	memo_stop();
}

Test(task_first, a_preamble_alone_is_no_message)
{
	set_up(by_subport);
	say_preamble("", 0);
	memo_say(client, "", 0);
	memo_say(client, "next", 0);
	arrive(1);
	memo_expect(memo_target(0), "[][next]");
	memo_stop();
}

Test(task_first, a_preamble_alone_towards_bytes)
{
	set_up(by_subport);
	say_preamble("", 0);
	memo_say(client, "next", CP_READ_TEXT | CP_READ_MORE);
	arrive(2);
	memo_expect(memo_target(0), "[next]");
	memo_stop();
}

/** Have the rest come when the first piece was read. @param at  of PREAMBLE and "rest" */
static void come_in_pieces(size_t at, uint16_t port)
{
	static const char whole[] = PREAMBLE "rest";
	memo_say_bytes(client, whole, at, CP_READ_MORE);
	arrive(port);
	memo_say_bytes(client, whole + at, sizeof(whole) - 1 - at, 0);
	memo_say(client, "next", 0);
}

Test(task_first, a_preamble_may_be_cut_anywhere)
{
	set_up(by_subport);
	for (size_t at = 0; at < sizeof(PREAMBLE); at++) {
		memo_world.target_count = 0;
		come_in_pieces(at, 1);
		memo_expect(memo_target(0), "[rest][next]");
		client = memo_new(NULL);
	}
	memo_stop();
}

Test(task_first, a_message_may_go_on_behind_a_preamble)
{
	set_up(by_subport);
	say_preamble("re", CP_READ_MORE);
	arrive(1);
	memo_expect(target = memo_target(0), "[re+]");
	memo_say(client, "st", 0);
	memo_expect(target, "[re+][st]");
	memo_stop();
}

/* Nothing is passed on as an empty message that was only the end of the preamble's. */
Test(task_first, a_preamble_alone_in_pieces)
{
	set_up(by_subport);
	say_preamble("", CP_READ_MORE);
	arrive(1);
	memo_say(client, "", CP_READ_MORE);
	memo_say(client, "", 0);
	memo_say(client, "next", 0);
	memo_expect(memo_target(0), "[next]");
	memo_stop();
}

Test(task_first, a_preamble_that_is_all_within_its_time)
{
	memo_start("timeouts.preamble = \"20ms\"", by_subport, NULL);
	client = memo_new(NULL);
	say_preamble("", CP_READ_MORE);
	arrive(1);
	target = memo_target(0);
	memo_say(client, "late", 0);
	memo_expect(target, "[late]");
	memo_stop();
}

Test(task_first, a_message_ends_before_the_preamble_does)
{
	set_up(by_subport);
	memo_say_bytes(client, PREAMBLE, 18, CP_READ_MORE);
	arrive(1);
	memo_say(client, "na", 0);
	memo_say(client, "me", 0);
	memo_expect(client, "x malformed_preamble");
	memo_stop();
}

Test(task_first, what_is_no_preamble_stays_as_it_is)
{
	set_up(by_subport);
	memo_say(client, "te", CP_READ_MORE | CP_READ_TEXT);
	arrive(1);
	memo_expect(target = memo_target(0), "[\"te+]");
	memo_say(client, "xt", 0);
	memo_say(client, "", CP_READ_END);
	memo_expect(target, "[\"te+][xt]|");
	memo_stop();
}

/* ---- Preambles that are written ----------------------------------------------------------------------------- */

Test(task_first, a_written_preamble_begins_the_first_message)
{
	set_up(by_subport);
	memo_say(client, "first", CP_READ_MORE);
	arrive(3);
	memo_expect(memo_target(0), "[" SHOWN "first+]");
	memo_stop();
}

Test(task_first, a_written_preamble_is_no_text)
{
	set_up(by_subport);
	memo_say(client, "first", CP_READ_TEXT);
	memo_say(client, "next", CP_READ_TEXT);
	arrive(3);
	memo_expect(memo_target(0), "[" SHOWN "][\"first][\"next]");
	memo_stop();
}

Test(task_first, a_written_preamble_in_front_of_bytes)
{
	set_up(by_subport);
	memo_say(client, "first", CP_READ_TEXT | CP_READ_MORE);
	arrive(4);
	memo_expect(memo_target(0), "[" SHOWN "first]");
	memo_stop();
}

Test(task_first, an_empty_message_in_front_of_bytes)
{
	set_up(by_subport);
	memo_say(client, "", 0);
	memo_say(client, "next", 0);
	arrive(4);
	memo_expect(memo_target(0), "[" SHOWN "][next]");
	memo_stop();
}

Test(task_first, a_written_preamble_without_room_for_it)
{
	memo_world.target_manner = (struct memo_manner){.room = 0};
	set_up(by_subport);
	memo_say(client, "first", CP_READ_TEXT);
	arrive(3);
	memo_set_room(target = memo_target(0), MEMO_ANY);
	memo_expect(target, "[" SHOWN "first]");
	memo_stop();
}

/* ---- Routers that look ------------------------------------------------------------------------------------- */

static const char by_bytes[] = "[front]\ntype = \"table\"\n[front.routes]\n\"both:front:1\" = [\n"
							   "{ when = { proto = \"ssh\" }, to = \"both:ssh:1\" },\n{ to = \"both:other:1\" } ]\n";

static void see_peeked(struct cp_loop *loop, void *arg)
{
	(void)loop;
	*(uint32_t *)arg = client->read;
}

/** Wait until so many pieces were read. */
static void wait_read(uint32_t count)
{
	for (uint32_t read = 0; read < count; sched_yield())
		call(cp_worker_loop(0), see_peeked, &read);
}

Test(task_first, a_router_sees_more_than_a_piece)
{
	set_up(by_bytes);
	memo_say(client, "SS", CP_READ_MORE);
	arrive(1);
	memo_say(client, "H", CP_READ_MORE | CP_READ_DRAINED);
	wait_read(2);
	cr_assert_eq(memo_world.target_count, 0, "it decided by a piece");
	memo_say(client, "-2.0-x\r\n", 0);
	memo_say(client, "next", 0);
	memo_expect(memo_target(0), "[SSH-2.0-x..][next]");
	memo_stop();
}

Test(task_first, a_router_sees_no_more_than_a_message)
{
	set_up(by_bytes);
	memo_say(client, "SS", CP_READ_MORE | CP_READ_TEXT);
	arrive(1);
	memo_say(client, "H", 0);
	memo_say(client, "-2.0-x\r\n", 0);
	memo_expect(memo_target(0), "[\"SSH][-2.0-x..]");
	memo_stop();
}

Test(task_first, a_message_that_never_ends_is_passed_on_in_time)
{
	memo_start("timeouts.preamble = \"20ms\"", by_bytes, NULL);
	client = memo_new(NULL);
	memo_say(client, "SS", CP_READ_MORE);
	arrive(1);
	memo_expect(target = memo_target(0), "[SS+]");
	memo_say(client, "H", 0);
	memo_expect(target, "[SS+][H]");
	memo_stop();
}
