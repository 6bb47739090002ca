#include "plan.h"

#include <stdio.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { KIB = 1024 };

/* Around what the proxy treats differently: its buffer of 64 KiB, two of those (then it splices), kernel pipes of
 * 256 KiB; and around segments: loopback's of 65483 bytes, others' of 1448. */
static const size_t sizes[] = {
	0,
	1,
	2,
	1447,
	1448,
	1449,
	16 * KIB - 1,
	16 * KIB,
	16 * KIB + 1,
	65482,
	65483,
	65484,
	64 * KIB - 1,
	64 * KIB,
	64 * KIB + 1,
	128 * KIB - 1,
	128 * KIB,
	128 * KIB + 1,
	144 * KIB,
	192 * KIB - 1,
	192 * KIB,
	192 * KIB + 1,
	256 * KIB - 1,
	256 * KIB,
	256 * KIB + 1,
	320 * KIB,
	384 * KIB + 1,
	512 * KIB,
	1024 * KIB - 1,
	1024 * KIB,
	1024 * KIB + 1,
	SIZE_MOST,
};
static const size_t small_sizes[] = {0, 1, 2, 15, 16, 17, 64, 100};
static const size_t segments[] = {1447, 1448, 1449, 16384, 65482, 65483, 65484, 65535, 65536, 65537};

/** splitmix64: good enough, and any number can be the state. */
static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static unsigned pick(uint64_t *state, size_t count)
{
	return (unsigned)(next_random(state) % count);
}

bool plan_resets(enum ending ending)
{
	return ending == ENDING_RESET || ending == ENDING_UNREAD || ending == ENDING_AFTERMATH;
}

/* ---- One end ------------------------------------------------------------------------------------------------ */

static void random_part(struct part *part, uint64_t *state, bool small)
{
	part->size = small ? small_sizes[pick(state, COUNT(small_sizes))] : sizes[pick(state, COUNT(sizes))];
	part->segment = segments[pick(state, COUNT(segments))];
	part->from = pick(state, SIZE_MOST);
	part->pieces = small ? PIECES_WHOLE : (enum pieces)pick(state, PIECES_KINDS);
	part->ending = pick(state, 3) ? ENDING_TOGETHER : ENDING_APART;
	part->reading = READING_AT_ONCE;
	if (!small && pick(state, 4) == 0)
		part->reading = pick(state, 2) ? READING_SLOWLY : READING_LATE;
	part->begin = BEGIN_AT_ONCE;
}

/** The end that waits for nobody: its size and its ending go through all there are, case by case. */
static void lead_part(struct part *part, uint64_t *state, uint64_t number, bool small)
{
	static const enum ending endings[] = {ENDING_TOGETHER, ENDING_APART,     ENDING_RESET,
										  ENDING_UNREAD,   ENDING_AFTERMATH, ENDING_TOGETHER};
	random_part(part, state, small);
	part->ending = endings[number % COUNT(endings)];
	if (!small)
		part->size = sizes[number / COUNT(endings) % COUNT(sizes)];
}

/** The other end: it may wait for the lead. */
static void follow_part(struct part *part, uint64_t *state, const struct part *lead, bool small)
{
	random_part(part, state, small);
	if (lead->ending == ENDING_AFTERMATH)
		part->ending = ENDING_HOLD;
	else if (!plan_resets(lead->ending) && pick(state, 2))
		part->ending = pick(state, 3) ? ENDING_LAST : pick(state, 2) ? ENDING_RESET : ENDING_UNREAD;
	if (part->ending != ENDING_UNREAD)
		part->begin = (enum begin)pick(state, BEGIN_KINDS);
}

/* ---- Cases -------------------------------------------------------------------------------------------------- */

bool plan_gets_bytes(const struct plan *plan, int end)
{
	const struct part *own = &plan->part[end], *other = &plan->part[!end];
	return other->size > 0 && (other->begin == BEGIN_AT_ONCE || (other->begin == BEGIN_SECOND && own->size > 0));
}

/** Without a byte to deliver, a client's reset may come before the proxy has asked anybody. */
static bool is_gone_early(const struct plan *plan)
{
	const struct part *client = &plan->part[0];
	return client->size == 0 && client->begin == BEGIN_AT_ONCE &&
		   (client->ending == ENDING_RESET || (client->ending == ENDING_UNREAD && !plan_gets_bytes(plan, 0)));
}

