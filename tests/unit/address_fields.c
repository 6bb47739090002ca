/* Addresses from fields, and their fields. */
#include "address_fakes.h"

#include <criterion/criterion.h>

#include <stdio.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

static struct cp_scope *scope;
static struct cp_arena *arena;

static void begin(void)
{
	scope = fakes_scope();
	arena = cp_arena_new(0);
}

static void end(void)
{
	cp_arena_free(arena);
	scope_free(scope);
}

TestSuite(address_fields, .init = begin, .fini = end);

static struct cp_value text(const char *s)
{
	return cp_string(s, strlen(s));
}

static struct cp_value number(uint64_t n)
{
	return cp_unsigned(CP_U64, n);
}

static struct cp_value real(double n)
{
	struct cp_value value = cp_unsigned(CP_F64, 0);

	value.as.f = n;
	return value;
}

#define MOST 6
struct input {
	const char *connector;
	struct cp_field fields[MOST]; /* ends with a name NULL */
};

static const struct cp_address *make(const struct input *input, struct cp_error *error)
{
	const struct cp_address *address = NULL;
	struct cp_fields fields = {input->fields, 0};

	while (fields.count < MOST && input->fields[fields.count].name)
		fields.count++;
	if (cp_address_from_fields(scope, arena, input->connector, fields, &address, error) != CP_OK)
		return NULL;
	return address;
}

static const char *printed(const struct cp_address *address)
{
	size_t length = cp_address_print(address, NULL, 0);
	char *buffer = cp_arena_alloc(arena, length + 1);

	cp_address_print(address, buffer, length + 1);
	return buffer;
}

/* ---- Making ------------------------------------------------------------------------------------------------- */

static void assert_made(const struct input *input, const char *expected)
{
	struct cp_error error = {0};
	const struct cp_address *address = make(input, &error);

	cr_assert(address, "%s: %s: %s", expected, error.where, error.message);
	cr_assert_str_eq(printed(address), expected);
}

Test(address_fields, good_fields_make_an_address)
{
	const struct {
		struct input input;
		const char *text;
	} cases[] = {
		{{"tcp", {{"addr", text("db.local")}, {"port", number(5432)}, {"multiplex", text("orders")}}},
		 "tcp:db.local:5432!orders"},
		{{"tcp", {{"port", text("80")}, {"addr", text("EXAMPLE.org")}}}, "tcp:example.org:80"},
		{{"tcp", {{"addr", text("::1")}, {"port", real(80.0)}, {"multiplex", cp_null()}}}, "tcp:[::1]:80"},
		{{"tcp", {{"addr", text("::ffff:10.0.0.1")}, {"port", number(0)}}}, "tcp:10.0.0.1:0"},
		{{"tcp", {{"addr", text("fe80::1%eth0")}, {"port", number(1)}}}, "tcp:[fe80::1%eth0]:1"},
		{{"core.tcp", {{"addr", text("a")}, {"port", number(1)}}}, "tcp:a:1"},
		{{"my.extra.udp", {{"addr", text("a")}, {"port", number(1)}}}, "my.extra.udp:a:1"},
		{{"tcp", {{"addr", text("a")}, {"port", number(1)}, {"multiplex", text("a!b %{c}")}}},
		 "tcp:a:1!a%21b%20%25%7Bc%7D"},
		{{"tcp", {{"addr", text("a")}, {"port", number(1)}, {"multiplex", cp_string("a\0b", 3)}}}, "tcp:a:1!a%00b"},
		{{"tcp", {{"addr", text("a")}, {"port", number(1)}, {"multiplex", number(7)}}}, "tcp:a:1!7"},
		{{"tcp", {{"addr", text("a")}, {"port", number(1)}, {"multiplex", text("*")}}}, "tcp:a:1!*"},
		{{"ws", {{"addr", text("a")}, {"port", number(1)}, {"path", text("/x y!")}}}, "ws:a:1/x%20y%21"},
		{{"unix", {{"path", text("x.sock")}}}, "unix:/conf/x.sock"},
		{{"exec", {{"command", text("ls {a}")}}}, "exec:ls {a}"},
		{{"echo", {{0}}}, "echo:"},
		{{"reject", {{0}}}, "reject:"},
		{{"typed",
		  {{"flag", text("true")},
		   {"small", text("7")},
		   {"big", text("-7")},
		   {"ratio", number(2)},
		   {"word", text("")}}},
		 "typed:true,7,-7,2,"},
	};

	for (size_t i = 0; i < COUNT(cases); i++)
		assert_made(&cases[i].input, cases[i].text);
}

Test(address_fields, strings_are_copied)
{
	char host[] = "abc", name[] = "xyz";
	const struct cp_address *address =
		make(&(struct input){"tcp", {{"addr", text(host)}, {"port", number(1)}, {"multiplex", text(name)}}}, NULL);

	memset(host, '#', 3);
	memset(name, '#', 3);
	cr_assert_str_eq(printed(address), "tcp:abc:1!xyz");
	cr_assert_str_eq(cp_address_field(address, "addr")->as.s, "abc");
}

