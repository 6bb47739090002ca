#include "dylib.h"

#include <stdlib.h>

static void on_gone(void *library)
{
	library_close(library);
}

/** The file that the settings name. @return NULL after an error was reported; free() */
static char *read_path(struct cp_system *self, const struct cp_settings *settings, const struct cp_settings **where)
{
	const char *text;
	if (!settings) {
		cp_system_error(self, "a dylib needs settings: `path`, the file of a shared library");
		return NULL;
	}
	*where = cp_settings_get(settings, "path");
	if (!*where) {
		cp_settings_error(settings, "expected `path`, the file of a shared library");
		return NULL;
	}
	return cp_settings_string(*where, &text, NULL) ? cp_settings_path(*where, text) : NULL;
}

/** From here on the system is what the library says. It reads the same settings, where `path` is known already. */
static int dylib_load(struct cp_system *self, const struct cp_settings *settings)
{
	const struct cp_settings *where;
	struct cp_error error = {.code = CP_OK};
	char *path = read_path(self, settings, &where);
	if (!path)
		return CP_EINVAL;
	struct library *library = library_open(path, &error);
	if (!library)
		cp_settings_error(where, "cannot load %s: %s", path, error.message);
	free(path);
	return library ? cp_system_become(self, library_dylib(library)->system, settings, on_gone, library)
				   : (int)error.code;
}

static const struct cp_system_def dylib_system = {
	.abi = CP_ABI_VERSION,
	.size = sizeof(struct cp_system_def),
	.load = dylib_load,
};

static int type_load(struct cp_system *self, const struct cp_settings *settings)
{
	(void)settings;
	return cp_register_type(self, "dylib", &dylib_system);
}

const struct cp_system_def dylib_type_system = {
	.abi = CP_ABI_VERSION,
	.size = sizeof(struct cp_system_def),
	.id = "1e1001.connpipe.dylib",
	.load = type_load,
};