static void choose_fate(struct plan *plan, uint64_t *state, bool small)
{
	struct part *client = &plan->part[0];
	if (is_gone_early(plan)) {
		plan->fate = FATE_GONE;
		client->ending = ENDING_RESET;
	} else if (!small && pick(state, 40) == 0) {
		plan->fate = FATE_STUCK;
		client->size = 1 + client->size % 1000;
		client->begin = BEGIN_AT_ONCE;
		client->ending = plan_resets(client->ending) ? ENDING_RESET : ENDING_APART;
	}
	if (plan->fate != FATE_LANE && plan->front == FRONT_ALMOST)
		plan->front = FRONT_PLAIN;
}

/** Somebody who does not read is noticed only by who sends more than the kernels hold: by some. */
static void fill_kernels(struct plan *plan, uint64_t *state)
{
	for (int i = 0; i < 2; i++) {
		struct part *part = &plan->part[i];
		if (plan->part[!i].reading != READING_AT_ONCE && part->size > 0 && pick(state, 2) == 0)
			part->size = SIZE_MOST - pick(state, 64 * KIB);
	}
}

void plan_make(struct plan *plan, uint64_t seed, uint64_t number, bool small)
{
	uint64_t state = seed * 0x9e3779b97f4a7c15u + number * 0xd1342543de82ef95u;
	next_random(&state);
	int lead = (int)pick(&state, 2);
	*plan = (struct plan){.number = number, .front = (enum front)pick(&state, FRONT_KINDS)};
	lead_part(&plan->part[lead], &state, number, small);
	follow_part(&plan->part[!lead], &state, &plan->part[lead], small);
	plan->almost = pick(&state, ALMOST_MOST + 1);
	plan->preamble_apart = pick(&state, 2);
	struct part *client = &plan->part[0];
	/* A silent client is asked for a preamble as long as timeouts.preamble. */
	if (plan->front == FRONT_ALMOST && client->begin != BEGIN_AT_ONCE)
		plan->front = FRONT_SUBPORT;
	if (plan->front == FRONT_ALMOST && (client->size < 2 * ALMOST_MOST || plan_resets(client->ending)))
		plan->front = FRONT_PLAIN;
	fill_kernels(plan, &state);
	choose_fate(plan, &state, small);
}

/* ---- In words ----------------------------------------------------------------------------------------------- */

static size_t describe_part(const char *who, const struct part *part, char *text, size_t room)
{
	static const char *const pieces[] = {"as a whole", "byte by byte", "in segments", "the last byte apart"};
	static const char *const endings[] = {
		"ends with it",       "ends apart",       "ends last", "resets", "closes with bytes unread",
		"ends, later resets", "waits for a reset"};
	static const char *const readings[] = {"", ", reads slowly", ", reads late"};
	static const char *const begins[] = {"", " second", " as an answer"};
	int length = snprintf(text, room, "%s: %zu bytes%s %s", who, part->size, begins[part->begin], pieces[part->pieces]);
	if (part->pieces == PIECES_SEGMENT)
		length += snprintf(text + length, room - (size_t)length, " of %zu", part->segment);
	length +=
		snprintf(text + length, room - (size_t)length, ", %s%s; ", endings[part->ending], readings[part->reading]);
	return (size_t)length;
}

void plan_describe(const struct plan *plan, char *text, size_t room)
{
	static const char *const fronts[] = {"plain", "subport", "almost a preamble"};
	static const char *const fates[] = {"", " (gone early)", " (target does not accept)"};
	size_t at = (size_t)snprintf(text, room, "case %llu%s, %s", (unsigned long long)plan->number, fates[plan->fate],
								 fronts[plan->front]);
	if (plan->front == FRONT_ALMOST)
		at += (size_t)snprintf(text + at, room - at, " by %u bytes", plan->almost);
	if (plan->front == FRONT_SUBPORT && plan->preamble_apart)
		at += (size_t)snprintf(text + at, room - at, " apart");
	at += (size_t)snprintf(text + at, room - at, "; ");
	at += describe_part("client", &plan->part[0], text + at, room - at);
	if (plan->fate == FATE_LANE)
		describe_part("target", &plan->part[1], text + at, room - at);
}
