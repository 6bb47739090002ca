#include "request.h"

#include "convert.h"

#include <connpipe/sniff.h>

#include <math.h>
#include <string.h>

static const char type_name[] = "connpipe.request";

enum { SERIAL = 1 /* index in the table: whose request it is */, PEEK_MOST = 65536 };

/** The task behind the table at 1: only its own handler has it, and only while it runs. */
static struct task *check_task(lua_State *L)
{
	struct task *task = vm_of(L)->running;
	lua_rawgeti(L, 1, SERIAL);
	lua_Number serial = lua_tonumber(L, -1);
	lua_pop(L, 1);
	if (!task || !(task->request || task->newcomer) || task->serial != serial)
		luaL_error(L, "this request is over: its handler has ended");
	return task;
}

/** The request that the core has. It has none yet of what a connector's `accept` looks at. */
static struct cp_request *check(lua_State *L)
{
	struct task *task = check_task(L);
	if (!task->request)
		luaL_error(L, "a connector's `accept` can neither peek nor add facts: a converter can add them");
	return task->request;
}

static const struct cp_address *address_of(const struct task *task)
{
	return task->request ? cp_request_address(task->request) : task->newcomer->address;
}

static const struct cp_peer *peer_of(const struct task *task)
{
	return task->request ? cp_request_peer(task->request) : &task->newcomer->peer;
}

static struct cp_fields facts_of(const struct task *task)
{
	return task->request ? cp_request_facts(task->request) : (struct cp_fields){0};
}

/** request:peek(n, timeout): waits until n bytes are there, or no more will come.
 * @return the first bytes, n at most; fewer if the client sent fewer in time */
static int peek(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	struct cp_request *request = check(L);
	lua_Integer wanted = luaL_checkinteger(L, 2);
	lua_Number seconds = luaL_optnumber(L, 3, 0);
	size_t length;
	bool end;
	luaL_argcheck(L, wanted >= 0 && wanted <= PEEK_MOST, 2, "0 to 65536 bytes");
	luaL_argcheck(L, seconds >= 0 && seconds < 1e6, 3, "a time in seconds");
	const char *bytes = cp_request_peek(request, &length, &end);
	if (length >= (size_t)wanted || end) {
		lua_pushlstring(L, bytes, length < (size_t)wanted ? length : (size_t)wanted);
		return 1;
	}
	struct task *task = task_of(L);
	if (!task->peeks)
		return luaL_error(L, "only a router's handler can peek");
	task->peek_bytes = (size_t)wanted;
	task->peek_ms = (uint64_t)ceil(seconds * 1000);
	return task_wait(task, NULL, NULL);
}

/* ---- Facts -------------------------------------------------------------------------------------------------- */

#define SNIFF(bits)                                    \
	{                                                  \
		.size = sizeof(struct cp_sniff), .facts = bits \
	}

static const struct cp_sniff of_tls = SNIFF(CP_SNIFF_TLS), of_http = SNIFF(CP_SNIFF_HTTP),
							 of_any = SNIFF(CP_SNIFF_PROTO(CP_PROTO_COUNT) - 1);

/** What tells the facts that the first bytes tell. @return NULL: nothing does */
static const struct cp_sniff *sniff_for(const char *name)
{
	static const struct {
		const char *name;
		const struct cp_sniff *sniff;
	} known[] = {{"proto", &of_any}, {"sni", &of_tls},   {"alpn", &of_tls},
				 {"host", &of_http}, {"path", &of_http}, {"method", &of_http}};
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(known[i].name, name) == 0)
			return known[i].sniff;
	return NULL;
}

/** Likewise, but for a time of the script's own. */
static const struct cp_sniff *within(struct cp_request *request, const struct cp_sniff *sniff, lua_Number seconds)
{
	struct cp_sniff *own = cp_arena_alloc(cp_request_arena(request), sizeof(*own));
	*own = *sniff;
	for (enum cp_protocol protocol = 0; protocol < CP_PROTO_COUNT; protocol++)
		own->timeout_ms[protocol] = (uint64_t)ceil(seconds * 1000);
	return own;
}

