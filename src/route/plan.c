#include "plan.h"

#include "../base/memory.h"
#include "claims.h"
#include "hash.h"
#include "subports.h"

#include <connpipe/converter.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_ROOM = 256, ARENA_FIRST = 4096 };

/** What is known of a socket only while the plan is made; beside plan->bindings, by the same number. */
struct draft {
	const struct claim *first;
	uint32_t hash; /* of the key */
};

/** A part while the plan is made. Numbers below the plan's count are the roots of those sockets, the others are paths,
 * sorted by socket and path. */
struct part_draft {
	struct binding_part part;
	uint32_t socket;
	uint32_t named;          /* how many claims name a subport */
	struct cp_router *namer; /* whose they are */
	bool several_namers;
};

struct planner {
	const struct claim *claims;
	size_t count;
	struct report *report;
	struct plan *plan;
	struct draft *drafts;
	uint32_t room;       /* of plan->bindings and drafts */
	uint32_t *socket_of; /* for each claim: number of its binding */
	uint32_t *slots;     /* table of keys: number of a binding + 1; 0: empty */
	size_t mask;
	struct part_draft *parts;
	uint32_t part_count;
	uint32_t *part_of; /* for each claim: number of its part */
};

/* ---- Sockets ------------------------------------------------------------------------------------------------ */

/** A copy of `address` for the socket as a whole, in the plan's arena. */
static const struct cp_address *copy_socket(struct cp_arena *arena, const struct cp_address *address)
{
	const struct cp_connector_def *def = address->connector->def;
	struct cp_field *fields = cp_arena_alloc(arena, address->fields.count * sizeof(*fields) + 1);
	for (uint32_t i = 0; i < address->fields.count; i++) {
		fields[i] = address->fields.at[i];
		struct cp_value *value = &fields[i].value;
		if (def->fields[i].role == CP_ROLE_MULTIPLEX ||
			(def->fields[i].role == CP_ROLE_PATH && def->fields[i].optional))
			*value = cp_null();
		else if (value->kind == CP_STRING)
			value->as.s = cp_arena_strndup(arena, value->as.s, value->length);
	}
	struct cp_layer *layers = cp_arena_alloc(arena, address->layer_count * sizeof(*layers) + 1);
	for (uint32_t i = 0; i < address->layer_count; i++) {
		layers[i] = address->layers[i];
		if (layers[i].argument)
			layers[i].argument = cp_arena_strdup(arena, layers[i].argument);
	}
	struct cp_address *copy = cp_arena_alloc(arena, sizeof(*copy));
	*copy = *address;
	copy->alias = cp_arena_strdup(arena, address->alias);
	copy->fields.at = fields;
	copy->layers = layers;
	return copy;
}

static const char *print_address(struct cp_arena *arena, const struct cp_address *address)
{
	size_t length = cp_address_print(address, NULL, 0);
	char *text = cp_arena_alloc(arena, length + 1);
	cp_address_print(address, text, length + 1);
	return text;
}

static void grow(struct planner *planner)
{
	planner->room = planner->room ? 2 * planner->room : 8;
	planner->plan->bindings = xrealloc(planner->plan->bindings, planner->room * sizeof(*planner->plan->bindings));
	planner->drafts = xrealloc(planner->drafts, planner->room * sizeof(*planner->drafts));
}

static uint32_t add_socket(struct planner *planner, const struct claim *claim, const char *key, size_t length,
						   uint32_t hash)
{
	struct plan *plan = planner->plan;
	if (plan->count == planner->room)
		grow(planner);
	struct binding *binding = &plan->bindings[plan->count];
	*binding = (struct binding){.plan = plan};
	binding->key = cp_arena_strndup(plan->arena, key, length);
	binding->address = copy_socket(plan->arena, claim->address);
	binding->text = print_address(plan->arena, binding->address);
	planner->drafts[plan->count] = (struct draft){claim, hash};
	return plan->count++;
}

/** The number of the binding with this key; made if it is the first claim on it. @param is_new  set if so */
static uint32_t find_socket(struct planner *planner, const struct claim *claim, const char *key, size_t length,
							bool *is_new)
{
	uint32_t hash = hash_finish(hash_add(HASH_START, key, length));
	size_t i = hash & planner->mask;
	for (; planner->slots[i]; i = (i + 1) & planner->mask) {
		uint32_t number = planner->slots[i] - 1;
		if (planner->drafts[number].hash == hash && strcmp(planner->plan->bindings[number].key, key) == 0)
			return number;
	}
	uint32_t number = add_socket(planner, claim, key, length, hash);
	planner->slots[i] = number + 1;
	*is_new = true;
	return number;
}

