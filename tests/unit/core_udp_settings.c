/* UDP settings: what they say about an address, what is wrong with them, setting them on sockets. */
#include "core_settings.h"

#include "../../systems/core/udp_session.h"

TestSuite(core_udp_settings, .init = settings_start, .fini = settings_stop);

static const struct udp_options *of(const char *address)
{
	return udp_options_for(address_of(address));
}

Test(core_udp_settings, without_settings_nothing_is_set)
{
	static const struct udp_options none;
	set_udp("");
	cr_expect_null(fixture.core.udp);
	set_udp("[connpipe.udp]\non_reload = \"keep\"\nresponses = 0\nreceive_buffer = \"default\"");
	cr_expect_null(fixture.core.udp);
	cr_expect_eq(memcmp(of("udp:*4:53"), &none, sizeof(none)), 0);
}

Test(core_udp_settings, an_address_inherits_what_it_does_not_set)
{
	set_udp("[connpipe.udp]\nresponses = 3\nsend_buffer = \"64KiB\"\n"
			"[connpipe.udp.address.\"udp:*4:53\"]\nresponses = 1\non_reload = \"reroute\"\n"
			"[connpipe.udp.address.\"udp:*4:54\"]\nresponses = 0\nsend_buffer = \"default\"\n");
	cr_expect_eq(of("udp:*4:53")->responses, 1);
	cr_expect_eq(of("udp:*4:53")->send_buffer, 65536);
	cr_expect(udp_reroutes(address_of("udp:0.0.0.0:53")));
	cr_expect_eq(of("udp:*4:54")->responses, 0);
	cr_expect_eq(of("udp:*4:54")->send_buffer, 0);
	cr_expect_eq(of("udp:*4:55")->responses, 3);
	cr_expect_not(udp_reroutes(address_of("udp:*4:55")));
}

static void expect_error(const char *text, const char *where, const char *message)
{
	settings_of_udp(text);
	cr_assert_eq(report.count, 1, "%s: %zu errors", text, (size_t)report.count);
	cr_expect_str_eq(report.entries[0].where, where);
	cr_expect(strstr(report.entries[0].message, message), "%s: %s", text, report.entries[0].message);
	report_deinit(&report);
}

Test(core_udp_settings, errors)
{
	expect_error("[connpipe.udp]\nresponse = 1", "c.toml:2:1", "did you mean \"responses\"?");
	expect_error("[connpipe.udp]\nresponses = -1", "c.toml:2:13", "0");
	expect_error("[connpipe.udp]\nresponses = \"one\"", "c.toml:2:13", "integer");
	expect_error("[connpipe.udp]\non_reload = \"rerout\"", "c.toml:2:13", "reroute");
	expect_error("[connpipe.udp]\nreceive_buffer = \"1B\"", "c.toml:2:18", "from \"4KiB\" to \"1GiB\"");
	expect_error("[connpipe.udp]\nreceive_buffer = 1.5", "c.toml:2:18", "found");
	expect_error("[connpipe.udp]\nbind_source = \"here\"", "c.toml:2:15", "expected an IP address");
	expect_error("[connpipe.udp.address.\"tcp:*4:53\"]", "c.toml:1:24", "expected the address of a udp socket");
	expect_error("[connpipe.udp.address.\"udp:*4\"]", "c.toml:1:30", "port");
}

static int buffer_of(int fd, int option)
{
	int bytes = 0;
	socklen_t length = sizeof(bytes);
	getsockopt(fd, SOL_SOCKET, option, &bytes, &length);
	return bytes;
}

Test(core_udp_settings, they_are_set_and_taken_back_while_the_address_is_bound)
{
	struct accepting accepting;
	set_udp("[connpipe.udp]\nreceive_buffer = \"16KiB\"\nsend_buffer = \"20KiB\"");
	struct cp_listener *listener = bind_to("udp:127.0.0.1:0", 1);
	int fd = *endpoints_fd(&((struct udp_listener *)listener)->endpoints, 0, 0);
	int plain = socket(AF_INET, SOCK_DGRAM, 0);
	cr_expect_eq(buffer_of(fd, SO_RCVBUF), 2 * 16384);
	cr_expect_eq(buffer_of(fd, SO_SNDBUF), 2 * 20480);
	accepting_start(&accepting, listener);
	struct udp_acceptor *acceptor = (struct udp_acceptor *)accepting.acceptor;
	cr_expect_eq(acceptor->options.responses, 0);
	set_udp("[connpipe.udp]\nreceive_buffer = \"32KiB\"\nresponses = 1");
	struct cp_error error;
	cr_expect_eq(listener->ops->check_tune(listener, address_of("udp:127.0.0.1:0"), &error), CP_OK);
	listener->ops->tune(accepting.acceptor, address_of("udp:127.0.0.1:0"));
	cr_expect_eq(buffer_of(fd, SO_RCVBUF), 2 * 32768);
	cr_expect_eq(buffer_of(fd, SO_SNDBUF), buffer_of(plain, SO_SNDBUF), "as a new socket has it");
	cr_expect_eq(acceptor->options.responses, 1);
	close(plain);
	accepting_stop(&accepting);
	listener->ops->unbind(listener);
}

Test(core_udp_settings, targets_have_them_too)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, from;
	socklen_t length = sizeof(at);
	char text[64], byte;
	int server = socket(AF_INET, SOCK_DGRAM, 0);
	cr_assert_eq(bind(server, (struct sockaddr *)&at, sizeof(at)), 0);
	getsockname(server, (struct sockaddr *)&at, &length);
	snprintf(text, sizeof(text), "udp:127.0.0.1:%u", ntohs(at.sin_port));
	set_udp("[connpipe.udp]\nbind_source = \"127.0.0.7\"\nreceive_buffer = \"16KiB\"");
	struct cp_stream *target = stream_to(text);
	struct iovec vec = {"x", 1};
	cr_expect_eq(cp_stream_writev(target, &vec, 1, 0), 1);
	length = sizeof(from);
	cr_expect_eq(recvfrom(server, &byte, 1, 0, (struct sockaddr *)&from, &length), 1);
	cr_expect_eq(ntohl(from.sin_addr.s_addr), 0x7f000007);
	cp_stream_close(target, CP_CAUSE_DONE);
	set_udp("[connpipe.udp]\nbind_source = \"192.0.2.1\"");
	struct connecting c;
	cr_expect_eq(connect_wait(&c, address_of(text), 1000), CP_EINVAL);
	cr_expect(strstr(c.open.error.message, "bind_source"), "%s", c.open.error.message);
	close(server);
}

Test(core_udp_settings, a_mark_needs_a_privilege)
{
	drop_privileges();
	expect_error("[connpipe.udp]\nmark = 7", "c.toml:2:8", "cannot set mark: it needs CAP_NET_ADMIN");
	set_udp("[connpipe.udp]\nreceive_buffer = \"16KiB\""); /* what everybody may have */
}
