/** Streams in scripts: s:read, s:read_line, s:write, s:shutdown, s:close.
 *
 * A stream belongs to the task that opened it or was given it, and is closed when that task ends, unless the task
 * returned it: then the pipe gets the core's own stream, and Lua is out of its way. If bytes were read ahead, a thin
 * stream hands those on first (prefix.c). Or the task has put functions over it that see what comes and goes from then
 * on (filter.c): then it belongs to those. */
#ifndef LUA_STREAM_H
#define LUA_STREAM_H

#include "task.h"

/** A stream as scripts see it. Read-only but for stream.c. */
struct lua_stream {
	struct cp_stream *stream;
	struct vm *vm;
	struct stream_owner *owner;
	struct lua_stream *next;    /* of its owner */
	struct lua_stream **handle; /* the script's pointer to this, NULL when that was collected */
	char *buffer;               /* read ahead: from `start` to `end` */
	size_t start, end, room;
	bool ended;                   /* the end of file was read */
	bool whole, text;             /* messages: the buffer has one, which is text */
	int error;                    /* of the last read or write that failed, or CP_OK */
	struct task *reader, *writer; /* wait for it; NULL: nobody */
	uint8_t want;                 /* what the reader waits for: enum want */
	size_t wanted;
	char *unsent; /* what the writer waits with */
	size_t unsent_start, unsent_length;
	unsigned unsent_flags;
	/* Below a filter: */
	void (*others)(struct lua_stream *s, unsigned events); /* told of what no task waits for */
	void *others_arg;
	bool read_past, write_past; /* goes past the script in that direction */
	bool busy, dead;            /* in on_ready(), which frees it if it is dead then */
};

void stream_open(lua_State *L);

/** Push `stream` on the task's coroutine as one of Lua; from now on it is the task's. */
void stream_push(struct task *task, struct cp_stream *stream);
/** Take the stream at `index` of the coroutine away from its task.
 * @return the core's stream, which is the caller's; NULL with `error` filled if there is none, or none left */
struct cp_stream *stream_take(struct task *task, int index, struct cp_error *error);
/** Whether there is a stream at `index`. */
bool stream_is(lua_State *L, int index);
/** Give the stream at `index`, which has to be the running task's own (otherwise an error is raised), to another owner.
 */
struct lua_stream *stream_give(lua_State *L, int index, struct stream_owner *owner);
/** Close all streams of the owner; nobody waits for any of them. */
void stream_close_all(struct stream_owner *owner, enum cp_cause cause);
/** How many bytes were read ahead. */
size_t stream_ahead(const struct lua_stream *s);
/** Hand out bytes that were read ahead. @return how many */
size_t stream_take_ahead(struct lua_stream *s, const struct iovec *vec, int count);

/** connpipe.stream(below, functions): filter.c. */
int filter_lua_new(lua_State *L);

#endif
