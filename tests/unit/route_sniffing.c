/* What sniffing settles, and when: with bytes that come in pieces, with time that passes, with facts that are there. */
#include "route_fake.h"

#include "loop/loop.h"
#include "route/sniffing.h"
#include "sniff_hello.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

enum { PREAMBLE_MS = 3000 };

static struct fake fake;
static struct cp_loop loop; /* only its time */
static uint64_t wait_ms;
static struct hello message;
static uint8_t wire[RECORDS_ROOM];

static void setup(void)
{
	fake_init(&fake);
	fake_request(&fake, "fake:127.0.0.1:80");
	loop.now = 1000000;
	fake.request.loop = &loop;
	fake.request.silence_ms = PREAMBLE_MS;
}

static void teardown(void)
{
	fake_deinit(&fake);
}

TestSuite(sniffing, .init = setup, .fini = teardown);

/* ---- Helpers ------------------------------------------------------------------------------------------------ */

static void arrive(const void *bytes, size_t length, bool end)
{
	fake.request.peeked = bytes;
	fake.request.peeked_length = length;
	fake.request.peeked_end = end;
}

static void arrive_text(const char *text)
{
	arrive(text, strlen(text), false);
}

static bool settled(const struct cp_sniff *sniff)
{
	wait_ms = UINT64_MAX;
	return sniffing_run(&fake.request, sniff, &wait_ms);
}

static bool settled_after(uint64_t ms, const struct cp_sniff *sniff)
{
	loop.now += ms;
	return settled(sniff);
}

static void give(const char *name, const char *text)
{
	struct cp_value value = text ? cp_string(text, strlen(text)) : cp_null();
	cp_request_set_fact(&fake.request, name, &value);
}

/** @param text  NULL: it is settled that there is none */
static void expect(const char *name, const char *text)
{
	const struct cp_value *value = cp_request_fact(&fake.request, name);
	cr_assert_not_null(value, "%s is not settled", name);
	cr_assert_eq(value->kind, text ? CP_STRING : CP_NULL, "%s is %s", name, value->kind ? value->as.s : "null");
	if (text)
		cr_assert_str_eq(value->as.s, text, "%s", name);
}

static void expect_not_asked(const char *name)
{
	cr_assert_null(cp_request_fact(&fake.request, name), "%s", name);
}

#define BYTES(text) .bytes = (const uint8_t *)(text), .length = sizeof(text) - 1
#define SNIFF(bits, ...)                                              \
	{                                                                 \
		.size = sizeof(struct cp_sniff), .facts = (bits), __VA_ARGS__ \
	}
#define PATTERNS(list) .patterns = (list), .pattern_count = sizeof(list) / sizeof((list)[0])

static const struct cp_sniff tls = SNIFF(CP_SNIFF_PROTO(CP_PROTO_TLS)), ssh = SNIFF(CP_SNIFF_PROTO(CP_PROTO_SSH)),
							 http = SNIFF(CP_SNIFF_PROTO(CP_PROTO_HTTP)), tls_details = SNIFF(CP_SNIFF_TLS),
							 http_details = SNIFF(CP_SNIFF_HTTP),
							 all = SNIFF(CP_SNIFF_PROTO(CP_PROTO_CONNPIPE) | CP_SNIFF_PROTO(CP_PROTO_TLS) |
										 CP_SNIFF_PROTO(CP_PROTO_SSH) | CP_SNIFF_PROTO(CP_PROTO_HTTP) | CP_SNIFF_TLS |
										 CP_SNIFF_HTTP);

static size_t make_hello(size_t fragment)
{
	hello_padded(&message, "Example.org");
	return hello_records(&message, fragment, wire);
}

/* ---- Protocols ---------------------------------------------------------------------------------------------- */

Test(sniffing, tls_takes_six_bytes)
{
	make_hello(1 << 14);
	for (size_t i = 1; i < 6; i++) {
		arrive(wire, i, false);
		cr_assert_not(settled(&tls));
		cr_assert_eq(wait_ms, 5000);
	}
	arrive(wire, 6, false);
	cr_assert(settled(&tls));
	expect("proto", "tls");
	expect_not_asked("sni");
	expect_not_asked("host");
}

