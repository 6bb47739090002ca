/* floor: the least that a relay can do with epoll, read, write and splice. Measurements hold the proxies against it.
 *
 *     floor [-w workers] LISTEN TARGET [LISTEN TARGET …]      ports on loopback
 *     floor -u LISTEN TARGET [LISTEN TARGET …]                likewise, datagrams
 *
 * It has no timeouts, no log, no configuration and no error messages after the start. What it does do is what a relay
 * needs to be right: it never blocks, a slow reader stops its writer, an end of file travels as a half close behind all
 * data, no connection starves the others. An error closes both sides.
 *
 * The system calls are the obvious ones, as few as they get without tricks: one accept per readiness, one registration
 * for each socket (edge-triggered, for everything, never changed), a short read means that there was no more. Data goes
 * through one buffer; a direction that filled it twice in a row is spliced through a pipe from then on.
 *
 * Datagrams: whoever sends the first one from an address gets a connected socket to the target, for good. What cannot
 * be passed on at once is dropped, as the network would. */
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
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER = 65536, PIPE = 262144, EVENTS = 256, FULL_READS = 2, STEPS = 16 };

/** One socket, and the data that came from it on its way to the other one. */
struct end {
	struct pair *pair; /* NULL: a listener */
	struct end *other;
	struct end *next_again; /* among those that used up their steps: there is more to do */
	int fd;
	uint8_t full_reads; /* in a row */
	bool hung_up;       /* the end of file is behind what can be read now */
	bool ended;         /* … was read */
	bool again;
	bool spliced;
	int pipe[2]; /* if spliced */
	size_t in_pipe;
	char *held; /* what was read and could not be written yet */
	size_t offset, length;
};

struct pair {
	struct end end[2];
	bool dead; /* closed, and freed at the end of the turn */
	struct pair *next_dead;
};

struct listener {
	struct end end; /* what its event points to */
	struct sockaddr_in target;
};

static int poller;
static char buffer[BUFFER];
static struct pair *dead_pairs;
static struct end *again;
static const int one = 1;

static void die(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	exit(1);
}

static struct sockaddr_in loopback(const char *port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static bool watch(struct end *e, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = e};
	return epoll_ctl(poller, EPOLL_CTL_ADD, e->fd, &event) == 0;
}

/* ---- Closing ------------------------------------------------------------------------------------------------- */

static void end_close(struct end *e)
{
	close(e->fd);
	free(e->held);
	if (e->spliced) {
		close(e->pipe[0]);
		close(e->pipe[1]);
	}
}

static void pair_close(struct pair *p)
{
	if (p->dead)
		return;
	p->dead = true;
	p->next_dead = dead_pairs;
	dead_pairs = p;
	end_close(&p->end[0]);
	end_close(&p->end[1]);
}

static void free_dead(void)
{
	struct pair *list = dead_pairs;
	dead_pairs = NULL;
	while (list) {
		struct pair *p = list;
		list = p->next_dead;
		if (p->end[0].again || p->end[1].again) { /* still on that list: next time */
			p->next_dead = dead_pairs;
			dead_pairs = p;
		} else {
			free(p);
		}
	}
}

static bool drained(const struct end *e)
{
	return e->ended && e->in_pipe == 0 && e->length == 0;
}

/** Everything that came from `e` was passed on, and its end too. */
static void finish(struct end *e)
{
	if (drained(e->other))
		pair_close(e->pair);
	else
		shutdown(e->other->fd, SHUT_WR);
}

/* ---- Forwarding ---------------------------------------------------------------------------------------------- */

enum step { STOP, GO_ON, BROKEN };

static enum step blocked(ssize_t result)
{
	return result < 0 && errno == EAGAIN ? STOP : BROKEN;
}

