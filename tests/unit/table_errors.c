/* What is wrong with a table, and where. Columns count from 1; the first route is in line 4. */
#include "table.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Settings
 * -------------------------------------------------------------------------------------------- */

#define FRONT "[front]\ntype = \"table\"\n"

Test(table_errors, neither_routes_nor_path)
{
	table_test_all_errors("/", FRONT "route = {}\n",
						  "config.toml:1:1: expected `routes`, a table of addresses, or `path`, a file that has it\n"
						  "config.toml:3:1: unknown key \"route\", did you mean \"routes\"?\n");
}

Test(table_errors, both_routes_and_path)
{
	table_test_all_errors("/", FRONT "path = \"table.toml\"\nroutes = {}\n",
						  "config.toml:3:8: expected `path` or `routes`, found both\n");
}

Test(table_errors, settings_of_wrong_kinds)
{
	struct table_test test;
	table_test_load(&test, "/", FRONT "routes = [1]\nbind = \"no\"\n");
	cr_expect(!test.generation);
	cr_assert_eq(test.report.count, 2);
	cr_expect_str_eq(test.report.entries[0].where, "config.toml:4:8");
	cr_expect_str_eq(test.report.entries[1].where, "config.toml:3:10");
	table_test_end(&test);
}

Test(table_errors, all_of_a_table_in_one_go)
{
	struct table_test test;
	table_test_load(&test, "/",
					FRONT
					"bnd = true\n[front.routes]\n\"byte:*4:1\" = 1\n\"byte:*4:x\" = 2\n\"byte:*4:3\" = \">none\"\n"
					"\"byte:*4:4\" = \">front\"\n");
	cr_expect(!test.generation);
	cr_expect_eq(test.report.count, 6, "two values, a key, a router, a loop, an unknown key");
	table_test_end(&test);
}

/* ---- Keys
 * ------------------------------------------------------------------------------------------------ */

Test(table_errors, key_is_no_address)
{
	table_test_errors("\"byte:*4:99999\" = \"byte:a:1\"\n",
					  "config.toml:4:10: port \"99999\", expected a number from 0 to 65535\n");
}

Test(table_errors, key_has_a_template)
{
	table_test_errors("\"byte:*4:1!{multiplex}\" = \"byte:a:1\"\n",
					  "config.toml:4:12: \"{\" begins a template, which cannot stand here; a "
					  "brace itself is written %7B\n");
}

Test(table_errors, the_same_key_twice)
{
	table_test_errors("\"byte:*4:1!x\" = \"byte:a:1\"\n\"byte/0.0.0.0:1!x\" = \"byte:b:1\"\n",
					  "config.toml:5:2: the same address as the key at config.toml:4:1\n");
}

Test(table_errors, two_chains_on_a_socket_that_is_not_bound)
{
	table_test_all_errors("/",
						  FRONT "bind = false\n[front.routes]\n\"byte:*4:1\" = \"byte:a:1\"\n\"wrap+byte:*4:1!x\" = "
								"\"byte:a:1\"\n",
						  "config.toml:6:2: one socket has one chain of converters, but an "
						  "earlier key has another one: \"byte:0.0.0.0:1\"\n");
}

/* ---- Values
 * ---------------------------------------------------------------------------------------------- */

Test(table_errors, value_of_no_form)
{
	table_test_errors(
		"\"byte:*4:1\" = true\n",
		"config.toml:4:15: expected an address, a list of addresses, a table with `to`, or a list of such "
		"tables, found true or false\n");
}

Test(table_errors, lists_that_mix_or_are_empty)
{
	table_test_errors(
		"\"byte:*4:1\" = [\"byte:a:1\", { to = \"byte:a:1\" }]\n"
		"\"byte:*4:2\" = [{ to = \"byte:a:1\" }, \"byte:a:1\"]\n"
		"\"byte:*4:3\" = []\n"
		"\"byte:*4:4\" = { to = [] }\n"
		"\"byte:*4:5\" = [\"byte:a:1\", [\"byte:a:1\"]]\n"
		"\"byte:*4:6\" = [\"byte:a:1\", \">stub\"]\n",
		"config.toml:4:28: expected an address, as \"tcp:10.0.0.1:80\", or \">router\", found a table\n"
		"config.toml:5:37: expected a table with `to`, as the others of this list (addresses and tables do "
		"not mix), found a string\n"
		"config.toml:6:15: expected at least one address, found an empty list\n"
		"config.toml:7:22: expected at least one address, found an empty list\n"
		"config.toml:8:28: expected an address, as \"tcp:10.0.0.1:80\", or \">router\", found a list\n"
		"config.toml:9:28: expected an address: a list is tried in order, but \">stub\" hands the whole "
		"question on\n");
}

