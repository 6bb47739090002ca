#include "task_memo.h"

#include "base/counter.h"
#include "task/main_state.h"
#include "task/pipe.h"
#include "task/worker.h"

#include <sched.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>

enum { BOUND_MOST = 8, PATIENCE_S = 20 };

struct memo_world memo_world = {.target_manner = {.room = MEMO_ANY}};

/* ---- The record --------------------------------------------------------------------------------------------- */

static void CP_PRINTF(2, 3) record(struct memo *m, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	pthread_mutex_lock(&calls_lock);
	size_t length = strlen(m->record);
	vsnprintf(m->record + length, sizeof(m->record) - length, format, arguments);
	pthread_cond_broadcast(&calls_changed);
	pthread_mutex_unlock(&calls_lock);
	va_end(arguments);
}

void memo_expect(struct memo *m, const char *wanted)
{
	struct timespec until;
	int result = 0;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PATIENCE_S;
	char copy[MEMO_RECORD];
	pthread_mutex_lock(&calls_lock);
	while (result == 0 && strcmp(m->record, wanted) != 0)
		result = pthread_cond_timedwait(&calls_changed, &calls_lock, &until);
	memcpy(copy, m->record, sizeof(copy));
	pthread_mutex_unlock(&calls_lock);
	cr_assert_str_eq(copy, wanted, "it is %s, expected %s", copy, wanted);
}

static void nothing(struct cp_loop *loop, void *arg)
{
	(void)loop, (void)arg;
}

void memo_turn(void)
{
	call(cp_worker_loop(0), nothing, NULL);
}

const char *memo_record(struct memo *m)
{
	static char copy[MEMO_RECORD];
	for (int turn = 0; turn < 3; turn++) /* what is deferred, and what that defers */
		memo_turn();
	pthread_mutex_lock(&calls_lock);
	memcpy(copy, m->record, sizeof(copy));
	pthread_mutex_unlock(&calls_lock);
	return copy;
}

/* ---- The stream --------------------------------------------------------------------------------------------- */

static struct memo *memo_of(struct cp_stream *stream)
{
	return (struct memo *)stream;
}

/** Call the user for what it waits for and is there. From the loop. */
static void tell(struct memo *m)
{
	unsigned ready = (m->read < m->said ? CP_READABLE : 0) | (m->manner.room ? CP_WRITABLE : 0);
	unsigned events = ready & m->armed;
	m->armed &= ~events;
	if (events)
		cp_stream_notify(&m->stream, events);
}

/** As much of what comes next as the user takes at once. */
static ssize_t hand_out(struct memo *m, struct memo_read *next, void *buffer, size_t room, unsigned *hints)
{
	size_t length = next->length, size = CP_SEGMENTS_SIZE(next->hints);
	if (size && !(*hints & CP_READ_SEGMENTS))
		length = size < length ? size : length;
	if (length > room)
		return CP_ELIMIT; /* no test says so much */
	if (length)
		memcpy(buffer, next->bytes, length);
	*hints = *hints & CP_READ_SEGMENTS ? next->hints : next->hints & 0xffff;
	next->bytes += length;
	next->length -= length;
	if (next->length == 0)
		m->read++;
	else
		*hints &= ~(unsigned)CP_READ_DRAINED;
	return (ssize_t)length;
}

static ssize_t memo_read(struct cp_stream *stream, const struct iovec *vec, int count, unsigned *hints)
{
	struct memo *m = memo_of(stream);
	const struct memo_read *last = m->read ? &m->reads[(m->read - 1) % MEMO_READS] : NULL;
	struct memo_read *next = m->read < m->said ? &m->reads[m->read % MEMO_READS] : NULL;
	(void)count;
	if (next && next->error)
		return next->error;
	if (next) {
		ssize_t got = hand_out(m, next, vec->iov_base, vec->iov_len, hints);
		if (*hints & CP_READ_DRAINED)
			m->armed |= CP_READABLE;
		return got;
	}
	m->armed |= CP_READABLE;
	if (!last || !(last->hints & CP_READ_END))
		return CP_AGAIN;
	*hints = last->hints & (CP_READ_END | CP_READ_OVER);
	return 0;
}

