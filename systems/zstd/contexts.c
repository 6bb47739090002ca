/* Contexts: what zstd needs for one frame, from some hundred KiB to many MiB. A stream has them only while it is in the
 * middle of a frame; in between they wait here for the next one, as long as they are not too many. */
#include "zstd.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum {
	POOLED_MOST = 8 << 20, /* bytes of contexts that wait, of one worker */
	POOLED_MS = 5000,      /* one that nobody has needed for so long is freed */

	/* Tables as large as a level wants them are made for windows of MiB. Behind a small window most of a table would
	 * never be found again: at level 3 and 64 KiB, 512 KiB more of them compress no better (measured: README.md). */
	SMALL_WINDOW_LOG = 18,
	TABLES_FROM_LEVEL = 2,
};

/** A context that waits. */
struct zstd_pooled {
	struct zstd_pooled *next;
	const struct zstd_options *options;
	void *context; /* ZSTD_CCtx or ZSTD_DCtx, by the list */
	size_t bytes;
	uint64_t since; /* cp_loop_now() */
};

/* ---- The pool ----------------------------------------------------------------------------------------------- */

/** Lists are short: POOLED_MOST allows for some tens. @return NULL: there is none for these options */
static void *pool_take(struct zstd_worker *worker, struct zstd_pooled **list, const struct zstd_options *options)
{
	for (; *list; list = &(*list)->next) {
		struct zstd_pooled *pooled = *list;
		if (pooled->options != options)
			continue;
		void *context = pooled->context;
		worker->pooled -= pooled->bytes;
		*list = pooled->next;
		free(pooled);
		return context;
	}
	return NULL;
}

/** @return false: the caller frees it */
static bool pool_give(struct zstd_worker *worker, struct zstd_pooled **list, const struct zstd_options *options,
					  void *context, size_t bytes)
{
	struct zstd_pooled *pooled = worker->pooled + bytes <= POOLED_MOST ? malloc(sizeof(*pooled)) : NULL;
	if (!pooled)
		return false;
	*pooled = (struct zstd_pooled){*list, options, context, bytes, cp_loop_now(worker->loop)};
	*list = pooled;
	worker->pooled += bytes;
	if (!cp_timer_running(&worker->trim))
		cp_timer_start(&worker->trim, POOLED_MS);
	return true;
}

static void free_compressor(void *context)
{
	ZSTD_freeCCtx(context);
}

static void free_decompressor(void *context)
{
	ZSTD_freeDCtx(context);
}

/** Free what has waited since `last` or longer. */
static void pool_trim(struct zstd_worker *worker, struct zstd_pooled **list, uint64_t last, void (*release)(void *))
{
	while (*list) {
		struct zstd_pooled *pooled = *list;
		if (pooled->since > last) {
			list = &pooled->next;
			continue;
		}
		*list = pooled->next;
		worker->pooled -= pooled->bytes;
		release(pooled->context);
		free(pooled);
	}
}

static void trim(struct zstd_worker *worker, uint64_t last)
{
	pool_trim(worker, &worker->compressors, last, free_compressor);
	pool_trim(worker, &worker->decompressors, last, free_decompressor);
}

static void on_trim(struct cp_timer *timer)
{
	struct zstd_worker *worker = (struct zstd_worker *)((char *)timer - offsetof(struct zstd_worker, trim));
	uint64_t now = cp_loop_now(worker->loop);
	trim(worker, now > POOLED_MS ? now - POOLED_MS : 0);
	if (worker->pooled)
		cp_timer_start(timer, POOLED_MS);
}

/* ---- Compressors -------------------------------------------------------------------------------------------- */

static bool set(ZSTD_CCtx *context, ZSTD_cParameter parameter, int value)
{
	return !ZSTD_isError(ZSTD_CCtx_setParameter(context, parameter, value));
}

static bool set_options(ZSTD_CCtx *context, const struct zstd_options *options)
{
	int window = (int)options->window_log;
	bool good = set(context, ZSTD_c_compressionLevel, options->level) && set(context, ZSTD_c_windowLog, window) &&
				set(context, ZSTD_c_checksumFlag, options->checksum);
	if (options->level >= TABLES_FROM_LEVEL && window <= SMALL_WINDOW_LOG)
		good = good && set(context, ZSTD_c_hashLog, window - 1) && set(context, ZSTD_c_chainLog, window - 2);
	return good;
}

ZSTD_CCtx *zstd_compressor_take(struct zstd_worker *worker, const struct zstd_options *options)
{
	ZSTD_CCtx *context = pool_take(worker, &worker->compressors, options);
	if (!context) {
		context = ZSTD_createCCtx();
		if (!context)
			return NULL;
		if (!set_options(context, options)) {
			ZSTD_freeCCtx(context);
			return NULL;
		}
	}
	cp_count(worker->loop, worker->shared->compressors, 1);
	return context;
}

void zstd_compressor_give(struct zstd_worker *worker, const struct zstd_options *options, ZSTD_CCtx *context)
{
	cp_count(worker->loop, worker->shared->compressors, -1);
	ZSTD_CCtx_reset(context, ZSTD_reset_session_only);
	if (!pool_give(worker, &worker->compressors, options, context, ZSTD_sizeof_CCtx(context)))
		ZSTD_freeCCtx(context);
}

/* ---- Decompressors ------------------------------------------------------------------------------------------ */

ZSTD_DCtx *zstd_decompressor_take(struct zstd_worker *worker, const struct zstd_options *options)
{
	ZSTD_DCtx *context = pool_take(worker, &worker->decompressors, options);
	if (!context) {
		context = ZSTD_createDCtx();
		if (!context)
			return NULL;
		ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, (int)options->window_limit_log);
	}
	cp_count(worker->loop, worker->shared->decompressors, 1);
	return context;
}

void zstd_decompressor_give(struct zstd_worker *worker, const struct zstd_options *options, ZSTD_DCtx *context)
{
	cp_count(worker->loop, worker->shared->decompressors, -1);
	ZSTD_DCtx_reset(context, ZSTD_reset_session_only);
	if (!pool_give(worker, &worker->decompressors, options, context, ZSTD_sizeof_DCtx(context)))
		ZSTD_freeDCtx(context);
}

/* ---- Workers ------------------------------------------------------------------------------------------------ */

static struct zstd_worker **slot_of(struct zstd_shared *shared, const struct cp_loop *loop)
{
	uint32_t index = cp_loop_index(loop);
	return &shared->workers[index < shared->worker_count ? index : shared->worker_count];
}

struct zstd_worker *zstd_worker_get(struct zstd_shared *shared, struct cp_loop *loop)
{
	struct zstd_worker **slot = slot_of(shared, loop);
	if (*slot || !(*slot = calloc(1, sizeof(**slot))))
		return *slot;
	(*slot)->shared = shared;
	(*slot)->loop = loop;
	cp_timer_init(&(*slot)->trim, loop, on_trim);
	return *slot;
}

void zstd_worker_free(struct zstd_shared *shared, struct cp_loop *loop)
{
	struct zstd_worker **slot = slot_of(shared, loop);
	if (!*slot)
		return;
	cp_timer_stop(&(*slot)->trim);
	trim(*slot, UINT64_MAX);
	free(*slot);
	*slot = NULL;
}
