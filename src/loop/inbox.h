/** The inbox of one loop: calls that other threads post. See cp_post() in connpipe/loop.h. */
#ifndef LOOP_INBOX_H
#define LOOP_INBOX_H

#include <connpipe/error.h>
#include <connpipe/loop.h>

#include <stdbool.h>

struct loop_inbox;

/** @param loop  with its event base */
struct loop_inbox *inbox_new(struct cp_loop *loop, struct cp_error *error);
/** Drop what was posted and refuse from now on. The memory stays, for threads that come late. On the loop's thread. */
void inbox_close(struct loop_inbox *inbox);
/** Thread: any. What it says may be out of date, but only from open to closed. */
bool inbox_is_closed(struct loop_inbox *inbox);

#endif
