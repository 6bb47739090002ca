/* Clients that move bulk data to a `load bulk` server, or from it. A connection begins with one byte, `u` or `d`, that
 * the server gives back: then it is open all the way. The part that is measured:
 *
 *     up     we send the pattern, end by a half close, and the server ends when it has compared everything
 *     down   we send `g`; the server sends the pattern until our half close, then ends
 *
 * Either way each connection ends in order, and the bytes that one side sent can be held against those that the other
 * side received. Readiness is level-triggered, a chunk for each event: connections take turns. Under TLS, a record that
 * is partly sent when the load is over has to be sent to its end before the half close. */
#include "load.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum state { GREETING, GREETED, MOVING, STOPPING, ENDED };

struct mover {
	struct wire wire;
	enum state state;
	bool asked;        /* while GREETING: the first byte is sent */
	uint64_t position; /* in the pattern */
};

static struct mover *movers;

static void watch(struct mover *m, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = m};
	if (epoll_ctl(poller, EPOLL_CTL_MOD, m->wire.fd, &event) < 0)
		die("epoll_ctl");
}

static void finished(struct mover *m, enum outcome outcome)
{
	report_outcome(outcome);
	under_way--;
	wire_close(&m->wire, outcome == OK);
	m->state = ENDED;
}

/** @return false when it is finished, or not yet possible: TLS shakes hands first */
static bool ask(struct mover *m)
{
	if (!m->asked)
		m->asked = wire_send(&m->wire, options.mode == MODE_UP ? "u" : "d", 1) == 1;
	if (!m->asked && errno != EAGAIN)
		finished(m, outcome_of(errno));
	return m->asked;
}

static void greet(struct mover *m)
{
	struct sockaddr_in address = loopback(options.port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		die("socket");
	wire_open(&m->wire, fd);
	under_way++;
	m->state = GREETING;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		finished(m, outcome_of(errno));
		return;
	}
	fcntl(fd, F_SETFL, O_NONBLOCK);
	loop_watch(fd, EPOLLIN, m);
	ask(m);
}

static void on_greeted(struct mover *m)
{
	char byte;
	ssize_t got = wire_receive(&m->wire, &byte, 1);
	if (got < 0 && errno == EAGAIN)
		return;
	if (got <= 0)
		finished(m, got == 0 ? CUT_SHORT : outcome_of(errno));
	else if (byte != (options.mode == MODE_UP ? 'u' : 'd'))
		finished(m, WRONG_BYTES);
	else {
		m->state = GREETED;
		under_way--;
	}
}

static void move_up(struct mover *m, size_t most)
{
	ssize_t put = wire_send(&m->wire, pattern_at(m->position), most);
	if (put < 0 && errno == EAGAIN)
		return;
	if (put < 0) {
		finished(m, outcome_of(errno));
		return;
	}
	m->position += (uint64_t)put;
	bytes_moved += (uint64_t)put;
}

/** @return false when it is finished, or there is no more for now */
static bool move_down(struct mover *m)
{
	static char input[CHUNK];
	ssize_t got = wire_receive(&m->wire, input, sizeof(input));
	if (got < 0 && errno == EAGAIN)
		return false;
	if (got <= 0) {
		finished(m, got < 0 ? outcome_of(errno) : ending ? OK : CUT_SHORT);
		return false;
	}
	if (options.mode == MODE_UP || !pattern_matches(m->position, input, (size_t)got)) {
		finished(m, WRONG_BYTES);
		return false;
	}
	m->position += (uint64_t)got;
	bytes_moved += (uint64_t)got;
	return true;
}

/** Half close, as soon as no record is in the middle. */
static void stop(struct mover *m)
{
	m->state = STOPPING;
	if (m->wire.held)
		move_up(m, RECORD);
	if (m->wire.held || m->state == ENDED)
		return;
	if (!wire_end(&m->wire))
		return;
	m->state = MOVING;
	watch(m, EPOLLIN);
}

static void move(struct mover *m, uint32_t events)
{
	if (!(events & (EPOLLIN | EPOLLERR | EPOLLHUP))) {
		move_up(m, CHUNK);
		return;
	}
	while (move_down(m) && wire_has_more(&m->wire))
		continue;
}

static void on_ready(void *client, uint32_t events)
{
	struct mover *m = client;
	switch (m->state) {
	case GREETING:
		if (ask(m))
			on_greeted(m);
		break;
	case GREETED: /* before its time: only an end can come */
		under_way++;
		finished(m, CUT_SHORT);
		break;
	case MOVING:
		move(m, events);
		break;
	case STOPPING:
		stop(m);
		break;
	case ENDED:
		break;
	}
}

static void on_open(void)
{
	movers = calloc(options.connections, sizeof(*movers));
	for (uint32_t i = 0; i < options.connections; i++)
		greet(&movers[i]);
}

static void on_begin(void)
{
	report_restart();
	for (uint32_t i = 0; i < options.connections; i++) {
		struct mover *m = &movers[i];
		if (m->state != GREETED)
			continue;
		m->state = MOVING;
		under_way++;
		if (options.mode == MODE_UP)
			watch(m, EPOLLIN | EPOLLOUT);
		else if (wire_send(&m->wire, "g", 1) < 0)
			finished(m, outcome_of(errno));
	}
}

/** Something was moved, or nothing will be. A short load on a busy machine may not have had its turn yet. */
static bool enough(void)
{
	return bytes_moved || under_way == 0;
}

static void on_end(void)
{
	for (uint32_t i = 0; i < options.connections; i++) {
		if (movers[i].state == MOVING)
			stop(&movers[i]);
	}
}

const struct load_kind bulk_load = {on_open, on_begin, on_ready, NULL, enough, on_end};
