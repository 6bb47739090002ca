/* udp: the stream over a connected socket.
 *
 * The socket is watched as long as it has something to read: a read that got a single datagram says that there is no
 * more for now, without another call that says so; if there is, the watch tells. Now and then it is tried out whether
 * there is more at once; as long as there is, everything is read at each call. Only when the watch tells and nobody
 * wants to read is it taken back.
 *
 * What the network reports of datagrams sent before (ICMP: nobody listens there, for now) is counted and passed over:
 * a target that comes back is served again. */
#include "udp_inbox.h"
#include "udp_wire.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	REPORTS_MOST = 8, /* that one read passes over */
	CALM_READS = 16,  /* that are taken for the last one before it is tried out again */
};

struct udp_target {
	struct cp_stream stream; /* first */
	int fd;
	bool armed : 1;
	bool wants_write : 1;
	bool dead : 1; /* closed, but `call` is queued */
	bool no_segments;
	uint8_t calm;    /* reads left that are taken for the last one */
	uint8_t at_once; /* single datagrams that were there when it was tried out */
	struct cp_watch *watch;
	struct udp_worker *worker;
	struct udp_inbox inbox;      /* what is left of a read for which the reader had too little room */
	struct udp_message *message; /* that is written in pieces */
	struct cp_deferred call;     /* of `ready`, for what is in the inbox */
};

static struct udp_target *target_of(struct cp_stream *stream)
{
	return (struct udp_target *)stream;
}

/* ---- Readiness ----------------------------------------------------------------------------------------------- */

static int watch_for(struct udp_target *target, bool reading)
{
	return cp_watch_set(target->watch, (reading ? CP_READABLE : 0u) | (target->wants_write ? CP_WRITABLE : 0u));
}

static int arm(struct udp_target *target)
{
	target->armed = true;
	return watch_for(target, true);
}

static void on_socket(int fd, unsigned events, void *arg)
{
	struct udp_target *target = arg;
	unsigned ready = 0;
	(void)fd;
	if (events & CP_WRITABLE && target->wants_write) {
		target->wants_write = false;
		ready |= CP_WRITABLE;
	}
	if (events & CP_READABLE && target->armed) {
		target->armed = false;
		ready |= CP_READABLE;
	}
	bool unwanted = events & CP_READABLE && !(ready & CP_READABLE);
	if (unwanted || events & CP_WRITABLE)
		watch_for(target, target->armed || ready & CP_READABLE);
	if (ready)
		cp_stream_notify(&target->stream, ready);
}

static void target_free(struct udp_target *target)
{
	cp_stream_deinit(&target->stream);
	free(target);
}

static void on_call(struct cp_deferred *deferred)
{
	struct udp_target *target = (struct udp_target *)((char *)deferred - offsetof(struct udp_target, call));
	if (target->dead) {
		target_free(target);
	} else if (target->armed) {
		target->armed = false;
		cp_stream_notify(&target->stream, CP_READABLE);
	}
}

/* ---- Reading ------------------------------------------------------------------------------------------------- */

/** Read the socket once, past what was reported. @return bytes, or -1: nothing is there */
static ssize_t receive(struct udp_target *target, const struct iovec *vec, unsigned *segment)
{
	for (int reports = 0; reports < REPORTS_MOST; reports++) {
		ssize_t got = udp_receive_one(target->fd, vec, 1, segment);
		if (got >= 0 || errno == EAGAIN || errno == EWOULDBLOCK)
			return got;
		udp_count(target->worker, target->worker->counters.icmp, 1);
	}
	return -1;
}

static ssize_t nothing(struct udp_target *target)
{
	if (target->at_once < 2)
		target->calm = CALM_READS;
	target->at_once = 0;
	return arm(target) == CP_OK ? CP_AGAIN : CP_ENOMEM;
}

static ssize_t read_inbox(struct udp_target *target, const struct iovec *vec, int count, unsigned *hints)
{
	return (ssize_t)udp_inbox_read(&target->inbox, target->worker, vec, count, hints);
}

/** Whether a single datagram is taken for the last one that is there. */
static bool is_last(struct udp_target *target)
{
	if (target->calm) {
		target->calm--;
		return true;
	}
	if (target->at_once < UINT8_MAX)
		target->at_once++;
	return false;
}

/** Read straight into the reader's memory, which has room for everything. What is more than the reader takes at once is
 * kept. */
