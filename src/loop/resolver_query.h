/** Queries: one question to the hosts file and the name servers, by c-ares. */
#ifndef LOOP_RESOLVER_QUERY_H
#define LOOP_RESOLVER_QUERY_H

#include <connpipe/address.h>
#include <connpipe/error.h>
#include <connpipe/loop.h>

#include <stdbool.h>
#include <stdint.h>

/** Milliseconds. */
enum {
	QUERY_LIMIT = 5000,           /* the longest that a query takes */
	QUERY_TTL_MIN = 1000,         /* answers are believed at least so long, */
	QUERY_TTL_MAX = 24 * 3600000, /* and at most so long */
	QUERY_TTL_HOSTS = 10000,      /* the hosts file says nothing about time */
};

struct query_channel;

/** Addresses of a host, in the order to try. */
struct query_answer {
	struct query_answer *next; /* for who owns it */
	uint32_t count;            /* never 0 */
	struct cp_ip ips[];
};

struct query_result {
	struct query_answer *answer; /* freed with free() by who got the result; NULL: there is none: */
	uint64_t ttl;                /* milliseconds */
	enum cp_err code;
	const char *reason; /* static text */
	bool denied;        /* the name servers know for sure that there are no addresses */
};

typedef void query_done(struct query_result *result, void *arg);

/** One for a loop. c-ares is started at the first query, and anew when /etc/resolv.conf has changed. */
struct query_channel *query_channel_new(struct cp_loop *loop);
/** Queries under way end without a call. */
void query_channel_free(struct query_channel *channel);

/** Ask for the addresses of `host`: lower case, 1 to 254 bytes.
 * @return true: it is under way, `done` will be called once, from the loop; false: it has ended already, with `result`
 * Reentrancy: `done` may start further ones. */
bool query_start(struct query_channel *channel, const char *host, query_done *done, void *arg,
				 struct query_result *result);

#endif
