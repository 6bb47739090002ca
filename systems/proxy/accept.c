/* The accepting side: a header is read, its addresses replace those of the connection, and what is behind it belongs to
 * the stream.
 *
 *                     ┌─ untrusted ─▶ optional? the stream as it is : refused
 *     proxy_accept ───┤
 *                     └─ read_header ─▶ judge ─┬─ FOUND ─────▶ peer, destination, facts; the stream
 *                          ▲    (once, mostly) ├─ ABSENT ────▶ optional? the stream with all bytes : closed
 *                          │                   ├─ MALFORMED ─▶ closed
 *                          └──── on_ready ◀────┴─ MORE
 *
 * How long this may take as a whole is up to who asks (timeouts.handshake, in a pipe). */
#include "proxy.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	/* Read at first: a header, and what a segment of common size has room for behind it, so that one call is enough.
	 * What is the stream's is kept in memory until it is read. */
	FIRST_READ = 2048,
	SHOWN = 16, /* bytes in a message */
};

/** The reading of one header. */
struct reading {
	struct proxy_waiting waiting; /* first */
	const struct proxy *proxy;
	const struct proxy_options *options;
	struct cp_open *open;
	struct proxy_header header;
	uint8_t *bytes; /* on the stack of who reads, or, once some are there and have to wait, `kept` */
	size_t length, room;
	unsigned hints; /* of the last read */
	uint8_t *kept;
	struct cp_timer timer; /* of an optional header */
};

/* ---- Ends --------------------------------------------------------------------------------------------------- */

static void count(const struct reading *r, cp_counter counter)
{
	cp_count(r->open->loop, counter, 1);
}

/** Give the stream up; `open->error` says why. */
static int fail(struct reading *r, enum cp_cause cause)
{
	cp_stream_close(r->open->lower, cause);
	return r->open->error.code;
}

/** Hand the stream on. What was read of it beyond `used` goes back in front of it. */
static int pass(struct reading *r, size_t used)
{
	struct cp_open *open = r->open;
	if (used < r->length)
		open->stream = cp_stream_with_prefix(open->lower, r->bytes + used, r->length - used, r->hints, NULL);
	else
		open->stream = open->lower;
	if (open->stream)
		return CP_OK;
	cp_error_set(&open->error, CP_ENOMEM, NULL, "no memory for %zu bytes behind a PROXY header", r->length - used);
	return fail(r, CP_CAUSE_NO_RESOURCES);
}

/** Some bytes for a message: as text up to the end of a line, else as numbers. */
static void describe(const uint8_t *bytes, size_t length, char *text, size_t room)
{
	size_t printable = 0, shown = length < SHOWN ? length : SHOWN;
	while (printable < shown && bytes[printable] >= ' ' && bytes[printable] <= '~')
		printable++;
	if (printable > 0 && (printable == shown || bytes[printable] == '\r' || bytes[printable] == '\n')) {
		snprintf(text, room, "found \"%.*s\"", (int)printable, (const char *)bytes);
		return;
	}
	size_t at = (size_t)snprintf(text, room, shown ? "found the bytes" : "found nothing there");
	for (size_t i = 0; i < shown && at < room; i++)
		at += (size_t)snprintf(text + at, room - at, " %02x", bytes[i]);
}

static int malformed(struct reading *r)
{
	const struct proxy_header *header = &r->header;
	char found[80];
	size_t offset = header->offset < r->length ? header->offset : r->length;
	describe(r->bytes + offset, r->length - offset, found, sizeof(found));
	count(r, r->proxy->counters.malformed);
	cp_error_set(&r->open->error, CP_EPROTO, NULL, "malformed PROXY v%u header at byte %zu: %s, %s", header->version,
				 header->offset + 1, header->reason, found);
	return fail(r, CP_CAUSE_CLIENT_PROTOCOL);
}

