#include "system_fake.h"

#include "loop/loop.h"
#include "system/system.h"

#include <connpipe/system.h>

#include <criterion/criterion.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- The diary ---------------------------------------------------------------------------------------------- */

static pthread_mutex_t diary_lock = PTHREAD_MUTEX_INITIALIZER;
static char diary[8192], taken[8192];

void diary_note(const char *format, ...)
{
	char line[256];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	pthread_mutex_lock(&diary_lock);
	size_t length = strlen(diary);
	snprintf(diary + length, sizeof(diary) - length, "%s%s", length ? ", " : "", line);
	pthread_mutex_unlock(&diary_lock);
}

const char *diary_take(void)
{
	pthread_mutex_lock(&diary_lock);
	memcpy(taken, diary, sizeof(taken));
	diary[0] = 0;
	pthread_mutex_unlock(&diary_lock);
	return taken;
}

unsigned diary_count(const char *what)
{
	unsigned count = 0;
	pthread_mutex_lock(&diary_lock);
	for (const char *at = diary; (at = strstr(at, what)); at++)
		count++;
	pthread_mutex_unlock(&diary_lock);
	return count;
}

/* ---- The type `fake` ---------------------------------------------------------------------------------------- */

struct fake_data {
	const char *fail; /* alive while the settings are, like the arena's addresses until unload */
	bool silent, late, busy, start_fails;
	const struct cp_settings *bind;
	struct cp_router *router;
	struct cp_arena *arena;
};

static int route(struct cp_router *router, struct cp_request *request, struct cp_answer *answer, struct cp_error *error)
{
	(void)router, (void)request, (void)error;
	answer->kind = CP_ANSWER_NONE;
	return CP_OK;
}

static const struct cp_router_def router_def = {.size = sizeof(router_def), .route = route};

static int phase(struct cp_system *self, const char *name)
{
	const struct fake_data *data = cp_system_data(self);
	diary_note("%s %s", name, cp_system_id(self));
	if (!data->fail || strcmp(data->fail, name) != 0)
		return CP_OK;
	if (!data->silent)
		cp_system_error(self, "does not like to %s", name);
	return CP_EIO;
}

static int child_load(struct cp_system *self, const struct cp_settings *settings)
{
	(void)settings;
	diary_note("load %s", cp_system_id(self));
	return CP_OK;
}

static void child_unload(struct cp_system *self)
{
	diary_note("unload %s", cp_system_id(self));
}

static const struct cp_system_def child_def = {
	.abi = CP_ABI_VERSION, .size = sizeof(child_def), .load = child_load, .unload = child_unload};

static void load_child(struct cp_system *self, const struct cp_settings *settings)
{
	const char *child = NULL;
	bool twice = false;
	cp_settings_get_bool(settings, "twice", &twice);
	if (!cp_settings_get_string(settings, "child", &child) || !child)
		return;
	for (int i = 0; i < 1 + twice; i++)
		cp_register_system(self, &child_def, child, NULL);
}

static int fake_type_load(struct cp_system *self, const struct cp_settings *settings)
{
	struct fake_data *data = calloc(1, sizeof(*data));
	const char *router = NULL;
	cp_system_set_data(self, data);
	data->arena = cp_arena_new(0);
	cp_settings_get_string(settings, "fail", &data->fail);
	cp_settings_get_string(settings, "router", &router);
	cp_settings_get_bool(settings, "silent", &data->silent);
	cp_settings_get_bool(settings, "late", &data->late);
	cp_settings_get_bool(settings, "busy", &data->busy);
	data->start_fails = data->fail && strcmp(data->fail, "start") == 0;
	data->bind = cp_settings_get(settings, "bind");
	load_child(self, settings);
	if (router || data->bind)
		cp_register_router(self, &router_def, router, NULL, &data->router);
	return phase(self, "load");
}

static void link_address(struct cp_system *self, const struct cp_settings *value)
{
	struct fake_data *data = cp_system_data(self);
	const struct cp_address *address;
	const char *text;
	size_t length;
	struct cp_error error;
	if (!cp_settings_string(value, &text, &length))
		return;
	if (cp_address_parse(cp_system_scope(self), data->arena, text, length, 0, &address, &error) != CP_OK)
		cp_settings_error(value, "%s", error.message);
	else
		cp_router_bind(data->router, address, cp_settings_where(value));
}

