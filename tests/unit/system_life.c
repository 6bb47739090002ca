#include "system_fake.h"

#include "loop/loop.h"
#include "system/system.h"

#include <connpipe/system.h>

#include <criterion/criterion.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* The life of a generation in a process: a main loop, which is the test's thread, and two workers. */

static struct fake_load load;
static struct fake_process process;

static void setup(void)
{
	fake_process_start(&process);
}

static void teardown(void)
{
	report_deinit(&load.report);
	fake_process_stop(&process);
}

TestSuite(system_life, .init = setup, .fini = teardown);

static bool gone;

static void on_gone(uint64_t number, void *arg)
{
	(void)arg;
	gone = true;
	diary_note("gone %u", (unsigned)number);
	loop_stop(process.main_loop);
}

/** Let go of the only plan and begin to unload. */
static void retire(bool started)
{
	cr_assert(generation_release_plan(load.plan));
	gone = false;
	generation_retire(load.generation, started, on_gone, NULL);
}

/** Run the main loop until the generation is gone (it may be stopped for other reasons before). */
static void run_until_gone(void)
{
	while (!gone)
		fake_process_run(&process);
}

static const struct generation_hooks *hooks_for_plans(void);

static void load_text(const char *text)
{
	fake_load(&load, text, hooks_for_plans());
	diary_take();
}

/* ---- Plans -------------------------------------------------------------------------------------------------- */

static struct plan *released;

static void on_released_here(struct cp_loop *loop, void *plan)
{
	(void)loop;
	released = plan;
	diary_note("released");
	loop_stop(process.main_loop);
}

static void on_released(struct plan *plan)
{
	cp_post(cp_loop_main(), on_released_here, plan);
}

static const struct generation_hooks plan_hooks = {.plan_released = on_released};

static const struct generation_hooks *hooks_for_plans(void)
{
	return &plan_hooks;
}

static void unref(struct cp_loop *loop, void *plan)
{
	(void)loop;
	plan_unref(plan);
}

Test(system_life, last_reference_on_a_worker_brings_the_plan_to_the_main_task)
{
	load_text("[a]\ntype = 'fake'\n");
	plan_ref(load.plan);
	plan_unref(load.plan);
	fake_on_worker(&process, 1, unref, load.plan);
	fake_process_run(&process);
	cr_assert_eq(released, load.plan);
	retire(false);
	run_until_gone();
	cr_assert_str_eq(diary_take(), "released, unload a, unload base, gone 1");
}

Test(system_life, a_second_plan_keeps_the_generation)
{
	load_text("[a]\ntype = 'fake'\n");
	struct plan *second = generation_replan(load.generation, &load.report);
	cr_assert_not(generation_release_plan(second));
	retire(false);
	run_until_gone();
}

/* ---- Workers ------------------------------------------------------------------------------------------------ */

Test(system_life, each_system_stops_on_all_workers_before_it_unloads_and_the_next_stops)
{
	load_text("[a]\ntype = 'fake'\n[b]\ntype = 'fake'\n");
	fake_start_workers(&process, load.generation);
	cr_assert_str_eq(diary_take(), "start a on 0, start b on 0, start a on 1, start b on 1");
	retire(true);
	cr_assert_str_eq(diary_take(), ""); /* not before the loop turns */
	run_until_gone();
	const char *calls = diary_take();
	/* Which worker is first is open. */
	cr_assert(strcmp(calls, "stop b on 0, stop b on 1, unload b, stop a on 0, stop a on 1, unload a, unload base, "
							"gone 1") == 0 ||
				  (strstr(calls, "unload b, stop a") && strstr(calls, "stop b on 0") && strstr(calls, "stop b on 1") &&
				   strstr(calls, "unload a, unload base, gone 1")),
			  "%s", calls);
}

struct start {
	int result;
	struct cp_error error;
};

static void start_and_tell(struct cp_loop *loop, void *arg)
{
	struct start *start = arg;
	start->result = generation_worker_start(load.generation, loop, &start->error);
}

