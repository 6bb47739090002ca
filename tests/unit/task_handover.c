/* Connections that are handed over between workers while everything changes: in the moments that a load hits by chance
 * only. Workers are held at such a moment by a call that waits. */
#include "task_calls.h"

#include "task/balance.h"
#include "task/main_state.h"
#include "task/pipe.h"

#include <sched.h>

/* ---- Holding workers ---------------------------------------------------------------------------------------- */

/** Holds a worker between `reached` and `open`. */
struct gate {
	bool reached, open;
};

static void wait_at_gate(struct cp_loop *loop, void *arg)
{
	struct gate *gate = arg;
	(void)loop;
	set(&gate->reached);
	wait_for(&gate->open);
}

static void hold(uint32_t worker, struct gate *gate)
{
	cr_assert(cp_post(cp_worker_loop(worker), wait_at_gate, gate));
}

/* ---- Looking ------------------------------------------------------------------------------------------------ */

static void see_state(struct cp_loop *loop, void *arg)
{
	*(enum main_state *)arg = main_of(loop)->state;
}

static enum main_state state(void)
{
	enum main_state state;
	call(cp_loop_main(), see_state, &state);
	return state;
}

static void see_pipes(struct cp_loop *loop, void *arg)
{
	*(uint32_t *)arg = ((struct worker *)loop->owner)->pipe_count;
}

static uint32_t pipes(uint32_t worker)
{
	uint32_t count;
	call(cp_worker_loop(worker), see_pipes, &count);
	return count;
}

static void wait_pipes(uint32_t worker, uint32_t count)
{
	while (pipes(worker) != count)
		;
}

struct search {
	uint16_t port; /* of the client */
	bool found;
};

static void search_pipe(struct cp_loop *loop, void *arg)
{
	struct search *search = arg;
	for (const struct pipe *p = ((struct worker *)loop->owner)->pipes; p; p = p->next)
		search->found |= p->peer.port == search->port;
}

/** Whether the worker has the client's connection. It takes one from its queue in each turn of its loop, before a call
 * or behind it: so after three calls it has it, if it was alone in the queue. */
static bool has(uint32_t worker, int fd)
{
	struct sockaddr_in address = {0};
	socklen_t length = sizeof(address);
	getsockname(fd, (struct sockaddr *)&address, &length);
	struct search search = {.port = ntohs(address.sin_port)};
	for (int i = 0; i < 3 && !search.found; i++)
		call(cp_worker_loop(worker), search_pipe, &search);
	return search.found;
}

/* ---- The proxy and its clients ------------------------------------------------------------------------------ */

enum { KEPT = 24 };

static struct {
	struct proxy proxy;
	uint16_t port;
	const char *drain;
	int kept[KEPT]; /* connections of worker 0, so many that it hands over what it accepts */
} scene;

static void describe(char *text, size_t room, const char *target)
{
	snprintf(text, room,
			 "[connpipe]\nworkers = 2\nadmin = \"off\"\nlog = { level = \"error\" }\ntimeouts = { drain = \"%s\" }\n"
			 "[t]\ntype = \"table\"\n[t.routes]\n\"tcp:$4:%u\" = \"%s\"\n",
			 scene.drain, scene.port, target);
}

static bool echoes(int fd)
{
	char got = 0;
	return send(fd, "x", 1, MSG_NOSIGNAL) == 1 && recv(fd, &got, 1, 0) == 1 && got == 'x';
}

/** What the workers do for the test must not count as load: with a clock that does not exist, nobody is ever busy. */
static void stop_clocks(struct cp_loop *loop, void *arg)
{
	struct balance *balance = ((struct worker *)loop->owner)->balance;
	(void)arg;
	for (uint32_t i = 0; i < cp_worker_count(); i++)
		balance_set_clock(balance, i, (clockid_t)99);
}

/** Keep connections that came to worker 0, while those of worker 1 still keep it even; then close these. */
static void load_worker_0(void)
{
	int others[16 * KEPT];
	uint32_t count = 0, other_count = 0;
	while (count < KEPT) {
		int fd = connect_to(scene.port);
		cr_assert(fd >= 0 && echoes(fd));
		if (!has(1, fd))
			scene.kept[count++] = fd;
		else if (other_count < 16 * KEPT)
			others[other_count++] = fd;
		else
			cr_assert_fail("the kernel does not spread connections");
	}
	while (other_count)
		close(others[--other_count]);
	wait_pipes(1, 0);
}

