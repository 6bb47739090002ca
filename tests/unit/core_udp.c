/* udp: bound sockets and their sessions. */
#include "core_udp.h"

TestSuite(core_udp, .init = fixture_start, .fini = fixture_stop);

/* ---- Binding ------------------------------------------------------------------------------------------------- */

Test(core_udp, port_0_becomes_a_number_for_all_workers)
{
	struct cp_listener *listener = bind_to("udp:$4:0", 3);
	struct udp_listener *udp = (struct udp_listener *)listener;
	char expected[64];
	cr_expect_gt(listener_port(listener), 0);
	snprintf(expected, sizeof(expected), "udp:127.0.0.1:%u", listener_port(listener));
	cr_expect_str_eq(listener_name(listener), expected);
	for (uint32_t worker = 0; worker < 3; worker++) {
		struct sockaddr_in at;
		socklen_t length = sizeof(at);
		getsockname(*endpoints_fd(&udp->endpoints, worker, 0), (struct sockaddr *)&at, &length);
		cr_expect_eq(ntohs(at.sin_port), listener_port(listener));
	}
	listener->ops->unbind(listener);
}

Test(core_udp, an_address_that_somebody_shares_is_not_shared_with_him)
{
	struct sockaddr_in at = at_port("127.0.0.1", 0);
	socklen_t length = sizeof(at);
	struct cp_error error = {0};
	char text[64];
	int other = socket(AF_INET, SOCK_DGRAM, 0), one = 1;
	setsockopt(other, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	cr_assert_eq(bind(other, (struct sockaddr *)&at, sizeof(at)), 0);
	getsockname(other, (struct sockaddr *)&at, &length);
	snprintf(text, sizeof(text), "udp:127.0.0.1:%u", ntohs(at.sin_port));
	cr_expect_eq(bind_fails(text, &error), CP_EADDRINUSE);
	close(other);
}

Test(core_udp, names_and_foreign_addresses_cannot_be_bound)
{
	struct cp_error error = {0};
	cr_expect_eq(bind_fails("udp:db.local:53", &error), CP_EINVAL);
	cr_expect_str_eq(error.where, "db.local");
	cr_expect_eq(bind_fails("udp:192.0.2.1:53", &error), CP_EINVAL);
	cr_expect_str_eq(error.where, "192.0.2.1:53");
	const struct cp_address *name = address_of("udp:db.local:53");
	cr_expect_eq(udp_check_bind(name->connector, name, &error), CP_EINVAL);
}

Test(core_udp, what_comes_before_a_worker_reads_waits)
{
	struct cp_listener *listener = bind_to("udp:127.0.0.1:0", 1);
	struct accepting accepting;
	int client = udp_client("127.0.0.1", listener_port(listener));
	say_text(client, "early");
	accepting_start(&accepting, listener);
	struct cp_stream *session = accept_one(&accepting);
	read_text(session, "early");
	cp_stream_close(session, CP_CAUSE_DONE);
	accepting_stop(&accepting);
	listener->ops->unbind(listener);
	close(client);
}

Test(core_udp, nothing_is_left_open)
{
	struct bound b;
	int before = open_descriptors();
	bound_start(&b, "udp:$n:0");
	int client = udp_client("127.0.0.1", b.port);
	cp_stream_close(session_for(&b, client, "x"), CP_CAUSE_DONE);
	close(client);
	bound_stop(&b);
	cr_expect_eq(open_descriptors(), before);
}

/* ---- Sessions ------------------------------------------------------------------------------------------------ */

Test(core_udp, a_peer_becomes_a_session)
{
	struct bound b;
	bound_start(&b, "udp:127.0.0.1:0");
	int client = udp_client("127.0.0.1", b.port);
	struct sockaddr_in own;
	socklen_t length = sizeof(own);
	getsockname(client, (struct sockaddr *)&own, &length);
	struct cp_stream *session = session_for(&b, client, "hello");
	cr_expect(session->messages && session->segments);
	cr_expect_eq(session->loop, fixture.loop);
	cr_expect_eq(b.accepting.accepted.peer.port, ntohs(own.sin_port));
	cr_expect_eq(b.accepting.accepted.peer.ip.family, 4);
	cr_expect_eq(b.accepting.accepted.local.port, b.port);
	cr_expect_eq(b.accepting.accepted.local.ip.bytes[0], 127);
	write_bytes(session, "welcome", 7, 0);
	hear_text(client, "welcome");
	say_text(client, "again");
	read_text(session, "again");
	cr_expect_eq(b.accepting.calls, 1, "one peer is one session");
	cp_stream_close(session, CP_CAUSE_DONE);
	close(client);
	bound_stop(&b);
}

Test(core_udp, sessions_are_small)
{
	cr_expect_lt(sizeof(struct udp_session), 300);
}

Test(core_udp, boundaries_stay)
{
	static const char *const texts[] = {"one", "", "three", ""};
	struct bound b;
	bound_start(&b, "udp:127.0.0.1:0");
	int client = udp_client("127.0.0.1", b.port);
	struct cp_stream *session = session_for(&b, client, "");
	for (int i = 0; i < 4; i++)
		say_text(client, texts[i]);
	for (int i = 0; i < 4; i++)
		read_text(session, texts[i]);
	for (int i = 0; i < 4; i++)
		write_bytes(session, texts[i], strlen(texts[i]), 0);
	for (int i = 0; i < 4; i++)
		hear_text(client, texts[i]);
	cp_stream_close(session, CP_CAUSE_DONE);
	close(client);
	bound_stop(&b);
}

Test(core_udp, the_longest_datagrams_pass_whole)
{
	static char bytes[UDP_LONGEST], got[UDP_READ];
	struct bound b;
	unsigned hints = 0;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)(i * 7 + i / 256);
	bound_start(&b, "udp:127.0.0.1:0");
	int client = udp_client("127.0.0.1", b.port);
	say(client, bytes, sizeof(bytes));
	struct cp_stream *session = accept_one(&b.accepting);
	cr_expect_eq(read_message(session, got, sizeof(got), &hints), (ssize_t)sizeof(bytes));
	cr_expect_eq(memcmp(got, bytes, sizeof(bytes)), 0);
	write_bytes(session, bytes, sizeof(bytes), 0);
	hear(client, bytes, sizeof(bytes));
	cp_stream_close(session, CP_CAUSE_DONE);
	close(client);
	bound_stop(&b);
}

