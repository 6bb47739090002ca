/* The log as a whole: levels, files, rotation, sinks that are stuck or full, threads, stopping. */
#include "base/log.h"
#include "base/log_sink.h"
#include "base/log_writer.h"
#include "base/report.h"

#include <criterion/criterion.h>

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char directory[64], path[96];

static void make_directory(void)
{
	strcpy(directory, "/tmp/connpipe-log-XXXXXX");
	cr_assert_not_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/log", directory);
	signal(SIGPIPE, SIG_IGN);
}

static void remove_directory(void)
{
	char other[128];

	log_stop();
	snprintf(other, sizeof(other), "%s.1", path);
	unlink(other);
	unlink(path);
	rmdir(directory);
}

TestSuite(log, .init = make_directory, .fini = remove_directory, .timeout = 60);

static void start(const char *file, enum cp_level level)
{
	struct log_settings settings = {.level = level, .file = file};
	struct cp_error error;

	cr_assert_eq(log_start(&settings, &error), CP_OK);
}

/* All of a file, for free(). */
static char *contents(const char *name)
{
	FILE *file = fopen(name, "r");
	char *text = NULL;
	size_t room = 0;

	cr_assert(file, "%s: %s", name, strerror(errno));
	if (getdelim(&text, &room, '\0', file) < 0) {
		free(text);
		text = strdup("");
	}
	fclose(file);
	return text;
}

/* The file's messages, each behind its `LEVEL who] `, with `|` between them. */
static const char *messages(const char *name)
{
	static char joined[4096];
	char *text = contents(name), *rest = text, *line;

	joined[0] = '\0';
	while ((line = strsep(&rest, "\n")) && *line)
		snprintf(joined + strlen(joined), sizeof(joined) - strlen(joined), "%s%s", joined[0] ? "|" : "", line + 25);
	free(text);
	return joined;
}

