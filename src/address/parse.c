/* Addresses from text: the head (converters and connector), then the rest. See connpipe/address.h. */
#include "draft.h"
#include "rest.h"
#include "scope.h"
#include "template.h"
#include "text.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum {
	SCRATCH = 512,        /* unescaped strings of most addresses fit here until they are laid out */
	TEXT_MOST = 1u << 24, /* nobody's address: lengths are far from overflowing */
};

/* One parse under way. */
struct parser {
	const struct cp_scope *scope;
	struct cp_part text;
	struct draft *draft;
	struct cp_error *error;
	char *scratch; /* room for the whole text, unescaped */
};

/* A place for an error that came from a look-up or from a check, which do not know the text. */
static int place(const struct cp_part *part, struct cp_error *error, int code)
{
	error->code = (enum cp_err)code;
	if (!error->where[0])
		part_where(part, 0, error);
	if (!error->message[0])
		snprintf(error->message, sizeof(error->message), "%s", cp_err_text(error->code));
	return code;
}

/* ---- The head ----------------------------------------------------------------------------------------------- */

static bool is_head_delimiter(char c)
{
	return c == ':' || c == '/' || c == '+' || c == '(' || c == ')';
}

static size_t name_end(const struct cp_part *text, size_t at)
{
	while (at < text->length && !is_head_delimiter(text->at[at]))
		at++;
	return at;
}

/* `(argument)`: `at` stands at the "(" and is moved behind the ")". */
static int take_argument(struct parser *p, size_t *at, struct cp_part *argument)
{
	const struct cp_part *text = &p->text;
	const char *end = memchr(text->at + *at, ')', text->length - *at);

	if (!end)
		return cp_part_error(text, *at, CP_EINVAL, p->error, "\"(\" without \")\"");
	*argument = part_slice(text, *at + 1, (size_t)(end - text->at) - *at - 1);
	if (argument->length == 0)
		return cp_part_error(text, *at, CP_EINVAL, p->error,
							 "expected an argument between \"(\" and \")\"; without one both are left out");
	*at = (size_t)(end - text->at) + 1;
	if (*at < text->length && text->at[*at] == '+')
		return CP_OK;
	return cp_part_error(text, *at, CP_EINVAL, p->error,
						 "expected \"+\" behind \")\": only a converter has an argument");
}

static int check_argument(struct parser *p, const struct cp_part *name, const struct cp_part *argument,
						  const struct cp_layer *layer)
{
	const struct cp_converter_def *def = layer->converter->def;
	int result;

	if (!def->check && layer->argument)
		return cp_part_error(argument, 0, CP_EINVAL, p->error, "converter \"%s\" takes no argument", def->id);
	if (!def->check)
		return CP_OK;
	p->error->where[0] = p->error->message[0] = '\0';
	result = def->check(layer->converter, layer->argument, p->error);
	return result == CP_OK ? CP_OK : place(layer->argument ? argument : name, p->error, result);
}

static int unescape_argument(struct parser *p, const struct cp_part *argument, const char **text, uint32_t *length)
{
	size_t bytes;
	const char *brace = memchr(argument->at, '{', argument->length), *zero;
	int result = part_unescape(argument, p->scratch, &bytes, p->error);

	if (result != CP_OK)
		return result;
	if (brace && argument->flags & CP_PARSE_TEMPLATE)
		return cp_part_error(argument, (size_t)(brace - argument->at), CP_EINVAL, p->error,
							 "a template cannot stand in an argument; a brace itself is written %%7B");
	zero = memchr(p->scratch, '\0', bytes);
	if (zero)
		return cp_part_error(argument, text_escaped_offset(argument->at, argument->length, (size_t)(zero - p->scratch)),
							 CP_EINVAL, p->error, "a zero byte in an argument");
	p->scratch[bytes] = '\0'; /* where the ")" has its room */
	*text = p->scratch;
	*length = (uint32_t)bytes;
	p->scratch += bytes + 1;
	return CP_OK;
}

