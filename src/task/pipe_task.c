/* The pipe task: one connection from accepting to an open way. What happens then is in pump.c.
 *
 *     pipe_start ─▶ handshake ─▶ handshaken ─▶ preamble ─▶ route ─▶ routed ─▶ connect_next ─▶ connected ─▶ pump_start
 *                                   │             ▲           ▲                    ▲   │
 *                                   │             └─ on_first_bytes (more bytes) ──┘   └─ next target after a failure
 *                                   └─ subports? else straight on
 *
 * In the common case all of this happens in one go, in the call that accepted the connection, with the client's first
 * bytes in the loop's buffer. Where something has to be waited for, those bytes move to memory (keep_first). */
#include "pipe.h"

#include "../base/log.h"
#include "../base/memory.h"
#include "../loop/loop.h"
#include "../stream/preamble.h"
#include "worker.h"

#include <connpipe/log.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	FIRST_ROOM_LEAST = 4096,
	FIRST_ROOM_MOST = PREAMBLE_MOST + LOOP_BUFFER, /* of first bytes kept while the way is not open */
	PIPE_TEXT = 1024,                              /* of an address in a log line; longer ones are cut there */
};

static void on_first_bytes(struct pipe *p);
static void route(struct pipe *p);
static void routed(struct pipe *p, int result);
static void connect_next(struct pipe *p);

/* ---- States and texts --------------------------------------------------------------------------------------------- */

const char *pipe_state_text(enum pipe_state state)
{
	static const char *const texts[] = {
#define PIPE_STATE_TEXT(name, text, meaning) text,
		PIPE_STATES(PIPE_STATE_TEXT)
#undef PIPE_STATE_TEXT
	};
	return texts[state];
}

void pipe_enter(struct pipe *p, enum pipe_state state)
{
	if (cp_log_enabled(CP_DEBUG))
		cp_log_task(CP_DEBUG, "pipe", p->id, "%s -> %s", pipe_state_text(p->state), pipe_state_text(state));
	p->state = (uint8_t)state;
}

static const char *name_at(const struct pipe *p, int index)
{
	const char *at = p->names ? p->names : "";
	for (; index > 0 && p->names; index--)
		at += strlen(at) + 1;
	return at;
}

const char *pipe_incoming(const struct pipe *p)
{
	return name_at(p, 0);
}

const char *pipe_router(const struct pipe *p)
{
	return name_at(p, 1);
}

const char *pipe_target(const struct pipe *p)
{
	return name_at(p, 2);
}

/** Keep the texts that logs and `ctl pipes` show, as far as they are known: the setup that has them goes. */
static void keep_names(struct pipe *p)
{
	const struct pipe_setup *s = p->setup;
	const char *router = s->router ? s->router : "";
	char incoming[PIPE_TEXT], target[PIPE_TEXT] = "";
	cp_address_print(s->request.address, incoming, sizeof(incoming));
	if (s->target)
		cp_address_print(s->target, target, sizeof(target));
	size_t a = strlen(incoming) + 1, b = strlen(router) + 1, c = strlen(target) + 1;
	free(p->names);
	p->names = xmalloc(a + b + c);
	memcpy(p->names, incoming, a);
	memcpy(p->names + a, router, b);
	memcpy(p->names + a + b, target, c);
}

/** "tcp:127.0.0.1:25565!ssh from 192.0.2.1:51234 by front to tcp:127.0.0.1:22" */
static void describe(const struct pipe *p, char *text, size_t room)
{
	char peer[CP_PEER_TEXT];
	const char *router = pipe_router(p), *target = pipe_target(p);
	cp_peer_print(&p->peer, peer, sizeof(peer));
	snprintf(text, room, "%s from %s%s%s%s%s", pipe_incoming(p), peer, *router ? " by " : "", router,
			 *target ? " to " : "", target);
}

/* ---- Closing ------------------------------------------------------------------------------------------------------ */

static void log_closed(struct pipe *p, enum cp_cause cause, const char *detail)
{
	char text[3 * PIPE_TEXT];
	uint64_t ms = cp_loop_now(p->worker->loop) - p->opened;
	if (!cp_log_enabled(CP_INFO) && !p->worker->pipe_closed)
		return;
	if (p->setup)
		keep_names(p);
	describe(p, text, sizeof(text));
	cp_log_task(CP_INFO, "pipe", p->id,
				"closed: %s: %" PRIu64 " bytes in, %" PRIu64 " bytes out, %" PRIu64 ".%03" PRIu64 " s, %s%s%s", text,
				p->flow[0].bytes, p->flow[1].bytes, ms / 1000, ms % 1000, cp_cause_text(cause), detail ? ": " : "",
				detail ? detail : "");
}

