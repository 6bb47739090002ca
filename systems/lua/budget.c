#include "budget.h"

#include <connpipe/error.h>

#include <errno.h>
#include <lauxlib.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

enum { TICKS = 4, SIGNAL = SIGVTALRM };

/* ThreadSanitizer puts a handler of its own in front, which holds signals back until the program calls the library: an
 * endless loop in a script never does. So there the handler is installed behind its back, by the C library's own name
 * for the function, and is not instrumented: it may run anywhere in the sanitizer's code. */
#if defined(__SANITIZE_THREAD__)
#define UNDER_THREAD_SANITIZER
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_THREAD_SANITIZER
#endif
#endif
#ifdef UNDER_THREAD_SANITIZER
extern int __sigaction(int number, const struct sigaction *action, struct sigaction *before);
#define install_action __sigaction
#define NOT_INSTRUMENTED __attribute__((no_sanitize("thread")))
#else
#define install_action sigaction
#define NOT_INSTRUMENTED
#endif

/* Whose run is on this thread; NULL between runs, so that a tick then does nothing. */
static _Thread_local struct budget *volatile running;

static void stop(lua_State *L, lua_Debug *where)
{
	(void)where;
	struct budget *budget = running;
	luaL_where(L, 0); /* a hook has no frame of its own */
	lua_pushfstring(L, "ran longer than its budget of %d ms without waiting", budget ? (int)budget->ms : 0);
	lua_concat(L, 2);
	lua_error(L);
}

/** The signal's value is only compared: a late signal of a timer that is gone finds another budget, or none. */
static NOT_INSTRUMENTED void on_tick(int number, siginfo_t *info, void *context)
{
	struct budget *budget = running;
	(void)number, (void)context;
	if (!budget || info->si_value.sival_ptr != budget)
		return;
	if (budget->seen != budget->run) {
		budget->seen = budget->run;
		budget->ticks = 0;
		return;
	}
	budget->ticks += 1 + info->si_overrun; /* the kernel's own clock may be coarser than ours */
	if (budget->ticks < TICKS)
		return;
	budget->over = 1;
	lua_sethook(budget->L, stop, LUA_MASKCOUNT, 1);
}

static void install_handler(void)
{
	struct sigaction action = {.sa_sigaction = on_tick, .sa_flags = SA_SIGINFO | SA_RESTART};
	sigemptyset(&action.sa_mask);
	install_action(SIGNAL, &action, NULL);
}

static int start_timer(struct budget *budget, struct cp_error *error)
{
	uint64_t ns = budget->ms * 1000000 / TICKS;
	struct timespec tick = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
	struct itimerspec times = {.it_interval = tick, .it_value = tick};
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGNAL, .sigev_value.sival_ptr = budget};
	event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
	if (timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &budget->timer) != 0)
		return cp_error_set(error, cp_err_from_errno(errno), NULL, "a timer for the budget: %s", strerror(errno));
	timer_settime(budget->timer, 0, &times, NULL);
	budget->ticking = true;
	return CP_OK;
}

int budget_start(struct budget *budget, lua_State *L, uint64_t ms, struct cp_error *error)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	sigset_t set;
	budget->L = L;
	budget->ms = ms;
	if (ms == 0)
		return CP_OK;
	pthread_once(&once, install_handler);
	sigemptyset(&set);
	sigaddset(&set, SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	return start_timer(budget, error);
}

void budget_stop(struct budget *budget)
{
	if (budget->ticking)
		timer_delete(budget->timer);
	budget->ticking = false;
}

void budget_enter(struct budget *budget)
{
	budget->run = (sig_atomic_t)((unsigned)budget->run + 1);
	budget->outer = running;
	atomic_signal_fence(memory_order_seq_cst);
	running = budget;
}

void budget_leave(struct budget *budget)
{
	running = budget->outer; /* from here on no tick sets this one's hook */
	atomic_signal_fence(memory_order_seq_cst);
	if (!budget->over)
		return;
	budget->over = 0;
	lua_sethook(budget->L, NULL, 0, 0);
}

bool budget_over(const struct budget *budget)
{
	return budget->over;
}
