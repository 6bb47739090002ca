/* Sending datagrams. See udp_wire.h. */
#include "udp_wire.h"

#include "socket.h"
#include "udp_inbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SEGMENTS_MOST = 64 }; /* UDP_MAX_SEGMENTS of older kernels */

/** Where to, and what goes beside the bytes: the address to send from, the size of segments. */
struct outgoing {
	struct sockaddr_in6 name; /* or a struct sockaddr_in */
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(struct in6_pktinfo)) + CMSG_SPACE(sizeof(uint16_t))];
	size_t control_length;
	socklen_t name_length;
};

/* ---- Addresses ----------------------------------------------------------------------------------------------- */

void udp_key_peer(const struct udp_key *key, struct cp_peer *peer)
{
	*peer = (struct cp_peer){.ip = {.family = key->family, .zone = key->zone}, .port = ntohs(key->port)};
	memcpy(peer->ip.bytes, key->peer, key->family == 4 ? 4 : 16);
}

bool udp_key_local(const struct udp_key *key, struct cp_ip *ip)
{
	if (!key->local[0] && !key->local[1])
		return false;
	*ip = (struct cp_ip){.family = key->family, .zone = key->zone};
	memcpy(ip->bytes, key->local, key->family == 4 ? 4 : 16);
	return true;
}

static void add_item(struct outgoing *out, int level, int type, const void *data, size_t length)
{
	struct cmsghdr *item = (struct cmsghdr *)(out->control + out->control_length);
	item->cmsg_level = level;
	item->cmsg_type = type;
	item->cmsg_len = CMSG_LEN(length);
	memcpy(CMSG_DATA(item), data, length);
	out->control_length += CMSG_SPACE(length);
}

