/* The core system: registers the connectors, ends the children that are left. */
#include "core.h"

#include "child.h"
#include "connectors.h"
#include "part.h"
#include "tcp_options.h"
#include "udp.h"

#include <stdlib.h>

static const struct cp_connector_def *const connectors[] = {
	&tcp_connector,  &udp_connector,     &unix_connector,   &exec_connector,
	&echo_connector, &discard_connector, &reject_connector,
};

/** One of the tables in [connpipe] that are the core system's. @return NULL: it is not there, or no table */
static const struct cp_settings *find_table(const struct cp_settings *settings, const char *name)
{
	const struct cp_settings *table = settings ? cp_settings_get(settings, name) : NULL;
	return table && cp_settings_kind(table) == CP_SETTINGS_TABLE ? table : NULL;
}

static int core_load(struct cp_system *self, const struct cp_settings *settings)
{
	struct core *core = calloc(1, sizeof(*core));
	if (!core) {
		cp_system_error(self, "no memory for the core system");
		return CP_ENOMEM;
	}
	cp_system_set_data(self, core);
	core->config_dir = cp_system_config_dir(self);
	core->workers = cp_worker_count();
	core->tcp_table = find_table(settings, "tcp");
	core->udp_table = find_table(settings, "udp");
	core->children = calloc(core->workers, sizeof(struct child *));
	if (!core->children && core->workers > 0) {
		cp_system_error(self, "no memory for the lists of children of %u workers", core->workers);
		return CP_ENOMEM;
	}
	for (size_t i = 0; i < sizeof(connectors) / sizeof(connectors[0]); i++) {
		struct cp_connector *connector;
		int result = cp_register_connector(self, connectors[i], core, &connector);
		if (result != CP_OK)
			return result;
	}
	return ws_part.load(self, find_table(settings, "ws"), &core->ws);
}

/** Addresses in the settings can be read now. */
static int core_link(struct cp_system *self)
{
	struct core *core = cp_system_data(self);
	core->tcp = tcp_settings_read(self, core->tcp_table);
	core->tcp_table = NULL;
	core->udp = udp_settings_read(self, core->udp_table);
	core->udp_table = NULL;
	return ws_part.link(self, core->ws);
}

static int core_worker_start(struct cp_system *self, struct cp_loop *loop)
{
	const struct core *core = cp_system_data(self);
	return ws_part.worker_start(self, loop, core->ws);
}

/** Children outlive the connections they were made for; they do not outlive the generation. */
static void core_worker_stop(struct cp_system *self, struct cp_loop *loop)
{
	struct core *core = cp_system_data(self);
	ws_part.worker_stop(self, loop, core->ws);
	children_end(core, loop, self);
}

/** No child is left: from worker_stop on each one keeps the system until it is reaped. */
static void core_unload(struct cp_system *self)
{
	struct core *core = cp_system_data(self);
	if (!core)
		return;
	ws_part.unload(self, core->ws);
	socket_settings_free(core->udp);
	socket_settings_free(core->tcp);
	free(core->children);
	free(core);
}

const struct cp_system_def core_system = {
	.abi = CP_ABI_VERSION,
	.size = sizeof(struct cp_system_def),
	.id = CORE_ID,
	.load = core_load,
	.link = core_link,
	.worker_start = core_worker_start,
	.worker_stop = core_worker_stop,
	.unload = core_unload,
};
