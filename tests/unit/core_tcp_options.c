/* TCP settings: that sockets really have them. */
#include "core_settings.h"

#include <errno.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/ioctl.h>

TestSuite(core_tcp_options, .init = settings_start, .fini = settings_stop);

/* ---- What sockets have -------------------------------------------------------------------------------------- */

static int number(int fd, int level, int name)
{
	int value = -1;
	socklen_t length = sizeof(value);
	cr_assert_eq(getsockopt(fd, level, name, &value, &length), 0, "%d: %s", name, strerror(errno));
	return value;
}

/** @return one of two buffers, in turn: a name can be compared with another one */
static const char *congestion(int fd)
{
	static char names[2][TCP_CONGESTION_ROOM];
	static unsigned turn;
	char *name = names[turn++ % 2];
	socklen_t length = TCP_CONGESTION_ROOM;
	cr_assert_eq(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &length), 0);
	return name;
}

/** What a new socket has, for what is set back. */
static int fresh(void)
{
	static int fd = -1;
	if (fd < 0)
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return fd;
}

/** A congestion control that is not the usual one: one of those that everybody may use. */
static const char *another_congestion(void)
{
	return strcmp(congestion(fresh()), "reno") == 0 ? "cubic" : "reno";
}

/** This process's sockets that listen on `port`. @return how many */
static int listening(uint16_t port, int *fds, int room)
{
	int count = 0;
	for (int fd = 0; fd < 256; fd++) {
		struct sockaddr_in at = {0};
		socklen_t length = sizeof(at), size = sizeof(int);
		int listens = 0;
		if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 && listens &&
			getsockname(fd, (struct sockaddr *)&at, &length) == 0 && ntohs(at.sin_port) == port && count < room)
			fds[count++] = fd;
	}
	return count;
}

static int listening_one(uint16_t port)
{
	int fds[2];
	cr_assert_eq(listening(port, fds, 2), 1);
	return fds[0];
}

static int descriptor(struct cp_stream *stream)
{
	int fd = cp_stream_lend(stream, CP_READABLE);
	cr_assert_geq(fd, 0);
	return fd;
}

/** A connection by the connector to a listener of its own. */
struct loop_back {
	struct cp_listener *listener;
	struct accepting accepting;
	struct cp_stream *target, *stream;
};

static void listen_on(struct loop_back *l, const char *text)
{
	l->listener = bind_to(text, 1);
	accepting_start(&l->accepting, l->listener);
}

static void connect_to_it(struct loop_back *l)
{
	char text[64];
	snprintf(text, sizeof(text), "tcp:127.0.0.1:%u", listener_port(l->listener));
	l->target = stream_to(text);
	l->stream = accept_one(&l->accepting);
}

static void loop_back(struct loop_back *l)
{
	listen_on(l, "tcp:127.0.0.1:0");
	connect_to_it(l);
}

static void disconnect(struct loop_back *l)
{
	cp_stream_close(l->target, CP_CAUSE_DONE);
	cp_stream_close(l->stream, CP_CAUSE_DONE);
}

static void loop_back_end(struct loop_back *l)
{
	disconnect(l);
	accepting_stop(&l->accepting);
	l->listener->ops->unbind(l->listener);
}

Test(core_tcp_options, both_ends_have_what_is_set)
{
	struct loop_back l;
	char text[256];
	snprintf(text, sizeof(text),
			 "[connpipe.tcp]\ncongestion = \"%s\"\nkeepalive = { idle = \"11s\", interval = \"12s\", count = 13 }\n"
			 "user_timeout = \"14s\"\n",
			 another_congestion());
	set(text);
	loop_back(&l);
	int fds[] = {descriptor(l.target), descriptor(l.stream)};
	for (int i = 0; i < 2; i++) {
		cr_expect_str_eq(congestion(fds[i]), another_congestion());
		cr_expect_eq(number(fds[i], SOL_SOCKET, SO_KEEPALIVE), 1);
		cr_expect_eq(number(fds[i], IPPROTO_TCP, TCP_KEEPIDLE), 11);
		cr_expect_eq(number(fds[i], IPPROTO_TCP, TCP_KEEPINTVL), 12);
		cr_expect_eq(number(fds[i], IPPROTO_TCP, TCP_KEEPCNT), 13);
		cr_expect_eq(number(fds[i], IPPROTO_TCP, TCP_USER_TIMEOUT), 14000);
	}
	loop_back_end(&l);
}

