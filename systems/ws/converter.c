/* The converter `ws(/path)`, and the connecting side: a request for a websocket over a stream. libwebsockets writes it
 * and reads the answer. */
#include "open.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ARENA_FIRST = 1024, PORT_HTTP = 80, PORT_HTTPS = 443 };

struct asking {
	struct ws_waiting waiting; /* first */
	const struct ws_part *part;
	struct cp_open *open; /* NULL: given up, before it was asked for */
	struct cp_deferred deferred;
	struct cp_arena *arena; /* holds `request`, until it was sent */
	struct ws_request request;
	struct ws_behaviour behaviour;
	int fd;                           /* -1: ws_connect() has taken it */
	struct ws_connecting *connecting; /* NULL: not asked yet */
};

/* ---- What is asked for -------------------------------------------------------------------------------------- */

static const struct cp_value *field_of(const struct cp_address *address, enum cp_field_role role)
{
	const struct cp_connector_def *def = address->connector->def;
	for (uint32_t i = 0; i < def->field_count; i++)
		if (def->fields[i].role == role && address->fields.at[i].value.kind != CP_NULL)
			return &address->fields.at[i].value;
	return NULL;
}

/** The Host field of an address: without the port that the scheme has (RFC 9110, 4.2.3), a zone means nothing to
 * others (RFC 6874, 4). What has no host is on this machine. */
static const char *host_of(struct cp_arena *arena, const struct cp_address *address)
{
	const struct cp_value *host = field_of(address, CP_ROLE_HOST), *port = field_of(address, CP_ROLE_PORT);
	struct cp_ip ip;
	char text[CP_IP_TEXT];
	if (!host)
		return "localhost";
	const char *name = host->as.s;
	if (cp_ip_parse(name, host->length, &ip) && ip.family == 6) {
		ip.zone = 0;
		cp_ip_print(&ip, text, sizeof(text));
		name = cp_arena_printf(arena, "[%s]", text);
	}
	uint64_t own = ws_is_secure(address) ? PORT_HTTPS : PORT_HTTP;
	if (!port || port->as.u == own)
		return name;
	return cp_arena_printf(arena, "%s:%u", name, (unsigned)port->as.u);
}

/** What is offered. Some servers (npm's ws) agree to whatever is first, so that must not be WS_HALF_CLOSE_PROTOCOL,
 * whose empty messages they do not know; "binary" says what there is without it, and is what others call it.
 * @return NULL: nothing */
static const char *protocols_of(struct cp_arena *arena, const struct ws_options *options)
{
	const char *all = NULL;
	for (uint32_t i = 0; i < options->subprotocols.count; i++)
		all = cp_arena_printf(arena, "%s%s%s", all ? all : "", all ? ", " : "", options->subprotocols.at[i]);
	if (options->no_half_close)
		return all;
	return cp_arena_printf(arena, "%s, %s", all ? all : "binary", WS_HALF_CLOSE_PROTOCOL);
}

static struct ws_request request_for(struct cp_arena *arena, const struct cp_address *address, const char *path,
									 const struct ws_options *options)
{
	return (struct ws_request){
		.path = path ? ws_path_write(arena, path) : "/",
		.host = options->host ? options->host : host_of(arena, address),
		.origin = options->origin,
		.protocols = protocols_of(arena, options),
		.headers = options->headers,
	};
}

/* ---- Asking ------------------------------------------------------------------------------------------------- */

static void asking_free(struct asking *a)
{
	if (a->arena)
		cp_arena_free(a->arena);
	free(a);
}

/** @param stream  NULL: `error` says why */
static void finish(struct asking *a, struct cp_stream *stream, const struct cp_error *error)
{
	struct cp_open *open = a->open;
	open->stream = stream;
	if (!stream)
		open->error = *error;
	asking_free(a);
	cp_open_done(open);
}

static void on_connected(struct cp_stream *stream, const struct cp_error *error, void *arg)
{
	finish(arg, stream, error);
}

static void asking_cancel(struct cp_open *open)
{
	struct asking *a = open->state;
	if (a->connecting) {
		ws_connect_cancel(a->connecting);
		asking_free(a);
		return;
	}
	close(a->fd);
	a->open = NULL; /* the rest is freed when it would be asked */
}

