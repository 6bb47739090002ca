/* tcp: listening sockets and connecting. */
#include "core_fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

TestSuite(core_tcp, .init = fixture_start, .fini = fixture_stop);

static void unbind(struct cp_listener *listener)
{
	listener->ops->unbind(listener);
}

static struct sockaddr_in loopback(uint16_t port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

/** A plain client. @return the descriptor, connected, or -1 with errno */
static int client(uint16_t port)
{
	struct sockaddr_in to = loopback(port);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0)
		return fd;
	int errnum = errno;
	close(fd);
	errno = errnum;
	return -1;
}

/** A port of this machine that nobody listens on. Kept until `*fd` is closed. */
static uint16_t silent_port(int *fd)
{
	struct sockaddr_in at = loopback(0);
	socklen_t length = sizeof(at);
	*fd = socket(AF_INET, SOCK_STREAM, 0);
	cr_assert_eq(bind(*fd, (struct sockaddr *)&at, sizeof(at)), 0);
	getsockname(*fd, (struct sockaddr *)&at, &length);
	return ntohs(at.sin_port);
}

/* ---- Listening ---------------------------------------------------------------------------------------------- */

Test(core_tcp, port_0_becomes_a_number)
{
	struct cp_listener *listener = bind_to("tcp:$4:0!web", 2);
	char expected[64];
	cr_expect_gt(listener_port(listener), 0);
	snprintf(expected, sizeof(expected), "tcp:127.0.0.1:%u", listener_port(listener));
	cr_expect_str_eq(listener_name(listener), expected);
	unbind(listener);
}

Test(core_tcp, accepts_what_connects)
{
	struct cp_listener *listener = bind_to("tcp:127.0.0.1:0", 1);
	struct accepting accepting;
	struct connecting c;
	struct reader up = {0}, down = {0};
	accepting_start(&accepting, listener);
	cr_expect_eq(connect_start(&c, address_of_port(listener_port(listener)), 0, "hello"), CP_OK,
				 "a connection on one machine is there at once");
	cr_expect_eq(c.open.early_sent, 5);
	struct cp_stream *target = c.open.stream, *stream = accept_one(&accepting);
	cr_expect_eq(accepting.accepted.peer.ip.family, 4);
	cr_expect_eq(accepting.accepted.peer.ip.bytes[0], 127);
	cr_expect_neq(accepting.accepted.peer.port, 0);
	read_until(&up, stream, 5);
	cr_expect_str_eq(up.got, "hello");
	write_all(stream, "welcome");
	cr_expect_eq(cp_stream_shutdown_write(stream), CP_OK);
	read_until(&down, target, 0);
	cr_expect_str_eq(down.got, "welcome");
	cp_stream_close(stream, CP_CAUSE_DONE);
	cp_stream_close(target, CP_CAUSE_DONE);
	accepting_stop(&accepting);
	unbind(listener);
	free(up.got);
	free(down.got);
}

Test(core_tcp, connects_at_once_without_early_bytes)
{
	struct cp_listener *listener = bind_to("tcp:127.0.0.1:0", 1);
	struct accepting accepting;
	struct connecting c;
	accepting_start(&accepting, listener);
	cr_expect_eq(connect_start(&c, address_of_port(listener_port(listener)), 1000, NULL), CP_OK);
	cr_expect_eq(c.open.early_sent, 0);
	cp_stream_close(c.open.stream, CP_CAUSE_DONE);
	cp_stream_close(accept_one(&accepting), CP_CAUSE_DONE);
	accepting_stop(&accepting);
	unbind(listener);
}

Test(core_tcp, localhost_is_both_families_on_one_port)
{
	int probe = socket(AF_INET6, SOCK_STREAM, 0);
	struct sockaddr_in6 at = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	bool v6 = bind(probe, (struct sockaddr *)&at, sizeof(at)) == 0;
	close(probe);
	struct cp_listener *listener = bind_to("tcp:$n:0", 2);
	struct accepting accepting;
	char text[64];
	accepting_start(&accepting, listener);
	cr_expect(strstr(listener_name(listener), "tcp:localhost:"));
	for (int family = 4; family <= (v6 ? 6 : 4); family += 2) {
		snprintf(text, sizeof(text), "tcp:$%d:%u", family, listener_port(listener));
		struct cp_stream *target = stream_to(text);
		struct cp_stream *stream = accept_one(&accepting);
		cr_expect_eq(accepting.accepted.peer.ip.family, family);
		cp_stream_close(stream, CP_CAUSE_DONE);
		cp_stream_close(target, CP_CAUSE_DONE);
	}
	accepting_stop(&accepting);
	unbind(listener);
}