Test(core_udp, a_reader_with_little_room_gets_pieces)
{
	struct bound b;
	char got[4];
	unsigned hints = 0;
	bound_start(&b, "udp:127.0.0.1:0");
	int client = udp_client("127.0.0.1", b.port);
	say_text(client, "0123456789");
	struct cp_stream *session = accept_one(&b.accepting);
	static const char *const pieces[] = {"0123", "4567", "89"};
	for (int i = 0; i < 3; i++, hints = 0) {
		cr_expect_eq(read_message(session, got, sizeof(got), &hints), (ssize_t)strlen(pieces[i]));
		cr_expect_eq(memcmp(got, pieces[i], strlen(pieces[i])), 0);
		cr_expect_eq(hints & CP_READ_MORE, i < 2 ? CP_READ_MORE : 0u);
	}
	cp_stream_close(session, CP_CAUSE_DONE);
	close(client);
	bound_stop(&b);
}

Test(core_udp, each_peer_has_its_own)
{
	enum { PEERS = 300 };
	static int clients[PEERS];
	static struct cp_stream *sessions[PEERS];
	struct bound b;
	bound_start(&b, "udp:127.0.0.1:0");
	for (int i = 0; i < PEERS; i++) {
		char text[16];
		snprintf(text, sizeof(text), "%d", i);
		clients[i] = udp_client("127.0.0.1", b.port);
		sessions[i] = session_for(&b, clients[i], text);
	}
	for (int i = 0; i < PEERS; i++)
		write_bytes(sessions[i], &i, sizeof(i), 0);
	for (int i = PEERS; i-- > 0;) {
		hear(clients[i], &i, sizeof(i));
		say_text(clients[i], "still");
		read_text(sessions[i], "still");
	}
	for (int i = 0; i < PEERS; i++) {
		cp_stream_close(sessions[i], CP_CAUSE_DONE);
		close(clients[i]);
	}
	bound_stop(&b);
}

