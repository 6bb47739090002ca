/* The accepting side: the head of the client's request is read and judged here; libwebsockets gets what is left.
 *
 *     ws_open_accept ─▶ read_head ─▶ ws_upgrade_read ─┬─ DONE ────▶ path, options, facts ─▶ descriptor ─▶ ws_accept()
 *                          ▲                          ├─ REFUSED ─▶ ws_refuse(), as wherever else it is refused
 *                          └────── on_ready ◀─────────┴─ MORE
 *
 * The head is taken out of the socket up to its blank line, and not a byte more, wherever the stream below lends its
 * descriptor: it is looked at first (MSG_PEEK). What is behind it is libwebsockets' then, in the socket. Other streams
 * are read from, and what is read ahead goes with the bridge that they need anyhow.
 *
 * A client that waits has no more memory here than what it has sent of its head. */
#include "open.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct accepting {
	struct ws_waiting waiting; /* first */
	const struct ws_part *part;
	struct cp_open *open;
	const char *path; /* the only one that is served, or NULL */
	char *kept;       /* the head so far, while it waits for more */
	size_t length;
};

/** A head as far as it is there. */
struct head {
	char bytes[WS_HEAD_MOST];
	size_t length; /* taken from the stream */
	struct ws_upgrade upgrade;
	struct ws_refusal refusal;
};

/* ---- Becoming a websocket ----------------------------------------------------------------------------------- */

static bool refused(struct ws_refusal *refusal, int status, const char *reason)
{
	*refusal = (struct ws_refusal){.status = status, .reason = reason};
	return false;
}

static bool is_argument(const char *argument, const char *path, size_t length)
{
	size_t most = strlen(argument);
	char *own = malloc(most + 1);
	size_t own_length = own ? ws_path_read(argument, most, own) : 0;
	bool same = own && own_length == length && memcmp(own, path, length) == 0;
	free(own);
	return same;
}

/** Whether somebody serves the path; then it is part of the incoming address. */
static bool is_served(const struct accepting *a, const char *path, size_t length)
{
	if (a->path)
		return is_argument(a->path, path, length);
	return !a->open->request || cp_request_set_path(a->open->request, path, length);
}

/** @param options  set to those of the path  @return false: `refusal` says why */
static bool is_allowed(const struct accepting *a, struct head *head, const struct ws_options **options)
{
	const struct ws_upgrade *upgrade = &head->upgrade;
	char *path = malloc(upgrade->path.length + 1);
	if (!path)
		return refused(&head->refusal, 503, "out of memory");
	size_t length = ws_path_read(upgrade->path.at, upgrade->path.length, path);
	path[length] = '\0';
	*options = ws_settings_find(a->part->settings, a->open->address, path, length);
	bool served = is_served(a, path, length);
	free(path);
	if (!served)
		return refused(&head->refusal, 404, "nothing is served under this path");
	return ws_upgrade_allowed(upgrade, *options, &head->refusal);
}

/** Extra lines of the answer. @return NULL without memory */
static char *answer_headers(const struct ws_options *options, const char *protocol)
{
	const char *own = options->headers ? options->headers : "";
	size_t room = strlen(own) + (protocol ? strlen(protocol) : 0) + 64;
	char *headers = malloc(room);
	if (headers)
		snprintf(headers, room, "%s%s%s%s", own, protocol ? "Sec-WebSocket-Protocol: " : "", protocol ? protocol : "",
				 protocol ? "\r\n" : "");
	return headers;
}

/** Hand the connection over to libwebsockets, which answers. @param fd  taken  @param headers  see answer_headers() */
static int hand_over(const struct accepting *a, const struct head *head, const struct ws_options *options,
					 const char *protocol, const char *headers, int fd)
{
	struct cp_open *open = a->open;
	struct ws_behaviour behaviour = {
		.half_close = protocol && strcmp(protocol, WS_HALF_CLOSE_PROTOCOL) == 0,
		.deflate = options->deflate && head->upgrade.wants_deflate,
		.ping_ms = options->ping_ms,
		.pong_ms = options->pong_ms,
		.message_most = options->message_most,
	};
	struct ws_text extensions = behaviour.deflate ? head->upgrade.extensions : (struct ws_text){NULL, 0};
	open->stream =
		ws_accept(open->loop, fd, &head->upgrade.key, headers, &extensions, &behaviour, a->part->core, &open->error);
	return open->stream ? CP_OK : (int)open->error.code;
}