Test(table_errors, tables_with_wrong_keys)
{
	table_test_errors("\"byte:*4:1\" = { when = { from = \"::1\" } }\n"
					  "\"byte:*4:2\" = { to = \"byte:a:1\", whem = { from = \"::1\" } }\n"
					  "\"byte:*4:3\" = { to = { to = \"byte:a:1\" } }\n",
					  "config.toml:4:15: expected `to`: an address, a list of addresses or \">router\"\n"
					  "config.toml:5:34: unknown key \"whem\", did you mean \"when\"?\n"
					  "config.toml:6:22: expected an address, as \"tcp:10.0.0.1:80\", or \">router\", found a table\n");
}

/* ---- Conditions
 * ------------------------------------------------------------------------------------------ */

#define WHEN(port, when) "\"byte:*4:" port "\" = { when = " when ", to = \"byte:a:1\" }\n"

Test(table_errors, conditions)
{
	table_test_errors(
		WHEN("1", "1") WHEN("2", "{}") WHEN("3", "{ from = [] }") WHEN("4", "{ from = 1 }")
			WHEN("5", "{ from = [\"::1\", \"10.0.0.1/8\", \"x\", \"2001:db8::1/45\", \"10.0.0.0/33\"] }")
				WHEN("6", "{ frm = \"::1\" }") WHEN("7", "{ sni = \"a\", from = \"::1\" }"),
		"config.toml:4:24: expected a table of conditions, as { from = \"10.0.0.0/8\" }, found an integer\n"
		"config.toml:5:24: expected at least one condition, found an empty table; without `when` a route always holds\n"
		"config.toml:6:33: expected at least one block of addresses, found an empty list\n"
		"config.toml:7:33: expected an address or a block of addresses, as \"10.0.0.0/8\", found an integer\n"
		"config.toml:8:41: expected a block of addresses whose bits behind the prefix are zero, found \"10.0.0.1/8\", "
		"did you mean \"10.0.0.0/8\"?\n"
		"config.toml:8:55: expected an IP address or a block of them, as \"10.0.0.0/8\" or \"2001:db8::/32\", found "
		"\"x\"\n"
		"config.toml:8:60: expected a block of addresses whose bits behind the prefix are zero, found "
		"\"2001:db8::1/45\", did you mean \"2001:db8::/45\"?\n"
		"config.toml:8:78: expected an IP address or a block of them, as \"10.0.0.0/8\" or \"2001:db8::/32\", found "
		"\"10.0.0.0/33\"\n"
		"config.toml:9:26: unknown key \"frm\", did you mean \"from\"?\n"
		"config.toml:10:32: the condition \"sni\" is not available yet; \"from\" is\n");
}

Test(table_errors, every_known_condition_says_that_it_is_not_available)
{
	struct table_test test;
	table_test_load(&test, "/",
					FRONT "[front.routes]\n" WHEN("1", "{ sni = 1, alpn = 1, proto = 1, host = 1, path = 1 }"));
	cr_assert_eq(test.report.count, 5);
	for (size_t i = 0; i < 5; i++)
		cr_expect(strstr(test.report.entries[i].message, "is not available yet"));
	table_test_end(&test);
}

/* ---- Targets
 * --------------------------------------------------------------------------------------------- */