Test(core_udp, a_wildcard_answers_from_the_address_that_was_asked)
{
	struct bound b;
	bound_start(&b, "udp:*4:0");
	struct sockaddr_in first = at_port("127.0.0.2", b.port), second = at_port("127.0.0.3", b.port), from;
	socklen_t length = sizeof(from);
	char byte;
	int client = socket(AF_INET, SOCK_DGRAM, 0);
	sendto(client, "x", 1, 0, (struct sockaddr *)&first, sizeof(first));
	struct cp_stream *one = accept_one(&b.accepting);
	cr_expect_eq(b.accepting.accepted.local.ip.bytes[3], 2);
	cr_expect_eq(b.accepting.accepted.local.port, b.port);
	sendto(client, "y", 1, 0, (struct sockaddr *)&second, sizeof(second));
	struct cp_stream *two = accept_one(&b.accepting);
	cr_expect_neq(one, two, "another local address is another session");
	write_bytes(one, "1", 1, 0);
	cr_expect_eq(recvfrom(client, &byte, 1, 0, (struct sockaddr *)&from, &length), 1);
	cr_expect_eq(from.sin_addr.s_addr, first.sin_addr.s_addr);
	write_bytes(two, "2", 1, 0);
	cr_expect_eq(recvfrom(client, &byte, 1, 0, (struct sockaddr *)&from, &length), 1);
	cr_expect_eq(from.sin_addr.s_addr, second.sin_addr.s_addr);
	cp_stream_close(one, CP_CAUSE_DONE);
	cp_stream_close(two, CP_CAUSE_DONE);
	close(client);
	bound_stop(&b);
}

Test(core_udp, an_armed_session_is_called_for_each_datagram)
{
	struct bound b;
	struct user user = {0};
	bound_start(&b, "udp:127.0.0.1:0");
	int client = udp_client("127.0.0.1", b.port);
	struct cp_stream *session = session_for(&b, client, "x");
	cr_expect(has_nothing(session));
	cp_stream_set_user(session, user_ready, &user);
	say_text(client, "1");
	run_until(&user.called);
	cr_expect_eq(user.events, CP_READABLE);
	say_text(client, "2");
	run_until_in(3);
	cr_expect_eq(user.calls, 1, "it is not armed: nothing was read");
	read_text(session, "1");
	read_text(session, "2");
	cp_stream_close(session, CP_CAUSE_DONE);
	close(client);
	bound_stop(&b);
}

Test(core_udp, who_waits_without_reading_is_told_of_what_is_there)
{
	struct bound b;
	struct user user = {0};
	bound_start(&b, "udp:127.0.0.1:0");
	int client = udp_client("127.0.0.1", b.port);
	say_text(client, "x");
	struct cp_stream *session = accept_one(&b.accepting);
	cp_stream_set_user(session, user_ready, &user);
	run_turns(2);
	cr_expect_eq(user.calls, 0);
	cp_stream_await(session, CP_READABLE);
	run_until(&user.called);
	user.called = false;
	cp_stream_await(session, CP_WRITABLE);
	run_until(&user.called);
	cr_expect_eq(user.events, CP_WRITABLE);
	read_text(session, "x");
	cp_stream_close(session, CP_CAUSE_DONE);
	close(client);
	bound_stop(&b);
}

static void close_at_once(struct cp_stream *stream, unsigned events, void *arg)
{
	(void)events;
	cp_stream_close(stream, CP_CAUSE_KILLED);
	*(bool *)arg = true;
	loop_stop(fixture.loop);
}

