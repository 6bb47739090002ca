/* tcp: listening sockets.
 *
 * Every worker has its own socket on the address (SO_REUSEPORT), so the kernel spreads connections and no worker waits
 * for another. The option also lets any other process of the same user join in unnoticed, so the address is first taken
 * without it. bind() alone is not enough for that: with SO_REUSEADDR (needed to start again over connections in
 * TIME_WAIT) two sockets can be bound to one address until one of them listens. So a *guard* listens, while the
 * workers' sockets are only bound, until the first of them listens:
 *
 *     guard: bind, listen ─▶ guard: SO_REUSEPORT ─▶ workers' sockets: SO_REUSEPORT, bind ─▶ open: listen ─▶ close guard
 *            └ fails if anybody is on the address            from now on anybody else's guard fails ┘
 *
 * The guard has a filter that drops every segment, so nobody is connected before a worker takes connections: a client
 * that comes this early sends its SYN again a second later. With one worker the guard becomes its socket and the
 * address stays exclusive for good; with several, a process of the same user that asks for it with SO_REUSEPORT from
 * the outset is still let in by the kernel once they listen.
 *
 * `localhost` is bound for both families, as far as the machine has them; a listener therefore has one or two
 * endpoints, and each worker one socket for each. */
#include "connectors.h"
#include "endpoints.h"
#include "socket.h"
#include "tcp_options.h"

#include <connpipe/log.h>

#include <errno.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct tcp_listener {
	struct cp_listener base;          /* first */
	struct endpoints endpoints;       /* sockets that a worker has taken are -1. Each worker touches its own */
	atomic_int guards[ENDPOINTS_MAX]; /* -1: none; the first worker that listens closes it */
	char *name;
	struct tcp_options options; /* that the sockets were bound with */
};

struct tcp_acceptor;

/** A worker's socket for one endpoint. */
struct slot {
	struct tcp_acceptor *acceptor;
	struct cp_watch *watch;
	int fd;
	struct tcp_options options; /* that the socket has */
};

struct tcp_acceptor {
	struct cp_acceptor base; /* first */
	struct cp_loop *loop;
	cp_acceptor_ready *ready;
	void *arg;
	unsigned stream_flags; /* CP_FD_* of what is accepted */
	uint32_t current;      /* the slot that was ready last */
	uint32_t slot_count;
	struct slot slots[ENDPOINTS_MAX];
};

/* ---- Sockets ------------------------------------------------------------------------------------------------ */

/** A socket bound to `local`. @return the descriptor, or -1 with errno */
static int socket_bound(const struct cp_peer *local, bool reuse_port)
{
	struct socket_address address;
	socket_address_from_peer(&address, local);
	int family = address.storage.ss_family;
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	if (socket_set(fd, SOL_SOCKET, SO_REUSEADDR, 1) < 0 || socket_set(fd, IPPROTO_TCP, TCP_NODELAY, 1) < 0)
		goto fail;
	if (family == AF_INET6 && socket_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1) < 0)
		goto fail;
	if (reuse_port && socket_set(fd, SOL_SOCKET, SO_REUSEPORT, 1) < 0)
		goto fail;
	if (bind(fd, socket_sockaddr(&address), address.length) < 0)
		goto fail;
	return fd;
fail:
	return socket_abandon(fd);
}

/** Make a bound socket listen without connecting anybody. Some systems let only root attach filters; there the guard
 * does not listen: whoever listens on the address already is still found, only somebody who comes between this and the
 * workers' listening is not. @return 0, or -1 with errno */
static int listen_deaf(int fd)
{
	struct sock_filter drop = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog program = {.len = 1, .filter = &drop};
	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) == 0)
		return listen(fd, 0);
	return errno == EPERM ? 0 : -1;
}

/** A socket that has `local` for itself alone; port 0 in it becomes a number. @return the descriptor, or -1 with errno
 */
static int socket_guarding(struct cp_peer *local)
{
	int fd = socket_bound(local, false);
	if (fd < 0)
		return -1;
	if (listen_deaf(fd) == 0 && socket_read_port(fd, local) == 0)
		return fd;
	return socket_abandon(fd);
}

