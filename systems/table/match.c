/* Patterns that facts are compared with: reading them, and comparing.
 *
 * What could never match is an error, with the place of the character that makes it so: a condition that silently never
 * holds sends connections to the wrong server. */
#include "parts.h"

#include <string.h>

enum { NAME_MOST = 253, LABEL_MOST = 63, PROTOCOL_MOST = 255 }; /* RFC 1035 section 2.3.4, RFC 7301 section 3.1 */

const char *table_match_escape(struct cp_arena *arena, const char *text, size_t length)
{
	size_t room = cp_escape(text, length, "\"", NULL, 0) + 1;
	char *out = cp_arena_alloc(arena, room);
	cp_escape(text, length, "\"", out, room);
	return out;
}

static bool is_alphanumeric(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* ---- Names of hosts ----------------------------------------------------------------------------------------- */

/** Why a character cannot stand in a name; NULL: it can. */
static const char *why_not_in_name(char c)
{
	if (is_alphanumeric(c) || c == '-' || c == '_' || c == '.')
		return NULL;
	if (c == '*')
		return "\"*\" stands for whole labels in front, as in \"*.example.org\", or for the whole name";
	if (c & (char)0x80)
		return "expected the name as clients send it: in ASCII, with \"xn--\"";
	if (c == ':')
		return "expected a name without a port";
	return "expected letters, digits, \"-\" and \"_\" with dots between them";
}

/** Check the labels behind `*.`, if that is there; a dot at the end has been taken off. */
static bool check_labels(struct reading *reading, const struct cp_settings *setting, const char *text, size_t from,
						 size_t end)
{
	size_t label = from;
	for (size_t i = from; i <= end; i++) {
		const char *why = i < end ? why_not_in_name(text[i]) : NULL;
		if (why)
			return table_reading_error_at(reading, setting, i, "%s", why);
		if (i < end && text[i] != '.')
			continue;
		if (i == label)
			return table_reading_error_at(reading, setting, i, "expected a label: a name has none that are empty");
		if (i - label > LABEL_MOST)
			return table_reading_error_at(reading, setting, label, "a label has at most %d characters", LABEL_MOST);
		label = i + 1;
	}
	return end <= NAME_MOST || table_reading_error(reading, setting, "a name has at most %d characters", NAME_MOST);
}

static bool read_name(struct reading *reading, const struct cp_settings *setting, struct match *match)
{
	const char *text = match->text;
	size_t length = strlen(text);
	match->open = text[0] == '*' && (text[1] == '\0' || text[1] == '.');
	if (length > 1 && text[length - 1] == '.' && !strchr(".*", text[length - 2]))
		length--;
	match->at = text + match->open;
	match->length = (uint32_t)(length - match->open);
	return length == match->open || check_labels(reading, setting, text, match->open ? 2 : 0, length);
}

/** `[2001:db8::1]`: as a Host field has it. Compared in the canonical form, which is what programs send. */
static bool read_ipv6(struct reading *reading, const struct cp_settings *setting, struct match *match)
{
	size_t length = strlen(match->text);
	struct cp_ip ip;
	char text[CP_IP_TEXT];
	if (match->text[length - 1] != ']' || !cp_ip_parse(match->text + 1, length - 2, &ip) || ip.family != 6)
		return table_reading_error(reading, setting, "expected an IPv6 address in the brackets, as \"[2001:db8::1]\"");
	cp_ip_print(&ip, text, sizeof(text));
	match->at = cp_arena_printf(reading->arena, "[%s]", text);
	match->length = (uint32_t)strlen(match->at);
	return true;
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static bool name_is(const struct match *match, const char *value, size_t length)
{
	length -= length > 1 && value[length - 1] == '.';
	if (match->open ? length <= match->length : length != match->length)
		return false;
	value += length - match->length;
	for (size_t i = 0; i < match->length; i++)
		if (lower(value[i]) != lower(match->at[i]))
			return false;
	return true;
}

/* ---- Protocols of TLS --------------------------------------------------------------------------------------- */

static bool read_protocol(struct reading *reading, const struct cp_settings *setting, struct match *match)
{
	for (size_t i = 0; i < match->length; i++)
		if (match->at[i] == ',' || match->at[i] < ' ' || match->at[i] == 0x7f)
			return table_reading_error_at(reading, setting, i,
										  "expected the name of a protocol, as \"h2\" or \"http/1.1\": what has commas "
										  "or is not ASCII is not looked at; several make a list: [\"h2\", …]");
	match->open = strcmp(match->text, "*") == 0;
	return match->length <= PROTOCOL_MOST ||
		   table_reading_error(reading, setting, "the name of a protocol has at most %d characters", PROTOCOL_MOST);
}

static bool list_has(const struct match *match, const char *value, size_t length)
{
	const char *end = value + length;
	while (value < end && !match->open) {
		const char *comma = memchr(value, ',', (size_t)(end - value)), *stop = comma ? comma : end;
		if ((size_t)(stop - value) == match->length && memcmp(value, match->at, match->length) == 0)
			return true;
		value = stop + 1;
	}
	return match->open && length > 0;
}

/* ---- Paths and words ---------------------------------------------------------------------------------------- */

static const char *why_not_in_path(const char *at)
{
	if (*at == '*')
		return at[1] ? "\"*\" stands only at the end, for whatever the path goes on with" : NULL;
	if (*at == '?' || *at == '#')
		return "expected a path alone: what is compared has no query";
	if (*at == 0x7f || (*at >= 0 && *at <= ' '))
		return "expected a path as clients send it, with %XX for what cannot stand in it";
	return NULL;
}

static bool read_path(struct reading *reading, const struct cp_settings *setting, struct match *match)
{
	if (match->text[0] != '/' && strcmp(match->text, "*") != 0)
		return table_reading_error(reading, setting, "expected a path, as \"/status\" or \"/api/*\", found \"%s\"",
								   match->text);
	for (const char *at = match->text; *at; at++) {
		const char *why = why_not_in_path(at);
		if (why)
			return table_reading_error_at(reading, setting, (size_t)(at - match->text), "%s", why);
	}
	match->open = match->text[match->length - 1] == '*';
	match->length -= match->open;
	return true;
}

static bool path_is(const struct match *match, const char *value, size_t length)
{
	if (match->open ? length < match->length : length != match->length)
		return false;
	return length > 0 && memcmp(value, match->at, match->length) == 0;
}

static bool read_method(struct reading *reading, const struct cp_settings *setting, struct match *match)
{
	size_t right = strspn(match->text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_");
	return right == match->length ||
		   table_reading_error_at(reading, setting, right, "expected a method of HTTP in capital letters, as \"GET\"");
}

static bool word_is(const struct match *match, const char *value, size_t length)
{
	return length == match->length && memcmp(value, match->at, length) == 0;
}

/* ---- All of them -------------------------------------------------------------------------------------------- */

static bool read_text(struct reading *reading, const struct cp_settings *setting, struct match *match)
{
	if (cp_settings_kind(setting) != CP_SETTINGS_STRING)
		return table_reading_unexpected(reading, setting, "a string, or a list of strings any of which may match");
	if (!cp_settings_string(setting, &match->text, NULL)) {
		reading->errors++;
		return false;
	}
	match->text = match->at = cp_arena_strdup(reading->arena, match->text);
	match->length = (uint32_t)strlen(match->text);
	return match->length || table_reading_error(reading, setting, "expected something to compare with, found \"\"");
}

bool table_match_read(struct reading *reading, const struct cp_settings *setting, enum match_kind kind,
					  struct match *match)
{
	*match = (struct match){0};
	if (!read_text(reading, setting, match))
		return false;
	switch (kind) {
	case MATCH_HOST:
		if (match->text[0] == '[')
			return read_ipv6(reading, setting, match);
		return read_name(reading, setting, match);
	case MATCH_NAME:
		return read_name(reading, setting, match);
	case MATCH_LIST:
		return read_protocol(reading, setting, match);
	case MATCH_PATH:
		return read_path(reading, setting, match);
	case MATCH_METHOD:
		return read_method(reading, setting, match);
	case MATCH_PROTO:
		return table_sniff_want_proto(reading, setting, match->text);
	}
	return false;
}

bool table_match_is(const struct match *match, enum match_kind kind, const char *value, size_t length)
{
	switch (kind) {
	case MATCH_NAME:
	case MATCH_HOST:
		return name_is(match, value, length);
	case MATCH_LIST:
		return list_has(match, value, length);
	case MATCH_PATH:
		return path_is(match, value, length);
	case MATCH_METHOD:
	case MATCH_PROTO:
		return word_is(match, value, length);
	}
	return false;
}
