/* Values in words. See describe.h. */
#include "describe.h"

#include "document.h"
#include "../base/utf8.h"

#include <connpipe/value.h>

#include <inttypes.h>
#include <stdio.h>

enum { TEXT_SHOWN = 60 };

/* One byte as it stands in quotes. @return its length */
static int print_byte(char *buffer, size_t room, unsigned char byte)
{
	if (byte == '"' || byte == '\\')
		return snprintf(buffer, room, "\\%c", byte);
	if (byte == '\n')
		return snprintf(buffer, room, "\\n");
	if (byte == '\t')
		return snprintf(buffer, room, "\\t");
	if (byte < 0x20 || byte == 0x7f)
		return snprintf(buffer, room, "\\u%04X", byte);
	return snprintf(buffer, room, "%c", byte);
}

void describe_text(char *buffer, size_t room, const char *text, size_t length)
{
	size_t shown = utf8_cut(text, length, TEXT_SHOWN);
	size_t used = (size_t)snprintf(buffer, room, "\"");
	for (size_t i = 0; i < shown && used + 16 < room; i++)
		used += (size_t)print_byte(buffer + used, room - used, (unsigned char)text[i]);
	snprintf(buffer + used, room - used, "%s\"", shown < length ? "…" : "");
}

static void describe_string(char *buffer, size_t room, const struct toml_node *node)
{
	size_t length;
	const char *text = toml_string(node, &length);
	int used = snprintf(buffer, room, "the string ");
	describe_text(buffer + used, room - (size_t)used, text, length);
}

static void describe_float(char *buffer, size_t room, double number)
{
	struct cp_value value = {.kind = CP_F64, .as.f = number};
	int used = snprintf(buffer, room, "the float ");
	cp_value_print(&value, buffer + used, room - (size_t)used);
}

static void describe_time(char *buffer, size_t room, const struct toml_node *node)
{
	char text[TOML_TIME_TEXT];
	toml_time(node, text);
	snprintf(buffer, room, "the time %s", text);
}

void describe_value(char *buffer, size_t room, const struct cp_settings *value)
{
	const struct toml_node *node = value->node;
	switch (toml_kind(node)) {
	case CP_SETTINGS_TABLE:
	case CP_SETTINGS_ARRAY:
		snprintf(buffer, room, "%s", describe_kind(toml_kind(node)));
		break;
	case CP_SETTINGS_STRING:
		describe_string(buffer, room, node);
		break;
	case CP_SETTINGS_INTEGER:
		snprintf(buffer, room, "the integer %" PRId64, toml_integer(node));
		break;
	case CP_SETTINGS_FLOAT:
		describe_float(buffer, room, toml_float(node));
		break;
	case CP_SETTINGS_BOOL:
		snprintf(buffer, room, "the boolean %s", toml_bool(node) ? "true" : "false");
		break;
	case CP_SETTINGS_TIME:
		describe_time(buffer, room, node);
		break;
	}
}

const char *describe_kind(enum cp_settings_kind kind)
{
	switch (kind) {
	case CP_SETTINGS_TABLE:
		return "a table";
	case CP_SETTINGS_ARRAY:
		return "an array";
	case CP_SETTINGS_STRING:
		return "a string";
	case CP_SETTINGS_INTEGER:
		return "an integer";
	case CP_SETTINGS_FLOAT:
		return "a float";
	case CP_SETTINGS_BOOL:
		return "a boolean";
	case CP_SETTINGS_TIME:
		return "a date or time";
	}
	return "a value";
}
