/* A router: each client goes to a target chosen by its address, to the same one as long as the list stays; if that one
 * cannot be connected to, to the next. In config.toml:
 *
 *     [sticky]
 *     type    = "dylib"
 *     path    = "dylib/librouter{dylib}"
 *     bind    = "tcp:*4:8080"
 *     targets = ["tcp:10.0.0.1:80", "tcp:10.0.0.2:80"]
 *
 * With `by_name = true` the server name that a TLS client asks for is what chooses, if there is one. */
#include <connpipe/connpipe.h>

#include <stdlib.h>

struct sticky {
	const struct cp_settings *bind, *targets; /* what the table says; valid until loading has ended */
	bool by_name;
	struct cp_router *router;
	struct cp_arena *arena;         /* memory for the addresses: freed all at once */
	const struct cp_address **list; /* `count` parsed targets */
	uint32_t count;
};

static const struct cp_sniff server_name = {.size = sizeof(server_name), .facts = CP_SNIFF_TLS};

static uint32_t hash(const void *bytes, size_t length)
{
	uint32_t sum = 2166136261u; /* FNV-1a */
	for (size_t i = 0; i < length; i++)
		sum = (sum ^ ((const uint8_t *)bytes)[i]) * 16777619u;
	return sum;
}

/** Decide: on every worker at once, so nothing of the router's may be written here. An answer's memory lives as long as
 * the request (its arena) or as the router (until unload). */
static int route(struct cp_router *router, struct cp_request *request, struct cp_answer *answer, struct cp_error *error)
{
	(void)error; /* for a router that fails: its words are logged */
	const struct sticky *sticky = router->arg;
	if (sticky->by_name && !cp_request_sniffed(request, &server_name)) {
		/* The first bytes will tell. They are looked at, not consumed; then this is called again. */
		*answer = (struct cp_answer){.kind = CP_ANSWER_FACTS, .sniff = &server_name};
		return CP_OK;
	}
	const struct cp_peer *peer = cp_request_peer(request);
	const struct cp_value *name = sticky->by_name ? cp_request_fact(request, "sni") : NULL;
	uint32_t first =
		name && name->kind == CP_STRING ? hash(name->as.s, name->length) : hash(peer->ip.bytes, sizeof(peer->ip.bytes));
	const struct cp_address **order = cp_arena_alloc(cp_request_arena(request), sticky->count * sizeof(*order));
	for (uint32_t i = 0; i < sticky->count; i++)
		order[i] = sticky->list[(first + i) % sticky->count];
	cp_request_explain(request, "  client %u of %u", first % sticky->count, sticky->count);
	*answer = (struct cp_answer){.kind = CP_ANSWER_TARGETS, .targets = order, .target_count = sticky->count};
	return CP_OK;
}

static const struct cp_router_def router_def = {.size = sizeof(struct cp_router_def), .route = route};

/** First phase: read the settings, register what is exported. Other systems' names are not there yet. What is reported
 * with cp_settings_error() fails the load at its end, with file, line and column; going on finds more mistakes. */
static int load(struct cp_system *self, const struct cp_settings *settings)
{
	struct sticky *sticky = calloc(1, sizeof(*sticky));
	if (!sticky)
		return CP_ENOMEM;
	cp_system_set_data(self, sticky);
	sticky->arena = cp_arena_new(0);
	sticky->bind = cp_settings_get(settings, "bind");
	sticky->targets = cp_settings_get(settings, "targets");
	cp_settings_get_bool(settings, "by_name", &sticky->by_name);
	if (!sticky->bind || !sticky->targets || cp_settings_count(sticky->targets) == 0)
		cp_settings_error(settings, "expected `bind`, an address, and `targets`, a list of addresses");
	return cp_register_router(self, &router_def, NULL, sticky, &sticky->router);
}

/** An address from a string of the settings, or NULL after an error was reported. */
static const struct cp_address *parse(struct cp_system *self, const struct cp_settings *value)
{
	struct sticky *sticky = cp_system_data(self);
	const struct cp_address *address = NULL;
	struct cp_error error;
	const char *text;
	size_t length;
	if (cp_settings_string(value, &text, &length) &&
		cp_address_parse(cp_system_scope(self), sticky->arena, text, length, 0, &address, &error) != CP_OK)
		cp_settings_error(value, "%s: %s", error.where, error.message);
	return address;
}

/** Second phase: everything is loaded, addresses can be parsed. */
static int link_names(struct cp_system *self)
{
	struct sticky *sticky = cp_system_data(self);
	const struct cp_address *bind = sticky->bind ? parse(self, sticky->bind) : NULL;
	size_t count = sticky->targets ? cp_settings_count(sticky->targets) : 0;
	sticky->list = cp_arena_alloc(sticky->arena, (count + 1) * sizeof(*sticky->list));
	for (size_t i = 0; i < count; i++)
		sticky->list[sticky->count++] = parse(self, cp_settings_at(sticky->targets, i));
	return bind ? cp_router_bind(sticky->router, bind, cp_settings_where(sticky->bind)) : CP_OK;
}

/** The end, also of a load that has failed half-way. */
static void unload(struct cp_system *self)
{
	struct sticky *sticky = cp_system_data(self);
	if (sticky)
		cp_arena_free(sticky->arena);
	free(sticky);
}

static const struct cp_system_def system_def = {
	.abi = CP_ABI_VERSION, .size = sizeof(system_def), .load = load, .link = link_names, .unload = unload};
CP_SYSTEM_EXPORT(system_def)
