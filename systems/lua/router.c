/* Routers in Lua: from the core's question to the handler, and from what it returns to the core's answer.
 *
 *     route ─▶ task ─▶ returned ─────────────────────────────────────▶ answer
 *               │ peeks: CP_ANSWER_BYTES, asks for a fact: CP_ANSWER_FACTS, and route is called again
 *               └ waits for something else: CP_AGAIN, then cp_request_answer */
#include "convert.h"
#include "request.h"
#include "task.h"

#include <string.h>

enum { TARGETS_MOST = 64, TARGETS_KEPT = 1024 };

/* ---- Answers ------------------------------------------------------------------------------------------------ */

/** The address at `index`. Texts that were returned before are not parsed again. */
static int take_target(struct task *task, int index, const struct cp_address **out, struct cp_error *error)
{
	struct vm *vm = task->vm;
	lua_State *L = task->co;
	const struct cp_scope *scope = cp_request_scope(task->request);
	if (lua_type(L, index) != LUA_TSTRING)
		return convert_address(L, index, scope, cp_request_arena(task->request), out, error);
	lua_rawgeti(L, LUA_REGISTRYINDEX, vm->targets);
	lua_pushvalue(L, index);
	lua_rawget(L, -2);
	*out = lua_touserdata(L, -1);
	lua_pop(L, 1);
	int result = CP_OK;
	if (!*out) {
		bool kept = vm->target_count < TARGETS_KEPT;
		struct cp_arena *arena = kept ? vm->arena : cp_request_arena(task->request);
		vm->target_count += kept; /* one that does not parse takes its room as well */
		result = convert_address(L, index, scope, arena, out, error);
		if (kept && result == CP_OK) {
			lua_pushvalue(L, index);
			lua_pushlightuserdata(L, (void *)*out);
			lua_rawset(L, -3);
		}
	}
	lua_pop(L, 1);
	return result;
}

/** `>router` or `>router address`. */
static int take_router(struct task *task, const char *text, struct cp_answer *answer, struct cp_error *error)
{
	struct cp_arena *arena = cp_request_arena(task->request);
	const char *space = strchr(text, ' ');
	answer->kind = CP_ANSWER_ROUTER;
	answer->router =
		space ? cp_arena_strndup(arena, text + 1, (size_t)(space - text) - 1) : cp_arena_strdup(arena, text + 1);
	if (!space)
		return CP_OK;
	while (*space == ' ')
		space++;
	const char *address = cp_arena_strdup(arena, space);
	return cp_address_parse(cp_request_scope(task->request), arena, address, strlen(address), 0, &answer->address,
							error);
}

static int take_list(struct task *task, int index, struct cp_answer *answer, struct cp_error *error)
{
	size_t count = lua_objlen(task->co, index);
	if (count == 0 || count > TARGETS_MOST)
		return cp_error_set(error, CP_EINVAL, NULL, "a list of targets has 1 to %d members; this table has %zu",
							TARGETS_MOST, count);
	const struct cp_address **targets = cp_arena_alloc(cp_request_arena(task->request), count * sizeof(*targets));
	for (size_t i = 0; i < count; i++) {
		lua_rawgeti(task->co, index, (int)i + 1);
		int result = take_target(task, lua_gettop(task->co), &targets[i], error);
		lua_pop(task->co, 1);
		if (result != CP_OK)
			return result;
	}
	answer->kind = CP_ANSWER_TARGETS;
	answer->targets = targets;
	answer->target_count = (uint32_t)count;
	return CP_OK;
}

static int take_one(struct task *task, int index, struct cp_answer *answer, struct cp_error *error)
{
	const struct cp_address **target = cp_arena_alloc(cp_request_arena(task->request), sizeof(*target));
	answer->kind = CP_ANSWER_TARGETS;
	answer->targets = target;
	answer->target_count = 1;
	return take_target(task, index, target, error);
}

static void take_refusal(struct task *task, struct cp_answer *answer)
{
	lua_State *L = task->co;
	const char *reason = lua_gettop(L) >= 2 ? lua_tostring(L, 2) : NULL;
	answer->kind = reason ? CP_ANSWER_REFUSE : CP_ANSWER_NONE;
	answer->reason = reason ? cp_arena_strdup(cp_request_arena(task->request), reason) : NULL;
}

static bool has_connector(lua_State *L, int index)
{
	lua_pushliteral(L, "connector");
	lua_rawget(L, index);
	bool has = !lua_isnil(L, -1);
	lua_pop(L, 1);
	return has;
}

