/** The websocket part of the core system (RFC 6455), on libwebsockets.
 *
 *     ws.c          what is registered, the phases
 *     settings.c    [connpipe.ws]: the options of each address
 *     connector.c   ws, wss, websocket: binding (over tcp's listeners), connecting
 *     converter.c   "ws(/path)+" over any stream; both sides' openings: from a stream below to a websocket
 *     upgrade.c     the request for an upgrade: reading it, judging it, refusing it
 *     tunnel.c      CONNECT through an HTTP proxy
 *     bridge.c      a descriptor for a stream that cannot give away its own (TLS, compression, …)
 *     stream.c      a websocket as a cp_stream
 *     engine.c      libwebsockets' contexts, one for each worker
 *     evlib.c, evlib_loop.c   libwebsockets' event loop on ours
 *
 *     accept:   stream below ─▶ head (upgrade.c) ─▶ path, facts ─▶ descriptor ─▶ ws_accept() ─▶ stream
 *     connect:  stream below ─▶ descriptor ─▶ ws_connect() ─▶ stream
 *
 * libwebsockets owns a descriptor and nothing below it. The usual stack, a socket with nothing above it but PROXY
 * headers, gives its own away (cp_stream_detach()); any other gets one end of a socket pair, with bridge.c between the
 * other end and the stream. So there is one TLS for everything, with its profiles.
 *
 * libwebsockets sees a request that was read and judged here: ws_accept() hands it the few fields that it needs. */
#ifndef SYSTEMS_WS_H
#define SYSTEMS_WS_H

#include <connpipe/connector.h>
#include <connpipe/converter.h>
#include <connpipe/settings.h>
#include <connpipe/system.h>

#include <stdbool.h>
#include <stdint.h>

struct ws_engine;
struct ws_settings;

/** The subprotocol that gives a websocket a half close: an empty text message ends one direction. */
#define WS_HALF_CLOSE_PROTOCOL "connpipe"

enum {
	WS_HEAD_MOST = 16384, /* of a request for an upgrade, and of an answer to one */
	WS_KEY_LENGTH = 24,
	WS_REFUSAL_ROOM = 2048, /* for any answer that refuses */
};

/** One load of the part: the `arg` of its connectors and converters. */
struct ws_part {
	struct cp_system *core;
	const struct cp_settings *table; /* [connpipe.ws], or NULL; only while loading */
	struct ws_settings *settings;    /* NULL: nothing is set anywhere */
	struct cp_arena *arena;
	const struct cp_address *tcp;   /* some address of tcp; found in link */
	const struct cp_converter *tls; /* for wss, likewise; NULL: it is not there */
	bool started;                   /* workers have engines; not in a load that is only a check */
	struct cp_error broken;         /* why they have none, or CP_OK */
};

extern const struct cp_connector_def ws_connector;
extern const struct cp_converter_def ws_converter;

/** Fields of ws, in their order. */
enum { WS_ADDR, WS_PORT, WS_PATH, WS_MULTIPLEX, WS_FIELDS };

/* ---- Options of an address (settings.c) --------------------------------------------------------------------- */

/** A list of texts. */
struct ws_texts {
	const char *const *at;
	uint32_t count;
};

/** What is set for an address. Zero everywhere: what is there without settings, but for ping_ms and pong_ms. */
struct ws_options {
	struct ws_texts origins;      /* bind: who may (exact, or `*.example.org` behind the scheme); none: everybody */
	struct ws_texts hosts;        /* bind: which Host is served, without port; none: every */
	struct ws_texts subprotocols; /* bind: accepted; connect: offered; the best first. Without WS_HALF_CLOSE_PROTOCOL */
	struct ws_texts facts;        /* bind: fields of the request that become facts; lower case */
	bool no_half_close;           /* WS_HALF_CLOSE_PROTOCOL is neither accepted nor offered */
	const char *headers;          /* extra lines of the answer or the request, each with CRLF; or NULL */
	const char *host;             /* connect: Host; NULL: host and port of the address */
	const char *origin;           /* connect: Origin; NULL: none */
	const struct cp_address *proxy; /* connect: an HTTP proxy to go through: any address of bytes (cp_connect_start()
									   connects to it), mostly tcp:host:port; NULL: none */
	const char *proxy_authorization; /* connect: value of Proxy-Authorization, or NULL */
	const struct cp_cidr *trusted;  /* bind: whose X-Forwarded-For is believed */
	uint32_t trusted_count;
	bool deflate;                 /* permessage-deflate (RFC 7692): accepted or offered */
	uint64_t ping_ms;             /* a ping when nothing came for so long; 0: none. Default 30 s */
	uint64_t pong_ms;             /* and it is broken if nothing comes for so long behind it. Default 20 s */
	uint64_t message_most;        /* bytes of one message from the peer; longer: close 1009. 0: any length */
};

