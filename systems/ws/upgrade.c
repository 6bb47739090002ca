/* The request for an upgrade: reading it strictly, judging it. Answers to what is refused are in refusal.c.
 *
 * Each call begins at the first byte, and says the same however the bytes were cut: a request line that is none and a
 * bare LF are refused as soon as they are there, everything else when the empty line is there, in this order: the form
 * of each line, one after the other; then what they say, in the order of `judges`. */
#include "grammar.h"
#include "offers.h"

#include <string.h>
#include <strings.h>

enum { FIELDS_MOST = 100, TLS_HANDSHAKE = 0x16 };

/** X(name, text): fields that are looked at. */
#define KNOWN_FIELDS(X)                       \
	X(HOST, "host")                           \
	X(UPGRADE, "upgrade")                     \
	X(CONNECTION, "connection")               \
	X(KEY, "sec-websocket-key")               \
	X(VERSION, "sec-websocket-version")       \
	X(PROTOCOL, "sec-websocket-protocol")     \
	X(EXTENSIONS, "sec-websocket-extensions") \
	X(ORIGIN, "origin")                       \
	X(FORWARDED_FOR, "x-forwarded-for")       \
	X(USER_AGENT, "user-agent")               \
	X(CONTENT_LENGTH, "content-length")       \
	X(TRANSFER_ENCODING, "transfer-encoding")

enum known {
#define KNOWN_ENUM(name, text) name,
	KNOWN_FIELDS(KNOWN_ENUM)
#undef KNOWN_ENUM
		KNOWN_COUNT
};

static const struct {
	const char *text;
	size_t length;
} known_fields[KNOWN_COUNT] = {
#define KNOWN_TEXT(name, text) {text, sizeof(text) - 1},
	KNOWN_FIELDS(KNOWN_TEXT)
#undef KNOWN_TEXT
};

/** A head that is being read. */
struct reading {
	struct ws_upgrade *upgrade;
	struct ws_refusal *refusal;
	struct ws_text version; /* of the request line */
	struct {
		unsigned lines;
		struct ws_text first, last; /* values */
	} field[KNOWN_COUNT];
};

static bool refuse(struct ws_refusal *refusal, int status, const char *reason)
{
	refusal->status = status;
	refusal->reason = reason;
	return false;
}

/* ---- The request line --------------------------------------------------------------------------------------- */

/** Whether there are only visible characters and spaces. Without a branch in the loop: lines can be long. */
static bool is_visible(struct ws_text line)
{
	unsigned bad = 0;
	for (size_t i = 0; i < line.length; i++)
		bad |= ((unsigned char)line.at[i] < ' ') | ((unsigned char)line.at[i] >= 0x7f);
	return !bad;
}