/** Whether two addresses differ in their multiplex and converters at most, and so are on one socket for certain. */
static bool same_but_multiplex(const struct cp_address *a, const struct cp_address *b)
{
	if (a->connector != b->connector || strcmp(a->alias, b->alias) != 0 || a->fields.count != b->fields.count)
		return false;
	const struct cp_field_def *defs = a->connector->def->fields;
	for (uint32_t i = 0; i < a->fields.count; i++)
		if (defs[i].role != CP_ROLE_MULTIPLEX && !cp_value_equal(&a->fields.at[i].value, &b->fields.at[i].value))
			return false;
	return true;
}

/** Group the claim with others of its socket. @param is_new  set if it is the first one */
static uint32_t place(struct planner *planner, const struct claim *claim, bool *is_new)
{
	char small[KEY_ROOM], *key = small;
	size_t length = cp_address_print_socket(claim->address, false, small, sizeof(small));
	if (length >= sizeof(small)) {
		key = xmalloc(length + 1);
		cp_address_print_socket(claim->address, false, key, length + 1);
	}
	uint32_t number = find_socket(planner, claim, key, length, is_new);
	if (key != small)
		free(key);
	return number;
}

/* ---- Checks of one socket ----------------------------------------------------------------------------------- */

static void CP_PRINTF(3, 4) report_claim(struct planner *planner, const struct claim *claim, const char *format, ...)
{
	char words[512];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(words, sizeof(words), format, arguments);
	va_end(arguments);
	char *text = claim_text(claim);
	report_add(planner->report, claim->where, "%s, claimed by the router \"%s\": %s", text, claim->router->id, words);
	free(text);
}

static void check_bindable(struct planner *planner, const struct claim *claim)
{
	const struct cp_address *address = claim->address;
	const struct cp_connector_def *def = address->connector->def;
	struct cp_error error;
	if (!def->bind)
		report_claim(planner, claim, "addresses of \"%s\" cannot be bound, only connected to", address->alias);
	else if (def->check_bind && def->check_bind(address->connector, address, &error) != CP_OK)
		report_claim(planner, claim, "%s", error.message);
}

static void check_acceptable(struct planner *planner, const struct claim *claim)
{
	const struct cp_address *address = claim->address;
	check_bindable(planner, claim);
	bool messages, any;
	struct cp_error error;
	for (uint32_t i = 0; i < address->layer_count; i++) {
		const struct cp_layer *layer = &address->layers[i];
		const struct cp_converter_def *def = layer->converter->def;
		if (!def->accept)
			report_claim(planner, claim, "the converter \"%s\" cannot be used where connections are accepted", def->id);
		else if (def->check_use && def->check_use(layer->converter, address, layer->argument, true, &error) != CP_OK)
			report_claim(planner, claim, "%s", error.message);
	}
	if (cp_address_carries(address, &messages, &any, &error) != CP_OK)
		report_claim(planner, claim, "%s", error.message);
}

static bool same_chain(const struct cp_address *a, const struct cp_address *b)
{
	if (a->layer_count != b->layer_count)
		return false;
	for (uint32_t i = 0; i < a->layer_count; i++) {
		const struct cp_layer *x = &a->layers[i], *y = &b->layers[i];
		if (x->converter != y->converter || !x->argument != !y->argument)
			return false;
		if (x->argument && strcmp(x->argument, y->argument) != 0)
			return false;
	}
	return true;
}

static void check_chain(struct planner *planner, const struct claim *claim, uint32_t number)
{
	const struct claim *first = planner->drafts[number].first;
	if (same_chain(first->address, claim->address))
		return;
	char place_text[192];
	report_claim(planner, claim, "a socket has one chain of converters, and the router \"%s\"%s claims this one as %s",
				 first->router->id, claim_place(first, place_text, sizeof(place_text)),
				 planner->plan->bindings[number].text);
}

/* ---- Paths -------------------------------------------------------------------------------------------------- */

/** A claim with a path. */
struct path_claim {
	uint32_t socket, claim;
	const struct cp_value *path;
};

static int compare_texts(const char *a, size_t a_length, const char *b, size_t b_length)
{
	int order = memcmp(a, b, a_length < b_length ? a_length : b_length);
	return order ? order : (a_length > b_length) - (a_length < b_length);
}

