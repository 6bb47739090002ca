/* Accepting for a connector of a script, on one worker.
 *
 *     below: ready ─▶ the core: accept_take ─▶ below: accept ─▶ no `accept` in the script ──────────────▶ taken
 *                                                │                                                          ▲
 *                                                └▶ greeting: accept(stream, request) runs ─▶ a stream ─▶ done
 *                                                                    └▶ nil and a reason, an error, too slow: closed
 *
 * Greetings are bounded: while there are as many as there may be, what comes waits in the kernel. A reload replaces the
 * acceptor; greetings that are under way then go on with the code that they began with, and what comes of them is taken
 * by the acceptor that this worker has for the same address now. */
#include "listen.h"

#include "request.h"
#include "stream.h"

#include <stdlib.h>
#include <string.h>

enum {
	GREETINGS_MOST = 1024, /* of one address on one worker */
	TAKEN_AT_ONCE = 64,
};

struct greeting;

/** A connection that the script has let in. */
struct let_in {
	struct let_in *next;
	struct cp_accepted accepted;
};

struct lua_acceptor {
	struct cp_acceptor base;   /* first */
	struct lua_acceptor *next; /* of this worker's open ones */
	struct lua_listener *listener;
	const struct declared *declared;
	struct vm *vm;
	struct cp_loop *loop;
	struct cp_arena *arena; /* the listener, with its own, may go before the last greeting */
	const struct cp_address *address;
	char *text;
	cp_acceptor_ready *ready;
	void *arg;
	struct cp_acceptor *below[LISTEN_MOST];
	uint32_t opened, current;
	bool paused; /* by the core */
	bool full;   /* by ourselves: GREETINGS_MOST */
	bool closed; /* freed when its last greeting is over */
	uint32_t greetings;
	struct greeting *first;
	struct let_in *done, **done_end;
	struct cp_deferred deferred;
};

struct greeting {
	struct greeting *next, **prev;
	struct lua_acceptor *acceptor;
	struct task *task;
	struct newcomer newcomer;
	struct cp_timer deadline;
};

static _Thread_local struct lua_acceptor *open_here;

static struct lua_acceptor *acceptor_of(struct cp_acceptor *base)
{
	return (struct lua_acceptor *)base;
}

static const struct cp_listener_ops *below_ops(const struct lua_acceptor *a, uint32_t index)
{
	return a->below[index]->listener->ops;
}

static bool is_full(const struct lua_acceptor *a)
{
	return a->greetings >= GREETINGS_MOST;
}

/* ---- What was let in ---------------------------------------------------------------------------------------- */

/** The one that takes connections for the same address on this worker now, which may be of a later load. */
static struct lua_acceptor *find_open(const struct lua_acceptor *a)
{
	if (!a->closed)
		return (struct lua_acceptor *)a;
	struct lua_acceptor *other = open_here;
	while (other &&
		   (strcmp(other->text, a->text) != 0 || strcmp(other->declared->script->id, a->declared->script->id) != 0))
		other = other->next;
	return other;
}

static void on_deferred(struct cp_deferred *deferred)
{
	struct lua_acceptor *a = (struct lua_acceptor *)((char *)deferred - offsetof(struct lua_acceptor, deferred));
	if (a->closed && a->greetings == 0) {
		cp_arena_free(a->arena);
		free(a->text);
		free(a);
	} else if (!a->closed && !a->paused && a->done) {
		a->ready(&a->base, a->arg);
	}
}

static void call_later(struct lua_acceptor *a)
{
	cp_defer(a->loop, &a->deferred, on_deferred);
}

static void put_done(struct lua_acceptor *from, const struct cp_accepted *accepted)
{
	struct lua_acceptor *a = find_open(from);
	if (!a) {
		cp_stream_close(accepted->stream, CP_CAUSE_SHUTDOWN);
		return;
	}
	struct let_in *in = calloc(1, sizeof(*in));
	if (!in)
		abort();
	in->accepted = *accepted;
	*a->done_end = in;
	a->done_end = &in->next;
	call_later(a);
}

static bool take_done(struct lua_acceptor *a, struct cp_accepted *accepted)
{
	struct let_in *in = a->done;
	if (!in)
		return false;
	a->done = in->next;
	if (!a->done)
		a->done_end = &a->done;
	*accepted = in->accepted;
	free(in);
	if (a->done)
		call_later(a);
	return true;
}

