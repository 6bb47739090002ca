/** What the files of the main task share: main_task.c (life of the process), change.c (generations and plans come into
 * use), main_admin.c (the control socket), privileges.c. Thread: main task, all of it. */
#ifndef TASK_MAIN_STATE_H
#define TASK_MAIN_STATE_H

#include "../observe/admin.h"
#include "listeners.h"
#include "main_task.h"
#include "worker.h"

/** X(name, text, meaning)
 *
 *     starting ─▶ preparing ─▶ switching ─▶ running ─▶ draining ─▶ stopping ─▶ stopped
 *        │            ▲                        │  └───────────────────▲
 *        └─ failed    └──────── reload ────────┘
 */
#define MAIN_STATES(X)                                                                                   \
	X(MAIN_STARTING, "starting", "loads, binds, makes the workers")                                      \
	X(MAIN_PREPARING, "preparing", "workers start the systems of a new generation; the old plan serves") \
	X(MAIN_SWITCHING, "switching", "workers go over to a new plan")                                      \
	X(MAIN_RUNNING, "running", "all workers use the same plan")                                          \
	X(MAIN_DRAINING, "draining", "nothing is accepted; pipes may end by themselves")                     \
	X(MAIN_STOPPING, "stopping", "pipes are closed, generations unload, workers end")

enum main_state {
#define MAIN_STATE_ENUM(name, text, meaning) name,
	MAIN_STATES(MAIN_STATE_ENUM)
#undef MAIN_STATE_ENUM
};

/** A call of the control socket that waits for a reload. */
struct waiting_call {
	struct waiting_call *next;
	struct admin_call *call;
};

/** A new plan on its way into use: after a reading of the configuration, or after a router changed its addresses. */
struct change {
	struct generation *generation; /* new; NULL: the plan is one more of the generation in use */
	struct plan *plan;
	struct rebind *rebind;      /* the router's change, or NULL */
	uint32_t waiting;           /* workers that have not answered */
	struct cp_error error;      /* the first that a worker answered with */
	struct waiting_call *calls; /* to be answered */
};

struct main_task {
	const struct main_options *options;
	enum main_state state;
	struct cp_loop *loop;
	struct worker **workers;
	uint32_t worker_count;
	struct worker_counters counters;
	struct limits *limits;
	struct balance *balance; /* NULL: no workers yet */
	struct listeners listeners;

	struct plan *plan;                 /* in use; NULL before the first */
	uint32_t generations;              /* loaded, and kept by plans */
	struct retiring *retiring;         /* those that are being unloaded */
	uint64_t generation_serial;        /* number of the newest */
	struct change change;              /* while preparing and switching */
	bool reload_wanted;                /* again, when this one is through */
	struct waiting_call *reload_calls; /* for that */
	struct rebind *rebind_wanted;      /* of rebind_generation, when this one is through */
	struct generation *rebind_generation;
	uint64_t reloads_ok, reloads_failed;
	char *last_error;

	struct admin *admin;
	char *admin_path;

	int signals; /* signalfd */
	struct cp_watch *signal_watch;
	bool stop_wanted;  /* when the change is through */
	bool signalled;    /* to stop: the next such signal ends at once */
	bool drain_wanted; /* … without a limit of time (ctl drain) */
	struct cp_timer drain_timer;
	uint32_t workers_accepting; /* told to stop it, and have not answered */
	uint32_t workers_draining;  /* whose pipes have not all ended */
	uint32_t workers_busy;      /* stopping: that have not let go of everything */
	uint64_t started_ms, stopping_ms;
	bool settled;   /* stopping: workers have let go of everything */
	bool failed;    /* it could not start: exit 1 */
	bool once_over; /* main_options.once: the first pipe has ended */
	int exit_code;
};

/** There is one in the process while it runs; hooks and posted calls find it by the main loop's owner. */
struct main_task *main_of(struct cp_loop *loop);
void main_enter(struct main_task *m, enum main_state state);
const char *main_state_text(enum main_state state);

/* ---- change.c ----------------------------------------------------------------------------------------------- */

extern const struct generation_hooks main_generation_hooks;

/** Read the configuration and bring it into use. @param call  answered when it is through, or NULL */
void change_reload(struct main_task *m, struct admin_call *call);
/** Bring the first generation into use: it is loaded and bound. */
void change_first(struct main_task *m, struct generation *generation, struct plan *plan);
/** Whether any generation is still loaded. */
bool change_generations_left(const struct main_task *m);
/** Generations that are being unloaded, and what keeps them. */
json_t *change_pinned(const struct main_task *m);
/** Give up waiting for changes that were asked for (the process stops). */
void change_cancel_wanted(struct main_task *m);

/* ---- main_task.c -------------------------------------------------------------------------------------------- */

/** The hook of generations: makes the workers, the first time. */
void main_settings_read(const struct process_settings *settings, struct report *report);
/** A change came through, or failed: what had to wait for it is done now. */
void main_change_over(struct main_task *m, bool failed);
/** A generation is gone. */
void main_generation_gone(struct main_task *m);
void main_begin_drain(struct main_task *m, bool without_limit);

/* ---- main_admin.c ------------------------------------------------------------------------------------------- */

/** Open the control socket that the settings name, move it, or close it. Failing is a warning. */
void main_admin_open(struct main_task *m, const struct process_settings *settings);
void main_admin_close(struct main_task *m);

/* ---- privileges.c ------------------------------------------------------------------------------------------- */

/** Raise the soft limit of descriptors to the hard one; warn when it is less than twice limits.connections. */
void privileges_raise_limits(const struct process_settings *settings);
/** Become `user` (NULL: stay), keeping only the right to bind low ports; children inherit no capabilities. Before any
 * thread is made. */
int privileges_drop(const char *user, struct cp_error *error);

#endif
