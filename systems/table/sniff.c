/* What a table wants to know of the first bytes: the patterns and times that its `sniff` says, and for each route one
 * `struct cp_sniff` of all that its rules and templates want, so that the answer is the same whichever rule asks first.
 * Routes that want the same share it. */
#include "parts.h"

#include <string.h>

enum { NAME_MOST = 64 };

const char *const table_sniff_names[FACT_COUNT + 1] = {
	[FACT_SNI] = "sni",   [FACT_ALPN] = "alpn", [FACT_PROTO] = "proto",
	[FACT_HOST] = "host", [FACT_PATH] = "path", [FACT_METHOD] = "method",
};

/** One of those that routes share. */
struct sniffed {
	struct wanted wanted;
	struct cp_sniff sniff;
	struct sniffed *next;
};

/* ---- Reading `sniff` ---------------------------------------------------------------------------------------- */

/** The protocol that connpipe knows by this name, or CP_PROTO_COUNT. */
static enum cp_protocol find_protocol(const char *name)
{
	enum cp_protocol protocol = 0;
	while (protocol < CP_PROTO_COUNT && strcmp(cp_protocol_text(protocol), name) != 0)
		protocol++;
	return protocol;
}

static void read_protocol(struct reading *reading, const struct cp_settings *setting, enum cp_protocol protocol)
{
	struct protocols *protocols = reading->protocols;
	const char *name = cp_protocol_text(protocol);
	bool table = cp_settings_kind(setting) == CP_SETTINGS_TABLE;
	if (!table || !cp_settings_get(setting, "timeout") || cp_settings_count(setting) != 1) {
		table_reading_error(reading, setting,
							"expected { timeout = … } and nothing else: \"%s\" is known without a pattern", name);
		return;
	}
	if (table_bytes_time(reading, setting, "timeout", &protocols->timeout_ms[protocol]))
		protocols->timeouts[protocol] = setting;
}

static bool check_name(struct reading *reading, const struct cp_settings *setting)
{
	const char *name = cp_settings_key(setting);
	size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");
	if (length > 0 && length <= NAME_MOST && !name[length])
		return true;
	return table_reading_error_key(reading, setting, 0,
								   "expected a name of 1 to %d letters, digits, \".\", \"_\" and \"-\", found \"%s\"",
								   NAME_MOST, name);
}

static void read_pattern(struct reading *reading, const struct cp_settings *setting)
{
	struct protocols *protocols = reading->protocols;
	struct cp_sniff_pattern *pattern = &protocols->patterns[protocols->count];
	if (!check_name(reading, setting))
		return;
	*pattern = (struct cp_sniff_pattern){.name = cp_arena_strdup(reading->arena, cp_settings_key(setting))};
	/* One that is wrong keeps its name, so that conditions with it are not wrong, too. */
	protocols->settings[protocols->count++] = setting;
	if (cp_settings_kind(setting) == CP_SETTINGS_TABLE)
		table_bytes_read(reading, setting, pattern);
	else
		table_bytes_text(reading, setting, pattern);
}

void table_sniff_read(struct reading *reading, const struct cp_settings *sniff)
{
	if (!sniff)
		return;
	if (cp_settings_kind(sniff) != CP_SETTINGS_TABLE) {
		table_reading_unexpected(reading, sniff, "a table of protocols, as { smtp = \"EHLO \" }");
		return;
	}
	for (size_t i = 0; i < cp_settings_count(sniff); i++) {
		const struct cp_settings *setting = cp_settings_at(sniff, i);
		enum cp_protocol protocol = find_protocol(cp_settings_key(setting));
		if (protocol != CP_PROTO_COUNT) {
			read_protocol(reading, setting, protocol);
		} else if (reading->protocols->count == PATTERNS_MAX) {
			table_reading_error_key(reading, setting, 0, "a table has at most %d patterns", PATTERNS_MAX);
			return;
		} else {
			read_pattern(reading, setting);
		}
	}
}

/* ---- What a route wants ------------------------------------------------------------------------------------- */

static uint64_t all_patterns(const struct protocols *protocols)
{
	return protocols->count == PATTERNS_MAX ? UINT64_MAX : (UINT64_C(1) << protocols->count) - 1;
}

void table_sniff_want(struct reading *reading, enum fact fact)
{
	struct wanted *now = &reading->protocols->now;
	switch (fact) {
	case FACT_SNI:
	case FACT_ALPN:
		now->facts |= CP_SNIFF_TLS;
		break;
	case FACT_HOST:
	case FACT_PATH:
	case FACT_METHOD:
		now->facts |= CP_SNIFF_HTTP;
		break;
	case FACT_PROTO:
		for (enum cp_protocol protocol = 0; protocol < CP_PROTO_COUNT; protocol++)
			now->facts |= CP_SNIFF_PROTO(protocol);
		now->patterns |= all_patterns(reading->protocols);
		break;
	case FACT_COUNT:
		break;
	}
}

