/* A connection through an HTTP proxy: the request, then its answer. What comes behind the answer's head belongs to the
 * connection. While a part of the request waits to be taken an answer is read already: a refusal need not wait. */
#include "grammar.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REQUEST_MOST = 4096 };

struct ws_tunnel {
	struct cp_stream *lower;
	ws_tunnel_done *done;
	void *arg;
	size_t sent, request_length;
	char request[REQUEST_MOST];
	size_t taken;  /* of all answers */
	size_t length; /* of the one that is being read */
	char answer[WS_HEAD_MOST];
};

/* ---- The request -------------------------------------------------------------------------------------------- */

/** CONNECT host:port (RFC 9110, 9.3.6). What comes from settings and addresses was checked there: that nothing in it
 * ends a line is not left to them. @return its length, 0: it is none */
static size_t print_request(char *buffer, const char *host, uint16_t port, const char *authorization)
{
	char target[512];
	bool brackets = strchr(host, ':');
	int length = snprintf(target, sizeof(target), brackets ? "[%s]:%u" : "%s:%u", host, port);
	if (!host[0] || length >= (int)sizeof(target) || strpbrk(target, " \t\r\n") ||
		(authorization && !grammar_is_value(grammar_text(authorization, strlen(authorization)))))
		return 0;
	length = snprintf(buffer, REQUEST_MOST, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s%s%s\r\n", target, target,
					  authorization ? "Proxy-Authorization: " : "", authorization ? authorization : "",
					  authorization ? "\r\n" : "");
	return length < REQUEST_MOST ? (size_t)length : 0;
}

/** Write what is left of it. @return CP_OK: all is written; CP_AGAIN: armed; or an error */
static int send_request(struct ws_tunnel *t)
{
	while (t->sent < t->request_length) {
		struct iovec rest = {t->request + t->sent, t->request_length - t->sent};
		ssize_t put = cp_stream_writev(t->lower, &rest, 1, 0);
		if (put < 0)
			return (int)put;
		t->sent += (size_t)put;
		if ((size_t)put < rest.iov_len)
			return CP_AGAIN;
	}
	return CP_OK;
}

/* ---- The end ------------------------------------------------------------------------------------------------ */

static void succeed(struct ws_tunnel *t, struct cp_stream *stream)
{
	ws_tunnel_done *done = t->done;
	void *arg = t->arg;
	cp_stream_set_user(stream, NULL, NULL);
	free(t);
	done(stream, NULL, arg);
}

static void fail(struct ws_tunnel *t, const struct cp_error *error)
{
	ws_tunnel_done *done = t->done;
	void *arg = t->arg;
	cp_stream_close(t->lower, CP_CAUSE_CONNECT_FAILED);
	free(t);
	done(NULL, error, arg);
}

static void fail_with(struct ws_tunnel *t, int code, const char *what)
{
	struct cp_error error;
	cp_error_set(&error, (enum cp_err)code, NULL, "%s", what);
	fail(t, &error);
}

static void broken(struct ws_tunnel *t, int code)
{
	struct cp_error error;
	cp_error_set(&error, (enum cp_err)code, NULL, "%s while the HTTP proxy was asked for the connection",
				 cp_err_text((enum cp_err)code));
	fail(t, &error);
}

void ws_tunnel_cancel(struct ws_tunnel *tunnel)
{
	cp_stream_close(tunnel->lower, CP_CAUSE_CONNECT_TIMEOUT);
	free(tunnel);
}

/* ---- The answer --------------------------------------------------------------------------------------------- */

/** The length of a head with its empty line, 0: that is not there yet. Many a proxy ends lines with a bare LF, which
 * may be taken for an end of a line (RFC 9112, 2.2): this is an answer, and nobody else reads it. */
static size_t head_length(const char *bytes, size_t length)
{
	const char *end = bytes + length, *at = bytes, *lf;
	while ((lf = memchr(at, '\n', (size_t)(end - at)))) {
		if (lf == at || (lf == at + 1 && *at == '\r'))
			return (size_t)(lf + 1 - bytes);
		at = lf + 1;
	}
	return 0;
}

static const char version[] = "HTTP/1.";
enum { VERSION_LENGTH = sizeof(version) - 1 };

/** Whether what is there can become an answer: whoever speaks something else, first, may never send an empty line. */
static bool begins_as_answer(const struct ws_tunnel *t)
{
	return memcmp(t->answer, version, t->length < VERSION_LENGTH ? t->length : VERSION_LENGTH) == 0;
}

/** `HTTP/1.1 200 …`. @param line  set to what is behind the version @return the status, 0: it is no answer */
static unsigned read_status(const char *head, size_t length, struct ws_text *line)
{
	size_t skip = VERSION_LENGTH + 2; /* with a digit and a space */
	unsigned status;
	if (length < skip + 3 || head[skip - 1] != ' ')
		return 0;
	const char *lf = memchr(head, '\n', length);
	*line = grammar_text(head + skip, (size_t)(lf - head) - skip);
	if (line->length > 0 && line->at[line->length - 1] == '\r')
		line->length--;
	bool ends = line->length == 3 || (line->length > 3 && line->at[3] == ' ');
	return ends && grammar_number(grammar_text(line->at, 3), 599, &status) && status >= 100 ? status : 0;
}

