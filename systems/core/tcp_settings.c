/* TCP settings: reading [connpipe.tcp]. See tcp_options.h. */
#include "socket_settings.h"
#include "tcp_options.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	KEEPALIVE_MOST = 32767, /* seconds: MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL of the kernel */
	PROBES_MOST = 127,      /* MAX_TCP_KEEPCNT */
	DEFER_MOST = 3600,      /* seconds; the kernel's own limit is farther off than makes sense */
	FAST_OPEN_MOST = 65535,
};

/* ---- Keys --------------------------------------------------------------------------------------------------- */

static void read_congestion(const struct cp_settings *value, struct tcp_options *options)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789_-";
	const char *name;
	if (!cp_settings_want(value, CP_SETTINGS_STRING) || !cp_settings_string(value, &name, NULL))
		return;
	size_t length = strlen(name), good = strspn(name, allowed);
	memset(options->congestion, 0, sizeof(options->congestion));
	if (strcmp(name, "default") == 0)
		return;
	if (length > 0 && length < TCP_CONGESTION_ROOM && good == length)
		memcpy(options->congestion, name, length);
	else
		cp_settings_error_at(value, good < length ? good : 0,
							 "expected the name of a congestion control such as \"bbr\" (1 to %d of a-z, 0-9, \"_\", "
							 "\"-\") or \"default\", found \"%s\"",
							 TCP_CONGESTION_ROOM - 1, name);
}

/** There is no "off" within the table. */
static void read_keepalive_part(const struct cp_settings *value, int *number)
{
	static const char expected[] = "a duration from \"1s\" to \"32767s\"";
	const char *text;
	if (settings_read_duration(value, 1000, KEEPALIVE_MOST, expected, number) && *number == 0 &&
		cp_settings_string(value, &text, NULL))
		cp_settings_error(value, "expected %s, found \"%s\"", expected, text);
}

static void read_keepalive_table(const struct cp_settings *table, struct tcp_options *options)
{
	const struct cp_settings *idle = cp_settings_get(table, "idle"), *interval = cp_settings_get(table, "interval");
	int64_t count = 0;
	if (idle)
		read_keepalive_part(idle, &options->keep_idle);
	if (interval)
		read_keepalive_part(interval, &options->keep_interval);
	cp_settings_get_integer(table, "count", 1, PROBES_MOST, &count);
	options->keep_count = (int)count;
	cp_settings_finish(table);
}

/** What an entry says replaces all that is set for all addresses: times that belong together stay together. */
static void read_keepalive(const struct cp_settings *value, struct tcp_options *options)
{
	static const char expected[] =
		"\"off\", a duration from \"1s\" to \"32767s\", or a table of idle, interval and count";
	options->keepalive = options->keep_idle = options->keep_interval = options->keep_count = 0;
	if (cp_settings_kind(value) == CP_SETTINGS_TABLE) {
		options->keepalive = 1;
		read_keepalive_table(value, options);
	} else if (settings_read_duration(value, 1000, KEEPALIVE_MOST, expected, &options->keep_idle)) {
		options->keepalive = options->keep_idle > 0;
	}
}

static void read_user_timeout(const struct cp_settings *value, struct tcp_options *options)
{
	settings_read_duration(value, 1, INT32_MAX, "\"off\" or a duration from \"1ms\" to \"24d\"",
						   &options->user_timeout);
}

static void read_defer_accept(const struct cp_settings *value, struct tcp_options *options)
{
	settings_read_duration(value, 1000, DEFER_MOST, "\"off\" or a duration from \"1s\" to \"1h\"",
						   &options->defer_accept);
}

static void read_fast_open(const struct cp_settings *value, struct tcp_options *options)
{
	settings_read_number(value, "off", 1, FAST_OPEN_MOST, &options->fast_open);
}

static void read_splice(const struct cp_settings *value, struct tcp_options *options)
{
	static const char *const words[] = {"auto", "off", NULL};
	size_t index;
	if (cp_settings_word(value, words, &index))
		options->no_splice = index == 1;
}

static void read_backlog(const struct cp_settings *value, struct tcp_options *options)
{
	settings_read_number(value, "default", 1, INT32_MAX, &options->backlog);
}

static void read_mark(const struct cp_settings *value, struct tcp_options *options)
{
	settings_read_mark(value, &options->mark);
}

static void read_bind_source(const struct cp_settings *value, struct tcp_options *options)
{
	settings_read_source(value, options->source);
}

static const struct key {
	const char *name;
	void (*read)(const struct cp_settings *value, struct tcp_options *options);
} keys[] = {
	{"congestion", read_congestion},     {"keepalive", read_keepalive}, {"user_timeout", read_user_timeout},
	{"defer_accept", read_defer_accept}, {"fast_open", read_fast_open}, {"splice", read_splice},
	{"backlog", read_backlog},           {"mark", read_mark},           {"bind_source", read_bind_source},
};

/* ---- What only the kernel knows ----------------------------------------------------------------------------- */

/** The name nearest to `word` among the congestion controls that are there; "" for none. */
static void near_congestion(const char *word, char *buffer, size_t room)
{
	char line[512] = "";
	const char *names[64] = {NULL};
	size_t count = 0;
	FILE *file = fopen("/proc/sys/net/ipv4/tcp_available_congestion_control", "re");
	if (file && !fgets(line, sizeof(line), file))
		line[0] = '\0';
	if (file)
		fclose(file);
	char *rest = line;
	for (char *name; count < 63 && (name = strtok_r(rest, " \n", &rest));)
		names[count++] = name;
	const char *near = cp_near_name(word, names);
	snprintf(buffer, room, "%s", near ? near : "");
}

/** Some congestion controls are modules that are loaded when they are first asked for, others not for everybody; a mark
 * needs a privilege. So the kernel is asked: by setting them on a socket that is used for nothing else. */
static void try_options(const struct cp_settings *table, const struct tcp_options *options)
{
	struct cp_error error;
	const char *refused;
	char near[TCP_CONGESTION_ROOM] = "";
	if (tcp_options_try(options, AF_INET, NULL, &refused, &error) == CP_OK)
		return;
	const struct cp_settings *value = cp_settings_get(table, refused);
	if (!value)
		return; /* inherited: reported where it is set */
	if (strcmp(refused, "congestion") == 0)
		near_congestion(options->congestion, near, sizeof(near));
	if (near[0])
		cp_settings_error(value, "%s, did you mean \"%s\"?", error.message, near);
	else
		cp_settings_error(value, "%s", error.message);
}

/* ---- Tables ------------------------------------------------------------------------------------------------- */

static void read_options(const struct cp_settings *table, void *out, bool try)
{
	struct tcp_options *options = out;
	for (const struct key *key = keys; key < keys + sizeof(keys) / sizeof(keys[0]); key++) {
		const struct cp_settings *value = cp_settings_get(table, key->name);
		if (value)
			key->read(value, options);
	}
	if (try)
		try_options(table, options);
}

static const struct socket_settings_def def = {
	.connector = &tcp_connector,
	.name = "tcp",
	.size = sizeof(struct tcp_options),
	.read = read_options,
};

struct socket_settings *tcp_settings_read(struct cp_system *core, const struct cp_settings *table)
{
	return socket_settings_read(&def, core, table);
}
