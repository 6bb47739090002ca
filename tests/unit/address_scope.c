/* Scopes: adding, looking up, and names that two systems claim. */
#include "address_fakes.h"

#include <connpipe/system.h>

#include <criterion/criterion.h>

#include <stdio.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

static struct cp_scope *scope;
static struct cp_error error;

static void begin(void)
{
	scope = scope_new("/etc/connpipe");
}

static void end(void)
{
	scope_free(scope);
}

TestSuite(address_scope, .init = begin, .fini = end);

static const struct cp_field_def tcp_fields[] = {{"addr", CP_STRING, CP_ROLE_HOST, false},
												 {"port", CP_U16, CP_ROLE_PORT, false}};
static const char *const tcp_aliases[] = {"tcp", "stream", NULL};
static const struct cp_connector_def tcp_def = {.aliases = tcp_aliases, .fields = tcp_fields, .field_count = 2};

static const char *printed(const struct cp_address *address)
{
	static char text[128];

	cp_address_print(address, text, sizeof(text));
	return text;
}

static struct cp_connector *look_up(const char *name, const char **alias)
{
	return scope_find_connector(scope, name, strlen(name), alias, &error);
}

Test(address_scope, connector_is_found_by_each_of_its_names)
{
	struct cp_connector tcp = {.def = &tcp_def};
	const char *alias;

	cr_assert_eq(scope_add_connector(scope, &tcp, "1e1001.connpipe.core", &error), CP_OK);
	cr_assert_eq(look_up("tcp", &alias), &tcp);
	cr_assert_eq(alias, tcp_aliases[0]);
	cr_assert_eq(look_up("stream", &alias), &tcp);
	cr_assert_eq(alias, tcp_aliases[1]);
	cr_assert_eq(look_up("1e1001.connpipe.core.stream", &alias), &tcp);
	cr_assert_eq(alias, tcp_aliases[1]);
	cr_assert_null(look_up("connpipe.core.tcp", &alias));
	cr_assert_null(look_up("1e1001.connpipe.core.", &alias));
	cr_assert_null(look_up(".tcp", &alias));
	cr_assert_eq(error.code, CP_ENOTFOUND);
	cr_assert_null(scope_find_connector(scope, "tcpx", 2, &alias, &error));
	cr_assert_eq(scope_find_connector(scope, "tcpx", 3, &alias, &error), &tcp);
	cr_assert_str_eq(scope_config_dir(scope), "/etc/connpipe");
}

Test(address_scope, empty_scope_knows_nothing)
{
	const char *alias;

	cr_assert_null(look_up("tcp", &alias));
	cr_assert_str_eq(error.message, "unknown connector \"tcp\"; an address begins with one, as in tcp:host:port");
	cr_assert_null(scope_find_converter(scope, "tls", 3, &error));
	cr_assert_null(cp_scope_router(scope, "main"));
	cr_assert_not(scope_is_vague(scope, "tcp"));
	cr_assert_null(scope_connector_at(scope, 0, NULL));
}

Test(address_scope, alias_of_two_systems_is_vague_and_printed_qualified)
{
	struct cp_connector one = {.def = &tcp_def}, two = {.def = &tcp_def}, three = {.def = &tcp_def};
	struct cp_arena *arena = cp_arena_new(0);
	const struct cp_address *early, *late;
	const char *alias;

	cr_assert_eq(scope_add_connector(scope, &one, "one", &error), CP_OK);
	early = fakes_parse(scope, arena, "tcp:a:1", 0, &error);
	cr_assert_str_eq(printed(early), "tcp:a:1");
	cr_assert_not(scope_is_vague(scope, "tcp"));

	cr_assert_eq(scope_add_connector(scope, &two, "my.two", &error), CP_OK);
	cr_assert(scope_is_vague(scope, "tcp"));
	cr_assert(scope_is_vague(scope, "stream"));
	cr_assert_not(scope_is_vague(scope, "one.tcp"));
	cr_assert_null(look_up("tcp", &alias));
	cr_assert_eq(error.code, CP_EINVAL);
	cr_assert_str_eq(error.message,
					 "connector \"tcp\" is vague: systems \"one\" and \"my.two\" have it; write one.tcp or "
					 "my.two.tcp");
	cr_assert_str_eq(printed(early), "one.tcp:a:1", "an address made before is written qualified too");
	late = fakes_parse(scope, arena, "my.two.stream:a:1", 0, &error);
	cr_assert_eq(late->connector, &two);
	cr_assert_str_eq(printed(late), "my.two.stream:a:1");
	cr_assert_str_eq(late->alias, "stream");

	cr_assert_eq(scope_add_connector(scope, &three, "three", &error), CP_OK);
	cr_assert_eq(look_up("three.tcp", &alias), &three);
	cr_assert_str_eq(printed(fakes_parse(scope, arena, "three.tcp:a:1", 0, &error)), "three.tcp:a:1");
	cr_assert_str_eq(printed(early), "one.tcp:a:1");
	cp_arena_free(arena);
}

