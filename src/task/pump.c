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
 * other end is reset; a sink that breaks: what it sent before is still read and delivered, then likewise.
 *
 * Ends of kinds that do not know one direction without the other:
 *
 *     the sink has no half close      the end is held until the other direction ends: FLOW_HELD
 *     the source has ended both ways  what it sent is delivered, then its end; what the other end still sends is thrown
 *     (CP_READ_OVER)                  away, until that one has ended, too: FLOW_DISCARDING
 *
 * Both last timeouts.half_close at most. */
#include "pump.h"

#include "../stream/store.h"

#include <stdlib.h>
#include <string.h>

enum {
	PUMP_BUDGET = 16,     /* steps of one direction in one turn: 1 MiB when copying */
	HALF_CLOSED_MS = 100, /* one direction has ended: most often the other one does so, too, before that */
};

static bool is_state(const struct pipe *p, enum flow_state state)
{
	return p->flow[0].state == state || p->flow[1].state == state;
}

static bool is_over(const struct pipe *p)
{
	return p->state == PIPE_CLOSED;
}

/* ---- Backlog ------------------------------------------------------------------------------------------------ */

void pump_drop(struct pipe *p, struct flow *f)
{
	struct backlog *b = f->backlog;
	if (b->pipe)
		kernel_pipe_put(p->worker->loop, b->pipe, b->in_pipe);
	free(b->held);
	free(b);
	f->backlog = NULL;
}

void pump_release(struct pipe *p)
{
	pump_let_go(p, &p->flow[0]);
	pump_let_go(p, &p->flow[1]);
}

