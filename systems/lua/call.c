#include "call.h"

enum { STACK = 32 }; /* what arguments and results may need */

/** Runs where the error was raised, while its stack is whole. */
static int on_error(lua_State *L)
{
	vm_note_failure(vm_of(L), L);
	return 1;
}

void call_begin(struct call *call, struct vm *vm, int function)
{
	lua_State *L = vm->side;
	*call = (struct call){.vm = vm, .L = L, .base = lua_gettop(L), .limit = vm_lift_limit(vm)};
	vm->calls++;
	lua_checkstack(L, STACK);
	lua_pushcfunction(L, on_error);
	lua_rawgeti(L, LUA_REGISTRYINDEX, function);
	call->first = call->base + 2;
}

int call_run(struct call *call, int arguments, struct cp_error *error)
{
	struct vm *vm = call->vm;
	bool outermost = !vm->inside;
	if (outermost)
		vm_enter(vm, NULL);
	else
		vm->limit = (size_t)vm->script->memory;
	int result = lua_pcall(call->L, arguments, LUA_MULTRET, call->base + 1);
	if (result == LUA_ERRMEM) /* for this one no handler is called */
		vm_note_failure(vm, call->L);
	if (outermost)
		vm_leave(vm);
	vm_lift_limit(vm);
	call->count = lua_gettop(call->L) - call->first + 1;
	return result == 0 ? CP_OK : cp_error_set(error, CP_EINVAL, vm->failed_at, "%s", vm->failure);
}

void call_end(struct call *call)
{
	lua_settop(call->L, call->base);
	call->vm->limit = call->limit;
	call->vm->calls--;
}
