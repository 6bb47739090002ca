/** Counters: numbers that systems and the core count up, visible in `connpipe ctl status`.
 *
 * A counter is interned by name for the life of the process, so it goes on over reloads. Each loop has its own slot:
 * counting is one addition without locks. */
#ifndef CONNPIPE_COUNTER_H
#define CONNPIPE_COUNTER_H

#include <connpipe/abi.h>

#include <stdint.h>

CP_BEGIN_DECLS

struct cp_loop;

/** Number of a counter; counting CP_COUNTER_NONE does nothing. */
typedef uint32_t cp_counter;
#define CP_COUNTER_NONE ((cp_counter)UINT32_MAX)

enum cp_counter_kind {
	CP_COUNTER, /**< only grows: connections accepted */
	CP_GAUGE,   /**< goes up and down: connections open */
};

/** The counter of that name, made at the first call, which also decides kind and help. Name: lower-case letters and
 * digits, words joined by `_` (`connections_accepted`); a system puts its own word in front. `help` is one sentence.
 * Both are copied. Thread: any.
 * @return CP_COUNTER_NONE, after a line in the log, when there is no room or the name is none */
CP_API cp_counter cp_counter_get(const char *name, enum cp_counter_kind kind, const char *help);

/** Add `amount` (negative only for gauges). Thread: the loop's own. */
CP_API void cp_count(struct cp_loop *loop, cp_counter counter, int64_t amount);

/** The sum over all loops. Thread: any; the sum of numbers read one after another. */
CP_API int64_t cp_counter_sum(cp_counter counter);

CP_END_DECLS
#endif
