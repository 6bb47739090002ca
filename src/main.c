/** connpipe: a reverse proxy that pipes connections. The commands are in src/cli/, what runs is in src/task/. */
#include "cli/cli.h"

int main(int argc, char **argv)
{
	return cli_main(argc, argv);
}
