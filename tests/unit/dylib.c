#include "base/report.h"
#include "system/generation.h"

#include <connpipe/connpipe.h>

#include <criterion/criterion.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Libraries of tests/dylib, loaded by generations without a main task: what is unloaded is gone at once. DYLIBS is the
 * directory where the build puts them. */

static char notes[1024];
static char directory[64];
static struct report report;

/** What happens to a library, told by itself. */
CP_API void counting_note(const char *what);
void counting_note(const char *what)
{
	size_t length = strlen(notes);
	snprintf(notes + length, sizeof(notes) - length, "%s%s", length ? ", " : "", what);
}

static void setup(void)
{
	strcpy(directory, "/tmp/connpipe-unit-XXXXXX");
	cr_assert(mkdtemp(directory));
	cr_assert_eq(chmod(directory, 0755), 0);
}

static void teardown(void)
{
	char command[128];
	report_deinit(&report);
	snprintf(command, sizeof(command), "rm -rf '%s'", directory);
	cr_assert_eq(system(command), 0);
}

TestSuite(dylib, .init = setup, .fini = teardown);

/** A file of the test's directory, good until the next but one. */
static const char *in_directory(const char *name)
{
	static char paths[2][128];
	static unsigned next;
	char *path = paths[next++ % 2];
	snprintf(path, sizeof(paths[0]), "%s/%s", directory, name);
	return path;
}

static size_t read_file(const char *path, char **bytes)
{
	FILE *file = fopen(path, "rb");
	cr_assert(file, "%s", path);
	fseek(file, 0, SEEK_END);
	size_t size = (size_t)ftell(file);
	rewind(file);
	*bytes = malloc(size);
	cr_assert_eq(fread(*bytes, 1, size, file), size);
	fclose(file);
	return size;
}

static void write_file(const char *path, const char *bytes, size_t size)
{
	FILE *file = fopen(path, "wb");
	cr_assert(file);
	cr_assert_eq(fwrite(bytes, 1, size, file), size);
	fclose(file);
}

static void copy(const char *from, const char *name)
{
	char *bytes;
	size_t size = read_file(from, &bytes);
	write_file(in_directory(name), bytes, size);
	free(bytes);
}

/** Load a configuration. @return whether it was right; then it is unloaded again by unload() */
static struct plan *plan;
static struct generation *generation;

static bool load(const char *text)
{
	struct generation_source source = {.directory = directory, .text = text, .name = "t.toml", .mode = GENERATION_RUN};
	generation = generation_load(1, &source, &report, &plan);
	return generation != NULL;
}

static void unload(void)
{
	plan_unref(plan);
}

/** One system [a] of the library at `path`, with more settings. */
static bool load_library(const char *path, const char *more)
{
	char text[1024];
	snprintf(text, sizeof(text), "[a]\ntype = 'dylib'\npath = '%s'\n%s\n", path, more);
	return load(text);
}

static bool has_error(const char *where, const char *words)
{
	for (size_t i = 0; i < report.count; i++)
		if (strstr(report.entries[i].where, where) && strstr(report.entries[i].message, words))
			return true;
	for (size_t i = 0; i < report.count; i++)
		fprintf(stderr, "%s: %s\n", report.entries[i].where, report.entries[i].message);
	return false;
}

/* ---- Life --------------------------------------------------------------------------------------------------- */

Test(dylib, is_mapped_loaded_unloaded_unmapped)
{
	cr_assert(load_library(DYLIBS "/libcounting1.so", ""), "%s", report.count ? report.entries[0].message : "");
	cr_assert_str_eq(notes, "mapped, load");
	unload();
	cr_assert_str_eq(notes, "mapped, load, unload, unmapped");
}

Test(dylib, each_system_has_a_copy_of_its_own_and_they_go_in_reverse_order)
{
	copy(DYLIBS "/libcounting1.so", "x.so");
	cr_assert(load("[a]\ntype = 'dylib'\npath = 'x.so'\n[b]\ntype = 'dylib'\npath = 'x.so'\n"));
	unload();
	cr_assert_str_eq(notes, "mapped, load, mapped, load, unload, unmapped, unload, unmapped");
}

