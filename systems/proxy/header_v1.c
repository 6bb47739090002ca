/* Version 1: one line of text. See header.h. */
#include "header.h"

#include <string.h>

enum { SIGNATURE = 6, TEXT_MOST = 45 /* of an address */ };

static const char signature[] = "PROXY ";
static const char *const words[] = {"TCP4", "TCP6", "UNKNOWN"};
enum { TCP4, TCP6, UNKNOWN, WORDS };

static enum proxy_verdict malformed(struct proxy_header *header, size_t offset, const char *reason)
{
	header->reason = reason;
	header->offset = offset;
	return PROXY_MALFORMED;
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* ---- The parts of a line ------------------------------------------------------------------------------------ */

/** What is left of the line, its CRLF not included. */
struct line {
	const char *start, *at, *end;
	struct proxy_header *header;
};

/** Take what is in front of the next space; the last part goes to the end. @return false, having said why: it is not
 * there */
static bool take(struct line *line, bool last, struct proxy_bytes *part, const char *missing)
{
	const char *space = memchr(line->at, ' ', (size_t)(line->end - line->at));
	const char *end = last ? line->end : space;
	if (!end) {
		malformed(line->header, (size_t)(line->end - line->start), missing);
		return false;
	}
	*part = (struct proxy_bytes){(const uint8_t *)line->at, (size_t)(end - line->at)};
	line->at = last ? end : end + 1;
	return true;
}

/** An address of just this family, in its only form: no zone, no zeros in front. */
static bool take_address(struct line *line, int word, struct cp_ip *ip)
{
	struct proxy_bytes part;
	size_t offset = (size_t)(line->at - line->start);
	if (!take(line, false, &part, "the line ends before its addresses do"))
		return false;
	const char *text = (const char *)part.at;
	bool ipv6 = memchr(text, ':', part.length);
	if (part.length <= TEXT_MOST && !memchr(text, '%', part.length) && ipv6 == (word == TCP6) &&
		cp_ip_parse(text, part.length, ip))
		return true;
	malformed(line->header, offset, word == TCP6 ? "expected an IPv6 address" : "expected an IPv4 address");
	return false;
}

static bool take_port(struct line *line, bool last, uint16_t *port)
{
	struct proxy_bytes part;
	size_t offset = (size_t)(line->at - line->start);
	uint32_t number = 0;
	if (!take(line, last, &part, "the line ends before its ports do"))
		return false;
	bool good = part.length >= 1 && part.length <= 5 && (part.length == 1 || part.at[0] != '0');
	for (size_t i = 0; good && i < part.length; i++) {
		good = part.at[i] >= '0' && part.at[i] <= '9';
		number = number * 10 + (uint32_t)(part.at[i] - '0');
	}
	*port = (uint16_t)number;
	if (good && number <= UINT16_MAX)
		return true;
	malformed(line->header, offset, "expected a port from 0 to 65535");
	return false;
}

static enum proxy_verdict read_addresses(struct line *line, int word)
{
	struct proxy_header *header = line->header;
	if (!take_address(line, word, &header->source.ip) || !take_address(line, word, &header->destination.ip) ||
		!take_port(line, false, &header->source.port) || !take_port(line, true, &header->destination.port))
		return PROXY_MALFORMED;
	header->transport = PROXY_TCP;
	return PROXY_FOUND;
}

/* ---- The line ----------------------------------------------------------------------------------------------- */

/** Which of the words stands at the start of `text`. @return WORDS: none of them; -1: one of them, maybe */
static int find_word(const char *text, size_t length)
{
	for (int i = 0; i < WORDS; i++) {
		size_t word = strlen(words[i]), same = least(word, length);
		if (memcmp(text, words[i], same) != 0)
			continue;
		if (length <= word)
			return -1;
		if (text[word] == ' ' || (i == UNKNOWN && text[word] == '\r'))
			return i;
	}
	return WORDS;
}

/** The CR of the line's end. @return NULL with the verdict set: it is not there yet, or it cannot come any more */
static const char *find_end(const char *text, size_t length, struct proxy_header *header, enum proxy_verdict *verdict)
{
	size_t look = least(length, PROXY_V1_MOST);
	const char *cr = memchr(text, '\r', look), *lf = memchr(text, '\n', cr ? (size_t)(cr - text) : look);
	size_t at = cr ? (size_t)(cr - text) : look;
	*verdict = PROXY_MORE;
	if (lf)
		*verdict = malformed(header, (size_t)(lf - text), "a line feed without a carriage return");
	else if (at + 1 < look && text[at + 1] == '\n')
		return cr;
	else if (at + 1 < look)
		*verdict = malformed(header, at, "a carriage return without a line feed");
	else if (look == PROXY_V1_MOST)
		*verdict = malformed(header, look, "no end of the line within 107 bytes");
	return NULL;
}

enum proxy_verdict proxy_v1_read(const uint8_t *bytes, size_t length, struct proxy_header *header)
{
	const char *text = (const char *)bytes;
	enum proxy_verdict verdict;
	memset(header, 0, sizeof(*header));
	header->length = PROXY_V1_MOST;
	if (memcmp(text, signature, least(length, SIGNATURE)) != 0)
		return PROXY_ABSENT;
	if (length < SIGNATURE)
		return PROXY_MORE;
	header->version = 1;
	int word = find_word(text + SIGNATURE, length - SIGNATURE);
	if (word == WORDS)
		return malformed(header, SIGNATURE, "expected TCP4, TCP6 or UNKNOWN, and a space");
	const char *end = word < 0 ? NULL : find_end(text, length, header, &verdict);
	if (!end)
		return word < 0 ? PROXY_MORE : verdict;
	header->length = (size_t)(end - text) + 2;
	if (word == UNKNOWN)
		return PROXY_FOUND;
	struct line line = {text, text + SIGNATURE + strlen(words[word]) + 1, end, header};
	return read_addresses(&line, word);
}
