#include "shared.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { SHARDS = 16, BUCKETS_FIRST = 64 };

struct entry {
	struct entry *next;          /* in its bucket */
	struct entry *newer, *older; /* by use */
	uint64_t expires;            /* 0: never */
	uint64_t hash;
	size_t key_length;
	struct shared_value value; /* its text lies behind the key */
	char bytes[];
};

struct shard {
	pthread_mutex_t lock;
	struct entry **buckets;
	size_t bucket_count, count;
	size_t used; /* bytes, table included */
	struct entry *newest, *oldest;
};

struct shared {
	struct shared *next;
	char *id;
	unsigned refs;      /* under stores_lock */
	atomic_size_t most; /* bytes in each shard */
	struct shard shards[SHARDS];
};

static pthread_mutex_t stores_lock = PTHREAD_MUTEX_INITIALIZER;
static struct shared *stores;

static void *must(void *memory)
{
	if (!memory)
		abort();
	return memory;
}

/* ---- Entries: under the shard's lock ------------------------------------------------------------------------ */

/** FNV-1a (http://www.isthe.com/chongo/tech/comp/fnv/). Keys are a trusted script's; a shard is bounded in any case. */
static uint64_t hash_of(const char *key, size_t length)
{
	uint64_t hash = 14695981039346656037u;
	for (size_t i = 0; i < length; i++)
		hash = (hash ^ (unsigned char)key[i]) * 1099511628211u;
	return hash ^ (hash >> 32);
}

static size_t size_of(const struct entry *entry)
{
	return sizeof(*entry) + entry->key_length + (entry->value.kind == SHARED_STRING ? entry->value.length : 0);
}

static struct entry **bucket_of(struct shard *shard, uint64_t hash)
{
	return &shard->buckets[(hash / SHARDS) & (shard->bucket_count - 1)];
}

static void unlink_use(struct shard *shard, struct entry *entry)
{
	*(entry->newer ? &entry->newer->older : &shard->newest) = entry->older;
	*(entry->older ? &entry->older->newer : &shard->oldest) = entry->newer;
}

static void link_newest(struct shard *shard, struct entry *entry)
{
	entry->newer = NULL;
	entry->older = shard->newest;
	*(shard->newest ? &shard->newest->newer : &shard->oldest) = entry;
	shard->newest = entry;
}

static void drop(struct shard *shard, struct entry *entry)
{
	struct entry **at = bucket_of(shard, entry->hash);
	while (*at != entry)
		at = &(*at)->next;
	*at = entry->next;
	unlink_use(shard, entry);
	shard->used -= size_of(entry);
	shard->count--;
	free(entry);
}

/** The entry of that key that has not expired, now the newest in use; NULL if there is none. */
static struct entry *find(struct shard *shard, uint64_t hash, const char *key, size_t length, uint64_t now)
{
	struct entry *entry = *bucket_of(shard, hash);
	while (entry && (entry->hash != hash || entry->key_length != length || memcmp(entry->bytes, key, length) != 0))
		entry = entry->next;
	if (!entry)
		return NULL;
	if (entry->expires && entry->expires <= now) {
		drop(shard, entry);
		return NULL;
	}
	unlink_use(shard, entry);
	link_newest(shard, entry);
	return entry;
}

static void grow(struct shard *shard)
{
	struct entry **old = shard->buckets;
	size_t old_count = shard->bucket_count;
	shard->bucket_count *= 2;
	shard->buckets = must(calloc(shard->bucket_count, sizeof(struct entry *)));
	shard->used += old_count * sizeof(struct entry *);
	for (size_t i = 0; i < old_count; i++) {
		for (struct entry *entry = old[i], *next; entry; entry = next) {
			struct entry **bucket = bucket_of(shard, entry->hash);
			next = entry->next;
			entry->next = *bucket;
			*bucket = entry;
		}
	}
	free(old);
}

static enum shared_result insert(struct shard *shard, size_t most, uint64_t hash, const char *key, size_t length,
								 const struct shared_value *value, uint64_t expires)
{
	size_t text = value->kind == SHARED_STRING ? value->length : 0, size = sizeof(struct entry) + length + text;
	size_t table = shard->bucket_count * sizeof(struct entry *);
	if (table + size > most)
		return SHARED_TOO_LARGE;
	while (shard->used + size > most)
		drop(shard, shard->oldest);
	struct entry *entry = must(malloc(size));
	*entry = (struct entry){.expires = expires, .hash = hash, .key_length = length, .value = *value};
	memcpy(entry->bytes, key, length);
	if (text)
		memcpy(entry->bytes + length, value->text, text);
	entry->value.text = entry->bytes + length;
	struct entry **bucket = bucket_of(shard, hash);
	entry->next = *bucket;
	*bucket = entry;
	link_newest(shard, entry);
	shard->used += size;
	/* The table grows only while it stays a small part of what the shard may hold. */
	if (++shard->count > shard->bucket_count && table * 4 < most)
		grow(shard);
	return SHARED_OK;
}

