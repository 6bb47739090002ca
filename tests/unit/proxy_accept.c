/* The accepting side: headers over a stream that brings them as it likes. */
#include "proxy_fixture.h"
#include "proxy_samples.h"

static void start_plain(void)
{
	fixture_start();
	load("[connpipe.proxy]\ntrusted = [\"192.0.2.0/24\", \"unix\"]\nlength = 1000\n"
		 "[open]\ntype = \"proxy\"\ntrusted = [\"0.0.0.0/0\"]\noptional = true\nwait = \"1ms\"\n"
		 "[newer]\ntype = \"proxy\"\nversion = \"v2\"\noptional = true\n");
}

TestSuite(proxy_accept, .init = start_plain, .fini = fixture_stop, .timeout = 60);

#define TAIL "what belongs to the stream"

/** A sample with something behind it. @return its length */
static size_t with_tail(const struct sample *s, char bytes[1024])
{
	memcpy(bytes, s->bytes, s->length);
	memcpy(bytes + s->length, TAIL, sizeof(TAIL) - 1);
	return s->length + sizeof(TAIL) - 1;
}

/* ---- Headers that are there --------------------------------------------------------------------------------- */

Test(proxy_accept, a_header_alone_takes_one_read_and_leaves_no_layer)
{
	for (const struct sample *s = samples; s->name; s++) {
		connection("192.0.2.9", "proxy+tcp:$4:80");
		cr_assert_eq(accept_with(s->bytes, s->length, s->length), CP_OK, "%s: %s", s->name, fixture.open.error.message);
		cr_expect_eq(fixture.script.reads, 1, "%s", s->name);
		cr_expect_eq(fixture.open.stream, &fixture.script.stream, "%s", s->name);
		expect_stream("", 0);
	}
}

Test(proxy_accept, a_header_with_data_takes_one_read)
{
	for (const struct sample *s = samples; s->name; s++) {
		char bytes[1024];
		size_t length = with_tail(s, bytes);
		connection("192.0.2.9", "proxy+tcp:$4:80");
		cr_assert_eq(accept_with(bytes, length, length), CP_OK, "%s", s->name);
		cr_expect_eq(fixture.script.reads, 1, "%s", s->name);
		expect_stream(TAIL, sizeof(TAIL) - 1);
	}
}

Test(proxy_accept, every_split_of_every_header)
{
	for (const struct sample *s = samples; s->name; s++) {
		for (size_t split = 0; split < s->length; split++) {
			char bytes[1024];
			size_t length = with_tail(s, bytes);
			connection("192.0.2.9", "proxy+tcp:$4:80");
			fixture.script.drains = split % 2;
			cr_assert_eq(accept_with(bytes, length, split), CP_AGAIN, "%s: %zu", s->name, split);
			arrive(length);
			cr_assert(fixture.finished, "%s: %zu", s->name, split);
			expect_peer(s->transport == PROXY_UNKNOWN ? "192.0.2.9:5000" : s->source);
			expect_stream(TAIL, sizeof(TAIL) - 1);
		}
	}
}

Test(proxy_accept, byte_by_byte)
{
	for (const struct sample *s = samples; s->name; s++) {
		char bytes[1024];
		size_t length = with_tail(s, bytes);
		connection("192.0.2.9", "proxy+tcp:$4:80");
		cr_assert_eq(accept_with(bytes, length, 0), CP_AGAIN);
		for (size_t arrived = 1; arrived <= s->length; arrived++) {
			cr_assert_not(fixture.finished, "%s: %zu", s->name, arrived);
			arrive(arrived);
		}
		cr_assert(fixture.finished, "%s", s->name);
		cr_expect_eq(fixture.open.stream, &fixture.script.stream);
		fixture.script.arrived = length;
		expect_stream(TAIL, sizeof(TAIL) - 1);
	}
}

