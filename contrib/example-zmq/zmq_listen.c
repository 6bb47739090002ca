/* A bound ZeroMQ socket. ZeroMQ takes connections by itself and shows one queue of messages, so there is one stream at
 * a time, on the first worker: it begins when there is something to read (or at once, where there never is). When it
 * has ended the next one begins, a little later: its target may be down.
 *
 * A ZeroMQ socket cannot be handed over to a later load of this code (there is no `sockets` here): as long as the
 * address stays bound, it stays with the code that bound it. */
#include "zmq.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

enum { NEXT_MS = 200, NAME_ROOM = 512 };

struct listener {
	struct cp_listener base; /* first */
	struct endpoint *endpoint;
	char name[NAME_ROOM];
};

struct acceptor {
	struct cp_acceptor base; /* first */
	struct cp_loop *loop;
	struct cp_watch *watch; /* NULL: not the first worker, there is nothing to accept */
	struct cp_timer next;
	cp_acceptor_ready *ready;
	void *arg;
	struct use *use; /* the stream that has the socket, or NULL */
	bool paused;
};

/** A stream's hold on the socket: the acceptor may end before it. */
struct use {
	struct acceptor *acceptor; /* NULL: gone */
};

static struct listener *listener_of(struct acceptor *acceptor)
{
	return (struct listener *)acceptor->base.listener;
}

/* ---- Accepting ---------------------------------------------------------------------------------------------- */

/** Whether a stream may begin. */
static bool is_wanted(struct acceptor *acceptor)
{
	const struct endpoint *endpoint = listener_of(acceptor)->endpoint;
	if (!acceptor->watch || acceptor->use || acceptor->paused || cp_timer_running(&acceptor->next))
		return false;
	return !endpoint->reads || endpoint_ready(endpoint) & CP_READABLE;
}

static void offer(struct acceptor *acceptor)
{
	if (is_wanted(acceptor))
		acceptor->ready(&acceptor->base, acceptor->arg);
}

static void on_descriptor(int fd, unsigned events, void *acceptor)
{
	(void)fd, (void)events;
	offer(acceptor);
}

/** The descriptor tells of changes only, and may have told before anybody listened. */
static void on_next(struct cp_timer *timer)
{
	struct acceptor *acceptor = (struct acceptor *)((char *)timer - offsetof(struct acceptor, next));
	cp_watch_set(acceptor->watch, CP_READABLE);
	offer(acceptor);
}

/** The stream has let go of the socket. */
static void on_stream_gone(void *arg)
{
	struct use *use = arg;
	if (use->acceptor) {
		use->acceptor->use = NULL;
		cp_timer_start(&use->acceptor->next, NEXT_MS);
	}
	free(use);
}

static int acceptor_accept(struct cp_acceptor *base, struct cp_accepted *accepted, struct cp_error *error)
{
	struct acceptor *acceptor = (struct acceptor *)base;
	struct use *use = is_wanted(acceptor) ? calloc(1, sizeof(*use)) : NULL;
	if (!use)
		return CP_AGAIN;
	cp_watch_set(acceptor->watch, 0); /* the stream has its own */
	accepted->stream = zmq_stream_new(acceptor->loop, base->listener->connector->system,
									  listener_of(acceptor)->endpoint, on_stream_gone, use, error);
	if (!accepted->stream) {
		free(use);
		cp_timer_start(&acceptor->next, NEXT_MS);
		return CP_EMFILE;
	}
	use->acceptor = acceptor;
	acceptor->use = use;
	return CP_OK;
}

static void acceptor_pause(struct cp_acceptor *base)
{
	((struct acceptor *)base)->paused = true;
}

static void acceptor_resume(struct cp_acceptor *base)
{
	struct acceptor *acceptor = (struct acceptor *)base;
	acceptor->paused = false;
	if (acceptor->watch && !acceptor->use)
		cp_timer_start(&acceptor->next, 0);
}

