/* The type "lua": the life of one script as a system. */
#include "script.h"

#include "convert.h"
#include "shared.h"
#include "vm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	BUDGET_MS = 50,
	MEMORY = 64 << 20,
	MEMORY_LEAST = 1 << 20, /* less does not hold Lua's own library and a script */
	SHARED = 16 << 20,
	SHARED_LEAST = 64 << 10,
	HANDSHAKE_MS = 10000,
	SCRIPT_MOST = 16 << 20, /* of a script's text */
	CONFIG_DEPTH_MOST = 64,
};

/* ---- Settings ----------------------------------------------------------------------------------------------- */

static json_t *to_json(const struct cp_settings *settings, int depth);

static json_t *members_to_json(const struct cp_settings *settings, int depth)
{
	bool table = cp_settings_kind(settings) == CP_SETTINGS_TABLE;
	json_t *json = table ? json_object() : json_array();
	for (size_t i = 0; i < cp_settings_count(settings); i++) {
		const struct cp_settings *member = cp_settings_at(settings, i);
		json_t *value = to_json(member, depth + 1);
		if (table)
			json_object_set_new(json, cp_settings_key(member), value);
		else
			json_array_append_new(json, value);
	}
	return json;
}

/** The settings as the script will see them. They end with the load, and each worker's vm needs them. */
static json_t *to_json(const struct cp_settings *settings, int depth)
{
	const char *text;
	size_t length;
	int64_t integer;
	double number;
	bool truth;
	switch (cp_settings_kind(settings)) {
	case CP_SETTINGS_TABLE:
	case CP_SETTINGS_ARRAY:
		return depth < CONFIG_DEPTH_MOST ? members_to_json(settings, depth) : json_null();
	case CP_SETTINGS_STRING:
	case CP_SETTINGS_TIME:
		return cp_settings_string(settings, &text, &length) ? json_stringn(text, length) : json_null();
	case CP_SETTINGS_INTEGER:
		return cp_settings_integer(settings, INT64_MIN, INT64_MAX, &integer) ? json_integer(integer) : json_null();
	case CP_SETTINGS_FLOAT:
		return cp_settings_float(settings, &number) ? json_real(number) : json_null();
	case CP_SETTINGS_BOOL:
		return cp_settings_bool(settings, &truth) ? json_boolean(truth) : json_null();
	}
	return json_null();
}

static void want_at_least(const struct cp_settings *settings, const char *key, uint64_t value, uint64_t least)
{
	const struct cp_settings *member = cp_settings_get(settings, key);
	if (member && value < least)
		cp_settings_error(member, "expected at least %llu, found %llu", (unsigned long long)least,
						  (unsigned long long)value);
}

/** @return whether there is a script to load */
static bool read_settings(struct script *script, const struct cp_settings *settings)
{
	const char *path = NULL;
	script->budget_ms = BUDGET_MS;
	script->handshake_ms = HANDSHAKE_MS;
	script->memory = MEMORY;
	script->shared_bytes = SHARED;
	bool good = cp_settings_get_string(settings, "path", &path);
	if (!cp_settings_get(settings, "path"))
		cp_settings_error(settings, "expected `path`, the script");
	good &= cp_settings_get_duration(settings, "budget", &script->budget_ms);
	good &= cp_settings_get_duration(settings, "handshake", &script->handshake_ms);
	good &= cp_settings_get_size(settings, "memory", &script->memory);
	good &= cp_settings_get_size(settings, "shared", &script->shared_bytes);
	good &= cp_settings_get_bool(settings, "jit", &script->jit);
	good &= cp_settings_get_bool(settings, "ffi", &script->ffi);
	want_at_least(settings, "memory", script->memory, MEMORY_LEAST);
	want_at_least(settings, "shared", script->shared_bytes, SHARED_LEAST);
	if (!good || !path)
		return false;
	script->config = to_json(settings, 0);
	script->chunk = strdup(path);
	script->path = cp_settings_path(settings, path);
	return true;
}

/** Read once, so that every worker gets the same text. */
static bool read_text(struct script *script, const struct cp_settings *settings)
{
	const struct cp_settings *path = cp_settings_get(settings, "path");
	FILE *file = fopen(script->path, "r");
	if (!file) {
		cp_settings_error(path, "cannot open %s: %s", script->path, strerror(errno));
		return false;
	}
	script->text = malloc(SCRIPT_MOST);
	script->length = script->text ? fread(script->text, 1, SCRIPT_MOST, file) : 0;
	bool good = script->text && !ferror(file) && script->length < SCRIPT_MOST;
	if (!good)
		cp_settings_error(path, "cannot read %s: %s", script->path,
						  ferror(file) ? strerror(errno) : "it is too large for a script");
	fclose(file);
	char *fitting = realloc(script->text, script->length + 1);
	script->text = fitting ? fitting : script->text;
	return good;
}

/* ---- Loading: main task ------------------------------------------------------------------------------------- */

static int register_one(struct declared *declared)
{
	struct cp_system *system = declared->script->system;
	switch (declared->kind) {
	case DECLARED_ROUTER:
		return cp_register_router(system, &router_def, declared->id, declared, &declared->router);
	case DECLARED_CONNECTOR:
		return cp_register_connector(system, &declared->def.connector, declared, NULL);
	case DECLARED_CONVERTER:
		return cp_register_converter(system, &declared->def.converter, declared, NULL);
	}
	return CP_EINVAL;
}

