/** What a request offers in lists: subprotocols (RFC 6455, 11.3.4) and extensions (RFC 6455, 9.1). */
#ifndef SYSTEMS_WS_OFFERS_H
#define SYSTEMS_WS_OFFERS_H

#include "ws.h"

/** @return NULL, or what is wrong with Sec-WebSocket-Protocol, in words */
const char *offers_check_protocols(const struct ws_upgrade *upgrade);
/** Whether the client offers a subprotocol. */
bool offers_has_protocol(const struct ws_upgrade *upgrade, const char *name);

/** Read Sec-WebSocket-Extensions.
 * @param deflate  set to the first offer of permessage-deflate that libwebsockets can accept as it stands, if there is
 *                 one; else left alone
 * @return NULL, or what is wrong, in words */
const char *offers_read_extensions(const struct ws_upgrade *upgrade, struct ws_text *deflate);

#endif
