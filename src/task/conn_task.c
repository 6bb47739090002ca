#include "conn_task.h"

#include "../base/memory.h"
#include "../loop/loop.h"
#include "balance.h"
#include "listeners.h"
#include "pipe.h"
#include "worker.h"

#include <connpipe/log.h>

#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>

enum { RETRY_FIRST_MS = 100, RETRY_MOST_MS = 60000, DRAIN_MOST = 65536 };

static const char *conn_state_text(enum conn_state state)
{
	static const char *const texts[] = {
#define CONN_STATE_TEXT(name, text, meaning) text,
		CONN_STATES(CONN_STATE_TEXT)
#undef CONN_STATE_TEXT
	};
	return texts[state];
}

static void enter(struct conn_task *c, enum conn_state state)
{
	if (c->state != state && cp_log_enabled(CP_DEBUG))
		cp_log_task(CP_DEBUG, "conn", c->id, "%s -> %s", conn_state_text(c->state), conn_state_text(state));
	c->state = state;
}

/** Have the sockets be as the address is set in the plan in use. */
static void tune(struct conn_task *c)
{
	if (c->acceptor && c->binding->tunable)
		c->listener->ops->tune(c->acceptor, c->binding->address);
}

/** The socket failed: close it and open it again later. */
static void broke(struct conn_task *c, const struct cp_error *error)
{
	cp_log_task(CP_WARN, "conn", c->id, "%s on worker %u: %s; trying again in %u ms", c->binding->key,
				(unsigned)c->worker->index, error->message, (unsigned)c->retry_ms);
	if (c->acceptor)
		c->listener->ops->close(c->acceptor);
	c->acceptor = NULL;
	enter(c, CONN_BROKEN);
	cp_timer_start(&c->retry, c->retry_ms);
	c->retry_ms = c->retry_ms * 2 < RETRY_MOST_MS ? c->retry_ms * 2 : RETRY_MOST_MS;
}

/* ---- Handing over -------------------------------------------------------------------------------------------- */

/** A connection on its way to another worker, where it is routed by the plan under which it was accepted. */
struct handover {
	struct plan *plan; /* kept */
	const struct binding *binding;
	struct cp_accepted accepted;
};

/** On the worker that it is for. */
static void on_handed_over(struct cp_loop *loop, void *arg)
{
	struct handover *h = arg;
	struct worker *w = loop->owner;
	balance_arrived(w->balance, w->index);
	w->received++;
	pipe_start(w, h->plan, h->binding, &h->accepted);
	plan_unref(h->plan);
	free(h);
}

static void hand_over(struct conn_task *c, struct worker *to, const struct cp_accepted *accepted)
{
	struct worker *w = c->worker;
	struct handover *h = xmalloc(sizeof(*h));
	*h = (struct handover){w->plan, c->binding, *accepted};
	plan_ref(h->plan);
	balance_sent(w->balance, w->index, to->index);
	w->handed_over++;
	cp_count(w->loop, w->counters->handed_over, 1);
	if (cp_post(to->loop, on_handed_over, h))
		return;
	/* Workers end when none accepts any more, so this does not happen. That thread is gone, and an end in order needs
	 * nothing of its loop. */
	cp_stream_close(accepted->stream, CP_CAUSE_DONE);
	plan_unref(h->plan);
	free(h);
}

/** The worker that the next connection should go to. */
static struct worker *choose_worker(struct worker *w)
{
	if (w->count == 1)
		return w;
	uint32_t index = balance_choose(w->balance, w->index, cp_loop_now(w->loop));
	return index == w->index ? w : cp_worker_loop(index)->owner;
}

/* ---- Accepting ----------------------------------------------------------------------------------------------- */

/** Take one connection. @return whether there may be more at once */
static bool accept_one(struct conn_task *c)
{
	struct cp_error error = {0};
	struct worker *w = c->worker, *to = choose_worker(w);
	struct cp_accepted accepted = {.loop = to->loop};
	int result = c->listener->ops->accept(c->acceptor, &accepted, &error);
	switch (result) {
	case CP_OK:
		c->retry_ms = RETRY_FIRST_MS;
		if (accepted.stream->loop == w->loop)
			pipe_start(w, w->plan, c->binding, &accepted);
		else
			hand_over(c, to, &accepted);
		return true;
	case CP_AGAIN:
		return false;
	case CP_ERESET: /* that one is gone; the next may be all right */
		cp_count(w->loop, w->counters->accept_errors, 1);
		return true;
	case CP_EMFILE:
		worker_starved(w);
		return false;
	default:
		cp_count(w->loop, w->counters->accept_errors, 1);
		broke(c, &error);
		return false;
	}
}

/** One connection for each call: the listener calls again while there are more, and the pipes that are open get their
 * turn in between. */
static void on_acceptor_ready(struct cp_acceptor *acceptor, void *arg)
{
	struct conn_task *c = arg;
	(void)acceptor;
	if (c->state == CONN_ACCEPTING)
		accept_one(c);
}

static void open_acceptor(struct conn_task *c)
{
	struct cp_error error = {0};
	c->acceptor = c->listener->ops->open(c->listener, c->worker->loop, on_acceptor_ready, c, &error);
	if (!c->acceptor) {
		broke(c, &error);
		return;
	}
	tune(c);
	enter(c, CONN_ACCEPTING);
	if (c->worker->starved)
		conn_task_pause(c);
}

static void on_retry(struct cp_timer *timer)
{
	open_acceptor((struct conn_task *)((char *)timer - offsetof(struct conn_task, retry)));
}

/* ---- Life ---------------------------------------------------------------------------------------------------- */

struct conn_task *conn_task_start(struct worker *w, const struct binding *binding)
{
	static atomic_ulong ids;
	struct conn_task *c = xcalloc(1, sizeof(*c));
	c->worker = w;
	c->binding = binding;
	c->listener = binding->listener->listener;
	c->id = atomic_fetch_add_explicit(&ids, 1, memory_order_relaxed) + 1;
	c->retry_ms = RETRY_FIRST_MS;
	cp_timer_init(&c->retry, w->loop, on_retry);
	open_acceptor(c);
	return c;
}

void conn_task_use(struct conn_task *c, const struct binding *binding)
{
	c->binding = binding;
	tune(c);
}

void conn_task_stop(struct conn_task *c, bool drain)
{
	cp_timer_stop(&c->retry);
	for (int i = 0; drain && c->state == CONN_ACCEPTING && i < DRAIN_MOST; i++)
		if (!accept_one(c))
			break;
	cp_timer_stop(&c->retry);
	if (c->acceptor)
		c->listener->ops->close(c->acceptor);
	free(c);
}

void conn_task_pause(struct conn_task *c)
{
	if (c->state != CONN_ACCEPTING)
		return;
	c->listener->ops->pause(c->acceptor);
	enter(c, CONN_PAUSED);
}

void conn_task_resume(struct conn_task *c)
{
	if (c->state != CONN_PAUSED)
		return;
	c->listener->ops->resume(c->acceptor);
	enter(c, CONN_ACCEPTING);
}