/* Wait until a file that exists has at least `size` bytes. */
static void await_size(const char *name, off_t size)
{
	int fd = inotify_init1(IN_CLOEXEC);
	char events[4096];
	struct stat stat_now;

	cr_assert_geq(inotify_add_watch(fd, name, IN_MODIFY), 0);
	while (stat(name, &stat_now) == 0 && stat_now.st_size < size)
		cr_assert_gt(read(fd, events, sizeof(events)), 0);
	close(fd);
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- Without a writer --------------------------------------------------------------------------------------- */

/* Put something else in the place of stderr. */
static void replace_stderr(int fd)
{
	dup2(fd, STDERR_FILENO);
	close(fd);
}

static void read_line(int fd, char *line, size_t room)
{
	size_t length = 0;

	do
		cr_assert_eq(read(fd, line + length, 1), 1);
	while (line[length++] != '\n' && length < room - 1);
	line[length] = '\0';
}

Test(log, before_start_warnings_and_errors_go_to_stderr)
{
	char line[200];
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	replace_stderr(fds[1]);
	log_set_level(CP_TRACE);
	cr_assert_not(cp_log_enabled(CP_INFO));
	cp_log(CP_INFO, "base", "not this");
	cp_log(CP_WARN, "base", "but this %d", 1);
	cp_log_task(CP_ERROR, "pipe", 7, "and this");
	read_line(fds[0], line, sizeof(line));
	cr_assert_str_eq(line + 25, "WARN base] but this 1\n");
	read_line(fds[0], line, sizeof(line));
	cr_assert_str_eq(line + 25, "ERROR pipe/7] and this\n");
}

Test(log, after_stop_too)
{
	char line[200];
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	replace_stderr(fds[1]);
	start(path, CP_DEBUG);
	cp_log(CP_INFO, "base", "to the file");
	log_stop();
	cr_assert_str_eq(messages(path), "INFO base] to the file");
	cp_log(CP_INFO, "base", "not this");
	cp_log(CP_ERROR, "base", "to stderr");
	read_line(fds[0], line, sizeof(line));
	cr_assert_str_eq(line + 25, "ERROR base] to stderr\n");
}

/* ---- Levels, settings, files -------------------------------------------------------------------------------- */

Test(log, writes_up_to_its_level)
{
	start(path, CP_INFO);
	cr_assert(cp_log_enabled(CP_INFO));
	cr_assert_not(cp_log_enabled(CP_DEBUG));
	cp_log(CP_DEBUG, "a", "not this");
	cp_log(CP_INFO, "a", "1");
	log_set_level(CP_TRACE);
	cr_assert_eq(log_get_level(), CP_TRACE);
	cp_log(CP_TRACE, "a", "2");
	log_set_level(CP_ERROR);
	cp_log(CP_WARN, "a", "nor this");
	cp_log_task(CP_ERROR, "conn", 3, "3");
	log_stop();
	cr_assert_str_eq(messages(path), "INFO a] 1|TRACE a] 2|ERROR conn/3] 3");
	cr_assert_not(cp_log_enabled(CP_WARN));
}

Test(log, errno_stays_and_can_be_written)
{
	start(path, CP_INFO);
	errno = ENOENT;
	cp_log(CP_INFO, "a", "open: %m");
	cr_assert_eq(errno, ENOENT);
	log_stop();
	cr_assert_str_eq(messages(path), "INFO a] open: No such file or directory");
}

Test(log, appends_and_is_not_for_others)
{
	struct stat stat_now;

	umask(0);
	start(path, CP_INFO);
	cp_log(CP_INFO, "a", "1");
	log_stop();
	start(path, CP_INFO);
	cp_log(CP_INFO, "a", "2");
	log_stop();
	cr_assert_str_eq(messages(path), "INFO a] 1|INFO a] 2");
	cr_assert_eq(stat(path, &stat_now), 0);
	cr_assert_eq(stat_now.st_mode & 0777, 0640);
}

Test(log, change_goes_on_in_another_file_and_form)
{
	struct log_settings settings = {.level = CP_DEBUG, .json = true};
	char other[128], *text;

	snprintf(other, sizeof(other), "%s.1", path);
	settings.file = other;
	start(path, CP_INFO);
	cp_log(CP_INFO, "a", "1");
	await_size(path, 20);
	cr_assert_eq(log_change(&settings, NULL), CP_OK);
	cp_log(CP_DEBUG, "a", "2");
	log_stop();
	cr_assert_str_eq(messages(path), "INFO a] 1");
	text = contents(other);
	cr_assert(strstr(text, "\"level\":\"DEBUG\",\"module\":\"a\",\"message\":\"2\"}\n"), "%s", text);
	free(text);
}

Test(log, a_change_that_fails_changes_nothing)
{
	struct log_settings settings = {.level = CP_TRACE, .json = true, .file = "/nowhere/at/all"};
	struct cp_error error;

	start(path, CP_INFO);
	cr_assert_eq(log_change(&settings, &error), CP_ENOTFOUND);
	cr_assert_str_eq(error.where, "/nowhere/at/all");
	cr_assert_str_eq(error.message, "cannot open the log: No such file or directory");
	cp_log(CP_TRACE, "a", "not this");
	cp_log(CP_INFO, "a", "1");
	log_stop();
	cr_assert_str_eq(messages(path), "INFO a] 1");
}

Test(log, start_that_fails_writes_to_stderr)
{
	struct log_settings settings = {.level = CP_INFO, .file = "/nowhere/at/all"};
	struct cp_error error;
	char line[200];
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	replace_stderr(fds[1]);
	cr_assert_eq(log_start(&settings, &error), CP_ENOTFOUND);
	cp_log(CP_INFO, "a", "here");
	read_line(fds[0], line, sizeof(line));
	cr_assert_str_eq(line + 25, "INFO a] here\n");
}

Test(log, reopen_after_rotation)
{
	char other[128];

	snprintf(other, sizeof(other), "%s.1", path);
	start(path, CP_INFO);
	cp_log(CP_INFO, "a", "old");
	await_size(path, 20);
	cr_assert_eq(rename(path, other), 0);
	log_reopen();
	cp_log(CP_INFO, "a", "new");
	log_stop();
	cr_assert_str_eq(messages(other), "INFO a] old");
	cr_assert_str_eq(messages(path), "INFO a] new");
}

Test(log, reopen_that_fails_keeps_the_file)
{
	char moved[128], text[512];

	snprintf(moved, sizeof(moved), "%s.moved", directory);
	start(path, CP_INFO);
	cr_assert_eq(rename(directory, moved), 0);
	log_reopen();
	log_stop();
	cr_assert_eq(rename(moved, directory), 0);
	snprintf(text, sizeof(text),
			 "WARN log] %s: cannot open the log: No such file or directory; going on with the earlier file", path);
	cr_assert_str_eq(messages(path), text);
}

Test(log, report_is_one_error_a_line)
{
	struct report report = {0};

	start(path, CP_ERROR);
	report_add(&report, "config.toml:1:2", "bad\nthing");
	report_add(&report, "", "no place");
	report_log(&report, "config");
	report_deinit(&report);
	log_stop();
	cr_assert_str_eq(messages(path), "ERROR config] config.toml:1:2: bad\\x0athing|ERROR config] no place");
}

/* ---- Sinks that are stuck ----------------------------------------------------------------------------------- */

/* Log until lines are lost. @return how many were logged, numbered from 1 */
static unsigned log_until_lost(void)
{
	unsigned count = 0;

	while (log_dropped() == 0)
		cp_log(CP_INFO, "a", "line %u", ++count);
	return count;
}

/* Read lines up to the one that tells of lost ones: all lines logged must be accounted for, in order. */
static void check_recovery(int fd, unsigned logged)
{
	FILE *file = fdopen(fd, "r");
	unsigned expected = 1, number, lost = 0;
	char line[200];

	while (lost == 0) {
		cr_assert_not_null(fgets(line, sizeof(line), file));
		if (sscanf(line + 25, "INFO a] line %u", &number) == 1)
			cr_assert_eq(number, expected++, "%s", line);
		else
			cr_assert_eq(sscanf(line + 25, "WARN log] %u line", &lost), 1, "%s", line);
	}
	cr_assert(strstr(line, " lost here: the log was not written as fast as lines came\n"), "%s", line);
	cr_assert_eq(expected - 1 + lost, logged);
	cr_assert_eq(log_dropped(), lost);
	fclose(file);
}

Test(log, a_pipe_that_nobody_reads_costs_lines_and_recovers)
{
	unsigned logged;
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	replace_stderr(fds[1]);
	start("stderr", CP_INFO);
	logged = log_until_lost();
	check_recovery(fds[0], logged);
}

Test(log, a_socket_that_nobody_reads_costs_lines_and_recovers)
{
	unsigned logged;
	int fds[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	replace_stderr(fds[1]);
	start("stderr", CP_INFO);
	logged = log_until_lost();
	check_recovery(fds[0], logged);
}

/* Whoever shares stderr with us would be surprised. */
Test(log, stderr_stays_blocking)
{
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	replace_stderr(fds[1]);
	start("stderr", CP_INFO);
	log_until_lost();
	cr_assert_eq(fcntl(STDERR_FILENO, F_GETFL) & O_NONBLOCK, 0);
}

/* Count lines in `file`; each has the number that follows *next, but for one at most that was cut in two. */
static unsigned count_lines(FILE *file, unsigned *next, unsigned *cut)
{
	unsigned number, lines = 0;
	char line[200];

	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line + 25, "INFO a] line %u\n", &number) != 1 || !strchr(line, '\n'))
			continue;
		*cut += number - *next;
		*next = number + 1;
		lines++;
	}
	cr_assert_leq(*cut, 1);
	fclose(file);
	return lines;
}

