/* Options of sockets: reading a connector's table, finding the options of an address. See socket_settings.h. */
#include "socket_settings.h"

#include <connpipe/system.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	ARENA_FIRST = 1024,
	FIELD_ADDR = TCP_ADDR, /* of every connector that uses this */
	FIELD_PORT = TCP_PORT,
};

/** The options of one address. */
struct entry {
	const char *host; /* NULL: the slot is empty */
	uint32_t host_length;
	uint16_t port;
	bool is_default;                   /* what is set for all was taken back here */
	const struct cp_settings *setting; /* only while reading */
	void *options;
};

struct socket_settings {
	struct cp_arena *arena; /* holds this, too */
	void *all;              /* addresses without an entry */
	bool all_default;
	uint32_t count, mask;
	struct entry *slots; /* open addressing: `mask` + 1 of them, at most half are taken */
};

/** One reading of the table. */
struct reading {
	const struct socket_settings_def *def;
	struct cp_system *core;
	bool try;
};

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
static struct entry *find_slot(const struct socket_settings *settings, const struct cp_address *address)
{
	const struct cp_value *host = &address->fields.at[FIELD_ADDR].value;
	uint16_t port = (uint16_t)address->fields.at[FIELD_PORT].value.as.u;
	for (uint32_t at = hash_of(host->as.s, host->length, port);; at++) {
		struct entry *entry = &settings->slots[at & settings->mask];
		if (!entry->host || (entry->port == port && entry->host_length == host->length &&
							 memcmp(entry->host, host->as.s, host->length) == 0))
			return entry;
	}
}

const void *socket_settings_find(const struct socket_settings *settings, const struct cp_address *address)
{
	if (!settings)
		return NULL;
	const struct entry *entry = settings->count ? find_slot(settings, address) : NULL;
	if (entry && entry->host)
		return entry->is_default ? NULL : entry->options;
	return settings->all_default ? NULL : settings->all;
}

/* ---- Values ------------------------------------------------------------------------------------------------- */

bool settings_is_text(const struct cp_settings *value, const char *text)
{
	const char *found;
	size_t length;
	return cp_settings_kind(value) == CP_SETTINGS_STRING && cp_settings_string(value, &found, &length) &&
		   length == strlen(text) && memcmp(found, text, length) == 0;
}

const char *settings_kind_text(const struct cp_settings *value)
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