Test(core_udp, a_session_can_be_closed_while_it_is_called)
{
	struct bound b;
	bool closed = false;
	bound_start(&b, "udp:127.0.0.1:0");
	int client = udp_client("127.0.0.1", b.port);
	struct cp_stream *session = session_for(&b, client, "x");
	cr_expect(has_nothing(session));
	cp_stream_set_user(session, close_at_once, &closed);
	say_text(client, "last");
	run_until(&closed);
	cp_stream_close(session_for(&b, client, "next"), CP_CAUSE_DONE);
	close(client);
	bound_stop(&b);
}

Test(core_udp, a_session_can_be_closed_with_a_call_under_way)
{
	struct bound b;
	bound_start(&b, "udp:127.0.0.1:0");
	int client = udp_client("127.0.0.1", b.port);
	say_text(client, "x");
	struct cp_stream *session = accept_one(&b.accepting);
	cp_stream_await(session, CP_READABLE | CP_WRITABLE);
	cp_stream_close(session, CP_CAUSE_DONE);
	run_turns(3);
	close(client);
	bound_stop(&b);
}

/* ---- Bounds -------------------------------------------------------------------------------------------------- */

Test(core_udp, what_nobody_reads_is_dropped_beyond_a_bound)
{
	struct bound b;
	int64_t dropped = counted("udp_dropped");
	bound_start(&b, "udp:127.0.0.1:0");
	int client = udp_client("127.0.0.1", b.port);
	struct cp_stream *session = session_for(&b, client, "x");
	for (int i = 0; i < UDP_INBOX_MOST + 10; i++) {
		say(client, &i, sizeof(i));
		run_until_in(2 + i);
	}
	cr_expect_eq(counted("udp_dropped") - dropped, 10);
	for (int i = 0; i < UDP_INBOX_MOST; i++) {
		int got;
		unsigned hints = 0;
		cr_assert_eq(read_message(session, &got, sizeof(got), &hints), (ssize_t)sizeof(got));
		cr_expect_eq(got, i);
	}
	cr_expect(has_nothing(session));
	cp_stream_close(session, CP_CAUSE_DONE);
	close(client);
	bound_stop(&b);
}

Test(core_udp, peers_wait_while_accepting_is_paused)
{
	struct bound b;
	bound_start(&b, "udp:127.0.0.1:0");
	int old = udp_client("127.0.0.1", b.port), new = udp_client("127.0.0.1", b.port);
	struct cp_stream *first = session_for(&b, old, "x");
	b.listener->ops->pause(b.accepting.acceptor);
	say_text(new, "wait");
	say_text(old, "go on");
	read_text(first, "go on");
	run_until_in(3);
	cr_expect_eq(b.accepting.calls, 1);
	b.listener->ops->resume(b.accepting.acceptor);
	struct cp_stream *second = accept_one(&b.accepting);
	read_text(second, "wait");
	cp_stream_close(first, CP_CAUSE_DONE);
	cp_stream_close(second, CP_CAUSE_DONE);
	close(old);
	close(new);
	bound_stop(&b);
}

Test(core_udp, so_many_peers_wait_and_no_more)
{
	enum { PEERS = UDP_WAITING_MOST + 5 };
	static int clients[PEERS];
	struct bound b;
	int64_t dropped = counted("udp_dropped");
	bound_start(&b, "udp:127.0.0.1:0");
	b.listener->ops->pause(b.accepting.acceptor);
	for (int i = 0; i < PEERS; i++) {
		clients[i] = udp_client("127.0.0.1", b.port);
		say_text(clients[i], "x");
		run_until_in(i + 1);
	}
	cr_expect_eq(counted("udp_dropped") - dropped, 5);
	for (int i = 0; i < PEERS; i++)
		close(clients[i]);
	bound_stop(&b); /* with those who still wait */
}

