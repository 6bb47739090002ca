/* Forwarding: one function for both directions.
 *
 *     pump(pipe, i) = until the turn is used up:
 *         something pending?   write it                       ── does not fit: blocked until the sink is writable
 *         source has ended?    pass the end on, behind everything
 *         bulk, both ends lend descriptors?   splice through a kernel pipe
 *         else                 read into the loop's buffer, write it
 *
 * Nothing is held by a direction at rest. A direction that is blocked does not read: that is the backpressure.
 *
 * What ends a pipe: both directions ended (`done`); a source that breaks: what it sent before is delivered, then the
 * other end is reset; a sink that breaks: what it sent before is still read and delivered, then likewise. */
#include "pipe.h"

#include "../base/memory.h"
#include "../loop/loop.h"
#include "../stream/store.h"
#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	PUMP_BUDGET = 16,         /* steps of one direction in one turn: 1 MiB when copying */
	SPLICE_AFTER = 2,         /* full reads in a row after which splicing pays */
	SPLICE_LEAST = 16 * 1024, /* splices smaller than this cost more than copying … */
	SPLICE_SMALL = 8,         /* … but so many in a row are taken for the ends of bursts */
	HALF_CLOSED_MS = 100,     /* one direction has ended: most often the other one does so, too, before that */
};

enum step {
	STEP_AGAIN, /* there may be more to do at once */
	STEP_WAIT,  /* an event will say when to go on, or there is nothing more to do */
};

static enum step step_copy(struct pipe *p, int i);

static enum step blocked(struct flow *f)
{
	f->blocked = true;
	return STEP_WAIT;
}

static bool is_over(const struct pipe *p)
{
	return p->state == PIPE_CLOSED;
}

static struct cp_stream *source(const struct pipe *p, int i)
{
	return p->end[i];
}

static struct cp_stream *sink(const struct pipe *p, int i)
{
	return p->end[!i];
}

/* ---- Backlog ------------------------------------------------------------------------------------------------ */

static struct backlog *backlog(struct flow *f)
{
	if (!f->backlog)
		f->backlog = xcalloc(1, sizeof(*f->backlog));
	return f->backlog;
}

static void release(struct pipe *p, struct flow *f)
{
	struct backlog *b = f->backlog;
	if (!b)
		return;
	if (b->pipe)
		kernel_pipe_put(p->worker->loop, b->pipe, b->in_pipe);
	free(b->held);
	free(b);
	f->backlog = NULL;
}

void pump_release(struct pipe *p)
{
	release(p, &p->flow[0]);
	release(p, &p->flow[1]);
}

/** Keep what was not written of `vec`. */
static void hold(struct flow *f, const struct iovec *vec, int count, size_t written, unsigned flags)
{
	struct backlog *b = backlog(f);
	size_t length = 0;
	for (int k = 0; k < count; k++)
		length += vec[k].iov_len;
	b->offset = 0;
	b->length = 0;
	b->flags = flags;
	b->held = xmalloc(length - written ? length - written : 1);
	for (int k = 0; k < count; k++) {
		size_t skip = written < vec[k].iov_len ? written : vec[k].iov_len;
		memcpy(b->held + b->length, (char *)vec[k].iov_base + skip, vec[k].iov_len - skip);
		b->length += vec[k].iov_len - skip;
		written -= skip;
	}
}

/* ---- How long it may be quiet ------------------------------------------------------------------------------- */

/** Whether timeouts.half_close counts: one direction has ended, and timeouts.idle is not shorter. */
static bool is_half_closed(const struct pipe *p)
{
	uint64_t idle = p->worker->settings.timeouts.idle, half = p->worker->settings.timeouts.half_close;
	return (p->flow[0].state == FLOW_SHUT || p->flow[1].state == FLOW_SHUT) && half && (!idle || half <= idle);
}

