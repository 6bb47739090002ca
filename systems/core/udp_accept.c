/* udp: what a worker does with its sockets. See udp_session.h.
 *
 * A socket is watched as long as there is something to read, and read in batches, a few of them in a turn. Datagrams of
 * a peer without a session begin one, which waits for `accept`: the caller is told at once, so most often it has taken
 * the session, and the session's datagram out of the buffer, before the next datagram is looked at. */
#include "udp_session.h"

#include "socket.h"

#include <connpipe/log.h>

#include <stdlib.h>

enum {
	BATCHES_MOST = 4, /* of a socket in one turn */
	CALLS_MOST = 16,  /* of `ready` in one turn, for sessions that had to wait */
	SINGLES = 8,      /* batches of one datagram after which only one is asked for … */
	CALM_READS = 16,  /* … so many times: the kernel looks for each that is asked for */
};

static struct udp_acceptor *acceptor_of(struct cp_acceptor *base)
{
	return (struct udp_acceptor *)base;
}

static bool can_call(const struct udp_acceptor *acceptor)
{
	return acceptor->ready && !acceptor->paused;
}

/* ---- Sessions that wait for `accept` ------------------------------------------------------------------------- */

static void waiting_add(struct udp_acceptor *acceptor, struct udp_session *session)
{
	session->next_waiting = NULL;
	*acceptor->waiting_end = session;
	acceptor->waiting_end = &session->next_waiting;
	acceptor->waiting_count++;
}

static struct udp_session *waiting_take(struct udp_acceptor *acceptor)
{
	struct udp_session *session = acceptor->waiting;
	if (!session)
		return NULL;
	acceptor->waiting = session->next_waiting;
	if (!acceptor->waiting)
		acceptor->waiting_end = &acceptor->waiting;
	acceptor->waiting_count--;
	return session;
}

static void call_later(struct udp_acceptor *acceptor);

static void on_call(struct cp_deferred *deferred)
{
	struct udp_acceptor *acceptor = (struct udp_acceptor *)((char *)deferred - offsetof(struct udp_acceptor, call));
	for (int i = 0; i < CALLS_MOST && acceptor->waiting && can_call(acceptor); i++)
		acceptor->ready(&acceptor->base, acceptor->arg);
	call_later(acceptor);
	udp_acceptor_unref(acceptor);
}

/** Somebody waits who was not taken when the caller was told: tell again. */
static void call_later(struct udp_acceptor *acceptor)
{
	if (!acceptor->waiting || !can_call(acceptor) || acceptor->call.queued)
		return;
	acceptor->users++;
	cp_defer(acceptor->worker->loop, &acceptor->call, on_call);
}

int udp_accept(struct cp_acceptor *base, struct cp_accepted *accepted, struct cp_error *error)
{
	struct udp_acceptor *acceptor = acceptor_of(base);
	struct udp_session *session = waiting_take(acceptor);
	(void)error;
	if (!session)
		return CP_AGAIN;
	accepted->stream = &session->stream;
	udp_key_peer(&session->entry.key, &accepted->peer);
	accepted->local = acceptor->listener->endpoints.local[session->entry.key.slot];
	udp_key_local(&session->entry.key, &accepted->local.ip);
	return CP_OK;
}

/* ---- Refused peers ------------------------------------------------------------------------------------------- */

static void refused_drop_first(struct udp_acceptor *acceptor)
{
	struct udp_refused *refused = acceptor->refused;
	acceptor->refused = refused->next;
	if (!acceptor->refused)
		acceptor->refused_end = &acceptor->refused;
	acceptor->refused_count--;
	udp_table_remove(&acceptor->peers, &refused->entry);
	free(refused);
}

static void on_refused_timer(struct cp_timer *timer)
{
	struct udp_acceptor *acceptor =
		(struct udp_acceptor *)((char *)timer - offsetof(struct udp_acceptor, refused_timer));
	uint64_t now = cp_loop_now(acceptor->worker->loop);
	while (acceptor->refused && acceptor->refused->until <= now)
		refused_drop_first(acceptor);
	if (acceptor->refused)
		cp_timer_start(timer, acceptor->refused->until - now);
}

void udp_acceptor_refuse(struct udp_acceptor *acceptor, const struct udp_entry *peer)
{
	struct udp_refused *refused = calloc(1, sizeof(*refused));
	if (!refused)
		return;
	if (acceptor->refused_count == UDP_REFUSED_MOST)
		refused_drop_first(acceptor);
	refused->entry.key = peer->key;
	refused->entry.hash = peer->hash;
	refused->entry.refused = true;
	refused->until = cp_loop_now(acceptor->worker->loop) + UDP_REFUSED_MS;
	udp_table_add(&acceptor->peers, &refused->entry);
	*acceptor->refused_end = refused;
	acceptor->refused_end = &refused->next;
	acceptor->refused_count++;
	if (!cp_timer_running(&acceptor->refused_timer))
		cp_timer_start(&acceptor->refused_timer, UDP_REFUSED_MS);
}

/* ---- Reading ------------------------------------------------------------------------------------------------- */

