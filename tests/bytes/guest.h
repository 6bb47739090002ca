/** Connections of which the target may never hear, or only later: clients that reset before there is anything to
 * deliver (FATE_GONE), and those that went while the target did not accept (FATE_STUCK). Their targets share a socket
 * each, so what comes is found by its bytes. */
#ifndef BYTES_GUEST_H
#define BYTES_GUEST_H

#include "plan.h"

struct guests_count {
	unsigned long gone, gone_arrived, stuck, stuck_arrived, failed;
};

/** From connecting to the end, at once. @param fd  a client that is connected, taken */
void guest_client(const struct plan *plan, int fd);

/** The target's end of one; takes `fd`. @return its number, for guest_ready() */
uint32_t guest_accept(enum fate fate, int fd);
void guest_ready(uint32_t number);

/** At the end: whether all those came and ended that have to. Says what is wrong on stderr. */
struct guests_count guests_check(void);

#endif
