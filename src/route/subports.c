#include "subports.h"

#include "hash.h"

#include <string.h>

/* Open addressing with linear probing; an empty slot has no name. Hash and length are compared before the text is
 * touched, so a look-up costs about one cache miss here and one in the text. */
struct subport {
	const char *name;
	struct cp_router *router;
	uint32_t hash;
	uint32_t length;
};

struct binding_subports {
	size_t mask;
	struct subport slots[];
};

struct binding_subports *subports_new(struct cp_arena *arena, size_t count)
{
	size_t slots = hash_slots(count);
	struct binding_subports *subports = cp_arena_alloc(arena, sizeof(*subports) + slots * sizeof(*subports->slots));
	subports->mask = slots - 1;
	memset(subports->slots, 0, slots * sizeof(*subports->slots));
	return subports;
}

/** The slot of that name, or the empty one where it would be. There always is one: the table is never full. */
static const struct subport *find(const struct binding_subports *subports, uint32_t hash, const char *name,
								  size_t length)
{
	for (size_t i = hash & subports->mask;; i = (i + 1) & subports->mask) {
		const struct subport *slot = &subports->slots[i];
		if (!slot->name)
			return slot;
		if (slot->hash == hash && slot->length == length && memcmp(slot->name, name, length) == 0)
			return slot;
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
	struct subport *slot = &subports->slots[find(subports, hash, name, length) - subports->slots];
	if (slot->name)
		return;
	slot->name = cp_arena_strndup(arena, name, length);
	slot->router = router;
	slot->hash = hash;
	slot->length = (uint32_t)length;
}

struct cp_router *subports_find(const struct binding_subports *subports, const char *name, size_t length)
{
	return find(subports, hash_name(name, length), name, length)->router;
}
