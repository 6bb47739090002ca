/* TLS streams, two of them over a socket pair on one loop: what the interface of streams promises. */
#include "../../systems/tls/profile.h"
#include "../../systems/tls/sessions.h"
#include "../../systems/tls/stream.h"
#include "../../systems/tls/tickets.h"
#include "cli/offline.h"
#include "loop/loop.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { WATCHDOG_MS = 20000, MUCH = 3000000 };

/** One end. */
struct end {
	struct cp_open open;
	struct cp_stream *stream;
	unsigned events; /* that it was called for */
	bool finished;
};

static struct {
	struct offline offline;
	char dir[32];
	struct cp_arena *arena;
	const struct cp_address *address;
	const struct cp_converter *converter;
	struct cp_timer watchdog;
	struct end client, server;
	int fd[2];
} fx;

static char much[MUCH];

/* ---- Certificates ------------------------------------------------------------------------------------------- */

static void add_names(X509 *certificate, const char *names)
{
	X509V3_CTX context;
	X509V3_set_ctx(&context, certificate, certificate, NULL, NULL, 0);
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, NID_subject_alt_name, names);
	cr_assert(extension);
	X509_add_ext(certificate, extension, -1);
	X509_EXTENSION_free(extension);
}

/** A certificate and its key, signed by itself, in `dir`/NAME. */
static void make_certificate(const char *name, const char *names)
{
	char path[96];
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *certificate = X509_new();
	snprintf(path, sizeof(path), "%s/%s", fx.dir, name);
	X509_set_version(certificate, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
	X509_gmtime_adj(X509_getm_notBefore(certificate), -1000);
	X509_gmtime_adj(X509_getm_notAfter(certificate), 100000);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC, (unsigned char *)name, -1, -1,
							   0);
	X509_set_issuer_name(certificate, X509_get_subject_name(certificate));
	X509_set_pubkey(certificate, key);
	add_names(certificate, names);
	cr_assert(X509_sign(certificate, key, EVP_sha256()));
	FILE *file = fopen(path, "w");
	cr_assert(file && PEM_write_X509(file, certificate) && PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL));
	fclose(file);
	X509_free(certificate);
	EVP_PKEY_free(key);
}

/* ---- The fixture -------------------------------------------------------------------------------------------- */

static void on_watchdog(struct cp_timer *timer)
{
	(void)timer;
	cr_assert_fail("waited %d ms in vain", WATCHDOG_MS);
}

static void start(void)
{
	static const char config[] =
		"[connpipe]\nworkers = 1\nlog = { level = \"error\" }\n[site]\ntype = \"tls\"\nca = \"a.pem\"\nserver_name = "
		"\"a.test\"\ncertificates = [ { certificate = \"a.pem\" }, { certificate = \"b.pem\" }, { certificate = "
		"\"c.pem\" } ]\n[t]\ntype = \"table\"\n[t.routes]\n\"tls(site)+tcp:$4:1\" = \"echo:\"\n";
	static const char text[] = "tls(site)+tcp:127.0.0.1:1";
	struct cp_error error;
	char path[64];
	strcpy(fx.dir, "/tmp/connpipe-tls-XXXXXX");
	cr_assert(mkdtemp(fx.dir));
	make_certificate("a.pem", "DNS:a.test");
	make_certificate("b.pem", "DNS:*.b.test,DNS:both.test");
	make_certificate("c.pem", "DNS:www.b.test,DNS:both.test");
	snprintf(path, sizeof(path), "%s/config.toml", fx.dir);
	FILE *file = fopen(path, "w");
	fputs(config, file);
	fclose(file);
	cr_assert_eq(offline_open(&fx.offline, fx.dir), 0);
	cr_assert_eq(offline_start(&fx.offline), 0);
	fx.arena = cp_arena_new(0);
	cr_assert_eq(cp_address_parse(fx.offline.generation->scope, fx.arena, text, strlen(text), 0, &fx.address, &error),
				 CP_OK, "%s", error.message);
	fx.converter = fx.address->layers[0].converter;
	cp_timer_init(&fx.watchdog, fx.offline.loop, on_watchdog);
	cp_timer_start(&fx.watchdog, WATCHDOG_MS);
	for (size_t i = 0; i < MUCH; i++)
		much[i] = (char)(i * 31 + i / 1000);
}

static void on_turn(struct cp_deferred *deferred)
{
	(void)deferred;
	loop_stop(fx.offline.loop);
}

