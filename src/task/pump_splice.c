/* Bulk between two descriptors: spliced through a kernel pipe, without a copy. */
#include "pump.h"

#include "../stream/store.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum {
	SPLICE_LEAST = 16 * 1024, /* splices smaller than this cost more than copying … */
	SPLICE_SMALL = 8,         /* … but so many in a row are taken for the ends of bursts */
};

/** The sink wants to see the bytes itself: take them out of the kernel pipe. */
void pump_unsplice(struct pipe *p, struct flow *f)
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

enum step pump_flush_pipe(struct pipe *p, int i)
{
	struct flow *f = &p->flow[i];
	struct backlog *b = f->backlog;
	int fd = cp_stream_lend(pump_sink(p, i), CP_WRITABLE);
	if (fd < 0) {
		pump_unsplice(p, f);
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
		cp_stream_await(pump_sink(p, i), CP_WRITABLE);
		return pump_blocked(f);
	}
	if (put < 0 && errno == EINVAL) {
		pump_unsplice(p, f);
		return STEP_AGAIN;
	}
	return pump_sink_broke(p, i, errno == EPIPE ? CP_ERESET : cp_err_from_errno(errno));
}

/** Whether splicing is worth it and possible now; then the flow has a kernel pipe. */
bool pump_can_splice(struct pipe *p, int i, int *from)
{
	struct flow *f = &p->flow[i];
	if (f->no_splice || pump_source(p, i)->messages || pump_sink(p, i)->messages)
		return false;
	*from = cp_stream_lend(pump_source(p, i), CP_READABLE);
	if (*from < 0 || cp_stream_lend(pump_sink(p, i), CP_WRITABLE) < 0)
		return false;
	struct backlog *b = pump_backlog(f);
	if (!b->pipe)
		b->pipe = kernel_pipe_get(p->worker->loop);
	if (b->pipe)
		return true;
	pump_let_go(p, f);
	f->full_reads = 0; /* none to be had: copy for a while */
	return false;
}

/** The kernel pipe is empty here, so EAGAIN can only mean that the source is. */
enum step pump_splice(struct pipe *p, int i, int from)
{
	struct flow *f = &p->flow[i];
	struct backlog *b = f->backlog;
	ssize_t got = splice(from, NULL, b->pipe->in, NULL, b->pipe->size, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
	if (got > 0) {
		b->in_pipe = (size_t)got;
		f->bytes += (uint64_t)got;
		f->full_reads = got < SPLICE_LEAST ? f->full_reads - 1 : SPLICE_AFTER + SPLICE_SMALL;
		return pump_flush_pipe(p, i);
	}
	if (got == 0) { /* the end: read again, so that the stream knows, and tells if an error came with it */
		pump_let_go(p, f);
		f->full_reads = 0;
		return STEP_AGAIN;
	}
	if (errno == EAGAIN) {
		pump_let_go(p, f);
		cp_stream_await(pump_source(p, i), CP_READABLE);
		return STEP_WAIT;
	}
	if (errno == EINVAL)
		f->no_splice = true;
	if (errno == EINVAL || errno == EINTR) {
		pump_let_go(p, f);
		return STEP_AGAIN;
	}
	return pump_source_broke(p, i, cp_err_from_errno(errno));
}
