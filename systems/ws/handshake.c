/* Becoming a websocket.
 *
 * Accepting: the request was read and judged already. libwebsockets wants to read one itself, so it gets one that has
 * only what it needs, as if it had been read from the connection; its answer is 101, into which our lines go. It calls
 * back about all that before ws_accept() returns.
 *
 * Connecting: see engine.c for how it gets a connection of ours. It writes a request; since it cuts what it takes to be
 * too long, only its key is used of that, in one of ours. It checks the answer. */
#include "stream.h"

#include <connpipe/log.h>

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ACCEPT_HEAD_ROOM = 1024 };

static const char *or_empty(const char *text)
{
	return text ? text : "";
}

static void set_nodelay(int fd)
{
	int on = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* not of TCP: no matter */
}

/** @return NULL with `error` filled; `fd` was closed */
static struct ws_stream *begin(struct cp_loop *loop, int fd, const struct ws_behaviour *behaviour,
							   struct cp_system *owner, struct cp_error *error)
{
	struct ws_engine *engine = engine_of(loop);
	struct ws_stream *s = engine && engine->users ? stream_make(engine, behaviour, owner) : NULL;
	if (!s) {
		close(fd);
		cp_error_set(error, engine && engine->users ? CP_ENOMEM : CP_EINVAL, NULL,
					 engine && engine->users ? "out of memory" : "there is no websocket engine on this worker");
		return NULL;
	}
	set_nodelay(fd);
	return s;
}

/** After it has failed. */
static void give_up(struct ws_stream *s)
{
	s->closed = true;
	if (s->wsi)
		stream_cut(s);
	else
		stream_free_later(s);
}

/* ---- Accepting ---------------------------------------------------------------------------------------------- */

static int print_head(char *head, size_t room, const struct ws_text *key, bool deflate)
{
	return snprintf(head, room,
					"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
					"Sec-WebSocket-Key: %.*s\r\nSec-WebSocket-Version: 13\r\n%s\r\n",
					(int)key->length, key->at, deflate ? "Sec-WebSocket-Extensions: " DEFLATE_AGREEMENT "\r\n" : "");
}

/** 503. The client has not said anything behind its request, so that it can read this although the connection ends. */
static void say_unavailable(int fd)
{
	static const struct ws_refusal refusal = {.status = 503, .reason = "out of file descriptors"};
	char answer[WS_REFUSAL_ROOM];
	size_t length = ws_refusal_print(&refusal, answer, sizeof(answer));
	(void)!send(fd, answer, length, MSG_NOSIGNAL | MSG_DONTWAIT);
	close(fd);
}

struct cp_stream *ws_accept(struct cp_loop *loop, int fd, const struct ws_text *key, const char *headers,
							const struct ws_text *extensions, const struct ws_behaviour *behaviour,
							struct cp_system *owner, struct cp_error *error)
{
	char head[ACCEPT_HEAD_ROOM];
	int low = engine_lower(fd, error);
	if (low < 0) {
		ws_count(loop, WS_REFUSED);
		say_unavailable(fd);
		return NULL;
	}
	struct ws_stream *s = begin(loop, low, behaviour, owner, error);
	if (!s)
		return NULL;
	if (behaviour->deflate && extensions && extensions->at)
		s->deflate = deflate_new(); /* without memory: without it */
	int length = print_head(head, sizeof(head), key, s->deflate);
	s->answer = headers;
	s->engine->opening = s;
	lws_adopt_socket_vhost_readbuf(s->engine->accepting, low, head, (size_t)length);
	s->engine->opening = NULL;
	s->answer = NULL;
	evlib_kick(s->engine->evlib);
	if (s->state == WS_STREAM_OPEN)
		return &s->stream;
	cp_error_set(error, CP_EIO, NULL, "libwebsockets refused the connection");
	give_up(s);
	return NULL;
}

static int on_instantiated(struct ws_stream *s, struct lws *wsi)
{
	s->wsi = wsi;
	lws_set_wsi_user(wsi, s);
	return 0;
}

static int on_answer(struct ws_stream *s, struct lws_process_html_args *args)
{
	size_t length = s->answer ? strlen(s->answer) : 0;
	if (length + 4 > (size_t)args->max_len)
		return -1;
	memcpy(args->p, or_empty(s->answer), length);
	args->p += length;
	return 0;
}

/* ---- Connecting --------------------------------------------------------------------------------------------- */

struct ws_connecting {
	struct ws_stream *s;
	ws_connected *done;
	void *arg;
	char *request; /* but for the key */
};

static void connecting_free(struct ws_connecting *c)
{
	free(c->request);
	free(c);
}