Test(sniffing, details_take_the_whole_hello)
{
	size_t length = make_hello(100);
	for (size_t i = 1; i < length; i++) {
		arrive(wire, i, false);
		cr_assert_not(settled(&all), "%zu", i);
		expect_not_asked("proto");
	}
	arrive(wire, length, false);
	cr_assert(settled(&all));
	expect("proto", "tls");
	expect("sni", "example.org");
	expect("alpn", "h2,http/1.1");
	expect("host", NULL);
	expect("path", NULL);
	expect("method", NULL);
}

Test(sniffing, details_take_the_whole_head)
{
	static const char head[] = "GET /a?b HTTP/1.1\r\nHost: Example.org:80\r\n\r\n";
	for (size_t i = 1; i < sizeof(head) - 1; i++) {
		arrive(head, i, false);
		cr_assert_not(settled(&all), "%zu", i);
	}
	arrive_text(head);
	cr_assert(settled(&all));
	expect("proto", "http");
	expect("host", "example.org");
	expect("path", "/a");
	expect("method", "GET");
	expect("sni", NULL);
	expect("alpn", NULL);
}

Test(sniffing, protocols_that_begin_alike_are_told_apart)
{
	static const struct {
		const char *bytes, *proto;
	} firsts[] = {
		{"SSH-2.0-x\r\n", "ssh"}, {"SEARCH / HTTP/1.1\r\n\r\n", "http"}, {"SSH- / HTTP/1.1\r\n\r\n", "ssh"},
		{"EHLO x\r\n", NULL},     {"\x16\x03\x01\x02\x01\x02", NULL},
	};
	for (size_t i = 0; i < sizeof(firsts) / sizeof(firsts[0]); i++) {
		fake.request.fact_count = 0;
		arrive(firsts[i].bytes, 1, false);
		cr_assert_not(settled(&all));
		arrive_text(firsts[i].bytes);
		cr_assert(settled(&all), "%s", firsts[i].bytes);
		expect("proto", firsts[i].proto);
	}
}

Test(sniffing, connpipe_takes_the_magic)
{
	static const char magic[] = "\x89\x3d\x1d\x4e\x4e\x4f\xc6\x86\x2d\x1e\x10\x01\x0d\x0a\x69\x0a\x03ssh";
	for (size_t i = 1; i < 16; i++) {
		arrive(magic, i, false);
		cr_assert_not(settled(&all));
	}
	arrive(magic, 16, false);
	cr_assert(settled(&all));
	expect("proto", "connpipe");
	expect("sni", NULL);
}

Test(sniffing, only_what_is_asked_for_is_a_candidate)
{
	arrive_text("SSH-2.0-x\r\n");
	cr_assert(settled(&http));
	expect("proto", NULL);
	cr_assert(settled(&ssh)); /* asked next */
	expect("proto", "ssh");
}

Test(sniffing, details_that_are_malformed_are_none)
{
	make_hello(1 << 14);
	wire[43] = 33; /* length of the session's name */
	arrive(wire, 517, false);
	cr_assert(settled(&all));
	expect("proto", "tls");
	expect("sni", NULL);
	expect("alpn", NULL);
}

