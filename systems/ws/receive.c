/* Messages that come in.
 *
 *     libwebsockets ── a piece ──▶ the user waits?   ──▶ it reads straight out of libwebsockets' buffer
 *                                  what is left      ──▶ copied, and libwebsockets reads no more until that is gone
 *
 * So what is held is at most what libwebsockets had read when it was stopped: one buffer, of which it keeps the part
 * that it has not parsed yet, and we the rest. */
#include "stream.h"
#include "utf8.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { CODE_MOST = 4999 }; /* of Close (RFC 6455, 7.4.2); other codes that are none libwebsockets makes 1002 */

/* ---- Holding ------------------------------------------------------------------------------------------------ */

static void hold(struct ws_stream *s)
{
	if (s->held || !s->wsi)
		return;
	s->held = true;
	lws_rx_flow_control(s->wsi, 0);
	keepalive_held(s);
}

static void unhold(struct ws_stream *s)
{
	if (!s->held || s->first || s->over || !s->wsi)
		return;
	s->held = false;
	lws_rx_flow_control(s->wsi, 1);
	evlib_kick(s->engine->evlib);
}

/** @return false: out of memory */
static bool keep(struct ws_stream *s, const struct ws_piece *piece)
{
	struct ws_piece *kept = malloc(sizeof(*kept) + piece->length);
	if (!kept)
		return false;
	*kept = *piece;
	kept->next = NULL;
	kept->at = (char *)(kept + 1);
	memcpy(kept + 1, piece->at, piece->length);
	*s->last = kept;
	s->last = &kept->next;
	return true;
}

static void forget_first(struct ws_stream *s)
{
	struct ws_piece *piece = s->first;
	s->first = piece->next;
	if (!s->first)
		s->last = &s->first;
	free(piece);
}

void receive_drop(struct ws_stream *s)
{
	while (s->first)
		forget_first(s);
	s->now.at = NULL;
	unhold(s);
}

/* ---- What comes --------------------------------------------------------------------------------------------- */

/** The peer has broken the protocol in a way that libwebsockets does not see. */
static int refuse(struct ws_stream *s, unsigned code, const char *reason)
{
	if (s->state == WS_STREAM_OPEN)
		lws_close_reason(s->wsi, (enum lws_close_status)code, (unsigned char *)(uintptr_t)reason, strlen(reason));
	stream_broke(s, CP_EPROTO);
	return -1;
}

/** libwebsockets takes frames of clients that are not masked, which has to be an error (RFC 6455, 5.1). A client that
 * does not mask never does; so the first frame is looked at, once in a connection. (If only one byte of it is there, it
 * is let pass: the second one may come between this look and libwebsockets' read.) */
bool receive_peek(int fd, void *arg)
{
	struct ws_stream *s = arg;
	unsigned char head[2];
	ssize_t got = recv(fd, head, sizeof(head), MSG_PEEK | MSG_DONTWAIT);
	if (got < 0)
		return false;
	if (got == sizeof(head) && !(head[1] & 0x80) && s->state == WS_STREAM_OPEN) {
		refuse(s, WS_CLOSE_PROTOCOL, "not masked");
		hold(s);
		lws_callback_on_writable(s->wsi);
	}
	return true;
}

/** The user takes what it can, at once, if it waits. */
static int hand_out(struct ws_stream *s, const char *bytes, size_t length, unsigned hints)
{
	s->now = (struct ws_piece){.at = bytes, .length = length, .hints = hints};
	if (!s->first && s->wants_read)
		stream_ready(s, CP_READABLE);
	if (s->now.at && !s->closed && !keep(s, &s->now))
		stream_broke(s, CP_ENOMEM);
	s->now.at = NULL;
	if (s->first)
		hold(s);
	return s->state == WS_STREAM_ENDING ? -1 : 0;
}

/** Whether the piece may be part of its message. @param more  bytes that are known to follow
 * @return a close code, or 0 */
static unsigned check(const struct ws_stream *s, struct ws_counted *counted, bool text, const char *bytes,
					  size_t length, uint64_t more, bool final)
{
	uint64_t most = s->behaviour.message_most;
	counted->length += length;
	if (most && (counted->length > most || more > most - counted->length))
		return WS_CLOSE_TOO_BIG;
	if (text && !utf8_check(&counted->utf8, bytes, length, final))
		return WS_CLOSE_NOT_UTF8;
	return 0;
}

static const char *words_for(unsigned code)
{
	return code == WS_CLOSE_TOO_BIG ? "message too big" : code == WS_CLOSE_NOT_UTF8 ? "not UTF-8" : "protocol error";
}

