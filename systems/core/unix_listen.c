/* unix: the listening socket. There is no SO_REUSEPORT for unix sockets, so all workers accept from one; each watches a
 * descriptor of its own for it. A connection wakes all of them and one gets it.
 *
 * A file that is left of a process that has ended is in the way of bind(); it is recognised by refusing connections.
 * A socket that is bound but does not listen yet looks the same, so ours listens from the start, with room for one. */
#include "connectors.h"
#include "unix_address.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct unix_listener {
	struct cp_listener base; /* first */
	int fd;
	char *path; /* NULL: no file belongs to it */
	dev_t device;
	ino_t inode;
	char *name;
};

struct unix_acceptor {
	struct cp_acceptor base; /* first */
	struct cp_loop *loop;
	cp_acceptor_ready *ready;
	void *arg;
	int fd;
	struct cp_watch *watch;
};

/* ---- Binding ------------------------------------------------------------------------------------------------ */

/** Whether nobody listens behind a socket file any more. */
static bool is_stale(const char *path, const struct socket_address *address)
{
	struct stat status;
	if (lstat(path, &status) < 0 || !S_ISSOCK(status.st_mode))
		return false;
	int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (probe < 0)
		return false;
	bool refused = connect(probe, socket_sockaddr(address), address->length) < 0 && errno == ECONNREFUSED;
	close(probe);
	return refused;
}

/** Bind and listen; a stale file is replaced. Two processes that replace the same file in the same instant can both
 * believe to have it: the later one has. @return 0, or errno */
static int bind_path(int fd, const char *path)
{
	struct socket_address address;
	unix_sockaddr(path, &address);
	int result = bind(fd, socket_sockaddr(&address), address.length);
	if (result < 0 && errno == EADDRINUSE && !unix_is_abstract(path)) {
		if (!is_stale(path, &address))
			return EADDRINUSE;
		unlink(path);
		result = bind(fd, socket_sockaddr(&address), address.length);
	}
	if (result < 0 || listen(fd, 0) < 0)
		return errno;
	return 0;
}

static int bind_error(int errnum, const char *path, struct cp_error *error)
{
	struct stat status;
	if (errnum != EADDRINUSE)
		return cp_error_set(error, socket_code(errnum), path, "cannot bind: %s", strerror(errnum));
	if (!unix_is_abstract(path) && lstat(path, &status) == 0 && !S_ISSOCK(status.st_mode))
		return cp_error_set(error, CP_EEXIST, path, "cannot bind: there is a file of that name, and it is no socket");
	return cp_error_set(error, CP_EADDRINUSE, path, "cannot bind: another socket has this address");
}

/** Remember which file is ours. */
static int remember_file(struct unix_listener *listener, const char *path, struct cp_error *error)
{
	struct stat status;
	if (unix_is_abstract(path))
		return CP_OK;
	if (lstat(path, &status) < 0)
		return cp_error_set(error, socket_code(errno), path, "cannot look at the socket just made: %s",
							strerror(errno));
	listener->path = strdup(path);
	if (!listener->path)
		return cp_error_set(error, CP_ENOMEM, path, "no memory for its path");
	listener->device = status.st_dev;
	listener->inode = status.st_ino;
	return CP_OK;
}

/** Remove the file, unless somebody has put another one in its place. */
static void remove_file(const struct unix_listener *listener)
{
	struct stat status;
	if (!listener->path || lstat(listener->path, &status) < 0)
		return;
	if (status.st_dev == listener->device && status.st_ino == listener->inode)
		unlink(listener->path);
}

static void unix_unbind(struct cp_listener *base)
{
	struct unix_listener *listener = (struct unix_listener *)base;
	remove_file(listener);
	if (listener->fd >= 0)
		close(listener->fd);
	free(listener->path);
	free(listener->name);
	free(listener);
}

static int listener_bind(struct unix_listener *listener, const struct cp_address *address, struct cp_error *error)
{
	const char *path = unix_path(address);
	listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (listener->fd < 0)
		return bind_error(errno, path, error);
	listener->name = socket_name(address);
	if (!listener->name)
		return cp_error_set(error, CP_ENOMEM, path, "no memory for its name");
	int errnum = bind_path(listener->fd, path);
	if (errnum != 0)
		return bind_error(errnum, path, error);
	return remember_file(listener, path, error);
}

