#include "route_fake.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static struct fake fake;

static void setup(void)
{
	fake_init(&fake);
	fake_request(&fake, "fake:127.0.0.1:80!web");
}

static void teardown(void)
{
	fake_deinit(&fake);
}

TestSuite(routing, .init = setup, .fini = teardown);

/* ---- Scripts ------------------------------------------------------------------------------------------------ */

static void fill_targets(struct fake_router *self, struct cp_answer *answer)
{
	answer->kind = CP_ANSWER_TARGETS;
	answer->targets = self->targets;
	while (answer->target_count < 4 && self->targets[answer->target_count])
		answer->target_count++;
}

static int say_targets(struct fake_router *self, struct cp_request *request, struct cp_answer *answer,
					   struct cp_error *error)
{
	(void)request, (void)error;
	fill_targets(self, answer);
	return CP_OK;
}

static int say_next(struct fake_router *self, struct cp_request *request, struct cp_answer *answer,
					struct cp_error *error)
{
	(void)request, (void)error;
	answer->kind = CP_ANSWER_ROUTER;
	answer->router = self->next;
	answer->address = self->targets[0];
	return CP_OK;
}

static int say_refuse(struct fake_router *self, struct cp_request *request, struct cp_answer *answer,
					  struct cp_error *error)
{
	(void)self, (void)request, (void)error;
	answer->kind = CP_ANSWER_REFUSE;
	answer->reason = "banned";
	return CP_OK;
}

static int say_none(struct fake_router *self, struct cp_request *request, struct cp_answer *answer,
					struct cp_error *error)
{
	(void)self, (void)request, (void)error;
	answer->kind = CP_ANSWER_NONE;
	return CP_OK;
}

static int say_later(struct fake_router *self, struct cp_request *request, struct cp_answer *answer,
					 struct cp_error *error)
{
	(void)answer, (void)error;
	cp_request_set_state(request, self);
	return CP_AGAIN;
}

static int say_inside(struct fake_router *self, struct cp_request *request, struct cp_answer *answer,
					  struct cp_error *error)
{
	(void)answer, (void)error;
	struct cp_answer own = {0};
	fill_targets(self, &own);
	cp_request_answer(request, &own);
	return CP_AGAIN;
}

static int say_broken(struct fake_router *self, struct cp_request *request, struct cp_answer *answer,
					  struct cp_error *error)
{
	(void)self, (void)request, (void)answer;
	return cp_error_set(error, CP_EIO, "main.lua:3", "the script has a mistake");
}

/** Targets once five bytes are there or none will come; until then, bytes. */
static int say_five_bytes(struct fake_router *self, struct cp_request *request, struct cp_answer *answer,
						  struct cp_error *error)
{
	(void)error;
	size_t length;
	bool end;
	cp_request_peek(request, &length, &end);
	if (length >= 5 || end) {
		fill_targets(self, answer);
		return CP_OK;
	}
	answer->kind = CP_ANSWER_BYTES;
	answer->bytes = 5;
	answer->timeout_ms = 200;
	return CP_OK;
}

static int say_one_byte_always(struct fake_router *self, struct cp_request *request, struct cp_answer *answer,
							   struct cp_error *error)
{
	(void)self, (void)request, (void)error;
	answer->kind = CP_ANSWER_BYTES;
	answer->bytes = 1;
	return CP_OK;
}

static void arrive(const char *bytes, bool end)
{
	fake.request.peeked = bytes;
	fake.request.peeked_length = strlen(bytes);
	fake.request.peeked_end = end;
}

/* ---- Answers at once ---------------------------------------------------------------------------------------- */