/** Read [connpipe.ws]. What is wrong goes to the report of the load. Main task, in link.
 * @return NULL: nothing is set anywhere */
struct ws_settings *ws_settings_read(struct cp_system *core, const struct cp_settings *table);
void ws_settings_free(struct ws_settings *settings);
/** The options of an address (with its path, without its multiplex), never NULL. They live as long as the load. Any
 * thread. @param path  the path asked for: a setting for the address with that path goes before one for the socket */
const struct ws_options *ws_settings_find(const struct ws_settings *settings, const struct cp_address *address,
										  const char *path, size_t length);

/* ---- The request for an upgrade (upgrade.c): RFC 6455 4.2.1, RFC 9110, RFC 9112 ------------------------------- */

struct ws_text {
	const char *at; /* into the head, or NULL: not there */
	size_t length;
};

/** A request that was read. Texts point into the head. */
struct ws_upgrade {
	size_t length;         /* of the head, with its blank line */
	struct ws_text method, target;
	struct ws_text path;       /* without the query, as sent: with `%XX`, each a valid one. "/" if the target has none */
	struct ws_text query;      /* behind the "?" */
	struct ws_text host;       /* of Host without the port, as sent; IPv6 with its brackets */
	struct ws_text origin, forwarded_for, user_agent; /* forwarded_for: of the last line */
	struct ws_text fields;     /* all lines behind the first, each with CRLF: for ws_upgrade_field() */
	struct ws_text key;        /* WS_KEY_LENGTH characters of base64 */
	struct ws_text protocols;  /* Sec-WebSocket-Protocol, its first line: for the log; choosing looks at all of them */
	bool wants_deflate;        /* some offer of permessage-deflate can be accepted by libwebsockets as it stands */
	struct ws_text extensions; /* Sec-WebSocket-Extensions: that offer */
};

/** Why a request is not one for a websocket, as an HTTP answer. */
struct ws_refusal {
	int status; /* 400, 403, 404, 405, 426 (a plain GET among others: it gets a page that helps), 431, 503, 505 */
	const char *reason; /* a phrase for the body and the log, static */
	bool no_body; /* the method is HEAD: the answer ends behind its head */
};

enum ws_head { WS_HEAD_MORE, WS_HEAD_DONE, WS_HEAD_REFUSED };

/** Read a head as far as it is there. Nothing is kept between calls: call again with more bytes.
 * @return WS_HEAD_DONE: `upgrade` is filled, it is a valid request; WS_HEAD_REFUSED: `refusal` is */
enum ws_head ws_upgrade_read(const char *bytes, size_t length, struct ws_upgrade *upgrade, struct ws_refusal *refusal);
/** The value of a field of a request that was read. @param name  in any case  @param after  NULL: its first line; else
 * what an earlier call returned: the line behind that one. @return at NULL: there is none */
struct ws_text ws_upgrade_field(const struct ws_upgrade *upgrade, const char *name, const struct ws_text *after);
/** What the options of the address say against a valid request (403, 404). @return whether it may go on */
bool ws_upgrade_allowed(const struct ws_upgrade *upgrade, const struct ws_options *options, struct ws_refusal *refusal);
/** Choose the subprotocol: the first of ours that the client offers ("binary" if none are set); WS_HALF_CLOSE_PROTOCOL
 * before all, if allowed.
 * @return its name, or NULL: none */
const char *ws_upgrade_protocol(const struct ws_upgrade *upgrade, const struct ws_options *options);
/** The whole answer to a refused request; the connection is closed behind it.
 * @param room  WS_REFUSAL_ROOM at least  @return its length */
size_t ws_refusal_print(const struct ws_refusal *refusal, char *buffer, size_t room);

/* ---- Through an HTTP proxy (tunnel.c): RFC 9110 9.3.6 ---------------------------------------------------------- */

struct ws_tunnel;
/** @param stream  the same one, or one that is put before it for bytes that came behind the proxy's answer; NULL:
 *                `error` says why, and it was closed */
typedef void ws_tunnel_done(struct cp_stream *stream, const struct cp_error *error, void *arg);

/** Ask the proxy at the other end of `lower` for a connection to host and port. Time is the caller's to keep.
 * @return CP_AGAIN: `done` is called once, from the loop; else `error` is filled and `lower` is still the caller's */
int ws_tunnel_start(struct cp_stream *lower, const char *host, uint16_t port, const char *authorization,
					ws_tunnel_done *done, void *arg, struct ws_tunnel **out, struct cp_error *error);
