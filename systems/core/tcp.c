/* tcp: connecting.
 *
 *     literal address ─▶ attempt ─┬─ connected at once ────────────────────────────▶ CP_OK, nothing was allocated
 *                                 └─ in progress ─▶ opening ─┐
 *     name ─▶ opening: RESOLVING ─▶ next address ─▶ CONNECTING ─┬─ connected ─▶ done
 *                                        ▲                      │ failed, or took too long
 *                                        └──────────────────────┴─ no address left ─▶ done, with the last error
 *
 * On one machine the handshake is over when connect() returns, although it says EINPROGRESS: it holds the socket while
 * the answer comes in. So the first thing done after connect() is what would be done with a connection (write the early
 * bytes), and only if that says "not yet" is the descriptor watched. */
#include "connectors.h"
#include "socket.h"
#include "tcp_options.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum opening_state {
	OPENING_RESOLVING,  /* the name is being looked up */
	OPENING_CONNECTING, /* `fd` is on its way to `peer` */
};

/** A connect that did not succeed at once. */
struct opening {
	struct cp_open *open;
	enum opening_state state;
	struct cp_resolve resolve;
	struct cp_timer timer;
	struct cp_watch *watch; /* of `fd`; NULL: no attempt is under way */
	int fd;
	struct cp_peer peer; /* of the attempt */
	struct cp_ip *ips;   /* of the name; NULL for a literal address */
	uint32_t count, next;
};

static const char *open_host(const struct cp_open *open)
{
	return open->address->fields.at[TCP_ADDR].value.as.s;
}

/* ---- One attempt -------------------------------------------------------------------------------------------- */

/** Whether the target has said something: then it had accepted the connection, whatever has become of it since. */
static bool attempt_has_answer(int fd)
{
	char byte;
	return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

/** Without bytes to send: the socket's state tells. (A second connect() would, too, but throws away what was received
 * from a target that has reset by now.) Without a connection, the attempt has failed, or it is over already and what
 * can be read tells: bytes, an end, or the error, which is reported only once. */
static int attempt_probe_silent(int fd)
{
	char byte;
	struct tcp_info info;
	socklen_t length = offsetof(struct tcp_info, tcpi_options); /* the kernel need not copy the rest */
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0)
		return errno;
	if (info.tcpi_state == TCP_SYN_SENT || info.tcpi_state == TCP_SYN_RECV)
		return EALREADY;
	return info.tcpi_state != TCP_CLOSE || recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 ? 0 : errno;
}

static bool is_fast_open(const struct cp_open *open)
{
	const struct tcp_options *options = tcp_options_for(open->address);
	return options && options->fast_open;
}

/** Whether a socket that was told to connect is connected: found out by sending the early bytes if there are any.
 * @return 0; EAGAIN or EALREADY: not yet; the errno of the attempt */
static int attempt_probe(struct cp_open *open, int fd)
{
	if (open->early_count == 0 || open->early_sent > 0)
		return attempt_probe_silent(fd);
	struct msghdr message = {.msg_iov = (struct iovec *)open->early, .msg_iovlen = (size_t)open->early_count};
	ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (sent < 0)
		return errno;
	open->early_sent = (size_t)sent;
	/* A fast open takes bytes before anybody has answered. */
	return is_fast_open(open) ? attempt_probe_silent(fd) : 0;
}

/** Whether the socket is connected to itself: the kernel picked the target's own port as the local one, and the two
 * SYNs crossed. Happens when nobody listens on a port that is also given out as a local one; then the target is not
 * there. Only ports from 32768 on are given out (the default of net.ipv4.ip_local_port_range). */
static bool attempt_met_itself(int fd, const struct cp_peer *peer)
{
	if (peer->port < 32768)
		return false;
	struct cp_peer local;
	return socket_local(fd, &local) == 0 && local.port == peer->port && cp_ip_equal(&local.ip, &peer->ip);
}

static int attempt_failed(struct cp_open *open, const struct cp_peer *peer, int errnum)
{
	char where[CP_PEER_TEXT];
	cp_peer_print(peer, where, sizeof(where));
	return socket_connect_error(errnum, where, &open->error);
}

/** Which sockets may stand in for each other (CP_FD_RECYCLE): the family, and TCP_DEFER_ACCEPT. One that was connected
 * with a zone is bound to its link. */