Test(routing, targets_are_handed_on_in_order)
{
	struct fake_router front;
	fake_router_init(&fake, &front, "front", say_targets);
	front.targets[0] = fake_address(&fake, "fake:10.0.0.1:81");
	front.targets[1] = fake_address(&fake, "sink:10.0.0.2:82!db");
	cr_assert_eq(fake_start(&fake, &front), CP_OK);
	cr_assert_eq(fake.routing.answer.target_count, 2);
	cr_assert_eq(fake.routing.answer.targets[0], front.targets[0]);
	cr_assert_eq(fake.routing.answer.targets[1], front.targets[1]);
	cr_assert_eq(fake.changed, 0);
	cr_assert(fake_explained(&fake, "router \"front\" is asked about fake:127.0.0.1:80!web"));
	cr_assert(fake_explained(&fake, "target 1 of 2: fake:10.0.0.1:81"));
	cr_assert(fake_explained(&fake, "target 2 of 2: sink:10.0.0.2:82!db"));
}

Test(routing, an_answer_at_once_makes_no_arena)
{
	struct fake_router front;
	fake_router_init(&fake, &front, "front", say_targets);
	front.targets[0] = fake_address(&fake, "fake:10.0.0.1:81");
	fake.request.explain = NULL;
	cr_assert_eq(fake_start(&fake, &front), CP_OK);
	cr_assert_null(fake.request.arena);
}

Test(routing, refusal_names_the_reason)
{
	struct fake_router front;
	fake_router_init(&fake, &front, "front", say_refuse);
	cr_assert_lt(fake_start(&fake, &front), CP_AGAIN);
	cr_assert_eq(fake.routing.cause, CP_CAUSE_REFUSED_BY_ROUTER);
	cr_assert_str_eq(fake.routing.error.message, "banned");
	cr_assert(fake_explained(&fake, "banned"));
}

Test(routing, no_route)
{
	struct fake_router front;
	fake_router_init(&fake, &front, "front", say_none);
	cr_assert_lt(fake_start(&fake, &front), CP_AGAIN);
	cr_assert_eq(fake.routing.cause, CP_CAUSE_NO_ROUTE);
}

Test(routing, failure_keeps_code_and_words)
{
	struct fake_router front;
	fake_router_init(&fake, &front, "front", say_broken);
	cr_assert_eq(fake_start(&fake, &front), CP_EIO);
	cr_assert_eq(fake.routing.cause, CP_CAUSE_ROUTER_FAILED);
	cr_assert_str_eq(fake.routing.error.message, "router \"front\" failed: the script has a mistake");
	cr_assert_str_eq(fake.routing.error.where, "main.lua:3");
}

/** Start a router that answers with `targets` and expect it to be blamed in words that contain `words`. */
static void expect_bad_targets(const struct cp_address *target, const char *words)
{
	struct fake_router front;
	fake_router_init(&fake, &front, "front", say_targets);
	front.targets[0] = target;
	cr_assert_eq(fake_start(&fake, &front), CP_EINVAL);
	cr_assert_eq(fake.routing.cause, CP_CAUSE_ROUTER_FAILED);
	cr_assert(strstr(fake.routing.error.message, words), "%s", fake.routing.error.message);
}

Test(routing, no_targets_is_a_failure)
{
	expect_bad_targets(NULL, "but with none");
}

Test(routing, target_that_cannot_connect_is_a_failure)
{
	expect_bad_targets(fake_address(&fake, "door:10.0.0.1:81"), "door:10.0.0.1:81: its connector cannot connect");
}

Test(routing, target_with_an_accepting_converter_is_a_failure)
{
	expect_bad_targets(fake_address(&fake, "front+fake:10.0.0.1:81"), "only works where a connection is accepted");
}

Test(routing, target_that_carries_messages_for_a_client_of_bytes_is_a_failure)
{
	expect_bad_targets(fake_address(&fake, "msg:10.0.0.1:81"), "it carries messages, but the client's stream carries bytes");
}

Test(routing, target_that_carries_bytes_for_a_client_of_messages_is_a_failure)
{
	fake_request(&fake, "frame+fake:127.0.0.1:80");
	fake.request.address = fake_address(&fake, "fake:127.0.0.1:9"); /* what other routers asked about does not count */
	expect_bad_targets(fake_address(&fake, "fake:10.0.0.1:81"), "it carries bytes, but the client's stream carries messages");
}

