/* unix: sockets in the file system and abstract ones. */
#include "core_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/un.h>
#include <sys/wait.h>

TestSuite(core_unix, .init = fixture_start, .fini = fixture_stop);

static void unbind(struct cp_listener *listener)
{
	listener->ops->unbind(listener);
}

/** "run.sock" in the configuration directory. */
static const char *socket_path(void)
{
	static char path[64];
	snprintf(path, sizeof(path), "%s/run.sock", fixture.dir);
	return path;
}

static bool exists(const char *path)
{
	return access(path, F_OK) == 0;
}

/** A plain socket bound to "run.sock". */
static int plain_socket(int backlog)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	strcpy(at.sun_path, socket_path());
	cr_assert_eq(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	cr_assert_eq(listen(fd, backlog), 0);
	return fd;
}

static void check_round_trip(const char *text)
{
	struct cp_listener *listener = bind_to(text, 2);
	struct accepting accepting;
	struct reader up = {0}, down = {0};
	accepting_start(&accepting, listener);
	struct cp_stream *target = stream_to(text);
	struct cp_stream *stream = accept_one(&accepting);
	cr_expect_eq(accepting.accepted.peer.ip.family, 0);
	write_all(target, "hello");
	read_until(&up, stream, 5);
	write_all(stream, "welcome");
	cr_expect_eq(cp_stream_shutdown_write(stream), CP_OK);
	read_until(&down, target, 0);
	cr_expect_str_eq(up.got, "hello");
	cr_expect_str_eq(down.got, "welcome");
	cp_stream_close(stream, CP_CAUSE_DONE);
	cp_stream_close(target, CP_CAUSE_DONE);
	accepting_stop(&accepting);
	unbind(listener);
	free(up.got);
	free(down.got);
}

Test(core_unix, accepts_what_connects)
{
	int before = open_descriptors();
	check_round_trip("unix:run.sock");
	cr_expect_not(exists(socket_path()), "the file goes with the listener");
	cr_expect_eq(open_descriptors(), before);
}

Test(core_unix, abstract_names_need_no_file)
{
	char text[64];
	snprintf(text, sizeof(text), "unix:@connpipe-test-%d", (int)getpid());
	check_round_trip(text);
	cr_expect_not(exists(text + strlen("unix:")));
}

Test(core_unix, is_named_without_its_subport)
{
	struct cp_listener *listener = bind_to("unix:run.sock!web", 1);
	char expected[80];
	snprintf(expected, sizeof(expected), "unix:%s", socket_path());
	cr_expect_str_eq(listener_name(listener), expected);
	unbind(listener);
}

Test(core_unix, all_workers_accept_from_one_socket)
{
	struct cp_listener *listener = bind_to("unix:run.sock", 2);
	struct accepting first, second;
	accepting_start(&first, listener);
	accepting_start(&second, listener);
	struct cp_stream *target = stream_to("unix:run.sock");
	while (!first.done && !second.done)
		loop_run(fixture.loop);
	cr_expect(first.done != second.done, "one connection is accepted once");
	cp_stream_close((first.done ? &first : &second)->accepted.stream, CP_CAUSE_DONE);
	cp_stream_close(target, CP_CAUSE_DONE);
	accepting_stop(&first);
	target = stream_to("unix:run.sock");
	second.done = false;
	cp_stream_close(accept_one(&second), CP_CAUSE_DONE);
	cp_stream_close(target, CP_CAUSE_DONE);
	accepting_stop(&second);
	unbind(listener);
}

Test(core_unix, a_stale_file_is_replaced)
{
	close(plain_socket(1));
	cr_assert(exists(socket_path()));
	check_round_trip("unix:run.sock");
}

Test(core_unix, a_socket_in_use_is_an_error)
{
	struct cp_error error = {0};
	int fd = plain_socket(1);
	cr_expect_eq(bind_fails("unix:run.sock", &error), CP_EADDRINUSE);
	cr_expect_str_eq(error.where, socket_path());
	cr_expect(exists(socket_path()));
	close(fd);
}

