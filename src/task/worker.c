#include "worker.h"

#include "../base/memory.h"
#include "../loop/loop.h"
#include "../stream/store.h"
#include "balance.h"
#include "conn_task.h"
#include "listeners.h"
#include "pipe.h"

#include <connpipe/log.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STARVED_RETRY_MS = 100, FREE_SETUPS_KEPT = 16 };

/* ---- The end of a turn -------------------------------------------------------------------------------------- */

/** What becomes pending meanwhile is for the next turn. */
static void run_pending(struct worker *w)
{
	struct pipe_list list = w->pending;
	w->pending = (struct pipe_list){0};
	for (size_t i = 0; i < list.count; i++) {
		list.at[i]->listed_pending = false;
		pump_continue(list.at[i]);
	}
	if (w->pending.count) {
		free(list.at);
		return;
	}
	free(w->pending.at);
	w->pending = (struct pipe_list){list.at, 0, list.room};
}

static void list_pending(struct worker *w, struct pipe *p)
{
	struct pipe_list *list = &w->pending;
	if (list->count == list->room) {
		list->room = list->room ? list->room * 2 : 16;
		list->at = xreallocarray(list->at, list->room, sizeof(*list->at));
	}
	list->at[list->count++] = p;
}

/** Free what was closed in this turn. One that is still listed as pending is freed a turn later. */
static void free_dead(struct worker *w)
{
	struct pipe *p = w->dead;
	w->dead = NULL;
	while (p) {
		struct pipe *next = p->next;
		if (p->listed_pending)
			worker_dead(w, p);
		else
			pipe_free(p);
		p = next;
	}
}

static void on_turn_end(struct cp_deferred *deferred)
{
	struct worker *w = (struct worker *)((char *)deferred - offsetof(struct worker, after));
	run_pending(w);
	free_dead(w);
}

void worker_pending(struct worker *w, struct pipe *p, int i)
{
	p->flow[i].pending = true;
	if (!p->listed_pending) {
		p->listed_pending = true;
		list_pending(w, p);
	}
	cp_defer(w->loop, &w->after, on_turn_end);
}

/* ---- Pipes -------------------------------------------------------------------------------------------------- */

/** Other workers look at it when they have accepted a connection. */
static void publish_pipes(const struct worker *w)
{
	if (w->count > 1)
		balance_set_pipes(w->balance, w->index, w->pipe_count, w->serial);
}

void worker_add(struct worker *w, struct pipe *p)
{
	p->next = w->pipes;
	p->prev = &w->pipes;
	if (p->next)
		p->next->prev = &p->next;
	w->pipes = p;
	w->pipe_count++;
	publish_pipes(w);
}

static void tell_drained(struct worker *w)
{
	void (*drained)(struct worker *) = w->drained;
	if (!drained || w->pipe_count)
		return;
	w->drained = NULL;
	drained(w);
}

void worker_dead(struct worker *w, struct pipe *p)
{
	if (p->prev) { /* still among the living */
		*p->prev = p->next;
		if (p->next)
			p->next->prev = p->prev;
		p->prev = NULL;
		w->pipe_count--;
		publish_pipes(w);
		tell_drained(w);
	}
	p->next = w->dead;
	w->dead = p;
	cp_defer(w->loop, &w->after, on_turn_end);
}

/* ---- Setups ------------------------------------------------------------------------------------------------- */

struct pipe_setup *worker_setup_get(struct worker *w)
{
	struct pipe_setup *s = w->free_setups;
	if (!s)
		return xcalloc(1, sizeof(*s));
	w->free_setups = s->next;
	w->free_setup_count--;
	return s;
}

void worker_setup_put(struct worker *w, struct pipe_setup *s)
{
	if (s->first_room)
		free(s->first);
	request_reset(&s->request);
	if (w->free_setup_count >= FREE_SETUPS_KEPT) {
		pipe_setup_free(s);
		return;
	}
	struct cp_request request = s->request;
	memset(s, 0, sizeof(*s));
	s->request = request;
	s->next = w->free_setups;
	w->free_setups = s;
	w->free_setup_count++;
}

/* ---- Descriptors -------------------------------------------------------------------------------------------- */

