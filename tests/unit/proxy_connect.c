/* The connecting side: headers that are written, over a stream that takes them as it likes. */
#include "proxy_fixture.h"

#include "../../systems/proxy/header.h"

static void start_writing(void)
{
	fixture_start();
	load("[full]\ntype = \"proxy\"\ntlvs = [\"authority\", \"alpn\", \"ssl\", \"unique_id\", \"multiplex\", "
		 "\"crc32c\"]\n"
		 "[id]\ntype = \"proxy\"\ntlvs = [\"unique_id\"]\n"
		 "[older]\ntype = \"proxy\"\nversion = \"v1\"\n");
}

TestSuite(proxy_connect, .init = start_writing, .fini = fixture_stop, .timeout = 60);

static int connect_to(struct cp_request *request)
{
	return start(false, request);
}

static void set_local(const char *ip, uint16_t port)
{
	struct cp_peer local = peer_of(ip, port);
	cp_request_set_local(&fixture.request, &local);
}

static void set_text(const char *name, const char *text)
{
	struct cp_value value = cp_string(text, strlen(text));
	cp_request_set_fact(&fixture.request, name, &value);
}

static void set_value(const char *name, struct cp_value value)
{
	cp_request_set_fact(&fixture.request, name, &value);
}

static void expect_written(const char *bytes, size_t length)
{
	cr_expect_eq(fixture.script.written_length, length, "%zu bytes", fixture.script.written_length);
	cr_expect_eq(memcmp(fixture.script.written, bytes, length), 0, "%.*s", (int)length, fixture.script.written);
}

/** What was written, as it is read. */
static struct proxy_header written(void)
{
	struct proxy_header header;
	const uint8_t *bytes = (const uint8_t *)fixture.script.written;
	cr_assert_eq(outcome(), CP_OK, "%s", fixture.open.error.message);
	cr_assert_eq(proxy_header_read(bytes, fixture.script.written_length, 4096, &header), PROXY_FOUND, "%s",
				 header.reason ? header.reason : "");
	cr_assert_eq(header.length, fixture.script.written_length);
	return header;
}

/** The value of the only TLV of a type. @return false: there is none */
static bool find_tlv(struct proxy_bytes tlvs, uint8_t type, struct proxy_bytes *value)
{
	struct proxy_tlv tlv;
	int count = 0;
	while (proxy_tlv_next(&tlvs, &tlv)) {
		if (tlv.type != type)
			continue;
		*value = tlv.value;
		count++;
	}
	cr_assert_leq(count, 1);
	return count;
}

/** @param text  NULL: there is none of that type */
static void expect_tlv(struct proxy_bytes tlvs, uint8_t type, const char *text, size_t length)
{
	struct proxy_bytes value;
	bool there = find_tlv(tlvs, type, &value);
	cr_assert_eq(there, text != NULL, "type %02x", type);
	if (there)
		cr_expect(value.length == length && memcmp(value.at, text, length) == 0, "type %02x: %.*s", type,
				  (int)value.length, (const char *)value.at);
}

#define TEXT(text) (text), strlen(text)

/* ---- Headers ------------------------------------------------------------------------------------------------ */

Test(proxy_connect, version_2_unless_said_otherwise)
{
	static const char *const addresses[] = {"proxy+tcp:$4:80", "proxy(v2)+tcp:$4:80"};
	for (int i = 0; i < 2; i++) {
		connection("192.0.2.1", addresses[i]);
		set_local("198.51.100.2", 443);
		cr_assert_eq(connect_to(&fixture.request), CP_OK);
		expect_written("\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x02\x13\x88\x01\xbb", 28);
		cr_expect_eq(fixture.open.stream, &fixture.script.stream);
		cr_expect_eq(fixture.script.writes, 1);
		expect_stream("", 0);
	}
}

