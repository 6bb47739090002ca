/** What the files of connectors and openings share.
 *
 *     connector.c   the connector: binding's checks, its stages of accepting and connecting
 *     listen.c      its listener, which is tcp's
 *     converter.c   the converter, and connecting over a stream
 *     accept.c      accepting over a stream: the request's head
 *     farewell.c    the end of a connection whose request is refused
 *     facts.c       what a request says about its client
 *     path.c        paths in addresses and in requests */
#ifndef SYSTEMS_WS_OPEN_H
#define SYSTEMS_WS_OPEN_H

#include "ws.h"

/** An opening that has to wait: first member of what cp_open.state points to. */
struct ws_waiting {
	void (*cancel)(struct cp_open *open);
};

/* ---- Sockets (connector.c) ------------------------------------------------------------------------------------ */

enum { WS_SOCKET_FIELDS = 4 };

/** The address of the socket below one of ws, for tcp. Not to be moved. */
struct ws_socket {
	struct cp_address address;
	struct cp_field fields[WS_SOCKET_FIELDS];
};

void ws_socket_init(struct ws_socket *socket, const struct ws_part *part, const struct cp_address *address);

/** Whether a websocket of this address is one of the scheme wss: TLS is part of it, or a converter below it. */
bool ws_is_secure(const struct cp_address *address);

/* ---- The listener (listen.c) ---------------------------------------------------------------------------------- */

/** cp_connector_def.bind. */
int ws_bind(struct cp_connector *connector, const struct cp_address *address, uint32_t workers,
			struct cp_listener **out, struct cp_error *error);

/* ---- Refusing (farewell.c) ------------------------------------------------------------------------------------ */

/** Answer a request with a refusal, and end the stream so that the client can read it; then the opening has failed.
 * Takes open->lower. @return CP_AGAIN: that takes some time, cp_open_done() follows; else the code of open->error */
int ws_refuse(struct cp_open *open, const struct ws_refusal *refusal);

/** The descriptor of open->lower, or of a bridge to it, which is taken. @param first, length  bytes that were read
 * ahead
 * @return -1 with open->error filled: open->lower is still there */
int ws_descriptor(struct cp_open *open, struct cp_system *owner, const char *first, size_t length);

/* ---- Facts (facts.c) ------------------------------------------------------------------------------------------ */

/** Tell what a request says about its client.
 * @param protocol  the subprotocol that is agreed on, or NULL */
void ws_facts_add(struct cp_request *request, const struct ws_upgrade *upgrade, const struct ws_options *options,
				  const char *protocol);

/* ---- Paths (path.c) ------------------------------------------------------------------------------------------- */

/** A path as addresses have it, of one that was sent or written: escapes of characters that mean the same without (RFC
 * 3986, 2.3), and of those that have to be escaped when they are sent, are undone. Others stay, with capital letters.
 * @param path  room for `length` bytes  @return the length, no more than that */
size_t ws_path_read(const char *text, size_t length, char *path);

/** A path as it is sent, of an address: what may not stand there is escaped. A query may be behind it.
 * @return in the arena */
const char *ws_path_write(struct cp_arena *arena, const char *path);

#endif
