/* A loop: libevent driven turn by turn.
 *
 *     turn:  poll ──▶ every event that is ready ──▶ deferred calls ──▶ (next turn)
 *
 * libevent has no hook for the end of a turn, so loop_run() calls event_base_loop() once for each. That costs no system
 * call: the poll is the only one of a turn, and it does not block when deferred calls are waiting. */
#include "loop.h"

#include "../base/counter.h"
#include "../base/memory.h"
#include "inbox.h"
#include "resolver.h"
#include "wheel.h"

#include <connpipe/log.h>

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* How often loop_free() runs what deferred calls defer, before it takes them for endless and drops them. */
enum { LAST_ROUNDS = 64 };

static _Thread_local struct cp_loop *current;

/* Loops that have ended: kept so that cp_post() on them stays allowed, and listed so that leak checkers see them. */
static _Atomic(struct cp_loop *) ended;

/* ---- The registry ------------------------------------------------------------------------------------------- */

struct workers {
	uint32_t count;
	struct cp_loop *loops[];
};

static _Atomic(struct cp_loop *) main_loop;
static _Atomic(struct workers *) workers;
static _Atomic uint64_t socket_limit;

void loop_set_main(struct cp_loop *loop)
{
	atomic_store_explicit(&main_loop, loop, memory_order_release);
}

void loop_set_workers(struct cp_loop *const *loops, uint32_t count)
{
	struct workers *list = NULL;
	if (count > 0) {
		list = xmalloc(sizeof(*list) + count * sizeof(struct cp_loop *));
		list->count = count;
		memcpy(list->loops, loops, count * sizeof(struct cp_loop *));
	}
	free(atomic_exchange_explicit(&workers, list, memory_order_acq_rel));
}

struct cp_loop *cp_loop_main(void)
{
	return atomic_load_explicit(&main_loop, memory_order_acquire);
}

uint32_t cp_worker_count(void)
{
	const struct workers *list = atomic_load_explicit(&workers, memory_order_acquire);
	return list ? list->count : 0;
}

struct cp_loop *cp_worker_loop(uint32_t index)
{
	const struct workers *list = atomic_load_explicit(&workers, memory_order_acquire);
	return list && index < list->count ? list->loops[index] : NULL;
}

void loop_set_socket_limit(uint64_t limit)
{
	atomic_store_explicit(&socket_limit, limit, memory_order_relaxed);
}

uint64_t cp_socket_limit(void)
{
	return atomic_load_explicit(&socket_limit, memory_order_relaxed);
}

struct cp_loop *cp_loop_current(void)
{
	return current;
}

uint32_t cp_loop_index(const struct cp_loop *loop)
{
	return loop->index;
}

void cp_count(struct cp_loop *loop, cp_counter counter, int64_t amount)
{
	counter_add(loop->counts, counter, amount);
}

/* ---- Time --------------------------------------------------------------------------------------------------- */

/* The clock is read when somebody asks for the first time in a turn: a turn in which nobody asks costs nothing, and one
 * in which many ask costs one reading (about 25 ns). Outside of loop_run() there are no turns, and each call reads. */
uint64_t cp_loop_now(const struct cp_loop *loop)
{
	struct timespec t;
	uint64_t now;

	if (loop->now != 0)
		return loop->now;
	clock_gettime(CLOCK_MONOTONIC, &t);
	now = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
	if (loop->running)
		((struct cp_loop *)loop)->now = now;
	return now;
}

/* ---- Making ------------------------------------------------------------------------------------------------- */

/* libevent writes warnings to stderr by itself. What fails here is also returned to who asked for it, with better
 * words, so these lines are for debugging. errno is kept: callers look at it after a failed event_add(). */
static void on_libevent_log(int severity, const char *message)
{
	int saved = errno;
	cp_log(severity >= EVENT_LOG_ERR ? CP_ERROR : CP_DEBUG, "libevent", "%s", message);
	errno = saved;
}

static void set_up_libevent(void)
{
	event_set_log_callback(on_libevent_log);
}

static struct event_base *base_new(void)
{
	struct event_config *config = event_config_new();
	struct event_base *base = NULL;

