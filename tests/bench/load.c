/* load: clients and servers for tests and measurements, on loopback only.
 *
 *     load churn  PORT [-c connections] [-t seconds] [-s subport] [-b bytes]   connect, one exchange, close, again
 *     load kept   PORT [-c connections] [-t seconds] [-s subport] [-b bytes]   exchanges on kept connections
 *     load idle   PORT [-c connections] [-s subport]     open, one exchange each, hold until stdin ends, one more each
 *     load stuck  PORT [-c connections] [-s subport]     open, ask for data, read none of it until stdin ends
 *     load echo   [-p port]                              server: gives back what it gets
 *     load source [-p port]                              server: sends without end
 *
 * Clients print `ready` when all first exchanges are done (idle, stuck) or the load has begun, and at the end one JSON
 * object: every exchange is counted as ok or by what went wrong with it; bytes are compared. Servers print their port.
 * Each is one thread around epoll, and stops by itself: after -t seconds, or when stdin ends. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 256, BYTES_MOST = 65536, LATENCIES = 1 << 20 };

enum mode { MODE_CHURN, MODE_KEPT, MODE_IDLE, MODE_STUCK };

enum outcome { OK, REFUSED, RESET, CUT_SHORT, WRONG_BYTES, OTHER, OUTCOMES };
static const char *const outcome_names[OUTCOMES] = {"ok", "refused", "reset", "cut_short", "wrong_bytes", "other"};

/** One client. */
struct client {
	int fd;
	uint32_t serial;
	size_t sent, received; /* of this exchange; `sent` counts the preamble too */
	uint64_t began;
	bool first, waiting;   /* waiting: its exchange is over and the next one is not asked for */
};

static struct {
	enum mode mode;
	uint16_t port;
	uint32_t connections;
	double seconds;
	const char *subport;
	size_t bytes;
} options = {.connections = 1, .seconds = 1e9, .bytes = 64};

