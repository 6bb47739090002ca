/* Addresses from text and back: parse, print, parse; and where each mistake is. */
#include "address_fakes.h"

#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>
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

TestSuite(address, .init = begin, .fini = end);

static const char *printed(const struct cp_address *address)
{
	size_t length = cp_address_print(address, NULL, 0);
	char *text = cp_arena_alloc(arena, length + 1);

	cr_assert_eq(cp_address_print(address, text, length + 1), length);
	cr_assert_eq(strlen(text), length);
	return text;
}

static const struct cp_address *parse(const char *text, unsigned flags)
{
	struct cp_error error = {0};
	const struct cp_address *address = fakes_parse(scope, arena, text, flags, &error);

	cr_assert(address, "%s: %s: %s", text, error.where, error.message);
	return address;
}

static void assert_same(const struct cp_address *a, const struct cp_address *b, const char *text)
{
	cr_assert_eq(a->connector, b->connector, "%s: connector", text);
	cr_assert_eq(a->alias, b->alias, "%s: alias", text);
	cr_assert_eq(a->flags, b->flags, "%s: flags", text);
	cr_assert_eq(a->fields.count, b->fields.count, "%s: fields", text);
	for (uint32_t i = 0; i < a->fields.count; i++) {
		cr_assert_str_eq(a->fields.at[i].name, b->fields.at[i].name);
		cr_assert(cp_value_equal(&a->fields.at[i].value, &b->fields.at[i].value), "%s: field %s", text,
				  a->fields.at[i].name);
	}
	cr_assert_eq(a->layer_count, b->layer_count, "%s: layers", text);
	for (uint32_t i = 0; i < a->layer_count; i++) {
		const char *x = a->layers[i].argument, *y = b->layers[i].argument;

		cr_assert_eq(a->layers[i].converter, b->layers[i].converter, "%s: converter %u", text, i);
		cr_assert(x && y ? strcmp(x, y) == 0 : x == y, "%s: argument %u", text, i);
	}
}

/* ---- Good ones ---------------------------------------------------------------------------------------------- */

struct good {
	const char *text;
	const char *canonical; /* NULL: the same */
};

