/* udp: sockets that are bound.
 *
 * Every worker has its own socket on the address (SO_REUSEPORT): the kernel gives each peer to one of them, by a hash,
 * and so to one worker. The address is first taken without that option, which lets other processes of the same user
 * join unnoticed: then anybody who is there already is an error.
 *
 *     first worker's socket: bind ─▶ SO_REUSEPORT ─▶ the others: SO_REUSEPORT, bind
 *             └ fails if anybody is on the address
 *
 * All are bound here, before any is read, and stay until the last session has ended, so that the hash does not change.
 * What comes in before a worker reads waits in its socket. */
#include "udp_session.h"

#include "socket.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- Sockets ------------------------------------------------------------------------------------------------- */

static bool is_wildcard(const struct cp_ip *ip)
{
	static const uint8_t zero[sizeof(ip->bytes)];
	return memcmp(ip->bytes, zero, ip->family == 4 ? 4 : 16) == 0;
}

/** Whether several machines have it (broadcast, multicast). Which addresses are broadcast depends on the networks that
 * the machine is in: the kernel refuses to connect to those who have not asked for that (SO_BROADCAST). */
static bool is_shared(const struct cp_peer *local)
{
	struct socket_address address;
	struct cp_peer to = {.ip = local->ip, .port = 9};
	if (to.ip.family == 6)
		return to.ip.bytes[0] == 0xff;
	if (to.ip.bytes[0] >= 224)
		return true;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	socket_address_from_peer(&address, &to);
	bool refused = connect(fd, socket_sockaddr(&address), address.length) < 0 && errno == EACCES;
	close(fd);
	return refused;
}

/** A socket that datagrams to several addresses come to tells which one was asked: the answer comes from there. */
static int want_local(int fd, const struct cp_peer *local)
{
	if (!is_wildcard(&local->ip) && !is_shared(local))
		return 0;
	return local->ip.family == 4 ? socket_set(fd, IPPROTO_IP, IP_PKTINFO, 1)
								 : socket_set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
}

/** A socket bound to `local`. @return the descriptor, or -1 with errno */
static int socket_bound(const struct cp_peer *local, bool reuse_port)
{
	struct socket_address address;
	socket_address_from_peer(&address, local);
	int family = address.storage.ss_family;
	int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	if ((family == AF_INET6 && socket_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1) < 0) || want_local(fd, local) < 0 ||
		(reuse_port && socket_set(fd, SOL_SOCKET, SO_REUSEPORT, 1) < 0) ||
		bind(fd, socket_sockaddr(&address), address.length) < 0)
		return socket_abandon(fd);
	udp_want_segments(fd);
	return fd;
}

/** Take one endpoint for all workers. @return 0, or errno (what was made is in `endpoints`) */
static int endpoint_bind(struct endpoints *endpoints, uint32_t number)
{
	struct cp_peer *local = &endpoints->local[number];
	for (uint32_t worker = 0; worker < endpoints->workers; worker++) {
		int fd = socket_bound(local, worker > 0);
		if (fd < 0)
			return errno;
		*endpoints_fd(endpoints, worker, number) = fd;
		if (worker > 0)
			continue;
		if (socket_read_port(fd, local) < 0 ||
			(endpoints->workers > 1 && socket_set(fd, SOL_SOCKET, SO_REUSEPORT, 1) < 0))
			return errno;
	}
	return 0;
}

static const struct endpoint_ops endpoint_ops = {.bind = endpoint_bind, .unbind = endpoints_close};

/* ---- Listener ------------------------------------------------------------------------------------------------ */

void udp_listener_unref(struct udp_listener *listener)
{
	if (atomic_fetch_sub(&listener->users, 1) != 1)
		return;
	endpoints_deinit(&listener->endpoints);
	free(listener->name);
	free(listener);
}

static void udp_unbind(struct cp_listener *base)
{
	udp_listener_unref((struct udp_listener *)base);
}

static size_t udp_name(const struct cp_listener *base, char *buffer, size_t room)
{
	return socket_print(((const struct udp_listener *)base)->name, buffer, room);
}

static int udp_check_tune(struct cp_listener *base, const struct cp_address *address, struct cp_error *error)
{
	const struct udp_listener *listener = (const struct udp_listener *)base;
	return udp_options_try(udp_options_for(address), listener->name, NULL, error);
}

static const struct cp_listener_ops udp_listener_ops = {
	.size = sizeof(struct cp_listener_ops),
	.open = udp_accept_open,
	.accept = udp_accept,
	.pause = udp_accept_pause,
	.resume = udp_accept_resume,
	.close = udp_accept_close,
	.unbind = udp_unbind,
	.name = udp_name,
	.check_tune = udp_check_tune,
	.tune = udp_accept_tune,
};

static struct udp_listener *listener_new(struct cp_connector *connector, uint32_t workers)
{
	struct udp_listener *listener = calloc(1, sizeof(*listener));
	if (!listener)
		return NULL;
	listener->base = (struct cp_listener){.ops = &udp_listener_ops, .connector = connector};
	atomic_init(&listener->users, 1);
	if (endpoints_init(&listener->endpoints, workers))
		return listener;
	free(listener);
	return NULL;
}

static int listener_set_options(struct udp_listener *listener, const struct udp_options *options,
								struct cp_error *error)
{
	static const struct udp_options none;
	int result = CP_OK;
	listener->options = *options;
	for (uint32_t i = 0; i < listener->endpoints.workers * ENDPOINTS_MAX && result == CP_OK; i++)
		if (listener->endpoints.fds[i] >= 0)
			result = udp_options_change(&none, options, listener->endpoints.fds[i], listener->name, error);
	return result;
}

static int listener_bind(struct udp_listener *listener, const struct cp_address *address, struct cp_error *error)
{
	const struct cp_value *host = &address->fields.at[UDP_ADDR].value;
	uint16_t port = (uint16_t)address->fields.at[UDP_PORT].value.as.u;
	int result = endpoints_read_host(&listener->endpoints, host, error);
	if (result == CP_OK)
		result = endpoints_bind(&listener->endpoints, port, &endpoint_ops, error);
	if (result != CP_OK)
		return result;
	listener->name = endpoints_name(&listener->endpoints, address, UDP_PORT);
	if (!listener->name)
		return cp_error_set(error, CP_ENOMEM, host->as.s, "no memory for its name");
	return listener_set_options(listener, udp_options_for(address), error);
}

int udp_bind(struct cp_connector *connector, const struct cp_address *address, uint32_t workers,
			 struct cp_listener **out, struct cp_error *error)
{
	struct udp_listener *listener = listener_new(connector, workers);
	if (!listener)
		return cp_error_set(error, CP_ENOMEM, address->fields.at[UDP_ADDR].value.as.s, "no memory for %u sockets",
							workers);
	int result = listener_bind(listener, address, error);
	if (result == CP_OK)
		*out = &listener->base;
	else
		udp_listener_unref(listener);
	return result;
}

int udp_check_bind(struct cp_connector *connector, const struct cp_address *address, struct cp_error *error)
{
	(void)connector;
	struct endpoints scratch;
	return endpoints_read_host(&scratch, &address->fields.at[UDP_ADDR].value, error);
}

bool udp_reroutes(const struct cp_address *address)
{
	return udp_options_for(address)->reroute;
}
