/* The main task: the life of the process. See main_state.h for its states. */
#include "main_state.h"

#include "../base/log.h"
#include "../base/memory.h"
#include "../loop/loop.h"
#include "balance.h"
#include "pipe.h"

#include <connpipe/log.h>

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#ifdef CONNPIPE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

enum { STOP_PATIENCE_MS = 1000 }; /* closing takes milliseconds; after this, another signal ends it anyway */

struct main_task *main_of(struct cp_loop *loop)
{
	return loop->owner;
}

const char *main_state_text(enum main_state state)
{
	static const char *const texts[] = {
#define MAIN_STATE_TEXT(name, text, meaning) text,
		MAIN_STATES(MAIN_STATE_TEXT)
#undef MAIN_STATE_TEXT
	};
	return texts[state];
}

/** Tell the service manager, if there is one (sd_notify(3)). */
static void notify_manager(const char *text)
{
#ifdef CONNPIPE_SYSTEMD
	sd_notify(0, text);
#else
	(void)text;
#endif
}

void main_enter(struct main_task *m, enum main_state state)
{
	cp_log(CP_DEBUG, "main", "%s -> %s", main_state_text(m->state), main_state_text(state));
	m->state = state;
}

/* ---- Stopping ----------------------------------------------------------------------------------------------- */

/* Both draining and stopping have two steps, since workers hand connections over to each other: first no worker accepts
 * any more, then pipes may end, or are closed. A worker answers behind all that it has handed over, and what is posted
 * keeps its order: what the second step tells a worker comes behind every connection that was on its way there. */

static void begin_stop(struct main_task *m);
static void on_worker_quiet(struct cp_loop *loop, void *arg);

/** A call to every worker, each of which answers on the main task. @param waiting  counts the answers */
static void tell_workers(struct main_task *m, cp_post_run *run, uint32_t *waiting)
{
	*waiting += m->worker_count;
	for (uint32_t i = 0; i < m->worker_count; i++)
		cp_post(m->workers[i]->loop, run, m->workers[i]);
}

/** Everything is unloaded: the workers' threads end, then this loop. */
static void end_if_settled(struct main_task *m)
{
	if (m->state != MAIN_STOPPING || !m->settled || change_generations_left(m))
		return;
	loop_stop(m->loop);
}

void main_generation_gone(struct main_task *m)
{
	end_if_settled(m);
}

static void on_worker_let_go(struct cp_loop *loop, void *arg)
{
	struct main_task *m = main_of(loop);
	(void)arg;
	if (--m->workers_busy)
		return;
	m->settled = true;
	if (m->plan) {
		listeners_release(&m->listeners, m->plan);
		plan_unref(m->plan);
		m->plan = NULL;
	}
	end_if_settled(m);
}

static void let_go(struct cp_loop *loop, void *arg)
{
	struct worker *worker = arg;
	(void)loop;
	worker_close_pipes(worker, CP_CAUSE_SHUTDOWN);
	cp_post(cp_loop_main(), on_worker_let_go, NULL);
}

static void stop_accepting(struct cp_loop *loop, void *arg)
{
	(void)loop;
	worker_stop_accepting(arg, false);
	cp_post(cp_loop_main(), on_worker_quiet, NULL);
}

static void begin_stop(struct main_task *m)
{
	m->stopping_ms = cp_loop_now(m->loop);
	cp_timer_stop(&m->drain_timer);
	main_enter(m, MAIN_STOPPING);
	change_cancel_wanted(m); /* not done yet when the first generation has failed */
	main_admin_close(m);
	tell_workers(m, stop_accepting, &m->workers_accepting);
}

/** Log how many connections and sessions there are. */
static void log_open(const struct main_task *m, const char *before, const char *behind)
{
	uint32_t sessions = limits_open(m->limits, LIMITS_SESSIONS);
	char text[32] = "";
	if (sessions)
		snprintf(text, sizeof(text), " and %u sessions", (unsigned)sessions);
	cp_log(CP_INFO, "main", "%s %u connections%s%s", before, (unsigned)limits_open(m->limits, LIMITS_CONNECTIONS), text,
		   behind);
}

static void on_drain_timer(struct cp_timer *timer)
{
	struct main_task *m = main_of(timer->loop);
	log_open(m, "timeouts.drain is over: closing", "");
	begin_stop(m);
}

