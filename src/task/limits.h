/** Limits of connections and sessions: in all, per source, rate per source. One object for all workers; sources are
 * spread over shards with a lock each, and are kept only while a limit on them is set. Any thread. */
#ifndef TASK_LIMITS_H
#define TASK_LIMITS_H

#include <connpipe/address.h>
#include <connpipe/cause.h>

#include <stdint.h>

struct limits;

struct limits *limits_new(void);
void limits_free(struct limits *limits);

/** What is counted in all, each for itself. */
enum limits_total { LIMITS_CONNECTIONS, LIMITS_SESSIONS, LIMITS_TOTALS };

/** Count one more. @param most  0: no limit @return false: over `most`, it was not counted */
bool limits_enter(struct limits *limits, enum limits_total total, uint32_t most);
void limits_leave(struct limits *limits, enum limits_total total);
uint32_t limits_open(const struct limits *limits, enum limits_total total);

/** Count one more connection of a source (IPv6: of its /64, which one customer has).
 * @param most  connections open at once; 0: no limit
 * @param rate  new connections a second, with a burst of the same number; 0: no limit
 * @return CP_CAUSE_NONE, or why it is refused (then it was not counted) */
enum cp_cause limits_source_enter(struct limits *limits, const struct cp_ip *source, uint32_t most, uint32_t rate,
								  uint64_t now_ms);
/** For each connection that was counted. */
void limits_source_leave(struct limits *limits, const struct cp_ip *source);

#endif
