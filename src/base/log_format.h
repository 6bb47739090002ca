/** Lines of the log: how time, level, who and message become text or JSON.
 *
 *     [2022-09-16 23:40:00.670 INFO pipe/42] opened
 *     {"time":"2022-09-16T23:40:00.670+02:00","level":"INFO","type":"pipe","id":42,"message":"opened"}
 *     {"time":"2022-09-16T23:40:00.670+02:00","level":"WARN","module":"config","message":"…"}
 *
 * Escapes, the same in both forms (a JSON string, once decoded, is the text of the text form): bytes of control
 * characters (also DEL and U+0080 to U+009F, which terminals obey) and bytes that are not UTF-8 are written `\xNN`, two
 * lower-case hexadecimal digits. A backslash is itself; only where what follows would make it look like an escape it is
 * written `\x5c`. So every `\xNN` of a line is an escaped byte, and nothing else is changed. */
#ifndef BASE_LOG_FORMAT_H
#define BASE_LOG_FORMAT_H

#include <connpipe/log.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	LOG_LINE_MAX = 8192,    /* bytes of a line with its newline; longer ones are cut and end in `…` */
	LOG_MESSAGE_MAX = 8192, /* bytes of a message before it is escaped, with the zero byte behind it */
};

/** Who a line is from. */
struct log_origin {
	const char *who; /* a module, or a task's type */
	bool is_task;
	uint64_t id; /* of a task */
};

/** Write the line for now (local time), newline included, no zero byte behind it. Thread: any.
 * @param length  of the message
 * @return the length of the line, at most LOG_LINE_MAX */
size_t log_format(char line[LOG_LINE_MAX], bool json, enum cp_level level, const struct log_origin *origin,
				  const char *message, size_t length);

#endif
