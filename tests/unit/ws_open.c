/* The openings up to libwebsockets: paths, facts, heads in pieces, refusals and how they end. */
#include "../../systems/ws/open.h"
#include "proxy_fixture.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

TestSuite(ws_open, .init = fixture_start, .fini = fixture_stop, .timeout = 60);

#define OFFER                                                                                      \
	"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" \
	"Sec-WebSocket-Version: 13\r\n"

/* ---- Paths -------------------------------------------------------------------------------------------------- */

static const struct {
	const char *sent, *read, *written;
} paths[] = {
	{"/", "/", "/"},
	{"/chat", "/chat", "/chat"},
	{"/%63%68%61%74", "/chat", "/chat"},
	{"/a%2Fb", "/a%2Fb", "/a%2Fb"},
	{"/a%2fb%3f%25", "/a%2Fb%3F%25", "/a%2Fb%3F%25"},
	{"/%7Euser/-._~", "/~user/-._~", "/~user/-._~"},
	{"/caf%C3%A9", "/café", "/caf%C3%A9"},
	{"/caf%c3%a9%20%22", "/café \"", "/caf%C3%A9%20%22"},
	{"/bad%FF%c3%a9", "/bad%FF%C3%A9", "/bad%FF%C3%A9"},
	{"/zero%00tab%09", "/zero%00tab%09", "/zero%00tab%09"},
	{"/a%2525", "/a%2525", "/a%2525"},
	{"/100%", "/100%", "/100%25"},
	{"/a#b", "/a#b", "/a%23b"},
	{"/a?b=c d", "/a?b=c d", "/a?b=c%20d"},
	{"/!$&'()*+,;=:@", "/!$&'()*+,;=:@", "/!$&'()*+,;=:@"},
};

Test(ws_open, paths_have_one_way_of_writing)
{
	char got[64];
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		size_t length = ws_path_read(paths[i].sent, strlen(paths[i].sent), got);
		got[length] = '\0';
		cr_expect_str_eq(got, paths[i].read, "%s is read as %s", paths[i].sent, got);
		length = ws_path_read(paths[i].read, strlen(paths[i].read), got);
		got[length] = '\0';
		cr_expect_str_eq(got, paths[i].read, "%s changes when it is read again: %s", paths[i].read, got);
		const char *written = ws_path_write(fixture.arena, paths[i].read);
		cr_expect_str_eq(written, paths[i].written, "%s is written as %s", paths[i].read, written);
	}
}

static const char *printed(const struct cp_address *address)
{
	static char text[256];
	cp_address_print(address, text, sizeof(text));
	return text;
}

Test(ws_open, addresses_have_it_too)
{
	load("");
	cr_expect_str_eq(printed(address_of("ws:$4:80/%2563%2568at")), "ws:127.0.0.1:80/chat");
	cr_expect_str_eq(printed(address_of("websocket:$4:80/a%252fb!sub")), "websocket:127.0.0.1:80/a%252Fb!sub");
	cr_expect_str_eq(printed(address_of("wss:example.org:443")), "wss:example.org:443");
	cr_expect_str_eq(printed(address_of("1e1001.connpipe.core.ws:$4:80")), "ws:127.0.0.1:80");
}

Test(ws_open, the_argument_of_the_converter_is_a_path)
{
	struct cp_error error = {0};
	const struct cp_address *address;
	const char *wrong = "ws(chat)+tcp:$4:80";
	load("");
	cr_expect_str_eq(address_of("ws(/chat)+tcp:$4:80")->layers[0].argument, "/chat");
	cr_expect_null(address_of("ws+tcp:$4:80")->layers[0].argument);
	cr_assert_neq(cp_address_parse(fixture.generation->scope, fixture.arena, wrong, strlen(wrong), 0, &address, &error),
				  CP_OK);
	cr_expect(strstr(error.message, "begins with \"/\""), "%s", error.message);
}

/* ---- What it carries ---------------------------------------------------------------------------------------- */

