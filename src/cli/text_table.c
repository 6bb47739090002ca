#include "text_table.h"

#include "../base/memory.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

void table_init(struct text_table *table, size_t columns)
{
	*table = (struct text_table){.columns = columns};
}

/** Bytes of the control character at `text`, 0 if it is none: C0, DEL, and C1 as UTF-8 writes it. */
static size_t control_length(const unsigned char *text)
{
	if (*text < 0x20 || *text == 0x7f)
		return 1;
	return *text == 0xc2 && text[1] >= 0x80 && text[1] < 0xa0 ? 2 : 0;
}

/** Copy of `text` with every byte of a control character as \xNN. */
static char *harmless(const char *text)
{
	const unsigned char *in = (const unsigned char *)text;
	char *copy = xmalloc(strlen(text) * 4 + 1), *out = copy;

	while (*in) {
		size_t length = control_length(in);

		if (length == 0)
			*out++ = (char)*in++;
		for (; length; length--)
			out += sprintf(out, "\\x%02x", *in++);
	}
	*out = 0;
	return copy;
}

void table_cell(struct text_table *table, const char *text)
{
	if (table->count == table->room) {
		table->room = table->room ? table->room * 2 : 64;
		table->cells = xreallocarray(table->cells, table->room, sizeof(*table->cells));
	}
	table->cells[table->count++] = harmless(text);
}

void table_cellf(struct text_table *table, const char *format, ...)
{
	char *text;
	va_list arguments;

	va_start(arguments, format);
	if (vasprintf(&text, format, arguments) < 0)
		no_memory();
	va_end(arguments);
	table_cell(table, text);
	free(text);
}

/** Columns on a terminal: one for each character, as far as bytes can tell. */
static size_t width(const char *text)
{
	size_t columns = 0;

	for (; *text; text++)
		columns += (*text & 0xc0) != 0x80;
	return columns;
}

static size_t column_width(const struct text_table *table, size_t column)
{
	size_t widest = 0;

	for (size_t i = column; i < table->count; i += table->columns)
		if (width(table->cells[i]) > widest)
			widest = width(table->cells[i]);
	return widest;
}

/** One row; empty cells at its end take no room. */
static void print_row(const struct text_table *table, char *const *cells, const size_t *widths, FILE *file)
{
	size_t filled = table->columns;

	while (filled > 0 && !*cells[filled - 1])
		filled--;
	for (size_t i = 0; i < filled; i++) {
		bool last = i + 1 == filled;

		fprintf(file, "%s%*s%s", cells[i], last ? 0 : (int)(widths[i] - width(cells[i])), "", last ? "" : "  ");
	}
	fputc('\n', file);
}

void table_print(const struct text_table *table, FILE *file, const char *indent)
{
	size_t *widths = xcalloc(table->columns, sizeof(*widths));

	for (size_t i = 0; i < table->columns; i++)
		widths[i] = column_width(table, i);
	for (size_t i = 0; i + table->columns <= table->count; i += table->columns) {
		fputs(indent, file);
		print_row(table, table->cells + i, widths, file);
	}
	free(widths);
}

void table_deinit(struct text_table *table)
{
	for (size_t i = 0; i < table->count; i++)
		free(table->cells[i]);
	free(table->cells);
	*table = (struct text_table){0};
}

void print_harmless(FILE *file, const char *text)
{
	char *copy = harmless(text);

	fputs(copy, file);
	free(copy);
}

/* ---- Numbers ------------------------------------------------------------------------------------------------ */

const char *human_duration(uint64_t milliseconds, char *buffer)
{
	uint64_t seconds = milliseconds / 1000;

	if (seconds >= 86400)
		snprintf(buffer, HUMAN_TEXT, "%" PRIu64 "d %" PRIu64 "h", seconds / 86400, seconds / 3600 % 24);
	else if (seconds >= 3600)
		snprintf(buffer, HUMAN_TEXT, "%" PRIu64 "h %" PRIu64 "m", seconds / 3600, seconds / 60 % 60);
	else if (seconds >= 60)
		snprintf(buffer, HUMAN_TEXT, "%" PRIu64 "m %" PRIu64 "s", seconds / 60, seconds % 60);
	else if (seconds >= 1)
		snprintf(buffer, HUMAN_TEXT, "%" PRIu64 ".%" PRIu64 "s", seconds, milliseconds / 100 % 10);
	else
		snprintf(buffer, HUMAN_TEXT, "%" PRIu64 "ms", milliseconds);
	return buffer;
}

const char *human_bytes(uint64_t bytes, char *buffer)
{
	static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double amount = (double)bytes / 1024;
	size_t unit = 0;

	if (bytes < 1024) {
		snprintf(buffer, HUMAN_TEXT, "%" PRIu64 " B", bytes);
		return buffer;
	}
	/* 1023.95 would print as 1024.0 */
	for (; amount >= 1023.95 && unit + 1 < sizeof(units) / sizeof(units[0]); unit++)
		amount /= 1024;
	snprintf(buffer, HUMAN_TEXT, "%.1f %s", amount, units[unit]);
	return buffer;
}
