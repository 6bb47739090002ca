/* The keys of [connpipe.ws] and of the tables of its addresses. What a key says replaces what is inherited, as a whole.
 */
#include "grammar.h"
#include "settings.h"

#include <stdio.h>
#include <string.h>

enum {
	HEADERS_MOST = 4096, /* bytes of all lines: answers and requests have other lines, too */
	LOGIN_MOST = 1024,   /* of user and password */
};

static struct ws_text text_of(const char *text)
{
	return grammar_text(text, strlen(text));
}

/** A string without zero bytes. @return NULL after an error */
static const char *read_text(const struct cp_settings *value)
{
	const char *text;
	return cp_settings_want(value, CP_SETTINGS_STRING) && cp_settings_string(value, &text, NULL) ? text : NULL;
}

static const char *lower(struct cp_arena *arena, const char *text, size_t length)
{
	char *copy = cp_arena_strndup(arena, text, length);
	for (char *at = copy; *at; at++)
		if (*at >= 'A' && *at <= 'Z')
			*at = (char)(*at - 'A' + 'a');
	return copy;
}

/* ---- Lists -------------------------------------------------------------------------------------------------- */

/** One text of a list, in the form that options have it. @return NULL after an error */
typedef const char *read_one(const struct settings_reading *reading, const struct cp_settings *value, const char *text);

static bool has_text(const char *const *texts, uint32_t count, const char *text)
{
	for (uint32_t i = 0; i < count; i++)
		if (strcmp(texts[i], text) == 0)
			return true;
	return false;
}

static void read_texts(const struct settings_reading *reading, const struct cp_settings *value, read_one *one,
					   struct ws_texts *out)
{
	if (!cp_settings_want(value, CP_SETTINGS_ARRAY))
		return;
	size_t count = cp_settings_count(value);
	const char **texts = cp_arena_alloc(reading->arena, (count + 1) * sizeof(*texts));
	*out = (struct ws_texts){texts, 0};
	for (size_t i = 0; i < count; i++) {
		const struct cp_settings *member = cp_settings_at(value, i);
		const char *text = read_text(member), *good = text ? one(reading, member, text) : NULL;
		if (good && has_text(texts, out->count, good))
			cp_settings_error(member, "\"%s\" is in the list twice", text);
		else if (good)
			texts[out->count++] = good;
	}
}

/** Behind "*.", which stands for any name, if that is allowed. */
static struct ws_text without_star(struct ws_text host)
{
	bool star = host.length > 2 && host.at[0] == '*' && host.at[1] == '.' && host.at[2] != '[';
	return star ? grammar_from(host, host.at + 2) : host;
}

/** scheme "://" ["*."] host [":" port]. @param port  at NULL: there is none */
static bool split_origin(struct ws_text text, struct ws_text *scheme, struct ws_text *host, struct ws_text *port)
{
	const char *end = memmem(text.at, text.length, "://", 3);
	if (!end || end == text.at)
		return false;
	*scheme = grammar_up_to(text, end);
	*host = grammar_from(text, end + 3);
	return grammar_is_token(*scheme) && grammar_authority(without_star(*host), host, port);
}

/** Browsers leave out the port that a scheme has (RFC 6454, 6.1). */
static bool is_default_port(struct ws_text scheme, struct ws_text port)
{
	return (grammar_is_word(scheme, "http") && grammar_is(port, "80")) ||
		   (grammar_is_word(scheme, "https") && grammar_is(port, "443"));
}

static const char *read_allowed_origin(const struct settings_reading *reading, const struct cp_settings *value,
									   const char *text)
{
	struct ws_text scheme, host, port;
	if (strcmp(text, "null") == 0)
		return "null";
	if (!split_origin(text_of(text), &scheme, &host, &port)) {
		cp_settings_error(value,
						  "expected an origin such as \"https://example.org\", \"https://*.example.org:8443\" or "
						  "\"null\", found \"%s\"",
						  text);
		return NULL;
	}
	size_t length =
		port.at && (port.length == 0 || is_default_port(scheme, port)) ? (size_t)(port.at - 1 - text) : strlen(text);
	return lower(reading->arena, text, length);
}

