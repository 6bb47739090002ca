/** Streams whose data goes through functions of a script. What happens to the data is in filter.c; what scripts call to
 * make one in filter_new.c. Thread: the vm's worker. */
#ifndef LUA_FILTER_H
#define LUA_FILTER_H

#include "stream.h"
#include "task.h"

/** What becomes of the end of writing. */
enum finish_state { FINISH_NONE, FINISH_WANTED, FINISH_DONE };

struct filter {
	struct cp_stream stream; /* first */
	struct vm *vm;
	struct stream_owner own; /* `below` and nothing else */
	struct lua_stream *below;
	int handle; /* all five: references in the registry */
	int on_read, on_write, on_finish, on_close;
	struct cp_deferred deferred;
	struct cp_timer closing_timer;
	unsigned wants; /* CP_READABLE, CP_WRITABLE: the user waits for it */
	bool closing, dead;
	enum cp_cause cause; /* of the close */

	/* From below: */
	struct task *reader; /* read() is under way */
	struct task *result; /* … has returned bytes: they are on its stack, from `start` on not taken yet */
	size_t start;
	bool text;
	bool ended;
	int read_error; /* or CP_OK */

	/* To below: */
	struct task *writer; /* write() or finish() is under way */
	bool writer_waits;   /* … and has not begun: something of this vm was on the stack */
	int arguments;       /* … with so many */
	enum finish_state finish;
	int write_error;
	char *parts; /* of a message that is not whole yet */
	size_t parts_length;
};

/** Begin, once `below` and the functions are set. */
void filter_start(struct filter *f, struct vm *vm);

#endif