/* @param argument  `at` NULL: none */
static int take_layer(struct parser *p, const struct cp_part *name, const struct cp_part *argument)
{
	struct draft *draft = p->draft;
	struct cp_layer *layer = &draft->layers[draft->layer_count];
	int result = CP_OK;

	if (draft->layer_count == DRAFT_LAYERS)
		return cp_part_error(name, 0, CP_EINVAL, p->error, "more than %d converters", DRAFT_LAYERS);
	p->error->where[0] = '\0';
	layer->argument = NULL;
	layer->converter = scope_find_converter(p->scope, name->at, name->length, p->error);
	if (!layer->converter)
		return place(name, p->error, p->error->code);
	if (argument->at)
		result = unescape_argument(p, argument, &layer->argument, &draft->layer_lengths[draft->layer_count]);
	if (result == CP_OK)
		result = check_argument(p, name, argument, layer);
	draft->layer_count++;
	return result;
}

static int take_connector(struct parser *p, const struct cp_part *name)
{
	struct cp_connector *connector;
	const char *alias;

	p->error->where[0] = '\0';
	connector = scope_find_connector(p->scope, name->at, name->length, &alias, p->error);
	if (!connector)
		return place(name, p->error, p->error->code);
	draft_begin(p->draft, p->draft->arena, connector, alias, p->error);
	p->draft->flags = p->text.flags;
	return CP_OK;
}

/* A name that is empty, or with nothing behind it. */
static int check_name(struct parser *p, const struct cp_part *name, size_t end)
{
	struct text_quoted quoted;

	if (name->length == 0)
		return cp_part_error(name, 0, CP_EINVAL, p->error, "expected a connector and \":\", or a converter and \"+\"");
	if (end == p->text.length)
		return cp_part_error(&p->text, end, CP_EINVAL, p->error, "expected \":\" behind the connector %s",
							 text_quote(&quoted, name->at, name->length));
	if (p->text.at[end] == ')')
		return cp_part_error(&p->text, end, CP_EINVAL, p->error, "\")\" without \"(\"");
	return CP_OK;
}

/* All up to the ":" or "/" behind the connector. @param rest  what is behind that */
static int take_head(struct parser *p, struct cp_part *rest)
{
	size_t at = 0;

	for (;;) {
		size_t end = name_end(&p->text, at);
		struct cp_part name = part_slice(&p->text, at, end - at), argument = {0};
		int result = check_name(p, &name, end);

		if (result == CP_OK && (p->text.at[end] == ':' || p->text.at[end] == '/')) {
			*rest = part_slice(&p->text, end + 1, p->text.length - end - 1);
			return take_connector(p, &name);
		}
		if (result == CP_OK && p->text.at[end] == '(')
			result = take_argument(p, &end, &argument);
		if (result == CP_OK)
			result = take_layer(p, &name, &argument);
		if (result != CP_OK)
			return result;
		at = end + 1;
	}
}

/* ---- The rest ----------------------------------------------------------------------------------------------- */

/* Decimal digits, without sign, spaces and needless zeros. */
static bool read_port(const char *text, size_t length, uint64_t *port)
{
	*port = 0;
	if (length == 0 || length > 5 || (length > 1 && text[0] == '0'))
		return false;
	for (size_t i = 0; i < length; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		*port = *port * 10 + (uint64_t)(text[i] - '0');
	}
	return *port <= UINT16_MAX;
}

/* Digits and names in braces: anything else will be no number whatever the names stand for. */
static bool is_port_template(const struct cp_part *part)
{
	if (!(part->flags & CP_PARSE_TEMPLATE) || !template_has(part->at, part->length))
		return false;
	for (size_t at = 0; at < part->length; at++) {
		size_t skip = template_name(part->at + at, part->length - at);

		if (skip)
			at += skip - 1;
		else if (part->at[at] < '0' || part->at[at] > '9')
			return false;
	}
	return true;
}

