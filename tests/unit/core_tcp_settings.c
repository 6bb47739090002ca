/* TCP settings: what they say about an address, and what is wrong with them. */
#include "core_settings.h"

TestSuite(core_tcp_settings, .init = settings_start, .fini = settings_stop);

/* ---- Which options an address has --------------------------------------------------------------------------- */

Test(core_tcp_settings, without_settings_nothing_is_set)
{
	static const char *const texts[] = {"",
										"[connpipe]",
										"[connpipe]\ntcp = {}",
										"[connpipe.tcp.address]",
										"connpipe.tcp.splice = \"auto\"",
										"connpipe.tcp.keepalive = \"0s\""};
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		set(texts[i]);
		cr_expect_null(fixture.core.tcp, "%s", texts[i]);
		cr_expect_null(options_for("tcp:$4:80"));
	}
}

Test(core_tcp_settings, an_address_inherits_what_it_does_not_set)
{
	set("[connpipe.tcp]\nkeepalive = \"60s\"\nuser_timeout = \"30s\"\n"
		"[connpipe.tcp.address.\"tcp:10.0.0.2:80\"]\nkeepalive = { interval = \"5s\", count = 3 }\n"
		"[connpipe.tcp.address.\"tcp:DB.local:80\"]\nbacklog = 7\n");
	const struct tcp_options *all = options_for("tcp:10.0.0.2:81"), *one = options_for("tcp:10.0.0.2:80!sub"),
							 *name = options_for("tcp:db.local:80");
	cr_assert(all && one && name);
	cr_expect_eq(all->keep_idle, 60);
	cr_expect_eq(all->user_timeout, 30000);
	cr_expect_eq(one->keepalive, 1);
	cr_expect_eq(one->keep_idle, 0, "the parts of a keepalive belong together");
	cr_expect_eq(one->keep_interval, 5);
	cr_expect_eq(one->keep_count, 3);
	cr_expect_eq(one->user_timeout, 30000);
	cr_expect_eq(name->backlog, 7);
	cr_expect_eq(name->keep_idle, 60);
	cr_expect_eq(options_for("tcp:10.0.0.20:80"), all);
}

Test(core_tcp_settings, an_address_can_take_back_what_is_set_for_all)
{
	set("[connpipe.tcp]\nkeepalive = \"60s\"\nuser_timeout = \"30s\"\ndefer_accept = \"3s\"\nfast_open = 16\n"
		"splice = \"off\"\nbacklog = 9\nbind_source = \"127.0.0.1\"\n"
		"[connpipe.tcp.address.\"tcp:$4:80\"]\nkeepalive = \"off\"\nuser_timeout = \"0s\"\ndefer_accept = \"off\"\n"
		"fast_open = \"off\"\nsplice = \"auto\"\nbacklog = \"default\"\nbind_source = \"default\"\n"
		"congestion = \"default\"\nmark = 0\n");
	cr_expect(options_for("tcp:$4:81"));
	cr_expect_null(options_for("tcp:127.0.0.1:80"), "as if nothing was set");
}

Test(core_tcp_settings, every_address_of_many_is_found)
{
	static char text[200 * 64];
	size_t length = 0;
	for (int i = 0; i < 200; i++)
		length +=
			(size_t)snprintf(text + length, sizeof(text) - length,
							 "connpipe.tcp.address.\"tcp:10.0.%d.1:%d\".backlog = %d\n", i % 10, 1000 + i / 10, i + 1);
	set(text);
	for (int i = 0; i < 200; i++) {
		char address[64];
		snprintf(address, sizeof(address), "tcp:10.0.%d.1:%d", i % 10, 1000 + i / 10);
		cr_assert(options_for(address), "%s", address);
		cr_expect_eq(options_for(address)->backlog, i + 1);
	}
	cr_expect_null(options_for("tcp:10.0.10.1:1000"));
}

/* ---- Errors ------------------------------------------------------------------------------------------------- */

/** One error of one line in [connpipe.tcp], from its column on. */
static void expect_error(const char *line, const char *error)
{
	char text[512], found[1024] = "", expected[1024];
	snprintf(text, sizeof(text), "[connpipe.tcp]\n%s\n", line);
	settings(text, NULL);
	cr_assert_eq(report.count, 1, "%s: %zu errors", line, report.count);
	snprintf(found, sizeof(found), "%s: %s", report.entries[0].where, report.entries[0].message);
	snprintf(expected, sizeof(expected), "c.toml:2:%s", error);
	cr_expect_str_eq(found, expected);
	report_deinit(&report);
}