static const struct {
	const char *address;
	bool messages, any;
} carried[] = {
	{"ws:$4:80", false, true},          {"wss:$4:80", false, true},
	{"ws(/p)+tcp:$4:80", false, true},  {"ws(/p)+tls+tcp:$4:80", false, true},
	{"ws+frame+tcp:$4:80", true, true}, /* refused */
	{"ws+udp:$4:80", true, true},       /* likewise */
	{"frame+ws:$4:80", true, false},    {"zstd+ws:$4:80", false, false},
	{"proxy+ws:$4:80", false, false},
};

Test(ws_open, it_suits_bytes_and_messages)
{
	load("");
	for (size_t i = 0; i < sizeof(carried) / sizeof(carried[0]); i++) {
		bool messages, any, refused = carried[i].messages && carried[i].any;
		struct cp_error error = {0};
		int result = cp_address_carries(address_of(carried[i].address), &messages, &any, &error);
		cr_expect_eq(result, refused ? CP_EINVAL : CP_OK, "%s: %s", carried[i].address, error.message);
		if (refused || result != CP_OK)
			continue;
		cr_expect_eq(messages, carried[i].messages, "%s: messages", carried[i].address);
		cr_expect_eq(any, carried[i].any, "%s: any", carried[i].address);
	}
}

/* ---- Facts -------------------------------------------------------------------------------------------------- */

static void facts_of(const char *ip, const char *head, const struct ws_options *options, const char *protocol)
{
	struct ws_upgrade upgrade;
	struct ws_refusal refusal;
	load("");
	connection(ip, "ws:$4:80");
	cr_assert_eq(ws_upgrade_read(head, strlen(head), &upgrade, &refusal), WS_HEAD_DONE, "%s", refusal.reason);
	ws_facts_add(&fixture.request, &upgrade, options, protocol);
}

static void expect_text(const char *name, const char *text)
{
	const struct cp_value *value = cp_request_fact(&fixture.request, name);
	cr_assert(value, "%s is not settled", name);
	if (!text) {
		cr_expect_eq(value->kind, CP_NULL, "%s is \"%s\"", name, value->as.s);
		return;
	}
	cr_assert_eq(value->kind, CP_STRING, "%s is null", name);
	cr_expect_str_eq(value->as.s, text, "%s is \"%s\"", name, value->as.s);
}

Test(ws_open, facts_of_a_request)
{
	static const char *const asked[] = {"x-tenant", "x-none"};
	struct ws_options options = {.facts = {asked, 2}};
	facts_of("192.0.2.1",
			 "GET /%61%20b%2fc?x=1&y HTTP/1.1\r\nHost: Example.ORG.:8080\r\nOrigin: https://example.org\r\n"
			 "User-Agent: test/1\r\nX-Tenant: blue\r\nX-Forwarded-For: 198.51.100.1\r\n" OFFER "\r\n",
			 &options, "chat");
	expect_text("host", "example.org");
	expect_text("path", "/a b%2Fc"); /* as in the address */
	expect_text("method", "GET");
	expect_text("query", "x=1&y");
	expect_text("origin", "https://example.org");
	expect_text("user_agent", "test/1");
	expect_text("subprotocol", "chat");
	expect_text("x-tenant", "blue");
	expect_text("x-none", NULL);
	expect_text("forwarded_for", NULL);
}

Test(ws_open, facts_that_are_not_there_are_null)
{
	struct ws_options options = {0};
	facts_of("192.0.2.1", "GET / HTTP/1.1\r\nHost: [2001:DB8:0::1]:80\r\n" OFFER "\r\n", &options, NULL);
	expect_text("host", "[2001:db8::1]");
	expect_text("path", "/");
	expect_text("query", NULL);
	expect_text("origin", NULL);
	expect_text("user_agent", NULL);
	expect_text("subprotocol", NULL);
}