/* As a listener does that says where it is bound. */
Test(address_scope, changed_copy_of_an_address_is_printed_qualified_too)
{
	struct cp_connector one = {.def = &tcp_def}, two = {.def = &tcp_def};
	struct cp_arena *arena = cp_arena_new(0);
	struct cp_address copy;

	scope_add_connector(scope, &one, "one", &error);
	scope_add_connector(scope, &two, "two", &error);
	copy = *fakes_parse(scope, arena, "two.tcp:a:1", 0, &error);
	copy.fields.at = (const struct cp_field[]){{"addr", cp_string("b", 1)}, {"port", cp_unsigned(CP_U16, 2)}};
	cr_assert_str_eq(printed(&copy), "two.tcp:b:2");
	cp_arena_free(arena);
}

Test(address_scope, one_system_has_a_name_once)
{
	static const char *const other_aliases[] = {"other", "stream", NULL}, *const twice[] = {"x", "x", NULL};
	static const struct cp_connector_def other_def = {.aliases = other_aliases}, twice_def = {.aliases = twice};
	struct cp_connector tcp = {.def = &tcp_def}, other = {.def = &other_def}, repeated = {.def = &twice_def};
	const char *alias;

	cr_assert_eq(scope_add_connector(scope, &tcp, "core", &error), CP_OK);
	cr_assert_eq(scope_add_connector(scope, &other, "core", &error), CP_EEXIST);
	cr_assert_str_eq(error.message, "system \"core\" has a connector \"stream\" already");
	cr_assert_null(look_up("other", &alias), "nothing of it was added");
	cr_assert_eq(scope_add_connector(scope, &repeated, "core", &error), CP_EEXIST);
	cr_assert_eq(scope_add_connector(scope, &other, "next", &error), CP_OK);
	cr_assert_eq(look_up("other", &alias), &other);
	cr_assert_not(scope_is_vague(scope, "tcp"));
	cr_assert(scope_is_vague(scope, "stream"));
}

static void assert_refused(const struct cp_connector_def *def, const char *system_id, const char *says)
{
	struct cp_connector connector = {.def = def};

	cr_assert_eq(scope_add_connector(scope, &connector, system_id, &error), CP_EINVAL, "%s", says);
	cr_assert(strstr(error.message, says), "\"%s\", expected \"%s\"", error.message, says);
	cr_assert_null(scope_connector_at(scope, 0, NULL));
}

Test(address_scope, names_must_stand_in_an_address)
{
	static const char *const bad[] = {"",    "a.b", "a:b",  "a/b", "a+b", "a(b",
									  "a)b", "a b", "a\tb", "a!b", "a%b", "\xff"};

	for (size_t i = 0; i < COUNT(bad); i++) {
		const char *const aliases[] = {"good", bad[i], NULL};

		assert_refused(&(struct cp_connector_def){.aliases = aliases}, "core", "is not a name for a connector");
	}
	assert_refused(&tcp_def, "", "is not an id for a system with a connector");
	assert_refused(&tcp_def, "a b", "is not an id");
	assert_refused(&(struct cp_connector_def){.aliases = (const char *const[]){NULL}}, "core", "has no alias");
}

Test(address_scope, fields_must_fit_their_roles)
{
	static const struct cp_field_def other[] = {{"x", CP_STRING, CP_ROLE_OTHER, false}};
	static const struct cp_field_def wide[] = {{"port", CP_U32, CP_ROLE_PORT, false}};
	static const struct cp_field_def number[] = {{"addr", CP_U8, CP_ROLE_HOST, false}};
	static const struct cp_field_def two[] = {{"a", CP_STRING, CP_ROLE_PATH, false},
											  {"b", CP_STRING, CP_ROLE_PATH, true}};
	static const struct cp_field_def many[65];

	assert_refused(&(struct cp_connector_def){.aliases = tcp_aliases, .fields = other, .field_count = 1}, "core",
				   "field \"x\" needs parse and format");
	assert_refused(&(struct cp_connector_def){.aliases = tcp_aliases, .fields = wide, .field_count = 1}, "core",
				   "field \"port\" of type u32 does not fit its role");
	assert_refused(&(struct cp_connector_def){.aliases = tcp_aliases, .fields = number, .field_count = 1}, "core",
				   "does not fit its role");
	assert_refused(&(struct cp_connector_def){.aliases = tcp_aliases, .fields = two, .field_count = 2}, "core",
				   "field \"b\" has the role of another field");
	assert_refused(&(struct cp_connector_def){.aliases = tcp_aliases, .fields = many, .field_count = 65}, "core",
				   "has 65 fields, expected at most 64");
}

