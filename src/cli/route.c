/* route: ask the routers about a connection that is not there, and show each step. */
#include "cli.h"
#include "offline.h"

#include "../base/memory.h"
#include "../route/request.h"
#include "../route/routing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ANSWER_TIMEOUT_MS = 10000 };

/** What is asked, and how the asking goes. */
struct question {
	struct offline offline;
	struct cp_arena *arena;
	const struct cp_address *address; /* as bound, with the subport asked for */
	const struct binding *binding;
	struct cp_request request;
	struct routing routing;
	struct cp_timer timeout;
	bool timed_out;
};

static void print_step(void *arg, const char *line)
{
	(void)arg;
	printf("  %s\n", line);
}

static char *address_text(struct cp_arena *arena, const struct cp_address *address)
{
	size_t length = cp_address_print(address, NULL, 0);
	char *text = cp_arena_alloc(arena, length + 1);

	cp_address_print(address, text, length + 1);
	return text;
}

/* ---- Which socket takes it ---------------------------------------------------------------------------------- */

static const struct binding *find_binding(const struct question *question, const struct cp_address *address)
{
	size_t length = cp_address_print_socket(address, false, NULL, 0);
	char *key = cp_arena_alloc(question->arena, length + 1);

	cp_address_print_socket(address, false, key, length + 1);
	return plan_find(question->offline.plan, key);
}

/** The address that listens on every interface where `address` names one: 0.0.0.0 or [::]. NULL if it has no host. */
static const struct cp_address *wildcard(const struct question *question, const struct cp_address *address)
{
	const struct cp_connector_def *def = address->connector->def;
	struct cp_field *fields = cp_arena_alloc(question->arena, address->fields.count * sizeof(*fields));
	struct cp_address *copy = cp_arena_alloc(question->arena, sizeof(*copy));
	bool has_host = false;

	for (uint32_t i = 0; i < address->fields.count; i++) {
		fields[i] = address->fields.at[i];
		if (def->fields[i].role == CP_ROLE_HOST && fields[i].value.kind == CP_STRING) {
			const char *host = fields[i].value.as.s;

			fields[i].value = strchr(host, ':') ? cp_string("::", 2) : cp_string("0.0.0.0", 7);
			has_host = true;
		}
	}
	*copy = *address;
	copy->fields.at = fields;
	return has_host ? copy : NULL;
}

static int no_binding(const struct question *question, const char *text)
{
	const struct plan *plan = question->offline.plan;

	cli_error("nothing is bound on %s; bound are:", text);
	for (uint32_t i = 0; i < plan->count && i < 20; i++)
		fprintf(stderr, "  %s\n", plan->bindings[i].text);
	if (plan->count == 0)
		fprintf(stderr, "  no addresses at all\n");
	return CLI_FAILED;
}

/** A connection to one address of this machine arrives at the socket that has it, or at one that has all. */
static int find_socket(struct question *question, const char *text)
{
	const struct cp_address *any;

	question->binding = find_binding(question, question->address);
	any = question->binding ? NULL : wildcard(question, question->address);
	if (any && (question->binding = find_binding(question, any))) {
		printf("  %s is taken by the socket for all addresses, %s\n", text, question->binding->text);
		question->address = any;
	}
	return question->binding ? CLI_OK : no_binding(question, text);
}

/* ---- What is known about the connection --------------------------------------------------------------------- */

static int parse_address(struct question *question, const char *text)
{
	struct cp_error error = {0};

	if (cp_address_parse(question->offline.generation->scope, question->arena, text, strlen(text), 0,
						 &question->address, &error) == CP_OK)
		return CLI_OK;
	return cli_error("%s: %s", error.where, error.message);
}

/** `from=IP` is the peer; everything else is a fact. @return whether `word` is `from=IP`, with `peer` filled */
static bool is_peer(const char *word, struct cp_peer *peer)
{
	return strncmp(word, "from=", 5) == 0 && cp_ip_parse(word + 5, strlen(word + 5), &peer->ip);
}

/** Wrong words are said before anything is loaded. */
static int check_words(const struct cli *cli)
{
	for (int i = 1; i < cli->count; i++) {
		const char *word = cli->words[i], *equals = strchr(word, '=');
		struct cp_peer peer;

		if (!equals || equals == word)
			return cli_usage_error(&command_route, "\"%s\" is no name=value", word);
		if (strncmp(word, "from=", 5) == 0 && !is_peer(word, &peer))
			return cli_usage_error(&command_route, "\"%s\" is no IP address", word + 5);
	}
	return CLI_OK;
}

static void take_fact(struct question *question, const char *word)
{
	const char *equals = strchr(word, '=');
	struct cp_value value = equals[1] ? cp_string(equals + 1, strlen(equals + 1)) : cp_null();
	struct cp_peer peer = {.port = 0};

	if (is_peer(word, &peer))
		cp_request_set_peer(&question->request, &peer);
	else
		cp_request_set_fact(&question->request, cp_arena_strndup(question->arena, word, (size_t)(equals - word)),
							&value);
}

static bool has_fact(const struct question *question, const char *const *names)
{
	while (*names && !cp_request_fact(&question->request, *names))
		names++;
	return *names;
}

/** Where TLS is taken off, a server name says nothing about what is inside. */
static bool takes_tls_off(const struct cp_address *address)
{
	for (uint32_t i = 0; i < address->layer_count; i++)
		if (strcmp(address->layers[i].converter->def->id, "tls") == 0)
			return true;
	return false;
}

