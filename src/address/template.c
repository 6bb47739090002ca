/* Templates: see template.h. */
#include "template.h"

#include <stdint.h>
#include <string.h>

static bool is_name_character(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
		   c == '.';
}

size_t template_name(const char *text, size_t length)
{
	size_t at = 1;

	if (length < 3 || text[0] != '{')
		return 0;
	while (at < length && is_name_character(text[at]))
		at++;
	return at > 1 && at < length && text[at] == '}' ? at + 1 : 0;
}

bool template_has(const char *text, size_t length)
{
	for (size_t at = 0; at < length; at++) {
		if (text[at] == '{' && template_name(text + at, length - at))
			return true;
	}
	return false;
}

/* %7B, %7d, … */
static bool is_escaped_brace(const char *text, size_t length)
{
	return length >= 3 && text[0] == '%' && text[1] == '7' && text[2] && strchr("bBdD", text[2]);
}

static int brace_error(const struct cp_part *rest, size_t at, struct cp_error *error)
{
	if (rest->at[at] == '}')
		return cp_part_error(rest, at, CP_EINVAL, error, "\"}\" without \"{\"; a brace itself is written %%7D");
	if (rest->flags & CP_PARSE_TEMPLATE)
		return cp_part_error(rest, at, CP_EINVAL, error,
							 "expected a name and \"}\" behind \"{\"; a brace itself is written %%7B");
	return cp_part_error(rest, at, CP_EINVAL, error,
						 "\"{\" begins a template, which cannot stand here; a brace itself is written %%7B");
}

int template_check(const struct cp_part *rest, bool *found, struct cp_error *error)
{
	size_t literal = SIZE_MAX, skip;

	*found = false;
	for (size_t at = 0; at < rest->length; at++) {
		switch (rest->at[at]) {
		case '{':
		case '}':
			skip = rest->flags & CP_PARSE_TEMPLATE ? template_name(rest->at + at, rest->length - at) : 0;
			if (skip == 0)
				return brace_error(rest, at, error);
			at += skip - 1;
			*found = true;
			break;
		case '%':
			if (literal == SIZE_MAX && is_escaped_brace(rest->at + at, rest->length - at))
				literal = at;
			break;
		}
	}
	/* Unescaped, a brace could not be told from one that begins a name. */
	if (*found && literal != SIZE_MAX)
		return cp_part_error(rest, literal, CP_EINVAL, error,
							 "a brace itself cannot stand in an address with a {name}");
	return CP_OK;
}