Test(routing, target_that_suits_both_suits_messages)
{
	struct fake_router front;
	fake_request(&fake, "frame+fake:127.0.0.1:80");
	fake_router_init(&fake, &front, "front", say_targets);
	front.targets[0] = fake_address(&fake, "frame+fake:10.0.0.1:81");
	front.targets[1] = fake_address(&fake, "any:10.0.0.1:81");
	cr_assert_eq(fake_start(&fake, &front), CP_OK);
}

/* ---- Chains ------------------------------------------------------------------------------------------------- */

Test(routing, next_router_is_asked_about_the_same_address)
{
	struct fake_router front, rules;
	fake_router_init(&fake, &front, "front", say_next);
	fake_router_init(&fake, &rules, "rules", say_targets);
	front.next = "rules";
	rules.targets[0] = fake_address(&fake, "fake:10.0.0.1:81");
	const struct cp_address *asked = fake.request.address;
	cr_assert_eq(fake_start(&fake, &front), CP_OK);
	cr_assert_eq(fake.routing.router, &rules.router);
	cr_assert_eq(fake.request.address, asked);
	cr_assert(fake_explained(&fake, "router \"front\": asks the router \"rules\""));
}

Test(routing, next_router_is_asked_about_another_address)
{
	struct fake_router front, rules;
	fake_router_init(&fake, &front, "front", say_next);
	fake_router_init(&fake, &rules, "rules", say_targets);
	front.next = "rules";
	front.targets[0] = fake_address(&fake, "fake:127.0.0.1:80!ssh");
	rules.targets[0] = fake_address(&fake, "fake:10.0.0.1:81");
	cr_assert_eq(fake_start(&fake, &front), CP_OK);
	cr_assert_eq(fake.request.address, front.targets[0]);
	cr_assert(fake_explained(&fake, "router \"rules\" is asked about fake:127.0.0.1:80!ssh"));
}

Test(routing, unknown_next_router_is_a_failure)
{
	struct fake_router front;
	fake_router_init(&fake, &front, "front", say_next);
	front.next = "nobody";
	cr_assert_eq(fake_start(&fake, &front), CP_EINVAL);
	cr_assert_eq(fake.routing.cause, CP_CAUSE_ROUTER_FAILED);
	cr_assert(strstr(fake.routing.error.message, "\"nobody\", which does not exist"));
}

Test(routing, loop_of_routers_ends_and_is_named)
{
	struct fake_router a, b;
	fake_router_init(&fake, &a, "a", say_next);
	fake_router_init(&fake, &b, "b", say_next);
	a.next = "b";
	b.next = "a";
	cr_assert_eq(fake_start(&fake, &a), CP_ELIMIT);
	cr_assert_eq(fake.routing.cause, CP_CAUSE_ROUTER_FAILED);
	cr_assert_eq(a.asked + b.asked, ROUTING_STEPS);
	cr_assert(strstr(fake.routing.error.message, "a -> b -> a"), "%s", fake.routing.error.message);
}

Test(routing, chain_of_as_many_routers_as_allowed_arrives)
{
	struct fake_router routers[ROUTING_STEPS];
	char ids[ROUTING_STEPS + 1][16];
	for (int i = 0; i <= ROUTING_STEPS; i++)
		snprintf(ids[i], sizeof(ids[i]), "r%d", i);
	for (int i = 0; i < ROUTING_STEPS; i++) {
		fake_router_init(&fake, &routers[i], ids[i], i == ROUTING_STEPS - 1 ? say_targets : say_next);
		routers[i].next = ids[i + 1];
	}
	routers[ROUTING_STEPS - 1].targets[0] = fake_address(&fake, "fake:10.0.0.1:81");
	cr_assert_eq(fake_start(&fake, &routers[0]), CP_OK);
}

