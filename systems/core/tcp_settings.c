/* TCP settings: reading [connpipe.tcp], finding the options of an address. See tcp_options.h. */
#include "tcp_options.h"

#include <connpipe/settings.h>
#include <connpipe/system.h>

#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	ARENA_FIRST = 1024,
	KEEPALIVE_MOST = 32767, /* seconds: MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL of the kernel */
	PROBES_MOST = 127,      /* MAX_TCP_KEEPCNT */
	DEFER_MOST = 3600,      /* seconds; the kernel's own limit is farther off than makes sense */
	FAST_OPEN_MOST = 65535,
};

/** The options of one address. */
struct entry {
	const char *host; /* NULL: the slot is empty */
	uint32_t host_length;
	uint16_t port;
	bool is_default;                   /* what is set for all was taken back here */
	const struct cp_settings *setting; /* only while reading */
	struct tcp_options options;
};

struct tcp_settings {
	struct cp_arena *arena; /* holds this, too */
	struct tcp_options all; /* addresses without an entry */
	bool all_default;
	uint32_t count, mask;
	struct entry *slots; /* open addressing: `mask` + 1 of them, at most half are taken */
};

/** One reading of the table. */
struct reading {
	struct cp_system *core;
	bool try; /* ask the kernel about what only it knows; not for `connpipe check`, which may run elsewhere */
};

static bool is_default(const struct tcp_options *options)
{
	static const struct tcp_options none;
	return memcmp(options, &none, sizeof(none)) == 0;
}

/* ---- Finding ------------------------------------------------------------------------------------------------ */

/** FNV-1a. What is stored comes from the configuration, so nobody outside can make chains longer. */
static uint32_t hash_of(const char *host, uint32_t length, uint16_t port)
{
	uint32_t hash = (2166136261u ^ port) * 16777619u;
	for (uint32_t i = 0; i < length; i++)
		hash = (hash ^ (unsigned char)host[i]) * 16777619u;
	return hash;
}

/** The slot of a socket: its entry, or the empty one where it would be. */
static struct entry *find_slot(const struct tcp_settings *settings, const struct cp_address *address)
{
	const struct cp_value *host = &address->fields.at[TCP_ADDR].value;
	uint16_t port = (uint16_t)address->fields.at[TCP_PORT].value.as.u;
	for (uint32_t at = hash_of(host->as.s, host->length, port);; at++) {
		struct entry *entry = &settings->slots[at & settings->mask];
		if (!entry->host || (entry->port == port && entry->host_length == host->length &&
							 memcmp(entry->host, host->as.s, host->length) == 0))
			return entry;
	}
}

const struct tcp_options *tcp_settings_find(const struct tcp_settings *settings, const struct cp_address *address)
{
	const struct entry *entry = settings->count ? find_slot(settings, address) : NULL;
	if (entry && entry->host)
		return entry->is_default ? NULL : &entry->options;
	return settings->all_default ? NULL : &settings->all;
}

/* ---- Values ------------------------------------------------------------------------------------------------- */

static bool is_text(const struct cp_settings *value, const char *text)
{
	const char *found;
	size_t length;
	return cp_settings_kind(value) == CP_SETTINGS_STRING && cp_settings_string(value, &found, &length) &&
		   length == strlen(text) && memcmp(found, text, length) == 0;
}

static const char *kind_text(const struct cp_settings *value)
{
	switch (cp_settings_kind(value)) {
	case CP_SETTINGS_TABLE:
		return "a table";
	case CP_SETTINGS_ARRAY:
		return "an array";
	case CP_SETTINGS_STRING:
		return "a string";
	case CP_SETTINGS_INTEGER:
		return "an integer";
	case CP_SETTINGS_FLOAT:
		return "a float";
	case CP_SETTINGS_BOOL:
		return "a boolean";
	case CP_SETTINGS_TIME:
		return "a date or time";
	}
	return "something else";
}

/** "off", or a duration from one `unit` to `most` of them, a unit being so many milliseconds; begun ones count whole.
 * @param number  set to how many; 0: off, as for "0s" */
