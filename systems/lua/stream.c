#include "stream.h"

#include <stdlib.h>
#include <string.h>

static const char type_name[] = "connpipe.stream";

enum {
	READ_FIRST = 4096,
	READ_MOST = 16 << 20, /* of one read(n): a script that wants more reads several times */
	LINE_MOST = 65536,
};

/** What a read waits for. */
enum want { WANT_SOME, WANT_EXACTLY, WANT_LINE };

struct lua_stream {
	struct cp_stream *stream; /* NULL: closed, or given away */
	struct task *task;
	struct lua_stream *next;
	struct lua_stream **handle; /* the script's pointer to this, NULL when that was collected */
	char *buffer;               /* read ahead: from `start` to `end` */
	size_t start, end, room;
	bool ended;            /* the end of file was read */
	bool reading, writing; /* its task waits for that */
	enum want want;
	size_t wanted;
	char *unsent; /* what a write waits with */
	size_t unsent_start, unsent_length;
};

/* ---- Reading ------------------------------------------------------------------------------------------------ */

static int push_failure(lua_State *L, const char *reason)
{
	lua_pushnil(L);
	lua_pushstring(L, reason);
	return 2;
}

static size_t have(const struct lua_stream *s)
{
	return s->end - s->start;
}

static int push_bytes(struct lua_stream *s, lua_State *L, size_t length, size_t skip)
{
	lua_pushlstring(L, s->buffer + s->start, length);
	s->start += length + skip;
	if (s->start == s->end) {
		free(s->buffer);
		s->buffer = NULL;
		s->start = s->end = s->room = 0;
	}
	return 1;
}

/** @return what is wanted, if it is there, as results on the stack; 0: not yet */
static int push_wanted(struct lua_stream *s, lua_State *L)
{
	const char *newline;
	switch (s->want) {
	case WANT_SOME:
		return have(s) ? push_bytes(s, L, have(s) < s->wanted ? have(s) : s->wanted, 0) : 0;
	case WANT_EXACTLY:
		return have(s) >= s->wanted ? push_bytes(s, L, s->wanted, 0) : 0;
	case WANT_LINE:
		newline = have(s) ? memchr(s->buffer + s->start, '\n', have(s)) : NULL;
		if (newline) {
			size_t length = (size_t)(newline - (s->buffer + s->start));
			bool carriage_return = length > 0 && newline[-1] == '\r';
			return push_bytes(s, L, length - carriage_return, 1u + carriage_return);
		}
		return have(s) >= LINE_MOST ? push_failure(L, "the line is longer than 65536 bytes") : 0;
	}
	return 0;
}

static void make_room(struct lua_stream *s)
{
	if (s->end < s->room)
		return;
	if (s->start > 0) {
		memmove(s->buffer, s->buffer + s->start, have(s));
		s->end -= s->start;
		s->start = 0;
		return;
	}
	s->room = s->room ? 2 * s->room : READ_FIRST;
	s->buffer = realloc(s->buffer, s->room);
	if (!s->buffer)
		abort();
}

/** @return CP_OK: bytes came, or the end; CP_AGAIN; or an error */
static int read_more(struct lua_stream *s)
{
	unsigned hints;
	make_room(s);
	struct iovec vec = {s->buffer + s->end, s->room - s->end};
	ssize_t got = cp_stream_readv(s->stream, &vec, 1, &hints);
	if (got < 0)
		return (int)got;
	s->end += (size_t)got;
	s->ended = hints & CP_READ_END;
	return CP_OK;
}

/** Read until what is wanted is there. @return results pushed; 0: it has to be waited for */
static int go_on_reading(struct lua_stream *s, lua_State *L)
{
	while (true) {
		int results = push_wanted(s, L);
		if (results)
			return results;
		if (s->ended)
			return have(s) ? push_bytes(s, L, have(s), 0) : push_failure(L, "end of file");
		int result = read_more(s);
		if (result == CP_AGAIN)
			return 0;
		if (result != CP_OK)
			return push_failure(L, cp_err_text((enum cp_err)result));
	}
}

