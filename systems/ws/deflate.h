/** permessage-deflate (RFC 7692), without context takeover: between two messages nothing is kept. Only if a server does
 * not agree to that, as it should, then what it sends is uncompressed with the context of what came before.
 *
 * Ours, and not libwebsockets' own: that one leaves input in buffers that other connections use meanwhile, and mixes up
 * which side's context is meant. libwebsockets only negotiates it, and sets RSV1 (deflate_extensions). */
#ifndef SYSTEMS_WS_DEFLATE_H
#define SYSTEMS_WS_DEFLATE_H

#include <libwebsockets.h>
#include <stdbool.h>
#include <stddef.h>

/** The offer and the answer. */
#define DEFLATE_AGREEMENT "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

struct deflate;

/** For libwebsockets' vhosts. Its user is a stream (stream.h). */
extern const struct lws_extension *const deflate_extensions;

/** @return NULL: out of memory */
struct deflate *deflate_new(void);
void deflate_free(struct deflate *d);

/** Compress a piece of a message.
 * @param out, length  memory with LWS_PRE bytes in front of what is in it; free(*out - LWS_PRE)
 * @return CP_OK or CP_ENOMEM */
int deflate_pack(struct deflate *d, const void *bytes, size_t size, bool final, unsigned char **out, size_t *length);
/** Whether the frame that is sent is the first of a compressed message; asked once for each frame of data. */
bool deflate_marks_frame(struct deflate *d);
/** The next message is compressed, and begins. */
void deflate_mark(struct deflate *d);

/** What comes refers to earlier messages. */
void deflate_keep_context(struct deflate *d);

enum deflate_result {
	DEFLATE_FULL, /* there is no more room: more may come */
	DEFLATE_FED,  /* the input is used up */
	DEFLATE_DONE, /* and the message is complete */
	DEFLATE_WRONG,
	DEFLATE_NO_MEMORY,
};

/** Uncompress a piece of a message. @param at, left  the input, moved on  @param final  it is the message's last
 * @param got  how much was put into `room` bytes at `out` */
enum deflate_result deflate_unpack(struct deflate *d, const char **at, size_t *left, bool final, char *out, size_t room,
								   size_t *got);

#endif
