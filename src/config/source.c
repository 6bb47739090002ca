/* Reading a configuration file. See source.h. */
#include "source.h"

#include "../base/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- Reading ------------------------------------------------------------------------------------------------ */

static int fail_errno(struct cp_error *error)
{
	int found = errno;
	return cp_error_set(error, cp_err_from_errno(found), NULL, "cannot be read: %s", strerror(found));
}

/* How many bytes to expect. @return negative, with `error` filled, for what is not a file of reasonable size */
static int64_t expect_size(int fd, struct cp_error *error)
{
	struct stat status;
	if (fstat(fd, &status) != 0)
		return fail_errno(error);
	if (S_ISDIR(status.st_mode))
		return cp_error_set(error, CP_EINVAL, NULL, "is a directory, expected a file");
	if (!S_ISREG(status.st_mode))
		return cp_error_set(error, CP_EINVAL, NULL, "is not a regular file");
	if (status.st_size > SOURCE_LENGTH_MAX)
		return cp_error_set(error, CP_ELIMIT, NULL, "is too large: %lld bytes, at most %d are read",
							(long long)status.st_size, SOURCE_LENGTH_MAX);
	return status.st_size;
}

/* Read what was expected, and no more: a file that grows meanwhile is being written and is read half in any case. */
static int read_all(int fd, struct source *source, size_t size, struct cp_error *error)
{
	source->text = malloc(size + 1);
	if (!source->text)
		return cp_error_set(error, CP_ENOMEM, NULL, "cannot be read: out of memory");
	while (source->length < size) {
		ssize_t got = read(fd, source->text + source->length, size - source->length);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return fail_errno(error);
		if (got == 0)
			break;
		source->length += (size_t)got;
	}
	source->text[source->length] = '\0';
	return CP_OK;
}

int source_read(const char *path, struct source *source, struct cp_error *error)
{
	*source = (struct source){0};
	/* O_NONBLOCK: opening a named pipe must not wait for its other end. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return fail_errno(error);
	int64_t size = expect_size(fd, error);
	int result = size < 0 ? (int)size : read_all(fd, source, (size_t)size, error);
	close(fd);
	if (result != CP_OK)
		source_deinit(source);
	return result;
}

void source_deinit(struct source *source)
{
	free(source->text);
	*source = (struct source){0};
}

/* ---- Checking ----------------------------------------------------------------------------------------------- */

/* Bytes of the byte order mark at the beginning, which has no place of its own. */
static size_t skip_mark(const char *text, size_t length)
{
	return length >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
}

/* The place of `at` in the text, all of which is UTF-8 up to there. */
static struct toml_place place_at(const char *text, const char *at)
{
	struct toml_place place = {1, 1};
	for (text += skip_mark(text, (size_t)(at - text)); text < at; text++) {
		if (*text == '\n') {
			place.line++;
			place.column = 1;
		} else if (!utf8_is_tail((unsigned char)*text)) {
			place.column++;
		}
	}
	return place;
}

/* @return false */
CP_PRINTF(4, 5)
static bool refuse(struct toml_error *error, const char *text, const char *at, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	error->place = place_at(text, at);
	vsnprintf(error->message, sizeof error->message, format, arguments);
	va_end(arguments);
	return false;
}

static bool check_utf8(const char *text, size_t length, struct toml_error *error)
{
	for (size_t at = 0; at < length;) {
		size_t character = utf8_character(text + at, length - at);
		if (character == 0)
			return refuse(error, text, text + at, "not UTF-8: byte 0x%02x does not belong here",
						  (unsigned char)text[at]);
		at += character;
	}
	return true;
}

/* Whether three quotes stand at `at`. */
static bool is_triple(const char *at, const char *end)
{
	return end - at >= 3 && at[1] == at[0] && at[2] == at[0];
}

static const char *skip_line_string(const char *at, const char *end)
{
	char quote = *at++;
	for (; at < end && *at != '\n'; at++) {
		if (*at == quote)
			return at + 1;
		if (*at == '\\' && quote == '"')
			at++;
	}
	return at < end ? at : end;
}

/* Up to two quotes may stand right before the three that end it. */
static const char *skip_long_string(const char *at, const char *end)
{
	char quote = *at;
	for (at += 3; at < end; at++) {
		if (*at == quote && is_triple(at, end)) {
			at += 3;
			for (int more = 0; more < 2 && at < end && *at == quote; more++)
				at++;
			return at;
		}
		if (*at == '\\' && quote == '"')
			at++;
	}
	return end;
}

/* Behind the string that begins at `at`. One that does not end is the parser's to report. */
static const char *skip_string(const char *at, const char *end)
{
	return is_triple(at, end) ? skip_long_string(at, end) : skip_line_string(at, end);
}

static const char *skip_comment(const char *at, const char *end)
{
	const char *newline = memchr(at, '\n', (size_t)(end - at));
	return newline ? newline : end;
}

/* The parser nests one table for each part of a dotted key, without a limit, and frees them recursively. */
static bool check_keys(const char *text, size_t length, struct toml_error *error)
{
	const char *at = text, *end = text + length;
	unsigned parts = 1;
	while (at < end) {
		char c = *at;
		if (c == '"' || c == '\'') {
			at = skip_string(at, end);
			continue;
		}
		if (c == '#') {
			at = skip_comment(at, end);
			continue;
		}
		if (c == '.' && ++parts > SOURCE_KEY_PARTS)
			return refuse(error, text, at, "a key of more than %d parts", SOURCE_KEY_PARTS);
		if (c == '\n' || c == '=' || c == ',' || c == '{' || c == '[')
			parts = 1;
		at++;
	}
	return true;
}

bool source_check(const char *text, size_t length, struct toml_error *error)
{
	return check_utf8(text, length, error) && check_keys(text, length, error);
}
