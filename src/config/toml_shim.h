/** What connpipe needs of toml++, as C. The one C++ file of the program is behind it (toml_shim.cpp); no exception
 * leaves it. Positions count lines and characters (not bytes) from 1, as editors do.
 *
 * Everything that is handed out belongs to the document and lives until toml_free(). Thread: one at a time. */
#ifndef CONFIG_TOML_SHIM_H
#define CONFIG_TOML_SHIM_H

#include <connpipe/settings.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct toml_document;
struct toml_node; /* a value: toml::node */
struct toml_key;  /* a key with its place: toml::key */

struct toml_place {
	uint32_t line, column;
};

struct toml_error {
	struct toml_place place; /* line 0: nowhere in particular */
	char message[512];
};

/** One member of a table. */
struct toml_member {
	const struct toml_node *node;
	const struct toml_key *key;
	struct toml_place place; /* of the key: no two members of a table have the same */
};

enum {
	TOML_DEPTH_MAX = 128, /* arrays and inline tables inside one another; more is a syntax error */
	TOML_TIME_TEXT = 48,  /* room for any date and time */
};

/** Parse `text`, which is not needed afterwards. @return NULL with `error` filled (syntax, or out of memory) */
struct toml_document *toml_parse(const char *text, size_t length, struct toml_error *error);
void toml_free(struct toml_document *document);
/** The table of the whole file. */
const struct toml_node *toml_root(const struct toml_document *document);

enum cp_settings_kind toml_kind(const struct toml_node *node);
struct toml_place toml_begin(const struct toml_node *node);
/** The place behind the last character of a value that stands in one piece. */
struct toml_place toml_end(const struct toml_node *node);

/** Number of members; 0 for what is neither table nor array. */
size_t toml_count(const struct toml_node *node);
/** @param index  less than toml_count() */
const struct toml_node *toml_array_at(const struct toml_node *array, size_t index);
/** All members in the order of the file. O(n log n). @param members  room for toml_count() */
void toml_table_members(const struct toml_node *table, struct toml_member *members);
/** Look a member up. O(log n). @return false if there is none */
bool toml_table_find(const struct toml_node *table, const char *key, size_t length, struct toml_member *member);

/** The key's text, with a zero byte behind it. */
const char *toml_key_text(const struct toml_key *key, size_t *length);
struct toml_place toml_key_place(const struct toml_key *key);
/** The place behind its last character, or its closing quote. */
struct toml_place toml_key_end(const struct toml_key *key);

/* The value of a node of the kind that the name says. */
const char *toml_string(const struct toml_node *node, size_t *length); /* a zero byte follows */
int64_t toml_integer(const struct toml_node *node);
double toml_float(const struct toml_node *node);
bool toml_bool(const struct toml_node *node);
/** As RFC 3339 writes it. @param buffer  TOML_TIME_TEXT bytes */
void toml_time(const struct toml_node *node, char *buffer);

#ifdef __cplusplus
}
#endif
#endif
