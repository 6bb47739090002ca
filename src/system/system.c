#include "system.h"

#include "../address/scope.h"

#include <connpipe/log.h>

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

const char *cp_system_id(const struct cp_system *self)
{
	return self->id;
}

void *cp_system_data(const struct cp_system *self)
{
	return self->data;
}

void cp_system_set_data(struct cp_system *self, void *data)
{
	self->data = data;
}

struct cp_system *cp_system_parent(const struct cp_system *self)
{
	return self->parent;
}

const struct cp_scope *cp_system_scope(const struct cp_system *self)
{
	return self->generation->scope;
}

const char *cp_system_config_dir(const struct cp_system *self)
{
	return self->generation->directory;
}

bool cp_system_checking(const struct cp_system *self)
{
	return self->generation->mode == GENERATION_CHECK;
}

/* ---- Errors ------------------------------------------------------------------------------------------------- */

const char *system_place(const struct cp_system *system, char *buffer, size_t room)
{
	if (system->where)
		snprintf(buffer, room, "%s", system->where);
	else if (system->parent)
		snprintf(buffer, room, "registered by \"%s\"", system->parent->id);
	else
		snprintf(buffer, room, "compiled in");
	return buffer;
}

size_t report_errors(const struct report *report)
{
	return report->count + report->dropped;
}

void cp_system_error(struct cp_system *self, const char *format, ...)
{
	char words[1024];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(words, sizeof(words), format, arguments);
	va_end(arguments);
	struct report *report = self->generation->report;
	if (report)
		report_add(report, self->where, "system \"%s\": %s", self->id, words);
	else
		cp_log(CP_ERROR, self->id, "%s", words); /* starting or stopping: no load to report to */
}

/* ---- Pins --------------------------------------------------------------------------------------------------- */

void cp_system_pin(struct cp_system *self)
{
	atomic_fetch_add(&self->pins, 1);
}

void cp_system_unpin(struct cp_system *self)
{
	unsigned old = atomic_load(&self->pins), next;
	bool wake;
	do {
		assert(old & PINS_COUNT);
		wake = old == (PINS_RETIRING | 1u);
		next = wake ? PINS_RETIRING | PINS_WAKING : old - 1;
	} while (!atomic_compare_exchange_weak(&self->pins, &old, next));
	/* From here on `self` may be gone, unless this is the call that it waits for. */
	struct cp_loop *main_loop = wake ? cp_loop_main() : NULL;
	if (main_loop)
		cp_post(main_loop, retire_wake, self);
}

bool system_unused(struct cp_system *system)
{
	return (atomic_fetch_or(&system->pins, PINS_RETIRING) & ~(unsigned)PINS_RETIRING) == 0;
}