static const struct {
	const char *peer, *lines, *client;
} forwarded[] = {
	{"10.0.0.1", "X-Forwarded-For: 198.51.100.7\r\n", "198.51.100.7:0"},
	{"10.0.0.1", "X-Forwarded-For: 203.0.113.9, 198.51.100.7\r\n", "198.51.100.7:0"},
	{"10.0.0.1", "X-Forwarded-For: 203.0.113.9, 198.51.100.7, 10.0.0.3\r\n", "198.51.100.7:0"},
	{"10.0.0.1", "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-For: 198.51.100.7\r\nX-Forwarded-For: 10.0.0.3\r\n",
	 "198.51.100.7:0"},
	{"10.0.0.1", "X-Forwarded-For: 10.0.0.5,10.0.0.3\r\n", "10.0.0.5:0"},
	{"10.0.0.1", "X-Forwarded-For: 198.51.100.7:4711\r\n", "198.51.100.7:4711"},
	{"10.0.0.1", "X-Forwarded-For: \"[2001:db8::9]:4711\"\r\n", "[2001:db8::9]:4711"},
	{"10.0.0.1", "X-Forwarded-For: [2001:db8::9]\r\n", "[2001:db8::9]:0"},
	{"10.0.0.1", "X-Forwarded-For: 2001:db8::9\r\n", "[2001:db8::9]:0"},
	{"10.0.0.1", "X-Forwarded-For: unknown\r\n", "10.0.0.1:5000"},
	{"10.0.0.1", "X-Forwarded-For: 198.51.100.7, unknown\r\n", "10.0.0.1:5000"},
	{"10.0.0.1", "X-Forwarded-For: 198.51.100.7, bad, 10.0.0.3\r\n", "10.0.0.3:0"},
	{"10.0.0.1", "X-Forwarded-For: 198.51.100.7:99999\r\n", "10.0.0.1:5000"},
	{"10.0.0.1", "X-Forwarded-For: 198.51.100.7:\r\n", "10.0.0.1:5000"},
	{"10.0.0.1", "X-Forwarded-For: ,\r\n", "10.0.0.1:5000"},
	{"10.0.0.1", "", "10.0.0.1:5000"},
	{"192.0.2.1", "X-Forwarded-For: 198.51.100.7\r\n", "192.0.2.1:5000"},
	{"", "X-Forwarded-For: 198.51.100.7\r\n", "local"},
};

Test(ws_open, the_client_is_who_trusted_proxies_say_it_is)
{
	struct cp_cidr trusted;
	cr_assert(cp_cidr_parse("10.0.0.0/8", 10, &trusted));
	struct ws_options options = {.trusted = &trusted, .trusted_count = 1};
	load("");
	for (size_t i = 0; i < sizeof(forwarded) / sizeof(forwarded[0]); i++) {
		struct ws_upgrade upgrade;
		struct ws_refusal refusal;
		char peer[CP_PEER_TEXT];
		connection(forwarded[i].peer, "ws:$4:80");
		const char *head =
			cp_arena_printf(fixture.arena, "GET / HTTP/1.1\r\nHost: a\r\n%s" OFFER "\r\n", forwarded[i].lines);
		cr_assert_eq(ws_upgrade_read(head, strlen(head), &upgrade, &refusal), WS_HEAD_DONE, "%s", refusal.reason);
		ws_facts_add(&fixture.request, &upgrade, &options, NULL);
		cp_peer_print(cp_request_peer(&fixture.request), peer, sizeof(peer));
		cr_expect_str_eq(peer, forwarded[i].client, "%s%s: %s", forwarded[i].lines, forwarded[i].peer, peer);
	}
}

/* ---- Refusals ----------------------------------------------------------------------------------------------- */

/** A request to ws(/chat) that has not come yet. @return what the opening says at once */
static int ask(const char *head)
{
	load("");
	connection("192.0.2.1", "ws(/chat)+tcp:$4:80");
	return accept_with(head, strlen(head), 0);
}

static void expect_answer(const char *beginning)
{
	fixture.script.written[fixture.script.written_length] = '\0';
	cr_expect_eq(strncmp(fixture.script.written, beginning, strlen(beginning)), 0, "%s", fixture.script.written);
}