/* What the stuck sink has taken stays there; the other file begins at the next line. */
static void check_change_while_stuck(int read_fd, int write_fd)
{
	struct log_settings settings = {.level = CP_INFO, .file = path};
	struct pollfd readable = {.fd = read_fd, .events = POLLIN};
	unsigned logged, next = 0, cut = 0, in_sink, in_file;

	replace_stderr(write_fd);
	start("stderr", CP_INFO);
	cp_log(CP_INFO, "a", "line 0"); /* or all of it might go to the other file */
	cr_assert_eq(poll(&readable, 1, -1), 1);
	logged = log_until_lost();
	cr_assert_eq(log_change(&settings, NULL), CP_OK);
	log_stop();
	close(STDERR_FILENO);
	in_sink = count_lines(fdopen(read_fd, "r"), &next, &cut);
	in_file = count_lines(fopen(path, "r"), &next, &cut);
	cr_assert(in_sink > 0 && in_file > 0, "%u and %u lines", in_sink, in_file);
	cr_assert_eq(in_sink + in_file + log_dropped(), logged + 1);
}

Test(log, change_leaves_a_stuck_pipe_at_a_line)
{
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	check_change_while_stuck(fds[0], fds[1]);
}

Test(log, change_leaves_a_stuck_socket_at_a_line)
{
	int fds[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	check_change_while_stuck(fds[0], fds[1]);
}

Test(log, stop_with_a_stuck_pipe_takes_about_a_second)
{
	int64_t begin, took;
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	replace_stderr(fds[1]);
	start("stderr", CP_INFO);
	log_until_lost();
	begin = now_ms();
	log_stop();
	took = now_ms() - begin;
	cr_assert(took >= 900 && took < 5000, "%d ms", (int)took);
}

/* A pipe that is not opened anew, so that the thread hangs in write(): it is left behind. */
Test(log, stop_leaves_a_thread_that_hangs)
{
	static atomic_bool json;
	static struct log_sink sink; /* for as long as the thread may use it */
	struct log_writer *writer;
	struct pollfd full;
	int fds[2];
	int64_t begin, took;

	cr_assert_eq(pipe(fds), 0);
	sink.fd = fds[1];
	log_set_level(CP_WARN);
	writer = log_writer_start(&sink, &json, NULL);
	cr_assert_not_null(writer);
	full = (struct pollfd){.fd = fds[1], .events = POLLOUT};
	while (poll(&full, 1, 0) > 0)
		cp_log(CP_WARN, "a", "until the pipe is full");
	cp_log(CP_WARN, "a", "%05000d", 0);
	begin = now_ms();
	log_writer_stop(writer);
	took = now_ms() - begin;
	cr_assert(took >= 900 && took < 5000, "%d ms", (int)took);
}

/* What a terminal of somebody else, or a pipe under another user, is written through. */
Test(log, a_sink_that_waits_is_written_in_small_pieces)
{
	struct log_sink sink = {.waits = true, .name = (char *)"a pipe"};
	static char bytes[100000];
	size_t total = 0;
	ssize_t n;
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	sink.fd = fds[1];
	while ((n = log_sink_write(&sink, bytes, sizeof(bytes))) > 0)
		total += (size_t)n;
	cr_assert_eq(errno, EAGAIN);
	cr_assert_eq(total, (size_t)fcntl(fds[1], F_GETPIPE_SZ));
	cr_assert_eq(read(fds[0], bytes, sizeof(bytes)), (ssize_t)total);
	cr_assert_gt(log_sink_write(&sink, bytes, 1), 0);
}

/* ---- Sinks that refuse -------------------------------------------------------------------------------------- */

static void await_lost(uint64_t lines)
{
	while (log_dropped() < lines)
		sched_yield();
}

Test(log, a_reader_that_is_gone_costs_lines_only)
{
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	replace_stderr(fds[1]);
	start("stderr", CP_INFO);
	close(fds[0]);
	signal(SIGPIPE, SIG_DFL); /* the thread does not need it ignored */
	cp_log(CP_INFO, "a", "1");
	await_lost(1);
	cp_log(CP_INFO, "a", "2");
	log_stop();
	cr_assert_eq(log_dropped(), 2);
}

Test(log, a_closed_stderr_costs_lines_only)
{
	close(STDERR_FILENO);
	start("stderr", CP_INFO);
	cp_log(CP_INFO, "a", "1");
	log_stop();
	cr_assert_eq(log_dropped(), 1);
}

/* A descriptor that gets number 2 later has nothing to do with the log. */
Test(log, stderr_closed_later_is_still_written_to)
{
	char line[200];
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	replace_stderr(fds[1]);
	start("stderr", CP_INFO);
	close(STDERR_FILENO);
	cp_log(CP_INFO, "a", "1");
	read_line(fds[0], line, sizeof(line));
	cr_assert_str_eq(line + 25, "INFO a] 1\n");
}

Test(log, a_full_disk_is_told_about_when_there_is_room_again)
{
	struct log_settings settings = {.level = CP_INFO, .file = path};

	start("/dev/full", CP_INFO);
	cp_log(CP_INFO, "a", "1");
	cp_log(CP_INFO, "a", "2");
	await_lost(2);
	cr_assert_eq(log_change(&settings, NULL), CP_OK);
	cp_log(CP_INFO, "a", "3");
	log_stop();
	cr_assert_str_eq(messages(path), "WARN log] 2 lines lost here: No space left on device|INFO a] 3");
	cr_assert_eq(log_dropped(), 2);
}

/* The limit on the size of files cuts a line in two, as a disk that runs full does. */
Test(log, a_line_cut_in_two_does_not_spoil_the_next)
{
	struct rlimit limit;
	char *text, line[100];

	getrlimit(RLIMIT_FSIZE, &limit);
	start(path, CP_INFO);
	cp_log(CP_INFO, "a", "1");
	await_size(path, 20);
	limit.rlim_cur = 60;
	setrlimit(RLIMIT_FSIZE, &limit);
	cp_log(CP_INFO, "a", "this line is cut");
	await_lost(1);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_FSIZE, &limit);
	cp_log(CP_INFO, "a", "2");
	log_stop();
	text = contents(path);
	cr_assert_eq(sscanf(text + 61, "%99[^\n]", line), 1);
	cr_assert_eq(text[60], '\n');
	cr_assert_str_eq(line + 25, "WARN log] 1 line lost here: File too large");
	cr_assert(strstr(text, "INFO a] 2\n"), "%s", text);
	cr_assert_eq(log_dropped(), 1);
	free(text);
}

