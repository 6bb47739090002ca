/* Arena: alignment, growth, reset, memory used. */
#include "base/arena.h"
#include "base/memory.h"

#include <connpipe/arena.h>

#include <criterion/criterion.h>

#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

Test(arena, memory_is_aligned_and_apart)
{
	struct cp_arena *arena = cp_arena_new(0);
	char *blocks[200];

	for (size_t i = 0; i < 200; i++) {
		blocks[i] = cp_arena_alloc(arena, i);
		cr_assert_eq((uintptr_t)blocks[i] % _Alignof(max_align_t), 0);
		memset(blocks[i], (int)i, i);
		cp_arena_strdup(arena, "x"); /* leaves what follows unaligned */
	}
	for (size_t i = 0; i < 200; i++) {
		for (size_t k = 0; k < i; k++)
			cr_assert_eq((unsigned char)blocks[i][k], i);
	}
	cp_arena_free(arena);
}

Test(arena, strings_are_copied_and_ended)
{
	struct cp_arena *arena = cp_arena_new(1);
	char *cut = cp_arena_strndup(arena, "abcdef", 3);
	char *zero = cp_arena_strndup(arena, "a\0b", 3);

	cr_assert_str_eq(cut, "abc");
	cr_assert(memcmp(zero, "a\0b", 4) == 0);
	cr_assert_str_eq(cp_arena_strdup(arena, ""), "");
	cr_assert_str_eq(cp_arena_strndup(arena, "", 0), "");
	cp_arena_free(arena);
}

Test(arena, printf_of_any_length)
{
	struct cp_arena *arena = cp_arena_new(0);

	for (int width = 1; width < 3000; width += 17) {
		char *text = cp_arena_printf(arena, "%*d", width, 7);

		cr_assert_eq(strlen(text), (size_t)width);
		cr_assert_eq(text[width - 1], '7');
	}
	cp_arena_free(arena);
}

Test(arena, blocks_double_up_to_a_mebibyte)
{
	struct cp_arena *arena = cp_arena_new(4096);
	size_t before = cp_arena_size(arena), step = 0, last_step = 0;

	cr_assert_eq(before, 4096);
	while (cp_arena_size(arena) < 8u << 20) {
		cp_arena_alloc(arena, 64);
		if (cp_arena_size(arena) == before)
			continue;
		step = cp_arena_size(arena) - before;
		before = cp_arena_size(arena);
		cr_assert(step >= last_step && step <= 1u << 20, "a block of %zu after one of %zu", step, last_step);
		last_step = step;
	}
	cr_assert_gt(step, (1u << 20) - 64);
	cp_arena_free(arena);
}

/* A million short strings cost little more than their bytes. */
Test(arena, strings_are_packed)
{
	struct cp_arena *arena = cp_arena_new(0);
	const size_t count = 1000000, bytes = sizeof("db17.local");

	for (size_t i = 0; i < count; i++)
		cp_arena_strdup(arena, "db17.local");
	cr_assert_geq(cp_arena_size(arena), count * bytes);
	cr_assert_leq(cp_arena_size(arena), count * bytes + (2u << 20));
	cp_arena_free(arena);
}

/* What is big gets its own block; the one being filled is not given up for it. */
Test(arena, big_ones_leave_the_block_being_filled)
{
	struct cp_arena *arena = cp_arena_new(1024);
	char *small = cp_arena_strdup(arena, "a"), *big, *next;

	big = cp_arena_alloc(arena, 5u << 20);
	memset(big, 1, 5u << 20);
	next = cp_arena_strdup(arena, "b");
	cr_assert_eq(next, small + 2);
	cr_assert_lt(cp_arena_size(arena), (5u << 20) + 2048);
	cp_arena_free(arena);
}

Test(arena, reset_keeps_the_first_block_only)
{
	struct cp_arena *arena = cp_arena_new(2048);
	char *first = cp_arena_alloc(arena, 10);

	for (int i = 0; i < 1000; i++)
		cp_arena_alloc(arena, 1000);
	cp_arena_alloc(arena, 10u << 20);
	arena_reset(arena);
	cr_assert_eq(cp_arena_size(arena), 2048);
	cr_assert_eq(cp_arena_alloc(arena, 10), first);
	cr_assert_eq(cp_arena_size(arena), 2048);
	arena_reset(arena);
	arena_reset(arena);
	cp_arena_free(arena);
}

Test(arena, free_of_nothing)
{
	cp_arena_free(NULL);
}

Test(arena, impossible_size_aborts, .signal = SIGABRT)
{
	cp_arena_alloc(cp_arena_new(0), SIZE_MAX - 4);
}

Test(arena, impossible_string_aborts, .signal = SIGABRT)
{
	cp_arena_strndup(cp_arena_new(0), "", SIZE_MAX);
}

Test(memory, overflowing_product_aborts, .signal = SIGABRT)
{
	xreallocarray(NULL, SIZE_MAX / 2, 4);
}

Test(memory, nothing_is_something)
{
	void *memory = xmalloc(0);
	char *text = xstrdup("");

	cr_assert_not_null(memory);
	memory = xrealloc(memory, 0);
	cr_assert_not_null(memory);
	cr_assert_str_eq(text, "");
	free(memory);
	free(text);
	memory = xcalloc(0, 8);
	cr_assert_not_null(memory);
	free(memory);
	text = xstrndup("abc", 2);
	cr_assert_str_eq(text, "ab");
	free(text);
}
