#include "table.h"

#include "loop/loop.h"

#include "base/memory.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- The tests' own system ---------------------------------------------------------------------------------- */

static int never_connect(struct cp_connector *connector, struct cp_open *open)
{
	(void)connector;
	return cp_error_set(&open->error, CP_EUNSUPPORTED, NULL, "not in this test");
}

static int never_bind(struct cp_connector *connector, const struct cp_address *address, uint32_t workers,
					  struct cp_listener **out, struct cp_error *error)
{
	(void)connector, (void)address, (void)workers, (void)out;
	return cp_error_set(error, CP_EUNSUPPORTED, NULL, "not in this test");
}

static int never_wrap(const struct cp_converter *converter, struct cp_open *open)
{
	(void)converter;
	return cp_error_set(&open->error, CP_EUNSUPPORTED, NULL, "not in this test");
}

static int read_command(struct cp_connector *connector, const char *alias, const struct cp_part *rest,
						struct cp_arena *arena, struct cp_value *values, struct cp_error *error)
{
	(void)connector, (void)alias, (void)error;
	values[0] = cp_string(cp_arena_strndup(arena, rest->at, rest->length), rest->length);
	return CP_OK;
}

static size_t print_command(const struct cp_address *address, char *buffer, size_t room)
{
	return (size_t)snprintf(buffer, room, "%s", address->fields.at[0].value.as.s);
}

static const struct cp_field_def host_port[] = {
	{"addr", CP_STRING, CP_ROLE_HOST, false},
	{"port", CP_U16, CP_ROLE_PORT, false},
	{"multiplex", CP_STRING, CP_ROLE_MULTIPLEX, true},
};
static const struct cp_field_def host_port_path[] = {
	{"addr", CP_STRING, CP_ROLE_HOST, false},
	{"port", CP_U16, CP_ROLE_PORT, false},
	{"path", CP_STRING, CP_ROLE_PATH, true},
	{"multiplex", CP_STRING, CP_ROLE_MULTIPLEX, true},
};
static const struct cp_field_def command[] = {{"command", CP_STRING, CP_ROLE_OTHER, false}};

#define ALIAS(name) ((const char *const[]){name, NULL})
#define DEF(name, list, count)                                                                             \
	.size = sizeof(struct cp_connector_def), .aliases = ALIAS(name), .fields = list, .field_count = count, \
	.bind = never_bind

static const struct cp_connector_def connectors[] = {
	{DEF("byte", host_port, 3), .connect = never_connect},
	{DEF("web", host_port_path, 4), .connect = never_connect},
	{DEF("pack", host_port, 2), .connect = never_connect, .flags = CP_CONNECTOR_MESSAGES},
	{DEF("both", host_port, 2), .connect = never_connect, .flags = CP_CONNECTOR_ANY},
	{DEF("deaf", host_port, 2)},
	{DEF("cmd", command, 1), .connect = never_connect, .parse = read_command, .format = print_command},
};

static const struct cp_converter_def wrap = {
	.size = sizeof(struct cp_converter_def), .id = "wrap", .accept = never_wrap, .connect = never_wrap};

static int stub_route(struct cp_router *router, struct cp_request *request, struct cp_answer *answer,
					  struct cp_error *error)
{
	(void)router, (void)request, (void)error;
	*answer = (struct cp_answer){.kind = CP_ANSWER_REFUSE, .reason = "by the stub"};
	return CP_OK;
}

static int lead_follow(struct cp_router *router, const struct cp_address *address, struct cp_answer *answer)
{
	(void)router, (void)address;
	*answer = (struct cp_answer){.kind = CP_ANSWER_ROUTER, .router = "front"};
	return CP_OK;
}

static int lead_route(struct cp_router *router, struct cp_request *request, struct cp_answer *answer,
					  struct cp_error *error)
{
	(void)error;
	return lead_follow(router, cp_request_address(request), answer);
}

static const struct cp_router_def stub = {.size = sizeof(struct cp_router_def), .route = stub_route};
static const struct cp_router_def lead = {
	.size = sizeof(struct cp_router_def), .route = lead_route, .follow = lead_follow};

