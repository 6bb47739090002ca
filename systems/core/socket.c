/* Errors and addresses of sockets. */
#include "socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void socket_address_from_peer(struct socket_address *address, const struct cp_peer *peer)
{
	address->length =
		(socklen_t)cp_peer_to_sockaddr(peer, (struct sockaddr *)&address->storage, sizeof(address->storage));
}

int socket_set(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof(value));
}

int socket_abandon(int fd)
{
	int errnum = errno;
	close(fd);
	errno = errnum;
	return -1;
}

int socket_local(int fd, struct cp_peer *local)
{
	struct socket_address bound = {.length = sizeof(bound.storage)};
	if (getsockname(fd, (struct sockaddr *)&bound.storage, &bound.length) < 0)
		return -1;
	cp_peer_from_sockaddr(socket_sockaddr(&bound), bound.length, local);
	return 0;
}

int socket_read_port(int fd, struct cp_peer *local)
{
	struct cp_peer real;
	if (socket_local(fd, &real) < 0)
		return -1;
	local->port = real.port;
	return 0;
}

enum cp_err socket_code(int errnum)
{
	enum cp_err code = cp_err_from_errno(errnum);
	return code == CP_AGAIN || code == CP_OK ? CP_EIO : code;
}

int socket_connect_error(int errnum, const char *where, struct cp_error *error)
{
	switch (errnum) {
	case ECONNREFUSED:
		return cp_error_set(error, CP_EREFUSED, where, "connection refused");
	case ETIMEDOUT:
		return cp_error_set(error, CP_ETIMEOUT, where, "no answer");
	case EADDRNOTAVAIL:
		return cp_error_set(error, CP_ELIMIT, where, "no local port left for a connection to this address");
	case EAFNOSUPPORT:
		return cp_error_set(error, CP_EUNREACHABLE, where, "this machine does not speak this kind of address");
	default:
		return cp_error_set(error, socket_code(errnum), where, "cannot connect: %s", strerror(errnum));
	}
}

int socket_bind_error(int errnum, const char *where, struct cp_error *error)
{
	switch (errnum) {
	case EADDRINUSE:
		return cp_error_set(error, CP_EADDRINUSE, where, "cannot bind: another socket has this address");
	case EADDRNOTAVAIL:
		return cp_error_set(error, CP_EINVAL, where, "cannot bind: this machine does not have this address");
	case EACCES:
		return cp_error_set(error, CP_EPERM, where,
							"cannot bind: permission denied (ports below 1024 need CAP_NET_BIND_SERVICE)");
	default:
		return cp_error_set(error, socket_code(errnum), where, "cannot bind: %s", strerror(errnum));
	}
}

int socket_bind_source(int fd, const struct cp_ip *ip, const char *where, struct cp_error *error)
{
	struct cp_peer from = {.ip = *ip};
	struct socket_address address;
	char text[CP_IP_TEXT];
	socket_address_from_peer(&address, &from);
	if (socket_set(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1) == 0 &&
		bind(fd, socket_sockaddr(&address), address.length) == 0)
		return CP_OK;
	int errnum = errno;
	cp_ip_print(ip, text, sizeof(text));
	if (errnum == EADDRNOTAVAIL)
		return cp_error_set(error, CP_EINVAL, where, "cannot bind to bind_source: this machine does not have %s", text);
	return cp_error_set(error, socket_code(errnum), where, "cannot bind to bind_source = \"%s\": %s", text,
						strerror(errnum));
}

int socket_accept_error(int errnum, const char *where, struct cp_error *error)
{
	switch (errnum) {
	case EAGAIN:
		return CP_AGAIN;
	case EMFILE:
	case ENFILE:
	case ENOBUFS:
	case ENOMEM:
		return CP_EMFILE;
	/* Errors of the connection that would have been taken, which Linux hands out here (accept(2)). */
	case EINTR:
	case ECONNABORTED:
	case ECONNRESET:
	case EPERM: /* a firewall rule */
	case EPROTO:
	case ENOPROTOOPT:
	case EOPNOTSUPP:
	case ETIMEDOUT:
	case ENETDOWN:
	case ENETUNREACH:
	case EHOSTDOWN:
	case EHOSTUNREACH:
	case ENONET:
		return CP_ERESET;
	default:
		return cp_error_set(error, socket_code(errnum), where, "cannot accept: %s", strerror(errnum));
	}
}

char *socket_name(const struct cp_address *address)
{
	size_t room = cp_address_print_socket(address, false, NULL, 0) + 1;
	char *name = malloc(room);
	if (name)
		cp_address_print_socket(address, false, name, room);
	return name;
}

size_t socket_print(const char *text, char *buffer, size_t room)
{
	return (size_t)snprintf(buffer, room, "%s", text);
}
