/** IP addresses as text, beyond the public functions. */
#ifndef ADDRESS_IP_H
#define ADDRESS_IP_H

#include "text.h"

#include <connpipe/address.h>

/** Read an IP address whose zone need not exist on this machine; `ip->zone` is 0.
 * @param zone  set to where the zone begins in `text`, behind its "%"; `length` without one */
bool ip_read(const char *text, size_t length, struct cp_ip *ip, size_t *zone);
/** Write it without its zone. */
void ip_put(struct text_out *out, const struct cp_ip *ip);

#endif
