/* Conditions: what must hold of a connection for a rule to be taken.
 *
 * To add one: a line in `kinds`, with a function that reads its value and one that says whether it holds. */
#include "parts.h"

#include <stdio.h>
#include <string.h>

struct condition {
	const struct condition_kind *kind;
	const struct cp_cidr *blocks; /* from */
	uint32_t block_count;
};

struct condition_kind {
	const char *name;
	/** Read the value. @return false after errors were reported. NULL: known, but not available yet */
	bool (*read)(struct reading *reading, const struct cp_settings *value, struct condition *condition);
	/** Explains itself if somebody listens. */
	bool (*holds)(const struct condition *condition, struct cp_request *request);
};

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
	bool list = cp_settings_kind(value) == CP_SETTINGS_ARRAY;
	size_t count = list ? cp_settings_count(value) : 1;
	if (count == 0)
		return table_reading_error(reading, value, "expected at least one block of addresses, found an empty list");
	struct cp_cidr *blocks = cp_arena_alloc(reading->arena, count * sizeof(*blocks));
	bool good = true;
	for (size_t i = 0; i < count; i++)
		good &= read_block(reading, list ? cp_settings_at(value, i) : value, &blocks[i]);
	condition->blocks = blocks;
	condition->block_count = (uint32_t)count;
	return good;
}

static void from_explain(const struct condition *condition, const struct cp_cidr *found, struct cp_request *request)
{
	char peer[CP_PEER_TEXT], ip[CP_IP_TEXT];
	const struct cp_cidr *block = found ? found : &condition->blocks[0];
	cp_peer_print(cp_request_peer(request), peer, sizeof(peer));
	cp_ip_print(&block->ip, ip, sizeof(ip));
	if (found || condition->block_count == 1)
		cp_request_explain(request, "  from: %s is %sin %s/%u", peer, found ? "" : "not ", ip, block->prefix);
	else
		cp_request_explain(request, "  from: %s is in none of %u blocks", peer, condition->block_count);
}

static bool from_holds(const struct condition *condition, struct cp_request *request)
{
	const struct cp_ip *ip = &cp_request_peer(request)->ip;
	const struct cp_cidr *found = NULL;
	for (uint32_t i = 0; ip->family && i < condition->block_count && !found; i++) {
		if (cp_cidr_has(&condition->blocks[i], ip))
			found = &condition->blocks[i];
	}
	if (cp_request_explaining(request))
		from_explain(condition, found, request);
	return found;
}

/* ---- All of them
 * ----------------------------------------------------------------------------------------- */

static const struct condition_kind kinds[] = {
	{"from", from_read, from_holds}, {"sni", NULL, NULL},  {"alpn", NULL, NULL},
	{"proto", NULL, NULL},           {"host", NULL, NULL}, {"path", NULL, NULL},
};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

/** Read one condition. Conditions that are not available are errors, but no reason to go on complaining. */
static bool read_one(struct reading *reading, const struct cp_settings *value, const struct condition_kind *kind,
					 struct condition *condition)
{
	*condition = (struct condition){.kind = kind};
	if (kind->read)
		return kind->read(reading, value, condition);
	return table_reading_error(reading, value, "the condition \"%s\" is not available yet; \"from\" is", kind->name);
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
	for (size_t i = 0; i < KINDS; i++) {
		const struct cp_settings *value = cp_settings_get(when, kinds[i].name);
		if (value)
			good &= read_one(reading, value, &kinds[i], &conditions[rule->condition_count++]);
	}
	if (rule->condition_count < cp_settings_count(when))
		reading->errors++; /* those that nobody asked for: reported here */
	cp_settings_finish(when);
	rule->conditions = conditions;
	return good;
}

bool table_condition_hold(const struct rule *rule, uint32_t number, struct cp_request *request)
{
	bool hold = true;
	for (uint32_t i = 0; hold && i < rule->condition_count; i++)
		hold = rule->conditions[i].kind->holds(&rule->conditions[i], request);
	cp_request_explain(request, "  rule %u %s", number, hold ? "is taken" : "does not hold");
	return hold;
}
