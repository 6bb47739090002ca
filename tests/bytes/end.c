#include "end.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	READ_ROOM = 256 * 1024,
	SLOW_PIECE = 32 * 1024,
	SLOW_BUFFER = 64 * 1024,
	LATE_MS = 30,
	SEGMENT = 1448,   /* Ethernet's */
	BYTES_MOST = 200, /* sent one by one, then the rest */
};

uint64_t end_now, end_progress;

/* Twice the longest run, so that runs can begin anywhere in the first half; random, so that no piece can be taken for
 * another one. */
static char pattern[2 * SIZE_MOST];

static const char preamble[] = "\x89\x3d\x1d\x4e\x4e\x4f\xc6\x86\x2d\x1e\x10\x01\x0d\x0a\x69\x0a\x01s";
enum { PREAMBLE = sizeof(preamble) - 1 };

void end_pattern_make(uint64_t seed)
{
	uint64_t x = seed * 2 + 1;
	for (size_t i = 0; i < sizeof(pattern); i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		pattern[i] = (char)(x >> 32);
		if (pattern[i] == preamble[ALMOST_MOST]) /* behind almost the magic, it would make it whole */
			pattern[i]++;
	}
}

static const struct part *own(const struct end *e)
{
	return &e->plan->part[e->index];
}

static const struct part *others(const struct end *e)
{
	return &e->plan->part[!e->index];
}

static bool is_empty(int fd, unsigned long queue)
{
	int bytes = 0;
	struct tcp_info info;
	socklen_t length = sizeof(info);
	if (ioctl(fd, queue, &bytes) == 0 && bytes == 0)
		return true;
	/* A socket that was reset goes on counting. */
	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 && info.tcpi_state == TCP_CLOSE;
}

bool end_has_left(int fd)
{
	return is_empty(fd, SIOCOUTQNSD);
}

/** A reset behind bytes that were sent but not taken (a full buffer) would be out of order, and ignored. */
static bool is_acknowledged(int fd)
{
	return is_empty(fd, SIOCOUTQ);
}

void end_reset(int fd)
{
	struct linger linger = {.l_onoff = 1};
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(fd);
}

/* ---- Beginning ---------------------------------------------------------------------------------------------- */

static struct run run_of(const struct plan *plan, int sender, bool received)
{
	const struct part *part = &plan->part[sender];
	struct run run = {.head = preamble, .pattern = pattern + part->from};
	if (sender == 0 && plan->front == FRONT_ALMOST)
		run.head_length = plan->almost;
	else if (sender == 0 && plan->front == FRONT_SUBPORT && !received)
		run.head_length = PREAMBLE;
	run.length = run.head_length + part->size;
	return run;
}

void end_init(struct end *e, const struct plan *plan, int index, struct end *other)
{
	*e = (struct end){.fd = -1, .plan = plan, .index = index, .other = other};
	e->out = run_of(plan, index, false);
	e->in = run_of(plan, !index, true);
}

void end_set_segments(int fd)
{
	int usual = SEGMENT;
	setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &usual, sizeof(usual));
}

void end_set_options(int fd, const struct part *part)
{
	int one = 1, small = SLOW_BUFFER;
	if (part->pieces == PIECES_BYTES || part->pieces == PIECES_SEGMENT)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (part->reading == READING_SLOWLY)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	if (part->reading != READING_AT_ONCE)
		end_set_segments(fd);
}

void end_open(struct end *e, int fd)
{
	e->fd = fd;
	e->state = END_OPEN;
	e->read_at = own(e)->reading == READING_LATE ? end_now + LATE_MS : 0;
	end_progress++;
}

void end_close(struct end *e)
{
	if (e->state == END_OPEN || e->state == END_SHUT)
		close(e->fd);
	e->fd = -1;
	e->state = END_CLOSED;
	end_progress++;
}

/* ---- Receiving ---------------------------------------------------------------------------------------------- */

/** Whether these are the bytes at `at` of the run. */
static bool run_matches(const struct run *run, size_t at, const char *bytes, size_t count)
{
	if (at + count > run->length)
		return false;
	size_t head = at < run->head_length ? run->head_length - at : 0;
	head = head < count ? head : count;
	return memcmp(bytes, run->head + at, head) == 0 &&
		   memcmp(bytes + head, run->pattern + (at + head - run->head_length), count - head) == 0;
}

