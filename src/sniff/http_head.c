/* Each call begins at the first byte. Until the empty line behind the head is there, only line ends are looked for;
 * fields are read once. What this does for each byte again and again is left to memchr() and to loops without a branch,
 * which compilers make vectors of: a head that comes byte by byte is not dear. */
#include "http_head.h"

#include "../address/host.h"

#include <connpipe/address.h>

#include <stdbool.h>
#include <string.h>
#include <strings.h>

enum {
	EMPTY_LINES_MOST = 4,
	METHOD_MOST = 20,
	PORT_MOST = 65535,
	AUTHORITY_MOST = HOST_ROOM + sizeof("[]:65535"),
};

struct text {
	const char *at;
	size_t length;
};

/** The first line, taken apart. */
struct request_line {
	struct text method, target;
	bool bare_lf; /* at its end */
};

static void advance(struct text *text, size_t bytes)
{
	text->at += bytes;
	text->length -= bytes;
}

static struct text up_to(struct text text, const char *end)
{
	return (struct text){text.at, (size_t)(end - text.at)};
}

static bool equals(struct text text, const char *word)
{
	return text.length == strlen(word) && memcmp(text.at, word, text.length) == 0;
}

static enum verdict either(enum verdict a, enum verdict b)
{
	return a > b ? a : b;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/** Whether there is no control character and no space. Without a branch in the loop: targets can be long. */
static bool is_visible(struct text text)
{
	unsigned bad = 0;
	for (size_t i = 0; i < text.length; i++)
		bad |= ((unsigned char)text.at[i] <= ' ') | (text.at[i] == 0x7f);
	return !bad;
}

/* ---- The request line --------------------------------------------------------------------------------------- */

/** Case does not matter. */
static enum verdict prefix_begins(struct text text, const char *prefix)
{
	size_t length = strlen(prefix), compare = text.length < length ? text.length : length;
	if (strncasecmp(text.at, prefix, compare) != 0)
		return VERDICT_NO;
	return text.length < length ? VERDICT_MAYBE : VERDICT_YES;
}

/** Whether the bytes are, or begin, the preface of a client that speaks HTTP/2 without asking. */
static enum verdict preface_begins(struct text text)
{
	static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
	size_t length = sizeof(preface) - 1, compare = text.length < length ? text.length : length;
	if (memcmp(text.at, preface, compare) != 0)
		return VERDICT_NO;
	return text.length < length ? VERDICT_MAYBE : VERDICT_YES;
}

static enum verdict skip_empty_lines(struct text *rest)
{
	for (unsigned i = 0; i < EMPTY_LINES_MOST && rest->length > 0 && rest->at[0] == '\r'; i++) {
		if (rest->length == 1)
			return VERDICT_MAYBE;
		if (rest->at[1] != '\n')
			return VERDICT_NO;
		advance(rest, 2);
	}
	return rest->length > 0 ? VERDICT_YES : VERDICT_MAYBE;
}

static bool is_method_character(char c, bool first)
{
	return (c >= 'A' && c <= 'Z') || (!first && (is_digit(c) || c == '-' || c == '_'));
}

static enum verdict take_method(struct text *rest, struct text *method)
{
	size_t length = 0;
	while (length < rest->length && length <= METHOD_MOST && is_method_character(rest->at[length], length == 0))
		length++;
	if (length > METHOD_MOST)
		return VERDICT_NO;
	if (length == rest->length)
		return VERDICT_MAYBE;
	if (length == 0 || rest->at[length] != ' ')
		return VERDICT_NO;
	*method = up_to(*rest, rest->at + length);
	advance(rest, length + 1);
	return VERDICT_YES;
}

static bool is_authority_character(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c && strchr("-._:[]", c));
}

static enum verdict authority_begins(struct text target)
{
	if (target.length > AUTHORITY_MOST)
		return VERDICT_NO;
	for (size_t i = 0; i < target.length; i++)
		if (!is_authority_character(target.at[i]))
			return VERDICT_NO;
	return target.length > 0 ? VERDICT_YES : VERDICT_MAYBE;
}

/** Whether the target, or as much of it as is there, has the form that the method asks for (RFC 9112, 3.2). YES: if it
 * ends here, it is complete. */
static enum verdict target_begins(struct text method, struct text target)
{
	if (equals(method, "CONNECT"))
		return authority_begins(target);
	if (target.length == 0)
		return VERDICT_MAYBE;
	if (target.at[0] == '/')
		return VERDICT_YES;
	if (target.at[0] == '*')
		return target.length == 1 && equals(method, "OPTIONS") ? VERDICT_YES : VERDICT_NO;
	return either(prefix_begins(target, "http://"), prefix_begins(target, "https://"));
}

static enum verdict take_target(struct text *rest, struct text method, struct text *target)
{
	const char *space = memchr(rest->at, ' ', rest->length);
	*target = space ? up_to(*rest, space) : *rest;
	enum verdict verdict = target_begins(method, *target);
	if (verdict == VERDICT_NO || !is_visible(*target))
		return VERDICT_NO;
	if (!space)
		return VERDICT_MAYBE;
	advance(rest, target->length + 1);
	return verdict == VERDICT_YES ? VERDICT_YES : VERDICT_NO;
}