static const struct good good[] = {
	/* hosts, ports, subports */
	{"tcp:127.0.0.1:80", NULL},
	{"tcp:127.0.0.1:8080!web", NULL},
	{"tcp/127.0.0.1:80!web", "tcp:127.0.0.1:80!web"},
	{"tcp:example.org:443", NULL},
	{"tcp:EXAMPLE.Org:443", "tcp:example.org:443"},
	{"tcp:example.org.:443", NULL},
	{"tcp:localhost:0", NULL},
	{"tcp:localhost:65535", NULL},
	{"tcp:_dmarc.a_b.x-y.org:1", NULL},
	{"tcp:a:1", NULL},
	{"tcp:1a:1", NULL},
	{"tcp:1.2.3.4a:1", NULL},
	{"tcp:xn--bcher-kva.example:1", NULL},
	{"tcp:ex%61mple.org:80", "tcp:example.org:80"},
	{"tcp:%31.2.3.4:80", "tcp:1.2.3.4:80"},
	{"tcp:0.0.0.0:80", NULL},
	{"tcp:255.255.255.255:80", NULL},
	/* shorthands */
	{"tcp:$4:22", "tcp:127.0.0.1:22"},
	{"tcp:$6:22", "tcp:[::1]:22"},
	{"tcp:$n:22", "tcp:localhost:22"},
	{"tcp:*4:22", "tcp:0.0.0.0:22"},
	{"tcp:*6:22", "tcp:[::]:22"},
	{"tcp:*6:22!x", "tcp:[::]:22!x"},
	/* IPv6 */
	{"tcp:[::1]:80", NULL},
	{"tcp:[::]:80", NULL},
	{"tcp:[2001:DB8:0:0:0:0:0:1]:80", "tcp:[2001:db8::1]:80"},
	{"tcp:[2001:0db8::0001]:80", "tcp:[2001:db8::1]:80"},
	{"tcp:[2001:db8:0:1:1:1:1:1]:80", NULL},
	{"tcp:[2001:db8::1:1:1:1:1]:80", "tcp:[2001:db8:0:1:1:1:1:1]:80"},
	{"tcp:[2001:0:0:1:0:0:0:1]:80", "tcp:[2001:0:0:1::1]:80"},
	{"tcp:[2001:db8:0:0:1:0:0:1]:80", "tcp:[2001:db8::1:0:0:1]:80"},
	{"tcp:[1:2:3:4:5:6:7::]:80", "tcp:[1:2:3:4:5:6:7:0]:80"},
	{"tcp:[64:ff9b::192.0.2.33]:80", "tcp:[64:ff9b::c000:221]:80"},
	{"tcp:[::ffff:192.0.2.1]:80", "tcp:192.0.2.1:80"},
	{"tcp:[::FFFF:c000:201]:80", "tcp:192.0.2.1:80"},
	{"tcp:[fe80::1%eth0]:80", NULL},
	{"tcp:[fe80::1%ab0]:80", NULL},
	{"tcp:[FE80::1%7]:80!x", "tcp:[fe80::1%7]:80!x"},
	{"tcp:[ff02::fb%br-lan.5]:80", NULL},
	{"tcp:%3A%3A1:80", "tcp:[::1]:80"},
	/* subports */
	{"tcp:a:1!x", NULL},
	{"tcp:a:1!*", NULL},
	{"tcp:a:1!**", NULL},
	{"tcp:a:1!a*", NULL},
	{"tcp:a:1!%2a%2A", "tcp:a:1!**"},
	{"tcp:a:1!a/b:c", NULL},
	{"tcp:a:1!a%21b", NULL},
	{"tcp:a:1!100%25", NULL},
	{"tcp:a:1!%2f", "tcp:a:1!/"},
	{"tcp:a:1!two words", "tcp:a:1!two%20words"},
	{"tcp:a:1!%00", NULL},
	{"tcp:a:1!a%0Ab", NULL},
	{"tcp:a:1!a\nb", "tcp:a:1!a%0Ab"},
	{"tcp:a:1!%7B%7D", NULL},
	{"tcp:a:1!(x)+[y]", NULL},
	{"tcp:a:1!größe", NULL},
	{"tcp:a:1!gr%C3%B6%c3%9fe", "tcp:a:1!größe"},
	{"tcp:a:1!\xf0\x9f\x9a\x80", NULL},
	{"tcp:a:1!\xc2\x9b", "tcp:a:1!%C2%9B"},
	{"tcp:a:1!\x7f", "tcp:a:1!%7F"},
	{"tcp:a:1!$4", NULL},
	/* paths */
	{"ws:a:1", NULL},
	{"ws:a:1/", NULL},
	{"ws:a:1/chat", NULL},
	{"ws:a:1/chat!x", NULL},
	{"ws:a:1!x", NULL},
	{"ws:a:1!x/y", NULL},
	{"wss:a:1/a/b:c?d=e&f#g", NULL},
	{"websocket:[::1]:1/%21!%21", NULL},
	{"ws/a:1/chat", "ws:a:1/chat"},
	{"ws:a:1/a%20b", NULL},
	{"ws:a:1/a b", "ws:a:1/a%20b"},
	{"ws:a:1/a%2Fb", "ws:a:1/a/b"},
	/* without a host */
	{"unix:/run/x.sock", NULL},
	{"unix://run/x.sock", NULL},
	{"unix//run/x.sock", "unix:/run/x.sock"},
	{"unix:/run/x.sock!web", NULL},
	{"unix:@abstract", NULL},
	{"unix:run/x.sock", "unix:/conf/run/x.sock"},
	{"unix:a:b+c(d)", "unix:/conf/a:b+c(d)"},
	{"unix:/a%21b!c", NULL},
	{"unix:/%25", NULL},
	{"unix:[x]", "unix:/conf/[x]"},
	{"port:80", NULL},
	{"port:", NULL},
	{"port:80/x!y", NULL},
	{"port:/x", NULL},
	{"port:!y", NULL},
	{"port/80", "port:80"},
	{"sub:!x", NULL},
	{"sub/!x", "sub:!x"},
	{"echo:", NULL},
	{"echo/", "echo:"},
	/* parsers of their own */
	{"exec:ls -l \"a b\" %41 {x} !y", NULL},
	{"exec/ls", "exec:ls"},
	{"exec::", NULL},
	{"exec:/bin/sh -c 'a+b(c):d'", NULL},
	{"reject:", NULL},
	{"reject:go away", NULL},
	{"typed:true,255,-9223372036854775808,0.1,a%2Cb", NULL},
	{"typed:false,0,7,1.5,", NULL},
	/* converters */
	{"tls+tcp:a:1", NULL},
	{"tls(site)+tcp:a:1", NULL},
	{"tls(a:b/c+d(e)+tcp:a:1", NULL},
	{"tls(a%29b)+tcp:a:1", NULL},
	{"tls(a%25b)+tcp:a:1", NULL},
	{"tls(%61)+tcp:a:1", "tls(a)+tcp:a:1"},
	{"tls(a b)+tcp:a:1", "tls(a%20b)+tcp:a:1"},
	{"tls({x})+tcp:a:1", "tls(%7Bx%7D)+tcp:a:1"},
	{"tls(größe)+tcp:a:1", NULL},
	{"plain+plain+plain+tcp:a:1", NULL},
	{"tls+core.proxy+tcp:*4:443", "tls+core.proxy+tcp:0.0.0.0:443"},
	{"core.proxy(v1)+tcp:a:1", NULL},
	{"my.extra.proxy+tcp:a:1", NULL},
	{"core.tls+tcp:a:1", "tls+tcp:a:1"},
	{"tls(/x)+unix:/y", NULL},
	{"tls+exec:a+b:c", NULL},
	/* qualified names */
	{"core.tcp:a:1", "tcp:a:1"},
	{"core.udp:a:1", NULL},
	{"my.extra.udp:a:1", NULL},
	{"my.extra.udp/a:1", "my.extra.udp:a:1"},
	{"core.wss:a:1/x", "wss:a:1/x"},
	{"my.extra.typed:true,1,1,1,x", "typed:true,1,1,1,x"},
};

