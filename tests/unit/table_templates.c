/* Templates: what values become, and which are refused. */
#include "table.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static void expect_named(struct table_test *test, const char *address, const char *name, size_t length,
						 const char *answer)
{
	const char *found = table_test_ask_named(test, address, name, length);
	cr_expect_str_eq(found, answer, "subport \"%s\" of %s: %s, expected %s", name, address, found, answer);
}
#define NAMED(address, name, answer) expect_named(&test, address, name, sizeof(name) - 1, answer)
#define REFUSED "refused_by_router: "

Test(table_templates, every_field)
{
	struct table_test test;
	table_test_routes(&test, "\"byte:*4:1!*\" = \"byte:{multiplex}.svc.local:80\"\n"
							 "\"byte:*4:2!*\" = \"byte:a:{multiplex}\"\n"
							 "\"byte:*4:3!*\" = \"byte:a:8{port}!pre-{multiplex}-{port}\"\n"
							 "\"byte:*4:4!*\" = [\"byte:a:1\", \"wrap+byte:{multiplex}:1\"]\n"
							 "\"byte:*4:5!*\" = \"cmd:run {multiplex} now\"\n"
							 "\"web:*4:6!*\" = \"web:a:1/{path}!{multiplex}\"\n"
							 "\"byte:*4:7!*\" = \"web:a:1/x/{multiplex}\"\n"
							 "\"byte:*4:8!*\" = \"byte:{sni}:1\"\n"
							 "\"byte:*4:9\" = \"byte:{addr}:1{port}\"\n");
	NAMED("byte:*4:1", "db", "byte:db.svc.local:80");
	NAMED("byte:*4:2", "8080", "byte:a:8080");
	NAMED("byte:*4:3", "x", "byte:a:83!pre-x-3");
	NAMED("byte:*4:4", "b", "byte:a:1, wrap+byte:b:1");
	NAMED("byte:*4:5", "it", "cmd:run it now");
	NAMED("web:*4:6/a/b", "m", "web:a:1/a/b!m");
	NAMED("byte:*4:7", "y", "web:a:1/x/y");
	cr_expect_str_eq(table_test_ask(&test, "front", "byte:*4:9", NULL), "byte:0.0.0.0:19");
	struct table_client client = {.facts = "sni=example.org"};
	cr_expect_str_eq(table_test_ask_client(&test, "byte:*4:8!x", &client), "byte:example.org:1");
	cr_expect_str_eq(table_test_ask(&test, "front", "byte:*4:8!x", NULL),
					 REFUSED "byte:{sni}:1: this connection has no sni");
	table_test_end(&test);
}

/** Whatever the value, the answer is a refusal or an address of which only the host is new. */
static void expect_host_or_refusal(struct table_test *test, const char *name, size_t length)
{
	const char *found = table_test_ask_named(test, "byte:*4:1", name, length);
	if (strncmp(found, REFUSED, strlen(REFUSED)) == 0) {
		cr_expect(strstr(found, "byte:{multiplex}.svc:80: addr is \""), "%s", found);
		return;
	}
	size_t end = strlen(found);
	cr_expect(strncmp(found, "byte:", 5) == 0 && end > 12 && strcmp(found + end - 7, ".svc:80") == 0, "%s", found);
	cr_expect(!strpbrk(found + 5, "!/+ ") && strchr(found + 5, ':') == found + end - 3, "%s", found);
}

Test(table_templates, hostile_values_in_a_host)
{
	struct table_test test;
	table_test_routes(&test, "\"byte:*4:1!*\" = \"byte:{multiplex}.svc:80\"\n");
	static const struct {
		const char *name;
		size_t length;
	} names[] = {
		{"a!b", 3}, {"a/b", 3},     {"a:1", 3}, {"a}b", 3},   {"{port}", 6},  {"a\0b", 3},     {"\xc3\xbc", 2},
		{" ", 1},   {"evil:1/", 7}, {"::1", 3}, {"[::1]", 5}, {"a%2fb", 5},   {"\n", 1},       {"$4", 2},
		{"*4", 2},  {"..", 2},      {"-", 1},   {"a+b", 3},   {"\x1b[2J", 4}, {"tls(x)+a", 8},
	};
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		expect_host_or_refusal(&test, names[i].name, names[i].length);
	char longest[255];
	memset(longest, 'a', sizeof(longest));
	cr_expect(strstr(table_test_ask_named(&test, "byte:*4:1", longest, sizeof(longest)), REFUSED));
	cr_expect(strstr(table_test_ask_named(&test, "byte:*4:1", "a!b", 3), REFUSED));
	cr_expect(strstr(table_test_ask_named(&test, "byte:*4:1", "a\nb", 3), "\"a%0Ab.svc\""), "%s", test.answer);
	table_test_end(&test);
}