/** Let go of everything that is only needed until the way is open. */
static void setup_end(struct pipe *p)
{
	struct pipe_setup *s = p->setup;
	struct plan *plan = s->plan;
	p->setup = NULL;
	worker_setup_put(p->worker, s);
	plan_unref(plan);
}

static void cancel_setup(struct pipe *p)
{
	switch ((enum pipe_state)p->state) {
	case PIPE_HANDSHAKE:
	case PIPE_CONNECTING:
		opening_cancel(&p->setup->opening);
		break;
	case PIPE_ROUTING:
		if (p->setup->routing.result == CP_AGAIN) /* otherwise it has ended, or nobody was asked */
			routing_cancel(&p->setup->routing);
		break;
	case PIPE_ACCEPTED:
	case PIPE_PREAMBLE:
	case PIPE_PIPING:
	case PIPE_CLOSING:
	case PIPE_CLOSED:
		break;
	}
}

void pipe_close(struct pipe *p, enum cp_cause cause, const char *detail)
{
	struct worker *w = p->worker;
	if (p->state == PIPE_CLOSED)
		return;
	if (p->setup)
		cancel_setup(p);
	cp_timer_stop(&p->timer);
	pump_release(p);
	for (int i = 0; i < 2; i++) {
		if (p->end[i])
			cp_stream_close(p->end[i], cause);
		p->end[i] = NULL;
	}
	log_closed(p, cause, detail);
	p->cause = (uint8_t)cause;
	pipe_enter(p, PIPE_CLOSED);
	cp_count(w->loop, w->counters->closed[cause], 1);
	cp_count(w->loop, w->counters->open, -1);
	limits_leave(w->limits);
	if (p->counted_source)
		limits_source_leave(w->limits, &p->peer.ip);
	if (w->pipe_closed)
		w->pipe_closed(w, p, cause, detail);
	if (p->setup)
		setup_end(p);
	worker_dead(w, p);
}

void pipe_free(struct pipe *p)
{
	free(p->names);
	free(p);
}

void pipe_setup_free(struct pipe_setup *s)
{
	request_deinit(&s->request);
	free(s);
}

/* ---- The client's first bytes --------------------------------------------------------------------------------------- */

/** Where bytes behind the first ones go. @return room there, 0 when there is enough of them */
static size_t first_space(struct pipe *p, char **at)
{
	struct pipe_setup *s = p->setup;
	if (s->in_one_go) {
		*at = s->first = p->worker->loop->buffer;
		return s->first_length ? 0 : LOOP_BUFFER;
	}
	if (s->first_room < s->first_length + FIRST_ROOM_LEAST && s->first_room < FIRST_ROOM_MOST) {
		size_t room = s->first_length * 2 + FIRST_ROOM_LEAST;
		s->first_room = room < FIRST_ROOM_MOST ? room : FIRST_ROOM_MOST;
		s->first = xrealloc(s->first, s->first_room);
	}
	*at = s->first + s->first_length;
	return s->first_room - s->first_length;
}

/** Something has to be waited for: the loop's buffer is for others now. */
static void keep_first(struct pipe *p)
{
	struct pipe_setup *s = p->setup;
	if (!s->in_one_go)
		return;
	char *copy = NULL;
	if (s->first_length) {
		copy = xmalloc(s->first_length);
		memcpy(copy, s->first, s->first_length);
	}
	s->in_one_go = false;
	s->first = copy;
	s->first_room = s->first_length;
}

