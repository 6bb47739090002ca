/* udp: the stream of a session. See udp_session.h. */
#include "udp_session.h"

#include <stdlib.h>

static struct udp_session *session_of(struct cp_stream *stream)
{
	return (struct udp_session *)stream;
}

static struct udp_worker *worker_of(const struct udp_session *session)
{
	return session->acceptor->worker;
}

static const struct cp_stream_ops session_ops;

struct udp_session *udp_session_new(struct udp_acceptor *acceptor, const struct udp_key *key, uint32_t hash)
{
	struct udp_session *session = calloc(1, sizeof(*session));
	if (!session)
		return NULL;
	cp_stream_init(&session->stream, &session_ops, acceptor->worker->loop, NULL);
	session->stream.messages = session->stream.segments = true;
	session->entry.key = *key;
	session->entry.hash = hash;
	session->acceptor = acceptor;
	session->responses = acceptor->options.responses;
	acceptor->users++;
	udp_table_add(&acceptor->peers, &session->entry);
	return session;
}

/* ---- End ----------------------------------------------------------------------------------------------------- */

static struct udp_slot *slot_of(const struct udp_session *session)
{
	return &session->acceptor->slots[session->entry.key.slot];
}

static void session_free(struct udp_session *session)
{
	cp_stream_deinit(&session->stream);
	free(session);
}

void udp_session_drop(struct udp_session *session)
{
	struct udp_acceptor *acceptor = session->acceptor;
	udp_table_remove(&acceptor->peers, &session->entry);
	udp_slot_forget(slot_of(session), session);
	if (acceptor->lent == session)
		acceptor->lent = NULL;
	udp_inbox_clear(&session->inbox, acceptor->worker);
	free(session->message);
	session->dead = true;
	if (!session->call.queued)
		session_free(session);
	udp_acceptor_unref(acceptor);
}

/** Whether nothing could be delivered, so that the next datagram would only come to the same end. A target that was
 * there and has ended badly may have taken some, and may be there again. */
static bool is_refusal(enum cp_cause cause)
{
	switch (cause) {
	case CP_CAUSE_NO_ROUTE:
	case CP_CAUSE_REFUSED_BY_ROUTER:
	case CP_CAUSE_ROUTER_FAILED:
	case CP_CAUSE_CONNECT_REFUSED:
	case CP_CAUSE_CONNECT_UNREACHABLE:
	case CP_CAUSE_CONNECT_TIMEOUT:
	case CP_CAUSE_CONNECT_RESOLVE:
	case CP_CAUSE_CONNECT_FAILED:
	case CP_CAUSE_CONNECTION_LIMIT:
	case CP_CAUSE_SESSION_LIMIT:
	case CP_CAUSE_SOURCE_LIMIT:
	case CP_CAUSE_SOURCE_RATE:
	case CP_CAUSE_NO_RESOURCES:
	case CP_CAUSE_MALFORMED_PREAMBLE:
	case CP_CAUSE_HANDSHAKE_TIMEOUT:
		return true;
	case CP_CAUSE_NONE:
	case CP_CAUSE_DONE:
	case CP_CAUSE_CLIENT_RESET:
	case CP_CAUSE_CLIENT_GONE:
	case CP_CAUSE_CLIENT_PROTOCOL:
	case CP_CAUSE_TARGET_RESET:
	case CP_CAUSE_TARGET_PROTOCOL:
	case CP_CAUSE_IDLE_TIMEOUT:
	case CP_CAUSE_HALF_CLOSE_TIMEOUT:
	case CP_CAUSE_REROUTED:
	case CP_CAUSE_KILLED:
	case CP_CAUSE_SHUTDOWN:
	case CP_CAUSE_COUNT:
		return false;
	}
	return false;
}

static void session_close(struct cp_stream *stream, enum cp_cause cause)
{
	struct udp_session *session = session_of(stream);
	struct udp_acceptor *acceptor = session->acceptor;
	bool refused = session->entry.listed && session->answers == 0 && acceptor->ready && is_refusal(cause);
	struct udp_entry peer = session->entry;
	acceptor->users++;
	udp_session_drop(session);
	if (refused && cause == CP_CAUSE_SESSION_LIMIT)
		udp_acceptor_hold_off(acceptor);
	else if (refused)
		udp_acceptor_refuse(acceptor, &peer);
	udp_acceptor_unref(acceptor);
}

/* ---- Calling the user ---------------------------------------------------------------------------------------- */

static void notify(struct udp_session *session)
{
	session->armed = false;
	cp_stream_notify(&session->stream, CP_READABLE);
}