/* ---- Writing ------------------------------------------------------------------------------------------------ */

/** @return how much was taken, or an error but CP_AGAIN */
static ssize_t write_some(struct lua_stream *s, const char *bytes, size_t length)
{
	size_t done = 0;
	while (done < length) {
		struct iovec vec = {(char *)bytes + done, length - done};
		ssize_t taken = cp_stream_writev(s->stream, &vec, 1, 0);
		if (taken == CP_AGAIN)
			break;
		if (taken < 0)
			return taken;
		done += (size_t)taken;
	}
	return (ssize_t)done;
}

static void drop_unsent(struct lua_stream *s)
{
	free(s->unsent);
	s->unsent = NULL;
}

/** @return results pushed; 0: it has to be waited for */
static int go_on_writing(struct lua_stream *s, lua_State *L)
{
	ssize_t done = write_some(s, s->unsent + s->unsent_start, s->unsent_length - s->unsent_start);
	if (done >= 0) {
		s->unsent_start += (size_t)done;
		if (s->unsent_start < s->unsent_length)
			return 0;
	}
	drop_unsent(s);
	if (done < 0)
		return push_failure(L, cp_err_text((enum cp_err)done));
	lua_pushboolean(L, true);
	return 1;
}

/* ---- Waiting ------------------------------------------------------------------------------------------------ */

static void on_ready(struct cp_stream *stream, unsigned events, void *arg)
{
	struct lua_stream *s = arg;
	int results = 0;
	if (events & CP_RECALL)
		cp_stream_restore(stream);
	if (s->reading && (events & CP_READABLE))
		results = go_on_reading(s, s->task->co);
	else if (s->writing && (events & CP_WRITABLE))
		results = go_on_writing(s, s->task->co);
	if (results == 0)
		return;
	s->reading = s->writing = false;
	task_wake(s->task, results);
}

static void give_up(struct task *task)
{
	struct lua_stream *s = task->waits_for;
	s->reading = s->writing = false;
}

/* ---- Ownership ---------------------------------------------------------------------------------------------- */

/** Take it out of its task's list and free it; the core's stream was closed or given away before. */
static void forget(struct lua_stream *s)
{
	struct lua_stream **at = &s->task->streams;
	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	if (s->handle)
		*s->handle = NULL;
	drop_unsent(s);
	free(s->buffer);
	free(s);
}

void stream_push(struct task *task, struct cp_stream *stream)
{
	struct lua_stream *s = calloc(1, sizeof(*s));
	if (!s)
		abort();
	struct lua_stream **handle = lua_newuserdata(task->co, sizeof(*handle));
	*handle = s;
	luaL_getmetatable(task->co, type_name);
	lua_setmetatable(task->co, -2);
	s->stream = stream;
	s->handle = handle;
	s->task = task;
	s->next = task->streams;
	task->streams = s;
	cp_stream_set_user(stream, on_ready, s);
}

/** Not luaL_checkudata: that raises an error, and this is also called outside of handlers. */
static struct lua_stream **handle_at(lua_State *L, int index)
{
	struct lua_stream **handle = lua_touserdata(L, index);
	if (!handle || !lua_getmetatable(L, index))
		return NULL;
	luaL_getmetatable(L, type_name);
	bool is = lua_rawequal(L, -1, -2);
	lua_pop(L, 2);
	return is ? handle : NULL;
}

bool stream_is(lua_State *L, int index)
{
	return handle_at(L, index) != NULL;
}

struct cp_stream *stream_take(struct task *task, int index, struct cp_error *error)
{
	struct lua_stream **handle = handle_at(task->co, index);
	struct lua_stream *s = handle ? *handle : NULL;
	if (!s || s->task != task) {
		cp_error_set(error, CP_EINVAL, NULL, "the stream that was returned is closed, or another handler's");
		return NULL;
	}
	struct cp_stream *stream = s->stream;
	cp_stream_set_user(stream, NULL, NULL);
	if (have(s))
		stream = prefix_new(stream, s->buffer + s->start, have(s), task->vm->script->system);
	if (!stream)
		abort();
	forget(s);
	return stream;
}

