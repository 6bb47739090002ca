/* Sessions: their limits, their time, and what a reload makes of them. */
#include "task_memo.h"

#include "task/main_state.h"
#include "task/pipe.h"

#include <sched.h>

#define ROUTES "[front]\ntype = \"table\"\n[front.routes]\n"
#define BOTH ROUTES "\"session:front:1\" = \"memo:back:1\"\n\"memo:front:2\" = \"memo:back:2\"\n"
#define FROM(net) ROUTES "\"session:front:1\" = [{ when = { from = [\"" net "\"] }, to = \"memo:back:1\" }]\n"

/** One client more, who has said something. */
static struct memo *arrive(uint16_t port, const char *ip)
{
	struct memo *client = memo_new(NULL);
	memo_say(client, "hello", 0);
	memo_arrive(client, port, ip);
	return client;
}

TestSuite(task_sessions, .timeout = 60);

/* ---- Limits ------------------------------------------------------------------------------------------------- */

struct count {
	enum limits_total total;
	uint32_t open;
};

static void see_count(struct cp_loop *loop, void *arg)
{
	struct count *count = arg;
	count->open = limits_open(main_of(loop)->limits, count->total);
}

static uint32_t counted(enum limits_total total)
{
	struct count count = {total, 0};
	memo_turn();
	call(cp_loop_main(), see_count, &count);
	return count.open;
}

Test(task_sessions, have_a_limit_of_their_own)
{
	memo_start("limits = { connections = 1, udp_sessions = 2 }", BOTH, NULL);
	struct memo *connection = arrive(2, "192.0.2.1"), *one = arrive(1, "192.0.2.1");
	arrive(1, "192.0.2.2");
	memo_expect(arrive(2, "192.0.2.1"), "x connection_limit");
	memo_expect(arrive(1, "192.0.2.3"), "x session_limit");
	cr_assert_eq(memo_counter("closed_session_limit"), 1);
	cr_assert_eq(counted(LIMITS_CONNECTIONS), 1);
	cr_assert_eq(counted(LIMITS_SESSIONS), 2);
	memo_say(one, "", CP_READ_END);
	memo_say(memo_target(1), "", CP_READ_END);
	memo_expect(one, "x done");
	cr_assert_eq(counted(LIMITS_SESSIONS), 1);
	arrive(1, "192.0.2.3");
	memo_expect(memo_target(3), "[hello]");
	memo_expect(connection, "");
	memo_stop();
}

Test(task_sessions, without_a_limit)
{
	memo_start("limits.udp_sessions = 0", BOTH, NULL);
	for (int i = 0; i < 5; i++)
		memo_expect(arrive(1, "192.0.2.1"), "");
	cr_assert_eq(counted(LIMITS_SESSIONS), 5);
	memo_stop();
}

Test(task_sessions, count_for_their_source_with_connections)
{
	memo_start("limits.connections_per_source = 2", BOTH, NULL);
	arrive(1, "192.0.2.1");
	arrive(2, "192.0.2.1");
	memo_expect(arrive(1, "192.0.2.1"), "x source_limit");
	memo_expect(arrive(1, "192.0.2.2"), "");
	memo_stop();
}

Test(task_sessions, have_a_rate_for_their_source)
{
	memo_start("limits.connect_rate_per_source = 1", BOTH, NULL);
	memo_expect(arrive(1, "192.0.2.1"), "");
	memo_expect(arrive(1, "192.0.2.1"), "x source_rate");
	memo_stop();
}

/* ---- Time --------------------------------------------------------------------------------------------------- */

Test(task_sessions, end_when_they_are_quiet)
{
	memo_start("timeouts = { idle = \"10m\", udp_idle = \"30ms\" }", BOTH, NULL);
	struct memo *connection = arrive(2, "192.0.2.1"), *session = arrive(1, "192.0.2.1");
	memo_expect(session, "x idle_timeout");
	memo_expect(memo_target(1), "[hello]x idle_timeout");
	memo_expect(connection, "");
	memo_stop();
}

Test(task_sessions, may_be_quiet_for_ever)
{
	memo_start("timeouts = { idle = \"30ms\", udp_idle = \"0s\" }", BOTH, NULL);
	struct memo *session = arrive(1, "192.0.2.1"), *connection = arrive(2, "192.0.2.1");
	memo_expect(connection, "x idle_timeout");
	memo_expect(session, "");
	memo_stop();
}

struct seen {
	uint64_t active, now;
	bool timer;
};

