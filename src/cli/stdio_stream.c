/* A stream over two descriptors that somebody else made: terminals, pipes, sockets, files, /dev/null. They share their
 * open file descriptions with whoever started us (a shell, ssh), so O_NONBLOCK must not be set on those: it would stay
 * set there after we have ended, and make the shell's next program fail. How a descriptor is used without it:
 *
 *     SIDE_SOCKET   MSG_DONTWAIT on each call
 *     SIDE_OWN      pipes, terminals: opened once more by /proc/self/fd, which makes a description of our own
 *     SIDE_CAREFUL  those that cannot be opened once more (a terminal of another user): poll before each call, and
 *                   write no more than a pipe takes without blocking
 *     SIDE_FILE     regular files and what epoll refuses: always ready
 *
 * Who only ends when descriptor 1 is closed everywhere must see that, so 0 and 1 themselves become /dev/null. */
#include "stdio_system.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/** How long the input may be silent after the output was ended, before it counts as ended too. */
enum { SILENCE_MS = 1000 };

enum side_kind { SIDE_SOCKET, SIDE_OWN, SIDE_CAREFUL, SIDE_FILE };

/** One descriptor. */
struct side {
	int fd; /* -1: closed */
	enum side_kind kind;
	struct cp_watch *watch; /* SIDE_FILE: NULL */
	bool armed;             /* the user waits for this direction */
};

struct stdio_stream {
	struct cp_stream stream; /* first */
	struct side in, out;
	struct cp_timer silence;     /* runs when the output was ended, until the input brings something */
	struct cp_deferred turn_end; /* calls the user for what is ready without a watch, and frees what was closed */
	bool terminal;               /* the input is one */
	bool shut;                   /* the output was ended */
	bool ended;                  /* the input has ended, or was silent for too long behind `shut` */
	bool closed;
};

/* ---- Descriptors -------------------------------------------------------------------------------------------- */

static void side_close(struct side *side)
{
	if (side->watch)
		cp_watch_free(side->watch);
	if (side->fd >= 0)
		close(side->fd);
	side->watch = NULL;
	side->fd = -1;
}

/** A descriptor of our own for what `fd` is. @return -1 with errno set */
static int side_duplicate(struct side *side, int fd, bool input)
{
	struct stat status;
	char path[64];

	if (fstat(fd, &status) != 0)
		return -1;
	side->kind = SIDE_FILE;
	if (S_ISSOCK(status.st_mode))
		side->kind = SIDE_SOCKET;
	if (S_ISFIFO(status.st_mode) || S_ISCHR(status.st_mode)) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		side->kind = SIDE_OWN;
		side->fd = open(path, (input ? O_RDONLY : O_WRONLY) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
		if (side->fd >= 0)
			return side->fd;
		side->kind = SIDE_CAREFUL;
	}
	side->fd = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	return side->fd;
}

/** Whether epoll takes it. Asked here, because libevent complains on stderr. */
static bool has_readiness(int fd)
{
	struct epoll_event event = {.events = 0};
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	bool taken = epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0;

	if (epoll >= 0)
		close(epoll);
	return taken;
}

static void on_side_ready(int fd, unsigned events, void *arg);

static int side_open(struct stdio_stream *s, struct side *side, int fd, bool input, struct cp_error *error)
{
	if (side_duplicate(side, fd, input) < 0)
		return cp_error_set(error, cp_err_from_errno(errno), STDIO_ADDRESS, "cannot use %s: %s",
							input ? "stdin" : "stdout", strerror(errno));
	if (!has_readiness(side->fd))
		side->kind = SIDE_FILE;
	if (side->kind == SIDE_FILE)
		return CP_OK;
	side->watch = cp_watch_new(s->stream.loop, side->fd, 0, on_side_ready, s, error);
	return side->watch ? CP_OK : error->code;
}

/** Leave /dev/null where a descriptor was that we have taken over. */
static void replace_by_null(int fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null >= 0) {
		dup2(null, fd);
		close(null);
	}
}

