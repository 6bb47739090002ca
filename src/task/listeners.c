#include "listeners.h"

#include "../base/memory.h"

#include <connpipe/log.h>
#include <connpipe/system.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SOCKETS_MOST = 1024 }; /* of one address: one or two for each worker */

static struct listener_entry *find(const struct listeners *listeners, const char *key)
{
	struct listener_entry *entry = listeners->first;
	while (entry && strcmp(entry->key, key) != 0)
		entry = entry->next;
	return entry;
}

static void unbind(struct listeners *listeners, struct listener_entry *entry)
{
	struct listener_entry **at = &listeners->first;
	while (*at != entry)
		at = &(*at)->next;
	*at = entry->next;
	entry->listener->ops->unbind(entry->listener);
	cp_system_unpin(entry->system);
	free(entry->key);
	free(entry);
}

static void log_bound(const struct listener_entry *entry)
{
	char name[512];
	if (!cp_log_enabled(CP_INFO))
		return;
	entry->listener->ops->name(entry->listener, name, sizeof(name));
	cp_log(CP_INFO, "main", "bound %s", name);
}

static struct listener_entry *add(struct listeners *listeners, const struct binding *binding,
								  struct cp_listener *listener)
{
	struct listener_entry *entry = xcalloc(1, sizeof(*entry));
	entry->key = xstrdup(binding->key);
	entry->listener = listener;
	entry->system = binding->address->connector->system;
	cp_system_pin(entry->system);
	entry->next = listeners->first;
	listeners->first = entry;
	return entry;
}

static struct listener_entry *bind_new(struct listeners *listeners, const struct binding *binding, uint32_t workers,
									   struct cp_error *error)
{
	struct cp_connector *connector = binding->address->connector;
	struct cp_listener *listener = NULL;
	int result = connector->def->bind(connector, binding->address, workers, &listener, error);
	if (result == CP_OK)
		return add(listeners, binding, listener);
	error->code = result;
	return NULL;
}

/** Whether what is set for the address can be read by the listener's code: a later load's may mean something else. */
static bool is_tunable(const struct listener_entry *entry, const struct binding *binding)
{
	const struct cp_listener_ops *ops = entry->listener->ops;
	return entry->listener->connector->def == binding->address->connector->def && ops->size >= sizeof(*ops) &&
		   ops->tune;
}

/* ---- Code that was loaded anew ------------------------------------------------------------------------------ */

/** Whether the entry's code and the connector's are two loads of one system that can hand sockets over. */
static bool can_adopt(const struct listener_entry *entry, const struct cp_connector *connector)
{
	const struct cp_connector_def *def = connector->def;
	const struct cp_listener_ops *ops = entry->listener->ops;
	return entry->listener->connector->def != def && ops->size >= sizeof(*ops) && ops->sockets && def->adopt &&
		   strcmp(cp_system_id(entry->system), cp_system_id(connector->system)) == 0;
}

/** The sockets of an entry. @return how many; 0 with `error` filled */
static uint32_t take_sockets(const struct listener_entry *entry, int *fds, struct cp_error *error)
{
	uint32_t count = entry->listener->ops->sockets(entry->listener, fds, SOCKETS_MOST);
	if (count > 0 && count <= SOCKETS_MOST)
		return count;
	for (uint32_t i = 0; i < count && i < SOCKETS_MOST; i++)
		close(fds[i]);
	cp_error_set(error, CP_EMFILE, NULL, "the code that was loaded before does not hand over its sockets");
	return 0;
}

/** A second entry for the key, by newly loaded code, over the sockets of the first: which goes on until no plan binds
 * it any more. The newer one is found first from now on. */
