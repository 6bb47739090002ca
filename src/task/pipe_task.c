/* The pipe task: one connection from accepting to an open way. What happens then is in pump.c.
 *
 *     pipe_start ─▶ handshake ─▶ handshaken ─▶ preamble ─▶ route ─▶ routed ─▶ connect_next ─▶ connected ─▶ pump_start
 *                                   │             ▲           ▲                    ▲   │
 *                                   │             └─ on_first_bytes (more bytes) ──┘   └─ next target after a failure
 *                                   └─ subports? else straight on
 *
 * In the common case all of this happens in one go, in the call that accepted the connection, with the client's first
 * bytes in the loop's buffer (first_bytes.h). Connecting is in pipe_connect.c. */
#include "first_bytes.h"
#include "pipe.h"

#include "../base/memory.h"
#include "../stream/preamble.h"
#include "session.h"
#include "worker.h"

#include <stddef.h>

static void on_first_bytes(struct pipe *p);
static void route(struct pipe *p);
static void routed(struct pipe *p, int result);

/* ---- Preamble ----------------------------------------------------------------------------------------------- */

static void found_subport(struct pipe *p, const struct preamble *preamble)
{
	struct pipe_setup *s = p->setup;
	const struct cp_address *address = cp_address_with_multiplex(s->request.address, cp_request_arena(&s->request),
																 preamble->name, preamble->name_length);
	if (address)
		s->request.address = s->request.accepted = s->named = address;
	s->first_offset = preamble->length;
	s->request.sniff_since = 0; /* it was not silent: what is behind the preamble has its own time */
	route(p);
}

static enum preamble_result read_preamble(struct pipe *p, struct preamble *preamble)
{
	const struct pipe_setup *s = p->setup;
	*preamble = (struct preamble){0};
	return preamble_read(s->first ? s->first : "", s->first_length, p->worker->settings.limits.subport_length,
						 preamble);
}

/** No more bytes come, or not in time: what is there has to do. */
static void preamble_over(struct pipe *p)
{
	struct pipe_setup *s = p->setup;
	struct preamble preamble;
	if (read_preamble(p, &preamble) == PREAMBLE_FOUND)
		found_subport(p, &preamble);
	else if (preamble_begun(s->first ? s->first : "", s->first_length))
		pipe_close(p, CP_CAUSE_MALFORMED_PREAMBLE, "it is cut short");
	else
		route(p);
}

static void await_preamble(struct pipe *p)
{
	if (first_complete(p->setup)) {
		preamble_over(p);
		return;
	}
	first_keep(p);
	first_await(p);
}

/** A message that so far is nothing but a preamble: if nothing more comes to it, it is not passed on. */
static bool is_undecided(const struct pipe_setup *s, const struct preamble *preamble)
{
	return s->first_message && preamble->length == s->first_length && !first_complete(s);
}

static void look_for_preamble(struct pipe *p)
{
	struct preamble preamble;
	switch (read_preamble(p, &preamble)) {
	case PREAMBLE_ABSENT:
		route(p);
		break;
	case PREAMBLE_FOUND:
		if (is_undecided(p->setup, &preamble))
			await_preamble(p);
		else
			found_subport(p, &preamble);
		break;
	case PREAMBLE_MALFORMED:
		pipe_close(p, CP_CAUSE_MALFORMED_PREAMBLE, preamble.reason);
		break;
	case PREAMBLE_MORE:
		await_preamble(p);
		break;
	}
}

/* ---- From accepting to routing ------------------------------------------------------------------------------ */

static void on_client_ready(struct cp_stream *stream, unsigned events, void *arg)
{
	struct pipe *p = arg;
	(void)stream;
	if (events & CP_RECALL)
		cp_stream_restore(p->end[0]);
	if (!(events & CP_READABLE))
		return;
	p->setup->armed = false;
	if (p->state == PIPE_CONNECTING)
		return; /* the first bytes are lent to the connector; the pump reads on */
	if (first_read(p))
		on_first_bytes(p);
}

/** More of the client's bytes are there, or its end. */
static void on_first_bytes(struct pipe *p)
{
	struct pipe_setup *s = p->setup;
	switch ((enum pipe_state)p->state) {
	case PIPE_PREAMBLE:
		look_for_preamble(p);
		break;
	case PIPE_ROUTING:
		first_show(s);
		if (s->routing.wanting_bytes && (s->request.peeked_length >= s->wanted || s->request.peeked_end))
			routed(p, routing_bytes(&s->routing));
		break;
	case PIPE_ACCEPTED:
	case PIPE_HANDSHAKE:
	case PIPE_CONNECTING:
	case PIPE_PIPING:
	case PIPE_CLOSING:
	case PIPE_CLOSED:
		break;
	}
}

