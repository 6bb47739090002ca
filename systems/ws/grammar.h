/** Pieces of HTTP's grammar that requests, answers and settings share. Nothing here allocates; texts are not changed.
 */
#ifndef SYSTEMS_WS_GRAMMAR_H
#define SYSTEMS_WS_GRAMMAR_H

#include "ws.h"

static inline struct ws_text grammar_text(const char *at, size_t length)
{
	return (struct ws_text){at, length};
}

/** The part before `end`, which points into it or right behind it. */
static inline struct ws_text grammar_up_to(struct ws_text text, const char *end)
{
	return (struct ws_text){text.at, (size_t)(end - text.at)};
}

/** The part from `from` on. */
static inline struct ws_text grammar_from(struct ws_text text, const char *from)
{
	return (struct ws_text){from, text.length - (size_t)(from - text.at)};
}

/** A name of a field, of a method, of a subprotocol … (RFC 9110, 5.6.2). */
bool grammar_is_token(struct ws_text text);
/** What can be a field's value: no control characters but tabs (RFC 9110, 5.5). */
bool grammar_is_value(struct ws_text text);

bool grammar_is(struct ws_text text, const char *word);
/** Case does not matter in ASCII. */
bool grammar_is_word(struct ws_text text, const char *word);
bool grammar_same(struct ws_text a, struct ws_text b);
bool grammar_same_word(struct ws_text a, struct ws_text b);

/** Without spaces and tabs at both ends. */
struct ws_text grammar_trim(struct ws_text text);
/** Take the next part up to `separator` or the end, trimmed. @return false: there is none */
bool grammar_take(struct ws_text *rest, char separator, struct ws_text *part);
/** Take the next element of a list with commas; empty ones count for nothing (RFC 9110, 5.6.1). */
bool grammar_next(struct ws_text *list, struct ws_text *element);

/** A decimal number without a sign, at most `most`. No digit at all is 0. @return false: it is none */
bool grammar_number(struct ws_text text, unsigned most, unsigned *number);

/** A host as it stands in URIs: a name of letters, digits, "-", "_" and ".", or an IP address, IPv6 in brackets. */
bool grammar_is_host(struct ws_text text);
/** Take apart `host [":" [port]]`. @param port  `at` NULL: there is none @return false: it is not that */
bool grammar_authority(struct ws_text text, struct ws_text *host, struct ws_text *port);

/** A host against a pattern: the same one, or one below the domain of `*.domain`. Case and the dot at the end of a
 * complete name do not matter. */
bool grammar_host_matches(struct ws_text host, const char *pattern);

#endif