Test(system_life, failed_start_stops_what_was_started_there)
{
	load_text("[a]\ntype = 'fake'\n[b]\ntype = 'fake'\n[c]\ntype = 'fake'\nfail = 'start'\n[d]\ntype = 'fake'\n");
	struct start start;
	fake_on_worker(&process, 1, start_and_tell, &start);
	cr_assert_eq(start.result, CP_EIO);
	cr_assert(strstr(start.error.message, "system \"c\" does not start on worker 1"), "%s", start.error.message);
	cr_assert_str_eq(diary_take(), "start a on 1, start b on 1, start c on 1, stop b on 1, stop a on 1");
	retire(true);
	run_until_gone();
	cr_assert_str_eq(diary_take(), "unload d, unload c, unload b, unload a, unload base, gone 1");
}

static void start_one(struct cp_loop *loop, void *generation)
{
	struct cp_error error;
	cr_assert_eq(generation_worker_start(generation, loop, &error), CP_OK);
}

Test(system_life, stops_only_where_it_was_started)
{
	load_text("[a]\ntype = 'fake'\n");
	fake_on_worker(&process, 1, start_one, load.generation);
	diary_take();
	retire(true);
	run_until_gone();
	cr_assert_str_eq(diary_take(), "stop a on 1, unload a, unload base, gone 1");
}

/* ---- Pins --------------------------------------------------------------------------------------------------- */

static void note_then_unpin(struct cp_loop *loop, void *system)
{
	(void)loop;
	diary_note("unpin");
	cp_system_unpin(system);
}

static void unpin_on_worker(struct cp_loop *loop, void *system)
{
	(void)loop;
	cp_post(process.workers[0], note_then_unpin, system);
}

Test(system_life, pinned_system_holds_up_those_before_it)
{
	load_text("[a]\ntype = 'fake'\n[b]\ntype = 'fake'\n[c]\ntype = 'fake'\n");
	struct cp_system *b = fake_system(&load, "b");
	cp_system_pin(b);
	retire(true);
	/* Behind the call that begins the unloading, so that it already waits. */
	cp_post(process.main_loop, unpin_on_worker, b);
	run_until_gone();
	cr_assert_str_eq(diary_take(), "unload c, unpin, unload b, unload a, unload base, gone 1");
}

Test(system_life, work_begun_while_stopping_is_waited_for)
{
	load_text("[a]\ntype = 'fake'\nbusy = true\n");
	fake_on_worker(&process, 0, start_one, load.generation);
	diary_take();
	retire(true);
	run_until_gone();
	cr_assert_str_eq(diary_take(), "stop a on 0, work done, unload a, unload base, gone 1");
}

enum { PINNERS = 4, ROUNDS = 2000 };
static atomic_uint running;

/** Pins and unpins as work does that passes its pin on: never zero before the end, but close to it all the time. */
static void *pinner(void *arg)
{
	struct cp_system *system = arg;
	for (int i = 0; i < ROUNDS; i++) {
		cp_system_pin(system);
		cp_system_unpin(system);
	}
	atomic_fetch_sub(&running, 1);
	cp_system_unpin(system); /* the one that the test took for this thread; nothing of `system` may be touched now */
	return NULL;
}

Test(system_life, last_unpin_of_many_threads_is_never_lost)
{
	for (int round = 0; round < 20; round++) {
		pthread_t threads[PINNERS];
		load_text("[a]\ntype = 'fake'\n");
		struct cp_system *a = fake_system(&load, "a");
		atomic_store(&running, PINNERS);
		for (int i = 0; i < PINNERS; i++)
			cp_system_pin(a);
		for (int i = 0; i < PINNERS; i++)
			pthread_create(&threads[i], NULL, pinner, a);
		retire(true);
		run_until_gone(); /* ends only if no wake-up was lost */
		cr_assert_eq(atomic_load(&running), 0);
		cr_assert_str_eq(diary_take(), "unload a, unload base, gone 1");
		for (int i = 0; i < PINNERS; i++)
			pthread_join(threads[i], NULL);
		report_deinit(&load.report);
		memset(&load.report, 0, sizeof(load.report));
	}
}

