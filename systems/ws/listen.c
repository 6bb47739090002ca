/* The listener: tcp's, under another name. Everything passes through, so that what is set for the tcp address holds,
 * and connections cost what they cost there. What makes websockets of them is the connector's handshake. */
#include "open.h"

#include <stdlib.h>
#include <string.h>

struct ws_listener {
	struct cp_listener base; /* first */
	struct cp_listener *tcp;
	char *name;
};

struct ws_acceptor {
	struct cp_acceptor base; /* first */
	struct cp_acceptor *tcp;
	cp_acceptor_ready *ready;
	void *arg;
};

static struct ws_listener *listener_of(const struct cp_listener *base)
{
	return (struct ws_listener *)base;
}

static struct ws_acceptor *acceptor_of(struct cp_acceptor *base)
{
	return (struct ws_acceptor *)base;
}

static const struct cp_listener_ops *tcp_ops(struct cp_acceptor *base)
{
	return acceptor_of(base)->tcp->listener->ops;
}

/* ---- Accepting ---------------------------------------------------------------------------------------------- */

static void on_ready(struct cp_acceptor *tcp, void *arg)
{
	struct ws_acceptor *acceptor = arg;
	(void)tcp;
	acceptor->ready(&acceptor->base, acceptor->arg);
}

static struct cp_acceptor *ws_open(struct cp_listener *base, struct cp_loop *loop, cp_acceptor_ready *ready, void *arg,
								   struct cp_error *error)
{
	struct ws_listener *listener = listener_of(base);
	struct ws_acceptor *acceptor = malloc(sizeof(*acceptor));
	if (!acceptor) {
		cp_error_set(error, CP_ENOMEM, listener->name, "no memory for accepting");
		return NULL;
	}
	*acceptor = (struct ws_acceptor){.base.listener = base, .ready = ready, .arg = arg};
	acceptor->tcp = listener->tcp->ops->open(listener->tcp, loop, on_ready, acceptor, error);
	if (acceptor->tcp)
		return &acceptor->base;
	free(acceptor);
	return NULL;
}

static int ws_take(struct cp_acceptor *base, struct cp_accepted *accepted, struct cp_error *error)
{
	return tcp_ops(base)->accept(acceptor_of(base)->tcp, accepted, error);
}

static void ws_pause(struct cp_acceptor *base)
{
	tcp_ops(base)->pause(acceptor_of(base)->tcp);
}

static void ws_resume(struct cp_acceptor *base)
{
	tcp_ops(base)->resume(acceptor_of(base)->tcp);
}

static void ws_close(struct cp_acceptor *base)
{
	tcp_ops(base)->close(acceptor_of(base)->tcp);
	free(base);
}

/* ---- What is set for the socket ----------------------------------------------------------------------------- */

static int ws_check_tune(struct cp_listener *base, const struct cp_address *address, struct cp_error *error)
{
	struct cp_listener *tcp = listener_of(base)->tcp;
	struct ws_socket socket;
	ws_socket_init(&socket, address->connector->arg, address);
	return tcp->ops->check_tune(tcp, &socket.address, error);
}

static void ws_tune(struct cp_acceptor *base, const struct cp_address *address)
{
	struct ws_socket socket;
	ws_socket_init(&socket, address->connector->arg, address);
	tcp_ops(base)->tune(acceptor_of(base)->tcp, &socket.address);
}

/* ---- Binding ------------------------------------------------------------------------------------------------ */

static void ws_unbind(struct cp_listener *base)
{
	struct ws_listener *listener = listener_of(base);
	if (listener->tcp)
		listener->tcp->ops->unbind(listener->tcp);
	free(listener->name);
	free(listener);
}

static size_t ws_name(const struct cp_listener *base, char *buffer, size_t room)
{
	const char *name = listener_of(base)->name;
	size_t length = strlen(name), piece = length < room ? length : room - 1;
	if (room > 0) {
		memcpy(buffer, name, piece);
		buffer[piece] = '\0';
	}
	return length;
}

static const struct cp_listener_ops ws_listener_ops = {
	.size = sizeof(struct cp_listener_ops),
	.open = ws_open,
	.accept = ws_take,
	.pause = ws_pause,
	.resume = ws_resume,
	.close = ws_close,
	.unbind = ws_unbind,
	.name = ws_name,
	.check_tune = ws_check_tune,
	.tune = ws_tune,
};

/** The port that tcp has bound: behind the last colon of its name. */
static unsigned long bound_port(const struct cp_listener *tcp)
{
	char name[512];
	tcp->ops->name(tcp, name, sizeof(name));
	const char *colon = strrchr(name, ':');
	return colon ? strtoul(colon + 1, NULL, 10) : 0;
}

/** The address of the socket with its real port. @return NULL: no memory */
static char *make_name(const struct cp_listener *tcp, const struct cp_address *address)
{
	struct cp_field fields[WS_FIELDS];
	struct cp_address real = *address;
	memcpy(fields, address->fields.at, sizeof(fields));
	fields[WS_PORT].value = cp_unsigned(CP_U16, bound_port(tcp));
	real.fields.at = fields;
	size_t length = cp_address_print_socket(&real, false, NULL, 0);
	char *name = malloc(length + 1);
	if (name)
		cp_address_print_socket(&real, false, name, length + 1);
	return name;
}

int ws_bind(struct cp_connector *connector, const struct cp_address *address, uint32_t workers,
			struct cp_listener **out, struct cp_error *error)
{
	struct ws_socket socket;
	ws_socket_init(&socket, connector->arg, address);
	struct cp_connector *tcp = socket.address.connector;
	struct ws_listener *listener = calloc(1, sizeof(*listener));
	if (!listener)
		return cp_error_set(error, CP_ENOMEM, NULL, "no memory for a listener");
	listener->base = (struct cp_listener){&ws_listener_ops, connector};
	int result = tcp->def->bind(tcp, &socket.address, workers, &listener->tcp, error);
	if (result == CP_OK && !(listener->name = make_name(listener->tcp, address)))
		result = cp_error_set(error, CP_ENOMEM, NULL, "no memory for the name of a listener");
	if (result != CP_OK) {
		ws_unbind(&listener->base);
		return result;
	}
	*out = &listener->base;
	return CP_OK;
}
