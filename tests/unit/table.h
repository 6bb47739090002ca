/** What the tests of tables share: a configuration from text, loaded as the program loads it, and questions to it.
 *
 * The connectors are the tests' own, so that nothing depends on which ones the program has: `byte` (host, port,
 * multiplex), `web` (host, port, path, multiplex), `pack` (messages), `both` (bytes or messages), `deaf` (cannot
 * connect), `cmd` (a field that only it can read); the converter `wrap`. Routers: `stub` refuses, `lead` asks the
 * router `front` about the same address, and says so to those who follow. */
#ifndef TESTS_TABLE_H
#define TESTS_TABLE_H

#include "base/report.h"
#include "route/routing.h"
#include "system/generation.h"

struct table_test {
	struct report report;
	struct generation *generation;
	struct plan *plan;
	char *explained;  /* lines of the last question */
	uint64_t wait_ms; /* how long it would wait for bytes */
	char answer[2048];
};

/** Who connects, what it has sent so far, and what layers have told about it. */
struct table_client {
	struct cp_peer peer;
	const char *bytes;
	size_t length;
	bool more;         /* may come */
	const char *facts; /* `name=value name=value`; a name without a value is known to have none; NULL: no facts */
};

/** Load a whole configuration. @param directory  or "/": where files are */
void table_test_load(struct table_test *test, const char *directory, const char *text);
/** Load a configuration of one table `front` with these routes: the first one is in line 4. It must be right. */
void table_test_routes(struct table_test *test, const char *routes);
void table_test_end(struct table_test *test);

/** Ask a router about a connection: the targets, ", " between them; or `no_route`, `refused_by_router: reason`, … */
const char *table_test_ask(struct table_test *test, const char *router, const char *address, const char *peer);
/** Likewise `front`, with a subport that need not be text. */
const char *table_test_ask_named(struct table_test *test, const char *address, const char *name, size_t length);
/** Likewise `front`, about this client; `wants bytes`: more of them would tell. */
const char *table_test_ask_client(struct table_test *test, const char *address, const struct table_client *client);

/** Load a whole configuration. @return what was logged meanwhile, without times, levels and systems; malloc */
char *table_test_load_logged(struct table_test *test, const char *text);
/** Load a whole configuration that is right. @param warnings  all that is logged */
void table_test_warnings(const char *text, const char *warnings);

/** Load routes that are wrong. @param errors  all that is reported, `where: message` and a line end each */
void table_test_errors(const char *routes, const char *errors);
void table_test_all_errors(const char *directory, const char *text, const char *errors);

#endif
