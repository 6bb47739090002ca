/** `zmq:TYPE:ENDPOINT`: ZeroMQ sockets as message streams. See README.md for what users see.
 *
 *     zmq.c          addresses, connecting, the system
 *     zmq_stream.c   a socket as a stream
 *     zmq_listen.c   a bound socket: one stream after the other
 *
 * A ZeroMQ socket is used by one thread at a time; it may go from one to another (main task, which binds; worker) as
 * long as there is a memory barrier in between, which posting between loops is. */
#ifndef EXAMPLE_ZMQ_H
#define EXAMPLE_ZMQ_H

#include <connpipe/connpipe.h>

#include <stdatomic.h>

enum { ZMQ_FIELD_TYPE, ZMQ_FIELD_TOPIC, ZMQ_FIELD_ENDPOINT, ZMQ_FIELDS };

/** A socket, kept by the stream that uses it and by the listener that it is bound for. The last one closes it. */
struct endpoint {
	void *socket;
	int type;           /* ZMQ_PUSH … */
	bool reads, writes; /* what its type can do */
	atomic_uint refs;
};

/** A socket as the address says, neither bound nor connected. @return NULL with `error` filled */
struct endpoint *endpoint_new(void *context, const struct cp_address *address, struct cp_error *error);
void endpoint_unref(struct endpoint *endpoint);
/** Fill `error` with errno's words, which may be ZeroMQ's own. @return its code */
int endpoint_error(struct cp_error *error, const char *what, const char *endpoint);
/** What it is ready for now, of CP_READABLE and CP_WRITABLE. Has to be asked after every use of the socket: its
 * descriptor (ZMQ_FD) only tells that something may have changed since it was last asked, once. */
unsigned endpoint_ready(const struct endpoint *endpoint);

/** A stream over the socket. Takes a reference. @param closed  called when the stream is gone; may be NULL */
struct cp_stream *zmq_stream_new(struct cp_loop *loop, struct cp_system *owner, struct endpoint *endpoint,
								 void (*closed)(void *arg), void *arg, struct cp_error *error);

int zmq_listen(struct cp_connector *connector, const struct cp_address *address, uint32_t workers,
			   struct cp_listener **out, struct cp_error *error);

#endif
