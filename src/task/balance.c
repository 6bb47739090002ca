#include "balance.h"

#include "../base/memory.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum {
	CACHE_LINE = 64,
	SAMPLE_MS = 100, /* shorter ones are noise, longer ones late; reading a clock of another thread is a system call */
	/* The least loaded worker is searched for at every connection while they are few; among many, whose numbers change
	 * all the time, at every 16th of each. */
	RANK_FEW = 4,
	RANK_EVERY = 16,
};

/* The thresholds. Handing over costs a few microseconds, and must not happen for what is only chance. */
enum {
	/* Below this nobody waits for long (a queue that is served 30 % of the time adds less than half of a service time),
	 * so there is nothing to gain. */
	BUSY_LEAST = BALANCE_FULL * 3 / 10,
	/* More than two looks of 100 ms at the same even load differ by. */
	BUSY_MORE = BALANCE_FULL * 15 / 100,
	/* And a quarter of the other's. A hash spreads 2n connections over two workers with a difference whose standard
	 * deviation is the root of 2n: 16 + n/4 is three of these and more. */
	PIPES_MORE = 16,
	PIPES_PART = 4,
	/* A worker that does not even take what is handed to it is stuck: in a library that blocks, its thread may look
	 * idle. */
	ARRIVING_MOST = 64,
};

struct share {
	/* Written by the worker at every connection, read by others. */
	_Alignas(CACHE_LINE) atomic_uint pipes;
	atomic_uint arriving;
	_Atomic uint64_t begun;
	/* Written by looks, and by those who hand over. */
	atomic_int busy; /* as measured, and what was handed over since; may fall below 0 */
	atomic_int cost; /* of a connection there: its part of `busy` */
	atomic_uint measured;
	/* Of who looks. */
	uint32_t pipes_before;
	uint64_t begun_before, run_ns;
	/* Set before the worker accepts. */
	clockid_t clock;
	bool has_clock;
	/* The worker's own. */
	uint8_t since_rank; /* connections */
};

struct balance {
	_Alignas(CACHE_LINE) _Atomic uint64_t looked_ms;
	atomic_uint least; /* the least loaded, when it was last searched for */
	atomic_uint elapsed_ms;
	atomic_flag looking; /* somebody does: for what follows */
	uint64_t looked_ns;
	uint64_t *run_ns;
	uint32_t count;
	struct share shares[];
};

