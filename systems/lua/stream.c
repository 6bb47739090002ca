#include "stream.h"

#include <stdlib.h>
#include <string.h>

static const char type_name[] = "connpipe.stream";

enum {
	READ_FIRST = 4096,
	READ_MOST = 16 << 20, /* of one read(n): a script that wants more reads several times */
	LINE_MOST = 65536,
	MESSAGE_MOST = 1 << 20,
};

/** What a read waits for. */
enum want { WANT_SOME, WANT_EXACTLY, WANT_LINE };

/* ---- Reading ------------------------------------------------------------------------------------------------ */

static int push_failure(lua_State *L, const char *reason)
{
	lua_pushnil(L);
	lua_pushstring(L, reason);
	return 2;
}

static int push_error(struct lua_stream *s, lua_State *L, int error)
{
	s->error = error;
	return push_failure(L, cp_err_text((enum cp_err)error));
}

static size_t have(const struct lua_stream *s)
{
	return s->end - s->start;
}

static void skip(struct lua_stream *s, size_t length)
{
	s->start += length;
	if (s->start < s->end)
		return;
	free(s->buffer);
	s->buffer = NULL;
	s->start = s->end = s->room = 0;
}

static int push_bytes(struct lua_stream *s, lua_State *L, size_t length, size_t behind)
{
	lua_pushlstring(L, s->buffer + s->start, length);
	skip(s, length + behind);
	return 1;
}

/** A message, and whether it is text. */
static int push_message(struct lua_stream *s, lua_State *L)
{
	lua_pushlstring(L, have(s) ? s->buffer + s->start : "", have(s));
	skip(s, have(s));
	s->whole = false;
	lua_pushboolean(L, s->text);
	return 2;
}

/** @return what is wanted, if it is there, as results on the stack; 0: not yet */
static int push_wanted(struct lua_stream *s, lua_State *L)
{
	const char *newline;
	if (s->stream->messages)
		return s->whole ? push_message(s, L) : have(s) > MESSAGE_MOST ? push_error(s, L, CP_EPROTO) : 0;
	switch ((enum want)s->want) {
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
	s->whole = s->stream->messages && !(hints & CP_READ_MORE) && (got > 0 || !s->ended);
	s->text = hints & CP_READ_TEXT;
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
			return push_error(s, L, result);
	}
}

/* ---- Writing ------------------------------------------------------------------------------------------------ */

/** @return how much was taken, or an error; CP_AGAIN: nothing (which is not the same for a message) */
static ssize_t write_some(struct lua_stream *s, const char *bytes, size_t length, unsigned flags)
{
	size_t done = 0;
	do {
		struct iovec vec = {(char *)bytes + done, length - done};
		ssize_t taken = cp_stream_writev(s->stream, &vec, 1, flags);
		if (taken == CP_AGAIN && done > 0)
			break;
		if (taken < 0)
			return taken;
		done += (size_t)taken;
	} while (done < length);
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
	ssize_t done = write_some(s, s->unsent + s->unsent_start, s->unsent_length - s->unsent_start, s->unsent_flags);
	if (done == CP_AGAIN)
		return 0;
	if (done >= 0) {
		s->unsent_start += (size_t)done;
		if (s->unsent_start < s->unsent_length)
			return 0;
	}
	drop_unsent(s);
	if (done < 0)
		return push_error(s, L, (int)done);
	lua_pushboolean(L, true);
	return 1;
}

/* ---- Waiting ------------------------------------------------------------------------------------------------ */

static void wake_reader(struct lua_stream *s)
{
	struct task *task = s->reader;
	int results = go_on_reading(s, task->co);
	if (results == 0)
		return;
	s->reader = NULL;
	task_wake(task, results);
}

static void wake_writer(struct lua_stream *s)
{
	struct task *task = s->writer;
	int results = go_on_writing(s, task->co);
	if (results == 0)
		return;
	s->writer = NULL;
	task_wake(task, results);
}

