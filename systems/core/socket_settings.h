/** Options of sockets, set in the configuration for all addresses of a connector ([connpipe.tcp]) and for single ones,
 * which begin with what is set for all ([connpipe.tcp.address."tcp:10.0.0.2:80"]).
 *
 * What the options are is the connector's: a struct without pointers, zero everywhere for what is the kernel's. */
#ifndef SYSTEMS_CORE_SOCKET_SETTINGS_H
#define SYSTEMS_CORE_SOCKET_SETTINGS_H

#include "connectors.h"

#include <connpipe/settings.h>

#include <stdbool.h>
#include <stddef.h>

struct socket_settings_def {
	const struct cp_connector_def *connector; /* its first fields are addr and port */
	const char *name;                         /* "tcp" */
	size_t size;                              /* of the options */
	/** Read all keys of a table into `options`, which are those that it inherits.
	 * @param try  ask the kernel about what only it knows; not for `connpipe check`, which may run elsewhere */
	void (*read)(const struct cp_settings *table, void *options, bool try);
};

struct socket_settings;

/** Read all of a connector's table. What is wrong goes to the report of the load. Main task, while the core system
 * links.
 * @param table  NULL: it is not there
 * @return NULL: nothing is set anywhere */
struct socket_settings *socket_settings_read(const struct socket_settings_def *def, struct cp_system *core,
											 const struct cp_settings *table);
void socket_settings_free(struct socket_settings *settings);

/** What is set for the socket of `address`; NULL: nothing. Any thread. @param settings  may be NULL */
const void *socket_settings_find(const struct socket_settings *settings, const struct cp_address *address);

/* ---- Values --------------------------------------------------------------------------------------------------- */

bool settings_is_text(const struct cp_settings *value, const char *text);
/** "a string", for errors. */
const char *settings_kind_text(const struct cp_settings *value);
/** "off", or a duration from one `unit` to `most` of them, a unit being so many milliseconds; begun ones count whole.
 * @param number  set to how many; 0: off, as for "0s" */
bool settings_read_duration(const struct cp_settings *value, uint64_t unit, uint64_t most, const char *expected,
							int *number);
/** `word`, which means 0, or an integer. */
void settings_read_number(const struct cp_settings *value, const char *word, int64_t least, int64_t most, int *number);
/** SO_MARK: the bits of a uint32_t. */
void settings_read_mark(const struct cp_settings *value, int *mark);
/** "default", an address, or an array of one of each family. @param source  IPv4, IPv6; family 0: none */
void settings_read_source(const struct cp_settings *value, struct cp_ip source[2]);

#endif
