#include "system.h"

#include "../base/memory.h"

#include <connpipe/log.h>

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* Unloading a generation: its systems go one by one, the last one loaded first. The states are those of the system
 * whose turn it is:
 *
 *     unused? ──▶ stopping ──▶ unused again? ──▶ unload ──▶ leaving ──▶ the next one
 *
 * "unused?" waits for the last unpin: streams of its code, work that it began. Stopping on a worker may begin some more
 * (a last write, blocking work that has to come back), so it is asked twice. Who unpins is still in the system's code
 * for some instructions; where that code goes away (system->gone), each worker is heard from once more before. */

/** X(name, meaning) */
#define RETIRE_STATES(X)                                                       \
	X(RETIRE_UNUSED, "waits until nothing pins it")                            \
	X(RETIRE_STOPPING, "worker_stop is under way on the workers")              \
	X(RETIRE_STOPPED, "stopped everywhere; waits until nothing pins it again") \
	X(RETIRE_LEAVING, "unloaded; waits until the workers have returned from its code")

enum retire_state {
#define RETIRE_STATE_ENUM(name, meaning) name,
	RETIRE_STATES(RETIRE_STATE_ENUM)
#undef RETIRE_STATE_ENUM
};

struct retirement {
	struct generation *generation;
	struct cp_loop *loop; /* the main loop; NULL: nothing can be waited for */
	enum retire_state state;
	uint32_t left;     /* systems that are still there: it is the turn of the last of them */
	uint32_t stopping; /* workers that are waited for */
	uint32_t stuck;    /* systems that had to stay, as they are pinned and nothing can be waited for */
	bool started;
	void (*done)(uint64_t number, void *arg);
	void *arg;
};

static void advance(struct retirement *retirement);

static struct cp_system *current(const struct retirement *retirement)
{
	return retirement->generation->systems[retirement->left - 1];
}

/* ---- Stopping on the workers -------------------------------------------------------------------------------- */

/** The code of the system whose turn it was can go; the turn is the next one's. */
static void leave(struct retirement *retirement)
{
	struct cp_system *system = current(retirement);
	if (system->gone)
		system->gone(system->gone_arg);
	retirement->left--;
	retirement->state = RETIRE_UNUSED;
}

/** A worker has done what it was told. */
static void on_answer(struct cp_loop *loop, void *arg)
{
	(void)loop;
	struct retirement *retirement = arg;
	assert(retirement->stopping > 0);
	if (--retirement->stopping > 0)
		return;
	if (retirement->state == RETIRE_STOPPING)
		retirement->state = RETIRE_STOPPED;
	else
		leave(retirement);
	advance(retirement);
}

/** On a worker. The main task changes nothing of the retirement until it has heard from every worker. */
static void stop_here(struct cp_loop *loop, void *arg)
{
	struct retirement *retirement = arg;
	struct cp_system *system = current(retirement);
	system->def->worker_stop(system, loop);
	cp_post(retirement->loop, on_answer, retirement);
}

/** On a worker. That it runs is all: what the loop calls runs with no other code of the system below it. */
static void leave_here(struct cp_loop *loop, void *arg)
{
	(void)loop;
	struct retirement *retirement = arg;
	cp_post(retirement->loop, on_answer, retirement);
}

/** Have `run` called on each worker where the system was started. @return how many of them will tell; one whose loop
 * has ended does not */
static uint32_t tell_workers(struct retirement *retirement, cp_post_run *run)
{
	struct generation *generation = retirement->generation;
	if (!retirement->loop || !retirement->started)
		return 0;
	uint32_t count = 0;
	for (uint32_t i = 0; i < generation->worker_count; i++)
		if (atomic_load(&generation->started[i]) && cp_post(cp_worker_loop(i), run, retirement))
			count++;
	return count;
}

/* ---- One step after the other ------------------------------------------------------------------------------- */

static void unload(struct retirement *retirement)
{
	struct cp_system *system = current(retirement);
	if (system->loaded && system->def->unload)
		system->def->unload(system);
	system->loaded = false;
	retirement->state = RETIRE_LEAVING;
	retirement->stopping = system->gone ? tell_workers(retirement, leave_here) : 0;
	if (!retirement->stopping)
		leave(retirement);
}