static int compare_path_claims(const void *a, const void *b)
{
	const struct path_claim *x = a, *y = b;
	if (x->socket != y->socket)
		return x->socket < y->socket ? -1 : 1;
	return compare_texts(x->path->as.s, x->path->length, y->path->as.s, y->path->length);
}

static size_t collect_path_claims(const struct planner *planner, struct path_claim *out)
{
	size_t count = 0;
	for (uint32_t i = 0; i < planner->count; i++) {
		const struct cp_value *path = address_part(planner->claims[i].address, CP_ROLE_PATH);
		if (path && path->kind == CP_STRING)
			out[count++] = (struct path_claim){planner->socket_of[i], i, path};
	}
	return count;
}

static void add_part(struct planner *planner, const struct path_claim *claim)
{
	struct part_draft *draft = &planner->parts[planner->part_count++];
	draft->socket = claim->socket;
	draft->part.path = cp_arena_strndup(planner->plan->arena, claim->path->as.s, claim->path->length);
	draft->part.path_length = claim->path->length;
}

/** Number the parts: one for each socket, one for each path of it that is claimed. */
static void make_parts(struct planner *planner)
{
	uint32_t sockets = planner->plan->count;
	struct path_claim *paths = xcalloc(planner->count + 1, sizeof(*paths));
	size_t count = collect_path_claims(planner, paths);
	planner->parts = xcalloc(sockets + count + 1, sizeof(*planner->parts));
	planner->part_count = sockets;
	memcpy(planner->part_of, planner->socket_of, planner->count * sizeof(*planner->part_of));
	if (count)
		qsort(paths, count, sizeof(*paths), compare_path_claims);
	for (size_t i = 0; i < count; i++) {
		if (i == 0 || compare_path_claims(&paths[i - 1], &paths[i]) != 0)
			add_part(planner, &paths[i]);
		planner->part_of[paths[i].claim] = planner->part_count - 1;
	}
	free(paths);
}

/** The sockets get their parts; before they are sorted. */
static void place_parts(struct planner *planner)
{
	struct plan *plan = planner->plan;
	uint32_t sockets = plan->count, paths = planner->part_count - sockets;
	struct binding_part *all = paths ? cp_arena_alloc(plan->arena, paths * sizeof(*all)) : NULL;
	for (uint32_t i = 0; i < sockets; i++)
		plan->bindings[i].root = planner->parts[i].part;
	for (uint32_t i = 0; i < paths; i++) {
		const struct part_draft *draft = &planner->parts[sockets + i];
		struct binding *binding = &plan->bindings[draft->socket];
		all[i] = draft->part;
		if (binding->path_count++ == 0)
			binding->paths = &all[i];
	}
}

