/* How a plan comes into use.
 *
 *     load ─▶ bind what is new ─▶ preparing: generation_worker_start on each worker
 *                                     │ all well
 *                                     ▼
 *                                 switching: worker_use_plan on each worker ─▶ release the old plan ─▶ running
 *
 * Until the switch, the old plan serves untouched, and anything that fails is undone without it noticing. A router's
 * change of addresses goes the same way, without loading and preparing. */
#include "main_state.h"

#include "../base/log.h"
#include "../base/memory.h"

#include <connpipe/log.h>

#include <inttypes.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

enum { ERRORS_ANSWERED = 100 };

static void begin_next(struct main_task *m);

/* ---- Generations that are not gone -------------------------------------------------------------------------- */

/** One that no plan keeps any more; its memory may go at any time, so it is known by its number. */
struct retiring {
	struct retiring *next;
	uint64_t number;
	const struct generation *generation; /* not gone: this is removed first */
};

static void on_generation_gone(uint64_t number, void *arg)
{
	struct main_task *m = arg;
	struct retiring **at = &m->retiring;
	while ((*at)->number != number)
		at = &(*at)->next;
	struct retiring *gone = *at;
	*at = gone->next;
	free(gone);
	cp_log(CP_DEBUG, "main", "generation %" PRIu64 " is gone", number);
	malloc_trim(0); /* a large configuration leaves large holes */
	main_generation_gone(m);
}

static void retire(struct main_task *m, struct generation *generation)
{
	struct retiring *retiring = xmalloc(sizeof(*retiring));
	*retiring = (struct retiring){m->retiring, generation->number, generation};
	m->retiring = retiring;
	m->generations--;
	generation_retire(generation, true, on_generation_gone, m);
}

bool change_generations_left(const struct main_task *m)
{
	return m->generations > 0 || m->retiring;
}

json_t *change_pinned(const struct main_task *m)
{
	json_t *list = json_array();
	for (const struct retiring *r = m->retiring; r; r = r->next) {
		char by[512];
		generation_pins(r->generation, by, sizeof(by));
		json_array_append_new(list, json_pack("{s:I, s:s}", "generation", (json_int_t)r->number, "by", by));
	}
	return list;
}

static void on_plan_released(struct cp_loop *loop, void *arg)
{
	struct plan *plan = arg;
	struct generation *generation = plan->generation;
	if (generation_release_plan(plan)) /* it was the last one */
		retire(main_of(loop), generation);
}

/** Any thread. */
static void plan_released(struct plan *plan)
{
	cp_post(cp_loop_main(), on_plan_released, plan);
}

/* ---- Answers ------------------------------------------------------------------------------------------------ */

static void add_call(struct waiting_call **list, struct admin_call *call)
{
	if (!call)
		return;
	struct waiting_call *waiting = xmalloc(sizeof(*waiting));
	*waiting = (struct waiting_call){*list, call};
	*list = waiting;
}

/** Answer and forget. @param errors  NULL: it went well */
static void answer_calls(struct waiting_call **list, uint64_t generation, json_t *errors)
{
	while (*list) {
		struct waiting_call *waiting = *list;
		*list = waiting->next;
		admin_answer(waiting->call, errors ? json_pack("{s:b, s:O}", "ok", 0, "errors", errors)
										   : json_pack("{s:b, s:I}", "ok", 1, "generation", (json_int_t)generation));
		free(waiting);
	}
	json_decref(errors);
}

static json_t *errors_json(const struct report *report)
{
	json_t *errors = json_array();
	for (size_t i = 0; i < report->count && i < ERRORS_ANSWERED; i++) {
		const struct report_entry *entry = &report->entries[i];
		json_array_append_new(errors, json_sprintf("%s%s%s", entry->where, *entry->where ? ": " : "", entry->message));
	}
	return errors;
}

static void note_failure(struct main_task *m, const char *words)
{
	m->reloads_failed++;
	free(m->last_error);
	m->last_error = xstrdup(words);
}

static void reload_failed(struct main_task *m, const struct report *report, struct waiting_call **calls)
{
	report_log(report, "main");
	cp_log(CP_ERROR, "main", "reload failed: generation %" PRIu64 " stays in use", m->plan->generation->number);
	note_failure(m, report->count ? report->entries[0].message : "failed");
	answer_calls(calls, 0, errors_json(report));
}

