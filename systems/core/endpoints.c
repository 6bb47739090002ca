/* The addresses of listeners over IP. See endpoints.h. */
#include "endpoints.h"

#include "socket.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	PORT_TRIES = 16, /* to find a number that is free in both families */
	FIELDS_MAX = 8,
};

bool endpoints_init(struct endpoints *endpoints, uint32_t workers)
{
	*endpoints = (struct endpoints){.workers = workers};
	endpoints->fds = malloc((size_t)workers * ENDPOINTS_MAX * sizeof(int));
	for (uint32_t i = 0; endpoints->fds && i < workers * ENDPOINTS_MAX; i++)
		endpoints->fds[i] = -1;
	return endpoints->fds != NULL;
}

void endpoints_close(struct endpoints *endpoints, uint32_t number)
{
	for (uint32_t worker = 0; worker < endpoints->workers; worker++) {
		int *fd = endpoints_fd(endpoints, worker, number);
		if (*fd >= 0)
			close(*fd);
		*fd = -1;
	}
}

void endpoints_deinit(struct endpoints *endpoints)
{
	for (uint32_t i = 0; i < ENDPOINTS_MAX; i++)
		endpoints_close(endpoints, i);
	free(endpoints->fds);
}

int endpoints_read_host(struct endpoints *endpoints, const struct cp_value *host, struct cp_error *error)
{
	struct cp_peer *local = endpoints->local;
	if (cp_ip_parse(host->as.s, host->length, &local[0].ip)) {
		endpoints->count = 1;
		return CP_OK;
	}
	if (strcmp(host->as.s, "localhost") == 0) {
		cp_ip_parse("127.0.0.1", strlen("127.0.0.1"), &local[0].ip);
		cp_ip_parse("::1", strlen("::1"), &local[1].ip);
		endpoints->count = 2;
		return CP_OK;
	}
	return cp_error_set(error, CP_EINVAL, host->as.s,
						"cannot bind to a name: give an IP address, localhost, *4 or *6 (all addresses)");
}

int endpoints_error(const struct endpoints *endpoints, uint32_t number, int errnum, struct cp_error *error)
{
	char where[CP_PEER_TEXT];
	cp_peer_print(&endpoints->local[number], where, sizeof(where));
	return socket_bind_error(errnum, where, error);
}

/** Whether the machine lacks the address, which is no error for one of `localhost`'s two. */
static bool is_missing(int errnum)
{
	return errnum == EADDRNOTAVAIL || errnum == EAFNOSUPPORT;
}

static void drop(struct endpoints *endpoints, uint32_t number, const struct endpoint_ops *ops)
{
	ops->unbind(endpoints, number);
	endpoints->count--;
	if (number < endpoints->count)
		endpoints->local[number] = endpoints->local[number + 1];
}

static int bind_all(struct endpoints *endpoints, uint16_t port, const struct endpoint_ops *ops, struct cp_error *error)
{
	uint32_t number = 0;
	while (number < endpoints->count) {
		endpoints->local[number].port = number == 0 ? port : endpoints->local[0].port;
		int errnum = ops->bind(endpoints, number);
		if (errnum == 0) {
			number++;
			continue;
		}
		if (is_missing(errnum) && endpoints->count > 1) {
			drop(endpoints, number, ops);
			continue;
		}
		int result = endpoints_error(endpoints, number, errnum, error);
		for (uint32_t i = 0; i <= number; i++)
			ops->unbind(endpoints, i);
		return result;
	}
	return CP_OK;
}

/** With port 0 the kernel chooses a number that is free for the first endpoint; for the second it may be taken. */
int endpoints_bind(struct endpoints *endpoints, uint16_t port, const struct endpoint_ops *ops, struct cp_error *error)
{
	int tries = port == 0 && endpoints->count > 1 ? PORT_TRIES : 1;
	int result;
	do
		result = bind_all(endpoints, port, ops, error);
	while (result == CP_EADDRINUSE && --tries > 0);
	return result;
}

char *endpoints_name(const struct endpoints *endpoints, const struct cp_address *address, uint32_t port_field)
{
	struct cp_field fields[FIELDS_MAX];
	struct cp_address real = *address;
	if (address->fields.count > FIELDS_MAX)
		return NULL;
	memcpy(fields, address->fields.at, address->fields.count * sizeof(fields[0]));
	fields[port_field].value = cp_unsigned(CP_U16, endpoints->local[0].port);
	real.fields.at = fields;
	return socket_name(&real);
}