const struct binding_part *binding_path(const struct binding *binding, const char *path, size_t length)
{
	uint32_t low = 0, high = binding->path_count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct binding_part *part = &binding->paths[middle];
		int order = compare_texts(path, length, part->path, part->path_length);
		if (order == 0)
			return part;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

/* ---- Who is asked ------------------------------------------------------------------------------------------- */

static bool is_any(const char *multiplex, size_t length)
{
	return length == 1 && multiplex[0] == '*';
}

/** Note whose the claim's subport is. Clashes were reported before: the last claim wins, which nobody will see. */
static void note_router(const struct claim *claim, struct part_draft *draft)
{
	struct binding_part *part = &draft->part;
	size_t length;
	const char *multiplex = cp_address_multiplex(claim->address, &length);
	if (!multiplex) {
		part->plain = claim->router;
		return;
	}
	part->subports = true;
	if (is_any(multiplex, length)) {
		part->any = claim->router;
		return;
	}
	draft->several_namers |= draft->named && draft->namer != claim->router;
	draft->namer = claim->router;
	draft->named++;
}

static void note_routers(struct planner *planner)
{
	for (size_t i = 0; i < planner->count; i++)
		note_router(&planner->claims[i], &planner->parts[planner->part_of[i]]);
}

/** Decide for each part whether a table of names is needed. */
static void choose_tables(struct planner *planner)
{
	for (uint32_t i = 0; i < planner->part_count; i++) {
		struct part_draft *draft = &planner->parts[i];
		struct binding_part *part = &draft->part;
		if (draft->named == 0)
			continue;
		bool one = !draft->several_namers && (!part->any || part->any == draft->namer);
		if (one)
			part->only = draft->namer;
		else
			part->named = subports_new(planner->plan->arena, draft->named);
	}
}

static void fill_tables(struct planner *planner)
{
	for (size_t i = 0; i < planner->count; i++) {
		struct binding_subports *named = planner->parts[planner->part_of[i]].part.named;
		if (!named)
			continue;
		size_t length;
		const char *multiplex = cp_address_multiplex(planner->claims[i].address, &length);
		if (multiplex && !is_any(multiplex, length))
			subports_add(named, planner->plan->arena, multiplex, length, planner->claims[i].router);
	}
}

static struct cp_router *part_router(const struct binding_part *part, const char *multiplex, size_t length)
{
	if (!multiplex)
		return part->plain;
	if (part->only)
		return part->only;
	struct cp_router *router = part->named ? subports_find(part->named, multiplex, length) : NULL;
	return router ? router : part->any;
}

struct cp_router *binding_router(const struct binding *binding, const struct binding_part *part, const char *multiplex,
								 size_t length)
{
	struct cp_router *router = part ? part_router(part, multiplex, length) : NULL;
	return router ? router : part_router(&binding->root, multiplex, length);
}

const struct binding_part *binding_part_for(const struct binding *binding, const struct cp_address *address)
{
	const struct cp_value *path = binding->path_count ? address_part(address, CP_ROLE_PATH) : NULL;
	return path && path->kind == CP_STRING ? binding_path(binding, path->as.s, path->length) : NULL;
}

struct cp_router *binding_router_for(const struct binding *binding, const struct cp_address *address)
{
	size_t length = 0;
	const char *multiplex = cp_address_multiplex(address, &length);
	return binding_router(binding, binding_part_for(binding, address), multiplex, length);
}

/* ---- The plan ----------------------------------------------------------------------------------------------- */

static int compare_keys(const void *a, const void *b)
{
	return strcmp(((const struct binding *)a)->key, ((const struct binding *)b)->key);
}

static void planner_init(struct planner *planner, struct generation *generation, const struct claim *claims,
						 size_t count, struct report *report)
{
	*planner = (struct planner){.claims = claims, .count = count, .report = report};
	planner->plan = xcalloc(1, sizeof(*planner->plan));
	atomic_init(&planner->plan->refs, 1);
	planner->plan->generation = generation;
	planner->plan->arena = cp_arena_new(ARENA_FIRST);
	planner->socket_of = xcalloc(count ? count : 1, sizeof(*planner->socket_of));
	planner->part_of = xcalloc(count ? count : 1, sizeof(*planner->part_of));
	planner->mask = hash_slots(count) - 1;
	planner->slots = xcalloc(planner->mask + 1, sizeof(*planner->slots));
}

static void planner_deinit(struct planner *planner)
{
	free(planner->drafts);
	free(planner->socket_of);
	free(planner->slots);
	free(planner->parts);
	free(planner->part_of);
}

static void group(struct planner *planner)
{
	for (size_t i = 0; i < planner->count; i++) {
		const struct claim *claim = &planner->claims[i];
		bool is_new = false;
		/* Most often the claim before is on the same socket: comparing is cheaper than printing. */
		bool same = i > 0 && same_but_multiplex(planner->claims[i - 1].address, claim->address);
		uint32_t number = same ? planner->socket_of[i - 1] : place(planner, claim, &is_new);
		planner->socket_of[i] = number;
		if (is_new)
			check_acceptable(planner, claim);
		else
			check_chain(planner, claim, number);
	}
}

struct plan *plan_new(struct generation *generation, const struct claim *claims, size_t count, struct report *report)
{
	size_t errors = report->count + report->dropped;
	struct planner planner;
	planner_init(&planner, generation, claims, count, report);
	struct plan *plan = planner.plan;

	group(&planner);
	make_parts(&planner);
	claims_check(claims, planner.part_of, count, report);
	note_routers(&planner);
	choose_tables(&planner);
	fill_tables(&planner);
	place_parts(&planner);
	planner_deinit(&planner);

	if (report->count + report->dropped != errors) {
		plan_free(plan);
		return NULL;
	}
	if (plan->count)
		qsort(plan->bindings, plan->count, sizeof(*plan->bindings), compare_keys);
	return plan;
}

void plan_free(struct plan *plan)
{
	cp_arena_free(plan->arena);
	free(plan->bindings);
	free(plan);
}

struct binding *plan_find(const struct plan *plan, const char *key)
{
	struct binding wanted = {.key = (char *)key};
	return plan->count ? bsearch(&wanted, plan->bindings, plan->count, sizeof(wanted), compare_keys) : NULL;
}
