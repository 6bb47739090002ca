/** A loop's own side: one thread's event base with what hangs on it. See connpipe/loop.h for its services. */
#ifndef LOOP_LOOP_H
#define LOOP_LOOP_H

#include <connpipe/error.h>
#include <connpipe/loop.h>

#include <stdbool.h>
#include <stdint.h>

struct event_base;
struct loop_wheel;
struct loop_inbox;
struct loop_resolver;

enum { LOOP_BUFFER = 65536 };

struct cp_loop {
	struct event_base *base;
	uint32_t index;
	bool running;    /* in loop_run() */
	bool stopping;   /* loop_run() ends after this turn */
	uint64_t now;    /* what cp_loop_now() has read in this turn; 0: nothing yet */
	char *buffer;    /* LOOP_BUFFER bytes that any code of this thread may use between two calls */
	int64_t *counts; /* one slot for each counter; written here, read (relaxed atomics) by any thread */
	struct cp_deferred *deferred, **deferred_end;
	struct loop_wheel *wheel;
	struct loop_inbox *inbox;                   /* calls posted by other threads */
	struct loop_resolver *resolver;             /* made at the first look-up */
	struct stream_store *streams;               /* src/stream: what streams share; made there when needed */
	void (*free_streams)(struct cp_loop *loop); /* by loop_free(), if there are any */
	void *owner;                                /* the worker, or the main task */
	struct cp_loop *next_ended;                 /* see loop_free() */
};

/** @param index  0 … workers-1, or CP_LOOP_MAIN. The event base has EVENT_BASE_FLAG_NOLOCK. */
struct cp_loop *loop_new(uint32_t index, struct cp_error *error);
/** Run on the calling thread (which becomes the loop's) until loop_stop(). May be run again after that. */
void loop_run(struct cp_loop *loop);
/** End loop_run() after this turn; before it runs: after no turn. On the loop's own thread. */
void loop_stop(struct cp_loop *loop);
/** Calls still posted are dropped; deferred ones are run; timers and look-ups end without a call. After loop_run() has
 * returned. The few bytes of `struct cp_loop` stay for the life of the process, so that a late cp_post() from any
 * thread finds the loop ended instead of memory that is gone. */
void loop_free(struct cp_loop *loop);

/** Make loops known to cp_loop_main(), cp_worker_loop(). While no worker runs; again for another run in the same
 * process. The list is copied; NULL and 0 forget. */
void loop_set_main(struct cp_loop *loop);
void loop_set_workers(struct cp_loop *const *loops, uint32_t count);
/** What cp_socket_limit() says. */
void loop_set_socket_limit(uint64_t limit);

/** The pool of cp_blocking(): threads are made when they are first needed. Stop runs what was accepted, joins the
 * threads, and refuses from then on, until blocking_start() opens it again (it is open at first). */
void blocking_start(void);
void blocking_stop(void);

/** Prepare libraries that need it once in a process (c-ares), and tidy up. */
int resolver_library_init(struct cp_error *error);
void resolver_library_deinit(void);
/** Ask these name servers instead of the system's: `address[:port]`, comma-separated; NULL: the system's again. Holds
 * from each loop's next look-up on; called while no other thread looks anything up. For tests. */
void resolver_set_servers(const char *servers);

#endif
