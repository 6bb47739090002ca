/* Functions of `connpipe` that answer at once, and what they hold under the limit of memory. */
#include "lua.h"

#include "loop/loop.h"

#include <criterion/criterion.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/** `expression` in a handler is this text. */
static void expect(const char *expression, const char *text)
{
	struct lua_test test;
	char *body, *expected;
	cr_assert(asprintf(&body, "return nil, tostring(%s)", expression) > 0);
	cr_assert(asprintf(&expected, "refused_by_router: %s", text) > 0);
	lua_test_router(&test, body);
	cr_expect_str_eq(lua_test_ask(&test, "main", "192.0.2.1"), expected, "%s: %s, not %s", expression, test.answer,
					 expected);
	lua_test_end(&test);
	free(body);
	free(expected);
}

Test(lua_api, escape)
{
	expect("connpipe.escape('a/b c')", "a%2Fb%20c");
	expect("connpipe.escape('a/b!', '!')", "a/b%21");
	expect("connpipe.escape('100%')", "100%25");
	expect("connpipe.escape('{x}')", "%7Bx%7D");
	expect("connpipe.escape('')", "");
}

Test(lua_api, unescape)
{
	expect("connpipe.unescape('a%2Fb%20c')", "a/b c");
	expect("connpipe.unescape(connpipe.escape('%/\\1 {}!:')) == '%/\\1 {}!:'", "true");
	expect("select(2, connpipe.unescape('ab%2'))", "\"%\" at 3 without two hexadecimal digits behind it");
	expect("select(2, connpipe.unescape('%x1'))", "\"%\" at 1 without two hexadecimal digits behind it");
	expect("select(2, connpipe.unescape('%'))", "\"%\" at 1 without two hexadecimal digits behind it");
}

static const char own_addresses[] =
	"connpipe.connector { aliases = { 'own' }, fields = { 'x', 'n:u8?' }, connect = function() return 'echo:' end,\n"
	"parse = function(text, alias)\n"
	"local x, n = text:match('^(%w+)%-?(%d*)$') if not x then return nil, 'no ' .. alias end\n"
	"return { x = x, n = n ~= '' and n or nil } end,\n"
	"format = function(f) return f.x .. (f.n and '-' .. f.n or '') end }\n";

static void ask_own(const char *body, const char *expected)
{
	struct lua_test test;
	char *text;
	cr_assert(asprintf(&text, "%sconnpipe.router { id = 'main', route = function(request)\n%s\nend }", own_addresses,
					   body) > 0);
	lua_test_script(&test, text);
	lua_test_ask(&test, "main", "192.0.2.1");
	cr_expect(strstr(test.answer, expected), "%s: %s, not %s", body, test.answer, expected);
	lua_test_end(&test);
	free(text);
}

Test(lua_api, own_addresses_from_text_and_fields)
{
	ask_own("return 'own:abc-7'", "own:abc-7");
	ask_own("return 'own/abc'", "own:abc");
	ask_own("return { connector = 'own', x = 'y', n = 3 }", "own:y-3");
	ask_own("return { { connector = 'own', x = 'y' }, 'own:z-255' }", "own:y, own:z-255");
}

Test(lua_api, own_addresses_that_are_wrong)
{
	ask_own("return 'own:!'", "no own (main.lua:3)");
	ask_own("return 'own:a-256'", "the field n: ");
	ask_own("return { connector = 'own', n = 3 }", "x is missing");
	ask_own("return { connector = 'own', x = 'a', y = 3 }", "has no field");
}

static void stop(struct cp_loop *loop, void *arg)
{
	(void)arg;
	loop_stop(loop);
}

/** One turn of the loop, in which streams that were closed are freed. */
static void turn(struct lua_test *test)
{
	cp_post(test->loop, stop, NULL);
	loop_run(test->loop);
}

/** What the handler opens when there is no memory left is closed with it: nothing is lost on the way to an error. */
Test(lua_api, connecting_without_memory_leaks_nothing, .timeout = 60)
{
	enum { WARM_UP = 3, ROUNDS = 20, LEAKED_MOST = 64 << 10 };
	struct lua_test test;
	size_t before = 0;
	lua_test_router(&test, "local connect, pcall = connpipe.connect, pcall\n"
						   "local address, list = { connector = 'echo' }, nil\n"
						   "pcall(function() while true do list = { list } end end)\n"
						   "for i = 1, 200 do pcall(connect, address) pcall(connect, 'echo:') end\n"
						   "return nil, 'done'");
	for (int i = 0; i < ROUNDS; i++) {
		if (i == WARM_UP)
			before = mallinfo2().uordblks;
		lua_test_ask(&test, "main", "192.0.2.1");
		turn(&test);
	}
	cr_expect_lt(mallinfo2().uordblks, before + LEAKED_MOST);
	lua_test_end(&test);
}
