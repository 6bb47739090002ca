/** Tables for people: columns as wide as their widest cell. What comes from the network is made harmless: control
 * characters show as \xNN, so that a name cannot move the cursor of the terminal. */
#ifndef CLI_TEXT_TABLE_H
#define CLI_TEXT_TABLE_H

#include <connpipe/abi.h>

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct text_table {
	size_t columns;
	char **cells; /* row by row */
	size_t count, room;
};

void table_init(struct text_table *table, size_t columns);
/** Add the next cell, copied. */
void table_cell(struct text_table *table, const char *text);
void table_cellf(struct text_table *table, const char *format, ...) CP_PRINTF(2, 3);
/** @param indent  in front of each row */
void table_print(const struct text_table *table, FILE *file, const char *indent);
void table_deinit(struct text_table *table);

/** `text` with control characters shown. */
void print_harmless(FILE *file, const char *text);

enum { HUMAN_TEXT = 32 };
/** "3d 4h", "2m 5s", "250ms". @param buffer  HUMAN_TEXT bytes @return buffer */
const char *human_duration(uint64_t milliseconds, char *buffer);
/** "17 B", "1.4 MiB". */
const char *human_bytes(uint64_t bytes, char *buffer);

#endif
