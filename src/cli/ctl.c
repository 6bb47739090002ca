#include "cli.h"
#include "ctl.h"
#include "text_table.h"

#include "../base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- What is asked ------------------------------------------------------------------------------------------ */

static json_t *ask_plain(const char *name, const char *word)
{
	(void)word;
	return json_pack("{s:s}", "command", name);
}

static json_t *ask_kill(const char *name, const char *word)
{
	char *end;
	unsigned long long id;

	errno = 0;
	id = strtoull(word, &end, 10);
	if (errno || *end || word[0] < '0' || word[0] > '9' || id == 0 || id > INT64_MAX) {
		cli_usage_error(&command_ctl, "\"%s\" is no number of a pipe; ctl pipes lists them", word);
		return NULL;
	}
	return json_pack("{s:s, s:I}", "command", name, "id", (json_int_t)id);
}

static json_t *ask_log(const char *name, const char *word)
{
	static const char *const levels[] = {"error", "warn", "info", "debug", "trace", NULL};
	enum cp_level level;

	if (!log_level_parse(word, &level)) {
		cli_usage_error(&command_ctl, "\"%s\" is no log level%s", word, cli_near(word, levels));
		return NULL;
	}
	return json_pack("{s:s, s:s}", "command", name, "level", word);
}

/* ---- What is answered --------------------------------------------------------------------------------------- */

static void print_done(const json_t *answer)
{
	(void)answer;
	puts("ok");
}

static void print_reloaded(const json_t *answer)
{
	printf("ok: generation %" JSON_INTEGER_FORMAT " is in use\n",
		   json_integer_value(json_object_get(answer, "generation")));
}

static void print_level(const json_t *answer)
{
	const char *level = json_string_value(json_object_get(answer, "level"));

	printf("ok: log level %s\n", level ? level : "set");
}

static const struct action {
	const char *name;
	const char *word; /* what follows, or NULL */
	json_t *(*ask)(const char *name, const char *word);
	void (*print)(const json_t *answer);
} actions[] = {
	{"status", NULL, ask_plain, ctl_print_status}, {"pipes", NULL, ask_plain, ctl_print_pipes},
	{"kill", "ID", ask_kill, print_done},          {"reload", NULL, ask_plain, print_reloaded},
	{"drain", NULL, ask_plain, print_done},        {"log", "LEVEL", ask_log, print_level},
};

static void print_error_text(const json_t *text)
{
	fputs("connpipe: ", stderr);
	print_harmless(stderr, json_is_string(text) ? json_string_value(text) : "the process says that it failed");
	fputc('\n', stderr);
}

/** `error` is one sentence, `errors` are several. */
static void print_errors(const json_t *answer)
{
	const json_t *errors = json_object_get(answer, "errors");
	const json_t *text;
	size_t i;

	if (json_array_size(errors) == 0)
		print_error_text(json_object_get(answer, "error"));
	json_array_foreach (errors, i, text)
		print_error_text(text);
}

static int show(const struct action *action, const json_t *answer, bool json)
{
	bool ok = json_is_true(json_object_get(answer, "ok"));

	if (json) {
		json_dumpf(answer, stdout, JSON_COMPACT);
		putchar('\n');
	} else if (ok) {
		action->print(answer);
	} else {
		print_errors(answer);
	}
	return ok ? CLI_OK : CLI_FAILED;
}

/* ---- The command -------------------------------------------------------------------------------------------- */

static const struct action *find_action(const char *name)
{
	enum { COUNT = sizeof(actions) / sizeof(actions[0]) };
	const char *names[COUNT + 1] = {NULL};

	for (size_t i = 0; i < COUNT; i++) {
		names[i] = actions[i].name;
		if (strcmp(actions[i].name, name) == 0)
			return &actions[i];
	}
	cli_usage_error(&command_ctl, "unknown ctl command \"%s\"%s", name, cli_near(name, names));
	return NULL;
}

static int run_ctl(const struct cli *cli)
{
	const struct action *action = find_action(cli->words[0]);
	json_t *command, *answer;
	int result;

	if (!action)
		return CLI_USAGE;
	if (cli->count != (action->word ? 2 : 1))
		return cli_usage_error(&command_ctl, "ctl %s takes %s", action->name,
							   action->word ? action->word : "no further words");
	command = action->ask(action->name, cli->words[1]);
	if (!command)
		return CLI_USAGE;
	answer = ctl_ask(cli->directory, command);
	json_decref(command);
	result = answer ? show(action, answer, cli->json) : CLI_FAILED;
	json_decref(answer);
	return result;
}

const struct cli_command command_ctl = {
	.name = "ctl",
	.arguments = "status|pipes|kill ID|reload|drain|log LEVEL",
	.summary = "ask and steer a running connpipe",
	.text = "Talks to the connpipe that runs with the same configuration directory.\n"
			"\n"
			"  status     version, generation, workers, bound addresses, counters\n"
			"  pipes      open connections\n"
			"  kill ID    close one of them\n"
			"  reload     read the configuration again; on errors they are printed and the running one stays\n"
			"  drain      stop accepting, end when the open connections have ended or timeouts.drain is over\n"
			"  log LEVEL  error, warn, info, debug or trace, until the next reload\n"
			"\n"
			"With --json the answer is printed as the process gave it. Exits 0 if it was done, 1 if not.\n",
	.least = 1,
	.most = 2,
	.json = true,
	.run = run_ctl,
};
