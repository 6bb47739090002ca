/* ClientHellos: every way in which they can be cut, and every way in which they can be wrong. */
#include "sniff/tls_hello.h"

#include "sniff_hello.h"

#include <criterion/criterion.h>
#include <openssl/ssl.h>
#include <stdio.h>

static struct cp_arena *arena;
static struct hello message;
static uint8_t wire[RECORDS_ROOM];
static struct tls_hello found;

static void set_up(void)
{
	arena = cp_arena_new(0);
}

static void tear_down(void)
{
	cp_arena_free(arena);
}

TestSuite(sniff_tls, .init = set_up, .fini = tear_down);

/* ---- Helpers ------------------------------------------------------------------------------------------------ */

/** Read from memory of just that length, so that a sanitizer sees what is read beyond it. */
static enum verdict read_some(const void *bytes, size_t length, struct cp_arena *where)
{
	char *copy = malloc(length ? length : 1);
	memcpy(copy, bytes, length);
	enum verdict verdict = tls_hello_read(copy, length, where, &found);
	enum verdict begins = tls_hello_begins(copy, length);
	free(copy);
	cr_assert(verdict == begins || begins == VERDICT_YES, "%d of %zu bytes that begin one: %d", verdict, length,
			  begins);
	return verdict;
}

/** The message as it is, in records of at most `fragment` bytes. */
static enum verdict read_cut(size_t fragment)
{
	return read_some(wire, hello_records(&message, fragment, wire), arena);
}

static enum verdict read_whole(void)
{
	hello_finish(&message);
	return read_cut(1 << 14);
}

static void expect_text(const char *text, size_t length, const char *expected, const char *what)
{
	if (!expected) {
		cr_assert_null(text, "%s is %s", what, text);
		return;
	}
	cr_assert_not_null(text, "no %s", what);
	cr_assert_str_eq(text, expected, "%s", what);
	cr_assert_eq(length, strlen(expected), "%s", what);
}

static void expect(const char *sni, const char *alpn)
{
	expect_text(found.sni, found.sni_length, sni, "sni");
	expect_text(found.alpn, found.alpn_length, alpn, "alpn");
}

/** No beginning tells anything, or takes memory: there is no arena. With more behind it, the answer stays. */
static void expect_every_beginning(const uint8_t *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++)
		cr_assert_eq(read_some(bytes, i, NULL), VERDICT_MAYBE, "%zu of %zu bytes", i, length);
	uint8_t *more = malloc(length + 100);
	memcpy(more, bytes, length);
	memset(more + length, 0, 100);
	for (size_t i = 0; i <= 100; i++)
		cr_assert_eq(read_some(more, length + i, arena), VERDICT_YES, "%zu bytes behind it", i);
	free(more);
}

/* ---- How it begins ------------------------------------------------------------------------------------------ */

struct beginning {
	const char *bytes;
	size_t length;
	enum verdict verdict;
};

Test(sniff_tls, the_sixth_byte_decides)
{
	static const struct beginning beginnings[] = {
		{"", 0, VERDICT_MAYBE},
		{"\x16", 1, VERDICT_MAYBE},
		{"\x16\x03\x01\x02", 4, VERDICT_MAYBE},
		{"\x16\x03\x01\x02\x00", 5, VERDICT_MAYBE},
		{"\x16\x03\x01\x02\x00\x01", 6, VERDICT_YES},
		{"\x16\x03\x00\x00\x01\x01", 6, VERDICT_YES},
		{"\x16\x03\x04\x40\x00\x01", 6, VERDICT_YES},
		{"\x16\x03\x01\x02\x00\x01\xff\xff\xff", 9, VERDICT_YES},
		{"\x15", 1, VERDICT_NO},                     /* an alert */
		{"\x17", 1, VERDICT_NO},                     /* data */
		{"\x14", 1, VERDICT_NO},                     /* a change of cipher */
		{"\x80\x2e\x01\x03\x01", 5, VERDICT_NO},     /* SSL 2 */
		{"\x16\x02", 2, VERDICT_NO},                 /* major version */
		{"\x16\xfe\xfd", 3, VERDICT_NO},             /* DTLS 1.2 */
		{"\x16\x03\x05", 3, VERDICT_NO},             /* minor version */
		{"\x16\x03\x01\x00\x00", 5, VERDICT_NO},     /* an empty record */
		{"\x16\x03\x01\x41", 4, VERDICT_NO},         /* a record longer than any */
		{"\x16\x03\x01\x40\x01", 5, VERDICT_NO},     /* by one byte */
		{"\x16\x03\x01\x02\x00\x02", 6, VERDICT_NO}, /* a ServerHello */
		{"\x16\x03\x01\x02\x00\x00", 6, VERDICT_NO}, /* a HelloRequest */
		{"GET / HTTP/1.1\r\n", 16, VERDICT_NO},
		{"SSH-2.0-x\r\n", 11, VERDICT_NO},
	};
	for (size_t i = 0; i < sizeof(beginnings) / sizeof(beginnings[0]); i++) {
		const struct beginning *b = &beginnings[i];
		cr_assert_eq(tls_hello_begins(b->bytes, b->length), b->verdict, "case %zu", i);
	}
}