Test(core_tcp, accept_looks_at_both_families_without_being_woken)
{
	struct cp_listener *listener = bind_to("tcp:$n:0", 1);
	struct accepting accepting;
	struct cp_accepted accepted = {.loop = fixture.loop};
	struct cp_error error;
	accepting_start(&accepting, listener);
	int fd = client(listener_port(listener)), result;
	do
		result = listener->ops->accept(accepting.acceptor, &accepted, &error);
	while (result == CP_AGAIN); /* the handshake of a blocking connect is over: at most a moment */
	cr_expect_eq(result, CP_OK);
	cp_stream_close(accepted.stream, CP_CAUSE_DONE);
	cr_expect_eq(listener->ops->accept(accepting.acceptor, &accepted, &error), CP_AGAIN);
	close(fd);
	accepting_stop(&accepting);
	unbind(listener);
}

Test(core_tcp, names_and_foreign_addresses_cannot_be_bound)
{
	struct cp_error error = {0};
	cr_expect_eq(bind_fails("tcp:db.local:80", &error), CP_EINVAL);
	cr_expect_str_eq(error.where, "db.local");
	cr_expect(strstr(error.message, "IP address"));
	cr_expect_eq(bind_fails("tcp:192.0.2.1:80", &error), CP_EINVAL);
	cr_expect_str_eq(error.where, "192.0.2.1:80");
}

Test(core_tcp, nobody_is_connected_before_open)
{
	for (uint32_t workers = 1; workers <= 2; workers++) {
		struct cp_listener *listener = bind_to("tcp:127.0.0.1:0", workers);
		struct connecting c;
		int result = connect_wait(&c, address_of_port(listener_port(listener)), 50);
		cr_expect_eq(result, CP_ETIMEOUT);
		unbind(listener);
	}
}

Test(core_tcp, a_paused_acceptor_is_not_called)
{
	struct cp_listener *listener = bind_to("tcp:127.0.0.1:0", 1);
	struct accepting accepting;
	accepting_start(&accepting, listener);
	listener->ops->pause(accepting.acceptor);
	int fd = client(listener_port(listener));
	cr_assert_geq(fd, 0, "what comes meanwhile waits in the kernel");
	run_turns(5);
	cr_expect_eq(accepting.calls, 0);
	listener->ops->resume(accepting.acceptor);
	cp_stream_close(accept_one(&accepting), CP_CAUSE_DONE);
	close(fd);
	accepting_stop(&accepting);
	unbind(listener);
}

Test(core_tcp, opens_again_on_the_same_port)
{
	for (uint32_t workers = 1; workers <= 2; workers++) {
		struct cp_listener *listener = bind_to("tcp:127.0.0.1:0", workers);
		struct accepting accepting;
		accepting_start(&accepting, listener);
		accepting_stop(&accepting);
		accepting_start(&accepting, listener);
		int fd = client(listener_port(listener));
		cr_expect_geq(fd, 0);
		cp_stream_close(accept_one(&accepting), CP_CAUSE_DONE);
		close(fd);
		accepting_stop(&accepting);
		unbind(listener);
	}
}

Test(core_tcp, no_descriptor_is_left)
{
	int before = open_descriptors();
	for (uint32_t workers = 1; workers <= 3; workers++) {
		struct cp_listener *listener = bind_to("tcp:$n:0", workers);
		struct accepting accepting;
		accepting_start(&accepting, listener);
		accepting_stop(&accepting);
		unbind(listener);
		unbind(bind_to("tcp:$n:0", workers));
	}
	cr_expect_eq(open_descriptors(), before);
}

Test(core_tcp, without_descriptors_the_connection_waits)
{
	struct cp_listener *listener = bind_to("tcp:127.0.0.1:0", 1);
	struct accepting accepting;
	struct rlimit limit, none;
	accepting_start(&accepting, listener);
	int fd = client(listener_port(listener));
	getrlimit(RLIMIT_NOFILE, &limit);
	none = limit;
	none.rlim_cur = (rlim_t)fd + 1;
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	run_until(&accepting.done);
	setrlimit(RLIMIT_NOFILE, &limit);
	cr_expect_eq(accepting.result, CP_EMFILE);
	accepting.done = false;
	cp_stream_close(accept_one(&accepting), CP_CAUSE_DONE);
	close(fd);
	accepting_stop(&accepting);
	unbind(listener);
}

