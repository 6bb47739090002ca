/** What the connectors over sockets share. */
#ifndef SYSTEMS_CORE_SOCKET_H
#define SYSTEMS_CORE_SOCKET_H

#include <connpipe/address.h>
#include <connpipe/connector.h>
#include <connpipe/error.h>

#include <sys/socket.h>

/** An address in the system's form. */
struct socket_address {
	struct sockaddr_storage storage;
	socklen_t length;
};

void socket_address_from_peer(struct socket_address *address, const struct cp_peer *peer);
static inline const struct sockaddr *socket_sockaddr(const struct socket_address *address)
{
	return (const struct sockaddr *)&address->storage;
}

/** setsockopt() with a number. */
int socket_set(int fd, int level, int option, int value);
/** Close a socket that could not be made ready; errno stays. @return -1 */
int socket_abandon(int fd);
/** The address that a socket is bound to. @return 0, or -1 with errno */
int socket_local(int fd, struct cp_peer *local);
/** Only its port, which the kernel may have chosen. @return 0, or -1 with errno */
int socket_read_port(int fd, struct cp_peer *local);

/** The code for an errno that is a failure: as cp_err_from_errno(), but never CP_AGAIN or CP_OK, which would be taken
 * for an answer. */
enum cp_err socket_code(int errnum);

/** Fill `error` for connect() that failed with `errnum`. @param where  the address in words @return its code */
int socket_connect_error(int errnum, const char *where, struct cp_error *error);
/** Likewise for socket(), bind() and listen(). */
int socket_bind_error(int errnum, const char *where, struct cp_error *error);

/** Give a socket that will connect its own address; its port is chosen when it connects, so that as many connections
 * have room as there are ports for each target. @return CP_OK, or the code of `error` */
int socket_bind_source(int fd, const struct cp_ip *ip, const char *where, struct cp_error *error);

/** What accept4() that failed with `errnum` means to the caller of an acceptor; fills `error` if it is broken. */
int socket_accept_error(int errnum, const char *where, struct cp_error *error);

/** The canonical text of an address's socket, without converters, to be freed. NULL: out of memory. */
char *socket_name(const struct cp_address *address);
/** Copy `text` as snprintf does. @return its length */
size_t socket_print(const char *text, char *buffer, size_t room);

#endif