static int fake_type_link(struct cp_system *self)
{
	struct fake_data *data = cp_system_data(self);
	for (size_t i = 0; data->bind && i < cp_settings_count(data->bind); i++)
		link_address(self, cp_settings_at(data->bind, i));
	if (data->late)
		cp_register_router(self, &router_def, "late", NULL, NULL);
	return phase(self, "link");
}

static int fake_type_check(struct cp_system *self)
{
	return phase(self, "check");
}

static int fake_type_start(struct cp_system *self, struct cp_loop *loop)
{
	const struct fake_data *data = cp_system_data(self);
	diary_note("start %s on %u", cp_system_id(self), cp_loop_index(loop));
	return data->start_fails ? CP_EIO : CP_OK;
}

static void work_done(struct cp_loop *loop, void *self)
{
	(void)loop;
	diary_note("work done");
	cp_system_unpin(self);
}

/** Posted by the worker after the word that it has stopped, so it comes to the main loop behind that. */
static void work(struct cp_loop *loop, void *self)
{
	(void)loop;
	cp_post(cp_loop_main(), work_done, self);
}

static void fake_type_stop(struct cp_system *self, struct cp_loop *loop)
{
	const struct fake_data *data = cp_system_data(self);
	diary_note("stop %s on %u", cp_system_id(self), cp_loop_index(loop));
	if (!data->busy)
		return;
	cp_system_pin(self);
	cp_post(loop, work, self);
}

static void fake_type_unload(struct cp_system *self)
{
	struct fake_data *data = cp_system_data(self);
	diary_note("unload %s", cp_system_id(self));
	cp_arena_free(data->arena);
	free(data);
}

const struct cp_system_def fake_type = {
	.abi = CP_ABI_VERSION,
	.size = sizeof(fake_type),
	.load = fake_type_load,
	.link = fake_type_link,
	.check = fake_type_check,
	.worker_start = fake_type_start,
	.worker_stop = fake_type_stop,
	.unload = fake_type_unload,
};

/* ---- The compiled-in system --------------------------------------------------------------------------------- */

static int never_bind(struct cp_connector *connector, const struct cp_address *address, uint32_t workers,
					  struct cp_listener **out, struct cp_error *error)
{
	(void)connector, (void)address, (void)workers, (void)out;
	return cp_error_set(error, CP_EUNSUPPORTED, NULL, "not in this test");
}

static const struct cp_field_def fields[] = {
	{"addr", CP_STRING, CP_ROLE_HOST, false},
	{"port", CP_U16, CP_ROLE_PORT, false},
	{"multiplex", CP_STRING, CP_ROLE_MULTIPLEX, true},
};

static const struct cp_connector_def connector_def = {
	.size = sizeof(connector_def),
	.aliases = (const char *const[]){"fake", NULL},
	.fields = fields,
	.field_count = 3,
	.syntax = "fake:host:port!multiplex",
	.bind = never_bind,
};

static int base_load(struct cp_system *self, const struct cp_settings *settings)
{
	(void)settings;
	diary_note("load base");
	int connector = cp_register_connector(self, &connector_def, NULL, NULL);
	int type = cp_register_type(self, "fake", &fake_type);
	return connector != CP_OK ? connector : type;
}

static void base_unload(struct cp_system *self)
{
	(void)self;
	diary_note("unload base");
}

static const struct cp_system_def base_system = {
	.abi = CP_ABI_VERSION, .size = sizeof(base_system), .id = "base", .load = base_load, .unload = base_unload};

/* In place of the program's own list, so that only made-up systems are loaded here. */
const struct builtin_system builtin_systems[] = {{&base_system, NULL}, {NULL, NULL}};

/* ---- Loading ------------------------------------------------------------------------------------------------ */