/* ---- Exclusive, and spread ---------------------------------------------------------------------------------- */

/** In a process of its own, try to bind `port` by the connector. @return the code */
static int bind_in_other_process(uint16_t port)
{
	pid_t child = fork();
	if (child == 0) {
		const struct cp_address *address = address_of_port(port);
		struct cp_listener *listener;
		struct cp_error error;
		_exit(-address->connector->def->bind(address->connector, address, 2, &listener, &error));
	}
	int status;
	waitpid(child, &status, 0);
	cr_assert(WIFEXITED(status));
	return -WEXITSTATUS(status);
}

Test(core_tcp, two_instances_cannot_share_an_address)
{
	for (uint32_t workers = 1; workers <= 2; workers++) {
		struct cp_listener *listener = bind_to("tcp:127.0.0.1:0", workers);
		struct accepting accepting;
		uint16_t port = listener_port(listener);
		cr_expect_eq(bind_in_other_process(port), CP_EADDRINUSE, "between bind and open, %u workers", workers);
		accepting_start(&accepting, listener);
		cr_expect_eq(bind_in_other_process(port), CP_EADDRINUSE, "while open, %u workers", workers);
		accepting_stop(&accepting);
		unbind(listener);
		cr_expect_eq(bind_in_other_process(port), CP_OK);
	}
}

static int reuseport_socket(uint16_t port)
{
	struct sockaddr_in at = loopback(port);
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0)
		return fd;
	close(fd);
	return -1;
}

Test(core_tcp, does_not_join_somebody_who_shares_his_address)
{
	struct cp_error error = {0};
	struct sockaddr_in at;
	socklen_t length = sizeof(at);
	char text[64];
	int fd = reuseport_socket(0);
	listen(fd, 1);
	getsockname(fd, (struct sockaddr *)&at, &length);
	snprintf(text, sizeof(text), "tcp:127.0.0.1:%u", ntohs(at.sin_port));
	cr_expect_eq(bind_fails(text, &error), CP_EADDRINUSE);
	cr_expect_str_eq(error.where, text + strlen("tcp:"));
	snprintf(text, sizeof(text), "tcp:*4:%u", ntohs(at.sin_port));
	cr_expect_eq(bind_fails(text, &error), CP_EADDRINUSE, "all addresses include his");
	close(fd);
}

Test(core_tcp, with_one_worker_nobody_can_join)
{
	struct cp_listener *listener = bind_to("tcp:127.0.0.1:0", 1);
	struct accepting accepting;
	cr_expect_lt(reuseport_socket(listener_port(listener)), 0);
	accepting_start(&accepting, listener);
	cr_expect_lt(reuseport_socket(listener_port(listener)), 0);
	accepting_stop(&accepting);
	unbind(listener);
}

enum { SPREAD_WORKERS = 2, SPREAD_CLIENTS = 100 };

/** A worker that counts what it accepts. */
struct worker {
	pthread_t thread;
	uint32_t index;
	struct cp_listener *listener;
	struct cp_loop *loop;
	struct cp_acceptor *acceptor;
	pthread_barrier_t *listening;
	atomic_int *total;
	int count;
};

static void worker_end(struct cp_loop *loop, void *arg)
{
	(void)arg;
	loop_stop(loop);
}

static void worker_ready(struct cp_acceptor *acceptor, void *arg)
{
	struct worker *worker = arg;
	struct cp_accepted accepted = {.loop = worker->loop};
	struct cp_error error;
	if (acceptor->listener->ops->accept(acceptor, &accepted, &error) != CP_OK)
		return;
	worker->count++;
	cp_stream_close(accepted.stream, CP_CAUSE_DONE);
	if (atomic_fetch_add(worker->total, 1) + 1 == SPREAD_CLIENTS)
		cp_post(fixture.loop, worker_end, NULL);
}

static void *worker_run(void *arg)
{
	struct worker *worker = arg;
	struct cp_error error = {0};
	worker->acceptor = worker->listener->ops->open(worker->listener, worker->loop, worker_ready, worker, &error);
	pthread_barrier_wait(worker->listening);
	if (worker->acceptor)
		loop_run(worker->loop);
	if (worker->acceptor)
		worker->listener->ops->close(worker->acceptor);
	return NULL;
}