static bool unknown_protocol(struct reading *reading, const struct cp_settings *setting, const char *word)
{
	const char *names[CP_PROTO_COUNT + PATTERNS_MAX + 1];
	size_t count = 0;
	for (enum cp_protocol protocol = 0; protocol < CP_PROTO_COUNT; protocol++)
		names[count++] = cp_protocol_text(protocol);
	for (uint32_t i = 0; i < reading->protocols->count; i++)
		names[count++] = reading->protocols->patterns[i].name;
	names[count] = NULL;
	const char *near = cp_near_name(word, names);
	return table_reading_error(reading, setting,
							   "unknown protocol \"%s\"%s%s%s; there are tls, ssh, http, connpipe and the patterns of "
							   "this table's `sniff`",
							   word, near ? ", did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

bool table_sniff_want_proto(struct reading *reading, const struct cp_settings *setting, const char *word)
{
	struct protocols *protocols = reading->protocols;
	enum cp_protocol protocol = find_protocol(word);
	if (protocol != CP_PROTO_COUNT) {
		protocols->now.facts |= CP_SNIFF_PROTO(protocol);
		return true;
	}
	for (uint32_t i = 0; i < protocols->count; i++) {
		if (strcmp(protocols->patterns[i].name, word) == 0) {
			protocols->now.patterns |= UINT64_C(1) << i;
			return true;
		}
	}
	return unknown_protocol(reading, setting, word);
}

static bool is_same(struct wanted a, struct wanted b)
{
	return a.facts == b.facts && a.patterns == b.patterns;
}

static struct sniffed *make(struct reading *reading, struct wanted wanted)
{
	const struct protocols *protocols = reading->protocols;
	struct sniffed *made = cp_arena_alloc(reading->arena, sizeof(*made));
	struct cp_sniff_pattern *patterns = cp_arena_alloc(reading->arena, protocols->count * sizeof(*patterns) + 1);
	*made = (struct sniffed){
		.wanted = wanted,
		.sniff = {.size = sizeof(struct cp_sniff), .facts = wanted.facts, .patterns = patterns},
		.next = protocols->made,
	};
	memcpy(made->sniff.timeout_ms, protocols->timeout_ms, sizeof(protocols->timeout_ms));
	for (uint32_t i = 0; i < protocols->count; i++)
		if (wanted.patterns >> i & 1)
			patterns[made->sniff.pattern_count++] = protocols->patterns[i];
	return made;
}

const struct cp_sniff *table_sniff_make(struct reading *reading)
{
	struct protocols *protocols = reading->protocols;
	struct wanted now = protocols->now;
	struct sniffed *made = protocols->made;
	if (!now.facts && !now.patterns)
		return NULL;
	protocols->now = (struct wanted){0};
	protocols->ever.facts |= now.facts;
	protocols->ever.patterns |= now.patterns;
	while (made && !is_same(made->wanted, now))
		made = made->next;
	if (!made)
		made = protocols->made = make(reading, now);
	return &made->sniff;
}

void table_sniff_finish(struct reading *reading)
{
	const struct protocols *protocols = reading->protocols;
	unsigned facts = protocols->ever.facts;
	if (facts & CP_SNIFF_TLS)
		facts |= CP_SNIFF_PROTO(CP_PROTO_TLS);
	if (facts & CP_SNIFF_HTTP)
		facts |= CP_SNIFF_PROTO(CP_PROTO_HTTP);
	for (enum cp_protocol protocol = 0; protocol < CP_PROTO_COUNT; protocol++)
		if (protocols->timeouts[protocol] && !(facts & CP_SNIFF_PROTO(protocol)))
			table_reading_warn(reading, protocols->timeouts[protocol], "no route of this table asks for \"%s\"",
							   cp_protocol_text(protocol));
	for (uint32_t i = 0; i < protocols->count; i++)
		if (!(protocols->ever.patterns >> i & 1))
			table_reading_warn(reading, protocols->settings[i], "no route of this table asks for \"%s\"",
							   protocols->patterns[i].name);
}

/* ---- While routing ------------------------------------------------------------------------------------------ */

bool table_sniff_settled(const struct cp_request *request, const struct cp_sniff *sniff, enum fact fact)
{
	const struct cp_value *value = cp_request_fact(request, table_sniff_names[fact]);
	/* A protocol that was none of those that another router asked for may be one of ours. */
	if (value && (value->kind != CP_NULL || fact != FACT_PROTO))
		return true;
	return cp_request_sniffed(request, sniff);
}
