/* Servers:
 *
 *     echo     gives back what it gets; with -e it ends a connection after -b bytes of it
 *     source   sends without end
 *     bulk     the other side of load_bulk.c
 *
 * With -w an echo is one of websocket messages (load_server_ws.c), with -u of datagrams (load_server_udp.c). A line on
 * stdin asks for what was counted since the one before: one JSON object. */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef void (*serve_function)(struct served *s, uint32_t events);

struct server_counts server_counts;

static char input[CHUNK];

void served_close(struct served *s)
{
	close(s->fd);
	free(s->held);
	free(s->ws);
	free(s);
}

void served_fail(struct served *s)
{
	server_counts.failed++;
	served_close(s);
}

/* ---- Echo ---------------------------------------------------------------------------------------------------- */

/** Keep what could not be written. `bytes` may lie in s->held. */
static void hold(struct served *s, const char *bytes, size_t length)
{
	if (length && !s->held)
		s->held = malloc(CHUNK + WS_HEADER_MOST);
	if (length)
		memmove(s->held, bytes, length);
	s->length = length;
	if (length == 0) {
		free(s->held);
		s->held = NULL;
	}
}

bool served_send(struct served *s, const char *bytes, size_t length)
{
	ssize_t put = send(s->fd, bytes, length, MSG_NOSIGNAL);
	if (put < 0 && errno != EAGAIN)
		return false;
	if (put < 0)
		put = 0;
	s->position += (uint64_t)put;
	if (s->length || (size_t)put < length)
		hold(s, bytes + put, length - (size_t)put);
	return true;
}

/** @return true to read on */
static bool echo_step(struct served *s, uint32_t events)
{
	if (s->length && !served_send(s, s->held, s->length)) {
		served_close(s);
		return false;
	}
	if (s->length)
		return false;
	if (s->ended || (options.server_ends && s->position >= options.bytes)) {
		served_close(s);
		return false;
	}
	ssize_t got = recv(s->fd, input, sizeof(input), 0);
	if (got < 0 && errno == EAGAIN)
		return false;
	s->ended = got == 0;
	if (got < 0 || (got > 0 && !served_send(s, input, (size_t)got))) {
		served_close(s);
		return false;
	}
	/* A short read means that there was no more, unless the end of file is behind it. */
	return got == 0 || s->length || (size_t)got == sizeof(input) || options.server_ends || events & EPOLLRDHUP;
}

static void serve_echo(struct served *s, uint32_t events)
{
	while (echo_step(s, events))
		continue;
}

/* ---- Source -------------------------------------------------------------------------------------------------- */

static void serve_source(struct served *s, uint32_t events)
{
	(void)events;
	for (;;) {
		ssize_t put = send(s->fd, pattern_at(0), CHUNK, MSG_NOSIGNAL);
		if (put < 0 && errno == EAGAIN)
			return;
		if (put < 0)
			break;
	}
	served_close(s);
}

/* ---- Bulk ---------------------------------------------------------------------------------------------------- */

/** The first byte, and the `g` of a connection that goes down. */
static void bulk_word(struct served *s)
{
	char word;
	ssize_t got = recv(s->fd, &word, 1, 0);
	if (got < 0 && errno == EAGAIN)
		return;
	if (got <= 0) {
		if (got == 0 && s->direction == 0) /* somebody looks whether anybody is here */
			served_close(s);
		else
			served_fail(s);
		return;
	}
	bool greeting = s->direction == 0 && (word == 'u' || word == 'd');
	if (!greeting && !(s->direction == 'd' && word == 'g')) {
		served_fail(s);
		return;
	}
	s->direction = word;
	if (greeting && send(s->fd, &word, 1, MSG_NOSIGNAL) != 1) {
		served_fail(s);
		return;
	}
	if (word == 'g') {
		struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = s};
		epoll_ctl(poller, EPOLL_CTL_MOD, s->fd, &event);
	}
}

static void bulk_receive(struct served *s)
{
	ssize_t got = recv(s->fd, input, sizeof(input), 0);
	if (got < 0 && errno == EAGAIN)
		return;
	if (got == 0) {
		served_close(s);
		return;
	}
	if (got < 0 || s->direction == 'g' || !pattern_matches(s->position, input, (size_t)got)) {
		served_fail(s);
		return;
	}
	s->position += (uint64_t)got;
	server_counts.received += (uint64_t)got;
}

static void bulk_send(struct served *s)
{
	ssize_t put = send(s->fd, pattern_at(s->position), CHUNK, MSG_NOSIGNAL);
	if (put < 0 && errno == EAGAIN)
		return;
	if (put < 0) {
		served_fail(s);
		return;
	}
	s->position += (uint64_t)put;
	server_counts.sent += (uint64_t)put;
}

static void serve_bulk(struct served *s, uint32_t events)
{
	if (s->direction == 0 || s->direction == 'd')
		bulk_word(s);
	else if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
		bulk_receive(s);
	else
		bulk_send(s);
}

/* ---- Serving ------------------------------------------------------------------------------------------------- */

static void serve_new(int listener, enum service service)
{
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			return;
		struct served *s = calloc(1, sizeof(*s));
		s->fd = fd;
		server_counts.accepted++;
		loop_watch(fd, service == SERVICE_BULK ? EPOLLIN : EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, s);
	}
}

void server_announce(int fd)
{
	struct sockaddr_in address;
	socklen_t length = sizeof(address);
	getsockname(fd, (struct sockaddr *)&address, &length);
	printf("%u\n", ntohs(address.sin_port));
	fflush(stdout);
}

static int listen_on(uint16_t port)
{
	struct sockaddr_in address = loopback(port);
	int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* inherited */
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(listener, 65535) < 0)
		die("bind");
	server_announce(listener);
	return listener;
}

bool server_asked(void)
{
	char line[64];
	if (read(STDIN_FILENO, line, sizeof(line)) <= 0)
		return false;
	printf("{\"accepted\": %llu, \"received\": %llu, \"sent\": %llu, \"failed\": %llu}\n",
		   (unsigned long long)server_counts.accepted, (unsigned long long)server_counts.received,
		   (unsigned long long)server_counts.sent, (unsigned long long)server_counts.failed);
	fflush(stdout);
	memset(&server_counts, 0, sizeof(server_counts));
	return true;
}

void server_run(enum service service)
{
	static const serve_function functions[] = {serve_echo, serve_source, serve_bulk};
	serve_function serve = options.websocket ? serve_websocket : functions[service];
	struct epoll_event events[EVENTS], input_event = {.events = EPOLLIN};
	int listener = listen_on(options.port);
	loop_watch(listener, EPOLLIN, &listener);
	epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &input_event);
	for (;;) {
		int count = epoll_wait(poller, events, EVENTS, -1);
		for (int i = 0; i < count; i++) {
			if (events[i].data.ptr == &listener)
				serve_new(listener, service);
			else if (events[i].data.ptr)
				serve(events[i].data.ptr, events[i].events);
			else if (!server_asked())
				return;
		}
	}
}
