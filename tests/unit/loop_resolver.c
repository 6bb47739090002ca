/* Looking names up, against a name server of our own on the same loop. */
#include "loop_dns.h"

#include <base/log.h>
#include <connpipe/loop.h>
#include <loop/loop.h>

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct cp_loop *loop;

/** A look-up and what came of it. */
struct look {
	struct cp_resolve resolve; /* first */
	int result;                /* of the start, or of `done` */
	unsigned called;
	char text[600];      /* the addresses, or the error */
	struct look *cancel; /* cancelled in `done` */
	const char *next;    /* looked up in `done` */
};

static unsigned waiting;

static void set_up(void)
{
	struct cp_error error;

	cr_assert_eq(resolver_library_init(&error), CP_OK);
	loop = loop_new(0, &error);
	waiting = 0;
	dns_start(loop);
}

static void tear_down(void)
{
	dns_stop();
	loop_free(loop);
	resolver_library_deinit();
}

TestSuite(loop_resolver, .init = set_up, .fini = tear_down, .timeout = 30);

static void describe(struct look *look)
{
	const struct cp_resolve *r = &look->resolve;
	size_t length = 0;

	if (r->count == 0) {
		snprintf(look->text, sizeof(look->text), "%s: %s", r->error.where, r->error.message);
		return;
	}
	for (uint32_t i = 0; i < r->count; i++) {
		length += (size_t)snprintf(look->text + length, sizeof(look->text) - length, "%s", i ? " " : "");
		length += cp_ip_print(&r->ips[i], look->text + length, sizeof(look->text) - length);
	}
}

static void look_up(struct look *look, const char *host);

static void on_done(struct cp_resolve *resolve)
{
	struct look *look = (struct look *)resolve;

	look->called++;
	look->result = resolve->count > 0 ? CP_OK : (int)resolve->error.code;
	describe(look);
	if (look->cancel) {
		cp_resolve_cancel(&look->cancel->resolve);
		waiting--;
	}
	if (look->next)
		look_up(look, look->next);
	if (--waiting == 0)
		loop_stop(loop);
}

static void look_up(struct look *look, const char *host)
{
	look->resolve.done = on_done;
	look->next = NULL;
	look->result = cp_resolve_start(loop, &look->resolve, host);
	if (look->result == CP_AGAIN)
		waiting++;
	else
		describe(look);
}

/** Look up, and wait for the answer if need be. */
static const char *addresses_of(struct look *look, const char *host)
{
	look_up(look, host);
	if (look->result == CP_AGAIN)
		loop_run(loop);
	return look->text;
}

static void stop_by_timer(struct cp_timer *timer)
{
	(void)timer;
	loop_stop(loop);
}

static void run_for(uint64_t ms)
{
	struct cp_timer timer;

	cp_timer_init(&timer, loop, stop_by_timer);
	cp_timer_start(&timer, ms);
	loop_run(loop);
}

/** Run until looking the name up gives that. The test's time-out ends it if that never comes. */
static void wait_until_it_gives(const char *host, const char *expected)
{
	struct look look = {0};

	while (strcmp(addresses_of(&look, host), expected) != 0)
		run_for(1);
}

/* ---- Without a query ---------------------------------------------------------------------------------------- */

Test(loop_resolver, literal_addresses_answer_at_once)
{
	static const char *const literals[][2] = {
		{"192.0.2.1", "192.0.2.1"},
		{"2001:db8:0::1", "2001:db8::1"},
		{"::ffff:192.0.2.1", "192.0.2.1"},
		{"fe80::1%lo", "fe80::1%lo"},
	};
	struct look look = {0};

	for (size_t i = 0; i < sizeof(literals) / sizeof(literals[0]); i++) {
		look_up(&look, literals[i][0]);
		cr_assert_eq(look.result, CP_OK, "%s: %s", literals[i][0], look.text);
		cr_assert_str_eq(look.text, literals[i][1]);
	}
	cr_assert_eq(dns.queries, 0);
}

