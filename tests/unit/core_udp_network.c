/* udp: what only shows in a network of a certain kind, which is a namespace of the test's own. */
#include "core_settings.h"
#include "core_udp.h"

#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>

TestSuite(core_udp_network, .init = settings_start, .fini = settings_stop);

static bool enter_network(void)
{
	if (unshare(CLONE_NEWNET) < 0)
		return false;
	struct ifreq up = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	bool is_up = ioctl(fd, SIOCSIFFLAGS, &up) == 0;
	close(fd);
	return is_up;
}

/** Only these local ports are given out. */
static bool give_out(uint16_t first, uint16_t last)
{
	FILE *range = fopen("/proc/sys/net/ipv4/ip_local_port_range", "w");
	if (!range)
		return false;
	fprintf(range, "%u %u", first, last);
	return fclose(range) == 0;
}

Test(core_udp_network, does_not_meet_itself)
{
	if (!enter_network() || !give_out(50001, 50002))
		cr_skip_test("needs the right to make a network namespace");
	for (int i = 0; i < 20; i++) {
		struct connecting c;
		char byte;
		int before = open_descriptors();
		cr_assert_eq(connect_start(&c, address_of("udp:127.0.0.1:50001"), 0, "hello"), CP_OK);
		struct iovec vec = {&byte, 1};
		unsigned hints;
		cr_expect_eq(cp_stream_readv(c.open.stream, &vec, 1, &hints), CP_AGAIN, "it has heard itself");
		cp_stream_close(c.open.stream, CP_CAUSE_DONE);
		run_turns(1);
		cr_expect_eq(open_descriptors(), before);
	}
}

Test(core_udp_network, says_when_no_local_port_is_left)
{
	if (!enter_network() || !give_out(50001, 50001))
		cr_skip_test("needs the right to make a network namespace");
	struct connecting c, second;
	cr_assert_eq(connect_start(&c, address_of("udp:127.0.0.1:80"), 0, NULL), CP_OK);
	cr_expect_eq(connect_start(&second, address_of("udp:127.0.0.1:80"), 0, NULL), CP_ELIMIT);
	cr_expect(strstr(second.open.error.message, "local port"), "%s", second.open.error.message);
	cp_stream_close(c.open.stream, CP_CAUSE_DONE);
}

/* ---- A full socket -------------------------------------------------------------------------------------------- */

/** A link on which 10.99.0.2 does not say where it is: what is sent there stays in the sender's socket. */
static bool enter_silent_network(void)
{
	return enter_network() &&
		   system("ip link add v0 type veth peer name v1 2>/dev/null && "
				  "ip address add 10.99.0.1/24 dev v0 && ip link set v0 up && ip link set v1 up") == 0;
}

/** Now it is known, and everything leaves. */
static void find_neighbour(void)
{
	cr_assert_eq(system("ip neighbour replace 10.99.0.2 lladdr 02:00:00:00:00:02 dev v0"), 0);
}

/** Write until it does not fit. @param flags  of the last piece of each datagram; CP_SEGMENTS: several */
static void fill_up(struct cp_stream *stream, unsigned flags)
{
	static char bytes[1000];
	struct iovec vec = {bytes, sizeof(bytes)};
	ssize_t put = 0;
	for (int i = 0; i < 1000 && put >= 0; i++)
		put = cp_stream_writev(stream, &vec, 1, flags);
	cr_assert_eq(put, CP_AGAIN);
}

static void expect_writable_again(struct cp_stream *stream)
{
	static char bytes[1000];
	struct iovec vec = {bytes, sizeof(bytes)};
	struct user user = {0};
	cp_stream_set_user(stream, user_ready, &user);
	run_turns(5);
	cr_expect_eq(user.calls, 0);
	find_neighbour();
	run_until(&user.called);
	cr_expect_eq(user.events, CP_WRITABLE);
	run_turns(5);
	cr_expect_eq(user.calls, 1, "once");
	cr_expect_eq(cp_stream_writev(stream, &vec, 1, 0), (ssize_t)sizeof(bytes));
}

Test(core_udp_network, who_writes_to_a_target_waits_while_the_socket_is_full)
{
	if (!enter_silent_network())
		cr_skip_test("needs the right to make a network namespace, and ip(8)");
	set_udp("[connpipe.udp]\nsend_buffer = \"4KiB\"");
	struct cp_stream *target = stream_to("udp:10.99.0.2:9");
	fill_up(target, 0);
	expect_writable_again(target);
	cp_stream_close(target, CP_CAUSE_DONE);
}

