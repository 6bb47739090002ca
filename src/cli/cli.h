/** Command line: `connpipe [OPTION …] [COMMAND [WORD …]]`. Each command is a file here, with one `struct cli_command`
 * that says everything about it; commands.c lists them, options.c takes the words apart.
 *
 * Exit codes: CLI_OK; CLI_FAILED: it did not work, one sentence on stderr says what to do; CLI_USAGE: the words were
 * wrong. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <connpipe/abi.h>

#include <stdbool.h>

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

struct cli_command;

/** What the words said. Everything is borrowed from argv and the environment. */
struct cli {
	const struct cli_command *command;
	bool command_given;    /* it was named, not the default */
	const char *directory; /* configuration directory: --config, else $CONFIG, else /etc/connpipe */
	bool json;             /* --json */
	bool help, version;    /* --help, --version */
	int count;             /* words behind the command that are no options */
	char **words;
};

struct cli_command {
	const char *name;
	const char *arguments; /* for the usage line: "ADDRESS [name=value …]" */
	const char *summary;   /* for the list of commands */
	const char *text;      /* for `help COMMAND`, paragraphs that end in a newline */
	int least, most;       /* how many words; most -1: any number */
	bool json;             /* knows --json */
	int (*run)(const struct cli *cli);
};

/** All commands, in the order of the help; NULL behind the last. The first one is the default. */
extern const struct cli_command *const cli_commands[];

extern const struct cli_command command_run, command_check, command_route, command_pipe, command_connect, command_ctl,
	command_systems, command_help, command_version;

/** Everything: take the words apart and run the command. @return the exit code */
int cli_main(int argc, char **argv);

/** Take argv apart into `cli`. Sorts argv's strings into new order, words behind options included.
 * @return CLI_OK, or CLI_USAGE after saying why on stderr */
int cli_parse(struct cli *cli, int argc, char **argv);

/** The command of that name, or NULL. */
const struct cli_command *cli_find(const char *name);

/** A list of all commands, or everything about one, on stdout. */
void cli_print_help(const struct cli_command *command);

/** One sentence on stderr, behind `connpipe: `. @return CLI_FAILED */
int cli_error(const char *format, ...) CP_PRINTF(1, 2);

/** The same for wrong words, with a short usage behind it.
 * @param command  may be NULL: unknown @return CLI_USAGE */
int cli_usage_error(const struct cli_command *command, const char *format, ...) CP_PRINTF(2, 3);

/** ", did you mean "…"?" if a name is near `word`, else "". Static memory, overwritten by the next call.
 * @param names  ends with NULL */
const char *cli_near(const char *word, const char *const *names);

#endif
