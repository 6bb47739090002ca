/** Names: what pipes are called in logs and in `ctl pipes`. Pipes of one route share them, so that neither time nor
 * memory is spent on texts for each connection. Thread: the worker's. */
#ifndef TASK_NAMES_H
#define TASK_NAMES_H

#include <stddef.h>
#include <stdint.h>

struct cp_address;

enum { NAMES_TEXT = 1024 }; /* of an address; longer ones are cut there */

/** The incoming address, the id of the router ("" while not known), the target ("" likewise). */
struct names {
	uint32_t users;
	uint16_t router, target, subport; /* offsets in `text`; the subport is only there to be compared */
	char text[];
};

/** What the texts are made of. */
struct names_key {
	const struct cp_address *incoming; /* without the subport, if there is one */
	const struct cp_address *target;   /* may be NULL */
	const char *router;                /* may be NULL */
	const char *subport;
	size_t subport_length;
};

enum { NAMES_CACHED = 64 };

/** The names used last, by what they were made of. Valid as long as those addresses are: a generation. */
struct names_cache {
	struct names_cached {
		const struct cp_address *incoming, *target;
		const char *router;
		size_t subport_length;
		struct names *names;
	} at[NAMES_CACHED];
};

/** @param incoming  the whole address, as it is to be shown */
struct names *names_new(const struct cp_address *incoming, const char *router, const struct cp_address *target);
/** Likewise, from the cache if such were asked for lately. What `key` points to lives as long as the cache is used. */
struct names *names_get(struct names_cache *cache, const struct names_key *key, const struct cp_address *incoming);
/** @param names  may be NULL */
void names_put(struct names *names);
/** Forget everything. */
void names_cache_clear(struct names_cache *cache);

#endif
