/* Finding the route for an address.
 *
 * Two hash tables. The first finds the door: what the keys of one socket share. A door points to the keys that most
 * sockets have one of each (no subport, any subport); those that have a path or a name are in the second table, keyed
 * by door, path and name.
 *
 * With a million keys the time goes into cache misses that wait for each other, so those are few. Among a million names
 * on one socket they are two, the slot and the route. Among a million sockets they are the slot and the door; the route
 * behind the door is fetched together with it, for a door begins a cache line, and its first route is in the next one.
 *
 * The hash need not withstand an attacker: what is looked up comes from the network, but what is stored comes from the
 * configuration, so nobody outside can make chains longer. */
#include "parts.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* ---- Hashing ------------------------------------------------------------------------------------------------ */

#define HASH_FACTOR UINT64_C(0x9e3779b97f4a7c15) /* odd, 2^64 divided by the golden ratio */

static uint64_t hash_word(uint64_t hash, uint64_t word)
{
	hash = (hash ^ word) * HASH_FACTOR;
	return hash ^ (hash >> 32);
}

static uint64_t hash_bytes(uint64_t hash, const char *bytes, size_t length)
{
	uint64_t word;
	size_t left = length;
	for (; left >= sizeof(word); left -= sizeof(word), bytes += sizeof(word)) {
		memcpy(&word, bytes, sizeof(word));
		hash = hash_word(hash, word);
	}
	word = 0;
	memcpy(&word, bytes, left);
	return hash_word(hash_word(hash, word), length);
}

/* ---- Memory ------------------------------------------------------------------------------------------------- */

enum { HUGE_PAGE = 2 << 20, BLOCK_MIN = 4096, BLOCK_MAX = 32 << 20, ALIGNMENT = 8, CACHE_LINE = 64 };

static size_t round_up(size_t bytes, size_t unit)
{
	return (bytes + unit - 1) & ~(unit - 1);
}

/** Zeroed memory that takes no pages before it is touched. Where there is much of it, it is in huge pages: with small
 * ones each cache miss of a look-up would come with one of the page tables. The allocator's own memory is not aligned
 * for that, and some of it may have been touched. @return NULL if there is none */
static void *memory_new(size_t bytes)
{
	if (bytes < HUGE_PAGE)
		return calloc(1, bytes);
	bytes = round_up(bytes, HUGE_PAGE);
	char *at = mmap(NULL, bytes + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED)
		return NULL;
	size_t before = -(uintptr_t)at & (HUGE_PAGE - 1);
	if (before)
		munmap(at, before);
	munmap(at + before + bytes, HUGE_PAGE - before);
	(void)madvise(at + before, bytes, MADV_HUGEPAGE); /* no harm where there are none */
	return at + before;
}

static void memory_free(void *at, size_t bytes)
{
	if (bytes < HUGE_PAGE)
		free(at);
	else if (at)
		munmap(at, round_up(bytes, HUGE_PAGE));
}

struct block {
	struct block *next;
	size_t size; /* of all */
	char bytes[];
};

/** Begin a cache line. */
static void store_align(struct store *store)
{
	if (!store->at)
		return; /* nothing is begun yet, and NULL + 0 is undefined */
	size_t rest = -(uintptr_t)store->at & (CACHE_LINE - 1);
	rest = rest < store->left ? rest : store->left;
	store->at += rest;
	store->left -= rest;
}

static bool store_grow(struct store *store, size_t bytes)
{
	size_t size = sizeof(struct block) + bytes;
	if (size < store->block_size)
		size = store->block_size;
	struct block *block = memory_new(size);
	if (!block)
		return false;
	block->next = store->blocks;
	block->size = size;
	store->blocks = block;
	store->at = block->bytes;
	store->left = size - sizeof(*block);
	return true;
}

/** Doors and routes lie close together, away from what is not needed for finding them. */
static void *store_alloc(struct store *store, struct cp_arena *arena, size_t bytes)
{
	bytes = round_up(bytes, ALIGNMENT);
	/* What fits into one cache line does not begin at the end of another. */
	if ((-(uintptr_t)store->at & (CACHE_LINE - 1)) < bytes && bytes <= CACHE_LINE)
		store_align(store);
	if (store->left < bytes && !store_grow(store, bytes))
		return cp_arena_alloc(arena, bytes); /* slower, or the end */
	void *at = store->at;
	store->at += bytes;
	store->left -= bytes;
	return at;
}

static void store_init(struct store *store, size_t count)
{
	size_t size = count * 2 * sizeof(struct route);
	*store = (struct store){.block_size = size < BLOCK_MIN ? BLOCK_MIN : size > BLOCK_MAX ? BLOCK_MAX : size};
}