/** Status and words, as the proxy has them: whoever prints the error escapes them. */
static void refused(struct ws_tunnel *t, unsigned status, struct ws_text line)
{
	struct cp_error error;
	cp_error_set(&error, CP_EREFUSED, NULL, "the HTTP proxy answered \"%.*s\"%s",
				 line.length < 120 ? (int)line.length : 120, line.at,
				 status == 407 ? ": it wants proxy_user and proxy_password, or others" : "");
	fail(t, &error);
}

/** The proxy has connected. @param rest  bytes that came from the target already */
static void connected(struct ws_tunnel *t, const char *rest, size_t length, unsigned hints)
{
	struct cp_stream *stream = t->lower;
	if (length > 0)
		stream = cp_stream_with_prefix(t->lower, rest, length, hints, NULL);
	if (stream)
		succeed(t, stream);
	else
		fail_with(t, CP_ENOMEM, "no memory for what came behind the HTTP proxy's answer");
}

static void not_http(struct ws_tunnel *t)
{
	fail_with(t, CP_EPROTO, "what the HTTP proxy answered is not HTTP/1.1");
}

/** One answer is there. Those that are not the last one (1xx, but for 101) are skipped. @return whether to go on */
static bool judge(struct ws_tunnel *t, size_t head, unsigned hints)
{
	struct ws_text line;
	unsigned status = begins_as_answer(t) ? read_status(t->answer, head, &line) : 0;
	if (status >= 100 && status < 200 && status != 101) {
		t->length -= head;
		memmove(t->answer, t->answer + head, t->length);
		return true;
	}
	if (status == 0)
		not_http(t);
	else if (status >= 200 && status < 300)
		connected(t, t->answer + head, t->length - head, hints);
	else
		refused(t, status, line);
	return false;
}

/** Look at what is there. @return whether to read on */
static bool look(struct ws_tunnel *t, unsigned hints)
{
	for (size_t head; (head = head_length(t->answer, t->length)) > 0;)
		if (!judge(t, head, hints))
			return false;
	if (!begins_as_answer(t))
		not_http(t);
	else if (t->taken == WS_HEAD_MOST)
		fail_with(t, CP_ELIMIT, "the HTTP proxy answered with more than 16 KiB of a head");
	else
		return true;
	return false;
}

/** Read until the stream has nothing more for now, or it is decided. */
static void read_answer(struct ws_tunnel *t)
{
	unsigned hints;
	for (;;) {
		struct iovec room = {t->answer + t->length, WS_HEAD_MOST - t->taken};
		ssize_t got = cp_stream_readv(t->lower, &room, 1, &hints);
		if (got == CP_AGAIN)
			return;
		if (got < 0) {
			broken(t, (int)got);
			return;
		}
		t->taken += (size_t)got;
		t->length += (size_t)got;
		if (!look(t, hints))
			return;
		if (hints & CP_READ_END) {
			fail_with(t, CP_EPROTO,
					  t->taken ? "the HTTP proxy left in the middle of its answer"
							   : "the HTTP proxy left without an answer");
			return;
		}
		if (hints & CP_READ_DRAINED)
			return;
	}
}

/* ---- Both --------------------------------------------------------------------------------------------------- */

static void on_ready(struct cp_stream *lower, unsigned events, void *arg)
{
	struct ws_tunnel *t = arg;
	if (events & CP_RECALL)
		cp_stream_restore(lower);
	int result = send_request(t);
	if (result != CP_OK && result != CP_AGAIN)
		broken(t, result);
	else if (result == CP_OK || events & CP_READABLE)
		read_answer(t);
}

int ws_tunnel_start(struct cp_stream *lower, const char *host, uint16_t port, const char *authorization,
					ws_tunnel_done *done, void *arg, struct ws_tunnel **out, struct cp_error *error)
{
	struct ws_tunnel *t = malloc(sizeof(*t));
	if (!t)
		return cp_error_set(error, CP_ENOMEM, NULL, "no memory for a connection through an HTTP proxy");
	t->lower = lower;
	t->done = done;
	t->arg = arg;
	t->sent = t->taken = t->length = 0;
	t->request_length = print_request(t->request, host, port, authorization);
	int result = t->request_length ? send_request(t) : CP_EINVAL;
	if (result != CP_OK && result != CP_AGAIN) {
		free(t);
		return cp_error_set(error, (enum cp_err)result, NULL, "%s when the HTTP proxy was asked for %s:%u",
							cp_err_text((enum cp_err)result), host, port);
	}
	cp_stream_set_user(lower, on_ready, t);
	cp_stream_await(lower, CP_READABLE);
	*out = t;
	return CP_AGAIN;
}
