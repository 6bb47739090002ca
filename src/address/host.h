/** Hosts: names and IP addresses in their canonical form. */
#ifndef ADDRESS_HOST_H
#define ADDRESS_HOST_H

#include <stdbool.h>
#include <stddef.h>

enum { HOST_ROOM = 256 }; /* for any host and a zero byte: names have 253 characters and perhaps a dot */

/** The canonical form of a host: names in lower case (letters, digits, "-", "_", "."; lengths as in RFC 1123), IPv4 as
 * four numbers, IPv6 as in RFC 5952 with its zone and without brackets; IPv4-mapped IPv6 becomes IPv4.
 * @param is_template  `{name}` may stand in it; then only its characters are checked, and it is kept as it is
 * @param offset       where it is wrong
 * @return NULL, or what is wrong: words to follow the host */
const char *host_canonical(const char *text, size_t length, bool is_template, char buffer[HOST_ROOM],
						   size_t *out_length, size_t *offset);

/** What a shorthand ($4, $6, $n, *4, *6) stands for, or NULL. */
const char *host_shorthand(const char *text, size_t length);

#endif