static ssize_t memo_write(struct cp_stream *stream, const struct iovec *vec, int count, unsigned flags)
{
	struct memo *m = memo_of(stream);
	char text[256] = "", size[16] = "";
	size_t length = 0;
	if (m->manner.room == 0) {
		m->armed |= CP_WRITABLE;
		return CP_AGAIN;
	}
	m->manner.room -= m->manner.room > 0;
	for (int i = 0; i < count; i++) {
		for (size_t k = 0; k < vec[i].iov_len && length + k < sizeof(text) - 1; k++) {
			unsigned char byte = ((unsigned char *)vec[i].iov_base)[k];
			text[length + k] = (char)(byte >= ' ' && byte < 0x7f ? byte : '.');
		}
		length += vec[i].iov_len;
	}
	if (CP_SEGMENTS_SIZE(flags))
		snprintf(size, sizeof(size), "/%u", CP_SEGMENTS_SIZE(flags));
	record(m, "[%s%s%s%s]", flags & CP_WRITE_TEXT ? "\"" : "", text, flags & CP_WRITE_MORE ? "+" : "", size);
	return (ssize_t)length;
}

static int memo_shutdown_write(struct cp_stream *stream)
{
	struct memo *m = memo_of(stream);
	if (m->manner.no_half_close)
		return CP_EUNSUPPORTED;
	record(m, "|");
	return CP_OK;
}

static void memo_close(struct cp_stream *stream, enum cp_cause cause)
{
	struct memo *m = memo_of(stream);
	cp_stream_set_user(stream, NULL, NULL);
	cp_stream_deinit(stream);
	record(m, "x %s", cp_cause_text(cause));
}

struct waking {
	struct cp_deferred deferred; /* first */
	struct memo *memo;
};

static void on_waking(struct cp_deferred *deferred)
{
	struct waking *waking = (struct waking *)deferred;
	tell(waking->memo);
	free(waking);
}

/** What is there before it is waited for is told of, too, once. */
static void memo_await(struct cp_stream *stream, unsigned events)
{
	struct waking *waking = calloc(1, sizeof(*waking));
	memo_of(stream)->armed |= events;
	waking->memo = memo_of(stream);
	cp_defer(stream->loop, &waking->deferred, on_waking);
}

static const struct cp_ending *memo_ending(struct cp_stream *stream)
{
	struct memo *m = memo_of(stream);
	return m->ending.code ? &m->ending : NULL;
}

static void memo_set_ending(struct cp_stream *stream, const struct cp_ending *ending)
{
	record(memo_of(stream), "{%u}", (unsigned)ending->code);
}

static const struct cp_stream_ops memo_ops = {
	.size = sizeof(memo_ops),
	.name = "memo",
	.read = memo_read,
	.write = memo_write,
	.shutdown_write = memo_shutdown_write,
	.close = memo_close,
	.await = memo_await,
	.ending = memo_ending,
	.set_ending = memo_set_ending,
};

/** Bytes have no words for an end. */
static const struct cp_stream_ops plain_ops = {
	.size = sizeof(plain_ops),
	.name = "memo",
	.read = memo_read,
	.write = memo_write,
	.shutdown_write = memo_shutdown_write,
	.close = memo_close,
	.await = memo_await,
};

static bool carries_bytes(const struct cp_connector *connector)
{
	return strcmp(connector->def->aliases[0], "plain") == 0;
}

static void begin(struct memo *m, struct cp_loop *loop, const struct cp_connector *connector)
{
	cp_stream_init(&m->stream, carries_bytes(connector) ? &plain_ops : &memo_ops, loop, connector->system);
	m->stream.messages = !carries_bytes(connector);
	m->stream.segments = m->manner.segments;
}

static struct memo *memos; /* for leak checkers: they stay, as the test looks at them behind their end */

