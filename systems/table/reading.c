/* Reading a table: from settings to routes. */
#include "parts.h"

#include <connpipe/log.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Errors
 * ---------------------------------------------------------------------------------------------- */

enum { MESSAGE = 512 };

#define FORMAT_MESSAGE(message, format)                         \
	do {                                                        \
		va_list arguments;                                      \
		va_start(arguments, format);                            \
		vsnprintf(message, sizeof(message), format, arguments); \
		va_end(arguments);                                      \
	} while (0)

bool table_reading_full(const struct reading *reading)
{
	return reading->errors >= READING_ERRORS_MAX;
}

bool table_reading_error(struct reading *reading, const struct cp_settings *setting, const char *format, ...)
{
	char message[MESSAGE];
	FORMAT_MESSAGE(message, format);
	reading->errors++;
	cp_settings_error(setting, "%s", message);
	return false;
}

bool table_reading_error_at(struct reading *reading, const struct cp_settings *setting, size_t offset,
							const char *format, ...)
{
	char message[MESSAGE];
	FORMAT_MESSAGE(message, format);
	reading->errors++;
	cp_settings_error_at(setting, offset, "%s", message);
	return false;
}

bool table_reading_error_key(struct reading *reading, const struct cp_settings *setting, size_t offset,
							 const char *format, ...)
{
	char message[MESSAGE];
	FORMAT_MESSAGE(message, format);
	reading->errors++;
	cp_settings_error_key(setting, offset, "%s", message);
	return false;
}

void table_reading_warn(struct reading *reading, const struct cp_settings *setting, const char *format, ...)
{
	char message[MESSAGE];
	const char *id = cp_system_id(reading->table->system);
	if (reading->warnings++ < READING_WARNINGS_MAX) {
		FORMAT_MESSAGE(message, format);
		cp_log(CP_WARN, id, "%s: %s", cp_settings_where(setting), message);
	} else if (reading->warnings == READING_WARNINGS_MAX + 1) {
		cp_log(CP_WARN, id, "%s: more like these follow and are not listed", cp_settings_where(setting));
	}
}

static const char *kind_words(enum cp_settings_kind kind)
{
	switch (kind) {
	case CP_SETTINGS_TABLE:
		return "a table";
	case CP_SETTINGS_ARRAY:
		return "a list";
	case CP_SETTINGS_STRING:
		return "a string";
	case CP_SETTINGS_INTEGER:
		return "an integer";
	case CP_SETTINGS_FLOAT:
		return "a number";
	case CP_SETTINGS_BOOL:
		return "true or false";
	case CP_SETTINGS_TIME:
		return "a time";
	}
	return "something else";
}

bool table_reading_unexpected(struct reading *reading, const struct cp_settings *setting, const char *expected)
{
	return table_reading_error(reading, setting, "expected %s, found %s", expected,
							   kind_words(cp_settings_kind(setting)));
}

/* ---- Addresses
 * ------------------------------------------------------------------------------------------- */

/** The offset in an error of the address parser, whose place is `column N of "text"`. */
static size_t error_offset(const struct cp_error *error)
{
	size_t column;
	return sscanf(error->where, "column %zu of", &column) == 1 && column > 0 ? column - 1 : 0;
}

const struct cp_address *table_reading_address(struct reading *reading, const struct cp_settings *setting,
											   size_t offset, const char *text, size_t length)
{
	const struct cp_address *address;
	struct cp_error error;
	if (cp_address_parse(reading->scope, reading->arena, text, length, CP_PARSE_TEMPLATE, &address, &error) == CP_OK)
		return address;
	table_reading_error_at(reading, setting, offset + error_offset(&error), "%s", error.message);
	return NULL;
}

/* ---- Keys
 * ------------------------------------------------------------------------------------------------ */

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same_layers(const struct cp_address *a, const struct cp_address *b)
{
	bool same = a->layer_count == b->layer_count;
	for (uint32_t i = 0; same && i < a->layer_count; i++)
		same =
			a->layers[i].converter == b->layers[i].converter && same_text(a->layers[i].argument, b->layers[i].argument);
	return same;
}

/** A key that is bound is checked with those of all other routers; one that is not, here. */
static bool claim_key(struct reading *reading, const struct cp_settings *setting, const struct route *route)
{
	struct table *table = reading->table;
	if (table->bind)
		return cp_router_bind(table->router, reading->key, cp_settings_where_key(setting)) == CP_OK;
	if (same_layers(reading->key, route->door->address))
		return true;
	return table_reading_error_key(reading, setting, 0,
								   "one socket has one chain of converters, but an earlier key has another one: \"%s\"",
								   table_keys_address_text(route->door->address, reading->arena));
}

static struct route *read_key(struct reading *reading, const struct cp_settings *setting, uint32_t number)
{
	const char *text = cp_settings_key(setting);
	struct table *table = reading->table;
	struct cp_error error;
	struct route *route;
	reading->key = NULL;
	if (cp_address_parse(reading->scope, reading->arena, text, strlen(text), 0, &reading->key, &error) != CP_OK) {
		reading->key = NULL;
		table_reading_error_key(reading, setting, error_offset(&error), "%s", error.message);
		return NULL;
	}
	if (table_keys_add(&table->keys, reading->arena, reading->key, &route) == CP_OK) {
		route->number = number;
		return claim_key(reading, setting, route) ? route : NULL;
	}
	table_reading_error_key(reading, setting, 0, "the same address as the key at %s",
							cp_settings_where_key(cp_settings_at(table->routes, route->number)));
	return NULL;
}