static void begin_message(struct ws_stream *s)
{
	s->is_text = !lws_frame_is_binary(s->wsi);
	s->packed_in = s->deflate && lws_get_reserved_bits(s->wsi) & 0x40;
	s->received = (struct ws_counted){0};
}

/** Whether a message that has ended is the half-close's end. */
static bool is_end(const struct ws_stream *s, const struct ws_counted *counted, bool text)
{
	return text && counted->length == 0 && s->behaviour.half_close;
}

int receive_piece(struct ws_stream *s, const char *bytes, size_t length)
{
	bool final = lws_is_final_fragment(s->wsi);
	bool goes_on = s->in_message && s->frame_done && lws_get_reserved_bits(s->wsi); /* a fragment with RSV1 */
	unsigned wrong = s->ended || goes_on ? WS_CLOSE_PROTOCOL : 0;
	s->heard = cp_loop_now(s->stream.loop);
	if (s->closed || (s->state != WS_STREAM_OPEN && s->state != WS_STREAM_CLOSE_SENT))
		return 0;
	if (!s->in_message)
		begin_message(s);
	s->in_message = !final;
	s->frame_done = lws_remaining_packet_payload(s->wsi) == 0;
	if (!wrong && !s->packed_in)
		wrong = check(s, &s->received, s->is_text, bytes, length, lws_remaining_packet_payload(s->wsi), final);
	if (wrong)
		return refuse(s, wrong, words_for(wrong));
	if (final && !s->packed_in && is_end(s, &s->received, s->is_text)) {
		s->ended = true;
		if (s->wants_read)
			stream_ready(s, CP_READABLE);
		return s->state == WS_STREAM_ENDING ? -1 : 0;
	}
	if (length == 0 && !final)
		return 0;
	return hand_out(s, length ? bytes : "", length,
					(final ? 0u : CP_READ_MORE) | (s->is_text ? CP_READ_TEXT : 0u) |
						(s->packed_in ? PIECE_PACKED : 0u));
}

/** RFC 6455, 7.4.1: 1000 is an end in order, 1001 that somebody leaves, without a code nothing is said; from 3000 on
 * they mean what applications make of them. All others tell of a failure. */
static bool tells_of_failure(uint32_t code)
{
	return code < WS_CLOSE_OF_APPLICATIONS && code != WS_CLOSE_NORMAL && code != WS_CLOSE_AWAY && code != WS_CLOSE_NONE;
}

static void note_ending(struct ws_stream *s, const unsigned char *bytes, size_t length)
{
	struct cp_ending *ending = calloc(1, sizeof(*ending));
	if (!ending)
		return;
	ending->protocol = "websocket";
	ending->code = length >= 2 ? (uint32_t)(bytes[0] << 8 | bytes[1]) : WS_CLOSE_NONE;
	ending->failed = tells_of_failure(ending->code);
	ending->length = length > 2 ? (uint32_t)(length - 2) : 0;
	if (ending->length > sizeof(ending->reason))
		ending->length = sizeof(ending->reason);
	memcpy(ending->reason, bytes + (length > 2 ? 2 : 0), ending->length);
	free(s->peer_ending);
	s->peer_ending = ending;
}

/** libwebsockets answers a Close with the same one, unless the callback says that the connection is over: as it is when
 * we have said Close before. */
int receive_close(struct ws_stream *s, const unsigned char *bytes, size_t length)
{
	bool answered = s->state == WS_STREAM_CLOSE_SENT;
	bool malformed = length == 1 || (length >= 2 && (bytes[0] << 8 | bytes[1]) > CODE_MOST);
	uint8_t utf8 = 0;
	if (s->state == WS_STREAM_ENDING)
		return -1;
	if (malformed || (length > 2 && !utf8_check(&utf8, (const char *)bytes + 2, length - 2, true)))
		return refuse(s, malformed ? WS_CLOSE_PROTOCOL : WS_CLOSE_NOT_UTF8, "bad close");
	note_ending(s, bytes, length);
	s->over = true;
	if (!s->in_message)
		s->ended = true;
	else if (s->broken == CP_OK)
		s->broken = CP_ERESET; /* what has come of the message is not the message */
	stream_enter(s, answered ? WS_STREAM_ENDING : WS_STREAM_CLOSE_SEEN);
	keepalive_close(s, WS_CLOSE_MS);
	hold(s); /* nothing counts behind a Close */
	if (s->wants_read)
		stream_ready(s, CP_READABLE);
	return answered ? -1 : 0;
}

