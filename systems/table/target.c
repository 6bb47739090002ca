/* Targets: what the text of a route says to do, and the answers made of it. */
#include "parts.h"

#include <stdlib.h>
#include <string.h>

/* ---- Addresses
 * ------------------------------------------------------------------------------------------- */

static const char *carries_word(bool messages)
{
	return messages ? "messages" : "bytes";
}

/** The key is bytes, the target is messages, or the other way round. */
static void report_carries(struct reading *reading, const struct cp_settings *setting, const char *text, bool messages)
{
	const char *key = table_keys_address_text(reading->key, reading->arena);
	/* Such as stdin and stdout of `connpipe connect`, of which nobody can write "frame+". */
	if (messages && !reading->key->connector->def->connect)
		table_reading_error(reading, setting,
							"\"%s\" carries messages, but \"%s\" carries bytes, in which messages have no ends; "
							"\"connpipe pipe\" can bind an address that carries messages, too, such as "
							"\"frame+tcp:127.0.0.1:7000\"",
							text, key);
	else
		table_reading_error(reading, setting,
							"\"%s\" carries %s, but the route's key \"%s\" carries %s; \"frame+%s\" would carry "
							"messages, too",
							text, carries_word(messages), key, carries_word(!messages), messages ? key : text);
}

/** Whether what comes in at the key can go out at the target: a connector may suit both. */
static bool check_carries(struct reading *reading, const struct cp_settings *setting, const char *text,
						  const struct cp_address *target)
{
	bool in_messages, in_any, out_messages, out_any;
	struct cp_error error;
	if (!reading->key)
		return true;
	if (cp_address_carries(target, &out_messages, &out_any, &error) != CP_OK)
		return table_reading_error(reading, setting, "%s", error.message);
	if (cp_address_carries(reading->key, &in_messages, &in_any, NULL) != CP_OK)
		return true; /* reported where the key is bound */
	if (in_any || out_any || in_messages == out_messages)
		return true;
	report_carries(reading, setting, text, out_messages);
	return false;
}

static bool check_connects(struct reading *reading, const struct cp_settings *setting, const struct cp_address *target)
{
	if (!target->connector->def->connect)
		return table_reading_error(
			reading, setting, "expected an address that can be connected to, but \"%s\" cannot connect", target->alias);
	for (uint32_t i = 0; i < target->layer_count; i++) {
		const struct cp_layer *layer = &target->layers[i];
		const struct cp_converter_def *def = layer->converter->def;
		struct cp_error error;
		if (!def->connect)
			return table_reading_error(
				reading, setting,
				"expected an address that can be connected to, but the converter \"%s\" cannot connect", def->id);
		if (def->check_use && def->check_use(layer->converter, target, layer->argument, false, &error) != CP_OK)
			return table_reading_error(reading, setting, "%s", error.message);
	}
	return true;
}

static bool check_subport(struct reading *reading, const struct cp_settings *setting, const struct cp_address *target)
{
	size_t length;
	const char *name = cp_address_multiplex(target, &length);
	if (!name || length != 1 || name[0] != '*')
		return true;
	return table_reading_error(reading, setting,
							   "expected the name of a subport behind \"!\": \"*\" stands only in keys; "
							   "\"!{multiplex}\" hands the client's on");
}

static bool read_address(struct reading *reading, const struct cp_settings *setting, const char *text, size_t length,
						 struct target *target)
{
	target->address = table_reading_address(reading, setting, 0, text, length);
	if (!target->address)
		return false;
	bool good = check_connects(reading, setting, target->address);
	good = check_subport(reading, setting, target->address) && good;
	good = check_carries(reading, setting, text, target->address) && good;
	if (target->address->flags & CP_PARSE_TEMPLATE)
		target->template = table_template_read(reading, setting, text, target->address);
	return good;
}

/* ---- References
 * ------------------------------------------------------------------------------------------ */

static bool reference_address(struct reading *reading, const struct cp_settings *setting, const char *whole,
							  const char *text, size_t length, struct reference *reference)
{
	size_t offset = (size_t)(text - whole);
	reference->address = table_reading_address(reading, setting, offset, text, length);
	if (!reference->address)
		return false;
	if (reference->address->flags & CP_PARSE_TEMPLATE)
		reference->template = table_template_read(reading, setting, text, reference->address);
	return true;
}