static void store_deinit(struct store *store)
{
	while (store->blocks) {
		struct block *block = store->blocks;
		store->blocks = block->next;
		memory_free(block, block->size);
	}
}

static int slots_init(struct slots *slots, size_t count)
{
	size_t room = 8;
	while (room < count + count / 2)
		room *= 2;
	slots->at = memory_new(room * sizeof(*slots->at));
	slots->mask = room - 1;
	return slots->at ? CP_OK : CP_ENOMEM;
}

static void slots_deinit(struct slots *slots)
{
	memory_free(slots->at, (slots->mask + 1) * sizeof(*slots->at));
}

static void slots_add(struct slots *slots, uint64_t hash, void *entry)
{
	size_t i = hash & slots->mask;
	while (slots->at[i].entry)
		i = (i + 1) & slots->mask;
	slots->at[i] = (struct slot){.hash = hash, .entry = entry};
}

/* ---- Questions: the parts of an address that matter --------------------------------------------------------- */

struct text {
	const char *at; /* NULL: none */
	size_t length;
};

struct question {
	const struct cp_address *address;
	const struct cp_value *host; /* NULL: the connector has none */
	struct text path, name;
};

static struct text text_of(const struct cp_value *value)
{
	return value->kind == CP_STRING ? (struct text){value->as.s, value->length} : (struct text){NULL, 0};
}

static struct question question_of(const struct cp_address *address)
{
	const struct cp_connector_def *def = address->connector->def;
	struct question question = {.address = address};
	for (uint32_t i = 0; i < address->fields.count; i++) {
		const struct cp_value *value = &address->fields.at[i].value;
		switch (def->fields[i].role) {
		case CP_ROLE_HOST:
			question.host = value;
			break;
		case CP_ROLE_PATH:
			question.path = text_of(value);
			break;
		case CP_ROLE_MULTIPLEX:
			question.name = text_of(value);
			break;
		case CP_ROLE_PORT:
		case CP_ROLE_OTHER:
			break;
		}
	}
	return question;
}

/** The next field that says which socket, from `*i` on; the question's host stands for the address's. */
static const struct cp_value *next_field(const struct question *question, uint32_t *i)
{
	const struct cp_address *address = question->address;
	for (; *i < address->fields.count; (*i)++) {
		enum cp_field_role role = address->connector->def->fields[*i].role;
		if (role == CP_ROLE_PATH || role == CP_ROLE_MULTIPLEX)
			continue;
		const struct cp_value *value = &address->fields.at[(*i)++].value;
		return role == CP_ROLE_HOST ? question->host : value;
	}
	return NULL;
}

/* ---- Doors -------------------------------------------------------------------------------------------------- */

/** Fields of one connector have the same kinds at the same places, so that a field is its length, or NONE for null,
 * and its bytes; the length alone tells every other difference. */
#define NONE UINT32_MAX

static uint32_t field_bytes(const struct cp_value *value, const void **bytes)
{
	*bytes = value->kind == CP_STRING ? (const void *)value->as.s : &value->as;
	if (value->kind == CP_NULL)
		return NONE;
	if (value->kind == CP_STRING)
		return value->length;
	return value->kind == CP_BOOL ? sizeof(value->as.b) : sizeof(value->as.u);
}

static uint64_t door_hash(const struct question *question)
{
	uint64_t hash = hash_word(0, (uintptr_t)question->address->connector);
	const struct cp_value *value;
	for (uint32_t i = 0; (value = next_field(question, &i));) {
		const void *bytes;
		uint32_t length = field_bytes(value, &bytes);
		hash = length == NONE ? hash_word(hash, NONE) : hash_bytes(hash, bytes, length);
	}
	return hash;
}

static bool door_is(const struct door *door, const struct question *question)
{
	const struct cp_address *address = question->address;
	if (door->connector != address->connector)
		return false;
	if (door->alias != address->alias && strcmp(door->alias, address->alias) != 0)
		return false;
	const struct cp_value *value;
	const char *at = door->text;
	for (uint32_t i = 0; (value = next_field(question, &i));) {
		const void *bytes;
		uint32_t length = field_bytes(value, &bytes);
		if (memcmp(at, &length, sizeof(length)) != 0)
			return false;
		at += sizeof(length);
		if (length == NONE)
			continue;
		if (memcmp(at, bytes, length) != 0)
			return false;
		at += length;
	}
	return true;
}

