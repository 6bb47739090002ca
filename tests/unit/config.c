/* Configuration: files, tables, arrays, places, unknown keys, order. */
#include "config_fixture.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* Join the keys of a table in the order of cp_settings_at(). */
static void keys_of(const struct cp_settings *table, char *buffer, size_t room)
{
	size_t used = 0;
	buffer[0] = '\0';
	for (size_t i = 0; i < cp_settings_count(table); i++)
		used += (size_t)snprintf(buffer + used, room - used, "%s ", cp_settings_key(cp_settings_at(table, i)));
}

/* A directory of its own, which the test's process leaves as its working directory. */
static void enter_directory(char *path)
{
	strcpy(path, "/tmp/connpipe-config-XXXXXX");
	cr_assert_not_null(mkdtemp(path));
	cr_assert_eq(chdir(path), 0);
}

static void write_file(const char *path, const char *text, size_t length)
{
	FILE *file = fopen(path, "w");
	cr_assert_not_null(file);
	cr_assert_eq(fwrite(text, 1, length, file), length);
	cr_assert_eq(fclose(file), 0);
}

static void remove_directory(const char *path, const char *const *files)
{
	for (; *files; files++)
		remove(*files);
	cr_assert_eq(rmdir(path), 0);
}

/* ---- Tables and arrays -------------------------------------------------------------------------------------- */

Test(config, members_come_in_the_order_of_the_file)
{
	struct fixture f;
	char keys[64];
	fixture_read(&f, "[z]\nb = 1\n\"a b\" = 2\n9 = 3\nB = 4\n[a]\n[m]\n[z.sub]\n[a.x]\n");
	keys_of(f.root, keys, sizeof keys);
	cr_assert_str_eq(keys, "z a m ");
	keys_of(fixture_get(&f, "z"), keys, sizeof keys);
	cr_assert_str_eq(keys, "b a b 9 B sub ");
	EXPECT_NO_ERRORS(&f);
	fixture_end(&f);
}

Test(config, get_and_at_give_the_same_handle)
{
	struct fixture f;
	fixture_read(&f, "[z]\nd = 1\nc = 2\na = 3\nb = 4\n");
	const struct cp_settings *table = fixture_get(&f, "z");
	for (size_t i = 0; i < 4; i++) {
		const struct cp_settings *member = cp_settings_at(table, i);
		cr_assert_eq(cp_settings_get(table, cp_settings_key(member)), member);
	}
	cr_assert_null(cp_settings_at(table, 4));
	cr_assert_null(cp_settings_get(table, "e"));
	cr_assert_null(cp_settings_get(table, ""));
	fixture_end(&f);
}

Test(config, dotted_inline_and_header_tables_are_alike)
{
	static const char *const texts[] = {"a.b.c = 1\n", "a = { b = { c = 1 } }\n", "[a.b]\nc = 1\n", "[a]\nb.c = 1\n",
										"a = { b.c = 1 }\n"};
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		struct fixture f;
		fixture_read(&f, texts[i]);
		const struct cp_settings *c = cp_settings_get(cp_settings_get(fixture_get(&f, "a"), "b"), "c");
		int64_t number = 0;
		cr_assert_not_null(c);
		cr_assert(cp_settings_integer(c, 0, 9, &number));
		cr_assert_eq(number, 1);
		EXPECT_NO_ERRORS(&f);
		fixture_end(&f);
	}
}

Test(config, arrays_keep_their_order_and_have_no_keys)
{
	struct fixture f;
	fixture_read(&f, "[t]\nlist = [ \"b\",\n  5, [ 1 ] ]\n[[t.tables]]\nx = 1\n[[t.tables]]\nx = 2\n");
	const struct cp_settings *list = cp_settings_get(fixture_get(&f, "t"), "list");
	cr_assert_eq(cp_settings_kind(list), CP_SETTINGS_ARRAY);
	cr_assert_eq(cp_settings_count(list), 3);
	cr_assert_eq(cp_settings_kind(cp_settings_at(list, 0)), CP_SETTINGS_STRING);
	cr_assert_eq(cp_settings_kind(cp_settings_at(list, 2)), CP_SETTINGS_ARRAY);
	cr_assert_str_eq(cp_settings_key(cp_settings_at(list, 1)), "");
	cr_assert_str_eq(cp_settings_where_key(cp_settings_at(list, 1)), "c.toml:3:3");
	cr_assert_null(cp_settings_at(list, 3));
	const struct cp_settings *tables = cp_settings_get(fixture_get(&f, "t"), "tables");
	cr_assert_eq(cp_settings_count(tables), 2);
	cr_assert_str_eq(cp_settings_where(cp_settings_at(tables, 1)), "c.toml:6:1");
	EXPECT_NO_ERRORS(&f);
	fixture_end(&f);
}

