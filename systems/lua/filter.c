/* Streams whose data goes through functions of a script: connpipe.stream(below, { read, write, finish, close }).
 *
 *     pipe ── write(bytes) ──▶ [ write(below, bytes) ] ── below:write ──▶ the stream below
 *     pipe ◀─ read ─────────── [ read(below)         ] ◀─ below:read ──── the stream below
 *
 * Each call of a function is a task of its own (task.h), with budget and limits; there is at most one for each way, so
 * what is held is bounded: what one read returned until the pipe has taken it, and one piece that a write works on. A
 * read is begun when the pipe wants bytes; while a write waits, the pipe is told that nothing more fits. What has no
 * function goes past the script: the descriptor below can be lent for that way.
 *
 * Functions run from the loop, or from the pipe's own call if nothing of this vm is on the stack; a handler that uses
 * such a stream itself gets what they do a little later.
 *
 * End: `finish` runs once, when nothing more will be written; then the end goes on below. A close in order waits for
 * both, for a while. */
#include "filter.h"

#include "call.h"

#include <stdlib.h>
#include <string.h>

enum {
	PIECE_MOST = 64 << 10,   /* bytes of one write() */
	MESSAGE_MOST = 1 << 20,  /* of a message that comes in parts */
	RETURNED_MOST = 1 << 20, /* bytes that one read() may return */
	CLOSE_MS = 5000,         /* for what was written before a close */
};

static void on_deferred(struct cp_deferred *deferred);
static void written(struct filter *f);

static struct filter *filter_of(struct cp_stream *stream)
{
	return (struct filter *)stream;
}

static void defer(struct filter *f)
{
	cp_defer(f->stream.loop, &f->deferred, on_deferred);
}

/* ---- Runs --------------------------------------------------------------------------------------------------- */

/** A task that has the function and its first argument. The limit is lifted: it may be made inside a handler's run,
 * where an error would go to the handler. */
static struct task *new_task(struct filter *f, int function, void (*resumed)(struct task *, enum task_state))
{
	size_t limit = vm_lift_limit(f->vm);
	struct task *task = task_new(f->vm, function);
	task->also = &f->own;
	task->resumed = resumed;
	task->arg = f;
	lua_rawgeti(task->co, LUA_REGISTRYINDEX, f->handle);
	f->vm->limit = limit;
	return task;
}

static void log_failure(const struct filter *f)
{
	cp_log(CP_ERROR, f->vm->script->id, "%s: %s", f->vm->failed_at, f->vm->failure);
}

/** The function returned nil and a reason: below's own error, if that was it. */
static int reason_to_error(const struct filter *f, const char *what, const char *reason)
{
	if (f->below->error != CP_OK)
		return f->below->error;
	cp_log(CP_INFO, f->vm->script->id, "%s of a stream: %s", what, reason);
	return CP_EPROTO;
}

/** Both ways end with an error that the script raised. */
static void broke(struct filter *f)
{
	log_failure(f);
	f->read_error = f->write_error = CP_EIO;
}

/** Whether the user would get something if it tried. */
static unsigned ready_for(const struct filter *f)
{
	unsigned events = 0;
	if (f->result || f->ended || f->read_error)
		events |= CP_READABLE;
	if (!f->writer || f->write_error)
		events |= CP_WRITABLE;
	return events;
}

/** Tell the user what it waits for, or that it waits in vain, which way ever. It may close the stream. */
static void tell(struct filter *f)
{
	bool failed = f->read_error || f->write_error;
	unsigned events = (failed ? CP_READABLE | CP_WRITABLE : f->wants) & ready_for(f);
	f->wants &= ~events;
	if (events && !f->closing)
		cp_stream_notify(&f->stream, events);
}

/* ---- From below --------------------------------------------------------------------------------------------- */

