/** Sockets below a script's addresses, which outlive the script.
 *
 * A reload loads scripts anew, so each generation has listeners of its own for `my:address`. What those bind in its
 * place (tcp, unix) must not be bound again meanwhile, and no worker may close its socket: connections in its queue
 * would be lost. So it is shared here: the old listener and the new one have one `struct bound`, and on each worker the
 * acceptor of the old one is parked until the new one takes it over, in the same turn of the loop.
 *
 * Thread: get, put and name are the main task's; open, close and the rest their worker's. */
#ifndef LUA_BOUND_H
#define LUA_BOUND_H

#include <connpipe/connpipe.h>

struct bound;

/** The socket for `address`, bound if it is not yet.
 * @param key  who binds it, and what for: only the same key shares
 * @return NULL with `error` filled */
struct bound *bound_get(const char *key, const struct cp_address *address, uint32_t workers, struct cp_error *error);
/** One user less; without any it is unbound. @param connector  of the address that it was got with */
void bound_put(struct bound *bound, struct cp_connector *connector);
size_t bound_name(const struct bound *bound, char *buffer, size_t room);

/** The acceptor of this worker: the one that was parked, or a new one; set as `address` is.
 * @return NULL with `error` filled */
struct cp_acceptor *bound_open(struct bound *bound, const struct cp_address *address, struct cp_loop *loop,
							   void (*ready)(void *arg), void *arg, struct cp_error *error);
/** Park it if another load shares the socket, else close it. @param arg  as it was opened with
 * @return whether it was parked */
bool bound_close(struct bound *bound, struct cp_loop *loop, void *arg);

#endif
