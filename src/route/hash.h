/** Hash of names that come from the configuration (not from the network: whoever could choose colliding names could as
 * well leave them out). FNV-1a, 32 bits, http://www.isthe.com/chongo/tech/comp/fnv/, with the finish of MurmurHash3 so
 * that the low bits serve as an index. */
#ifndef ROUTE_HASH_H
#define ROUTE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define HASH_START 0x811c9dc5u

static inline uint32_t hash_add(uint32_t hash, const void *bytes, size_t length)
{
	const unsigned char *at = bytes;
	for (size_t i = 0; i < length; i++)
		hash = (hash ^ at[i]) * 0x01000193u;
	return hash;
}

static inline uint32_t hash_finish(uint32_t hash)
{
	hash = (hash ^ (hash >> 16)) * 0x85ebca6bu;
	hash = (hash ^ (hash >> 13)) * 0xc2b2ae35u;
	return hash ^ (hash >> 16);
}

/** Slots for a table of `count` entries with open addressing: a power of two, at most two thirds full. */
static inline size_t hash_slots(size_t count)
{
	size_t slots = 8;
	while (slots * 2 < count * 3)
		slots *= 2;
	return slots;
}

#endif
