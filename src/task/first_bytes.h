/** The client's first bytes: read before the way to a target is open, for the preamble, for routers that look at them,
 * and to be sent along with the connection to the target.
 *
 * As long as everything happens in one go they are in the loop's buffer; when something has to be waited for they move
 * to memory (first_keep). They belong to the pipe's setup. Thread: the worker's. */
#ifndef TASK_FIRST_BYTES_H
#define TASK_FIRST_BYTES_H

#include "pipe.h"

/** Read what the client has sent, and arm its stream. @return false when the client is gone: the pipe is closed */
bool first_read(struct pipe *pipe);
/** Something has to be waited for: the loop's buffer is for others now. */
void first_keep(struct pipe *pipe);
/** Have the client's stream call when there is more: not every stream says so by itself (CP_READ_DRAINED). */
void first_await(struct pipe *pipe);
/** Those behind a preamble. @return never NULL */
const char *first_bytes(const struct pipe_setup *setup, size_t *length);
/** Whether no more can come to them: they are a whole message, or the client has ended. */
bool first_complete(const struct pipe_setup *setup);
/** Let routers peek at them. */
void first_show(struct pipe_setup *setup);

#endif