/** How much may be read now; 0: it is not the time. */
static size_t read_room(struct end *e)
{
	if (own(e)->ending == ENDING_UNREAD)
		return 0;
	if (end_now < e->read_at) {
		e->waits = true;
		return 0;
	}
	return own(e)->reading == READING_SLOWLY ? SLOW_PIECE : READ_ROOM;
}

/** Nothing more comes. What it sends itself after a reset is of no use. */
static void receive_ended(struct end *e, bool by_reset)
{
	end_progress++;
	if (!by_reset && !e->saw_end && !e->saw_reset) {
		e->saw_end = true;
		return;
	}
	e->saw_reset |= by_reset;
	if (e->saw_reset) /* the kernel tells it only once: to a read or to a write */
		end_close(e);
}

/** Behind an end of file, reads tell of that only. */
static bool has_error(int fd)
{
	int error = 0;
	socklen_t length = sizeof(error);
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
	return error != 0;
}

static void receive(struct end *e)
{
	static char bytes[READ_ROOM];
	size_t room;
	while (e->state != END_CLOSED && (!e->saw_end || own(e)->ending == ENDING_HOLD) && (room = read_room(e))) {
		ssize_t got = recv(e->fd, bytes, room, 0);
		if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (got == 0 && e->saw_end && !has_error(e->fd))
			return;
		if (got <= 0) {
			receive_ended(e, got < 0 || e->saw_end);
			continue;
		}
		end_progress++;
		if (e->saw_end || !run_matches(&e->in, e->received, bytes, (size_t)got)) {
			e->wrong = true;
			end_close(e);
			return;
		}
		e->received += (size_t)got;
		if (own(e)->reading == READING_SLOWLY)
			e->read_at = end_now + 1;
	}
}

/* ---- Sending ------------------------------------------------------------------------------------------------ */

/** Whether it is its turn. */
static bool may_begin(const struct end *e)
{
	switch (own(e)->begin) {
	case BEGIN_AT_ONCE:
		return true;
	case BEGIN_SECOND:
		return e->received > 0 || e->saw_end;
	case BEGIN_ANSWER:
		return e->saw_end;
	case BEGIN_KINDS:
		break;
	}
	return false;
}

static bool has_left(struct end *e)
{
	if (end_has_left(e->fd))
		return true;
	e->waits = true;
	return false;
}

/** How much to give to the kernel at once; 0: not now. */
static size_t send_piece(struct end *e, size_t limit)
{
	size_t left = limit - e->sent;
	if (e->sent < e->out.head_length && e->plan->preamble_apart)
		left = e->out.head_length - e->sent;
	switch (own(e)->pieces) {
	case PIECES_WHOLE:
		break;
	case PIECES_BYTES:
		return e->sent < BYTES_MOST ? 1 : left;
	case PIECES_SEGMENT:
		return left < own(e)->segment ? left : own(e)->segment;
	case PIECES_TAIL:
		if (limit < e->out.length || e->sent + 1 < e->out.length)
			return left > 1 ? left - 1 : left;
		return has_left(e) ? 1 : 0;
	case PIECES_KINDS:
		break;
	}
	return left;
}

/** @return bytes taken, -1: see errno */
static ssize_t send_some(struct end *e, size_t count)
{
	size_t head = e->sent < e->out.head_length ? e->out.head_length - e->sent : 0;
	head = head < count ? head : count;
	size_t behind = e->sent + head > e->out.head_length ? e->sent + head - e->out.head_length : 0;
	struct iovec vec[2] = {{(char *)e->out.head + (head ? e->sent : 0), head},
						   {(char *)e->out.pattern + behind, count - head}};
	struct msghdr message = {.msg_iov = vec + !head, .msg_iovlen = (size_t)(!!head + (count > head))};
	bool last = e->sent + count == e->out.length && own(e)->ending == ENDING_TOGETHER;
	/* The kernel keeps an incomplete last segment until shutdown() puts the end of file into it. */
	return sendmsg(e->fd, &message, MSG_NOSIGNAL | (last ? MSG_MORE : 0));
}

