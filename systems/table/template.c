/* Templates: targets with `{name}` in them.
 *
 * They are taken apart once, when the configuration is read, and filled in for each connection. A value never makes a
 * delimiter: it goes into one field of the address, behind the parser, and the fields are then checked as a whole by
 * cp_address_from_fields (a port is a number, a host a name or an address). What that cannot know is which characters
 * divide a field further: those of paths and commands are kept out here. */
#include "parts.h"

#include <string.h>

/** A piece of a field: literal text, or the value of `name`. */
struct piece {
	const char *name; /* NULL: literal */
	const char *text;
	size_t length;
};

struct pieces {
	const struct piece *at;
	uint32_t count; /* 0: the field has no template */
};

struct template
{
	const char *text;      /* as written: for reasons */
	const char *connector; /* as cp_address_from_fields wants it */
	const struct cp_address *address;
	struct pieces fields[]; /* one for each field of the address */
};

/* ---- Reading
 * --------------------------------------------------------------------------------------------- */

enum { NAMES_MAX = 64 + FACT_COUNT };

/** The names that are certain to mean something behind a key, NULL behind the last: its fields, then what connpipe
 * finds out by itself (others' converters and routers may find out any). @return how many of them are fields */
static size_t list_names(const struct cp_connector_def *def, const char *names[NAMES_MAX + 1])
{
	size_t count = 0;
	while (count < def->field_count && count < NAMES_MAX - FACT_COUNT) {
		names[count] = def->fields[count].name;
		count++;
	}
	memcpy(&names[count], table_sniff_names, sizeof(table_sniff_names));
	return count;
}

/** The first bytes may tell it: they are looked at if nothing else has told it by then. */
static void use_fact(struct reading *reading, enum fact fact)
{
	reading->used |= 1u << fact;
	table_sniff_want(reading, fact);
}

/** A name that is neither a field nor a known fact is no error: some converter or router may know it as a fact. It is
 * worth a line where it looks like a slip, or where nobody is in sight who could find the fact out. */
static void check_name(struct reading *reading, const struct cp_settings *setting, const char *name)
{
	const char *names[NAMES_MAX + 1];
	if (!reading->key)
		return; /* what it has cannot be known */
	size_t fields = list_names(reading->key->connector->def, names);
	for (size_t i = 0; names[i]; i++) {
		if (strcmp(names[i], name) != 0)
			continue;
		if (i >= fields)
			use_fact(reading, (enum fact)(i - fields));
		return;
	}
	const char *near = cp_near_name(name, names);
	if (near || (reading->table->bind && !table_keys_has_layers(reading->key)))
		table_reading_warn(
			reading, setting,
			"{%s} is neither a field of \"%s\" nor a fact that connpipe itself finds out: connections for "
			"which no converter or router sets it are refused%s%s%s",
			name, reading->key->alias, near ? "; did you mean {" : "", near ? near : "", near ? "}?" : "");
}

static size_t count_pieces(const struct cp_value *value)
{
	size_t count = 1;
	for (uint32_t i = 0; i < value->length; i++)
		count += value->as.s[i] == '{' ? 2 : 0; /* what stands before it, and itself */
	return count;
}

/** Take one field apart. The parser made sure that every brace belongs to a `{name}`. */
static struct pieces read_field(struct reading *reading, const struct cp_settings *setting,
								const struct cp_value *value)
{
	struct piece *pieces = cp_arena_alloc(reading->arena, count_pieces(value) * sizeof(*pieces));
	const char *at = value->as.s, *end = at + value->length, *open, *close;
	uint32_t count = 0;
	for (; (open = memchr(at, '{', (size_t)(end - at))) && (close = strchr(open, '}')); at = close + 1) {
		if (open > at)
			pieces[count++] = (struct piece){.text = at, .length = (size_t)(open - at)};
		char *name = cp_arena_strndup(reading->arena, open + 1, (size_t)(close - open - 1));
		check_name(reading, setting, name);
		pieces[count++] = (struct piece){.name = name};
	}
	if (at < end)
		pieces[count++] = (struct piece){.text = at, .length = (size_t)(end - at)};
	return (struct pieces){pieces, count};
}

