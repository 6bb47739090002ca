#include "route_fake.h"

#include "base/memory.h"
#include "route/request.h"

#include <connpipe/connector.h>

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct fake fake;
static struct fake_router a, b;
static struct claim claims[16];
static size_t claim_count;

static void setup(void)
{
	fake_init(&fake);
	fake_router_init(&fake, &a, "a", NULL);
	fake_router_init(&fake, &b, "b", NULL);
	claim_count = 0;
}

static void teardown(void)
{
	fake_deinit(&fake);
}

TestSuite(plan, .init = setup, .fini = teardown);

static void claim(struct fake_router *router, const char *address, const char *where)
{
	claims[claim_count++] = (struct claim){&router->router, fake_address(&fake, address), where};
}

static struct plan *make(void)
{
	struct plan *plan = plan_new(NULL, claims, claim_count, &fake.report);
	cr_assert_eq(!plan, fake.report.count > 0);
	return plan;
}

/** Who is asked about a connection with that subport (NULL: none) on the plan's only socket. */
static const char *who(const struct plan *plan, const char *multiplex)
{
	cr_assert_eq(plan->count, 1);
	struct cp_router *router = binding_router(&plan->bindings[0], NULL, multiplex, multiplex ? strlen(multiplex) : 0);
	return router ? router->id : "nobody";
}

/* ---- Grouping and asking ------------------------------------------------------------------------------------ */

Test(plan, nothing_claimed_is_an_empty_plan)
{
	struct plan *plan = make();
	cr_assert_eq(plan->count, 0);
	cr_assert_null(plan_find(plan, "fake:127.0.0.1:80"));
	plan_free(plan);
}

Test(plan, claims_of_one_socket_are_one_binding)
{
	claim(&a, "fake:127.0.0.1:80!x", NULL);
	claim(&a, "fake:127.0.0.1:80", NULL);
	claim(&b, "fake:127.0.0.1:80!y", NULL);
	claim(&b, "fake:127.0.0.1:81", NULL);
	struct plan *plan = make();
	cr_assert_eq(plan->count, 2);
	struct binding *first = plan_find(plan, "fake:127.0.0.1:80"), *second = plan_find(plan, "fake:127.0.0.1:81");
	cr_assert(first && second && first->plan == plan);
	cr_assert(first->root.subports);
	cr_assert_not(second->root.subports);
	cr_assert_str_eq(first->text, "fake:127.0.0.1:80");
	plan_free(plan);
}

Test(plan, shorthands_and_their_meaning_are_one_socket)
{
	claim(&a, "fake:$4:80", NULL);
	claim(&b, "fake:127.0.0.1:80", NULL);
	cr_assert_null(make());
	cr_assert(fake_reported(&fake, "\"a\"", "\"b\""));
}

Test(plan, exact_subport_then_any_never_the_plain_one)
{
	claim(&a, "fake:127.0.0.1:80", NULL);
	claim(&a, "fake:127.0.0.1:80!db", NULL);
	claim(&b, "fake:127.0.0.1:80!*", NULL);
	struct plan *plan = make();
	cr_assert_str_eq(who(plan, NULL), "a");
	cr_assert_str_eq(who(plan, "db"), "a");
	cr_assert_str_eq(who(plan, "web"), "b");
	cr_assert_str_eq(who(plan, "*"), "b");
	plan_free(plan);
}

Test(plan, several_routers_share_the_names_of_a_socket)
{
	claim(&a, "fake:127.0.0.1:80!db", NULL);
	claim(&b, "fake:127.0.0.1:80!web", NULL);
	struct plan *plan = make();
	cr_assert_str_eq(who(plan, "db"), "a");
	cr_assert_str_eq(who(plan, "web"), "b");
	cr_assert_str_eq(who(plan, "mail"), "nobody");
	cr_assert_str_eq(who(plan, NULL), "nobody");
	plan_free(plan);
}

Test(plan, subports_of_one_router_need_no_table)
{
	claim(&a, "fake:127.0.0.1:80!db", NULL);
	claim(&b, "fake:127.0.0.1:80", NULL);
	struct plan *plan = make();
	cr_assert_null(plan->bindings[0].root.named);
	cr_assert_str_eq(who(plan, "db"), "a");
	cr_assert_str_eq(who(plan, "mail"), "a"); /* who says so itself */
	cr_assert_str_eq(who(plan, NULL), "b");
	plan_free(plan);
}

Test(plan, without_subports_a_named_one_is_refused)
{
	claim(&a, "fake:127.0.0.1:80", NULL);
	struct plan *plan = make();
	cr_assert_str_eq(who(plan, "db"), "nobody");
	plan_free(plan);
}

