#include "bound.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/** Touched by its worker alone. */
struct seat {
	struct cp_acceptor *acceptor; /* open, with a user or parked; NULL: none */
	void (*ready)(void *arg);     /* NULL: parked */
	void *arg;
};

struct bound {
	struct bound *next;
	char *key;
	struct cp_listener *listener;
	const struct cp_connector_def *def; /* its code */
	struct cp_system *system;           /* whose code the listener is; pinned */
	struct cp_connector *latest;        /* of the listener that came last */
	atomic_uint users;                  /* listeners of scripts */
	atomic_uint parked;                 /* acceptors */
	atomic_uint leaving;                /* at the end: workers that still close what was parked */
	uint32_t workers;
	struct seat seats[];
};

/* The main task's. */
static struct bound *all;

/* ---- Main task ---------------------------------------------------------------------------------------------- */

static struct bound *find(const char *key)
{
	struct bound *b = all;
	while (b && strcmp(b->key, key) != 0)
		b = b->next;
	return b;
}

static struct bound *bind_new(const char *key, const struct cp_address *address, uint32_t workers,
							  struct cp_error *error)
{
	struct cp_connector *connector = address->connector;
	struct bound *b = calloc(1, sizeof(*b) + workers * sizeof(*b->seats));
	if (!b || !(b->key = strdup(key)))
		abort();
	int result = connector->def->bind(connector, address, workers, &b->listener, error);
	if (result != CP_OK) {
		error->code = (enum cp_err)result;
		free(b->key);
		free(b);
		return NULL;
	}
	b->workers = workers;
	b->def = connector->def;
	b->system = connector->system;
	if (b->system)
		cp_system_pin(b->system);
	b->next = all;
	all = b;
	return b;
}

/** Whether what is set for the address can be read by the listener's code: a later load's may mean something else. */
static bool is_tunable(const struct bound *b, const struct cp_address *address)
{
	const struct cp_listener_ops *ops = b->listener->ops;
	return b->def == address->connector->def && ops->size >= sizeof(*ops) && ops->tune;
}

/** It stays bound: whether its sockets can be as `address` is set now. */
static int check_tune(const struct bound *b, const struct cp_address *address, struct cp_error *error)
{
	const struct cp_listener_ops *ops = b->listener->ops;
	return is_tunable(b, address) && ops->check_tune ? ops->check_tune(b->listener, address, error) : CP_OK;
}

struct bound *bound_get(const char *key, const struct cp_address *address, uint32_t workers, struct cp_error *error)
{
	struct bound *b = find(key);
	if (b && check_tune(b, address, error) != CP_OK)
		return NULL;
	if (!b)
		b = bind_new(key, address, workers, error);
	if (!b)
		return NULL;
	b->latest = address->connector;
	atomic_fetch_add(&b->users, 1);
	return b;
}

static void unbind(struct bound *b)
{
	b->listener->ops->unbind(b->listener);
	if (b->system)
		cp_system_unpin(b->system);
	free(b->key);
	free(b);
}

static void on_left(struct cp_loop *loop, void *arg)
{
	struct bound *b = arg;
	(void)loop;
	if (atomic_fetch_sub(&b->leaving, 1) == 1)
		unbind(b);
}

/** On the worker whose acceptor was parked for somebody who never came: the process stops during a reload. */
static void leave_seat(struct cp_loop *loop, void *arg)
{
	struct bound *b = arg;
	struct seat *seat = &b->seats[cp_loop_index(loop)];
	if (seat->acceptor)
		b->listener->ops->close(seat->acceptor);
	cp_post(cp_loop_main(), on_left, b);
}

/** Nobody binds it any more, so no worker opens a seat. Whose acceptor is still parked is for the workers to know. */
static void retire(struct bound *b)
{
	if (atomic_load(&b->parked) == 0) {
		unbind(b);
		return;
	}
	atomic_store(&b->leaving, 1);
	for (uint32_t i = 0; i < b->workers && i < cp_worker_count(); i++) {
		atomic_fetch_add(&b->leaving, 1);
		if (!cp_post(cp_worker_loop(i), leave_seat, b))
			atomic_fetch_sub(&b->leaving, 1);
	}
	on_left(NULL, b);
}

/** The code goes on as that of the generation that stays, if it is the same. */
static void hand_over(struct bound *b, struct cp_connector *connector)
{
	if (b->system == connector->system || b->def != connector->def)
		return;
	cp_system_pin(connector->system);
	cp_system_unpin(b->system);
	b->system = connector->system;
	b->listener->connector = connector;
}

void bound_put(struct bound *b, struct cp_connector *connector)
{
	if (atomic_fetch_sub(&b->users, 1) > 1) {
		if (connector == b->latest) /* a reload that failed */
			b->latest = b->listener->connector;
		else
			hand_over(b, b->latest);
		return;
	}
	struct bound **at = &all;
	while (*at != b)
		at = &(*at)->next;
	*at = b->next;
	retire(b);
}

size_t bound_name(const struct bound *b, char *buffer, size_t room)
{
	return b->listener->ops->name(b->listener, buffer, room);
}

/* ---- Workers ------------------------------------------------------------------------------------------------ */

static void on_ready(struct cp_acceptor *acceptor, void *arg)
{
	const struct seat *seat = arg;
	(void)acceptor;
	if (seat->ready)
		seat->ready(seat->arg);
}

struct cp_acceptor *bound_open(struct bound *b, const struct cp_address *address, struct cp_loop *loop,
							   void (*ready)(void *arg), void *arg, struct cp_error *error)
{
	struct seat *seat = &b->seats[cp_loop_index(loop)];
	const struct cp_listener_ops *ops = b->listener->ops;
	bool parked = seat->acceptor != NULL;
	if (!parked)
		seat->acceptor = ops->open(b->listener, loop, on_ready, seat, error);
	if (!seat->acceptor)
		return NULL;
	seat->ready = ready;
	seat->arg = arg;
	if (is_tunable(b, address))
		ops->tune(seat->acceptor, address);
	if (parked) {
		atomic_fetch_sub(&b->parked, 1);
		ops->resume(seat->acceptor);
	}
	return seat->acceptor;
}

bool bound_close(struct bound *b, struct cp_loop *loop, void *arg)
{
	struct seat *seat = &b->seats[cp_loop_index(loop)];
	if (seat->arg != arg || !seat->ready)
		return true; /* another one has it */
	seat->ready = NULL;
	if (atomic_load(&b->users) > 1) {
		atomic_fetch_add(&b->parked, 1);
		b->listener->ops->pause(seat->acceptor);
		return true;
	}
	b->listener->ops->close(seat->acceptor);
	seat->acceptor = NULL;
	return false;
}