Test(table_errors, targets)
{
	table_test_errors("\"byte:*4:1\" = \"byte:a:port\"\n"
					  "\"byte:*4:2\" = \"deaf:a:1\"\n"
					  "\"byte:*4:3\" = \"pack:a:1\"\n"
					  "\"pack:*4:4\" = \"byte:a:1\"\n"
					  "\"byte:*4:5\" = \"byte:a:1!*\"\n",
					  "config.toml:4:23: port \"port\", expected a number from 0 to 65535\n"
					  "config.toml:5:15: expected an address that can be connected to, but \"deaf\" cannot connect\n"
					  "config.toml:6:15: \"pack\" carries messages, but the route's key \"byte\" carries bytes\n"
					  "config.toml:7:15: \"byte\" carries bytes, but the route's key \"pack\" carries messages\n"
					  "config.toml:8:15: expected the name of a subport behind \"!\": \"*\" stands only in keys; "
					  "\"!{multiplex}\" hands the client's on\n");
}

Test(table_errors, references)
{
	table_test_errors("\"byte:*4:1\" = \">stubb\"\n"
					  "\"byte:*4:2\" = \"> stub\"\n"
					  "\"byte:*4:3\" = \">stub byte:*4:x\"\n"
					  "\"byte:*4:4\" = \">nothing-like-it  byte:*4:1!{s n}\"\n",
					  "config.toml:4:17: unknown router \"stubb\", did you mean \"stub\"?\n"
					  "config.toml:5:17: expected the id of a router right behind \">\"\n"
					  "config.toml:6:30: port \"x\", expected a number from 0 to 65535\n"
					  "config.toml:7:17: unknown router \"nothing-like-it\"\n"
					  "config.toml:7:44: expected a name and \"}\" behind \"{\"; a brace itself is written %7B\n");
}

Test(table_errors, templates_that_are_none)
{
	table_test_errors("\"byte:*4:1!*\" = \"byte:{multi plex}.a:1\"\n"
					  "\"byte:*4:2\" = \"byte:{}:1\"\n"
					  "\"byte:*4:4\" = \"byte:{addr:1\"\n",
					  "config.toml:4:23: expected a name and \"}\" behind \"{\"; a brace itself is written %7B\n"
					  "config.toml:5:21: expected a name and \"}\" behind \"{\"; a brace itself is written %7B\n"
					  "config.toml:6:21: expected a name and \"}\" behind \"{\"; a brace itself is written %7B\n");
}

Test(table_errors, reading_stops_where_nobody_would_read_on)
{
	enum { COUNT = 5000 };
	struct table_test test;
	char *text;
	size_t length;
	FILE *file = open_memstream(&text, &length);
	fputs(FRONT "[front.routes]\n", file);
	for (size_t i = 0; i < COUNT; i++)
		fprintf(file, "\"byte:*4:1!s%zu\" = \"byte:t:x\"\n", i);
	fclose(file);
	table_test_load(&test, "/", text);
	cr_expect_eq(test.report.count, REPORT_MAX);
	cr_expect_lt(test.report.dropped, 10);
	table_test_end(&test);
	free(text);
}

/* ---- Warnings: what looks like a mistake but need not be one
 * --------------------------------------------- */

#define NEITHER(name, alias)                                                                                     \
	"{" name "} is neither a field of \"" alias "\" nor a fact that connpipe itself finds out: connections for " \
	"which no converter or router sets it are refused"

Test(table_warnings, names_that_nothing_in_sight_has)
{
	table_test_warnings("[front]\ntype = \"table\"\n[front.routes]\n"
						"\"byte:*4:1!*\" = \"byte:{multiplx}.a:{port}\"\n"
						"\"cmd:x\" = \"byte:{addr}:1\"\n"
						"\"wrap+byte:*4:2\" = \"byte:{snj}:1\"\n",
						"config.toml:4:17: " NEITHER(
							"multiplx", "byte") "; did you mean {multiplex}?\n"
												"config.toml:5:11: " NEITHER(
													"addr", "cmd") "\n"
																   "config.toml:6:20: " NEITHER(
																	   "snj", "byte") "; did you mean {sni}?\n");
}

Test(table_warnings, facts_that_a_converter_or_another_router_may_find_out)
{
	table_test_warnings("[front]\ntype = \"table\"\n[front.routes]\n"
						"\"wrap+byte:*4:1\" = \"byte:{client_cert.subject}:1\"\n"
						"\"byte:*4:2\" = \"byte:{sni}.{alpn}.{proto}.{host}.{path}:1\"\n"
						"[asked]\ntype = \"table\"\nbind = false\n[asked.routes]\n"
						"\"byte:*4:2\" = \"byte:{region}:1\"\n",
						"");
}