/* ---- Switching ---------------------------------------------------------------------------------------------- */

/** A call to one worker and its answer. */
struct errand {
	struct main_task *m;
	struct worker *worker;
	struct cp_error error;
};

static void send_errands(struct main_task *m, cp_post_run *run)
{
	m->change.waiting = m->worker_count;
	for (uint32_t i = 0; i < m->worker_count; i++) {
		struct errand *errand = xcalloc(1, sizeof(*errand));
		errand->m = m;
		errand->worker = m->workers[i];
		cp_post(m->workers[i]->loop, run, errand);
	}
}

/** @return true when all workers have answered */
static bool errand_answered(struct errand *errand)
{
	struct change *change = &errand->m->change;
	if (errand->error.code != CP_OK && change->error.code == CP_OK)
		change->error = errand->error;
	free(errand);
	return --change->waiting == 0;
}

static void log_in_use(const struct main_task *m)
{
	const struct generation *generation = m->plan->generation;
	cp_log(CP_INFO, "main", "generation %" PRIu64 " is in use: %u systems, %u addresses, %u workers",
		   generation->number, (unsigned)generation->system_count, (unsigned)m->plan->count, (unsigned)m->worker_count);
}

static void reopen_log(const struct process_settings *settings)
{
	struct log_settings log = {settings->log.level, settings->log.json, settings->log.file};
	struct cp_error error;
	if (log_change(&log, &error) != CP_OK)
		cp_log(CP_WARN, "main", "%s: %s; the log stays as it was", error.where, error.message);
}

static void use_settings(struct main_task *m, const struct process_settings *settings)
{
	reopen_log(settings);
	if (settings->workers != m->worker_count)
		cp_log(CP_WARN, "main", "workers = %u takes effect after a restart: there are %u now",
			   (unsigned)settings->workers, (unsigned)m->worker_count);
	privileges_raise_limits(settings);
	main_admin_open(m, settings);
}

static void change_done(struct main_task *m)
{
	struct change change = m->change;
	struct plan *old = m->plan;
	m->change = (struct change){0};
	m->plan = change.plan;
	listeners_in_use(m->plan);
	if (old) {
		listeners_release(&m->listeners, old);
		plan_unref(old);
	}
	answer_calls(&change.calls, m->plan->generation->number, NULL); /* the settings may close their control socket */
	if (change.generation && old) {
		use_settings(m, &m->plan->generation->settings);
		m->reloads_ok++;
	}
	if (change.generation)
		log_in_use(m);
	if (change.rebind)
		rebind_end(change.rebind, NULL);
	main_enter(m, MAIN_RUNNING);
	main_change_over(m, false);
	begin_next(m);
}

static void on_switched(struct cp_loop *loop, void *arg)
{
	if (errand_answered(arg))
		change_done(main_of(loop));
}

static void switch_worker(struct cp_loop *loop, void *arg)
{
	struct errand *errand = arg;
	(void)loop;
	worker_use_plan(errand->worker, errand->m->change.plan);
	cp_post(cp_loop_main(), on_switched, errand);
}

static void change_failed(struct main_task *m)
{
	struct change change = m->change;
	struct report report = {0};
	bool first = m->plan == NULL;
	m->change = (struct change){0};
	report_add_error(&report, &change.error);
	listeners_release(&m->listeners, change.plan);
	plan_unref(change.plan);
	if (first)
		report_print(&report, stderr, "connpipe: ");
	else
		reload_failed(m, &report, &change.calls);
	report_deinit(&report);
	main_enter(m, MAIN_RUNNING);
	main_change_over(m, first);
	begin_next(m);
}

static void begin_switch(struct main_task *m)
{
	main_enter(m, MAIN_SWITCHING);
	send_errands(m, switch_worker);
}

static void on_prepared(struct cp_loop *loop, void *arg)
{
	struct main_task *m = main_of(loop);
	if (!errand_answered(arg))
		return;
	if (m->change.error.code == CP_OK)
		begin_switch(m);
	else
		change_failed(m);
}

static void prepare_worker(struct cp_loop *loop, void *arg)
{
	struct errand *errand = arg;
	generation_worker_start(errand->m->change.generation, loop, &errand->error);
	cp_post(cp_loop_main(), on_prepared, errand);
}

static void begin_prepare(struct main_task *m)
{
	main_enter(m, MAIN_PREPARING);
	send_errands(m, prepare_worker);
}

