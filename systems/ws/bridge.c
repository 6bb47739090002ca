/* Bridges: a descriptor for a stream that cannot give away its own.
 *
 *     stream below ◀──▶ bridge ◀──▶ near end ══ socket pair ══ far end, given away
 *
 * Two directions, each of which is copied as far as it goes when one of its sides is ready: through memory on the
 * stack, so that a bridge that waits for bytes has none. What a side does not take at once is kept, and nothing more is
 * read in that direction until it is gone: so there is never more than one piece of it, beside the kernel's buffers.
 *
 *     FLOWING ─ end ──▶ ENDING ─ nothing is kept any more, the end was passed on ──▶ ENDED
 *        │                 ▲
 *        └──── error ──────┘  (a break: both sides are closed when what is kept is delivered)
 *
 * A break of the stream below is an end of file for whoever has the far end: sockets of a pair know no resets. Who has
 * the far end closes it all at once, so when the near side has ended the stream below has CLOSING_MS to end, too.
 *
 * While bytes are kept for a stream below that takes nothing, nobody reads the near end, and its end would not be seen.
 * So it is looked for; and when the far end is gone the stream below has to take something every STALLED_MS, or
 * BROKEN_MS if it has ended itself: then there may be nobody any more. A websocket that is broken off says so
 * (ws_bridge_break()), and nothing is waited for. */
#include "ws.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	PIECE = 32768,
	PIECES_MOST = 8, /* of one direction in a row, before others have their turn */
	LOOK_MS = 500,   /* how often it is looked whether … */
	CLOSING_MS = 5000,
	STALLED_MS = 10000,
	BROKEN_MS = 1000,
	BUCKETS = 256,
};

enum flow_state {
	FLOW_FLOWING, /* bytes are copied */
	FLOW_ENDING,  /* its source has ended or broken; what is kept is still to be delivered */
	FLOW_ENDED,   /* its sink was told */
};

/** One direction. */
struct flow {
	struct cp_stream *source, *sink;
	enum flow_state state;
	bool broken; /* the source has not ended in order */
	bool wants;  /* it could have gone on, and did not for the others' sake */
	bool moved;  /* its sink has taken something since the bridge's timer was started */
	char *kept;  /* what the sink has not taken; NULL: nothing */
	size_t start, length;
};

enum { UP, DOWN }; /* from the stream below to the near end; back */

struct bridge {
	struct flow flow[2];
	struct cp_system *owner;
	struct cp_deferred deferred; /* goes on; frees */
	struct cp_timer timer;
	int near_fd;           /* of the near end, whose it is */
	ino_t far;             /* the far end's socket, whatever number its descriptor has by now */
	struct bridge **place; /* among those of its bucket */
	struct bridge *next;
	unsigned waited; /* milliseconds that nothing went down, since the far end was seen to be gone */
	bool cut;        /* the websocket is broken off */
	bool broken;     /* a side has broken: the stream below will be reset */
	bool closed;     /* only the memory is left, until `deferred` has run */
};

/* The bridges of this thread, by their far ends: whoever has one of those has no bridge, only a descriptor. */
static _Thread_local struct bridge *buckets[BUCKETS];

static void bridge_list(struct bridge *b, int far)
{
	struct stat info;
	if (fstat(far, &info) < 0)
		return;
	b->far = info.st_ino;
	b->place = &buckets[b->far % BUCKETS];
	b->next = *b->place;
	if (b->next)
		b->next->place = &b->next;
	*b->place = b;
}

static void bridge_unlist(struct bridge *b)
{
	if (!b->place)
		return;
	*b->place = b->next;
	if (b->next)
		b->next->place = b->place;
	b->place = NULL;
}

/* ---- The end ------------------------------------------------------------------------------------------------ */

static void on_deferred(struct cp_deferred *deferred);

static void bridge_free(struct bridge *b)
{
	free(b->flow[UP].kept);
	free(b->flow[DOWN].kept);
	if (b->owner)
		cp_system_unpin(b->owner);
	free(b);
}

static void bridge_close(struct bridge *b)
{
	struct cp_stream *lower = b->flow[UP].source, *near = b->flow[UP].sink;
	bridge_unlist(b);
	cp_timer_stop(&b->timer);
	cp_stream_close(near, CP_CAUSE_DONE);
	cp_stream_close(lower, b->broken ? CP_CAUSE_TARGET_RESET : CP_CAUSE_DONE);
	b->closed = true;
	if (!b->deferred.queued)
		bridge_free(b);
}

/* ---- One direction ------------------------------------------------------------------------------------------ */

static void flow_forget(struct flow *f)
{
	free(f->kept);
	f->kept = NULL;
	f->start = f->length = 0;
}

