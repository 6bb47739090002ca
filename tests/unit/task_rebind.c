/* A router that changes its addresses while the proxy runs. */
#include "task_fixture.h"

#include <connpipe/system.h>

/** The system under test: one router, which sends everything to echo. */
static struct {
	struct cp_system *system;
	struct cp_router *router;
	uint16_t first;
	bool started; /* under the lock, for the test's thread: what is above can be used */
} mover;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static void set(bool *truth)
{
	pthread_mutex_lock(&lock);
	*truth = true;
	pthread_cond_signal(&changed);
	pthread_mutex_unlock(&lock);
}

static void wait_for(const bool *truth)
{
	pthread_mutex_lock(&lock);
	while (!*truth)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
}

static int mover_route(struct cp_router *router, struct cp_request *request, struct cp_answer *answer,
					   struct cp_error *error)
{
	const struct cp_address **targets = cp_arena_alloc(cp_request_arena(request), sizeof(struct cp_address *));
	(void)router;
	answer->kind = CP_ANSWER_TARGETS;
	answer->targets = targets;
	answer->target_count = 1;
	return cp_address_parse(cp_request_scope(request), cp_request_arena(request), "echo:", 5, 0, &targets[0], error);
}

static const struct cp_router_def mover_def = {.size = sizeof(mover_def), .route = mover_route};

static const struct cp_address *address_of(struct cp_arena *arena, uint16_t port)
{
	const struct cp_address *address;
	struct cp_error error;
	char text[32];
	int length = snprintf(text, sizeof(text), "tcp:$4:%u", port);
	cr_assert_eq(cp_address_parse(cp_system_scope(mover.system), arena, text, (size_t)length, 0, &address, &error),
				 CP_OK, "%s", error.message);
	return address;
}

static struct cp_arena *mover_arena;

static int mover_load(struct cp_system *self, const struct cp_settings *settings)
{
	(void)settings;
	mover.system = self;
	return cp_register_router(self, &mover_def, "mover", NULL, &mover.router);
}

static int mover_link(struct cp_system *self)
{
	(void)self;
	mover_arena = cp_arena_new(0);
	return cp_router_bind(mover.router, address_of(mover_arena, mover.first), NULL);
}

static int mover_worker_start(struct cp_system *self, struct cp_loop *loop)
{
	(void)self;
	(void)loop;
	set(&mover.started);
	return CP_OK;
}

static void mover_unload(struct cp_system *self)
{
	(void)self;
	cp_arena_free(mover_arena);
}

static const struct cp_system_def mover_system = {.abi = CP_ABI_VERSION,
												  .size = sizeof(mover_system),
												  .id = "test.mover",
												  .load = mover_load,
												  .link = mover_link,
												  .worker_start = mover_worker_start,
												  .unload = mover_unload};
static const struct cp_system_def *const extra[] = {&mover_system, NULL};

/* ---- Asking for a change, and its outcome ------------------------------------------------------------------- */

static struct {
	bool done;
	enum cp_err code;
} outcome;

static void on_rebound(struct cp_router *router, const struct cp_error *error)
{
	(void)router;
	outcome.code = error ? error->code : CP_OK;
	set(&outcome.done);
}

/** Move to these ports. @return what came of it */
static enum cp_err move_to(const uint16_t *ports, uint32_t count)
{
	struct cp_arena *arena = cp_arena_new(0);
	const struct cp_address **addresses = cp_arena_alloc(arena, count * sizeof(struct cp_address *));
	for (uint32_t i = 0; i < count; i++)
		addresses[i] = address_of(arena, ports[i]);
	outcome.done = false;
	cp_router_rebind(mover.router, arena, addresses, count, on_rebound);
	wait_for(&outcome.done);
	return outcome.code;
}

static bool echoes(int fd)
{
	char got = 0;
	return send(fd, "x", 1, MSG_NOSIGNAL) == 1 && recv(fd, &got, 1, 0) == 1 && got == 'x';
}

static int connect_patiently(uint16_t port)
{
	int fd;
	while ((fd = connect_to(port)) < 0)
		sched_yield();
	return fd;
}

static void start(struct proxy *proxy)
{
	mover.first = free_port();
	snprintf(proxy->text, sizeof(proxy->text),
			 "[connpipe]\nworkers = 2\nadmin = \"off\"\nlog = { level = \"error\" }\n");
	proxy_start(proxy, extra);
	wait_for(&mover.started);
	close(connect_patiently(mover.first));
}

Test(task_rebind, only_what_changes_is_bound_and_closed)
{
	struct proxy proxy = {0};
	uint16_t ports[3];
	start(&proxy);
	int early = connect_patiently(mover.first);
	cr_assert(echoes(early));
	ports[0] = mover.first;
	ports[1] = free_port();
	ports[2] = free_port();
	cr_assert_eq(move_to(ports, 2), CP_OK); /* one more */
	int fd = connect_to(ports[1]);
	cr_assert(fd >= 0 && echoes(fd));
	cr_assert_eq(move_to(ports + 1, 2), CP_OK); /* the first one goes, another one comes */
	cr_assert_lt(connect_to(mover.first), 0);
	int last = connect_to(ports[2]);
	cr_assert(last >= 0 && echoes(last));
	cr_assert(echoes(fd), "a connection on an address that stays");
	cr_assert(echoes(early), "a connection on an address that went");
	close(early);
	close(fd);
	close(last);
	proxy_stop(&proxy);
}

Test(task_rebind, an_address_in_use_changes_nothing)
{
	struct proxy proxy = {0};
	uint16_t ports[2];
	start(&proxy);
	int other = listen_somewhere(&ports[1]);
	ports[0] = free_port();
	cr_assert_neq(move_to(ports, 2), CP_OK);
	cr_assert_lt(connect_to(ports[0]), 0, "half of a change");
	int fd = connect_to(mover.first);
	cr_assert(fd >= 0 && echoes(fd));
	close(fd);
	close(other);
	proxy_stop(&proxy);
}
