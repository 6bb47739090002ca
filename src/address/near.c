/* Near names: edit distance with swaps of neighbours ("optimal string alignment"). */
#include "near.h"

#include <connpipe/settings.h>

#include <stdbool.h>
#include <string.h>

enum { NEAR_LENGTH = 64 }; /* longer words are not compared: nobody mistypes those by a letter or two */

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool same(char a, char b)
{
	return lower(a) == lower(b);
}

/* Three rows of the usual table are enough: swaps look two rows back. */
static size_t distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
	size_t rows[3][NEAR_LENGTH + 1];
	size_t *before = rows[0], *above = rows[1], *row = rows[2], *swap;

	for (size_t j = 0; j <= b_length; j++)
		above[j] = j;
	for (size_t i = 1; i <= a_length; i++) {
		row[0] = i;
		for (size_t j = 1; j <= b_length; j++) {
			row[j] = least(least(above[j], row[j - 1]) + 1, above[j - 1] + !same(a[i - 1], b[j - 1]));
			if (i > 1 && j > 1 && same(a[i - 1], b[j - 2]) && same(a[i - 2], b[j - 1]))
				row[j] = least(row[j], before[j - 2] + 1);
		}
		swap = before;
		before = above;
		above = row;
		row = swap;
	}
	return above[b_length];
}

/* How many errors still count as near: in a word of two letters one, in a long one three. */
static size_t tolerance(size_t length)
{
	if (length < 2)
		return 0;
	return length <= 4 ? 1 : length <= 8 ? 2 : 3;
}

const char *near_name(const char *word, size_t length, const char *const *names, size_t count)
{
	size_t best = tolerance(length) + 1;
	const char *nearest = NULL;

	if (length > NEAR_LENGTH)
		return NULL;
	for (size_t i = 0; i < count; i++) {
		size_t name_length = names[i] ? strlen(names[i]) : 0, far;

		if (!names[i] || name_length > NEAR_LENGTH)
			continue;
		far = distance(word, length, names[i], name_length);
		if (far < best) {
			best = far;
			nearest = names[i];
		}
	}
	return nearest;
}

const char *cp_near_name(const char *word, const char *const *names)
{
	size_t count = 0;

	while (names[count])
		count++;
	return near_name(word, strlen(word), names, count);
}
