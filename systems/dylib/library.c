#include "dylib.h"

#include <connpipe/log.h>

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct library {
	char *path; /* of the file that was copied: for logs */
	int fd;     /* the copy */
	struct place place;
	void *handle;
	const struct cp_dylib *dylib;
};

/* ---- Whether it fits ---------------------------------------------------------------------------------------- */

static int check_sizes(const struct cp_dylib *dylib, struct cp_error *error)
{
	static const struct {
		const char *name;
		uint32_t size;
	} here[] = {
#define SHARED_STRUCT(name) {#name, sizeof(struct name)},
		CP_SHARED_STRUCTS(SHARED_STRUCT)
#undef SHARED_STRUCT
	};
	for (uint32_t i = 0; i < CP_SHARED_STRUCT_COUNT; i++)
		if (dylib->sizes[i] != here[i].size)
			return cp_error_set(error, CP_EINVAL, NULL,
								"its struct %s has %u bytes, this program's has %u, though both say version %u of the "
								"interface: build it with the headers of this program",
								here[i].name, dylib->sizes[i], here[i].size, CP_ABI_VERSION);
	return CP_OK;
}

/** The version comes first: nothing else of another one means anything here. */
static int check_interface(const struct cp_dylib *dylib, struct cp_error *error)
{
	if (dylib->abi != CP_ABI_VERSION)
		return cp_error_set(error, CP_EINVAL, NULL,
							"it was built for version %u of the interface, this program has version %u", dylib->abi,
							CP_ABI_VERSION);
	if (dylib->size != sizeof(*dylib))
		return cp_error_set(error, CP_EINVAL, NULL,
							"its struct cp_dylib has %u bytes, this program's has %zu, though both say version %u of "
							"the interface: build it with the headers of this program",
							dylib->size, sizeof(*dylib), CP_ABI_VERSION);
	if (!dylib->system)
		return cp_error_set(error, CP_EINVAL, NULL, "its `" CP_DYLIB_SYMBOL "` names no system");
	return check_sizes(dylib, error);
}

/* ---- Opening ------------------------------------------------------------------------------------------------ */

/** What the dynamic linker said, without the copy's name, which nobody knows. */
static int linker_error(const struct library *library, struct cp_error *error)
{
	const char *words = dlerror();
	size_t length = strlen(library->place.name);
	if (!words)
		words = "the dynamic linker does not say why";
	else if (strncmp(words, library->place.name, length) == 0 && strncmp(words + length, ": ", 2) == 0)
		words += length + 2;
	return cp_error_set(error, CP_EINVAL, NULL, "%s", words);
}

/** Make the copy and its name. */
static int prepare(struct library *library, struct cp_error *error)
{
	struct bytes bytes;
	library->fd = copy_file(library->path, error);
	if (library->fd < 0 || !bytes_map(library->fd, &bytes, error))
		return error->code;
	int result = elf_check(&bytes, error);
	/* dladdr() is how a library asks for its own name at run time. */
	bool origin =
		bytes_contain(&bytes, "$ORIGIN") || bytes_contain(&bytes, "${ORIGIN}") || bytes_contain(&bytes, "dladdr");
	bytes_unmap(&bytes);
	return result == CP_OK ? place_make(&library->place, library->path, library->fd, origin, error) : result;
}

/** RTLD_NOW: a symbol that is missing is an error now, not a crash later. RTLD_LOCAL: libraries do not see each
 * other's symbols. */
static int open_copy(struct library *library, struct cp_error *error)
{
	library->handle = dlopen(library->place.name, RTLD_NOW | RTLD_LOCAL);
	place_opened(&library->place);
	if (!library->handle)
		return linker_error(library, error);
	library->dylib = dlsym(library->handle, CP_DYLIB_SYMBOL);
	if (!library->dylib)
		return cp_error_set(error, CP_EINVAL, NULL,
							"it has no symbol `" CP_DYLIB_SYMBOL "`, which CP_SYSTEM_EXPORT makes");
	return check_interface(library->dylib, error);
}

struct library *library_open(const char *path, struct cp_error *error)
{
	struct library *library = calloc(1, sizeof(*library));
	if (library)
		library->fd = -1;
	if (!library || !(library->path = strdup(path))) {
		free(library);
		cp_error_set(error, CP_ENOMEM, NULL, "%s", cp_err_text(CP_ENOMEM));
		return NULL;
	}
	if (prepare(library, error) == CP_OK && open_copy(library, error) == CP_OK)
		return library;
	library_close(library);
	return NULL;
}

const struct cp_dylib *library_dylib(const struct library *library)
{
	return library->dylib;
}

/* ---- Closing ------------------------------------------------------------------------------------------------ */

/** dlclose() says nothing about it: code linked with `-z nodelete`, unique symbols of C++ templates and thread-local
 * objects that are still to be destroyed keep a library where it is. */
static bool is_mapped(const struct library *library)
{
	void *handle = dlopen(library->place.name, RTLD_LAZY | RTLD_NOLOAD);
	if (handle)
		dlclose(handle);
	return handle != NULL;
}

void library_close(struct library *library)
{
	bool stays = false;
	if (library->handle) {
		dlclose(library->handle);
		stays = is_mapped(library);
	}
	if (stays)
		cp_log(CP_WARN, "dylib",
			   "%s cannot be unmapped (-z nodelete, unique symbols or thread-local destructors): this copy stays in "
			   "memory, and so will one for each reload",
			   library->path);
	else if (library->fd >= 0)
		close(library->fd); /* else it holds the copy's name, which must not come to mean another */
	place_free(&library->place);
	free(library->path);
	free(library);
}