static void see_active(struct cp_loop *loop, void *arg)
{
	const struct pipe *p = memo_pipe(loop);
	*(struct seen *)arg = (struct seen){p->active, cp_loop_now(loop), p->timer != NULL};
}

/** Wait until the pipe has been quiet for some time. */
static struct seen wait_quiet(void)
{
	struct seen seen = {0};
	while (seen.now < seen.active + 2 || !seen.active) {
		call(cp_worker_loop(0), see_active, &seen);
		sched_yield();
	}
	return seen;
}

/* Datagrams of one direction are enough, and empty ones are datagrams. */
Test(task_sessions, live_by_what_flows_one_way)
{
	static const char *const texts[] = {"text", "", "", "text"};
	memo_start("", BOTH, NULL);
	struct memo *session = arrive(1, "192.0.2.1"), *target = memo_target(0);
	for (int i = 0; i < 4; i++) {
		struct seen before = wait_quiet(), behind;
		cr_assert(before.timer);
		memo_say(i % 2 ? target : session, texts[i], 0);
		call(cp_worker_loop(0), see_active, &behind);
		cr_assert_geq(behind.active, before.now, "number %d", i);
	}
	memo_stop();
}

Test(task_sessions, go_on_while_the_process_drains)
{
	memo_start("timeouts.drain = \"10m\"", BOTH, NULL);
	struct memo *session = arrive(1, "192.0.2.1"), *target = memo_target(0);
	kill(getpid(), SIGTERM);
	while (memo_state() != MAIN_DRAINING)
		sched_yield();
	memo_say(session, "more", 0);
	memo_expect(target, "[hello][more]");
	memo_say(session, "", CP_READ_END | CP_READ_OVER);
	memo_say(target, "", CP_READ_END);
	memo_wait_end();
}

/* ---- Reloads ------------------------------------------------------------------------------------------------ */

Test(task_sessions, keep_their_target_over_a_reload)
{
	memo_start("", BOTH, NULL);
	struct memo *session = arrive(1, "192.0.2.1"), *target = memo_target(0);
	memo_reload("", ROUTES "\"session:front:1\" = \"memo:elsewhere:1\"\n");
	memo_say(session, "more", 0);
	memo_expect(target, "[hello][more]");
	cr_assert_str_eq(memo_record(session), "");
	memo_expect(arrive(1, "192.0.2.1"), "");
	memo_expect(memo_target(1), "[hello]");
	memo_stop();
}

Test(task_sessions, end_when_their_address_goes)
{
	memo_start("", BOTH, NULL);
	struct memo *session = arrive(1, "192.0.2.1"), *connection = arrive(2, "192.0.2.1");
	memo_reload("", ROUTES "\"session:front:3\" = \"memo:back:1\"\n");
	memo_expect(session, "x rerouted");
	memo_expect(memo_target(0), "[hello]x rerouted");
	cr_assert_str_eq(memo_record(connection), "", "it is no session");
	cr_assert_eq(memo_counter("closed_rerouted"), 1);
	memo_stop();
}

Test(task_sessions, end_when_their_route_goes)
{
	memo_start("", FROM("192.0.2.0/24"), NULL);
	struct memo *near = arrive(1, "192.0.2.200"), *far = arrive(1, "192.0.2.1");
	memo_reload("", FROM("192.0.2.192/26"));
	memo_expect(far, "x rerouted");
	cr_assert_str_eq(memo_record(near), "");
	memo_expect(arrive(1, "192.0.2.1"), "x no_route");
	memo_reload("", FROM("198.51.100.0/24"));
	memo_expect(near, "x rerouted");
	memo_stop();
}

Test(task_sessions, end_when_their_route_refuses)
{
	memo_start("", BOTH, NULL);
	struct memo *session = arrive(1, "192.0.2.1"), *connection = arrive(2, "192.0.2.1");
	memo_reload("", ROUTES "\"session:front:1\" = \"reject:moved\"\n\"memo:front:2\" = \"reject:moved\"\n");
	memo_expect(session, "x rerouted");
	cr_assert_str_eq(memo_record(connection), "");
	memo_stop();
}

