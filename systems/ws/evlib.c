/* The half of evlib.h that is libev's interface, as far as libwebsockets' plugin uses it: <ev.h>, and nothing of ours
 * that is included elsewhere. What these functions do is documented in ev(3).
 *
 * Signals and running the loop are for programs that leave the loop to libwebsockets. */
#pragma GCC visibility push(default) /* the plugin looks for them in the program */
#include <ev.h>
#pragma GCC visibility pop

#include "evlib.h"

#include <stdlib.h>

static struct evlib *evlib_of(struct ev_loop *loop)
{
	return (struct evlib *)loop;
}

static enum evlib_direction direction_of(const ev_io *watcher)
{
	return watcher->events & EV_READ ? EVLIB_READ : EVLIB_WRITE;
}

/* ---- What the plugin calls ---------------------------------------------------------------------------------- */

/* Once for each context, when the plugin starts to use the loop: the sign that it found these functions. */
unsigned int ev_backend(struct ev_loop *loop)
{
	evlib_found(evlib_of(loop));
	return EVBACKEND_EPOLL;
}

void ev_io_start(struct ev_loop *loop, ev_io *watcher)
{
	if (watcher->active)
		return;
	watcher->active = 1;
	evlib_io_start(evlib_of(loop), watcher->fd, direction_of(watcher), watcher);
}

void ev_io_stop(struct ev_loop *loop, ev_io *watcher)
{
	if (!watcher->active)
		return;
	watcher->active = 0;
	evlib_io_stop(evlib_of(loop), watcher->fd, direction_of(watcher));
}

/* libev ignores the start of a watcher that runs. The plugin sets a new time, `at`, and starts without stopping, and
 * means that time. */
void ev_timer_start(struct ev_loop *loop, ev_timer *watcher)
{
	watcher->active = 1;
	evlib_timer_start(evlib_of(loop), watcher, watcher->at);
}

void ev_timer_stop(struct ev_loop *loop, ev_timer *watcher)
{
	if (!watcher->active)
		return;
	watcher->active = 0;
	evlib_timer_stop(evlib_of(loop));
}

void ev_idle_start(struct ev_loop *loop, ev_idle *watcher)
{
	watcher->active = 1;
	evlib_idle_start(evlib_of(loop), watcher);
}

void ev_idle_stop(struct ev_loop *loop, ev_idle *watcher)
{
	watcher->active = 0;
	evlib_idle_stop(evlib_of(loop));
}

void ev_signal_start(struct ev_loop *loop, ev_signal *watcher)
{
	(void)loop, (void)watcher;
}

void ev_signal_stop(struct ev_loop *loop, ev_signal *watcher)
{
	(void)loop, (void)watcher;
}

struct ev_loop *ev_loop_new(unsigned int flags)
{
	(void)flags;
	return NULL;
}

void ev_loop_destroy(struct ev_loop *loop)
{
	(void)loop;
}

int ev_run(struct ev_loop *loop, int flags)
{
	(void)loop, (void)flags;
	return 0;
}

void ev_break(struct ev_loop *loop, int how)
{
	(void)loop, (void)how;
}

/* ---- What it is called back with ---------------------------------------------------------------------------- */

void evlib_call_io(struct evlib *evlib, void *watcher, enum evlib_direction direction)
{
	ev_io *io = watcher;
	io->cb((struct ev_loop *)evlib, io, direction == EVLIB_READ ? EV_READ : EV_WRITE);
}

void evlib_call_timer(struct evlib *evlib, void *watcher)
{
	ev_timer *timer = watcher;
	timer->active = 0;
	timer->cb((struct ev_loop *)evlib, timer, EV_TIMER);
}

void evlib_call_idle(struct evlib *evlib, void *watcher)
{
	ev_idle *idle = watcher;
	idle->active = 1;
	idle->cb((struct ev_loop *)evlib, idle, EV_IDLE);
}
