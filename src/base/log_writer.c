/* The thread that writes the log: see log_writer.h. */
#include "log_writer.h"
#include "log_format.h"
#include "log_queue.h"
#include "memory.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum {
	GATHER_MS = 10,      /* pause between two batches */
	STOP_MS = 1000,      /* for writing what is left */
	STOP_GRACE_MS = 200, /* beyond that, for the thread to end */
};

struct log_writer {
	pthread_t thread;
	int wake_fd;  /* eventfd: lines for a sleeping writer, another sink, stop */
	int ended_fd; /* eventfd: the thread is about to return */
	const atomic_bool *json;
	struct log_sink *_Atomic next; /* another sink, until the thread takes it */
	_Atomic int64_t stop_at;       /* monotonic milliseconds; 0: go on */
	atomic_bool abandoned;         /* the thread must not touch the queue any more */

	/* The thread's own: */
	struct log_sink *sink;
	struct log_batch batch;
	bool broken;       /* the sink ends in the beginning of a line whose rest was lost */
	uint64_t untold;   /* lines lost that no line has told about */
	int untold_errnum; /* why; 0: they came too fast */
};

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static bool is_stopping(struct log_writer *writer)
{
	return atomic_load(&writer->stop_at) != 0;
}

/* ---- Waiting ------------------------------------------------------------------------------------------------ */

/* How long poll() may wait: -1 for ever, less and less when stopping. */
static int patience(struct log_writer *writer)
{
	int64_t stop_at = atomic_load(&writer->stop_at), left;

	if (stop_at == 0)
		return -1;
	left = stop_at - now_ms();
	return left > 0 ? (int)left : 0;
}

/* Wait until something wakes the writer or the sink (fd -1: none) can be written. @return false after `ms` in vain */
static bool wait_for(struct log_writer *writer, int fd, int ms)
{
	struct pollfd fds[] = {{.fd = writer->wake_fd, .events = POLLIN}, {.fd = fd, .events = POLLOUT}};
	eventfd_t count;
	int ready = poll(fds, 2, ms);

	if (fds[0].revents)
		eventfd_read(writer->wake_fd, &count);
	return ready != 0;
}

/* Take over the sink that was set, if one was. */
static bool change_sink(struct log_writer *writer)
{
	struct log_sink *next = atomic_exchange(&writer->next, NULL);

	if (!next)
		return false;
	log_sink_free(writer->sink);
	writer->sink = next;
	writer->broken = false;
	return true;
}

/* ---- Writing ------------------------------------------------------------------------------------------------ */

/* Bytes up to the end of the line that `bytes` is in, newline included. */
static size_t rest_of_line(const char *bytes, size_t length)
{
	const char *newline = memchr(bytes, '\n', length);

	return newline ? (size_t)(newline - bytes) + 1 : length;
}

static bool is_mid_line(const char *bytes, size_t written)
{
	return written > 0 && bytes[written - 1] != '\n';
}

static uint64_t count_lines(const char *bytes, size_t length)
{
	uint64_t lines = 0;

	for (size_t done = 0; done < length; lines++)
		done += rest_of_line(bytes + done, length - done);
	return lines;
}

static void lose(struct log_writer *writer, uint64_t lines, int errnum)
{
	writer->untold += lines;
	writer->untold_errnum = errnum;
	log_lost_add(lines);
}

/* The sink has no room. @return false when it is not worth waiting any longer */
static bool wait_for_room(struct log_writer *writer)
{
	return wait_for(writer, writer->sink->fd, patience(writer));
}

/* One write, behind the end of a line. */
static ssize_t write_some(struct log_writer *writer, const char *bytes, size_t length)
{
	ssize_t n;

	if (writer->broken) {
		n = log_sink_write(writer->sink, "\n", 1);
		if (n < 0)
			return n;
		writer->broken = false;
	}
	return log_sink_write(writer->sink, bytes, length);
}

/* Write whole lines; with a new sink, go on at the next line.
 * @param written  how far it came
 * @return 0, or why it went no further: an errno value */
static int write_bytes(struct log_writer *writer, const char *bytes, size_t length, size_t *written)
{
	for (*written = 0; *written < length;) {
		ssize_t n = write_some(writer, bytes + *written, length - *written);

		if (n >= 0) {
			*written += (size_t)n;
			continue;
		}
		if (errno != EAGAIN)
			return errno;
		if (!wait_for_room(writer))
			return ETIMEDOUT;
		if (change_sink(writer) && is_mid_line(bytes, *written)) {
			*written += rest_of_line(bytes + *written, length - *written);
			lose(writer, 1, 0);
		}
	}
	return 0;
}

/* Write whole lines. @return how many could not be written; then *errnum says why */
static uint64_t write_lines(struct log_writer *writer, const char *bytes, size_t length, int *errnum)
{
	size_t written;

	*errnum = write_bytes(writer, bytes, length, &written);
	if (*errnum == 0)
		return 0;
	if (written > 0)
		writer->broken = is_mid_line(bytes, written);
	return count_lines(bytes + written, length - written);
}

