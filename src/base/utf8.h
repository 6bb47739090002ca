/** UTF-8 (RFC 3629), one character at a time. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

static inline bool utf8_is_tail(unsigned char byte)
{
	return (byte & 0xc0) == 0x80;
}

/** Bytes of the character that `text` begins with; 0 if it begins with none (a stray or missing tail, an encoding
 * longer than needed, a surrogate, beyond U+10FFFF, `length` 0). The limits on the second byte are those of RFC 3629,
 * section 4. */
static inline size_t utf8_character(const char *text, size_t length)
{
	const unsigned char *at = (const unsigned char *)text;

	if (length >= 1 && at[0] < 0x80)
		return 1;
	if (length < 2 || at[0] < 0xc2 || !utf8_is_tail(at[1]))
		return 0;
	if (at[0] < 0xe0)
		return 2;
	if (length < 3 || !utf8_is_tail(at[2]))
		return 0;
	if (at[0] < 0xf0)
		return (at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] > 0x9f) ? 0 : 3;
	if (length < 4 || !utf8_is_tail(at[3]))
		return 0;
	if ((at[0] == 0xf0 && at[1] < 0x90) || (at[0] == 0xf4 && at[1] > 0x8f))
		return 0;
	return at[0] <= 0xf4 ? 4 : 0;
}

/** Where to cut `text` so that at most `room` bytes stay and no character is cut in two. Text that is not UTF-8 is cut
 * anywhere. */
static inline size_t utf8_cut(const char *text, size_t length, size_t room)
{
	size_t cut = room;

	if (length <= room)
		return length;
	while (cut > 0 && room - cut < 4 && utf8_is_tail((unsigned char)text[cut]))
		cut--;
	return utf8_is_tail((unsigned char)text[cut]) ? room : cut;
}

#endif