static ssize_t read_whole(struct udp_target *target, const struct iovec *vec, unsigned *hints)
{
	bool several = *hints & CP_READ_SEGMENTS;
	unsigned segment;
	ssize_t got = receive(target, vec, &segment);
	*hints = 0;
	if (got < 0)
		return nothing(target);
	if (!segment) {
		*hints = is_last(target) ? CP_READ_DRAINED : 0;
		return !*hints || arm(target) == CP_OK ? got : CP_ENOMEM;
	}
	if (several) {
		*hints = CP_SEGMENTS(segment);
		return got;
	}
	udp_count(
		target->worker, target->worker->counters.dropped,
		udp_inbox_put(&target->inbox, target->worker, (char *)vec->iov_base + segment, (size_t)got - segment, segment));
	return segment;
}

/** Read by way of the worker's memory: the reader has too little for some. */
static ssize_t read_part(struct udp_target *target, const struct iovec *vec, int count, unsigned *hints)
{
	struct iovec scratch = {udp_worker_scratch(target->worker), UDP_READ};
	unsigned segment;
	if (!scratch.iov_base)
		return CP_ENOMEM;
	ssize_t got = receive(target, &scratch, &segment);
	if (got < 0) {
		*hints = 0;
		return nothing(target);
	}
	udp_inbox_lend(&target->inbox, scratch.iov_base, (size_t)got, segment);
	got = read_inbox(target, vec, count, hints);
	udp_count(target->worker, target->worker->counters.dropped, udp_inbox_keep(&target->inbox, target->worker));
	return got;
}

static ssize_t target_read(struct cp_stream *stream, const struct iovec *vec, int count, unsigned *hints)
{
	struct udp_target *target = target_of(stream);
	if (!udp_inbox_empty(&target->inbox))
		return read_inbox(target, vec, count, hints);
	if (count == 1 && vec->iov_len >= UDP_READ)
		return read_whole(target, vec, hints);
	return read_part(target, vec, count, hints);
}

/* ---- Writing, and the rest ------------------------------------------------------------------------------------ */

static int await_writable(struct udp_target *target)
{
	target->wants_write = true;
	return watch_for(target, target->armed);
}

static ssize_t target_write(struct cp_stream *stream, const struct iovec *vec, int count, unsigned flags)
{
	struct udp_target *target = target_of(stream);
	struct udp_way way = {.fd = target->fd, .no_segments = &target->no_segments};
	ssize_t put = udp_write(target->worker, &way, &target->message, vec, count, flags);
	if (put == CP_AGAIN && await_writable(target) != CP_OK)
		return CP_ENOMEM;
	return put;
}

static int target_shutdown_write(struct cp_stream *stream)
{
	(void)stream;
	return CP_EUNSUPPORTED;
}

static void target_close(struct cp_stream *stream, enum cp_cause cause)
{
	struct udp_target *target = target_of(stream);
	(void)cause;
	cp_watch_free(target->watch);
	close(target->fd);
	udp_inbox_clear(&target->inbox, target->worker);
	free(target->message);
	udp_worker_unref(target->worker);
	target->dead = true;
	if (!target->call.queued)
		target_free(target);
}

static void target_await(struct cp_stream *stream, unsigned events)
{
	struct udp_target *target = target_of(stream);
	/* Out of memory here shows as a stalled direction, which the idle time-out ends: nothing better is left. */
	if (events & CP_READABLE) {
		arm(target);
		if (!udp_inbox_empty(&target->inbox))
			cp_defer(stream->loop, &target->call, on_call);
	}
	if (events & CP_WRITABLE)
		await_writable(target);
}

static const struct cp_stream_ops target_ops = {
	.size = sizeof(target_ops),
	.name = "udp",
	.read = target_read,
	.write = target_write,
	.shutdown_write = target_shutdown_write,
	.close = target_close,
	.await = target_await,
};

struct cp_stream *udp_target_new(struct cp_loop *loop, int fd, struct cp_error *error)
{
	struct udp_target *target = calloc(1, sizeof(*target));
	struct udp_worker *worker = target ? udp_worker_ref(loop) : NULL;
	if (!worker) {
		cp_error_set(error, CP_ENOMEM, NULL, "no memory for a stream over descriptor %d", fd);
		free(target);
		return NULL;
	}
	target->watch = cp_watch_new(loop, fd, 0, on_socket, target, error);
	if (!target->watch) {
		udp_worker_unref(worker);
		free(target);
		return NULL;
	}
	cp_stream_init(&target->stream, &target_ops, loop, NULL);
	target->stream.messages = target->stream.segments = true;
	target->fd = fd;
	target->calm = CALM_READS;
	target->worker = worker;
	udp_want_segments(fd);
	return &target->stream;
}
