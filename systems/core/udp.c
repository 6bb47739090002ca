/* udp: the connector, and connecting.
 *
 *     literal address ─▶ try it ──────────────────────────────────────────▶ CP_OK, or an error
 *     name ─▶ look it up ─▶ try its addresses in their order, until one is taken ─▶ done
 *
 * To connect a socket is only to give it an address and a route: it is over at once, and tells nothing about whether
 * anybody is there. What fails is local: no route, no port, no privilege. */
#include "udp.h"

#include "socket.h"
#include "udp_wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/** A name that is being looked up. */
struct opening {
	struct cp_open *open;
	struct cp_resolve resolve;
	struct cp_timer timer;
};

static const char *open_host(const struct cp_open *open)
{
	return open->address->fields.at[UDP_ADDR].value.as.s;
}

/* ---- One address --------------------------------------------------------------------------------------------- */

/** A connected socket. @return CP_OK, or the code of `error` */
static int socket_connected(const struct udp_options *options, const struct cp_peer *peer, int *fd,
							struct cp_error *error)
{
	static const struct udp_options none;
	const struct cp_ip *source = &options->source[peer->ip.family == 6];
	struct socket_address address;
	char where[CP_PEER_TEXT];
	int result = CP_OK;
	socket_address_from_peer(&address, peer);
	cp_peer_print(peer, where, sizeof(where));
	*fd = socket(address.storage.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (*fd < 0)
		return socket_connect_error(errno, where, error);
	if (memcmp(options, &none, sizeof(none)) != 0)
		result = udp_options_change(&none, options, *fd, where, error);
	if (result == CP_OK && source->family)
		result = socket_bind_source(*fd, source, where, error);
	if (result == CP_OK && connect(*fd, socket_sockaddr(&address), address.length) < 0)
		result = socket_connect_error(errno == EAGAIN ? EADDRNOTAVAIL : errno, where, error); /* EAGAIN: no port left */
	if (result != CP_OK)
		close(*fd);
	return result;
}

/** Whether the socket is connected to itself: where nobody is on a port that the kernel also gives out, it may be given
 * to who connects to it. Only ports from 32768 on are given out (the default of net.ipv4.ip_local_port_range). */
static bool met_itself(int fd, const struct cp_peer *peer)
{
	struct cp_peer local;
	return peer->port >= 32768 && socket_local(fd, &local) == 0 && local.port == peer->port &&
		   cp_ip_equal(&local.ip, &peer->ip);
}

/** The early bytes are one datagram. */
static void send_early(struct cp_open *open)
{
	if (open->early_count > 0 && cp_stream_writev(open->stream, open->early, open->early_count, 0) >= 0)
		open->early_sent = udp_length(open->early, open->early_count);
}

/** @return CP_OK: open->stream is there; or the code of open->error */
static int try_address(struct cp_open *open, const struct cp_ip *ip)
{
	const struct udp_options *options = udp_options_for(open->address);
	struct cp_peer peer = {.ip = *ip, .port = (uint16_t)open->address->fields.at[UDP_PORT].value.as.u};
	int fd;
	int result = socket_connected(options, &peer, &fd, &open->error);
	if (result == CP_OK && met_itself(fd, &peer)) {
		int itself = fd; /* as long as this has the port, another one does not get it */
		result = socket_connected(options, &peer, &fd, &open->error);
		close(itself);
	}
	if (result != CP_OK)
		return result;
	open->stream = udp_target_new(open->loop, fd, &open->error);
	if (!open->stream) {
		close(fd);
		return open->error.code;
	}
	send_early(open);
	return CP_OK;
}

/* ---- Names --------------------------------------------------------------------------------------------------- */

/** Say which name the address of the last error belongs to. */
static int name_error(struct cp_open *open, uint32_t count)
{
	struct cp_error last = open->error;
	if (count > 1)
		return cp_error_set(&open->error, last.code, last.where, "%s (%s, last of %u addresses)", last.message,
							open_host(open), count);
	return cp_error_set(&open->error, last.code, last.where, "%s (%s)", last.message, open_host(open));
}

/** The look-up has an answer. */
static int try_all(struct cp_open *open, const struct cp_resolve *resolve)
{
	if (resolve->count == 0) {
		open->error = resolve->error;
		return open->error.code;
	}
	for (uint32_t i = 0; i < resolve->count; i++) {
		if (try_address(open, &resolve->ips[i]) == CP_OK) {
			open->error.code = CP_OK; /* of earlier addresses */
			return CP_OK;
		}
	}
	return name_error(open, resolve->count);
}

static void opening_free(struct opening *o)
{
	cp_timer_stop(&o->timer);
	free(o);
}

static void on_resolved(struct cp_resolve *resolve)
{
	struct opening *o = resolve->arg;
	struct cp_open *open = o->open;
	try_all(open, resolve);
	opening_free(o);
	cp_open_done(open);
}

static void on_timeout(struct cp_timer *timer)
{
	struct opening *o = (struct opening *)((char *)timer - offsetof(struct opening, timer));
	struct cp_open *open = o->open;
	cp_resolve_cancel(&o->resolve);
	cp_error_set(&open->error, CP_ERESOLVE, open_host(open), "no answer to the look-up within %llu ms",
				 (unsigned long long)open->timeout_ms);
	opening_free(o);
	cp_open_done(open);
}

static int connect_name(struct cp_open *open)
{
	struct opening *o = calloc(1, sizeof(*o));
	if (!o)
		return cp_error_set(&open->error, CP_ENOMEM, open_host(open), "no memory for connecting");
	open->state = o;
	o->open = open;
	o->resolve.done = on_resolved;
	o->resolve.arg = o;
	cp_timer_init(&o->timer, open->loop, on_timeout);
	int result = cp_resolve_start(open->loop, &o->resolve, open_host(open));
	if (result == CP_AGAIN) {
		if (open->timeout_ms > 0)
			cp_timer_start(&o->timer, open->timeout_ms);
		return CP_AGAIN;
	}
	result = try_all(open, &o->resolve);
	opening_free(o);
	return result;
}

static int udp_connect(struct cp_connector *connector, struct cp_open *open)
{
	(void)connector;
	const struct cp_value *host = &open->address->fields.at[UDP_ADDR].value;
	struct cp_ip ip;
	open->early_sent = 0;
	if (cp_ip_parse(host->as.s, host->length, &ip))
		return try_address(open, &ip);
	return connect_name(open);
}

static void udp_cancel(struct cp_connector *connector, struct cp_open *open)
{
	(void)connector;
	struct opening *o = open->state;
	cp_resolve_cancel(&o->resolve);
	opening_free(o);
}

/* ---- The connector ------------------------------------------------------------------------------------------- */

static const char *const udp_aliases[] = {"udp", NULL};

static const struct cp_field_def udp_fields[UDP_FIELDS] = {
	[UDP_ADDR] = {.name = "addr", .kind = CP_STRING, .role = CP_ROLE_HOST},
	[UDP_PORT] = {.name = "port", .kind = CP_U16, .role = CP_ROLE_PORT},
};

const struct cp_connector_def udp_connector = {
	.size = sizeof(struct cp_connector_def),
	.aliases = udp_aliases,
	.flags = CP_CONNECTOR_MESSAGES | CP_CONNECTOR_SESSIONS,
	.fields = udp_fields,
	.field_count = UDP_FIELDS,
	.syntax = "udp:host:port",
	.bind = udp_bind,
	.check_bind = udp_check_bind,
	.connect = udp_connect,
	.cancel = udp_cancel,
	.reroutes = udp_reroutes,
};