Test(address, good_text_prints_canonically_and_reads_back)
{
	for (size_t i = 0; i < COUNT(good); i++) {
		const char *canonical = good[i].canonical ? good[i].canonical : good[i].text;
		const struct cp_address *first = parse(good[i].text, 0);
		const struct cp_address *second;

		cr_assert_str_eq(printed(first), canonical, "%s prints as %s, expected %s", good[i].text, printed(first),
						 canonical);
		second = parse(canonical, 0);
		assert_same(first, second, good[i].text);
		cr_assert_str_eq(printed(second), canonical);
	}
}

/* Strict in its own address: what is not a template reads the same where templates may stand. */
Test(address, canonical_text_reads_the_same_where_templates_may_stand)
{
	for (size_t i = 0; i < COUNT(good); i++) {
		const struct cp_address *first = parse(good[i].text, 0);

		if (first->connector->def->parse || strchr(good[i].text, '{'))
			continue;
		assert_same(first, parse(printed(first), CP_PARSE_TEMPLATE), good[i].text);
	}
}

Test(address, length_counts_not_a_zero_byte)
{
	const struct cp_address *address;

	cr_assert_eq(cp_address_parse(scope, arena, "tcp:a:1234", 8, 0, &address, NULL), CP_OK);
	cr_assert_str_eq(printed(address), "tcp:a:12");
	cr_assert_eq(cp_address_parse(scope, arena, "tcp:a:1\0", 8, 0, &address, NULL), CP_EINVAL);
	cr_assert_eq(cp_address_parse(scope, arena, "\0tcp:a:1", 8, 0, &address, NULL), CP_ENOTFOUND);
	cr_assert_eq(cp_address_parse(scope, arena, "ws:[::1]\0/x", 11, 0, &address, NULL), CP_EINVAL);
	cr_assert_eq(cp_address_parse(scope, arena, "tls(\0)+tcp:a:1", 14, 0, &address, NULL), CP_EINVAL);
}

/* ---- Bad ones ----------------------------------------------------------------------------------------------- */

struct bad {
	const char *text;
	size_t column;
	const char *says; /* a piece of the message */
};

