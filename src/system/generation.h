/** Generation: everything loaded from one reading of the configuration: systems in order, the scope of their names,
 * the process's settings. Made and unmade by the main task; kept by plans.
 *
 * States: loading → ready (load, link, check done) → retiring (no plan keeps it any more; systems stop on the workers
 * and unload in reverse order, each once nothing pins it) → gone. */
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

/** What the systems are loaded for. */
enum generation_mode {
	GENERATION_RUN,
	GENERATION_CHECK, /* only look: nothing is started */
};

struct generation {
	uint64_t number; /* from 1 */
	enum generation_mode mode;
	atomic_uint refs; /* by plans */
	struct process_settings settings;
	struct cp_scope *scope;
	struct cp_system **systems; /* in the order of loading */
	uint32_t system_count, system_room;
	struct claim *claims; /* of all routers, as they stand */
	size_t claim_count, claim_room;
	struct config *config;  /* only while loading */
	struct report *report;  /* only while loading */
	struct type_entry *types; /* names for `type = "…"` */
	struct generation *next;  /* the main task's list */
	char *directory;
};

/** Load: read the configuration, load, link and check every system, build the plan.
 * @param directory  configuration directory
 * @param text       configuration as a text instead of the file, or NULL
 * @param plan       set to the first plan of the generation, with one reference
 * @return NULL after errors were reported; nothing is left behind */
struct generation *generation_load(uint64_t number, enum generation_mode mode, const char *directory, const char *text,
								   const char *name, struct report *report, struct plan **plan);

/** worker_start of every system, on a worker. @return CP_OK, or an error that names the system */
int generation_worker_start(struct generation *generation, struct cp_loop *loop, struct cp_error *error);

/** Unload everything: systems stop on `workers` (none: they were never started), then unload in reverse order, each
 * once nothing pins it. `done` is called on the main task when it is all gone and freed. */
void generation_retire(struct generation *generation, bool started, void (*done)(uint64_t number, void *arg), void *arg);

/** What still pins a retiring generation, in words, for `ctl status`. */
size_t generation_pins(const struct generation *generation, char *buffer, size_t room);

/** What compiled-in systems there are: defined by the build (src/system/builtin.c). NULL behind the last. */
extern const struct cp_system_def *const builtin_systems[];

#endif