Test(core_tcp_options, without_settings_both_ends_are_as_the_kernel_makes_them)
{
	struct loop_back l;
	loop_back(&l);
	int fds[] = {descriptor(l.target), descriptor(l.stream)};
	for (int i = 0; i < 2; i++) {
		cr_expect_str_eq(congestion(fds[i]), congestion(fresh()));
		cr_expect_eq(number(fds[i], SOL_SOCKET, SO_KEEPALIVE), 0);
		cr_expect_eq(number(fds[i], IPPROTO_TCP, TCP_USER_TIMEOUT), 0);
		cr_expect_eq(number(fds[i], SOL_SOCKET, SO_MARK), 0);
	}
	loop_back_end(&l);
}

Test(core_tcp_options, a_mark_is_on_both_ends)
{
	struct loop_back l;
	settings("connpipe.tcp.mark = 4294967295", NULL);
	if (report.count)
		cr_skip_test("needs CAP_NET_ADMIN");
	loop_back(&l);
	cr_expect_eq((unsigned)number(descriptor(l.target), SOL_SOCKET, SO_MARK), UINT32_MAX);
	cr_expect_eq((unsigned)number(descriptor(l.stream), SOL_SOCKET, SO_MARK), UINT32_MAX);
	loop_back_end(&l);
}

Test(core_tcp_options, no_descriptor_is_lent_without_splicing)
{
	struct loop_back l;
	struct reader reader = {0};
	set("connpipe.tcp.splice = \"off\"");
	loop_back(&l);
	cr_expect_eq(cp_stream_lend(l.target, CP_READABLE), -1);
	cr_expect_eq(cp_stream_lend(l.target, CP_WRITABLE), -1);
	cr_expect_eq(cp_stream_lend(l.stream, CP_READABLE), -1);
	write_all(l.target, "copied");
	read_until(&reader, l.stream, 6);
	cr_expect_str_eq(reader.got, "copied");
	free(reader.got);
	loop_back_end(&l);
}

/* The third number of a listening socket's TCP_INFO: the length that its queue may have. */
static unsigned queue_length(int fd)
{
	struct tcp_info info;
	socklen_t length = sizeof(info);
	cr_assert_eq(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length), 0);
	return info.tcpi_sacked;
}

static void expect_listener(int fd, bool is_set)
{
	cr_expect_eq(number(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT), is_set ? 3 : 0);
	cr_expect_eq(number(fd, IPPROTO_TCP, TCP_FASTOPEN), is_set ? 17 : 0);
	cr_expect_eq(number(fd, SOL_SOCKET, SO_KEEPALIVE), is_set);
	cr_expect_eq(number(fd, IPPROTO_TCP, TCP_KEEPIDLE), is_set ? 40 : number(fresh(), IPPROTO_TCP, TCP_KEEPIDLE));
	cr_expect_eq(number(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), is_set ? 1500 : 0);
	cr_expect_str_eq(congestion(fd), is_set ? another_congestion() : congestion(fresh()));
	if (is_set)
		cr_expect_eq(queue_length(fd), 5);
	else
		cr_expect_gt(queue_length(fd), 5);
}

static void set_for_listeners(struct socket_settings **earlier)
{
	char text[256];
	snprintf(text, sizeof(text),
			 "[connpipe.tcp]\ndefer_accept = \"3s\"\nfast_open = 17\nbacklog = 5\nkeepalive = \"40s\"\n"
			 "user_timeout = \"1500ms\"\ncongestion = \"%s\"\n",
			 another_congestion());
	settings(text, earlier);
	cr_assert_eq(report.count, 0);
}