/** Let happen what is due. */
static void turn(void)
{
	struct cp_deferred deferred = {0};
	cp_defer(fx.offline.loop, &deferred, on_turn);
	while (deferred.queued)
		loop_run(fx.offline.loop);
}

static void on_finished(struct cp_open *open)
{
	struct end *end = open->arg;
	end->finished = true;
}

static void on_ready(struct cp_stream *stream, unsigned events, void *arg)
{
	struct end *end = arg;
	(void)stream;
	end->events |= events;
}

static void begin(struct end *end, int fd, bool accepting)
{
	struct cp_error error;
	end->open = (struct cp_open){.loop = fx.offline.loop,
								 .address = fx.address,
								 .argument = "site",
								 .lower = cp_stream_from_fd(fx.offline.loop, fd, 0, &error),
								 .finished = on_finished,
								 .arg = end};
	int result = (accepting ? fx.converter->def->accept : fx.converter->def->connect)(fx.converter, &end->open);
	end->finished = result != CP_AGAIN;
}

static void make_sockets(void)
{
	int small = 16384;
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fx.fd), 0);
	for (int i = 0; i < 2; i++)
		setsockopt(fx.fd[i], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
}

static void use(struct end *end)
{
	cr_assert(end->open.stream, "%s", end->open.error.message);
	end->stream = end->open.stream;
	cp_stream_set_user(end->stream, on_ready, end);
}

/** Both ends, open. */
static void connect_both(void)
{
	make_sockets();
	begin(&fx.server, fx.fd[0], true);
	begin(&fx.client, fx.fd[1], false);
	while (!fx.client.finished || !fx.server.finished)
		turn();
	use(&fx.client);
	use(&fx.server);
}

static void stop(void)
{
	cp_timer_stop(&fx.watchdog);
	turn();
	cp_arena_free(fx.arena);
	offline_close(&fx.offline);
	char command[64];
	snprintf(command, sizeof(command), "rm -r %s", fx.dir);
	cr_assert_eq(system(command), 0);
}

static void put(struct end *end, const char *text)
{
	struct iovec vec = {(char *)text, strlen(text)};
	cr_assert_eq(cp_stream_writev(end->stream, &vec, 1, 0), (ssize_t)vec.iov_len);
}

/** Wait until it was called for that. */
static void until(struct end *end, unsigned events)
{
	while (!(end->events & events))
		turn();
	end->events &= ~events;
}

/** Read, waiting if there is nothing. */
static ssize_t get(struct end *end, char *buffer, size_t room, unsigned *hints)
{
	struct iovec vec = {buffer, room};
	ssize_t got;
	while ((got = cp_stream_readv(end->stream, &vec, 1, hints)) == CP_AGAIN)
		until(end, CP_READABLE);
	return got;
}

static void expect(struct end *end, const char *text)
{
	char buffer[256];
	unsigned hints;
	size_t length = 0;
	while (length < strlen(text)) {
		ssize_t got = get(end, buffer + length, strlen(text) - length, &hints);
		cr_assert_gt(got, 0);
		length += (size_t)got;
	}
	cr_assert_eq(memcmp(buffer, text, length), 0);
}

static void expect_end(struct end *end)
{
	char byte;
	unsigned hints;
	cr_assert_eq(get(end, &byte, 1, &hints), 0);
	cr_assert(hints & CP_READ_END);
}

static void close_both(void)
{
	cp_stream_close(fx.client.stream, CP_CAUSE_DONE);
	cp_stream_close(fx.server.stream, CP_CAUSE_DONE);
}

TestSuite(tls, .init = start, .fini = stop, .timeout = 60);

/* ---- Streams ------------------------------------------------------------------------------------------------ */

Test(tls, carries_bytes_both_ways)
{
	connect_both();
	put(&fx.client, "hello");
	expect(&fx.server, "hello");
	put(&fx.server, "and back");
	expect(&fx.client, "and back");
	close_both();
}

Test(tls, says_that_it_is_drained_and_then_calls)
{
	char buffer[64];
	unsigned hints;
	connect_both();
	put(&fx.client, "one");
	cr_expect_eq(get(&fx.server, buffer, sizeof(buffer), &hints), 3);
	cr_expect(hints & CP_READ_DRAINED);
	fx.server.events = 0;
	put(&fx.client, "two");
	until(&fx.server, CP_READABLE);
	expect(&fx.server, "two");
	close_both();
}

