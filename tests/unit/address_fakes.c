/* See address_fakes.h. */
#include "address_fakes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALIASES(...) ((const char *const[]){__VA_ARGS__, NULL})
#define FIELDS(...)                                       \
	.fields = (const struct cp_field_def[]){__VA_ARGS__}, \
	.field_count = sizeof((const struct cp_field_def[]){__VA_ARGS__}) / sizeof(struct cp_field_def)

#define ADDR                                   \
	{                                          \
		"addr", CP_STRING, CP_ROLE_HOST, false \
	}
#define PORT                                \
	{                                       \
		"port", CP_U16, CP_ROLE_PORT, false \
	}
#define PATH                                  \
	{                                         \
		"path", CP_STRING, CP_ROLE_PATH, true \
	}
#define MULTIPLEX                                       \
	{                                                   \
		"multiplex", CP_STRING, CP_ROLE_MULTIPLEX, true \
	}

/* ---- unix --------------------------------------------------------------------------------------------------- */

static int unix_check(struct cp_connector *connector, const char *alias, struct cp_arena *arena,
					  struct cp_value *values, struct cp_error *error)
{
	const char *path = values[0].as.s;

	(void)connector;
	(void)alias;
	if (path[0] != '/' && path[0] != '@') {
		path = cp_arena_printf(arena, "/conf/%s", path);
		values[0] = cp_string(path, strlen(path));
	}
	if (values[0].length > 107)
		return cp_error_set(error, CP_EINVAL, NULL, "path of %u bytes, expected at most 107", values[0].length);
	return CP_OK;
}

/* ---- exec, reject: one string, taken as it is --------------------------------------------------------------- */

static int literal_parse(struct cp_connector *connector, const char *alias, const struct cp_part *rest,
						 struct cp_arena *arena, struct cp_value *values, struct cp_error *error)
{
	(void)alias;
	if (rest->length > 0)
		values[0] = cp_string(cp_arena_strndup(arena, rest->at, rest->length), rest->length);
	else if (!connector->def->fields[0].optional)
		return cp_part_error(rest, 0, CP_EINVAL, error, "expected a command");
	return CP_OK;
}

static size_t literal_format(const struct cp_address *address, char *buffer, size_t room)
{
	return cp_value_print(&address->fields.at[0].value, buffer, room);
}

/* ---- typed: numbers and a word between commas --------------------------------------------------------------- */

static int typed_parse(struct cp_connector *connector, const char *alias, const struct cp_part *rest,
					   struct cp_arena *arena, struct cp_value *values, struct cp_error *error)
{
	const struct cp_connector_def *def = connector->def;
	size_t at = 0;

	(void)alias;
	for (uint32_t i = 0; i < def->field_count; i++) {
		const char *comma = memchr(rest->at + at, ',', rest->length - at);
		size_t end = comma ? (size_t)(comma - rest->at) : rest->length, length;
		struct cp_part piece = *rest;
		struct cp_value text;
		char *unescaped;

		if ((comma == NULL) != (i + 1 == def->field_count))
			return cp_part_error(rest, end, CP_EINVAL, error, "expected %u values", def->field_count);
		piece.at += at;
		piece.length = end - at;
		piece.column += at;
		unescaped = cp_part_unescape(&piece, arena, &length, error);
		if (!unescaped)
			return CP_EINVAL;
		text = cp_string(unescaped, length);
		if (cp_value_convert(&text, def->fields[i].kind, arena, &values[i], error) != CP_OK)
			return CP_EINVAL;
		at = end + 1;
	}
	return CP_OK;
}

static size_t typed_format(const struct cp_address *address, char *buffer, size_t room)
{
	char number[64];
	size_t length = 0, left;

	for (uint32_t i = 0; i < address->fields.count; i++) {
		const struct cp_value *value = &address->fields.at[i].value;
		const char *text = value->kind == CP_STRING ? value->as.s : number;
		size_t text_length = value->kind == CP_STRING ? value->length : cp_value_print(value, number, sizeof(number));

		if (i > 0) {
			if (length + 1 < room) {
				buffer[length] = ',';
				buffer[length + 1] = '\0';
			}
			length++;
		}
		left = length < room ? room - length : 0;
		length += cp_escape(text, text_length, ", ", left ? buffer + length : NULL, left);
	}
	return length;
}

/* ---- Converters --------------------------------------------------------------------------------------------- */

static int tls_check(const struct cp_converter *converter, const char *argument, struct cp_error *error)
{
	(void)converter;
	(void)argument;
	(void)error;
	return CP_OK;
}

