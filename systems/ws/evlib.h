/** libwebsockets' event loop, on ours.
 *
 * Until 4.1, libwebsockets runs on loops of other libraries only through plugins for these. The one for libev imports
 * 13 functions, ev_…, which the program exports (contrib/cmake/exports.list): so the plugin finds ours where it would
 * find libev's, and libev itself is not there at all. From 4.2 on a program can hand over its own loop, and does.
 *
 *     libwebsockets ──▶ plugin ── ev_io_start() … ──▶ evlib.c ──▶ evlib_loop.c ──▶ cp_watch, cp_timer, cp_defer
 *                   ◀── callbacks of ev_io, … ─────── evlib.c ◀── evlib_loop.c ◀──
 *
 * Two files: only evlib.c includes <ev.h>, and nothing that has to do with our loop. */
#ifndef SYSTEMS_WS_EVLIB_H
#define SYSTEMS_WS_EVLIB_H

#include <stdbool.h>

struct cp_loop;
struct lws_context_creation_info;

/** One loop of libwebsockets: of one context. What libwebsockets believes to be a `struct ev_loop` is this. */
struct evlib;

/* ---- For the engine ----------------------------------------------------------------------------------------- */

/** Before the context is created. @return NULL: out of memory */
struct evlib *evlib_new(void);
/** Put it into what the context is created with. @param loops  one, which is `info`'s until then */
void evlib_use(struct evlib *evlib, void **loops, struct lws_context_creation_info *info);
/** Whether the context that was created has found it: false, when another libev was found first. */
bool evlib_was_found(const struct evlib *evlib);
/** From here on it runs, on the loop of the calling thread. Until then wishes are only noted. */
void evlib_attach(struct evlib *evlib, struct cp_loop *loop);
/** After calls into libwebsockets that did not come out of one of its callbacks: it looks what they have left to do. */
void evlib_kick(struct evlib *evlib);
/** The socket took less than it was given: asking it again is in vain until it says that it takes more. */
void evlib_full(struct evlib *evlib, int fd);
/** Look at what libwebsockets will read from a descriptor before it does.
 * @param peek  called before each read, until it returns true */
void evlib_peek(struct evlib *evlib, int fd, bool (*peek)(int fd, void *arg), void *arg);
/** When the context is gone. */
void evlib_free(struct evlib *evlib);

/* ---- What the two halves say to each other: evlib.c to evlib_loop.c … ------------------------------------------ */

enum evlib_direction { EVLIB_READ, EVLIB_WRITE };

void evlib_found(struct evlib *evlib);
/** Call evlib_call_io() when the descriptor is ready. */
void evlib_io_start(struct evlib *evlib, int fd, enum evlib_direction direction, void *watcher);
void evlib_io_stop(struct evlib *evlib, int fd, enum evlib_direction direction);
/** There is one timer, and one idle watcher, in a context. */
void evlib_timer_start(struct evlib *evlib, void *watcher, double seconds);
void evlib_timer_stop(struct evlib *evlib);
void evlib_idle_start(struct evlib *evlib, void *watcher);
void evlib_idle_stop(struct evlib *evlib);

/* … and evlib_loop.c to evlib.c. */

void evlib_call_io(struct evlib *evlib, void *watcher, enum evlib_direction direction);
void evlib_call_timer(struct evlib *evlib, void *watcher);
/** The watcher stays started, and is called in the next pass, too, unless it is stopped meanwhile. */
void evlib_call_idle(struct evlib *evlib, void *watcher);

#endif
