/** Streams that a test plays: it says what comes from each end, how much is taken there, and reads what was done to it.
 * With the whole proxy between (task_fixture.h, one worker), so that they meet the pipe as streams of systems do.
 *
 * The system exports connectors that can be bound and connected to, with addresses as of tcp (`memo:front:1!name`):
 *
 *     memo     messages
 *     session  messages; what is accepted are sessions
 *     both     messages, or bytes towards bytes (CP_CONNECTOR_ANY)
 *     plain    bytes
 *
 * What is done to a stream is its record, a text: `[abc]` written; `[abc+]` and it goes on (CP_WRITE_MORE); `["abc]`
 * text; `[aabb/2]` several messages of 2 bytes; `{4000}` told to end so; `|` shut; `x done` closed, and why. */
#ifndef TESTS_UNIT_TASK_MEMO_H
#define TESTS_UNIT_TASK_MEMO_H

#include "task_calls.h"

#include "task/main_state.h"

#include <connpipe/connpipe.h>

enum { MEMO_FAILED = 9000 };
enum { MEMO_READS = 32, MEMO_RECORD = 1024, MEMO_STREAMS = 16, MEMO_ANY = -1 };

/** How an end behaves. */
struct memo_manner {
	bool segments;
	bool no_half_close;
	int room; /* so many writes are taken; MEMO_ANY: all */
};

/** What comes from an end. */
struct memo_read {
	const char *bytes;
	size_t length;
	unsigned hints;
	int error; /* instead, if not CP_OK */
};

struct memo {
	struct cp_stream stream; /* first */
	struct memo *earlier;
	struct memo_manner manner;
	struct memo_read reads[MEMO_READS];
	uint32_t read, said; /* how many so far; at most MEMO_READS are said and not read */
	unsigned armed;
	struct cp_ending ending; /* code 0: none */
	uint32_t cancelled;
	char record[MEMO_RECORD]; /* under the lock of the calls */
};

extern const struct cp_system_def memo_system;

/** What the test decides beside. Set before the proxy starts, or by a call on worker 0. */
struct memo_world {
	struct memo_manner target_manner; /* of connections to targets */
	bool reroutes;                    /* what sessions do at a reload */
	struct memo *targets[MEMO_STREAMS];
	uint32_t target_count;
};
extern struct memo_world memo_world;

/** A client that has not come yet: say first what is there at once. */
struct memo *memo_new(const struct memo_manner *manner);
/** It comes, to the socket of that port, from that address. Waits until the socket is there, and for what happens at
 * once. */
void memo_arrive(struct memo *client, uint16_t port, const char *ip);
/** The target that was connected to as number `n`, from 0. Waits for it. */
struct memo *memo_target(uint32_t n);

/** Something comes from the end. @param hints  CP_READ_*, CP_SEGMENTS(size) */
void memo_say(struct memo *memo, const char *text, unsigned hints);
void memo_say_bytes(struct memo *memo, const void *bytes, size_t length, unsigned hints);
/** It breaks. */
void memo_break(struct memo *memo, enum cp_err error);
/** It ends both ways, with this code; from MEMO_FAILED on that tells of a failure. */
void memo_end(struct memo *memo, uint32_t code);
/** From now on so many writes are taken. */
void memo_set_room(struct memo *memo, int room);

/** Wait until worker 0 has done what it was about to. */
void memo_turn(void);
/** Wait until this was done to it, and nothing else. */
void memo_expect(struct memo *memo, const char *record);
/** What was done to it so far, when the worker has had its turn. @return a static text */
const char *memo_record(struct memo *memo);

/* ---- The proxy between -------------------------------------------------------------------------------------- */

/** Start it with one worker. @param process  lines for [connpipe]  @param rest  tables of systems
 * @param extra  a further system, or NULL */
void memo_start(const char *process, const char *rest, const struct cp_system_def *extra);
/** Load it anew with other tables. Waits until every worker has gone over. */
void memo_reload(const char *process, const char *rest);
void memo_stop(void);
/** It was told to stop, and ends when all pipes have: wait for that. */
void memo_wait_end(void);
enum main_state memo_state(void);

/** Of worker 0: how many pipes are open. Waits for as many turns as it takes to have the number. */
void memo_wait_pipes(uint32_t count);
/** The newest open pipe of worker 0. To be looked at in a call there. */
struct pipe *memo_pipe(struct cp_loop *loop);
int64_t memo_counter(const char *name);

#endif
