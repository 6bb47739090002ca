/** Where lines of the log go: stderr or a file, opened so that a write never holds up the writer for long.
 *
 * A write to a file does not wait for anyone. A pipe or a terminal may: it is opened a second time, non-blocking, so
 * that the setting does not show to others who share it; where that is not possible, writes are small and come only
 * after poll() has said that there is room. On sockets every send is told not to wait. */
#ifndef BASE_LOG_SINK_H
#define BASE_LOG_SINK_H

#include <connpipe/error.h>

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct log_sink {
	int fd;      /* its own; -1: there is none (stderr was closed): writing fails with EBADF */
	bool socket; /* send() */
	bool waits;  /* a write may block: write little, after poll() */
	char *name;  /* absolute path, or "stderr" */
};

/** Open a file for appending, making it (0640) if it is not there, or take stderr as it is now.
 * @param name  absolute path, or "stderr": that never fails
 * @return NULL with `error` filled. Freed with log_sink_free() */
struct log_sink *log_sink_new(const char *name, struct cp_error *error);
void log_sink_free(struct log_sink *sink);

/** One write of as much as goes without waiting.
 * @return bytes written, at least one; -1 with errno, EAGAIN if there is no room now */
ssize_t log_sink_write(const struct log_sink *sink, const char *bytes, size_t length);

#endif