/** What read() returned: bytes stay on its stack until they are taken. @return whether the task is kept for that */
static bool take_returned(struct filter *f, struct task *task)
{
	lua_State *L = task->co;
	size_t length;
	if (lua_type(L, 1) == LUA_TSTRING) {
		lua_tolstring(L, 1, &length);
		if (length > RETURNED_MOST) {
			cp_log(CP_ERROR, f->vm->script->id, "read of a stream returned %zu bytes at once; the most is %d", length,
				   RETURNED_MOST);
			f->read_error = CP_EIO;
			return false;
		}
		f->text = lua_toboolean(L, 2);
		return length > 0 || f->stream.messages;
	}
	const char *reason = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : NULL;
	if (lua_gettop(L) == 0 || lua_isnil(L, 1)) {
		f->ended = !reason || strcmp(reason, "end of file") == 0;
		f->read_error = f->ended ? CP_OK : reason_to_error(f, "read", reason);
		return false;
	}
	cp_log(CP_ERROR, f->vm->script->id, "read of a stream returned a %s, not a text or nil", luaL_typename(L, 1));
	f->read_error = CP_EIO;
	return false;
}

static void reader_ran(struct filter *f, struct task *task, enum task_state state)
{
	bool kept = false;
	f->reader = state == TASK_WAITS ? task : NULL;
	if (state == TASK_WAITS)
		return;
	if (state == TASK_DONE)
		kept = take_returned(f, task);
	else
		broke(f);
	f->start = 0;
	f->result = kept ? task : NULL;
	if (!kept)
		task_end(task, CP_CAUSE_DONE);
}

static void on_reader_resumed(struct task *task, enum task_state state)
{
	struct filter *f = task->arg;
	reader_ran(f, task, state);
	if (state == TASK_WAITS) {
		if (!f->below->writer)
			tell(f); /* it may have written below, which the other direction waited for */
		return;
	}
	if ((f->wants & CP_READABLE) && !(ready_for(f) & CP_READABLE))
		defer(f); /* it returned nothing, and is asked again in the next turn */
	tell(f);
}

/** Ask the script for bytes, unless that is under way. */
static void run_reader(struct filter *f)
{
	if (f->reader || f->result || f->ended || f->read_error)
		return;
	if (f->vm->inside) {
		defer(f);
		return;
	}
	struct task *task = new_task(f, f->on_read, on_reader_resumed);
	reader_ran(f, task, task_resume(task, 1));
}

/** Copy what read() returned. */
static ssize_t take_result(struct filter *f, const struct iovec *vec, int count, unsigned *hints)
{
	size_t length, copied = 0;
	const char *bytes = lua_tolstring(f->result->co, 1, &length);
	for (int i = 0; i < count && f->start < length; i++) {
		size_t left = length - f->start, piece = left < vec[i].iov_len ? left : vec[i].iov_len;
		memcpy(vec[i].iov_base, bytes + f->start, piece);
		f->start += piece;
		copied += piece;
	}
	bool more = f->start < length;
	if (f->stream.messages)
		*hints |= (more ? CP_READ_MORE : 0) | (f->text ? CP_READ_TEXT : 0);
	if (more)
		return (ssize_t)copied;
	task_end(f->result, CP_CAUSE_DONE);
	f->result = NULL;
	return (ssize_t)copied;
}

static ssize_t read_past(struct filter *f, const struct iovec *vec, int count, unsigned *hints)
{
	if (stream_ahead(f->below))
		return (ssize_t)stream_take_ahead(f->below, vec, count);
	if (f->below->ended)
		*hints = CP_READ_END;
	return f->below->ended ? 0 : cp_stream_readv(f->below->stream, vec, count, hints);
}

/** Behind the end there may come an error: a reset after a half close. */
static ssize_t read_behind_end(struct filter *f, unsigned *hints)
{
	char byte;
	unsigned ignored;
	struct iovec vec = {&byte, 1};
	ssize_t got = f->below->ended ? cp_stream_readv(f->below->stream, &vec, 1, &ignored) : 0;
	if (got < 0 && got != CP_AGAIN) {
		f->read_error = (int)got;
		return got;
	}
	*hints = CP_READ_END;
	return 0;
}

