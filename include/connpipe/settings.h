/** Settings: typed access to what a system's table in the configuration says.
 *
 * A `struct cp_settings` is one value of the configuration with its place in the file. Every getter checks the kind;
 * what does not fit is put into the report of the load with `file:line:column`, what was found and what was expected,
 * and the getter returns false. Loading goes on, so that all errors are seen at once; it fails at its end.
 *
 * Ownership: settings belong to the load; valid until the system's last load phase (`check`) has returned. Thread:
 * main task. Source of the format: TOML 1.0 (https://toml.io/en/v1.0.0). */
#ifndef CONNPIPE_SETTINGS_H
#define CONNPIPE_SETTINGS_H

#include <connpipe/abi.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

CP_BEGIN_DECLS

struct cp_settings;

enum cp_settings_kind {
	CP_SETTINGS_TABLE,
	CP_SETTINGS_ARRAY,
	CP_SETTINGS_STRING,
	CP_SETTINGS_INTEGER,
	CP_SETTINGS_FLOAT,
	CP_SETTINGS_BOOL,
	CP_SETTINGS_TIME, /**< TOML's dates and times: only their text can be had */
};

CP_API enum cp_settings_kind cp_settings_kind(const struct cp_settings *settings);

/** `file:line:column` of the value; valid as long as the settings. */
CP_API const char *cp_settings_where(const struct cp_settings *settings);
/** `file:line:column` of the key that holds the value (of the value, in an array). */
CP_API const char *cp_settings_where_key(const struct cp_settings *settings);
/** The key that holds it, or "" in an array. */
CP_API const char *cp_settings_key(const struct cp_settings *settings);

/* ---- Tables and arrays -------------------------------------------------------------------------------------- */

/** Member of a table, or NULL when it has none of that name. Marks the key as known (see cp_settings_finish). */
CP_API const struct cp_settings *cp_settings_get(const struct cp_settings *table, const char *key);
/** Number of members of a table or an array. */
CP_API size_t cp_settings_count(const struct cp_settings *settings);
/** Member by number, of an array in its order, of a table in the order of the file. Marks the key as known. */
CP_API const struct cp_settings *cp_settings_at(const struct cp_settings *settings, size_t index);
/** Report every key of the table that nobody asked for, with a near name among those that were asked for. */
CP_API void cp_settings_finish(const struct cp_settings *table);

/* ---- Scalars: false, with an error reported, when the value is not what is wanted --------------------------- */

/** A string, or the text of a date or time. @param length  may be NULL: then text with zero bytes in it is refused */
CP_API bool cp_settings_string(const struct cp_settings *value, const char **text, size_t *length);
CP_API bool cp_settings_integer(const struct cp_settings *value, int64_t least, int64_t most, int64_t *number);
CP_API bool cp_settings_float(const struct cp_settings *value, double *number);
CP_API bool cp_settings_bool(const struct cp_settings *value, bool *truth);
/** A duration: a string of number and unit (ns, us, ms, s, m, h, d), several joined ("1m30s"). In milliseconds, rounded
 * up. */
CP_API bool cp_settings_duration(const struct cp_settings *value, uint64_t *milliseconds);
/** A size: a string of number and unit (B, KiB, MiB, GiB, KB, MB, GB), or an integer: bytes. */
CP_API bool cp_settings_size(const struct cp_settings *value, uint64_t *bytes);
/** One of `words` (ends with NULL). @param index  which one */
CP_API bool cp_settings_word(const struct cp_settings *value, const char *const *words, size_t *index);
/** Want this kind. */
CP_API bool cp_settings_want(const struct cp_settings *value, enum cp_settings_kind kind);

/* ---- Short ways for tables: true, and *out left alone, when the key is not there ---------------------------- */

CP_API bool cp_settings_get_string(const struct cp_settings *table, const char *key, const char **out);
CP_API bool cp_settings_get_integer(const struct cp_settings *table, const char *key, int64_t least, int64_t most,
									int64_t *out);
CP_API bool cp_settings_get_bool(const struct cp_settings *table, const char *key, bool *out);
CP_API bool cp_settings_get_duration(const struct cp_settings *table, const char *key, uint64_t *milliseconds);
CP_API bool cp_settings_get_size(const struct cp_settings *table, const char *key, uint64_t *bytes);

/* ---- Errors and files --------------------------------------------------------------------------------------- */

/** Report an error at this value. Say what was found and what was expected. */
CP_API void cp_settings_error(const struct cp_settings *settings, const char *format, ...) CP_PRINTF(2, 3);
/** Report an error at `offset` bytes into a string value. */
CP_API void cp_settings_error_at(const struct cp_settings *settings, size_t offset, const char *format, ...)
	CP_PRINTF(3, 4);
/** Report an error at `offset` bytes into the key that holds the value (at the value, in an array). */
CP_API void cp_settings_error_key(const struct cp_settings *settings, size_t offset, const char *format, ...)
	CP_PRINTF(3, 4);

/** Read another TOML file as settings; lives as long as `settings`. `path` is relative to the configuration directory.
 * @return its table, or NULL with the errors reported at `settings` or in that file */
CP_API const struct cp_settings *cp_settings_open(const struct cp_settings *settings, const char *path);

/** A path as the configuration means it: relative to the configuration directory, `{dylib}` and `{exe}` replaced.
 * @return allocated with malloc */
CP_API char *cp_settings_path(const struct cp_settings *settings, const char *path);

/** The name nearest to `word` among `names` (ends with NULL), for "did you mean": NULL if none is near. */
CP_API const char *cp_near_name(const char *word, const char *const *names);

CP_END_DECLS
#endif
