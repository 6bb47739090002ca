#include "routing.h"

#include "sniffing.h"

#include <connpipe/connector.h>
#include <connpipe/converter.h>
#include <connpipe/log.h>
#include <connpipe/system.h>

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- Ends --------------------------------------------------------------------------------------------------- */

static bool end(struct routing *routing, int result, enum cp_cause cause)
{
	routing->result = result;
	routing->cause = cause;
	routing->wanting_bytes = false;
	routing->request->routing = NULL;
	routing->request->state = NULL;
	return false;
}

/** The router did something that it must not, or failed. @return false: nothing more to ask */
static bool CP_PRINTF(2, 3) fail(struct routing *routing, const char *format, ...)
{
	char words[sizeof(routing->error.message)];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(words, sizeof(words), format, arguments);
	va_end(arguments);
	cp_error_set(&routing->error, CP_EINVAL, NULL, "router \"%s\" %s", routing->router->id, words);
	cp_request_explain(routing->request, "failed: %s", routing->error.message);
	return end(routing, CP_EINVAL, CP_CAUSE_ROUTER_FAILED);
}

/** It asks again and again: it is not asked any more, and must not go on waiting (a coroutine, its streams). */
static void give_up(struct routing *routing)
{
	if (routing->request->state && routing->router->def->cancel)
		routing->router->def->cancel(routing->router, routing->request);
}

static bool refuse(struct routing *routing, enum cp_err code, enum cp_cause cause, const char *reason)
{
	cp_error_set(&routing->error, code, NULL, "%s", reason);
	cp_request_explain(routing->request, "router \"%s\" %s: %s", routing->router->id,
					   cause == CP_CAUSE_NO_ROUTE ? "knows no route" : "refuses", reason);
	return end(routing, code, cause);
}

/** Too many routers: name them, in order, so that the loop can be seen. */
static bool fail_chain(struct routing *routing)
{
	char chain[sizeof(routing->error.message)];
	size_t length = 0;
	for (uint32_t i = 0; i < routing->steps && length < sizeof(chain); i++)
		length +=
			(size_t)snprintf(chain + length, sizeof(chain) - length, "%s%s", i ? " -> " : "", routing->asked[i]->id);
	cp_error_set(&routing->error, CP_ELIMIT, NULL, "%d routers asked one after another without an end: %s",
				 ROUTING_STEPS, chain);
	cp_request_explain(routing->request, "failed: %s", routing->error.message);
	return end(routing, CP_ELIMIT, CP_CAUSE_ROUTER_FAILED);
}

/* ---- Answers ------------------------------------------------------------------------------------------------ */

/** The canonical text of an address, for explaining and for errors: in the request's arena. */
static const char *address_text(struct routing *routing, const struct cp_address *address)
{
	size_t length = cp_address_print(address, NULL, 0);
	char *text = cp_arena_alloc(cp_request_arena(routing->request), length + 1);
	cp_address_print(address, text, length + 1);
	return text;
}

/** Messages that become bytes lose their boundaries, and bytes have none. @return NULL: they fit */
static const char *why_not_carried(const struct cp_request *request, const struct cp_address *target)
{
	bool messages, any, wanted, any_wanted;
	if (!request->accepted || cp_address_carries(request->accepted, &wanted, &any_wanted, NULL) != CP_OK)
		return NULL;
	if (cp_address_carries(target, &messages, &any, NULL) != CP_OK)
		return "a converter in it does not fit what is below it";
	if (any || any_wanted || messages == wanted)
		return NULL;
	return wanted ? "it carries bytes, but the client's stream carries messages; with \"frame+\" in front of it, it "
					"would, too"
				  : "it carries messages, but the client's stream carries bytes; \"frame+\" in front of the bound "
					"address would make messages of them";
}

/** Why nothing can be connected to `target`; NULL: nothing speaks against it. */
static const char *why_not_target(const struct cp_request *request, const struct cp_address *target)
{
	if (!target->connector->def->connect)
		return "its connector cannot connect";
	for (uint32_t i = 0; i < target->layer_count; i++)
		if (!target->layers[i].converter->def->connect)
			return "one of its converters only works where a connection is accepted";
	return why_not_carried(request, target);
}

