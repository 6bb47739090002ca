/* Lists of offers: subprotocols and extensions. See offers.h. */
#include "offers.h"

#include "grammar.h"

#include <string.h>

enum {
	PROTOCOLS_MOST = 64, /* each is compared with those before it */
	EXTENSIONS_MOST = 64,
	DEFLATE_MOST = 200, /* libwebsockets reads 255 bytes */
	WINDOW_LEAST = 8,
	WINDOW_MOST = 15,
};

/* ---- Lists ------------------------------------------------------------------------------------------------- */

/** A list that may stand in several lines. */
struct offers {
	const struct ws_upgrade *upgrade;
	const char *field;
	struct ws_text line, rest;
};

static struct offers offers_of(const struct ws_upgrade *upgrade, const char *field)
{
	struct offers offers = {.upgrade = upgrade, .field = field};
	offers.line = ws_upgrade_field(upgrade, field, NULL);
	offers.rest = offers.line;
	return offers;
}

static bool next_offer(struct offers *offers, struct ws_text *offer)
{
	while (offers->line.at) {
		if (grammar_next(&offers->rest, offer))
			return true;
		offers->line = ws_upgrade_field(offers->upgrade, offers->field, &offers->line);
		offers->rest = offers->line;
	}
	return false;
}

/* ---- Subprotocols ------------------------------------------------------------------------------------------- */

static const char protocol_field[] = "Sec-WebSocket-Protocol";

const char *offers_check_protocols(const struct ws_upgrade *upgrade)
{
	struct ws_text seen[PROTOCOLS_MOST], offer;
	unsigned count = 0;
	struct offers offers = offers_of(upgrade, protocol_field);
	if (!offers.line.at)
		return NULL;
	for (; next_offer(&offers, &offer); seen[count++] = offer) {
		if (!grammar_is_token(offer))
			return "a name in Sec-WebSocket-Protocol that is no token";
		if (count == PROTOCOLS_MOST)
			return "more than 64 names in Sec-WebSocket-Protocol";
		for (unsigned i = 0; i < count; i++)
			if (grammar_same(seen[i], offer))
				return "a name in Sec-WebSocket-Protocol twice";
	}
	return count > 0 ? NULL : "an empty Sec-WebSocket-Protocol";
}

bool offers_has_protocol(const struct ws_upgrade *upgrade, const char *name)
{
	struct offers offers = offers_of(upgrade, protocol_field);
	struct ws_text offer;
	while (next_offer(&offers, &offer))
		if (grammar_is(offer, name))
			return true;
	return false;
}

/* ---- Parameters of extensions ------------------------------------------------------------------------------- */

/** The parameters of an offer of permessage-deflate (RFC 7692, 7.1), as far as they were there. */
struct deflate {
	bool server_no_context, client_no_context, client_window;
	bool other; /* one that is wrong, given twice, or not for libwebsockets */
};

/** Text in quotes has to be a token when it is taken out of them (RFC 6455, 9.1), so nothing in it needs a backslash.
 * @return the value without quotes; at NULL: it is malformed */
static struct ws_text unquoted(struct ws_text value)
{
	const struct ws_text none = {0};
	if (value.length > 1 && value.at[0] == '"' && value.at[value.length - 1] == '"')
		value = grammar_text(value.at + 1, value.length - 2);
	return grammar_is_token(value) ? value : none;
}

static bool once(bool *flag)
{
	bool first = !*flag;
	*flag = true;
	return first;
}

/** RFC 7692, 7.1.2.2: no leading zeros. */
static bool is_window(struct ws_text value)
{
	unsigned bits;
	return value.at[0] != '0' && grammar_number(value, WINDOW_MOST, &bits) && bits >= WINDOW_LEAST;
}

/** @param value  at NULL: it has none */
static void read_deflate(struct deflate *deflate, struct ws_text name, struct ws_text value)
{
	bool good = false;
	if (grammar_is(name, "server_no_context_takeover"))
		good = !value.at && once(&deflate->server_no_context);
	else if (grammar_is(name, "client_no_context_takeover"))
		good = !value.at && once(&deflate->client_no_context);
	else if (grammar_is(name, "client_max_window_bits"))
		good = (!value.at || is_window(value)) && once(&deflate->client_window);
	if (!good)
		deflate->other = true;
}

/** Name and value of one parameter. @return false: malformed */
static bool read_parameter(struct ws_text parameter, struct deflate *deflate)
{
	struct ws_text name, value = {0};
	grammar_take(&parameter, '=', &name);
	if (!grammar_is_token(name))
		return false;
	if (parameter.at) {
		value = unquoted(grammar_trim(parameter));
		if (!value.at)
			return false;
	}
	read_deflate(deflate, name, value);
	return true;
}

/* ---- Extensions --------------------------------------------------------------------------------------------- */

/** Whether libwebsockets 4.1.6 agrees to it and then does what it has agreed to:
 *  - it answers with parameters without a value only, so it cannot agree to server_max_window_bits, which has to be in
 *    the answer; client_max_window_bits need not be;
 *  - on the accepting side it takes server_no_context_takeover for the client's and the other way round. Both together
 *    are right; so is client_no_context_takeover alone: its compressor forgets more than it has to;
 *  - it takes a tab for a comma. */
static bool suits_libwebsockets(struct ws_text offer, const struct deflate *deflate)
{
	return !deflate->other && (!deflate->server_no_context || deflate->client_no_context) &&
		   offer.length <= DEFLATE_MOST && !memchr(offer.at, '\t', offer.length);
}

/** @param suits  whether it is an offer to accept  @return false: malformed */
static bool read_extension(struct ws_text offer, bool *suits)
{
	struct deflate deflate = {0};
	struct ws_text rest = offer, name, parameter;
	grammar_take(&rest, ';', &name);
	if (!grammar_is_token(name))
		return false;
	while (grammar_take(&rest, ';', &parameter))
		if (!read_parameter(parameter, &deflate))
			return false;
	*suits = grammar_is(name, "permessage-deflate") && suits_libwebsockets(offer, &deflate);
	return true;
}

const char *offers_read_extensions(const struct ws_upgrade *upgrade, struct ws_text *deflate)
{
	struct offers offers = offers_of(upgrade, "Sec-WebSocket-Extensions");
	struct ws_text offer;
	unsigned count = 0;
	bool suits, found = false;
	if (!offers.line.at)
		return NULL;
	for (; next_offer(&offers, &offer); count++) {
		if (count == EXTENSIONS_MOST)
			return "more than 64 offers in Sec-WebSocket-Extensions";
		if (!read_extension(offer, &suits))
			return "a malformed Sec-WebSocket-Extensions";
		if (suits && once(&found))
			*deflate = offer;
	}
	return count > 0 ? NULL : "an empty Sec-WebSocket-Extensions";
}