Test(plan, port_zero_is_one_socket)
{
	claim(&a, "fake:127.0.0.1:0!x", NULL);
	claim(&b, "fake:127.0.0.1:0!y", NULL);
	struct plan *plan = make();
	cr_assert_eq(plan->count, 1);
	plan_free(plan);
}

Test(plan, the_plan_outlives_the_claimed_addresses)
{
	struct cp_arena *arena = cp_arena_new(0);
	struct cp_error error;
	const char *texts[] = {"byte(one)+fake:127.0.0.1:80!db", "byte(one)+fake:127.0.0.1:80!web"};
	for (int i = 0; i < 2; i++) {
		claims[i].router = i ? &b.router : &a.router;
		cr_assert_eq(cp_address_parse(fake.scope, arena, texts[i], strlen(texts[i]), 0, &claims[i].address, &error),
					 CP_OK);
	}
	claim_count = 2;
	struct plan *plan = make();
	cp_arena_free(arena);
	char text[128];
	cp_address_print(plan->bindings[0].address, text, sizeof(text));
	cr_assert_str_eq(text, "byte(one)+fake:127.0.0.1:80");
	cr_assert_str_eq(plan->bindings[0].key, "fake:127.0.0.1:80");
	cr_assert_str_eq(who(plan, "web"), "b");
	plan_free(plan);
}

/* ---- Conflicts ---------------------------------------------------------------------------------------------- */

/** The only error, with its place and two things that it has to name. */
static void expect_error(const char *where, const char *text, const char *also)
{
	cr_assert_null(make());
	cr_assert_eq(fake.report.count, 1);
	cr_assert_str_eq(fake.report.entries[0].where, where);
	cr_assert(fake_reported(&fake, text, also), "%s", fake.report.entries[0].message);
}

Test(plan, two_routers_on_one_address)
{
	claim(&a, "fake:127.0.0.1:80", "config.toml:3:1");
	claim(&b, "fake:127.0.0.1:80", "config.toml:7:1");
	expect_error("config.toml:7:1", "fake:127.0.0.1:80: the routers \"a\" (first at config.toml:3:1) and \"b\"",
				 "both claim it");
}

Test(plan, two_routers_on_one_subport)
{
	claim(&a, "fake:127.0.0.1:80!db", NULL);
	claim(&b, "fake:127.0.0.1:80!db", "config.toml:7:1");
	expect_error("config.toml:7:1", "fake:127.0.0.1:80!db", "the routers \"a\" and \"b\"");
}

Test(plan, two_routers_on_any_subport)
{
	claim(&a, "fake:127.0.0.1:80!*", NULL);
	claim(&b, "fake:127.0.0.1:80!*", NULL);
	expect_error("", "fake:127.0.0.1:80!*", "both claim it");
}

Test(plan, one_router_twice_on_one_address)
{
	claim(&a, "fake:127.0.0.1:80!db", "x:1:1");
	claim(&a, "fake:127.0.0.1:80!db", "x:2:1");
	expect_error("x:2:1", "the router \"a\" claims it twice", "x:1:1");
}

Test(plan, every_conflict_is_reported)
{
	claim(&a, "fake:127.0.0.1:80", NULL);
	claim(&b, "fake:127.0.0.1:80", NULL);
	claim(&a, "fake:127.0.0.1:81!x", NULL);
	claim(&b, "fake:127.0.0.1:81!x", NULL);
	cr_assert_null(make());
	cr_assert_eq(fake.report.count, 2);
}

Test(plan, paths_of_one_router_share_a_socket)
{
	claim(&a, "web:127.0.0.1:80/chat", NULL);
	claim(&a, "web:127.0.0.1:80/news", NULL);
	claim(&a, "web:127.0.0.1:80", NULL);
	struct plan *plan = make();
	cr_assert_eq(plan->count, 1);
	cr_assert_str_eq(plan->bindings[0].text, "web:127.0.0.1:80");
	plan_free(plan);
}

Test(plan, a_path_claimed_twice)
{
	claim(&a, "web:127.0.0.1:80/chat", "x:1:1");
	claim(&a, "web:127.0.0.1:80/news", "x:2:1");
	claim(&a, "web:127.0.0.1:80/news", "x:3:1");
	expect_error("x:3:1", "web:127.0.0.1:80/news", "twice (first at x:2:1)");
}

/** Who is asked about a connection to an address of the plan's only socket. */
static const char *who_for(const struct plan *plan, const char *address)
{
	cr_assert_eq(plan->count, 1);
	struct cp_router *router = binding_router_for(&plan->bindings[0], fake_address(&fake, address));
	return router ? router->id : "nobody";
}

