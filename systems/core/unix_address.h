/** Addresses of unix sockets, shared by unix.c and unix_listen.c. */
#ifndef SYSTEMS_CORE_UNIX_ADDRESS_H
#define SYSTEMS_CORE_UNIX_ADDRESS_H

#include "socket.h"

#include <stdbool.h>
#include <sys/un.h>

/** Fields of unix, in their order. */
enum { UNIX_PATH, UNIX_MULTIPLEX, UNIX_FIELDS };

/** Bytes of a path; one of sun_path is for the zero byte behind it. */
enum { UNIX_PATH_MAX = sizeof(((struct sockaddr_un *)0)->sun_path) - 1 };

static inline const char *unix_path(const struct cp_address *address)
{
	return address->fields.at[UNIX_PATH].value.as.s;
}
/** Whether the name is in the abstract namespace (unix(7)): no file belongs to it. */
static inline bool unix_is_abstract(const char *path)
{
	return path[0] == '@';
}

/** The system's form of a path that was checked. */
void unix_sockaddr(const char *path, struct socket_address *address);

#endif