static ssize_t filter_read(struct cp_stream *stream, const struct iovec *vec, int count, unsigned *hints)
{
	struct filter *f = filter_of(stream);
	*hints = 0;
	if (f->read_error && !f->result)
		return f->read_error;
	if (f->on_read == LUA_NOREF)
		return read_past(f, vec, count, hints);
	run_reader(f);
	if (f->result)
		return take_result(f, vec, count, hints);
	if (f->read_error)
		return f->read_error;
	if (f->ended)
		return read_behind_end(f, hints);
	f->wants |= CP_READABLE;
	if (!f->reader)
		defer(f);
	return CP_AGAIN;
}

/* ---- To below ----------------------------------------------------------------------------------------------- */

static void writer_ran(struct filter *f, struct task *task, enum task_state state)
{
	f->writer = state == TASK_WAITS ? task : NULL;
	if (state == TASK_WAITS)
		return;
	if (state == TASK_FAILED) {
		broke(f);
	} else if (lua_type(task->co, 2) == LUA_TSTRING && !lua_toboolean(task->co, 1)) {
		f->write_error = reason_to_error(f, "write", lua_tostring(task->co, 2));
	}
	task_end(task, CP_CAUSE_DONE);
}

static void on_writer_resumed(struct task *task, enum task_state state)
{
	struct filter *f = task->arg;
	writer_ran(f, task, state);
	if (state != TASK_WAITS)
		written(f);
}

/** Run f->writer, which has its arguments, now or at the end of the turn. @return whether it was now */
static bool run_writer(struct filter *f, int arguments)
{
	if (f->vm->inside) {
		f->writer_waits = true;
		f->arguments = arguments;
		defer(f);
		return false;
	}
	struct task *task = f->writer;
	writer_ran(f, task, task_resume(task, arguments));
	return !f->writer;
}

static size_t vec_length(const struct iovec *vec, int count)
{
	size_t length = 0;
	for (int i = 0; i < count; i++)
		length += vec[i].iov_len;
	return length;
}

static void gather(char *to, size_t length, const struct iovec *vec, int count)
{
	for (int i = 0; i < count && length; i++) {
		size_t piece = vec[i].iov_len < length ? vec[i].iov_len : length;
		memcpy(to, vec[i].iov_base, piece);
		to += piece;
		length -= piece;
	}
}

/** Have write() work on these bytes. */
static void write_bytes(struct filter *f, const char *bytes, size_t length, bool text)
{
	f->writer = new_task(f, f->on_write, on_writer_resumed);
	size_t limit = vm_lift_limit(f->vm);
	lua_pushlstring(f->writer->co, bytes, length);
	lua_pushboolean(f->writer->co, text);
	f->vm->limit = limit;
	run_writer(f, 3);
}

/** The user is told when the script is ready for more: by the end of write(), or in the next turn. */
static void await_writing(struct filter *f)
{
	f->wants |= CP_WRITABLE;
	if (!f->writer)
		defer(f);
}

static ssize_t write_piece(struct filter *f, const struct iovec *vec, int count)
{
	size_t offered = vec_length(vec, count), length = offered < PIECE_MOST ? offered : PIECE_MOST;
	if (vec[0].iov_len >= length) {
		write_bytes(f, vec[0].iov_base, length, false);
	} else {
		char *bytes = malloc(length);
		if (!bytes)
			return CP_ENOMEM;
		gather(bytes, length, vec, count);
		write_bytes(f, bytes, length, false);
		free(bytes);
	}
	if (length < offered && !f->write_error)
		await_writing(f); /* a short write means that the user waits for the rest */
	return f->write_error ? f->write_error : (ssize_t)length;
}

/** Messages are handed to the script whole. */
static ssize_t write_message(struct filter *f, const struct iovec *vec, int count, unsigned flags)
{
	size_t length = vec_length(vec, count);
	if (f->parts_length + length > MESSAGE_MOST)
		return f->write_error = CP_EPROTO;
	char *parts = realloc(f->parts, f->parts_length + length + 1);
	if (!parts)
		return CP_ENOMEM;
	f->parts = parts;
	gather(parts + f->parts_length, length, vec, count);
	f->parts_length += length;
	if (flags & CP_WRITE_MORE)
		return (ssize_t)length;
	write_bytes(f, parts, f->parts_length, flags & CP_WRITE_TEXT);
	free(f->parts);
	f->parts = NULL;
	f->parts_length = 0;
	return f->write_error ? f->write_error : (ssize_t)length;
}