static uint64_t quiet_most(const struct pipe *p)
{
	return is_half_closed(p) ? p->worker->settings.timeouts.half_close : p->worker->settings.timeouts.idle;
}

static void start_timer(struct pipe *p)
{
	uint64_t most = quiet_most(p);
	if (most)
		pipe_timer_start(p, most);
}

/* ---- What breaks -------------------------------------------------------------------------------------------- */

static enum cp_cause cause_of(int end, int error)
{
	if (error == CP_EPROTO)
		return end == 0 ? CP_CAUSE_CLIENT_PROTOCOL : CP_CAUSE_TARGET_PROTOCOL;
	if (error == CP_ENOMEM)
		return CP_CAUSE_NO_RESOURCES;
	return end == 0 ? CP_CAUSE_CLIENT_RESET : CP_CAUSE_TARGET_RESET;
}

/** Begin to close: the first cause stays. */
static void closing(struct pipe *p, enum cp_cause cause)
{
	if (p->state == PIPE_CLOSING)
		return;
	p->cause = (uint8_t)cause;
	p->active = cp_loop_now(p->worker->loop);
	pipe_enter(p, PIPE_CLOSING);
	uint64_t most = p->worker->settings.timeouts.reset;
	if (most)
		pipe_timer_start(p, most);
}

static void cut(struct pipe *p, int i)
{
	release(p, &p->flow[i]);
	p->flow[i].state = FLOW_CUT;
	p->flow[i].blocked = false;
}

/** Nothing more will come from the source of flow i, which broke: the other way is pointless, this way drains. */
static enum step source_broke(struct pipe *p, int i, int error)
{
	closing(p, cause_of(i, error));
	cut(p, !i);
	p->flow[i].state = FLOW_DRAINING;
	return STEP_AGAIN;
}

/** The sink of flow i takes nothing more. What it sent before it broke is still read: its reply may be there. */
static enum step sink_broke(struct pipe *p, int i, int error)
{
	bool other_goes_on = p->flow[!i].state == FLOW_OPEN || p->flow[!i].state == FLOW_DRAINING;
	closing(p, cause_of(!i, error));
	cut(p, i);
	if (!other_goes_on) {
		pipe_close(p, p->cause, NULL);
		return STEP_WAIT;
	}
	if (!p->flow[!i].blocked)
		worker_pending(p->worker, p, !i);
	return STEP_WAIT;
}

/** Everything of flow i is written, and its source has ended: pass that on. */
static enum step finish(struct pipe *p, int i)
{
	struct flow *f = &p->flow[i], *other = &p->flow[!i];
	release(p, f);
	if (p->state == PIPE_CLOSING || other->state == FLOW_SHUT || other->state == FLOW_HELD) {
		pipe_close(p, p->state == PIPE_CLOSING ? p->cause : CP_CAUSE_DONE, NULL);
		return STEP_WAIT;
	}
	int result = cp_stream_shutdown_write(sink(p, i));
	if (result == CP_EUNSUPPORTED) {
		uint64_t most = p->worker->settings.timeouts.half_close;
		f->state = FLOW_HELD;
		if (most)
			pipe_timer_start(p, most);
		return STEP_WAIT;
	}
	if (result != CP_OK)
		return sink_broke(p, i, result);
	f->state = FLOW_SHUT;
	p->active = cp_loop_now(p->worker->loop);
	pipe_timer_start(p, HALF_CLOSED_MS);
	return STEP_WAIT;
}

/* ---- Splicing ----------------------------------------------------------------------------------------------- */

/** The sink wants to see the bytes itself: take them out of the kernel pipe. */
static void unsplice(struct pipe *p, struct flow *f)
{
	struct backlog *b = f->backlog;
	b->held = xmalloc(b->in_pipe);
	b->offset = b->length = 0;
	while (b->in_pipe) {
		ssize_t got = read(b->pipe->out, b->held + b->length, b->in_pipe);
		if (got <= 0)
			break; /* cannot be: the bytes are there */
		b->length += (size_t)got;
		b->in_pipe -= (size_t)got;
	}
	kernel_pipe_put(p->worker->loop, b->pipe, b->in_pipe);
	b->pipe = NULL;
	b->in_pipe = 0;
	f->no_splice = true;
}