static const char *qualified(const struct cp_address *address)
{
	const struct cp_connector *connector = address->connector;
	for (size_t i = 0; connector->names && connector->def->aliases[i]; i++) {
		if (strcmp(connector->def->aliases[i], address->alias) == 0)
			return connector->names[i];
	}
	return address->alias;
}

static bool has_template(const struct cp_value *value)
{
	return value->kind == CP_STRING && memchr(value->as.s, '{', value->length);
}

const struct template *table_template_read(struct reading *reading, const struct cp_settings *setting, const char *text,
										   const struct cp_address *address)
{
	uint32_t count = address->fields.count;
	struct template *template = cp_arena_alloc(reading->arena, sizeof(*template) + count * sizeof(struct pieces));
	template->text = cp_arena_strdup(reading->arena, text);
	template->connector = qualified(address);
	template->address = address;
	for (uint32_t i = 0; i < count; i++) {
		const struct cp_value *value = &address->fields.at[i].value;
		template->fields[i] = has_template(value) ? read_field(reading, setting, value) : (struct pieces){NULL, 0};
	}
	return template;
}

/* ---- Values
 * ---------------------------------------------------------------------------------------------- */

struct text {
	const char *at;
	size_t length;
};

/** The value of a name: of the incoming address's field, else of the fact. */
static bool find_value(struct cp_request *request, const char *name, struct text *out)
{
	const struct cp_value *value = cp_address_field(cp_request_address(request), name);
	if (!value || value->kind == CP_NULL)
		value = cp_request_fact(request, name);
	if (!value || value->kind == CP_NULL)
		return false;
	if (value->kind == CP_STRING) {
		*out = (struct text){value->as.s, value->length};
		return true;
	}
	size_t length = cp_value_print(value, NULL, 0);
	char *text = cp_arena_alloc(cp_request_arena(request), length + 1);
	cp_value_print(value, text, length + 1);
	*out = (struct text){text, length};
	return true;
}

static bool any_of(struct text text, const char *characters)
{
	for (size_t i = 0; i < text.length; i++) {
		if (text.at[i] && strchr(characters, text.at[i]))
			return true;
	}
	return false;
}

static bool is_dots(struct text text)
{
	return (text.length == 1 && text.at[0] == '.') || (text.length == 2 && memcmp(text.at, "..", 2) == 0);
}

/** Letters, digits, `.`, `_`, `-` and everything beyond ASCII; no leading dot (hidden files, `..`) or dash (options).
 */
static bool is_word(struct text text)
{
	if (text.length == 0 || text.at[0] == '.' || text.at[0] == '-')
		return false;
	for (size_t i = 0; i < text.length; i++) {
		unsigned char c = (unsigned char)text.at[i];
		bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 0x80;
		if (!letter && !(c >= '0' && c <= '9') && c != '.' && c != '_' && c != '-')
			return false;
	}
	return true;
}

/** Why a value cannot stand in a field, beyond what the address's own checks know; NULL: it can.
 * @param whole  the field is nothing but this value */
static const char *why_not(struct text value, enum cp_field_role role, bool whole)
{
	switch (role) {
	case CP_ROLE_PATH:
		return !whole && (any_of(value, "/?#") || is_dots(value)) ? "it is more than a part of a path" : NULL;
	case CP_ROLE_MULTIPLEX:
		return whole && value.length == 1 && value.at[0] == '*' ? "it is no name" : NULL;
	case CP_ROLE_OTHER:
		return is_word(value) ? NULL : "it is more than a word of letters, digits, \".\", \"_\" and \"-\"";
	case CP_ROLE_HOST:
	case CP_ROLE_PORT:
		return NULL;
	}
	return NULL;
}

/* ---- Filling in
 * ------------------------------------------------------------------------------------------ */

struct filling {
	const struct template *template;
	struct cp_request *request;
	const char *reason;
};

static const char *escaped(struct cp_arena *arena, struct text text)
{
	return table_match_escape(arena, text.at, text.length);
}

static bool fill_piece(struct filling *filling, const struct piece *piece, enum cp_field_role role, bool whole,
					   struct text *out)
{
	struct cp_arena *arena = cp_request_arena(filling->request);
	if (!piece->name) {
		*out = (struct text){piece->text, piece->length};
		return true;
	}
	if (!find_value(filling->request, piece->name, out)) {
		filling->reason = cp_arena_printf(arena, "%s: this connection has no %s", filling->template->text, piece->name);
		return false;
	}
	const char *why = why_not(*out, role, whole);
	if (why)
		filling->reason = cp_arena_printf(arena, "%s: %s is \"%s\": %s", filling->template->text, piece->name,
										  escaped(arena, *out), why);
	return !why;
}