static void load(struct fake_load *load, const char *text, const struct generation_hooks *hooks,
				 const struct cp_system_def *const *extra)
{
	struct generation_source source = {
		.directory = "/", .text = text, .name = "t", .mode = GENERATION_RUN, .extra = extra, .hooks = hooks};
	memset(load, 0, sizeof(*load));
	load->generation = generation_load(1, &source, &load->report, &load->plan);
	cr_assert_eq(!load->generation, load->report.count > 0);
	cr_assert_eq(!load->generation, !load->plan);
}

void fake_load(struct fake_load *into, const char *text, const struct generation_hooks *hooks)
{
	load(into, text, hooks, NULL);
}

void fake_load_extra(struct fake_load *into, const char *text, const struct cp_system_def *const *extra)
{
	load(into, text, NULL, extra);
}

bool fake_load_error(const struct fake_load *load, const char *where, const char *text)
{
	for (size_t i = 0; i < load->report.count; i++)
		if (strcmp(load->report.entries[i].where, where) == 0 && strstr(load->report.entries[i].message, text))
			return true;
	report_print(&load->report, stderr, "reported: ");
	return false;
}

struct cp_system *fake_system(const struct fake_load *load, const char *id)
{
	for (uint32_t i = 0; i < load->generation->system_count; i++)
		if (strcmp(load->generation->systems[i]->id, id) == 0)
			return load->generation->systems[i];
	cr_assert_fail("no system \"%s\"", id);
	return NULL;
}

/* ---- Threads ------------------------------------------------------------------------------------------------ */

static void *run_worker(void *loop)
{
	loop_run(loop);
	return NULL;
}

void fake_process_start(struct fake_process *process)
{
	struct cp_error error;
	process->main_loop = loop_new(CP_LOOP_MAIN, &error);
	cr_assert_not_null(process->main_loop);
	loop_set_main(process->main_loop);
	for (uint32_t i = 0; i < FAKE_WORKERS; i++)
		process->workers[i] = loop_new(i, &error);
	loop_set_workers(process->workers, FAKE_WORKERS);
	for (uint32_t i = 0; i < FAKE_WORKERS; i++)
		pthread_create(&process->threads[i], NULL, run_worker, process->workers[i]);
}

static void stop_loop(struct cp_loop *loop, void *arg)
{
	(void)arg;
	loop_stop(loop);
}

void fake_process_stop(struct fake_process *process)
{
	for (uint32_t i = 0; i < FAKE_WORKERS; i++)
		cp_post(process->workers[i], stop_loop, NULL);
	for (uint32_t i = 0; i < FAKE_WORKERS; i++)
		pthread_join(process->threads[i], NULL);
	loop_set_workers(NULL, 0);
	for (uint32_t i = 0; i < FAKE_WORKERS; i++)
		loop_free(process->workers[i]);
	loop_set_main(NULL);
	loop_free(process->main_loop);
}

void fake_process_run(struct fake_process *process)
{
	loop_run(process->main_loop);
}

void fake_process_turn(struct fake_process *process)
{
	cp_post(process->main_loop, stop_loop, NULL);
	loop_run(process->main_loop);
}

struct call {
	void (*run)(struct cp_loop *loop, void *arg);
	void *arg;
	sem_t done;
};

static void run_call(struct cp_loop *loop, void *arg)
{
	struct call *call = arg;
	call->run(loop, call->arg);
	sem_post(&call->done);
}

void fake_on_worker(struct fake_process *process, uint32_t index, void (*run)(struct cp_loop *loop, void *arg),
					void *arg)
{
	struct call call = {.run = run, .arg = arg};
	sem_init(&call.done, 0, 0);
	cr_assert(cp_post(process->workers[index], run_call, &call));
	sem_wait(&call.done);
	sem_destroy(&call.done);
}

static void start(struct cp_loop *loop, void *generation)
{
	struct cp_error error;
	if (generation_worker_start(generation, loop, &error) != CP_OK)
		diary_note("start failed");
}

void fake_start_workers(struct fake_process *process, struct generation *generation)
{
	for (uint32_t i = 0; i < FAKE_WORKERS; i++)
		fake_on_worker(process, i, start, generation);
	cr_assert_eq(diary_count("start failed"), 0);
}
