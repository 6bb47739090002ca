/** The queue between those who log and the thread that writes: two buffers, one being filled by everybody, one being
 * written, and swapped under a lock that is held for a copy of a line. Bounded: what does not fit is dropped.
 *
 * One object for the process. The writer is not woken for every line: only when it sleeps, or when a line is urgent
 * or the buffer half full while it lets lines gather. */
#ifndef BASE_LOG_QUEUE_H
#define BASE_LOG_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LOG_BUFFER = 512 * 1024 }; /* bytes of each buffer */

/** What the writer takes at once. The memory is the writer's until it takes the next. */
struct log_batch {
	char *bytes; /* LOG_BUFFER of them; NULL before the first */
	size_t length;
	uint64_t dropped; /* lines that did not fit behind these; counted already */
};

/** Lines lost in this process, for whatever reason. Thread: any. */
uint64_t log_lost(void);
void log_lost_add(uint64_t lines);

/** Let lines in. @param wake_fd  an eventfd that wakes the writer; borrowed until log_queue_close() */
void log_queue_open(int wake_fd);
/** No more lines. What is in stays, to be taken. */
void log_queue_close(void);

/** Thread: any. @param urgent  do not let it wait for others
 * @return false when the queue is closed. A line that does not fit is dropped: true */
bool log_queue_push(const char *line, size_t length, bool urgent);

/** Swap buffers. Thread: the writer.
 * @param batch  gives back the buffer of the last time
 * @return false, and the next line wakes the writer, when there is nothing */
bool log_queue_take(struct log_batch *batch);
/** The writer wants to pause for a moment, so that lines gather: from now on only an urgent line, or many, wake it.
 * @return false when there is such a line already. Thread: the writer */
bool log_queue_pause(void);

#endif
