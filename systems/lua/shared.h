/** connpipe.shared: keys and values that all workers see.
 *
 * One store for each system id, which lives as long as any generation has a system of that id: so it survives reloads.
 * Memory is bounded: when a shard is full, what was not used for the longest time goes. A key is in one of SHARDS
 * shards, each with a lock of its own, so that workers seldom meet.
 *
 * Thread: any. */
#ifndef LUA_SHARED_H
#define LUA_SHARED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct shared;

enum shared_kind { SHARED_NUMBER, SHARED_BOOL, SHARED_STRING };

struct shared_value {
	enum shared_kind kind;
	double number;
	bool truth;
	const char *text;
	size_t length;
};

/** Outcome of a call that changes something. */
enum shared_result { SHARED_OK, SHARED_EXISTS, SHARED_MISSING, SHARED_NO_NUMBER, SHARED_TOO_LARGE };

/** The store of that id, made if there is none. @param bytes  the most it holds; the last word counts */
struct shared *shared_get(const char *id, size_t bytes);
void shared_put(struct shared *shared);

/** Look up. @param found  called under the lock with the value, which it must copy @return whether it was there */
bool shared_read(struct shared *shared, const char *key, size_t length, uint64_t now,
				 void (*found)(const struct shared_value *value, void *arg), void *arg);
/** Set, or with `add` only what is not there yet. @param expires  milliseconds on the clock of `now`; 0: never */
enum shared_result shared_set(struct shared *shared, const char *key, size_t length, const struct shared_value *value,
							  bool add, uint64_t now, uint64_t expires);
bool shared_delete(struct shared *shared, const char *key, size_t length, uint64_t now);
/** Add `delta` to the number there. What is not there begins with *initial (NULL: then that is an error), and expires.
 * @param sum  set to the new number */
enum shared_result shared_add(struct shared *shared, const char *key, size_t length, double delta,
							  const double *initial, uint64_t now, uint64_t expires, double *sum);

#endif
