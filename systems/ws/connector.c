/* The connector: ws, wss, websocket.
 *
 *     bind      tcp's listener (listen.c); each connection ─▶ [TLS, for wss] ─▶ the request for a websocket (accept.c)
 *     connect   SOCKET ─▶ [TUNNEL: through an HTTP proxy] ─▶ [TLS] ─▶ UPGRADE: the request (converter.c)
 *
 * TLS is the tls system's: accepting, the profile that a bare "tls+" means; connecting, the system's authorities. Each
 * attempt to connect the socket has the opening's time, and what comes behind it has it once more as a whole. */
#include "open.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

bool ws_is_secure(const struct cp_address *address)
{
	for (uint32_t i = 0; i < address->layer_count; i++)
		if (strcmp(address->layers[i].converter->def->id, "tls") == 0)
			return true;
	return address->connector->def == &ws_connector && strcmp(address->alias, "wss") == 0;
}

/* ---- Addresses ---------------------------------------------------------------------------------------------- */

void ws_socket_init(struct ws_socket *socket, const struct ws_part *part, const struct cp_address *address)
{
	const struct cp_connector_def *def = part->tcp->connector->def;
	socket->address = *part->tcp;
	socket->address.fields.at = socket->fields;
	for (uint32_t i = 0; i < def->field_count; i++) {
		socket->fields[i] = part->tcp->fields.at[i];
		if (def->fields[i].role == CP_ROLE_HOST)
			socket->fields[i].value = address->fields.at[WS_ADDR].value;
		else if (def->fields[i].role == CP_ROLE_PORT)
			socket->fields[i].value = address->fields.at[WS_PORT].value;
	}
}

/** The path in its one way of writing, so that routers find what clients ask for. */
static int check(struct cp_connector *connector, const char *alias, struct cp_arena *arena, struct cp_value *values,
				 struct cp_error *error)
{
	struct cp_value *path = &values[WS_PATH];
	(void)connector, (void)alias;
	if (path->kind != CP_STRING)
		return CP_OK;
	if (path->length == 0 || path->as.s[0] != '/')
		return cp_error_set(error, CP_EINVAL, NULL, "expected a path that begins with \"/\", found \"%s\"", path->as.s);
	char *text = cp_arena_alloc(arena, path->length + 1);
	size_t length = ws_path_read(path->as.s, path->length, text);
	text[length] = '\0';
	*path = cp_string(text, length);
	return CP_OK;
}

static const char *path_of(const struct cp_address *address)
{
	const struct cp_value *path = &address->fields.at[WS_PATH].value;
	return path->kind == CP_STRING ? path->as.s : NULL;
}

/* ---- Checking ----------------------------------------------------------------------------------------------- */

static int check_tls(const struct ws_part *part, const struct cp_address *address, struct cp_error *error)
{
	if (!part->tls)
		return cp_error_set(error, CP_EUNSUPPORTED, NULL, "wss needs the tls system, which is not there");
	return part->tls->def->check_use(part->tls, address, NULL, true, error);
}

static int check_bind(struct cp_connector *connector, const struct cp_address *address, struct cp_error *error)
{
	const struct ws_part *part = connector->arg;
	struct cp_connector *tcp = part->tcp->connector;
	const char *path = path_of(address);
	struct ws_socket socket;
	if (part->broken.code != CP_OK)
		return cp_error_set(error, part->broken.code, NULL, "%s", part->broken.message);
	if (path && strchr(path, '?'))
		return cp_error_set(error, CP_EINVAL, NULL,
							"a path that is bound has no query: whatever is behind \"?\" in a request is its fact "
							"`query`; a \"?\" in the path itself is written %%253F");
	ws_socket_init(&socket, part, address);
	int result = tcp->def->check_bind(tcp, &socket.address, error);
	return result == CP_OK && ws_is_secure(address) ? check_tls(part, address, error) : result;
}

/* ---- Accepting ---------------------------------------------------------------------------------------------- */

/** TLS of an accepted connection, until its handshake is over. */
struct securing {
	struct ws_waiting waiting; /* first */
	const struct ws_part *part;
	struct cp_open *open;
	struct cp_open tls;
};

static void securing_cancel(struct cp_open *open)
{
	struct securing *s = open->state;
	s->part->tls->def->cancel(s->part->tls, &s->tls);
	free(s);
}

/** TLS has ended its handshake. @return as cp_connector_def.handshake */
static int secured(struct securing *s, int result)
{
	const struct ws_part *part = s->part;
	struct cp_open *open = s->open;
	if (result == CP_OK)
		open->lower = s->tls.stream;
	else
		open->error = s->tls.error;
	free(s);
	return result == CP_OK ? ws_open_accept(part, open, NULL) : result;
}

