/** Made-up systems for the tests of src/system, and a diary of what was called on them.
 *
 * The only compiled-in system here is `base`: it registers the connector `fake` and the type `fake`, whose systems do
 * what their table says:
 *     bind  = ["fake:h:1"]   a router of the system's id binds these in link
 *     router = "id"          … with this id instead
 *     fail  = "link"         the phase of that name (load, link, check, start) fails, with words
 *     silent = true          … without words
 *     child = "id"           registers a system of that id (twice, with `twice = true`), whose phases are noted too
 *     late  = true           registers a router in link, which is too late
 *     busy  = true           begins work in worker_stop that pins it and ends later, on the main loop */
#ifndef UNIT_SYSTEM_FAKE_H
#define UNIT_SYSTEM_FAKE_H

#include "system/generation.h"

#include <connpipe/loop.h>

#include <pthread.h>

/** What was called so far: `load a, load b, link a`. Any thread. */
void diary_note(const char *format, ...) CP_PRINTF(1, 2);
/** A copy of the diary, good until the next call; the diary begins anew. Tests' thread. */
const char *diary_take(void);
/** How often `what` stands in the diary. */
unsigned diary_count(const char *what);

extern const struct cp_system_def fake_type;

struct fake_load {
	struct report report;
	struct plan *plan;
	struct generation *generation;
};

/** Load a configuration from a text. @param hooks  may be NULL */
void fake_load(struct fake_load *load, const char *text, const struct generation_hooks *hooks);
/** Likewise, with compiled-in systems beyond `base`. */
void fake_load_extra(struct fake_load *load, const char *text, const struct cp_system_def *const *extra);
/** Whether an error was reported at `where` that contains `text`. */
bool fake_load_error(const struct fake_load *load, const char *where, const char *text);
/** The system of that id. */
struct cp_system *fake_system(const struct fake_load *load, const char *id);

/* ---- Threads ------------------------------------------------------------------------------------------------ */

enum { FAKE_WORKERS = 2 };

/** A main loop, which runs on the test's thread, and workers. */
struct fake_process {
	struct cp_loop *main_loop;
	struct cp_loop *workers[FAKE_WORKERS];
	pthread_t threads[FAKE_WORKERS];
};
void fake_process_start(struct fake_process *process);
void fake_process_stop(struct fake_process *process);
/** Run the main loop until something calls loop_stop(). */
void fake_process_run(struct fake_process *process);
/** Run the main loop until everything that was posted to it before has been done. */
void fake_process_turn(struct fake_process *process);
/** Run `run(arg)` on worker `index` and wait for it. */
void fake_on_worker(struct fake_process *process, uint32_t index, void (*run)(struct cp_loop *loop, void *arg),
					void *arg);
/** Start the generation on every worker; the test fails if that fails. */
void fake_start_workers(struct fake_process *process, struct generation *generation);

#endif
