/* Which route an address gets: keys, subports, paths, wildcards, forms of values, conditions, references. */
#include "table.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ASK(address) table_test_ask(&test, "front", address, NULL)

/* ---- Keys
 * ------------------------------------------------------------------------------------------------ */

Test(table, subports_exact_then_any_never_plain)
{
	struct table_test test;
	table_test_routes(&test, "\"byte:*4:1!ssh\" = \"byte:a:22\"\n"
							 "\"byte:*4:1!*\" = \"byte:b:1\"\n"
							 "\"byte:*4:1\" = \"byte:c:1\"\n"
							 "\"byte:*4:2\" = \"byte:d:2\"\n"
							 "\"byte:*4:3!only\" = \"byte:e:3\"\n");
	cr_expect_str_eq(ASK("byte:*4:1!ssh"), "byte:a:22");
	cr_expect_str_eq(ASK("byte:*4:1!ss"), "byte:b:1");
	cr_expect_str_eq(ASK("byte:*4:1!sshd"), "byte:b:1");
	cr_expect_str_eq(ASK("byte:*4:1"), "byte:c:1");
	cr_expect_str_eq(ASK("byte:*4:2"), "byte:d:2");
	cr_expect_str_eq(ASK("byte:*4:2!ssh"), "no_route");
	cr_expect_str_eq(ASK("byte:*4:3"), "no_route");
	cr_expect_str_eq(ASK("byte:*4:3!other"), "no_route");
	cr_expect_str_eq(ASK("byte:*4:4"), "no_route");
	cr_expect_str_eq(ASK("both:*4:1"), "no_route");
	table_test_end(&test);
}

Test(table, specific_host_beats_wildcard_of_its_family)
{
	struct table_test test;
	table_test_routes(&test, "\"byte:*4:1\" = \"byte:four:1\"\n"
							 "\"byte:*6:1\" = \"byte:six:1\"\n"
							 "\"byte:*4:1!x\" = \"byte:x:1\"\n"
							 "\"byte:192.0.2.1:1\" = \"byte:own:1\"\n"
							 "\"byte:*6:2\" = \"byte:six:2\"\n");
	cr_expect_str_eq(ASK("byte:192.0.2.1:1"), "byte:own:1");
	cr_expect_str_eq(ASK("byte:192.0.2.1:1!x"), "no_route", "no fall back once the host has a key");
	cr_expect_str_eq(ASK("byte:192.0.2.2:1"), "byte:four:1");
	cr_expect_str_eq(ASK("byte:192.0.2.2:1!x"), "byte:x:1");
	cr_expect_str_eq(ASK("byte:[2001:db8::1]:1"), "byte:six:1");
	cr_expect_str_eq(ASK("byte:192.0.2.2:2"), "no_route");
	cr_expect_str_eq(ASK("byte:name:1"), "no_route");
	cr_expect_str_eq(ASK("byte:$4:1"), "byte:four:1");
	table_test_end(&test);
}

Test(table, exact_path_beats_any_path)
{
	struct table_test test;
	table_test_routes(&test, "\"web:*4:1/chat\" = \"byte:chat:1\"\n"
							 "\"web:*4:1/chat!x\" = \"byte:chat-x:1\"\n"
							 "\"web:*4:1\" = \"byte:any:1\"\n"
							 "\"web:*4:1!*\" = \"byte:any-sub:1\"\n"
							 "\"web:*4:2/only\" = \"byte:only:1\"\n");
	cr_expect_str_eq(ASK("web:*4:1/chat"), "byte:chat:1");
	cr_expect_str_eq(ASK("web:*4:1/chat!x"), "byte:chat-x:1");
	cr_expect_str_eq(ASK("web:*4:1/chat!y"), "byte:any-sub:1");
	cr_expect_str_eq(ASK("web:*4:1/chatx"), "byte:any:1");
	cr_expect_str_eq(ASK("web:*4:1"), "byte:any:1");
	cr_expect_str_eq(ASK("web:*4:2"), "no_route");
	cr_expect_str_eq(ASK("web:*4:2/other"), "no_route");
	table_test_end(&test);
}

