#include "vm.h"

#include "task.h"

#include <luajit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	LOAD_BUDGET_MS = 5000, /* the script's own lines run on the main task, once */
	TRACEBACK_LEVELS = 12,
};

/* ---- Where a script is -------------------------------------------------------------------------------------- */

/** The innermost line of the script on the stack. */
static void find_line(struct vm *vm, lua_State *L)
{
	lua_Debug frame;
	for (int level = 0; lua_getstack(L, level, &frame); level++) {
		lua_getinfo(L, "Sl", &frame);
		if (frame.currentline > 0) {
			snprintf(vm->failed_at, sizeof(vm->failed_at), "%s:%d", frame.short_src, frame.currentline);
			return;
		}
	}
	snprintf(vm->failed_at, sizeof(vm->failed_at), "%s", vm->script->chunk);
}

/* ---- Memory ------------------------------------------------------------------------------------------------- */

/** The error that follows has no place of its own, and when it is caught the innermost line is not known any more. */
static void note_shortage(struct vm *vm)
{
	find_line(vm, vm->calls ? vm->side : vm->running ? vm->running->co : vm->L);
	vm->short_of_memory = true;
}

/** The limit holds only while the script runs: there, having none is an error that is caught. What the program itself
 * puts into the state between runs is little, and Lua would end the process if it failed. */
static void *allocate(void *arg, void *old, size_t old_size, size_t size)
{
	struct vm *vm = arg;
	if (size == 0) {
		free(old);
		vm->used -= old_size;
		return NULL;
	}
	if (size > old_size && vm->limit && vm->used + (size - old_size) > vm->limit) {
		note_shortage(vm);
		return NULL;
	}
	void *memory = realloc(old, size);
	if (memory)
		vm->used += size - old_size;
	return memory;
}

/** LuaJIT collects at its own pace, not when the limit is near; so it is helped there, before a run (after one, what it
 * made is still held by its coroutine). Not twice for the same: what was not garbage the last time is not looked
 * through again until as much as an eighth of the limit was added, or the limit was reached. */
static void collect_if_short(struct vm *vm)
{
	size_t limit = (size_t)vm->script->memory;
	bool near = vm->used >= limit / 4 * 3 && vm->used >= vm->collected + limit / 8;
	if (!near && !vm->short_of_memory)
		return;
	lua_gc(vm->L, LUA_GCCOLLECT, 0);
	vm->collected = vm->used;
}

/* ---- Running ------------------------------------------------------------------------------------------------ */

struct vm *vm_of(lua_State *L)
{
	void *vm;
	lua_getallocf(L, &vm);
	return vm;
}

struct vm *vm_here(const struct script *script)
{
	struct cp_loop *loop = cp_loop_current();
	uint32_t index = loop ? cp_loop_index(loop) : CP_LOOP_MAIN;
	if (index < script->vm_count && script->vms[index] && script->vms[index]->loop == loop)
		return script->vms[index];
	return pthread_equal(script->thread, pthread_self()) ? script->main : NULL;
}

size_t vm_lift_limit(struct vm *vm)
{
	size_t limit = vm->limit;
	vm->limit = 0;
	return limit;
}

void vm_enter(struct vm *vm, struct task *task)
{
	collect_if_short(vm);
	vm->inside = true;
	vm->running = task;
	vm->limit = (size_t)vm->script->memory;
	vm->short_of_memory = false;
	budget_enter(&vm->budget);
}

void vm_leave(struct vm *vm)
{
	budget_leave(&vm->budget);
	vm->inside = false;
	vm->limit = 0;
	vm->running = NULL;
}

/* ---- Failures ----------------------------------------------------------------------------------------------- */

/** An error begins with `script:line: ` if it was raised in a script: that goes to failed_at. */
static const char *split_place(struct vm *vm, const char *message)
{
	const char *colon = strstr(message, ": ");
	size_t length = colon ? (size_t)(colon - message) : 0;
	size_t digits = length;
	while (digits > 0 && message[digits - 1] >= '0' && message[digits - 1] <= '9')
		digits--;
	if (digits == length || digits == 0 || message[digits - 1] != ':' || length >= sizeof(vm->failed_at))
		return message;
	memcpy(vm->failed_at, message, length);
	vm->failed_at[length] = 0;
	return colon + 2;
}

/** ` (in function 'f' at main.lua:3, main.lua:9)`: who called, on one line. */
static void add_traceback(struct vm *vm, lua_State *L)
{
	size_t length = strlen(vm->failure);
	lua_Debug frame;
	bool any = false;
	for (int level = 0, shown = 0; shown < TRACEBACK_LEVELS && lua_getstack(L, level, &frame); level++) {
		lua_getinfo(L, "nSl", &frame);
		if (frame.currentline <= 0 || length + 2 > sizeof(vm->failure))
			continue;
		length += (size_t)snprintf(vm->failure + length, sizeof(vm->failure) - length, "%s%s%s%s:%d",
								   any ? " < " : " (", frame.name ? frame.name : "", frame.name ? " at " : "",
								   frame.short_src, frame.currentline);
		any = true;
		shown++;
	}
	if (any && length + 2 <= sizeof(vm->failure))
		snprintf(vm->failure + length, sizeof(vm->failure) - length, ")");
}