/** HTTP writes IPv6 addresses in brackets, fields hold them without. */
static void take_brackets_off(struct text *host)
{
	if (host->length < 2 || host->at[0] != '[' || host->at[host->length - 1] != ']')
		return;
	host->at++;
	host->length -= 2;
}

/** `/{path}` hands a whole path on: its slash and that of the value are one. */
static bool hands_path_on(const struct pieces *pieces, enum cp_field_role role)
{
	const struct piece *at = pieces->at;
	return role == CP_ROLE_PATH && pieces->count == 2 && !at[0].name && at[0].length == 1 && at[1].name &&
		   strcmp(at[1].name, "path") == 0;
}

static bool fill_field(struct filling *filling, const struct pieces *pieces, enum cp_field_role role,
					   struct cp_value *out)
{
	struct cp_arena *arena = cp_request_arena(filling->request);
	struct text *texts = cp_arena_alloc(arena, pieces->count * sizeof(*texts));
	uint32_t first = hands_path_on(pieces, role) ? 1 : 0;
	size_t length = 0;
	for (uint32_t i = first; i < pieces->count; i++) {
		if (!fill_piece(filling, &pieces->at[i], role, pieces->count - first == 1, &texts[i]))
			return false;
		if (role == CP_ROLE_HOST && pieces->count == 1)
			take_brackets_off(&texts[i]);
		length += texts[i].length;
	}
	char *text = cp_arena_alloc(arena, length + 1), *at = text;
	for (uint32_t i = first; i < pieces->count; at += texts[i].length, i++)
		memcpy(at, texts[i].at, texts[i].length);
	*at = '\0';
	*out = cp_string(text, length);
	return true;
}

/** The result is no address: say which values made it so. */
static const char *failure(const struct filling *filling, const struct cp_field *fields, const char *message)
{
	struct cp_arena *arena = cp_request_arena(filling->request);
	const char *values = "";
	for (uint32_t i = 0; i < filling->template->address->fields.count; i++) {
		if (filling->template->fields[i].count)
			values = cp_arena_printf(arena, "%s%s%s is \"%s\"", values, *values ? ", " : "", fields[i].name,
									 escaped(arena, (struct text){fields[i].value.as.s, fields[i].value.length}));
	}
	return cp_arena_printf(arena, "%s: %s: %s", filling->template->text, values, message);
}

/** Make the address, with the converters of the template: fields alone know nothing of them. */
static const struct cp_address *make(struct filling *filling, const struct cp_field *fields)
{
	const struct template *template = filling->template;
	struct cp_arena *arena = cp_request_arena(filling->request);
	const struct cp_address *bare;
	struct cp_error error;
	int result = cp_address_from_fields(cp_request_scope(filling->request), arena, template->connector,
										(struct cp_fields){fields, template->address->fields.count}, &bare, &error);
	if (result != CP_OK) {
		filling->reason = failure(filling, fields, error.message);
		return NULL;
	}
	if (!template->address->layer_count)
		return bare;
	struct cp_address *layered = cp_arena_alloc(arena, sizeof(*layered));
	*layered = *bare;
	layered->layers = template->address->layers;
	layered->layer_count = template->address->layer_count;
	return layered;
}

const struct cp_address *table_template_expand(const struct template *template, struct cp_request *request,
											   const char **reason)
{
	struct filling filling = {.template = template, .request = request};
	const struct cp_address *address = template->address, *made = NULL;
	const struct cp_field_def *defs = address->connector->def->fields;
	struct cp_field *fields = cp_arena_alloc(cp_request_arena(request), address->fields.count * sizeof(*fields));
	memcpy(fields, address->fields.at, address->fields.count * sizeof(*fields));
	bool good = true;
	for (uint32_t i = 0; good && i < address->fields.count; i++) {
		if (template->fields[i].count)
			good = fill_field(&filling, &template->fields[i], defs[i].role, &fields[i].value);
	}
	if (good)
		made = make(&filling, fields);
	*reason = filling.reason;
	return made;
}
