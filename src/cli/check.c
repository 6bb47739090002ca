#include "cli.h"
#include "offline.h"

#include <stdio.h>

static int run_check(const struct cli *cli)
{
	struct offline offline;

	if (offline_open(&offline, cli->directory) != CLI_OK)
		return CLI_FAILED;
	printf("configuration %s: ok (%u systems, %u addresses)\n", cli->directory, offline.generation->system_count,
		   offline.plan->count);
	offline_close(&offline);
	return CLI_OK;
}

const struct cli_command command_check = {
	.name = "check",
	.arguments = "",
	.summary = "say whether the configuration is right",
	.text = "Does everything that starting does, short of binding, connecting and resolving: reads config.toml, loads\n"
			"the systems, checks every route. All errors are printed, each with file:line:column.\n"
			"Exits 0 if there are none, else 1.\n",
	.run = run_check,
};
