#include "claims.h"

#include "../base/memory.h"
#include "hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NO_CLAIM = UINT32_MAX };

const struct cp_value *address_part(const struct cp_address *address, enum cp_field_role role)
{
	const struct cp_connector_def *def = address->connector->def;
	for (uint32_t i = 0; i < def->field_count && i < address->fields.count; i++)
		if (def->fields[i].role == role)
			return address->fields.at[i].value.kind == CP_NULL ? NULL : &address->fields.at[i].value;
	return NULL;
}

const char *claim_place(const struct claim *claim, char *buffer, size_t room)
{
	if (claim->where)
		snprintf(buffer, room, " (first at %s)", claim->where);
	else
		buffer[0] = 0;
	return buffer;
}

char *claim_text(const struct claim *claim)
{
	size_t length = cp_address_print(claim->address, NULL, 0);
	char *text = xmalloc(length + 1);
	cp_address_print(claim->address, text, length + 1);
	return text;
}

/* ---- Sets of claims ----------------------------------------------------------------------------------------- */

/** Claims by socket and subport, and by path too if `paths`. Holds numbers only: there may be a million. */
struct claim_set {
	const struct claim *claims;
	const uint32_t *socket_of;
	uint32_t *slots; /* number + 1; 0: empty */
	size_t mask;
	bool paths;
};

static void set_init(struct claim_set *set, const struct claim *claims, const uint32_t *socket_of, size_t count,
					 bool paths)
{
	set->claims = claims;
	set->socket_of = socket_of;
	set->mask = hash_slots(count) - 1;
	set->slots = xcalloc(set->mask + 1, sizeof(*set->slots)); /* pages that are never touched cost nothing */
	set->paths = paths;
}

static bool same_part(const struct claim *a, const struct claim *b, enum cp_field_role role)
{
	const struct cp_value *x = address_part(a->address, role), *y = address_part(b->address, role);
	return x && y ? cp_value_equal(x, y) : x == y;
}

static uint32_t hash_part(uint32_t hash, const struct claim *claim, enum cp_field_role role)
{
	const struct cp_value *part = address_part(claim->address, role);
	return part && part->kind == CP_STRING ? hash_add(hash, part->as.s, part->length) : hash;
}

static uint32_t set_hash(const struct claim_set *set, uint32_t number)
{
	uint32_t hash = hash_add(HASH_START, &set->socket_of[number], sizeof(set->socket_of[number]));
	hash = hash_part(hash, &set->claims[number], CP_ROLE_MULTIPLEX);
	if (set->paths)
		hash = hash_part(hash, &set->claims[number], CP_ROLE_PATH);
	return hash_finish(hash);
}

static bool set_equal(const struct claim_set *set, uint32_t a, uint32_t b)
{
	const struct claim *x = &set->claims[a], *y = &set->claims[b];
	return set->socket_of[a] == set->socket_of[b] && same_part(x, y, CP_ROLE_MULTIPLEX) &&
		   (!set->paths || same_part(x, y, CP_ROLE_PATH));
}

/** Add a claim. @return the equal one that was there before, or NO_CLAIM */
static uint32_t set_add(struct claim_set *set, uint32_t number)
{
	size_t i = set_hash(set, number) & set->mask;
	for (; set->slots[i]; i = (i + 1) & set->mask)
		if (set_equal(set, set->slots[i] - 1, number))
			return set->slots[i] - 1;
	set->slots[i] = number + 1;
	return NO_CLAIM;
}

/* ---- Checking ----------------------------------------------------------------------------------------------- */

static void report_two_routers(const struct claim *first, const struct claim *second, struct report *report)
{
	char place[192];
	char *text = claim_text(second);
	report_add(report, second->where, "%s: the routers \"%s\"%s and \"%s\" both claim it%s", text, first->router->id,
			   claim_place(first, place, sizeof(place)), second->router->id,
			   same_part(first, second, CP_ROLE_PATH) ? "" : "; all paths of a subport belong to one router");
	free(text);
}

static void report_twice(const struct claim *first, const struct claim *second, struct report *report)
{
	char place[192];
	char *text = claim_text(second);
	report_add(report, second->where, "%s: the router \"%s\" claims it twice%s", text, second->router->id,
			   claim_place(first, place, sizeof(place)));
	free(text);
}

void claims_check(const struct claim *claims, const uint32_t *socket_of, size_t count, struct report *report)
{
	struct claim_set subports, paths;
	set_init(&subports, claims, socket_of, count, false);
	set_init(&paths, claims, socket_of, count, true);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t first = set_add(&subports, i);
		if (first == NO_CLAIM)
			continue;
		if (claims[first].router != claims[i].router) {
			report_two_routers(&claims[first], &claims[i], report);
			continue;
		}
		/* Only claims that differ from the first one in their path come into the second set. */
		uint32_t twin = same_part(&claims[first], &claims[i], CP_ROLE_PATH) ? first : set_add(&paths, i);
		if (twin != NO_CLAIM)
			report_twice(&claims[twin], &claims[i], report);
	}
	free(subports.slots);
	free(paths.slots);
}
