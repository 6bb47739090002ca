/* One reading of the configuration: its directory, its files, its systems. See config.h. */
#include "document.h"
#include "source.h"
#include "../base/memory.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAIN_FILE "config.toml"
#define PROCESS_TABLE "connpipe"

/* What the platform's files of code end in. */
#if defined(__APPLE__)
#define DYLIB_ENDING ".dylib"
#elif defined(_WIN32) || defined(__CYGWIN__)
#define DYLIB_ENDING ".dll"
#else
#define DYLIB_ENDING ".so"
#endif
#if defined(_WIN32) || defined(__CYGWIN__)
#define EXE_ENDING ".exe"
#else
#define EXE_ENDING ""
#endif

/* ---- Paths -------------------------------------------------------------------------------------------------- */

static const char *join(struct cp_arena *arena, const char *directory, const char *path)
{
	if (path[0] == '/')
		return path;
	const char *slash = directory[strlen(directory) - 1] == '/' ? "" : "/";
	return cp_arena_printf(arena, "%s%s%s", directory, slash, path);
}

/* `path` without slashes at its end; "." for nothing. */
static const char *trim_directory(struct cp_arena *arena, const char *path)
{
	size_t length = strlen(path);
	while (length > 1 && path[length - 1] == '/')
		length--;
	return length ? cp_arena_strndup(arena, path, length) : ".";
}

/* Symbolic links stay: who replaces one means the new directory at the next reload. */
static const char *make_absolute(struct cp_arena *arena, const char *directory)
{
	if (directory[0] == '/')
		return directory;
	char *current = getcwd(NULL, 0);
	if (!current) /* the working directory was removed: relative names are as good as any */
		return directory;
	while (strncmp(directory, "./", 2) == 0)
		directory += 2;
	bool here = strcmp(directory, ".") == 0 || directory[0] == '\0';
	const char *result = here ? cp_arena_strdup(arena, current) : join(arena, current, directory);
	free(current);
	return result;
}

/* The ending that the platform has for the placeholder at `at`. @return NULL if there is none */
static const char *ending_at(const char *at, size_t *length)
{
	static const struct {
		const char *name, *ending;
	} endings[] = {{"{dylib}", DYLIB_ENDING}, {"{exe}", EXE_ENDING}};
	for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
		*length = strlen(endings[i].name);
		if (strncmp(at, endings[i].name, *length) == 0)
			return endings[i].ending;
	}
	return NULL;
}

static const char *replace_endings(struct cp_arena *arena, const char *path)
{
	/* No ending is longer than the name that stands for it. */
	char *result = cp_arena_alloc(arena, strlen(path) + 1), *end = result;
	while (*path) {
		size_t length;
		const char *ending = ending_at(path, &length);
		if (ending) {
			end = stpcpy(end, ending);
			path += length;
		} else {
			*end++ = *path++;
		}
	}
	*end = '\0';
	return result;
}

char *cp_settings_path(const struct cp_settings *settings, const char *path)
{
	const struct config *config = settings->document->config;
	return xstrdup(join(config->arena, config->directory, replace_endings(config->arena, path)));
}

/* ---- Files -------------------------------------------------------------------------------------------------- */

static struct document *parse_source(struct config *config, const char *name, struct source *source)
{
	struct document *document = document_parse(config, name, source->text, source->length);
	source_deinit(source);
	return document;
}

const struct cp_settings *cp_settings_open(const struct cp_settings *settings, const char *path)
{
	struct config *config = settings->document->config;
	if (path[0] == '\0') {
		cp_settings_error(settings, "expected the path of a file, found an empty one");
		return NULL;
	}
	path = replace_endings(config->arena, path);
	const char *name = join(config->arena, config->given, path);
	struct source source;
	struct cp_error error;
	if (source_read(join(config->arena, config->directory, path), &source, &error) != CP_OK) {
		cp_settings_error(settings, "%s %s", name, error.message);
		return NULL;
	}
	struct document *document = parse_source(config, name, &source);
	return document ? &document->root : NULL;
}

static struct document *read_main_file(struct config *config)
{
	const char *name = join(config->arena, config->given, MAIN_FILE);
	struct source source;
	struct cp_error error;
	if (source_read(join(config->arena, config->directory, MAIN_FILE), &source, &error) == CP_OK)
		return parse_source(config, name, &source);
	const char *hint = error.code == CP_ENOTFOUND ? "; name the configuration directory with --config DIR" : "";
	report_add(config->report, name, "%s%s", error.message, hint);
	return NULL;
}

/* ---- The configuration -------------------------------------------------------------------------------------- */

static struct config *config_new(const char *directory, struct report *report)
{
	struct config *config = xcalloc(1, sizeof *config);
	config->report = report;
	config->arena = cp_arena_new(0);
	config->given = trim_directory(config->arena, directory);
	config->directory = make_absolute(config->arena, config->given);
	return config;
}

/* Everything but the process's own table is a system, and a system is a table. */
static void collect_systems(struct config *config, const struct cp_settings *root)
{
	size_t count = cp_settings_count(root);
	config->systems = cp_arena_alloc(config->arena, (count + 1) * sizeof(struct cp_settings *));
	for (size_t i = 0; i < count; i++) {
		const struct cp_settings *member = cp_settings_at(root, i);
		if (strcmp(cp_settings_key(member), PROCESS_TABLE) == 0)
			continue;
		if (cp_settings_want(member, CP_SETTINGS_TABLE))
			config->systems[config->system_count++] = member;
	}
}

struct config *config_read(const char *directory, const char *text, const char *name, struct report *report)
{
	struct config *config = config_new(directory, report);
	struct document *document = text ? document_parse(config, name, text, strlen(text)) : read_main_file(config);
	if (!document) {
		config_free(config);
		return NULL;
	}
	config->root = &document->root;
	collect_systems(config, config->root);
	return config;
}

void config_free(struct config *config)
{
	if (!config)
		return;
	document_free_all(config);
	cp_arena_free(config->arena);
	free(config);
}

const char *config_directory(const struct config *config)
{
	return config->directory;
}

const struct cp_settings *config_root(const struct config *config)
{
	return config->root;
}

const struct cp_settings *config_system(const struct config *config, size_t index)
{
	return index < config->system_count ? config->systems[index] : NULL;
}
