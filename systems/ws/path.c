/* Paths: what clients send has escapes, and one path can be written in several ways (RFC 3986, 6.2.2); routers compare
 * bytes. So addresses have one way of writing each path, in which
 *
 *     letters, digits, "-", ".", "_", "~"            stand for themselves:     /%61 is /a
 *     what a path may have, and means something      stays as it was written:  /a/b is another path than /a%2Fb
 *     all others (blanks, quotes, beyond ASCII)      stand for themselves:     /caf%C3%A9 is /café
 *
 * and what is sent for such an address is what came, but for the way of writing. Control characters, and bytes that are
 * no UTF-8, stay escaped. */
#include "open.h"

#include <string.h>

static const char digits[] = "0123456789ABCDEF";

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/** The byte that an escape stands for, or -1: it is none. */
static int escape_at(const char *at, const char *end)
{
	if (*at != '%' || end - at < 3 || hex(at[1]) < 0 || hex(at[2]) < 0)
		return -1;
	return hex(at[1]) * 16 + hex(at[2]);
}

static bool is_unreserved(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c && strchr("-._~", c));
}

/** Characters that may be sent in a path or a query, and are not unreserved (RFC 3986, 3.3 and 3.4). */
static bool is_delimiter(unsigned char c)
{
	return c && strchr("!$&'()*+,;=:@/?", c);
}

static size_t put_escape(char *out, unsigned char byte)
{
	out[0] = '%';
	out[1] = digits[byte >> 4];
	out[2] = digits[byte & 15];
	return 3;
}

/** Whether the escape of a byte stays one. @param beyond  those beyond ASCII do not */
static bool stays(unsigned char byte, bool beyond)
{
	if (byte >= 0x80)
		return !beyond;
	return byte < 0x20 || byte == 0x7f || is_delimiter(byte) || byte == '%' || byte == '#';
}

static size_t read_as(const char *text, size_t length, char *path, bool beyond)
{
	const char *end = text + length;
	size_t put = 0;
	for (const char *at = text; at < end; at++) {
		int byte = escape_at(at, end);
		if (byte >= 0)
			at += 2;
		if (byte >= 0 && stays((unsigned char)byte, beyond))
			put += put_escape(path + put, (unsigned char)byte);
		else
			path[put++] = byte >= 0 ? (char)byte : *at;
	}
	return put;
}

size_t ws_path_read(const char *text, size_t length, char *path)
{
	size_t put = read_as(text, length, path, true);
	return cp_utf8_valid(path, put) ? put : read_as(text, length, path, false);
}

const char *ws_path_write(struct cp_arena *arena, const char *path)
{
	const char *end = path + strlen(path);
	char *text = cp_arena_alloc(arena, 3 * (size_t)(end - path) + 1);
	size_t put = 0;
	for (const char *at = path; at < end; at++) {
		unsigned char byte = (unsigned char)*at;
		if (is_unreserved(byte) || is_delimiter(byte) || escape_at(at, end) >= 0)
			text[put++] = *at;
		else
			put += put_escape(text + put, byte);
	}
	text[put] = '\0';
	return text;
}