/** Read what the client has sent. @return false when the pipe was closed because the client is gone */
static bool read_first(struct pipe *p)
{
	struct pipe_setup *s = p->setup;
	bool one_read = s->in_one_go || p->end[0]->messages; /* messages are not joined */
	while (!s->first_end && !(p->end[0]->messages && s->first_length)) {
		struct iovec vec;
		unsigned hints;
		vec.iov_len = first_space(p, (char **)&vec.iov_base);
		if (vec.iov_len == 0)
			return true; /* enough; the rest waits in the kernel until the way is open */
		ssize_t got = cp_stream_readv(p->end[0], &vec, 1, &hints);
		s->armed = got == CP_AGAIN || (got > 0 && (hints & CP_READ_DRAINED));
		if (got == CP_AGAIN)
			return true;
		if (got < 0) {
			pipe_close(p, got == CP_EPROTO ? CP_CAUSE_CLIENT_PROTOCOL : CP_CAUSE_CLIENT_GONE, NULL);
			return false;
		}
		s->first_length += (size_t)got;
		s->first_end = hints & CP_READ_END;
		if (s->armed || one_read)
			return true;
	}
	return true;
}

/** Have the client's stream call when there is more: not every stream says so by itself (CP_READ_DRAINED). */
static void await_first(struct pipe *p)
{
	if (!p->setup->armed)
		cp_stream_await(p->end[0], CP_READABLE);
	p->setup->armed = true;
}

static const char *stream_bytes(const struct pipe_setup *s, size_t *length)
{
	*length = s->first_length - s->first_offset;
	return s->first ? s->first + s->first_offset : "";
}

static void update_peek(struct pipe_setup *s)
{
	s->request.peeked = stream_bytes(s, &s->request.peeked_length);
	/* Stays set: a router that was told so after a time-out must not be told otherwise, and wait again. */
	s->request.peeked_end |= s->first_end || s->first_length >= FIRST_ROOM_MOST;
}

/* ---- Preamble ------------------------------------------------------------------------------------------------------- */

static void found_subport(struct pipe *p, const struct preamble *preamble)
{
	struct pipe_setup *s = p->setup;
	const struct cp_address *address = cp_address_with_multiplex(
		s->request.address, cp_request_arena(&s->request), preamble->name, preamble->name_length);
	if (address)
		s->request.address = address;
	s->first_offset = preamble->length;
	route(p);
}

/** No more bytes come, or not in time: what is there has to do. */
static void preamble_over(struct pipe *p)
{
	struct pipe_setup *s = p->setup;
	if (preamble_begun(s->first ? s->first : "", s->first_length))
		pipe_close(p, CP_CAUSE_MALFORMED_PREAMBLE, "it is cut short");
	else
		route(p);
}

static void look_for_preamble(struct pipe *p)
{
	struct pipe_setup *s = p->setup;
	struct preamble preamble = {0};
	switch (preamble_read(s->first ? s->first : "", s->first_length, p->worker->settings.limits.subport_length,
						  &preamble)) {
	case PREAMBLE_ABSENT:
		route(p);
		break;
	case PREAMBLE_FOUND:
		found_subport(p, &preamble);
		break;
	case PREAMBLE_MALFORMED:
		pipe_close(p, CP_CAUSE_MALFORMED_PREAMBLE, preamble.reason);
		break;
	case PREAMBLE_MORE:
		if (s->first_end) {
			preamble_over(p);
			break;
		}
		keep_first(p);
		await_first(p);
		break;
	}
}

/* ---- From accepting to routing --------------------------------------------------------------------------------------- */

static void on_client_ready(struct cp_stream *stream, unsigned events, void *arg)
{
	struct pipe *p = arg;
	(void)stream;
	if (events & CP_RECALL)
		cp_stream_restore(p->end[0]);
	if (!(events & CP_READABLE))
		return;
	p->setup->armed = false;
	if (p->state == PIPE_CONNECTING)
		return; /* the first bytes are lent to the connector; the pump reads on */
	if (read_first(p))
		on_first_bytes(p);
}

/** More of the client's bytes are there, or its end. */
static void on_first_bytes(struct pipe *p)
{
	struct pipe_setup *s = p->setup;
	switch ((enum pipe_state)p->state) {
	case PIPE_PREAMBLE:
		look_for_preamble(p);
		break;
	case PIPE_ROUTING:
		update_peek(s);
		if (s->routing.wanting_bytes && (s->request.peeked_length >= s->wanted || s->request.peeked_end))
			routed(p, routing_bytes(&s->routing));
		break;
	case PIPE_ACCEPTED:
	case PIPE_HANDSHAKE:
	case PIPE_CONNECTING:
	case PIPE_PIPING:
	case PIPE_CLOSING:
	case PIPE_CLOSED:
		break;
	}
}

