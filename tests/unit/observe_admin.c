/* The control socket: a client in a thread of its own talks to an admin on this one. */
#include "loop/loop.h"
#include "observe/admin.h"

#include <criterion/criterion.h>

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { PATIENCE_MS = 10000 };

/* ---- The side of the main task
 * --------------------------------------------------------------------------- */

static char directory[] = "/tmp/connpipe-admin-XXXXXX";
static char path[100];
static struct cp_loop *loop;
static struct admin *admin;
static struct admin_call *held; /* a reload that is answered by the next `drain` */

static void on_status(struct admin_call *call, void *arg)
{
	admin_answer(call, json_pack("{s:s}", "arg", (const char *)arg));
}

static void on_pipes(struct admin_call *call, void *arg)
{
	json_t *pipes = json_array();

	(void)arg;
	for (int i = 0; i < 20000; i++)
		json_array_append_new(pipes, json_pack("{s:i, s:s}", "id", i, "incoming", "tcp:127.0.0.1:25565!name"));
	admin_answer(call, json_pack("{s:o}", "pipes", pipes));
}

static void on_kill(struct admin_call *call, uint64_t id, void *arg)
{
	(void)arg;
	if (id == 42)
		admin_answer(call, json_object());
	else
		admin_answer_error(call, "there is no pipe %d", (int)id);
}

static void on_reload(struct admin_call *call, void *arg)
{
	(void)arg;
	held = call;
}

static void on_drain(struct admin_call *call, void *arg)
{
	(void)arg;
	admin_answer(held, json_pack("{s:s}", "answered", "late"));
	held = NULL;
	admin_answer(call, json_object());
}

static void on_log(struct admin_call *call, const char *level, void *arg)
{
	(void)arg;
	admin_answer(call, json_pack("{s:s}", "level", level));
}

static const struct admin_ops ops = {on_status, on_pipes, on_kill, on_reload, on_drain, on_log};

static void set_up(void)
{
	struct cp_error error;

	signal(SIGPIPE, SIG_IGN);
	cr_assert_not_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/run/admin.sock", directory);
	loop = loop_new(CP_LOOP_MAIN, &error);
	cr_assert_not_null(loop, "%s", error.message);
	loop_set_main(loop);
}

static void start_admin(void)
{
	struct cp_error error = {0};

	admin = admin_new(loop, path, &ops, "hello", &error);
	cr_assert_not_null(admin, "%s: %s", error.where, error.message);
}

static void set_up_admin(void)
{
	set_up();
	start_admin();
}

static void tear_down(void)
{
	char command[160];

	admin_free(admin);
	loop_free(loop);
	snprintf(command, sizeof(command), "rm -rf %s", directory);
	cr_assert_eq(system(command), 0);
}

/* ---- The side of the client
 * ------------------------------------------------------------------------------ */

static int client_connect(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval patience = {.tv_sec = PATIENCE_MS / 1000};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	close(fd);
	return -1;
}

static void client_send(int fd, const char *text)
{
	size_t length = strlen(text);

	cr_assert_eq(send(fd, text, length, MSG_NOSIGNAL), (ssize_t)length);
}

/** The next line without its end; "" at the end of file. */
static char *client_line(int fd)
{
	size_t length = 0, room = 4096;
	char *line = malloc(room), c = 0;

	while (recv(fd, &c, 1, 0) == 1 && c != '\n') {
		if (length + 1 == room)
			line = realloc(line, room *= 2);
		line[length++] = c;
	}
	line[length] = 0;
	return line;
}

static void expect_line(int fd, const char *expected)
{
	char *line = client_line(fd);

	cr_assert_str_eq(line, expected);
	free(line);
}

static void expect_error(int fd, const char *part)
{
	char *line = client_line(fd);

	cr_assert_not_null(strstr(line, "{\"ok\":false,\"error\":\""), "%s", line);
	cr_assert_not_null(strstr(line, part), "%s", line);
	free(line);
}

static void expect_end(int fd)
{
	char c;

	cr_assert_leq(recv(fd, &c, 1, 0), 0);
	close(fd);
}

