/** Generation: everything loaded from one reading of the configuration: systems in order, the scope of their names,
 * the process's settings. Made and unmade by the main task; kept by plans.
 *
 *     loading → linking → checking ──▶ ready ──▶ retiring ──▶ gone
 *                            └── an error ──────────▲
 *
 * Its life, as the main task lives it:
 *     generation_load()            → the generation and its first plan
 *     generation_worker_start()    on each worker
 *     …                            connections hold plans; a router's rebind makes new ones (hooks->rebind)
 *     hooks->plan_released         the last reference to a plan is gone: hand it to the main task, where
 *     generation_release_plan()    says whether it was the generation's last plan: then
 *     generation_retire()          systems stop on the workers and unload, in reverse order, each once nothing pins it
 *
 * Thread: main task, unless a function says otherwise. */
#ifndef SYSTEM_GENERATION_H
#define SYSTEM_GENERATION_H

#include "../base/report.h"
#include "../config/process_settings.h"
#include "../route/plan.h"

#include <connpipe/system.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct generation;
struct rebind;
struct retirement;

/** X(name, meaning) */
#define GENERATION_STATES(X)                                                     \
	X(GENERATION_LOADING, "systems register what they export")                   \
	X(GENERATION_LINKING, "names are there: addresses are parsed, routers bind") \
	X(GENERATION_CHECKING, "what can be checked across systems")                 \
	X(GENERATION_READY, "in use, or about to be")                                \
	X(GENERATION_RETIRING, "no plan keeps it: its systems stop and unload")

enum generation_state {
#define GENERATION_STATE_ENUM(name, meaning) name,
	GENERATION_STATES(GENERATION_STATE_ENUM)
#undef GENERATION_STATE_ENUM
};

/** What the systems are loaded for. */
enum generation_mode {
	GENERATION_RUN,
	GENERATION_CHECK, /* only look: nothing is started */
};

/** What the main task does for its generations; static, or NULL members, or NULL altogether where nothing runs (check,
 * route). */
struct generation_hooks {
	/** The process's own settings are read, no system is loaded yet: from `load` on, systems may ask for the workers
	 * (cp_worker_count), so the main task makes them here, the first time. Main task. May be NULL. */
	void (*settings)(const struct process_settings *settings, struct report *report);

	/** The last reference to a plan is gone. Any thread: post it to the main task, which calls
	 * generation_release_plan(). NULL: that is done at once, and the last plan retires its generation. */
	void (*plan_released)(struct plan *plan);

	/** A router changes its addresses (cp_router_rebind). The generation's claims are the new ones already: make a plan
	 * of them (generation_replan), bind what is new, publish, then call rebind_end(); on a failure call it with the
	 * error, which brings the earlier claims back. Changes of one generation come one after the other: the next when
	 * this one has ended. Main task. NULL: changes are refused. */
	void (*rebind)(struct generation *generation, struct rebind *rebind);
};

struct generation {
	uint64_t number; /* from 1 */
	enum generation_mode mode;
	enum generation_state state;
	const struct generation_hooks *hooks; /* never NULL */
	atomic_uint refs;                     /* by plans */
	struct process_settings settings;
	struct cp_arena *arena; /* systems, and all that they registered: stays until the generation is gone */
	struct cp_scope *scope;
	struct cp_system **systems; /* in the order of loading */
	uint32_t system_count, system_room;
	atomic_bool *started; /* for each worker: generation_worker_start() succeeded there */
	uint32_t worker_count;
	struct claim *claims; /* of all routers, as they stand */
	size_t claim_count, claim_room;
	struct config *config;    /* only while loading */
	struct report *report;    /* only while loading */
	struct type_entry *types; /* names for `type = "…"` */
	struct rebind *rebinds;   /* routers' changes of address: the first one is under way */
	bool in_rebinds;          /* a loop over them is on the stack */
	struct retirement *retirement;
	struct generation *next; /* the main task's list */
	char *directory;
};

/** Where a generation comes from. */
struct generation_source {
	const char *directory; /* configuration directory */
	const char *text;      /* configuration as a text instead of `directory`/config.toml, or NULL */
	const char *name;      /* stands for the file in places of errors, with `text` */
	enum generation_mode mode;
	const struct cp_system_def *const *extra; /* compiled-in systems beyond builtin_systems, ends with NULL; or NULL */
	const struct generation_hooks *hooks;     /* kept by the generation; or NULL */
};

/** Load: read the configuration, load, link and check every system, build the plan. A phase that fails in one system is
 * still run for the others, so that all errors are seen; a system that has failed takes part in no further phase.
 * Order: builtin_systems, extra, the configuration's tables; what a system registers is loaded after it, before the
 * next of these.
 * @param plan  set to the first plan of the generation, with one reference
 * @return NULL after errors were reported: what was loaded is unloaded (a system that is still pinned, by work that it
 *         began while loading: as soon as it is not, from the main loop) */
struct generation *generation_load(uint64_t number, const struct generation_source *source, struct report *report,
								   struct plan **plan);

/** A new plan from the claims as they stand (a router has changed its addresses).
 * @return with one reference; NULL after errors were reported */
struct plan *generation_replan(struct generation *generation, struct report *report);

/** The end of a plan whose last reference is gone: let go of its generation, free it.
 * @return whether that was the generation's last plan: it is to be retired */
bool generation_release_plan(struct plan *plan);

/** End a change of addresses that hooks->rebind was called for. @param error  NULL: done, the earlier set is forgotten;
 * else the earlier set stays. Tells the router, and begins the next change that is waiting. Allowed inside the hook. */
void rebind_end(struct rebind *rebind, const struct cp_error *error);
/** Whose addresses change: for logs. */
struct cp_router *rebind_router(const struct rebind *rebind);

/** worker_start of every system, in order. If one fails, those that were started here are stopped again.
 * Thread: the worker that `loop` belongs to. @return CP_OK, or an error that names the system */
int generation_worker_start(struct generation *generation, struct cp_loop *loop, struct cp_error *error);

/** Unload everything, in reverse order of loading. Each system waits until nothing pins it, then stops on every worker
 * where it was started, then (when nothing pins it again) unloads; only then comes the next.
 * @param started  false: no worker was ever told to start it
 * @param done     called when it is all gone and freed; may be NULL
 * With a main loop this happens on that loop, and `done` is never called before this returns. Without one (check,
 * route) it has happened when this returns; a system that is pinned then stays in memory, and a line says so. */
void generation_retire(struct generation *generation, bool started, void (*done)(uint64_t number, void *arg),
					   void *arg);

/** What still keeps a generation, in words (`2 plans, rules: 3 uses`), for `ctl status`; "" for nothing.
 * @return the length that was needed; cut as with snprintf */
size_t generation_pins(const struct generation *generation, char *buffer, size_t room);

struct builtin_system {
	const struct cp_system_def *def; /* NULL: behind the last */
	const char *table; /* its settings are [connpipe.<table>]; "": [connpipe], of which it reads parts; NULL: none */
};

/** What compiled-in systems there are: defined by the build (src/system/builtin.c). */
extern const struct builtin_system builtin_systems[];

#endif
