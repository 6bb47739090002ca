/* A websocket as a cp_stream: its operations, and how it ends.
 *
 *     OPENING ──▶ OPEN ──── we say Close ────▶ CLOSE_SENT ── the peer answers ──┐
 *                  │ └───── the peer does ───▶ CLOSE_SEEN ── it is answered ────┤
 *                  └─ it breaks, the connection ends ──▶ ENDING ◀───────────────┘
 *                                                          └──▶ GONE
 *
 * Sending: libwebsockets has one buffer for what the socket did not take of a frame. While there is something in it,
 * nothing is written: the user waits. Otherwise what it writes is a frame at once, without waiting for the callback
 * that says that one may write. (Control frames may go there any time, they are put behind.)
 *
 * Closing: libwebsockets' own way drops what the peer says between our Close and its own. So Close is written like a
 * message, and nothing is said to libwebsockets until the peer's Close comes. */
#include "stream.h"

#include <connpipe/log.h>

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* libwebsockets keeps this to itself, since one could use it wrongly; lws_write() knows it. */
#define WRITE_CLOSE ((enum lws_write_protocol)4)

enum {
	REASON_MOST = 123,
	PACK_LEAST = 64, /* smaller messages do not get smaller */
};

static struct ws_stream *stream_of(struct cp_stream *stream)
{
	return (struct ws_stream *)stream;
}

/* ---- State -------------------------------------------------------------------------------------------------- */

void stream_enter(struct ws_stream *s, enum ws_stream_state state)
{
	static const char *const names[] = {
#define WS_STREAM_NAME(name, meaning) #name,
		WS_STREAM_STATES(WS_STREAM_NAME)
#undef WS_STREAM_NAME
	};
	if (cp_log_enabled(CP_TRACE))
		cp_log(CP_TRACE, "ws", "%p: %s -> %s", (void *)s, names[s->state], names[state]);
	s->state = state;
}

void stream_ready(struct ws_stream *s, unsigned events)
{
	if (events & CP_READABLE)
		s->wants_read = false;
	if (events & CP_WRITABLE)
		s->wants_write = false;
	if (!s->closed)
		cp_stream_notify(&s->stream, events);
}

static void tell_all(struct ws_stream *s)
{
	unsigned events = (s->wants_read ? CP_READABLE : 0u) | (s->wants_write ? CP_WRITABLE : 0u);
	if (events)
		stream_ready(s, events);
}

void stream_cut(struct ws_stream *s)
{
	if (s->state != WS_STREAM_GONE)
		stream_enter(s, WS_STREAM_ENDING);
	if (s->wsi) {
		lws_set_timeout(s->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_ASYNC);
		evlib_kick(s->engine->evlib);
	}
}

void stream_break(struct ws_stream *s)
{
	if (s->wsi)
		ws_bridge_break(lws_get_socket_fd(s->wsi));
	stream_cut(s);
}

void stream_broke(struct ws_stream *s, int error)
{
	if (s->broken == CP_OK)
		s->broken = error;
	stream_enter(s, WS_STREAM_ENDING);
	tell_all(s);
}

static void on_await(struct cp_deferred *deferred);

void stream_broke_later(struct ws_stream *s, int error)
{
	if (s->broken == CP_OK)
		s->broken = error;
	stream_enter(s, WS_STREAM_ENDING);
	cp_defer(s->stream.loop, &s->deferred, on_await);
}

void stream_opened(struct ws_stream *s)
{
	stream_enter(s, WS_STREAM_OPEN);
	ws_count(s->stream.loop, s->connects ? WS_CONNECTED : WS_ACCEPTED);
	keepalive_start(s);
}

/* ---- Its memory --------------------------------------------------------------------------------------------- */

static const struct cp_stream_ops stream_ops;

struct ws_stream *stream_make(struct ws_engine *engine, const struct ws_behaviour *behaviour, struct cp_system *owner)
{
	struct ws_stream *s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	cp_stream_init(&s->stream, &stream_ops, engine->loop, owner);
	s->stream.messages = true;
	s->engine = engine;
	s->behaviour = *behaviour;
	s->last = &s->first;
	return s;
}

static void on_free(struct cp_deferred *deferred)
{
	struct ws_stream *s = (struct ws_stream *)((char *)deferred - offsetof(struct ws_stream, deferred));
	receive_drop(s);
	keepalive_stop(s);
	free(s->peer_ending);
	free(s->own_ending);
	deflate_free(s->deflate);
	cp_stream_deinit(&s->stream);
	free(s);
}

