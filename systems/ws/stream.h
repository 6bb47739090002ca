/** A websocket as a cp_stream: what its files share.
 *
 *     stream.c     the stream's operations, closing, libwebsockets' callbacks
 *     receive.c    messages that come in: handing them out, holding them, what is wrong with them
 *     keepalive.c  pings, and the time that closing may take
 *     handshake.c  becoming a websocket: ws_accept(), ws_connect()
 *
 * Ownership: libwebsockets' connection (`wsi`) has the stream as its user data; the stream lives until both its user
 * has closed it and the connection is gone. Nothing here frees a connection: a callback that returns -1, or a timeout
 * of 0 seconds, makes libwebsockets do that, and WSI_DESTROY tells when it has. */
#ifndef SYSTEMS_WS_STREAM_H
#define SYSTEMS_WS_STREAM_H

#include "deflate.h"
#include "engine.h"

#include <connpipe/loop.h>
#include <connpipe/stream.h>

/** X(state, meaning) */
#define WS_STREAM_STATES(X)                                                                            \
	X(WS_STREAM_OPENING, "the handshake is under way")                                                 \
	X(WS_STREAM_OPEN, "messages go both ways")                                                         \
	X(WS_STREAM_CLOSE_SENT, "we have said Close; what the peer says before it answers still counts")   \
	X(WS_STREAM_CLOSE_SEEN, "the peer has said Close; libwebsockets answers, and ends the connection") \
	X(WS_STREAM_ENDING, "libwebsockets ends the connection, by itself or since it was told to")        \
	X(WS_STREAM_GONE, "there is no connection")

enum ws_stream_state {
#define WS_STREAM_STATE_ENUM(state, meaning) state,
	WS_STREAM_STATES(WS_STREAM_STATE_ENUM)
#undef WS_STREAM_STATE_ENUM
};

/** Close codes (RFC 6455, 7.4.1). */
enum {
	WS_CLOSE_NORMAL = 1000,
	WS_CLOSE_AWAY = 1001,
	WS_CLOSE_PROTOCOL = 1002,
	WS_CLOSE_NONE = 1005, /* there was none: never sent */
	WS_CLOSE_NOT_UTF8 = 1007,
	WS_CLOSE_TOO_BIG = 1009,
	WS_CLOSE_INTERNAL = 1011,
	WS_CLOSE_OF_APPLICATIONS = 3000, /* and above */
};

enum {
	WS_CLOSE_MS = 5000, /* for what is left to say and to hear when the stream is closed in order … */
	WS_RESET_MS = 1000, /* … and otherwise */
};

/** In a piece's hints: it is compressed. */
#define PIECE_PACKED 0x10000u

/** A piece of a message that the user has not taken yet. */
struct ws_piece {
	struct ws_piece *next;
	const char *at; /* behind the structure; or libwebsockets' memory, for as long as its callback lasts */
	size_t length;
	unsigned hints; /* CP_READ_MORE, CP_READ_TEXT, PIECE_PACKED */
};

/** What is checked of a message from piece to piece. */
struct ws_counted {
	uint64_t length;
	uint8_t utf8; /* see utf8_check() */
};

struct ws_stream {
	struct cp_stream stream; /* first */
	struct ws_engine *engine;
	struct lws *wsi;                  /* NULL when it is gone */
	struct ws_connecting *connecting; /* until `done` was called */
	const char *answer;               /* extra lines, inside ws_accept() */
	struct ws_behaviour behaviour;
	enum ws_stream_state state;
	bool connects; /* ws_connect() made it */
	bool leaving;  /* libwebsockets has begun to end the connection */
	bool closed;   /* by its user */
	bool reset;    /* … for a cause that is a reset */
	bool wants_read, wants_write;
	struct cp_deferred deferred; /* frees */

	/* receive.c */
	struct ws_piece now; /* what libwebsockets hands out at this moment, if `now.at` */
	struct ws_piece *first, **last;
	bool held;       /* libwebsockets was told not to read */
	bool frame_done; /* the last piece was the last of its frame */
	bool in_message; /* the last piece was not the last of its message */
	bool is_text;
	bool ended, over; /* as CP_READ_END, CP_READ_OVER, when everything was taken */
	bool end_told;
	int broken;                 /* what reading returns then; CP_OK: nothing is wrong */
	struct ws_counted received; /* what has come of the message, if it is not compressed */

	/* stream.c */
	bool out_message; /* the last write was not the last of its message */
	bool shut;        /* nothing more is written */
	struct cp_ending *peer_ending, *own_ending;

	/* permessage-deflate, if it was agreed on */
	struct deflate *deflate;
	bool server_forgets;        /* the server has agreed to keep no context between messages */
	bool packed_in, packed_out; /* the message that is under way is compressed */
	struct ws_counted unpacked; /* what was read of a compressed one */

	/* keepalive.c */
	struct cp_timer timer;
	uint64_t heard; /* when something came last */
	uint64_t asked; /* when the ping was sent that is not answered; 0: there is none */
	int unsent;     /* bytes that the peer's kernel had not confirmed when that was looked at last */
	bool tells;     /* it is held, or was lately: the timer fires often enough to tell the peer that we are there */
	uint64_t told;  /* when it was told that */
};

/** @return NULL: out of memory */
struct ws_stream *stream_make(struct ws_engine *engine, const struct ws_behaviour *behaviour, struct cp_system *owner);
/** At the end of the turn: callbacks may be running on it. It has no connection any more. */
void stream_free_later(struct ws_stream *s);
/** The handshake is over. */
void stream_opened(struct ws_stream *s);
/** One function changes the state, and logs it. */
void stream_enter(struct ws_stream *s, enum ws_stream_state state);
/** The stream is broken: the user is told, and the connection ends as libwebsockets does it. */
void stream_broke(struct ws_stream *s, int error);
/** Likewise, inside a call of the user: who else waits is told later. */
void stream_broke_later(struct ws_stream *s, int error);
/** Have libwebsockets end the connection, at once. Not inside a callback of it: that returns -1 for this. */
void stream_cut(struct ws_stream *s);
/** Likewise, and whoever else carries its bytes (a bridge) is to lose no time with them. */
void stream_break(struct ws_stream *s);
/** Call the user, who may do anything: `s` is still there, but may be closed. */
void stream_ready(struct ws_stream *s, unsigned events);

/** A piece of a message has come. In libwebsockets' callback. @return what the callback is to return */
int receive_piece(struct ws_stream *s, const char *bytes, size_t length);
/** Look at the first frame; see evlib_peek(). @param arg  the stream */
bool receive_peek(int fd, void *arg);
/** The peer has said Close. Likewise. */
int receive_close(struct ws_stream *s, const unsigned char *bytes, size_t length);
ssize_t receive_read(struct ws_stream *s, const struct iovec *vec, int count, unsigned *hints);
/** Forget what was not taken, and all that still comes. */
void receive_drop(struct ws_stream *s);

void keepalive_start(struct ws_stream *s);
/** libwebsockets was told not to read. */
void keepalive_held(struct ws_stream *s);
/** From now on it is about closing: which takes so long at most. */
void keepalive_close(struct ws_stream *s, uint64_t ms);
void keepalive_stop(struct ws_stream *s);

/** The callbacks of a handshake (handshake.c). */
int handshake_callback(struct ws_stream *s, struct lws *wsi, enum lws_callback_reasons reason, void *in, size_t length);
/** The connection ended before the handshake did. */
void handshake_failed(struct ws_stream *s);

#endif