/** Give up; closes the stream. */
void ws_tunnel_cancel(struct ws_tunnel *tunnel);

/* ---- Descriptors (bridge.c) ----------------------------------------------------------------------------------- */

/** A descriptor that reads and writes what the stream does: its own, or a socket pair's, behind which bytes are copied
 * both ways, bounded, with ends and breaks passed on, until both are closed.
 * @param first, length  bytes that were read ahead: they come first
 * Ownership: takes `lower` if it succeeds. @return -1 with `error` filled */
int ws_bridge(struct cp_stream *lower, const void *first, size_t length, struct cp_system *owner,
			  struct cp_error *error);
/** What is at the end of this descriptor is broken off: if there is a bridge behind it, it waits for nobody any more,
 * and resets its stream. The descriptor stays the caller's. On the thread of ws_bridge(). */
void ws_bridge_break(int fd);

/* ---- libwebsockets (engine.c, stream.c, evlib*.c) -------------------------------------------------------------- */

/** How a websocket behaves that is open. Copied. */
struct ws_behaviour {
	bool half_close; /* WS_HALF_CLOSE_PROTOCOL was agreed (accepting) or is offered (connecting) */
	bool deflate;    /* likewise */
	uint64_t ping_ms, pong_ms, message_most;
};

/** Contexts are made on the main thread, one for each worker, by the first load of the process, and stay until the last
 * load's worker_stop: libwebsockets keeps things of its own in the process, and making one takes long. */
int ws_engines_start(struct cp_system *core, struct cp_error *error);
/** The load uses the worker's engine, and not any more. On the worker. */
int ws_engine_use(struct cp_loop *loop, struct cp_error *error);
void ws_engine_leave(struct cp_loop *loop);

/** X(event, name, help): counters of the process. */
#define WS_EVENTS(X)                                                                          \
	X(WS_ACCEPTED, "ws_accepted", "Websockets that clients have opened.")                     \
	X(WS_REFUSED, "ws_refused", "Requests for websockets that were answered with a refusal.") \
	X(WS_CONNECTED, "ws_connected", "Websockets opened to targets.")                          \
	X(WS_UNANSWERED, "ws_pings_unanswered", "Websockets broken since a ping was not answered.")

enum ws_event {
#define WS_EVENT_ENUM(event, name, help) event,
	WS_EVENTS(WS_EVENT_ENUM)
#undef WS_EVENT_ENUM
		WS_EVENT_COUNT
};

/** Count an event. On the worker. */
void ws_count(struct cp_loop *loop, enum ws_event event);

/** Become the accepting side of a websocket on a connected descriptor whose request was read up to its blank line:
 * answers 101 and is open.
 * @param headers     extra lines of the answer, each with CRLF (Sec-WebSocket-Protocol among them); or NULL
 * @param extensions  the client's offer of permessage-deflate, if it is accepted; at NULL: none
 * Ownership: takes `fd`, also if it fails. @return NULL with `error` filled */
struct cp_stream *ws_accept(struct cp_loop *loop, int fd, const struct ws_text *key, const char *headers,
							const struct ws_text *extensions, const struct ws_behaviour *behaviour,
							struct cp_system *owner, struct cp_error *error);

/** What to ask for. Read before ws_connect() returns. */
struct ws_request {
	const char *path;      /* with its query; "/" at least */
	const char *host;      /* the Host field */
	const char *origin;    /* or NULL */
	const char *protocols; /* Sec-WebSocket-Protocol, comma separated; or NULL */
	const char *headers;   /* extra lines, each with CRLF; or NULL */
};

struct ws_connecting;
typedef void ws_connected(struct cp_stream *stream, const struct cp_error *error, void *arg);

/** Become the connecting side on a connected descriptor. Time is the caller's to keep.
 * Ownership: takes `fd`, also if it fails. @return CP_AGAIN: `done` is called once, from the loop; else `error` is
 * filled */
int ws_connect(struct cp_loop *loop, int fd, const struct ws_request *request, const struct ws_behaviour *behaviour,
			   struct cp_system *owner, ws_connected *done, void *arg, struct ws_connecting **out,
			   struct cp_error *error);
void ws_connect_cancel(struct ws_connecting *connecting);

/* ---- The openings (converter.c) ------------------------------------------------------------------------------- */

/** Accept a websocket on open->lower. @param path  the only one that is served (the converter's argument); NULL: those
 * that routers claim. Returns as cp_converter_def.accept; open->state is its own until it has ended. */
int ws_open_accept(const struct ws_part *part, struct cp_open *open, const char *path);
/** Ask for one on open->lower. */
int ws_open_connect(const struct ws_part *part, struct cp_open *open, const char *path);
void ws_open_cancel(struct cp_open *open);

#endif