	if (!config)
		return NULL;
	/* No locks: other threads come in through the inbox only. The environment must not choose the method. */
	if (event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_IGNORE_ENV) == 0 &&
		event_config_require_features(config, EV_FEATURE_ET | EV_FEATURE_O1 | EV_FEATURE_EARLY_CLOSE) == 0)
		base = event_base_new_with_config(config);
	event_config_free(config);
	return base;
}

struct cp_loop *loop_new(uint32_t index, struct cp_error *error)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct cp_loop *loop = xcalloc(1, sizeof(*loop));

	pthread_once(&once, set_up_libevent);
	loop->index = index;
	loop->deferred_end = &loop->deferred;
	errno = 0;
	loop->base = base_new();
	if (!loop->base) {
		cp_error_set(error, errno ? cp_err_from_errno(errno) : CP_EUNSUPPORTED, NULL, "cannot make an event loop: %s",
					 errno ? strerror(errno) : "epoll is missing");
		goto fail;
	}
	loop->wheel = wheel_new(loop, error);
	if (!loop->wheel)
		goto fail_base;
	loop->inbox = inbox_new(loop, error);
	if (!loop->inbox)
		goto fail_wheel;
	loop->buffer = xmalloc(LOOP_BUFFER);
	loop->counts = counter_slots_new();
	return loop;

fail_wheel:
	wheel_free(loop->wheel);
fail_base:
	event_base_free(loop->base);
fail:
	free(loop);
	return NULL;
}

/* ---- Running ------------------------------------------------------------------------------------------------ */

void cp_defer(struct cp_loop *loop, struct cp_deferred *deferred, cp_deferred_run *run)
{
	deferred->run = run;
	if (deferred->queued)
		return;
	deferred->queued = true;
	deferred->next = NULL;
	*loop->deferred_end = deferred;
	loop->deferred_end = &deferred->next;
}

/* The list is taken first: what is deferred meanwhile is for the next turn. */
static void run_deferred(struct cp_loop *loop)
{
	struct cp_deferred *deferred = loop->deferred, *next;

	loop->deferred = NULL;
	loop->deferred_end = &loop->deferred;
	for (; deferred; deferred = next) {
		next = deferred->next;
		deferred->queued = false;
		deferred->run(deferred); /* may free it, or defer it again */
	}
}

static void run_turn(struct cp_loop *loop)
{
	int flags = EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY;

	if (loop->deferred)
		flags |= EVLOOP_NONBLOCK;
	loop->now = 0;
	if (event_base_loop(loop->base, flags) < 0) {
		/* epoll_wait() fails only when the program has closed the loop's own descriptor. */
		cp_log(CP_ERROR, "loop", "cannot wait for events: %s; the loop ends", strerror(errno));
		loop->stopping = true;
	}
	if (loop->deferred)
		run_deferred(loop);
}

void loop_run(struct cp_loop *loop)
{
	current = loop;
	loop->running = true;
	while (!loop->stopping)
		run_turn(loop);
	loop->running = false;
	loop->stopping = false;
	loop->now = 0;
}

void loop_stop(struct cp_loop *loop)
{
	loop->stopping = true;
}

static void settle(struct cp_loop *loop)
{
	inbox_close(loop->inbox);
	for (int round = 0; loop->deferred && round < LAST_ROUNDS; round++)
		run_deferred(loop);
	loop->deferred = NULL;
	loop->deferred_end = &loop->deferred;
}

void loop_free(struct cp_loop *loop)
{
	if (!loop)
		return;
	settle(loop);
	if (loop->streams)
		loop->free_streams(loop);
	resolver_free(loop->resolver);
	wheel_free(loop->wheel);
	event_base_free(loop->base);
	counter_slots_free(loop->counts);
	free(loop->buffer);
	loop->resolver = NULL;
	loop->wheel = NULL;
	loop->base = NULL;
	loop->counts = NULL;
	loop->buffer = NULL;
	if (current == loop)
		current = NULL;
	loop->next_ended = atomic_load(&ended);
	while (!atomic_compare_exchange_weak(&ended, &loop->next_ended, loop))
		;
}