Test(core_unix, ours_is_in_use_before_it_is_opened)
{
	struct cp_listener *listener = bind_to("unix:run.sock", 1);
	struct cp_error error = {0};
	cr_expect_eq(bind_fails("unix:run.sock", &error), CP_EADDRINUSE);
	cr_expect_eq(bind_fails("unix:run.sock", &error), CP_EADDRINUSE, "the look has not filled its queue for good");
	unbind(listener);
}

Test(core_unix, a_file_that_is_no_socket_is_kept)
{
	struct cp_error error = {0};
	close(open(socket_path(), O_CREAT | O_WRONLY, 0600));
	cr_expect_eq(bind_fails("unix:run.sock", &error), CP_EEXIST);
	cr_expect(exists(socket_path()));
}

Test(core_unix, a_missing_directory_is_an_error)
{
	struct cp_error error = {0};
	cr_expect_eq(bind_fails("unix:no/such/run.sock", &error), CP_ENOTFOUND);
}

Test(core_unix, unbind_leaves_somebody_elses_file)
{
	struct cp_listener *listener = bind_to("unix:run.sock", 1);
	unlink(socket_path());
	int fd = plain_socket(1);
	unbind(listener);
	cr_expect(exists(socket_path()));
	close(fd);
}

Test(core_unix, connecting_to_nobody_is_an_error)
{
	struct connecting c;
	cr_expect_eq(connect_start(&c, address_of("unix:run.sock"), 100, NULL), CP_ENOTFOUND);
	cr_expect_str_eq(c.open.error.where, socket_path());
	close(plain_socket(1));
	cr_expect_eq(connect_start(&c, address_of("unix:run.sock"), 100, NULL), CP_EREFUSED);
	cr_expect_null(c.open.stream);
}

Test(core_unix, waits_for_room_in_the_queue)
{
	int fd = plain_socket(0);
	struct connecting first, second;
	struct sockaddr_un from;
	socklen_t length = sizeof(from);
	cr_assert_eq(connect_start(&first, address_of("unix:run.sock"), 0, NULL), CP_OK);
	cr_assert_eq(connect_start(&second, address_of("unix:run.sock"), 0, NULL), CP_AGAIN);
	int taken = accept(fd, (struct sockaddr *)&from, &length);
	run_until(&second.done);
	cr_expect(second.open.stream, "%s", second.open.error.message);
	cp_stream_close(first.open.stream, CP_CAUSE_DONE);
	cp_stream_close(second.open.stream, CP_CAUSE_DONE);
	close(taken);
	close(fd);
}

Test(core_unix, a_full_queue_times_out)
{
	int fd = plain_socket(0);
	struct connecting first, second;
	cr_assert_eq(connect_start(&first, address_of("unix:run.sock"), 0, NULL), CP_OK);
	int before = open_descriptors();
	uint64_t start = cp_loop_now(fixture.loop);
	cr_expect_eq(connect_wait(&second, address_of("unix:run.sock"), 70), CP_ETIMEOUT);
	cr_expect_geq(cp_loop_now(fixture.loop) - start, 70);
	cr_expect_str_eq(second.open.error.where, socket_path());
	cr_expect_eq(open_descriptors(), before);
	cp_stream_close(first.open.stream, CP_CAUSE_DONE);
	close(fd);
}

Test(core_unix, cancel_forgets_a_connect_under_way)
{
	int fd = plain_socket(0);
	struct connecting first, second, third;
	cr_assert_eq(connect_start(&first, address_of("unix:run.sock"), 0, NULL), CP_OK);
	int before = open_descriptors();
	cr_assert_eq(connect_start(&second, address_of("unix:run.sock"), 20, NULL), CP_AGAIN);
	unix_connector.cancel(second.open.address->connector, &second.open);
	cr_expect_eq(open_descriptors(), before);
	cr_expect_eq(connect_wait(&third, address_of("unix:run.sock"), 60), CP_ETIMEOUT);
	cr_expect_not(second.done);
	cp_stream_close(first.open.stream, CP_CAUSE_DONE);
	close(fd);
}

Test(core_unix, the_umask_decides_who_may_connect)
{
	struct stat status;
	mode_t before = umask(0177);
	struct cp_listener *listener = bind_to("unix:run.sock", 1);
	umask(before);
	cr_assert_eq(stat(socket_path(), &status), 0);
	cr_expect_eq(status.st_mode & 0777, 0600);
	unbind(listener);
}