static void *blink(void *system)
{
	for (int i = 0; i < ROUNDS; i++) {
		cp_system_pin(system);
		cp_system_unpin(system); /* often the last one */
	}
	return NULL;
}

/** The system waits for its last unpin already, and the main loop, held up here, cannot take the calls. */
static void blink_while_main_is_busy(struct cp_loop *loop, void *system)
{
	(void)loop;
	pthread_t threads[PINNERS];
	for (int i = 0; i < PINNERS; i++)
		pthread_create(&threads[i], NULL, blink, system);
	cp_system_unpin(system);
	for (int i = 0; i < PINNERS; i++)
		pthread_join(threads[i], NULL);
	diary_note("quiet");
}

Test(system_life, many_last_unpins_wake_it_once)
{
	load_text("[a]\ntype = 'fake'\n");
	struct cp_system *a = fake_system(&load, "a");
	cp_system_pin(a);
	retire(true);
	cp_post(process.main_loop, blink_while_main_is_busy, a);
	run_until_gone();
	cr_assert_str_eq(diary_take(), "quiet, unload a, unload base, gone 1");
}

Test(system_life, what_keeps_a_generation_is_told)
{
	load_text("[a]\ntype = 'fake'\n[b]\ntype = 'fake'\n");
	char words[64];
	cp_system_pin(fake_system(&load, "a"));
	cp_system_pin(fake_system(&load, "b"));
	cp_system_pin(fake_system(&load, "b"));
	generation_pins(load.generation, words, sizeof(words));
	cr_assert_str_eq(words, "1 plan, a: 1 use, b: 2 uses");
	cr_assert_eq(generation_pins(load.generation, words, 8), strlen("1 plan, a: 1 use, b: 2 uses"));
	cr_assert_str_eq(words, "1 plan,");
	cp_system_unpin(fake_system(&load, "a"));
	cp_system_unpin(fake_system(&load, "b"));
	cp_system_unpin(fake_system(&load, "b"));
	retire(false);
	run_until_gone();
}

static struct cp_system *pinned;

static int remember_load(struct cp_system *self, const struct cp_settings *settings)
{
	(void)settings;
	pinned = self;
	cp_system_pin(self);
	return cp_register_type(self, "other", &fake_type);
}

static void remember_unload(struct cp_system *self)
{
	(void)self;
	diary_note("unload pinned");
}

static const struct cp_system_def pinned_system = {.abi = CP_ABI_VERSION,
												   .size = sizeof(pinned_system),
												   .id = "pinned",
												   .load = remember_load,
												   .unload = remember_unload};

Test(system_life, failed_load_unloads_a_pinned_system_as_soon_as_it_can)
{
	fake_load_extra(&load, "[a]\ntype = 'fake'\nfail = 'load'\n",
					(const struct cp_system_def *const[]){&pinned_system, NULL});
	cr_assert_null(load.generation);
	cr_assert_str_eq(diary_take(), "load base, load a, unload a");
	cp_system_unpin(pinned);
	fake_process_turn(&process);
	cr_assert_str_eq(diary_take(), "unload pinned, unload base");
}

/* ---- Routers that change their addresses -------------------------------------------------------------------- */

static struct rebind *held;
static unsigned begun;

static void on_rebind(struct generation *generation, struct rebind *rebind)
{
	cr_assert_eq(generation, load.generation);
	cr_assert_null(held); /* one after the other */
	held = rebind;
	begun++;
	loop_stop(process.main_loop);
}

static const struct generation_hooks rebind_hooks = {.plan_released = on_released, .rebind = on_rebind};

static void on_rebound(struct cp_router *router, const struct cp_error *error)
{
	diary_note("%s: %s", router->id, error->code == CP_OK ? "rebound" : error->message);
}

static void rebind(const char *router, const char *text)
{
	struct cp_arena *arena = cp_arena_new(0);
	const struct cp_address **addresses = cp_arena_alloc(arena, sizeof(*addresses));
	struct cp_error error;
	uint32_t count = text != NULL;
	if (text)
		cr_assert_eq(cp_address_parse(load.generation->scope, arena, text, strlen(text), 0, addresses, &error), CP_OK);
	cp_router_rebind(cp_scope_router(load.generation->scope, router), arena, addresses, count, on_rebound);
}