Test(tls, calls_for_bytes_that_it_has_already)
{
	connect_both();
	put(&fx.client, "first second");
	expect(&fx.server, "first "); /* the rest is decrypted, and no edge will tell of it */
	fx.server.events = 0;
	cp_stream_await(fx.server.stream, CP_READABLE);
	cr_expect_eq(fx.server.events, 0, "called from inside await");
	until(&fx.server, CP_READABLE);
	expect(&fx.server, "second");
	close_both();
}

Test(tls, joins_small_vectors_into_one_record)
{
	struct iovec vec[4] = {{"a", 1}, {"", 0}, {"bc", 2}, {"def", 3}};
	char buffer[64];
	unsigned hints;
	connect_both();
	cr_expect_eq(cp_stream_writev(fx.client.stream, vec, 4, 0), 6);
	cr_expect_eq(get(&fx.server, buffer, sizeof(buffer), &hints), 6);
	cr_expect_eq(memcmp(buffer, "abcdef", 6), 0);
	close_both();
}

Test(tls, ends_one_way_after_the_other)
{
	connect_both();
	put(&fx.client, "question");
	cr_expect_eq(cp_stream_shutdown_write(fx.client.stream), CP_OK);
	expect(&fx.server, "question");
	expect_end(&fx.server);
	expect_end(&fx.server); /* again */
	put(&fx.server, "answer");
	cr_expect_eq(cp_stream_shutdown_write(fx.server.stream), CP_OK);
	expect(&fx.client, "answer");
	expect_end(&fx.client);
	close_both();
}

Test(tls, tells_the_end_with_the_last_bytes)
{
	char buffer[64];
	unsigned hints;
	connect_both();
	put(&fx.client, "last");
	cp_stream_close(fx.client.stream, CP_CAUSE_DONE);
	cr_expect_eq(get(&fx.server, buffer, sizeof(buffer), &hints), 4);
	cr_expect(hints & CP_READ_END);
	cp_stream_close(fx.server.stream, CP_CAUSE_DONE);
}

Test(tls, takes_an_end_below_for_a_truncation)
{
	char byte;
	unsigned hints;
	connect_both();
	put(&fx.client, "cut");
	shutdown(fx.fd[1], SHUT_WR); /* below the stream */
	expect(&fx.server, "cut");
	cr_expect_eq(get(&fx.server, &byte, 1, &hints), CP_ERESET);
	cr_expect_eq(get(&fx.server, &byte, 1, &hints), CP_ERESET);
	cp_stream_close(fx.server.stream, CP_CAUSE_CLIENT_RESET);
	cp_stream_close(fx.client.stream, CP_CAUSE_CLIENT_RESET);
}

Test(tls, writes_nothing_behind_its_end)
{
	struct iovec vec = {"x", 1};
	connect_both();
	cp_stream_shutdown_write(fx.client.stream);
	cr_expect_eq(cp_stream_writev(fx.client.stream, &vec, 1, 0), CP_ERESET);
	close_both();
}

/* ---- Slow readers ------------------------------------------------------------------------------------------- */

/** Write from `much` until no more is taken. @return how much was */
static size_t fill(struct end *end, size_t at)
{
	for (;;) {
		struct iovec vec = {much + at, MUCH - at < 65536 ? MUCH - at : 65536};
		ssize_t taken = vec.iov_len ? cp_stream_writev(end->stream, &vec, 1, 0) : CP_AGAIN;
		if (taken == CP_AGAIN)
			return at;
		cr_assert_gt(taken, 0);
		at += (size_t)taken;
		if ((size_t)taken < vec.iov_len)
			return at;
	}
}

static struct tls_stream *inside(struct end *end)
{
	return (struct tls_stream *)end->stream;
}

Test(tls, waits_for_a_slow_reader_with_little_in_hand)
{
	char buffer[5000];
	unsigned hints;
	connect_both();
	put(&fx.server, "x"); /* with the ticket */
	expect(&fx.client, "x");
	size_t sent = fill(&fx.client, 0);
	cr_expect_lt(sent, 500000);
	cr_assert_leq(inside(&fx.client)->held->length, WORK_OUT);
	struct iovec more = {much + sent, 1};
	cr_expect_eq(cp_stream_writev(fx.client.stream, &more, 1, 0), CP_AGAIN);
	for (size_t read = 0; read < MUCH;) {
		ssize_t got = get(&fx.server, buffer, sizeof(buffer), &hints);
		cr_assert_gt(got, 0);
		cr_assert_eq(memcmp(buffer, much + read, (size_t)got), 0);
		read += (size_t)got;
		turn();
		if (fx.client.events & CP_WRITABLE) {
			fx.client.events = 0;
			sent = fill(&fx.client, sent);
		}
	}
	cr_expect_eq(sent, MUCH);
	cr_expect_null(inside(&fx.client)->held, "an idle connection holds nothing");
	cr_expect_null(inside(&fx.server)->held);
	close_both();
}