void change_first(struct main_task *m, struct generation *generation, struct plan *plan)
{
	m->generations++;
	m->change = (struct change){.generation = generation, .plan = plan};
	begin_prepare(m);
}

/* ---- Reload ------------------------------------------------------------------------------------------------- */

static void load(struct main_task *m, struct waiting_call *calls)
{
	struct report report = {0};
	struct plan *plan = NULL;
	struct generation_source source = m->options->source;
	source.hooks = &main_generation_hooks;
	struct generation *generation = generation_load(m->generation_serial + 1, &source, &report, &plan);
	if (!generation) {
		reload_failed(m, &report, &calls);
	} else if (listeners_bind(&m->listeners, plan, m->worker_count, &report) != CP_OK) {
		m->generation_serial++;
		m->generations++;
		plan_unref(plan);
		reload_failed(m, &report, &calls);
	} else {
		m->generation_serial++;
		m->generations++;
		m->change = (struct change){.generation = generation, .plan = plan, .calls = calls};
		begin_prepare(m);
	}
	report_deinit(&report);
}

void change_reload(struct main_task *m, struct admin_call *call)
{
	add_call(&m->reload_calls, call);
	m->reload_wanted = true;
	if (m->state == MAIN_RUNNING)
		begin_next(m);
}

/* ---- A router changes its addresses ------------------------------------------------------------------------- */

static void rebind_failed(struct main_task *m, struct rebind *rebind, const struct report *report)
{
	struct cp_error error;
	(void)m;
	cp_error_set(&error, CP_EINVAL, NULL, "%s", report->count ? report->entries[0].message : "failed");
	cp_log(CP_ERROR, "main", "router %s keeps its addresses", rebind_router(rebind)->id);
	report_log(report, "main");
	rebind_end(rebind, &error);
}

static void begin_rebind(struct main_task *m, struct rebind *rebind)
{
	struct report report = {0};
	struct plan *plan = generation_replan(m->plan->generation, &report);
	if (plan && listeners_bind(&m->listeners, plan, m->worker_count, &report) == CP_OK) {
		m->change = (struct change){.plan = plan, .rebind = rebind};
		begin_switch(m);
	} else {
		if (plan)
			plan_unref(plan);
		rebind_failed(m, rebind, &report);
	}
	report_deinit(&report);
}

static void refuse_rebind(struct rebind *rebind)
{
	struct cp_error error;
	cp_error_set(&error, CP_ECANCELED, NULL, "its generation is not in use");
	rebind_end(rebind, &error);
}

static void on_rebind(struct generation *generation, struct rebind *rebind)
{
	struct main_task *m = main_of(cp_loop_main());
	bool current = m->plan && generation == m->plan->generation;
	bool coming = m->change.generation && generation == m->change.generation;
	if (m->state > MAIN_RUNNING || m->rebind_wanted || !(current || coming)) {
		refuse_rebind(rebind);
		return;
	}
	m->rebind_wanted = rebind;
	m->rebind_generation = generation;
	if (m->state == MAIN_RUNNING)
		begin_next(m);
}

const struct generation_hooks main_generation_hooks = {
	.settings = main_settings_read, .plan_released = plan_released, .rebind = on_rebind};

static void next_rebind(struct main_task *m)
{
	struct rebind *rebind = m->rebind_wanted;
	m->rebind_wanted = NULL;
	if (m->rebind_generation == m->plan->generation)
		begin_rebind(m, rebind);
	else
		refuse_rebind(rebind);
}

static void next_reload(struct main_task *m)
{
	struct waiting_call *calls = m->reload_calls;
	m->reload_wanted = false;
	m->reload_calls = NULL;
	load(m, calls);
}

/** What was asked for while another change was under way; one that fails at once makes room for the next. */
static void begin_next(struct main_task *m)
{
	while (m->state == MAIN_RUNNING && (m->rebind_wanted || m->reload_wanted)) {
		if (m->rebind_wanted)
			next_rebind(m);
		else
			next_reload(m);
	}
}

void change_cancel_wanted(struct main_task *m)
{
	if (m->rebind_wanted)
		refuse_rebind(m->rebind_wanted);
	m->rebind_wanted = NULL;
	m->reload_wanted = false;
	answer_calls(&m->reload_calls, 0, json_pack("[s]", "the process stops"));
}