void stream_free_later(struct ws_stream *s)
{
	keepalive_stop(s);
	cp_defer(s->stream.loop, &s->deferred, on_free);
}

/** Whether nothing is missing if the connection ends now. */
static bool both_ended(const struct ws_stream *s)
{
	return s->ended && (s->over || s->shut);
}

/** The connection is no more: libwebsockets' last word about it. */
static void on_gone(struct ws_stream *s)
{
	enum ws_stream_state was = s->state;
	s->wsi = NULL;
	stream_enter(s, WS_STREAM_GONE);
	keepalive_stop(s);
	if (s->connecting)
		handshake_failed(s);
	else if (was != WS_STREAM_OPENING && !both_ended(s) && s->broken == CP_OK)
		s->broken = CP_ERESET;
	if (s->closed)
		stream_free_later(s);
	else
		tell_all(s);
}

/* ---- Writing ------------------------------------------------------------------------------------------------ */

static size_t vec_length(const struct iovec *vec, int count)
{
	size_t length = 0;
	for (int i = 0; i < count; i++)
		length += vec[i].iov_len;
	return length;
}

/** Hand a frame to libwebsockets, which sends it, or keeps what the socket does not take. @param bytes  behind LWS_PRE
 * bytes that are written to @return CP_OK or CP_ERESET */
static int send_frame(struct ws_stream *s, unsigned char *bytes, size_t length, enum lws_write_protocol how)
{
	if (lws_write(s->wsi, bytes, length, how) < 0) {
		stream_cut(s);
		return CP_ERESET;
	}
	if (lws_partial_buffered(s->wsi))
		evlib_full(s->engine->evlib, lws_get_socket_fd(s->wsi));
	return CP_OK;
}

/** Whether an empty text message would be taken for the half-close's end. */
static bool looks_like_end(const struct ws_stream *s, size_t length)
{
	return length == 0 && s->behaviour.half_close && !s->out_message;
}

static void gather(unsigned char *to, const struct iovec *vec, int count)
{
	for (int i = 0; i < count; i++) {
		if (vec[i].iov_len)
			memcpy(to, vec[i].iov_base, vec[i].iov_len);
		to += vec[i].iov_len;
	}
}

static enum lws_write_protocol kind_of(const struct ws_stream *s, size_t length, unsigned flags)
{
	bool text = flags & CP_WRITE_TEXT && !looks_like_end(s, length);
	return (enum lws_write_protocol)lws_write_ws_flags(text ? LWS_WRITE_TEXT : LWS_WRITE_BINARY, !s->out_message,
													   !(flags & CP_WRITE_MORE));
}

static int send_packed(struct ws_stream *s, const unsigned char *bytes, size_t length, unsigned flags)
{
	unsigned char *packed;
	size_t size;
	int result = deflate_pack(s->deflate, bytes, length, !(flags & CP_WRITE_MORE), &packed, &size);
	if (result != CP_OK)
		return result;
	if (!s->out_message)
		deflate_mark(s->deflate);
	result = send_frame(s, packed, size, kind_of(s, length, flags));
	free(packed - LWS_PRE);
	return result;
}

static int send_message(struct ws_stream *s, const struct iovec *vec, int count, size_t length, unsigned flags)
{
	unsigned char *memory = length > ENGINE_SCRATCH ? malloc(LWS_PRE + length) : s->engine->scratch;
	int result;
	if (!memory)
		return CP_ENOMEM;
	gather(memory + LWS_PRE, vec, count);
	if (!s->out_message)
		s->packed_out = s->deflate && (length >= PACK_LEAST || flags & CP_WRITE_MORE);
	if (s->packed_out)
		result = send_packed(s, memory + LWS_PRE, length, flags);
	else
		result = send_frame(s, memory + LWS_PRE, length, kind_of(s, length, flags));
	s->out_message = flags & CP_WRITE_MORE;
	if (memory != s->engine->scratch)
		free(memory);
	return result;
}

static ssize_t stream_write(struct cp_stream *stream, const struct iovec *vec, int count, unsigned flags)
{
	struct ws_stream *s = stream_of(stream);
	size_t length = vec_length(vec, count);
	s->wants_write = false;
	if (s->over)
		return (ssize_t)length; /* the peer does not listen any more: that is told by reading */
	if (s->state != WS_STREAM_OPEN || s->shut)
		return s->broken != CP_OK ? s->broken : CP_ERESET;
	if (lws_partial_buffered(s->wsi)) {
		s->wants_write = true;
		return CP_AGAIN;
	}
	int result = send_message(s, vec, count, length, flags);
	return result == CP_OK ? (ssize_t)length : result;
}