static int absent(struct reading *r)
{
	char found[80];
	if (r->options->optional) {
		count(r, r->proxy->counters.absent);
		return pass(r, 0);
	}
	describe(r->bytes, r->length, found, sizeof(found));
	count(r, r->proxy->counters.malformed);
	cp_error_set(&r->open->error, CP_EPROTO, NULL, "expected a PROXY header, %s", found);
	return fail(r, CP_CAUSE_CLIENT_PROTOCOL);
}

/** No more bytes come, and the header is not whole. */
static int ended(struct reading *r)
{
	if (r->options->optional && r->header.version == 0)
		return absent(r);
	if (r->length == 0) { /* a check whether somebody listens, or a client that gave up */
		cp_error_set(&r->open->error, CP_ECANCELED, NULL, "the client left before it sent a PROXY header");
		return fail(r, CP_CAUSE_CLIENT_GONE);
	}
	count(r, r->proxy->counters.malformed);
	cp_error_set(&r->open->error, CP_EPROTO, NULL, "the PROXY header is cut short: it ends behind byte %zu", r->length);
	return fail(r, CP_CAUSE_CLIENT_PROTOCOL);
}

static int broken(struct reading *r, enum cp_err code)
{
	cp_error_set(&r->open->error, code, NULL, "%s before the PROXY header was there", cp_err_text(code));
	return fail(r, CP_CAUSE_CLIENT_RESET);
}

static int untrusted(struct reading *r, const struct cp_peer *peer)
{
	char text[CP_PEER_TEXT] = "unknown";
	if (r->options->optional)
		return pass(r, 0);
	if (peer)
		cp_peer_print(peer, text, sizeof(text));
	count(r, r->proxy->counters.untrusted);
	cp_error_set(&r->open->error, CP_EPROTO, NULL, "%s is not trusted to send PROXY headers", text);
	return fail(r, CP_CAUSE_CLIENT_PROTOCOL);
}

/* ---- Reading ------------------------------------------------------------------------------------------------ */

/** Without addresses (LOCAL, UNKNOWN) those of the connection hold; a unix socket's client has none. */
static void set_addresses(struct cp_request *request, const struct proxy_header *header)
{
	if (header->transport == PROXY_UNKNOWN)
		return;
	cp_request_set_peer(request, &header->source);
	cp_request_set_local(request, &header->destination);
}

static int found(struct reading *r)
{
	if (r->open->request) {
		proxy_facts_set(r->open->request, &r->header);
		set_addresses(r->open->request, &r->header);
	}
	count(r, r->proxy->counters.read);
	return pass(r, r->header.length);
}

/** @return CP_AGAIN: more bytes are needed; otherwise the end of the opening */
static int judge(struct reading *r)
{
	enum proxy_verdict verdict = proxy_header_read(r->bytes, r->length, r->options->length, &r->header);
	if (r->header.version && r->options->version && r->header.version != r->options->version) {
		r->header.reason = r->options->version == 1 ? "expected version 1" : "expected version 2";
		r->header.offset = 0;
		verdict = PROXY_MALFORMED;
	}
	switch (verdict) {
	case PROXY_MORE:
		return CP_AGAIN;
	case PROXY_FOUND:
		return found(r);
	case PROXY_ABSENT:
		return absent(r);
	case PROXY_MALFORMED:
		break;
	}
	return malformed(r);
}

/** Bytes move to memory of their own, as much as the header can need by what is known of it. */
static bool keep(struct reading *r, size_t room)
{
	uint8_t *kept = realloc(r->kept, room);
	if (!kept)
		return false;
	if (!r->kept)
		memcpy(kept, r->bytes, r->length);
	r->kept = r->bytes = kept;
	r->room = room;
	return true;
}

static int no_memory(struct reading *r)
{
	cp_error_set(&r->open->error, CP_ENOMEM, NULL, "no memory for a PROXY header of %zu bytes", r->header.length);
	return fail(r, CP_CAUSE_NO_RESOURCES);
}

