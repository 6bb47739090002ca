/** The listening unix socket of the control socket: its file, and who may have it. Thread: main task. */
#ifndef OBSERVE_ADMIN_SOCKET_H
#define OBSERVE_ADMIN_SOCKET_H

#include <connpipe/error.h>

#include <sys/types.h>
#include <sys/un.h>

struct admin_socket {
	int fd;
	char *path;
	dev_t device; /* of the file that was made: what stands there later may be another process's */
	ino_t inode;
};

/** `path` as a socket address. @return CP_OK; CP_EINVAL with `error` filled: it is too long */
int admin_socket_address(const char *path, struct sockaddr_un *address, struct cp_error *error);

/** Make the directory if needed, take over a file that nobody listens on, bind with mode 0600, listen.
 * @return CP_OK; CP_EADDRINUSE: a running process has it; CP_EEXIST: the file is no socket; others */
int admin_socket_open(struct admin_socket *admin, const char *path, struct cp_error *error);

/** Close, and remove the file if it is still the one that was made. */
void admin_socket_close(struct admin_socket *admin);

#endif
