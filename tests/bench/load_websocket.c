/* What both sides of a websocket need (RFC 6455): frames, masks, the answer to a key. */
#include "load.h"

#include <openssl/evp.h>
#include <string.h>

enum { FINAL = 0x80, RESERVED = 0x70, OPCODE = 0x0f, MASKED = 0x80, LENGTH = 0x7f, LENGTH_16 = 126, LENGTH_64 = 127 };

/* ---- Taking apart -------------------------------------------------------------------------------------------- */

/** How many bytes the header has, as far as it is known. */
static size_t header_length(const struct ws_reader *r)
{
	if (r->have < 2)
		return 2;
	size_t length = r->header[1] & LENGTH, extended = length == LENGTH_64 ? 8 : length == LENGTH_16 ? 2 : 0;
	return 2 + extended + (r->header[1] & MASKED ? 4 : 0);
}

/** @return whether it is one that we expect: nothing reserved, no fragments or long payload in control frames */
static bool header_read(struct ws_reader *r)
{
	size_t at = 2, length = r->header[1] & LENGTH, extended = length == LENGTH_64 ? 8 : length == LENGTH_16 ? 2 : 0;
	r->left = extended ? 0 : length;
	for (; extended; extended--)
		r->left = r->left << 8 | r->header[at++];
	r->masked = r->header[1] & MASKED;
	if (r->masked)
		memcpy(r->key, r->header + at, sizeof(r->key));
	r->opcode = (enum ws_opcode)(r->header[0] & OPCODE);
	r->position = 0;
	r->in_payload = r->left > 0;
	r->have = 0;
	bool control = r->opcode >= WS_CLOSE;
	return !(r->header[0] & RESERVED) && (!control || (r->header[0] & FINAL && r->left <= WS_CONTROL_MOST));
}

static enum ws_found next_header(struct ws_reader *r, char **at, const char *end)
{
	while (r->have < header_length(r)) {
		if (*at == end)
			return WS_NOTHING;
		r->header[r->have++] = (unsigned char)*(*at)++;
	}
	return header_read(r) ? WS_FRAME : WS_WRONG;
}

enum ws_found ws_next(struct ws_reader *r, char **at, const char *end, char **piece, size_t *length)
{
	if (!r->in_payload)
		return next_header(r, at, end);
	size_t there = (size_t)(end - *at);
	if (there == 0)
		return WS_NOTHING;
	*piece = *at;
	*length = there < r->left ? there : (size_t)r->left;
	if (r->masked)
		ws_mask(*piece, *piece, *length, r->key, r->position);
	*at += *length;
	r->position += *length;
	r->left -= *length;
	r->in_payload = r->left > 0;
	return WS_PAYLOAD;
}

/* ---- Making -------------------------------------------------------------------------------------------------- */

size_t ws_header(char *header, enum ws_opcode opcode, size_t length, const unsigned char *key)
{
	unsigned char *to = (unsigned char *)header;
	size_t extended = length > 65535 ? 8 : length >= LENGTH_16 ? 2 : 0, at = 2;
	to[0] = (unsigned char)(FINAL | opcode);
	to[1] = (unsigned char)((key ? MASKED : 0) | (extended == 8 ? LENGTH_64 : extended ? LENGTH_16 : length));
	while (extended)
		to[at++] = (unsigned char)((uint64_t)length >> 8 * --extended);
	if (!key)
		return at;
	memcpy(to + at, key, 4);
	return at + 4;
}

/** Eight bytes at a time: messages of 64 KiB must not keep us busier than the proxy. */
void ws_mask(char *to, const char *from, size_t length, const unsigned char *key, uint64_t position)
{
	unsigned char turned[8];
	uint64_t both, word;
	size_t at = 0;
	for (size_t i = 0; i < 8; i++)
		turned[i] = key[(position + i) % 4];
	memcpy(&both, turned, 8);
	for (; length - at >= 8; at += 8) {
		memcpy(&word, from + at, 8);
		word ^= both;
		memcpy(to + at, &word, 8);
	}
	for (; at < length; at++)
		to[at] = (char)(from[at] ^ turned[at % 8]);
}

void ws_accept_of(const char *key, size_t length, char *accept)
{
	static const char suffix[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	char both[64 + sizeof(suffix)];
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned digest_length = 0;
	length = length < 64 ? length : 64;
	memcpy(both, key, length);
	memcpy(both + length, suffix, sizeof(suffix) - 1);
	if (!EVP_Digest(both, length + sizeof(suffix) - 1, digest, &digest_length, EVP_sha1(), NULL))
		die("SHA-1");
	EVP_EncodeBlock((unsigned char *)accept, digest, (int)digest_length);
}