Test(ws_open, a_request_for_another_path_is_refused)
{
	const char *head = "GET /other HTTP/1.1\r\nHost: a\r\n" OFFER "\r\n";
	cr_assert_eq(ask(head), CP_AGAIN);
	for (size_t i = 1; i < strlen(head); i++) {
		arrive(i);
		cr_assert_eq(fixture.script.written_length, 0, "an answer behind byte %zu", i);
	}
	arrive(strlen(head));
	expect_answer("HTTP/1.1 404 ");
	cr_expect_eq(outcome(), CP_AGAIN, "the client has to read it first");
	cr_expect_not(fixture.script.closed);
	fixture.script.end = true;
	arrive(strlen(head));
	cr_expect_eq(outcome(), CP_EPROTO);
	cr_expect(strstr(fixture.open.error.message, "404"), "%s", fixture.open.error.message);
	cr_expect_eq(fixture.script.cause, CP_CAUSE_DONE);
}

Test(ws_open, what_is_no_request_is_refused_at_once)
{
	const char *bytes = "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and so on\r\n\r\n";
	ask("");
	fixture.script.bytes = bytes;
	fixture.script.length = 20;
	arrive(20);
	expect_answer("HTTP/1.1 400 ");
	fixture.script.error = CP_ERESET;
	arrive(20);
	cr_expect_eq(outcome(), CP_EPROTO);
	cr_expect(fixture.script.closed && cp_cause_is_reset(fixture.script.cause));
}

Test(ws_open, without_descriptors_the_client_is_told_so)
{
	const char *head = "GET /chat HTTP/1.1\r\nHost: a\r\n" OFFER "\r\n";
	struct rlimit limit, none;
	ask(head);
	getrlimit(RLIMIT_NOFILE, &limit);
	none = limit;
	none.rlim_cur = 0;
	setrlimit(RLIMIT_NOFILE, &none);
	arrive(strlen(head));
	setrlimit(RLIMIT_NOFILE, &limit);
	expect_answer("HTTP/1.1 503 ");
	fixture.script.end = true;
	arrive(strlen(head));
	cr_expect_eq(outcome(), CP_EMFILE, "%s", fixture.open.error.message);
}

Test(ws_open, an_answer_that_does_not_fit_is_written_later)
{
	const char *head = "GET /other HTTP/1.1\r\nHost: a\r\n" OFFER "\r\n";
	struct script *s = &fixture.script;
	ask(head);
	s->takes = 10;
	arrive(strlen(head));
	cr_expect_eq(s->written_length, 10);
	for (int i = 0; i < 1000 && (s->armed & CP_WRITABLE); i++) {
		s->takes = 7;
		s->armed &= ~(unsigned)CP_WRITABLE;
		s->stream.ready(&s->stream, CP_WRITABLE, s->stream.arg);
	}
	expect_answer("HTTP/1.1 404 ");
	cr_expect(strstr(s->written, "\r\n\r\n"), "the whole head: %s", s->written);
	s->end = true;
	arrive(strlen(head));
	cr_expect_eq(outcome(), CP_EPROTO);
}

Test(ws_open, a_client_that_reads_no_answer_is_given_up)
{
	const char *head = "GET /other HTTP/1.1\r\nHost: a\r\n" OFFER "\r\n";
	ask(head);
	arrive(strlen(head));
	fixture.converter->def->cancel(fixture.converter, &fixture.open);
	cr_expect(fixture.script.closed);
	cr_expect_not(fixture.finished);
}

Test(ws_open, a_client_that_goes_on_sending_is_cut_off)
{
	static char flood[1 << 20] = "GET /other HTTP/1.1\r\nHost: a\r\n" OFFER "\r\n";
	ask("");
	fixture.script.bytes = flood;
	fixture.script.length = sizeof(flood);
	arrive(sizeof(flood));
	cr_expect_eq(outcome(), CP_EPROTO);
	cr_expect(fixture.script.closed);
	cr_expect_lt(fixture.script.at, sizeof(flood) / 2, "%zu bytes were read", fixture.script.at);
}

