/* The stream interface holds for other kinds of streams than the program's own: the whole proxy runs in this process,
 * real sockets on both sides of it, and every combination of streams in between has to deliver every byte, the ends and
 * the resets. */
#include "streams/streams.h"
#include "task_fixture.h"

#include <criterion/parameterized.h>

enum { BULK = 8 * 1024 * 1024, PATIENCE_MS = 20000 };

/** A running proxy with one route: `front` is where it listens, what it connects to is here. */
struct fixture {
	struct proxy proxy;
	uint16_t front;
	int listener;
};

static const struct cp_system_def *const extra[] = {&streams_system, NULL};

/** Start the proxy with one route. @param incoming  layers in front of tcp  @param target  layers and connector */
static void set_up(struct fixture *f, const char *incoming, const char *target)
{
	uint16_t back;
	f->listener = listen_somewhere(&back);
	f->front = free_port();
	snprintf(f->proxy.text, sizeof(f->proxy.text),
			 "[connpipe]\nworkers = 1\nadmin = \"off\"\nlog = { level = \"warn\" }\n"
			 "[front]\ntype = \"table\"\n[front.routes]\n\"%stcp:$4:%u\" = \"%s:$4:%u\"\n",
			 incoming, f->front, target, back);
	proxy_start(&f->proxy, extra);
}

static void tear_down(struct fixture *f)
{
	proxy_stop(&f->proxy);
	close(f->listener);
}

/** Connect through the proxy, as soon as it listens. */
static void open_pair(struct fixture *f, int *client, int *server)
{
	while ((*client = connect_to(f->front)) < 0)
		sched_yield();
	*server = accept(f->listener, NULL, NULL);
	cr_assert_geq(*server, 0);
}

/* ---- Both ways at once -------------------------------------------------------------------------------------- */

static char byte_at(size_t at, int seed)
{
	return (char)(at * 7 + at / 253 + (size_t)seed);
}

struct party {
	int fd, seed_out, seed_in;
	size_t sent, received;
	bool shut, ended;
};

/** Some sends are large, some tiny, so that they meet every path. */
static void party_send(struct party *p)
{
	static char chunk[128 * 1024];
	size_t length = p->sent % 5 == 0 ? sizeof(chunk) : p->sent % 3 == 0 ? 1 : 1447;
	if (length > BULK - p->sent)
		length = BULK - p->sent;
	for (size_t i = 0; i < length; i++)
		chunk[i] = byte_at(p->sent + i, p->seed_out);
	ssize_t put = send(p->fd, chunk, length, MSG_DONTWAIT | MSG_NOSIGNAL);
	cr_assert(put > 0 || errno == EAGAIN, "send: %s", strerror(errno));
	p->sent += put > 0 ? (size_t)put : 0;
	if (p->sent == BULK) {
		shutdown(p->fd, SHUT_WR);
		p->shut = true;
	}
}

static void party_receive(struct party *p)
{
	static char chunk[128 * 1024];
	ssize_t got = recv(p->fd, chunk, sizeof(chunk), MSG_DONTWAIT);
	cr_assert(got >= 0 || errno == EAGAIN, "recv: %s", strerror(errno));
	for (ssize_t i = 0; i < got; i++)
		cr_assert_eq(chunk[i], byte_at(p->received + (size_t)i, p->seed_in), "byte %zu", p->received + (size_t)i);
	p->received += got > 0 ? (size_t)got : 0;
	p->ended = got == 0;
}

static void exchange(int client, int server)
{
	struct party parties[2] = {{.fd = client, .seed_out = 1, .seed_in = 2},
							   {.fd = server, .seed_out = 2, .seed_in = 1}};
	while (!parties[0].ended || !parties[1].ended || !parties[0].shut || !parties[1].shut) {
		struct pollfd polled[2];
		for (int i = 0; i < 2; i++)
			polled[i] =
				(struct pollfd){.fd = parties[i].fd,
								.events = (short)((parties[i].ended ? 0 : POLLIN) | (parties[i].shut ? 0 : POLLOUT))};
		cr_assert_gt(poll(polled, 2, PATIENCE_MS), 0, "nothing moves: %zu and %zu bytes received", parties[0].received,
					 parties[1].received);
		for (int i = 0; i < 2; i++) {
			if (polled[i].revents & (POLLIN | POLLHUP) && !parties[i].ended)
				party_receive(&parties[i]);
			if (polled[i].revents & POLLOUT && !parties[i].shut)
				party_send(&parties[i]);
		}
	}
	cr_assert_eq(parties[0].received, BULK);
	cr_assert_eq(parties[1].received, BULK);
}

struct combination {
	char incoming[16], target[32];
};

static struct combination combinations[] = {
	{"", "tcp"},
	{"", "bev"},
	{"lender+", "tcp"},
	{"", "lender+tcp"},
	{"lender+", "lender+tcp"},
	{"lender+", "bev"},
	{"mask+mask+", "tcp"},
	{"", "mask+mask+tcp"},
	{"", "mask+mask+bev"},
	{"mask+mask+", "mask+mask+bev"},
};

ParameterizedTestParameters(task_streams, every_byte_and_both_ends_arrive)
{
	return cr_make_param_array(struct combination, combinations, sizeof(combinations) / sizeof(combinations[0]));
}

/* Two masks undo each other, so that the bytes are the same again behind them. */
ParameterizedTest(struct combination *c, task_streams, every_byte_and_both_ends_arrive)
{
	struct fixture f = {0};
	int client, server;
	set_up(&f, c->incoming, c->target);
	open_pair(&f, &client, &server);
	exchange(client, server);
	close(client);
	close(server);
	tear_down(&f);
}

ParameterizedTestParameters(task_streams, a_reset_travels_behind_the_data)
{
	return cr_make_param_array(struct combination, combinations, sizeof(combinations) / sizeof(combinations[0]));
}

/** Wait until everything that was sent is acknowledged, then reset. */
static void reset(int fd)
{
	struct linger linger = {.l_onoff = 1, .l_linger = 0};
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(fd);
}

ParameterizedTest(struct combination *c, task_streams, a_reset_travels_behind_the_data)
{
	enum { REPLY = 300000 };
	struct fixture f = {0};
	int client, server;
	size_t sent = 0, received = 0;
	static char chunk[REPLY];
	set_up(&f, c->incoming, c->target);
	open_pair(&f, &client, &server);
	for (size_t i = 0; i < REPLY; i++)
		chunk[i] = byte_at(i, 5);
	while (sent < REPLY) { /* blocking: the client reads in between */
		ssize_t put = send(server, chunk + sent, REPLY - sent, MSG_DONTWAIT);
		sent += put > 0 ? (size_t)put : 0;
		char got[4096];
		while (received < sent) {
			ssize_t n = recv(client, got, sizeof(got), 0);
			cr_assert_gt(n, 0);
			for (ssize_t i = 0; i < n; i++)
				cr_assert_eq(got[i], byte_at(received + (size_t)i, 5));
			received += (size_t)n;
		}
	}
	reset(server);
	char byte;
	cr_assert_eq(recv(client, &byte, 1, 0), -1, "a clean end instead of a reset");
	cr_assert_eq(errno, ECONNRESET);
	close(client);
	tear_down(&f);
}