static int take_port(struct parser *p, const struct cp_part *part, struct cp_value *value)
{
	struct text_quoted quoted;
	uint64_t port;

	if (is_port_template(part)) {
		*value = cp_string(part->at, part->length);
		return CP_OK;
	}
	if (!read_port(part->at, part->length, &port))
		return cp_part_error(part, 0, CP_EINVAL, p->error, "port %s, expected a number from 0 to 65535%s",
							 text_quote(&quoted, part->at, part->length),
							 memchr(part->at, ':', part->length) ? "; an IPv6 address stands in brackets" : "");
	*value = cp_unsigned(CP_U16, port);
	return CP_OK;
}

static int take_string(struct parser *p, const struct cp_part *part, struct cp_value *value)
{
	size_t length;
	int result = part_unescape(part, p->scratch, &length, p->error);

	*value = cp_string(p->scratch, length);
	p->scratch += length;
	return result;
}

/* In brackets "%" begins a zone; and only an IPv6 address stands there. */
static int take_host(struct parser *p, const struct cp_rest *parts, struct cp_value *value)
{
	const struct cp_part *host = &parts->host;
	struct text_quoted quoted;

	if (!parts->bracketed)
		return take_string(p, host, value);
	*value = cp_string(host->at, host->length);
	if (memchr(host->at, ':', host->length) || template_has(host->at, host->length))
		return CP_OK;
	return cp_part_error(host, 0, CP_EINVAL, p->error, "host %s is not an IPv6 address",
						 text_quote(&quoted, host->at, host->length));
}

/* `!*` is the mark for any subport; a name of that one character could not be told from it. */
static int take_multiplex(struct parser *p, const struct cp_part *part, struct cp_value *value)
{
	int result = take_string(p, part, value);

	if (result == CP_OK && value->length == 1 && value->as.s[0] == '*' && part->length != 1)
		return cp_part_error(part, 0, CP_EINVAL, p->error, "a subport cannot have the name \"*\": that stands for any");
	return result;
}

static int take_part(struct parser *p, const struct cp_rest *parts, enum cp_field_role role, struct cp_value *value)
{
	switch (role) {
	case CP_ROLE_HOST:
		return take_host(p, parts, value);
	case CP_ROLE_PORT:
		return take_port(p, &parts->port, value);
	case CP_ROLE_PATH:
		return take_string(p, &parts->path, value);
	case CP_ROLE_MULTIPLEX:
		return take_multiplex(p, &parts->multiplex, value);
	case CP_ROLE_OTHER:
		break;
	}
	return CP_OK;
}

static const char *role_text(enum cp_field_role role)
{
	switch (role) {
	case CP_ROLE_HOST:
		return "a host";
	case CP_ROLE_PORT:
		return "\":\" and a port";
	case CP_ROLE_PATH:
		return "a path";
	case CP_ROLE_MULTIPLEX:
		return "\"!\" and a subport";
	case CP_ROLE_OTHER:
		break;
	}
	return "a value";
}

/* Where a part would begin that is not there: before the parts that come after it. */
static size_t missing_offset(const struct cp_part *rest, const struct cp_rest *parts, enum cp_field_role role)
{
	if (role == CP_ROLE_HOST)
		return 0;
	if (role == CP_ROLE_PORT && parts->path.at)
		return parts->path.column - rest->column;
	if (role != CP_ROLE_MULTIPLEX && parts->multiplex.at)
		return parts->multiplex.column - 1 - rest->column;
	return rest->length;
}

static int fail_missing(struct parser *p, const struct cp_part *rest, enum cp_field_role role)
{
	const struct draft *draft = p->draft;
	const char *syntax = draft->connector->def->syntax;

	return cp_part_error(rest, missing_offset(rest, &draft->parts, role), CP_EINVAL, p->error, "expected %s%s%s",
						 role_text(role), syntax ? ", as in " : "", syntax ? syntax : "");
}

