#include "request.h"

#include "../base/arena.h"
#include "../base/memory.h"
#include "plan.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
	ARENA_FIRST = 1024,     /* an answer of a few addresses fits */
	ARENA_KEPT = 16 * 1024, /* larger ones are not worth holding for the next connection */
	FACTS_FIRST = 8,
	EXPLAIN_LINE = 1024,
};

void request_init(struct cp_request *request, struct cp_loop *loop, const struct cp_scope *scope,
				  const struct cp_address *address, const struct cp_peer *peer)
{
	request->loop = loop;
	request->scope = scope;
	request->address = request->accepted = address;
	request->peer = *peer;
	request->local.ip.family = 0;
	request->socket = -1;
	request->binding = NULL;
	request->sniffed = NULL;
	request->proto_source = PROTO_GIVEN;
	request->sniff_since = 0;
	request->silence_ms = 0;
	request->fact_count = 0;
	request->peeked = NULL;
	request->peeked_length = 0;
	request->peeked_end = false;
	request->state = NULL;
	request->explain = NULL;
	request->explain_arg = NULL;
	request->routing = NULL;
}

void request_reset(struct cp_request *request)
{
	request->fact_count = 0;
	request->peeked = NULL;
	request->peeked_length = 0;
	request->state = NULL;
	request->address = NULL;
	if (!request->arena)
		return;
	if (cp_arena_size(request->arena) <= ARENA_KEPT) {
		arena_reset(request->arena);
	} else {
		cp_arena_free(request->arena);
		request->arena = NULL;
	}
}

void request_deinit(struct cp_request *request)
{
	if (request->arena)
		cp_arena_free(request->arena);
	free(request->facts);
	request->arena = NULL;
	request->facts = NULL;
	request->fact_count = request->fact_room = 0;
}

/* ---- What routers may ask ----------------------------------------------------------------------------------- */

const struct cp_address *cp_request_address(const struct cp_request *request)
{
	return request->address;
}

const struct cp_address *cp_request_accepted(const struct cp_request *request)
{
	return request->accepted;
}

const struct cp_peer *cp_request_peer(const struct cp_request *request)
{
	return &request->peer;
}

void cp_request_set_peer(struct cp_request *request, const struct cp_peer *peer)
{
	request->peer = *peer;
}

bool cp_request_local(const struct cp_request *request, struct cp_peer *local)
{
	struct sockaddr_storage name;
	socklen_t length = sizeof(name);
	*local = request->local;
	if (local->ip.family == 0 && request->socket >= 0 &&
		getsockname(request->socket, (struct sockaddr *)&name, &length) == 0)
		cp_peer_from_sockaddr((struct sockaddr *)&name, length, local);
	return local->ip.family;
}

void cp_request_set_local(struct cp_request *request, const struct cp_peer *local)
{
	request->local = *local;
}

/** @return whether the part of the socket that `path` asks for is somebody's */
static bool is_claimed(const struct binding *binding, const char *path, size_t length)
{
	const struct binding_part *root = &binding->root;
	return binding_path(binding, path, length) || root->plain || root->subports;
}

bool cp_request_set_path(struct cp_request *request, const char *path, size_t length)
{
	const struct cp_address *address = request->accepted;
	if (!request->binding || !is_claimed(request->binding, path, length))
		return false;
	address = cp_address_with_path(address, cp_request_arena(request), path, length);
	if (address)
		request->address = request->accepted = address;
	return true;
}

const char *cp_request_peek(const struct cp_request *request, size_t *length, bool *end)
{
	*length = request->peeked_length;
	if (end)
		*end = request->peeked_end;
	return request->peeked ? request->peeked : "";
}

struct cp_arena *cp_request_arena(struct cp_request *request)
{
	if (!request->arena)
		request->arena = cp_arena_new(ARENA_FIRST);
	return request->arena;
}

struct cp_loop *cp_request_loop(const struct cp_request *request)
{
	return request->loop;
}

const struct cp_scope *cp_request_scope(const struct cp_request *request)
{
	return request->scope;
}

void *cp_request_state(const struct cp_request *request)
{
	return request->state;
}

void cp_request_set_state(struct cp_request *request, void *state)
{
	request->state = state;
}

/* ---- Facts -------------------------------------------------------------------------------------------------- */

const struct cp_value *cp_request_fact(const struct cp_request *request, const char *name)
{
	return cp_fields_get(cp_request_facts(request), name);
}

struct cp_fields cp_request_facts(const struct cp_request *request)
{
	return (struct cp_fields){.at = request->facts, .count = request->fact_count};
}

/** The fact of that name, or a new one behind the others. There are few: a linear search beats a table. */
static struct cp_field *fact_slot(struct cp_request *request, const char *name)
{
	for (uint32_t i = 0; i < request->fact_count; i++)
		if (strcmp(request->facts[i].name, name) == 0)
			return &request->facts[i];
	if (request->fact_count == request->fact_room) {
		request->fact_room = request->fact_room ? 2 * request->fact_room : FACTS_FIRST;
		request->facts = xrealloc(request->facts, request->fact_room * sizeof(*request->facts));
	}
	struct cp_field *fact = &request->facts[request->fact_count++];
	fact->name = cp_arena_strdup(cp_request_arena(request), name);
	return fact;
}

void cp_request_set_fact(struct cp_request *request, const char *name, const struct cp_value *value)
{
	struct cp_value copy = *value;
	if (copy.kind == CP_STRING)
		copy.as.s = cp_arena_strndup(cp_request_arena(request), value->as.s, value->length);
	fact_slot(request, name)->value = copy;
}

/* ---- Explaining --------------------------------------------------------------------------------------------- */

bool cp_request_explaining(const struct cp_request *request)
{
	return request->explain != NULL;
}

void cp_request_explain(struct cp_request *request, const char *format, ...)
{
	if (!request->explain)
		return;
	char line[EXPLAIN_LINE];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	request->explain(request->explain_arg, line);
}
