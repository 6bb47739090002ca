/* Pool: objects are apart and zeroed, memory is used again and given back. */
#include "base/pool.h"

#include <criterion/criterion.h>

#include <string.h>

enum { MANY = 3000 };

static void *objects[MANY];

Test(pool, objects_are_apart_and_zeroed)
{
	static const char zero[192];
	struct pool pool = {.bytes = sizeof(zero)};

	for (int i = 0; i < MANY; i++) {
		objects[i] = pool_take(&pool);
		cr_assert(memcmp(objects[i], zero, sizeof(zero)) == 0);
		memset(objects[i], 1 + i % 255, sizeof(zero));
	}
	for (int i = 0; i < MANY; i++) {
		for (size_t k = 0; k < sizeof(zero); k++)
			cr_assert_eq(((unsigned char *)objects[i])[k], 1 + i % 255);
		pool_give(&pool, objects[i]);
	}
	pool_deinit(&pool);
	cr_assert_eq(pool.chunks, 0);
}

Test(pool, what_is_given_back_is_used_again)
{
	struct pool pool = {.bytes = 64};

	for (int i = 0; i < MANY; i++)
		objects[i] = pool_take(&pool);
	uint32_t most = pool.chunks;
	for (int round = 0; round < 5; round++) {
		for (int i = round; i < MANY; i += 3)
			pool_give(&pool, objects[i]);
		for (int i = round; i < MANY; i += 3)
			objects[i] = pool_take(&pool);
	}
	cr_assert_eq(pool.chunks, most);
	for (int i = 0; i < MANY; i++)
		pool_give(&pool, objects[i]);
	cr_assert(pool.chunks <= 1, "one empty chunk is kept, not %u", (unsigned)pool.chunks);
	pool_deinit(&pool);
	cr_assert_eq(pool.chunks, 0);
}

Test(pool, ending_it_leaves_what_is_in_use)
{
	struct pool pool = {.bytes = 16};
	char *object = pool_take(&pool);

	pool_deinit(&pool);
	memcpy(object, "still here", 11);
	cr_assert_str_eq(object, "still here");
	pool_give(&pool, object);
	pool_deinit(&pool);
	cr_assert_eq(pool.chunks, 0);
}