void vm_note_failure(struct vm *vm, lua_State *L)
{
	const char *message = lua_tostring(L, -1);
	bool shortage = vm->short_of_memory && message && strstr(message, "not enough memory");
	if (!shortage)
		find_line(vm, L);
	if (!message)
		message = "an error that is no text was raised";
	snprintf(vm->failure, sizeof(vm->failure), "%s%s", split_place(vm, message),
			 shortage ? ": the script is over its limit `memory`" : "");
	add_traceback(vm, L);
}

/* ---- Life --------------------------------------------------------------------------------------------------- */

/** Everything that is there before the script. Protected: it allocates. */
static int prepare(lua_State *L)
{
	struct vm *vm = vm_of(L);
	sandbox_open(L, vm->script);
	luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | (vm->script->jit ? LUAJIT_MODE_ON : LUAJIT_MODE_OFF));
	api_open(L);
	lua_newtable(L);
	vm->targets = luaL_ref(L, LUA_REGISTRYINDEX);
	vm->side = lua_newthread(L);
	luaL_ref(L, LUA_REGISTRYINDEX);
	return 0;
}

/** Runs where the error was raised, while its stack is whole. */
static int on_load_error(lua_State *L)
{
	vm_note_failure(vm_of(L), L);
	return 1;
}

static int run_script(struct vm *vm, struct cp_error *error)
{
	struct script *script = vm->script;
	lua_State *L = vm->L;
	const char *name = lua_pushfstring(L, "@%s", script->chunk);
	lua_pushcfunction(L, on_load_error);
	if (luaL_loadbufferx(L, script->text, script->length, name, "t") != 0) {
		const char *message = lua_tostring(L, -1);
		snprintf(vm->failure, sizeof(vm->failure), "%s", split_place(vm, message));
		return cp_error_set(error, CP_EINVAL, vm->failed_at, "%s", vm->failure);
	}
	vm->loading = true;
	vm_enter(vm, NULL);
	int result = lua_pcall(L, 0, 0, -2);
	vm_leave(vm);
	vm->loading = false;
	if (result == LUA_ERRMEM) /* for this one no handler is called */
		vm_note_failure(vm, L);
	return result == 0 ? CP_OK : cp_error_set(error, CP_EINVAL, vm->failed_at, "%s", vm->failure);
}

static int load(struct vm *vm, struct cp_error *error)
{
	int result = budget_start(&vm->budget, vm->L, vm->script->jit ? 0 : LOAD_BUDGET_MS, error);
	if (result != CP_OK)
		return result;
	if (lua_cpcall(vm->L, prepare, NULL) != 0)
		result = cp_error_set(error, CP_EINVAL, vm->script->chunk, "%s", lua_tostring(vm->L, -1));
	else
		result = run_script(vm, error);
	budget_stop(&vm->budget);
	lua_settop(vm->L, 0);
	return result;
}

struct vm *vm_new(struct script *script, uint32_t worker, bool first, struct cp_error *error)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	if (!vm)
		abort();
	vm->script = script;
	vm->worker = worker;
	vm->arena = cp_arena_new(0);
	vm->signing = open_memstream(&vm->signature, &vm->signature_length);
	vm->L = lua_newstate(allocate, vm);
	if (!vm->L || !vm->signing)
		abort();
	int result = load(vm, error);
	fclose(vm->signing);
	vm->signing = NULL;
	if (result == CP_OK && !first && strcmp(vm->signature, script->signature) != 0)
		result = cp_error_set(error, CP_EINVAL, script->chunk,
							  "declares something else on worker %u than on the first: \"%s\", not \"%s\"", worker,
							  vm->signature, script->signature);
	if (result == CP_OK)
		return vm;
	vm_free(vm);
	return NULL;
}

int vm_start(struct vm *vm, struct cp_loop *loop, struct cp_error *error)
{
	int result = budget_start(&vm->budget, vm->L, vm->script->jit ? 0 : vm->script->budget_ms, error);
	if (result != CP_OK)
		return result;
	vm->loop = loop;
	api_start(vm);
	return CP_OK;
}

int vm_start_main(struct vm *vm, struct cp_error *error)
{
	return budget_start(&vm->budget, vm->L, vm->script->jit ? 0 : vm->script->budget_ms, error);
}

void vm_stop_main(struct vm *vm)
{
	budget_stop(&vm->budget);
}

void vm_stop(struct vm *vm)
{
	api_stop(vm);
	while (vm->tasks)
		task_end(vm->tasks, CP_CAUSE_SHUTDOWN);
	budget_stop(&vm->budget);
	vm->loop = NULL;
}

void vm_free(struct vm *vm)
{
	task_free_idle(vm);
	lua_close(vm->L);
	api_free(vm);
	cp_arena_free(vm->arena);
	free(vm->handlers);
	free(vm->signature);
	free(vm);
}