static const struct bad bad[] = {
	/* the head */
	{"", 1, "expected an address"},
	{"tcp", 4, "expected \":\" behind the connector \"tcp\""},
	{":", 1, "expected a connector"},
	{":80", 1, "expected a connector"},
	{"/run/x", 1, "expected a connector"},
	{"+tcp:a:1", 1, "expected a connector"},
	{"tls++tcp:a:1", 5, "expected a connector"},
	{"tls+:a:1", 5, "expected a connector"},
	{"tls+tcp", 8, "expected \":\""},
	{"(x)+tcp:a:1", 1, "expected a connector"},
	{"tpc:a:1", 1, "unknown connector \"tpc\", did you mean \"tcp\"?"},
	{"TCP:a:1", 1, "did you mean \"tcp\"?"},
	{"zzzzzz:a:1", 1, "unknown connector \"zzzzzz\""},
	{" tcp:a:1", 1, "unknown connector \" tcp\", did you mean \"tcp\"?"},
	{"core.tpc:a:1", 1, "did you mean \"core.tcp\"?"},
	{"cor.tcp:a:1", 1, "did you mean \"core.tcp\"?"},
	{"my.extra.tcp:a:1", 1, "unknown connector \"my.extra.tcp\""},
	{"extra.udp:a:1", 1, "unknown connector"},
	{"udp:a:1", 1,
	 "connector \"udp\" is vague: systems \"core\" and \"my.extra\" have it; write core.udp or my.extra.udp"},
	{"example.org:80", 1, "unknown connector"},
	{"tsl+tcp:a:1", 1, "unknown converter \"tsl\", did you mean \"tls\"?"},
	{"tls+tsl+tcp:a:1", 5, "unknown converter \"tsl\""},
	{"tcp+tcp:a:1", 1, "unknown converter \"tcp\""},
	{"proxy+tcp:a:1", 1, "converter \"proxy\" is vague: systems \"core\" and \"my.extra\" have it"},
	{"tls+tls:a:1", 5, "unknown connector \"tls\""},
	{"tls(x+tcp:a:1", 4, "\"(\" without \")\""},
	{"tls()+tcp:a:1", 4, "expected an argument"},
	{"tls)+tcp:a:1", 4, "\")\" without \"(\""},
	{"tcp(x):a:1", 7, "expected \"+\""},
	{"tls(x)tcp:a:1", 7, "expected \"+\""},
	{"tls(x)", 7, "expected \"+\""},
	{"tls(a))+tcp:a:1", 7, "expected \"+\""},
	{"tls(a%2)+tcp:a:1", 6, "expected two hexadecimal digits"},
	{"tls(a%00)+tcp:a:1", 6, "zero byte"},
	{"tls(a%ffb)+tcp:a:1", 6, "not valid UTF-8"},
	{"core.proxy(v3)+tcp:a:1", 12, "mode \"v3\", expected v1 or v2"},
	{"plain(x)+tcp:a:1", 7, "converter \"plain\" takes no argument"},
	{"my.extra.proxy(v1)+tcp:a:1", 16, "takes no argument"},
	{"tls+tls+tls+tls+tls+tls+tls+tls+tls+tls+tls+tls+tls+tls+tls+tls+tls+tcp:a:1", 65, "more than 16 converters"},
	{"tcp:a\xff:1", 6, "byte 0xff is not valid UTF-8"},
	{"\xc0\x80tcp:a:1", 1, "byte 0xc0 is not valid UTF-8"},
	/* hosts */
	{"tcp:", 5, "expected a host, as in tcp:host:port!multiplex"},
	{"tcp::80", 5, "expected a host"},
	{"tcp:!x", 5, "expected a host"},
	{"tcp:*:80", 5, "expected *4"},
	{"tcp:$:80", 5, "expected $4"},
	{"tcp:$5:80", 5, "host \"$5\" is no host, expected $4"},
	{"tcp:*44:80", 5, "expected *4"},
	{"tcp:a b:80", 6, "host \"a b\" is no host name"},
	{"tcp: a:80", 5, "is no host name"},
	{"tcp:a..b:80", 7, "empty label"},
	{"tcp:.a:80", 5, "empty label"},
	{"tcp:.:80", 5, "empty label"},
	{"tcp:a..:80", 7, "empty label"},
	{"tcp:-a:80", 5, "has a \"-\""},
	{"tcp:b.a-:80", 7, "has a \"-\""},
	{"tcp:bücher.example:80", 6, "expected the name's encoded form (xn--…)"},
	{"tcp:a%20b:80", 6, "is no host name"},
	{"tcp:%41%20b:80", 8, "is no host name"},
	{"tcp:a%:80", 6, "expected two hexadecimal digits behind \"%\""},
	{"tcp:a%4:80", 6, "expected two hexadecimal digits"},
	{"tcp:a%4g:80", 6, "expected two hexadecimal digits"},
	{"tcp:a%00:80", 6, "zero byte"},
	{"tcp:%ff:80", 5, "not valid UTF-8"},
	{"tcp:ab%c3%28:80", 7, "not valid UTF-8"},
	{"tcp:127.1:80", 5, "is not an IPv4 address"},
	{"tcp:1:80", 5, "is not an IPv4 address"},
	{"tcp:256.1.1.1:80", 5, "is not an IPv4 address"},
	{"tcp:1.2.3.04:80", 5, "is not an IPv4 address"},
	{"tcp:01.2.3.4:80", 5, "is not an IPv4 address"},
	{"tcp:1.2.3.4.5:80", 5, "is not an IPv4 address"},
	{"tcp:1.2.3.4.:80", 5, "is not an IPv4 address"},
	{"tcp:0x7f000001:80", 5, "is not an IPv4 address"},
	{"tcp:a.0x1F:80", 5, "is not an IPv4 address"},
	{"tcp:a.99:80", 5, "is not an IPv4 address"},
	{"tcp:aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgggg:1", 5, "label of more than 63"},
	/* brackets */
	{"tcp:[::1:80", 5, "\"[\" without \"]\""},
	{"tcp:[]:80", 6, "is not an IPv6 address"},
	{"tcp:[127.0.0.1]:80", 6, "is not an IPv6 address"},
	{"tcp:[a]:80", 6, "is not an IPv6 address"},
	{"tcp:[::1]80", 10, "expected \":\" and a port behind \"]\""},
	{"tcp:[::1]", 10, "expected \":\" and a port"},
	{"tcp:[::g]:80", 6, "is not an IPv6 address"},
	{"tcp:[1::2::3]:80", 6, "is not an IPv6 address"},
	{"tcp:[1:2:3:4:5:6:7]:80", 6, "is not an IPv6 address"},
	{"tcp:[1:2:3:4:5:6:7:8:9]:80", 6, "is not an IPv6 address"},
	{"tcp:[::12345]:80", 6, "is not an IPv6 address"},
	{"tcp:[::1%eth0]:80", 6, "is not an IPv6 address"},
	{"tcp:[2001:db8::1%eth0]:80", 6, "is not an IPv6 address"},
	{"tcp:[fe80::1%]:80", 6, "is not an IPv6 address"},
	{"tcp:[fe80::1%a/b]:80", 6, "is not an IPv6 address"},
	{"tcp:[fe80::1%averyveryverylongname]:80", 6, "is not an IPv6 address"},
	{"tcp:[::ffff:1.2.3.4%eth0]:80", 6, "is not an IPv6 address"},
	{"tcp:[%3A%3A1]:80", 6, "is not an IPv6 address"},
	{"tcp:::1:80", 5, "expected a host"},
	{"tcp:fe80::1:80", 10, "an IPv6 address stands in brackets"},
	/* ports */
	{"tcp:a", 6, "expected \":\" and a port, as in tcp:host:port!multiplex"},
	{"tcp:a!x", 6, "expected \":\" and a port"},
	{"ws:a/x:80", 5, "expected \":\" and a port"},
	{"tcp:a:", 7, "expected a port"},
	{"tcp:a:!x", 7, "expected a port"},
	{"tcp:a:65536", 7, "port \"65536\", expected a number from 0 to 65535"},
	{"tcp:a:99999999999999999999", 7, "expected a number"},
	{"tcp:a:-1", 7, "expected a number"},
	{"tcp:a:+1", 7, "expected a number"},
	{"tcp:a: 1", 7, "expected a number"},
	{"tcp:a:1 ", 7, "expected a number"},
	{"tcp:a:080", 7, "expected a number"},
	{"tcp:a:00", 7, "expected a number"},
	{"tcp:a:0x50", 7, "expected a number"},
	{"tcp:a:http", 7, "port \"http\", expected a number"},
	{"tcp:a:8%30", 7, "expected a number"},
	{"tcp:a:80:90", 7, "expected a number"},
	{"tcp:a:\xd9\xa1", 7, "expected a number"}, /* an Arabic-Indic digit */
	/* paths and subports */
	{"tcp:a:1/x", 8, "tcp takes no path, found \"/x\""},
	{"core.udp:a:1!x", 14, "udp takes no subport, found \"x\""},
	{"core.udp:a:1/x!y", 13, "udp takes no path"},
	{"tcp:a:1!", 9, "expected a subport behind \"!\""},
	{"tcp:a:1!a!b", 10, "a second \"!\"; in a name it is written %21"},
	{"tcp:a:1!!", 9, "a second \"!\""},
	{"tcp:a:1!%2A", 9, "cannot have the name \"*\""},
	{"tcp:a:1!a%2", 10, "expected two hexadecimal digits"},
	{"tcp:a:1!a%", 10, "expected two hexadecimal digits"},
	{"tcp:a:1!%ed%a0%80", 9, "not valid UTF-8"},
	{"tcp:a:1!ab%C0%80", 11, "not valid UTF-8"},
	{"ws:a:1/%00", 8, "zero byte"},
	{"ws:a:1/a%zz", 9, "expected two hexadecimal digits"},
	{"unix:", 6, "expected a path"},
	{"unix:!x", 6, "expected a path"},
	{"unix:/x!", 9, "expected a subport"},
	{"unix:%00x", 6, "zero byte"},
	{"sub:", 5, "expected \"!\" and a subport"},
	{"sub:x", 5, "sub takes no path"},
	{"echo:x", 6, "echo takes no path"},
	{"echo:!x", 7, "echo takes no subport"},
	{"port:x", 6, "expected a number"},
	{"port:80x", 6, "expected a number"},
	/* the connector's own words */
	{"exec:", 6, "expected a command"},
	{"typed:true,1", 13, "expected 5 values"},
	{"typed:true,1,1,1,x,y", 19, "expected 5 values"},
	{"typed:maybe,1,1,1,x", 7, "\"maybe\" is not a value of type bool"},
	{"typed:true,1,1,1,%4", 18, "expected two hexadecimal digits"},
	/* templates where none may stand */
	{"tcp:{a}:1", 5, "\"{\" begins a template, which cannot stand here; a brace itself is written %7B"},
	{"tcp:a:{b}", 7, "begins a template"},
	{"tcp:a:1!x}", 10, "\"}\" without \"{\""},
};

