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
				WHEN("6", "{ frm = \"::1\" }") WHEN("7", "{ sni = [], from = \"::1\" }"),
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
		"config.toml:10:32: expected at least one string, found an empty list\n");
}

Test(table_errors, names_that_could_never_match)
{
	table_test_errors(
		WHEN("1", "{ sni = 1 }") WHEN("2", "{ sni = [\"a\", \"\"] }") WHEN("3", "{ sni = \"www.*.org\" }")
			WHEN("4", "{ host = [\"a..b\", \".a\", \"*.\", \".\"] }") WHEN("5", "{ host = \"example.org:80\" }")
				WHEN("6", "{ sni = \"b\u00fccher.example\" }") WHEN("7", "{ host = [\"[::1\", \"[1.2.3.4]\"] }")
					WHEN("8", "{ sni = \"a b\" }") WHEN("9", "{ sni = \"*a\" }"),
		"config.toml:4:32: expected a string, or a list of strings any of which may match, found an integer\n"
		"config.toml:5:38: expected something to compare with, found \"\"\n"
		"config.toml:6:37: \"*\" stands for whole labels in front, as in \"*.example.org\", or for the whole name\n"
		"config.toml:7:37: expected a label: a name has none that are empty\n"
		"config.toml:7:43: expected a label: a name has none that are empty\n"
		"config.toml:7:51: expected a label: a name has none that are empty\n"
		"config.toml:7:55: expected a label: a name has none that are empty\n"
		"config.toml:8:45: expected a name without a port\n"
		"config.toml:9:34: expected the name as clients send it: in ASCII, with \"xn--\"\n"
		"config.toml:10:34: expected an IPv6 address in the brackets, as \"[2001:db8::1]\"\n"
		"config.toml:10:42: expected an IPv6 address in the brackets, as \"[2001:db8::1]\"\n"
		"config.toml:11:34: expected letters, digits, \"-\" and \"_\" with dots between them\n"
		"config.toml:12:33: \"*\" stands for whole labels in front, as in \"*.example.org\", or for the whole name\n");
}

Test(table_errors, names_that_are_too_long)
{
	char label[65], routes[1024];
	memset(label, 'a', 64);
	label[64] = '\0';
	snprintf(routes, sizeof(routes),
			 WHEN("1", "{ sni = \"b.%s\" }") WHEN("2", "{ sni = \"%.62s.%.62s.%.62s.%.62s.x\" }"), label, label, label,
			 label, label);
	table_test_errors(routes, "config.toml:4:35: a label has at most 63 characters\n");
	snprintf(routes, sizeof(routes), WHEN("1", "{ sni = \"%.63s.%.63s.%.63s.%.63s\" }"), label, label, label, label);
	table_test_errors(routes, "config.toml:4:32: a name has at most 253 characters\n");
}

Test(table_errors, paths_methods_and_protocols_that_could_never_match)
{
	table_test_errors(
		WHEN("1", "{ path = \"api/*\" }") WHEN("2", "{ path = \"/a*b\" }") WHEN("3", "{ path = \"/a?b=1\" }")
			WHEN("4", "{ path = \"/a b\" }") WHEN("5", "{ method = \"GET /\" }") WHEN("6", "{ alpn = \"h2,http/1.1\" }")
				WHEN("7", "{ proto = [\"tls\", \"htp\"] }") WHEN("8", "{ proto = \"pop3\" }"),
		"config.toml:4:33: expected a path, as \"/status\" or \"/api/*\", found \"api/*\"\n"
		"config.toml:5:36: \"*\" stands only at the end, for whatever the path goes on with\n"
		"config.toml:6:36: expected a path alone: what is compared has no query\n"
		"config.toml:7:36: expected a path as clients send it, with %XX for what cannot stand in it\n"
		"config.toml:8:39: expected a method of HTTP in capital letters, as \"GET\"\n"
		"config.toml:9:36: expected the name of a protocol, as \"h2\" or \"http/1.1\": what has commas or is not ASCII "
		"is not looked at; several make a list: [\"h2\", …]\n"
		"config.toml:10:42: unknown protocol \"htp\", did you mean \"http\"?; there are tls, ssh, http, connpipe and "
		"the "
		"patterns of this table's `sniff`\n"
		"config.toml:11:34: unknown protocol \"pop3\"; there are tls, ssh, http, connpipe and the patterns of this "
		"table's `sniff`\n");
}