static struct listener_entry *adopt(struct listeners *listeners, struct listener_entry *earlier,
									const struct binding *binding, uint32_t workers, struct cp_error *error)
{
	struct cp_connector *connector = binding->address->connector;
	struct cp_listener *listener = NULL;
	int fds[SOCKETS_MOST];
	uint32_t count = take_sockets(earlier, fds, error);
	if (!count)
		return NULL;
	int result = connector->def->adopt(connector, binding->address, workers, fds, count, &listener, error);
	if (result != CP_OK) {
		error->code = result;
		return NULL;
	}
	struct listener_entry *entry = add(listeners, binding, listener);
	entry->earlier = earlier;
	return entry;
}

/** The address stays bound, by code that knows how to read what `binding` has set for it.
 * @return `earlier`; NULL with `error` filled: its sockets cannot be so */
static struct listener_entry *keep(struct listener_entry *earlier, const struct binding *binding,
								   struct cp_error *error)
{
	const struct cp_listener_ops *ops = earlier->listener->ops;
	if (!is_tunable(earlier, binding) || !ops->check_tune)
		return earlier;
	int result = ops->check_tune(earlier->listener, binding->address, error);
	if (result == CP_OK)
		return earlier;
	error->code = result;
	return NULL;
}

static int bind_one(struct listeners *listeners, struct binding *binding, uint32_t workers, struct report *report)
{
	struct cp_error error = {0};
	struct listener_entry *entry = find(listeners, binding->key);
	if (!entry)
		entry = bind_new(listeners, binding, workers, &error);
	else if (can_adopt(entry, binding->address->connector))
		entry = adopt(listeners, entry, binding, workers, &error);
	else
		entry = keep(entry, binding, &error);
	if (!entry) {
		report_add(report, "", "cannot bind %s: %s", binding->text, error.message);
		return error.code;
	}
	entry->plans++;
	binding->listener = entry;
	binding->tunable = is_tunable(entry, binding);
	return CP_OK;
}

int listeners_bind(struct listeners *listeners, struct plan *plan, uint32_t workers, struct report *report)
{
	int first_failure = CP_OK;
	for (uint32_t i = 0; i < plan->count; i++) {
		int result = bind_one(listeners, &plan->bindings[i], workers, report);
		if (first_failure == CP_OK)
			first_failure = result;
	}
	if (first_failure != CP_OK)
		listeners_release(listeners, plan);
	return first_failure;
}

/** The new generation's system takes over from the old one's if its code is the same, so that the old one can go. */
static void hand_over(struct listener_entry *entry, struct cp_connector *connector)
{
	if (entry->system == connector->system)
		return;
	if (entry->listener->connector->def != connector->def) {
		cp_log(CP_WARN, "main", "%s stays with the code of \"%s\" that was loaded before: it cannot be handed over",
			   entry->key, cp_system_id(entry->system));
		return;
	}
	cp_system_pin(connector->system);
	cp_system_unpin(entry->system);
	entry->system = connector->system;
	entry->listener->connector = connector;
}

/** The address stays bound, so neither of the two is news. */
static void replace_earlier(struct listener_entry *entry)
{
	entry->announced = entry->earlier->announced;
	entry->earlier->announced = false;
	entry->earlier = NULL;
	cp_log(CP_DEBUG, "main", "%s is accepted by newly loaded code", entry->key);
}

void listeners_in_use(struct plan *plan)
{
	for (uint32_t i = 0; i < plan->count; i++) {
		struct listener_entry *entry = plan->bindings[i].listener;
		if (entry->earlier)
			replace_earlier(entry);
		hand_over(entry, plan->bindings[i].address->connector);
		if (!entry->announced)
			log_bound(entry);
		entry->announced = true;
	}
}

void listeners_release(struct listeners *listeners, struct plan *plan)
{
	for (uint32_t i = 0; i < plan->count; i++) {
		struct listener_entry *entry = plan->bindings[i].listener;
		plan->bindings[i].listener = NULL;
		if (!entry || --entry->plans > 0)
			continue;
		if (entry->announced)
			cp_log(CP_INFO, "main", "unbound %s", entry->key);
		unbind(listeners, entry);
	}
}
