/** Worker: one thread with its loop, its conn tasks and its pipes, and the plan that it uses now.
 *
 * Everything here belongs to the worker's thread, except where it says so. The main task talks to workers by posting
 * (cp_post), and workers answer in the same way. */
#ifndef TASK_WORKER_H
#define TASK_WORKER_H

#include "../base/pool.h"
#include "../config/process_settings.h"
#include "../route/plan.h"
#include "../system/generation.h"
#include "limits.h"
#include "names.h"
#include "session.h"

#include <connpipe/cause.h>
#include <connpipe/counter.h>
#include <connpipe/loop.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct balance;
struct pipe;
struct pipe_setup;
struct conn_task;

/** What workers count; made once by the main task. */
struct worker_counters {
	cp_counter accepted, open, opened, bytes_in, bytes_out, accept_errors, accept_pauses, handed_over;
	cp_counter closed[CP_CAUSE_COUNT];
};

/** The settings that connections need at any time: of the generation in use. */
struct worker_settings {
	__typeof__(((struct process_settings *)0)->limits) limits;
	__typeof__(((struct process_settings *)0)->timeouts) timeouts;
};

struct pipe_list {
	struct pipe **at;
	size_t count, room;
};

struct worker {
	struct cp_loop *loop;
	uint32_t index, count; /* this one of how many */
	pthread_t thread;
	const struct worker_counters *counters;
	struct limits *limits; /* shared by all workers */
	struct worker_settings settings;

	struct plan *plan; /* in use; NULL before the first and after stopping */
	struct conn_task *conns;
	struct pipe *pipes; /* all that are not closed */
	uint32_t pipe_count;
	struct sessions sessions;       /* those of them */
	uint64_t serial;                /* pipes so far */
	uint64_t handed_over, received; /* connections to and from other workers (see conn_task.h) */

	struct cp_deferred after; /* end of the turn: what goes on in the next one, what can be freed */
	struct pipe_list pending;
	struct pipe *dead;
	struct pipe_setup *free_setups;
	uint32_t free_setup_count;
	struct pool pipe_pool, timer_pool; /* struct pipe, struct pipe_timer */
	struct names_cache names;          /* made of addresses of `plan` */

	/* One descriptor is kept back: a connection that was accepted with the last one can still reach its target. */
	int reserve;
	bool starved; /* out of descriptors: not accepting until one can be kept back again */
	struct cp_timer starved_timer;

	bool started;                           /* the thread runs */
	void (*drained)(struct worker *worker); /* draining: called once when the last pipe has ended */

	/* Set by the main task before the thread starts: */
	struct balance *balance; /* shared by all workers */
	/* NULL: nobody asks */
	void (*pipe_closed)(struct worker *worker, const struct pipe *pipe, enum cp_cause cause, const char *detail);
};

/** Make and start worker `index` of `count`. Main task. */
struct worker *worker_new(uint32_t index, uint32_t count, const struct worker_counters *counters, struct limits *limits,
						  struct cp_error *error);
int worker_start(struct worker *worker, struct cp_error *error);
/** Have its loop end. Every plan and pipe is gone already. Main task. */
void worker_end(struct worker *worker);
/** Join and free. Main task. */
void worker_free(struct worker *worker);

/* ---- Called on the worker's thread -------------------------------------------------------------------------- */

/** Use another plan: conn tasks start and stop, the others go on with the new one. Takes a reference. */
void worker_use_plan(struct worker *worker, struct plan *plan);
/** Use no plan any more: nothing more is accepted. @param take  what has connected already is still taken */
void worker_stop_accepting(struct worker *worker, bool take);
/** Close every pipe. */
void worker_close_pipes(struct worker *worker, enum cp_cause cause);
/** Call `drained` when the last pipe has ended. No worker accepts any more, and what they handed over is here. */
void worker_drain(struct worker *worker, void (*drained)(struct worker *worker));

/** A pipe begins: from now on the worker knows it. */
void worker_add(struct worker *worker, struct pipe *pipe);

/** Flow `i` of the pipe goes on in the next turn. */
void worker_pending(struct worker *worker, struct pipe *pipe, int i);
/** The pipe is closed: free it after the turn. */
void worker_dead(struct worker *worker, struct pipe *pipe);

/** Out of descriptors: stop accepting until there are some again. */
void worker_starved(struct worker *worker);
/** Out of descriptors on the way to a target: likewise, and give the one that is kept back.
 * @return whether there was one: try again */
bool worker_give_reserve(struct worker *worker);

/** A setup to use, and back. */
struct pipe_setup *worker_setup_get(struct worker *worker);
void worker_setup_put(struct worker *worker, struct pipe_setup *setup);

#endif
