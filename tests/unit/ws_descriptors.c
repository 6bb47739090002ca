/* libwebsockets only takes descriptors below a bound: what has a higher number is moved, and what cannot be is refused.
 */
#include "ws_fixture.h"

#include <sys/resource.h>

enum {
	BOUND = 4096, /* of an engine that knows no limits */
	HIGH = 5000,
};

static struct rlimit before;

static void start(void)
{
	struct rlimit limit;
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_max <= HIGH + 1)
		cr_skip_test("the limit of descriptors is %llu", (unsigned long long)limit.rlim_max);
	before = limit;
	fixture_start();
}

static void stop(void)
{
	if (user)
		fixture_stop();
}

TestSuite(ws_descriptors, .init = start, .fini = stop, .timeout = 60);

static int raise_number(int fd)
{
	int high = fcntl(fd, F_DUPFD_CLOEXEC, HIGH);
	cr_assert_geq(high, HIGH);
	close(fd);
	return high;
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/** Until there is none left below the bound. */
static void use_up(void)
{
	int fd;
	do
		fd = fcntl(peer, F_DUPFD_CLOEXEC, 0);
	while (fd >= 0 && fd < BOUND);
	cr_assert_geq(fd, BOUND);
	close(fd);
}

static void expect_too_many(const struct cp_error *error)
{
	cr_assert_eq(error->code, CP_EMFILE);
	cr_assert(strstr(error->message, "no descriptor below 4096 is free"), "%s", error->message);
	cr_assert(strstr(error->message, "raise limits.connections and restart"), "%s", error->message);
}

Test(ws_descriptors, the_limit_is_as_it_was)
{
	struct rlimit limit;
	getrlimit(RLIMIT_NOFILE, &limit);
	cr_assert_eq(limit.rlim_cur, before.rlim_cur);
	cr_assert_eq(limit.rlim_max, before.rlim_max);
}

Test(ws_descriptors, a_high_one_is_moved)
{
	char head[1024];
	int high = raise_number(make_pair());
	user_has(accept_websocket(high, NULL, NULL));
	cr_assert_not(is_open(high));
	peer_gets_head(head, sizeof(head));
	peer_says(FIN | BINARY, true, "Hello", 5);
	user_expects(0, 5, 0, "Hello");
}

Test(ws_descriptors, without_a_low_one_a_client_gets_503)
{
	struct cp_error error = {0};
	char head[1024];
	int high = raise_number(make_pair());
	use_up();
	cr_assert_not(ws_accept(loop, high, &key, NULL, NULL, &behaviour, NULL, &error));
	expect_too_many(&error);
	cr_assert_not(is_open(high));
	peer_gets_head(head, sizeof(head));
	cr_assert_eq(strncmp(head, "HTTP/1.1 503 ", 13), 0, "%s", head);
}

static void never_done(struct cp_stream *stream, const struct cp_error *error, void *arg)
{
	(void)stream;
	(void)error;
	(void)arg;
	cr_assert_fail("it has ended twice");
}

Test(ws_descriptors, without_a_low_one_connecting_fails)
{
	struct cp_error error = {0};
	struct ws_connecting *connecting;
	struct ws_request request = {.path = "/", .host = "example.org"};
	int fd = make_pair();
	use_up();
	int result = ws_connect(loop, fd, &request, &behaviour, NULL, never_done, NULL, &connecting, &error);
	cr_assert_eq(result, CP_EMFILE);
	expect_too_many(&error);
	cr_assert_not(is_open(fd));
	turns(3);
}

static void start_with_limits(void)
{
	loop_set_socket_limit(2000);
	start();
}

TestSuite(ws_descriptors_limits, .init = start_with_limits, .fini = stop, .timeout = 60);

Test(ws_descriptors_limits, raise_the_bound)
{
	char head[1024];
	int high = raise_number(make_pair());
	user_has(accept_websocket(high, NULL, NULL));
	cr_assert(is_open(high));
	peer_gets_head(head, sizeof(head));
	peer_says(FIN | BINARY, true, "Hello", 5);
	user_expects(0, 5, 0, "Hello");
}