/** The request, but for its key. */
static char *print_request(const struct ws_request *r, const char *extensions)
{
	char *text = NULL;
	int length = asprintf(&text,
						  "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
						  "Sec-WebSocket-Version: 13\r\n%s%s%s%s%s%s%s%s%s%s",
						  r->path, r->host, r->origin ? "Origin: " : "", or_empty(r->origin), r->origin ? "\r\n" : "",
						  r->protocols ? "Sec-WebSocket-Protocol: " : "", or_empty(r->protocols),
						  r->protocols ? "\r\n" : "", extensions ? "Sec-WebSocket-Extensions: " : "",
						  or_empty(extensions), extensions ? "\r\n" : "", or_empty(r->headers));
	return length < 0 ? NULL : text;
}

static struct ws_connecting *connecting_new(struct ws_stream *s, const struct ws_request *request, ws_connected *done,
											void *arg)
{
	struct ws_connecting *c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	*c = (struct ws_connecting){.s = s, .done = done, .arg = arg};
	c->request = print_request(request, s->deflate ? DEFLATE_AGREEMENT : NULL);
	if (c->request)
		return c;
	free(c);
	return NULL;
}

/** Nothing comes of it: tell who asked. The connection ends as libwebsockets, or the caller, does it. */
static void tell_failure(struct ws_stream *s, const struct cp_error *error)
{
	struct ws_connecting *c = s->connecting;
	s->connecting = NULL;
	s->closed = true;
	c->done(NULL, error, c->arg);
	connecting_free(c);
}

/** libwebsockets waits for ever for the end of a line that does not begin as an answer does. */
static bool on_first_bytes(int fd, void *arg)
{
	static const char version[] = "HTTP/1.";
	struct ws_stream *s = arg;
	struct cp_error error;
	char bytes[sizeof(version) - 1];
	ssize_t got = recv(fd, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);
	if (got < 0)
		return false;
	if (s->connecting && memcmp(bytes, version, (size_t)got) != 0) {
		cp_error_set(&error, CP_EPROTO, NULL, "what the server answered is not HTTP/1");
		tell_failure(s, &error);
		stream_cut(s);
	}
	return true;
}

/** Have libwebsockets connect, to the engine's own socket. */
static struct lws *start_connecting(struct ws_stream *s, const struct ws_request *request)
{
	struct lws_client_connect_info info = {
		.context = s->engine->context,
		.vhost = s->engine->connecting,
		.address = s->engine->address,
		.port = 1,
		.path = "/",
		.host = "x",
		.protocol = request->protocols,
		.local_protocol_name = ENGINE_CONNECTING,
		.ietf_version_or_minus_one = -1,
		.ssl_connection = LCCSCF_HTTP_NO_FOLLOW_REDIRECT,
		.userdata = s,
		.pwsi = &s->wsi,
	};
	return lws_client_connect_via_info(&info);
}

/** Send our request with the key of libwebsockets' own. A connection that is new takes it whole. */
static int send_request(const struct ws_stream *s, const char *request, const char *theirs)
{
	static const char field[] = "\r\nSec-WebSocket-Key: ";
	const char *key = strstr(theirs, field);
	char *text;
	if (!key || strlen(key) < sizeof(field) + WS_KEY_LENGTH)
		return CP_EIO;
	int length = asprintf(&text, "%s%.*s\r\n\r\n", request, (int)sizeof(field) - 1 - 2 + WS_KEY_LENGTH, key + 2);
	if (length < 0)
		return CP_ENOMEM;
	ssize_t put = send(lws_get_socket_fd(s->wsi), text, (size_t)length, MSG_NOSIGNAL);
	int result = put == length ? CP_OK : put < 0 ? cp_err_from_errno(errno) : CP_EIO;
	free(text);
	return result;
}

/** @return CP_OK, or an error: CP_AGAIN is one, too */
static int ask_through(struct ws_stream *s, int fd, const struct ws_request *request, const char *text)
{
	char sent[2048];
	if (!start_connecting(s, request)) {
		s->wsi = NULL;
		return CP_EIO;
	}
	int result = engine_replace(s->engine, s->wsi, fd, sent, sizeof(sent));
	if (result != CP_OK)
		return result;
	evlib_peek(s->engine->evlib, lws_get_socket_fd(s->wsi), on_first_bytes, s);
	return send_request(s, text, sent);
}

/** @param fd  taken, in any case  @return CP_OK, or another code than CP_AGAIN with `error` filled */
static int ask(struct ws_stream *s, int fd, const struct ws_request *request, const char *text, struct cp_error *error)
{
	int result = engine_listen(s->engine, error);
	if (result == CP_OK) {
		result = ask_through(s, fd, request, text);
		engine_unlisten(s->engine);
		evlib_kick(s->engine->evlib);
		if (result != CP_OK)
			result = cp_error_set(error, result == CP_AGAIN ? CP_EIO : (enum cp_err)result, NULL,
								  "a websocket cannot be asked for: libwebsockets did not connect: %s",
								  cp_err_text((enum cp_err)result));
	}
	close(fd);
	return result;
}