static void on_call(struct cp_deferred *deferred)
{
	struct udp_session *session = (struct udp_session *)((char *)deferred - offsetof(struct udp_session, call));
	if (session->dead)
		session_free(session);
	else if (session->armed)
		notify(session);
}

/** There is something to read that did not come just now. */
static void call_later(struct udp_session *session)
{
	if (session->armed)
		cp_defer(session->stream.loop, &session->call, on_call);
}

/** From now on its peer's datagrams are for another one. */
static void end(struct udp_session *session)
{
	session->over = true;
	udp_table_remove(&session->acceptor->peers, &session->entry);
	call_later(session);
}

/* ---- Reading ------------------------------------------------------------------------------------------------- */

void udp_session_lend(struct udp_session *session, const struct udp_received *received)
{
	session->requests += udp_datagrams(received->length, received->segment);
	udp_inbox_lend(&session->inbox, received->at, received->length, received->segment);
	session->acceptor->lent = session;
}

void udp_session_take_back(struct udp_acceptor *acceptor)
{
	struct udp_session *session = acceptor->lent;
	acceptor->lent = NULL;
	if (session)
		udp_count(acceptor->worker, acceptor->worker->counters.dropped,
				  udp_inbox_keep(&session->inbox, acceptor->worker));
}

void udp_session_deliver(struct udp_session *session, const struct udp_received *received)
{
	struct udp_acceptor *acceptor = session->acceptor;
	struct udp_worker *worker = acceptor->worker;
	if (session->armed && udp_inbox_empty(&session->inbox)) {
		udp_session_lend(session, received);
		notify(session);
		udp_session_take_back(acceptor);
		return;
	}
	session->requests += udp_datagrams(received->length, received->segment);
	udp_count(worker, worker->counters.dropped,
			  udp_inbox_put(&session->inbox, worker, received->at, received->length, received->segment));
}

static ssize_t session_read(struct cp_stream *stream, const struct iovec *vec, int count, unsigned *hints)
{
	struct udp_session *session = session_of(stream);
	if (!udp_inbox_empty(&session->inbox)) {
		size_t got = udp_inbox_read(&session->inbox, worker_of(session), vec, count, hints);
		if (udp_inbox_empty(&session->inbox) && !session->over) {
			*hints |= CP_READ_DRAINED;
			session->armed = true;
		}
		return (ssize_t)got;
	}
	*hints = session->over ? CP_READ_END | CP_READ_OVER : 0;
	session->armed = true;
	return session->over ? 0 : CP_AGAIN;
}

/* ---- Writing ------------------------------------------------------------------------------------------------- */

/** Whether that was enough: as many answers as the settings say, and one at least for each datagram of the client's,
 * which may ask several things at once. */
static bool is_answered(const struct udp_session *session)
{
	return session->responses && session->answers >= session->responses && session->answers >= session->requests;
}

static ssize_t session_write(struct cp_stream *stream, const struct iovec *vec, int count, unsigned flags)
{
	struct udp_session *session = session_of(stream);
	struct udp_worker *worker = worker_of(session);
	struct udp_slot *slot = slot_of(session);
	struct udp_way way = {.fd = slot->fd, .no_segments = &slot->no_segments, .key = &session->entry.key};
	if (session->over)
		return (ssize_t)udp_length(vec, count); /* too late for anybody */
	ssize_t put = udp_write(worker, &way, &session->message, vec, count, flags);
	if (put == CP_AGAIN)
		udp_slot_await(slot, session);
	if (put < 0 || flags & CP_WRITE_MORE)
		return put;
	uint32_t sent = udp_datagrams((size_t)put, CP_SEGMENTS_SIZE(flags)) - way.lost;
	udp_count(worker, worker->counters.out, sent);
	session->answers += sent;
	if (is_answered(session))
		end(session);
	return put;
}

/** The network knows no end of a session. That there will be no more answers ends it: whoever still wants one, asks
 * again, and is routed again. */
static int session_shutdown_write(struct cp_stream *stream)
{
	struct udp_session *session = session_of(stream);
	if (!session->over)
		end(session);
	return CP_OK;
}

static void session_await(struct cp_stream *stream, unsigned events)
{
	struct udp_session *session = session_of(stream);
	if (events & CP_READABLE) {
		session->armed = true;
		if (!udp_inbox_empty(&session->inbox) || session->over)
			call_later(session);
	}
	if (events & CP_WRITABLE)
		udp_slot_await(slot_of(session), session);
}

static const struct cp_stream_ops session_ops = {
	.size = sizeof(session_ops),
	.name = "udp",
	.read = session_read,
	.write = session_write,
	.shutdown_write = session_shutdown_write,
	.close = session_close,
	.await = session_await,
};