static int load_peers(struct cp_system *self, const struct cp_settings *settings)
{
	(void)settings;
	int result = CP_OK;
	for (size_t i = 0; i < sizeof(connectors) / sizeof(*connectors) && result == CP_OK; i++)
		result = cp_register_connector(self, &connectors[i], NULL, NULL);
	if (result == CP_OK)
		result = cp_register_converter(self, &wrap, NULL, NULL);
	if (result == CP_OK)
		result = cp_register_router(self, &stub, "stub", NULL, NULL);
	return result == CP_OK ? cp_register_router(self, &lead, "lead", NULL, NULL) : result;
}

static const struct cp_system_def peers = {
	.abi = CP_ABI_VERSION, .size = sizeof(struct cp_system_def), .id = "test.peers", .load = load_peers};

/* ---- Loading ------------------------------------------------------------------------------------------------ */

void table_test_load(struct table_test *test, const char *directory, const char *text)
{
	static const struct cp_system_def *const extra[] = {&peers, NULL};
	struct generation_source source = {
		.directory = directory, .text = text, .name = "config.toml", .mode = GENERATION_CHECK, .extra = extra};
	*test = (struct table_test){0};
	test->generation = generation_load(1, &source, &test->report, &test->plan);
}

static char *with_table(const char *routes)
{
	char *text;
	cr_assert(asprintf(&text, "[front]\ntype = \"table\"\n[front.routes]\n%s", routes) > 0);
	return text;
}

void table_test_routes(struct table_test *test, const char *routes)
{
	char *text = with_table(routes);
	table_test_load(test, "/", text);
	report_print(&test->report, stderr, "");
	cr_assert(test->generation, "it loads");
	free(text);
}

void table_test_end(struct table_test *test)
{
	if (test->plan)
		plan_unref(test->plan);
	report_deinit(&test->report);
	free(test->explained);
}

void table_test_all_errors(const char *directory, const char *text, const char *errors)
{
	struct table_test test;
	char *reported = NULL;
	size_t length;
	table_test_load(&test, directory, text);
	FILE *file = open_memstream(&reported, &length);
	report_print(&test.report, file, "");
	fclose(file);
	cr_expect(!test.generation);
	cr_expect_str_eq(reported, errors);
	free(reported);
	table_test_end(&test);
}

void table_test_errors(const char *routes, const char *errors)
{
	char *text = with_table(routes);
	table_test_all_errors("/", text, errors);
	free(text);
}

/** What stands in the file, without the `[… front] ` in front of each line. */
static char *read_log(FILE *log)
{
	char *text = NULL, line[1024];
	size_t length;
	FILE *out = open_memstream(&text, &length);
	rewind(log);
	while (fgets(line, sizeof(line), log)) {
		const char *message = strstr(line, "] ");
		fputs(message ? message + 2 : line, out);
	}
	fclose(out);
	return text;
}

char *table_test_load_logged(struct table_test *test, const char *text)
{
	FILE *log = tmpfile();
	int before = dup(STDERR_FILENO);
	cr_assert(log && before >= 0);
	dup2(fileno(log), STDERR_FILENO); /* where lines go before there is a log */
	table_test_load(test, "/", text);
	dup2(before, STDERR_FILENO);
	close(before);
	char *lines = read_log(log);
	fclose(log);
	return lines;
}

void table_test_warnings(const char *text, const char *warnings)
{
	struct table_test test;
	char *lines = table_test_load_logged(&test, text);
	report_print(&test.report, stderr, "");
	cr_expect(test.generation, "it loads");
	cr_expect_str_eq(lines, warnings);
	free(lines);
	table_test_end(&test);
}

/* ---- Asking ------------------------------------------------------------------------------------------------- */

static void on_line(void *arg, const char *line)
{
	struct table_test *test = arg;
	char *longer;
	cr_assert(asprintf(&longer, "%s%s\n", test->explained ? test->explained : "", line) > 0);
	free(test->explained);
	test->explained = longer;
}

