/* Pool. See pool.h.
 *
 *     chunk, aligned to its size:   head │ object │ object │ … never used yet …
 *
 * An object finds its chunk by the address, so it needs no word for that. One empty chunk is kept for what comes next.
 * Sanitizers see every object as an allocation of its own. */
#include "pool.h"

#include "memory.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define POOL_MALLOC 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define POOL_MALLOC 1
#endif
#endif

#ifdef POOL_MALLOC

void *pool_take(struct pool *pool)
{
	return xcalloc(1, pool->bytes);
}

void pool_give(struct pool *pool, void *object)
{
	(void)pool;
	free(object);
}

void pool_deinit(struct pool *pool)
{
	(void)pool;
}

#else

enum {
	CHUNK = 65536,
	HEAD = 64, /* before the first object: objects of whole cache lines begin on one */
};

struct pool_chunk {
	struct pool_chunk *next, **prev; /* among those with room; prev NULL: it has none */
	void *free;                      /* given back; linked by their first word */
	char *fresh;                     /* from here on never used */
	uint32_t used;
};

_Static_assert(sizeof(struct pool_chunk) <= HEAD, "the head has to fit before the first object");

static void link_chunk(struct pool *pool, struct pool_chunk *chunk)
{
	chunk->next = pool->room;
	chunk->prev = &pool->room;
	if (chunk->next)
		chunk->next->prev = &chunk->next;
	pool->room = chunk;
}

static void unlink_chunk(struct pool_chunk *chunk)
{
	*chunk->prev = chunk->next;
	if (chunk->next)
		chunk->next->prev = chunk->prev;
	chunk->prev = NULL;
}

/** CHUNK bytes at a multiple of CHUNK, straight from the kernel: malloc() would put its head on a page of its own. */
static void *map_chunk(void)
{
	char *at = mmap(NULL, 2 * CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED)
		no_memory();
	size_t before = -(uintptr_t)at & (CHUNK - 1);
	if (before)
		munmap(at, before);
	munmap(at + before + CHUNK, CHUNK - before);
	return at + before;
}

static struct pool_chunk *add_chunk(struct pool *pool)
{
	struct pool_chunk *chunk = map_chunk();
	*chunk = (struct pool_chunk){.fresh = (char *)chunk + HEAD};
	link_chunk(pool, chunk);
	pool->chunks++;
	return chunk;
}

static void remove_chunk(struct pool *pool, struct pool_chunk *chunk)
{
	unlink_chunk(chunk);
	munmap(chunk, CHUNK);
	pool->chunks--;
}

static bool has_room(const struct pool *pool, const struct pool_chunk *chunk)
{
	return chunk->free || chunk->fresh + pool->bytes <= (const char *)chunk + CHUNK;
}

void *pool_take(struct pool *pool)
{
	struct pool_chunk *chunk = pool->room ? pool->room : add_chunk(pool);
	if (chunk == pool->empty)
		pool->empty = NULL;
	void *object = chunk->free;
	if (object) {
		memcpy(&chunk->free, object, sizeof(chunk->free));
	} else {
		object = chunk->fresh;
		chunk->fresh += pool->bytes;
	}
	chunk->used++;
	if (!has_room(pool, chunk))
		unlink_chunk(chunk);
	return memset(object, 0, pool->bytes);
}

/** The chunk holds nothing any more: keep one such for what comes next. */
static void emptied(struct pool *pool, struct pool_chunk *chunk)
{
	if (!pool->empty)
		pool->empty = chunk;
	else
		remove_chunk(pool, chunk);
}

void pool_give(struct pool *pool, void *object)
{
	struct pool_chunk *chunk = (struct pool_chunk *)((uintptr_t)object & ~(uintptr_t)(CHUNK - 1));
	memcpy(object, &chunk->free, sizeof(chunk->free));
	chunk->free = object;
	chunk->used--;
	if (!chunk->prev)
		link_chunk(pool, chunk);
	if (chunk->used == 0)
		emptied(pool, chunk);
}

void pool_deinit(struct pool *pool)
{
	pool->empty = NULL;
	for (struct pool_chunk *chunk = pool->room, *next; chunk; chunk = next) {
		next = chunk->next;
		if (chunk->used)
			continue;
		remove_chunk(pool, chunk);
	}
}

#endif
