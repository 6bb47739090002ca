/* Where lines of the log go: see log_sink.h. */
#include "log_sink.h"
#include "memory.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static struct log_sink *sink_new(const char *name)
{
	struct log_sink *sink = xcalloc(1, sizeof(*sink));

	sink->fd = -1;
	sink->name = xstrdup(name);
	return sink;
}

/* A second opening of the pipe or terminal that stderr is. NONBLOCK belongs to an opening, and the one of stderr may be
 * shared with a shell. Fails on sockets, and where the user or /proc does not let us: then the same opening serves,
 * with care. */
static int reopen_stderr(void)
{
	return open("/proc/self/fd/2", O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

/* A descriptor of its own, so that the log does not end up in a socket that gets number 2 later. */
static void open_stderr(struct log_sink *sink)
{
	struct stat stat;

	if (fstat(STDERR_FILENO, &stat) < 0)
		return;
	sink->socket = S_ISSOCK(stat.st_mode);
	if (S_ISFIFO(stat.st_mode) || S_ISCHR(stat.st_mode)) {
		sink->fd = reopen_stderr();
		sink->waits = sink->fd < 0;
	}
	if (sink->fd < 0)
		sink->fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
}

struct log_sink *log_sink_new(const char *name, struct cp_error *error)
{
	struct log_sink *sink = sink_new(name);
	int errnum;

	if (strcmp(name, "stderr") == 0) {
		open_stderr(sink);
		return sink;
	}
	/* NONBLOCK: a named pipe that nobody reads is an error now and not a wait, and never makes writes wait. */
	sink->fd = open(name, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0640);
	if (sink->fd >= 0)
		return sink;
	errnum = errno;
	log_sink_free(sink);
	cp_error_set(error, cp_err_from_errno(errnum), name, "cannot open the log: %s", strerror(errnum));
	return NULL;
}

void log_sink_free(struct log_sink *sink)
{
	if (!sink)
		return;
	if (sink->fd >= 0)
		close(sink->fd);
	free(sink->name);
	free(sink);
}

static bool has_room(int fd)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};

	return poll(&poll_fd, 1, 0) > 0;
}

ssize_t log_sink_write(const struct log_sink *sink, const char *bytes, size_t length)
{
	ssize_t written;

	do {
		if (sink->waits && !has_room(sink->fd)) {
			errno = EAGAIN;
			return -1;
		}
		/* A pipe that is writable has room for PIPE_BUF. */
		if (sink->waits && length > PIPE_BUF)
			length = PIPE_BUF;
		if (sink->socket)
			written = send(sink->fd, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
		else
			written = write(sink->fd, bytes, length);
	} while (written < 0 && errno == EINTR);
	return written;
}
