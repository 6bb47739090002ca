/* Peers by their key. See udp_table.h. */
#include "udp_table.h"

#include <stdlib.h>
#include <string.h>

enum { BUCKETS_FIRST = 64 };

bool udp_table_init(struct udp_table *table)
{
	*table = (struct udp_table){.secret = cp_hash_secret_make(), .mask = BUCKETS_FIRST - 1};
	table->buckets = calloc(BUCKETS_FIRST, sizeof(table->buckets[0]));
	return table->buckets != NULL;
}

void udp_table_deinit(struct udp_table *table)
{
	free(table->buckets);
}

uint32_t udp_table_hash(const struct udp_table *table, const struct udp_key *key)
{
	uint64_t words[sizeof(*key) / sizeof(uint64_t)];
	memcpy(words, key, sizeof(words));
	return (uint32_t)cp_hash(&table->secret, words, sizeof(words) / sizeof(words[0]));
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
