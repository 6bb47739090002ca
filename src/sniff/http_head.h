/** The head of an HTTP/1 request, as far as routing asks for it. Sources: RFC 9112 sections 2, 3 and 5, RFC 9110
 * section 7.2; the preface of HTTP/2 (RFC 9113 section 3.4) is HTTP, too, and tells nothing more. */
#ifndef SNIFF_HTTP_HEAD_H
#define SNIFF_HTTP_HEAD_H

#include "verdict.h"

#include <connpipe/arena.h>

#include <stddef.h>

enum { HTTP_HEAD_MOST = 16 * 1024 };

struct http_head {
	const char *method; /* these are NULL where there is none, or none that is valid */
	size_t method_length;
	const char *host; /* of an absolute target, else of the one Host field; without its port, in lower case, IPv6 in
						 brackets */
	size_t host_length;
	const char *path; /* without the query; of an absolute target, too; "*" and CONNECT have none */
	size_t path_length;
};

/** Whether the bytes begin an HTTP/1 request or the preface of HTTP/2: certain when the request line is complete and
 * ends in HTTP/1.x; not HTTP as soon as a byte cannot be of such a line. */
enum verdict http_head_begins(const char *bytes, size_t length);

/** Read the whole head. VERDICT_NO: it is not one, it is malformed in a way that two servers could understand
 * differently (two Host fields, white space before a colon, a folded line, a bare CR), or longer than HTTP_HEAD_MOST.
 * @param arena  for the result; nothing is allocated before the head is complete */
enum verdict http_head_read(const char *bytes, size_t length, struct cp_arena *arena, struct http_head *head);

#endif