static struct door *door_find(const struct keys *keys, const struct question *question)
{
	uint64_t hash = door_hash(question);
	for (size_t i = hash & keys->doors.mask; keys->doors.at[i].entry; i = (i + 1) & keys->doors.mask) {
		struct door *door = keys->doors.at[i].entry;
		if (keys->doors.at[i].hash != hash)
			continue;
		__builtin_prefetch((const char *)door + CACHE_LINE); /* its first route, as a rule */
		if (door_is(door, question))
			return door;
	}
	return NULL;
}

static size_t door_text_length(const struct question *question)
{
	size_t length = 0;
	const struct cp_value *value;
	for (uint32_t i = 0; (value = next_field(question, &i));) {
		const void *bytes;
		uint32_t own = field_bytes(value, &bytes);
		length += sizeof(own) + (own == NONE ? 0 : own);
	}
	return length;
}

static struct door *door_add(struct keys *keys, struct cp_arena *arena, const struct question *question)
{
	uint64_t hash = door_hash(question);
	size_t length = door_text_length(question);
	store_align(&keys->store);
	struct door *door = store_alloc(&keys->store, arena, sizeof(*door) + length);
	*door = (struct door){
		.connector = question->address->connector,
		.alias = question->address->alias,
		.address = question->address,
	};
	const struct cp_value *value;
	char *at = door->text;
	for (uint32_t i = 0; (value = next_field(question, &i));) {
		const void *bytes;
		uint32_t own = field_bytes(value, &bytes);
		memcpy(at, &own, sizeof(own));
		at += sizeof(own);
		if (own == NONE)
			continue;
		memcpy(at, bytes, own);
		at += own;
	}
	slots_add(&keys->doors, hash, door);
	return door;
}

/* ---- Routes of a door
 * ------------------------------------------------------------------------------------ */

static uint64_t route_hash(const struct door *door, struct text path, enum subport subport, struct text name)
{
	uint64_t hash = hash_word(subport, (uintptr_t)door);
	if (path.at)
		hash = hash_bytes(hash, path.at, path.length);
	return subport == SUBPORT_NAMED ? hash_bytes(hash, name.at, name.length) : hash;
}

static bool route_is(const struct route *route, const struct door *door, struct text path, enum subport subport,
					 struct text name)
{
	if (route->door != door || route->subport != subport || route->any_path != !path.at)
		return false;
	if (route->path_length != path.length || route->name_length != (subport == SUBPORT_NAMED ? name.length : 0))
		return false;
	return memcmp(route->text, path.at ? path.at : "", path.length) == 0 &&
		   memcmp(route->text + path.length, name.at ? name.at : "", route->name_length) == 0;
}

static const struct route *route_get(const struct keys *keys, const struct door *door, struct text path,
									 enum subport subport, struct text name)
{
	if (!path.at && subport == SUBPORT_NONE)
		return door->plain;
	if (!path.at && subport == SUBPORT_ANY)
		return door->any;
	uint64_t hash = route_hash(door, path, subport, name);
	for (size_t i = hash & keys->routes.mask; keys->routes.at[i].entry; i = (i + 1) & keys->routes.mask) {
		const struct slot *slot = &keys->routes.at[i];
		if (slot->hash == hash && route_is(slot->entry, door, path, subport, name))
			return slot->entry;
	}
	return NULL;
}

static const struct route *route_find(const struct keys *keys, const struct door *door, struct text path,
									  struct text name)
{
	if (!name.at)
		return route_get(keys, door, path, SUBPORT_NONE, name);
	const struct route *route = door->names ? route_get(keys, door, path, SUBPORT_NAMED, name) : NULL;
	return route ? route : route_get(keys, door, path, SUBPORT_ANY, name);
}

static struct route *route_new(struct keys *keys, struct cp_arena *arena, const struct door *door, struct text path,
							   enum subport subport, struct text name)
{
	size_t named = subport == SUBPORT_NAMED ? name.length : 0;
	struct route *route = store_alloc(&keys->store, arena, sizeof(*route) + path.length + named);
	*route = (struct route){
		.door = door,
		.subport = (uint8_t)subport,
		.any_path = !path.at,
		.path_length = (uint32_t)path.length,
		.name_length = (uint32_t)named,
	};
	if (path.at)
		memcpy(route->text, path.at, path.length);
	if (named)
		memcpy(route->text + path.length, name.at, named);
	return route;
}

