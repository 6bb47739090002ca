/* Bulk datagrams, as both ends of a flow send and receive them.
 *
 * A datagram is its number and a piece of the pattern that follows from number and flow. BATCH of them are given to the
 * kernel at once (UDP_SEGMENT), stay one packet on loopback as long as nobody needs them single, and are taken from it
 * as they are (UDP_GRO): a proxy can have them aggregated, or one by one. The receiver acknowledges each batch and the
 * sender waits for that, so nothing has to be lost; if something is, its number is missing and the next batch says so.
 * What a datagram holds is compared with what it has to be. Numbers go up only: nothing comes twice or late. */
#include "load.h"

#include <errno.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PLACES = 16, PLACE = 65536, DATA = SEGMENT - sizeof(uint64_t) };

static uint64_t position(const struct segments *s, uint64_t number)
{
	return number * DATA + s->flow * 7919;
}

int segments_socket(uint16_t bound, uint16_t connected)
{
	int one = 1, room = ROOM, fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)); /* as much of it as is permitted */
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	if (setsockopt(fd, IPPROTO_UDP, UDP_GRO, &one, sizeof(one)) < 0)
		die("UDP_GRO");
	struct sockaddr_in address = loopback(connected ? connected : bound);
	if (!connected && bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		die("bind");
	if (connected && connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		die("connect");
	return fd;
}

/* ---- Sending ------------------------------------------------------------------------------------------------- */

static void fill(const struct segments *s, char *batch)
{
	for (uint64_t number = s->next; number < s->next + BATCH; number++, batch += SEGMENT) {
		memcpy(batch, &number, sizeof(number));
		memcpy(batch + sizeof(number), pattern_at(position(s, number)), DATA);
	}
}

void segments_send(int fd, const struct sockaddr_in *to, struct segments *s)
{
	static char batch[BATCH * SEGMENT];
	union {
		char bytes[CMSG_SPACE(sizeof(uint16_t))];
		struct cmsghdr align;
	} control = {0};
	struct iovec all = {batch, sizeof(batch)};
	struct msghdr message = {.msg_name = (void *)to,
							 .msg_namelen = to ? sizeof(*to) : 0,
							 .msg_iov = &all,
							 .msg_iovlen = 1,
							 .msg_control = control.bytes,
							 .msg_controllen = sizeof(control.bytes)};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	const uint16_t size = SEGMENT;
	if (s->next != s->acknowledged)
		return;
	header->cmsg_level = IPPROTO_UDP;
	header->cmsg_type = UDP_SEGMENT;
	header->cmsg_len = CMSG_LEN(sizeof(size));
	memcpy(CMSG_DATA(header), &size, sizeof(size));
	fill(s, batch);
	if (sendmsg(fd, &message, 0) == (ssize_t)sizeof(batch))
		s->next += BATCH;
	else if (errno == EINVAL || errno == EIO)
		die("UDP_SEGMENT");
}

void word_send(int fd, const struct sockaddr_in *to, struct word word)
{
	char bytes[sizeof(word)] = {0}; /* with its padding */
	memcpy(bytes, &word, sizeof(word));
	sendto(fd, bytes, sizeof(bytes), 0, (const struct sockaddr *)to, to ? sizeof(*to) : 0);
}

/* ---- Receiving ----------------------------------------------------------------------------------------------- */

static struct {
	char bytes[PLACES][PLACE];
	struct sockaddr_in from[PLACES];
	struct iovec pieces[PLACES];
	struct mmsghdr messages[PLACES];
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control[PLACES];
} in;

static void prepare(void)
{
	for (int i = 0; i < PLACES; i++) {
		in.pieces[i] = (struct iovec){in.bytes[i], PLACE};
		in.messages[i].msg_hdr = (struct msghdr){.msg_name = &in.from[i],
												 .msg_namelen = sizeof(in.from[i]),
												 .msg_iov = &in.pieces[i],
												 .msg_iovlen = 1,
												 .msg_control = in.control[i].bytes,
												 .msg_controllen = sizeof(in.control[i].bytes)};
	}
}

/** How long the datagrams of an aggregate are; a datagram's own length if it is none. */
static size_t segment_length(struct msghdr *message, size_t whole)
{
	int size = 0;
	for (struct cmsghdr *h = CMSG_FIRSTHDR(message); h; h = CMSG_NXTHDR(message, h)) {
		if (h->cmsg_level == IPPROTO_UDP && h->cmsg_type == UDP_GRO)
			memcpy(&size, CMSG_DATA(h), sizeof(size));
	}
	return size > 0 && (size_t)size < whole ? (size_t)size : whole;
}

int segments_receive(int fd, segment_function *each, void *arg)
{
	prepare();
	int count = recvmmsg(fd, in.messages, PLACES, MSG_DONTWAIT, NULL);
	if (count < 0)
		return errno == EAGAIN ? 0 : errno;
	for (int i = 0; i < count; i++) {
		size_t whole = in.messages[i].msg_len, length = segment_length(&in.messages[i].msg_hdr, whole);
		if (whole == 0)
			each(arg, &in.from[i], in.bytes[i], 0);
		for (size_t at = 0; at < whole; at += length)
			each(arg, &in.from[i], in.bytes[i] + at, whole - at < length ? whole - at : length);
	}
	return 0;
}

bool segments_check(struct segments *s, const char *bytes, size_t length)
{
	uint64_t number;
	if (length != SEGMENT)
		return false;
	memcpy(&number, bytes, sizeof(number));
	if (number < s->next || !pattern_matches(position(s, number), bytes + sizeof(number), DATA))
		return false;
	s->next = number + 1;
	s->received++;
	return true;
}

bool segments_acknowledge(struct segments *s, struct word *word)
{
	uint64_t whole = s->next - s->next % BATCH;
	if (whole <= s->acknowledged)
		return false;
	s->acknowledged = whole;
	*word = (struct word){'a', s->flow, whole};
	return true;
}
