/* The cache of names: see resolver_cache.h. A hash table for finding, a list by last use for forgetting. */
#include "resolver_cache.h"

#include "../base/memory.h"

#include <stdlib.h>
#include <string.h>

/** FNV-1a (http://www.isthe.com/chongo/tech/comp/fnv/). Names made to collide cost at most CACHE_NAMES comparisons of
 * a number. */
static uint32_t hash_of(const char *text)
{
	uint32_t hash = 2166136261u;

	for (; *text; text++)
		hash = (hash ^ (uint8_t)*text) * 16777619u;
	return hash;
}

static struct cache_name **link_of(struct cache *cache, uint32_t hash, const char *text)
{
	struct cache_name **link = &cache->buckets[hash % CACHE_BUCKETS];

	while (*link && ((*link)->hash != hash || strcmp((*link)->text, text) != 0))
		link = &(*link)->next;
	return link;
}

/* ---- The list by last use ----------------------------------------------------------------------------------- */

static void list_remove(struct cache *cache, struct cache_name *name)
{
	*(name->newer ? &name->newer->older : &cache->newest) = name->older;
	*(name->older ? &name->older->newer : &cache->oldest) = name->newer;
}

static void list_add(struct cache *cache, struct cache_name *name)
{
	name->newer = NULL;
	name->older = cache->newest;
	*(name->older ? &name->older->newer : &cache->oldest) = name;
	cache->newest = name;
}

/* ---- Forgetting --------------------------------------------------------------------------------------------- */

static void forget(struct cache *cache, struct cache_name *name)
{
	struct cache_name **link = link_of(cache, name->hash, name->text);

	*link = name->next;
	list_remove(cache, name);
	cache->count--;
	if (name->answer) {
		name->answer->next = cache->dropped;
		cache->dropped = name->answer;
	}
	free(name);
}

static bool may_go(const struct cache_name *name)
{
	return !name->asking && !name->telling;
}

static struct cache_name *least_worth(struct cache *cache)
{
	struct cache_name *oldest = NULL;

	for (struct cache_name *name = cache->oldest; name; name = name->newer) {
		if (!may_go(name))
			continue;
		if (!name->answer)
			return name;
		if (!oldest)
			oldest = name;
	}
	return oldest;
}

uint64_t cache_sweep(struct cache *cache, uint64_t now)
{
	struct cache_name *name = cache->oldest, *newer;

	for (; name && name->used + CACHE_UNUSED <= now; name = newer) {
		newer = name->newer;
		if (may_go(name))
			forget(cache, name);
	}
	if (!cache->oldest)
		return 0;
	/* One that is being looked up just now is old, but cannot go yet. */
	return cache->oldest == name ? name->used + CACHE_UNUSED : now + CACHE_UNUSED;
}

void cache_clear(struct cache *cache)
{
	while (cache->oldest)
		forget(cache, cache->oldest);
}

/* ---- Finding and adding ------------------------------------------------------------------------------------- */

struct cache_name *cache_find(struct cache *cache, const char *text)
{
	return *link_of(cache, hash_of(text), text);
}

struct cache_name *cache_add(struct cache *cache, const char *text, uint64_t now)
{
	struct cache_name *name, **bucket;
	size_t size = strlen(text) + 1;

	if (cache->count >= CACHE_NAMES) {
		name = least_worth(cache);
		if (!name)
			return NULL;
		forget(cache, name);
	}
	name = xcalloc(1, sizeof(*name) + size);
	memcpy(name->text, text, size);
	name->hash = hash_of(text);
	name->used = now;
	bucket = &cache->buckets[name->hash % CACHE_BUCKETS];
	name->next = *bucket;
	*bucket = name;
	list_add(cache, name);
	cache->count++;
	return name;
}

void cache_touch(struct cache *cache, struct cache_name *name, uint64_t now)
{
	name->used = now;
	if (name == cache->newest)
		return;
	list_remove(cache, name);
	list_add(cache, name);
}
