#include "store.h"

#include "../base/memory.h"
#include "../loop/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LINGER_DEFAULT_MS = 5000, LINGER_FIRST_MS = 1, LINGER_STEP_MOST_MS = 64 };

/** A closed socket whose reset waits for its send queue to empty. The kernel reports that to nobody, so it is asked,
 * ever more rarely. */
struct fd_linger {
	struct cp_timer timer; /* first: the timer's address is the object's */
	struct fd_linger *next, **prev;
	uint64_t give_up; /* in cp_loop_now() */
	uint64_t step_ms;
	int fd;
};

static void on_trim(struct cp_timer *timer);
static void stream_store_free(struct cp_loop *loop);

struct stream_store *stream_store(struct cp_loop *loop)
{
	if (!loop->streams) {
		loop->streams = xcalloc(1, sizeof(*loop->streams));
		loop->streams->linger_ms = LINGER_DEFAULT_MS;
		cp_timer_init(&loop->streams->trim, loop, on_trim);
		loop->free_streams = stream_store_free;
	}
	return loop->streams;
}

static void start_trim(struct stream_store *store)
{
	if (!cp_timer_running(&store->trim))
		cp_timer_start(&store->trim, STORE_KEEP_MS);
}

/* ---- Kernel pipes ------------------------------------------------------------------------------------------- */

static void kernel_pipe_close(struct kernel_pipe *pipe)
{
	close(pipe->in);
	close(pipe->out);
	free(pipe);
}

/** Close `count` of the free ones. */
static void close_free(struct stream_store *store, uint32_t count)
{
	for (; count; count--) {
		struct kernel_pipe *pipe = store->pipes;
		store->pipes = pipe->next;
		store->pipe_count--;
		kernel_pipe_close(pipe);
	}
}

static struct kernel_pipe *kernel_pipe_make(void)
{
	int fd[2];
	if (pipe2(fd, O_NONBLOCK | O_CLOEXEC) < 0)
		return NULL;
	fcntl(fd[1], F_SETPIPE_SZ, KERNEL_PIPE_SIZE); /* best effort: the size it has is what counts */
	int size = fcntl(fd[1], F_GETPIPE_SZ);
	if (size < KERNEL_PIPE_LEAST) {
		close(fd[0]);
		close(fd[1]);
		return NULL;
	}
	struct kernel_pipe *pipe = xcalloc(1, sizeof(*pipe));
	pipe->in = fd[1];
	pipe->out = fd[0];
	pipe->size = (uint32_t)size;
	return pipe;
}

struct kernel_pipe *kernel_pipe_get(struct cp_loop *loop)
{
	struct stream_store *store = stream_store(loop);
	struct kernel_pipe *pipe = store->pipes;
	if (pipe) {
		store->pipes = pipe->next;
		store->pipe_count--;
		if (store->pipe_least > store->pipe_count)
			store->pipe_least = store->pipe_count;
		return pipe;
	}
	if (store->no_pipes_until > cp_loop_now(loop))
		return NULL;
	pipe = kernel_pipe_make();
	if (!pipe)
		store->no_pipes_until = cp_loop_now(loop) + KERNEL_PIPE_RETRY_MS;
	return pipe;
}

void kernel_pipe_put(struct cp_loop *loop, struct kernel_pipe *pipe, size_t left)
{
	struct stream_store *store = stream_store(loop);
	if (left || store->pipe_count >= KERNEL_PIPES_KEPT) {
		kernel_pipe_close(pipe);
		return;
	}
	pipe->next = store->pipes;
	store->pipes = pipe;
	store->pipe_count++;
	start_trim(store);
}

/* ---- Spare streams ------------------------------------------------------------------------------------------ */

static struct cp_stream *spare_take(struct spare_streams *spares)
{
	struct cp_stream *stream = spares->first;
	spares->first = stream->arg;
	spares->count--;
	if (spares->least > spares->count)
		spares->least = spares->count;
	return stream;
}

static void close_spares(struct spare_streams *spares, uint32_t count)
{
	for (; count; count--)
		cp_stream_close(spare_take(spares), CP_CAUSE_DONE);
}