/* ---- Binding ------------------------------------------------------------------------------------------------ */

static struct tcp_listener *listener_of(struct endpoints *endpoints)
{
	return (struct tcp_listener *)((char *)endpoints - offsetof(struct tcp_listener, endpoints));
}

/** Take one endpoint and make its sockets. @return 0, or errno (what was made is in the listener) */
static int endpoint_bind(struct endpoints *endpoints, uint32_t number)
{
	int guard = socket_guarding(&endpoints->local[number]);
	if (guard < 0)
		return errno;
	if (endpoints->workers == 1) {
		*endpoints_fd(endpoints, 0, number) = guard;
		return 0;
	}
	atomic_store(&listener_of(endpoints)->guards[number], guard);
	if (socket_set(guard, SOL_SOCKET, SO_REUSEPORT, 1) < 0)
		return errno;
	for (uint32_t worker = 0; worker < endpoints->workers; worker++) {
		int fd = socket_bound(&endpoints->local[number], true);
		if (fd < 0)
			return errno;
		*endpoints_fd(endpoints, worker, number) = fd;
	}
	return 0;
}

static void endpoint_unbind(struct endpoints *endpoints, uint32_t number)
{
	int guard = atomic_exchange(&listener_of(endpoints)->guards[number], -1);
	if (guard >= 0)
		close(guard);
	endpoints_close(endpoints, number);
}

static const struct endpoint_ops endpoint_ops = {.bind = endpoint_bind, .unbind = endpoint_unbind};

int tcp_check_bind(struct cp_connector *connector, const struct cp_address *address, struct cp_error *error)
{
	(void)connector;
	struct endpoints scratch;
	return endpoints_read_host(&scratch, &address->fields.at[TCP_ADDR].value, error);
}

static void tcp_unbind(struct cp_listener *base)
{
	struct tcp_listener *listener = (struct tcp_listener *)base;
	for (uint32_t i = 0; i < ENDPOINTS_MAX; i++)
		endpoint_unbind(&listener->endpoints, i);
	endpoints_deinit(&listener->endpoints);
	free(listener->name);
	free(listener);
}

static const struct cp_listener_ops tcp_listener_ops;

static struct tcp_listener *listener_new(struct cp_connector *connector, uint32_t workers)
{
	struct tcp_listener *listener = calloc(1, sizeof(*listener));
	if (!listener)
		return NULL;
	listener->base = (struct cp_listener){.ops = &tcp_listener_ops, .connector = connector};
	for (uint32_t i = 0; i < ENDPOINTS_MAX; i++)
		atomic_init(&listener->guards[i], -1);
	if (endpoints_init(&listener->endpoints, workers))
		return listener;
	free(listener);
	return NULL;
}

/** Have the sockets that were just bound be as the address is set. @return CP_OK, or an error: the kernel refuses it */
static int listener_set_options(struct tcp_listener *listener, const struct tcp_options *options,
								struct cp_error *error)
{
	int result = CP_OK;
	if (!options)
		return CP_OK;
	memcpy(&listener->options, options, sizeof(*options));
	for (uint32_t i = 0; i < listener->endpoints.workers * ENDPOINTS_MAX && result == CP_OK; i++)
		if (listener->endpoints.fds[i] >= 0)
			result = tcp_options_listener(options, listener->endpoints.fds[i], listener->name, error);
	return result;
}

int tcp_bind(struct cp_connector *connector, const struct cp_address *address, uint32_t workers,
			 struct cp_listener **out, struct cp_error *error)
{
	const struct cp_value *host = &address->fields.at[TCP_ADDR].value;
	struct tcp_listener *listener = listener_new(connector, workers);
	if (!listener)
		return cp_error_set(error, CP_ENOMEM, host->as.s, "no memory for %u sockets", workers);
	int result = endpoints_read_host(&listener->endpoints, host, error);
	if (result == CP_OK)
		result = endpoints_bind(&listener->endpoints, (uint16_t)address->fields.at[TCP_PORT].value.as.u, &endpoint_ops,
								error);
	if (result == CP_OK) {
		listener->name = endpoints_name(&listener->endpoints, address, TCP_PORT);
		if (!listener->name)
			result = cp_error_set(error, CP_ENOMEM, host->as.s, "no memory for its name");
	}
	if (result == CP_OK)
		result = listener_set_options(listener, tcp_options_for(address), error);
	if (result != CP_OK) {
		tcp_unbind(&listener->base);
		return result;
	}
	*out = &listener->base;
	return CP_OK;
}

