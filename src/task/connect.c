/* cp_connect_start(): what a pipe does to reach a target, for systems that connect by themselves. */
#include "../base/memory.h"
#include "../stream/preamble.h"
#include "opening.h"

#include <stdlib.h>
#include <string.h>

struct cp_connect {
	struct opening opening;
	cp_connect_done *done;
	void *arg;
	struct cp_stream *stream; /* open, while its preamble waits for room */
	struct iovec early;
	size_t sent;
	char preamble[];
};

static size_t preamble_room(const struct cp_address *address)
{
	size_t length = 0;
	return cp_address_multiplex(address, &length) ? PREAMBLE_MAGIC + 3 + length : 0;
}

/** @return CP_OK: it is all sent; CP_AGAIN: the rest waits; or an error */
static int send_preamble(struct cp_connect *c)
{
	while (c->sent < c->early.iov_len) {
		struct iovec rest = {c->preamble + c->sent, c->early.iov_len - c->sent};
		/* Over messages it begins the first one. */
		ssize_t taken = cp_stream_writev(c->stream, &rest, 1, c->stream->messages ? CP_WRITE_MORE : 0);
		if (taken < 0)
			return (int)taken;
		c->sent += (size_t)taken;
	}
	return CP_OK;
}

static void finish(struct cp_connect *c, int result)
{
	struct cp_connect ended = *c;
	if (result == CP_AGAIN)
		return;
	if (result != CP_OK && c->stream) {
		cp_stream_close(c->stream, CP_CAUSE_CONNECT_FAILED);
		cp_error_set(&ended.opening.open.error, (enum cp_err)result, NULL, "%s", cp_err_text((enum cp_err)result));
	}
	if (result == CP_OK)
		cp_stream_set_user(c->stream, NULL, NULL);
	free(c);
	ended.done(result == CP_OK ? ended.stream : NULL, &ended.opening.open.error, ended.arg);
}

static void on_ready(struct cp_stream *stream, unsigned events, void *arg)
{
	struct cp_connect *c = arg;
	if (events & CP_RECALL)
		cp_stream_restore(stream);
	if (events & CP_WRITABLE)
		finish(c, send_preamble(c));
}

/** The layers are on. */
static int opened(struct cp_connect *c)
{
	c->stream = c->opening.open.stream;
	c->sent = c->opening.open.early_sent;
	cp_stream_set_user(c->stream, on_ready, c);
	return send_preamble(c);
}

static void on_opening(struct opening *opening)
{
	struct cp_connect *c = opening->arg;
	finish(c, opening->open.error.code == CP_OK ? opened(c) : (int)opening->open.error.code);
}

static int start(struct cp_connect *c, struct cp_loop *loop, const struct cp_address *address,
				 struct cp_request *request, uint64_t timeout_ms)
{
	size_t length;
	const char *name = cp_address_multiplex(address, &length);
	c->opening.finished = on_opening;
	c->opening.arg = c;
	c->early = (struct iovec){c->preamble, name ? preamble_write(name, length, c->preamble) : 0};
	int result = opening_connect(&c->opening, loop, address, request, timeout_ms, &c->early, name ? 1 : 0);
	return result == CP_OK ? opened(c) : result;
}

int cp_connect_start(struct cp_loop *loop, const struct cp_address *address, struct cp_request *request,
					 uint64_t timeout_ms, cp_connect_done *done, void *arg, struct cp_connect **connect,
					 struct cp_stream **stream, struct cp_error *error)
{
	struct cp_connect *c = xcalloc(1, sizeof(*c) + preamble_room(address));
	c->done = done;
	c->arg = arg;
	int result = start(c, loop, address, request, timeout_ms);
	if (result == CP_AGAIN) {
		*connect = c;
		return result;
	}
	*stream = c->stream;
	if (result == CP_OK) {
		cp_stream_set_user(c->stream, NULL, NULL);
	} else if (c->stream) {
		cp_stream_close(c->stream, CP_CAUSE_CONNECT_FAILED);
		cp_error_set(error, (enum cp_err)result, NULL, "%s", cp_err_text((enum cp_err)result));
		*stream = NULL;
	} else {
		*error = c->opening.open.error;
	}
	free(c);
	return result;
}

void cp_connect_cancel(struct cp_connect *connect)
{
	if (connect->stream)
		cp_stream_close(connect->stream, CP_CAUSE_CLIENT_GONE);
	else
		opening_cancel(&connect->opening);
	free(connect);
}
