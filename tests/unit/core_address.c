/* Addresses of the core system: text and back. */
#include "core_fixture.h"

#include "../../systems/core/words.h"

TestSuite(core_address, .init = fixture_start, .fini = fixture_stop);

static const char *printed(const struct cp_address *address)
{
	static char text[1024];
	cp_address_print(address, text, sizeof(text));
	return text;
}

/** `canonical` has %s where the configuration directory stands. */
static void check_canonical(const char *text, const char *canonical)
{
	char expected[1024];
	snprintf(expected, sizeof(expected), canonical, fixture.dir);
	cr_expect_str_eq(printed(address_of(text)), expected, "%s became %s, expected %s", text, printed(address_of(text)),
					 expected);
	cr_expect_str_eq(printed(address_of(expected)), expected, "%s is not stable", expected);
}

Test(core_address, canonical_text_is_stable)
{
	static const char *const pairs[][2] = {
		{"tcp:$4:80", "tcp:127.0.0.1:80"},
		{"tcp/db.local:5432!orders", "tcp:db.local:5432!orders"},
		{"tcp:*6:80", "tcp:[::]:80"},
		{"unix:/run/a.sock", "unix:/run/a.sock"},
		{"unix:/run/a.sock!web", "unix:/run/a.sock!web"},
		{"unix:/run/a%21b.sock!web", "unix:/run/a%%21b.sock!web"},
		{"unix:run/a.sock", "unix:%s/run/a.sock"},
		{"unix:@name", "unix:@name"},
		{"echo:", "echo:"},
		{"discard:", "discard:"},
		{"reject:", "reject:"},
		{"reject:not today", "reject:not today"},
		{"reject:100%25", "reject:100%%25"},
		{"exec:cat", "exec:cat"},
		{"exec:./run.sh 1", "exec:%s/./run.sh 1"},
		{"exec:awk '{print}'", "exec:awk '{print}'"},
	};
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
		check_canonical(pairs[i][0], pairs[i][1]);
}

Test(core_address, what_cannot_be_read_says_why)
{
	char too_long[160] = "unix:/";
	memset(too_long + 6, 'x', 107);
	const struct {
		const char *text, *words, *where;
	} wrong[] = {
		{"tcp:127.0.0.1", "port", "column"},
		{"unix:", "path", "column"},
		{"unix:@", "\"@\"", ""},
		{"unix:/a!", "subport", "column"},
		{"unix:/a!b!c", "second", "column 10"},
		{too_long, "107", ""},
		{"exec:", "program", "column 6"},
		{"exec:  ", "program", "column 8"},
		{"exec:'' a", "program", ""},
		{"exec:a 'b", "quotes", "column 8"},
		{"exec:a \"b", "quotes", "column 8"},
		{"exec:a \\", "backslash", "column 8"},
		{"echo:x", "echo", "column 6"},
		{"reject:%zz", "%", "column"},
	};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		const struct cp_address *address = NULL;
		struct cp_error error = {0};
		int result =
			cp_address_parse(fixture.scope, fixture.arena, wrong[i].text, strlen(wrong[i].text), 0, &address, &error);
		cr_expect_eq(result, CP_EINVAL, "%s was read", wrong[i].text);
		cr_expect(strstr(error.message, wrong[i].words), "%s: \"%s\" without \"%s\"", wrong[i].text, error.message,
				  wrong[i].words);
		cr_expect(strstr(error.where, wrong[i].where), "%s: \"%s\" is not at \"%s\"", wrong[i].text, error.where,
				  wrong[i].where);
	}
}

Test(core_address, a_unix_path_of_107_bytes_fits)
{
	char text[160] = "unix:/";
	memset(text + 6, 'x', 106);
	cr_expect_str_eq(printed(address_of(text)), text);
}

Test(core_address, sockets_of_unix_differ_by_path_and_not_by_subport)
{
	char one[128], other[128];
	cp_address_print_socket(address_of("unix:/a!x"), false, one, sizeof(one));
	cp_address_print_socket(address_of("unix:/a!y"), false, other, sizeof(other));
	cr_expect_str_eq(one, "unix:/a");
	cr_expect_str_eq(other, "unix:/a");
	cp_address_print_socket(address_of("unix:/b"), false, other, sizeof(other));
	cr_expect_str_eq(other, "unix:/b");
}