Test(proxy_connect, version_1)
{
	static const char *const addresses[] = {"proxy(v1)+tcp:$4:80", "proxy(older)+tcp:$4:80"};
	for (int i = 0; i < 2; i++) {
		connection("2001:db8::1", addresses[i]);
		set_local("198.51.100.2", 443);
		cr_assert_eq(connect_to(&fixture.request), CP_OK);
		expect_written(TEXT("PROXY TCP6 2001:db8::1 ::ffff:c633:6402 5000 443\r\n"));
		expect_stream("", 0);
	}
}

Test(proxy_connect, a_connection_of_nobody)
{
	connection("192.0.2.1", "proxy+tcp:$4:80");
	cr_assert_eq(connect_to(NULL), CP_OK);
	expect_written("\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00", 16);
	expect_stream("", 0);
	connection("192.0.2.1", "proxy(full)+tcp:$4:80");
	cr_assert_eq(connect_to(NULL), CP_OK);
	cr_expect(written().local);
	connection("192.0.2.1", "proxy(v1)+tcp:$4:80");
	cr_assert_eq(connect_to(NULL), CP_OK);
	expect_written(TEXT("PROXY UNKNOWN\r\n"));
}

Test(proxy_connect, a_client_without_an_ip_address)
{
	connection("", "proxy+tcp:$4:80");
	cr_assert_eq(connect_to(&fixture.request), CP_OK);
	expect_written("\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00", 16);
	connection("", "proxy(v1)+tcp:$4:80");
	cr_assert_eq(connect_to(&fixture.request), CP_OK);
	expect_written(TEXT("PROXY UNKNOWN\r\n"));
	connection("", "proxy(full)+tcp:$4:80"); /* there is something to be told */
	set_text("sni", "example.org");
	cr_assert_eq(connect_to(&fixture.request), CP_OK);
	struct proxy_header header = written();
	cr_expect_not(header.local);
	cr_expect_eq(header.transport, PROXY_UNKNOWN);
	expect_tlv(header.tlvs, PROXY_TLV_AUTHORITY, TEXT("example.org"));
}

Test(proxy_connect, a_destination_that_is_not_known)
{
	connection("192.0.2.1", "proxy+tcp:$4:80");
	cr_assert_eq(connect_to(&fixture.request), CP_OK);
	struct proxy_header header = written();
	cr_expect_eq(header.source.ip.family, 4);
	cr_expect_eq(header.destination.port, 0);
}

/* ---- TLVs --------------------------------------------------------------------------------------------------- */

Test(proxy_connect, without_tlvs_set_none_are_sent)
{
	connection("192.0.2.1", "proxy+tcp:$4:80!db");
	set_text("sni", "example.org");
	set_text("tls_version", "1.3");
	cr_assert_eq(connect_to(&fixture.request), CP_OK);
	cr_expect_eq(written().tlvs.length, 0);
}

Test(proxy_connect, what_is_known_here)
{
	struct proxy_bytes value;
	struct proxy_ssl ssl;
	connection("192.0.2.1", "proxy(full)+tcp:$4:80!db");
	set_text("sni", "example.org");
	set_text("proxy_authority", "not this");
	set_text("alpn", "h2");
	set_text("tls_version", "1.3");
	set_text("tls_cipher", "TLS_AES_128_GCM_SHA256");
	set_text("tls_client_cn", "0x41");
	set_text("tls_client_fingerprint", "ab");
	set_value("tls_client_verified", cp_bool(true));
	cr_assert_eq(connect_to(&fixture.request), CP_OK);
	struct proxy_header header = written();
	expect_tlv(header.tlvs, PROXY_TLV_AUTHORITY, TEXT("example.org"));
	expect_tlv(header.tlvs, PROXY_TLV_ALPN, TEXT("h2"));
	expect_tlv(header.tlvs, PROXY_TLV_MULTIPLEX, TEXT("db"));
	cr_expect(find_tlv(header.tlvs, PROXY_TLV_CRC32C, &value));
	cr_assert(find_tlv(header.tlvs, PROXY_TLV_SSL, &value));
	cr_assert(proxy_ssl_read(value, &ssl));
	cr_expect_eq(ssl.client, PROXY_SSL_USED | PROXY_SSL_CERT_CONN | PROXY_SSL_CERT_SESSION);
	cr_expect_eq(ssl.verify, 0);
	expect_tlv(ssl.tlvs, PROXY_TLV_SSL_VERSION, TEXT("TLSv1.3"));
	expect_tlv(ssl.tlvs, PROXY_TLV_SSL_CIPHER, TEXT("TLS_AES_128_GCM_SHA256"));
	expect_tlv(ssl.tlvs, PROXY_TLV_SSL_CN, TEXT("0x41")); /* it is a name, not one of our encodings */
}

