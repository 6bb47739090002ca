/** Arena: memory that is given back all at once.
 *
 * Addresses, answers of routers and everything else whose parts live equally long are built in an arena.
 * Ownership: who calls cp_arena_new() calls cp_arena_free(). Thread: one at a time; no locks inside. */
#ifndef CONNPIPE_ARENA_H
#define CONNPIPE_ARENA_H

#include <connpipe/abi.h>

#include <stddef.h>

CP_BEGIN_DECLS

struct cp_arena;

/** @param first_block  bytes of the first block; later ones double up to 1 MiB; 0 takes a small default */
CP_API struct cp_arena *cp_arena_new(size_t first_block);
CP_API void cp_arena_free(struct cp_arena *arena);

/** Memory aligned for any type, not zeroed; never NULL: when there is none, the process says so on stderr
 * and aborts. */
CP_API void *cp_arena_alloc(struct cp_arena *arena, size_t bytes);

/** Copy of `length` bytes with a zero byte behind them. */
CP_API char *cp_arena_strndup(struct cp_arena *arena, const char *text, size_t length);
CP_API char *cp_arena_strdup(struct cp_arena *arena, const char *text);

/** A formatted string in the arena. */
CP_API char *cp_arena_printf(struct cp_arena *arena, const char *format, ...) CP_PRINTF(2, 3);

/** Bytes that the arena holds from the allocator. */
CP_API size_t cp_arena_size(const struct cp_arena *arena);

CP_END_DECLS
#endif
