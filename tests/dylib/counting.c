/* A library that says what happens to it, for tests: its mapping and unmapping, its load and unload, and which VERSION
 * of it serves. It has
 *     count+…        a converter that passes everything through, so that a stream has code of this library in it
 *     greet:PORT     a connector that can be bound (on 127.0.0.1): who connects is greeted with "vVERSION\n", then
 *                    heard as usual. Its sockets can be handed over to the next load
 *     a router of the system's id, which answers the address in the setting `to`; binds the one in `bind`
 *     ask = true     the router asks for the server name first, and notes it
 *     child = "id"   registers a further system of that id
 *     fail = true    load fails behind everything else */
#include <connpipe/connpipe.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/** In the unit tests the program has this. Elsewhere the log is read, and the file $COUNTING, as there is no log yet
 * when the first generation loads. */
__attribute__((weak)) void counting_note(const char *what);

static void note(const char *what)
{
	const char *path = getenv("COUNTING");
	if (counting_note)
		counting_note(what);
	cp_log(CP_INFO, "counting", "v%d %s", VERSION, what);
	int fd = path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
	if (fd < 0)
		return;
	dprintf(fd, "v%d %s\n", VERSION, what);
	close(fd);
}

__attribute__((constructor)) static void on_mapped(void)
{
	note("mapped");
}

__attribute__((destructor)) static void on_unmapped(void)
{
	note("unmapped");
}

/* ---- The converter ------------------------------------------------------------------------------------------ */

struct pass {
	struct cp_stream base;
	struct cp_stream *lower;
};

static struct cp_stream *lower(struct cp_stream *stream)
{
	return ((struct pass *)stream)->lower;
}

static ssize_t pass_read(struct cp_stream *stream, const struct iovec *vec, int count, unsigned *hints)
{
	return cp_stream_readv(lower(stream), vec, count, hints);
}

static ssize_t pass_write(struct cp_stream *stream, const struct iovec *vec, int count, unsigned flags)
{
	return cp_stream_writev(lower(stream), vec, count, flags);
}

static int pass_shutdown_write(struct cp_stream *stream)
{
	return cp_stream_shutdown_write(lower(stream));
}

static void pass_close(struct cp_stream *stream, enum cp_cause cause)
{
	cp_stream_close(lower(stream), cause);
	cp_stream_deinit(stream);
	free(stream);
}

static void pass_await(struct cp_stream *stream, unsigned events)
{
	cp_stream_await(lower(stream), events);
}

static const struct cp_stream_ops pass_ops = {
	.size = sizeof(pass_ops),
	.name = "count",
	.read = pass_read,
	.write = pass_write,
	.shutdown_write = pass_shutdown_write,
	.close = pass_close,
	.await = pass_await,
};

static void on_ready(struct cp_stream *from, unsigned events, void *pass)
{
	(void)from;
	cp_stream_notify(pass, events);
}

static int wrap(const struct cp_converter *converter, struct cp_open *open)
{
	struct pass *pass = calloc(1, sizeof(*pass));
	cp_stream_init(&pass->base, &pass_ops, open->loop, converter->system);
	pass->lower = open->lower;
	cp_stream_set_user(pass->lower, on_ready, pass);
	open->stream = &pass->base;
	return CP_OK;
}

static const struct cp_converter_def converter_def = {
	.size = sizeof(converter_def), .id = "count", .accept = wrap, .connect = wrap};

/* ---- The connector ------------------------------------------------------------------------------------------ */

struct listener {
	struct cp_listener base;
	int fd; /* all workers accept from it */
	uint16_t port;
};

struct acceptor {
	struct cp_acceptor base;
	struct cp_loop *loop;
	struct cp_watch *watch;
	cp_acceptor_ready *ready;
	void *arg;
};

static void on_readable(int fd, unsigned events, void *arg)
{
	struct acceptor *acceptor = arg;
	(void)fd, (void)events;
	acceptor->ready(&acceptor->base, acceptor->arg);
}

