/** Errors: a code for programs, a sentence for people.
 *
 * Functions that can fail return CP_OK or a negative `enum cp_err`; those that a person will have to read about also
 * take a `struct cp_error`, owned by the caller, and fill it when they fail. CP_AGAIN is not a failure: it says that
 * the answer comes later. */
#ifndef CONNPIPE_ERROR_H
#define CONNPIPE_ERROR_H

#include <connpipe/abi.h>

#include <stddef.h>

CP_BEGIN_DECLS

/** X(name, value, text): every code, with the words used in messages. */
#define CP_ERRORS(X)                                                                                                   \
	X(CP_OK, 0, "no error")                                                                                            \
	X(CP_AGAIN, -1, "not yet")                                                                                         \
	X(CP_EINVAL, -2, "invalid")                                                                                        \
	X(CP_ENOMEM, -3, "out of memory")                                                                                  \
	X(CP_EMFILE, -4, "out of file descriptors")                                                                        \
	X(CP_EPERM, -5, "permission denied")                                                                               \
	X(CP_EADDRINUSE, -6, "address in use")                                                                             \
	X(CP_EREFUSED, -7, "connection refused")                                                                           \
	X(CP_EUNREACHABLE, -8, "unreachable")                                                                              \
	X(CP_ETIMEOUT, -9, "timed out")                                                                                    \
	X(CP_ERESET, -10, "connection reset")                                                                              \
	X(CP_ERESOLVE, -11, "name does not resolve")                                                                       \
	X(CP_EPROTO, -12, "protocol error")                                                                                \
	X(CP_ELIMIT, -13, "limit reached")                                                                                 \
	X(CP_ECANCELED, -14, "canceled")                                                                                   \
	X(CP_ENOTFOUND, -15, "not found")                                                                                  \
	X(CP_EEXIST, -16, "exists already")                                                                                \
	X(CP_EUNSUPPORTED, -17, "not supported")                                                                           \
	X(CP_EIO, -18, "input/output error")

enum cp_err {
#define CP_ERR_ENUM(name, value, text) name = value,
	CP_ERRORS(CP_ERR_ENUM)
#undef CP_ERR_ENUM
};

/** What went wrong, where, in words. `where` is a place (`config.toml:3:5`, an address, column 7 of a text) or empty. */
struct cp_error {
	enum cp_err code;
	char where[160];
	char message[352];
};

/** The words for a code. Static text. Any thread. */
CP_API const char *cp_err_text(enum cp_err code);

/** The code that fits an errno value; CP_EIO where none does. EAGAIN and EINPROGRESS are CP_AGAIN. Any thread. */
CP_API enum cp_err cp_err_from_errno(int errnum);

/** Fill `error` (may be NULL: then only the code is passed through). Text that is too long is cut between two
 * characters. The arguments may be parts of `error` itself, to say more about an error that was there.
 * @param where  may be NULL: then `where` is left empty
 * @return `code`, so that a function can end with `return cp_error_set(…)` */
CP_API int cp_error_set(struct cp_error *error, enum cp_err code, const char *where, const char *format, ...)
	CP_PRINTF(4, 5);

CP_END_DECLS
#endif
