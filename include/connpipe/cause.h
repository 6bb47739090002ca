/** Why a connection was closed: one enum for the log, the counters and the layers that can tell their peer. */
#ifndef CONNPIPE_CAUSE_H
#define CONNPIPE_CAUSE_H

#include <connpipe/abi.h>

#include <stdbool.h>

CP_BEGIN_DECLS

/** X(name, text, meaning): the text is what logs and counters (`closed_<text>`) show. */
#define CP_CAUSES(X)                                                                                                   \
	X(CP_CAUSE_NONE, "none", "still open")                                                                             \
	X(CP_CAUSE_DONE, "done", "both ends said end of file and everything was delivered")                                \
	X(CP_CAUSE_CLIENT_RESET, "client_reset", "the client's side was reset or broke")                                   \
	X(CP_CAUSE_TARGET_RESET, "target_reset", "the target's side was reset or broke")                                   \
	X(CP_CAUSE_CLIENT_GONE, "client_gone", "the client left before the way to a target was open")                      \
	X(CP_CAUSE_CLIENT_PROTOCOL, "client_protocol", "the client broke the protocol of a layer")                         \
	X(CP_CAUSE_TARGET_PROTOCOL, "target_protocol", "the target broke the protocol of a layer")                         \
	X(CP_CAUSE_MALFORMED_PREAMBLE, "malformed_preamble", "the preamble's magic matched, the rest did not")             \
	X(CP_CAUSE_HANDSHAKE_TIMEOUT, "handshake_timeout", "the client's layers took longer than timeouts.handshake")      \
	X(CP_CAUSE_NO_ROUTE, "no_route", "no route for this connection")                                                   \
	X(CP_CAUSE_REFUSED_BY_ROUTER, "refused_by_router", "the router refused it, with a reason")                         \
	X(CP_CAUSE_ROUTER_FAILED, "router_failed", "the router failed, or asked one router after another without end")     \
	X(CP_CAUSE_CONNECT_REFUSED, "connect_refused", "the last target tried refused the connection")                     \
	X(CP_CAUSE_CONNECT_UNREACHABLE, "connect_unreachable", "the last target tried could not be reached")               \
	X(CP_CAUSE_CONNECT_TIMEOUT, "connect_timeout", "the last target tried took longer than timeouts.connect")          \
	X(CP_CAUSE_CONNECT_RESOLVE, "connect_resolve", "the last target's name does not resolve")                          \
	X(CP_CAUSE_CONNECT_FAILED, "connect_failed", "the last target tried failed otherwise")                             \
	X(CP_CAUSE_IDLE_TIMEOUT, "idle_timeout", "no byte either way for timeouts.idle (sessions: timeouts.udp_idle)")     \
	X(CP_CAUSE_HALF_CLOSE_TIMEOUT, "half_close_timeout", "one direction ended, the other idle for timeouts.half_close")\
	X(CP_CAUSE_CONNECTION_LIMIT, "connection_limit", "over limits.connections")                                        \
	X(CP_CAUSE_SESSION_LIMIT, "session_limit", "over limits.udp_sessions")                                             \
	X(CP_CAUSE_SOURCE_LIMIT, "source_limit", "over limits.connections_per_source")                                     \
	X(CP_CAUSE_SOURCE_RATE, "source_rate", "over limits.connect_rate_per_source")                                      \
	X(CP_CAUSE_REROUTED, "rerouted", "a session that a reload ended: its route is gone, or it asked for that")         \
	X(CP_CAUSE_KILLED, "killed", "by `connpipe ctl kill`")                                                             \
	X(CP_CAUSE_SHUTDOWN, "shutdown", "the process stops")                                                              \
	X(CP_CAUSE_NO_RESOURCES, "no_resources", "out of descriptors or memory")

enum cp_cause {
#define CP_CAUSE_ENUM(name, text, meaning) name,
	CP_CAUSES(CP_CAUSE_ENUM)
#undef CP_CAUSE_ENUM
	CP_CAUSE_COUNT
};

CP_API const char *cp_cause_text(enum cp_cause cause);
CP_API const char *cp_cause_meaning(enum cp_cause cause);

/** How a stream closed for this cause should look to its peer: CP_CAUSE_DONE ends in order, everything else is a reset
 * (so that a cut answer never looks complete). */
static inline bool cp_cause_is_reset(enum cp_cause cause)
{
	return cause != CP_CAUSE_DONE;
}

CP_END_DECLS
#endif