static void stop(struct cp_loop *here, void *arg)
{
	(void)arg;
	loop_stop(here);
}

static void *run_script(void *arg)
{
	void (*script)(void) = *(void (**)(void))arg;

	script();
	cp_post(loop, stop, NULL);
	return NULL;
}

/** Run `script` as the client while the loop runs here. */
static void with_client(void (*script)(void))
{
	pthread_t thread;

	cr_assert_eq(pthread_create(&thread, NULL, run_script, &script), 0);
	loop_run(loop);
	pthread_join(thread, NULL);
}

/* ---- Lines and answers
 * ----------------------------------------------------------------------------------- */

static void each_command(void)
{
	int fd = client_connect();

	client_send(fd, "{\"command\":\"status\"}\n");
	expect_line(fd, "{\"arg\":\"hello\",\"ok\":true}");
	client_send(fd, "{\"command\":\"kill\",\"id\":42}\r\n");
	expect_line(fd, "{\"ok\":true}");
	client_send(fd, "{\"command\":\"kill\",\"id\":43}\n");
	expect_line(fd, "{\"ok\":false,\"error\":\"there is no pipe 43\"}");
	client_send(fd, "{\"command\":\"log\",\"level\":\"debug\"}\n");
	expect_line(fd, "{\"level\":\"debug\",\"ok\":true}");
	close(fd);
}

Test(observe_admin, answers_each_command, .init = set_up_admin, .fini = tear_down)
{
	with_client(each_command);
}

static void wrong_commands(void)
{
	int fd = client_connect();

	client_send(fd, "{\"command\":\"statsu\"}\n");
	expect_error(fd, "statsu");
	client_send(fd, "{\"command\":\"kill\",\"id\":-1}\n");
	expect_error(fd, "id");
	client_send(fd, "{\"command\":\"kill\"}\n");
	expect_error(fd, "id");
	client_send(fd, "{\"command\":\"log\",\"level\":7}\n");
	expect_error(fd, "level");
	client_send(fd, "{\"command\":\"status\"}\n");
	expect_line(fd, "{\"arg\":\"hello\",\"ok\":true}");
	close(fd);
}

Test(observe_admin, wrong_commands_are_answered_and_the_client_goes_on, .init = set_up_admin, .fini = tear_down)
{
	with_client(wrong_commands);
}

static void no_commands(void)
{
	const char *lines[] = {"nonsense\n",
						   "\n",
						   "[]\n",
						   "{}\n",
						   "{\"command\":7}\n",
						   "{\"command\":\"a\\u0000\"}\n",
						   "{\"command\":\"status\"} more\n",
						   "{\"a\":1,\"a\":2}\n",
						   "\"\xff\"\n"};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		int fd = client_connect();

		client_send(fd, lines[i]);
		expect_error(fd, "");
		expect_end(fd);
	}
}

Test(observe_admin, what_is_no_command_ends_the_client, .init = set_up_admin, .fini = tear_down)
{
	with_client(no_commands);
}

/** A line of `length` bytes in all, its end not counted: a command with spaces in it. */
static char *long_line(size_t length, bool end)
{
	char *line = malloc(length + 2);

	memset(line, ' ', length);
	memcpy(line, "{\"command\":", 11);
	memcpy(line + length - 9, "\"status\"}", 9);
	line[length] = end ? '\n' : 0;
	line[length + 1] = 0;
	return line;
}

static void long_lines(void)
{
	char *fits = long_line(65536, true), *too_long = long_line(65537, true), *endless = long_line(70000, false);
	int fd = client_connect();

	client_send(fd, fits);
	expect_line(fd, "{\"arg\":\"hello\",\"ok\":true}");
	client_send(fd, too_long);
	expect_error(fd, "65536");
	expect_end(fd);
	fd = client_connect();
	client_send(fd, endless);
	expect_error(fd, "65536");
	expect_end(fd);
	free(fits);
	free(too_long);
	free(endless);
}

Test(observe_admin, a_line_that_is_too_long_ends_the_client, .init = set_up_admin, .fini = tear_down)
{
	with_client(long_lines);
}

