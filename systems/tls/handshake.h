/** A handshake under way. */
#ifndef TLS_HANDSHAKE_H
#define TLS_HANDSHAKE_H

#include "tls.h"

enum { FIRST_BYTES = 16 };

struct handshake {
	struct cp_open *open;
	const struct profile *profile;
	const char *peer_name; /* connecting: whose certificate it has to be; NULL: not checked */
	bool accepting;
	uint8_t first_length; /* of what the peer has begun with, for the words if that is not TLS */
	char first[FIRST_BYTES];
};

#endif
