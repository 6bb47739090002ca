#include "admin_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BACKLOG = 16 };

static int errno_error(struct cp_error *error, const char *where, const char *what)
{
	return cp_error_set(error, cp_err_from_errno(errno), where, "%s: %s", what, strerror(errno));
}

int admin_socket_address(const char *path, struct sockaddr_un *address, struct cp_error *error)
{
	size_t length = strlen(path);

	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	if (length >= sizeof(address->sun_path))
		return cp_error_set(error, CP_EINVAL, path, "the path of a unix socket may have %zu bytes, this one has %zu",
							sizeof(address->sun_path) - 1, length);
	memcpy(address->sun_path, path, length);
	return CP_OK;
}

/** Open the directory that the socket lives in, making it if it is not there. @return a descriptor, or -1 */
static int open_directory(const char *path, struct cp_error *error)
{
	char copy[PATH_MAX];
	const char *directory;
	int fd;

	snprintf(copy, sizeof(copy), "%s", path);
	directory = dirname(copy);
	if (mkdir(directory, 0700) != 0 && errno != EEXIST) {
		errno_error(error, directory, "cannot make the directory of the control socket");
		return -1;
	}
	fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		errno_error(error, directory, "cannot open the directory of the control socket");
	return fd;
}

/** Whether somebody listens there. A full backlog is somebody, too. */
static bool in_use(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	bool used = fd >= 0 && (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN);

	if (fd >= 0)
		close(fd);
	return used;
}

/** Remove what an earlier process left behind; refuse what is not ours to remove. */
static int clear_path(const char *path, const struct sockaddr_un *address, struct cp_error *error)
{
	struct stat status;

	if (lstat(path, &status) != 0)
		return errno == ENOENT ? CP_OK : errno_error(error, path, "cannot look at the control socket");
	if (!S_ISSOCK(status.st_mode))
		return cp_error_set(error, CP_EEXIST, path, "stands where the control socket should be, and is no socket");
	if (in_use(address))
		return cp_error_set(error, CP_EADDRINUSE, path, "another process listens on this control socket");
	if (unlink(path) != 0 && errno != ENOENT)
		return errno_error(error, path, "cannot remove an old control socket");
	return CP_OK;
}

static int bind_and_listen(struct admin_socket *admin, const struct sockaddr_un *address, struct cp_error *error)
{
	struct stat status;

	/* On Linux the file gets the mode of the socket's own inode: there is no moment with a wider one. */
	if (fchmod(admin->fd, 0600) != 0 || bind(admin->fd, (const struct sockaddr *)address, sizeof(*address)) != 0)
		return errno_error(error, admin->path, "cannot bind the control socket");
	if (lstat(admin->path, &status) == 0) {
		admin->device = status.st_dev;
		admin->inode = status.st_ino;
	}
	if (listen(admin->fd, BACKLOG) != 0)
		return errno_error(error, admin->path, "cannot listen on the control socket");
	return CP_OK;
}

int admin_socket_open(struct admin_socket *admin, const char *path, struct cp_error *error)
{
	struct sockaddr_un address;
	int directory, result;

	memset(admin, 0, sizeof(*admin));
	admin->fd = -1;
	result = admin_socket_address(path, &address, error);
	if (result != CP_OK)
		return result;
	directory = open_directory(path, error);
	if (directory < 0)
		return error->code;
	/* Two processes that start at once would each take the other's new socket for an old one. */
	if (flock(directory, LOCK_EX) != 0) {
		result = errno_error(error, path, "cannot lock the directory of the control socket");
		close(directory);
		return result;
	}
	admin->path = strdup(path);
	admin->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (!admin->path || admin->fd < 0)
		result = errno_error(error, path, "cannot make the control socket");
	if (result == CP_OK)
		result = clear_path(path, &address, error);
	if (result == CP_OK)
		result = bind_and_listen(admin, &address, error);
	close(directory);
	if (result != CP_OK)
		admin_socket_close(admin);
	return result;
}

void admin_socket_close(struct admin_socket *admin)
{
	struct stat status;

	if (admin->inode && lstat(admin->path, &status) == 0 && status.st_ino == admin->inode &&
		status.st_dev == admin->device)
		unlink(admin->path);
	if (admin->fd >= 0)
		close(admin->fd);
	free(admin->path);
	memset(admin, 0, sizeof(*admin));
	admin->fd = -1;
}