static int proxy_check(const struct cp_converter *converter, const char *argument, struct cp_error *error)
{
	(void)converter;
	if (!argument || strcmp(argument, "v1") == 0 || strcmp(argument, "v2") == 0)
		return CP_OK;
	return cp_error_set(error, CP_EINVAL, NULL, "mode \"%s\", expected v1 or v2", argument);
}

/* ---- The scope ---------------------------------------------------------------------------------------------- */

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

static const struct cp_connector_def core_connectors[] = {
	{.aliases = ALIASES("tcp"), FIELDS(ADDR, PORT, MULTIPLEX), .syntax = "tcp:host:port!multiplex"},
	{.aliases = ALIASES("udp"), FIELDS(ADDR, PORT)},
	{.aliases = ALIASES("ws", "wss", "websocket"), FIELDS(ADDR, PORT, PATH, MULTIPLEX)},
	{.aliases = ALIASES("unix"), FIELDS({"path", CP_STRING, CP_ROLE_PATH, false}, MULTIPLEX), .check = unix_check},
	{.aliases = ALIASES("exec"),
	 FIELDS({"command", CP_STRING, CP_ROLE_OTHER, false}),
	 .parse = literal_parse,
	 .format = literal_format},
	{.aliases = ALIASES("echo")},
	{.aliases = ALIASES("reject"),
	 FIELDS({"reason", CP_STRING, CP_ROLE_OTHER, true}),
	 .parse = literal_parse,
	 .format = literal_format},
};
static const struct cp_connector_def extra_connectors[] = {
	{.aliases = ALIASES("udp"), FIELDS(ADDR, PORT)},
	{.aliases = ALIASES("typed"),
	 FIELDS({"flag", CP_BOOL, CP_ROLE_OTHER, false}, {"small", CP_U8, CP_ROLE_OTHER, false},
			{"big", CP_I64, CP_ROLE_OTHER, false}, {"ratio", CP_F64, CP_ROLE_OTHER, false},
			{"word", CP_STRING, CP_ROLE_OTHER, false}),
	 .parse = typed_parse,
	 .format = typed_format},
	{.aliases = ALIASES("port"), FIELDS({"port", CP_U16, CP_ROLE_PORT, true}, PATH, MULTIPLEX)},
	{.aliases = ALIASES("sub"), FIELDS({"multiplex", CP_STRING, CP_ROLE_MULTIPLEX, false})},
};
static const struct cp_converter_def core_converters[] = {
	{.id = "tls", .check = tls_check}, {.id = "proxy", .check = proxy_check}, {.id = "plain"}};
static const struct cp_converter_def extra_converters[] = {{.id = "proxy"}};

struct cp_scope *fakes_scope(void)
{
	/* One set of objects for every scope: a scope sets the same names in them each time. */
	static struct cp_connector core[COUNT(core_connectors)], extra[COUNT(extra_connectors)];
	static struct cp_converter converters[COUNT(core_converters)], more[COUNT(extra_converters)];
	static struct cp_router routers[] = {{.id = "main"}, {.id = "other"}};
	struct cp_scope *scope = scope_new("/conf");
	int result = CP_OK;

	for (size_t i = 0; i < COUNT(core); i++) {
		core[i].def = &core_connectors[i];
		result |= scope_add_connector(scope, &core[i], "core", NULL);
	}
	for (size_t i = 0; i < COUNT(extra); i++) {
		extra[i].def = &extra_connectors[i];
		result |= scope_add_connector(scope, &extra[i], "my.extra", NULL);
	}
	for (size_t i = 0; i < COUNT(converters); i++) {
		converters[i].def = &core_converters[i];
		result |= scope_add_converter(scope, &converters[i], "core", NULL);
	}
	more[0].def = &extra_converters[0];
	result |= scope_add_converter(scope, &more[0], "my.extra", NULL);
	result |= scope_add_router(scope, &routers[0], "core", NULL);
	result |= scope_add_router(scope, &routers[1], "my.extra", NULL);
	if (result != CP_OK)
		abort();
	return scope;
}

const struct cp_address *fakes_parse(const struct cp_scope *scope, struct cp_arena *arena, const char *text,
									 unsigned flags, struct cp_error *error)
{
	const struct cp_address *address = NULL;

	if (cp_address_parse(scope, arena, text, strlen(text), flags, &address, error) != CP_OK)
		return NULL;
	return address;
}