Test(core_udp, the_memory_of_empty_datagrams_is_bounded)
{
	struct bound b;
	int64_t dropped = counted("udp_dropped");
	bound_start(&b, "udp:127.0.0.1:0");
	int client = udp_client("127.0.0.1", b.port);
	struct cp_stream *session = session_for(&b, client, "x");
	struct udp_worker *worker = ((struct udp_acceptor *)b.accepting.acceptor)->worker;
	cr_assert_eq(worker->queued, 0);
	worker->queued = UDP_QUEUED_BYTES - 200; /* of others */
	for (int i = 0; i < 20; i++)
		say_text(client, "");
	run_until_in(21);
	cr_expect_gt(counted("udp_dropped"), dropped, "they take no memory");
	cr_expect_lt(counted("udp_dropped") - dropped, 20, "none was kept");
	cp_stream_close(session, CP_CAUSE_DONE);
	cr_expect_eq(worker->queued, UDP_QUEUED_BYTES - 200, "all was given back");
	worker->queued = 0;
	close(client);
	bound_stop(&b);
}

Test(core_udp, a_refused_peer_is_not_asked_about_again_for_a_while)
{
	struct bound b;
	int64_t refused = counted("udp_refused");
	bound_start(&b, "udp:127.0.0.1:0");
	int client = udp_client("127.0.0.1", b.port), other = udp_client("127.0.0.1", b.port);
	cp_stream_close(session_for(&b, client, "x"), CP_CAUSE_NO_ROUTE);
	for (int i = 0; i < 5; i++)
		say_text(client, "y");
	cp_stream_close(session_for(&b, other, "z"), CP_CAUSE_DONE);
	cr_expect_eq(counted("udp_refused") - refused, 5);
	cr_expect_eq(b.accepting.calls, 2);
	while (!b.accepting.done) { /* until it is forgotten */
		say_text(client, "again");
		run_turns(1);
	}
	cp_stream_close(accept_one(&b.accepting), CP_CAUSE_NO_ROUTE);
	close(client);
	close(other);
	bound_stop(&b);
}

Test(core_udp, who_was_answered_is_not_refused)
{
	struct bound b;
	bound_start(&b, "udp:127.0.0.1:0");
	int client = udp_client("127.0.0.1", b.port);
	struct cp_stream *session = session_for(&b, client, "x");
	write_bytes(session, "answer", 6, 0);
	cp_stream_close(session, CP_CAUSE_NO_RESOURCES);
	cp_stream_close(session_for(&b, client, "y"), CP_CAUSE_IDLE_TIMEOUT);
	cp_stream_close(session_for(&b, client, "z"), CP_CAUSE_DONE);
	close(client);
	bound_stop(&b);
}

/** A target that has ended badly may have taken what came before, and may be there again. */
Test(core_udp, who_reached_a_target_is_not_refused)
{
	static const enum cp_cause causes[] = {CP_CAUSE_TARGET_RESET, CP_CAUSE_TARGET_PROTOCOL, CP_CAUSE_CLIENT_PROTOCOL};
	struct bound b;
	int64_t refused = counted("udp_refused");
	bound_start(&b, "udp:127.0.0.1:0");
	int client = udp_client("127.0.0.1", b.port);
	for (size_t i = 0; i < sizeof(causes) / sizeof(causes[0]); i++) {
		cp_stream_close(session_for(&b, client, "line"), causes[i]);
		say_text(client, "next");
		run_until_in((int64_t)i * 2 + 2);
		cr_assert(b.accepting.done, "refused after %s", cp_cause_text(causes[i]));
		cp_stream_close(accept_one(&b.accepting), CP_CAUSE_DONE);
	}
	cr_expect_eq(counted("udp_refused"), refused);
	close(client);
	bound_stop(&b);
}