static const char *read_served_host(const struct settings_reading *reading, const struct cp_settings *value,
									const char *text)
{
	if (grammar_is_host(without_star(text_of(text))))
		return lower(reading->arena, text, strlen(text));
	cp_settings_error(value,
					  "expected a host without a port such as \"example.org\", \"*.example.org\", \"192.0.2.1\" or "
					  "\"[2001:db8::1]\", found \"%s\"",
					  text);
	return NULL;
}

static const char *read_subprotocol(const struct settings_reading *reading, const struct cp_settings *value,
									const char *text)
{
	if (strcmp(text, WS_HALF_CLOSE_PROTOCOL) == 0) {
		cp_settings_error(value, "\"%s\" is not listed here: it is there unless half_close = false", text);
		return NULL;
	}
	if (grammar_is_token(text_of(text)))
		return cp_arena_strdup(reading->arena, text);
	cp_settings_error(value,
					  "expected the name of a subprotocol such as \"chat\" (letters, digits and !#$%%&'*+-.^_`|~), "
					  "found \"%s\"",
					  text);
	return NULL;
}

/** Facts that mean something else than what a client writes into a field. */
static bool is_other_fact(const char *name)
{
	static const char *const others[] = {"alpn",  "forwarded_for", "host", "method",      "origin",    "path",
										 "proto", "query",         "sni",  "subprotocol", "user_agent"};
	return has_text(others, sizeof(others) / sizeof(others[0]), name) || strncmp(name, "tls_", 4) == 0 ||
		   strncmp(name, "proxy_", 6) == 0;
}

static const char *read_fact(const struct settings_reading *reading, const struct cp_settings *value, const char *text)
{
	const char *name = lower(reading->arena, text, strlen(text));
	if (!grammar_is_token(text_of(text)))
		cp_settings_error(value, "expected the name of a field such as \"cookie\", found \"%s\"", text);
	else if (is_other_fact(name))
		cp_settings_error(value, "\"%s\" is not to be set: there is a fact of that name", text);
	else
		return name;
	return NULL;
}

static void read_origins(const struct settings_reading *reading, const struct cp_settings *value,
						 struct ws_options *options)
{
	read_texts(reading, value, read_allowed_origin, &options->origins);
}

static void read_hosts(const struct settings_reading *reading, const struct cp_settings *value,
					   struct ws_options *options)
{
	read_texts(reading, value, read_served_host, &options->hosts);
}

static void read_subprotocols(const struct settings_reading *reading, const struct cp_settings *value,
							  struct ws_options *options)
{
	read_texts(reading, value, read_subprotocol, &options->subprotocols);
}

static void read_facts(const struct settings_reading *reading, const struct cp_settings *value,
					   struct ws_options *options)
{
	read_texts(reading, value, read_fact, &options->facts);
}

/** Blocks, in a list of their own. */
static void read_trusted(const struct settings_reading *reading, const struct cp_settings *value,
						 struct ws_options *options)
{
	if (!cp_settings_want(value, CP_SETTINGS_ARRAY))
		return;
	size_t count = cp_settings_count(value);
	struct cp_cidr *blocks = cp_arena_alloc(reading->arena, (count + 1) * sizeof(*blocks));
	options->trusted = blocks;
	options->trusted_count = 0;
	for (size_t i = 0; i < count; i++) {
		const char *text = read_text(cp_settings_at(value, i));
		if (text && cp_cidr_parse(text, strlen(text), &blocks[options->trusted_count]))
			options->trusted_count++;
		else if (text)
			cp_settings_error(cp_settings_at(value, i),
							  "expected a block of IP addresses such as \"10.0.0.0/8\" (with zeros behind the prefix) "
							  "or an IP address, found \"%s\"",
							  text);
	}
}

/* ---- Extra fields ------------------------------------------------------------------------------------------- */

