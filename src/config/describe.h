/** Describing: what was found, in words, for messages. */
#ifndef CONFIG_DESCRIBE_H
#define CONFIG_DESCRIBE_H

#include <connpipe/settings.h>

enum { DESCRIBE_TEXT = 320 }; /* room for any description */

/** `text` in quotes: control characters escaped as in TOML, cut after 60 bytes. */
void describe_text(char *buffer, size_t room, const char *text, size_t length);
/** `the integer 5`, `the string "abc"`, `a table`, … */
void describe_value(char *buffer, size_t room, const struct cp_settings *value);
/** `an integer`, `a table`, … */
const char *describe_kind(enum cp_settings_kind kind);

#endif