static const struct cp_listener_ops unix_listener_ops;

int unix_bind(struct cp_connector *connector, const struct cp_address *address, uint32_t workers,
			  struct cp_listener **out, struct cp_error *error)
{
	(void)workers;
	struct unix_listener *listener = calloc(1, sizeof(*listener));
	if (!listener)
		return cp_error_set(error, CP_ENOMEM, unix_path(address), "no memory for a listener");
	listener->base = (struct cp_listener){.ops = &unix_listener_ops, .connector = connector};
	int result = listener_bind(listener, address, error);
	if (result != CP_OK) {
		unix_unbind(&listener->base);
		return result;
	}
	*out = &listener->base;
	return CP_OK;
}

static size_t unix_name(const struct cp_listener *base, char *buffer, size_t room)
{
	return socket_print(((const struct unix_listener *)base)->name, buffer, room);
}

/* ---- Accepting ---------------------------------------------------------------------------------------------- */

static void on_connection(int fd, unsigned events, void *arg)
{
	(void)fd;
	(void)events;
	struct unix_acceptor *acceptor = arg;
	acceptor->ready(&acceptor->base, acceptor->arg);
}

static void unix_close(struct cp_acceptor *base)
{
	struct unix_acceptor *acceptor = (struct unix_acceptor *)base;
	if (acceptor->watch)
		cp_watch_free(acceptor->watch);
	if (acceptor->fd >= 0)
		close(acceptor->fd);
	free(acceptor);
}

static int acceptor_start(struct unix_acceptor *acceptor, const struct unix_listener *listener, struct cp_error *error)
{
	acceptor->fd = fcntl(listener->fd, F_DUPFD_CLOEXEC, 0);
	if (acceptor->fd < 0 || listen(acceptor->fd, SOMAXCONN) < 0)
		return cp_error_set(error, socket_code(errno), listener->name, "cannot listen: %s", strerror(errno));
	acceptor->watch = cp_watch_new(acceptor->loop, acceptor->fd, CP_READABLE, on_connection, acceptor, error);
	return acceptor->watch ? CP_OK : (int)error->code;
}

static struct cp_acceptor *unix_open(struct cp_listener *base, struct cp_loop *loop, cp_acceptor_ready *ready,
									 void *arg, struct cp_error *error)
{
	const struct unix_listener *listener = (const struct unix_listener *)base;
	struct unix_acceptor *acceptor = calloc(1, sizeof(*acceptor));
	if (!acceptor) {
		cp_error_set(error, CP_ENOMEM, listener->name, "no memory for accepting");
		return NULL;
	}
	acceptor->base.listener = base;
	acceptor->loop = loop;
	acceptor->ready = ready;
	acceptor->arg = arg;
	if (acceptor_start(acceptor, listener, error) != CP_OK) {
		unix_close(&acceptor->base);
		return NULL;
	}
	return &acceptor->base;
}

static int unix_accept(struct cp_acceptor *base, struct cp_accepted *accepted, struct cp_error *error)
{
	struct unix_acceptor *acceptor = (struct unix_acceptor *)base;
	int fd = accept4(acceptor->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return socket_accept_error(errno, ((struct unix_listener *)base->listener)->name, error);
	accepted->stream = cp_stream_from_fd(accepted->loop, fd, 0, error);
	if (!accepted->stream) {
		close(fd);
		return CP_ERESET; /* this one is lost; the next may find memory */
	}
	accepted->peer = (struct cp_peer){0};
	return CP_OK;
}

static void unix_pause(struct cp_acceptor *base)
{
	cp_watch_set(((struct unix_acceptor *)base)->watch, 0);
}

static void unix_resume(struct cp_acceptor *base)
{
	cp_watch_set(((struct unix_acceptor *)base)->watch, CP_READABLE);
}

static const struct cp_listener_ops unix_listener_ops = {
	.size = sizeof(struct cp_listener_ops),
	.open = unix_open,
	.accept = unix_accept,
	.pause = unix_pause,
	.resume = unix_resume,
	.close = unix_close,
	.unbind = unix_unbind,
	.name = unix_name,
};