static uint64_t clock_ns(clockid_t clock, uint64_t otherwise)
{
	struct timespec t;
	if (clock_gettime(clock, &t) != 0)
		return otherwise; /* its thread has ended */
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

struct balance *balance_new(uint32_t workers)
{
	size_t bytes = sizeof(struct balance) + workers * sizeof(struct share);
	struct balance *b = aligned_alloc(CACHE_LINE, bytes);
	if (!b)
		no_memory();
	memset(b, 0, bytes);
	atomic_flag_clear(&b->looking);
	b->count = workers;
	b->run_ns = xcalloc(workers, sizeof(*b->run_ns));
	b->looked_ns = clock_ns(CLOCK_MONOTONIC, 0);
	return b;
}

void balance_free(struct balance *b)
{
	if (!b)
		return;
	free(b->run_ns);
	free(b);
}

void balance_set_clock(struct balance *b, uint32_t worker, clockid_t clock)
{
	b->shares[worker].clock = clock;
	b->shares[worker].has_clock = true;
}

void balance_set_pipes(struct balance *b, uint32_t worker, uint32_t open, uint64_t begun)
{
	atomic_store_explicit(&b->shares[worker].pipes, open, memory_order_relaxed);
	atomic_store_explicit(&b->shares[worker].begun, begun, memory_order_relaxed);
}

/* ---- Comparing ---------------------------------------------------------------------------------------------- */

static struct balance_load load_of(struct share *s)
{
	int busy = atomic_load_explicit(&s->busy, memory_order_relaxed);
	uint32_t arriving = atomic_load_explicit(&s->arriving, memory_order_relaxed);
	return (struct balance_load){
		.busy = busy > 0 ? (uint32_t)busy : 0,
		.pipes = atomic_load_explicit(&s->pipes, memory_order_relaxed) + arriving,
		.arriving = arriving,
	};
}

static bool is_busier(const struct balance_load *one, const struct balance_load *other)
{
	return one->busy >= BUSY_LEAST && one->busy > other->busy + BUSY_MORE;
}

bool balance_is_uneven(const struct balance_load *own, const struct balance_load *other)
{
	if (other->arriving >= ARRIVING_MOST)
		return false;
	if (is_busier(own, other))
		return true;
	if (is_busier(other, own))
		return false;
	return own->pipes > other->pipes + other->pipes / PIPES_PART + PIPES_MORE;
}

/** How busy, in steps: within one, pipes decide. */
static uint32_t level_of(const struct balance_load *load)
{
	if (load->arriving >= ARRIVING_MOST)
		return UINT32_MAX;
	return load->busy < BUSY_LEAST ? 0 : load->busy / BUSY_MORE;
}

static bool is_less(const struct balance_load *one, const struct balance_load *other)
{
	uint32_t a = level_of(one), b = level_of(other);
	return a < b || (a == b && one->pipes < other->pipes);
}

/** Search for the least loaded. Touches what every worker writes. */
static void rank(struct balance *b)
{
	uint32_t least = 0;
	struct balance_load lowest = load_of(&b->shares[0]);
	for (uint32_t i = 1; i < b->count; i++) {
		struct balance_load load = load_of(&b->shares[i]);
		if (!is_less(&load, &lowest))
			continue;
		least = i;
		lowest = load;
	}
	if (atomic_load_explicit(&b->least, memory_order_relaxed) != least)
		atomic_store_explicit(&b->least, least, memory_order_relaxed);
}

/* ---- Measuring ---------------------------------------------------------------------------------------------- */

static void measure(struct share *s, uint64_t run_ns, uint64_t elapsed_ns)
{
	double part = (double)(run_ns - s->run_ns) / (double)elapsed_ns;
	int busy = part < 1 ? (int)(part * BALANCE_FULL) : BALANCE_FULL;
	uint64_t begun = atomic_load_explicit(&s->begun, memory_order_relaxed);
	uint64_t connections = s->pipes_before + (begun - s->begun_before); /* that may have caused it */
	atomic_store_explicit(&s->busy, busy, memory_order_relaxed);
	atomic_store_explicit(&s->measured, (unsigned)busy, memory_order_relaxed);
	atomic_store_explicit(&s->cost, connections ? (int)((uint64_t)busy / connections) : busy, memory_order_relaxed);
	s->run_ns = run_ns;
	s->begun_before = begun;
	s->pipes_before = atomic_load_explicit(&s->pipes, memory_order_relaxed);
}

void balance_update(struct balance *b, const uint64_t *run_ns, uint64_t elapsed_ns)
{
	for (uint32_t i = 0; i < b->count; i++)
		measure(&b->shares[i], run_ns[i], elapsed_ns);
	atomic_store_explicit(&b->elapsed_ms, (unsigned)(elapsed_ns / 1000000), memory_order_relaxed);
	rank(b);
}

/** @param now_ms  of the caller's turn: may be older than what another thread has seen */
static bool is_due(struct balance *b, uint64_t now_ms)
{
	return (int64_t)(now_ms - atomic_load_explicit(&b->looked_ms, memory_order_relaxed)) >= SAMPLE_MS;
}

static void look(struct balance *b)
{
	uint64_t now_ns = clock_ns(CLOCK_MONOTONIC, b->looked_ns);
	for (uint32_t i = 0; i < b->count; i++) {
		const struct share *s = &b->shares[i];
		b->run_ns[i] = s->has_clock ? clock_ns(s->clock, s->run_ns) : 0;
	}
	balance_update(b, b->run_ns, now_ns - b->looked_ns + 1);
	b->looked_ns = now_ns;
	atomic_store_explicit(&b->looked_ms, now_ns / 1000000, memory_order_relaxed);
}

void balance_look(struct balance *b, uint64_t now_ms)
{
	if (!is_due(b, now_ms) || atomic_flag_test_and_set_explicit(&b->looking, memory_order_acquire))
		return;
	if (is_due(b, now_ms)) /* nobody else has looked just now */
		look(b);
	atomic_flag_clear_explicit(&b->looking, memory_order_release);
}

uint32_t balance_measured(const struct balance *b, uint32_t worker)
{
	return atomic_load_explicit(&b->shares[worker].measured, memory_order_relaxed);
}

uint32_t balance_measured_ms(const struct balance *b)
{
	return atomic_load_explicit(&b->elapsed_ms, memory_order_relaxed);
}

/* ---- Choosing ----------------------------------------------------------------------------------------------- */

uint32_t balance_choose(struct balance *b, uint32_t own, uint64_t now_ms)
{
	struct share *s = &b->shares[own];
	balance_look(b, now_ms);
	if (b->count <= RANK_FEW || ++s->since_rank >= RANK_EVERY) {
		s->since_rank = 0;
		rank(b);
	}
	uint32_t least = atomic_load_explicit(&b->least, memory_order_relaxed);
	if (least == own)
		return own;
	struct balance_load mine = load_of(s), its = load_of(&b->shares[least]);
	return balance_is_uneven(&mine, &its) ? least : own;
}

void balance_sent(struct balance *b, uint32_t from, uint32_t to)
{
	struct share *sender = &b->shares[from], *receiver = &b->shares[to];
	int cost = atomic_load_explicit(&sender->cost, memory_order_relaxed);
	atomic_fetch_add_explicit(&receiver->arriving, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&receiver->busy, cost, memory_order_relaxed);
	atomic_fetch_sub_explicit(&sender->busy, cost, memory_order_relaxed);
	rank(b);
}

void balance_arrived(struct balance *b, uint32_t to)
{
	atomic_fetch_sub_explicit(&b->shares[to].arriving, 1, memory_order_relaxed);
}