Test(loop_resolver, what_cannot_be_a_name_is_an_error_at_once)
{
	static const char *const bad[] = {
		"",     "a b",
		"a\nb", "fe80::1%nosuchinterface",
		"1:2",  "[::1]",
		"a/b",  "a..b",
		".a",   "a-label-of-more-than-sixty-three-bytes-is-not-allowed-in-any-name.example",
	};
	char longest[300];
	struct look look = {0};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		look_up(&look, bad[i]);
		cr_assert_eq(look.result, CP_EINVAL, "%s: %d %s", bad[i], look.result, look.text);
	}
	memset(longest, 'a', sizeof(longest));
	for (size_t i = 50; i < sizeof(longest); i += 50)
		longest[i] = '.';
	longest[sizeof(longest) - 1] = '\0';
	look_up(&look, longest);
	cr_assert_eq(look.result, CP_EINVAL);
	cr_assert_eq(dns.queries, 0);
}

Test(loop_resolver, localhost_is_both_loopback_addresses_and_never_asked_for)
{
	static const char *const names[] = {"localhost", "LocalHost", "localhost.", "app.localhost"};
	struct look look = {0};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		look_up(&look, names[i]);
		cr_assert_eq(look.result, CP_OK, "%s: %s", names[i], look.text);
		cr_assert_not_null(strstr(look.text, "127.0.0.1"));
		cr_assert_not_null(strstr(look.text, "::1"));
	}
	cr_assert_eq(dns.queries, 0);
	dns.ipv4[0] = "192.0.2.1";
	cr_assert_str_eq(addresses_of(&look, "notlocalhost"), "192.0.2.1");
}

/* ---- Answers ------------------------------------------------------------------------------------------------ */

Test(loop_resolver, a_name_is_asked_for_once_and_then_known)
{
	struct look look = {0};

	dns.ipv4[0] = "192.0.2.1";
	dns.ipv4[1] = "192.0.2.2";
	dns.ipv6[0] = "2001:db8::1";
	look_up(&look, "www.example.test");
	cr_assert_eq(look.result, CP_AGAIN);
	loop_run(loop);
	cr_assert_eq(look.result, CP_OK);
	cr_assert_eq(look.resolve.count, 3);
	cr_assert_not_null(strstr(look.text, "192.0.2.1"));
	cr_assert_not_null(strstr(look.text, "192.0.2.2"));
	cr_assert_not_null(strstr(look.text, "2001:db8::1"));
	look_up(&look, "WWW.example.TEST");
	cr_assert_eq(look.result, CP_OK);
	cr_assert_eq(look.resolve.count, 3);
	cr_assert_eq(dns.queries, 1);
	cr_assert_str_eq(dns.name, "www.example.test");
}

Test(loop_resolver, those_who_want_the_same_name_share_one_query)
{
	enum { WANTING = 20 };
	struct look looks[WANTING] = {0};

	dns.ipv4[0] = "192.0.2.1";
	for (int i = 0; i < WANTING; i++) {
		look_up(&looks[i], "shared.example.test");
		cr_assert_eq(looks[i].result, CP_AGAIN);
	}
	loop_run(loop);
	for (int i = 0; i < WANTING; i++) {
		cr_assert_eq(looks[i].called, 1);
		cr_assert_str_eq(looks[i].text, "192.0.2.1");
	}
	cr_assert_eq(dns.queries, 1);
}

Test(loop_resolver, one_kind_of_address_is_enough_even_if_the_other_gets_no_answer)
{
	struct look look = {0};

	dns.ipv4[0] = "192.0.2.1";
	dns.manner = DNS_SILENT_IPV6;
	cr_assert_str_eq(addresses_of(&look, "half.example.test"), "192.0.2.1");
}

Test(loop_resolver, an_answer_with_a_wrong_id_is_not_believed)
{
	struct look look = {0};

	dns.ipv4[0] = "192.0.2.1";
	dns.manner = DNS_WRONG_ID;
	cr_assert_str_eq(addresses_of(&look, "spoofed.example.test"), "192.0.2.1");
}

/* ---- Time --------------------------------------------------------------------------------------------------- */