Test(task_sessions, end_when_nobody_serves_their_subport)
{
	static const char preamble[] = "\x89\x3d\x1d\x4e\x4e\x4f\xc6\x86\x2d\x1e\x10\x01\x0d\x0a\x69\x0a\x01";
	char first[32];
	memo_start("", ROUTES "\"session:front:1!a\" = \"memo:back:1\"\n\"session:front:1!b\" = \"memo:back:2\"\n", NULL);
	struct memo *sessions[2];
	for (int i = 0; i < 2; i++) {
		sessions[i] = memo_new(NULL);
		int length = snprintf(first, sizeof(first), "%s%chello", preamble, 'a' + i);
		memo_say_bytes(sessions[i], first, (size_t)length, 0);
		memo_arrive(sessions[i], 1, "192.0.2.1");
		memo_expect(memo_target((uint32_t)i), "[hello]");
	}
	memo_reload("", ROUTES "\"session:front:1!b\" = \"memo:back:2\"\n");
	memo_expect(sessions[0], "x rerouted");
	cr_assert_str_eq(memo_record(sessions[1]), "");
	memo_stop();
}

Test(task_sessions, end_at_a_reload_where_it_is_set_so)
{
	memo_start("", BOTH, NULL);
	struct memo *session = arrive(1, "192.0.2.1"), *connection = arrive(2, "192.0.2.1");
	memo_world.reroutes = true; /* the worker sees it behind the signal */
	memo_reload("", BOTH);
	memo_expect(session, "x rerouted");
	cr_assert_str_eq(memo_record(connection), "");
	memo_stop();
}

Test(task_sessions, are_looked_at_however_many_they_are)
{
	enum { MANY = 15 * 20 };
	static struct memo *sessions[MANY];
	char ip[32];
	memo_start("", FROM("192.0.0.0/16"), NULL);
	for (int i = 0; i < MANY; i++) {
		snprintf(ip, sizeof(ip), "192.0.%d.%d", i % 2, i / 2);
		memo_world.target_count = 0;
		sessions[i] = arrive(1, ip);
	}
	memo_reload("", FROM("192.0.1.0/24"));
	memo_wait_pipes(MANY / 2);
	for (int i = 0; i < MANY; i++)
		memo_expect(sessions[i], i % 2 ? "" : "x rerouted");
	memo_stop();
}

/* ---- A router that answers as the test wants ---------------------------------------------------------------- */

enum answer { TARGETS, REFUSES, KNOWS_NONE, LATER, WANTS_BYTES, FAILS };

static struct {
	struct cp_router *router;
	struct cp_arena *arena;
	enum answer answer;
	uint32_t asked, cancelled;
	bool saw_bytes, saw_end;
	struct cp_peer peer;
	struct cp_request *waiting;
} oracle;

static int oracle_route(struct cp_router *router, struct cp_request *request, struct cp_answer *answer,
						struct cp_error *error)
{
	const struct cp_address **targets = cp_arena_alloc(cp_request_arena(request), sizeof(struct cp_address *));
	size_t peeked;
	(void)router;
	cp_request_peek(request, &peeked, &oracle.saw_end);
	oracle.asked++;
	oracle.saw_bytes = peeked;
	oracle.peer = *cp_request_peer(request);
	*answer = (struct cp_answer){.kind = CP_ANSWER_TARGETS, .targets = targets, .target_count = 1};
	switch (oracle.answer) {
	case TARGETS:
		return cp_address_parse(cp_request_scope(request), cp_request_arena(request), "memo:back:1", 11, 0, targets,
								error);
	case REFUSES:
		answer->kind = CP_ANSWER_REFUSE;
		return CP_OK;
	case KNOWS_NONE:
		answer->kind = CP_ANSWER_NONE;
		return CP_OK;
	case LATER:
		oracle.waiting = request;
		return CP_AGAIN;
	case WANTS_BYTES:
		*answer = (struct cp_answer){.kind = CP_ANSWER_BYTES, .bytes = 1};
		return CP_OK;
	case FAILS:
		break;
	}
	return cp_error_set(error, CP_EINVAL, NULL, "failed as it should");
}

static void oracle_cancel(struct cp_router *router, struct cp_request *request)
{
	(void)router, (void)request;
	oracle.cancelled++;
	oracle.waiting = NULL;
}

static const struct cp_router_def oracle_def = {
	.size = sizeof(oracle_def), .route = oracle_route, .cancel = oracle_cancel};

static int oracle_load(struct cp_system *self, const struct cp_settings *settings)
{
	(void)settings;
	return cp_register_router(self, &oracle_def, "oracle", NULL, &oracle.router);
}

static int oracle_link(struct cp_system *self)
{
	const struct cp_address *address;
	struct cp_error error;
	oracle.arena = cp_arena_new(0);
	cr_assert_eq(cp_address_parse(cp_system_scope(self), oracle.arena, "session:front:1", 15, 0, &address, &error),
				 CP_OK);
	cp_router_bind(oracle.router, address, NULL);
	cp_system_set_data(self, oracle.arena);
	return CP_OK;
}

