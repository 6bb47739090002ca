/** The life of a child: started with a socket as its stdin and stdout, reaped when it ends, told to end when its
 * connection was cut or the generation goes.
 *
 *     running ─▶ ended by itself ─▶ reaped
 *        └─ child_end(): SIGTERM ─ 2 s ─▶ SIGKILL ─▶ reaped
 *
 * Thread: everything of one child happens on the loop that started it. */
#ifndef SYSTEMS_CORE_CHILD_H
#define SYSTEMS_CORE_CHILD_H

#include "connectors.h"
#include "words.h"

#include <connpipe/loop.h>

struct child;

/** Start `words->at[0]` (looked for in PATH if it has no "/") with `fd` as stdin and stdout. `fd` stays the caller's.
 * @param owner  where to keep the child's address until it is reaped: it is set to NULL then
 * @return CP_OK, or an error: it could not be executed */
int child_start(struct cp_connector *connector, struct cp_loop *loop, const struct words *words, int fd,
				struct child **owner, struct cp_error *error);
/** Nobody keeps its address any more. It goes on, and is reaped. */
void child_leave(struct child *child);
/** Have it end: SIGTERM, and SIGKILL after two seconds, to all of its process group. */
void child_end(struct child *child);

/** Have all children end that still run on this worker; `system` is pinned until they are reaped. Before this, they do
 * not pin it: a system that is pinned is not stopped. */
void children_end(struct core *core, struct cp_loop *loop, struct cp_system *system);

#endif
