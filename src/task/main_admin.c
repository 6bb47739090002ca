/* What the commands of the control socket do. See observe/admin.h for the protocol. */
#include "main_state.h"

#include "../base/counter.h"
#include "../base/log.h"
#include "../base/memory.h"
#include "../loop/loop.h"
#include "balance.h"
#include "pipe.h"

#include <connpipe/log.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- Asking every worker ------------------------------------------------------------------------------------ */

typedef json_t *ask_worker(struct worker *worker, void *arg);

/** One question to all workers: each answers with an array, which are joined in the order of the workers. */
struct survey {
	struct admin_call *call;
	struct main_task *m;
	ask_worker *ask;
	void *arg;
	json_t *answers;
	uint32_t waiting;
	void (*done)(struct survey *survey); /* takes answers, answers the call; the survey is freed behind it */
};

struct survey_part {
	struct survey *survey;
	struct worker *worker;
	json_t *answer;
};

/** An array of arrays becomes one. */
static json_t *join(json_t *parts)
{
	json_t *whole = json_array(), *part;
	size_t i;
	json_array_foreach (parts, i, part)
		json_array_extend(whole, part);
	json_decref(parts);
	return whole;
}

static void on_part_answered(struct cp_loop *loop, void *arg)
{
	struct survey_part *part = arg;
	struct survey *survey = part->survey;
	(void)loop;
	json_array_set_new(survey->answers, part->worker->index, part->answer);
	free(part);
	if (--survey->waiting)
		return;
	survey->answers = join(survey->answers);
	survey->done(survey);
	json_decref(survey->answers);
	free(survey);
}

static void answer_part(struct cp_loop *loop, void *arg)
{
	struct survey_part *part = arg;
	(void)loop;
	part->answer = part->survey->ask(part->worker, part->survey->arg);
	cp_post(cp_loop_main(), on_part_answered, part);
}

static void survey_workers(struct main_task *m, struct admin_call *call, ask_worker *ask, void *arg,
						   void (*done)(struct survey *))
{
	struct survey *survey = xcalloc(1, sizeof(*survey));
	*survey = (struct survey){call, m, ask, arg, json_array(), m->worker_count, done};
	for (uint32_t i = 0; i < m->worker_count; i++) {
		struct survey_part *part = xcalloc(1, sizeof(*part));
		json_array_append_new(survey->answers, json_null());
		*part = (struct survey_part){survey, m->workers[i], NULL};
		cp_post(m->workers[i]->loop, answer_part, part);
	}
}

/* ---- status ------------------------------------------------------------------------------------------------- */

static void add_counter(const struct counter_info *info, void *arg)
{
	json_object_set_new(arg, info->name, json_integer(info->sum));
}

static json_t *counters_json(void)
{
	json_t *counters = json_object();
	counter_each(add_counter, counters);
	json_object_set_new(counters, "log_lines_dropped", json_integer((json_int_t)log_dropped()));
	return counters;
}

static json_t *listeners_json(const struct main_task *m)
{
	json_t *list = json_array();
	for (const struct listener_entry *entry = m->listeners.first; entry; entry = entry->next) {
		char bound[512];
		entry->listener->ops->name(entry->listener, bound, sizeof(bound));
		json_array_append_new(
			list, json_pack("{s:s, s:s, s:i}", "address", entry->key, "bound", bound, "workers", (int)m->worker_count));
	}
	return list;
}

/** In percent, with one decimal. */
static double load_percent(const struct worker *worker)
{
	return (balance_measured(worker->balance, worker->index) * 1000 / BALANCE_FULL) / 10.0;
}

static json_t *worker_status(struct worker *worker, void *arg)
{
	(void)arg;
	json_int_t accepted = (json_int_t)(worker->serial + worker->handed_over - worker->received);
	return json_pack("[{s:i, s:i, s:b, s:I, s:I, s:I, s:f}]", "index", (int)worker->index, "connections",
					 (int)worker->pipe_count, "paused", worker->starved, "accepted", accepted, "handed_over",
					 (json_int_t)worker->handed_over, "received", (json_int_t)worker->received, "load",
					 load_percent(worker));
}

static void status_done(struct survey *survey)
{
	const struct main_task *m = survey->m;
	json_t *reloads = json_pack("{s:I, s:I, s:s?}", "ok", (json_int_t)m->reloads_ok, "failed",
								(json_int_t)m->reloads_failed, "last_error", m->last_error);
	admin_answer(survey->call,
				 json_pack("{s:b, s:s, s:i, s:s, s:I, s:I, s:o, s:o, s:O, s:i, s:i, s:i, s:b, s:o, s:o}", "ok", 1,
						   "version", CONNPIPE_VERSION, "pid", (int)getpid(), "state", main_state_text(m->state),
						   "uptime_ms", (json_int_t)(cp_loop_now(m->loop) - m->started_ms), "generation",
						   (json_int_t)(m->plan ? m->plan->generation->number : 0), "reloads", reloads, "pinned",
						   change_pinned(m), "workers", survey->answers, "load_ms",
						   (int)balance_measured_ms(m->balance), "connections",
						   (int)limits_open(m->limits, LIMITS_CONNECTIONS), "sessions",
						   (int)limits_open(m->limits, LIMITS_SESSIONS), "draining", m->state > MAIN_RUNNING,
						   "listeners", listeners_json(m), "counters", counters_json()));
}