Test(proxy_connect, what_is_not_known_is_left_out)
{
	struct proxy_bytes value;
	connection("192.0.2.1", "proxy(full)+tcp:$4:80");
	set_value("sni", cp_null()); /* it was looked for, and is not there */
	cr_assert_eq(connect_to(&fixture.request), CP_OK);
	struct proxy_header header = written();
	expect_tlv(header.tlvs, PROXY_TLV_AUTHORITY, NULL, 0);
	expect_tlv(header.tlvs, PROXY_TLV_ALPN, NULL, 0);
	expect_tlv(header.tlvs, PROXY_TLV_SSL, NULL, 0);
	expect_tlv(header.tlvs, PROXY_TLV_MULTIPLEX, NULL, 0);
	cr_expect(find_tlv(header.tlvs, PROXY_TLV_UNIQUE_ID, &value));
}

Test(proxy_connect, a_client_whose_certificate_is_missing_or_not_verified)
{
	struct proxy_bytes value;
	struct proxy_ssl ssl;
	for (int certificate = 0; certificate < 2; certificate++) {
		connection("192.0.2.1", "proxy(full)+tcp:$4:80");
		set_text("tls_version", "1.2");
		set_value("tls_client_fingerprint", certificate ? cp_string("ab", 2) : cp_null());
		set_value("tls_client_verified", cp_bool(!certificate));
		cr_assert_eq(connect_to(&fixture.request), CP_OK);
		struct proxy_header header = written();
		cr_assert(find_tlv(header.tlvs, PROXY_TLV_SSL, &value));
		cr_assert(proxy_ssl_read(value, &ssl));
		cr_expect_eq(ssl.client, certificate ? 7 : 1);
		cr_expect_neq(ssl.verify, 0);
	}
}

/** A header that was received is passed on as it came, whatever its bytes. */
Test(proxy_connect, what_was_received_is_passed_on)
{
	static const char tlvs[] = "\x01\x00\x02"
							   "h2"
							   "\x02\x00\x03"
							   "0x1"
							   "\x05\x00\x03"
							   "\0\1\xff"
							   "\x20\x00\x16"
							   "\x01\0\0\0\x13"
							   "\x21\x00\x03"
							   "TLS"
							   "\x23\x00\x03"
							   "\xff\xfe\xfd"
							   "\x25\x00\x02"
							   "K1"
							   "\xe9\x00\x02"
							   "db";
	struct cp_peer peer = peer_of("203.0.113.1", 1);
	char first[256];
	struct proxy_writer writer;
	proxy_v2_begin(&writer, (uint8_t *)first, sizeof(first), false, &peer, &peer);
	memcpy(first + writer.length, tlvs, sizeof(tlvs) - 1);
	writer.length += sizeof(tlvs) - 1;
	size_t length = proxy_v2_end(&writer, false);
	connection("192.0.2.9", "proxy(full)+tcp:$4:80");
	cr_assert_eq(accept_with(first, length, length), CP_OK, "%s", fixture.open.error.message);
	cr_assert_eq(connect_to(&fixture.request), CP_OK);
	struct proxy_header header = written();
	expect_peer("203.0.113.1:1");
	cr_expect_eq(header.tlvs.length, sizeof(tlvs) - 1 + 7, "and a checksum");
	cr_expect_eq(memcmp(header.tlvs.at, tlvs, sizeof(tlvs) - 1), 0);
}