static void route_keep(struct keys *keys, struct door *door, struct route *route, uint64_t hash)
{
	door->paths |= !route->any_path;
	door->names |= route->subport == SUBPORT_NAMED;
	if (route->any_path && route->subport == SUBPORT_NONE)
		door->plain = route;
	else if (route->any_path && route->subport == SUBPORT_ANY)
		door->any = route;
	else
		slots_add(&keys->routes, hash, route);
}

/* ---- All together
 * ---------------------------------------------------------------------------------------- */

int table_keys_init(struct keys *keys, size_t count)
{
	store_init(&keys->store, count);
	if (slots_init(&keys->doors, count) != CP_OK)
		return CP_ENOMEM;
	return slots_init(&keys->routes, count);
}

void table_keys_deinit(struct keys *keys)
{
	store_deinit(&keys->store);
	slots_deinit(&keys->doors);
	slots_deinit(&keys->routes);
	*keys = (struct keys){0};
}

static enum subport subport_of(struct text name)
{
	if (!name.at)
		return SUBPORT_NONE;
	return name.length == 1 && name.at[0] == '*' ? SUBPORT_ANY : SUBPORT_NAMED;
}

int table_keys_add(struct keys *keys, struct cp_arena *arena, const struct cp_address *address, struct route **out)
{
	struct question question = question_of(address);
	enum subport subport = subport_of(question.name);
	struct door *door = door_find(keys, &question);
	if (!door)
		door = door_add(keys, arena, &question);
	const struct route *there = route_get(keys, door, question.path, subport, question.name);
	if (there) {
		*out = (struct route *)there;
		return CP_EEXIST;
	}
	*out = route_new(keys, arena, door, question.path, subport, question.name);
	route_keep(keys, door, *out, route_hash(door, question.path, subport, question.name));
	return CP_OK;
}

/** The door of the wildcard host that takes in the question's host; NULL if that is a name. */
static const struct door *door_find_wildcard(const struct keys *keys, const struct question *question)
{
	struct cp_ip ip;
	if (!question->host || question->host->kind != CP_STRING ||
		!cp_ip_parse(question->host->as.s, question->host->length, &ip))
		return NULL;
	struct cp_value host = ip.family == 4 ? cp_string("0.0.0.0", 7) : cp_string("::", 2);
	struct question wide = *question;
	wide.host = &host;
	return door_find(keys, &wide);
}

const struct route *table_keys_find(const struct keys *keys, const struct cp_address *address)
{
	if (!keys->doors.at)
		return NULL; /* a table without routes, or one that could not be read */
	struct question question = question_of(address);
	const struct door *door = door_find(keys, &question);
	if (!door)
		door = door_find_wildcard(keys, &question);
	if (!door)
		return NULL;
	const struct route *route = NULL;
	if (question.path.at && door->paths)
		route = route_find(keys, door, question.path, question.name);
	return route ? route : route_find(keys, door, (struct text){NULL, 0}, question.name);
}

bool table_keys_exact(const struct route *route, const struct cp_address *address)
{
	struct question question = question_of(address);
	return door_is(route->door, &question) &&
		   route_is(route, route->door, question.path, subport_of(question.name), question.name);
}

/* ---- Printing
 * -------------------------------------------------------------------------------------------- */

bool table_keys_has_layers(const struct cp_address *address)
{
	return address->layer_count || cp_connector_has_handshake(address->connector);
}

const char *table_keys_address_text(const struct cp_address *address, struct cp_arena *arena)
{
	size_t length = cp_address_print(address, NULL, 0);
	char *text = cp_arena_alloc(arena, length + 1);
	cp_address_print(address, text, length + 1);
	return text;
}

static struct cp_value part_value(const char *text, size_t length, bool there)
{
	return there ? cp_string(text, length) : cp_null();
}

const char *table_keys_print(const struct route *route, struct cp_arena *arena)
{
	struct cp_address key = *route->door->address;
	struct cp_field *fields = cp_arena_alloc(arena, key.fields.count * sizeof(*fields));
	memcpy(fields, key.fields.at, key.fields.count * sizeof(*fields));
	key.fields.at = fields;
	const char *name = route->text + route->path_length;
	for (uint32_t i = 0; i < key.fields.count; i++) {
		enum cp_field_role role = key.connector->def->fields[i].role;
		if (role == CP_ROLE_PATH)
			fields[i].value = part_value(route->text, route->path_length, !route->any_path);
		else if (role != CP_ROLE_MULTIPLEX)
			continue;
		else if (route->subport == SUBPORT_ANY)
			fields[i].value = part_value("*", 1, true);
		else
			fields[i].value = part_value(name, route->name_length, route->subport == SUBPORT_NAMED);
	}
	return table_keys_address_text(&key, arena);
}
