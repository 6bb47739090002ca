/* Drafts: see draft.h. */
#include "draft.h"

#include "rest.h"
#include "template.h"
#include "text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void draft_begin(struct draft *draft, struct cp_arena *arena, struct cp_connector *connector, const char *alias,
				 struct cp_error *error)
{
	draft->arena = arena;
	draft->connector = connector;
	draft->alias = alias;
	draft->error = error;
	draft->flags = 0;
	draft->rest = NULL;
	memset(&draft->parts, 0, sizeof(draft->parts));
	draft->in_arena = false;
	draft->is_template = false;
	for (uint32_t i = 0; i < connector->def->field_count; i++)
		draft->values[i] = cp_null();
}

/* ---- Errors ------------------------------------------------------------------------------------------------- */

static void field_where(const struct draft *draft, uint32_t index, size_t offset)
{
	const struct cp_field_def *field = &draft->connector->def->fields[index];
	const struct cp_part *part = rest_part(&draft->parts, field->role);

	if (!draft->rest) {
		snprintf(draft->error->where, sizeof(draft->error->where), "field \"%s\" of %s", field->name, draft->alias);
	} else if (!part || !part->at) {
		part_where(draft->rest, 0, draft->error);
	} else {
		bool literal = field->role == CP_ROLE_HOST && draft->parts.bracketed;

		part_where(part, literal ? offset : text_escaped_offset(part->at, part->length, offset), draft->error);
	}
}

int draft_error(const struct draft *draft, uint32_t index, size_t offset, const char *format, ...)
{
	va_list arguments;

	field_where(draft, index, offset);
	draft->error->code = CP_EINVAL;
	va_start(arguments, format);
	vsnprintf(draft->error->message, sizeof(draft->error->message), format, arguments);
	va_end(arguments);
	return CP_EINVAL;
}

/* ---- What a value may be ------------------------------------------------------------------------------------ */

static int check_host(struct draft *draft, uint32_t index)
{
	struct cp_value *value = &draft->values[index];
	struct text_quoted quoted;
	size_t length, offset;
	const char *wrong =
		host_canonical(value->as.s, value->length, draft->flags & CP_PARSE_TEMPLATE, draft->host, &length, &offset);

	if (wrong)
		return draft_error(draft, index, offset, "host %s %s", text_quote(&quoted, value->as.s, value->length), wrong);
	/* A string that is in its place and canonical need not be copied. */
	if (!draft->in_arena || length != value->length || memcmp(draft->host, value->as.s, length) != 0)
		*value = cp_string(draft->host, length);
	return CP_OK;
}

static int check_path(struct draft *draft, uint32_t index)
{
	const struct cp_value *value = &draft->values[index];
	struct text_quoted quoted;

	if (value->length == 0)
		return draft_error(draft, index, 0, "expected a path");
	if (rest_has_socket(draft->connector->def) && value->as.s[0] != '/')
		return draft_error(draft, index, 0, "path %s, expected \"/\" at its start",
						   text_quote(&quoted, value->as.s, value->length));
	return CP_OK;
}

static int check_multiplex(struct draft *draft, uint32_t index)
{
	uint32_t length = draft->values[index].length;

	if (length == 0)
		return draft_error(draft, index, 0, "expected a subport of at least one byte");
	if (length > MULTIPLEX_MOST)
		return draft_error(draft, index, MULTIPLEX_MOST, "subport of %u bytes, expected at most %d", length,
						   MULTIPLEX_MOST);
	return CP_OK;
}

/* Everybody but the preamble takes strings for C strings, so a zero byte would hide what is behind it. */
static int check_string(struct draft *draft, uint32_t index)
{
	const struct cp_field_def *field = &draft->connector->def->fields[index];
	const struct cp_value *value = &draft->values[index];
	size_t valid = text_utf8_length(value->as.s, value->length);
	const char *zero = field->role == CP_ROLE_MULTIPLEX ? NULL : memchr(value->as.s, '\0', value->length);

	if (valid < value->length)
		return draft_error(draft, index, valid, "%s is not valid UTF-8", field->name);
	if (zero)
		return draft_error(draft, index, (size_t)(zero - value->as.s), "%s has a zero byte", field->name);
	switch (field->role) {
	case CP_ROLE_HOST:
		return check_host(draft, index);
	case CP_ROLE_PATH:
		return check_path(draft, index);
	case CP_ROLE_MULTIPLEX:
		return check_multiplex(draft, index);
	case CP_ROLE_PORT:
	case CP_ROLE_OTHER:
		break;
	}
	return CP_OK;
}

