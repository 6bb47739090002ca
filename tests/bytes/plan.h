/** What one case of `exchange` does: who sends how much in which pieces, how it is read, and how each end ends.
 * Everything follows from the seed and the number of the case, so that one that failed can be run alone. */
#ifndef BYTES_PLAN_H
#define BYTES_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	SIZE_MOST = 6 * 1024 * 1024, /* of what one end sends: more than the kernels on the way hold */
	ALMOST_MOST = 15,            /* bytes of the magic that are no preamble yet */
};

enum pieces {
	PIECES_WHOLE,   /* as much as the kernel takes */
	PIECES_BYTES,   /* one byte each, at first */
	PIECES_SEGMENT, /* `segment` bytes each */
	PIECES_TAIL,    /* the last byte alone, when the others are sent */
	PIECES_KINDS,
};

enum ending {
	ENDING_TOGETHER,  /* the end of file in one segment with the last bytes */
	ENDING_APART,     /* … in one of its own, when everything is sent */
	ENDING_LAST,      /* … when the other end has ended */
	ENDING_RESET,     /* a reset when everything is sent */
	ENDING_UNREAD,    /* closed with bytes unread, which makes the kernel send a reset */
	ENDING_AFTERMATH, /* the end of file, and when the other end has seen it, a reset */
	ENDING_HOLD,      /* none: waits for the reset of an aftermath */
	ENDING_KINDS,
};

enum reading {
	READING_AT_ONCE,
	READING_SLOWLY, /* a little every millisecond, into a small buffer */
	READING_LATE,   /* nothing for a while: everything between is full */
	READING_KINDS,
};

enum begin {
	BEGIN_AT_ONCE,
	BEGIN_SECOND, /* when something has come from the other end */
	BEGIN_ANSWER, /* when everything has, and its end */
	BEGIN_KINDS,
};

/** The side of one end. */
struct part {
	size_t size;
	size_t segment;
	size_t from; /* where in the pattern its bytes are */
	enum pieces pieces;
	enum ending ending;
	enum reading reading;
	enum begin begin;
};

enum front {
	FRONT_PLAIN,   /* an address without subports */
	FRONT_SUBPORT, /* a preamble first */
	FRONT_ALMOST,  /* where preambles are read; the client's bytes begin like one */
	FRONT_KINDS,
};

/** Lanes of their own for connections of which the target may never hear. */
enum fate {
	FATE_LANE,  /* an ordinary case */
	FATE_GONE,  /* the client resets before there is anything to deliver */
	FATE_STUCK, /* the client goes while the target does not accept */
	FATE_KINDS,
};

struct plan {
	uint64_t number;
	enum fate fate;
	enum front front;
	uint32_t almost;     /* FRONT_ALMOST: bytes of the magic */
	bool preamble_apart; /* FRONT_SUBPORT: in a segment of its own */
	struct part part[2]; /* of the client, of the target */
};

/** @param small  nothing over 100 bytes and nothing that takes time */
void plan_make(struct plan *plan, uint64_t seed, uint64_t number, bool small);

/** Whether this end ends by a reset. */
bool plan_resets(enum ending ending);

/** Whether bytes come to this end before it has ended itself. */
bool plan_gets_bytes(const struct plan *plan, int end);

/** One line. */
void plan_describe(const struct plan *plan, char *text, size_t room);

#endif
