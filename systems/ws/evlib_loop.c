/* The half of evlib.h that is on our loop: watches, one timer, and a pass at the end of each turn in which
 * libwebsockets did something.
 *
 * libwebsockets changes its mind several times in a turn about what it waits for; epoll_ctl() is dear. So:
 *
 *     start, stop ──▶ `wanted`, queued ──▶ the pass: `wanted` is compared with `armed`, the watch is changed
 *
 * but for one thing: what is not wanted at all is not watched from that moment on, since the descriptor may be about to
 * be closed.
 *
 * "Writable" is what libwebsockets waits for before every message that it sends. Almost always it is so already; so it
 * is called back at once, in the pass, and only if it still wants that afterwards (the socket took less than all) epoll
 * is asked. All descriptors that it waits for are connected: see engine.c.
 *
 * The first descriptor is one of libwebsockets' own, which is there while the context is made: it writes to it whenever
 * it is given a connection, lest its thread is asleep. No other thread ever uses a context here; so that is waited for
 * once, since it ends the preparations, and never again.
 *
 * The idle watcher is how the plugin has its context look after what is left to do (input that was held back, timers
 * that have become earlier). It starts it after every callback. */
#include "evlib.h"

#include <connpipe/log.h>
#include <connpipe/loop.h>

#include <stddef.h>
#include <stdlib.h>

enum {
	MASK_READ = 1u << EVLIB_READ,
	MASK_WRITE = 1u << EVLIB_WRITE,
	TIMER_SLACK_MS = 5, /* libwebsockets moves its timer at every opportunity, by as little as microseconds */
	ROUNDS_MOST = 8,    /* of a pass; what then is left comes after a poll */
};

/** A descriptor that it has ever waited for. */
struct evlib_fd {
	struct evlib *evlib;
	struct cp_watch *watch; /* only while something is armed */
	void *watchers[2];      /* by direction */
	struct evlib_fd *next;  /* in the queue */
	int fd;
	uint8_t wanted, armed; /* MASK_… */
	bool queued;
	bool full;                       /* the socket is known to take nothing now */
	bool waking;                     /* not a connection: what other threads would wake the context up with */
	bool (*peek)(int fd, void *arg); /* see evlib_peek() */
	void *peek_arg;
	uint32_t uses; /* how often nothing was wanted: it may be another connection's since */
};

struct evlib {
	struct cp_loop *loop; /* NULL: not attached yet */
	struct evlib_fd **fds;
	int fd_count;
	struct evlib_fd *queue, **queue_end;
	struct cp_deferred pass;
	struct cp_timer timer;
	uint64_t timer_due; /* while it runs */
	void *timer_watcher, *idle_watcher;
	bool idle;  /* call the idle watcher in the next pass */
	bool found; /* the plugin has called us */
	bool dead;  /* freed by the pass that is queued */
};

static void on_pass(struct cp_deferred *deferred);

static void ask_pass(struct evlib *evlib)
{
	if (evlib->loop)
		cp_defer(evlib->loop, &evlib->pass, on_pass);
}

/* ---- Descriptors -------------------------------------------------------------------------------------------- */

static struct evlib_fd *fd_entry(struct evlib *evlib, int fd)
{
	if (fd >= evlib->fd_count) {
		int count = fd + 256;
		struct evlib_fd **fds = realloc(evlib->fds, (size_t)count * sizeof(struct evlib_fd *));
		if (!fds)
			return NULL;
		for (int i = evlib->fd_count; i < count; i++)
			fds[i] = NULL;
		evlib->fds = fds;
		evlib->fd_count = count;
	}
	if (!evlib->fds[fd] && (evlib->fds[fd] = calloc(1, sizeof(struct evlib_fd)))) {
		evlib->fds[fd]->evlib = evlib;
		evlib->fds[fd]->fd = fd;
	}
	return evlib->fds[fd];
}