/** The sink takes nothing any more. What it has sent may still be worth reading: its own direction goes on. */
static void flow_stop(struct flow *f)
{
	flow_forget(f);
	f->state = FLOW_ENDED;
}

/** @return how many bytes the sink took, or an error */
static ssize_t flow_write(struct flow *f, const char *bytes, size_t length)
{
	size_t put = 0;
	while (put < length) {
		struct iovec vec = {(char *)bytes + put, length - put};
		ssize_t taken = cp_stream_writev(f->sink, &vec, 1, 0);
		if (taken == CP_AGAIN)
			break;
		if (taken < 0)
			return taken;
		put += (size_t)taken;
		f->moved = true;
		if ((size_t)taken < vec.iov_len)
			break; /* armed */
	}
	return (ssize_t)put;
}

/** Deliver what is kept. @return whether nothing is left */
static bool flow_deliver(struct flow *f)
{
	if (!f->kept)
		return true;
	ssize_t put = flow_write(f, f->kept + f->start, f->length - f->start);
	if (put < 0) {
		flow_stop(f);
		return false;
	}
	f->start += (size_t)put;
	if (f->start < f->length)
		return false;
	flow_forget(f);
	return true;
}

/** Have `bytes` delivered: at once as far as it goes, the rest later. @return whether nothing is left */
static bool flow_pass(struct flow *f, const char *bytes, size_t length)
{
	ssize_t put = flow_write(f, bytes, length);
	if (put < 0) {
		flow_stop(f);
		return false;
	}
	if ((size_t)put == length)
		return true;
	f->length = length - (size_t)put;
	f->kept = malloc(f->length);
	if (!f->kept) { /* nothing may be left out: the connection ends as broken */
		f->broken = true;
		f->state = FLOW_ENDING;
		return false;
	}
	memcpy(f->kept, bytes + put, f->length);
	return false;
}

/** Copy one piece. @return whether to go on */
static bool flow_piece(struct flow *f)
{
	char piece[PIECE];
	struct iovec vec = {piece, sizeof(piece)};
	unsigned hints;
	ssize_t got = cp_stream_readv(f->source, &vec, 1, &hints);
	if (got == CP_AGAIN)
		return false;
	if (got < 0 || hints & CP_READ_END) {
		f->state = FLOW_ENDING;
		f->broken = got < 0;
	}
	bool passed = got <= 0 || flow_pass(f, piece, (size_t)got);
	return passed && f->state == FLOW_FLOWING && !(hints & CP_READ_DRAINED);
}

/** Pass the end on. Where there is no half close, the whole is closed when the other direction has ended. */
static void flow_end(struct flow *f)
{
	f->state = FLOW_ENDED;
	if (!f->broken)
		cp_stream_shutdown_write(f->sink);
}

static void flow_run(struct flow *f)
{
	f->wants = false;
	if (f->state == FLOW_ENDED || !flow_deliver(f))
		return;
	int pieces = 0;
	bool go_on = f->state == FLOW_FLOWING;
	while (go_on && pieces++ < PIECES_MOST)
		go_on = flow_piece(f);
	f->wants = go_on;
	if (f->state == FLOW_ENDING && !f->kept)
		flow_end(f);
}

/* ---- Both --------------------------------------------------------------------------------------------------- */

static bool is_over(const struct bridge *b)
{
	const struct flow *up = &b->flow[UP], *down = &b->flow[DOWN];
	bool broken = (up->broken && up->state == FLOW_ENDED) || (down->broken && down->state == FLOW_ENDED);
	return broken || (up->state == FLOW_ENDED && down->state == FLOW_ENDED);
}

static void look_later(struct bridge *b)
{
	b->flow[DOWN].moved = false;
	cp_timer_start(&b->timer, LOOK_MS);
}

/** Some direction has moved: see what is to be done about it. The bridge may be gone when this returns. */
static void bridge_look(struct bridge *b)
{
	if (is_over(b)) {
		b->broken = b->flow[UP].broken || b->flow[DOWN].broken;
		bridge_close(b);
		return;
	}
	if (b->flow[UP].wants || b->flow[DOWN].wants)
		cp_defer(b->flow[UP].source->loop, &b->deferred, on_deferred);
	if ((b->flow[DOWN].state == FLOW_ENDED || b->flow[DOWN].kept) && !cp_timer_running(&b->timer))
		look_later(b);
}

/** Whether the far end is closed. Bytes that came from it may still be there to be read. */
static bool far_is_gone(const struct bridge *b)
{
	struct pollfd near = {b->near_fd, 0, 0};
	return poll(&near, 1, 0) > 0; /* POLLHUP, POLLERR */
}

