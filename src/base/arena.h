/** The arena's own side: see connpipe/arena.h. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <connpipe/arena.h>

#include <stdbool.h>

/** Forget everything in it. The first block stays for what comes next; later ones go back to the allocator. */
void arena_reset(struct cp_arena *arena);

/** Whether `memory` lies in the arena. */
bool arena_owns(const struct cp_arena *arena, const void *memory);

#endif
