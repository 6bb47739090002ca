/** What the streams of one loop share: their memory, kernel pipes for splicing, streams whose sockets can be connected
 * again, and closed sockets that still have to deliver bytes before they are reset. Thread: the loop's. */
#ifndef STREAM_STORE_H
#define STREAM_STORE_H

#include "../base/pool.h"

#include <connpipe/stream.h>

#include <stdbool.h>
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
	SPARES_KEPT = 64,
	STORE_KEEP_MS = 5000, /* what nobody needs for so long is closed */
};

/** Streams whose sockets were disconnected in order: as good as new. */
struct spare_streams {
	struct cp_stream *first; /* linked by `arg` */
	uint32_t count, least;   /* least: since `trim` last fired */
};

struct fd_linger;

/** Streams whose last read may have hidden something: they are read once more when they are quiet (fd_stream.c). A
 * stream in the list has its index in `place`. */
struct unsure_streams {
	struct cp_stream **at;
	uint32_t count, room;
	struct cp_timer timer; /* runs while there are any */
};

struct stream_store {
	struct kernel_pipe *pipes;       /* free ones */
	uint32_t pipe_count, pipe_least; /* how many; the fewest since `trim` last fired */
	struct spare_streams spares[CP_FD_KINDS];
	uint32_t late_ends; /* so many streams are not tried to be kept after their peer has ended first */
	struct unsure_streams unsure;
	struct pool pool; /* of the streams over sockets (fd_stream.c) */
	struct cp_timer trim;
	uint64_t no_pipes_until; /* the kernel had none to give: copy until then */
	struct fd_linger *lingering;
	uint64_t linger_ms; /* timeouts.reset: how long a reset may wait for what was written before it; 0: no limit */
};

/** The loop's store, made at the first call. loop_free() ends it: what lingers is reset then. */
struct stream_store *stream_store(struct cp_loop *loop);

/** An empty kernel pipe, or NULL: none to be had (descriptors, the user's limit): copy instead. */
struct kernel_pipe *kernel_pipe_get(struct cp_loop *loop);
/** Give it back. @param left  bytes still in it: not 0, and it is closed */
void kernel_pipe_put(struct cp_loop *loop, struct kernel_pipe *pipe, size_t left);

/** Keep a disconnected stream (fd_stream.c). @return false: there are enough */
bool spare_stream_put(struct cp_stream *stream, unsigned kind);
/** @return NULL: there is none */
struct cp_stream *spare_stream_get(struct cp_loop *loop, unsigned kind);

/** Close what is kept for later: descriptors have run out. */
void stream_store_shrink(struct cp_loop *loop);

/** Reset `fd` once the kernel has sent what was written to it, at most linger_ms from now. Takes `fd`. */
void fd_linger_reset(struct cp_loop *loop, int fd);

#endif