Test(core_udp, over_the_limit_nobody_begins_for_a_while_and_nobody_is_remembered)
{
	enum { PEERS = 5 };
	struct bound b;
	bound_start(&b, "udp:127.0.0.1:0");
	struct udp_acceptor *acceptor = (struct udp_acceptor *)b.accepting.acceptor;
	int old = udp_client("127.0.0.1", b.port), client = udp_client("127.0.0.1", b.port), others[PEERS];
	struct cp_stream *session = session_for(&b, old, "x");
	cp_stream_close(session_for(&b, client, "one too many"), CP_CAUSE_SESSION_LIMIT);
	cr_expect_gt(acceptor->full_until, cp_loop_now(fixture.loop));
	acceptor->full_until += WATCHDOG_MS; /* however slow the machine is */
	for (int i = 0; i < PEERS; i++) {
		others[i] = udp_client("127.0.0.1", b.port);
		say_text(others[i], "flood");
	}
	run_until_in(2 + PEERS);
	cr_expect_eq(counted("udp_refused"), PEERS);
	cr_expect_eq(b.accepting.calls, 2);
	cr_expect_eq(acceptor->peers.count, 1, "only the session that is there");
	say_text(old, "goes on");
	read_text(session, "goes on");
	acceptor->full_until -= WATCHDOG_MS;
	while (!b.accepting.done) { /* until there may be room again */
		say_text(client, "again");
		run_turns(1);
	}
	cp_stream_close(accept_one(&b.accepting), CP_CAUSE_DONE);
	cp_stream_close(session, CP_CAUSE_DONE);
	for (int i = 0; i < PEERS; i++)
		close(others[i]);
	close(client);
	close(old);
	bound_stop(&b);
}

/* ---- The end ------------------------------------------------------------------------------------------------- */

static void expect_over(struct cp_stream *session)
{
	char byte;
	unsigned hints = 0;
	cr_expect_eq(read_message(session, &byte, 1, &hints), 0);
	cr_expect_eq(hints & (CP_READ_END | CP_READ_OVER), CP_READ_END | CP_READ_OVER);
}

Test(core_udp, a_session_is_over_after_so_many_answers)
{
	struct bound b;
	struct user user = {0};
	bound_start(&b, "udp:127.0.0.1:0");
	((struct udp_acceptor *)b.accepting.acceptor)->options.responses = 2;
	int client = udp_client("127.0.0.1", b.port);
	struct cp_stream *session = session_for(&b, client, "x");
	write_bytes(session, "1", 1, 0);
	cr_expect(has_nothing(session), "one answer is not enough");
	cp_stream_set_user(session, user_ready, &user);
	write_bytes(session, "2", 1, 0);
	cr_expect_eq(user.calls, 0, "not from inside a write");
	run_until(&user.called);
	expect_over(session);
	expect_over(session);
	struct cp_stream *next = session_for(&b, client, "new");
	write_bytes(session, "late", 4, 0);
	write_bytes(next, "3", 1, 0);
	hear_text(client, "1");
	hear_text(client, "2");
	hear_text(client, "3");
	cp_stream_close(session, CP_CAUSE_DONE);
	cp_stream_close(next, CP_CAUSE_DONE);
	close(client);
	bound_stop(&b);
}

Test(core_udp, each_question_may_have_an_answer)
{
	struct bound b;
	bound_start(&b, "udp:127.0.0.1:0");
	((struct udp_acceptor *)b.accepting.acceptor)->options.responses = 1;
	int client = udp_client("127.0.0.1", b.port);
	struct cp_stream *session = session_for(&b, client, "A?");
	say_text(client, "AAAA?");
	read_text(session, "AAAA?");
	write_bytes(session, "A", 1, 0);
	cr_expect(has_nothing(session));
	write_bytes(session, "AAAA", 4, 0);
	expect_over(session);
	cp_stream_close(session, CP_CAUSE_DONE);
	close(client);
	bound_stop(&b);
}