Test(table_templates, an_ipv6_address_as_http_writes_it)
{
	struct table_test test;
	table_test_routes(&test, "\"byte:*4:1!*\" = \"byte:{multiplex}:80\"\n");
	cr_expect_str_eq(table_test_ask_named(&test, "byte:*4:1", "[::1]", 5), "byte:[::1]:80");
	cr_expect_str_eq(table_test_ask_named(&test, "byte:*4:1", "::1", 3), "byte:[::1]:80");
	static const char *const wrong[] = {"[::1", "::1]", "[]", "[", "[a]b", "[[::1]]"};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		cr_expect(strstr(table_test_ask_named(&test, "byte:*4:1", wrong[i], strlen(wrong[i])), REFUSED), "%s: %s",
				  wrong[i], test.answer);
	table_test_end(&test);
}

Test(table_templates, hostile_values_in_a_port)
{
	struct table_test test;
	table_test_routes(&test, "\"byte:*4:1!*\" = \"byte:a:{multiplex}\"\n");
	static const char *const names[] = {
		"65536", "-1", "+1", " 1", "1 ", "1!x", "0x10", "1e3", "x", "80/", "99999999999999999999"};
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		const char *found = table_test_ask_named(&test, "byte:*4:1", names[i], strlen(names[i]));
		cr_expect(strstr(found, REFUSED "byte:a:{multiplex}: port is \""), "%s: %s", names[i], found);
	}
	cr_expect(strstr(table_test_ask_named(&test, "byte:*4:1", "80\0", 3), REFUSED), "%s", test.answer);
	table_test_end(&test);
}

Test(table_templates, hostile_values_in_a_subport_stay_a_subport)
{
	struct table_test test;
	table_test_routes(&test, "\"byte:*4:1!*\" = \"byte:a:1!{multiplex}\"\n");
	NAMED("byte:*4:1", "a!b", "byte:a:1!a%21b");
	NAMED("byte:*4:1", "a/b:{port}", "byte:a:1!a/b:%7Bport%7D");
	NAMED("byte:*4:1", "*", REFUSED "byte:a:1!{multiplex}: multiplex is \"*\": it is no name");
	table_test_end(&test);
}

Test(table_templates, a_value_is_one_segment_of_a_path)
{
	struct table_test test;
	table_test_routes(&test, "\"byte:*4:1!*\" = \"web:a:1/x/{multiplex}\"\n");
	static const char *const names[] = {"a/b", "..", ".", "a?b", "a#b"};
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		const char *found = table_test_ask_named(&test, "byte:*4:1", names[i], strlen(names[i]));
		cr_expect(strstr(found, ": it is more than a part of a path"), "%s: %s", names[i], found);
	}
	NAMED("byte:*4:1", "a b", "web:a:1/x/a%20b");
	table_test_end(&test);
}

Test(table_templates, a_value_is_one_word_of_a_command)
{
	struct table_test test;
	table_test_routes(&test, "\"byte:*4:1!*\" = \"cmd:run {multiplex}\"\n\"byte:*4:2!*\" = \"cmd:{multiplex}\"\n");
	static const char *const names[] = {"a b", "a'b", "a\"b", "a\\b", "-rf", "..", ".a", "a/b", "a;b", "$x", "\n"};
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		const char *found = table_test_ask_named(&test, "byte:*4:1", names[i], strlen(names[i]));
		cr_expect(strstr(found, ": it is more than a word"), "%s: %s", names[i], found);
		found = table_test_ask_named(&test, "byte:*4:2", names[i], strlen(names[i]));
		cr_expect(strstr(found, ": it is more than a word"), "%s: %s", names[i], found);
	}
	NAMED("byte:*4:1",
		  "b\xc3\xbc"
		  "cher-1.x_y",
		  "cmd:run b\xc3\xbc"
		  "cher-1.x_y");
	table_test_end(&test);
}
