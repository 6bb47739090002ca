/* Report: see report.h. */
#include "report.h"
#include "memory.h"

#include <connpipe/log.h>

#include <stdlib.h>

void report_vadd(struct report *report, const char *where, const char *format, va_list arguments)
{
	struct report_entry *entry;

	if (report->count == REPORT_MAX) {
		report->dropped++;
		return;
	}
	if (report->count == report->room) {
		report->room = report->room ? report->room * 2 : 8;
		report->entries = xreallocarray(report->entries, report->room, sizeof(*report->entries));
	}
	entry = &report->entries[report->count];
	if (vasprintf(&entry->message, format, arguments) < 0)
		no_memory();
	entry->where = xstrdup(where ? where : "");
	report->count++;
}

void report_add(struct report *report, const char *where, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	report_vadd(report, where, format, arguments);
	va_end(arguments);
}

void report_add_error(struct report *report, const struct cp_error *error)
{
	report_add(report, error->where, "%s", error->message);
}

static const char *separator(const struct report_entry *entry)
{
	return entry->where[0] ? ": " : "";
}

void report_print(const struct report *report, FILE *file, const char *prefix)
{
	for (size_t i = 0; i < report->count; i++) {
		const struct report_entry *entry = &report->entries[i];

		fprintf(file, "%s%s%s%s\n", prefix, entry->where, separator(entry), entry->message);
	}
	if (report->dropped)
		fprintf(file, "%sand %zu more errors\n", prefix, report->dropped);
}

void report_log(const struct report *report, const char *who)
{
	for (size_t i = 0; i < report->count; i++) {
		const struct report_entry *entry = &report->entries[i];

		cp_log(CP_ERROR, who, "%s%s%s", entry->where, separator(entry), entry->message);
	}
	if (report->dropped)
		cp_log(CP_ERROR, who, "and %zu more errors", report->dropped);
}

void report_deinit(struct report *report)
{
	for (size_t i = 0; i < report->count; i++) {
		free(report->entries[i].where);
		free(report->entries[i].message);
	}
	free(report->entries);
	*report = (struct report){0};
}
