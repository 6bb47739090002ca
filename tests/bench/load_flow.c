/* kept -u: clients that exchange datagrams, one at a time, each from a socket of its own.
 *
 * Every exchange has bytes of its own. One that is not answered in time is repeated, and counted as lost; an answer
 * that comes after all is known by its bytes. The first exchange of each client waits for its turn: a flow that is new
 * costs a proxy more, and what all of them ask at once might not fit into its buffer. */
#include "load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MESSAGE_MOST = 1472, LATE = 4 };

struct client {
	int fd;
	uint64_t serial; /* of the exchange; every exchange of the load has another one */
	uint64_t began, sent;
	unsigned repeats; /* datagrams of exchanges before this one that may still be answered */
	bool waiting;     /* its exchange is over and the next one is not asked for */
};

static const uint64_t patience_ns = 500000000;

static struct client *clients;
static uint32_t opened; /* clients that have begun */
static bool running;

static uint64_t position(uint64_t serial)
{
	return serial * 31;
}

static void flow_close(struct client *c)
{
	close(c->fd);
	c->fd = -1;
}

static void finished(struct client *c, enum outcome outcome);

static void ask(struct client *c)
{
	c->sent = now_ns();
	if (send(c->fd, pattern_at(position(c->serial)), options.bytes, MSG_DONTWAIT) < 0 && errno != EAGAIN)
		finished(c, outcome_of(errno));
}

static void flow_begin(struct client *c)
{
	c->serial += options.connections;
	c->waiting = false;
	c->began = now_ns();
	under_way++;
	ask(c);
}

static void open_next(void)
{
	struct client *c = &clients[opened];
	c->serial = opened++;
	c->fd = segments_socket(0, options.port);
	loop_watch(c->fd, EPOLLIN, c);
	flow_begin(c);
}

static void finished(struct client *c, enum outcome outcome)
{
	report_outcome(outcome);
	under_way--;
	c->waiting = true;
	if (outcome == OK)
		report_latency(now_ns() - c->began);
	else
		flow_close(c);
	if (outcome == OK && running && !ending)
		flow_begin(c);
	if (opened < options.connections && under_way == 0)
		open_next();
}

/** Whether it answers an exchange before this one, of which a datagram was sent twice. */
static bool is_late(struct client *c, const char *bytes, size_t length)
{
	for (uint64_t back = 1; c->repeats && length == options.bytes && back <= LATE; back++) {
		uint64_t step = back * options.connections;
		if (step <= c->serial && pattern_matches(position(c->serial - step), bytes, length)) {
			c->repeats--;
			return true;
		}
	}
	return false;
}

static void on_ready(void *client, uint32_t events)
{
	static char input[MESSAGE_MOST + 1];
	struct client *c = client;
	(void)events;
	if (c->fd < 0)
		return;
	ssize_t got = recv(c->fd, input, sizeof(input), MSG_DONTWAIT);
	if (got < 0 && errno == EAGAIN)
		return;
	if (got >= 0 && is_late(c, input, (size_t)got))
		return;
	if (c->waiting) { /* nothing was asked for */
		under_way++;
		finished(c, got < 0 ? outcome_of(errno) : WRONG_BYTES);
	} else if (got < 0) {
		finished(c, outcome_of(errno));
	} else {
		bool right = (size_t)got == options.bytes && pattern_matches(position(c->serial), input, options.bytes);
		finished(c, right ? OK : WRONG_BYTES);
	}
}

/** Again, what was not answered in time. */
static void on_turn(void)
{
	static uint64_t looked;
	uint64_t now = now_ns();
	if (now - looked < patience_ns / 10)
		return;
	looked = now;
	for (uint32_t i = 0; i < opened; i++) {
		struct client *c = &clients[i];
		if (c->fd < 0 || c->waiting || now - c->sent < patience_ns)
			continue;
		report_lost(1);
		c->repeats++;
		ask(c);
	}
}

static void on_open(void)
{
	if (options.bytes > MESSAGE_MOST) {
		fprintf(stderr, "load: a datagram of at most %d bytes, please\n", MESSAGE_MOST);
		exit(2);
	}
	clients = calloc(options.connections, sizeof(*clients));
	open_next();
}

static void on_begin(void)
{
	running = true;
	report_restart();
	for (uint32_t i = 0; i < options.connections; i++) {
		if (clients[i].fd >= 0)
			flow_begin(&clients[i]);
	}
}

static void on_end(void)
{
}

const struct load_kind flow_load = {on_open, on_begin, on_ready, on_turn, NULL, on_end};