Test(core_tcp_options, a_listener_has_what_is_set)
{
	struct loop_back l;
	set_for_listeners(NULL);
	listen_on(&l, "tcp:127.0.0.1:0");
	expect_listener(listening_one(listener_port(l.listener)), true);
	accepting_stop(&l.accepting);
	l.listener->ops->unbind(l.listener);
}

Test(core_tcp_options, both_families_of_a_listener_have_what_is_set)
{
	struct loop_back l;
	int fds[3];
	set_for_listeners(NULL);
	listen_on(&l, "tcp:$n:0");
	int count = listening(listener_port(l.listener), fds, 3);
	cr_assert_geq(count, 1);
	for (int i = 0; i < count; i++)
		expect_listener(fds[i], true);
	accepting_stop(&l.accepting);
	l.listener->ops->unbind(l.listener);
}

Test(core_tcp_options, a_listener_is_tuned_there_and_back)
{
	struct loop_back l;
	struct socket_settings *earlier;
	struct cp_error error;
	const struct cp_address *address = address_of("tcp:127.0.0.1:0");
	listen_on(&l, "tcp:127.0.0.1:0");
	int fd = listening_one(listener_port(l.listener));
	expect_listener(fd, false);

	set_for_listeners(&earlier);
	cr_expect_eq(l.listener->ops->check_tune(l.listener, address, &error), CP_OK);
	expect_listener(fd, false);
	l.listener->ops->tune(l.accepting.acceptor, address);
	expect_listener(fd, true);

	settings("connpipe.tcp.splice = \"off\"", &earlier);
	socket_settings_free(earlier); /* the earlier load is gone when the next one's settings come */
	l.listener->ops->tune(l.accepting.acceptor, address);
	expect_listener(fd, false);
	connect_to_it(&l);
	cr_expect_eq(cp_stream_lend(l.stream, CP_READABLE), -1);
	loop_back_end(&l);
}

Test(core_tcp_options, a_listener_that_opens_again_is_tuned_to_what_is_set_now)
{
	struct loop_back l;
	const struct cp_address *address = address_of("tcp:127.0.0.1:0");
	set_for_listeners(NULL);
	listen_on(&l, "tcp:127.0.0.1:0");
	accepting_stop(&l.accepting);
	accepting_start(&l.accepting, l.listener);
	l.listener->ops->tune(l.accepting.acceptor, address);
	expect_listener(listening_one(listener_port(l.listener)), true);
	accepting_stop(&l.accepting);
	l.listener->ops->unbind(l.listener);
}

/** Options that the kernel refuses: read as by a check, which does not ask it. */
static void set_what_the_kernel_refuses(void)
{
	generation.mode = GENERATION_CHECK;
	settings("connpipe.tcp.congestion = \"no_such\"", NULL);
	cr_assert_eq(report.count, 0);
}

Test(core_tcp_options, what_the_kernel_refuses_is_an_error_of_the_bind)
{
	struct cp_error error = {0};
	int before = open_descriptors();
	set_what_the_kernel_refuses();
	cr_expect_eq(bind_fails("tcp:127.0.0.1:0", &error), CP_ENOTFOUND);
	cr_expect(strstr(error.message, "cannot set congestion: the kernel has no \"no_such\""), "%s", error.message);
	cr_expect_eq(open_descriptors(), before);
}

Test(core_tcp_options, what_the_kernel_refuses_cannot_be_tuned_to)
{
	struct cp_error error = {0};
	struct loop_back l;
	listen_on(&l, "tcp:127.0.0.1:0");
	set_what_the_kernel_refuses();
	cr_expect_eq(l.listener->ops->check_tune(l.listener, address_of("tcp:127.0.0.1:0"), &error), CP_ENOTFOUND);
	cr_expect_str_eq(error.where, listener_name(l.listener));
	accepting_stop(&l.accepting);
	l.listener->ops->unbind(l.listener);
}

Test(core_tcp_options, what_the_kernel_refuses_is_an_error_of_the_connect)
{
	struct connecting c;
	int before = open_descriptors();
	set_what_the_kernel_refuses();
	cr_expect_eq(connect_wait(&c, address_of("tcp:127.0.0.1:1"), 1000), CP_ENOTFOUND);
	cr_expect_str_eq(c.open.error.where, "127.0.0.1:1");
	cr_expect(strstr(c.open.error.message, "cannot set congestion"), "%s", c.open.error.message);
	cr_expect_eq(open_descriptors(), before);
}

