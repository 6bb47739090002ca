/* The converter `zstd`, and the type "zstd", whose systems are profiles of it. There is no handshake, so a stream is
 * wrapped at once. */
#include "zstd.h"

#include <connpipe/system.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
	ARENA_FIRST = 2048,
	WINDOW_LOG_LEAST = 10,
	WINDOW_LOG_MOST = 27, /* 128 MiB: what decoders take at most without being asked (zstd.h) */
};

/** The defaults: chosen by what is measured in README.md. */
static const struct zstd_options defaults = {
	.level = 3,
	.window_log = 16,
	.window_limit_log = 21, /* what the program zstd writes unless told otherwise */
	.idle_ms = 1000,
};

/* ---- Arguments ---------------------------------------------------------------------------------------------- */

/** @return whether the text is a number at all */
static bool read_level(const char *text, long *level)
{
	char *end;
	*level = strtol(text, &end, 10);
	return *text && !*end;
}

/** There are few profiles. @return NULL: the argument means nothing */
static const struct zstd_options *find_options(const struct zstd_shared *shared, const char *argument)
{
	long level = defaults.level;
	if (!argument || read_level(argument, &level)) {
		bool good = level >= ZSTD_LEVEL_LEAST && level <= ZSTD_LEVEL_MOST;
		return good ? &shared->levels[level - ZSTD_LEVEL_LEAST] : NULL;
	}
	for (const struct zstd_profile *profile = shared->profiles; profile; profile = profile->next)
		if (strcmp(argument, profile->id) == 0)
			return &profile->options;
	return NULL;
}

static int check_argument(const struct cp_converter *converter, const char *argument, struct cp_error *error)
{
	const struct zstd_shared *shared = converter->arg;
	if (find_options(shared, argument))
		return CP_OK;
	size_t count = 0;
	for (const struct zstd_profile *profile = shared->profiles; profile; profile = profile->next)
		count++;
	const char **names = calloc(count + 1, sizeof(*names));
	if (!names)
		return cp_error_set(error, CP_ENOMEM, NULL, "no memory for the names of %zu profiles", count);
	for (const struct zstd_profile *profile = shared->profiles; profile; profile = profile->next)
		names[--count] = profile->id;
	const char *near = cp_near_name(argument, names);
	cp_error_set(error, CP_EINVAL, NULL,
				 "expected a level from %d (fastest) to %d (smallest) or a system of type \"zstd\", found \"%s\"%s%s%s",
				 ZSTD_LEVEL_LEAST, ZSTD_LEVEL_MOST, argument, near ? "; did you mean \"" : "", near ? near : "",
				 near ? "\"?" : "");
	free(names);
	return CP_EINVAL;
}

static int wrap(const struct cp_converter *converter, struct cp_open *open)
{
	struct zstd_shared *shared = converter->arg;
	const struct zstd_options *options = find_options(shared, open->argument);
	struct zstd_worker *worker = zstd_worker_get(shared, open->loop);
	open->stream = worker ? zstd_stream_new(worker, options, open->lower, converter->system) : NULL;
	if (open->stream)
		return CP_OK;
	cp_stream_close(open->lower, CP_CAUSE_NO_RESOURCES);
	return cp_error_set(&open->error, CP_ENOMEM, NULL, "no memory for the converter \"zstd\"");
}

static const struct cp_converter_def zstd_converter = {
	.size = sizeof(struct cp_converter_def),
	.id = "zstd",
	.form = CP_FORM_SAME,
	.check = check_argument,
	.accept = wrap,
	.connect = wrap,
};

/* ---- Profiles ----------------------------------------------------------------------------------------------- */

static void read_window(const struct cp_settings *table, const char *key, uint32_t *log)
{
	const struct cp_settings *value = cp_settings_get(table, key);
	uint64_t bytes;
	if (!value || !cp_settings_size(value, &bytes))
		return;
	for (uint32_t i = WINDOW_LOG_LEAST; i <= WINDOW_LOG_MOST; i++) {
		if (bytes == (uint64_t)1 << i) {
			*log = i;
			return;
		}
	}
	cp_settings_error(value, "expected a power of two from \"1KiB\" to \"128MiB\", found %" PRIu64 " bytes", bytes);
}