/** The link is given only where the address means nothing without it: answers may take another way than questions. */
static void add_local(struct outgoing *out, const struct udp_key *key)
{
	if (key->family == 4) {
		struct in_pktinfo info = {0};
		memcpy(&info.ipi_spec_dst, key->local, sizeof(info.ipi_spec_dst));
		add_item(out, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
	} else {
		struct in6_pktinfo info = {.ipi6_ifindex = key->zone};
		memcpy(&info.ipi6_addr, key->local, sizeof(info.ipi6_addr));
		add_item(out, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof(info));
	}
}

static void outgoing_init(struct outgoing *out, const struct udp_key *key)
{
	out->control_length = 0;
	out->name_length = 0;
	if (!key)
		return;
	struct sockaddr_in *v4 = (struct sockaddr_in *)&out->name;
	memset(&out->name, 0, sizeof(out->name));
	if (key->family == 4) {
		v4->sin_family = AF_INET;
		v4->sin_port = key->port;
		memcpy(&v4->sin_addr, key->peer, sizeof(v4->sin_addr));
		out->name_length = sizeof(*v4);
	} else {
		out->name.sin6_family = AF_INET6;
		out->name.sin6_port = key->port;
		out->name.sin6_scope_id = key->zone;
		memcpy(&out->name.sin6_addr, key->peer, sizeof(out->name.sin6_addr));
		out->name_length = sizeof(out->name);
	}
	if (key->local[0] || key->local[1])
		add_local(out, key);
}

static struct msghdr header_of(struct outgoing *out, const struct iovec *vec, int count)
{
	return (struct msghdr){
		.msg_name = out->name_length ? &out->name : NULL,
		.msg_namelen = out->name_length,
		.msg_iov = (struct iovec *)vec,
		.msg_iovlen = (size_t)count,
		.msg_control = out->control_length ? out->control : NULL,
		.msg_controllen = out->control_length,
	};
}

/* ---- One call ------------------------------------------------------------------------------------------------ */

/** What a connected socket has heard of earlier datagrams is told once, at the next call, which then does nothing.
 * For datagrams that cannot be sent at all the same numbers are used: those fail again. */
static bool is_reported(int errnum)
{
	switch (errnum) {
	case ECONNREFUSED:
	case EHOSTUNREACH:
	case ENETUNREACH:
	case EHOSTDOWN:
	case ENONET:
	case ENOPROTOOPT:
	case EPROTO:
	case EACCES:
	case EOPNOTSUPP:
		return true;
	default:
		return false;
	}
}

static void note_reported(struct udp_worker *worker)
{
	udp_count(worker, worker->counters.icmp, 1);
}

/** The kernel has less to copy where nothing but an address goes beside the bytes. */
static ssize_t send_once(int fd, const struct msghdr *header)
{
	const struct iovec *vec = header->msg_iov;
	if (header->msg_control || header->msg_iovlen != 1)
		return sendmsg(fd, header, MSG_DONTWAIT | MSG_NOSIGNAL);
	return sendto(fd, vec->iov_base, vec->iov_len, MSG_DONTWAIT | MSG_NOSIGNAL, header->msg_name, header->msg_namelen);
}

/** Send, past an error of something earlier (EMSGSIZE: of the way's size being smaller than was known, or of this
 * datagram). @return 0, or errno */
static int send_message(struct udp_worker *worker, const struct udp_way *way, const struct msghdr *header)
{
	bool again = !way->key;
	for (;;) {
		if (send_once(way->fd, header) >= 0)
			return 0;
		if (errno == EINTR)
			continue;
		if (!again || (errno != EMSGSIZE && !is_reported(errno)))
			return errno;
		again = false;
		if (errno != EMSGSIZE)
			note_reported(worker);
	}
}

static bool is_full(int errnum)
{
	return errnum == EAGAIN || errnum == EWOULDBLOCK;
}

static void lose(struct udp_worker *worker, struct udp_way *way, cp_counter counter, uint32_t datagrams)
{
	way->lost += datagrams;
	udp_count(worker, counter, datagrams);
}

/** What is not sent is lost, unless the socket's buffer is full. @return CP_OK or CP_AGAIN */
static int sent(struct udp_worker *worker, struct udp_way *way, int errnum, uint32_t datagrams)
{
	if (is_full(errnum))
		return CP_AGAIN;
	if (errnum)
		lose(worker, way, worker->counters.unsent, datagrams);
	return CP_OK;
}

/* ---- Several datagrams --------------------------------------------------------------------------------------- */

/** Several that lie behind each other, as single ones. @return how many were sent or lost; the others do not fit */
static uint32_t send_singly(struct udp_worker *worker, struct udp_way *way, const struct iovec *all, unsigned segment)
{
	struct mmsghdr messages[SEGMENTS_MOST];
	struct iovec vectors[SEGMENTS_MOST];
	struct outgoing out;
	uint32_t count = udp_datagrams(all->iov_len, segment), done = 0;
	bool again = !way->key;
	outgoing_init(&out, way->key);
	for (uint32_t i = 0; i < count; i++) {
		size_t offset = (size_t)i * segment, left = all->iov_len - offset;
		vectors[i] = (struct iovec){(char *)all->iov_base + offset, left < segment ? left : segment};
		messages[i].msg_hdr = header_of(&out, &vectors[i], 1);
	}
	while (done < count) {
		int put = sendmmsg(way->fd, messages + done, count - done, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (put > 0) {
			done += (uint32_t)put;
		} else if (is_full(errno)) {
			break;
		} else if (again && is_reported(errno)) {
			again = false;
			note_reported(worker);
		} else if (errno != EINTR) {
			lose(worker, way, worker->counters.unsent, 1);
			done++;
		}
	}
	return done;
}

/** The kernel or the way does not do several at once; or they are longer than the way takes. */
static bool is_for_single(int errnum)
{
	return errnum == EIO || errnum == EINVAL || errnum == EMSGSIZE || errnum == ENOPROTOOPT || errnum == EOPNOTSUPP;
}

/** At most SEGMENTS_MOST that lie behind each other. @return as send_singly() */
static uint32_t send_together(struct udp_worker *worker, struct udp_way *way, const struct iovec *all, unsigned segment)
{
	struct outgoing out;
	uint16_t size = (uint16_t)segment;
	uint32_t count = udp_datagrams(all->iov_len, segment);
	if (count == 1 || *way->no_segments)
		return send_singly(worker, way, all, segment);
	outgoing_init(&out, way->key);
	add_item(&out, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof(size));
	struct msghdr header = header_of(&out, all, 1);
	int errnum = send_message(worker, way, &header);
	if (is_for_single(errnum)) {
		*way->no_segments = errnum == EIO || errnum == ENOPROTOOPT;
		return send_singly(worker, way, all, segment);
	}
	return sent(worker, way, errnum, count) == CP_AGAIN ? 0 : count;
}

/** Several that lie behind each other, in as few calls as can be. If only the first of them fit, the others are lost:
 * a write takes all or nothing. */
static int send_segments(struct udp_worker *worker, struct udp_way *way, const struct iovec *all, unsigned segment)
{
	uint32_t most = UDP_LONGEST / segment, count = udp_datagrams(all->iov_len, segment), done = 0;
	most = most < 1 ? 1 : most > SEGMENTS_MOST ? SEGMENTS_MOST : most;
	while (done < count) {
		size_t offset = (size_t)done * segment, left = all->iov_len - offset;
		struct iovec part = {(char *)all->iov_base + offset, left};
		if (left > (size_t)most * segment)
			part.iov_len = (size_t)most * segment;
		uint32_t wanted = udp_datagrams(part.iov_len, segment);
		uint32_t put = send_together(worker, way, &part, segment);
		done += put;
		if (put < wanted)
			break;
	}
	if (done == 0)
		return CP_AGAIN;
	lose(worker, way, worker->counters.unsent, count - done);
	return CP_OK;
}

/** In one piece. @return false: out of memory, or too long */
static bool flatten(struct udp_worker *worker, const struct iovec *vec, int count, struct iovec *all)
{
	char *scratch = udp_length(vec, count) <= UDP_READ ? udp_worker_scratch(worker) : NULL;
	*all = (struct iovec){scratch, 0};
	for (int i = 0; scratch && i < count; i++) {
		memcpy(scratch + all->iov_len, vec[i].iov_base, vec[i].iov_len);
		all->iov_len += vec[i].iov_len;
	}
	return scratch != NULL;
}

size_t udp_length(const struct iovec *vec, int count)
{
	size_t length = 0;
	for (int i = 0; i < count; i++)
		length += vec[i].iov_len;
	return length;
}

int udp_send(struct udp_worker *worker, struct udp_way *way, const struct iovec *vec, int count, unsigned segment)
{
	struct iovec all;
	size_t length = udp_length(vec, count);
	if (!segment || length <= segment) {
		struct outgoing out;
		outgoing_init(&out, way->key);
		struct msghdr header = header_of(&out, vec, count);
		return sent(worker, way, send_message(worker, way, &header), 1);
	}
	if (count == 1)
		return send_segments(worker, way, vec, segment);
	if (flatten(worker, vec, count, &all))
		return send_segments(worker, way, &all, segment);
	lose(worker, way, worker->counters.dropped, udp_datagrams(length, segment));
	return CP_OK;
}

/* ---- Messages in pieces -------------------------------------------------------------------------------------- */

/** What is longer than a datagram is only counted. */
static void message_add(struct udp_message *message, const struct iovec *vec, int count)
{
	for (int i = 0; i < count && message->length <= UDP_LONGEST; i++) {
		if (message->length + vec[i].iov_len <= UDP_LONGEST)
			memcpy(message->bytes + message->length, vec[i].iov_base, vec[i].iov_len);
		message->length += vec[i].iov_len;
	}
}

static int message_send(struct udp_worker *worker, struct udp_way *way, struct udp_message *message)
{
	struct iovec all = {message->bytes, message->length};
	if (message->length <= UDP_LONGEST)
		return udp_send(worker, way, &all, 1, 0);
	lose(worker, way, worker->counters.unsent, 1);
	return CP_OK;
}

static ssize_t write_piece(struct udp_worker *worker, struct udp_way *way, struct udp_message **message,
						   const struct iovec *vec, int count, unsigned flags)
{
	struct udp_message *m = *message;
	if (!m) {
		m = *message = malloc(sizeof(*m));
		if (!m)
			return CP_ENOMEM;
		m->length = 0;
	}
	size_t before = m->length;
	message_add(m, vec, count);
	if (flags & CP_WRITE_MORE)
		return (ssize_t)udp_length(vec, count);
	if (message_send(worker, way, m) == CP_AGAIN) {
		m->length = before; /* this piece is given again */
		return CP_AGAIN;
	}
	free(m);
	*message = NULL;
	return (ssize_t)udp_length(vec, count);
}

ssize_t udp_write(struct udp_worker *worker, struct udp_way *way, struct udp_message **message, const struct iovec *vec,
				  int count, unsigned flags)
{
	if (*message || flags & CP_WRITE_MORE)
		return write_piece(worker, way, message, vec, count, flags);
	int result = udp_send(worker, way, vec, count, CP_SEGMENTS_SIZE(flags));
	return result == CP_OK ? (ssize_t)udp_length(vec, count) : result;
}
