/* TCP settings: setting them on sockets. See tcp_options.h. */
#include "tcp_options.h"

#include "socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct tcp_options none;

/** Where an option is set. */
enum {
	ON_LISTENER = 1, /* connections inherit it, as far as it means anything to them */
	ON_TARGET = 2,
	ON_BOTH = ON_LISTENER | ON_TARGET,
};

/** The options that are a number. */
static const struct option {
	const char *key; /* in the configuration */
	size_t member;   /* in struct tcp_options */
	int level, name;
	unsigned on;
} options[] = {
	{"mark", offsetof(struct tcp_options, mark), SOL_SOCKET, SO_MARK, ON_BOTH},
	{"keepalive", offsetof(struct tcp_options, keepalive), SOL_SOCKET, SO_KEEPALIVE, ON_BOTH},
	{"keepalive", offsetof(struct tcp_options, keep_idle), IPPROTO_TCP, TCP_KEEPIDLE, ON_BOTH},
	{"keepalive", offsetof(struct tcp_options, keep_interval), IPPROTO_TCP, TCP_KEEPINTVL, ON_BOTH},
	{"keepalive", offsetof(struct tcp_options, keep_count), IPPROTO_TCP, TCP_KEEPCNT, ON_BOTH},
	{"user_timeout", offsetof(struct tcp_options, user_timeout), IPPROTO_TCP, TCP_USER_TIMEOUT, ON_BOTH},
	{"fast_open", offsetof(struct tcp_options, fast_open), IPPROTO_TCP, TCP_FASTOPEN, ON_LISTENER},
	{"defer_accept", offsetof(struct tcp_options, defer_accept), IPPROTO_TCP, TCP_DEFER_ACCEPT, ON_LISTENER},
};

enum { OPTIONS = sizeof(options) / sizeof(options[0]) };

static int value_of(const struct tcp_options *from, const struct option *option)
{
	int value;
	memcpy(&value, (const char *)from + option->member, sizeof(value));
	return value;
}

/* ---- Errors ------------------------------------------------------------------------------------------------- */

static int congestion_error(const char *name, int errnum, const char *where, struct cp_error *error)
{
	if (errnum == ENOENT)
		return cp_error_set(error, CP_ENOTFOUND, where,
							"cannot set congestion: the kernel has no \"%s\" (it has those in "
							"net.ipv4.tcp_available_congestion_control, and what modprobe tcp_%s adds)",
							name, name);
	if (errnum == EPERM)
		return cp_error_set(error, CP_EPERM, where,
							"cannot set congestion: \"%s\" is not in net.ipv4.tcp_allowed_congestion_control, and "
							"others need CAP_NET_ADMIN",
							name);
	return cp_error_set(error, socket_code(errnum), where, "cannot set congestion = \"%s\": %s", name,
						strerror(errnum));
}

static int option_error(const char *key, int errnum, const char *where, struct cp_error *error)
{
	if (errnum == EPERM)
		return cp_error_set(error, CP_EPERM, where, "cannot set %s: it needs CAP_NET_ADMIN", key);
	return cp_error_set(error, socket_code(errnum), where, "cannot set %s: %s", key, strerror(errnum));
}

/* ---- Single options ----------------------------------------------------------------------------------------- */

/** A new socket of the same family, for what the kernel gives it. */
static int socket_like(int fd)
{
	int family = AF_INET;
	socklen_t length = sizeof(family);
	getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &length);
	return socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

/** Read an option of a new socket. @return 0, or -1 with errno */
static int kernel_default(int fd, int level, int name, void *value, socklen_t *length)
{
	int fresh = socket_like(fd);
	if (fresh < 0)
		return -1;
	int result = getsockopt(fresh, level, name, value, length);
	int errnum = errno;
	close(fresh);
	errno = errnum;
	return result;
}

/** @param value  0: as a new socket has it. @return 0, or -1 with errno */
static int set_number(int fd, const struct option *option, int value)
{
	socklen_t length = sizeof(value);
	if (value == 0 && kernel_default(fd, option->level, option->name, &value, &length) < 0)
		return -1;
	return setsockopt(fd, option->level, option->name, &value, sizeof(value));
}

