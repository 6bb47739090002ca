/* Pieces of HTTP's grammar. See grammar.h. */
#include "grammar.h"

#include <string.h>
#include <strings.h>

enum { HOST_MOST = 255, PORT_MOST = 65535 };

/* ---- Characters --------------------------------------------------------------------------------------------- */

bool grammar_is_token(struct ws_text text)
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

/** Without a branch in the loop: values can be long. */
bool grammar_is_value(struct ws_text text)
{
	unsigned bad = 0;
	for (size_t i = 0; i < text.length; i++)
		bad |= (((unsigned char)text.at[i] < ' ') & (text.at[i] != '\t')) | (text.at[i] == 0x7f);
	return !bad;
}

/* ---- Words -------------------------------------------------------------------------------------------------- */

bool grammar_is(struct ws_text text, const char *word)
{
	return grammar_same(text, grammar_text(word, strlen(word)));
}

bool grammar_is_word(struct ws_text text, const char *word)
{
	return grammar_same_word(text, grammar_text(word, strlen(word)));
}

bool grammar_same(struct ws_text a, struct ws_text b)
{
	return a.length == b.length && (a.length == 0 || memcmp(a.at, b.at, a.length) == 0);
}

bool grammar_same_word(struct ws_text a, struct ws_text b)
{
	return a.length == b.length && (a.length == 0 || strncasecmp(a.at, b.at, a.length) == 0);
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

struct ws_text grammar_trim(struct ws_text text)
{
	while (text.length > 0 && is_blank(text.at[text.length - 1]))
		text.length--;
	while (text.length > 0 && is_blank(text.at[0]))
		text = grammar_from(text, text.at + 1);
	return text;
}

bool grammar_take(struct ws_text *rest, char separator, struct ws_text *part)
{
	if (!rest->at)
		return false;
	const char *end = rest->length > 0 ? memchr(rest->at, separator, rest->length) : NULL;
	*part = grammar_trim(end ? grammar_up_to(*rest, end) : *rest);
	*rest = end ? grammar_from(*rest, end + 1) : grammar_text(NULL, 0);
	return true;
}

bool grammar_next(struct ws_text *list, struct ws_text *element)
{
	while (grammar_take(list, ',', element))
		if (element->length > 0)
			return true;
	return false;
}

bool grammar_number(struct ws_text text, unsigned most, unsigned *number)
{
	*number = 0;
	for (size_t i = 0; i < text.length; i++) {
		if (text.at[i] < '0' || text.at[i] > '9')
			return false;
		*number = *number * 10 + (unsigned)(text.at[i] - '0');
		if (*number > most)
			return false;
	}
	return true;
}

/* ---- Hosts -------------------------------------------------------------------------------------------------- */

static bool is_name(struct ws_text text)
{
	static const bool allowed[256] = {
		['0' ... '9'] = true, ['a' ... 'z'] = true, ['A' ... 'Z'] = true, ['-'] = true, ['.'] = true, ['_'] = true};
	for (size_t i = 0; i < text.length; i++)
		if (!allowed[(unsigned char)text.at[i]])
			return false;
	return text.length > 0 && text.length <= HOST_MOST && text.at[0] != '.';
}

/** Zones mean nothing to others. */
static bool is_ipv6(struct ws_text text)
{
	struct cp_ip ip;
	return text.length > 0 && memchr(text.at, ':', text.length) && !memchr(text.at, '%', text.length) &&
		   cp_ip_parse(text.at, text.length, &ip);
}

bool grammar_is_host(struct ws_text text)
{
	if (text.length > 2 && text.at[0] == '[' && text.at[text.length - 1] == ']')
		return is_ipv6(grammar_text(text.at + 1, text.length - 2));
	return is_name(text);
}

bool grammar_authority(struct ws_text text, struct ws_text *host, struct ws_text *port)
{
	unsigned number;
	const char *colon = text.length > 0 ? memrchr(text.at, ':', text.length) : NULL;
	*host = text;
	*port = grammar_text(NULL, 0);
	if (colon && text.at[text.length - 1] != ']') {
		*host = grammar_up_to(text, colon);
		*port = grammar_from(text, colon + 1);
	}
	return grammar_is_host(*host) && grammar_number(*port, PORT_MOST, &number);
}

static struct ws_text without_dot(struct ws_text host)
{
	if (host.length > 0 && host.at[host.length - 1] == '.')
		host.length--;
	return host;
}

bool grammar_host_matches(struct ws_text host, const char *pattern)
{
	struct ws_text wanted = without_dot(grammar_text(pattern, strlen(pattern)));
	host = without_dot(host);
	if (pattern[0] != '*')
		return grammar_same_word(host, wanted);
	wanted = grammar_from(wanted, wanted.at + 1);
	return host.length > wanted.length &&
		   grammar_same_word(grammar_from(host, host.at + host.length - wanted.length), wanted);
}