static int on_writable(struct ws_stream *s)
{
	if (s->wants_write && s->state != WS_STREAM_ENDING)
		stream_ready(s, CP_WRITABLE);
	return s->state == WS_STREAM_ENDING && !s->leaving ? -1 : 0; /* with the close reason, if one was set */
}

/* ---- Ending ------------------------------------------------------------------------------------------------- */

/** A code that may be sent (RFC 6455, 7.4), or none. */
static unsigned sendable(unsigned code)
{
	bool defined = (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
	return defined ? code : WS_CLOSE_NONE;
}

/** @return how much of the reason may be said: no part of a character */
static size_t reason_length(const char *reason, size_t length)
{
	if (length <= REASON_MOST)
		return length;
	for (length = REASON_MOST; length && (reason[length] & 0xc0) == 0x80; length--)
		;
	return length;
}

static void say_close(struct ws_stream *s, unsigned code, const char *reason, size_t length)
{
	unsigned char frame[LWS_PRE + 2 + REASON_MOST];
	size_t size = 0;
	if (s->state != WS_STREAM_OPEN)
		return;
	code = sendable(code);
	if (code != WS_CLOSE_NONE) {
		length = reason_length(reason, length);
		frame[LWS_PRE] = (unsigned char)(code >> 8);
		frame[LWS_PRE + 1] = (unsigned char)code;
		memcpy(frame + LWS_PRE + 2, reason, length);
		size = 2 + length;
	}
	s->shut = true;
	stream_enter(s, WS_STREAM_CLOSE_SENT);
	send_frame(s, frame + LWS_PRE, size, WRITE_CLOSE);
}

/** Who ends in order has said all of the message that goes on. (Layers of bytes say CP_WRITE_MORE of what is the last.)
 */
static void finish_message(struct ws_stream *s)
{
	unsigned char frame[LWS_PRE];
	if (s->out_message && s->state == WS_STREAM_OPEN) {
		if (s->packed_out)
			send_packed(s, (const unsigned char *)"", 0, 0);
		else
			send_frame(s, frame + LWS_PRE, 0, LWS_WRITE_CONTINUATION);
	}
	s->out_message = false;
}

static void say_own_close(struct ws_stream *s)
{
	const struct cp_ending *ending = s->own_ending;
	finish_message(s);
	if (ending)
		say_close(s, ending->code, ending->reason, ending->length);
	else
		say_close(s, WS_CLOSE_NORMAL, "", 0);
}

/** The half-close's end. */
static int say_end(struct ws_stream *s)
{
	unsigned char frame[LWS_PRE];
	finish_message(s);
	if (s->state != WS_STREAM_OPEN)
		return CP_ERESET;
	s->shut = true;
	return send_frame(s, frame + LWS_PRE, 0, LWS_WRITE_TEXT);
}

static int stream_shutdown_write(struct cp_stream *stream)
{
	struct ws_stream *s = stream_of(stream);
	if (s->over || s->shut)
		return CP_OK;
	if (s->state != WS_STREAM_OPEN)
		return s->broken != CP_OK ? s->broken : CP_ERESET;
	if (s->behaviour.half_close && !s->own_ending) /* words are of a Close, which ends both directions */
		return say_end(s);
	if (s->connects)
		return CP_EUNSUPPORTED;
	say_own_close(s);
	return s->state == WS_STREAM_CLOSE_SENT ? CP_OK : CP_ERESET;
}

static const struct cp_ending *stream_ending(struct cp_stream *stream)
{
	return stream_of(stream)->peer_ending;
}

static void stream_set_ending(struct cp_stream *stream, const struct cp_ending *ending)
{
	struct ws_stream *s = stream_of(stream);
	if (strcmp(ending->protocol, "websocket") != 0)
		return;
	if (s->own_ending || (s->own_ending = malloc(sizeof(*s->own_ending))))
		*s->own_ending = *ending;
}

/** What was written is still sent, and Close behind it; then the peer's Close, or its end, is waited for. */
static void stream_close(struct cp_stream *stream, enum cp_cause cause)
{
	struct ws_stream *s = stream_of(stream);
	bool reset = cp_cause_is_reset(cause);
	s->closed = true;
	s->reset = reset;
	s->wants_read = s->wants_write = false;
	receive_drop(s);
	if (s->state == WS_STREAM_GONE) {
		stream_free_later(s);
		return;
	}
	if (s->state == WS_STREAM_CLOSE_SENT && reset)
		stream_break(s);
	if (s->state == WS_STREAM_OPEN && reset)
		say_close(s, WS_CLOSE_INTERNAL, "", 0);
	else if (s->state == WS_STREAM_OPEN)
		say_own_close(s);
	keepalive_close(s, reset ? WS_RESET_MS : WS_CLOSE_MS);
}

/* ---- The rest of its operations ----------------------------------------------------------------------------- */

static ssize_t stream_read(struct cp_stream *stream, const struct iovec *vec, int count, unsigned *hints)
{
	return receive_read(stream_of(stream), vec, count, hints);
}

static void stream_await(struct cp_stream *stream, unsigned events)
{
	struct ws_stream *s = stream_of(stream);
	s->wants_read |= (events & CP_READABLE) != 0;
	s->wants_write |= (events & CP_WRITABLE) != 0;
	cp_defer(stream->loop, &s->deferred, on_await);
}

static void on_await(struct cp_deferred *deferred)
{
	struct ws_stream *s = (struct ws_stream *)((char *)deferred - offsetof(struct ws_stream, deferred));
	bool readable = s->first || s->broken != CP_OK || s->ended;
	bool writable = s->state != WS_STREAM_OPEN || !lws_partial_buffered(s->wsi);
	unsigned events = (s->wants_read && readable ? CP_READABLE : 0u) | (s->wants_write && writable ? CP_WRITABLE : 0u);
	if (events)
		stream_ready(s, events);
}

static const struct cp_stream_ops stream_ops = {
	.size = sizeof(struct cp_stream_ops),
	.name = "ws",
	.read = stream_read,
	.write = stream_write,
	.shutdown_write = stream_shutdown_write,
	.close = stream_close,
	.await = stream_await,
	.ending = stream_ending,
	.set_ending = stream_set_ending,
};

/* ---- libwebsockets ------------------------------------------------------------------------------------------ */

/** Whether it is libwebsockets that ends the connection, since it found something wrong, and not the peer. What a peer
 * sent before it reset the connection may be there still, unread. */
static bool peer_is_there(const struct ws_stream *s)
{
	char byte;
	struct pollfd ends = {lws_get_socket_fd(s->wsi), 0, 0};
	if (poll(&ends, 1, 0) > 0) /* POLLERR, POLLHUP */
		return false;
	ssize_t got = recv(ends.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	return got > 0 || (got < 0 && errno == EAGAIN);
}

/** libwebsockets has begun to end the connection: since a callback returned -1, since the peer did, or since it broke
 * the protocol. For some of that it has set a close reason, for others it would hang up without a word. */
static void on_ending(struct ws_stream *s)
{
	s->leaving = true;
	if (s->state != WS_STREAM_OPEN && s->state != WS_STREAM_CLOSE_SENT)
		return;
	bool wrong = lws_get_close_length(s->wsi) > 0;
	if (!wrong && peer_is_there(s)) {
		wrong = true;
		if (s->state == WS_STREAM_OPEN)
			lws_close_reason(s->wsi, LWS_CLOSE_STATUS_PROTOCOL_ERR, NULL, 0);
	}
	if (!wrong && s->state == WS_STREAM_CLOSE_SENT)
		s->ended = s->over = true; /* it has taken our Close for the end */
	stream_broke(s, wrong ? CP_EPROTO : both_ended(s) ? CP_OK : CP_ERESET);
}

int stream_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t length)
{
	struct ws_stream *s = user;
	if (reason == LWS_CALLBACK_SERVER_NEW_CLIENT_INSTANTIATED && !s)
		s = engine_of_wsi(wsi)->opening;
	if (!s)
		return 0; /* not about a connection */
	switch ((int)reason) {
	case LWS_CALLBACK_RECEIVE:
	case LWS_CALLBACK_CLIENT_RECEIVE:
		return receive_piece(s, in, length);
	case LWS_CALLBACK_SERVER_WRITEABLE:
	case LWS_CALLBACK_CLIENT_WRITEABLE:
		return on_writable(s);
	case LWS_CALLBACK_RECEIVE_PONG:
	case LWS_CALLBACK_CLIENT_RECEIVE_PONG:
		s->heard = cp_loop_now(s->stream.loop);
		return 0;
	case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
		return receive_close(s, in, length);
	case LWS_CALLBACK_WS_SERVER_DROP_PROTOCOL:
	case LWS_CALLBACK_WS_CLIENT_DROP_PROTOCOL:
		on_ending(s);
		return 0;
	case LWS_CALLBACK_WSI_DESTROY:
		on_gone(s);
		return 0;
	default:
		return handshake_callback(s, wsi, reason, in, length);
	}
}
