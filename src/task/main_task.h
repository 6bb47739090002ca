/** Main task: the one task that reads configuration, loads systems, publishes generations, and owns the life of the
 * process. Used by `connpipe run`, `pipe` and `connect`. */
#ifndef TASK_MAIN_TASK_H
#define TASK_MAIN_TASK_H

#include "../system/generation.h"

#include <stdbool.h>

struct main_options {
	struct generation_source source;
	bool once;  /* end when the first pipe has ended: exit 0 if its cause was `done`, else 1 with the cause on stderr */
	bool quiet; /* no log lines but errors, whatever the configuration says (for `connect`) */
};

/** Run until told to stop. @return the process's exit code: 0 after a stop, 1 when it could not start */
int main_task_run(const struct main_options *options);

#endif