Test(core_tcp_settings, errors_of_keys)
{
	expect_error("keep_alive = \"5s\"", "1: unknown key \"keep_alive\", did you mean \"keepalive\"?");
	expect_error("congestion = 1", "14: expected a string, found the integer 1");
	expect_error("congestion = \"BBR\"", "15: expected the name of a congestion control such as \"bbr\" (1 to 15 of "
										 "a-z, 0-9, \"_\", \"-\") or \"default\", found \"BBR\"");
	expect_error("keepalive = true", "13: expected \"off\", a duration from \"1s\" to \"32767s\", or a table of idle, "
									 "interval and count, found a boolean");
	expect_error("keepalive = \"10h\"", "13: expected \"off\", a duration from \"1s\" to \"32767s\", or a table of "
										"idle, interval and count, found 36000000 ms");
	expect_error("keepalive = \"never\"",
				 "14: expected a duration such as \"5s\" (units: ns, us, ms, s, m, h, d), found the string \"never\"");
	expect_error("keepalive = { count = 128 }", "23: expected an integer from 1 to 127, found the integer 128");
	expect_error("keepalive = { idle = \"0s\" }", "22: expected a duration from \"1s\" to \"32767s\", found \"0s\"");
	expect_error("keepalive = { interval = \"off\" }",
				 "26: expected a duration from \"1s\" to \"32767s\", found \"off\"");
	expect_error("keepalive = { idel = \"5s\" }", "15: unknown key \"idel\", did you mean \"idle\"?");
	expect_error("user_timeout = 5", "16: expected \"off\" or a duration from \"1ms\" to \"24d\", found an integer");
	expect_error("defer_accept = \"61m\"",
				 "16: expected \"off\" or a duration from \"1s\" to \"1h\", found 3660000 ms");
	expect_error("fast_open = true", "13: expected \"off\" or an integer from 1 to 65535, found a boolean");
	expect_error("fast_open = 0", "13: expected an integer from 1 to 65535, found the integer 0");
	expect_error("splice = \"on\"", "10: expected \"auto\" or \"off\", found the string \"on\"");
	expect_error("backlog = \"big\"", "11: expected \"default\" or an integer from 1 to 2147483647, found a string");
	expect_error("mark = -1", "8: expected an integer from 0 to 4294967295, found the integer -1");
	expect_error("mark = \"1\"", "8: expected an integer from 0 to 4294967295, found the string \"1\"");
}

Test(core_tcp_settings, errors_of_bind_source)
{
	expect_error("bind_source = \"10.0.0.1:80\"", "15: expected an IP address such as \"192.0.2.1\" or "
												  "\"2001:db8::1\", found the string \"10.0.0.1:80\"");
	expect_error("bind_source = [\"::1\", \"10.0.0.1\", \"10.0.0.2\"]",
				 "35: expected one IPv4 and one IPv6 address at most, found another one of IPv4");
	expect_error("bind_source = [1]", "16: expected a string, found the integer 1");
	expect_error("bind_source = 1", "15: expected a string, found the integer 1");
}

Test(core_tcp_settings, errors_of_addresses)
{
	expect_error("address = 5", "11: expected a table, found the integer 5");
	expect_error("address.\"tcp:$4:80\" = 5", "23: expected a table, found the integer 5");
	expect_error("address.\"tcp:$4:80\" = { backlok = 5 }", "25: unknown key \"backlok\", did you mean \"backlog\"?");
	expect_error("address.\"unix:/x\" = {}",
				 "10: expected the address of a tcp socket, found one of the connector \"unix\"");
	expect_error("address.\"tcp:$4:80!ssh\" = {}",
				 "10: expected the address of a tcp socket without a subport: all on one socket share it");
	expect_error("address.\"tcp:$4\" = {}", "16: expected \":\" and a port, as in tcp:host:port!multiplex");
	expect_error("address = { \"tcp:$4:80\" = {}, \"tcp/127.0.0.1:80\" = {} }",
				 "32: the same socket as the key at c.toml:2:13");
}

Test(core_tcp_settings, the_kernel_is_asked_for_a_congestion_control)
{
	settings("connpipe.tcp.congestion = \"rena\"", NULL);
	cr_assert_eq(report.count, 1);
	cr_expect_str_eq(report.entries[0].where, "c.toml:1:27");
	cr_expect(strstr(report.entries[0].message, "the kernel has no \"rena\""), "%s", report.entries[0].message);
	cr_expect(strstr(report.entries[0].message, ", did you mean \"reno\"?"), "%s", report.entries[0].message);
}

Test(core_tcp_settings, a_check_asks_nothing_of_the_kernel)
{
	generation.mode = GENERATION_CHECK;
	set("connpipe.tcp.congestion = \"rena\"");
	cr_expect_str_eq(options_for("tcp:$4:80")->congestion, "rena");
}

Test(core_tcp_settings, a_mark_needs_a_privilege)
{
	drop_privileges();
	settings("connpipe.tcp.address.\"tcp:$4:80\".mark = 1", NULL);
	cr_assert_eq(report.count, 1);
	cr_expect_str_eq(report.entries[0].where, "c.toml:1:41");
	cr_expect_str_eq(report.entries[0].message, "cannot set mark: it needs CAP_NET_ADMIN");
}
