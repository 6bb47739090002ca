/** Checking UTF-8 that comes in pieces (RFC 3629). */
#ifndef SYSTEMS_WS_UTF8_H
#define SYSTEMS_WS_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** @param state  0 at the beginning of a text; kept from piece to piece
 * @param final  the text ends here: not inside a character
 * @return whether it can be UTF-8, up to here */
bool utf8_check(uint8_t *state, const char *bytes, size_t length, bool final);

#endif
