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

/** Claims by part and subport. Holds numbers only: there may be a million. */
struct claim_set {
	const struct claim *claims;
	const uint32_t *part_of;
	uint32_t *slots; /* number + 1; 0: empty */
	size_t mask;
};

static bool same_subport(const struct claim *a, const struct claim *b)
{
	const struct cp_value *x = address_part(a->address, CP_ROLE_MULTIPLEX);
	const struct cp_value *y = address_part(b->address, CP_ROLE_MULTIPLEX);
	return x && y ? cp_value_equal(x, y) : x == y;
}

static uint32_t set_hash(const struct claim_set *set, uint32_t number)
{
	const struct cp_value *subport = address_part(set->claims[number].address, CP_ROLE_MULTIPLEX);
	uint32_t hash = hash_add(HASH_START, &set->part_of[number], sizeof(set->part_of[number]));
	if (subport && subport->kind == CP_STRING)
		hash = hash_add(hash, subport->as.s, subport->length);
	return hash_finish(hash);
}

/** Add a claim. @return the equal one that was there before, or NO_CLAIM */
static uint32_t set_add(struct claim_set *set, uint32_t number)
{
	size_t i = set_hash(set, number) & set->mask;
	for (; set->slots[i]; i = (i + 1) & set->mask) {
		uint32_t other = set->slots[i] - 1;
		if (set->part_of[other] == set->part_of[number] && same_subport(&set->claims[other], &set->claims[number]))
			return other;
	}
	set->slots[i] = number + 1;
	return NO_CLAIM;
}

/* ---- Checking ----------------------------------------------------------------------------------------------- */

static void report_two_routers(const struct claim *first, const struct claim *second, struct report *report)
{
	char place[192];
	char *text = claim_text(second);
	report_add(report, second->where, "%s: the routers \"%s\"%s and \"%s\" both claim it", text, first->router->id,
			   claim_place(first, place, sizeof(place)), second->router->id);
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

void claims_check(const struct claim *claims, const uint32_t *part_of, size_t count, struct report *report)
{
	struct claim_set set = {.claims = claims, .part_of = part_of, .mask = hash_slots(count) - 1};
	set.slots = xcalloc(set.mask + 1, sizeof(*set.slots)); /* pages that are never touched cost nothing */
	for (uint32_t i = 0; i < count; i++) {
		uint32_t first = set_add(&set, i);
		if (first == NO_CLAIM)
			continue;
		if (claims[first].router != claims[i].router)
			report_two_routers(&claims[first], &claims[i], report);
		else
			report_twice(&claims[first], &claims[i], report);
	}
	free(set.slots);
}