static bool read_duration(const struct cp_settings *value, uint64_t unit, uint64_t most, const char *expected,
						  int *number)
{
	uint64_t milliseconds;
	if (is_text(value, "off")) {
		*number = 0;
		return true;
	}
	if (cp_settings_kind(value) != CP_SETTINGS_STRING) {
		cp_settings_error(value, "expected %s, found %s", expected, kind_text(value));
		return false;
	}
	if (!cp_settings_duration(value, &milliseconds))
		return false;
	if (milliseconds > most * unit) {
		cp_settings_error(value, "expected %s, found %" PRIu64 " ms", expected, milliseconds);
		return false;
	}
	*number = (int)((milliseconds + unit - 1) / unit);
	return true;
}

/** `word`, which means 0, or an integer. */
static void read_number(const struct cp_settings *value, const char *word, int64_t least, int64_t most, int *number)
{
	int64_t found;
	if (is_text(value, word))
		*number = 0;
	else if (cp_settings_kind(value) != CP_SETTINGS_INTEGER)
		cp_settings_error(value, "expected \"%s\" or an integer from %" PRId64 " to %" PRId64 ", found %s", word, least,
						  most, kind_text(value));
	else if (cp_settings_integer(value, least, most, &found))
		*number = (int)found;
}

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
	if (read_duration(value, 1000, KEEPALIVE_MOST, expected, number) && *number == 0 &&
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
	} else if (read_duration(value, 1000, KEEPALIVE_MOST, expected, &options->keep_idle)) {
		options->keepalive = options->keep_idle > 0;
	}
}

static void read_user_timeout(const struct cp_settings *value, struct tcp_options *options)
{
	read_duration(value, 1, INT32_MAX, "\"off\" or a duration from \"1ms\" to \"24d\"", &options->user_timeout);
}

static void read_defer_accept(const struct cp_settings *value, struct tcp_options *options)
{
	read_duration(value, 1000, DEFER_MOST, "\"off\" or a duration from \"1s\" to \"1h\"", &options->defer_accept);
}

static void read_fast_open(const struct cp_settings *value, struct tcp_options *options)
{
	read_number(value, "off", 1, FAST_OPEN_MOST, &options->fast_open);
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
	read_number(value, "default", 1, INT32_MAX, &options->backlog);
}

static void read_mark(const struct cp_settings *value, struct tcp_options *options)
{
	int64_t mark;
	if (cp_settings_integer(value, 0, UINT32_MAX, &mark))
		options->mark = (int)(uint32_t)mark;
}

static void read_source(const struct cp_settings *value, struct tcp_options *options)
{
	const char *text;
	struct cp_ip ip;
	if (!cp_settings_want(value, CP_SETTINGS_STRING) || !cp_settings_string(value, &text, NULL))
		return;
	struct cp_ip *source = cp_ip_parse(text, strlen(text), &ip) ? &options->source[ip.family == 6] : NULL;
	if (!source)
		cp_settings_error(value,
						  "expected an IP address such as \"192.0.2.1\" or \"2001:db8::1\", found the string "
						  "\"%s\"",
						  text);
	else if (source->family)
		cp_settings_error(value, "expected one IPv4 and one IPv6 address at most, found another one of IPv%u",
						  ip.family);
	else
		memcpy(source, &ip, sizeof(ip));
}

