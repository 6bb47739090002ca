/** Listeners: the sockets that are bound, by address, for the life of the process. Plans share them: an address that is
 * bound before and after a reload keeps its sockets. Thread: main task; workers only read the entry's listener. */
#ifndef TASK_LISTENERS_H
#define TASK_LISTENERS_H

#include "../base/report.h"
#include "../route/plan.h"

#include <connpipe/connector.h>

struct listener_entry {
	struct listener_entry *next;
	char *key; /* as binding.key */
	struct cp_listener *listener;
	struct cp_system *system;       /* pinned: whose code the listener is */
	struct listener_entry *earlier; /* until this is in use: whose sockets it shares, of code that was loaded before */
	uint32_t plans;                 /* that bind it */
	bool announced;                 /* in the log */
};

struct listeners {
	struct listener_entry *first;
};

/** Bind what the plan needs and is not bound yet; what is bound by an earlier load of the connector's code is bound by
 * the new code too, over the same sockets, if it can; sets binding.listener everywhere. All or nothing: if an address
 * cannot be bound, each such is reported, and everything bound here is given back.
 * @return CP_OK or CP_EADDRINUSE … of the first that failed */
int listeners_bind(struct listeners *listeners, struct plan *plan, uint32_t workers, struct report *report);

/** All workers use the plan: its listeners belong to its generation from now on, and are announced in the log. */
void listeners_in_use(struct plan *plan);

/** The plan is not used by any worker any more: unbind what no other plan binds. */
void listeners_release(struct listeners *listeners, struct plan *plan);

#endif
