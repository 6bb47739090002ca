/* udp: connecting, and the stream to a target. */
#include "core_udp.h"

TestSuite(core_udp_target, .init = fixture_start, .fini = fixture_stop);

static struct cp_stream *target_at(uint16_t port)
{
	char text[64];
	snprintf(text, sizeof(text), "udp:127.0.0.1:%u", port);
	return stream_to(text);
}

/** A server and a stream to it that has said "x". `*server` is connected to the stream's socket. */
static struct cp_stream *target_with_server(int *server)
{
	uint16_t port = 0;
	struct sockaddr_in from;
	socklen_t length = sizeof(from);
	char byte;
	*server = udp_server(&port);
	struct cp_stream *target = target_at(port);
	write_bytes(target, "x", 1, 0);
	cr_assert_eq(recvfrom(*server, &byte, 1, 0, (struct sockaddr *)&from, &length), 1);
	cr_assert_eq(connect(*server, (struct sockaddr *)&from, length), 0);
	return target;
}

Test(core_udp_target, early_bytes_are_one_datagram)
{
	uint16_t port = 0;
	int server = udp_server(&port);
	char text[64];
	struct connecting c;
	struct iovec early[2] = {{"pre", 3}, {"face", 4}};
	snprintf(text, sizeof(text), "udp:127.0.0.1:%u", port);
	const struct cp_address *address = address_of(text);
	cr_expect_eq(connect_start(&c, address, 0, NULL), CP_OK);
	cr_expect_eq(c.open.early_sent, 0);
	cp_stream_close(c.open.stream, CP_CAUSE_DONE);
	c.open.early = early;
	c.open.early_count = 2;
	cr_expect_eq(address->connector->def->connect(address->connector, &c.open), CP_OK);
	cr_expect_eq(c.open.early_sent, 7);
	hear_text(server, "preface");
	cr_expect(is_silent(server));
	cp_stream_close(c.open.stream, CP_CAUSE_DONE);
	close(server);
}

Test(core_udp_target, names_are_looked_up)
{
	uint16_t port = 0;
	int server = udp_server(&port);
	char text[64];
	snprintf(text, sizeof(text), "udp:localhost:%u", port);
	struct cp_stream *target = stream_to(text);
	cp_stream_close(target, CP_CAUSE_DONE);
	close(server);
}

Test(core_udp_target, boundaries_stay)
{
	int server;
	struct cp_stream *target = target_with_server(&server);
	say_text(server, "one");
	say_text(server, "");
	say_text(server, "three");
	read_text(target, "one");
	read_text(target, "");
	read_text(target, "three");
	cr_expect(has_nothing(target));
	write_bytes(target, "", 0, 0);
	write_bytes(target, "a", 1, CP_WRITE_MORE);
	write_bytes(target, "b", 1, 0);
	hear_text(server, "");
	hear_text(server, "ab");
	cr_expect_eq(cp_stream_shutdown_write(target), CP_EUNSUPPORTED);
	cp_stream_close(target, CP_CAUSE_DONE);
	close(server);
}

Test(core_udp_target, a_single_datagram_is_taken_for_the_last)
{
	int server;
	struct cp_stream *target = target_with_server(&server);
	static char got[UDP_READ];
	struct user user = {0};
	unsigned hints = 0;
	say_text(server, "one");
	say_text(server, "two");
	cr_expect_eq(read_message(target, got, sizeof(got), &hints), 3);
	cr_expect_eq(hints, CP_READ_DRAINED);
	cp_stream_set_user(target, user_ready, &user);
	run_until(&user.called); /* there is more: the watch tells */
	cr_expect_eq(user.events, CP_READABLE);
	run_turns(5);
	cr_expect_eq(user.calls, 1, "nobody waits: the watch is taken back");
	cp_stream_await(target, CP_READABLE);
	user.called = false;
	run_until(&user.called);
	read_text(target, "two");
	cp_stream_close(target, CP_CAUSE_DONE);
	close(server);
}

Test(core_udp_target, now_and_then_everything_is_read)
{
	int server, in_vain = 0;
	struct cp_stream *target = target_with_server(&server);
	static char got[UDP_READ];
	for (int i = 0; i < 40; i++) {
		unsigned hints = 0;
		say_text(server, "one");
		cr_assert_eq(read_message(target, got, sizeof(got), &hints), 3);
		if (hints == 0) {
			in_vain++;
			cr_assert(has_nothing(target));
		}
	}
	cr_expect(in_vain == 2, "%d reads were not taken for the last one", in_vain);
	cr_expect(has_nothing(target));
	for (int i = 0; i < 100; i++)
		say_text(server, "many");
	int calls = 0;
	for (int i = 0; i < 100; i++) {
		unsigned hints = 0;
		cr_assert_eq(read_message(target, got, sizeof(got), &hints), 4);
		calls += hints == CP_READ_DRAINED;
	}
	cr_expect(calls <= 16, "a burst is read at once");
	cp_stream_close(target, CP_CAUSE_DONE);
	close(server);
}

Test(core_udp_target, little_room_gives_pieces)
{
	static char bytes[UDP_LONGEST], got[UDP_READ];
	int server;
	struct cp_stream *target = target_with_server(&server);
	struct user user = {0};
	unsigned hints = 0;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)(i * 11 + i / 256);
	say(server, bytes, sizeof(bytes));
	cr_expect_eq(read_message(target, got, 4096, &hints), 4096);
	cr_expect_eq(hints, CP_READ_MORE);
	cp_stream_set_user(target, user_ready, &user);
	cp_stream_await(target, CP_READABLE);
	run_until(&user.called); /* the rest is there already */
	hints = 0;
	cr_expect_eq(read_message(target, got + 4096, sizeof(got) - 4096, &hints), UDP_LONGEST - 4096);
	cr_expect_eq(hints & CP_READ_MORE, 0);
	cr_expect_eq(memcmp(got, bytes, sizeof(bytes)), 0);
	say(server, bytes, sizeof(bytes));
	hints = 0;
	cr_expect_eq(read_message(target, got, 10, &hints), 10);
	cp_stream_await(target, CP_READABLE);
	cp_stream_close(target, CP_CAUSE_DONE); /* with a rest, and a call under way */
	run_turns(2);
	close(server);
}