struct memo *memo_new(const struct memo_manner *manner)
{
	struct memo *m = calloc(1, sizeof(*m));
	pthread_mutex_lock(&calls_lock);
	m->earlier = memos;
	memos = m;
	pthread_mutex_unlock(&calls_lock);
	m->manner = manner ? *manner : (struct memo_manner){.room = MEMO_ANY};
	return m;
}

/* ---- Listeners ---------------------------------------------------------------------------------------------- */

struct memo_acceptor {
	struct cp_acceptor acceptor; /* first */
	struct memo_acceptor *next;
	struct cp_loop *loop;
	cp_acceptor_ready *ready;
	void *arg;
	struct memo *waiting;
	struct cp_peer peer;
};

struct memo_listener {
	struct cp_listener listener; /* first */
	uint16_t port;
};

static struct memo_acceptor *acceptors; /* worker 0's */

static struct cp_acceptor *listener_open(struct cp_listener *listener, struct cp_loop *loop, cp_acceptor_ready *ready,
										 void *arg, struct cp_error *error)
{
	struct memo_acceptor *a = calloc(1, sizeof(*a));
	(void)error;
	*a = (struct memo_acceptor){{listener}, acceptors, loop, ready, arg, NULL, {{0}, 0}};
	acceptors = a;
	return &a->acceptor;
}

static int listener_accept(struct cp_acceptor *acceptor, struct cp_accepted *accepted, struct cp_error *error)
{
	struct memo_acceptor *a = (struct memo_acceptor *)acceptor;
	struct memo *m = a->waiting;
	(void)error;
	if (!m)
		return CP_AGAIN;
	a->waiting = NULL;
	begin(m, a->loop, acceptor->listener->connector);
	accepted->stream = &m->stream;
	accepted->peer = a->peer;
	return CP_OK;
}

static void listener_pause(struct cp_acceptor *acceptor)
{
	(void)acceptor;
}

static void listener_close(struct cp_acceptor *acceptor)
{
	struct memo_acceptor **at = &acceptors;
	while (&(*at)->acceptor != acceptor)
		at = &(*at)->next;
	*at = (*at)->next;
	free(acceptor);
}

static void listener_unbind(struct cp_listener *listener)
{
	free(listener);
}

static size_t listener_name(const struct cp_listener *listener, char *buffer, size_t room)
{
	return (size_t)snprintf(buffer, room, "memo:front:%u", ((const struct memo_listener *)listener)->port);
}

static const struct cp_listener_ops listener_ops = {
	.size = sizeof(listener_ops),
	.open = listener_open,
	.accept = listener_accept,
	.pause = listener_pause,
	.resume = listener_pause,
	.close = listener_close,
	.unbind = listener_unbind,
	.name = listener_name,
};

/* ---- Connectors --------------------------------------------------------------------------------------------- */

static int memo_bind(struct cp_connector *connector, const struct cp_address *address, uint32_t workers,
					 struct cp_listener **out, struct cp_error *error)
{
	struct memo_listener *l = calloc(1, sizeof(*l));
	(void)workers, (void)error;
	l->listener = (struct cp_listener){&listener_ops, connector};
	l->port = (uint16_t)cp_address_field(address, "port")->as.u;
	*out = &l->listener;
	return CP_OK;
}

static int memo_connect(struct cp_connector *connector, struct cp_open *open)
{
	struct memo *m = memo_new(&memo_world.target_manner);
	begin(m, open->loop, connector);
	open->stream = &m->stream;
	pthread_mutex_lock(&calls_lock);
	memo_world.targets[memo_world.target_count++] = m;
	pthread_cond_broadcast(&calls_changed);
	pthread_mutex_unlock(&calls_lock);
	return CP_OK;
}

static bool session_reroutes(const struct cp_address *address)
{
	(void)address;
	return memo_world.reroutes;
}

static const struct cp_field_def fields[] = {
	{.name = "addr", .kind = CP_STRING, .role = CP_ROLE_HOST},
	{.name = "port", .kind = CP_U16, .role = CP_ROLE_PORT},
	{.name = "multiplex", .kind = CP_STRING, .role = CP_ROLE_MULTIPLEX, .optional = true},
};