/** @return CP_AGAIN: the stream is armed; otherwise the end of the opening */
static int read_header(struct reading *r)
{
	for (;;) {
		if (r->room == r->length && !keep(r, r->header.length))
			return no_memory(r);
		struct iovec vec = {r->bytes + r->length, r->room - r->length};
		ssize_t got = cp_stream_readv(r->open->lower, &vec, 1, &r->hints);
		if (got == CP_AGAIN)
			return CP_AGAIN;
		if (got < 0)
			return broken(r, (enum cp_err)got);
		r->length += (size_t)got;
		int result = judge(r);
		if (result != CP_AGAIN)
			return result;
		if (r->hints & CP_READ_END)
			return ended(r);
		if (r->hints & CP_READ_DRAINED)
			return CP_AGAIN;
	}
}

/* ---- Waiting ------------------------------------------------------------------------------------------------ */

static void release(struct reading *r)
{
	if (cp_timer_running(&r->timer))
		cp_timer_stop(&r->timer);
	free(r->kept);
	free(r);
}

static void finish(struct reading *r)
{
	struct cp_open *open = r->open;
	if (open->stream == open->lower)
		cp_stream_set_user(open->lower, NULL, NULL);
	release(r);
	cp_open_done(open);
}

/** Read on. Nobody waits with memory for bytes that have not come: until then a buffer on the stack does. */
static int read_on(struct reading *r)
{
	uint8_t first[FIRST_READ];
	if (!r->kept) {
		r->bytes = first;
		r->room = sizeof(first);
	}
	int result = read_header(r);
	if (result == CP_AGAIN && r->length > 0 && !r->kept && !keep(r, r->header.length))
		return no_memory(r);
	return result;
}

static void on_ready(struct cp_stream *lower, unsigned events, void *arg)
{
	struct reading *r = arg;
	if (events & CP_RECALL)
		cp_stream_restore(lower);
	if ((events & CP_READABLE) && read_on(r) != CP_AGAIN)
		finish(r);
}

/** Who has not begun a header by now sends none. */
static void on_timer(struct cp_timer *timer)
{
	struct reading *r = (struct reading *)((char *)timer - offsetof(struct reading, timer));
	if (r->header.version)
		return; /* begun: it has to be finished, within the time for all layers */
	absent(r);
	finish(r);
}

void proxy_accept_cancel(struct cp_open *open)
{
	cp_stream_close(open->lower, CP_CAUSE_HANDSHAKE_TIMEOUT);
	release(open->state);
}

/** Nothing, or not all of it, is there yet. */
static int wait(const struct reading *now)
{
	struct reading *r = malloc(sizeof(*r));
	if (!r) {
		free(now->kept);
		cp_error_set(&now->open->error, CP_ENOMEM, NULL, "no memory to wait for a PROXY header");
		cp_stream_close(now->open->lower, CP_CAUSE_NO_RESOURCES);
		return CP_ENOMEM;
	}
	*r = *now;
	r->open->state = r;
	cp_timer_init(&r->timer, r->open->loop, on_timer);
	if (r->options->optional && r->options->wait_ms)
		cp_timer_start(&r->timer, r->options->wait_ms);
	cp_stream_set_user(r->open->lower, on_ready, r);
	return CP_AGAIN;
}

int proxy_accept(const struct cp_converter *converter, struct cp_open *open)
{
	struct reading r;
	r.waiting.cancel = proxy_accept_cancel;
	r.proxy = converter->arg;
	r.options = proxy_find(r.proxy, open->argument);
	r.open = open;
	r.header.version = 0;
	r.length = 0;
	r.hints = 0;
	r.kept = NULL;
	const struct cp_peer *peer = open->request ? cp_request_peer(open->request) : NULL;
	if (!proxy_options_trust(r.options, peer))
		return untrusted(&r, peer);
	int result = read_on(&r);
	if (result == CP_AGAIN)
		return wait(&r);
	free(r.kept);
	return result;
}
