/* What the files of the load generator share.
 *
 *     load.c            command line
 *     load_loop.c       one run of a client load: opening, waiting for the word, running, ending
 *     load_exchange.c   clients that exchange messages: churn, kept, idle, stuck
 *     load_bulk.c       clients that move bulk data: up, down
 *     load_wire.c       what clients talk through: a socket, or TLS on it
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
#include <sys/types.h>

enum {
	EVENTS = 256,
	BYTES_MOST = 65536, /* of a message */
	CHUNK = 131072,     /* of bulk data, in one call */
	RECORD = 16384,     /* of TLS, at most; divides CHUNK */
};

enum mode { MODE_CHURN, MODE_KEPT, MODE_IDLE, MODE_STUCK, MODE_UP, MODE_DOWN };

/** How an exchange, or a bulk connection, ended. */
enum outcome { OK, REFUSED, RESET, CUT_SHORT, WRONG_BYTES, WRONG_TLS, OTHER, OUTCOMES };

struct options {
	enum mode mode;
	uint16_t port;
	uint32_t connections;
	double seconds;
	const char *subport;
	size_t bytes;     /* of a message */
	bool server_ends; /* the server closes first, after its answer */
	bool gate;        /* the load begins when a line comes on stdin */
	int tls;          /* 13 or 12: clients speak this version of TLS; 0: none */
	bool resume;      /* each connection of a client after its first resumes the session of the one before */
	bool silent_end;  /* an end without close_notify is one in order */
	const char *cipher, *authority;
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

/* ---- What clients talk through (load_wire.c) ----------------------------------------------------------------- */

struct wire {
	int fd;                         /* -1: none */
	struct ssl_st *ssl;             /* NULL without TLS */
	struct ssl_session_st *session; /* to resume with the next connection */
	bool again;                     /* -R: the session of a connection before this one has to be resumed */
	bool shaken;                    /* the handshake is over */
	bool held;                      /* a part of a record is sent; the same bytes have to come again */
};

struct wire_counts {
	uint64_t full, resumed, tickets;
};
extern struct wire_counts wire_counts;

/** Once, when `options` are known. */
void wire_init(void);
/** Take `fd`, which does not block. The handshake happens in the first calls that send or receive. */
void wire_open(struct wire *w, int fd);
/** As recv() and send() that do not wait; see load_wire.c for what errno says about TLS. */
ssize_t wire_receive(struct wire *w, void *bytes, size_t length);
ssize_t wire_send(struct wire *w, const void *bytes, size_t length);
/** Whether something was received that the poller does not tell of. */
bool wire_has_more(const struct wire *w);
/** No more will be sent. Not while `held`. @return false when it has to be called again */
bool wire_end(struct wire *w);
/** `in_order`: nothing went wrong with it. */
void wire_close(struct wire *w, bool in_order);

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