Test(core_address, a_command_takes_no_value_from_the_network)
{
	const struct cp_address *address = NULL;
	struct cp_error error = {0};
	const char *text = "exec:serve {multiplex}";
	int result =
		cp_address_parse(fixture.scope, fixture.arena, text, strlen(text), CP_PARSE_TEMPLATE, &address, &error);
	cr_expect_eq(result, CP_EUNSUPPORTED);
	cr_expect(strstr(error.where, "column 12"), "%s", error.where);
	text = "exec:awk '{ print }'";
	result = cp_address_parse(fixture.scope, fixture.arena, text, strlen(text), CP_PARSE_TEMPLATE, &address, &error);
	cr_expect_eq(result, CP_OK);
}

Test(core_address, fields_make_a_command_canonical)
{
	const char *command = "echo  \"a b\" c\\ d";
	struct cp_field field = {"command", cp_string(command, strlen(command))};
	struct cp_error error = {0};
	const struct cp_address *address = NULL;
	int result =
		cp_address_from_fields(fixture.scope, fixture.arena, "exec", (struct cp_fields){&field, 1}, &address, &error);
	cr_assert_eq(result, CP_OK, "%s", error.message);
	cr_expect_str_eq(printed(address), "exec:echo 'a b' 'c d'");
}

/* ---- Words -------------------------------------------------------------------------------------------------- */

Test(core_words, are_split_as_a_shell_does)
{
	static const struct {
		const char *text, *joined;
		size_t count;
		const char *last;
	} cases[] = {
		{"a", "a", 1, "a"},
		{"  a \t b\n", "a b", 2, "b"},
		{"a ''", "a ''", 2, ""},
		{"a \"\"", "a ''", 2, ""},
		{"a 'b c'd", "a 'b cd'", 2, "b cd"},
		{"a \"b 'c'\"", "a 'b '\\''c'\\'''", 2, "b 'c'"},
		{"a 'b\\c'", "a 'b\\c'", 2, "b\\c"},
		{"a \"b\\c\"", "a 'b\\c'", 2, "b\\c"},
		{"a \"\\\"\\\\\\$\\`\"", "a '\"\\$`'", 2, "\"\\$`"},
		{"a \\'", "a ''\\'''", 2, "'"},
		{"a b\\ c", "a 'b c'", 2, "b c"},
		{"a $HOME", "a '$HOME'", 2, "$HOME"},
		{"a |b", "a '|b'", 2, "|b"},
		{"a *", "a '*'", 2, "*"},
		{"a --x=/y:1,2@3%4", "a --x=/y:1,2@3%4", 2, "--x=/y:1,2@3%4"},
		{"a \xc3\xa9", "a \xc3\xa9", 2, "\xc3\xa9"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct words words;
		size_t wrong;
		char joined[64];
		const char *what = words_split(cases[i].text, strlen(cases[i].text), &words, &wrong);
		cr_assert_null(what, "%s: %s at %zu", cases[i].text, what, wrong);
		cr_expect_eq(words.count, cases[i].count, "%s", cases[i].text);
		cr_expect_str_eq(words.at[words.count - 1], cases[i].last, "%s", cases[i].text);
		cr_expect_null(words.at[words.count]);
		cr_expect_eq(words_join(&words, joined, sizeof(joined)), strlen(cases[i].joined));
		cr_expect_str_eq(joined, cases[i].joined, "%s became %s", cases[i].text, joined);
		words_free(&words);
	}
}

Test(core_words, join_cuts_as_snprintf)
{
	struct words words;
	size_t wrong;
	char buffer[8] = "#######";
	cr_assert_null(words_split("cat 'a b'", 9, &words, &wrong));
	cr_expect_eq(words_join(&words, NULL, 0), 9);
	cr_expect_eq(words_join(&words, buffer, 7), 9);
	cr_expect_str_eq(buffer, "cat 'a");
	cr_expect_eq(words_join(&words, buffer, 1), 9);
	cr_expect_str_eq(buffer, "");
	words_free(&words);
}

Test(core_words, a_zero_byte_is_refused)
{
	struct words words;
	size_t wrong;
	cr_expect_str_eq(words_split("a\0b", 3, &words, &wrong), "a zero byte cannot stand in a command");
	cr_expect_eq(wrong, 1);
}