Test(core_udp_target, segments_are_read_at_once_or_one_by_one)
{
	static char bytes[1050], got[UDP_READ];
	int server;
	struct cp_stream *target = target_with_server(&server);
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)('a' + i / 100);
	for (unsigned several = 0; several < 2; several++) {
		size_t room = several ? sizeof(got) : 2000; /* straight into ours, or by way of the worker's */
		say_segments(server, bytes, sizeof(bytes), 100);
		unsigned hints = CP_READ_SEGMENTS;
		cr_expect_eq(read_message(target, got, room, &hints), (ssize_t)sizeof(bytes));
		cr_expect_eq(CP_SEGMENTS_SIZE(hints), 100);
		say_segments(server, bytes, sizeof(bytes), 100);
		for (size_t at = 0; at < sizeof(bytes); at += 100) {
			size_t length = sizeof(bytes) - at < 100 ? sizeof(bytes) - at : 100;
			hints = 0;
			cr_expect_eq(read_message(target, got, room, &hints), (ssize_t)length);
			cr_expect_eq(memcmp(got, bytes + at, length), 0);
		}
	}
	write_bytes(target, bytes, sizeof(bytes), CP_SEGMENTS(100));
	for (size_t at = 0; at < sizeof(bytes); at += 100)
		hear(server, bytes + at, sizeof(bytes) - at < 100 ? sizeof(bytes) - at : 100);
	cp_stream_close(target, CP_CAUSE_DONE);
	close(server);
}

Test(core_udp_target, nobody_there_is_counted_and_passed_over)
{
	uint16_t port = 0;
	close(udp_server(&port));
	int64_t before = counted("udp_icmp_errors");
	struct cp_stream *target = target_at(port);
	write_bytes(target, "1", 1, 0);
	write_bytes(target, "2", 1, 0); /* hears of the first, and is sent all the same */
	cr_expect_eq(counted("udp_icmp_errors") - before, 1);
	cr_expect(has_nothing(target), "what the second was told of is passed over");
	cr_expect_eq(counted("udp_icmp_errors") - before, 2);
	int server = udp_server(&port);
	write_bytes(target, "3", 1, 0);
	hear_text(server, "3");
	cp_stream_close(target, CP_CAUSE_DONE);
	close(server);
}

Test(core_udp_target, the_local_port_stays)
{
	int server;
	struct cp_stream *target = target_with_server(&server);
	for (int i = 0; i < 10; i++) {
		write_bytes(target, "x", 1, 0);
		hear_text(server, "x"); /* it is connected: from another port nothing would come */
	}
	cp_stream_close(target, CP_CAUSE_DONE);
	close(server);
}

Test(core_udp_target, who_waits_to_write_is_told)
{
	int server;
	struct cp_stream *target = target_with_server(&server);
	struct user user = {0};
	cp_stream_set_user(target, user_ready, &user);
	cp_stream_await(target, CP_WRITABLE);
	run_until(&user.called);
	cr_expect_eq(user.events, CP_WRITABLE);
	run_turns(5);
	cr_expect_eq(user.calls, 1);
	cp_stream_close(target, CP_CAUSE_DONE);
	close(server);
}

Test(core_udp_target, what_cannot_be_connected_is_an_error)
{
	struct connecting c;
	cr_expect_eq(connect_wait(&c, address_of("udp:255.255.255.255:9"), 1000), CP_EPERM);
	cr_expect_str_eq(c.open.error.where, "255.255.255.255:9");
}

Test(core_udp_target, a_look_up_can_be_given_up)
{
	struct connecting c;
	const struct cp_address *address = address_of("udp:name.invalid:53");
	if (connect_start(&c, address, 5000, NULL) == CP_AGAIN)
		address->connector->def->cancel(address->connector, &c.open);
	run_turns(2);
	cr_expect_not(c.done);
}

/* ---- The table of peers ---------------------------------------------------------------------------------------- */

Test(core_udp_target, every_peer_of_many_is_found)
{
	enum { MANY = 5000 };
	static struct udp_entry entries[MANY];
	struct udp_table table, other;
	cr_assert(udp_table_init(&table));
	cr_assert(udp_table_init(&other));
	for (uint32_t i = 0; i < MANY; i++) {
		entries[i].key = (struct udp_key){.peer = {i / 7}, .port = (in_port_t)(i % 7 + 1), .family = 4};
		entries[i].hash = udp_table_hash(&table, &entries[i].key);
		udp_table_add(&table, &entries[i]);
	}
	for (uint32_t i = 0; i < MANY; i += 2)
		udp_table_remove(&table, &entries[i]);
	udp_table_remove(&table, &entries[0]); /* again */
	for (uint32_t i = 0; i < MANY; i++)
		cr_assert_eq(udp_table_find(&table, &entries[i].key, entries[i].hash), i % 2 ? &entries[i] : NULL);
	cr_expect_eq(table.count, MANY / 2);
	cr_expect_neq(udp_table_hash(&other, &entries[0].key), entries[0].hash, "each table has a secret of its own");
	udp_table_deinit(&table);
	udp_table_deinit(&other);
}
