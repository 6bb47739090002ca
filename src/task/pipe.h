/** Pipe: one accepted connection until both ends are closed. pipe_task.c is its life from accepting to targets,
 * pipe_connect.c from targets to an open way, pump.c forwards; pipe.c is what all states share.
 *
 *     accepted ─▶ handshake ─▶ preamble ─▶ routing ─▶ connecting ─▶ piping ─▶ closing ─▶ closed
 *        │  (layers)   (subports)                                     │           ▲
 *        └── any state may go to closed: pipe_close() is the only way ┘───────────┘
 */
#ifndef TASK_PIPE_H
#define TASK_PIPE_H

#include "../route/plan.h"
#include "../route/routing.h"
#include "limits.h"
#include "names.h"
#include "opening.h"

#include <connpipe/cause.h>
#include <connpipe/stream.h>

#include <stdbool.h>
#include <stdint.h>

struct worker;
struct kernel_pipe;

enum { PIPE_TEXT = NAMES_TEXT };

/** X(name, text, meaning) */
#define PIPE_STATES(X)                                                                                    \
	X(PIPE_ACCEPTED, "accepted", "just taken from the listener")                                          \
	X(PIPE_HANDSHAKE, "handshake", "the layers of the incoming address are put on (timeouts.handshake)")  \
	X(PIPE_PREAMBLE, "preamble", "waiting for the bytes that may name a subport (timeouts.preamble)")     \
	X(PIPE_ROUTING, "routing", "a router decides; it may be waiting for bytes")                           \
	X(PIPE_CONNECTING, "connecting", "the way to a target is opened (timeouts.connect for each attempt)") \
	X(PIPE_PIPING, "piping", "bytes flow (timeouts.idle)")                                                \
	X(PIPE_CLOSING, "closing", "one end broke; what it sent before is still delivered (timeouts.reset)")  \
	X(PIPE_CLOSED, "closed", "everything is given back; freed after the turn")

enum pipe_state {
#define PIPE_STATE_ENUM(name, text, meaning) name,
	PIPE_STATES(PIPE_STATE_ENUM)
#undef PIPE_STATE_ENUM
};

/** X(name, meaning): the states of one direction. */
#define FLOW_STATES(X)                                                                                        \
	X(FLOW_OPEN, "reads from its source")                                                                     \
	X(FLOW_DRAINING, "the source has ended; what is pending is still to be written")                          \
	X(FLOW_SHUT, "the end was passed on")                                                                     \
	X(FLOW_HELD, "the sink has no half close: its end waits for the other direction's (timeouts.half_close)") \
	X(FLOW_DISCARDING, "the sink has ended both ways: what still comes is thrown away (timeouts.half_close)") \
	X(FLOW_CUT, "the sink is broken: nothing more can be written")

enum flow_state {
#define FLOW_STATE_ENUM(name, meaning) name,
	FLOW_STATES(FLOW_STATE_ENUM)
#undef FLOW_STATE_ENUM
};

/** Bytes read from a source that its sink did not take yet: in memory or in a kernel pipe, never in both. */
struct backlog {
	char *held;
	size_t offset, length;    /* of `held` still to be written */
	unsigned flags;           /* CP_WRITE_* for it */
	struct kernel_pipe *pipe; /* kept while splicing goes on, empty or not */
	size_t in_pipe;
};

/** One direction: flow 0 from the client (end 0) to the target (end 1), flow 1 back. */
struct flow {
	uint8_t state;           /* enum flow_state */
	uint8_t full_reads;      /* reads in a row that filled the buffer: bulk, worth splicing (pump.c) */
	bool blocked;            /* waits until its sink is writable; its source is not read meanwhile */
	bool pending;            /* has used up its turn and goes on in the next one */
	bool no_splice;          /* an end refused it, or asked for its descriptor back */
	struct backlog *backlog; /* NULL: nothing pending; an idle connection holds none */
	uint64_t bytes;          /* read from the source, without a preamble */
};

/** What a pipe needs only until it is open; worker-local and used again. */
struct pipe_setup {
	struct pipe_setup *next; /* in the worker's list of free ones */
	struct plan *plan;       /* kept from accepting until the way is open */
	const struct binding *binding;
	struct cp_request request;
	struct routing routing;
	struct opening opening;
	const struct cp_address *target; /* being tried */
	const struct cp_address *named;  /* the binding's address with the subport that the client asked for; or NULL */
	const char *router;              /* id of the router that decided */
	uint32_t target_index;
	bool retried; /* a target was tried again after descriptors had run out */

