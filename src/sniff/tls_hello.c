/* Each call begins at the first byte: records are followed by their headers to see whether the message is all there,
 * and only then is it read. A hello that comes byte by byte in one record costs a few instructions for each byte; cut
 * into records of one byte each, a walk over their headers. */
#include "tls_hello.h"

#include "../address/host.h"
#include "../address/ip.h"

#include <stdint.h>
#include <string.h>

enum {
	RECORD_HEADER = 5, /* type, version, length */
	RECORD_HANDSHAKE = 22,
	RECORD_MOST = 1 << 14,
	MESSAGE_HEADER = 4, /* type, length in three bytes */
	MESSAGE_CLIENT_HELLO = 1,
	RANDOM = 32,
	SESSION_MOST = 32,
	EXTENSION_SERVER_NAME = 0,
	EXTENSION_ALPN = 16,
	EXTENSION_TYPES = 1 << 16,
	NAME_TYPE_HOST = 0,
};

/** Bytes that are still to be read. */
struct span {
	const uint8_t *at;
	size_t left;
};

/* ---- Records ------------------------------------------------------------------------------------------------ */

/** Whether a record of the handshake begins here. YES: its header is complete. An empty one is none (RFC 8446, 5.1). */
static enum verdict record_begins(const uint8_t *at, size_t left)
{
	if (left >= 1 && at[0] != RECORD_HANDSHAKE)
		return VERDICT_NO;
	if (left >= 2 && at[1] != 3)
		return VERDICT_NO;
	if (left >= 3 && at[2] > 4)
		return VERDICT_NO;
	if (left < RECORD_HEADER)
		return left == 4 && at[3] > RECORD_MOST >> 8 ? VERDICT_NO : VERDICT_MAYBE;
	unsigned length = (unsigned)at[3] << 8 | at[4];
	return length == 0 || length > RECORD_MOST ? VERDICT_NO : VERDICT_YES;
}

/** Step over a record. @param fragment  what is there of its content
 * @return VERDICT_MAYBE: its header is not complete */
static enum verdict next_fragment(struct span *records, struct span *fragment)
{
	enum verdict verdict = record_begins(records->at, records->left);
	if (verdict != VERDICT_YES)
		return verdict;
	size_t length = (size_t)records->at[3] << 8 | records->at[4], there = records->left - RECORD_HEADER;
	fragment->at = records->at + RECORD_HEADER;
	fragment->left = length < there ? length : there;
	records->at = fragment->at + fragment->left;
	records->left = there - fragment->left;
	return VERDICT_YES;
}

/** How long the message is with its header, and whether all of it is there. */
static enum verdict measure(struct span records, size_t *length)
{
	uint8_t header[MESSAGE_HEADER];
	struct span fragment;
	for (size_t have = 0;;) {
		enum verdict verdict = next_fragment(&records, &fragment);
		if (verdict != VERDICT_YES)
			return verdict;
		for (size_t i = 0; have + i < MESSAGE_HEADER && i < fragment.left; i++)
			header[have + i] = fragment.at[i];
		have += fragment.left;
		if (have < MESSAGE_HEADER)
			continue;
		*length = MESSAGE_HEADER + ((size_t)header[1] << 16 | (size_t)header[2] << 8 | header[3]);
		if (*length > TLS_HELLO_MOST)
			return VERDICT_NO;
		if (have >= *length)
			return VERDICT_YES;
	}
}

/** Put the first `length` bytes of the records' contents, which are there, one behind the other. */
static void join(struct span records, uint8_t *message, size_t length)
{
	struct span fragment;
	while (length > 0 && next_fragment(&records, &fragment) == VERDICT_YES) {
		size_t take = fragment.left < length ? fragment.left : length;
		memcpy(message, fragment.at, take);
		message += take;
		length -= take;
	}
}

enum verdict tls_hello_begins(const char *bytes, size_t length)
{
	enum verdict verdict = record_begins((const uint8_t *)bytes, length);
	if (verdict != VERDICT_YES)
		return verdict;
	if (length == RECORD_HEADER)
		return VERDICT_MAYBE;
	return bytes[RECORD_HEADER] == MESSAGE_CLIENT_HELLO ? VERDICT_YES : VERDICT_NO;
}

/* ---- Taking the message apart ------------------------------------------------------------------------------- */

static bool skip(struct span *span, size_t bytes)
{
	if (span->left < bytes)
		return false;
	span->at += bytes;
	span->left -= bytes;
	return true;
}

/** @param bytes  1 or 2: of the number, the first one counts most */
static bool take_number(struct span *span, size_t bytes, size_t *number)
{
	const uint8_t *at = span->at;
	if (!skip(span, bytes))
		return false;
	*number = bytes == 1 ? at[0] : (size_t)at[0] << 8 | at[1];
	return true;
}

/** A vector: its length in `bytes` bytes, then its content. */
static bool take_vector(struct span *span, size_t bytes, struct span *content)
{
	size_t length;
	if (!take_number(span, bytes, &length))
		return false;
	content->at = span->at;
	content->left = length;
	return skip(span, length);
}

/** A vector that is not empty and has nothing behind it: what the extensions read here consist of. */
static bool take_list(struct span extension, struct span *list)
{
	return take_vector(&extension, 2, list) && extension.left == 0 && list->left > 0;
}

/* ---- Extensions --------------------------------------------------------------------------------------------- */

