/* Watches: see cp_watch_new() in connpipe/loop.h.
 *
 * A struct event cannot change what it waits for while it is added, and taking it out first costs two epoll_ctl() calls
 * for each change. So a watch has two: the new one is added before the old one is taken out, which libevent turns into
 * one EPOLL_CTL_MOD. */
#include "../base/memory.h"
#include "loop.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdlib.h>
#include <string.h>

struct cp_watch {
	struct event event[2]; /* at most one is added, between two calls */
	unsigned current;      /* which one, if `events` is not 0 */
	struct cp_loop *loop;
	int fd;
	unsigned events; /* CP_READABLE, CP_WRITABLE, CP_EDGE; 0 whenever neither of the first two is set */
	cp_watch_ready *ready;
	void *arg;
};

enum { DIRECTIONS = CP_READABLE | CP_WRITABLE };

static void on_ready(evutil_socket_t fd, short what, void *arg)
{
	struct cp_watch *watch = arg;
	unsigned events = (what & EV_READ ? CP_READABLE : 0u) | (what & EV_WRITE ? CP_WRITABLE : 0u);

	watch->ready(fd, events, watch->arg); /* may free the watch */
}

static short event_mask(unsigned events)
{
	int mask = EV_PERSIST;
	if (events & CP_READABLE)
		mask |= EV_READ;
	if (events & CP_WRITABLE)
		mask |= EV_WRITE;
	if (events & CP_EDGE)
		mask |= EV_ET;
	return (short)mask;
}

static void forget(struct cp_watch *watch)
{
	if (watch->events != 0)
		event_del(&watch->event[watch->current]);
	watch->events = 0;
}

/* On failure nothing is watched, and errno says why. */
static int change(struct cp_watch *watch, unsigned events)
{
	unsigned other = 1 - watch->current;

	/* One descriptor cannot be edge- and level-triggered at once, not even for a moment. */
	if (events == 0 || (events & CP_EDGE) != (watch->events & CP_EDGE))
		forget(watch);
	if (events == 0)
		return CP_OK;
	event_assign(&watch->event[other], watch->loop->base, watch->fd, event_mask(events), on_ready, watch);
	errno = 0;
	if (event_add(&watch->event[other], NULL) < 0) {
		int why = errno ? errno : ENOMEM;
		forget(watch);
		errno = why;
		return why == EPERM ? CP_EUNSUPPORTED : cp_err_from_errno(why);
	}
	forget(watch);
	watch->current = other;
	watch->events = events;
	return CP_OK;
}

struct cp_watch *cp_watch_new(struct cp_loop *loop, int fd, unsigned events, cp_watch_ready *ready, void *arg,
							  struct cp_error *error)
{
	struct cp_watch *watch;
	int result;

	if (fd < 0) {
		cp_error_set(error, CP_EINVAL, NULL, "cannot watch descriptor %d: there is none of that number", fd);
		return NULL;
	}
	watch = xcalloc(1, sizeof(*watch));
	watch->loop = loop;
	watch->fd = fd;
	watch->ready = ready;
	watch->arg = arg;
	result = cp_watch_set(watch, events);
	if (result == CP_OK)
		return watch;
	cp_error_set(error, (enum cp_err)result, NULL, "cannot watch descriptor %d: %s", fd,
				 result == CP_EUNSUPPORTED ? "it is a file or a directory, which are always ready" : strerror(errno));
	free(watch);
	return NULL;
}

int cp_watch_set(struct cp_watch *watch, unsigned events)
{
	if ((events & DIRECTIONS) == 0)
		events = 0;
	events &= DIRECTIONS | CP_EDGE;
	return events == watch->events ? CP_OK : change(watch, events);
}

void cp_watch_free(struct cp_watch *watch)
{
	if (!watch)
		return;
	forget(watch);
	free(watch);
}
