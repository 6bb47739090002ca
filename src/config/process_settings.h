/** The reserved table [connpipe]: settings of the process itself. Durations in milliseconds; 0 means none (drain: at
 * once). */
#ifndef CONFIG_PROCESS_SETTINGS_H
#define CONFIG_PROCESS_SETTINGS_H

#include "config.h"

#include <connpipe/log.h>

#include <stdbool.h>
#include <stdint.h>

struct process_settings {
	uint32_t workers; /* "auto" is resolved to the number of processors that may be used */
	struct {
		enum cp_level level;
		bool json;
		char *file; /* "stderr", or an absolute path */
	} log;
	char *admin; /* "unix:" and an absolute path as it is, without escapes; NULL: off */
	bool admin_is_default;
	char *user; /* run as this user after start; NULL: stay */
	struct {
		uint32_t connections, connections_per_source, connect_rate_per_source, subport_length, udp_sessions;
	} limits;
	struct {
		uint64_t preamble, connect, handshake, idle, udp_idle, half_close, reset, drain;
	} timeouts;
};

/** Defaults, then what the table says; errors go to the config's report. */
void process_settings_read(const struct config *config, struct process_settings *settings);
/** The table [connpipe.<key>] of the settings of a compiled-in system, which reads it and checks its keys; NULL: it is
 * not there. As long as the config. */
const struct cp_settings *process_settings_table(const struct config *config, const char *key);
void process_settings_deinit(struct process_settings *settings);

#endif