Test(core_tcp, connections_spread_over_all_workers)
{
	struct cp_listener *listener = bind_to("tcp:127.0.0.1:0", SPREAD_WORKERS);
	struct worker workers[SPREAD_WORKERS] = {0};
	pthread_barrier_t listening;
	atomic_int total = 0;
	pthread_barrier_init(&listening, NULL, SPREAD_WORKERS + 1);
	for (uint32_t i = 0; i < SPREAD_WORKERS; i++) {
		struct cp_error error = {0};
		workers[i] = (struct worker){.index = i, .listener = listener, .listening = &listening, .total = &total};
		workers[i].loop = loop_new(i, &error);
		pthread_create(&workers[i].thread, NULL, worker_run, &workers[i]);
	}
	pthread_barrier_wait(&listening);
	for (int i = 0; i < SPREAD_CLIENTS; i++) {
		int fd = client(listener_port(listener));
		cr_assert_geq(fd, 0);
		close(fd);
	}
	loop_run(fixture.loop);
	for (uint32_t i = 0; i < SPREAD_WORKERS; i++)
		cp_post(workers[i].loop, worker_end, NULL);
	for (uint32_t i = 0; i < SPREAD_WORKERS; i++) {
		pthread_join(workers[i].thread, NULL);
		cr_expect(workers[i].acceptor);
		/* Fair coins: less than a tenth has a chance of 1e-17. */
		cr_expect_geq(workers[i].count, SPREAD_CLIENTS / 10, "worker %u got %d of %d", i, workers[i].count,
					  SPREAD_CLIENTS);
		loop_free(workers[i].loop);
	}
	cr_expect_eq(atomic_load(&total), SPREAD_CLIENTS);
	pthread_barrier_destroy(&listening);
	unbind(listener);
}

/* ---- Connecting --------------------------------------------------------------------------------------------- */

Test(core_tcp, a_refusal_says_which_address)
{
	struct connecting c;
	int silent;
	char where[64];
	uint16_t port = silent_port(&silent);
	snprintf(where, sizeof(where), "127.0.0.1:%u", port);
	for (int early = 0; early <= 1; early++) {
		int result = connect_start(&c, address_of_port(port), 1000, early ? "hello" : NULL);
		cr_expect_eq(result, CP_EREFUSED);
		cr_expect_eq(c.open.error.code, CP_EREFUSED);
		cr_expect_str_eq(c.open.error.where, where);
		cr_expect_str_eq(c.open.error.message, "connection refused");
		cr_expect_eq(c.open.early_sent, 0);
		cr_expect_null(c.open.stream);
	}
	close(silent);
}

/** A listener whose queue is full: further connections get no answer. */
static uint16_t full_listener(int fds[3])
{
	uint16_t port = silent_port(&fds[0]);
	cr_assert_eq(listen(fds[0], 0), 0);
	struct sockaddr_in to = loopback(port);
	for (int i = 1; i < 3; i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		connect(fds[i], (struct sockaddr *)&to, sizeof(to));
	}
	struct pollfd first = {.fd = fds[1], .events = POLLOUT};
	cr_assert_eq(poll(&first, 1, 10000), 1);
	return port;
}

Test(core_tcp, a_full_queue_times_out)
{
	struct connecting c;
	int fds[3], before = open_descriptors() + 3;
	uint16_t port = full_listener(fds);
	uint64_t start = cp_loop_now(fixture.loop);
	cr_expect_eq(connect_start(&c, address_of_port(port), 60, "hello"), CP_AGAIN);
	run_until(&c.done);
	cr_expect_eq(c.open.error.code, CP_ETIMEOUT);
	cr_expect(strstr(c.open.error.message, "60 ms"), "%s", c.open.error.message);
	cr_expect_geq(cp_loop_now(fixture.loop) - start, 60);
	cr_expect_eq(open_descriptors(), before);
	for (int i = 0; i < 3; i++)
		close(fds[i]);
}

Test(core_tcp, a_connect_that_takes_its_time_sends_the_early_bytes)
{
	struct connecting c;
	int fds[3];
	uint16_t port = full_listener(fds);
	char got[6] = "";
	cr_assert_eq(connect_start(&c, address_of_port(port), 0, "hello"), CP_AGAIN);
	/* Make room in the queue: the SYN that is sent again a second later finds it. */
	close(fds[2]);
	int taken = accept(fds[0], NULL, NULL);
	run_until(&c.done);
	cr_assert(c.open.stream, "%s", c.open.error.message);
	cr_expect_eq(c.open.early_sent, 5);
	close(taken);
	taken = accept(fds[0], NULL, NULL);
	cr_expect_eq(recv(taken, got, 5, MSG_WAITALL), 5);
	cr_expect_str_eq(got, "hello");
	cp_stream_close(c.open.stream, CP_CAUSE_DONE);
	close(taken);
	close(fds[1]);
	close(fds[0]);
}