/** The request is one for a websocket. @return as ws_open_accept() */
static int become(const struct accepting *a, struct head *head)
{
	struct cp_open *open = a->open;
	const struct ws_options *options;
	if (!is_allowed(a, head, &options))
		return ws_refuse(open, &head->refusal);
	const char *protocol = ws_upgrade_protocol(&head->upgrade, options);
	if (open->request)
		ws_facts_add(open->request, &head->upgrade, options, protocol);
	size_t used = head->upgrade.length;
	char *headers = answer_headers(options, protocol);
	int fd = headers ? ws_descriptor(open, a->part->core, head->bytes + used, head->length - used) : -1;
	int result = fd >= 0 ? hand_over(a, head, options, protocol, headers, fd) : CP_OK;
	free(headers);
	if (fd >= 0)
		return result;
	refused(&head->refusal, 503, "out of file descriptors or memory");
	return ws_refuse(open, &head->refusal);
}

int ws_descriptor(struct cp_open *open, struct cp_system *owner, const char *first, size_t length)
{
	int fd = length == 0 ? cp_stream_detach(open->lower) : -1;
	return fd >= 0 ? fd : ws_bridge(open->lower, first, length, owner, &open->error);
}

/* ---- Reading ------------------------------------------------------------------------------------------------ */

/** The connection has ended before the head has. */
static int gone(const struct accepting *a, const struct head *head, int error)
{
	cp_stream_close(a->open->lower, CP_CAUSE_CLIENT_GONE);
	if (error)
		return cp_error_set(&a->open->error, (enum cp_err)error, NULL,
							"%s before the request for a websocket was there", cp_err_text((enum cp_err)error));
	if (head->length == 0) /* a check whether somebody listens, or a client that gave up */
		return cp_error_set(&a->open->error, CP_ECANCELED, NULL, "the client left before it asked for a websocket");
	return cp_error_set(&a->open->error, CP_EPROTO, NULL, "the request is cut short: it ends behind byte %zu",
						head->length);
}

