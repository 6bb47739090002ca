/* Canonical text of addresses. See connpipe/address.h. */
#include "draft.h"
#include "rest.h"
#include "text.h"

#include <connpipe/converter.h>

#include <string.h>

/* What is escaped in a part, beside what cp_escape() always does. Spaces may stand in an address, but its canonical
 * text is one word. Braces are written as they are only where they belong to a template. */
static const char *special(const struct cp_address *address)
{
	return address->flags & CP_PARSE_TEMPLATE ? "! " : "! {}";
}

static void put_value(struct text_out *out, const struct cp_address *address, const struct cp_value *value)
{
	if (value->kind == CP_STRING)
		text_put_escaped(out, value->as.s, value->length, special(address));
	else /* only a port is none, and scope_add_connector() sees to it that it is a u16 */
		text_put_number(out, (unsigned)value->as.u, 10);
}

static void put_host(struct text_out *out, const struct cp_value *host)
{
	bool brackets = memchr(host->as.s, ':', host->length) != NULL;

	text_puts(out, brackets ? "[" : "");
	text_put(out, host->as.s, host->length); /* nothing in a host needs to be escaped, and a zone's "%" must not be */
	text_puts(out, brackets ? "]" : "");
}

/* The value of the field with that role, or NULL if there is none or it is null. */
static const struct cp_value *value_of(const struct cp_address *address, enum cp_field_role role)
{
	int index = rest_field(address->connector->def, role);

	if (index < 0 || address->fields.at[index].value.kind == CP_NULL)
		return NULL;
	return &address->fields.at[index].value;
}

static void put_shared(struct text_out *out, const struct cp_address *address)
{
	bool has_host = rest_field(address->connector->def, CP_ROLE_HOST) >= 0;
	const struct cp_value *value = value_of(address, CP_ROLE_HOST);

	if (value)
		put_host(out, value);
	value = value_of(address, CP_ROLE_PORT);
	if (value) {
		text_puts(out, has_host ? ":" : "");
		put_value(out, address, value);
	}
	value = value_of(address, CP_ROLE_PATH);
	if (value)
		put_value(out, address, value);
	value = value_of(address, CP_ROLE_MULTIPLEX);
	if (value) {
		text_puts(out, "!");
		put_value(out, address, value);
	}
}

/* The connector writes behind what is there; its own zero byte is overwritten or the last. */
static void put_formatted(struct text_out *out, const struct cp_address *address)
{
	bool room = out->length < out->room;

	out->length += address->connector->def->format(address, room ? out->buffer + out->length : NULL,
												   room ? out->room - out->length : 0);
}

static const char *connector_name(const struct cp_address *address)
{
	const struct cp_connector *connector = address->connector;
	const char *const *aliases = connector->def->aliases;

	for (size_t i = 0; connector->names && aliases[i]; i++) {
		if (aliases[i] == address->alias || strcmp(aliases[i], address->alias) == 0)
			return connector->names[i];
	}
	return address->alias;
}

static void put_layers(struct text_out *out, const struct cp_address *address)
{
	for (uint32_t i = 0; i < address->layer_count; i++) {
		const struct cp_layer *layer = &address->layers[i];

		text_puts(out, layer->converter->name ? layer->converter->name : layer->converter->def->id);
		if (layer->argument) {
			text_puts(out, "(");
			text_put_escaped(out, layer->argument, strlen(layer->argument), ") {}");
			text_puts(out, ")");
		}
		text_puts(out, "+");
	}
}

size_t cp_address_print(const struct cp_address *address, char *buffer, size_t room)
{
	struct text_out out = text_out(buffer, room);

	put_layers(&out, address);
	text_puts(&out, connector_name(address));
	text_puts(&out, ":");
	if (address->connector->def->format)
		put_formatted(&out, address);
	else
		put_shared(&out, address);
	return text_end(&out);
}

/* Whether the path is what tells one socket from another: so it is if nothing else does (unix). */
static bool path_is_socket(const struct cp_connector_def *def)
{
	return rest_field(def, CP_ROLE_HOST) < 0 && rest_field(def, CP_ROLE_PORT) < 0 && rest_field(def, CP_ROLE_OTHER) < 0;
}

size_t cp_address_print_socket(const struct cp_address *address, bool layers, char *buffer, size_t room)
{
	const struct cp_connector_def *def = address->connector->def;
	bool keep_path = path_is_socket(def);
	struct cp_field fields[DRAFT_FIELDS];
	struct cp_address socket = *address;

	for (uint32_t i = 0; i < address->fields.count; i++) {
		enum cp_field_role role = def->fields[i].role;

		fields[i] = address->fields.at[i];
		if (role == CP_ROLE_MULTIPLEX || (role == CP_ROLE_PATH && !keep_path))
			fields[i].value = cp_null();
	}
	socket.fields.at = fields;
	if (!layers)
		socket.layer_count = 0;
	return cp_address_print(&socket, buffer, room);
}