static void queue(struct evlib_fd *f)
{
	struct evlib *evlib = f->evlib;
	if (!f->queued) {
		f->queued = true;
		f->next = NULL;
		*evlib->queue_end = f;
		evlib->queue_end = &f->next;
	}
	ask_pass(evlib);
}

static void unwatch(struct evlib_fd *f)
{
	cp_watch_free(f->watch);
	f->watch = NULL;
	f->armed = 0;
}

/** Writable first: that makes room, and a read may want to write. Each callback may end the connection, and another one
 * may have the number by then. */
static void on_ready(int fd, unsigned events, void *arg)
{
	struct evlib_fd *f = arg;
	uint32_t uses = f->uses;
	if (f->waking) {
		f->wanted = 0;
		unwatch(f);
		evlib_call_io(f->evlib, f->watchers[EVLIB_READ], EVLIB_READ);
		return;
	}
	if (events & CP_WRITABLE)
		f->full = false;
	if (events & CP_WRITABLE && f->wanted & MASK_WRITE)
		evlib_call_io(f->evlib, f->watchers[EVLIB_WRITE], EVLIB_WRITE);
	if (uses == f->uses && events & CP_READABLE && f->peek && f->peek(fd, f->peek_arg))
		f->peek = NULL;
	if (uses == f->uses && events & CP_READABLE && f->wanted & MASK_READ)
		evlib_call_io(f->evlib, f->watchers[EVLIB_READ], EVLIB_READ);
}

static void arm(struct evlib_fd *f)
{
	struct cp_error error;
	unsigned events = (f->wanted & MASK_READ ? CP_READABLE : 0u) | (f->wanted & MASK_WRITE ? CP_WRITABLE : 0u);
	if (f->wanted == f->armed)
		return;
	int result = CP_OK;
	if (f->watch)
		result = cp_watch_set(f->watch, events);
	else if (!(f->watch = cp_watch_new(f->evlib->loop, f->fd, events, on_ready, f, &error)))
		result = CP_ENOMEM;
	f->armed = f->wanted;
	if (result != CP_OK) {
		cp_log(CP_ERROR, "ws", "descriptor %d cannot be watched: its websocket waits until it times out", f->fd);
		unwatch(f);
	}
}

void evlib_io_start(struct evlib *evlib, int fd, enum evlib_direction direction, void *watcher)
{
	struct evlib_fd *f = fd_entry(evlib, fd);
	if (!f) {
		cp_log(CP_ERROR, "ws", "out of memory: the websocket of descriptor %d waits until it times out", fd);
		return;
	}
	f->waking = !evlib->loop;
	f->wanted |= (uint8_t)(1u << direction);
	f->watchers[direction] = watcher;
	queue(f);
}

void evlib_full(struct evlib *evlib, int fd)
{
	if (fd < evlib->fd_count && evlib->fds[fd])
		evlib->fds[fd]->full = true;
}

void evlib_peek(struct evlib *evlib, int fd, bool (*peek)(int fd, void *arg), void *arg)
{
	struct evlib_fd *f = fd_entry(evlib, fd);
	if (!f)
		return;
	f->peek = peek;
	f->peek_arg = arg;
}

void evlib_io_stop(struct evlib *evlib, int fd, enum evlib_direction direction)
{
	struct evlib_fd *f = fd < evlib->fd_count ? evlib->fds[fd] : NULL;
	if (!f)
		return;
	f->wanted &= (uint8_t) ~(1u << direction);
	if (!f->wanted) {
		f->uses++;
		f->full = false;
		f->peek = NULL;
		unwatch(f);
	} else if (f->armed & ~f->wanted) {
		queue(f);
	}
}

/* ---- The timer ---------------------------------------------------------------------------------------------- */

static void on_timer(struct cp_timer *timer)
{
	struct evlib *evlib = (struct evlib *)((char *)timer - offsetof(struct evlib, timer));
	evlib_call_timer(evlib, evlib->timer_watcher);
}

