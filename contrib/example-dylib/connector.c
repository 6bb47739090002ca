/* A connector for unix sockets of the abstract namespace: `local:name` is a target. In config.toml:
 *
 *     [local]
 *     type = "dylib"
 *     path = "dylib/libconnector{dylib}"
 */
#include <connpipe/connpipe.h>

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/** The parts of an address. One that is like a host needs no parser of its own; see enum cp_field_role for the others.
 * Routers read and build addresses by these names, so they are for people too. */
static const struct cp_field_def fields[] = {{.name = "name", .kind = CP_STRING, .role = CP_ROLE_HOST}};

/** An abstract name begins with a zero byte and ends where the length says. */
static socklen_t to_sockaddr(const struct cp_value *name, struct sockaddr_un *to)
{
	*to = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(to->sun_path + 1, name->as.s, name->length);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + name->length);
}

/** Whether the fields make sense: asked whenever an address is made, so that `connpipe check` finds what is wrong. */
static int check(struct cp_connector *connector, const char *alias, struct cp_arena *arena, struct cp_value *values,
				 struct cp_error *error)
{
	(void)connector, (void)arena;
	if (values[0].length + 1 <= sizeof(((struct sockaddr_un *)0)->sun_path))
		return CP_OK;
	return cp_error_set(error, CP_EINVAL, NULL, "the name in %s:%s has %u bytes; 107 fit", alias, values[0].as.s,
						values[0].length);
}

static int failed(struct cp_open *open, const char *what)
{
	return cp_error_set(&open->error, cp_err_from_errno(errno), NULL, "%s: %s", what, strerror(errno));
}

/** Connect: called on the connection's worker, and must not wait. Here it is done, or has failed, at once. A connector
 * that needs time watches its descriptor (cp_watch_new), returns CP_AGAIN, calls cp_open_done() later, and has a
 * `cancel`. The stream over a socket is the program's; for anything else fill a `struct cp_stream_ops`, as the
 * converter beside this one does. */
static int connect_to(struct cp_connector *connector, struct cp_open *open)
{
	(void)connector;
	struct sockaddr_un to;
	socklen_t length = to_sockaddr(&open->address->fields.at[0].value, &to);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return failed(open, "socket");
	if (connect(fd, (const struct sockaddr *)&to, length) < 0) {
		failed(open, "connect"); /* EAGAIN: the server's queue is full */
		close(fd);
		return open->error.code == CP_AGAIN ? CP_EREFUSED : (int)open->error.code;
	}
	open->stream = cp_stream_from_fd(open->loop, fd, 0, &open->error);
	if (open->stream)
		return CP_OK;
	close(fd);
	return open->error.code;
}

/** `bind` is left out: this connector cannot be bound. systems/core/unix_listen.c shows how that is done. */
static const struct cp_connector_def connector_def = {
	.size = sizeof(struct cp_connector_def),
	.aliases = (const char *const[]){"local", NULL},
	.fields = fields,
	.field_count = 1,
	.syntax = "local:name",
	.check = check,
	.connect = connect_to,
};

static int load(struct cp_system *self, const struct cp_settings *settings)
{
	(void)settings; /* a key that nobody asks for is reported as unknown */
	return cp_register_connector(self, &connector_def, NULL, NULL);
}

static const struct cp_system_def system_def = {.abi = CP_ABI_VERSION, .size = sizeof(system_def), .load = load};
CP_SYSTEM_EXPORT(system_def)