/* Say how many lines are missing here. */
static void tell_lost(struct log_writer *writer)
{
	static const struct log_origin origin = {.who = "log"};
	uint64_t lines = writer->untold;
	char message[256], line[LOG_LINE_MAX];
	int length, errnum;

	if (lines == 0)
		return;
	length = snprintf(message, sizeof(message), "%" PRIu64 " line%s lost here: %s", lines, lines == 1 ? "" : "s",
					  writer->untold_errnum ? strerror(writer->untold_errnum)
											: "the log was not written as fast as lines came");
	length = (int)log_format(line, atomic_load(writer->json), CP_WARN, &origin, message, (size_t)length);
	if (write_lines(writer, line, (size_t)length, &errnum) == 0)
		writer->untold -= lines;
}

static void write_batch(struct log_writer *writer)
{
	struct log_batch *batch = &writer->batch;
	uint64_t lines;
	int errnum;

	tell_lost(writer);
	lines = write_lines(writer, batch->bytes, batch->length, &errnum);
	if (lines > 0)
		lose(writer, lines, errnum);
	if (batch->dropped == 0)
		return;
	writer->untold += batch->dropped;
	if (lines == 0) {
		writer->untold_errnum = 0;
		tell_lost(writer);
	}
}

/* ---- The thread --------------------------------------------------------------------------------------------- */

/* Lines that come while the writer pauses are written together. */
static void gather(struct log_writer *writer)
{
	if (!is_stopping(writer) && log_queue_pause())
		wait_for(writer, -1, GATHER_MS);
}

static void *run(void *arg)
{
	struct log_writer *writer = arg;

	while (!atomic_load(&writer->abandoned)) {
		/* Before looking into the queue, which is closed before the writer is told to stop: then it is empty for good
		 * when there is nothing in it. */
		bool stopping = is_stopping(writer);
		bool something = log_queue_take(&writer->batch);

		/* After looking into it: a line that was logged after the change must not go to the old sink. */
		change_sink(writer);
		if (something) {
			write_batch(writer);
			gather(writer);
		} else if (stopping) {
			tell_lost(writer);
			break;
		} else {
			wait_for(writer, -1, -1);
		}
	}
	eventfd_write(writer->ended_fd, 1);
	return NULL;
}

/* All signals are for other threads. */
static int start_thread(struct log_writer *writer)
{
	sigset_t all, before;
	int errnum;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	errnum = pthread_create(&writer->thread, NULL, run, writer);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (errnum == 0)
		pthread_setname_np(writer->thread, "log");
	return errnum;
}

/* Free all but the sink that is written to. */
static void writer_free(struct log_writer *writer)
{
	log_sink_free(atomic_load(&writer->next));
	if (writer->wake_fd >= 0)
		close(writer->wake_fd);
	if (writer->ended_fd >= 0)
		close(writer->ended_fd);
	free(writer->batch.bytes);
	free(writer);
}

/* @return 0 or an errno value */
static int open_and_start(struct log_writer *writer)
{
	int errnum;

	writer->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	writer->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (writer->wake_fd < 0 || writer->ended_fd < 0)
		return errno;
	log_queue_open(writer->wake_fd);
	errnum = start_thread(writer);
	if (errnum != 0)
		log_queue_close();
	return errnum;
}

struct log_writer *log_writer_start(struct log_sink *sink, const atomic_bool *json, struct cp_error *error)
{
	struct log_writer *writer = xcalloc(1, sizeof(*writer));
	int errnum;

	writer->sink = sink;
	writer->json = json;
	errnum = open_and_start(writer);
	if (errnum == 0)
		return writer;
	writer_free(writer);
	cp_error_set(error, cp_err_from_errno(errnum), NULL, "cannot start the log's thread: %s", strerror(errnum));
	return NULL;
}

void log_writer_set_sink(struct log_writer *writer, struct log_sink *sink)
{
	log_sink_free(atomic_exchange(&writer->next, sink));
	eventfd_write(writer->wake_fd, 1);
}

/* Wait for the thread to come to its end. A descriptor and not pthread_clockjoin_np(), which the thread sanitizer does
 * not know. */
static bool join_within(struct log_writer *writer, int ms)
{
	struct pollfd ended = {.fd = writer->ended_fd, .events = POLLIN};
	int64_t until = now_ms() + ms;
	int ready;

	do
		ready = poll(&ended, 1, ms);
	while (ready < 0 && (ms = (int)(until - now_ms())) > 0); /* a signal */
	return ready > 0 && pthread_join(writer->thread, NULL) == 0;
}

void log_writer_stop(struct log_writer *writer)
{
	log_queue_close();
	atomic_store(&writer->stop_at, now_ms() + STOP_MS);
	eventfd_write(writer->wake_fd, 1);
	if (join_within(writer, STOP_MS + STOP_GRACE_MS)) {
		log_sink_free(writer->sink);
		writer_free(writer);
		return;
	}
	/* It sits in a write that does not return. Killing it there would gain nothing over leaving it: either ends with
	 * the process. */
	atomic_store(&writer->abandoned, true);
	pthread_detach(writer->thread);
}