/** Nobody will say when it is unused: its code may still run, so it has to stay. */
static void leave_behind(struct retirement *retirement)
{
	struct cp_system *system = current(retirement);
	cp_log(CP_WARN, "system", "\"%s\" is still in use (%u) at the end: it stays loaded", system->id,
		   atomic_load(&system->pins) & PINS_COUNT);
	retirement->stuck++;
	retirement->left--;
	retirement->state = RETIRE_UNUSED;
}

static void finish(struct retirement *retirement)
{
	uint64_t number = retirement->generation->number;
	if (!retirement->stuck)
		generation_free(retirement->generation);
	if (retirement->done)
		retirement->done(number, retirement->arg);
	free(retirement);
}

/** Take one step. @return false: it has to wait */
static bool step(struct retirement *retirement)
{
	struct cp_system *system = current(retirement);
	if (retirement->state == RETIRE_STOPPING || retirement->state == RETIRE_LEAVING)
		return false;
	if (!system_unused(system)) {
		if (retirement->loop)
			return false;
		leave_behind(retirement);
		return true;
	}
	if (retirement->state == RETIRE_STOPPED) {
		unload(retirement);
		return true;
	}
	retirement->stopping = system->def->worker_stop ? tell_workers(retirement, stop_here) : 0;
	retirement->state = retirement->stopping ? RETIRE_STOPPING : RETIRE_STOPPED;
	return true;
}

static void advance(struct retirement *retirement)
{
	while (retirement->left > 0)
		if (!step(retirement))
			return;
	finish(retirement);
}

void retire_wake(struct cp_loop *loop, void *arg)
{
	(void)loop;
	struct cp_system *system = arg;
	struct retirement *retirement = system->generation->retirement;
	atomic_fetch_and(&system->pins, ~(unsigned)PINS_WAKING);
	advance(retirement);
}

/* ---- Beginning ---------------------------------------------------------------------------------------------- */

static struct retirement *retirement_new(struct generation *generation, bool started,
										 void (*done)(uint64_t number, void *arg), void *arg)
{
	struct retirement *retirement = xcalloc(1, sizeof(*retirement));
	*retirement = (struct retirement){.generation = generation, .started = started, .done = done, .arg = arg};
	retirement->state = RETIRE_UNUSED;
	retirement->left = generation->system_count;
	retirement->loop = cp_loop_main();
	generation->state = GENERATION_RETIRING;
	generation->retirement = retirement;
	return retirement;
}

static void on_begin(struct cp_loop *loop, void *retirement)
{
	(void)loop;
	advance(retirement);
}

void generation_retire(struct generation *generation, bool started, void (*done)(uint64_t number, void *arg), void *arg)
{
	struct retirement *retirement = retirement_new(generation, started, done, arg);
	if (retirement->loop && cp_post(retirement->loop, on_begin, retirement))
		return;
	retirement->loop = NULL;
	advance(retirement);
}

void retire_now(struct generation *generation)
{
	advance(retirement_new(generation, false, NULL, NULL));
}

/* ---- Words for the status ----------------------------------------------------------------------------------- */

struct words {
	char *buffer;
	size_t room, length;
};

static void CP_PRINTF(2, 3) words_add(struct words *words, const char *format, ...)
{
	size_t at = words->length < words->room ? words->length : words->room;
	if (words->length)
		words->length += (size_t)snprintf(words->buffer + at, words->room - at, ", ");
	at = words->length < words->room ? words->length : words->room;
	va_list arguments;
	va_start(arguments, format);
	words->length += (size_t)vsnprintf(words->buffer + at, words->room - at, format, arguments);
	va_end(arguments);
}

size_t generation_pins(const struct generation *generation, char *buffer, size_t room)
{
	struct words words = {buffer, room, 0};
	if (room)
		buffer[0] = 0;
	unsigned plans = atomic_load(&generation->refs);
	if (plans)
		words_add(&words, "%u plan%s", plans, plans == 1 ? "" : "s");
	for (uint32_t i = 0; i < generation->system_count; i++) {
		const struct cp_system *system = generation->systems[i];
		unsigned pins = atomic_load(&system->pins) & PINS_COUNT;
		if (pins)
			words_add(&words, "%s: %u use%s", system->id, pins, pins == 1 ? "" : "s");
	}
	const struct retirement *retirement = generation->retirement;
	if (retirement && retirement->left > 0 && retirement->state == RETIRE_STOPPING)
		words_add(&words, "%s: stopping on %u worker%s", current(retirement)->id, retirement->stopping,
				  retirement->stopping == 1 ? "" : "s");
	return words.length;
}
