/** Configuration: one reading of config.toml (or of a text), as settings with places. Thread: main task.
 *
 * The parse tree is toml++'s, kept behind toml_shim.h (C++ stays in toml_shim.cpp); `struct cp_settings` are handed
 * out on demand, so that a table of a million routes is not copied. */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include "../base/report.h"

#include <connpipe/settings.h>

#include <stddef.h>

struct config;

/** Read `directory`/config.toml, or `text` if it is not NULL (then `name` stands for the file in places).
 * @param report  where errors go, now and while the settings are used; must live as long as the config
 * @return NULL if it cannot be read or parsed at all (reported) */
struct config *config_read(const char *directory, const char *text, const char *name, struct report *report);
void config_free(struct config *config);

/** The configuration directory, absolute. */
const char *config_directory(const struct config *config);
/** The top-level table. */
const struct cp_settings *config_root(const struct config *config);
/** System tables (all top-level tables except [connpipe]) in the order of the file; NULL behind the last. */
const struct cp_settings *config_system(const struct config *config, size_t index);

#endif
