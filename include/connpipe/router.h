/** Routers: map an incoming connection to target addresses.
 *
 * A router has an id, a set of addresses to bind, and `route`. It sees a request (the incoming address, the peer, all
 * facts so far) and answers now or later.
 *
 * Thread: `route` is called on every worker at once; a request belongs to one worker. The id and the addresses are the
 * main task's. */
#ifndef CONNPIPE_ROUTER_H
#define CONNPIPE_ROUTER_H

#include <connpipe/address.h>
#include <connpipe/error.h>
#include <connpipe/loop.h>
#include <connpipe/value.h>

CP_BEGIN_DECLS

struct cp_system;
struct cp_router;
struct cp_request;
struct cp_sniff;

/* ---- Requests: what is known of a connection that wants a route --------------------------------------------- */

/** The incoming address: as bound, with the subport that the client asked for. */
CP_API const struct cp_address *cp_request_address(const struct cp_request *request);
/** Where the connection came in, likewise: also for a router that was asked about another address (">front tcp:…"),
 * which is what cp_request_address() says there. */
CP_API const struct cp_address *cp_request_accepted(const struct cp_request *request);
/** Who connected; behind a PROXY header: who it names. */
CP_API const struct cp_peer *cp_request_peer(const struct cp_request *request);
/** A fact by name (sni, alpn, host, …), or NULL while it is not known. */
CP_API const struct cp_value *cp_request_fact(const struct cp_request *request, const char *name);
/** All facts. Valid until the next one is added. */
CP_API struct cp_fields cp_request_facts(const struct cp_request *request);
/** Add or replace a fact. Name and value are copied. */
CP_API void cp_request_set_fact(struct cp_request *request, const char *name, const struct cp_value *value);
/** Replace the peer (PROXY protocol). */
CP_API void cp_request_set_peer(struct cp_request *request, const struct cp_peer *peer);
/** Where the client connected to; behind a PROXY header: what it names. @return false: unknown, or no IP address */
CP_API bool cp_request_local(const struct cp_request *request, struct cp_peer *local);
/** Replace it. */
CP_API void cp_request_set_local(struct cp_request *request, const struct cp_peer *local);

/** The client asked for a path of the socket (a websocket's): from now on it is part of the incoming address. For
 * connectors and converters while they accept. Paths that are claimed go before claims without one.
 * @return false: no router claims that path here, nothing has changed */
CP_API bool cp_request_set_path(struct cp_request *request, const char *path, size_t length);

/** The first bytes that the client sent, behind a preamble. They are not consumed.
 * @param length  how many are there
 * @param end     set when there will be no more (end of file, time-out or limit); may be NULL */
CP_API const char *cp_request_peek(const struct cp_request *request, size_t *length, bool *end);

/** Memory that lives as long as the request: for answers. */
CP_API struct cp_arena *cp_request_arena(struct cp_request *request);
CP_API struct cp_loop *cp_request_loop(const struct cp_request *request);
/** Where names in addresses are looked up: the generation that the connection belongs to. */
CP_API const struct cp_scope *cp_request_scope(const struct cp_request *request);
/** The router's own pointer while its answer is under way; NULL at first. */
CP_API void *cp_request_state(const struct cp_request *request);
CP_API void cp_request_set_state(struct cp_request *request, void *state);

/** Say why, for `connpipe route`: one line a step. Costs nothing when nobody listens. */
CP_API void cp_request_explain(struct cp_request *request, const char *format, ...) CP_PRINTF(2, 3);
/** Whether somebody listens. */
CP_API bool cp_request_explaining(const struct cp_request *request);

/* ---- Answers ------------------------------------------------------------------------------------------------ */

enum cp_answer_kind {
	CP_ANSWER_TARGETS, /**< connect to one of these */
	CP_ANSWER_ROUTER,  /**< ask that router */
	CP_ANSWER_REFUSE,  /**< refuse, with a reason */
	CP_ANSWER_NONE,    /**< this router knows no route */
	CP_ANSWER_BYTES,   /**< call again when there are more bytes to peek at */
	CP_ANSWER_FAILED,  /**< the router failed; `reason` says how. For answers that come later: route() itself returns
						  an error */
	CP_ANSWER_FACTS,   /**< call again when what `sniff` asks for is settled (sniff.h) */
};

/** Everything pointed to lives as long as the generation, or in the request's arena. */
struct cp_answer {
	enum cp_answer_kind kind;
	const struct cp_address *const *targets; /**< in the order to try */
	uint32_t target_count;
	const char *router;               /**< CP_ANSWER_ROUTER: its id */
	const struct cp_address *address; /**< CP_ANSWER_ROUTER: about this address, or NULL: the same */
	const char *reason;               /**< CP_ANSWER_REFUSE, CP_ANSWER_FAILED: for the log; may be NULL */
	size_t bytes;                     /**< CP_ANSWER_BYTES: how many in all */
	uint64_t timeout_ms;              /**< CP_ANSWER_BYTES: how long at most, from now on; 0: timeouts.preamble, for all
										 answers that leave it at 0 together */
	const struct cp_sniff *sniff;     /**< CP_ANSWER_FACTS */
};

/** Answer a request whose route() returned CP_AGAIN. Once: from the loop, or from inside route() before it returns
 * CP_AGAIN. The request may be gone when this returns. */
CP_API void cp_request_answer(struct cp_request *request, const struct cp_answer *answer);

/* ---- The router --------------------------------------------------------------------------------------------- */

struct cp_router_def {
	uint32_t size; /**< sizeof(struct cp_router_def) */

	/** Decide. @param answer  zeroed; filled when the answer is there now
	 * @return CP_OK; CP_AGAIN: cp_request_answer() follows; else an error, with its words in `error`: the connection
	 * is refused and the words are logged */
	int (*route)(struct cp_router *router, struct cp_request *request, struct cp_answer *answer,
				 struct cp_error *error);

	/** The connection has ended: nobody waits for the answer, and the request will be gone. Needed where route can say
	 * CP_AGAIN. Also called while the request waits for bytes (CP_ANSWER_BYTES,
	 * CP_ANSWER_FACTS), and when the router asks for them again and again, if cp_request_state() is set. */
	void (*cancel)(struct cp_router *router, struct cp_request *request);

	/** What the answer for an incoming address is if it depends on nothing else, for finding loops when checking.
	 * @return CP_OK with `answer` filled, or CP_AGAIN: it depends. NULL: it always depends. */
	int (*follow)(struct cp_router *router, const struct cp_address *address, struct cp_answer *answer);
};

/** Read-only view of a registered router. */
struct cp_router {
	const struct cp_router_def *def;
	struct cp_system *system;
	const char *id; /**< unique in a generation */
	void *arg;      /**< the system's own */
};

CP_END_DECLS
#endif