static enum step flush_pipe(struct end *e)
{
	ssize_t put = splice(e->pipe[0], NULL, e->other->fd, NULL, e->in_pipe, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
	if (put <= 0)
		return blocked(put);
	e->in_pipe -= (size_t)put;
	return GO_ON;
}

static enum step flush_held(struct end *e)
{
	ssize_t put = send(e->other->fd, e->held + e->offset, e->length, MSG_NOSIGNAL);
	if (put < 0)
		return blocked(put);
	e->offset += (size_t)put;
	e->length -= (size_t)put;
	if (e->length)
		return GO_ON;
	free(e->held);
	e->held = NULL;
	return GO_ON;
}

static enum step step_splice(struct end *e)
{
	ssize_t got = splice(e->fd, NULL, e->pipe[1], NULL, PIPE, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
	if (got < 0)
		return blocked(got);
	e->in_pipe = (size_t)got;
	e->ended = got == 0;
	return GO_ON;
}

static bool hold(struct end *e, const char *bytes, size_t length)
{
	e->held = malloc(length);
	if (!e->held)
		return false;
	memcpy(e->held, bytes, length);
	e->offset = 0;
	e->length = length;
	return true;
}

/** After enough of them, the next step splices. */
static void count_full(struct end *e, size_t got)
{
	e->full_reads = got == BUFFER ? e->full_reads + 1 : 0;
	if (e->full_reads != FULL_READS || pipe2(e->pipe, O_NONBLOCK | O_CLOEXEC) < 0)
		return;
	fcntl(e->pipe[0], F_SETPIPE_SZ, PIPE);
	e->spliced = true;
}

static enum step step_copy(struct end *e)
{
	ssize_t got = recv(e->fd, buffer, BUFFER, 0), put = 0;
	if (got < 0)
		return blocked(got);
	if (got == 0) {
		e->ended = true;
		return GO_ON;
	}
	count_full(e, (size_t)got);
	put = send(e->other->fd, buffer, (size_t)got, MSG_NOSIGNAL);
	if (put < 0 && errno != EAGAIN)
		return BROKEN;
	put = put < 0 ? 0 : put;
	if (put < got)
		return hold(e, buffer + put, (size_t)(got - put)) ? GO_ON : BROKEN;
	return got == BUFFER || e->hung_up ? GO_ON : STOP;
}

static enum step step(struct end *e)
{
	if (e->in_pipe)
		return flush_pipe(e);
	if (e->length)
		return flush_held(e);
	return e->spliced ? step_splice(e) : step_copy(e);
}

/** Pass on what comes from `e`. */
static void pump(struct end *e)
{
	for (int i = 0; i < STEPS; i++) {
		if (drained(e))
			return;
		enum step result = step(e);
		if (result == BROKEN)
			pair_close(e->pair);
		else if (drained(e))
			finish(e);
		if (result != GO_ON || e->pair->dead)
			return;
	}
	if (!e->again) {
		e->again = true;
		e->next_again = again;
		again = e;
	}
}

static void on_ready(struct end *e, uint32_t events)
{
	if (e->pair->dead)
		return;
	if (events & EPOLLRDHUP)
		e->hung_up = true;
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		pump(e);
	if ((events & EPOLLOUT) && !e->pair->dead && (e->other->length || e->other->in_pipe))
		pump(e->other);
}

static void run_again(void)
{
	struct end *list = again;
	again = NULL;
	while (list) {
		struct end *e = list;
		list = e->next_again;
		e->again = false;
		if (!e->pair->dead)
			pump(e);
	}
}

/* ---- Accepting ----------------------------------------------------------------------------------------------- */

static bool connect_target(struct end *e, const struct sockaddr_in *target)
{
	e->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (e->fd < 0)
		return false;
	setsockopt(e->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return connect(e->fd, (const struct sockaddr *)target, sizeof(*target)) == 0 || errno == EINPROGRESS;
}

static void on_accept(struct listener *l)
{
	int fd = accept4(l->end.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return;
	struct pair *p = calloc(1, sizeof(*p));
	if (!p)
		die("calloc");
	for (int i = 0; i < 2; i++) {
		p->end[i].pair = p;
		p->end[i].other = &p->end[1 - i];
	}
	p->end[0].fd = fd;
	const uint32_t everything = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
	if (!connect_target(&p->end[1], &l->target) || !watch(&p->end[1], everything) || !watch(&p->end[0], everything))
		pair_close(p);
}

/* ---- Datagrams ----------------------------------------------------------------------------------------------- */

struct relay;

/** A listener, or the socket to the target of who sends from `peer`. */
struct flow {
	struct relay *relay;
	int fd;
	struct sockaddr_in peer;
	struct flow *next; /* with the same hash */
};

enum { BUCKETS = 4096, ROOM = 4 << 20 };

struct relay {
	struct flow listener;
	struct sockaddr_in target;
	struct flow *flows[BUCKETS];
};

static bool flow_watch(struct flow *f)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = f};
	return epoll_ctl(poller, EPOLL_CTL_ADD, f->fd, &event) == 0;
}

static struct flow *flow_new(struct relay *r, const struct sockaddr_in *peer, struct flow **bucket)
{
	struct flow *f = calloc(1, sizeof(*f));
	if (!f)
		die("calloc");
	*f = (struct flow){r, socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), *peer, *bucket};
	if (f->fd < 0 || connect(f->fd, (struct sockaddr *)&r->target, sizeof(r->target)) < 0 || !flow_watch(f))
		die("flow");
	*bucket = f;
	return f;
}

static struct flow *flow_of(struct relay *r, const struct sockaddr_in *peer)
{
	struct flow **bucket = &r->flows[ntohs(peer->sin_port) % BUCKETS];
	for (struct flow *f = *bucket; f; f = f->next) {
		if (f->peer.sin_port == peer->sin_port && f->peer.sin_addr.s_addr == peer->sin_addr.s_addr)
			return f;
	}
	return flow_new(r, peer, bucket);
}

/** A datagram from a client. @return false when there was none */
static bool pass_on(struct relay *r)
{
	struct sockaddr_in peer;
	socklen_t size = sizeof(peer);
	ssize_t got = recvfrom(r->listener.fd, buffer, BUFFER, 0, (struct sockaddr *)&peer, &size);
	if (got < 0)
		return false;
	send(flow_of(r, &peer)->fd, buffer, (size_t)got, 0);
	return true;
}

/** A datagram from the target. */
static bool pass_back(struct flow *f)
{
	ssize_t got = recv(f->fd, buffer, BUFFER, 0);
	if (got < 0)
		return false;
	sendto(f->relay->listener.fd, buffer, (size_t)got, 0, (struct sockaddr *)&f->peer, sizeof(f->peer));
	return true;
}

static void relay_on(const char *port, const char *target)
{
	struct sockaddr_in address = loopback(port);
	struct relay *r = calloc(1, sizeof(*r));
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), room = ROOM;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)); /* as much of it as is permitted */
	if (!r || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		die(port);
	r->listener = (struct flow){.relay = r, .fd = fd};
	r->target = loopback(target);
	if (!flow_watch(&r->listener))
		die("epoll_ctl");
}