static void assert_error(const struct bad *expected, unsigned flags)
{
	struct cp_error error = {0};
	char place[48];

	cr_assert_null(fakes_parse(scope, arena, expected->text, flags, &error), "%s was accepted", expected->text);
	snprintf(place, sizeof(place), "column %zu of \"", expected->column);
	cr_assert(strncmp(error.where, place, strlen(place)) == 0, "%s: where is \"%s\", expected \"%s…\" (%s)",
			  expected->text, error.where, place, error.message);
	cr_assert(strstr(error.message, expected->says), "%s: says \"%s\", expected \"%s\"", expected->text, error.message,
			  expected->says);
	cr_assert_lt(error.code, 0);
	cr_assert_null(fakes_parse(scope, arena, expected->text, flags, NULL));
}

Test(address, bad_text_says_what_and_where)
{
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_error(&bad[i], 0);
}

Test(address, error_shows_a_window_of_a_long_address)
{
	struct cp_error error;
	char text[600] = "tcp:a:1!", *at = text + 8;

	for (int i = 0; i < 100; i++, at += 2)
		memcpy(at, "ö", 2);
	strcpy(at, "%zz");
	cr_assert_null(fakes_parse(scope, arena, text, 0, &error));
	cr_assert(strncmp(error.where, "column 209 of \"…ö", strlen("column 209 of \"…ö")) == 0, "%s", error.where);
	cr_assert(strstr(error.where, "ö%zz\""), "%s", error.where);
	cr_assert(cp_utf8_valid(error.where, strlen(error.where)));
	strcpy(text + 500, "x");
	memset(text + 8, 'x', 492);
	text[3] = '_';
	cr_assert_null(fakes_parse(scope, arena, text, 0, &error));
	cr_assert(strstr(error.where, "column 1 of \"tcp_a:1!xxx"), "%s", error.where);
	cr_assert(strstr(error.where, "…\""), "%s", error.where);
}

