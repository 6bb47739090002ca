/* reject: a target that refuses every connection, with a reason for the log. */
#include "connectors.h"
#include "socket.h"

static int reject_parse(struct cp_connector *connector, const char *alias, const struct cp_part *rest,
						struct cp_arena *arena, struct cp_value *values, struct cp_error *error)
{
	(void)connector;
	(void)alias;
	size_t length;
	if (rest->length == 0) {
		values[0] = cp_null();
		return CP_OK;
	}
	char *reason = cp_part_unescape(rest, arena, &length, error);
	if (!reason)
		return error->code;
	values[0] = cp_string(reason, length);
	return CP_OK;
}

static size_t reject_format(const struct cp_address *address, char *buffer, size_t room)
{
	const struct cp_value *reason = &address->fields.at[0].value;
	if (reason->kind == CP_NULL)
		return socket_print("", buffer, room);
	const char *special = address->flags & CP_PARSE_TEMPLATE ? "" : "{}"; /* so that it does not become a template */
	return cp_escape(reason->as.s, reason->length, special, buffer, room);
}

static int reject_connect(struct cp_connector *connector, struct cp_open *open)
{
	(void)connector;
	const struct cp_value *reason = &open->address->fields.at[0].value;
	return cp_error_set(&open->error, CP_EREFUSED, "reject", "%s",
						reason->kind == CP_STRING ? reason->as.s : "connection refused");
}

static const char *const reject_aliases[] = {"reject", NULL};

static const struct cp_field_def reject_fields[] = {
	{.name = "reason", .kind = CP_STRING, .role = CP_ROLE_OTHER, .optional = true},
};

const struct cp_connector_def reject_connector = {
	.size = sizeof(struct cp_connector_def),
	.aliases = reject_aliases,
	.flags = CP_CONNECTOR_ANY | CP_CONNECTOR_REFUSES,
	.fields = reject_fields,
	.field_count = 1,
	.syntax = "reject:reason",
	.parse = reject_parse,
	.format = reject_format,
	.connect = reject_connect,
};