static void keep_reserve(struct worker *w)
{
	if (w->reserve < 0)
		w->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/** Whether a connection and its way to a target would find descriptors beside the reserve. */
static bool has_descriptors(const struct worker *w)
{
	int a = dup(w->reserve), b = dup(w->reserve);
	if (a >= 0)
		close(a);
	if (b >= 0)
		close(b);
	return a >= 0 && b >= 0;
}

static void on_starved_timer(struct cp_timer *timer)
{
	struct worker *w = (struct worker *)((char *)timer - offsetof(struct worker, starved_timer));
	keep_reserve(w);
	if (w->reserve < 0 || !has_descriptors(w)) {
		cp_timer_start(timer, STARVED_RETRY_MS);
		return;
	}
	w->starved = false;
	cp_log(CP_INFO, "worker", "worker %u accepts again", (unsigned)w->index);
	for (struct conn_task *c = w->conns; c; c = c->next)
		conn_task_resume(c);
}

void worker_starved(struct worker *w)
{
	if (w->starved)
		return;
	w->starved = true;
	cp_log(CP_WARN, "worker", "out of file descriptors: worker %u pauses accepting until some are closed",
		   (unsigned)w->index);
	cp_count(w->loop, w->counters->accept_pauses, 1);
	stream_store_shrink(w->loop);
	for (struct conn_task *c = w->conns; c; c = c->next)
		conn_task_pause(c);
	cp_timer_start(&w->starved_timer, STARVED_RETRY_MS);
}

bool worker_give_reserve(struct worker *w)
{
	worker_starved(w);
	if (w->reserve < 0)
		return false;
	close(w->reserve);
	w->reserve = -1;
	return true;
}

/* ---- Plans -------------------------------------------------------------------------------------------------- */

static void use_settings(struct worker *w, const struct process_settings *settings)
{
	w->settings.limits = settings->limits;
	w->settings.timeouts = settings->timeouts;
	stream_store(w->loop)->linger_ms = settings->timeouts.reset;
}

static const struct binding *binding_of(const struct plan *plan, const struct cp_listener *listener)
{
	for (uint32_t i = 0; plan && i < plan->count; i++)
		if (plan->bindings[i].listener->listener == listener)
			return &plan->bindings[i];
	return NULL;
}

static bool has_conn(const struct worker *w, const struct cp_listener *listener)
{
	for (const struct conn_task *c = w->conns; c; c = c->next)
		if (c->listener == listener)
			return true;
	return false;
}

/** Conn tasks whose address stays go on under the new plan; the others end, and take what has connected under the old
 * one if `take`. */
static void switch_conns(struct worker *w, const struct plan *plan, bool take)
{
	struct conn_task **at = &w->conns;
	while (*at) {
		struct conn_task *c = *at;
		const struct binding *binding = binding_of(plan, c->listener);
		if (binding) {
			conn_task_use(c, binding);
			at = &c->next;
		} else {
			*at = c->next;
			conn_task_stop(c, take);
		}
	}
}

static void start_conns(struct worker *w)
{
	for (uint32_t i = 0; i < w->plan->count; i++) {
		const struct binding *binding = &w->plan->bindings[i];
		if (has_conn(w, binding->listener->listener))
			continue;
		struct conn_task *c = conn_task_start(w, binding);
		c->next = w->conns;
		w->conns = c;
	}
}

void worker_use_plan(struct worker *w, struct plan *plan)
{
	struct plan *old = w->plan;
	plan_ref(plan);
	use_settings(w, &plan->generation->settings);
	switch_conns(w, plan, true);
	names_cache_clear(&w->names);
	w->plan = plan;
	start_conns(w);
	sessions_use_plan(w, old);
	if (old)
		plan_unref(old);
}

void worker_stop_accepting(struct worker *w, bool take)
{
	struct plan *old = w->plan;
	switch_conns(w, NULL, take);
	names_cache_clear(&w->names);
	sessions_stop(w);
	w->plan = NULL;
	if (old)
		plan_unref(old);
}

/* ---- Life --------------------------------------------------------------------------------------------------- */

void worker_close_pipes(struct worker *w, enum cp_cause cause)
{
	while (w->pipes)
		pipe_close(w->pipes, cause, NULL);
}

void worker_drain(struct worker *w, void (*drained)(struct worker *))
{
	w->drained = drained;
	tell_drained(w);
}

struct worker *worker_new(uint32_t index, uint32_t count, const struct worker_counters *counters, struct limits *limits,
						  struct cp_error *error)
{
	struct worker *w = xcalloc(1, sizeof(*w));
	w->loop = loop_new(index, error);
	if (!w->loop) {
		free(w);
		return NULL;
	}
	w->loop->owner = w;
	w->index = index;
	w->count = count;
	w->counters = counters;
	w->limits = limits;
	w->reserve = -1;
	w->pipe_pool.bytes = sizeof(struct pipe);
	w->timer_pool.bytes = sizeof(struct pipe_timer);
	keep_reserve(w);
	cp_timer_init(&w->starved_timer, w->loop, on_starved_timer);
	return w;
}

static void *run(void *arg)
{
	struct worker *w = arg;
	char name[16];
	snprintf(name, sizeof(name), "worker/%u", (unsigned)w->index);
	pthread_setname_np(pthread_self(), name);
	loop_run(w->loop);
	return NULL;
}

int worker_start(struct worker *w, struct cp_error *error)
{
	sigset_t all, before; /* signals are the main task's */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int result = pthread_create(&w->thread, NULL, run, w);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	w->started = result == 0;
	if (result)
		return cp_error_set(error, CP_EMFILE, NULL, "cannot start worker %u: %s", (unsigned)w->index, strerror(result));
	clockid_t clock;
	if (pthread_getcpuclockid(w->thread, &clock) == 0)
		balance_set_clock(w->balance, w->index, clock);
	return CP_OK;
}

static void end_loop(struct cp_loop *loop, void *arg)
{
	struct worker *w = arg;
	cp_timer_stop(&w->starved_timer);
	loop_stop(loop);
}

void worker_end(struct worker *w)
{
	if (w->started)
		cp_post(w->loop, end_loop, w);
}

void worker_free(struct worker *w)
{
	if (w->started)
		pthread_join(w->thread, NULL);
	loop_free(w->loop);
	free_dead(w);
	while (w->free_setups) {
		struct pipe_setup *s = w->free_setups;
		w->free_setups = s->next;
		pipe_setup_free(s);
	}
	free(w->pending.at);
	pool_deinit(&w->pipe_pool);
	pool_deinit(&w->sessions.pool);
	pool_deinit(&w->timer_pool);
	if (w->reserve >= 0)
		close(w->reserve);
	free(w);
}