static void on_stream_ready(struct cp_stream *stream, unsigned events, void *arg)
{
	(void)stream;
	(void)events;
	*(bool *)arg = true;
}

/** Read once, waiting for it if need be. @return as cp_stream_readv() */
static ssize_t read_waiting(struct cp_stream *stream, char *buffer, size_t room)
{
	struct iovec vec = {buffer, room};
	for (;;) {
		unsigned hints;
		bool ready = false;
		cp_stream_set_user(stream, on_stream_ready, &ready);
		ssize_t got = cp_stream_readv(stream, &vec, 1, &hints);
		if (got != CP_AGAIN)
			return got;
		run_until(&ready);
	}
}

/** What a target does that has little to say. */
static void answer_and_reset(int listening)
{
	struct linger linger = {.l_onoff = 1};
	int taken = accept(listening, NULL, NULL);
	cr_assert_eq(send(taken, "answer", 6, 0), 6);
	setsockopt(taken, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(taken);
}

static void expect_answer_and_reset(struct connecting *c)
{
	char got[8] = "";
	cr_assert(c->open.stream, "%s", c->open.error.message);
	cr_expect_eq(read_waiting(c->open.stream, got, sizeof(got)), 6);
	cr_expect_str_eq(got, "answer");
	cr_expect_eq(read_waiting(c->open.stream, got, sizeof(got)), CP_ERESET, "a clean end instead of a reset");
	cp_stream_close(c->open.stream, CP_CAUSE_TARGET_RESET);
}

/* The loop does not run while the target accepts, answers and resets: all of it is there at once when it does. */
Test(core_tcp, an_answer_and_a_reset_before_the_connect_is_noticed)
{
	for (int early = 0; early <= 1; early++) {
		struct connecting c;
		int fds[3];
		uint16_t port = full_listener(fds);
		cr_assert_eq(connect_start(&c, address_of_port(port), 0, early ? "hello" : NULL), CP_AGAIN);
		close(fds[2]);
		close(accept(fds[0], NULL, NULL));
		answer_and_reset(fds[0]); /* blocks until the SYN comes again, a second later */
		run_until(&c.done);
		expect_answer_and_reset(&c);
		close(fds[1]);
		close(fds[0]);
	}
}

/** The target to which this happens right behind the next look at a socket; -1: none. */
static int answers_behind_look = -1;

static void looked(void)
{
	int errnum = errno, listening = answers_behind_look;
	answers_behind_look = -1;
	if (listening >= 0)
		answer_and_reset(listening);
	errno = errnum;
}

/* These two stand before the C library's: the calls by which the code under test may look at a socket. */

ssize_t recv(int fd, void *buffer, size_t size, int flags)
{
	ssize_t got = recvfrom(fd, buffer, size, flags, NULL, NULL);
	looked();
	return got;
}

int getsockopt(int fd, int level, int name, void *value, socklen_t *length)
{
	int result = (int)syscall(SYS_getsockopt, fd, level, name, value, length);
	looked();
	return result;
}

Test(core_tcp, an_answer_and_a_reset_behind_the_first_look_at_the_connect)
{
	struct connecting c;
	int listening;
	uint16_t port = silent_port(&listening);
	cr_assert_eq(listen(listening, 1), 0);
	answers_behind_look = listening;
	cr_assert_eq(connect_start(&c, address_of_port(port), 0, NULL), CP_OK);
	cr_assert_eq(answers_behind_look, -1, "it has looked by neither of the two calls");
	expect_answer_and_reset(&c);
	close(listening);
}

Test(core_tcp, cancel_forgets_a_connect_under_way)
{
	struct connecting c;
	int fds[3];
	uint16_t port = full_listener(fds);
	int before = open_descriptors();
	cr_assert_eq(connect_start(&c, address_of_port(port), 30, NULL), CP_AGAIN);
	tcp_connector.cancel(c.open.address->connector, &c.open);
	cr_expect_eq(open_descriptors(), before);
	/* Longer than the time-out would have taken: told by another one that is started later. */
	struct connecting later;
	cr_expect_eq(connect_wait(&later, address_of_port(port), 60), CP_ETIMEOUT);
	cr_expect_not(c.done);
	for (int i = 0; i < 3; i++)
		close(fds[i]);
}

Test(core_tcp, a_name_is_tried_with_all_its_addresses)
{
	struct cp_listener *listener = bind_to("tcp:127.0.0.1:0", 1);
	struct accepting accepting;
	struct connecting c;
	char text[64];
	accepting_start(&accepting, listener);
	snprintf(text, sizeof(text), "tcp:localhost:%u", listener_port(listener)); /* [::1] refuses, where there is one */
	int result = connect_wait(&c, address_of(text), 5000);
	cr_assert_eq(result, CP_OK, "%s: %s", c.open.error.where, c.open.error.message);
	cr_expect_eq(c.open.error.code, CP_OK);
	cp_stream_close(accept_one(&accepting), CP_CAUSE_DONE);
	cp_stream_close(c.open.stream, CP_CAUSE_DONE);
	accepting_stop(&accepting);
	unbind(listener);
}

Test(core_tcp, a_refused_name_is_in_the_error)
{
	struct connecting c;
	int silent;
	char text[64];
	snprintf(text, sizeof(text), "tcp:localhost:%u", silent_port(&silent));
	cr_expect_eq(connect_wait(&c, address_of(text), 5000), CP_EREFUSED);
	cr_expect(strstr(c.open.error.where, ":"), "%s", c.open.error.where);
	cr_expect(strstr(c.open.error.message, "localhost"), "%s", c.open.error.message);
	close(silent);
}

Test(core_tcp, an_unreachable_network_is_told_from_a_refusal)
{
	struct connecting c;
	/* TCP has no multicast: connect() refuses it, whatever the routes are. */
	int result = connect_wait(&c, address_of("tcp:224.0.0.1:80"), 200);
	cr_expect(result == CP_EUNREACHABLE || result == CP_EPERM, "%d: %s", result, c.open.error.message);
	cr_expect_str_eq(c.open.error.where, "224.0.0.1:80");
}

/** Go into a network of our own, in which `port` is the only local port that is given out. */
static bool enter_network_with_one_port(uint16_t port)
{
	if (unshare(CLONE_NEWNET) < 0)
		return false;
	struct ifreq up = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	bool is_up = ioctl(fd, SIOCSIFFLAGS, &up) == 0;
	close(fd);
	FILE *range = fopen("/proc/sys/net/ipv4/ip_local_port_range", "w");
	if (!range)
		return false;
	fprintf(range, "%u %u", port, port);
	return fclose(range) == 0 && is_up;
}

Test(core_tcp, does_not_meet_itself)
{
	struct connecting c;
	if (!enter_network_with_one_port(50001))
		cr_skip_test("needs the right to make a network namespace");
	for (int early = 0; early <= 1; early++) {
		int before = open_descriptors();
		int result = connect_start(&c, address_of_port(50001), 1000, early ? "hello" : NULL);
		if (result == CP_AGAIN)
			run_until(&c.done);
		cr_expect_null(c.open.stream);
		cr_expect_eq(c.open.error.code, CP_EREFUSED, "%d: %s", result, c.open.error.message);
		cr_expect_eq(c.open.early_sent, 0);
		cr_expect_eq(open_descriptors(), before);
	}
	cr_expect_eq(connect_start(&c, address_of_port(50002), 1000, NULL), CP_EREFUSED, "the ordinary refusal");
}

Test(core_tcp, says_when_no_local_port_is_left)
{
	struct connecting c, second;
	if (!enter_network_with_one_port(50001))
		cr_skip_test("needs the right to make a network namespace");
	struct cp_listener *listener = bind_to("tcp:127.0.0.1:80", 1);
	struct accepting accepting;
	accepting_start(&accepting, listener);
	cr_assert_eq(connect_start(&c, address_of_port(80), 0, NULL), CP_OK);
	cr_expect_eq(connect_start(&second, address_of_port(80), 0, NULL), CP_ELIMIT);
	cr_expect(strstr(second.open.error.message, "local port"), "%s", second.open.error.message);
	cp_stream_close(accept_one(&accepting), CP_CAUSE_DONE);
	cp_stream_close(c.open.stream, CP_CAUSE_DONE);
	accepting_stop(&accepting);
	unbind(listener);
}
