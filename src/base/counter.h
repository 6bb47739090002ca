/** The counters' own side: the slots of loops, and all counters at once. See connpipe/counter.h.
 *
 * A slot is written by one thread only, its loop's, so that counting is a plain load, addition and store (relaxed
 * atomics, no locked instruction); any thread may read it.
 *
 * cp_count() itself lives in src/loop/loop.c, since only that folder knows what is in a loop: it is counter_add() on
 * the loop's slots. */
#ifndef BASE_COUNTER_H
#define BASE_COUNTER_H

#include <connpipe/counter.h>

#include <stdint.h>

enum { COUNTERS_MAX = 1024 };

/** COUNTERS_MAX slots, zeroed, that count towards the sums from now on. Thread: any. */
int64_t *counter_slots_new(void);
/** Free them. What they counted stays in the sums. Thread: any, but the owner has counted for the last time. */
void counter_slots_free(int64_t *slots);

/** Thread: the slots' owner. CP_COUNTER_NONE is ignored. */
static inline void counter_add(int64_t *slots, cp_counter counter, int64_t amount)
{
	if (counter >= COUNTERS_MAX)
		return;
	__atomic_store_n(&slots[counter], __atomic_load_n(&slots[counter], __ATOMIC_RELAXED) + amount, __ATOMIC_RELAXED);
}

struct counter_info {
	const char *name, *help; /* for the life of the process */
	enum cp_counter_kind kind;
	int64_t sum;
};

/** Visit every counter in the order in which they were made. `visit` may call anything here. Thread: any. */
void counter_each(void (*visit)(const struct counter_info *info, void *arg), void *arg);

#endif