bool spare_stream_put(struct cp_stream *stream, unsigned kind)
{
	struct stream_store *store = stream_store(stream->loop);
	struct spare_streams *spares = &store->spares[kind];
	if (spares->count >= SPARES_KEPT)
		return false;
	stream->arg = spares->first;
	spares->first = stream;
	spares->count++;
	start_trim(store);
	return true;
}

struct cp_stream *spare_stream_get(struct cp_loop *loop, unsigned kind)
{
	struct stream_store *store = loop->streams;
	return store && store->spares[kind].first ? spare_take(&store->spares[kind]) : NULL;
}

/* ---- What nobody needs -------------------------------------------------------------------------------------- */

/** Those that nobody has needed since the last time go. */
static void on_trim(struct cp_timer *timer)
{
	struct stream_store *store = timer->loop->streams;
	uint32_t left = 0;
	close_free(store, store->pipe_least);
	left += store->pipe_least = store->pipe_count;
	for (int i = 0; i < CP_FD_KINDS; i++) {
		struct spare_streams *spares = &store->spares[i];
		close_spares(spares, spares->least);
		left += spares->least = spares->count;
	}
	if (left)
		start_trim(store);
}

void stream_store_shrink(struct cp_loop *loop)
{
	struct stream_store *store = stream_store(loop);
	close_free(store, store->pipe_count);
	store->pipe_least = 0;
	for (int i = 0; i < CP_FD_KINDS; i++) {
		close_spares(&store->spares[i], store->spares[i].count);
		store->spares[i].least = 0;
	}
}

/* ---- Lingering ---------------------------------------------------------------------------------------------- */

static void reset_now(int fd)
{
	/* SO_LINGER with 0 seconds: close() sends RST and throws away what is queued (tcp(7), socket(7)). */
	struct linger linger = {.l_onoff = 1, .l_linger = 0};
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(fd);
}

/** Whether bytes that were written can still reach the peer. A socket that was reset goes on counting its own. */
static bool has_unsent(int fd)
{
	int bytes = 0;
	struct tcp_info info;
	socklen_t length = sizeof(info);
	if (ioctl(fd, SIOCOUTQ, &bytes) < 0 || bytes == 0)
		return false;
	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0 || info.tcpi_state != TCP_CLOSE;
}

static void linger_end(struct fd_linger *linger)
{
	cp_timer_stop(&linger->timer);
	*linger->prev = linger->next;
	if (linger->next)
		linger->next->prev = linger->prev;
	reset_now(linger->fd);
	free(linger);
}

static void on_linger_timer(struct cp_timer *timer)
{
	struct fd_linger *linger = (struct fd_linger *)timer;
	if (!has_unsent(linger->fd) || cp_loop_now(timer->loop) >= linger->give_up) {
		linger_end(linger);
		return;
	}
	if (linger->step_ms < LINGER_STEP_MOST_MS)
		linger->step_ms *= 2;
	cp_timer_start(timer, linger->step_ms);
}

void fd_linger_reset(struct cp_loop *loop, int fd)
{
	struct stream_store *store = stream_store(loop);
	if (!has_unsent(fd)) {
		reset_now(fd);
		return;
	}
	struct fd_linger *linger = xcalloc(1, sizeof(*linger));
	linger->fd = fd;
	linger->give_up = store->linger_ms ? cp_loop_now(loop) + store->linger_ms : UINT64_MAX;
	linger->step_ms = LINGER_FIRST_MS;
	linger->next = store->lingering;
	linger->prev = &store->lingering;
	if (linger->next)
		linger->next->prev = &linger->next;
	store->lingering = linger;
	cp_timer_init(&linger->timer, loop, on_linger_timer);
	cp_timer_start(&linger->timer, linger->step_ms);
}

/** Lingering sockets are reset now. */
static void stream_store_free(struct cp_loop *loop)
{
	struct stream_store *store = loop->streams;
	while (store->lingering)
		linger_end(store->lingering);
	stream_store_shrink(loop);
	cp_timer_stop(&store->unsure.timer);
	free(store->unsure.at);
	pool_deinit(&store->pool);
	cp_timer_stop(&store->trim);
	free(store);
	loop->streams = NULL;
}
