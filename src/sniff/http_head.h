/** The head of an HTTP/1 request, as far as routing asks for it. Sources: RFC 9112 sections 2, 3 and 5, RFC 9110
 * sections 5.5, 5.6.2 and 7.2; the preface of HTTP/2 (RFC 9113 section 3.4) is HTTP, too, and tells nothing more.
 *
 * A request line is known by being narrower than RFC 9112 allows, so that other protocols in which lines begin with a
 * word (SMTP, POP3, IRC, FTP, RTSP, SIP) are told apart as early as can be:
 *
 *     method    1 to 20 capital letters, digits, "-" and "_"; a letter comes first
 *     target    "/…"; "http://…" and "https://…" in any case; "*" of OPTIONS; host and port of CONNECT. Bytes that are
 *               not ASCII are let through, white space and control characters are not
 *     version   HTTP/1. and a digit, in capital letters
 *     between   exactly one space; up to 4 empty lines (CR LF) before all that
 *
 * A LF alone ends a request line: it is HTTP. But such a head is not read, as servers differ in what it says. */
#ifndef SNIFF_HTTP_HEAD_H
#define SNIFF_HTTP_HEAD_H

#include "verdict.h"

#include <connpipe/arena.h>

#include <stddef.h>

enum { HTTP_HEAD_MOST = 16 * 1024 }; /* with all of its line ends */

/** What is NULL is not there, or not valid. Strings are UTF-8 and have a zero byte behind them. */
struct http_head {
	const char *method; /* NULL: HTTP/2 */
	size_t method_length;
	const char *host; /* of an absolute target or of CONNECT's, else of the Host field; without its port, in lower case
						 and without a dot at its end; IPv6 in its canonical form, in brackets. NULL also where other
						 characters are in it than a host name may have (user@host, %-encoding, lists), and where the
						 target names another one than the field */
	size_t host_length;
	const char *path; /* of an absolute target, too; without the query, otherwise as it stands: nothing is decoded, dots
						 and slashes stay. Begins with "/". "*" and CONNECT have none */
	size_t path_length;
};

/** Whether the bytes begin an HTTP/1 request or the preface of HTTP/2: certain when the request line is complete and
 * ends in HTTP/1.x; not HTTP as soon as a byte cannot be of such a line, or when it is longer than HTTP_HEAD_MOST. */
enum verdict http_head_begins(const char *bytes, size_t length);

/** Read the whole head. VERDICT_NO: it is not one, it is longer than HTTP_HEAD_MOST, or it is malformed in a way that
 * two servers could understand differently: two Host fields, a name that is no token (white space before the colon, a
 * folded line, a line without a colon), control characters but tabs (a bare CR, a zero byte), a LF without CR, "#" in
 * the target. A request without Host is left to its server: that is read, and its host is NULL.
 * @param arena  for the result; nothing is allocated before the head is complete */
enum verdict http_head_read(const char *bytes, size_t length, struct cp_arena *arena, struct http_head *head);

#endif
