/** How long a script may run without waiting.
 *
 * A timer of the thread's CPU time ticks four times in a budget; so nothing is set or cleared for a handler, and a
 * thread that does nothing gets no ticks. The tick's signal handler sees whether the same run goes on, and after the
 * fourth tick in a row sets a hook in the state, which raises an error at the next instruction. A handler is therefore
 * stopped after 1 to 1.25 budgets of CPU time, and up to two ticks of the kernel's clock (4 ms each in Debian's), at
 * which alone it looks at such timers: what it leaves out meanwhile, it counts for us.
 *
 * The hook stays until the run has ended: an error that a pcall in the script swallows is raised again at the very next
 * instruction, until all of them are left. lua_sethook() from a signal handler is what Lua documents it for. */
#ifndef LUA_BUDGET_H
#define LUA_BUDGET_H

#include <lua.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct cp_error;

struct budget {
	lua_State *L;
	uint64_t ms;
	timer_t timer;
	bool ticking;         /* there is a timer */
	struct budget *outer; /* whose run this one interrupts: another state's, on the same thread; or NULL */
	/* Shared with the signal handler, on one thread: */
	volatile sig_atomic_t run;   /* number of the run */
	volatile sig_atomic_t seen;  /* number of the run at the last tick */
	volatile sig_atomic_t ticks; /* in a row in the same run */
	volatile sig_atomic_t over;  /* the hook is set */
};

/** Begin to tick on the calling thread. @return CP_OK, or an error that is filled */
int budget_start(struct budget *budget, lua_State *L, uint64_t ms, struct cp_error *error);
/** On the same thread. */
void budget_stop(struct budget *budget);

/** Around each run of the script's code, on that thread. Runs of different states nest: a handler that uses what
 * another script made. The inner one's time does not count for the outer one, which goes on with what it had. */
void budget_enter(struct budget *budget);
void budget_leave(struct budget *budget);

/** Whether the run under way is being stopped. */
bool budget_over(const struct budget *budget);

#endif