/** What the kernel does not send is no answer. */
Test(core_udp, lost_answers_do_not_count)
{
	static char bytes[UDP_READ];
	struct bound b;
	int64_t out = counted("udp_datagrams_out"), unsent = counted("udp_unsent");
	bound_start(&b, "udp:127.0.0.1:0");
	((struct udp_acceptor *)b.accepting.acceptor)->options.responses = 1;
	int client = udp_client("127.0.0.1", b.port);
	struct cp_stream *session = session_for(&b, client, "A?");
	write_bytes(session, bytes, sizeof(bytes), 0);
	write_bytes(session, bytes, sizeof(bytes) - 1, CP_WRITE_MORE);
	write_bytes(session, bytes, 1, 0);
	cr_expect_eq(counted("udp_unsent") - unsent, 2);
	cr_expect_eq(counted("udp_datagrams_out"), out);
	cr_assert(has_nothing(session), "it is over without an answer");
	write_bytes(session, "A", 1, 0);
	cr_expect_eq(counted("udp_datagrams_out") - out, 1);
	expect_over(session);
	hear_text(client, "A");
	cp_stream_close(session, CP_CAUSE_DONE);
	close(client);
	bound_stop(&b);
}

Test(core_udp, the_end_of_the_target_is_the_end_of_the_session)
{
	struct bound b;
	bound_start(&b, "udp:127.0.0.1:0");
	int client = udp_client("127.0.0.1", b.port);
	struct cp_stream *session = session_for(&b, client, "x");
	say_text(client, "there already");
	run_until_in(2);
	cr_expect_eq(cp_stream_shutdown_write(session), CP_OK);
	read_text(session, "there already");
	expect_over(session);
	cp_stream_close(session, CP_CAUSE_DONE);
	close(client);
	bound_stop(&b);
}

Test(core_udp, sessions_outlive_their_acceptor)
{
	struct bound b;
	struct cp_error error = {0};
	char text[64];
	bound_start(&b, "udp:127.0.0.1:0");
	snprintf(text, sizeof(text), "udp:127.0.0.1:%u", b.port);
	int client = udp_client("127.0.0.1", b.port), late = udp_client("127.0.0.1", b.port);
	struct cp_stream *session = session_for(&b, client, "x");
	bound_stop(&b);
	say_text(late, "too late");
	say_text(client, "go on");
	read_text(session, "go on");
	write_bytes(session, "yes", 3, 0);
	hear_text(client, "yes");
	cr_expect_eq(bind_fails(text, &error), CP_EADDRINUSE);
	cp_stream_close(session, CP_CAUSE_NO_ROUTE);
	struct cp_listener *again = bind_to(text, 1);
	again->ops->unbind(again);
	close(client);
	close(late);
}

/* ---- Several at once, and in pieces --------------------------------------------------------------------------- */

static void fill(char *bytes, size_t length, size_t segment)
{
	for (size_t i = 0; i < length; i++)
		bytes[i] = (char)('a' + i / segment % 26);
}

Test(core_udp, segments_are_read_at_once_or_one_by_one)
{
	struct bound b;
	char bytes[1050], got[UDP_READ];
	fill(bytes, sizeof(bytes), 100);
	bound_start(&b, "udp:127.0.0.1:0");
	int client = udp_client("127.0.0.1", b.port);
	say_segments(client, bytes, sizeof(bytes), 100);
	struct cp_stream *session = accept_one(&b.accepting);
	unsigned hints = CP_READ_SEGMENTS;
	cr_expect_eq(read_message(session, got, sizeof(got), &hints), (ssize_t)sizeof(bytes));
	cr_expect_eq(CP_SEGMENTS_SIZE(hints), 100);
	cr_expect_eq(memcmp(got, bytes, sizeof(bytes)), 0);
	say_segments(client, bytes, sizeof(bytes), 100);
	for (size_t at = 0; at < sizeof(bytes); at += 100) {
		size_t length = sizeof(bytes) - at < 100 ? sizeof(bytes) - at : 100;
		hints = 0;
		cr_expect_eq(read_message(session, got, sizeof(got), &hints), (ssize_t)length);
		cr_expect_eq(CP_SEGMENTS_SIZE(hints), 0);
		cr_expect_eq(memcmp(got, bytes + at, length), 0);
	}
	say_segments(client, bytes, sizeof(bytes), 100);
	for (size_t at = 0; at < sizeof(bytes); at += 300) {
		size_t length = sizeof(bytes) - at < 300 ? sizeof(bytes) - at : 300;
		hints = CP_READ_SEGMENTS;
		cr_expect_eq(read_message(session, got, 350, &hints), (ssize_t)length, "only whole ones");
	}
	cp_stream_close(session, CP_CAUSE_DONE);
	close(client);
	bound_stop(&b);
}

