#include "cli.h"

#include "../task/main_task.h"

static int run_run(const struct cli *cli)
{
	struct main_options options = {
		.source = {.directory = cli->directory, .mode = GENERATION_RUN},
	};

	return main_task_run(&options);
}

const struct cli_command command_run = {
	.name = "run",
	.arguments = "",
	.summary = "run the proxy (the default)",
	.text = "Loads the configuration, binds its addresses and serves until it is told to stop.\n"
			"\n"
			"SIGHUP or `connpipe ctl reload` reads the configuration again; when something is wrong with it, that is\n"
			"logged and the running one stays. SIGHUP also opens the log file again. SIGTERM and SIGINT stop\n"
			"accepting, let connections end for timeouts.drain, and exit 0; a second signal ends at once.\n"
			"Exits 1 if it cannot start: then not a single connection was taken.\n",
	.run = run_run,
};
