/* exchange: bytes, ends and resets through a proxy, many connections at once, in one process that is both the clients
 * and the targets, so that it knows of every byte where it should arrive.
 *
 *     exchange [-n cases] [-s seed] [-l lanes] [-o case] [-w seconds] [-m]
 *         -o  only this one   -w  give up when nothing has happened for so long   -m  small cases only: many
 * connections
 *
 * A case (plan.h) runs in a lane: addresses of its own, so that a connection is known by where it comes in, whatever it
 * carries. Lane i of the proxy is 127.1.0.i (no subports) and 127.2.0.i (subport `s`, and without one), from 1, both at
 * PORT; its target is 127.3.0.i at the port of -p. Behind those of the ordinary cases there are two more lanes, for
 * connections of which the target may never hear (guest.h).
 *
 * Prints `served` when all cases are over; serves those two lanes on until stdin ends, which says that the proxy has no
 * connection any more; then prints results as JSON. Exits 1 if anything went wrong. */
#include "end.h"
#include "guest.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 256, LANES_MOST = 240, EXTRA = 2, STUCK_MS = 300, FAILURES_SHOWN = 20, PRIME = 7919 };

enum network { NETWORK_PLAIN = 1, NETWORK_SUBPORTS = 2, NETWORK_TARGETS = 3 };

/** What epoll tells about; with an index. */
enum source { SOURCE_STDIN, SOURCE_LISTENER, SOURCE_LANE, SOURCE_GUEST };

struct lane {
	bool busy;
	struct plan plan;
	struct end end[2];
};

static struct {
	uint64_t cases, seed, only;
	uint32_t lanes, patience;
	uint16_t proxy_port, target_port;
	bool has_only, small;
} options = {.cases = 4000, .seed = 1, .lanes = 48, .patience = 20};

static struct lane lanes[LANES_MOST];
static int listeners[LANES_MOST + EXTRA];
static int poller;
static uint64_t next_case, failed, bytes;
static uint32_t busy;
static int stuck_filler = -1; /* keeps the queue of the target that does not accept full */
static uint64_t unstick_at;

static uint64_t clock_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void die(const char *what)
{
	fprintf(stderr, "exchange: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint32_t lane_of_fate(enum fate fate)
{
	return options.lanes + (fate == FATE_STUCK);
}

static struct sockaddr_in address(enum network network, uint32_t lane, uint16_t port)
{
	uint32_t host = 127u << 24 | (uint32_t)network << 16 | (lane + 1);
	return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(host)};
}

static void watch(int fd, enum source source, uint32_t index, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.u64 = (uint64_t)source << 32 | index};
	if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0)
		die("epoll_ctl");
}

/* ---- Cases -------------------------------------------------------------------------------------------------- */