Test(address_scope, converters_are_vague_in_the_same_way)
{
	static const struct cp_converter_def def = {.id = "tls"};
	struct cp_converter one = {.def = &def}, two = {.def = &def}, again = {.def = &def};

	cr_assert_eq(scope_add_converter(scope, &one, "one", &error), CP_OK);
	cr_assert_eq(scope_find_converter(scope, "tls", 3, &error), &one);
	cr_assert_str_eq(one.name, "tls");
	cr_assert_eq(scope_add_converter(scope, &again, "one", &error), CP_EEXIST);
	cr_assert_eq(scope_add_converter(scope, &two, "two", &error), CP_OK);
	cr_assert_null(scope_find_converter(scope, "tls", 3, &error));
	cr_assert_str_eq(error.message,
					 "converter \"tls\" is vague: systems \"one\" and \"two\" have it; write one.tls or two.tls");
	cr_assert_eq(scope_find_converter(scope, "two.tls", 7, &error), &two);
	cr_assert_str_eq(one.name, "one.tls");
	cr_assert_str_eq(two.name, "two.tls");
	cr_assert_null(scope_find_converter(scope, "tsl", 3, &error));
	cr_assert_str_eq(error.message, "unknown converter \"tsl\", did you mean \"tls\"?");
}

Test(address_scope, router_ids_are_unique)
{
	struct cp_router one = {.id = "main"}, two = {.id = "main"}, dotted = {.id = "a b.c"};

	cr_assert_eq(scope_add_router(scope, &one, "x", &error), CP_OK);
	cr_assert_eq(scope_add_router(scope, &two, "x", &error), CP_EEXIST);
	cr_assert_str_eq(error.message, "system \"x\" has a router \"main\" already");
	cr_assert_eq(scope_add_router(scope, &two, "y", &error), CP_EEXIST);
	cr_assert_str_eq(error.message, "systems \"x\" and \"y\" both have a router \"main\"");
	cr_assert_eq(scope_add_router(scope, &dotted, "y", &error), CP_OK);
	cr_assert_eq(cp_scope_router(scope, "main"), &one);
	cr_assert_eq(cp_scope_router(scope, "a b.c"), &dotted);
	cr_assert_null(cp_scope_router(scope, "c"));
}

Test(address_scope, lists_keep_the_order_of_adding)
{
	const char *system_id;
	struct cp_scope *fakes = fakes_scope();

	cr_assert_str_eq(scope_connector_at(fakes, 0, &system_id)->def->aliases[0], "tcp");
	cr_assert_str_eq(system_id, "core");
	cr_assert_str_eq(scope_connector_at(fakes, 7, &system_id)->def->aliases[0], "udp");
	cr_assert_str_eq(system_id, "my.extra");
	cr_assert_null(scope_connector_at(fakes, 11, &system_id));
	cr_assert_str_eq(scope_converter_at(fakes, 2, &system_id)->def->id, "plain");
	cr_assert_null(scope_converter_at(fakes, 4, &system_id));
	cr_assert_str_eq(scope_router_at(fakes, 1, &system_id)->id, "other");
	cr_assert_str_eq(system_id, "my.extra");
	cr_assert_null(scope_router_at(fakes, 2, &system_id));
	cr_assert_eq(cp_scope_router_at(fakes, 1), scope_router_at(fakes, 1, &system_id));
	cr_assert_null(cp_scope_router_at(fakes, 2));
	scope_free(fakes);
}

/* More than one growth of the tables. */
Test(address_scope, many_names_are_all_found)
{
	enum { MANY = 500 };
	static char names[MANY][16];
	static const char *aliases[MANY][2];
	static struct cp_connector_def defs[MANY];
	static struct cp_connector connectors[MANY];
	const char *alias;

	for (int i = 0; i < MANY; i++) {
		snprintf(names[i], sizeof(names[i]), "c%d", i);
		aliases[i][0] = names[i];
		defs[i].aliases = aliases[i];
		connectors[i].def = &defs[i];
		cr_assert_eq(scope_add_connector(scope, &connectors[i], "core", &error), CP_OK);
	}
	for (int i = 0; i < MANY; i++) {
		char qualified[32];

		snprintf(qualified, sizeof(qualified), "core.c%d", i);
		cr_assert_eq(look_up(names[i], &alias), &connectors[i]);
		cr_assert_eq(look_up(qualified, &alias), &connectors[i]);
	}
	cr_assert_null(look_up("c500", &alias));
}