Test(loop_resolver, an_answer_whose_time_has_passed_serves_while_it_is_refreshed)
{
	struct look look = {0};
	uint64_t refreshed;

	dns.ttl = 1;
	dns.ipv4[0] = "192.0.2.1";
	addresses_of(&look, "moving.example.test");
	dns.ipv4[0] = "192.0.2.2";
	run_for(1100);
	cr_assert_eq(dns.queries, 1, "nobody used it, so nobody asks");
	look_up(&look, "moving.example.test");
	cr_assert_eq(look.result, CP_OK);
	cr_assert_str_eq(look.text, "192.0.2.1");
	look_up(&look, "moving.example.test");
	cr_assert_str_eq(look.text, "192.0.2.1");
	refreshed = cp_loop_now(loop);
	while (dns.queries == 1 && cp_loop_now(loop) < refreshed + 5000)
		run_for(1);
	cr_assert_eq(dns.queries, 2, "the use of it asked");
	wait_until_it_gives("moving.example.test", "192.0.2.2");
	cr_assert_eq(dns.queries, 2);
}

Test(loop_resolver, a_ttl_of_zero_counts_as_one_second)
{
	struct look look = {0};

	dns.ttl = 0;
	dns.ipv4[0] = "192.0.2.1";
	addresses_of(&look, "brief.example.test");
	addresses_of(&look, "brief.example.test");
	cr_assert_eq(dns.queries, 1);
	run_for(1100);
	dns.ipv4[0] = "192.0.2.2";
	wait_until_it_gives("brief.example.test", "192.0.2.2");
}

/* In one turn: c-ares gets the new answer, then a timer looks the name up and is given the old one, then the new answer
 * takes its place, then a deferred call looks at the old one. */
static struct last_turn {
	struct look look;
	struct cp_timer timer;
	struct cp_deferred deferred;
	bool checked;
} last;

static void look_at_old(struct cp_deferred *deferred)
{
	struct look now = {0};

	(void)deferred;
	cr_assert_str_eq(addresses_of(&now, "turn.example.test"), "192.0.2.2", "the new one is there");
	describe(&last.look);
	cr_assert_str_eq(last.look.text, "192.0.2.1", "the old one is, too");
	last.checked = true;
	loop_stop(loop);
}

static void take_old(struct cp_timer *timer)
{
	(void)timer;
	cr_assert_str_eq(addresses_of(&last.look, "turn.example.test"), "192.0.2.1");
	cp_defer(loop, &last.deferred, look_at_old);
}

static void on_refresh(void)
{
	struct timespec begin, now;

	cp_timer_init(&last.timer, loop, take_old);
	cp_timer_start(&last.timer, 0);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	do /* until the timer is due, so that the next turn has it as well as the answer */
		clock_gettime(CLOCK_MONOTONIC, &now);
	while ((now.tv_sec - begin.tv_sec) * 1000000000L + now.tv_nsec - begin.tv_nsec < 30000000L);
}

Test(loop_resolver, addresses_of_an_answer_at_once_last_for_the_turn)
{
	struct look look = {0};

	dns.ttl = 1;
	dns.ipv4[0] = "192.0.2.1";
	addresses_of(&look, "turn.example.test");
	run_for(1100);
	dns.ipv4[0] = "192.0.2.2";
	dns.on_query = on_refresh;
	addresses_of(&look, "turn.example.test");
	loop_run(loop);
	cr_assert(last.checked);
}

/* ---- Failures ----------------------------------------------------------------------------------------------- */

static unsigned lines_with(const char *file, const char *text)
{
	char line[1024];
	unsigned count = 0;
	FILE *log = fopen(file, "r");

	while (fgets(line, sizeof(line), log))
		count += strstr(line, text) != NULL;
	fclose(log);
	return count;
}

Test(loop_resolver, the_last_good_addresses_serve_while_looking_up_fails)
{
	char file[] = "/tmp/unit_loop_XXXXXX";
	struct log_settings log = {.level = CP_INFO, .file = file};
	struct look look = {0};
	unsigned failed_at;

	close(mkstemp(file));
	cr_assert_eq(log_start(&log, NULL), CP_OK);

	dns.ttl = 1;
	dns.ipv4[0] = "192.0.2.1";
	addresses_of(&look, "flaky.example.test");
	dns.manner = DNS_FAIL;
	for (failed_at = dns.queries; dns.queries < failed_at + 5;) { /* each look-up asks twice */
		run_for(50);
		look_up(&look, "flaky.example.test");
		cr_assert_eq(look.result, CP_OK);
		cr_assert_str_eq(look.text, "192.0.2.1");
	}
	dns.manner = DNS_ANSWER;
	dns.ipv4[0] = "192.0.2.2";
	wait_until_it_gives("flaky.example.test", "192.0.2.2");
	log_stop();
	cr_assert_eq(lines_with(file, "WARN resolver] flaky.example.test: does not resolve any more"), 1);
	cr_assert_eq(lines_with(file, "INFO resolver] flaky.example.test: resolves again"), 1);
	unlink(file);
}

