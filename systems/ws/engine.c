/* Contexts of libwebsockets, one for each worker.
 *
 * libwebsockets is one for the process: its allocator and its log are set once, and contexts have to be made one after
 * another on one thread. So there are statics here, written by the main task when the first generation is loaded, and
 * only read afterwards; and again, if every worker has left its own and something is loaded anew. A worker's engine is
 * the worker's own from then on. It is counted by the loads that use it, and ends with the last one, which is when the
 * worker ends; it stays over every reload, since ending a context ends its connections.
 *
 * There is no TLS in these contexts: see ws.h. */
#include "engine.h"

#include "deflate.h"

#include <connpipe/counter.h>
#include <connpipe/log.h>
#include <connpipe/loop.h>

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	HANDSHAKE_S = 3600, /* libwebsockets' own patience with handshakes: time is kept by who asks for one */
	BLOCKS_MOST = 8,
	BLOCK_LEAST = 65536,
	RECEIVE_ROOM = LWS_PRE + 256,
	SOCKET_PARTS = 2, /* so that a connection may have four: a client's over TLS with the pair that bridge.c makes, a
						 target's */
	SPARE = 1024,     /* for all that is no connection */
	BOUND_LEAST = 4096,
	BOUND_MOST = 10000000, /* with a limit above this, libwebsockets takes 2560 */
};

static struct ws_engine *engines;
static atomic_uint engines_gone; /* how many of them were destroyed by their workers */
static uint32_t engine_count;
static cp_counter counters[WS_EVENT_COUNT];
static int bound; /* descriptors from this on are too high; see bound_set() */

struct ws_engine *engine_of(const struct cp_loop *loop)
{
	uint32_t index = cp_loop_index(loop);
	return index < engine_count ? &engines[index] : NULL;
}

struct ws_engine *engine_of_wsi(struct lws *wsi)
{
	return lws_context_user(lws_get_context(wsi));
}

/* ---- Memory ------------------------------------------------------------------------------------------------- */

/* Large blocks that were allocated while a context is made; see give_back(). Main task. */
static struct {
	char *at;
	size_t size;
} blocks[BLOCKS_MOST];
static unsigned block_count;
static bool making;

/** The memory of libwebsockets. Its own allocator counts in a variable that all threads write.
 *
 * Each accepting connection has a buffer of its protocol's rx_buffer_size, "rx_ubuf", which decides how much is read at
 * once. Payload never gets there (it is handed out where it was read); only control frames do, which have 125 bytes at
 * most. So that much is all that it gets: with 64 KiB reads, idle connections would else cost 64 KiB. */
static void *on_allocate(void *old, size_t size, const char *why)
{
	if (size == 0) {
		free(old);
		return NULL;
	}
#if LWS_LIBRARY_VERSION_NUMBER < 4002000
	if (!old && size > RECEIVE_ROOM && strcmp(why, "rx_ubuf") == 0)
		size = RECEIVE_ROOM;
#endif
	void *block = realloc(old, size);
	if (making && block && size >= BLOCK_LEAST && block_count < BLOCKS_MOST) {
		blocks[block_count].at = block;
		blocks[block_count++].size = size;
	}
	return block;
}

/** Give back the pages of tables that nothing was written to but zeros. A context has tables with a place for each
 * descriptor that the process may ever have, 16 bytes each, zeroed by writing: 16 MiB with a limit of a million.
 * Reading a page that was given back gives zeros. (Where pages are larger than 4 KiB, madvise() refuses, and nothing is
 * gained.) */
static void give_back(void)
{
	static const char zeros[4096];
	for (unsigned i = 0; i < block_count; i++) {
		char *at = (char *)(((uintptr_t)blocks[i].at + sizeof(zeros) - 1) & ~(uintptr_t)(sizeof(zeros) - 1));
		char *end = blocks[i].at + blocks[i].size - sizeof(zeros), *first = at;
		for (; at <= end; at += sizeof(zeros)) {
			if (memcmp(at, zeros, sizeof(zeros)) == 0)
				continue;
			madvise(first, (size_t)(at - first), MADV_DONTNEED);
			first = at + sizeof(zeros);
		}
		madvise(first, (size_t)(at - first), MADV_DONTNEED);
	}
	block_count = 0;
}