int ws_connect(struct cp_loop *loop, int fd, const struct ws_request *request, const struct ws_behaviour *behaviour,
			   struct cp_system *owner, ws_connected *done, void *arg, struct ws_connecting **out,
			   struct cp_error *error)
{
	struct ws_stream *s = begin(loop, fd, behaviour, owner, error);
	if (!s)
		return error ? (int)error->code : CP_ENOMEM;
	s->connects = true;
	if (behaviour->deflate)
		s->deflate = deflate_new();
	struct ws_connecting *c = connecting_new(s, request, done, arg);
	if (!c) {
		close(fd);
		give_up(s);
		return cp_error_set(error, CP_ENOMEM, NULL, "out of memory");
	}
	/* Until it is asked, `c` is not the stream's: libwebsockets' callbacks about what fails at once tell nobody. */
	int result = ask(s, fd, request, c->request, error);
	if (result == CP_OK) {
		s->connecting = *out = c;
		return CP_AGAIN;
	}
	connecting_free(c);
	give_up(s);
	return result;
}

void ws_connect_cancel(struct ws_connecting *c)
{
	struct ws_stream *s = c->s;
	s->connecting = NULL;
	connecting_free(c);
	give_up(s);
}

/** The answer is as it has to be. Which subprotocol did the server choose, and did it choose an extension? */
static int on_answered(struct ws_stream *s, struct lws *wsi)
{
	char name[128], agreed[256];
	bool deflates = lws_hdr_total_length(wsi, WSI_TOKEN_EXTENSIONS) > 0;
	if (deflates && (!s->deflate || lws_hdr_copy(wsi, agreed, sizeof(agreed), WSI_TOKEN_EXTENSIONS) < 0 ||
					 strchr(agreed, ','))) /* one was offered; libwebsockets takes it twice */
		return -1;
	if (!deflates) {
		deflate_free(s->deflate);
		s->deflate = NULL;
	}
	int length = lws_hdr_copy(wsi, name, sizeof(name), WSI_TOKEN_PROTOCOL);
	if (length <= 0 || strcmp(name, WS_HALF_CLOSE_PROTOCOL) != 0)
		s->behaviour.half_close = false;
	return 0;
}

static int on_established(struct ws_stream *s)
{
	struct ws_connecting *c = s->connecting;
	if (!c)
		return -1; /* canceled */
	s->connecting = NULL;
	stream_opened(s);
	c->done(&s->stream, NULL, c->arg);
	connecting_free(c);
	return s->state == WS_STREAM_ENDING ? -1 : 0;
}

/** What libwebsockets says about answers, in words for people. */
static void tell_refusal(struct cp_error *error, struct lws *wsi, const char *why, size_t length)
{
	char line[128];
	unsigned status = wsi ? lws_http_client_http_response(wsi) : 0;
	if (status && status != 101) {
		int got = lws_hdr_copy(wsi, line, sizeof(line), WSI_TOKEN_HTTP);
		cp_error_set(error, CP_EREFUSED, NULL, "the server answered %.*s", got > 0 ? got : 3,
					 got > 0 ? line : "without a status");
	} else if (status) {
		cp_error_set(error, CP_EPROTO, NULL, "the server's answer is not one for a websocket: %.*s", (int)length, why);
	} else {
		cp_error_set(error, CP_ERESET, NULL, "the server ended the connection without an answer");
	}
}

static void failed(struct ws_stream *s, struct lws *wsi, const char *why, size_t length)
{
	struct cp_error error;
	if (!s->connecting)
		return;
	tell_refusal(&error, wsi, why, length);
	tell_failure(s, &error);
}

void handshake_failed(struct ws_stream *s)
{
	failed(s, NULL, "", 0);
}

/* ---- libwebsockets ------------------------------------------------------------------------------------------ */

int handshake_callback(struct ws_stream *s, struct lws *wsi, enum lws_callback_reasons reason, void *in, size_t length)
{
	switch ((int)reason) {
	case LWS_CALLBACK_SERVER_NEW_CLIENT_INSTANTIATED:
		return s->connects ? 0 : on_instantiated(s, wsi);
	case LWS_CALLBACK_ADD_HEADERS:
		return on_answer(s, in);
	case LWS_CALLBACK_ESTABLISHED:
		stream_opened(s);
		evlib_peek(s->engine->evlib, lws_get_socket_fd(wsi), receive_peek, s);
		return 0;
	case LWS_CALLBACK_CLIENT_FILTER_PRE_ESTABLISH:
		return on_answered(s, wsi);
	case LWS_CALLBACK_CLIENT_ESTABLISHED:
		return on_established(s);
	case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
		failed(s, wsi, in ? in : "", in ? length : 0);
		return 0;
	default:
		return 0;
	}
}
