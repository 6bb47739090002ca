/** Memory that is there or ends the process.
 *
 * A proxy that has no memory for a few bytes of its own cannot go on in any useful way, so nobody tests small
 * allocations: these never return NULL. What grows with its peers (connections, buffers) is bounded by limits instead.
 * Thread: any. Freed with free(). */
#ifndef BASE_MEMORY_H
#define BASE_MEMORY_H

#include <stddef.h>

/** Say on stderr that there is no memory, and abort. Allocates nothing. */
_Noreturn void no_memory(void);

void *xmalloc(size_t bytes);
/** Zeroed; the product is checked. */
void *xcalloc(size_t count, size_t bytes);
/** For arrays too: `count * bytes` is checked. */
void *xreallocarray(void *memory, size_t count, size_t bytes);
void *xrealloc(void *memory, size_t bytes);
char *xstrdup(const char *text);
/** Copy of `length` bytes with a zero byte behind them. */
char *xstrndup(const char *text, size_t length);

#endif
