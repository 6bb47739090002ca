/* unix: addresses, and connecting.
 *
 * connect() on a unix socket decides at once, with one exception: while the listener's queue is full it says EAGAIN,
 * and nothing tells when there is room again. Then it is tried again by a timer. */
#include "connectors.h"
#include "unix_address.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	RETRY_FIRST_MS = 10,
	RETRY_MOST_MS = 200,
};

/** A connect that waits for room in the listener's queue. */
struct opening {
	struct cp_open *open;
	struct cp_timer timer;
	int fd;
	uint64_t delay_ms; /* before the next try */
	uint64_t deadline; /* by the loop's clock; UINT64_MAX: none */
};

void unix_sockaddr(const char *path, struct socket_address *address)
{
	struct sockaddr_un *un = (struct sockaddr_un *)&address->storage;
	size_t length = strlen(path);
	*un = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(un->sun_path, path, length);
	if (unix_is_abstract(path))
		un->sun_path[0] = '\0';
	else
		length++; /* the zero byte belongs to a path, not to an abstract name */
	address->length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
}

/* ---- Addresses ---------------------------------------------------------------------------------------------- */

/** Make a relative path whole, and see that it fits a socket's address. */
static int unix_check(struct cp_connector *connector, const char *alias, struct cp_arena *arena,
					  struct cp_value *values, struct cp_error *error)
{
	(void)alias;
	const struct core *core = connector->arg;
	struct cp_value *path = &values[UNIX_PATH];
	bool abstract = unix_is_abstract(path->as.s);
	if (abstract && path->length == 1)
		return cp_error_set(error, CP_EINVAL, NULL, "expected a name behind \"@\"");
	if (!abstract && path->as.s[0] != '/') {
		const char *whole = cp_arena_printf(arena, "%s/%s", core->config_dir, path->as.s);
		*path = cp_string(whole, strlen(whole));
	}
	if (path->length > UNIX_PATH_MAX + (abstract ? 1u : 0u))
		return cp_error_set(error, CP_EINVAL, NULL, "the path of a unix socket has at most %d bytes: %s has %u",
							UNIX_PATH_MAX, path->as.s, path->length);
	return CP_OK;
}

/* ---- Connecting --------------------------------------------------------------------------------------------- */

static int connect_failed(struct cp_open *open, int fd, int errnum)
{
	if (fd >= 0)
		close(fd);
	return socket_connect_error(errnum, unix_path(open->address), &open->error);
}

/** Try to connect. @return CP_OK: open->stream is there; CP_AGAIN: the queue is full, `fd` is the caller's; else an
 * error, with `fd` closed */
static int try_connect(struct cp_open *open, int fd)
{
	struct socket_address address;
	unix_sockaddr(unix_path(open->address), &address);
	if (connect(fd, socket_sockaddr(&address), address.length) < 0)
		return errno == EAGAIN || errno == EINTR ? CP_AGAIN : connect_failed(open, fd, errno);
	open->stream = cp_stream_from_fd(open->loop, fd, 0, &open->error);
	if (open->stream)
		return CP_OK;
	close(fd);
	return open->error.code;
}

static void opening_free(struct opening *o)
{
	cp_timer_stop(&o->timer);
	free(o);
}

static void opening_start_timer(struct opening *o)
{
	uint64_t now = cp_loop_now(o->open->loop);
	uint64_t left = o->deadline > now ? o->deadline - now : 0;
	cp_timer_start(&o->timer, o->delay_ms < left ? o->delay_ms : left);
	o->delay_ms = o->delay_ms * 2 < RETRY_MOST_MS ? o->delay_ms * 2 : RETRY_MOST_MS;
}

static void on_retry(struct cp_timer *timer)
{
	struct opening *o = (struct opening *)((char *)timer - offsetof(struct opening, timer));
	struct cp_open *open = o->open;
	int result = try_connect(open, o->fd);
	if (result == CP_AGAIN && cp_loop_now(open->loop) < o->deadline) {
		opening_start_timer(o);
		return;
	}
	if (result == CP_AGAIN) {
		close(o->fd);
		cp_error_set(&open->error, CP_ETIMEOUT, unix_path(open->address), "its queue was full for %llu ms",
					 (unsigned long long)open->timeout_ms);
	}
	opening_free(o);
	cp_open_done(open);
}

static int wait_for_room(struct cp_open *open, int fd)
{
	struct opening *o = calloc(1, sizeof(*o));
	if (!o)
		return connect_failed(open, fd, ENOMEM);
	o->open = open;
	o->fd = fd;
	o->delay_ms = RETRY_FIRST_MS;
	o->deadline = open->timeout_ms > 0 ? cp_loop_now(open->loop) + open->timeout_ms : UINT64_MAX;
	cp_timer_init(&o->timer, open->loop, on_retry);
	opening_start_timer(o);
	open->state = o;
	return CP_AGAIN;
}

static int unix_connect(struct cp_connector *connector, struct cp_open *open)
{
	(void)connector;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return connect_failed(open, fd, errno);
	int result = try_connect(open, fd);
	return result == CP_AGAIN ? wait_for_room(open, fd) : result;
}

static void unix_cancel(struct cp_connector *connector, struct cp_open *open)
{
	(void)connector;
	struct opening *o = open->state;
	close(o->fd);
	opening_free(o);
}

/* ---- The connector ------------------------------------------------------------------------------------------ */

static const char *const unix_aliases[] = {"unix", NULL};

static const struct cp_field_def unix_fields[UNIX_FIELDS] = {
	[UNIX_PATH] = {.name = "path", .kind = CP_STRING, .role = CP_ROLE_PATH},
	[UNIX_MULTIPLEX] = {.name = "multiplex", .kind = CP_STRING, .role = CP_ROLE_MULTIPLEX, .optional = true},
};

const struct cp_connector_def unix_connector = {
	.size = sizeof(struct cp_connector_def),
	.aliases = unix_aliases,
	.fields = unix_fields,
	.field_count = UNIX_FIELDS,
	.syntax = "unix:/path!multiplex, unix:@name",
	.check = unix_check,
	.bind = unix_bind,
	.connect = unix_connect,
	.cancel = unix_cancel,
};