Test(plan, paths_of_a_socket_may_be_of_several_routers)
{
	claim(&a, "web:127.0.0.1:80/news", NULL);
	claim(&b, "web:127.0.0.1:80/chat", NULL);
	claim(&a, "web:127.0.0.1:80/chat!db", NULL);
	struct plan *plan = make();
	cr_assert_str_eq(who_for(plan, "web:127.0.0.1:80/news"), "a");
	cr_assert_str_eq(who_for(plan, "web:127.0.0.1:80/chat"), "b");
	cr_assert_str_eq(who_for(plan, "web:127.0.0.1:80/chat!db"), "a");
	cr_assert_str_eq(who_for(plan, "web:127.0.0.1:80/chats"), "nobody");
	cr_assert_str_eq(who_for(plan, "web:127.0.0.1:80/"), "nobody");
	cr_assert_str_eq(who_for(plan, "web:127.0.0.1:80"), "nobody");
	const struct binding *socket = &plan->bindings[0];
	cr_assert(binding_subports(socket, binding_path(socket, "/chat", 5)));
	cr_assert_not(binding_subports(socket, binding_path(socket, "/news", 5)), "nobody's preamble is waited for there");
	plan_free(plan);
}

Test(plan, a_claim_without_a_path_takes_what_is_left)
{
	claim(&a, "web:127.0.0.1:80/chat", NULL);
	claim(&b, "web:127.0.0.1:80", NULL);
	claim(&b, "web:127.0.0.1:80!*", NULL);
	struct plan *plan = make();
	cr_assert_str_eq(who_for(plan, "web:127.0.0.1:80/chat"), "a");
	cr_assert_str_eq(who_for(plan, "web:127.0.0.1:80/chat!x"), "b");
	cr_assert_str_eq(who_for(plan, "web:127.0.0.1:80/else"), "b");
	cr_assert_str_eq(who_for(plan, "web:127.0.0.1:80"), "b");
	plan_free(plan);
}

Test(plan, paths_of_several_sockets)
{
	for (int i = 0; i < 5; i++) {
		char address[64];
		snprintf(address, sizeof(address), "web:127.0.0.1:8%d/%d", i % 2, i);
		claim(i % 2 ? &a : &b, xstrdup(address), NULL);
	}
	struct plan *plan = make();
	cr_assert_eq(plan->count, 2);
	cr_assert_eq(plan_find(plan, "web:127.0.0.1:80")->path_count, 3);
	const struct binding *second = plan_find(plan, "web:127.0.0.1:81");
	cr_assert_eq(second->path_count, 2);
	cr_assert_str_eq(binding_path(second, "/3", 2)->plain->id, "a");
	cr_assert_null(binding_path(second, "/2", 2));
	plan_free(plan);
}

Test(plan, one_path_of_two_routers_clashes)
{
	claim(&a, "web:127.0.0.1:80/chat", "x:1:1");
	claim(&b, "web:127.0.0.1:80/chat", "x:2:1");
	expect_error("x:2:1", "web:127.0.0.1:80/chat", "the routers \"a\" (first at x:1:1) and \"b\" both claim it");
}

Test(plan, a_request_asks_for_a_path)
{
	claim(&a, "web:127.0.0.1:80/chat", NULL);
	struct plan *plan = make();
	struct cp_request request = {0};
	struct cp_peer peer = {0};
	request_init(&request, NULL, NULL, plan->bindings[0].address, &peer);
	cr_assert_not(cp_request_set_path(&request, "/chat", 5), "nothing is known of the socket");
	request.binding = &plan->bindings[0];
	cr_assert_not(cp_request_set_path(&request, "/cha", 4));
	cr_assert_null(binding_part_for(request.binding, cp_request_address(&request)));
	cr_assert(cp_request_set_path(&request, "/chat", 5));
	cr_assert_eq(binding_part_for(request.binding, cp_request_accepted(&request)), &plan->bindings[0].paths[0]);
	request_deinit(&request);
	plan_free(plan);
}

Test(plan, a_second_chain_on_one_socket)
{
	claim(&a, "byte+fake:127.0.0.1:80!x", "x:1:1");
	claim(&b, "fake:127.0.0.1:80!y", "x:2:1");
	expect_error("x:2:1", "one chain of converters", "the router \"a\" (first at x:1:1) claims this one as byte+fake:");
}

Test(plan, chains_with_other_arguments_are_other_chains)
{
	claim(&a, "byte(one)+fake:127.0.0.1:80!x", NULL);
	claim(&b, "byte(two)+fake:127.0.0.1:80!y", NULL);
	expect_error("", "one chain of converters", "byte(one)+fake:127.0.0.1:80");
}

Test(plan, connector_that_cannot_be_bound)
{
	claim(&a, "sink:127.0.0.1:80", "x:1:1");
	expect_error("x:1:1", "sink:127.0.0.1:80, claimed by the router \"a\"", "cannot be bound");
}

