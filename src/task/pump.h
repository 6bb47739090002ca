/** What the files of the pump share; see pump.c. Flow `i` of a pipe goes from end i to the other one. */
#ifndef TASK_PUMP_H
#define TASK_PUMP_H

#include "pipe.h"

#include "../base/memory.h"
#include "../loop/loop.h"
#include "worker.h"

enum { SPLICE_AFTER = 2 }; /* full reads in a row after which splicing pays */

enum step {
	STEP_AGAIN, /* there may be more to do at once */
	STEP_WAIT,  /* an event will say when to go on, or there is nothing more to do */
};

static inline struct cp_stream *pump_source(const struct pipe *p, int i)
{
	return p->end[i];
}

static inline struct cp_stream *pump_sink(const struct pipe *p, int i)
{
	return p->end[!i];
}

static inline enum step pump_blocked(struct flow *f)
{
	f->blocked = true;
	return STEP_WAIT;
}

static inline struct backlog *pump_backlog(struct flow *f)
{
	if (!f->backlog)
		f->backlog = xcalloc(1, sizeof(*f->backlog));
	return f->backlog;
}

/** Give back the backlog that is there. */
void pump_drop(struct pipe *p, struct flow *f);
/** Likewise, if there is one. */
static inline void pump_let_go(struct pipe *p, struct flow *f)
{
	if (f->backlog)
		pump_drop(p, f);
}

/** Nothing more will come from the source of flow i, which broke: the other way is pointless, this way drains. */
enum step pump_source_broke(struct pipe *p, int i, int error);
/** The sink of flow i takes nothing more. What it sent before it broke is still read: its reply may be there. */
enum step pump_sink_broke(struct pipe *p, int i, int error);

/* ---- pump_splice.c ------------------------------------------------------------------------------------------ */

/** Whether splicing is possible now; then the flow has a kernel pipe. @param from  set to the source's descriptor */
bool pump_can_splice(struct pipe *p, int i, int *from);
/** One step, with an empty kernel pipe. */
enum step pump_splice(struct pipe *p, int i, int from);
/** Write what is in the kernel pipe. */
enum step pump_flush_pipe(struct pipe *p, int i);
/** The sink wants to see the bytes itself: take them out of the kernel pipe. */
void pump_unsplice(struct pipe *p, struct flow *f);

#endif
