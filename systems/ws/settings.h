/** What the files that read [connpipe.ws] share: settings.c finds tables and the options of addresses, options.c reads
 * the keys of one table. */
#ifndef SYSTEMS_WS_SETTINGS_H
#define SYSTEMS_WS_SETTINGS_H

#include "ws.h"

/** One reading of the settings. */
struct settings_reading {
	struct cp_system *core;
	struct cp_arena *arena; /* for everything that options point to */
};

/** Read all keys of a table into `options`, which are those that it inherits. Errors are reported. */
void settings_read_options(const struct settings_reading *reading, const struct cp_settings *table,
						   struct ws_options *options);

/** The offset in an error of the address parser, whose place is `column N of "text"`. */
size_t settings_error_offset(const struct cp_error *error);

#endif