static void on_deferred(struct cp_deferred *deferred)
{
	struct asking *a = (struct asking *)((char *)deferred - offsetof(struct asking, deferred));
	struct cp_error error = {0};
	if (!a->open) {
		asking_free(a);
		return;
	}
	int fd = a->fd;
	a->fd = -1;
	int result = ws_connect(a->open->loop, fd, &a->request, &a->behaviour, a->part->core, on_connected, a,
							&a->connecting, &error);
	if (result != CP_AGAIN) {
		error.code = (enum cp_err)result;
		finish(a, NULL, &error);
		return;
	}
	cp_arena_free(a->arena);
	a->arena = NULL;
}

/** Not at once: who connects may have been called by libwebsockets with bytes of another websocket, and a request is
 * written where others of those bytes still are. @param fd  taken */
static int ask_later(struct asking *a, int fd, const char *path, const struct ws_options *options)
{
	a->fd = fd;
	a->arena = cp_arena_new(ARENA_FIRST);
	a->request = request_for(a->arena, a->open->address, path, options);
	a->behaviour = (struct ws_behaviour){
		.half_close = !options->no_half_close,
		.deflate = options->deflate,
		.ping_ms = options->ping_ms,
		.pong_ms = options->pong_ms,
		.message_most = options->message_most,
	};
	a->open->state = a;
	cp_defer(a->open->loop, &a->deferred, on_deferred);
	return CP_AGAIN;
}

static int fail(struct cp_open *open)
{
	cp_stream_close(open->lower, CP_CAUSE_NO_RESOURCES);
	return open->error.code;
}

int ws_open_connect(const struct ws_part *part, struct cp_open *open, const char *path)
{
	size_t length = path ? strcspn(path, "?") : 0;
	const struct ws_options *options = ws_settings_find(part->settings, open->address, path, length);
	struct asking *a = calloc(1, sizeof(*a));
	open->early_sent = 0;
	if (!a) {
		cp_error_set(&open->error, CP_ENOMEM, NULL, "no memory for a websocket");
		return fail(open);
	}
	a->waiting.cancel = asking_cancel;
	a->part = part;
	a->open = open;
	int fd = ws_descriptor(open, part->core, NULL, 0);
	if (fd >= 0)
		return ask_later(a, fd, path, options);
	asking_free(a);
	return fail(open);
}

void ws_open_cancel(struct cp_open *open)
{
	const struct ws_waiting *waiting = open->state;
	waiting->cancel(open);
}

/* ---- The converter ------------------------------------------------------------------------------------------ */

static int check_argument(const struct cp_converter *converter, const char *argument, struct cp_error *error)
{
	(void)converter;
	if (!argument || argument[0] == '/')
		return CP_OK;
	return cp_error_set(error, CP_EINVAL, NULL, "expected a path that begins with \"/\", as in ws(/chat), found \"%s\"",
						argument);
}

static int check_use(const struct cp_converter *converter, const struct cp_address *address, const char *argument,
					 bool accepting, struct cp_error *error)
{
	const struct ws_part *part = converter->arg;
	(void)address;
	if (part->broken.code != CP_OK)
		return cp_error_set(error, part->broken.code, NULL, "%s", part->broken.message);
	if (accepting && argument && strchr(argument, '?'))
		return cp_error_set(error, CP_EINVAL, NULL, "a path that is accepted has no query: \"%s\"", argument);
	return CP_OK;
}

static int accept_over(const struct cp_converter *converter, struct cp_open *open)
{
	return ws_open_accept(converter->arg, open, open->argument);
}

static int connect_over(const struct cp_converter *converter, struct cp_open *open)
{
	return ws_open_connect(converter->arg, open, open->argument);
}

static void cancel(const struct cp_converter *converter, struct cp_open *open)
{
	(void)converter;
	ws_open_cancel(open);
}

const struct cp_converter_def ws_converter = {
	.size = sizeof(struct cp_converter_def),
	.id = "ws",
	.form = CP_FORM_ANY,
	.check = check_argument,
	.accept = accept_over,
	.connect = connect_over,
	.cancel = cancel,
	.check_use = check_use,
};
