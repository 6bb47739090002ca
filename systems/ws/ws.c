/* The websocket part of the core system: what it registers, and its phases. */
#include "../core/part.h"

static int ws_load(struct cp_system *core, const struct cp_settings *table, void **data)
{
	(void)core, (void)table, (void)data;
	return CP_OK;
}

static int ws_link(struct cp_system *core, void *data)
{
	(void)core, (void)data;
	return CP_OK;
}

static int ws_worker_start(struct cp_system *core, struct cp_loop *loop, void *data)
{
	(void)core, (void)loop, (void)data;
	return CP_OK;
}

static void ws_worker_stop(struct cp_system *core, struct cp_loop *loop, void *data)
{
	(void)core, (void)loop, (void)data;
}

static void ws_unload(struct cp_system *core, void *data)
{
	(void)core, (void)data;
}

const struct core_part ws_part = {
	.load = ws_load,
	.link = ws_link,
	.worker_start = ws_worker_start,
	.worker_stop = ws_worker_stop,
	.unload = ws_unload,
};
