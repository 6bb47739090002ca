#include "listen.h"

#include "call.h"
#include "convert.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- What the script says ----------------------------------------------------------------------------------- */

static bool is_fields(lua_State *L, int index)
{
	if (!lua_istable(L, index))
		return false;
	lua_pushliteral(L, "connector");
	lua_rawget(L, index);
	bool has = !lua_isnil(L, -1);
	lua_pop(L, 1);
	return has;
}

/** One address, at `index`. */
static int take_target(struct lua_listener *l, lua_State *L, int index, struct cp_error *error)
{
	const struct cp_scope *scope = cp_system_scope(l->declared->script->system);
	if (l->count == LISTEN_MOST)
		return cp_error_set(error, CP_EINVAL, NULL, "bind returned more than %d addresses", LISTEN_MOST);
	int result = convert_address(L, index, scope, l->arena, &l->targets[l->count], error);
	if (result == CP_OK)
		l->count++;
	else if (error->where[0])
		cp_error_set(error, CP_EINVAL, NULL, "bind returned an address that is none: %s: %s", error->where,
					 error->message);
	return result;
}

static int take_targets(struct lua_listener *l, lua_State *L, int index, struct cp_error *error)
{
	if (lua_type(L, index) == LUA_TSTRING || is_fields(L, index))
		return take_target(l, L, index, error);
	if (!lua_istable(L, index) || lua_objlen(L, index) == 0)
		return cp_error_set(error, CP_EINVAL, NULL, "bind returned no address, and no list of addresses");
	int result = CP_OK;
	for (int i = 1; i <= (int)lua_objlen(L, index) && result == CP_OK; i++) {
		lua_rawgeti(L, index, i);
		result = take_target(l, L, lua_gettop(L), error);
		lua_pop(L, 1);
	}
	return result;
}

/** Ask bind(address). */
static int ask(struct lua_listener *l, const struct cp_address *address, struct cp_error *error)
{
	struct vm *vm = vm_here(l->declared->script);
	struct call call;
	if (!vm)
		return cp_error_set(error, CP_EINVAL, NULL, "the script %s does not run here", l->declared->script->chunk);
	call_begin(&call, vm, vm->handlers[l->declared->index].bind);
	convert_push_address(call.L, address);
	int result = call_run(&call, 1, error);
	if (result != CP_OK) {
		cp_error_set(error, CP_EINVAL, NULL, "%s: %s", vm->failed_at, vm->failure);
	} else if (call.count == 0 || !lua_toboolean(call.L, call.first)) {
		const char *reason = call.count > 1 ? lua_tostring(call.L, call.first + 1) : NULL;
		result =
			cp_error_set(error, CP_EINVAL, NULL, "%s", reason ? reason : "bind returned no address, and no reason");
	} else {
		result = take_targets(l, call.L, call.first, error);
	}
	call_end(&call);
	return result;
}

/* ---- Whether it can be bound -------------------------------------------------------------------------------- */

static int check_target(const struct lua_listener *l, uint32_t index, struct cp_error *error)
{
	const struct cp_address *target = l->targets[index];
	const struct cp_connector_def *def = target->connector->def;
	bool wanted = l->declared->def.connector.flags & CP_CONNECTOR_MESSAGES, messages, any;
	if (!def->bind)
		return cp_error_set(error, CP_EINVAL, NULL, "bind returned an address of \"%s\", which cannot be bound",
							target->alias);
	if (target->connector == l->base.connector)
		return cp_error_set(error, CP_EINVAL, NULL, "bind returned an address of its own connector");
	if (target->layer_count)
		return cp_error_set(error, CP_EINVAL, NULL,
							"bind returned an address with converters; they stand before the address that is routed");
	if (cp_connector_has_handshake(target->connector))
		return cp_error_set(error, CP_EINVAL, NULL,
							"bind returned an address of \"%s\", which is more than a socket: return that of the socket, "
							"and put a converter before the address that is routed",
							target->alias);
	if (def->check_bind && def->check_bind(target->connector, target, error) != CP_OK)
		return CP_EINVAL;
	int result = cp_address_carries(target, &messages, &any, error);
	if (result == CP_OK && !l->declared->accepts && !any && messages != wanted)
		return cp_error_set(error, CP_EINVAL, NULL, "bind returned an address of %s, but the connector carries %s",
							messages ? "messages" : "bytes", wanted ? "messages" : "bytes");
	return result;
}

static char *print(const struct cp_address *address)
{
	size_t length = cp_address_print(address, NULL, 0);
	char *text = malloc(length + 1);
	if (!text)
		abort();
	cp_address_print(address, text, length + 1);
	return text;
}