/* ---- Real ones ---------------------------------------------------------------------------------------------- */

/** What OpenSSL sends as a client. @return its length */
static size_t openssl_hello(int least, int most, const char *name, const char *alpn, size_t alpn_length)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	SSL_CTX_set_min_proto_version(context, least);
	SSL_CTX_set_max_proto_version(context, most);
	SSL_CTX_set_security_level(context, 0);
	SSL *ssl = SSL_new(context);
	BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
	SSL_set_bio(ssl, in, out);
	if (name)
		SSL_set_tlsext_host_name(ssl, name);
	if (alpn)
		SSL_set_alpn_protos(ssl, (const unsigned char *)alpn, (unsigned)alpn_length);
	SSL_connect(ssl);
	int length = BIO_read(out, wire, sizeof(wire));
	SSL_free(ssl);
	SSL_CTX_free(context);
	cr_assert_gt(length, 0);
	return (size_t)length;
}

Test(sniff_tls, openssl)
{
	static const int versions[] = {TLS1_VERSION, TLS1_1_VERSION, TLS1_2_VERSION, TLS1_3_VERSION};
	for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
		size_t length = openssl_hello(versions[i], versions[i], "WWW.Example.org", "\x02h2\x08http/1.1", 12);
		cr_assert_eq(read_some(wire, length, arena), VERDICT_YES, "version %x", (unsigned)versions[i]);
		expect("www.example.org", "h2,http/1.1");
		expect_every_beginning(wire, length);
	}
}

Test(sniff_tls, openssl_without_a_name)
{
	size_t length = openssl_hello(TLS1_2_VERSION, TLS1_3_VERSION, NULL, NULL, 0);
	cr_assert_eq(read_some(wire, length, arena), VERDICT_YES);
	expect(NULL, NULL);
	expect_every_beginning(wire, length);
}

Test(sniff_tls, browsers)
{
	hello_browser(&message, "example.org");
	cr_assert_gt(message.length, 1700);
	cr_assert_eq(read_cut(1 << 14), VERDICT_YES);
	expect("example.org", "h2,http/1.1");
	expect_every_beginning(wire, hello_records(&message, 1 << 14, wire));
	hello_padded(&message, "example.org");
	cr_assert_eq(hello_records(&message, 1 << 14, wire), 517);
	cr_assert_eq(read_cut(1 << 14), VERDICT_YES);
	expect("example.org", "h2,http/1.1");
}

/* ---- Records ------------------------------------------------------------------------------------------------ */

Test(sniff_tls, records_of_any_length)
{
	hello_browser(&message, "example.org");
	for (size_t fragment = 1; fragment <= message.length; fragment++) {
		cr_assert_eq(read_cut(fragment), VERDICT_YES, "records of %zu bytes", fragment);
		expect("example.org", "h2,http/1.1");
	}
}

Test(sniff_tls, every_beginning_in_records)
{
	static const size_t fragments[] = {1, 2, 3, 4, 5, 64, 300};
	hello_padded(&message, "example.org");
	for (size_t i = 0; i < sizeof(fragments) / sizeof(fragments[0]); i++)
		expect_every_beginning(wire, hello_records(&message, fragments[i], wire));
}

