/** Streams in scripts: s:read, s:read_line, s:write, s:shutdown, s:close.
 *
 * A stream belongs to the task that opened it or was given it, and is closed when that task ends, unless the task
 * returned it: then the pipe gets the core's own stream, and Lua is out of its way. If bytes were read ahead, a thin
 * stream hands those on first (prefix.c). */
#ifndef LUA_STREAM_H
#define LUA_STREAM_H

#include "task.h"

struct lua_stream;

void stream_open(lua_State *L);

/** Push `stream` on the task's coroutine as one of Lua; from now on it is the task's. */
void stream_push(struct task *task, struct cp_stream *stream);
/** Take the stream at `index` of the coroutine away from its task.
 * @return the core's stream, which is the caller's; NULL with `error` filled if there is none, or none left */
struct cp_stream *stream_take(struct task *task, int index, struct cp_error *error);
/** Whether there is a stream at `index`. */
bool stream_is(lua_State *L, int index);
/** Close all streams that the task still has; it waits for none of them. For task_end(). */
void stream_close_all(struct task *task, enum cp_cause cause);

/** A stream that reads `bytes` (copied) and then what `lower` has, which it takes; writes go through. */
struct cp_stream *prefix_new(struct cp_stream *lower, const char *bytes, size_t length, struct cp_system *owner);

#endif