/* ---- Readiness ---------------------------------------------------------------------------------------------- */

static void on_turn_end(struct cp_deferred *deferred)
{
	struct stdio_stream *s = (struct stdio_stream *)((char *)deferred - offsetof(struct stdio_stream, turn_end));
	unsigned events = 0;

	if (s->closed) {
		cp_stream_deinit(&s->stream);
		free(s);
		return;
	}
	if (s->in.armed && (s->ended || s->in.kind == SIDE_FILE))
		events |= CP_READABLE;
	if (s->out.armed && s->out.kind == SIDE_FILE)
		events |= CP_WRITABLE;
	s->in.armed = s->in.armed && !(events & CP_READABLE);
	s->out.armed = s->out.armed && !(events & CP_WRITABLE);
	if (events)
		cp_stream_notify(&s->stream, events);
}

static void on_side_ready(int fd, unsigned events, void *arg)
{
	struct stdio_stream *s = arg;
	struct side *side = fd == s->in.fd ? &s->in : &s->out;

	(void)events;
	cp_watch_set(side->watch, 0);
	if (!side->armed)
		return;
	side->armed = false;
	cp_stream_notify(&s->stream, side == &s->in ? CP_READABLE : CP_WRITABLE);
}

static void arm(struct stdio_stream *s, struct side *side)
{
	side->armed = true;
	if (side->watch)
		cp_watch_set(side->watch, side == &s->in ? CP_READABLE : CP_WRITABLE);
	else
		cp_defer(s->stream.loop, &s->turn_end, on_turn_end);
}

/** The input counts as ended; tell a user who waits for it. */
static void end_input(struct stdio_stream *s)
{
	s->ended = true;
	if (s->in.watch)
		cp_watch_set(s->in.watch, 0);
	if (s->in.armed)
		cp_defer(s->stream.loop, &s->turn_end, on_turn_end);
}

static void on_silence(struct cp_timer *timer)
{
	end_input((struct stdio_stream *)((char *)timer - offsetof(struct stdio_stream, silence)));
}

/** The target has ended: the input goes on only as long as it has something to say. */
static void expect_input(struct stdio_stream *s)
{
	if (s->terminal)
		end_input(s);
	else
		cp_timer_start(&s->silence, SILENCE_MS);
}

/* ---- Operations --------------------------------------------------------------------------------------------- */

/** Whether a call on a side that may block does not. */
static bool is_ready(const struct side *side, short events)
{
	struct pollfd pollfd = {.fd = side->fd, .events = events};

	return side->kind != SIDE_CAREFUL || poll(&pollfd, 1, 0) > 0;
}

static ssize_t side_read(struct side *side, const struct iovec *vec, int count)
{
	struct msghdr message = {.msg_iov = (struct iovec *)vec, .msg_iovlen = (size_t)count};
	ssize_t got;

	do {
		if (!is_ready(side, POLLIN)) {
			errno = EAGAIN;
			return -1;
		}
		got = side->kind == SIDE_SOCKET ? recvmsg(side->fd, &message, MSG_DONTWAIT) : readv(side->fd, vec, count);
	} while (got < 0 && errno == EINTR);
	return got;
}

