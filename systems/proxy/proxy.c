/* The converter `proxy` and the type "proxy", whose systems are profiles of it. See proxy.h. */
#include "proxy.h"

#include <connpipe/system.h>

#include <stdlib.h>
#include <string.h>

enum {
	ARENA_FIRST = 1024,
	LENGTH_DEFAULT = 4096,
	WAIT_DEFAULT_MS = 3000, /* as timeouts.preamble: long enough for a segment that was lost */
};

static const char *const modes[] = {"v1", "v2", "optional", NULL};

/* ---- Arguments ---------------------------------------------------------------------------------------------- */

static const struct proxy_options *find_mode(const struct proxy *proxy, const char *argument)
{
	const struct proxy_options *const options[] = {&proxy->v1, &proxy->v2, &proxy->optional};
	for (size_t i = 0; modes[i]; i++)
		if (strcmp(argument, modes[i]) == 0)
			return options[i];
	return NULL;
}

/** There are few profiles. */
const struct proxy_options *proxy_find(const struct proxy *proxy, const char *argument)
{
	const struct proxy_options *mode = argument ? find_mode(proxy, argument) : &proxy->all;
	if (mode)
		return mode;
	for (const struct proxy_profile *profile = proxy->profiles; profile; profile = profile->next)
		if (strcmp(argument, profile->id) == 0)
			return &profile->options;
	return NULL;
}

static int unknown_argument(const struct proxy *proxy, const char *argument, struct cp_error *error)
{
	size_t count = 0;
	for (const struct proxy_profile *profile = proxy->profiles; profile; profile = profile->next)
		count++;
	const char **names = calloc(count + sizeof(modes) / sizeof(modes[0]), sizeof(*names));
	if (!names)
		return cp_error_set(error, CP_ENOMEM, NULL, "no memory for the names of %zu profiles", count);
	count = 0;
	for (size_t i = 0; modes[i]; i++)
		names[count++] = modes[i];
	for (const struct proxy_profile *profile = proxy->profiles; profile; profile = profile->next)
		names[count++] = profile->id;
	const char *near = cp_near_name(argument, names);
	cp_error_set(error, CP_EINVAL, NULL, "expected v1, v2, optional or a system of type \"proxy\", found \"%s\"%s%s%s",
				 argument, near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
	free(names);
	return CP_EINVAL;
}

static int check_argument(const struct cp_converter *converter, const char *argument, struct cp_error *error)
{
	const struct proxy *proxy = converter->arg;
	const struct proxy_options *options = proxy_find(proxy, argument);
	if (!options)
		return unknown_argument(proxy, argument, error);
	if (options == &proxy->optional && !options->restricted)
		return cp_error_set(error, CP_EINVAL, NULL,
							"proxy(optional) needs a list of trusted sources, as anybody else could send a header, "
							"too: add trusted = [\"10.0.0.0/8\"] to [connpipe.proxy], or use a profile that has one");
	return CP_OK;
}

static void cancel(const struct cp_converter *converter, struct cp_open *open)
{
	const struct proxy_waiting *waiting = open->state;
	(void)converter;
	waiting->cancel(open);
}

static const struct cp_converter_def converter_def = {
	.size = sizeof(struct cp_converter_def),
	.id = "proxy",
	.form = CP_FORM_SAME,
	.check = check_argument,
	.accept = proxy_accept,
	.connect = proxy_connect,
	.cancel = cancel,
};

/* ---- Profiles ----------------------------------------------------------------------------------------------- */

static int load_profile(struct cp_system *self, const struct cp_settings *settings)
{
	struct proxy *proxy = cp_system_data(cp_system_parent(self));
	const char *id = cp_system_id(self);
	if (find_mode(proxy, id)) {
		cp_system_error(self, "a profile cannot have the name \"%s\": proxy(%s) means something already", id, id);
		return CP_EINVAL;
	}
	struct proxy_profile *profile = cp_arena_alloc(proxy->arena, sizeof(*profile));
	*profile = (struct proxy_profile){proxy->profiles, cp_arena_strdup(proxy->arena, id), proxy->all};
	if (settings)
		proxy_options_read(proxy->arena, settings, &profile->options);
	proxy->profiles = profile;
	return CP_OK;
}

static const struct cp_system_def profile_type = {
	.abi = CP_ABI_VERSION,
	.size = sizeof(struct cp_system_def),
	.load = load_profile,
};

/* ---- The system --------------------------------------------------------------------------------------------- */

static void get_counters(struct proxy_counters *counters)
{
	counters->read = cp_counter_get("proxy_headers_read", CP_COUNTER, "PROXY headers that were read");
	counters->absent = cp_counter_get("proxy_headers_absent", CP_COUNTER,
									  "Connections of trusted sources without an optional PROXY header");
	counters->malformed = cp_counter_get("proxy_headers_malformed", CP_COUNTER,
										 "Connections closed because the PROXY header was missing or malformed");
	counters->untrusted = cp_counter_get("proxy_headers_untrusted", CP_COUNTER,
										 "Connections closed because their source may not send PROXY headers");
	counters->written = cp_counter_get("proxy_headers_written", CP_COUNTER, "PROXY headers that were written");
}

/** What the modes are, beside what is set for all. */
static void derive_modes(struct proxy *proxy)
{
	proxy->v1 = proxy->v2 = proxy->optional = proxy->all;
	proxy->v1.version = 1;
	proxy->v2.version = 2;
	proxy->optional.optional = true;
}

static int load(struct cp_system *self, const struct cp_settings *settings)
{
	struct cp_arena *arena = cp_arena_new(ARENA_FIRST);
	struct proxy *proxy = cp_arena_alloc(arena, sizeof(*proxy));
	*proxy = (struct proxy){.arena = arena, .all = {.length = LENGTH_DEFAULT, .wait_ms = WAIT_DEFAULT_MS}};
	cp_system_set_data(self, proxy);
	get_counters(&proxy->counters);
	if (settings)
		proxy_options_read(arena, settings, &proxy->all);
	derive_modes(proxy);
	int result = cp_register_type(self, "proxy", &profile_type);
	return result == CP_OK ? cp_register_converter(self, &converter_def, proxy, NULL) : result;
}

static void unload(struct cp_system *self)
{
	struct proxy *proxy = cp_system_data(self);
	if (proxy)
		cp_arena_free(proxy->arena);
}

extern const struct cp_system_def proxy_system;
const struct cp_system_def proxy_system = {
	.abi = CP_ABI_VERSION,
	.size = sizeof(struct cp_system_def),
	.id = "1e1001.connpipe.proxy",
	.load = load,
	.unload = unload,
};
