/** The thread that writes the log: takes batches from the queue and writes each with as few calls as it takes. See
 * log_queue.h for its input, log_sink.h for its output.
 *
 * Under load it writes about a hundred times a second, however many lines there are; a line in silence is written at
 * once. What cannot be written (a full disk, a reader that is gone) is lost and counted; as soon as writing works again
 * a line says how many. A sink that is stuck holds up nobody but this thread. */
#ifndef BASE_LOG_WRITER_H
#define BASE_LOG_WRITER_H

#include "log_sink.h"

#include <stdatomic.h>

struct log_writer;

/** Open the queue and start the thread. It has all signals blocked.
 * @param sink  taken if it succeeds
 * @param json  the form of its own lines; read whenever there is one, lives as long as the process
 * @return NULL with `error` filled */
struct log_writer *log_writer_start(struct log_sink *sink, const atomic_bool *json, struct cp_error *error);

/** Write to another sink from the next line on. Lines queued already may go to either. Takes `sink`. */
void log_writer_set_sink(struct log_writer *writer, struct log_sink *sink);

/** Close the queue, write what is in it for a second at most, end the thread, free the writer. A thread that hangs in
 * the kernel even so is left behind, with the writer's memory. */
void log_writer_stop(struct log_writer *writer);

#endif
