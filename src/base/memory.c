/* Checked allocation: see memory.h. */
#include "memory.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

_Noreturn void no_memory(void)
{
	static const char line[] = "connpipe: out of memory\n";

	if (write(STDERR_FILENO, line, sizeof(line) - 1) < 0)
		abort(); /* nowhere left to say it */
	abort();
}

/* malloc(0) may return NULL, which is no failure: ask for a byte. */
void *xmalloc(size_t bytes)
{
	void *memory = malloc(bytes ? bytes : 1);

	if (!memory)
		no_memory();
	return memory;
}

void *xcalloc(size_t count, size_t bytes)
{
	void *memory = count && bytes ? calloc(count, bytes) : calloc(1, 1);

	if (!memory)
		no_memory();
	return memory;
}

void *xrealloc(void *memory, size_t bytes)
{
	void *moved = realloc(memory, bytes ? bytes : 1);

	if (!moved)
		no_memory();
	return moved;
}

/* Not with reallocarray(), whose overflow the address sanitizer takes for a mistake. */
void *xreallocarray(void *memory, size_t count, size_t bytes)
{
	size_t product;

	if (__builtin_mul_overflow(count, bytes, &product))
		no_memory();
	return xrealloc(memory, product);
}

char *xstrdup(const char *text)
{
	return xstrndup(text, strlen(text));
}

char *xstrndup(const char *text, size_t length)
{
	char *copy;

	if (length == (size_t)-1)
		no_memory();
	copy = xmalloc(length + 1);
	memcpy(copy, text, length);
	copy[length] = '\0';
	return copy;
}
