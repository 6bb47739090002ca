#include "zmq.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

enum { LINGER_MS = 1000 }; /* how long what was sent may take to go out behind a close; unloading waits as long */

static const struct {
	const char *name;
	int type;
	bool reads, writes;
} types[] = {
	{"push", ZMQ_PUSH, false, true},    {"pull", ZMQ_PULL, true, false},    {"pub", ZMQ_PUB, false, true},
	{"sub", ZMQ_SUB, true, false},      {"req", ZMQ_REQ, true, true},       {"rep", ZMQ_REP, true, true},
	{"dealer", ZMQ_DEALER, true, true}, {"router", ZMQ_ROUTER, true, true},
};
enum { TYPES = sizeof(types) / sizeof(types[0]) };

/** @return its number, or TYPES */
static size_t find_type(const struct cp_value *name)
{
	size_t i = 0;
	while (i < TYPES && (strlen(types[i].name) != name->length || memcmp(types[i].name, name->as.s, name->length)))
		i++;
	return i;
}

/* ---- Addresses: TYPE [ "=" TOPIC ] ":" ENDPOINT ------------------------------------------------------------- */

static const struct cp_field_def fields[ZMQ_FIELDS] = {
	{"type", CP_STRING, CP_ROLE_OTHER, false},
	{"topic", CP_STRING, CP_ROLE_OTHER, true},
	{"endpoint", CP_STRING, CP_ROLE_OTHER, false},
};

/** The part of `rest` from `begin` to `end`, unescaped. */
static int take(const struct cp_part *rest, size_t begin, size_t end, struct cp_arena *arena, struct cp_value *value,
				struct cp_error *error)
{
	struct cp_part part = *rest;
	size_t length;
	part.at += begin;
	part.column += begin;
	part.length = end - begin;
	const char *text = cp_part_unescape(&part, arena, &length, error);
	if (!text)
		return CP_EINVAL;
	*value = cp_string(text, length);
	return CP_OK;
}

static int parse(struct cp_connector *connector, const char *alias, const struct cp_part *rest, struct cp_arena *arena,
				 struct cp_value *values, struct cp_error *error)
{
	(void)connector;
	const char *colon = memchr(rest->at, ':', rest->length);
	if (!colon)
		return cp_part_error(rest, 0, CP_EINVAL, error, "expected %s:TYPE:ENDPOINT, as in %s:pull:tcp://*:5555", alias,
							 alias);
	size_t end = (size_t)(colon - rest->at);
	const char *equals = memchr(rest->at, '=', end);
	size_t name_end = equals ? (size_t)(equals - rest->at) : end;
	values[ZMQ_FIELD_TOPIC] = cp_null();
	int result = take(rest, 0, name_end, arena, &values[ZMQ_FIELD_TYPE], error);
	if (result == CP_OK && equals)
		result = take(rest, name_end + 1, end, arena, &values[ZMQ_FIELD_TOPIC], error);
	return result == CP_OK ? take(rest, end + 1, rest->length, arena, &values[ZMQ_FIELD_ENDPOINT], error) : result;
}

static size_t put(char *buffer, size_t room, size_t at, const struct cp_value *value, const char *special)
{
	return at +
		   cp_escape(value->as.s, value->length, special, at < room ? buffer + at : NULL, at < room ? room - at : 0);
}

static size_t put_character(char *buffer, size_t room, size_t at, char c)
{
	if (at + 1 < room) {
		buffer[at] = c;
		buffer[at + 1] = '\0';
	}
	return at + 1;
}

static size_t format(const struct cp_address *address, char *buffer, size_t room)
{
	const struct cp_field *at = address->fields.at;
	size_t length = put(buffer, room, 0, &at[ZMQ_FIELD_TYPE].value, ":=");
	if (at[ZMQ_FIELD_TOPIC].value.kind == CP_STRING) {
		length = put_character(buffer, room, length, '=');
		length = put(buffer, room, length, &at[ZMQ_FIELD_TOPIC].value, ":");
	}
	length = put_character(buffer, room, length, ':');
	return put(buffer, room, length, &at[ZMQ_FIELD_ENDPOINT].value, "");
}

static int check(struct cp_connector *connector, const char *alias, struct cp_arena *arena, struct cp_value *values,
				 struct cp_error *error)
{
	(void)connector, (void)arena;
	size_t type = find_type(&values[ZMQ_FIELD_TYPE]);
	if (type == TYPES)
		return cp_error_set(error, CP_EINVAL, NULL,
							"%s has no type \"%s\": expected push, pull, pub, sub, req, rep, dealer or router", alias,
							values[ZMQ_FIELD_TYPE].as.s);
	if (values[ZMQ_FIELD_TOPIC].kind == CP_STRING && types[type].type != ZMQ_SUB)
		return cp_error_set(error, CP_EINVAL, NULL, "only %s:sub has a topic", alias);
	if (!strstr(values[ZMQ_FIELD_ENDPOINT].as.s, "://"))
		return cp_error_set(error, CP_EINVAL, NULL,
							"\"%s\" is no ZeroMQ endpoint: expected tcp://HOST:PORT, ipc://PATH …",
							values[ZMQ_FIELD_ENDPOINT].as.s);
	return CP_OK;
}

