/** Templates: `{name}` in the rest of an address, to be replaced by a value later. */
#ifndef ADDRESS_TEMPLATE_H
#define ADDRESS_TEMPLATE_H

#include <connpipe/address.h>

#include <stdbool.h>
#include <stddef.h>

/** Length of the `{name}` that `text` begins with (name: letters, digits, "_", "-", "."), or 0. */
size_t template_name(const char *text, size_t length);
/** Whether there is a `{name}` in it. */
bool template_has(const char *text, size_t length);
/** Check the braces of a rest that is still escaped, by the flags of the part. @param found  whether there is a {name}
 */
int template_check(const struct cp_part *rest, bool *found, struct cp_error *error);

#endif
