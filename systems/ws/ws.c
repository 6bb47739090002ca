/* The websocket part of the core system: what it registers, and its phases. */
#include "open.h"

#include "../core/part.h"

#include <connpipe/log.h>

#include <stdlib.h>
#include <string.h>

enum { ARENA_FIRST = 512 };

static int ws_load(struct cp_system *core, const struct cp_settings *table, void **data)
{
	struct ws_part *part = calloc(1, sizeof(*part));
	if (!part) {
		cp_system_error(core, "no memory for websockets");
		return CP_ENOMEM;
	}
	*data = part;
	part->core = core;
	part->table = table;
	int result = cp_register_connector(core, &ws_connector, part, NULL);
	return result == CP_OK ? cp_register_converter(core, &ws_converter, part, NULL) : result;
}

static const struct cp_address *parse(struct ws_part *part, const char *text, struct cp_error *error)
{
	const struct cp_address *address = NULL;
	cp_address_parse(cp_system_scope(part->core), part->arena, text, strlen(text), 0, &address, error);
	return address;
}

/** What websockets stand on: tcp always, TLS for wss if that is there. */
static int find_others(struct ws_part *part)
{
	struct cp_error error = {0};
	part->arena = cp_arena_new(ARENA_FIRST);
	part->tcp = parse(part, "1e1001.connpipe.core.tcp:127.0.0.1:1", &error);
	if (!part->tcp || part->tcp->fields.count > WS_SOCKET_FIELDS) {
		cp_system_error(part->core, "websockets need the tcp connector: %s", error.message);
		return CP_ENOTFOUND;
	}
	const struct cp_address *secure =
		parse(part, "1e1001.connpipe.tls.tls+1e1001.connpipe.core.tcp:127.0.0.1:1", &error);
	part->tls = secure ? secure->layers[0].converter : NULL;
	return CP_OK;
}

/** Without libwebsockets' event loop everything but websockets works: so it is an error only where one is used. */
static void start_engines(struct ws_part *part)
{
	if (cp_system_checking(part->core))
		return;
	part->started = ws_engines_start(part->core, &part->broken) == CP_OK;
	if (!part->started)
		cp_log(CP_WARN, "ws", "there are no websockets: %s", part->broken.message);
}

static int ws_link(struct cp_system *core, void *data)
{
	struct ws_part *part = data;
	int result = find_others(part);
	part->settings = ws_settings_read(core, part->table);
	part->table = NULL;
	if (result == CP_OK)
		start_engines(part);
	return result;
}

static int ws_worker_start(struct cp_system *core, struct cp_loop *loop, void *data)
{
	const struct ws_part *part = data;
	struct cp_error error = {0};
	if (!part->started)
		return CP_OK;
	int result = ws_engine_use(loop, &error);
	if (result != CP_OK)
		cp_system_error(core, "%s", error.message);
	return result;
}

static void ws_worker_stop(struct cp_system *core, struct cp_loop *loop, void *data)
{
	const struct ws_part *part = data;
	(void)core;
	if (part->started)
		ws_engine_leave(loop);
}

static void ws_unload(struct cp_system *core, void *data)
{
	struct ws_part *part = data;
	(void)core;
	if (!part)
		return;
	ws_settings_free(part->settings);
	if (part->arena)
		cp_arena_free(part->arena);
	free(part);
}

const struct core_part ws_part = {
	.load = ws_load,
	.link = ws_link,
	.worker_start = ws_worker_start,
	.worker_stop = ws_worker_stop,
	.unload = ws_unload,
};
