/* The script's side without a process: routers asked directly. What needs sockets is in tests/scenario/test_lua.py. */
#include "lua.h"

#include <criterion/criterion.h>

Test(lua, text_is_a_target)
{
	struct lua_test test;
	lua_test_router(&test, "return 'echo:'");
	cr_expect_str_eq(lua_test_ask(&test, "main", "192.0.2.1"), "echo:");
	lua_test_end(&test);
}

Test(lua, fields_are_a_target)
{
	struct lua_test test;
	lua_test_router(&test, "return { connector = 'tcp', addr = '10.0.0.1', port = 80, multiplex = 'x' }");
	cr_expect_str_eq(lua_test_ask(&test, "main", "192.0.2.1"), "tcp:10.0.0.1:80!x");
	lua_test_end(&test);
}

Test(lua, own_address_changed_is_a_target)
{
	struct lua_test test;
	lua_test_router(&test, "local a = request.address a.port = a.port + 1 return a");
	cr_expect_str_eq(lua_test_ask(&test, "main", "192.0.2.1"), "tcp:127.0.0.1:7001");
	lua_test_end(&test);
}

Test(lua, list_keeps_its_order)
{
	struct lua_test test;
	lua_test_router(&test, "return { 'tcp:10.0.0.2:1', { connector = 'echo' }, 'tcp:10.0.0.1:1' }");
	cr_expect_str_eq(lua_test_ask(&test, "main", "192.0.2.1"), "tcp:10.0.0.2:1, echo:, tcp:10.0.0.1:1");
	lua_test_end(&test);
}

Test(lua, peer_is_seen)
{
	struct lua_test test;
	lua_test_router(&test, "if request.peer.addr == '192.0.2.1' then return nil, 'banned' end return 'echo:'");
	cr_expect_str_eq(lua_test_ask(&test, "main", "192.0.2.1"), "refused_by_router: banned");
	cr_expect_str_eq(lua_test_ask(&test, "main", "192.0.2.2"), "echo:");
	lua_test_end(&test);
}

Test(lua, another_router_about_another_address)
{
	struct lua_test test;
	lua_test_script(&test, "connpipe.router { id = 'main', route = function() return '>b tcp:10.0.0.9:5' end }\n"
						   "connpipe.router { id = 'b', route = function(r) return r.address end }");
	cr_expect_str_eq(lua_test_ask(&test, "main", "192.0.2.1"), "tcp:10.0.0.9:5");
	lua_test_end(&test);
}

Test(lua, targets_beyond_those_kept_are_parsed_each_time)
{
	struct lua_test test;
	lua_test_script(&test, "local n = 0\nconnpipe.router { id = 'main', route = function()\n"
						   "n = n + 1 return 'tcp:10.0.0.1:' .. n end }");
	for (int i = 1; i <= 3000; i++) {
		char expected[32];
		snprintf(expected, sizeof(expected), "tcp:10.0.0.1:%d", i);
		cr_assert_str_eq(lua_test_ask(&test, "main", "192.0.2.1"), expected);
	}
	lua_test_end(&test);
}

Test(lua, coroutines_are_used_again)
{
	struct lua_test test;
	lua_test_script(&test, "local seen, n = {}, 0\nconnpipe.router { id = 'main', route = function()\n"
						   "local co = coroutine.running() if not seen[co] then seen[co] = true n = n + 1 end\n"
						   "return nil, tostring(n) end }");
	for (int i = 0; i < 100; i++)
		cr_assert_str_eq(lua_test_ask(&test, "main", "192.0.2.1"), "refused_by_router: 1");
	lua_test_end(&test);
}

Test(lua, garbage_of_many_decisions_stays_under_the_limit)
{
	struct lua_test test;
	lua_test_script(&test, "connpipe.router { id = 'main', route = function()\n"
						   "local t = {} for i = 1, 1000 do t[i] = { i } end return 'echo:' end }");
	for (int i = 0; i < 2000; i++)
		cr_assert_str_eq(lua_test_ask(&test, "main", "192.0.2.1"), "echo:");
	lua_test_end(&test);
}

Test(lua, over_the_limit_is_refused_and_the_next_is_served)
{
	struct lua_test test;
	lua_test_script(&test, "connpipe.router { id = 'main', route = function(r)\n"
						   "if r.peer.addr == '192.0.2.1' then local s = 'x' while true do s = s .. s end end\n"
						   "return 'echo:' end }");
	for (int i = 0; i < 20; i++) {
		cr_assert(strstr(lua_test_ask(&test, "main", "192.0.2.1"), "main.lua:3: not enough memory"), "%s", test.answer);
		cr_assert_str_eq(lua_test_ask(&test, "main", "192.0.2.2"), "echo:");
	}
	lua_test_end(&test);
}

Test(lua, endless_handler_is_stopped, .timeout = 60)
{
	static const char *const loops[] = {
		"while true do end",
		"while true do pcall(function() while true do end end) end",
		"while true do pcall(pcall, pcall, function() while true do end end) end",
		"while true do xpcall(function() while true do end end, function() while true do end end) end",
		"local function f() return f() end f()",
		"for i in function() return 1 end do end",
		"coroutine.wrap(function() while true do end end)()",
		"while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
		"local t = setmetatable({}, { __index = function(t, k) while true do end end }) return t.x",
	};
	for (size_t i = 0; i < sizeof(loops) / sizeof(*loops); i++) {
		struct lua_test test;
		lua_test_router(&test, loops[i]);
		lua_test_ask(&test, "main", "192.0.2.1");
		cr_expect(strstr(test.answer, "ran longer than its budget of 20 ms"), "%s: %s", loops[i], test.answer);
		lua_test_end(&test);
	}
}

Test(lua, handler_within_its_budget_is_not_stopped)
{
	struct lua_test test;
	/* Many short runs together take far more than a budget. */
	lua_test_router(&test, "for i = 1, 2000 do request.peer.x = i end return 'echo:'");
	for (int i = 0; i < 1000; i++)
		cr_assert_str_eq(lua_test_ask(&test, "main", "192.0.2.1"), "echo:");
	lua_test_end(&test);
}