/* ---- Greetings ---------------------------------------------------------------------------------------------- */

static void pause_below(struct lua_acceptor *a)
{
	for (uint32_t i = 0; i < a->opened; i++)
		below_ops(a, i)->pause(a->below[i]);
}

static void resume_below(struct lua_acceptor *a)
{
	for (uint32_t i = 0; i < a->opened; i++)
		below_ops(a, i)->resume(a->below[i]);
}

/** @param cause  of what the handler still has open */
static void end_greeting(struct greeting *g, enum cp_cause cause)
{
	struct lua_acceptor *a = g->acceptor;
	cp_timer_stop(&g->deadline);
	task_end(g->task, cause);
	*g->prev = g->next;
	if (g->next)
		g->next->prev = g->prev;
	free(g);
	a->greetings--;
	if (a->full && !a->closed) {
		a->full = false;
		if (!a->paused)
			resume_below(a);
	}
	if (a->closed && a->greetings == 0)
		call_later(a);
	cp_system_unpin(a->declared->script->system);
}

static void refuse(struct greeting *g, const char *reason)
{
	char peer[CP_PEER_TEXT];
	cp_peer_print(&g->newcomer.peer, peer, sizeof(peer));
	cp_log(CP_INFO, g->acceptor->declared->script->id, "%s refused %s: %s", g->acceptor->text, peer, reason);
	end_greeting(g, CP_CAUSE_CLIENT_PROTOCOL);
}

static void let_in(struct greeting *g)
{
	struct cp_accepted accepted = {.peer = g->newcomer.peer};
	struct cp_error error;
	bool messages = g->acceptor->declared->def.connector.flags & CP_CONNECTOR_MESSAGES;
	accepted.stream = stream_take(g->task, 1, &error);
	if (!accepted.stream) {
		refuse(g, error.message);
		return;
	}
	if (accepted.stream->messages != messages) {
		cp_stream_close(accepted.stream, CP_CAUSE_CLIENT_PROTOCOL);
		refuse(g, messages ? "the script let in a stream of bytes, not of messages"
						   : "the script let in a stream of messages, not of bytes");
		return;
	}
	put_done(g->acceptor, &accepted);
	end_greeting(g, CP_CAUSE_DONE);
}

static void on_greeted(struct task *task, enum task_state state)
{
	struct greeting *g = task->arg;
	struct vm *vm = task->vm;
	if (state == TASK_WAITS)
		return;
	if (state == TASK_FAILED) {
		cp_log(CP_ERROR, vm->script->id, "%s: %s", vm->failed_at, vm->failure);
		refuse(g, "the script failed");
	} else if (stream_is(task->co, 1)) {
		let_in(g);
	} else {
		const char *reason = lua_type(task->co, 2) == LUA_TSTRING ? lua_tostring(task->co, 2) : NULL;
		refuse(g, reason ? reason : "no reason given");
	}
}

static void on_deadline(struct cp_timer *timer)
{
	refuse((struct greeting *)((char *)timer - offsetof(struct greeting, deadline)), "it took longer than `handshake`");
}

/** The stream is the handler's. It may be over when this returns. */
static void greet(struct lua_acceptor *a, const struct cp_accepted *accepted)
{
	const struct declared *declared = a->declared;
	struct greeting *g = calloc(1, sizeof(*g));
	if (!g)
		abort();
	g->acceptor = a;
	g->newcomer = (struct newcomer){a->address, accepted->peer};
	g->next = a->first;
	g->prev = &a->first;
	if (g->next)
		g->next->prev = &g->next;
	a->first = g;
	a->greetings++;
	cp_system_pin(declared->script->system);
	cp_timer_init(&g->deadline, a->loop, on_deadline);
	if (declared->script->handshake_ms)
		cp_timer_start(&g->deadline, declared->script->handshake_ms);
	g->task = task_new(a->vm, a->vm->handlers[declared->index].first);
	g->task->newcomer = &g->newcomer;
	g->task->resumed = on_greeted;
	g->task->arg = g;
	stream_push(g->task, accepted->stream);
	request_push(g->task);
	on_greeted(g->task, task_resume(g->task, 2));
}