/** The client's stream is whole: its layers are on. Limits count who it really is. */
static bool allowed(struct pipe *p)
{
	struct worker *w = p->worker;
	uint32_t most = w->settings.limits.connections_per_source, rate = w->settings.limits.connect_rate_per_source;
	if (p->peer.ip.family == 0 || (most == 0 && rate == 0))
		return true;
	enum cp_cause cause = limits_source_enter(w->limits, &p->peer.ip, most, rate, cp_loop_now(w->loop));
	p->counted_source = cause == CP_CAUSE_NONE;
	if (cause != CP_CAUSE_NONE)
		pipe_close(p, cause, NULL);
	return cause == CP_CAUSE_NONE;
}

static void handshaken(struct pipe *p)
{
	struct pipe_setup *s = p->setup;
	pipe_timer_stop(p);
	p->peer = *cp_request_peer(&s->request);
	cp_stream_set_user(p->end[0], on_client_ready, p);
	s->in_one_go = true;
	if (!allowed(p) || !first_read(p))
		return;
	if (!binding_subports(s->binding, binding_part_for(s->binding, s->request.address))) {
		route(p);
		return;
	}
	pipe_enter(p, PIPE_PREAMBLE);
	s->request.sniff_since = cp_loop_now(p->worker->loop); /* a client that is silent here was so for sniffing, too */
	if (p->worker->settings.timeouts.preamble)
		pipe_timer_start(p, p->worker->settings.timeouts.preamble);
	look_for_preamble(p);
}

static enum cp_cause handshake_cause(enum cp_err code)
{
	return code == CP_EPROTO                        ? CP_CAUSE_CLIENT_PROTOCOL
		   : code == CP_EMFILE || code == CP_ENOMEM ? CP_CAUSE_NO_RESOURCES
													: CP_CAUSE_CLIENT_GONE;
}

static void on_handshake(struct opening *opening)
{
	struct pipe *p = opening->arg;
	p->end[0] = opening->open.stream;
	if (opening->open.error.code == CP_OK)
		handshaken(p);
	else
		pipe_close(p, handshake_cause(opening->open.error.code), opening->open.error.message);
}

static void put_layers_on(struct pipe *p, struct cp_stream *stream)
{
	struct opening *o = &p->setup->opening;
	const struct cp_address *address = p->setup->binding->address;
	uint64_t timeout = p->worker->settings.timeouts.handshake;
	pipe_enter(p, PIPE_HANDSHAKE);
	if (timeout)
		pipe_timer_start(p, timeout);
	o->finished = on_handshake;
	o->arg = p;
	if (opening_accept(o, p->worker->loop, address, &p->setup->request, timeout, stream) != CP_AGAIN)
		on_handshake(o);
}

void pipe_timed_out(struct pipe *p)
{
	switch ((enum pipe_state)p->state) {
	case PIPE_HANDSHAKE:
		pipe_close(p, CP_CAUSE_HANDSHAKE_TIMEOUT, NULL);
		break;
	case PIPE_PREAMBLE:
		preamble_over(p);
		break;
	case PIPE_ROUTING: /* only runs while bytes are waited for: what is there has to do */
		routed(p, routing_timeout(&p->setup->routing));
		break;
	case PIPE_PIPING:
	case PIPE_CLOSING:
		pump_timer(p);
		break;
	case PIPE_ACCEPTED:
	case PIPE_CONNECTING:
	case PIPE_CLOSED:
		break;
	}
}

static struct pipe *pipe_new(struct worker *w, const struct binding *binding, const struct cp_accepted *accepted)
{
	struct pipe *p = session_is_made_by(binding) ? session_new(w, binding, accepted) : pool_take(&w->pipe_pool);
	p->worker = w;
	p->id = w->serial++ * w->count + w->index + 1;
	p->peer = accepted->peer;
	p->opened = p->active = cp_loop_now(w->loop);
	worker_add(w, p);
	cp_count(w->loop, w->counters->accepted, 1);
	cp_count(w->loop, w->counters->open, 1);
	return p;
}

static void no_client_yet(struct cp_stream *stream, unsigned events, void *arg)
{
	(void)stream, (void)events, (void)arg;
}