static unsigned attempt_kind(const struct cp_open *open, const struct cp_peer *peer)
{
	return (peer->ip.family == 6 ? 1u : 0u) | (open->early_count ? 2u : 0u);
}

/** The socket is connected: make the stream over it. */
static int attempt_connected(struct cp_open *open, int fd, const struct cp_peer *peer, struct cp_stream *spare,
							 unsigned flags)
{
	const struct tcp_options *options = tcp_options_for(open->address);
	flags |= CP_FD_TCP | tcp_options_stream(options) | (open->early_sent > 0 ? CP_FD_WRITTEN : 0);
	if (!options && !peer->ip.zone)
		flags |= CP_FD_RECYCLE(attempt_kind(open, peer));
	if (spare)
		cp_stream_renew(spare, flags);
	open->stream = spare ? spare : cp_stream_from_fd(open->loop, fd, flags, &open->error);
	return open->stream ? CP_OK : (int)open->error.code;
}

/** Look how the attempt stands.
 * @param spare  the stream that has `fd` already, or NULL
 * @return CP_OK: open->stream is there, it took `fd`; CP_AGAIN: not decided yet; else open->error is filled, `fd` is
 * still the caller's */
static int attempt_look(struct cp_open *open, int fd, const struct cp_peer *peer, struct cp_stream *spare)
{
	int errnum = attempt_probe(open, fd);
	if (errnum == EAGAIN || errnum == EALREADY || errnum == EINPROGRESS || errnum == EINTR)
		return CP_AGAIN;
	if (errnum == 0 && attempt_met_itself(fd, peer)) {
		struct linger reset = {.l_onoff = 1}; /* leaves the port free for who should listen on it */
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		open->early_sent = 0;
		errnum = ECONNREFUSED;
	}
	bool was_reset = (errnum == ECONNRESET || errnum == EPIPE) && attempt_has_answer(fd);
	if (errnum != 0 && !was_reset)
		return attempt_failed(open, peer, errnum);
	return attempt_connected(open, fd, peer, spare, was_reset ? CP_FD_RESET : 0);
}

/** A new socket, ready to connect. @return CP_OK, or the code of open->error */
static int attempt_socket(struct cp_open *open, const struct cp_peer *peer, int family,
						  const struct tcp_options *options, int *fd)
{
	static const int seconds = 1;
	*fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (*fd < 0)
		return attempt_failed(open, peer, errno);
	/* With bytes to send, the last ACK of the handshake waits for them: a segment less on both sides (tcp(7)). */
	if (open->early_count)
		setsockopt(*fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, sizeof(seconds));
	int result = tcp_options_target(options, *fd, peer, open->early_count > 0, &open->error);
	if (result != CP_OK)
		close(*fd);
	return result;
}

/** Let go of the socket of an attempt that has failed, or keep only the descriptor of one that goes on. */
static void attempt_leave(int result, int fd, struct cp_stream *spare)
{
	if (result == CP_AGAIN && spare)
		cp_stream_take_fd(spare);
	else if (result != CP_AGAIN && spare)
		cp_stream_close(spare, CP_CAUSE_CONNECT_FAILED);
	else if (result != CP_AGAIN)
		close(fd);
}

/** Start connecting to `peer`. @return as attempt_look(); `*fd` is set for CP_AGAIN */
static int attempt_start(struct cp_open *open, const struct cp_peer *peer, int *fd)
{
	const struct tcp_options *options = tcp_options_for(open->address);
	struct socket_address address;
	socket_address_from_peer(&address, peer);
	open->early_sent = 0; /* what an earlier attempt has sent is for this one to send again */
	struct cp_stream *spare = NULL;
	if (!options && !peer->ip.zone)
		spare = cp_stream_recycled(open->loop, attempt_kind(open, peer), fd);
	int result = spare ? CP_OK : attempt_socket(open, peer, address.storage.ss_family, options, fd);
	if (result != CP_OK)
		return result;
	if (connect(*fd, socket_sockaddr(&address), address.length) < 0 && errno != EINPROGRESS)
		result = attempt_failed(open, peer, errno);
	else
		result = attempt_look(open, *fd, peer, spare);
	if (result != CP_OK)
		attempt_leave(result, *fd, spare);
	return result;
}

