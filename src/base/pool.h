/** Pool: objects of one size, packed without a word of the allocator's between them, and handed out again and again.
 * Memory that no object needs any more goes back to the system. Thread: one. */
#ifndef BASE_POOL_H
#define BASE_POOL_H

#include <stddef.h>
#include <stdint.h>

struct pool_chunk;

/** Zeroed but for `bytes`, it is ready. */
struct pool {
	uint32_t bytes;           /* of an object; at least a pointer's, and a multiple of it */
	uint32_t chunks;          /* how many there are, with and without room */
	struct pool_chunk *room;  /* those with room */
	struct pool_chunk *empty; /* one of those that holds nothing, kept for what comes next; or NULL */
};

/** An object, zeroed. Ends the process when there is no memory (see memory.h). */
void *pool_take(struct pool *pool);
void pool_give(struct pool *pool, void *object);
/** Give back the memory that is kept for later. Objects that are still in use stay where they are. */
void pool_deinit(struct pool *pool);

#endif