static int check_value(struct draft *draft, uint32_t index)
{
	const struct cp_field_def *field = &draft->connector->def->fields[index];
	const struct cp_value *value = &draft->values[index];
	bool expand =
		(draft->flags & CP_PARSE_TEMPLATE) && value->kind == CP_STRING && template_has(value->as.s, value->length);

	draft->is_template |= expand;
	if (value->kind == CP_NULL) {
		if (field->optional || field->kind == CP_NULL)
			return CP_OK;
		return draft_error(draft, index, 0, "%s is missing, expected a value of type %s", field->name,
						   cp_kind_text(field->kind));
	}
	if (value->kind != field->kind && !expand)
		return draft_error(draft, index, 0, "%s is of type %s, expected %s", field->name,
						   cp_kind_text((enum cp_kind)value->kind), cp_kind_text(field->kind));
	return value->kind == CP_STRING ? check_string(draft, index) : CP_OK;
}

static int check_values(struct draft *draft)
{
	int result = CP_OK;

	for (uint32_t i = 0; i < draft->connector->def->field_count && result == CP_OK; i++)
		result = check_value(draft, i);
	return result;
}

/* The connector looks at the values together. Not at a template: it has no values yet. */
static int check_together(struct draft *draft)
{
	struct cp_error *error = draft->error;
	int result;

	if (draft->is_template || !draft->connector->def->check)
		return CP_OK;
	error->where[0] = error->message[0] = '\0';
	result = draft->connector->def->check(draft->connector, draft->alias, draft->arena, draft->values, error);
	if (result == CP_OK)
		return CP_OK;
	error->code = (enum cp_err)result;
	if (!error->message[0])
		snprintf(error->message, sizeof(error->message), "%s", cp_err_text(error->code));
	if (error->where[0])
		return result;
	if (draft->rest)
		part_where(draft->rest, 0, error);
	else
		snprintf(error->where, sizeof(error->where), "fields of %s", draft->alias);
	return result;
}

/* ---- Laying it out ------------------------------------------------------------------------------------------ */

static bool must_copy(const struct draft *draft, const struct cp_value *value)
{
	return value->kind == CP_STRING && (!draft->in_arena || value->as.s == draft->host);
}

static size_t string_bytes(const struct draft *draft)
{
	size_t bytes = 0;

	for (uint32_t i = 0; i < draft->connector->def->field_count; i++) {
		if (must_copy(draft, &draft->values[i]))
			bytes += draft->values[i].length + 1;
	}
	for (uint32_t i = 0; i < draft->layer_count; i++) {
		if (draft->layers[i].argument)
			bytes += draft->layer_lengths[i] + 1;
	}
	return bytes;
}

/* Copies with a zero byte behind, moves on. */
static const char *put_string(char **at, const char *text, size_t length)
{
	char *copy = *at;

	memcpy(copy, text, length);
	copy[length] = '\0';
	*at += length + 1;
	return copy;
}

static void put_strings(struct draft *draft, char *at)
{
	for (uint32_t i = 0; i < draft->connector->def->field_count; i++) {
		struct cp_value *value = &draft->values[i];

		if (must_copy(draft, value))
			value->as.s = put_string(&at, value->as.s, value->length);
	}
	for (uint32_t i = 0; i < draft->layer_count; i++) {
		if (draft->layers[i].argument)
			draft->layers[i].argument = put_string(&at, draft->layers[i].argument, draft->layer_lengths[i]);
	}
}

int draft_finish(struct draft *draft, const struct cp_address **out)
{
	const struct cp_connector_def *def = draft->connector->def;
	struct cp_address *address;
	struct cp_field *fields;
	struct cp_layer *layers;
	int result = check_values(draft);

	if (result != CP_OK)
		return result;
	address = cp_arena_alloc(draft->arena, sizeof(*address) + def->field_count * sizeof(*fields) +
											   draft->layer_count * sizeof(*layers) + string_bytes(draft));
	fields = (struct cp_field *)(address + 1);
	layers = (struct cp_layer *)(fields + def->field_count);
	put_strings(draft, (char *)(layers + draft->layer_count));
	result = check_together(draft);
	if (result != CP_OK)
		return result;
	for (uint32_t i = 0; i < def->field_count; i++) {
		fields[i].name = def->fields[i].name;
		fields[i].value = draft->values[i];
	}
	memcpy(layers, draft->layers, draft->layer_count * sizeof(*layers));
	address->connector = draft->connector;
	address->alias = draft->alias;
	address->fields = (struct cp_fields){fields, def->field_count};
	address->layers = draft->layer_count ? layers : NULL;
	address->layer_count = draft->layer_count;
	address->flags = draft->is_template ? CP_PARSE_TEMPLATE : 0;
	*out = address;
	return CP_OK;
}