/** request:fact(name, timeout): waits until it is settled. @return its value, or nil */
static int fact(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	struct cp_request *request = check(L);
	const char *name = luaL_checkstring(L, 2);
	lua_Number seconds = luaL_optnumber(L, 3, 0);
	luaL_argcheck(L, seconds >= 0 && seconds < 1e6, 3, "a time in seconds");
	const struct cp_value *value = cp_request_fact(request, name), none = cp_null();
	const struct cp_sniff *sniff = sniff_for(name);
	/* A protocol that is null may only be none of those that somebody else asked for. */
	bool settled = value && (value->kind != CP_NULL || sniff != &of_any);
	if (settled || !sniff || cp_request_sniffed(request, sniff)) {
		convert_push(L, value ? value : &none);
		return 1;
	}
	struct task *task = task_of(L);
	if (!task->peeks)
		return luaL_error(L, "only a router's handler can wait for facts");
	task->fact = cp_arena_strdup(cp_request_arena(request), name);
	task->sniff = seconds > 0 ? within(request, sniff, seconds) : sniff;
	return task_wait(task, NULL, NULL);
}

/** request:set_fact(name, value): for converters that learn something, and routers that other routers follow. */
static int set_fact(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	struct cp_request *request = check(L);
	const char *name = luaL_checkstring(L, 2);
	struct cp_value value = cp_null();
	size_t length;
	switch (lua_type(L, 3)) {
	case LUA_TBOOLEAN:
		value = cp_bool(lua_toboolean(L, 3));
		break;
	case LUA_TNUMBER:
		value.kind = CP_F64;
		value.as.f = lua_tonumber(L, 3);
		break;
	case LUA_TSTRING:
		value = cp_string(lua_tolstring(L, 3, &length), 0);
		value.length = (uint32_t)length;
		luaL_argcheck(L, cp_utf8_valid(value.as.s, length), 3, "text in UTF-8");
		break;
	default:
		return luaL_argerror(L, 3, "a text, a number or a boolean");
	}
	cp_request_set_fact(request, name, &value);
	return 0;
}

/** request:set_peer(addr, port): who connected, as a header says. */
static int set_peer(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	struct task *task = check_task(L);
	struct cp_peer peer = {0};
	size_t length;
	const char *addr = luaL_checklstring(L, 2, &length);
	lua_Integer port = luaL_checkinteger(L, 3);
	luaL_argcheck(L, cp_ip_parse(addr, length, &peer.ip), 2, "an IP address");
	luaL_argcheck(L, port >= 0 && port <= UINT16_MAX, 3, "a port");
	peer.port = (uint16_t)port;
	if (task->request)
		cp_request_set_peer(task->request, &peer);
	else
		task->newcomer->peer = peer;
	lua_pushnil(L); /* what was asked for before is not true any more */
	lua_setfield(L, 1, "peer");
	return 0;
}

/** A member that is kept in the table once it was asked for. */
static int keep(lua_State *L)
{
	lua_pushvalue(L, 2);
	lua_pushvalue(L, -2);
	lua_rawset(L, 1);
	return 1;
}

static int member(lua_State *L)
{
	const char *name = luaL_checkstring(L, 2);
	lua_pushvalue(L, 2);
	lua_rawget(L, lua_upvalueindex(1));
	if (!lua_isnil(L, -1))
		return 1;
	const struct task *task = check_task(L);
	if (strcmp(name, "address") == 0) {
		convert_push_address(L, address_of(task));
		return keep(L);
	}
	if (strcmp(name, "peer") == 0) {
		convert_push_peer(L, peer_of(task));
		return keep(L);
	}
	if (strcmp(name, "text") == 0) {
		convert_push_text(L, address_of(task));
		return keep(L);
	}
	if (strcmp(name, "facts") == 0) { /* not kept: later layers may add some */
		convert_push_fields(L, facts_of(task));
		return 1;
	}
	return luaL_error(L, "a request has no `%s`: it has address, text, peer, facts, peek, fact, set_fact, set_peer",
					  name);
}

void request_open(lua_State *L)
{
	static const luaL_Reg methods[] = {
		{"peek", peek}, {"fact", fact}, {"set_fact", set_fact}, {"set_peer", set_peer}, {NULL, NULL}};
	luaL_newmetatable(L, type_name);
	lua_newtable(L);
	luaL_register(L, NULL, methods);
	lua_pushcclosure(L, member, 1);
	lua_setfield(L, -2, "__index");
	lua_pop(L, 1);
}

void request_push(struct task *task)
{
	lua_State *L = task->co;
	if (!task->request && !task->newcomer) {
		lua_pushnil(L);
		return;
	}
	lua_createtable(L, 1, 2);
	lua_pushnumber(L, task->serial);
	lua_rawseti(L, -2, SERIAL);
	luaL_getmetatable(L, type_name);
	lua_setmetatable(L, -2);
}