#define MEMO_CONNECTOR(name, bits, reroute)                    \
	static const char *const name##_aliases[] = {#name, NULL}; \
	static const struct cp_connector_def name##_def = {        \
		.size = sizeof(name##_def),                            \
		.aliases = name##_aliases,                             \
		.flags = bits,                                         \
		.fields = fields,                                      \
		.field_count = 3,                                      \
		.syntax = #name ":host:port!multiplex",                \
		.bind = memo_bind,                                     \
		.connect = memo_connect,                               \
		.reroutes = reroute,                                   \
	};

MEMO_CONNECTOR(memo, CP_CONNECTOR_MESSAGES, NULL)
MEMO_CONNECTOR(session, CP_CONNECTOR_MESSAGES | CP_CONNECTOR_SESSIONS, session_reroutes)
MEMO_CONNECTOR(both, CP_CONNECTOR_ANY, NULL)
MEMO_CONNECTOR(plain, 0, NULL)

static int load(struct cp_system *self, const struct cp_settings *settings)
{
	static const struct cp_connector_def *const defs[] = {&memo_def, &session_def, &both_def, &plain_def};
	int result = CP_OK;
	(void)settings;
	for (size_t i = 0; i < sizeof(defs) / sizeof(*defs) && result == CP_OK; i++)
		result = cp_register_connector(self, defs[i], NULL, NULL);
	return result;
}

const struct cp_system_def memo_system = {
	.abi = CP_ABI_VERSION, .size = sizeof(memo_system), .id = "test.memo", .load = load};

/* ---- What the test does ------------------------------------------------------------------------------------- */

struct arrival {
	struct memo *client;
	struct cp_peer peer;
	uint16_t port;
	bool taken;
};

static void arrive(struct cp_loop *loop, void *arg)
{
	struct arrival *arrival = arg;
	struct memo_acceptor *a = acceptors;
	(void)loop;
	while (a && ((struct memo_listener *)a->acceptor.listener)->port != arrival->port)
		a = a->next;
	if (!a)
		return;
	a->waiting = arrival->client;
	a->peer = arrival->peer;
	a->ready(&a->acceptor, a->arg);
	arrival->taken = a->waiting == NULL;
}

void memo_arrive(struct memo *client, uint16_t port, const char *ip)
{
	struct arrival arrival = {.client = client, .peer = {.port = 1234}, .port = port};
	cr_assert(cp_ip_parse(ip, strlen(ip), &arrival.peer.ip));
	while (!arrival.taken) {
		call(cp_worker_loop(0), arrive, &arrival);
		sched_yield();
	}
}

struct memo *memo_target(uint32_t n)
{
	pthread_mutex_lock(&calls_lock);
	while (memo_world.target_count <= n)
		pthread_cond_wait(&calls_changed, &calls_lock);
	struct memo *m = memo_world.targets[n];
	pthread_mutex_unlock(&calls_lock);
	return m;
}

struct saying {
	struct memo *memo;
	struct memo_read read;
	uint32_t code; /* of an ending; 0: none */
};

static void say(struct cp_loop *loop, void *arg)
{
	const struct saying *saying = arg;
	struct memo *m = saying->memo;
	(void)loop;
	m->reads[m->said++ % MEMO_READS] = saying->read;
	m->ending = (struct cp_ending){.protocol = "memo", .code = saying->code, .failed = saying->code >= MEMO_FAILED};
	if (m->stream.ready)
		tell(m);
}

/** At once if it has not come yet; else on its thread. */
static void say_it(struct saying *saying)
{
	if (saying->memo->stream.ops)
		call(cp_worker_loop(0), say, saying);
	else
		say(NULL, saying);
}

void memo_say_bytes(struct memo *m, const void *bytes, size_t length, unsigned hints)
{
	say_it(&(struct saying){m, {bytes, length, hints, CP_OK}, 0});
}

void memo_say(struct memo *m, const char *text, unsigned hints)
{
	memo_say_bytes(m, text, strlen(text), hints);
}