static void on_status(struct admin_call *call, void *arg)
{
	struct main_task *m = arg;
	balance_look(m->balance, cp_loop_now(m->loop));
	survey_workers(m, call, worker_status, NULL, status_done);
}

/* ---- pipes and kill ----------------------------------------------------------------------------------------- */

static json_t *pipe_json(const struct pipe *p)
{
	char peer[CP_PEER_TEXT], incoming[512];
	cp_peer_print(&p->peer, peer, sizeof(peer));
	if (p->setup)
		cp_address_print(p->setup->request.accepted, incoming, sizeof(incoming));
	return json_pack("{s:I, s:i, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I}", "id", (json_int_t)p->id, "worker",
					 (int)p->worker->index, "state", pipe_state_text(p->state), "incoming",
					 p->setup ? incoming : pipe_incoming(p), "peer", peer, "router", pipe_router(p), "target",
					 pipe_target(p), "age_ms", (json_int_t)(cp_loop_now(p->worker->loop) - p->opened), "in_bytes",
					 (json_int_t)p->flow[0].bytes, "out_bytes", (json_int_t)p->flow[1].bytes);
}

static json_t *worker_pipes(struct worker *worker, void *arg)
{
	json_t *list = json_array();
	(void)arg;
	for (const struct pipe *p = worker->pipes; p; p = p->next) {
		json_t *entry = pipe_json(p);
		if (entry) /* NULL: a text in it is not UTF-8 or there is no memory; the others can still be shown */
			json_array_append_new(list, entry);
	}
	return list;
}

static void pipes_done(struct survey *survey)
{
	admin_answer(survey->call, json_pack("{s:b, s:O}", "ok", 1, "pipes", survey->answers));
}

static void on_pipes(struct admin_call *call, void *arg)
{
	survey_workers(arg, call, worker_pipes, NULL, pipes_done);
}

static json_t *kill_in_worker(struct worker *worker, void *arg)
{
	uint64_t id = *(uint64_t *)arg;
	json_t *killed = json_array();
	for (struct pipe *p = worker->pipes, *next; p; p = next) {
		next = p->next;
		if (p->id != id)
			continue;
		pipe_close(p, CP_CAUSE_KILLED, NULL);
		json_array_append_new(killed, json_true());
		break;
	}
	return killed;
}

static void kill_done(struct survey *survey)
{
	if (json_array_size(survey->answers))
		admin_answer(survey->call, json_object());
	else
		admin_answer_error(survey->call, "there is no pipe %" PRIu64, *(uint64_t *)survey->arg);
	free(survey->arg);
}

static void on_kill(struct admin_call *call, uint64_t id, void *arg)
{
	uint64_t *copy = xmalloc(sizeof(*copy));
	*copy = id;
	survey_workers(arg, call, kill_in_worker, copy, kill_done);
}

/* ---- reload, drain, log ------------------------------------------------------------------------------------- */

static void on_reload(struct admin_call *call, void *arg)
{
	struct main_task *m = arg;
	if (m->state > MAIN_RUNNING || m->stop_wanted)
		admin_answer_error(call, "the process stops: nothing is reloaded");
	else
		change_reload(m, call);
}

static void on_drain(struct admin_call *call, void *arg)
{
	admin_answer(call, json_object());
	main_begin_drain(arg, true);
}

static void on_log(struct admin_call *call, const char *text, void *arg)
{
	enum cp_level level;
	(void)arg;
	if (!log_level_parse(text, &level)) {
		admin_answer_error(call, "\"%s\" is no level: expected error, warn, info, debug or trace", text);
		return;
	}
	log_set_level(level);
	cp_log(CP_INFO, "main", "log level is %s now", log_level_text(level));
	admin_answer(call, json_pack("{s:b, s:s}", "ok", 1, "level", log_level_text(level)));
}

/* ---- The socket --------------------------------------------------------------------------------------------- */

static const struct admin_ops ops = {
	.status = on_status,
	.pipes = on_pipes,
	.kill = on_kill,
	.reload = on_reload,
	.drain = on_drain,
	.log = on_log,
};

/** Settings have an address; the socket has a path. */
static const char *path_of(const char *address)
{
	return strncmp(address, "unix:", 5) == 0 ? address + 5 : address;
}

void main_admin_close(struct main_task *m)
{
	if (m->admin)
		admin_free(m->admin);
	free(m->admin_path);
	m->admin = NULL;
	m->admin_path = NULL;
}

void main_admin_open(struct main_task *m, const struct process_settings *settings)
{
	struct cp_error error;
	const char *path = settings->admin ? path_of(settings->admin) : NULL;
	if (path && m->admin_path && strcmp(path, m->admin_path) == 0)
		return;
	struct admin *admin = path ? admin_new(m->loop, path, &ops, m, &error) : NULL;
	if (path && !admin) {
		cp_log(CP_WARN, "main", "no control socket: %s: %s", error.where, error.message);
		return;
	}
	main_admin_close(m);
	m->admin = admin;
	m->admin_path = path ? xstrdup(path) : NULL;
}