/* ---- Log ---------------------------------------------------------------------------------------------------- */

/** What peers do wrong is told by the pipes. `calling service` is a remainder of somebody's debugging. */
static void on_log(int level, const char *line)
{
	size_t length = strcspn(line, "\n");
	(void)level;
	if (cp_log_enabled(CP_DEBUG) && !strstr(line, "calling service"))
		cp_log(CP_DEBUG, "ws", "libwebsockets: %.*s", (int)length, line);
}

/* ---- Descriptors -------------------------------------------------------------------------------------------- */

/* A context has a table with a place for each descriptor below the soft limit that it finds. As Debian builds it,
 * libwebsockets walks through all of it whenever a connection ends: 0.7 ms with a limit of a million. So while contexts
 * are made the limit is what the connections need that are allowed. What has a higher number is moved below it. */

/** Lower the limit. @param real  set to what is to be put back */
static void bound_set(struct rlimit *real)
{
	uint64_t sockets = cp_socket_limit();
	uint64_t need = sockets < BOUND_MOST ? sockets * SOCKET_PARTS + SPARE : BOUND_MOST;
	struct rlimit low;
	if (need < BOUND_LEAST)
		need = BOUND_LEAST;
	if (need > BOUND_MOST)
		need = BOUND_MOST;
	getrlimit(RLIMIT_NOFILE, real);
	low = *real;
	low.rlim_cur = need < real->rlim_max ? need : real->rlim_max; /* the soft limit becomes the hard one later */
	bound = (int)low.rlim_cur;
	setrlimit(RLIMIT_NOFILE, &low);
}

/** @param next  the lowest number that was free, or -1 with errno: none at all */
static int bound_error(int next, struct cp_error *error)
{
	if (next < 0)
		return cp_error_set(error, cp_err_from_errno(errno), NULL, "no descriptor for a websocket: %s",
							strerror(errno));
	return cp_error_set(error, CP_EMFILE, NULL,
						"no descriptor below %d is free, as libwebsockets needs it for a websocket: raise "
						"limits.connections and restart",
						bound);
}

int engine_lower(int fd, struct cp_error *error)
{
	if (fd < bound)
		return fd;
	int lower = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (lower >= 0 && lower < bound) {
		close(fd);
		return lower;
	}
	int result = bound_error(lower, error);
	if (lower >= 0)
		close(lower);
	return result;
}

int engine_check_free(int fd, struct cp_error *error)
{
	int next = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	int result = next >= 0 && next < bound ? CP_OK : bound_error(next, error);
	if (next >= 0)
		close(next);
	return result;
}

/* ---- Connecting --------------------------------------------------------------------------------------------- */

/* libwebsockets makes the connections of its connecting sides itself, and has no function that takes one. But it can
 * connect to a unix socket, which succeeds at once; and then it sends its request, before it returns. So it is given
 * the address of a socket that listens here; the request is taken from there, and its descriptor becomes the real one.
 *
 * It also must not be given the real one earlier: when it cannot send its request it frees the connection, and uses it
 * afterwards.
 *
 * The address is an abstract one that the kernel chooses, which everybody on the machine can see and connect to. So
 * there is a socket for each connect, for the microseconds that it takes: nobody has the time to fill its queue, and
 * whatever goes wrong leaves nothing behind that the next connect would take for its own. Who does come is dropped. */

static int listener_open(struct ws_engine *engine)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	socklen_t length = sizeof(name);
	engine->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (engine->listener < 0 || bind(engine->listener, (struct sockaddr *)&name, sizeof(name.sun_family)) < 0 ||
		listen(engine->listener, SOMAXCONN) < 0 || getsockname(engine->listener, (struct sockaddr *)&name, &length) < 0)
		return -1;
	snprintf(engine->address, sizeof(engine->address), "+@%.*s",
			 (int)(length - offsetof(struct sockaddr_un, sun_path)) - 1, name.sun_path + 1);
	return 0;
}

