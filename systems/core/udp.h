/** udp: what its files share.
 *
 * A bound socket has *sessions*: one for each peer that has sent something, a stream of messages like any other. They
 * end when their user closes them; a peer that sends something afterwards is a new one. To a target there is one
 * connected socket for each connection, so its local port is the session's as long as that lives.
 *
 *     udp.c            the connector, and connecting               udp_target.c   the stream over a connected socket
 *     udp_listen.c     sockets that are bound                      udp_accept.c   what a worker does with them
 *     udp_session.c    the stream of a session                     udp_inbox.c    datagrams that wait for their reader
 *     udp_table.c      finding the session of a peer               udp_receive.c, udp_send.c (udp_wire.h)
 *     udp_settings.c   the options of each address                 udp_worker.c   what all sockets of a worker share */
#ifndef SYSTEMS_CORE_UDP_H
#define SYSTEMS_CORE_UDP_H

#include "connectors.h"
#include "socket_settings.h"

#include <connpipe/counter.h>
#include <connpipe/loop.h>
#include <connpipe/stream.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cp_system;

enum {
	UDP_LONGEST = 65507, /* bytes in a datagram over IPv4; over IPv6 a few more fit, which nobody should rely on */
	UDP_READ = 65536,    /* room for whatever one read of a socket can give */
};

/* ---- Options: udp_settings.c -------------------------------------------------------------------------------- */

/** From [connpipe.udp], as those of tcp (tcp_options.h). Zero everywhere: nothing is set. */
struct udp_options {
	uint32_t responses;              /* answers after which a session ends; 0: it does not */
	int reroute;                     /* 1: a reload ends sessions */
	int receive_buffer, send_buffer; /* bytes; 0: the kernel's default */
	int mark;                        /* the bits of a uint32_t */
	struct cp_ip source[2];          /* of connections to targets: IPv4, IPv6 */
};

/** Read [connpipe.udp]: see socket_settings_read(). */
struct socket_settings *udp_settings_read(struct cp_system *core, const struct cp_settings *table);

/** What is set for the socket of `address`; never NULL. It lives as long as the generation of the address's connector.
 * Any thread. */
const struct udp_options *udp_options_for(const struct cp_address *address);

/** Have a socket that was given the options `was` have `now`. @param where  its address in words, for `error`
 * @return CP_OK, or the code of `error`; what fails stays as it was, the others are set all the same */
int udp_options_change(const struct udp_options *was, const struct udp_options *now, int fd, const char *where,
					   struct cp_error *error);
/** Whether the kernel would let a socket have them; found out on a socket of its own.
 * @param refused  set to the key that it refuses; may be NULL */
int udp_options_try(const struct udp_options *options, const char *where, const char **refused, struct cp_error *error);

/* ---- What all udp sockets of a worker share: udp_worker.c ---------------------------------------------------- */

struct udp_counters {
	cp_counter in, out, dropped, unsent, icmp, refused;
};

struct udp_batch;

/** One for each loop that has any; counted by its users. */
struct udp_worker {
	struct cp_loop *loop;
	uint32_t users;
	struct udp_counters counters;
	size_t queued;           /* bytes of memory for what waits in inboxes */
	struct udp_batch *batch; /* of who reads sockets that are bound; NULL until somebody does */
	char *scratch;           /* UDP_READ bytes to be used within one call; NULL until then */
};

/** @return NULL: out of memory */
struct udp_worker *udp_worker_ref(struct cp_loop *loop);
void udp_worker_unref(struct udp_worker *worker);
/** @return NULL: out of memory */
char *udp_worker_scratch(struct udp_worker *worker);
static inline void udp_count(struct udp_worker *worker, cp_counter counter, uint32_t amount)
{
	if (amount)
		cp_count(worker->loop, counter, amount);
}

/* ---- Binding: udp_listen.c ----------------------------------------------------------------------------------- */

/** cp_connector_def.bind, .check_bind and .reroutes. */
int udp_bind(struct cp_connector *connector, const struct cp_address *address, uint32_t workers,
			 struct cp_listener **out, struct cp_error *error);
int udp_check_bind(struct cp_connector *connector, const struct cp_address *address, struct cp_error *error);
bool udp_reroutes(const struct cp_address *address);

/* ---- Targets: udp_target.c ----------------------------------------------------------------------------------- */

/** A stream over a connected socket. Takes `fd` if it succeeds.
 * @return NULL with `error` filled */
struct cp_stream *udp_target_new(struct cp_loop *loop, int fd, struct cp_error *error);

#endif