/** Two records, cut anywhere. */
Test(sniff_tls, two_records)
{
	hello_padded(&message, "example.org");
	for (size_t cut = 1; cut < message.length; cut++) {
		struct hello first = {.length = 0}, second = {.length = 0};
		hello_put(&first, message.bytes, cut);
		hello_put(&second, message.bytes + cut, message.length - cut);
		size_t length = hello_records(&first, 1 << 14, wire);
		length += hello_records(&second, 1 << 14, wire + length);
		cr_assert_eq(read_some(wire, length, arena), VERDICT_YES, "cut behind %zu bytes", cut);
		expect("example.org", "h2,http/1.1");
		cr_assert_eq(read_some(wire, length - 1, NULL), VERDICT_MAYBE, "cut behind %zu bytes", cut);
	}
}

Test(sniff_tls, records_in_between_must_be_of_the_handshake)
{
	static const struct {
		size_t at;
		uint8_t byte;
		enum verdict verdict;
	} changes[] = {
		{0, 21, VERDICT_NO}, {0, 23, VERDICT_NO}, {0, 20, VERDICT_NO}, {1, 2, VERDICT_NO},    {2, 5, VERDICT_NO},
		{2, 4, VERDICT_YES}, {2, 0, VERDICT_YES}, {2, 3, VERDICT_YES}, {3, 0x41, VERDICT_NO}, {4, 0, VERDICT_NO},
	};
	hello_padded(&message, "example.org");
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		size_t length = hello_records(&message, 200, wire);
		wire[205 + changes[i].at] = changes[i].byte;
		cr_assert_eq(read_some(wire, length, arena), changes[i].verdict, "case %zu", i);
		cr_assert_eq(tls_hello_begins((char *)wire, length), VERDICT_YES);
		cr_assert_eq(read_some(wire, 205, NULL), VERDICT_MAYBE);
		if (changes[i].verdict == VERDICT_NO)
			cr_assert_eq(read_some(wire, 210, NULL), VERDICT_NO, "case %zu", i);
	}
}

Test(sniff_tls, more_in_the_last_record_is_not_its_own)
{
	hello_padded(&message, "example.org");
	hello_put(&message, "more", 4);
	size_t length = hello_records(&message, 1 << 14, wire);
	cr_assert_eq(read_some(wire, length - 5, NULL), VERDICT_MAYBE);
	cr_assert_eq(read_some(wire, length - 4, arena), VERDICT_YES);
	cr_assert_eq(read_some(wire, length, arena), VERDICT_YES);
	expect("example.org", "h2,http/1.1");
}

/* ---- Length ------------------------------------------------------------------------------------------------- */

static void begin_of_length(size_t length)
{
	hello_begin(&message);
	hello_server_name(&message, "example.org", 11);
	hello_extension_of(&message, 0x0015, length - message.length - 4);
	hello_finish(&message);
}

Test(sniff_tls, the_longest_is_read)
{
	begin_of_length(TLS_HELLO_MOST);
	cr_assert_eq(message.length, TLS_HELLO_MOST);
	cr_assert_eq(read_cut(1 << 14), VERDICT_YES);
	expect("example.org", NULL);
	cr_assert_eq(read_cut(1), VERDICT_YES);
	expect("example.org", NULL);
}

Test(sniff_tls, a_longer_one_is_none_as_soon_as_it_says_so)
{
	begin_of_length(TLS_HELLO_MOST + 1);
	cr_assert_eq(read_cut(1 << 14), VERDICT_NO);
	cr_assert_eq(read_some(wire, 8, NULL), VERDICT_MAYBE);
	cr_assert_eq(read_some(wire, 9, NULL), VERDICT_NO);
	hello_patch(&message, 1, 3, 0xffffff);
	cr_assert_eq(read_cut(1), VERDICT_NO);
}