Test(dylib, file_may_be_overwritten_while_it_is_loaded)
{
	copy(DYLIBS "/libcounting1.so", "x.so");
	cr_assert(load_library("x.so", "to = 'echo:'"));
	int fd = open(in_directory("x.so"), O_WRONLY | O_TRUNC);
	cr_assert_eq(write(fd, "gone", 4), 4);
	close(fd);
	unload();
	cr_assert_str_eq(notes, "mapped, load, unload, unmapped");
}

Test(dylib, file_name_may_have_the_ending_of_the_platform)
{
	copy(DYLIBS "/libcounting1.so", "x.so");
	cr_assert(load_library("x{dylib}", ""));
	unload();
}

Test(dylib, fifty_loads_leave_no_descriptor)
{
	int before = dup(0);
	close(before);
	for (int i = 0; i < 50; i++) {
		notes[0] = '\0';
		cr_assert(load_library(DYLIBS "/libcounting1.so", ""));
		unload();
		cr_assert_str_eq(notes, "mapped, load, unload, unmapped");
	}
	int after = dup(0);
	close(after);
	cr_assert_eq(before, after);
}

Test(dylib, one_that_cannot_be_unmapped_stays)
{
	cr_assert(load_library(DYLIBS "/libodd_nodelete.so", ""));
	unload();
	cr_assert_str_eq(notes, "");
	cr_assert(load_library(DYLIBS "/libodd_nodelete.so", ""), "its name must not stand in the way of another copy");
	unload();
}

/* ---- $ORIGIN ------------------------------------------------------------------------------------------------ */

Test(dylib, origin_is_the_directory_of_the_file)
{
	copy(DYLIBS "/libodd_origin.so", "x.so");
	copy(DYLIBS "/libneighbour.so", "libneighbour.so");
	cr_assert(load_library("x.so", ""), "%s", report.count ? report.entries[0].message : "");
	cr_assert_str_eq(notes, "neighbour found");
	unload();
	char command[128];
	snprintf(command, sizeof(command), "test \"$(ls -A '%s' | wc -l)\" = 2", directory);
	cr_assert_eq(system(command), 0, "something was left in the directory");
}

Test(dylib, origin_where_the_directory_cannot_be_written)
{
	char top[96], command[128];
	snprintf(top, sizeof(top), "%s/tmp", directory);
	cr_assert_eq(mkdir(top, 0777), 0);
	cr_assert_eq(chmod(top, 0777), 0);
	cr_assert_eq(mkdir(in_directory("lib"), 0755), 0);
	copy(DYLIBS "/libodd_origin.so", "lib/x.so");
	copy(DYLIBS "/libneighbour.so", "lib/libneighbour.so");
	setenv("TMPDIR", top, 1);
	unsetenv("RUNTIME_DIRECTORY");
	cr_assert_eq(chmod(in_directory("lib"), 0555), 0);
	if (geteuid() == 0)
		cr_assert_eq(seteuid(65534), 0);
	bool loaded = load_library("lib/x.so", "");
	cr_expect(loaded, "%s", report.count ? report.entries[0].message : "");
	if (loaded)
		unload();
	if (getuid() == 0)
		cr_assert_eq(seteuid(0), 0);
	cr_assert_eq(chmod(in_directory("lib"), 0755), 0);
	cr_assert_str_eq(notes, "neighbour found, unmapped");
	snprintf(command, sizeof(command), "test -z \"$(ls -A '%s')\"", top);
	cr_assert_eq(system(command), 0, "the shadow was left behind");
}

/* ---- Errors ------------------------------------------------------------------------------------------------- */

#define REFUSED(library, words)                          \
	cr_assert_not(load_library(DYLIBS "/" library, "")); \
	cr_assert(has_error("t.toml:3:", words));            \
	cr_assert_not(strstr(notes, "load"))

Test(dylib, path_is_missing)
{
	cr_assert_not(load("[a]\ntype = 'dylib'\n"));
	cr_assert(has_error("t.toml:1:", "expected `path`"));
}

Test(dylib, file_is_missing)
{
	REFUSED("libnowhere.so", "libnowhere.so: open: No such file or directory");
}

Test(dylib, file_is_a_directory)
{
	REFUSED("", "it is a directory");
}

Test(dylib, file_is_a_fifo)
{
	cr_assert_eq(mkfifo(in_directory("x.so"), 0600), 0);
	cr_assert_not(load_library("x.so", ""));
	cr_assert(has_error("t.toml:3:", "not a regular file"));
}

