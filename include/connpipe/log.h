/** Log.
 *
 * Lines have the form `[2022-09-16 23:40:00.670 LEVEL who] message` (local time), or JSON objects with the same parts.
 * `who` is a module or a system's id, or `type/id` for a task (`pipe/42`, `conn/3`). Bytes of control characters, and
 * bytes that are not UTF-8, are written `\xNN`, so that nothing from the network can forge a line; a backslash is itself,
 * unless it would read as such an escape. Lines over 8 KiB are cut.
 *
 * Thread: any, but not in a child between fork and exec. Never blocks: lines go into a bounded queue that a thread of
 * its own writes; when it is full, lines are dropped and counted, and a line says how many. errno is left as it is, and
 * `%m` works. */
#ifndef CONNPIPE_LOG_H
#define CONNPIPE_LOG_H

#include <connpipe/abi.h>

#include <stdbool.h>
#include <stdint.h>

CP_BEGIN_DECLS

enum cp_level { CP_ERROR, CP_WARN, CP_INFO, CP_DEBUG, CP_TRACE };

/** Whether lines of that level are written now (it can change while running). Cheap: ask before building a message. */
CP_API bool cp_log_enabled(enum cp_level level);

/** Write a line for a module or a system. */
CP_API void cp_log(enum cp_level level, const char *who, const char *format, ...) CP_PRINTF(3, 4);

/** Write a line for a task: `type/id`. */
CP_API void cp_log_task(enum cp_level level, const char *type, uint64_t id, const char *format, ...) CP_PRINTF(4, 5);

CP_END_DECLS
#endif