static int poller;
static struct client *clients;
static uint64_t outcomes[OUTCOMES], exchanges_under_way;
static char preamble[512], payload[BYTES_MOST], scratch[BYTES_MOST];
static size_t preamble_length;
static bool ending; /* no new exchanges */
static uint32_t *latencies; /* microseconds */
static uint64_t latency_count;

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static struct sockaddr_in loopback(uint16_t port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

/* ---- Clients ------------------------------------------------------------------------------------------------ */

static void client_open(struct client *c);
static void client_begin(struct client *c);

/** The bytes of one exchange differ from those of the others, so that mixed-up connections are noticed. */
static char byte_at(const struct client *c, size_t at)
{
	return (char)(c->serial * 31 + at * 7 + at / 251);
}

static void client_close(struct client *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

static void finished(struct client *c, enum outcome outcome)
{
	outcomes[outcome]++;
	exchanges_under_way--;
	if (outcome == OK && latency_count < LATENCIES)
		latencies[latency_count++] = (uint32_t)((now_ns() - c->began) / 1000);
	if (outcome != OK || options.mode == MODE_CHURN)
		client_close(c);
	c->waiting = true;
	if (ending || options.mode == MODE_IDLE || options.mode == MODE_STUCK)
		return;
	if (c->fd < 0)
		client_open(c);
	else
		client_begin(c);
}

static enum outcome outcome_of(int error)
{
	return error == ECONNREFUSED ? REFUSED : error == ECONNRESET || error == EPIPE ? RESET : OTHER;
}

/** Send what is left of preamble and payload. @return false when the client is finished */
static bool client_send(struct client *c)
{
	size_t head = c->first ? preamble_length : 0, total = head + options.bytes;
	while (c->sent < total) {
		struct iovec vec[2] = {{preamble, head}, {scratch, options.bytes}};
		for (size_t i = 0; i < options.bytes; i++)
			scratch[i] = byte_at(c, i);
		size_t skip = c->sent;
		for (int i = 0; i < 2; i++) {
			size_t part = skip < vec[i].iov_len ? skip : vec[i].iov_len;
			vec[i].iov_base = (char *)vec[i].iov_base + part;
			vec[i].iov_len -= part;
			skip -= part;
		}
		struct msghdr message = {.msg_iov = vec, .msg_iovlen = 2};
		ssize_t put = sendmsg(c->fd, &message, MSG_NOSIGNAL);
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

static void client_receive(struct client *c)
{
	char *at = payload;
	ssize_t got = recv(c->fd, at, sizeof(payload), 0);
	if (got < 0 && errno == EAGAIN)
		return;
	if (got <= 0) {
		finished(c, got == 0 ? CUT_SHORT : outcome_of(errno));
		return;
	}
	for (ssize_t i = 0; i < got; i++) {
		if (at[i] != byte_at(c, c->received + (size_t)i)) {
			finished(c, WRONG_BYTES);
			return;
		}
	}
	c->received += (size_t)got;
	if (c->received >= options.bytes)
		finished(c, c->received == options.bytes ? OK : WRONG_BYTES);
}

/** Begin an exchange on an open connection. */
static void client_begin(struct client *c)
{
	c->serial += options.connections;
	c->sent = c->received = 0;
	c->waiting = false;
	c->began = now_ns();
	exchanges_under_way++;
	if (client_send(c))
		c->first = false;
}

static void client_open(struct client *c)
{
	struct sockaddr_in address = loopback(options.port);
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		die("socket");
	if (options.mode == MODE_STUCK) { /* as little as possible is kept here: the proxy has the rest */
		int small = 4096;
		setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	}
	c->first = true;
	c->serial += options.connections;
	c->sent = c->received = 0;
	c->waiting = false;
	c->began = now_ns();
	exchanges_under_way++;
	if (connect(c->fd, (struct sockaddr *)&address, sizeof(address)) < 0 && errno != EINPROGRESS) {
		finished(c, outcome_of(errno));
		return;
	}
	struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
	if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event) < 0)
		die("epoll_ctl");
}

static void client_ready(struct client *c, uint32_t events)
{
	if (c->fd < 0)
		return;
	if (c->waiting) { /* idle: only an end can come */
		if (events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP | EPOLLIN)) {
			char byte;
			if (options.mode != MODE_STUCK && recv(c->fd, &byte, 1, MSG_DONTWAIT) == 0)
				client_close(c);
		}
		return;
	}
	size_t total = (c->first ? preamble_length : 0) + options.bytes;
	if ((events & (EPOLLOUT | EPOLLERR)) && c->sent < total && !client_send(c))
		return;
	if (options.mode == MODE_STUCK && c->sent == total) {
		finished(c, OK);
		return;
	}
	if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
		client_receive(c);
}

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

static int by_number(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return x < y ? -1 : x > y;
}

static uint32_t percentile(double part)
{
	return latency_count ? latencies[(uint64_t)((double)(latency_count - 1) * part)] : 0;
}

static void print_result(double seconds)
{
	qsort(latencies, latency_count, sizeof(*latencies), by_number);
	printf("{\"seconds\": %.3f, \"rate\": %.0f, \"p50_us\": %u, \"p99_us\": %u, \"p999_us\": %u", seconds,
		   (double)outcomes[OK] / seconds, percentile(0.5), percentile(0.99), percentile(0.999));
	for (int i = 0; i < OUTCOMES; i++)
		printf(", \"%s\": %llu", outcome_names[i], (unsigned long long)outcomes[i]);
	printf("}\n");
	fflush(stdout);
}

/** The second exchange of those that were held: they must have survived. */
static void exchange_again(void)
{
	memset(outcomes, 0, sizeof(outcomes));
	for (uint32_t i = 0; i < options.connections; i++) {
		if (clients[i].fd >= 0) {
			client_begin(&clients[i]);
		} else {
			outcomes[CUT_SHORT]++;
		}
	}
}

static void run_clients(void)
{
	struct epoll_event events[EVENTS], stop = {.events = EPOLLIN, .data.ptr = NULL};
	uint64_t began = now_ns();
	bool announced = false, stdin_watched = epoll_ctl(poller, EPOLL_CTL_ADD, 0, &stop) == 0;
	clients = calloc(options.connections, sizeof(*clients));
	latencies = malloc(LATENCIES * sizeof(*latencies));
	for (uint32_t i = 0; i < options.connections; i++) {
		clients[i].serial = i;
		client_open(&clients[i]);
	}
	while (!ending || exchanges_under_way) {
		if (!announced && (options.mode < MODE_IDLE || exchanges_under_way == 0)) {
			printf("ready\n");
			fflush(stdout);
			announced = true;
		}
		int count = epoll_wait(poller, events, EVENTS, 100);
		for (int i = 0; i < count; i++) {
			char byte;
			if (events[i].data.ptr)
				client_ready(events[i].data.ptr, events[i].events);
			else if (stdin_watched && read(0, &byte, 1) <= 0) {
				epoll_ctl(poller, EPOLL_CTL_DEL, 0, NULL);
				stdin_watched = false;
				ending = true;
				if (options.mode == MODE_IDLE)
					exchange_again();
			}
		}
		if (!ending && (double)(now_ns() - began) / 1e9 > options.seconds)
			ending = true;
	}
	print_result((double)(now_ns() - began) / 1e9);
}

/* ---- Servers ------------------------------------------------------------------------------------------------ */

/** What an echo could not write yet. */
struct served {
	int fd;
	bool ended;
	size_t length;
	char *held;
};

static void served_close(struct served *s)
{
	close(s->fd);
	free(s->held);
	free(s);
}

static bool echo_flush(struct served *s)
{
	size_t at = 0;
	while (at < s->length) {
		ssize_t put = send(s->fd, s->held + at, s->length - at, MSG_NOSIGNAL);
		if (put < 0 && errno != EAGAIN)
			return false;
		if (put < 0)
			break;
		at += (size_t)put;
	}
	if (at)
		memmove(s->held, s->held + at, s->length - at);
	s->length -= at;
	return true;
}

static void serve_echo(struct served *s)
{
	for (;;) {
		if (!echo_flush(s)) {
			served_close(s);
			return;
		}
		if (s->length)
			return;
		if (s->ended)
			break;
		if (!s->held)
			s->held = malloc(BYTES_MOST);
		ssize_t got = recv(s->fd, s->held, BYTES_MOST, 0);
		if (got < 0 && errno == EAGAIN) {
			free(s->held);
			s->held = NULL;
			return;
		}
		if (got < 0)
			break;
		s->length = (size_t)got;
		s->ended = got == 0;
	}
	served_close(s);
}

static void serve_source(struct served *s)
{
	for (;;) {
		ssize_t put = send(s->fd, payload, sizeof(payload), MSG_NOSIGNAL);
		if (put < 0 && errno == EAGAIN)
			return;
		if (put < 0)
			break;
	}
	served_close(s);
}

static void serve_new(int listener)
{
	for (;;) {
		int one = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			return;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		struct served *s = calloc(1, sizeof(*s));
		s->fd = fd;
		struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = s};
		epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
	}
}

