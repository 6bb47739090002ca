/** What is behind a `struct cp_request`: a connection that wants a route. Embedded in what sets a connection up; made
 * and reset without allocating in the common case. See connpipe/router.h.
 *
 * Thread: the worker of the connection. Ownership: facts and the arena are the request's; the address, the scope and
 * the peeked bytes are borrowed from whoever set the connection up. */
#ifndef ROUTE_REQUEST_H
#define ROUTE_REQUEST_H

#include <connpipe/router.h>

#include <stdbool.h>
#include <stdint.h>

/** Who has named the protocol. */
enum proto_source {
	PROTO_GIVEN,   /* nobody, or not sniffing */
	PROTO_KNOWN,   /* sniffing: one that it knows by itself */
	PROTO_PATTERN, /* sniffing: a pattern of who asked then */
};

struct binding;

struct cp_request {
	struct cp_loop *loop;
	const struct cp_scope *scope;
	const struct cp_address *address;  /* a router that asks another one may change it: see routing.h */
	const struct cp_address *accepted; /* where the client's stream came in, with the subport it asked for */
	struct cp_peer peer;
	struct cp_peer local;   /* where the client connected to; asked for when somebody wants to know */
	int socket;             /* the client's, for that; -1: none */
	const struct binding *binding; /* the socket that took it, for paths; NULL: unknown */
	struct cp_arena *arena; /* made when first asked for; kept over request_reset() */
	struct cp_field *facts;
	uint32_t fact_count, fact_room;
	const char *peeked; /* bytes read so far, owned by the pipe */
	size_t peeked_length;
	bool peeked_end;
	const struct cp_sniff *sniffed; /* settled last */
	enum proto_source proto_source; /* of the fact `proto` */
	uint64_t sniff_since;           /* when sniffing first had to wait; 0: never */
	uint64_t silence_ms;            /* how long a client may say nothing: timeouts.preamble; 0: any time */
	void *state;                    /* the router's */
	void (*explain)(void *arg, const char *line); /* NULL: nobody listens */
	void *explain_arg;
	struct routing *routing; /* under way */
};

/** Begin a new one in zeroed or reset memory. */
void request_init(struct cp_request *request, struct cp_loop *loop, const struct cp_scope *scope,
				  const struct cp_address *address, const struct cp_peer *peer);
/** Forget facts and the arena's contents; keeps memory for the next one if it is small. No routing is under way. */
void request_reset(struct cp_request *request);
/** Free what the request holds. No routing is under way. */
void request_deinit(struct cp_request *request);

#endif