Test(address_fields, bad_fields_say_which)
{
	static const char label[] = "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgggg";
	const struct {
		struct input input;
		const char *where, *says;
	} cases[] = {
		{{"tpc", {{0}}}, "", "unknown connector \"tpc\", did you mean \"tcp\"?"},
		{{"udp", {{"addr", text("a")}, {"port", number(1)}}}, "", "vague"},
		{{"tcp", {{"addr", text("a")}}}, "field \"port\" of tcp", "port is missing, expected a value of type u16"},
		{{"tcp", {{"port", number(1)}}}, "field \"addr\" of tcp", "addr is missing"},
		{{"tcp", {{"addr", cp_null()}, {"port", number(1)}}}, "field \"addr\" of tcp", "addr is missing"},
		{{"tcp", {{"addr", text("a")}, {"prot", number(1)}}}, "", "tcp has no field \"prot\", did you mean \"port\"?"},
		{{"tcp", {{"addr", text("a")}, {"path", text("/")}}}, "", "tcp has no field \"path\""},
		{{"tcp", {{"addr", text("a")}, {"addr", text("a")}}}, "", "field \"addr\" twice"},
		{{"tcp", {{"addr", text("a")}, {"port", number(65536)}}}, "field \"port\" of tcp", "65536 is out of range"},
		{{"tcp", {{"addr", text("a")}, {"port", text("x")}}}, "field \"port\" of tcp", "\"x\""},
		{{"tcp", {{"addr", text("a")}, {"port", real(1.5)}}}, "field \"port\" of tcp", "1.5"},
		{{"tcp", {{"addr", text("")}, {"port", number(1)}}}, "field \"addr\" of tcp", "is empty"},
		{{"tcp", {{"addr", text("a b")}, {"port", number(1)}}}, "field \"addr\" of tcp", "host \"a b\" is no host"},
		{{"tcp", {{"addr", text("[::1]")}, {"port", number(1)}}}, "field \"addr\" of tcp", "is not an IPv6 address"},
		{{"tcp", {{"addr", text("$4")}, {"port", number(1)}}}, "field \"addr\" of tcp", "is no host"},
		{{"tcp", {{"addr", text("{a}")}, {"port", number(1)}}}, "field \"addr\" of tcp", "is no host"},
		{{"tcp", {{"addr", text("a:80")}, {"port", number(1)}}}, "field \"addr\" of tcp", "is not an IPv6 address"},
		{{"tcp", {{"addr", cp_string("a\0b", 3)}, {"port", number(1)}}}, "field \"addr\" of tcp", "zero byte"},
		{{"tcp", {{"addr", text(label)}, {"port", number(1)}}}, "field \"addr\" of tcp", "label of more than 63"},
		{{"tcp", {{"addr", text("a")}, {"port", number(1)}, {"multiplex", text("")}}},
		 "field \"multiplex\" of tcp",
		 "at least one byte"},
		{{"tcp", {{"addr", text("a")}, {"port", number(1)}, {"multiplex", text("\xff")}}},
		 "field \"multiplex\" of tcp",
		 "not valid UTF-8"},
		{{"ws", {{"addr", text("a")}, {"port", number(1)}, {"path", text("x")}}},
		 "field \"path\" of ws",
		 "path \"x\", expected \"/\" at its start"},
		{{"ws", {{"addr", text("a")}, {"port", number(1)}, {"path", text("")}}},
		 "field \"path\" of ws",
		 "expected a path"},
		{{"wss", {{"addr", text("a")}}}, "field \"port\" of wss", "port is missing"},
		{{"unix", {{"path", cp_string("/a\0b", 4)}}}, "field \"path\" of unix", "zero byte"},
		{{"exec", {{0}}}, "field \"command\" of exec", "command is missing"},
		{{"echo", {{"reason", text("x")}}}, "", "echo has no field \"reason\""},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct cp_error error = {0};

		cr_assert_null(make(&cases[i].input, &error), "case %zu was accepted", i);
		cr_assert_str_eq(error.where, cases[i].where, "case %zu: \"%s\" (%s)", i, error.where, error.message);
		cr_assert(strstr(error.message, cases[i].says), "case %zu: \"%s\"", i, error.message);
		cr_assert_lt(error.code, 0);
		cr_assert_null(make(&cases[i].input, NULL));
	}
}

Test(address_fields, connector_checks_them_together)
{
	struct cp_error error;
	char path[200];

	memset(path, 'x', 120);
	path[120] = '\0';
	cr_assert_null(make(&(struct input){"unix", {{"path", text(path)}}}, &error));
	cr_assert_str_eq(error.where, "fields of unix");
	cr_assert_str_eq(error.message, "path of 126 bytes, expected at most 107");
}