Test(config, what_has_no_members_has_none_of_any_name)
{
	struct fixture f;
	fixture_read(&f, "[t]\nnumber = 5\nempty = {}\nlist = []\n");
	const struct cp_settings *table = fixture_get(&f, "t");
	for (size_t i = 0; i < 3; i++) {
		const struct cp_settings *value = cp_settings_at(table, i);
		cr_assert_eq(cp_settings_count(value), 0);
		cr_assert_null(cp_settings_at(value, 0));
		cr_assert_null(cp_settings_get(value, "x"));
		cp_settings_finish(value);
	}
	EXPECT_NO_ERRORS(&f);
	fixture_end(&f);
}

Test(config, places_of_keys_and_values)
{
	struct fixture f;
	fixture_read(&f, "[ t ]\n  \"ключ\" = \"é\"\nb.c = { d = 1 }\n");
	const struct cp_settings *table = fixture_get(&f, "t");
	const struct cp_settings *value = cp_settings_get(table, "ключ");
	cr_assert_str_eq(cp_settings_where(table), "c.toml:1:1");
	cr_assert_str_eq(cp_settings_where_key(table), "c.toml:1:3");
	cr_assert_str_eq(cp_settings_where_key(value), "c.toml:2:3");
	cr_assert_str_eq(cp_settings_where(value), "c.toml:2:12");
	cr_assert_eq(cp_settings_where(value), cp_settings_where(value), "made once");
	value = cp_settings_get(cp_settings_get(table, "b"), "c");
	cr_assert_str_eq(cp_settings_where_key(value), "c.toml:3:3");
	cr_assert_str_eq(cp_settings_where(cp_settings_get(value, "d")), "c.toml:3:13");
	cr_assert_str_eq(cp_settings_where(f.root), "c.toml:1:1");
	cr_assert_str_eq(cp_settings_where_key(f.root), "c.toml:1:1");
	fixture_end(&f);
}

Test(config, errors_inside_a_string)
{
	struct fixture f;
	fixture_read(&f, "[t]\na = \"tcp:*4:x\"\nb = 'tcp:*4:x'\nc = \"\\\"cp:*4:x\"\nd = \"\"\"tcp:*4:x\"\"\"\n"
					 "e = \"жcp:x\"\nf = 5\ng = \"x\\n\\n\\n\\ny\"\n");
	const struct cp_settings *table = fixture_get(&f, "t");
	for (size_t i = 0; i < 7; i++)
		cp_settings_error_at(cp_settings_at(table, i), 7, "no %s", "port");
	cp_settings_error_at(cp_settings_get(table, "a"), 0, "start");
	cp_settings_error_at(cp_settings_get(table, "a"), 1000, "behind");
	EXPECT_ERRORS(&f, "c.toml:2:13: no port", "c.toml:3:13: no port", "c.toml:4:5: no port", "c.toml:5:5: no port",
				  "c.toml:6:11: no port", "c.toml:7:5: no port", "c.toml:8:5: no port", "c.toml:2:6: start",
				  "c.toml:2:14: behind");
	fixture_end(&f);
}

Test(config, errors_inside_a_key)
{
	struct fixture f;
	fixture_read(&f, "[t]\n\"tcp:*4:x\" = 1\n'tcp:*4:y' = 1\n\"\\\"cp:*4:x\" = 1\n  tcp-bare.\"a:b\" = [1]\n"
					 "\"жcp:x\"=5\n\"tcp:*4:\\u007a\"   = 1\n");
	const struct cp_settings *table = fixture_get(&f, "t");
	for (size_t i = 0; i < 6; i++)
		cp_settings_error_key(cp_settings_at(table, i), 7, "no %s", "port");
	const struct cp_settings *dotted = cp_settings_at(cp_settings_at(table, 3), 0);
	cp_settings_error_key(dotted, 2, "second part");
	cp_settings_error_key(cp_settings_at(dotted, 0), 2, "no key");
	cp_settings_error_key(cp_settings_at(table, 0), 0, "start");
	cp_settings_error_key(cp_settings_at(table, 0), 1000, "behind");
	EXPECT_ERRORS(&f, "c.toml:2:9: no port", "c.toml:3:9: no port", "c.toml:4:1: no port", "c.toml:5:10: no port",
				  "c.toml:6:7: no port", "c.toml:7:1: no port", "c.toml:5:15: second part", "c.toml:5:21: no key",
				  "c.toml:2:2: start", "c.toml:2:10: behind");
	fixture_end(&f);
}

