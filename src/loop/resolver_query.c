/* Queries through c-ares 1.18: see resolver_query.h.
 *
 *     starting ──▶ waiting ──▶ finished        called back by c-ares; `done` runs at the end of the turn
 *         │           └──────▶ abandoned       QUERY_LIMIT has passed; `done` was told; c-ares still holds it
 *         └──────────────────▶ finished        called back at once: the hosts file, or no way to ask at all
 *
 * c-ares calls back from inside its own functions, where it is not safe to call all of it again. So its callback only
 * keeps the result; who asked is called by a deferred call.
 *
 * c-ares cannot give up a single query, so one whose time has passed is left to it and forgotten when it comes back. */
#include "resolver_query.h"

#include "../base/memory.h"
#include "loop.h"

#include <connpipe/log.h>

#include <ares.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

enum {
	TRIES = 2,         /* for each name server; the second one waits twice as long: */
	TRIES_TIME = 1500, /* milliseconds of all first tries; all tries together stay below QUERY_LIMIT */
	ANSWER_MAX = 1000, /* addresses of one name that are kept */
	LOOPBACKS = 2,     /* added to what the hosts file says about localhost */
};

enum query_state { QUERY_STARTING, QUERY_WAITING, QUERY_FINISHED, QUERY_ABANDONED };

struct query {
	struct query *next; /* in a list of the channel */
	struct query_channel *channel;
	query_done *done;
	void *arg;
	struct cp_timer limit;
	enum query_state state;
	struct query_result result;
	bool localhost;
	char host[];
};

struct socket_watch {
	struct socket_watch *next;
	int fd;
	struct cp_watch *watch;
};

struct query_channel {
	struct cp_loop *loop;
	ares_channel ares;         /* NULL: not started */
	struct stat configuration; /* of /etc/resolv.conf when it was started; zeros: there was none */
	unsigned servers_version;
	struct socket_watch *sockets;
	struct cp_timer timer;  /* when c-ares wants to be called without an event */
	struct query *orphans;  /* whose c-ares channel was destroyed */
	struct query *finished; /* to be told to who asked */
	struct cp_deferred tell;
};

static struct {
	char *list;       /* instead of the system's; NULL: those */
	unsigned version; /* channels made with another one are out of date */
} servers;

void resolver_set_servers(const char *list)
{
	free(servers.list);
	servers.list = list ? xstrdup(list) : NULL;
	servers.version++;
}

int resolver_library_init(struct cp_error *error)
{
	int status = ares_library_init(ARES_LIB_INIT_ALL);

	if (status == ARES_SUCCESS)
		return CP_OK;
	return cp_error_set(error, CP_EIO, NULL, "cannot start c-ares: %s", ares_strerror(status));
}

void resolver_library_deinit(void)
{
	resolver_set_servers(NULL);
	ares_library_cleanup();
}

/* ---- Results ------------------------------------------------------------------------------------------------ */

static struct query_result failed(enum cp_err code, const char *reason)
{
	return (struct query_result){.code = code, .reason = reason};
}

static struct query_result denied(const char *reason)
{
	return (struct query_result){.code = CP_ERESOLVE, .reason = reason, .denied = true};
}

static struct query_result result_of_failure(int status)
{
	switch (status) {
	case ARES_ENOTFOUND:
		return denied("there is no such name");
	case ARES_ENODATA:
		return denied("the name has no addresses");
	case ARES_ETIMEOUT:
		return failed(CP_ERESOLVE, "no answer from the name servers");
	case ARES_ECONNREFUSED: /* c-ares says this also when all of them have answered SERVFAIL or REFUSED */
	case ARES_ESERVFAIL:
	case ARES_EREFUSED:
		return failed(CP_ERESOLVE, "the name servers cannot be reached, or fail or refuse to answer");
	case ARES_EBADRESP:
	case ARES_EFORMERR:
	case ARES_ENOTIMP:
		return failed(CP_ERESOLVE, "the name servers' answer makes no sense");
	case ARES_EBADNAME:
	case ARES_EBADQUERY:
		return failed(CP_EINVAL, "not a valid name of a host");
	case ARES_ENOMEM:
		return failed(CP_ENOMEM, "out of memory");
	default:
		return failed(CP_ERESOLVE, ares_strerror(status));
	}
}

