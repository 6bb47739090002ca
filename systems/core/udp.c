#include "udp.h"

static const char *const udp_aliases[] = {"udp", NULL};

static const struct cp_field_def udp_fields[UDP_FIELDS] = {
	[UDP_ADDR] = {.name = "addr", .kind = CP_STRING, .role = CP_ROLE_HOST},
	[UDP_PORT] = {.name = "port", .kind = CP_U16, .role = CP_ROLE_PORT},
};

const struct cp_connector_def udp_connector = {
	.size = sizeof(struct cp_connector_def),
	.aliases = udp_aliases,
	.flags = CP_CONNECTOR_MESSAGES | CP_CONNECTOR_SESSIONS,
	.fields = udp_fields,
	.field_count = UDP_FIELDS,
	.syntax = "udp:host:port",
};
