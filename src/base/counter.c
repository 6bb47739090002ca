/* Counters: see counter.h and connpipe/counter.h. */
#include "counter.h"
#include "memory.h"

#include <connpipe/log.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct slots {
	struct slots *next, **prev;
	int64_t counts[COUNTERS_MAX];
};

/* The registry: everything under the lock but the contents of slots. Entries never change once they are there. */
static struct {
	pthread_mutex_t lock;
	struct {
		char *name, *help;
		enum cp_counter_kind kind;
	} entries[COUNTERS_MAX];
	uint32_t count;
	bool full_was_said;
	struct slots *slots;
	int64_t retired[COUNTERS_MAX]; /* what slots that are gone had counted */
} registry = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool name_is_valid(const char *name)
{
	return name[0] >= 'a' && name[0] <= 'z' && name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_")] == '\0';
}

/* Called with the lock held. */
static cp_counter find_or_add(const char *name, enum cp_counter_kind kind, const char *help)
{
	uint32_t i;

	for (i = 0; i < registry.count; i++) {
		if (strcmp(registry.entries[i].name, name) == 0)
			return i;
	}
	if (i == COUNTERS_MAX)
		return CP_COUNTER_NONE;
	registry.entries[i].name = xstrdup(name);
	registry.entries[i].help = xstrdup(help ? help : "");
	registry.entries[i].kind = kind;
	registry.count++;
	return i;
}

cp_counter cp_counter_get(const char *name, enum cp_counter_kind kind, const char *help)
{
	cp_counter counter;
	bool say_full;

	if (!name_is_valid(name)) {
		cp_log(CP_WARN, "counter", "%s: a counter's name is lower-case words joined by _; it is not counted", name);
		return CP_COUNTER_NONE;
	}
	pthread_mutex_lock(&registry.lock);
	counter = find_or_add(name, kind, help);
	say_full = counter == CP_COUNTER_NONE && !registry.full_was_said;
	registry.full_was_said |= say_full;
	pthread_mutex_unlock(&registry.lock);
	if (say_full)
		cp_log(CP_WARN, "counter", "%s: there are %d counters already; it and others are not counted", name,
			   COUNTERS_MAX);
	return counter;
}

int64_t *counter_slots_new(void)
{
	struct slots *slots = xcalloc(1, sizeof(*slots));

	pthread_mutex_lock(&registry.lock);
	slots->next = registry.slots;
	slots->prev = &registry.slots;
	if (slots->next)
		slots->next->prev = &slots->next;
	registry.slots = slots;
	pthread_mutex_unlock(&registry.lock);
	return slots->counts;
}

void counter_slots_free(int64_t *counts)
{
	struct slots *slots;

	if (!counts)
		return;
	slots = (struct slots *)((char *)counts - offsetof(struct slots, counts));
	pthread_mutex_lock(&registry.lock);
	for (uint32_t i = 0; i < COUNTERS_MAX; i++)
		registry.retired[i] += counts[i];
	*slots->prev = slots->next;
	if (slots->next)
		slots->next->prev = slots->prev;
	pthread_mutex_unlock(&registry.lock);
	free(slots);
}

int64_t cp_counter_sum(cp_counter counter)
{
	int64_t sum;

	if (counter >= COUNTERS_MAX)
		return 0;
	pthread_mutex_lock(&registry.lock);
	sum = registry.retired[counter];
	for (const struct slots *slots = registry.slots; slots; slots = slots->next)
		sum += __atomic_load_n(&slots->counts[counter], __ATOMIC_RELAXED);
	pthread_mutex_unlock(&registry.lock);
	return sum;
}

void counter_each(void (*visit)(const struct counter_info *info, void *arg), void *arg)
{
	struct counter_info info;
	uint32_t count;

	pthread_mutex_lock(&registry.lock);
	count = registry.count;
	pthread_mutex_unlock(&registry.lock);
	/* Entries below `count` never change again, so the lock is not needed to read them. */
	for (uint32_t i = 0; i < count; i++) {
		info.name = registry.entries[i].name;
		info.help = registry.entries[i].help;
		info.kind = registry.entries[i].kind;
		info.sum = cp_counter_sum(i);
		visit(&info, arg);
	}
}