static void many_at_once(void)
{
	int fd = client_connect();

	client_send(fd, "{\"command\":\"kill\",\"id\":1}\n{\"command\":\"kill\",\"id\":2}\n{\"command\":\"sta");
	expect_error(fd, "no pipe 1");
	expect_error(fd, "no pipe 2");
	client_send(fd, "tus\"}\n");
	expect_line(fd, "{\"arg\":\"hello\",\"ok\":true}");
	/* Half closed, as `echo … | socat` does: what was asked is still answered, what is no line is dropped. */
	client_send(fd, "{\"command\":\"status\"}\n{\"command\":\"kill\",\"id\":3}\n{\"comm");
	shutdown(fd, SHUT_WR);
	expect_line(fd, "{\"arg\":\"hello\",\"ok\":true}");
	expect_error(fd, "no pipe 3");
	expect_end(fd);
}

Test(observe_admin, lines_are_answered_in_order_and_behind_a_half_close, .init = set_up_admin, .fini = tear_down)
{
	with_client(many_at_once);
}

static void large_answer(void)
{
	int fd = client_connect();
	char *line;

	client_send(fd, "{\"command\":\"pipes\"}\n{\"command\":\"status\"}\n");
	line = client_line(fd);
	cr_assert_gt(strlen(line), 1000000);
	free(line);
	expect_line(fd, "{\"arg\":\"hello\",\"ok\":true}");
	close(fd);
}

Test(observe_admin, a_large_answer_arrives_whole, .init = set_up_admin, .fini = tear_down)
{
	with_client(large_answer);
}

static void late_answer(void)
{
	int first = client_connect(), second = client_connect();

	client_send(first, "{\"command\":\"reload\"}\n{\"command\":\"status\"}\n");
	client_send(second, "{\"command\":\"status\"}\n");
	expect_line(second, "{\"arg\":\"hello\",\"ok\":true}");
	/* The second line of the first client waits for the answer to its first one. */
	cr_assert_eq(poll(&(struct pollfd){.fd = first, .events = POLLIN}, 1, 0), 0);
	client_send(second, "{\"command\":\"drain\"}\n");
	expect_line(first, "{\"answered\":\"late\",\"ok\":true}");
	expect_line(first, "{\"arg\":\"hello\",\"ok\":true}");
	close(first);
	close(second);
}

Test(observe_admin, an_answer_may_come_later, .init = set_up_admin, .fini = tear_down)
{
	with_client(late_answer);
}

static void leave_early(void)
{
	int first = client_connect(), second = client_connect();

	client_send(first, "{\"command\":\"reload\"}\n");
	client_send(second, "{\"command\":\"status\"}\n");
	expect_line(second, "{\"arg\":\"hello\",\"ok\":true}");
	close(first);
	client_send(second, "{\"command\":\"status\"}\n");
	expect_line(second, "{\"arg\":\"hello\",\"ok\":true}");
	client_send(second, "{\"command\":\"drain\"}\n"); /* answers into the void first */
	expect_line(second, "{\"ok\":true}");
	close(second);
}

Test(observe_admin, a_call_outlives_its_client, .init = set_up_admin, .fini = tear_down)
{
	with_client(leave_early);
}

static int waiting;

static void leave_waiting(void)
{
	waiting = client_connect();
	client_send(waiting, "{\"command\":\"reload\"}\n");
	int other = client_connect();
	client_send(other, "{\"command\":\"status\"}\n");
	expect_line(other, "{\"arg\":\"hello\",\"ok\":true}");
	close(other);
}

Test(observe_admin, what_was_answered_is_written_before_the_end, .init = set_up_admin, .fini = tear_down)
{
	with_client(leave_waiting);
	cr_assert_not_null(held);
	admin_answer(held, json_pack("{s:s}", "bye", "now"));
	admin_free(admin);
	admin = NULL;
	expect_line(waiting, "{\"bye\":\"now\",\"ok\":true}");
	expect_end(waiting);
}

