/* What is common to a pipe in all its states: its texts for logs, and the one way to close it. */
#include "pipe.h"

#include "../base/arena.h"
#include "../base/log.h"
#include "../base/memory.h"
#include "../loop/loop.h"
#include "session.h"
#include "worker.h"

#include <connpipe/log.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- States and texts --------------------------------------------------------------------------------------- */

const char *pipe_state_text(enum pipe_state state)
{
	static const char *const texts[] = {
#define PIPE_STATE_TEXT(name, text, meaning) text,
		PIPE_STATES(PIPE_STATE_TEXT)
#undef PIPE_STATE_TEXT
	};
	return texts[state];
}

void pipe_enter(struct pipe *p, enum pipe_state state)
{
	if (cp_log_enabled(CP_DEBUG))
		cp_log_task(CP_DEBUG, "pipe", p->id, "%s -> %s", pipe_state_text(p->state), pipe_state_text(state));
	p->state = (uint8_t)state;
}

const char *pipe_incoming(const struct pipe *p)
{
	return p->names ? p->names->text : "";
}

const char *pipe_router(const struct pipe *p)
{
	return p->names ? p->names->text + p->names->router : "";
}

const char *pipe_target(const struct pipe *p)
{
	return p->names ? p->names->text + p->names->target : "";
}

/** Whether a client has asked for a path: there may be as many as clients can think of. */
static bool has_path(const struct cp_address *address)
{
	const struct cp_connector_def *def = address->connector->def;
	for (uint32_t i = 0; i < address->fields.count; i++)
		if (def->fields[i].role == CP_ROLE_PATH && def->fields[i].optional)
			return address->fields.at[i].value.kind != CP_NULL;
	return false;
}

/** What the names are made of, if that lives as long as the worker uses its plan. */
static bool names_key(const struct pipe_setup *s, struct names_key *key)
{
	const struct cp_arena *arena = s->request.arena;
	*key = (struct names_key){s->binding->address, s->target, s->router, "", 0};
	if (s->request.accepted != s->binding->address && has_path(s->request.accepted))
		return false;
	if (s->named)
		key->subport = cp_address_multiplex(s->named, &key->subport_length);
	return !arena || (!arena_owns(arena, key->incoming) && !arena_owns(arena, key->target));
}

void pipe_keep_names(struct pipe *p)
{
	const struct pipe_setup *s = p->setup;
	struct worker *w = p->worker;
	struct names_key key;
	names_put(p->names);
	if (s->plan == w->plan && names_key(s, &key))
		p->names = names_get(&w->names, &key, s->request.accepted);
	else
		p->names = names_new(s->request.accepted, s->router, s->target);
}

void pipe_describe(const struct pipe *p, char *text, size_t room)
{
	char peer[CP_PEER_TEXT];
	const char *router = pipe_router(p), *target = pipe_target(p);
	cp_peer_print(&p->peer, peer, sizeof(peer));
	snprintf(text, room, "%s from %s%s%s%s%s", pipe_incoming(p), peer, *router ? " by " : "", router,
			 *target ? " to " : "", target);
}

/* ---- The timer ---------------------------------------------------------------------------------------------- */

static void on_timer(struct cp_timer *timer)
{
	struct pipe *p = ((struct pipe_timer *)timer)->pipe;
	pipe_timer_stop(p);
	pipe_timed_out(p);
}

void pipe_timer_start(struct pipe *p, uint64_t ms)
{
	if (!p->timer) {
		p->timer = pool_take(&p->worker->timer_pool);
		p->timer->pipe = p;
		cp_timer_init(&p->timer->timer, p->worker->loop, on_timer);
	}
	cp_timer_start(&p->timer->timer, ms);
}

void pipe_timer_stop(struct pipe *p)
{
	if (!p->timer)
		return;
	cp_timer_stop(&p->timer->timer);
	pool_give(&p->worker->timer_pool, p->timer);
	p->timer = NULL;
}

/* ---- Closing ------------------------------------------------------------------------------------------------ */

static void log_closed(struct pipe *p, enum cp_cause cause, const char *detail)
{
	char text[3 * PIPE_TEXT];
	uint64_t ms = cp_loop_now(p->worker->loop) - p->opened;
	if (!cp_log_enabled(CP_INFO) && !p->worker->pipe_closed)
		return;
	if (p->setup && p->is_session && !session_refusal_is_logged(p))
		return;
	if (p->setup)
		pipe_keep_names(p);
	pipe_describe(p, text, sizeof(text));
	cp_log_task(CP_INFO, "pipe", p->id,
				"closed: %s: %" PRIu64 " bytes in, %" PRIu64 " bytes out, %" PRIu64 ".%03" PRIu64 " s, %s%s%s", text,
				p->flow[0].bytes, p->flow[1].bytes, ms / 1000, ms % 1000, cp_cause_text(cause), detail ? ": " : "",
				detail ? detail : "");
}

void pipe_setup_end(struct pipe *p)
{
	struct pipe_setup *s = p->setup;
	struct plan *plan = s->plan;
	p->setup = NULL;
	worker_setup_put(p->worker, s);
	plan_unref(plan);
}

static void cancel_setup(struct pipe *p)
{
	switch ((enum pipe_state)p->state) {
	case PIPE_HANDSHAKE:
	case PIPE_CONNECTING:
		opening_cancel(&p->setup->opening);
		break;
	case PIPE_ROUTING:
		if (p->setup->routing.result == CP_AGAIN) /* otherwise it has ended, or nobody was asked */
			routing_cancel(&p->setup->routing);
		break;
	case PIPE_ACCEPTED:
	case PIPE_PREAMBLE:
	case PIPE_PIPING:
	case PIPE_CLOSING:
	case PIPE_CLOSED:
		break;
	}
}

void pipe_close(struct pipe *p, enum cp_cause cause, const char *detail)
{
	struct worker *w = p->worker;
	if (p->state == PIPE_CLOSED)
		return;
	if (p->setup)
		cancel_setup(p);
	pipe_timer_stop(p);
	pump_release(p);
	for (int i = 0; i < 2; i++) {
		if (p->end[i])
			cp_stream_close(p->end[i], cause);
		p->end[i] = NULL;
	}
	log_closed(p, cause, detail);
	p->cause = (uint8_t)cause;
	pipe_enter(p, PIPE_CLOSED);
	cp_count(w->loop, w->counters->closed[cause], 1);
	cp_count(w->loop, w->counters->open, -1);
	limits_leave(w->limits, pipe_total(p));
	if (p->counted_source)
		limits_source_leave(w->limits, &p->peer.ip);
	if (w->pipe_closed)
		w->pipe_closed(w, p, cause, detail);
	if (p->is_session)
		session_closed(p);
	if (p->setup)
		pipe_setup_end(p);
	worker_dead(w, p);
}

void pipe_free(struct pipe *p)
{
	names_put(p->names);
	if (p->is_session)
		session_free(p);
	else
		pool_give(&p->worker->pipe_pool, p);
}

void pipe_setup_free(struct pipe_setup *s)
{
	request_deinit(&s->request);
	free(s);
}