/** The pieces of a header are not read beyond its end where that is known. */
Test(proxy_accept, a_long_header_in_pieces)
{
	static char bytes[1000 + sizeof(TAIL)];
	struct proxy_writer writer;
	struct cp_peer peer = peer_of("203.0.113.1", 1);
	static const char padding[955];
	proxy_v2_begin(&writer, (uint8_t *)bytes, 1000, false, &peer, &peer);
	proxy_v2_put(&writer, PROXY_TLV_NOOP, padding, sizeof(padding));
	proxy_v2_put(&writer, PROXY_TLV_AUTHORITY, "name", 4);
	size_t header = proxy_v2_end(&writer, true);
	cr_assert_eq(header, 1000);
	memcpy(bytes + header, TAIL, sizeof(TAIL) - 1);
	for (size_t split = 1; split < header; split += 37) {
		connection("192.0.2.9", "proxy+tcp:$4:80");
		cr_assert_eq(accept_with(bytes, header + sizeof(TAIL) - 1, split), CP_AGAIN);
		arrive(split + 1 < header ? split + 1 : split);
		arrive(header + sizeof(TAIL) - 1);
		expect_fact("proxy_authority", "name");
		expect_stream(TAIL, sizeof(TAIL) - 1);
	}
}

Test(proxy_accept, a_header_longer_than_the_first_read)
{
	enum { LENGTH = 60000 };
	char *bytes = malloc(LENGTH);
	struct proxy_writer writer;
	struct cp_peer peer = peer_of("203.0.113.1", 1);
	char *padding = calloc(1, LENGTH);
	proxy_v2_begin(&writer, (uint8_t *)bytes, LENGTH, false, &peer, &peer);
	proxy_v2_put(&writer, PROXY_TLV_NOOP, padding, LENGTH - 28 - 3 - 7);
	cr_assert_eq(proxy_v2_end(&writer, true), LENGTH);
	fixture_stop();
	fixture = (struct fixture){0};
	fixture_start();
	load("[connpipe.proxy]\nlength = \"64KB\"\n");
	for (size_t split = 0; split < LENGTH; split += 9973) {
		connection("192.0.2.9", "proxy+tcp:$4:80");
		cr_assert_eq(accept_with(bytes, LENGTH, split), CP_AGAIN);
		arrive(LENGTH);
		expect_peer("203.0.113.1:1");
		expect_stream("", 0);
	}
	connection("192.0.2.9", "proxy+tcp:$4:80");
	cr_assert_eq(accept_with(bytes, LENGTH, LENGTH), CP_OK);
	expect_stream("", 0);
	free(padding);
	free(bytes);
}

/* ---- Headers that are not right ----------------------------------------------------------------------------- */

Test(proxy_accept, every_split_of_every_malformed_header)
{
	for (const struct bad_sample *s = bad_samples; s->bytes; s++) {
		for (size_t split = 0; split <= s->shows; split++) {
			connection("192.0.2.9", "proxy+tcp:$4:80");
			int result = accept_with(s->bytes, s->length, split);
			cr_assert_eq(result, split < s->shows ? CP_AGAIN : CP_EPROTO, "%s: %zu: %d", s->reason, split, result);
			if (result == CP_AGAIN)
				arrive(s->shows);
			cr_assert_eq(outcome(), CP_EPROTO, "%s: %zu", s->reason, split);
			cr_expect(strstr(fixture.open.error.message, s->reason), "%s", fixture.open.error.message);
			cr_expect(fixture.script.closed);
			cr_expect_eq(fixture.script.cause, CP_CAUSE_CLIENT_PROTOCOL);
			expect_peer("192.0.2.9:5000");
		}
	}
}

