/** The names that a loop's resolver knows, by text and by last use. See resolver.c for what happens to them. */
#ifndef LOOP_RESOLVER_CACHE_H
#define LOOP_RESOLVER_CACHE_H

#include "resolver_query.h"

#include <connpipe/loop.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	CACHE_NAMES = 1024, /* more are not kept */
	CACHE_BUCKETS = 512,
	CACHE_UNUSED = 10 * 60000, /* milliseconds after which an unused name is forgotten */
};

/** One name. Its states:
 *
 *     answer  asking
 *     no      no       new; or it failed, as `code` and `reason` say, believed until `fresh_until`
 *     no      yes      the first look-up: who asks waits
 *     yes     no       known; after `fresh_until` the next use asks again
 *     yes     yes      known, and being refreshed: the old answer serves */
struct cache_name {
	struct cache_name *next;          /* in its bucket */
	struct cache_name *newer, *older; /* by last use */
	uint64_t used;                    /* last use */
	struct query_answer *answer;      /* the last good one */
	uint64_t fresh_until;
	bool asking;  /* a query is under way; the name stays */
	bool telling; /* those who waited are being told; the name stays */
	bool failing; /* `answer` is old, refreshing it fails, and the log was told */
	enum cp_err code;
	const char *reason;
	struct cp_resolve *waiting; /* the last one first */
	struct loop_resolver *resolver;
	uint32_t hash;
	char text[]; /* lower case */
};

/** Zeroed at first. */
struct cache {
	struct cache_name *buckets[CACHE_BUCKETS];
	struct cache_name *newest, *oldest;
	uint32_t count;
	struct query_answer *dropped; /* answers of names that were forgotten: the owner takes them */
};

/** @return NULL: not there */
struct cache_name *cache_find(struct cache *cache, const char *text);

/** Add a name that is not there, as the newest. A full cache forgets another one: the longest unused of those without
 * an answer, so that asking for names that do not exist drives out no good ones; else the longest unused.
 * @return NULL: every name is being looked up */
struct cache_name *cache_add(struct cache *cache, const char *text, uint64_t now);

/** It is used: make it the newest. */
void cache_touch(struct cache *cache, struct cache_name *name, uint64_t now);

/** Forget names that were not used for CACHE_UNUSED.
 * @return when to come again; 0: the cache is empty */
uint64_t cache_sweep(struct cache *cache, uint64_t now);

/** Forget all, looked up or not. */
void cache_clear(struct cache *cache);

#endif
