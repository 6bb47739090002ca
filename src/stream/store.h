/** What the streams of one loop share: kernel pipes for splicing, and closed sockets that still have to deliver bytes
 * before they are reset. Thread: the loop's. */
#ifndef STREAM_STORE_H
#define STREAM_STORE_H

#include <connpipe/loop.h>

#include <stddef.h>
#include <stdint.h>

/** A kernel pipe. Empty whenever it is in the store: one that is not is closed, never shared. */
struct kernel_pipe {
	int in, out; /* write to `in`, read from `out` */
	uint32_t size;
	struct kernel_pipe *next;
};

enum {
	/* Bulk: fewer system calls than 64 KiB, and half of what a user without privilege may have in 256 pipes. */
	KERNEL_PIPE_SIZE = 256 * 1024,
	/* Beyond a user's limit (fs.pipe-user-pages-soft) the kernel makes pipes of one or two pages without an error;
	 * those cost more than copying. */
	KERNEL_PIPE_LEAST = 64 * 1024,
	KERNEL_PIPES_KEPT = 32,
	KERNEL_PIPE_RETRY_MS = 1000,
	KERNEL_PIPE_KEEP_MS = 5000, /* one that nobody needs for so long is closed */
};

struct fd_linger;

struct stream_store {
	struct kernel_pipe *pipes;       /* free ones */
	uint32_t pipe_count, pipe_least; /* how many; the fewest since `trim` last fired */
	struct cp_timer trim;
	uint64_t no_pipes_until; /* the kernel had none to give: copy until then */
	struct fd_linger *lingering;
	uint64_t linger_ms; /* timeouts.reset: how long a reset may wait for what was written before it; 0: no limit */
};

/** The loop's store, made at the first call. */
struct stream_store *stream_store(struct cp_loop *loop);

/** An empty kernel pipe, or NULL: none to be had (descriptors, the user's limit): copy instead. */
struct kernel_pipe *kernel_pipe_get(struct cp_loop *loop);
/** Give it back. @param left  bytes still in it: not 0, and it is closed */
void kernel_pipe_put(struct cp_loop *loop, struct kernel_pipe *pipe, size_t left);

/** Reset `fd` once the kernel has sent what was written to it, at most linger_ms from now. Takes `fd`. */
void fd_linger_reset(struct cp_loop *loop, int fd);

/** Close everything: lingering sockets are reset now. Before loop_free(). */
void stream_store_free(struct cp_loop *loop);

#endif
