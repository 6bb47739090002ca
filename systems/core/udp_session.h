/** Acceptors of udp and their sessions.
 *
 *     socket ─▶ udp_accept.c: read a batch, find each one's session ─▶ udp_session.c: lend it to the reader, or keep it
 *     socket ◀───────────────────────────────────── write, at once ◀── udp_session.c
 *
 * A session is listed in the acceptor's table while the datagrams of its peer are for it; it is not any more when it is
 * over (enough answers, its target has ended): then what the peer sends next begins another.
 *
 * An acceptor that is closed goes on for the sessions that are left, and begins no new ones; the sockets are the
 * listener's, and stay open for all workers until the last session of any has ended: if one of them were missing, the
 * kernel would give other peers to other workers. */
#ifndef SYSTEMS_CORE_UDP_SESSION_H
#define SYSTEMS_CORE_UDP_SESSION_H

#include "endpoints.h"
#include "udp_inbox.h"
#include "udp_table.h"

#include <stdatomic.h>

enum {
	UDP_WAITING_MOST = 256,  /* sessions of an acceptor that wait for `accept` */
	UDP_REFUSED_MOST = 4096, /* refused peers that an acceptor remembers … */
	UDP_REFUSED_MS = 1000,   /* … and for how long */
	UDP_HOLD_OFF_MS = 100,   /* for which no session begins after one that was over the limit of all */
};

/* ---- Listener: udp_listen.c ----------------------------------------------------------------------------------- */

struct udp_listener {
	struct cp_listener base; /* first */
	struct endpoints endpoints;
	char *name;
	struct udp_options options; /* that the sockets were bound with */
	atomic_uint users;          /* the address that is bound, and acceptors */
	atomic_uint taker;          /* 1 + the worker that takes what was sent to several; 0: none has it yet */
};

void udp_listener_unref(struct udp_listener *listener);

/* ---- Acceptor: udp_accept.c ------------------------------------------------------------------------------------ */

struct udp_session;

/** A worker's socket for one endpoint. */
struct udp_slot {
	struct udp_acceptor *acceptor;
	struct cp_watch *watch;
	int fd;
	bool no_segments;
	bool filled;                                /* somebody had to wait since it was last writable */
	uint8_t singles, calm;                      /* batches of one datagram in a row; reads left of single ones */
	struct udp_session *blocked, **blocked_end; /* wait until it is writable, the longest first */
};

/** A peer whose session was refused: what it sends is dropped for a while. */
struct udp_refused {
	struct udp_entry entry; /* first */
	struct udp_refused *next;
	uint64_t until; /* cp_loop_now() */
};

struct udp_acceptor {
	struct cp_acceptor base; /* first */
	struct udp_listener *listener;
	struct udp_worker *worker;
	cp_acceptor_ready *ready; /* NULL: closed */
	void *arg;
	uint32_t users; /* who has opened it, sessions, and calls that are under way */
	bool paused;
	struct udp_table peers;
	struct udp_session *lent;                   /* who reads from the batch now; NULL: nobody, or it has closed */
	struct udp_session *waiting, **waiting_end; /* for `accept` */
	uint32_t waiting_count;
	struct cp_deferred call;                    /* of `ready` */
	struct udp_refused *refused, **refused_end; /* the oldest first */
	uint32_t refused_count;
	struct cp_timer refused_timer;
	uint64_t full_until;        /* cp_loop_now(): no session begins before that */
	struct udp_options options; /* that its sockets have, and new sessions */
	uint32_t slot_count;
	struct udp_slot slots[ENDPOINTS_MAX];
};

struct cp_acceptor *udp_accept_open(struct cp_listener *base, struct cp_loop *loop, cp_acceptor_ready *ready, void *arg,
									struct cp_error *error);
int udp_accept(struct cp_acceptor *base, struct cp_accepted *accepted, struct cp_error *error);
void udp_accept_pause(struct cp_acceptor *base);
void udp_accept_resume(struct cp_acceptor *base);
void udp_accept_close(struct cp_acceptor *base);
void udp_accept_tune(struct cp_acceptor *base, const struct cp_address *address);

void udp_acceptor_unref(struct udp_acceptor *acceptor);
/** Drop what this peer sends, for a while. */
void udp_acceptor_refuse(struct udp_acceptor *acceptor, const struct udp_entry *peer);
/** There are as many sessions as there may be: begin none for a while. Remembering each peer would not help against a
 * flood that comes from ever new ones. */
void udp_acceptor_hold_off(struct udp_acceptor *acceptor);
/** Tell `session` when the socket can be written, behind those who wait already. */
void udp_slot_await(struct udp_slot *slot, struct udp_session *session);
/** It does not want to be told. Allowed for one that does not wait. */
void udp_slot_forget(struct udp_slot *slot, struct udp_session *session);

/* ---- Session: udp_session.c ------------------------------------------------------------------------------------ */

struct udp_session {
	struct cp_stream stream; /* first */
	struct udp_entry entry;
	struct udp_acceptor *acceptor; /* kept */
	struct udp_inbox inbox;
	struct udp_session *next_waiting;                 /* for `accept` */
	struct udp_session *next_blocked, **prev_blocked; /* prev NULL: it is not */
	struct udp_message *message;                      /* that is written in pieces */
	struct cp_deferred call;                          /* of `ready` */
	uint32_t requests, answers;                       /* datagrams from and to the peer */
	uint32_t responses;                               /* 0: any number */
	bool armed : 1;
	bool over : 1; /* nothing more comes and goes; what is in the inbox is still read */
	bool dead : 1; /* closed, but `call` is queued */
};

/** A session for a peer that has none; listed. @return NULL: out of memory */
struct udp_session *udp_session_new(struct udp_acceptor *acceptor, const struct udp_key *key, uint32_t hash);
/** A datagram from its peer: its user is called, or it waits. */
void udp_session_deliver(struct udp_session *session, const struct udp_received *received);
/** Have an empty session read the datagram out of the buffer that it was received in, until the next call. */
void udp_session_lend(struct udp_session *session, const struct udp_received *received);
/** Copy what was lent and not read. */
void udp_session_take_back(struct udp_acceptor *acceptor);
/** End one that nobody has accepted. */
void udp_session_drop(struct udp_session *session);

#endif
