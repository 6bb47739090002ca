/* exec: children on a connection. */
#include "core_fixture.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

TestSuite(core_exec, .init = fixture_start, .fini = fixture_stop);

/** Run the loop until every child is reaped. */
static void run_until_reaped(void)
{
	while (fixture.children[0])
		run_turns(1);
}

static bool is_gone(pid_t pid)
{
	return kill(pid, 0) < 0 && errno == ESRCH;
}

/** A child that does `first`, says its process id in a line, then does `then`. @return the stream, behind that line */
static struct cp_stream *start_script(const char *first, const char *then, pid_t *pid)
{
	char text[256];
	struct reader reader = {0};
	snprintf(text, sizeof(text), "exec:sh -c '%s; echo $$; %s'", first, then);
	struct cp_stream *stream = stream_to(text);
	do
		read_until(&reader, stream, reader.length + 1);
	while (!strchr(reader.got, '\n'));
	*pid = atoi(reader.got);
	free(reader.got);
	return stream;
}

/** All that a command says. To be freed. */
static char *output_of(const char *text)
{
	struct reader reader = {0};
	struct cp_stream *stream = stream_to(text);
	read_until(&reader, stream, 0);
	cp_stream_close(stream, CP_CAUSE_DONE);
	run_until_reaped();
	return reader.got ? reader.got : strdup("");
}

Test(core_exec, cat_gives_back_then_ends)
{
	int before = open_descriptors();
	struct cp_stream *stream = stream_to("exec:cat");
	struct reader reader = {0};
	write_all(stream, "hello");
	read_until(&reader, stream, 5);
	cr_expect_str_eq(reader.got, "hello");
	write_all(stream, ", world");
	cr_expect_eq(cp_stream_shutdown_write(stream), CP_OK);
	read_until(&reader, stream, 0);
	cr_expect_str_eq(reader.got, "hello, world");
	cr_expect_eq(cp_stream_lend(stream, CP_READABLE), -1, "the stream has to see what a program leaves unread");
	cp_stream_close(stream, CP_CAUSE_DONE);
	run_until_reaped();
	cr_expect_eq(open_descriptors(), before);
	cr_expect_lt(waitpid(-1, NULL, WNOHANG), 0, "no zombie");
	free(reader.got);
}

Test(core_exec, words_arrive_as_they_are)
{
	char *output = output_of("exec:printf '<%s>' a 'b  c' \"d\\\"e\" '$HOME' '*' ''");
	cr_expect_str_eq(output, "<a><b  c><d\"e><$HOME><*><>");
	free(output);
}

Test(core_exec, a_missing_program_is_an_error_at_once)
{
	int before = open_descriptors();
	struct connecting c;
	cr_expect_eq(connect_start(&c, address_of("exec:/no/such/program x"), 100, NULL), CP_ENOTFOUND);
	cr_expect_str_eq(c.open.error.where, "/no/such/program");
	cr_expect(strstr(c.open.error.message, "No such file"), "%s", c.open.error.message);
	cr_expect_null(c.open.stream);
	cr_expect_eq(connect_start(&c, address_of("exec:/etc/passwd"), 100, NULL), CP_EPERM);
	cr_expect_eq(open_descriptors(), before);
	cr_expect_lt(waitpid(-1, NULL, WNOHANG), 0, "no zombie");
	cr_expect_null(fixture.children[0]);
}

Test(core_exec, a_relative_program_is_in_the_configuration_directory)
{
	char path[64];
	snprintf(path, sizeof(path), "%s/hello.sh", fixture.dir);
	FILE *script = fopen(path, "we");
	fputs("#!/bin/sh\necho hello from a script\n", script);
	fclose(script);
	chmod(path, 0700);
	char *output = output_of("exec:./hello.sh");
	cr_expect_str_eq(output, "hello from a script\n");
	free(output);
}

