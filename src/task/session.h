/** Sessions: pipes whose client end came from a connector with CP_CONNECTOR_SESSIONS (udp), for which nothing that the
 * network tells is a beginning or an end. They are counted by limits.udp_sessions and end after timeouts.udp_idle.
 *
 * They may go on for ever, and whoever is at the other end would not notice a new one: so, unlike connections, they are
 * looked at when the worker goes over to another plan.
 *
 *     its address is not bound any more         ─▶ closed (CP_CAUSE_REROUTED)
 *     a reload, its connector's `reroutes` asks ─▶ closed
 *     a reload, its route is gone               ─▶ closed: nobody serves it, or who does refuses it at once
 *     else                                      ─▶ goes on, with its target and its port there
 *
 * The client's next datagram begins a new one, which is routed by the new plan. Thread: the worker's. */
#ifndef TASK_SESSION_H
#define TASK_SESSION_H

#include "../base/pool.h"
#include "../route/plan.h"

#include <connpipe/connector.h>

#include <stdbool.h>

struct pipe;
struct session;
struct worker;

/** What a worker has of them. */
struct sessions {
	struct session *first;
	struct session *unasked;     /* behind a reload: from this one on their routes are still to be looked for */
	struct cp_deferred deferred; /* which goes on in the next turn: routers may take their time */
	struct pool pool;
	uint64_t logged_second; /* in which refusals are counted */
	uint32_t logged, unlogged;
};

/** Whether what is accepted on the socket are sessions. */
static inline bool session_is_made_by(const struct binding *binding)
{
	return binding->address->connector->def->flags & CP_CONNECTOR_SESSIONS;
}

/** A pipe for one that was accepted under `binding`, zeroed but for is_session. */
struct pipe *session_new(struct worker *worker, const struct binding *binding, const struct cp_accepted *accepted);
/** The pipe closes. */
void session_closed(struct pipe *pipe);
void session_free(struct pipe *pipe);
/** Whether the refusal of one gets its line in the log. One datagram with a made up source is enough for a session: so
 * there are some lines a second, and then one for how many there were. */
bool session_refusal_is_logged(struct pipe *pipe);

/** The worker has gone over to its plan from `old` (NULL: from none), which is still there. */
void sessions_use_plan(struct worker *worker, const struct plan *old);
/** The worker's plan goes, and none comes. */
void sessions_stop(struct worker *worker);

#endif