/** Targets of a list that are tried one after the other are told the same. */
Test(proxy_connect, a_unique_id_is_the_connections_own)
{
	uint8_t first[16];
	struct proxy_bytes value;
	connection("192.0.2.1", "proxy(id)+tcp:$4:80");
	cr_assert_eq(connect_to(&fixture.request), CP_OK);
	cr_assert(find_tlv(written().tlvs, PROXY_TLV_UNIQUE_ID, &value));
	cr_assert_eq(value.length, sizeof(first));
	memcpy(first, value.at, sizeof(first));
	fixture.script.written_length = 0;
	cr_assert_eq(connect_to(&fixture.request), CP_OK);
	cr_assert(find_tlv(written().tlvs, PROXY_TLV_UNIQUE_ID, &value));
	cr_expect_eq(memcmp(first, value.at, sizeof(first)), 0);
	connection("192.0.2.1", "proxy(id)+tcp:$4:80");
	cr_assert_eq(connect_to(&fixture.request), CP_OK);
	cr_assert(find_tlv(written().tlvs, PROXY_TLV_UNIQUE_ID, &value));
	cr_expect_neq(memcmp(first, value.at, sizeof(first)), 0);
}

Test(proxy_connect, a_header_that_would_be_too_long)
{
	static char name[4100];
	connection("192.0.2.1", "proxy(full)+tcp:$4:80");
	memset(name, 'n', sizeof(name) - 1);
	set_text("sni", name);
	cr_assert_eq(connect_to(&fixture.request), CP_ELIMIT);
	expect_failure(CP_ELIMIT, "the PROXY header would be longer than 4096 bytes");
	cr_expect_eq(fixture.script.writes, 0);
}

/* ---- Sending ------------------------------------------------------------------------------------------------ */

static void take(size_t bytes)
{
	struct script *s = &fixture.script;
	cr_assert(s->armed & CP_WRITABLE, "nobody waits for it");
	s->takes = bytes;
	s->armed &= ~(unsigned)CP_WRITABLE;
	s->stream.ready(&s->stream, CP_WRITABLE, s->stream.arg);
}

static const char line[] = "PROXY TCP4 192.0.2.1 198.51.100.2 5000 443\r\n";

static void connect_v1(size_t takes)
{
	connection("192.0.2.1", "proxy(v1)+tcp:$4:80");
	set_local("198.51.100.2", 443);
	fixture.script.takes = takes;
	cr_assert_eq(connect_to(&fixture.request), CP_AGAIN);
}

Test(proxy_connect, a_header_that_is_taken_in_two_pieces)
{
	for (size_t split = 0; split < strlen(line); split++) {
		connect_v1(split);
		cr_assert_not(fixture.finished);
		take(sizeof(line));
		cr_assert(fixture.finished);
		expect_written(TEXT(line));
		cr_expect_null(fixture.script.stream.ready);
		expect_stream("", 0);
	}
}

Test(proxy_connect, a_header_that_is_taken_byte_by_byte)
{
	connect_v1(0);
	for (size_t i = 0; i < strlen(line); i++) {
		cr_assert_not(fixture.finished);
		fixture.script.stream.ready(&fixture.script.stream, CP_READABLE, fixture.script.stream.arg);
		take(1);
	}
	cr_assert(fixture.finished);
	expect_written(TEXT(line));
	expect_stream("", 0);
}

Test(proxy_connect, a_target_that_breaks_off)
{
	connection("192.0.2.1", "proxy+tcp:$4:80");
	fixture.script.broken = CP_ERESET;
	cr_assert_eq(connect_to(&fixture.request), CP_ERESET);
	expect_failure(CP_ERESET, "connection reset while the PROXY header was sent");
	connect_v1(5);
	fixture.script.broken = CP_ERESET;
	take(1);
	expect_failure(CP_ERESET, "connection reset while the PROXY header was sent");
}

Test(proxy_connect, it_can_be_given_up)
{
	connect_v1(5);
	fixture.converter->def->cancel(fixture.converter, &fixture.open);
	cr_expect(fixture.script.closed);
	cr_expect_not(fixture.finished);
}
