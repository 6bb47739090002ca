/** Calls of a script's functions that have to answer at once: parse, format, bind of a connector, close of a stream.
 *
 * The core asks for these in the middle of something else, even while a handler of the same vm is on the stack. So they
 * run on a stack of their own (vm->side), cannot wait, and count towards the budget of what is under way; else they
 * have one of their own.
 *
 *     call_begin(&call, vm, function);       the function is on call.L
 *     lua_push…(call.L, …);                  its arguments
 *     result = call_run(&call, count, &error);
 *     …                                      results are on call.L, from call.first on
 *     call_end(&call);
 *
 * Between begin and end, but for the run itself, the memory limit is lifted: an error there would have no catcher.
 * Thread: the vm's. */
#ifndef LUA_CALL_H
#define LUA_CALL_H

#include "vm.h"

struct call {
	struct vm *vm;
	lua_State *L;
	int base;     /* what was on the stack before */
	int first;    /* index of the first result */
	int count;    /* of results */
	size_t limit; /* as it was */
};

/** @param function  a reference in the registry */
void call_begin(struct call *call, struct vm *vm, int function);
/** @return CP_OK, or CP_EINVAL: `error` has the script's line as `where`, and the words */
int call_run(struct call *call, int arguments, struct cp_error *error);
void call_end(struct call *call);

#endif