/** Fields that the handshake itself sets, or that would change what it means. */
static bool is_own_field(struct ws_text name)
{
	static const char *const own[] = {"connection", "upgrade",           "host",
									  "origin",     "content-length",    "date",
									  "trailer",    "transfer-encoding", "proxy-authorization"};
	static const char prefix[] = "sec-websocket-";
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		if (grammar_is_word(name, own[i]))
			return true;
	return name.length >= sizeof(prefix) - 1 && grammar_is_word(grammar_text(name.at, sizeof(prefix) - 1), prefix);
}

static bool check_field_name(const struct cp_settings *value)
{
	struct ws_text name = text_of(cp_settings_key(value));
	if (!grammar_is_token(name))
		cp_settings_error_key(value, 0, "expected the name of a field such as \"X-Via\", found \"%s\"", name.at);
	else if (is_own_field(name))
		cp_settings_error_key(value, 0, "\"%s\" is not to be set: the handshake has its own", name.at);
	else
		return true;
	return false;
}

/** Lines of fields that become one text. */
struct lines {
	char text[HEADERS_MOST + 1];
	size_t length; /* what it would be, with enough room */
};

static void add_line(struct lines *lines, const struct cp_settings *name, const struct cp_settings *value)
{
	const char *text = read_text(value);
	if (!text)
		return;
	if (!grammar_is_value(text_of(text))) {
		cp_settings_error(value, "a field has no control characters, such as the end of a line");
		return;
	}
	size_t at = lines->length < HEADERS_MOST ? lines->length : HEADERS_MOST;
	lines->length +=
		(size_t)snprintf(lines->text + at, sizeof(lines->text) - at, "%s: %s\r\n", cp_settings_key(name), text);
}

/** One field with a value, or with a list of values: a line for each. */
static void add_field(struct lines *lines, const struct cp_settings *value)
{
	if (!check_field_name(value))
		return;
	if (cp_settings_kind(value) != CP_SETTINGS_ARRAY) {
		add_line(lines, value, value);
		return;
	}
	for (size_t i = 0; i < cp_settings_count(value); i++)
		add_line(lines, value, cp_settings_at(value, i));
}

static void read_headers(const struct settings_reading *reading, const struct cp_settings *value,
						 struct ws_options *options)
{
	struct lines lines = {.length = 0};
	if (!cp_settings_want(value, CP_SETTINGS_TABLE))
		return;
	for (size_t i = 0; i < cp_settings_count(value); i++)
		add_field(&lines, cp_settings_at(value, i));
	if (lines.length > HEADERS_MOST)
		cp_settings_error(value, "expected at most %d bytes of fields, found %zu", HEADERS_MOST, lines.length);
	else
		options->headers = lines.length ? cp_arena_strndup(reading->arena, lines.text, lines.length) : NULL;
}

static void read_host(const struct settings_reading *reading, const struct cp_settings *value,
					  struct ws_options *options)
{
	struct ws_text host, port;
	const char *text = read_text(value);
	if (!text)
		return;
	if (text[0] && !grammar_authority(text_of(text), &host, &port))
		cp_settings_error(value,
						  "expected a host such as \"example.org\" or \"[2001:db8::1]:8080\", or \"\" for that of the "
						  "address, found \"%s\"",
						  text);
	else
		options->host = text[0] ? cp_arena_strdup(reading->arena, text) : NULL;
}

static void read_origin(const struct settings_reading *reading, const struct cp_settings *value,
						struct ws_options *options)
{
	struct ws_text scheme, host, port;
	const char *text = read_text(value);
	if (!text)
		return;
	bool good = !text[0] || strcmp(text, "null") == 0 ||
				(!strchr(text, '*') && split_origin(text_of(text), &scheme, &host, &port));
	if (good)
		options->origin = text[0] ? cp_arena_strdup(reading->arena, text) : NULL;
	else
		cp_settings_error(
			value, "expected an origin such as \"https://example.org\", \"null\", or \"\" for none, found \"%s\"",
			text);
}

/* ---- Proxies ------------------------------------------------------------------------------------------------ */

/** The address that a URI stands for: "http://host:port" is tcp:host:port, "https://" goes through TLS.
 * @return NULL: it is no such URI */
