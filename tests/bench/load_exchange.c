/* Clients that send a message and expect the same bytes back:
 *
 *     churn   connect, exchange, close, again
 *     kept    exchange after exchange on connections that stay
 *     idle    one exchange at the beginning, silence, one at the end
 *     stuck   send, and never read
 *
 * Whoever is to end a connection under `churn` waits until the other side has ended it too; without a websocket, a
 * client just closes. */
#include "load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

struct client {
	struct wire wire;
	uint64_t serial; /* of the exchange; every exchange of the load has another one */
	uint64_t began;
	size_t sent, received; /* of this exchange; `sent` counts the preamble too */
	bool first, waiting;   /* waiting: its exchange is over and the next one is not asked for */
};

static struct client *clients;
static bool some_failed; /* and may be connected again at the end of this turn */
static char preamble[160], input[BYTES_MOST];
static size_t preamble_length;
static bool running;

static void client_open(struct client *c);
static void client_begin(struct client *c);

static void make_preamble(void)
{
	static const unsigned char magic[16] = {0x89, 0x3d, 0x1d, 0x4e, 0x4e, 0x4f, 0xc6, 0x86,
											0x2d, 0x1e, 0x10, 0x01, 0x0d, 0x0a, 0x69, 0x0a};
	size_t length = options.subport ? strlen(options.subport) : 0;
	if (length == 0)
		return;
	if (length > 127) {
		fprintf(stderr, "load: a subport of at most 127 bytes, please\n");
		exit(2);
	}
	memcpy(preamble, magic, sizeof(magic));
	preamble[16] = (char)length;
	memcpy(preamble + 17, options.subport, length);
	preamble_length = 17 + length;
}

/** Where in the pattern this exchange's bytes are. They differ from those of the others, so that mixed-up connections
 * and answers to earlier questions are noticed. */
static uint64_t position(const struct client *c)
{
	return c->serial * 31;
}

static void client_close(struct client *c, bool in_order)
{
	if (c->wire.fd >= 0)
		wire_close(&c->wire, in_order);
}

static void go_on(struct client *c)
{
	if (c->wire.fd >= 0)
		client_begin(c);
	else
		client_open(c);
}

static bool goes_on(void)
{
	return running && !ending && (options.mode == MODE_CHURN || options.mode == MODE_KEPT);
}

static void finished(struct client *c, enum outcome outcome)
{
	report_outcome(outcome);
	under_way--;
	c->waiting = true;
	if (outcome == OK)
		report_latency(now_ns() - c->began);
	if (outcome != OK || options.mode == MODE_CHURN)
		client_close(c, outcome == OK);
	if (outcome != OK)
		some_failed = true; /* not again at once: a proxy that refuses everything would keep us in here */
	else if (goes_on())
		go_on(c);
}

/** Whether an exchange is over when the connection has ended, not before. */
static bool ends(void)
{
	return options.server_ends || (options.websocket && options.mode == MODE_CHURN);
}

/** What is left to send of preamble and message. They are not in one piece in memory, but have to be on the wire. */
static struct iovec rest(const struct client *c)
{
	static char both[sizeof(preamble) + BYTES_MOST];
	size_t head = c->first ? preamble_length : 0;
	if (c->sent >= head) {
		size_t at = c->sent - head;
		return (struct iovec){(char *)pattern_at(position(c)) + at, options.bytes - at};
	}
	memcpy(both, preamble + c->sent, head - c->sent);
	memcpy(both + head - c->sent, pattern_at(position(c)), options.bytes);
	return (struct iovec){both, head - c->sent + options.bytes};
}

static size_t to_send(const struct client *c)
{
	return (c->first ? preamble_length : 0) + options.bytes;
}

/** @return false when the client is finished */
static bool client_send(struct client *c)
{
	while (c->sent < to_send(c)) {
		struct iovec bytes = rest(c);
		ssize_t put = wire_send(&c->wire, bytes.iov_base, bytes.iov_len);
		if (put < 0 && errno == EAGAIN)
			return true;
		if (put < 0) {
			finished(c, outcome_of(errno));
			return false;
		}
		c->sent += (size_t)put;
	}
	return true;
}

