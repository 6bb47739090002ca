/* Hosts: see host.h. */
#include "host.h"

#include "ip.h"
#include "template.h"

#include <string.h>

enum {
	NAME_MOST = 253, /* RFC 1123, 2.1, and RFC 1035, 2.3.4: 255 bytes on the wire */
	LABEL_MOST = 63,
};

const char *host_shorthand(const char *text, size_t length)
{
	static const struct {
		char text[3];
		const char *host;
	} shorthands[] = {{"$4", "127.0.0.1"}, {"$6", "::1"}, {"$n", "localhost"}, {"*4", "0.0.0.0"}, {"*6", "::"}};

	if (length != 2)
		return NULL;
	for (size_t i = 0; i < sizeof(shorthands) / sizeof(*shorthands); i++) {
		if (memcmp(text, shorthands[i].text, 2) == 0)
			return shorthands[i].host;
	}
	return NULL;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_name_character(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_' || c == '.';
}

static const char *wrong_character(const char *text)
{
	if (text[0] == '*')
		return "is no host, expected *4 (all of IPv4) or *6 (all of IPv6)";
	if (text[0] == '$')
		return "is no host, expected $4 (127.0.0.1), $6 ([::1]) or $n (localhost)";
	if ((unsigned char)text[0] >= 0x80)
		return "is not in ASCII, expected the name's encoded form (xn--…)";
	return "is no host name, expected letters, digits, \"-\", \"_\" and \".\"";
}

static const char *check_label(const char *label, size_t length)
{
	if (length == 0)
		return "has an empty label, expected a name between the dots";
	if (length > LABEL_MOST)
		return "has a label of more than 63 characters";
	if (label[0] == '-' || label[length - 1] == '-')
		return "has a \"-\" at the start or end of a label";
	return NULL;
}

/* A name whose last label is a number is taken for an IPv4 address by one program or another (127.1, 0x7f000001). */
static bool is_number(const char *label, size_t length)
{
	bool hex = length > 2 && label[0] == '0' && (label[1] == 'x' || label[1] == 'X');

	for (size_t i = hex ? 2 : 0; i < length; i++) {
		if (!is_digit(label[i]) && !(hex && strchr("abcdefABCDEF", label[i])))
			return false;
	}
	return true;
}

static const char *check_labels(const char *text, size_t length, size_t *offset)
{
	size_t start = 0, end;
	const char *wrong, *dot;

	for (;; start = end + 1) {
		dot = memchr(text + start, '.', length - start);
		end = dot ? (size_t)(dot - text) : length;
		*offset = start;
		wrong = check_label(text + start, end - start);
		if (wrong || end == length)
			break;
	}
	if (!wrong && is_number(text + start, length - start)) {
		*offset = 0;
		wrong = "is not an IPv4 address, expected four numbers from 0 to 255";
	}
	return wrong;
}

static const char *check_name(const char *text, size_t length, size_t *offset)
{
	for (size_t i = 0; i < length; i++) {
		if (!is_name_character(text[i])) {
			*offset = i;
			return wrong_character(text + i);
		}
	}
	if (length > 1 && text[length - 1] == '.') /* a dot behind the name: it is complete, nothing is searched */
		length--;
	*offset = 0;
	if (length > NAME_MOST)
		return "has more than 253 characters";
	return check_labels(text, length, offset);
}

/* Only what stands outside of the braces is looked at: the whole is looked at when it is expanded. */
static const char *check_template(const char *text, size_t length, size_t *offset)
{
	for (size_t at = 0; at < length; at++) {
		size_t skip = template_name(text + at, length - at);

		if (skip) {
			at += skip - 1;
		} else if (!is_name_character(text[at]) && text[at] != ':') {
			*offset = at;
			return wrong_character(text + at);
		}
	}
	*offset = 0;
	return length < HOST_ROOM ? NULL : "has more than 255 characters";
}

static size_t put_ip(const struct cp_ip *ip, const char *zone, size_t zone_length, char *buffer)
{
	struct text_out out = text_out(buffer, HOST_ROOM);

	ip_put(&out, ip);
	if (zone_length) {
		text_puts(&out, "%");
		text_put(&out, zone, zone_length);
	}
	return text_end(&out);
}

static void put_name(const char *text, size_t length, bool lower, char *buffer)
{
	for (size_t i = 0; i < length; i++)
		buffer[i] = lower && text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] - 'A' + 'a') : text[i];
	buffer[length] = '\0';
}

const char *host_canonical(const char *text, size_t length, bool is_template, char buffer[HOST_ROOM],
						   size_t *out_length, size_t *offset)
{
	bool expand = is_template && template_has(text, length);
	const char *wrong;
	struct cp_ip ip;
	size_t zone;

	*offset = 0;
	if (length == 0)
		return "is empty, expected a name or an address";
	if (!expand && ip_read(text, length, &ip, &zone)) {
		*out_length = put_ip(&ip, text + zone, length - zone, buffer);
		return NULL;
	}
	if (!expand && memchr(text, ':', length))
		return "is not an IPv6 address";
	wrong = expand ? check_template(text, length, offset) : check_name(text, length, offset);
	if (wrong)
		return wrong;
	put_name(text, length, !expand, buffer);
	*out_length = length;
	return NULL;
}
