#include "cli.h"

#include <connpipe/settings.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_DIRECTORY "/etc/connpipe"

static const char *const option_names[] = {"--config", "--json", "--help", "--version", NULL};

/* ---- Saying what is wrong ----------------------------------------------------------------------------------- */

static void print_usage_line(FILE *file, const struct cli_command *command)
{
	if (!command)
		fprintf(file, "usage: connpipe [--config DIR] COMMAND, see connpipe help\n");
	else
		fprintf(file, "usage: connpipe [--config DIR] %s%s%s%s\n", command->name, *command->arguments ? " " : "",
				command->arguments, command->json ? " [--json]" : "");
}

static void CP_PRINTF(1, 0) print_error(const char *format, va_list arguments)
{
	fputs("connpipe: ", stderr);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
}

int cli_error(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	print_error(format, arguments);
	va_end(arguments);
	return CLI_FAILED;
}

int cli_usage_error(const struct cli_command *command, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	print_error(format, arguments);
	va_end(arguments);
	print_usage_line(stderr, command);
	return CLI_USAGE;
}

const char *cli_near(const char *word, const char *const *names)
{
	static char text[128];
	const char *name = cp_near_name(word, names);

	text[0] = 0;
	if (name)
		snprintf(text, sizeof(text), ", did you mean \"%s\"?", name);
	return text;
}

/* ---- Commands ----------------------------------------------------------------------------------------------- */

const struct cli_command *cli_find(const char *name)
{
	for (size_t i = 0; cli_commands[i]; i++)
		if (strcmp(cli_commands[i]->name, name) == 0)
			return cli_commands[i];
	return NULL;
}

static const char *near_command(const char *word)
{
	const char *names[16];
	size_t count = 0;

	for (; cli_commands[count] && count + 1 < sizeof(names) / sizeof(names[0]); count++)
		names[count] = cli_commands[count]->name;
	names[count] = NULL;
	return cli_near(word, names);
}

static void print_commands(void)
{
	puts("connpipe " CONNPIPE_VERSION ": a reverse proxy that pipes connections\n\n"
		 "usage: connpipe [--config DIR] [COMMAND]\n");
	for (size_t i = 0; cli_commands[i]; i++) {
		const struct cli_command *command = cli_commands[i];
		char left[64];

		snprintf(left, sizeof(left), "%s%s%s", command->name, *command->arguments ? " " : "", command->arguments);
		/* "…" has three bytes and one column */
		printf("  %-*s  %s\n", 34 + (strstr(left, "…") ? 2 : 0), left, command->summary);
	}
	puts("\n"
		 "  --config DIR  configuration directory; without it $CONFIG, without that " DEFAULT_DIRECTORY "\n"
		 "  --json        for programs: one JSON object (ctl, systems)\n"
		 "  -h, --help    this text, or the text of a command: connpipe route --help\n"
		 "  --version     the version\n");
}

void cli_print_help(const struct cli_command *command)
{
	if (!command) {
		print_commands();
		return;
	}
	print_usage_line(stdout, command);
	printf("\n%s", command->text);
}

/* ---- Words -------------------------------------------------------------------------------------------------- */

static int bad_option(const char *word)
{
	return cli_usage_error(NULL, "unknown option \"%s\"%s", word, cli_near(word, option_names));
}

/** Take the option at argv[*at]; its value may be the next word. */
static int take_option(struct cli *cli, int argc, char **argv, int *at)
{
	const char *word = argv[*at];

	if (strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0) {
		cli->help = true;
	} else if (strcmp(word, "--version") == 0) {
		cli->version = true;
	} else if (strcmp(word, "--json") == 0) {
		cli->json = true;
	} else if (strncmp(word, "--config=", 9) == 0) {
		cli->directory = word + 9;
	} else if (strcmp(word, "--config") == 0) {
		if (*at + 1 >= argc)
			return cli_usage_error(NULL, "--config needs a directory behind it");
		cli->directory = argv[++*at];
	} else {
		return bad_option(word);
	}
	return CLI_OK;
}

static void default_directory(struct cli *cli)
{
	const char *environment = getenv("CONFIG");

	if (!cli->directory)
		cli->directory = environment && *environment ? environment : DEFAULT_DIRECTORY;
}

/** The first word names the command; no word is the default command. */
static int take_command(struct cli *cli)
{
	cli->command = cli_commands[0];
	if (cli->count == 0)
		return CLI_OK;
	cli->command = cli_find(cli->words[0]);
	if (!cli->command)
		return cli_usage_error(NULL, "unknown command \"%s\"%s", cli->words[0], near_command(cli->words[0]));
	cli->command_given = true;
	cli->words++;
	cli->count--;
	return CLI_OK;
}

static int check_words(const struct cli *cli)
{
	const struct cli_command *command = cli->command;

	if (cli->help || cli->version)
		return CLI_OK;
	if (cli->json && !command->json)
		return cli_usage_error(command, "%s has no option --json", command->name);
	if (cli->count < command->least)
		return cli_usage_error(command, "%s needs %s", command->name, command->arguments);
	if (command->most >= 0 && cli->count > command->most)
		return cli_usage_error(command, "\"%s\" is one word too many for %s", cli->words[command->most], command->name);
	return CLI_OK;
}

int cli_parse(struct cli *cli, int argc, char **argv)
{
	bool options = true;

	memset(cli, 0, sizeof(*cli));
	cli->words = argv + 1;
	for (int i = 1; i < argc; i++) {
		if (options && strcmp(argv[i], "--") == 0) {
			options = false;
		} else if (options && argv[i][0] == '-' && argv[i][1]) {
			if (take_option(cli, argc, argv, &i) != CLI_OK)
				return CLI_USAGE;
		} else {
			cli->words[cli->count++] = argv[i];
		}
	}
	if (cli->directory && !*cli->directory)
		return cli_usage_error(NULL, "--config needs a directory, not an empty word");
	default_directory(cli);
	if (take_command(cli) != CLI_OK)
		return CLI_USAGE;
	return check_words(cli);
}
