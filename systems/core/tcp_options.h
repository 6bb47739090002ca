/** TCP settings: options of tcp sockets, from [connpipe.tcp] in the configuration.
 *
 * There is one set for all addresses, and others for single ones ([connpipe.tcp.address."tcp:10.0.0.2:80"]) that begin
 * with what is set for all. An address has its options whether it is bound or connected to:
 *
 *     sockets that listen on it, whose connections inherit     tcp_options_listener(), tcp_options_change()
 *     sockets that connect to it                               tcp_options_target()
 *
 * NULL stands for options that are all the kernel's. That is what most addresses have; where no address has others,
 * nothing is looked up, and a connection pays one branch.
 *
 *     tcp_settings.c      reading the configuration
 *     socket_settings.c   finding the options of an address
 *     tcp_options.c       setting them on sockets */
#ifndef SYSTEMS_CORE_TCP_OPTIONS_H
#define SYSTEMS_CORE_TCP_OPTIONS_H

#include "connectors.h"
#include "socket_settings.h"

#include <stdbool.h>
#include <sys/socket.h>

struct cp_system;

enum { TCP_CONGESTION_ROOM = 16 }; /* TCP_CA_NAME_MAX of the kernel: a name with its zero byte */

/** Zero everywhere: the kernel's. */
struct tcp_options {
	char congestion[TCP_CONGESTION_ROOM];
	int keepalive;                            /* 1: on */
	int keep_idle, keep_interval, keep_count; /* seconds, seconds, probes */
	int user_timeout;                         /* milliseconds */
	int defer_accept;                         /* seconds */
	int fast_open;                            /* length of the listener's queue; others: on */
	int backlog;                              /* of listen() */
	int mark;                                 /* the bits of a uint32_t */
	int no_splice;                            /* 1: bytes are always copied */
	struct cp_ip source[2];                   /* of connections to targets: IPv4, IPv6 */
};

/* ---- The options of an address ------------------------------------------------------------------------------ */

/** Read [connpipe.tcp]: see socket_settings_read(). */
struct socket_settings *tcp_settings_read(struct cp_system *core, const struct cp_settings *table);

/** What is set for the socket of `address`, or NULL. It lives as long as the generation of the address's connector. A
 * socket that was connected with options is good for no other address: it must not be used again.
 * @param address  one of the tcp connector. Any thread */
static inline const struct tcp_options *tcp_options_for(const struct cp_address *address)
{
	const struct core *core = address->connector->arg;
	return core->tcp ? socket_settings_find(core->tcp, address) : NULL;
}

/* ---- Sockets ------------------------------------------------------------------------------------------------ */

/** Prepare a new socket that is about to connect. @param early  there are bytes that will be sent first
 * @return CP_OK, or the code of `error`, which says which option the kernel refuses */
int tcp_options_target(const struct tcp_options *options, int fd, const struct cp_peer *to, bool early,
					   struct cp_error *error);

/** Prepare a new socket that is about to listen. @param where  its address in words, for `error` */
int tcp_options_listener(const struct tcp_options *options, int fd, const char *where, struct cp_error *error);

/** Have a socket that was given the options `was` and listens have `now`; what is not set any more becomes again what
 * a new socket has. What fails stays as it was; the others are set all the same. */
int tcp_options_change(const struct tcp_options *was, const struct tcp_options *now, int fd, const char *where,
					   struct cp_error *error);

/** Whether the kernel would let a listening socket of `family` have them; found out on a socket of its own.
 * @param refused  set to the key that it refuses; may be NULL */
int tcp_options_try(const struct tcp_options *options, int family, const char *where, const char **refused,
					struct cp_error *error);

/** The length of a listening socket's queue. */
static inline int tcp_options_backlog(const struct tcp_options *options)
{
	return options && options->backlog ? options->backlog : SOMAXCONN;
}

/** CP_FD_* bits for the stream over a connected socket. */
static inline unsigned tcp_options_stream(const struct tcp_options *options)
{
	return options && options->no_splice ? CP_FD_NO_SPLICE : 0;
}

#endif