static const char *address_of_uri(struct cp_arena *arena, const char *text)
{
	static const struct {
		const char *scheme, *connector, *port;
	} schemes[] = {{"http", "tcp", "80"}, {"https", "tls+tcp", "443"}};
	struct ws_text uri = text_of(text), scheme, host, port;
	if (uri.length > 0 && uri.at[uri.length - 1] == '/')
		uri.length--;
	if (memchr(uri.at, '*', uri.length) || !split_origin(uri, &scheme, &host, &port))
		return NULL;
	for (size_t i = 0; i < 2; i++)
		if (grammar_is_word(scheme, schemes[i].scheme))
			return cp_arena_printf(arena, "%s:%.*s:%.*s", schemes[i].connector, (int)host.length, host.at,
								   port.length ? (int)port.length : (int)strlen(schemes[i].port),
								   port.length ? port.at : schemes[i].port);
	return NULL;
}

/** What speaks against an address as a proxy's. A websocket would be connected to through its own proxy. */
static const char *find_fault(const struct cp_address *address)
{
	bool messages, any;
	struct cp_error error;
	for (uint32_t i = 0; i < address->layer_count; i++)
		if (address->layers[i].converter->def == &ws_converter)
			return "a websocket is none";
	if (address->connector->def == &ws_connector)
		return "a websocket is none";
	if (!address->connector->def->connect)
		return "its connector cannot connect";
	return cp_address_carries(address, &messages, &any, &error) == CP_OK && !messages ? NULL : "it carries messages";
}

size_t settings_error_offset(const struct cp_error *error)
{
	size_t column;
	return sscanf(error->where, "column %zu of", &column) == 1 && column > 0 ? column - 1 : 0;
}

static void read_proxy(const struct settings_reading *reading, const struct cp_settings *value,
					   struct ws_options *options)
{
	const char *text = read_text(value);
	const struct cp_address *address = NULL;
	struct cp_error error;
	if (!text)
		return;
	options->proxy = NULL;
	if (strcmp(text, "off") == 0)
		return;
	const char *uri = address_of_uri(reading->arena, text), *read = uri ? uri : text;
	if (!uri && strstr(text, "://"))
		cp_settings_error(value,
						  "expected an HTTP proxy such as \"http://proxy.local:3128\" or \"tcp:proxy.local:3128\" (for "
						  "a user there are proxy_user and proxy_password), or \"off\", found \"%s\"",
						  text);
	else if (cp_address_parse(cp_system_scope(reading->core), reading->arena, read, strlen(read), 0, &address, &error))
		cp_settings_error_at(value, uri ? 0 : settings_error_offset(&error), "%s", error.message);
	else if (find_fault(address))
		cp_settings_error(value, "expected the address of an HTTP proxy: %s", find_fault(address));
	else
		options->proxy = address;
}

/** RFC 4648, 4. */
static const char *base64(struct cp_arena *arena, const char *bytes, size_t length)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char *text = cp_arena_alloc(arena, (length + 2) / 3 * 4 + 1), *out = text;
	for (size_t i = 0; i < length; i += 3) {
		uint32_t group = 0;
		for (size_t k = i; k < i + 3; k++)
			group = group << 8 | (k < length ? (unsigned char)bytes[k] : 0);
		for (int k = 0; k < 4; k++)
			*out++ = i + (size_t)k <= length ? digits[group >> (18 - 6 * k) & 63] : '=';
	}
	*out = '\0';
	return text;
}

/** One part of a login (RFC 7617, 2). @return false after an error */
static bool read_login_part(const struct cp_settings *value, const char **text)
{
	*text = value ? read_text(value) : "";
	if (!*text)
		return false;
	if (grammar_is_value(text_of(*text)) && strlen(*text) <= LOGIN_MOST)
		return true;
	cp_settings_error(value, "expected at most %d bytes without control characters", LOGIN_MOST);
	return false;
}

