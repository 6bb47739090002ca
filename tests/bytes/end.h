/** One end of a connection under test: sends and ends as its plan says, compares what it receives, and knows at last
 * whether that was right. Driven by end_step(), which does what can be done now. */
#ifndef BYTES_END_H
#define BYTES_END_H

#include "plan.h"

enum end_state {
	END_ABSENT, /* not connected, not accepted */
	END_OPEN,
	END_SHUT,   /* has sent its end of file */
	END_CLOSED, /* its descriptor is closed */
};

/** A run of bytes: first those of `head`, then of the pattern. */
struct run {
	const char *head;
	size_t head_length;
	const char *pattern;
	size_t length; /* in all */
};

struct end {
	enum end_state state;
	int fd;
	const struct plan *plan;
	int index;          /* 0 the client, 1 the target */
	struct end *other;  /* NULL: there is none to wait for */
	struct run out, in; /* to be sent, to be received */
	size_t sent, received;
	bool saw_end, saw_reset;
	uint64_t read_at; /* reads late or slowly: not before; milliseconds */
	bool waits;       /* for the clock: nothing will be reported */
	bool wrong;       /* other bytes than expected, or more */
};

/** Milliseconds. Only moves when the loop says so. */
extern uint64_t end_now;
/** Counts everything that happens; stands still when all hang. */
extern uint64_t end_progress;

void end_pattern_make(uint64_t seed);

/** Who sends what to whom. Both ends are absent then. */
void end_init(struct end *end, const struct plan *plan, int index, struct end *other);
/** Begin with a socket; takes it. For a client that is told to connect already. */
void end_open(struct end *end, int fd);
/** Before connecting or listening: segments as on a network instead of loopback's 64 KiB. A kernel keeps ten of them or
 * more for who does not read, so with these its buffer is full soon. */
void end_set_segments(int fd);
/** To be set before a client connects. */
void end_set_options(int fd, const struct part *part);
void end_step(struct end *end);
void end_close(struct end *end);

/** Whether what came is what should have come. @param text  why not */
bool end_check(const struct end *end, char *text, size_t room);

/** Whether all bytes written to a socket have been sent: on one machine they are with the other one's kernel then. */
bool end_has_left(int fd);
/** Close with a reset. */
void end_reset(int fd);

#endif