/** A client whose server name is known speaks TLS, one whose path is known HTTP; unless a layer knows them. */
static void imply_protocol(struct question *question)
{
	static const char *const proto[] = {"proto", NULL}, *const tls[] = {"sni", "alpn", NULL},
							 *const http[] = {"host", "path", "method", NULL};
	const char *implied = has_fact(question, http) ? "http" : NULL;
	struct cp_value value;

	if (!implied && has_fact(question, tls) && !takes_tls_off(question->binding->address))
		implied = "tls";
	if (!implied || has_fact(question, proto) || cp_connector_has_handshake(question->address->connector))
		return;
	value = cp_string(implied, strlen(implied));
	cp_request_set_fact(&question->request, "proto", &value);
	printf("  proto=%s, since %s\n", implied,
		   has_fact(question, http) ? "host, path and method are HTTP's" : "sni and alpn are TLS's");
}

static void prepare_request(struct question *question, const struct cli *cli)
{
	struct cp_peer nobody = {.port = 0};

	request_init(&question->request, question->offline.loop, question->offline.generation->scope, question->address,
				 &nobody);
	question->request.accepted = question->binding->address;
	question->request.explain = print_step;
	for (int i = 1; i < cli->count; i++)
		take_fact(question, cli->words[i]);
	imply_protocol(question);
}

/* ---- Asking ------------------------------------------------------------------------------------------------- */

static void on_changed(struct routing *routing)
{
	loop_stop(routing->request->loop);
}

static void on_timeout(struct cp_timer *timer)
{
	struct question *question = (struct question *)((char *)timer - offsetof(struct question, timeout));

	question->timed_out = true;
	loop_stop(question->offline.loop);
}

/** Ask, and wait for what comes later. There is no client, so a router that wants its bytes is told that none come. */
static void ask(struct question *question, struct cp_router *router)
{
	struct routing *routing = &question->routing;

	cp_timer_init(&question->timeout, question->offline.loop, on_timeout);
	cp_timer_start(&question->timeout, ANSWER_TIMEOUT_MS);
	routing_start(routing, &question->request, router, on_changed, question);
	while (routing->result == CP_AGAIN && !question->timed_out) {
		if (routing->wanting_bytes) {
			printf("  there is no client here to send bytes: only facts that are given as name=value are known\n");
			question->request.peeked_end = true;
			routing_bytes(routing);
		} else {
			loop_run(question->offline.loop);
		}
	}
	cp_timer_stop(&question->timeout);
}

static int print_result(struct question *question)
{
	const struct routing *routing = &question->routing;

	if (question->timed_out) {
		routing_cancel(&question->routing);
		return cli_error("router %s did not answer within %d seconds", routing->router->id, ANSWER_TIMEOUT_MS / 1000);
	}
	if (routing->result != CP_OK) {
		printf("refused: %s: %s\n", cp_cause_text(routing->cause), routing->error.message);
		return CLI_FAILED;
	}
	for (uint32_t i = 0; i < routing->answer.target_count; i++)
		printf("target: %s\n", address_text(question->arena, routing->answer.targets[i]));
	return CLI_OK;
}

static int ask_and_print(struct question *question)
{
	size_t length = 0;
	const char *multiplex = cp_address_multiplex(question->address, &length);
	struct cp_router *router = binding_router_for(question->binding, question->address);

	printf("  bound as %s\n", question->binding->text);
	if (!router) {
		printf("refused: %s: no router takes %s on this address\n", cp_cause_text(CP_CAUSE_NO_ROUTE),
			   multiplex ? "this subport" : "connections without a subport");
		return CLI_FAILED;
	}
	ask(question, router);
	return print_result(question);
}

static int answer_question(struct question *question, const struct cli *cli)
{
	const char *text;
	int result = offline_start(&question->offline);

	if (result == CLI_OK)
		result = parse_address(question, cli->words[0]);
	if (result != CLI_OK)
		return result;
	text = address_text(question->arena, question->address);
	printf("%s\n", text);
	result = find_socket(question, text);
	if (result != CLI_OK)
		return result;
	prepare_request(question, cli);
	result = ask_and_print(question);
	request_deinit(&question->request);
	return result;
}

static int run_route(const struct cli *cli)
{
	struct question *question;
	int result = check_words(cli);

	if (result != CLI_OK)
		return result;
	question = xcalloc(1, sizeof(*question));
	result = offline_open(&question->offline, cli->directory);
	if (result == CLI_OK) {
		question->arena = cp_arena_new(0);
		result = answer_question(question, cli);
		cp_arena_free(question->arena);
		offline_close(&question->offline);
	}
	free(question);
	return result;
}

const struct cli_command command_route = {
	.name = "route",
	.arguments = "ADDRESS [name=value …]",
	.summary = "where would this connection go, and why",
	.text =
		"Asks the routers of the configuration about a connection to ADDRESS and prints each step and the targets,\n"
		"in the order in which they would be tried.\n"
		"\n"
		"  connpipe route 'tcp:*4:443' from=192.0.2.7\n"
		"  connpipe route 'tcp:127.0.0.1:25565!ssh'\n"
		"  connpipe route 'tcp:*4:443' sni=www.example.org alpn=h2\n"
		"\n"
		"from=IP is the client's address. Any other name=value is a fact that a router may ask for; connpipe's own\n"
		"are proto, sni, alpn, host, path and method. sni and alpn imply proto=tls; host, path and method proto=http.\n"
		"`sni=` is a TLS client without it. What is not given is not known, as if the client ended\n"
		"without a word; so what a table takes for `silent` is not seen here.\n"
		"Exits 0 if there is a target, 1 if the connection would be refused.\n",
	.least = 1,
	.most = -1,
	.run = run_route,
};
