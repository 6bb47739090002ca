/** A generation that is only looked at, without the main task: for `check`, `route` and `systems`. Nothing is bound or
 * connected. The calling thread is the main task's and the only worker's at once. */
#ifndef CLI_OFFLINE_H
#define CLI_OFFLINE_H

#include "../base/report.h"
#include "../loop/loop.h"
#include "../system/generation.h"

struct offline {
	struct cp_loop *loop;
	struct generation *generation;
	struct plan *plan;
	struct report report;
	bool started; /* systems were started on the loop */
};

/** Load. @return CLI_OK; CLI_FAILED after all errors were printed */
int offline_open(struct offline *offline, const char *directory);

/** Start the systems, so that routers can be asked. @return CLI_OK; CLI_FAILED after the error was printed */
int offline_start(struct offline *offline);

void offline_close(struct offline *offline);

#endif