static struct shard *lock(struct shared *shared, uint64_t hash)
{
	struct shard *shard = &shared->shards[hash % SHARDS];
	pthread_mutex_lock(&shard->lock);
	return shard;
}

/* ---- Calls -------------------------------------------------------------------------------------------------- */

bool shared_read(struct shared *shared, const char *key, size_t length, uint64_t now,
				 void (*found)(const struct shared_value *value, void *arg), void *arg)
{
	uint64_t hash = hash_of(key, length);
	struct shard *shard = lock(shared, hash);
	struct entry *entry = find(shard, hash, key, length, now);
	if (entry)
		found(&entry->value, arg);
	pthread_mutex_unlock(&shard->lock);
	return entry != NULL;
}

enum shared_result shared_set(struct shared *shared, const char *key, size_t length, const struct shared_value *value,
							  bool add, uint64_t now, uint64_t expires)
{
	uint64_t hash = hash_of(key, length);
	struct shard *shard = lock(shared, hash);
	struct entry *entry = find(shard, hash, key, length, now);
	enum shared_result result = SHARED_EXISTS;
	if (entry && !add)
		drop(shard, entry);
	if (!entry || !add)
		result = insert(shard, atomic_load(&shared->most), hash, key, length, value, expires);
	pthread_mutex_unlock(&shard->lock);
	return result;
}

bool shared_delete(struct shared *shared, const char *key, size_t length, uint64_t now)
{
	uint64_t hash = hash_of(key, length);
	struct shard *shard = lock(shared, hash);
	struct entry *entry = find(shard, hash, key, length, now);
	if (entry)
		drop(shard, entry);
	pthread_mutex_unlock(&shard->lock);
	return entry != NULL;
}

enum shared_result shared_add(struct shared *shared, const char *key, size_t length, double delta,
							  const double *initial, uint64_t now, uint64_t expires, double *sum)
{
	uint64_t hash = hash_of(key, length);
	struct shard *shard = lock(shared, hash);
	struct entry *entry = find(shard, hash, key, length, now);
	enum shared_result result = SHARED_OK;
	if (entry && entry->value.kind != SHARED_NUMBER) {
		result = SHARED_NO_NUMBER;
	} else if (entry) {
		*sum = entry->value.number += delta;
	} else if (initial) {
		struct shared_value value = {.kind = SHARED_NUMBER, .number = *initial + delta};
		*sum = value.number;
		result = insert(shard, atomic_load(&shared->most), hash, key, length, &value, expires);
	} else {
		result = SHARED_MISSING;
	}
	pthread_mutex_unlock(&shard->lock);
	return result;
}

/* ---- Stores ------------------------------------------------------------------------------------------------- */

static struct shared *make(const char *id)
{
	struct shared *shared = must(calloc(1, sizeof(*shared)));
	shared->id = must(strdup(id));
	for (size_t i = 0; i < SHARDS; i++) {
		struct shard *shard = &shared->shards[i];
		pthread_mutex_init(&shard->lock, NULL);
		shard->bucket_count = BUCKETS_FIRST;
		shard->buckets = must(calloc(BUCKETS_FIRST, sizeof(struct entry *)));
		shard->used = BUCKETS_FIRST * sizeof(struct entry *);
	}
	shared->next = stores;
	stores = shared;
	return shared;
}

struct shared *shared_get(const char *id, size_t bytes)
{
	pthread_mutex_lock(&stores_lock);
	struct shared *shared = stores;
	while (shared && strcmp(shared->id, id) != 0)
		shared = shared->next;
	if (!shared)
		shared = make(id);
	shared->refs++;
	atomic_store(&shared->most, bytes / SHARDS);
	pthread_mutex_unlock(&stores_lock);
	return shared;
}

static void destroy(struct shared *shared)
{
	struct shared **at = &stores;
	while (*at != shared)
		at = &(*at)->next;
	*at = shared->next;
	for (size_t i = 0; i < SHARDS; i++) {
		while (shared->shards[i].oldest)
			drop(&shared->shards[i], shared->shards[i].oldest);
		free(shared->shards[i].buckets);
		pthread_mutex_destroy(&shared->shards[i].lock);
	}
	free(shared->id);
	free(shared);
}

void shared_put(struct shared *shared)
{
	pthread_mutex_lock(&stores_lock);
	if (--shared->refs == 0)
		destroy(shared);
	pthread_mutex_unlock(&stores_lock);
}
