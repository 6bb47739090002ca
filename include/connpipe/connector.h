/** Connectors: know one kind of address; bind to one (accept connections) and connect to one.
 *
 * A connector describes its fields; with fields named after the shared grammar it needs no parser of its own. What it
 * cannot do (bind, connect) it leaves NULL, and using it for that is an error when the configuration is checked.
 *
 * Thread: parse, format and bind are called by the main task or any worker; connect, cancel and an acceptor's calls
 * on the worker they are for, on several workers at once. */
#ifndef CONNPIPE_CONNECTOR_H
#define CONNPIPE_CONNECTOR_H

#include <connpipe/address.h>
#include <connpipe/error.h>
#include <connpipe/open.h>
#include <connpipe/stream.h>

CP_BEGIN_DECLS

struct cp_system;
struct cp_connector;

/* ---- Fields ------------------------------------------------------------------------------------------------- */

/** What part of the text a field is, for the shared parser, and what it means for routing. */
enum cp_field_role {
	CP_ROLE_HOST,      /**< before the first ":"; shorthands and brackets; says which socket */
	CP_ROLE_PORT,      /**< the number behind it; says which socket */
	CP_ROLE_PATH,      /**< from "/" on; several paths may share a socket */
	CP_ROLE_MULTIPLEX, /**< behind "!": the subport; several share a socket */
	CP_ROLE_OTHER,     /**< only `parse` and `format` know; says which socket */
};

struct cp_field_def {
	const char *name;
	enum cp_kind kind;
	enum cp_field_role role;
	bool optional; /**< may be null */
};

/* ---- Accepting ---------------------------------------------------------------------------------------------- */

struct cp_listener;
struct cp_acceptor;

/** One accepted connection. */
struct cp_accepted {
	struct cp_stream *stream;
	struct cp_peer peer;
	/** Where the peer connected to; family 0: what the stream's descriptor says, if it has one. */
	struct cp_peer local;
	/** Set by the caller before it calls `accept`: the loop of the worker that the connection is for. It may be another
	 * one than the acceptor's: connections go to the worker that has the least to do. A stream for it, made on the
	 * acceptor's thread, must do nothing with that loop before it is first used: cp_stream_from_fd() suits. A connector
	 * whose streams are not like that makes them on the acceptor's loop, and the connection stays on that worker. */
	struct cp_loop *loop;
};

/** Called when there may be connections to take: at least once after each came, and again while there are more. */
typedef void cp_acceptor_ready(struct cp_acceptor *acceptor, void *arg);

struct cp_listener_ops {
	uint32_t size;

	/** Begin to take connections on one worker. Called on that worker. @return NULL with `error` filled; the caller
	 * tries again later */
	struct cp_acceptor *(*open)(struct cp_listener *listener, struct cp_loop *loop, cp_acceptor_ready *ready, void *arg,
								struct cp_error *error);

	/** Take one connection. Thread: the acceptor's worker, also where `accepted->loop` is another one's.
	 * @param accepted  zeroed, but for `loop`
	 * @return CP_OK; CP_AGAIN: none for now; CP_EMFILE: no descriptor or memory for it, it waits on; CP_ERESET: that
	 * one failed, go on with the next; others: the socket is broken, close and open again */
	int (*accept)(struct cp_acceptor *acceptor, struct cp_accepted *accepted, struct cp_error *error);

	/** Stop and resume calling `ready`. What comes meanwhile waits in the kernel. */
	void (*pause)(struct cp_acceptor *acceptor);
	void (*resume)(struct cp_acceptor *acceptor);

	/** Stop for good on this worker. The caller has taken what was waiting, as far as it wants. Frees the acceptor. */
	void (*close)(struct cp_acceptor *acceptor);

	/** Give the address back and free the listener; every acceptor was closed before. Main task. */
	void (*unbind)(struct cp_listener *listener);

	/** The address as it is now bound (port 0 became a number), as canonical text without converters. Any thread. */
	size_t (*name)(const struct cp_listener *listener, char *buffer, size_t room);

	/** Duplicates of the listening sockets, for the `adopt` of a later load of the same code. Main task, while workers
	 * accept. They are the caller's. NULL: they cannot be handed over.
	 * @return how many there are; as many as there is `room` for are in `fds`. 0: it failed */
	uint32_t (*sockets)(const struct cp_listener *listener, int *fds, uint32_t room);

	/** A later load of the same code binds the address, too, and the listener goes on: whether it could be as `address`
	 * is set there. Changes nothing yet: the load may still fail. Main task, while workers accept. NULL, and `tune`
	 * too: what is set for an address that stays bound does not change.
	 * @return CP_OK; another code with `error` filled: the load is refused */
	int (*check_tune)(struct cp_listener *listener, const struct cp_address *address, struct cp_error *error);

	/** Have the acceptor's sockets be as `address` is set, by its connector, which is of the load that is in use from
	 * now on; what an earlier load has set and this one has not goes back to what it is without settings. Called on the
	 * worker when it goes over, and behind each `open`. */
	void (*tune)(struct cp_acceptor *acceptor, const struct cp_address *address);
};

/** A bound address; an implementation has it as its first member. Lives while any generation binds the address. */
struct cp_listener {
	const struct cp_listener_ops *ops;
	struct cp_connector *connector;
};

/** Its part on one worker; an implementation has it as its first member. */
struct cp_acceptor {
	struct cp_listener *listener;
};

/* ---- The connector ------------------------------------------------------------------------------------------ */

