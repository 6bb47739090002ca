/** The type `dylib`: systems in shared libraries. See README.md for what users see.
 *
 *     dylib.c    the type, and a system's way from its settings to its library
 *     library.c  opening a library and closing it
 *     copy.c     the private copy that is opened instead of the file
 *     place.c    the name by which the copy is opened, so that `$ORIGIN` is where the file is
 *     elf.c      what is checked before the dynamic linker touches the copy
 *
 * Thread: main task, all of it. */
#ifndef DYLIB_DYLIB_H
#define DYLIB_DYLIB_H

#include <connpipe/error.h>
#include <connpipe/system.h>

#include <stdbool.h>
#include <stddef.h>

/** Registers the type; compiled in. */
extern const struct cp_system_def dylib_type_system;

/* ---- library.c ---------------------------------------------------------------------------------------------- */

struct library;

/** Open a private copy of the file at `path`: its constructors run, nothing else of it.
 * @return NULL with `error` filled, and nothing of it is left */
struct library *library_open(const char *path, struct cp_error *error);
/** What it says about itself; fits this program. */
const struct cp_dylib *library_dylib(const struct library *library);
/** Close it. One that the dynamic linker does not unmap stays, and a line in the log says so. */
void library_close(struct library *library);

/* ---- copy.c ------------------------------------------------------------------------------------------------- */

/** Copy the file at `path` into a file in memory that nobody can change.
 * @return its descriptor, or -1 with `error` filled */
int copy_file(const char *path, struct cp_error *error);

/** The bytes of a copy, for reading. */
struct bytes {
	const char *at;
	size_t size;
};
bool bytes_map(int fd, struct bytes *bytes, struct cp_error *error);
void bytes_unmap(struct bytes *bytes);
/** Whether `text` stands somewhere among them. */
bool bytes_contain(const struct bytes *bytes, const char *text);

/* ---- elf.c -------------------------------------------------------------------------------------------------- */

/** Whether the bytes are a whole shared library for this machine. Looks at what would make the dynamic linker crash, or
 * say something that helps nobody. @return CP_OK, or CP_EINVAL with `error` filled */
int elf_check(const struct bytes *bytes, struct cp_error *error);

/* ---- place.c ------------------------------------------------------------------------------------------------ */

/** The name of a copy. The dynamic linker takes two files of one name for the same library, so no two copies that are
 * loaded may share a name: every name has the copy's descriptor in it, which therefore stays open as long. */
struct place {
	char *name;
	char *shadow;   /* directory made for it, or NULL */
	bool temporary; /* the name is a link beside the original, needed only for opening */
};

/** Name the copy `fd` of the file at `path`. @param origin  whether the library asks for its directory
 * @return CP_OK, or an error with `error` filled */
int place_make(struct place *place, const char *path, int fd, bool origin, struct cp_error *error);
/** The copy is open, or could not be opened. */
void place_opened(struct place *place);
/** Remove and free everything. Allowed on one that is all zero. */
void place_free(struct place *place);

#endif