static void read_options(const struct cp_settings *table, struct zstd_options *options)
{
	int64_t level = options->level;
	cp_settings_get_integer(table, "level", ZSTD_LEVEL_LEAST, ZSTD_LEVEL_MOST, &level);
	options->level = (int)level;
	read_window(table, "window", &options->window_log);
	read_window(table, "window_limit", &options->window_limit_log);
	cp_settings_get_bool(table, "checksum", &options->checksum);
	cp_settings_get_duration(table, "idle", &options->idle_ms);
	/* Both ends of a connection have such a profile, as a rule: what one writes, the other one reads. */
	if (!cp_settings_get(table, "window_limit") && options->window_limit_log < options->window_log)
		options->window_limit_log = options->window_log;
}

static int load_profile(struct cp_system *self, const struct cp_settings *settings)
{
	struct zstd_shared *shared = cp_system_data(cp_system_parent(self));
	const char *id = cp_system_id(self);
	long level;
	if (read_level(id, &level)) {
		cp_system_error(self, "a profile cannot have the name \"%s\": zstd(%s) means a level", id, id);
		return CP_EINVAL;
	}
	struct zstd_profile *profile = cp_arena_alloc(shared->arena, sizeof(*profile));
	*profile = (struct zstd_profile){shared->profiles, cp_arena_strdup(shared->arena, id), defaults};
	if (settings)
		read_options(settings, &profile->options);
	shared->profiles = profile;
	return CP_OK;
}

static const struct cp_system_def profile_type = {
	.abi = CP_ABI_VERSION,
	.size = sizeof(struct cp_system_def),
	.load = load_profile,
};

/* ---- The system --------------------------------------------------------------------------------------------- */

static void get_counters(struct zstd_shared *shared)
{
	shared->compressors = cp_counter_get("zstd_compressors", CP_GAUGE, "Compression contexts in use");
	shared->decompressors = cp_counter_get("zstd_decompressors", CP_GAUGE, "Decompression contexts in use");
	shared->written = cp_counter_get("zstd_written", CP_COUNTER, "Bytes that were compressed");
	shared->written_compressed =
		cp_counter_get("zstd_written_compressed", CP_COUNTER, "Bytes that they became, with those of frames");
	shared->read = cp_counter_get("zstd_read", CP_COUNTER, "Bytes that came out of decompressing");
	shared->read_compressed = cp_counter_get("zstd_read_compressed", CP_COUNTER, "Bytes that were decompressed");
	shared->malformed =
		cp_counter_get("zstd_malformed", CP_COUNTER, "Connections with bytes that cannot be decompressed");
}

static int load(struct cp_system *self, const struct cp_settings *settings)
{
	struct cp_arena *arena = cp_arena_new(ARENA_FIRST);
	struct zstd_shared *shared = cp_arena_alloc(arena, sizeof(*shared));
	(void)settings;
	*shared = (struct zstd_shared){.arena = arena, .worker_count = cp_worker_count()};
	size_t bytes = (shared->worker_count + 1) * sizeof(*shared->workers);
	shared->workers = memset(cp_arena_alloc(arena, bytes), 0, bytes);
	for (int i = 0; i < ZSTD_LEVEL_COUNT; i++) {
		shared->levels[i] = defaults;
		shared->levels[i].level = ZSTD_LEVEL_LEAST + i;
	}
	get_counters(shared);
	cp_system_set_data(self, shared);
	int result = cp_register_type(self, "zstd", &profile_type);
	return result == CP_OK ? cp_register_converter(self, &zstd_converter, shared, NULL) : result;
}

static void unload(struct cp_system *self)
{
	struct zstd_shared *shared = cp_system_data(self);
	if (!shared)
		return;
	if (cp_loop_main())
		zstd_worker_free(shared, cp_loop_main());
	cp_arena_free(shared->arena);
}

static void worker_stop(struct cp_system *self, struct cp_loop *loop)
{
	zstd_worker_free(cp_system_data(self), loop);
}

extern const struct cp_system_def zstd_system;
const struct cp_system_def zstd_system = {
	.abi = CP_ABI_VERSION,
	.size = sizeof(struct cp_system_def),
	.id = "1e1001.connpipe.zstd",
	.load = load,
	.worker_stop = worker_stop,
	.unload = unload,
};