Test(proxy_accept, messages_say_what_was_found)
{
	static const struct {
		const char *bytes;
		size_t length;
		const char *message;
	} cases[] = {
		{BYTES("GET / HTTP/1.1\r\n"), "expected a PROXY header, found \"GET / HTTP/1.1\""},
		{BYTES("\x16\x03\x01\x02\x00\x01"), "expected a PROXY header, found the bytes 16 03 01 02 00 01"},
		{BYTES("SSH-2.0-OpenSSH_9.9p1 something"), "expected a PROXY header, found \"SSH-2.0-OpenSSH_\""},
		{BYTES("PROXY TCP4 192.0.2.256 192.0.2.1 1 2\r\n"),
		 "malformed PROXY v1 header at byte 12: expected an IPv4 address, found \"192.0.2.256 192.\""},
		{BYTES("PROXY TCP4 192.0.2.1 192.0.2.2 1 02\r\n"),
		 "malformed PROXY v1 header at byte 34: expected a port from 0 to 65535, found \"02\""},
		{BYTES(SIGNATURE "\x25"),
		 "malformed PROXY v2 header at byte 13: the command is neither LOCAL nor PROXY, found \"%\""},
		{BYTES(SIGNATURE "\x20\x00\xff\xff"),
		 "malformed PROXY v2 header at byte 15: it is longer than what is set as `length`, found the bytes ff ff"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		connection("192.0.2.9", "proxy+tcp:$4:80");
		accept_with(cases[i].bytes, cases[i].length, cases[i].length);
		expect_failure(CP_EPROTO, cases[i].message);
	}
}

Test(proxy_accept, the_end_in_front_of_the_header)
{
	connection("192.0.2.9", "proxy+tcp:$4:80");
	fixture.script.end = true;
	cr_assert_eq(accept_with("", 0, 0), CP_ECANCELED);
	expect_failure(CP_ECANCELED, "the client left before it sent a PROXY header");
	cr_expect_eq(fixture.script.cause, CP_CAUSE_CLIENT_GONE);
}

Test(proxy_accept, the_end_in_the_header)
{
	for (size_t length = 1; length < 20; length++) {
		char message[80];
		snprintf(message, sizeof(message), "the PROXY header is cut short: it ends behind byte %zu", length);
		connection("192.0.2.9", "proxy+tcp:$4:80");
		fixture.script.end = true;
		cr_assert_eq(accept_with("PROXY TCP4 192.0.2.1", length, 0), CP_AGAIN);
		arrive(length);
		if (!fixture.finished) /* it was told that this is all for now */
			arrive(length);
		expect_failure(CP_EPROTO, message);
	}
}

Test(proxy_accept, a_reset_in_the_header)
{
	connection("192.0.2.9", "proxy+tcp:$4:80");
	fixture.script.error = CP_ERESET;
	fixture.script.drains = false;
	cr_assert_eq(accept_with("PROXY", 5, 5), CP_ERESET);
	expect_failure(CP_ERESET, "connection reset before the PROXY header was there");
}

/* ---- What it says ------------------------------------------------------------------------------------------- */

static void accept_sample(const char *name)
{
	const struct sample *s = sample(name);
	connection("192.0.2.9", "proxy+tcp:$4:80");
	cr_assert_eq(accept_with(s->bytes, s->length, s->length), CP_OK, "%s", fixture.open.error.message);
	expect_stream("", 0);
}

Test(proxy_accept, its_addresses_become_those_of_the_connection)
{
	accept_sample("v2 over IPv6");
	expect_peer("[2001:db8::1]:51234");
	expect_local("[2001:db8::2]:443");
	expect_fact("proxy_version", "2");
	expect_fact("proxy_via", "192.0.2.9:5000");
	expect_fact("proxy_local", NULL);
	expect_fact("proxy_transport", NULL);
	accept_sample("v1 over IPv4");
	expect_peer("192.0.2.1:51234");
	expect_local("198.51.100.2:443");
	expect_fact("proxy_version", "1");
}

Test(proxy_accept, a_connection_of_the_proxy_itself)
{
	accept_sample("v2, local, with what does not count");
	expect_peer("192.0.2.9:5000");
	expect_local("local");
	expect_fact("proxy_local", "true");
	accept_sample("v1, unknown, with something");
	expect_peer("192.0.2.9:5000");
	expect_fact("proxy_local", NULL);
}

Test(proxy_accept, the_client_of_a_unix_socket)
{
	accept_sample("v2 of a unix socket");
	expect_peer("local");
	expect_fact("proxy_transport", "unix");
	expect_fact("proxy_source_path", "/run/source.sock");
	expect_fact("proxy_destination_path", "@abstract name");
	accept_sample("v2 of a unix datagram socket");
	expect_fact("proxy_transport", "unix-datagram");
	expect_fact("proxy_source_path", NULL);
	accept_sample("v2 over IPv4, UDP");
	expect_fact("proxy_transport", "udp");
	expect_peer("192.0.2.1:51234");
}

Test(proxy_accept, tlvs_become_facts)
{
	accept_sample("v2 with TLVs");
	expect_fact("proxy_authority", "example.org");
	expect_fact("proxy_alpn", "h2");
	expect_fact("proxy_multiplex", "db");
	expect_fact("proxy_unique_id", NULL);
	expect_fact("proxy_ssl", NULL);
}

static void accept_tlvs(const char *tlvs, size_t length)
{
	char bytes[512];
	struct proxy_writer writer;
	struct cp_peer peer = peer_of("203.0.113.1", 1);
	proxy_v2_begin(&writer, (uint8_t *)bytes, sizeof(bytes), false, &peer, &peer);
	cr_assert_leq(writer.length + length, sizeof(bytes));
	memcpy(bytes + writer.length, tlvs, length);
	writer.length += length;
	size_t header = proxy_v2_end(&writer, false);
	connection("192.0.2.9", "proxy+tcp:$4:80");
	cr_assert_eq(accept_with(bytes, header, header), CP_OK, "%s", fixture.open.error.message);
	expect_stream("", 0);
}

Test(proxy_accept, facts_are_text_or_hexadecimal)
{
	accept_tlvs(BYTES("\x05\x00\x03"
					  "a-1"
					  "\x30\x00\x04"
					  "blue"
					  "\xe0\x00\x02"
					  "\x00\xff"
					  "\xef\x00\x02"
					  "\xc3\xa4"
					  "\xea\x00\x03"
					  "0xz"
					  "\xee\x00\x00"
					  "\xf0\x00\x01x"
					  "\x99\x00\x01x"));
	expect_fact("proxy_unique_id", "a-1");
	expect_fact("proxy_netns", "blue");
	expect_fact("proxy_tlv_e0", "0x00ff");
	expect_fact("proxy_tlv_ef", "\xc3\xa4");
	expect_fact("proxy_tlv_ea", "0x30787a");
	expect_fact("proxy_tlv_ee", "");
	expect_fact("proxy_tlv_f0", NULL);
	expect_fact("proxy_tlv_99", NULL);
	accept_tlvs(BYTES("\x05\x00\x02"
					  "a\n"
					  "\x01\x00\x01"
					  "\x80"));
	expect_fact("proxy_unique_id", "0x610a");
	expect_fact("proxy_alpn", "0x80");
}

Test(proxy_accept, what_a_header_says_about_tls)
{
	accept_tlvs(BYTES("\x20\x00\x38"
					  "\x07\0\0\0\0"
					  "\x21\x00\x07"
					  "TLSv1.3"
					  "\x22\x00\x02"
					  "me"
					  "\x23\x00\x07"
					  "AES-GCM"
					  "\x24\x00\x0a"
					  "RSA-SHA256"
					  "\x25\x00\x0a"
					  "RSA2048   "));
	expect_fact("proxy_ssl", "true");
	expect_fact("proxy_ssl_verified", "true");
	expect_fact("proxy_ssl_client", "7");
	expect_fact("proxy_ssl_verify", "0");
	expect_fact("proxy_ssl_version", "TLSv1.3");
	expect_fact("proxy_ssl_cn", "me");
	expect_fact("proxy_ssl_cipher", "AES-GCM");
	expect_fact("proxy_ssl_sig_alg", "RSA-SHA256");
	expect_fact("proxy_ssl_key_alg", "RSA2048   ");
	accept_tlvs(BYTES("\x20\x00\x05"
					  "\x01\0\0\0\0"));
	expect_fact("proxy_ssl_verified", "false"); /* there was no certificate */
	accept_tlvs(BYTES("\x20\x00\x05"
					  "\x03\0\0\0\x12"));
	expect_fact("proxy_ssl_verified", "false");
	expect_fact("proxy_ssl_verify", "18");
}

Test(proxy_accept, without_a_request_there_is_nobody_to_tell)
{
	const struct sample *s = sample("v2 with TLVs");
	fixture_stop();
	fixture = (struct fixture){0};
	fixture_start();
	load("");
	connection("192.0.2.9", "proxy+tcp:$4:80");
	fixture.script.bytes = s->bytes;
	fixture.script.length = fixture.script.arrived = s->length;
	cr_assert_eq(start(true, NULL), CP_OK);
	expect_stream("", 0);
	expect_peer("192.0.2.9:5000");
}

/* ---- Who is trusted ----------------------------------------------------------------------------------------- */

Test(proxy_accept, others_are_refused_where_it_is_required)
{
	const struct sample *s = sample("v1 over IPv4");
	connection("203.0.113.7", "proxy+tcp:$4:80");
	accept_with(s->bytes, s->length, s->length);
	expect_failure(CP_EPROTO, "203.0.113.7:5000 is not trusted to send PROXY headers");
	cr_expect_eq(fixture.script.reads, 0);
	connection("2001:db8::1", "proxy+tcp:$4:80");
	accept_with(s->bytes, s->length, s->length);
	expect_failure(CP_EPROTO, "[2001:db8::1]:5000 is not trusted to send PROXY headers");
}

Test(proxy_accept, others_send_no_header_where_it_is_optional)
{
	const struct sample *s = sample("v1 over IPv4");
	connection("203.0.113.7", "proxy(optional)+tcp:$4:80");
	accept_with(s->bytes, s->length, s->length);
	cr_expect_eq(fixture.script.reads, 0);
	cr_expect_eq(fixture.open.stream, &fixture.script.stream);
	expect_peer("203.0.113.7:5000");
	expect_fact("proxy_version", NULL);
	expect_stream(s->bytes, s->length);
}

Test(proxy_accept, a_unix_sockets_client_is_trusted_if_that_is_set)
{
	const struct sample *s = sample("v1 over IPv4");
	connection("", "proxy+unix:/x");
	accept_with(s->bytes, s->length, s->length);
	expect_peer("192.0.2.1:51234");
	expect_fact("proxy_via", "local");
	expect_stream("", 0);
	connection("", "proxy(open)+unix:/x");
	accept_with(s->bytes, s->length, s->length);
	expect_stream(s->bytes, s->length);
}

/* ---- Optional headers --------------------------------------------------------------------------------------- */

Test(proxy_accept, an_optional_header_is_read)
{
	for (const struct sample *s = samples; s->name; s++) {
		char bytes[1024];
		size_t length = with_tail(s, bytes);
		connection("192.0.2.9", "proxy(optional)+tcp:$4:80");
		cr_assert_eq(accept_with(bytes, length, length), CP_OK, "%s", s->name);
		expect_fact("proxy_version", s->version == 1 ? "1" : "2");
		expect_stream(TAIL, sizeof(TAIL) - 1);
	}
}

Test(proxy_accept, other_bytes_are_the_streams_however_they_come)
{
	static const char *const others[] = {"GET / HTTP/1.1\r\n\r\n", "PROXYING", "PROX", "\r\n\r\n\0\r\nQUIX", "\r"};
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		size_t length = i == 3 ? 11 : strlen(others[i]);
		for (size_t split = 0; split <= length; split++) {
			connection("192.0.2.9", "proxy(optional)+tcp:$4:80");
			fixture.script.end = true;
			if (accept_with(others[i], length, split) == CP_AGAIN)
				arrive(length);
			if (outcome() == CP_AGAIN)
				arrive(length); /* the end */
			fixture.script.arrived = length;
			expect_peer("192.0.2.9:5000");
			expect_stream(others[i], length);
		}
	}
}