/* ---- Threads ------------------------------------------------------------------------------------------------ */

enum { THREADS = 4, LINES = 3000 };

static void *log_lines(void *arg)
{
	for (unsigned i = 0; i < LINES; i++)
		cp_log_task(CP_INFO, "thread", (uint64_t)(uintptr_t)arg, "line %u", i);
	return NULL;
}

/* Lines of several threads are whole, each thread's in order, and those that are not there are counted. */
Test(log, many_threads_at_once)
{
	pthread_t threads[THREADS];
	unsigned next[THREADS] = {0}, lines = 0, id, number;
	char line[200];
	FILE *file;

	start(path, CP_INFO);
	for (uintptr_t i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, log_lines, (void *)i);
	for (int i = 0; i < 20; i++) {
		log_reopen();
		log_set_level(i % 2 ? CP_TRACE : CP_INFO);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	log_stop();
	file = fopen(path, "r");
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line + 25, "INFO thread/%u] line %u\n", &id, &number) != 2) {
			cr_assert(strstr(line, "WARN log] "), "%s", line);
			continue;
		}
		cr_assert(id < THREADS && number >= next[id], "%s", line);
		next[id] = number + 1;
		lines++;
	}
	fclose(file);
	cr_assert_eq(lines + log_dropped(), THREADS * LINES);
}