/* ---- Later answers ------------------------------------------------------------------------------------------ */

Test(routing, later_answer_calls_changed_once)
{
	struct fake_router front;
	fake_router_init(&fake, &front, "front", say_later);
	front.targets[0] = fake_address(&fake, "fake:10.0.0.1:81");
	cr_assert_eq(fake_start(&fake, &front), CP_AGAIN);
	cr_assert_not(fake.routing.wanting_bytes);
	struct cp_answer answer = {0};
	fill_targets(&front, &answer);
	cp_request_answer(&fake.request, &answer);
	cr_assert_eq(fake.routing.result, CP_OK);
	cr_assert_eq(fake.changed, 1);
	cp_request_answer(&fake.request, &answer); /* one too many: ignored */
	cr_assert_eq(fake.changed, 1);
}

Test(routing, answer_from_inside_route_counts)
{
	struct fake_router front;
	fake_router_init(&fake, &front, "front", say_inside);
	front.targets[0] = fake_address(&fake, "fake:10.0.0.1:81");
	cr_assert_eq(fake_start(&fake, &front), CP_OK);
	cr_assert_eq(fake.changed, 0);
}

Test(routing, later_answer_may_name_a_router_that_answers_later)
{
	struct fake_router front, rules;
	fake_router_init(&fake, &front, "front", say_later);
	fake_router_init(&fake, &rules, "rules", say_later);
	cr_assert_eq(fake_start(&fake, &front), CP_AGAIN);
	cp_request_answer(&fake.request, &(struct cp_answer){.kind = CP_ANSWER_ROUTER, .router = "rules"});
	cr_assert_eq(fake.changed, 0); /* nothing to look at yet */
	cr_assert_eq(rules.asked, 1);
	cp_request_answer(&fake.request, &(struct cp_answer){.kind = CP_ANSWER_NONE});
	cr_assert_eq(fake.changed, 1);
	cr_assert_eq(fake.routing.cause, CP_CAUSE_NO_ROUTE);
}

Test(routing, state_is_empty_for_the_next_router)
{
	struct fake_router front, rules;
	fake_router_init(&fake, &front, "front", say_later);
	fake_router_init(&fake, &rules, "rules", say_one_byte_always);
	fake_start(&fake, &front);
	cr_assert_eq(cp_request_state(&fake.request), &front);
	cp_request_answer(&fake.request, &(struct cp_answer){.kind = CP_ANSWER_ROUTER, .router = "rules"});
	cr_assert_null(cp_request_state(&fake.request));
	routing_cancel(&fake.routing);
}

Test(routing, cancel_tells_the_router_that_is_waiting)
{
	struct fake_router front;
	fake_router_init(&fake, &front, "front", say_later);
	fake_start(&fake, &front);
	routing_cancel(&fake.routing);
	cr_assert_eq(front.cancelled, 1);
	cr_assert_eq(fake.changed, 0);
	cr_assert_null(fake.request.routing);
}

/* ---- Bytes -------------------------------------------------------------------------------------------------- */

Test(routing, router_is_asked_again_when_it_has_its_bytes)
{
	struct fake_router front;
	fake_router_init(&fake, &front, "front", say_five_bytes);
	front.targets[0] = fake_address(&fake, "fake:10.0.0.1:81");
	cr_assert_eq(fake_start(&fake, &front), CP_AGAIN);
	cr_assert(fake.routing.wanting_bytes);
	cr_assert_eq(fake.routing.answer.bytes, 5);
	cr_assert_eq(fake.routing.answer.timeout_ms, 200);
	arrive("GET", false);
	cr_assert_eq(routing_bytes(&fake.routing), CP_AGAIN);
	cr_assert_eq(front.asked, 1); /* three are not five */
	arrive("GET /", false);
	cr_assert_eq(routing_bytes(&fake.routing), CP_OK);
	cr_assert_eq(front.asked, 2);
	cr_assert_not(fake.routing.wanting_bytes);
}