	/* The client's first bytes: in the loop's buffer as long as everything happens in one go, then in memory. */
	char *first;
	size_t first_offset, first_length; /* offset: behind a preamble */
	size_t first_room;                 /* of `first` in memory */
	bool in_one_go;                    /* `first` is the loop's buffer: nothing was waited for so far */
	uint8_t first_end;                 /* CP_READ_END, CP_READ_OVER: the end that is behind them */
	bool first_message;                /* they are one message, maybe an empty one; messages are not joined */
	uint8_t first_flags;               /* CP_WRITE_* of that message; CP_WRITE_MORE: it is not whole yet */
	bool armed;                        /* the client's stream will call when there is more */
	size_t wanted;                     /* bytes that a router waits for */
	uint64_t waiting_since;            /* cp_loop_now(): when one first did, without a time of its own; 0: never */
	struct iovec early[2];             /* preamble towards the target, first bytes */
	int early_count;
};

/** One timer, which means what the pipe's state says. Most pipes need none while they are open. */
struct pipe_timer {
	struct cp_timer timer;
	struct pipe *pipe;
};

/** What forwarding touches comes first, so that it shares cache lines. */
struct pipe {
	struct worker *worker;
	struct cp_stream *end[2]; /* 0: client, 1: target */
	struct flow flow[2];
	uint64_t active;          /* cp_loop_now(): last byte either way */
	struct pipe_timer *timer; /* NULL: not running */
	uint8_t state;            /* enum pipe_state */
	uint8_t cause;            /* enum cp_cause: set once closing */
	bool listed_pending;      /* among the worker's pipes that go on in the next turn */
	bool counted_source : 1;  /* counts towards its source's limit */
	bool is_session : 1;      /* it is one (session.h) */
	struct cp_peer peer;
	struct pipe *next, **prev; /* the worker's list of all, later of the dead */
	struct pipe_setup *setup;  /* NULL from piping on */
	struct names *names;       /* as far as they are known; NULL: not needed so far */
	uint64_t id;
	uint64_t opened; /* cp_loop_now(): accepted */
};

/** What it counts towards. */
static inline enum limits_total pipe_total(const struct pipe *pipe)
{
	return pipe->is_session ? LIMITS_SESSIONS : LIMITS_CONNECTIONS;
}

/** Take an accepted connection. Owns the stream, whatever happens. */
void pipe_start(struct worker *worker, struct plan *plan, const struct binding *binding,
				const struct cp_accepted *accepted);

/** The one way to close: both streams, one log line, one counter. @param detail  in the log line, or NULL */
void pipe_close(struct pipe *pipe, enum cp_cause cause, const char *detail);
/** Let go of everything that is only needed until the way is open. */
void pipe_setup_end(struct pipe *pipe);
/** The last step, after the turn. */
void pipe_free(struct pipe *pipe);
void pipe_setup_free(struct pipe_setup *setup);

/** Start or move the pipe's timer. */
void pipe_timer_start(struct pipe *pipe, uint64_t ms);
void pipe_timer_stop(struct pipe *pipe);
/** It fired. In pipe_task.c. */
void pipe_timed_out(struct pipe *pipe);

/** Change the state; logs it at DEBUG. */
void pipe_enter(struct pipe *pipe, enum pipe_state state);
const char *pipe_state_text(enum pipe_state state);
/** Keep the texts that logs and `ctl pipes` show, as far as they are known: the setup that has them goes. */
void pipe_keep_names(struct pipe *pipe);
/** "tcp:127.0.0.1:25565!ssh from 192.0.2.1:51234 by front to tcp:127.0.0.1:22" */
void pipe_describe(const struct pipe *pipe, char *text, size_t room);
/** The texts for logs and `ctl pipes`; "" while not known. */
const char *pipe_incoming(const struct pipe *pipe);
const char *pipe_router(const struct pipe *pipe);
const char *pipe_target(const struct pipe *pipe);

/* ---- pipe_connect.c ----------------------------------------------------------------------------------------- */

/** Try the target whose turn it is (setup->target_index), and the ones behind it until one is open. */
void pipe_connect_next(struct pipe *pipe);

/* ---- pump.c: forwarding ------------------------------------------------------------------------------------- */

/** Both ends are open: begin. @param first, count, flags  what must be written to the target before anything else
 * @param end  CP_READ_END, CP_READ_OVER: the client's end that was seen behind it
 * @param armed  the client's stream is armed */
void pump_start(struct pipe *pipe, const struct iovec *first, int count, unsigned flags, unsigned end, bool armed);
/** What a read told of a message, for the write that passes it on. */
static inline unsigned pump_write_flags(unsigned hints)
{
	return (hints & CP_READ_MORE ? CP_WRITE_MORE : 0) | (hints & CP_READ_TEXT ? CP_WRITE_TEXT : 0);
}
/** Go on with the directions that had used up their turn. */
void pump_continue(struct pipe *pipe);
/** The pipe's timer fired while piping or closing. */
void pump_timer(struct pipe *pipe);
/** Give back what both directions hold. */
void pump_release(struct pipe *pipe);

#endif
