/* Errors: see connpipe/error.h. */
#include "utf8.h"

#include <connpipe/error.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *cp_err_text(enum cp_err code)
{
	switch (code) {
#define TEXT(name, value, text) \
	case name:                  \
		return text;
		CP_ERRORS(TEXT)
#undef TEXT
	}
	return "unknown error";
}

enum cp_err cp_err_from_errno(int errnum)
{
	switch (errnum) {
	case 0:
		return CP_OK;
	case EAGAIN:
	case EINPROGRESS:
	case EALREADY:
		return CP_AGAIN;
	case EINVAL:
	case ENAMETOOLONG:
	case EDESTADDRREQ:
		return CP_EINVAL;
	case ENOMEM:
	case ENOBUFS:
		return CP_ENOMEM;
	case EMFILE:
	case ENFILE:
		return CP_EMFILE;
	case EACCES:
	case EPERM:
	case EROFS:
		return CP_EPERM;
	case EADDRINUSE:
		return CP_EADDRINUSE;
	case ECONNREFUSED:
		return CP_EREFUSED;
	case EADDRNOTAVAIL:
	case EHOSTDOWN:
	case EHOSTUNREACH:
	case ENETDOWN:
	case ENETUNREACH:
	case ENONET:
		return CP_EUNREACHABLE;
	case ETIMEDOUT:
		return CP_ETIMEOUT;
	case ECONNABORTED:
	case ECONNRESET:
	case ENETRESET:
	case EPIPE:
		return CP_ERESET;
	case EBADMSG:
	case EPROTO:
		return CP_EPROTO;
	case EDQUOT:
	case EFBIG:
	case EMSGSIZE:
	case ENOSPC:
	case EUSERS:
		return CP_ELIMIT;
	case ECANCELED:
		return CP_ECANCELED;
	case ENODEV:
	case ENOENT:
	case ENOTDIR:
	case ENXIO:
	case ESRCH:
		return CP_ENOTFOUND;
	case EEXIST:
		return CP_EEXIST;
	case EAFNOSUPPORT:
	case ENOPROTOOPT:
	case ENOSYS:
	case EOPNOTSUPP:
	case EPROTONOSUPPORT:
	case ESOCKTNOSUPPORT:
		return CP_EUNSUPPORTED;
	}
	return CP_EIO;
}

/* Copy text that may be too long, cut between two characters. */
static void copy_cut(char *to, size_t room, const char *from, size_t length)
{
	length = utf8_cut(from, length, room - 1);
	memcpy(to, from, length);
	to[length] = '\0';
}

int cp_error_set(struct cp_error *error, enum cp_err code, const char *where, const char *format, ...)
{
	/* The arguments may be parts of *error, when an error is wrapped in another: build the new text beside it. The
	 * spare bytes let copy_cut() see how the text goes on where it is cut. */
	char message[sizeof(error->message) + 4];
	char place[sizeof(error->where) + 4];
	va_list arguments;

	if (!error)
		return code;
	va_start(arguments, format);
	if (vsnprintf(message, sizeof(message), format, arguments) < 0)
		snprintf(message, sizeof(message), "%s", cp_err_text(code));
	va_end(arguments);
	snprintf(place, sizeof(place), "%s", where ? where : "");
	error->code = code;
	copy_cut(error->where, sizeof(error->where), place, strlen(place));
	copy_cut(error->message, sizeof(error->message), message, strlen(message));
	return code;
}
