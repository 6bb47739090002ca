/* Datagrams that wait for their reader. See udp_inbox.h. */
#include "udp_inbox.h"

#include <stdlib.h>
#include <string.h>

struct udp_queued {
	struct udp_queued *next;
	struct udp_slice slice;
	uint32_t size; /* of `bytes` */
	char bytes[];
};

/* ---- The queue ----------------------------------------------------------------------------------------------- */

/** A copy that counts as queued. @return NULL: there is no room */
static struct udp_queued *queued_new(struct udp_inbox *inbox, struct udp_worker *worker, const struct udp_slice *slice)
{
	if (inbox->count >= UDP_INBOX_MOST || inbox->bytes + slice->length > UDP_INBOX_BYTES ||
		worker->queued + sizeof(struct udp_queued) + slice->length > UDP_QUEUED_BYTES)
		return NULL;
	struct udp_queued *queued = malloc(sizeof(*queued) + slice->length);
	if (!queued)
		return NULL;
	memcpy(queued->bytes, slice->at, slice->length);
	queued->next = NULL;
	queued->slice = *slice;
	queued->slice.at = queued->bytes;
	queued->size = slice->length;
	inbox->count++;
	inbox->bytes += queued->size;
	worker->queued += sizeof(*queued) + queued->size;
	return queued;
}

static void append(struct udp_inbox *inbox, struct udp_queued *queued)
{
	if (inbox->last)
		inbox->last->next = queued;
	else
		inbox->first = queued;
	inbox->last = queued;
	if (inbox->first == queued)
		inbox->now = queued->slice;
}

/** The first one was read: go on with the next. */
static void drop_first(struct udp_inbox *inbox, struct udp_worker *worker)
{
	struct udp_queued *queued = inbox->first;
	inbox->first = queued->next;
	if (!inbox->first)
		inbox->last = NULL;
	else
		inbox->now = inbox->first->slice;
	inbox->count--;
	inbox->bytes -= queued->size;
	worker->queued -= sizeof(*queued) + queued->size;
	free(queued);
}

void udp_inbox_clear(struct udp_inbox *inbox, struct udp_worker *worker)
{
	while (inbox->first)
		drop_first(inbox, worker);
	inbox->now.at = NULL;
}

/* ---- Arrival ------------------------------------------------------------------------------------------------- */

void udp_inbox_lend(struct udp_inbox *inbox, const char *at, size_t length, unsigned segment)
{
	inbox->now = (struct udp_slice){.at = at, .length = (uint32_t)length, .segment = (uint16_t)segment};
}

uint32_t udp_inbox_keep(struct udp_inbox *inbox, struct udp_worker *worker)
{
	struct udp_slice rest = inbox->now;
	if (!rest.at || inbox->first)
		return 0;
	inbox->now.at = NULL;
	struct udp_queued *queued = queued_new(inbox, worker, &rest);
	if (!queued)
		return udp_datagrams(rest.length, rest.segment);
	append(inbox, queued);
	return 0;
}

uint32_t udp_inbox_put(struct udp_inbox *inbox, struct udp_worker *worker, const char *at, size_t length,
					   unsigned segment)
{
	struct udp_slice slice = {.at = at, .length = (uint32_t)length, .segment = (uint16_t)segment};
	struct udp_queued *queued = queued_new(inbox, worker, &slice);
	if (!queued)
		return udp_datagrams(length, segment);
	append(inbox, queued);
	return 0;
}

/* ---- Reading ------------------------------------------------------------------------------------------------- */

static size_t room_of(const struct iovec *vec, int count)
{
	size_t room = 0;
	for (int i = 0; i < count; i++)
		room += vec[i].iov_len;
	return room;
}

static void copy_out(const struct iovec *vec, const char *at, size_t length)
{
	for (; length; vec++) {
		size_t part = length < vec->iov_len ? length : vec->iov_len;
		memcpy(vec->iov_base, at, part);
		at += part;
		length -= part;
	}
}

/** How many bytes of `now` one read gives: whole datagrams where there is room for at least one. */
static size_t take(struct udp_slice *now, size_t room, unsigned *hints)
{
	bool several = *hints & CP_READ_SEGMENTS && !now->piece && now->segment && room >= now->segment;
	*hints = 0;
	if (several) {
		size_t length = now->length <= room ? now->length : room - room % now->segment;
		if (length > now->segment)
			*hints = CP_SEGMENTS(now->segment);
		return length;
	}
	size_t next = now->piece ? now->piece : now->segment && now->segment < now->length ? now->segment : now->length;
	size_t length = next < room ? next : room;
	now->piece = (uint16_t)(next - length);
	if (now->piece)
		*hints = CP_READ_MORE;
	return length;
}

size_t udp_inbox_read(struct udp_inbox *inbox, struct udp_worker *worker, const struct iovec *vec, int count,
					  unsigned *hints)
{
	struct udp_slice *now = &inbox->now;
	size_t length = take(now, room_of(vec, count), hints);
	copy_out(vec, now->at, length);
	now->at += length;
	now->length -= (uint32_t)length;
	if (now->length > 0)
		return length;
	now->at = NULL;
	if (inbox->first)
		drop_first(inbox, worker);
	return length;
}