/** Late by less than TIMER_SLACK_MS is near enough; and early means that it finds nothing to do and starts it again. */
static void start_timer(struct evlib *evlib, uint64_t ms)
{
	uint64_t due = cp_loop_now(evlib->loop) + ms;
	if (cp_timer_running(&evlib->timer) && due < evlib->timer_due + TIMER_SLACK_MS &&
		evlib->timer_due < due + TIMER_SLACK_MS)
		return;
	evlib->timer_due = due;
	cp_timer_start(&evlib->timer, ms);
}

void evlib_timer_start(struct evlib *evlib, void *watcher, double seconds)
{
	evlib->timer_watcher = watcher;
	if (evlib->loop)
		start_timer(evlib, seconds > 0 ? (uint64_t)(seconds * 1000) + 1 : 1);
}

void evlib_timer_stop(struct evlib *evlib)
{
	if (evlib->loop)
		cp_timer_stop(&evlib->timer);
}

/* ---- The pass ----------------------------------------------------------------------------------------------- */

void evlib_idle_start(struct evlib *evlib, void *watcher)
{
	evlib->idle_watcher = watcher;
	evlib->idle = true;
	ask_pass(evlib);
}

void evlib_idle_stop(struct evlib *evlib)
{
	evlib->idle = false;
}

void evlib_kick(struct evlib *evlib)
{
	if (evlib->idle_watcher)
		evlib_idle_start(evlib, evlib->idle_watcher);
	else
		ask_pass(evlib);
}

/** Twice: the first time may have been for a pong, or for the rest of a message, with its own asking still to come. */
static void apply(struct evlib_fd *f)
{
	for (int i = 0; i < 2 && f->wanted & MASK_WRITE && !(f->armed & MASK_WRITE) && !f->full; i++)
		evlib_call_io(f->evlib, f->watchers[EVLIB_WRITE], EVLIB_WRITE);
	arm(f);
}

/** @return whether there is more to do */
static bool apply_queue(struct evlib *evlib)
{
	struct evlib_fd *f = evlib->queue, *next;
	evlib->queue = NULL;
	evlib->queue_end = &evlib->queue;
	for (; f; f = next) {
		next = f->next;
		f->queued = false;
		apply(f);
	}
	return evlib->queue != NULL;
}

static void release(struct evlib *evlib)
{
	for (int i = 0; i < evlib->fd_count; i++) {
		if (evlib->fds[i])
			cp_watch_free(evlib->fds[i]->watch);
		free(evlib->fds[i]);
	}
	free(evlib->fds);
	free(evlib);
}

static void on_pass(struct cp_deferred *deferred)
{
	struct evlib *evlib = (struct evlib *)((char *)deferred - offsetof(struct evlib, pass));
	bool more = true, called = false;
	if (evlib->dead) {
		release(evlib);
		return;
	}
	for (int round = 0; more && round < ROUNDS_MOST; round++) {
		more = apply_queue(evlib);
		if (evlib->idle && !called) {
			called = true;
			evlib_call_idle(evlib, evlib->idle_watcher);
			more |= evlib->queue != NULL;
		}
	}
	if (evlib->queue || evlib->idle)
		ask_pass(evlib);
}

/* ---- For the engine ----------------------------------------------------------------------------------------- */

struct evlib *evlib_new(void)
{
	struct evlib *evlib = calloc(1, sizeof(*evlib));
	if (evlib)
		evlib->queue_end = &evlib->queue;
	return evlib;
}

void evlib_found(struct evlib *evlib)
{
	evlib->found = true;
}

bool evlib_was_found(const struct evlib *evlib)
{
	return evlib->found;
}

void evlib_attach(struct evlib *evlib, struct cp_loop *loop)
{
	evlib->loop = loop;
	cp_timer_init(&evlib->timer, loop, on_timer);
	evlib_kick(evlib);
}

void evlib_free(struct evlib *evlib)
{
	if (!evlib)
		return;
	if (evlib->loop)
		cp_timer_stop(&evlib->timer);
	evlib->dead = true;
	if (!evlib->pass.queued)
		release(evlib);
}
