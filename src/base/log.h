/** The log's own side: starting, changing, stopping. The one process-wide object of the program. See connpipe/log.h.
 * Thread: main task, except where it says any. SIGPIPE must be ignored before anything is logged. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <connpipe/error.h>
#include <connpipe/log.h>

#include <stdbool.h>
#include <stdint.h>

struct log_settings {
	enum cp_level level;
	bool json;
	const char *file; /* absolute path, or "stderr"; borrowed for the call */
};

/** Start the writer thread. Before this, and after log_stop(), lines of WARN and ERROR go to stderr directly.
 * @return CP_OK, or an error when the file cannot be opened (the thread then writes to stderr) or there is no thread
 *         (lines go on as before) */
int log_start(const struct log_settings *settings, struct cp_error *error);
/** Change what is written while running (reload). Reopens the file. On an error everything stays as it was. */
int log_change(const struct log_settings *settings, struct cp_error *error);
/** Open the file again by its name (log rotation). On an error the earlier one stays, and a line says so. */
void log_reopen(void);
void log_set_level(enum cp_level level);
enum cp_level log_get_level(void);
/** Parse "error", "warn", … (any case). @return false if it is none */
bool log_level_parse(const char *text, enum cp_level *level);
const char *log_level_text(enum cp_level level);
/** Lines lost because the queue was full or the file refused them. Thread: any. */
uint64_t log_dropped(void);
/** Write what is queued (at most for a second), stop the thread. Others may go on logging. */
void log_stop(void);

#endif