Test(proxy_accept, a_malformed_header_is_refused_where_it_is_optional_too)
{
	for (const struct bad_sample *s = bad_samples; s->bytes; s++) {
		connection("192.0.2.9", "proxy(optional)+tcp:$4:80");
		accept_with(s->bytes, s->length, s->length);
		cr_expect_eq(outcome(), CP_EPROTO, "%s", s->reason);
	}
}

static void on_turn(struct cp_timer *timer)
{
	loop_stop(timer->loop);
}

/** Let the loop's timers run that are due within `ms`. */
static void pass_time(uint64_t ms)
{
	struct cp_timer timer;
	cp_timer_init(&timer, fixture.loop, on_turn);
	cp_timer_start(&timer, ms);
	loop_run(fixture.loop);
}

Test(proxy_accept, a_silent_client_has_no_header_after_a_while)
{
	connection("192.0.2.9", "proxy(open)+tcp:$4:80");
	cr_assert_eq(accept_with(TAIL, sizeof(TAIL) - 1, 0), CP_AGAIN);
	while (!fixture.finished)
		pass_time(5);
	cr_expect_eq(fixture.open.stream, &fixture.script.stream);
	cr_expect_null(fixture.script.stream.ready);
	fixture.script.arrived = fixture.script.length;
	expect_stream(TAIL, sizeof(TAIL) - 1);
}

