/** Balance: how loaded each worker is, and which one the next connection should go to.
 *
 * The kernel spreads connections over the workers' sockets by a hash, whatever the workers are doing; of a socket that
 * all share, whoever wakes first takes most. So a worker that has accepted a connection hands it over when another one
 * is clearly less loaded (conn_task.c). Two things are load:
 *
 *     busy    the share of time that the worker's thread was running, measured. What counts, where there is work.
 *     pipes   connections that are open there, or on their way. What counts between workers that are equally busy:
 *             thousands of quiet connections are work to come.
 *
 * Nothing runs for this while nothing is accepted: who accepts looks at the clocks of all threads when the last look is
 * SAMPLE_MS old. Between two looks every connection handed over is expected to cost what those of its sender did on
 * average, so that not everything goes to one worker until the next look.
 *
 * Thread: any, where nothing else is said; numbers are relaxed atomics, a line of the cache for each worker. */
#ifndef TASK_BALANCE_H
#define TASK_BALANCE_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct balance;

/** Unit of `busy`, parts per million: fine enough for the cost of one connection among ten thousand. */
enum { BALANCE_FULL = 1000000 };

/** Load of one worker. */
struct balance_load {
	uint32_t busy;     /* of BALANCE_FULL */
	uint32_t pipes;    /* open, and on their way there */
	uint32_t arriving; /* … of these, on their way */
};

/** For workers 0 … `workers` - 1, with nothing to do so far. */
struct balance *balance_new(uint32_t workers);
void balance_free(struct balance *balance);

/** Its thread runs: what a look will measure. Before the worker accepts; the clock may end before the balance does. */
void balance_set_clock(struct balance *balance, uint32_t worker, clockid_t clock);
/** It has `open` pipes now, and has begun `begun` so far. The worker's thread. */
void balance_set_pipes(struct balance *balance, uint32_t worker, uint32_t open, uint64_t begun);

/** The worker that a connection accepted by `own` should go to: `own`, unless the least loaded one is to be preferred
 * by balance_is_uneven(). The thread of `own`. @param now_ms  cp_loop_now() */
uint32_t balance_choose(struct balance *balance, uint32_t own, uint64_t now_ms);
/** A connection goes from one worker to another, and has got there. */
void balance_sent(struct balance *balance, uint32_t from, uint32_t to);
void balance_arrived(struct balance *balance, uint32_t to);

/** Whether `own` carries so much more than `other` that handing a connection over is worth its price (waking another
 * thread, and caches that are cold there). */
bool balance_is_uneven(const struct balance_load *own, const struct balance_load *other);

/** Look at all clocks, if the last look is SAMPLE_MS old. */
void balance_look(struct balance *balance, uint64_t now_ms);
/** What a look found: the time that each worker's thread has run so far, and the time since the look before. One thread
 * at a time. For balance_look(), and for tests. */
void balance_update(struct balance *balance, const uint64_t *run_ns, uint64_t elapsed_ns);

/** What the last look measured, of BALANCE_FULL, and the milliseconds between it and the one before: for people. */
uint32_t balance_measured(const struct balance *balance, uint32_t worker);
uint32_t balance_measured_ms(const struct balance *balance);

#endif