Test(table, keys_of_other_fields)
{
	struct table_test test;
	table_test_routes(&test, "\"cmd:one two\" = \"byte:a:1\"\n\"cmd:one\" = \"byte:b:1\"\n");
	cr_expect_str_eq(ASK("cmd:one two"), "byte:a:1");
	cr_expect_str_eq(ASK("cmd:one"), "byte:b:1");
	cr_expect_str_eq(ASK("cmd:on"), "no_route");
	table_test_end(&test);
}

static char *many_routes(size_t count)
{
	char *text;
	size_t length;
	FILE *file = open_memstream(&text, &length);
	for (size_t i = 0; i < count; i++)
		fprintf(file, "\"byte:*4:%zu!s%zu\" = \"byte:t%zu:1\"\n", 1 + i % 50, i, i);
	fclose(file);
	return text;
}

Test(table, every_one_of_many_keys_is_found)
{
	enum { COUNT = 3000 };
	struct table_test test;
	char *routes = many_routes(COUNT);
	table_test_routes(&test, routes);
	for (size_t i = 0; i < COUNT; i++) {
		char address[64], target[64];
		snprintf(address, sizeof(address), "byte:*4:%zu!s%zu", 1 + i % 50, i);
		snprintf(target, sizeof(target), "byte:t%zu:1", i);
		cr_assert_str_eq(ASK(address), target);
	}
	cr_expect_str_eq(ASK("byte:*4:2!s0"), "no_route");
	table_test_end(&test);
	free(routes);
}

/* ---- Values
 * ---------------------------------------------------------------------------------------------- */

Test(table, forms_of_values)
{
	struct table_test test;
	table_test_routes(&test,
					  "\"byte:*4:1\" = \"byte:a:1\"\n"
					  "\"byte:*4:2\" = [\"byte:a:1\", \"byte:b:1\"]\n"
					  "\"byte:*4:3\" = [\"byte:a:1\"]\n"
					  "\"byte:*4:4\" = { to = \"byte:a:1\" }\n"
					  "\"byte:*4:5\" = { to = [\"byte:a:1\", \"wrap+byte:b:1\"] }\n"
					  "\"byte:*4:6\" = [{ to = \"byte:a:1\" }]\n"
					  "\"byte:*4:7\" = [{ when = { from = \"10.0.0.0/8\" }, to = \"byte:a:1\" },\n"
					  "  { when = { from = [\"192.0.2.1\", \"192.0.2.2\"] }, to = [\"byte:b:1\", \"byte:c:1\"] },\n"
					  "  { to = \">stub\" }]\n"
					  "\"byte:*4:8\" = \"both:a:1\"\n"
					  "\"both:*4:9\" = \"pack:a:1\"\n"
					  "\"pack:*4:10\" = \"pack:a:1\"\n");
	cr_expect_str_eq(ASK("byte:*4:1"), "byte:a:1");
	cr_expect_str_eq(ASK("byte:*4:2"), "byte:a:1, byte:b:1");
	cr_expect_str_eq(ASK("byte:*4:3"), "byte:a:1");
	cr_expect_str_eq(ASK("byte:*4:4"), "byte:a:1");
	cr_expect_str_eq(ASK("byte:*4:5"), "byte:a:1, wrap+byte:b:1");
	cr_expect_str_eq(ASK("byte:*4:6"), "byte:a:1");
	cr_expect_str_eq(table_test_ask(&test, "front", "byte:*4:7", "10.1.2.3"), "byte:a:1");
	cr_expect_str_eq(table_test_ask(&test, "front", "byte:*4:7", "192.0.2.2"), "byte:b:1, byte:c:1");
	cr_expect_str_eq(table_test_ask(&test, "front", "byte:*4:7", "192.0.2.3"), "refused_by_router: by the stub");
	cr_expect_str_eq(ASK("byte:*4:8"), "both:a:1");
	cr_expect_str_eq(ASK("both:*4:9"), "pack:a:1");
	cr_expect_str_eq(ASK("pack:*4:10"), "pack:a:1");
	table_test_end(&test);
}

/* ---- Conditions
 * ------------------------------------------------------------------------------------------ */

