/* Conditions: what must hold of a connection for a rule to be taken.
 *
 * To add one: a line in `kinds`, with functions that read its value, say whether it holds, and explain why. */
#include "parts.h"

#include <stdio.h>
#include <string.h>

struct condition {
	const struct condition_kind *kind;
	union {
		const struct cp_cidr *blocks;
		const struct match *matches;
	} as;
	uint32_t count;
};

struct condition_kind {
	const char *name;
	bool (*read)(struct reading *reading, const struct cp_settings *value, struct condition *condition);
	bool (*holds)(const struct condition *condition, struct cp_request *request);
	void (*explain)(const struct condition *condition, struct cp_request *request);
	enum fact fact; /* has to be settled first; FACT_COUNT: none */
	enum match_kind match;
};

/* ---- Values: one, or a list of which any may hold ----------------------------------------------------------- */

static size_t count_members(const struct cp_settings *value)
{
	return cp_settings_kind(value) == CP_SETTINGS_ARRAY ? cp_settings_count(value) : 1;
}

static const struct cp_settings *member(const struct cp_settings *value, size_t index)
{
	return cp_settings_kind(value) == CP_SETTINGS_ARRAY ? cp_settings_at(value, index) : value;
}

/* ---- from: the peer's address ------------------------------------------------------------------------------- */

/** `10.0.0.1/8`: the block that its bits behind the prefix hide. @return false if the text is not of that form */
static bool block_around(const char *text, struct cp_cidr *block)
{
	const char *slash = strchr(text, '/');
	unsigned prefix;
	int end = 0;
	if (!slash || !cp_ip_parse(text, (size_t)(slash - text), &block->ip) || sscanf(slash, "/%3u%n", &prefix, &end) != 1)
		return false;
	unsigned bits = block->ip.family == 4 ? 32 : 128;
	if (slash[end] || prefix > bits)
		return false;
	block->prefix = (uint8_t)prefix;
	for (unsigned i = prefix; i < bits; i++)
		block->ip.bytes[i / 8] &= (uint8_t) ~(0x80u >> i % 8);
	return true;
}

static bool report_block(struct reading *reading, const struct cp_settings *value, const char *text)
{
	struct cp_cidr block;
	char ip[CP_IP_TEXT];
	if (!block_around(text, &block))
		return table_reading_error(reading, value,
								   "expected an IP address or a block of them, as \"10.0.0.0/8\" or "
								   "\"2001:db8::/32\", found \"%s\"",
								   text);
	cp_ip_print(&block.ip, ip, sizeof(ip));
	return table_reading_error(reading, value,
							   "expected a block of addresses whose bits behind the prefix are zero, found \"%s\", did "
							   "you mean \"%s/%u\"?",
							   text, ip, block.prefix);
}

static bool read_block(struct reading *reading, const struct cp_settings *value, struct cp_cidr *block)
{
	const char *text;
	size_t length;
	if (cp_settings_kind(value) != CP_SETTINGS_STRING)
		return table_reading_unexpected(reading, value, "an address or a block of addresses, as \"10.0.0.0/8\"");
	if (!cp_settings_string(value, &text, &length)) {
		reading->errors++;
		return false;
	}
	if (cp_cidr_parse(text, length, block))
		return true;
	return report_block(reading, value, text);
}

static bool from_read(struct reading *reading, const struct cp_settings *value, struct condition *condition)
{
	size_t count = count_members(value);
	if (count == 0)
		return table_reading_error(reading, value, "expected at least one block of addresses, found an empty list");
	struct cp_cidr *blocks = cp_arena_alloc(reading->arena, count * sizeof(*blocks));
	bool good = true;
	for (size_t i = 0; i < count; i++)
		good &= read_block(reading, member(value, i), &blocks[i]);
	condition->as.blocks = blocks;
	condition->count = (uint32_t)count;
	return good;
}