/** @return whether everything is sent */
static bool send_all(struct end *e)
{
	size_t limit = may_begin(e) ? e->out.length : e->out.head_length, piece; /* a preamble goes at once */
	while (e->sent < limit && (piece = send_piece(e, limit))) {
		ssize_t put = send_some(e, piece);
		if (put < 0 && (errno == EAGAIN || errno == ENOTCONN))
			return false;
		end_progress++;
		if (put < 0) {
			e->saw_reset = true; /* what came before it is read still */
			return false;
		}
		e->sent += (size_t)put;
	}
	return e->sent == e->out.length && may_begin(e);
}

/* ---- Ending ------------------------------------------------------------------------------------------------- */

static void shut(struct end *e)
{
	shutdown(e->fd, SHUT_WR);
	e->state = END_SHUT;
	end_progress++;
}

static bool may_reset(struct end *e)
{
	if (is_acknowledged(e->fd))
		return true;
	e->waits = true;
	return false;
}

static void reset(struct end *e)
{
	end_reset(e->fd);
	e->state = END_CLOSED;
	end_progress++;
}

/** Close so that bytes are unread, if any come: then the kernel sends a reset by itself. */
static void close_unread(struct end *e)
{
	int unread = 0;
	ioctl(e->fd, FIONREAD, &unread);
	if (unread == 0 && plan_gets_bytes(e->plan, e->index)) {
		e->waits = true;
	} else if (unread == 0) {
		reset(e);
	} else {
		end_close(e);
	}
}

/** Everything is sent: end as planned, when it is the time. */
static void finish(struct end *e)
{
	switch (own(e)->ending) {
	case ENDING_TOGETHER:
		shut(e);
		break;
	case ENDING_APART:
	case ENDING_AFTERMATH:
		if (has_left(e))
			shut(e);
		break;
	case ENDING_LAST:
		if (e->saw_end)
			shut(e);
		break;
	case ENDING_RESET:
		if (may_reset(e))
			reset(e);
		break;
	case ENDING_UNREAD:
		if (may_reset(e))
			close_unread(e);
		break;
	case ENDING_HOLD:
	case ENDING_KINDS:
		break;
	}
}

/** It has sent its end of file. */
static void end_or_reset(struct end *e)
{
	if (own(e)->ending != ENDING_AFTERMATH) {
		if (e->saw_end)
			end_close(e);
		return;
	}
	bool seen = !e->other || e->other->saw_end || e->other->state == END_CLOSED;
	if (seen && may_reset(e))
		reset(e);
	else
		e->waits = true;
}

void end_step(struct end *e)
{
	if (e->state == END_ABSENT || e->state == END_CLOSED)
		return;
	e->waits = false;
	receive(e);
	if (e->state == END_OPEN && !e->saw_reset && send_all(e))
		finish(e);
	if (e->state == END_OPEN && e->saw_reset && !e->saw_end)
		receive(e); /* what came before it */
	else if (e->state == END_OPEN && e->saw_reset)
		end_close(e);
	if (e->state == END_SHUT)
		end_or_reset(e);
}

/* ---- Judging ------------------------------------------------------------------------------------------------ */

/** What should have come, and how it should have ended: by the plan of the other end. */
bool end_check(const struct end *e, char *text, size_t room)
{
	static const char *const names[] = {"client", "target"};
	static const char *const seen[2][2] = {{"nothing", "a reset"}, {"the end", "the end, then a reset"}};
	const char *name = names[e->index], *wanted = NULL;
	enum ending other = others(e)->ending;
	if (e->wrong) {
		snprintf(text, room, "%s: wrong bytes behind %zu of %zu", name, e->received, e->in.length);
		return false;
	}
	if (plan_resets(own(e)->ending) && own(e)->ending != ENDING_AFTERMATH)
		return true; /* it threw away what was under way */
	if (own(e)->ending == ENDING_AFTERMATH)
		return true;
	if (other == ENDING_RESET || other == ENDING_UNREAD)
		wanted = !e->saw_end && e->saw_reset ? NULL : "a reset";
	else if (other == ENDING_AFTERMATH)
		wanted = e->saw_end && e->saw_reset ? NULL : "the end, then a reset";
	else
		wanted = e->saw_end && !e->saw_reset ? NULL : "the end";
	if (!wanted && e->received == e->in.length)
		return true;
	snprintf(text, room, "%s: %zu of %zu bytes, then %s instead of %s", name, e->received, e->in.length,
			 seen[e->saw_end][e->saw_reset], wanted ? wanted : seen[e->saw_end][e->saw_reset]);
	return false;
}