Test(table, from_v4_v6_mapped_and_local)
{
	struct table_test test;
	table_test_routes(&test,
					  "\"byte:*4:1\" = { when = { from = [\"10.0.0.0/8\", \"2001:db8::/32\"] }, to = \"byte:a:1\" }\n"
					  "\"byte:*4:2\" = { when = { from = \"::/0\" }, to = \"byte:a:1\" }\n"
					  "\"byte:*4:3\" = { when = { from = \"0.0.0.0/0\" }, to = \"byte:a:1\" }\n");
	static const struct {
		const char *address, *peer, *answer;
	} cases[] = {
		{"byte:*4:1", "10.255.255.255", "byte:a:1"},
		{"byte:*4:1", "11.0.0.0", "no_route"},
		{"byte:*4:1", "::ffff:10.0.0.1", "byte:a:1"},
		{"byte:*4:1", "2001:db8:ffff::1", "byte:a:1"},
		{"byte:*4:1", "2001:db9::1", "no_route"},
		{"byte:*4:1", NULL, "no_route"},
		{"byte:*4:2", "::1", "byte:a:1"},
		{"byte:*4:2", "10.0.0.1", "no_route"},
		{"byte:*4:3", "::ffff:10.0.0.1", "byte:a:1"},
		{"byte:*4:3", "::1", "no_route"},
		{"byte:*4:3", NULL, "no_route"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const char *answer = table_test_ask(&test, "front", cases[i].address, cases[i].peer);
		cr_expect_str_eq(answer, cases[i].answer, "%s from %s: %s", cases[i].address,
						 cases[i].peer ? cases[i].peer : "local", answer);
	}
	table_test_end(&test);
}

Test(table, rules_that_do_not_hold_do_not_fall_back_to_any_subport)
{
	struct table_test test;
	table_test_routes(&test, "\"byte:*4:1!x\" = { when = { from = \"10.0.0.0/8\" }, to = \"byte:a:1\" }\n"
							 "\"byte:*4:1!*\" = \"byte:b:1\"\n");
	cr_expect_str_eq(table_test_ask(&test, "front", "byte:*4:1!x", "192.0.2.1"), "no_route");
	table_test_end(&test);
}

/* ---- References
 * ------------------------------------------------------------------------------------------ */

Test(table, references_ask_about_the_same_or_another_address)
{
	struct table_test test;
	table_test_load(&test, "/",
					"[front]\ntype = \"table\"\n[front.routes]\n"
					"\"byte:*4:1!*\" = \">rules\"\n"
					"\"byte:*4:2\" = \">rules byte:*4:1!b\"\n"
					"\"byte:*4:3!*\" = \">rules byte:*4:1!{multiplex}\"\n"
					"\"byte:*4:4\" = \">front byte:*4:2\"\n"
					"[rules]\ntype = \"table\"\nbind = false\n[rules.routes]\n"
					"\"byte:*4:1!a\" = \"byte:a:1\"\n"
					"\"byte:*4:1!b\" = \"byte:b:1\"\n");
	report_print(&test.report, stderr, "");
	cr_assert(test.generation);
	cr_expect_str_eq(ASK("byte:*4:1!a"), "byte:a:1");
	cr_expect_str_eq(ASK("byte:*4:1!c"), "no_route");
	cr_expect_str_eq(ASK("byte:*4:2"), "byte:b:1");
	cr_expect_str_eq(ASK("byte:*4:3!a"), "byte:a:1");
	cr_expect_str_eq(ASK("byte:*4:4"), "byte:b:1");
	table_test_end(&test);
}

Test(table, keys_are_bound_unless_told_otherwise)
{
	struct table_test test;
	table_test_load(
		&test, "/",
		"[front]\ntype = \"table\"\n[front.routes]\n\"byte:*4:1!a\" = \"byte:a:1\"\n\"byte:*4:2\" = \"byte:a:1\"\n"
		"[more]\ntype = \"table\"\nbind = true\n[more.routes]\n\"byte:*4:1!b\" = \"byte:b:1\"\n"
		"[asked]\ntype = \"table\"\nbind = false\n[asked.routes]\n\"byte:*4:1!a\" = \"byte:c:1\"\n\"byte:*4:3\" = "
		"\"byte:c:1\"\n");
	report_print(&test.report, stderr, "");
	cr_assert(test.generation);
	cr_assert_eq(test.plan->count, 2);
	struct binding *binding = plan_find(test.plan, "byte:0.0.0.0:1");
	cr_assert(binding && binding->root.subports);
	cr_expect_str_eq(binding_router(binding, NULL, "a", 1)->id, "front");
	cr_expect_str_eq(binding_router(binding, NULL, "b", 1)->id, "more");
	cr_expect(plan_find(test.plan, "byte:0.0.0.0:2"));
	cr_expect_str_eq(table_test_ask(&test, "asked", "byte:*4:3", NULL), "byte:c:1");
	table_test_end(&test);
}

/* ---- Files
 * ----------------------------------------------------------------------------------------------- */

static void in_directory(const char *file, void (*run)(const char *directory))
{
	char directory[] = "/tmp/table-XXXXXX", path[64];
	cr_assert(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/table.toml", directory);
	FILE *out = fopen(path, "w");
	cr_assert(out);
	fputs(file, out);
	fclose(out);
	run(directory);
	unlink(path);
	rmdir(directory);
}

#define WITH_FILE "[front]\ntype = \"table\"\npath = \"table.toml\"\n"

static void routes_of_file(const char *directory)
{
	struct table_test test;
	table_test_load(&test, directory, WITH_FILE);
	report_print(&test.report, stderr, "");
	cr_assert(test.generation);
	cr_expect_eq(test.plan->count, 0, "bind = false in the file");
	cr_expect_str_eq(ASK("byte:*4:1"), "byte:a:1");
	table_test_end(&test);
	table_test_load(&test, directory, WITH_FILE "bind = true\n");
	cr_assert(test.generation);
	cr_expect_eq(test.plan->count, 1, "the configuration wins");
	table_test_end(&test);
}

Test(table, routes_in_a_file)
{
	in_directory("bind = false\n[routes]\n\"byte:*4:1\" = \"byte:a:1\"\n", routes_of_file);
}

static void expect_end(const char *text, const char *end)
{
	size_t length = strlen(text), wanted = strlen(end);
	cr_expect(length >= wanted && strcmp(text + length - wanted, end) == 0, "%s", text);
}

static void errors_of_file(const char *directory)
{
	struct table_test test;
	table_test_load(&test, directory, WITH_FILE);
	cr_expect(!test.generation);
	cr_expect_eq(test.report.count, 2);
	expect_end(test.report.entries[0].where, "/table.toml:1:1");
	cr_expect_str_eq(test.report.entries[0].message, "unknown key \"bindd\", did you mean \"bind\"?");
	expect_end(test.report.entries[1].where, "/table.toml:3:23");
	table_test_end(&test);
}

Test(table, errors_in_a_file_have_its_places)
{
	in_directory("bindd = false\n[routes]\n\"byte:*4:1\" = \"byte:a:x\"\n", errors_of_file);
}

/* ---- Explaining
 * ------------------------------------------------------------------------------------------ */

Test(table, explains_key_conditions_and_rule)
{
	struct table_test test;
	table_test_routes(&test, "\"byte:*4:1!*\" = [{ when = { from = \"10.0.0.0/8\" }, to = \"byte:a:1\" },\n"
							 " { when = { from = [\"192.0.2.0/24\", \"::1\"] }, to = \"byte:b:1\" }]\n");
	table_test_ask(&test, "front", "byte:*4:1!x", "192.0.2.1");
	static const char *const lines[] = {
		"  key \"byte:0.0.0.0:1!*\" matches\n",
		"  from: 192.0.2.1:1234 is not in 10.0.0.0/8\n",
		"  rule 1 does not hold\n",
		"  from: 192.0.2.1:1234 is in 192.0.2.0/24\n",
		"  rule 2 is taken\n",
	};
	const char *at = test.explained;
	for (size_t i = 0; i < sizeof(lines) / sizeof(*lines) && at; i++) {
		at = strstr(at, lines[i]);
		cr_expect(at, "line \"%s\" in\n%s", lines[i], test.explained);
	}
	ASK("byte:*4:2");
	cr_expect(strstr(test.explained, "  no key matches\n"));
	table_test_end(&test);
}
