/* The half of evlib.h that libwebsockets sees: libev's interface, as far as its plugin uses it (ev(3)); or, from 4.2
 * on, the operations of a loop that is a program's own. Nothing of ours is included here, since <ev.h> fills the name
 * space. */
#include "evlib.h"

#include <libwebsockets.h>
#include <poll.h>
#include <stdlib.h>

#if LWS_LIBRARY_VERSION_NUMBER < 4002000

#pragma GCC visibility push(default) /* the plugin looks for them in the program */
#include <ev.h>
#pragma GCC visibility pop

void evlib_use(struct evlib *evlib, void **loops, struct lws_context_creation_info *info)
{
	loops[0] = evlib;
	info->options |= LWS_SERVER_OPTION_LIBEV;
	info->foreign_loops = loops;
}

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

#else /* ---- 4.2 and later ------------------------------------------------------------------------------------- */

/* Here a watcher is a connection; the idle watcher and the timer's are the context. Written after the documentation of
 * event_lib_custom and not run yet: Debian 12 has 4.1. */

enum { LOOK_S = 1 }; /* how often its own timers are looked at, where nothing else happens */

static int on_init(struct lws_context *context, void *loop, int index)
{
	*(struct evlib **)lws_evlib_tsi_to_evlib_pt(context, index) = loop;
	evlib_found(loop);
	evlib_idle_start(loop, context);
	return 0;
}

static void on_io(struct lws *wsi, unsigned int flags)
{
	static const unsigned bits[] = {[EVLIB_READ] = LWS_EV_READ, [EVLIB_WRITE] = LWS_EV_WRITE};
	struct evlib *evlib = *(struct evlib **)lws_evlib_wsi_to_evlib_pt(wsi);
	for (int i = EVLIB_READ; i <= EVLIB_WRITE; i++) {
		if (flags & bits[i] && flags & LWS_EV_START)
			evlib_io_start(evlib, lws_get_socket_fd(wsi), (enum evlib_direction)i, wsi);
		else if (flags & bits[i])
			evlib_io_stop(evlib, lws_get_socket_fd(wsi), (enum evlib_direction)i);
	}
}

static int on_close(struct lws *wsi)
{
	on_io(wsi, LWS_EV_STOP | LWS_EV_READ | LWS_EV_WRITE);
	return 0;
}

static const struct lws_event_loop_ops operations = {
	.name = "connpipe",
	.init_pt = on_init,
	.wsi_logical_close = on_close,
	.io = on_io,
	.evlib_size_pt = sizeof(struct evlib *),
};
static const lws_plugin_evlib_t plugin = {
	.hdr = {"connpipe's loop", "lws_evlib_plugin", LWS_BUILD_HASH, LWS_PLUGIN_API_MAGIC},
	.ops = &operations,
};

void evlib_use(struct evlib *evlib, void **loops, struct lws_context_creation_info *info)
{
	loops[0] = evlib;
	info->event_lib_custom = &plugin;
	info->foreign_loops = loops;
}

void evlib_call_io(struct evlib *evlib, void *watcher, enum evlib_direction direction)
{
	short event = direction == EVLIB_READ ? POLLIN : POLLOUT;
	struct lws_context *context = lws_get_context(watcher);
	struct lws_pollfd fd = {.fd = lws_get_socket_fd(watcher), .events = event, .revents = event};
	lws_service_fd(context, &fd);
	evlib_idle_start(evlib, context);
}

void evlib_call_idle(struct evlib *evlib, void *watcher)
{
	evlib_idle_stop(evlib);
	if (lws_service_adjust_timeout(watcher, LOOK_S * 1000, 0) == 0)
		evlib_call_timer(evlib, watcher);
	else
		evlib_timer_start(evlib, watcher, LOOK_S);
}

void evlib_call_timer(struct evlib *evlib, void *watcher)
{
	lws_service_tsi(watcher, -1, 0);
	evlib_timer_start(evlib, watcher, LOOK_S);
}

#endif
