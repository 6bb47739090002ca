/** Datagrams that have arrived and wait for their reader: those of the read that is being handled, which are lent, and
 * behind them a bounded queue of copies. */
#ifndef SYSTEMS_CORE_UDP_INBOX_H
#define SYSTEMS_CORE_UDP_INBOX_H

#include "udp.h"

enum {
	UDP_INBOX_MOST = 64,                 /* reads of the socket that one inbox keeps … */
	UDP_INBOX_BYTES = 256 * 1024,        /* … and their bytes */
	UDP_QUEUED_BYTES = 64 * 1024 * 1024, /* of all inboxes of a worker, with what each read takes beside its bytes */
};

/** What is left of one read of the socket: one datagram, or several of `segment` bytes, the last of which may be
 * shorter. */
struct udp_slice {
	const char *at; /* NULL: nothing */
	uint32_t length;
	uint16_t segment; /* 0: it is one */
	uint16_t piece;   /* bytes left of one that was read in part */
};

struct udp_queued;

struct udp_inbox {
	struct udp_slice now; /* what is read next: lent, or of the first that is queued */
	struct udp_queued *first, *last;
	uint32_t bytes;
	uint16_t count;
};

static inline bool udp_inbox_empty(const struct udp_inbox *inbox)
{
	return !inbox->now.at;
}

/** How many datagrams these are. */
static inline uint32_t udp_datagrams(size_t length, unsigned segment)
{
	return segment && length > segment ? (uint32_t)((length + segment - 1) / segment) : 1;
}

/** Lend an empty inbox what was just read, until udp_inbox_keep(). @param segment  as in struct udp_slice */
void udp_inbox_lend(struct udp_inbox *inbox, const char *at, size_t length, unsigned segment);
/** Copy what is left of what was lent. @return how many datagrams had to be dropped */
uint32_t udp_inbox_keep(struct udp_inbox *inbox, struct udp_worker *worker);
/** Copy to the end of the queue; nothing may be lent. @return how many datagrams had to be dropped: all or none */
uint32_t udp_inbox_put(struct udp_inbox *inbox, struct udp_worker *worker, const char *at, size_t length,
					   unsigned segment);

/** cp_stream_ops.read of what is there; not for an empty inbox. Sets CP_READ_MORE or the size of segments in `hints`.
 */
size_t udp_inbox_read(struct udp_inbox *inbox, struct udp_worker *worker, const struct iovec *vec, int count,
					  unsigned *hints);

/** Drop everything. */
void udp_inbox_clear(struct udp_inbox *inbox, struct udp_worker *worker);

#endif
