/** The preamble: how a connection names a subport. DESIGN: the 16 bytes of the magic, the name's length in bytes as
 * unsigned LEB128 (DWARF 5, 7.6) in its shortest form, the name in UTF-8. */
#ifndef STREAM_PREAMBLE_H
#define STREAM_PREAMBLE_H

#include <stddef.h>

enum {
	PREAMBLE_MAGIC = 16,
	PREAMBLE_NAME_MOST = 65535,                              /* what limits.subport_length can be raised to */
	PREAMBLE_MOST = PREAMBLE_MAGIC + 3 + PREAMBLE_NAME_MOST, /* length of the longest one */
};

enum preamble_result {
	PREAMBLE_MORE,      /* undecided: more bytes are needed */
	PREAMBLE_ABSENT,    /* the bytes are not a preamble: all of them belong to the stream */
	PREAMBLE_FOUND,     /* name and length are set */
	PREAMBLE_MALFORMED, /* the magic matched, what follows is wrong: reason is set */
};

struct preamble {
	const char *name; /* in the given bytes */
	size_t name_length;
	size_t length;      /* of the whole preamble: where the stream's own bytes begin */
	const char *reason; /* static text */
};

/** Look at the first bytes of a connection, as many as there are so far.
 * @param name_most  longest name allowed */
enum preamble_result preamble_read(const char *bytes, size_t count, size_t name_most, struct preamble *out);

/** Whether these first bytes can only be a preamble: the magic is complete. */
int preamble_begun(const char *bytes, size_t count);

/** Write one for `name` (1 to PREAMBLE_NAME_MOST bytes). @param buffer  room for PREAMBLE_MAGIC + 3 + length
 * @return its length */
size_t preamble_write(const char *name, size_t length, char *buffer);

#endif
