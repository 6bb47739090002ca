#include "cli.h"
#include "forward.h"

#include "../task/main_task.h"

#include <stdlib.h>

static int run_pipe(const struct cli *cli)
{
	char *text = forward_config(cli->words[0], cli->words[1], "");
	struct main_options options = {
		.source = {.directory = ".", .text = text, .name = "command line", .mode = GENERATION_RUN},
	};
	int result = main_task_run(&options);

	free(text);
	return result;
}

const struct cli_command command_pipe = {
	.name = "pipe",
	.arguments = "FROM TO",
	.summary = "bind FROM and forward to TO, without a configuration",
	.text = "Binds the address FROM and pipes every connection on it to the address TO, until it is told to stop.\n"
			"Needs no configuration and reads none. The log goes to stderr.\n"
			"\n"
			"  connpipe pipe 'tcp:$4:8080' tcp:example.org:80\n"
			"  connpipe pipe 'tcp:$4:25565!ssh' 'tcp:$4:22'\n"
			"  connpipe pipe unix:/tmp/echo.sock echo:\n",
	.least = 2,
	.most = 2,
	.run = run_pipe,
};