/* ---- Unknown keys ------------------------------------------------------------------------------------------- */

Test(config, unknown_keys_are_reported_with_near_names)
{
	struct fixture f;
	int64_t number = 7;
	fixture_read(&f, "[t]\ntiemouts = 1\nknown = 2\n\"qu\\\"o\\nte\" = 3\nxyzzy.a = 4\n");
	const struct cp_settings *table = fixture_get(&f, "t");
	cr_assert(cp_settings_get_integer(table, "timeouts", 0, 9, &number));
	cr_assert_eq(number, 7, "left alone");
	cr_assert(cp_settings_get_integer(table, "known", 0, 9, &number));
	cp_settings_finish(table);
	EXPECT_ERRORS(&f, "c.toml:2:1: unknown key \"tiemouts\", did you mean \"timeouts\"?",
				  "c.toml:4:1: unknown key \"qu\\\"o\\nte\"", "c.toml:5:1: unknown key \"xyzzy\"");
	fixture_end(&f);
}

Test(config, walking_a_table_makes_its_keys_known)
{
	struct fixture f;
	fixture_read(&f, "[t]\na = 1\nb = 2\nc = 3\n");
	const struct cp_settings *table = fixture_get(&f, "t");
	cp_settings_at(table, 0);
	cp_settings_at(table, 2);
	cp_settings_finish(table);
	EXPECT_ERRORS(&f, "c.toml:3:1: unknown key \"b\"");
	fixture_end(&f);
}

Test(config, nobody_asked_for_anything)
{
	struct fixture f;
	fixture_read(&f, "[t]\na = 1\n");
	cp_settings_finish(fixture_get(&f, "t"));
	EXPECT_ERRORS(&f, "c.toml:2:1: unknown key \"a\"");
	fixture_end(&f);
}

Test(config, near_names_are_remembered_for_many_keys)
{
	struct fixture f;
	char key[32];
	fixture_read(&f, "[t]\nsetting-39x = 1\n");
	const struct cp_settings *table = fixture_get(&f, "t");
	for (int i = 0; i < 40; i++) {
		snprintf(key, sizeof key, "setting-%d", i);
		cp_settings_get(table, key);
	}
	for (int i = 0; i < 1000; i++) /* a table that is looked up in as data */
		cp_settings_get(table, "setting-0");
	cp_settings_finish(table);
	EXPECT_ERRORS(&f, "c.toml:2:1: unknown key \"setting-39x\", did you mean \"setting-39\"?");
	fixture_end(&f);
}

Test(config, keys_with_zero_bytes_are_refused)
{
	struct fixture f;
	fixture_read(&f, "[t]\n\"type\\u0000x\" = 1\n");
	const struct cp_settings *table = fixture_get(&f, "t");
	cr_assert_null(cp_settings_get(table, "type"));
	cp_settings_at(table, 0);
	EXPECT_ERRORS(&f, "c.toml:2:1: expected a key without zero bytes, found \"type\\u0000x\"");
	fixture_end(&f);
}

/* ---- Systems ------------------------------------------------------------------------------------------------ */

Test(config, systems_are_the_tables_but_one_in_the_order_of_the_file)
{
	struct fixture f;
	fixture_read(&f, "[zeta]\n[connpipe]\n[alpha.routes]\n[\"1e1001.x\"]\n");
	cr_assert_str_eq(cp_settings_key(config_system(f.config, 0)), "zeta");
	cr_assert_str_eq(cp_settings_key(config_system(f.config, 1)), "alpha");
	cr_assert_str_eq(cp_settings_key(config_system(f.config, 2)), "1e1001.x");
	cr_assert_null(config_system(f.config, 3));
	cr_assert_eq(config_system(f.config, 1), cp_settings_get(f.root, "alpha"));
	EXPECT_NO_ERRORS(&f);
	fixture_end(&f);
}

Test(config, systems_are_tables)
{
	struct fixture f;
	fixture_read(&f, "stray = 5\n[[list]]\n[front]\n");
	EXPECT_ERRORS(&f, "c.toml:1:9: expected a table, found the integer 5",
				  "c.toml:2:1: expected a table, found an array");
	cr_assert_str_eq(cp_settings_key(config_system(f.config, 0)), "front");
	cr_assert_null(config_system(f.config, 1));
	fixture_end(&f);
}

Test(config, an_empty_configuration_has_no_systems)
{
	static const char *const texts[] = {"", "\n", "# nothing", "\xef\xbb\xbf"};
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		struct fixture f;
		fixture_read(&f, texts[i]);
		cr_assert_not_null(f.config);
		cr_assert_eq(cp_settings_count(f.root), 0);
		cr_assert_null(config_system(f.config, 0));
		EXPECT_NO_ERRORS(&f);
		fixture_end(&f);
	}
}

