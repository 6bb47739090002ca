/* Addresses from fields and their fields. See connpipe/address.h. */
#include "draft.h"
#include "near.h"
#include "rest.h"
#include "scope.h"
#include "text.h"

#include <stdio.h>
#include <string.h>

/* ---- From fields -------------------------------------------------------------------------------------------- */

static int find_field(const struct cp_connector_def *def, const char *name)
{
	for (uint32_t i = 0; i < def->field_count; i++) {
		if (strcmp(def->fields[i].name, name) == 0)
			return (int)i;
	}
	return -1;
}

static int fail_unknown(const struct draft *draft, const char *name)
{
	const struct cp_connector_def *def = draft->connector->def;
	const char *names[DRAFT_FIELDS], *near;
	struct text_quoted quoted;

	for (uint32_t i = 0; i < def->field_count; i++)
		names[i] = def->fields[i].name;
	near = near_name(name, strlen(name), names, def->field_count);
	text_quote(&quoted, name, strlen(name));
	if (near)
		return cp_error_set(draft->error, CP_EINVAL, NULL, "%s has no field %s, did you mean \"%s\"?", draft->alias,
							quoted.text, near);
	return cp_error_set(draft->error, CP_EINVAL, NULL, "%s has no field %s", draft->alias, quoted.text);
}

static int take_field(struct draft *draft, const struct cp_field *field, bool *taken)
{
	const struct cp_connector_def *def = draft->connector->def;
	struct cp_error *error = draft->error;
	int index = find_field(def, field->name), result;

	if (index < 0)
		return fail_unknown(draft, field->name);
	if (taken[index])
		return cp_error_set(error, CP_EINVAL, NULL, "%s is given field \"%s\" twice", draft->alias, field->name);
	taken[index] = true;
	if (field->value.kind == CP_NULL)
		return CP_OK; /* as if it were missing */
	result = cp_value_convert(&field->value, def->fields[index].kind, draft->arena, &draft->values[index], error);
	if (result != CP_OK)
		snprintf(error->where, sizeof(error->where), "field \"%s\" of %s", field->name, draft->alias);
	return result;
}

int cp_address_from_fields(const struct cp_scope *scope, struct cp_arena *arena, const char *connector,
						   struct cp_fields fields, const struct cp_address **out, struct cp_error *error)
{
	struct cp_error ignored;
	bool taken[DRAFT_FIELDS] = {false};
	struct draft draft;
	struct cp_connector *found;
	const char *alias;
	int result = CP_OK;

	if (!error)
		error = &ignored;
	found = scope_find_connector(scope, connector, strlen(connector), &alias, error);
	if (!found)
		return error->code;
	draft.layer_count = 0;
	draft_begin(&draft, arena, found, alias, error);
	for (uint32_t i = 0; i < fields.count && result == CP_OK; i++)
		result = take_field(&draft, &fields.at[i], taken);
	return result == CP_OK ? draft_finish(&draft, out) : result;
}

/* ---- Looking at fields -------------------------------------------------------------------------------------- */

const struct cp_value *cp_address_field(const struct cp_address *address, const char *name)
{
	return cp_fields_get(address->fields, name);
}

const char *cp_address_multiplex(const struct cp_address *address, size_t *length)
{
	int index = rest_field(address->connector->def, CP_ROLE_MULTIPLEX);
	const struct cp_value *value = index < 0 ? NULL : &address->fields.at[index].value;

	if (!value || value->kind != CP_STRING)
		return NULL;
	if (length)
		*length = value->length;
	return value->as.s;
}

/** A copy with another text at `index`; NULL: with null there. */
static const struct cp_address *with_text(const struct cp_address *address, int index, struct cp_arena *arena,
										  const char *text, size_t length)
{
	size_t field_bytes = address->fields.count * sizeof(struct cp_field);
	struct cp_address *copy = cp_arena_alloc(arena, sizeof(*copy) + field_bytes + (text ? length + 1 : 0));
	struct cp_field *fields = (struct cp_field *)(copy + 1);
	char *own = (char *)fields + field_bytes;

	*copy = *address;
	copy->fields.at = fields;
	memcpy(fields, address->fields.at, field_bytes);
	fields[index].value = cp_null();
	if (text) {
		memcpy(own, text, length);
		own[length] = '\0';
		fields[index].value = cp_string(own, length);
	}
	return copy;
}

const struct cp_address *cp_address_with_multiplex(const struct cp_address *address, struct cp_arena *arena,
												   const char *multiplex, size_t length)
{
	int index = rest_field(address->connector->def, CP_ROLE_MULTIPLEX);

	if (index < 0)
		return NULL;
	if (multiplex && (length == 0 || length > MULTIPLEX_MOST || !cp_utf8_valid(multiplex, length)))
		return NULL;
	return with_text(address, index, arena, multiplex, length);
}

const struct cp_address *cp_address_with_path(const struct cp_address *address, struct cp_arena *arena,
											  const char *path, size_t length)
{
	int index = rest_field(address->connector->def, CP_ROLE_PATH);

	if (index < 0 || (path && !cp_utf8_valid(path, length)))
		return NULL;
	return with_text(address, index, arena, path, length);
}