Test(core_udp, segments_are_written_at_once)
{
	enum { MANY = 150 };
	static char bytes[MANY * 400 + 7];
	struct bound b;
	int room = 1 << 20;
	fill(bytes, sizeof(bytes), 400);
	bound_start(&b, "udp:127.0.0.1:0");
	int client = udp_client("127.0.0.1", b.port);
	setsockopt(client, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
	struct cp_stream *session = session_for(&b, client, "x");
	write_bytes(session, bytes, 1207, CP_SEGMENTS(400));
	for (size_t at = 0; at < 1207; at += 400)
		hear(client, bytes + at, at == 1200 ? 7 : 400);
	struct iovec parts[3] = {{bytes, 150}, {bytes + 150, 0}, {bytes + 150, sizeof(bytes) - 150}};
	cr_expect_eq(cp_stream_writev(session, parts, 3, CP_SEGMENTS(400)), (ssize_t)sizeof(bytes),
				 "more than the kernel takes at once");
	for (size_t at = 0; at < sizeof(bytes); at += 400)
		hear(client, bytes + at, sizeof(bytes) - at < 400 ? 7 : 400);
	cp_stream_close(session, CP_CAUSE_DONE);
	close(client);
	bound_stop(&b);
}

Test(core_udp, segments_go_singly_where_the_kernel_does_not_take_them)
{
	static char bytes[900];
	struct bound b;
	fill(bytes, sizeof(bytes), 300);
	bound_start(&b, "udp:127.0.0.1:0");
	int client = udp_client("127.0.0.1", b.port);
	struct cp_stream *session = session_for(&b, client, "x");
	((struct udp_acceptor *)b.accepting.acceptor)->slots[0].no_segments = true;
	write_bytes(session, bytes, sizeof(bytes), CP_SEGMENTS(300));
	for (size_t at = 0; at < sizeof(bytes); at += 300)
		hear(client, bytes + at, 300);
	cp_stream_close(session, CP_CAUSE_DONE);
	close(client);
	bound_stop(&b);
}

Test(core_udp, messages_in_pieces_are_one_datagram)
{
	static char bytes[UDP_LONGEST];
	struct bound b;
	int64_t unsent = counted("udp_unsent");
	bound_start(&b, "udp:127.0.0.1:0");
	int client = udp_client("127.0.0.1", b.port);
	struct cp_stream *session = session_for(&b, client, "x");
	write_bytes(session, "one ", 4, CP_WRITE_MORE);
	write_bytes(session, "", 0, CP_WRITE_MORE);
	write_bytes(session, "two", 3, 0);
	hear_text(client, "one two");
	write_bytes(session, bytes, 60000, CP_WRITE_MORE);
	write_bytes(session, bytes, 5507, 0);
	hear(client, bytes, UDP_LONGEST);
	write_bytes(session, bytes, 60000, CP_WRITE_MORE);
	write_bytes(session, bytes, 5508, CP_WRITE_MORE);
	write_bytes(session, bytes, 1, 0);
	write_bytes(session, bytes, UDP_READ, 0);
	write_bytes(session, "next", 4, 0);
	hear_text(client, "next");
	cr_expect(is_silent(client));
	cr_expect_eq(counted("udp_unsent") - unsent, 2, "what is too long is dropped whole");
	cp_stream_close(session, CP_CAUSE_DONE);
	close(client);
	bound_stop(&b);
}
