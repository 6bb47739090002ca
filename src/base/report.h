/** The errors of one load: all of them are collected, then shown in one go. Thread: main task. */
#ifndef BASE_REPORT_H
#define BASE_REPORT_H

#include <connpipe/abi.h>
#include <connpipe/error.h>

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

struct report_entry {
	char *where; /* file:line:column, or "" */
	char *message;
};

/** Zeroed at first. Entries are owned by the report. */
struct report {
	struct report_entry *entries;
	size_t count, room;
	size_t dropped; /* errors beyond REPORT_MAX are only counted */
};

enum { REPORT_MAX = 1000 };

void report_add(struct report *report, const char *where, const char *format, ...) CP_PRINTF(3, 4);
void report_vadd(struct report *report, const char *where, const char *format, va_list arguments);
/** Add an error: `where: message`. */
void report_add_error(struct report *report, const struct cp_error *error);
/** One line each, `where: message`, with `prefix` in front ("" for none). */
void report_print(const struct report *report, FILE *file, const char *prefix);
/** One ERROR line each in the log. */
void report_log(const struct report *report, const char *who);
void report_deinit(struct report *report);

#endif