Test(core_exec, a_child_inherits_nothing_but_stderr)
{
	int leaked = dup(STDERR_FILENO); /* without FD_CLOEXEC */
	sigset_t blocked;
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGHUP);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	signal(SIGPIPE, SIG_IGN);
	char *descriptors = output_of("exec:sh -c 'ls -1 /proc/$$/fd'");
	cr_expect_str_eq(descriptors, "0\n1\n2\n");
	char *signals = output_of("exec:grep -E '^Sig(Blk|Ign):' /proc/self/status");
	cr_expect(strstr(signals, "SigBlk:\t0000000000000000"), "%s", signals);
	unsigned long ignored = strtoul(strstr(signals, "SigIgn:\t") + 8, NULL, 16);
	cr_expect_eq(ignored & (1ul << (SIGPIPE - 1)), 0, "%s", signals);
	free(descriptors);
	free(signals);
	close(leaked);
}

Test(core_exec, a_reset_ends_the_child_and_what_it_started)
{
	pid_t pid;
	char alive[64], first[128], byte;
	snprintf(alive, sizeof(alive), "%s/alive", fixture.dir);
	cr_assert_eq(mkfifo(alive, 0600), 0);
	int fd = open(alive, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	snprintf(first, sizeof(first), "exec 3>%s; sleep 1000 & true", alive);
	struct cp_stream *stream = start_script(first, "sleep 1000", &pid);
	cr_expect_eq(getpgid(pid), pid);
	fcntl(fd, F_SETFL, 0);
	cp_stream_close(stream, CP_CAUSE_CLIENT_RESET);
	run_until_reaped();
	cr_expect(is_gone(pid));
	struct pollfd last = {.fd = fd};
	cr_assert_eq(poll(&last, 1, WATCHDOG_MS), 1, "hangs up when the last process that holds it has ended");
	cr_expect_eq(read(fd, &byte, 1), 0);
	close(fd);
}

Test(core_exec, an_orderly_close_lets_the_child_finish)
{
	char text[128], done[64];
	snprintf(done, sizeof(done), "%s/done", fixture.dir);
	snprintf(text, sizeof(text), "exec:sh -c 'cat >/dev/null; echo finished >%s'", done);
	cp_stream_close(stream_to(text), CP_CAUSE_DONE);
	run_until_reaped();
	cr_expect_eq(access(done, F_OK), 0);
}

Test(core_exec, a_child_that_does_not_listen_is_killed)
{
	pid_t pid;
	struct cp_stream *stream = start_script("trap \"\" TERM", "while :; do sleep 1; done", &pid);
	uint64_t start = cp_loop_now(fixture.loop);
	cp_stream_close(stream, CP_CAUSE_CLIENT_RESET);
	run_until_reaped();
	cr_expect(is_gone(pid));
	cr_expect_geq(cp_loop_now(fixture.loop) - start, 2000);
}

Test(core_exec, a_child_that_ends_first_is_reaped_while_its_stream_is_open)
{
	struct reader reader = {0};
	struct cp_stream *stream = stream_to("exec:true");
	run_until_reaped();
	read_until(&reader, stream, 0);
	cr_expect_eq(reader.length, 0);
	cp_stream_close(stream, CP_CAUSE_TARGET_RESET);
	free(reader.got);
}

Test(core_exec, a_failing_child_is_in_the_log)
{
	char path[64], line[256] = "";
	snprintf(path, sizeof(path), "%s/log", fixture.dir);
	struct cp_error error = {0};
	struct log_settings settings = {.level = CP_INFO, .file = path};
	cr_assert_eq(log_start(&settings, &error), CP_OK, "%s", error.message);
	free(output_of("exec:true"));
	free(output_of("exec:sh -c 'exit 3'"));
	free(output_of("exec:sh -c 'kill -9 $$'"));
	log_stop();
	FILE *log = fopen(path, "re");
	cr_assert(log);
	cr_assert(fgets(line, sizeof(line), log));
	cr_expect(strstr(line, "INFO 1e1001.connpipe.core] sh (process "), "%s", line);
	cr_expect(strstr(line, "ended with status 3"), "%s", line);
	cr_assert(fgets(line, sizeof(line), log));
	cr_expect(strstr(line, "signal 9"), "%s", line);
	cr_expect_null(fgets(line, sizeof(line), log), "%s", line);
	fclose(log);
}