/** The version and the end of the line. */
static enum verdict take_version(struct text *rest, bool *bare_lf)
{
	static const char shape[] = "HTTP/1.";
	size_t length = sizeof(shape) - 1, compare = rest->length < length ? rest->length : length;
	if (memcmp(rest->at, shape, compare) != 0 || (rest->length > length && !is_digit(rest->at[length])))
		return VERDICT_NO;
	if (rest->length <= length + 1)
		return VERDICT_MAYBE;
	advance(rest, length + 1);
	*bare_lf = rest->at[0] == '\n';
	if (!*bare_lf && rest->at[0] != '\r')
		return VERDICT_NO;
	if (!*bare_lf && rest->length == 1)
		return VERDICT_MAYBE;
	if (!*bare_lf && rest->at[1] != '\n')
		return VERDICT_NO;
	advance(rest, *bare_lf ? 1 : 2);
	return VERDICT_YES;
}

static enum verdict take_request_line(struct text *rest, struct request_line *line)
{
	enum verdict verdict = skip_empty_lines(rest);
	if (verdict == VERDICT_YES)
		verdict = take_method(rest, &line->method);
	if (verdict == VERDICT_YES)
		verdict = take_target(rest, line->method, &line->target);
	if (verdict == VERDICT_YES)
		verdict = take_version(rest, &line->bare_lf);
	return verdict;
}

/** What is still open at the limit is nothing. */
static enum verdict limited(enum verdict verdict, size_t length)
{
	return verdict == VERDICT_MAYBE && length >= HTTP_HEAD_MOST ? VERDICT_NO : verdict;
}

static struct text limit(const char *bytes, size_t length)
{
	return (struct text){bytes, length < HTTP_HEAD_MOST ? length : HTTP_HEAD_MOST};
}

enum verdict http_head_begins(const char *bytes, size_t length)
{
	struct text text = limit(bytes, length), rest = text;
	struct request_line line;
	return limited(either(preface_begins(text), take_request_line(&rest, &line)), length);
}

/* ---- Fields ------------------------------------------------------------------------------------------------- */

/** Find the empty line. @param fields  set to the lines before it */
static enum verdict find_fields(struct text rest, struct text *fields)
{
	*fields = rest;
	for (;;) {
		const char *lf = memchr(rest.at, '\n', rest.length);
		if (!lf)
			return VERDICT_MAYBE;
		if (lf == rest.at || lf[-1] != '\r')
			return VERDICT_NO;
		if (lf == rest.at + 1)
			break;
		advance(&rest, (size_t)(lf + 1 - rest.at));
	}
	*fields = up_to(*fields, rest.at);
	return VERDICT_YES;
}

/** RFC 9110, 5.6.2. */
static bool is_token(struct text text)
{
	static const bool token[256] = {
		['0' ... '9'] = true, ['a' ... 'z'] = true, ['A' ... 'Z'] = true, ['!'] = true, ['#'] = true, ['$'] = true,
		['%'] = true,         ['&'] = true,         ['\''] = true,        ['*'] = true, ['+'] = true, ['-'] = true,
		['.'] = true,         ['^'] = true,         ['_'] = true,         ['`'] = true, ['|'] = true, ['~'] = true,
	};
	for (size_t i = 0; i < text.length; i++)
		if (!token[(unsigned char)text.at[i]])
			return false;
	return text.length > 0;
}

/** No control characters but tabs: a bare CR and a zero byte above all. */
static bool is_value(struct text text)
{
	unsigned bad = 0;
	for (size_t i = 0; i < text.length; i++)
		bad |= (((unsigned char)text.at[i] < ' ') & (text.at[i] != '\t')) | (text.at[i] == 0x7f);
	return !bad;
}

static struct text trimmed(struct text text)
{
	while (text.length > 0 && (text.at[0] == ' ' || text.at[0] == '\t'))
		advance(&text, 1);
	while (text.length > 0 && (text.at[text.length - 1] == ' ' || text.at[text.length - 1] == '\t'))
		text.length--;
	return text;
}

/** One line without its end. A folded one and one with white space before the colon have no name. */
static bool read_field(struct text line, struct text *host)
{
	const char *colon = memchr(line.at, ':', line.length);
	if (!colon)
		return false;
	struct text name = up_to(line, colon), value = line;
	advance(&value, name.length + 1);
	if (!is_token(name) || !is_value(value))
		return false;
	if (name.length != 4 || strncasecmp(name.at, "host", 4) != 0)
		return true;
	if (host->at)
		return false;
	*host = trimmed(value);
	return true;
}

/** @param host  the value of the field of that name; untouched if there is none
 * @return false: malformed */
static bool read_fields(struct text fields, struct text *host)
{
	while (fields.length > 0) {
		const char *lf = memchr(fields.at, '\n', fields.length);
		if (!read_field(up_to(fields, lf - 1), host))
			return false;
		advance(&fields, (size_t)(lf + 1 - fields.at));
	}
	return true;
}

/* ---- Host --------------------------------------------------------------------------------------------------- */