bool settings_read_duration(const struct cp_settings *value, uint64_t unit, uint64_t most, const char *expected,
							int *number)
{
	uint64_t milliseconds;
	if (settings_is_text(value, "off")) {
		*number = 0;
		return true;
	}
	if (cp_settings_kind(value) != CP_SETTINGS_STRING) {
		cp_settings_error(value, "expected %s, found %s", expected, settings_kind_text(value));
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

void settings_read_number(const struct cp_settings *value, const char *word, int64_t least, int64_t most, int *number)
{
	int64_t found;
	if (settings_is_text(value, word))
		*number = 0;
	else if (cp_settings_kind(value) != CP_SETTINGS_INTEGER)
		cp_settings_error(value, "expected \"%s\" or an integer from %" PRId64 " to %" PRId64 ", found %s", word, least,
						  most, settings_kind_text(value));
	else if (cp_settings_integer(value, least, most, &found))
		*number = (int)found;
}

void settings_read_mark(const struct cp_settings *value, int *mark)
{
	int64_t found;
	if (cp_settings_integer(value, 0, UINT32_MAX, &found))
		*mark = (int)(uint32_t)found;
}

static void read_one_source(const struct cp_settings *value, struct cp_ip sources[2])
{
	const char *text;
	struct cp_ip ip;
	if (!cp_settings_want(value, CP_SETTINGS_STRING) || !cp_settings_string(value, &text, NULL))
		return;
	struct cp_ip *source = cp_ip_parse(text, strlen(text), &ip) ? &sources[ip.family == 6] : NULL;
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

void settings_read_source(const struct cp_settings *value, struct cp_ip sources[2])
{
	memset(sources, 0, 2 * sizeof(sources[0]));
	if (settings_is_text(value, "default"))
		return;
	if (cp_settings_kind(value) != CP_SETTINGS_ARRAY) {
		read_one_source(value, sources);
		return;
	}
	for (size_t i = 0; i < cp_settings_count(value); i++)
		read_one_source(cp_settings_at(value, i), sources);
}

/* ---- Tables ------------------------------------------------------------------------------------------------- */

static bool is_default(const struct reading *reading, const void *options)
{
	const unsigned char *bytes = options;
	size_t i = 0;
	while (i < reading->def->size && bytes[i] == 0)
		i++;
	return i == reading->def->size;
}

/** Options that begin as `inherited` (NULL: with nothing set). */
static void *options_new(const struct reading *reading, struct cp_arena *arena, const void *inherited)
{
	void *options = cp_arena_alloc(arena, reading->def->size);
	if (inherited)
		memcpy(options, inherited, reading->def->size);
	else
		memset(options, 0, reading->def->size);
	return options;
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
	if (address->connector->def != reading->def->connector || address->connector->system != reading->core) {
		cp_settings_error_key(table, 0, "expected the address of a %s socket, found one of the connector \"%s\"",
							  reading->def->name, address->alias);
		return NULL;
	}
	if (address->layer_count > 0)
		more = "its converters";
	else if (cp_address_multiplex(address, NULL))
		more = "a subport";
	if (!more)
		return address;
	cp_settings_error_key(table, 0, "expected the address of a %s socket without %s: all on one socket share it",
						  reading->def->name, more);
	return NULL;
}

static void read_entry(const struct reading *reading, struct socket_settings *settings, const struct cp_settings *table)
{
	if (!cp_settings_want(table, CP_SETTINGS_TABLE))
		return;
	void *options = options_new(reading, settings->arena, settings->all);
	const struct cp_address *address = read_address(reading, settings->arena, table);
	reading->def->read(table, options, reading->try);
	cp_settings_finish(table);
	if (!address)
		return;
	struct entry *entry = find_slot(settings, address);
	if (entry->host) {
		cp_settings_error_key(table, 0, "the same socket as the key at %s", cp_settings_where_key(entry->setting));
		return;
	}
	const struct cp_value *host = &address->fields.at[FIELD_ADDR].value;
	*entry = (struct entry){.host = host->as.s,
							.host_length = host->length,
							.port = (uint16_t)address->fields.at[FIELD_PORT].value.as.u,
							.is_default = is_default(reading, options),
							.setting = table,
							.options = options};
	settings->count++;
}

static void read_entries(const struct reading *reading, struct socket_settings *settings,
						 const struct cp_settings *table)
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

struct socket_settings *socket_settings_read(const struct socket_settings_def *def, struct cp_system *core,
											 const struct cp_settings *table)
{
	if (!table)
		return NULL;
	struct reading reading = {.def = def, .core = core, .try = !cp_system_checking(core)};
	struct cp_arena *arena = cp_arena_new(ARENA_FIRST);
	struct socket_settings *settings = cp_arena_alloc(arena, sizeof(*settings));
	memset(settings, 0, sizeof(*settings));
	settings->arena = arena;
	settings->all = options_new(&reading, arena, NULL);
	def->read(table, settings->all, reading.try);
	settings->all_default = is_default(&reading, settings->all);
	const struct cp_settings *entries = cp_settings_get(table, "address");
	if (entries && cp_settings_want(entries, CP_SETTINGS_TABLE))
		read_entries(&reading, settings, entries);
	cp_settings_finish(table);
	if (settings->count > 0 || !settings->all_default)
		return settings;
	socket_settings_free(settings);
	return NULL;
}

void socket_settings_free(struct socket_settings *settings)
{
	if (settings)
		cp_arena_free(settings->arena);
}