/** The message ends early and says so in its header: malformed, but where there are no extensions. */
Test(sniff_tls, cut_short)
{
	hello_padded(&message, "example.org");
	for (size_t length = message.length - 1; length >= 4; length--) {
		message.length = length;
		hello_patch(&message, 1, 3, length - 4);
		cr_assert_eq(read_cut(1 << 14), length == HELLO_EXTENSIONS ? VERDICT_YES : VERDICT_NO, "%zu bytes", length);
		cr_assert_eq(read_cut(7), length == HELLO_EXTENSIONS ? VERDICT_YES : VERDICT_NO, "%zu bytes", length);
	}
}

Test(sniff_tls, without_extensions)
{
	hello_begin(&message);
	cr_assert_eq(read_whole(), VERDICT_YES);
	expect(NULL, NULL);
	message.length -= 2;
	cr_assert_eq(read_whole(), VERDICT_YES);
	expect(NULL, NULL);
}

/* ---- Malformed ---------------------------------------------------------------------------------------------- */

struct change {
	size_t at;
	unsigned byte;
	enum verdict verdict;
};

Test(sniff_tls, what_stands_before_the_extensions)
{
	enum { SESSION = 38, SUITES = SESSION + 33, METHODS = SUITES + 10 };
	static const struct change changes[] = {
		{4, 0x02, VERDICT_NO}, /* legacy_version 2.x */
		{4, 0x03, VERDICT_YES},       {4, 0x7f, VERDICT_YES},      {5, 0x00, VERDICT_YES},
		{5, 0xff, VERDICT_YES},       {SESSION, 33, VERDICT_NO},   {SESSION, 31, VERDICT_NO},
		{SUITES, 1, VERDICT_NO},      {SUITES + 1, 7, VERDICT_NO}, /* odd */
		{SUITES + 1, 0, VERDICT_NO},  {METHODS, 0, VERDICT_NO},    {METHODS, 2, VERDICT_NO},
		{METHODS + 2, 1, VERDICT_NO}, /* the extensions' length */
		{METHODS + 3, 0, VERDICT_NO},
	};
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		hello_begin(&message);
		hello_server_name(&message, "example.org", 11);
		hello_finish(&message);
		message.bytes[changes[i].at] = (uint8_t)changes[i].byte;
		cr_assert_eq(read_cut(1 << 14), changes[i].verdict, "case %zu", i);
	}
}

/** All lengths fit each other, whether they are allowed or not. */
static enum verdict read_with(size_t session, size_t suites, size_t methods)
{
	static const uint8_t front[] = {1, 0, 0, 0, 3, 3};
	message.length = 0;
	hello_put(&message, front, sizeof(front));
	hello_fill(&message, 32, 0xa5);
	hello_number(&message, 1, session);
	hello_fill(&message, session, 1);
	hello_number(&message, 2, suites);
	hello_fill(&message, suites, 2);
	hello_number(&message, 1, methods);
	hello_fill(&message, methods, 0);
	hello_number(&message, 2, 0);
	hello_patch(&message, 1, 3, message.length - 4);
	return read_cut(1 << 14);
}

Test(sniff_tls, how_many_of_what_stands_before_the_extensions)
{
	cr_assert_eq(read_with(0, 2, 1), VERDICT_YES);
	cr_assert_eq(read_with(32, 200, 255), VERDICT_YES);
	cr_assert_eq(read_with(33, 2, 1), VERDICT_NO);
	cr_assert_eq(read_with(0, 0, 1), VERDICT_NO);
	cr_assert_eq(read_with(0, 3, 1), VERDICT_NO);
	cr_assert_eq(read_with(0, 2, 0), VERDICT_NO);
}

Test(sniff_tls, bytes_behind_the_extensions)
{
	hello_begin(&message);
	hello_server_name(&message, "example.org", 11);
	hello_finish(&message);
	hello_put(&message, "x", 1);
	hello_patch(&message, 1, 3, message.length - 4);
	cr_assert_eq(read_cut(1 << 14), VERDICT_NO);
}

Test(sniff_tls, an_extension_that_comes_twice)
{
	static const unsigned types[] = {0x0015, 0x0a0a, 0xffff, 0x0000};
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		hello_begin(&message);
		hello_server_name(&message, "example.org", 11);
		hello_extension_of(&message, 0x1a1a, 0);
		if (types[i])
			hello_extension_of(&message, types[i], 3);
		cr_assert_eq(read_whole(), VERDICT_YES);
		if (types[i])
			hello_extension_of(&message, types[i], 0);
		else
			hello_server_name(&message, "example.com", 11);
		cr_assert_eq(read_whole(), VERDICT_NO, "type %x", types[i]);
	}
}