Test(table_warnings, rules_that_are_never_reached)
{
	table_test_warnings("[front]\ntype = \"table\"\n[front.routes]\n"
						"\"byte:*4:1\" = [{ to = \"byte:a:1\" }, { to = \"byte:b:1\" }]\n",
						"config.toml:4:37: this route is never reached: the one before it always holds\n");
}

Test(table_warnings, a_hundred_are_enough)
{
	struct table_test test;
	char *text, *lines;
	size_t length, count = 0;
	FILE *file = open_memstream(&text, &length);
	fputs(FRONT "[front.routes]\n", file);
	for (size_t i = 0; i < 1000; i++)
		fprintf(file, "\"byte:*4:1!s%zu\" = \"byte:{mltiplex}:1\"\n", i);
	fclose(file);
	lines = table_test_load_logged(&test, text);
	cr_assert(test.generation);
	for (const char *at = lines; (at = strchr(at, '\n')); at++)
		count++;
	cr_expect_eq(count, 101);
	cr_expect(strstr(lines, "config.toml:104:20: more like these follow and are not listed\n"));
	table_test_end(&test);
	free(lines);
	free(text);
}

/* ---- Loops
 * ----------------------------------------------------------------------------------------------- */

#define TABLE(name, routes) "[" name "]\ntype = \"table\"\n[" name ".routes]\n" routes
#define ASKED(name, routes) "[" name "]\ntype = \"table\"\nbind = false\n[" name ".routes]\n" routes

Test(table_loops, a_router_that_asks_itself)
{
	table_test_errors("\"byte:*4:1\" = \">front\"\n",
					  "config.toml:4:15: these routers ask each other without end: front "
					  "(config.toml:4:15) → front\n");
}

Test(table_loops, two_tables_report_once)
{
	table_test_all_errors(
		"/", TABLE("zero", "\"byte:*4:1!*\" = \">rules\"\n") ASKED("rules", "\"byte:*4:1!*\" = \">zero\"\n"),
		"config.toml:9:17: these routers ask each other without end: rules (config.toml:9:17) → zero "
		"(config.toml:4:17) → rules\n");
}

Test(table_loops, through_a_name_that_another_table_has_as_any)
{
	table_test_all_errors(
		"/",
		TABLE("front", "\"byte:*4:1!*\" = \">rules\"\n")
			ASKED("rules", "\"byte:*4:1!x\" = \">front\"\n\"byte:*4:1!y\" = \"byte:a:1\"\n"),
		"config.toml:9:17: these routers ask each other without end: rules (config.toml:9:17) → front "
		"(config.toml:4:17) → rules\n");
}

Test(table_loops, through_other_addresses_and_a_router_that_is_no_table)
{
	table_test_errors("\"byte:*4:1\" = \">front byte:*4:2\"\n\"byte:*4:2\" = \">lead byte:*4:1\"\n",
					  "config.toml:4:15: these routers ask each other without end: front (config.toml:4:15) → front "
					  "(config.toml:5:15) → lead → front\n");
}

Test(table_loops, one_that_others_lead_into_is_reported_by_its_own)
{
	table_test_all_errors("/",
						  TABLE("a", "\"byte:*4:1\" = \">b byte:*4:2\"\n") ASKED("b", "\"byte:*4:2\" = \">c\"\n")
							  ASKED("c", "\"byte:*4:2\" = \">b\"\n"),
						  "config.toml:9:15: these routers ask each other without end: b (config.toml:9:15) → c "
						  "(config.toml:14:15) → b\n");
}

Test(table_loops, what_depends_on_the_connection_is_no_loop)
{
	struct table_test test;
	table_test_routes(&test, "\"byte:*4:1\" = { when = { from = \"::1\" }, to = \">front\" }\n"
							 "\"byte:*4:2!*\" = \">front byte:*4:2!x{multiplex}\"\n"
							 "\"byte:*4:3!*\" = \">front byte:*4:3!x\"\n"
							 "\"byte:*4:3!x\" = \"byte:a:1\"\n");
	table_test_end(&test);
}
