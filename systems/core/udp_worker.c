/* What all udp sockets of a worker share: counters, buffers. */
#include "udp_wire.h"

#include <stdlib.h>

/** Of the calling thread, which has one loop. */
static _Thread_local struct udp_worker *current;

static void read_counters(struct udp_counters *counters)
{
	*counters = (struct udp_counters){
		.in = cp_counter_get("udp_datagrams_in", CP_COUNTER, "Datagrams received from clients."),
		.out = cp_counter_get("udp_datagrams_out", CP_COUNTER, "Datagrams sent to clients."),
		.dropped = cp_counter_get("udp_dropped", CP_COUNTER,
								  "Datagrams dropped because too many waited, or there was no memory."),
		.unsent = cp_counter_get("udp_unsent", CP_COUNTER,
								 "Datagrams that the kernel refused to send: too long, or no way there."),
		.icmp = cp_counter_get("udp_icmp_errors", CP_COUNTER,
							   "Errors that the network reported for datagrams sent to targets."),
		.refused = cp_counter_get("udp_refused", CP_COUNTER,
								  "Datagrams dropped because their peer's session was refused a moment ago."),
	};
}

struct udp_worker *udp_worker_ref(struct cp_loop *loop)
{
	if (!current || current->loop != loop) {
		struct udp_worker *worker = calloc(1, sizeof(*worker));
		if (!worker)
			return NULL;
		worker->loop = loop;
		read_counters(&worker->counters);
		current = worker;
	}
	current->users++;
	return current;
}

void udp_worker_unref(struct udp_worker *worker)
{
	if (--worker->users > 0)
		return;
	if (current == worker)
		current = NULL;
	free(worker->batch);
	free(worker->scratch);
	free(worker);
}

char *udp_worker_scratch(struct udp_worker *worker)
{
	if (!worker->scratch)
		worker->scratch = malloc(UDP_READ);
	return worker->scratch;
}
