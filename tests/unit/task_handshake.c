/* Layers whose handshake does not end: the pipe gives up in time, on both sides, and the layer is told to. */
#include "task_fixture.h"

#include <connpipe/connpipe.h>

#include <stdatomic.h>

/* ---- A layer that waits for ever ---------------------------------------------------------------------------- */

static atomic_int cancelled;

static int stuck_begin(const struct cp_converter *converter, struct cp_open *open)
{
	(void)converter, (void)open;
	return CP_AGAIN;
}

static void stuck_cancel(const struct cp_converter *converter, struct cp_open *open)
{
	(void)converter;
	atomic_fetch_add(&cancelled, 1);
	cp_stream_close(open->lower, CP_CAUSE_HANDSHAKE_TIMEOUT);
}

static const struct cp_converter_def stuck = {
	.size = sizeof(stuck),
	.id = "stuck",
	.accept = stuck_begin,
	.connect = stuck_begin,
	.cancel = stuck_cancel,
};

/* ---- One that ends its handshake in the loop, and puts nothing on ------------------------------------------- */

struct slow {
	struct cp_timer timer; /* first */
	struct cp_open *open;
};

static void on_slow(struct cp_timer *timer)
{
	struct cp_open *open = ((struct slow *)timer)->open;
	free(timer);
	open->stream = open->lower;
	cp_open_done(open);
}

static int slow_begin(const struct cp_converter *converter, struct cp_open *open)
{
	struct slow *slow = calloc(1, sizeof(*slow));
	(void)converter;
	slow->open = open;
	open->state = slow;
	cp_timer_init(&slow->timer, open->loop, on_slow);
	cp_timer_start(&slow->timer, 10);
	return CP_AGAIN;
}

static void slow_cancel(const struct cp_converter *converter, struct cp_open *open)
{
	struct slow *slow = open->state;
	(void)converter;
	cp_timer_stop(&slow->timer);
	free(slow);
	cp_stream_close(open->lower, CP_CAUSE_HANDSHAKE_TIMEOUT);
}

static const struct cp_converter_def slow = {
	.size = sizeof(slow),
	.id = "slow",
	.accept = slow_begin,
	.connect = slow_begin,
	.cancel = slow_cancel,
};

static int load(struct cp_system *self, const struct cp_settings *settings)
{
	(void)settings;
	int result = cp_register_converter(self, &stuck, NULL, NULL);
	return result == CP_OK ? cp_register_converter(self, &slow, NULL, NULL) : result;
}

static const struct cp_system_def layers = {
	.abi = CP_ABI_VERSION, .size = sizeof(layers), .id = "test.handshake", .load = load};
static const struct cp_system_def *const extra[] = {&layers, NULL};

/* ---- The proxy ---------------------------------------------------------------------------------------------- */

/** @param timeouts  the two that matter, the other one being none  @param incoming, targets  as in a table
 * @return a connected client */
static int start(struct proxy *proxy, const char *timeouts, const char *incoming, const char *targets)
{
	uint16_t front = free_port();
	int client;
	snprintf(proxy->text, sizeof(proxy->text),
			 "[connpipe]\nworkers = 1\nadmin = \"off\"\nlog = { level = \"error\" }\ntimeouts = { %s }\n"
			 "[front]\ntype = \"table\"\n[front.routes]\n\"%stcp:$4:%u\" = %s\n",
			 timeouts, incoming, front, targets);
	proxy_start(proxy, extra);
	while ((client = connect_to(front)) < 0)
		sched_yield();
	return client;
}

static void expect_echo(int client)
{
	char back[5];
	cr_assert_eq(send(client, "hello", 5, MSG_NOSIGNAL), 5);
	cr_assert_eq(recv(client, back, sizeof(back), MSG_WAITALL), 5);
	cr_assert_eq(memcmp(back, "hello", 5), 0);
}

Test(task_handshake, of_the_client_is_given_up, .timeout = 20)
{
	struct proxy proxy = {0};
	char byte;
	int client = start(&proxy, "handshake = \"50ms\", connect = \"0s\"", "slow+stuck+", "\"echo:\"");
	cr_assert_leq(recv(client, &byte, 1, 0), 0);
	cr_assert_eq(atomic_load(&cancelled), 1);
	close(client);
	proxy_stop(&proxy);
}

Test(task_handshake, of_a_target_is_given_up_for_the_next_one, .timeout = 20)
{
	struct proxy proxy = {0};
	int client =
		start(&proxy, "handshake = \"0s\", connect = \"50ms\"", "", "[\"stuck+slow+echo:\", \"slow+slow+echo:\"]");
	expect_echo(client);
	cr_assert_eq(atomic_load(&cancelled), 1);
	close(client);
	proxy_stop(&proxy);
}

Test(task_handshake, in_time_on_both_sides, .timeout = 20)
{
	struct proxy proxy = {0};
	int client = start(&proxy, "handshake = \"10s\", connect = \"10s\"", "slow+", "\"slow+echo:\"");
	expect_echo(client);
	cr_assert_eq(atomic_load(&cancelled), 0);
	close(client);
	proxy_stop(&proxy);
}