static void on_worker_drained(struct cp_loop *loop, void *arg)
{
	struct main_task *m = main_of(loop);
	(void)arg;
	/* A worker whose last pipe is closed by let_go() says so too, when it is not asked any more. */
	if (m->state == MAIN_DRAINING && --m->workers_draining == 0)
		begin_stop(m);
}

static void drained(struct worker *worker)
{
	(void)worker;
	cp_post(cp_loop_main(), on_worker_drained, NULL);
}

static void drain(struct cp_loop *loop, void *arg)
{
	(void)loop;
	worker_drain(arg, drained);
}

static void take_the_rest(struct cp_loop *loop, void *arg)
{
	(void)loop;
	worker_stop_accepting(arg, true);
	cp_post(cp_loop_main(), on_worker_quiet, NULL);
}

/** No worker accepts any more: the second step. Draining may have become stopping meanwhile. */
static void on_worker_quiet(struct cp_loop *loop, void *arg)
{
	struct main_task *m = main_of(loop);
	(void)arg;
	if (--m->workers_accepting)
		return;
	if (m->state == MAIN_DRAINING)
		tell_workers(m, drain, &m->workers_draining);
	else
		tell_workers(m, let_go, &m->workers_busy);
}

void main_begin_drain(struct main_task *m, bool without_limit)
{
	if (m->state == MAIN_DRAINING && m->signalled && !cp_timer_running(&m->drain_timer))
		begin_stop(m); /* `ctl drain` was waiting without a limit, the signal does not */
	if (m->state > MAIN_RUNNING)
		return;
	m->stop_wanted = true;
	m->drain_wanted = without_limit && !m->signalled;
	if (m->state != MAIN_RUNNING)
		return; /* main_change_over() comes back to it */
	uint64_t limit = m->plan ? m->plan->generation->settings.timeouts.drain : 0;
	change_cancel_wanted(m);
	notify_manager("STOPPING=1");
	if (limit == 0 && !m->drain_wanted) {
		begin_stop(m);
		return;
	}
	log_open(m, "draining:", " may end by themselves");
	main_enter(m, MAIN_DRAINING);
	if (limit)
		cp_timer_start(&m->drain_timer, limit);
	tell_workers(m, take_the_rest, &m->workers_accepting);
}

/* ---- Changes ------------------------------------------------------------------------------------------------ */

void main_change_over(struct main_task *m, bool failed)
{
	m->failed |= failed;
	if (failed)
		begin_stop(m);
	else if (m->stop_wanted)
		main_begin_drain(m, m->drain_wanted);
	else
		notify_manager("READY=1");
}

/* ---- Signals ------------------------------------------------------------------------------------------------ */

/** Not waiting any longer: what is left is closed now. Where even that hangs, the process just ends. */
static void on_second_signal(struct main_task *m)
{
	if (m->state == MAIN_DRAINING) {
		log_open(m, "a second signal: closing", "");
		begin_stop(m);
	} else if (m->state == MAIN_STOPPING && cp_loop_now(m->loop) - m->stopping_ms > STOP_PATIENCE_MS) {
		cp_log(CP_WARN, "main", "a second signal: ending with what is still loaded");
		log_stop();
		_exit(1);
	}
}

static void on_stop_signal(struct main_task *m, int number)
{
	if (m->signalled) {
		on_second_signal(m);
		return;
	}
	m->signalled = true;
	cp_log(CP_INFO, "main", "%s: stopping", number == SIGINT ? "SIGINT" : "SIGTERM");
	main_begin_drain(m, false);
}

static void on_signal(struct main_task *m, int number)
{
	switch (number) {
	case SIGHUP:
		cp_log(CP_INFO, "main", "SIGHUP: reloading");
		log_reopen();
		if (m->state <= MAIN_RUNNING && !m->stop_wanted)
			change_reload(m, NULL);
		break;
	case SIGUSR1:
		log_reopen();
		cp_log(CP_INFO, "main", "SIGUSR1: log file opened again");
		break;
	default:
		on_stop_signal(m, number);
		break;
	}
}

static void on_signals(int fd, unsigned events, void *arg)
{
	struct signalfd_siginfo info;
	(void)events;
	while (read(fd, &info, sizeof(info)) == sizeof(info))
		on_signal(arg, (int)info.ssi_signo);
}

