/** The rest of an address, taken apart. The public part is in connpipe/address.h. */
#ifndef ADDRESS_REST_H
#define ADDRESS_REST_H

#include <connpipe/connector.h>

/** The index of the field with that role, or -1. */
int rest_field(const struct cp_connector_def *def, enum cp_field_role role);
/** Whether a path stands behind a host or a port, and so begins with "/". Else the path is all there is (unix). */
static inline bool rest_has_socket(const struct cp_connector_def *def)
{
	return rest_field(def, CP_ROLE_HOST) >= 0 || rest_field(def, CP_ROLE_PORT) >= 0;
}
/** The part for a role; for CP_ROLE_OTHER NULL. */
const struct cp_part *rest_part(const struct cp_rest *rest, enum cp_field_role role);
/** Like cp_rest_parse(), for the fields that `def` has: without a host, all up to "!" is the path. */
int rest_split(const struct cp_connector_def *def, const struct cp_part *rest, struct cp_rest *out,
			   struct cp_error *error);

#endif
