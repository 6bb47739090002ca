/* The inbox: a queue under a lock, and an eventfd that wakes the loop.
 *
 * Only the first call put into an empty queue writes to the eventfd, so a batch costs one system call on each side. The
 * event is edge-triggered and each write makes an edge, so the eventfd is never read: its count only grows, and would
 * take five centuries at a write each nanosecond to be full.
 *
 * The write happens under the lock: so the descriptor cannot be closed, and its number used anew, between a poster's
 * look at `closed` and its write. */
#include "inbox.h"

#include "../base/memory.h"
#include "loop.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct posted {
	struct posted *next;
	cp_post_run *run;
	void *arg;
};

struct loop_inbox {
	struct cp_loop *loop;
	struct event event;
	pthread_mutex_t lock; /* for everything below */
	struct posted *first, **end;
	int fd;
	bool closed;
};

static struct posted *take_all(struct loop_inbox *inbox)
{
	struct posted *first;

	pthread_mutex_lock(&inbox->lock);
	first = inbox->first;
	inbox->first = NULL;
	inbox->end = &inbox->first;
	pthread_mutex_unlock(&inbox->lock);
	return first;
}

/* What is posted while these run makes a new edge, and so comes a turn later. */
static void on_wake_up(evutil_socket_t fd, short what, void *arg)
{
	struct loop_inbox *inbox = arg;
	struct posted *posted = take_all(inbox), *next;

	(void)fd;
	(void)what;
	for (; posted; posted = next) {
		next = posted->next;
		posted->run(inbox->loop, posted->arg);
		free(posted);
	}
}

struct loop_inbox *inbox_new(struct cp_loop *loop, struct cp_error *error)
{
	struct loop_inbox *inbox = xcalloc(1, sizeof(*inbox));

	inbox->loop = loop;
	inbox->end = &inbox->first;
	pthread_mutex_init(&inbox->lock, NULL);
	inbox->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (inbox->fd < 0)
		goto fail;
	event_assign(&inbox->event, loop->base, inbox->fd, EV_READ | EV_ET | EV_PERSIST, on_wake_up, inbox);
	if (event_add(&inbox->event, NULL) == 0)
		return inbox;
fail:
	cp_error_set(error, cp_err_from_errno(errno), NULL, "cannot make the inbox of an event loop: %s", strerror(errno));
	if (inbox->fd >= 0)
		close(inbox->fd);
	pthread_mutex_destroy(&inbox->lock);
	free(inbox);
	return NULL;
}

void inbox_close(struct loop_inbox *inbox)
{
	struct posted *posted, *next;

	event_del(&inbox->event);
	pthread_mutex_lock(&inbox->lock);
	inbox->closed = true;
	close(inbox->fd);
	inbox->fd = -1;
	pthread_mutex_unlock(&inbox->lock);
	for (posted = take_all(inbox); posted; posted = next) {
		next = posted->next;
		free(posted);
	}
}

bool inbox_is_closed(struct loop_inbox *inbox)
{
	bool closed;

	pthread_mutex_lock(&inbox->lock);
	closed = inbox->closed;
	pthread_mutex_unlock(&inbox->lock);
	return closed;
}

static bool put(struct loop_inbox *inbox, struct posted *posted)
{
	bool was_empty = !inbox->first;

	if (inbox->closed)
		return false;
	*inbox->end = posted;
	inbox->end = &posted->next;
	if (was_empty)
		eventfd_write(inbox->fd, 1);
	return true;
}

bool cp_post(struct cp_loop *loop, cp_post_run *run, void *arg)
{
	struct posted *posted = xmalloc(sizeof(*posted));
	bool accepted;

	*posted = (struct posted){.run = run, .arg = arg};
	pthread_mutex_lock(&loop->inbox->lock);
	accepted = put(loop->inbox, posted);
	pthread_mutex_unlock(&loop->inbox->lock);
	if (!accepted)
		free(posted);
	return accepted;
}