/* ---- Openings: what takes longer than a call ---------------------------------------------------------------- */

static void on_timeout(struct cp_timer *timer);
static void on_writable(int fd, unsigned events, void *arg);

static struct opening *opening_new(struct cp_open *open)
{
	struct opening *o = calloc(1, sizeof(*o));
	if (!o) {
		cp_error_set(&open->error, CP_ENOMEM, open_host(open), "no memory for connecting");
		return NULL;
	}
	o->open = open;
	o->peer.port = (uint16_t)open->address->fields.at[TCP_PORT].value.as.u;
	cp_timer_init(&o->timer, open->loop, on_timeout);
	return o;
}

static void opening_end_attempt(struct opening *o)
{
	if (!o->watch)
		return;
	cp_timer_stop(&o->timer);
	cp_watch_free(o->watch);
	o->watch = NULL;
}

static void opening_free(struct opening *o)
{
	cp_timer_stop(&o->timer);
	free(o->ips);
	free(o);
}

static void opening_start_timer(struct opening *o)
{
	if (o->open->timeout_ms > 0)
		cp_timer_start(&o->timer, o->open->timeout_ms);
}

/** Wait for the attempt that is under way on `fd`, which is taken. @return CP_AGAIN, or an error with `fd` closed */
static int opening_wait(struct opening *o, int fd)
{
	o->watch = cp_watch_new(o->open->loop, fd, CP_WRITABLE, on_writable, o, &o->open->error);
	if (!o->watch) {
		close(fd);
		return o->open->error.code;
	}
	o->fd = fd;
	o->state = OPENING_CONNECTING;
	opening_start_timer(o);
	return CP_AGAIN;
}

/** Try the addresses that are left, as far as it goes now. @return CP_OK, CP_AGAIN, or the last error */
static int opening_next(struct opening *o)
{
	int result = CP_EUNREACHABLE; /* the caller has filled in the error if there is no address left */
	while (o->next < o->count) {
		int fd;
		o->peer.ip = o->ips[o->next++];
		result = attempt_start(o->open, &o->peer, &fd);
		if (result == CP_AGAIN)
			result = opening_wait(o, fd);
		if (result == CP_OK || result == CP_AGAIN)
			break;
	}
	return result;
}

/** Say which name the address of the last error belongs to. */
static void opening_name_error(const struct opening *o)
{
	struct cp_error last = o->open->error;
	if (o->count > 1)
		cp_error_set(&o->open->error, last.code, last.where, "%s (%s, last of %u addresses)", last.message,
					 open_host(o->open), o->count);
	else if (o->count == 1 && o->ips)
		cp_error_set(&o->open->error, last.code, last.where, "%s (%s)", last.message, open_host(o->open));
}

/** Free the opening unless `result` says that it goes on. @return `result` */
static int opening_settle(struct opening *o, int result)
{
	if (result == CP_AGAIN)
		return CP_AGAIN;
	if (result == CP_OK)
		o->open->error.code = CP_OK; /* of earlier attempts */
	else
		opening_name_error(o);
	opening_free(o);
	return result;
}

/** Go on from the loop. */
static void opening_go_on(struct opening *o, int result)
{
	struct cp_open *open = o->open;
	if (opening_settle(o, result) != CP_AGAIN)
		cp_open_done(open);
}

static void on_writable(int fd, unsigned events, void *arg)
{
	(void)events;
	struct opening *o = arg;
	int result = attempt_look(o->open, fd, &o->peer, NULL);
	if (result == CP_AGAIN)
		return;
	opening_end_attempt(o);
	if (result != CP_OK) {
		close(fd);
		if (o->next < o->count)
			result = opening_next(o);
	}
	opening_go_on(o, result);
}

static void attempt_timed_out(struct opening *o)
{
	char where[CP_PEER_TEXT];
	cp_peer_print(&o->peer, where, sizeof(where));
	cp_error_set(&o->open->error, CP_ETIMEOUT, where, "no answer within %llu ms",
				 (unsigned long long)o->open->timeout_ms);
	opening_end_attempt(o);
	close(o->fd);
}