static size_t tcp_name(const struct cp_listener *base, char *buffer, size_t room)
{
	const struct tcp_listener *listener = (const struct tcp_listener *)base;
	return socket_print(listener->name, buffer, room);
}

/* ---- Accepting ---------------------------------------------------------------------------------------------- */

static void on_connection(int fd, unsigned events, void *arg)
{
	(void)fd;
	(void)events;
	struct slot *slot = arg;
	struct tcp_acceptor *acceptor = slot->acceptor;
	acceptor->current = (uint32_t)(slot - acceptor->slots);
	acceptor->ready(&acceptor->base, acceptor->arg);
}

/** The worker's socket for an endpoint: the one made by bind, or a new one when that broke earlier: without options.
 * @param options  set to those that it has */
static int take_socket(struct tcp_listener *listener, uint32_t worker, uint32_t number, struct tcp_options *options)
{
	struct endpoints *endpoints = &listener->endpoints;
	if (worker >= endpoints->workers || *endpoints_fd(endpoints, worker, number) < 0)
		return socket_bound(&endpoints->local[number], endpoints->workers > 1);
	int *bound = endpoints_fd(endpoints, worker, number);
	int fd = *bound;
	*bound = -1;
	memcpy(options, &listener->options, sizeof(*options));
	return fd;
}

/** Listen on one endpoint. @return CP_OK, or an error; slot->fd is the slot's in any case, -1 for none */
static int slot_open(struct slot *slot, struct tcp_listener *listener, uint32_t number, struct cp_error *error)
{
	struct cp_loop *loop = slot->acceptor->loop;
	slot->fd = take_socket(listener, cp_loop_index(loop), number, &slot->options);
	if (slot->fd < 0 || listen(slot->fd, tcp_options_backlog(&slot->options)) < 0)
		return endpoints_error(&listener->endpoints, number, errno, error);
	socket_set(slot->fd, SOL_SOCKET, SO_DETACH_FILTER, 0); /* of a former guard; fails on the others */
	slot->watch = cp_watch_new(loop, slot->fd, CP_READABLE, on_connection, slot, error);
	if (!slot->watch)
		return error->code;
	int guard = atomic_exchange(&listener->guards[number], -1);
	if (guard >= 0)
		close(guard);
	return CP_OK;
}

static void tcp_close(struct cp_acceptor *base)
{
	struct tcp_acceptor *acceptor = (struct tcp_acceptor *)base;
	for (uint32_t i = 0; i < acceptor->slot_count; i++) {
		struct slot *slot = &acceptor->slots[i];
		if (slot->watch)
			cp_watch_free(slot->watch);
		if (slot->fd >= 0)
			close(slot->fd);
	}
	free(acceptor);
}

static struct cp_acceptor *tcp_open(struct cp_listener *base, struct cp_loop *loop, cp_acceptor_ready *ready, void *arg,
									struct cp_error *error)
{
	struct tcp_listener *listener = (struct tcp_listener *)base;
	struct tcp_acceptor *acceptor = calloc(1, sizeof(*acceptor));
	if (!acceptor) {
		cp_error_set(error, CP_ENOMEM, listener->name, "no memory for accepting");
		return NULL;
	}
	acceptor->base.listener = base;
	acceptor->loop = loop;
	acceptor->ready = ready;
	acceptor->arg = arg;
	acceptor->stream_flags = CP_FD_TCP | CP_FD_NODELAY | tcp_options_stream(&listener->options);
	while (acceptor->slot_count < listener->endpoints.count) {
		struct slot *slot = &acceptor->slots[acceptor->slot_count];
		slot->acceptor = acceptor;
		if (slot_open(slot, listener, acceptor->slot_count++, error) != CP_OK) {
			tcp_close(&acceptor->base);
			return NULL;
		}
	}
	return &acceptor->base;
}

