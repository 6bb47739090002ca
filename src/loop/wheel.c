/* Timers on a hierarchical wheel.
 *
 * Time is counted in ticks of TICK_MS. A tick number is read as digits of DIGIT_BITS bits. Each level of the wheel
 * stands for one digit and has a slot for each value of it. A timer lies in the level of the highest digit in which
 * its due tick differs from the wheel's tick, in the slot of its own digit there:
 *
 *     wheel's tick  5 . 17 . 60
 *     due           5 . 17 . 63    level 0, slot 63
 *     due           5 . 20 . 02    level 1, slot 20: taken up again when the wheel is at 5.20.00
 *     due           6 . 00 . 00    level 2, slot 6
 *
 * So all timers of a level are due before all timers of the next one, slots with timers are always ahead of the
 * wheel's own digit, and the first thing to do is in the first used slot of the lowest used level: two bit scans.
 *
 * One libevent timer, the alarm, is set to when that slot begins. Stopping a timer does not set it back: it may ring
 * for nothing, once. Starting one sets it only if the new one is before it.
 *
 * `tick` only moves when somebody looks at the clock, so it may be far behind; no slot that begins between it and the
 * clock has timers, or else the alarm is due. */
#include "wheel.h"

#include "../base/memory.h"
#include "loop.h"

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdlib.h>
#include <time.h>

enum {
	TICK_MS = 4, /* libevent's clock may be up to 10 ms coarse; together they stay below the 16 ms that are promised */
	DIGIT_BITS = 6,
	SLOTS = 1 << DIGIT_BITS,
	LEVELS = (64 + DIGIT_BITS - 1) / DIGIT_BITS, /* any 64-bit tick has its place */
};

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_TICK (TICK_MS * NS_PER_MS)
#define ALARM_OFF UINT64_MAX
#define ALARM_TICKS_MAX (UINT64_C(86400000) / TICK_MS) /* libevent is not asked for more than a day */

struct loop_wheel {
	struct event event;    /* the alarm */
	uint64_t alarm;        /* the tick it is set to; ALARM_OFF; 0 while timers are being fired */
	uint64_t tick;         /* timers due at or before this have been fired */
	uint64_t used[LEVELS]; /* bit: the slot has timers */
	struct cp_timer *slots[LEVELS][SLOTS];
};

static uint64_t clock_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 * NS_PER_MS + (uint64_t)t.tv_nsec;
}

/* ---- Slots -------------------------------------------------------------------------------------------------- */

static unsigned level_of(const struct loop_wheel *wheel, uint64_t tick)
{
	return (63u - (unsigned)__builtin_clzll(wheel->tick ^ tick)) / DIGIT_BITS;
}

static unsigned digit(uint64_t tick, unsigned level)
{
	return (tick >> (level * DIGIT_BITS)) % SLOTS;
}

/** The first tick of a slot: the wheel's tick with the slot's number as that digit, and zeros below. */
static uint64_t slot_begin(const struct loop_wheel *wheel, unsigned level, unsigned slot)
{
	unsigned shift = level * DIGIT_BITS;
	uint64_t above = wheel->tick >> shift;
	return (above - above % SLOTS + slot) << shift;
}

static void link_timer(struct cp_timer **list, struct cp_timer *timer)
{
	timer->next = *list;
	timer->prev = list;
	if (timer->next)
		timer->next->prev = &timer->next;
	*list = timer;
}

static void unlink_timer(struct cp_timer *timer)
{
	*timer->prev = timer->next;
	if (timer->next)
		timer->next->prev = timer->prev;
	timer->prev = NULL;
}

/** Put a timer that is due after the wheel's tick into its slot. @return when that slot begins */
static uint64_t put(struct loop_wheel *wheel, struct cp_timer *timer)
{
	unsigned level = level_of(wheel, timer->due), slot = digit(timer->due, level);

	link_timer(&wheel->slots[level][slot], timer);
	wheel->used[level] |= UINT64_C(1) << slot;
	return slot_begin(wheel, level, slot);
}

/** `head` was left by the last timer of its list: if it is a slot (and not a list being fired), mark it as unused. */
static void slot_emptied(struct loop_wheel *wheel, struct cp_timer **head)
{
	uintptr_t offset = (uintptr_t)head - (uintptr_t)wheel->slots;
	size_t index = offset / sizeof(*head);

	if (offset < sizeof(wheel->slots))
		wheel->used[index / SLOTS] &= ~(UINT64_C(1) << index % SLOTS);
}

/** The slot that comes first. @return when it begins; ALARM_OFF: there are no timers */
static uint64_t first_slot(const struct loop_wheel *wheel, unsigned *level, unsigned *slot)
{
	for (unsigned i = 0; i < LEVELS; i++) {
		if (wheel->used[i] == 0)
			continue;
		*level = i;
		*slot = (unsigned)__builtin_ctzll(wheel->used[i]);
		return slot_begin(wheel, *level, *slot);
	}
	return ALARM_OFF;
}