Test(plan, converter_that_cannot_accept)
{
	claim(&a, "back+fake:127.0.0.1:80", NULL);
	expect_error("", "the converter \"back\"", "cannot be used where connections are accepted");
}

Test(plan, converter_that_does_not_fit_what_is_below)
{
	claim(&a, "byte+msg:127.0.0.1:80", NULL);
	expect_error("", "the converter \"byte\"", "\"msg\" below it carries messages");
}

Test(plan, converters_in_the_wrong_order)
{
	claim(&a, "byte+both+frame+fake:127.0.0.1:80", NULL);
	expect_error("", "the converter \"byte\" works on bytes, but \"frame\" below it",
				 "\"frame\" has to stand in front of \"byte\"");
}

/* ---- Many --------------------------------------------------------------------------------------------------- */

enum { MANY = 100000 };

static struct claim *many(struct cp_arena *arena)
{
	struct claim *list = xcalloc(MANY, sizeof(*list));
	const struct cp_address *plain = fake_address(&fake, "fake:127.0.0.1:80");
	for (int i = 0; i < MANY; i++) {
		char name[24];
		int length = snprintf(name, sizeof(name), "host-%d", i);
		list[i].router = &a.router;
		list[i].address = cp_address_with_multiplex(plain, arena, name, (size_t)length);
	}
	return list;
}

Test(plan, many_subports_of_one_router_cost_nothing)
{
	struct cp_arena *arena = cp_arena_new(0);
	struct claim *list = many(arena);
	struct plan *plan = plan_new(NULL, list, MANY, &fake.report);
	cr_assert_not_null(plan);
	cr_assert_str_eq(who(plan, "host-4711"), "a");
	cr_assert_lt(cp_arena_size(plan->arena), 16384);
	plan_free(plan);
	free(list);
	cp_arena_free(arena);
}

Test(plan, many_subports_of_two_routers_are_all_found)
{
	struct cp_arena *arena = cp_arena_new(0);
	struct claim *list = many(arena);
	for (int i = 0; i < MANY; i += 2)
		list[i].router = &b.router;
	struct plan *plan = plan_new(NULL, list, MANY, &fake.report);
	cr_assert_not_null(plan);
	for (int i = 0; i < MANY; i++) {
		char name[24];
		snprintf(name, sizeof(name), "host-%d", i);
		cr_assert_str_eq(who(plan, name), i % 2 ? "a" : "b");
	}
	cr_assert_str_eq(who(plan, "host-100000"), "nobody");
	plan_free(plan);
	free(list);
	cp_arena_free(arena);
}

Test(plan, one_subport_on_many_sockets_is_no_conflict)
{
	enum { SOCKETS = 1000 };
	struct claim *list = xcalloc(SOCKETS, sizeof(*list));
	for (int i = 0; i < SOCKETS; i++) {
		char text[64];
		snprintf(text, sizeof(text), "fake:127.0.0.1:%d!db", 1 + i);
		list[i] = (struct claim){i % 2 ? &a.router : &b.router, fake_address(&fake, text), NULL};
	}
	struct plan *plan = plan_new(NULL, list, SOCKETS, &fake.report);
	cr_assert_not_null(plan);
	cr_assert_eq(plan->count, SOCKETS);
	cr_assert_eq(plan_find(plan, "fake:127.0.0.1:500")->root.only, &a.router);
	plan_free(plan);
	free(list);
}

/* ---- What an address carries -------------------------------------------------------------------------------- */

static const char *carries(const char *text)
{
	bool messages, any;
	struct cp_error error;
	if (cp_address_carries(fake_address(&fake, text), &messages, &any, &error) != CP_OK)
		return "error";
	return any ? (messages ? "any and messages" : "any") : messages ? "messages" : "bytes";
}

Test(plan, what_addresses_carry)
{
	cr_assert_str_eq(carries("fake:h:1"), "bytes");
	cr_assert_str_eq(carries("msg:h:1"), "messages");
	cr_assert_str_eq(carries("any:h:1"), "any");
	cr_assert_str_eq(carries("byte+fake:h:1"), "bytes");
	cr_assert_str_eq(carries("frame+fake:h:1"), "messages");
	cr_assert_str_eq(carries("frame+byte+fake:h:1"), "messages");
	cr_assert_str_eq(carries("both+frame+fake:h:1"), "messages");
	cr_assert_str_eq(carries("both+any:h:1"), "any");
	cr_assert_str_eq(carries("byte+any:h:1"), "bytes");
	cr_assert_str_eq(carries("byte+frame+fake:h:1"), "error");
	cr_assert_str_eq(carries("frame+msg:h:1"), "error");
	cr_assert_str_eq(carries("byte+msg:h:1"), "error");
}