Test(address_fields, fields_of_a_text_make_the_same_address)
{
	static const char *const texts[] = {
		"tcp:127.0.0.1:80!web",
		"tcp:*6:0",
		"tcp:[fe80::1%eth0]:80",
		"tcp:Example.ORG.:1!%00%21",
		"ws:a:1/x%21y!z",
		"ws:a:1",
		"unix:rel/x!y",
		"unix:@x",
		"exec:a 'b c' {d}",
		"reject:",
		"reject:no",
		"typed:true,255,-9223372036854775808,0.1,a%2Cb",
		"port:/x",
		"sub:!*",
		"echo:",
		"my.extra.udp:a:1",
	};

	for (size_t i = 0; i < COUNT(texts); i++) {
		const struct cp_address *first = fakes_parse(scope, arena, texts[i], 0, NULL), *second;
		const char *name = strchr(texts[i], '.') && strstr(texts[i], "udp") ? "my.extra.udp" : first->alias;

		cr_assert_eq(cp_address_from_fields(scope, arena, name, first->fields, &second, NULL), CP_OK, "%s", texts[i]);
		cr_assert_str_eq(printed(first), printed(second));
		for (uint32_t k = 0; k < first->fields.count; k++)
			cr_assert(cp_value_equal(&first->fields.at[k].value, &second->fields.at[k].value), "%s", texts[i]);
	}
}

/* The way a table takes: the template's fields with values in their place, then checked as any others. */
Test(address_fields, expanded_template_is_checked)
{
	const struct cp_address *template = fakes_parse(scope, arena, "tcp:{h}:{p}!{m}", CP_PARSE_TEMPLATE, NULL);
	struct cp_field fields[3];
	const struct cp_address *address;
	struct cp_error error;

	memcpy(fields, template->fields.at, sizeof(fields));
	fields[0].value = text("Host");
	fields[1].value = text("80");
	fields[2].value = text("a!b:{c}");
	cr_assert_eq(cp_address_from_fields(scope, arena, "tcp", (struct cp_fields){fields, 3}, &address, &error), CP_OK);
	cr_assert_str_eq(printed(address), "tcp:host:80!a%21b:%7Bc%7D");
	fields[0].value = text("host:1!x");
	cr_assert_eq(cp_address_from_fields(scope, arena, "tcp", (struct cp_fields){fields, 3}, &address, &error),
				 CP_EINVAL);
}

/* ---- Looking ------------------------------------------------------------------------------------------------ */

Test(address_fields, all_fields_are_there_in_the_order_of_the_connector)
{
	const struct cp_address *address = fakes_parse(scope, arena, "ws:a:80", 0, NULL);

	cr_assert_eq(address->fields.count, 4);
	cr_assert_str_eq(address->fields.at[0].name, "addr");
	cr_assert_str_eq(address->fields.at[3].name, "multiplex");
	cr_assert_str_eq(cp_address_field(address, "addr")->as.s, "a");
	cr_assert_eq(cp_address_field(address, "port")->kind, CP_U16);
	cr_assert_eq(cp_address_field(address, "port")->as.u, 80);
	cr_assert_eq(cp_address_field(address, "path")->kind, CP_NULL);
	cr_assert_null(cp_address_field(address, "x"));
}

Test(address_fields, multiplex_is_found_by_its_role)
{
	size_t length = 0;

	cr_assert_null(cp_address_multiplex(fakes_parse(scope, arena, "tcp:a:1", 0, NULL), &length));
	cr_assert_null(cp_address_multiplex(fakes_parse(scope, arena, "core.udp:a:1", 0, NULL), &length));
	cr_assert_null(cp_address_multiplex(fakes_parse(scope, arena, "echo:", 0, NULL), &length));
	cr_assert_eq(memcmp(cp_address_multiplex(fakes_parse(scope, arena, "tcp:a:1!a%00b", 0, NULL), &length), "a\0b", 4),
				 0);
	cr_assert_eq(length, 3);
}

Test(address_fields, with_multiplex_changes_only_that)
{
	const struct cp_address *address = fakes_parse(scope, arena, "tls(x)+ws:a:1/p!q", 0, NULL);
	char name[] = "new";
	const struct cp_address *other = cp_address_with_multiplex(address, arena, name, 3);

	name[0] = '#';
	cr_assert_str_eq(printed(other), "tls(x)+ws:a:1/p!new");
	cr_assert_str_eq(printed(cp_address_with_multiplex(other, arena, NULL, 0)), "tls(x)+ws:a:1/p");
	cr_assert_str_eq(printed(address), "tls(x)+ws:a:1/p!q");
	cr_assert_eq(other->layers, address->layers);
}

Test(address_fields, with_multiplex_refuses_what_is_none)
{
	const struct cp_address *address = fakes_parse(scope, arena, "tcp:a:1!x", 0, NULL);
	static char big[65536];

	memset(big, 'a', sizeof(big));
	cr_assert(cp_address_with_multiplex(address, arena, big, 65535));
	cr_assert_null(cp_address_with_multiplex(address, arena, big, 65536));
	cr_assert_null(cp_address_with_multiplex(address, arena, "", 0));
	cr_assert_null(cp_address_with_multiplex(address, arena, "\xff", 1));
	cr_assert_null(cp_address_with_multiplex(fakes_parse(scope, arena, "echo:", 0, NULL), arena, "a", 1));
}