enum {
	CP_CONNECTOR_MESSAGES = 1u, /**< its streams keep message boundaries */
	CP_CONNECTOR_ANY = 2u,      /**< its streams suit both bytes and messages (discard, reject, ws) */
	/** What is accepted are sessions: one for each peer, without a beginning and an end that the network knows of
	 * (udp). limits.udp_sessions counts them, timeouts.udp_idle ends them. */
	CP_CONNECTOR_SESSIONS = 4u,
	CP_CONNECTOR_REFUSES = 8u, /**< connecting always fails: being sent there is a refusal (reject) */
};

struct cp_connector_def {
	uint32_t size;              /**< sizeof(struct cp_connector_def) */
	const char *const *aliases; /**< ends with NULL; at least one */
	unsigned flags;             /**< CP_CONNECTOR_* */
	const struct cp_field_def *fields;
	uint32_t field_count;
	const char *syntax; /**< for help and errors: `tcp:host:port!multiplex` */

	/** Fields from the rest of the text. NULL: the shared parser, by the roles of the fields.
	 * @param rest    what is behind the connector's ":", still escaped (cp_part_unescape)
	 * @param values  one for each of `fields`, null at first. To be filled with a value of the field's kind (what is
	 * text becomes one by cp_value_convert()); with CP_PARSE_TEMPLATE in rest->flags, text that has a `{name}` stays a
	 * string. Strings in `arena`. Whether all that must be there is there is checked behind it.
	 * @return CP_OK, or an error with `error` filled, best by cp_part_error() */
	int (*parse)(struct cp_connector *connector, const char *alias, const struct cp_part *rest, struct cp_arena *arena,
				 struct cp_value *values, struct cp_error *error);

	/** The rest of the canonical text, everything escaped. NULL: by the roles of the fields.
	 * @return the length that was needed */
	size_t (*format)(const struct cp_address *address, char *buffer, size_t room);

	/** Whether the fields make sense together, beyond kind and presence; relative paths are made whole here. NULL: yes.
	 * Called whenever an address is made, from text or from fields. @param values  may be changed */
	int (*check)(struct cp_connector *connector, const char *alias, struct cp_arena *arena, struct cp_value *values,
				 struct cp_error *error);

	/** Bind: take the address for this process alone, for `workers` workers, without accepting yet. Main task.
	 * NULL: addresses of this connector cannot be bound. */
	int (*bind)(struct cp_connector *connector, const struct cp_address *address, uint32_t workers,
				struct cp_listener **out, struct cp_error *error);

	/** What can be said against binding without trying, so that `connpipe check` says it. Main task. NULL: nothing. */
	int (*check_bind)(struct cp_connector *connector, const struct cp_address *address, struct cp_error *error);

	/** Connect. Makes the connector's own stream; converters are put on it by the caller.
	 * @return CP_OK: open->stream is there; CP_AGAIN: cp_open_done() follows; else open->error is filled.
	 * NULL: addresses of this connector cannot be connected to. */
	int (*connect)(struct cp_connector *connector, struct cp_open *open);

	/** Give up an opening that returned CP_AGAIN: nothing is called any more. Needed where connect can say CP_AGAIN. */
	void (*cancel)(struct cp_connector *connector, struct cp_open *open);

	/** Bind an address that is bound already, by the listener of an earlier load of this code (systems that are loaded
	 * from files are loaded anew with each reload): make a listener of that one's sockets. Until all workers have gone
	 * over, connections are taken by the earlier one, which then closes its own duplicates: none is lost. Main task.
	 * NULL: the earlier listener stays, and with it the earlier code, as long as the address is bound.
	 * @param fds  what the earlier listener's `sockets` gave; the connector's, also if this fails */
	int (*adopt)(struct cp_connector *connector, const struct cp_address *address, uint32_t workers, const int *fds,
				 uint32_t count, struct cp_listener **out, struct cp_error *error);

	/** What a stream that a listener has accepted goes through before it is one of this connector's, below the
	 * converters of the address: as a converter's accept, with open->lower; timeouts.handshake holds for it, too, and
	 * `cancel` gives it up. NULL: nothing. */
	int (*handshake)(struct cp_connector *connector, struct cp_open *open);

	/** CP_CONNECTOR_SESSIONS: whether a reload ends the sessions of `address` that are there, so that what comes next
	 * is routed anew. Called on each worker when it goes over, with the address as the new load has it. NULL: no; a
	 * session then goes on, unless its route is gone. */
	bool (*reroutes)(const struct cp_address *address);
};

/** Read-only view of a registered connector. Members are set by cp_register_connector(). */
struct cp_connector {
	const struct cp_connector_def *def;
	struct cp_system *system;
	void *arg; /**< the system's own */
	/** One for each alias, as canonical text writes it: qualified where another system has the alias too. Set by the
	 * scope; NULL outside of one: aliases are written as they are. */
	const char *const *names;
};

/** Whether what it accepts goes through a handshake of its own, which may find out facts. */
static inline bool cp_connector_has_handshake(const struct cp_connector *connector)
{
	const struct cp_connector_def *def = connector->def;
	return def->size >= offsetof(struct cp_connector_def, handshake) + sizeof(def->handshake) && def->handshake;
}

/** What a stream of `address` carries, all its converters on: bytes or messages, or whatever is wanted of it.
 * @param messages  set: it keeps message boundaries
 * @param any       set: it suits both (CP_CONNECTOR_ANY); `messages` is false then
 * @return CP_OK, or CP_EINVAL with `error` filled: a converter does not fit what is below it. Any thread. */
CP_API int cp_address_carries(const struct cp_address *address, bool *messages, bool *any, struct cp_error *error);

CP_END_DECLS
#endif
