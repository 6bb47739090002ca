#include "cli.h"
#include "forward.h"
#include "stdio_system.h"

#include "../task/main_task.h"

#include <stdlib.h>

/* An exchange that is slow is none of our business here, so no time-out ends it; stdio_system.c sees to it that the
 * end of the target ends the command. */
static const char process[] = "workers = 1\n"
							  "timeouts.half_close = \"0s\"\n";

static int run_connect(const struct cli *cli)
{
	static const struct cp_system_def *const extra[] = {&stdio_system, NULL};
	char *text = forward_config(STDIO_ADDRESS, cli->words[0], process);
	struct main_options options = {
		.source = {.directory = ".", .text = text, .name = "command line", .mode = GENERATION_RUN, .extra = extra},
		.once = true,
		.quiet = true,
	};
	int result = main_task_run(&options);

	free(text);
	return result;
}

const struct cli_command command_connect = {
	.name = "connect",
	.arguments = "ADDRESS",
	.summary = "stdin and stdout to an address",
	.text =
		"Connects to ADDRESS and pipes stdin and stdout. Needs no configuration and reads none.\n"
		"\n"
		"  ssh -o ProxyCommand=\"connpipe connect 'tcp:%h:25565!ssh'\" host\n"
		"  echo hello | connpipe connect tcp:127.0.0.1:7\n"
		"\n"
		"The end of stdin is passed on as a half close, so the whole answer still comes. The command ends when both\n"
		"directions have; when the target has ended and stdin then brings nothing for a second (at a terminal: at\n"
		"once), that counts as its end. Exits 0 if all went well, 1 if not, with the cause on stderr.\n",
	.least = 1,
	.most = 1,
	.run = run_connect,
};