/* ---- Protocols ---------------------------------------------------------------------------------------------- */

#define SNIFF(lines) FRONT "[front.sniff]\n" lines "[front.routes]\n\"byte:*4:1\" = \"byte:a:1\"\n"

Test(table_errors, patterns)
{
	table_test_all_errors(
		"/",
		SNIFF("a = 1\n"
			  "b = \"\"\n"
			  "c = {}\n"
			  "d = { hex = \"00\", silent = \"1s\" }\n"
			  "e = { hex = \"00 0\" }\n"
			  "f = { hex = \"0x16\" }\n"
			  "g = { hex = \"?? ??\" }\n"
			  "h = { text = \"a\", offset = 16896 }\n"
			  "i = { text = \"ab\", offset = 16895 }\n"
			  "j = { text = \"a\", timeout = \"0s\" }\n"
			  "k = { silent = \"2h\" }\n"
			  "l = { silent = \"1s\", offset = 1, timeout = \"1s\" }\n"
			  "m = { tex = \"a\" }\n"
			  "\"n o\" = \"a\"\n"
			  "p = { hex = \"\" }\n"
			  "q = { hex = 16 }\n"
			  "r = { text = \"a\", timeout = 5 }\n"),
		"config.toml:4:5: expected a text that clients begin with, or a table with `text`, `hex` or `silent`, found an "
		"integer\n"
		"config.toml:5:5: expected at least one character, found an empty string\n"
		"config.toml:6:5: expected one of `text`, `hex` and `silent`, found none of them\n"
		"config.toml:7:28: expected one of `text`, `hex` and `silent`, found `hex` and `silent`\n"
		"config.toml:8:18: expected bytes of two hexadecimal digits each, \"?\" for any digit, as \"16 03 0?\"\n"
		"config.toml:9:15: expected bytes of two hexadecimal digits each, \"?\" for any digit, as \"16 03 0?\"\n"
		"config.toml:10:13: expected at least one digit that is no \"?\"\n"
		"config.toml:11:28: expected an integer from 0 to 16895, found the integer 16896\n"
		"config.toml:12:5: at most 16896 bytes are looked at, these end behind 16897\n"
		"config.toml:13:29: expected a time from \"1ms\" to \"1h\"\n"
		"config.toml:14:16: expected a time from \"1ms\" to \"1h\"\n"
		"config.toml:15:31: `offset` is for `text` and `hex`: who says nothing has no bytes\n"
		"config.toml:15:44: `timeout` is for `text` and `hex`: `silent` is a time already\n"
		"config.toml:16:5: expected one of `text`, `hex` and `silent`, found none of them\n"
		"config.toml:16:7: unknown key \"tex\", did you mean \"text\"?\n"
		"config.toml:17:2: expected a name of 1 to 64 letters, digits, \".\", \"_\" and \"-\", found \"n o\"\n"
		"config.toml:18:13: expected at least one digit that is no \"?\"\n"
		"config.toml:19:13: expected hexadecimal digits in a string, as \"16 03 0?\", found an integer\n"
		"config.toml:20:29: expected a duration such as \"5s\", found the integer 5\n");
}

Test(table_errors, protocols_known_without_a_pattern)
{
	table_test_all_errors(
		"/",
		SNIFF("tls = \"abc\"\nssh = { text = \"SSH\" }\nhttp = { timeout = \"1s\", text = \"a\" }\n"
			  "connpipe = {}\n"),
		"config.toml:4:7: expected { timeout = … } and nothing else: \"tls\" is known without a pattern\n"
		"config.toml:5:7: expected { timeout = … } and nothing else: \"ssh\" is known without a pattern\n"
		"config.toml:6:8: expected { timeout = … } and nothing else: \"http\" is known without a pattern\n"
		"config.toml:7:12: expected { timeout = … } and nothing else: \"connpipe\" is known without a "
		"pattern\n");
}

Test(table_errors, sniff_that_is_no_table)
{
	table_test_all_errors("/", FRONT "sniff = \"tls\"\nroutes = {}\n",
						  "config.toml:3:9: expected a table of protocols, as { smtp = \"EHLO \" }, found a string\n");
}