/** @param name  "": as a new socket has it. @return 0, or -1 with errno */
static int set_congestion(int fd, const char *name)
{
	char usual[TCP_CONGESTION_ROOM] = "";
	socklen_t length = sizeof(usual);
	if (name[0])
		return setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, (socklen_t)strlen(name));
	if (kernel_default(fd, IPPROTO_TCP, TCP_CONGESTION, usual, &length) < 0)
		return -1;
	return setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, usual, (socklen_t)strnlen(usual, sizeof(usual)));
}

/** Set what differs, all of it. @param refused  set to the key of the last that failed
 * @return CP_OK, or the code of `error`: that of the last that failed */
static int change(const struct tcp_options *was, const struct tcp_options *now, unsigned on, int fd, const char *where,
				  const char **refused, struct cp_error *error)
{
	int result = CP_OK;
	if (strcmp(was->congestion, now->congestion) != 0 && set_congestion(fd, now->congestion) < 0) {
		*refused = "congestion";
		result = congestion_error(now->congestion, errno, where, error);
	}
	for (const struct option *option = options; option < options + OPTIONS; option++) {
		int value = value_of(now, option);
		if (!(option->on & on) || value == value_of(was, option) || set_number(fd, option, value) == 0)
			continue;
		*refused = option->key;
		result = option_error(option->key, errno, where, error);
	}
	return result;
}

/* ---- Sockets that listen ------------------------------------------------------------------------------------ */

int tcp_options_change(const struct tcp_options *was, const struct tcp_options *now, int fd, const char *where,
					   struct cp_error *error)
{
	const char *refused;
	was = was ? was : &none;
	now = now ? now : &none;
	int result = change(was, now, ON_LISTENER, fd, where, &refused, error);
	/* listen() on a socket that listens changes the length of its queue, and nothing else. */
	if (was->backlog != now->backlog && listen(fd, tcp_options_backlog(now)) < 0)
		result = option_error("backlog", errno, where, error);
	return result;
}

int tcp_options_listener(const struct tcp_options *set, int fd, const char *where, struct cp_error *error)
{
	const char *refused;
	return set ? change(&none, set, ON_LISTENER, fd, where, &refused, error) : CP_OK;
}

int tcp_options_try(const struct tcp_options *set, int family, const char *where, const char **refused,
					struct cp_error *error)
{
	const char *ignored;
	int fd = set ? socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0) : -1;
	if (fd < 0)
		return CP_OK; /* nothing to find out, or no way to */
	int result = change(&none, set, ON_LISTENER, fd, where, refused ? refused : &ignored, error);
	close(fd);
	return result;
}

/* ---- Sockets that connect ----------------------------------------------------------------------------------- */

static int set_fast_open(int fd, const char *where, struct cp_error *error)
{
	int one = 1;
	if (setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &one, sizeof(one)) == 0)
		return CP_OK;
	if (errno == EOPNOTSUPP)
		return cp_error_set(error, CP_EUNSUPPORTED, where,
							"cannot set fast_open: the kernel has it turned off for connecting "
							"(bit 1 of net.ipv4.tcp_fastopen)");
	return option_error("fast_open", errno, where, error);
}

int tcp_options_target(const struct tcp_options *set, int fd, const struct cp_peer *to, bool early,
					   struct cp_error *error)
{
	if (!set)
		return CP_OK;
	char where[CP_PEER_TEXT];
	const char *refused;
	const struct cp_ip *source = &set->source[to->ip.family == 6];
	cp_peer_print(to, where, sizeof(where));
	int result = change(&none, set, ON_TARGET, fd, where, &refused, error);
	if (result == CP_OK && source->family)
		result = socket_bind_source(fd, source, where, error);
	if (result == CP_OK && early && set->fast_open)
		result = set_fast_open(fd, where, error);
	return result;
}
