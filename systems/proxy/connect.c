/* The connecting side: a header is written as soon as the connection is there; it does not wait for data of the client,
 * which may be one that waits for the server to speak first. */
#include "proxy.h"

#include <stdlib.h>
#include <string.h>

enum {
	HEADER_ROOM = 4096, /* as much as is read by default */
	EARLY_MOST = 4,     /* vectors; what does not fit is written behind it */
};

/** A header of which a part is still to be sent. */
struct writing {
	struct proxy_waiting waiting; /* first */
	cp_counter written;
	size_t sent, length;
	uint8_t bytes[];
};

/* ---- The header --------------------------------------------------------------------------------------------- */

/** Without a request the connection is nobody else's. A client without an IP address (of a unix socket) has nothing to
 * be told about but what is in TLVs; where there are none either, LOCAL is what every receiver takes. */
static size_t write_v2(const struct proxy_options *options, struct cp_request *request, const struct cp_peer *source,
					   const struct cp_peer *destination, uint8_t *header)
{
	struct proxy_writer writer;
	bool sum = options->sends & 1u << PROXY_SEND_CRC32C;
	bool local = !request;
	proxy_v2_begin(&writer, header, HEADER_ROOM, local, source, destination);
	if (request)
		proxy_facts_put(request, options->sends, &writer);
	if (!local && source->ip.family == 0 && writer.length == PROXY_V2_FIXED)
		proxy_v2_begin(&writer, header, HEADER_ROOM, true, source, destination);
	return proxy_v2_end(&writer, sum);
}

/** @return the length; 0: it is too long */
static size_t write_header(const struct proxy_options *options, struct cp_request *request, uint8_t *header)
{
	static const struct cp_peer none;
	struct cp_peer destination = none;
	const struct cp_peer *source = request ? cp_request_peer(request) : &none;
	if (request && source->ip.family)
		cp_request_local(request, &destination);
	if (options->version == 1)
		return proxy_v1_write(source, &destination, header);
	return write_v2(options, request, source, &destination, header);
}

/* ---- Sending ------------------------------------------------------------------------------------------------ */

static int fail(struct cp_open *open, enum cp_err code)
{
	cp_error_set(&open->error, code, NULL, "%s while the PROXY header was sent", cp_err_text(code));
	cp_stream_close(open->lower, CP_CAUSE_CONNECT_FAILED);
	return code;
}

static int done(struct cp_open *open, cp_counter written)
{
	cp_count(open->loop, written, 1);
	open->stream = open->lower;
	return CP_OK;
}

static void on_ready(struct cp_stream *lower, unsigned events, void *arg)
{
	struct cp_open *open = arg;
	struct writing *w = open->state;
	if (events & CP_RECALL)
		cp_stream_restore(lower);
	if (!(events & CP_WRITABLE))
		return;
	struct iovec rest = {w->bytes + w->sent, w->length - w->sent};
	ssize_t put = cp_stream_writev(lower, &rest, 1, 0);
	if (put > 0)
		w->sent += (size_t)put;
	if (put == CP_AGAIN || (put >= 0 && w->sent < w->length))
		return;
	if (put < 0) {
		fail(open, (enum cp_err)put);
	} else {
		cp_stream_set_user(lower, NULL, NULL);
		done(open, w->written);
	}
	free(w);
	cp_open_done(open);
}

void proxy_connect_cancel(struct cp_open *open)
{
	cp_stream_close(open->lower, CP_CAUSE_CONNECT_TIMEOUT);
	free(open->state);
}

/** The stream takes the rest later, and is armed. */
static int wait(struct cp_open *open, cp_counter written, const uint8_t *rest, size_t length)
{
	struct writing *w = malloc(sizeof(*w) + length);
	if (!w)
		return fail(open, CP_ENOMEM);
	*w = (struct writing){.waiting = {proxy_connect_cancel}, .written = written, .length = length};
	memcpy(w->bytes, rest, length);
	open->state = w;
	cp_stream_set_user(open->lower, on_ready, open);
	return CP_AGAIN;
}

/** The header, and what the client has sent already: in one segment, if the proxy is the topmost layer. */
static ssize_t write_first(const struct cp_open *open, uint8_t *header, size_t length)
{
	struct iovec vec[1 + EARLY_MOST] = {{header, length}};
	int count = open->early_count < EARLY_MOST ? open->early_count : EARLY_MOST;
	for (int i = 0; i < count; i++)
		vec[1 + i] = open->early[i];
	return cp_stream_writev(open->lower, vec, 1 + count, 0);
}

int proxy_connect(const struct cp_converter *converter, struct cp_open *open)
{
	const struct proxy *proxy = converter->arg;
	uint8_t header[HEADER_ROOM];
	size_t length = write_header(proxy_find(proxy, open->argument), open->request, header);
	if (length == 0) {
		cp_error_set(&open->error, CP_ELIMIT, NULL, "the PROXY header would be longer than %d bytes", HEADER_ROOM);
		cp_stream_close(open->lower, CP_CAUSE_CONNECT_FAILED);
		return CP_ELIMIT;
	}
	ssize_t put = write_first(open, header, length);
	if (put >= (ssize_t)length) {
		open->early_sent = (size_t)put - length;
		return done(open, proxy->counters.written);
	}
	if (put < 0 && put != CP_AGAIN)
		return fail(open, (enum cp_err)put);
	size_t sent = put < 0 ? 0 : (size_t)put;
	return wait(open, proxy->counters.written, header + sent, length - sent);
}
