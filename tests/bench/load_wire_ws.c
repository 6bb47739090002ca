/* The client's side of a websocket, on what load_wire.c calls the stream: a socket, or TLS on it.
 *
 * Every call that sends makes one binary message of one frame, masked. What comes back may be cut into messages
 * otherwise, since a byte stream may be behind the proxy: it is given as the bytes that it holds. Pings are answered.
 * An end is in order when a Close came before it. */
#include "load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct websocket {
	bool asked, open; /* the request was sent; the answer was read */
	bool closed;      /* Close was read */
	bool ping;        /* has to be answered by what is in `control` */
	size_t sent;      /* of a frame that is on its way */
	struct ws_reader reader;
	size_t have; /* in `head` while not open, in `control` afterwards */
	union {
		char head[WS_HEAD_MOST];
		char control[WS_CONTROL_MOST]; /* the payload of a control frame */
	};
};

static const unsigned char mask_key[4] = {0x9e, 0x37, 0x79, 0xb9};
static const char client_key[] = "Y29ubnBpcGUncyBsb2FkLg=="; /* 16 bytes in base64 */

struct websocket *wire_ws_new(void)
{
	struct websocket *ws = calloc(1, sizeof(*ws));
	if (!ws)
		die("calloc");
	return ws;
}

/* ---- Opening ------------------------------------------------------------------------------------------------- */

static bool ask(struct wire *w)
{
	char request[WS_HEAD_MOST];
	int length = snprintf(request, sizeof(request),
						  "GET / HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
						  "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n",
						  options.port, client_key);
	ssize_t put = wire_stream_send(w, request, (size_t)length);
	w->ws->asked = put == length;
	if (put >= 0 && put != length) /* a new connection takes as much at once */
		errno = EIO;
	return w->ws->asked;
}

/** Whether a line of the head is `name: value`, the value in any case if `any_case`. */
static bool has_field(const char *head, const char *name, const char *value, bool any_case)
{
	size_t name_length = strlen(name), value_length = strlen(value);
	for (const char *line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n")) {
		const char *at = line + 2;
		if (strncasecmp(at, name, name_length) != 0 || at[name_length] != ':')
			continue;
		at += name_length + 1;
		at += strspn(at, " \t");
		int differs = any_case ? strncasecmp(at, value, value_length) : strncmp(at, value, value_length);
		return differs == 0 && at[value_length + strspn(at + value_length, " \t")] == '\r';
	}
	return false;
}

static bool answer_is_right(const char *head)
{
	char accept[32];
	ws_accept_of(client_key, sizeof(client_key) - 1, accept);
	return strncmp(head, "HTTP/1.1 101 ", 13) == 0 && has_field(head, "Upgrade", "websocket", true) &&
		   has_field(head, "Connection", "Upgrade", true) && has_field(head, "Sec-WebSocket-Accept", accept, false) &&
		   !strcasestr(head, "\r\nSec-WebSocket-Extensions:") && !strcasestr(head, "\r\nSec-WebSocket-Protocol:");
}

/** @return false with errno while the answer is not there. Nothing may be behind it: nothing was asked for yet. */
static bool hear(struct wire *w)
{
	struct websocket *ws = w->ws;
	ssize_t got = wire_stream_receive(w, ws->head + ws->have, sizeof(ws->head) - 1 - ws->have);
	if (got <= 0) {
		errno = got < 0 ? errno : ENODATA;
		return false;
	}
	ws->have += (size_t)got;
	ws->head[ws->have] = 0;
	const char *end = strstr(ws->head, "\r\n\r\n");
	bool full = ws->have == sizeof(ws->head) - 1;
	errno = end || full ? EBADMSG : EAGAIN;
	if (!end || end + 4 != ws->head + ws->have || !answer_is_right(ws->head))
		return false;
	ws->open = true;
	ws->have = 0;
	return true;
}

static bool is_open(struct wire *w)
{
	return w->ws->open || ((w->ws->asked || ask(w)) && hear(w));
}

