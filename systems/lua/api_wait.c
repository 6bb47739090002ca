/* What waits: connpipe.sleep, resolve, connect; and every, which runs a function again and again. */
#include "api.h"

#include "convert.h"
#include "stream.h"
#include "task.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- sleep -------------------------------------------------------------------------------------------------- */

static void on_sleep_over(struct cp_timer *timer)
{
	task_wake((struct task *)((char *)timer - offsetof(struct task, timer)), 0);
}

static void wake_up_early(struct task *task)
{
	cp_timer_stop(&task->timer);
}

static uint64_t take_ms(lua_State *L, int index)
{
	lua_Number seconds = luaL_checknumber(L, index);
	luaL_argcheck(L, seconds >= 0 && seconds < 1e9, index, "a time in seconds");
	return (uint64_t)ceil(seconds * 1000);
}

/** connpipe.sleep(seconds) */
static int wait_sleep(lua_State *L)
{
	struct task *task = task_of(L);
	uint64_t ms = take_ms(L, 1);
	cp_timer_init(&task->timer, task->vm->loop, on_sleep_over);
	cp_timer_start(&task->timer, ms);
	return task_wait(task, wake_up_early, NULL);
}

/* ---- resolve ------------------------------------------------------------------------------------------------ */

static int push_ips(lua_State *L, const struct cp_resolve *resolve)
{
	char text[CP_IP_TEXT];
	if (resolve->count == 0) {
		lua_pushnil(L);
		lua_pushstring(L, resolve->error.message);
		return 2;
	}
	lua_createtable(L, (int)resolve->count, 0);
	for (uint32_t i = 0; i < resolve->count; i++) {
		lua_pushlstring(L, text, cp_ip_print(&resolve->ips[i], text, sizeof(text)));
		lua_rawseti(L, -2, (int)i + 1);
	}
	return 1;
}

static void on_resolved(struct cp_resolve *resolve)
{
	struct task *task = resolve->arg;
	int results = push_ips(task->co, resolve);
	free(resolve);
	task_wake(task, results);
}

static void give_up_resolve(struct task *task)
{
	cp_resolve_cancel(task->waits_for);
	free(task->waits_for);
}

/** connpipe.resolve(host): its addresses as a list of texts, or nil and a reason. */
static int wait_resolve(lua_State *L)
{
	struct task *task = task_of(L);
	const char *host = luaL_checkstring(L, 1);
	struct cp_resolve *resolve = calloc(1, sizeof(*resolve));
	if (!resolve)
		abort();
	resolve->done = on_resolved;
	resolve->arg = task;
	int result = cp_resolve_start(task->vm->loop, resolve, host);
	if (result == CP_AGAIN)
		return task_wait(task, give_up_resolve, resolve);
	struct cp_resolve answer = *resolve; /* an error raised from here on must not lose it */
	if (answer.ips == &resolve->literal)
		answer.ips = &answer.literal;
	free(resolve);
	return push_ips(L, &answer);
}

/* ---- connect ------------------------------------------------------------------------------------------------ */

struct connecting {
	struct task *task;
	struct cp_arena *arena; /* of the address */
	struct cp_connect *connect;
	struct cp_timer deadline;
};

static void free_connecting(struct connecting *c)
{
	cp_timer_stop(&c->deadline);
	cp_arena_free(c->arena);
	free(c);
}

static int push_refusal(lua_State *L, const struct cp_error *error)
{
	lua_pushnil(L);
	if (error->where[0])
		lua_pushfstring(L, "%s: %s", error->where, error->message);
	else
		lua_pushstring(L, error->message[0] ? error->message : cp_err_text(error->code));
	return 2;
}

static void on_connected(struct cp_stream *stream, const struct cp_error *error, void *arg)
{
	struct connecting *c = arg;
	struct task *task = c->task;
	int results = 1;
	if (stream)
		stream_push(task, stream);
	else
		results = push_refusal(task->co, error);
	free_connecting(c);
	task_wake(task, results);
}

static void give_up_connect(struct task *task)
{
	struct connecting *c = task->waits_for;
	cp_connect_cancel(c->connect);
	free_connecting(c);
}

static void on_deadline(struct cp_timer *timer)
{
	struct connecting *c = (struct connecting *)((char *)timer - offsetof(struct connecting, deadline));
	struct task *task = c->task;
	cp_connect_cancel(c->connect);
	free_connecting(c);
	lua_pushnil(task->co);
	lua_pushstring(task->co, cp_err_text(CP_ETIMEOUT));
	task_wake(task, 2);
}

static struct connecting *make_connecting(struct task *task)
{
	struct connecting *c = calloc(1, sizeof(*c));
	if (!c)
		abort();
	c->task = task;
	c->arena = cp_arena_new(0);
	cp_timer_init(&c->deadline, task->vm->loop, on_deadline);
	return c;
}