static void run_datagrams(void)
{
	struct epoll_event events[EVENTS];
	for (;;) {
		int count = epoll_wait(poller, events, EVENTS, -1);
		for (int i = 0; i < count; i++) {
			struct flow *f = events[i].data.ptr;
			bool from_client = f == &f->relay->listener;
			for (int step = 0; step < STEPS && (from_client ? pass_on(f->relay) : pass_back(f)); step++)
				continue;
		}
	}
}

/* ---- Start --------------------------------------------------------------------------------------------------- */

static void listen_on(const char *port, const char *target)
{
	struct sockaddr_in address = loopback(port);
	struct listener *l = calloc(1, sizeof(*l));
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* inherited */
	if (!l || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 4096) < 0)
		die(port);
	l->end.fd = fd;
	l->target = loopback(target);
	if (!watch(&l->end, EPOLLIN))
		die("epoll_ctl");
}

static void run(void)
{
	struct epoll_event events[EVENTS];
	for (;;) {
		int count = epoll_wait(poller, events, EVENTS, again ? 0 : -1);
		for (int i = 0; i < count; i++) {
			struct end *e = events[i].data.ptr;
			if (e->pair)
				on_ready(e, events[i].events);
			else
				on_accept((struct listener *)e);
		}
		run_again();
		free_dead();
	}
}

static void fork_workers(int more)
{
	for (int i = 0; i < more; i++) {
		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			return;
		}
	}
}

int main(int count, char **words)
{
	struct rlimit limit;
	int at = 1;
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	signal(SIGPIPE, SIG_IGN);
	bool datagrams = count > 1 && strcmp(words[1], "-u") == 0;
	if (datagrams) {
		at = 2;
	} else if (count > 2 && strcmp(words[1], "-w") == 0) {
		fork_workers(atoi(words[2]) - 1);
		at = 3;
	}
	if (at >= count || (count - at) % 2) {
		fprintf(stderr, "usage: floor [-w workers | -u] LISTEN TARGET [LISTEN TARGET ...]\n");
		return 2;
	}
	poller = epoll_create1(EPOLL_CLOEXEC);
	for (; at + 1 < count; at += 2)
		(datagrams ? relay_on : listen_on)(words[at], words[at + 1]);
	(datagrams ? run_datagrams : run)();
}
