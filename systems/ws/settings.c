/* Settings of websockets: tables in [connpipe.ws], and finding the options of an address.
 *
 * An entry is found by the text of its address without path and subport, and by its path. A path goes before none, and
 * an address before what is set for all. */
#include "settings.h"

#include "open.h"

#include <string.h>

enum {
	ARENA_FIRST = 1024,
	LAYERS_MOST = 16,
	SOCKET_ROOM = 1024,
	PING_MS = 30000,
	PONG_MS = 20000,
};

static const struct ws_options defaults = {.ping_ms = PING_MS, .pong_ms = PONG_MS};

/** The options of one address. */
struct entry {
	struct ws_text socket;             /* at NULL: the slot is empty */
	struct ws_text path;               /* at NULL: every one without an entry of its own */
	const struct cp_settings *setting; /* only while reading */
	struct ws_options options;
};

struct ws_settings {
	struct cp_arena *arena; /* holds this, too */
	struct ws_options all;  /* addresses without an entry */
	uint32_t count, mask;
	struct entry *slots; /* open addressing: `mask` + 1 of them, at most half are taken */
};

/* ---- Addresses ---------------------------------------------------------------------------------------------- */

static bool is_ours(const struct cp_layer *layer)
{
	return layer->converter->def == &ws_converter;
}

/** The canonical text of an address without its path, that of ws(/path)+ likewise, and without its subport. `websocket`
 * is another name of `ws`.
 * @param buffer  SOCKET_ROOM bytes  @return its length; 0: it is longer than any that is set */
static size_t print_socket(const struct cp_address *address, char *buffer)
{
	struct cp_layer layers[LAYERS_MOST];
	struct cp_address plain = *address;
	if (plain.layer_count > LAYERS_MOST)
		return 0;
	for (uint32_t i = 0; i < plain.layer_count; i++) {
		layers[i] = address->layers[i];
		if (is_ours(&layers[i]))
			layers[i].argument = NULL;
	}
	plain.layers = layers;
	if (plain.connector->def == &ws_connector && strcmp(plain.alias, "websocket") == 0)
		plain.alias = "ws";
	size_t length = cp_address_print_socket(&plain, true, buffer, SOCKET_ROOM);
	return length < SOCKET_ROOM ? length : 0;
}

/** The path of an address of a websocket as it is written there: of the connector, or of the converter. */
static struct ws_text path_of(const struct cp_address *address)
{
	struct ws_text path = {0};
	for (uint32_t i = 0; i < address->layer_count; i++)
		if (is_ours(&address->layers[i]) && address->layers[i].argument)
			path = (struct ws_text){address->layers[i].argument, strlen(address->layers[i].argument)};
	if (address->connector->def != &ws_connector)
		return path;
	const struct cp_value *field = &address->fields.at[WS_PATH].value;
	return field->kind == CP_STRING ? (struct ws_text){field->as.s, field->length} : path;
}

/* ---- Finding ------------------------------------------------------------------------------------------------ */

/** FNV-1a. What is stored comes from the configuration, so nobody outside can make chains longer. */
static uint32_t hash_on(uint32_t hash, struct ws_text text)
{
	for (size_t i = 0; i < text.length; i++)
		hash = (hash ^ (unsigned char)text.at[i]) * 16777619u;
	return hash;
}

static bool is_same(struct ws_text a, struct ws_text b)
{
	return !a.at == !b.at && a.length == b.length && (a.length == 0 || memcmp(a.at, b.at, a.length) == 0);
}

/** The slot of a socket and a path: its entry, or the empty one where it would be. */
static struct entry *find_slot(const struct ws_settings *settings, struct ws_text socket, struct ws_text path)
{
	for (uint32_t at = hash_on(hash_on(2166136261u, socket), path);; at++) {
		struct entry *entry = &settings->slots[at & settings->mask];
		if (!entry->socket.at || (is_same(entry->socket, socket) && is_same(entry->path, path)))
			return entry;
	}
}

const struct ws_options *ws_settings_find(const struct ws_settings *settings, const struct cp_address *address,
										  const char *path, size_t length)
{
	char buffer[SOCKET_ROOM];
	if (!settings || settings->count == 0)
		return settings ? &settings->all : &defaults;
	struct ws_text socket = {buffer, print_socket(address, buffer)}, none = {0};
	if (socket.length == 0)
		return &settings->all;
	const char *query = path ? memchr(path, '?', length) : NULL;
	const struct entry *entry = NULL;
	if (path)
		entry = find_slot(settings, socket, (struct ws_text){path, query ? (size_t)(query - path) : length});
	if (!entry || !entry->socket.at)
		entry = find_slot(settings, socket, none);
	return entry->socket.at ? &entry->options : &settings->all;
}