Test(table_errors, too_many_patterns)
{
	char *text, *reported = NULL;
	size_t length;
	struct table_test test;
	FILE *file = open_memstream(&text, &length);
	fputs(FRONT "[front.sniff]\n", file);
	for (int i = 0; i < 66; i++)
		fprintf(file, "p%02d = \"a\"\n", i);
	fputs("[front.routes]\n\"byte:*4:1\" = { when = { proto = \"p63\" }, to = \"byte:a:1\" }\n", file);
	fclose(file);
	table_test_load(&test, "/", text);
	file = open_memstream(&reported, &length);
	report_print(&test.report, file, "");
	fclose(file);
	cr_expect_str_eq(reported, "config.toml:68:1: a table has at most 64 patterns\n");
	free(reported);
	free(text);
	table_test_end(&test);
}

/* ---- Targets
 * --------------------------------------------------------------------------------------------- */

Test(table_errors, targets)
{
	table_test_errors(
		"\"byte:*4:1\" = \"byte:a:port\"\n"
		"\"byte:*4:2\" = \"deaf:a:1\"\n"
		"\"byte:*4:3\" = \"pack:a:1\"\n"
		"\"pack:*4:4\" = \"byte:a:1\"\n"
		"\"byte:*4:5\" = \"byte:a:1!*\"\n",
		"config.toml:4:23: port \"port\", expected a number from 0 to 65535\n"
		"config.toml:5:15: expected an address that can be connected to, but \"deaf\" cannot connect\n"
		"config.toml:6:15: \"pack:a:1\" carries messages, but the route's key \"byte:0.0.0.0:3\" carries bytes; "
		"\"frame+byte:0.0.0.0:3\" would carry messages, too\n"
		"config.toml:7:15: \"byte:a:1\" carries bytes, but the route's key \"pack:0.0.0.0:4\" carries messages; "
		"\"frame+byte:a:1\" would carry messages, too\n"
		"config.toml:8:15: expected the name of a subport behind \"!\": \"*\" stands only in keys; "
		"\"!{multiplex}\" hands the client's on\n");
}

Test(table_errors, messages_behind_references)
{
	const char *config =
		"[b]\ntype = \"table\"\nbind = false\n[b.routes]\n"
		"\"byte:*4:9\" = [{ when = { from = [\"10.0.0.0/8\"] }, to = \">c byte:*4:9\" }, "
		"{ to = \"both:a:1\" }]\n"
		"[c]\ntype = \"table\"\nbind = false\n[c.routes]\n\"byte:*4:9\" = [\"both:a:1\", \"byte:a:2\"]\n"
		"[a]\ntype = \"table\"\n[a.routes]\n"
		"\"pack:*4:1\" = \">b byte:*4:9\"\n"
		"\"byte:*4:2\" = \">b byte:*4:9\"\n"
		"\"pack:*4:3\" = \">stub\"\n"
		"\"pack:*4:4\" = [{ when = { from = [\"10.0.0.0/8\"] }, to = \">c byte:*4:9\" }]\n";
	table_test_all_errors(
		"/", config,
		"config.toml:14:15: \"pack:0.0.0.0:1\" carries messages, but the router \"c\", asked from here, "
		"leads to \"byte:a:2\", which carries bytes\n"
		"config.toml:17:57: \"pack:0.0.0.0:4\" carries messages, but the router \"c\", asked from here, "
		"leads to \"byte:a:2\", which carries bytes\n");
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

Test(table_warnings, protocols_that_no_route_asks_for)
{
	table_test_warnings(FRONT "[front.sniff]\n"
							  "used = \"a\"\nunused = \"b\"\ntls = { timeout = \"1s\" }\nhttp = { timeout = \"1s\" }\n"
							  "ssh = { timeout = \"1s\" }\n"
							  "[front.routes]\n"
							  "\"byte:*4:1\" = { when = { proto = \"used\", host = \"a\" }, to = \"byte:{sni}:1\" }\n",
						"config.toml:8:7: no route of this table asks for \"ssh\"\n"
						"config.toml:5:10: no route of this table asks for \"unused\"\n");
}

Test(table_warnings, conditions_that_never_hold_together)
{
	table_test_warnings(
		FRONT "[front.routes]\n"
			  "\"byte:*4:1\" = { when = { sni = \"a\", path = \"/\" }, to = \"byte:a:1\" }\n"
			  "\"wrap+byte:*4:2\" = { when = { sni = \"a\", path = \"/\" }, to = \"byte:a:1\" }\n",
		"config.toml:4:24: this never holds: what is inside TLS (host, path, method) can be seen beside "
		"sni and alpn only where the key takes TLS off\n");
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