/** @return bytes that have come, and stay in the socket; 0: the end; or an error */
static ssize_t peek(int fd, char *bytes, size_t room)
{
	ssize_t got;
	do
		got = recv(fd, bytes, room, MSG_PEEK | MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	return got < 0 ? (ssize_t)cp_err_from_errno(errno) : got;
}

/** Take bytes out of the socket that were looked at. */
static void take(int fd, char *bytes, size_t length)
{
	ssize_t got;
	do
		got = recv(fd, bytes, length, MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
}

/** Judge the head with `got` more bytes behind it. */
static enum ws_head judge(struct head *head, size_t got)
{
	size_t length = head->length + got;
	enum ws_head verdict = ws_upgrade_read(head->bytes, length, &head->upgrade, &head->refusal);
	if (verdict == WS_HEAD_MORE && length == WS_HEAD_MOST) {
		refused(&head->refusal, 431, "the head of the request is too long");
		verdict = WS_HEAD_REFUSED;
	}
	return verdict;
}

/** One step of reading. @param result  CP_AGAIN: the stream is armed; or the end of the opening
 * @return whether to go on */
static bool read_lent(const struct accepting *a, struct head *head, int fd, enum ws_head *verdict, int *result)
{
	ssize_t got = peek(fd, head->bytes + head->length, WS_HEAD_MOST - head->length);
	*result = CP_AGAIN;
	if (got == CP_AGAIN)
		cp_stream_await(a->open->lower, CP_READABLE);
	else if (got <= 0)
		*result = gone(a, head, (int)got);
	if (got <= 0)
		return false;
	*verdict = judge(head, (size_t)got);
	size_t used = *verdict == WS_HEAD_DONE ? head->upgrade.length - head->length : (size_t)got;
	take(fd, head->bytes + head->length, used);
	head->length += used;
	return true;
}

static bool read_stream(const struct accepting *a, struct head *head, enum ws_head *verdict, int *result)
{
	struct iovec vec = {head->bytes + head->length, WS_HEAD_MOST - head->length};
	unsigned hints;
	ssize_t got = cp_stream_readv(a->open->lower, &vec, 1, &hints);
	*result = CP_AGAIN;
	if (got == CP_AGAIN)
		return false;
	*verdict = got > 0 ? judge(head, (size_t)got) : WS_HEAD_MORE;
	head->length += got > 0 ? (size_t)got : 0;
	if (got < 0 || (*verdict == WS_HEAD_MORE && hints & CP_READ_END))
		*result = gone(a, head, got < 0 ? (int)got : 0);
	return *result == CP_AGAIN && (*verdict != WS_HEAD_MORE || !(hints & CP_READ_DRAINED));
}

/** Read until the head is whole. @return CP_AGAIN: the stream is armed; or the end of the opening */
static int read_head(const struct accepting *a, struct head *head)
{
	enum ws_head verdict = WS_HEAD_MORE;
	int result;
	while (verdict == WS_HEAD_MORE) {
		int fd = cp_stream_lend(a->open->lower, CP_READABLE);
		bool go_on = fd >= 0 ? read_lent(a, head, fd, &verdict, &result) : read_stream(a, head, &verdict, &result);
		if (!go_on)
			return result;
	}
	return verdict == WS_HEAD_DONE ? become(a, head) : ws_refuse(a->open, &head->refusal);
}

/* ---- Waiting ------------------------------------------------------------------------------------------------ */

static void accepting_free(struct accepting *a)
{
	free(a->kept);
	free(a);
}

static void accepting_cancel(struct cp_open *open)
{
	cp_stream_close(open->lower, CP_CAUSE_HANDSHAKE_TIMEOUT);
	accepting_free(open->state);
}

/** Go on with what was kept. A result of CP_AGAIN may also mean that somebody else goes on: a refusal. */
static int step(struct accepting *a)
{
	struct head head; /* not zeroed: it is large */
	head.length = a->length;
	if (a->kept)
		memcpy(head.bytes, a->kept, a->length);
	free(a->kept);
	a->kept = NULL;
	a->length = 0;
	int result = read_head(a, &head);
	if (result != CP_AGAIN || a->open->state != a)
		return result;
	a->length = head.length;
	a->kept = head.length ? malloc(head.length) : NULL;
	if (head.length && !a->kept) {
		cp_stream_close(a->open->lower, CP_CAUSE_NO_RESOURCES);
		return cp_error_set(&a->open->error, CP_ENOMEM, NULL, "no memory for the head of a request");
	}
	if (a->kept)
		memcpy(a->kept, head.bytes, head.length);
	return CP_AGAIN;
}

static void on_ready(struct cp_stream *lower, unsigned events, void *arg)
{
	struct accepting *a = arg;
	struct cp_open *open = a->open;
	if (events & CP_RECALL)
		cp_stream_restore(lower);
	if (!(events & CP_READABLE))
		return;
	int result = step(a);
	if (result == CP_AGAIN && open->state == a)
		return;
	accepting_free(a);
	if (result == CP_AGAIN)
		return;
	open->error.code = (enum cp_err)result;
	cp_open_done(open);
}

int ws_open_accept(const struct ws_part *part, struct cp_open *open, const char *path)
{
	struct accepting *a = calloc(1, sizeof(*a));
	if (!a) {
		cp_stream_close(open->lower, CP_CAUSE_NO_RESOURCES);
		return cp_error_set(&open->error, CP_ENOMEM, NULL, "no memory for a websocket");
	}
	a->waiting.cancel = accepting_cancel;
	a->part = part;
	a->open = open;
	a->path = path;
	open->state = a;
	cp_stream_set_user(open->lower, on_ready, a);
	int result = step(a);
	if (result != CP_AGAIN || open->state != a)
		accepting_free(a);
	return result;
}
