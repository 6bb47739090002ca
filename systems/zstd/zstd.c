#include <connpipe/system.h>

static int load(struct cp_system *self, const struct cp_settings *settings)
{
	(void)self, (void)settings;
	return CP_OK;
}

extern const struct cp_system_def zstd_system;
const struct cp_system_def zstd_system = {
	.abi = CP_ABI_VERSION,
	.size = sizeof(struct cp_system_def),
	.id = "1e1001.connpipe.zstd",
	.load = load,
};