void engine_unlisten(struct ws_engine *engine)
{
	if (engine->listener >= 0)
		close(engine->listener);
	engine->listener = -1;
}

int engine_listen(struct ws_engine *engine, struct cp_error *error)
{
	int result = CP_OK;
	if (listener_open(engine) < 0)
		result = cp_error_set(error, cp_err_from_errno(errno), NULL, "cannot make a unix socket: %s", strerror(errno));
	else
		result = engine_check_free(engine->listener, error);
	if (result != CP_OK)
		engine_unlisten(engine);
	return result;
}

/** @return the other end of what this process has connected to the listener, or -1 */
static int listener_accept(struct ws_engine *engine)
{
	int fd;
	while ((fd = accept4(engine->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct ucred who = {0};
		socklen_t length = sizeof(who);
		if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) == 0 && who.pid == getpid())
			return fd;
		close(fd);
	}
	return -1;
}

int engine_replace(struct ws_engine *engine, struct lws *wsi, int fd, char *sent, size_t room)
{
	int other = listener_accept(engine);
	ssize_t got = other >= 0 ? recv(other, sent, room - 1, 0) : -1;
	int result = got < 0 || dup3(fd, lws_get_socket_fd(wsi), O_CLOEXEC) < 0 ? cp_err_from_errno(errno) : CP_OK;
	sent[got > 0 ? got : 0] = '\0';
	if (other >= 0)
		close(other);
	return result;
}

/* ---- Contexts ----------------------------------------------------------------------------------------------- */

/* `tx_packet_size` is how much is sent at once; 0 means that it copies. */
static const struct lws_protocols accepting_protocols[] = {
	{.name = ENGINE_ACCEPTING,
	 .callback = stream_callback,
	 .rx_buffer_size = ENGINE_READ,
	 .tx_packet_size = ENGINE_SCRATCH},
	{.name = NULL},
};
static const struct lws_protocols connecting_protocols[] = {
	{.name = ENGINE_CONNECTING,
	 .callback = stream_callback,
	 .rx_buffer_size = ENGINE_READ_OUT,
	 .tx_packet_size = ENGINE_SCRATCH},
	{.name = NULL},
};
/* No pings of its own: they would be in a sorted list of all connections, to which adding takes time in proportion. */
static const lws_retry_bo_t no_pings;

static struct lws_vhost *vhost_new(struct ws_engine *engine, const char *name, int port,
								   const struct lws_protocols *protocols)
{
	struct lws_context_creation_info info = {
		.vhost_name = name,
		.port = port,
		.protocols = protocols,
		.retry_and_idle_policy = &no_pings,
		.alpn = "http/1.1",
		.extensions = deflate_extensions,
		/* Without these it takes $http_proxy and $socks_proxy for its connections to itself. */
		.http_proxy_address = ":0",
#ifdef LWS_WITH_SOCKS5
		.socks_proxy_address = ":0",
#endif
	};
	return lws_create_vhost(engine->context, &info);
}

static void engine_destroy(struct ws_engine *engine)
{
	if (engine->context)
		lws_context_destroy(engine->context);
	evlib_free(engine->evlib);
	free(engine->scratch);
	*engine = (struct ws_engine){.listener = -1};
}

static int failed(const char *what, struct cp_error *error)
{
	return cp_error_set(error, CP_EIO, NULL, "websockets are not possible: %s", what);
}