Test(sniff_tls, as_many_extensions_as_fit)
{
	hello_begin(&message);
	for (unsigned type = 0x1000; message.length + 4 <= TLS_HELLO_MOST; type++)
		hello_extension_of(&message, type, 0);
	cr_assert_eq(read_whole(), VERDICT_YES);
}

struct extension {
	unsigned type;
	const char *content;
	size_t length;
	enum verdict verdict;
};

Test(sniff_tls, extensions_that_are_wrong)
{
	static const struct extension extensions[] = {
		{0, "", 0, VERDICT_NO},
		{0, "\x00", 1, VERDICT_NO},
		{0, "\x00\x00", 2, VERDICT_NO},             /* no names */
		{0, "\x00\x03\x00\x00\x00", 5, VERDICT_NO}, /* an empty one */
		{0,
		 "\x00\x04\x00\x00\x01"
		 "a",
		 6, VERDICT_YES},
		{0,
		 "\x00\x04\x00\x00\x02"
		 "a",
		 6, VERDICT_NO}, /* longer than the list */
		{0,
		 "\x00\x05\x00\x00\x01"
		 "a",
		 6, VERDICT_NO}, /* a list longer than the extension */
		{0,
		 "\x00\x04\x00\x00\x01"
		 "ab",
		 7, VERDICT_NO}, /* a shorter one */
		{0,
		 "\x00\x05\x00\x00\x01"
		 "ab",
		 7, VERDICT_NO}, /* half of another name */
		{0,
		 "\x00\x08\x00\x00\x01"
		 "a\x00\x00\x01"
		 "b",
		 10, VERDICT_NO}, /* two */
		{0,
		 "\x00\x08\x00\x00\x01"
		 "a\x00\x00\x01"
		 "a",
		 10, VERDICT_NO},
		{0,
		 "\x00\x08\x00\x00\x01"
		 "a\x07\x00\x01"
		 "b",
		 10, VERDICT_YES},
		{0,
		 "\x00\x07\x07\x00\x00\x00\x00\x01"
		 "a",
		 9, VERDICT_YES},
		{0,
		 "\x00\x04\x07\x00\x01"
		 "b",
		 6, VERDICT_YES},
		{16, "", 0, VERDICT_NO},
		{16, "\x00\x00", 2, VERDICT_NO},
		{16, "\x00\x01\x00", 3, VERDICT_NO}, /* an empty protocol */
		{16, "\x00\x03\x02h2", 5, VERDICT_YES},
		{16, "\x00\x04\x02h2\x00", 6, VERDICT_NO},
		{16, "\x00\x03\x03h2", 5, VERDICT_NO},
		{16, "\x00\x03\x02h2x", 6, VERDICT_NO},
		{16, "\x00\x04\x02h2", 5, VERDICT_NO},
	};
	for (size_t i = 0; i < sizeof(extensions) / sizeof(extensions[0]); i++) {
		hello_begin(&message);
		hello_extension(&message, extensions[i].type, extensions[i].content, extensions[i].length);
		cr_assert_eq(read_whole(), extensions[i].verdict, "case %zu", i);
		cr_assert_eq(tls_hello_begins((char *)wire, 6), VERDICT_YES);
	}
}

/* ---- Names -------------------------------------------------------------------------------------------------- */

struct name {
	const char *name;
	size_t length; /* 0: that of the text */
	const char *sni;
};

#define LABEL "abcdefghijklmnopqrstuvwxyz0123456789-abcdefghijklmnopqrstuvwxyz" /* 63 */

