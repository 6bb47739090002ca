#include "ctl.h"
#include "text_table.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static uint64_t number(const json_t *object, const char *key)
{
	json_int_t value = json_integer_value(json_object_get(object, key));

	return value > 0 ? (uint64_t)value : 0;
}

static const char *word(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text && *text ? text : "-";
}

/* ---- status ------------------------------------------------------------------------------------------------- */

static void print_head(const json_t *answer)
{
	char uptime[HUMAN_TEXT], sessions[64] = "";

	if (number(answer, "sessions"))
		snprintf(sessions, sizeof(sessions), " and %" PRIu64 " sessions", number(answer, "sessions"));
	printf("connpipe ");
	print_harmless(stdout, word(answer, "version"));
	printf(", pid %" PRIu64 ", up %s, generation %" PRIu64 ", %" PRIu64 " connections%s open%s\n",
		   number(answer, "pid"), human_duration(number(answer, "uptime_ms"), uptime), number(answer, "generation"),
		   number(answer, "connections"), sessions,
		   json_is_true(json_object_get(answer, "draining")) ? ", draining: nothing is accepted any more" : "");
}

static void print_reloads(const json_t *answer)
{
	const json_t *reloads = json_object_get(answer, "reloads");
	const char *last = json_string_value(json_object_get(reloads, "last_error"));

	printf("reloads: %" PRIu64 " ok, %" PRIu64 " failed", number(reloads, "ok"), number(reloads, "failed"));
	if (last && *last) {
		printf(", the last one that failed: ");
		print_harmless(stdout, last);
	}
	putchar('\n');
}

static void print_pinned(const json_t *answer)
{
	const json_t *pinned = json_object_get(answer, "pinned"), *one;
	size_t i;

	json_array_foreach (pinned, i, one) {
		printf("generation %" PRIu64 " is still in use by ", number(one, "generation"));
		print_harmless(stdout, word(one, "by"));
		putchar('\n');
	}
}

static void print_section(const char *title, struct text_table *table)
{
	printf("\n%s\n", title);
	table_print(table, stdout, "  ");
	table_deinit(table);
}

static void print_listeners(const json_t *answer)
{
	const json_t *listeners = json_object_get(answer, "listeners"), *one;
	struct text_table table;
	size_t i;

	table_init(&table, 3);
	json_array_foreach (listeners, i, one) {
		const char *address = word(one, "address"), *bound = word(one, "bound");

		table_cell(&table, address);
		/* the same unless the port was left to the kernel */
		table_cell(&table, strcmp(address, bound) == 0 ? "" : bound);
		table_cellf(&table, "%" PRIu64 " workers", number(one, "workers"));
	}
	if (table.count == 0)
		for (int cell = 0; cell < 3; cell++)
			table_cell(&table, cell == 0 ? "nothing" : "");
	print_section("bound", &table);
}

static void print_workers(const json_t *answer)
{
	static const char *const titles[] = {"WORKER", "OPEN", "ACCEPTED", "HANDED OVER", "RECEIVED", "LOAD"};
	enum { COLUMNS = sizeof(titles) / sizeof(titles[0]) };
	const json_t *workers = json_object_get(answer, "workers"), *one;
	char measured[HUMAN_TEXT], title[HUMAN_TEXT + 64];
	struct text_table table;
	size_t i;

	table_init(&table, COLUMNS);
	for (i = 0; i < COLUMNS; i++)
		table_cell(&table, titles[i]);
	json_array_foreach (workers, i, one) {
		table_cellf(&table, "%" PRIu64, number(one, "index"));
		table_cellf(&table, "%" PRIu64, number(one, "connections"));
		table_cellf(&table, "%" PRIu64, number(one, "accepted"));
		table_cellf(&table, "%" PRIu64, number(one, "handed_over"));
		table_cellf(&table, "%" PRIu64, number(one, "received"));
		table_cellf(&table, "%.1f %%", json_number_value(json_object_get(one, "load")));
	}
	snprintf(title, sizeof(title), "workers (load: of the last %s)",
			 human_duration(number(answer, "load_ms"), measured));
	print_section(title, &table);
}

/** Counters that never counted are left out: there is one for every cause of a close. */
static void print_counters(json_t *answer)
{
	json_t *counters = json_object_get(answer, "counters"), *value;
	struct text_table table;
	const char *name;

	table_init(&table, 2);
	json_object_foreach (counters, name, value) {
		if (json_integer_value(value) == 0)
			continue;
		table_cell(&table, name);
		table_cellf(&table, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
	}
	print_section("counters", &table);
}

void ctl_print_status(const json_t *answer)
{
	print_head(answer);
	print_reloads(answer);
	print_pinned(answer);
	print_listeners(answer);
	print_workers(answer);
	print_counters((json_t *)answer); /* jansson iterates over objects that it could change */
}

/* ---- pipes -------------------------------------------------------------------------------------------------- */

static void add_pipe(struct text_table *table, const json_t *pipe)
{
	char age[HUMAN_TEXT], in[HUMAN_TEXT], out[HUMAN_TEXT];

	table_cellf(table, "%" PRIu64, number(pipe, "id"));
	table_cell(table, word(pipe, "state"));
	table_cell(table, human_duration(number(pipe, "age_ms"), age));
	table_cell(table, human_bytes(number(pipe, "in_bytes"), in));
	table_cell(table, human_bytes(number(pipe, "out_bytes"), out));
	table_cell(table, word(pipe, "peer"));
	table_cell(table, word(pipe, "incoming"));
	table_cell(table, word(pipe, "router"));
	table_cell(table, word(pipe, "target"));
}

void ctl_print_pipes(const json_t *answer)
{
	static const char *const titles[] = {"ID", "STATE", "AGE", "IN", "OUT", "PEER", "INCOMING", "ROUTER", "TARGET"};
	enum { COLUMNS = sizeof(titles) / sizeof(titles[0]) };
	const json_t *pipes = json_object_get(answer, "pipes"), *one;
	struct text_table table;
	size_t i;

	table_init(&table, COLUMNS);
	for (i = 0; i < COLUMNS; i++)
		table_cell(&table, titles[i]);
	json_array_foreach (pipes, i, one)
		add_pipe(&table, one);
	table_print(&table, stdout, "");
	table_deinit(&table);
}