/* A part that the connector has no field for, if there is one. */
static int check_surplus(struct parser *p, const struct cp_rest *parts)
{
	static const enum cp_field_role roles[] = {CP_ROLE_HOST, CP_ROLE_PORT, CP_ROLE_PATH, CP_ROLE_MULTIPLEX};
	static const char *const words[] = {"host", "port", "path", "subport"};
	const struct draft *draft = p->draft;
	struct text_quoted quoted;

	for (size_t i = 0; i < sizeof(roles) / sizeof(*roles); i++) {
		const struct cp_part *part = rest_part(parts, roles[i]);

		if (part->at && rest_field(draft->connector->def, roles[i]) < 0)
			return cp_part_error(part, 0, CP_EINVAL, p->error, "%s takes no %s, found %s", draft->alias, words[i],
								 text_quote(&quoted, part->at, part->length));
	}
	return CP_OK;
}

static int take_shared(struct parser *p, const struct cp_part *rest)
{
	struct draft *draft = p->draft;
	const struct cp_connector_def *def = draft->connector->def;
	struct cp_rest *parts = &draft->parts;
	bool is_template;
	int result = template_check(rest, &is_template, p->error);

	if (!is_template)
		draft->flags &= ~CP_PARSE_TEMPLATE; /* braces in values were escaped: they are none of a {name} */
	if (result == CP_OK)
		result = rest_split(def, rest, parts, p->error);
	if (result == CP_OK)
		result = check_surplus(p, parts);
	for (uint32_t i = 0; i < def->field_count && result == CP_OK; i++) {
		const struct cp_field_def *field = &def->fields[i];
		const struct cp_part *part = rest_part(parts, field->role);

		if (part && part->at)
			result = take_part(p, parts, field->role, &draft->values[i]);
		else if (!field->optional)
			result = fail_missing(p, rest, field->role);
	}
	return result;
}

static int take_rest(struct parser *p, const struct cp_part *rest)
{
	struct draft *draft = p->draft;
	const struct cp_connector_def *def = draft->connector->def;
	int result;

	draft->rest = rest;
	if (!def->parse)
		return take_shared(p, rest);
	draft->in_arena = true;
	p->error->where[0] = p->error->message[0] = '\0';
	result = def->parse(draft->connector, draft->alias, rest, draft->arena, draft->values, p->error);
	return result == CP_OK ? CP_OK : place(rest, p->error, result);
}

/* ---- All of it ---------------------------------------------------------------------------------------------- */

static int check_text(const struct cp_part *text, struct cp_error *error)
{
	size_t valid;

	if (text->length == 0)
		return cp_part_error(text, 0, CP_EINVAL, error, "expected an address, such as tcp:host:port");
	if (text->length > TEXT_MOST)
		return cp_error_set(error, CP_EINVAL, NULL, "an address of %zu bytes", text->length);
	valid = text_utf8_length(text->at, text->length);
	if (valid < text->length)
		return cp_part_error(text, valid, CP_EINVAL, error, "byte 0x%02x is not valid UTF-8",
							 (unsigned)(unsigned char)text->at[valid]);
	return CP_OK;
}

int cp_address_parse(const struct cp_scope *scope, struct cp_arena *arena, const char *text, size_t length,
					 unsigned flags, const struct cp_address **out, struct cp_error *error)
{
	struct cp_part rest;
	struct draft draft;
	struct cp_error ignored;
	char scratch[SCRATCH];
	struct parser p = {0};
	int result;

	draft.arena = arena;
	draft.layer_count = 0; /* the head comes before draft_begin() */
	p.scope = scope;
	p.text = (struct cp_part){text, length, 1, text, length, flags};
	p.draft = &draft;
	p.error = error ? error : &ignored;
	result = check_text(&p.text, p.error);
	if (result != CP_OK)
		return result;
	p.scratch = length < sizeof(scratch) ? scratch : cp_arena_alloc(arena, length + 1);
	result = take_head(&p, &rest);
	if (result == CP_OK)
		result = take_rest(&p, &rest);
	return result == CP_OK ? draft_finish(&draft, out) : result;
}