Test(tls, delivers_what_was_written_before_a_close_or_an_end)
{
	static char buffer[70000];
	unsigned hints = 0;
	connect_both();
	size_t sent = fill(&fx.client, 0), read = 0;
	cr_assert(inside(&fx.client)->held);
	cp_stream_shutdown_write(fx.client.stream);
	cp_stream_close(fx.client.stream, CP_CAUSE_DONE);
	while (!(hints & CP_READ_END)) {
		ssize_t got = get(&fx.server, buffer, sizeof(buffer), &hints);
		cr_assert_geq(got, 0, "%zd behind %zu bytes", got, read);
		cr_assert_eq(memcmp(buffer, much + read, (size_t)got), 0);
		read += (size_t)got;
	}
	cr_expect_eq(read, sent);
	cp_stream_close(fx.server.stream, CP_CAUSE_DONE);
}

/** As if it had still waited for the rest of a message of the peer (RFC 8446, 4.6.3): the connection has gone by then.
 */
Test(tls, waits_for_no_message_when_its_user_has_left)
{
	static char buffer[70000];
	unsigned hints = 0;
	connect_both();
	fill(&fx.client, 0);
	cr_assert(inside(&fx.client)->held);
	inside(&fx.client)->shut = inside(&fx.client)->shut_blocked = true;
	cp_stream_close(fx.client.stream, CP_CAUSE_DONE);
	put(&fx.server, "x"); /* it is called for that */
	turn();
	while (!(hints & CP_READ_END))
		cr_assert_geq(get(&fx.server, buffer, sizeof(buffer), &hints), 0);
	cp_stream_close(fx.server.stream, CP_CAUSE_DONE);
}

/** Each change wants to be answered (RFC 8446, 4.6.3): a peer that does not read the answers is cut off. */
Test(tls, holds_little_for_a_peer_that_changes_its_keys_all_the_time)
{
	char byte;
	unsigned hints;
	ssize_t got = 1;
	int sent = 0, arrived = 0;
	struct iovec vec = {&byte, 1};
	connect_both();
	for (int i = 0; i < 20000 && got == 1; i++) {
		cr_assert(SSL_key_update(inside(&fx.client)->ssl, SSL_KEY_UPDATE_REQUESTED));
		put(&fx.client, "k");
		sent++;
		got = get(&fx.server, &byte, 1, &hints);
		arrived += got == 1;
		ssize_t more = cp_stream_readv(fx.server.stream, &vec, 1, &hints);
		got = more == CP_AGAIN ? got : more;
		cr_assert(!inside(&fx.server)->held || inside(&fx.server)->held->length < WORK_OUT + 20000);
	}
	cr_expect_eq(got, CP_EPROTO);
	cr_expect_eq(sent, arrived, "what came before the error is read before it");
	cp_stream_close(fx.server.stream, CP_CAUSE_CLIENT_PROTOCOL);
	cp_stream_close(fx.client.stream, CP_CAUSE_CLIENT_PROTOCOL);
}

/** Nothing but messages for OpenSSL. */
static void change_keys(struct end *end, int times)
{
	struct tls_stream *t = inside(end);
	cr_assert(bio_enter(t));
	for (int i = 0; i < times; i++)
		cr_assert(SSL_key_update(t->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) && SSL_do_handshake(t->ssl) == 1);
	bio_leave(t, 0);
}

Test(tls, lets_others_go_on_in_a_flood_of_messages)
{
	char bytes[256];
	unsigned hints;
	struct iovec vec = {bytes, sizeof(bytes)};
	ssize_t got;
	int times = 0, much_room = 200000;
	connect_both();
	put(&fx.server, "x"); /* with the ticket */
	expect(&fx.client, "x");
	setsockopt(fx.fd[1], SOL_SOCKET, SO_SNDBUF, &much_room, sizeof(much_room));
	change_keys(&fx.client, 2500);
	cr_assert_null(inside(&fx.client)->held);
	put(&fx.client, "y");
	until(&fx.server, CP_READABLE);
	fx.server.events = 0;
	while ((got = cp_stream_readv(fx.server.stream, &vec, 1, &hints)) == CP_AGAIN) {
		if (times++ == 0)
			cr_expect_gt(recv(fx.fd[0], bytes, 1, MSG_PEEK | MSG_DONTWAIT), 0, "read all of it in one call");
		cr_expect_eq(fx.server.events, 0, "called in the same turn");
		until(&fx.server, CP_READABLE);
	}
	cr_expect_eq(got, 1);
	cr_expect_gt(times, 0);
	close_both();
}