Test(proxy_accept, so_has_one_that_stops_in_what_could_have_become_one)
{
	connection("192.0.2.9", "proxy(open)+tcp:$4:80");
	cr_assert_eq(accept_with("PROX", 4, 4), CP_AGAIN);
	while (!fixture.finished)
		pass_time(5);
	expect_stream("PROX", 4);
}

/** What would end the wait was due much earlier than the timer that ends the loop here. */
Test(proxy_accept, a_header_that_has_begun_is_waited_for)
{
	const struct sample *s = sample("v1 over IPv4");
	connection("192.0.2.9", "proxy(open)+tcp:$4:80");
	cr_assert_eq(accept_with(s->bytes, s->length, 6), CP_AGAIN);
	pass_time(40);
	cr_assert_not(fixture.finished);
	arrive(s->length);
	expect_peer("192.0.2.1:51234");
	expect_stream("", 0);
}

Test(proxy_accept, it_can_be_given_up)
{
	for (size_t arrived = 0; arrived < 10; arrived++) {
		connection("192.0.2.9", arrived % 2 ? "proxy(open)+tcp:$4:80" : "proxy+tcp:$4:80");
		cr_assert_eq(accept_with("PROXY TCP4 ", 11, arrived), CP_AGAIN);
		fixture.converter->def->cancel(fixture.converter, &fixture.open);
		cr_expect(fixture.script.closed);
		cr_expect_eq(fixture.script.cause, CP_CAUSE_HANDSHAKE_TIMEOUT);
	}
	pass_time(40); /* no timer is left */
	cr_expect_not(fixture.finished);
}

