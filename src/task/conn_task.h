/** Conn task: one bound address on one worker. Accepts connections and hands them to pipe tasks, on this worker or on
 * one that has less to do (balance.h); pauses when descriptors run out; opens its socket again after an error. Thread:
 * the worker's. */
#ifndef TASK_CONN_TASK_H
#define TASK_CONN_TASK_H

#include "../route/plan.h"

#include <connpipe/connector.h>

#include <stdbool.h>

struct worker;

/** X(name, text, meaning)
 *
 *     opening ─▶ accepting ─▶ paused ─▶ accepting
 *        ▲           │
 *        └─ broken ◀─┘           any ─▶ closed (conn_task_stop)
 */
#define CONN_STATES(X)                                                         \
	X(CONN_OPENING, "opening", "about to listen")                              \
	X(CONN_ACCEPTING, "accepting", "takes connections")                        \
	X(CONN_PAUSED, "paused", "no descriptors: connections wait in the kernel") \
	X(CONN_BROKEN, "broken", "the socket failed: opened again after a pause that doubles up to a minute")

enum conn_state {
#define CONN_STATE_ENUM(name, text, meaning) name,
	CONN_STATES(CONN_STATE_ENUM)
#undef CONN_STATE_ENUM
};

struct conn_task {
	struct conn_task *next; /* the worker's list */
	struct worker *worker;
	struct cp_listener *listener;  /* bound by the main task, outlives this */
	const struct binding *binding; /* in the plan in use: what its connections are routed by */
	struct cp_acceptor *acceptor;
	struct cp_timer retry;
	uint64_t retry_ms;
	uint64_t id;
	enum conn_state state;
};

/** Begin to accept. `binding` belongs to the worker's plan. */
struct conn_task *conn_task_start(struct worker *worker, const struct binding *binding);
/** Go on under another plan. */
void conn_task_use(struct conn_task *conn, const struct binding *binding);
/** The address goes. What has connected already is still taken if `drain`; then the socket is closed. Frees the task.
 */
void conn_task_stop(struct conn_task *conn, bool drain);

void conn_task_pause(struct conn_task *conn);
void conn_task_resume(struct conn_task *conn);

#endif
