/** Writing text into a buffer of any size, escaping, and showing pieces of text in errors. */
#ifndef ADDRESS_TEXT_H
#define ADDRESS_TEXT_H

#include <connpipe/address.h>

#include <stdbool.h>
#include <stddef.h>

/** Where text goes; it is counted beyond the room and cut there, as with snprintf. */
struct text_out {
	char *buffer; /* may be NULL if room is 0 */
	size_t room;
	size_t length; /* so far, all of it */
};

static inline struct text_out text_out(char *buffer, size_t room)
{
	struct text_out out = {buffer, room, 0};
	return out;
}
void text_put(struct text_out *out, const char *text, size_t length);
void text_puts(struct text_out *out, const char *text);
void text_put_number(struct text_out *out, unsigned number, unsigned base);
void text_put_escaped(struct text_out *out, const char *text, size_t length, const char *special);
/** End with a zero byte. @return the length that was needed */
size_t text_end(struct text_out *out);

/** Undo `%XX` into `buffer`, which has room for `length` bytes. `buffer` may be `text`.
 * @param offset  of a broken escape, when it fails */
bool text_unescape(const char *text, size_t length, char *buffer, size_t *out_length, size_t *offset);
/** Where byte number `offset` of the unescaped text stands in `text`. */
size_t text_escaped_offset(const char *text, size_t length, size_t offset);
/** Bytes of valid UTF-8 at the start of `text`. */
size_t text_utf8_length(const char *text, size_t length);

/** A piece of text as errors show it: in quotes, without control characters, cut. */
struct text_quoted {
	char text[96];
};
/** @return quoted->text */
const char *text_quote(struct text_quoted *quoted, const char *text, size_t length);

/** Undo `%XX` in a part; see cp_part_unescape(). @param buffer  room for part->length bytes */
int part_unescape(const struct cp_part *part, char *buffer, size_t *length, struct cp_error *error);
/** Write `column N of "text"` for a place in `part`. */
void part_where(const struct cp_part *part, size_t offset, struct cp_error *error);
/** A part of a part. */
static inline struct cp_part part_slice(const struct cp_part *part, size_t offset, size_t length)
{
	struct cp_part slice = *part;

	slice.at += offset;
	slice.length = length;
	slice.column += offset;
	return slice;
}

#endif