static bool has_ip(const struct query_answer *answer, const struct cp_ip *ip)
{
	for (uint32_t i = 0; i < answer->count; i++) {
		if (cp_ip_equal(&answer->ips[i], ip))
			return true;
	}
	return false;
}

/** RFC 6761, 6.3: localhost is the loopback addresses. What the hosts file says comes first; it often lacks one. */
static void add_loopbacks(struct query_answer *answer)
{
	static const struct cp_ip loopbacks[LOOPBACKS] = {
		{.family = 4, .bytes = {127, 0, 0, 1}},
		{.family = 6, .bytes = {[15] = 1}},
	};

	for (int i = 0; i < LOOPBACKS; i++) {
		if (!has_ip(answer, &loopbacks[i]))
			answer->ips[answer->count++] = loopbacks[i];
	}
}

static uint64_t ttl_of(const struct ares_addrinfo *info)
{
	int seconds = QUERY_TTL_MAX / 1000;

	for (const struct ares_addrinfo_node *node = info->nodes; node; node = node->ai_next) {
		if (node->ai_ttl < seconds)
			seconds = node->ai_ttl;
	}
	for (const struct ares_addrinfo_cname *cname = info->cnames; cname; cname = cname->next) {
		if (cname->ttl < seconds)
			seconds = cname->ttl;
	}
	return seconds < QUERY_TTL_MIN / 1000 ? QUERY_TTL_MIN : (uint64_t)seconds * 1000;
}

static struct query_answer *answer_of(const struct ares_addrinfo_node *nodes)
{
	struct query_answer *answer;
	struct cp_peer peer;
	uint32_t room = LOOPBACKS;

	for (const struct ares_addrinfo_node *node = nodes; node; node = node->ai_next)
		room += room < ANSWER_MAX;
	answer = xmalloc(sizeof(*answer) + room * sizeof(answer->ips[0]));
	answer->next = NULL;
	answer->count = 0;
	for (const struct ares_addrinfo_node *node = nodes; node && answer->count + LOOPBACKS < room;
		 node = node->ai_next) {
		cp_peer_from_sockaddr(node->ai_addr, node->ai_addrlen, &peer);
		if (peer.ip.family != 0)
			answer->ips[answer->count++] = peer.ip;
	}
	return answer;
}

static struct query_result result_of(const struct query *query, int status, const struct ares_addrinfo *info)
{
	struct query_result result = {.code = CP_OK};
	bool at_once = query->state == QUERY_STARTING; /* from the hosts file: name servers take longer */

	if (status != ARES_SUCCESS && !query->localhost)
		return result_of_failure(status);
	result.answer = answer_of(info ? info->nodes : NULL);
	if (query->localhost)
		add_loopbacks(result.answer);
	result.ttl = at_once || !info ? QUERY_TTL_HOSTS : ttl_of(info);
	if (result.answer->count > 0)
		return result;
	free(result.answer);
	return denied("the name has no addresses");
}

/* ---- Ending ------------------------------------------------------------------------------------------------- */

static void tell_finished(struct cp_deferred *deferred)
{
	struct query_channel *channel = (struct query_channel *)((char *)deferred - offsetof(struct query_channel, tell));
	struct query *query = channel->finished, *next;

	channel->finished = NULL;
	for (; query; query = next) {
		next = query->next;
		query->done(&query->result, query->arg);
		free(query);
	}
}

static void finish(struct query *query, struct query_result result)
{
	struct query_channel *channel = query->channel;

	query->result = result;
	if (query->state == QUERY_WAITING) {
		cp_timer_stop(&query->limit);
		query->next = channel->finished;
		channel->finished = query;
		cp_defer(channel->loop, &channel->tell, tell_finished);
	}
	query->state = QUERY_FINISHED;
}

/* c-ares calls back. A channel that is destroyed does so for every query; they are asked again in the next one. */
static void on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *info)
{
	struct query *query = arg;

	(void)timeouts;
	if (query->state == QUERY_ABANDONED) {
		free(query);
	} else if (status == ARES_EDESTRUCTION) {
		query->next = query->channel->orphans;
		query->channel->orphans = query;
	} else {
		finish(query, result_of(query, status, info));
	}
	ares_freeaddrinfo(info);
}

