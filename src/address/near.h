/** Near names, for "did you mean". */
#ifndef ADDRESS_NEAR_H
#define ADDRESS_NEAR_H

#include <stddef.h>

/** The name nearest to `word` by typing errors (a letter too many, too few, wrong, or two swapped; case does not
 * count); NULL if none is near. Of equally near ones the first.
 * @param names  NULL among them is skipped */
const char *near_name(const char *word, size_t length, const char *const *names, size_t count);

#endif
