/** A name server for tests: a UDP socket on a loop that answers as it is told. One at a time. */
#ifndef UNIT_LOOP_DNS_H
#define UNIT_LOOP_DNS_H

#include <connpipe/loop.h>

#include <stdbool.h>
#include <stdint.h>

enum dns_manner {
	DNS_ANSWER, /* what there is of the kind that was asked for; may be nothing */
	DNS_NO_SUCH_NAME,
	DNS_FAIL, /* SERVFAIL */
	DNS_SILENT,
	DNS_GARBAGE,     /* right id and question, then nonsense */
	DNS_WRONG_ID,    /* an answer to nobody's question, then the right one */
	DNS_SILENT_IPV6, /* answers about IPv4 only */
	DNS_SECOND_TRY,  /* there is no such name, but says so only when asked for the second time */
};

/** What the server says about every name. May be changed at any time. */
extern struct dns {
	enum dns_manner manner;
	const char *ipv4[4], *ipv6[4]; /* up to a NULL */
	uint32_t ttl;                  /* seconds */
	unsigned queries;              /* seen so far, for IPv4 */
	char name[256];                /* of the last query */
	void (*on_query)(void);        /* when the queries that were there are answered; may be NULL */
} dns;

/** Start, and have resolvers of loops made from now on ask it. */
void dns_start(struct cp_loop *loop);
/** Before the loop is freed. */
void dns_stop(void);

#endif