static void start(const char *drain)
{
	int fd;
	scene.drain = drain;
	scene.port = free_port();
	describe(scene.proxy.text, sizeof(scene.proxy.text), "echo:");
	proxy_start(&scene.proxy, NULL);
	while ((fd = connect_to(scene.port)) < 0)
		sched_yield();
	cr_assert(echoes(fd));
	close(fd);
	while (state() != MAIN_RUNNING)
		sched_yield();
	call(cp_worker_loop(0), stop_clocks, NULL);
	wait_pipes(1, 0);
	load_worker_0();
}

/** While worker 0 is held: a connection that waits in its queue. */
static int connect_to_worker_0(void)
{
	int fd;
	while ((fd = connect_to(scene.port)) >= 0 && has(1, fd)) {
		close(fd);
		wait_pipes(1, 0);
	}
	cr_assert_geq(fd, 0);
	return fd;
}

static void close_kept(void)
{
	for (uint32_t i = 0; i < KEPT; i++)
		close(scene.kept[i]);
}

TestSuite(task_handover, .timeout = 60);

/* ---- Tests -------------------------------------------------------------------------------------------------- */

Test(task_handover, draining_waits_for_what_comes_late)
{
	struct gate gate = {0};
	start("1m");
	hold(0, &gate);
	wait_for(&gate.reached);
	int fd = connect_to_worker_0();
	kill(getpid(), SIGTERM);
	while (state() != MAIN_DRAINING)
		sched_yield();
	wait_pipes(1, 0); /* was told, and has nothing left */
	set(&gate.open);
	cr_assert(echoes(fd));
	cr_assert(has(1, fd), "it was not handed over");
	close_kept();
	wait_pipes(0, 0);
	cr_assert_eq(state(), MAIN_DRAINING, "a connection is open");
	cr_assert(echoes(fd));
	close(fd);
	pthread_join(scene.proxy.thread, NULL);
	cr_assert_eq(scene.proxy.exit_code, 0);
}

/** The rest of a test of stopping: worker 1 has stopped, then worker 0 goes on and accepts before it hears of it. */
static void stop_with_one_on_its_way(struct gate *gate, int fd)
{
	char byte;
	while (state() != MAIN_STOPPING)
		sched_yield();
	wait_pipes(1, 0);
	set(&gate->open);
	cr_assert_leq(recv(fd, &byte, 1, 0), 0);
	pthread_join(scene.proxy.thread, NULL);
	cr_assert_eq(scene.proxy.exit_code, 0);
	close(fd);
	close_kept();
}

Test(task_handover, stopping_closes_what_comes_late)
{
	struct gate gate = {0};
	start("0s");
	hold(0, &gate);
	wait_for(&gate.reached);
	int fd = connect_to_worker_0();
	kill(getpid(), SIGTERM);
	stop_with_one_on_its_way(&gate, fd);
}

Test(task_handover, a_second_signal_closes_what_comes_late)
{
	struct gate gate = {0};
	start("1m");
	hold(0, &gate);
	wait_for(&gate.reached);
	int fd = connect_to_worker_0();
	kill(getpid(), SIGTERM);
	while (state() != MAIN_DRAINING)
		sched_yield();
	kill(getpid(), SIGTERM);
	stop_with_one_on_its_way(&gate, fd);
}

static void change_text(struct cp_loop *loop, void *arg)
{
	(void)loop;
	(void)arg;
	describe(scene.proxy.text, sizeof(scene.proxy.text), "reject:not here");
}

Test(task_handover, it_keeps_the_generation_under_which_it_was_accepted)
{
	struct gate before = {0}, behind = {0};
	start("1m");
	hold(0, &before);
	wait_for(&before.reached);
	int early = connect_to_worker_0(), fd = connect_to_worker_0();
	call(cp_loop_main(), change_text, NULL);
	kill(getpid(), SIGHUP);
	while (state() != MAIN_PREPARING)
		sched_yield();
	hold(0, &behind);
	/* Worker 0 prepares, and is held again before it switches. In that turn of its loop it accepts one: before, or
	 * behind that. The other one is next, and the switch comes behind it. */
	set(&before.open);
	while (state() != MAIN_SWITCHING)
		sched_yield();
	cr_assert_leq(pipes(1), 1); /* has switched */
	set(&behind.open);
	cr_assert(echoes(early) && echoes(fd), "the new generation rejects it");
	cr_assert(has(1, early) && has(1, fd), "it was not handed over");
	while (state() != MAIN_RUNNING)
		sched_yield();
	int late = connect_to(scene.port);
	cr_assert(late >= 0 && !echoes(late));
	close(late);
	close(early);
	close(fd);
	close_kept();
	proxy_stop(&scene.proxy);
}