/** The block that has the peer, or NULL. */
static const struct cp_cidr *from_find(const struct condition *condition, struct cp_request *request)
{
	const struct cp_ip *ip = &cp_request_peer(request)->ip;
	for (uint32_t i = 0; ip->family && i < condition->count; i++)
		if (cp_cidr_has(&condition->as.blocks[i], ip))
			return &condition->as.blocks[i];
	return NULL;
}

static bool from_holds(const struct condition *condition, struct cp_request *request)
{
	return from_find(condition, request);
}

static void from_explain(const struct condition *condition, struct cp_request *request)
{
	char peer[CP_PEER_TEXT], ip[CP_IP_TEXT];
	const struct cp_cidr *found = from_find(condition, request);
	const struct cp_cidr *block = found ? found : &condition->as.blocks[0];
	cp_peer_print(cp_request_peer(request), peer, sizeof(peer));
	cp_ip_print(&block->ip, ip, sizeof(ip));
	if (found || condition->count == 1)
		cp_request_explain(request, "  from: %s is %sin %s/%u", peer, found ? "" : "not ", ip, block->prefix);
	else
		cp_request_explain(request, "  from: %s is in none of %u blocks", peer, condition->count);
}

/* ---- Facts of the first bytes ------------------------------------------------------------------------------- */

static bool fact_read(struct reading *reading, const struct cp_settings *value, struct condition *condition)
{
	const struct condition_kind *kind = condition->kind;
	size_t count = count_members(value);
	if (count == 0)
		return table_reading_error(reading, value, "expected at least one string, found an empty list");
	struct match *matches = cp_arena_alloc(reading->arena, count * sizeof(*matches));
	bool good = true;
	for (size_t i = 0; i < count; i++)
		good &= table_match_read(reading, member(value, i), kind->match, &matches[i]);
	condition->as.matches = matches;
	condition->count = (uint32_t)count;
	if (kind->fact != FACT_PROTO) /* each of its words says what it wants */
		table_sniff_want(reading, kind->fact);
	return good;
}

/** The text of the fact, or NULL. */
static const struct cp_value *fact_value(const struct condition *condition, const struct cp_request *request)
{
	const struct cp_value *value = cp_request_fact(request, condition->kind->name);
	return value && value->kind == CP_STRING ? value : NULL;
}

/** The pattern that the fact matches, or NULL. */
static const struct match *fact_find(const struct condition *condition, const struct cp_request *request)
{
	const struct cp_value *value = fact_value(condition, request);
	for (uint32_t i = 0; value && i < condition->count; i++)
		if (table_match_is(&condition->as.matches[i], condition->kind->match, value->as.s, value->length))
			return &condition->as.matches[i];
	return NULL;
}

static bool fact_holds(const struct condition *condition, struct cp_request *request)
{
	return fact_find(condition, request);
}

static const char *all_patterns(const struct condition *condition, struct cp_arena *arena)
{
	enum { SHOWN = 8 };
	const char *text = "";
	for (uint32_t i = 0; i < condition->count && i < SHOWN; i++)
		text = cp_arena_printf(arena, "%s%s\"%s\"", text, i ? ", " : "", condition->as.matches[i].text);
	return condition->count > SHOWN ? cp_arena_printf(arena, "%s, …", text) : text;
}

static void fact_explain(const struct condition *condition, struct cp_request *request)
{
	struct cp_arena *arena = cp_request_arena(request);
	const struct cp_value *value = fact_value(condition, request);
	const struct match *found = fact_find(condition, request);
	const char *name = condition->kind->name;
	size_t length;
	cp_request_peek(request, &length, NULL);
	if (!value) {
		cp_request_explain(request, "  %s: not known%s", name, length ? "" : ": there are no bytes of the client");
		return;
	}
	const char *text = table_match_escape(arena, value->as.s, value->length);
	if (found)
		cp_request_explain(request, "  %s: \"%s\" matches \"%s\"", name, text, found->text);
	else
		cp_request_explain(request, "  %s: \"%s\" does not match %s%s", name, text,
						   condition->count > 1 ? "any of " : "", all_patterns(condition, arena));
}

/* ---- All of them -------------------------------------------------------------------------------------------- */

