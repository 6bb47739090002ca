/* The table [connpipe]. See process_settings.h. */
#include "process_settings.h"

#include "describe.h"
#include "../base/memory.h"

#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	WORKERS_MAX = 1024,
	UNIX_PATH_MAX = 107, /* sun_path, without its zero byte */
};

/* ---- Limits and time-outs ----------------------------------------------------------------------------------- */

/** X(name, least, most, default) */
#define LIMITS(X)                                \
	X(connections, 1, UINT32_MAX, 10000)         \
	X(connections_per_source, 0, UINT32_MAX, 0)  \
	X(connect_rate_per_source, 0, UINT32_MAX, 0) \
	X(subport_length, 1, 65535, 255)             \
	X(udp_sessions, 0, UINT32_MAX, 10000)

/** X(name, default in milliseconds) */
#define TIMEOUTS(X)      \
	X(preamble, 3000)    \
	X(connect, 5000)     \
	X(handshake, 10000)  \
	X(idle, 0)           \
	X(udp_idle, 30000)   \
	X(half_close, 30000) \
	X(reset, 5000)       \
	X(drain, 0)

static void set_defaults(struct process_settings *settings)
{
#define LIMIT_DEFAULT(name, least, most, value) settings->limits.name = value;
	LIMITS(LIMIT_DEFAULT)
#undef LIMIT_DEFAULT
#define TIMEOUT_DEFAULT(name, value) settings->timeouts.name = value;
	TIMEOUTS(TIMEOUT_DEFAULT)
#undef TIMEOUT_DEFAULT
}

static void read_limit(const struct cp_settings *table, const char *key, int64_t least, int64_t most, uint32_t *limit)
{
	int64_t number = *limit;
	cp_settings_get_integer(table, key, least, most, &number);
	*limit = (uint32_t)number;
}

static void read_limits(const struct cp_settings *table, struct process_settings *settings)
{
#define LIMIT_READ(name, least, most, value) read_limit(table, #name, least, most, &settings->limits.name);
	LIMITS(LIMIT_READ)
#undef LIMIT_READ
}

static void read_timeouts(const struct cp_settings *table, struct process_settings *settings)
{
#define TIMEOUT_READ(name, value) cp_settings_get_duration(table, #name, &settings->timeouts.name);
	TIMEOUTS(TIMEOUT_READ)
#undef TIMEOUT_READ
}

/* ---- Workers ------------------------------------------------------------------------------------------------ */

/* Processors that this process may run on; the set grows until the kernel's fits into it. */
static uint32_t count_processors(void)
{
	for (int room = CPU_SETSIZE; room <= 1 << 20; room *= 2) {
		cpu_set_t *set = CPU_ALLOC(room);
		if (!set)
			break;
		int count = sched_getaffinity(0, CPU_ALLOC_SIZE(room), set) == 0 ? CPU_COUNT_S(CPU_ALLOC_SIZE(room), set) : 0;
		CPU_FREE(set);
		if (count > 0)
			return count < WORKERS_MAX ? (uint32_t)count : WORKERS_MAX;
	}
	return 1;
}

static bool is_text(const struct cp_settings *value, const char *text)
{
	const char *found;
	size_t length;
	return cp_settings_kind(value) == CP_SETTINGS_STRING && cp_settings_string(value, &found, &length) &&
		   length == strlen(text) && memcmp(found, text, length) == 0;
}

static void read_workers(const struct cp_settings *table, struct process_settings *settings)
{
	const struct cp_settings *value = cp_settings_get(table, "workers");
	if (!value || is_text(value, "auto"))
		return;
	int64_t number;
	if (cp_settings_kind(value) == CP_SETTINGS_INTEGER) {
		if (cp_settings_integer(value, 1, WORKERS_MAX, &number))
			settings->workers = (uint32_t)number;
		return;
	}
	char found[DESCRIBE_TEXT];
	describe_value(found, sizeof found, value);
	cp_settings_error(value, "expected \"auto\" or an integer from 1 to %d, found %s", WORKERS_MAX, found);
}

/* ---- Log ---------------------------------------------------------------------------------------------------- */

static void read_level(const struct cp_settings *table, struct process_settings *settings)
{
	static const char *const words[] = {"error", "warn", "info", "debug", "trace", NULL};
	static const enum cp_level levels[] = {CP_ERROR, CP_WARN, CP_INFO, CP_DEBUG, CP_TRACE};
	const struct cp_settings *value = cp_settings_get(table, "level");
	size_t index;
	if (value && cp_settings_word(value, words, &index))
		settings->log.level = levels[index];
}

static void read_format(const struct cp_settings *table, struct process_settings *settings)
{
	static const char *const words[] = {"text", "json", NULL};
	const struct cp_settings *value = cp_settings_get(table, "format");
	size_t index;
	if (value && cp_settings_word(value, words, &index))
		settings->log.json = index == 1;
}

/* A string that is not empty. @return NULL if it is not there, or after an error */
static const char *read_text(const struct cp_settings *table, const char *key, const char *what)
{
	const char *text = NULL;
	if (!cp_settings_get_string(table, key, &text) || !text || text[0])
		return text;
	cp_settings_error(cp_settings_get(table, key), "expected %s, found the string \"\"", what);
	return NULL;
}

static void read_log(const struct cp_settings *table, struct process_settings *settings)
{
	read_level(table, settings);
	read_format(table, settings);
	const char *file = read_text(table, "file", "\"stderr\" or a path");
	if (file && strcmp(file, "stderr") != 0) {
		free(settings->log.file);
		settings->log.file = cp_settings_path(table, file);
	}
}

