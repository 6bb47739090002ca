/** Document: one parsed file, and the handles (`struct cp_settings`) on its values.
 *
 * Handles are made for all members of a table or an array at once, when the first of them is asked for, in the order of
 * the file; so each value has one handle, wherever it is asked for, and what nobody looks at costs nothing. All memory
 * is the arena's, which lives as long as the configuration. */
#ifndef CONFIG_DOCUMENT_H
#define CONFIG_DOCUMENT_H

#include "config.h"
#include "toml_shim.h"

#include <connpipe/arena.h>

struct document;

/** What only some handles have. */
struct settings_extra {
	struct cp_settings *members;   /* toml_count() of them; NULL until one is asked for */
	const char *where, *where_key; /* NULL until asked for */
	const char **asked;            /* keys that were asked for by name, there or not; NULL behind the last */
	uint32_t asked_count, asked_room;
};

struct cp_settings {
	const struct toml_node *node;
	const struct toml_key *key; /* NULL: a member of an array, or the whole file */
	struct document *document;
	struct settings_extra *extra; /* NULL until needed */
	bool known;                   /* somebody asked for it */
};

struct document {
	struct config *config;
	const char *name; /* for places */
	struct toml_document *tree;
	struct cp_settings root;
	struct document *next;
};

struct config {
	struct report *report;
	struct cp_arena *arena;
	const char *directory;      /* absolute */
	const char *given;          /* as the user named it: for places */
	struct document *documents; /* all that were read */
	const struct cp_settings *root;
	const struct cp_settings **systems;
	size_t system_count;
};

/** Parse `text` and add it to the configuration. @param name  for places, copied
 * @return NULL after an error was reported */
struct document *document_parse(struct config *config, const char *name, const char *text, size_t length);
void document_free_all(struct config *config);

/** Handles of all members, in order; NULL if there are none. */
struct cp_settings *settings_members(const struct cp_settings *settings);
/** The handle of a member of a table, or NULL. Does not mark it as known. */
struct cp_settings *settings_find(const struct cp_settings *table, const char *key);
/** Made if it is not there yet. */
struct settings_extra *settings_extra(const struct cp_settings *settings);
/** Remember that `key` was asked for, for the near names of cp_settings_finish(). */
void settings_asked(const struct cp_settings *table, const char *key);

#endif