Test(loop_resolver, a_name_that_is_gone_does_not_serve_on)
{
	struct look look = {0};

	dns.ttl = 1;
	dns.ipv4[0] = "192.0.2.1";
	addresses_of(&look, "gone.example.test");
	dns.manner = DNS_NO_SUCH_NAME;
	wait_until_it_gives("gone.example.test", "gone.example.test: there is no such name");
}

Test(loop_resolver, a_name_that_does_not_exist_is_known_not_to_for_a_second)
{
	struct look look = {0};

	dns.manner = DNS_NO_SUCH_NAME;
	cr_assert_str_eq(addresses_of(&look, "no.example.test"), "no.example.test: there is no such name");
	cr_assert_eq(look.result, CP_ERESOLVE);
	look_up(&look, "no.example.test");
	cr_assert_eq(look.result, CP_ERESOLVE);
	cr_assert_eq(dns.queries, 1);
	dns.manner = DNS_ANSWER;
	dns.ipv4[0] = "192.0.2.1";
	wait_until_it_gives("no.example.test", "192.0.2.1");
	cr_assert_eq(dns.queries, 2);
}

Test(loop_resolver, a_name_without_addresses_says_so)
{
	struct look look = {0};

	cr_assert_str_eq(addresses_of(&look, "empty.example.test"), "empty.example.test: the name has no addresses");
	cr_assert_eq(look.result, CP_ERESOLVE);
}

Test(loop_resolver, garbage_is_no_answer)
{
	struct look look = {0};

	dns.manner = DNS_GARBAGE;
	addresses_of(&look, "garbage.example.test");
	cr_assert_eq(look.result, CP_ERESOLVE, "%s", look.text);
	dns.manner = DNS_ANSWER;
	dns.ipv4[0] = "192.0.2.1";
	wait_until_it_gives("garbage.example.test", "192.0.2.1");
}

Test(loop_resolver, silence_ends_in_bounded_time)
{
	struct look look = {0};
	struct timespec begin, end;

	dns.manner = DNS_SILENT;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	addresses_of(&look, "silent.example.test");
	clock_gettime(CLOCK_MONOTONIC, &end);
	cr_assert_str_eq(look.text, "silent.example.test: no answer from the name servers");
	cr_assert_eq(look.result, CP_ERESOLVE);
	cr_assert_leq(end.tv_sec - begin.tv_sec, 6);
	cr_assert_geq(dns.queries, 2, "it was asked again");
}

/* Each of the search domains is tried in turn, and each takes a while to be denied. */
Test(loop_resolver, many_slow_tries_end_in_bounded_time)
{
	struct look look = {0};
	struct timespec begin, end;

	setenv("LOCALDOMAIN", "a.test b.test c.test d.test e.test f.test", 1);
	dns.manner = DNS_SECOND_TRY;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	addresses_of(&look, "slow");
	clock_gettime(CLOCK_MONOTONIC, &end);
	cr_assert_str_eq(look.text, "slow: no answer from the name servers");
	cr_assert_geq(dns.queries, 4, "it was about to try more");
	cr_assert_leq(end.tv_sec - begin.tv_sec, 6);
	dns.manner = DNS_ANSWER;
	dns.ipv4[0] = "192.0.2.1";
	for (unsigned seen = dns.queries; dns.queries == seen;)
		run_for(1); /* the query goes on by itself */
	wait_until_it_gives("slow", "192.0.2.1");
	cr_assert_eq(look.called, 1, "its late answer is nobody's");
}

static void change_servers(void)
{
	dns_stop();
	dns_start(loop);
	dns.ipv4[0] = "192.0.2.1";
}