/* ---- Sending ------------------------------------------------------------------------------------------------- */

/** @return whether all of the frame is sent; otherwise errno, and the same frame has to come again */
static bool send_frame(struct wire *w, enum ws_opcode opcode, const char *bytes, size_t length)
{
	static char frame[WS_HEADER_MOST + 2 * BYTES_MOST];
	size_t header = ws_header(frame, opcode, length, mask_key);
	ws_mask(frame + header, bytes, length, mask_key, 0);
	while (w->ws->sent < header + length) {
		ssize_t put = wire_stream_send(w, frame + w->ws->sent, header + length - w->ws->sent);
		if (put < 0)
			return false;
		w->ws->sent += (size_t)put;
	}
	w->ws->sent = 0;
	return true;
}

/** Answer a ping that was read. While a message is half sent, it waits for that message's end. */
static bool answer_ping(struct wire *w)
{
	struct websocket *ws = w->ws;
	bool half_read = ws->reader.in_payload && ws->reader.opcode == WS_PING;
	if (!ws->ping || half_read || ws->sent)
		return true;
	ws->ping = false;
	return send_frame(w, WS_PONG, ws->control, ws->have);
}

ssize_t wire_ws_send(struct wire *w, const void *bytes, size_t length)
{
	if (!is_open(w) || !answer_ping(w) || !send_frame(w, WS_BINARY, bytes, length))
		return -1;
	return (ssize_t)length;
}

bool wire_ws_end(struct wire *w)
{
	static const char normal[2] = {1000 >> 8, (char)(1000 & 255)};
	return w->ws->open && send_frame(w, WS_CLOSE, normal, sizeof(normal));
}

/* ---- Receiving ----------------------------------------------------------------------------------------------- */

/** @return false for a frame that should not have come */
static bool on_frame(struct websocket *ws)
{
	if (ws->reader.masked || ws->closed)
		return false;
	switch (ws->reader.opcode) {
	case WS_CONTINUATION:
	case WS_BINARY:
	case WS_PONG:
		return true;
	case WS_PING: /* the latest one is answered */
		ws->ping = true;
		ws->have = 0;
		return true;
	case WS_CLOSE:
		ws->closed = true;
		return true;
	case WS_TEXT:
		break;
	}
	return false;
}

/** Keep what a ping says; move data to `to`. @return how much data that was */
static size_t on_payload(struct websocket *ws, char *to, const char *piece, size_t length)
{
	if (ws->reader.opcode < WS_CLOSE) {
		memmove(to, piece, length);
		return length;
	}
	if (ws->reader.opcode == WS_PING && ws->have + length <= sizeof(ws->control)) {
		memcpy(ws->control + ws->have, piece, length);
		ws->have += length;
	}
	return 0;
}

/** Leave of these bytes what is data. @return how much that is, or -1 */
static ssize_t take_frames(struct wire *w, char *bytes, size_t length)
{
	struct websocket *ws = w->ws;
	char *at = bytes, *piece;
	size_t data = 0, piece_length;
	for (;;) {
		switch (ws_next(&ws->reader, &at, bytes + length, &piece, &piece_length)) {
		case WS_NOTHING:
			return answer_ping(w) || errno == EAGAIN ? (ssize_t)data : -1;
		case WS_FRAME:
			if (on_frame(ws))
				break;
			errno = EBADMSG;
			return -1;
		case WS_PAYLOAD:
			data += on_payload(ws, bytes + data, piece, piece_length);
			break;
		case WS_WRONG:
			errno = EBADMSG;
			return -1;
		}
	}
}

ssize_t wire_ws_receive(struct wire *w, void *bytes, size_t length)
{
	ssize_t data = 0;
	if (!is_open(w))
		return -1;
	while (data == 0) {
		ssize_t got = wire_stream_receive(w, bytes, length);
		if (got < 0)
			return -1;
		if (got == 0) {
			errno = ENODATA;
			return w->ws->closed ? 0 : -1;
		}
		data = take_frames(w, bytes, (size_t)got);
	}
	return data;
}