static void on_limit(struct cp_timer *timer)
{
	struct query *query = (struct query *)((char *)timer - offsetof(struct query, limit));
	struct query_result result = result_of_failure(ARES_ETIMEOUT);

	query->state = QUERY_ABANDONED;
	query->done(&result, query->arg);
}

/* ---- Sockets and time --------------------------------------------------------------------------------------- */

static void set_timer(struct query_channel *channel)
{
	struct timeval wait;

	if (ares_timeout(channel->ares, NULL, &wait))
		cp_timer_start(&channel->timer, (uint64_t)wait.tv_sec * 1000 + ((uint64_t)wait.tv_usec + 999) / 1000);
	else
		cp_timer_stop(&channel->timer);
}

static void on_timer(struct cp_timer *timer)
{
	struct query_channel *channel = (struct query_channel *)((char *)timer - offsetof(struct query_channel, timer));

	ares_process_fd(channel->ares, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	set_timer(channel);
}

static void on_socket_ready(int fd, unsigned events, void *arg)
{
	struct query_channel *channel = arg;

	ares_process_fd(channel->ares, events & CP_READABLE ? fd : ARES_SOCKET_BAD,
					events & CP_WRITABLE ? fd : ARES_SOCKET_BAD);
	set_timer(channel);
}

static void socket_forget(struct socket_watch **link)
{
	struct socket_watch *socket = *link;

	*link = socket->next;
	cp_watch_free(socket->watch);
	free(socket);
}

static void socket_add(struct query_channel *channel, int fd, unsigned events)
{
	struct socket_watch *socket;
	struct cp_error error;
	struct cp_watch *watch = cp_watch_new(channel->loop, fd, events, on_socket_ready, channel, &error);

	if (!watch) { /* the query runs into its time limit */
		cp_log(CP_WARN, "resolver", "%s", error.message);
		return;
	}
	socket = xmalloc(sizeof(*socket));
	*socket = (struct socket_watch){.next = channel->sockets, .fd = fd, .watch = watch};
	channel->sockets = socket;
}

/* c-ares says what it waits for on a socket; for nothing: before it closes it. */
static void on_socket_state(void *arg, ares_socket_t fd, int readable, int writable)
{
	struct query_channel *channel = arg;
	unsigned events = (readable ? CP_READABLE : 0u) | (writable ? CP_WRITABLE : 0u);
	struct socket_watch **link = &channel->sockets;

	while (*link && (*link)->fd != fd)
		link = &(*link)->next;
	if (!*link && events != 0)
		socket_add(channel, fd, events);
	else if (*link && events == 0)
		socket_forget(link);
	else if (*link)
		cp_watch_set((*link)->watch, events);
}

/* ---- The channel -------------------------------------------------------------------------------------------- */

static unsigned count_servers(ares_channel ares)
{
	struct ares_addr_port_node *list = NULL;
	unsigned count = 0;

	if (ares_get_servers_ports(ares, &list) != ARES_SUCCESS)
		return 0;
	for (const struct ares_addr_port_node *server = list; server; server = server->next)
		count++;
	ares_free_data(list);
	return count;
}

/** @param timeout  of a first try, milliseconds @return c-ares' status */
static int open_ares(struct query_channel *channel, int timeout, ares_channel *ares)
{
	struct ares_options options = {
		.timeout = timeout,
		.tries = TRIES,
		.lookups = (char *)"fb", /* the hosts file, then the name servers */
		.sock_state_cb = on_socket_state,
		.sock_state_cb_data = channel,
	};
	int status = ares_init_options(ares, &options,
								   ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS | ARES_OPT_SOCK_STATE_CB);

	if (status != ARES_SUCCESS)
		return status;
	if (servers.list)
		status = ares_set_servers_ports_csv(*ares, servers.list);
	if (status != ARES_SUCCESS)
		ares_destroy(*ares);
	return status;
}

/* With several name servers each gets its part of the time, so that the last one has its chance too. How many there are
 * is known only from an open channel. */
static int open_channel(struct query_channel *channel)
{
	ares_channel ares;
	unsigned count;
	int status = open_ares(channel, TRIES_TIME, &ares);

	if (status != ARES_SUCCESS)
		return status;
	count = count_servers(ares);
	if (count > 1) {
		ares_destroy(ares);
		status = open_ares(channel, TRIES_TIME / (int)count, &ares);
	}
	if (status == ARES_SUCCESS)
		channel->ares = ares;
	return status;
}

static void close_channel(struct query_channel *channel)
{
	if (channel->ares)
		ares_destroy(channel->ares);
	channel->ares = NULL;
	cp_timer_stop(&channel->timer);
}

static void issue(struct query *query)
{
	static const struct ares_addrinfo_hints hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};

	ares_getaddrinfo(query->channel->ares, query->localhost ? "localhost" : query->host, NULL, &hints, on_answer,
					 query);
}

