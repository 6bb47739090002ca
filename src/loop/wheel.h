/** The timer wheel of one loop. See connpipe/loop.h for what is done with it. */
#ifndef LOOP_WHEEL_H
#define LOOP_WHEEL_H

#include <connpipe/error.h>
#include <connpipe/loop.h>

struct loop_wheel;

/** @param loop  with its event base */
struct loop_wheel *wheel_new(struct cp_loop *loop, struct cp_error *error);
/** Timers that still run are stopped. Before the event base is freed. */
void wheel_free(struct loop_wheel *wheel);

#endif
