/* Arena: bump allocation in chained blocks. See connpipe/arena.h.
 *
 * The arena itself lies at the start of its first block, so that a small one is a single allocation. Text is packed
 * without alignment: in an arena of a million addresses it is most of what there is. */
#include "arena.h"
#include "memory.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__)
#define ARENA_POISON 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_POISON 1
#endif
#endif

#ifdef ARENA_POISON
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#endif

enum {
	DEFAULT_BLOCK = 1024,
	LEAST_BLOCK = 256,
	/* malloc keeps 16 bytes for itself: with them a block is not a page more than a mebibyte. */
	MOST_BLOCK = 1024 * 1024 - 16,
	ALIGNMENT = _Alignof(max_align_t),
};

struct block {
	struct block *next;
	size_t bytes; /* all of it, with this head */
	_Alignas(max_align_t) char data[];
};

struct cp_arena {
	char *at, *end;      /* free room in the block that is filled now */
	struct block *later; /* every block but the first, in any order */
	struct block *first; /* the one that the arena lies in */
	size_t next_block;   /* bytes of the next one */
	size_t size;         /* bytes of all blocks */
};

/* A block with all of its data out of bounds, until arena_take() hands it out. */
static struct block *block_new(size_t bytes)
{
	struct block *block = xmalloc(bytes);

	block->next = NULL;
	block->bytes = bytes;
	ASAN_POISON_MEMORY_REGION(block->data, bytes - sizeof(*block));
	return block;
}

static void block_free(struct block *block)
{
	ASAN_UNPOISON_MEMORY_REGION(block->data, block->bytes - sizeof(*block));
	free(block);
}

static size_t next_size(size_t bytes)
{
	return bytes < MOST_BLOCK / 2 ? bytes * 2 : MOST_BLOCK;
}

struct cp_arena *cp_arena_new(size_t first_block)
{
	size_t bytes = first_block ? first_block : DEFAULT_BLOCK;
	struct cp_arena *arena;
	struct block *block;

	if (bytes < LEAST_BLOCK)
		bytes = LEAST_BLOCK;
	block = block_new(bytes);
	ASAN_UNPOISON_MEMORY_REGION(block->data, sizeof(*arena));
	arena = (struct cp_arena *)block->data;
	arena->first = block;
	arena->later = NULL;
	arena->size = bytes;
	arena->next_block = next_size(bytes);
	arena->at = (char *)(arena + 1);
	arena->end = (char *)block + bytes;
	return arena;
}

static void free_later(struct cp_arena *arena)
{
	struct block *block = arena->later, *next;

	for (; block; block = next) {
		next = block->next;
		block_free(block);
	}
}

void cp_arena_free(struct cp_arena *arena)
{
	if (!arena)
		return;
	free_later(arena);
	block_free(arena->first);
}

void arena_reset(struct cp_arena *arena)
{
	free_later(arena);
	arena->later = NULL;
	arena->size = arena->first->bytes;
	arena->next_block = next_size(arena->size);
	arena->at = (char *)(arena + 1);
	arena->end = (char *)arena->first + arena->first->bytes;
	ASAN_POISON_MEMORY_REGION(arena->at, (size_t)(arena->end - arena->at));
}

static bool block_owns(const struct block *block, const void *memory)
{
	return (uintptr_t)memory - (uintptr_t)block < block->bytes;
}

bool arena_owns(const struct cp_arena *arena, const void *memory)
{
	bool owns = block_owns(arena->first, memory);
	for (const struct block *block = arena->later; block && !owns; block = block->next)
		owns = block_owns(block, memory);
	return owns;
}

static struct block *add_block(struct cp_arena *arena, size_t bytes)
{
	struct block *block = block_new(bytes);

	block->next = arena->later;
	arena->later = block;
	arena->size += bytes;
	return block;
}

/* Room for `bytes` (aligned) that the current block does not have. What is big gets a block of its own, and the current
 * one goes on being filled. */
static char *take_from_new(struct cp_arena *arena, size_t bytes)
{
	struct block *block;

	if (bytes > SIZE_MAX / 2)
		no_memory();
	if (bytes + sizeof(*block) > arena->next_block / 4)
		return add_block(arena, bytes + sizeof(*block))->data;
	block = add_block(arena, arena->next_block);
	arena->next_block = next_size(arena->next_block);
	arena->end = (char *)block + block->bytes;
	arena->at = block->data + bytes;
	return block->data;
}

static void *arena_take(struct cp_arena *arena, size_t bytes, size_t alignment)
{
	size_t gap = -(uintptr_t)arena->at & (alignment - 1);
	size_t room = (size_t)(arena->end - arena->at);
	char *at;

	if (gap <= room && bytes <= room - gap) {
		at = arena->at + gap;
		arena->at = at + bytes;
	} else {
		at = take_from_new(arena, bytes);
	}
	ASAN_UNPOISON_MEMORY_REGION(at, bytes);
	return at;
}

void *cp_arena_alloc(struct cp_arena *arena, size_t bytes)
{
	return arena_take(arena, bytes, ALIGNMENT);
}

char *cp_arena_strndup(struct cp_arena *arena, const char *text, size_t length)
{
	char *copy;

	if (length == SIZE_MAX)
		no_memory();
	copy = arena_take(arena, length + 1, 1);
	memcpy(copy, text, length);
	copy[length] = '\0';
	return copy;
}

char *cp_arena_strdup(struct cp_arena *arena, const char *text)
{
	return cp_arena_strndup(arena, text, strlen(text));
}

char *cp_arena_printf(struct cp_arena *arena, const char *format, ...)
{
	char buffer[256], *text;
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(buffer, sizeof(buffer), format, arguments);
	va_end(arguments);
	if (length < 0)
		return cp_arena_strdup(arena, ""); /* a format that cannot be printed: nothing is what it says */
	if ((size_t)length < sizeof(buffer))
		return cp_arena_strndup(arena, buffer, (size_t)length);
	text = arena_take(arena, (size_t)length + 1, 1);
	va_start(arguments, format);
	vsnprintf(text, (size_t)length + 1, format, arguments);
	va_end(arguments);
	return text;
}

size_t cp_arena_size(const struct cp_arena *arena)
{
	return arena->size;
}