/* ---- The core's calls --------------------------------------------------------------------------------------- */

static void on_below_ready(void *arg)
{
	struct lua_acceptor *a = arg;
	if (!a->paused && !is_full(a))
		a->ready(&a->base, a->arg);
}

/** One from below: each address in its turn. */
static int take_below(struct lua_acceptor *a, struct cp_accepted *accepted, struct cp_error *error)
{
	int result = CP_AGAIN;
	for (uint32_t i = 0; i < a->opened && result == CP_AGAIN; i++) {
		a->current = (a->current + 1) % a->opened;
		result = below_ops(a, a->current)->accept(a->below[a->current], accepted, error);
	}
	return result;
}

int accept_take(struct cp_acceptor *base, struct cp_accepted *accepted, struct cp_error *error)
{
	struct lua_acceptor *a = acceptor_of(base);
	if (!a->declared->accepts)
		return take_below(a, accepted, error);
	for (int i = 0; i < TAKEN_AT_ONCE && !is_full(a); i++) {
		if (take_done(a, accepted))
			return CP_OK;
		struct cp_accepted newcomer = {.loop = a->loop}; /* the handler runs here */
		int result = take_below(a, &newcomer, error);
		if (result != CP_OK)
			return result;
		greet(a, &newcomer);
	}
	if (take_done(a, accepted))
		return CP_OK;
	if (is_full(a) && !a->full) {
		a->full = true;
		pause_below(a);
	}
	return CP_AGAIN;
}

void accept_pause(struct cp_acceptor *base)
{
	struct lua_acceptor *a = acceptor_of(base);
	a->paused = true;
	pause_below(a);
}

void accept_resume(struct cp_acceptor *base)
{
	struct lua_acceptor *a = acceptor_of(base);
	a->paused = false;
	if (!a->full)
		resume_below(a);
	if (a->done)
		call_later(a);
}

/** @return whether all of it was parked for a later load */
static bool close_below(struct lua_acceptor *a)
{
	bool parked = a->opened > 0;
	for (uint32_t i = 0; i < a->opened; i++)
		parked &= bound_close(a->listener->bounds[i], a->loop, a);
	a->opened = 0;
	return parked;
}

static void leave(struct lua_acceptor *a)
{
	struct lua_acceptor **at = &open_here;
	while (*at != a)
		at = &(*at)->next;
	*at = a->next;
	a->closed = true;
}

void accept_close(struct cp_acceptor *base)
{
	struct lua_acceptor *a = acceptor_of(base);
	bool goes_on = close_below(a);
	struct cp_accepted left;
	leave(a);
	while (take_done(a, &left))
		cp_stream_close(left.stream, CP_CAUSE_SHUTDOWN);
	while (!goes_on && a->first)
		end_greeting(a->first, CP_CAUSE_SHUTDOWN);
	if (a->greetings == 0)
		call_later(a);
}

struct cp_acceptor *accept_open(struct cp_listener *base, struct cp_loop *loop, cp_acceptor_ready *ready, void *arg,
								struct cp_error *error)
{
	struct lua_listener *l = (struct lua_listener *)base;
	struct lua_acceptor *a = calloc(1, sizeof(*a));
	if (!a)
		abort();
	a->base.listener = base;
	a->listener = l;
	a->declared = l->declared;
	a->vm = l->declared->script->vms[cp_loop_index(loop)];
	a->loop = loop;
	a->ready = ready;
	a->arg = arg;
	a->done_end = &a->done;
	a->text = strdup(l->text);
	a->arena = cp_arena_new(0);
	a->next = open_here;
	open_here = a;
	const struct cp_scope *scope = cp_system_scope(l->declared->script->system);
	int result = cp_address_parse(scope, a->arena, l->text, strlen(l->text), 0, &a->address, error);
	for (uint32_t i = 0; i < l->count && result == CP_OK; i++) {
		a->below[i] = bound_open(l->bounds[i], l->targets[i], loop, on_below_ready, a, error);
		if (!a->below[i])
			break;
		a->opened++;
	}
	if (a->opened == l->count)
		return &a->base;
	accept_close(&a->base);
	return NULL;
}