/** Keep what was not written of `vec`. */
static void hold(struct flow *f, const struct iovec *vec, int count, size_t written, unsigned flags)
{
	struct backlog *b = pump_backlog(f);
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

static uint64_t idle_most(const struct pipe *p)
{
	return p->is_session ? p->worker->settings.timeouts.udp_idle : p->worker->settings.timeouts.idle;
}

/** Whether timeouts.half_close counts: one direction has ended, and the time for idle ones is not shorter. */
static bool is_half_closed(const struct pipe *p)
{
	uint64_t idle = idle_most(p), half = p->worker->settings.timeouts.half_close;
	bool ended = is_state(p, FLOW_SHUT) || is_state(p, FLOW_DISCARDING);
	return ended && half && (!idle || half <= idle);
}

static uint64_t quiet_most(const struct pipe *p)
{
	return is_half_closed(p) ? p->worker->settings.timeouts.half_close : idle_most(p);
}

static void start_timer(struct pipe *p)
{
	uint64_t most = quiet_most(p);
	if (most)
		pipe_timer_start(p, most);
}

/** From now on there is an end that one side does not know of: timeouts.half_close is the time for that in all. */
static void start_last_timer(struct pipe *p)
{
	uint64_t most = p->worker->settings.timeouts.half_close;
	if (most)
		pipe_timer_start(p, most);
	else
		start_timer(p);
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
	pump_let_go(p, &p->flow[i]);
	p->flow[i].state = FLOW_CUT;
	p->flow[i].blocked = false;
}

/** Nothing more will come from the source of flow i, which broke: the other way is pointless, this way drains. */
enum step pump_source_broke(struct pipe *p, int i, int error)
{
	closing(p, cause_of(i, error));
	cut(p, !i);
	p->flow[i].state = FLOW_DRAINING;
	return STEP_AGAIN;
}

/** The sink of flow i takes nothing more. What it sent before it broke is still read: its reply may be there. */
enum step pump_sink_broke(struct pipe *p, int i, int error)
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

/* ---- Ends --------------------------------------------------------------------------------------------------- */

/** Both directions have ended. */
static enum step done(struct pipe *p)
{
	pipe_close(p, CP_CAUSE_DONE, NULL);
	return STEP_WAIT;
}

/** The end of flow i is passed on. */
static void shut(struct pipe *p, int i)
{
	p->flow[i].state = FLOW_SHUT;
	p->active = cp_loop_now(p->worker->loop);
	if (p->flow[!i].state == FLOW_DISCARDING)
		start_last_timer(p);
	else
		pipe_timer_start(p, HALF_CLOSED_MS);
}

/** The end of flow i cannot be passed on alone. */
static enum step hold_end(struct pipe *p, int i)
{
	if (p->flow[!i].state == FLOW_DISCARDING)
		return done(p);
	p->flow[i].state = FLOW_HELD;
	start_last_timer(p);
	cp_stream_await(pump_source(p, i), CP_READABLE); /* it may break meanwhile, or end the other direction, too */
	return STEP_WAIT;
}

/** Everything of flow i is written, and its source has ended: pass that on. */
static enum step finish(struct pipe *p, int i)
{
	enum flow_state other = p->flow[!i].state;
	pump_let_go(p, &p->flow[i]);
	if (p->state == PIPE_CLOSING) {
		pipe_close(p, p->cause, NULL);
		return STEP_WAIT;
	}
	if (!cp_stream_pass_ending(pump_source(p, i), pump_sink(p, i)))
		return pump_source_broke(p, i, CP_ERESET);
	if (other == FLOW_SHUT || other == FLOW_HELD)
		return done(p);
	int result = cp_stream_shutdown_write(pump_sink(p, i));
	if (result == CP_EUNSUPPORTED)
		return hold_end(p, i);
	if (result != CP_OK)
		return pump_sink_broke(p, i, result);
	shut(p, i);
	return STEP_WAIT;
}

/** The source of flow i has ended both ways: what goes there arrives nowhere, and has ended if its source has. */
static void no_way_back(struct pipe *p, int i)
{
	struct flow *back = &p->flow[!i];
	if (back->state != FLOW_OPEN && back->state != FLOW_DRAINING)
		return;
	pump_let_go(p, back);
	back->state = back->state == FLOW_OPEN ? FLOW_DISCARDING : FLOW_SHUT;
	start_timer(p); /* what is still to be delivered may be for somebody who does not read */
	if (!back->blocked)
		return;
	back->blocked = false; /* its source was not read while it was */
	worker_pending(p->worker, p, !i);
}

/** The source of flow i, whose end was seen before, has ended the other way, too. */
static void ended_both_ways(struct pipe *p, int i)
{
	enum flow_state back = p->flow[!i].state;
	if (p->state == PIPE_CLOSING)
		return; /* what is left is delivered, as far as anybody takes it */
	no_way_back(p, i);
	if (back == p->flow[!i].state)
		return;
	if (!cp_stream_pass_ending(pump_source(p, i), pump_sink(p, i))) {
		pump_source_broke(p, i, CP_ERESET);
		worker_pending(p->worker, p, i);
		return;
	}
	if (p->flow[i].state == FLOW_HELD || (p->flow[i].state == FLOW_SHUT && p->flow[!i].state == FLOW_SHUT))
		done(p);
	else if (p->flow[i].state == FLOW_SHUT)
		start_last_timer(p);
}

/** Read what nobody gets, for its end. */
static enum step step_discard(struct pipe *p, int i)
{
	struct iovec vec = {p->worker->loop->buffer, LOOP_BUFFER};
	unsigned hints;
	ssize_t got = cp_stream_readv(pump_source(p, i), &vec, 1, &hints);
	if (got == CP_AGAIN)
		return STEP_WAIT;
	if (got < 0)
		return pump_source_broke(p, i, (int)got);
	if (!(hints & CP_READ_END))
		return hints & CP_READ_DRAINED ? STEP_WAIT : STEP_AGAIN;
	shut(p, i);
	if (hints & CP_READ_OVER)
		no_way_back(p, i);
	return p->flow[!i].state == FLOW_SHUT ? done(p) : STEP_WAIT;
}

/* ---- Copying ------------------------------------------------------------------------------------------------ */

static enum step flush_held(struct pipe *p, int i)
{
	struct flow *f = &p->flow[i];
	struct backlog *b = f->backlog;
	struct iovec vec = {b->held + b->offset, b->length};
	ssize_t put = cp_stream_writev(pump_sink(p, i), &vec, 1, b->flags);
	if (put < 0 && put != CP_AGAIN)
		return pump_sink_broke(p, i, (int)put);
	if (put > 0) {
		b->offset += (size_t)put;
		b->length -= (size_t)put;
		p->active = cp_loop_now(p->worker->loop);
	}
	if (put == CP_AGAIN || b->length)
		return pump_blocked(f);
	pump_let_go(p, f);
	return STEP_AGAIN;
}

/** Write what was just read; keep what does not fit. @return STEP_AGAIN if everything was taken */
static enum step pass_on(struct pipe *p, int i, const struct iovec *vec, int count, unsigned flags)
{
	size_t length = 0;
	for (int k = 0; k < count; k++)
		length += vec[k].iov_len;
	ssize_t put = cp_stream_writev(pump_sink(p, i), vec, count, flags);
	if (put == (ssize_t)length)
		return STEP_AGAIN;
	if (put < 0 && put != CP_AGAIN)
		return pump_sink_broke(p, i, (int)put);
	hold(&p->flow[i], vec, count, put < 0 ? 0 : (size_t)put, flags);
	return pump_blocked(&p->flow[i]);
}

/** Read into `vec`: several messages at once, if both ends can. @param messages  both carry them */
static ssize_t read_from(struct pipe *p, int i, struct iovec *vec, bool messages, unsigned *hints)
{
	struct cp_stream *from = pump_source(p, i);
	*hints = messages && from->segments && pump_sink(p, i)->segments ? CP_READ_SEGMENTS : 0;
	return from->ops->read(from, vec, 1, hints);
}

/** Of a message. Bytes have no flags: CP_WRITE_MORE would hold back a piece of a message that goes on much later. */
static unsigned flags_of(bool messages, unsigned hints)
{
	return messages ? pump_write_flags(hints) | CP_SEGMENTS(CP_SEGMENTS_SIZE(hints)) : 0;
}

/** @param step  what became of the bytes in front of the end */
static enum step source_ended(struct pipe *p, int i, unsigned hints, enum step step)
{
	p->flow[i].state = FLOW_DRAINING;
	if (hints & CP_READ_OVER)
		no_way_back(p, i);
	return step == STEP_WAIT ? STEP_WAIT : finish(p, i);
}

static enum step step_copy(struct pipe *p, int i)
{
	struct flow *f = &p->flow[i];
	struct iovec vec = {p->worker->loop->buffer, LOOP_BUFFER};
	bool messages = pump_source(p, i)->messages && pump_sink(p, i)->messages;
	unsigned hints;
	ssize_t got = read_from(p, i, &vec, messages, &hints);
	if (got == CP_AGAIN)
		return STEP_WAIT;
	if (got < 0)
		return pump_source_broke(p, i, (int)got);
	f->bytes += (uint64_t)got;
	if (got == LOOP_BUFFER)
		f->full_reads = (uint8_t)(f->full_reads + (f->full_reads < SPLICE_AFTER));
	else
		f->full_reads = 0;
	enum step step = STEP_AGAIN;
	if (got > 0 || (messages && !(hints & CP_READ_END))) {
		vec.iov_len = (size_t)got;
		step = pass_on(p, i, &vec, 1, flags_of(messages, hints));
		if (got == 0)
			p->active = cp_loop_now(p->worker->loop); /* for bytes the pump does that */
	}
	if (is_over(p) || f->state != FLOW_OPEN)
		return STEP_WAIT;
	if (hints & CP_READ_END)
		return source_ended(p, i, hints, step);
	return hints & CP_READ_DRAINED ? STEP_WAIT : step;
}

/* ---- The pump ----------------------------------------------------------------------------------------------- */

static enum step pump_step(struct pipe *p, int i)
{
	struct flow *f = &p->flow[i];
	if (f->backlog && f->backlog->in_pipe)
		return pump_flush_pipe(p, i);
	if (f->backlog && f->backlog->held) /* an empty message also is one */
		return flush_held(p, i);
	switch ((enum flow_state)f->state) {
	case FLOW_OPEN: {
		int from;
		if (f->full_reads >= SPLICE_AFTER && pump_can_splice(p, i, &from))
			return pump_splice(p, i, from);
		pump_let_go(p, f); /* the kernel pipe of a bulk that is over */
		return step_copy(p, i);
	}
	case FLOW_DRAINING:
		return finish(p, i);
	case FLOW_DISCARDING:
		return step_discard(p, i);
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
	ssize_t got = cp_stream_readv(pump_source(p, i), &vec, 1, &hints);
	if (got >= 0 && hints & CP_READ_OVER)
		ended_both_ways(p, i);
	if (got >= 0 || got == CP_AGAIN || p->flow[i].state == FLOW_CUT || p->flow[!i].state == FLOW_DISCARDING)
		return;
	pump_source_broke(p, i, (int)got);
	if (!p->flow[i].blocked)
		pump(p, i);
}

static void recalled(struct pipe *p, int end)
{
	struct flow *into = &p->flow[!end];
	p->flow[end].no_splice = into->no_splice = true;
	if (into->backlog && into->backlog->in_pipe)
		pump_unsplice(p, into);
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
	if (p->flow[end].state != FLOW_OPEN && p->flow[end].state != FLOW_DISCARDING)
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

void pump_start(struct pipe *p, const struct iovec *first, int count, unsigned flags, unsigned end, bool armed)
{
	bool client_ended = end & CP_READ_END;
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
	if (end & CP_READ_OVER)
		no_way_back(p, 0);
	if (step == STEP_AGAIN && (client_ended || !armed))
		pump(p, 0);
	if (client_ended && !is_over(p))
		look_behind_end(p, 0); /* it may have broken while the way was opened */
	if (client_ended && !is_over(p) && f->blocked)
		cp_stream_await(p->end[0], CP_READABLE); /* … or break while the target does not read */
}

/* ---- Time-outs ---------------------------------------------------------------------------------------------- */

/** The timer is not moved at every byte: when it fires, it is set again for what is left. */
static void timer_for(struct pipe *p, uint64_t limit, enum cp_cause cause)
{
	uint64_t quiet = cp_loop_now(p->worker->loop) - p->active;
	if (limit && quiet < limit)
		pipe_timer_start(p, limit - quiet);
	else if (limit)
		pipe_close(p, cause, NULL);
}

/** Whether timeouts.half_close is the time in all, which begins with the end. */
static bool is_last_timer(const struct pipe *p)
{
	return p->worker->settings.timeouts.half_close &&
		   (is_state(p, FLOW_HELD) || (is_state(p, FLOW_DISCARDING) && is_state(p, FLOW_SHUT)));
}

/** An end was held as long as it may be: it is passed on in the only way there is, and closes both directions. What was
 * still to come the other way is missing, and must not look complete. */
static void held_too_long(struct pipe *p)
{
	int i = p->flow[1].state == FLOW_HELD;
	cp_stream_close(pump_sink(p, i), CP_CAUSE_DONE);
	p->end[!i] = NULL;
	pipe_close(p, CP_CAUSE_HALF_CLOSE_TIMEOUT, NULL);
}

void pump_timer(struct pipe *p)
{
	if (p->state == PIPE_CLOSING) {
		timer_for(p, p->worker->settings.timeouts.reset, p->cause);
	} else if (is_last_timer(p)) {
		if (is_state(p, FLOW_HELD))
			held_too_long(p);
		else
			done(p);
	} else {
		if (is_state(p, FLOW_SHUT)) /* for longer than usual: from now on a reset behind that end is waited for */
			cp_stream_await(p->end[p->flow[0].state == FLOW_SHUT ? 0 : 1], CP_READABLE);
		timer_for(p, quiet_most(p), is_half_closed(p) ? CP_CAUSE_HALF_CLOSE_TIMEOUT : CP_CAUSE_IDLE_TIMEOUT);
	}
}