static atomic_bool stopped;

static void *log_until_stopped(void *arg)
{
	while (!atomic_load(&stopped))
		cp_log(CP_INFO, "a", "line");
	return arg;
}

/* Nothing breaks, hangs or is torn. */
Test(log, start_and_stop_while_others_log)
{
	char line[200];
	pthread_t thread;
	FILE *file;

	pthread_create(&thread, NULL, log_until_stopped, NULL);
	for (int i = 0; i < 20; i++) {
		start(path, CP_INFO);
		log_stop();
	}
	atomic_store(&stopped, true);
	pthread_join(thread, NULL);
	file = fopen(path, "r");
	while (fgets(line, sizeof(line), file))
		cr_assert(strcmp(line + 25, "INFO a] line\n") == 0 || strstr(line, "WARN log] "), "%s", line);
	fclose(file);
}

Test(log, stop_writes_what_came_just_before)
{
	enum { ROUNDS = 300 };
	unsigned lines = 0;
	char line[200];
	FILE *file;

	for (int i = 0; i < ROUNDS; i++) {
		start(path, CP_INFO);
		cp_log(CP_INFO, "a", "line");
		log_stop();
	}
	file = fopen(path, "r");
	while (fgets(line, sizeof(line), file))
		lines++;
	fclose(file);
	cr_assert_eq(lines, ROUNDS);
}

/* The signals that the log's thread blocks, from /proc. */
static unsigned long blocked_by_writer(void)
{
	unsigned long blocked = 0;
	char line[200];
	bool ours = false;
	glob_t tasks;

	cr_assert_eq(glob("/proc/self/task/*/status", 0, NULL, &tasks), 0);
	for (size_t i = 0; i < tasks.gl_pathc && !ours; i++) {
		FILE *file = fopen(tasks.gl_pathv[i], "r");

		while (file && fgets(line, sizeof(line), file)) {
			ours = ours || strcmp(line, "Name:\tlog\n") == 0;
			sscanf(line, "SigBlk: %lx", &blocked);
		}
		fclose(file);
	}
	globfree(&tasks);
	cr_assert(ours, "no thread of that name");
	return blocked;
}

Test(log, the_thread_takes_no_signals)
{
	static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGCHLD, SIGALRM, SIGXFSZ};
	unsigned long blocked;

	start(path, CP_INFO);
	cp_log(CP_INFO, "a", "1");
	await_size(path, 20); /* it runs: while a thread is made, all its signals are blocked anyway */
	blocked = blocked_by_writer();
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		cr_assert(blocked & 1ul << (signals[i] - 1), "%s", strsignal(signals[i]));
}