/* ---- Control socket ----------------------------------------------------------------------------------------- */

static char *unix_address(const char *path)
{
	size_t room = strlen("unix:") + strlen(path) + 1;
	char *address = xmalloc(room);
	snprintf(address, room, "unix:%s", path);
	return address;
}

/* Where the control socket is unless the configuration says otherwise: in the directory that the service manager made
 * for the process (the first one: there may be several, with colons between them), else in the configuration's. */
static char *default_admin(const char *config_directory)
{
	const char *runtime = getenv("RUNTIME_DIRECTORY");
	size_t room = (runtime ? strlen(runtime) : 0) + strlen(config_directory) + sizeof "/run/admin.sock";
	char *path = xmalloc(room);
	if (runtime && runtime[0] == '/')
		snprintf(path, room, "%.*s/admin.sock", (int)strcspn(runtime, ":"), runtime);
	else
		snprintf(path, room, "%s/run/admin.sock", config_directory);
	char *address = unix_address(path);
	free(path);
	return address;
}

/* Check the part behind "unix:". It is a path as it stands: no escapes, no subport. */
static bool check_admin_path(const struct cp_settings *value, const char *path)
{
	const size_t before = strlen("unix:");
	size_t plain = strcspn(path, "!%");
	if (path[0] == '\0')
		cp_settings_error(value, "expected a path behind \"unix:\"");
	else if (path[0] == '@')
		cp_settings_error_at(value, before, "expected a path: an abstract socket is open to every user");
	else if (path[plain])
		cp_settings_error_at(value, before + plain, "expected a path without \"!\" and \"%%\"");
	else
		return true;
	return false;
}

static char *explicit_admin(const struct cp_settings *value, const char *text)
{
	if (strncmp(text, "unix:", 5) != 0) {
		char found[DESCRIBE_TEXT];
		describe_value(found, sizeof found, value);
		cp_settings_error(value, "expected \"off\" or an address such as \"unix:run/admin.sock\", found %s", found);
		return NULL;
	}
	if (!check_admin_path(value, text + 5))
		return NULL;
	char *path = cp_settings_path(value, text + 5), *address = NULL;
	if (strlen(path) > UNIX_PATH_MAX)
		cp_settings_error(value, "expected a path of at most %d bytes, found %zu: %s", UNIX_PATH_MAX, strlen(path),
						  path);
	else
		address = unix_address(path);
	free(path);
	return address;
}

static void read_admin(const struct cp_settings *table, struct process_settings *settings)
{
	const char *text = NULL;
	if (!cp_settings_get_string(table, "admin", &text) || !text)
		return;
	free(settings->admin);
	settings->admin_is_default = false;
	settings->admin = strcmp(text, "off") == 0 ? NULL : explicit_admin(cp_settings_get(table, "admin"), text);
}

/* ---- The table ---------------------------------------------------------------------------------------------- */

static void read_http(const struct cp_settings *table)
{
	const struct cp_settings *value = cp_settings_get(table, "http");
	if (!value || is_text(value, "off"))
		return;
	char found[DESCRIBE_TEXT];
	describe_value(found, sizeof found, value);
	cp_settings_error(value, "not available in this version: expected \"off\", found %s", found);
}

static void read_user(const struct cp_settings *table, struct process_settings *settings)
{
	const char *user = read_text(table, "user", "the name of a user");
	if (user)
		settings->user = xstrdup(user);
}

static void read_section(const struct cp_settings *table, const char *key, struct process_settings *settings,
						 void (*read)(const struct cp_settings *section, struct process_settings *settings))
{
	const struct cp_settings *section = cp_settings_get(table, key);
	if (!section || !cp_settings_want(section, CP_SETTINGS_TABLE))
		return;
	read(section, settings);
	cp_settings_finish(section);
}

/* Only what kind it is: the rest is for the system whose table it is, when that loads. */
static void read_systems_table(const struct cp_settings *table, const char *key)
{
	const struct cp_settings *section = cp_settings_get(table, key);
	if (section)
		cp_settings_want(section, CP_SETTINGS_TABLE);
}

const struct cp_settings *process_settings_table(const struct config *config, const char *key)
{
	const struct cp_settings *table = cp_settings_get(config_root(config), "connpipe");
	const struct cp_settings *section = table && *key ? cp_settings_get(table, key) : table;
	return section && cp_settings_kind(section) == CP_SETTINGS_TABLE ? section : NULL;
}

void process_settings_read(const struct config *config, struct process_settings *settings)
{
	*settings = (struct process_settings){
		.workers = count_processors(),
		.log = {.level = CP_INFO, .file = xstrdup("stderr")},
		.admin = default_admin(config_directory(config)),
		.admin_is_default = true,
	};
	set_defaults(settings);
	const struct cp_settings *table = cp_settings_get(config_root(config), "connpipe");
	if (!table || !cp_settings_want(table, CP_SETTINGS_TABLE))
		return;
	read_workers(table, settings);
	read_section(table, "log", settings, read_log);
	read_admin(table, settings);
	read_http(table);
	read_user(table, settings);
	read_section(table, "limits", settings, read_limits);
	read_section(table, "timeouts", settings, read_timeouts);
	read_systems_table(table, "tcp");
	read_systems_table(table, "udp");
	read_systems_table(table, "ws");
	read_systems_table(table, "proxy");
	cp_settings_finish(table);
}

void process_settings_deinit(struct process_settings *settings)
{
	free(settings->log.file);
	free(settings->admin);
	free(settings->user);
	*settings = (struct process_settings){0};
}
