/** Tasks: handlers of a script as coroutines.
 *
 *     task_new ─▶ task_resume ─▶ DONE or FAILED ─▶ task_end
 *                     │   ▲
 *                   WAITS │ task_wake, from the loop: what it waited for is there
 *                     └───┘
 *
 * A function of the API that has to wait starts what it waits for, says how to give it up (task_wait), and yields; when
 * it is there, it pushes the function's results on the coroutine and wakes the task. The worker never waits.
 *
 * Thread: the vm's worker. */
#ifndef LUA_TASK_H
#define LUA_TASK_H

#include "vm.h"

enum task_state { TASK_DONE, TASK_FAILED, TASK_WAITS };

struct lua_stream;

/** Whose streams of Lua those are: a task's, or those below a stream that a script made (filter.c). */
struct stream_owner {
	struct lua_stream *first;
};

/** A connection that a connector's `accept` looks at before the core knows of it (accept.c). */
struct newcomer {
	const struct cp_address *address; /* as bound */
	struct cp_peer peer;
};

struct task {
	struct vm *vm;
	lua_State *co;
	int co_ref;           /* keeps the coroutine */
	struct task **holder; /* who else knows it: cleared when the task ends, whoever ends it; or NULL */
	struct task *next, **prev;
	double serial;              /* of this use: what a request that outlives it is told apart by */
	struct cp_request *request; /* the connection it is for, or NULL */
	struct newcomer *newcomer;  /* in place of a request, or NULL */
	struct stream_owner own;    /* streams which it opened or was given, and which end with it */
	struct stream_owner *also;  /* others that it may use, or NULL */
	void (*resumed)(struct task *task, enum task_state state); /* after task_wake */
	void *arg;                                                 /* for `resumed` */
	bool waiting, spoiled;                                     /* spoiled: the coroutine has ended in an error */
	void (*give_up)(struct task *task);                        /* how to give up what it waits for */
	void *waits_for;
	struct cp_timer timer; /* for what waits with a time-out */
	bool peeks;            /* a router's: can ask for the client's first bytes (router.c) */
	size_t peek_bytes;     /* waits for as many */
	uint64_t peek_ms;
	const char *fact;             /* waits for this one, */
	const struct cp_sniff *sniff; /* which this settles */
};

/** A task whose coroutine has the function `function` (a reference) on its stack; push arguments, then resume. */
struct task *task_new(struct vm *vm, int function);
/** Run until it ends or waits. @param arguments  how many were pushed on task->co
 * DONE: results are on task->co; FAILED: vm->failure says how. */
enum task_state task_resume(struct task *task, int arguments);
/** Resume and tell task->resumed. Called from the loop. The task may be gone when it returns. */
void task_wake(struct task *task, int results);
/** It is over, or given up: what it waits for is forgotten, the streams that it still has are closed. */
void task_end(struct task *task, enum cp_cause cause);
/** Free the coroutines kept for use again. */
void task_free_idle(struct vm *vm);

/** For functions of the API: the task that calls. Raises an error where waiting is impossible: while the script loads,
 * and in a coroutine that the script made itself. */
struct task *task_of(lua_State *L);
/** … waits from now on: `return task_wait(task, …)`. */
int task_wait(struct task *task, void (*give_up)(struct task *task), void *waits_for);

#endif