Test(address, error_escapes_control_characters)
{
	struct cp_error error;

	cr_assert_null(fakes_parse(scope, arena, "t\x1b[1m\n:a:1", 0, &error));
	cr_assert_str_eq(error.where, "column 1 of \"t\\x1B[1m\\x0A:a:1\"");
	cr_assert(strstr(error.message, "\"t\\x1B[1m\\x0A\""), "%s", error.message);
}

Test(address, own_error_without_place_gets_one)
{
	struct cp_error error;
	char text[200] = "tls+unix:/";

	memset(text + 10, 'a', 120);
	cr_assert_null(fakes_parse(scope, arena, text, 0, &error));
	cr_assert(strncmp(error.where, "column 10 of \"tls+unix:/aaa", 27) == 0, "%s", error.where);
	cr_assert_str_eq(error.message, "path of 121 bytes, expected at most 107");
}

/* ---- Limits ------------------------------------------------------------------------------------------------- */

static char *repeat(const char *head, const char *piece, size_t times, const char *tail)
{
	size_t length = strlen(piece);
	char *text = cp_arena_alloc(arena, strlen(head) + length * times + strlen(tail) + 1), *at = text + strlen(head);

	strcpy(text, head);
	for (size_t i = 0; i < times; i++, at += length)
		memcpy(at, piece, length);
	strcpy(at, tail);
	return text;
}