void memo_break(struct memo *m, enum cp_err error)
{
	say_it(&(struct saying){m, {"", 0, 0, error}, 0});
}

void memo_end(struct memo *m, uint32_t code)
{
	say_it(&(struct saying){m, {"", 0, CP_READ_END | CP_READ_OVER, CP_OK}, code});
}

struct rooming {
	struct memo *memo;
	int room;
};

static void set_room(struct cp_loop *loop, void *arg)
{
	struct rooming *rooming = arg;
	(void)loop;
	rooming->memo->manner.room = rooming->room;
	if (rooming->memo->stream.ready)
		tell(rooming->memo);
}

void memo_set_room(struct memo *m, int room)
{
	call(cp_worker_loop(0), set_room, &(struct rooming){m, room});
}

/* ---- The proxy between -------------------------------------------------------------------------------------- */

static struct proxy proxy;

static void describe(const char *process, const char *rest)
{
	int length =
		snprintf(proxy.text, sizeof(proxy.text),
				 "[connpipe]\nworkers = 1\nadmin = \"off\"\nlog = { level = \"error\" }\n%s\n%s\n", process, rest);
	cr_assert_lt(length, (int)sizeof(proxy.text));
}

struct reading {
	uint64_t generation;
	bool running;
};

static void see_main(struct cp_loop *loop, void *arg)
{
	const struct main_task *m = main_of(loop);
	*(struct reading *)arg = (struct reading){m->plan ? m->plan->generation->number : 0, m->state == MAIN_RUNNING};
}

/** Wait until a generation newer than that is in use. @return its number */
static uint64_t wait_generation(uint64_t earlier)
{
	struct reading reading = {0};
	while (!reading.running || reading.generation <= earlier) {
		while (!cp_loop_main())
			sched_yield();
		call(cp_loop_main(), see_main, &reading);
		sched_yield();
	}
	return reading.generation;
}

void memo_start(const char *process, const char *rest, const struct cp_system_def *extra)
{
	static const struct cp_system_def *systems[3] = {&memo_system};
	systems[1] = extra;
	describe(process, rest);
	proxy_start(&proxy, systems);
	wait_generation(0);
}

struct text {
	const char *process, *rest;
};

static void change_text(struct cp_loop *loop, void *arg)
{
	const struct text *text = arg;
	(void)loop;
	describe(text->process, text->rest);
}

void memo_reload(const char *process, const char *rest)
{
	uint64_t earlier = wait_generation(0);
	call(cp_loop_main(), change_text, &(struct text){process, rest});
	kill(getpid(), SIGHUP);
	wait_generation(earlier);
}

void memo_stop(void)
{
	proxy_stop(&proxy);
}

void memo_wait_end(void)
{
	pthread_join(proxy.thread, NULL);
	cr_assert_eq(proxy.exit_code, 0);
}

static void see_state(struct cp_loop *loop, void *arg)
{
	*(enum main_state *)arg = main_of(loop)->state;
}

enum main_state memo_state(void)
{
	enum main_state state;
	call(cp_loop_main(), see_state, &state);
	return state;
}

struct counting {
	uint32_t pipes;
};

static void count_pipes(struct cp_loop *loop, void *arg)
{
	((struct counting *)arg)->pipes = ((struct worker *)loop->owner)->pipe_count;
}

void memo_wait_pipes(uint32_t count)
{
	struct counting counting = {UINT32_MAX};
	while (counting.pipes != count) {
		call(cp_worker_loop(0), count_pipes, &counting);
		sched_yield();
	}
}

struct pipe *memo_pipe(struct cp_loop *loop)
{
	return ((struct worker *)loop->owner)->pipes;
}

struct sum {
	const char *name;
	int64_t value;
};

static void find_counter(const struct counter_info *info, void *arg)
{
	struct sum *sum = arg;
	if (strcmp(info->name, sum->name) == 0)
		sum->value = info->sum;
}

int64_t memo_counter(const char *name)
{
	struct sum sum = {name, -1};
	memo_turn();
	counter_each(find_counter, &sum);
	return sum.value;
}
