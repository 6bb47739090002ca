/** Connectors in Lua that accept: `bind` says what to bind in place of their addresses, `accept` looks at each
 * connection.
 *
 * listen.c is the listener, for all workers; accept.c is its part on one worker. */
#ifndef LUA_LISTEN_H
#define LUA_LISTEN_H

#include "bound.h"
#include "task.h"

enum { LISTEN_MOST = 16 /* addresses that one bind may return */ };

struct lua_listener {
	struct cp_listener base; /* first */
	const struct declared *declared;
	struct cp_arena *arena;           /* of the addresses */
	const struct cp_address *address; /* as the core wants it bound */
	char *text;                       /* the same as text */
	const struct cp_address *targets[LISTEN_MOST];
	struct bound *bounds[LISTEN_MOST];
	uint32_t count;
};

/** cp_connector_def.bind, check_bind, adopt. */
int listen_bind(struct cp_connector *connector, const struct cp_address *address, uint32_t workers,
				struct cp_listener **out, struct cp_error *error);
int listen_check_bind(struct cp_connector *connector, const struct cp_address *address, struct cp_error *error);
int listen_adopt(struct cp_connector *connector, const struct cp_address *address, uint32_t workers, const int *fds,
				 uint32_t count, struct cp_listener **out, struct cp_error *error);

/** cp_listener_ops: accept.c. */
struct cp_acceptor *accept_open(struct cp_listener *listener, struct cp_loop *loop, cp_acceptor_ready *ready, void *arg,
								struct cp_error *error);
int accept_take(struct cp_acceptor *acceptor, struct cp_accepted *accepted, struct cp_error *error);
void accept_pause(struct cp_acceptor *acceptor);
void accept_resume(struct cp_acceptor *acceptor);
void accept_close(struct cp_acceptor *acceptor);

#endif
