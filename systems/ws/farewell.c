/* The end of a connection whose request is refused: the answer is written, then the end, and what the client still
 * sends is read and dropped until its end. A socket that is closed with bytes unread is reset, and a reset would take
 * the answer from a client that has not read it yet (RFC 9112, 9.6).
 *
 *     WRITING ─▶ DROPPING ─▶ closed
 *
 * Until then the opening is under way, so that the connection counts, and can be given up. */
#include "open.h"

#include <stddef.h>
#include <stdlib.h>

enum {
	FAREWELL_MS = 2000,
	DROP_MOST = 256 * 1024,
	DROP_PIECE = 8192,
};

enum farewell_state {
	FAREWELL_WRITING,  /* the answer */
	FAREWELL_DROPPING, /* what still comes */
};

struct farewell {
	struct ws_waiting waiting; /* first */
	struct cp_open *open;
	enum farewell_state state;
	struct cp_timer timer;
	size_t at, length;
	size_t dropped;
	char answer[WS_REFUSAL_ROOM];
};

/** @return the code of the opening's error */
static int end(struct farewell *f, enum cp_cause cause)
{
	int code = (int)f->open->error.code;
	cp_stream_close(f->open->lower, cause);
	cp_timer_stop(&f->timer);
	free(f);
	return code;
}

static int drop(struct farewell *f)
{
	char piece[DROP_PIECE];
	struct iovec vec = {piece, sizeof(piece)};
	while (f->dropped < DROP_MOST) {
		unsigned hints;
		ssize_t got = cp_stream_readv(f->open->lower, &vec, 1, &hints);
		if (got == CP_AGAIN)
			return CP_AGAIN;
		if (got < 0)
			return end(f, CP_CAUSE_CLIENT_RESET);
		f->dropped += (size_t)got;
		if (hints & CP_READ_END)
			break;
		if (hints & CP_READ_DRAINED)
			return CP_AGAIN;
	}
	return end(f, CP_CAUSE_DONE);
}

/** @return CP_AGAIN, or the code of the opening's error: it has ended */
static int step(struct farewell *f)
{
	while (f->at < f->length) {
		struct iovec vec = {f->answer + f->at, f->length - f->at};
		ssize_t put = cp_stream_writev(f->open->lower, &vec, 1, 0);
		if (put == CP_AGAIN)
			return CP_AGAIN;
		if (put < 0)
			return end(f, CP_CAUSE_CLIENT_RESET);
		f->at += (size_t)put;
		if ((size_t)put < vec.iov_len)
			return CP_AGAIN;
	}
	if (f->state == FAREWELL_WRITING && cp_stream_shutdown_write(f->open->lower) != CP_OK)
		return end(f, CP_CAUSE_DONE);
	f->state = FAREWELL_DROPPING;
	return drop(f);
}

static void on_ready(struct cp_stream *lower, unsigned events, void *arg)
{
	struct farewell *f = arg;
	struct cp_open *open = f->open;
	if (events & CP_RECALL)
		cp_stream_restore(lower);
	if ((events & (CP_READABLE | CP_WRITABLE)) && step(f) != CP_AGAIN)
		cp_open_done(open);
}

static void on_timer(struct cp_timer *timer)
{
	struct farewell *f = (struct farewell *)((char *)timer - offsetof(struct farewell, timer));
	struct cp_open *open = f->open;
	end(f, f->state == FAREWELL_DROPPING ? CP_CAUSE_DONE : CP_CAUSE_CLIENT_GONE);
	cp_open_done(open);
}

static void farewell_cancel(struct cp_open *open)
{
	end(open->state, CP_CAUSE_CLIENT_GONE);
}

int ws_refuse(struct cp_open *open, const struct ws_refusal *refusal)
{
	struct farewell *f = malloc(sizeof(*f));
	cp_error_set(&open->error, refusal->status == 503 ? CP_EMFILE : CP_EPROTO, NULL, "refused with %d: %s",
				 refusal->status, refusal->reason);
	ws_count(open->loop, WS_REFUSED);
	if (!f) {
		cp_stream_close(open->lower, CP_CAUSE_NO_RESOURCES);
		return open->error.code;
	}
	*f = (struct farewell){.waiting.cancel = farewell_cancel, .open = open};
	f->length = ws_refusal_print(refusal, f->answer, sizeof(f->answer));
	cp_timer_init(&f->timer, open->loop, on_timer);
	cp_timer_start(&f->timer, FAREWELL_MS);
	open->state = f;
	cp_stream_set_user(open->lower, on_ready, f);
	return step(f);
}