static void print_answer(struct table_test *test, const struct routing *routing)
{
	size_t length = 0;
	if (routing->result != CP_OK) {
		bool reason = routing->cause != CP_CAUSE_NO_ROUTE && routing->error.message[0];
		snprintf(test->answer, sizeof(test->answer), "%s%s%s", cp_cause_text(routing->cause), reason ? ": " : "",
				 reason ? routing->error.message : "");
		return;
	}
	for (uint32_t i = 0; i < routing->answer.target_count; i++) {
		length += (size_t)snprintf(test->answer + length, sizeof(test->answer) - length, "%s", i ? ", " : "");
		length += cp_address_print(routing->answer.targets[i], test->answer + length, sizeof(test->answer) - length);
	}
}

static void no_change(struct routing *routing)
{
	(void)routing;
}

/** `name=value name=value`; a name without a value is known to have none. */
static void set_facts(struct cp_request *request, const char *facts)
{
	char *words = strdup(facts), *rest = NULL;
	for (char *word = strtok_r(words, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
		char *value = strchr(word, '=');
		cr_assert(value);
		*value++ = '\0';
		struct cp_value fact = *value ? cp_string(value, strlen(value)) : cp_null();
		if (*value)
			fact.as.s = cp_arena_strdup(cp_request_arena(request), value);
		cp_request_set_fact(request, word, &fact);
	}
	free(words);
}

static const char *ask(struct table_test *test, const char *router, const struct cp_address *address,
					   const struct table_client *client)
{
	struct cp_request request = {0};
	struct routing routing = {0};
	struct cp_error error;
	struct cp_loop *loop = loop_new(0, &error);
	cr_assert(loop);
	request_init(&request, loop, test->generation->scope, address, &client->peer);
	request.peeked = client->bytes;
	request.peeked_length = client->length;
	request.peeked_end = !client->more;
	request.silence_ms = 3000;
	set_facts(&request, client->facts ? client->facts : "");
	free(test->explained);
	test->explained = NULL;
	request.explain = on_line;
	request.explain_arg = test;
	routing_start(&routing, &request, cp_scope_router(test->generation->scope, router), no_change, NULL);
	if (routing.wanting_bytes) {
		snprintf(test->answer, sizeof(test->answer), "wants bytes");
		test->wait_ms = routing.answer.timeout_ms;
		routing_cancel(&routing);
	} else {
		print_answer(test, &routing);
	}
	request_deinit(&request);
	loop_free(loop);
	return test->answer;
}

static const struct cp_address *parse(struct table_test *test, struct cp_arena *arena, const char *text)
{
	const struct cp_address *address;
	struct cp_error error;
	int result = cp_address_parse(test->generation->scope, arena, text, strlen(text), 0, &address, &error);
	cr_assert_eq(result, CP_OK, "%s: %s", text, error.message);
	return address;
}

const char *table_test_ask(struct table_test *test, const char *router, const char *address, const char *peer)
{
	struct cp_arena *arena = cp_arena_new(0);
	struct table_client client = {.peer.port = 1234};
	if (peer)
		cr_assert(cp_ip_parse(peer, strlen(peer), &client.peer.ip));
	ask(test, router, parse(test, arena, address), &client);
	cp_arena_free(arena);
	return test->answer;
}

const char *table_test_ask_named(struct table_test *test, const char *address, const char *name, size_t length)
{
	struct cp_arena *arena = cp_arena_new(0);
	const struct cp_address *named = cp_address_with_multiplex(parse(test, arena, address), arena, name, length);
	cr_assert(named);
	ask(test, "front", named, &(struct table_client){0});
	cp_arena_free(arena);
	return test->answer;
}

const char *table_test_ask_client(struct table_test *test, const char *address, const struct table_client *client)
{
	struct cp_arena *arena = cp_arena_new(0);
	ask(test, "front", parse(test, arena, address), client);
	cp_arena_free(arena);
	return test->answer;
}