/* ---- What cannot be parsed ---------------------------------------------------------------------------------- */

static void expect_refused(const char *text, const char *error)
{
	struct fixture f;
	fixture_read(&f, text);
	cr_assert_null(f.config, "%s", error);
	EXPECT_ERRORS(&f, error);
	fixture_end(&f);
}

Test(config, syntax_errors_have_a_place)
{
	expect_refused("a = \n", "c.toml:1:5: not valid TOML (key-value pair): expected value, saw '\\n'");
	expect_refused("[t]\na b = 1\n", "c.toml:2:3: not valid TOML (key-value pair): expected '=', saw 'b'");
	expect_refused("a = 1\na = 2\n",
				   "c.toml:2:5: not valid TOML (key-value pair): the same key as an earlier one");
	expect_refused("[t]\n\"tcp:*4:1\" = \"x\"\n\"tcp:*4:1\" = \"y\"\n",
				   "c.toml:3:14: not valid TOML (key-value pair): the same key as an earlier one");
	expect_refused("[t]\n[t]\n", "c.toml:2:1: not valid TOML (table header): the same key as an earlier one");
	expect_refused("a = \"x", "c.toml:1:7: not valid TOML (string): encountered end-of-file");
}

Test(config, text_that_is_not_utf8_has_a_place)
{
	expect_refused("a = 1\nb = \"é\xff\"\n", "c.toml:2:7: not UTF-8: byte 0xff does not belong here");
	expect_refused("\xef\xbb\xbf# \xc3", "c.toml:1:3: not UTF-8: byte 0xc3 does not belong here");
	expect_refused("# \xed\xa0\x80", "c.toml:1:3: not UTF-8: byte 0xed does not belong here");
}

/* These broke assertions of the parser, or went where it thought it could not be. */
Test(config, texts_that_surprised_the_parser)
{
	struct fixture f;
	const char *text;
	fixture_read(&f, "[t]\na = \"\"\"x \\\n  é\"\"\"\n");
	cr_assert(cp_settings_get_string(fixture_get(&f, "t"), "a", &text));
	cr_assert_str_eq(text, "x é");
	EXPECT_NO_ERRORS(&f);
	fixture_end(&f);
	expect_refused("[;x]\n", "c.toml:1:2: not valid TOML (key): expected bare key starting character or string "
							 "delimiter, saw ';'");
	expect_refused("a = 5é\n", "c.toml:1:6: not valid TOML (decimal integer): expected digit, saw 'é'");
	expect_refused("é = 1\n", "c.toml:1:1: not valid TOML (root table): expected keys, tables, whitespace or comments, "
							  "saw 'é'");
}

Test(config, nesting_is_bounded)
{
	char text[4096] = "[a";
	for (int i = 0; i < 31; i++)
		strcat(text, ". \"b.c\"");
	strcat(text, "]\n# .................................\nx = '.................................'\n");
	struct fixture f;
	fixture_read(&f, text);
	cr_assert_not_null(f.config, "as many parts as there may be");
	fixture_end(&f);

	memset(text, 0, sizeof text);
	for (int i = 0; i < 33; i++)
		strcat(text, "a.");
	strcat(text, "a = 1");
	expect_refused(text, "c.toml:1:64: a key of more than 32 parts");

	static char deep[32768];
	for (int i = 0; i < 128; i++)
		strcat(deep, "a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a = {");
	memset(deep + strlen(deep), '}', 128);
	fixture_read(&f, deep);
	cr_assert_not_null(f.config, "as deep as can be");
	fixture_end(&f);

	memset(text, 0, sizeof text);
	strcpy(text, "a = ");
	memset(text + 4, '[', 200);
	fixture_read(&f, text);
	cr_assert_null(f.config);
	cr_assert_eq(f.report.count, 1);
	fixture_end(&f);
}

/* ---- Files -------------------------------------------------------------------------------------------------- */

Test(config, the_file_is_shown_as_it_was_named)
{
	static const char text[] = "[connpipe]\n[t]\na = 1\n";
	char path[64], where[128];
	struct fixture f = {0};
	enter_directory(path);
	write_file("config.toml", text, strlen(text));
	f.config = config_read(path, NULL, NULL, &f.report);
	cr_assert_not_null(f.config);
	snprintf(where, sizeof where, "%s/config.toml:2:1", path);
	cr_assert_str_eq(cp_settings_where(config_system(f.config, 0)), where);
	cr_assert_str_eq(config_directory(f.config), path);
	fixture_end(&f);

	f = (struct fixture){0};
	f.config = config_read("./", NULL, NULL, &f.report);
	cr_assert_not_null(f.config);
	cr_assert_str_eq(cp_settings_where(config_system(f.config, 0)), "./config.toml:2:1");
	cr_assert_str_eq(config_directory(f.config), path);
	fixture_end(&f);
	remove_directory(path, (const char *const[]){"config.toml", NULL});
}

