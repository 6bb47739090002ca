/* The pool of threads for blocking work: see cp_blocking() in connpipe/loop.h.
 *
 * One queue for all loops. A thread is made when work comes and none is idle, up to THREADS_MAX; threads stay until
 * blocking_stop(), waiting costs nothing. What comes back goes through the inbox of the loop that asked. */
#include "../base/memory.h"
#include "inbox.h"
#include "loop.h"

#include <connpipe/log.h>

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS_MAX = 4 };

struct job {
	struct job *next;
	struct cp_loop *loop;
	void (*work)(void *arg);
	cp_post_run *done;
	void *arg;
};

static struct {
	pthread_mutex_t lock; /* for everything below */
	pthread_cond_t changed;
	struct job *first, **end; /* `end` NULL: nothing was queued yet */
	unsigned queued, idle;    /* jobs; threads that wait for one */
	pthread_t threads[THREADS_MAX];
	unsigned thread_count;
	bool stopped;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

/** Called with the lock held. */
static void push(struct job *job)
{
	if (!pool.first)
		pool.end = &pool.first;
	*pool.end = job;
	pool.end = &job->next;
	pool.queued++;
}

/** Wait for a job. @return NULL: the pool has stopped, and nothing is left to do. Called with the lock held. */
static struct job *pop(void)
{
	struct job *job;

	pool.idle++;
	while (!pool.first && !pool.stopped)
		pthread_cond_wait(&pool.changed, &pool.lock);
	pool.idle--;
	job = pool.first;
	if (job) {
		pool.first = job->next;
		pool.queued--;
	}
	return job;
}

/* Nobody waits any more for what a loop that has ended asked for, and the code of the work may be unloaded by now. */
static void run_job(struct job *job)
{
	if (!inbox_is_closed(job->loop->inbox)) {
		job->work(job->arg);
		cp_post(job->loop, job->done, job->arg);
	}
	free(job);
}

static void *run_thread(void *unused)
{
	struct job *job;

	pthread_mutex_lock(&pool.lock);
	while ((job = pop())) {
		pthread_mutex_unlock(&pool.lock);
		run_job(job);
		pthread_mutex_lock(&pool.lock);
	}
	pthread_mutex_unlock(&pool.lock);
	return unused;
}

/** Make one more thread. Called with the lock held. @return 0 or an errno value */
static int add_thread(void)
{
	sigset_t all, before;
	int result;

	sigfillset(&all); /* signals are for the main thread */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	result = pthread_create(&pool.threads[pool.thread_count], NULL, run_thread, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (result == 0)
		pthread_setname_np(pool.threads[pool.thread_count++], "blocking");
	return result;
}

/** Called with the lock held. @return false: there is no thread at all that could do it */
static bool accept_job(struct job *job)
{
	int result = 0;

	if (pool.stopped)
		return false;
	if (pool.idle <= pool.queued && pool.thread_count < THREADS_MAX)
		result = add_thread();
	if (pool.thread_count == 0) {
		cp_log(CP_ERROR, "blocking", "cannot make a thread: %s", strerror(result));
		return false;
	}
	push(job);
	pthread_cond_signal(&pool.changed);
	return true;
}

bool cp_blocking(struct cp_loop *loop, void (*work)(void *arg), cp_post_run *done, void *arg)
{
	struct job *job = xmalloc(sizeof(*job));
	bool accepted;

	*job = (struct job){.loop = loop, .work = work, .done = done, .arg = arg};
	pthread_mutex_lock(&pool.lock);
	accepted = accept_job(job);
	pthread_mutex_unlock(&pool.lock);
	if (!accepted)
		free(job);
	return accepted;
}

void blocking_start(void)
{
	pthread_mutex_lock(&pool.lock);
	pool.stopped = false;
	pthread_mutex_unlock(&pool.lock);
}

void blocking_stop(void)
{
	unsigned count;

	pthread_mutex_lock(&pool.lock);
	pool.stopped = true;
	count = pool.thread_count;
	pthread_cond_broadcast(&pool.changed);
	pthread_mutex_unlock(&pool.lock);
	for (unsigned i = 0; i < count; i++)
		pthread_join(pool.threads[i], NULL);
	pthread_mutex_lock(&pool.lock);
	pool.thread_count = 0;
	pthread_mutex_unlock(&pool.lock);
}