/** The client's stream is whole: its layers are on. Limits count who it really is. */
static bool allowed(struct pipe *p)
{
	struct worker *w = p->worker;
	uint32_t most = w->settings.limits.connections_per_source, rate = w->settings.limits.connect_rate_per_source;
	if (p->peer.ip.family == 0 || (most == 0 && rate == 0))
		return true;
	enum cp_cause cause = limits_source_enter(w->limits, &p->peer.ip, most, rate, cp_loop_now(w->loop));
	p->counted_source = cause == CP_CAUSE_NONE;
	if (cause != CP_CAUSE_NONE)
		pipe_close(p, cause, NULL);
	return cause == CP_CAUSE_NONE;
}

static void handshaken(struct pipe *p)
{
	struct pipe_setup *s = p->setup;
	cp_timer_stop(&p->timer);
	p->peer = *cp_request_peer(&s->request);
	cp_stream_set_user(p->end[0], on_client_ready, p);
	s->in_one_go = true;
	if (!allowed(p) || !read_first(p))
		return;
	if (!s->binding->subports) {
		route(p);
		return;
	}
	pipe_enter(p, PIPE_PREAMBLE);
	if (p->worker->settings.timeouts.preamble)
		cp_timer_start(&p->timer, p->worker->settings.timeouts.preamble);
	look_for_preamble(p);
}

static enum cp_cause handshake_cause(enum cp_err code)
{
	return code == CP_EPROTO ? CP_CAUSE_CLIENT_PROTOCOL
		   : code == CP_EMFILE || code == CP_ENOMEM ? CP_CAUSE_NO_RESOURCES : CP_CAUSE_CLIENT_GONE;
}

static void on_handshake(struct opening *opening)
{
	struct pipe *p = opening->arg;
	p->end[0] = opening->open.stream;
	if (opening->open.error.code == CP_OK)
		handshaken(p);
	else
		pipe_close(p, handshake_cause(opening->open.error.code), opening->open.error.message);
}

static void put_layers_on(struct pipe *p, struct cp_stream *stream)
{
	struct opening *o = &p->setup->opening;
	const struct cp_address *address = p->setup->binding->address;
	uint64_t timeout = p->worker->settings.timeouts.handshake;
	pipe_enter(p, PIPE_HANDSHAKE);
	if (timeout)
		cp_timer_start(&p->timer, timeout);
	o->finished = on_handshake;
	o->arg = p;
	if (opening_accept(o, p->worker->loop, address, &p->setup->request, timeout, stream) != CP_AGAIN)
		on_handshake(o);
}

static void on_timer(struct cp_timer *timer)
{
	struct pipe *p = (struct pipe *)((char *)timer - offsetof(struct pipe, timer));
	switch ((enum pipe_state)p->state) {
	case PIPE_HANDSHAKE:
		pipe_close(p, CP_CAUSE_HANDSHAKE_TIMEOUT, NULL);
		break;
	case PIPE_PREAMBLE:
		preamble_over(p);
		break;
	case PIPE_ROUTING: /* only runs while bytes are waited for: what is there has to do */
		p->setup->request.peeked_end = true;
		routed(p, routing_bytes(&p->setup->routing));
		break;
	case PIPE_PIPING:
	case PIPE_CLOSING:
		pump_timer(p);
		break;
	case PIPE_ACCEPTED:
	case PIPE_CONNECTING:
	case PIPE_CLOSED:
		break;
	}
}

static struct pipe *pipe_new(struct worker *w, const struct cp_accepted *accepted)
{
	struct pipe *p = xcalloc(1, sizeof(*p));
	p->worker = w;
	p->id = w->serial++ * w->count + w->index + 1;
	p->peer = accepted->peer;
	p->opened = p->active = cp_loop_now(w->loop);
	cp_timer_init(&p->timer, w->loop, on_timer);
	p->next = w->pipes;
	p->prev = &w->pipes;
	if (p->next)
		p->next->prev = &p->next;
	w->pipes = p;
	w->pipe_count++;
	cp_count(w->loop, w->counters->accepted, 1);
	cp_count(w->loop, w->counters->open, 1);
	return p;
}

static void no_client_yet(struct cp_stream *stream, unsigned events, void *arg)
{
	(void)stream, (void)events, (void)arg;
}

