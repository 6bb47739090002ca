/* up -u, down -u: clients that move many datagrams to a `load bulk -u`, or from it. See load_segments.c for what they
 * hold. A flow is greeted first: then it is open all the way. What is not answered is said again, and data that nobody
 * acknowledges for a while is given up as lost. At the end the server says how many datagrams it received, or sent; the
 * difference to what we sent, or received, is what was lost. */
#include "load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum state { GREETING, GREETED, MOVING, STOPPING, ENDED };

struct mover {
	int fd;
	enum state state;
	struct segments data;
	uint64_t heard; /* when something came, or was said again */
};

static const uint64_t patience_ns = 100000000;

static struct mover *movers;
static bool some_moved;

static bool goes_up(void)
{
	return options.mode == MODE_UP;
}

static void say(struct mover *m, char kind)
{
	word_send(m->fd, NULL, (struct word){kind, m->data.flow, m->data.next});
}

static void finished(struct mover *m, enum outcome outcome)
{
	report_outcome(outcome);
	under_way--;
	close(m->fd);
	m->state = ENDED;
}

/** The server has said how many there were at its end. */
static void count(struct mover *m, uint64_t there)
{
	uint64_t sent = goes_up() ? m->data.next : there, received = goes_up() ? there : m->data.received;
	if (received > sent) {
		finished(m, WRONG_BYTES);
		return;
	}
	bytes_moved += received * SEGMENT;
	report_lost(sent - received);
	finished(m, OK);
}

static void on_word(struct mover *m, struct word word)
{
	if (word.flow != m->data.flow || word.kind == 'x') {
		finished(m, WRONG_BYTES);
	} else if (m->state == GREETING && word.kind == (goes_up() ? 'u' : 'd')) {
		m->state = GREETED;
		under_way--;
	} else if (m->state == MOVING && word.kind == 'a' && goes_up()) {
		some_moved = true;
		m->data.acknowledged = word.number;
		segments_send(m->fd, NULL, &m->data);
	} else if (m->state == STOPPING && word.kind == 'e') {
		count(m, word.number);
	}
}

static void on_data(struct mover *m, const char *bytes, size_t length)
{
	struct word word;
	bool expected = !goes_up() && (m->state == MOVING || m->state == STOPPING);
	if (!expected || !segments_check(&m->data, bytes, length)) {
		finished(m, WRONG_BYTES);
		return;
	}
	some_moved = true;
	if (segments_acknowledge(&m->data, &word) && m->state == MOVING)
		word_send(m->fd, NULL, word);
}

static void on_segment(void *arg, const struct sockaddr_in *from, const char *bytes, size_t length)
{
	struct mover *m = arg;
	struct word word;
	(void)from;
	if (m->state == ENDED)
		return;
	m->heard = now_ns();
	if (length != sizeof(word)) {
		on_data(m, bytes, length);
		return;
	}
	memcpy(&word, bytes, sizeof(word));
	on_word(m, word);
}

static void on_ready(void *client, uint32_t events)
{
	struct mover *m = client;
	(void)events;
	if (m->state == ENDED)
		return;
	int error = segments_receive(m->fd, on_segment, m);
	if (error && m->state == GREETED)
		under_way++;
	if (error && m->state != ENDED)
		finished(m, outcome_of(error));
}

/** Nothing came for a while. */
static void remind(struct mover *m)
{
	switch (m->state) {
	case GREETING:
		say(m, goes_up() ? 'u' : 'd');
		break;
	case MOVING:
		m->data.acknowledged = m->data.next;
		if (goes_up())
			segments_send(m->fd, NULL, &m->data);
		else
			say(m, 'r');
		break;
	case STOPPING:
		say(m, 'e');
		break;
	case GREETED:
	case ENDED:
		break;
	}
}

static void on_turn(void)
{
	static uint64_t looked;
	uint64_t now = now_ns();
	if (now - looked < patience_ns / 10)
		return;
	looked = now;
	for (uint32_t i = 0; i < options.connections; i++) {
		if (now - movers[i].heard < patience_ns)
			continue;
		movers[i].heard = now;
		remind(&movers[i]);
	}
}

static void on_open(void)
{
	movers = calloc(options.connections, sizeof(*movers));
	for (uint32_t i = 0; i < options.connections; i++) {
		struct mover *m = &movers[i];
		m->fd = segments_socket(0, options.port);
		m->data.flow = i;
		m->heard = now_ns();
		under_way++;
		loop_watch(m->fd, EPOLLIN, m);
		remind(m);
	}
}

static void on_begin(void)
{
	report_restart();
	for (uint32_t i = 0; i < options.connections; i++) {
		struct mover *m = &movers[i];
		if (m->state != GREETED)
			continue;
		under_way++;
		m->state = MOVING;
		m->heard = now_ns();
		if (goes_up())
			segments_send(m->fd, NULL, &m->data);
		else
			say(m, 'g');
	}
}

/** Something was moved, or nothing will be. */
static bool enough(void)
{
	return some_moved || under_way == 0;
}

static void on_end(void)
{
	for (uint32_t i = 0; i < options.connections; i++) {
		if (movers[i].state != MOVING)
			continue;
		movers[i].state = STOPPING;
		say(&movers[i], 'e');
	}
}

const struct load_kind flow_bulk_load = {on_open, on_begin, on_ready, on_turn, enough, on_end};