/** What the handler returned, on the coroutine's stack from 1 on. */
static int take_answer(struct task *task, struct cp_answer *answer, struct cp_error *error)
{
	lua_State *L = task->co;
	if (lua_gettop(L) == 0 || !lua_toboolean(L, 1)) {
		take_refusal(task, answer);
		return CP_OK;
	}
	if (lua_type(L, 1) == LUA_TSTRING) {
		const char *text = lua_tostring(L, 1);
		return *text == '>' ? take_router(task, text, answer, error) : take_one(task, 1, answer, error);
	}
	if (lua_type(L, 1) == LUA_TTABLE)
		return has_connector(L, 1) ? take_one(task, 1, answer, error) : take_list(task, 1, answer, error);
	return cp_error_set(error, CP_EINVAL, NULL, "an answer is a text, a table, or nil and a reason; not a %s",
						luaL_typename(L, 1));
}

static int script_failed(struct vm *vm, struct cp_error *error)
{
	cp_log(CP_ERROR, vm->script->id, "%s: %s", vm->failed_at, vm->failure);
	return cp_error_set(error, CP_EINVAL, vm->failed_at, "%s: %s", vm->failed_at, vm->failure);
}

/** The handler waits. @return CP_OK: for something of the client, which the answer says; CP_AGAIN: for something else
 */
static int wait_answer(const struct task *task, struct cp_answer *answer)
{
	if (task->sniff) {
		answer->kind = CP_ANSWER_FACTS;
		answer->sniff = task->sniff;
		return CP_OK;
	}
	if (task->peek_bytes == 0)
		return CP_AGAIN;
	answer->kind = CP_ANSWER_BYTES;
	answer->bytes = task->peek_bytes;
	answer->timeout_ms = task->peek_ms;
	return CP_OK;
}

/** After a run: what the core is told. The task has ended, unless it waits.
 * @return as a router's route(): CP_AGAIN means that the answer comes by on_resumed() */
static int outcome(struct task *task, enum task_state state, struct cp_answer *answer, struct cp_error *error)
{
	struct cp_request *request = task->request;
	int result = CP_OK;
	if (state == TASK_WAITS) {
		cp_request_set_state(request, task);
		return wait_answer(task, answer);
	}
	cp_request_set_state(request, NULL);
	if (state == TASK_DONE)
		result = take_answer(task, answer, error);
	else
		result = script_failed(task->vm, error);
	task_end(task, CP_CAUSE_DONE);
	return result;
}

/* ---- The core's calls --------------------------------------------------------------------------------------- */

/** The handler went on by itself, and has an answer or waits again. */
static void on_resumed(struct task *task, enum task_state state)
{
	struct cp_request *request = task->request;
	struct cp_answer answer = {0};
	struct cp_error error = {0};
	int result = outcome(task, state, &answer, &error);
	if (result == CP_AGAIN)
		return;
	if (result != CP_OK) {
		answer.kind = CP_ANSWER_FAILED;
		answer.reason = cp_arena_strdup(cp_request_arena(request), error.message);
	}
	cp_request_answer(request, &answer);
}

static void push_fact(struct task *task)
{
	const struct cp_value *value = cp_request_fact(task->request, task->fact), none = cp_null();
	convert_push(task->co, value ? value : &none);
	task->sniff = NULL;
}

static void push_bytes(struct task *task)
{
	size_t length, wanted = task->peek_bytes;
	const char *bytes = cp_request_peek(task->request, &length, NULL);
	lua_pushlstring(task->co, bytes, length < wanted ? length : wanted);
	task->peek_bytes = 0;
}

/** What the handler waits for is there, or will not come any more. */
static int go_on(struct task *task, struct cp_answer *answer, struct cp_error *error)
{
	if (task->sniff)
		push_fact(task);
	else
		push_bytes(task);
	return outcome(task, task_resume(task, 1), answer, error);
}

static int route(struct cp_router *router, struct cp_request *request, struct cp_answer *answer, struct cp_error *error)
{
	const struct declared *declared = router->arg;
	struct task *task = cp_request_state(request);
	if (task)
		return go_on(task, answer, error);
	struct vm *vm = declared->script->vms[cp_loop_index(cp_request_loop(request))];
	task = task_new(vm, vm->handlers[declared->index].first);
	task->request = request;
	task->resumed = on_resumed;
	task->peeks = true;
	request_push(task);
	return outcome(task, task_resume(task, 1), answer, error);
}

static void cancel(struct cp_router *router, struct cp_request *request)
{
	(void)router;
	struct task *task = cp_request_state(request);
	if (task)
		task_end(task, CP_CAUSE_DONE);
	cp_request_set_state(request, NULL);
}

const struct cp_router_def router_def = {.size = sizeof(struct cp_router_def), .route = route, .cancel = cancel};
