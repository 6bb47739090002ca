/* The life of a child. It is started with posix_spawn(), which does not copy the address space and tells at once if the
 * program cannot be executed; the worker waits that long. Its end is seen by a pidfd on the loop, so no signal handler
 * is needed. Children do not get PR_SET_PDEATHSIG: when this process dies, the end of their input tells them. */
#include "child.h"

#include "core.h"
#include "socket.h"

#include <connpipe/log.h>
#include <connpipe/system.h>

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum { KILL_AFTER_MS = 2000 };

struct child {
	struct child *next, **prev; /* in the core's list of this loop */
	struct cp_system *pinned;   /* from the stop of this worker on, so that this code stays until it is reaped */
	struct cp_loop *loop;
	struct child **owner; /* NULL: left */
	struct cp_watch *watch;
	struct cp_timer killer;
	pid_t pid; /* and the number of its process group; ours until it is reaped */
	int pidfd;
	bool told; /* to end by us: then how it ends is no news */
	char *program;
};

/* ---- Its end ------------------------------------------------------------------------------------------------ */

static void child_free(struct child *child)
{
	if (child->owner)
		*child->owner = NULL;
	if (child->prev) {
		*child->prev = child->next;
		if (child->next)
			child->next->prev = child->prev;
	}
	if (child->watch)
		cp_watch_free(child->watch);
	if (child->pidfd >= 0)
		close(child->pidfd);
	cp_timer_stop(&child->killer);
	struct cp_system *pinned = child->pinned;
	free(child->program);
	free(child);
	if (pinned)
		cp_system_unpin(pinned);
}

static void log_end(const struct child *child, const siginfo_t *end)
{
	bool exited = end->si_code == CLD_EXITED;
	enum cp_level level = child->told || (exited && end->si_status == 0) ? CP_DEBUG : CP_INFO;
	if (exited)
		cp_log(level, CORE_ID, "%s (process %d) ended with status %d", child->program, (int)child->pid, end->si_status);
	else
		cp_log(level, CORE_ID, "%s (process %d) was ended by signal %d, %s", child->program, (int)child->pid,
			   end->si_status, strsignal(end->si_status));
}

static void on_end(int fd, unsigned events, void *arg)
{
	(void)events;
	struct child *child = arg;
	siginfo_t end = {0};
	if (waitid(P_PIDFD, (id_t)fd, &end, WEXITED | WNOHANG) == 0 && end.si_pid == 0)
		return; /* woken without reason */
	if (end.si_pid != 0)
		log_end(child, &end);
	child_free(child);
}

static void on_killer(struct cp_timer *timer)
{
	struct child *child = (struct child *)((char *)timer - offsetof(struct child, killer));
	kill(-child->pid, SIGKILL);
}

void child_end(struct child *child)
{
	if (child->told)
		return;
	child->told = true;
	kill(-child->pid, SIGTERM);
	cp_timer_start(&child->killer, KILL_AFTER_MS);
}

void child_leave(struct child *child)
{
	child->owner = NULL;
}

static struct child **children_of(struct core *core, const struct cp_loop *loop)
{
	assert(cp_loop_index(loop) < core->workers);
	return &core->children[cp_loop_index(loop)];
}

void children_end(struct core *core, struct cp_loop *loop, struct cp_system *system)
{
	for (struct child *child = *children_of(core, loop); child; child = child->next) {
		cp_system_pin(system);
		child->pinned = system;
		child_end(child);
	}
}

/* ---- Its start ---------------------------------------------------------------------------------------------- */

/** What a child is given: the socket twice, our stderr, no other descriptor; no blocked and no ignored signal; a
 * process group of its own, so that it can be ended with all that it starts, and so that Ctrl-C in our terminal lets it
 * finish.
 * @return 0, or errno */
static int spawn(char *const *words, int fd, pid_t *pid)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none, defaults;
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attributes);
	sigemptyset(&none);
	sigemptyset(&defaults);
	sigaddset(&defaults, SIGPIPE);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &defaults);
	posix_spawnattr_setpgroup(&attributes, 0);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
	int errnum = posix_spawn_file_actions_adddup2(&actions, fd, STDIN_FILENO);
	if (errnum == 0)
		errnum = posix_spawn_file_actions_adddup2(&actions, fd, STDOUT_FILENO);
	if (errnum == 0)
		errnum = posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
	if (errnum == 0)
		errnum = posix_spawnp(pid, words[0], &actions, &attributes, words, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attributes);
	return errnum;
}

static struct child *child_new(struct cp_loop *loop, const char *program)
{
	struct child *child = calloc(1, sizeof(*child));
	if (!child)
		return NULL;
	child->program = strdup(program);
	if (!child->program) {
		free(child);
		return NULL;
	}
	child->loop = loop;
	child->pidfd = -1;
	cp_timer_init(&child->killer, loop, on_killer);
	return child;
}

/** Have the loop tell when it ends. */
static int child_watch(struct child *child, struct cp_error *error)
{
	child->pidfd = pidfd_open(child->pid, 0);
	if (child->pidfd < 0)
		return cp_error_set(error, socket_code(errno), child->program, "cannot watch its process: %s", strerror(errno));
	child->watch = cp_watch_new(child->loop, child->pidfd, CP_READABLE, on_end, child, error);
	return child->watch ? CP_OK : (int)error->code;
}

/** A child that cannot be watched is not left alone. */
static void child_abort(struct child *child)
{
	kill(-child->pid, SIGKILL);
	while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR)
		continue;
}

int child_start(struct cp_connector *connector, struct cp_loop *loop, const struct words *words, int fd,
				struct child **owner, struct cp_error *error)
{
	const char *program = words->at[0];
	struct child *child = child_new(loop, program);
	if (!child)
		return cp_error_set(error, CP_ENOMEM, program, "no memory for a child");
	int errnum = spawn(words->at, fd, &child->pid);
	int result = CP_OK;
	if (errnum != 0) {
		result = cp_error_set(error, socket_code(errnum), program, "cannot be executed: %s", strerror(errnum));
	} else {
		result = child_watch(child, error);
		if (result != CP_OK)
			child_abort(child);
	}
	if (result != CP_OK) {
		child_free(child);
		return result;
	}
	struct child **list = children_of(connector->arg, loop);
	child->next = *list;
	child->prev = list;
	if (child->next)
		child->next->prev = &child->next;
	*list = child;
	child->owner = owner;
	*owner = child;
	return CP_OK;
}
