/* Connectors and converters in Lua: a handler makes the stream that the core asked for.
 *
 *     connect, accept ─▶ begin ─▶ task ─▶ returned a stream ──────────────────▶ over
 *                          │       │  └─▶ returned an address ─▶ cp_connect ──▶ over
 *                          │       └─▶ nil and a reason, an error ────────────▶ over
 *                          └ another handler runs (it connects to this): begins at the end of the turn */
#include "connector.h"

#include "convert.h"
#include "listen.h"
#include "request.h"
#include "stream.h"
#include "task.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/** One stream in the making. */
struct making {
	struct cp_open *open; /* NULL: given up before it began */
	const struct declared *declared;
	struct vm *vm;
	int function;
	bool messages;              /* what has to come of it keeps message boundaries */
	struct task *task;          /* while the handler runs or waits */
	struct cp_connect *connect; /* while the address that it returned is connected to */
	struct cp_arena *arena;     /* of that address */
	struct cp_deferred deferred;
	struct cp_timer deadline;
};

/* ---- Ends --------------------------------------------------------------------------------------------------- */

static void free_making(struct making *m)
{
	cp_timer_stop(&m->deadline);
	if (m->task)
		task_end(m->task, CP_CAUSE_CONNECT_FAILED); /* it did not come to a stream, so what it has open is cut off */
	if (m->connect)
		cp_connect_cancel(m->connect);
	if (m->arena)
		cp_arena_free(m->arena);
	free(m);
}

/** It is over: tell the core, as it was told CP_AGAIN. @param result  CP_OK, or the error in open->error */
static void over(struct making *m, int result)
{
	struct cp_open *open = m->open;
	if (result == CP_AGAIN)
		return;
	open->error.code = (enum cp_err)result;
	free_making(m);
	cp_open_done(open);
}

/** Nothing was answered yet: the result is the call's. */
static int over_at_once(struct making *m, int result)
{
	if (result != CP_AGAIN)
		free_making(m);
	return result;
}

/* ---- What the handler returned ------------------------------------------------------------------------------ */

static void on_connected(struct cp_stream *stream, const struct cp_error *error, void *arg)
{
	struct making *m = arg;
	m->connect = NULL;
	m->open->stream = stream;
	if (!stream)
		m->open->error = *error;
	over(m, stream ? CP_OK : (int)error->code);
}

static int take_stream(struct making *m)
{
	bool messages = m->messages;
	struct cp_stream *stream = stream_take(m->task, 1, &m->open->error);
	if (!stream)
		return CP_EINVAL;
	if (stream->messages != messages) {
		cp_stream_close(stream, CP_CAUSE_CONNECT_FAILED);
		return cp_error_set(&m->open->error, CP_EUNSUPPORTED, NULL,
							"a stream of %s was returned where one of %s was declared", messages ? "bytes" : "messages",
							messages ? "messages" : "bytes");
	}
	m->open->stream = stream;
	return CP_OK;
}

/** An address: connect there instead. */
static int take_address(struct making *m)
{
	const struct cp_address *address;
	struct cp_open *open = m->open;
	m->arena = cp_arena_new(0);
	int result =
		convert_address(m->task->co, 1, cp_system_scope(m->declared->script->system), m->arena, &address, &open->error);
	if (result == CP_OK)
		result = cp_connect_start(open->loop, address, open->request, open->timeout_ms, on_connected, m, &m->connect,
								  &open->stream, &open->error);
	return result;
}

static int take_result(struct making *m)
{
	lua_State *L = m->task->co;
	enum cp_err refused = m->declared->kind == DECLARED_CONNECTOR ? CP_EREFUSED : CP_EPROTO;
	if (lua_gettop(L) == 0 || !lua_toboolean(L, 1)) {
		const char *reason = lua_gettop(L) >= 2 ? lua_tostring(L, 2) : NULL;
		return cp_error_set(&m->open->error, refused, NULL, "%s", reason ? reason : "no reason given");
	}
	if (stream_is(L, 1))
		return take_stream(m);
	if (m->declared->kind == DECLARED_CONNECTOR)
		return take_address(m);
	return cp_error_set(&m->open->error, CP_EINVAL, NULL, "a converter returns a stream, not a %s",
						luaL_typename(L, 1));
}

static int outcome(struct making *m, enum task_state state)
{
	struct vm *vm = m->vm;
	struct task *task = m->task;
	int result = CP_AGAIN;
	if (state == TASK_WAITS)
		return CP_AGAIN;
	if (state == TASK_DONE) {
		result = take_result(m);
	} else {
		cp_log(CP_ERROR, vm->script->id, "%s: %s", vm->failed_at, vm->failure);
		result = cp_error_set(&m->open->error, CP_EIO, NULL, "%s: %s", vm->failed_at, vm->failure);
	}
	if (result != CP_OK && result != CP_AGAIN)
		return result; /* free_making() closes what is left */
	task_end(task, CP_CAUSE_DONE);
	return result;
}

static void on_resumed(struct task *task, enum task_state state)
{
	struct making *m = task->arg;
	over(m, outcome(m, state));
}