static void read_login(const struct settings_reading *reading, const struct cp_settings *user,
					   const struct cp_settings *password, struct ws_options *options)
{
	const char *name, *secret;
	if (!user) {
		cp_settings_error(password, "a password needs a `proxy_user` beside it");
		return;
	}
	if (!read_login_part(user, &name) || !read_login_part(password, &secret))
		return;
	if (strchr(name, ':')) {
		cp_settings_error_at(user, (size_t)(strchr(name, ':') - name), "a user has no \":\" in it");
		return;
	}
	const char *both = cp_arena_printf(reading->arena, "%s:%s", name, secret);
	options->proxy_authorization =
		name[0] ? cp_arena_printf(reading->arena, "Basic %s", base64(reading->arena, both, strlen(both))) : NULL;
}

/** Of the three keys, those in one table belong together. */
static void read_authorization(const struct settings_reading *reading, const struct cp_settings *table,
							   struct ws_options *options)
{
	const struct cp_settings *user = cp_settings_get(table, "proxy_user");
	const struct cp_settings *password = cp_settings_get(table, "proxy_password");
	const struct cp_settings *whole = cp_settings_get(table, "proxy_authorization");
	const char *text = whole ? read_text(whole) : NULL;
	if (whole && (user || password))
		cp_settings_error_key(whole, 0, "either `proxy_authorization`, or `proxy_user` and `proxy_password`");
	else if (user || password)
		read_login(reading, user, password, options);
	else if (text && grammar_is_value(text_of(text)) && strlen(text) <= 2 * LOGIN_MOST)
		options->proxy_authorization = text[0] ? cp_arena_strdup(reading->arena, text) : NULL;
	else if (text)
		cp_settings_error(whole, "expected at most %d bytes without control characters", 2 * LOGIN_MOST);
}

/* ---- Times and sizes ---------------------------------------------------------------------------------------- */

static void read_half_close(const struct settings_reading *reading, const struct cp_settings *value,
							struct ws_options *options)
{
	bool truth;
	(void)reading;
	if (cp_settings_bool(value, &truth))
		options->no_half_close = !truth;
}

static void read_deflate(const struct settings_reading *reading, const struct cp_settings *value,
						 struct ws_options *options)
{
	(void)reading;
	cp_settings_bool(value, &options->deflate);
}

static void read_ping(const struct settings_reading *reading, const struct cp_settings *value,
					  struct ws_options *options)
{
	const char *text;
	(void)reading;
	bool off = cp_settings_kind(value) == CP_SETTINGS_STRING && cp_settings_string(value, &text, NULL) &&
			   strcmp(text, "off") == 0;
	if (off)
		options->ping_ms = 0;
	else
		cp_settings_duration(value, &options->ping_ms);
}

static void read_pong_timeout(const struct settings_reading *reading, const struct cp_settings *value,
							  struct ws_options *options)
{
	uint64_t milliseconds;
	(void)reading;
	if (!cp_settings_duration(value, &milliseconds))
		return;
	if (milliseconds == 0)
		cp_settings_error(value, "expected a duration from \"1ms\" on: without pings nothing is waited for (ping = "
								 "\"off\")");
	else
		options->pong_ms = milliseconds;
}

static void read_message_limit(const struct settings_reading *reading, const struct cp_settings *value,
							   struct ws_options *options)
{
	(void)reading;
	cp_settings_size(value, &options->message_most);
}

/* ---- All of them -------------------------------------------------------------------------------------------- */

static const struct key {
	const char *name;
	void (*read)(const struct settings_reading *reading, const struct cp_settings *value, struct ws_options *options);
} keys[] = {
	{"origins", read_origins},
	{"hosts", read_hosts},
	{"subprotocols", read_subprotocols},
	{"facts", read_facts},
	{"trusted", read_trusted},
	{"headers", read_headers},
	{"host", read_host},
	{"origin", read_origin},
	{"proxy", read_proxy},
	{"half_close", read_half_close},
	{"deflate", read_deflate},
	{"ping", read_ping},
	{"pong_timeout", read_pong_timeout},
	{"message_limit", read_message_limit},
};

void settings_read_options(const struct settings_reading *reading, const struct cp_settings *table,
						   struct ws_options *options)
{
	for (const struct key *key = keys; key < keys + sizeof(keys) / sizeof(keys[0]); key++) {
		const struct cp_settings *value = cp_settings_get(table, key->name);
		if (value)
			key->read(reading, value, options);
	}
	read_authorization(reading, table, options);
}
