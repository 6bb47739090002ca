/** Control socket: what `connpipe ctl` talks to. One JSON object per line each way:
 *
 *     → {"command":"status"}                                 ← {"ok":true, …}
 *     → {"command":"kill","id":42}                           ← {"ok":true}
 *     → {"command":"reload"}                                 ← {"ok":false,"errors":["config.toml:3:5: …"]}
 *
 * Commands: status, pipes, kill {id}, reload, drain, log {level}. Errors: {"ok":false,"error":"…"}; over-long lines
 * and lines that are not JSON are answered with an error and the connection is closed.
 *
 * Thread: main task. What the commands do is the main task's; this is the socket, the lines and the JSON. */
#ifndef OBSERVE_ADMIN_H
#define OBSERVE_ADMIN_H

#include <connpipe/error.h>
#include <connpipe/loop.h>

#include <jansson.h>

struct admin;
struct admin_call; /* one command, until it is answered; survives its client's leaving */

/** What the main task does. Each answers its call once with admin_answer(), now or later. */
struct admin_ops {
	void (*status)(struct admin_call *call, void *arg);
	void (*pipes)(struct admin_call *call, void *arg);
	void (*kill)(struct admin_call *call, uint64_t id, void *arg);
	void (*reload)(struct admin_call *call, void *arg);
	void (*drain)(struct admin_call *call, void *arg);
	void (*log)(struct admin_call *call, const char *level, void *arg);
};

/** Listen on a unix socket: mode 0600, an old socket file that nobody listens on is replaced, one in use is an error.
 * @param path  absolute; its directory is made (0700) if it is not there */
struct admin *admin_new(struct cp_loop *loop, const char *path, const struct admin_ops *ops, void *arg,
						struct cp_error *error);
/** Close the socket, remove its file, drop the clients (after what was answered is written, bounded). */
void admin_free(struct admin *admin);

/** Answer; takes `result` (an object; "ok" is set by it if missing). */
void admin_answer(struct admin_call *call, json_t *result);
void admin_answer_error(struct admin_call *call, const char *format, ...) CP_PRINTF(2, 3);

#endif