/** How long nothing may go down when the far end is gone. */
static unsigned patience(const struct bridge *b)
{
	if (b->flow[DOWN].state == FLOW_ENDED)
		return CLOSING_MS;
	return b->flow[UP].state == FLOW_FLOWING ? STALLED_MS : BROKEN_MS;
}

static void on_timer(struct cp_timer *timer)
{
	struct bridge *b = (struct bridge *)((char *)timer - offsetof(struct bridge, timer));
	const struct flow *down = &b->flow[DOWN];
	bool ended = down->state == FLOW_ENDED;
	if (!ended && !down->kept)
		return;
	if (!ended && (down->moved || !far_is_gone(b)))
		b->waited = 0;
	else
		b->waited += LOOK_MS;
	if (b->waited < patience(b)) {
		look_later(b);
		return;
	}
	b->broken = !ended; /* bytes are lost */
	bridge_close(b);
}

static void on_deferred(struct cp_deferred *deferred)
{
	struct bridge *b = (struct bridge *)((char *)deferred - offsetof(struct bridge, deferred));
	if (b->closed) {
		bridge_free(b);
		return;
	}
	if (b->cut) {
		flow_run(&b->flow[DOWN]); /* what goes without waiting */
		b->broken = true;
		bridge_close(b);
		return;
	}
	for (int i = 0; i < 2; i++)
		if (b->flow[i].wants)
			flow_run(&b->flow[i]);
	bridge_look(b);
}

/** @param reads, writes  the directions that read from the stream, and write to it */
static void on_events(struct bridge *b, struct cp_stream *stream, unsigned events, struct flow *reads,
					  struct flow *writes)
{
	if (events & CP_RECALL)
		cp_stream_restore(stream);
	if ((events & CP_READABLE) && !reads->kept)
		flow_run(reads);
	if (events & CP_WRITABLE)
		flow_run(writes);
	bridge_look(b);
}

static void on_lower_ready(struct cp_stream *stream, unsigned events, void *arg)
{
	struct bridge *b = arg;
	on_events(b, stream, events, &b->flow[UP], &b->flow[DOWN]);
}

static void on_near_ready(struct cp_stream *stream, unsigned events, void *arg)
{
	struct bridge *b = arg;
	on_events(b, stream, events, &b->flow[DOWN], &b->flow[UP]);
}

void ws_bridge_break(int far)
{
	struct stat info;
	if (fstat(far, &info) < 0)
		return;
	struct bridge *b = buckets[info.st_ino % BUCKETS];
	while (b && b->far != info.st_ino)
		b = b->next;
	if (!b)
		return;
	b->cut = true;
	cp_defer(b->flow[UP].source->loop, &b->deferred, on_deferred);
}

/* ---- The beginning ------------------------------------------------------------------------------------------ */

static int no_pair(int errnum, struct cp_error *error)
{
	char text[128] = "";
	return cp_error_set(error, cp_err_from_errno(errnum), NULL,
						"no pair of sockets for a websocket over a stream without a descriptor: %s",
						strerror_r(errnum, text, sizeof(text)));
}

/** Both directions, at first from the loop: whoever asked for the bridge is not to be called before it has it. */
static void bridge_start(struct bridge *b, struct cp_stream *lower, struct cp_stream *near, struct cp_system *owner)
{
	b->flow[UP] = (struct flow){.source = lower, .sink = near, .wants = true};
	b->flow[DOWN] = (struct flow){.source = near, .sink = lower, .wants = true};
	b->owner = owner;
	if (owner)
		cp_system_pin(owner);
	cp_timer_init(&b->timer, lower->loop, on_timer);
	cp_stream_set_user(lower, on_lower_ready, b);
	cp_stream_set_user(near, on_near_ready, b);
	cp_defer(lower->loop, &b->deferred, on_deferred);
}

int ws_bridge(struct cp_stream *lower, const void *first, size_t length, struct cp_system *owner,
			  struct cp_error *error)
{
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0) {
		no_pair(errno, error);
		return -1;
	}
	struct bridge *b = calloc(1, sizeof(*b));
	struct cp_stream *near = b ? cp_stream_from_fd(lower->loop, pair[0], CP_FD_NO_SPLICE, error) : NULL;
	char *kept = near && length ? malloc(length) : NULL;
	if (!near || (length && !kept)) {
		cp_error_set(error, CP_ENOMEM, NULL, "no memory for a websocket over a stream without a descriptor");
		if (near)
			cp_stream_close(near, CP_CAUSE_NO_RESOURCES);
		else
			close(pair[0]);
		close(pair[1]);
		free(b);
		return -1;
	}
	b->near_fd = pair[0];
	bridge_list(b, pair[1]);
	bridge_start(b, lower, near, owner);
	if (length) {
		b->flow[UP].kept = memcpy(kept, first, length);
		b->flow[UP].length = length;
	}
	return pair[1];
}