static ssize_t filter_write(struct cp_stream *stream, const struct iovec *vec, int count, unsigned flags)
{
	struct filter *f = filter_of(stream);
	if (f->write_error)
		return f->write_error;
	if (f->on_write == LUA_NOREF && !f->below->writer)
		return cp_stream_writev(f->below->stream, vec, count, flags);
	if (f->writer || f->below->writer) {
		f->wants |= CP_WRITABLE;
		return CP_AGAIN;
	}
	if (f->stream.messages)
		return write_message(f, vec, count, flags);
	return vec_length(vec, count) ? write_piece(f, vec, count) : 0;
}

/* ---- The end of writing ------------------------------------------------------------------------------------- */

/** Nothing is under way: run finish(), if it was not run, then pass the end on. @return as shutdown_write */
static int pass_end(struct filter *f)
{
	if (f->on_finish != LUA_NOREF && f->finish == FINISH_WANTED && !f->write_error) {
		f->finish = FINISH_DONE;
		f->writer = new_task(f, f->on_finish, on_writer_resumed);
		if (!run_writer(f, 1))
			return CP_OK;
	}
	f->finish = FINISH_DONE;
	return f->write_error ? f->write_error : cp_stream_shutdown_write(f->below->stream);
}

static int filter_shutdown(struct cp_stream *stream)
{
	struct filter *f = filter_of(stream);
	if (f->finish != FINISH_NONE)
		return CP_OK;
	f->finish = FINISH_WANTED;
	return f->writer ? CP_OK : pass_end(f);
}

/* ---- Closing ------------------------------------------------------------------------------------------------ */

static void unref_all(struct filter *f)
{
	const int references[] = {f->handle, f->on_read, f->on_write, f->on_finish, f->on_close};
	for (size_t i = 0; i < sizeof(references) / sizeof(*references); i++)
		luaL_unref(f->vm->L, LUA_REGISTRYINDEX, references[i]);
}

static void call_close(struct filter *f)
{
	struct call call;
	struct cp_error error;
	if (f->on_close == LUA_NOREF)
		return;
	call_begin(&call, f->vm, f->on_close);
	lua_pushstring(call.L, cp_cause_text(f->cause));
	if (call_run(&call, 1, &error) != CP_OK)
		log_failure(f);
	call_end(&call);
}

/** Close below; memory goes at the end of the turn. What was cut off in the script must not look complete. */
static void end(struct filter *f)
{
	bool cut = f->writer || f->write_error;
	cp_timer_stop(&f->closing_timer);
	if (f->writer)
		task_end(f->writer, CP_CAUSE_DONE);
	f->writer = NULL;
	if (cut && !cp_cause_is_reset(f->cause))
		f->cause = CP_CAUSE_KILLED;
	call_close(f);
	stream_close_all(&f->own, f->cause);
	f->below = NULL;
	unref_all(f);
	free(f->parts);
	f->dead = true;
	defer(f);
}

static void on_closing_timer(struct cp_timer *timer)
{
	end((struct filter *)((char *)timer - offsetof(struct filter, closing_timer)));
}

static void filter_close(struct cp_stream *stream, enum cp_cause cause)
{
	struct filter *f = filter_of(stream);
	cp_stream_set_user(stream, NULL, NULL);
	f->closing = true;
	f->cause = cause;
	f->wants = 0;
	if (f->reader)
		task_end(f->reader, CP_CAUSE_DONE);
	if (f->result)
		task_end(f->result, CP_CAUSE_DONE);
	f->reader = f->result = NULL;
	cp_timer_start(&f->closing_timer, CLOSE_MS);
	if (f->finish == FINISH_NONE && !cp_cause_is_reset(cause))
		f->finish = FINISH_WANTED;
	if (!f->writer)
		written(f);
}

/** A write() or finish() is over, or there was none: what comes next. */
static void written(struct filter *f)
{
	if (f->finish == FINISH_WANTED && f->on_finish != LUA_NOREF) {
		pass_end(f);
		if (f->writer)
			return;
	} else if (f->finish != FINISH_NONE && !f->closing) {
		f->finish = FINISH_DONE;
		if (!f->write_error)
			cp_stream_shutdown_write(f->below->stream);
	}
	if (f->closing)
		end(f);
	else
		tell(f);
}

