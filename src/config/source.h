/** Source: a configuration file as text, read and checked for what the parser cannot stand or explain. */
#ifndef CONFIG_SOURCE_H
#define CONFIG_SOURCE_H

#include "toml_shim.h"

#include <connpipe/error.h>

#include <stdbool.h>
#include <stddef.h>

enum {
	SOURCE_KEY_PARTS = 32,       /* of a dotted key: deeper ones would nest tables beyond the stack */
	SOURCE_LENGTH_MAX = 1 << 30, /* bytes */
};

struct source {
	char *text; /* malloc */
	size_t length;
};

/** Read a regular file. @return CP_OK, or an error whose message says what to do; `where` is left empty */
int source_read(const char *path, struct source *source, struct cp_error *error);
void source_deinit(struct source *source);

/** Check that `text` is UTF-8 and that its keys have at most SOURCE_KEY_PARTS parts. @return false with `error` filled
 */
bool source_check(const char *text, size_t length, struct toml_error *error);

#endif