/** A client, connected: on one machine that does not take long. */
static int client_connect(const struct plan *plan, uint32_t lane)
{
	enum network network = plan->front == FRONT_PLAIN ? NETWORK_PLAIN : NETWORK_SUBPORTS;
	struct sockaddr_in to = address(network, lane, options.proxy_port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		die("socket");
	end_set_options(fd, &plan->part[0]);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		die("connect");
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

static void fail(const struct plan *plan, const char *why)
{
	char text[512];
	if (failed++ >= FAILURES_SHOWN)
		return;
	plan_describe(plan, text, sizeof(text));
	fprintf(stderr, "exchange: %s\n    %s (seed %llu)\n", why, text, (unsigned long long)options.seed);
}

static void lane_finish(struct lane *lane)
{
	char why[256];
	for (int i = 0; i < 2; i++) {
		bytes += lane->end[i].received;
		if (!end_check(&lane->end[i], why, sizeof(why)))
			fail(&lane->plan, why);
	}
	lane->busy = false;
	busy--;
}

static void lane_step(uint32_t index)
{
	struct lane *lane = &lanes[index];
	if (!lane->busy)
		return;
	end_step(&lane->end[0]);
	end_step(&lane->end[1]);
	bool client_alone = lane->end[1].state == END_ABSENT && (lane->end[0].saw_end || lane->end[0].saw_reset);
	if (client_alone || lane->end[0].wrong || lane->end[1].wrong) {
		end_close(&lane->end[0]);
		end_close(&lane->end[1]);
	}
	if (lane->end[0].state == END_CLOSED && lane->end[1].state == END_CLOSED)
		lane_finish(lane);
}

static void lane_start(uint32_t index, const struct plan *plan)
{
	struct lane *lane = &lanes[index];
	lane->busy = true;
	busy++;
	lane->plan = *plan;
	end_init(&lane->end[0], &lane->plan, 0, &lane->end[1]);
	end_init(&lane->end[1], &lane->plan, 1, &lane->end[0]);
	end_open(&lane->end[0], client_connect(plan, index));
	watch(lane->end[0].fd, SOURCE_LANE, index, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
	lane_step(index);
}

static uint64_t case_number(uint64_t i)
{
	return options.has_only ? options.only : i * PRIME % options.cases;
}

/** Cases go through all combinations in order of their numbers; they are run in another one. */
static bool take_case(struct plan *plan)
{
	while (next_case < options.cases) {
		plan_make(plan, options.seed, case_number(next_case++), options.small);
		if (plan->fate == FATE_LANE)
			return true;
		if (plan->fate == FATE_GONE)
			guest_client(plan, client_connect(plan, lane_of_fate(FATE_GONE)));
	}
	return false;
}

static void fill_lanes(void)
{
	struct plan plan;
	for (uint32_t i = 0; i < options.lanes; i++) {
		if (!lanes[i].busy && take_case(&plan))
			lane_start(i, &plan);
	}
}

/* ---- A target that does not accept -------------------------------------------------------------------------- */

/** The kernel answers no more connects to a socket whose queue is full. */
static void stick(void)
{
	uint32_t lane = lane_of_fate(FATE_STUCK);
	struct sockaddr_in to = address(NETWORK_TARGETS, lane, options.target_port);
	struct plan plan;
	listen(listeners[lane], 0);
	stuck_filler = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(stuck_filler, (struct sockaddr *)&to, sizeof(to)) < 0)
		die("connect to the target that does not accept");
	for (uint64_t i = 0; i < options.cases; i++) {
		plan_make(&plan, options.seed, case_number(i), options.small);
		if (plan.fate == FATE_STUCK)
			guest_client(&plan, client_connect(&plan, lane));
	}
	unstick_at = clock_ms() + STUCK_MS;
}

static void unstick(void)
{
	int fd = listeners[lane_of_fate(FATE_STUCK)];
	close(accept(fd, NULL, NULL)); /* the filler's */
	close(stuck_filler);
	listen(fd, 4096);
	watch(fd, SOURCE_LISTENER, lane_of_fate(FATE_STUCK), EPOLLIN);
	unstick_at = 0;
}

/* ---- Targets ------------------------------------------------------------------------------------------------ */

static void target_accepted(uint32_t index, int fd)
{
	struct lane *lane = &lanes[index];
	if (index >= options.lanes) {
		enum fate fate = index == lane_of_fate(FATE_STUCK) ? FATE_STUCK : FATE_GONE;
		watch(fd, SOURCE_GUEST, guest_accept(fate, fd), EPOLLIN | EPOLLET);
		return;
	}
	if (!lane->busy || lane->end[1].state != END_ABSENT) {
		fail(&lane->plan, "the target got a second connection");
		close(fd);
		return;
	}
	end_set_options(fd, &lane->plan.part[1]);
	end_open(&lane->end[1], fd);
	watch(fd, SOURCE_LANE, index, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
	lane_step(index);
}

static void targets_accept(uint32_t index)
{
	int fd;
	while ((fd = accept4(listeners[index], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
		target_accepted(index, fd);
	if (errno != EAGAIN)
		die("accept");
}

static void target_listen(uint32_t index)
{
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_in at = address(NETWORK_TARGETS, index, options.target_port);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (index % 2)
		end_set_segments(fd);
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, 4096) < 0)
		die("targets");
	listeners[index] = fd;
	if (index != lane_of_fate(FATE_STUCK))
		watch(fd, SOURCE_LISTENER, index, EPOLLIN);
}

/* ---- The loop ----------------------------------------------------------------------------------------------- */

/** @return false when stdin has ended */
static bool dispatch(uint64_t data)
{
	uint32_t index = (uint32_t)data;
	char byte;
	switch ((enum source)(data >> 32)) {
	case SOURCE_STDIN:
		return read(0, &byte, 1) > 0;
	case SOURCE_LISTENER:
		targets_accept(index);
		break;
	case SOURCE_LANE:
		lane_step(index);
		break;
	case SOURCE_GUEST:
		guest_ready(index);
		break;
	}
	return true;
}

/** Those that wait for the clock. @return how long to wait for events, at most */
static int look_at_the_clock(void)
{
	bool waits = false;
	end_now = clock_ms();
	if (unstick_at && end_now >= unstick_at)
		unstick();
	for (uint32_t i = 0; i < options.lanes; i++) {
		struct lane *lane = &lanes[i];
		if (lane->busy && (lane->end[0].waits || lane->end[1].waits))
			lane_step(i);
		waits |= lane->busy && (lane->end[0].waits || lane->end[1].waits);
	}
	return waits ? 1 : 100;
}

static void hung(void)
{
	char text[256];
	for (uint32_t i = 0; i < options.lanes; i++) {
		const struct end *end = lanes[i].end;
		if (!lanes[i].busy)
			continue;
		snprintf(text, sizeof(text), "hangs: client %s, sent %zu, received %zu; target %s, sent %zu, received %zu",
				 end[0].state == END_CLOSED ? "closed" : "open", end[0].sent, end[0].received,
				 end[1].state == END_ABSENT   ? "absent"
				 : end[1].state == END_CLOSED ? "closed"
											  : "open",
				 end[1].sent, end[1].received);
		fail(&lanes[i].plan, text);
	}
}

/** @return false: it hung */
static bool run_cases(void)
{
	struct epoll_event events[EVENTS];
	uint64_t progress = 0, progress_at = clock_ms();
	while (fill_lanes(), busy || unstick_at) {
		int wait = look_at_the_clock();
		int count = epoll_wait(poller, events, EVENTS, unstick_at ? 1 : wait);
		for (int i = 0; i < count; i++)
			dispatch(events[i].data.u64);
		if (progress != end_progress) {
			progress = end_progress;
			progress_at = end_now;
		} else if (end_now > progress_at + options.patience * 1000u) {
			hung();
			return false;
		}
	}
	return true;
}

/** Until the proxy has no connection any more. */
static void serve_guests(void)
{
	struct epoll_event events[EVENTS];
	bool told = false;
	watch(0, SOURCE_STDIN, 0, EPOLLIN);
	printf("served\n");
	fflush(stdout);
	/* Once more after the end of stdin, for what the kernel has already. */
	for (;;) {
		int count = epoll_wait(poller, events, EVENTS, told ? 0 : -1);
		if (told && count <= 1)
			break;
		for (int i = 0; i < count; i++) {
			if (!dispatch(events[i].data.u64))
				told = true;
		}
	}
}

static void print_results(void)
{
	struct guests_count guests = guests_check();
	printf("{\"cases\": %llu, \"failed\": %llu, \"bytes\": %llu, \"gone\": %lu, \"gone_arrived\": %lu, \"stuck\": %lu, "
		   "\"stuck_arrived\": %lu}\n",
		   (unsigned long long)next_case, (unsigned long long)(failed + guests.failed), (unsigned long long)bytes,
		   guests.gone, guests.gone_arrived, guests.stuck, guests.stuck_arrived);
	failed += guests.failed;
}

static int usage(void)
{
	fprintf(stderr, "usage: exchange [-n cases] [-s seed] [-l lanes] -p port [-o case] [-w seconds] [-m] PORT\n");
	return 2;
}

static bool read_options(int count, char **words)
{
	int letter;
	while ((letter = getopt(count, words, "n:s:l:p:o:w:m")) != -1) {
		switch (letter) {
		case 'n':
			options.cases = strtoull(optarg, NULL, 10);
			break;
		case 's':
			options.seed = strtoull(optarg, NULL, 10);
			break;
		case 'l':
			options.lanes = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 'p':
			options.target_port = (uint16_t)strtoul(optarg, NULL, 10);
			break;
		case 'o':
			options.only = strtoull(optarg, NULL, 10);
			options.has_only = true;
			options.cases = 1;
			break;
		case 'w':
			options.patience = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 'm':
			options.small = true;
			break;
		default:
			return false;
		}
	}
	if (optind == count - 1)
		options.proxy_port = (uint16_t)strtoul(words[optind], NULL, 10);
	return options.lanes >= 1 && options.lanes <= LANES_MOST && options.cases % PRIME != 0 && options.target_port &&
		   options.proxy_port;
}

int main(int count, char **words)
{
	if (!read_options(count, words))
		return usage();
	signal(SIGPIPE, SIG_IGN);
	poller = epoll_create1(EPOLL_CLOEXEC);
	end_pattern_make(options.seed);
	for (uint32_t i = 0; i < options.lanes + EXTRA; i++)
		target_listen(i);
	end_now = clock_ms();
	stick();
	if (run_cases())
		serve_guests();
	print_results();
	return failed ? 1 : 0;
}