void pipe_start(struct worker *w, struct plan *plan, const struct binding *binding, const struct cp_accepted *accepted)
{
	struct pipe *p = pipe_new(w, accepted);
	struct pipe_setup *s = p->setup = worker_setup_get(w);
	bool allowed_in_all = limits_enter(w->limits, w->settings.limits.connections);
	plan_ref(plan);
	s->plan = plan;
	s->binding = binding;
	request_init(&s->request, w->loop, plan->generation->scope, binding->address, &accepted->peer);
	cp_stream_set_user(accepted->stream, no_client_yet, NULL);
	if (!allowed_in_all) {
		limits_enter(w->limits, UINT32_MAX); /* pipe_close() gives it back */
		p->end[0] = accepted->stream;
		pipe_close(p, CP_CAUSE_CONNECTION_LIMIT, NULL);
	} else if (binding->address->layer_count) {
		put_layers_on(p, accepted->stream);
	} else {
		p->end[0] = accepted->stream;
		handshaken(p);
	}
}

/* ---- Routing ------------------------------------------------------------------------------------------------------- */

static void on_routing_changed(struct routing *routing)
{
	routed(routing->arg, routing->result);
}

static void route(struct pipe *p)
{
	struct pipe_setup *s = p->setup;
	size_t length;
	const char *name = cp_address_multiplex(s->request.address, &length);
	struct cp_router *router = binding_router(s->binding, name, length);
	cp_timer_stop(&p->timer);
	pipe_enter(p, PIPE_ROUTING);
	if (!router) {
		pipe_close(p, CP_CAUSE_NO_ROUTE, name ? "nobody serves this subport" : "nobody serves it without a subport");
		return;
	}
	update_peek(s);
	s->routing.request = NULL;
	routed(p, routing_start(&s->routing, &s->request, router, on_routing_changed, p));
}

/** The router wants to see more bytes. */
static void wait_for_bytes(struct pipe *p)
{
	struct pipe_setup *s = p->setup;
	uint64_t timeout = s->routing.answer.timeout_ms;
	s->wanted = s->routing.answer.bytes;
	if (!cp_timer_running(&p->timer)) {
		timeout = timeout ? timeout : p->worker->settings.timeouts.preamble;
		if (timeout)
			cp_timer_start(&p->timer, timeout);
	}
	await_first(p);
}

static void routed(struct pipe *p, int result)
{
	struct pipe_setup *s = p->setup;
	s->router = s->routing.router ? s->routing.router->id : NULL;
	if (result == CP_AGAIN) {
		keep_first(p);
		update_peek(s);
		if (s->routing.wanting_bytes)
			wait_for_bytes(p);
		else
			cp_timer_stop(&p->timer);
		return;
	}
	cp_timer_stop(&p->timer);
	if (result != CP_OK) {
		pipe_close(p, s->routing.cause, s->routing.error.message[0] ? s->routing.error.message : NULL);
		return;
	}
	pipe_enter(p, PIPE_CONNECTING);
	s->target_index = 0;
	connect_next(p);
}

/* ---- Connecting ---------------------------------------------------------------------------------------------------- */

static enum cp_cause connect_cause(enum cp_err code)
{
	switch (code) {
	case CP_EREFUSED:
		return CP_CAUSE_CONNECT_REFUSED;
	case CP_EUNREACHABLE:
		return CP_CAUSE_CONNECT_UNREACHABLE;
	case CP_ETIMEOUT:
		return CP_CAUSE_CONNECT_TIMEOUT;
	case CP_ERESOLVE:
		return CP_CAUSE_CONNECT_RESOLVE;
	case CP_EMFILE:
	case CP_ENOMEM:
		return CP_CAUSE_NO_RESOURCES;
	case CP_EPROTO:
		return CP_CAUSE_TARGET_PROTOCOL;
	case CP_OK:
	case CP_AGAIN:
	case CP_EINVAL:
	case CP_EPERM:
	case CP_EADDRINUSE:
	case CP_ERESET:
	case CP_ELIMIT:
	case CP_ECANCELED:
	case CP_ENOTFOUND:
	case CP_EEXIST:
	case CP_EUNSUPPORTED:
	case CP_EIO:
		break;
	}
	return CP_CAUSE_CONNECT_FAILED;
}