/* ---- Beginning ---------------------------------------------------------------------------------------------- */

static void on_deadline(struct cp_timer *timer)
{
	struct making *m = (struct making *)((char *)timer - offsetof(struct making, deadline));
	over(m, cp_error_set(&m->open->error, CP_ETIMEOUT, NULL, "the script took longer than %llu ms",
						 (unsigned long long)m->open->timeout_ms));
}

/** The handler's arguments. A connector gets address and request, a converter the stream, its argument and request. */
static int push_arguments(struct making *m)
{
	lua_State *L = m->task->co;
	if (m->declared->kind == DECLARED_CONNECTOR) {
		convert_push_address(L, m->open->address);
		request_push(m->task);
		return 2;
	}
	stream_push(m->task, m->open->lower);
	lua_pushstring(L, m->open->argument); /* nil if there is none */
	request_push(m->task);
	return 3;
}

static int begin(struct making *m)
{
	m->task = task_new(m->vm, m->function);
	m->task->holder = &m->task; /* when the script stops it is ended before those that wait for it may be */
	m->task->request = m->open->request;
	m->task->resumed = on_resumed;
	m->task->arg = m;
	if (m->open->timeout_ms)
		cp_timer_start(&m->deadline, m->open->timeout_ms);
	int arguments = push_arguments(m);
	return outcome(m, task_resume(m->task, arguments));
}

static void on_deferred(struct cp_deferred *deferred)
{
	struct making *m = (struct making *)((char *)deferred - offsetof(struct making, deferred));
	if (m->open)
		over(m, begin(m));
	else
		free_making(m);
}

static bool makes_messages(const struct declared *declared, const struct cp_open *open)
{
	if (declared->kind == DECLARED_CONNECTOR)
		return declared->def.connector.flags & CP_CONNECTOR_MESSAGES;
	return declared->def.converter.form == CP_FORM_TO_MESSAGES || open->lower->messages;
}

static int make(const struct declared *declared, struct cp_open *open, bool accepting)
{
	struct making *m = calloc(1, sizeof(*m));
	if (!m)
		abort();
	m->declared = declared;
	m->open = open;
	m->messages = makes_messages(declared, open);
	m->vm = declared->script->vms[cp_loop_index(open->loop)];
	const struct handlers *handlers = &m->vm->handlers[declared->index];
	m->function = accepting ? handlers->first : handlers->second;
	cp_timer_init(&m->deadline, open->loop, on_deadline);
	open->state = m;
	if (!m->vm->running)
		return over_at_once(m, begin(m));
	cp_defer(open->loop, &m->deferred, on_deferred);
	return CP_AGAIN;
}

static void give_up(struct cp_open *open)
{
	struct making *m = open->state;
	if (!m->deferred.queued) {
		free_making(m);
		return;
	}
	if (open->lower)
		cp_stream_close(open->lower, CP_CAUSE_CLIENT_GONE);
	m->open = NULL; /* freed when its turn comes */
}

/* ---- The core's calls --------------------------------------------------------------------------------------- */

static int connector_connect(struct cp_connector *connector, struct cp_open *open)
{
	return make(connector->arg, open, false);
}

static void connector_cancel(struct cp_connector *connector, struct cp_open *open)
{
	(void)connector;
	give_up(open);
}

static int converter_accept(const struct cp_converter *converter, struct cp_open *open)
{
	return make(converter->arg, open, true);
}

static int converter_connect(const struct cp_converter *converter, struct cp_open *open)
{
	return make(converter->arg, open, false);
}

static void converter_cancel(const struct cp_converter *converter, struct cp_open *open)
{
	(void)converter;
	give_up(open);
}

/** Any argument is one: the handler judges it. */
static int converter_check(const struct cp_converter *converter, const char *argument, struct cp_error *error)
{
	(void)converter, (void)argument, (void)error;
	return CP_OK;
}

void connector_define(struct declared *declared, const struct handlers *handlers, bool messages)
{
	bool binds = handlers->bind != LUA_NOREF, connects = handlers->second != LUA_NOREF;
	declared->accepts = handlers->first != LUA_NOREF;
	declared->def.connector = (struct cp_connector_def){
		.size = sizeof(struct cp_connector_def),
		.aliases = declared->names,
		.flags = messages ? CP_CONNECTOR_MESSAGES : 0,
		.connect = connects ? connector_connect : NULL,
		.cancel = connects ? connector_cancel : NULL,
		.bind = binds ? listen_bind : NULL,
		.check_bind = binds ? listen_check_bind : NULL,
		.adopt = binds ? listen_adopt : NULL,
	};
}

void converter_define(struct declared *declared, const struct handlers *handlers, bool messages, bool frames)
{
	declared->def.converter = (struct cp_converter_def){
		.size = sizeof(struct cp_converter_def),
		.id = declared->id,
		.form = frames ? CP_FORM_TO_MESSAGES : CP_FORM_SAME,
		.messages = messages,
		.check = converter_check,
		.accept = handlers->first != LUA_NOREF ? converter_accept : NULL,
		.connect = handlers->second != LUA_NOREF ? converter_connect : NULL,
		.cancel = converter_cancel,
	};
}
