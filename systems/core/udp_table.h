/** Who has sent something to a bound socket lately: peers, found by their key. */
#ifndef SYSTEMS_CORE_UDP_TABLE_H
#define SYSTEMS_CORE_UDP_TABLE_H

#include "udp_wire.h"

#include <connpipe/hash.h>

/** Part of what is found. */
struct udp_entry {
	struct udp_entry *next;
	struct udp_key key;
	uint32_t hash;
	bool listed;  /* in the table */
	bool refused; /* it is a struct udp_refused, no session */
};

struct udp_table {
	struct cp_hash_secret secret; /* strangers choose the keys */
	struct udp_entry **buckets;
	uint32_t count, mask; /* mask + 1 buckets */
};

/** @return false: out of memory */
bool udp_table_init(struct udp_table *table);
/** It is empty. */
void udp_table_deinit(struct udp_table *table);

uint32_t udp_table_hash(const struct udp_table *table, const struct udp_key *key);
struct udp_entry *udp_table_find(const struct udp_table *table, const struct udp_key *key, uint32_t hash);
/** @param entry  its key and hash are set, and not in the table */
void udp_table_add(struct udp_table *table, struct udp_entry *entry);
/** Allowed for one that is not listed. */
void udp_table_remove(struct udp_table *table, struct udp_entry *entry);

#endif