/** One accept4() on one socket. */
static int slot_accept(struct slot *slot, struct cp_accepted *accepted, struct cp_error *error)
{
	struct socket_address from = {.length = sizeof(from.storage)};
	int fd = accept4(slot->fd, (struct sockaddr *)&from.storage, &from.length, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0) {
		const struct tcp_listener *listener = (const struct tcp_listener *)slot->acceptor->base.listener;
		return socket_accept_error(errno, listener->name, error);
	}
	accepted->stream = cp_stream_from_fd(accepted->loop, fd, slot->acceptor->stream_flags, error);
	if (!accepted->stream) {
		close(fd);
		return CP_ERESET; /* this one is lost; the next may find memory */
	}
	cp_peer_from_sockaddr(socket_sockaddr(&from), from.length, &accepted->peer);
	return CP_OK;
}

/** The slot that was ready first, then the other: a caller that empties the queue before closing wants both. */
static int tcp_accept(struct cp_acceptor *base, struct cp_accepted *accepted, struct cp_error *error)
{
	struct tcp_acceptor *acceptor = (struct tcp_acceptor *)base;
	int result = CP_AGAIN;
	for (uint32_t i = 0; i < acceptor->slot_count && result == CP_AGAIN; i++)
		result = slot_accept(&acceptor->slots[(acceptor->current + i) % acceptor->slot_count], accepted, error);
	return result;
}

static void acceptor_watch(struct cp_acceptor *base, unsigned events)
{
	struct tcp_acceptor *acceptor = (struct tcp_acceptor *)base;
	for (uint32_t i = 0; i < acceptor->slot_count; i++)
		cp_watch_set(acceptor->slots[i].watch, events);
}

static void tcp_pause(struct cp_acceptor *base)
{
	acceptor_watch(base, 0);
}

static void tcp_resume(struct cp_acceptor *base)
{
	acceptor_watch(base, CP_READABLE);
}

/* ---- Settings that change while the address is bound -------------------------------------------------------- */

static int tcp_check_tune(struct cp_listener *base, const struct cp_address *address, struct cp_error *error)
{
	const struct tcp_listener *listener = (const struct tcp_listener *)base;
	int family = listener->endpoints.local[0].ip.family == 6 ? AF_INET6 : AF_INET;
	return tcp_options_try(tcp_options_for(address), family, listener->name, NULL, error);
}

static void tcp_tune(struct cp_acceptor *base, const struct cp_address *address)
{
	static const struct tcp_options none;
	struct tcp_acceptor *acceptor = (struct tcp_acceptor *)base;
	const struct tcp_listener *listener = (const struct tcp_listener *)base->listener;
	const struct tcp_options *options = tcp_options_for(address);
	acceptor->stream_flags = CP_FD_TCP | CP_FD_NODELAY | tcp_options_stream(options);
	for (uint32_t i = 0; i < acceptor->slot_count; i++) {
		struct slot *slot = &acceptor->slots[i];
		struct cp_error error;
		/* It was tried out before: what fails here is rare (no descriptor), and no reason to stop accepting. */
		if (tcp_options_change(&slot->options, options, slot->fd, listener->name, &error) != CP_OK)
			cp_log(CP_WARN, "tcp", "%s: %s", error.where, error.message);
		memcpy(&slot->options, options ? options : &none, sizeof(none));
	}
}

static const struct cp_listener_ops tcp_listener_ops = {
	.size = sizeof(struct cp_listener_ops),
	.open = tcp_open,
	.accept = tcp_accept,
	.pause = tcp_pause,
	.resume = tcp_resume,
	.close = tcp_close,
	.unbind = tcp_unbind,
	.name = tcp_name,
	.check_tune = tcp_check_tune,
	.tune = tcp_tune,
};
