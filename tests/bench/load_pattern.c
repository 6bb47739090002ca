/* The bytes that are sent: a table of random ones, over and over. Its length is a prime, so that lost or repeated
 * pieces of the sizes that buffers and pipes have shift the stream against the table and are noticed. */
#include "load.h"

#include <string.h>

enum { PERIOD = 65521 };

static char table[PERIOD + CHUNK];

void pattern_init(void)
{
	uint64_t state = 0x9e3779b97f4a7c15u; /* always the same: client and server are different processes */
	for (size_t i = 0; i < PERIOD; i++) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		table[i] = (char)(state >> 56);
	}
	for (size_t i = PERIOD; i < sizeof(table); i++)
		table[i] = table[i - PERIOD];
}

const char *pattern_at(uint64_t position)
{
	return table + position % PERIOD;
}

bool pattern_matches(uint64_t position, const char *bytes, size_t length)
{
	return memcmp(pattern_at(position), bytes, length) == 0;
}
