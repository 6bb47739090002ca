/** What the tests of scripts share: a script in a directory of its own, loaded as the program loads it and started on
 * one loop, and questions to its routers. Budget 20 ms, memory 2 MiB. */
#ifndef TESTS_LUA_H
#define TESTS_LUA_H

#include "base/report.h"
#include "route/routing.h"
#include "system/generation.h"

struct lua_test {
	struct report report;
	struct generation *generation;
	struct plan *plan;
	struct cp_loop *loop;
	char directory[32];
	char answer[2048];
};

/** Load a script whose first line has `connpipe`; it must be right. */
void lua_test_script(struct lua_test *test, const char *text);
/** Likewise, with one router `main` of this body. */
void lua_test_router(struct lua_test *test, const char *body);
void lua_test_end(struct lua_test *test);

/** Ask about a connection on tcp:127.0.0.1:7000: the targets, ", " between them; or the cause and the reason. */
const char *lua_test_ask(struct lua_test *test, const char *router, const char *peer);

#endif