void stream_close_all(struct task *task, enum cp_cause cause)
{
	while (task->streams) {
		cp_stream_close(task->streams->stream, cause);
		forget(task->streams);
	}
}

/* ---- What scripts call -------------------------------------------------------------------------------------- */

static int collected(lua_State *L)
{
	struct lua_stream **handle = lua_touserdata(L, 1);
	if (*handle)
		(*handle)->handle = NULL; /* its task closes it when it ends */
	return 0;
}

/** The stream at 1, if it is the caller's own; raises an error otherwise. */
static struct lua_stream *check(lua_State *L)
{
	struct lua_stream **handle = luaL_checkudata(L, 1, type_name);
	if (!*handle)
		luaL_error(L, "the stream is closed");
	if ((*handle)->task != task_of(L))
		luaL_error(L, "the stream belongs to another handler");
	return *handle;
}

static int start_reading(lua_State *L, struct lua_stream *s, enum want want, size_t wanted)
{
	s->want = want;
	s->wanted = wanted;
	int results = go_on_reading(s, L);
	if (results)
		return results;
	s->reading = true;
	return task_wait(s->task, give_up, s);
}

/** s:read(n): exactly n bytes, fewer only at the end of file; s:read(): what is there next. nil and a reason. */
static int stream_read(lua_State *L)
{
	struct lua_stream *s = check(L);
	if (lua_isnoneornil(L, 2))
		return start_reading(L, s, WANT_SOME, LINE_MOST);
	lua_Integer wanted = luaL_checkinteger(L, 2);
	luaL_argcheck(L, wanted >= 0 && wanted <= READ_MOST, 2, "0 to 16777216 bytes");
	return start_reading(L, s, WANT_EXACTLY, (size_t)wanted);
}

/** s:read_line(): up to the next LF, without it and a CR in front of it. */
static int stream_read_line(lua_State *L)
{
	return start_reading(L, check(L), WANT_LINE, 0);
}

/** s:write(text): waits until all of it was taken. true, or nil and a reason. */
static int stream_write(lua_State *L)
{
	struct lua_stream *s = check(L);
	size_t length;
	const char *text = luaL_checklstring(L, 2, &length);
	ssize_t done = write_some(s, text, length);
	if (done < 0)
		return push_failure(L, cp_err_text((enum cp_err)done));
	if ((size_t)done == length) {
		lua_pushboolean(L, true);
		return 1;
	}
	s->unsent_length = length - (size_t)done;
	s->unsent_start = 0;
	s->unsent = malloc(s->unsent_length);
	if (!s->unsent)
		return push_failure(L, "out of memory");
	memcpy(s->unsent, text + done, s->unsent_length);
	s->writing = true;
	return task_wait(s->task, give_up, s);
}

/** s:shutdown(): the end of file behind everything written; reading goes on. */
static int stream_shutdown(lua_State *L)
{
	int result = cp_stream_shutdown_write(check(L)->stream);
	if (result != CP_OK)
		return push_failure(L, cp_err_text((enum cp_err)result));
	lua_pushboolean(L, true);
	return 1;
}

/** s:close(): closing twice is no error. */
static int stream_close(lua_State *L)
{
	struct lua_stream **handle = luaL_checkudata(L, 1, type_name);
	if (!*handle)
		return 0;
	struct lua_stream *s = check(L);
	cp_stream_close(s->stream, CP_CAUSE_DONE);
	forget(s);
	return 0;
}

void stream_open(lua_State *L)
{
	static const luaL_Reg methods[] = {{"read", stream_read},   {"read_line", stream_read_line},
									   {"write", stream_write}, {"shutdown", stream_shutdown},
									   {"close", stream_close}, {NULL, NULL}};
	luaL_newmetatable(L, type_name);
	lua_newtable(L);
	luaL_register(L, NULL, methods);
	lua_setfield(L, -2, "__index");
	lua_pushcfunction(L, collected);
	lua_setfield(L, -2, "__gc");
	lua_pop(L, 1);
}