/* ---- Handing out -------------------------------------------------------------------------------------------- */

static size_t copy(const struct iovec *vec, int count, const char *bytes, size_t length)
{
	size_t done = 0;
	for (int i = 0; i < count && done < length; i++) {
		size_t here = vec[i].iov_len < length - done ? vec[i].iov_len : length - done;
		if (here)
			memcpy(vec[i].iov_base, bytes + done, here);
		done += here;
	}
	return done;
}

/** Nothing is there. What happens behind an end is told behind it. */
static ssize_t read_end(struct ws_stream *s, unsigned *hints)
{
	if (s->broken != CP_OK && (!s->ended || s->end_told))
		return s->broken;
	if (s->ended) {
		s->end_told = true;
		*hints = CP_READ_END | (s->over ? CP_READ_OVER : 0u);
		return 0;
	}
	s->wants_read = true;
	return CP_AGAIN;
}

/** The piece was taken. */
static void take(struct ws_stream *s)
{
	if (s->first)
		forget_first(s);
	else
		s->now.at = NULL;
	unhold(s);
}

/** What is read is the last that is there: the user waits, as if it had tried once more. */
static unsigned drained(struct ws_stream *s)
{
	if (s->first || s->now.at || s->broken != CP_OK || s->ended)
		return 0;
	s->wants_read = true;
	return CP_READ_DRAINED;
}

static ssize_t read_plain(struct ws_stream *s, struct ws_piece *piece, const struct iovec *vec, int count,
						  unsigned *hints)
{
	size_t got = copy(vec, count, piece->at, piece->length);
	*hints = piece->hints;
	piece->at += got;
	piece->length -= got;
	if (piece->length) {
		*hints |= CP_READ_MORE;
	} else {
		take(s);
		*hints |= drained(s);
	}
	return (ssize_t)got;
}

/** What was uncompressed is wrong; the user is told by the read that it is in. */
static ssize_t refuse_packed(struct ws_stream *s, unsigned code)
{
	if (s->state == WS_STREAM_OPEN) {
		const char *words = words_for(code);
		lws_close_reason(s->wsi, (enum lws_close_status)code, (unsigned char *)(uintptr_t)words, strlen(words));
		lws_callback_on_writable(s->wsi);
	}
	stream_broke_later(s, CP_EPROTO);
	receive_drop(s);
	hold(s);
	return CP_EPROTO;
}

/** Compressed: as much of it as fits is uncompressed, straight into the user's memory. So a little that becomes a lot
 * waits as the little that it is. */
static ssize_t read_packed(struct ws_stream *s, struct ws_piece *piece, const struct iovec *vec, int count,
						   unsigned *hints)
{
	bool final = !(piece->hints & CP_READ_MORE), text = piece->hints & CP_READ_TEXT;
	size_t got;
	while (count > 1 && vec->iov_len == 0)
		vec++, count--;
	enum deflate_result result =
		deflate_unpack(s->deflate, &piece->at, &piece->length, final, vec->iov_base, vec->iov_len, &got);
	if (result == DEFLATE_NO_MEMORY)
		return CP_ENOMEM;
	bool done = result == DEFLATE_DONE;
	struct ws_counted *counted = &s->unpacked;
	unsigned wrong = result == DEFLATE_WRONG ? WS_CLOSE_NOT_UTF8 : check(s, counted, text, vec->iov_base, got, 0, done);
	if (wrong)
		return refuse_packed(s, wrong);
	*hints = (done ? 0u : CP_READ_MORE) | (text ? CP_READ_TEXT : 0u);
	if (result == DEFLATE_FULL)
		return (ssize_t)got;
	take(s);
	if (done && is_end(s, counted, text)) {
		receive_drop(s);
		s->ended = true;
		return read_end(s, hints);
	}
	if (done)
		*counted = (struct ws_counted){0};
	if (got == 0 && !done)
		return receive_read(s, vec, count, hints); /* what there was, was not enough for a byte */
	*hints |= drained(s);
	return (ssize_t)got;
}

ssize_t receive_read(struct ws_stream *s, const struct iovec *vec, int count, unsigned *hints)
{
	struct ws_piece *piece = s->first ? s->first : &s->now;
	*hints = 0;
	s->wants_read = false;
	if (!piece->at)
		return read_end(s, hints);
	if (!(piece->hints & PIECE_PACKED))
		return read_plain(s, piece, vec, count, hints);
	return read_packed(s, piece, vec, count, hints);
}