/* ---- The alarm ---------------------------------------------------------------------------------------------- */

static void alarm_set(struct loop_wheel *wheel, uint64_t tick, uint64_t now_ns)
{
	uint64_t now = now_ns / NS_PER_TICK, us = 0;
	struct timeval wait;

	if (tick > now + ALARM_TICKS_MAX)
		tick = now + ALARM_TICKS_MAX;
	wheel->alarm = tick;
	if (tick > now)
		us = (tick * NS_PER_TICK - now_ns + 999) / 1000;
	wait.tv_sec = (time_t)(us / 1000000);
	wait.tv_usec = (suseconds_t)(us % 1000000);
	if (event_add(&wheel->event, &wait) < 0)
		no_memory();
}

/** Fire all timers of a slot, or put them into lower ones when they are due later within it. The wheel is where the
 * slot begins. The list is taken first; a timer that is stopped by another one's callback leaves it through its `prev`.
 */
static void empty_slot(struct loop_wheel *wheel, unsigned level, unsigned slot)
{
	struct cp_timer *list = wheel->slots[level][slot], *timer;

	wheel->slots[level][slot] = NULL;
	wheel->used[level] &= ~(UINT64_C(1) << slot);
	list->prev = &list;
	while ((timer = list)) {
		unlink_timer(timer);
		if (timer->due > wheel->tick)
			put(wheel, timer);
		else
			timer->fired(timer); /* may free it or start it again */
	}
}

/* libevent may ring a little early, because its clock is coarse: then there is nothing to do but to wait on. */
static void on_alarm(evutil_socket_t fd, short what, void *arg)
{
	struct loop_wheel *wheel = arg;
	uint64_t now = clock_ns() / NS_PER_TICK, begin;
	unsigned level, slot;

	(void)fd;
	(void)what;
	wheel->alarm = 0; /* callbacks that start timers leave alarm and tick to us */
	while ((begin = first_slot(wheel, &level, &slot)) <= now) {
		wheel->tick = begin;
		empty_slot(wheel, level, slot);
	}
	wheel->tick = now;
	wheel->alarm = ALARM_OFF;
	if (begin != ALARM_OFF)
		alarm_set(wheel, begin, clock_ns());
}

/* ---- The interface ------------------------------------------------------------------------------------------ */

void cp_timer_init(struct cp_timer *timer, struct cp_loop *loop, cp_timer_fired *fired)
{
	*timer = (struct cp_timer){.loop = loop, .fired = fired};
}

/** The first tick that is `ms` milliseconds or more behind `now_ns`, and not before the next one. */
static uint64_t due_tick(const struct loop_wheel *wheel, uint64_t now_ns, uint64_t ms)
{
	uint64_t due, longest = (UINT64_MAX - now_ns) / NS_PER_MS - TICK_MS;

	if (ms > longest) /* five centuries */
		ms = longest;
	due = (now_ns + ms * NS_PER_MS + NS_PER_TICK - 1) / NS_PER_TICK;
	return due > wheel->tick ? due : wheel->tick + 1;
}

/* The time is the clock's, not the turn's: a timer that is started at the end of a long turn is not early. */
void cp_timer_start(struct cp_timer *timer, uint64_t ms)
{
	struct loop_wheel *wheel = timer->loop->wheel;
	uint64_t now_ns = clock_ns(), now = now_ns / NS_PER_TICK, begin;

	cp_timer_stop(timer);
	if (now < wheel->alarm)
		wheel->tick = now; /* nothing begins before the alarm; and the nearer the wheel is, the lower the level */
	timer->due = due_tick(wheel, now_ns, ms);
	begin = put(wheel, timer);
	if (begin < wheel->alarm)
		alarm_set(wheel, begin, now_ns);
}

void cp_timer_stop(struct cp_timer *timer)
{
	struct cp_timer **head = timer->prev;

	if (!head)
		return;
	unlink_timer(timer);
	if (!*head)
		slot_emptied(timer->loop->wheel, head);
}

bool cp_timer_running(const struct cp_timer *timer)
{
	return timer->prev != NULL;
}

struct loop_wheel *wheel_new(struct cp_loop *loop, struct cp_error *error)
{
	struct loop_wheel *wheel = xcalloc(1, sizeof(*wheel));

	wheel->alarm = ALARM_OFF;
	wheel->tick = clock_ns() / NS_PER_TICK;
	if (evtimer_assign(&wheel->event, loop->base, on_alarm, wheel) == 0)
		return wheel;
	cp_error_set(error, CP_ENOMEM, NULL, "cannot make the timers of an event loop");
	free(wheel);
	return NULL;
}

void wheel_free(struct loop_wheel *wheel)
{
	evtimer_del(&wheel->event);
	for (size_t i = 0; i < (size_t)LEVELS * SLOTS; i++) {
		struct cp_timer **slot = &wheel->slots[0][0] + i;
		while (*slot)
			unlink_timer(*slot);
	}
	free(wheel);
}