/* ---- Versions ----------------------------------------------------------------------------------------------- */

Test(proxy_accept, a_version_can_be_asked_for)
{
	for (const struct sample *s = samples; s->name; s++) {
		connection("192.0.2.9", "proxy(v1)+tcp:$4:80");
		cr_expect_eq(accept_with(s->bytes, s->length, s->length), s->version == 1 ? CP_OK : CP_EPROTO, "%s", s->name);
		connection("192.0.2.9", "proxy(v2)+tcp:$4:80");
		cr_expect_eq(accept_with(s->bytes, s->length, s->length), s->version == 2 ? CP_OK : CP_EPROTO, "%s", s->name);
	}
}

/** As soon as it shows, and also where a header is optional. */
Test(proxy_accept, the_other_version_is_malformed)
{
	connection("192.0.2.9", "proxy(v2)+tcp:$4:80");
	accept_with("PROXY ", 6, 6);
	expect_failure(CP_EPROTO, "malformed PROXY v1 header at byte 1: expected version 2, found \"PROXY \"");
	connection("192.0.2.9", "proxy(newer)+tcp:$4:80");
	accept_with("PROXY TCP4", 10, 10);
	expect_failure(CP_EPROTO, "malformed PROXY v1 header at byte 1: expected version 2, found \"PROXY TCP4\"");
}
