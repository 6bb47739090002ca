#include "conn_task.h"

#include "../base/memory.h"
#include "../loop/loop.h"
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

/** Take one connection. @return whether there may be more at once */
static bool accept_one(struct conn_task *c)
{
	struct cp_accepted accepted = {0};
	struct cp_error error = {0};
	struct worker *w = c->worker;
	int result = c->listener->ops->accept(c->acceptor, &accepted, &error);
	switch (result) {
	case CP_OK:
		c->retry_ms = RETRY_FIRST_MS;
		pipe_start(w, w->plan, c->binding, &accepted);
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
	enter(c, CONN_ACCEPTING);
	if (c->worker->starved)
		conn_task_pause(c);
}

static void on_retry(struct cp_timer *timer)
{
	open_acceptor((struct conn_task *)((char *)timer - offsetof(struct conn_task, retry)));
}

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