static struct cp_acceptor *acceptor_open(struct cp_listener *base, struct cp_loop *loop, cp_acceptor_ready *ready,
										 void *arg, struct cp_error *error)
{
	struct acceptor *acceptor = calloc(1, sizeof(*acceptor));
	*acceptor = (struct acceptor){.base = {base}, .loop = loop, .ready = ready, .arg = arg};
	acceptor->watch = cp_watch_new(loop, ((struct listener *)base)->fd, CP_READABLE, on_readable, acceptor, error);
	if (acceptor->watch)
		return &acceptor->base;
	free(acceptor);
	return NULL;
}

static int acceptor_accept(struct cp_acceptor *base, struct cp_accepted *accepted, struct cp_error *error)
{
	struct acceptor *acceptor = (struct acceptor *)base;
	char greeting[16];
	int fd = accept4(((struct listener *)base->listener)->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return cp_error_set(error, cp_err_from_errno(errno), NULL, "accept: %s", strerror(errno));
	int length = snprintf(greeting, sizeof(greeting), "v%d\n", VERSION);
	if (send(fd, greeting, (size_t)length, MSG_NOSIGNAL) == length)
		accepted->stream = cp_stream_from_fd(acceptor->loop, fd, CP_FD_TCP, error);
	if (accepted->stream)
		return CP_OK;
	close(fd);
	return CP_ERESET;
}

static void acceptor_pause(struct cp_acceptor *base)
{
	cp_watch_set(((struct acceptor *)base)->watch, 0);
}

static void acceptor_resume(struct cp_acceptor *base)
{
	cp_watch_set(((struct acceptor *)base)->watch, CP_READABLE);
}

static void acceptor_close(struct cp_acceptor *base)
{
	cp_watch_free(((struct acceptor *)base)->watch);
	free(base);
}

static void unbind(struct cp_listener *base)
{
	close(((struct listener *)base)->fd);
	free(base);
}

static size_t listener_name(const struct cp_listener *base, char *buffer, size_t room)
{
	return (size_t)snprintf(buffer, room, "greet:%u", ((const struct listener *)base)->port);
}

static uint32_t listener_sockets(const struct cp_listener *base, int *fds, uint32_t room)
{
	(void)room; /* is never 0 */
	fds[0] = fcntl(((const struct listener *)base)->fd, F_DUPFD_CLOEXEC, 0);
	return fds[0] >= 0;
}

static const struct cp_listener_ops listener_ops = {
	.size = sizeof(listener_ops),
	.open = acceptor_open,
	.accept = acceptor_accept,
	.pause = acceptor_pause,
	.resume = acceptor_resume,
	.close = acceptor_close,
	.unbind = unbind,
	.name = listener_name,
#ifndef STAYS
	.sockets = listener_sockets,
#endif
};

static struct cp_listener *make_listener(struct cp_connector *connector, int fd)
{
	struct sockaddr_in address;
	socklen_t length = sizeof(address);
	struct listener *listener = calloc(1, sizeof(*listener));
	*listener = (struct listener){.base = {&listener_ops, connector}, .fd = fd};
	if (getsockname(fd, (struct sockaddr *)&address, &length) == 0)
		listener->port = ntohs(address.sin_port);
	return &listener->base;
}

static int bind_to(struct cp_connector *connector, const struct cp_address *address, uint32_t workers,
				   struct cp_listener **out, struct cp_error *error)
{
	(void)workers;
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	to.sin_port = htons((uint16_t)address->fields.at[0].value.as.u);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (bind(fd, (struct sockaddr *)&to, sizeof(to)) < 0 || listen(fd, SOMAXCONN) < 0) {
		cp_error_set(error, cp_err_from_errno(errno), NULL, "bind: %s", strerror(errno));
		close(fd);
		return error->code;
	}
	*out = make_listener(connector, fd);
	return CP_OK;
}

static int adopt(struct cp_connector *connector, const struct cp_address *address, uint32_t workers, const int *fds,
				 uint32_t count, struct cp_listener **out, struct cp_error *error)
{
	(void)address, (void)workers, (void)count, (void)error;
	*out = make_listener(connector, fds[0]);
	note("adopted");
	return CP_OK;
}

static const struct cp_field_def fields[] = {{"port", CP_U16, CP_ROLE_OTHER, false}};

static int parse(struct cp_connector *connector, const char *alias, const struct cp_part *rest, struct cp_arena *arena,
				 struct cp_value *values, struct cp_error *error)
{
	(void)connector, (void)alias;
	struct cp_value text = cp_string(cp_arena_strndup(arena, rest->at, rest->length), rest->length);
	return cp_value_convert(&text, CP_U16, arena, &values[0], error);
}

static size_t format(const struct cp_address *address, char *buffer, size_t room)
{
	return cp_value_print(&address->fields.at[0].value, buffer, room);
}

static const struct cp_connector_def connector_def = {
	.size = sizeof(connector_def),
	.aliases = (const char *const[]){"greet", NULL},
	.fields = fields,
	.field_count = 1,
	.syntax = "greet:port",
	.parse = parse,
	.format = format,
	.bind = bind_to,
	.adopt = adopt,
};

/* ---- The router and the system ------------------------------------------------------------------------------ */

struct counting {
	struct cp_arena *arena;
	struct cp_router *router;
	const struct cp_settings *bind, *to;
	const struct cp_address *target;
	bool ask;
};

static const struct cp_sniff server_name = {.size = sizeof(server_name), .facts = CP_SNIFF_TLS};

static void note_name(const struct cp_value *name)
{
	char text[128];
	snprintf(text, sizeof(text), "sni=%s", name && name->kind == CP_STRING ? name->as.s : "");
	note(text);
}

static int route(struct cp_router *router, struct cp_request *request, struct cp_answer *answer, struct cp_error *error)
{
	const struct counting *counting = router->arg;
	(void)error;
	if (counting->ask && !cp_request_sniffed(request, &server_name)) {
		note("asks");
		*answer = (struct cp_answer){.kind = CP_ANSWER_FACTS, .sniff = &server_name};
		return CP_OK;
	}
	if (counting->ask)
		note_name(cp_request_fact(request, "sni"));
	*answer = (struct cp_answer){.kind = CP_ANSWER_TARGETS, .targets = &counting->target, .target_count = 1};
	return CP_OK;
}

static const struct cp_router_def router_def = {.size = sizeof(router_def), .route = route};

static const struct cp_system_def child_def = {.abi = CP_ABI_VERSION, .size = sizeof(child_def)};

static int load(struct cp_system *self, const struct cp_settings *settings)
{
	struct counting *counting = calloc(1, sizeof(*counting));
	const char *child = NULL;
	bool fail = false;
	note("load");
	cp_system_set_data(self, counting);
	counting->arena = cp_arena_new(0);
	counting->bind = cp_settings_get(settings, "bind");
	counting->to = cp_settings_get(settings, "to");
	cp_settings_get_string(settings, "child", &child);
	cp_settings_get_bool(settings, "fail", &fail);
	cp_settings_get_bool(settings, "ask", &counting->ask);
	cp_register_connector(self, &connector_def, NULL, NULL);
	cp_register_converter(self, &converter_def, NULL, NULL);
	cp_register_router(self, &router_def, NULL, counting, &counting->router);
	if (child)
		cp_register_system(self, &child_def, child, NULL);
	return fail ? CP_EIO : CP_OK;
}

static const struct cp_address *read_address(struct cp_system *self, const struct cp_settings *value)
{
	struct counting *counting = cp_system_data(self);
	const struct cp_address *address = NULL;
	struct cp_error error;
	const char *text;
	size_t length;
	if (value && cp_settings_string(value, &text, &length) &&
		cp_address_parse(cp_system_scope(self), counting->arena, text, length, 0, &address, &error) != CP_OK)
		cp_settings_error(value, "%s", error.message);
	return address;
}

static int link_names(struct cp_system *self)
{
	struct counting *counting = cp_system_data(self);
	const struct cp_address *bound = read_address(self, counting->bind);
	counting->target = read_address(self, counting->to);
	return bound ? cp_router_bind(counting->router, bound, NULL) : CP_OK;
}

static void unload(struct cp_system *self)
{
	struct counting *counting = cp_system_data(self);
	cp_arena_free(counting->arena);
	free(counting);
	note("unload");
}

static const struct cp_system_def system_def = {
	.abi = CP_ABI_VERSION, .size = sizeof(system_def), .load = load, .link = link_names, .unload = unload};
CP_SYSTEM_EXPORT(system_def)
