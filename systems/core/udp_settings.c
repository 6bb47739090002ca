#include "udp.h"

#include <stddef.h>

struct udp_settings *udp_settings_read(struct cp_system *core, const struct cp_settings *table)
{
	(void)core, (void)table;
	return NULL;
}

void udp_settings_free(struct udp_settings *settings)
{
	(void)settings;
}