static bool take_targets(struct routing *routing)
{
	const struct cp_answer *answer = &routing->answer;
	if (!answer->targets || answer->target_count == 0)
		return fail(routing, "answered with targets, but with none");
	for (uint32_t i = 0; i < answer->target_count; i++) {
		const struct cp_address *target = answer->targets[i];
		if (!target)
			return fail(routing, "answered with a target that is no address (number %u)", i + 1);
		const char *why = why_not_target(routing->request, target);
		if (why)
			return fail(routing, "answered with the target %s: %s", address_text(routing, target), why);
		if (cp_request_explaining(routing->request))
			cp_request_explain(routing->request, "router \"%s\": target %u of %u: %s", routing->router->id, i + 1,
							   answer->target_count, address_text(routing, target));
	}
	return end(routing, CP_OK, CP_CAUSE_NONE);
}

static bool take_router(struct routing *routing)
{
	const struct cp_answer *answer = &routing->answer;
	if (!answer->router)
		return fail(routing, "answered with another router, but did not say which");
	struct cp_router *next = cp_scope_router(routing->request->scope, answer->router);
	if (!next)
		return fail(routing, "answered with the router \"%s\", which does not exist", answer->router);
	if (routing->steps == ROUTING_STEPS)
		return fail_chain(routing);
	cp_request_explain(routing->request, "router \"%s\": asks the router \"%s\"", routing->router->id, next->id);
	if (answer->address)
		routing->request->address = answer->address;
	routing->request->state = NULL;
	routing->router = next;
	routing->repeats = 0;
	routing->asked[routing->steps++] = next;
	return true;
}

/** Whether the router can be asked again: it has the bytes, or there will be no more. */
static bool bytes_suffice(const struct routing *routing)
{
	return routing->request->peeked_end || routing->request->peeked_length >= routing->answer.bytes;
}

static bool take_bytes(struct routing *routing)
{
	const struct cp_request *request = routing->request;
	if (!bytes_suffice(routing)) {
		cp_request_explain(routing->request, "router \"%s\": needs the first %zu bytes of the client (%zu are there)",
						   routing->router->id, routing->answer.bytes, request->peeked_length);
		routing->wanting_bytes = true;
		return false;
	}
	if (routing->repeats++ < ROUTING_REPEATS)
		return true;
	give_up(routing);
	return fail(routing, "asks for %zu bytes again and again, but %s %zu", routing->answer.bytes,
				request->peeked_end ? "there will be no more than" : "it has", request->peeked_length);
}

static void explain_facts(const struct routing *routing)
{
	static const char *const names[] = {"proto", "sni", "alpn", "host", "path", "method"};
	const struct cp_request *request = routing->request;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && cp_request_explaining(request); i++) {
		const struct cp_value *value = cp_request_fact(request, names[i]);
		if (value && value->kind == CP_STRING)
			cp_request_explain(routing->request, "fact: %s is \"%.*s\"", names[i], (int)value->length, value->as.s);
		else if (value)
			cp_request_explain(routing->request, "fact: %s is not known", names[i]);
	}
}

static bool take_sniff(struct routing *routing)
{
	struct cp_answer *answer = &routing->answer;
	if (!answer->sniff || answer->sniff->size < sizeof(*answer->sniff))
		return fail(routing, "wants to know facts, but did not say which");
	if (!sniffing_run(routing->request, answer->sniff, &answer->timeout_ms)) {
		answer->bytes = routing->request->peeked_length + 1;
		routing->wanting_bytes = true;
		return false;
	}
	routing->wanting_bytes = false;
	explain_facts(routing);
	if (routing->repeats++ < ROUTING_REPEATS)
		return true;
	give_up(routing);
	return fail(routing, "asks for facts that are known again and again");
}

/** Act on an answer. @return whether a router (this one again, or the next) is to be asked now */
static bool take_answer(struct routing *routing)
{
	const struct cp_answer *answer = &routing->answer;
	switch (answer->kind) {
	case CP_ANSWER_TARGETS:
		return take_targets(routing);
	case CP_ANSWER_ROUTER:
		return take_router(routing);
	case CP_ANSWER_REFUSE:
		return refuse(routing, CP_EREFUSED, CP_CAUSE_REFUSED_BY_ROUTER,
					  answer->reason ? answer->reason : "no reason given");
	case CP_ANSWER_NONE:
		return refuse(routing, CP_ENOTFOUND, CP_CAUSE_NO_ROUTE, answer->reason ? answer->reason : "no route");
	case CP_ANSWER_BYTES:
		return take_bytes(routing);
	case CP_ANSWER_FACTS:
		return take_sniff(routing);
	case CP_ANSWER_FAILED:
		return fail(routing, "failed: %s", answer->reason ? answer->reason : "no reason given");
	}
	return fail(routing, "gave an answer of unknown kind %d", (int)answer->kind);
}

