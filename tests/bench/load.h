/* What the files of the load generator share.
 *
 *     load.c            command line
 *     load_loop.c       one run of a client load: opening, waiting for the word, running, ending
 *     load_exchange.c   clients that exchange messages: churn, kept, idle, stuck
 *     load_bulk.c       clients that move bulk data: up, down
 *     load_wire.c       what clients talk through: a socket, or TLS on it, or a websocket on either
 *     load_wire_ws.c    the websocket of those
 *     load_websocket.c  frames and handshakes of websockets, both sides
 *     load_flow.c       clients that exchange datagrams: kept -u
 *     load_flow_bulk.c  clients that move many datagrams: up -u, down -u
 *     load_segments.c   those datagrams: numbered, in aggregates, acknowledged
 *     load_server.c     what they talk to: echo, source, bulk
 *     load_server_ws.c  echo -w
 *     load_server_udp.c echo -u, bulk -u
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
enum outcome { OK, REFUSED, RESET, CUT_SHORT, WRONG_BYTES, WRONG_TLS, WRONG_WS, OTHER, OUTCOMES };

struct options {
	enum mode mode;
	uint16_t port;
	uint32_t connections;
	double seconds;
	const char *subport;
	size_t bytes;     /* of a message */
	bool server_ends; /* the server closes first, after its answer */
	bool gate;        /* the load begins when a line comes on stdin */
	bool datagrams;   /* UDP */
	bool websocket;   /* messages are those of a websocket */
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

extern const struct load_kind exchange_load, bulk_load, flow_load, flow_bulk_load;

/* ---- What clients talk through (load_wire.c) ----------------------------------------------------------------- */