void udp_acceptor_hold_off(struct udp_acceptor *acceptor)
{
	acceptor->full_until = cp_loop_now(acceptor->worker->loop) + UDP_HOLD_OFF_MS;
}

static bool is_holding_off(const struct udp_acceptor *acceptor)
{
	return acceptor->full_until && cp_loop_now(acceptor->worker->loop) < acceptor->full_until;
}

static void begin(struct udp_acceptor *acceptor, const struct udp_received *received, uint32_t hash)
{
	struct udp_worker *worker = acceptor->worker;
	struct udp_session *session = NULL;
	if (is_holding_off(acceptor)) {
		udp_count(worker, worker->counters.refused, udp_datagrams(received->length, received->segment));
		return;
	}
	if (acceptor->ready && acceptor->waiting_count < UDP_WAITING_MOST)
		session = udp_session_new(acceptor, &received->key, hash);
	if (!session) {
		udp_count(worker, worker->counters.dropped, udp_datagrams(received->length, received->segment));
		return;
	}
	waiting_add(acceptor, session);
	udp_session_lend(session, received);
	if (can_call(acceptor))
		acceptor->ready(&acceptor->base, acceptor->arg);
	udp_session_take_back(acceptor);
}

static void on_datagram(struct udp_acceptor *acceptor, const struct udp_received *received)
{
	struct udp_worker *worker = acceptor->worker;
	uint32_t hash = udp_table_hash(&acceptor->peers, &received->key);
	struct udp_entry *entry = udp_table_find(&acceptor->peers, &received->key, hash);
	if (!entry)
		begin(acceptor, received, hash);
	else if (entry->refused)
		udp_count(worker, worker->counters.refused, udp_datagrams(received->length, received->segment));
	else
		udp_session_deliver((struct udp_session *)((char *)entry - offsetof(struct udp_session, entry)), received);
}

/** The kernel gives what was sent to several machines (broadcast, multicast) to the sockets of all workers: the first
 * worker that gets some takes all of it, as long as it is there, and the others drop theirs. */
static bool takes_shared(struct udp_acceptor *acceptor)
{
	unsigned own = cp_loop_index(acceptor->worker->loop) + 1, taker = 0;
	return atomic_compare_exchange_strong(&acceptor->listener->taker, &taker, own) || taker == own;
}

/** How many datagrams to ask for. If there are more, the watch tells. */
static int batch_size(struct udp_slot *slot)
{
	if (!slot->calm)
		return UDP_BATCH;
	slot->calm--;
	return 1;
}

static void note_batch(struct udp_slot *slot, int size, int count)
{
	if (size == 1)
		return;
	slot->singles = count > 1 ? 0 : (uint8_t)(slot->singles < SINGLES ? slot->singles + 1 : SINGLES);
	if (slot->singles == SINGLES)
		slot->calm = CALM_READS;
}

/** @return whether there may be more */
static bool read_batch(struct udp_slot *slot)
{
	struct udp_acceptor *acceptor = slot->acceptor;
	struct udp_worker *worker = acceptor->worker;
	struct udp_received received;
	uint32_t datagrams = 0;
	int size = batch_size(slot), count = udp_receive(worker, slot->fd, size);
	note_batch(slot, size, count);
	for (int i = 0; i < count; i++) {
		if (!udp_received(worker, i, &received) || (received.shared && !takes_shared(acceptor)))
			continue;
		received.key.slot = (uint8_t)(slot - acceptor->slots);
		datagrams += udp_datagrams(received.length, received.segment);
		on_datagram(acceptor, &received);
	}
	udp_count(worker, worker->counters.in, datagrams);
	return count == UDP_BATCH;
}

/* ---- Sockets ------------------------------------------------------------------------------------------------- */

static void slot_watch(struct udp_slot *slot)
{
	cp_watch_set(slot->watch, CP_READABLE | (slot->blocked ? CP_WRITABLE : 0));
}

/** One after the other, until one has filled the socket again: it is behind the others then, whose turn comes next.
 * If all were told, the same ones would find room each time. */
static void slot_writable(struct udp_slot *slot)
{
	slot->filled = false;
	while (slot->blocked && !slot->filled) {
		struct udp_session *session = slot->blocked;
		udp_slot_forget(slot, session);
		cp_stream_notify(&session->stream, CP_WRITABLE);
	}
	slot_watch(slot);
}

void udp_slot_await(struct udp_slot *slot, struct udp_session *session)
{
	slot->filled = true;
	if (session->prev_blocked)
		return;
	session->next_blocked = NULL;
	session->prev_blocked = slot->blocked_end;
	*slot->blocked_end = session;
	slot->blocked_end = &session->next_blocked;
	slot_watch(slot);
}

void udp_slot_forget(struct udp_slot *slot, struct udp_session *session)
{
	if (!session->prev_blocked)
		return;
	*session->prev_blocked = session->next_blocked;
	if (session->next_blocked)
		session->next_blocked->prev_blocked = session->prev_blocked;
	else
		slot->blocked_end = session->prev_blocked;
	session->prev_blocked = NULL;
}

