/** udp: what its files share. */
#ifndef SYSTEMS_CORE_UDP_H
#define SYSTEMS_CORE_UDP_H

#include "connectors.h"

struct cp_settings;
struct cp_system;
struct udp_settings;

/** Read [connpipe.udp]. What is wrong goes to the report of the load. Main task, while the core system links.
 * @param table  NULL: it is not there
 * @return NULL: nothing is set anywhere */
struct udp_settings *udp_settings_read(struct cp_system *core, const struct cp_settings *table);
void udp_settings_free(struct udp_settings *settings);

#endif
