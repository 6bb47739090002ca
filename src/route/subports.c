#include "subports.h"

#include "hash.h"

#include <stdint.h>
#include <string.h>

/* Open addressing with linear probing. Name and router lie together, and the slot has enough of the name to pass by
 * others, so a look-up among a million touches two cache lines: one slot, one entry. */
struct subport {
	struct cp_router *router;
	char name[];
};

struct slot {
	const struct subport *subport; /* NULL: empty */
	uint32_t hash;
	uint32_t length;
};

struct binding_subports {
	size_t mask;
	_Alignas(16) struct slot slots[]; /* none lies across two cache lines */
};

struct binding_subports *subports_new(struct cp_arena *arena, size_t count)
{
	size_t slots = hash_slots(count);
	struct binding_subports *subports = cp_arena_alloc(arena, sizeof(*subports) + slots * sizeof(*subports->slots));
	subports->mask = slots - 1;
	memset(subports->slots, 0, slots * sizeof(*subports->slots));
	return subports;
}

/** The number of the slot of that name, or of the empty one where it would be. There always is one: the table is never
 * full. */
static size_t find(const struct binding_subports *subports, uint32_t hash, const char *name, size_t length)
{
	size_t i = hash & subports->mask;
	for (;; i = (i + 1) & subports->mask) {
		const struct slot *slot = &subports->slots[i];
		if (!slot->subport)
			return i;
		if (slot->hash == hash && slot->length == length && memcmp(slot->subport->name, name, length) == 0)
			return i;
	}
}

static uint32_t hash_name(const char *name, size_t length)
{
	return hash_finish(hash_add(HASH_START, name, length));
}

void subports_add(struct binding_subports *subports, struct cp_arena *arena, const char *name, size_t length,
				  struct cp_router *router)
{
	uint32_t hash = hash_name(name, length);
	struct slot *slot = &subports->slots[find(subports, hash, name, length)];
	if (slot->subport)
		return;
	struct subport *subport = cp_arena_alloc(arena, sizeof(*subport) + length);
	subport->router = router;
	memcpy(subport->name, name, length);
	*slot = (struct slot){subport, hash, (uint32_t)length};
}

struct cp_router *subports_find(const struct binding_subports *subports, const char *name, size_t length)
{
	const struct subport *subport = subports->slots[find(subports, hash_name(name, length), name, length)].subport;
	return subport ? subport->router : NULL;
}
