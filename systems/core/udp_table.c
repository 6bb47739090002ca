/* Peers by their key. See udp_table.h. */
#include "udp_table.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum { BUCKETS_FIRST = 64 };

/* ---- Hash ---------------------------------------------------------------------------------------------------- */

struct sip {
	uint64_t v0, v1, v2, v3;
};

static inline uint64_t rotate(uint64_t word, int bits)
{
	return word << bits | word >> (64 - bits);
}

static inline void sip_round(struct sip *s)
{
	s->v0 += s->v1;
	s->v1 = rotate(s->v1, 13) ^ s->v0;
	s->v0 = rotate(s->v0, 32);
	s->v2 += s->v3;
	s->v3 = rotate(s->v3, 16) ^ s->v2;
	s->v0 += s->v3;
	s->v3 = rotate(s->v3, 21) ^ s->v0;
	s->v2 += s->v1;
	s->v1 = rotate(s->v1, 17) ^ s->v2;
	s->v2 = rotate(s->v2, 32);
}

static inline void sip_word(struct sip *s, uint64_t word)
{
	s->v3 ^= word;
	sip_round(s);
	s->v0 ^= word;
}

uint32_t udp_table_hash(const struct udp_table *table, const struct udp_key *key)
{
	uint64_t words[sizeof(*key) / sizeof(uint64_t)];
	struct sip s = {
		table->secret[0] ^ 0x736f6d6570736575u,
		table->secret[1] ^ 0x646f72616e646f6du,
		table->secret[0] ^ 0x6c7967656e657261u,
		table->secret[1] ^ 0x7465646279746573u,
	};
	memcpy(words, key, sizeof(words));
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		sip_word(&s, words[i]);
	sip_word(&s, (uint64_t)sizeof(words) << 56);
	s.v2 ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(&s);
	return (uint32_t)(s.v0 ^ s.v1 ^ s.v2 ^ s.v3);
}

/** Early after the start of a machine there may be no randomness yet; one does not wait for it here. */
static void make_secret(uint64_t secret[2])
{
	if (getrandom(secret, 2 * sizeof(secret[0]), GRND_NONBLOCK) == 2 * sizeof(secret[0]))
		return;
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	secret[0] = (uint64_t)now.tv_nsec * 0x9e3779b97f4a7c15u ^ (uint64_t)now.tv_sec;
	secret[1] = (uint64_t)(uintptr_t)secret * 0xbf58476d1ce4e5b9u ^ secret[0];
}

/* ---- Table --------------------------------------------------------------------------------------------------- */

bool udp_table_init(struct udp_table *table)
{
	*table = (struct udp_table){.mask = BUCKETS_FIRST - 1};
	make_secret(table->secret);
	table->buckets = calloc(BUCKETS_FIRST, sizeof(table->buckets[0]));
	return table->buckets != NULL;
}

void udp_table_deinit(struct udp_table *table)
{
	free(table->buckets);
}

struct udp_entry *udp_table_find(const struct udp_table *table, const struct udp_key *key, uint32_t hash)
{
	struct udp_entry *entry = table->buckets[hash & table->mask];
	while (entry && (entry->hash != hash || memcmp(&entry->key, key, sizeof(*key)) != 0))
		entry = entry->next;
	return entry;
}

/** Without memory for it the chains just become longer. */
static void grow(struct udp_table *table)
{
	uint32_t mask = table->mask * 2 + 1;
	struct udp_entry **buckets = calloc((size_t)mask + 1, sizeof(buckets[0]));
	if (!buckets)
		return;
	for (uint32_t i = 0; i <= table->mask; i++) {
		struct udp_entry *entry = table->buckets[i];
		while (entry) {
			struct udp_entry *next = entry->next;
			entry->next = buckets[entry->hash & mask];
			buckets[entry->hash & mask] = entry;
			entry = next;
		}
	}
	free(table->buckets);
	table->buckets = buckets;
	table->mask = mask;
}

void udp_table_add(struct udp_table *table, struct udp_entry *entry)
{
	if (table->count > table->mask)
		grow(table);
	struct udp_entry **bucket = &table->buckets[entry->hash & table->mask];
	entry->next = *bucket;
	entry->listed = true;
	*bucket = entry;
	table->count++;
}

void udp_table_remove(struct udp_table *table, struct udp_entry *entry)
{
	if (!entry->listed)
		return;
	struct udp_entry **at = &table->buckets[entry->hash & table->mask];
	while (*at != entry)
		at = &(*at)->next;
	*at = entry->next;
	entry->listed = false;
	table->count--;
}