static void on_secured(struct cp_open *tls)
{
	struct securing *s = tls->arg;
	struct cp_open *open = s->open;
	int result = secured(s, tls->error.code);
	if (result == CP_AGAIN)
		return;
	open->error.code = (enum cp_err)result;
	cp_open_done(open);
}

/** An opening of one part of another one. */
static void begin_part(struct cp_open *part, const struct cp_open *whole, struct cp_stream *lower,
					   cp_open_finished *finished, void *arg)
{
	*part = (struct cp_open){
		.loop = whole->loop,
		.address = whole->address,
		.request = whole->request,
		.timeout_ms = whole->timeout_ms,
		.lower = lower,
		.finished = finished,
		.arg = arg,
	};
}

static int no_memory(struct cp_open *open)
{
	return cp_error_set(&open->error, CP_ENOMEM, NULL, "no memory for a websocket");
}

static int accept_secure(const struct ws_part *part, struct cp_open *open)
{
	struct securing *s = part->tls ? malloc(sizeof(*s)) : NULL;
	if (!s) {
		cp_stream_close(open->lower, CP_CAUSE_NO_RESOURCES);
		return no_memory(open);
	}
	s->waiting.cancel = securing_cancel;
	s->part = part;
	s->open = open;
	begin_part(&s->tls, open, open->lower, on_secured, s);
	int result = part->tls->def->accept(part->tls, &s->tls);
	if (result != CP_AGAIN)
		return secured(s, result);
	open->state = s;
	return CP_AGAIN;
}

static int handshake(struct cp_connector *connector, struct cp_open *open)
{
	const struct ws_part *part = connector->arg;
	if (ws_is_secure(open->address))
		return accept_secure(part, open);
	return ws_open_accept(part, open, NULL);
}

/* ---- Connecting --------------------------------------------------------------------------------------------- */

enum stage {
	STAGE_SOCKET,  /* of the target, or of a proxy before it */
	STAGE_TUNNEL,  /* the proxy was asked for a connection to the target */
	STAGE_TLS,     /* its handshake */
	STAGE_UPGRADE, /* the target was asked for a websocket */
};

struct connecting {
	struct ws_waiting waiting; /* first */
	const struct ws_part *part;
	const struct ws_options *options;
	struct cp_open *open;
	enum stage stage;
	struct cp_connect *connect; /* STAGE_SOCKET */
	struct ws_tunnel *tunnel;   /* STAGE_TUNNEL */
	struct cp_open inner;       /* STAGE_TLS, STAGE_UPGRADE */
	struct ws_socket socket;
	struct cp_timer timer; /* for what is behind the socket */
};

/** Free it unless `result` says that it goes on. @return `result` */
static int settle(struct connecting *c, int result)
{
	struct cp_open *open = c->open;
	if (result == CP_AGAIN)
		return result;
	if (result == CP_OK)
		open->stream = c->inner.stream;
	open->error.code = (enum cp_err)result;
	if (cp_timer_running(&c->timer))
		cp_timer_stop(&c->timer);
	free(c);
	return result;
}

static void go_on(struct connecting *c, int result)
{
	struct cp_open *open = c->open;
	if (settle(c, result) != CP_AGAIN)
		cp_open_done(open);
}

/** A step of `inner` has ended, now or later. @return CP_OK, or the code of the opening's error */
static int inner_ended(struct connecting *c, int result)
{
	if (result != CP_OK && result != CP_AGAIN)
		c->open->error = c->inner.error;
	return result;
}

static void on_inner(struct cp_open *inner);

static int ask_for_websocket(struct connecting *c, struct cp_stream *stream)
{
	c->stage = STAGE_UPGRADE;
	begin_part(&c->inner, c->open, stream, on_inner, c);
	return inner_ended(c, ws_open_connect(c->part, &c->inner, path_of(c->open->address)));
}

/** There is a way to the target. */
static int reached(struct connecting *c, struct cp_stream *stream)
{
	const struct cp_converter *tls = c->part->tls;
	if (!ws_is_secure(c->open->address))
		return ask_for_websocket(c, stream);
	c->stage = STAGE_TLS;
	begin_part(&c->inner, c->open, stream, on_inner, c);
	int result = inner_ended(c, tls->def->connect(tls, &c->inner));
	return result == CP_OK ? ask_for_websocket(c, c->inner.stream) : result;
}

static void on_inner(struct cp_open *inner)
{
	struct connecting *c = inner->arg;
	int result = inner_ended(c, inner->error.code);
	if (result == CP_OK && c->stage == STAGE_TLS)
		result = ask_for_websocket(c, inner->stream);
	go_on(c, result);
}

static void on_tunnel(struct cp_stream *stream, const struct cp_error *error, void *arg)
{
	struct connecting *c = arg;
	if (!stream)
		c->open->error = *error;
	go_on(c, stream ? reached(c, stream) : (int)error->code);
}

