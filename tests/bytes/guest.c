#include "guest.h"

#include "end.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { GUEST_ROOM = 2048 };

/** What a client sent that went while the target did not accept. */
struct sent {
	struct plan plan;
	struct end end;
	bool arrived;
};

/** A connection that the target got. */
struct guest {
	enum fate fate;
	int fd; /* -1: ended */
	size_t length;
	char bytes[GUEST_ROOM];
};

static struct sent **sent;
static struct guest **guests;
static uint32_t sent_count, guest_count;
static struct guests_count counts;

static void *grow(void *list, uint32_t count)
{
	if (count & (count - 1)) /* only at powers of two */
		return list;
	list = realloc(list, sizeof(void *) * (count ? 2u * count : 1u));
	if (!list)
		abort();
	return list;
}

static void *zeroed(size_t size)
{
	void *memory = calloc(1, size);
	if (!memory)
		abort();
	return memory;
}

/* ---- Clients ------------------------------------------------------------------------------------------------ */

static struct sent *remember(const struct plan *plan)
{
	struct sent *s = zeroed(sizeof(*s));
	s->plan = *plan;
	end_init(&s->end, &s->plan, 0, NULL);
	if (plan->fate != FATE_STUCK)
		return s;
	sent = grow(sent, sent_count);
	sent[sent_count++] = s;
	return s;
}

void guest_client(const struct plan *plan, int fd)
{
	struct sent *s = remember(plan);
	end_open(&s->end, fd);
	/* Few bytes, and the other side is on this machine: nothing here takes long. */
	while (s->end.state == END_OPEN) {
		end_step(&s->end);
		if (s->end.state == END_OPEN)
			usleep(100);
	}
	end_close(&s->end);
	if (plan->fate == FATE_STUCK) {
		counts.stuck++;
		return;
	}
	counts.gone++;
	free(s);
}

/* ---- Targets ------------------------------------------------------------------------------------------------ */

uint32_t guest_accept(enum fate fate, int fd)
{
	struct guest *g = zeroed(sizeof(*g));
	g->fate = fate;
	g->fd = fd;
	guests = grow(guests, guest_count);
	guests[guest_count] = g;
	return guest_count++;
}

static void complain(const struct guest *g, const char *what)
{
	counts.failed++;
	fprintf(stderr, "exchange: a target that %s got %zu bytes: %s\n",
			g->fate == FATE_GONE ? "should get none" : "did not accept", g->length, what);
}

static bool is_from(const struct sent *s, const struct guest *g)
{
	const struct run *out = &s->end.out;
	size_t skip = s->plan.front == FRONT_SUBPORT ? out->head_length : 0;
	return !s->arrived && out->length - skip == g->length && memcmp(out->pattern, g->bytes, g->length) == 0;
}

/** It has ended: whose was it? */
static void ended(struct guest *g, bool by_reset)
{
	close(g->fd);
	g->fd = -1;
	if (g->fate == FATE_GONE) {
		counts.gone_arrived++;
		if (g->length)
			complain(g, "nobody sent them");
		return;
	}
	counts.stuck_arrived++;
	for (uint32_t i = 0; i < sent_count; i++) {
		if (!is_from(sent[i], g) || plan_resets(sent[i]->plan.part[0].ending) != by_reset)
			continue;
		sent[i]->arrived = true;
		return;
	}
	complain(g, by_reset ? "then a reset, and nobody sent that" : "then the end, and nobody sent that");
}

void guest_ready(uint32_t number)
{
	struct guest *g = guests[number];
	while (g->fd >= 0) {
		ssize_t got = recv(g->fd, g->bytes + g->length, GUEST_ROOM - g->length, 0);
		if (got < 0 && errno == EAGAIN)
			return;
		if (got > 0)
			g->length += (size_t)got;
		else
			ended(g, got < 0);
	}
}

struct guests_count guests_check(void)
{
	for (uint32_t i = 0; i < guest_count; i++) {
		if (guests[i]->fd >= 0)
			complain(guests[i], "it has no end");
		free(guests[i]);
	}
	for (uint32_t i = 0; i < sent_count; i++) {
		if (!sent[i]->arrived && !plan_resets(sent[i]->plan.part[0].ending)) {
			char text[512];
			plan_describe(&sent[i]->plan, text, sizeof(text));
			fprintf(stderr, "exchange: never arrived: %s\n", text);
			counts.failed++;
		}
		free(sent[i]);
	}
	free(guests);
	free(sent);
	return counts;
}