Test(observe_admin, a_call_outlives_the_admin, .init = set_up_admin, .fini = tear_down)
{
	with_client(leave_waiting);
	admin_free(admin);
	admin = NULL;
	expect_end(waiting);
	cr_assert_not_null(held);
	admin_answer(held, json_object()); /* nobody is there: it is freed, as the sanitizer sees */
}

static void more_than_are_served(void)
{
	enum { MANY = 80 };
	int fds[MANY];

	for (int i = 0; i < MANY; i++) {
		fds[i] = client_connect();
		cr_assert_geq(fds[i], 0);
		client_send(fds[i], "{\"command\":\"status\"}\n");
		if (i >= 40)
			close(fds[i - 40]);
	}
	for (int i = MANY - 40; i < MANY; i++) {
		expect_line(fds[i], "{\"arg\":\"hello\",\"ok\":true}");
		close(fds[i]);
	}
}

Test(observe_admin, many_clients_come_and_go, .init = set_up_admin, .fini = tear_down)
{
	with_client(more_than_are_served);
}

/* ---- The file
 * -------------------------------------------------------------------------------------------- */

static mode_t mode_of(const char *file)
{
	struct stat status;

	cr_assert_eq(lstat(file, &status), 0);
	return status.st_mode & 07777;
}

static const char *run_directory(void)
{
	static char run[64];

	snprintf(run, sizeof(run), "%s/run", directory);
	return run;
}

Test(observe_admin, file_and_directory_are_the_users_only, .init = set_up, .fini = tear_down)
{
	umask(0);
	start_admin();
	cr_assert_eq(mode_of(path), 0600);
	cr_assert_eq(mode_of(run_directory()), 0700);
	admin_free(admin);
	admin = NULL;
	cr_assert_neq(access(path, F_OK), 0);
}

/** A socket file that nobody listens on, as a process leaves it that was killed. */
static void leave_stale_file(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	cr_assert_eq(mkdir(run_directory(), 0700), 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
}

Test(observe_admin, an_old_file_is_replaced, .init = set_up, .fini = tear_down)
{
	leave_stale_file();
	start_admin();
	with_client(each_command);
}

Test(observe_admin, one_in_use_is_an_error, .init = set_up_admin, .fini = tear_down)
{
	struct cp_error error = {0};

	cr_assert_null(admin_new(loop, path, &ops, NULL, &error));
	cr_assert_eq(error.code, CP_EADDRINUSE);
	cr_assert_str_eq(error.where, path);
	with_client(each_command);
}

Test(observe_admin, what_is_no_socket_is_left_alone, .init = set_up, .fini = tear_down)
{
	struct cp_error error = {0};

	cr_assert_eq(mkdir(run_directory(), 0700), 0);
	close(open(path, O_CREAT | O_WRONLY, 0640));
	cr_assert_null(admin_new(loop, path, &ops, NULL, &error));
	cr_assert_eq(error.code, CP_EEXIST);
	cr_assert_eq(mode_of(path), 0640);
}

Test(observe_admin, somebody_elses_file_is_not_removed, .init = set_up_admin, .fini = tear_down)
{
	cr_assert_eq(unlink(path), 0);
	close(open(path, O_CREAT | O_WRONLY, 0640));
	admin_free(admin);
	admin = NULL;
	cr_assert_eq(access(path, F_OK), 0);
}

Test(observe_admin, a_path_that_is_too_long_is_said_so, .init = set_up, .fini = tear_down)
{
	struct cp_error error = {0};
	char text[200];

	snprintf(text, sizeof(text), "%s/%0120d", directory, 0);
	cr_assert_null(admin_new(loop, text, &ops, NULL, &error));
	cr_assert_not_null(strstr(error.message, "107"), "%s", error.message);
}

Test(observe_admin, a_directory_that_cannot_be_made_is_an_error, .init = set_up, .fini = tear_down)
{
	struct cp_error error = {0};
	char text[100];

	snprintf(text, sizeof(text), "%s/no/such/admin.sock", directory);
	cr_assert_null(admin_new(loop, text, &ops, NULL, &error));
	cr_assert_eq(error.code, CP_ENOTFOUND, "%d %s", error.code, error.message);
}