struct wire {
	int fd;                         /* -1: none */
	struct ssl_st *ssl;             /* NULL without TLS */
	struct ssl_session_st *session; /* to resume with the next connection */
	struct websocket *ws;           /* NULL without -w */
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
/** Take `fd`, which does not block. Handshakes happen in the first calls that send or receive. */
void wire_open(struct wire *w, int fd);
/** As recv() and send() that do not wait; see load_wire.c for what errno says. What one call sends is a message of a
 * websocket, and until all of it is sent the call fails with EAGAIN: the same bytes have to come again. */
ssize_t wire_receive(struct wire *w, void *bytes, size_t length);
ssize_t wire_send(struct wire *w, const void *bytes, size_t length);
/** Whether something was received that the poller does not tell of. */
bool wire_has_more(const struct wire *w);
/** No more will be sent. Not while something is partly sent. @return false when it has to be called again */
bool wire_end(struct wire *w);
/** `in_order`: nothing went wrong with it. */
void wire_close(struct wire *w, bool in_order);

/* Inside: the stream below a websocket, and the websocket (load_wire_ws.c). */
ssize_t wire_stream_receive(struct wire *w, void *bytes, size_t length);
ssize_t wire_stream_send(struct wire *w, const void *bytes, size_t length);
struct websocket *wire_ws_new(void);
ssize_t wire_ws_receive(struct wire *w, void *bytes, size_t length);
ssize_t wire_ws_send(struct wire *w, const void *bytes, size_t length);
bool wire_ws_end(struct wire *w);

/* ---- Websockets (load_websocket.c) --------------------------------------------------------------------------- */

enum {
	WS_HEADER_MOST = 14, /* of a frame */
	WS_CONTROL_MOST = 125,
	WS_HEAD_MOST = 512, /* of a request or an answer */
};
enum ws_opcode { WS_CONTINUATION, WS_TEXT, WS_BINARY, WS_CLOSE = 8, WS_PING, WS_PONG };

/** Takes frames apart, in whatever pieces they come. */
struct ws_reader {
	unsigned char header[WS_HEADER_MOST];
	size_t have;             /* of the header; 0 when the next frame begins */
	uint64_t left, position; /* of the payload: still to come, and where we are in it */
	enum ws_opcode opcode;
	unsigned char key[4];
	bool masked, in_payload;
};

/** What ws_next() found. */
enum ws_found {
	WS_NOTHING, /* it has come to the end of the bytes */
	WS_FRAME,   /* a frame begins: `opcode`, `left` bytes */
	WS_PAYLOAD, /* a piece of its payload */
	WS_WRONG,
};

/** @param at  goes forward, up to `end`  @param piece, length  a piece of payload, unmasked where it is */
enum ws_found ws_next(struct ws_reader *reader, char **at, const char *end, char **piece, size_t *length);
/** Write the header of a frame that is a whole message; with a key if it comes from a client. @return its length */
size_t ws_header(char *header, enum ws_opcode opcode, size_t length, const unsigned char *key);
/** Mask or unmask; `position` is that of the first byte in its frame. */
void ws_mask(char *to, const char *from, size_t length, const unsigned char *key, uint64_t position);
/** The answer to a key. `accept` has room for 29 characters. */
void ws_accept_of(const char *key, size_t length, char *accept);

/* ---- Bulk datagrams (load_segments.c) ------------------------------------------------------------------------ */

enum {
	SEGMENT = 1400, /* bytes of a datagram */
	BATCH = 44,     /* datagrams that are sent as one aggregate, and acknowledged at once */
	ROOM = 4 << 20, /* of a socket's buffers, if that is permitted */
};

/** What both sides say beside the data, by its kind:
 *
 *     'u' 'd'   a flow begins that goes up, or down; the server gives it back
 *     'g'       down: send
 *     'a'       datagrams before `number` came, or will not
 *     'r'       the same, and what was sent since then is lost
 *     'e'       it is over; the server answers with the number that it received, or sent
 *     'x'       what came was wrong */
struct word {
	char kind;
	uint32_t flow;
	uint64_t number;
};

/** One direction of a flow, at either of its ends. */
struct segments {
	uint32_t flow;         /* makes its bytes different from other flows' */
	uint64_t next;         /* the number of the next datagram */
	uint64_t acknowledged; /* all before this one */
	uint64_t received;
};

/** Called for each datagram that came: a word, or data. */
typedef void segment_function(void *arg, const struct sockaddr_in *from, const char *bytes, size_t length);

/** A UDP socket with large buffers that takes aggregates; bound to the port, connected to it, or (0) bound to any. */
int segments_socket(uint16_t bound, uint16_t connected);
/** Send a batch as one aggregate, if the one before is acknowledged. `to`: NULL for a connected socket. */
void segments_send(int fd, const struct sockaddr_in *to, struct segments *s);
/** Receive what is there. @return 0, or the socket's error */
int segments_receive(int fd, segment_function *each, void *arg);
/** Compare a datagram. @return false if it is not one of this flow that may come now */
bool segments_check(struct segments *s, const char *bytes, size_t length);
/** Whether it is time to acknowledge. If so, that is done. */
bool segments_acknowledge(struct segments *s, struct word *word);
void word_send(int fd, const struct sockaddr_in *to, struct word word);

/* ---- Servers (load_server*.c) -------------------------------------------------------------------------------- */

enum service { SERVICE_ECHO, SERVICE_SOURCE, SERVICE_BULK };
/** Serve until stdin ends. */
void server_run(enum service service);

/** One connection. */
struct served {
	int fd;
	bool ended;        /* its end of file was seen */
	char direction;    /* bulk: 0 until greeted, then 'u', 'd', or 'g' once it may send */
	uint64_t position; /* bytes of it moved so far */
	size_t length;     /* echo: what could not be written yet */
	char *held;
	struct ws_served *ws;
};

struct server_counts {
	uint64_t accepted, received, sent, failed;
};
extern struct server_counts server_counts;

void served_close(struct served *s);
void served_fail(struct served *s);
/** Send, and keep what could not be sent. `bytes` may lie in s->held. @return false when the connection is broken */
bool served_send(struct served *s, const char *bytes, size_t length);
/** Say on which port we are. */
void server_announce(int fd);
/** A line on stdin. @return false at the end of it */
bool server_asked(void);
void serve_websocket(struct served *s, uint32_t events);
/** As server_run(). */
void server_run_datagrams(enum service service);

/* ---- What was counted (load_report.c) ------------------------------------------------------------------------ */

extern uint64_t bytes_moved; /* bulk */
void report_outcome(enum outcome outcome);
void report_latency(uint64_t nanoseconds);
/** Datagrams that did not arrive, in either direction. */
void report_lost(uint64_t count);
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