static void run_server(void (*serve)(struct served *))
{
	struct sockaddr_in address = loopback(options.port);
	socklen_t length = sizeof(address);
	int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(listener, 65535) < 0)
		die("bind");
	getsockname(listener, (struct sockaddr *)&address, &length);
	printf("%u\n", ntohs(address.sin_port));
	fflush(stdout);
	struct epoll_event events[EVENTS], event = {.events = EPOLLIN, .data.ptr = &listener};
	struct epoll_event stop = {.events = EPOLLIN, .data.ptr = NULL};
	epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
	epoll_ctl(poller, EPOLL_CTL_ADD, 0, &stop);
	for (;;) {
		int count = epoll_wait(poller, events, EVENTS, -1);
		for (int i = 0; i < count; i++) {
			char byte;
			if (events[i].data.ptr == &listener)
				serve_new(listener);
			else if (events[i].data.ptr)
				serve(events[i].data.ptr);
			else if (read(0, &byte, 1) <= 0)
				return;
		}
	}
}

/* ---- Command line ------------------------------------------------------------------------------------------- */

static int usage(void)
{
	fprintf(stderr, "usage: load churn|kept|idle|stuck PORT [-c connections] [-t seconds] [-s subport] [-b bytes]\n"
					"       load echo|source [-p port]\n");
	return 2;
}

static void read_options(int count, char **words)
{
	int letter;
	while ((letter = getopt(count, words, "c:t:s:b:p:")) != -1) {
		switch (letter) {
		case 'c':
			options.connections = (uint32_t)atoi(optarg);
			break;
		case 't':
			options.seconds = atof(optarg);
			break;
		case 's':
			options.subport = optarg;
			break;
		case 'b':
			options.bytes = (size_t)atoi(optarg);
			break;
		case 'p':
			options.port = (uint16_t)atoi(optarg);
			break;
		default:
			exit(usage());
		}
	}
	if (options.bytes < 1 || options.bytes > BYTES_MOST || options.connections < 1)
		exit(usage());
}

int main(int count, char **words)
{
	static const char *const modes[] = {"churn", "kept", "idle", "stuck"};
	struct rlimit limit;
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	signal(SIGPIPE, SIG_IGN);
	poller = epoll_create1(EPOLL_CLOEXEC);
	if (count < 2)
		return usage();
	if (strcmp(words[1], "echo") == 0 || strcmp(words[1], "source") == 0) {
		read_options(count - 1, words + 1);
		run_server(words[1][0] == 'e' ? serve_echo : serve_source);
		return 0;
	}
	for (int i = 0; i < 4 && count > 2; i++) {
		if (strcmp(words[1], modes[i]) != 0)
			continue;
		options.mode = (enum mode)i;
		options.port = (uint16_t)atoi(words[2]);
		read_options(count - 2, words + 2);
		make_preamble();
		run_clients();
		return outcomes[OK] && !outcomes[REFUSED] && !outcomes[RESET] && !outcomes[CUT_SHORT] &&
					   !outcomes[WRONG_BYTES] && !outcomes[OTHER]
				   ? 0
				   : 1;
	}
	return usage();
}