/* ---- The source of connections ------------------------------------------------------------------------------ */

Test(core_tcp_options, connections_come_from_the_source)
{
	struct loop_back l;
	set("connpipe.tcp.bind_source = [\"::1\", \"127.0.0.77\"]");
	loop_back(&l);
	static const uint8_t source[4] = {127, 0, 0, 77};
	cr_expect_arr_eq(l.accepting.accepted.peer.ip.bytes, source, 4);
	cr_expect_eq(number(descriptor(l.target), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT), 1);
	loop_back_end(&l);
}

Test(core_tcp_options, each_family_has_its_source)
{
	struct loop_back l;
	struct sockaddr_in6 at = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	int probe = socket(AF_INET6, SOCK_STREAM, 0);
	bool v6 = bind(probe, (struct sockaddr *)&at, sizeof(at)) == 0;
	close(probe);
	if (!v6)
		cr_skip_test("needs [::1]");
	set("connpipe.tcp.bind_source = [\"127.0.0.77\", \"::1\"]");
	listen_on(&l, "tcp:[::1]:0");
	char text[64];
	snprintf(text, sizeof(text), "tcp:[::1]:%u", listener_port(l.listener));
	l.target = stream_to(text);
	l.stream = accept_one(&l.accepting);
	cr_expect_eq(number(descriptor(l.target), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT), 1);
	loop_back_end(&l);
}

Test(core_tcp_options, a_source_of_the_other_family_is_left_out)
{
	struct loop_back l;
	set("connpipe.tcp.bind_source = \"2001:db8::1\"");
	loop_back(&l);
	cr_expect_eq(l.accepting.accepted.peer.ip.bytes[3], 1);
	loop_back_end(&l);
}

Test(core_tcp_options, a_source_that_is_not_there_fails_the_connect)
{
	struct connecting c;
	int before = open_descriptors();
	set("connpipe.tcp.bind_source = \"192.0.2.1\"");
	cr_expect_eq(connect_wait(&c, address_of("tcp:127.0.0.1:1"), 1000), CP_EINVAL);
	cr_expect_str_eq(c.open.error.where, "127.0.0.1:1");
	cr_expect_str_eq(c.open.error.message, "cannot bind to bind_source: this machine does not have 192.0.2.1");
	cr_expect_eq(open_descriptors(), before);
}

/* ---- Fast open ---------------------------------------------------------------------------------------------- */

static bool write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");
	return file && fputs(text, file) >= 0 && fclose(file) == 0;
}

/** Go into a network of our own, in which fast open is as `mode` says. */
static bool enter_network(const char *mode)
{
	if (unshare(CLONE_NEWNET) < 0)
		return false;
	struct ifreq up = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	bool is_up = ioctl(fd, SIOCSIFFLAGS, &up) == 0;
	close(fd);
	return is_up && write_file("/proc/sys/net/ipv4/tcp_fastopen", mode);
}

/** Whether the target took the first bytes with the SYN. */
static bool is_fast(int fd)
{
	struct tcp_info info;
	socklen_t length = sizeof(info);
	cr_assert_eq(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length), 0);
	return info.tcpi_options & TCPI_OPT_SYN_DATA;
}

/** Connect with bytes, and have them arrive. @return whether they went with the SYN */
static bool exchange(struct loop_back *l)
{
	struct connecting c;
	struct reader reader = {0};
	int result = connect_start(&c, address_of_port(listener_port(l->listener)), 5000, "hello");
	if (result == CP_AGAIN)
		run_until(&c.done);
	cr_assert(c.open.stream, "%s", c.open.error.message);
	cr_expect_eq(c.open.early_sent, 5);
	l->target = c.open.stream;
	l->stream = accept_one(&l->accepting);
	read_until(&reader, l->stream, 5);
	cr_expect_str_eq(reader.got, "hello");
	bool fast = is_fast(descriptor(l->target));
	free(reader.got);
	disconnect(l);
	return fast;
}

