/** Loops, and the services that a loop gives to the code that runs on it.
 *
 * There is one loop for each worker thread and one for the main task. Code of a system is called on loops; a loop
 * never waits for it, so code that has to wait starts something here and is called back. Unless a function says
 * otherwise it is called on the loop's own thread, and its callbacks run there, from the loop, never from inside
 * the call that asked for them.
 *
 * Built on libevent 2.1 (https://libevent.org/doc/), of which nothing shows. */
#ifndef CONNPIPE_LOOP_H
#define CONNPIPE_LOOP_H

#include <connpipe/abi.h>
#include <connpipe/address.h>
#include <connpipe/error.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

CP_BEGIN_DECLS

struct cp_loop;
struct cp_system;

/** cp_loop_index() of the main task's loop. */
#define CP_LOOP_MAIN UINT32_MAX

/** The loop of the calling thread; NULL on a thread that has none. */
CP_API struct cp_loop *cp_loop_current(void);

/** 0 … workers-1, or CP_LOOP_MAIN. Any thread. */
CP_API uint32_t cp_loop_index(const struct cp_loop *loop);

/** Milliseconds of the monotonic clock, read once per turn of the loop. */
CP_API uint64_t cp_loop_now(const struct cp_loop *loop);

/** The main task's loop. Any thread. NULL before it runs. */
CP_API struct cp_loop *cp_loop_main(void);

/** How many workers there are, and worker `index`'s loop. Any thread, from a system's load on. */
CP_API uint32_t cp_worker_count(void);
CP_API struct cp_loop *cp_worker_loop(uint32_t index);

/** How many sockets the process may have at once by the limits that it was started with (two for each connection, one
 * for each session of udp), for tables that are as large. 0: not known. Any thread, from a system's load
 * on. */
CP_API uint64_t cp_socket_limit(void);

/* ---- Events ------------------------------------------------------------------------------------------------- */

/** Bits for readiness, of descriptors and of streams. */
enum {
	CP_READABLE = 1u, /**< a read may get something: bytes, the end of file, an error */
	CP_WRITABLE = 2u, /**< a write may take something, or fail */
	CP_RECALL = 4u,   /**< streams: the lent descriptor is wanted back (see stream.h) */
	CP_EDGE = 8u,     /**< watches: report a change once, not as long as it lasts */
};

/* ---- Descriptor watch --------------------------------------------------------------------------------------- */

/** Called when the descriptor is ready. @param events  CP_READABLE and CP_WRITABLE, as far as they were asked for. */
typedef void cp_watch_ready(int fd, unsigned events, void *arg);

struct cp_watch;

/** Watch a descriptor, which stays the caller's.
 * @param events  CP_READABLE, CP_WRITABLE, CP_EDGE; 0: nothing yet
 * @return NULL with `error` filled when it cannot be watched (a regular file, out of memory) */
CP_API struct cp_watch *cp_watch_new(struct cp_loop *loop, int fd, unsigned events, cp_watch_ready *ready, void *arg,
									 struct cp_error *error);

/** Change what is watched for; cheap when it is the same. Before the descriptor is closed: 0, or cp_watch_free().
 * @return CP_OK, or an error: then nothing is watched */
CP_API int cp_watch_set(struct cp_watch *watch, unsigned events);

/** Stop and free. Allowed inside its own callback. */
CP_API void cp_watch_free(struct cp_watch *watch);

/* ---- Timers ------------------------------------------------------------------------------------------------- */

struct cp_timer;
typedef void cp_timer_fired(struct cp_timer *timer);

/** One timer, embedded in what it belongs to. Runs on a wheel: starting and stopping cost a few instructions and no
 * system call; it fires at most 16 ms late by the wheel's coarseness (and never early). Members are the loop's. */
struct cp_timer {
	struct cp_timer *next, **prev;
	uint64_t due; /* in the wheel's ticks */
	struct cp_loop *loop;
	cp_timer_fired *fired;
};

/** Prepare a timer that is not running. */
CP_API void cp_timer_init(struct cp_timer *timer, struct cp_loop *loop, cp_timer_fired *fired);
/** Fire once, `ms` milliseconds from now. A running timer is moved. */
CP_API void cp_timer_start(struct cp_timer *timer, uint64_t ms);
/** Allowed when it is not running, and inside its own callback. */
CP_API void cp_timer_stop(struct cp_timer *timer);
CP_API bool cp_timer_running(const struct cp_timer *timer);

/* ---- Defer -------------------------------------------------------------------------------------------------- */

struct cp_deferred;
typedef void cp_deferred_run(struct cp_deferred *deferred);

/** A call at the end of this turn of the loop, embedded in what it belongs to (zeroed at first). */
struct cp_deferred {
	struct cp_deferred *next;
	cp_deferred_run *run;
	bool queued;
};

/** Run `run(deferred)` once at the end of this turn, after every event of the turn was handled; a call that is queued
 * already is not queued twice. What is deferred while deferred calls run comes a turn later, with descriptors polled
 * in between. The object must live until then: this is also how objects are freed that may be on the stack. */
CP_API void cp_defer(struct cp_loop *loop, struct cp_deferred *deferred, cp_deferred_run *run);

/* ---- Posting between threads -------------------------------------------------------------------------------- */

typedef void cp_post_run(struct cp_loop *loop, void *arg);

/** Run `run(loop, arg)` on another loop's thread (or this one's, a turn later). In the order of posting, also of what
 * several threads post one after the other.
 * @return false when that loop has ended: `run` will never run
 * Thread: any. */
CP_API bool cp_post(struct cp_loop *loop, cp_post_run *run, void *arg);

/* ---- Blocking work ------------------------------------------------------------------------------------------ */

/** Run `work(arg)` on a small pool of threads, then `done(loop, arg)` back here.
 * @return false when the pool has ended (the process stops) or no thread can be made: neither will run */
CP_API bool cp_blocking(struct cp_loop *loop, void (*work)(void *arg), cp_post_run *done, void *arg);

/* ---- Names -------------------------------------------------------------------------------------------------- */

struct cp_resolve;
typedef void cp_resolve_done(struct cp_resolve *resolve);

/** One look-up of a host's addresses, embedded in what it belongs to. Literal addresses and names known from an
 * earlier look-up answer at once. Names are refreshed in the background when their TTL has passed; while look-ups
 * fail, the last good addresses serve on. */
struct cp_resolve {
	cp_resolve_done *done; /**< set by the caller; may use everything below until it returns or starts another */
	void *arg;             /**< the caller's */
	const struct cp_ip *ips; /**< result: in the order to try; valid until `done` returns, or, for an answer at once,
								until the loop's turn ends */
	uint32_t count;
	struct cp_error error; /**< filled when count is 0 */
	/* the resolver's own: */
	struct cp_resolve *next, **prev;
	struct cp_ip literal; /* what `ips` is for a literal address */
};

/** Look `host` up: an IPv4 or IPv6 address as text (with zone), or a name.
 * @return CP_OK: `ips` and `count` are there, `done` is not called; CP_AGAIN: `done` is called once; else an error,
 *         with `error` filled */
CP_API int cp_resolve_start(struct cp_loop *loop, struct cp_resolve *resolve, const char *host);

/** Forget a look-up that returned CP_AGAIN: `done` will not be called. */
CP_API void cp_resolve_cancel(struct cp_resolve *resolve);

CP_END_DECLS
#endif
