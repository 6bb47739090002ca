/* Receiving datagrams. See udp_wire.h. */
#include "udp_wire.h"

#include "socket.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	/* Buffers do not begin at the same place of a page: beginnings of datagrams, which are what is touched most, would
	 * all share a few lines of the processor's cache. */
	STRIDE = UDP_READ + 5 * 64,
};

/** Beside a datagram: IP_PKTINFO or IPV6_PKTINFO, UDP_GRO. */
struct control {
	_Alignas(struct cmsghdr) char room[CMSG_SPACE(sizeof(struct in6_pktinfo)) + CMSG_SPACE(sizeof(int))];
};

struct udp_batch {
	int used; /* messages of the last call, whose lengths have to be set again */
	struct mmsghdr messages[UDP_BATCH];
	struct iovec vectors[UDP_BATCH];
	struct sockaddr_in6 names[UDP_BATCH]; /* or a struct sockaddr_in */
	struct control controls[UDP_BATCH];
	char bytes[UDP_BATCH * STRIDE]; /* pages that are never used are never there */
};

void udp_want_segments(int fd)
{
	socket_set(fd, IPPROTO_UDP, UDP_GRO, 1);
}

/* ---- Batches ------------------------------------------------------------------------------------------------- */

static void message_reset(struct udp_batch *batch, int index)
{
	struct msghdr *header = &batch->messages[index].msg_hdr;
	header->msg_namelen = sizeof(batch->names[index]);
	header->msg_controllen = sizeof(batch->controls[index]);
}

static struct udp_batch *batch_new(void)
{
	struct udp_batch *batch = malloc(sizeof(*batch));
	if (!batch)
		return NULL;
	memset(batch, 0, offsetof(struct udp_batch, bytes));
	for (int i = 0; i < UDP_BATCH; i++) {
		struct msghdr *header = &batch->messages[i].msg_hdr;
		batch->vectors[i] = (struct iovec){batch->bytes + (size_t)i * STRIDE, UDP_READ};
		header->msg_name = &batch->names[i];
		header->msg_iov = &batch->vectors[i];
		header->msg_iovlen = 1;
		header->msg_control = &batch->controls[i];
	}
	batch->used = UDP_BATCH;
	return batch;
}

bool udp_receive_prepare(struct udp_worker *worker)
{
	if (!worker->batch)
		worker->batch = batch_new();
	return worker->batch != NULL;
}

int udp_receive(struct udp_worker *worker, int fd, int most)
{
	struct udp_batch *batch = worker->batch;
	for (int i = 0; i < batch->used; i++)
		message_reset(batch, i);
	int count;
	do
		count = recvmmsg(fd, batch->messages, (unsigned)most, MSG_DONTWAIT, NULL);
	while (count < 0 && errno == EINTR);
	batch->used = count < 0 ? 0 : count;
	return batch->used;
}

/* ---- What is beside the bytes -------------------------------------------------------------------------------- */

static bool read_name(const struct msghdr *header, struct udp_key *key)
{
	const struct sockaddr_in *v4 = header->msg_name;
	const struct sockaddr_in6 *v6 = header->msg_name;
	memset(key, 0, sizeof(*key));
	if (v4->sin_family == AF_INET) {
		memcpy(key->peer, &v4->sin_addr, sizeof(v4->sin_addr));
		key->port = v4->sin_port;
		key->family = 4;
	} else if (v6->sin6_family == AF_INET6) {
		memcpy(key->peer, &v6->sin6_addr, sizeof(v6->sin6_addr));
		key->port = v6->sin6_port;
		key->zone = v6->sin6_scope_id;
		key->family = 6;
	}
	return key->port != 0; /* 0: "no answer wanted" (RFC 768), and none could be sent */
}

/** The address to answer from: that of the machine which the datagram came to, also if it was sent to several. For
 * those the kernel says so in IPv4 (`ipi_spec_dst`), and chooses one in IPv6. */
static void read_local(const struct cmsghdr *item, struct udp_received *received)
{
	struct udp_key *key = &received->key;
	if (item->cmsg_level == IPPROTO_IP && item->cmsg_type == IP_PKTINFO) {
		const struct in_pktinfo *info = (const struct in_pktinfo *)CMSG_DATA(item);
		memcpy(key->local, &info->ipi_spec_dst, sizeof(info->ipi_spec_dst));
		received->shared = info->ipi_addr.s_addr != info->ipi_spec_dst.s_addr;
	} else if (item->cmsg_level == IPPROTO_IPV6 && item->cmsg_type == IPV6_PKTINFO) {
		const struct in6_pktinfo *info = (const struct in6_pktinfo *)CMSG_DATA(item);
		received->shared = IN6_IS_ADDR_MULTICAST(&info->ipi6_addr);
		if (received->shared)
			return;
		memcpy(key->local, &info->ipi6_addr, sizeof(info->ipi6_addr));
		if (IN6_IS_ADDR_LINKLOCAL(&info->ipi6_addr))
			key->zone = info->ipi6_ifindex;
	}
}

/** @return the size of segments, 0: it is no such item */
static unsigned read_segment(const struct cmsghdr *item)
{
	int size;
	if (item->cmsg_level != IPPROTO_UDP || item->cmsg_type != UDP_GRO)
		return 0;
	memcpy(&size, CMSG_DATA(item), sizeof(size));
	return size > 0 && size < UDP_READ ? (unsigned)size : 0;
}

bool udp_received(const struct udp_worker *worker, int index, struct udp_received *received)
{
	struct udp_batch *batch = worker->batch;
	struct msghdr *header = &batch->messages[index].msg_hdr;
	received->at = batch->vectors[index].iov_base;
	received->length = batch->messages[index].msg_len;
	received->segment = 0;
	received->shared = false;
	if (!read_name(header, &received->key))
		return false;
	for (struct cmsghdr *item = CMSG_FIRSTHDR(header); item; item = CMSG_NXTHDR(header, item)) {
		unsigned segment = read_segment(item);
		if (segment && segment < received->length)
			received->segment = segment;
		read_local(item, received);
	}
	return true;
}

/* ---- Connected sockets --------------------------------------------------------------------------------------- */

ssize_t udp_receive_one(int fd, const struct iovec *vec, int count, unsigned *segment)
{
	struct control control;
	struct msghdr header = {
		.msg_iov = (struct iovec *)vec,
		.msg_iovlen = (size_t)count,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t got;
	do
		got = recvmsg(fd, &header, MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	*segment = 0;
	if (got < 0)
		return -1;
	const struct cmsghdr *item = CMSG_FIRSTHDR(&header);
	if (item && read_segment(item) < (size_t)got)
		*segment = read_segment(item);
	return got;
}