/** A session of a peer who has sent nothing yet. */
static struct udp_session *session_of_port(struct udp_acceptor *acceptor, uint16_t port)
{
	struct udp_key key = {.port = htons(port), .family = 4};
	memcpy(key.peer, (uint8_t[]){10, 99, 0, 2}, 4);
	return udp_session_new(acceptor, &key, udp_table_hash(&acceptor->peers, &key));
}

Test(core_udp_network, sessions_wait_while_their_socket_is_full)
{
	if (!enter_silent_network())
		cr_skip_test("needs the right to make a network namespace, and ip(8)");
	struct bound b;
	int64_t unsent = counted("udp_unsent");
	set_udp("[connpipe.udp]\nsend_buffer = \"4KiB\"");
	bound_start(&b, "udp:10.99.0.1:0");
	struct udp_acceptor *acceptor = (struct udp_acceptor *)b.accepting.acceptor;
	struct udp_session *sessions[3];
	struct user users[3] = {{0}};
	for (uint16_t i = 0; i < 3; i++) {
		sessions[i] = session_of_port(acceptor, 9 + i);
		cp_stream_set_user(&sessions[i]->stream, user_ready, &users[i]);
	}
	fill_up(&sessions[0]->stream, CP_SEGMENTS(400));
	fill_up(&sessions[1]->stream, 0);
	struct iovec vec = {"piece", 5};
	cr_expect_eq(cp_stream_writev(&sessions[2]->stream, &vec, 1, CP_WRITE_MORE), 5);
	cr_expect_eq(cp_stream_writev(&sessions[2]->stream, &vec, 1, 0), CP_AGAIN);
	cp_stream_close(&sessions[1]->stream, CP_CAUSE_DONE); /* while it waits */
	find_neighbour();
	run_until(&users[0].called);
	run_turns(3);
	cr_expect_eq(users[0].calls, 1);
	cr_expect_eq(users[1].calls, 0);
	cr_expect_eq(users[2].calls, 1);
	cr_expect_eq(cp_stream_writev(&sessions[2]->stream, &vec, 1, 0), 5, "the piece that did not fit, again");
	cr_expect_eq(counted("udp_unsent"), unsent);
	cp_stream_close(&sessions[0]->stream, CP_CAUSE_DONE);
	cp_stream_close(&sessions[2]->stream, CP_CAUSE_DONE);
	bound_stop(&b);
}

/* ---- Turns ---------------------------------------------------------------------------------------------------- */

enum { TURNS_SESSIONS = 4, TURNS = 3 * TURNS_SESSIONS };

/** Whose turn it was, in order. */
struct turns {
	struct udp_session *sessions[TURNS_SESSIONS];
	int order[TURNS], count;
	bool done;
};

/** As a flow that never ends: it fills the socket whenever it may. */
static void turn_ready(struct cp_stream *stream, unsigned events, void *arg)
{
	struct turns *turns = arg;
	cr_expect_eq(events, CP_WRITABLE);
	for (int i = 0; i < TURNS_SESSIONS && turns->count < TURNS; i++)
		if (&turns->sessions[i]->stream == stream)
			turns->order[turns->count++] = i;
	fill_up(stream, 0);
	if (turns->count == TURNS) {
		turns->done = true;
		loop_stop(stream->loop);
	}
}

Test(core_udp_network, those_who_wait_for_a_full_socket_take_turns)
{
	if (!enter_silent_network())
		cr_skip_test("needs the right to make a network namespace, and ip(8)");
	if (system("tc qdisc add dev v0 root tbf rate 20mbit burst 2kb limit 10000000 2>/dev/null") != 0)
		cr_skip_test("needs tc(8), and a queue with a rate");
	struct bound b;
	struct turns turns = {.count = 0};
	set_udp("[connpipe.udp]\nsend_buffer = \"4KiB\"");
	bound_start(&b, "udp:10.99.0.1:0");
	find_neighbour();
	for (uint16_t i = 0; i < TURNS_SESSIONS; i++) {
		turns.sessions[i] = session_of_port((struct udp_acceptor *)b.accepting.acceptor, 9 + i);
		cp_stream_set_user(&turns.sessions[i]->stream, turn_ready, &turns);
	}
	for (int i = 0; i < TURNS_SESSIONS; i++)
		fill_up(&turns.sessions[i]->stream, 0);
	run_until(&turns.done);
	for (int i = 0; i < TURNS; i++)
		cr_expect_eq(turns.order[i], i % TURNS_SESSIONS, "turn %d was of session %d", i, turns.order[i]);
	for (int i = 0; i < TURNS_SESSIONS; i++)
		cp_stream_close(&turns.sessions[i]->stream, CP_CAUSE_DONE);
	bound_stop(&b);
}
