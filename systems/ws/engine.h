/** libwebsockets' contexts: one for each worker, used on its thread only. What is public is in ws.h. */
#ifndef SYSTEMS_WS_ENGINE_H
#define SYSTEMS_WS_ENGINE_H

#include "evlib.h"
#include "ws.h"

#include <libwebsockets.h>

struct ws_stream;

enum {
	ENGINE_READ = 65536, /* bytes of one read of an accepting side, and of the pieces that come out of it */
	ENGINE_READ_OUT =
		4096, /* of a connecting side, which libwebsockets parses byte by byte: that costs more than reads */
	ENGINE_SCRATCH = 65536, /* bytes of a message that are sent without memory of their own */
};

struct ws_engine {
	struct cp_loop *loop;
	struct evlib *evlib;
	struct lws_context *context;
	struct lws_vhost *accepting, *connecting;
	unsigned char *scratch; /* LWS_PRE + ENGINE_SCRATCH: what is being sent */
	struct ws_stream
		*opening;     /* whose connection is being handed to libwebsockets, which calls back about it at once */
	int listener;     /* see engine_listen(); -1: none */
	char address[16]; /* libwebsockets' word for it */
	uint32_t users;
};

/** The protocols of libwebsockets, by name: the callbacks are the same. */
#define ENGINE_ACCEPTING "connpipe-accepting"
#define ENGINE_CONNECTING "connpipe-connecting"

/** The worker's engine. NULL: ws_engines_start() was not called. */
struct ws_engine *engine_of(const struct cp_loop *loop);
/** Of a connection. In any callback. */
struct ws_engine *engine_of_wsi(struct lws *wsi);
/** The descriptor, or another one for the same in its place: libwebsockets only takes numbers below a bound.
 * @return CP_EMFILE with `error` filled: there is none, and `fd` is still open */
int engine_lower(int fd, struct cp_error *error);
/** Whether the next descriptor that is made will be one that libwebsockets takes. @param fd  any that is open */
int engine_check_free(int fd, struct cp_error *error);
/** Make a socket that libwebsockets is to connect to, at engine->address: until engine_unlisten(), soon.
 * @return CP_OK, or an error with `error` filled: there is none */
int engine_listen(struct ws_engine *engine, struct cp_error *error);
void engine_unlisten(struct ws_engine *engine);
/** Put a connected descriptor in the place of the one that libwebsockets has just connected to engine->address, and
 * take what it has sent there. `fd` stays open besides.
 * @param sent  `room` bytes, with a 0 behind what came  @return CP_OK or an error; CP_AGAIN: it is not connected */
int engine_replace(struct ws_engine *engine, struct lws *wsi, int fd, char *sent, size_t room);

/** What libwebsockets calls back with, for all its connections (stream.c). */
int stream_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t length);

#endif
