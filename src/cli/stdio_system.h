/** The system behind `connpipe connect`: a connector `stdio:` that can be bound, and then accepts one connection,
 * whose stream is descriptors 0 and 1. It takes them over: when it is open, 0 and 1 are /dev/null. */
#ifndef CLI_STDIO_SYSTEM_H
#define CLI_STDIO_SYSTEM_H

#include <connpipe/system.h>

#define STDIO_ADDRESS "stdio:"

extern const struct cp_system_def stdio_system;

/** The stream. Also for tests. @return NULL with `error` filled */
struct cp_stream *stdio_stream_new(struct cp_loop *loop, int in, int out, struct cp_system *owner,
								   struct cp_error *error);

#endif
