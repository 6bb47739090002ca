/** What is behind a `struct cp_system`, and the steps that the files of this folder share.
 *
 *     generation.c  loading: phases in order          system.c    a system's own functions, pins
 *     register.c    what systems export               retire.c    unloading
 *     rebind.c      routers that change addresses     builtin.c   what is compiled in */
#ifndef SYSTEM_SYSTEM_H
#define SYSTEM_SYSTEM_H

#include "generation.h"

#include <connpipe/loop.h>
#include <connpipe/system.h>

#include <stdatomic.h>
#include <stdbool.h>

struct cp_system {
	const char *id;
	const struct cp_system_def *def;
	struct generation *generation;
	struct cp_system *parent;           /* who registered it, or its type; NULL: compiled in */
	const struct cp_settings *settings; /* only while loading; or NULL */
	const char *where;                  /* place of its settings, or NULL */
	void *data;
	void (*gone)(void *arg); /* its code is not needed any more (cp_system_become), or NULL */
	void *gone_arg;
	bool loaded;      /* load was called: unload is owed */
	bool failed;      /* a phase has failed: the later ones are left out */
	atomic_uint pins; /* how many, and PINS_* bits */
};

/** The bits of `pins`. One word, so that a retiring system can neither miss its last unpin nor be freed under it: the
 * unpin that finds nothing else sets PINS_WAKING in the same step and then posts to the main loop; the system stays
 * until that call has been taken, which clears the bit. */
enum {
	PINS_WAKING = 1 << 29,   /* a call to the main loop is on its way */
	PINS_RETIRING = 1 << 30, /* the main task waits for the last unpin */
	PINS_COUNT = PINS_WAKING - 1,
};

/** A router, with the memory of the addresses that it changed to. The public part is first. */
struct registered_router {
	struct cp_router router;
	struct cp_arena *addresses; /* of the last rebind, or NULL */
};

/** A name for `type = "…"`. */
struct type_entry {
	struct type_entry *next;
	const char *name;
	const struct cp_system_def *def;
	struct cp_system *system; /* who registered it */
};

/** Where a system comes from, in words, for errors. @return `buffer` */
const char *system_place(const struct cp_system *system, char *buffer, size_t room);
/** Errors so far, those beyond the report's limit too. */
size_t report_errors(const struct report *report);

/** Add a system behind the others, to be loaded. One that is there already from the same origin (same definition, same
 * settings) is dropped, with a line in the log.
 * @param id      copied
 * @param parent  who registers it, or its type; NULL: it is compiled in
 * @return CP_OK, or an error that was reported */
int generation_add_system(struct generation *generation, const struct cp_system_def *def, const char *id,
						  const struct cp_settings *settings, struct cp_system *parent);
void generation_push_system(struct generation *generation, struct cp_system *system);
void generation_push_claim(struct generation *generation, const struct claim *claim);
const struct type_entry *generation_find_type(const struct generation *generation, const char *name);
/** Free what is left when all systems are unloaded. */
void generation_free(struct generation *generation);

/** Ask for a call when the last pin goes. @return true: nothing pins it now, and no such call is on its way */
bool system_unused(struct cp_system *system);
/** That call, on the main loop (a cp_post_run). */
void retire_wake(struct cp_loop *loop, void *system);
/** Unload a generation that no worker has started, as far as it goes at once; the rest follows on the main loop. */
void retire_now(struct generation *generation);

#endif