/* ---- Rules
 * ----------------------------------------------------------------------------------------------- */

static bool read_rule(struct reading *reading, const struct cp_settings *setting, struct rule *rule)
{
	*rule = (struct rule){0};
	if (cp_settings_kind(setting) != CP_SETTINGS_TABLE)
		return table_reading_unexpected(
			reading, setting, "a table with `to`, as the others of this list (addresses and tables do not mix)");
	const struct cp_settings *when = cp_settings_get(setting, "when"), *to = cp_settings_get(setting, "to");
	bool good = cp_settings_count(setting) == (size_t)(when != NULL) + (to != NULL);
	if (!good)
		reading->errors++;
	cp_settings_finish(setting);
	if (when)
		good = table_condition_read(reading, when, rule) && good;
	if (!to)
		return table_reading_error(reading, setting, "expected `to`: an address, a list of addresses or \">router\"");
	good = table_target_read(reading, to, &rule->goal) && good;
	rule->facts = reading->used;
	reading->used = 0;
	return good;
}

static struct rules *new_rules(struct reading *reading, size_t count)
{
	struct rules *rules = cp_arena_alloc(reading->arena, sizeof(*rules) + count * sizeof(rules->at[0]));
	rules->count = (uint32_t)count;
	return rules;
}

/** They are read: what they want to know together is certain. */
static void take_rules(struct reading *reading, struct rules *rules, struct goal *goal)
{
	rules->sniff = table_sniff_make(reading);
	*goal = (struct goal){.kind = GOAL_RULES, .count = rules->count, .as.rules = rules};
}

static bool read_rules(struct reading *reading, const struct cp_settings *list, struct goal *goal)
{
	size_t count = cp_settings_count(list);
	struct rules *rules = new_rules(reading, count);
	bool good = true, always = false;
	for (size_t i = 0; i < count && !table_reading_full(reading); i++) {
		const struct cp_settings *setting = cp_settings_at(list, i);
		if (always)
			table_reading_warn(reading, setting, "this route is never reached: the one before it always holds");
		good &= read_rule(reading, setting, &rules->at[i]);
		always = good && rules->at[i].condition_count == 0;
	}
	take_rules(reading, rules, goal);
	return good;
}

/* ---- Routes
 * ---------------------------------------------------------------------------------------------- */

static bool is_kind(const struct cp_settings *setting, enum cp_settings_kind kind)
{
	return cp_settings_kind(setting) == kind;
}

static bool read_table(struct reading *reading, const struct cp_settings *setting, struct goal *goal)
{
	struct rules *rules = new_rules(reading, 1);
	bool good = read_rule(reading, setting, &rules->at[0]);
	take_rules(reading, rules, goal);
	return good;
}

/** A target alone. One whose templates need facts is a rule without conditions: rules know how to wait for facts. */
static bool read_target(struct reading *reading, const struct cp_settings *setting, struct goal *goal)
{
	bool good = table_target_read(reading, setting, goal);
	if (!reading->used)
		return good;
	struct rules *rules = new_rules(reading, 1);
	rules->at[0] = (struct rule){.facts = reading->used, .goal = *goal};
	reading->used = 0;
	take_rules(reading, rules, goal);
	return good;
}

/** A goal that does not depend on the connection needs no rule. */
static void simplify(struct goal *goal)
{
	if (goal->kind != GOAL_RULES)
		return;
	const struct rule *first = &goal->as.rules->at[0];
	if (first->condition_count == 0 && !first->facts)
		*goal = first->goal;
}

static bool read_value(struct reading *reading, const struct cp_settings *setting, struct goal *goal)
{
	if (is_kind(setting, CP_SETTINGS_TABLE))
		return read_table(reading, setting, goal);
	if (is_kind(setting, CP_SETTINGS_ARRAY) && cp_settings_count(setting) > 0 &&
		is_kind(cp_settings_at(setting, 0), CP_SETTINGS_TABLE))
		return read_rules(reading, setting, goal);
	if (is_kind(setting, CP_SETTINGS_ARRAY) || is_kind(setting, CP_SETTINGS_STRING))
		return read_target(reading, setting, goal);
	return table_reading_unexpected(reading, setting,
									"an address, a list of addresses, a table with `to`, or a list of such tables");
}

static void read_route(struct reading *reading, const struct cp_settings *setting, uint32_t number)
{
	struct goal goal = {0};
	struct route *route = read_key(reading, setting, number);
	if (!read_value(reading, setting, &goal) || !route)
		return;
	simplify(&goal);
	if (goal.kind == GOAL_REFERENCE)
		goal.as.reference->key = reading->key;
	route->goal = goal;
}

void table_reading_run(struct table *table)
{
	size_t count = cp_settings_count(table->routes);
	struct reading reading = {
		.table = table,
		.scope = cp_system_scope(table->system),
		.arena = table->arena,
		.last_reference = &table->references,
	};
	struct protocols protocols = {.count = 0};
	reading.protocols = &protocols;
	table_sniff_read(&reading, table->sniff);
	if (table_keys_init(&table->keys, count) != CP_OK) {
		table_reading_error(&reading, table->routes, "out of memory for %zu routes", count);
		return;
	}
	for (size_t i = 0; i < count && !table_reading_full(&reading); i++)
		read_route(&reading, cp_settings_at(table->routes, i), (uint32_t)i);
	if (reading.errors == 0)
		table_sniff_finish(&reading);
}