Test(ws_open, a_client_that_leaves_before_it_asks)
{
	ask("");
	fixture.script.end = true;
	arrive(0);
	cr_expect_eq(outcome(), CP_ECANCELED, "%s", fixture.open.error.message);
	cr_expect(fixture.script.closed);
}

Test(ws_open, a_client_that_leaves_within_its_request)
{
	const char *head = "GET /chat HT";
	ask(head);
	arrive(strlen(head));
	fixture.script.end = true;
	arrive(strlen(head));
	cr_expect_eq(outcome(), CP_EPROTO);
	cr_expect(strstr(fixture.open.error.message, "behind byte 12"), "%s", fixture.open.error.message);
}

Test(ws_open, a_client_that_breaks_off)
{
	ask("");
	fixture.script.error = CP_ERESET;
	arrive(0);
	cr_expect_eq(outcome(), CP_ERESET);
}

Test(ws_open, waiting_for_a_head_can_be_given_up)
{
	const char *head = "GET /chat HT";
	ask(head);
	arrive(strlen(head));
	fixture.converter->def->cancel(fixture.converter, &fixture.open);
	cr_expect(fixture.script.closed);
}

/* ---- Over a socket, whose bytes are looked at before they are taken ------------------------------------------ */

static int over_socket(int pair[2])
{
	struct fixture *f = &fixture;
	load("");
	connection("192.0.2.1", "ws(/chat)+tcp:$4:80");
	f->script.closed = true; /* the script is not used */
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	const struct cp_layer *layer = &f->request.address->layers[0];
	f->converter = layer->converter;
	f->open = (struct cp_open){.loop = f->loop,
							   .address = f->request.address,
							   .request = &f->request,
							   .lower = cp_stream_from_fd(f->loop, pair[0], 0, NULL),
							   .argument = layer->argument,
							   .finished = on_finished};
	f->result = CP_AGAIN;
	return f->result = layer->converter->def->accept(layer->converter, &f->open);
}

static void turn(struct cp_deferred *deferred)
{
	(void)deferred;
	loop_stop(fixture.loop);
}

static void run_until_finished(void)
{
	while (!fixture.finished) {
		struct cp_deferred deferred = {0};
		cp_defer(fixture.loop, &deferred, turn);
		while (deferred.queued)
			loop_run(fixture.loop);
	}
}

Test(ws_open, a_socket_whose_client_leaves_within_its_request)
{
	int pair[2];
	cr_assert_eq(over_socket(pair), CP_AGAIN);
	cr_assert_eq(write(pair[1], "GET /cha", 8), 8);
	shutdown(pair[1], SHUT_WR);
	run_until_finished();
	cr_expect_eq(outcome(), CP_EPROTO);
	cr_expect(strstr(fixture.open.error.message, "behind byte 8"), "%s", fixture.open.error.message);
	close(pair[1]);
}

Test(ws_open, a_socket_whose_client_asks_for_another_path)
{
	const char *head = "GET /other HTTP/1.1\r\nHost: a\r\n" OFFER "\r\n";
	char answer[4096];
	int pair[2];
	cr_assert_eq(over_socket(pair), CP_AGAIN);
	cr_assert_eq(write(pair[1], head, strlen(head)), (ssize_t)strlen(head));
	cr_assert_eq(write(pair[1], "\x81\x80mask", 6), 6); /* would be a frame */
	shutdown(pair[1], SHUT_WR);
	run_until_finished();
	cr_expect_eq(outcome(), CP_EPROTO);
	ssize_t got = read(pair[1], answer, sizeof(answer) - 1);
	cr_assert_gt(got, 0);
	answer[got] = '\0';
	cr_expect_eq(strncmp(answer, "HTTP/1.1 404 ", 13), 0, "%s", answer);
	cr_expect_eq(read(pair[1], answer, 1), 0, "and then the end, not a reset");
	close(pair[1]);
}