static void oracle_unload(struct cp_system *self)
{
	cp_arena_free(cp_system_data(self));
}

static const struct cp_system_def oracle_system = {.abi = CP_ABI_VERSION,
												   .size = sizeof(oracle_system),
												   .id = "test.oracle",
												   .load = oracle_load,
												   .link = oracle_link,
												   .unload = oracle_unload};

static void set_answer(struct cp_loop *loop, void *arg)
{
	(void)loop;
	oracle.answer = *(enum answer *)arg;
	oracle.asked = 0;
}

/** Reload with a router that answers so. @return what was done to a session that was open */
static const char *reload_with(enum answer answer)
{
	memo_start("", "", &oracle_system);
	struct memo *session = arrive(1, "192.0.2.7");
	memo_expect(memo_target(0), "[hello]");
	call(cp_worker_loop(0), set_answer, &answer);
	memo_reload("", "");
	const char *record = memo_record(session);
	cr_assert_eq(oracle.asked, 1);
	cr_assert(!oracle.saw_bytes && !oracle.saw_end);
	cr_assert_eq(oracle.peer.ip.bytes[3], 7);
	cr_assert_eq(oracle.peer.port, 1234);
	return record;
}

Test(task_sessions, end_when_the_router_refuses)
{
	cr_assert_str_eq(reload_with(REFUSES), "x rerouted");
	memo_stop();
}

Test(task_sessions, end_when_the_router_knows_no_route)
{
	cr_assert_str_eq(reload_with(KNOWS_NONE), "x rerouted");
	memo_stop();
}

Test(task_sessions, go_on_when_the_router_has_targets)
{
	cr_assert_str_eq(reload_with(TARGETS), "");
	memo_stop();
}

Test(task_sessions, go_on_when_the_router_answers_later)
{
	cr_assert_str_eq(reload_with(LATER), "");
	cr_assert_eq(oracle.cancelled, 1, "nobody waits for it");
	memo_stop();
}

Test(task_sessions, go_on_when_the_router_wants_bytes)
{
	cr_assert_str_eq(reload_with(WANTS_BYTES), "");
	memo_stop();
}

Test(task_sessions, go_on_when_the_router_fails)
{
	cr_assert_str_eq(reload_with(FAILS), "");
	memo_stop();
}

/* Its own answer is under way, from the router of the generation before. */
Test(task_sessions, are_looked_at_while_they_are_routed)
{
	enum answer answer = LATER;
	memo_start("", "", &oracle_system);
	call(cp_worker_loop(0), set_answer, &answer);
	struct memo *session = arrive(1, "192.0.2.7");
	answer = REFUSES;
	call(cp_worker_loop(0), set_answer, &answer);
	memo_reload("", "");
	memo_expect(session, "x rerouted");
	cr_assert_eq(oracle.cancelled, 1);
	memo_stop();
}

/* ---- A router changes its addresses: that is no reload ------------------------------------------------------ */

static bool rebound;
static enum cp_err rebind_code;

static void on_rebound(struct cp_router *router, const struct cp_error *error)
{
	(void)router;
	rebind_code = error ? error->code : CP_OK;
	set(&rebound);
}

static void rebind(const char *address_text)
{
	struct cp_arena *arena = cp_arena_new(0);
	const struct cp_address **list = cp_arena_alloc(arena, sizeof(*list));
	struct cp_error error;
	cr_assert_eq(cp_address_parse(cp_system_scope(oracle.router->system), arena, address_text, strlen(address_text), 0,
								  list, &error),
				 CP_OK);
	rebound = false;
	cp_router_rebind(oracle.router, arena, list, 1, on_rebound);
	wait_for(&rebound);
	cr_assert_eq(rebind_code, CP_OK);
}

Test(task_sessions, end_only_by_their_address_when_a_router_moves)
{
	enum answer answer = REFUSES;
	memo_start("", "", &oracle_system);
	struct memo *session = arrive(1, "192.0.2.7");
	memo_expect(memo_target(0), "[hello]");
	call(cp_worker_loop(0), set_answer, &answer);
	memo_world.reroutes = true;
	rebind("session:front:1");
	cr_assert_str_eq(memo_record(session), "");
	cr_assert_eq(oracle.asked, 0);
	rebind("session:front:2");
	memo_expect(session, "x rerouted");
	memo_stop();
}
