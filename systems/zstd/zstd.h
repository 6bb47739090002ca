/** The parts of the zstd system.
 *
 *     zstd.c      the system: the converter, its arguments, profiles (the type "zstd")
 *     contexts.c  what compressing and decompressing need, shared by the streams of one worker
 *     stream.c    a byte stream over a byte stream
 *
 * Sources: RFC 8878 (the format); zstd.h of libzstd 1.4.8 and later, whose stable part is all that is used. */
#ifndef SYSTEMS_ZSTD_H
#define SYSTEMS_ZSTD_H

#include <connpipe/converter.h>
#include <connpipe/counter.h>
#include <connpipe/stream.h>

#include <stdbool.h>
#include <stdint.h>
#include <zstd.h>

enum {
	ZSTD_LEVEL_LEAST = -7,
	ZSTD_LEVEL_MOST = 19, /* what is above takes hundreds of MiB and a second for some 100 KiB */
	ZSTD_LEVEL_COUNT = ZSTD_LEVEL_MOST - ZSTD_LEVEL_LEAST + 1,
};

/** How to compress, and what is decompressed. */
struct zstd_options {
	int level;
	uint32_t window_log;       /* compressing: how far back it looks */
	uint32_t window_limit_log; /* decompressing: how far back a peer may look */
	bool checksum;
	uint64_t idle_ms; /* contexts are given back when nothing was written for so long; 0: never */
};

struct zstd_profile {
	struct zstd_profile *next;
	const char *id;
	struct zstd_options options;
};

struct zstd_worker;

/** What cp_system_data() of the built-in system is, once in a generation. */
struct zstd_shared {
	struct cp_arena *arena;                       /* this and all that follows */
	struct zstd_options levels[ZSTD_LEVEL_COUNT]; /* `zstd(3)`: the defaults with this level */
	struct zstd_profile *profiles;                /* complete from link on */
	struct zstd_worker **workers;                 /* by the loop's number; the last one is the main loop's */
	uint32_t worker_count;
	cp_counter compressors, decompressors, written, written_compressed, read, read_compressed, malformed;
};

/* ---- contexts.c --------------------------------------------------------------------------------------------- */

/** What the streams of one worker share. Contexts are tagged with the options that they were made for. */
struct zstd_worker {
	struct zstd_shared *shared;
	struct cp_loop *loop;
	struct zstd_pooled *compressors, *decompressors; /* not in use now */
	size_t pooled;                                   /* how many bytes they take */
	struct cp_timer trim;                            /* frees those that nobody needs; runs while there are some */
};

/** The calling thread's, made at first use. @return NULL when out of memory */
struct zstd_worker *zstd_worker_get(struct zstd_shared *shared, struct cp_loop *loop);
/** Free what it has. On the loop's thread, when it has no stream any more. */
void zstd_worker_free(struct zstd_shared *shared, struct cp_loop *loop);

/** At the beginning of a frame. @return NULL when out of memory */
ZSTD_CCtx *zstd_compressor_take(struct zstd_worker *worker, const struct zstd_options *options);
/** Give one back, wherever it is in its frame. */
void zstd_compressor_give(struct zstd_worker *worker, const struct zstd_options *options, ZSTD_CCtx *context);
ZSTD_DCtx *zstd_decompressor_take(struct zstd_worker *worker, const struct zstd_options *options);
void zstd_decompressor_give(struct zstd_worker *worker, const struct zstd_options *options, ZSTD_DCtx *context);

/* ---- stream.c ----------------------------------------------------------------------------------------------- */

/** A compressing stream over `lower`, a byte stream, whose user it becomes.
 * @param options  live as long as `worker`
 * @param owner    whose code this is (pinned); may be NULL
 * @return NULL when out of memory: `lower` is still the caller's */
struct cp_stream *zstd_stream_new(struct zstd_worker *worker, const struct zstd_options *options,
								  struct cp_stream *lower, struct cp_system *owner);

#endif
