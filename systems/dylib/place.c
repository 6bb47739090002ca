/* The dynamic linker takes for `$ORIGIN` the directory in the name by which a library is opened. So a library that asks
 * for it is opened by a name in the original's directory: a symbolic link to the copy, gone as soon as it is open.
 * Where that directory cannot be written, a shadow of it is made: a directory of links to all that lies beside the
 * original, in a directory of links to all that lies beside that (for `$ORIGIN/../lib`). It stays as long as the
 * library.
 *
 * A library that does not ask is opened by its descriptor's name, and nothing is written anywhere. */
#include "dylib.h"

#include <connpipe/log.h>

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINK_TRIES = 100 };

/** `format` filled in, or an error. */
static char *CP_PRINTF(2, 3) print(struct cp_error *error, const char *format, ...)
{
	char *text;
	va_list arguments;
	va_start(arguments, format);
	int length = vasprintf(&text, format, arguments);
	va_end(arguments);
	if (length >= 0)
		return text;
	cp_error_set(error, CP_ENOMEM, NULL, "%s", cp_err_text(CP_ENOMEM));
	return NULL;
}

/** With the process's number, so that debuggers and profilers find it too. */
static char *name_of_descriptor(int fd, struct cp_error *error)
{
	return print(error, "/proc/%d/fd/%d", (int)getpid(), fd);
}

/* ---- Beside the original ------------------------------------------------------------------------------------ */

/** @return CP_OK; CP_AGAIN: nothing can be made in that directory; else an error */
static int link_beside(struct place *place, const char *path, int fd, const char *copy, struct cp_error *error)
{
	const char *base = strrchr(path, '/') + 1;
	for (int i = 0; i < LINK_TRIES; i++) {
		char *name = print(error, "%.*s.%s.%d.%d.%d", (int)(base - path), path, base, (int)getpid(), fd, i);
		if (!name)
			return CP_ENOMEM;
		if (symlink(copy, name) == 0) {
			place->name = name;
			place->temporary = true;
			return CP_OK;
		}
		free(name);
		if (errno != EEXIST)
			return CP_AGAIN;
	}
	return CP_AGAIN;
}

/* ---- In a shadow of its directory --------------------------------------------------------------------------- */

static bool is_self_or_parent(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/** Link everything in the directory `from`, except `except`, into the directory `to`. */
static int link_all(const char *from, const char *except, const char *to, struct cp_error *error)
{
	DIR *directory = opendir(from);
	int result = CP_OK;
	if (!directory) /* it may be searched, but not listed: then nothing beside the library can be found */
		return CP_OK;
	for (struct dirent *entry; result == CP_OK && (entry = readdir(directory));) {
		if (is_self_or_parent(entry->d_name) || strcmp(entry->d_name, except) == 0)
			continue;
		char *target = print(error, "%s/%s", from, entry->d_name), *name = print(error, "%s/%s", to, entry->d_name);
		if (!target || !name || symlink(target, name) < 0)
			result = cp_error_set(error, CP_EIO, NULL, "cannot make a link in %s: %s", to, strerror(errno));
		free(target);
		free(name);
	}
	closedir(directory);
	return result;
}

/** A new directory, where services keep what lives as long as they do. */
static char *make_directory(struct cp_error *error)
{
	const char *top = getenv("RUNTIME_DIRECTORY");
	if (!top)
		top = getenv("TMPDIR");
	char *path = print(error, "%s/connpipe-dylib-XXXXXX", top ? top : "/tmp");
	if (path && mkdtemp(path))
		return path;
	if (path)
		cp_error_set(error, cp_err_from_errno(errno), NULL, "cannot make the directory %s: %s", path, strerror(errno));
	free(path);
	return NULL;
}

/** `path` without its last part; "/" at the least. @param base  the last part */
static char *split(const char *path, const char **base, struct cp_error *error)
{
	const char *slash = strrchr(path, '/');
	*base = slash + 1;
	return print(error, "%.*s", slash == path ? 1 : (int)(slash - path), path);
}

static int fill_shadow(struct place *place, const char *directory, const char *base, const char *copy,
					   struct cp_error *error)
{
	const char *last;
	char *parent = split(directory, &last, error);
	char *inner = print(error, "%s/%s", place->shadow, *last ? last : "root");
	place->name = inner ? print(error, "%s/%s", inner, base) : NULL;
	int result = CP_ENOMEM;
	if (!parent || !place->name)
		goto out;
	if (mkdir(inner, 0700) < 0 || symlink(copy, place->name) < 0) {
		result = cp_error_set(error, CP_EIO, NULL, "cannot fill %s: %s", inner, strerror(errno));
		goto out;
	}
	result = link_all(directory, base, inner, error);
	if (result == CP_OK && *last)
		result = link_all(parent, last, place->shadow, error);
out:
	free(inner);
	free(parent);
	return result;
}

static int make_shadow(struct place *place, const char *path, const char *copy, struct cp_error *error)
{
	const char *base;
	char *directory = split(path, &base, error);
	int result = CP_ENOMEM;
	if (directory && (place->shadow = make_directory(error)))
		result = fill_shadow(place, directory, base, copy, error);
	else if (directory)
		result = error->code;
	if (result == CP_OK)
		cp_log(CP_DEBUG, "dylib", "%s: its directory cannot be written, %s stands for it", path, place->shadow);
	free(directory);
	return result;
}

static void remove_entries(const char *path)
{
	DIR *directory = opendir(path);
	if (!directory)
		return;
	for (struct dirent *entry; (entry = readdir(directory));)
		if (!is_self_or_parent(entry->d_name))
			unlinkat(dirfd(directory), entry->d_name, 0); /* fails on the one that is a directory */
	closedir(directory);
}

/** The directory that the library's name is in, then the one around it. */
static void remove_shadow(struct place *place)
{
	char *end = place->name ? strrchr(place->name, '/') : NULL;
	if (end) {
		*end = '\0';
		remove_entries(place->name);
		rmdir(place->name);
	}
	remove_entries(place->shadow);
	rmdir(place->shadow);
}

/* ---- All together ------------------------------------------------------------------------------------------- */

int place_make(struct place *place, const char *path, int fd, bool origin, struct cp_error *error)
{
	*place = (struct place){0};
	char *copy = name_of_descriptor(fd, error);
	if (!copy)
		return CP_ENOMEM;
	if (!origin) {
		place->name = copy;
		return CP_OK;
	}
	int result = link_beside(place, path, fd, copy, error);
	if (result == CP_AGAIN)
		result = make_shadow(place, path, copy, error);
	free(copy);
	return result;
}

void place_opened(struct place *place)
{
	if (place->temporary)
		unlink(place->name);
	place->temporary = false;
}

void place_free(struct place *place)
{
	if (place->temporary)
		unlink(place->name);
	if (place->shadow)
		remove_shadow(place);
	free(place->shadow);
	free(place->name);
	*place = (struct place){0};
}
