/** Sending and receiving datagrams: system calls, and what goes beside the bytes. */
#ifndef SYSTEMS_CORE_UDP_WIRE_H
#define SYSTEMS_CORE_UDP_WIRE_H

#include "udp.h"

#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>

/* linux/udp.h; older headers of the C library lack them. */
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

/* ---- Who with whom ------------------------------------------------------------------------------------------- */

/** What makes a session: the peer, and the local address that it has sent to where that is not the socket's. Without
 * padding: compared and hashed as words. */
struct udp_key {
	uint64_t peer[2], local[2]; /* addresses in network order; IPv4 in the first four bytes; local 0: the socket's */
	uint32_t zone;              /* of link-local addresses, or 0 */
	in_port_t port;             /* of the peer, in network order */
	uint8_t family;             /* 4, 6 */
	uint8_t slot;               /* which of the acceptor's sockets */
};

void udp_key_peer(const struct udp_key *key, struct cp_peer *peer);
/** @return false: it has none, the socket's is meant */
bool udp_key_local(const struct udp_key *key, struct cp_ip *ip);

/* ---- Receiving ----------------------------------------------------------------------------------------------- */

enum { UDP_BATCH = 16 };

/** Have a socket give what the kernel has put together in one read, where it can. */
void udp_want_segments(int fd);

/** One read of a socket that is not connected. */
struct udp_received {
	const char *at;
	size_t length;
	unsigned segment; /* as in struct udp_slice */
	bool shared;      /* sent to several (broadcast, multicast): every socket of the address has got it */
	struct udp_key key;
};

/** Before the first udp_receive() of the worker. @return false: out of memory */
bool udp_receive_prepare(struct udp_worker *worker);
/** Read as many as are there, at most `most` (UDP_BATCH). They stay until the next call for any socket of the worker.
 * @return how many; fewer than `most`: there were no more */
int udp_receive(struct udp_worker *worker, int fd, int most);
/** Number `index` of the last batch. @return false: its peer has no address to answer to */
bool udp_received(const struct udp_worker *worker, int index, struct udp_received *received);

/** Read once from a connected socket: whole, if there is room for UDP_READ bytes.
 * @param segment  set as in struct udp_slice
 * @return bytes; -1 with errno EAGAIN or another */
ssize_t udp_receive_one(int fd, const struct iovec *vec, int count, unsigned *segment);

/* ---- Sending ------------------------------------------------------------------------------------------------- */

/** Where datagrams go. */
struct udp_way {
	int fd;
	bool *no_segments;         /* the socket's: set when it turns out that it cannot send several at once */
	const struct udp_key *key; /* NULL: the socket is connected */
	uint32_t lost;             /* of what was taken: datagrams that were not sent; added to */
};

/** Send one datagram, or several of `segment` bytes each. What the kernel does not want is lost, as the network might
 * lose it, and counted, also in `way`.
 * @return CP_OK; CP_AGAIN: nothing was sent, the socket's buffer is full */
int udp_send(struct udp_worker *worker, struct udp_way *way, const struct iovec *vec, int count, unsigned segment);

/** The bytes of vectors. */
size_t udp_length(const struct iovec *vec, int count);

/* ---- Messages in pieces -------------------------------------------------------------------------------------- */

/** A message of which more is to come (CP_WRITE_MORE): sent when it is whole. */
struct udp_message {
	size_t length; /* over UDP_LONGEST: it is dropped when it is whole */
	char bytes[UDP_LONGEST];
};

/** cp_stream_ops.write for a datagram or several, whole or in pieces.
 * @param message  the stream's: NULL while none is under way
 * @return bytes taken, or CP_AGAIN, CP_ENOMEM */
ssize_t udp_write(struct udp_worker *worker, struct udp_way *way, struct udp_message **message, const struct iovec *vec,
				  int count, unsigned flags);

#endif