Test(config, files_that_cannot_be_read)
{
	char path[64];
	struct fixture f = {0};
	enter_directory(path);
	cr_assert_null(config_read("conf", NULL, NULL, &f.report));
	EXPECT_ERRORS(&f, "conf/config.toml: cannot be read: No such file or directory; name the configuration directory "
					  "with --config DIR");
	cr_assert_eq(mkdir("config.toml", 0700), 0);
	cr_assert_null(config_read(".", NULL, NULL, &f.report));
	EXPECT_ERRORS(&f, "./config.toml: is a directory, expected a file");
	cr_assert_eq(rmdir("config.toml"), 0);
	cr_assert_eq(mkfifo("config.toml", 0600), 0);
	cr_assert_null(config_read(".", NULL, NULL, &f.report));
	EXPECT_ERRORS(&f, "./config.toml: is not a regular file");
	remove_directory(path, (const char *const[]){"config.toml", NULL});
}

Test(config, a_file_with_a_zero_byte_is_refused_where_it_is)
{
	static const char text[] = "a = 1\nb\0 = 2\n";
	char path[64];
	struct fixture f = {0};
	enter_directory(path);
	write_file("config.toml", text, sizeof text - 1);
	cr_assert_null(config_read(".", NULL, NULL, &f.report));
	EXPECT_ERRORS(&f, "./config.toml:2:2: not valid TOML (key-value pair): expected '=', saw '\\u0000'");
	remove_directory(path, (const char *const[]){"config.toml", NULL});
}

Test(config, other_files_are_read_as_settings)
{
	static const char text[] = "[routes]\n\"tcp:*4:1\" = 5\n";
	char path[64];
	struct fixture f = {0};
	enter_directory(path);
	write_file("table.so", text, strlen(text));
	write_file("bad.toml", "x = ", 4);
	fixture_read_in(&f, ".", "[t]\ntype = \"table\"\npath = \"table.toml\"\n");
	const struct cp_settings *value = cp_settings_get(fixture_get(&f, "t"), "path");
	const struct cp_settings *other = cp_settings_open(value, "table{dylib}");
	cr_assert_not_null(other);
	const struct cp_settings *route = cp_settings_at(cp_settings_get(other, "routes"), 0);
	cr_assert(!cp_settings_want(route, CP_SETTINGS_STRING));
	cr_assert_null(cp_settings_open(value, "bad.toml"));
	cr_assert_null(cp_settings_open(value, "none.toml"));
	cr_assert_null(cp_settings_open(value, "."));
	cr_assert_null(cp_settings_open(value, ""));
	EXPECT_ERRORS(&f, "./table.so:2:14: expected a string, found the integer 5",
				  "./bad.toml:1:5: not valid TOML (key-value pair): encountered end-of-file",
				  "c.toml:3:8: ./none.toml cannot be read: No such file or directory",
				  "c.toml:3:8: ./. is a directory, expected a file",
				  "c.toml:3:8: expected the path of a file, found an empty one");
	fixture_end(&f);
	remove_directory(path, (const char *const[]){"table.so", "bad.toml", NULL});
}

static void expect_path(const struct fixture *fixture, const char *path, const char *expected)
{
	char *found = cp_settings_path(fixture->root, path);
	cr_assert_str_eq(found, expected);
	free(found);
}

Test(config, paths_are_relative_to_the_directory)
{
	struct fixture f;
	fixture_read_in(&f, "/etc/connpipe//", "");
	cr_assert_str_eq(config_directory(f.config), "/etc/connpipe");
	expect_path(&f, "lua/main.lua", "/etc/connpipe/lua/main.lua");
	expect_path(&f, "/abs/x", "/abs/x");
	expect_path(&f, "dylib/libgeo{dylib}", "/etc/connpipe/dylib/libgeo.so");
	expect_path(&f, "proc/auth{exe}", "/etc/connpipe/proc/auth");
	expect_path(&f, "{exe}{dylib}{other}{", "/etc/connpipe/.so{other}{");
	fixture_end(&f);
	fixture_read_in(&f, "/", "");
	expect_path(&f, "x", "/x");
	fixture_end(&f);
}