/* ---- Asking ------------------------------------------------------------------------------------------------- */

static void explain_question(struct routing *routing)
{
	struct cp_request *request = routing->request;
	if (cp_request_explaining(request))
		cp_request_explain(request, "router \"%s\" is asked about %s", routing->router->id,
						   request->address ? address_text(routing, request->address) : "a connection");
}

/** The router failed with words of its own. */
static bool take_failure(struct routing *routing, int code, const struct cp_error *error)
{
	fail(routing, "failed: %s", error->message[0] ? error->message : cp_err_text((enum cp_err)code));
	routing->error.code = (enum cp_err)code;
	memcpy(routing->error.where, error->where, sizeof(error->where)); /* the line of a script, say */
	routing->result = code;
	return false;
}

/** Ask the router once. @return whether to ask again (the same one, or the next) */
static bool ask(struct routing *routing)
{
	struct cp_router *router = routing->router;
	struct cp_answer answer = {0};
	struct cp_error error;
	error.message[0] = error.where[0] = 0;

	explain_question(routing);
	routing->wanting_bytes = false;
	routing->answered = false;
	routing->inside = true;
	int result = router->def->route(router, routing->request, &answer, &error);
	routing->inside = false;

	if (result == CP_OK) {
		routing->answer = answer;
		return take_answer(routing);
	}
	if (result != CP_AGAIN)
		return take_failure(routing, result, &error);
	if (routing->answered)
		return take_answer(routing);
	cp_request_explain(routing->request, "router \"%s\": answers later", router->id);
	return false;
}

/** Ask until there is a result, or something has to be waited for. */
static int go_on(struct routing *routing)
{
	while (ask(routing))
		;
	return routing->result;
}

int routing_start(struct routing *routing, struct cp_request *request, struct cp_router *router,
				  routing_changed *changed, void *arg)
{
	/* Not zeroed as a whole: the error alone has half a KiB, and this runs for every connection. */
	routing->request = request;
	routing->router = router;
	routing->result = CP_AGAIN;
	routing->cause = CP_CAUSE_NONE;
	routing->error.code = CP_OK;
	routing->error.where[0] = routing->error.message[0] = 0;
	routing->changed = changed;
	routing->arg = arg;
	routing->asked[0] = router;
	routing->steps = 1;
	routing->repeats = 0;
	request->routing = routing;
	request->state = NULL;
	return go_on(routing);
}

int routing_bytes(struct routing *routing)
{
	assert(routing->result == CP_AGAIN && routing->wanting_bytes);
	routing->repeats = 0;
	if (routing->answer.kind == CP_ANSWER_FACTS)
		return take_sniff(routing) ? go_on(routing) : routing->result;
	return bytes_suffice(routing) ? go_on(routing) : CP_AGAIN;
}

int routing_timeout(struct routing *routing)
{
	if (routing->answer.kind != CP_ANSWER_FACTS)
		routing->request->peeked_end = true;
	return routing_bytes(routing);
}

void cp_request_answer(struct cp_request *request, const struct cp_answer *answer)
{
	struct routing *routing = request->routing;
	if (!routing || routing->wanting_bytes || (routing->inside && routing->answered)) {
		cp_log(CP_ERROR, "route", "an answer came for a request that is not waiting for one; it is ignored");
		return;
	}
	routing->answer = *answer;
	if (routing->inside) {
		routing->answered = true;
		return;
	}
	if (take_answer(routing))
		go_on(routing);
	if (routing->result != CP_AGAIN || routing->wanting_bytes)
		routing->changed(routing);
}

void routing_cancel(struct routing *routing)
{
	struct cp_router *router = routing->router;
	struct cp_request *request = routing->request;
	assert(routing->result == CP_AGAIN && !routing->inside);
	/* A router that wants bytes is waiting only if it holds something (a coroutine that peeks). */
	bool waiting = !routing->wanting_bytes || request->state;
	request->routing = NULL;
	if (waiting && router->def->cancel)
		router->def->cancel(router, request);
	end(routing, CP_ECANCELED, CP_CAUSE_CLIENT_GONE);
}