static enum step flush_pipe(struct pipe *p, int i)
{
	struct flow *f = &p->flow[i];
	struct backlog *b = f->backlog;
	int fd = cp_stream_lend(sink(p, i), CP_WRITABLE);
	if (fd < 0) {
		unsplice(p, f);
		return STEP_AGAIN;
	}
	ssize_t put = splice(b->pipe->out, NULL, fd, NULL, b->in_pipe, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
	if (put > 0) {
		b->in_pipe -= (size_t)put;
		p->active = cp_loop_now(p->worker->loop);
		return STEP_AGAIN;
	}
	if (put < 0 && errno == EINTR)
		return STEP_AGAIN;
	if (put < 0 && errno == EAGAIN) {
		cp_stream_await(sink(p, i), CP_WRITABLE);
		return blocked(f);
	}
	if (put < 0 && errno == EINVAL) {
		unsplice(p, f);
		return STEP_AGAIN;
	}
	return sink_broke(p, i, errno == EPIPE ? CP_ERESET : cp_err_from_errno(errno));
}

/** Whether splicing is worth it and possible now; then the flow has a kernel pipe. */
static bool can_splice(struct pipe *p, int i, int *from)
{
	struct flow *f = &p->flow[i];
	if (f->full_reads < SPLICE_AFTER || f->no_splice || source(p, i)->messages || sink(p, i)->messages)
		return false;
	*from = cp_stream_lend(source(p, i), CP_READABLE);
	if (*from < 0 || cp_stream_lend(sink(p, i), CP_WRITABLE) < 0)
		return false;
	struct backlog *b = backlog(f);
	if (!b->pipe)
		b->pipe = kernel_pipe_get(p->worker->loop);
	if (b->pipe)
		return true;
	release(p, f);
	f->full_reads = 0; /* none to be had: copy for a while */
	return false;
}

/** The kernel pipe is empty here, so EAGAIN can only mean that the source is. */
static enum step step_splice(struct pipe *p, int i, int from)
{
	struct flow *f = &p->flow[i];
	struct backlog *b = f->backlog;
	ssize_t got = splice(from, NULL, b->pipe->in, NULL, b->pipe->size, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
	if (got > 0) {
		b->in_pipe = (size_t)got;
		f->bytes += (uint64_t)got;
		f->full_reads = got < SPLICE_LEAST ? f->full_reads - 1 : SPLICE_AFTER + SPLICE_SMALL;
		return flush_pipe(p, i);
	}
	if (got == 0) { /* the end: read again, so that the stream knows, and tells if an error came with it */
		release(p, f);
		return step_copy(p, i);
	}
	if (errno == EAGAIN) {
		release(p, f);
		cp_stream_await(source(p, i), CP_READABLE);
		return STEP_WAIT;
	}
	if (errno == EINVAL)
		f->no_splice = true;
	if (errno == EINVAL || errno == EINTR) {
		release(p, f);
		return STEP_AGAIN;
	}
	return source_broke(p, i, cp_err_from_errno(errno));
}

/* ---- Copying ------------------------------------------------------------------------------------------------ */

static enum step flush_held(struct pipe *p, int i)
{
	struct flow *f = &p->flow[i];
	struct backlog *b = f->backlog;
	struct iovec vec = {b->held + b->offset, b->length};
	ssize_t put = cp_stream_writev(sink(p, i), &vec, 1, b->flags);
	if (put < 0 && put != CP_AGAIN)
		return sink_broke(p, i, (int)put);
	if (put > 0) {
		b->offset += (size_t)put;
		b->length -= (size_t)put;
		p->active = cp_loop_now(p->worker->loop);
	}
	if (put == CP_AGAIN || b->length)
		return blocked(f);
	release(p, f);
	return STEP_AGAIN;
}

/** Write what was just read; keep what does not fit. @return STEP_AGAIN if everything was taken */
static enum step pass_on(struct pipe *p, int i, const struct iovec *vec, int count, unsigned flags)
{
	size_t length = 0;
	for (int k = 0; k < count; k++)
		length += vec[k].iov_len;
	ssize_t put = cp_stream_writev(sink(p, i), vec, count, flags);
	if (put == (ssize_t)length)
		return STEP_AGAIN;
	if (put < 0 && put != CP_AGAIN)
		return sink_broke(p, i, (int)put);
	hold(&p->flow[i], vec, count, put < 0 ? 0 : (size_t)put, flags);
	return blocked(&p->flow[i]);
}

static enum step step_copy(struct pipe *p, int i)
{
	struct flow *f = &p->flow[i];
	struct iovec vec = {p->worker->loop->buffer, LOOP_BUFFER};
	unsigned hints;
	ssize_t got = cp_stream_readv(source(p, i), &vec, 1, &hints);
	if (got == CP_AGAIN)
		return STEP_WAIT;
	if (got < 0)
		return source_broke(p, i, (int)got);
	f->bytes += (uint64_t)got;
	if (got == LOOP_BUFFER)
		f->full_reads = (uint8_t)(f->full_reads + (f->full_reads < SPLICE_AFTER));
	else
		f->full_reads = 0;
	bool message = source(p, i)->messages;
	enum step step = STEP_AGAIN;
	if (got > 0 || (message && !(hints & CP_READ_END))) {
		vec.iov_len = (size_t)got;
		step = pass_on(p, i, &vec, 1, message ? pump_write_flags(hints) : 0);
	}
	if (is_over(p) || f->state != FLOW_OPEN)
		return STEP_WAIT;
	if (hints & CP_READ_END) {
		f->state = FLOW_DRAINING;
		return step == STEP_WAIT ? STEP_WAIT : finish(p, i);
	}
	return hints & CP_READ_DRAINED ? STEP_WAIT : step;
}

/* ---- The pump ----------------------------------------------------------------------------------------------- */

static enum step pump_step(struct pipe *p, int i)
{
	struct flow *f = &p->flow[i];
	if (f->backlog && f->backlog->in_pipe)
		return flush_pipe(p, i);
	if (f->backlog && f->backlog->held) /* an empty message also is one */
		return flush_held(p, i);
	switch ((enum flow_state)f->state) {
	case FLOW_OPEN: {
		int from;
		if (can_splice(p, i, &from))
			return step_splice(p, i, from);
		release(p, f); /* the kernel pipe of a bulk that is over */
		return step_copy(p, i);
	}
	case FLOW_DRAINING:
		return finish(p, i);
	case FLOW_SHUT:
	case FLOW_HELD:
	case FLOW_CUT:
		break;
	}
	return STEP_WAIT;
}

/** Forward in one direction until there is nothing more to do now, or the turn is used up. */
static void pump(struct pipe *p, int i)
{
	struct worker *w = p->worker;
	uint64_t before = p->flow[i].bytes;
	int steps = 0;
	while (steps < PUMP_BUDGET && pump_step(p, i) == STEP_AGAIN)
		steps++;
	uint64_t moved = p->flow[i].bytes - before;
	if (moved) {
		cp_count(w->loop, i == 0 ? w->counters->bytes_in : w->counters->bytes_out, (int64_t)moved);
		p->active = cp_loop_now(w->loop);
	}
	if (steps == PUMP_BUDGET && !is_over(p))
		worker_pending(w, p, i);
}

/** An end whose source direction is over became readable: an error behind the end of file, or nothing. */
static void look_behind_end(struct pipe *p, int i)
{
	char byte;
	struct iovec vec = {&byte, 1};
	unsigned hints;
	ssize_t got = cp_stream_readv(source(p, i), &vec, 1, &hints);
	if (got >= 0 || got == CP_AGAIN || p->flow[i].state == FLOW_CUT)
		return;
	source_broke(p, i, (int)got);
	if (!p->flow[i].blocked)
		pump(p, i);
}

static void recalled(struct pipe *p, int end)
{
	struct flow *into = &p->flow[!end];
	p->flow[end].no_splice = into->no_splice = true;
	if (into->backlog && into->backlog->in_pipe)
		unsplice(p, into);
	cp_stream_restore(p->end[end]);
}

static void on_ready(struct cp_stream *stream, unsigned events, void *arg)
{
	struct pipe *p = arg;
	int end = stream == p->end[1];
	if (events & CP_RECALL)
		recalled(p, end);
	if ((events & CP_WRITABLE) && p->flow[!end].blocked) {
		p->flow[!end].blocked = false;
		pump(p, !end);
	}
	if (!(events & CP_READABLE) || is_over(p))
		return;
	if (p->flow[end].state != FLOW_OPEN)
		look_behind_end(p, end);
	else if (!p->flow[end].blocked && !p->flow[end].pending)
		pump(p, end);
}

void pump_continue(struct pipe *p)
{
	for (int i = 0; i < 2; i++) {
		if (!p->flow[i].pending)
			continue;
		p->flow[i].pending = false;
		if (!is_over(p) && !p->flow[i].blocked)
			pump(p, i);
	}
}

void pump_start(struct pipe *p, const struct iovec *first, int count, unsigned flags, bool client_ended, bool armed)
{
	struct flow *f = &p->flow[0];
	cp_stream_set_user(p->end[0], on_ready, p);
	cp_stream_set_user(p->end[1], on_ready, p);
	p->active = cp_loop_now(p->worker->loop);
	start_timer(p);
	enum step step = count ? pass_on(p, 0, first, count, flags) : STEP_AGAIN;
	if (is_over(p) || f->state == FLOW_CUT)
		return;
	cp_stream_await(p->end[1], CP_READABLE);
	if (client_ended)
		f->state = FLOW_DRAINING;
	if (step == STEP_AGAIN && (client_ended || !armed))
		pump(p, 0);
	if (client_ended && !is_over(p))
		look_behind_end(p, 0); /* it may have broken while the way was opened */
	if (client_ended && !is_over(p) && f->blocked)
		cp_stream_await(p->end[0], CP_READABLE); /* … or break while the target does not read */
}

/* ---- Time-outs ---------------------------------------------------------------------------------------------- */

static bool is_state(const struct pipe *p, enum flow_state state)
{
	return p->flow[0].state == state || p->flow[1].state == state;
}

/** The timer is not moved at every byte: when it fires, it is set again for what is left. */
static void timer_for(struct pipe *p, uint64_t limit, enum cp_cause cause)
{
	uint64_t quiet = cp_loop_now(p->worker->loop) - p->active;
	if (limit && quiet < limit)
		pipe_timer_start(p, limit - quiet);
	else if (limit)
		pipe_close(p, cause, NULL);
}

void pump_timer(struct pipe *p)
{
	if (p->state == PIPE_CLOSING) {
		timer_for(p, p->worker->settings.timeouts.reset, p->cause);
	} else if (is_state(p, FLOW_HELD)) {
		pipe_close(p, CP_CAUSE_HALF_CLOSE_TIMEOUT, NULL);
	} else {
		if (is_state(p, FLOW_SHUT)) /* for longer than usual: from now on a reset behind that end is waited for */
			cp_stream_await(p->end[p->flow[0].state == FLOW_SHUT ? 0 : 1], CP_READABLE);
		timer_for(p, quiet_most(p), is_half_closed(p) ? CP_CAUSE_HALF_CLOSE_TIMEOUT : CP_CAUSE_IDLE_TIMEOUT);
	}
}
