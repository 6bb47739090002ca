/** What a listener over IP is bound to, whatever the protocol: one address, or for `localhost` one of each family on
 * one port, as far as the machine has them. Each worker has a socket for each. */
#ifndef SYSTEMS_CORE_ENDPOINTS_H
#define SYSTEMS_CORE_ENDPOINTS_H

#include <connpipe/address.h>
#include <connpipe/error.h>

#include <stdbool.h>
#include <stdint.h>

enum { ENDPOINTS_MAX = 2 };

struct endpoints {
	uint32_t count;
	struct cp_peer local[ENDPOINTS_MAX]; /* with the real port once they are bound */
	uint32_t workers;
	int *fds; /* of worker w for endpoint e: [w * ENDPOINTS_MAX + e]; -1: none */
};

/** @return false: out of memory; there is nothing to deinit */
bool endpoints_init(struct endpoints *endpoints, uint32_t workers);
/** Closes what is left. */
void endpoints_deinit(struct endpoints *endpoints);

static inline int *endpoints_fd(struct endpoints *endpoints, uint32_t worker, uint32_t number)
{
	return &endpoints->fds[worker * ENDPOINTS_MAX + number];
}

/** Close the sockets of one endpoint. */
void endpoints_close(struct endpoints *endpoints, uint32_t number);

/** What `host` means for binding: sets `count` and the addresses. Names are not looked up: that would wait, and one
 * name may have many addresses. @return CP_OK or CP_EINVAL */
int endpoints_read_host(struct endpoints *endpoints, const struct cp_value *host, struct cp_error *error);

/** Binding one endpoint; a port 0 in its address becomes a number. */
struct endpoint_ops {
	/** @return 0, or errno: what was made is undone by `unbind` */
	int (*bind)(struct endpoints *endpoints, uint32_t number);
	void (*unbind)(struct endpoints *endpoints, uint32_t number);
};

/** Bind all endpoints to one port. @param port  0: one that is free for all of them
 * @return CP_OK; CP_EADDRINUSE and others with `error` filled and nothing bound */
int endpoints_bind(struct endpoints *endpoints, uint16_t port, const struct endpoint_ops *ops, struct cp_error *error);

/** Fill `error` for an endpoint that cannot be bound. @return its code */
int endpoints_error(const struct endpoints *endpoints, uint32_t number, int errnum, struct cp_error *error);

/** The canonical text of `address`'s socket with the real port, to be freed. @param port_field  number of the port
 * among its fields @return NULL: out of memory */
char *endpoints_name(const struct endpoints *endpoints, const struct cp_address *address, uint32_t port_field);

#endif