Test(core_tcp_options, a_fast_open_sends_the_first_bytes_with_the_syn)
{
	struct loop_back l;
	if (!enter_network("3"))
		cr_skip_test("needs the right to make a network namespace");
	set("connpipe.tcp.fast_open = 16");
	listen_on(&l, "tcp:127.0.0.1:0");
	cr_expect_not(exchange(&l), "the first one asks for a cookie");
	cr_expect(exchange(&l));
	connect_to_it(&l); /* nothing to send: an ordinary one */
	cr_expect_not(is_fast(descriptor(l.target)));
	loop_back_end(&l);
}

Test(core_tcp_options, a_fast_open_that_is_refused_is_a_refusal)
{
	struct loop_back l;
	struct connecting c;
	if (!enter_network("3"))
		cr_skip_test("needs the right to make a network namespace");
	set("connpipe.tcp.fast_open = 16");
	listen_on(&l, "tcp:127.0.0.1:0");
	const struct cp_address *address = address_of_port(listener_port(l.listener));
	exchange(&l);
	accepting_stop(&l.accepting);
	l.listener->ops->unbind(l.listener);
	int result = connect_start(&c, address, 5000, "hello"); /* there is a cookie: the bytes are taken at once */
	if (result == CP_AGAIN)
		run_until(&c.done);
	cr_expect_null(c.open.stream);
	cr_expect_eq(c.open.error.code, CP_EREFUSED, "%s", c.open.error.message);
}

/** A plain listener with fast open whose queue has room for one. */
static int short_queue(uint16_t *port)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	cr_assert_eq(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	cr_assert_eq(setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN, &one, sizeof(one)), 0);
	cr_assert_eq(listen(fd, 0), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&at, &length), 0);
	*port = ntohs(at.sin_port);
	return fd;
}

Test(core_tcp_options, a_fast_open_that_takes_its_time_sends_the_first_bytes_once)
{
	struct connecting first, filling, c;
	uint16_t port;
	char got[16] = "";
	if (!enter_network("3"))
		cr_skip_test("needs the right to make a network namespace");
	set("connpipe.tcp.fast_open = 16");
	int fd = short_queue(&port);
	cr_assert_eq(connect_start(&first, address_of_port(port), 0, "cookie"), CP_OK);
	close(accept(fd, NULL, NULL));
	cr_assert_eq(connect_start(&filling, address_of_port(port), 0, NULL), CP_OK);
	cr_assert_eq(connect_start(&c, address_of_port(port), 0, "hello"), CP_AGAIN);
	cr_expect_eq(c.open.early_sent, 5, "the kernel keeps them: the SYN comes again a second later");
	close(accept(fd, NULL, NULL));
	run_until(&c.done);
	cr_assert(c.open.stream, "%s", c.open.error.message);
	cr_expect_eq(c.open.early_sent, 5);
	cp_stream_shutdown_write(c.open.stream);
	int taken = accept(fd, NULL, NULL);
	cr_expect_eq(recv(taken, got, sizeof(got) - 1, MSG_WAITALL), 5);
	cr_expect_str_eq(got, "hello");
	close(taken);
	close(fd);
	cp_stream_close(c.open.stream, CP_CAUSE_DONE);
	cp_stream_close(first.open.stream, CP_CAUSE_DONE);
	cp_stream_close(filling.open.stream, CP_CAUSE_DONE);
}

Test(core_tcp_options, a_fast_open_that_the_kernel_has_turned_off_fails_the_connect)
{
	struct connecting c;
	if (!enter_network("0"))
		cr_skip_test("needs the right to make a network namespace");
	set("connpipe.tcp.fast_open = 16");
	cr_expect_eq(connect_start(&c, address_of("tcp:127.0.0.1:1"), 1000, "hello"), CP_EUNSUPPORTED);
	cr_expect(strstr(c.open.error.message, "net.ipv4.tcp_fastopen"), "%s", c.open.error.message);
}