/** RFC 6066 wants a name in ASCII, without a dot behind it, and no address. */
static void set_server_name(struct tls_hello *hello, struct span name, struct cp_arena *arena)
{
	const char *text = (const char *)name.at;
	char canonical[HOST_ROOM];
	size_t offset, zone;
	struct cp_ip ip;
	if (text[name.left - 1] == '.' || ip_read(text, name.left, &ip, &zone))
		return;
	if (host_canonical(text, name.left, false, canonical, &hello->sni_length, &offset))
		return;
	hello->sni = cp_arena_strndup(arena, canonical, hello->sni_length);
}

/** Names of other types, of which there are none so far, are skipped: they have a length of two bytes, too. */
static bool read_server_name(struct tls_hello *hello, struct span extension, struct cp_arena *arena)
{
	struct span list, name, host = {0};
	size_t type;
	if (!take_list(extension, &list))
		return false;
	while (list.left > 0) {
		if (!take_number(&list, 1, &type) || !take_vector(&list, 2, &name))
			return false;
		if (type != NAME_TYPE_HOST)
			continue;
		if (name.left == 0 || host.at)
			return false;
		host = name;
	}
	if (host.at)
		set_server_name(hello, host, arena);
	return true;
}

/** The reserved values (RFC 8701) are twice the same byte, which ends in hexadecimal a: some of them are letters. */
static bool is_grease(struct span protocol)
{
	return protocol.left == 2 && protocol.at[0] == protocol.at[1] && (protocol.at[0] & 0x0f) == 0x0a;
}

static bool is_listable(struct span protocol)
{
	for (size_t i = 0; i < protocol.left; i++)
		if (protocol.at[i] < ' ' || protocol.at[i] > '~' || protocol.at[i] == ',')
			return false;
	return !is_grease(protocol);
}

static bool read_alpn(struct tls_hello *hello, struct span extension, struct cp_arena *arena)
{
	struct span list, protocol;
	if (!take_list(extension, &list))
		return false;
	char *text = cp_arena_alloc(arena, list.left + 1); /* a comma takes as much as the byte of a length */
	size_t length = 0;
	while (list.left > 0) {
		if (!take_vector(&list, 1, &protocol) || protocol.left == 0)
			return false;
		if (!is_listable(protocol))
			continue;
		if (length > 0)
			text[length++] = ',';
		memcpy(text + length, protocol.at, protocol.left);
		length += protocol.left;
	}
	text[length] = '\0';
	hello->alpn = length > 0 ? text : NULL;
	hello->alpn_length = length;
	return true;
}

static bool read_extension(struct tls_hello *hello, size_t type, struct span content, struct cp_arena *arena)
{
	if (type == EXTENSION_SERVER_NAME)
		return read_server_name(hello, content, arena);
	if (type == EXTENSION_ALPN)
		return read_alpn(hello, content, arena);
	return true;
}

/** No type may come twice (RFC 8446, 4.2): two servers could take different ones. */
static bool read_extensions(struct tls_hello *hello, struct span list, struct cp_arena *arena)
{
	uint8_t seen[EXTENSION_TYPES / 8] = {0};
	struct span content;
	size_t type;
	while (list.left > 0) {
		if (!take_number(&list, 2, &type) || !take_vector(&list, 2, &content))
			return false;
		if (seen[type / 8] & 1u << type % 8)
			return false;
		seen[type / 8] |= (uint8_t)(1u << type % 8);
		if (!read_extension(hello, type, content, arena))
			return false;
	}
	return true;
}

/* ---- The hello ---------------------------------------------------------------------------------------------- */

/** What stands before the extensions: legacy_version, random, session, cipher suites, compression methods. */
static bool read_front(struct span *message)
{
	struct span session, suites, methods;
	size_t version;
	return take_number(message, 2, &version) && version >= 0x0300 && skip(message, RANDOM) &&
		   take_vector(message, 1, &session) && session.left <= SESSION_MOST && take_vector(message, 2, &suites) &&
		   suites.left >= 2 && suites.left % 2 == 0 && take_vector(message, 1, &methods) && methods.left >= 1;
}

static bool read_message(struct tls_hello *hello, struct span message, struct cp_arena *arena)
{
	struct span extensions;
	*hello = (struct tls_hello){0};
	if (!skip(&message, MESSAGE_HEADER) || !read_front(&message))
		return false;
	if (message.left == 0)
		return true; /* before TLS 1.3 they could be missing altogether */
	return take_vector(&message, 2, &extensions) && message.left == 0 && read_extensions(hello, extensions, arena);
}

enum verdict tls_hello_read(const char *bytes, size_t length, struct cp_arena *arena, struct tls_hello *hello)
{
	struct span records = {(const uint8_t *)bytes, length}, first;
	uint8_t joined[TLS_HELLO_MOST];
	size_t message_length;
	enum verdict verdict = tls_hello_begins(bytes, length);
	if (verdict == VERDICT_YES)
		verdict = measure(records, &message_length);
	if (verdict != VERDICT_YES)
		return verdict;

	struct span message = {joined, message_length}, rest = records;
	next_fragment(&rest, &first);
	if (first.left >= message_length)
		message.at = first.at;
	else
		join(records, joined, message_length);
	return read_message(hello, message, arena) ? VERDICT_YES : VERDICT_NO;
}
