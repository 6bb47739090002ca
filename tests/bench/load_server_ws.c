/* echo -w: what a proxy that passes websockets on unread has behind it. Answers the request for an upgrade and gives
 * back the frames that it gets, of the same lengths, unmasked; a Close too, and then it ends the connection. It expects
 * what load_wire_ws.c sends: requests that are right, binary messages, no pings. */
#include "load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct ws_served {
	bool open; /* the request is answered */
	struct ws_reader reader;
	size_t have; /* of the head */
	char head[WS_HEAD_MOST];
};

static const char *find_key(const char *head, size_t *length)
{
	static const char name[] = "\r\nSec-WebSocket-Key: ";
	const char *at = strcasestr(head, name);
	if (!at)
		return NULL;
	at += sizeof(name) - 1;
	*length = strcspn(at, " \t\r");
	return at;
}

static bool answer(struct served *s)
{
	char accept[32], text[WS_HEAD_MOST];
	size_t length;
	const char *key = find_key(s->ws->head, &length);
	if (!key)
		return false;
	ws_accept_of(key, length, accept);
	int printed = snprintf(text, sizeof(text),
						   "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
						   "Sec-WebSocket-Accept: %s\r\n\r\n",
						   accept);
	s->ws->open = true;
	return served_send(s, text, (size_t)printed);
}

/** Bytes of the head, up to its end. @return how many of them belonged to it, or -1 */
static ssize_t take_head(struct served *s, const char *bytes, size_t length)
{
	struct ws_served *ws = s->ws;
	size_t before = ws->have, room = sizeof(ws->head) - 1 - before;
	memcpy(ws->head + before, bytes, length < room ? length : room);
	ws->have += length < room ? length : room;
	ws->head[ws->have] = 0;
	const char *end = strstr(ws->head, "\r\n\r\n");
	if (!end)
		return length < room ? (ssize_t)length : -1;
	return answer(s) ? end + 4 - (ws->head + before) : -1;
}

/** Make answers of frames. They are shorter by the mask: `to` has room for `length` bytes and one header.
 * @return how many bytes they are, or -1 */
static ssize_t turn_frames(struct served *s, char *bytes, size_t length, char *to)
{
	struct ws_reader *reader = &s->ws->reader;
	char *at = bytes, *piece;
	size_t put = 0, piece_length;
	for (;;) {
		switch (ws_next(reader, &at, bytes + length, &piece, &piece_length)) {
		case WS_NOTHING:
			return (ssize_t)put;
		case WS_FRAME:
			if (s->ended || !reader->masked || (reader->opcode != WS_BINARY && reader->opcode != WS_CLOSE))
				return -1;
			put += ws_header(to + put, reader->opcode, (size_t)reader->left, NULL);
			s->ended = reader->opcode == WS_CLOSE;
			break;
		case WS_PAYLOAD:
			memcpy(to + put, piece, piece_length);
			put += piece_length;
			break;
		case WS_WRONG:
			return -1;
		}
	}
}

/** @return false when what came is wrong, or the connection broken */
static bool take(struct served *s, char *bytes, size_t length)
{
	static char output[CHUNK + WS_HEADER_MOST];
	if (!s->ws->open) {
		ssize_t head = take_head(s, bytes, length);
		if (head < 0)
			return false;
		bytes += head;
		length -= (size_t)head;
	}
	ssize_t turned = turn_frames(s, bytes, length, output);
	return turned >= 0 && (turned == 0 || served_send(s, output, (size_t)turned));
}

/** A Close was answered, all of it. */
static bool is_over(const struct served *s)
{
	return s->ended && !s->ws->reader.in_payload;
}

/** @return true to read on */
static bool step(struct served *s, uint32_t events)
{
	static char input[CHUNK];
	if (s->length && !served_send(s, s->held, s->length)) {
		served_fail(s);
		return false;
	}
	if (s->length)
		return false;
	if (is_over(s)) {
		served_close(s);
		return false;
	}
	ssize_t got = recv(s->fd, input, sizeof(input), 0);
	if (got < 0 && errno == EAGAIN)
		return false;
	if (got <= 0 || !take(s, input, (size_t)got)) {
		if (got == 0) /* clients that are only stopped go without a Close */
			served_close(s);
		else
			served_fail(s);
		return false;
	}
	/* A short read means that there was no more, unless the end of file is behind it. */
	return s->ended || (size_t)got == sizeof(input) || events & EPOLLRDHUP;
}

void serve_websocket(struct served *s, uint32_t events)
{
	if (!s->ws)
		s->ws = calloc(1, sizeof(*s->ws));
	if (!s->ws)
		die("calloc");
	while (step(s, events))
		continue;
}