/** Look at what came. @return true to read on */
static bool client_got(struct client *c, ssize_t got)
{
	if (got < 0) {
		if (errno != EAGAIN)
			finished(c, outcome_of(errno));
		return false;
	}
	if (got == 0) {
		finished(c, ends() && c->received == options.bytes ? OK : CUT_SHORT);
		return false;
	}
	size_t length = (size_t)got;
	if (length > options.bytes - c->received || !pattern_matches(position(c) + c->received, input, length)) {
		finished(c, WRONG_BYTES);
		return false;
	}
	c->received += length;
	if (c->received < options.bytes || options.server_ends)
		return true;
	if (ends() && wire_end(&c->wire))
		return true;
	finished(c, ends() ? OTHER : OK);
	return false;
}

/** Until the kernel has no more: its readiness is told once. */
static void client_receive(struct client *c)
{
	while (client_got(c, wire_receive(&c->wire, input, sizeof(input))))
		continue;
}

/** Begin an exchange on an open connection. */
static void client_begin(struct client *c)
{
	c->serial += options.connections;
	c->sent = c->received = 0;
	c->waiting = false;
	c->began = now_ns();
	c->first = false;
	under_way++;
	client_send(c);
}

static void client_open(struct client *c)
{
	struct sockaddr_in address = loopback(options.port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		die("socket");
	wire_open(&c->wire, fd);
	if (options.mode == MODE_STUCK) { /* as little as possible is kept here: the proxy has the rest */
		int small = 4096;
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	}
	c->first = true;
	c->serial += options.connections;
	c->sent = c->received = 0;
	c->waiting = false;
	c->began = now_ns();
	under_way++;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 && errno != EINPROGRESS) {
		finished(c, outcome_of(errno));
		return;
	}
	loop_watch(fd, EPOLLIN | EPOLLOUT | EPOLLET, c);
}

/** Nothing is expected: only an end can come. */
static void at_rest(struct client *c)
{
	char byte;
	if (options.mode == MODE_STUCK)
		return;
	ssize_t got = wire_receive(&c->wire, &byte, 1);
	if (got == 0 || (got < 0 && errno != EAGAIN))
		client_close(c, false);
}

static void on_ready(void *client, uint32_t events)
{
	struct client *c = client;
	if (c->wire.fd < 0)
		return;
	if (c->waiting) {
		if (events & (EPOLLERR | EPOLLHUP | EPOLLIN))
			at_rest(c);
		return;
	}
	if (c->sent < to_send(c) && !client_send(c)) /* whatever was told: a handshake goes both ways */
		return;
	if (options.mode == MODE_STUCK) {
		if (c->sent == to_send(c))
			finished(c, OK);
		return;
	}
	if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
		client_receive(c);
}

static void on_open(void)
{
	make_preamble();
	clients = calloc(options.connections, sizeof(*clients));
	for (uint32_t i = 0; i < options.connections; i++) {
		clients[i].serial = i;
		clients[i].wire.fd = -1;
		clients[i].waiting = true;
		if (options.mode != MODE_CHURN || options.resume)
			client_open(&clients[i]);
	}
}

static void on_begin(void)
{
	running = true;
	if (options.mode == MODE_IDLE || options.mode == MODE_STUCK)
		return;
	report_restart();
	for (uint32_t i = 0; i < options.connections; i++)
		go_on(&clients[i]);
}

static void on_retry(void)
{
	if (!some_failed)
		return;
	some_failed = false;
	for (uint32_t i = 0; i < options.connections && goes_on(); i++) {
		if (clients[i].wire.fd < 0 && clients[i].waiting)
			client_open(&clients[i]);
	}
}

/** Those that were idle: they must have survived. */
static void on_end(void)
{
	if (options.mode != MODE_IDLE)
		return;
	report_restart();
	for (uint32_t i = 0; i < options.connections; i++) {
		if (clients[i].wire.fd >= 0)
			client_begin(&clients[i]);
		else
			report_outcome(CUT_SHORT);
	}
}

const struct load_kind exchange_load = {on_open, on_begin, on_ready, on_retry, NULL, on_end};