static void acceptor_close(struct cp_acceptor *base)
{
	struct acceptor *acceptor = (struct acceptor *)base;
	cp_timer_stop(&acceptor->next);
	if (acceptor->watch)
		cp_watch_free(acceptor->watch);
	if (acceptor->use)
		acceptor->use->acceptor = NULL;
	free(acceptor);
}

static struct cp_acceptor *acceptor_open(struct cp_listener *base, struct cp_loop *loop, cp_acceptor_ready *ready,
										 void *arg, struct cp_error *error)
{
	struct acceptor *acceptor = calloc(1, sizeof(*acceptor));
	int fd = -1;
	size_t size = sizeof(fd);
	if (!acceptor) {
		cp_error_set(error, CP_ENOMEM, NULL, "%s", cp_err_text(CP_ENOMEM));
		return NULL;
	}
	*acceptor = (struct acceptor){.base = {base}, .loop = loop, .ready = ready, .arg = arg};
	cp_timer_init(&acceptor->next, loop, on_next);
	if (cp_loop_index(loop) != 0)
		return &acceptor->base;
	zmq_getsockopt(((struct listener *)base)->endpoint->socket, ZMQ_FD, &fd, &size);
	acceptor->watch = cp_watch_new(loop, fd, 0, on_descriptor, acceptor, error);
	if (!acceptor->watch) {
		free(acceptor);
		return NULL;
	}
	cp_timer_start(&acceptor->next, 0);
	return &acceptor->base;
}

/* ---- Binding ------------------------------------------------------------------------------------------------ */

static void unbind(struct cp_listener *base)
{
	struct listener *listener = (struct listener *)base;
	endpoint_unref(listener->endpoint); /* a stream may go on with it */
	free(listener);
}

static size_t listener_name(const struct cp_listener *base, char *buffer, size_t room)
{
	return (size_t)snprintf(buffer, room, "%s", ((const struct listener *)base)->name);
}

static const struct cp_listener_ops listener_ops = {
	.size = sizeof(listener_ops),
	.open = acceptor_open,
	.accept = acceptor_accept,
	.pause = acceptor_pause,
	.resume = acceptor_resume,
	.close = acceptor_close,
	.unbind = unbind,
	.name = listener_name,
};

/** The address as it is bound: ZeroMQ says which port it took for tcp://…:*. */
static void set_name(struct listener *listener, const struct cp_address *address)
{
	char real[256] = "";
	size_t size = sizeof(real);
	struct cp_field fields[ZMQ_FIELDS];
	struct cp_address bound = *address;
	zmq_getsockopt(listener->endpoint->socket, ZMQ_LAST_ENDPOINT, real, &size);
	memcpy(fields, address->fields.at, sizeof(fields));
	if (real[0])
		fields[ZMQ_FIELD_ENDPOINT].value = cp_string(real, strlen(real));
	bound.fields.at = fields;
	cp_address_print_socket(&bound, false, listener->name, sizeof(listener->name));
}

int zmq_listen(struct cp_connector *connector, const struct cp_address *address, uint32_t workers,
			   struct cp_listener **out, struct cp_error *error)
{
	(void)workers;
	const char *where = address->fields.at[ZMQ_FIELD_ENDPOINT].value.as.s;
	struct listener *listener = calloc(1, sizeof(*listener));
	if (!listener)
		return cp_error_set(error, CP_ENOMEM, where, "%s", cp_err_text(CP_ENOMEM));
	listener->base = (struct cp_listener){&listener_ops, connector};
	listener->endpoint = endpoint_new(connector->arg, address, error);
	if (!listener->endpoint) {
		free(listener);
		return error->code;
	}
	if (zmq_bind(listener->endpoint->socket, where) < 0) {
		endpoint_error(error, "bind", where);
		unbind(&listener->base);
		return error->code;
	}
	set_name(listener, address);
	*out = &listener->base;
	return CP_OK;
}