/** The same, with a byte in every few messages: a call brings bytes, but ends in time. */
Test(tls, ends_a_call_in_a_flood_that_brings_some_bytes)
{
	static char bytes[65536];
	unsigned hints = 0;
	struct iovec vec = {bytes, sizeof(bytes)};
	int much_room = 200000;
	connect_both();
	put(&fx.server, "x");
	expect(&fx.client, "x");
	setsockopt(fx.fd[1], SOL_SOCKET, SO_SNDBUF, &much_room, sizeof(much_room));
	for (int i = 0; i < 25; i++) {
		change_keys(&fx.client, 100);
		put(&fx.client, "y");
	}
	turn();
	ssize_t got = cp_stream_readv(fx.server.stream, &vec, 1, &hints);
	cr_expect(got > 0 && got < 25);
	cr_expect_not(hints & CP_READ_DRAINED);
	for (ssize_t more; got < 25; got += more)
		more = get(&fx.server, bytes, sizeof(bytes), &hints);
	close_both();
}

Test(tls, answers_a_peer_that_changes_its_keys_and_reads)
{
	connect_both();
	for (int i = 0; i < 3000; i++) {
		cr_assert(SSL_key_update(inside(&fx.client)->ssl, SSL_KEY_UPDATE_REQUESTED));
		put(&fx.client, "k");
		expect(&fx.server, "k");
		put(&fx.server, "a");
		expect(&fx.client, "a");
	}
	cr_expect_null(inside(&fx.server)->held);
	close_both();
}

/* ---- Handshakes --------------------------------------------------------------------------------------------- */

Test(tls, can_be_given_up_in_the_handshake)
{
	char byte;
	make_sockets();
	int peer = dup(fx.fd[1]);
	close(fx.fd[1]);
	begin(&fx.server, fx.fd[0], true);
	cr_assert_not(fx.server.finished);
	fx.converter->def->cancel(fx.converter, &fx.server.open);
	turn();
	cr_expect_eq(read(peer, &byte, 1), 0);
	cr_expect_not(fx.server.finished);
	close(peer);
}

Test(tls, is_for_workers_only)
{
	struct tls *tls = fx.converter->arg;
	uint32_t count = tls->worker_count;
	make_sockets();
	tls->worker_count = 0;
	begin(&fx.server, fx.fd[0], true);
	tls->worker_count = count;
	cr_assert(fx.server.finished);
	cr_expect_eq(fx.server.open.error.code, CP_EUNSUPPORTED);
	cr_expect(strstr(fx.server.open.error.message, "workers only"), "%s", fx.server.open.error.message);
	close(fx.fd[1]);
}

Test(tls, sends_the_alert_before_it_ends)
{
	char bytes[64];
	make_sockets();
	cr_assert_eq(write(fx.fd[1], "\x16\x03\x01\x00\x04\x01\x00\x00\x00", 9), 9); /* an empty ClientHello */
	begin(&fx.server, fx.fd[0], true);
	while (!fx.server.finished)
		turn();
	cr_expect_eq(fx.server.open.error.code, CP_EPROTO);
	cr_expect_null(fx.server.open.stream);
	ssize_t got = read(fx.fd[1], bytes, sizeof(bytes));
	cr_expect_eq(got, 7);
	cr_expect_eq(bytes[0], 21);
	cr_expect_eq(read(fx.fd[1], bytes, sizeof(bytes)), 0);
	close(fx.fd[1]);
}

/* ---- Names and tickets -------------------------------------------------------------------------------------- */

Test(tls, finds_exact_names_before_wildcards)
{
	const struct names *names = &tls_profile(fx.converter->arg, "site")->names;
	SSL_CTX *a = names_find(names, "a.test"), *b = names_find(names, "x.b.test"), *c = names_find(names, "www.b.test");
	cr_expect(a && b && c && a != b && b != c && a != c);
	cr_expect_eq(a, names_default(names));
	cr_expect_eq(names_find(names, "X.B.Test"), b);
	cr_expect_eq(names_find(names, "WWW.b.test"), c);
	cr_expect_eq(names_find(names, "both.test"), b, "the first one of its kind");
	cr_expect_null(names_find(names, "x.y.b.test"));
	cr_expect_null(names_find(names, "b.test"));
	cr_expect_null(names_find(names, ".b.test"));
	cr_expect_null(names_find(names, "*.test"));
	cr_expect_null(names_find(names, ""));
}