static int ask_proxy(struct connecting *c, struct cp_stream *stream)
{
	const struct cp_field *fields = c->open->address->fields.at;
	c->stage = STAGE_TUNNEL;
	int result = ws_tunnel_start(stream, fields[WS_ADDR].value.as.s, (uint16_t)fields[WS_PORT].value.as.u,
								 c->options->proxy_authorization, on_tunnel, c, &c->tunnel, &c->open->error);
	if (result != CP_AGAIN)
		cp_stream_close(stream, CP_CAUSE_CONNECT_FAILED);
	return result;
}

static int have_socket(struct connecting *c, struct cp_stream *stream)
{
	if (c->open->timeout_ms)
		cp_timer_start(&c->timer, c->open->timeout_ms);
	return c->options->proxy ? ask_proxy(c, stream) : reached(c, stream);
}

static void on_socket(struct cp_stream *stream, const struct cp_error *error, void *arg)
{
	struct connecting *c = arg;
	if (!stream)
		c->open->error = *error;
	go_on(c, stream ? have_socket(c, stream) : (int)error->code);
}

/** Give up the stage that is under way. */
static void stop(struct connecting *c)
{
	switch (c->stage) {
	case STAGE_SOCKET:
		cp_connect_cancel(c->connect);
		break;
	case STAGE_TUNNEL:
		ws_tunnel_cancel(c->tunnel);
		break;
	case STAGE_TLS:
		c->part->tls->def->cancel(c->part->tls, &c->inner);
		break;
	case STAGE_UPGRADE:
		ws_open_cancel(&c->inner);
		break;
	}
}

static void connecting_cancel(struct cp_open *open)
{
	struct connecting *c = open->state;
	stop(c);
	settle(c, CP_ECANCELED);
}

static void on_timeout(struct cp_timer *timer)
{
	static const char *const what[] = {
		[STAGE_TUNNEL] = "no connection by the HTTP proxy",
		[STAGE_TLS] = "no end of the TLS handshake",
		[STAGE_UPGRADE] = "no answer to the request for a websocket",
	};
	struct connecting *c = (struct connecting *)((char *)timer - offsetof(struct connecting, timer));
	stop(c);
	cp_error_set(&c->open->error, CP_ETIMEOUT, NULL, "%s within %" PRIu64 " ms", what[c->stage], c->open->timeout_ms);
	go_on(c, CP_ETIMEOUT);
}

static int connect_socket(struct connecting *c)
{
	const struct cp_open *open = c->open;
	const struct cp_address *address = c->options->proxy;
	struct cp_stream *stream;
	if (!address) {
		ws_socket_init(&c->socket, c->part, open->address);
		address = &c->socket.address;
	}
	int result = cp_connect_start(open->loop, address, open->request, open->timeout_ms, on_socket, c, &c->connect,
								  &stream, &c->open->error);
	return result == CP_OK ? have_socket(c, stream) : result;
}

static int connect_to(struct cp_connector *connector, struct cp_open *open)
{
	const struct ws_part *part = connector->arg;
	const char *path = path_of(open->address);
	open->early_sent = 0;
	if (ws_is_secure(open->address) && !part->tls)
		return cp_error_set(&open->error, CP_EUNSUPPORTED, NULL, "wss needs the tls system, which is not there");
	struct connecting *c = calloc(1, sizeof(*c));
	if (!c)
		return no_memory(open);
	c->waiting.cancel = connecting_cancel;
	c->part = part;
	c->options = ws_settings_find(part->settings, open->address, path, path ? strlen(path) : 0);
	c->open = open;
	cp_timer_init(&c->timer, open->loop, on_timeout);
	open->state = c;
	return settle(c, connect_socket(c));
}

static void cancel(struct cp_connector *connector, struct cp_open *open)
{
	(void)connector;
	ws_open_cancel(open);
}

/* ---- The connector ------------------------------------------------------------------------------------------ */

static const char *const aliases[] = {"ws", "wss", "websocket", NULL};

static const struct cp_field_def fields[WS_FIELDS] = {
	[WS_ADDR] = {.name = "addr", .kind = CP_STRING, .role = CP_ROLE_HOST},
	[WS_PORT] = {.name = "port", .kind = CP_U16, .role = CP_ROLE_PORT},
	[WS_PATH] = {.name = "path", .kind = CP_STRING, .role = CP_ROLE_PATH, .optional = true},
	[WS_MULTIPLEX] = {.name = "multiplex", .kind = CP_STRING, .role = CP_ROLE_MULTIPLEX, .optional = true},
};

const struct cp_connector_def ws_connector = {
	.size = sizeof(struct cp_connector_def),
	.aliases = aliases,
	.flags = CP_CONNECTOR_ANY,
	.fields = fields,
	.field_count = WS_FIELDS,
	.syntax = "ws:host:port/path!multiplex",
	.check = check,
	.bind = ws_bind,
	.check_bind = check_bind,
	.connect = connect_to,
	.cancel = cancel,
	.handshake = handshake,
};
