/** What the files of the core system share. Nothing outside systems/core includes this, except its tests.
 *
 *     tcp.c            tcp: the connector, and connecting          tcp_listen.c   its listening sockets
 *     tcp_settings.c   tcp: the options of each address            tcp_options.c  setting them on sockets
 *     udp.c, udp_*.c   udp: see udp.h                              part.h         parts with a folder of their own
 *     unix.c           unix: addresses and connecting              unix_listen.c  its listening socket
 *     exec.c           exec: addresses, connecting, the stream     child.c        the life of a child
 *     words.c          the words of a command
 *     echo.c, discard.c, reject.c                                  memory_stream.c what echo and discard share
 *     socket.c         errors and addresses of sockets             endpoints.c    what listeners over IP are bound to
 *     socket_settings.c options of sockets, for each address */
#ifndef SYSTEMS_CORE_CONNECTORS_H
#define SYSTEMS_CORE_CONNECTORS_H

#include <connpipe/connector.h>

#include <stdint.h>

struct child;
struct cp_settings;
struct socket_settings;

/** One load of the core system: the `arg` of its connectors. */
struct core {
	const char *config_dir;  /* absolute; the system's */
	struct child **children; /* that still run: one list for each worker, touched by its thread only */
	uint32_t workers;
	const struct cp_settings *tcp_table; /* [connpipe.tcp], or NULL; only while loading */
	const struct cp_settings *udp_table; /* [connpipe.udp], likewise */
	struct socket_settings *tcp;         /* what it says; NULL: nothing */
	struct socket_settings *udp;         /* likewise */
	void *ws;                            /* ws_part's */
};

extern const struct cp_connector_def tcp_connector;
extern const struct cp_connector_def udp_connector;
extern const struct cp_connector_def unix_connector;
extern const struct cp_connector_def exec_connector;
extern const struct cp_connector_def echo_connector;
extern const struct cp_connector_def discard_connector;
extern const struct cp_connector_def reject_connector;

/** Fields of tcp, in their order. */
enum { TCP_ADDR, TCP_PORT, TCP_MULTIPLEX, TCP_FIELDS };
/** Fields of udp, in their order. */
enum { UDP_ADDR, UDP_PORT, UDP_FIELDS };

/** cp_connector_def.bind and .check_bind of tcp, and .bind of unix. */
int tcp_bind(struct cp_connector *connector, const struct cp_address *address, uint32_t workers,
			 struct cp_listener **out, struct cp_error *error);
int tcp_check_bind(struct cp_connector *connector, const struct cp_address *address, struct cp_error *error);
int unix_bind(struct cp_connector *connector, const struct cp_address *address, uint32_t workers,
			  struct cp_listener **out, struct cp_error *error);

#endif
