/** Opening: the making of one stream, now or later: by a connector that connects, or by a converter that wraps.
 *
 * Who wants a stream fills a `struct cp_open` and starts it; who makes it answers at once or by `cp_open_done()`. */
#ifndef CONNPIPE_OPEN_H
#define CONNPIPE_OPEN_H

#include <connpipe/address.h>
#include <connpipe/error.h>
#include <connpipe/stream.h>

CP_BEGIN_DECLS

struct cp_request;
struct cp_open;

typedef void cp_open_finished(struct cp_open *open);

struct cp_open {
	/* Set by who asks; stay as they are until the opening has ended: */
	struct cp_loop *loop;
	const struct cp_address *address; /**< whole: connecting to it, or accepted on it */
	struct cp_request *request;       /**< the connection this is for: facts to read and to add; may be NULL */
	uint64_t timeout_ms;              /**< 0: none. Connectors keep it, for each attempt (a name may have several
										 addresses). For converters it is the time that all layers have together; who
										 asks keeps it, and cancels. */
	struct cp_stream *lower;          /**< converters: the stream to wrap. Theirs from the start; closed by them if they
										 fail or are cancelled. Connectors: NULL. */
	const char *argument;             /**< converters: the argument in the address, or NULL */
	const struct iovec *early;        /**< bytes that the caller will write first and that may be sent together with
										 the opening (a segment saved); may be NULL, and is for all but the maker of the
										 topmost stream. The vectors and bytes may be others after CP_AGAIN, of the same
										 content: read them here at each use. */
	int early_count;
	cp_open_finished *finished; /**< called once if start returned CP_AGAIN, from the loop */
	void *arg;                  /**< the caller's */

	/* Set by who makes the stream: */
	struct cp_stream *stream; /**< the result: belongs to who asked */
	size_t early_sent;        /**< how much of `early` was accepted by the stream */
	struct cp_error error;    /**< if it failed: code and words */
	void *state;              /**< the maker's, while it is under way */
};

/** For makers: end an opening that returned CP_AGAIN, with `stream` set or with `error` filled (code not CP_OK).
 * Called from the loop (a ready, a timer), never from inside start or cancel. `open` may be gone afterwards. */
static inline void cp_open_done(struct cp_open *open)
{
	open->finished(open);
}

/* ---- A whole opening: for systems that connect by themselves ------------------------------------------------ */

struct cp_connect;

/** The end of an opening that answered CP_AGAIN. @param stream  the caller's from now on; NULL: `error` says why */
typedef void cp_connect_done(struct cp_stream *stream, const struct cp_error *error, void *arg);

/** Connect to an address as a pipe does: the connector first, then the converters from the wire upwards; for a subport
 * its preamble is sent.
 * @param address  lives until the opening has ended
 * @param request  the connection this is for, or NULL
 * @param timeout_ms  for each attempt; 0: none
 * @param connect  set with CP_AGAIN: what can be cancelled until `done` is called
 * @param stream   set with CP_OK
 * @return CP_OK; CP_AGAIN: `done` is called once, from the loop; else `error` is filled. Thread: the loop's own. */
CP_API int cp_connect_start(struct cp_loop *loop, const struct cp_address *address, struct cp_request *request,
							uint64_t timeout_ms, cp_connect_done *done, void *arg, struct cp_connect **connect,
							struct cp_stream **stream, struct cp_error *error);

/** Give up one that answered CP_AGAIN: `done` is not called any more. */
CP_API void cp_connect_cancel(struct cp_connect *connect);

CP_END_DECLS
#endif