/** What follows a host: nothing, or a colon and a port, which may be missing (RFC 3986, 3.2.3). */
static bool is_port(struct text text)
{
	unsigned long port = 0;
	if (text.length > 0 && text.at[0] != ':')
		return false;
	for (size_t i = 1; i < text.length; i++) {
		if (!is_digit(text.at[i]))
			return false;
		port = port * 10 + (unsigned)(text.at[i] - '0');
		if (port > PORT_MOST)
			return false;
	}
	return true;
}

/** An IPv6 address without its brackets. Zones mean nothing to others. */
static bool is_ipv6(struct text text)
{
	return memchr(text.at, ':', text.length) && !memchr(text.at, '%', text.length);
}

/** Take host and port apart. @return false: malformed */
static bool split_authority(struct text authority, struct text *host)
{
	bool bracket = authority.length > 0 && authority.at[0] == '[';
	const char *end = memchr(authority.at, bracket ? ']' : ':', authority.length);
	if (bracket && !end)
		return false;
	*host = end ? up_to(authority, end) : authority;
	advance(&authority, host->length + bracket);
	if (!is_port(authority))
		return false;
	if (!bracket)
		return true;
	advance(host, 1);
	return is_ipv6(*host);
}

/** The host of an authority as everybody writes it, without its port; nothing if it is none. */
static struct text canonical_host(struct text authority, struct cp_arena *arena)
{
	char canonical[HOST_ROOM];
	struct text host;
	size_t length, offset;
	if (!split_authority(authority, &host) || host_canonical(host.at, host.length, false, canonical, &length, &offset))
		return (struct text){0};
	if (canonical[length - 1] == '.')
		length--; /* a name that is complete is the same name */
	bool bracket = memchr(canonical, ':', length);
	return (struct text){cp_arena_printf(arena, bracket ? "[%.*s]" : "%.*s", (int)length, canonical),
						 length + (bracket ? 2 : 0)};
}

/** By RFC 9112, 3.2.2, what the target names counts and the field does not; but not every server knows: two that differ
 * are no host. @param named  by the target, `at` NULL: by none  @param field  of the Host field, likewise */
static void set_host(struct http_head *head, struct text named, struct text field, struct cp_arena *arena)
{
	struct text host = {0}, other;
	if (named.at || field.at)
		host = canonical_host(named.at ? named : field, arena);
	if (host.at && named.at && field.at) {
		other = canonical_host(field, arena);
		if (!other.at || other.length != host.length || memcmp(other.at, host.at, host.length) != 0)
			return;
	}
	head->host = host.at;
	head->host_length = host.length;
}

/* ---- Target ------------------------------------------------------------------------------------------------- */

/** Split a target that is absolute or a path (RFC 9112, 3.2). @param authority  untouched if it has none */
static struct text split_target(struct text target, struct text *authority)
{
	static const char scheme_end[] = "://";
	if (target.at[0] != '/') {
		const char *after = (const char *)memmem(target.at, target.length, scheme_end, 3) + 3;
		advance(&target, (size_t)(after - target.at));
		size_t length = 0;
		while (length < target.length && target.at[length] != '/' && target.at[length] != '?')
			length++;
		*authority = up_to(target, target.at + length);
		advance(&target, length);
	}
	const char *query = memchr(target.at, '?', target.length);
	return query ? up_to(target, query) : target;
}

static void set_path(struct http_head *head, struct text path, struct cp_arena *arena)
{
	if (path.length == 0)
		path = (struct text){"/", 1}; /* "http://host" means it */
	if (!cp_utf8_valid(path.at, path.length))
		return;
	head->path = cp_arena_strndup(arena, path.at, path.length);
	head->path_length = path.length;
}

static void fill(struct http_head *head, const struct request_line *line, struct text host, struct cp_arena *arena)
{
	struct text named = {0};
	head->method = cp_arena_strndup(arena, line->method.at, line->method.length);
	head->method_length = line->method.length;
	if (equals(line->method, "CONNECT"))
		named = line->target;
	else if (line->target.at[0] != '*')
		set_path(head, split_target(line->target, &named), arena);
	set_host(head, named, host, arena);
}

/* ---- The head ----------------------------------------------------------------------------------------------- */

/** Whether the request line, which is complete, can only be understood one way. A fragment is none of a target's. */
static bool is_strict(const struct request_line *line)
{
	return !line->bare_lf && !memchr(line->target.at, '#', line->target.length);
}

enum verdict http_head_read(const char *bytes, size_t length, struct cp_arena *arena, struct http_head *head)
{
	struct text rest = limit(bytes, length), fields, host = {0};
	struct request_line line;
	enum verdict preface = preface_begins(rest), verdict = take_request_line(&rest, &line);
	*head = (struct http_head){0};
	if (verdict != VERDICT_YES)
		return limited(either(preface, verdict), length);
	verdict = is_strict(&line) ? find_fields(rest, &fields) : VERDICT_NO;
	if (verdict != VERDICT_YES)
		return limited(verdict, length);
	if (!read_fields(fields, &host))
		return VERDICT_NO;
	fill(head, &line, host, arena);
	return VERDICT_YES;
}