static bool unknown_router(struct reading *reading, const struct cp_settings *setting, const char *id)
{
	size_t count = 0;
	while (cp_scope_router_at(reading->scope, count))
		count++;
	const char **ids = cp_arena_alloc(reading->arena, (count + 1) * sizeof(*ids));
	for (size_t i = 0; i < count; i++)
		ids[i] = cp_scope_router_at(reading->scope, i)->id;
	ids[count] = NULL;
	const char *near = cp_near_name(id, ids);
	return table_reading_error_at(reading, setting, 1, "unknown router \"%s\"%s%s%s", id,
								  near ? ", did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

/** `>router` or `>router address`, with the ">". */
static struct reference *read_reference(struct reading *reading, const struct cp_settings *setting, const char *text,
										size_t length)
{
	size_t id_length = strcspn(text + 1, " ");
	char *id = cp_arena_strndup(reading->arena, text + 1, id_length);
	const char *rest = text + 1 + id_length;
	rest += strspn(rest, " ");

	struct reference *reference = cp_arena_alloc(reading->arena, sizeof(*reference));
	*reference = (struct reference){
		.incoming = reading->key,
		.setting = setting,
		.where = cp_arena_strdup(reading->arena, cp_settings_where(setting)),
		.router = cp_scope_router(reading->scope, id),
	};
	bool good = true;
	if (id_length == 0) {
		table_reading_error_at(reading, setting, 1, "expected the id of a router right behind \">\"");
		return NULL; /* what follows may be it, or not */
	}
	if (!reference->router)
		good = unknown_router(reading, setting, id);
	if (*rest)
		good = reference_address(reading, setting, text, rest, length - (size_t)(rest - text), reference) && good;
	if (!good)
		return NULL;
	*reading->last_reference = reference;
	reading->last_reference = &reference->next;
	return reference;
}

/* ---- Strings and lists of strings
 * ------------------------------------------------------------------------ */

static bool read_text(struct reading *reading, const struct cp_settings *setting, const char **text, size_t *length)
{
	if (cp_settings_kind(setting) != CP_SETTINGS_STRING)
		return table_reading_unexpected(reading, setting, "an address, as \"tcp:10.0.0.1:80\", or \">router\"");
	if (cp_settings_string(setting, text, length))
		return true;
	reading->errors++;
	return false;
}

static bool read_single(struct reading *reading, const struct cp_settings *setting, struct goal *goal)
{
	const char *text;
	size_t length;
	if (!read_text(reading, setting, &text, &length))
		return false;
	goal->count = 1;
	if (text[0] == '>') {
		goal->kind = GOAL_REFERENCE;
		goal->as.reference = read_reference(reading, setting, text, length);
		return goal->as.reference;
	}
	struct target target = {0};
	if (!read_address(reading, setting, text, length, &target))
		return false;
	if (!target.template) {
		goal->kind = GOAL_TARGET;
		goal->as.target = target.address;
		return true;
	}
	struct target *kept = cp_arena_alloc(reading->arena, sizeof(*kept));
	*kept = target;
	goal->kind = GOAL_MIXED;
	goal->as.mixed = kept;
	return true;
}

static bool read_member(struct reading *reading, const struct cp_settings *setting, struct target *target)
{
	const char *text;
	size_t length;
	*target = (struct target){0};
	if (!read_text(reading, setting, &text, &length))
		return false;
	if (text[0] == '>')
		return table_reading_error(
			reading, setting, "expected an address: a list is tried in order, but \"%s\" hands the whole question on",
			text);
	return read_address(reading, setting, text, length, target);
}

/** Without templates the list is kept as an answer has it. */
static void keep_list(struct reading *reading, const struct target *list, size_t count, struct goal *goal)
{
	size_t templates = 0;
	for (size_t i = 0; i < count; i++)
		templates += list[i].template != NULL;
	goal->count = (uint32_t)count;
	goal->kind = templates ? GOAL_MIXED : GOAL_TARGETS;
	if (templates) {
		goal->as.mixed = list;
		return;
	}
	const struct cp_address **targets = cp_arena_alloc(reading->arena, count * sizeof(*targets));
	for (size_t i = 0; i < count; i++)
		targets[i] = list[i].address;
	goal->as.targets = targets;
}

bool table_target_read(struct reading *reading, const struct cp_settings *setting, struct goal *goal)
{
	if (cp_settings_kind(setting) != CP_SETTINGS_ARRAY)
		return read_single(reading, setting, goal);
	size_t count = cp_settings_count(setting);
	if (count == 0)
		return table_reading_error(reading, setting, "expected at least one address, found an empty list");
	if (count == 1)
		return read_single(reading, cp_settings_at(setting, 0), goal);
	struct target *list = cp_arena_alloc(reading->arena, count * sizeof(*list));
	bool good = true;
	for (size_t i = 0; i < count && !table_reading_full(reading); i++)
		good &= read_member(reading, cp_settings_at(setting, i), &list[i]);
	if (good)
		keep_list(reading, list, count, goal);
	return good;
}

/* ---- Answers
 * --------------------------------------------------------------------------------------------- */

static void refuse(struct cp_answer *answer, const char *reason)
{
	*answer = (struct cp_answer){.kind = CP_ANSWER_REFUSE, .reason = reason};
}

static void answer_mixed(const struct goal *goal, struct cp_request *request, struct cp_answer *answer)
{
	struct cp_arena *arena = cp_request_arena(request);
	const struct cp_address **targets = cp_arena_alloc(arena, goal->count * sizeof(*targets));
	for (uint32_t i = 0; i < goal->count; i++) {
		const struct target *target = &goal->as.mixed[i];
		const char *reason = NULL;
		targets[i] = target->template ? table_template_expand(target->template, request, &reason) : target->address;
		if (!targets[i]) {
			refuse(answer, reason);
			return;
		}
	}
	answer->kind = CP_ANSWER_TARGETS;
	answer->targets = targets;
	answer->target_count = goal->count;
}

static void answer_reference(const struct reference *reference, struct cp_request *request, struct cp_answer *answer)
{
	answer->kind = CP_ANSWER_ROUTER;
	answer->router = reference->router->id;
	answer->address = reference->address;
	if (!reference->template)
		return;
	const char *reason = NULL;
	answer->address = table_template_expand(reference->template, request, &reason);
	if (!answer->address)
		refuse(answer, reason);
}

void table_target_answer(const struct goal *goal, struct cp_request *request, struct cp_answer *answer)
{
	switch ((enum goal_kind)goal->kind) {
	case GOAL_TARGET:
		answer->kind = CP_ANSWER_TARGETS;
		answer->targets = &goal->as.target;
		answer->target_count = 1;
		return;
	case GOAL_TARGETS:
		answer->kind = CP_ANSWER_TARGETS;
		answer->targets = goal->as.targets;
		answer->target_count = goal->count;
		return;
	case GOAL_MIXED:
		answer_mixed(goal, request, answer);
		return;
	case GOAL_REFERENCE:
		answer_reference(goal->as.reference, request, answer);
		return;
	case GOAL_RULES:
		abort(); /* rules have goals, goals of rules are no rules */
	}
}
