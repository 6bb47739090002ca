/** Calls on the threads of a proxy that runs in this process, and waiting for what they do. */
#ifndef TESTS_UNIT_TASK_CALLS_H
#define TESTS_UNIT_TASK_CALLS_H

#include "task_fixture.h"

#include "loop/loop.h"

#include <connpipe/loop.h>

#include <stdbool.h>

static pthread_mutex_t calls_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t calls_changed = PTHREAD_COND_INITIALIZER;

static inline void set(bool *truth)
{
	pthread_mutex_lock(&calls_lock);
	*truth = true;
	pthread_cond_broadcast(&calls_changed);
	pthread_mutex_unlock(&calls_lock);
}

static inline void wait_for(const bool *truth)
{
	pthread_mutex_lock(&calls_lock);
	while (!*truth)
		pthread_cond_wait(&calls_changed, &calls_lock);
	pthread_mutex_unlock(&calls_lock);
}

struct call {
	void (*run)(struct cp_loop *loop, void *arg);
	void *arg;
	bool done;
};

static inline void run_call(struct cp_loop *loop, void *arg)
{
	struct call *call = arg;
	call->run(loop, call->arg);
	set(&call->done);
}

/** Run on the loop's thread, and wait for it. */
static inline void call(struct cp_loop *loop, void (*run)(struct cp_loop *loop, void *arg), void *arg)
{
	struct call call = {run, arg, false};
	cr_assert(cp_post(loop, run_call, &call));
	wait_for(&call.done);
}

#endif