/** Count it in all. @return why it is one too many, or CP_CAUSE_NONE */
static enum cp_cause enter_limits(const struct pipe *p)
{
	struct worker *w = p->worker;
	bool allowed = p->is_session ? limits_enter(w->limits, LIMITS_SESSIONS, w->settings.limits.udp_sessions)
								 : limits_enter(w->limits, LIMITS_CONNECTIONS, w->settings.limits.connections);
	if (allowed)
		return CP_CAUSE_NONE;
	limits_enter(w->limits, pipe_total(p), 0); /* pipe_close() gives it back */
	return p->is_session ? CP_CAUSE_SESSION_LIMIT : CP_CAUSE_CONNECTION_LIMIT;
}

void pipe_start(struct worker *w, struct plan *plan, const struct binding *binding, const struct cp_accepted *accepted)
{
	struct pipe *p = pipe_new(w, binding, accepted);
	struct pipe_setup *s = p->setup = worker_setup_get(w);
	enum cp_cause refused = enter_limits(p);
	plan_ref(plan);
	s->plan = plan;
	s->binding = binding;
	request_init(&s->request, w->loop, plan->generation->scope, binding->address, &accepted->peer);
	s->request.silence_ms = w->settings.timeouts.preamble;
	s->request.binding = binding;
	s->request.socket = cp_stream_lend(accepted->stream, 0);
	s->request.local = accepted->local;
	cp_stream_set_user(accepted->stream, no_client_yet, NULL);
	if (refused != CP_CAUSE_NONE) {
		p->end[0] = accepted->stream;
		pipe_close(p, refused, NULL);
	} else if (opening_has_layers(binding->address)) {
		put_layers_on(p, accepted->stream);
	} else {
		p->end[0] = accepted->stream;
		handshaken(p);
	}
}

/* ---- Routing ------------------------------------------------------------------------------------------------ */

static void on_routing_changed(struct routing *routing)
{
	routed(routing->arg, routing->result);
}

static void route(struct pipe *p)
{
	struct pipe_setup *s = p->setup;
	struct cp_router *router = binding_router_for(s->binding, s->request.address);
	pipe_timer_stop(p);
	pipe_enter(p, PIPE_ROUTING);
	if (!router) {
		pipe_close(p, CP_CAUSE_NO_ROUTE,
				   cp_address_multiplex(s->request.address, NULL) ? "nobody serves this subport"
																  : "nobody serves it without a subport");
		return;
	}
	first_show(s);
	s->routing.request = NULL;
	routed(p, routing_start(&s->routing, &s->request, router, on_routing_changed, p));
}

/** What is left of timeouts.preamble: all waits that have no time of their own share it. @return 0: no limit */
static uint64_t preamble_left(struct pipe *p)
{
	struct pipe_setup *s = p->setup;
	uint64_t most = p->worker->settings.timeouts.preamble, now = cp_loop_now(p->worker->loop);
	if (!s->waiting_since)
		s->waiting_since = now;
	uint64_t elapsed = now - s->waiting_since;
	return most == 0 ? 0 : elapsed < most ? most - elapsed : 1;
}

/** The router wants to see more bytes. */
static void wait_for_bytes(struct pipe *p)
{
	struct pipe_setup *s = p->setup;
	const struct cp_answer *answer = &s->routing.answer;
	uint64_t timeout = answer->timeout_ms;
	if (timeout == 0 && answer->kind == CP_ANSWER_BYTES)
		timeout = preamble_left(p);
	pipe_timer_stop(p); /* of an earlier wait */
	if (timeout)
		pipe_timer_start(p, timeout);
	s->wanted = answer->bytes;
	first_await(p);
}

static void routed(struct pipe *p, int result)
{
	struct pipe_setup *s = p->setup;
	s->router = s->routing.router ? s->routing.router->id : NULL;
	if (result == CP_AGAIN) {
		first_keep(p);
		first_show(s);
		if (s->routing.wanting_bytes)
			wait_for_bytes(p);
		else
			pipe_timer_stop(p);
		return;
	}
	pipe_timer_stop(p);
	if (result != CP_OK) {
		pipe_close(p, s->routing.cause, s->routing.error.message[0] ? s->routing.error.message : NULL);
		return;
	}
	pipe_enter(p, PIPE_CONNECTING);
	s->target_index = 0;
	pipe_connect_next(p);
}
