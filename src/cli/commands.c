#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

const struct cli_command *const cli_commands[] = {
	&command_run, &command_check,   &command_route, &command_pipe,    &command_connect,
	&command_ctl, &command_systems, &command_help,  &command_version, NULL,
};

/* ---- help, version ------------------------------------------------------------------------------------------ */

static int run_help(const struct cli *cli)
{
	const struct cli_command *command = cli->count ? cli_find(cli->words[0]) : NULL;

	if (cli->count && !command)
		return cli_usage_error(NULL, "there is no command \"%s\" to help with", cli->words[0]);
	cli_print_help(command);
	return CLI_OK;
}

const struct cli_command command_help = {
	.name = "help",
	.arguments = "[COMMAND]",
	.summary = "what there is, or everything about a command",
	.text = "Prints the list of commands, or what there is to know about one.\n",
	.most = 1,
	.run = run_help,
};

static int run_version(const struct cli *cli)
{
	(void)cli;
	puts("connpipe " CONNPIPE_VERSION);
	return CLI_OK;
}

const struct cli_command command_version = {
	.name = "version",
	.arguments = "",
	.summary = "the version",
	.text = "Prints the version of the program.\n",
	.run = run_version,
};

/* ---- The whole ---------------------------------------------------------------------------------------------- */

/** Whoever started us may have closed descriptors 0 to 2; a socket of ours must not become somebody's stdout. */
static void open_standard_descriptors(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

static int run_command(const struct cli *cli)
{
	if (cli->version)
		return run_version(cli);
	if (cli->help) {
		/* `connpipe --help` is about all commands, `connpipe run --help` about one. */
		cli_print_help(cli->command_given ? cli->command : NULL);
		return CLI_OK;
	}
	return cli->command->run(cli);
}

int cli_main(int argc, char **argv)
{
	struct cli cli;
	int result;

	open_standard_descriptors();
	result = cli_parse(&cli, argc, argv);
	if (result == CLI_OK)
		result = run_command(&cli);
	if (fflush(stdout) != 0 && result == CLI_OK)
		result = cli_error("cannot write to stdout: %s", strerror(errno));
	return result;
}