Test(routing, end_of_bytes_is_an_answer_too)
{
	struct fake_router front;
	fake_router_init(&fake, &front, "front", say_five_bytes);
	front.targets[0] = fake_address(&fake, "fake:10.0.0.1:81");
	fake_start(&fake, &front);
	arrive("GE", true);
	cr_assert_eq(routing_bytes(&fake.routing), CP_OK);
}

Test(routing, asking_for_what_is_there_is_bounded)
{
	struct fake_router front;
	fake_router_init(&fake, &front, "front", say_one_byte_always);
	arrive("GET /", false);
	cr_assert_eq(fake_start(&fake, &front), CP_EINVAL);
	cr_assert_eq(fake.routing.cause, CP_CAUSE_ROUTER_FAILED);
	cr_assert_eq(front.asked, ROUTING_REPEATS + 1);
	cr_assert(strstr(fake.routing.error.message, "again and again, but it has 5"), "%s", fake.routing.error.message);
}

Test(routing, asking_for_bytes_behind_the_end_is_bounded)
{
	struct fake_router front;
	fake_router_init(&fake, &front, "front", say_one_byte_always);
	cr_assert_eq(fake_start(&fake, &front), CP_AGAIN);
	arrive("", true);
	cr_assert_eq(routing_bytes(&fake.routing), CP_EINVAL);
	cr_assert(strstr(fake.routing.error.message, "there will be no more than 0"), "%s", fake.routing.error.message);
}

Test(routing, cancel_while_wanting_bytes_tells_only_a_router_with_state)
{
	struct fake_router front, rules;
	fake_router_init(&fake, &front, "front", say_five_bytes);
	fake_start(&fake, &front);
	routing_cancel(&fake.routing);
	cr_assert_eq(front.cancelled, 0);

	fake_router_init(&fake, &rules, "rules", say_later);
	fake_start(&fake, &rules);
	cp_request_answer(&fake.request, &(struct cp_answer){.kind = CP_ANSWER_BYTES, .bytes = 9});
	cr_assert_eq(fake.changed, 1);
	cr_assert(fake.routing.wanting_bytes);
	routing_cancel(&fake.routing);
	cr_assert_eq(rules.cancelled, 1);
}

/* ---- The request -------------------------------------------------------------------------------------------- */

Test(routing, facts_are_copied_and_replaced)
{
	char text[] = "example.org";
	struct cp_value value = cp_string(text, strlen(text));
	cp_request_set_fact(&fake.request, "sni", &value);
	text[0] = 'X';
	cr_assert_str_eq(cp_request_fact(&fake.request, "sni")->as.s, "example.org");
	struct cp_value number = cp_unsigned(CP_U16, 7);
	cp_request_set_fact(&fake.request, "sni", &number);
	cr_assert_eq(cp_request_facts(&fake.request).count, 1);
	cr_assert_eq(cp_request_fact(&fake.request, "sni")->as.u, 7);
	cr_assert_null(cp_request_fact(&fake.request, "alpn"));
}

Test(routing, reset_forgets_facts_and_keeps_little_memory)
{
	struct cp_value value = cp_string("h2", 2);
	for (int i = 0; i < 20; i++) {
		char name[16];
		snprintf(name, sizeof(name), "f%d", i);
		cp_request_set_fact(&fake.request, name, &value);
	}
	cr_assert_eq(cp_request_facts(&fake.request).count, 20);
	cr_assert_str_eq(cp_request_fact(&fake.request, "f13")->as.s, "h2");
	request_reset(&fake.request);
	cr_assert_null(cp_request_fact(&fake.request, "f13"));
	cr_assert_not_null(fake.request.arena);
	cp_arena_alloc(fake.request.arena, 1 << 20);
	request_reset(&fake.request);
	cr_assert_null(fake.request.arena);
}
