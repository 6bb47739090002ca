/* echo -u and bulk -u: one socket, and flows by the port they come from. The other side of load_flow.c and
 * load_flow_bulk.c. A datagram of one byte is given back by either: somebody looks whether anybody is here. */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct flow {
	char direction; /* 'u'; 'd', or 'g' once it may send; 'e' when it is over */
	struct segments data;
};

static int server;
static struct flow *flows[65536];

/* ---- Echo ---------------------------------------------------------------------------------------------------- */

static void give_back(void *arg, const struct sockaddr_in *from, const char *bytes, size_t length)
{
	(void)arg;
	if (sendto(server, bytes, length, MSG_DONTWAIT, (const struct sockaddr *)from, sizeof(*from)) < 0)
		server_counts.failed++;
}

/* ---- Bulk ---------------------------------------------------------------------------------------------------- */

static struct flow *flow_of(const struct sockaddr_in *from)
{
	struct flow **f = &flows[ntohs(from->sin_port)];
	if (!*f)
		*f = calloc(1, sizeof(**f));
	if (!*f)
		die("calloc");
	return *f;
}

static void send_batch(struct flow *f, const struct sockaddr_in *to)
{
	uint64_t before = f->data.next;
	segments_send(server, to, &f->data);
	server_counts.sent += (f->data.next - before) * SEGMENT;
}

static void answer(const struct flow *f, const struct sockaddr_in *to, char kind, uint64_t number)
{
	word_send(server, to, (struct word){kind, f->data.flow, number});
}

static void on_wrong(struct flow *f, const struct sockaddr_in *from)
{
	server_counts.failed++;
	answer(f, from, 'x', f->data.next);
}

static void greet(struct flow *f, const struct sockaddr_in *from, struct word word)
{
	*f = (struct flow){.direction = word.kind, .data.flow = word.flow};
	server_counts.accepted++;
	answer(f, from, word.kind, 0);
}

static void go_on(struct flow *f, const struct sockaddr_in *from, struct word word)
{
	if (f->direction != 'd' && f->direction != 'g')
		return; /* 'r' was on its way when the flow ended */
	f->direction = 'g';
	if (word.kind == 'a')
		f->data.acknowledged = word.number;
	else
		f->data.acknowledged = f->data.next;
	send_batch(f, from);
}

/** It may be asked more than once. */
static void end(struct flow *f, const struct sockaddr_in *from)
{
	bool up = f->direction == 'u';
	answer(f, from, 'e', up ? f->data.received : f->data.next);
	if (!up)
		f->direction = 'e';
}

static void on_word(struct flow *f, const struct sockaddr_in *from, struct word word)
{
	switch (word.kind) {
	case 'u':
	case 'd':
		greet(f, from, word);
		break;
	case 'g':
	case 'r':
	case 'a':
		go_on(f, from, word);
		break;
	case 'e':
		end(f, from);
		break;
	default:
		on_wrong(f, from);
	}
}

static void on_data(struct flow *f, const struct sockaddr_in *from, const char *bytes, size_t length)
{
	struct word word;
	if (f->direction != 'u' || !segments_check(&f->data, bytes, length)) {
		on_wrong(f, from);
		return;
	}
	server_counts.received += length;
	if (segments_acknowledge(&f->data, &word))
		word_send(server, from, word);
}

static void take_or_give(void *arg, const struct sockaddr_in *from, const char *bytes, size_t length)
{
	struct word word;
	if (length == 1) {
		give_back(arg, from, bytes, length);
	} else if (length == sizeof(word)) {
		memcpy(&word, bytes, sizeof(word));
		on_word(flow_of(from), from, word);
	} else {
		on_data(flow_of(from), from, bytes, length);
	}
}

/* ---- Serving ------------------------------------------------------------------------------------------------- */

void server_run_datagrams(enum service service)
{
	struct epoll_event events[2], input = {.events = EPOLLIN};
	segment_function *each = service == SERVICE_BULK ? take_or_give : give_back;
	server = segments_socket(options.port, 0);
	server_announce(server);
	loop_watch(server, EPOLLIN, &server);
	epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &input);
	for (;;) {
		int count = epoll_wait(poller, events, 2, -1);
		for (int i = 0; i < count; i++) {
			if (!events[i].data.ptr && !server_asked())
				return;
			if (events[i].data.ptr)
				segments_receive(server, each, NULL);
		}
	}
}
