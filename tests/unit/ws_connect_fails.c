/* Websocket streams on the connecting side, where asking itself fails: it is told once, nothing is left open, and the
 * next one is asked for as if nothing had been.
 *
 * libwebsockets' calls of socket() and connect() come here first. */
#include "ws_fixture.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum {
	FEW = 256,  /* descriptors */
	PARTS = 3,  /* more than a websocket needs for a moment: the listener, libwebsockets' socket, its other end */
	GUESTS = 5, /* strangers that connect first */
};

static enum { NOTHING, NO_SOCKET, QUEUE_FULL, STRANGERS } trouble;
static struct ws_connecting *connecting;
static unsigned done_calls;

static void start(void)
{
	fixture_start();
	trouble = NOTHING;
	done_calls = 0;
}

TestSuite(ws_connect_fails, .init = start, .fini = fixture_stop, .timeout = 60);

static void on_done(struct cp_stream *stream, const struct cp_error *error, void *arg)
{
	(void)error;
	(void)arg;
	done_calls++;
	if (stream)
		user_has(stream);
}

static int begin(struct cp_error *error)
{
	static const struct ws_request request = {.path = "/", .host = "example.org"};
	return ws_connect(loop, make_pair(), &request, &behaviour, NULL, on_done, NULL, &connecting, error);
}

/* ---- Trouble ------------------------------------------------------------------------------------------------ */

/** libwebsockets makes its sockets without flags. */
__attribute__((visibility("default"))) int socket(int domain, int type, int protocol)
{
	if (trouble == NO_SOCKET && domain == AF_UNIX && type == SOCK_STREAM) {
		errno = EMFILE;
		return -1;
	}
	return (int)syscall(SYS_socket, domain, type, protocol);
}

/** Another process connects, and ends. */
static void let_strangers_in(const struct sockaddr *address, socklen_t length)
{
	int status;
	pid_t child = fork();
	if (child == 0) {
		for (int i = 0; i < GUESTS; i++) {
			int fd = (int)syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 0);
			if (syscall(SYS_connect, fd, address, length) < 0 || send(fd, "GET /", 5, MSG_NOSIGNAL) != 5)
				_exit(1);
		}
		_exit(0);
	}
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_assert_eq(status, 0, "they could not connect");
}

__attribute__((visibility("default"))) int connect(int fd, __CONST_SOCKADDR_ARG address, socklen_t length)
{
	if (trouble == QUEUE_FULL) {
		errno = EAGAIN;
		return -1;
	}
	if (trouble == STRANGERS)
		let_strangers_in(address.__sockaddr__, length);
	return (int)syscall(SYS_connect, fd, address.__sockaddr__, length);
}

/* ---- What comes of it --------------------------------------------------------------------------------------- */

static void expect_failure(enum cp_err code)
{
	struct cp_error error = {0};
	int result = begin(&error);
	cr_assert_eq(result, code, "%d: %s", result, error.message);
	cr_assert_eq(error.code, code);
	cr_assert_neq(error.message[0], '\0');
	turns(5);
	peer_expects_end();
	close(peer);
	peer = -1;
}

/** The request of the next one gets to its server, with its own key: libwebsockets takes the answer to that. */
static void expect_next_is_asked_for(void)
{
	struct cp_error error = {0};
	char head[1024];
	trouble = NOTHING;
	int result = begin(&error);
	cr_assert_eq(result, CP_AGAIN, "%s", error.message);
	peer_gets_head(head, sizeof(head));
	cr_assert_eq(strncmp(head, "GET / HTTP/1.1\r\nHost: example.org\r\n", 35), 0, "%s", head);
	cr_assert(strstr(head, "\r\nSec-WebSocket-Key: "), "%s", head);
	ws_connect_cancel(connecting);
	turns(5);
	cr_assert_eq(done_calls, 0);
}

Test(ws_connect_fails, libwebsockets_has_no_socket)
{
	trouble = NO_SOCKET;
	expect_failure(CP_EIO);
	expect_failure(CP_EIO);
	expect_next_is_asked_for();
}

Test(ws_connect_fails, the_queue_is_full)
{
	trouble = QUEUE_FULL;
	expect_failure(CP_EIO);
	expect_next_is_asked_for();
}

/** Fill the table of descriptors, but for so many. @param filled  FEW of them, `count` are set */
static void leave_free(int free_ones, int *filled, int *count)
{
	int fd;
	for (*count = 0; (fd = fcntl(peer, F_DUPFD_CLOEXEC, 0)) >= 0; filled[(*count)++] = fd)
		;
	while (free_ones-- > 0)
		close(filled[--*count]);
}

Test(ws_connect_fails, descriptors_run_out_at_any_moment)
{
	struct rlimit limit;
	int filled[FEW], count;
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = FEW;
	setrlimit(RLIMIT_NOFILE, &limit);
	for (int left = 0; left < PARTS; left++) {
		static const struct ws_request request = {.path = "/", .host = "example.org"};
		struct cp_error error = {0};
		int fd = make_pair();
		leave_free(left, filled, &count);
		int result = ws_connect(loop, fd, &request, &behaviour, NULL, on_done, NULL, &connecting, &error);
		cr_assert(result != CP_OK && result != CP_AGAIN, "%d free: %d", left, result);
		while (count > 0)
			close(filled[--count]);
		turns(5);
		peer_expects_end();
		close(peer);
	}
	expect_next_is_asked_for();
}

Test(ws_connect_fails, strangers_are_dropped)
{
	char head[1024];
	struct cp_error error = {0};
	trouble = STRANGERS;
	cr_assert_eq(begin(&error), CP_AGAIN, "%s", error.message);
	peer_gets_head(head, sizeof(head));
	ws_connect_cancel(connecting);
	turns(5);
	expect_next_is_asked_for();
}

/** Everybody sees the names of sockets, in /proc/net/unix. */
static bool someone_could_connect(void)
{
	for (int fd = 0; fd < FEW; fd++) {
		int listens = 0;
		socklen_t length = sizeof(listens);
		if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) == 0 && listens)
			return true;
	}
	return false;
}

Test(ws_connect_fails, nothing_listens_meanwhile)
{
	cr_assert_not(someone_could_connect());
	expect_next_is_asked_for();
	cr_assert_not(someone_could_connect());
}