/** A task that is woken may be the end of the stream. */
static void on_ready(struct cp_stream *stream, unsigned events, void *arg)
{
	struct lua_stream *s = arg;
	unsigned taken = (s->reader ? CP_READABLE : 0) | (s->writer ? CP_WRITABLE : 0);
	s->busy = true;
	if (s->reader && (events & CP_READABLE))
		wake_reader(s);
	if (!s->dead && s->writer && (events & CP_WRITABLE))
		wake_writer(s);
	if (!s->dead && s->others && (events & ~taken))
		s->others(s, events & ~taken);
	else if (!s->dead && (events & CP_RECALL))
		cp_stream_restore(stream);
	s->busy = false;
	if (s->dead)
		free(s);
}

static void give_up(struct task *task)
{
	struct lua_stream *s = task->waits_for;
	if (s->reader == task)
		s->reader = NULL;
	if (s->writer == task) {
		s->writer = NULL;
		drop_unsent(s);
	}
}

/* ---- Ownership ---------------------------------------------------------------------------------------------- */

static void unlink_stream(struct lua_stream *s)
{
	struct lua_stream **at = &s->owner->first;
	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
}

static void link_stream(struct lua_stream *s, struct stream_owner *owner)
{
	s->owner = owner;
	s->next = owner->first;
	owner->first = s;
}

/** Take it out of its owner's list and free it; the core's stream was closed or given away before. */
static void forget(struct lua_stream *s)
{
	unlink_stream(s);
	if (s->handle)
		*s->handle = NULL;
	drop_unsent(s);
	free(s->buffer);
	s->buffer = NULL;
	s->dead = true;
	if (!s->busy)
		free(s);
}

void stream_push(struct task *task, struct cp_stream *stream)
{
	struct lua_stream *s = calloc(1, sizeof(*s));
	if (!s)
		abort();
	size_t limit = vm_lift_limit(task->vm); /* an error here would lose the stream */
	struct lua_stream **handle = lua_newuserdata(task->co, sizeof(*handle));
	*handle = s;
	luaL_getmetatable(task->co, type_name);
	lua_setmetatable(task->co, -2);
	task->vm->limit = limit;
	s->stream = stream;
	s->vm = task->vm;
	s->handle = handle;
	link_stream(s, &task->own);
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
	if (!s || s->owner != &task->own) {
		cp_error_set(error, CP_EINVAL, NULL, "the stream that was returned is closed, or another handler's");
		return NULL;
	}
	struct cp_stream *stream = s->stream;
	cp_stream_set_user(stream, NULL, NULL);
	if (have(s))
		stream = cp_stream_with_prefix(stream, s->buffer + s->start, have(s), 0, task->vm->script->system);
	if (!stream)
		abort();
	forget(s);
	return stream;
}

void stream_close_all(struct stream_owner *owner, enum cp_cause cause)
{
	while (owner->first) {
		cp_stream_close(owner->first->stream, cause);
		forget(owner->first);
	}
}

size_t stream_ahead(const struct lua_stream *s)
{
	return have(s);
}

size_t stream_take_ahead(struct lua_stream *s, const struct iovec *vec, int count)
{
	size_t copied = 0;
	for (int i = 0; i < count && have(s); i++) {
		size_t piece = have(s) < vec[i].iov_len ? have(s) : vec[i].iov_len;
		memcpy(vec[i].iov_base, s->buffer + s->start, piece);
		skip(s, piece);
		copied += piece;
	}
	return copied;
}

/* ---- What scripts call -------------------------------------------------------------------------------------- */

static int collected(lua_State *L)
{
	struct lua_stream **handle = lua_touserdata(L, 1);
	if (*handle)
		(*handle)->handle = NULL; /* its task closes it when it ends */
	return 0;
}

/** The stream at `index`, if the caller may use it; raises an error otherwise. */
static struct lua_stream *check(lua_State *L, int index)
{
	struct lua_stream **handle = luaL_checkudata(L, index, type_name);
	if (!*handle)
		luaL_error(L, "the stream is closed");
	struct task *task = task_of(L);
	if ((*handle)->owner != &task->own && (*handle)->owner != task->also)
		luaL_error(L, "the stream belongs to another handler");
	return *handle;
}