static int context_create(struct ws_engine *engine, struct cp_error *error)
{
	struct lws_context_creation_info info = {
		.port = CONTEXT_PORT_NO_LISTEN_SERVER,
		.options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS,
		.pt_serv_buf_size = ENGINE_READ + LWS_PRE,
		.max_http_header_data2 = WS_HEAD_MOST,
		.timeout_secs = HANDSHAKE_S,
		.retry_and_idle_policy = &no_pings,
		.user = engine,
	};
	void *loops[1];
	evlib_use(engine->evlib, loops, &info);
	making = true;
	engine->context = lws_create_context(&info);
	making = false;
	give_back();
	if (!engine->context)
		return failed("libwebsockets cannot be started; is its package libwebsockets-evlib-ev installed?", error);
	if (!evlib_was_found(engine->evlib))
		return failed("libwebsockets found another libev than connpipe's own", error);
	engine->accepting = vhost_new(engine, "accepting", CONTEXT_PORT_NO_LISTEN_SERVER, accepting_protocols);
	engine->connecting = vhost_new(engine, "connecting", CONTEXT_PORT_NO_LISTEN, connecting_protocols);
	if (!engine->accepting || !engine->connecting)
		return failed("libwebsockets has no memory", error);
	lws_cancel_service(engine->context); /* it finishes its preparations when it is woken up */
	return CP_OK;
}

static int engine_create(struct ws_engine *engine, struct cp_error *error)
{
	*engine = (struct ws_engine){.listener = -1, .evlib = evlib_new(), .scratch = malloc(LWS_PRE + ENGINE_SCRATCH)};
	if (!engine->evlib || !engine->scratch)
		return cp_error_set(error, CP_ENOMEM, NULL, "out of memory");
	return context_create(engine, error);
}

/** Every worker has left its own: what comes now begins anew. */
static void forget_all(void)
{
	free(engines);
	engines = NULL;
	engine_count = 0;
	atomic_store(&engines_gone, 0);
}

static void destroy_all(void)
{
	for (uint32_t i = 0; i < engine_count; i++)
		engine_destroy(&engines[i]);
	forget_all();
}

static void make_counters(void)
{
#define WS_EVENT_GET(event, name, help) counters[event] = cp_counter_get(name, CP_COUNTER, help);
	WS_EVENTS(WS_EVENT_GET)
#undef WS_EVENT_GET
}

int ws_engines_start(struct cp_system *core, struct cp_error *error)
{
	uint32_t count = cp_worker_count();
	if (engines && atomic_load(&engines_gone) == engine_count)
		forget_all();
	if (engines || count == 0 || (core && cp_system_checking(core)))
		return CP_OK;
	engines = calloc(count, sizeof(*engines));
	if (!engines)
		return cp_error_set(error, CP_ENOMEM, NULL, "out of memory");
	make_counters();
	lws_set_allocator(on_allocate);
	lws_set_log_level(LLL_ERR | LLL_WARN, on_log);
	int result = CP_OK;
	struct rlimit real;
	bound_set(&real);
	for (; engine_count < count && result == CP_OK; engine_count++)
		result = engine_create(&engines[engine_count], error);
	setrlimit(RLIMIT_NOFILE, &real);
	/* It formats in memory that all threads share (logs.c): not while there are several. */
	lws_set_log_level(0, on_log);
	if (result != CP_OK)
		destroy_all();
	return result;
}

void ws_count(struct cp_loop *loop, enum ws_event event)
{
	if (engine_of(loop))
		cp_count(loop, counters[event], 1);
}

/* ---- Use ---------------------------------------------------------------------------------------------------- */

int ws_engine_use(struct cp_loop *loop, struct cp_error *error)
{
	struct ws_engine *engine = engine_of(loop);
	if (!engine || !engine->context)
		return cp_error_set(error, CP_EINVAL, NULL, "there is no websocket engine on this worker");
	if (engine->users++ == 0) {
		engine->loop = loop;
		evlib_attach(engine->evlib, loop);
	}
	return CP_OK;
}

void ws_engine_leave(struct cp_loop *loop)
{
	struct ws_engine *engine = engine_of(loop);
	if (!engine || !engine->users || --engine->users > 0)
		return;
	engine_destroy(engine);
	atomic_fetch_add(&engines_gone, 1);
}
