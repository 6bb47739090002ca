#include "limits.h"

#include "../base/memory.h"

#include <connpipe/error.h>
#include <connpipe/hash.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
	SHARDS = 64,
	BUCKETS_LEAST = 64,
	TOKEN = 1000, /* a bucket counts thousandths of a connection, so that a millisecond's share is a whole number */
	FORGET_MS = 10000, /* a source without connections is forgotten when its rate has had time to fill up */
};

/** One source. */
struct source {
	struct source *next;
	struct cp_ip ip;
	uint32_t open;
	uint64_t tokens; /* in 1/TOKEN */
	uint64_t seen_ms;
};

struct shard {
	pthread_mutex_t lock;
	struct source **buckets;
	uint32_t bucket_count, count;
};

struct limits {
	atomic_uint open[LIMITS_TOTALS];
	struct shard shards[SHARDS];
	struct cp_hash_secret secret; /* whoever sends datagrams chooses sources */
};

struct limits *limits_new(void)
{
	struct limits *limits = xcalloc(1, sizeof(*limits));
	limits->secret = cp_hash_secret_make();
	for (int i = 0; i < SHARDS; i++)
		pthread_mutex_init(&limits->shards[i].lock, NULL);
	return limits;
}

static void shard_free(struct shard *shard)
{
	for (uint32_t i = 0; i < shard->bucket_count; i++) {
		while (shard->buckets[i]) {
			struct source *source = shard->buckets[i];
			shard->buckets[i] = source->next;
			free(source);
		}
	}
	free(shard->buckets);
	pthread_mutex_destroy(&shard->lock);
}

void limits_free(struct limits *limits)
{
	for (int i = 0; i < SHARDS; i++)
		shard_free(&limits->shards[i]);
	free(limits);
}

bool limits_enter(struct limits *limits, enum limits_total total, uint32_t most)
{
	uint32_t open = atomic_fetch_add_explicit(&limits->open[total], 1, memory_order_relaxed);
	if (open < most || most == 0)
		return true;
	limits_leave(limits, total);
	return false;
}

void limits_leave(struct limits *limits, enum limits_total total)
{
	atomic_fetch_sub_explicit(&limits->open[total], 1, memory_order_relaxed);
}

uint32_t limits_open(const struct limits *limits, enum limits_total total)
{
	return atomic_load_explicit(&limits->open[total], memory_order_relaxed);
}

/* ---- Sources ------------------------------------------------------------------------------------------------ */

/** What counts as one source. */
static struct cp_ip source_of(const struct cp_ip *ip)
{
	struct cp_ip source = *ip;
	if (source.family == 6)
		memset(source.bytes + 8, 0, 8);
	else
		memset(source.bytes + 4, 0, 12); /* not part of an IPv4 address, but of the hash */
	source.zone = 0;
	return source;
}

/** Of a source: what tells it apart is in the first half of an address. */
static uint64_t hash(const struct limits *limits, const struct cp_ip *ip)
{
	uint64_t words[2] = {0, ip->family};
	memcpy(words, ip->bytes, sizeof(words[0]));
	return cp_hash(&limits->secret, words, 2);
}

static void rehash(const struct limits *limits, struct shard *shard)
{
	uint32_t count = shard->bucket_count ? shard->bucket_count * 2 : BUCKETS_LEAST;
	struct source **buckets = xcalloc(count, sizeof(struct source *));
	for (uint32_t i = 0; i < shard->bucket_count; i++) {
		for (struct source *source = shard->buckets[i], *next; source; source = next) {
			uint64_t at = hash(limits, &source->ip) / SHARDS % count;
			next = source->next;
			source->next = buckets[at];
			buckets[at] = source;
		}
	}
	free(shard->buckets);
	shard->buckets = buckets;
	shard->bucket_count = count;
}

static bool is_stale(const struct source *source, uint64_t now)
{
	return source->open == 0 && now > source->seen_ms + FORGET_MS;
}

/** The place that points to the source, or to the end of its list. Forgets stale ones on the way. */
static struct source **find(struct shard *shard, const struct cp_ip *ip, uint64_t h, uint64_t now)
{
	struct source **at = &shard->buckets[h / SHARDS % shard->bucket_count];
	while (*at && !cp_ip_equal(&(*at)->ip, ip)) {
		struct source *source = *at;
		if (!is_stale(source, now)) {
			at = &source->next;
			continue;
		}
		*at = source->next;
		shard->count--;
		free(source);
	}
	return at;
}

static struct source *source_get(const struct limits *limits, struct shard *shard, const struct cp_ip *ip, uint64_t h,
								 uint32_t rate, uint64_t now)
{
	if (shard->count >= shard->bucket_count)
		rehash(limits, shard);
	struct source **at = find(shard, ip, h, now);
	if (!*at) {
		*at = xcalloc(1, sizeof(**at));
		(*at)->ip = *ip;
		(*at)->tokens = (uint64_t)rate * TOKEN;
		(*at)->seen_ms = now;
		shard->count++;
	}
	return *at;
}

/** Take a token. @return false when there is none */
static bool rate_allows(struct source *source, uint32_t rate, uint64_t now)
{
	uint64_t full = (uint64_t)rate * TOKEN;
	/* Each worker's clock stands still for a turn, so another one may have been here with a later time. */
	uint64_t passed = now > source->seen_ms ? now - source->seen_ms : 0;
	source->tokens += passed > TOKEN ? full : passed * rate; /* TOKEN per second = 1 per millisecond and rate */
	if (source->tokens > full)
		source->tokens = full;
	source->seen_ms += passed;
	if (source->tokens < TOKEN)
		return false;
	source->tokens -= TOKEN;
	return true;
}

enum cp_cause limits_source_enter(struct limits *limits, const struct cp_ip *ip, uint32_t most, uint32_t rate,
								  uint64_t now)
{
	struct cp_ip key = source_of(ip);
	uint64_t h = hash(limits, &key);
	struct shard *shard = &limits->shards[h % SHARDS];
	enum cp_cause cause = CP_CAUSE_NONE;
	pthread_mutex_lock(&shard->lock);
	struct source *source = source_get(limits, shard, &key, h, rate, now);
	if (most && source->open >= most)
		cause = CP_CAUSE_SOURCE_LIMIT;
	else if (rate && !rate_allows(source, rate, now))
		cause = CP_CAUSE_SOURCE_RATE;
	else
		source->open++;
	pthread_mutex_unlock(&shard->lock);
	return cause;
}

void limits_source_leave(struct limits *limits, const struct cp_ip *ip)
{
	struct cp_ip key = source_of(ip);
	uint64_t h = hash(limits, &key);
	struct shard *shard = &limits->shards[h % SHARDS];
	pthread_mutex_lock(&shard->lock);
	struct source **at = find(shard, &key, h, 0);
	if (*at)
		(*at)->open--;
	pthread_mutex_unlock(&shard->lock);
}