static int watch_signals(struct main_task *m, struct cp_error *error)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN); /* splice() has no MSG_NOSIGNAL */
	m->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (m->signals < 0)
		return cp_error_set(error, cp_err_from_errno(errno), NULL, "signalfd: %s", strerror(errno));
	m->signal_watch = cp_watch_new(m->loop, m->signals, CP_READABLE, on_signals, m, error);
	return m->signal_watch ? CP_OK : CP_EIO;
}

/* ---- Starting ----------------------------------------------------------------------------------------------- */

static void make_counters(struct worker_counters *c)
{
	char name[64];
	c->accepted = cp_counter_get("connections_accepted", CP_COUNTER, "Connections accepted.");
	c->open = cp_counter_get("connections_open", CP_GAUGE, "Connections open now.");
	c->opened = cp_counter_get("pipes_opened", CP_COUNTER, "Connections whose way to a target was opened.");
	c->bytes_in = cp_counter_get("bytes_in", CP_COUNTER, "Bytes read from clients.");
	c->bytes_out = cp_counter_get("bytes_out", CP_COUNTER, "Bytes read from targets.");
	c->accept_errors = cp_counter_get("accept_errors", CP_COUNTER, "Connections that failed while being accepted.");
	c->handed_over = cp_counter_get("connections_handed_over", CP_COUNTER,
									"Connections handed over by the worker that accepted them to one with less to do.");
	c->accept_pauses =
		cp_counter_get("accept_pauses", CP_COUNTER, "Times that accepting was paused for want of descriptors.");
	for (int i = CP_CAUSE_NONE + 1; i < CP_CAUSE_COUNT; i++) {
		snprintf(name, sizeof(name), "closed_%s", cp_cause_text((enum cp_cause)i));
		c->closed[i] = cp_counter_get(name, CP_COUNTER, cp_cause_meaning((enum cp_cause)i));
	}
}

struct once_result {
	enum cp_cause cause;
	char *message;
};

static void on_once(struct cp_loop *loop, void *arg)
{
	struct main_task *m = main_of(loop);
	struct once_result *result = arg;
	if (!m->once_over) {
		m->once_over = true;
		m->exit_code = result->cause == CP_CAUSE_DONE ? 0 : 1;
		if (m->exit_code)
			fprintf(stderr, "connpipe: %s\n", result->message);
		main_begin_drain(m, false);
	}
	free(result->message);
	free(result);
}

static void once(struct worker *worker, const struct pipe *p, enum cp_cause cause, const char *detail)
{
	struct once_result *result = xcalloc(1, sizeof(*result));
	(void)worker;
	result->cause = cause;
	if (asprintf(&result->message, "%s: %s", pipe_target(p), detail ? detail : cp_cause_meaning(cause)) < 0)
		no_memory();
	cp_post(cp_loop_main(), on_once, result);
}

static int make_workers(struct main_task *m, uint32_t count, struct cp_error *error)
{
	m->workers = xcalloc(count, sizeof(struct worker *));
	m->balance = balance_new(count);
	struct cp_loop **loops = xcalloc(count, sizeof(struct cp_loop *));
	while (m->worker_count < count) {
		struct worker *worker = worker_new(m->worker_count, count, &m->counters, m->limits, error);
		if (!worker)
			break;
		worker->balance = m->balance;
		worker->pipe_closed = m->options->once ? once : NULL;
		loops[m->worker_count] = worker->loop;
		m->workers[m->worker_count++] = worker;
	}
	loop_set_workers(loops, m->worker_count);
	free(loops);
	return m->worker_count == count ? CP_OK : error->code;
}

/** Systems ask for the workers from their loading on, so these are made before. Their threads start when all is loaded
 * and bound. */
/** Where sessions are not limited, as many as there are connections are taken for enough. */
static uint64_t sockets_needed(const struct process_settings *settings)
{
	uint64_t connections = settings->limits.connections, sessions = settings->limits.udp_sessions;
	return connections * 2 + (sessions ? sessions : connections);
}

void main_settings_read(const struct process_settings *settings, struct report *report)
{
	struct main_task *m = main_of(cp_loop_main());
	struct cp_error error = {0};
	if (m->workers)
		return;
	loop_set_socket_limit(sockets_needed(settings));
	make_counters(&m->counters);
	if (make_workers(m, settings->workers, &error) != CP_OK)
		report_add_error(report, &error);
}