/* Queries that are under way in an old channel are asked again in the new one; their time limits go on. */
static void reopen_channel(struct query_channel *channel)
{
	struct query *query;
	int status;

	close_channel(channel);
	status = open_channel(channel);
	while ((query = channel->orphans)) {
		channel->orphans = query->next;
		if (status == ARES_SUCCESS)
			issue(query);
		else
			finish(query, result_of_failure(status));
	}
}

static bool is_current(const struct query_channel *channel, const struct stat *now)
{
	const struct stat *then = &channel->configuration;

	return channel->ares && channel->servers_version == servers.version && then->st_dev == now->st_dev &&
		   then->st_ino == now->st_ino && then->st_size == now->st_size &&
		   then->st_mtim.tv_sec == now->st_mtim.tv_sec && then->st_mtim.tv_nsec == now->st_mtim.tv_nsec;
}

/** Start c-ares, or start it again when what it has read has changed: its own channels never look again. */
static bool keep_current(struct query_channel *channel)
{
	struct stat configuration;

	if (stat("/etc/resolv.conf", &configuration) < 0)
		memset(&configuration, 0, sizeof(configuration));
	if (!is_current(channel, &configuration))
		reopen_channel(channel);
	channel->configuration = configuration;
	channel->servers_version = servers.version;
	return channel->ares != NULL;
}

static bool is_localhost(const char *host)
{
	static const char suffix[] = ".localhost";
	size_t length = strlen(host);

	if (length > 0 && host[length - 1] == '.')
		length--;
	if (length == sizeof(suffix) - 2)
		return memcmp(host, suffix + 1, length) == 0;
	return length >= sizeof(suffix) - 1 &&
		   memcmp(host + length - (sizeof(suffix) - 1), suffix, sizeof(suffix) - 1) == 0;
}

bool query_start(struct query_channel *channel, const char *host, query_done *done, void *arg,
				 struct query_result *result)
{
	size_t size = strlen(host) + 1;
	struct query *query;

	if (!keep_current(channel)) {
		*result = failed(CP_ERESOLVE, "it is not known which name servers to ask: /etc/resolv.conf cannot be read");
		return false;
	}
	query = xcalloc(1, sizeof(*query) + size);
	memcpy(query->host, host, size);
	query->channel = channel;
	query->done = done;
	query->arg = arg;
	query->localhost = is_localhost(host);
	cp_timer_init(&query->limit, channel->loop, on_limit);
	issue(query);
	set_timer(channel);
	if (query->state == QUERY_FINISHED) {
		*result = query->result;
		free(query);
		return false;
	}
	query->state = QUERY_WAITING;
	cp_timer_start(&query->limit, QUERY_LIMIT);
	return true;
}

struct query_channel *query_channel_new(struct cp_loop *loop)
{
	struct query_channel *channel = xcalloc(1, sizeof(*channel));

	channel->loop = loop;
	cp_timer_init(&channel->timer, loop, on_timer);
	return channel;
}

static void free_queries(struct query *query)
{
	struct query *next;

	for (; query; query = next) {
		next = query->next;
		cp_timer_stop(&query->limit);
		free(query->result.answer);
		free(query);
	}
}

void query_channel_free(struct query_channel *channel)
{
	close_channel(channel);
	free_queries(channel->orphans);
	free_queries(channel->finished);
	free(channel);
}