#define FACT(name, fact, match)                                \
	{                                                          \
		name, fact_read, fact_holds, fact_explain, fact, match \
	}

/** In the order in which they are looked at: what costs no waiting first. */
static const struct condition_kind kinds[] = {
	{"from", from_read, from_holds, from_explain, FACT_COUNT, 0},
	FACT("proto", FACT_PROTO, MATCH_PROTO),
	FACT("sni", FACT_SNI, MATCH_NAME),
	FACT("alpn", FACT_ALPN, MATCH_LIST),
	FACT("host", FACT_HOST, MATCH_HOST),
	FACT("path", FACT_PATH, MATCH_PATH),
	FACT("method", FACT_METHOD, MATCH_METHOD),
};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

/** What TLS says and what HTTP says come from two layers: the first bytes are one or the other. */
static void check_together(struct reading *reading, const struct cp_settings *when, const struct rule *rule)
{
	unsigned facts = 0;
	for (uint32_t i = 0; i < rule->condition_count; i++)
		facts |= 1u << rule->conditions[i].kind->fact;
	bool tls = facts & (1u << FACT_SNI | 1u << FACT_ALPN);
	bool http = facts & (1u << FACT_HOST | 1u << FACT_PATH | 1u << FACT_METHOD);
	if (tls && http && reading->table->bind && reading->key && !table_keys_has_layers(reading->key))
		table_reading_warn(reading, when,
						   "this never holds: what is inside TLS (host, path, method) can be seen beside sni and alpn "
						   "only where the key takes TLS off");
}

bool table_condition_read(struct reading *reading, const struct cp_settings *when, struct rule *rule)
{
	if (cp_settings_kind(when) != CP_SETTINGS_TABLE)
		return table_reading_unexpected(reading, when, "a table of conditions, as { from = \"10.0.0.0/8\" }");
	if (cp_settings_count(when) == 0)
		return table_reading_error(
			reading, when,
			"expected at least one condition, found an empty table; without `when` a route always holds");
	struct condition *conditions = cp_arena_alloc(reading->arena, KINDS * sizeof(*conditions));
	bool good = true;
	rule->conditions = conditions;
	for (size_t i = 0; i < KINDS; i++) {
		const struct cp_settings *value = cp_settings_get(when, kinds[i].name);
		struct condition *condition = &conditions[rule->condition_count];
		if (!value)
			continue;
		*condition = (struct condition){.kind = &kinds[i]};
		good &= kinds[i].read(reading, value, condition);
		rule->condition_count++;
	}
	if (rule->condition_count < cp_settings_count(when))
		reading->errors++; /* those that nobody asked for: reported here */
	cp_settings_finish(when);
	if (good)
		check_together(reading, when, rule);
	return good;
}

static bool is_settled(const struct condition *condition, const struct cp_sniff *sniff,
					   const struct cp_request *request)
{
	return condition->kind->fact == FACT_COUNT || table_sniff_settled(request, sniff, condition->kind->fact);
}

enum holding table_condition_hold(const struct rule *rule, const struct cp_sniff *sniff, struct cp_request *request)
{
	for (uint32_t i = 0; i < rule->condition_count; i++) {
		const struct condition *condition = &rule->conditions[i];
		if (!is_settled(condition, sniff, request))
			return HOLDS_OPEN;
		if (!condition->kind->holds(condition, request))
			return HOLDS_NOT;
	}
	for (enum fact fact = 0; rule->facts >> fact; fact++)
		if (rule->facts >> fact & 1 && !table_sniff_settled(request, sniff, fact))
			return HOLDS_OPEN;
	return HOLDS;
}

void table_condition_explain(const struct rule *rule, const struct cp_sniff *sniff, struct cp_request *request)
{
	for (uint32_t i = 0; i < rule->condition_count; i++) {
		const struct condition *condition = &rule->conditions[i];
		if (is_settled(condition, sniff, request))
			condition->kind->explain(condition, request);
		else
			cp_request_explain(request, "  %s: not looked at", condition->kind->name);
	}
}