/* ---- Tables ------------------------------------------------------------------------------------------------- */

static bool is_websocket(const struct settings_reading *reading, const struct cp_address *address)
{
	for (uint32_t i = 0; i < address->layer_count; i++)
		if (is_ours(&address->layers[i]))
			return true;
	return address->connector->def == &ws_connector && address->connector->system == reading->core;
}

/** What an address has too much to be one that options are for. */
static const char *find_surplus(const struct cp_address *address)
{
	struct ws_text path = path_of(address);
	if (cp_address_multiplex(address, NULL))
		return "a subport: all in one websocket share it";
	return path.at && memchr(path.at, '?', path.length) ? "a query: the path alone says which options" : NULL;
}

/** The address that a table of options is for. @return NULL after an error */
static const struct cp_address *read_address(const struct settings_reading *reading, const struct cp_settings *table)
{
	const char *text = cp_settings_key(table);
	const struct cp_address *address;
	struct cp_error error;
	if (cp_address_parse(cp_system_scope(reading->core), reading->arena, text, strlen(text), 0, &address, &error)) {
		cp_settings_error_key(table, settings_error_offset(&error), "%s", error.message);
		return NULL;
	}
	if (!is_websocket(reading, address)) {
		cp_settings_error_key(
			table, 0,
			"expected the address of a websocket, such as \"ws:*4:80/chat\" or \"ws(/chat)+tcp:*4:80\", "
			"found one of the connector \"%s\"",
			address->alias);
		return NULL;
	}
	const char *surplus = find_surplus(address);
	if (!surplus)
		return address;
	cp_settings_error_key(table, 0, "expected the address of a websocket without %s", surplus);
	return NULL;
}

/** In the way that routers and openings have it. */
static struct ws_text canonical_path(const struct settings_reading *reading, const struct cp_address *address)
{
	struct ws_text path = path_of(address);
	if (!path.at)
		return path;
	char *text = cp_arena_alloc(reading->arena, path.length + 1);
	return (struct ws_text){text, ws_path_read(path.at, path.length, text)};
}

static void add_entry(const struct settings_reading *reading, struct ws_settings *settings,
					  const struct cp_settings *table, const struct cp_address *address,
					  const struct ws_options *options)
{
	char buffer[SOCKET_ROOM];
	size_t length = print_socket(address, buffer);
	if (length == 0) {
		cp_settings_error_key(table, 0, "an address of more than %d bytes or %d converters", SOCKET_ROOM - 1,
							  LAYERS_MOST);
		return;
	}
	struct ws_text socket = {cp_arena_strndup(reading->arena, buffer, length), length};
	struct ws_text path = canonical_path(reading, address);
	struct entry *entry = find_slot(settings, socket, path);
	if (entry->socket.at) {
		cp_settings_error_key(table, 0, "the same address as the key at %s", cp_settings_where_key(entry->setting));
		return;
	}
	*entry = (struct entry){.socket = socket, .path = path, .setting = table, .options = *options};
	settings->count++;
}

static void read_entry(const struct settings_reading *reading, struct ws_settings *settings,
					   const struct cp_settings *table)
{
	struct ws_options options = settings->all;
	if (!cp_settings_want(table, CP_SETTINGS_TABLE))
		return;
	const struct cp_address *address = read_address(reading, table);
	settings_read_options(reading, table, &options);
	cp_settings_finish(table);
	if (address)
		add_entry(reading, settings, table, address, &options);
}

static void read_entries(const struct settings_reading *reading, struct ws_settings *settings,
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

struct ws_settings *ws_settings_read(struct cp_system *core, const struct cp_settings *table)
{
	if (!table)
		return NULL;
	struct cp_arena *arena = cp_arena_new(ARENA_FIRST);
	struct settings_reading reading = {.core = core, .arena = arena};
	struct ws_settings *settings = cp_arena_alloc(arena, sizeof(*settings));
	*settings = (struct ws_settings){.arena = arena, .all = defaults};
	settings_read_options(&reading, table, &settings->all);
	const struct cp_settings *entries = cp_settings_get(table, "address");
	if (entries && cp_settings_want(entries, CP_SETTINGS_TABLE))
		read_entries(&reading, settings, entries);
	cp_settings_finish(table);
	return settings;
}

void ws_settings_free(struct ws_settings *settings)
{
	if (settings)
		cp_arena_free(settings->arena);
}
