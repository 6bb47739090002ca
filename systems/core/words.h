/** The words of a command, as a shell would split it, without anything else that a shell does.
 *
 *     'all as it is'      "all but \" \\ \$ \`"      \c any character c as it is      blanks between words
 *
 * $, *, |, > and so on mean nothing. */
#ifndef SYSTEMS_CORE_WORDS_H
#define SYSTEMS_CORE_WORDS_H

#include <stddef.h>

struct words {
	char **at; /* `count` words, then NULL: fit for execv() */
	size_t count;
};

/** Split. @param wrong  set to the offset of what is wrong
 * @return NULL, or what is wrong, in words: static text. `words` is to be freed only if it succeeded */
const char *words_split(const char *text, size_t length, struct words *words, size_t *wrong);
void words_free(struct words *words);

/** One text that splits into the same words; each is quoted only if it needs to be. As snprintf.
 * @return the length that was needed */
size_t words_join(const struct words *words, char *buffer, size_t room);

#endif