Test(dylib, file_is_no_library)
{
	write_file(in_directory("x.so"), "#!/bin/sh\n", 10);
	cr_assert_not(load_library("x.so", ""));
	cr_assert(has_error("t.toml:3:", "x.so: it is no shared library"));
	write_file(in_directory("x.so"), "", 0);
	cr_assert_not(load_library("x.so", ""));
}

Test(dylib, file_is_for_another_processor)
{
	char *bytes;
	size_t size = read_file(DYLIBS "/libcounting1.so", &bytes);
	bytes[18] = (char)(bytes[18] + 1); /* e_machine */
	write_file(in_directory("x.so"), bytes, size);
	free(bytes);
	cr_assert_not(load_library("x.so", ""));
	cr_assert(has_error("t.toml:3:", "another processor"));
}

/** Where the part that is mapped ends; what is behind (names for debuggers) is not needed. */
static size_t mapped_end(const char *bytes)
{
	const ElfW(Ehdr) *header = (const ElfW(Ehdr) *)bytes;
	const ElfW(Phdr) *segments = (const ElfW(Phdr) *)(bytes + header->e_phoff);
	size_t end = 0;
	for (unsigned i = 0; i < header->e_phnum; i++)
		if (segments[i].p_offset + segments[i].p_filesz > end)
			end = segments[i].p_offset + segments[i].p_filesz;
	return end;
}

Test(dylib, cut_off_files_are_refused_wherever_they_end)
{
	char *bytes;
	read_file(DYLIBS "/libcounting1.so", &bytes);
	size_t whole = mapped_end(bytes);
	for (size_t end = 0; end < whole; end += end < 2000 ? 61 : 997) {
		write_file(in_directory("x.so"), bytes, end);
		cr_assert_not(load_library("x.so", ""), "loaded with %zu of %zu bytes", end, whole);
	}
	free(bytes);
	cr_assert_str_eq(notes, "");
}

Test(dylib, symbol_is_missing)
{
	REFUSED("libodd_symbol.so", "no symbol `connpipe_system`");
	cr_assert_str_eq(notes, "unmapped");
}

Test(dylib, function_is_undefined)
{
	REFUSED("libodd_undefined.so", "libodd_undefined.so: undefined symbol: nobody_has_this");
}

Test(dylib, version_differs)
{
	REFUSED("libodd_version.so", "built for version 999 of the interface, this program has version 1");
	cr_assert_str_eq(notes, "unmapped");
}

Test(dylib, size_of_a_structure_differs)
{
	char words[128];
	snprintf(words, sizeof(words), "its struct cp_open has %zu bytes, this program's has %zu,",
			 sizeof(struct cp_open) + 8, sizeof(struct cp_open));
	REFUSED("libodd_size.so", words);
	cr_assert_str_eq(notes, "unmapped");
}

Test(dylib, definition_is_too_small)
{
	cr_assert_not(load_library(DYLIBS "/libodd_definition.so", ""));
	cr_assert(has_error("t.toml:1:", "its definition has 8 bytes"));
	cr_assert_str_eq(notes, "unmapped");
}

Test(dylib, load_fails_and_all_is_undone)
{
	cr_assert_not(load_library(DYLIBS "/libcounting1.so", "fail = true"));
	cr_assert(has_error("t.toml:1:", "loading failed"));
	cr_assert_str_eq(notes, "mapped, load, unload, unmapped");
}

Test(dylib, settings_are_passed_through_and_unknown_ones_reported)
{
	cr_assert_not(load_library(DYLIBS "/libcounting1.so", "colour = 'red'"));
	cr_assert(has_error("t.toml:4:1", "colour"));
	cr_assert_str_eq(notes, "mapped, load, unload, unmapped");
}

Test(dylib, two_systems_of_one_id)
{
	cr_assert_not(load("[a]\ntype = 'dylib'\npath = '" DYLIBS "/libcounting1.so'\nchild = 'b'\n"
					   "[b]\ntype = 'dylib'\npath = '" DYLIBS "/libcounting2.so'\n"));
	cr_assert(has_error("t.toml:5:", "the id is taken by another system (registered by \"a\""));
	cr_assert_str_eq(notes, "mapped, load, unload, unmapped");
}