static void on_slot(int fd, unsigned events, void *arg)
{
	struct udp_slot *slot = arg;
	struct udp_acceptor *acceptor = slot->acceptor;
	(void)fd;
	acceptor->users++;
	if (events & CP_WRITABLE)
		slot_writable(slot);
	if (events & CP_READABLE)
		for (int i = 0; i < BATCHES_MOST && read_batch(slot); i++)
			;
	call_later(acceptor);
	udp_acceptor_unref(acceptor);
}

static int slot_open(struct udp_acceptor *acceptor, uint32_t number, struct cp_error *error)
{
	struct udp_slot *slot = &acceptor->slots[number];
	struct cp_loop *loop = acceptor->worker->loop;
	slot->acceptor = acceptor;
	slot->blocked_end = &slot->blocked;
	slot->fd = *endpoints_fd(&acceptor->listener->endpoints, cp_loop_index(loop), number);
	slot->watch = cp_watch_new(loop, slot->fd, CP_READABLE, on_slot, slot, error);
	return slot->watch ? CP_OK : (int)error->code;
}

/* ---- Life ---------------------------------------------------------------------------------------------------- */

/** From now on another worker may take what was sent to several. */
static void release_shared(struct udp_acceptor *acceptor)
{
	unsigned own = cp_loop_index(acceptor->worker->loop) + 1;
	atomic_compare_exchange_strong(&acceptor->listener->taker, &own, 0);
}

static void acceptor_free(struct udp_acceptor *acceptor)
{
	for (uint32_t i = 0; i < acceptor->slot_count; i++)
		cp_watch_free(acceptor->slots[i].watch);
	if (acceptor->worker) {
		release_shared(acceptor);
		udp_worker_unref(acceptor->worker);
	}
	udp_table_deinit(&acceptor->peers);
	udp_listener_unref(acceptor->listener);
	free(acceptor);
}

void udp_acceptor_unref(struct udp_acceptor *acceptor)
{
	if (--acceptor->users == 0)
		acceptor_free(acceptor);
}

static struct udp_acceptor *acceptor_new(struct udp_listener *listener, struct cp_loop *loop)
{
	struct udp_acceptor *acceptor = calloc(1, sizeof(*acceptor));
	if (!acceptor)
		return NULL;
	acceptor->base.listener = &listener->base;
	acceptor->listener = listener;
	atomic_fetch_add(&listener->users, 1);
	acceptor->users = 1;
	acceptor->waiting_end = &acceptor->waiting;
	acceptor->refused_end = &acceptor->refused;
	acceptor->options = listener->options;
	cp_timer_init(&acceptor->refused_timer, loop, on_refused_timer);
	acceptor->worker = udp_worker_ref(loop);
	if (udp_table_init(&acceptor->peers) && acceptor->worker && udp_receive_prepare(acceptor->worker))
		return acceptor;
	acceptor_free(acceptor);
	return NULL;
}

struct cp_acceptor *udp_accept_open(struct cp_listener *base, struct cp_loop *loop, cp_acceptor_ready *ready, void *arg,
									struct cp_error *error)
{
	struct udp_listener *listener = (struct udp_listener *)base;
	struct udp_acceptor *acceptor = acceptor_new(listener, loop);
	if (!acceptor) {
		cp_error_set(error, CP_ENOMEM, listener->name, "no memory for its sessions");
		return NULL;
	}
	acceptor->ready = ready;
	acceptor->arg = arg;
	while (acceptor->slot_count < listener->endpoints.count) {
		if (slot_open(acceptor, acceptor->slot_count++, error) != CP_OK) {
			acceptor_free(acceptor);
			return NULL;
		}
	}
	return &acceptor->base;
}

/** Sessions that are there go on being read; new ones wait, as far as there is room. */
void udp_accept_pause(struct cp_acceptor *base)
{
	acceptor_of(base)->paused = true;
}

void udp_accept_resume(struct cp_acceptor *base)
{
	struct udp_acceptor *acceptor = acceptor_of(base);
	acceptor->paused = false;
	call_later(acceptor);
}

void udp_accept_close(struct cp_acceptor *base)
{
	struct udp_acceptor *acceptor = acceptor_of(base);
	struct udp_session *session;
	acceptor->ready = NULL;
	while ((session = waiting_take(acceptor)))
		udp_session_drop(session);
	while (acceptor->refused)
		refused_drop_first(acceptor);
	cp_timer_stop(&acceptor->refused_timer);
	udp_acceptor_unref(acceptor);
}

void udp_accept_tune(struct cp_acceptor *base, const struct cp_address *address)
{
	struct udp_acceptor *acceptor = acceptor_of(base);
	const struct udp_options *options = udp_options_for(address);
	struct cp_error error;
	/* It was tried out before: what fails here is rare, and no reason to stop accepting. */
	for (uint32_t i = 0; i < acceptor->slot_count; i++)
		if (udp_options_change(&acceptor->options, options, acceptor->slots[i].fd, acceptor->listener->name, &error) !=
			CP_OK)
			cp_log(CP_WARN, "udp", "%s: %s", error.where, error.message);
	acceptor->options = *options;
}
