/* Text: see text.h. */
#include "text.h"

#include "../base/utf8.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

void text_put(struct text_out *out, const char *text, size_t length)
{
	if (out->length < out->room) {
		size_t fits = out->room - out->length;

		memcpy(out->buffer + out->length, text, length < fits ? length : fits);
	}
	out->length += length;
}

void text_puts(struct text_out *out, const char *text)
{
	text_put(out, text, strlen(text));
}

/* Addresses are printed for every connection: this is several times as fast as snprintf(). */
void text_put_number(struct text_out *out, unsigned number, unsigned base)
{
	char digits[32], *at = digits + sizeof(digits);

	do {
		*--at = "0123456789abcdef"[number % base];
		number /= base;
	} while (number);
	text_put(out, at, (size_t)(digits + sizeof(digits) - at));
}

size_t text_end(struct text_out *out)
{
	if (out->room)
		out->buffer[out->length < out->room ? out->length : out->room - 1] = '\0';
	return out->length;
}

/* ---- UTF-8 -------------------------------------------------------------------------------------------------- */

/* Most text is ASCII: eight bytes at a time. */
size_t text_utf8_length(const char *text, size_t length)
{
	size_t at = 0, step;
	uint64_t word;

	while (at < length) {
		if (length - at >= sizeof(word)) {
			memcpy(&word, text + at, sizeof(word));
			if ((word & UINT64_C(0x8080808080808080)) == 0) {
				at += sizeof(word);
				continue;
			}
		}
		step = utf8_character(text + at, length - at);
		if (step == 0)
			break;
		at += step;
	}
	return at;
}

bool cp_utf8_valid(const char *text, size_t length)
{
	return text_utf8_length(text, length) == length;
}

/* ---- Escaping ----------------------------------------------------------------------------------------------- */

/* Control characters of Unicode are U+0000 to U+001F and U+007F to U+009F (general category Cc). */
static bool is_control(const char *character, size_t length)
{
	unsigned char first = (unsigned char)character[0];

	if (length == 1)
		return first < 0x20 || first == 0x7f;
	return length == 2 && first == 0xc2 && (unsigned char)character[1] < 0xa0;
}

static void put_hex(struct text_out *out, const char *lead, unsigned char byte)
{
	static const char digits[] = "0123456789ABCDEF";
	char hex[2] = {digits[byte >> 4], digits[byte & 15]};

	text_puts(out, lead);
	text_put(out, hex, 2);
}

/* What is not UTF-8 is escaped too, so that the result always is. */
void text_put_escaped(struct text_out *out, const char *text, size_t length, const char *special)
{
	size_t plain = 0, at = 0;

	while (at < length) {
		size_t step = utf8_character(text + at, length - at);
		bool escape = step == 0 || is_control(text + at, step) || text[at] == '%' || strchr(special, text[at]);

		step = step ? step : 1;
		if (escape) {
			text_put(out, text + plain, at - plain);
			for (size_t i = 0; i < step; i++)
				put_hex(out, "%", (unsigned char)text[at + i]);
			plain = at + step;
		}
		at += step;
	}
	text_put(out, text + plain, at - plain);
}

size_t cp_escape(const char *text, size_t length, const char *special, char *buffer, size_t room)
{
	struct text_out out = text_out(buffer, room);

	text_put_escaped(&out, text, length, special);
	return text_end(&out);
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool text_unescape(const char *text, size_t length, char *buffer, size_t *out_length, size_t *offset)
{
	size_t filled = 0;

	for (size_t at = 0; at < length; at++) {
		int high, low;

		if (text[at] != '%') {
			buffer[filled++] = text[at];
			continue;
		}
		high = length - at > 2 ? hex_digit(text[at + 1]) : -1;
		low = length - at > 2 ? hex_digit(text[at + 2]) : -1;
		if (high < 0 || low < 0) {
			*offset = at;
			return false;
		}
		buffer[filled++] = (char)(high << 4 | low);
		at += 2;
	}
	*out_length = filled;
	return true;
}

size_t text_escaped_offset(const char *text, size_t length, size_t offset)
{
	size_t at = 0;

	for (; offset > 0 && at < length; offset--)
		at += text[at] == '%' ? 3 : 1;
	return at < length ? at : length;
}

/* ---- Parts -------------------------------------------------------------------------------------------------- */

int part_unescape(const struct cp_part *part, char *buffer, size_t *length, struct cp_error *error)
{
	struct text_quoted quoted;
	size_t offset, valid;

	if (!text_unescape(part->at, part->length, buffer, length, &offset))
		return cp_part_error(part, offset, CP_EINVAL, error, "expected two hexadecimal digits behind \"%%\" in %s",
							 text_quote(&quoted, part->at, part->length));
	valid = text_utf8_length(buffer, *length);
	if (valid < *length)
		return cp_part_error(part, text_escaped_offset(part->at, part->length, valid), CP_EINVAL, error,
							 "%s is not valid UTF-8", text_quote(&quoted, part->at, part->length));
	return CP_OK;
}

char *cp_part_unescape(const struct cp_part *part, struct cp_arena *arena, size_t *length, struct cp_error *error)
{
	char *text = cp_arena_alloc(arena, part->length + 1);

	if (part_unescape(part, text, length, error) != CP_OK)
		return NULL;
	text[*length] = '\0';
	return text;
}

/* ---- Showing text in errors --------------------------------------------------------------------------------- */

/* In quotes, as far as `budget` bytes go; what is left out is an ellipsis. The address's own escapes stay as they are.
 */
static void put_quoted(struct text_out *out, const char *text, size_t length, bool cut_before, size_t budget)
{
	size_t limit = out->length + budget;
	size_t at = 0;

	text_puts(out, cut_before ? "\"…" : "\"");
	while (at < length && out->length < limit) {
		size_t step = utf8_character(text + at, length - at);

		if (step == 0 || is_control(text + at, step)) {
			put_hex(out, "\\x", (unsigned char)text[at]);
			step = 1;
		} else {
			text_put(out, text + at, step);
		}
		at += step;
	}
	text_puts(out, at < length ? "…\"" : "\"");
}

const char *text_quote(struct text_quoted *quoted, const char *text, size_t length)
{
	struct text_out out = text_out(quoted->text, sizeof(quoted->text));

	put_quoted(&out, text, length, false, 64);
	text_end(&out);
	return quoted->text;
}

enum {
	SHOWN = 96,        /* bytes of an address in a place */
	SHOWN_BEFORE = 48, /* of those before the column, when the address is longer */
};

void part_where(const struct cp_part *part, size_t offset, struct cp_error *error)
{
	struct text_out out = text_out(error->where, sizeof(error->where));
	size_t column = part->column + offset;
	char lead[48];
	size_t start = 0;

	if (part->whole_length > SHOWN && column > SHOWN_BEFORE)
		start = column - SHOWN_BEFORE;
	while (start > 0 && start < part->whole_length && utf8_is_tail((unsigned char)part->whole[start]))
		start--;
	snprintf(lead, sizeof(lead), "column %zu of ", column);
	text_puts(&out, lead);
	put_quoted(&out, part->whole + start, part->whole_length - start, start > 0, SHOWN);
	text_end(&out);
}

int cp_part_error(const struct cp_part *part, size_t offset, enum cp_err code, struct cp_error *error,
				  const char *format, ...)
{
	va_list arguments;

	if (!error)
		return code;
	error->code = code;
	part_where(part, offset, error);
	va_start(arguments, format);
	vsnprintf(error->message, sizeof(error->message), format, arguments);
	va_end(arguments);
	return code;
}
