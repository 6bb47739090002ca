/* What the files of the load generator share.
 *
 *     load.c            command line
 *     load_loop.c       one run of a client load: opening, waiting for the word, running, ending
 *     load_exchange.c   clients that exchange messages: churn, kept, idle, stuck
 *     load_bulk.c       clients that move bulk data: up, down
 *     load_server.c     what they talk to: echo, source, bulk
 *     load_report.c     what was counted: outcomes, latencies, the JSON at the end
 *     load_pattern.c    the bytes that are sent, and how they are compared
 *
 * One thread, one epoll descriptor (`poller`). Everything that cannot go wrong unless the machine is broken ends the
 * program by die(). */
#ifndef LOAD_H
#define LOAD_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

enum {
	EVENTS = 256,
	BYTES_MOST = 65536, /* of a message */
	CHUNK = 131072,     /* of bulk data, in one call */
};

enum mode { MODE_CHURN, MODE_KEPT, MODE_IDLE, MODE_STUCK, MODE_UP, MODE_DOWN };

/** How an exchange, or a bulk connection, ended. */
enum outcome { OK, REFUSED, RESET, CUT_SHORT, WRONG_BYTES, OTHER, OUTCOMES };

struct options {
	enum mode mode;
	uint16_t port;
	uint32_t connections;
	double seconds;
	const char *subport;
	size_t bytes;     /* of a message */
	bool server_ends; /* the server closes first, after its answer */
	bool gate;        /* the load begins when a line comes on stdin */
};
extern struct options options;
extern int poller;

/* ---- Running one client load (load_loop.c) ------------------------------------------------------------------- */

/** A kind of client load. `ready` gets the pointer given to loop_watch(). */
struct load_kind {
	void (*open)(void);  /* connect everything; opened when `under_way` is 0 */
	void (*begin)(void); /* the part that is measured begins */
	void (*ready)(void *client, uint32_t events);
	void (*retry)(void);  /* after each turn: connect again what failed, or NULL */
	bool (*enough)(void); /* whether it may end when its time is over, or NULL */
	void (*end)(void);    /* it ends: begin nothing new; over when `under_way` is 0 */
};

/** Exchanges, or bulk connections, that have neither succeeded nor failed yet. */
extern uint64_t under_way;
/** Set before load_kind.end is called. */
extern bool ending;

uint64_t now_ns(void);
_Noreturn void die(const char *what);
struct sockaddr_in loopback(uint16_t port);
/** Add `fd` to the poller. */
void loop_watch(int fd, uint32_t events, void *client);
/** Run one load, print its result. @return the exit code */
int loop_run(const struct load_kind *kind);

extern const struct load_kind exchange_load, bulk_load;

/* ---- Servers (load_server.c) --------------------------------------------------------------------------------- */

enum service { SERVICE_ECHO, SERVICE_SOURCE, SERVICE_BULK };
/** Serve until stdin ends. */
void server_run(enum service service);

/* ---- What was counted (load_report.c) ------------------------------------------------------------------------ */

extern uint64_t bytes_moved; /* bulk */
void report_outcome(enum outcome outcome);
void report_latency(uint64_t nanoseconds);
enum outcome outcome_of(int error);
/** The part that is measured begins: successes so far are forgotten, failures are not. */
void report_restart(void);
void report_print(double seconds);
/** @return whether something succeeded and nothing failed */
bool report_clean(void);

/* ---- Bytes (load_pattern.c) ---------------------------------------------------------------------------------- */

void pattern_init(void);
/** The bytes of an endless stream from `position` on: CHUNK of them are there. */
const char *pattern_at(uint64_t position);
bool pattern_matches(uint64_t position, const char *bytes, size_t length);

#endif
