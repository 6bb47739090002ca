/* See deflate.h. A compressed message is a deflate stream whose last four bytes, 00 00 ff ff, are left away (RFC 7692,
 * 7.2). Memory of zlib, 40 KiB one way and 260 KiB the other, is there while a message is under way. */
#include "deflate.h"

#include "stream.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { LEVEL = 1, MEMORY = 8, TAIL = 4, SLACK = 32 };

static const unsigned char tail[TAIL] = {0x00, 0x00, 0xff, 0xff};

struct deflate {
	z_stream in, out;
	bool unpacks, packs; /* inside a message: the stream above is set up */
	uint8_t tail_left;   /* of the incoming message: what was not fed of it, when all else was */
	bool in_tail;
	bool marks;
	bool keeps; /* the peer's context */
};

struct deflate *deflate_new(void)
{
	return calloc(1, sizeof(struct deflate));
}

static void end_in(struct deflate *d)
{
	if (d->unpacks)
		inflateEnd(&d->in);
	d->unpacks = false;
}

static void end_out(struct deflate *d)
{
	if (d->packs)
		deflateEnd(&d->out);
	d->packs = false;
}

void deflate_free(struct deflate *d)
{
	if (!d)
		return;
	end_in(d);
	end_out(d);
	free(d);
}

/* ---- Out ---------------------------------------------------------------------------------------------------- */

void deflate_mark(struct deflate *d)
{
	d->marks = true;
}

bool deflate_marks_frame(struct deflate *d)
{
	bool marks = d->marks;
	d->marks = false;
	return marks;
}

static bool begin_out(struct deflate *d)
{
	if (!d->packs) {
		d->out = (z_stream){0};
		d->packs = deflateInit2(&d->out, LEVEL, Z_DEFLATED, -MAX_WBITS, MEMORY, Z_DEFAULT_STRATEGY) == Z_OK;
	}
	return d->packs;
}

/** What a flush leaves at the end goes away with the message's last piece. A piece that is empty, and behind a flush,
 * gives nothing; then one byte is what a receiver can add the tail to (RFC 7692, 7.2.3.6). */
static void cut_tail(unsigned char *out, size_t *length)
{
	if (*length >= TAIL)
		*length -= TAIL;
	else
		out[(*length = 1) - 1] = 0;
}

int deflate_pack(struct deflate *d, const void *bytes, size_t size, bool final, unsigned char **out, size_t *length)
{
	if (!begin_out(d))
		return CP_ENOMEM;
	size_t room = deflateBound(&d->out, size) + SLACK;
	unsigned char *memory = malloc(LWS_PRE + room);
	if (!memory)
		return CP_ENOMEM;
	d->out.next_in = (Bytef *)(uintptr_t)bytes;
	d->out.avail_in = (uInt)size;
	d->out.next_out = memory + LWS_PRE;
	d->out.avail_out = (uInt)room;
	deflate(&d->out, Z_SYNC_FLUSH);
	*out = memory + LWS_PRE;
	*length = room - d->out.avail_out;
	if (final) {
		cut_tail(*out, length);
		end_out(d);
	}
	return CP_OK;
}

/* ---- In ----------------------------------------------------------------------------------------------------- */

void deflate_keep_context(struct deflate *d)
{
	d->keeps = true;
}

static bool begin_in(struct deflate *d)
{
	if (!d->unpacks) {
		d->in = (z_stream){0};
		d->in_tail = false;
		d->unpacks = inflateInit2(&d->in, -MAX_WBITS) == Z_OK;
	}
	return d->unpacks;
}

/** One step: of the input, or of the tail behind it. @return what zlib says */
static int step(struct deflate *d, const char **at, size_t *left)
{
	const unsigned char *from = d->in_tail ? tail + TAIL - d->tail_left : (const unsigned char *)*at;
	d->in.next_in = (Bytef *)(uintptr_t)from;
	d->in.avail_in = d->in_tail ? d->tail_left : (uInt)*left;
	int said = inflate(&d->in, Z_SYNC_FLUSH);
	if (said ==
		Z_STREAM_END) /* a block that says it is the last: for a message that means nothing (RFC 7692, 7.2.3.4) */
		said = inflateResetKeep(&d->in);
	if (d->in_tail) {
		d->tail_left = (uint8_t)d->in.avail_in;
	} else {
		*at += *left - d->in.avail_in;
		*left = d->in.avail_in;
	}
	return said;
}

enum deflate_result deflate_unpack(struct deflate *d, const char **at, size_t *left, bool final, char *out, size_t room,
								   size_t *got)
{
	enum deflate_result result = DEFLATE_FULL;
	*got = 0;
	if (!begin_in(d))
		return DEFLATE_NO_MEMORY;
	d->in.next_out = (Bytef *)out;
	d->in.avail_out = (uInt)room;
	while (d->in.avail_out && result == DEFLATE_FULL) {
		int said = step(d, at, left);
		bool fed = d->in_tail ? d->tail_left == 0 : *left == 0;
		if (said != Z_OK && said != Z_BUF_ERROR)
			result = DEFLATE_WRONG;
		else if (d->in.avail_out && fed && d->in_tail)
			result = DEFLATE_DONE;
		else if (d->in.avail_out && fed && !final)
			result = DEFLATE_FED;
		else if (d->in.avail_out && fed) {
			d->in_tail = true;
			d->tail_left = TAIL;
		}
	}
	*got = room - d->in.avail_out;
	if (result == DEFLATE_DONE)
		d->in_tail = false;
	if (result == DEFLATE_WRONG || (result == DEFLATE_DONE && !d->keeps))
		end_in(d);
	return result;
}

/* ---- libwebsockets ------------------------------------------------------------------------------------------ */

static int on_extension(struct lws_context *context, const struct lws_extension *extension, struct lws *wsi,
						enum lws_extension_callback_reasons reason, void *user, void *in, size_t length)
{
	static const struct lws_ext_options options[] = {
		{"server_no_context_takeover", EXTARG_NONE},
		{"client_no_context_takeover", EXTARG_NONE},
		{"server_max_window_bits", EXTARG_OPT_DEC},
		{NULL, EXTARG_NONE},
	};
	struct ws_stream *s = lws_wsi_user(wsi);
	(void)context, (void)extension, (void)user, (void)length;
	switch ((int)reason) {
	case LWS_EXT_CB_CONSTRUCT:
	case LWS_EXT_CB_CLIENT_CONSTRUCT:
		*(const struct lws_ext_options **)in = options;
		return s->deflate ? 0 : -1;
	case LWS_EXT_CB_OPTION_SET:
		s->server_forgets |= ((struct lws_ext_option_arg *)in)->option_index == 0;
		return 0;
	case LWS_EXT_CB_OPTION_CONFIRM: /* the server's answer was read */
		if (!s->server_forgets)
			deflate_keep_context(s->deflate);
		return 0;
	case LWS_EXT_CB_PACKET_TX_PRESEND:
		if (s->deflate && deflate_marks_frame(s->deflate))
			((struct lws_tokens *)in)->token[0] |= 0x40;
		return 0;
	default:
		return 0;
	}
}

static const struct lws_extension extensions[] = {
	{"permessage-deflate", on_extension, DEFLATE_AGREEMENT},
	{NULL, NULL, NULL},
};
const struct lws_extension *const deflate_extensions = extensions;