static void read_bind_source(const struct cp_settings *value, struct tcp_options *options)
{
	memset(options->source, 0, sizeof(options->source));
	if (is_text(value, "default"))
		return;
	if (cp_settings_kind(value) != CP_SETTINGS_ARRAY) {
		read_source(value, options);
		return;
	}
	for (size_t i = 0; i < cp_settings_count(value); i++)
		read_source(cp_settings_at(value, i), options);
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

/** Read all keys of a table into `options`, which are those that it inherits. */
static void read_options(const struct reading *reading, const struct cp_settings *table, struct tcp_options *options)
{
	for (const struct key *key = keys; key < keys + sizeof(keys) / sizeof(keys[0]); key++) {
		const struct cp_settings *value = cp_settings_get(table, key->name);
		if (value)
			key->read(value, options);
	}
	if (reading->try)
		try_options(table, options);
}

/** The offset in an error of the address parser, whose place is `column N of "text"`. */
static size_t error_offset(const struct cp_error *error)
{
	size_t column;
	return sscanf(error->where, "column %zu of", &column) == 1 && column > 0 ? column - 1 : 0;
}

/** The address that a table of options is for: of a tcp socket, and nothing more. @return NULL after an error */
static const struct cp_address *read_address(const struct reading *reading, struct cp_arena *arena,
											 const struct cp_settings *table)
{
	const char *text = cp_settings_key(table), *more = NULL;
	const struct cp_address *address;
	struct cp_error error;
	if (cp_address_parse(cp_system_scope(reading->core), arena, text, strlen(text), 0, &address, &error) != CP_OK) {
		cp_settings_error_key(table, error_offset(&error), "%s", error.message);
		return NULL;
	}
	if (address->connector->def != &tcp_connector || address->connector->system != reading->core) {
		cp_settings_error_key(table, 0, "expected the address of a tcp socket, found one of the connector \"%s\"",
							  address->alias);
		return NULL;
	}
	if (address->layer_count > 0)
		more = "its converters";
	else if (cp_address_multiplex(address, NULL))
		more = "a subport";
	if (!more)
		return address;
	cp_settings_error_key(table, 0, "expected the address of a tcp socket without %s: all on one socket share it",
						  more);
	return NULL;
}

static void read_entry(const struct reading *reading, struct tcp_settings *settings, const struct cp_settings *table)
{
	struct tcp_options options;
	memcpy(&options, &settings->all, sizeof(options));
	if (!cp_settings_want(table, CP_SETTINGS_TABLE))
		return;
	const struct cp_address *address = read_address(reading, settings->arena, table);
	read_options(reading, table, &options);
	cp_settings_finish(table);
	if (!address)
		return;
	struct entry *entry = find_slot(settings, address);
	if (entry->host) {
		cp_settings_error_key(table, 0, "the same socket as the key at %s", cp_settings_where_key(entry->setting));
		return;
	}
	const struct cp_value *host = &address->fields.at[TCP_ADDR].value;
	*entry = (struct entry){.host = host->as.s,
							.host_length = host->length,
							.port = (uint16_t)address->fields.at[TCP_PORT].value.as.u,
							.is_default = is_default(&options),
							.setting = table};
	memcpy(&entry->options, &options, sizeof(options));
	settings->count++;
}

static void read_entries(const struct reading *reading, struct tcp_settings *settings, const struct cp_settings *table)
{
	size_t count = cp_settings_count(table), room = 4;
	while (room < 2 * count)
		room *= 2;
	settings->slots = cp_arena_alloc(settings->arena, room * sizeof(*settings->slots));
	memset(settings->slots, 0, room * sizeof(*settings->slots));
	settings->mask = (uint32_t)(room - 1);
	for (size_t i = 0; i < count; i++)
		read_entry(reading, settings, cp_settings_at(table, i));
}

struct tcp_settings *tcp_settings_read(struct cp_system *core, const struct cp_settings *table)
{
	if (!table)
		return NULL;
	struct reading reading = {.core = core, .try = !cp_system_checking(core)};
	struct cp_arena *arena = cp_arena_new(ARENA_FIRST);
	struct tcp_settings *settings = cp_arena_alloc(arena, sizeof(*settings));
	memset(settings, 0, sizeof(*settings));
	settings->arena = arena;
	read_options(&reading, table, &settings->all);
	settings->all_default = is_default(&settings->all);
	const struct cp_settings *entries = cp_settings_get(table, "address");
	if (entries && cp_settings_want(entries, CP_SETTINGS_TABLE))
		read_entries(&reading, settings, entries);
	if (settings->count > 0 || !settings->all_default)
		return settings;
	tcp_settings_free(settings);
	return NULL;
}

void tcp_settings_free(struct tcp_settings *settings)
{
	if (settings)
		cp_arena_free(settings->arena);
}
