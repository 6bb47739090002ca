/* Log: what programs call. A line is built by the thread that logs it (log_format.c), queued (log_queue.c) and written
 * by a thread of the log's own (log_writer.c, log_sink.c). See log.h and connpipe/log.h. */
#include "log.h"
#include "log_format.h"
#include "log_queue.h"
#include "log_writer.h"
#include "memory.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { DIRECT_WAIT_MS = 1000 }; /* how long a line without a writer thread may wait for stderr */

/* What cp_log_enabled() looks at; anybody reads them. */
static atomic_int enabled = CP_WARN; /* the highest level that is written now */
static atomic_bool json;

/* The main task's. */
static struct {
	struct log_writer *writer; /* NULL: not started, or stopped */
	enum cp_level level;       /* as it was set; without a writer only what is up to CP_WARN counts */
	char *file;
} state = {.level = CP_INFO};

static void apply_level(void)
{
	bool all = state.writer || state.level < CP_WARN;

	atomic_store_explicit(&enabled, all ? state.level : CP_WARN, memory_order_relaxed);
}

/* ---- Logging ------------------------------------------------------------------------------------------------ */

bool cp_log_enabled(enum cp_level level)
{
	return (int)level <= atomic_load_explicit(&enabled, memory_order_relaxed);
}

/* Without a writer: straight to stderr. A stderr that nobody reads costs the line, not the program. */
static void write_direct(const char *line, size_t length)
{
	struct pollfd fd = {.fd = STDERR_FILENO, .events = POLLOUT};

	if (poll(&fd, 1, DIRECT_WAIT_MS) <= 0 || write(STDERR_FILENO, line, length) < 0)
		log_lost_add(1);
}

CP_PRINTF(3, 0)
static void log_line(enum cp_level level, const struct log_origin *origin, const char *format, va_list arguments)
{
	char message[LOG_MESSAGE_MAX], line[LOG_LINE_MAX];
	int errnum = errno, length;
	size_t line_length;

	length = vsnprintf(message, sizeof(message), format, arguments);
	if (length < 0)
		length = snprintf(message, sizeof(message), "(a message that cannot be formatted: %s)", format);
	if ((size_t)length >= sizeof(message))
		length = (int)sizeof(message) - 1;
	line_length =
		log_format(line, atomic_load_explicit(&json, memory_order_relaxed), level, origin, message, (size_t)length);
	if (!log_queue_push(line, line_length, level <= CP_WARN) && level <= CP_WARN)
		write_direct(line, line_length);
	errno = errnum;
}

void cp_log(enum cp_level level, const char *who, const char *format, ...)
{
	const struct log_origin origin = {.who = who};
	va_list arguments;

	if (!cp_log_enabled(level))
		return;
	va_start(arguments, format);
	log_line(level, &origin, format, arguments);
	va_end(arguments);
}

void cp_log_task(enum cp_level level, const char *type, uint64_t id, const char *format, ...)
{
	const struct log_origin origin = {.who = type, .is_task = true, .id = id};
	va_list arguments;

	if (!cp_log_enabled(level))
		return;
	va_start(arguments, format);
	log_line(level, &origin, format, arguments);
	va_end(arguments);
}

/* ---- Starting, changing, stopping --------------------------------------------------------------------------- */

void log_set_level(enum cp_level level)
{
	state.level = level;
	apply_level();
}

enum cp_level log_get_level(void)
{
	return state.level;
}

uint64_t log_dropped(void)
{
	return log_lost();
}

static void set_file(const char *file)
{
	char *copy = xstrdup(file);

	free(state.file);
	state.file = copy;
}

static void apply(const struct log_settings *settings)
{
	atomic_store(&json, settings->json);
	log_set_level(settings->level);
}

int log_start(const struct log_settings *settings, struct cp_error *error)
{
	const char *file = settings->file;
	struct log_sink *sink;
	int result = CP_OK;

	if (state.writer)
		return log_change(settings, error);
	tzset(); /* localtime_r() need not look at TZ */
	sink = log_sink_new(file, error);
	if (!sink) {
		result = error ? (int)error->code : CP_EIO;
		file = "stderr";
		sink = log_sink_new(file, NULL);
	}
	state.writer = log_writer_start(sink, &json, result == CP_OK ? error : NULL);
	if (!state.writer) {
		log_sink_free(sink);
		result = result != CP_OK ? result : error ? (int)error->code : CP_EIO;
	} else {
		set_file(file);
	}
	apply(settings);
	return result;
}

int log_change(const struct log_settings *settings, struct cp_error *error)
{
	struct log_sink *sink;

	if (!state.writer)
		return log_start(settings, error);
	sink = log_sink_new(settings->file, error);
	if (!sink)
		return error ? (int)error->code : CP_EIO;
	set_file(settings->file);
	apply(settings);
	log_writer_set_sink(state.writer, sink);
	return CP_OK;
}

void log_reopen(void)
{
	struct cp_error error;
	struct log_sink *sink;

	if (!state.writer)
		return;
	sink = log_sink_new(state.file, &error);
	if (sink)
		log_writer_set_sink(state.writer, sink);
	else
		cp_log(CP_WARN, "log", "%s: %s; going on with the earlier file", error.where, error.message);
}

void log_stop(void)
{
	struct log_writer *writer = state.writer;

	if (!writer)
		return;
	state.writer = NULL;
	apply_level();
	log_writer_stop(writer);
	free(state.file);
	state.file = NULL;
}