static ssize_t side_write(struct side *side, const struct iovec *vec, int count)
{
	struct msghdr message = {.msg_iov = (struct iovec *)vec, .msg_iovlen = (size_t)count};
	size_t first = count ? vec[0].iov_len : 0;
	ssize_t put;

	do {
		if (!is_ready(side, POLLOUT)) {
			errno = EAGAIN;
			return -1;
		}
		if (side->kind == SIDE_SOCKET)
			put = sendmsg(side->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
		else if (side->kind == SIDE_CAREFUL)
			put = write(side->fd, vec[0].iov_base, first < PIPE_BUF ? first : PIPE_BUF);
		else
			put = writev(side->fd, vec, count);
	} while (put < 0 && errno == EINTR);
	return put;
}

static ssize_t stdio_read(struct cp_stream *stream, const struct iovec *vec, int count, unsigned *hints)
{
	struct stdio_stream *s = (struct stdio_stream *)stream;
	ssize_t got = s->ended ? 0 : side_read(&s->in, vec, count);

	if (got > 0) {
		if (s->shut)
			cp_timer_start(&s->silence, SILENCE_MS);
		return got;
	}
	if (got < 0 && errno == EAGAIN) {
		arm(s, &s->in);
		return CP_AGAIN;
	}
	if (got < 0)
		return cp_err_from_errno(errno);
	s->ended = true;
	cp_timer_stop(&s->silence);
	*hints = CP_READ_END;
	return 0;
}

static ssize_t stdio_write(struct cp_stream *stream, const struct iovec *vec, int count, unsigned flags)
{
	struct stdio_stream *s = (struct stdio_stream *)stream;
	size_t length = 0;
	ssize_t put;

	(void)flags;
	for (int i = 0; i < count; i++)
		length += vec[i].iov_len;
	if (s->out.fd < 0)
		return CP_ERESET;
	put = side_write(&s->out, vec, count);
	if (put < 0 && errno != EAGAIN)
		return errno == EPIPE ? CP_ERESET : cp_err_from_errno(errno);
	if (put < (ssize_t)length)
		arm(s, &s->out);
	return put < 0 ? CP_AGAIN : put;
}

static int stdio_shutdown_write(struct cp_stream *stream)
{
	struct stdio_stream *s = (struct stdio_stream *)stream;

	if (s->shut)
		return CP_OK;
	s->shut = true;
	if (s->out.kind == SIDE_SOCKET)
		shutdown(s->out.fd, SHUT_WR); /* others may have it open, stdin for one: closing ends nothing then */
	side_close(&s->out);
	if (!s->ended)
		expect_input(s);
	return CP_OK;
}

static void stdio_close(struct cp_stream *stream, enum cp_cause cause)
{
	struct stdio_stream *s = (struct stdio_stream *)stream;

	(void)cause; /* there is no reset to give: the exit code tells */
	cp_timer_stop(&s->silence);
	side_close(&s->in);
	side_close(&s->out);
	s->closed = true;
	cp_defer(stream->loop, &s->turn_end, on_turn_end);
}

static void stdio_await(struct cp_stream *stream, unsigned events)
{
	struct stdio_stream *s = (struct stdio_stream *)stream;

	if (events & CP_READABLE) {
		arm(s, &s->in);
		if (s->ended)
			cp_defer(stream->loop, &s->turn_end, on_turn_end);
	}
	if ((events & CP_WRITABLE) && s->out.fd >= 0)
		arm(s, &s->out);
}

static const struct cp_stream_ops stream_ops = {
	.size = sizeof(stream_ops),
	.name = "stdio",
	.read = stdio_read,
	.write = stdio_write,
	.shutdown_write = stdio_shutdown_write,
	.close = stdio_close,
	.await = stdio_await,
};

struct cp_stream *stdio_stream_new(struct cp_loop *loop, int in, int out, struct cp_system *owner,
								   struct cp_error *error)
{
	struct stdio_stream *s = calloc(1, sizeof(*s));

	if (!s) {
		cp_error_set(error, CP_ENOMEM, STDIO_ADDRESS, "out of memory");
		return NULL;
	}
	cp_stream_init(&s->stream, &stream_ops, loop, owner);
	cp_timer_init(&s->silence, loop, on_silence);
	s->in.fd = s->out.fd = -1;
	if (side_open(s, &s->in, in, true, error) != CP_OK || side_open(s, &s->out, out, false, error) != CP_OK) {
		side_close(&s->in);
		side_close(&s->out);
		cp_stream_deinit(&s->stream);
		free(s);
		return NULL;
	}
	s->terminal = isatty(in);
	replace_by_null(in);
	replace_by_null(out);
	return &s->stream;
}