Test(tls, sends_a_ticket_alone_if_nothing_is_written)
{
	connect_both();
	cr_assert(inside(&fx.server)->held);
	while (inside(&fx.server)->held)
		turn();
	cp_stream_await(fx.client.stream, CP_READABLE);
	until(&fx.client, CP_READABLE);
	char byte;
	unsigned hints;
	struct iovec vec = {&byte, 1};
	cr_expect_eq(cp_stream_readv(fx.client.stream, &vec, 1, &hints), CP_AGAIN);
	cr_expect(inside(&fx.client)->slot->session, "the client keeps it");
	close_both();
}

Test(tls, resumes_a_session_with_the_same_target)
{
	for (int i = 0; i < 3; i++) {
		connect_both();
		put(&fx.server, "x");
		expect(&fx.client, "x");
		cr_expect_eq(SSL_session_reused(inside(&fx.client)->ssl), i > 0);
		cr_expect_eq(SSL_session_reused(inside(&fx.server)->ssl), i > 0);
		close_both();
		turn();
		fx.client = fx.server = (struct end){0};
	}
}

/** Each key encrypts for the lifetime of a ticket, and decrypts for as long behind that. */
Test(tls, changes_ticket_keys_with_time)
{
	enum { LIFE = 100 };
	struct tickets *tickets = tickets_join("z");
	struct ticket_key first, second, third, any;
	uint64_t start = tickets_clock();
	cr_assert_eq(tickets_key(tickets, NULL, LIFE, start, &first), 0);
	cr_expect_eq(tickets_key(tickets, first.name, LIFE, start + LIFE - 5, &any), 0, "not yet");
	cr_assert_eq(tickets_key(tickets, NULL, LIFE, start + LIFE + 5, &second), 0);
	cr_expect_neq(memcmp(&first, &second, sizeof(first)), 0);
	cr_expect_eq(tickets_key(tickets, first.name, LIFE, start + LIFE + 5, &any), 1, "still decrypts");
	cr_expect_eq(memcmp(&first, &any, sizeof(first)), 0);
	cr_assert_eq(tickets_key(tickets, NULL, LIFE, start + 2 * LIFE + 10, &third), 0);
	cr_expect_eq(tickets_key(tickets, second.name, LIFE, start + 2 * LIFE + 10, &any), 1);
	cr_expect_eq(tickets_key(tickets, first.name, LIFE, start + 2 * LIFE + 10, &any), -1, "gone");
	cr_expect_eq(tickets_key(tickets, third.name, LIFE, start + 9 * LIFE, &any), -1, "nobody came for long");
	tickets_leave(tickets);
}

Test(tls, ends_sessions_by_age_and_by_the_clients_certificate)
{
	enum { LIFE = 100 };
	char path[96];
	int64_t now = (int64_t)time(NULL), expires = now + 100000; /* make_certificate() */
	snprintf(path, sizeof(path), "%s/a.pem", fx.dir);
	FILE *file = fopen(path, "r");
	X509 *certificate = PEM_read_X509(file, NULL, NULL, NULL);
	fclose(file);
	cr_assert(certificate);
	cr_expect(tickets_still_good(now, LIFE, NULL, now));
	cr_expect(tickets_still_good(now, LIFE, NULL, now + LIFE));
	cr_expect_not(tickets_still_good(now, LIFE, NULL, now + LIFE + 1));
	cr_expect_not(tickets_still_good(now + 1000, LIFE, NULL, now), "from the future");
	cr_expect_not(tickets_still_good(0, LIFE, NULL, now), "it does not say");
	cr_expect(tickets_still_good(now, LIFE, certificate, now));
	cr_expect(tickets_still_good(expires - 50, LIFE, certificate, expires - 30));
	cr_expect_not(tickets_still_good(expires - 50, LIFE, certificate, expires + 1));
	X509_free(certificate);
}

Test(tls, shares_ticket_keys_by_id)
{
	struct tickets *one = tickets_join("x"), *same = tickets_join("x"), *other = tickets_join("y");
	cr_expect_eq(one, same);
	cr_expect_neq(one, other);
	tickets_leave(one);
	tickets_leave(same);
	tickets_leave(other);
}