/** Begin to connect to what is at 1. @param waiting  set with CP_AGAIN
 * The memory limit is lifted: an error that is raised in here would lose what is in the making. */
static int start_connecting(struct task *task, uint64_t ms, struct connecting **waiting, struct cp_stream **stream,
							struct cp_error *error)
{
	struct vm *vm = task->vm;
	size_t limit = vm_lift_limit(vm);
	const struct cp_address *address;
	struct connecting *c = make_connecting(task);
	int result = convert_address(task->co, 1, cp_system_scope(vm->script->system), c->arena, &address, error);
	if (result == CP_OK)
		result = cp_connect_start(vm->loop, address, task->request, ms, on_connected, c, &c->connect, stream, error);
	if (result == CP_AGAIN && ms)
		cp_timer_start(&c->deadline, ms);
	if (result == CP_AGAIN)
		*waiting = c;
	else
		free_connecting(c);
	vm->limit = limit;
	return result;
}

/** connpipe.connect(address, timeout): a stream, or nil and a reason. */
static int wait_connect(lua_State *L)
{
	struct task *task = task_of(L);
	struct connecting *waiting = NULL;
	struct cp_stream *stream = NULL;
	struct cp_error error = {0};
	uint64_t ms = lua_isnoneornil(L, 2) ? 0 : take_ms(L, 2);
	luaL_argcheck(L, lua_type(L, 1) == LUA_TSTRING || lua_type(L, 1) == LUA_TTABLE, 1, "an address");
	lua_settop(L, 1);
	luaL_checkstack(L, 16, "an address");
	int result = start_connecting(task, ms, &waiting, &stream, &error);
	if (result == CP_AGAIN)
		return task_wait(task, give_up_connect, waiting);
	if (result != CP_OK)
		return push_refusal(L, &error);
	stream_push(task, stream);
	return 1;
}

/* ---- every -------------------------------------------------------------------------------------------------- */

/** A function that runs again and again; not again while it still waits. */
struct every {
	struct every *next;
	struct vm *vm;
	struct cp_timer timer;
	uint64_t ms;
	int function;
	bool busy;
};

static void on_every_resumed(struct task *task, enum task_state state)
{
	struct every *every = task->arg;
	struct vm *vm = task->vm;
	if (state == TASK_WAITS)
		return;
	if (state == TASK_FAILED)
		cp_log(CP_ERROR, vm->script->id, "%s: %s", vm->failed_at, vm->failure);
	every->busy = false;
	task_end(task, CP_CAUSE_DONE);
}

static void on_every(struct cp_timer *timer)
{
	struct every *every = (struct every *)((char *)timer - offsetof(struct every, timer));
	cp_timer_start(timer, every->ms);
	if (every->busy)
		return;
	every->busy = true;
	struct task *task = task_new(every->vm, every->function);
	task->resumed = on_every_resumed;
	task->arg = every;
	task_wake(task, 0);
}

static void start_every(struct every *every)
{
	cp_timer_init(&every->timer, every->vm->loop, on_every);
	cp_timer_start(&every->timer, every->ms);
}

/** connpipe.every(seconds, f): on every worker, as long as the script is loaded. */
static int wait_every(lua_State *L)
{
	struct vm *vm = vm_of(L);
	uint64_t ms = take_ms(L, 1);
	luaL_checktype(L, 2, LUA_TFUNCTION);
	luaL_argcheck(L, ms > 0, 1, "a time in seconds, more than 0");
	lua_settop(L, 2);
	int function = luaL_ref(L, LUA_REGISTRYINDEX);
	struct every *every = calloc(1, sizeof(*every));
	if (!every)
		abort();
	*every = (struct every){.next = vm->every, .vm = vm, .ms = ms, .function = function};
	vm->every = every;
	if (vm->loop)
		start_every(every);
	return 0;
}

void api_start(struct vm *vm)
{
	for (struct every *every = vm->every; every; every = every->next)
		start_every(every);
}

void api_stop(struct vm *vm)
{
	for (struct every *every = vm->every; every; every = every->next)
		cp_timer_stop(&every->timer);
}

void api_free(struct vm *vm)
{
	while (vm->every) {
		struct every *every = vm->every;
		vm->every = every->next;
		free(every);
	}
}

void api_wait_open(lua_State *L)
{
	static const luaL_Reg functions[] = {{"sleep", wait_sleep},     {"resolve", wait_resolve},
										 {"connect", wait_connect}, {"stream", filter_lua_new},
										 {"every", wait_every},     {NULL, NULL}};
	luaL_register(L, NULL, functions);
}