Test(loop_resolver, look_ups_under_way_go_on_with_new_name_servers)
{
	struct look first = {0}, second = {0};

	dns.manner = DNS_SILENT;
	look_up(&first, "first.example.test");
	while (dns.queries == 0)
		run_for(1);
	change_servers();
	look_up(&second, "second.example.test");
	loop_run(loop);
	cr_assert(first.called == 1 && second.called == 1);
	cr_assert_str_eq(first.text, "192.0.2.1");
	cr_assert_str_eq(second.text, "192.0.2.1");
	cr_assert_eq(dns.queries, 2, "both were asked of the new one");
}

Test(loop_resolver, name_servers_that_make_no_sense_are_an_error)
{
	struct look look = {0};

	resolver_set_servers("not an address");
	look_up(&look, "www.example.test");
	cr_assert_eq(look.result, CP_ERESOLVE, "%s", look.text);
}

/* ---- Cancelling --------------------------------------------------------------------------------------------- */

Test(loop_resolver, a_cancelled_look_up_is_not_called)
{
	struct look looks[3] = {0};

	dns.ipv4[0] = "192.0.2.1";
	for (int i = 0; i < 3; i++)
		look_up(&looks[i], "cancel.example.test");
	cp_resolve_cancel(&looks[1].resolve);
	waiting--;
	loop_run(loop);
	cr_assert(looks[0].called == 1 && looks[1].called == 0 && looks[2].called == 1);
	cp_resolve_cancel(&looks[0].resolve); /* nothing to cancel any more */
}

Test(loop_resolver, a_cancelled_look_up_still_answers_the_next_one)
{
	struct look look = {0}, later = {0};

	dns.ipv4[0] = "192.0.2.1";
	look_up(&look, "cancel.example.test");
	cp_resolve_cancel(&look.resolve);
	waiting--;
	cr_assert_str_eq(addresses_of(&later, "cancel.example.test"), "192.0.2.1");
	cr_assert(look.called == 0 && later.called == 1 && dns.queries == 1);
}

Test(loop_resolver, one_who_is_told_may_cancel_the_others_of_the_same_name)
{
	struct look looks[3] = {0};

	dns.ipv4[0] = "192.0.2.1";
	for (int i = 0; i < 3; i++)
		look_up(&looks[i], "cancel.example.test");
	looks[0].cancel = &looks[1];
	loop_run(loop);
	cr_assert(looks[0].called == 1 && looks[1].called == 0 && looks[2].called == 1);
}

Test(loop_resolver, one_who_is_told_may_look_up_again)
{
	struct look same = {0}, other = {0};

	dns.ipv4[0] = "192.0.2.1";
	look_up(&same, "same.example.test");
	look_up(&other, "other.example.test");
	same.next = "same.example.test";
	other.next = "third.example.test";
	loop_run(loop);
	cr_assert_eq(same.called, 1, "the second time it is known at once");
	cr_assert_eq(same.result, CP_OK);
	cr_assert_eq(other.called, 2);
	cr_assert_eq(dns.queries, 3);
}

Test(loop_resolver, a_loop_may_be_freed_with_look_ups_under_way)
{
	struct cp_loop *second = loop_new(1, NULL);
	struct look look = {0};

	look.resolve.done = on_done;
	cr_assert_eq(cp_resolve_start(second, &look.resolve, "late.example.test"), CP_AGAIN);
	loop_free(second);
	cp_resolve_cancel(&look.resolve);
	cr_assert_eq(look.called, 0);
}

/* ---- Many --------------------------------------------------------------------------------------------------- */

Test(loop_resolver, more_names_at_once_than_are_kept_is_an_error_that_says_so)
{
	enum { NAMES = 1100, KEPT = 1024 };
	static struct look looks[NAMES];
	unsigned refused = 0;
	char host[64];

	dns.ipv4[0] = "192.0.2.1";
	for (int i = 0; i < NAMES; i++) {
		snprintf(host, sizeof(host), "n%d.example.test", i);
		look_up(&looks[i], host);
		refused += looks[i].result == CP_ELIMIT;
	}
	cr_assert_eq(refused, NAMES - KEPT);
	loop_run(loop);
	for (int i = 0; i < KEPT; i++)
		cr_assert_eq(looks[i].called, 1);
	cr_assert_str_eq(addresses_of(&looks[0], "one-more.example.test"), "192.0.2.1");
}
