/* Clients that move bulk data to a `load bulk` server, or from it. A connection begins with one byte, `u` or `d`, that
 * the server gives back: then it is open all the way. The part that is measured:
 *
 *     up     we send the pattern, end by a half close, and the server ends when it has compared everything
 *     down   we send `g`; the server sends the pattern until our half close, then ends
 *
 * Either way each connection ends in order, and the bytes that one side sent can be held against those that the other
 * side received. Readiness is level-triggered, a chunk for each event: connections take turns. */
#include "load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum state { GREETING, GREETED, MOVING, ENDED };

struct mover {
	int fd;
	enum state state;
	uint64_t position; /* in the pattern */
};

static struct mover *movers;

static void watch(struct mover *m, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = m};
	if (epoll_ctl(poller, EPOLL_CTL_MOD, m->fd, &event) < 0)
		die("epoll_ctl");
}

static void finished(struct mover *m, enum outcome outcome)
{
	report_outcome(outcome);
	under_way--;
	close(m->fd);
	m->fd = -1;
	m->state = ENDED;
}

static void greet(struct mover *m)
{
	struct sockaddr_in address = loopback(options.port);
	m->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (m->fd < 0)
		die("socket");
	under_way++;
	m->state = GREETING;
	if (connect(m->fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
		send(m->fd, options.mode == MODE_UP ? "u" : "d", 1, MSG_NOSIGNAL) < 0) {
		finished(m, outcome_of(errno));
		return;
	}
	loop_watch(m->fd, EPOLLIN, m);
}

static void on_greeted(struct mover *m)
{
	char byte;
	ssize_t got = recv(m->fd, &byte, 1, MSG_DONTWAIT);
	if (got <= 0)
		finished(m, got == 0 ? CUT_SHORT : outcome_of(errno));
	else if (byte != (options.mode == MODE_UP ? 'u' : 'd'))
		finished(m, WRONG_BYTES);
	else {
		m->state = GREETED;
		under_way--;
	}
}

static void move_up(struct mover *m)
{
	ssize_t put = send(m->fd, pattern_at(m->position), CHUNK, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (put < 0 && errno == EAGAIN)
		return;
	if (put < 0) {
		finished(m, outcome_of(errno));
		return;
	}
	m->position += (uint64_t)put;
	bytes_moved += (uint64_t)put;
}

static void move_down(struct mover *m)
{
	static char input[CHUNK];
	ssize_t got = recv(m->fd, input, sizeof(input), MSG_DONTWAIT);
	if (got < 0 && errno == EAGAIN)
		return;
	if (got <= 0) {
		finished(m, got < 0 ? outcome_of(errno) : ending ? OK : CUT_SHORT);
		return;
	}
	if (options.mode == MODE_UP || !pattern_matches(m->position, input, (size_t)got)) {
		finished(m, WRONG_BYTES);
		return;
	}
	m->position += (uint64_t)got;
	bytes_moved += (uint64_t)got;
}

static void on_ready(void *client, uint32_t events)
{
	struct mover *m = client;
	switch (m->state) {
	case GREETING:
		on_greeted(m);
		break;
	case GREETED: /* before its time: only an end can come */
		under_way++;
		finished(m, CUT_SHORT);
		break;
	case MOVING:
		if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
			move_down(m);
		else
			move_up(m);
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
		else if (send(m->fd, "g", 1, MSG_NOSIGNAL) < 0)
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
		if (movers[i].state != MOVING)
			continue;
		shutdown(movers[i].fd, SHUT_WR);
		watch(&movers[i], EPOLLIN);
	}
}

const struct load_kind bulk_load = {on_open, on_begin, on_ready, NULL, enough, on_end};