/** What the target gets first: a preamble if its address names a subport, then the client's first bytes. */
static void early_bytes(struct pipe *p)
{
	struct pipe_setup *s = p->setup;
	size_t length;
	const char *name = cp_address_multiplex(s->target, &length);
	s->early_count = 0;
	if (name) {
		char *preamble = cp_arena_alloc(cp_request_arena(&s->request), PREAMBLE_MAGIC + 3 + length);
		s->early[s->early_count++] = (struct iovec){preamble, preamble_write(name, length, preamble)};
	}
	const char *bytes = stream_bytes(s, &length);
	if (length)
		s->early[s->early_count++] = (struct iovec){(char *)bytes, length};
}

/** Drop what was sent with the opening. @return how many vectors are left */
static int skip_sent(struct iovec *vec, int count, size_t sent)
{
	int left = 0;
	for (int i = 0; i < count; i++) {
		size_t skip = sent < vec[i].iov_len ? sent : vec[i].iov_len;
		sent -= skip;
		if (skip < vec[i].iov_len)
			vec[left++] = (struct iovec){(char *)vec[i].iov_base + skip, vec[i].iov_len - skip};
	}
	return left;
}

static void log_opened(struct pipe *p)
{
	char text[3 * PIPE_TEXT];
	if (!cp_log_enabled(CP_INFO))
		return;
	describe(p, text, sizeof(text));
	cp_log_task(CP_INFO, "pipe", p->id, "opened: %s", text);
}

/** The way is open: from here on the pipe needs nothing of its generation. */
static void connected(struct pipe *p)
{
	struct pipe_setup *s = p->setup;
	struct worker *w = p->worker;
	int left = skip_sent(s->early, s->early_count, s->opening.open.early_sent);
	stream_bytes(s, &p->flow[0].bytes);
	p->end[1] = s->opening.open.stream;
	keep_names(p);
	cp_count(w->loop, w->counters->opened, 1);
	cp_count(w->loop, w->counters->bytes_in, (int64_t)p->flow[0].bytes);
	pipe_enter(p, PIPE_PIPING);
	log_opened(p);
	pump_start(p, s->early, left, s->first_end, s->armed);
	if (p->setup)
		setup_end(p);
}

/** One more try for the same target if only a descriptor was missing and one could be given free. */
static bool should_retry(struct pipe *p)
{
	struct pipe_setup *s = p->setup;
	if (s->opening.open.error.code != CP_EMFILE || s->retried)
		return false;
	s->retried = true;
	return worker_give_reserve(p->worker);
}

/** @return whether to try once more: the next target, or this one again; otherwise the pipe is closed */
static bool target_failed(struct pipe *p)
{
	struct pipe_setup *s = p->setup;
	const struct cp_error *error = &s->opening.open.error;
	if (should_retry(p))
		return true;
	s->target_index++;
	if (s->target_index >= s->routing.answer.target_count) {
		pipe_close(p, connect_cause(error->code), error->message[0] ? error->message : NULL);
		return false;
	}
	if (cp_log_enabled(CP_INFO)) {
		char text[PIPE_TEXT];
		cp_address_print(s->target, text, sizeof(text));
		cp_log_task(CP_INFO, "pipe", p->id, "target %s failed, trying the next one: %s", text, error->message);
	}
	return true;
}

static void on_opening(struct opening *opening)
{
	struct pipe *p = opening->arg;
	if (opening->open.error.code == CP_OK)
		connected(p);
	else if (target_failed(p))
		connect_next(p);
}

/** Try the target whose turn it is. @return as opening_connect() */
static int try_target(struct pipe *p)
{
	struct pipe_setup *s = p->setup;
	s->target = s->routing.answer.targets[s->target_index];
	s->opening.finished = on_opening;
	s->opening.arg = p;
	early_bytes(p);
	int result = opening_connect(&s->opening, p->worker->loop, s->target, &s->request,
								 p->worker->settings.timeouts.connect, s->early, s->early_count);
	if (result == CP_AGAIN && s->in_one_go) { /* the bytes move, and the connector keeps pointing to the vectors */
		keep_first(p);
		early_bytes(p);
	}
	return result;
}

/** Try targets until one is open, has to be waited for, or none is left: in a loop, as a list may be long. */
static void connect_next(struct pipe *p)
{
	int result;
	do
		result = try_target(p);
	while (result != CP_OK && result != CP_AGAIN && target_failed(p));
	if (result == CP_OK)
		connected(p);
}