static void load_for_rebind(void)
{
	fake_load(&load, "[a]\ntype = 'fake'\nbind = ['fake:h:1']\n[b]\ntype = 'fake'\nbind = ['fake:h:2']\n",
			  &rebind_hooks);
	diary_take();
}

/** End the change that the main task holds. */
static void end_rebind(const struct cp_error *error)
{
	struct rebind *rebind = held;
	held = NULL;
	rebind_end(rebind, error);
}

/** The sockets of a plan made now, as text; "" if it cannot be made. */
static const char *sockets(void)
{
	static char text[256];
	struct report report = {0};
	struct plan *plan = generation_replan(load.generation, &report);
	text[0] = 0;
	for (uint32_t i = 0; plan && i < plan->count; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", i ? " " : "", plan->bindings[i].key);
	if (plan)
		cr_assert_not(generation_release_plan(plan));
	report_deinit(&report);
	return text;
}

static void retire_after_rebind(void)
{
	retire(false);
	run_until_gone();
}

Test(system_life, rebind_replaces_the_addresses_of_its_router)
{
	load_for_rebind();
	rebind("a", "fake:h:3");
	fake_process_run(&process);
	cr_assert_str_eq(rebind_router(held)->id, "a");
	cr_assert_str_eq(sockets(), "fake:h:2 fake:h:3");
	end_rebind(NULL);
	cr_assert_str_eq(diary_take(), "a: rebound");
	cr_assert_str_eq(sockets(), "fake:h:2 fake:h:3");
	rebind("a", NULL);
	fake_process_run(&process);
	end_rebind(NULL);
	cr_assert_str_eq(sockets(), "fake:h:2");
	retire_after_rebind();
}

Test(system_life, failed_rebind_keeps_the_earlier_addresses)
{
	load_for_rebind();
	rebind("a", "fake:h:2"); /* b's */
	fake_process_run(&process);
	cr_assert_str_eq(sockets(), "");
	struct cp_error error;
	cp_error_set(&error, CP_EADDRINUSE, NULL, "no");
	end_rebind(&error);
	cr_assert_str_eq(diary_take(), "a: no");
	cr_assert_str_eq(sockets(), "fake:h:1 fake:h:2");
	retire_after_rebind();
}

static void rebind_from_worker(struct cp_loop *loop, void *arg)
{
	(void)loop;
	rebind(arg, strcmp(arg, "a") == 0 ? "fake:h:3" : "fake:h:4");
}

Test(system_life, rebinds_from_workers_come_one_after_the_other)
{
	load_for_rebind();
	fake_on_worker(&process, 0, rebind_from_worker, "a");
	fake_on_worker(&process, 1, rebind_from_worker, "b");
	while (begun == 0)
		fake_process_run(&process);
	cr_assert_eq(begun, 1);
	end_rebind(NULL);
	while (begun == 1)
		fake_process_run(&process);
	end_rebind(NULL);
	cr_assert_str_eq(diary_take(), "a: rebound, b: rebound");
	cr_assert_str_eq(sockets(), "fake:h:3 fake:h:4");
	retire_after_rebind();
}

Test(system_life, rebind_of_a_retiring_generation_is_refused_and_holds_it_until_then)
{
	load_for_rebind();
	retire(false);
	rebind("a", "fake:h:3");
	run_until_gone();
	cr_assert_str_eq(diary_take(), "unload b, a: router \"a\" keeps its addresses: its generation is being unloaded, "
								   "unload a, unload base, gone 1");
}

Test(system_life, rebind_where_nothing_listens_is_refused)
{
	fake_load(&load, "[a]\ntype = 'fake'\nbind = ['fake:h:1']\n", &plan_hooks);
	diary_take();
	rebind("a", "fake:h:3");
	fake_process_turn(&process);
	cr_assert_str_eq(diary_take(), "a: router \"a\" keeps its addresses: nothing runs here");
	cr_assert_str_eq(sockets(), "fake:h:1");
	retire_after_rebind();
}