/** One address twice would share its socket with itself. */
static int check_once(const struct lua_listener *l, uint32_t index, struct cp_error *error)
{
	int result = CP_OK;
	char *text = print(l->targets[index]);
	for (uint32_t i = 0; i < index && result == CP_OK; i++) {
		char *other = print(l->targets[i]);
		if (strcmp(text, other) == 0)
			result = cp_error_set(error, CP_EINVAL, NULL, "bind returned %s twice", text);
		free(other);
	}
	free(text);
	return result;
}

static void free_listener(struct lua_listener *l)
{
	cp_arena_free(l->arena);
	free(l->text);
	free(l);
}

static const struct cp_listener_ops listener_ops;

/** The address is copied: the listener outlives who asks for it. @return NULL with `error` filled */
static struct lua_listener *make(struct cp_connector *connector, const struct cp_address *address,
								 struct cp_error *error)
{
	struct lua_listener *l = calloc(1, sizeof(*l));
	if (!l)
		abort();
	l->base = (struct cp_listener){.ops = &listener_ops, .connector = connector};
	l->declared = connector->arg;
	l->arena = cp_arena_new(0);
	l->text = print(address);
	const struct cp_scope *scope = cp_system_scope(l->declared->script->system);
	int result = cp_address_parse(scope, l->arena, l->text, strlen(l->text), 0, &l->address, error);
	if (result == CP_OK)
		result = ask(l, address, error);
	for (uint32_t i = 0; i < l->count && result == CP_OK; i++) {
		result = check_target(l, i, error);
		if (result == CP_OK)
			result = check_once(l, i, error);
	}
	if (result == CP_OK)
		return l;
	error->code = (enum cp_err)result;
	free_listener(l);
	return NULL;
}

int listen_check_bind(struct cp_connector *connector, const struct cp_address *address, struct cp_error *error)
{
	struct lua_listener *l = make(connector, address, error);
	if (!l)
		return error->code;
	free_listener(l);
	return CP_OK;
}

/* ---- Binding ------------------------------------------------------------------------------------------------ */

static void listener_unbind(struct cp_listener *base)
{
	struct lua_listener *l = (struct lua_listener *)base;
	for (uint32_t i = 0; i < l->count; i++)
		if (l->bounds[i])
			bound_put(l->bounds[i], l->targets[i]->connector);
	free_listener(l);
}

/** Loads of one system share what they bind for the same address. */
static struct bound *bind_target(const struct lua_listener *l, uint32_t index, uint32_t workers, struct cp_error *error)
{
	char *key, *text = print(l->targets[index]);
	if (asprintf(&key, "%s %s %s", l->declared->script->id, l->text, text) < 0)
		abort();
	struct bound *bound = bound_get(key, l->targets[index], workers, error);
	free(key);
	free(text);
	return bound;
}

int listen_bind(struct cp_connector *connector, const struct cp_address *address, uint32_t workers,
				struct cp_listener **out, struct cp_error *error)
{
	struct lua_listener *l = make(connector, address, error);
	if (!l)
		return error->code;
	for (uint32_t i = 0; i < l->count; i++) {
		l->bounds[i] = bind_target(l, i, workers, error);
		if (l->bounds[i])
			continue;
		listener_unbind(&l->base);
		return error->code;
	}
	*out = &l->base;
	return CP_OK;
}

/** The sockets are found again by their key (bound.h), so those that are handed over are only in the way. */
int listen_adopt(struct cp_connector *connector, const struct cp_address *address, uint32_t workers, const int *fds,
				 uint32_t count, struct cp_listener **out, struct cp_error *error)
{
	for (uint32_t i = 0; i < count; i++)
		close(fds[i]);
	return listen_bind(connector, address, workers, out, error);
}

/** Stands for the sockets: a later load is asked to adopt only where there is something to hand over. */
static uint32_t listener_sockets(const struct cp_listener *base, int *fds, uint32_t room)
{
	(void)base;
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	if (room > 0)
		fds[0] = fd;
	else
		close(fd);
	return 1;
}

/** What is bound in truth; several have ", " between them. */
static size_t listener_name(const struct cp_listener *base, char *buffer, size_t room)
{
	const struct lua_listener *l = (const struct lua_listener *)base;
	size_t length = 0;
	for (uint32_t i = 0; i < l->count; i++) {
		bool fits = length < room;
		length += (size_t)snprintf(fits ? buffer + length : NULL, fits ? room - length : 0, "%s", i ? ", " : "");
		fits = length < room;
		length += bound_name(l->bounds[i], fits ? buffer + length : NULL, fits ? room - length : 0);
	}
	return length;
}

static const struct cp_listener_ops listener_ops = {
	.size = sizeof(struct cp_listener_ops),
	.open = accept_open,
	.accept = accept_take,
	.pause = accept_pause,
	.resume = accept_resume,
	.close = accept_close,
	.unbind = listener_unbind,
	.name = listener_name,
	.sockets = listener_sockets,
};