static int start_workers(struct main_task *m, struct cp_error *error)
{
	for (uint32_t i = 0; i < m->worker_count; i++) {
		int result = worker_start(m->workers[i], error);
		if (result != CP_OK)
			return result;
	}
	return CP_OK;
}

static int start_log(const struct main_options *options, const struct process_settings *settings,
					 struct cp_error *error)
{
	struct log_settings log = {options->quiet ? CP_ERROR : settings->log.level, settings->log.json, settings->log.file};
	return log_start(&log, error);
}

/** Everything of the process that the first generation's settings decide. */
static int set_up(struct main_task *m, const struct process_settings *settings, struct cp_error *error)
{
	int result = privileges_drop(settings->user, error);
	if (result == CP_OK)
		result = start_log(m->options, settings, error);
	if (result == CP_OK)
		privileges_raise_limits(settings);
	return result;
}

static int fail(const struct cp_error *error)
{
	fprintf(stderr, "connpipe: %s%s%s\n", error->where, error->where[0] ? ": " : "", error->message);
	return 1;
}

/** It could not start, and no worker has seen anything: what was loaded unloads from the loop. */
static void give_up(struct main_task *m, struct plan *plan)
{
	listeners_release(&m->listeners, plan);
	plan_unref(plan);
	m->generations++;
	m->failed = m->settled = true;
	main_enter(m, MAIN_STOPPING);
}

/** Load, bind, make the workers; the change to the first plan goes on in the loop. */
static int start(struct main_task *m)
{
	struct report report = {0};
	struct plan *plan = NULL;
	struct cp_error error = {0};
	struct generation_source source = m->options->source;
	source.hooks = &main_generation_hooks;
	m->generation_serial = 1;
	struct generation *generation = generation_load(1, &source, &report, &plan);
	int failed = generation == NULL;
	if (generation &&
		(set_up(m, &generation->settings, &error) != CP_OK ||
		 (listeners_bind(&m->listeners, plan, m->worker_count, &report) == CP_OK && start_workers(m, &error) != CP_OK)))
		failed = fail(&error);
	if (report.count) {
		report_print(&report, stderr, "connpipe: ");
		failed = 1;
	}
	report_deinit(&report);
	if (generation && failed) {
		give_up(m, plan);
	} else if (generation) {
		main_admin_open(m, &generation->settings);
		change_first(m, generation, plan);
	}
	return generation ? 0 : 1;
}

static void end_workers(struct main_task *m)
{
	for (uint32_t i = 0; i < m->worker_count; i++)
		worker_end(m->workers[i]);
	loop_set_workers(NULL, 0);
	for (uint32_t i = 0; i < m->worker_count; i++)
		worker_free(m->workers[i]);
	free(m->workers);
}

static void tidy(struct main_task *m)
{
	end_workers(m);
	blocking_stop();
	if (m->signal_watch)
		cp_watch_free(m->signal_watch);
	if (m->signals >= 0)
		close(m->signals);
	main_admin_close(m);
	loop_set_main(NULL);
	loop_free(m->loop);
	resolver_library_deinit();
	limits_free(m->limits);
	balance_free(m->balance);
	free(m->last_error);
}

int main_task_run(const struct main_options *options)
{
	struct main_task m = {.options = options, .state = MAIN_STARTING, .signals = -1};
	struct cp_error error = {0};
	if (resolver_library_init(&error) != CP_OK)
		return fail(&error);
	m.loop = loop_new(CP_LOOP_MAIN, &error);
	if (!m.loop)
		return fail(&error);
	m.loop->owner = &m;
	m.limits = limits_new();
	m.started_ms = cp_loop_now(m.loop);
	loop_set_main(m.loop);
	cp_timer_init(&m.drain_timer, m.loop, on_drain_timer);
	if (watch_signals(&m, &error) != CP_OK)
		m.exit_code = fail(&error);
	else if (start(&m) == 0)
		loop_run(m.loop);
	else
		m.failed = true;
	if (!m.failed && !options->quiet)
		cp_log(CP_INFO, "main", "stopped");
	tidy(&m);
	log_stop();
	return m.failed ? 1 : m.exit_code;
}