Test(address, name_has_at_most_253_characters)
{
	char *text = repeat("tcp:", "abcdefg.", 31, "abcde:1"); /* 253 */

	cr_assert(fakes_parse(scope, arena, text, 0, NULL));
	text = repeat("tcp:", "abcdefg.", 31, "abcde.:1"); /* and a dot behind */
	cr_assert_str_eq(printed(parse(text, 0)), text);
	text = repeat("tcp:", "abcdefg.", 31, "abcdef:1");
	assert_error(&(struct bad){text, 5, "more than 253 characters"}, 0);
	text = repeat("tcp:", "a", 63, ":1");
	cr_assert_str_eq(printed(parse(text, 0)), text);
}

Test(address, subport_has_at_most_65535_bytes)
{
	char *text = repeat("tcp:a:1!", "a", 65535, "");
	size_t length;

	cr_assert_str_eq(printed(parse(text, 0)), text);
	cp_address_multiplex(parse(repeat("tcp:a:1!", "%01", 65535, ""), 0), &length);
	cr_assert_eq(length, 65535);
	assert_error(&(struct bad){repeat("tcp:a:1!", "a", 65536, ""), 8 + 65536, "65536 bytes, expected at most 65535"},
				 0);
	assert_error(&(struct bad){repeat("tcp:a:1!", "%01", 65536, ""), 9 + 3 * 65535, "65536 bytes"}, 0);
}

/* A million of them are kept: each is one allocation, of what its fields and strings need. */
Test(address, address_is_small)
{
	size_t bytes = sizeof(struct cp_address) + 3 * sizeof(struct cp_field) + sizeof("127.0.0.1") + sizeof("web");
	size_t rounded = (bytes + 15) & ~(size_t)15;
	struct cp_arena *packed = cp_arena_new(1000 * rounded + 256);
	size_t before = cp_arena_size(packed);

	for (int i = 0; i < 1000; i++)
		cr_assert(fakes_parse(scope, packed, "tcp:127.0.0.1:8080!web", 0, NULL));
	cr_assert_eq(cp_arena_size(packed), before);
	for (int i = 0; i < 2; i++)
		cr_assert(fakes_parse(scope, packed, "tcp:127.0.0.1:8080!web", 0, NULL));
	cr_assert_gt(cp_arena_size(packed), before, "the arena had more room than this test means it to have");
	cp_arena_free(packed);
}

/* ---- Templates ---------------------------------------------------------------------------------------------- */

static const struct good templates[] = {
	{"tcp:{multiplex}.svc.local:80", NULL},
	{"tcp:{a}:{b}", NULL},
	{"tcp:a:80{b}{c}", NULL},
	{"tcp:{a}:80!{b}", NULL},
	{"tcp:x:80!{a}{b}-{c.d-e_F}", NULL},
	{"tcp:[{a}]:80", "tcp:{a}:80"},
	{"tcp:[fd00::{a}]:80", NULL},
	{"tcp:UP{Ab}:80", NULL},
	{"ws:a:1/{host}/x!{y}", NULL},
	{"ws:a:1/a b{x}%21", "ws:a:1/a%20b{x}%21"},
	{"unix:run/{sni}.sock", NULL},
	{"tls(a)+tcp:{sni}:443", NULL},
	{"exec:run {sni}", NULL},
};

Test(address, templates_stay_as_they_are)
{
	for (size_t i = 0; i < COUNT(templates); i++) {
		const char *canonical = templates[i].canonical ? templates[i].canonical : templates[i].text;
		const struct cp_address *first = parse(templates[i].text, CP_PARSE_TEMPLATE);

		cr_assert_eq(first->flags, CP_PARSE_TEMPLATE, "%s is no template", templates[i].text);
		cr_assert_str_eq(printed(first), canonical);
		assert_same(first, parse(canonical, CP_PARSE_TEMPLATE), templates[i].text);
	}
}