Test(sniff_tls, names)
{
	static const struct name names[] = {
		{"example.org", 0, "example.org"},
		{"EXAMPLE.Org", 0, "example.org"},
		{"localhost", 0, "localhost"},
		{"_sip.x-y.example.org", 0, "_sip.x-y.example.org"},
		{"xn--bcher-kva.example", 0, "xn--bcher-kva.example"},
		{LABEL ".org", 0, LABEL ".org"},
		{"example.org.", 0, NULL}, /* a dot behind it */
		{".", 0, NULL},
		{"a..b", 0, NULL},
		{".a", 0, NULL},
		{"x" LABEL ".org", 0, NULL},
		{LABEL "." LABEL "." LABEL "." LABEL, 0, NULL}, /* 255 */
		{"example.org\0.evil.org", 21, NULL},
		{"example.org\0", 12, NULL},
		{"\0", 1, NULL},
		{"192.0.2.1", 0, NULL},
		{"127.1", 0, NULL},
		{"2001:db8::1", 0, NULL},
		{"[2001:db8::1]", 0, NULL},
		{"::ffff:192.0.2.1", 0, NULL},
		{"b\xc3\xbc"
		 "cher.example",
		 0, NULL},
		{"example.org:443", 0, NULL},
		{"example org", 0, NULL},
		{"*.example.org", 0, NULL},
		{"exa\nmple.org", 0, NULL},
		{"{sni}", 0, NULL},
		{"$n", 0, NULL},
	};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		hello_begin(&message);
		hello_server_name(&message, names[i].name, names[i].length ? names[i].length : strlen(names[i].name));
		hello_alpn(&message, "\x02h2", 3);
		cr_assert_eq(read_whole(), VERDICT_YES, "%s", names[i].name);
		expect(names[i].sni, "h2");
	}
}

Test(sniff_tls, a_very_long_name)
{
	static char name[TLS_HELLO_MOST - 200];
	memset(name, 'n', sizeof(name));
	hello_begin(&message);
	hello_server_name(&message, name, sizeof(name));
	cr_assert_eq(read_whole(), VERDICT_YES);
	expect(NULL, NULL);
}

Test(sniff_tls, names_of_other_types_are_skipped)
{
	hello_begin(&message);
	hello_extension(&message, 0,
					"\x00\x0e\x09\x00\x03xyz\x00\x00\x05"
					"a.org",
					16);
	cr_assert_eq(read_whole(), VERDICT_YES);
	expect("a.org", NULL);
}

/* ---- Protocols ---------------------------------------------------------------------------------------------- */

Test(sniff_tls, protocols)
{
	static const struct name lists[] = {
		{"\x02h2", 3, "h2"},
		{"\x08http/1.1\x02h2\x06spdy/3", 19, "http/1.1,h2,spdy/3"},
		{"\x02\x0a\x0a\x02h2\x02\xfa\xfa", 9, "h2"},     /* greasing that is not printed */
		{"\x02ZZ\x02jj\x02h2\x02**\x02zz", 15, "h2"},    /* and that could be: 5a, 6a, 2a, 7a */
		{"\x02Zj\x01Z\x03ZZZ\x02hh", 12, "Zj,Z,ZZZ,hh"}, /* almost */
		{"\x03"
		 "a,b\x01"
		 "c",
		 6, "c"},
		{"\x03"
		 "a\0b\x01"
		 "c",
		 6, "c"},
		{"\x01\x7f\x01"
		 "c",
		 4, "c"},
		{"\x02\xc3\xbc", 3, NULL},
		{"\x03"
		 "a b",
		 4, "a b"},
		{"\x03"
		 "a,b",
		 4, NULL},
	};
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		hello_begin(&message);
		hello_alpn(&message, lists[i].name, lists[i].length);
		cr_assert_eq(read_whole(), VERDICT_YES, "case %zu", i);
		expect(NULL, lists[i].sni);
	}
}

Test(sniff_tls, as_many_protocols_as_fit)
{
	char list[2 * 1000];
	for (size_t i = 0; i < sizeof(list); i += 2)
		memcpy(list + i, "\x01p", 2);
	hello_begin(&message);
	hello_alpn(&message, list, sizeof(list));
	cr_assert_eq(read_whole(), VERDICT_YES);
	cr_assert_eq(found.alpn_length, 2 * 1000 - 1);
	cr_assert_eq(strlen(found.alpn), found.alpn_length);
	cr_assert_eq(strspn(found.alpn, "p,"), found.alpn_length);
}
