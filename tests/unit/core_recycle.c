/* tcp: sockets to targets that are connected again after a connection has ended in order. */
#include "core_fixture.h"

#include <arpa/inet.h>
#include <fcntl.h>

TestSuite(core_recycle, .init = fixture_start, .fini = fixture_stop);

/** A listening socket of a target. */
static int listening(uint16_t *port)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(in);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(fd, (struct sockaddr *)&in, length), 0);
	cr_assert_eq(listen(fd, 8), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&in, &length), 0);
	*port = ntohs(in.sin_port);
	return fd;
}

static struct cp_stream *connected(uint16_t port, const char *early)
{
	struct connecting c;
	int result = connect_start(&c, address_of_port(port), 5000, early);
	if (result == CP_AGAIN)
		run_until(&c.done);
	cr_assert(c.open.stream, "%s", c.open.error.message);
	return c.open.stream;
}

/** The target's side of one connection: take what the client has said, and answer. */
static int answer(int listener, const char *heard, const char *text)
{
	char got[64] = "";
	int taken = accept(listener, NULL, NULL);
	cr_assert(taken >= 0);
	if (*heard) /* even for no bytes, recv() waits */
		cr_assert_eq(recv(taken, got, strlen(heard), MSG_WAITALL), (ssize_t)strlen(heard));
	cr_assert_str_eq(got, heard);
	cr_assert_eq(send(taken, text, strlen(text), 0), (ssize_t)strlen(text));
	return taken;
}

static void expect(struct cp_stream *stream, const char *text)
{
	struct reader r = {0};
	read_until(&r, stream, strlen(text));
	cr_assert_str_eq(r.got, text);
	free(r.got);
}

static void expect_end(struct cp_stream *stream)
{
	struct reader r = {0};
	read_until(&r, stream, 0);
	cr_assert_eq(r.length, 0);
	free(r.got);
}

/** Both directions end, the client's first. @return the descriptor that the connection had */
static int end_in_order(struct cp_stream *stream, int taken)
{
	char byte;
	int fd = cp_stream_lend(stream, CP_READABLE);
	cr_assert_eq(cp_stream_shutdown_write(stream), CP_OK);
	cr_assert_eq(recv(taken, &byte, 1, 0), 0);
	close(taken);
	expect_end(stream);
	cp_stream_close(stream, CP_CAUSE_DONE);
	return fd;
}

Test(core_recycle, the_next_connection_has_the_same_socket)
{
	uint16_t port, other_port;
	int listener = listening(&port), other = listening(&other_port);
	struct cp_stream *stream = connected(port, "one");
	int taken = answer(listener, "one", "1");
	expect(stream, "1");
	int fd = end_in_order(stream, taken);
	int open = open_descriptors();

	for (int i = 0; i < 20; i++) { /* to another target, too */
		stream = connected(i % 2 ? port : other_port, "two");
		cr_assert_eq(cp_stream_lend(stream, CP_READABLE), fd);
		taken = answer(i % 2 ? listener : other, "two", "22");
		expect(stream, "22");
		for (int k = 0; k < 4; k++) { /* longer ones, too: the event changes its mode then */
			write_all(stream, "more");
			char got[8] = "";
			cr_assert_eq(recv(taken, got, 4, MSG_WAITALL), 4);
			cr_assert_eq(send(taken, "answer", 6, 0), 6);
			expect(stream, "answer");
		}
		cr_assert_eq(end_in_order(stream, taken), fd);
	}
	cr_assert_eq(open_descriptors(), open);
	close(listener);
	close(other);
}

Test(core_recycle, with_and_without_first_bytes_are_not_mixed)
{
	uint16_t port;
	int listener = listening(&port);
	struct cp_stream *stream = connected(port, "one");
	int taken = answer(listener, "one", "1");
	expect(stream, "1");
	int fd = end_in_order(stream, taken);

	/* A server that speaks first would not be told of a connection whose last ACK is held back for bytes. */
	stream = connected(port, NULL);
	cr_assert_neq(cp_stream_lend(stream, CP_READABLE), fd);
	taken = answer(listener, "", "hello");
	expect(stream, "hello");
	end_in_order(stream, taken);
	close(listener);
}

Test(core_recycle, a_reset_of_a_later_connection_is_one)
{
	uint16_t port;
	int listener = listening(&port);
	struct linger reset = {.l_onoff = 1};
	struct cp_stream *stream = connected(port, "one");
	int taken = answer(listener, "one", "1");
	expect(stream, "1");
	int fd = end_in_order(stream, taken);

	stream = connected(port, "two");
	cr_assert_eq(cp_stream_lend(stream, CP_READABLE), fd);
	taken = answer(listener, "two", "answer");
	setsockopt(taken, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(taken); /* the answer and the reset are there together */
	struct reader r = {.stream = stream};
	cp_stream_set_user(stream, reader_ready, &r);
	reader_read(&r);
	run_until(&r.done);
	cr_expect_str_eq(r.got, "answer");
	cr_expect_eq(r.failed, CP_ERESET);
	free(r.got);
	cp_stream_close(stream, CP_CAUSE_TARGET_RESET);
	cr_assert_eq(fcntl(fd, F_GETFD), -1, "a socket that was reset is not kept");
	close(listener);
}

Test(core_recycle, only_what_ended_in_order_is_kept)
{
	uint16_t port;
	int listener = listening(&port);
	struct cp_stream *stream = connected(port, "one");
	int taken = answer(listener, "one", "1");
	expect(stream, "1");
	int fd = cp_stream_lend(stream, CP_READABLE);
	cp_stream_close(stream, CP_CAUSE_DONE); /* the target has not ended its side */
	cr_assert_eq(fcntl(fd, F_GETFD), -1);
	close(taken);
	close(listener);
}

Test(core_recycle, a_target_that_is_gone_is_refused_and_nothing_is_left)
{
	uint16_t port;
	int listener = listening(&port);
	struct connecting c;
	struct cp_stream *stream = connected(port, "one");
	int taken = answer(listener, "one", "1");
	expect(stream, "1");
	int fd = end_in_order(stream, taken);
	close(listener);

	int result = connect_start(&c, address_of_port(port), 5000, "two");
	if (result == CP_AGAIN)
		run_until(&c.done);
	cr_assert_null(c.open.stream);
	cr_assert_eq(c.open.error.code, CP_EREFUSED);
	cr_assert_eq(fcntl(fd, F_GETFD), -1);
}