/** What can be said of a request line of which the end may be missing. */
static bool check_bytes(struct ws_text line, struct ws_refusal *refusal)
{
	if (line.length == 0)
		return true;
	if (line.at[0] == TLS_HANDSHAKE)
		return refuse(refusal, 400, "TLS, where a plain request was expected");
	if (!grammar_is_token(grammar_text(line.at, 1)))
		return refuse(refusal, 400, "no HTTP request");
	return is_visible(line) || refuse(refusal, 400, "a byte in the request line that is no visible character");
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/** `HTTP/1.1` (RFC 9112, 2.3): upper case, one digit each. */
static bool is_version(struct ws_text text)
{
	return text.length == 8 && memcmp(text.at, "HTTP/", 5) == 0 && is_digit(text.at[5]) && text.at[6] == '.' &&
		   is_digit(text.at[7]);
}

/** Single spaces between three parts. */
static bool split_request_line(struct reading *r, struct ws_text line)
{
	struct ws_upgrade *upgrade = r->upgrade;
	const char *first = memchr(line.at, ' ', line.length), *last = memrchr(line.at, ' ', line.length);
	if (!first || first == last)
		return refuse(r->refusal, 400, "a request line without method, target and version");
	upgrade->method = grammar_up_to(line, first);
	upgrade->target = grammar_up_to(grammar_from(line, first + 1), last);
	r->version = grammar_from(line, last + 1);
	if (!grammar_is_token(upgrade->method))
		return refuse(r->refusal, 400, "a method that is no token");
	if (upgrade->target.length == 0 || memchr(upgrade->target.at, ' ', upgrade->target.length))
		return refuse(r->refusal, 400, "a space too many in the request line");
	if (!is_version(r->version))
		return refuse(r->refusal, 400, "a request line without a version of HTTP");
	r->refusal->no_body = grammar_is(upgrade->method, "HEAD");
	return true;
}

/** An empty line before the request is forgiven (RFC 9112, 2.2). */
static void skip_empty_line(struct ws_text *rest)
{
	if (rest->length >= 2 && rest->at[0] == '\r' && rest->at[1] == '\n')
		*rest = grammar_from(*rest, rest->at + 2);
}

/** Without a CR at the end of bytes that are not all there yet: it may belong to the line's end. */
static struct ws_text without_cr(struct ws_text line)
{
	if (line.length > 0 && line.at[line.length - 1] == '\r')
		line.length--;
	return line;
}

static bool ends_with_cr(struct ws_text rest, const char *lf, struct ws_refusal *refusal)
{
	return (lf > rest.at && lf[-1] == '\r') || refuse(refusal, 400, "a line that ends with a bare LF");
}

static enum ws_head read_request_line(struct reading *r, struct ws_text *rest)
{
	skip_empty_line(rest);
	const char *lf = rest->length > 0 ? memchr(rest->at, '\n', rest->length) : NULL;
	struct ws_text line = without_cr(lf ? grammar_up_to(*rest, lf) : *rest);
	if (!check_bytes(line, r->refusal))
		return WS_HEAD_REFUSED;
	if (!lf)
		return WS_HEAD_MORE;
	if (!ends_with_cr(*rest, lf, r->refusal) || !split_request_line(r, line))
		return WS_HEAD_REFUSED;
	*rest = grammar_from(*rest, lf + 1);
	return WS_HEAD_DONE;
}

/* ---- Fields ------------------------------------------------------------------------------------------------- */

/** Find the empty line. @param fields  set to the lines before it */
static enum ws_head find_fields(struct reading *r, struct ws_text rest, struct ws_text *fields)
{
	*fields = rest;
	for (;;) {
		const char *lf = rest.length > 0 ? memchr(rest.at, '\n', rest.length) : NULL;
		if (!lf)
			return WS_HEAD_MORE;
		if (!ends_with_cr(rest, lf, r->refusal))
			return WS_HEAD_REFUSED;
		if (lf == rest.at + 1)
			break;
		rest = grammar_from(rest, lf + 1);
	}
	*fields = grammar_up_to(*fields, rest.at);
	return WS_HEAD_DONE;
}

/** Take the next line, without its end. */
static bool next_line(struct ws_text *fields, struct ws_text *line)
{
	if (fields->length == 0)
		return false;
	const char *lf = memchr(fields->at, '\n', fields->length);
	*line = grammar_up_to(*fields, lf - 1);
	*fields = grammar_from(*fields, lf + 1);
	return true;
}

static void remember(struct reading *r, struct ws_text name, struct ws_text value)
{
	for (unsigned i = 0; i < KNOWN_COUNT; i++) {
		if (name.length != known_fields[i].length || !grammar_is_word(name, known_fields[i].text))
			continue;
		if (r->field[i].lines++ == 0)
			r->field[i].first = value;
		r->field[i].last = value;
		break;
	}
}

static bool read_field(struct reading *r, struct ws_text line)
{
	const char *colon = memchr(line.at, ':', line.length);
	if (line.at[0] == ' ' || line.at[0] == '\t')
		return refuse(r->refusal, 400, "a field that is folded over several lines");
	if (!colon)
		return refuse(r->refusal, 400, "a line of the head without a colon");
	struct ws_text name = grammar_up_to(line, colon), value = grammar_from(line, colon + 1);
	if (name.length > 0 && (name.at[name.length - 1] == ' ' || name.at[name.length - 1] == '\t'))
		return refuse(r->refusal, 400, "white space between the name of a field and the colon");
	if (!grammar_is_token(name))
		return refuse(r->refusal, 400, "a name of a field that is no token");
	if (!grammar_is_value(value))
		return refuse(r->refusal, 400, "a control character in a field");
	remember(r, name, grammar_trim(value));
	return true;
}

static bool read_fields(struct reading *r, struct ws_text fields)
{
	struct ws_text line;
	for (unsigned count = 0; next_line(&fields, &line); count++) {
		if (count == FIELDS_MOST)
			return refuse(r->refusal, 431, "more than 100 fields");
		if (!read_field(r, line))
			return false;
	}
	return true;
}

struct ws_text ws_upgrade_field(const struct ws_upgrade *upgrade, const char *name, const struct ws_text *after)
{
	struct ws_text rest = upgrade->fields, line;
	size_t length = strlen(name);
	if (after) {
		rest = grammar_from(rest, after->at);
		next_line(&rest, &line);
	}
	while (next_line(&rest, &line))
		if (line.length > length && line.at[length] == ':' && grammar_is_word(grammar_text(line.at, length), name))
			return grammar_trim(grammar_from(line, line.at + length + 1));
	return grammar_text(NULL, 0);
}

/* ---- What the request line says ----------------------------------------------------------------------------- */

static bool judge_version(struct reading *r)
{
	return r->version.at[5] == '1' || refuse(r->refusal, 505, "another HTTP than HTTP/1.1");
}

/** HEAD without an upgrade is answered as GET would be. */
static bool judge_method(struct reading *r)
{
	struct ws_text method = r->upgrade->method;
	return grammar_is(method, "GET") || (grammar_is(method, "HEAD") && r->field[UPGRADE].lines == 0) ||
		   refuse(r->refusal, 405, "another method than GET");
}

static bool is_hex(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool escapes_are_whole(struct ws_text path)
{
	const char *end = path.at + path.length;
	for (const char *at = path.at; (at = memchr(at, '%', (size_t)(end - at))); at++)
		if (end - at < 3 || !is_hex(at[1]) || !is_hex(at[2]))
			return false;
	return true;
}

static int hex_value(char c)
{
	return is_digit(c) ? c - '0' : (c | 0x20) - 'a' + 10;
}

/** Whether a segment is "." or "..", written in any way. Clients take these out before they send a path (RFC 3986,
 * 5.2.4); what is left of them is for who decodes it later than whoever allowed it. So an escaped "/" ends a segment,
 * too, and a "\\". @param path  its escapes are whole */
static bool has_dot_segment(struct ws_text path)
{
	const char *end = path.at + path.length;
	size_t dots = 0, length = 0;
	for (const char *at = path.at; at <= end; at++) {
		char c = at < end ? *at : '/';
		if (c == '%') {
			c = (char)(hex_value(at[1]) << 4 | hex_value(at[2]));
			at += 2;
		}
		bool ends = c == '/' || c == '\\';
		if (ends && dots == length && (dots == 1 || dots == 2))
			return true;
		length = ends ? 0 : length + 1;
		dots = ends ? 0 : dots + (c == '.');
	}
	return false;
}

/** Split an absolute target (RFC 9112, 3.2.2). Queries and paths end the host. @return false: it is none */
static bool take_authority(struct ws_text *target, struct ws_text *authority)
{
	static const char *const schemes[] = {"http://", "https://", "ws://", "wss://"};
	for (unsigned i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		size_t length = strlen(schemes[i]), end;
		if (target->length < length || !grammar_is_word(grammar_text(target->at, length), schemes[i]))
			continue;
		*target = grammar_from(*target, target->at + length);
		for (end = 0; end < target->length && target->at[end] != '/' && target->at[end] != '?'; end++)
			;
		*authority = grammar_up_to(*target, target->at + end);
		*target = grammar_from(*target, target->at + end);
		return true;
	}
	return false;
}

/** Who does not know absolute targets goes by the Host field: so both have to name the same host. */
static bool judge_named_host(struct reading *r, struct ws_text authority)
{
	struct ws_text named, field, port;
	if (!grammar_authority(authority, &named, &port))
		return refuse(r->refusal, 400, "a malformed host in the target");
	if (!grammar_authority(r->field[HOST].first, &field, &port) || grammar_same_word(named, field))
		return true; /* judge_host() looks at the field */
	return refuse(r->refusal, 400, "a target with another host than Host");
}

static bool judge_target(struct reading *r)
{
	struct ws_upgrade *upgrade = r->upgrade;
	struct ws_text target = upgrade->target, authority = {0};
	if (target.at[0] != '/' && !take_authority(&target, &authority))
		return refuse(r->refusal, 400, "a target that is neither a path nor a URI");
	if (memchr(upgrade->target.at, '#', upgrade->target.length))
		return refuse(r->refusal, 400, "a target with a fragment");
	const char *query = target.length > 0 ? memchr(target.at, '?', target.length) : NULL;
	upgrade->path = query ? grammar_up_to(target, query) : target;
	if (query)
		upgrade->query = grammar_from(target, query + 1);
	if (upgrade->path.length == 0)
		upgrade->path = grammar_text("/", 1);
	if (!escapes_are_whole(upgrade->path))
		return refuse(r->refusal, 400, "a broken % in the path");
	if (has_dot_segment(upgrade->path))
		return refuse(r->refusal, 400, "\".\" or \"..\" in the path");
	return !authority.at || judge_named_host(r, authority);
}

/* ---- What the fields say ------------------------------------------------------------------------------------ */

static bool is_old(const struct reading *r)
{
	return r->version.at[7] == '0';
}

/** Before HTTP/1.1 there was no need for one. */
static bool judge_host(struct reading *r)
{
	struct ws_text port;
	unsigned lines = r->field[HOST].lines;
	if (lines == 0)
		return is_old(r) || refuse(r->refusal, 400, "no Host");
	if (lines > 1)
		return refuse(r->refusal, 400, "more than one Host");
	return grammar_authority(r->field[HOST].first, &r->upgrade->host, &port) ||
		   refuse(r->refusal, 400, "a malformed Host");
}

/** A body would be taken for frames. */
static bool judge_body(struct reading *r)
{
	if (r->field[TRANSFER_ENCODING].lines > 0)
		return refuse(r->refusal, 400, "a Transfer-Encoding: a request for a websocket has no body");
	if (r->field[CONTENT_LENGTH].lines == 0 ||
		(r->field[CONTENT_LENGTH].lines == 1 && grammar_is(r->field[CONTENT_LENGTH].first, "0")))
		return true;
	return refuse(r->refusal, 400, "a Content-Length: a request for a websocket has no body");
}

/** Each line of a field, one after the other. @param value  at NULL before the first one */
static bool next_value(const struct reading *r, enum known field, struct ws_text *value)
{
	if (!value->at)
		*value = r->field[field].first;
	else if (r->field[field].lines > 1)
		*value = ws_upgrade_field(r->upgrade, known_fields[field].text, value);
	else
		return false;
	return value->at != NULL;
}

/** Whether a word is among those of a field, which may have several lines. */
static bool has_word(const struct reading *r, enum known field, const char *word)
{
	struct ws_text line = {0}, rest, element;
	while (next_value(r, field, &line))
		for (rest = line; grammar_next(&rest, &element);)
			if (grammar_is_word(element, word))
				return true;
	return false;
}

/** A plain request gets the page; so does one of HTTP/1.0, whose Upgrade counts for nothing (RFC 9110, 7.8). */
static bool judge_upgrade(struct reading *r)
{
	if (is_old(r))
		return refuse(r->refusal, 426, "HTTP/1.0, which has no upgrade to a websocket");
	if (r->field[UPGRADE].lines == 0 && r->field[KEY].lines > 0)
		return refuse(r->refusal, 426, "no Upgrade, but a Sec-WebSocket-Key: a proxy on the way keeps upgrades back");
	if (r->field[UPGRADE].lines == 0)
		return refuse(r->refusal, 426, "a plain request, not one for a websocket");
	if (!has_word(r, UPGRADE, "websocket"))
		return refuse(r->refusal, 426, "an Upgrade to something else than websocket");
	return has_word(r, CONNECTION, "upgrade") || refuse(r->refusal, 400, "no Upgrade in Connection");
}

static bool judge_websocket_version(struct reading *r)
{
	if (r->field[VERSION].lines > 1)
		return refuse(r->refusal, 400, "more than one Sec-WebSocket-Version");
	if (r->field[VERSION].lines == 0)
		return refuse(r->refusal, 426, "no Sec-WebSocket-Version");
	return grammar_is(r->field[VERSION].first, "13") ||
		   refuse(r->refusal, 426, "another Sec-WebSocket-Version than 13");
}

static bool is_base64(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '+' || c == '/';
}

/** Base64 of 16 bytes: the last character but the padding has 2 bits of them, and 4 zeros. */
static bool is_key(struct ws_text key)
{
	if (key.length != WS_KEY_LENGTH || memcmp(key.at + WS_KEY_LENGTH - 2, "==", 2) != 0)
		return false;
	for (unsigned i = 0; i < WS_KEY_LENGTH - 2; i++)
		if (!is_base64(key.at[i]))
			return false;
	return strchr("AQgw", key.at[WS_KEY_LENGTH - 3]) != NULL;
}

static bool judge_key(struct reading *r)
{
	if (r->field[KEY].lines == 0)
		return refuse(r->refusal, 400, "no Sec-WebSocket-Key");
	if (r->field[KEY].lines > 1)
		return refuse(r->refusal, 400, "more than one Sec-WebSocket-Key");
	return is_key(r->field[KEY].first) || refuse(r->refusal, 400, "a Sec-WebSocket-Key that is not 16 bytes in base64");
}

static bool judge_origin(struct reading *r)
{
	return r->field[ORIGIN].lines <= 1 || refuse(r->refusal, 400, "more than one Origin");
}

static bool judge_offers(struct reading *r)
{
	const char *wrong = r->field[PROTOCOL].lines > 0 ? offers_check_protocols(r->upgrade) : NULL;
	if (!wrong && r->field[EXTENSIONS].lines > 0)
		wrong = offers_read_extensions(r->upgrade, &r->upgrade->extensions);
	return !wrong || refuse(r->refusal, 400, wrong);
}

static bool (*const judges[])(struct reading *r) = {
	judge_version,           judge_method, judge_target, judge_host,   judge_body, judge_upgrade,
	judge_websocket_version, judge_key,    judge_origin, judge_offers,
};

/* ---- The head ----------------------------------------------------------------------------------------------- */

static void fill(struct reading *r)
{
	struct ws_upgrade *upgrade = r->upgrade;
	upgrade->origin = r->field[ORIGIN].first;
	upgrade->forwarded_for = r->field[FORWARDED_FOR].last;
	upgrade->user_agent = r->field[USER_AGENT].first;
	upgrade->key = r->field[KEY].first;
	upgrade->protocols = r->field[PROTOCOL].first;
	upgrade->wants_deflate = upgrade->extensions.at != NULL;
}

static enum ws_head read_head(struct reading *r, const char *bytes, struct ws_text rest)
{
	struct ws_upgrade *upgrade = r->upgrade;
	enum ws_head head = read_request_line(r, &rest);
	if (head == WS_HEAD_DONE)
		head = find_fields(r, rest, &upgrade->fields);
	if (head != WS_HEAD_DONE)
		return head;
	upgrade->length = (size_t)(upgrade->fields.at + upgrade->fields.length + 2 - bytes);
	if (!read_fields(r, upgrade->fields))
		return WS_HEAD_REFUSED;
	for (unsigned i = 0; i < sizeof(judges) / sizeof(judges[0]); i++)
		if (!judges[i](r))
			return WS_HEAD_REFUSED;
	fill(r);
	return WS_HEAD_DONE;
}

enum ws_head ws_upgrade_read(const char *bytes, size_t length, struct ws_upgrade *upgrade, struct ws_refusal *refusal)
{
	*upgrade = (struct ws_upgrade){0};
	*refusal = (struct ws_refusal){0};
	struct reading reading = {.upgrade = upgrade, .refusal = refusal};
	enum ws_head head = read_head(&reading, bytes, grammar_text(bytes, length < WS_HEAD_MOST ? length : WS_HEAD_MOST));
	if (head != WS_HEAD_MORE || length < WS_HEAD_MOST)
		return head;
	refuse(refusal, 431, "a head of more than 16 KiB");
	return WS_HEAD_REFUSED;
}

/* ---- What is set for the address ---------------------------------------------------------------------------- */

/** A pattern is "null", an origin, or one with `*.` before its host. */
static bool origin_matches(struct ws_text origin, const char *pattern)
{
	const char *star = strstr(pattern, "://*.");
	if (!star)
		return grammar_is_word(origin, pattern);
	size_t scheme = (size_t)(star - pattern) + 3;
	struct ws_text domain = grammar_text(star + 4, strlen(star + 4)); /* with its dot, and a port */
	if (origin.length <= scheme + domain.length || strncasecmp(origin.at, pattern, scheme) != 0)
		return false;
	const char *dot = origin.at + origin.length - domain.length;
	return grammar_is_host(grammar_up_to(grammar_from(origin, origin.at + scheme), dot)) &&
		   grammar_same_word(grammar_from(origin, dot), domain);
}

static bool is_origin_allowed(struct ws_text origin, const struct ws_texts *origins)
{
	for (uint32_t i = 0; i < origins->count; i++)
		if (origin_matches(origin, origins->at[i]))
			return true;
	return false;
}

static bool is_host_served(struct ws_text host, const struct ws_texts *hosts)
{
	for (uint32_t i = 0; i < hosts->count; i++)
		if (grammar_host_matches(host, hosts->at[i]))
			return true;
	return false;
}

bool ws_upgrade_allowed(const struct ws_upgrade *upgrade, const struct ws_options *options, struct ws_refusal *refusal)
{
	*refusal = (struct ws_refusal){0};
	if (options->hosts.count > 0 && !is_host_served(upgrade->host, &options->hosts))
		return refuse(refusal, 404, "a Host that is not served here");
	if (options->origins.count == 0 || is_origin_allowed(upgrade->origin, &options->origins))
		return true;
	return refuse(refusal, 403,
				  upgrade->origin.at ? "an Origin that is not allowed" : "no Origin, where one is needed");
}

const char *ws_upgrade_protocol(const struct ws_upgrade *upgrade, const struct ws_options *options)
{
	static const char binary[] = "binary"; /* no more than what is done anyway; noVNC and others insist on it */
	if (!upgrade->protocols.at)
		return NULL;
	if (!options->no_half_close && offers_has_protocol(upgrade, WS_HALF_CLOSE_PROTOCOL))
		return WS_HALF_CLOSE_PROTOCOL;
	for (uint32_t i = 0; i < options->subprotocols.count; i++)
		if (offers_has_protocol(upgrade, options->subprotocols.at[i]))
			return options->subprotocols.at[i];
	return options->subprotocols.count == 0 && offers_has_protocol(upgrade, binary) ? binary : NULL;
}