Test(sniffing, a_head_that_is_doubtful_tells_nothing)
{
	arrive_text("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
	cr_assert(settled(&http_details));
	expect("proto", "http");
	expect("host", NULL);
	expect("path", NULL);
}

Test(sniffing, the_end_settles_everything)
{
	make_hello(1 << 14);
	arrive(wire, 300, true);
	cr_assert(settled(&all));
	expect("proto", "tls");
	expect("sni", NULL);
}

Test(sniffing, the_end_of_what_was_only_possible)
{
	arrive("GET /", 5, true);
	cr_assert(settled(&all));
	expect("proto", NULL);
	expect("host", NULL);
}

/** A hello in so many records that it is longer than what is looked at, in pieces and in one go. */
Test(sniffing, the_limit_is_the_same_however_bytes_come)
{
	hello_begin(&message);
	hello_server_name(&message, "example.org", 11);
	hello_extension_of(&message, 0x0015, 4000);
	hello_finish(&message);
	size_t length = hello_records(&message, 1, wire);
	cr_assert_gt(length, CP_SNIFF_MOST);
	arrive(wire, CP_SNIFF_MOST - 1, false);
	cr_assert_not(settled(&tls_details));
	arrive(wire, CP_SNIFF_MOST, false);
	cr_assert(settled(&tls_details));
	expect("sni", NULL);
	fake.request.fact_count = 0;
	arrive(wire, length, false);
	cr_assert(settled(&tls_details));
	expect("proto", "tls");
	expect("sni", NULL);
}

/* ---- Patterns ----------------------------------------------------------------------------------------------- */

/** What `sniff` makes of the bytes, whole and in two pieces cut anywhere. */
static void expect_proto(const struct cp_sniff *sniff, const char *bytes, const char *proto)
{
	for (size_t cut = 1; cut <= strlen(bytes); cut++) {
		fake.request.fact_count = 0;
		arrive(bytes, cut, false);
		if (!settled(sniff)) {
			arrive_text(bytes);
			cr_assert(settled(sniff), "%s behind %zu bytes", bytes, cut);
		}
		expect("proto", proto);
	}
}

Test(sniffing, patterns_come_before_protocols_and_the_first_is_waited_for)
{
	static const struct cp_sniff_pattern patterns[] = {
		{.name = "long", BYTES("ABCDEF")},
		{.name = "short", BYTES("AB")},
		{.name = "api", BYTES("GET /api")},
	};
	static const struct cp_sniff sniff = SNIFF(CP_SNIFF_PROTO(CP_PROTO_HTTP), PATTERNS(patterns));
	expect_proto(&sniff, "ABCDEF", "long");
	expect_proto(&sniff, "ABCDE-", "short");
	expect_proto(&sniff, "GET /api HTTP/1.1\r\n", "api");
	expect_proto(&sniff, "GET /app HTTP/1.1\r\n", "http");
	expect_proto(&sniff, "A\x01", NULL);
	fake.request.fact_count = 0;
	arrive_text("ABCDE");
	cr_assert_not(settled(&sniff));
}

Test(sniffing, patterns_with_a_mask_further_on)
{
	static const uint8_t mask[] = {0xf0, 0x00, 0xff};
	static const struct cp_sniff_pattern patterns[] = {{.name = "x", BYTES("\x45-z"), .mask = mask, .offset = 2}};
	static const struct cp_sniff sniff = SNIFF(0, PATTERNS(patterns));
	expect_proto(&sniff, "..E-z", "x");
	expect_proto(&sniff, "..O?z..", "x");
	expect_proto(&sniff, "..U-z", NULL);
	expect_proto(&sniff, "..E-y", NULL);
}

Test(sniffing, a_pattern_beyond_the_limit_matches_nothing)
{
	static const struct cp_sniff_pattern patterns[] = {{.name = "x", BYTES("x"), .offset = CP_SNIFF_MOST}};
	static const struct cp_sniff sniff = SNIFF(0, PATTERNS(patterns));
	memset(wire, 'x', CP_SNIFF_MOST + 10);
	arrive(wire, CP_SNIFF_MOST + 10, false);
	cr_assert(settled(&sniff));
	expect("proto", NULL);
}

/* ---- Time --------------------------------------------------------------------------------------------------- */

Test(sniffing, each_candidate_has_its_time)
{
	static const struct cp_sniff_pattern patterns[] = {{.name = "slow", BYTES("GETX"), .timeout_ms = 700}};
	static const struct cp_sniff sniff =
		SNIFF(CP_SNIFF_PROTO(CP_PROTO_HTTP), PATTERNS(patterns), .timeout_ms = {[CP_PROTO_HTTP] = 2000});
	arrive_text("GET");
	cr_assert_not(settled(&sniff));
	cr_assert_eq(wait_ms, 700);
	cr_assert_not(settled_after(699, &sniff));
	cr_assert_eq(wait_ms, 1);
	cr_assert_not(settled_after(1, &sniff)); /* the pattern is given up */
	cr_assert_eq(wait_ms, 1300);
	arrive_text("GETX");
	cr_assert(settled(&sniff)); /* late, but certain */
	expect("proto", "slow");
	fake.request.fact_count = 0;
	arrive_text("GET");
	cr_assert_not(settled_after(1299, &sniff));
	cr_assert(settled_after(1, &sniff));
	expect("proto", NULL);
}

Test(sniffing, a_slow_hello_is_tls_without_details)
{
	make_hello(1 << 14);
	arrive(wire, 100, false);
	cr_assert_not(settled(&tls_details));
	arrive(wire, 200, false);
	cr_assert_not(settled_after(4999, &tls_details));
	cr_assert_eq(wait_ms, 1);
	cr_assert(settled_after(1, &tls_details));
	expect("proto", "tls");
	expect("sni", NULL);
}

Test(sniffing, defaults)
{
	static const struct {
		const char *bytes;
		uint64_t ms;
	} firsts[] = {{"\x89", 3000}, {"\x16", 5000}, {"SS", 3000}, {"G", 10000}};
	for (size_t i = 0; i < sizeof(firsts) / sizeof(firsts[0]); i++) {
		arrive_text(firsts[i].bytes);
		cr_assert_not(settled(&all));
		cr_assert_eq(wait_ms, firsts[i].ms, "%zu", i);
	}
	cr_assert_str_eq(cp_protocol_text(CP_PROTO_TLS), "tls");
	cr_assert_str_eq(cp_protocol_text(CP_PROTO_HTTP), "http");
}

Test(sniffing, time_counts_from_the_first_wait)
{
	arrive_text("");
	cr_assert_not(settled(&tls));
	loop.now += 2000;
	arrive_text("\x16");
	cr_assert_not(settled(&tls));
	cr_assert_eq(wait_ms, 3000);
	cr_assert_not(settled(&all)); /* for another one, too */
	cr_assert_eq(wait_ms, 3000);
}

/* ---- Silence ------------------------------------------------------------------------------------------------ */

Test(sniffing, a_silent_client_is_waited_for_as_long_as_for_a_preamble)
{
	arrive_text("");
	cr_assert_not(settled(&all));
	cr_assert_eq(wait_ms, PREAMBLE_MS);
	cr_assert_not(settled_after(PREAMBLE_MS - 1, &all));
	cr_assert(settled_after(1, &all));
	expect("proto", NULL);
	expect("sni", NULL);
	expect("host", NULL);
}

Test(sniffing, silence_without_a_limit)
{
	fake.request.silence_ms = 0;
	arrive_text("");
	static const struct cp_sniff_pattern patterns[] = {{.name = "x", BYTES("x")}};
	static const struct cp_sniff sniff = SNIFF(0, PATTERNS(patterns));
	cr_assert_not(settled(&sniff));
	cr_assert_eq(wait_ms, 0);
	cr_assert_not(settled_after(1000000, &sniff));
	cr_assert_eq(wait_ms, 0);
}

static const struct cp_sniff_pattern silences[] = {
	{.name = "x", BYTES("x"), .timeout_ms = 10},
	{.name = "mail", .timeout_ms = 800},
	{.name = "news", .timeout_ms = 500},
	{.name = "late", .timeout_ms = 500},
};

Test(sniffing, the_shortest_silence_matches_and_the_first_of_them)
{
	static const struct cp_sniff sniff = SNIFF(CP_SNIFF_PROTO(CP_PROTO_SSH), PATTERNS(silences));
	arrive_text("");
	cr_assert_not(settled(&sniff));
	cr_assert_eq(wait_ms, 500);
	cr_assert(settled_after(500, &sniff));
	expect("proto", "news");
}

/** The time of a pattern of silence is that of the preamble, or longer: the pattern is what counts. */
Test(sniffing, silence_as_long_as_for_a_preamble_and_longer)
{
	static const uint64_t times[] = {0, PREAMBLE_MS, PREAMBLE_MS + 2000};
	for (size_t i = 0; i < 3; i++) {
		struct cp_sniff_pattern pattern = {.name = "mail", .timeout_ms = times[i]};
		struct cp_sniff sniff = SNIFF(0, .patterns = &pattern, .pattern_count = 1);
		uint64_t expected = times[i] ? times[i] : PREAMBLE_MS;
		fake.request.fact_count = 0;
		fake.request.sniff_since = 0;
		arrive_text("");
		cr_assert_not(settled(&sniff));
		cr_assert_eq(wait_ms, expected);
		cr_assert_not(settled_after(expected - 1, &sniff));
		cr_assert(settled_after(1, &sniff));
		expect("proto", "mail");
	}
}

Test(sniffing, who_has_spoken_is_not_silent)
{
	static const struct cp_sniff sniff = SNIFF(CP_SNIFF_PROTO(CP_PROTO_SSH), PATTERNS(silences));
	arrive_text("");
	cr_assert_not(settled(&sniff));
	arrive_text("SS");
	cr_assert_not(settled_after(600, &sniff));
	cr_assert_eq(wait_ms, 2400);
	arrive_text("SX");
	cr_assert(settled(&sniff));
	expect("proto", NULL);
}

Test(sniffing, who_has_ended_is_not_silent)
{
	static const struct cp_sniff sniff = SNIFF(0, PATTERNS(silences));
	arrive("", 0, true);
	cr_assert(settled(&sniff));
	expect("proto", NULL);
}

/* ---- Facts that are there ----------------------------------------------------------------------------------- */

/** TLS was terminated: what the layer told is not looked for, and nobody waits: the server may speak first. */
Test(sniffing, what_a_layer_has_told_is_not_waited_for)
{
	give("sni", "example.org");
	arrive_text("");
	cr_assert(cp_request_sniffed(&fake.request, &tls_details));
	cr_assert(settled(&tls_details));
	expect("sni", "example.org");
	expect("alpn", NULL);
	expect("proto", NULL);
}

Test(sniffing, what_a_layer_has_told_is_not_replaced)
{
	give("sni", "example.org");
	give("path", "/given");
	arrive_text("GET /a HTTP/1.1\r\nHost: b\r\n\r\n");
	cr_assert_not(cp_request_sniffed(&fake.request, &all));
	cr_assert(settled(&all));
	expect("proto", "http");
	expect("sni", "example.org");
	expect("path", "/given");
	expect("host", "b");
}

Test(sniffing, a_protocol_that_is_known_is_not_looked_for)
{
	static const struct cp_sniff_pattern patterns[] = {{.name = "x", BYTES("G")}};
	static const struct cp_sniff sniff = SNIFF(CP_SNIFF_PROTO(CP_PROTO_HTTP), PATTERNS(patterns));
	give("proto", "mine");
	arrive_text("");
	cr_assert(cp_request_sniffed(&fake.request, &sniff));
	cr_assert(settled(&sniff));
	expect("proto", "mine");
}

/** A pattern has named the protocol; another router asks for more: the name stays. */
Test(sniffing, a_name_that_was_found_stays)
{
	static const struct cp_sniff_pattern patterns[] = {{.name = "api", BYTES("GET /api")}};
	static const struct cp_sniff sniff = SNIFF(0, PATTERNS(patterns));
	arrive_text("GET /api/x HTTP/1.1\r\nHost: a\r\n\r\n");
	cr_assert(settled(&sniff));
	expect("proto", "api");
	expect_not_asked("host");
	cr_assert_not(cp_request_sniffed(&fake.request, &http_details));
	cr_assert(settled(&http_details));
	expect("proto", "api");
	expect("host", "a");
	expect("path", "/api/x");
}

/** A table that is asked by another one has patterns of its own, whatever the other one has found. */
Test(sniffing, patterns_of_who_is_asked_later_count)
{
	static const struct cp_sniff_pattern first[] = {{.name = "hello", BYTES("\x16\x03")}};
	static const struct cp_sniff_pattern later[] = {{.name = "api", BYTES("GET /api")}};
	static const struct cp_sniff hello = SNIFF(0, PATTERNS(first)), api = SNIFF(0, PATTERNS(later));
	arrive_text("GET /api/x HTTP/1.1\r\nHost: a\r\n\r\n");
	cr_assert(settled(&http_details));
	expect("proto", "http");
	cr_assert_not(cp_request_sniffed(&fake.request, &api));
	cr_assert(settled(&api));
	expect("proto", "api");

	fake.request.fact_count = 0;
	fake.request.sniffed = NULL;
	arrive(wire, make_hello(1 << 14), false);
	cr_assert(settled(&hello));
	expect("proto", "hello");
	cr_assert(settled(&tls)); /* without patterns: what it knows by itself */
	expect("proto", "tls");
}

Test(sniffing, what_is_settled_is_told)
{
	arrive_text("SSH-2.0-x\r\n");
	cr_assert_not(cp_request_sniffed(&fake.request, &tls));
	cr_assert(settled(&tls));
	cr_assert(cp_request_sniffed(&fake.request, &tls));
	cr_assert_not(cp_request_sniffed(&fake.request, &ssh)); /* may be that one: nobody has asked */
	cr_assert(settled(&ssh));
	cr_assert(cp_request_sniffed(&fake.request, &tls)); /* it is known what it is */
}

/* ---- Through routing ---------------------------------------------------------------------------------------- */

/** Asks for facts; then targets, or the next router. */
struct asking {
	struct fake_router fake; /* first */
	const struct cp_sniff *sniff;
	bool insists; /* asks although it is settled */
	bool holds;   /* has a state */
};

static int say_facts(struct fake_router *self, struct cp_request *request, struct cp_answer *answer,
					 struct cp_error *error)
{
	const struct asking *asking = (const struct asking *)self;
	(void)error;
	if (asking->holds)
		cp_request_set_state(request, self);
	if (asking->insists || !cp_request_sniffed(request, asking->sniff)) {
		answer->kind = CP_ANSWER_FACTS;
		answer->sniff = asking->sniff;
		return CP_OK;
	}
	answer->kind = self->next ? CP_ANSWER_ROUTER : CP_ANSWER_TARGETS;
	answer->router = self->next;
	answer->targets = self->targets;
	answer->target_count = 1;
	return CP_OK;
}

static void asking_init(struct asking *asking, const char *id, const struct cp_sniff *sniff)
{
	fake_router_init(&fake, &asking->fake, id, say_facts);
	asking->fake.targets[0] = fake_address(&fake, "fake:10.0.0.1:81");
	asking->sniff = sniff;
	asking->insists = asking->holds = false;
}

Test(sniffing, routing_goes_on_when_the_facts_are_there)
{
	struct asking front;
	asking_init(&front, "front", &tls_details);
	size_t length = make_hello(1 << 14);
	arrive(wire, 3, false);
	cr_assert_eq(fake_start(&fake, &front.fake), CP_AGAIN);
	cr_assert(fake.routing.wanting_bytes);
	cr_assert_eq(fake.routing.answer.bytes, 4);
	cr_assert_eq(fake.routing.answer.timeout_ms, 5000);
	loop.now += 1000;
	arrive(wire, length - 1, false);
	cr_assert_eq(routing_bytes(&fake.routing), CP_AGAIN);
	cr_assert(fake.routing.wanting_bytes);
	cr_assert_eq(fake.routing.answer.bytes, length);
	cr_assert_eq(fake.routing.answer.timeout_ms, 4000);
	cr_assert_eq(front.fake.asked, 1);
	arrive(wire, length, false);
	cr_assert_eq(routing_bytes(&fake.routing), CP_OK);
	cr_assert_not(fake.routing.wanting_bytes);
	cr_assert_eq(front.fake.asked, 2);
	cr_assert(fake_explained(&fake, "fact: sni is \"example.org\""));
	cr_assert(fake_explained(&fake, "fact: proto is \"tls\""));
}

/** A coroutine that asks in a loop: it is told that nobody waits any more. */
Test(sniffing, asking_again_and_again_is_bounded_and_ends_the_router)
{
	struct asking front;
	asking_init(&front, "front", &http_details);
	front.insists = true;
	fake.request.state = NULL;
	arrive_text("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
	cr_assert_eq(fake_start(&fake, &front.fake), CP_EINVAL);
	cr_assert_eq(front.fake.cancelled, 0); /* it held nothing */
	front.holds = true;
	cr_assert_eq(fake_start(&fake, &front.fake), CP_EINVAL);
	cr_assert_eq(front.fake.cancelled, 1);
}

Test(sniffing, routing_with_bytes_that_are_there_asks_twice)
{
	struct asking front;
	asking_init(&front, "front", &http_details);
	arrive_text("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
	cr_assert_eq(fake_start(&fake, &front.fake), CP_OK);
	cr_assert_eq(front.fake.asked, 2);
}

Test(sniffing, the_time_of_a_step_is_not_the_last)
{
	static const struct cp_sniff_pattern patterns[] = {
		{.name = "slow", BYTES("\x16\x03\x01\x02\x00\x01-"), .timeout_ms = 400}};
	static const struct cp_sniff sniff = SNIFF(CP_SNIFF_TLS, PATTERNS(patterns));
	struct asking front;
	asking_init(&front, "front", &sniff);
	make_hello(1 << 14);
	arrive(wire, 6, false);
	cr_assert_eq(fake_start(&fake, &front.fake), CP_AGAIN);
	cr_assert_eq(fake.routing.answer.timeout_ms, 400);
	loop.now += 400;
	cr_assert_eq(routing_timeout(&fake.routing), CP_AGAIN);
	cr_assert(fake.routing.wanting_bytes);
	cr_assert_eq(fake.routing.answer.timeout_ms, 4600);
	cr_assert_eq(front.fake.asked, 1);
	loop.now += 4600;
	cr_assert_eq(routing_timeout(&fake.routing), CP_OK);
	expect("proto", "tls");
	expect("sni", NULL);
	cr_assert(fake_explained(&fake, "fact: sni is not known"));
	cr_assert_not(fake.request.peeked_end); /* whoever asks for bytes next may still get some */
}

Test(sniffing, routing_ends_with_a_silent_client)
{
	struct asking front;
	asking_init(&front, "front", &all);
	arrive_text("");
	cr_assert_eq(fake_start(&fake, &front.fake), CP_AGAIN);
	cr_assert_eq(fake.routing.answer.timeout_ms, PREAMBLE_MS);
	loop.now += PREAMBLE_MS;
	cr_assert_eq(routing_timeout(&fake.routing), CP_OK);
	expect("proto", NULL);
}

Test(sniffing, routing_ends_with_the_client)
{
	struct asking front;
	asking_init(&front, "front", &all);
	arrive_text("GE");
	cr_assert_eq(fake_start(&fake, &front.fake), CP_AGAIN);
	arrive("GE", 2, true);
	cr_assert_eq(routing_bytes(&fake.routing), CP_OK);
	expect("proto", NULL);
}

Test(sniffing, routers_that_ask_for_different_things)
{
	struct asking front, rules;
	asking_init(&front, "front", &tls);
	asking_init(&rules, "rules", &http_details);
	front.fake.next = "rules";
	arrive_text("POST /x HTTP/1.1\r\n");
	cr_assert_eq(fake_start(&fake, &front.fake), CP_AGAIN);
	cr_assert_eq(fake.routing.router, &rules.fake.router);
	expect("proto", NULL);
	arrive_text("POST /x HTTP/1.1\r\nHost: a\r\n\r\n");
	cr_assert_eq(routing_bytes(&fake.routing), CP_OK);
	expect("proto", "http");
	expect("host", "a");
	cr_assert_eq(front.fake.asked + rules.fake.asked, 4);
}

Test(sniffing, routers_that_ask_for_the_same_look_once)
{
	struct asking front, rules;
	asking_init(&front, "front", &http_details);
	asking_init(&rules, "rules", &http_details);
	front.fake.next = "rules";
	arrive_text("POST /x HTTP/1.1\r\nHost: a\r\n\r\n");
	cr_assert_eq(fake_start(&fake, &front.fake), CP_OK);
	cr_assert_eq(rules.fake.asked, 1);
}

Test(sniffing, asking_again_and_again_is_a_failure)
{
	struct asking front;
	asking_init(&front, "front", &tls);
	front.insists = true;
	arrive_text("SSH-");
	cr_assert_eq(fake_start(&fake, &front.fake), CP_EINVAL);
	cr_assert_eq(fake.routing.cause, CP_CAUSE_ROUTER_FAILED);
	cr_assert(strstr(fake.routing.error.message, "again and again"), "%s", fake.routing.error.message);
}

Test(sniffing, asking_for_nothing_is_a_failure)
{
	struct asking front;
	asking_init(&front, "front", NULL);
	front.insists = true;
	cr_assert_eq(fake_start(&fake, &front.fake), CP_EINVAL);
	cr_assert(strstr(fake.routing.error.message, "did not say which"), "%s", fake.routing.error.message);
}

Test(sniffing, a_client_that_goes_is_forgotten)
{
	struct asking front;
	asking_init(&front, "front", &tls);
	arrive_text("");
	cr_assert_eq(fake_start(&fake, &front.fake), CP_AGAIN);
	routing_cancel(&fake.routing);
	cr_assert_eq(fake.routing.cause, CP_CAUSE_CLIENT_GONE);
	cr_assert_eq(front.fake.cancelled, 0); /* it holds nothing */
}
