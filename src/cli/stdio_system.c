/* The connector: one listener, one acceptor, one connection. The stream is in stdio_stream.c. */
#include "stdio_system.h"

#include <connpipe/connector.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct stdio_listener {
	struct cp_listener listener; /* first */
	bool taken;                  /* the one connection was handed out */
};

struct stdio_acceptor {
	struct cp_acceptor acceptor; /* first */
	struct cp_loop *loop;
	cp_acceptor_ready *ready;
	void *arg;
	struct cp_deferred announce;
	bool paused, closed;
};

static struct stdio_listener *stdio_listener(struct cp_acceptor *acceptor)
{
	return (struct stdio_listener *)acceptor->listener;
}

/** From the loop: the one connection is there from the start. */
static void on_announce(struct cp_deferred *deferred)
{
	struct stdio_acceptor *s = (struct stdio_acceptor *)((char *)deferred - offsetof(struct stdio_acceptor, announce));

	if (s->closed)
		free(s);
	else if (!s->paused && !stdio_listener(&s->acceptor)->taken)
		s->ready(&s->acceptor, s->arg);
}

static void stdio_resume(struct cp_acceptor *acceptor)
{
	struct stdio_acceptor *s = (struct stdio_acceptor *)acceptor;

	s->paused = false;
	cp_defer(s->loop, &s->announce, on_announce);
}

static void stdio_pause(struct cp_acceptor *acceptor)
{
	((struct stdio_acceptor *)acceptor)->paused = true;
}

static struct cp_acceptor *stdio_open(struct cp_listener *listener, struct cp_loop *loop, cp_acceptor_ready *ready,
									  void *arg, struct cp_error *error)
{
	struct stdio_acceptor *s = calloc(1, sizeof(*s));

	if (!s) {
		cp_error_set(error, CP_ENOMEM, STDIO_ADDRESS, "out of memory");
		return NULL;
	}
	s->acceptor.listener = listener;
	s->loop = loop;
	s->ready = ready;
	s->arg = arg;
	stdio_resume(&s->acceptor);
	return &s->acceptor;
}

static int stdio_accept(struct cp_acceptor *acceptor, struct cp_accepted *accepted, struct cp_error *error)
{
	struct stdio_acceptor *s = (struct stdio_acceptor *)acceptor;
	struct stdio_listener *listener = stdio_listener(acceptor);

	if (listener->taken)
		return CP_AGAIN;
	accepted->peer = (struct cp_peer){.port = 0};
	accepted->stream =
		stdio_stream_new(s->loop, STDIN_FILENO, STDOUT_FILENO, listener->listener.connector->system, error);
	if (!accepted->stream)
		return error->code;
	listener->taken = true;
	return CP_OK;
}

static void stdio_close(struct cp_acceptor *acceptor)
{
	struct stdio_acceptor *s = (struct stdio_acceptor *)acceptor;

	s->closed = true;
	cp_defer(s->loop, &s->announce, on_announce);
}

static void stdio_unbind(struct cp_listener *listener)
{
	free(listener);
}

static size_t stdio_name(const struct cp_listener *listener, char *buffer, size_t room)
{
	(void)listener;
	return (size_t)snprintf(buffer, room, "%s", STDIO_ADDRESS);
}

static const struct cp_listener_ops listener_ops = {
	.size = sizeof(listener_ops),
	.open = stdio_open,
	.accept = stdio_accept,
	.pause = stdio_pause,
	.resume = stdio_resume,
	.close = stdio_close,
	.unbind = stdio_unbind,
	.name = stdio_name,
};

static int stdio_bind(struct cp_connector *connector, const struct cp_address *address, uint32_t workers,
					  struct cp_listener **out, struct cp_error *error)
{
	struct stdio_listener *listener = calloc(1, sizeof(*listener));

	(void)address;
	(void)workers; /* the configuration that goes with this has one */
	if (!listener)
		return cp_error_set(error, CP_ENOMEM, STDIO_ADDRESS, "out of memory");
	listener->listener.ops = &listener_ops;
	listener->listener.connector = connector;
	*out = &listener->listener;
	return CP_OK;
}

/* ---- Text: there is nothing behind the colon ---------------------------------------------------------------- */

static int stdio_parse(struct cp_connector *connector, const char *alias, const struct cp_part *rest,
					   struct cp_arena *arena, struct cp_value *values, struct cp_error *error)
{
	(void)connector;
	(void)alias;
	(void)arena;
	(void)values;
	return rest->length == 0 ? CP_OK : cp_part_error(rest, 0, CP_EINVAL, error, "nothing may follow stdio:");
}

static size_t stdio_format(const struct cp_address *address, char *buffer, size_t room)
{
	(void)address;
	if (room)
		buffer[0] = 0;
	return 0;
}

static const char *const aliases[] = {"stdio", NULL};

static const struct cp_connector_def connector_def = {
	.size = sizeof(connector_def),
	.aliases = aliases,
	.syntax = STDIO_ADDRESS,
	.parse = stdio_parse,
	.format = stdio_format,
	.bind = stdio_bind,
};

static int load(struct cp_system *self, const struct cp_settings *settings)
{
	struct cp_connector *connector;

	(void)settings;
	return cp_register_connector(self, &connector_def, NULL, &connector);
}

const struct cp_system_def stdio_system = {
	.abi = CP_ABI_VERSION,
	.size = sizeof(stdio_system),
	.id = "1e1001.connpipe.stdio",
	.load = load,
};
