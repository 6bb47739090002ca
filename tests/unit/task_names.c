/* Names: shared by pipes of one route, told apart by everything that shows in them. */
#include "../../systems/core/connectors.h"
#include "address/scope.h"
#include "task/names.h"

#include <connpipe/arena.h>

#include <criterion/criterion.h>
#include <string.h>

static struct core core;
static struct cp_connector connector = {.def = &tcp_connector, .arg = &core};
static struct cp_scope *scope;
static struct cp_arena *arena;
static struct names_cache cache;

static void set_up(void)
{
	struct cp_error error = {0};
	scope = scope_new("/");
	arena = cp_arena_new(0);
	cr_assert_eq(scope_add_connector(scope, &connector, "core", &error), CP_OK);
}

static void tear_down(void)
{
	names_cache_clear(&cache);
	cp_arena_free(arena);
	scope_free(scope);
}

TestSuite(task_names, .init = set_up, .fini = tear_down);

static const struct cp_address *address(const char *text)
{
	const struct cp_address *result = NULL;
	struct cp_error error = {0};
	cr_assert_eq(cp_address_parse(scope, arena, text, strlen(text), 0, &result, &error), CP_OK, "%s", error.message);
	return result;
}

static void expect(const struct names *names, const char *incoming, const char *router, const char *target)
{
	cr_expect_str_eq(names->text, incoming);
	cr_expect_str_eq(names->text + names->router, router);
	cr_expect_str_eq(names->text + names->target, target);
}

Test(task_names, are_shared_by_what_is_the_same)
{
	const struct cp_address *in = address("tcp:127.0.0.1:80"), *out = address("tcp:127.0.0.1:81");
	struct names_key key = {.incoming = in, .target = out, .router = "front", .subport = ""};
	struct names *a = names_get(&cache, &key, in), *b = names_get(&cache, &key, in);
	cr_assert_eq(a, b);
	expect(a, "tcp:127.0.0.1:80", "front", "tcp:127.0.0.1:81");
	names_cache_clear(&cache);
	expect(b, "tcp:127.0.0.1:80", "front", "tcp:127.0.0.1:81"); /* who has them keeps them */
	names_put(a);
	names_put(b);
}

Test(task_names, differ_by_router_target_and_subport)
{
	const struct cp_address *in = address("tcp:127.0.0.1:80"), *out = address("tcp:127.0.0.1:81");
	const struct cp_address *named = address("tcp:127.0.0.1:80!a"), *other = address("tcp:127.0.0.1:80!b");
	struct names_key keys[] = {
		{in, out, "front", "", 0}, {in, out, "other", "", 0},  {in, NULL, "front", "", 0},
		{in, out, NULL, "", 0},    {in, out, "front", "a", 1}, {in, out, "front", "b", 1},
	};
	const struct cp_address *shown[] = {in, in, in, in, named, other};
	for (int round = 0; round < 2; round++) {
		struct names *names[6];
		for (int i = 0; i < 6; i++)
			names[i] = names_get(&cache, &keys[i], shown[i]);
		expect(names[0], "tcp:127.0.0.1:80", "front", "tcp:127.0.0.1:81");
		expect(names[1], "tcp:127.0.0.1:80", "other", "tcp:127.0.0.1:81");
		expect(names[2], "tcp:127.0.0.1:80", "front", "");
		expect(names[3], "tcp:127.0.0.1:80", "", "tcp:127.0.0.1:81");
		expect(names[4], "tcp:127.0.0.1:80!a", "front", "tcp:127.0.0.1:81");
		expect(names[5], "tcp:127.0.0.1:80!b", "front", "tcp:127.0.0.1:81");
		for (int i = 0; i < 6; i++)
			names_put(names[i]);
	}
}

Test(task_names, of_nobody_are_made_for_one)
{
	struct names *names = names_new(address("tcp:127.0.0.1:80"), NULL, NULL);
	expect(names, "tcp:127.0.0.1:80", "", "");
	names_put(names);
	names_put(NULL);
}