/* ---- Waiting ------------------------------------------------------------------------------------------------ */

/** At the end of the turn: what could not be done inside another call. */
static void on_deferred(struct cp_deferred *deferred)
{
	struct filter *f = (struct filter *)((char *)deferred - offsetof(struct filter, deferred));
	if (f->dead) {
		cp_stream_deinit(&f->stream);
		free(f);
		return;
	}
	if (f->writer_waits) {
		f->writer_waits = false;
		if (run_writer(f, f->arguments))
			written(f);
	}
	if (f->closing)
		return; /* if that has ended it, it is freed in a later turn */
	if ((f->wants & CP_READABLE) && f->on_read != LUA_NOREF)
		run_reader(f);
	if ((f->wants & CP_READABLE) && f->on_read != LUA_NOREF && !f->reader && !(ready_for(f) & CP_READABLE))
		defer(f);
	if (f->on_read == LUA_NOREF && (f->wants & CP_READABLE)) { /* bytes that were read ahead */
		f->wants &= ~(unsigned)CP_READABLE;
		cp_stream_notify(&f->stream, CP_READABLE);
		return;
	}
	tell(f);
}

/** What happens below in a way that goes past the script. */
static void on_below(struct lua_stream *s, unsigned events)
{
	struct filter *f = s->others_arg;
	unsigned past = CP_RECALL | (s->read_past ? CP_READABLE : 0);
	if (f->on_write == LUA_NOREF) /* not write_past: with a `finish` the script may write, too */
		past |= CP_WRITABLE;
	if (f->ended)
		past |= CP_READABLE; /* an error behind the end */
	if (f->closing) {
		if (events & CP_RECALL)
			cp_stream_restore(s->stream);
		return;
	}
	if (events & past)
		cp_stream_notify(&f->stream, events & past);
}

static void await_reading(struct filter *f)
{
	bool past = f->on_read == LUA_NOREF;
	if (past && !stream_ahead(f->below) && !f->below->ended) {
		cp_stream_await(f->below->stream, CP_READABLE);
		return;
	}
	f->wants |= CP_READABLE;
	if (past || !f->reader)
		defer(f);
}

static void filter_await(struct cp_stream *stream, unsigned events)
{
	struct filter *f = filter_of(stream);
	if (events & CP_READABLE)
		await_reading(f);
	if (!(events & CP_WRITABLE))
		return;
	if (f->on_write == LUA_NOREF && !f->below->writer) {
		cp_stream_await(f->below->stream, CP_WRITABLE);
		return;
	}
	await_writing(f);
}

/** A way that goes past the script may go past the program, too. */
static int filter_lend(struct cp_stream *stream, unsigned direction)
{
	struct filter *f = filter_of(stream);
	bool past = direction & CP_READABLE ? f->on_read == LUA_NOREF && !stream_ahead(f->below) && !f->below->ended
										: f->on_write == LUA_NOREF;
	return past ? cp_stream_lend(f->below->stream, direction) : -1;
}

static void filter_restore(struct cp_stream *stream)
{
	cp_stream_restore(filter_of(stream)->below->stream);
}

static const struct cp_stream_ops filter_ops = {
	.size = sizeof(struct cp_stream_ops),
	.name = "lua",
	.read = filter_read,
	.write = filter_write,
	.shutdown_write = filter_shutdown,
	.close = filter_close,
	.await = filter_await,
	.lend = filter_lend,
	.restore = filter_restore,
};

void filter_start(struct filter *f, struct vm *vm)
{
	f->vm = vm;
	cp_stream_init(&f->stream, &filter_ops, vm->loop, vm->script->system);
	cp_timer_init(&f->closing_timer, vm->loop, on_closing_timer);
	f->below->others = on_below;
	f->below->others_arg = f;
	f->below->read_past = f->on_read == LUA_NOREF;
	f->below->write_past = f->on_write == LUA_NOREF && f->on_finish == LUA_NOREF;
}
