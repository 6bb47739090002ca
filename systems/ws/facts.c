/* Facts: what a request says about its client, for routers.
 *
 *     host            of the Host field: in lower case, without its port; an IPv6 address in brackets
 *     path, method    of the request, the path without its query, in the one way of writing that addresses have
 *                     (path.c); under sniff.h's names, so that conditions on them do not wait for bytes of what is
 *                     inside the websocket
 *     query           what is behind the "?"; null: none
 *     origin          of the Origin field; null: none, so it is hardly a browser
 *     subprotocol     that was agreed on; null: none
 *     user_agent      of the User-Agent field; null: none
 *     forwarded_for   all of X-Forwarded-For, of a peer that is trusted to say so, which is then who it names; or null
 *
 * and those fields that the settings ask for, by their names. */
#include "open.h"

#include <string.h>

static void set_text(struct cp_request *request, const char *name, struct ws_text text)
{
	bool good = text.at && cp_utf8_valid(text.at, text.length) && !memchr(text.at, '\0', text.length);
	struct cp_value value = good ? cp_string(text.at, text.length) : cp_null();
	cp_request_set_fact(request, name, &value);
}

/** As the address's path, so that what a condition allows is what a template then asks for. */
static void set_path(struct cp_request *request, struct ws_text path)
{
	char *text = cp_arena_alloc(cp_request_arena(request), path.length + 1);
	set_text(request, "path", (struct ws_text){text, ws_path_read(path.at, path.length, text)});
}

/* ---- Host --------------------------------------------------------------------------------------------------- */

/** An IPv6 address in brackets as everybody writes it. @return false: it is none */
static bool print_ipv6(struct ws_text host, char *text, size_t room)
{
	struct cp_ip ip;
	size_t length = host.length;
	if (length < 2 || host.at[0] != '[' || host.at[length - 1] != ']' || !cp_ip_parse(host.at + 1, length - 2, &ip))
		return false;
	ip.zone = 0;
	text[0] = '[';
	length = cp_ip_print(&ip, text + 1, room - 3) + 1;
	text[length++] = ']';
	text[length] = '\0';
	return true;
}

static void set_host(struct cp_request *request, struct ws_text host)
{
	char ip[CP_IP_TEXT + 4];
	if (host.at && print_ipv6(host, ip, sizeof(ip))) {
		set_text(request, "host", (struct ws_text){ip, strlen(ip)});
		return;
	}
	if (host.length > 1 && host.at[host.length - 1] == '.')
		host.length--; /* a name that is complete is the same name */
	char *lower = cp_arena_strndup(cp_request_arena(request), host.at ? host.at : "", host.length);
	for (char *at = lower; *at; at++)
		if (*at >= 'A' && *at <= 'Z')
			*at = (char)(*at - 'A' + 'a');
	set_text(request, "host", (struct ws_text){host.length ? lower : NULL, host.length});
}

/* ---- X-Forwarded-For ---------------------------------------------------------------------------------------- */

static bool is_trusted(const struct ws_options *options, const struct cp_peer *peer)
{
	for (uint32_t i = 0; peer->ip.family && i < options->trusted_count; i++)
		if (cp_cidr_has(&options->trusted[i], &peer->ip))
			return true;
	return false;
}

/** All lines of the field in one, as RFC 9110, 5.3, joins them. */
static struct ws_text join(struct cp_request *request, const struct ws_upgrade *upgrade)
{
	static const char name[] = "x-forwarded-for";
	struct cp_arena *arena = cp_request_arena(request);
	struct ws_text line = ws_upgrade_field(upgrade, name, NULL);
	const char *all = NULL;
	for (; line.at; line = ws_upgrade_field(upgrade, name, &line))
		all = cp_arena_printf(arena, "%s%s%.*s", all ? all : "", all ? ", " : "", (int)line.length, line.at);
	return (struct ws_text){all, all ? strlen(all) : 0};
}

static struct ws_text trim(struct ws_text text)
{
	while (text.length && strchr(" \t\"", text.at[0])) {
		text.at++;
		text.length--;
	}
	while (text.length && strchr(" \t\"", text.at[text.length - 1]))
		text.length--;
	return text;
}

static bool read_port(const char *at, const char *end, uint16_t *port)
{
	unsigned number = 0;
	if (at == end || end - at > 5)
		return false;
	for (; at < end; at++) {
		if (*at < '0' || *at > '9')
			return false;
		number = number * 10 + (unsigned)(*at - '0');
	}
	*port = (uint16_t)number;
	return number <= UINT16_MAX;
}

/** One of the list: an address, in brackets or not; some write a port behind it. */
static bool read_element(struct ws_text text, struct cp_peer *peer)
{
	text = trim(text);
	const char *end = text.at + text.length, *close;
	*peer = (struct cp_peer){.port = 0};
	if (cp_ip_parse(text.at, text.length, &peer->ip))
		return peer->ip.zone == 0;
	bool bracket = text.length && text.at[0] == '[';
	close = text.length ? memchr(text.at, bracket ? ']' : ':', text.length) : NULL;
	if (!close || !cp_ip_parse(text.at + bracket, (size_t)(close - text.at) - bracket, &peer->ip) || peer->ip.zone)
		return false;
	if (bracket && ++close == end)
		return true;
	return *close == ':' && read_port(close + 1, end, &peer->port);
}

/** Who is farthest away of those that somebody trusted has named: from the right, each one that is trusted vouches for
 * what stands before it. */
static bool find_client(const struct ws_options *options, struct ws_text list, struct cp_peer *client)
{
	bool found = false;
	while (list.length) {
		const char *comma = memrchr(list.at, ',', list.length);
		const char *at = comma ? comma + 1 : list.at;
		struct cp_peer peer;
		if (!read_element((struct ws_text){at, list.length - (size_t)(at - list.at)}, &peer))
			break;
		*client = peer;
		found = true;
		if (!is_trusted(options, &peer))
			break;
		list.length = comma ? (size_t)(comma - list.at) : 0;
	}
	return found;
}

static void take_forwarded(struct cp_request *request, const struct ws_upgrade *upgrade,
						   const struct ws_options *options)
{
	struct cp_peer client;
	struct ws_text list = {NULL, 0};
	if (is_trusted(options, cp_request_peer(request)))
		list = join(request, upgrade);
	set_text(request, "forwarded_for", list);
	if (find_client(options, list, &client))
		cp_request_set_peer(request, &client);
}

/* ---- All of them -------------------------------------------------------------------------------------------- */

void ws_facts_add(struct cp_request *request, const struct ws_upgrade *upgrade, const struct ws_options *options,
				  const char *protocol)
{
	set_host(request, upgrade->host);
	set_path(request, upgrade->path);
	set_text(request, "method", upgrade->method);
	set_text(request, "query", upgrade->query);
	set_text(request, "origin", upgrade->origin);
	set_text(request, "user_agent", upgrade->user_agent);
	set_text(request, "subprotocol", (struct ws_text){protocol, protocol ? strlen(protocol) : 0});
	for (uint32_t i = 0; i < options->facts.count; i++)
		set_text(request, options->facts.at[i], ws_upgrade_field(upgrade, options->facts.at[i], NULL));
	take_forwarded(request, upgrade, options);
}