/** Whether the script has a say in addresses, which the main task parses, prints and binds, too. */
static bool asked_by_main(const struct script *script)
{
	for (uint32_t i = 0; i < script->declared_count; i++) {
		const struct declared *declared = script->declared[i];
		if (declared->kind == DECLARED_CONNECTOR && (declared->def.connector.parse || declared->def.connector.bind))
			return true;
	}
	return false;
}

/** The first vm is the main task's if that needs one, else the first worker's. */
static int place_first(struct script *script, struct vm *vm)
{
	struct cp_error error = {0};
	if (!asked_by_main(script)) {
		script->vms[0] = vm;
		return CP_OK;
	}
	script->main = vm;
	int result = vm_start_main(vm, &error);
	if (result != CP_OK)
		cp_system_error(script->system, "%s", error.message);
	return result;
}

/** Run the script for the first time. What it declares is registered. */
static int load_script(struct script *script)
{
	struct cp_error error = {0};
	struct vm *vm = vm_new(script, 0, true, &error);
	if (!vm) {
		cp_system_error(script->system, "%s: %s", error.where, error.message);
		return CP_EINVAL;
	}
	script->signature = strdup(vm->signature);
	if (place_first(script, vm) != CP_OK)
		return CP_EINVAL;
	if (script->declared_count == 0)
		cp_log(CP_WARN, script->id, "%s declares no router, no connector and no converter", script->chunk);
	for (uint32_t i = 0; i < script->declared_count; i++) {
		int result = register_one(script->declared[i]);
		if (result != CP_OK)
			return result;
	}
	return CP_OK;
}

static int script_load(struct cp_system *self, const struct cp_settings *settings)
{
	struct script *script = calloc(1, sizeof(*script));
	if (!script)
		return CP_ENOMEM;
	cp_system_set_data(self, script);
	script->system = self;
	script->id = cp_system_id(self);
	script->thread = pthread_self();
	script->arena = cp_arena_new(0);
	script->vm_count = cp_worker_count() ? cp_worker_count() : 1;
	script->vms = calloc(script->vm_count, sizeof(struct vm *));
	if (!settings) {
		cp_system_error(self, "a script needs settings: `path`");
		return CP_EINVAL;
	}
	if (!read_settings(script, settings) || !read_text(script, settings))
		return CP_EINVAL;
	script->shared = shared_get(script->id, (size_t)script->shared_bytes);
	return load_script(script);
}

static int bind_router(struct declared *declared)
{
	struct script *script = declared->script;
	int result = CP_OK;
	for (const char **text = declared->names; *text; text++) {
		const struct cp_address *address;
		struct cp_error error = {0};
		if (cp_address_parse(cp_system_scope(script->system), script->arena, *text, strlen(*text), 0, &address,
							 &error) == CP_OK) {
			int bound = cp_router_bind(declared->router, address, declared->where);
			result = result == CP_OK ? bound : result;
			continue;
		}
		cp_system_error(script->system, "%s: router %s cannot bind: %s: %s", declared->where, declared->router->id,
						error.where, error.message);
		result = CP_EINVAL;
	}
	return result;
}

static int script_link(struct cp_system *self)
{
	struct script *script = cp_system_data(self);
	int result = CP_OK;
	for (uint32_t i = 0; i < script->declared_count; i++) {
		struct declared *declared = script->declared[i];
		int bound = declared->kind == DECLARED_ROUTER ? bind_router(declared) : CP_OK;
		result = result == CP_OK ? bound : result;
	}
	return result;
}

/* ---- Workers ------------------------------------------------------------------------------------------------ */

static int script_worker_start(struct cp_system *self, struct cp_loop *loop)
{
	struct script *script = cp_system_data(self);
	uint32_t index = cp_loop_index(loop);
	struct cp_error error = {0};
	if (index >= script->vm_count)
		return CP_EINVAL;
	if (!script->vms[index])
		script->vms[index] = vm_new(script, index, false, &error);
	if (script->vms[index] && vm_start(script->vms[index], loop, &error) == CP_OK)
		return CP_OK;
	cp_log(CP_ERROR, script->id, "worker %u: %s: %s", (unsigned)index, error.where, error.message);
	return error.code;
}

static void script_worker_stop(struct cp_system *self, struct cp_loop *loop)
{
	struct script *script = cp_system_data(self);
	vm_stop(script->vms[cp_loop_index(loop)]);
}

static void script_unload(struct cp_system *self)
{
	struct script *script = cp_system_data(self);
	if (!script)
		return;
	for (uint32_t i = 0; i < script->vm_count; i++)
		if (script->vms[i])
			vm_free(script->vms[i]);
	if (script->main) {
		vm_stop_main(script->main);
		vm_free(script->main);
	}
	if (script->shared)
		shared_put(script->shared);
	json_decref(script->config);
	cp_arena_free(script->arena);
	free(script->declared);
	free(script->signature);
	free(script->vms);
	free(script->text);
	free(script->chunk);
	free(script->path);
	free(script);
	cp_system_set_data(self, NULL);
}

/* ---- The type ----------------------------------------------------------------------------------------------- */

static const struct cp_system_def script_system = {
	.abi = CP_ABI_VERSION,
	.size = sizeof(struct cp_system_def),
	.load = script_load,
	.link = script_link,
	.worker_start = script_worker_start,
	.worker_stop = script_worker_stop,
	.unload = script_unload,
};

static int type_load(struct cp_system *self, const struct cp_settings *settings)
{
	(void)settings;
	return cp_register_type(self, "lua", &script_system);
}

const struct cp_system_def lua_type_system = {
	.abi = CP_ABI_VERSION,
	.size = sizeof(struct cp_system_def),
	.id = "1e1001.connpipe.lua",
	.load = type_load,
};
