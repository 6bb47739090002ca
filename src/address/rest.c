/* The shared parser: where the parts of a rest begin and end. What they may hold is checked in draft.c. */
#include "rest.h"

#include "host.h"
#include "text.h"

#include <stdint.h>
#include <string.h>

int rest_field(const struct cp_connector_def *def, enum cp_field_role role)
{
	for (uint32_t i = 0; i < def->field_count; i++) {
		if (def->fields[i].role == role)
			return (int)i;
	}
	return -1;
}

const struct cp_part *rest_part(const struct cp_rest *rest, enum cp_field_role role)
{
	switch (role) {
	case CP_ROLE_HOST:
		return &rest->host;
	case CP_ROLE_PORT:
		return &rest->port;
	case CP_ROLE_PATH:
		return &rest->path;
	case CP_ROLE_MULTIPLEX:
		return &rest->multiplex;
	case CP_ROLE_OTHER:
		break;
	}
	return NULL;
}

static bool is_one_of(char c, const char *set)
{
	return c != '\0' && strchr(set, c);
}

/* From `at` to the first of `ends`, or to the end. */
static size_t find(const struct cp_part *rest, size_t at, const char *ends)
{
	while (at < rest->length && !is_one_of(rest->at[at], ends))
		at++;
	return at;
}

static char character(const struct cp_part *rest, size_t at)
{
	return at < rest->length ? rest->at[at] : '\0';
}

static int take_bracketed(const struct cp_part *rest, size_t *at, struct cp_rest *out, struct cp_error *error)
{
	size_t end = find(rest, 1, "]");

	if (end == rest->length)
		return cp_part_error(rest, 0, CP_EINVAL, error, "\"[\" without \"]\"");
	out->bracketed = true;
	out->host = part_slice(rest, 1, end - 1);
	*at = end + 1;
	if (*at < rest->length && !is_one_of(rest->at[*at], ":/!"))
		return cp_part_error(rest, *at, CP_EINVAL, error, "expected \":\" and a port behind \"]\"");
	return CP_OK;
}

static void take_host(const struct cp_part *rest, size_t *at, struct cp_rest *out)
{
	const char *shorthand;

	*at = find(rest, 0, ":/!");
	if (*at == 0)
		return;
	out->host = part_slice(rest, 0, *at);
	shorthand = host_shorthand(out->host.at, out->host.length);
	if (shorthand) {
		out->host.at = shorthand;
		out->host.length = strlen(shorthand);
		out->bracketed = strchr(shorthand, ':') != NULL;
	}
}

static int take_port(const struct cp_part *rest, size_t *at, struct cp_rest *out, struct cp_error *error)
{
	size_t end = find(rest, *at, "/!");

	if (end == *at)
		return cp_part_error(rest, end, CP_EINVAL, error, "expected a port");
	out->port = part_slice(rest, *at, end - *at);
	*at = end;
	return CP_OK;
}

/* `!multiplex` at the end; `at` stands at the "!" or at the end. */
static int take_multiplex(const struct cp_part *rest, size_t at, struct cp_rest *out, struct cp_error *error)
{
	size_t second;

	if (at == rest->length)
		return CP_OK;
	out->multiplex = part_slice(rest, at + 1, rest->length - at - 1);
	if (out->multiplex.length == 0)
		return cp_part_error(rest, at + 1, CP_EINVAL, error, "expected a subport behind \"!\"");
	second = find(rest, at + 1, "!");
	if (second < rest->length)
		return cp_part_error(rest, second, CP_EINVAL, error, "a second \"!\"; in a name it is written %%21");
	return CP_OK;
}

static int take_path_and_multiplex(const struct cp_part *rest, size_t at, struct cp_rest *out, struct cp_error *error)
{
	size_t end = find(rest, at, "!");

	if (end > at)
		out->path = part_slice(rest, at, end - at);
	return take_multiplex(rest, end, out, error);
}

int cp_rest_parse(const struct cp_part *rest, struct cp_rest *out, struct cp_error *error)
{
	size_t at = 0;
	int result = CP_OK;

	memset(out, 0, sizeof(*out));
	if (character(rest, 0) == '[')
		result = take_bracketed(rest, &at, out, error);
	else
		take_host(rest, &at, out);
	if (result == CP_OK && character(rest, at) == ':') {
		at++;
		result = take_port(rest, &at, out, error);
	}
	return result == CP_OK ? take_path_and_multiplex(rest, at, out, error) : result;
}

int rest_split(const struct cp_connector_def *def, const struct cp_part *rest, struct cp_rest *out,
			   struct cp_error *error)
{
	size_t at = 0;
	int result = CP_OK;

	if (rest_field(def, CP_ROLE_HOST) >= 0)
		return cp_rest_parse(rest, out, error);
	memset(out, 0, sizeof(*out));
	if (rest_field(def, CP_ROLE_PORT) >= 0 && find(rest, 0, "/!") > 0)
		result = take_port(rest, &at, out, error);
	return result == CP_OK ? take_path_and_multiplex(rest, at, out, error) : result;
}
