#include "task.h"

#include "stream.h"

#include <assert.h>
#include <stdlib.h>

enum { IDLE_MOST = 64 };

/* ---- Making and ending -------------------------------------------------------------------------------------- */

static struct task *make(struct vm *vm)
{
	struct task *task = calloc(1, sizeof(*task));
	if (!task)
		abort();
	task->vm = vm;
	task->co = lua_newthread(vm->L);
	task->co_ref = luaL_ref(vm->L, LUA_REGISTRYINDEX);
	return task;
}

struct task *task_new(struct vm *vm, int function)
{
	struct task *task = vm->idle;
	if (task) {
		vm->idle = task->next;
		vm->idle_count--;
	} else {
		task = make(vm);
	}
	task->next = vm->tasks;
	task->prev = &vm->tasks;
	if (task->next)
		task->next->prev = &task->next;
	vm->tasks = task;
	task->serial = ++vm->serial;
	lua_rawgeti(task->co, LUA_REGISTRYINDEX, function);
	return task;
}

static void free_task(struct task *task)
{
	luaL_unref(task->vm->L, LUA_REGISTRYINDEX, task->co_ref);
	free(task);
}

/** A coroutine that ran to its end can run another function; one that failed or still waits cannot. */
static void recycle(struct task *task)
{
	struct vm *vm = task->vm;
	lua_settop(task->co, 0);
	task->request = NULL;
	task->newcomer = NULL;
	task->also = NULL;
	task->holder = NULL;
	task->resumed = NULL;
	task->arg = NULL;
	task->peek_bytes = 0;
	task->sniff = NULL;
	task->peeks = false;
	task->next = vm->idle;
	vm->idle = task;
	vm->idle_count++;
}

void task_end(struct task *task, enum cp_cause cause)
{
	bool whole = !task->waiting && !task->spoiled;
	assert(task->vm->running != task);
	if (task->holder)
		*task->holder = NULL;
	if (task->waiting && task->give_up)
		task->give_up(task);
	task->waiting = false;
	if (task->timer.fired)
		cp_timer_stop(&task->timer);
	stream_close_all(&task->own, cause);
	*task->prev = task->next;
	if (task->next)
		task->next->prev = task->prev;
	if (whole && task->vm->idle_count < IDLE_MOST)
		recycle(task);
	else
		free_task(task);
}

void task_free_idle(struct vm *vm)
{
	while (vm->idle) {
		struct task *task = vm->idle;
		vm->idle = task->next;
		free_task(task);
	}
	vm->idle_count = 0;
}

/* ---- Running ------------------------------------------------------------------------------------------------ */

static enum task_state failed(struct task *task)
{
	task->spoiled = true;
	vm_note_failure(task->vm, task->co);
	return TASK_FAILED;
}

enum task_state task_resume(struct task *task, int arguments)
{
	struct vm *vm = task->vm;
	task->waiting = false;
	task->give_up = NULL;
	vm_enter(vm, task);
	int result = lua_resume(task->co, arguments);
	vm_leave(vm);
	if (result == 0)
		return TASK_DONE;
	if (result != LUA_YIELD)
		return failed(task);
	if (task->waiting)
		return TASK_WAITS;
	lua_pushliteral(task->co, "the handler yielded by itself; only functions of connpipe wait");
	return failed(task);
}

void task_wake(struct task *task, int results)
{
	enum task_state state = task_resume(task, results);
	task->resumed(task, state);
}

struct task *task_of(lua_State *L)
{
	struct vm *vm = vm_of(L);
	if (vm->calls)
		luaL_error(L, "nothing can be waited for here: parse, format, bind and close have to answer at once");
	if (!vm->running)
		luaL_error(L, "nothing can be waited for while the script is loaded");
	if (vm->running->co != L)
		luaL_error(L, "only a handler itself can wait, not a coroutine that it made");
	if (!lua_isyieldable(L))
		luaL_error(L, "nothing can be waited for inside a function that Lua's library calls (string.gsub, table.sort)");
	return vm->running;
}

int task_wait(struct task *task, void (*give_up)(struct task *task), void *waits_for)
{
	task->waiting = true;
	task->give_up = give_up;
	task->waits_for = waits_for;
	return lua_yield(task->co, 0);
}