Test(address, template_of_a_number_is_a_string)
{
	const struct cp_value *port = cp_address_field(parse("tcp:a:{port}", CP_PARSE_TEMPLATE), "port");

	cr_assert_eq(port->kind, CP_STRING);
	cr_assert_str_eq(port->as.s, "{port}");
	port = cp_address_field(parse("tcp:{port}:80", CP_PARSE_TEMPLATE), "port");
	cr_assert_eq(port->kind, CP_U16);
}

Test(address, without_a_name_it_is_no_template)
{
	const struct cp_address *address = parse("tcp:A:1!%7Bx%7D", CP_PARSE_TEMPLATE);

	cr_assert_eq(address->flags, 0);
	cr_assert_str_eq(cp_address_multiplex(address, NULL), "{x}");
	cr_assert_str_eq(printed(address), "tcp:a:1!%7Bx%7D");
}

static const struct bad bad_templates[] = {
	{"tcp:{}:1", 5, "expected a name and \"}\" behind \"{\""},
	{"tcp:{a:1", 5, "expected a name and \"}\""},
	{"tcp:{a b}:1", 5, "expected a name and \"}\""},
	{"tcp:a:1!{{a}}", 9, "expected a name and \"}\""},
	{"tcp:a:1!{a}}", 12, "\"}\" without \"{\""},
	{"tcp:a}:1", 6, "\"}\" without \"{\""},
	{"tcp:{a}%7B:1", 8, "a brace itself cannot stand in an address with a {name}"},
	{"ws:{a}:1/%7d", 10, "a brace itself cannot stand"},
	{"tcp:{a}/:1", 8, "tcp takes no path"},
	{"tcp:{a}_$:1", 9, "is no host, expected $4"},
	{"tcp:{a}:x", 9, "expected a number"},
	{"tcp:a:{b}c", 7, "port \"{b}c\", expected a number"},
	{"tcp:a:%31{b}", 7, "expected a number"},
	{"tcp:{a}", 8, "expected \":\" and a port"},
	{"tls({a})+tcp:b:1", 5, "a template cannot stand in an argument"},
};

Test(address, bad_templates_say_what_and_where)
{
	for (size_t i = 0; i < COUNT(bad_templates); i++)
		assert_error(&bad_templates[i], CP_PARSE_TEMPLATE);
}

/* ---- Printing ----------------------------------------------------------------------------------------------- */

Test(address, print_is_cut_as_snprintf_does)
{
	static const char *const texts[] = {"tls(a)+tcp:[::1]:80!a%20b", "typed:true,1,-1,0.5,a%2Cb", "exec:ls -l"};

	for (size_t i = 0; i < COUNT(texts); i++) {
		const struct cp_address *address = parse(texts[i], 0);
		size_t length = strlen(texts[i]);

		for (size_t room = 0; room <= length + 1; room++) {
			char buffer[64];

			memset(buffer, '#', sizeof(buffer));
			cr_assert_eq(cp_address_print(address, buffer, room), length);
			if (room > 0)
				cr_assert_eq(strlen(buffer), room - 1, "%s in %zu: %s", texts[i], room, buffer);
			cr_assert_eq(buffer[room], '#', "%s in %zu", texts[i], room);
		}
	}
}

Test(address, socket_is_what_is_bound)
{
	static const struct {
		const char *text, *socket, *with_layers;
	} cases[] = {
		{"tls(a)+tcp:*4:443!x", "tcp:0.0.0.0:443", "tls(a)+tcp:0.0.0.0:443"},
		{"tcp:A:1", "tcp:a:1", "tcp:a:1"},
		{"ws:a:1/chat!x", "ws:a:1", "ws:a:1"},
		{"tls+unix:/x!y", "unix:/x", "tls+unix:/x"},
		{"port:80/x!y", "port:80", "port:80"},
		{"sub:!x", "sub:", "sub:"},
		{"exec:ls -l", "exec:ls -l", "exec:ls -l"},
		{"core.proxy+core.udp:a:1", "core.udp:a:1", "core.proxy+core.udp:a:1"},
		{"echo:", "echo:", "echo:"},
	};
	char text[64];

	for (size_t i = 0; i < COUNT(cases); i++) {
		const struct cp_address *address = parse(cases[i].text, 0);

		cr_assert_eq(cp_address_print_socket(address, false, text, sizeof(text)), strlen(cases[i].socket));
		cr_assert_str_eq(text, cases[i].socket);
		cp_address_print_socket(address, true, text, sizeof(text));
		cr_assert_str_eq(text, cases[i].with_layers);
	}
}