static void on_timeout(struct cp_timer *timer)
{
	struct opening *o = (struct opening *)((char *)timer - offsetof(struct opening, timer));
	int result = CP_ETIMEOUT;
	switch (o->state) {
	case OPENING_RESOLVING:
		cp_resolve_cancel(&o->resolve);
		result = cp_error_set(&o->open->error, CP_ERESOLVE, open_host(o->open),
							  "no answer to the look-up within %llu ms", (unsigned long long)o->open->timeout_ms);
		break;
	case OPENING_CONNECTING:
		attempt_timed_out(o);
		if (o->next < o->count)
			result = opening_next(o);
		break;
	}
	opening_go_on(o, result);
}

/* ---- Names -------------------------------------------------------------------------------------------------- */

/** The look-up has an answer: keep it (it is only lent) and begin with the first address. */
static int opening_resolved(struct opening *o)
{
	if (o->resolve.count == 0) {
		o->open->error = o->resolve.error;
		return o->open->error.code;
	}
	o->ips = malloc(o->resolve.count * sizeof(*o->ips));
	if (!o->ips)
		return cp_error_set(&o->open->error, CP_ENOMEM, open_host(o->open), "no memory for its addresses");
	memcpy(o->ips, o->resolve.ips, o->resolve.count * sizeof(*o->ips));
	o->count = o->resolve.count;
	return opening_next(o);
}

static void on_resolved(struct cp_resolve *resolve)
{
	struct opening *o = resolve->arg;
	cp_timer_stop(&o->timer);
	opening_go_on(o, opening_resolved(o));
}

static int connect_name(struct cp_open *open)
{
	struct opening *o = opening_new(open);
	if (!o)
		return CP_ENOMEM;
	open->state = o;
	o->state = OPENING_RESOLVING;
	o->resolve.done = on_resolved;
	o->resolve.arg = o;
	int result = cp_resolve_start(open->loop, &o->resolve, open_host(open));
	if (result == CP_AGAIN)
		opening_start_timer(o);
	else
		result = opening_resolved(o);
	return opening_settle(o, result);
}

static int connect_literal(struct cp_open *open, const struct cp_ip *ip)
{
	struct cp_peer peer = {.ip = *ip, .port = (uint16_t)open->address->fields.at[TCP_PORT].value.as.u};
	int fd;
	int result = attempt_start(open, &peer, &fd);
	if (result != CP_AGAIN)
		return result;
	struct opening *o = opening_new(open);
	if (!o) {
		close(fd);
		return CP_ENOMEM;
	}
	open->state = o;
	o->peer = peer;
	return opening_settle(o, opening_wait(o, fd));
}

static int tcp_connect(struct cp_connector *connector, struct cp_open *open)
{
	(void)connector;
	const struct cp_value *host = &open->address->fields.at[TCP_ADDR].value;
	struct cp_ip ip;
	open->early_sent = 0;
	if (cp_ip_parse(host->as.s, host->length, &ip))
		return connect_literal(open, &ip);
	return connect_name(open);
}

static void tcp_cancel(struct cp_connector *connector, struct cp_open *open)
{
	(void)connector;
	struct opening *o = open->state;
	switch (o->state) {
	case OPENING_RESOLVING:
		cp_resolve_cancel(&o->resolve);
		break;
	case OPENING_CONNECTING:
		opening_end_attempt(o);
		close(o->fd);
		break;
	}
	opening_free(o);
}

/* ---- The connector ------------------------------------------------------------------------------------------ */

static const char *const tcp_aliases[] = {"tcp", NULL};

static const struct cp_field_def tcp_fields[TCP_FIELDS] = {
	[TCP_ADDR] = {.name = "addr", .kind = CP_STRING, .role = CP_ROLE_HOST},
	[TCP_PORT] = {.name = "port", .kind = CP_U16, .role = CP_ROLE_PORT},
	[TCP_MULTIPLEX] = {.name = "multiplex", .kind = CP_STRING, .role = CP_ROLE_MULTIPLEX, .optional = true},
};

const struct cp_connector_def tcp_connector = {
	.size = sizeof(struct cp_connector_def),
	.aliases = tcp_aliases,
	.fields = tcp_fields,
	.field_count = TCP_FIELDS,
	.syntax = "tcp:host:port!multiplex",
	.bind = tcp_bind,
	.check_bind = tcp_check_bind,
	.connect = tcp_connect,
	.cancel = tcp_cancel,
};
