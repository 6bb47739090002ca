/** What the tests of udp share: plain sockets, and a user of sessions. */
#ifndef TESTS_UNIT_CORE_UDP_H
#define TESTS_UNIT_CORE_UDP_H

#include "core_fixture.h"

#include "../../systems/core/udp_session.h"

#include <errno.h>
#include <poll.h>

/* ---- Plain sockets ------------------------------------------------------------------------------------------- */

static inline struct sockaddr_in at_port(const char *host, uint16_t port)
{
	struct cp_peer peer = {.port = port};
	struct sockaddr_storage storage;
	struct sockaddr_in at;
	cr_assert(cp_ip_parse(host, strlen(host), &peer.ip));
	cp_peer_to_sockaddr(&peer, (struct sockaddr *)&storage, sizeof(storage));
	memcpy(&at, &storage, sizeof(at));
	return at;
}

/** A socket connected to a port of this machine. */
static inline int udp_client(const char *host, uint16_t port)
{
	struct sockaddr_in to = at_port(host, port);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	cr_assert_eq(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

/** A socket bound to a port of this machine. */
static inline int udp_server(uint16_t *port)
{
	struct sockaddr_in at = at_port("127.0.0.1", *port);
	socklen_t length = sizeof(at);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	cr_assert_eq(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	getsockname(fd, (struct sockaddr *)&at, &length);
	*port = ntohs(at.sin_port);
	return fd;
}

static inline void say(int fd, const void *bytes, size_t length)
{
	cr_assert_eq(send(fd, bytes, length, 0), (ssize_t)length, "%s", strerror(errno));
}

static inline void say_text(int fd, const char *text)
{
	say(fd, text, strlen(text));
}

/** The next datagram is this. */
static inline void hear(int fd, const void *bytes, size_t length)
{
	static char got[70000];
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	cr_assert_eq(poll(&poll_fd, 1, WATCHDOG_MS), 1, "nothing came");
	cr_assert_eq(recv(fd, got, sizeof(got), 0), (ssize_t)length);
	cr_assert_eq(memcmp(got, bytes, length), 0, "other bytes came");
}

static inline void hear_text(int fd, const char *text)
{
	hear(fd, text, strlen(text));
}

static inline bool is_silent(int fd)
{
	char byte;
	return recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) < 0 && errno == EAGAIN;
}

/** Several datagrams at once, as the kernel of a sender makes them. */
static inline void say_segments(int fd, const char *bytes, size_t length, int size)
{
	cr_assert_eq(setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof(size)), 0);
	say(fd, bytes, length);
	size = 0;
	cr_assert_eq(setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof(size)), 0);
}

/* ---- Streams ------------------------------------------------------------------------------------------------- */

/** A user who does nothing but count, and end the loop. */
struct user {
	int calls;
	unsigned events;
	bool called;
};

static inline void user_ready(struct cp_stream *stream, unsigned events, void *arg)
{
	struct user *user = arg;
	user->calls++;
	user->events = events;
	user->called = true;
	loop_stop(stream->loop);
}

/** Read one message; wait for it. @return its length, or an error */
static inline ssize_t read_message(struct cp_stream *stream, void *bytes, size_t room, unsigned *hints)
{
	struct user user = {0};
	struct iovec vec = {bytes, room};
	unsigned asked = *hints;
	ssize_t got;
	cp_stream_set_user(stream, user_ready, &user);
	while ((got = stream->ops->read(stream, &vec, 1, hints)) == CP_AGAIN) {
		run_until(&user.called);
		user.called = false;
		*hints = asked;
	}
	cp_stream_set_user(stream, NULL, NULL);
	return got;
}

static inline void read_text(struct cp_stream *stream, const char *text)
{
	static char got[70000];
	unsigned hints = 0;
	cr_assert_eq(read_message(stream, got, sizeof(got), &hints), (ssize_t)strlen(text), "another length than %s's",
				 text);
	cr_assert_eq(memcmp(got, text, strlen(text)), 0, "not %s", text);
}

static inline void write_bytes(struct cp_stream *stream, const void *bytes, size_t length, unsigned flags)
{
	struct iovec vec = {(void *)bytes, length};
	cr_assert_eq(cp_stream_writev(stream, &vec, 1, flags), (ssize_t)length);
}

/** Whether there is nothing to read. */
static inline bool has_nothing(struct cp_stream *stream)
{
	char byte;
	struct iovec vec = {&byte, 1};
	unsigned hints;
	run_turns(3);
	return cp_stream_readv(stream, &vec, 1, &hints) == CP_AGAIN;
}

static inline int64_t counted(const char *name)
{
	return cp_counter_sum(cp_counter_get(name, CP_COUNTER, ""));
}

/** Let acceptors read until so many datagrams have come in. */
static inline void run_until_in(int64_t count)
{
	while (counted("udp_datagrams_in") < count)
		run_turns(1);
}

/* ---- A bound address with one worker -------------------------------------------------------------------------- */

struct bound {
	struct cp_listener *listener;
	struct accepting accepting;
	uint16_t port;
};

static inline void bound_start(struct bound *b, const char *address)
{
	b->listener = bind_to(address, 1);
	b->port = listener_port(b->listener);
	accepting_start(&b->accepting, b->listener);
}

static inline void bound_stop(struct bound *b)
{
	accepting_stop(&b->accepting);
	b->listener->ops->unbind(b->listener);
}

static inline struct cp_stream *session_for(struct bound *b, int client, const char *text)
{
	say_text(client, text);
	struct cp_stream *session = accept_one(&b->accepting);
	read_text(session, text);
	return session;
}

#endif
