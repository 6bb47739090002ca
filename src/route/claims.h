/** Claims checked against each other: on one path of a socket, a subport belongs to one router, which asks for it
 * once. */
#ifndef ROUTE_CLAIMS_H
#define ROUTE_CLAIMS_H

#include "plan.h"

/** Report two routers on one address, and one router that claims the same address twice, naming both places.
 * @param part_of  for each claim: the number of its part. Claims of one number share a socket and a path. */
void claims_check(const struct claim *claims, const uint32_t *part_of, size_t count, struct report *report);

/** ` (first at PLACE)` for an earlier claim, "" where its place is unknown. @return `buffer` */
const char *claim_place(const struct claim *claim, char *buffer, size_t room);

/** The canonical text of a claim's address, made with malloc. */
char *claim_text(const struct claim *claim);

/** A field of the address by its role, or NULL when it is null or the connector has none. */
const struct cp_value *address_part(const struct cp_address *address, enum cp_field_role role);

#endif