/* ---- Sockets ------------------------------------------------------------------------------------------------ */

int endpoint_error(struct cp_error *error, const char *what, const char *endpoint)
{
	int errnum = zmq_errno();
	return cp_error_set(error, cp_err_from_errno(errnum), endpoint, "%s: %s", what, zmq_strerror(errnum));
}

static void set(void *socket, int option, int value)
{
	zmq_setsockopt(socket, option, &value, sizeof(value));
}

struct endpoint *endpoint_new(void *context, const struct cp_address *address, struct cp_error *error)
{
	const struct cp_field *at = address->fields.at;
	const struct cp_value *topic = &at[ZMQ_FIELD_TOPIC].value;
	size_t type = find_type(&at[ZMQ_FIELD_TYPE].value);
	struct endpoint *endpoint = calloc(1, sizeof(*endpoint));
	if (!endpoint || !(endpoint->socket = zmq_socket(context, types[type].type))) {
		endpoint_error(error, "make a socket", at[ZMQ_FIELD_ENDPOINT].value.as.s);
		free(endpoint);
		return NULL;
	}
	endpoint->type = types[type].type;
	endpoint->reads = types[type].reads;
	endpoint->writes = types[type].writes;
	atomic_init(&endpoint->refs, 1);
	set(endpoint->socket, ZMQ_LINGER, LINGER_MS);
	if (endpoint->type == ZMQ_ROUTER) /* a peer that is gone is an error, not silence */
		set(endpoint->socket, ZMQ_ROUTER_MANDATORY, 1);
	if (endpoint->type == ZMQ_SUB)
		zmq_setsockopt(endpoint->socket, ZMQ_SUBSCRIBE, topic->kind == CP_STRING ? topic->as.s : "",
					   topic->kind == CP_STRING ? topic->length : 0);
	return endpoint;
}

void endpoint_unref(struct endpoint *endpoint)
{
	if (atomic_fetch_sub(&endpoint->refs, 1) > 1)
		return;
	zmq_close(endpoint->socket);
	free(endpoint);
}

unsigned endpoint_ready(const struct endpoint *endpoint)
{
	int events = 0;
	size_t size = sizeof(events);
	if (zmq_getsockopt(endpoint->socket, ZMQ_EVENTS, &events, &size) < 0)
		return CP_READABLE | CP_WRITABLE; /* trying will tell what is wrong */
	return (events & ZMQ_POLLIN ? CP_READABLE : 0u) | (events & ZMQ_POLLOUT ? CP_WRITABLE : 0u);
}

/** ZeroMQ connects in the background, for as long as it takes: the stream is there at once. */
static int connect_to(struct cp_connector *connector, struct cp_open *open)
{
	const char *where = open->address->fields.at[ZMQ_FIELD_ENDPOINT].value.as.s;
	struct endpoint *endpoint = endpoint_new(connector->arg, open->address, &open->error);
	if (!endpoint)
		return open->error.code;
	if (zmq_connect(endpoint->socket, where) < 0)
		endpoint_error(&open->error, "connect", where);
	else
		open->stream = zmq_stream_new(open->loop, connector->system, endpoint, NULL, NULL, &open->error);
	endpoint_unref(endpoint);
	return open->stream ? CP_OK : (int)open->error.code;
}

/* ---- The system --------------------------------------------------------------------------------------------- */

static const struct cp_connector_def connector_def = {
	.size = sizeof(connector_def),
	.aliases = (const char *const[]){"zmq", NULL},
	.flags = CP_CONNECTOR_ANY, /* towards bytes: messages one behind the other; from bytes: as they arrive */
	.fields = fields,
	.field_count = ZMQ_FIELDS,
	.syntax = "zmq:type[=topic]:endpoint",
	.parse = parse,
	.format = format,
	.check = check,
	.bind = zmq_listen,
	.connect = connect_to,
};

/** The context's threads are made with its first socket: none in a check. */
static int load(struct cp_system *self, const struct cp_settings *settings)
{
	int64_t threads = 1;
	cp_settings_get_integer(settings, "io_threads", 1, 64, &threads);
	void *context = zmq_ctx_new();
	if (!context)
		return CP_ENOMEM;
	zmq_ctx_set(context, ZMQ_IO_THREADS, (int)threads);
	cp_system_set_data(self, context);
	return cp_register_connector(self, &connector_def, context, NULL);
}

/** Every socket is closed: what is still going out has LINGER_MS. Joins the threads. */
static void unload(struct cp_system *self)
{
	void *context = cp_system_data(self);
	while (context && zmq_ctx_term(context) < 0 && zmq_errno() == EINTR)
		;
}

static const struct cp_system_def system_def = {
	.abi = CP_ABI_VERSION, .size = sizeof(system_def), .load = load, .unload = unload};
CP_SYSTEM_EXPORT(system_def)