/** … if it is the caller's own. */
static struct lua_stream *check_own(lua_State *L, int index)
{
	struct lua_stream *s = check(L, index);
	if (s->owner != &vm_of(L)->running->own)
		luaL_error(L, "the stream ends with the one that was made of it");
	return s;
}

struct lua_stream *stream_give(lua_State *L, int index, struct stream_owner *owner)
{
	struct lua_stream *s = check_own(L, index);
	unlink_stream(s);
	link_stream(s, owner);
	return s;
}

static struct lua_stream *check_reading(lua_State *L)
{
	struct lua_stream *s = check(L, 1);
	if (s->read_past)
		luaL_error(L, "connpipe.stream() was given no `read`: what comes goes past the script");
	if (s->reader)
		luaL_error(L, "somebody reads from the stream already");
	return s;
}

static struct lua_stream *check_writing(lua_State *L)
{
	struct lua_stream *s = check(L, 1);
	if (s->write_past)
		luaL_error(L, "connpipe.stream() was given no `write`: what goes out goes past the script");
	if (s->writer)
		luaL_error(L, "somebody writes to the stream already");
	return s;
}

static int start_reading(lua_State *L, struct lua_stream *s, enum want want, size_t wanted)
{
	s->want = (uint8_t)want;
	s->wanted = wanted;
	int results = go_on_reading(s, L);
	if (results)
		return results;
	s->reader = vm_of(L)->running;
	return task_wait(s->reader, give_up, s);
}

/** s:read(n): exactly n bytes, fewer only at the end of file; s:read(): what is there next; of messages: the next one,
 * and whether it is text. nil and a reason. */
static int stream_read(lua_State *L)
{
	struct lua_stream *s = check_reading(L);
	if (lua_isnoneornil(L, 2))
		return start_reading(L, s, WANT_SOME, LINE_MOST);
	luaL_argcheck(L, !s->stream->messages, 2, "nothing: the stream carries messages, of which read() takes one");
	lua_Integer wanted = luaL_checkinteger(L, 2);
	luaL_argcheck(L, wanted >= 0 && wanted <= READ_MOST, 2, "0 to 16777216 bytes");
	return start_reading(L, s, WANT_EXACTLY, (size_t)wanted);
}

/** s:read_line(): up to the next LF, without it and a CR in front of it. */
static int stream_read_line(lua_State *L)
{
	struct lua_stream *s = check_reading(L);
	if (s->stream->messages)
		return luaL_error(L, "the stream carries messages, not lines: read() takes one");
	return start_reading(L, s, WANT_LINE, 0);
}

/** Wait with what was not taken. */
static int wait_writing(lua_State *L, struct lua_stream *s, const char *bytes, size_t length, unsigned flags)
{
	s->unsent_length = length;
	s->unsent_start = 0;
	s->unsent_flags = flags;
	s->unsent = malloc(length ? length : 1);
	if (!s->unsent)
		return push_error(s, L, CP_ENOMEM);
	memcpy(s->unsent, bytes, length);
	s->writer = vm_of(L)->running;
	return task_wait(s->writer, give_up, s);
}

/** s:write(bytes), or for messages s:write(message, is_text): waits until all of it was taken. true, or nil and a
 * reason.
 */
static int stream_write(lua_State *L)
{
	struct lua_stream *s = check_writing(L);
	size_t length;
	const char *bytes = luaL_checklstring(L, 2, &length);
	unsigned flags = s->stream->messages && lua_toboolean(L, 3) ? CP_WRITE_TEXT : 0;
	ssize_t done = length || s->stream->messages ? write_some(s, bytes, length, flags) : 0;
	if (done == CP_AGAIN)
		return wait_writing(L, s, bytes, length, flags);
	if (done < 0)
		return push_error(s, L, (int)done);
	if ((size_t)done < length)
		return wait_writing(L, s, bytes + done, length - (size_t)done, flags);
	lua_pushboolean(L, true);
	return 1;
}

/** s:shutdown(): the end of file behind everything written; reading goes on. */
static int stream_shutdown(lua_State *L)
{
	int result = cp_stream_shutdown_write(check_writing(L)->stream);
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
	struct lua_stream *s = check_own(L, 1);
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
