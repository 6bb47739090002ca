/* UTF-8 in pieces. The state is what is still to come of a character: how many bytes, and, for the first of them, which
 * are allowed: some first bytes narrow that down (no overlong forms, no surrogates, nothing over U+10FFFF). */
#include "utf8.h"

#include <string.h>

/** X(name, bytes still to come, least and most of the next one) */
#define UTF8_STATES(X)              \
	X(UTF8_START, 0, 0x00, 0x7f)    \
	X(UTF8_ONE, 1, 0x80, 0xbf)      \
	X(UTF8_TWO, 2, 0x80, 0xbf)      \
	X(UTF8_TWO_E0, 2, 0xa0, 0xbf)   \
	X(UTF8_TWO_ED, 2, 0x80, 0x9f)   \
	X(UTF8_THREE, 3, 0x80, 0xbf)    \
	X(UTF8_THREE_F0, 3, 0x90, 0xbf) \
	X(UTF8_THREE_F4, 3, 0x80, 0x8f)

enum utf8_state {
#define UTF8_ENUM(name, left, least, most) name,
	UTF8_STATES(UTF8_ENUM)
#undef UTF8_ENUM
};

static const struct {
	uint8_t left, least, most;
} states[] = {
#define UTF8_ROW(name, left, least, most) {left, least, most},
	UTF8_STATES(UTF8_ROW)
#undef UTF8_ROW
};

/** @return the state behind the first byte of a character, or -1 */
static int first_byte(unsigned char byte)
{
	if (byte < 0x80)
		return UTF8_START;
	if (byte >= 0xc2 && byte <= 0xdf)
		return UTF8_ONE;
	if (byte >= 0xe0 && byte <= 0xef)
		return byte == 0xe0 ? UTF8_TWO_E0 : byte == 0xed ? UTF8_TWO_ED : UTF8_TWO;
	if (byte >= 0xf0 && byte <= 0xf4)
		return byte == 0xf0 ? UTF8_THREE_F0 : byte == 0xf4 ? UTF8_THREE_F4 : UTF8_THREE;
	return -1;
}

/** @return how many bytes from the first on are ASCII, in steps of eight */
static size_t ascii_run(const char *bytes, size_t length)
{
	size_t at = 0;
	for (uint64_t eight; at + sizeof(eight) <= length; at += sizeof(eight)) {
		memcpy(&eight, bytes + at, sizeof(eight));
		if (eight & 0x8080808080808080u)
			break;
	}
	return at;
}

bool utf8_check(uint8_t *state, const char *bytes, size_t length, bool final)
{
	int now = *state;
	for (size_t i = 0; i < length; i++) {
		unsigned char byte = (unsigned char)bytes[i];
		if (now == UTF8_START) {
			i += ascii_run(bytes + i, length - i);
			if (i == length)
				break;
			byte = (unsigned char)bytes[i];
			now = first_byte(byte);
			if (now < 0)
				return false;
		} else {
			if (byte < states[now].least || byte > states[now].most)
				return false;
			now = states[now].left - 1 == 0 ? UTF8_START : states[now].left - 1 == 1 ? UTF8_ONE : UTF8_TWO;
		}
	}
	*state = (uint8_t)now;
	return !final || now == UTF8_START;
}
