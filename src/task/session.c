#include "session.h"

#include "pipe.h"
#include "worker.h"

#include <connpipe/log.h>

#include <stddef.h>
#include <string.h>

enum {
	ASKED_AT_ONCE = 64,   /* routers, in one turn */
	REFUSALS_LOGGED = 20, /* in a second, on a worker */
};

struct session {
	struct pipe pipe;              /* first */
	struct session *next, **prev;  /* the worker's list */
	const struct binding *binding; /* in the worker's plan: where it came in; NULL: not bound there */
	struct cp_peer local;          /* where the client sends to, if the connector said so */
};

static struct session *session_of(struct pipe *pipe)
{
	return (struct session *)pipe;
}

/* ---- Life --------------------------------------------------------------------------------------------------- */

struct pipe *session_new(struct worker *w, const struct binding *binding, const struct cp_accepted *accepted)
{
	w->sessions.pool.bytes = sizeof(struct session);
	struct session *s = pool_take(&w->sessions.pool);
	s->pipe.is_session = true;
	s->local = accepted->local;
	/* One that was handed over may come under an earlier plan. */
	s->binding = binding->plan == w->plan ? binding : w->plan ? plan_find(w->plan, binding->key) : NULL;
	s->next = w->sessions.first;
	s->prev = &w->sessions.first;
	if (s->next)
		s->next->prev = &s->next;
	w->sessions.first = s;
	return &s->pipe;
}

void session_closed(struct pipe *p)
{
	struct session *s = session_of(p);
	struct sessions *sessions = &p->worker->sessions;
	if (sessions->unasked == s)
		sessions->unasked = s->next;
	*s->prev = s->next;
	if (s->next)
		s->next->prev = s->prev;
}

bool session_refusal_is_logged(struct pipe *p)
{
	struct sessions *sessions = &p->worker->sessions;
	uint64_t second = cp_loop_now(p->worker->loop) / 1000;
	if (second != sessions->logged_second) {
		if (sessions->unlogged)
			cp_log(CP_WARN, "worker", "worker %u: %u more sessions were refused within a second",
				   (unsigned)p->worker->index, (unsigned)sessions->unlogged);
		sessions->logged_second = second;
		sessions->logged = sessions->unlogged = 0;
	}
	if (sessions->logged < REFUSALS_LOGGED)
		sessions->logged++;
	else
		sessions->unlogged++;
	return sessions->unlogged == 0;
}

void session_free(struct pipe *p)
{
	pool_give(&p->worker->sessions.pool, session_of(p));
}

/* ---- Whether the route is gone ------------------------------------------------------------------------------ */

/** The incoming address as the new generation reads it, in the request's arena. @return NULL: it does not */
static const struct cp_address *read_address(const struct session *s, struct cp_request *request)
{
	const struct pipe *p = &s->pipe;
	const struct cp_address *address;
	struct cp_error error;
	char text[PIPE_TEXT];
	if (p->setup)
		cp_address_print(p->setup->request.accepted, text, sizeof(text));
	const char *incoming = p->setup ? text : pipe_incoming(p);
	if (strcmp(incoming, s->binding->text) == 0)
		return s->binding->address;
	int result =
		cp_address_parse(request->scope, cp_request_arena(request), incoming, strlen(incoming), 0, &address, &error);
	return result == CP_OK ? address : NULL;
}

static void on_routing_changed(struct routing *routing)
{
	(void)routing; /* it is cancelled before that */
}

/** Whether a session that was sent to all these would not come to be. */
static bool all_refuse(const struct cp_answer *answer)
{
	for (uint32_t i = 0; i < answer->target_count; i++)
		if (!(answer->targets[i]->connector->def->flags & CP_CONNECTOR_REFUSES))
			return false;
	return true;
}

/** Ask the router of the plan in use, which sees no bytes. Targets, an answer that comes later, a failure: all are a
 * route. */
static bool is_refused(struct pipe_setup *question, struct cp_router *router)
{
	struct routing *routing = &question->routing;
	int result = routing_start(routing, &question->request, router, on_routing_changed, NULL);
	if (result == CP_AGAIN)
		routing_cancel(routing);
	if (result == CP_OK)
		return all_refuse(&routing->answer);
	return result != CP_AGAIN && (routing->cause == CP_CAUSE_NO_ROUTE || routing->cause == CP_CAUSE_REFUSED_BY_ROUTER);
}

static bool has_lost_route(const struct session *s)
{
	const struct pipe *p = &s->pipe;
	struct worker *w = p->worker;
	struct pipe_setup *question = worker_setup_get(w);
	struct cp_request *request = &question->request;
	request_init(request, w->loop, w->plan->generation->scope, s->binding->address, &p->peer);
	request->local = s->local;
	request->binding = s->binding;
	const struct cp_address *address = read_address(s, request);
	bool lost = false;
	if (address) {
		struct cp_router *router = binding_router_for(s->binding, address);
		request->address = request->accepted = address;
		lost = !router || is_refused(question, router);
	}
	worker_setup_put(w, question);
	return lost;
}

/* ---- Another plan ------------------------------------------------------------------------------------------- */

/** One that is about to close has its cause already. */
static void end(struct session *s, const char *why)
{
	if (s->pipe.state != PIPE_CLOSING)
		pipe_close(&s->pipe, CP_CAUSE_REROUTED, why);
}

static void ask_some(struct worker *w);

static void on_deferred(struct cp_deferred *deferred)
{
	ask_some((struct worker *)((char *)deferred - offsetof(struct worker, sessions.deferred)));
}

static void ask_some(struct worker *w)
{
	struct sessions *sessions = &w->sessions;
	for (int i = 0; i < ASKED_AT_ONCE && sessions->unasked; i++) {
		struct session *s = sessions->unasked;
		sessions->unasked = s->next;
		if (s->binding && has_lost_route(s))
			end(s, "its route is gone");
	}
	if (sessions->unasked)
		cp_defer(w->loop, &sessions->deferred, on_deferred);
}

static bool reroutes(const struct binding *binding)
{
	const struct cp_connector_def *def = binding->address->connector->def;
	return def->size >= offsetof(struct cp_connector_def, reroutes) + sizeof(def->reroutes) && def->reroutes &&
		   def->reroutes(binding->address);
}

/** What becomes of the sessions of one socket. */
struct fate {
	const struct binding *from, *to;
	const char *end; /* why they end; NULL: they go on */
};

static struct fate fate_of(const struct worker *w, const struct binding *from, bool reload)
{
	struct fate fate = {from, from ? plan_find(w->plan, from->key) : NULL, NULL};
	if (!fate.to)
		fate.end = "its address is not bound any more";
	else if (reload && reroutes(fate.to))
		fate.end = "its address is set so";
	return fate;
}

void sessions_use_plan(struct worker *w, const struct plan *old)
{
	struct session *s = w->sessions.first, *next;
	bool reload = !old || old->generation != w->plan->generation;
	struct fate fate = {0};
	for (bool known = false; s; s = next, known = true) {
		next = s->next;
		if (!known || s->binding != fate.from) /* many of one socket are in a row */
			fate = fate_of(w, s->binding, reload);
		s->binding = fate.to;
		if (fate.end)
			end(s, fate.end);
	}
	if (!reload)
		return;
	w->sessions.unasked = w->sessions.first;
	ask_some(w);
}

void sessions_stop(struct worker *w)
{
	w->sessions.unasked = NULL;
	for (struct session *s = w->sessions.first; s; s = s->next)
		s->binding = NULL;
}
